"""The tasks: what a network answers about an image, and which settings belong to which."""

from typing import Any

from mslab.errors import ConfigError

CLASSIFY = "classify"
MAPS = ("detect", "segment", "keypoints")  # whose head is on the feature pyramid, which only model.py's ResNet has
TASKS = (*MAPS, "multilabel")  # beside classify
NOUNS = {"detect": "class", "segment": "class", "keypoints": "key point", "multilabel": "tag"}  # counted by class_num
EXTRA_OUTPUTS = {"detect": 4, "segment": 1, "keypoints": 0}  # beside one for each name: size and offset, the ground
OF_DETECT = (
    *("box_score_thresh", "nms_iou_thresh", "box_detections_per_img"),
    *("tile_grid_size", "tile_overlap_ratio", "tile_predictions_nms_thresh"),
    *("validation_metric_type", "validation_iou_threshold"),
)
OF_CLASSIFY = (  # what the other tasks do without
    *("follow_links", "ignore", "classes", "merge", "label_balance", "resize_mode"),
    *("train_crop_size", "valid_resize_size", "valid_crop_size", "vertical_flip", "auto_augment"),
    *("random_erasing", "mixup_alpha", "cutmix_alpha"),
    *("label_smoothing", "focal_gamma", "ohem_top_ratio", "calibrate"),
)
OF_VECTORS = ("head_hidden", "dropout", "weighted_loss")  # what a head on a map does without


def measure(settings: Any) -> str:
    """The figure of a run that decides which epoch is the best, and that history.csv has as val_acc."""
    if settings.task == "detect":
        return "coco_map" if settings.validation_metric_type == "coco" else "voc_map"
    return {CLASSIFY: "accuracy", "segment": "miou", "keypoints": "pck", "multilabel": "map"}[settings.task]


def refuse(settings: Any, what: str) -> None:
    """Raise ConfigError unless the settings are of classification."""
    if settings.task != CLASSIFY:
        raise ConfigError(
            f"{what.capitalize()} is for networks of classes, and {settings.said_by('task')} sets {settings.task}.",
            expected=f"task: {CLASSIFY}",
            fix="mslab train CONFIG lr_max=0.01    and others: the figures of a few epochs show which value is good",
        )
