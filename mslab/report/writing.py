"""`mslab report`: one HTML file that shows what runs learned and where they fail, without scripts or network requests.

single.py: one run, validation.py: its images; several.py: runs compared; charts.py: charts; translation.py: Chinese.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from mslab.errors import MslabError, RunError
from mslab.escaping import command, escape_control
from mslab.files import make_folder, write_text
from mslab.report import charts, several, single
from mslab.report.translation import translator
from mslab.runs import finding, lock
from mslab.runs.folder import RunFolder
from mslab.runs.results import changed, read_evaluation
from mslab.runtime import targets, turns
from mslab.runtime.console import log
from mslab.runtime.tables import one_line


@turns.alone("a report")
def write_report(
    runs: Sequence[str | Path], out: str | Path | None = None, lang: str = "en", device: str = "auto"
) -> Path:
    """Write the page of one run or of several runs. Returns its path.

    `out`: default RUN/report.html for one run, report.html for several; `lang`: en or zh. Raises RunError if a folder
    is not a run, MslabError if the page cannot be written. Of several runs, those that cannot be read are left out; a
    RunError names them after the page is written.
    """
    given = finding.expanded(runs)
    is_single = len(given) == 1
    folders, left_out = ([RunFolder.read(given[0])], []) if is_single else readable(given)
    target = Path(out) if out else (folders[0].path / "report.html" if is_single else Path("report.html"))
    t = translator(lang)
    targets.refuse_file(target, option="--out")  # before the network is measured
    for run in folders:
        for change in changed(run.path, run.manifest):
            log.info(f"note: {run.path}: {change}; {command('verify', run.path)}    compares its files")
    with lock.held_around({"--out": target}):
        make_folder(target.parent)
        facts = single.facts(folders[0], t, device) if is_single else several.facts(folders, t)
        for note in facts.get("unfair", []):
            log.info(f"note: {note}")
        write_text(target, render("run.html" if is_single else "several.html", facts, lang))
    if left_out:
        raise RunError(
            f"{target} lacks {len(left_out)} of {len(given)} runs; it is written, and compares the others.",
            details=left_out,
            expected="run folders, as mslab train leaves them",
            fix="restore the files, or leave these out",
        )
    return target


def readable(paths: Sequence[str | Path]) -> tuple[list[RunFolder], list[tuple[str, str]]]:
    """(the runs that can be compared, path and reason of each other one). Raises RunError if none can be."""
    folders, left_out = [], []
    for path in paths:
        try:
            run = RunFolder.read(path)
            read_evaluation(run.path, run.manifest["class_names"])
            folders.append(run)
        except MslabError as error:
            reasons = [text for _, text in error.details[:1]]
            left_out.append((one_line(path), " ".join([error.what, *reasons])))
    if not folders:
        raise RunError(
            f"None of {len(paths)} folders is a run that can be read.",
            details=left_out,
            expected="run folders, as mslab train leaves them",
            fix=finding.one_of_the_runs(),
        )
    return folders, left_out


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
