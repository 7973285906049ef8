"""No setting is accepted and ignored: each is set to another value here, and its effect differs."""

import hashlib
import json
import math
from functools import cache
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from helpers import STAGES, settings

from mslab import check
from mslab.check import training_data
from mslab.config import FIELDS, load_settings
from mslab.config.resolve import Machine, resolve
from mslab.data import batching, decoded, sources
from mslab.errors import DeviceError, TrainingError
from mslab.evaluation import engines
from mslab.runtime import devices
from mslab.runtime.workers import ALONE, Group
from mslab.tasks.average_precision import Detections
from mslab.tasks.labels import Category, ImageLabels, LabelSet
from mslab.tasks.registry import class_of, task_of
from mslab.training import build, features, freezing, learning_rates, losses, start, stopping
from mslab.training.trainer import Trainer

BASE = {"stages": STAGES[:1], "epochs": 3, "warmup_epochs": 1, "image_size": 16, "batch_size": 6}

# Each probe takes a config and returns the thing that the settings of its table change.


def rates(config):
    """The schedule of two workers."""
    return learning_rates.rates_of(config, 5, learning_rates.lr_factor(config, 2)).tolist()


RATES = {  # setting: (another value, settings that it needs)
    "epochs": (4, {}),
    "lr_scheduler": ("constant", {}),
    "warmup_epochs": (2, {}),
    "lr_init": (0.02, {}),
    "lr_max": (0.2, {}),
    "lr_end": (0.01, {}),
    "cosine_cycles": (1.5, {}),
    "step_lr_gamma": (0.25, {"lr_scheduler": "step", "step_lr_step_size": 1}),
    "step_lr_step_size": (2, {"lr_scheduler": "step"}),
    "lr_scheduler_step": ("2", {}),
    "lr_scheduler_factor": (0.5, {"lr_scheduler_step": "2"}),
    "learning_rate_strategy": ("1:0.1->0.2,3:0.2~>0.01", {}),
    "lr_scaling": ("linear", {}),
}


@cache
def report_of(train, val, ignore=(), classes="null", merge="{}"):
    return check.check_dataset(train, val, ignore=ignore, classes=json.loads(classes), merge=json.loads(merge))


def images(config):
    chosen = json.dumps(config.classes), json.dumps(config.merge)
    report = report_of(config.train_data, config.val_data, tuple(config.ignore), *chosen)
    return sources.images_of(report, "train"), sources.images_of(report, "val")


def digest(batches):
    sha256 = hashlib.sha256()
    for x, y in batches:
        sha256.update(x.tobytes() + y.tobytes())
    return sha256.hexdigest()


def batches(config):
    return digest(batching.train_batches(images(config)[0], config, 0))


BATCHES = {
    "train_data": ("test", {}),  # of the same folder
    "classes": (["a", "b"], {"class_num": 2}),
    "merge": ({"x": ["a", "b"], "y": ["c"]}, {}),
    "resize_mode": ("pad", {}),
    "image_size": (32, {}),
    "train_crop_size": (24, {}),
    "batch_size": (4, {}),
    "label_balance": (True, {}),
    "crop_scale": (1.0, {}),
    "flip": (False, {}),
    "vertical_flip": (True, {}),
    "color_jitter": (0.0, {}),
    "auto_augment": ("randaugment", {}),
    "random_erasing": (1.0, {}),
    "mixup_alpha": (0.4, {}),
    "cutmix_alpha": (1.0, {}),
    "transform_normalize": (False, {}),
    "mean": ([0.5, 0.5, 0.5], {}),
    "std": ([0.5, 0.5, 0.5], {}),
    "seed": (2, {}),
    "data_workers": (2, {}),
    "ignore": (["000.png"], {}),
}


def measured(config):
    """The batches that the network is measured on."""
    return digest(batching.ImageFeed(*images(config), config).val())


