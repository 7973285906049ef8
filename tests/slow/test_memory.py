"""Memory of a long training of a small data set: it does not grow from epoch to epoch in graph mode."""

import json
import subprocess
import sys

import pytest
from helpers import settings

SCRIPT = """
import json, logging, sys
import mslab
from mslab.check.training_data import check_or_raise
from mslab.config import load_settings
from mslab.training import start

def resident(rows):
    with open("/proc/self/status") as file:
        sizes.extend(int(line.split()[1]) for line in file if line.startswith("VmRSS"))  # KiB
    return ""

sizes = []
logging.getLogger("mslab").setLevel(logging.ERROR)
config = load_settings(json.loads(sys.argv[1]))
start.run(start.Job(config, check_or_raise(config), "long"), should_stop=resident)
print(json.dumps(sizes))
"""


@pytest.mark.parametrize("cache", ["none", "memory"])
def test_memory_stays_flat_over_300_epochs(squares, inside, cache):
    config = settings(squares / "three", 3, mode="graph", epochs=300, lr_max=0.01, cache=cache)
    done = subprocess.run([sys.executable, "-c", SCRIPT, json.dumps(config)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    sizes = json.loads(done.stdout.splitlines()[-1])
    assert len(sizes) == 300
    growth = sizes[-1] - sizes[49]  # a new pipeline for each epoch, and for each validation
    assert growth < 4096, f"{growth} KiB more after epoch 300 than after epoch 50: {sizes[::25]}"


PLAIN = """
import mindspore as ms, numpy as np
from mindspore import nn

ms.set_context(mode=ms.PYNATIVE_MODE)
ms.set_device("CPU")
layer, loss = nn.Dense(8, 3), nn.CrossEntropyLoss()
x, y = ms.Tensor(np.ones((8, 8), np.float32)), ms.Tensor(np.zeros(8, np.int32))
gradients, sizes = ms.value_and_grad(lambda x, y: loss(layer(x), y), None, layer.trainable_params()), []
for step in range(500):
    gradients(x, y)[0].asnumpy()
    with open("/proc/self/status") as file:
        sizes.extend(int(line.split()[1]) for line in file if line.startswith("VmRSS"))
print(sizes[-1] - sizes[50])
"""


def test_mindspores_own_steps_in_pynative_mode_do_grow():
    done = subprocess.run([sys.executable, "-c", PLAIN], capture_output=True, text=True)
    assert int(done.stdout.splitlines()[-1]) > 2048, done.stderr  # KiB; no code of mslab takes part
