"""`mslab grade`: a folder of submissions, hidden images and a rubric -> grades, feedback, and nothing else.

No line of a student's code runs, unless the rubric has `code` and the teacher says --run-code. Data goes one way:
rubric -> submissions (hashes alone) -> a worker each, in a sandbox (facts, logits) -> items (points) -> outputs
"""

import csv
import hashlib
import logging
import queue
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from mslab import checkpoint
from mslab.check.pool import usable_cores
from mslab.errors import MslabError
from mslab.evaluation import metrics
from mslab.grade import copies, items, measuring, outputs, sandbox
from mslab.grade.copies import Given, Traces
from mslab.grade.items import Hidden
from mslab.grade.loading import allow_code, given_file, hidden_sets, load_rubric
from mslab.grade.looking import sketch
from mslab.grade.measuring import HiddenImages
from mslab.grade.records import Graded, Measurement
from mslab.grade.rubric import GIVEN, PredictionsItem, ProvenanceItem, Rubric
from mslab.grade.submissions import Submission, find
from mslab.runtime import devices
from mslab.runtime.console import Meter
from mslab.runtime.tables import cell, empty_table, render, shown

log = logging.getLogger("mslab")


@dataclass
class GradeOptions:
    """How a class is graded, beyond what the rubric says."""

    jobs: int | None = None  # workers at a time; a core each
    times: Path | None = None  # CSV: id, submitted, attempt
    last_year: Path | None = None  # a folder of submissions to compare with
    moodle: bool = False
    canvas: bool = False
    limits: sandbox.Limits = field(default_factory=sandbox.Limits)
    run_code: bool = False  # students' code, where the rubric has `code`


def grade(
    folder: str | Path, rubric_file: str | Path, data: str | Path, out: str | Path, options: GradeOptions | None = None
) -> list[Graded]:
    """Grade every submission of a folder and write `out`. Returns them, by id.

    Interrupted, the next call goes on: what was measured is kept in OUT/.cache. Raises ConfigError for mistakes of the
    rubric and of the times, all at once, before a submission is opened; MslabError where there is nothing to grade.
    """
    options, out = options or GradeOptions(), Path(out)
    rubric = load_rubric(rubric_file)
    allow_code(rubric, rubric_file, options.run_code)
    reports = hidden_sets(rubric, rubric_file, data)
    times = read_times(options.times) if options.times else {}
    found = find(folder)
    if options.last_year and options.last_year.resolve() == Path(folder).resolve():
        raise MslabError(
            f"--last-year {options.last_year} is the folder that is graded.",
            expected="another folder of submissions",
            fix="leave --last-year out: this year's are compared with each other anyway",
        )
    earlier = find(options.last_year) if options.last_year else []
    if (rubric.late or rubric.attempts) and not times:
        log.info("note: no --times: nothing is taken off for lateness or attempts")
    log.info(f"{rubric.title}: {len(found)} submissions, {len(rubric.items)} items, {rubric.total:g} points")
    for each in [*found, *earlier]:
        for flag in each.flags:
            log.info(f"note: {shown(each.path.name)}: {shown(flag, 300)}")
    cache = (out / ".cache").resolve()  # workers have a current folder of their own
    cache.mkdir(parents=True, exist_ok=True)
    images = {
        name: HiddenImages(report, next(iter(report.splits)), cache / "images") for name, report in reports.items()
    }
    devices.start("cpu", "pynative", seed=0)  # for the images alone; networks run in the workers
    given = given_file(rubric, rubric_file)
    measured = measure_all(found, earlier, rubric, given, images, cache, options)
    hidden = {
        name: Hidden(each.labels, each.class_names, [Path(file).name for file in each.images.names()])
        for name, each in images.items()
    }
    graded = [graded_of(each, measured[each.path], rubric, hidden, times) for each in found]
    traces = [traces_of(each, measured[each.path], False) for each in found]
    traces += [traces_of(each, measured[each.path], True) for each in earlier]
    truth = {item.file: truth_of(hidden[item.network]) for item in rubric.items if isinstance(item, PredictionsItem)}
    pairs = copies.pairs(traces, given_of(given), truth)
    matrices = {name: confusion(name, found, measured, hidden[name]) for name in images}
    left = outputs.write_all(
        graded, rubric, pairs, out, moodle=options.moodle, canvas=options.canvas, confusion=matrices
    )
    if left:
        log.info(f"note: {len(left)} folders of an earlier grading are still in {out}/students: {', '.join(left[:5])}")
    return sorted(graded, key=lambda each: each.id)


