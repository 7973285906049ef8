"""Training: one visible loop. What varies is passed in; what happens around the loop is below it."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from easydict import EasyDict
from mindspore import nn

from mslab import data, decoded, evaluation, features, folding, freezing, metrics, model, runtime, schedule, workers
from mslab.check import DatasetReport, check_dataset, cores
from mslab.checkpoint import Weights, load_exactly, read, sha256
from mslab.config import FIELDS, load_config
from mslab.errors import ConfigError, DatasetError, RunError, TrainingError
from mslab.progress import Meter
from mslab.runfolder import Run
from mslab.workers import ALONE, Group

say = logging.getLogger("mslab")
Feed = data.ImageFeed | features.FeatureFeed
FREEZERS = ("freeze", "layers_to_freeze", "freeze_layer_pattern")


class TrainStep(nn.Cell):
    """Forward, loss, gradients, update: what MindSpore compiles into one graph.

    `mean`, with several workers, makes their gradients one.
    images float32 (N, 3, H, W), labels int32 (N,) -> mean loss float32 (), logits float32 (N, class_num)
    """

    def __init__(self, network: nn.Cell, loss: nn.Cell, optimizer: nn.Optimizer, mean: Callable | None = None) -> None:
        super().__init__(auto_prefix=False)
        self.network, self.loss, self.optimizer, self.mean = network, loss, optimizer, mean
        self.gradients = ms.value_and_grad(self.forward, None, optimizer.parameters, has_aux=True)

    def forward(self, images: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        logits = self.network(images)
        return self.loss(logits, labels), logits

    def construct(self, images: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        (loss, logits), gradients = self.gradients(images, labels)
        if self.mean is not None:
            gradients = self.mean(gradients)
        self.optimizer(gradients)
        return loss, logits


class ScaledTrainStep(TrainStep):
    """The same in float16: small gradients are lifted above its smallest number, and overflown ones change nothing.

    The scale halves after an overflow and doubles after 1000 steps without (Micikevicius et al. 2018).
    """

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.scaler = ms.amp.DynamicLossScaler(2.0**16, 2, 1000)
        self.scale, self.good_steps = self.scaler.scale_value, self.scaler.counter  # so that last.ckpt holds them

    def forward(self, images: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        logits = self.network(images)
        return self.scaler.scale(self.loss(logits, labels)), logits

    def construct(self, images: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        (loss, logits), gradients = self.gradients(images, labels)
        if self.mean is not None:
            gradients = self.mean(gradients)
        gradients = self.scaler.unscale(gradients)
        finite = ms.amp.all_finite(gradients)
        if finite:
            self.optimizer(gradients)
        loss = self.scaler.unscale(loss)
        self.scaler.adjust(finite)
        return loss, logits


def fit(plan: "Plan", run: Run) -> None:
    """Train from run.epoch to the config's last; measure and keep every epoch.

    Raises TrainingError where the loss is not finite, and KeyboardInterrupt after the step in which Ctrl-C was pressed.
    """
    feed, rates, config, group = plan.feed, plan.rates, plan.config, plan.group
    steps = len(rates) // config.epochs
    with Meter(len(rates), steps * run.epoch) as meter, runtime.interruptible() as interrupted:
        for epoch in range(run.epoch, config.epochs):
            step = plan.step(epoch, meter)  # the same one as long as the same parameters are trained
            start, seen, correct, total_loss = time.perf_counter(), 0, 0, 0.0
            for number, (images, labels) in enumerate(feed.train(epoch), start=epoch * steps):
                loss, logits = step(ms.Tensor(images), ms.Tensor(labels))

                loss = float(loss.asnumpy())
                if not np.isfinite(loss):
                    raise exploded(loss, epoch, number, rates, run)
                seen, total_loss = seen + len(labels), total_loss + loss * len(labels)
                correct += int((logits.asnumpy().argmax(axis=1) == labels).sum())
                speed = seen / (time.perf_counter() - start)
                meter.update(
                    f"epoch {epoch + 1}/{config.epochs}  loss {total_loss / seen:.3f}  acc {correct / seen:.3f}  "
                    f"lr {rates[number]:.4f}  {speed:.0f} images/s"
                )
                if interrupted():
                    raise KeyboardInterrupt

            seen, correct, total_loss = group.sum([seen, correct, total_loss])
            speed = seen / (time.perf_counter() - start)
            group.average_statistics(plan.network, plan.fixed)
            result = evaluation.measure(step.network, feed.val(), config.batch_size, run.info["class_names"], group)
            if not np.isfinite(result["loss"]):
                raise exploded(result["loss"], epoch, number, rates, run)
            row = {"epoch": epoch + 1, "step": (epoch + 1) * steps, "lr": float(rates[number])}
            row |= {"train_loss": total_loss / seen, "train_acc": correct / seen}
            row |= {"val_loss": result["loss"], "val_acc": result["accuracy"]}
            row |= {"images_per_s": speed, "seconds": time.perf_counter() - start}
            run.end_epoch(row, plan.network, plan.state(), result)
            say.info(
                f"epoch {epoch + 1:>3}/{config.epochs}  loss {row['train_loss']:.3f}  acc {row['train_acc']:.3f}  "
                f"val_loss {row['val_loss']:.3f}  val_acc {row['val_acc']:.3f}{'*' if run.best is row else ' '}  "
                f"lr {row['lr']:.4f}  {speed:.0f} images/s  {row['seconds']:.0f} s"
            )


# --- before the loop -------------------------------------------------------------------------------------------------


class Plan:
    """The training step of every epoch: a new one where parameters are unfrozen, with a fresh optimizer.

    A new cell, since MindSpore keeps what was frozen when a cell was first compiled, and would not notice.

    `trained` is the part that the feed's batches go through: the network, or its head where features are fed.
    """

    def __init__(
        self,
        network: nn.Cell,
        trained: nn.Cell,
        feed: Feed,
        rates: np.ndarray,
        config: EasyDict,
        group: Group = ALONE,
    ) -> None:
        self.network, self.trained, self.feed, self.rates, self.config = network, trained, feed, rates, config
        self.group = group
        self.names = [parameter.name for parameter in network.get_parameters()]
        self.prepared: TrainStep | None = None
        self.build(0)

    def step(self, epoch: int, meter: Meter) -> TrainStep:
        """The step, compiled, with its network in training mode."""
        fixed = freezing.frozen(self.names, self.config, epoch)
        if fixed != self.fixed:
            say.info(f"epoch {epoch + 1}: {len(self.fixed - fixed)} tensors unfrozen, {len(fixed)} still frozen")
            self.build(epoch)
        freezing.apply(self.network, fixed)
        if self.current is not self.prepared:
            compile_step(self.current, self.feed, self.config, epoch, meter)
            self.prepared = self.current
        return self.current

    def build(self, epoch: int) -> None:
        """A fresh step for this epoch: learning rates go on where the run is, the optimizer's moments begin anew."""
        self.fixed = freezing.frozen(self.names, self.config, epoch)
        freezing.apply(self.network, self.fixed)
        optimizer = build_optimizer(self.trained, self.rates, self.config)
        done = epoch * len(self.rates) // self.config.epochs
        optimizer.global_step.set_data(ms.Tensor(np.full(optimizer.global_step.shape, done, np.int32)))
        mean = self.group.gradient_mean(optimizer.parameters)
        step = TrainStep if self.config.amp_level == "O0" else ScaledTrainStep
        self.current = step(self.trained, nn.CrossEntropyLoss(), optimizer, mean)

    def resume(self, last: Weights | None, epoch: int) -> str:
        """Take up the optimizer from last.ckpt, unless something is unfrozen just now. The weights are there.

        Only the first of several workers has `last`; the others get what it holds.
        """
        self.build(epoch)
        if freezing.frozen(self.names, self.config, epoch - 1) != self.fixed:
            return "the optimizer begins anew: something is unfrozen just now"
        text = load_exactly(self.state(), last.tensors, last.path, "training state") if last else "training state: told"
        self.group.equalise(self.state().values())
        return text

    def state(self) -> dict[str, ms.Parameter]:
        """What last.ckpt holds: weights, moments, the step counter. The learning rates follow from the config."""
        own = {n: p for n, p in self.current.parameters_dict().items() if not n.startswith("learning_rate")}
        return self.network.parameters_dict() | own


