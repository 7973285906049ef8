"""`mslab predict` beside the bare forward pass of its engine on the same batches, both without reading and decoding.

Both run in this process, on the same compiled network, interleaved (A B A B …): a slow minute affects both.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.contenders import CLASSES, model_of
from mslab import model
from mslab.evaluation import engines, models
from mslab.inference import predicting
from mslab.runtime import devices
from mslab.runtime.tables import empty_table, render

BATCHES = (1, 4, 8, 16, 32, 64)


def bench_predict(
    source: str | None, size: int, images: int, repeats: int, progress: Callable[[str], Any] = lambda text: None
) -> list[dict[str, Any]]:
    """A row per batch size: batch_size, bare and predict (images/s, medians), ratio, chosen (predict's own choice).

    `source`: a run or checkpoint; None = a fresh ResNet-50 of 1000 classes for images of `size` pixels. Engine: auto.
    """
    rows: list[dict[str, Any]] = []
    device = devices.start("auto", "graph", seed=1)
    engine = engines.choose("auto", device=device)
    for batch in BATCHES:
        if source:
            predictor = models.open_weights(source, device, batch)
        else:
            network = model.ResNet50(model.resnet50_backbone(), model.resnet50_head(CLASSES))
            predictor = model_of(network, engine, batch, size)
        size = predictor.info["image_size"]
        bare, own = measured(predictor, images, repeats)
        rows.append({"size": size, "batch_size": batch, "engine": str(engine), "bare": bare, "predict": own})
        rows[-1] |= {"ratio": own / bare, "chosen": batch == engines.batch_of(size)}
        progress(f"batch_size {batch}: {bare:.1f} images/s bare, {own:.1f} by predict, {own / bare:.2f}x")
    return rows


def measured(predictor: models.Model, images: int, repeats: int) -> tuple[float, float]:
    """Images/s of the bare forward pass, and of predict: medians of turns."""
    size, batch, rng = predictor.info["image_size"], predictor.runner.batch, np.random.default_rng(1)
    counts = [min(batch, images - start) for start in range(0, images, batch)]  # the last: smaller
    batches = [(rng.normal(size=(count, 3, size, size)).astype(np.float32), None) for count in counts]
    full = [engines.pad_batch(x, batch) for x, _ in batches]
    turns: list[Callable[[], Any]] = [
        lambda: [predictor.runner.forward(x) for x in full],
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


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per batch size; a star marks predict's own choice."""
    size = rows[0]["size"]
    names = ("batch_size", "bare forward pass", "mslab predict", "ratio")
    grid = empty_table(f"images/s at {size}x{size} by {rows[0]['engine']}, reading and decoding left out", names)
    for row in rows:
        figures = (f"{row['bare']:.1f}", f"{row['predict']:.1f}", f"{row['ratio']:.2f}x")
        grid.add_row(f"{'* ' if row['chosen'] else ''}{row['batch_size']}", *figures)
    return f"{render(grid)}\n* the batch size that mslab predict chooses"
