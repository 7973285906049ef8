"""A run in a notebook: curves, confusion matrix, mistakes with heat maps, predictions. Each result has an HTML view.

    run = mslab.Run("runs/mushrooms9-20250301-101500")    # reads files only; MindSpore starts when images are needed
    run.history    run.confusion    run.mistakes(6)    run.predict("photo.jpg")    run.suspects()    run.report()

In a terminal each result is a line or a small table. The HTML needs no other files, and names in it are escaped.
"""

import base64
import io
import math
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from easydict import EasyDict
from markupsafe import Markup

from mslab.check import DatasetReport, check_dataset
from mslab.check.report import counted
from mslab.config import tasks
from mslab.errors import DatasetError, RunError
from mslab.escaping import command, escape_control
from mslab.report.markup import shaded, table
from mslab.report.suspect_table import Suspects
from mslab.runs import lock, ranking, weights
from mslab.runs.folder import RunFolder
from mslab.runs.manifest import file_of
from mslab.runs.results import BEST, read_evaluation
from mslab.runtime.tables import empty_table, one_line, render

if TYPE_CHECKING:
    from mslab.data.sources import ImageSource
    from mslab.evaluation import gradcam
    from mslab.evaluation.models import Model
    from mslab.report.answers import Answers

COLUMNS = ("epoch", "lr", "train_loss", "train_acc", "val_loss", "val_acc", "seconds")  # shown columns of the history
SHOWN = 12  # shown rows of the history, the last ones
BARS = 5  # shown classes of a prediction, the most probable ones


