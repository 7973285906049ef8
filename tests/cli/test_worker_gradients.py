"""Two real workers train what one does with the same images a step: one beginning, one mean of their gradients."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import cli, history, newest, settings

import mslab
from mslab import checkpoint


def head(run: Path) -> dict[str, np.ndarray]:
    return checkpoint.read(run / "checkpoints" / "last.ckpt").head


@pytest.mark.usefixtures("all_cores")
def test_two_workers_begin_with_the_first_ones_weights_and_take_the_mean_of_their_gradients(squares, parent, inside):
    """Only the first reads the parent's file. Of the frozen backbone's features a head is trained in a few steps."""
    config = settings(squares / "two", 2, epochs=1, lr_max=0.5, lr_init=0.5, stages=None, freeze="all")
    (inside / "c.yaml").write_text(json.dumps(config))  # JSON is YAML
    words = ["--backbone", parent, "batch_size=4", "--workers", "2", "--no-report"]
    done = cli("transfer", "c.yaml", *words)
    assert done.returncode == 0, done.stderr
    assert "2 workers x 4 = 8 images a step" in done.stderr
    two, one = newest(), Path(mslab.transfer(config, backbone=parent).run)
    assert float(history(one)[0]["val_loss"]) < 0.5  # it has learned: longer steps, or half of them, would show
    for name, value in head(one).items():
        assert np.allclose(head(two)[name], value, atol=1e-4), name
    for row, other in zip(history(one), history(two), strict=True):
        for key in ("train_loss", "val_loss"):
            assert float(row[key]) == pytest.approx(float(other[key]), rel=1e-3), key