def build_optimizer(trained: nn.Cell, rates: np.ndarray, config: Mapping[str, Any]) -> nn.Optimizer:
    """Momentum or Adam, one learning rate a step; weight decay on weights only, not on BatchNorm and biases."""
    trainable = trained.trainable_params()
    groups: dict[tuple[float, bool], list[ms.Parameter]] = {}
    for parameter in trainable:
        groups.setdefault((freezing.scale_of(parameter.name, config), parameter.ndim > 1), []).append(parameter)
    rows: list[dict[str, Any]] = [
        {
            "params": members,
            "weight_decay": config["weight_decay"] if decayed else 0.0,
            **({"lr": (rates * scale).tolist()} if config["lr_scale"] else {}),
        }
        for (scale, decayed), members in groups.items()
    ]
    rows.append({"order_params": trainable})
    if config["optimizer"] == "adam":
        return nn.Adam(rows, learning_rate=rates.tolist())
    return nn.Momentum(rows, learning_rate=rates.tolist(), momentum=config["momentum"])


def check_rates(rates: np.ndarray, steps: int) -> None:
    """TrainingError where the schedule is not exactly as long as the run: MindSpore would fail in its last epochs."""
    if len(rates) != steps or not np.isfinite(rates).all():
        raise TrainingError(
            f"The schedule has {len(rates)} learning rates, the run {steps} steps.",
            expected="one finite learning rate a step",
            fix="build it with epochs * steps_per_epoch entries",
        )


