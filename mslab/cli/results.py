"""Commands for a finished or running run: watch, eval, report, serve, export, verify, archive, reproduce."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, BadParameter, Option

from mslab.cli import options
from mslab.cli.options import app, checked, emit, found, job, log, print_text, report_run, write_json
from mslab.cli.outputs import OutputOption
from mslab.errors import MslabError
from mslab.escaping import command, escape_control
from mslab.runtime import console, devices, targets


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
    threshold: Annotated[
        list[str] | None,
        Option(
            metavar="CLASS=NUMBER",
            help="answer this class where its probability reaches the number, and only there; repeatable",
        ),
    ] = None,
    dialect: options.Dialect = "",
    weights: options.Weights = "",
    skip_check: options.SkipCheck = False,
    follow_links: options.FollowLinks = False,
    ignore: options.Ignore = None,
) -> None:
    """Measure a trained network on a folder of images: accuracy, figures per class, confusion matrix."""
    devices.refuse(device, devices.missing_driver(device))
    from mslab import checkpoint
    from mslab.config.tasks import CLASSIFY
    from mslab.evaluation import thresholds
    from mslab.runs import weights as weight_files

    choice, network = checkpoint.Choice(dialect, weights), found(source)
    chosen = weight_files.reading_of(network, choice)
    task = weight_files.task_of(network, choice)
    if task != CLASSIFY:
        refuse_for_task(
            task, {"--tta": tta, "--threshold": threshold, "--ignore": ignore, "--follow-links": follow_links}
        )
    if threshold:  # before the images, which may take minutes
        thresholds.parse(threshold, checkpoint.read(weight_files.best_file(network), choice).class_names)
    if task != CLASSIFY:
        report = options.checked_labels(data, task)
    else:
        report = checked(data, skip_content=skip_check, follow_links=follow_links, ignore=ignore or [], **chosen)
    report.raise_errors()
    measured = report.measured()
    log.info(f"measuring {measured}\n" * bool(measured) + report.brief(), extra=console.PROSE)
    with console.working("starting MindSpore …"):
        from mslab.evaluation import measuring
        from mslab.report.show import figures_table

    result = measuring.evaluate(network, data, report, device, tta=tta, choice=choice, threshold=threshold or [])
    emit(result, json_file, lambda: figures_table(result, measured))


def refuse_for_task(task: str, given: Mapping[str, object]) -> None:
    """Raise BadParameter for an option that only classification has."""
    for name, value in given.items():
        if value:
            raise BadParameter(f"{name} is for networks of classes; this one is of task {task}: leave it out")


@job(app, "verify")
def verify(
    runs: Annotated[list[str], Argument(metavar="RUN...", help="run folders")],
    json_file: options.Json = None,
) -> int:
    """Compare each file of runs, and the checkpoint they started from, with the sha256 in their manifests."""
    from mslab.runs import finding, verifying

    results: list[dict[str, Any]] = []
    for run in runs:
        try:
            folder = finding.find_run(run)
            rows = verifying.verify(folder)
            ok = all(row["status"] in ("same", "left out") for row in rows)
            results.append({"schema": 1, "run": str(folder), "ok": ok, "files": rows})
        except MslabError as error:
            if len(runs) == 1:
                raise
            results.append({"schema": 1, "run": run, "ok": False, "files": [], "error": str(error)})
    ok = all(result["ok"] for result in results)
    document = results[0] if len(runs) == 1 else {"schema": 1, "ok": ok, "runs": results}
    emit(document, json_file, lambda: "\n".join(map(verified, results)))
    return 0 if ok else 1


def verified(result: Mapping[str, Any]) -> str:
    """The files of one run, each with its verdict, and that of all; or why the run cannot be compared."""
    from mslab.runtime.tables import fold

    rows, run = result["files"], result["run"]
    if "error" in result:
        return f"{run}: {result['error']}"
    width = max(len(row["file"]) for row in rows)
    lines = [f"{row['status']:<8}  {row['file']:<{width}}  {row['text']}" for row in rows]
    lines = [fold(escape_control(line, safe="")) for line in lines]  # no line breaks in a name
    verdict = f"all {len(rows)}" if result["ok"] else "not all"
    return "\n".join([*lines, fold(f"{run}: {verdict} files are as the run left them")])


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
    out: Annotated[
        str | None, Option(metavar="FILE.zip", help="target file (default: RUN.zip)"), options.ARCHIVE
    ] = None,
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
        str | None,
        Option(metavar="FILE.html", help="target file (default: RUN/report.html; of several: report.html)"),
        options.PAGE,
    ] = None,
    device: options.Device = "auto",
    engine: options.Engine = "",
    precision: options.Precision = "",
) -> None:
    """Write one HTML file that shows what a network learned and where it fails: curves, mistakes and heat maps."""
    devices.refuse(device, devices.missing_driver(device))
    page, seconds = options.timed_report(runs, out, "", device, engine, precision)
    log.info("%s: open it in a browser (%.0f s)", page, seconds)


@job(app, "serve")
def serve(
    source: options.AnySource,
    host: Annotated[
        str, Option(metavar="ADDRESS", help="address to listen on; 0.0.0.0 also accepts other machines")
    ] = "127.0.0.1",
    port: Annotated[int, Option(help="port to listen on; 0 takes any free one", min=0, max=65535)] = 8000,
    root_path: Annotated[
        str | None,
        Option(metavar="PATH", help="path under which a proxy shows the page, such as /user/ada/proxy/8000"),
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        Option(
            metavar="ORIGIN",
            help="a proxy's address in the browser, or a site whose pages may use POST /predict: "
            "https://hub.example.edu; repeatable",
        ),
    ] = None,
    device: options.Device = "auto",
    engine: options.Engine = "auto",
    precision: options.Precision = "fp32",
) -> int:
    """Serve a network as a web page that answers about dropped images, and as POST /predict for scripts."""
    devices.refuse(device, devices.missing_driver(device))
    from mslab.evaluation import engines
    from mslab.inference.serve import server
    from mslab.inference.serve.addresses import addresses

    where = addresses(host, root_path, allow_origin or ())
    engines.refuse(engine, precision, device)
    server.run(found(source), where, port, device, engine, precision)  # until Ctrl-C
    return 130


@job(app, "export")
def export(
    source: options.Source,
    kind: Annotated[
        str | None, Option("--format", metavar="mindir|onnx", help="MindSpore's graph format, or ONNX")
    ] = None,
    modelarts: Annotated[
        str | None,
        Option(metavar="FOLDER", help="instead: write a folder from which ModelArts makes an AI application"),
        OutputOption(new=True),
    ] = None,
    out: Annotated[
        str | None,
        Option(metavar="FILE", help="target file (default: beside the checkpoint)"),
        OutputOption("a graph", (".mindir", ".onnx"), strict=True, new=True),
    ] = None,
    data: Annotated[
        str | None, Option(metavar="ROOT", help="images for the comparison (default: the run's val_data)")
    ] = None,
    dialect: options.Dialect = "",
    weights: options.Weights = "",
    json_file: options.Json = None,
) -> None:
    """Write a network as a graph that runs without mslab, and compare its outputs with the checkpoint's."""
    if modelarts is not None and (kind, out) != (None, None):
        raise BadParameter("--modelarts writes a folder of its own: leave out --format and --out")
    if modelarts is None and kind is None:
        raise BadParameter("name --format mindir, --format onnx, or --modelarts FOLDER")
    if kind not in (None, "mindir", "onnx"):
        raise BadParameter(f"--format {kind}: expected mindir or onnx")
    from mslab.checkpoint import Choice
    from mslab.inference import application, export

    if kind is None:
        result = application.write(found(source), modelarts or "", data, Choice(dialect, weights))
        emit(result, json_file, lambda: application.summary(result))
        return
    result = export.export_run(found(source), kind, out, data, Choice(dialect, weights))
    emit(result, json_file, lambda: export.summary(result))


