"""A forest floor with none to six mushrooms of the nine genera, and where each of them is, exact to the pixel.

The mushrooms are drawn twice, from the farthest to the nearest: on the image, and on a map whose values say to which
mushroom, and to which mark of it, a pixel belongs. Leaves and blades in front of a mushroom hide it on both.
"""

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw

from mslab.data.mushrooms.marks import MARKS
from mslab.data.mushrooms.scene import GROUNDS, Camera, fill_of, ground, photograph, pick
from mslab.data.mushrooms.shape import KNOTS, TURN, Mushroom
from mslab.data.mushrooms.species import GENERA, Species

POINTS = ("top", "left_edge", "right_edge", "ring", "foot")  # of the cap: its highest point, and its rim in the image
SKELETON = [[1, 2], [1, 3], [1, 5], [4, 5]]  # pairs of POINTS that are joined, counted from 1 as COCO does
TAGS = ("ring", "warts", "volva", "pores", "gills")
TAG_OF = {"wax": "gills"} | {tag: tag for tag in TAGS}  # mark -> tag
PARTS = ("", *TAGS)
NUMBERS = (0.07, 0.2, 0.24, 0.2, 0.14, 0.09, 0.06)  # probabilities of 0 to 6 mushrooms
SEEN = 12  # pixels of a mark that make it visible, and of a mushroom that make it worth a label
CAMERA = Camera(
    framing=(0.3, 0.62), lean=0.2, contrast=(0.88, 1.1), tint=0.07, vignette=(0, 0.22), blur=(0, 0.45),
    noise=(1, 6), grounds="grass leaves soil moss needles")  # fmt: skip


class SeenMushroom(NamedTuple):
    """One mushroom of a scene."""

    label: int  # index of its genus
    mask: np.ndarray  # (size, size) bool, its visible pixels
    hidden: float  # fraction of its drawing that others hide or the border cuts off
    points: np.ndarray  # (5, 3): x, y in pixels, and COCO's visibility 0, 1 or 2
    tags: frozenset[str]  # those that are visible


class Canvas(NamedTuple):
    """The image and the map of what its pixels belong to, at twice the size."""

    image: ImageDraw.ImageDraw
    map: ImageDraw.ImageDraw
    side: int

    def cover(self, outline: list[float], colour: np.ndarray) -> None:
        """Draw something that is no mushroom."""
        self.image.polygon(outline, fill=fill_of(np.clip(colour, 0, 255)))
        self.map.polygon(outline, fill=0)


def draw_scene(rng: Generator, size: int) -> tuple[Image.Image, list[SeenMushroom]]:
    """An image, (size, size) RGB, and those of its mushrooms of which something is seen, the farthest first."""
    side, kinds = 2 * size, CAMERA.grounds.split()
    kind = kinds[rng.integers(len(kinds))]
    image = ground(rng, kind, size).resize((side, side))
    where = Image.new("L", (side, side))
    canvas = Canvas(ImageDraw.Draw(image, "RGBA"), ImageDraw.Draw(where), side)
    light = np.array([np.cos(turn := rng.uniform(0.15, 0.85) * np.pi), np.sin(turn), rng.uniform(0.3, 0.9)])
    light /= np.linalg.norm(light)
    distance(rng, canvas)
    litter(rng, canvas, kind, int(rng.integers(18, 45)), (0.0, 1.05))
    mushrooms: list[tuple[int, Mushroom, list[int]]] = []
    feet = np.sort(rng.uniform(0.3, 1.12, rng.choice(len(NUMBERS), p=NUMBERS)))
    for foot in feet:
        label, species = int(rng.integers(len(GENERA))), None
        if mushrooms and rng.random() < 0.4:  # mushrooms grow in groups
            label = mushrooms[-1][0]
        species = list(GENERA.values())[label]
        grown = grow(rng, species, light, foot, side)
        paint(grown[0], grown[1], canvas, 1 + len(mushrooms) * len(PARTS))
        mushrooms.append((label, *grown))
        litter(rng, canvas, kind, int(rng.integers(0, 4)), (foot, foot + 0.12))
    litter(rng, canvas, kind, int(rng.integers(0, 8)), (0.8, 1.15))
    photo = photograph(rng, image, CAMERA)
    return photo, look(np.asarray(where), mushrooms)


