"""`mslab pack`: make a submission from one or more runs, and check it as the grader will."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mslab.config import paths
from mslab.data.zips import Member, write_zip
from mslab.errors import ConfigError, MslabError, RunError
from mslab.files import Below, kind_of
from mslab.grade import items, measuring
from mslab.grade.grading import job_of
from mslab.grade.loading import given_file, load_rubric
from mslab.grade.records import Outcome
from mslab.grade.rubric import Rubric
from mslab.runs import lock, manifest
from mslab.runs.folder import RunFolder

RUN_FILES = ("config.yaml", "manifest.json", "history.csv", "eval.json", "checkpoints/best.ckpt")
UPLOADS = {"e-mail": 20, "Moodle": 20, "Gradescope": 100, "GitHub": 100, "Canvas": 500}  # MB, as they come
LOCAL_KINDS = ("files", "config", "provenance", "size")  # kinds of items that need no hidden images


def pack(runs: Sequence[str], out: str | Path, more: Sequence[str] = (), half: bool = False) -> Path:
    """Write a zip of runs, RUN or NAME=RUN (its files go to NAME/), and of other files. Returns its path.

    `half`: weights as float16, and a backbone that runs share only once.

    Raises RunError if a run has no best.ckpt yet, MslabError if two files have the same name or the target exists.
    """
    out = Path(out)
    if out.exists():
        raise MslabError(f"{out} already exists.", expected="a new file", fix="choose another name for --out")
    members: dict[str, Member] = {}
    by_name: dict[str, RunFolder] = {}
    for text in runs:
        name, _, path = text.rpartition("=")
        run = RunFolder.read(path)
        if manifest.is_pack(run.path):
            raise RunError(
                f"{run.path} is no run: it was unpacked from a submission.",
                expected="a run folder under runs/",
                fix="hand in that submission itself, or pack the runs that it was made from",
            )
        if not (run.checkpoints / "best.ckpt").is_file():
            raise RunError(
                f"{run.path} has no checkpoints/best.ckpt.",
                expected="a run that has measured at least one epoch",
                fix=lock.go_on(run.path),
            )
        by_name[name] = run
        for file in run.own_files(RUN_FILES).values():
            base = Path(file.name).name
            add(members, f"{name}/{base}" if name else base, file)
    for text in more:
        name, _, path = text.rpartition("=")
        given = paths.path_of(path, MslabError, "a file to hand in", lambda: "--add FILE, or --add NAME=FILE")
        kind = kind_of(given, links=True)
        if kind and kind != "a file":
            fix = "add its files one by one, each with --add" if kind == "a folder" else "correct the path"
            raise MslabError(f"{given} is {kind}, and not a file.", expected="a file to hand in", fix=fix)
        if not kind:
            wanted = paths.Wanted("file", "a file to hand in", lambda other: kind_of(other, links=True) == "a file")
            raise paths.missing(given, MslabError, wanted, "correct the path")
        add(members, name or given.name, given.resolve())  # the user's own choice, so a link is followed
    if half:
        from mslab.grade import halving  # it measures, so it imports MindSpore

        members |= halving.members(by_name)
    write_zip(out, members)
    return out


def limits_text(size: int) -> str:
    """Which platforms take a file of this size as they come; a site can set other limits. "" if all do."""
    # limits_text(45_000_000) -> "more than e-mail (20 MB) and Moodle (20 MB) usually take; Gradescope (100 MB) …"
    named = {most: [f"{name} ({most} MB)" for name, at in UPLOADS.items() if at == most] for most in UPLOADS.values()}
    refuse = [name for most, names in named.items() if size > most * 10**6 for name in names]
    take = [name for most, names in named.items() if size <= most * 10**6 for name in names]
    if not refuse:
        return ""
    rest = f"; {', '.join(take)} take it" if take else ""
    return f"more than {', '.join(refuse)} usually take{rest}"


def add(members: dict[str, Member], name: str, path: Path | Below) -> None:
    if name in members:
        raise MslabError(
            f"{name} would be in the zip twice: {members[name]!s} and {path}.",
            expected="each name once",
            fix="give each run its own folder: nine=RUN two=RUN",
        )
    members[name] = path


def preview(
    submission: Path, rubric_file: str | Path, public: bool = False
) -> tuple[Rubric, dict[str, Outcome | None]]:
    """Grade without the hidden images: (rubric, outcome of each item, None if it needs those images).

    `public`: score only the rubric's public items. Raises ConfigError if the rubric has mistakes.
    """
    rubric = load_rubric(rubric_file)
    checked_items = [item for item in rubric.items if item.public or not public]
    if not checked_items:
        raise ConfigError(
            f"{rubric_file} has no public item.", expected="an item with public: true", fix="leave out --public"
        )
    job = job_of(rubric, given_file(rubric, rubric_file))
    with tempfile.TemporaryDirectory(prefix="mslab-pack-") as temporary:
        own_job = job | {"source": str(submission.resolve()), "folder": str(Path(temporary) / "work")}
        measurement = measuring.measure(own_job, {})
    local_rubric = rubric.model_copy(
        update={"items": [item for item in checked_items if item.kind in (*LOCAL_KINDS, "manual")]}
    )
    outcomes = items.score(local_rubric, measurement, {})
    return rubric, {item.id: outcomes.get(item.id) for item in checked_items}


def table(rubric: Rubric, outcomes: Mapping[str, Outcome | None]) -> str:
    """One line per item; below it, how to fix what is missing."""
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
