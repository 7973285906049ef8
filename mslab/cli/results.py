"""Commands for a finished or running run: watch, eval, report, predict, serve, export, verify, archive, reproduce."""

import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, BadParameter, Option

from mslab.cli import options
from mslab.cli.options import app, checked, emit, found, job, log, print_text, report_run, write_json
from mslab.escaping import command, escape_control
from mslab.runtime import console, devices


@job(app, "watch")
def watch(
    run: Annotated[str, Argument(metavar="RUN", help="the folder of a running or finished run")],
    once: Annotated[bool, Option("--once", help="draw the current state once and exit")] = False,
) -> int:
    """Draw the curves of a run in the terminal until it ends. Ctrl-C ends the display, not the run."""
    from mslab.report import watching

    return watching.watch(run, once)


@job(app, "eval")
def evaluate(
    source: options.Source,
    data: Annotated[str, Option(metavar="ROOT", help="class folders, or a folder with test or val inside")],
    json_file: options.Json = None,
    device: options.Device = "auto",
    tta: Annotated[bool, Option("--tta", help="average the predictions for each image and its mirror image")] = False,
    dialect: options.Dialect = "",
    weights: options.Weights = "",
    skip_check: options.SkipCheck = False,
    follow_links: options.FollowLinks = False,
    ignore: options.Ignore = None,
) -> None:
    """Measure a trained network on a folder of images: accuracy, figures per class, confusion matrix."""
    devices.refuse(device, devices.missing_driver(device))
    from mslab.checkpoint import Choice
    from mslab.runs import weights as weight_files

    choice, network = Choice(dialect, weights), found(source)
    weight_files.refuse(network, choice=choice)
    report = checked(data, skip_content=skip_check, follow_links=follow_links, ignore=ignore or [])
    report.raise_errors()
    log.info(report.brief())
    from mslab.evaluation import measuring
    from mslab.report.show import figures_table

    result = measuring.evaluate(network, data, report, device, tta=tta, choice=choice)
    emit(result, json_file, lambda: figures_table(result))


@job(app, "verify")
def verify(
    run: Annotated[str, Argument(metavar="RUN", help="a run folder")],
    json_file: options.Json = None,
) -> int:
    """Compare each file of a run, and the checkpoint it started from, with the sha256 in its manifest."""
    from mslab.runs import finding, manifest

    folder = finding.find_run(run)
    rows = manifest.verify(folder)
    ok = all(row["status"] in ("same", "left out") for row in rows)

    def table() -> str:
        width = max(len(row["file"]) for row in rows)
        lines = [f"{row['status']:<8}  {row['file']:<{width}}  {row['text']}" for row in rows]
        lines = [escape_control(line, safe="") for line in lines]  # no line breaks in a name
        verdict = f"all {len(rows)} files are as the run left them" if ok else "not all files are as the run left them"
        return "\n".join([*lines, f"{folder}: {verdict}"])

    emit({"schema": 1, "run": str(folder), "ok": ok, "files": rows}, json_file, table)
    return 0 if ok else 1


@job(app, "reproduce")
def reproduce(
    run: Annotated[str | None, Argument(metavar="RUN", help="a finished run folder")] = None,
    overrides: options.Overrides = None,
    archive: Annotated[
        str | None, Option("--from", metavar="ARCHIVE", help="unpack this zip of mslab archive and use it as RUN")
    ] = None,
    backbone: Annotated[str | None, Option(metavar="FILE|RUN", help="the parent checkpoint, if it has moved")] = None,
    other_run: Annotated[
        str | None, Option("--with", metavar="OTHER_RUN", help="compare with this run instead of training")
    ] = None,
    tolerance: options.Tolerance = 0.02,
    install: Annotated[
        bool, Option("--install", help="train in a temporary virtual environment with the recorded packages")
    ] = False,
    dry_run: Annotated[
        bool, Option("--dry-run", help="only report what differs now; exit 1 if that prevents a repetition")
    ] = False,
    json_file: options.Json = None,
    no_report: options.NoReport = False,
) -> int:
    """Repeat a run from its records and compare the figures; exit 1 if they differ."""
    settings = list(overrides or [])
    if archive and run and "=" in run:  # without RUN, the first setting is parsed as RUN
        settings, run = [run, *settings], None
    if (run is None) == (archive is None):
        raise BadParameter("name a RUN, or --from ARCHIVE")
    if install and other_run is not None:
        raise BadParameter("--with trains nothing: leave out --install")
    from mslab.reproduce import installing, opening, reproducing
    from mslab.runs.finding import find_run

    if archive is not None:
        with console.Meter(1) as meter:
            run = str(opening.unpack(archive, meter.callback("unpacking")))
        log.info("%s: unpacked to %s", archive, run)
    run = str(find_run(run))
    request = reproducing.ReproduceOptions(settings, backbone, other_run, tolerance, dry_run)
    if install:
        return installing.run_in_environment(run, request, json_file, no_report)
    result = reproducing.reproduce(run, request, log.info if json_file == "-" else print_text)
    write_json(result.to_dict(), json_file)
    if result.error:
        raise result.error
    report_run(result.again if result.trained else None, no_report)
    return 0 if result.ok else 1


@job(app, "archive")
def archive(
    run: Annotated[str, Argument(metavar="RUN", help="a finished run folder")],
    data: Annotated[bool, Option("--data", help="include the training and validation images")] = False,
    no_weights: Annotated[bool, Option("--no-weights", help="leave out best.ckpt and best_backbone.ckpt")] = False,
    out: Annotated[str | None, Option(metavar="FILE.zip", help="target file (default: RUN.zip)")] = None,
) -> None:
    """Pack everything that is needed to repeat a run elsewhere with mslab reproduce --from FILE.zip."""
    from mslab.reproduce import archiving

    with console.Meter(1) as meter:
        packed = archiving.archive(run, out, data, not no_weights, meter.callback("packing"))
    log.info("%s; to repeat the run: %s", packed, command("reproduce", "--from", packed.file))


