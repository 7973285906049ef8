"""Commands that train a network, from scratch or from saved weights, and those used before: doctor, show, convert."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, BadParameter, Option

from mslab.cli import options
from mslab.cli.options import app, checked_config, emit, found, job, log, picture, print_text, report_run
from mslab.cli.outputs import OutputOption
from mslab.errors import ConfigError
from mslab.files import kind_of
from mslab.runs import naming
from mslab.runtime import console

if TYPE_CHECKING:
    from mslab.config import Settings
    from mslab.training.launching import Cluster


@job(app, "doctor")
def doctor(json_file: options.Json = None) -> int:
    """Check whether training works on this machine, and how fast; exit 1 if it would fail or be very slow."""
    from mslab.doctor.diagnosis import diagnose

    diagnosis = diagnose(functools.partial(log.info, extra=console.PROSE))
    emit(diagnosis.to_dict(), json_file, lambda: diagnosis)
    return 0 if diagnosis.ok else 1


@job(app, "show")
def show(
    config: Annotated[
        str | None, Argument(metavar="[CONFIG|RUN]", help="a YAML file with settings, or a run (default: ResNet-50)")
    ] = None,
    overrides: options.Overrides = None,
    schedule: Annotated[bool, Option("--schedule", help="draw the learning rate over the epochs instead")] = False,
    augment: Annotated[
        bool, Option("--augment", help="draw training images as the network sees them, with labels, instead")
    ] = False,
    out: Annotated[
        str | None,
        Option(metavar="FILE.png", help="target file of the picture (default: CONFIG-schedule.png or the like)"),
        options.PICTURE,
    ] = None,
) -> None:
    """Print the network stage by stage, from a real forward pass: output shapes, parameters, frozen parts."""
    if schedule and augment:
        raise BadParameter("--schedule and --augment draw one picture each: give one of them")
    if (schedule or augment) and config is None:
        raise BadParameter("--schedule and --augment need a CONFIG")
    if out is not None and not (schedule or augment):
        raise BadParameter("--out needs --schedule or --augment")
    from mslab.config import load_settings
    from mslab.config.tasks import CLASSIFY
    from mslab.runs.finding import config_of

    if config is not None and "=" in config and not schedule and not augment and not Path(config).exists():
        overrides, config = [config, *(overrides or [])], None  # mslab show network=NAME
    if config is not None:
        config = str(config_of(config))
    if schedule:
        from mslab.report import plots

        print_text(plots.draw_schedule(load_settings(str(config), overrides or []), picture(config, "schedule", out)))
    elif augment:
        settings, report = checked_config(str(config), overrides, skip_check=True)
        target = picture(config, "augment", out)
        if settings.task == CLASSIFY:
            from mslab.report.show import augment_sheet

            print_text(augment_sheet(settings, target, report))
        else:
            from mslab.report import task_sheet

            print_text(task_sheet.augment_sheet(settings, target, report))
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
        Option(
            "--from", metavar="RUN|FILE", help="incremental training: start from this network, match classes by name"
        ),
    ] = None,
    name: options.Name = None,
    skip_check: options.SkipCheck = False,
    workers: options.Workers = None,
    nodes: options.Nodes = 1,
    node_rank: options.NodeRank = 0,
    master: options.Master = "",
    dry_run: options.DryRun = False,
    no_report: options.NoReport = False,
) -> None:
    """Train from scratch, or continue from a trained network. Writes a run folder under runs/."""
    if resume is not None and config and "=" in config and not kind_of(Path(config), links=True):
        overrides = [config, *(overrides or [])]  # --resume RUN KEY=VALUE …
        config = None
    if (config is None) == (resume is None) or (resume and source):
        raise ConfigError(
            "mslab train takes either a CONFIG, with --from RUN to start from a trained network, or --resume RUN.",
            expected="mslab train configs/mushrooms9.yaml, or mslab train --resume latest",
            fix="leave CONFIG out: a resumed run uses its own config, with KEY=VALUE for what may change"
            if config
            else "give one of the two",
        )
    if resume is not None and name is not None:
        raise BadParameter("--name is for a new run: a resumed one keeps its folder")
    cluster = cluster_of(workers, nodes, node_rank, master)
    if dry_run and resume:
        raise BadParameter("--dry-run takes a CONFIG, such as the run's config.yaml, not --resume")
    if dry_run:
        print_launch(str(config), overrides, cluster)
        return
    if resume is not None:
        with console.working("starting MindSpore …"):
            from mslab.training import start

        result = start.resume(resume, cluster, overrides or [])
        report_run(result.run if result.seconds else "", no_report)
        return
    called = naming.name_of(config, name)
    network = found(source, str(config), overrides) if source is not None else None
    settings, report = checked_config(str(config), overrides, skip_check, network=network)
    refuse_idle(settings, overrides, cluster)
    with console.working("starting MindSpore …"):
        from mslab.training import start  # it loads scikit-learn before MindSpore

    parent = start.finetuning.network_of(network) if network else None
    result = start.run(start.Job(settings, report, called, parent), cluster)
    report_run(result.run, no_report)


@job(app, "transfer")
def transfer(
    config: options.Config,
    backbone: options.Parent,
    overrides: options.Overrides = None,
    only: Annotated[
        str | None,
        Option(metavar="REGEX", help="load the parameters whose names match; initialize the others at random"),
    ] = None,
    compare: Annotated[
        str | None,
        Option(metavar="METHODS", help="train with scratch,frozen,finetune or some of them and draw the results"),
    ] = None,
    fractions: Annotated[
        str | None,
        Option(metavar="FRACTIONS", help="with --compare: fractions of the training images, such as 0.1,0.3,1.0"),
    ] = None,
    seeds: Annotated[int | None, Option(help="with --compare: seeds per method (default: 3)", min=1)] = None,
    dialect: options.Dialect = "",
    weights: options.Weights = "",
    allow_hash_mismatch: options.AnyHash = False,
    name: options.Name = None,
    json_file: options.Json = None,
    skip_check: options.SkipCheck = False,
    workers: options.Workers = None,
    nodes: options.Nodes = 1,
    node_rank: options.NodeRank = 0,
    master: options.Master = "",
    dry_run: options.DryRun = False,
    no_report: options.NoReport = False,
) -> None:
    """Train a new head on a saved backbone (transfer learning). Writes a run folder under runs/."""
    cluster = cluster_of(workers, nodes, node_rank, master)
    if compare is not None and (cluster is not None or dry_run):
        raise BadParameter("--compare trains many small runs in this process: leave out --workers and --dry-run")
    refuse_without_compare(compare, {"--fractions": fractions, "--seeds": seeds, "--json": json_file})
    if compare is not None and (only is not None or dialect or weights):
        raise BadParameter("--compare cannot be combined with --only, --dialect and --weights")
    if dry_run:
        print_launch(config, overrides, cluster)
        return
    from mslab.checkpoint import Choice

    choice, called = Choice(dialect, weights), naming.name_of(config, name)
    network = found(backbone, config, overrides, allow_hash_mismatch)
    settings, report = checked_config(config, overrides, skip_check, backbone=network, choice=choice)
    if compare is not None:
        from mslab.experiments import comparison

        ways = comparison.parse(compare, fractions or "0.1,0.3,1.0")
        result = comparison.compare(settings, network, *ways, seeds or 3, report, called)
        emit(result, json_file, lambda: comparison.table(result))
        return
    refuse_idle(settings, overrides, cluster)
    with console.working("starting MindSpore …"):
        from mslab.training import start  # it loads scikit-learn before MindSpore

    parent = start.finetuning.backbone_of(network, only, start.finetuning.choice_for(settings, choice))
    done = start.run(start.Job(settings, report, called, parent), cluster)
    report_run(done.run, no_report)
    name_from_scratch(config, overrides or [], settings, done.run)


def refuse_without_compare(compare: str | None, options: dict[str, object]) -> None:
    """Raise BadParameter for the first of these options that was given without --compare."""
    for option, value in options.items():
        if value is not None and compare is None:
            raise BadParameter(f"{option} needs --compare")


def name_from_scratch(config: str, overrides: list[str], settings: "Settings", run: str) -> None:
    """Log the command that trains the network of a transfer from scratch, if the config alone trains another one."""
    from mslab.config import load_settings
    from mslab.experiments import comparison

    if not run:  # on other machines of a cluster than the first
        return
    used = load_settings(Path(run) / "config.yaml", notes=False)
    scratch = comparison.from_scratch(config, overrides, settings, used)
    if any(f"{name}=" in scratch for name in comparison.OF_THE_BACKBONE):
        log.info(f"{scratch}    trains the same network from scratch, to compare")


@job(app, "convert")
def convert(
    file: Annotated[
        str,
        Argument(metavar="FILE|RUN", help="a .ckpt, .safetensors, .pth or .onnx file, or a name of mslab weights"),
    ],
    to: Annotated[
        str,
        Option(metavar="FILE", help="target file: .ckpt for mslab, .safetensors for PyTorch"),
        OutputOption("weights", new=True),
    ],
    dialect: options.Dialect = "",
    weights: options.Weights = "",
    allow_hash_mismatch: options.AnyHash = False,
) -> None:
    """Convert a ResNet's weights between projects without loss; prints their origin and what was left out."""
    from mslab.checkpoint import Choice, converting
    from mslab.runs.finding import find_network
    from mslab.runs.weights import best_file

    for line in converting.convert(best_file(find_network(file, allow_hash_mismatch)), to, Choice(dialect, weights)):
        log.info(line)


