"""What other projects call the settings of boxes, masks, key points and tags, and what they write as values."""

from pathlib import Path

import pytest
from helpers import cli

from mslab.config import FIELDS, FOREIGN_NAMES, SHARED_NAMES, load_settings
from mslab.errors import ConfigError
from mslab.experiments.sweep.space import read_space

GOOD = {"train_data": "a", "val_data": "b", "class_num": 9, "task": "detect"}


def row(name, value, **others):
    """The line of the message about this setting."""
    with pytest.raises(ConfigError) as caught:
        load_settings(GOOD | {name: value} | others)
    return dict(caught.value.details)[name]


# --- names -----------------------------------------------------------------------------------------------------------

SAME_MEANING = {
    # SageMaker
    "nms_threshold": "nms_iou_thresh",
    "overlap_threshold": "validation_iou_threshold",
    "validation_mini_batch_size": "validation_batch_size",
    "syncbn": "sync_bn",
    "crop_size": "image_size",
    "problem_type": "task",
    # ModelArts
    "task_type": "task",
    "evaluate_every_n_epochs": "evaluation_frequency",
    # Paddle
    "score_threshold": "box_score_thresh",
    "draw_threshold": "box_score_thresh",
    "keep_top_k": "box_detections_per_img",
    "overlap_thresh": "validation_iou_threshold",
    "num_joints": "class_num",
    "lr_decay_epochs": "lr_scheduler_step",
    "lr_decay_gamma": "lr_scheduler_factor",
    "snapshot_epoch": "checkpoint_frequency",
    "trainsize": "image_size",
    # Ultralytics
    "conf": "box_score_thresh",
    "iou": "nms_iou_thresh",
    "conf_thres": "box_score_thresh",
    "iou_thres": "nms_iou_thresh",
    "max_det": "box_detections_per_img",
    # torchvision
    "score_thresh": "box_score_thresh",
    "nms_thresh": "nms_iou_thresh",
    "box_nms_thresh": "nms_iou_thresh",
    "detections_per_img": "box_detections_per_img",
    "num_keypoints": "class_num",
    "image_mean": "mean",
    "image_std": "std",
}


@pytest.mark.parametrize("name", SAME_MEANING)
def test_a_name_of_another_project_is_answered_with_ours(name):
    project, ours = FOREIGN_NAMES[name]
    assert ours == SAME_MEANING[name] and ours in FIELDS
    assert row(name, 1) == f"'{name}' is {project}'s name; here it is '{ours}'"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("min_size", "fitted into image_size"),
        ("max_size", "fitted into image_size"),
        ("base_size", "image_size, with crop_scale"),
        ("multi_scale", "crop_scale"),
        ("model_size", "network, or stages"),
        ("mask_pixel_score_threshold", "most probable class"),
        ("max_number_of_polygon_points", "not polygons"),
        ("export_as_image", "not polygons"),
        ("image_type", "not polygons"),
        ("label_width", "any length"),
        ("ignore_label", "255"),
        ("ignore_index", "255"),
        ("anchors", "without anchors"),
        ("aspect_ratios", "without anchors"),
        ("rpn_nms_thresh", "without anchors"),
        ("mosaic", "mixes no images"),
        ("agnostic_nms", "of its class"),
        ("flip_idx", "left and right"),
        ("kpt_shape", "class_num"),
        ("hmsize", "quarter of image_size"),
        ("pipeline_config_path", "train CONFIG"),
        ("algorithm", "task: segment"),
        ("trainable_backbone_layers", "layers_to_freeze"),
    ],
)
def test_a_name_without_a_counterpart_gets_the_reason(name, reason):
    assert reason in row(name, 1)


@pytest.mark.parametrize("name", ["anchor_t", "min_score", "label_lists", "mosaics", "ignore_errors", "file_lists"])
def test_a_reason_is_no_name_that_someone_meant(name):
    assert "did you mean 'no setting" not in row(name, 1)


