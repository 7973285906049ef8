"""Experiments of several runs, for tasks beside classification: comparison, repetition, sweep, further training."""

import json
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


def test_a_sweep_searches_for_the_measure(config, drawn):
    Path("space.yaml").write_text("lr_max: [0.004, 0.002]\n")
    options = ["--space", "space.yaml", "--trials", 2, "--sampler", "grid", "--test", drawn / "scenes" / "test"]
    done = cli("sweep", config("segment"), *options, "--json", "x.json")
    assert done.returncode == 0, done.stderr
    result = json.loads(Path("x.json").read_text())
    values = [row["val_acc"] for row in result["trials"]]
    assert result["best"]["val_acc"] == max(values) and result["test_acc"]["best"] is not None
    assert "val_miou" in done.stdout and "test miou" in done.stdout and "ccuracy" not in done.stdout
    page = (Path(result["folder"]) / "report.html").read_text()
    assert "val_miou" in page and "validation accuracy" not in page


def test_training_goes_on_from_a_network_of_the_same_task_only(finished, drawn, config):
    parent = finished(settings(drawn, "detect")).run
    done = cli("train", config("detect"), "--from", parent, "--no-report")
    assert done.returncode == 0, done.stderr
    assert "head: 27 of 27 tensors" in done.stderr
    done = cli("train", config("segment"), "--from", parent, "--no-report")
    assert done.returncode == 1
    assert "is of task detect" in done.stderr and "sets segment" in done.stderr