MEASURED = {
    "val_data": ("test", {}),
    "valid_resize_size": (20, {}),
    "valid_crop_size": (16, {"valid_resize_size": 32, "image_size": 32}),
    "validation_batch_size": (4, {}),
}


def trainer_of(config):
    """A trainer with two steps per epoch."""
    config, _ = resolve(config, 1000, None, Machine("cpu", 2))
    devices.start("cpu", "pynative", seed=1)
    network = build.new_network(config)
    counts = np.array([24, 8, 2, 1][: config.class_num])  # so that classes weigh differently
    feed = batching.ImageFeed(*images(config), config)
    return Trainer(network, network, feed, learning_rates.rates_of(config, 2), losses.build(config, counts), config)


def weights(config):
    """sha256 of a network's parameters and of their averages after four steps, in two epochs."""
    key = config.model_dump_json()  # the baseline is the same for most settings
    if key not in WEIGHED:
        trainer, sha256 = trainer_of(config), hashlib.sha256()
        for epoch in range(2):
            trainer.begin_epoch(epoch, [])
            for x, y in trainer.batches(epoch):
                trainer.step(ms.Tensor(x), ms.Tensor(y))
        for parameter in [*trainer.network.get_parameters(), *trainer.averages().values()]:
            sha256.update(parameter.asnumpy().tobytes())
        WEIGHED[key] = sha256.hexdigest()
    return WEIGHED[key]


def tensors(config):
    return [parameter.name for parameter in build.new_network(config).get_parameters()]


WEIGHED = {}
ADAM = {"optimizer": "adam", "lr_init": 1e-3, "lr_max": 1e-3}
WEIGHTS = {
    "class_num": (4, {}),
    "stages": ([[1, 16, 1]], {}),
    "profile": ({"eps": 0.01}, {}),
    "stem": ("small", {}),
    "head_hidden": (8, {}),
    "dropout": (0.5, {}),
    "optimizer": ("adam", {}),
    "momentum": (0.5, {}),
    "nesterov": (True, {}),
    "beta1": (0.5, ADAM),
    "beta2": (0.9, ADAM),
    "amsgrad": (True, ADAM | {"beta2": 0.5}),
    "weight_decay": (0.1, {}),
    "clip_grad_norm": (0.01, {}),
    "grad_accumulation_step": (2, {}),
    "ema_decay": (0.5, {}),
    "label_smoothing": (0.2, {}),
    "weighted_loss": (2, {}),
    "focal_gamma": (2.0, {}),
    "ohem_top_ratio": (0.5, {}),
    "lr_scale": ({"backbone": 0.1}, {}),
    "freeze": ("all", {}),
    "layers_to_freeze": (1, {}),
    "freeze_layer_pattern": (r"^conv1\.", {}),
    "unfreeze": ({2: "layer1"}, {"freeze": "all"}),
}


def decided(config):
    """The decisions after each epoch of a history that does not improve: measured, saved, stopped, and the rate."""
    accuracies = [0.5, 0.52, 0.53, *[0.53] * 7]
    rows = [{"epoch": n, "val_acc": acc, "val_loss": 1 - n / 20} for n, acc in enumerate(accuracies, 1)]
    for epoch, row in enumerate(rows):
        if not stopping.is_measured(epoch, config):
            row["val_acc"] = math.nan
    return [
        (
            stopping.is_measured(epoch, config),
            stopping.is_saved(epoch, config),
            stopping.reason(rows[: epoch + 1], config, 0.1),
            stopping.rate_factor(rows[: epoch + 1], config),
        )
        for epoch in range(len(rows))
    ]


