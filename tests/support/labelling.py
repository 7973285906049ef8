"""Flat images with a table of labels, and a run on such tables."""

import csv
import json
import shutil
from pathlib import Path

from helpers import cli, settings

from mslab.data.seeding import stream


def flat(root: Path, *splits: str) -> Path:
    """Move the images of class folders into images/, shuffled, each split with a table beside it."""
    place = root.parent / "flat"
    (place / "images").mkdir(parents=True)
    for split in splits:
        files = sorted((root / split).rglob("*.png"))
        rows = []
        for index in stream("order", 1).permutation(len(files)):
            name = f"{split}-{files[index].parent.name}-{files[index].name}"
            shutil.copy(files[index], place / "images" / name)
            rows.append((name, files[index].parent.name))
        with (place / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("image", "label"), *rows])
    return place


def train_on_tables(squares: Path, inside: Path) -> Path:
    """Train on flat/train.csv and flat/val.csv in the current folder, by x.yaml. Returns the run."""
    flat(Path(shutil.copytree(squares / "three", inside / "three")), "train", "val", "test")
    config = settings(inside, 3, epochs=1, train_data="flat/train.csv", val_data="flat/val.csv")
    Path("x.yaml").write_text(json.dumps(config))
    done = cli("train", "x.yaml", "--no-report")
    assert done.returncode == 0 and "mslab check flat/train.csv    lists them" in done.stderr, done.stderr
    return next(Path("runs").iterdir())