@job(app, "suspects")
def suspects(
    source: Annotated[str, Argument(metavar="RUN|CKPT", help="the network whose features are compared")],
    data: Annotated[str, Option(metavar="ROOT", help="a folder of class folders, or with train, val and test in it")],
    out: Annotated[
        str | None,
        Option(metavar="FOLDER", help="target folder of suspects.csv and suspects.html (default: RUN)"),
        OutputOption(),
    ] = None,
    folds: Annotated[int, Option(help="folds per split; each is judged by a model fitted on the others", min=2)] = 5,
    json_file: options.Json = None,
    device: options.Device = "auto",
    engine: options.Engine = "auto",
    precision: options.Precision = "fp32",
    skip_check: options.SkipCheck = False,
    follow_links: options.FollowLinks = False,
    ignore: options.Ignore = None,
) -> None:
    """List images whose label is probably wrong, for a person to review. Changes no file of the data set."""
    devices.refuse(device, devices.missing_driver(device))
    from mslab.evaluation import engines
    from mslab.runs import weights

    engines.refuse(engine, precision, device)
    network = found(source)
    target = Path(out or (network if network.is_dir() else "."))
    targets.refuse_folder(target, option="--out")
    weights.refuse_task(network, "suspects compares the class of an image with others")
    chosen = weights.reading_of(network)
    report = checked(data, skip_content=skip_check, follow_links=follow_links, ignore=ignore or [], **chosen)
    report.raise_errors()
    from mslab.report import suspects

    result = suspects.find(network, data, report, folds, device, engine, precision)
    for path in suspects.write(result, target):
        log.info("%s", path)
    emit(result.to_dict(), json_file, lambda: str(result))