def compile_step(step: TrainStep, feed: Feed, config: EasyDict, epoch: int, meter: Meter) -> None:
    """Look at the first batch, say what it is, and compile the step for it."""
    images, labels = next(iter(feed.train(epoch)))
    data.check_labels(labels, config.class_num)
    say.info(
        f"first batch: images {images.dtype} {images.shape} from {images.min():.2f} to {images.max():.2f}, "
        f"labels {labels.dtype} {labels.shape} from {labels.min()} to {labels.max()}, {config.class_num} outputs"
    )
    if config.mode == "graph":
        with meter.compiling("the training step"):
            step.compile(ms.Tensor(images), ms.Tensor(labels))


def exploded(loss: float, epoch: int, number: int, rates: np.ndarray, run: Run) -> TrainingError:
    kept = f"{run.checkpoints}/best.ckpt, of epoch {run.best['epoch']}" if run.best else "none: no epoch was completed"
    return TrainingError(
        f"The loss became {loss} in epoch {epoch + 1}, step {number + 1} of {len(rates)} (lr {rates[number]:.4g}).",
        details=[("kept", kept)],
        expected="a finite loss at every step",
        fix=f"lower lr_max (now {max(rates):.4g}) to a tenth, or raise warmup_epochs; then look at the images",
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
    config.stages = [list(row) for row in config.stages or model.STAGES]
    config.profile = EasyDict(model.PROFILE | (config.profile or {}))
    freezing.check(freezing.outline(config.stages), config)
    return Run.create(name, config, report, epoch_images=epoch_images)


def resume(path: str | Path, report: DatasetReport | None = None) -> EasyDict:
    """Continue a run in its folder with its own config, after its last completed epoch; a finished one stays as is."""
    return go_on(*reopen(path), report)


def reopen(path: str | Path) -> tuple[Run, Weights | None]:
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


def go_on(run: Run, last: Weights | None, report: DatasetReport | None = None, group: Group = ALONE) -> EasyDict:
    """Continue where the run is: check that its images are the same, then train the rest, alone or in a group."""
    config = run.config
    if run.finished:
        say.info("%s is finished: %d of %d epochs; nothing to do", run.path, run.epoch, config.epochs)
        return outcome(run, 0.0)
    report = same_data(run, report)
    with run.recording():
        if run.epoch >= config.epochs:  # stopped after its last epoch, before its end
            return finish(run, report, time.perf_counter())
        if run.epoch:
            say.info("resuming %s after epoch %d of %d", run.path, run.epoch, config.epochs)
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


def go(run: Run, report: DatasetReport, last: Weights | None = None, group: Group = ALONE) -> EasyDict:
    """Start the device, build the network, give it the weights it begins with, and train."""
    config = run.config
    share_batch(run, group)
    if group.size == 1:  # msrun's workers have started theirs
        run.manifest["device"] = runtime.start(**{key: config[key] for key in runtime.SETTINGS})
        run.write_manifest()
    network = new_network(config)
    if run.manifest["device"] == "cpu" and config.mode == "graph":
        folding.fold_small_maps(network.backbone, config.batch_size, config.image_size, cores())
    if config.sync_bn and group.size > 1:
        workers.synchronise(network, group)
    if last and group.rank == 0:  # the optimizer comes later; features of a frozen backbone need its weights now
        load_exactly(network.parameters_dict(), last.backbone | last.head, last.path, "network")
    elif run.manifest["parent"] and group.rank == 0:
        say.info(load_parent(network, parent_of(run), config, run.manifest))
    group.equalise(network.get_parameters())
    return run_training(run, network, report, last, group)


def share_batch(run: Run, group: Group) -> None:
    """Set batch_size so that all workers together take as many images a step as the run began with; say what is what.

    Raises ConfigError where they cannot.
    """
    config, began = run.config, run.manifest.get("workers", 1)
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
        say.info(
            f"{group.size} workers x {config.batch_size} = {together} images a step; lr_max: {config.lr_max:g} "
            + (scaled if factor != 1 else f"as it is (lr_scaling=linear would multiply it by {began})")
        )


def lr_factor(config: Mapping[str, Any], workers: int) -> float:
    """The factor on lr_max where so many workers share a step (linear: Goyal et al. 2017; sqrt: Krizhevsky 2014)."""
    return {"none": 1.0, "linear": float(workers), "sqrt": workers**0.5}[config["lr_scaling"]]


def parent_of(run: Run) -> Weights:
    """The file that a run began from. Raises RunError where it has changed since."""
    parent = run.manifest["parent"]
    if not Path(parent["file"]).is_file() or sha256(Path(parent["file"])) != parent["sha256"]:
        raise RunError(
            f"{run.path} began from {parent['file']}, which is not there (seen from {Path.cwd()}), or is another now.",
            expected=f"the file with sha256 {parent['sha256'][:12]}…: no epoch was completed that holds its weights",
            fix="restore the file, or begin a new run",
        )
    return read(parent["file"])


def load_parent(network: nn.Cell, weights: Weights, config: EasyDict, manifest: Mapping[str, Any]) -> str:
    """Put a parent's weights into a fresh network: its backbone and, in incremental training, its head's known rows."""
    only = manifest["parent"].get("only")
    text = load_exactly(network.backbone.parameters_dict(), weights.backbone, weights.path, "backbone", only)
    if manifest["kind"] != "incremental":
        return f"{text}; head: new ({config.class_num} classes)"
    names, known = manifest["class_names"], weights.class_names
    for part, fresh in network.head.parameters_dict().items():
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
    run: Run, network: nn.Cell, report: DatasetReport, last: Weights | None = None, group: Group = ALONE
) -> EasyDict:
    """Train `network` as run.config says, with the optimizer of `last` where given."""
    start, config = time.perf_counter(), run.config
    names = [parameter.name for parameter in network.get_parameters()]
    parts = {name: evaluation.images_of(report, name) for name in ("train", "val")}
    parts = decoded.keep(parts, config, report, group)
    train_images, val_images = parts["train"], parts["val"]
    train_images = train_images.spread(run.manifest.get("epoch_images") or len(train_images))
    steps = data.steps_per_epoch(train_images, config.batch_size, group.size)
    highest = config.lr_max * lr_factor(config, run.manifest.get("workers", 1))
    rates = schedule.warmup_cosine(config.epochs, steps, config.warmup_epochs, config.lr_init, highest, config.lr_end)
    check_rates(rates, config.epochs * steps)
    run.info = {
        "schema": 1,
        "class_names": report.class_names,
        "image_size": config.image_size,
        "mean": config.mean,
        "std": config.std,
        "stages": config.stages,
        "profile": dict(config.profile),
    }
    images = data.ImageFeed(train_images, val_images, config, group)
    feed, trained = images, network
    before = run.manifest.get("features")  # whether they were used; None in a run that begins
    if freezing.is_frozen_throughout(names, config) and config.feature_views and before is not False:
        feed, trained = features.feed(network, images, report.fingerprint, required=bool(before))
    run.manifest["features"] = trained is not network  # a resume goes the same way
    run.write_manifest()
    if config.amp_level != "O0":
        trained = ms.amp.auto_mixed_precision(trained, config.amp_level)
    plan = Plan(network, trained, feed, rates, config, group)
    if run.epoch:
        say.info(plan.resume(last, run.epoch))
    counted = sum(parameter.size for parameter in trained.trainable_params())
    say.info(
        f"{run.path}: {len(train_images)} training and {len(val_images)} validation images, "
        f"{len(report.class_names)} classes, {counted:,} weights to train, "
        f"frozen: {freezing.describe(names, config)}, {config.epochs} epochs of {steps} steps"
    )
    fit(plan, run)
    return finish(run, report, start)


def finish(run: Run, report: DatasetReport, start: float) -> EasyDict:
    """After the last epoch: the linear model, and what came of it all."""
    if not run.writes:
        return outcome(run, time.perf_counter() - start)
    train, val = evaluation.samples(report, "train", most=5000), evaluation.samples(report, "val")
    run.manifest["metrics"]["linear_acc"] = metrics.linear_baseline(train, val)[0]
    result = outcome(run, time.perf_counter() - start)
    say.info(
        f"best val_acc {result.val_acc:.3f} in epoch {result.best_epoch}; a linear model of 8x8 thumbnails has "
        f"{result.linear_acc:.3f}; {result.seconds:.0f} s; {run.path}"
    )
    if result.val_acc <= result.linear_acc:
        say.info("note: the network does not beat that linear model; train longer, or with another lr_max")
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
    return model.ResNet50(backbone, model.resnet50_head(config.class_num, backbone.channels))


def name_of(config: Any) -> str:
    return Path(config).stem if isinstance(config, str | Path) else "run"
