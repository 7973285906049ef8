"""Charts for the report as SVG without scripts: tooltips show values; series also differ in dash and marker.

Colours are CSS classes (c0, c1, …) that the page defines for light and dark mode. Names and texts are escaped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 640, 260  # of a line chart, in the units of its viewBox
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 34
DASHES = ("", "6 4", "2 3", "10 3 2 3")
COLOURS = 8
SHAPES = (  # SVG paths around 0, 0; filled
    "M-4,0a4,4 0 1,0 8,0a4,4 0 1,0 -8,0",  # disc
    "M-3.5,-3.5h7v7h-7z",  # square
    "M0,-4.5L4.5,3.5H-4.5z",  # triangle
    "M0,-5L5,0L0,5L-5,0z",  # diamond
    "M-4,-1.3h2.7v-2.7h2.6v2.7h2.7v2.6h-2.7v2.7h-2.6v-2.7h-2.7z",  # plus
    "M0,4.5L4.5,-3.5H-4.5z",  # triangle on its tip
    "M-4.5,-1.5h9v3h-9z",  # bar
)


@dataclass
class Series:
    name: str
    x: Sequence[float]
    y: Sequence[float]  # NaN where there is no value
    style: int = 0


@dataclass
class Axes:
    """Convert values to coordinates in the picture."""

    low: tuple[float, float]
    high: tuple[float, float]
    size: tuple[int, int] = (WIDTH, HEIGHT)
    margins: tuple[int, int, int, int] = (LEFT, RIGHT, TOP, BOTTOM)

    def x(self, value: float) -> float:
        left, right, _, _ = self.margins
        return round(left + (value - self.low[0]) / (self.high[0] - self.low[0]) * (self.size[0] - left - right), 1)

    def y(self, value: float) -> float:
        _, _, top, bottom = self.margins
        inside = self.size[1] - top - bottom
        return round(top + (self.high[1] - value) / (self.high[1] - self.low[1]) * inside, 1)

    def path(self, x: Sequence[float], y: Sequence[float]) -> str:
        """The `points` of a line; NaN and infinite values are left out."""
        return " ".join(f"{self.x(a)},{self.y(b)}" for a, b in zip(x, y, strict=True) if np.isfinite(b))


def ticks(low: float, high: float, count: int = 5, integers: bool = False) -> list[float]:
    """About `count` round numbers that span low to high. Steps are 1, 2, 2.5 or 5 times a power of ten."""
    # ticks(0.31, 0.86) -> [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    rough = max(high - low, 1e-12) / count
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(f * power for f in (1, 2, 2.5, 5, 10) if f * power >= rough * 0.75)
    step = max(1.0, np.ceil(step)) if integers else step
    first, last = np.floor(low / step + 1e-9), np.ceil(high / step - 1e-9)
    return [round(float(n * step), 12) for n in np.arange(first, last + 1)]


def number(value: float) -> str:
    return f"{value:.4g}"


def svg(size: tuple[int, int], title: str, parts: Sequence[str], css: str = "chart") -> Markup:
    """A picture. Screen readers read its title; tables beside it contain the numbers."""
    return Markup('<svg class="{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        css, *size, title, Markup("\n".join(parts))
    )


def line_chart(
    series: Sequence[Series],
    title: str,
    xlabel: str,
    marks: Sequence[tuple[float, str]] = (),
    bounds: tuple[float, float] | None = None,
    hover: bool = True,
) -> Markup:
    """Lines over epochs. `marks`: (x, text) of vertical lines; `bounds`: lowest and highest y.

    `hover`: show all values of an epoch in one tooltip.
    """
    values = [v for s in series for v in s.y if np.isfinite(v)]
    if not values:
        return Markup("")
    xs = sorted({x for s in series for x in s.x})
    low, high = bounds or (min(values), max(values))
    steps = ticks(low, high if high > low else low + 1)
    low_x, high_x = (xs[0], xs[-1]) if xs[-1] > xs[0] else (xs[0] - 1, xs[0] + 1)
    axes = Axes((low_x, min(steps[0], low)), (high_x, max(steps[-1], high)))
    parts = frame(axes, [t for t in ticks(low_x, high_x, 8, integers=True) if low_x <= t <= high_x], steps, xlabel)
    for value, text in marks:
        x = axes.x(value)
        anchor, text_x = ("end", x - 4) if x > WIDTH / 2 else ("start", x + 4)
        parts.append(f'<line class="mark" x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(f'<text class="mark" x="{text_x}" y="{TOP + 10}" text-anchor="{anchor}">{escape(text)}</text>')
    for s in series:
        colour, dash = s.style % COLOURS, DASHES[s.style // COLOURS % len(DASHES)] or DASHES[s.style % len(DASHES)]
        points = axes.path(s.x, s.y)
        parts.append(
            f'<g class="line c{colour}"><title>{escape(s.name)}</title>'
            f'<polyline points="{points}" stroke-dasharray="{dash}"/>'
        )
        if len(s.x) <= 40:
            shape = SHAPES[s.style % len(SHAPES)]
            for point in points.split():
                parts.append(f'<path d="{shape}" transform="translate({point}) scale(.7)"/>')
        parts.append("</g>")
    if hover:
        parts += columns(axes, xs, series, xlabel)
    return svg((WIDTH, HEIGHT), title, parts)


def columns(axes: Axes, xs: Sequence[float], series: Sequence[Series], xlabel: str) -> list[str]:
    """An invisible column over every x, whose tooltip lists the values of all series at x."""
    tables = [dict(zip(s.x, s.y, strict=True)) for s in series]
    half = (axes.x(xs[1]) - axes.x(xs[0])) / 2 if len(xs) > 1 else 40
    parts = []
    for x in xs:
        lines = [f"{xlabel} {number(x)}"]
        lines += [
            f"{s.name}: {number(t[x])}" for s, t in zip(series, tables, strict=True) if np.isfinite(t.get(x, np.nan))
        ]
        parts.append(
            f'<rect class="hover" x="{axes.x(x) - half:.1f}" y="{TOP}" width="{2 * half:.1f}" '
            f'height="{HEIGHT - TOP - BOTTOM}"><title>{escape(chr(10).join(lines))}</title></rect>'
        )
    return parts


def frame(axes: Axes, x_ticks: Sequence[float], y_ticks: Sequence[float], xlabel: str) -> list[str]:
    """Grid lines with tick labels, and the label of the x axis."""
    width, height = axes.size
    left, right, _, bottom = axes.margins
    parts = []
    for tick in y_ticks:
        y = axes.y(tick)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{number(tick)}</text>')
    for tick in x_ticks:
        parts.append(f'<text x="{axes.x(tick)}" y="{height - bottom + 15}" text-anchor="middle">{number(tick)}</text>')
    middle = (left + width - right) / 2
    parts.append(f'<text x="{middle}" y="{height - 4}" text-anchor="middle">{escape(xlabel)}</text>')
    return parts


def sample(style: int) -> Markup:
    """The line and marker of a series, for its legend."""
    dash = DASHES[style // COLOURS % len(DASHES)] or DASHES[style % len(DASHES)]
    return Markup(
        '<svg class="sample c{}" viewBox="0 0 34 12" aria-hidden="true"><g class="line c{}">'
        '<line x1="1" x2="33" y1="6" y2="6" stroke-dasharray="{}"/>'
        '<path d="{}" transform="translate(17,6) scale(.8)"/></g></svg>'
    ).format(style % COLOURS, style % COLOURS, dash, SHAPES[style % len(SHAPES)])


def square_chart(x: np.ndarray, y: np.ndarray, title: str, diagonal: bool) -> Markup:
    """A small curve in the unit square: ROC, or precision over recall. At most 80 points are drawn."""
    axes = Axes((0, 0), (1, 1), (150, 150), (26, 6, 6, 22))
    drawn = np.unique(np.linspace(0, len(x) - 1, 80).round().astype(int))
    parts = frame(axes, [0, 1], [0, 0.5, 1], "")
    if diagonal:
        parts.append(f'<polyline class="guide" points="{axes.path([0, 1], [0, 1])}"/>')
    parts.append(f'<g class="line c0"><polyline points="{axes.path(x[drawn].tolist(), y[drawn].tolist())}"/></g>')
    return svg(axes.size, title, parts, "small")


def reliability_chart(
    bins: Sequence[tuple[float, float, float, int]], title: str, xlabel: str, tips: Sequence[str]
) -> Markup:
    """Accuracy per bin of certainty. bins: (low, high, accuracy, images). Perfect calibration is on the diagonal."""
    axes = Axes((0, 0), (1, 1), (300, 260), (LEFT, RIGHT, TOP, BOTTOM))
    fifths = [0, 0.2, 0.4, 0.6, 0.8, 1]
    parts = frame(axes, fifths, fifths, xlabel)
    for (low, high, accuracy, images), tip in zip(bins, tips, strict=True):
        if images:
            x, y = axes.x(low), axes.y(accuracy)
            parts.append(
                f'<rect class="bar" x="{x}" y="{y}" width="{axes.x(high) - x - 1:.1f}" height="{axes.y(0) - y:.1f}">'
                f"<title>{escape(tip)}</title></rect>"
            )
    parts.append(f'<polyline class="guide" points="{axes.path([0, 1], [0, 1])}"/>')
    return svg(axes.size, title, parts, "half")


def histogram(counts: Sequence[int], edges: Sequence[float], title: str, xlabel: str, tips: Sequence[str]) -> Markup:
    """Number of values per bin. counts (n,), edges (n + 1,) increasing, tips (n,): a tooltip per bin."""
    steps = ticks(0, max(*counts, 1), integers=True)
    axes = Axes((edges[0], 0), (edges[-1], steps[-1]))
    parts = frame(axes, edges, steps, xlabel)
    for count, low, high, tip in zip(counts, edges, edges[1:], tips, strict=False):
        x, y = axes.x(low) + 1, axes.y(count)
        parts.append(
            f'<rect class="bar" x="{x:.1f}" y="{y}" width="{axes.x(high) - x - 1:.1f}" height="{axes.y(0) - y:.1f}">'
            f"<title>{escape(tip)}</title></rect>"
        )
    return svg(axes.size, title, parts)


def scatter(points: np.ndarray, styles: Sequence[int], tips: Sequence[str], title: str) -> Markup:
    """Scatter plot of points, float (n, 2), each with the marker of its class and a tooltip."""
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1)
    axes = Axes(tuple(low - 0.04 * span), tuple(high + 0.04 * span), (420, 360), (4, 4, 4, 4))
    parts = ['<rect class="ground" width="420" height="360"/>']
    for (x, y), style, tip in zip(points, styles, tips, strict=True):
        parts.append(
            f'<path class="dot c{style % COLOURS}" d="{SHAPES[style % len(SHAPES)]}" '
            f'transform="translate({axes.x(x)},{axes.y(y)})"><title>{escape(tip)}</title></path>'
        )
    return svg(axes.size, title, parts, "half")


def marker(style: int) -> Markup:
    """The marker of a class, for the scatter's legend."""
    return Markup(
        '<svg class="sample" viewBox="-6 -6 12 12" aria-hidden="true"><path class="dot c{}" d="{}"/></svg>'
    ).format(style % COLOURS, SHAPES[style % len(SHAPES)])
