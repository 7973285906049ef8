"""The field marks: one function per mark, which adds a few polygons to a mushroom."""

from collections.abc import Callable

import numpy as np

from mslab.data.mushrooms.shape import TURN, Colour, Mushroom, around, blobs, curve, grid, scatter, strokes


def clearest(background: np.ndarray, pale: Colour, dark: Colour) -> Colour:
    """The one of two colours that has more contrast to a third."""
    return pale if background.mean() < 150 else dark


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
    """Mouths of tubes instead of gills."""
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


def shining(m: Mushroom, ranks: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Points (s, phi) of the cap by how well they reflect the light to the viewer; `ranks`: 0 is the best."""
    s, phi = m.rng.uniform(0.15, 0.9, 60), m.rng.uniform(0, TURN, 60)
    order = np.argsort(-(m.cap.normals(s, phi) @ m.view) @ np.add(m.light, (0, 0, 1)))
    return s[order[ranks]], phi[order[ranks]]


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
    m.ring = skirt
    m.add(skirt, grid(2, 18), (238, 230, 208), both=True, shine=0.08)
    m.add(skirt, grid(1, 18, 0.86, 1.0), (120, 96, 70), lift=0.01, both=True)


def band(m: Mushroom) -> None:
    """A dark sticky ring on the stem."""
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
    """A cobweb from the rim to the stem, rusty at its end."""
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
