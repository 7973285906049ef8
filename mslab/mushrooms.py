"""Demo data, drawn and not downloaded: nine genera of mushrooms, and edible or poisonous, from a table of field marks.

    draw_datasets(Path("datasets"))  ->  datasets/mushrooms9/{train,val,test}/Agaricus/0001.jpg ...
                                         datasets/mushrooms2/{train,val,test}/{edible,poisonous}/0001.jpg ...

These are drawings, no guide to real mushrooms: never eat one, and never trust one, because of them.

The marks are those of field guides (warts, ring, volva, pores, net, cortina, zones, slime). Colour, pose, light,
ground and camera come from ranges that the classes share, so neither a pixel nor the mean colour gives a class away.
Equal seeds give equal bytes. A mushroom is three surfaces of revolution, each a curve (r, z) turned round the stem.
A mark is a few polygons in the chart (s, phi) of a surface: s runs 0..1 along the curve, phi round the stem. All
polygons are shaded, sorted by depth and filled. Lengths are in cap radii: x right, y towards the viewer, z up, the
rim of the cap at z = 0.
"""

import json
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from mslab.check import cores

VERSION = 1  # raise it whenever the drawing changes: then a folder drawn before is not taken for a new one
SPLITS = ("train", "val", "test")
COUNTS = {  # images per class
    "mushrooms9": {"train": 240, "val": 60, "test": 60},
    "mushrooms2": {"train": 20, "val": 100, "test": 100},
}


class Species(NamedTuple):
    """What a student edits: names are keys of SHAPES and PALETTE and names of the functions in MARKS."""

    shape: str  # of the cap
    high: float  # height of the cap
    stem: tuple[float, float, float]  # radius at the top, radius at the base, length
    marks: str
    cap: str  # colours, one is drawn by chance
    under: str  # colours of gills or pores
    foot: str  # colours of the stem


# fmt: off
PALETTE = {  # sRGB
    "white": (232, 224, 206), "cream": (222, 200, 152), "yellow": (222, 178, 62), "orange": (212, 120, 46),
    "red": (188, 48, 40), "wine": (122, 44, 58), "pink": (206, 140, 128), "violet": (122, 92, 142),
    "grey": (142, 136, 130), "olive": (126, 120, 62), "green": (112, 142, 84), "tan": (188, 146, 98),
    "brown": (132, 84, 50), "dark": (84, 56, 40), "rust": (160, 84, 36),
}
GENERA = {
    "Agaricus": Species("dome", 0.62, (0.22, 0.26, 1.5), "gills scales ring",
                        "white cream tan brown grey yellow", "dark brown pink", "white cream tan"),
    "Amanita": Species("dome", 0.62, (0.17, 0.26, 1.7), "gills warts ring volva",
                       "red brown grey yellow tan white olive orange", "white cream", "white cream yellow grey"),
    "Boletus": Species("dome", 0.66, (0.30, 0.50, 1.4), "pores net",
                       "brown tan dark red grey rust wine cream", "yellow cream olive white", "cream tan yellow red"),
    "Cortinarius": Species("bell", 0.60, (0.19, 0.32, 1.6), "gills belts cortina",
                           "violet brown rust olive orange tan red", "rust violet brown", "violet cream tan grey"),
    "Entoloma": Species("nipple", 0.70, (0.15, 0.17, 1.5), "gills silk fibres",
                        "grey brown violet tan dark cream green", "pink cream", "grey tan white violet"),
    "Hygrocybe": Species("cone", 0.90, (0.14, 0.15, 1.5), "wax gleam",
                         "red orange yellow green white wine pink", "yellow orange white", "yellow orange red cream"),
    "Lactarius": Species("funnel", 0.34, (0.24, 0.20, 1.3), "gills zones milk",
                         "orange tan brown grey red cream rust", "cream orange tan", "orange tan cream grey"),
    "Russula": Species("flat", 0.34, (0.26, 0.25, 1.3), "gills grooves",
                       "red violet green yellow wine brown pink orange", "white cream", "white cream pink"),
    "Suillus": Species("dome", 0.50, (0.20, 0.20, 1.4), "pores slime band dots",
                       "yellow brown orange rust tan red olive", "yellow olive", "yellow cream tan"),
}
EDIBLE = {
    "Cantharellus": Species("funnel", 0.42, (0.26, 0.17, 1.2), "ridges",
                            "yellow orange cream tan", "yellow orange", "yellow orange cream"),
    "Leccinum": Species("dome", 0.70, (0.22, 0.30, 1.8), "pores dots",
                        "orange brown tan grey rust", "cream white grey", "white grey cream"),
    "Imleria": Species("dome", 0.56, (0.24, 0.25, 1.4), "pores fibres",
                       "brown dark tan rust yellow", "yellow olive", "tan yellow brown"),
    "Butyriboletus": Species("dome", 0.60, (0.28, 0.42, 1.4), "pores net",
                             "brown olive tan orange red", "orange yellow", "yellow orange tan"),
}
POISONOUS = {
    "Amanita phalloides": Species("dome", 0.56, (0.16, 0.20, 1.8), "gills ring volva",
                                  "olive yellow white tan green", "white cream", "white cream"),
    "Amanita pantherina": Species("dome", 0.50, (0.17, 0.26, 1.7), "gills warts ring volva",
                                  "brown tan grey dark", "white", "white cream"),
    "Galerina": Species("bell", 0.55, (0.14, 0.15, 1.7), "gills grooves ring",
                        "rust tan brown orange yellow", "rust tan", "tan brown cream"),
    "Lepiota": Species("dome", 0.50, (0.15, 0.17, 1.6), "gills scales ring",
                       "cream tan pink brown white", "white cream", "cream pink white"),
}
# fmt: on
CLASSES: dict[str, dict[str, list[Species]]] = {
    "mushrooms9": {name: [species] for name, species in GENERA.items()},
    "mushrooms2": {"edible": list(EDIBLE.values()), "poisonous": list(POISONOUS.values())},
}


