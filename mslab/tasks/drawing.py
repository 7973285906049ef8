"""Predictions drawn into their image: boxes, masks, key points and tags. (H, W, 3) uint8 -> Pillow's image."""

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from mslab.tasks.average_precision import Detections


def colour(index: int) -> tuple[int, int, int]:
    """The same colour for the same class, neighbouring indices far apart."""
    return tuple(int(255 * v) for v in colorsys.hsv_to_rgb(index * 0.618 % 1, 0.85, 1))  # type: ignore[return-value]


def draw_boxes(image: np.ndarray, found: Detections, names: Sequence[str]) -> Image.Image:
    """Each box with its class and score; ignored ones in grey."""
    picture = Image.fromarray(image)
    pen = ImageDraw.Draw(picture)
    ignored = np.zeros(len(found.boxes), bool) if found.ignored is None else found.ignored
    for box, score, label, none in zip(found.boxes, found.scores, found.classes, ignored, strict=True):
        left, top, right, bottom = box.tolist()
        paint = (128, 128, 128) if none else colour(int(label))
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=paint)
        text = f"{names[label]} {score:.2f}" if found.ignored is None else names[label]  # the truth has no score
        pen.text((left + 2, top), text, fill=paint)
    return picture


def draw_mask(image: np.ndarray, mask: np.ndarray, strength: float = 0.5) -> Image.Image:
    """Class i > 0 in the colour of i - 1, as in boxes; the ground and IGNORED as they are. mask (H, W) uint8."""
    palette = np.array([colour(i - 1) for i in range(256)], np.float32)
    shown = ((mask > 0) & (mask < 255))[..., None] * strength
    return Image.fromarray((image * (1 - shown) + palette[mask] * shown).astype(np.uint8))


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
                pen.line([*points[i, :2].tolist(), *points[j, :2].tolist()], fill=(255, 255, 255))
        for i in np.flatnonzero(seen):
            x, y = points[i, :2].tolist()
            pen.ellipse((x - 2, y - 2, x + 2, y + 2), fill=colour(int(i)))
    return picture


def draw_tags(image: np.ndarray, tags: Sequence[tuple[str, float]]) -> Image.Image:
    """The tags and their probabilities in the left upper corner."""
    picture = Image.fromarray(image)
    text = "\n".join(f"{name} {p:.2f}" for name, p in tags)
    ImageDraw.Draw(picture).multiline_text((2, 0), text, fill=(255, 255, 255), stroke_width=1, stroke_fill=(0, 0, 0))
    return picture
