"""Training: one visible loop. What varies is passed in; what happens around the loop is below it."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from easydict import EasyDict
from mindspore import nn

from mslab import cpu_layout, model, schedule
from mslab.check import DatasetReport, check_dataset, cores
from mslab.checkpoint import Checkpoint, load_exactly, read, sha256
from mslab.config import FIELDS, load_config
from mslab.data import augment, batching, decoded
from mslab.errors import ConfigError, DatasetError, DivergedError, RunError
from mslab.evaluation import measuring, metrics
from mslab.runs.folder import Run
from mslab.runtime import devices, signals, workers
from mslab.runtime.console import Meter
from mslab.runtime.workers import ALONE, Group
from mslab.training import features, freezing, losses, stopping
from mslab.training.monitor import Watch
from mslab.training.trainer import Plan, check_rates

log = logging.getLogger("mslab")
FREEZERS = ("freeze", "layers_to_freeze", "freeze_layer_pattern")


def fit(plan: Plan, run: Run, watch: Watch) -> str:
    """Train from run.epoch on; measure and keep every epoch. Returns why the run ended before its last epoch, or "".

    Raises TrainingError where the loss is not finite, and KeyboardInterrupt after the step in which Ctrl-C was pressed.
    """
    config, group, steps = plan.config, plan.group, plan.steps
    if ended := plan.reason(run.rows):  # it was killed just then
        return ended
    with Meter(len(plan.rates), steps * run.epoch) as meter, signals.interruptible() as interrupted:
        for epoch in range(run.epoch, config.epochs):
            step = plan.step(epoch, run.rows, meter)  # the same one as long as the same parameters are trained
            start, seen, correct, losses, total_loss = time.perf_counter(), 0, 0, [], 0.0
            for number, (images, labels) in enumerate(watch.waiting(plan.batches(epoch)), start=epoch * steps):
                loss, logits = step(ms.Tensor(images), ms.Tensor(labels))

                loss, rate = float(loss.asnumpy()), float(plan.rates[number])
                if not np.isfinite(loss):
                    raise exploded(loss, epoch, number, plan.rates, run)
                watch.step(number, loss, labels, rate)
                losses.append(loss)
                seen, total_loss = seen + len(labels), total_loss + loss * len(labels)
                correct += metrics.hits(logits.asnumpy(), labels)
                speed = seen / (time.perf_counter() - start)
                meter.update(
                    f"epoch {epoch + 1}/{config.epochs}  loss {total_loss / seen:.3f}  acc {correct / seen:.3f}  "
                    f"lr {rate:.4f}  {speed:.0f} images/s"
                )
                if interrupted():
                    raise KeyboardInterrupt

            seen, correct, total_loss = group.sum([seen, correct, total_loss])
            speed = seen / (time.perf_counter() - start)
            group.average_statistics([*plan.network.get_parameters(), *plan.averages().values()], plan.fixed)
            row = {"epoch": epoch + 1, "step": (epoch + 1) * steps, "lr": rate}
            row |= {"train_loss": total_loss / seen, "train_acc": correct / seen}
            with plan.averaged():
                result = plan.measure(epoch, run.info["class_names"], watch.measured)  # None where none is due
                if result and not np.isfinite(result["loss"]):
                    raise exploded(result["loss"], epoch, number, plan.rates, run)
                row |= {"images_per_s": speed, "seconds": time.perf_counter() - start}
                run.keep(row, plan.network, result)
            log.info(described(row, run))
            watch.epoch(run.rows, result, plan.network)
            ended = plan.end(run.rows) or run.ends(run.rows)
            run.end_epoch(plan.state() if ended or stopping.is_kept(epoch, config) else None, losses)
            if ended:
                return ended
    return ""


def described(row: Mapping[str, Any], run: Run) -> str:
    """The line of an epoch. A star marks the best so far."""
    measured = f"val_loss {row['val_loss']:.3f}  val_acc {row['val_acc']:.3f}{'*' if run.best is row else ' '}  "
    return (
        f"epoch {row['epoch']:>3}/{run.config.epochs}  loss {row['train_loss']:.3f}  acc {row['train_acc']:.3f}  "
        f"{measured if run.best and not np.isnan(row['val_acc']) else ''}"
        f"lr {row['lr']:.4f}  {row['images_per_s']:.0f} images/s  {row['seconds']:.0f} s"
    )


def fit_again(plan: Plan, run: Run, watch: Watch) -> str:
    """fit, and from the last good epoch on again where on_nan: rollback says so. Raises what fit raises."""
    while True:
        try:
            return fit(plan, run, watch)
        except DivergedError as error:
            plan.roll_back(error, run.epoch)
            run.write_manifest()


def exploded(loss: float, epoch: int, number: int, rates: np.ndarray, run: Run) -> DivergedError:
    kept = f"{run.checkpoints}/best.ckpt, of epoch {run.best['epoch']}" if run.best else "none: no epoch was completed"
    return DivergedError(
        f"The loss became {loss} in epoch {epoch + 1}, step {number + 1} of {len(rates)} (lr {rates[number]:.4g}).",
        details=[("kept", kept)],
        expected="a finite loss at every step",
        fix=f"lower lr_max (now {max(rates):.4g}) to a tenth, or raise warmup_epochs; or on_nan=rollback",
    )


# --- a run around the loop -------------------------------------------------------------------------------------------


def train(
    config: str | Path | Mapping[str, Any],
    overrides: Sequence[str] = (),
    report: DatasetReport | None = None,
    name: str | None = None,
    epoch_images: int | None = None,
) -> EasyDict:
    """Check the data, train from scratch, leave a run folder. Returns run (its path), val_acc, linear_acc, seconds …

    `config` is a YAML file or a dict; `epoch_images`: training images an epoch, where that is not all of them once.
    Raises ConfigError, DatasetError, DeviceError or TrainingError.
    """
    resolved = load_config(config, overrides)
    report = checked(resolved, report)
    run = prepare(resolved, report, name or name_of(config), epoch_images)
    with run.recording():
        return go(run, report)


def prepare(config: EasyDict, report: DatasetReport, name: str, epoch_images: int | None = None) -> Run:
    """A fresh run folder for training from scratch. Raises ConfigError where the settings do not fit the network."""
    if freezing.is_asked(config):
        asked = [f"{key}: {config[key]}" for key in FREEZERS if config[key] != FIELDS[key].default]
        raise ConfigError(
            f"{', '.join(asked)} in training from scratch would keep random weights.",
            expected="nothing frozen, or a backbone to keep",
            fix="mslab transfer CONFIG --backbone FILE, or take that out of the config",
        )
    settle(config)
    return Run.create(name, config, report, epoch_images=epoch_images)


def settle(config: EasyDict) -> list[str]:
    """Fill in the network's table and profile. Raises ConfigError where what is frozen does not fit it."""
    config.stages = [list(row) for row in config.stages or model.STAGES]
    config.profile = EasyDict(model.PROFILE | (config.profile or {}) | ({"stem": config.stem} if config.stem else {}))
    config.stem = config.profile.stem
    freezing.check(freezing.outline(config.stages), config)
    return []


