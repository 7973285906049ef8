"""A path that is not what it should be: the message says what it is, and which would do, before images are read."""

import re
from pathlib import Path

import numpy as np
import pytest
from helpers import cli

from mslab import checkpoint
from mslab.check import check_dataset
from mslab.checkpoint import formats, save_arrays
from mslab.errors import CheckpointError, DatasetError, RunError
from mslab.runs import weights
from mslab.runs.folder import RunFolder


def test_a_folder_of_runs_is_answered_with_the_backbones_that_exist(tmp_path):
    with pytest.raises(CheckpointError, match=r"is a folder\.") as error:
        formats.read_content(tmp_path)
    assert "mslab train writes some" in error.value.fix and "best_backbone" not in error.value.fix
    for name in ("one", "two"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
    (tmp_path / "two/checkpoints/best_backbone.ckpt").touch()
    with pytest.raises(CheckpointError) as error:
        formats.read_content(tmp_path)
    assert error.value.fix == f"one of {tmp_path}/two/checkpoints/best_backbone.ckpt"


@pytest.mark.parametrize("value", [None, 3, "", b"", True, ["x"]])
def test_what_is_no_path_is_refused_with_one_message(value):
    for call in (weights.best_file, weights.backbone_file):
        with pytest.raises(CheckpointError, match=r"is no path\.\n  expected  a run folder or a file of weights"):
            call(value)


def test_a_folder_that_is_no_run_is_not_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match=r"no checkpoints/best.ckpt") as error:
        weights.best_file(tmp_path)
    assert error.value.fix == "one of those of mslab train"
    with pytest.raises(RunError, match=r"There is no folder runs/nope\."):
        RunFolder.read("runs/nope")


def test_a_file_in_place_of_images_is_named_as_what_it_is(tmp_path):
    (tmp_path / "t.yaml").touch()
    with pytest.raises(DatasetError, match=r"t.yaml is a file, and not a folder\.") as error:
        check_dataset(tmp_path / "t.yaml")
    assert "train_data" in error.value.fix
    with pytest.raises(DatasetError, match=r"There is no folder nowhere\."):
        check_dataset("nowhere")
    with pytest.raises(DatasetError, match=r"There is no folder nowhere \(val images\)\."):
        check_dataset(tmp_path, "nowhere")
    (tmp_path / "a").mkdir()
    with pytest.raises(DatasetError, match=r"cannot be used\.|class folders"):
        check_dataset(tmp_path).raise_errors()


def test_wrong_weights_are_refused_before_the_images_are_looked_at(tmp_path):
    config = tmp_path / "t.yaml"
    config.write_text("train_data: nowhere\nval_data: no\nclass_num: 2\n")
    missing, environ = tmp_path / "missing.ckpt", {"COLUMNS": "200"}
    for words in (
        ("transfer", config, "--backbone", missing),
        ("eval", missing, "--data", "nowhere"),
        ("suspects", missing, "--data", "nowhere"),
        ("repeat", config, "--backbone", missing),
        ("lr-find", config, "--backbone", missing),
        ("train", config, "--from", missing),
    ):
        done = cli(*words, env=environ)
        assert done.returncode == 1 and f"There is no file {missing}." in done.stderr, (words, done.stderr)
    done = cli("transfer", config, "--backbone", config, env=environ)
    assert done.returncode == 1 and done.stderr.startswith("CheckpointError: "), done.stderr


# --- a file or a folder in place of weights ---------------------------------------------------------------------------

