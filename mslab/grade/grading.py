"""`mslab grade`: a folder of submissions, hidden images and a rubric -> grades and feedback.

No student's code runs unless the rubric has `code` and the teacher passes --run-code. Data flows in one direction:
rubric -> submissions (names only) -> a private copy and a sandboxed worker each (facts, logits) -> items (points)
-> outputs, of which a table of points so far is there from the first submission on
"""

import hashlib
import logging
import queue
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mslab import checkpoint
from mslab.check import DatasetReport
from mslab.check.limits import usable_cores
from mslab.config import language
from mslab.errors import MslabError
from mslab.evaluation import engines, metrics
from mslab.evaluation.engines import Engine
from mslab.files import sha256
from mslab.grade import copies, items, measuring, outputs, private, sandbox, task_images
from mslab.grade.contents import BadSubmission
from mslab.grade.copies import GivenBackbone, Traces
from mslab.grade.courses import check_rows
from mslab.grade.downloads import find_submissions
from mslab.grade.items import Hidden
from mslab.grade.loading import allow_code, check_dialect, given_file, hidden_sets, load_rubric
from mslab.grade.looking import rounded, sketch
from mslab.grade.measuring import HiddenImages
from mslab.grade.progress import GradesSoFar, check_place, own_cache, temporary_folder
from mslab.grade.records import Graded, Measurement
from mslab.grade.rubric import PredictionsItem, ProvenanceItem, Rubric
from mslab.grade.submissions import Found, Submission
from mslab.grade.times import SubmissionTime, deductions_of, keys_of, read_times, times_of
from mslab.runtime import devices
from mslab.runtime.console import Meter
from mslab.runtime.tables import cell, empty_table, fold, one_line, plural, render

log = logging.getLogger("mslab")
MAX_NOTES = 20  # files that are not graded, in the terminal


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
    engine: str = "auto"  # as engines.choose takes it; the grades do not depend on it
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
    engines.choose(options.engine)  # before anything is measured
    reports = hidden_sets(rubric, rubric_file, data)
    times = read_times(options.times, rubric.late.due.tzinfo if rubric.late else None) if options.times else {}
    cache = (out / ".cache").resolve()  # workers run in their own folders
    backbone_file = given_file(rubric, rubric_file)
    with ExitStack() as stack:  # a download is unpacked until its end
        found, earlier = find_all(stack, folder, rubric, options)
        by_path = times_of(found.submissions, times)
        for note in notes(found, earlier, times, rubric, options):
            log.info(f"note: {note}")
        check_place(out, Path(folder))
        stack.enter_context(own_cache(cache))
        images = image_sets(reports, cache / "images")
        hidden = {name: hidden_of(image_set) for name, image_set in images.items()}
        devices.start("cpu", "pynative", seed=0)  # for loading images; networks run in the workers
        so_far = GradesSoFar(found.submissions, rubric, out)

        def score(submission: Submission, measurement: Measurement) -> None:
            so_far.add(submission.path, graded_of(submission, measurement, rubric, hidden, by_path))

        with so_far.kept():
            measurements = measure_all(found.submissions, earlier, rubric, backbone_file, images, cache, options, score)
    for submission in [*found.submissions, *earlier]:
        if problem := measurements[submission.path].problem:
            log.info(f"{title(submission.id, submission in earlier)}: {one_line(problem, 300)}")
    unused = list(unused_packs(found.submissions, measurements))
    for name, reason in unused[:MAX_NOTES]:
        log.info(f"note: {one_line(name)} is not graded: {one_line(reason, 200)}")
    found.left_out += unused
    traces = [traces_of(submission, measurements[submission.path], False) for submission in found.submissions]
    traces += [traces_of(submission, measurements[submission.path], True) for submission in earlier]
    pairs = copies.pairs(traces, read_given_backbone(backbone_file), true_classes(rubric, hidden))
    matrices = {n: confusion(n, found.submissions, measurements, own) for n, own in hidden.items() if not own.figure}
    leftover = outputs.write_all(
        so_far.graded,
        rubric,
        pairs,
        out,
        moodle=options.moodle,
        canvas=options.canvas,
        confusion=matrices,
        left_out=found.left_out,
        lang=language.current(),
    )
    so_far.finished()
    if leftover:
        log.info(f"note: {out}/students still has {len(leftover)} folders of an earlier run: {', '.join(leftover[:5])}")
    return sorted(so_far.graded, key=lambda submission: submission.id)


