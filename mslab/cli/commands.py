"""The command line: parses, calls, prints. MindSpore is imported only inside the commands that need it."""

import functools
import json
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from mslab import __version__
from mslab.errors import ConfigError, explain
from mslab.runtime import console, devices, signals

log = logging.getLogger("mslab")
app = typer.Typer(
    help="mslab: a transfer-learning lab kit on MindSpore.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
data_app = typer.Typer(
    help="Data sets: draw, build, split, import or pack one.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(data_app, name="data")
bench_app = typer.Typer(help="Speed beside others, as ratios.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(bench_app, name="bench")

Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="settings on top of CONFIG's")]
Json = Annotated[
    str | None, typer.Option("--json", metavar="FILE|-", help="write the result as JSON; - is standard output")
]
SkipCheck = Annotated[
    bool,
    typer.Option(
        "--skip-check", help="do not compare images (duplicates, leaks, …); folders and files are checked always"
    ),
]
Workers = Annotated[
    int | None, typer.Option("--workers", metavar="N", help="train with N processes, one a device", min=1)
]
Nodes = Annotated[int, typer.Option("--nodes", metavar="N", help="machines that share the workers evenly", min=1)]
NodeRank = Annotated[int, typer.Option("--node-rank", metavar="I", help="which of them this is, from 0", min=0)]
Master = Annotated[str, typer.Option("--master", metavar="HOST[:PORT]", help="the machine with --node-rank 0")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="print what would be called and launched; no device is needed")]
NoReport = Annotated[bool, typer.Option("--no-report", help="leave out report.html, which takes some seconds")]
Config = Annotated[str, typer.Argument(metavar="CONFIG", help="a YAML file of settings; configs/ has some")]


