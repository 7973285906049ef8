"""The body of a mushroom: three surfaces of revolution, curves (r, z) around the stem, and the polygons drawn on them.

A polygon is given in the chart (s, phi) of a surface: s is 0..1 along the curve, phi the angle around the stem. All
polygons are shaded, sorted by depth and filled. Lengths are in cap radii: x right, y towards the viewer, z up, the rim
of the cap at z = 0.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from PIL import ImageDraw

from mslab.data.mushrooms.species import Species

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
Numbers = float | np.ndarray  # one value for all polygons, or one per polygon
KNOTS = np.linspace(0.0, 1.0, 25)
TURN = 2 * np.pi


class Surface:
    """A curve (r, z), sampled at KNOTS, revolved around the stem; `wobble` makes it less round."""

    def __init__(self, r: np.ndarray, z: np.ndarray, wobble: float = 0.0) -> None:
        self.r, self.z, self.wobble = r, z, wobble

    def points(self, s: np.ndarray, phi: np.ndarray) -> np.ndarray:
        """(...,) and (...,) -> (..., 3)."""
        r = np.interp(s, KNOTS, self.r) * (1 + self.wobble * s * (np.sin(3 * phi + 1) + np.sin(5 * phi)))
        xyz = np.empty((*s.shape, 3))
        xyz[..., 0], xyz[..., 1], xyz[..., 2] = r * np.cos(phi), r * np.sin(phi), np.interp(s, KNOTS, self.z)
        return xyz

    def normals(self, s: np.ndarray, phi: np.ndarray) -> np.ndarray:
        """Outward unit normals. (n,) and (n,) -> (n, 3)."""
        before, after = np.maximum(s - 0.02, 0), np.minimum(s + 0.02, 1)
        out = np.interp(before, KNOTS, self.z) - np.interp(after, KNOTS, self.z)
        up = np.interp(after, KNOTS, self.r) - np.interp(before, KNOTS, self.r)
        size = np.sqrt(out**2 + up**2) + 1e-9
        return np.array([out / size * np.cos(phi), out / size * np.sin(phi), up / size]).T


def curve(*corners: tuple[float, float], wobble: float = 0.0) -> Surface:
    """Surface whose curve passes through the corners (r, z) at equal steps of s."""
    at = np.linspace(0, 1, len(corners))
    return Surface(np.interp(KNOTS, at, [r for r, _ in corners]), np.interp(KNOTS, at, [z for _, z in corners]), wobble)


def around(n: int) -> np.ndarray:
    """n equally spaced angles around the stem. (n,)."""
    return np.arange(n) * TURN / n


def grid(rows: int, columns: int, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Quadrilaterals that cover the chart from s = low to s = high. (rows * columns, 4, 2)."""
    s, phi = np.repeat(low + np.arange(rows) * (high - low) / rows, columns), np.tile(around(columns), rows)
    return strokes(s, phi + np.pi / columns, s + (high - low) / rows, phi + np.pi / columns, TURN / columns)


def strokes(
    s0: Numbers, phi0: np.ndarray, s1: Numbers, phi1: np.ndarray, width: Numbers, taper: float = 1.0
) -> np.ndarray:
    """Lines (s0, phi0)-(s1, phi1); width in radians, at the end `taper` times the width. (n, 4, 2)."""
    chart = np.empty((len(phi0), 4, 2))
    chart[:, 0, 0] = chart[:, 3, 0] = s0
    chart[:, 1, 0] = chart[:, 2, 0] = s1
    half = np.multiply(width, 0.5)
    chart[:, 0, 1], chart[:, 3, 1] = phi0 - half, phi0 + half
    chart[:, 1, 1], chart[:, 2, 1] = phi1 - taper * half, phi1 + taper * half
    return chart


def blobs(rng: Generator, s: np.ndarray, phi: np.ndarray, size_s: Numbers, size_phi: Numbers) -> np.ndarray:
    """Irregular hexagons around (s, phi) with half axes size_s and size_phi. (n, 6, 2)."""
    swell, corner = rng.uniform(0.75, 1.25, (6, len(s))), around(6)[:, None]
    chart = np.array([s + size_s * swell * np.cos(corner), phi + size_phi * swell * np.sin(corner)])
    chart[0] = np.minimum(np.maximum(chart[0], 0), 1)
    return chart.transpose(2, 1, 0)


