"""`mslab predict` beside the network's bare forward pass on the same batches, both without reading and decoding.

Both run in this process, on the same compiled network, interleaved (A B A B …): a slow minute affects both.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import mindspore as ms
import numpy as np

from mslab import model
from mslab.config import IMAGENET
from mslab.evaluation import gradcam, measuring
from mslab.inference import predicting
from mslab.runtime import devices
from mslab.runtime.tables import empty_table, render

BATCHES = (1, 4, 8, 16, 32, 64)
CLASSES = 1000


def bench_predict(
    source: str | None, size: int, images: int, repeats: int, progress: Callable[[str], Any] = lambda text: None
) -> list[dict[str, Any]]:
    """A row per batch size: batch_size, bare and predict (images/s, medians), ratio, chosen (predict's own choice).

    `source`: a run or checkpoint; None = a fresh ResNet-50 of 1000 classes for images of `size` pixels.
    """
    device, rows = devices.start("auto", "graph", seed=1), []
    for batch in BATCHES:
        loaded = measuring.load_network(source) if source else fresh(size)
        size = loaded.info["image_size"]
        predictor = predicting.of_network(loaded, device, batch)
        bare, own = measured(predictor, images, repeats)
        rows.append({"size": size, "batch_size": batch, "bare": bare, "predict": own, "ratio": own / bare})
        rows[-1]["chosen"] = batch == engines.batch_of(size)
        progress(f"batch_size {batch}: {bare:.1f} images/s bare, {own:.1f} by predict, {own / bare:.2f}x")
    return rows


def measured(predictor: predicting.Model, images: int, repeats: int) -> tuple[float, float]:
    """Images/s of the bare forward pass, and of predict: medians of turns."""
    size, rng = predictor.info["image_size"], np.random.default_rng(1)
    counts = [min(predictor.batch, images - start) for start in range(0, images, predictor.batch)]  # the last: smaller
    batches = [(rng.normal(size=(count, 3, size, size)).astype(np.float32), None) for count in counts]
    full = [ms.Tensor(engines.pad_batch(x, predictor.batch)) for x, _ in batches]
    network = predictor.loaded.network  # type: ignore[union-attr]
    turns: list[Callable[[], Any]] = [
        lambda: [network(x).asnumpy() for x in full],
        lambda: list(predicting.answers(predictor, batches)),
    ]
    seconds: list[list[float]] = [[], []]
    for turn in range(repeats + 1):
        for work, times in zip(turns, seconds, strict=True):
            start = time.perf_counter()
            work()
            if turn:  # the first one compiles and warms up
                times.append(time.perf_counter() - start)
    bare, own = (images / statistics.median(times) for times in seconds)
    return bare, own


def fresh(size: int) -> measuring.Loaded:
    """A ResNet-50 with random weights, in the form of a loaded file."""
    network = model.ResNet50(model.resnet50_backbone(), model.resnet50_head(CLASSES)).set_train(False)
    info = {"image_size": size, "resize_size": size} | IMAGENET
    return measuring.Loaded(network, [str(n) for n in range(CLASSES)], info, None)  # type: ignore[arg-type]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per batch size; a star marks predict's own choice."""
    size = rows[0]["size"]
    names = ("batch_size", "bare forward pass", "mslab predict", "ratio")
    grid = empty_table(f"images/s at {size}x{size}, reading and decoding left out", names)
    for row in rows:
        figures = (f"{row['bare']:.1f}", f"{row['predict']:.1f}", f"{row['ratio']:.2f}x")
        grid.add_row(f"{'* ' if row['chosen'] else ''}{row['batch_size']}", *figures)
    return f"{render(grid)}\n* the batch size that mslab predict chooses"
