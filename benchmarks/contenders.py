"""The process of one contender: ResNet-50 on one batch in memory; each line of input requests a block of steps.

PYTHON contenders.py JOB     a line in: "train 5"; a line out: "bench " and {"seconds": […], "values": […]} of each step

train: batch in, loss out, weights changed. infer: batch in, logits out. update: the optimizer alone (of mslab).
The file imports nothing of mslab at its top, since PyTorch and the engines run in a Python that has no mslab.
"""

import ctypes
import json
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

CLASSES = 1000
RATE, MOMENTUM, DECAY = 0.01, 0.9, 1e-4
LONGEST = 10_000  # steps for which mslab's list of learning rates is long enough


@dataclass
class Contender:
    weights: int  # trainable ones
    set_train: Callable[[bool], Any]
    steps: dict[str, Callable[[], float]]  # kind of step -> a step, which returns the loss, or spread() of the logits
    version: str = ""  # of the package that computes


def spread(logits: np.ndarray) -> float:
    """One number of the logits (N, C): equal networks give equal ones."""
    return float(np.abs(logits).mean())


def network_of(job: dict[str, Any]) -> Any:
    """mslab's network with its first weights, after starting the device: equal in all processes."""
    from mslab import model
    from mslab.runtime import devices

    devices.start("cpu", job.get("mode", "graph"), seed=1)
    if job.get("network"):
        from mslab.checkpoint.networks import MindcvNetwork

        backbone = MindcvNetwork(job["network"]).backbone()
    else:
        backbone = model.resnet50_backbone(job["stages"] or model.STAGES)
    return model.ResNet50(backbone, model.resnet50_head(CLASSES, backbone.channels))


def trainable(network: Any) -> int:
    return sum(parameter.size for parameter in network.trainable_params())


def mslab(job: dict[str, Any], images: np.ndarray, labels: np.ndarray) -> Contender:
    """mslab's network, training step and optimizer, as `mslab train` runs them."""
    import mindspore as ms
    from mindspore import nn

    from mslab import cpu_layout
    from mslab.config import load_settings
    from mslab.runtime import compiled_layers
    from mslab.training import optimizers, trainer

    network = network_of(job)
    backbone = network.backbone
    if job["mode"] == "graph" and not job.get("network"):
        cpu_layout.replace_pool(backbone)
        cpu_layout.stack_small_maps(backbone, job["batch"], {job["size"]}, job["threads"])
        compiled_layers.replace_layers(network)
    data = {"train_data": "-", "val_data": "none", "class_num": CLASSES}
    config = load_settings(data | {"momentum": MOMENTUM, "weight_decay": DECAY})
    optimizer = optimizers.build(network, np.full(LONGEST, RATE, np.float32), config)
    step = trainer.TrainStep(network, nn.CrossEntropyLoss(), optimizer)
    gradients = tuple(ms.Tensor(np.zeros(parameter.shape, np.float32)) for parameter in optimizer.parameters)

    def update() -> float:
        optimizer(gradients)
        return 0.0

    return Contender(
        trainable(network),
        network.set_train,
        {
            "train": lambda: float(step(ms.Tensor(images), ms.Tensor(labels))[0].asnumpy()),
            "infer": lambda: spread(network(ms.Tensor(images)).asnumpy()),
            "update": update,
        },
        ms.__version__,
    )


def graph(job: dict[str, Any], images: np.ndarray, labels: np.ndarray) -> Contender:
    """Write the ONNX graph of mslab's network to job["graph"]; there are no steps."""
    from mslab import model
    from mslab.checkpoint.networks import ResNet
    from mslab.evaluation.onnx_graph import write_onnx

    network = network_of(job)
    tensors = {parameter.name: parameter.asnumpy() for parameter in network.get_parameters()}
    content = write_onnx(tensors, ResNet(job["stages"] or [*map(list, model.STAGES)], model.PROFILE), job["size"])
    Path(job["graph"]).write_bytes(content)
    return Contender(trainable(network), network.set_train, {})


def predict(job: dict[str, Any], images: np.ndarray, labels: np.ndarray) -> Contender:
    """`mslab predict` on one of its engines, without reading and decoding: from images to rows of classes."""
    from mslab.evaluation import engines
    from mslab.inference import predicting

    network = network_of(job)
    chosen = engines.choose(job["engine"], job["precision"])
    predictor = model_of(network, chosen, job["batch"], job["size"], job["stages"])
    forward, last = predictor.runner.forward, {}

    def kept(x: np.ndarray) -> dict[str, np.ndarray]:
        last.update(forward(x))
        return last

    def infer() -> float:
        list(predicting.answers(predictor, [(images, None)]))
        return spread(last["logits"])

    predictor.runner.forward = kept
    return Contender(trainable(network), lambda training: None, {"infer": infer}, str(chosen))


