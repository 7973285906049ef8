"""Diagnosis of this machine: gather facts, time a small training step, apply the rules.

`ok` is about the device that `device: auto` chooses: false if training on it would fail or crawl.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from rich.cells import cell_len

from mslab.config.language import translated
from mslab.doctor import zh
from mslab.doctor.facts import MachineFacts, gather
from mslab.doctor.rules import Verdict, judge
from mslab.doctor.timing import time_training
from mslab.runtime import importing
from mslab.runtime.tables import fold, pad, terminal_width

NARROW = 30  # columns, below which text does not stand beside a name


@dataclass
class Diagnosis:
    facts: MachineFacts
    findings: list[Verdict]

    @property
    def ok(self) -> bool:
        return not any(finding.level == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        findings = [asdict(finding) for finding in self.findings]
        return {"schema": 1, "ok": self.ok, "findings": findings, "facts": asdict(self.facts)}

    def __str__(self) -> str:
        names = max(len(finding.name) for finding in self.findings)
        lines = ["mslab doctor", ""]
        for finding in (finding.shown() for finding in self.findings):
            level = "" if finding.level == "ok" else translated(finding.level, zh.FRAME)
            head = f"{pad(level, 7, left=True)}  {finding.name:<{names}}  "
            lines += beside(head, finding.text)
            lines += beside(" " * cell_len(head), f"expected  {finding.expected}") if finding.expected else []
            lines += [f"{'':{cell_len(head)}}fix       {finding.fix}"] if finding.fix else []  # a command stays whole
        counts = {level: sum(f.level == level for f in self.findings) for level in ("error", "warning")}
        summary = ", ".join(f"{count} {level}{'s' * (count > 1)}" for level, count in counts.items() if count)
        verdict = f"training works here, on the {self.facts.device}" if self.ok else "training would fail or crawl here"
        last = translated(f"{verdict}{f' ({summary})' if summary else ''}", zh.FRAME)
        return "\n".join([*lines, "", last])


def beside(head: str, text: str) -> list[str]:
    """Lines with `head` before the first; on a terminal each fits, and where that is narrow the text begins below."""
    width, indent = terminal_width(), cell_len(head)
    if not width or width - indent >= NARROW:
        first, *rest = fold(text, width and width - indent).splitlines()
        return [f"{head}{first}", *(f"{'':{indent}}{line}" for line in rest)]
    return [
        *[" ".join(head.split())] * bool(head.strip()),
        *(f"  {line}" for line in fold(text, width - 2).splitlines()),
    ]


def diagnose(log: Callable[[str], None] = lambda text: None) -> Diagnosis:
    """Gather all facts. Training is timed only if no other rule reports an error."""
    log(translated("inspecting the machine, then timing a convolution and a small training step", zh.FRAME))
    facts = gather()
    if facts.mindspore:
        facts.import_problem = importing.import_problem()
    if Diagnosis(facts, judge(facts)).ok:
        facts.speed, facts.trouble = time_training(facts.device)
    return Diagnosis(facts, judge(facts))