def resume(path: str | Path, report: DatasetReport | None = None) -> EasyDict:
    """Continue a run in its folder with its own config, after its last completed epoch; a finished one stays as is."""
    return go_on(*reopen(path), report)


def reopen(path: str | Path) -> tuple[Run, Checkpoint | None]:
    """A run to continue and its last.ckpt, None before its first epoch. Raises RunError where they do not match."""
    run = Run.open(path)
    file = run.checkpoints / "last.ckpt"
    last = read(file) if file.is_file() else None
    completed = last.info.get("epoch") if last else 0
    if completed is None:
        raise RunError(
            f"{file} tells no epoch.", expected="the last.ckpt that mslab wrote", fix="restore it, or begin a new run"
        )
    if len(run.rows) < completed:
        raise RunError(
            f"{run.path}/history.csv has {len(run.rows)} epochs, last.ckpt is of epoch {completed}.",
            expected="a row for every completed epoch, as mslab writes them",
            fix="restore history.csv, or begin a new run",
        )
    run.rows = run.rows[:completed]
    return run, last


def go_on(run: Run, last: Checkpoint | None, report: DatasetReport | None = None, group: Group = ALONE) -> EasyDict:
    """Continue where the run is: check that its images are the same, then train the rest, alone or in a group."""
    config = run.config
    if run.finished:
        why = f" ({run.manifest['ended_by']})" if run.manifest["ended_by"] else ""
        log.info("%s is finished: %d of %d epochs%s; nothing to do", run.path, run.epoch, config.epochs, why)
        return outcome(run, 0.0)
    report = same_data(run, report)
    with run.recording():
        if run.epoch >= config.epochs:  # killed after its last epoch, before its end
            return finish(run, report, time.perf_counter())
        if run.epoch:
            log.info("resuming %s after epoch %d of %d", run.path, run.epoch, config.epochs)
            if (threads := devices.workers(config.data_workers)) < config.data_workers:
                log.info(
                    "note: data_workers: %d, but %d cores here: images are augmented otherwise than without the stop",
                    config.data_workers,
                    threads,
                )
            if config.dropout:
                log.info("note: dropout leaves out other features now than it would have without the stop")
        return go(run, report, last, group)


