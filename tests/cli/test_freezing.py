"""Freezing on the command line."""

from pathlib import Path

import pytest
from helpers import cli, overrides, settings

import mslab
from mslab import model
from mslab.config import load_config

TABLE = [[1, 8, 1], [1, 8, 2], [1, 8, 2]]


@pytest.fixture(scope="module")
def parent(squares, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("parent"))
        config = settings(squares / "three", 3, epochs=1, stages=TABLE)
        return Path(mslab.train(config).run).resolve()


@pytest.fixture
def quick(squares):
    return settings(squares / "two", 2, stages=None, epochs=4, warmup_epochs=1)


def test_on_the_command_line(parent, quick, inside):
    (inside / "x.yaml").write_text("\n".join(overrides(quick)).replace("=", ": ").replace("None", "null"))
    words = ["freeze=all", "unfreeze={2: layer3}", "lr_scale={layer3: 0.5}", "epochs=2"]
    done = cli("transfer", "x.yaml", "--backbone", parent, *words, cwd=inside)
    assert done.returncode == 0, done.stderr
    assert "frozen: 65 of 67 tensors (stem, layer1, layer2, layer3); from epoch 2 on layer3 is trained" in done.stderr
    run = next((inside / "runs").iterdir())
    config = load_config(run / "config.yaml")
    assert config.unfreeze == {"2": "layer3"} and config.lr_scale == {"layer3": 0.5}
    assert config.profile == model.PROFILE and config.stages == TABLE
