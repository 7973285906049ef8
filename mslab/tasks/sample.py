"""One image and its labels as arrays, which are cropped, resized and mirrored together.

sample() opens nothing: the caller hands over pixels that the check has passed. cropped() is the one place where
coordinates change; fitted(), augmented(), the crops of key points and the tiles of small things call it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from mslab.tasks.labels import IGNORED, ImageLabels

FILL = (124, 116, 104)  # beyond the border of an image: the mean of ImageNet, so that it is 0 after normalisation
VISIBLE_PART = 0.2  # of a box; an object of which a crop shows less is ignored: what is left does not show what it is
LARGE = 1 << 26  # pixels of a square around an image, which is filled in at this size
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class Sample:
    """An image and what is known of it. Coordinates are pixels; the first pixel's middle is at 0.5."""

    image: np.ndarray  # (H, W, 3) uint8
    boxes: np.ndarray  # (n, 4) float32: left, top, right, bottom
    classes: np.ndarray  # (n,) int32
    ignored: np.ndarray  # (n,) bool: neither to be found nor a mistake
    points: np.ndarray  # (n, K, 3) float32: x, y, COCO's visibility
    mask: np.ndarray | None = None  # (H, W) uint8: 0 is the ground, IGNORED counts for nothing
    tags: np.ndarray | None = None  # (T,) uint8

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, as Pillow has them."""
        return self.image.shape[1], self.image.shape[0]


def sample(image: np.ndarray, labels: ImageLabels, mask: np.ndarray | None = None) -> Sample:
    """Pixels (H, W, 3) uint8 and labels as one value; mask: (H, W) uint8, if the labels have a picture of classes."""
    return Sample(
        image,
        labels.boxes,
        labels.classes,
        labels.ignored,
        labels.points,
        mask,
        labels.tags if labels.tags.size else None,
    )


def class_mask(labels: ImageLabels) -> np.ndarray:
    """The class of every pixel from the masks of objects: (H, W) uint8, 0 the ground, class i is i + 1.

    Where objects overlap, the smaller one wins; ignored ones are IGNORED.
    """
    mask = np.zeros((labels.height, labels.width), np.uint8)
    regions = [(region.array(), i) for i, region in enumerate(labels.masks) if region is not None]
    for region, i in sorted(regions, key=lambda pair: -int(pair[0].sum())):
        mask[region] = IGNORED if labels.ignored[i] else labels.classes[i] + 1
    return mask


def cropped(sample: Sample, box: Box, size: tuple[int, int]) -> Sample:
    """What is inside a box of whole pixels, resized to `size` (width, height); the box may leave the image.

    Beyond the image, pixels are FILL and the mask is IGNORED. Boxes are cut at the border of the crop; an object of
    which less than VISIBLE_PART is left is ignored, and one of which nothing is left goes, as do points outside. Tags
    stay: a crop does not know what it cut away.
    """
    left, top, right, bottom = box
    scale = np.array([size[0] / (right - left), size[1] / (bottom - top)], np.float32)
    shift = np.array([left, top], np.float32)
    inner = np.clip(sample.boxes, np.tile(shift, 2), np.array([right, bottom] * 2, np.float32))
    whole, part = areas(sample.boxes), areas(inner)
    kept = part > 0
    points = sample.points.copy()
    points[..., :2] = (points[..., :2] - shift) * scale
    outside = ((points[..., :2] < 0) | (points[..., :2] > np.array(size, np.float32))).any(-1)
    points[outside | (points[..., 2] == 0)] = 0
    return replace(
        sample,
        image=resized(sample.image, box, size, FILL, Image.Resampling.BILINEAR),
        mask=None if sample.mask is None else resized(sample.mask, box, size, IGNORED, Image.Resampling.NEAREST),
        boxes=np.minimum((inner - np.tile(shift, 2)) * np.tile(scale, 2), np.array(size * 2, np.float32))[kept],
        classes=sample.classes[kept],
        ignored=(sample.ignored | (part < VISIBLE_PART * whole))[kept],
        points=points[kept],
    )


def areas(boxes: np.ndarray) -> np.ndarray:
    """Areas of boxes in square pixels, (n, 4) -> (n,)."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def resized(
    pixels: np.ndarray, box: Box, size: tuple[int, int], fill: int | tuple[int, ...], how: Image.Resampling
) -> np.ndarray:
    left, top, right, bottom = box
    source = Image.fromarray(pixels)
    if left < 0 or top < 0 or right > source.width or bottom > source.height:
        if (right - left) * (bottom - top) > LARGE:
            return shrunk(source, box, size, fill, how)
        larger = Image.new(source.mode, (right - left, bottom - top), fill)
        larger.paste(source, (-left, -top))
        return np.asarray(larger.resize(size, how))
    return np.asarray(source.resize(size, how, box))


