"""`mslab grade`: a folder of submissions, hidden images and a rubric -> grades and feedback.

No student's code runs unless the rubric has `code` and the teacher passes --run-code. Data flows in one direction:
rubric -> submissions (names only) -> a private copy and a sandboxed worker each (facts, logits) -> items (points)
-> outputs, of which a table of points so far is there from the first submission on
"""

import csv
import hashlib
import logging
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from mslab import checkpoint
from mslab.check import DatasetReport
from mslab.check.limits import usable_cores
from mslab.errors import MslabError
from mslab.evaluation import metrics
from mslab.files import read_text, sha256, table_rows
from mslab.grade import copies, items, measuring, outputs, private, sandbox
from mslab.grade.contents import BadSubmission
from mslab.grade.copies import GivenBackbone, Traces
from mslab.grade.items import Hidden
from mslab.grade.loading import allow_code, check_dialect, given_file, hidden_sets, load_rubric
from mslab.grade.looking import sketch
from mslab.grade.measuring import HiddenImages
from mslab.grade.progress import GradesSoFar, check_place, own_cache, temporary_folder
from mslab.grade.records import Graded, Measurement
from mslab.grade.rubric import PredictionsItem, ProvenanceItem, Rubric
from mslab.grade.submissions import Submission, archive_alone, check_rows, find_submissions
from mslab.runtime import devices
from mslab.runtime.console import Meter
from mslab.runtime.tables import cell, empty_table, one_line, plural, render

log = logging.getLogger("mslab")


@dataclass
class GradeOptions:
    """How to grade a class, besides the rubric."""

    jobs: int | None = None  # workers at a time; default: one per core
    times: Path | None = None  # CSV: id, submitted, attempt
    last_year: Path | None = None  # a folder of submissions to compare with
    moodle: bool = False
    canvas: bool = False
    limits: sandbox.Limits = field(default_factory=sandbox.Limits)
    run_code: bool = False  # run students' code if the rubric has `code`
    dialect: str = ""  # of files whose names do not show the project, mindcv or mslab


def grade(
    folder: str | Path, rubric_file: str | Path, data: str | Path, out: str | Path, options: GradeOptions | None = None
) -> list[Graded]:
    """Grade every submission in a folder and write `out`. Returns them sorted by id.

    Measurements are cached in OUT/.cache: after an interruption the next call continues. Raises ConfigError, before a
    submission is opened, with every mistake in the rubric and the times; MslabError if there is nothing to grade.
    """
    options, out = options or GradeOptions(), Path(out)
    rubric = load_rubric(rubric_file)
    allow_code(rubric, rubric_file, options.run_code)
    check_dialect(options.dialect)
    reports = hidden_sets(rubric, rubric_file, data)
    times = read_times(options.times) if options.times else {}
    submissions, earlier = find_all(folder, options)
    if (rubric.late or rubric.attempts) and not times:
        log.info("note: without --times no points are deducted for lateness or attempts")
    log.info(
        f"{rubric.title}: {plural(len(submissions), 'submission')}, "
        f"{plural(len(rubric.items), 'item')}, {rubric.total:g} points"
    )
    for submission in [*submissions, *earlier]:
        for flag in submission.flags:
            log.info(f"note: {one_line(submission.path.name)}: {one_line(flag, 300)}")
    check_place(out, Path(folder))
    cache = (out / ".cache").resolve()  # workers run in their own folders
    backbone_file = given_file(rubric, rubric_file)
    with own_cache(cache):
        images = image_sets(reports, cache / "images")
        hidden = {name: hidden_of(image_set) for name, image_set in images.items()}
        devices.start("cpu", "pynative", seed=0)  # for loading images; networks run in the workers
        so_far = GradesSoFar(submissions, rubric, out)

        def score(submission: Submission, measurement: Measurement) -> None:
            so_far.add(submission.path, graded_of(submission, measurement, rubric, hidden, times))

        with so_far.kept():
            measurements = measure_all(submissions, earlier, rubric, backbone_file, images, cache, options, score)
    graded = so_far.graded
    traces = [traces_of(submission, measurements[submission.path], False) for submission in submissions]
    traces += [traces_of(submission, measurements[submission.path], True) for submission in earlier]
    true_classes = {
        item.file: truth_of(hidden[item.network]) for item in rubric.items if isinstance(item, PredictionsItem)
    }
    pairs = copies.pairs(traces, read_given_backbone(backbone_file), true_classes)
    matrices = {name: confusion(name, submissions, measurements, hidden[name]) for name in images}
    leftover = outputs.write_all(
        graded, rubric, pairs, out, moodle=options.moodle, canvas=options.canvas, confusion=matrices
    )
    so_far.finished()
    if leftover:
        log.info(f"note: {out}/students still has {len(leftover)} folders of an earlier run: {', '.join(leftover[:5])}")
    return sorted(graded, key=lambda submission: submission.id)


