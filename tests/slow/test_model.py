"""A guard against MindSpore: a backward pass that hung."""

import subprocess
import sys


def test_the_backward_pass_of_the_stem_does_not_hang():
    """nn.ZeroPad2d before a plain pool hung within ten steps (2.8.0, CPU, GRAPH)."""
    script = """
import numpy as np, mindspore as ms, sys
from mindspore import nn
from mslab import model, schedule
from mslab.runtime import devices
from mslab.training import freezing, optimizers, trainer
from mslab.config import load_settings
def main():
    devices.start("cpu", "graph", 1)
    backbone = model.resnet50_backbone([[1, 8, 1], [1, 8, 2]])
    network = model.ResNet50(backbone, model.resnet50_head(9, backbone.channels))
    rates = schedule.warmup_cosine(1, 60, 0, 0.01, 0.01)
    settings = load_settings({"train_data": "a", "val_data": "b", "class_num": 9})
    optimizer = optimizers.build(network, rates, settings)
    step = trainer.TrainStep(network, nn.CrossEntropyLoss(), optimizer)
    freezing.apply(network, frozenset())
    rng = np.random.RandomState(0)
    for _ in range(60):
        loss, _ = step(ms.Tensor(rng.randn(32, 3, 32, 32).astype("f")), ms.Tensor(rng.randint(0, 9, 32).astype("i")))
        assert np.isfinite(float(loss.asnumpy()))
    print("through")
main()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=240)
    assert done.stdout.strip() == "through", done.stderr[-500:]
