"""`mslab pack`: a run, or several, as a submission, looked at with the grader's own eyes before it is handed in."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mslab.data.zips import write_zip
from mslab.errors import ConfigError, MslabError, RunError
from mslab.grade import items, measuring
from mslab.grade.grading import job_of
from mslab.grade.loading import given_file, load_rubric
from mslab.grade.records import Outcome
from mslab.grade.rubric import Rubric
from mslab.runs.folder import RunFolder

TAKEN = ("config.yaml", "manifest.json", "history.csv", "eval.json", "checkpoints/best.ckpt")  # of a run
HERE = ("files", "config", "provenance", "size")  # kinds of items that need no hidden image


def pack(runs: Sequence[str], out: str | Path, more: Sequence[str] = ()) -> Path:
    """Write a zip of runs, RUN or NAME=RUN (its files go to NAME/), and of other files. Returns its path.

    Raises RunError where a run has no best.ckpt yet, MslabError where two files have one name or the target is there.
    """
    out = Path(out)
    if out.exists():
        raise MslabError(f"There is {out} already.", expected="a new file", fix="--out with another name")
    members: dict[str, Path] = {}
    for text in runs:
        name, _, path = text.rpartition("=")
        run = RunFolder.read(path)
        if not (run.checkpoints / "best.ckpt").is_file():
            raise RunError(
                f"{run.path} has no checkpoints/best.ckpt.",
                expected="a run in which at least one epoch was measured",
                fix=f"mslab train --resume {run.path}",
            )
        for file in (run.path / inside for inside in TAKEN):
            if file.is_file():
                add(members, f"{name}/{file.name}" if name else file.name, file)
    for text in more:
        name, _, path = text.rpartition("=")
        if not Path(path).is_file():
            raise MslabError(f"There is no file {path}.", expected="a file to hand in", fix="correct the path")
        add(members, name or Path(path).name, Path(path))
    write_zip(out, members)
    return out


def add(members: dict[str, Path], name: str, path: Path) -> None:
    if name in members:
        raise MslabError(
            f"{name} would be there twice: {members[name]} and {path}.",
            expected="one file of each name",
            fix="give each run a folder of its own: nine=RUN two=RUN",
        )
    members[name] = path


def preview(
    submission: Path, rubric_file: str | Path, public: bool = False
) -> tuple[Rubric, dict[str, Outcome | None]]:
    """What the grader finds without the hidden images: (rubric, outcome of each item, None where those are needed).

    `public`: the rubric's public items alone. Raises ConfigError where the rubric has mistakes.
    """
    rubric = load_rubric(rubric_file)
    wanted = [item for item in rubric.items if item.public or not public]
    if not wanted:
        raise ConfigError(
            f"{rubric_file} has no public item.", expected="an item with public: true", fix="leave --public out"
        )
    job = job_of(rubric, given_file(rubric, rubric_file))
    with tempfile.TemporaryDirectory(prefix="mslab-pack-") as place:
        own = job | {"source": str(submission.resolve()), "folder": str(Path(place) / "work")}
        measured = measuring.measure(own, {})
    here = rubric.model_copy(update={"items": [item for item in wanted if item.kind in (*HERE, "manual")]})
    found = items.score(here, measured, {})
    return rubric, {item.id: found.get(item.id) for item in wanted}


def table(rubric: Rubric, outcomes: Mapping[str, Outcome | None]) -> str:
    """A line an item, what is missing below it."""
    lines = []
    by_id: dict[str, Any] = {item.id: item for item in rubric.items}
    signs = {"full": "✓", "part": "~", "none": "✗", "manual": "…"}
    for name, outcome in outcomes.items():
        item = by_id[name]
        title = item.title or name
        if outcome is None:
            lines.append(f"… {title}: measured on images that only the teacher has ({item.points:g} points)")
            continue
        worth = f"{item.points:g} points" if outcome.status == "manual" else f"{outcome.points:g} of {item.points:g}"
        lines.append(f"{signs[outcome.status]} {title} ({worth}): {outcome.said}")
        lines += [f"    fix  {outcome.fix}"] * bool(outcome.fix)
    return "\n".join(lines)
