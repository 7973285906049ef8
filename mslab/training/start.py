"""The entry to every training, alone or with several workers: train, transfer, incremental and resume.

start(Job) -> prepare (settings resolved, run folder made) -> carry_out (network, feed, trainer) -> loop.fit
resume(RUN) -> reopen -> continue_run (the same images?) -> carry_out -> loop.fit
"""

import contextlib
import logging
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from easydict import EasyDict

with contextlib.suppress(Exception):  # finish() says what is wrong with it
    # before MindSpore: on ARM its OpenMP finds no place later ("cannot allocate memory in static TLS block")
    import sklearn.linear_model  # noqa: F401

from mslab.check import DatasetReport, available_memory, cores
from mslab.check.training_data import check_or_raise
from mslab.checkpoint import NO_CHOICE, Checkpoint, Choice, networks, read
from mslab.config import FIELDS, Settings, Source, load_settings
from mslab.config.resolve import Machine, network_settings, resolve
from mslab.config.tasks import CLASSIFY
from mslab.data import augment, decoded
from mslab.errors import ConfigError, DatasetError, DivergedError, MslabError
from mslab.escaping import command
from mslab.evaluation import measuring, metrics, task_measuring, temperature
from mslab.files import finite
from mslab.runs import finding, footprint, lock, naming, ranking
from mslab.runs.folder import RunFolder
from mslab.runs.results import read_evaluation
from mslab.runtime import devices, signals, turns
from mslab.runtime.console import PROSE, Meter, working
from mslab.runtime.workers import ALONE, Group
from mslab.training import build, finetuning, freezing, launching, resuming
from mslab.training.callbacks import ProgressBar
from mslab.training.finetuning import Pretrained
from mslab.training.launching import Cluster
from mslab.training.loop import fit
from mslab.training.resuming import reopen
from mslab.training.trainer import Trainer

log = logging.getLogger("mslab")
StopRule = Callable[[list[dict[str, Any]]], str]  # history -> the reason to stop now, or ""
FREEZERS = ("freeze", "layers_to_freeze", "freeze_layer_pattern")


class TrainResult(EasyDict):
    """The result of a training."""

    run: str  # the run folder; "" on other machines of a cluster than the first
    val_acc: float  # the best one; NaN if nothing was measured
    best_epoch: int
    linear_acc: float | None  # of a linear model of 8x8 thumbnails
    seconds: float

    def __fspath__(self) -> str:
        return self.run


@dataclass(frozen=True)
class Job:
    """A training to start."""

    settings: Settings
    report: DatasetReport  # of its images, checked
    name: str  # of the run folder, before the date
    parent: Pretrained | None = None  # the checkpoint it begins from
    epoch_images: int | None = None  # training images per epoch, if not all of them once
    reproduces: dict[str, Any] | None = None  # the run that it repeats, for the manifest


# --- the public functions --------------------------------------------------------------------------------------------


@turns.alone("mslab.train")
def train(
    config: Source,
    overrides: Sequence[str] = (),
    report: DatasetReport | None = None,
    name: str | None = None,
    epoch_images: int | None = None,
) -> TrainResult:
    """Check the data, train from scratch, write a run folder. Returns run (its path), val_acc, linear_acc, seconds …

    `config` is a YAML file or a dict; `name`: of the run's folder, before the date; `epoch_images`: training images per
    epoch, if not all of them once.
    Raises ConfigError, DatasetError, DeviceError or TrainingError.
    """
    name = naming.name_of(config, name)
    settings = load_settings(config, overrides)
    network_settings(settings)  # before the data: they raise if the table of stages is wrong
    if settings.network:
        networks.require(settings.network)
    return run(Job(settings, check_or_raise(settings, report), name, None, epoch_images))


@turns.alone("mslab.transfer")
def transfer(
    config: Source,
    backbone: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    report: DatasetReport | None = None,
    name: str | None = None,
    only: str | None = None,
    epoch_images: int | None = None,
    choice: Choice = NO_CHOICE,
) -> TrainResult:
    """Train a fresh head on a saved backbone, which the config may freeze. Returns what `train` returns.

    `backbone` is a run or a file, also of a complete network (its head is left out) or of another project. Its own
    normalisation, stage table and profile are used. `only`: a regular expression of the parameters to load; the rest
    stay random. `epoch_images`: as in `train`. `choice`: about a file of others. Raises CheckpointError if the file
    does not fit exactly, and all that `train` raises.
    """
    name, backbone = naming.name_of(config, name), finding.find_network(backbone)
    settings = load_settings(config, overrides)
    report = check_or_raise(settings, report)
    parent = finetuning.backbone_of(backbone, only, finetuning.choice_for(settings, choice))
    return run(Job(settings, report, name, parent, epoch_images))


