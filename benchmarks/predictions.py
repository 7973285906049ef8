"""`mslab predict` on each engine beside MindSpore's bare forward pass, on the same batches: no reading, no decoding.

All run in this process, in shuffled order, turn by turn: a slow minute affects all of them.
"""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np

from mslab import checkpoint, model
from mslab.checkpoint import Checkpoint
from mslab.config import IMAGENET
from mslab.errors import MslabError
from mslab.evaluation import engines, measuring, models
from mslab.inference import predicting
from mslab.runs import weights as weight_files
from mslab.runtime import devices
from mslab.runtime.tables import empty_table, render

BATCHES = (1, 4, 8, 16, 32, 64)
CLASSES = 1000
CONTENDERS = [("mindspore", "fp32"), ("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")]
BARE = "bare MindSpore"


def bench_predict(
    source: str | None, size: int, images: int, repeats: int, progress: Callable[[str], Any] = lambda text: None
) -> list[dict[str, Any]]:
    """A row per batch size: size, batch_size, chosen (predict's own choice), images_per_s {contender: median}.

    `source`: a run or checkpoint; None = a fresh ResNet-50 of 1000 classes for images of `size` pixels. Engines that
    cannot run here are left out.
    """
    device, rows = devices.start("auto", "graph", seed=1), []
    weights = checkpoint.read(weight_files.best_file(source)) if source else fresh(size)
    size = checkpoint.complete_info(weights)["image_size"]
    for batch in BATCHES:
        speeds = measured(weights, device, batch, images, repeats)
        rows.append({"size": size, "batch_size": batch, "images_per_s": speeds})
        rows[-1]["chosen"] = batch == engines.batch_of(size)
        progress(f"batch_size {batch}: " + ", ".join(f"{name} {speed:.1f}" for name, speed in speeds.items()))
    return rows


def measured(weights: Checkpoint, device: str, batch: int, images: int, repeats: int) -> dict[str, float]:
    """Images/s of the bare forward pass, and of predict on each engine: medians of turns."""
    size, rng = checkpoint.complete_info(weights)["image_size"], np.random.default_rng(1)
    counts = [min(batch, images - start) for start in range(0, images, batch)]  # the last: smaller
    batches = [(rng.normal(size=(count, 3, size, size)).astype(np.float32), None) for count in counts]
    full = [ms.Tensor(engines.pad_batch(x, batch)) for x, _ in batches]
    loaded = measuring.build_network(weights)
    loaded.speed_up(batch, device)
    turns: dict[str, Callable[[], Any]] = {BARE: lambda: [loaded.network(x).asnumpy() for x in full]}
    for name, precision in CONTENDERS:
        try:
            engine = engines.choose(name, precision, device)
        except MslabError:  # not installed, or no bfloat16 here
            continue
        own = models.of_weights(weights, device, engine, batch)
        own.runner.precise = None  # the comparison of the first images
        turns[str(engine)] = lambda own=own: list(predicting.answers(own, batches))  # type: ignore[misc]
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    order = random.Random(1)
    for turn in range(repeats + 1):
        for name in order.sample(list(turns), len(turns)):
            start = time.perf_counter()
            turns[name]()
            if turn:  # the first one compiles and warms up
                seconds[name].append(time.perf_counter() - start)
    return {name: images / statistics.median(times) for name, times in seconds.items()}


def fresh(size: int) -> Checkpoint:
    """A ResNet-50 with random weights, in the form of a file that was read."""
    network = model.ResNet50(model.resnet50_backbone(), model.resnet50_head(CLASSES))
    tensors = {parameter.name: parameter.asnumpy() for parameter in network.get_parameters()}
    head = {name: value for name, value in tensors.items() if name.startswith(checkpoint.HEAD)}
    backbone = {name: value for name, value in tensors.items() if name not in head}
    info = {"image_size": size, "stages": [list(row) for row in model.STAGES], "profile": model.PROFILE} | IMAGENET
    return Checkpoint(Path("fresh.ckpt"), tensors, info, backbone=backbone, head=head)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per batch size; a star marks predict's own choice."""
    size, names = rows[0]["size"], list(rows[0]["images_per_s"])
    grid = empty_table(f"images/s at {size}x{size}, reading and decoding left out", ("batch_size", *names))
    for row in rows:
        figures = (f"{row['images_per_s'][name]:.1f}" for name in names)
        grid.add_row(f"{'* ' if row['chosen'] else ''}{row['batch_size']}", *figures)
    return f"{render(grid)}\n* the batch size that mslab predict chooses"
