"""A frozen backbone's features, computed once per image and view, cached in files, and fed to the head.

A file belongs to exactly one backbone, set of images and preprocessing: its name is a hash of all of them.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import mindspore as ms
import numpy as np
from mindspore import nn

from mslab import files, mindcv_backbone, model
from mslab.checkpoint import networks
from mslab.config import Settings
from mslab.data import augment, batching, cache
from mslab.errors import RunError
from mslab.evaluation import engines
from mslab.evaluation.engines import Engine, Runner
from mslab.runtime import devices, versions
from mslab.runtime.console import Meter
from mslab.runtime.workers import ALONE

log = logging.getLogger("mslab")
MAX_BYTES = 8 * 2**30  # of all cached features; the oldest are removed first
KEY = [
    "resize_mode",
    "crop_scale",
    "flip",
    "vertical_flip",
    "auto_augment",
    "color_jitter",
    "random_erasing",
    "seed",
    "batch_size",
    "network",
    "stages",
    "profile",
]


@dataclass(frozen=True, kw_only=True)
class FeatureFeed(batching.ImageFeed):
    """Batches of features (B, C, 1, 1) in the order in which the images themselves would come."""

    views: list[np.ndarray]  # float32 (n, C) each, memory-mapped; row i is image i
    val_rows: np.ndarray  # float32 (m, C)

    def train(self, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        view, size = self.views[epoch % len(self.views)], self.config.batch_size
        order = self.group.share(batching.order_of(self.images, self.config, epoch), size)
        for start in range(0, len(order) - size + 1, size):
            rows = order[start : start + size]
            yield _as_images(view[rows]), self.images.labels[rows]

    def val(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        size, part = batching.eval_batch_size(self.config), self.group.part(len(self.val_rows))
        for start in range(0, len(part), size):
            rows = part[start : start + size]
            yield _as_images(self.val_rows[rows]), self.val_images.labels[rows]


def _as_images(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows)[:, :, None, None]


class PooledBackbone(nn.Cell):
    """Images (N, 3, H, W) -> features (N, C): the mean that the head takes of the backbone's maps."""

    def __init__(self, backbone: nn.Cell) -> None:
        super().__init__(auto_prefix=False)
        self.backbone = backbone

    def construct(self, x: ms.Tensor) -> ms.Tensor:
        return ms.ops.mean(self.backbone(x), (2, 3))


def feed(
    network: nn.Cell, source: batching.ImageFeed, fingerprint: str, engine: Engine, required: bool = False
) -> tuple[batching.ImageFeed, nn.Cell]:
    """(feed of features, the head), or (the images, the network) if the cache has no space. `fingerprint`: of the data;
    `engine`: what engines.choose chose.

    `required`: a resumed run began with features, so it continues with them or raises RunError.
    Epoch e sees view e modulo feature_views, augmented as epoch e of the images would be: with as many views as epochs
    nothing differs from training on the images.
    """
    config, backbone = source.config, network.backbone
    count = min(config.feature_views, config.epochs)
    size = 4 * backbone.channels * (count * len(source.images) + len(source.val_images))  # bytes
    folder, key = cache.cache_folder("features"), key_of(network, source, fingerprint, engine)
    reason = cache.space_problem(folder, size, key, MAX_BYTES)
    if source.group.sum([bool(reason)])[0]:  # all workers do the same
        reason = reason or "another worker has no space"
        if required:
            raise RunError(
                f"This run began with cached features, and they cannot be cached now: {reason}.",
                expected="cached features to the end: training on images would give another result",
                fix=f"free space in {folder}, then resume again",
            )
        log.info(f"features are not cached: {reason}; fewer feature_views would need less space")
        return source, network
    runner, group = runner_of(backbone, config, engine), source.group
    source = dataclasses.replace(source, group=ALONE, config=config.replace(validation_batch_size=None))
    with group.first_alone("features"), Meter(count * len(source.images) + len(source.val_images)) as meter:
        store = Store(runner, backbone.channels, meter)
        once = config.replace(label_balance=False)  # every image once, however often it is fed
        orders = [batching.order_of(source.images, once, view) for view in range(count)]
        views = []
        for view, order in enumerate(orders):
            batches = batching.augmented(source.images, config, view, order, drop_last=False)
            views.append(store.rows(folder / f"{key}-{view}.npy", batches, order))
        val_rows = store.rows(folder / f"{key}-val.npy", source.val(), np.arange(len(source.val_images)))
        cache.delete_oldest(folder, key, MAX_BYTES)
    origin = "computed" if store.computed else "loaded"
    space = f"{size / 2**20:.0f} MiB in {folder}"
    log.info(f"features {origin}: {count} views of {len(source.images)} images by {engine}, {space}")
    fed = FeatureFeed(source.images, source.val_images, config, group, views=views, val_rows=val_rows)
    return fed, network.head


