"""An image of mushrooms: ground, light, one to three mushrooms of a species, and the camera's effects."""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from mslab.data.mushrooms.marks import MARKS
from mslab.data.mushrooms.shape import TURN, Mushroom
from mslab.data.mushrooms.species import PALETTE, Species


class Camera(NamedTuple):
    """Camera settings, which differ between the data sets. Pairs are ranges."""

    framing: tuple[float, float]  # height of the main mushroom, in image heights
    lean: float  # radians, standard deviation
    contrast: tuple[float, float]
    tint: float  # standard deviation of each colour channel's gain
    vignette: tuple[float, float]  # darkening at the middle of an edge, 0..1
    blur: tuple[float, float]  # pixels
    noise: tuple[float, float]  # grey levels of 255
    grounds: str


CAMERAS = {
    "mushrooms9": Camera(
        framing=(0.78, 1.05), lean=0.18, contrast=(0.9, 1.12), tint=0.08, vignette=(0, 0.1), blur=(0, 0.5),
        noise=(1, 6), grounds="grass leaves soil moss needles"),
    "mushrooms2": Camera(
        framing=(0.70, 0.95), lean=0.24, contrast=(0.75, 1.0), tint=0.10, vignette=(0.1, 0.4), blur=(0.2, 0.8),
        noise=(3, 8), grounds="leaves soil needles moss moss"),
}  # fmt: skip
GROUNDS = {  # colours of the soil, colours of the litter or plants on it
    "grass": ("olive dark green", "green olive green yellow"),
    "leaves": ("dark brown", "brown tan rust orange yellow olive"),
    "soil": ("dark brown grey", "brown tan grey dark"),
    "moss": ("green olive dark", "green olive green"),
    "needles": ("dark rust brown", "rust tan brown olive"),
}


def pick(rng: Generator, names: str) -> np.ndarray:
    """A random one of the named colours, varied a little. (3,), 0..255."""
    choices = names.split()
    base = np.array(PALETTE[choices[rng.integers(len(choices))]])
    return np.clip(base * rng.uniform(0.72, 1.12) + rng.normal(0, 10, 3), 18, 245)


def fill_of(colour: np.ndarray) -> tuple[int, ...]:
    return tuple(colour.astype(int).tolist())


def ground(rng: Generator, kind: str, size: int) -> Image.Image:
    """Forest floor or meadow, out of focus, (size, size) RGB."""
    soil, litter = GROUNDS[kind]
    light = np.ones((size, size), np.float32)
    for squares, strength in ((5, 0.3), (24, 0.2)):
        coarse = Image.fromarray(rng.uniform(-strength, strength, (squares, squares)).astype(np.float32))
        light = light + np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    pixels = light[..., None] * (pick(rng, soil) * rng.uniform(0.6, 1.1)).astype(np.float32)
    image = Image.fromarray(np.minimum(np.maximum(pixels, 0), 255).astype(np.uint8))
    draw, n = ImageDraw.Draw(image), 60
    length, turn = rng.uniform(0.08, 0.22, n) * size, rng.uniform(0, TURN, n)
    if kind in ("grass", "moss"):
        length, turn = length * (1.5 if kind == "grass" else 0.6), rng.normal(-TURN / 4, 0.35, n)
    along = np.array([np.cos(turn), np.sin(turn)]) * length
    along *= 0.4 if kind == "soil" else 1
    across = along[::-1] * [[1], [-1]] * {"leaves": 0.25, "soil": 0.3}.get(kind, 0.06)
    start = rng.uniform(-0.1 * size, 1.1 * size, (2, n))
    middle, end = start + along / 2, start + along
    corners = np.array([start, middle + across, end, middle - across]).transpose(2, 0, 1).reshape(n, 8)
    colours = [pick(rng, litter) for _ in range(6)]
    for i, flat in enumerate(corners.tolist()):
        draw.polygon(flat, fill=fill_of(colours[i % 6] * (0.6 + 0.4 * i / n)))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.3) * size / 96))


def blades(rng: Generator, draw: ImageDraw.ImageDraw, kind: str, side: int) -> None:
    """Up to four blades of grass or leaves in front of the mushroom."""
    for _ in range(rng.integers(0, 5)):
        x, lean, tall = side * np.array([rng.uniform(0, 1), rng.normal(0, 0.25), rng.uniform(0.12, 0.4)])
        wide = side * (0.06 if kind == "leaves" else 0.016)
        knee, y = x + 0.4 * lean, side - 0.6 * tall
        outline = [x - wide, side, knee - wide, y, x + lean, side - tall, knee + wide, y, x + wide, side]
        draw.polygon(outline, fill=fill_of(pick(rng, GROUNDS[kind][1]) * 0.8))


def photograph(rng: Generator, image: Image.Image, camera: Camera) -> Image.Image:
    """Apply the camera's effects: half the size, blur, tint, contrast, vignette, noise."""
    image = image.reduce(2).filter(ImageFilter.GaussianBlur(rng.uniform(*camera.blur)))
    pixels = (np.asarray(image, np.float32) / 255) ** np.float32(rng.uniform(0.8, 1.25))
    pixels *= (rng.normal(1, camera.tint, 3) * rng.uniform(0.82, 1.15)).astype(np.float32)
    pixels = 0.45 + (pixels - 0.45) * np.float32(rng.uniform(*camera.contrast))
    axis = np.linspace(-1, 1, len(pixels), dtype=np.float32)[:, None] ** 2
    pixels *= 1 - np.float32(rng.uniform(*camera.vignette)) * (axis[..., None] + axis)
    pixels += rng.standard_normal(pixels.shape, np.float32) * np.float32(rng.uniform(*camera.noise) / 255)
    return Image.fromarray((np.minimum(np.maximum(pixels, 0), 1) * 255 + 0.5).astype(np.uint8))


def draw_image(rng: Generator, species: Species, camera: Camera, size: int) -> Image.Image:
    """An image of one to three mushrooms of a species, (size, size) RGB, drawn at twice the size."""
    side, grounds = 2 * size, camera.grounds.split()
    kind = grounds[rng.integers(len(grounds))]
    image = ground(rng, kind, size).resize((side, side))
    draw = ImageDraw.Draw(image, "RGBA")
    turn = rng.uniform(0.15, 0.85) * np.pi  # the light comes from the left, from above or from the right
    light = np.array([np.cos(turn), np.sin(turn), rng.uniform(0.3, 0.9)])
    light /= np.linalg.norm(light)
    colours = [pick(rng, names) for names in (species.cap, species.under, species.foot)]
    for i in range(int(rng.choice(3, p=(0.6, 0.28, 0.12))), -1, -1):  # the main mushroom comes last, in front
        extent = rng.uniform(*camera.framing) * side * (1 if i == 0 else rng.uniform(0.45, 0.7))
        scale = extent / max(species.high + species.stem[2], 2.1)
        reach = 0.5 * side - 0.42 * extent if i == 0 else 0.4 * side  # the main mushroom stays roughly inside the image
        pose = *(side / 2 + rng.uniform(-reach, reach, 2)), scale, rng.normal(0, camera.lean)
        mushroom = Mushroom(rng, species, colours, light, pose)
        for mark in species.marks.split():
            MARKS[mark](mushroom)
        mushroom.fill(draw)
    blades(rng, draw, kind, side)
    return photograph(rng, image, camera)