def model_of(network: Any, engine: Any, batch: int, size: int, stages: Any = None) -> Any:
    """A network with its first weights on one of mslab's engines, in the form in which mslab predict has a file's."""
    from mslab import model
    from mslab.checkpoint.networks import ResNet
    from mslab.config import IMAGENET
    from mslab.evaluation import engines, models

    if engine.name == "mindspore":
        runner = engines.Runner(engine, batch, models.mindspore_forward(network))
    else:
        tensors = {parameter.name: parameter.asnumpy() for parameter in network.get_parameters()}
        runner = engines.runner(engine, batch, tensors, ResNet(stages or [*map(list, model.STAGES)], model.PROFILE))
    names = [str(number) for number in range(CLASSES)]
    return models.Model(
        Path("fresh.ckpt"), names, {"image_size": size, "resize_size": size, "resize_mode": "crop"} | IMAGENET, runner
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
        trainable(network),
        step.set_train,
        {
            "train": lambda: float(step(ms.Tensor(images), ms.Tensor(labels)).asnumpy()),
            "infer": lambda: spread(network(ms.Tensor(images)).asnumpy()),
        },
        version("mindcv"),
    )


def pytorch(job: dict[str, Any], images: np.ndarray, labels: np.ndarray) -> Contender:
    """torchvision's network, or timm's if that is not installed, in one memory format.

    With job["optimized"] inference runs its traced graph, BatchNorm folded into convolutions, which oneDNN computes in
    its own layout (torch.jit.optimize_for_inference); with job["precision"] bfloat16 the network itself is bfloat16.
    """
    import torch

    try:
        from torchvision.models import resnet50
    except ImportError:
        from timm.models.resnet import resnet50

    torch.set_num_threads(job["threads"])
    torch.manual_seed(1)
    memory, precision = getattr(torch, job["format"]), getattr(torch, job.get("precision", "float32"))
    network = resnet50().to(memory_format=memory, dtype=precision)
    optimizer = torch.optim.SGD(network.parameters(), lr=RATE, momentum=MOMENTUM, weight_decay=DECAY)
    criterion = torch.nn.CrossEntropyLoss()

    forward = network
    if job.get("optimized"):
        traced = torch.jit.trace(network.eval(), torch.from_numpy(images))
        forward = torch.jit.optimize_for_inference(torch.jit.freeze(traced))

    def batch() -> torch.Tensor:
        return torch.from_numpy(images).to(precision).contiguous(memory_format=memory)

    def train() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = criterion(network(batch()), torch.from_numpy(labels).long())
        loss.backward()
        optimizer.step()
        return float(loss.item())

    def infer() -> float:
        with torch.inference_mode():
            return spread(forward(batch()).float().numpy())

    return Contender(
        sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
        network.train,
        {"train": train, "infer": infer},
        torch.__version__,
    )


def onnxruntime(job: dict[str, Any], images: np.ndarray, labels: np.ndarray) -> Contender:
    """mslab's ONNX graph in onnxruntime, with its usual optimizations."""
    import onnxruntime as runtime

    options = runtime.SessionOptions()
    options.intra_op_num_threads = job["threads"]
    session = runtime.InferenceSession(job["graph"], options, providers=["CPUExecutionProvider"])
    infer = lambda: spread(session.run(None, {"images": images})[0])  # noqa: E731
    return Contender(job["weights"], lambda training: None, {"infer": infer}, runtime.__version__)


def openvino(job: dict[str, Any], images: np.ndarray, labels: np.ndarray) -> Contender:
    """mslab's ONNX graph in OpenVINO, compiled for batches of this size, one request at a time."""
    import openvino as ov

    core = ov.Core()
    network = core.read_model(job["graph"])
    network.reshape(list(images.shape))
    precision = {"float32": "f32", "bfloat16": "bf16"}[job["precision"]]
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": job["threads"]}
    compiled = core.compile_model(network, "CPU", settings | {"PERFORMANCE_HINT": "LATENCY"})
    infer = lambda: spread(compiled(images)[0])  # noqa: E731
    return Contender(job["weights"], lambda training: None, {"infer": infer}, ov.__version__.partition("-")[0])


MAKERS = {maker.__name__: maker for maker in (mslab, graph, predict, mindcv, pytorch, onnxruntime, openvino)}


def answer(**content: Any) -> None:
    print("bench", json.dumps(content), flush=True)


def die_with_parent() -> None:
    """Let the system end this process with its parent: a stopped one would outlive it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main(job: dict[str, Any]) -> None:
    die_with_parent()
    images = np.random.default_rng(1).normal(size=(job["batch"], 3, job["size"], job["size"])).astype(np.float32)
    labels = (np.arange(job["batch"]) % CLASSES).astype(np.int32)
    contender = MAKERS[job["maker"]](job, images, labels)
    answer(weights=contender.weights, version=contender.version)
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