class Camera(NamedTuple):
    """How pictures are taken: what differs between the data sets besides the species. Pairs are ranges."""

    framing: tuple[float, float]  # height of the main mushroom, in image heights
    lean: float  # radians, standard deviation
    contrast: tuple[float, float]
    tint: float  # standard deviation of each colour channel's gain
    vignette: tuple[float, float]  # how much darker the middle of an edge is, 0..1
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
GROUNDS = {  # colours of the soil, colours of what lies or grows on it
    "grass": ("olive dark green", "green olive green yellow"),
    "leaves": ("dark brown", "brown tan rust orange yellow olive"),
    "soil": ("dark brown grey", "brown tan grey dark"),
    "moss": ("green olive dark", "green olive green"),
    "needles": ("dark rust brown", "rust tan brown olive"),
}
Curve = tuple[np.ndarray, np.ndarray]
SHAPES: dict[str, Callable[[np.ndarray], Curve]] = {  # s -> r, z of a cap; z is then scaled and its rim moved to 0
    "dome": lambda s: (np.sin(s * np.pi / 2), np.cos(s * np.pi / 2)),
    "bell": lambda s: (s, (1 - s**2) * 0.8 + 0.35 * np.exp(-((s / 0.3) ** 2))),
    "nipple": lambda s: (s, (1 - s) * 0.7 + 0.45 * np.exp(-((s / 0.16) ** 2))),
    "cone": lambda s: (s, 1 - np.sqrt(s**2 + 0.012)),
    "flat": lambda s: (s, 1 - s**4 - 0.6 * np.exp(-((s / 0.35) ** 2))),
    "funnel": lambda s: (s, s**1.4 - 0.25 * s**8),
}
Colour = np.ndarray | tuple[int, int, int]
Numbers = float | np.ndarray  # one for all, or one each
KNOTS = np.linspace(0.0, 1.0, 25)
TURN = 2 * np.pi

# --- surfaces and charts ----------------------------------------------------------------------------------------------