def scatter(rng: Generator, n: int, low: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """n points (s, phi) distributed over a cap outside s = low, as in a sunflower, with a little noise."""
    s = np.sqrt(low**2 + (1 - low**2) * (np.arange(n) + rng.uniform(0.2, 0.8, n)) / n)
    return s, np.arange(n) * 2.4 + rng.uniform(0, TURN) + rng.normal(0, 0.15, n)


class Mushroom:
    """One mushroom in the image: three surfaces, three colours, and the polygons added so far."""

    def __init__(
        self, rng: Generator, species: Species, colours: list[np.ndarray], light: np.ndarray, pose: tuple[float, ...]
    ) -> None:
        self.rng, self.light = rng, light
        self.colour, self.under_colour, self.foot_colour = colours
        x, y, self.scale, lean = pose  # pixels: centre of the mushroom, radius of its cap; radians
        self.faces: list[tuple[float, list[float], tuple[int, ...]]] = []
        elevation = rng.uniform(-0.55, 0.5)  # radians; below zero the viewer sees the underside
        tilt = [[1, 0, 0], [0, -np.sin(elevation), np.cos(elevation)], [0, np.cos(elevation), np.sin(elevation)]]
        roll = [[np.cos(lean), -np.sin(lean), 0], [np.sin(lean), np.cos(lean), 0], [0, 0, 1]]
        self.view = (np.array(roll) @ tilt).T  # (x, y, z) -> right, up, towards the viewer
        width, base, self.length = rng.uniform(0.88, 1.12, 3) * species.stem
        high = species.high * rng.uniform(0.85, 1.15)
        wobble, self.bend = rng.uniform(0, 0.04), rng.uniform(-0.08, 0.08)
        middle = np.array([0, 0, (high - self.length) / 2]) @ self.view * self.scale
        self.origin = np.array([x - middle[0], y + middle[1]])  # pixel at the centre of the rim
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
        self.ring: Surface | None = None  # once the mark of this name is drawn
        self.add(self.stem, grid(1, 14, 0.0, 0.2), self.foot_colour * 0.75)  # in the shadow of the cap
        self.add(self.stem, grid(6, 14, 0.2, 1.0), self.foot_colour, shine=0.08)
        self.add(self.under, grid(3, 26), np.minimum(self.under_colour * 1.1, 255), shine=0.12)
        self.add(self.cap, grid(8, 26), self.colour)

    def add(
        self,
        surface: Surface,
        chart: np.ndarray,
        colour: Colour,
        lift: float = 0.0,
        both: bool = False,
        shine: float = 0.0,
    ) -> None:
        """Add polygons (n, k, 2), lifted off the surface; `both`: visible from behind too; `shine`: extra light."""
        middle = chart.sum(1) / chart.shape[1]
        normal = surface.normals(middle[:, 0], middle[:, 1])
        facing = normal @ self.view
        visible = slice(None) if both else np.flatnonzero(facing[:, 2] > -0.02)
        chart, normal, facing = chart[visible], normal[visible], facing[visible]
        xyz = surface.points(chart[..., 0], chart[..., 1]) + lift * normal[:, None]
        xyz[..., 0] += self.bend * np.minimum(xyz[..., 2], 0) ** 2
        xyz = xyz @ self.view
        lambert = facing @ self.light
        bright = 0.62 + shine + 0.5 * np.where(facing[:, 2] < -0.02, -lambert, lambert)
        colours = np.minimum(np.minimum(np.maximum(bright, 0.35), 1.5)[:, None] * colour, 255).astype(int).tolist()
        depth = (xyz[..., 2].sum(1) / chart.shape[1] + 2 * lift).tolist()
        flat = (xyz[..., :2] * (self.scale, -self.scale) + self.origin).reshape(len(chart), 2 * chart.shape[1]).tolist()
        self.faces += zip(depth, flat, map(tuple, colours), strict=True)

    def fill(self, draw: ImageDraw.ImageDraw) -> None:
        """Draw its shadow, then its polygons, the farthest first."""
        self.cast_shadow(draw)
        for _, flat, colour in sorted(self.faces, key=lambda face: face[0]):
            draw.polygon(flat, fill=colour)

    def cast_shadow(self, draw: ImageDraw.ImageDraw) -> None:
        right, up, _ = np.array([0, 0, -self.length]) @ self.view * self.scale
        x, y = self.origin[0] + right, self.origin[1] - up
        wide, high = 0.8 * self.scale, 0.16 * self.scale
        draw.ellipse((x - wide, y - high, x + wide, y + high), fill=(10, 8, 4, 110))

    def pixels(self, xyz: np.ndarray) -> np.ndarray:
        """Where points of the mushroom are in the image, the bend of its stem included. (n, 3) -> (n, 2) pixels."""
        bent = xyz + np.array([1.0, 0.0, 0.0]) * (self.bend * np.minimum(xyz[:, 2:], 0) ** 2)
        return np.asarray((bent @ self.view)[:, :2] * (self.scale, -self.scale) + self.origin)
