"""Each purpose has its own random stream; devices are made deterministic, and the remaining differences recorded."""

import pytest
from helpers import settings

from mslab import check
from mslab.config import load_settings
from mslab.data import seeding, splitting
from mslab.errors import ConfigError
from mslab.runs import manifest
from mslab.runtime import devices


def test_streams_of_all_purposes_and_epochs_differ():
    draws = [
        seeding.stream(purpose, seed, epoch, rank).integers(2**62)
        for purpose in seeding.PURPOSES
        for seed in (0, 1)
        for epoch in range(20)
        for rank in (0, 1)
    ]
    assert len(set(draws)) == len(draws)
    seeds = {
        seeding.augmentation_seed(seed, epoch, rank) for seed in (1, 2) for epoch in range(300) for rank in range(8)
    }
    assert len(seeds) == 2 * 300 * 8


def test_a_split_has_its_own_stream(squares, inside):
    report = check.check_dataset(squares / "three" / "train")
    first, again, different = (splitting.assign(report, {"val": 0.25}, seed) for seed in (1, 1, 2))
    names = [[p.name for p in parts["val"]] for parts in (first, again, different)]
    assert names[0] == names[1] != names[2]


@pytest.mark.parametrize("device,calls", [("cpu", 0), ("gpu", 1), ("ascend", 1)])
def test_deterministic_sets_what_mindspore_has_for_a_device(device, calls):
    setup = devices.setup_calls(device, "graph", 1, deterministic=True, workers=2)
    names = [name for name, _ in setup]
    assert names.count("set_deterministic") == calls
    if calls:
        assert ("set_deterministic", {"deterministic": True}) in setup
        # MindSpore: before the workers connect
        assert names.index("set_device") < names.index("set_deterministic") < names.index("communication.init")
    assert "set_deterministic" not in [name for name, _ in devices.setup_calls(device, "graph", 1)]


def test_deterministic_does_nothing_on_a_cpu_and_that_is_reported(squares):
    with pytest.raises(
        ConfigError, match=r"deterministic +does nothing here: with device: cpu a run repeats bit for bit"
    ):
        load_settings(settings(squares / "three", 3, device="cpu"), ["deterministic=true"])


@pytest.mark.parametrize(
    "device,on,text", [("cpu", False, "nothing"), ("gpu", True, "is on"), ("ascend", False, "true")]
)
def test_the_manifest_records_what_remains(device, on, text):
    recorded = manifest.determinism(device, on)
    assert recorded["bit_identical"] is (device == "cpu") and text in recorded["remains"]
