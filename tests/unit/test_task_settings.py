"""The settings of tasks: which belong to which, what contradicts, and what entries of checkpoints must fit."""

import numpy as np
import pytest

from mslab import checkpoint
from mslab.checkpoint.networks import ResNet
from mslab.config import FIELDS, Profile, load_settings, tasks
from mslab.config.tasks import OF_CLASSIFY, OF_DETECT, OF_VECTORS
from mslab.errors import CheckpointError, ConfigError
from mslab.tasks import layout

GOOD = {"train_data": "a", "val_data": "b", "class_num": 3}
OTHER = {  # a value that is not the default
    "box_score_thresh": 0.4,
    "nms_iou_thresh": None,
    "box_detections_per_img": 7,
    "tile_grid_size": [2, 2],
    "tile_overlap_ratio": 0.5,
    "tile_predictions_nms_thresh": 0.5,
    "validation_metric_type": "coco",
    "validation_iou_threshold": 0.6,
}


def refusal(**more):
    with pytest.raises(ConfigError) as caught:
        load_settings(GOOD | more)
    return str(caught.value)


@pytest.mark.parametrize("grid", ["3,2", "(3, 2)", "3x2", "[3, 2]", [3, 2], (3, 2)], ids=str)
def test_a_grid_is_written_as_in_azure_or_as_a_list(grid):
    assert load_settings(GOOD | {"task": "detect", "tile_grid_size": grid}).tile_grid_size == [3, 2]


@pytest.mark.parametrize("grid", ["3", "3,2,1", "0,2", [21, 1], [1.0, 2], [True, 2], "3,-2", "a,b", [1, 1]], ids=str)
def test_another_grid_is_refused(grid):
    assert "tile_grid_size" in refusal(task="detect", tile_grid_size=grid)


@pytest.mark.parametrize("name", OF_DETECT)
def test_settings_of_boxes_belong_to_detect(name, caplog):
    caplog.set_level("INFO", "mslab")
    more = {"best_by": "loss"} if OTHER[name] == "none" else {}
    assert getattr(load_settings(GOOD | more | {"task": "detect", name: OTHER[name]}), name) == OTHER[name]
    for task in ("classify", "segment", "keypoints", "multilabel"):
        caplog.clear()
        load_settings(GOOD | {"task": task, name: OTHER[name]})
        assert f"{name} in the dict of settings does nothing" in caplog.text
        assert "it is unused (it belongs to detect)" in caplog.text


def test_the_lists_name_settings_that_exist():
    assert set(OF_DETECT) | set(OF_CLASSIFY) | set(OF_VECTORS) <= set(FIELDS)
    assert set(OF_DETECT) == set(OTHER)


def test_settings_of_classes_do_not_belong_to_tasks(caplog):
    caplog.set_level("INFO", "mslab")
    for name, value in {"mixup_alpha": 0.2, "label_balance": True, "ohem_top_ratio": 0.5, "calibrate": True}.items():
        caplog.clear()
        load_settings(GOOD | {"task": "segment", name: value})
        assert name in caplog.text and "it belongs to classify" in caplog.text
    load_settings(GOOD | {"task": "detect", "head_hidden": 8})
    assert "head_hidden" in caplog.text and "the head is on a map, and has none" in caplog.text
    assert load_settings(GOOD | {"task": "multilabel", "head_hidden": 8, "weighted_loss": 2}).head_hidden == 8


@pytest.mark.parametrize(
    ("more", "texts"),
    [
        ({"class_num": 1}, ["class_num: 1 leaves nothing to decide"]),
        ({"task": "detect", "network": "mindcv:mobilenet_v2_100"}, ["gives no maps of several sizes", "network=null"]),
        ({"task": "segment", "best_by": "macro_f1"}, ["best_by: macro_f1 is a measure of classes", "miou"]),
        ({"task": "detect", "validation_metric_type": "none"}, ["best_by=loss"]),
        ({"task": "keypoints", "cache": "disk"}, ["cache: disk holds images of classes only", "cache=memory"]),
        (
            {"task": "detect", "validation_metric_type": "none", "best_by": "loss", "target_accuracy": 0.5},
            ["never reached", "target_accuracy=null"],
        ),
        ({"task": "boxes"}, ["task", "detect"]),
        ({"task": "detect", "box_score_thresh": float("nan")}, ["box_score_thresh"]),
        ({"task": "detect", "box_detections_per_img": 0}, ["box_detections_per_img"]),
        ({"task": "detect", "lr_scale": {"tail": 2.0}}, ["lr_scale"]),
    ],
)
def test_what_contradicts_is_refused(more, texts):
    message = refusal(**more)
    assert all(text in message for text in texts), message