@job(app, "report")
def report(
    runs: Annotated[list[str], Argument(metavar="RUN...", help="one run to report in detail, or several to compare")],
    out: Annotated[
        str | None, Option(metavar="FILE.html", help="target file (default: RUN/report.html; of several: report.html)")
    ] = None,
    lang: Annotated[str, Option(help="en or zh")] = "en",
    device: options.Device = "auto",
) -> None:
    """Write one HTML file that shows what a network learned and where it fails: curves, mistakes and heat maps."""
    if lang not in ("en", "zh"):
        raise BadParameter(f"--lang {lang}: reports are written in en or zh")
    devices.refuse(device, devices.missing_driver(device))
    from mslab.report.writing import write_report

    log.info("%s: open it in a browser", write_report(runs, out, lang, device))


@job(app, "predict")
def predict(
    source: options.AnySource,
    images: Annotated[
        list[str],
        Argument(
            metavar="IMAGE|FOLDER|PATTERN|-...", help="images; - reads file names from standard input, one a line"
        ),
    ],
    json_file: options.Json = None,
    jsonl: Annotated[str | None, Option(metavar="FILE|-", help="write one JSON object per line and image")] = None,
    csv: Annotated[str | None, Option(metavar="FILE|-", help="write one row per image, one column per class")] = None,
    device: options.Device = "auto",
    batch_size: Annotated[
        int | None, Option(metavar="N", help="images per step (default: depends on the image size)", min=1, max=4096)
    ] = None,
    dialect: options.Dialect = "",
    weights: options.Weights = "",
) -> int:
    """Predict the class of images, with the probability of every class; exit 1 if an image cannot be read."""
    targets = {"json": json_file, "jsonl": jsonl, "csv": csv}
    if list(targets.values()).count("-") > 1:
        raise BadParameter("only one of --json, --jsonl and --csv can go to standard output")
    devices.refuse(device, devices.missing_driver(device))
    from mslab.checkpoint import Choice
    from mslab.inference import predicting

    predicting.refuse_swapped(source, images)
    network = found(source)
    files = predicting.expand(images, predicting.listed(sys.stdin) if "-" in images and sys.stdin else ())
    if "-" not in images:
        predicting.refuse_missing(files)
    model = predicting.open_model(network, device, batch_size, Choice(dialect, weights))
    rows = list(predicting.predict(model, files))
    predicting.write(rows, model.class_names, targets)
    if "-" not in targets.values():
        print_text(predicting.table(rows))
    return 1 if any(row["error"] for row in rows) else 0


@job(app, "serve")
def serve(
    source: options.AnySource,
    host: Annotated[
        str, Option(metavar="ADDRESS", help="address to listen on; 0.0.0.0 also accepts other machines")
    ] = "127.0.0.1",
    port: Annotated[int, Option(help="port to listen on; 0 takes any free one", min=0, max=65535)] = 8000,
    device: options.Device = "auto",
) -> int:
    """Serve a network as a web page that classifies dropped images, and as POST /predict for scripts."""
    devices.refuse(device, devices.missing_driver(device))
    from mslab.inference.serve import server

    try:
        server.run(found(source), host, port, device)
    except KeyboardInterrupt:  # the normal way to stop a server
        log.info("stopped")
    return 130


@job(app, "export")
def export(
    source: options.Source,
    kind: Annotated[str, Option("--format", metavar="mindir|onnx", help="MindSpore's graph format, or ONNX")],
    out: Annotated[str | None, Option(metavar="FILE", help="target file (default: beside the checkpoint)")] = None,
    data: Annotated[
        str | None, Option(metavar="ROOT", help="images for the comparison (default: the run's val_data)")
    ] = None,
    dialect: options.Dialect = "",
    weights: options.Weights = "",
    json_file: options.Json = None,
) -> None:
    """Write a network as a graph that runs without mslab, and compare its outputs with the checkpoint's."""
    if kind not in ("mindir", "onnx"):
        raise BadParameter(f"--format {kind}: expected mindir or onnx")
    from mslab.checkpoint import Choice
    from mslab.inference import export

    result = export.export_run(found(source), kind, out, data, Choice(dialect, weights))
    emit(result, json_file, lambda: export.summary(result))


@job(app, "suspects")
def suspects(
    source: Annotated[str, Argument(metavar="RUN|CKPT", help="the network whose features are compared")],
    data: Annotated[str, Option(metavar="ROOT", help="a folder of class folders, or with train, val and test in it")],
    out: Annotated[
        str | None, Option(metavar="FOLDER", help="target folder of suspects.csv and suspects.html (default: RUN)")
    ] = None,
    folds: Annotated[int, Option(help="folds per split; each is judged by a model fitted on the others", min=2)] = 5,
    json_file: options.Json = None,
    device: options.Device = "auto",
    skip_check: options.SkipCheck = False,
    follow_links: options.FollowLinks = False,
    ignore: options.Ignore = None,
) -> None:
    """List images whose label is probably wrong, for a person to review. Changes no file of the data set."""
    devices.refuse(device, devices.missing_driver(device))
    from mslab.runs import weights

    network = found(source)
    weights.refuse(network)
    report = checked(data, skip_content=skip_check, follow_links=follow_links, ignore=ignore or [])
    report.raise_errors()
    from mslab.report import suspects

    result = suspects.find(network, data, report, folds, device)
    for path in suspects.write(result, Path(out or (network if network.is_dir() else "."))):
        log.info("%s", path)
    emit(result.to_dict(), json_file, lambda: str(result))