@turns.alone("incremental training")
def incremental(
    config: Source,
    source: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    report: DatasetReport | None = None,
    name: str | None = None,
) -> TrainResult:
    """Train a complete network further, with more images, or with more or fewer classes. Returns what `train` returns.

    `source` is a run (its best.ckpt) or a file with a head and class names. The head's rows are reused by class name;
    new classes begin at random values (ModelArts calls this incremental training). Raises CheckpointError if the file
    has no head or no class names, and all that `train` raises.
    """
    name, source = naming.name_of(config, name), finding.find_network(source)
    settings = load_settings(config, overrides)
    report = check_or_raise(settings, report)
    return run(Job(settings, report, name, finetuning.network_of(source)))


@turns.alone("mslab train --resume")
def resume(path: str | os.PathLike[str], cluster: Cluster | None = None, overrides: Sequence[str] = ()) -> TrainResult:
    """Continue a run in its folder with its own config, after its last completed epoch; a finished one is unchanged.

    The number of workers may differ from before, and `overrides`, KEY=VALUE texts, those settings that change nothing
    of the completed epochs. Raises ConfigError for others, DatasetError unless the images are the same.
    """
    first = cluster is None or cluster.node_rank == 0  # only the first machine writes
    folder = finding.find_run(path)
    resuming.refuse_what_has_no_state(folder, path)
    if resuming.has_ended(folder):  # nothing is written then, so no lock is needed
        run, last = reopen(folder, overrides, writes=False)
        if run.finished:
            return continue_run(run, last)
    with lock.held(folder) if first else contextlib.nullcontext():
        return resume_held(folder, cluster, overrides, first)


def resume_held(path: Path, cluster: Cluster | None, overrides: Sequence[str], writes: bool) -> TrainResult:
    """`resume` with the lock of the run, if this process writes."""
    run, last = reopen(path, overrides, writes)
    if run.finished:  # by another process, just now
        return continue_run(run, last)

    def ready() -> tuple[RunFolder, DatasetReport]:
        report = resuming.same_images(run)  # here once, so that all workers find the result of the check
        if writes:
            resuming.restore_images_csv(run, report)
        if run.notes:  # config.yaml or the command line says something else than the manifest
            run.write_settings()
            run.write_manifest()
        return run, report

    if cluster is None:
        return continue_run(run, last, ready()[1])
    return result_of_all(launching.begin(lambda: ready()[0], run.settings, cluster))


# --- the common path -------------------------------------------------------------------------------------------------


@turns.alone("a training")
def run(job: Job, cluster: Cluster | None = None, should_stop: StopRule | None = None) -> TrainResult:
    """Train from the beginning: in this process, or with the workers of a cluster.

    `should_stop` is called after each epoch with the history: the reason to stop now, or "".
    """
    if cluster is None:
        run = prepare(job)
        run.should_stop = should_stop or run.should_stop
        return carry_out(run, job.report)
    return result_of_all(launching.begin(lambda: prepare(job, cluster.workers), job.settings, cluster))


def prepare(job: Job, count: int = 1) -> RunFolder:
    """Make a run folder for `count` workers, after checking settings, checkpoint and device."""
    settings, parent, report = job.settings, job.parent, job.report
    if parent is None and freezing.is_requested(settings):
        options = [f"{key}: {value}" for key in FREEZERS if (value := getattr(settings, key)) != FIELDS[key].default]
        raise ConfigError(
            f"{', '.join(options)} in training from scratch would freeze random weights.",
            expected="nothing frozen, or a pretrained backbone",
            fix="mslab transfer CONFIG --backbone FILE, or leave it out"
            + "".join(f"; {key}: {place}" for key in FREEZERS if (place := settings.origin(key))),
        )
    machine = Machine(devices.choose_device(settings.device), cores(), count, count, available_memory())
    images = report.images_in("train")
    backbone = parent.checkpoint if parent else None
    settings, notes = resolve(settings, images, backbone, machine, decoded.size_of(report))
    devices.setup_calls(**devices.setup_of(settings, machine.device))  # raises if the device does not support them
    for side, crop in zip(augment.sizes(settings)[::2], ("train_crop_size", "valid_crop_size"), strict=True):
        networks.of_settings(settings).check_size(side, crop if getattr(settings, crop) else "image_size")
    if parent:
        finetuning.check_fit(settings, parent, report.class_names)
    else:
        freezing.check(freezing.outline(settings), settings)
    footprint.require_space_for_run(settings)
    origin = parent.record() if parent else None
    kind = parent.kind if parent else "train"
    run = None
    try:
        with signals.held():  # no half run folder
            run = RunFolder.create(job.name, settings, report, kind, origin, job.epoch_images, count)
            run.device = machine.device
            run.notes = [*(parent.notes() if parent else []), *notes]
            if job.reproduces:
                run.manifest["reproduces"] = job.reproduces
                run.write_manifest()
    except KeyboardInterrupt:
        raise run.stopped() if run else KeyboardInterrupt from None
    return run


