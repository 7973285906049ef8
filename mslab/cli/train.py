"""Training: from scratch, on from saved weights, alone or with several workers; and what can be known before it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, BadParameter, Option

from mslab.cli import options
from mslab.cli.options import app, checked_config, emit, job, log, picture, print_text, report_run
from mslab.errors import ConfigError

if TYPE_CHECKING:
    from mslab.config import Settings
    from mslab.training.launching import Cluster


@job(app, "doctor")
def doctor(json_file: options.Json = None) -> int:
    """Look whether training works on this machine, and how fast; exit 1 where it would fail or crawl."""
    from mslab.doctor.diagnosis import diagnose

    diagnosis = diagnose(log.info)
    emit(diagnosis.to_dict(), json_file, lambda: diagnosis)
    return 0 if diagnosis.ok else 1


@job(app, "show")
def show(
    config: Annotated[str | None, Argument(metavar="[CONFIG]", help="a YAML file; without it, ResNet-50")] = None,
    overrides: options.Overrides = None,
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
    from mslab.config import load_settings

    if schedule:
        from mslab.report import plots

        print_text(plots.draw_schedule(load_settings(str(config), overrides or []), picture(config, "schedule", out)))
    elif augment:
        settings, report = checked_config(str(config), overrides, skip_check=True)
        from mslab.report.show import augment_sheet

        print_text(augment_sheet(settings, picture(config, "augment", out), report))
    else:
        from mslab.report.show import show_network

        print_text(show_network(config, overrides or []))


@job(app, "train")
def train(
    config: options.MaybeConfig = None,
    overrides: options.Overrides = None,
    resume: Annotated[str | None, Option(metavar="RUN", help="continue this run in its folder")] = None,
    source: Annotated[
        str | None,
        Option("--from", metavar="RUN|FILE", help="incremental: begin from this network, classes kept by name"),
    ] = None,
    skip_check: options.SkipCheck = False,
    workers: options.Workers = None,
    nodes: options.Nodes = 1,
    node_rank: options.NodeRank = 0,
    master: options.Master = "",
    dry_run: options.DryRun = False,
    no_report: options.NoReport = False,
) -> None:
    """Train from scratch, or on from a network; leaves a run folder under runs/."""
    if (config is None) == (resume is None) or (resume and source):
        raise ConfigError(
            "mslab train takes a CONFIG (--from RUN with it, if it is to go on from there) or --resume RUN.",
            expected="mslab train configs/mushrooms9.yaml, or mslab train --resume runs/…",
            fix="a resumed run goes on with its own config" if config else "name one",
        )
    cluster = cluster_of(workers, nodes, node_rank, master)
    if dry_run and resume:
        raise BadParameter("--dry-run is of a CONFIG, such as the run's config.yaml")
    if dry_run:
        print_launch(str(config), overrides, cluster)
        return
    if resume is not None:
        from mslab.training import start

        result = start.resume(resume, cluster)
        report_run(result.run if result.seconds else "", no_report)
        return
    settings, report = checked_config(str(config), overrides, skip_check)
    refuse_idle(settings, overrides, cluster)
    from mslab.training import finetuning, start

    parent = finetuning.network_of(source) if source else None
    result = start.run(start.Job(settings, report, Path(str(config)).stem, parent), cluster)
    report_run(result.run, no_report)


@job(app, "transfer")
def transfer(
    config: options.Config,
    backbone: options.Parent,
    overrides: options.Overrides = None,
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
    json_file: options.Json = None,
    skip_check: options.SkipCheck = False,
    workers: options.Workers = None,
    nodes: options.Nodes = 1,
    node_rank: options.NodeRank = 0,
    master: options.Master = "",
    dry_run: options.DryRun = False,
    no_report: options.NoReport = False,
) -> None:
    """Train a fresh head on a saved backbone; leaves a run folder under runs/."""
    cluster = cluster_of(workers, nodes, node_rank, master)
    if compare is not None and (cluster is not None or dry_run):
        raise BadParameter("--compare trains many small runs in this process: no --workers, no --dry-run")
    for name, value in (("--fractions", fractions), ("--seeds", seeds), ("--json", json_file)):
        if value is not None and compare is None:
            raise BadParameter(f"{name} belongs to --compare")
    if compare is not None and only is not None:
        raise BadParameter("--only and --compare do not go together")
    if dry_run:
        print_launch(config, overrides, cluster)
        return
    settings, report = checked_config(config, overrides, skip_check)
    stem = Path(config).stem
    if compare is not None:
        from mslab.experiments import comparison

        ways, shares = comparison.parse(compare, fractions or "0.1,0.3,1.0")
        result = comparison.compare(settings, backbone, ways, shares, seeds or 3, report, stem)
        emit(result, json_file, lambda: comparison.table(result))
        return
    refuse_idle(settings, overrides, cluster)
    from mslab.training import finetuning, start

    done = start.run(start.Job(settings, report, stem, finetuning.backbone_of(backbone, only)), cluster)
    report_run(done.run, no_report)


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


def cluster_of(workers: int | None, nodes: int, node_rank: int, master: str) -> "Cluster | None":
    """The workers that the command line asks for, checked; None for this process alone."""
    if workers is None and (nodes, node_rank, master) != (1, 0, ""):
        raise BadParameter("--nodes, --node-rank and --master belong to --workers")
    if workers is None:
        return None
    from mslab.training.launching import Cluster

    cluster = Cluster(workers, nodes, node_rank, master)
    cluster.check()
    return cluster if workers > 1 else None


def refuse_idle(settings: "Settings", overrides: list[str] | None, cluster: "Cluster | None") -> None:
    """Say that a setting for several workers does nothing with one; ConfigError where it was just asked for."""
    for name, idle in (("sync_bn", False), ("lr_scaling", "none")):
        value = getattr(settings, name)
        if cluster is not None or value == idle:
            continue
        if any(text.startswith(f"{name}=") for text in overrides or []):
            raise ConfigError(
                f"{name}={value} does nothing here: one worker trains.",
                expected="several workers, whose images or learning rates it is about",
                fix="--workers 2, or leave it out",
            )
        log.info(f"note: {name}: {value} does nothing here: one worker trains")


def print_launch(config: str, overrides: list[str] | None, cluster: "Cluster | None") -> None:
    """--dry-run: what would be called and launched."""
    from mslab.config import load_settings
    from mslab.training import launching

    print_text(launching.dry_run(load_settings(config, overrides or []), cluster))