class Run:
    """A run folder as it is when this object is made, even while it trains. Raises RunError for other folders."""

    def __init__(self, path: str | os.PathLike[str], device: str = "auto") -> None:
        self._run = RunFolder.read(path)
        self.device = device
        self._inspected: dict[str | None, gradcam.Inspection] = {}
        self._answers: Answers | None = None

    def __fspath__(self) -> str:
        return str(self.path)

    @property
    def path(self) -> Path:
        return self._run.path

    @property
    def config(self) -> EasyDict:
        return EasyDict(self._run.settings.model_dump())

    @property
    def manifest(self) -> dict[str, Any]:
        return self._run.manifest

    @property
    def class_names(self) -> list[str]:
        """The class names in index order."""
        return list(self.manifest["class_names"])

    @property
    def history(self) -> "History":
        """One row per epoch, as in history.csv."""
        rows = History(self._run.history)
        rows.called = ranking.shown(self._run.settings)
        return rows

    @property
    def metrics(self) -> dict[str, Any]:
        """Figures of the best epoch: best_epoch, val_acc, val_loss, linear_acc, and per class precision, recall, F1.

        Of a task, what eval.json has: its figures, and `by_name` those of each class, point or tag.
        """
        best, figures = self._run.best, dict(self.manifest["metrics"])
        if best:
            figures |= ranking.metrics(best, self._run.best_by)
            found = self._figures()
            figures |= {"per_class": found["per_class"]} if self._of_classes else found
        return figures

    @property
    def confusion(self) -> "Confusion":
        """Counts of the best epoch's validation images, int (class_num, class_num): row = true, column = predicted."""
        self._refuse_task("confusion", "metrics")
        figures = self._figures()
        matrix = np.array(figures["confusion"], int).view(Confusion)
        matrix.class_names = self.class_names
        return matrix

    def mistakes(self, n: int = 12, data: str | Path | None = None) -> "Predictions":
        """The n most confident mistakes on the validation images, or on a folder (if it has splits: test, else val)."""
        self._refuse_task("mistakes", "show_answers()")
        inspection = self._inspect(data)
        wrong = inspection.mistakes()
        mistakes = self._predictions(inspection.images, wrong[:n], inspection.probabilities[wrong[:n]], labelled=True)
        mistakes.title = (
            f"{len(mistakes)} of {len(wrong)} mistakes on {len(inspection.images)} images, the most confident first"
        )
        return mistakes

    def predict(self, images: Any) -> "Prediction | Predictions":
        """Predict the class of an image: a path, a file's bytes or a Pillow image. A list of images gives a list.

        Raises DatasetError, with all reasons, if some images cannot be read.
        """
        self._refuse_task("predict", "show_answers()")
        from mslab.data import sources
        from mslab.inference import predicting

        items = list(images) if isinstance(images, list | tuple) else [images]
        with tempfile.TemporaryDirectory() as folder:
            files = [as_file(item, Path(folder) / f"image-{number}") for number, item in enumerate(items)]
            names = [str(item) if isinstance(item, str | Path) else f"image {i}" for i, item in enumerate(items)]
            rows = list(predicting.predict(self._model, files))
            if errors := [
                (one_line(name), row["error"]) for name, row in zip(names, rows, strict=True) if row["error"]
            ]:
                raise DatasetError(
                    f"{len(errors)} of {len(rows)} images cannot be read.",
                    details=errors,
                    expected="files that MindSpore decodes, such as PNG and JPEG",
                    fix="save them again as PNG, or leave them out",
                )
            probabilities = np.array([list(row["probabilities"].values()) for row in rows])
            source = sources.FolderImages(np.zeros(len(files), np.int32), self._model.class_names, files)
            predictions = self._predictions(source, np.arange(len(files)), probabilities, names=names)
        return predictions if isinstance(images, list | tuple) else predictions[0]

    def suspects(self, data: str | Path | None = None, folds: int = 5) -> Suspects:
        """Images whose label is probably wrong, of the run's data or of a folder. Also written to the run folder."""
        self._refuse_task("suspects", "show_answers()")
        from mslab.report import suspects

        report = check_dataset(data, **weights.reading_of(self.path)) if data else self._images()
        result = suspects.find(self.path, report.root, report, folds, self.device)
        suspects.write(result, self.path)
        return result

    def show_answers(self, n: int = 6) -> "ShownAnswers":
        """The n worst answers of a task on the validation images, each as its labels and its answer, drawn."""
        if self._of_classes:
            raise RunError(
                f"{self.path} answers with classes, which are not drawn.",
                expected="a run of another task: detect, segment, keypoints or multilabel",
                fix="run.mistakes() shows the images of its most confident mistakes",
            )
        from mslab.report import answers

        if self._answers is None:
            self._answers = answers.of_run(self._located(), self.device)
        return ShownAnswers(answers.card(self._answers, index) for index in self._answers.order[:n])

    def report(self, lang: str = "") -> Path:
        """Write report.html into the run's folder, in en or zh, by default in the user's language. Returns its path."""
        from mslab.report.writing import write_report

        return write_report([self.path], out=None, lang=lang, device=self.device)

    def __repr__(self) -> str:
        return f"Run {one_line(self.path)}: {self._state()}"

    def _repr_html_(self) -> str:
        text = Markup("<p><strong>{}</strong>: {}</p>").format(one_line(self.path), self._state())
        return escape_control(
            text + (curves(self._run.history, ranking.shown(self._run.settings)) if self._run.history else "")
        )

    def _state(self) -> str:
        run, best = self._run, self._run.best
        text = f"{counted(len(self.class_names), tasks.NOUNS.get(run.settings.task, 'class'))}, {run.epochs_done} of {run.settings.epochs} epochs"
        text += f", {self.manifest['status']}"
        text += f"; {ranking.best_text(best, self._run.best_by, ranking.shown(self._run.settings))}" if best else ""
        linear = self.manifest["metrics"].get("linear_acc")
        return text + (f", a linear model of 8x8 thumbnails has {linear:.3f}" if linear is not None else "")

    def _figures(self) -> dict[str, Any]:
        figures = read_evaluation(self.path, self.class_names, self._run.settings.task)
        if not figures:
            raise RunError(
                f"{self.path} has no eval.json.",
                expected="a run with at least one measured epoch",
                fix=f"{command('report', self.path)}    measures best.ckpt again"
                if file_of(self.path, BEST).is_file()
                else f"{lock.go_on(self.path)}    or choose another run",
            )
        return figures

    # --- methods that need the network ----------------------------------------------------------------------------

    @cached_property
    def _model(self) -> "Model":
        from mslab.inference import predicting

        settings = self._run.settings
        return predicting.open_model(self.path, self.device, engine=settings.engine, precision=settings.precision)

    def _images(self) -> DatasetReport:
        """Check the run's own images. Paths in its config are relative to the folder above runs/, where it started."""
        from mslab.report import validation

        return validation.images_of(self._located())

    def _located(self) -> RunFolder:
        """The run with paths of its images that lead there from here."""
        settings, home = self._run.settings, self.path.resolve().parent.parent
        for key in ("train_data", "val_data") if home != Path.cwd() else ():
            if (folder := home / getattr(settings, key)).exists():
                settings = settings.replace(**{key: str(folder)})
        return RunFolder(self.path, settings, self.manifest)

    @property
    def _of_classes(self) -> bool:
        return self._run.settings.task == tasks.CLASSIFY

    def _refuse_task(self, name: str, instead: str) -> None:
        """Raise RunError for what makes sense for classes only."""
        if not self._of_classes:
            raise RunError(
                f"run.{name} is about images of one class each; {self.path} is of task: {self._run.settings.task}.",
                expected="a run of task: classify",
                fix=f"run.{instead}, or run.report() for the whole page",
            )

    def _inspect(self, root: str | Path | None) -> "gradcam.Inspection":
        """The network's results on the validation images or on a folder of images. Cached."""
        from mslab.data import sources
        from mslab.evaluation import gradcam, measuring

        key = None if root is None else str(root)
        if key not in self._inspected:
            if root is None:
                split, report = "val", self._images()
            else:
                split, report = measuring.measured_split(root, check_dataset(root, **weights.reading_of(self.path)))
            names = measuring.known_classes(self._model, report)
            images = measuring.relabelled(sources.images_of(report, split), names)
            self._inspected[key] = gradcam.inspect(self._model, images)
        return self._inspected[key]

    def _predictions(
        self,
        images: "ImageSource",
        index: np.ndarray,
        probabilities: np.ndarray,
        names: Sequence[str] = (),
        labelled: bool = False,
    ) -> "Predictions":
        """Predictions of the images at `index`, with probabilities float (n, class_num). `names`: of all images."""
        from mslab.evaluation import gradcam

        if not len(index):
            return Predictions()
        names, classes = names or [os.path.normpath(name) for name in images.names()], self._model.class_names
        x = gradcam.network_input(self._model.info, images, index)
        heat = gradcam.heat_maps(self._model, x, probabilities.argmax(axis=1)) if self._model.heat_map else None
        pixels = gradcam.as_pixels(self._model.info, x)
        pictures = gradcam.thumbnails(images, index)
        result = Predictions()
        for row, i in enumerate(index):
            best = int(probabilities[row].argmax())
            p = dict(zip(classes, map(float, probabilities[row]), strict=True))
            overlay = None if heat is None else gradcam.overlay(pixels[row], heat[row])
            true = classes[images.labels[i]] if labelled else None
            result.append(Prediction(names[i], classes[best], p[classes[best]], p, pictures[row], overlay, true))
        return result


def as_file(image: Any, path: Path) -> Path:
    """Return the image's file. Bytes and Pillow images are written to `path` first."""
    if isinstance(image, str | Path):
        return Path(image)
    if isinstance(image, bytes | bytearray):
        path.write_bytes(image)
        return path
    if not hasattr(image, "convert"):
        raise DatasetError(
            f"An object of type {type(image).__name__} is not an image.",
            expected="a path, a file's bytes, a Pillow image, or a list of them",
            fix="for an array: PIL.Image.fromarray(pixels), uint8 (height, width, 3)",
        )
    from mslab.check.worker import on_white

    on_white(image).save(path, "PNG")
    return path


# --- results with an HTML view ----------------------------------------------------------------------------------------


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
            axes.plot(
                *zip(*measured, strict=True),
                style,
                markersize=3,
                label=called if (part, name) == ("val", "acc") else f"{part}_{name}",
            )
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend()
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=100)
    text = base64.b64encode(png.getvalue()).decode()
    return Markup('<img alt="loss and accuracy over epochs" src="data:image/png;base64,{}">').format(text)
