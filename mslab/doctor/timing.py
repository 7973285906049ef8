"""Time one convolution, one small training step and the matrix product that they consist of, on this machine now."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from mslab.check import cores
from mslab.errors import explain

SHAPE = (8, 64, 56, 56)  # images, channels, height, width; the convolution is 3x3, 64 to 64 channels
PRODUCTS = {"convolution": 1, "training step": 5}  # equivalent number of matrix products
LONGEST = 240  # seconds, time limit of all measurements, including compilation


def time_training(device: str) -> tuple[dict[str, float], str]:
    """({"product", "convolution", "training step": seconds}, "") from a child process, or ({}, error message)."""
    # a product of this size gains little of more than 8 threads; the other work of a training step gains less
    environ = os.environ | {"OPENBLAS_NUM_THREADS": str(min(8, cores()))}
    command = [sys.executable, "-m", "mslab.doctor.timing", device]
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=LONGEST, env=environ
        )
    except subprocess.TimeoutExpired:
        return {}, f"not finished after {LONGEST} s"
    lines = [line for line in process.stdout.splitlines() if line.startswith("timed ")]
    if lines:
        return json.loads(lines[-1][6:]), ""
    if process.returncode < 0:
        return {}, f"its process was killed by {signal.Signals(-process.returncode).name}"
    explained = explain(RuntimeError(process.stderr))
    last = next((line.strip() for line in reversed(process.stderr.splitlines()) if "Error" in line), "")
    return {}, explained.what if explained else last[:200] or f"its process ended with exit code {process.returncode}"


def time_here(device: str) -> dict[str, float]:
    """Measure in this process: {"product", "convolution", "training step": seconds}."""
    import mindspore as ms
    from mindspore import nn

    from mslab.runtime import devices

    ms.set_context(mode=ms.GRAPH_MODE)
    ms.set_device(devices.NAMES[device])
    rng = np.random.default_rng(1)
    images, channels, height, width = SHAPE
    left = rng.random((channels, channels * 9), np.float32)
    right = rng.random((channels * 9, images * height * width), np.float32)
    x = ms.Tensor(rng.random(SHAPE, np.float32))
    y = ms.Tensor(np.arange(images) % 2, ms.int32)

    def conv() -> nn.Cell:
        return nn.Conv2d(channels, channels, 3, pad_mode="pad", padding=1)

    # 5 products: forward and weight gradient of two convolutions, input gradient of the second
    layers = [conv(), nn.BatchNorm2d(channels), nn.ReLU(), conv(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = nn.WithLossCell(
        nn.SequentialCell(*layers, nn.Dense(channels, 2)), nn.SoftmaxCrossEntropyWithLogits(True, "mean")
    )
    step = nn.TrainOneStepCell(network, nn.Momentum(network.trainable_params(), 0.01, 0.9)).set_train()
    single = conv()
    return {
        "product": best_of(lambda: left @ right),
        "convolution": best_of(lambda: single(x).asnumpy()),
        "training step": best_of(lambda: step(x, y).asnumpy()),
    }


def best_of(job: Callable[[], Any], seconds: float = 1.0) -> float:
    """Shortest time of `job`, repeated for at least `seconds` after one warm-up call."""
    job()
    times: list[float] = []
    while not times or sum(times) < seconds:
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    print("timed", json.dumps(time_here(sys.argv[1])))