def job(owner: typer.Typer, name: str) -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """Register a command. Exit codes: 0 done, 1 not done (one message), 2 wrong command line, 130 after Ctrl-C."""

    def register(function: Callable[..., int | None]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapped(*arguments: Any, **options: Any) -> None:
            with console.capture_stderr() as noise, signals.on_stop(signals.stop_at_once):
                try:
                    code = function(*arguments, **options) or 0
                except KeyboardInterrupt:
                    log.info("stopped by Ctrl-C; mslab train --resume RUN continues a training run")
                    code = 130
                except typer.BadParameter:  # a wrong command line: typer says so and exits with 2
                    raise
                except Exception as error:
                    known = explain(error, str(noise.file))
                    if known is None:
                        print(traceback.format_exc(), file=noise.screen)
                    else:
                        print(console.escape_control(f"{type(known).__name__}: {known}"), file=noise.screen)
                    code = 1
            raise typer.Exit(code)

        return owner.command(name)(wrapped)

    return register


def write_json(target: str | None, content: Any) -> None:
    """`--json`: to a file, or as the only thing on standard output."""
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    if target == "-":
        sys.stdout.write(text)
    elif target:
        from mslab.checkpoint import write_text

        write_text(Path(target), text)


def checked(train: str, val: str | None = None, **options: Any) -> Any:
    """The data's report, looked at with a progress bar, before MindSpore is imported. Options: check_dataset's."""
    from mslab.check import check_dataset
    from mslab.runtime.console import Meter

    with Meter(1) as meter:
        return check_dataset(train, val, progress=meter.counted("loading images"), **options)


def checked_config(config: str, overrides: list[str] | None, skip_check: bool) -> tuple[Any, Any]:
    """(settings, report of the data they name)."""
    from mslab.config import load_config

    settings = load_config(config, overrides or [])
    return settings, checked_data(config, settings, skip_check)


def checked_data(config: str, settings: Any, skip_check: bool) -> Any:
    """The report of the data that the settings name."""
    devices.refuse(settings.device, devices.missing_driver(settings.device))  # before the data, which may take minutes
    report = checked(
        settings.train_data,
        settings.val_data,
        class_num=settings.class_num,
        image_size=settings.image_size,
        batch_size=settings.batch_size,
        skip_content=skip_check,
    )
    report.raise_errors(f"{config} says class_num: {settings.class_num}")
    log.info(report.brief())
    return report


def reported(run: str | Path | None, no_report: bool) -> None:
    """Write a trained run's report. What goes wrong there is said, and the run stays done."""
    if run is None or no_report:
        return
    from mslab.report.writing import write_report

    try:
        log.info("%s: what it learned and where it fails; open it in a browser", write_report([run]))
    except Exception as error:
        known = explain(error)
        log.info("note: no report: %s mslab report %s tries again", known.what if known else f"{error!r};", run)


def without_workers(settings: Any, overrides: list[str] | None) -> None:
    """Say that a setting for several workers does nothing with one; ConfigError where it was just asked for."""
    for name, idle in (("sync_bn", False), ("lr_scaling", "none")):
        if settings[name] != idle and any(text.startswith(f"{name}=") for text in overrides or []):
            raise ConfigError(
                f"{name}={settings[name]} does nothing here: one worker trains.",
                expected="several workers, whose images or learning rates it is about",
                fix="--workers 2, or leave it out",
            )
        if settings[name] != idle:
            log.info(f"note: {name}: {settings[name]} does nothing here: one worker trains")


def crew_of(workers: int | None, nodes: int, node_rank: int, master: str) -> Any:
    """The workers that the command line asks for, checked; None for this process alone."""
    if workers is None and (nodes, node_rank, master) != (1, 0, ""):
        raise typer.BadParameter("--nodes, --node-rank and --master belong to --workers")
    if workers is None:
        return None
    from mslab.training.launching import Crew

    crew = Crew(workers, nodes, node_rank, master)
    crew.check()
    return crew if workers > 1 else None


@app.callback(invoke_without_command=True)
def options(version: Annotated[bool, typer.Option("--version", help="print the version and leave")] = False) -> None:
    if version:
        print(f"mslab {__version__}")
        raise typer.Exit


@job(app, "doctor")
def doctor(json_file: Json = None) -> int:
    """Look whether training works on this machine, and how fast; exit 1 where it would fail or crawl."""
    from mslab.doctor.diagnosis import diagnose

    diagnosis = diagnose(log.info)
    write_json(json_file, diagnosis.to_dict())
    if json_file != "-":
        print(diagnosis)
    return 0 if diagnosis.ok else 1


@job(app, "demo")
def demo(overrides: Overrides = None, json_file: Json = None) -> None:
    """Draw the demo data, check it, train nine classes, transfer to two, and say what transfer bought."""
    from mslab.experiments.demo import run_demo, table

    result = run_demo(overrides=overrides or [])
    write_json(json_file, result)
    if json_file != "-":
        print(table(result))


@job(data_app, "make")
def data_make(
    out: Annotated[str, typer.Option(metavar="FOLDER", help="where the data sets go")] = "datasets",
    seed: Annotated[int, typer.Option(help="another seed draws other images")] = 1,
    size: Annotated[int, typer.Option(help="pixels, side of an image", min=32, max=1024)] = 96,
) -> None:
    """Draw mushrooms9 and mushrooms2: no download; one seed draws the same images on one kind of processor."""
    from mslab.experiments.demo import draw

    draw(Path(out), seed=seed, size=size)


@job(data_app, "animals")
def data_animals(
    out: Annotated[str, typer.Option(metavar="FOLDER", help="where the data sets go")] = "datasets",
    wheel: Annotated[
        str | None,
        typer.Option("--wheel", metavar="FILE", help="animal-mnist 0.4 as fetched elsewhere, instead of by pip"),
    ] = None,
) -> None:
    """Build animals9 and animals2, the silhouettes of README's results, from a package that pip fetches."""
    from mslab.data.animals import build_animals

    build_animals(Path(out), Path(wheel) if wheel else None)


@job(data_app, "split")
def data_split(
    root: Annotated[str, typer.Argument(metavar="ROOT", help="a folder of class folders")],
    val: Annotated[float, typer.Option(metavar="SHARE", help="of each class, for validation")] = 0.2,
    test: Annotated[float, typer.Option(metavar="SHARE", help="of each class, for the test")] = 0.0,
    seed: Annotated[int, typer.Option(help="another seed splits otherwise")] = 1,
    out: Annotated[str | None, typer.Option(metavar="FOLDER", help="ROOT-split where not given")] = None,
) -> None:
    """Copy a folder of classes to train, val and test; images that look alike stay together."""
    from mslab.data.splitting import split_dataset
    from mslab.runtime.console import Meter

    report = checked(root)
    target = Path(out) if out else Path(root).with_name(f"{Path(root).name}-split")
    with Meter(1) as meter:
        counts = split_dataset(report, target, val, test, seed, meter.counted("copying"))
    for part, classes in counts.items():
        log.info(
            f"{target / part}: {sum(classes.values())} images, {', '.join(f'{c} {n}' for c, n in classes.items())}"
        )


@job(data_app, "import")
def data_import(
    archive: Annotated[str, typer.Argument(metavar="ARCHIVE", help="a zip or tar of folders of images")],
    out: Annotated[str | None, typer.Option(metavar="FOLDER", help="datasets/NAME where not given")] = None,
) -> int:
    """Unpack an archive safely, from the level on where the classes are, and check what came out."""
    from mslab.data.unpacking import import_archive
    from mslab.runtime.console import Meter

    target = Path(out) if out else Path("datasets") / Path(archive).name.split(".")[0]
    with Meter(1) as meter:
        log.info(str(import_archive(Path(archive), target, meter.counted("unpacking"))))
    report = checked(str(target))
    print(console.escape_control(str(report)))
    return 0 if report.ok else 1


@job(data_app, "pack")
def data_pack(
    root: Annotated[str, typer.Argument(metavar="ROOT", help="a folder of class folders, or of train, val, test")],
    out: Annotated[str, typer.Option("--out", metavar="FOLDER", help="where the packed data set goes")],
    shards: Annotated[
        int | None, typer.Option("--shards", metavar="N", help="files a split; one for each GiB where not given", min=1)
    ] = None,
) -> None:
    """Check a data set and write it as a few large files (MindRecord), to train on where small files are slow."""
    report = checked(root)
    report.raise_errors()
    log.info(report.brief())
    from mslab.data.packing import pack_dataset
    from mslab.runtime.console import Meter

    with Meter(report.images) as meter:
        packs = pack_dataset(report, Path(out), shards, meter.counted("packing"))
    for name, pack in packs.items():
        size = sum(part.size for part in pack.parts) / 2**20
        files = f"{len(pack.shards)} shard{'s' * (len(pack.shards) > 1)}"
        log.info(f"{Path(out) / name}: {sum(pack.counts)} images, {len(pack.counts)} classes, {files}, {size:.0f} MiB")


@job(app, "check")
def check(
    root: Annotated[str, typer.Argument(metavar="ROOT", help="a folder of class folders, or of train, val, test")],
    classes: Annotated[
        int | None, typer.Option("--classes", metavar="N", help="how many classes there must be")
    ] = None,
    size: Annotated[
        int | None,
        typer.Option("--size", metavar="PIXELS", help="image_size of training; smaller images are named"),
    ] = None,
    json_file: Json = None,
    html_file: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="write a page with thumbnails, for people")
    ] = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="move what is wrong to ROOT.quarantine/; nothing is deleted")
    ] = False,
    convert: Annotated[
        bool, typer.Option("--convert", help="like --fix, and put an upright RGB copy in place of what can be read")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what --fix or --convert would do")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="move everything back from ROOT.quarantine/")] = False,
    no_cache: Annotated[bool, typer.Option("--no-cache", help="load unchanged files again, too")] = False,
) -> int:
    """Look for what would go wrong in training: stray folders, broken images, classes that differ, leaks."""
    if undo and (fix or convert or dry_run):
        raise typer.BadParameter("--undo stands alone: it takes back what an earlier --fix or --convert did")
    from mslab.check import page, quarantine
    from mslab.checkpoint import write_text

    def look() -> Any:
        return checked(root, class_num=classes, image_size=size, cache=not no_cache, whole_packs=True)

    for line in quarantine.undo(Path(root)) if undo else []:
        log.info(line)
    try:
        report = look()
    except KeyboardInterrupt as stop:
        print(console.escape_control(str(getattr(stop, "report", ""))))
        raise
    if dry_run:
        moves = quarantine.planned(report, convert)
        for source, target, finding, rewritten in moves:
            log.info("would move %s -> %s (%s)%s", source, target, finding.code, "; a converted copy stays" * rewritten)
        log.info("%d to move; nothing was touched", len(moves))
    elif fix or convert:
        moved = 0
        for line in quarantine.fix(report, convert):
            log.info(line)
            moved += 1
        if moved:
            log.info("mslab check %s --undo moves everything back", root)
            report = look()
    write_json(json_file, report.to_dict())
    if html_file:
        write_text(Path(html_file), page.page(report))
        log.info("%s: the findings with thumbnails", html_file)
    if json_file != "-":
        print(console.escape_control(str(report)))
    return 0 if report.ok else 1


