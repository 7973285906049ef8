"""Training: one visible loop. What varies is passed in; what happens around the loop is below it."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from easydict import EasyDict
from mindspore import nn

from mslab import data, evaluation, metrics, model, runtime, schedule
from mslab.check import DatasetReport, check_dataset
from mslab.checkpoint import load_exactly, read
from mslab.config import load_config
from mslab.errors import ConfigError, DatasetError, RunError, TrainingError
from mslab.progress import Meter
from mslab.runfolder import Run

say = logging.getLogger("mslab")


class TrainStep(nn.Cell):
    """Forward, loss, gradients, update: what MindSpore compiles into one graph.

    images float32 (N, 3, H, W), labels int32 (N,) -> mean loss float32 (), logits float32 (N, class_num)
    """

    def __init__(self, network: nn.Cell, loss: nn.Cell, optimizer: nn.Optimizer) -> None:
        super().__init__(auto_prefix=False)
        self.network, self.loss, self.optimizer = network, loss, optimizer
        self.gradients = ms.value_and_grad(self.forward, None, optimizer.parameters, has_aux=True)

    def forward(self, images: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        logits = self.network(images)
        return self.loss(logits, labels), logits

    def construct(self, images: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        (loss, logits), gradients = self.gradients(images, labels)
        self.optimizer(gradients)
        return loss, logits


def fit(step: TrainStep, rates: np.ndarray, train: data.Images, val: data.Images, config: EasyDict, run: Run) -> None:
    """Train from run.epoch to config.epochs; measure and keep every epoch.

    `rates` is the learning rate of every step. Raises TrainingError where the loss is not finite, and
    KeyboardInterrupt after the step in which Ctrl-C was pressed.
    """
    steps = len(rates) // config.epochs
    with Meter(len(rates), steps * run.epoch) as meter, runtime.interruptible() as interrupted:
        prepare(step, train, config, run.epoch, meter)
        for epoch in range(run.epoch, config.epochs):
            start, seen, correct, total_loss = time.perf_counter(), 0, 0, 0.0
            set_training(step.network, config.freeze)
            for number, (images, labels) in enumerate(data.train_batches(train, config, epoch), start=epoch * steps):
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

            result = evaluation.measure(step.network, val, config)
            if not np.isfinite(result["loss"]):
                raise exploded(result["loss"], epoch, number, rates, run)
            row = {"epoch": epoch + 1, "step": (epoch + 1) * steps, "lr": float(rates[number])}
            row |= {"train_loss": total_loss / seen, "train_acc": correct / seen}
            row |= {"val_loss": result["loss"], "val_acc": result["accuracy"]}
            row |= {"images_per_s": speed, "seconds": time.perf_counter() - start}
            run.end_epoch(row, step.network, training_state(step), result)
            say.info(
                f"epoch {epoch + 1:>3}/{config.epochs}  loss {row['train_loss']:.3f}  acc {row['train_acc']:.3f}  "
                f"val_loss {row['val_loss']:.3f}  val_acc {row['val_acc']:.3f}{'*' if run.best is row else ' '}  "
                f"lr {row['lr']:.4f}  {speed:.0f} images/s  {row['seconds']:.0f} s"
            )


# --- before the loop -------------------------------------------------------------------------------------------------


def set_training(network: nn.Cell, freeze: str) -> None:
    """Training mode. A frozen backbone stays in evaluation mode: requires_grad alone lets BatchNorm statistics move."""
    network.set_train()
    if freeze == "all":
        network.backbone.set_train(False)


def build_optimizer(network: nn.Cell, rates: np.ndarray, config: Mapping[str, Any]) -> nn.Optimizer:
    """Momentum or Adam, one learning rate a step; weight decay on weights only, not on BatchNorm and biases."""
    trainable = network.trainable_params()
    decayed = [parameter for parameter in trainable if parameter.ndim > 1]
    others = [parameter for parameter in trainable if parameter.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config["weight_decay"]},
        {"params": others, "weight_decay": 0.0},
        {"order_params": trainable},
    ]
    if config["optimizer"] == "adam":
        return nn.Adam(groups, learning_rate=rates.tolist())
    return nn.Momentum(groups, learning_rate=rates.tolist(), momentum=config["momentum"])


def training_state(step: TrainStep) -> dict[str, ms.Parameter]:
    """What last.ckpt holds: weights, momentum, the step counter. The learning rates follow from the config."""
    return {name: parameter for name, parameter in step.parameters_dict().items() if name != "learning_rate"}


def check_rates(rates: np.ndarray, steps: int) -> None:
    """TrainingError where the schedule is not exactly as long as the run: MindSpore would fail in its last epochs."""
    if len(rates) != steps or not np.isfinite(rates).all():
        raise TrainingError(
            f"The schedule has {len(rates)} learning rates, the run {steps} steps.",
            expected="one finite learning rate a step",
            fix="build it with epochs * steps_per_epoch entries",
        )


def prepare(step: TrainStep, train: data.Images, config: EasyDict, epoch: int, meter: Meter) -> None:
    """Look at the first batch, say what it is, and compile the step for it."""
    images, labels = next(iter(data.train_batches(train, config, epoch)))
    data.check_labels(labels, config.class_num)
    say.info(
        f"first batch: images {images.dtype} {images.shape} from {images.min():.2f} to {images.max():.2f}, "
        f"labels {labels.dtype} {labels.shape} from {labels.min()} to {labels.max()}, {config.class_num} outputs"
    )
    if config.mode == "graph":
        set_training(step.network, config.freeze)
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
) -> EasyDict:
    """Check the data, train from scratch, leave a run folder. Returns run (its path), val_acc, linear_acc, seconds …

    `config` is a YAML file or a dict. Raises ConfigError, DatasetError, DeviceError or TrainingError.
    """
    resolved = load_config(config, overrides)
    if resolved.freeze != "none":
        raise ConfigError(
            f"freeze: {resolved.freeze} in training from scratch would keep the backbone at its random weights.",
            expected="freeze: none, or a backbone to keep",
            fix="mslab transfer CONFIG --backbone FILE, or freeze=none",
        )
    report = checked(resolved, report)
    resolved.stages = [list(row) for row in resolved.stages or model.STAGES]
    run = Run.create(name or name_of(config), resolved, report, parent=None)
    with run.recording():
        start_device(run, resolved)
        return run_training(run, new_network(resolved), report)


def resume(path: str | Path, report: DatasetReport | None = None) -> EasyDict:
    """Continue a run in its folder with its own config, after its last completed epoch; a finished one stays as is."""
    run = Run.open(path)
    config = run.config
    last = run.checkpoints / "last.ckpt"
    completed = read(last).info["epoch"] if last.is_file() else 0
    if len(run.rows) < completed:
        raise RunError(
            f"{run.path}/history.csv has {len(run.rows)} epochs, last.ckpt is of epoch {completed}.",
            expected="a row for every completed epoch, as mslab writes them",
            fix="restore history.csv, or begin a new run",
        )
    run.rows = run.rows[:completed]
    if run.epoch >= config.epochs:
        say.info("%s is finished: %d of %d epochs; nothing to do", run.path, run.epoch, config.epochs)
        return outcome(run, 0.0)
    report = checked(config, report, run.manifest["data"].get("skip_check", False))
    if report.fingerprint != run.manifest["data"]["fingerprint"]:
        raise DatasetError(
            f"The images are not those that {run.path} began with: other files, or other contents.",
            expected=f"the data set with the fingerprint {run.manifest['data']['fingerprint'][:12]}…",
            fix="restore the images, or begin a new run with mslab train",
        )
    with run.recording():
        say.info("resuming %s after epoch %d of %d", run.path, run.epoch, config.epochs)
        start_device(run, config)
        network = new_network(config)
        if not last.is_file() and run.manifest["parent"]:  # stopped before its first epoch ended
            parent = read(run.manifest["parent"]["file"])
            say.info(load_exactly(network.backbone.parameters_dict(), parent.split()[0], parent.path, "backbone"))
        return run_training(run, network, report, last if last.is_file() else None)


def run_training(run: Run, network: nn.Cell, report: DatasetReport, last: Path | None = None) -> EasyDict:
    """Train `network` as run.config says, from `last` (weights and optimizer) where given."""
    start, config = time.perf_counter(), run.config
    train_images, val_images = evaluation.images_of(report, "train"), evaluation.images_of(report, "val")
    steps = data.steps_per_epoch(train_images, config.batch_size)
    rates = schedule.warmup_cosine(
        config.epochs, steps, config.warmup_epochs, config.lr_init, config.lr_max, config.lr_end
    )
    check_rates(rates, config.epochs * steps)
    if config.freeze == "all":
        for parameter in network.backbone.get_parameters():
            parameter.requires_grad = False
    step = TrainStep(network, nn.CrossEntropyLoss(), build_optimizer(network, rates, config))
    if last:
        say.info(load_exactly(training_state(step), read(last).tensors, last, "training state"))
    run.info = {
        "schema": 1,
        "class_names": report.class_names,
        "image_size": config.image_size,
        "mean": config.mean,
        "std": config.std,
        "stages": config.stages,
        "profile": model.PROFILE,
    }
    counted = sum(parameter.size for parameter in network.trainable_params())
    say.info(
        f"{run.path}: {len(train_images)} training and {len(val_images)} validation images, "
        f"{len(report.class_names)} classes, {counted:,} weights to train, {config.epochs} epochs of {steps} steps"
    )
    fit(step, rates, train_images, val_images, config, run)
    run.manifest["metrics"]["linear_acc"] = metrics.linear_baseline(report.samples("train"), report.samples("val"))[0]
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
    backbone = model.resnet50_backbone(config.stages)
    return model.ResNet50(backbone, model.resnet50_head(config.class_num, backbone.channels))


def start_device(run: Run, config: EasyDict) -> None:
    run.manifest["device"] = runtime.start(config.device, config.mode, config.seed)
    run.write_manifest()


def name_of(config: Any) -> str:
    return Path(config).stem if isinstance(config, str | Path) else "run"