def find_all(folder: str | Path, options: GradeOptions) -> tuple[list[Submission], list[Submission]]:
    """(submissions, last year's). Raises MslabError if there are none, or two are of one participant."""
    submissions = find_submissions(folder)
    if options.last_year and options.last_year.resolve() == Path(folder).resolve():
        raise MslabError(
            f"--last-year {options.last_year} is the folder to be graded.",
            expected="another folder of submissions",
            fix="leave --last-year out: this year's submissions are always compared with each other",
        )
    if options.moodle or options.canvas:
        check_rows(submissions)
    return submissions, find_submissions(options.last_year) if options.last_year else []


def job_of(rubric: Rubric, backbone_file: Path | None, dialect: str = "") -> dict[str, Any]:
    """The part of a worker's job that is the same for every submission."""
    pairs = [(item.network, item.parent) for item in rubric.items if isinstance(item, ProvenanceItem)]
    code = {name: network.code for name, network in rubric.networks.items() if network.code}
    limits = {"pixels": rubric.image_size, "image_bytes": int(rubric.image_gigabytes * 2**30)}
    return (
        ({"code": code} if code else {})
        | ({"dialect": dialect} if dialect else {})
        | {
            "limits": limits,
            "networks": {name: network.files for name, network in rubric.networks.items()},
            "relations": [list(pair) for pair in dict.fromkeys(pairs)],
            "given": str(backbone_file.resolve()) if backbone_file else None,
            "given_sha256": sha256(backbone_file) if backbone_file else "",
            "predictions": [item.file for item in rubric.items if isinstance(item, PredictionsItem)],
        }
    )


def measure_all(
    submissions: Sequence[Submission],
    earlier: Sequence[Submission],
    rubric: Rubric,
    backbone_file: Path | None,
    images: Mapping[str, HiddenImages],
    cache: Path,
    options: GradeOptions,
    score: Callable[[Submission, Measurement], object] = lambda submission, measurement: None,
) -> dict[Path, Measurement]:
    """Measure every submission. Returns measurements by path. `earlier` ones are measured without the images.

    `score` is called with each of the others as soon as it is measured.
    """
    job, measurements = job_of(rubric, backbone_file, options.dialect), {}
    free_cores: queue.SimpleQueue[int] = queue.SimpleQueue()
    usable = usable_cores()
    count = options.jobs or len(usable)
    for number in range(count):
        free_cores.put(usable[number % len(usable)])
    reported: set[str] = set()
    this_year = {submission.path for submission in submissions}

    def measure(submission: Submission, visible_images: Mapping[str, HiddenImages]) -> Measurement:
        core = free_cores.get()
        try:
            return measure_one(submission, job, visible_images, options.limits, cache, core)
        finally:
            free_cores.put(core)

    with Meter(len(submissions) + len(earlier)) as meter, ThreadPoolExecutor(count) as pool:
        waiting = {pool.submit(measure, submission, images): submission for submission in submissions}
        waiting |= {pool.submit(measure, submission, {}): submission for submission in earlier}
        try:
            while waiting:
                done, _ = wait(waiting, return_when=FIRST_COMPLETED)
                for future in sorted(done, key=lambda future: future.exception() is not None):  # what ends it, last
                    submission = waiting.pop(future)
                    measurement = measurements[submission.path] = future.result()
                    meter.update(f"{len(measurements)} of {len(submissions) + len(earlier)} submissions")
                    if measurement.problem:
                        # one_line() stops a hostile name from starting a line
                        log.info(f"{one_line(submission.id)}: {one_line(measurement.problem, 300)}")
                    missing = sandbox.missing_guards(measurement.facts["sandbox"])
                    if missing and missing not in reported and not measurement.died:
                        reported.add(missing)
                        log.info(f"note: this machine confines workers less tightly than others: {missing}")
                    if submission.path in this_year:
                        score(submission, measurement)
        except BaseException:  # Ctrl-C: cancel waiting submissions, kill running workers
            for future in waiting:
                future.cancel()
            while not all(future.done() for future in waiting):  # one may be about to start its worker
                sandbox.kill_all()
                time.sleep(0.02)
            raise
    return measurements