@job(app, "show")
def show(
    config: Annotated[str | None, typer.Argument(metavar="[CONFIG]", help="a YAML file; without it, ResNet-50")] = None,
    overrides: Overrides = None,
    schedule: Annotated[
        bool, typer.Option("--schedule", help="the learning rate over the epochs, as a picture")
    ] = False,
    augment: Annotated[
        bool, typer.Option("--augment", help="training images as the network sees them, with labels, as a picture")
    ] = False,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE.png", help="where the picture goes; CONFIG-schedule.png, …")
    ] = None,
) -> None:
    """Print the network stage by stage: output shape, parameters, what is frozen, from a real forward pass."""
    if schedule and augment:
        raise typer.BadParameter("--schedule and --augment are two pictures; ask for one")
    if (schedule or augment) and config is None:
        raise typer.BadParameter("--schedule and --augment are of a CONFIG")
    if out is not None and not (schedule or augment):
        raise typer.BadParameter("--out belongs to --schedule or --augment")
    from mslab.config import load_config

    if schedule:
        from mslab.report import plots

        print(plots.draw_schedule(load_config(str(config), overrides or []), picture(config, "schedule", out)))
    elif augment:
        settings, report = checked_config(str(config), overrides, skip_check=True)
        from mslab.report.show import augment_sheet

        print(augment_sheet(settings, picture(config, "augment", out), report))
    else:
        from mslab.report.show import show_network

        print(show_network(config, overrides or []))


def picture(config: str | None, what: str, out: str | None) -> Path:
    """Where a picture goes. Raises BadParameter where its name says another format."""
    path = Path(out or f"{Path(str(config)).stem}-{what}.png")
    if path.suffix != ".png":
        raise typer.BadParameter(f"--out {path}: pictures are written as .png")
    return path


@job(app, "lr-find")
def lr_find(
    config: Config,
    overrides: Overrides = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", metavar="FILE|RUN", help="for a transfer: the backbone to begin from")
    ] = None,
    steps: Annotated[int, typer.Option(help="of the trial", min=10)] = 100,
    lowest: Annotated[float, typer.Option(help="learning rate of the first step", min=1e-12)] = 1e-6,
    highest: Annotated[float, typer.Option(help="of the last, if the loss has not exploded before", max=1000)] = 10.0,
    out: Annotated[str | None, typer.Option("--out", metavar="FILE.png", help="CONFIG-lr-find.png")] = None,
    json_file: Json = None,
) -> None:
    """Suggest lr_max: a short trial in which the learning rate grows until the loss explodes. Keeps no weights."""
    if not lowest < highest:
        raise typer.BadParameter("--lowest must be below --highest")
    target = picture(config, "lr-find", out)
    settings, report = checked_config(config, overrides, skip_check=True)
    from mslab.experiments import lr_find

    result = lr_find.find_rate(settings, report, backbone, steps, lowest, highest)
    write_json(json_file, result)
    text = lr_find.draw(result, target)
    if json_file != "-":
        print(text)


@job(app, "sweep")
def sweep(
    config: Annotated[str | None, typer.Argument(metavar="CONFIG", help="a YAML file of settings")] = None,
    overrides: Overrides = None,
    space: Annotated[
        str | None, typer.Option("--space", metavar="FILE", help="which settings are tried, and between what")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="finished ones in all; 20 where not given", min=1)] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", metavar="N", help="processes here, each on its own cores", min=1)
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="TIME", help="90s, 30m or 2h, after which no trial begins")
    ] = None,
    sampler: Annotated[str | None, typer.Option(help="tpe, random or grid; tpe where not given")] = None,
    pruner: Annotated[str | None, typer.Option(help="median or none; median where not given")] = None,
    storage: Annotated[
        str | None,
        typer.Option(metavar="URL|FILE", help="a database's URL, a .db or .log file, or journal; SQLite in the folder"),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="STUDY", help="in a storage that machines share: the study to begin or join")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", metavar="FILE|RUN", help="each trial is a transfer from it")
    ] = None,
    test: Annotated[
        str | None, typer.Option("--test", metavar="ROOT", help="measure best and default on these, once, at the end")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="of the sampler; 1 where not given", min=0, max=2**31 - 1)] = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="FOLDER", help="go on with a sweep that was stopped")
    ] = None,
    json_file: Json = None,
    skip_check: SkipCheck = False,
) -> int:
    """Try settings and say which do best: Optuna, in several processes, each trial a run; leaves runs/NAME-sweep-…/."""
    for option, value, known in (("--sampler", sampler, "tpe random grid"), ("--pruner", pruner, "median none")):
        if value is not None and value not in known.split():
            raise typer.BadParameter(f"{option} {value} is none of {', '.join(known.split())}")
    if (config is None) == (resume is None) or (config is not None and space is None):
        raise typer.BadParameter("CONFIG and --space FILE, or --resume FOLDER")
    if resume is not None and any((overrides, space, sampler, pruner, name, backbone, seed is not None, skip_check)):
        raise typer.BadParameter("--resume takes --trials, --workers, --budget, --test, --storage; the rest is known")
    if name is not None and storage is None:
        raise typer.BadParameter("--name is of a --storage that outlives the sweep's folder")
    from mslab.experiments.sweep import study as sweeping

    given: dict[str, Any] = {"trials": trials, "workers": workers, "budget": sweeping.seconds_of(budget)}
    given |= {"test": test, "storage": storage}
    if resume is not None:
        told = sweeping.resume_sweep(resume, given)
    else:
        given |= {"sampler": sampler, "pruner": pruner, "name": name, "backbone": backbone, "seed": seed}
        options = sweeping.Options(**{k: v for k, v in given.items() if v is not None}, skip_check=skip_check)
        look = functools.partial(checked_data, str(config), skip_check=skip_check)
        told = sweeping.run_sweep(str(config), str(space), overrides or [], options, look)
    write_json(json_file, told)
    if json_file != "-":
        print(sweeping.table(told))
    return 130 if told["status"] == "stopped" else 0


