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
