"""`mslab check --html`: the findings with thumbnails in one self-contained file. Every name in it is escaped."""

from pathlib import Path
from typing import Any

from jinja2 import Environment

from mslab.check.pool import ask
from mslab.check.records import printable
from mslab.check.report import DatasetReport, by_code, say
from mslab.config import language
from mslab.escaping import escape_control

MAX_ROWS = 24  # findings listed per code; a thumbnail has about 3 kB


def page(report: DatasetReport) -> str:
    """The page's HTML."""
    groups: list[dict[str, Any]] = []
    for severity, code, same in by_code(report.findings):
        rows = [{"path": f.path, "message": f.message, "image": image_path(report, f.path)} for f in same[:MAX_ROWS]]
        fixes = list(dict.fromkeys(finding.fix for finding in same))[:3]
        group: dict[str, Any] = {"severity": severity, "code": code, "count": len(same), "rows": rows, "fixes": fixes}
        groups.append(group | {"more": len(same) - len(rows)})
    illustrated = [row for group in groups for row in group["rows"] if row["image"]]
    for index, answer in ask("preview", [row["image"] for row in illustrated]):
        illustrated[index]["jpeg"] = answer.get("jpeg", "")
    for group in groups:
        group["pictured"] = any(row.get("jpeg") for row in group["rows"])
    lang = {"zh": "zh-Hans"}.get(language.current(), "en")
    template = Environment(autoescape=True).from_string(Path(__file__).with_name("page.html").read_text("utf-8"))
    text = template.render(
        report=report, root=printable(str(report.root)), groups=groups, printable=printable, say=say, lang=lang
    )
    return escape_control(text)


def image_path(report: DatasetReport, path: str) -> Path | None:
    """The image file that a finding is about, or None."""
    image = report.base / path
    return image if not path.endswith("/") and image.is_file() else None
