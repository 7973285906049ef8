"""A class: a student packs runs into a submission, a teacher grades them all."""

from pathlib import Path
from typing import Annotated

from typer import Argument, BadParameter, Option

from mslab.cli.options import app, job, log, print_text


@job(app, "pack")
def pack(
    runs: Annotated[list[str], Argument(metavar="[NAME=]RUN...", help="NAME/ is the run's folder inside")],
    out: Annotated[str, Option(metavar="FILE.zip", help="named as you are")],
    add: Annotated[list[str] | None, Option(metavar="[NAME=]FILE", help="another file; may be given again")] = None,
    rubric: Annotated[str | None, Option(metavar="FILE", help="say at once what is missing")] = None,
    public: Annotated[bool, Option("--public", help="only the rubric's public items")] = False,
) -> int:
    """Make a submission of runs, and look at it as the grader will; exit 1 where something is missing."""
    if public and rubric is None:
        raise BadParameter("--public is of a --rubric")
    from mslab.grade import handin

    file = handin.pack(runs, out, add or [])
    log.info("%s: %.1f MiB", file, file.stat().st_size / 2**20)
    if rubric is None:
        return 0
    known, outcomes = handin.preview(file, rubric, public)
    print_text(handin.table(known, outcomes))
    return 1 if any(outcome and outcome.status in ("none", "part") for outcome in outcomes.values()) else 0


@job(app, "grade")
def grade(
    rubric: Annotated[str, Option(metavar="FILE", help="what is looked at, and its points")],
    data: Annotated[str, Option(metavar="FOLDER", help="the hidden images, as the rubric names them")],
    submissions: Annotated[
        str | None, Argument(metavar="[SUBMISSIONS]", help="one zip, tar or folder a student")
    ] = None,
    out: Annotated[
        str | None, Option(metavar="FOLDER", help="for grades and feedback; nothing else is touched")
    ] = None,
    gradescope_package: Annotated[
        str | None, Option(metavar="FILE.zip", help="write Gradescope's autograder instead")
    ] = None,
    jobs: Annotated[int | None, Option(metavar="N", help="submissions at a time; one a core", min=1)] = None,
    times: Annotated[str | None, Option(metavar="FILE.csv", help="id, submitted, attempt: for lateness")] = None,
    last_year: Annotated[str | None, Option(metavar="FOLDER", help="earlier submissions, to compare with")] = None,
    moodle: Annotated[bool, Option("--moodle", help="write moodle.csv, too")] = False,
    canvas: Annotated[bool, Option("--canvas", help="write canvas.csv, too")] = False,
    seconds: Annotated[float, Option(help="a submission may take", min=1)] = 300.0,
    gigabytes: Annotated[float, Option(help="of memory a submission may take", min=0.5)] = 4.0,
    run_code: Annotated[
        bool, Option("--run-code", help="run students' model code in bubblewrap, where the rubric has `code`")
    ] = False,
) -> None:
    """Grade a class: accuracy on hidden images, settings, provenance, claims; no student's code runs unasked."""
    if gradescope_package is not None:
        if submissions or out or run_code:
            raise BadParameter("--gradescope-package grades nothing: no SUBMISSIONS, no --out, no --run-code")
        from mslab.grade import gradescope

        log.info("%s: upload it as the autograder", gradescope.package(rubric, data, Path(gradescope_package)))
        return
    if submissions is None or out is None:
        raise BadParameter("SUBMISSIONS and --out FOLDER, or --gradescope-package FILE.zip")
    from mslab.grade import grading, sandbox

    limits = sandbox.Limits(seconds=seconds, memory=int(gigabytes * 2**30))
    options = grading.GradeOptions(
        jobs, Path(times) if times else None, Path(last_year) if last_year else None, moodle, canvas, limits, run_code
    )
    graded = grading.grade(submissions, rubric, data, out, options)
    print_text(grading.table(graded, Path(out)))
