"""Show images whose label is probably wrong: in a terminal, in a notebook, on a page. Needs no MindSpore."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment
from markupsafe import Markup

from mslab.escaping import escape_control
from mslab.report import markup
from mslab.runtime.tables import cell, empty_table, one_line, render

if TYPE_CHECKING:
    from mslab.data import sources

COLUMNS = ["file", "split", "label", "suggested", "p_label", "p_suggested", "rank"]  # of suspects.csv
PICTURED = 200  # suspects on the page; a thumbnail has about 3 kB
LISTED = 20  # suspects in the terminal
ADVICE = "suspects are for a person to review; nothing was changed"


class Suspects(list[dict[str, Any]]):
    """Rows with the keys of COLUMNS, the least credible label first, with their images. Has a text and an HTML view."""

    def __init__(
        self,
        rows: list[dict[str, Any]],
        root: str,
        checkpoint: str,
        folds: dict[str, int],  # of each split
        images: "dict[str, sources.ImageSource]",  # of each split
        positions: list[int],  # of each row: the position of its image in its split
        engine: dict[str, str] | None = None,  # what computed the features, as Engine.record gives it
    ) -> None:
        super().__init__(rows)
        self.root, self.checkpoint, self.folds, self.images, self.positions = root, checkpoint, folds, images, positions
        self.engine = engine

    @property
    def total(self) -> int:
        return sum(map(len, self.images.values()))

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `mslab suspects --json`."""
        return {
            "schema": 1,
            "data": self.root,
            "checkpoint": self.checkpoint,
            "engine": self.engine,
            "images": {name: len(images) for name, images in self.images.items()},
            "folds": self.folds,
            "suspects": list(self),
        }

    def summary(self) -> str:
        """One sentence: number of suspects and of images, and the most frequent labels."""
        if not self:
            return f"no suspects among {self.total} images: no label is less credible than the others of its class"
        labels = Counter(row["label"] for row in self)
        most = ", ".join(f"{one_line(name)} {count}" for name, count in labels.most_common(5))
        return f"{len(self)} suspects among {self.total} images ({most}{', …' if len(labels) > 5 else ''})"

    def pictures(self, most: int) -> list[str]:
        """Thumbnails of the first suspects, for the src of a page's images."""
        from mslab.evaluation import gradcam

        rows = self[:most]
        texts = [""] * len(rows)
        for name, images in self.images.items():
            own = [i for i, row in enumerate(rows) if row["split"] == name]
            for i, thumbnail in zip(own, gradcam.thumbnails(images, [self.positions[i] for i in own]), strict=True):
                texts[i] = gradcam.data_uri(thumbnail)
        return texts

    def page(self) -> str:
        """The page's HTML: thumbnails with label, suggestion and probabilities. Names are escaped."""
        rows = list(zip(self, self.pictures(PICTURED), strict=False))
        file = Path(__file__).with_name("suspects.html")
        template = Environment(autoescape=True).from_string(file.read_text("utf-8"))
        page = template.render(suspects=self, rows=rows, more=len(self) - len(rows), summary=self.summary())
        return escape_control(page)

    def __repr__(self) -> str:
        """The first suspects as a table, with a summary."""
        names = ("file", "label", "suggested")
        columns = [*names, "p(label)", "p(suggested)"]
        grid = empty_table(None, columns, names, ("p(suggested)", "p(label)"), "suspects.csv")
        for row in self[:LISTED]:
            grid.add_row(*(cell(row[key]) for key in names), f"{row['p_label']:.3f}", f"{row['p_suggested']:.3f}")
        if not self:
            return self.summary()
        more = [f"… and {len(self) - LISTED} more in suspects.csv"] * (len(self) > LISTED)
        return "\n".join([render(grid), *more, self.summary(), ADVICE])

    def _repr_html_(self) -> str:
        rows = [
            [
                Markup('<img alt="" src="{}" style="height:56px">').format(picture),
                *(one_line(row[key]) for key in ("file", "label", "suggested")),
                *(f"{row[key]:.3f}" for key in ("p_label", "p_suggested")),
            ]
            for row, picture in zip(self, self.pictures(LISTED), strict=False)
        ]
        text = f"{self.summary()}{f'; {ADVICE}' if rows else ''}"
        head = ("", "file", "label", "suggested", "p(label)", "p(suggested)")
        return escape_control(Markup("<p>{}</p>").format(text) + (markup.table(head, rows) if rows else ""))
