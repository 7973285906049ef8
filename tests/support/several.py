"""Several workers on this machine, started by msrun: their config, and the comparison with one worker."""

import json
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import history, newest, settings

from mslab import checkpoint

PLAIN = {"crop_scale": 1.0, "flip": False, "color_jitter": 0.0}  # nothing random but weights and order


def config_file(folder: Path, root: Path, class_num: int, **more) -> Path:
    content = settings(root, class_num, mode="graph") | PLAIN | more
    (folder / "c.yaml").write_text(json.dumps(content))  # JSON is YAML
    return folder / "c.yaml"


def after_first_epoch(job: subprocess.Popen, earlier: Path) -> Path:
    """The run that this process trains, after its first epoch; `earlier` is an older run."""
    while not (newest("c-*") != earlier and (newest("c-*") / "history.csv").exists()):
        assert job.poll() is None
        time.sleep(0.02)
    return newest("c-*")


def same_training(run_a: Path, run_b: Path) -> None:
    """Equal weights and figures within float tolerance."""
    first, second = (checkpoint.read(run / "checkpoints" / "last.ckpt") for run in (run_a, run_b))
    assert first.tensors.keys() == second.tensors.keys()
    for name, value in first.tensors.items():
        assert np.allclose(value, second.tensors[name], rtol=1e-3, atol=1e-4), name
    for left, right in zip(history(run_a), history(run_b), strict=True):
        for key in ("epoch", "step", "lr", "train_loss", "train_acc", "val_loss", "val_acc"):
            assert float(left[key]) == pytest.approx(float(right[key]), rel=2e-3), key
    left, right = (json.loads((run / "eval.json").read_text()) for run in (run_a, run_b))
    assert left["images"] == right["images"] and left["confusion"] == right["confusion"]