def continue_run(
    run: RunFolder, last: Checkpoint | None, report: DatasetReport | None = None, group: Group = ALONE
) -> TrainResult:
    """Continue a run: check that its images are the same, then train the remaining epochs, alone or in a group."""
    if run.finished:
        for note in run.notes:
            log.info(f"note: {note.partition(':')[0]} changes nothing: the run is finished")
        reason = f" ({run.manifest['ended_by']})" if run.manifest["ended_by"] else ""
        log.info(f"{run.path} is finished: {run.epochs_done} of {run.settings.epochs} epochs{reason}; nothing to do")
        if not (run.path / "report.html").is_file():
            log.info(f"{command('report', run.path)}    writes its report, which it does not have")
        log.info(resuming.further(run))
        return result_of(run)
    return carry_out(run, resuming.same_images(run, report), last, group)


def carry_out(
    run: RunFolder, report: DatasetReport, last: Checkpoint | None = None, group: Group = ALONE
) -> TrainResult:
    """Build the network, feed and trainer, and train to the end. `last`: the last.ckpt of a resumed run."""
    began = time.perf_counter()
    with lock.held(run.path) if run.writes else contextlib.nullcontext(), run.recording():
        if run.epochs_done < run.settings.epochs:  # otherwise it was killed between its last epoch and its end
            settings = build.local_settings(run, report, group)
            with resumable(run, group):
                labels = build.label_feed(run, settings, report, group)
                network = build.build_network(run, settings, last, group, labels)
                feed, trained = build.build_feed(run, settings, report, network, group, labels)
            run.info = build.network_info(settings, report)
            trainer = build.build_trainer(run, settings, network, trained, feed, last, group)
            run.manifest["ended_by"] = fit_with_rollback(trainer, run, group) or None
            if run.manifest["ended_by"]:
                reason = run.manifest["ended_by"]
                log.info(f"ended after epoch {run.epochs_done} of {settings.epochs}: {reason}")
            if trainer.paused:
                run.paused = True
                log.info(f"{command('train', '--resume', run.path)}    continues the run")
                return result_of(run, time.perf_counter() - began)
        return finish(run, report, began)


def fit_with_rollback(trainer: Trainer, run: RunFolder, group: Group) -> str:
    """Run fit; after a divergence restore the last good epoch and retry (on_nan: rollback). Raises what fit raises."""
    callbacks = build.make_callbacks(run, group)
    while True:
        done = trainer.steps * run.epochs_done
        try:
            with (
                resumable(run, group),
                Meter(len(trainer.rates), done, trainer.steps) as meter,
                signals.interruptible() as interrupted,
            ):
                bar = ProgressBar(meter, trainer.epochs, trainer.steps, interrupted)
                reason = fit(trainer, run, [*callbacks, bar])
                if interrupted():  # after the last step
                    raise KeyboardInterrupt
                return reason
        except DivergedError as error:
            trainer.roll_back(error, run.epochs_done)
            run.write_manifest()