def find_all(
    stack: ExitStack, folder: str | Path, rubric: Rubric, options: GradeOptions
) -> tuple[Found, list[Submission]]:
    """(this year's submissions, last year's). Raises MslabError if there are none, or two are of one participant."""
    found = stack.enter_context(find_submissions(Path(folder), expected_files(rubric)))
    if options.last_year and options.last_year.resolve() == Path(folder).resolve():
        raise MslabError(
            f"--last-year {options.last_year} is the folder to be graded.",
            expected="another folder of submissions",
            fix="leave --last-year out: this year's submissions are always compared with each other",
        )
    if options.moodle or options.canvas:
        check_rows(found.submissions)
    if options.last_year is None:
        return found, []
    return found, stack.enter_context(find_submissions(options.last_year, expected_files(rubric))).submissions


def expected_files(rubric: Rubric) -> list[str]:
    """The files of a submission that the rubric names, each once."""
    names = [name for network in rubric.networks.values() for name in (*network.files, network.code) if name]
    for item in rubric.items:
        names += [*getattr(item, "files", []), *filter(None, [getattr(item, "file", None)])]
    return list(dict.fromkeys(names))


def job_of(
    rubric: Rubric, backbone_file: Path | None, dialect: str = "", engine: Engine | None = None
) -> dict[str, Any]:
    """The part of a worker's job that is the same for every submission."""
    pairs = [(item.network, item.parent) for item in rubric.items if isinstance(item, ProvenanceItem)]
    code = {name: network.code for name, network in rubric.networks.items() if network.code}
    limits = {"pixels": rubric.image_size, "image_bytes": int(rubric.image_gigabytes * 2**30)}
    tasks = {name: network.task for name, network in rubric.networks.items() if network.task}
    chosen = {key: own for key, own in (("tasks", tasks), ("code", code), ("dialect", dialect)) if own}
    return chosen | {
        "limits": limits,
        "engine": (engine or engines.choose("auto")).record(),
        "networks": {name: network.files for name, network in rubric.networks.items()},
        "relations": [list(pair) for pair in dict.fromkeys(pairs)],
        "given": str(backbone_file.resolve()) if backbone_file else None,
        "given_sha256": sha256(backbone_file) if backbone_file else "",
        "predictions": [item.file for item in rubric.items if isinstance(item, PredictionsItem)],
        "expected": expected_files(rubric),
        "allowed": {name: network.allowed for name, network in rubric.networks.items()},
    }


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
    job, measurements = job_of(rubric, backbone_file, options.dialect, engines.choose(options.engine)), {}
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
                    missing = sandbox.missing_guards(measurement.facts["sandbox"])
                    if missing and missing not in reported and not measurement.died:
                        reported.add(missing)
                        log.info(f"note: this machine confines workers less tightly than others: {missing}")
                    if submission.path in this_year:
                        score(submission, measurement)
                    # the maps of a task have been measured; those of a class would fill the memory
                    measurement.logits = {name: rows for name, rows in measurement.logits.items() if rows.ndim == 2}
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
            submission.sha256 = private.copy(submission.path, source, submission.parts)
            own_job = {**job, "source": str(source), "folder": str(temporary / "work")}
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
    keys = {name: task_images.identity(report) for name, report in reports.items()}
    sets = {keys[name]: task_images.hidden_images(report, folder) for name, report in reports.items()}
    return {name: sets[key] for name, key in keys.items()}


def hidden_of(images: HiddenImages) -> Hidden:
    if isinstance(images, task_images.HiddenParts):
        return Hidden(images.labels, images.class_names, [], images.figure)
    return Hidden(images.labels, images.class_names, [Path(file).name for file in images.images.names()])


def true_classes(rubric: Rubric, hidden: Mapping[str, Hidden]) -> dict[str, dict[str, str]]:
    """For each predictions file the true class of each image."""
    return {item.file: truth_of(hidden[item.network]) for item in rubric.items if isinstance(item, PredictionsItem)}


def truth_of(hidden: Hidden) -> dict[str, str]:
    return {file: hidden.class_names[label] for file, label in zip(hidden.files, hidden.labels, strict=True)}