@job(app, "repeat")
def repeat_run(
    config: Config,
    overrides: Overrides = None,
    seeds: Annotated[int, typer.Option(help="runs, with the config's seed and those after it", min=1)] = 5,
    backbone: Annotated[
        str | None, typer.Option("--backbone", metavar="FILE|RUN", help="each run is a transfer from it")
    ] = None,
    test: Annotated[str | None, typer.Option("--test", metavar="ROOT", help="measure each run on these, too")] = None,
    json_file: Json = None,
    skip_check: SkipCheck = False,
) -> None:
    """Train with several seeds: mean, standard deviation and 95 % interval of every figure."""
    settings, report = checked_config(config, overrides, skip_check)
    images = None
    if test is not None:
        images = checked(test, skip_content=skip_check)
        images.raise_errors()
    from mslab.experiments import repeating

    result = repeating.repeat(settings, seeds, report, Path(config).stem, backbone, images)
    write_json(json_file, result)
    if json_file != "-":
        print(repeating.table(result))


@job(app, "tune-batch")
def tune_batch(
    config: Config,
    overrides: Overrides = None,
    most: Annotated[int, typer.Option(help="the largest batch to try", min=2, max=65536)] = 1024,
    json_file: Json = None,
) -> None:
    """Find the largest batch_size that fits into memory, by real training steps, and from which on none is faster."""
    from mslab.config import load_config
    from mslab.experiments import batch_tuner

    result = batch_tuner.tune_batch(load_config(config, overrides or []), most, log.info)
    write_json(json_file, result)
    if json_file != "-":
        print(batch_tuner.table(result))


@job(app, "train")
def train(
    config: Annotated[str | None, typer.Argument(metavar="CONFIG", help="a YAML file of settings")] = None,
    overrides: Overrides = None,
    resume: Annotated[
        str | None, typer.Option("--resume", metavar="RUN", help="continue this run in its folder")
    ] = None,
    source: Annotated[
        str | None,
        typer.Option("--from", metavar="RUN|FILE", help="incremental: begin from this network, classes kept by name"),
    ] = None,
    skip_check: SkipCheck = False,
    workers: Workers = None,
    nodes: Nodes = 1,
    node_rank: NodeRank = 0,
    master: Master = "",
    dry_run: DryRun = False,
    no_report: NoReport = False,
) -> None:
    """Train from scratch, or on from a network; leaves a run folder under runs/."""
    if (config is None) == (resume is None) or (resume and source):
        raise ConfigError(
            "mslab train takes a CONFIG (--from RUN with it, if it is to go on from there) or --resume RUN.",
            expected="mslab train configs/mushrooms9.yaml, or mslab train --resume runs/…",
            fix="a resumed run goes on with its own config" if config else "name one",
        )
    crew = crew_of(workers, nodes, node_rank, master)
    if dry_run and resume:
        raise typer.BadParameter("--dry-run is of a CONFIG, such as the run's config.yaml")
    if dry_run:
        from mslab.config import load_config
        from mslab.training import launching

        print(launching.dry_run(load_config(str(config), overrides or []), crew))
        return
    if resume is not None:
        from mslab.training import launching, loop

        if crew is None:
            done = loop.resume(resume)
            reported(done.run if done.seconds else None, no_report)
        else:
            reported(launching.resume(resume, crew), no_report)
        return
    settings, report = checked_config(str(config), overrides, skip_check)
    if crew is None:
        without_workers(settings, overrides)
    from mslab.training import finetuning, launching, loop

    name = Path(str(config)).stem
    if crew is not None and source is not None:
        run = launching.begin(lambda: finetuning.prepare_incremental(settings, source, report, name), settings, crew)
    elif crew is not None:
        run = launching.begin(lambda: loop.prepare(settings, report, name), settings, crew)
    elif source is not None:
        run = finetuning.incremental(settings, source, report=report, name=name).run
    else:
        run = loop.train(settings, report=report, name=name).run
    reported(run, no_report)


