"""Files of small networks of each task, with random weights."""

from pathlib import Path

import mindspore as ms
import numpy as np

from mslab import checkpoint
from mslab.model import resnet50_backbone
from mslab.tasks.network import network_of
from mslab.tasks.registry import task_of

STAGES = [[1, 8, 1], [1, 8, 2]]
NAMES = {
    "detect": ["cat", "=dog"],
    "segment": ["cat", "=dog"],
    "keypoints": ["left_eye", "right_eye"],
    "multilabel": ["wet", "=dry"],
}
OPTIONS = {
    "box_score_thresh": 0.05,
    "nms_iou_thresh": 0.5,
    "box_detections_per_img": 100,
    "tile_grid_size": None,
    "tile_overlap_ratio": 0.25,
    "tile_predictions_nms_thresh": 0.25,
    "validation_metric_type": "voc",
    "validation_iou_threshold": 0.5,
}


def save(task: str, file: Path, names: list[str] | None = None, options: dict | None = None, change=None) -> Path:
    """A network in a file, as training leaves it. `change`: of its arrays, by name."""
    info = {
        "task": task,
        "class_names": names or NAMES[task],
        "options": OPTIONS | (options or {}) if task == "detect" else {},
        "image_size": 32,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "stages": STAGES,
    }
    info |= {"thresholds": [0.4, 0.6]} if task == "multilabel" else {}
    info |= {"skeleton": [[0, 1]]} if task == "keypoints" else {}
    ms.set_seed(3)
    network = network_of(task_of(info), resnet50_backbone(STAGES))
    arrays = {parameter.name: parameter.asnumpy() for parameter in network.get_parameters()}
    file.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save_arrays({name: (change or (lambda x: x))(array) for name, array in arrays.items()}, file, info)
    return file


def huge(array: np.ndarray) -> np.ndarray:
    """Finite weights with which the network overflows, whatever the image: small positive maps, large kernels."""
    return np.full_like(array, 1e38 if array.ndim > 1 else 0.5)
