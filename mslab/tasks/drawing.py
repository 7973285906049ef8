"""Predictions drawn into their image: boxes, masks, key points and tags. (H, W, 3) uint8 -> Pillow's image."""

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from mslab.tasks import fonts
from mslab.tasks.average_precision import Detections

MOST_LETTERS = 60  # of a name and its figure


def colour(index: int) -> tuple[int, int, int]:
    """The same colour for the same class, neighbouring indices far apart."""
    return tuple(int(255 * v) for v in colorsys.hsv_to_rgb(index * 0.618 % 1, 0.85, 1))  # type: ignore[return-value]


def palette() -> list[int]:
    """The colours of a picture of classes for Pillow: 256 times red, green, blue; the ground and IGNORED are black."""
    return [value for i in range(256) for value in (colour(i - 1) if 0 < i < 255 else (0, 0, 0))]


def stroke(picture: Image.Image) -> int:
    """Pixels that a line is wide: 1 in a small picture, 9 in a photo of 3000 pixels."""
    return max(1, round(max(picture.size) / 320))


def write(picture: Image.Image, at: tuple[float, float], text: str, paint: tuple[int, int, int]) -> None:
    """A line of text with a dark edge, which can be read on any ground; larger in a large picture."""
    size = height(picture)
    fonts.write(ImageDraw.Draw(picture), at, text[:MOST_LETTERS], size, paint, edge=max(1, size // 12))


def height(picture: Image.Image) -> int:
    """Pixels of a letter."""
    return max(10, round(max(picture.size) / 45))


def draw_boxes(image: np.ndarray, found: Detections, names: Sequence[str]) -> Image.Image:
    """Each box with its class and score; ignored ones in grey."""
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    ignored = np.zeros(len(found.boxes), bool) if found.ignored is None else found.ignored
    rows = list(zip(found.boxes, found.scores, found.classes, ignored, strict=True))
    for box, score, label, none in reversed(rows):  # the surest, which come first, on top of the others
        left, top, right, bottom = box.tolist()
        paint = (128, 128, 128) if none else colour(int(label))
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=paint, width=stroke(picture))
        text = f"{names[label]} {score:.2f}" if found.ignored is None else names[label]  # the truth has no score
        write(picture, (left + 2 * stroke(picture), top), text, paint)
    return picture


def draw_mask(image: np.ndarray, mask: np.ndarray, strength: float = 0.5, names: Sequence[str] = ()) -> Image.Image:
    """Class i > 0 in the colour of i - 1, as in boxes, with its name in the left upper corner, if `names` has it.

    The ground and IGNORED stay as they are. mask (H, W) uint8
    """
    paints = np.array([colour(i - 1) for i in range(256)], np.float32)
    shown = ((mask > 0) & (mask < 255))[..., None] * strength
    picture = Image.fromarray((image * (1 - shown) + paints[mask] * shown).astype(np.uint8))
    there = [i for i in np.unique(mask).tolist() if 0 < i <= len(names)]
    for line, i in enumerate(there):
        write(picture, (2, 1.25 * line * height(picture)), names[i - 1], colour(i - 1))
    return picture


def draw_points(
    image: np.ndarray, objects: Sequence[np.ndarray], skeleton: Sequence[tuple[int, int]], least: float = 0.0
) -> Image.Image:
    """The points (K, 3) of each object whose third number is above `least`, and the lines of the skeleton."""
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    for points in objects:
        seen = points[:, 2] > least
        for i, j in skeleton:
            if seen[i] and seen[j]:
                pen.line(
                    [*points[i, :2].tolist(), *points[j, :2].tolist()], fill=(255, 255, 255), width=stroke(picture)
                )
        for i in np.flatnonzero(seen):
            x, y = points[i, :2].tolist()
            r = 1 + stroke(picture) * 2
            pen.ellipse((x - r, y - r, x + r, y + r), outline=(0, 0, 0), fill=colour(int(i)))
    return picture


def draw_tags(image: np.ndarray, tags: Sequence[tuple[str, float]]) -> Image.Image:
    """The tags and their probabilities in the left upper corner."""
    picture = Image.fromarray(image)
    for line, (name, p) in enumerate(tags):
        write(picture, (2, 1.25 * line * height(picture)), f"{name} {p:.2f}", (255, 255, 255))
    return picture
