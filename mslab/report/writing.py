"""`mslab report`: one HTML file that shows what runs learned and where they fail, without scripts or network requests.

single.py: one run, validation.py: its images; several.py: runs compared; charts.py: charts; translation.py: Chinese.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from mslab.escaping import escape_control
from mslab.files import make_folder, write_text
from mslab.report import charts, several, single
from mslab.report.translation import translator
from mslab.runs import finding
from mslab.runs.folder import RunFolder
from mslab.runtime.tables import one_line


def write_report(
    runs: Sequence[str | Path], out: str | Path | None = None, lang: str = "en", device: str = "auto"
) -> Path:
    """Write the page of one run or of several runs. Returns its path.

    `out`: default RUN/report.html for one run, report.html for several; `lang`: en or zh. Raises RunError if a folder
    is not a run, MslabError if the page cannot be written.
    """
    folders = [RunFolder.read(path) for path in finding.find_runs(runs)]
    is_single = len(folders) == 1
    target = Path(out) if out else (folders[0].path / "report.html" if is_single else Path("report.html"))
    t = translator(lang)
    make_folder(target.parent)
    facts = single.facts(folders[0], t, device) if is_single else several.facts(folders, t)
    write_text(target, render("run.html" if is_single else "several.html", facts, lang))
    return target


def render(template: str, facts: Mapping[str, Any], lang: str) -> str:
    """Render a page. Everything in `facts` but charts is escaped, and control characters are, wherever they are."""
    environment = Environment(autoescape=True, loader=FileSystemLoader(Path(__file__).parent))
    environment.globals |= {
        "t": translator(lang),
        "short": lambda text, length=48: one_line(text, length),
        "sample": charts.sample,
        "marker": charts.marker,
        "figure": lambda value: f"{value:.4g}" if isinstance(value, float) else value,
    }
    page = environment.get_template(template).render(facts, lang={"zh": "zh-Hans"}.get(lang, lang))
    return escape_control(page)
