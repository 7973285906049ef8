"""A run in a notebook: curves, confusion matrix, mistakes with heat maps, predictions. Each result has an HTML view.

    run = mslab.Run("runs/mushrooms9-20250301-101500")    # reads files only; MindSpore starts when images are needed
    run.history    run.confusion    run.mistakes(6)    run.predict("photo.jpg")    run.suspects()    run.report()

In a terminal each result is a line or a small table. The HTML needs no other files, and names in it are escaped.
"""

import os
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from easydict import EasyDict
from markupsafe import Markup

from mslab.check import DatasetReport, check_dataset
from mslab.check.report import counted
from mslab.config import tasks
from mslab.config.tasks import CLASSIFY
from mslab.errors import DatasetError, RunError
from mslab.escaping import command, escape_control
from mslab.report.suspect_table import Suspects
from mslab.report.views import Confusion, History, Prediction, Predictions, ShownAnswers, curves
from mslab.runs import lock, ranking, weights
from mslab.runs.folder import RunFolder
from mslab.runs.manifest import file_of
from mslab.runs.results import BEST, read_evaluation
from mslab.runtime.tables import one_line

if TYPE_CHECKING:
    from mslab.data.sources import ImageSource
    from mslab.evaluation import gradcam
    from mslab.evaluation.models import Model
    from mslab.evaluation.task_models import TaskModel
    from mslab.report.answers import Answers
    from mslab.report.task_notebook import TaskPrediction, TaskPredictions


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

    def predict(self, images: Any) -> "Prediction | Predictions | TaskPrediction | TaskPredictions":
        """Predict the class of an image: a path, a file's bytes or a Pillow image. A list of images gives a list.

        A run of a task answers with what it found: `.row`, as `mslab predict --json` has it, and `.picture`.

        Raises DatasetError, with all reasons, if some images cannot be read.
        """
        from mslab.data import sources
        from mslab.inference import predicting

        items = list(images) if isinstance(images, list | tuple) else [images]
        with tempfile.TemporaryDirectory() as folder:
            files = [as_file(item, Path(folder) / f"image-{number}") for number, item in enumerate(items)]
            names = [str(item) if isinstance(item, str | Path) else f"image {i}" for i, item in enumerate(items)]
            if self._run.settings.task != CLASSIFY:
                from mslab.report import task_notebook

                found, problems = task_notebook.answers(self._task_model, files, names)
                refuse_unreadable(names, problems)
                return found if isinstance(images, list | tuple) else found[0]
            rows = list(predicting.predict(self._model, files))
            refuse_unreadable(names, [row["error"] for row in rows])
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
        rows, called = self._run.history, ranking.shown(self._run.settings)
        return escape_control(text + (curves(rows, called) if rows else ""))

    def _state(self) -> str:
        run, best = self._run, self._run.best
        text = counted(len(self.class_names), tasks.NOUNS.get(run.settings.task, "class"))
        text += f", {run.epochs_done} of {run.settings.epochs} epochs"
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

    @cached_property
    def _task_model(self) -> "TaskModel":
        from mslab.report import task_notebook

        settings = self._run.settings
        return task_notebook.open_model(self.path, self.device, settings.engine, settings.precision)

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


def refuse_unreadable(names: Sequence[str], problems: Sequence[str]) -> None:
    """Raise DatasetError if there is a problem with an image."""
    if errors := [(one_line(name), text) for name, text in zip(names, problems, strict=True) if text]:
        raise DatasetError(
            f"{len(errors)} of {len(names)} images cannot be read.",
            details=errors,
            expected="files that MindSpore decodes, such as PNG and JPEG",
            fix="save them again as PNG, or leave them out",
        )


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
