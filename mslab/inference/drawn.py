"""Answers drawn into their images, for files, for the page of mslab serve and for notebooks."""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mslab.files import replace_atomically
from mslab.inference.task_predicting import Answered, read
from mslab.tasks.drawing import palette
from mslab.tasks.task import Task

SIDE = 640  # pixels, up to which a small image is enlarged, so that lines and names can be told apart
LONGEST_NAME = 200  # bytes of a name without its suffix; a disk allows 255


def scaled(task: Task, answer: Any, scale: tuple[float, float], size: tuple[int, int]) -> Any:
    """The answer for the same image in another size of (width, height) pixels. `scale`: of width and height."""
    if task.name == "segment":
        return np.asarray(Image.fromarray(answer).resize(size, Image.Resampling.NEAREST))
    if task.name == "multilabel":
        return answer
    boxes = np.asarray(answer.boxes) * np.array(scale * 2)
    if task.name == "keypoints":
        return answer._replace(points=answer.points * np.array([*scale, 1]), boxes=boxes)
    return answer._replace(boxes=boxes)


def draw(task: Task, pixels: np.ndarray, answer: Any, size: tuple[int, int] | None = None) -> Image.Image:
    """The picture of an answer. pixels: uint8 (H, W, 3), of an image that has `size`, if it was resized before.

    A small one is enlarged by a whole number.
    """
    height, width = pixels.shape[:2]
    factor = max(1, SIDE // max(width, height))
    larger = (width * factor, height * factor)
    big = np.asarray(Image.fromarray(pixels).resize(larger, Image.Resampling.NEAREST)) if factor > 1 else pixels
    old = size or (width, height)
    return task.draw(big, scaled(task, answer, (larger[0] / old[0], larger[1] / old[1]), larger))


def reduced(pixels: np.ndarray, side: int = SIDE) -> np.ndarray:
    """The image with its longer side of at most `side` pixels, uint8 (h, w, 3)."""
    share = side / max(pixels.shape[:2])
    if share >= 1:
        return pixels
    size = [max(1, math.floor(pixels.shape[axis] * share)) for axis in (1, 0)]
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))


def write(task: Task, found: Answered, folder: Path, taken: set[str]) -> str:
    """Write the picture of an image into a folder. Returns its name, which differs from those taken."""
    suffix = ".jpg" if found.path.suffix.lower() in (".jpg", ".jpeg") else ".png"
    picture, name = draw(task, read(found.path), found.answer), free_name(found.path, suffix, taken)
    options = {"quality": 95, "subsampling": 0} if suffix == ".jpg" else {}
    save(picture, folder / name, "JPEG" if suffix == ".jpg" else "PNG", **options)
    return name


def write_mask(task: Task, found: Answered, folder: Path, taken: set[str]) -> str:
    """Write the classes of the pixels of an image as masks/ of a data set has them: 0 ground, 1 the first class."""
    picture, name = Image.fromarray(found.answer), free_name(found.path, ".png", taken)
    picture.putpalette(palette())
    save(picture, folder / name, "PNG")
    return name


def save(picture: Image.Image, path: Path, kind: str, **options: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    replace_atomically(path, lambda file: picture.save(file, kind, **options))


def free_name(path: Path, suffix: str, taken: set[str]) -> str:
    """A name after the image's that differs from those taken, also where capitals do not count. It is taken then."""
    # free_name(Path("b/photo.jpg"), ".png", {"photo.png"}) -> "photo-2.png"
    stem, number = os.fsdecode(os.fsencode(path.stem)[:LONGEST_NAME]), 1
    name = f"{stem}{suffix}"
    while name.casefold() in taken:
        number += 1
        name = f"{stem}-{number}{suffix}"
    taken.add(name.casefold())
    return name
