"""The tasks: what a network answers about an image, and which settings belong to which."""

import re
from typing import Any

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
    return measure_of(settings.task, settings.validation_metric_type)


def measure_of(task: str, validation_metric_type: str = "voc") -> str:
    """The same by name; the second argument is detect's."""
    if task == "detect":
        return "coco_map" if validation_metric_type == "coco" else "voc_map"
    return {CLASSIFY: "accuracy", "segment": "miou", "keypoints": "pck", "multilabel": "map"}[task]


# what other projects call a task, in a word or in a network's name -> the task here, or why there is none such;
# the first that fits counts
THEIRS = (
    (
        r"instance|panoptic|mask_?r_?cnn|实例|全景",
        "mslab finds boxes (detect) and the class of each pixel (segment), not the mask of each object",
    ),
    (r"(?<![a-z])obb(?![a-z])|oriented|rotated|旋转", "mslab finds upright boxes only (detect)"),
    (r"multi_?label|(?<![a-z])tag(s|g|_|$)|多标签", "multilabel"),
    (r"key_?point|(?<![a-z])pose|landmark|关键点|姿态", "keypoints"),
    (
        r"(?<![a-z])seg(ment|(?![a-z]))|semantic|(?<![a-z])masks?(?![a-z])|deeplab|(?<![a-z])(u_?net|fcn(?!et))|分割",
        "segment",
    ),
    (r"classif|(?<![a-z])cls(?![a-z])|multi_?class|分类", "classify"),
    (
        r"(?<!anomaly_)(?<!outlier_)(?<!edge_)detect|(?<![a-z])det(?![a-z])|box|yolo|(?<![a-z])ssd|r_?cnn|retina_?net|检测",
        "detect",
    ),
)


def meant(text: str) -> str:
    """The task that another project's word or network stands for, or why mslab has none such; "" for other words."""
    # meant("imageObjectDetection") -> "detect"; meant("keypointrcnn_resnet50_fpn") -> "keypoints"; meant("ocr") -> ""
    text = re.sub(r"(?<=[a-z])(?=[A-Z])|[\s.-]+", "_", text[:100].strip()).lower()
    return next((answer for pattern, answer in THEIRS if re.search(pattern, text)), "")
