"""Build the parts of a training: this process's settings, network, feed, trainer, callbacks."""

import logging
import math
from collections.abc import Mapping, Sized
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from mslab import cpu_layout, model
from mslab.check import DatasetReport, cores
from mslab.check.label_report import LabelReport
from mslab.check.report import counted
from mslab.checkpoint import Checkpoint, dialects, load_exactly, networks
from mslab.config import Settings, tasks
from mslab.config.language import translated
from mslab.config.resolve import Machine, resolve
from mslab.data import augment, batching, decoded, labelled_feed
from mslab.data.labelled_feed import LabelFeed
from mslab.data.sources import ImageSource, images_of
from mslab.evaluation import engines
from mslab.evaluation.engines import Engine
from mslab.runs.folder import RunFolder
from mslab.runtime import compiled_layers, devices, workers
from mslab.runtime.console import PROSE
from mslab.runtime.tables import plural
from mslab.runtime.workers import Group
from mslab.tasks import layout
from mslab.tasks.network import network_of
from mslab.tasks.registry import class_of, task_of
from mslab.training import features, finetuning, freezing, learning_rates, losses, zh
from mslab.training.callbacks import Callback
from mslab.training.examining import Examiner, Feed, OfClasses, OfTask
from mslab.training.monitor import Monitor
from mslab.training.trainer import Trainer

log = logging.getLogger("mslab")


def local_settings(run: RunFolder, report: DatasetReport, group: Group) -> Settings:
    """Start the device, and resolve the run's settings for this process: a resume divides the batch anew."""
    workers_before = run.manifest.get("workers", 1)
    run.device = run.device or devices.choose_device(run.settings.device)
    machine = Machine(run.device, cores(), group.size, workers_before)
    settings, _ = resolve(run.settings, report.images_in("train"), None, machine)
    if run.epochs_done:
        log.info("resuming %s after epoch %d of %d", run.path, run.epochs_done, settings.epochs)
        if settings.data_workers < run.settings.data_workers:
            log.info(
                f"note: data_workers: {run.settings.data_workers}, but {settings.data_workers} cores here: images are "
                "augmented differently than in an uninterrupted run"
            )
        if settings.dropout:
            log.info("note: dropout now leaves out other features than in an uninterrupted run")
    if workers_before > 1 or group.size > 1:
        together, factor = settings.batch_size * group.size, learning_rates.lr_factor(settings, workers_before)
        scaled = f"x {factor:.3g} = {settings.lr_max * factor:.4g} (lr_scaling: {settings.lr_scaling})"
        log.info(
            f"{group.size} workers x {settings.batch_size} = {together} images a step; lr_max: {settings.lr_max:g} "
            + (scaled if factor != 1 else f"unchanged (lr_scaling=linear would multiply it by {workers_before})")
        )
    if group.size == 1:  # msrun's workers have started their device
        devices.start_chosen(**devices.setup_of(settings, run.device))
        run.record_device(run.device)
    return settings


def label_feed(run: RunFolder, settings: Settings, report: DatasetReport, group: Group) -> LabelFeed | None:
    """The batches of a task with labels of its own; None for classification."""
    return feed_of(settings, report, group, run.manifest.get("epoch_images"))


def feed_of(
    settings: Settings, report: DatasetReport, group: Group = workers.ALONE, epoch_parts: int | None = None
) -> LabelFeed | None:
    """The same without a run. `epoch_parts`: parts an epoch, if not all of them once."""
    if not isinstance(report, LabelReport):
        return None
    task = task_of(class_of(settings.task).record(report.first, settings.model_dump()))
    needed = decoded.size_of(report) * group.local if settings.cache == "memory" else 0
    if reason := decoded.memory_problem(needed):
        log.info(f"cache: memory: decoded images are not cached: {reason}; every epoch decodes them again")
    keep = settings.cache == "memory" and not reason
    train, val = (labelled_feed.images_of(report, name, keep) for name in ("train", "val"))
    network = networks.of_settings(settings)
    stride = 1
    if isinstance(network, networks.ResNet) and task.is_map:
        stride = layout.levels(layout.stage_shapes(network.stages, network.profile))[0][1]
    return LabelFeed(task, train, val, settings, stride, group, epoch_parts)


