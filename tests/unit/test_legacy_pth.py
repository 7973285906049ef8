"""torch.save's format before PyTorch 1.6, in which published weights may still be: read like the later one."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from helpers import PROJECT
from torch_files import legacy_file, saved, stand_ins, torch_file

from mslab import checkpoint
from mslab.checkpoint import near
from mslab.checkpoint.legacy import is_legacy
from mslab.errors import CheckpointError

TORCH = checkpoint.read(PROJECT / "tests" / "data" / "torch.pth").tensors


def written(path: Path, content, **options) -> Path:
    with stand_ins():
        path.write_bytes(legacy_file(content, **options))
    return path


@pytest.mark.parametrize("key", ["", "state_dict"])
def test_the_older_format_gives_the_same_tensors(tmp_path, key):
    path = written(tmp_path / "x.pth", {key: saved(TORCH), "epoch": 3} if key else saved(TORCH))
    assert is_legacy(path.read_bytes()[:32]) and near.is_weights(path)
    weights = checkpoint.read(path)
    assert weights.tensors.keys() == TORCH.keys()
    assert all(np.array_equal(weights.tensors[name], TORCH[name]) for name in TORCH)
    with stand_ins():
        (tmp_path / "y.pth").write_bytes(torch_file(saved(TORCH)))
    assert weights.describe() == checkpoint.read(tmp_path / "y.pth").describe()


def test_several_sets_of_weights_in_the_older_format(tmp_path):
    path = written(tmp_path / "x.pth", {"state_dict": saved(TORCH), "state_dict_ema": saved(TORCH)})
    assert "'state_dict_ema'" in "".join(checkpoint.read(path).choices)


@pytest.mark.parametrize("at", [20, 40, 200, 2000, -1, -1000])
def test_a_cut_file_is_said_to_be_incomplete(tmp_path, at):
    path = written(tmp_path / "x.pth", saved(TORCH))
    path.write_bytes(path.read_bytes()[:at])
    with pytest.raises(CheckpointError, match=r"x\.pth is not a complete PyTorch file: "):
        checkpoint.read(path)


@pytest.mark.parametrize(
    "change,text",
    [
        (lambda content: content + b"\x00" * 8, "8 bytes belong to no storage"),
        (
            lambda content: content.replace(pickle.dumps(1001, 2), pickle.dumps(1002, 2), 1),
            "its format has version 1002",
        ),
    ],
)
def test_what_torch_save_did_not_write_is_refused(tmp_path, change, text):
    path = written(tmp_path / "x.pth", saved(TORCH))
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(CheckpointError, match=text):
        checkpoint.read(path)


def test_big_endian_numbers_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="its numbers are big-endian"):
        checkpoint.read(written(tmp_path / "x.pth", saved(TORCH), big_endian=True))


def test_a_storage_that_claims_more_than_the_file_has_costs_no_memory(tmp_path):
    path = written(tmp_path / "x.pth", {"conv1.weight": saved({"x": np.ones(7, np.float32)})["x"]})
    content = path.read_bytes()
    path.write_bytes(content.replace((7).to_bytes(8, "little"), (1 << 60).to_bytes(8, "little")))
    with pytest.raises(CheckpointError, match="a storage claims 4,611,686,018,427,387,904 bytes, and 28 follow"):
        checkpoint.read(path)


def test_nothing_of_the_file_is_called(tmp_path):
    class Harmful:
        def __reduce__(self):
            return print, ("was called",)

    path = written(tmp_path / "x.pth", {"state_dict": saved(TORCH), "options": Harmful()})
    assert checkpoint.read(path).tensors.keys() == TORCH.keys()


def test_changed_bytes_raise_messages_only(tmp_path):
    content = written(tmp_path / "x.pth", saved(dict(list(TORCH.items())[:4]))).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(300):
        changed = bytearray(content)
        for at in rng.integers(0, len(content) if rng.random() < 0.2 else min(len(content), 1500), 3):
            changed[at] = rng.integers(256)
        (tmp_path / "x.pth").write_bytes(changed)
        try:
            checkpoint.read(tmp_path / "x.pth")
        except CheckpointError as error:
            assert error.expected and error.fix
