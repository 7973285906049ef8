"""`mslab report`: what runs learned and where they fail, one HTML file without a script or a request.

single.py: one run, validation.py: its images; several.py: runs side by side; charts.py: pictures; translation.py: Chinese.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from mslab.checkpoint import make_folder, write_text
from mslab.report import charts, several, single
from mslab.report.translation import translator
from mslab.runs.folder import RunFolder
from mslab.runtime.tables import shown


def write_report(
    runs: Sequence[str | Path], out: str | Path | None = None, lang: str = "en", device: str = "auto"
) -> Path:
    """Write the page of one run (into its folder where `out` is None) or of several (report.html). Returns its path.

    `lang`: en or zh. Raises RunError where a folder is none of a run's, MslabError where the page cannot be written.
    """
    opened = [RunFolder.read(path) for path in runs]
    one = len(opened) == 1
    target = Path(out) if out else (opened[0].path / "report.html" if one else Path("report.html"))
    t = translator(lang)
    make_folder(target.parent)
    facts = single.facts(opened[0], t, device) if one else several.facts(opened, t)
    write_text(target, render("run.html" if one else "several.html", facts, lang))
    return target


def render(template: str, facts: Mapping[str, Any], lang: str) -> str:
    """The page. Everything in `facts` is escaped, but for charts; names are cut and lose their control characters."""
    environment = Environment(autoescape=True, loader=FileSystemLoader(Path(__file__).parent))
    environment.globals |= {
        "t": translator(lang),
        "short": lambda text, most=48: shown(text, most),
        "sample": charts.sample,
        "marker": charts.marker,
        "figure": lambda value: f"{value:.4g}" if isinstance(value, float) else value,
    }
    return environment.get_template(template).render(facts, lang={"zh": "zh-Hans"}.get(lang, lang))
