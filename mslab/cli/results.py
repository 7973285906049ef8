"""What a run is good for: watch, measure, report, predict, serve, export it; verify, archive and reproduce it."""

import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, BadParameter, Option

from mslab.cli import options
from mslab.cli.options import app, checked, emit, job, log, print_text, report_run, write_json
from mslab.runtime import console, devices


@job(app, "watch")
def watch(
    run: Annotated[str, Argument(metavar="RUN", help="a run folder, of a run that trains or has ended")],
    once: Annotated[bool, Option("--once", help="draw it as it is now, and leave")] = False,
) -> int:
    """Draw the curves of a run in the terminal while it trains; ends with it, Ctrl-C does not stop the run."""
    from mslab.report import watching

    return watching.watch(run, once)


@job(app, "eval")
def evaluate(
    source: options.Source,
    data: Annotated[str, Option(metavar="ROOT", help="class folders; of a parent, its test or val")],
    json_file: options.Json = None,
    device: options.Device = "auto",
    tta: Annotated[bool, Option("--tta", help="the mean of each image's and its mirror image's prediction")] = False,
    skip_check: options.SkipCheck = False,
) -> None:
    """Measure a trained network on a folder of images."""
    devices.refuse(device, devices.missing_driver(device))
    report = checked(data, skip_content=skip_check)
    report.raise_errors()
    log.info(report.brief())
    from mslab.evaluation import measuring
    from mslab.report.show import figures_table

    result = measuring.evaluate(source, data, report=report, device=device, tta=tta)
    emit(result, json_file, lambda: figures_table(result))


@job(app, "verify")
def verify(
    run: Annotated[str, Argument(metavar="RUN", help="a run folder")],
    json_file: options.Json = None,
) -> int:
    """Compare each file of a run, and the checkpoint it began from, with the sha256 that its manifest noted."""
    from mslab.runs import manifest

    rows = manifest.verify(Path(run))
    ok = all(row["status"] in ("same", "left out") for row in rows)

    def table() -> str:
        width = max(len(row["file"]) for row in rows)
        lines = [f"{row['status']:<8}  {row['file']:<{width}}  {row['text']}" for row in rows]
        lines = [console.escape_control(line, safe="") for line in lines]  # a file's name stays on its line
        verdict = f"all {len(rows)} files are as the run left them" if ok else "not as the run left it"
        return "\n".join([*lines, f"{run}: {verdict}"])

    emit({"schema": 1, "run": run, "ok": ok, "files": rows}, json_file, table)
    return 0 if ok else 1


@job(app, "reproduce")
def reproduce(
    run: Annotated[str | None, Argument(metavar="RUN", help="a finished run folder")] = None,
    overrides: options.Overrides = None,
    archive: Annotated[
        str | None, Option("--from", metavar="ARCHIVE", help="unpack what mslab archive wrote, in RUN's place")
    ] = None,
    backbone: Annotated[str | None, Option(metavar="FILE|RUN", help="where the parent checkpoint lies now")] = None,
    other: Annotated[
        str | None, Option("--with", metavar="OTHER_RUN", help="compare with this run; trains nothing")
    ] = None,
    tolerance: options.Tolerance = 0.02,
    install: Annotated[
        bool, Option("--install", help="in a virtual environment of the recorded packages, removed afterwards")
    ] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="only say what differs now; exit 1 where that stops")] = False,
    json_file: options.Json = None,
    no_report: options.NoReport = False,
) -> int:
    """Run a run again from what it recorded, and say whether its figures hold; exit 1 where they do not."""
    given = list(overrides or [])
    if archive and run and "=" in run:  # without RUN, the first setting is in its place
        given, run = [run, *given], None
    if (run is None) == (archive is None):
        raise BadParameter("name a RUN, or --from ARCHIVE")
    if install and other is not None:
        raise BadParameter("--with trains nothing: there is nothing to --install for")
    from mslab.reproduce import installing, opening, reproducing

    if archive is not None:
        with console.Meter(1) as meter:
            run = str(opening.unpack(archive, meter.callback("unpacking")))
        log.info("%s: unpacked to %s", archive, run)
    wish = reproducing.Wish(given, backbone, other, tolerance, dry_run)
    if install:
        return installing.run_in_own(str(run), wish, json_file, no_report)
    result = reproducing.reproduce(str(run), wish, log.info if json_file == "-" else print_text)
    write_json(result.to_dict(), json_file)
    if result.error:
        raise result.error
    report_run(result.again if result.trained else None, no_report)
    return 0 if result.held else 1


@job(app, "archive")
def archive(
    run: Annotated[str, Argument(metavar="RUN", help="a finished run folder")],
    data: Annotated[bool, Option("--data", help="with the images it was trained and measured on")] = False,
    no_weights: Annotated[bool, Option("--no-weights", help="without best.ckpt and best_backbone.ckpt")] = False,
    out: Annotated[str | None, Option(metavar="FILE.zip", help="RUN.zip where not given")] = None,
) -> None:
    """Pack a run with all that repeating it elsewhere needs: mslab reproduce --from FILE.zip."""
    from mslab.reproduce import archiving

    with console.Meter(1) as meter:
        packed = archiving.archive(run, out, data, not no_weights, meter.callback("packing"))
    log.info("%s; mslab reproduce --from %s repeats it", packed, packed.file)


