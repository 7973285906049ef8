"""Images of several kinds and sizes, as folders and packed."""

from pathlib import Path

from helpers import draw
from PIL import Image

from mslab import check
from mslab.data import packing


def draw_mixed(root: Path) -> None:
    """train and val with PNGs and JPEGs of several sizes, some of them grey."""
    for seed, (split, count) in enumerate([("train", 9), ("val", 5)]):
        draw(root / split, ["a", "b", "c"], count, seed)
        for number, path in enumerate(sorted((root / split).rglob("*.png"))[::2]):
            with Image.open(path) as image:
                image = image.resize((40 + number, 60)).convert("L" if number % 3 == 0 else "RGB")
                image.save(path.with_suffix(".jpg"), quality=90)
            path.unlink()


def pack(root: Path, out: Path) -> None:
    """Pack the images of root as out/mixed, in three shards per split."""
    packing.pack_dataset(check.check_dataset(root), out / "mixed", shards=3)