def same_data(run: Run, report: DatasetReport | None = None) -> DatasetReport:
    """The report of the run's images. Raises DatasetError where they are not those that it began with."""
    report = checked(run.config, report, run.manifest["data"].get("skip_check", False))
    if report.fingerprint != run.manifest["data"]["fingerprint"]:
        raise DatasetError(
            f"The images are not those that {run.path} began with: other files, or other contents.",
            expected=f"the data set with the fingerprint {run.manifest['data']['fingerprint'][:12]}…",
            fix="restore the images, or begin a new run with mslab train",
        )
    return report


def go(run: Run, report: DatasetReport, last: Checkpoint | None = None, group: Group = ALONE) -> EasyDict:
    """Start the device, build the network, give it the weights it begins with, and train."""
    config = run.config
    share_batch(run, group)
    if group.size == 1:  # msrun's workers have started theirs
        run.took(devices.start(**{key: config[key] for key in devices.SETTINGS}))
    config.amp_level = devices.precision(config.amp_level, run.manifest["device"])
    network = new_network(config)
    fold(network, config, run.manifest["device"])
    if config.sync_bn and group.size > 1:
        workers.synchronise(network, group)
    if last and group.rank == 0:  # the optimizer comes later; features of a frozen backbone need its weights now
        load_exactly(network.parameters_dict(), last.backbone | last.head, last.path, "network")
    elif run.manifest["parent"] and group.rank == 0:
        log.info(load_parent(network, parent_of(run), config, run.manifest))
    group.equalise(network.get_parameters())
    return run_training(run, network, report, last, group)


def fold(network: nn.Cell, config: EasyDict, device: str) -> None:
    """Fold small maps on a CPU, where training and measuring see images of one size."""
    crop, _, measured = augment.sizes(config)
    if device == "cpu" and config.mode == "graph" and crop == measured:
        batch = math.gcd(config.batch_size, batching.measured_batch(config))
        cpu_layout.fold_small_maps(network.backbone, batch, crop, cores())