def test_azures_names_of_boxes_are_ours():
    ours = {name for name, field in FIELDS.items() if str(field.description).startswith("detect: ")}
    assert ours <= set(SHARED_NAMES["Azure AutoML"].split())
    assert set(SHARED_NAMES["torchvision"].split()) <= ours


def test_a_backbone_that_is_no_file_is_a_network():
    assert "mslab transfer CONFIG --backbone FILE" in row("backbone", "runs/x")
    assert "mslab transfer CONFIG --backbone FILE" in row("backbone", None)
    for value in ("resnet-50", "resnet50", "ResNet_50", "vgg-16", "mobilenet_v2"):
        assert "; the name of a network belongs to network" in row("backbone", value), value
    assert "null is ResNet-50" in row("backbone", "resnet-50")


# --- values of task --------------------------------------------------------------------------------------------------

TASKS = {
    "detect": "object_detection object-detection ObjectDetection imageObjectDetection image_object_detection detection "
    "object_detection_v2 det Detect bbox boxes bounding_boxes yolo yolov8 ssd faster_rcnn retinanet 目标检测",
    "segment": "semantic-segmentation semantic_segmentation SemanticSegmentation segmentation seg image_segmentation "
    "mask masks deeplab unet 语义分割",
    "keypoints": "pose pose_estimation keypoint keypoint_detection keypoint-detection key_points landmarks "
    "facial_landmarks human_pose 关键点检测",
    "multilabel": "multi_label multi-label multi-label-classification image-classification-multilabel tags tagging "
    "image_classification_multilabel imageClassificationMultilabel multi_label_classification 多标签分类",
    "classify": "classification image_classification image-classification multiclass multi_class cls 图像分类",
}


@pytest.mark.parametrize(("task", "word"), [(task, word) for task, words in TASKS.items() for word in words.split()])
def test_a_task_of_another_project_is_answered_with_ours(task, word):
    assert f"; write {task} (" in row("task", word)
    assert f"; write {task} (" in row("task", [word])


def test_a_task_with_spaces_is_recognised_too():
    assert "; write detect (" in row("task", " Object detection ")
    assert "; write segment (" in row("task", "Semantic Segmentation")


@pytest.mark.parametrize(
    "word", ["instance_segmentation", "image-instance-segmentation", "panoptic", "mask_rcnn", "实例分割"]
)
def test_instance_segmentation_is_not_taken_for_another_task(word):
    text = row("task", word)
    assert "; write" not in text and "not the mask of each object" in text


@pytest.mark.parametrize("word", ["obb", "oriented_detection", "rotated-boxes"])
def test_boxes_at_an_angle_are_not_taken_for_ours(word):
    assert "; write" not in row("task", word) and "upright boxes only" in row("task", word)


@pytest.mark.parametrize("word", ["regression", "depth_estimation", "tracking", "forecasting", "text_ner"])
def test_a_task_that_mslab_does_not_have_is_no_other(word):
    assert "; write" not in row("task", word) and "must be 'classify'" in row("task", word)


@pytest.mark.parametrize("name", ["task_type", "problem_type"])
def test_the_foreign_name_of_task_is_answered_with_its_value(name):
    assert row(name, "object_detection").endswith("here it is 'task'; write task: detect")
    assert row(name, "regression").endswith("here it is 'task'")


# --- other values ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "ours"),
    [
        ("VOC", "voc"),
        ("COCO", "coco"),
        ("pascal_voc", "voc"),
        ("VOC2007", "voc"),
        ("11point", "voc"),
        ("mAP@0.5", "voc"),
        ("mAP50", "voc"),
        ("mAP50-95", "coco"),
        ("mAP@[.5:.95]", "coco"),
        ("mAP@0.5:0.95", "coco"),
        ("coco_bbox", "coco"),
        ("both", "coco_voc"),
        ("voc_coco", "coco_voc"),
        ("coco, voc", "coco_voc"),
        (["coco", "voc"], "coco_voc"),
        (["VOC"], "voc"),
        ("None", "none"),
        ("no", "none"),
        ("off", "none"),
        (False, "none"),
    ],
    ids=str,
)
def test_a_metric_of_another_project(value, ours):
    assert f"write {ours}" in row("validation_metric_type", value)