@job(app, "transfer")
def transfer(
    config: Config,
    backbone: Annotated[
        str, typer.Option("--backbone", metavar="FILE|RUN", help=".ckpt, .safetensors, .pth or .onnx, or a run")
    ],
    overrides: Overrides = None,
    only: Annotated[
        str | None,
        typer.Option("--only", metavar="REGEX", help="load only the parameters whose names it finds, the rest fresh"),
    ] = None,
    compare: Annotated[
        str | None,
        typer.Option(
            "--compare", metavar="WAYS", help="train each of scratch,frozen,finetune, and draw what they give"
        ),
    ] = None,
    fractions: Annotated[
        str | None, typer.Option(metavar="SHARES", help="with --compare: of the training images, such as 0.1,0.3,1.0")
    ] = None,
    seeds: Annotated[int | None, typer.Option(help="with --compare: seeds of each; 3 where not given", min=1)] = None,
    json_file: Json = None,
    skip_check: SkipCheck = False,
    workers: Workers = None,
    nodes: Nodes = 1,
    node_rank: NodeRank = 0,
    master: Master = "",
    dry_run: DryRun = False,
    no_report: NoReport = False,
) -> None:
    """Train a fresh head on a saved backbone; leaves a run folder under runs/."""
    crew = crew_of(workers, nodes, node_rank, master)
    if compare is not None and (crew is not None or dry_run):
        raise typer.BadParameter("--compare trains many small runs in this process: no --workers, no --dry-run")
    for name, value in (("--fractions", fractions), ("--seeds", seeds), ("--json", json_file)):
        if value is not None and compare is None:
            raise typer.BadParameter(f"{name} belongs to --compare")
    if compare is not None and only is not None:
        raise typer.BadParameter("--only and --compare do not go together")
    if dry_run:
        from mslab.config import load_config
        from mslab.training import launching

        print(launching.dry_run(load_config(config, overrides or []), crew))
        return
    settings, report = checked_config(config, overrides, skip_check)
    if compare is not None:
        from mslab.experiments import comparison

        ways, shares = comparison.parse(compare, fractions or "0.1,0.3,1.0")
        result = comparison.compare(settings, backbone, ways, shares, seeds or 3, report, Path(config).stem)
        write_json(json_file, result)
        if json_file != "-":
            print(comparison.table(result))
        return
    if crew is None:
        without_workers(settings, overrides)
    from mslab.training import finetuning, launching

    stem = Path(config).stem
    if crew is not None:
        prepare = lambda: finetuning.prepare_transfer(settings, backbone, report, stem, only)  # noqa: E731
        reported(launching.begin(prepare, settings, crew), no_report)
    else:
        reported(finetuning.transfer(settings, backbone, report=report, name=stem, only=only).run, no_report)


@job(app, "convert")
def convert(
    file: Annotated[str, typer.Argument(metavar="FILE", help="a ResNet's weights: .ckpt, .safetensors, .pth, .onnx")],
    to: Annotated[str, typer.Option("--to", metavar="FILE", help=".ckpt for mslab, .safetensors for PyTorch")],
    dialect: Annotated[
        str | None, typer.Option(metavar="NAME", help="whose names they are, where that cannot be told from them")
    ] = None,
) -> None:
    """Translate a ResNet's weights between projects, exactly; says whose they were and what was left out."""
    from mslab.checkpoint import converting

    for line in converting.convert(file, to, dialect):
        log.info(line)


@job(app, "watch")
def watch(
    run: Annotated[str, typer.Argument(metavar="RUN", help="a run folder, of a run that trains or has ended")],
    once: Annotated[bool, typer.Option("--once", help="draw it as it is now, and leave")] = False,
) -> int:
    """Draw the curves of a run in the terminal while it trains; ends with it, Ctrl-C does not stop the run."""
    from mslab.report import watching

    return watching.watch(run, once)


@job(app, "eval")
def evaluate(
    source: Annotated[str, typer.Argument(metavar="RUN|CKPT", help="a run folder (its best.ckpt) or a .ckpt file")],
    data: Annotated[str, typer.Option("--data", metavar="ROOT", help="class folders; of a parent, its test or val")],
    json_file: Json = None,
    device: Annotated[str, typer.Option(help="auto, cpu, gpu or ascend")] = "auto",
    tta: Annotated[
        bool, typer.Option("--tta", help="the mean of each image's and its mirror image's prediction")
    ] = False,
    skip_check: SkipCheck = False,
) -> None:
    """Measure a trained network on a folder of images."""
    devices.refuse(device, devices.missing_driver(device))
    report = checked(data, skip_content=skip_check)
    report.raise_errors()
    log.info(report.brief())
    from mslab.evaluation import measuring
    from mslab.report.show import figures_table

    result = measuring.evaluate(source, data, report=report, device=device, tta=tta)
    write_json(json_file, result)
    if json_file != "-":
        print(figures_table(result))


@job(app, "verify")
def verify(
    run: Annotated[str, typer.Argument(metavar="RUN", help="a run folder")],
    json_file: Json = None,
) -> int:
    """Compare each file of a run, and the checkpoint it began from, with the sha256 that its manifest noted."""
    from mslab.runs import manifest

    rows = manifest.verify(Path(run))
    ok = all(row["status"] in ("same", "left out") for row in rows)
    write_json(json_file, {"schema": 1, "run": run, "ok": ok, "files": rows})
    if json_file != "-":
        width = max(len(row["file"]) for row in rows)
        for row in rows:
            print(console.escape_control(f"{row['status']:<8}  {row['file']:<{width}}  {row['text']}", kept=""))
        print(f"{run}: " + (f"all {len(rows)} files are as the run left them" if ok else "not as the run left it"))
    return 0 if ok else 1


@job(app, "reproduce")
def reproduce_run(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="a finished run folder")] = None,
    overrides: Overrides = None,
    archive: Annotated[
        str | None, typer.Option("--from", metavar="ARCHIVE", help="unpack what mslab archive wrote, in RUN's place")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", metavar="FILE|RUN", help="where the parent checkpoint lies now")
    ] = None,
    other: Annotated[
        str | None, typer.Option("--with", metavar="OTHER_RUN", help="compare with this run; trains nothing")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="of accuracies; of losses five times as much, relative", min=0, max=1)
    ] = 0.02,
    install: Annotated[
        bool, typer.Option("--install", help="in a virtual environment of the recorded packages, removed afterwards")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="only say what differs now; exit 1 where that stops")
    ] = False,
    json_file: Json = None,
    no_report: NoReport = False,
) -> int:
    """Run a run again from what it recorded, and say whether its figures hold; exit 1 where they do not."""
    given = list(overrides or [])
    if archive and run and "=" in run:  # without RUN, the first setting is in its place
        given, run = [run, *given], None
    if (run is None) == (archive is None):
        raise typer.BadParameter("name a RUN, or --from ARCHIVE")
    if install and other is not None:
        raise typer.BadParameter("--with trains nothing: there is nothing to --install for")
    from mslab.reproduce import installing, opening, reproducing
    from mslab.runs.folder import Run
    from mslab.runtime.console import Meter

    if archive is not None:
        with Meter(1) as meter:
            run = str(opening.unpack(archive, meter.counted("unpacking")))
        log.info("%s: unpacked to %s", archive, run)
    if install:
        options = {"--backbone": backbone, "--tolerance": tolerance, "--json": json_file}
        flags = [flag for flag, asked in (("--dry-run", dry_run), ("--no-report", no_report)) if asked]
        named = [str(part) for name, value in options.items() if value is not None for part in (name, value)]
        return installing.run_in_own(Run.read(str(run)), ["reproduce", str(run), *given, *named, *flags])
    wish = reproducing.Wish(given, backbone, other, tolerance, dry_run)
    result = reproducing.reproduce(str(run), wish, log.info if json_file == "-" else print)
    write_json(json_file, result.to_dict())
    if result.error:
        raise result.error
    reported(result.again if result.trained else None, no_report)
    return 0 if result.held else 1


