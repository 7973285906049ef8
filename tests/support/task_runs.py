"""Quick runs of each task on a few drawn scenes."""

from pathlib import Path
from typing import Any

from helpers import STAGES

from mslab.data.mushrooms import scenes

COUNTS = {"train": 10, "val": 5, "test": 3}
NAMES = {"detect": 9, "segment": 9, "keypoints": 5, "multilabel": 5}  # class_num of each task
MEASURES = {"detect": "voc_map", "segment": "miou", "keypoints": "pck", "multilabel": "map"}
TASKS = list(NAMES)


def draw(folder: Path) -> None:
    scenes.draw_scenes(folder, size=64, workers=1, counts=COUNTS)


def task_settings(root: Path, task: str, **more: Any) -> dict[str, Any]:
    """Settings of a run of two seconds. `root`: of the data set."""
    return {
        "task": task,
        "train_data": str(root / "train"),
        "val_data": str(root / "val"),
        "class_num": NAMES[task],
        "image_size": 32,
        "batch_size": 4,
        "epochs": 2,
        "warmup_epochs": 1,
        "optimizer": "adam",
        "lr_init": 0.0004,
        "lr_max": 0.004,
        "data_workers": 1,
        "stages": STAGES,
        "device": "cpu",
        "mode": "pynative",
    } | more
