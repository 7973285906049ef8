"""The bytes of a run's checkpoints, estimated from its settings, are those that it writes."""

from pathlib import Path

import pytest
from helpers import STAGES, resolved, settings

import mslab
from mslab.errors import MslabError
from mslab.model import PROFILE
from mslab.runs import footprint
from mslab.training import build


@pytest.mark.parametrize(
    "more",
    [
        {"stages": STAGES, "head_hidden": 20},
        {"stages": [[2, 8, 1], [1, 16, 2]], "profile": PROFILE | {"block": "basic", "stem": "small"}},
    ],
)
def test_the_weights_of_a_network_are_counted_from_its_settings(more):
    config = resolved(**more)
    network = build.new_network(config)
    own = [sum(p.size for p in part.get_parameters()) for part in (network.backbone, network.head)]
    assert list(footprint.weights_of(config)) == own
    assert footprint.weights_of(resolved()) == (23_508_032 + 53_120, 3 * 2049)  # ResNet-50, and BatchNorm's statistics


def test_a_runs_estimated_bytes_are_those_of_its_checkpoints(parent):
    config = mslab.Run(parent)._run.settings
    written = sum(file.stat().st_size for file in (parent / "checkpoints").iterdir())
    assert footprint.bytes_of_run(config) == pytest.approx(written, rel=0.15)  # of so small a network, names count
    twice = footprint.bytes_of_run(config.replace(epochs=9, max_to_keep=5))
    assert twice > footprint.bytes_of_run(config.replace(epochs=9)) > footprint.bytes_of_run(config)


def test_a_run_that_does_not_fit_on_the_disk_is_refused_before_its_folder_exists(squares, inside):
    config = settings(squares / "three", 3, stages=[[256, 4096, 1], [256, 4096, 2]], max_to_keep=1000, epochs=1000)
    with pytest.raises(MslabError) as caught:
        mslab.train(config)
    text = str(caught.value)
    assert text.startswith("this run needs ") and " TB in runs, and the disk has " in text
    assert "smaller max_to_keep" in text and not Path("runs").exists()
