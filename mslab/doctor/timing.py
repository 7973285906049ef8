"""One convolution and one small training step, timed beside the matrix product they amount to, on this machine now."""

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
PRODUCTS = {"convolution": 1, "training step": 5}  # matrix products of that arithmetic that each amounts to
LONGEST = 240  # seconds that all of it may take, the compilation in it


def time_training(device: str) -> tuple[dict[str, float], str]:
    """({"product", "convolution", "training step": seconds}, "") from a child process, or ({}, what went wrong)."""
    # a product of this size gains little of more than 8 threads; a training step's other work gains less
    environ = os.environ | {"OPENBLAS_NUM_THREADS": str(min(8, cores()))}
    command = [sys.executable, "-m", "mslab.doctor.timing", device]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST, env=environ)
    except subprocess.TimeoutExpired:
        return {}, f"not done after {LONGEST} s"
    lines = [line for line in done.stdout.splitlines() if line.startswith("timed ")]
    if lines:
        return json.loads(lines[-1][6:]), ""
    if done.returncode < 0:
        return {}, f"the process that did it was ended by {signal.Signals(-done.returncode).name}"
    known = explain(RuntimeError(done.stderr))
    last = next((line.strip() for line in reversed(done.stderr.splitlines()) if "Error" in line), "")
    return {}, known.what if known else last[:200] or f"the process that did it ended with code {done.returncode}"


def time_here(device: str) -> dict[str, float]:
    """What time_training() gives, in this process."""
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

    # forward, and backward to the weights, of two convolutions; of the second, backward to its input: 5 products
    layers = [conv(), nn.BatchNorm2d(channels), nn.ReLU(), conv(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = nn.WithLossCell(
        nn.SequentialCell(*layers, nn.Dense(channels, 2)), nn.SoftmaxCrossEntropyWithLogits(True, "mean")
    )
    step = nn.TrainOneStepCell(network, nn.Momentum(network.trainable_params(), 0.01, 0.9)).set_train()
    alone = conv()
    return {
        "product": best_of(lambda: left @ right),
        "convolution": best_of(lambda: alone(x).asnumpy()),
        "training step": best_of(lambda: step(x, y).asnumpy()),
    }


def best_of(job: Callable[[], Any], seconds: float = 1.0) -> float:
    """The shortest of the times it takes, of as many as go into `seconds`, after one that does not count."""
    job()
    times: list[float] = []
    while not times or sum(times) < seconds:
        start = time.perf_counter()
        job()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    print("timed", json.dumps(time_here(sys.argv[1])))