def measure_one(
    submission: Submission,
    job: Mapping[str, Any],
    images: Mapping[str, HiddenImages],
    limits: sandbox.Limits,
    cache: Path,
    core: int,
) -> Measurement:
    """Measure a private copy of this submission, unless its bytes were measured before. No copy is left."""
    if submission.problem:
        return measuring.no_answer(submission.problem)
    with temporary_folder() as temporary:
        try:
            source = temporary / "submission"  # not its own name, which messages could contain
            submission.sha256 = private.copy(submission.path, source)
            if wrapped := archive_alone(submission.id, source):
                source = wrapped.rename(temporary / "archive")
            own_job = {**job, "source": str(source), "folder": str(temporary / "work"), "wrapped": bool(wrapped)}
            key = measuring.cache_key(submission.sha256, own_job, images, limits)
            counts = {name: len(image_set) for name, image_set in images.items()}
            return measuring.load_or_measure(
                cache, key, lambda: measuring.measure(own_job, images, limits, core), counts
            )
        except BadSubmission as problem:
            submission.problem = str(problem)
            return measuring.no_answer(submission.problem)
        except OSError as error:
            raise private.disk_error(temporary, error) from error
        except MslabError:  # for the teacher to fix
            raise
        except Exception as error:  # one bad submission does not stop the class
            return measuring.no_answer(f"measuring it failed ({type(error).__name__})")


def image_sets(reports: Mapping[str, DatasetReport], folder: Path) -> dict[str, HiddenImages]:
    """Hidden images by network. Networks with the same images share one object, which knows who reads its files."""
    sets = {r.fingerprint: HiddenImages(r, next(iter(r.splits)), folder) for r in reports.values()}
    return {name: sets[report.fingerprint] for name, report in reports.items()}


def hidden_of(images: HiddenImages) -> Hidden:
    return Hidden(images.labels, images.class_names, [Path(file).name for file in images.images.names()])


def truth_of(hidden: Hidden) -> dict[str, str]:
    return {file: hidden.class_names[label] for file, label in zip(hidden.files, hidden.labels, strict=True)}


def graded_of(
    submission: Submission,
    measurement: Measurement,
    rubric: Rubric,
    hidden: Mapping[str, Hidden],
    times: Mapping[str, "SubmissionTime"],
) -> Graded:
    """Score a submission: points, deductions and flags."""
    outcomes = items.score(rubric, measurement, hidden)
    flags = list(submission.flags)
    if submission.problem and not submission.sha256 and submission.problem not in flags:
        flags.append(f"it was not measured: {submission.problem}")
    if measurement.died and not submission.problem:
        flags.append(f"its worker returned no answer: {measurement.problem}")
    if times and submission.id not in times and (rubric.late or rubric.attempts):
        flags.append("not in the table of times: no points are deducted for lateness or attempts")
    for name, network in measurement.facts["networks"].items():
        flags += [f"{name}: {note}" for note in network.get("notes") or []]
    deductions = deductions_of(rubric, times.get(submission.id))
    return Graded(submission.id, submission.sha256, outcomes, deductions, flags, measurement.facts)


def traces_of(submission: Submission, measurement: Measurement, last_year: bool) -> Traces:
    return Traces(submission.id, measurement.facts, measurement.logits, measurement.sketches, last_year)


def read_given_backbone(file: Path | None) -> GivenBackbone:
    """Read the teacher's backbone for the comparison of submissions."""
    if file is None:
        return GivenBackbone()
    tensors = checkpoint.read(file).backbone
    return GivenBackbone(
        frozenset(hashlib.sha256(value.tobytes()).hexdigest() for value in tensors.values()), sketch(tensors)
    )


