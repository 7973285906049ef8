"""Diagnosis of this machine: gather facts, time a small training step, apply the rules.

`ok` is about the device that `device: auto` chooses: false if training on it would fail or crawl.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from rich.text import Text

from mslab.doctor.facts import MachineFacts, gather
from mslab.doctor.rules import Verdict, judge
from mslab.doctor.timing import time_training
from mslab.runtime import importing
from mslab.runtime.tables import empty_table, render


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
        grid = empty_table("mslab doctor", ("", "", ""))
        grid.show_header = False
        for finding in self.findings:
            parts = (("expected", finding.expected), ("fix", finding.fix))
            rows = [finding.text, *(f"{label:<8}  {text}" for label, text in parts if text)]
            level = "" if finding.level == "ok" else finding.level
            grid.add_row(level, finding.name, Text("\n".join(rows)))  # Text: no markup
        counts = {level: sum(f.level == level for f in self.findings) for level in ("error", "warning")}
        summary = ", ".join(f"{count} {level}{'s' * (count > 1)}" for level, count in counts.items() if count)
        verdict = f"training works here, on the {self.facts.device}" if self.ok else "training would fail or crawl here"
        return f"{render(grid)}\n{verdict}{f' ({summary})' if summary else ''}"


def diagnose(log: Callable[[str], None] = lambda text: None) -> Diagnosis:
    """Gather all facts. Training is timed only if no other rule reports an error."""
    log("inspecting the machine, then timing a convolution and a small training step")
    facts = gather()
    if facts.mindspore:
        facts.import_problem = importing.import_problem()
    if Diagnosis(facts, judge(facts)).ok:
        facts.speed, facts.trouble = time_training(facts.device)
    return Diagnosis(facts, judge(facts))