class Surface:
    """A curve (r, z), sampled at KNOTS, turned round the stem; wobble makes it less round."""

    def __init__(self, r: np.ndarray, z: np.ndarray, wobble: float = 0.0) -> None:
        self.r, self.z, self.wobble = r, z, wobble

    def points(self, s: np.ndarray, phi: np.ndarray) -> np.ndarray:
        """(...,) and (...,) -> (..., 3)."""
        r = np.interp(s, KNOTS, self.r) * (1 + self.wobble * s * (np.sin(3 * phi + 1) + np.sin(5 * phi)))
        xyz = np.empty((*s.shape, 3))
        xyz[..., 0], xyz[..., 1], xyz[..., 2] = r * np.cos(phi), r * np.sin(phi), np.interp(s, KNOTS, self.z)
        return xyz

    def normals(self, s: np.ndarray, phi: np.ndarray) -> np.ndarray:
        """Unit vectors out of the surface. (n,) and (n,) -> (n, 3)."""
        before, after = np.maximum(s - 0.02, 0), np.minimum(s + 0.02, 1)
        out = np.interp(before, KNOTS, self.z) - np.interp(after, KNOTS, self.z)
        up = np.interp(after, KNOTS, self.r) - np.interp(before, KNOTS, self.r)
        size = np.sqrt(out**2 + up**2) + 1e-9
        return np.array([out / size * np.cos(phi), out / size * np.sin(phi), up / size]).T


def curve(*corners: tuple[float, float], wobble: float = 0.0) -> Surface:
    """Surface whose curve runs through the corners (r, z), which lie at equal steps of s."""
    at = np.linspace(0, 1, len(corners))
    return Surface(np.interp(KNOTS, at, [r for r, _ in corners]), np.interp(KNOTS, at, [z for _, z in corners]), wobble)


def around(n: int) -> np.ndarray:
    """n angles round the stem. (n,)."""
    return np.arange(n) * TURN / n