def graded_of(
    submission: Submission,
    measurement: Measurement,
    rubric: Rubric,
    hidden: Mapping[str, Hidden],
    times: Mapping[Path, SubmissionTime | None],
) -> Graded:
    """Score a submission: points, deductions and flags."""
    outcomes = items.score(rubric, measurement, hidden)
    flags = list(submission.flags)
    if submission.problem and not submission.sha256 and submission.problem not in flags:
        flags.append(f"it was not measured: {submission.problem}")
    if measurement.died and not submission.problem:
        flags.append(f"its worker returned no answer: {measurement.problem}")
    flags += measurement.facts.get("notes", [])
    for name, network in measurement.facts["networks"].items():
        flags += [f"{name}: {note}" for note in network.get("notes") or []]
        if (error := network.get("error", "")) and not error.startswith("it was not handed in"):
            flags.append(f"{name}: {error}")
    time = times.get(submission.path)
    if times and (time is None or time.submitted is None) and (rubric.late or rubric.attempts):
        flags.append("not in the table of times: no points are deducted for lateness or attempts")
    graded = Graded(submission.id, submission.sha256, outcomes, deductions_of(rubric, time), flags, measurement.facts)
    graded.name, graded.source = submission.name, submission.source
    return graded


def notes(
    found: Found,
    earlier: Sequence[Submission],
    times: Mapping[str, SubmissionTime],
    rubric: Rubric,
    options: GradeOptions,
) -> Iterator[str]:
    """What the teacher should know before anything is measured."""
    submissions, left_out = found.submissions, found.left_out
    if (rubric.late or rubric.attempts) and not times:
        reason = f"{options.times} has no rows:" if options.times else "without --times"
        yield f"{reason} no points are deducted for lateness or attempts"
    if any(time.due for time in times.values()) and not rubric.late:
        yield f"the column due in {options.times} has no effect: the rubric has no `late`"
    known = {key for submission in submissions for key in keys_of(submission)}
    if unknown := [one_line(id) for id in times if id not in known]:
        more = f" and {len(unknown) - 5} more" * (len(unknown) > 5)
        yield f"{options.times} has {plural(len(unknown), 'id')} without a submission: {', '.join(unknown[:5])}{more}"
    for name, reason in left_out[:MAX_NOTES]:
        yield f"{one_line(name)} is not graded: {one_line(reason, 200)}"
    if len(left_out) > MAX_NOTES:
        yield f"{len(left_out) - MAX_NOTES} more files are not graded; grades.json lists all"
    log.info(
        f"{rubric.title}: {plural(len(submissions), 'submission')}, "
        f"{plural(len(rubric.items), 'item')}, {rubric.total:g} points"
    )
    for submission in [*submissions, *earlier]:
        for flag in submission.flags:
            yield f"{title(submission.path.name, submission in earlier)}: {one_line(flag, 300)}"


def title(name: str, last_year: bool) -> str:
    """A submission in messages. one_line() stops a hostile name from starting a line."""
    return "last year's " * last_year + one_line(name)


def unused_packs(
    submissions: Sequence[Submission], measurements: Mapping[Path, Measurement]
) -> Iterator[tuple[str, str]]:
    """(name, reason) of each pack in a submission that was not graded."""
    for submission in submissions:
        facts = measurements[submission.path].facts
        for name in facts.get("unused", []):
            yield f"{submission.source}/{name}", f"{facts['top'] or 'the top'} is graded as {submission.id}"


def traces_of(submission: Submission, measurement: Measurement, last_year: bool) -> Traces:
    return Traces(submission.id, measurement.facts, measurement.logits, measurement.sketches, last_year)


def read_given_backbone(file: Path | None) -> GivenBackbone:
    """Read the teacher's backbone for the comparison of submissions."""
    if file is None:
        return GivenBackbone()
    tensors = checkpoint.read(file).backbone
    values = [*tensors.values(), *rounded(tensors, tensors).values()]  # as pack --half hands it in, too
    return GivenBackbone(frozenset(hashlib.sha256(value.tobytes()).hexdigest() for value in values), sketch(tensors))


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


def table(graded: Sequence[Graded], out: Path, most: int = 60) -> str:
    """Table of points per submission, the class's mean, and the paths of the results."""
    columns = ("submission", "points", "flags")
    grid = empty_table(None, columns, left=("submission", "flags"), complete="grades.csv")
    for student in graded[:most]:
        grid.add_row(cell(student.id), f"{student.points:g}", cell("; ".join(student.flags), 80))
    more = [f"… and {len(graded) - most} more"] if len(graded) > most else []
    mean = f"{plural(len(graded), 'submission')}, mean {np.mean([student.points for student in graded]):.1f} points"
    return "\n".join(
        [render(grid), *more, fold(mean), fold(f"{out}/summary.html, grades.csv, students/: feedback for each")]
    )