@job(app, "reproduce-all")
def reproduce_all(
    names: Annotated[list[str] | None, typer.Argument(metavar="[RECIPE]...", help="all small ones if none")] = None,
    fastest: Annotated[bool, typer.Option("--fastest", help="only the fastest one")] = False,
    record: Annotated[
        bool, typer.Option("--record", help="train them and keep what they leave as what was measured")
    ] = False,
    tolerance: Annotated[
        float, typer.Option(help="of accuracies; of losses five times as much, relative", min=0, max=1)
    ] = 0.05,
    json_file: Json = None,
) -> int:
    """Run the small recipes of configs/ again and compare with what was measured; exit 1 where one does not hold."""
    if names and fastest:
        raise typer.BadParameter("--fastest is one recipe; name recipes, or ask for the fastest")
    if record and (fastest or json_file):
        raise typer.BadParameter("--record trains and keeps; --fastest and --json are of a comparison")
    from mslab.reproduce import recipes

    if record:
        recipes.record(names or [])
        return 0
    rows = recipes.reproduce_all(names or [], fastest, tolerance)
    write_json(json_file, {"schema": 1, "recipes": rows})
    if json_file != "-":
        print(recipes.table(rows))
    return 1 if any(row["verdict"] == "different" for row in rows) else 0


@job(app, "archive")
def archive_run(
    run: Annotated[str, typer.Argument(metavar="RUN", help="a finished run folder")],
    data: Annotated[bool, typer.Option("--data", help="with the images it was trained and measured on")] = False,
    no_weights: Annotated[bool, typer.Option("--no-weights", help="without best.ckpt and best_backbone.ckpt")] = False,
    out: Annotated[str | None, typer.Option("--out", metavar="FILE.zip", help="RUN.zip where not given")] = None,
) -> None:
    """Pack a run with all that repeating it elsewhere needs: mslab reproduce --from FILE.zip."""
    from mslab.reproduce import archiving
    from mslab.runtime.console import Meter

    with Meter(1) as meter:
        packed = archiving.archive(run, out, data, not no_weights, meter.counted("packing"))
    log.info("%s; mslab reproduce --from %s repeats it", packed, packed.file)


@job(app, "report")
def report(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="one run with its images, or several compared")],
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE.html", help="RUN/report.html; of several, report.html")
    ] = None,
    lang: Annotated[str, typer.Option(help="en or zh")] = "en",
    device: Annotated[str, typer.Option(help="auto, cpu, gpu or ascend")] = "auto",
) -> None:
    """Write what runs learned and where they fail as one HTML file: curves, mistakes, heat maps, figures."""
    if lang not in ("en", "zh"):
        raise typer.BadParameter(f"--lang {lang}: the report speaks en and zh")
    devices.refuse(device, devices.missing_driver(device))
    from mslab.report.writing import write_report

    log.info("%s: open it in a browser", write_report(runs, out, lang, device))


@job(app, "predict")
def predict_images(
    source: Annotated[str, typer.Argument(metavar="RUN|FILE", help="a run, or a .ckpt, .mindir or .onnx file")],
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE|FOLDER|PATTERN|-...", help="- is standard input, a file a line")
    ],
    json_file: Json = None,
    jsonl_file: Annotated[
        str | None, typer.Option("--jsonl", metavar="FILE|-", help="one JSON object an image and line")
    ] = None,
    csv_file: Annotated[
        str | None, typer.Option("--csv", metavar="FILE|-", help="a row an image, a column a class")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, gpu or ascend")] = "auto",
    batch_size: Annotated[
        int | None, typer.Option(metavar="N", help="images a step; by the image size where not given", min=1, max=4096)
    ] = None,
) -> int:
    """Say what images show, with the probability of every class; exit 1 where some could not be read."""
    targets = {"json": json_file, "jsonl": jsonl_file, "csv": csv_file}
    if list(targets.values()).count("-") > 1:
        raise typer.BadParameter("only one of --json, --jsonl and --csv can go to standard output")
    devices.refuse(device, devices.missing_driver(device))
    from mslab.inference import predicting

    files = predicting.expand(images, sys.stdin)
    model = predicting.open_model(source, device, batch_size)
    rows = list(predicting.predict(model, files))
    predicting.write(rows, model.class_names, targets)
    if "-" not in targets.values():
        print(predicting.table(rows))
    return 1 if any(row["error"] for row in rows) else 0


@job(app, "serve")
def serve_network(
    source: Annotated[str, typer.Argument(metavar="RUN|FILE", help="a run, or a .ckpt, .mindir or .onnx file")],
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="another one lets other machines ask")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes any free one", min=0, max=65535)] = 8000,
    device: Annotated[str, typer.Option(help="auto, cpu, gpu or ascend")] = "auto",
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
def export_network(
    source: Annotated[str, typer.Argument(metavar="RUN|CKPT", help="a run folder (its best.ckpt) or a .ckpt file")],
    kind: Annotated[str, typer.Option("--format", metavar="mindir|onnx", help="MindSpore's graphs, or everybody's")],
    out: Annotated[
        str | None, typer.Option("--out", metavar="FILE", help="beside the checkpoint where not given")
    ] = None,
    data: Annotated[
        str | None, typer.Option("--data", metavar="ROOT", help="images to compare on; the run's val_data")
    ] = None,
    json_file: Json = None,
) -> None:
    """Write a network as a graph that runs without mslab, and compare its answers with the checkpoint's."""
    if kind not in ("mindir", "onnx"):
        raise typer.BadParameter(f"--format {kind}: graphs are written as mindir or onnx")
    from mslab.inference import export

    result = export.export_run(source, kind, out, data)
    write_json(json_file, result)
    if json_file != "-":
        print(export.summary(result))