def shrunk(
    source: Image.Image, box: Box, size: tuple[int, int], fill: int | tuple[int, ...], how: Image.Resampling
) -> np.ndarray:
    """resized() without the pixels beyond the image at their full size: the square around a panorama has billions."""
    scale = [size[0] / (box[2] - box[0]), size[1] / (box[3] - box[1])] * 2
    inner = [max(box[0], 0), max(box[1], 0), min(box[2], source.width), min(box[3], source.height)]
    ends = [round((end - start) * s) for end, start, s in zip(inner, box[:2] * 2, scale, strict=True)]
    found = Image.new(source.mode, size, fill)
    if inner[0] < inner[2] and inner[1] < inner[3]:
        own = (max(ends[2] - ends[0], 1), max(ends[3] - ends[1], 1))
        found.paste(source.resize(own, how, (inner[0], inner[1], inner[2], inner[3])), (ends[0], ends[1]))
    return np.asarray(found)


def mirrored(sample: Sample, pairs: Sequence[tuple[int, int]] = ()) -> Sample:
    """Mirrored left to right. pairs: key points that change places, such as the left and the right eye."""
    width = sample.size[0]
    boxes, points = sample.boxes.copy(), sample.points.copy()
    boxes[:, [0, 2]] = width - sample.boxes[:, [2, 0]]
    points[..., 0] = np.where(points[..., 2] > 0, width - points[..., 0], 0)
    for i, j in pairs:
        points[:, [i, j]] = points[:, [j, i]]
    mask = None if sample.mask is None else sample.mask[:, ::-1].copy()
    return replace(sample, image=sample.image[:, ::-1].copy(), mask=mask, boxes=boxes, points=points)


def mirror_pairs(names: Sequence[str]) -> list[tuple[int, int]]:
    """Indices of key points whose names differ in left and right only, or in l and r."""
    # mirror_pairs(["nose", "left_eye", "right_eye"]) -> [(1, 2)]; mirror_pairs(["eye_L", "eye_R"]) -> [(0, 1)]
    names = [name.lower() for name in names]
    other = [re.sub(r"(?<![a-z0-9])l(?![a-z0-9])", "r", name.replace("left", "right")) for name in names]
    return [(i, names.index(o)) for i, o in enumerate(other) if o != names[i] and o in names]


def square_of(width: int, height: int) -> Box:
    """The smallest square around an image, with the image in its middle."""
    side = max(width, height)
    left, top = -((side - width) // 2), -((side - height) // 2)
    return left, top, left + side, top + side


def fitted(sample: Sample, size: int) -> Sample:
    """All of the image in a square of `size` pixels, its sides as they were, with bars beside it."""
    return cropped(sample, square_of(*sample.size), (size, size))


def unfitted(boxes: np.ndarray, size: int, width: int, height: int) -> np.ndarray:
    """Boxes (n, 4) or points (n, 2) of a fitted image in the coordinates of the image, which is width x height."""
    left, top, right, _ = square_of(width, height)
    pairs = boxes.shape[-1] // 2
    return boxes * ((right - left) / size) + np.tile(np.array([left, top], np.float32), pairs)


def augmented(
    sample: Sample,
    rng: np.random.Generator,
    size: int,
    crop_scale: float = 1.0,
    flip: bool = True,
    pairs: Sequence[tuple[int, int]] = (),
) -> Sample:
    """A random square crop of at least crop_scale of the fitted image's area, mirrored half of the time.

    The same random numbers whatever the settings, so that one setting does not change what another one draws.
    """
    share, x, y, coin = rng.random(4)
    left, top, right, _ = square_of(*sample.size)
    whole = right - left
    side = max(1, round(whole * float(np.sqrt(crop_scale + (1 - crop_scale) * share))))
    left, top = left + int(x * (whole - side + 1)), top + int(y * (whole - side + 1))
    found = cropped(sample, (left, top, left + side, top + side), (size, size))
    return mirrored(found, pairs) if flip and coin < 0.5 else found