def job_of(rubric: Rubric, given: Path | None) -> dict[str, Any]:
    """What a worker is asked for, whose submission ever it is."""
    pairs = [(item.network, item.parent) for item in rubric.items if isinstance(item, ProvenanceItem)]
    pairs += [(name, GIVEN) for name in rubric.networks] if given else []
    code = {name: network.code for name, network in rubric.networks.items() if network.code}
    return ({"code": code} if code else {}) | {
        "networks": {name: network.files for name, network in rubric.networks.items()},
        "relations": [list(pair) for pair in dict.fromkeys(pairs)],
        "given": str(given.resolve()) if given else None,
        "predictions": [item.file for item in rubric.items if isinstance(item, PredictionsItem)],
    }


def measure_all(
    found: Sequence[Submission],
    earlier: Sequence[Submission],
    rubric: Rubric,
    given: Path | None,
    images: Mapping[str, HiddenImages],
    cache: Path,
    options: GradeOptions,
) -> dict[Path, Measurement]:
    """What is found in every submission, by its path; `earlier` ones are not shown the images."""
    job, measured = job_of(rubric, given), {}
    free: queue.SimpleQueue[int] = queue.SimpleQueue()  # cores
    usable = usable_cores()
    count = options.jobs or len(usable)
    for number in range(count):
        free.put(usable[number % len(usable)])
    told: set[str] = set()

    def measure(each: Submission, shown: Mapping[str, HiddenImages]) -> Measurement:
        if each.problem:
            return measuring.dead(each.problem)
        core = free.get()
        try:
            key = measuring.key_of(each.sha256, job, shown, options.limits)
            return measuring.cached(cache, key, lambda: measure_one(each, job, shown, options.limits, core))
        finally:
            free.put(core)

    with Meter(len(found) + len(earlier)) as meter, ThreadPoolExecutor(count) as pool:
        waiting = {pool.submit(measure, each, images): each for each in found}
        waiting |= {pool.submit(measure, each, {}): each for each in earlier}
        try:
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    each = waiting.pop(future)
                    one = measured[each.path] = future.result()
                    meter.update(f"{len(measured)} of {len(found) + len(earlier)} submissions")
                    if one.problem:
                        log.info(f"{shown(each.id)}: {shown(one.problem, 300)}")  # a name is no line of its own
                    lacking = sandbox.lacking(one.facts["sandbox"])
                    if lacking and lacking not in told and not one.died:
                        told.add(lacking)
                        log.info(f"note: this machine does not let a worker be held as tightly as others: {lacking}")
        except BaseException:  # Ctrl-C: those that wait do not begin, those that run are ended
            for future in waiting:
                future.cancel()
            sandbox.end_all()
            raise
    return measured


def measure_one(
    each: Submission, job: Mapping[str, Any], images: Mapping[str, HiddenImages], limits: sandbox.Limits, core: int
) -> Measurement:
    """What a worker finds in this submission, in a folder that is deleted afterwards."""
    place = tempfile.mkdtemp(prefix="mslab-grade-")
    try:
        own = {**job, "source": str(each.path.resolve()), "folder": str(Path(place) / "work")}
        return measuring.measure(own, images, limits, core)
    except (MslabError, OSError):  # the teacher's to mend: a full disk
        raise
    except Exception as error:  # one submission does not stop a class
        return measuring.dead(f"measuring it failed ({type(error).__name__})")
    finally:
        shutil.rmtree(place, ignore_errors=True)


def truth_of(hidden: Hidden) -> dict[str, str]:
    return {file: hidden.class_names[label] for file, label in zip(hidden.files, hidden.labels, strict=True)}


