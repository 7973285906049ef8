"""What a notebook shows of a run: each result is a line or a small table, and has an HTML view."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from mslab.escaping import escape_control
from mslab.report.markup import shaded, table
from mslab.runtime.tables import empty_table, one_line, render

COLUMNS = ("epoch", "lr", "train_loss", "train_acc", "val_loss", "val_acc", "seconds")  # shown columns of the history
SHOWN = 12  # shown rows of the history, the last ones
BARS = 5  # shown classes of a prediction, the most probable ones


class ShownAnswers(list[dict[str, Any]]):
    """Images with their labels and with a network's answer, the worst first."""

    def __repr__(self) -> str:
        return "\n".join(f"{one_line(row['name'], 40)}: {row['score']:.3f}{wrong(row)}" for row in self)

    def _repr_html_(self) -> str:
        picture = Markup('<img alt="{}" style="width:240px" src="{}">')
        cards = Markup("").join(
            Markup('<div style="overflow-wrap:anywhere"><div>{} {}</div>{} {:.3f}{}</div>').format(
                picture.format("labels", row["truth"]),
                picture.format("answer", row["answer"]),
                one_line(row["name"], 40),
                row["score"],
                wrong(row),
            )
            for row in self
        )
        return escape_control(Markup("<p>left: the labels, right: the answer</p><div>{}</div>").format(cards))


def wrong(row: dict[str, Any]) -> str:
    """What an answer has missed and invented."""
    # wrong({"missed": [("a", 2)], "invented": []}) -> ", missed a x2"
    texts = []
    for key in ("missed", "invented"):
        names = [f"{one_line(name, 24)}{f' x{n}' * (n > 1)}" for name, n in row[key]]
        texts += [f", {key} {', '.join(names)}"] * bool(names)
    return "".join(texts)


class History(list[dict[str, Any]]):
    """One row per epoch."""

    called = "val_acc"  # how people call that column

    @property
    def columns(self) -> list[str]:
        """The shown ones, with those of best_by."""
        more = [name for name in (self[0] if self else ()) if name.startswith("val_") and name not in COLUMNS]
        return [*COLUMNS[:-1], *more, COLUMNS[-1]]

    @property
    def titles(self) -> list[str]:
        return [self.called if name == "val_acc" else name for name in self.columns]

    def __repr__(self) -> str:
        if not self:
            return "no epoch was completed"
        grid = empty_table(None, self.titles, left=self.titles)
        for row in self[-SHOWN:]:
            grid.add_row(*(number(row[key]) for key in self.columns))
        return "\n".join([f"… {len(self) - SHOWN} epochs before"] * (len(self) > SHOWN) + [render(grid)])

    def _repr_html_(self) -> str:
        if not self:
            return "<p>no epoch was completed</p>"
        before = Markup("<p>… {} epochs before</p>").format(len(self) - SHOWN) if len(self) > SHOWN else ""
        rows = [[number(row[key]) for key in self.columns] for row in self[-SHOWN:]]
        return escape_control(curves(self, self.called) + before + table(self.titles, rows))


class Confusion(np.ndarray):
    """Counts, row = true class, column = predicted: an array that a notebook shows as a table with class names."""

    class_names: Sequence[str] = ()

    def __array_finalize__(self, source: Any) -> None:
        self.class_names = getattr(source, "class_names", ())

    def _repr_html_(self) -> str | None:
        if self.shape != (len(self.class_names),) * 2:
            return None  # a slice of the matrix
        names = [one_line(name, 24) for name in self.class_names]
        counts = np.asarray(self)
        depths = np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))  # so that a rare mistake is visible
        rows = [
            [name, *(shaded(n, depth) for n, depth in zip(*both, strict=True))]
            for name, *both in zip(names, counts.tolist(), depths.tolist(), strict=True)
        ]
        return escape_control(table(["true \\ predicted", *names], rows))


@dataclass(frozen=True, repr=False)
class Prediction:
    """The network's result for one image."""

    file: str  # "image 0" for bytes and Pillow images
    class_name: str
    probability: float
    probabilities: dict[str, float]  # of every class
    picture: Any  # a Pillow image of at most 112 pixels
    heat_map: Any  # its input, with warm colours on the parts that support class_name; None without a feature map
    true_name: str | None = None  # its label, if it has one

    def __repr__(self) -> str:
        true = f", labelled {one_line(self.true_name)}" if self.true_name is not None else ""
        return f"{one_line(self.file, 40)}: {one_line(self.class_name)} {self.probability:.3f}{true}"

    def _repr_html_(self) -> str:
        from mslab.evaluation.gradcam import data_uri

        frame = Markup('<img alt="" style="width:112px;height:112px;object-fit:contain" src="{}">')
        pictures = (frame.format(data_uri(picture)) for picture in filter(None, (self.picture, self.heat_map)))
        most = sorted(self.probabilities.items(), key=lambda item: -item[1])[:BARS]
        bars = Markup("").join(
            Markup(
                '<div style="display:grid;grid-template-columns:8em 5em 3em;gap:.4em;line-height:1.3">'
                '<span>{}</span><span style="background:#3584e4;width:{:.0f}%"></span><span>{:.3f}</span></div>'
            ).format(one_line(name, 24), 100 * p, p)
            for name, p in most
        )
        true = Markup(", labelled <strong>{}</strong>").format(self.true_name) if self.true_name is not None else ""
        card = Markup(
            '<div style="width:17em;overflow-wrap:anywhere"><div style="display:flex;gap:4px">{}</div>'
            "<strong>{}</strong> {:.3f}{}<div><small>{}</small></div>{}</div>"
        )
        texts = one_line(self.class_name), self.probability, true, one_line(self.file, 40)
        return escape_control(card.format(Markup("").join(pictures), *texts, bars))


class Predictions(list[Prediction]):
    title = ""

    def __repr__(self) -> str:
        return "\n".join([self.title] * bool(self.title) + [f"  {item!r}" for item in self])

    def _repr_html_(self) -> str:
        cards = Markup("").join(Markup(item._repr_html_()) for item in self)
        page = Markup('<p>{}</p><div style="display:flex;flex-wrap:wrap;gap:1em">{}</div>')
        return escape_control(page.format(self.title, cards))


def number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"


def curves(rows: Sequence[dict[str, Any]], called: str = "val_acc") -> Markup:
    """A picture of loss and accuracy over the epochs."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.6), layout="constrained")
    for axes, name in zip(figure.subplots(1, 2), ("loss", "acc"), strict=True):
        for part, style in (("train", "o--"), ("val", "o-")):
            measured = [(row["epoch"], row[f"{part}_{name}"]) for row in rows if not math.isnan(row[f"{part}_{name}"])]
            label = called if (part, name) == ("val", "acc") else f"{part}_{name}"
            axes.plot(*zip(*measured, strict=True), style, markersize=3, label=label)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=100)
    text = base64.b64encode(png.getvalue()).decode()
    return Markup('<img alt="loss and accuracy over epochs" src="data:image/png;base64,{}">').format(text)
