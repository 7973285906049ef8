"""Grading networks of tasks: the task's measure on hidden images with labels stands where classes have accuracy."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import scenes
from helpers import cli
from helpers import settings as class_settings
from scenes import MEASURES, settings

import mslab
from mslab import checkpoint
from mslab.evaluation.measuring import evaluate
from mslab.grade import halving, handin
from mslab.runs.folder import RunFolder

RUBRIC = """
title: Things in the forest
total: 100
networks:
  net: {{file: net/best.ckpt, data: test, task: {task}{more}}}
items:
  - {{id: measure, kind: accuracy, points: 100, public: true, network: net, linear: {{from: 0.0, to: 1.0}}}}
"""


@pytest.fixture(scope="session")
def drawn(once) -> Path:
    return once("scenes", scenes.draw)


@pytest.fixture
def lab(drawn, inside):
    """lab(task) -> a folder with hidden/test and rubric.yaml; class/ is empty."""

    def make(task, more=""):
        Path("rubric.yaml").write_text(RUBRIC.format(task=task, more=more))
        shutil.copytree(drawn / "scenes" / "test", inside / "hidden" / "test", dirs_exist_ok=True)
        Path("class").mkdir(exist_ok=True)

    return make


def graded(*more):
    done = cli("grade", "class", "--rubric", "rubric.yaml", "--data", "hidden", "--out", "out", *more)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(Path("out/grades.json").read_text())["students"]
    return {row["id"]: row["outcomes"]["measure"] for row in rows}


@pytest.mark.parametrize("task", MEASURES)
def test_a_network_is_graded_by_the_measure(finished, drawn, lab, task):
    lab(task)
    run = finished(settings(drawn, task)).run
    handin.pack([f"net={run}"], "class/anna.zip")
    measured = evaluate(run, drawn / "scenes" / "test", device="cpu")[MEASURES[task]]
    assert measured > 0
    for engine in ("auto", "mindspore"):
        outcome = graded("--engine", engine)["anna"]
        assert outcome["points"] == pytest.approx(100 * measured, abs=0.5), outcome
        assert f"{measured:.3f}"[:4] in json.dumps(outcome)
    assert graded("--engine", "mindspore")["anna"] == outcome  # from the cache


def test_other_tasks_names_and_options_are_answered_clearly(finished, drawn, squares, lab):
    lab("detect")
    run = finished(settings(drawn, "detect")).run
    handin.pack([f"net={run}"], "class/anna.zip")
    handin.pack([f"net={finished(settings(drawn, 'segment')).run}"], "class/ben.zip")
    handin.pack([f"net={finished(class_settings(squares / 'three', 3, epochs=1)).run}"], "class/cem.zip")
    weights = checkpoint.read(run / "checkpoints" / "best.ckpt")
    hostile = {"dan": {"class_names": [f"{name}?" for name in weights.class_names]}, "eve": {"class_names": ["x"]}}
    hostile["fay"] = {"image_size": 600, "resize_size": 600}
    hostile["gus"] = {"options": weights.info["options"] | {"tile_grid_size": [20, 20], "box_score_thresh": 0.0}}
    hostile["ida"] = {"stages": [[1, 8, 1]]}
    for name, change in hostile.items():
        (Path("class") / name / "net").mkdir(parents=True)
        file = Path("class") / name / "net" / "best.ckpt"
        checkpoint.save_arrays(weights.tensors, file, weights.info | change)
    tensors = {name: value for name, value in weights.tensors.items() if not name.startswith("neck.lateral.0")}
    (Path("class") / "hal" / "net").mkdir(parents=True)
    checkpoint.save_arrays(tensors, Path("class/hal/net/best.ckpt"), weights.info)
    nan = {name: np.full_like(value, np.nan) if "output" in name else value for name, value in weights.tensors.items()}
    (Path("class") / "jo" / "net").mkdir(parents=True)
    checkpoint.save_arrays(nan, Path("class/jo/net/best.ckpt"), weights.info)
    said = {name: json.dumps(outcome) for name, outcome in graded().items()}
    assert "it is of task segment, and the rubric measures task detect" in said["ben"]
    assert "it is of task classify, and the rubric measures task detect" in said["cem"]
    assert "was trained on other names or on a different order of them" in said["dan"]
    assert "pixels, at most 512 are allowed" in said["fay"]
    assert '"points": 0.0' in said["eve"] and '"points": 0.0' in said["hal"] and '"points": 0.0' in said["ida"]
    assert "not finite" in said["jo"]
    assert said["gus"] == said["anna"]  # a submission does not choose how it is measured


def test_a_network_of_a_task_is_none_of_classes(finished, drawn, squares, inside):
    rubric = RUBRIC.format(task="detect", more="").replace(", task: detect", "")
    Path("rubric.yaml").write_text(rubric)
    shutil.copytree(squares / "three" / "val", "hidden/test")
    handin.pack([f"net={finished(settings(drawn, 'multilabel')).run}"], "class/anna.zip")
    assert "it is of task multilabel, and the rubric measures task classify" in json.dumps(graded()["anna"])


def test_maps_that_fill_the_memory_are_refused():
    from mslab.grade import looking

    class Large:
        info, class_names, task, map_shapes = {"image_size": 512}, ["a"] * 80, "detect", [(8, 1)]

    with pytest.raises(looking.contents.BadSubmission, match=r"its maps of 100 hidden images take .* MiB, at most 512"):
        looking.refuse_maps(Large, 100, looking.LIMITS["map_bytes"])


def test_a_rubric_of_a_task_says_what_it_cannot_have(lab):
    lab("detect", ", classes: [a, b], merge: {c: [a, b]}")
    text = Path("rubric.yaml").read_text()
    other = "  - {id: rows, kind: predictions, points: 0, network: net, bands: [[0.5, 0]]}\n"
    Path("rubric.yaml").write_text(text + other)
    done = cli("grade", "class", "--rubric", "rubric.yaml", "--data", "hidden", "--out", "out")
    assert done.returncode == 1
    assert "classes belongs to networks that classify; leave it out beside task" in done.stderr
    assert "predictions are of classes, and network net is of a task; use kind: accuracy" in done.stderr
    lab("detect", "")
    shutil.rmtree("hidden/test")
    done = cli("grade", "class", "--rubric", "rubric.yaml", "--data", "hidden", "--out", "out")
    assert "it must contain images with labels, like datasets/scenes/test" in done.stderr


def test_half_weights_of_a_run_without_a_measure_are_packed_without_one(drawn, inside):
    config = settings(drawn, "detect", validation_metric_type="none", best_by="loss")
    half = halving.halve(RunFolder.read(Path(mslab.train(config).run)))
    assert half.accuracy is None and half.difference is None
    assert any(array.dtype == np.float16 for array in half.tensors.values())