def runner_of(backbone: nn.Cell, config: Settings, engine: Engine) -> Runner:
    """A backbone of the settings' table on this engine, for up to batch_size images at a time."""
    if engine.name != "mindspore":
        tensors = {parameter.name: parameter.asnumpy() for parameter in backbone.get_parameters()}
        return engines.runner(engine, config.batch_size, tensors, networks.of_settings(config))
    cell = PooledBackbone(backbone).set_train(False)
    return Runner(engine, config.batch_size, lambda x: {"features": cell(ms.Tensor(x)).asnumpy()})


def key_of(network: nn.Cell, source: batching.ImageFeed, fingerprint: str, engine: Engine) -> str:
    """Hash of the backbone, the images in order, preprocessing, and all else that determines the random views."""
    digest = hashlib.sha256(fingerprint.encode())
    for images in (source.images, source.val_images):
        digest.update(json.dumps([images.names(), images.labels.tolist()]).encode())
    settings = source.config.model_dump(include=set(KEY))
    settings |= {"sizes": augment.sizes(source.config), "scale": augment.scale(source.config)}
    settings |= {"workers": devices.workers(source.config.data_workers), "mindspore": versions.version("mindspore")}
    settings |= {"mindcv": versions.version("mindcv")} if source.config.network else {}
    settings |= engine.record() | {"device": ms.get_context("device_target"), "mode": source.config.mode}
    digest.update(json.dumps(settings, sort_keys=True).encode())
    for module in (model, mindcv_backbone, augment):  # students edit them
        digest.update(Path(str(module.__file__)).read_bytes())
    for parameter in network.backbone.get_parameters():
        digest.update(parameter.name.encode() + parameter.asnumpy().tobytes())
    return digest.hexdigest()[:32]


@dataclass
class Store:
    """Computes features, or loads them from files."""

    runner: Runner
    channels: int
    meter: Meter
    computed: int = 0  # files that were missing or damaged

    def rows(self, path: Path, batches: Iterator[tuple[np.ndarray, np.ndarray]], order: np.ndarray) -> np.ndarray:
        """The features in this file, float32 (n, channels), memory-mapped. `order`: the batches' image numbers."""
        rows: np.ndarray
        try:
            rows = np.load(path, mmap_mode="r")
            if rows.shape == (len(order), self.channels) and rows.dtype == np.float32:
                path.touch()  # marks it as recently used
                return rows
        except (OSError, ValueError, EOFError):
            pass  # missing or damaged: write it again
        self.computed += 1

        def compute(file: IO[bytes]) -> None:
            written = cache.new_array(file, np.float32, (len(order), self.channels))
            at = 0
            for images, _ in batches:
                written[order[at : at + len(images)]] = self.runner(images)["features"]
                at += len(images)
                self.meter.update(f"features: {at}/{len(order)} images", len(images))
            written.flush()

        files.replace_atomically(path, compute)
        rows = np.load(path, mmap_mode="r")
        return rows
