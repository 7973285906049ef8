"""A path that is not what it should be: the message says what it is, and which would do, before images are read."""

import pytest
from helpers import cli

from mslab.check import check_dataset
from mslab.checkpoint import formats
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