def share_batch(run: Run, group: Group) -> None:
    """Set batch_size so that all workers together take as many images a step as the run began with; say what is what.

    Raises ConfigError where they cannot.
    """
    config, began = run.config, run.manifest.get("workers", 1)
    if config.on_nan == "rollback" and group.size > 1:
        raise ConfigError(
            f"on_nan: rollback with {group.size} workers: one may see a loss that is not finite, and the others not.",
            expected="on_nan: stop with several workers",
            fix="on_nan=stop, or one worker",
        )
    images, factor = sum(run.manifest["data"]["counts"]["train"].values()), config.rescale_train_batch_size_factor
    if factor and config.batch_size * began * factor > images:
        batch = max(2, images // (factor * began))
        log.info(
            f"batch_size: {config.batch_size} becomes {batch}: rescale_train_batch_size_factor: {factor} allows "
            f"{images // factor} of {images} images a step"
        )
        config.batch_size = batch
    together = config.batch_size * began
    if together % group.size or together == group.size:
        raise ConfigError(
            f"{run.path} takes {together} images a step; {group.size} workers cannot share them evenly.",
            expected="a number of workers that divides them, with 2 or more images each",
            fix=f"--workers {', '.join(str(n) for n in range(1, together // 2 + 1) if together % n == 0)}",
        )
    config.batch_size = together // group.size
    if began > 1 or group.size > 1:
        factor = lr_factor(config, began)
        scaled = f"x {factor:.3g} = {config.lr_max * factor:.4g} (lr_scaling: {config.lr_scaling})"
        log.info(
            f"{group.size} workers x {config.batch_size} = {together} images a step; lr_max: {config.lr_max:g} "
            + (scaled if factor != 1 else f"as it is (lr_scaling=linear would multiply it by {began})")
        )


def lr_factor(config: Mapping[str, Any], workers: int) -> float:
    """The factor on lr_max where so many workers share a step (linear: Goyal et al. 2017; sqrt: Krizhevsky 2014)."""
    return {"none": 1.0, "linear": float(workers), "sqrt": workers**0.5}[config["lr_scaling"]]


def parent_of(run: Run) -> Checkpoint:
    """The file that a run began from. Raises RunError where it has changed since."""
    parent = run.manifest["parent"]
    if not Path(parent["file"]).is_file() or sha256(Path(parent["file"])) != parent["sha256"]:
        raise RunError(
            f"{run.path} began from {parent['file']}, which is not there (seen from {Path.cwd()}), or is another now.",
            expected=f"the file with sha256 {parent['sha256'][:12]}…: no epoch was completed that holds its weights",
            fix="restore the file, or begin a new run",
        )
    return read(parent["file"])


def load_parent(network: nn.Cell, weights: Checkpoint, config: EasyDict, manifest: Mapping[str, Any]) -> str:
    """Put a parent's weights into a fresh network: its backbone and, in incremental training, its head's known rows."""
    only = manifest["parent"].get("only")
    text = load_exactly(network.backbone.parameters_dict(), weights.backbone, weights.path, "backbone", only)
    if manifest["kind"] != "incremental":
        return f"{text}; head: new ({config.class_num} classes)"
    names, known = manifest["class_names"], weights.class_names
    for part, fresh in network.head.parameters_dict().items():
        if part.startswith("hidden."):  # what all classes share
            fresh.set_data(ms.Tensor(weights.head[part]))
            continue
        rows = fresh.asnumpy().copy()
        for index, name in enumerate(names):
            if name in known:
                rows[index] = weights.head[part][known.index(name)]
        fresh.set_data(ms.Tensor(rows))
    new, gone = [n for n in names if n not in known], [n for n in known if n not in names]
    parts = [f"{len(names) - len(new)} of {len(names)} classes kept by name"]
    parts += [f"{what}: {', '.join(rows)}" for what, rows in (("new", new), ("left out", gone)) if rows]
    return f"{text}; head: {'; '.join(parts)}"


def run_training(
    run: Run, network: nn.Cell, report: DatasetReport, last: Checkpoint | None = None, group: Group = ALONE
) -> EasyDict:
    """Train `network` as run.config says, with the optimizer of `last` where given."""
    start, config = time.perf_counter(), run.config
    names = [parameter.name for parameter in network.get_parameters()]
    parts = {name: measuring.images_of(report, name) for name in ("train", "val")}
    parts = decoded.keep(parts, config, report, group)
    train_images, val_images = parts["train"], parts["val"]
    train_images = train_images.spread(run.manifest.get("epoch_images") or len(train_images))
    steps = batching.steps_per_epoch(train_images, config.batch_size, group.size, config.grad_accumulation_step)
    rates = schedule.rates(config, steps, lr_factor(config, run.manifest.get("workers", 1)))
    check_rates(rates, config.epochs * steps)
    mean, std = augment.scale(config)
    _, resize, crop = augment.sizes(config)
    run.info = {
        "schema": 1,
        "class_names": report.class_names,
        "image_size": crop,
        "resize_size": resize,
        "mean": mean,
        "std": std,
        "stages": config.stages,
        "profile": dict(config.profile),
    }
    images = batching.ImageFeed(train_images, val_images, config, group)
    feed, trained = images, network
    before = run.manifest.get("features")  # whether they were used; None in a run that begins
    frozen = freezing.is_frozen_throughout(names, config) and config.feature_views and not augment.mixes(config)
    if frozen and before is not False:
        feed, trained = features.feed(network, images, report.fingerprint, required=bool(before))
    run.manifest["features"] = trained is not network  # a resume goes the same way
    run.write_manifest()
    if config.amp_level != "O0":
        trained = ms.amp.auto_mixed_precision(trained, config.amp_level)
    counts = np.bincount(train_images.labels, minlength=config.class_num)
    criterion = losses.build(config, counts)
    plan = Plan(network, trained, feed, rates, criterion, config, group, run.manifest["rollbacks"])
    if run.epoch:
        log.info(plan.resume(last, run.epoch))
    counted = sum(parameter.size for parameter in trained.trainable_params())
    log.info(
        f"{run.path}: {len(train_images)} training and {len(val_images)} validation images, "
        f"{len(report.class_names)} classes, {counted:,} weights to train, "
        f"frozen: {freezing.describe(names, config)}, {config.epochs} epochs of {steps} steps"
    )
    run.manifest["ended_by"] = fit_again(plan, run, observer(run, group)) or None
    if run.manifest["ended_by"]:
        log.info(f"ended after epoch {run.epoch} of {config.epochs}: {run.manifest['ended_by']}")
    if plan.paused:
        run.paused = True
        log.info(f"mslab train --resume {run.path}    goes on")
        return outcome(run, time.perf_counter() - start)
    return finish(run, report, start)


def observer(run: Run, group: Group) -> Watch:
    """What the loop tells how it goes: the guards, which log_to lets write as well."""
    told = [warning["code"] for warning in run.manifest["warnings"]]
    known = (run.manifest["class_names"], run.warn, told)
    if run.config.log_to == "none":
        return Watch(*known)
    from mslab.training.eventlog import EventLog  # only here: it brings tensorboardX

    return EventLog(run, group, *known)


def finish(run: Run, report: DatasetReport, start: float) -> EasyDict:
    """After the last epoch: the linear model, and what came of it all."""
    if not run.writes:
        return outcome(run, time.perf_counter() - start)
    train, val = measuring.samples(report, "train", most=5000), measuring.samples(report, "val")
    run.manifest["metrics"]["linear_acc"] = metrics.linear_baseline(train, val)[0]
    if run.config.log_to != "none":
        from mslab.training import eventlog

        eventlog.finish(run)
    result = outcome(run, time.perf_counter() - start)
    log.info(
        f"best val_acc {result.val_acc:.3f} in epoch {result.best_epoch}; a linear model of 8x8 thumbnails has "
        f"{result.linear_acc:.3f}; {result.seconds:.0f} s; {run.path}"
    )
    if result.val_acc <= result.linear_acc:
        log.info("note: the network does not beat that linear model; train longer, or with another lr_max")
    return result


def outcome(run: Run, seconds: float) -> EasyDict:
    """What train, transfer and resume return."""
    best = run.best or {"epoch": 0, "val_acc": float("nan")}
    linear = run.manifest["metrics"].get("linear_acc")
    return EasyDict(
        run=str(run.path), val_acc=best["val_acc"], best_epoch=best["epoch"], linear_acc=linear, seconds=seconds
    )


def checked(config: EasyDict, report: DatasetReport | None, skip_content: bool = False) -> DatasetReport:
    """The data's report, without errors. Checks where the caller has not."""
    sizes = {"image_size": config.image_size, "batch_size": config.batch_size, "skip_content": skip_content}
    report = report or check_dataset(config.train_data, config.val_data, class_num=config.class_num, **sizes)
    report.raise_errors(f"the config says class_num: {config.class_num}")
    found = len(report.class_names)
    if found != config.class_num:  # a report made without class_num
        raise DatasetError(
            f"{report.root} has {found} class folders, the config says class_num: {config.class_num}.",
            expected="class_num equal to the number of class folders",
            fix=f"class_num: {found}, or other folders",
        )
    return report


def new_network(config: EasyDict) -> nn.Cell:
    """A fresh network of the config's stage table and class_num."""
    backbone = model.resnet50_backbone(config.stages, config.profile)
    head = model.resnet50_head(config.class_num, backbone.channels, config.head_hidden, config.dropout)
    return model.ResNet50(backbone, head)


def name_of(config: Any) -> str:
    return Path(config).stem if isinstance(config, str | Path) else "run"