@job(app, "report")
def report(
    runs: Annotated[list[str], Argument(metavar="RUN...", help="one run with its images, or several compared")],
    out: Annotated[str | None, Option(metavar="FILE.html", help="RUN/report.html; of several, report.html")] = None,
    lang: Annotated[str, Option(help="en or zh")] = "en",
    device: options.Device = "auto",
) -> None:
    """Write what runs learned and where they fail as one HTML file: curves, mistakes, heat maps, figures."""
    if lang not in ("en", "zh"):
        raise BadParameter(f"--lang {lang}: the report speaks en and zh")
    devices.refuse(device, devices.missing_driver(device))
    from mslab.report.writing import write_report

    log.info("%s: open it in a browser", write_report(runs, out, lang, device))


@job(app, "predict")
def predict(
    source: options.AnySource,
    images: Annotated[
        list[str], Argument(metavar="IMAGE|FOLDER|PATTERN|-...", help="- is standard input, a file a line")
    ],
    json_file: options.Json = None,
    jsonl: Annotated[str | None, Option(metavar="FILE|-", help="one JSON object an image and line")] = None,
    csv: Annotated[str | None, Option(metavar="FILE|-", help="a row an image, a column a class")] = None,
    device: options.Device = "auto",
    batch_size: Annotated[
        int | None, Option(metavar="N", help="images a step; by the image size where not given", min=1, max=4096)
    ] = None,
) -> int:
    """Say what images show, with the probability of every class; exit 1 where some could not be read."""
    targets = {"json": json_file, "jsonl": jsonl, "csv": csv}
    if list(targets.values()).count("-") > 1:
        raise BadParameter("only one of --json, --jsonl and --csv can go to standard output")
    devices.refuse(device, devices.missing_driver(device))
    from mslab.inference import predicting

    files = predicting.expand(images, sys.stdin)
    model = predicting.open_model(source, device, batch_size)
    rows = list(predicting.predict(model, files))
    predicting.write(rows, model.class_names, targets)
    if "-" not in targets.values():
        print_text(predicting.table(rows))
    return 1 if any(row["error"] for row in rows) else 0


@job(app, "serve")
def serve(
    source: options.AnySource,
    host: Annotated[str, Option(metavar="ADDRESS", help="another one lets other machines ask")] = "127.0.0.1",
    port: Annotated[int, Option(help="0 takes any free one", min=0, max=65535)] = 8000,
    device: options.Device = "auto",
) -> int:
    """Answer images with classes and heat maps: a page to drop them on, and POST /predict for scripts."""
    devices.refuse(device, devices.missing_driver(device))
    from mslab.inference.serve import server

    try:
        server.run(source, host, port, device)
    except KeyboardInterrupt:  # how it is meant to end
        log.info("stopped")
    return 130


@job(app, "export")
def export(
    source: options.Source,
    kind: Annotated[str, Option("--format", metavar="mindir|onnx", help="MindSpore's graphs, or everybody's")],
    out: Annotated[str | None, Option(metavar="FILE", help="beside the checkpoint where not given")] = None,
    data: Annotated[str | None, Option(metavar="ROOT", help="images to compare on; the run's val_data")] = None,
    json_file: options.Json = None,
) -> None:
    """Write a network as a graph that runs without mslab, and compare its answers with the checkpoint's."""
    if kind not in ("mindir", "onnx"):
        raise BadParameter(f"--format {kind}: graphs are written as mindir or onnx")
    from mslab.inference import export

    result = export.export_run(source, kind, out, data)
    emit(result, json_file, lambda: export.summary(result))


@job(app, "suspects")
def suspects(
    source: Annotated[str, Argument(metavar="RUN|CKPT", help="whose features tell the classes apart")],
    data: Annotated[str, Option(metavar="ROOT", help="class folders, or train, val and test of them")],
    out: Annotated[
        str | None, Option(metavar="FOLDER", help="for suspects.csv and suspects.html; the run's own")
    ] = None,
    folds: Annotated[int, Option(help="of a split; each is judged by what the others show", min=2)] = 5,
    json_file: options.Json = None,
    device: options.Device = "auto",
    skip_check: options.SkipCheck = False,
) -> None:
    """List images whose label is probably wrong, for a person to look at; changes nothing."""
    devices.refuse(device, devices.missing_driver(device))
    report = checked(data, skip_content=skip_check)
    report.raise_errors()
    from mslab.report import suspects

    found = suspects.find(source, data, report, folds, device)
    for path in suspects.write(found, Path(out or (source if Path(source).is_dir() else "."))):
        log.info("%s", path)
    emit(found.to_dict(), json_file, lambda: str(found))
