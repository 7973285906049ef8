"""A path that is not what it should be: the message says what it is, and which would do, before images are read."""

import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import cli

from mslab import checkpoint
from mslab.check import check_dataset
from mslab.check.training_data import check_or_raise
from mslab.checkpoint import near, save_arrays
from mslab.config import load_settings
from mslab.errors import CheckpointError, ConfigError, DatasetError, RunError
from mslab.runs import weights
from mslab.runs.folder import RunFolder


def test_a_folder_that_is_no_run_is_not_resumed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        CheckpointError, match=r"is an empty folder, and no weights: it has no checkpoints/best.ckpt"
    ) as error:
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


BEST = "runs/x/checkpoints/best.ckpt"  # whole networks are accepted by every command, also for their backbone


@pytest.mark.parametrize("name", CONTENTS)
def test_a_file_in_place_of_weights_is_named_as_what_it_is_with_the_network_of_its_run(run, name):
    content, text = CONTENTS[name]
    (run / name).write_bytes(content)
    error = refusal(run / name)
    assert re.search(text, error.what), error
    assert f"use {BEST}, the whole network of that run, or runs/x/checkpoints/last.ckpt, its network" in error.fix
    assert "best_backbone" not in str(error)
    Path(name).write_bytes(content)  # elsewhere: the runs under runs/ are near
    assert f"one of {BEST}" in refusal(name).fix
    assert refusal("nothing.ckpt").fix == f"one of {BEST}"  # what is called like weights and is none is not suggested


def test_only_complete_files_of_weights_are_suggested_also_for_a_link_that_leads_nowhere(run, tmp_path):
    folder = tmp_path / "weights"
    folder.mkdir()
    for name, (content, _) in CONTENTS.items():
        (folder / name).with_suffix(".ckpt").write_bytes(content)
    (folder / "net").mkdir()
    (folder / "net.pth").mkdir()
    shutil.copy(run / "checkpoints/best.ckpt", folder / "good.CKPT")
    content = (folder / "good.CKPT").read_bytes()
    (folder / "goof.ckpt").write_bytes(content[:-1])
    with zipfile.ZipFile(folder / "zip.pt", "w") as archive:
        archive.writestr("notes.txt", "x")
    with zipfile.ZipFile(folder / "torch.pt", "w") as archive:
        archive.writestr("x/data.pkl", "x")
    (folder / "goog.ckpt").symlink_to("nowhere")
    assert near.files_in(folder, Path()) == ["good.CKPT", "torch.pt"]
    (folder / "runs-a/checkpoints").mkdir(parents=True)
    assert refusal(folder / "run-a").fix == f"{folder / 'runs-a'} is there: give that, if you mean it"
    assert "is there" not in refusal(folder / "ne").fix  # a folder, and no run
    for name in ("goog.ckpt", "good.ckp"):
        assert refusal(folder / name).fix == f"{folder / 'good.CKPT'} is there: give that, if you mean it"


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
        assert BEST in suggested and all(Path(file).is_file() for file in suggested), (folder, error)
        assert error.details[0][0] == "contains", error
    assert dict(refusal("datasets").details)["contains"] == "nine/"
    assert BEST in refusal("runs/x/report.html").fix  # it is missing
    assert "runs/x/checkpoints/best_backbone.ckpt is there" in refusal("runs/x/checkpoints/best-backbone.ckpt").fix
    (run / "checkpoints/best.ckpt").write_bytes(b"")  # as a full disk leaves it
    error = refusal(run / "checkpoints/best.ckpt")
    assert "runs/x/checkpoints/last.ckpt, its network after the last epoch" in error.fix
    assert "use runs/x/checkpoints/best.ckpt" not in error.fix
    (run / "checkpoints/best_backbone.ckpt").unlink()
    (run / "checkpoints/best.ckpt").unlink()
    assert weights.backbone_file(run) == run / "checkpoints/last.ckpt"  # which contains a backbone, too