def confusion(
    name: str, submissions: Sequence[Submission], measurements: Mapping[Path, Measurement], hidden: Hidden
) -> tuple[list[str], np.ndarray]:
    """Class names, and the summed confusion matrix of all submissions' networks of this name."""
    count = len(hidden.class_names)
    total = np.zeros((count, count), int)
    for submission in submissions:
        logits = measurements[submission.path].logits.get(name)
        if logits is not None and logits.shape[1] == count:
            total += metrics.confusion(hidden.labels, logits.argmax(axis=1), count)
    return hidden.class_names, total


# --- submission times ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SubmissionTime:
    """When a submission was handed in, and the number of the attempt."""

    submitted: datetime
    attempt: int = 1


def read_times(path: Path) -> dict[str, SubmissionTime]:
    """Read a CSV with columns id, submitted (ISO 8601 with a zone), attempt; the last attempt counts.

    Raises MslabError with every mistake.
    """
    times: dict[str, SubmissionTime] = {}
    problems: list[tuple[str, str]] = []
    try:
        rows = list(table_rows(read_text(path)))
    except (OSError, ValueError, csv.Error) as error:
        raise MslabError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.",
            expected="a CSV file with the columns id, submitted, attempt",
            fix="correct the path, or leave --times out",
        ) from None
    for number, row in enumerate(rows, 2):
        try:
            submitted = datetime.fromisoformat(str(row["submitted"]).replace("Z", "+00:00"))
            if submitted.tzinfo is None:
                raise ValueError("the time has no zone, such as +08:00")
            time = SubmissionTime(submitted, int((row.get("attempt") or "1")[:9]))
            if not 1 <= time.attempt <= 10_000:
                raise ValueError("the attempt must be 1 to 10,000")
            other = times.get(str(row["id"]), time)
            if other.attempt == time.attempt and other != time:
                raise ValueError(f"attempt {time.attempt} is there twice, with different times")
            times[str(row["id"])] = max(time, other, key=lambda row: row.attempt)  # a row for every attempt is fine
        except (KeyError, ValueError) as error:
            problems.append((f"line {number}", f"{row.get('id', '')!r:.60}: {error!s:.200}"))
    if problems:
        raise MslabError(
            f"{path} has {len(problems)} lines that cannot be used.",
            details=problems[:20],
            expected="id, submitted as 2026-12-01T23:59:00+08:00, attempt as an integer",
            fix="correct these lines",
        )
    return times


def deductions_of(rubric: Rubric, time: SubmissionTime | None) -> list[tuple[str, float]]:
    """(reason, points off) for lateness and for attempts beyond the free ones."""
    if time is None:
        return []
    deductions = []
    late = (time.submitted - rubric.late.due).total_seconds() if rubric.late else 0.0
    if rubric.late and late > 0:
        days = int(-(-late // 86_400))
        cost = min(days * rubric.late.per_day, rubric.late.at_most if rubric.late.at_most is not None else rubric.total)
        deductions.append((f"{days} day{'s' * (days > 1)} late", cost))
    if rubric.attempts and time.attempt > rubric.attempts.at_most:
        extra = time.attempt - rubric.attempts.at_most
        deductions.append((f"attempt {time.attempt}; {rubric.attempts.at_most} are free", extra * rubric.attempts.cost))
    return deductions


def table(graded: Sequence[Graded], out: Path, most: int = 60) -> str:
    """Table of points per submission, the class's mean, and the paths of the results."""
    grid = empty_table(None, ("submission", "points", "flags"), left=("submission", "flags"), overflow="fold")
    for student in graded[:most]:
        grid.add_row(cell(student.id), f"{student.points:g}", cell("; ".join(student.flags), 80))
    more = [f"… and {len(graded) - most} more"] if len(graded) > most else []
    mean = f"{plural(len(graded), 'submission')}, mean {np.mean([student.points for student in graded]):.1f} points"
    return "\n".join([render(grid), *more, mean, f"{out}/summary.html, grades.csv, students/: feedback for each"])
