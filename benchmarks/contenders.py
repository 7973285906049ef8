"""The process of one contender: ResNet-50 on one batch in memory; each line of input requests a block of steps.

PYTHON contenders.py JOB     a line in: "train 5"; a line out: "bench " and {"seconds": […], "values": […]} of each step

train: batch in, loss out, weights changed. infer: batch in, logits out. update: the optimizer alone (of mslab).
The file imports nothing of mslab at its top, since PyTorch's contender runs in a Python that has no mslab.
"""

import ctypes
import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

CLASSES = 1000
RATE, MOMENTUM, DECAY = 0.01, 0.9, 1e-4
LONGEST = 10_000  # steps for which mslab's list of learning rates is long enough


@dataclass
class Contender:
    weights: int  # trainable ones
    set_train: Callable[[bool], Any]
    steps: dict[str, Callable[[], float]]  # kind of step -> a step, which returns the loss, or the logits' mean


def mslab(job: dict[str, Any], images: np.ndarray, labels: np.ndarray) -> Contender:
    """mslab's network, training step and optimizer, as `mslab train` runs them."""
    import mindspore as ms
    from mindspore import nn

    from mslab import cpu_layout, model
    from mslab.config import load_settings
    from mslab.runtime import devices
    from mslab.training import optimizers, trainer

    devices.start("cpu", job["mode"], seed=1)
    backbone = model.resnet50_backbone(job["stages"] or model.STAGES)
    network = model.ResNet50(backbone, model.resnet50_head(CLASSES, backbone.channels))
    if job["mode"] == "graph":
        cpu_layout.replace_pool(backbone)
        cpu_layout.stack_small_maps(backbone, job["batch"], job["size"], job["threads"])
    data = {"train_data": "-", "val_data": "none", "class_num": CLASSES}
    config = load_settings(data | {"momentum": MOMENTUM, "weight_decay": DECAY})
    optimizer = optimizers.build(network, np.full(LONGEST, RATE, np.float32), config)
    step = trainer.TrainStep(network, nn.CrossEntropyLoss(), optimizer)
    gradients = tuple(ms.Tensor(np.zeros(parameter.shape, np.float32)) for parameter in optimizer.parameters)

    def update() -> float:
        optimizer(gradients)
        return 0.0

    return Contender(
        sum(parameter.size for parameter in network.trainable_params()),
        network.set_train,
        {
            "train": lambda: float(step(ms.Tensor(images), ms.Tensor(labels))[0].asnumpy()),
            "infer": lambda: float(network(ms.Tensor(images)).asnumpy().mean()),
            "update": update,
        },
    )


def mindcv(job: dict[str, Any], images: np.ndarray, labels: np.ndarray) -> Contender:
    """mindcv's network with MindSpore's own training step and momentum, in GRAPH mode."""
    import mindspore as ms
    from mindcv.models import resnet50
    from mindspore import nn

    ms.set_context(mode=ms.GRAPH_MODE, device_target="CPU")
    ms.set_seed(1)
    network = resnet50(num_classes=CLASSES)
    optimizer = nn.Momentum(network.trainable_params(), RATE, MOMENTUM, weight_decay=DECAY)
    step = nn.TrainOneStepCell(nn.WithLossCell(network, nn.CrossEntropyLoss()), optimizer)
    return Contender(
        sum(parameter.size for parameter in network.trainable_params()),
        step.set_train,
        {
            "train": lambda: float(step(ms.Tensor(images), ms.Tensor(labels)).asnumpy()),
            "infer": lambda: float(network(ms.Tensor(images)).asnumpy().mean()),
        },
    )


def pytorch(job: dict[str, Any], images: np.ndarray, labels: np.ndarray) -> Contender:
    """torchvision's network, or timm's if that is not installed, in one memory format."""
    import torch

    try:
        from torchvision.models import resnet50
    except ImportError:
        from timm.models.resnet import resnet50

    torch.set_num_threads(job["threads"])
    torch.manual_seed(1)
    memory = getattr(torch, job["format"])
    network = resnet50().to(memory_format=memory)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    criterion = torch.nn.CrossEntropyLoss()

    def batch() -> torch.Tensor:
        return torch.from_numpy(images).contiguous(memory_format=memory)

    def train() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(network(batch()), torch.from_numpy(labels).long())
        loss.backward()
        optimizer.step()
        return float(loss.item())

    def infer() -> float:
        with torch.inference_mode():
            return float(network(batch()).numpy().mean())

    return Contender(
        sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
        network.train,
        {"train": train, "infer": infer},
    )


def answer(**content: Any) -> None:
    print("bench", json.dumps(content), flush=True)


def main(job: dict[str, Any]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a stopped process would outlive its parent
    images = np.random.default_rng(1).normal(size=(job["batch"], 3, job["size"], job["size"])).astype(np.float32)
    labels = (np.arange(job["batch"]) % CLASSES).astype(np.int32)
    contender = {"mslab": mslab, "mindcv": mindcv, "pytorch": pytorch}[job["maker"]](job, images, labels)
    answer(weights=contender.weights)
    for line in sys.stdin:
        kind, steps = line.split()
        contender.set_train(kind != "infer")
        seconds, values = [], []
        for _ in range(int(steps)):
            start = time.perf_counter()
            values.append(contender.steps[kind]())
            seconds.append(time.perf_counter() - start)
        answer(seconds=seconds, values=values)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