LONG, PLATEAU = {"epochs": 12}, {"epochs": 12, "lr_scheduler": "plateau"}
EARLY = LONG | {"early_stopping": True, "early_stopping_patience": 2}
DECIDED = {
    "do_eval_along_train": (False, LONG),
    "evaluation_frequency": (2, LONG),
    "checkpoint_frequency": (2, LONG),
    "best_by": ("loss", EARLY),
    "early_stopping": (True, LONG | {"early_stopping_patience": 2}),
    "early_stopping_patience": (3, EARLY),
    "early_stopping_delay": (4, EARLY),
    "early_stopping_min_epochs": (8, EARLY),
    "early_stopping_tolerance": (0.1, EARLY),
    "target_accuracy": (0.52, LONG),
    "target_loss": (0.8, LONG),
    "plateau_patience": (1, PLATEAU),
    "lr_floor": (0.05, PLATEAU),
}


def setup_calls(config):
    """The calls that set MindSpore up."""
    return devices.setup_calls(**devices.setup_of(config, config.device))


ASCEND = {"device": "ascend"}
CALLED = {
    "device": ("gpu", ASCEND),
    "deterministic": (True, ASCEND),
    "jit_level": ("O1", {}),
    "max_device_memory": ("28GB", ASCEND),
    "mode": ("graph", {}),
}

# --- settings with their own probe -----------------------------------------------------------------------------------


def new_run(config):
    """A run's folder, and its report."""
    report = check.check_dataset(config.train_data, config.val_data, class_num=config.class_num)
    return start.prepare(start.Job(config, report, "knobs")), report


def shared_batch(config):
    return new_run(config)[0].settings.batch_size


def cached_pixels(config):
    report = report_of(config.train_data, config.val_data)
    train, val = images(config)
    return [part.decoded for part in decoded.cache_decoded({"train": train, "val": val}, config, report).values()]


def fed_features(config):
    """The features that a head is fed in the third epoch."""
    engine = engines.choose(config.engine, config.precision, "cpu")
    feed, _ = features.feed(trainer_of(config).network, batching.ImageFeed(*images(config), config), "knobs", engine)
    return digest(feed.train(2))


def chosen_engine(config):
    try:
        return engines.choose(config.engine, config.precision, "cpu").record()
    except DeviceError as error:  # a CPU without bfloat16
        return str(error)


def after_a_loss_that_is_not_finite(config):
    trainer = trainer_of(config)
    trainer.begin_epoch(0, [])
    try:
        trainer.roll_back(TrainingError("nan"), 0)
    except TrainingError:
        return "stopped"
    return "rolled back"


def time_left(config):
    return trainer_of(config).out_of_time([{"val_acc": 0.5, "val_loss": 1.0, "seconds": 1.0}])


def precision(config):
    return type(trainer_of(config).compiled.step).__name__


def saved_files(config):
    run, _ = new_run(config)
    network = trainer_of(config).network
    row = {"epoch": 1, "step": 1, "lr": 0.1}
    run.record_epoch(row, {"loss": 1.0, "accuracy": 0.5}, network)
    return sorted(path.name for path in run.checkpoints.iterdir())


def evaluated(config):
    """The names of the figures of an evaluation."""
    return sorted(trainer_of(config).evaluate(config.epochs - 1, []))


def callbacks(config):
    return [type(callback).__name__ for callback in build.make_callbacks(new_run(config)[0], ALONE)]


def norms_of_two_workers(config):
    """The kinds of BatchNorm in a network that two workers train, as far as one can be built alone."""

    class Two(Group):
        def broadcast_parameters(self, parameters):
            pass

    run, _ = new_run(config)
    network = build.build_network(run, run.settings, None, Two(0, 2))
    return {type(cell).__name__ for _, cell in network.cells_and_names() if isinstance(cell, ms.nn.BatchNorm2d)}


def linked(config):
    """Whether images are read that stand elsewhere."""
    root = Path("linked") / str(config.follow_links)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True, exist_ok=True)
        if not (root / name / "1.png").exists():
            (root / name / "1.png").symlink_to(sorted(Path(config.train_data).rglob("*.png"))[0 if name == "a" else -1])
    return training_data.report_of(config.replace(train_data=str(root), val_data=str(root))).images