@contextlib.contextmanager
def resumable(run: RunFolder, group: Group) -> Iterator[None]:
    """Add to the message about a lost image, or a file that cannot be written, how the run goes on."""
    try:
        yield
    except MslabError as error:
        if type(error) not in (MslabError, DatasetError):
            raise
        last, workers = run.checkpoints / "last.ckpt", ["--workers", str(group.size)] if group.size > 1 else []
        saved = read(last).info.get("epoch") if last.is_file() else None
        done = f"after epoch {saved} of {run.settings.epochs}" if saved else "from its beginning"
        if group.size > 1:  # another worker may be writing a later one just now
            done = "after its last saved epoch"
        fix = f"{error.fix}, then\n" + command("train", "--resume", run.path, *workers) + f"    continues {done}"
        if saved and isinstance(error, DatasetError):  # the image may not come back
            further = command("train", run.path / "config.yaml", "--from", last)
            fix += f"\nor train its network further on the images that are left, as a new run:\n{further}"
        raise type(error)(error.what, details=error.details, expected=error.expected, fix=fix) from error


# --- after a run -----------------------------------------------------------------------------------------------------


def finish(run: RunFolder, report: DatasetReport, began: float) -> TrainResult:
    """Finish a run after its last epoch: fit the linear model, log the result."""
    if not run.writes:
        return result_of(run, time.perf_counter() - began)
    linear, compared = baseline(run, report)
    if run.settings.log_to != "none":
        from mslab.training import eventlog

        eventlog.finish(run)
    result = result_of(run, time.perf_counter() - began)
    log.info(
        f"{best_text(run)}; {compared}{result.seconds:.0f} s; {run.path}",
        extra=PROSE,
    )
    calibrated = run.settings.calibrate and run.settings.task == CLASSIFY
    if calibrated and (found := read_evaluation(run.path, run.manifest["class_names"]).get("calibration")):
        log.info(f"calibrate: {temperature.text(found)}", extra=PROSE)
    if linear is not None and result.val_acc <= linear:
        what = "linear model" if run.settings.task == CLASSIFY else "answer"
        log.info(f"note: the network does not beat that {what}; {remedy(run)}", extra=PROSE)
    return result


def baseline(run: RunFolder, report: DatasetReport) -> tuple[float | None, str]:
    """(what the network is compared with: a linear model, or an answer without looking; a text about it)."""
    labels = build.label_feed(run, run.settings.replace(cache="none"), report, ALONE)  # each image is read once
    if labels is not None:
        found = task_measuring.witness(labels)
        run.manifest["metrics"]["constant"] = finite({k: v for k, v in found.items() if isinstance(v, float)})
        value = found[labels.task.measure]
        text = f"the same answer for every image has {labels.task.measure} {value:.3f}; "
        return (None, "") if math.isnan(value) else (value, text)
    train, val = measuring.samples(report, "train", most=5000), measuring.samples(report, "val")
    with working("fitting a linear model, to compare …"):
        linear = run.manifest["metrics"]["linear_acc"] = metrics.linear_or_note(train, val)
    return linear, "" if linear is None else f"a linear model of 8x8 thumbnails has {linear:.3f}; "


def best_text(run: RunFolder) -> str:
    """The best epoch and its figures, in words, and which epochs other measures would have chosen."""
    if not run.best:
        return "no epoch was measured"
    others = [f"{name}: {epoch}" for name, epoch in ranking.others(run.history, run.best_by).items()]
    others = [f"other measures would have chosen other epochs ({', '.join(others)})"] * bool(others)
    return "; ".join([ranking.best_text(run.best, run.best_by, ranking.shown(run.settings)), *others])


def remedy(run: RunFolder) -> str:
    """What to try after a run that is no better than a linear model. It does not contradict the run's warnings."""
    warned = {warning["code"] for warning in run.manifest["warnings"]}
    if warned & {"loss-explodes", "batchnorm", "dead-relu"} or run.manifest.get("rollbacks"):
        return "lower lr_max to a tenth or less"
    if "overfitting" in warned:
        return "see the warning (overfitting)"
    return "train longer, or with another lr_max"


def result_of_all(path: Path | None) -> TrainResult:
    """The result of a run with several workers; `run` is "" on all machines except the first."""
    if path is None:
        return TrainResult(run="", val_acc=float("nan"), best_epoch=0, linear_acc=None, seconds=0.0)
    run = RunFolder.read(path)
    return result_of(run, sum(row["seconds"] for row in run.history))


def result_of(run: RunFolder, seconds: float = 0.0) -> TrainResult:
    """The result of a run. `seconds`: 0 if this call trained nothing."""
    best = run.best or {"epoch": 0, "val_acc": float("nan")}
    linear = run.manifest["metrics"].get("linear_acc")
    return TrainResult(
        run=str(run.path), val_acc=best["val_acc"], best_epoch=best["epoch"], linear_acc=linear, seconds=seconds
    )