def build_network(
    run: RunFolder, settings: Settings, last: Checkpoint | None, group: Group, labels: LabelFeed | None = None
) -> nn.Cell:
    """The network with its initial or resumed weights, equal in all workers."""
    network = new_network(settings, labels)
    if group.rank == 0 and not run.epochs_done and (names := unlike_the_table(network, settings)):
        log.info(
            f"note: model.py builds a network that its table does not describe: {', '.join(names)}. It can be "
            "trained and resumed, but eval, predict, report and transfer cannot load its checkpoints"
        )
    apply_cpu_layout(network, settings, run.device)
    if settings.sync_bn and group.size > 1:
        workers.synchronise(network, group)
    library = compiled_layers.replace_layers(network)
    if library.problem and group.rank == 0 and not run.epochs_done:
        log.info(f"note: training takes some 20 % longer with MindSpore's operators: {library.problem}; {library.fix}")
    if last and group.rank == 0:  # the optimizer comes later; features of a frozen backbone need its weights now
        load_exactly(network.parameters_dict(), last.backbone | last.head, last.path, "network")
    elif run.manifest["parent"] and group.rank == 0:
        log.info(finetuning.load_parent(network, finetuning.parent_of(run), run.manifest, settings.task))
    group.broadcast_parameters(network.get_parameters())
    return network


def apply_cpu_layout(network: nn.Cell, settings: Settings, device: str) -> None:
    """On a CPU, replace the pool, and compute small maps side by side."""
    if device != "cpu" or settings.mode != "graph" or not isinstance(network.backbone, model.Backbone):
        return
    most = 1 if settings.task in tasks.MAPS else None  # the neck reads the maps between the stages
    cpu_layout.replace_pool(network.backbone)
    crop, _, eval_crop = augment.sizes(settings)
    batch = math.gcd(settings.batch_size, batching.eval_batch_size(settings))
    cpu_layout.stack_small_maps(network.backbone, batch, {crop, eval_crop}, cores(), most)


def new_network(settings: Settings, labels: LabelFeed | None = None) -> nn.Cell:
    """A fresh network of the settings, with class_num classes, or with the head that learns these labels."""
    backbone = networks.of_settings(settings).backbone()
    if labels is not None:
        return network_of(labels.task, backbone, labels.targets(), settings.head_hidden, settings.dropout)
    head = model.resnet50_head(settings.class_num, backbone.channels, settings.head_hidden, settings.dropout)
    return model.ResNet50(backbone, head)


def unlike_the_table(network: nn.Cell, settings: Settings) -> list[str]:
    """The first names of tensors that the table of stages does not explain, or that lack: model.py's code is edited."""
    shapes = {parameter.name: tuple(parameter.shape) for parameter in network.get_parameters()}
    known = networks.of_settings(settings).layout()
    parts = dialects.HEADS if settings.head_hidden else dialects.HEADS[:1]
    heads = [f"{part}{name}" for part in parts for name in ("weight", "bias")]
    if settings.task in tasks.MAPS:
        heads = [name for name in shapes if name.startswith(layout.HEADS)]
    known |= {name: shapes[name] for name in heads if name in shapes}
    different = [name for name in {**shapes, **known} if shapes.get(name) != known.get(name)]
    return [*different[:3], *["…"] * (len(different) > 3)]


def build_feed(
    run: RunFolder,
    settings: Settings,
    report: DatasetReport,
    network: nn.Cell,
    group: Group,
    labels: LabelFeed | None = None,
) -> tuple[Feed, nn.Cell]:
    """The batches, and the part of the network that they go through: its head if the backbone's features are cached."""
    if labels is not None:
        run.manifest["features"] = False
        run.write_manifest()
        return labels, network
    parts: dict[str, ImageSource] = {name: images_of(report, name) for name in ("train", "val")}
    trained, feed = network, image_feed(run, settings, parts, group)
    names = [parameter.name for parameter in network.get_parameters()]
    used_before = run.manifest.get("features")  # None in a new run
    use_features = (
        freezing.is_frozen_throughout(names, settings) and settings.feature_views and not augment.mixes(settings)
    )
    if use_features and used_before is not False:
        engine = features_engine(run, settings)
        feed, trained = features.feed(network, feed, report.fingerprint, engine, required=bool(used_before))
        run.manifest["features_engine"] = engine.record() if trained is not network else None
    run.manifest["features"] = trained is not network  # a resume does the same
    run.write_manifest()
    if trained is network:  # features need every image only once for each view
        feed = image_feed(run, settings, decoded.cache_decoded(parts, settings, report, group), group)
    return feed, trained


def image_feed(
    run: RunFolder, settings: Settings, parts: Mapping[str, ImageSource], group: Group
) -> batching.ImageFeed:
    """The batches of these splits, with as many training images an epoch as the run sets."""
    images = parts["train"].resample(run.manifest.get("epoch_images") or len(parts["train"]))
    return batching.ImageFeed(images, parts["val"], settings, group)