def boxes(config):
    """What is made of random outputs for an image and its tiles, and the figures of it."""
    labels = LabelSet(categories=(Category("a"), Category("b")))
    task, rng = task_of(class_of("detect").record(labels, config.model_dump())), np.random.default_rng(0)
    parts = task.parts(ImageLabels(""), (64, 48))
    means, spreads = np.array([[0, 0, 1, 1, 0.5, 0.5], [3, 3, 0.3, 0.3, 0.3, 0.3]])[..., None, None]
    outputs = [rng.normal(means, spreads, (6, 8, 8)) for _ in parts]  # log-sizes of about 1: boxes of 11 pixels
    answer = task.answer(outputs, parts, (64, 48), 32, 4)
    there = Detections(answer.boxes[:3] + 1, np.ones(3), answer.classes[:3], np.zeros(3, bool))
    return [values.tolist() for values in task.shown(answer)[:3]], task.figures([answer], [there])


OF_BOXES = {"task": "detect"}
TILED = OF_BOXES | {"tile_grid_size": [2, 2]}
BOXES = {
    "box_score_thresh": (0.99, OF_BOXES),
    "nms_iou_thresh": (0.1, OF_BOXES),
    "box_detections_per_img": (3, OF_BOXES),
    "tile_grid_size": ([2, 2], OF_BOXES),
    "tile_overlap_ratio": (0.5, TILED),
    "tile_predictions_nms_thresh": (0.05, TILED),
    "validation_metric_type": ("coco", OF_BOXES),
    "validation_iou_threshold": (0.95, OF_BOXES),
}


CHANGED = {
    rates: RATES,
    batches: BATCHES,
    measured: MEASURED,
    weights: WEIGHTS,
    decided: DECIDED,
    setup_calls: CALLED,
    shared_batch: {"rescale_train_batch_size_factor": (10, {})},
    cached_pixels: {"cache": ("memory", {})},
    fed_features: {"feature_views": (2, {"freeze": "all", "feature_views": 3})},
    chosen_engine: {"engine": ("mindspore", {}), "precision": ("bf16", {"engine": "openvino"})},
    after_a_loss_that_is_not_finite: {"on_nan": ("rollback", {})},
    time_left: {"max_training_time": (1e-9, {})},
    linked: {"follow_links": (True, {})},
    precision: {"amp_level": ("O2", {})},
    tensors: {"network": ("mindcv:mobilenet_v2_100", {"stages": None})},
    saved_files: {"max_to_keep": (1, {})},
    evaluated: {"calibrate": (True, {})},
    callbacks: {"log_to": ("tensorboard", {})},
    boxes: BOXES,
    freezing.outline: {"task": ("detect", {})},
    norms_of_two_workers: {"sync_bn": (True, {})},
}
ROWS = [pytest.param(probe, name, id=f"{probe.__name__}-{name}") for probe, table in CHANGED.items() for name in table]


def test_every_setting_is_in_one_of_these_tables():
    assert sorted(name for table in CHANGED.values() for name in table) == sorted(FIELDS)


@pytest.mark.parametrize("probe", CHANGED, ids=lambda probe: probe.__name__)
def test_equal_settings_make_no_difference(probe, squares, inside):
    _, more = next(iter(CHANGED[probe].values()))
    results = []
    for _ in range(2):
        WEIGHED.clear()
        devices.start("cpu", "pynative", 1)
        results.append(probe(load_settings(settings(squares / "three", 3) | BASE | more)))
    assert results[0] == results[1]


@pytest.mark.parametrize("probe,name", ROWS)
def test_another_value_makes_a_difference(probe, name, squares, inside, all_cores):
    value, more = CHANGED[probe][name]
    root = squares / "three"
    value = str(root / value) if name.endswith("_data") else value
    plain = settings(root, 3) | BASE | more
    assert plain.get(name, FIELDS[name].default) != value
    devices.start("cpu", "pynative", 1)
    before, after = (probe(load_settings(config)) for config in (plain, plain | {name: value}))
    assert before != after