def test_what_is_no_config_is_named_with_what_can_be_done_with_it(tmp_path, monkeypatch):
    """`mslab train` with a run, weights, images, configs, a folder of runs, or a path that is almost one."""
    monkeypatch.chdir(tmp_path)
    for name in ("runs/x-20260101-000000/config.yaml", "runs/x-20260101-000000/manifest.json", "configs/nine.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("train_data: a\n")
    for name in ("w.ckpt", "set/train/a/1.png", "set/val/a/1.png", "photo.jpg", "my configs/a b.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    run = "runs/x-20260101-000000"
    for name, what, fix in (
        (run, "is a run", f"mslab train --resume {run}    continues it"),
        (f"{run}/", "is a run", f"mslab train {run}/config.yaml    begins another run"),
        (f"{run}/checkpoints", "There is no config file", f"mslab train --resume {run}"),
        ("runs", "is a folder of runs", "mslab train --resume latest"),
        ("latest", "There is no config file latest", "mslab train --resume latest"),
        ("w.ckpt", "is a file of weights", "mslab train configs/nine.yaml --from w.ckpt"),
        ("photo.jpg", "is an image", "mslab train configs/nine.yaml train_data=FOLDER"),
        ("set", "is a folder of images", "mslab train configs/nine.yaml train_data=set/train val_data=set/val"),
        ("configs", "configs is a folder, and not a config file", "one of configs/nine.yaml"),
        ("nine.yaml", "There is no config file nine.yaml", "one of configs/nine.yaml"),
        ("configs/nine", "There is no config file configs/nine", "configs/nine.yaml is there"),
        ("config/nime.yml", "There is no config file config/nime.yml", "configs/nine.yaml is there"),
        ("configs\\nine.yaml", "is a path of Windows", "configs/nine.yaml is there"),
        ("my configs/a  b.yaml", "There is no config file", "'my configs/a b.yaml' is there"),
        ("https://host/nine.yaml", "is an address", "download it"),
    ):
        with pytest.raises(ConfigError) as error:
            load_settings(name)
        assert what in error.value.what and fix in error.value.fix, error.value
    with pytest.raises(ConfigError, match="one by one: a config's path, or a dict"):
        load_settings([{"epochs": 1}])
    for value in (None, 3, "", ["configs/nine.yaml"], object()):
        with pytest.raises(ConfigError, match=r"is no path\.\n  expected  a YAML file of settings, or a dict\n  fix"):
            load_settings(value)
    done = cli("train", "my", "configs/a", "b.yaml")
    assert done.returncode == 2
    assert "'my configs/a b.yaml' is one path with spaces: type it in quotation marks" in done.stderr


def test_a_config_that_is_used_from_another_folder_says_where_its_images_are(tmp_path, monkeypatch):
    for name in ("configs", "images/train", "images/val", "elsewhere"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "images/x.png").touch()
    config = tmp_path / "configs/x.yaml"
    config.write_text("train_data: images/train\nval_data: images/val\nclass_num: 2\n")
    for folder in ("configs", "elsewhere"):
        monkeypatch.chdir(tmp_path / folder)
        with pytest.raises(
            DatasetError, match=r"it contains the invisible character '\\t'.\n.*\n.*\n.*in double quotes"
        ):
            check_or_raise(load_settings(config).replace(train_data="images\train"), source=str(config))
        with pytest.raises(DatasetError, match=r"There is no folder images/train \(train images\)\.") as error:
            check_or_raise(load_settings(config), source=str(config))
        assert f"looked in  {tmp_path / folder}" in str(error.value)
        assert error.value.fix == (
            f"add train_data=../images/train val_data=../images/val to the command\n"
            f"or cd {tmp_path}, where the paths in {config} begin"
        )
        fixed = load_settings(config, ["train_data=../images/train", "val_data=../images/val"])
        with pytest.raises(DatasetError, match="contains no class folder"):
            check_or_raise(fixed, source=str(config))
    with pytest.raises(DatasetError, match=r"There is no folder imags \(train images\)\.") as error:
        monkeypatch.chdir(tmp_path)
        check_dataset("imags", "images")
    assert error.value.fix == "images is there: give that, if you mean it"


def test_what_is_no_folder_of_images_is_named_as_what_it_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("x.zip", "set/train/a/1.png", "set/train/b/1.png", "w.ckpt", "lone/a/1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name, text, fix in (
        ("x.zip", "x.zip is a file, and not a folder", "mslab data import x.zip"),
        ("set/train/a/1.png", "1.png is a file, and not a folder", f"{tmp_path}/set/train?"),
        ("lone/a/1.png", "1.png is a file, and not a folder", "give the folder of the classes, not one image"),
        ("w.ckpt", "w.ckpt is a file, and not a folder", "--data names the images"),
        ("set/trian", "There is no folder set/trian", "set/train is there"),
    ):
        with pytest.raises(DatasetError) as error:
            check_dataset(name)
        assert text in error.value.what and fix in error.value.fix, error.value
    for value in (None, 3, "", ["set"], object()):
        with pytest.raises(DatasetError, match=r"is no path\.\n  expected  a folder with one folder of images"):
            check_dataset(value)


# --- what is near is of the kind that is wanted, and a fix is for the command that was typed --------------------------


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A folder with a config, a space, a rubric and two runs, below one with files of the same names."""
    for name, text in (
        ("base", ""),
        ("lab/base.yaml", "train_data: a\n"),
        ("lab/base.png", ""),
        ("lab/space.yaml", "lr_max: {low: 1, high: 2}\n"),
        ("lab/rubric.yaml", "items: []\n"),
        ("lab/note.txt", ""),
        ("lab/photo.png", ""),
        ("lab/sub/x.txt", ""),
        ("lab/sweeps.txt", ""),
        ("lab/runs/a-sweep-20260101-000000/sweep.json", "{}"),
        ("lab/runs/b-sweep-20260102-000000/sweep.json", "[]"),
        *((f"lab/runs/{run}/config.yaml", "") for run in RUNS),
        *((f"lab/runs/{run}/manifest.json", '{"start": "2026-01-01T00:00:00"}') for run in RUNS[:1]),
        (f"lab/runs/{RUNS[1]}/manifest.json", '{"start": "2026-01-02T00:00:00"}'),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    save_arrays({"conv1.weight": np.zeros((1, 3, 7, 7), np.float32)}, tmp_path / "lab/w.ckpt", {})
    monkeypatch.chdir(tmp_path / "lab")
    return tmp_path / "lab"


RUNS = ("nine-20260101-000000", "two-20260102-000000")
NEWEST = f"runs/{RUNS[1]}"


@pytest.mark.parametrize(
    ("line", "there", "absent"),
    [
        ("train base", "base.yaml is there", "../"),
        ("train nope.yaml", "one of base.yaml", "space"),
        ("train latest", "mslab train --resume latest", "tune"),
        ("lr-find latest", f"mslab lr-find {NEWEST}/config.yaml    takes the settings of that run", "--resume"),
        ("repeat latest", f"mslab repeat {NEWEST}/config.yaml", "--resume"),
        ("tune-batch runs", f"mslab tune-batch {NEWEST}/config.yaml", "--resume"),
        ("tune-batch w.ckpt", "one of base.yaml", "w.ckpt"),
        ("repeat w.ckpt", "mslab repeat base.yaml --backbone w.ckpt", "--from"),
        (
            f"transfer runs/{RUNS[0]} --backbone latest",
            f"transfer runs/{RUNS[0]}/config.yaml --backbone latest",
            "train",
        ),
        ("verify nope.txt", f"one of {NEWEST}", "note"),
        ("verify photo.png", f"one of {NEWEST}", "name the run first"),
        ("watch A=latest", "give latest alone", "nothing"),
        ("eval nope.ckpt --data x", f"one of w.ckpt; or one of {NEWEST}", "best_backbone"),
        ("suspects runs --data x", f"one of {NEWEST}", "best_backbone"),
        ("suspects sub --data x", f"one of {NEWEST}", "best_backbone"),
        ("check sweep", "mslab data make", "sweeps.txt"),
        ("check su", "mslab data make", "sub"),
        ("data import base", "correct the path", "base.yaml"),
    ],
)
def test_a_fix_names_what_the_command_takes(lab, line, there, absent):
    fix = cli(*line.split()).stderr.partition("\n  fix  ")[2]
    assert there in fix and absent not in fix, fix


def test_what_is_no_rubric_is_answered_as_what_is_no_config_is(lab):
    from mslab.grade.loading import load_rubric

    for name, what, fix in (
        ("nope.yaml", "There is no rubric file nope.yaml.", "one of rubric.yaml"),
        ("rubric", "There is no rubric file rubric.", "rubric.yaml is there: give that, if you mean it"),
        ("photo.png", "photo.png is an image, and not a rubric file.", "one of rubric.yaml"),
        ("runs", "runs is a folder of runs, and not a rubric file.", "one of rubric.yaml"),
        ("", "'' is no path.", "configs/rubric.yaml; a variable of the shell may be empty"),
    ):
        with pytest.raises(ConfigError) as error:
            load_rubric(name)
        assert error.value.what == what and error.value.fix.endswith(fix), error.value


def test_nothing_above_the_folder_of_the_lab_is_proposed(lab, monkeypatch):
    monkeypatch.chdir(lab / "sub")
    for words, fix in (
        (("verify", "base"), "one of those of mslab train"),
        (("train", "base.yaml"), "../base.yaml is there"),
        (("verify", f"runs/{RUNS[0]}"), f"../runs/{RUNS[0]} is there"),
    ):
        assert fix in cli(*words).stderr, words


def test_the_newest_sweep_is_continued_and_a_missing_one_lists_those_that_are_there(lab):
    from mslab.experiments.sweep import study

    assert study.sweep_at("latest") == Path("runs/b-sweep-20260102-000000")
    with pytest.raises(RunError, match=r"^There is no folder nope\.\n  looked in ") as error:
        study.resume_sweep("nope", {})
    assert error.value.fix == "one of runs/a-sweep-20260101-000000, runs/b-sweep-20260102-000000"


def test_a_name_that_is_too_long_is_one_message_wherever_it_is_given(lab):
    """Path.is_dir() and its like raise an error for it in Python 3.11, as for what is below a closed folder."""
    long, data = "x" * 300, ["val_data=y", "class_num=2"]
    for words in (
        ("train", "base.yaml", f"train_data={long}", *data),
        ("train", "base.yaml", f"train_data={long}", f"val_data={long}", "class_num=2"),
        ("verify", long),
        ("check", long),
        ("sweep", "--resume", long),
    ):
        done = cli(*words)
        assert done.returncode == 1 and "fix  " in done.stderr and "Traceback" not in done.stderr, done.stderr
