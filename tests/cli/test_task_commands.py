"""Commands that are given a network or settings of the wrong task say so in one message, and write nothing."""

import json
import shutil
from pathlib import Path

import pytest
from helpers import cli, newest, settings
from labelled_sets import data_set, images
from task_runs import MEASURES, TASKS, draw, task_settings

import mslab


@pytest.fixture
def scenes(once):
    return once("few-scenes", draw) / "scenes"


@pytest.fixture
def runs(once, squares, scenes):
    """A run of each task, and one of classes. Do not change them."""

    def make(folder):
        for task in TASKS:
            mslab.train(task_settings(scenes, task, epochs=1), name=task)
        mslab.train(settings(squares / "three", 3, epochs=1), name="classify")

    folder = once("task-runs", make)
    return {task: next((folder / "runs").glob(f"{task}-*")) for task in (*TASKS, "classify")}


def refused(*arguments):
    before = sorted(map(str, Path().rglob("*")))
    done = cli(*arguments)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr and "expected" in done.stderr and "fix" in done.stderr, done.stderr
    assert sorted(map(str, Path().rglob("*"))) == before
    return " ".join(done.stderr.split())


def config_file(config):
    Path("x.yaml").write_text(json.dumps(config))
    return "x.yaml"


@pytest.mark.parametrize("task", TASKS)
def test_a_network_of_a_task_is_measured_and_not_trained_as_classes(task, runs, scenes, squares, inside):
    done = cli("eval", runs[task], "--data", str(scenes))
    assert done.returncode == 0 and MEASURES[task] in done.stdout, done.stderr
    file = config_file(settings(squares / "three", 3, epochs=1))
    text = refused("train", file, "--from", str(runs[task]))
    assert f"is of task {task}" in text and "mslab transfer CONFIG --backbone FILE" in text
    done = cli("transfer", file, "--backbone", str(runs[task]))  # its backbone is one like any other
    assert done.returncode == 0, done.stderr
    done = cli("eval", runs[task], "--data", str(squares / "three"))
    assert done.returncode != 0 and "no labels" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("option", [["--tta"], ["--threshold", "0.5"], ["--ignore", "x"], ["--follow-links"]], ids=str)
def test_options_of_classes_are_refused(option, runs, scenes, inside):
    done = cli("eval", runs["detect"], "--data", str(scenes), *option)
    assert done.returncode == 2 and "Traceback" not in done.stderr and option[0] in done.stderr


def test_a_network_of_classes_or_of_another_task_is_not_trained_further(runs, scenes, inside):
    file = config_file(task_settings(scenes, "segment"))
    for task in ("classify", "detect", "keypoints"):
        text = refused("train", file, "--from", str(runs[task]))
        assert f"is of task {task}" in text and "segment" in text
    done = cli("transfer", file, "--backbone", str(runs["classify"]))
    assert done.returncode == 0, done.stderr


def test_other_names_are_not_trained_further(runs, inside):
    data_set(Path("data"))
    file = config_file(task_settings(Path("data"), "detect", class_num=2))
    assert "and the data cat, dog" in refused("train", file, "--from", str(runs["detect"]))


def test_labels_of_other_names_are_not_measured(runs, inside):
    data_set(Path("data"))
    text = refused("eval", str(runs["detect"]), "--data", "data")
    assert "The labels have the classes cat, dog" in text
    text = refused("eval", str(runs["multilabel"]), "--data", "data")
    assert "The labels have the tags wet, dry" in text
    text = refused("eval", str(runs["keypoints"]), "--data", "data")
    assert "The labels have the key points left_eye, right_eye" in text


def test_fewer_classes_and_tags_in_another_order_are_measured(runs, scenes, inside):
    shutil.copytree(scenes, "copy")
    before = cli("eval", runs["multilabel"], "--data", "copy", "--json", "a.json")
    for split in ("train", "val", "test"):
        file = Path("copy") / split / "tags.csv"
        rows = [line.split(",") for line in file.read_text().splitlines()]
        file.write_text("".join(",".join([row[0], *reversed(row[1:])]) + "\n" for row in rows))
    after = cli("eval", runs["multilabel"], "--data", "copy", "--json", "b.json")
    assert before.returncode == after.returncode == 0, before.stderr + after.stderr
    first, second = (json.loads(Path(name).read_text()) for name in ("a.json", "b.json"))
    assert first["map"] == second["map"] and first["class_names"] == second["class_names"]


@pytest.mark.parametrize("task", TASKS)
def test_what_does_not_fit_the_data_stops_before_a_run_is_made(task, scenes, inside):
    images(Path("empty") / "images", 3)
    file = config_file(task_settings(scenes, task))
    assert "class_num: 4" in refused("train", file, "class_num=4")
    assert "no labels" in refused("train", file, "train_data=empty")
    assert "same labels" in refused("train", file, f"val_data={scenes / 'train'}")
    if task != "multilabel":
        assert "network=null" in refused("train", file, "network=mindcv:mobilenet_v2_100", "stages=null")
    assert "best_by=null" in refused("train", file, "best_by=macro_f1")
    assert not Path("runs").exists()
    assert "class_num: 1" in refused("train", file, "task=classify", "class_num=1")


def test_settings_of_classes_on_the_command_line_do_nothing_and_are_said(scenes, inside):
    file = config_file(task_settings(scenes, "detect", epochs=1))
    done = cli("train", file, "mixup_alpha=0.2", "--no-report")
    text = " ".join(done.stderr.split())
    assert "mixup_alpha" in text and "belongs to classify" in text
    assert newest("x-*") if done.returncode == 0 else not Path("runs").exists()
