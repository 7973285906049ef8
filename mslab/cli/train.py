"""Training: from scratch, on from saved weights, alone or with several workers; and what can be known before it."""

import functools
import logging
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, BadParameter, Option

from mslab.cli.options import (
    Config,
    DryRun,
    Json,
    Master,
    MaybeConfig,
    NodeRank,
    Nodes,
    NoReport,
    Overrides,
    Parent,
    SkipCheck,
    Workers,
    app,
    checked_config,
    emit,
    job,
    picture,
    print_text,
    report_run,
)
from mslab.errors import ConfigError

log = logging.getLogger("mslab")


@job(app, "doctor")
def doctor(json_file: Json = None) -> int:
    """Look whether training works on this machine, and how fast; exit 1 where it would fail or crawl."""
    from mslab.doctor.diagnosis import diagnose

    diagnosis = diagnose(log.info)
    emit(diagnosis.to_dict(), json_file, lambda: diagnosis)
    return 0 if diagnosis.ok else 1


@job(app, "show")
def show(
    config: Annotated[str | None, Argument(metavar="[CONFIG]", help="a YAML file; without it, ResNet-50")] = None,
    overrides: Overrides = None,
    schedule: Annotated[bool, Option("--schedule", help="the learning rate over the epochs, as a picture")] = False,
    augment: Annotated[
        bool, Option("--augment", help="training images as the network sees them, with labels, as a picture")
    ] = False,
    out: Annotated[
        str | None, Option(metavar="FILE.png", help="where the picture goes; CONFIG-schedule.png, …")
    ] = None,
) -> None:
    """Print the network stage by stage: output shape, parameters, what is frozen, from a real forward pass."""
    if schedule and augment:
        raise BadParameter("--schedule and --augment are two pictures; ask for one")
    if (schedule or augment) and config is None:
        raise BadParameter("--schedule and --augment are of a CONFIG")
    if out is not None and not (schedule or augment):
        raise BadParameter("--out belongs to --schedule or --augment")
    from mslab.config import load_config

    if schedule:
        from mslab.report import plots

        print_text(plots.draw_schedule(load_config(str(config), overrides or []), picture(config, "schedule", out)))
    elif augment:
        settings, report = checked_config(str(config), overrides, skip_check=True)
        from mslab.report.show import augment_sheet

        print_text(augment_sheet(settings, picture(config, "augment", out), report))
    else:
        from mslab.report.show import show_network

        print_text(show_network(config, overrides or []))


@job(app, "train")
def train(
    config: MaybeConfig = None,
    overrides: Overrides = None,
    resume: Annotated[str | None, Option(metavar="RUN", help="continue this run in its folder")] = None,
    source: Annotated[
        str | None,
        Option("--from", metavar="RUN|FILE", help="incremental: begin from this network, classes kept by name"),
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
        raise BadParameter("--dry-run is of a CONFIG, such as the run's config.yaml")
    if dry_run:
        print_launch(str(config), overrides, crew)
        return
    if resume is not None:
        report_run(resume_run(resume, crew), no_report)
        return
    settings, report = checked_config(str(config), overrides, skip_check)
    if crew is None:
        without_workers(settings, overrides)
    report_run(start(settings, report, Path(str(config)).stem, crew, source=source), no_report)


@job(app, "transfer")
def transfer(
    config: Config,
    backbone: Parent,
    overrides: Overrides = None,
    only: Annotated[
        str | None, Option(metavar="REGEX", help="load only the parameters whose names it finds, the rest fresh")
    ] = None,
    compare: Annotated[
        str | None, Option(metavar="WAYS", help="train each of scratch,frozen,finetune, and draw what they give")
    ] = None,
    fractions: Annotated[
        str | None, Option(metavar="SHARES", help="with --compare: of the training images, such as 0.1,0.3,1.0")
    ] = None,
    seeds: Annotated[int | None, Option(help="with --compare: seeds of each; 3 where not given", min=1)] = None,
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
        raise BadParameter("--compare trains many small runs in this process: no --workers, no --dry-run")
    for name, value in (("--fractions", fractions), ("--seeds", seeds), ("--json", json_file)):
        if value is not None and compare is None:
            raise BadParameter(f"{name} belongs to --compare")
    if compare is not None and only is not None:
        raise BadParameter("--only and --compare do not go together")
    if dry_run:
        print_launch(config, overrides, crew)
        return
    settings, report = checked_config(config, overrides, skip_check)
    stem = Path(config).stem
    if compare is not None:
        from mslab.experiments import comparison

        ways, shares = comparison.parse(compare, fractions or "0.1,0.3,1.0")
        result = comparison.compare(settings, backbone, ways, shares, seeds or 3, report, stem)
        emit(result, json_file, lambda: comparison.table(result))
        return
    if crew is None:
        without_workers(settings, overrides)
    report_run(start(settings, report, stem, crew, backbone=backbone, only=only), no_report)


@job(app, "convert")
def convert(
    file: Annotated[str, Argument(metavar="FILE", help="a ResNet's weights: .ckpt, .safetensors, .pth, .onnx")],
    to: Annotated[str, Option(metavar="FILE", help=".ckpt for mslab, .safetensors for PyTorch")],
    dialect: Annotated[
        str | None, Option(metavar="NAME", help="whose names they are, where that cannot be told from them")
    ] = None,
) -> None:
    """Translate a ResNet's weights between projects, exactly; says whose they were and what was left out."""
    from mslab.checkpoint import converting

    for line in converting.convert(file, to, dialect):
        log.info(line)


# --- alone, or with several workers ----------------------------------------------------------------------------------


def crew_of(workers: int | None, nodes: int, node_rank: int, master: str) -> Any:
    """The workers that the command line asks for, checked; None for this process alone."""
    if workers is None and (nodes, node_rank, master) != (1, 0, ""):
        raise BadParameter("--nodes, --node-rank and --master belong to --workers")
    if workers is None:
        return None
    from mslab.training.launching import Crew

    crew = Crew(workers, nodes, node_rank, master)
    crew.check()
    return crew if workers > 1 else None


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


def print_launch(config: str, overrides: list[str] | None, crew: Any) -> None:
    """--dry-run: what would be called and launched."""
    from mslab.config import load_config
    from mslab.training import launching

    print_text(launching.dry_run(load_config(config, overrides or []), crew))


def start(
    settings: Any,
    report: Any,
    name: str,
    crew: Any,
    source: str | None = None,
    backbone: str | None = None,
    only: str | None = None,
) -> str | Path | None:
    """Train from scratch, on from the network `source`, or a head on `backbone`; alone where `crew` is None.

    Returns the run's folder, None on all machines but the first.
    """
    from mslab.training import finetuning, launching, loop

    if backbone is not None:
        prepare = functools.partial(finetuning.prepare_transfer, settings, backbone, report, name, only)
        alone = functools.partial(finetuning.transfer, settings, backbone, only=only)
    elif source is not None:
        prepare = functools.partial(finetuning.prepare_incremental, settings, source, report, name)
        alone = functools.partial(finetuning.incremental, settings, source)
    else:
        prepare = functools.partial(loop.prepare, settings, report, name)
        alone = functools.partial(loop.train, settings)
    return launching.begin(prepare, settings, crew) if crew else alone(report=report, name=name).run


def resume_run(run: str, crew: Any) -> str | Path | None:
    """Continue a run. Returns its folder, None where nothing was left to train or another machine has it."""
    from mslab.training import launching, loop

    if crew:
        return launching.resume(run, crew)
    done = loop.resume(run)
    return done.run if done.seconds else None