# --- one worker or several -------------------------------------------------------------------------------------------


def cluster_of(workers: int | None, nodes: int, node_rank: int, master: str) -> "Cluster | None":
    """Return the checked workers that the command line requests, or None if this process trains alone."""
    if workers is None and (nodes, node_rank, master) != (1, 0, ""):
        raise BadParameter("--nodes, --node-rank and --master need --workers")
    if workers is None:
        return None
    from mslab.training.launching import Cluster

    cluster = Cluster(workers, nodes, node_rank, master)
    cluster.check()
    return cluster if workers > 1 else None


def refuse_idle(settings: "Settings", overrides: list[str] | None, cluster: "Cluster | None") -> None:
    """Log that a setting for several workers does nothing with one. Raises ConfigError if it is an override."""
    for name, idle in (("sync_bn", False), ("lr_scaling", "none")):
        value = getattr(settings, name)
        if cluster is not None or value == idle:
            continue
        if any(text.startswith(f"{name}=") for text in overrides or []):
            raise ConfigError(
                f"{name}={value} does nothing here: one worker trains.",
                expected="several workers",
                fix=f"add --workers 2, or leave {name} out",
            )
        log.info(f"note: {name}: {value} does nothing here: one worker trains")


def print_launch(config: str, overrides: list[str] | None, cluster: "Cluster | None") -> None:
    """Print the setup calls and the launch command of a run (--dry-run)."""
    from mslab.config import load_settings
    from mslab.training import launching

    print_text(launching.dry_run(load_settings(config, overrides or []), cluster))