def distance(rng: Generator, canvas: Canvas) -> None:
    """Darker ground far away, and sometimes trunks there."""
    side, depth = canvas.side, rng.uniform(0.15, 0.4) * canvas.side
    for y in range(int(depth)):
        canvas.image.line((0, y, side, y), fill=(10, 14, 12, int(150 * (1 - y / depth))))
    for _ in range(int(rng.choice(4, p=(0.4, 0.3, 0.2, 0.1)))):
        x, wide, low = rng.uniform(0, side), rng.uniform(0.02, 0.08) * side, rng.uniform(0.5, 0.95) * depth
        bark = pick(rng, "dark brown grey")
        for shade, left, right in ((0.45, -1.0, 1.0), (0.65, -0.7, 0.35), (0.8, -0.5, -0.1)):
            flare = 1.35 * wide
            outline = [x + left * wide, 0, x + right * wide, 0, x + right * flare, low, x + left * flare, low]
            canvas.cover(outline, bark * shade)


def litter(rng: Generator, canvas: Canvas, kind: str, count: int, reach: tuple[float, float]) -> None:
    """Leaves, twigs, blades and stones whose lowest points are between two heights of the image, the nearest last."""
    thing_of = {"grass": (0.15, 0.1, 0.7, 0.05), "leaves": (0.75, 0.15, 0.05, 0.05), "soil": (0.3, 0.25, 0.1, 0.35)}
    odds = thing_of.get(kind, (0.25, 0.35, 0.3, 0.1))
    for y in np.sort(rng.uniform(*reach, count)) * canvas.side:
        x, turn = rng.uniform(0, canvas.side), rng.uniform(0, TURN)
        length = canvas.side * (0.35 + 0.65 * y / canvas.side) * rng.uniform(0.06, 0.2)
        colour = pick(rng, GROUNDS[kind][1])
        thing = int(rng.choice(4, p=odds))
        if thing == 0:
            leaf(canvas, (x, y), length, turn, colour)
        elif thing == 1:
            line = np.array([np.cos(turn), 0.5 * np.sin(turn)])
            strip(canvas, (x, y), line * length * 1.4, 0.05 * length, pick(rng, "dark brown tan") * 0.8)
        elif thing == 2:
            strip(canvas, (x, y), np.array([rng.normal(0, 0.4), -1.6]) * length, 0.07 * length, colour * 0.9)
        else:
            stone(rng, canvas, (x, y), 0.3 * length, pick(rng, "grey tan dark"))


def leaf(canvas: Canvas, at: tuple[float, float], length: float, turn: float, colour: np.ndarray) -> None:
    """A leaf that lies on the ground, with a lighter half and a rib."""
    t = np.linspace(0, 1, 9)
    half = np.sin(np.pi * t**0.8) * 0.3
    along, across = np.array([np.cos(turn), 0.6 * np.sin(turn)]), np.array([-np.sin(turn), 0.6 * np.cos(turn)])
    spine = np.array(at) + length * (t[:, None] - 0.5) * along
    for side, shade in ((1, 0.85), (-1, 1.05)):
        edge = spine + side * length * half[:, None] * across
        canvas.cover(np.concatenate([spine, edge[::-1]]).ravel().tolist(), colour * shade)
    canvas.image.line(spine.ravel().tolist(), fill=fill_of(np.clip(colour * 0.6, 0, 255)), width=1)


def strip(canvas: Canvas, at: tuple[float, float], line: np.ndarray, width: float, colour: np.ndarray) -> None:
    """A twig or a blade, pointed at its end."""
    start, side = np.array(at), np.array([-line[1], line[0]]) / (np.linalg.norm(line) + 1e-9) * max(width, 1.0)
    canvas.cover(np.concatenate([start - side, start + side, start + line]).tolist(), colour)


def stone(rng: Generator, canvas: Canvas, at: tuple[float, float], radius: float, colour: np.ndarray) -> None:
    angle = np.arange(9) * TURN / 9
    swell = radius * rng.uniform(0.8, 1.15, 9)
    outline = np.array([np.cos(angle) * swell, np.sin(angle) * swell * 0.65]).T
    for scale, shade in ((1.0, 0.6), (0.8, 0.85), (0.5, 1.05)):
        lifted = outline * scale - (0.12 * radius * (1 - scale), 0.35 * radius * (1 - scale))
        canvas.cover((lifted + at).ravel().tolist(), colour * shade)


def grow(rng: Generator, species: Species, light: np.ndarray, foot: float, side: int) -> tuple[Mushroom, list[int]]:
    """A mushroom whose foot is at this height of the image, and the part that each of its polygons is of."""
    extent = rng.uniform(*CAMERA.framing) * side * (0.45 + 0.55 * foot)  # smaller far away
    scale = extent / max(species.high + species.stem[2], 2.1)
    pose = rng.uniform(0.02, 0.98) * side, foot * side - 0.45 * extent, scale, rng.normal(0, CAMERA.lean)
    colours = [pick(rng, names) for names in (species.cap, species.under, species.foot)]
    mushroom = Mushroom(rng, species, colours, light, pose)
    parts = [0] * len(mushroom.faces)
    for mark in species.marks.split():
        MARKS[mark](mushroom)
        part = PARTS.index(TAG_OF.get(mark, ""))
        parts += [part] * (len(mushroom.faces) - len(parts))
    return mushroom, parts


