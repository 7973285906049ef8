"""A dozen drawn scenes with labels for every task, and settings of runs on them that take a second or two."""

from pathlib import Path

STAGES = [[1, 8, 1], [1, 16, 2]]
NAMES = {"detect": 9, "segment": 9, "keypoints": 5, "multilabel": 5}  # classes, key points, tags
MEASURES = {"detect": "voc_map", "segment": "miou", "keypoints": "pck", "multilabel": "map"}


def draw(root: Path) -> None:
    """Draw scenes/{train,val,test} with 12, 4 and 4 images."""
    from mslab.data.mushrooms.scenes import draw_scenes

    draw_scenes(root, size=64, workers=1, counts={"train": 12, "val": 4, "test": 4})


def settings(root: Path, task: str, **more) -> dict:
    """Return settings of one epoch with a tiny network. `root`: where draw() has drawn."""
    return {
        "task": task,
        "train_data": str(root / "scenes" / "train"),
        "val_data": str(root / "scenes" / "val"),
        "class_num": NAMES[task],
        "image_size": 32,
        "batch_size": 4,
        "epochs": 1,
        "warmup_epochs": 0,
        "optimizer": "adam",
        "lr_max": 0.004,
        "lr_init": 0.004,
        "lr_scale": {"backbone": 0.1},
        "data_workers": 1,
        "stages": STAGES,
        "device": "cpu",
        "mode": "pynative",
    } | more