@job(app, "suspects")
def find_suspects(
    source: Annotated[str, typer.Argument(metavar="RUN|CKPT", help="whose features tell the classes apart")],
    data: Annotated[str, typer.Option("--data", metavar="ROOT", help="class folders, or train, val and test of them")],
    out: Annotated[
        str | None, typer.Option("--out", metavar="FOLDER", help="for suspects.csv and suspects.html; the run's own")
    ] = None,
    folds: Annotated[int, typer.Option(help="of a split; each is judged by what the others show", min=2)] = 5,
    json_file: Json = None,
    device: Annotated[str, typer.Option(help="auto, cpu, gpu or ascend")] = "auto",
    skip_check: SkipCheck = False,
) -> None:
    """List images whose label is probably wrong, for a person to look at; changes nothing."""
    devices.refuse(device, devices.missing_driver(device))
    report = checked(data, skip_content=skip_check)
    report.raise_errors()
    from mslab.report import suspects

    found = suspects.find(source, data, report, folds, device)
    for path in suspects.write(found, Path(out or (source if Path(source).is_dir() else "."))):
        log.info("%s", path)
    write_json(json_file, found.to_dict())
    if json_file != "-":
        print(found)


@job(app, "pack")
def pack_run(
    runs: Annotated[list[str], typer.Argument(metavar="[NAME=]RUN...", help="NAME/ is the run's folder inside")],
    out: Annotated[str, typer.Option("--out", metavar="FILE.zip", help="named as you are")],
    more: Annotated[
        list[str] | None, typer.Option("--add", metavar="[NAME=]FILE", help="another file; may be given again")
    ] = None,
    rubric: Annotated[str | None, typer.Option("--rubric", metavar="FILE", help="say at once what is missing")] = None,
    public: Annotated[bool, typer.Option("--public", help="only the rubric's public items")] = False,
) -> int:
    """Make a submission of runs, and look at it as the grader will; exit 1 where something is missing."""
    if public and rubric is None:
        raise typer.BadParameter("--public is of a --rubric")
    from mslab.grade import handin

    file = handin.pack(runs, out, more or [])
    log.info("%s: %.1f MiB", file, file.stat().st_size / 2**20)
    if rubric is None:
        return 0
    known, outcomes = handin.look(file, rubric, public)
    print(console.escape_control(handin.table(known, outcomes)))
    return 1 if any(outcome and outcome.status in ("none", "part") for outcome in outcomes.values()) else 0


@job(app, "grade")
def grade_class(
    rubric: Annotated[str, typer.Option("--rubric", metavar="FILE", help="what is looked at, and its points")],
    data: Annotated[str, typer.Option("--data", metavar="FOLDER", help="the hidden images, as the rubric names them")],
    submissions: Annotated[
        str | None, typer.Argument(metavar="[SUBMISSIONS]", help="one zip, tar or folder a student")
    ] = None,
    out: Annotated[
        str | None, typer.Option("--out", metavar="FOLDER", help="for grades and feedback; nothing else is touched")
    ] = None,
    gradescope_package: Annotated[
        str | None,
        typer.Option("--gradescope-package", metavar="FILE.zip", help="write Gradescope's autograder instead"),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option("--jobs", metavar="N", help="submissions at a time; one a core", min=1)
    ] = None,
    times: Annotated[
        str | None, typer.Option("--times", metavar="FILE.csv", help="id, submitted, attempt: for lateness")
    ] = None,
    last_year: Annotated[
        str | None, typer.Option("--last-year", metavar="FOLDER", help="earlier submissions, to compare with")
    ] = None,
    moodle: Annotated[bool, typer.Option("--moodle", help="write moodle.csv, too")] = False,
    canvas: Annotated[bool, typer.Option("--canvas", help="write canvas.csv, too")] = False,
    seconds: Annotated[float, typer.Option(help="a submission may take", min=1)] = 300.0,
    gigabytes: Annotated[float, typer.Option(help="of memory a submission may take", min=0.5)] = 4.0,
    run_code: Annotated[
        bool, typer.Option("--run-code", help="run students' model code in bubblewrap, where the rubric has `code`")
    ] = False,
) -> None:
    """Grade a class: accuracy on hidden images, settings, provenance, claims; no student's code runs unasked."""
    if gradescope_package is not None:
        if submissions or out or run_code:
            raise typer.BadParameter("--gradescope-package grades nothing: no SUBMISSIONS, no --out, no --run-code")
        from mslab.grade import gradescope

        log.info("%s: upload it as the autograder", gradescope.package(rubric, data, Path(gradescope_package)))
        return
    if submissions is None or out is None:
        raise typer.BadParameter("SUBMISSIONS and --out FOLDER, or --gradescope-package FILE.zip")
    from mslab.grade import grading, sandbox

    limits = sandbox.Limits(seconds=seconds, memory=int(gigabytes * 2**30))
    options = grading.Options(
        jobs, Path(times) if times else None, Path(last_year) if last_year else None, moodle, canvas, limits, run_code
    )
    graded = grading.grade(submissions, rubric, data, out, options)
    print(console.escape_control(grading.table(graded, Path(out))))


@job(bench_app, "transfer")
def bench_transfer(
    config: Config,
    backbone: Annotated[str, typer.Option("--backbone", metavar="FILE|RUN", help="a .ckpt file, or a run")],
    overrides: Overrides = None,
    json_file: Json = None,
) -> None:
    """Head-only transfer with cached features beside the same job without; each in a fresh process."""
    from benchmarks import transfer

    rows = transfer.bench_transfer(config, backbone, overrides or [], log.info)
    write_json(json_file, rows)
    if json_file != "-":
        print(transfer.table(rows))