def graded_of(
    each: Submission,
    measured: Measurement,
    rubric: Rubric,
    hidden: Mapping[str, Hidden],
    times: Mapping[str, "SubmissionTime"],
) -> Graded:
    """A submission with its points, deductions and flags."""
    outcomes = items.score(rubric, measured, hidden)
    flags = list(each.flags)
    if measured.died and not each.problem:
        flags.append(f"its worker gave no answer: {measured.problem}")
    if times and each.id not in times and (rubric.late or rubric.attempts):
        flags.append("the table of times does not have it: nothing is taken off for lateness or attempts")
    deductions = deductions_of(rubric, times.get(each.id))
    return Graded(each.id, each.sha256, outcomes, deductions, flags, measured.facts)


def traces_of(each: Submission, measured: Measurement, last_year: bool) -> Traces:
    return Traces(each.id, measured.facts, measured.logits, measured.sketches, last_year)


def given_of(file: Path | None) -> Given:
    """What is known of the teacher's own backbone."""
    if file is None:
        return Given()
    tensors = checkpoint.read(file).backbone
    return Given(frozenset(hashlib.sha256(value.tobytes()).hexdigest() for value in tensors.values()), sketch(tensors))


def confusion(
    name: str, found: Sequence[Submission], measured: Mapping[Path, Measurement], hidden: Hidden
) -> tuple[list[str], np.ndarray]:
    """Class names, and the confusion matrix of all submissions' networks of this name together."""
    count = len(hidden.class_names)
    total = np.zeros((count, count), int)
    for each in found:
        logits = measured[each.path].logits.get(name)
        if logits is not None and logits.shape[1] == count:
            total += metrics.confusion(hidden.labels, logits.argmax(axis=1), count)
    return hidden.class_names, total


# --- when it was handed in -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SubmissionTime:
    """When a submission was handed in, and as which attempt."""

    submitted: datetime
    attempt: int = 1


def read_times(path: Path) -> dict[str, SubmissionTime]:
    """CSV with the columns id, submitted (ISO 8601 with a zone), attempt. Raises MslabError with every mistake."""
    found: dict[str, SubmissionTime] = {}
    problems: list[tuple[str, str]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise MslabError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.",
            expected="a CSV file with the columns id, submitted, attempt",
            fix="correct the path, or leave --times out",
        ) from None
    for number, row in enumerate(rows, 2):
        try:
            when = datetime.fromisoformat(str(row["submitted"]).replace("Z", "+00:00"))
            if when.tzinfo is None:
                raise ValueError("no zone, such as +08:00")
            found[str(row["id"])] = SubmissionTime(when, int(row.get("attempt") or 1))
        except (KeyError, ValueError) as error:
            problems.append((f"line {number}", f"{row.get('id', '')!r:.60}: {error}"))
    if problems:
        raise MslabError(
            f"{path} has {len(problems)} lines that cannot be used.",
            details=problems[:20],
            expected="id, submitted as 2026-12-01T23:59:00+08:00, attempt as a whole number",
            fix="mend these lines",
        )
    return found


def deductions_of(rubric: Rubric, handed: SubmissionTime | None) -> list[tuple[str, float]]:
    """(why, points off) for lateness and for attempts beyond those that are free."""
    if handed is None:
        return []
    found = []
    late = (handed.submitted - rubric.late.due).total_seconds() if rubric.late else 0.0
    if rubric.late and late > 0:
        days = int(-(-late // 86_400))
        cost = min(days * rubric.late.per_day, rubric.late.at_most if rubric.late.at_most is not None else rubric.total)
        found.append((f"{days} day{'s' * (days > 1)} late", cost))
    if rubric.attempts and handed.attempt > rubric.attempts.at_most:
        more = handed.attempt - rubric.attempts.at_most
        found.append((f"attempt {handed.attempt}, {rubric.attempts.at_most} are free", more * rubric.attempts.cost))
    return found


def table(graded: Sequence[Graded], out: Path, most: int = 60) -> str:
    """Points of each submission, the class's mean, and where everything is."""
    grid = empty_table(None, ("submission", "points", "flags"), left=("submission", "flags"), overflow="fold")
    for each in graded[:most]:
        grid.add_row(cell(each.id), f"{each.points:g}", cell("; ".join(each.flags), 80))
    more = [f"… and {len(graded) - most} more"] if len(graded) > most else []
    mean = f"{len(graded)} submissions, mean {np.mean([each.points for each in graded]):.1f} points"
    return "\n".join([render(grid), *more, mean, f"{out}/summary.html, grades.csv, students/: feedback for each"])
