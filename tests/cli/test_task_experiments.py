"""Experiments of several runs, for tasks beside classification: comparison, repetition, sweep, further training."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest
import scenes
from helpers import cli, history
from scenes import MEASURES, settings

from mslab.check.label_check import check_labels
from mslab.experiments import comparison


@pytest.fixture(scope="session")
def drawn(once) -> Path:
    return once("scenes", scenes.draw)


@pytest.fixture
def config(drawn, inside):
    """config(task, **settings) -> the path of a config."""

    def write(task, **more):
        path = inside / f"{task}.yaml"
        path.write_text(json.dumps(settings(drawn, task, **more)))
        return path

    return write


@pytest.mark.parametrize("task", MEASURES)
def test_shares_of_labels_are_nested_and_of_whole_images(drawn, task):
    report = check_labels(drawn / "scenes" / "train", task, val=drawn / "scenes" / "val")
    small, large = (comparison.subset(report, share, 1) for share in (0.25, 0.5))
    names = [{row.file for row in part.sets["train"].images} for part in (small, large, report)]
    assert names[0] < names[1] < names[2] and small.images_in("train") in (2, 3)
    assert {picture.name.rpartition("/")[2] for picture in small.splits["train"].pictures} == names[0]
    assert small.sets["val"] is report.sets["val"]
    assert comparison.subset(report, 0.001, 1).images_in("train") == 1
    assert len({part.fingerprint for part in (small, large, report, comparison.subset(report, 0.25, 2))}) == 4


@pytest.mark.parametrize("task", ["detect", "keypoints"])
def test_a_comparison_has_the_measure_and_equally_many_steps(finished, drawn, config, task):
    parent = finished(settings(drawn, "detect")).run
    options = ["--backbone", parent, "--compare", "frozen,finetune", "--fractions", "0.5", "--seeds", 1]
    done = cli("transfer", config(task), *options, "--json", "x.json")
    assert done.returncode == 0, done.stderr
    result = json.loads(Path("x.json").read_text())
    assert (result["task"], result["measure"]) == (task, MEASURES[task])
    assert [(row["way"], row["images"]) for row in result["rows"]] == [("frozen", 6), ("finetune", 6)]
    (folder,) = Path("runs").iterdir()
    for row in result["rows"]:
        (run,) = folder.glob(f"{row['way']}-6-*")
        last = history(run)[-1]
        assert row[MEASURES[task]] == pytest.approx(float(last["val_acc"]), abs=1e-5)
        assert "val_acc" not in row and "linear_acc" not in row and 0 <= row["constant"] <= 1
        assert last["step"] == ("3" if task == "detect" else "7")  # of 12 images, or of the 31 objects in them
    assert f"{MEASURES[task]} in the last epoch" in done.stdout and "same answer" in done.stdout
    assert "resize_mode" not in done.stderr


def test_repeat_has_the_measure(config, drawn):
    done = cli("repeat", config("multilabel"), "--seeds", 2, "--test", drawn / "scenes" / "test", "--json", "x.json")
    assert done.returncode == 0, done.stderr
    result = json.loads(Path("x.json").read_text())
    assert result["measure"] == "map" and set(result["runs"][0]) >= {"val_acc", "constant", "test_acc"}
    assert result["metrics"]["val_acc"]["n"] == 2 and "linear_acc" not in result["metrics"]
    for title in ("validation map, best epoch", "test map", "validation map of the same answer for every image"):
        assert title in done.stdout


def test_folds_are_refused_for_labels(config):
    done = cli("repeat", config("detect"), "--folds", "folds")
    assert done.returncode == 1
    assert "--folds divides images of classes, and task: detect has labels of its own." in done.stderr
    assert "--seeds 5 in place of --folds" in done.stderr


def test_training_goes_on_from_a_network_of_the_same_task_only(finished, drawn, config):
    parent = finished(settings(drawn, "detect")).run
    done = cli("train", config("detect"), "--from", parent, "--no-report")
    assert done.returncode == 0, done.stderr
    assert "head: 27 of 27 tensors" in done.stderr
    done = cli("train", config("segment"), "--from", parent, "--no-report")
    assert done.returncode == 1
    assert "is of task detect" in done.stderr and "sets segment" in done.stderr


def test_a_run_is_archived_with_its_labels_and_repeated_bit_for_bit(drawn, inside):
    task = "segment"
    shutil.copytree(drawn / "scenes", "scenes")
    Path("x.yaml").write_text(json.dumps(settings(Path(), task)))
    assert cli("train", "x.yaml", "--no-report").returncode == 0
    (run,) = Path("runs").iterdir()
    assert cli("verify", run).returncode == 0
    assert cli("archive", run, "--data", "--out", "x.zip").returncode == 0
    with zipfile.ZipFile("x.zip") as packed:
        names = [name for name in packed.namelist() if name.startswith("data/train/")]
    assert "data/train/annotations.json" in names and "data/train/tags.csv" not in names
    assert "data/train/masks/0001.png" in names
    shutil.rmtree("scenes")
    done = cli("reproduce", "--from", "x.zip")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "identical: every epoch's figures" in done.stdout
    assert f"eval {MEASURES[task]}" in done.stdout and f"best val_{MEASURES[task]}" in done.stdout
    assert "ccuracy" not in done.stdout and "F1" not in done.stdout
    (unpacked,) = Path("runs").glob("*-from-archive")
    label = unpacked / "data" / "train" / "annotations.json"
    label.write_text(label.read_text().replace("Agaricus", "Agaricon"))
    done = cli("archive", unpacked, "--data", "--out", "y.zip")
    assert done.returncode == 1
    assert "The images or labels of" in done.stderr and "leave --data out" in done.stderr


def test_labels_that_an_archive_cannot_keep_are_named(drawn, inside):
    shutil.copytree(drawn / "scenes", "scenes")
    for split in ("train", "val"):
        folder = Path("scenes", split)
        for image in (folder / "images").iterdir():
            image.rename(folder / image.name)
        (folder / "images").rmdir()
        folder.rename(f"scenes/own-{split}")
    own = {"train_data": "scenes/own-train", "val_data": "scenes/own-val"}
    Path("x.yaml").write_text(json.dumps(settings(Path(), "multilabel", **own)))
    assert cli("train", "x.yaml", "--no-report").returncode == 0
    (run,) = Path("runs").iterdir()
    done = cli("archive", run, "--data", "--out", "x.zip")
    assert done.returncode == 1 and "do not lie as an archive keeps them" in done.stderr


def test_a_half_pack_is_measured_by_the_measure(finished, drawn, inside):
    parent = finished(settings(drawn, "detect")).run
    done = cli("pack", parent, "--half", "--out", "x.zip")
    assert done.returncode == 0, done.stderr
    assert "; voc_map on" in done.stderr + done.stdout
    with zipfile.ZipFile("x.zip") as packed:
        packed.extractall("anna")
    half = json.loads(Path("anna/manifest.json").read_text())["half"]
    assert half["accuracy"] is not None and abs(half["difference"]) < 0.02
    done = cli("eval", "anna", "--data", drawn / "scenes" / "val", "--json", "x.json")
    assert done.returncode == 0, done.stderr
    assert json.loads(Path("x.json").read_text())["voc_map"] == pytest.approx(half["accuracy"])
    assert cli("verify", "anna").returncode == 0