def test_one_class_is_enough_for_a_task():
    for task in tasks.TASKS:
        assert load_settings(GOOD | {"task": task, "class_num": 1}).class_num == 1


def test_the_measure_follows_the_task():
    found = {task: tasks.measure(load_settings(GOOD | {"task": task})) for task in ("classify", *tasks.TASKS)}
    assert found == {
        "classify": "accuracy",
        "detect": "voc_map",
        "segment": "miou",
        "keypoints": "pck",
        "multilabel": "map",
    }
    both = [{"task": "detect", "validation_metric_type": kind} for kind in ("coco", "coco_voc")]
    assert [tasks.measure(load_settings(GOOD | own)) for own in both] == ["coco_map", "voc_map"]


# --- entries of checkpoints ------------------------------------------------------------------------------------------

STAGES = [[1, 8, 1], [1, 8, 2]]
OPTIONS = {name: FIELDS[name].default for name in OF_DETECT}


def written(folder, **info):
    """A file with such an entry, whose tensors are of a backbone and a head."""
    profile = Profile.model_validate({}).model_dump()
    shapes = ResNet(STAGES, profile).layout() | layout.tensors([(32, 4), (32, 8)], 3)
    file = folder / "x.ckpt"
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    checkpoint.save_arrays(tensors, file, {"schema": 1, "stages": STAGES, "profile": profile} | info)
    return file


KEYPOINTS = {"task": "keypoints", "class_names": ["a", "b", "c"]}
DETECT = {"task": "detect", "class_names": ["a"], "options": OPTIONS}


@pytest.mark.parametrize(
    ("info", "text"),
    [
        (KEYPOINTS | {"skeleton": [[0, 3]]}, "skeleton: a point beyond the 3"),
        (KEYPOINTS | {"skeleton": [[-1, 0]]}, "skeleton"),
        (KEYPOINTS | {"skeleton": [[0, 1, 2]]}, "skeleton"),
        (KEYPOINTS | {"class_names": []}, "class_names"),
        ({"task": "segment"}, "task: segment has no class_names"),
        ({"task": "boxes", "class_names": ["a"]}, "task"),
        (DETECT | {"options": None}, "task: detect has no options"),
        (DETECT | {"options": OPTIONS | {"box_score_thresh": 2}}, "options.box_score_thresh"),
        (DETECT | {"options": OPTIONS | {"box_score_thresh": float("nan")}}, "options.box_score_thresh"),
        (DETECT | {"options": OPTIONS | {"tile_grid_size": [10**6, 10**6]}}, "options.tile_grid_size"),
        (DETECT | {"options": OPTIONS | {"tile_overlap_ratio": 1}}, "options.tile_overlap_ratio"),
        (DETECT | {"options": OPTIONS | {"box_detections_per_img": 10**9}}, "options.box_detections_per_img"),
        (DETECT | {"options": [1]}, "options"),
        ({"task": "multilabel", "class_names": ["a", "b"], "thresholds": [0.5]}, "thresholds: 1 for 2"),
        ({"task": "multilabel", "class_names": ["a"], "thresholds": [2.0]}, "thresholds"),
    ],
)
def test_an_entry_that_fits_nothing_is_refused(info, text, tmp_path):
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read(written(tmp_path, **info))
    assert text in str(caught.value)


def test_names_that_do_not_fit_the_tensors_are_refused(tmp_path):
    for names in (["a"], ["a"] * 400):
        weights = checkpoint.read(written(tmp_path, **KEYPOINTS | {"class_names": names}))
        with pytest.raises(CheckpointError, match=r"head\.output"):
            weights.check()


def test_options_that_an_older_file_lacks_are_the_defaults(tmp_path):
    weights = checkpoint.read(written(tmp_path, **DETECT | {"options": {"box_score_thresh": 0.4}}))
    assert weights.info["options"] == OPTIONS | {"box_score_thresh": 0.4}
    assert weights.task == "detect" and "detect, 1 class" in weights.describe()