def paint(mushroom: Mushroom, parts: list[int], canvas: Canvas, first: int) -> None:
    """Draw the mushroom on the image, and its parts, counted from `first`, on the map."""
    mushroom.cast_shadow(canvas.image)
    for (_, flat, colour), part in sorted(zip(mushroom.faces, parts, strict=True), key=lambda row: row[0][0]):
        canvas.image.polygon(flat, fill=colour)
        canvas.map.polygon(flat, fill=first + part)


def look(where: np.ndarray, mushrooms: list[tuple[int, Mushroom, list[int]]]) -> list[SeenMushroom]:
    """What is seen of each mushroom. `where`: the map, (2 size, 2 size)."""
    size = len(where) // 2
    cells = where.reshape(size, 2, size, 2)
    owner = np.full((size, size), -1)
    for i in range(len(mushrooms)):  # a pixel is of the mushroom that has half of it; of two, of the nearer one
        mine = (cells > i * len(PARTS)) & (cells <= (i + 1) * len(PARTS))
        owner[mine.sum((1, 3)) >= 2] = i
    found = []
    for i, (label, mushroom, _) in enumerate(mushrooms):
        mask = owner == i
        if not mask.any():
            continue
        values = where[(where > i * len(PARTS)) & (where <= (i + 1) * len(PARTS))]
        counts = np.bincount(values - 1 - i * len(PARTS), minlength=len(PARTS))
        tags = frozenset(tag for part, tag in enumerate(PARTS) if tag and counts[part] >= 4 * SEEN)
        hidden = 1 - len(values) / whole_area(mushroom, len(where))
        ring = where == 1 + i * len(PARTS) + PARTS.index("ring")
        found.append(SeenMushroom(label, mask, float(hidden), points_of(mushroom, mask, ring), tags))
    return found


def whole_area(mushroom: Mushroom, side: int) -> int:
    """The number of pixels of the map that the mushroom would have with nothing in front of it and no border."""
    alone = Image.new("L", (3 * side, 3 * side))
    draw = ImageDraw.Draw(alone)
    for _, flat, _ in mushroom.faces:
        draw.polygon([value + side for value in flat], fill=1)
    return max(int(np.count_nonzero(np.asarray(alone))), 1)


def points_of(mushroom: Mushroom, mask: np.ndarray, ring: np.ndarray) -> np.ndarray:
    """The key points. (5, 3): x, y in pixels; 2 visible, 1 hidden, 0 outside of the image or none. See POINTS."""
    s, phi = np.meshgrid(KNOTS, np.arange(72) * TURN / 72)
    cap = mushroom.pixels(mushroom.cap.points(s.ravel(), phi.ravel()))
    axis = mushroom.pixels(np.array([[0, 0, 0], [0, 0, 1.0]]))
    up = (axis[1] - axis[0]) / max(np.linalg.norm(axis[1] - axis[0]), 1e-9)
    across = np.array([-up[1], up[0]])
    top = axis[0] + up * ((cap - axis[0]) @ up).max()  # the cap is the same on both sides of its axis
    sides = (cap - axis[0]) @ across
    facing = np.arctan2(mushroom.view[1, 2], mushroom.view[0, 2])
    foot = np.array([[0, 0, -mushroom.length]])
    places = [top, cap[sides.argmin()], cap[sides.argmax()], (np.nan, np.nan), mushroom.pixels(foot)[0]]
    if mushroom.ring:
        places[3] = mushroom.pixels(mushroom.ring.points(np.array([0.5]), np.array([facing])))[0]
    points = np.zeros((len(POINTS), 3))
    for i, (x, y) in enumerate(np.array(places) / 2):
        if 0 <= x < len(mask) and 0 <= y < len(mask):
            column, row = int(x), int(y)
            near = (slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2))
            seen = mask[near].any()
            if POINTS[i] == "ring":
                seen = ring[max(2 * row - 4, 0) : 2 * row + 6, max(2 * column - 4, 0) : 2 * column + 6].any()
            points[i] = round(float(x), 2), round(float(y), 2), 2 if seen else 1
    order = [0, *sorted((1, 2), key=lambda i: points[i, 0]), 3, 4] if points[1:3, 2].all() else range(len(POINTS))
    return points[list(order)]
