"""A check's report in words: one line, a few lines, all of it, a notebook's table, the rows of an error."""

import html
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from mslab.check.records import SEVERITIES, Finding, printable

SHOWN = 5  # findings of one code that a message lists
TABLED = 100  # findings that a notebook's table lists


class Findings(Protocol):
    """What is told of a DatasetReport."""

    root: Path
    findings: list[Finding]
    complete: bool

    @property
    def counts(self) -> dict[str, dict[str, int]]: ...
    @property
    def images(self) -> int: ...
    @property
    def class_names(self) -> list[str]: ...


def by_code(findings: list[Finding]) -> Iterator[tuple[str, str, list[Finding]]]:
    """(severity, code, its findings), errors first."""
    for severity in SEVERITIES:
        for code in dict.fromkeys(finding.code for finding in findings if finding.severity == severity):
            yield severity, code, [f for f in findings if (f.code, f.severity) == (code, severity)]


def summary(report: Findings) -> str:
    """ "2 errors (stray-folder, format), 1 warning", or "nothing found"."""
    parts = []
    for severity in SEVERITIES:
        codes = [finding.code for finding in report.findings if finding.severity == severity]
        if codes:
            word = severity if severity == "info" or len(codes) == 1 else severity + "s"
            parts.append(f"{len(codes)} {word} ({', '.join(dict.fromkeys(codes))})")
    text = ", ".join(parts) or "nothing found"
    return text if report.complete else f"stopped before all images were seen; so far: {text}"


def brief(report: Findings) -> str:
    """What is there and what was found, in a few lines."""
    where = f"; mslab check {shlex.quote(str(report.root))} lists them" if report.findings else ""
    return "\n".join([*_contents(report), f"data check: {summary(report)}{where}"])


def _contents(report: Findings) -> list[str]:
    lines = [f"{printable(str(report.root))}: {report.images} images, {len(report.class_names)} classes"]
    for name, split in report.counts.items():
        numbers = ", ".join(f"{printable(c)} {n}" for c, n in split.items())
        lines.append(f"  {name or 'images':<6} {sum(split.values()):>6}  {numbers}")
    return lines


def full(report: Findings) -> str:
    """What is there and the first findings of each code, with their fixes."""
    lines = _contents(report)
    for severity, code, same in by_code(report.findings):
        lines += ["", f"{severity}  {code}  ({len(same)})"]
        lines += [f"    {finding.path}  {finding.message}" for finding in same[:SHOWN]]
        lines += [f"    … and {len(same) - SHOWN} more"] * (len(same) > SHOWN)
        fixes = list(dict.fromkeys(finding.fix for finding in same))
        lines += [f"    fix  {fix}" for fix in fixes[:2]] + ["    fix  …"] * (len(fixes) > 2)
    return "\n".join([*lines, "", summary(report)])


def table(report: Findings) -> str:
    """A notebook's table of the findings, in HTML."""
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in finding.to_dict().values()) + "</tr>"
        for finding in report.findings[:TABLED]
    )
    more = f"<p>… and {len(report.findings) - TABLED} more</p>" if len(report.findings) > TABLED else ""
    head = "".join(f"<th>{name}</th>" for name in ("code", "severity", "path", "message", "fix"))
    sizes = ", ".join(f"{name or 'images'} {sum(row.values())}" for name, row in report.counts.items())
    title = f"{printable(str(report.root))}: {len(report.class_names)} classes, {sizes}; {summary(report)}"
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}" if rows else ""
    return f"<p>{html.escape(title)}</p>{table}"


def rows(errors: list[Finding]) -> list[tuple[str, str]]:
    """(code, path and message), the first few of each code and a count of the rest."""
    rows = []
    for _, code, same in by_code(errors):
        rows += [(code, f"{finding.path} {finding.message}") for finding in same[:SHOWN]]
        if len(same) > SHOWN:
            rows.append((code, f"… and {len(same) - SHOWN} more"))
    return rows
