"""Commands for a course: a student packs runs into a submission, a teacher grades all submissions."""

from pathlib import Path
from typing import Annotated

from typer import Argument, BadParameter, Option

from mslab.cli.options import ARCHIVE, Engine, app, job, log, print_text
from mslab.cli.outputs import OutputOption


@job(app, "pack")
def pack(
    runs: Annotated[
        list[str], Argument(metavar="[NAME=]RUN...", help="runs to submit; NAME/ is the run's folder in the zip")
    ],
    out: Annotated[str, Option(metavar="FILE.zip", help="the submission; use your own name as the file name"), ARCHIVE],
    add: Annotated[list[str] | None, Option(metavar="[NAME=]FILE", help="add another file; repeatable")] = None,
    rubric: Annotated[str | None, Option(metavar="FILE", help="check the submission against this rubric")] = None,
    public: Annotated[bool, Option("--public", help="check the rubric's public items only")] = False,
    half: Annotated[
        bool, Option("--half", help="float16 weights, measured again; a backbone that runs share only once")
    ] = False,
) -> int:
    """Pack runs into a submission and check it as the grader will; exit 1 if something is missing."""
    if public and rubric is None:
        raise BadParameter("--public needs --rubric")
    from mslab.grade import handin

    file = handin.pack(runs, out, add or [], half)
    size = file.stat().st_size
    log.info("%s: %.1f MiB", file, size / 2**20)
    if too_large := handin.limits_text(size):
        log.info(f"note: this is {too_large}" + "; --half makes it smaller" * (not half))
    if rubric is None:
        return 0
    checked_rubric, results = handin.preview(file, rubric, public)
    print_text(handin.table(checked_rubric, results))
    return 1 if any(result and result.status in ("none", "part") for result in results.values()) else 0


@job(app, "grade")
def grade(
    rubric: Annotated[str, Option(metavar="FILE", help="the items to grade and their points")],
    data: Annotated[str, Option(metavar="FOLDER", help="folder of the hidden images that the rubric names")],
    submissions: Annotated[
        str | None,
        Argument(metavar="[SUBMISSIONS]", help="a zip, tar or folder per student; or one of them all"),
    ] = None,
    out: Annotated[
        str | None,
        Option(metavar="FOLDER", help="target folder for grades and feedback; no other file is changed"),
        OutputOption(),
    ] = None,
    gradescope_package: Annotated[
        str | None,
        Option(metavar="FILE.zip", help="write an autograder for Gradescope instead of grading"),
        OutputOption("a zip", (".zip",), strict=True),
    ] = None,
    jobs: Annotated[
        int | None, Option(metavar="N", help="submissions graded in parallel (default: one per core)", min=1)
    ] = None,
    times: Annotated[
        str | None, Option(metavar="FILE.csv", help="times for late penalties: columns id, submitted, attempt, due")
    ] = None,
    last_year: Annotated[str | None, Option(metavar="FOLDER", help="earlier submissions to compare with")] = None,
    moodle: Annotated[bool, Option("--moodle", help="also write moodle.csv")] = False,
    canvas: Annotated[bool, Option("--canvas", help="also write canvas.csv")] = False,
    seconds: Annotated[float, Option(help="time limit per submission in seconds", min=1)] = 300.0,
    gigabytes: Annotated[float, Option(help="memory limit per submission in GiB", min=0.5)] = 4.0,
    run_code: Annotated[
        bool, Option("--run-code", help="run students' model code in bubblewrap if the rubric has `code`")
    ] = False,
    engine: Engine = "auto",
    dialect: Annotated[
        str, Option("--dialect", metavar="NAME", help="mindcv or mslab, for files whose names do not tell them apart")
    ] = "",
) -> None:
    """Grade a class: accuracy on hidden images, settings, provenance, claims. Runs no student's code by default."""
    if gradescope_package is not None:
        if submissions or out or run_code:
            raise BadParameter("--gradescope-package grades nothing: leave out SUBMISSIONS, --out and --run-code")
        from mslab.grade import gradescope

        log.info("%s: upload this file as the autograder", gradescope.package(rubric, data, Path(gradescope_package)))
        log.info("in Autograder Settings choose 1 CPU and 1.5 GB or more: the default of 768 MB is too small")
        return
    if submissions is None or out is None:
        raise BadParameter("give SUBMISSIONS and --out FOLDER, or --gradescope-package FILE.zip")
    from mslab.evaluation import engines
    from mslab.grade import grading, sandbox

    engines.refuse(engine, "fp32")
    limits = sandbox.Limits(seconds=seconds, memory=int(gigabytes * 2**30))
    table, earlier = (Path(name) if name else None for name in (times, last_year))
    options = grading.GradeOptions(jobs, table, earlier, moodle, canvas, limits, run_code, engine, dialect)
    graded = grading.grade(submissions, rubric, data, out, options)
    print_text(grading.table(graded, Path(out)))