CONTENTS = {
    "report.html": (b"<!DOCTYPE html><html>", "is a web page"),
    "config.yaml": (b"class_num: 9\n", r"is a text file \(YAML, as configs are\)"),
    "history.csv": (b"epoch,step\n1,2\n", r"is a text file \(a table\)"),
    "train.log": ("训练".encode("gbk"), r"is a text file \(a log\)"),  # as Chinese Windows writes it
    "notes.txt": ("héllo".encode("utf-16"), "is a text file"),
    "manifest.json": (b'{"schema": 2}', "is JSON, and contains no weights"),
    "lab.ipynb": (b'{"cells": []}', "is a notebook"),
    "best.pt": (b"version https://git-lfs.github.com/spec/v1\noid", "is a pointer of Git LFS"),
    "photo.png": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", r"is a picture \(PNG\)"),
    "photo.ckpt": (b"\xff\xd8\xff\xe0\0\x10JFIF", r"is a picture \(JPEG\)"),
    "film.mp4": (b"\0\0\0\x18ftypmp42", "is a video"),
    "paper.pdf": (b"%PDF-1.4\n%\xe2\xe3", "is a file of PDF"),
    "net.mindir": (b"\n\x051.0.0\x12\4abcd", "is a MINDIR graph"),
    "net.onnx": (b"\x08\7\x12\4abcd:\5he", "is not a complete ONNX file: it is cut off"),
    "run.zip": (b"PK\5\6" + bytes(18), "is not a complete PyTorch file"),
    "x.safetensors": ((10**6).to_bytes(8, "little") + b'{"a', "is not a complete safetensors file"),
    "x.ckpt": (b"", "is not a complete file of weights: it has 0 bytes"),
    "zeros.ckpt": (bytes(500), "begins with zeros only"),
    "cut.ckpt": (b"\n\xff\7\n\5conv1", "is not a complete MindSpore checkpoint: it is cut off"),
    "x.bin": (b"\x7f\1\2\3\4\5\6\7\x08", "is of no format that mslab reads: it begins with the bytes 7f 01 02 03"),
    "x.crdownload": (b"\n\xff\7", "is a download that has not ended"),
    "mslab": (b"\x7fELF\2\1", "is a program"),
    "x.npy": (b"\x93NUMPY\1\0", "is an array of NumPy"),
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run's folder under runs/ of the current folder, with files of weights."""
    monkeypatch.chdir(tmp_path)
    folder = Path("runs/x")
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("best", "best_backbone", "last"):
        save_arrays({"conv1.weight": np.zeros((1, 3, 7, 7), np.float32)}, folder / f"checkpoints/{name}.ckpt", {})
    return folder


def refusal(path):
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read(weights.backbone_file(path))
    return caught.value


BACKBONE = "runs/x/checkpoints/best_backbone.ckpt"


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_in_place_of_weights_is_named_as_what_it_is_with_the_backbone_of_its_run(run, name):
    content, text = CONTENTS[name]
    (run / name).write_bytes(content)
    error = refusal(run / name)
    assert re.search(text, error.what), error
    assert f"use {BACKBONE}, the backbone of that run, or runs/x/checkpoints/best.ckpt, its whole" in error.fix
    Path(name).write_bytes(content)  # elsewhere: the runs under runs/ are near
    assert f"one of {BACKBONE}" in refusal(name).fix


def test_a_finished_run_without_its_best_network_is_answered_with_what_is_left(run, monkeypatch):
    (run / "checkpoints/best.ckpt").unlink()
    for status, last, fix in (
        ("done", True, "mslab predict runs/x/checkpoints/last.ckpt photos"),
        ("interrupted", True, "mslab train --resume runs/x    or use runs/x/checkpoints/last.ckpt"),
        ("interrupted", False, "mslab train --resume runs/x    or use another run or a .ckpt file"),
        ("done", False, "mslab reproduce runs/x    trains it again"),
    ):
        monkeypatch.setattr("mslab.runs.manifest.load", lambda run, status=status: {"status": status})
        (run / "manifest.json").touch()
        monkeypatch.setattr("sys.argv", ["mslab", "predict", "runs/x", "photos"])
        if not last:
            (run / "checkpoints/last.ckpt").unlink(missing_ok=True)
        with pytest.raises(RunError, match=r"has no checkpoints/best\.ckpt") as caught:
            weights.best_file("runs/x")
        assert caught.value.fix == fix
        (run / "checkpoints/last.ckpt").touch()


def test_a_folder_in_place_of_weights_says_what_is_in_it_and_each_file_that_is_suggested_exists(run):
    (Path("datasets") / "nine").mkdir(parents=True)
    for folder in ("datasets", "runs", ".", "runs/x/checkpoints", "runs/x/tensorboard"):
        Path(folder).mkdir(exist_ok=True)
        error = refusal(folder)
        suggested = re.findall(r"\S+\.ckpt", error.fix)
        assert BACKBONE in suggested and all(Path(file).is_file() for file in suggested), (folder, error)
        assert error.details[0][0] == "contains", error
    assert dict(refusal("datasets").details)["contains"] == "nine/"
    assert BACKBONE in refusal("runs/x/report.html").fix  # it is missing
    assert BACKBONE in refusal("runs/x/checkpoints/best-backbone.ckpt").fix
    (run / "checkpoints/best.ckpt").write_bytes(b"")  # as a full disk leaves it
    error = refusal(run / "checkpoints/best.ckpt")
    assert "runs/x/checkpoints/last.ckpt, its network after the last epoch" in error.fix
    assert "use runs/x/checkpoints/best.ckpt" not in error.fix
    Path(BACKBONE).unlink()
    (run / "checkpoints/best.ckpt").unlink()
    assert weights.backbone_file(run) == run / "checkpoints/last.ckpt"  # which contains a backbone, too
