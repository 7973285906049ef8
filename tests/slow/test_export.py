"""Export of each network profile separately, of ResNet-50, and of a MINDIR file in another process."""

from pathlib import Path

import pytest
from helpers import process
from plans import write_checkpoint

from mslab import model
from mslab.inference import export
from mslab.inference import graphs as exported
from mslab.runtime import devices

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
KINDS = ["mindir", "onnx"]
PROFILES = [
    {"padding": "same"},
    {"pool": "same"},
    {"stem": "small"},
    {"block": "basic"},
    {"block": "basic", "padding": "same", "pool": "same"},
    {"eps": 1e-2, "outer_eps": 1e-1},
]


@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_an_onnx_file_reproduces_its_checkpoint_for_every_profile(profile, inside):
    source = write_checkpoint(inside / "x.ckpt", hidden=6 if "pool" in profile else 0, **profile)
    assert export.export_run(source, "onnx")["relative"] < 1e-5  # MindSpore's logits, as a batch and singly
    onnx.checker.check_model(onnx.load("x.onnx"), full_check=True)
    _, info = exported.open_exported(Path("x.onnx"))
    assert info["profile"] == model.PROFILE | profile and info["class_names"] == ["a", "ü", "c"]


def test_a_mindir_file_reproduces_its_checkpoint(inside):
    source = write_checkpoint(inside / "x.ckpt", hidden=6, stem="small")
    assert export.export_run(source, "mindir")["relative"] < 1e-5


def test_equal_checkpoints_give_equal_bytes_in_another_process(inside):
    source = write_checkpoint(inside / "x.ckpt", hidden=5)
    export.export_run(source, "mindir", "y.mindir")
    done = process("export", source, "--format", "mindir", env={"PYTHONHASHSEED": "5"})
    assert done.returncode == 0, done.stderr
    assert Path("x.mindir").read_bytes() == Path("y.mindir").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_resnet50(kind, inside):
    devices.start("cpu", "pynative", 1)
    source = write_checkpoint(inside / "x.ckpt", model.STAGES, 64)
    result = export.export_run(source, kind)
    assert result["relative"] < 1e-5 and result["bytes"] > 23_508_032 * 4
    if kind == "onnx":
        onnx.checker.check_model(onnx.load("x.onnx"), full_check=True)
