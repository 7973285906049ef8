"""`mslab report`: one HTML file that shows what runs learned and where they fail, without scripts or network requests.

single.py: one run, validation.py: its images; several.py: runs compared; charts.py: charts; translation.py: Chinese.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from mslab.checkpoint import networks
from mslab.config import language
from mslab.config.language import translated
from mslab.config.paths import nearest
from mslab.config.tasks import CLASSIFY
from mslab.errors import ConfigError, MslabError, RunError
from mslab.escaping import command, escape_control, quoted
from mslab.evaluation import engines
from mslab.files import kind_of, make_folder, read_text, write_text
from mslab.report import charts, several, single
from mslab.report.translation import translator
from mslab.runs import finding, lock
from mslab.runs.folder import RunFolder
from mslab.runs.results import changed, read_evaluation
from mslab.runtime import targets, turns
from mslab.runtime.console import log
from mslab.runtime.tables import one_line
from mslab.training.zh import WARNINGS

PARTS = {  # of a page's JSON
    "history": "the learning curves",
    "eval": "the figures of the validation images",
    "predictions": "what the images show",
}


@turns.alone("a report")
def write_report(
    runs: Sequence[str | Path],
    out: str | Path | None = None,
    lang: str = "",
    device: str = "auto",
    engine: str = "",
    precision: str = "",
) -> Path:
    """Write the page of one run or of several runs. Returns its path.

    `out`: default RUN/report.html for one run, report.html for several; `lang`: en or zh, by default the user's;
    `engine` and `precision`: by default those of the run's settings. Raises RunError if a folder is not a run,
    ConfigError or DeviceError for an engine that cannot run, MslabError if the page cannot be written. Of several runs,
    those that cannot be read are left out; a RunError names them after the page is written.
    """
    engines.refuse(engine or "auto", (precision if engine else "") or "fp32", device)
    given = finding.expanded(runs)
    is_single = len(given) == 1
    folders, left_out = ([RunFolder.read(given[0])], []) if is_single else readable(given)
    settings = folders[0].settings
    if is_single and (engine or precision) and settings.task == CLASSIFY:  # else a page without the network's sections
        engines.choose(engine or settings.engine, precision or "fp32", network=networks.of_settings(settings))
    if is_single and engine not in ("", "auto", "mindspore"):
        refuse_engine(folders[0], engine)
    if not is_single:
        several.refuse_mixed(folders)
    target = Path(out) if out else (folders[0].path / "report.html" if is_single else Path("report.html"))
    lang = lang or language.current()
    t = translator(lang)
    targets.refuse_file(target, option="--out")  # before the network is measured
    for run in folders:
        for change in changed(run.path, run.manifest):
            log.info(f"note: {run.path}: {change}; {command('verify', run.path)}    compares its files")
    with lock.held_around({"--out": target}):
        make_folder(target.parent)
        facts = single.facts(folders[0], t, device, engine, precision) if is_single else several.facts(folders, t)
        for note in facts.get("unfair", []):
            log.info(f"note: {note}")
        if is_single and (lacks := lost(target, facts["embedded"])):
            raise RunError(
                f"{target} stays as it is: a page written now would lack {' and '.join(lacks)}.",
                details=[("note", note) for note in facts["notes"]],
                expected="the files of the run, and its images, as it left them",
                fix=f"restore them; or {command('report', folders[0].path, '--out', 'FILE.html')}    writes that page",
            )
        write_text(target, render("run.html" if is_single else "several.html", facts, lang))
    if left_out:
        raise RunError(
            f"{target} lacks {len(left_out)} of {len(given)} runs; it is written, and compares the others.",
            details=left_out,
            expected="run folders, as mslab train leaves them",
            fix="restore the files, or leave these out",
        )
    return target


def refuse_engine(run: RunFolder, engine: str) -> None:
    """Raise ConfigError for an engine that cannot run the run's network."""
    if run.settings.task != CLASSIFY:
        raise ConfigError(
            f"engine: {engine} runs networks of classes; {run.path} is of task: {run.settings.task}.",
            expected="engine: auto or mindspore",
            fix="leave out --engine and --precision",
        )


def lost(page: Path, figures: str) -> list[str]:
    """What the page at this path shows of a run and a new one, with these figures as JSON, would not."""
    try:
        found = re.search(r'<script type="application/json" id="mslab">(.*?)</script>', read_text(page), re.DOTALL)
        old, new = (json.loads(text)["runs"][0] for text in (found[1] if found else "", figures))
        if old["manifest"]["start"] != new["manifest"]["start"]:  # of another run
            return []
        return [text for name, text in PARTS.items() if old.get(name) and not new.get(name)]
    except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError):  # no such page yet
        return []


def readable(paths: Sequence[str | Path]) -> tuple[list[RunFolder], list[tuple[str, str]]]:
    """(the runs that can be compared, path and reason of each other one). Raises RunError if none can be."""
    folders, left_out = [], []
    for path in paths:
        try:
            run = RunFolder.read(path)
            read_evaluation(run.path, run.manifest["class_names"], run.settings.task)
            folders.append(run)
        except MslabError as error:
            left_out.append((one_line(path), reason(error, Path(path))))
    if not folders:
        raise RunError(
            f"None of {len(paths)} folders is a run that can be read.",
            details=left_out,
            expected="run folders, as mslab train leaves them",
            fix=finding.one_of_the_runs(),
        )
    return folders, left_out


def reason(error: MslabError, path: Path) -> str:
    """Why a run is left out, in one line, with the run that may have been meant if there is nothing at the path."""
    # -> "runs/a/eval.json cannot be read: it is empty", "There is no folder runs/b (looked in /home/me)"
    text = error.what
    for label, detail in error.details[:1]:
        text = text.rstrip(".") + (f": {detail}" if label == "problem" else f" ({label}: {detail})")
    near = [] if kind_of(path, links=True) else nearest(path, finding.A_RUN.fits, 1)
    return text + "".join(f"; {quoted(other)} is there" for other in near)


def render(template: str, facts: Mapping[str, Any], lang: str) -> str:
    """Render a page. Everything in `facts` but charts is escaped, and control characters are, wherever they are."""
    environment = Environment(autoescape=True, loader=FileSystemLoader(Path(__file__).parent))
    environment.globals |= {
        "t": translator(lang),
        "short": lambda text, length=48: one_line(text, length),
        "sample": charts.sample,
        "marker": charts.marker,
        "warned": lambda warning: translated(warning["text"], WARNINGS.get(warning["code"], {}), lang=lang),
        "shown": lambda finding: finding.shown(lang),
        "figure": lambda value: f"{value:.4g}" if isinstance(value, float) else value,
    }
    page = environment.get_template(template).render(facts, lang={"zh": "zh-Hans"}.get(lang, lang))
    return escape_control(page)