def features_engine(run: RunFolder, settings: Settings) -> Engine:
    """The engine of a frozen backbone: in a resume the one that the run began with. Raises what engines.choose does."""
    if not run.manifest.get("features"):
        return engines.choose(settings.engine, settings.precision, run.device, networks.of_settings(settings))
    began = run.manifest.get("features_engine") or {"engine": "mindspore", "precision": "fp32"}  # of an older run
    return engines.choose(began["engine"], began["precision"])  # on the CPU, also if the head now trains elsewhere


def build_trainer(
    run: RunFolder,
    settings: Settings,
    network: nn.Cell,
    trained: nn.Cell,
    feed: Feed,
    last: Checkpoint | None,
    group: Group,
) -> Trainer:
    """The trainer at the run's current epoch; in a resume with the optimizer of `last`."""
    images: Sized = feed.images if isinstance(feed, batching.ImageFeed) else feed.train_parts
    steps = batching.steps_per_epoch(images, settings.batch_size, group.size, settings.grad_accumulation_step)
    curve = learning_rates.rates_of(settings, steps, learning_rates.lr_factor(settings, run.manifest.get("workers", 1)))
    learning_rates.check_rates(curve, settings.epochs * steps)
    if settings.amp_level != "O0":
        trained = ms.amp.auto_mixed_precision(trained, settings.amp_level)
    examiner: Examiner = OfClasses()
    if isinstance(feed, batching.ImageFeed):
        criterion = losses.build(settings, np.bincount(feed.images.labels, minlength=settings.class_num))
    else:
        criterion = feed.task.loss(feed.targets(), settings.weighted_loss)
        examiner = OfTask(criterion, feed)
    rollbacks = run.manifest["rollbacks"]
    trainer = Trainer(network, trained, feed, curve, criterion, settings, group, rollbacks, examiner)
    if run.epochs_done:
        log.info(trainer.resume(last, run.epochs_done))
    trainable = sum(parameter.size for parameter in trained.trainable_params())
    crops = f" ({len(images)} crops an epoch)" if len(images) != len(feed.images) else ""
    log.info(
        f"{run.path}: {len(feed.images)} training{crops} and {len(feed.val_images)} validation images, "
        f"{counted(len(feed.class_names), tasks.NOUNS.get(settings.task, 'class'))}, {trainable:,} weights to train, "
        f"frozen: {freezing.describe(trainer.names, settings)}, "
        f"{plural(settings.epochs, 'epoch')} of {plural(steps, 'step')}",
        extra=PROSE,
    )
    return trainer


def network_info(settings: Settings, report: DatasetReport) -> dict[str, Any]:
    """The `mslab` entry of the run's checkpoints: what it takes to evaluate a lone file."""
    mean, std = augment.scale(settings)
    _, resize, crop = augment.sizes(settings)
    if isinstance(report, LabelReport):
        own = class_of(settings.task).record(report.first, settings.model_dump())
        size = {"image_size": crop, "resize_size": resize, "resize_mode": "pad", "mean": mean, "std": std}
        return {"schema": 1, **own, **size, **networks.of_settings(settings).record()}
    chosen = {"folders": report.folders_of} if report.folders_of else {}  # eval reads other data in the same way
    squared = {} if settings.resize_mode == "crop" else {"resize_mode": settings.resize_mode}
    return {
        "schema": 1,
        "class_names": report.class_names,
        "image_size": crop,
        "resize_size": resize,
        "mean": mean,
        "std": std,
        **networks.of_settings(settings).record(),
        **chosen,
        **squared,
    }


def make_callbacks(run: RunFolder, group: Group) -> list[Callback]:
    """The monitor, and the event log if log_to asks for it."""
    warned = [warning["code"] for warning in run.manifest["warnings"]]

    def warn(code: str, text: str) -> None:  # manifest.json has the English text, the log the user's language
        shown = translated(text, zh.WARNINGS.get(code, {}))
        run.warn(code, text, f"警告（{code}）：{shown}" if shown != text else "")

    classes = run.manifest["class_names"] if run.settings.task == tasks.CLASSIFY else ()
    callbacks: list[Callback] = [Monitor(classes, warn, warned)]
    if run.settings.log_to != "none":
        from mslab.training.eventlog import EventLog  # imported here: it brings tensorboardX

        callbacks.append(EventLog(run, group))
    return callbacks
