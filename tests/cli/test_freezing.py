"""Freezing on the command line."""

import json

from helpers import cli, newest, settings

from mslab import model
from mslab.config import load_settings


def test_on_the_command_line(parent, squares, inside):
    (inside / "x.yaml").write_text(json.dumps(settings(squares / "two", 2, stages=None)))
    arguments = ["freeze=all", "unfreeze={2: layer2}", "lr_scale={layer2: 0.5}"]
    done = cli("transfer", "x.yaml", "--backbone", parent, *arguments, "--no-report")
    assert done.returncode == 0, done.stderr
    assert "frozen: 45 of 47 tensors (stem, layer1, layer2); from epoch 2 on layer2 is trained" in done.stderr
    config = load_settings(newest() / "config.yaml")
    assert config.unfreeze == {"2": "layer2"} and config.lr_scale == {"layer2": 0.5}
    assert config.network_profile() == model.PROFILE and config.stages == [[1, 8, 1], [1, 8, 2]]