def test_an_empty_metric_is_answered_with_none():
    assert "write for example validation_metric_type: none" in row("validation_metric_type", None)


@pytest.mark.parametrize(
    ("value", "ours"), [("off", "null"), ("None", "null"), (False, "null"), ("0.5", "0.5"), ("0", "0")]
)
def test_overlapping_boxes_that_all_stay(value, ours):
    assert f"; write {ours}" in row("nms_iou_thresh", value)


@pytest.mark.parametrize("value", ["(3, 2)", "3x2", "3 x 2", "3×2", "3,2", "[3, 2]", (3, 2), [3, 2]], ids=str)
def test_a_grid_is_read_however_it_is_written(value):
    assert load_settings(GOOD | {"tile_grid_size": value}).tile_grid_size == [3, 2]


@pytest.mark.parametrize("value", ["None", "no", "none", "off", False, 0, "0", "()", "1x1", [1, 1]], ids=str)
def test_no_grid_is_null(value):
    assert "write null" in row("tile_grid_size", value)


@pytest.mark.parametrize(
    ("value", "ours"), [(3, "[3, 3]"), ("3", "[3, 3]"), ("3*2", "[3, 2]"), ("3X2", "[3, 2]"), (["3", "2"], "[3, 2]")]
)
def test_a_grid_that_is_not_read_is_answered_with_how_to_write_it(value, ours):
    assert f"write {ours}" in row("tile_grid_size", value)


def test_null_takes_a_grid_away():
    assert load_settings(GOOD | {"tile_grid_size": None}).tile_grid_size is None
    assert load_settings(GOOD, ["tile_grid_size=(3, 2)"]).tile_grid_size == [3, 2]
    assert load_settings(GOOD, ["tile_grid_size=3x2"]).tile_grid_size == [3, 2]
    assert load_settings(GOOD, ["tile_grid_size=null"]).tile_grid_size is None


@pytest.mark.parametrize(
    "value", ["mAP", "map50", "mean_average_precision", "miou", "val_mIoU", "pck", "oks", "voc_map"]
)
def test_a_tasks_own_measure_is_the_default_of_best_by(value):
    assert "leave best_by out" in row("best_by", value)


@pytest.mark.parametrize("value", ["fasterrcnn_resnet50_fpn", "yolov5", "retinanet_resnet50_fpn", "ssd300_vgg16"])
def test_a_network_of_another_project_for_boxes_names_the_task(value):
    assert "task: detect" in row("network", value)


def test_a_network_of_another_project_for_pixels_names_the_task():
    for value in ("deeplabv3_resnet50", "unet", "fcn_resnet101"):
        assert "task: segment" in row("network", value), value
    assert "task: keypoints" in row("network", "keypointrcnn_resnet50_fpn")


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("object_detection", "; write detect"),
        ("semantic-segmentation", "; write segment"),
        ("pose", "; write keypoints"),
        ("instance_segmentation", "not the mask of each object"),
    ],
)
def test_the_option_of_the_check_answers_alike(inside, word, answer):
    done = cli("check", ".", "--task", word)
    assert done.returncode == 2 and answer in " ".join(done.stderr.split())


def test_a_space_of_a_sweep_answers_alike(inside):
    Path("space.yaml").write_text("task: [object_detection]\nnms_threshold: [0.4]\n")
    with pytest.raises(ConfigError) as caught:
        read_space("space.yaml", load_settings(GOOD))
    rows = dict(caught.value.details)
    assert "write detect" in rows["task"] and "'nms_iou_thresh'" in rows["nms_threshold"]