@job(bench_app, "bookkeeping")
def bench_bookkeeping(
    config: Config,
    overrides: Overrides = None,
    repeats: Annotated[int, typer.Option(help="runs of each; the median counts", min=1)] = 3,
    json_file: Json = None,
) -> None:
    """A training run with and without its manifest, hashes, tables and log, turn by turn."""
    from benchmarks import bookkeeping

    settings, report = checked_config(config, overrides, skip_check=True)
    rows = bookkeeping.bench_bookkeeping(settings, report, repeats, Path("runs") / "bookkeeping", log.info)
    write_json(json_file, {"rows": rows} | bookkeeping.summary(rows))
    if json_file != "-":
        print(bookkeeping.table(rows))


@job(bench_app, "data")
def bench_data(
    images: Annotated[
        list[int], typer.Option("--images", metavar="N", help="how many, from 100; may be given again", min=100)
    ] = [1000],  # noqa: B006
    size: Annotated[int, typer.Option("--size", metavar="PIXELS", help="image_size of training")] = 64,
    folder: Annotated[
        str | None, typer.Option("--folder", metavar="FOLDER", help="keep the drawn images here for another time")
    ] = None,
    json_file: Json = None,
) -> None:
    """The data pipeline with no network: folders, packs and caches, start-up and memory, as images grow in number."""
    from benchmarks import pipeline

    rows = pipeline.bench_data(images, size, Path(folder) if folder else None, log.info)
    training = pipeline.training_speed(size)
    write_json(json_file, {"rows": rows, "training_images_per_s": training})
    if json_file != "-":
        print(pipeline.table(rows, size, training))


@job(bench_app, "check")
def bench_check(
    images: Annotated[list[int], typer.Option("--images", metavar="N", help="how many; may be given again")] = [1000],  # noqa: B006
    peers: Annotated[
        str | None, typer.Option("--peers", metavar="PYTHON", help="a Python with cleanvision and imagededup")
    ] = None,
    repeats: Annotated[int, typer.Option(help="runs of each; the median counts", min=1)] = 3,
    folder: Annotated[
        str | None, typer.Option("--folder", metavar="FOLDER", help="keep the drawn images here for another time")
    ] = None,
    json_file: Json = None,
) -> None:
    """The dataset checker beside a bare parallel Pillow decode, and beside CleanVision and imagededup."""
    from benchmarks import check

    rows = check.bench_check(images, peers, repeats, Path(folder) if folder else None, log.info)
    write_json(json_file, rows)
    if json_file != "-":
        print(check.table(rows))


@job(bench_app, "train")
def bench_train(
    size: Annotated[int, typer.Option(help="pixels of an image's side", min=8)] = 64,
    batch: Annotated[int | None, typer.Option(help="images in a step; 32, from 224 pixels on 8", min=1)] = None,
    repeats: Annotated[int, typer.Option(help="blocks of each; the median counts", min=1)] = 7,
    peers: Annotated[
        str | None, typer.Option("--peers", metavar="PYTHON", help="a Python with torch and torchvision")
    ] = None,
    json_file: Json = None,
) -> None:
    """ResNet-50 beside PyTorch and mindcv, training and inference, blocks of steps going round among them."""
    from benchmarks import speed

    rows = speed.bench_train(size, batch or (8 if size >= 224 else 32), repeats, peers, progress=log.info)
    write_json(json_file, rows)
    if json_file != "-":
        print(speed.table(rows))


@job(bench_app, "knobs")
def bench_knobs(
    config: Config,
    overrides: Overrides = None,
    seeds: Annotated[int, typer.Option(help="runs of each knob", min=1)] = 3,
    json_file: Json = None,
) -> None:
    """What label smoothing, mixup, cutmix, a mean of the weights, balance … are worth: each alone, on test images."""
    settings, report = checked_config(config, overrides, skip_check=False)
    test = checked(str(Path(settings.train_data).with_name("test")))
    test.raise_errors()
    from benchmarks import knobs

    rows = knobs.bench_knobs(settings, seeds, report, test, log.info)
    write_json(json_file, rows)
    if json_file != "-":
        print(knobs.table(rows))


@job(bench_app, "predict")
def bench_predict(
    source: Annotated[str | None, typer.Argument(metavar="[RUN|CKPT]", help="without it, ResNet-50")] = None,
    size: Annotated[int, typer.Option(help="pixels of an image's side, without RUN", min=8)] = 64,
    images: Annotated[int, typer.Option(help="in a turn", min=1)] = 250,
    repeats: Annotated[int, typer.Option(help="turns of each; the median counts", min=1)] = 7,
    json_file: Json = None,
) -> None:
    """Answering images as mslab predict does beside the bare forward pass, over batch sizes."""
    from benchmarks import predictions

    rows = predictions.bench_predict(source, size, images, repeats, progress=log.info)
    write_json(json_file, rows)
    if json_file != "-":
        print(predictions.table(rows))


@job(bench_app, "grade")
def bench_grade(
    students: Annotated[int, typer.Option(help="submissions", min=1)] = 200,
    large: Annotated[int, typer.Option(help="of them with a ResNet-50; the rest are small", min=0)] = 20,
    jobs: Annotated[int | None, typer.Option("--jobs", help="at a time; one a core", min=1)] = None,
    json_file: Json = None,
) -> None:
    """A generated class, graded twice: time, memory, and what a second grading costs."""
    from benchmarks import grading

    found = grading.bench_grade(students, large, jobs, log.info)
    write_json(json_file, found)
    if json_file != "-":
        print(grading.table(found))


@job(bench_app, "profile")
def bench_profile(
    size: Annotated[int, typer.Option(help="pixels of an image's side", min=8)] = 64,
    batch: Annotated[int | None, typer.Option(help="images in a step; 32, from 224 pixels on 8", min=1)] = None,
    json_file: Json = None,
) -> None:
    """Where the time of a training step on a CPU goes, by kind of operator and by size of feature map."""
    from benchmarks import steptime

    batch = batch or (8 if size >= 224 else 32)
    rows = steptime.bench_profile(size, batch, progress=log.info)
    write_json(json_file, rows)
    if json_file != "-":
        print(steptime.table(rows, size, batch))