def grid(rows: int, columns: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """The chart from s = low to s = high in quadrilaterals. (rows * columns, 4, 2)."""
    s, phi = np.repeat(low + np.arange(rows) * (high - low) / rows, columns), np.tile(around(columns), rows)
    return strokes(s, phi + np.pi / columns, s + (high - low) / rows, phi + np.pi / columns, TURN / columns)


def strokes(
    s0: Numbers, phi0: np.ndarray, s1: Numbers, phi1: np.ndarray, width: Numbers, taper: float = 1.0
) -> np.ndarray:
    """Lines (s0, phi0)-(s1, phi1); width in radians, the end is taper times as wide. (n, 4, 2)."""
    chart = np.empty((len(phi0), 4, 2))
    chart[:, 0, 0] = chart[:, 3, 0] = s0
    chart[:, 1, 0] = chart[:, 2, 0] = s1
    half = np.multiply(width, 0.5)
    chart[:, 0, 1], chart[:, 3, 1] = phi0 - half, phi0 + half
    chart[:, 1, 1], chart[:, 2, 1] = phi1 - taper * half, phi1 + taper * half
    return chart


def blobs(rng: Generator, s: np.ndarray, phi: np.ndarray, size_s: Numbers, size_phi: Numbers) -> np.ndarray:
    """Rough hexagons round (s, phi) with half axes size_s and size_phi. (n, 6, 2)."""
    swell, corner = rng.uniform(0.75, 1.25, (6, len(s))), around(6)[:, None]
    chart = np.array([s + size_s * swell * np.cos(corner), phi + size_phi * swell * np.sin(corner)])
    chart[0] = np.minimum(np.maximum(chart[0], 0), 1)
    return chart.transpose(2, 1, 0)


def scatter(rng: Generator, n: int, low: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """n points (s, phi) spread over a cap outside s = low, as in a sunflower, a little shaken."""
    s = np.sqrt(low**2 + (1 - low**2) * (np.arange(n) + rng.uniform(0.2, 0.8, n)) / n)
    return s, np.arange(n) * 2.4 + rng.uniform(0, TURN) + rng.normal(0, 0.15, n)


def pick(rng: Generator, names: str) -> np.ndarray:
    """One of the named colours, shaken. (3,), 0..255."""
    choices = names.split()
    base = np.array(PALETTE[choices[rng.integers(len(choices))]])
    return np.clip(base * rng.uniform(0.72, 1.12) + rng.normal(0, 10, 3), 18, 245)


def fill_of(colour: np.ndarray) -> tuple[int, ...]:
    return tuple(colour.astype(int).tolist())


class Mushroom:
    """One mushroom in the picture: three surfaces, three colours, and the polygons drawn on them so far."""

    def __init__(
        self, rng: Generator, species: Species, colours: list[np.ndarray], light: np.ndarray, pose: tuple[float, ...]
    ) -> None:
        self.rng, self.light = rng, light
        self.colour, self.under_colour, self.foot_colour = colours
        x, y, self.scale, lean = pose  # pixels: middle of the mushroom, radius of its cap; radians
        self.faces: list[tuple[float, list[float], tuple[int, ...]]] = []
        elevation = rng.uniform(-0.55, 0.5)  # radians; below zero the viewer sees the underside
        tilt = [[1, 0, 0], [0, -np.sin(elevation), np.cos(elevation)], [0, np.cos(elevation), np.sin(elevation)]]
        roll = [[np.cos(lean), -np.sin(lean), 0], [np.sin(lean), np.cos(lean), 0], [0, 0, 1]]
        self.view = (np.array(roll) @ tilt).T  # (x, y, z) -> right, up, towards the viewer
        width, base, self.length = rng.uniform(0.88, 1.12, 3) * species.stem
        high = species.high * rng.uniform(0.85, 1.15)
        wobble, self.bend = rng.uniform(0, 0.04), rng.uniform(-0.08, 0.08)
        middle = np.array([0, 0, (high - self.length) / 2]) @ self.view * self.scale
        self.origin = np.array([x - middle[0], y + middle[1]])  # pixel of the middle of the rim
        r, z = SHAPES[species.shape](KNOTS)
        self.cap = Surface(r, (z - z[-1]) * high, wobble)
        self.join = -high - 0.12 if species.shape == "funnel" else -0.05  # where the underside meets the stem
        thick = 0.16 if "pores" in species.marks else 0.0  # tubes hang below the rim
        rim = [(1.0, 0.0), (0.98, -thick)] if thick else [(1.0, 0.0), (0.6, 0.55 * self.join)]
        self.under = curve(*rim, (width, self.join - 0.75 * thick), wobble=wobble)
        knee, end = 0.6 * width + 0.4 * base, -self.length
        sides = [(width, self.join), (width, 0.4 * end), (knee, 0.72 * end), (base, 0.92 * end)]
        self.stem = curve(*sides, (0.8 * base, end))
        self.top, self.base = width, base
        self.add(self.stem, grid(1, 14, 0.0, 0.2), self.foot_colour * 0.75)  # in the shadow of the cap
        self.add(self.stem, grid(6, 14, 0.2, 1.0), self.foot_colour, shine=0.08)
        self.add(self.under, grid(3, 26), np.minimum(self.under_colour * 1.1, 255), shine=0.12)
        self.add(self.cap, grid(8, 26), self.colour)
        for mark in species.marks.split():
            MARKS[mark](self)

    def add(
        self, on: Surface, chart: np.ndarray, colour: Colour, lift: float = 0.0, both: bool = False, shine: float = 0.0
    ) -> None:
        """Adds polygons (n, k, 2), lifted off the surface; both: they are seen from behind too; shine: extra light."""
        middle = chart.sum(1) / chart.shape[1]
        normal = on.normals(middle[:, 0], middle[:, 1])
        facing = normal @ self.view
        shown = slice(None) if both else np.flatnonzero(facing[:, 2] > -0.02)
        chart, normal, facing = chart[shown], normal[shown], facing[shown]
        xyz = on.points(chart[..., 0], chart[..., 1]) + lift * normal[:, None]
        xyz[..., 0] += self.bend * np.minimum(xyz[..., 2], 0) ** 2
        xyz = xyz @ self.view
        lambert = facing @ self.light
        bright = 0.62 + shine + 0.5 * np.where(facing[:, 2] < -0.02, -lambert, lambert)
        colours = np.minimum(np.minimum(np.maximum(bright, 0.35), 1.5)[:, None] * colour, 255).astype(int).tolist()
        depth = (xyz[..., 2].sum(1) / chart.shape[1] + 2 * lift).tolist()
        flat = (xyz[..., :2] * (self.scale, -self.scale) + self.origin).reshape(len(chart), 2 * chart.shape[1]).tolist()
        self.faces += zip(depth, flat, map(tuple, colours), strict=True)

    def fill(self, draw: ImageDraw.ImageDraw) -> None:
        """Draws its shadow, then its polygons, the farthest first."""
        right, up, _ = np.array([0, 0, -self.length]) @ self.view * self.scale
        x, y, wide, high = self.origin[0] + right, self.origin[1] - up, 0.8 * self.scale, 0.16 * self.scale
        draw.ellipse((x - wide, y - high, x + wide, y + high), fill=(10, 8, 4, 110))
        for _, flat, colour in sorted(self.faces, key=lambda face: face[0]):
            draw.polygon(flat, fill=colour)


def clearest(on: np.ndarray, pale: Colour, dark: Colour) -> Colour:
    """Whichever of two colours shows better on a third."""
    return pale if on.mean() < 150 else dark


# --- field marks ------------------------------------------------------------------------------------------------------


def gills(m: Mushroom, n: int = 32, width: float = 0.08) -> None:
    """Blades from the rim to the stem, close together."""
    m.add(m.under, strokes(0, around(n), 1, around(n), width), m.under_colour * 0.5, lift=0.01)


def wax(m: Mushroom) -> None:
    """Gills that are thick and far apart."""
    gills(m, n=12, width=0.2)


def ridges(m: Mushroom) -> None:
    """Blunt folds that fork towards the rim."""
    gills(m, n=18, width=0.12)
    m.add(m.under, strokes(0, around(18) + 0.17, 0.6, around(18), 0.1), m.under_colour * 0.5, lift=0.01)


def pores(m: Mushroom) -> None:
    """Mouths of tubes in place of gills."""
    s, phi = np.repeat(np.linspace(0.1, 0.9, 6), 24), np.tile(np.concatenate([around(24), around(24) + 0.13]), 3)
    m.add(m.under, blobs(m.rng, s, phi, 0.045, 0.07), m.under_colour * 0.38, lift=0.02)


def warts(m: Mushroom) -> None:
    """Flakes of the torn veil on the cap."""
    s, phi = scatter(m.rng, 20)
    colour = clearest(m.colour, (240, 234, 214), (112, 92, 72))
    m.add(m.cap, blobs(m.rng, s, phi, 0.08, 0.09 / np.maximum(s, 0.25)), colour, lift=0.05)


def scales(m: Mushroom) -> None:
    """Dark wedges that point to the rim, round a dark middle."""
    s, phi = scatter(m.rng, 38, 0.25)
    m.add(m.cap, strokes(s - 0.07, phi, np.minimum(s + 0.1, 1), phi, 0.28 / s, 0.1), m.colour * 0.48, lift=0.02)
    m.add(m.cap, grid(1, 12, 0.0, 0.16), m.colour * 0.48, lift=0.02)


def silk(m: Mushroom) -> None:
    """Shining threads from the middle to the rim."""
    colour = clearest(m.colour, m.colour * 0.35 + 160, m.colour * 0.5)
    m.add(m.cap, strokes(m.rng.uniform(0.12, 0.3, 20), around(20), 1, around(20), 0.04, 4), colour, lift=0.01)


def zones(m: Mushroom) -> None:
    """Rings of another shade on the cap."""
    middles = np.linspace(0.26, 0.9, int(m.rng.integers(3, 5)))
    chart = np.concatenate([grid(1, 24, s - 0.055, s + 0.055) for s in middles])
    m.add(m.cap, chart, clearest(m.colour, m.colour * 0.35 + 160, m.colour * 0.5), lift=0.01)


def grooves(m: Mushroom) -> None:
    """Furrows at the rim and a dent in the middle of the cap."""
    m.add(m.cap, strokes(0.74, around(24), 1, around(24), 0.1), m.colour * 0.5, lift=0.01)
    m.add(m.cap, grid(1, 12, 0.0, 0.3), m.colour * 0.7, lift=0.01)


def shining(m: Mushroom, best: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Points (s, phi) of the cap that mirror the light to the viewer, best = 0, or less well."""
    s, phi = m.rng.uniform(0.15, 0.9, 60), m.rng.uniform(0, TURN, 60)
    order = np.argsort(-(m.cap.normals(s, phi) @ m.view) @ np.add(m.light, (0, 0, 1)))
    return s[order[best]], phi[order[best]]


def slime(m: Mushroom) -> None:
    """Wet reflections, and slime that drips from the rim."""
    size = np.array([0.22, 0.13, 0.1])
    m.add(m.cap, blobs(m.rng, *shining(m, [0, 8, 16]), size, size * 1.8), (255, 255, 250), lift=0.02, shine=0.6)
    phi, end = m.rng.uniform(0, TURN, 9), m.rng.uniform(0.5, 1, 9)
    drips = strokes(0, phi, end, phi, 0.16, 0.4)
    m.add(curve((1.02, 0.06), (1.0, -0.3)), drips, m.colour * 0.6 + 80, lift=0.02, shine=0.2)


def gleam(m: Mushroom) -> None:
    """Long narrow reflections on a waxy cap."""
    _, phi = shining(m, [0, 6, 12])
    m.add(m.cap, strokes(0.15, phi, 0.85, phi, 0.18), (255, 255, 245), lift=0.02, shine=0.5)


def ring(m: Mushroom) -> None:
    """A skirt round the stem, with a dark edge."""
    r, z = m.top, m.join - m.rng.uniform(0.22, 0.38)
    skirt = curve((r, z), (r * 1.6 + 0.05, z - 0.1), (r * 1.75 + 0.06, z - 0.26), wobble=0.06)
    m.add(skirt, grid(2, 18), (238, 230, 208), both=True, shine=0.08)
    m.add(skirt, grid(1, 18, 0.86, 1.0), (120, 96, 70), lift=0.01, both=True)


def band(m: Mushroom) -> None:
    """A dark sticky ring that lies on the stem."""
    r, z = m.top, m.join - m.rng.uniform(0.25, 0.4)
    m.add(curve((r * 1.1, z), (r * 1.45, z - 0.07), (r * 1.15, z - 0.18)), grid(2, 16), (74, 48, 44), lift=0.01)


def volva(m: Mushroom) -> None:
    """A torn bag round the foot."""
    r, end = m.base, -m.length
    bag = curve((r * 1.55, end + 0.42), (r * 1.6, end + 0.2), (r * 1.5, end), (r * 0.8, end - 0.12), wobble=0.08)
    m.add(bag, grid(3, 16), (232, 226, 206), lift=0.02, both=True, shine=0.05)
    torn = curve((r * 1.75, end + 0.62), (r * 1.5, end + 0.4))
    m.add(torn, strokes(0, around(7), 1, around(7), 0.1, 8), (216, 208, 186), lift=0.02, both=True)


def net(m: Mushroom) -> None:
    """Meshes on the stem."""
    s, phi = np.repeat(np.linspace(0.05, 0.85, 6), 11), np.tile(around(11), 6)
    chart = np.concatenate([strokes(s, phi, s + 0.16, phi + side, 0.13) for side in (-TURN / 11, TURN / 11)])
    m.add(m.stem, chart, clearest(m.foot_colour, m.foot_colour * 0.4 + 150, m.foot_colour * 0.5), lift=0.02)


def belts(m: Mushroom) -> None:
    """Rusty zigzag belts on the stem."""
    phi, zig = np.append(around(12), TURN), np.array([-0.04, 0.04] * 6 + [-0.04])
    for s in zig + np.array([[0.5], [0.67], [0.84]]):
        upper, lower = np.array([s, phi]), np.array([s + 0.07, phi])
        chart = np.array([upper[:, :-1], lower[:, :-1], lower[:, 1:], upper[:, 1:]]).transpose(2, 0, 1)
        m.add(m.stem, chart, (150, 76, 34), lift=0.02)


def dots(m: Mushroom) -> None:
    """Dark spots on the stem."""
    s, phi = m.rng.uniform(0.08, 0.95, 44), np.arange(44) * 2.4
    m.add(m.stem, blobs(m.rng, s, phi, 0.028, 0.035 / m.top), (62, 40, 34), lift=0.02)


def fibres(m: Mushroom) -> None:
    """Twisted lines along the stem."""
    m.add(m.stem, strokes(0.05, around(10), 0.98, around(10) + 0.9, 0.14), m.foot_colour * 0.5, lift=0.01)


def cortina(m: Mushroom) -> None:
    """A cobweb from the rim to the stem, rusty where it ends."""
    web = curve((0.97, 0.0), (0.55, -0.3), (m.top * 1.05, m.join - 0.5))
    m.add(web, strokes(0, around(26), 1, around(26), 0.055), (222, 180, 136), lift=0.02, both=True, shine=0.1)
    m.add(curve((m.top * 1.1, m.join - 0.42), (m.top * 1.2, m.join - 0.56)), grid(1, 14), (156, 78, 32), lift=0.02)


def milk(m: Mushroom) -> None:
    """White drops on the gills."""
    s, phi = m.rng.uniform(0.15, 0.75, 10), m.rng.uniform(0, TURN, 10)
    drops = blobs(m.rng, s, phi, 0.07, 0.1 / (1.1 - s))
    m.add(curve((1.0, 0.0), (m.top, m.join)), drops, (252, 250, 244), lift=0.06, both=True, shine=0.4)


MARKS: dict[str, Callable[[Mushroom], None]] = {
    mark.__name__: mark
    for mark in (gills, wax, ridges, pores, warts, scales, silk, zones, grooves, slime, gleam,
                 ring, band, volva, net, belts, dots, fibres, cortina, milk)
}  # fmt: skip

# --- ground, light, camera --------------------------------------------------------------------------------------------


def ground(rng: Generator, kind: str, size: int) -> Image.Image:
    """Forest floor or meadow, out of focus, (size, size) RGB."""
    soil, litter = GROUNDS[kind]
    light = np.ones((size, size), np.float32)
    for cells, strength in ((5, 0.3), (24, 0.2)):
        coarse = Image.fromarray(rng.uniform(-strength, strength, (cells, cells)).astype(np.float32))
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
    """What the camera makes of the scene: half its size, blurred, tinted, darker to the corners, noisy."""
    image = image.reduce(2).filter(ImageFilter.GaussianBlur(rng.uniform(*camera.blur)))
    pixels = (np.asarray(image, np.float32) / 255) ** np.float32(rng.uniform(0.8, 1.25))
    pixels *= (rng.normal(1, camera.tint, 3) * rng.uniform(0.82, 1.15)).astype(np.float32)
    pixels = 0.45 + (pixels - 0.45) * np.float32(rng.uniform(*camera.contrast))
    axis = np.linspace(-1, 1, len(pixels), dtype=np.float32)[:, None] ** 2
    pixels *= 1 - np.float32(rng.uniform(*camera.vignette)) * (axis[..., None] + axis)
    pixels += rng.standard_normal(pixels.shape, np.float32) * np.float32(rng.uniform(*camera.noise) / 255)
    return Image.fromarray((np.minimum(np.maximum(pixels, 0), 1) * 255 + 0.5).astype(np.uint8))


def draw_image(rng: Generator, species: Species, camera: Camera, size: int) -> Image.Image:
    """A picture of one to three mushrooms of a species, (size, size) RGB, drawn at twice the size."""
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
        reach = 0.5 * side - 0.42 * extent if i == 0 else 0.4 * side  # the main one stays in the picture, more or less
        pose = *(side / 2 + rng.uniform(-reach, reach, 2)), scale, rng.normal(0, camera.lean)
        Mushroom(rng, species, colours, light, pose).fill(draw)
    blades(rng, draw, kind, side)
    return photograph(rng, image, camera)


# --- data sets on disk ------------------------------------------------------------------------------------------------

Progress = Callable[[str, int, int], None]
Job = tuple[str, int, int, int, int, int, str]  # data set, seed, split, class, index, size, file


def draw_file(job: Job) -> None:
    """Draws one file. Its random numbers hang on what it is, not on what was drawn before."""
    name, seed, split, label, index, size, file = job
    species = list(CLASSES[name].values())[label]
    rng = np.random.default_rng([seed, list(CLASSES).index(name), split, label, index])
    draw_image(rng, species[index % len(species)], CAMERAS[name], size).save(file, quality=92)


def draw_datasets(
    root: Path,
    seed: int = 1,
    size: int = 96,
    only: tuple[str, ...] = ("mushrooms9", "mushrooms2"),
    workers: int | None = None,
    progress: Progress | None = None,
    counts: dict[str, dict[str, int]] | None = None,
) -> dict[str, dict[str, dict[str, int]]]:
    """Draws the data sets into root/NAME. Returns the number of images by data set, split and class.

    size: pixels; workers: processes, by default one a core; counts: images per class in place of COUNTS.
    progress(data set, images done, images in all) is called now and then. A data set that is there, drawn with equal
    settings, is left as it is. Raises FileExistsError, before anything is drawn, where another folder is in the way.
    """
    records: dict[str, dict] = {}
    problems: list[str] = []
    for name in only:
        records[name] = {
            "drawn_by": "mslab data make",
            "version": VERSION,
            "seed": seed,
            "size": size,
            "counts": {split: dict.fromkeys(CLASSES[name], (counts or COUNTS)[name][split]) for split in SPLITS},
            "note": "drawn, no guide to real mushrooms",
        }
        problems += in_the_way(Path(root), name, records[name])
    if problems:
        raise FileExistsError("\n".join(problems))
    for name, record in records.items():
        if not (Path(root) / name).exists():
            draw_dataset(Path(root), name, record, workers or cores(), progress)
    return {name: record["counts"] for name, record in records.items()}


def in_the_way(root: Path, name: str, record: dict) -> list[str]:
    """What keeps root/NAME from being drawn: a folder or a record that is not this one. Empty if nothing does."""
    folder, file = root / name, root / f"{name}.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    ours = isinstance(found, dict) and found.get("drawn_by") == record["drawn_by"]
    if found == record or (ours and not folder.exists()) or not (os.path.lexists(folder) or os.path.lexists(file)):
        return []
    if ours:
        keys = [key for key in record if found.get(key) != record[key]]
        why = "was drawn otherwise: " + "; ".join(f"{key} {found.get(key)}, now {record[key]}" for key in keys)
    else:
        why = f"is there, and {file.name} beside it does not say that mslab drew it"
    return [
        f"{folder} {why}.",
        f"  expected  no {name} and no {name}.json in {root}, or both as drawn with these settings",
        f"  fix       move or delete {folder} and {file.name}, or draw elsewhere with --out",
    ]


def draw_dataset(root: Path, name: str, record: dict, workers: int, progress: Progress | None) -> None:
    """Draws one data set beside its place, then moves it there: an interrupted run leaves no half data set."""
    part = root / f".{name}-{os.getpid()}.part"
    jobs: list[Job] = []
    try:
        for split, classes in record["counts"].items():
            for label, (class_name, n) in enumerate(classes.items()):
                folder = part / split / class_name
                folder.mkdir(parents=True)
                start = (name, record["seed"], SPLITS.index(split), label)
                jobs += [(*start, i, record["size"], str(folder / f"{i + 1:04d}.jpg")) for i in range(n)]
        if workers == 1:
            advance(name, map(draw_file, jobs), len(jobs), progress)
        else:  # spawn: a fork of a process in which MindSpore's threads run may hang
            with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
                advance(name, pool.map(draw_file, jobs, chunksize=16), len(jobs), progress)
        (root / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        part.rename(root / name)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def advance(name: str, results: Iterable[None], total: int, progress: Progress | None) -> None:
    """Waits for each result and reports every 50th and the last."""
    for done, _ in enumerate(results, 1):
        if progress and (done % 50 == 0 or done == total):
            progress(name, done, total)
