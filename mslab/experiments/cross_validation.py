"""`mslab repeat --folds`: a training per fold; what each network says of the images that it was not trained on."""

import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mslab import files
from mslab.check import DatasetReport
from mslab.check.tabular import is_table
from mslab.config import Settings, paths
from mslab.config.tasks import CLASSIFY
from mslab.errors import ConfigError, DatasetError
from mslab.escaping import command
from mslab.experiments import repeating
from mslab.experiments.repeating import METRICS, Repetition, run_all
from mslab.runs.folder import RunFolder
from mslab.runtime.tables import fold

log = logging.getLogger("mslab")
PREDICTIONS = "out-of-fold.csv"
LAST = {"last_acc": "validation accuracy, last epoch"}  # the best epoch is chosen on the images that measure it
EXPECTED = "the folder of mslab data split --folds: fold1/train.csv, fold1/val.csv, fold2/…"


def find_folds(folder: Path) -> list[tuple[Path, Path]]:
    """(train, val) of each fold, in order. Raises DatasetError if the folder is not one of folds."""
    kind = files.kind_of(folder, links=True)
    if not kind:
        make = f"{command('data', 'split', 'ROOT', '--folds', '5', '--out', folder)}    makes it"
        wanted = paths.Wanted("folder of folds", EXPECTED, lambda path: (path / "fold1").is_dir())
        raise paths.missing(folder, DatasetError, wanted, make)
    names = sorted((p.name for p in folder.glob("fold*") if re.fullmatch(r"fold\d+", p.name)), key=lambda n: int(n[4:]))
    pairs = [(folder / name / "train.csv", folder / name / "val.csv") for name in names]
    missing = [str(path) for pair in pairs for path in pair if not is_table(path)]
    if names != [f"fold{number}" for number in range(1, len(names) + 1)]:
        missing += [f"a fold between {names[0]} and {names[-1]}"]
    if missing or len(pairs) < 2:
        what = f"lacks {paths.listed(missing)}" if missing else "has no folds"
        new = command("data", "split", "ROOT", "--folds", "5", "--out", f"{folder}-again")
        raise DatasetError(f"{folder} {what}.", expected=EXPECTED, fix=f"restore it, or make folds again: {new}")
    return pairs


def refuse_task(settings: Settings) -> None:
    """Raise ConfigError for a task with labels of its own: the tables of folds say one class an image."""
    if settings.task != CLASSIFY:
        raise ConfigError(
            f"--folds divides images of classes, and task: {settings.task} has labels of its own.",
            expected=f"task: {CLASSIFY}, or several seeds on the same images",
            fix="--seeds 5 in place of --folds; or a data set for each fold, each with a run of its own",
        )


@dataclass
class OutOfFold:
    """Rows of out-of-fold.csv: one for each image that a network was not trained on."""

    rows: list[list[str]] = field(default_factory=list)
    class_names: list[str] = field(default_factory=list)

    def add(self, run: RunFolder, report: DatasetReport, number: int) -> None:
        """Predict the validation images with the run's best.ckpt."""
        from mslab.data.sources import images_of
        from mslab.evaluation import gradcam, measuring, metrics, temperature

        loaded = measuring.load_network(run.path)
        size = run.settings.validation_batch_size or run.settings.batch_size
        images = images_of(report, "val")
        batches, own = gradcam.batches(loaded.info, images, size), temperature.of(loaded.info)
        self.class_names = report.class_names
        names = iter(images.names())
        for logits, labels in measuring.predict_logits(loaded.network, batches, size):
            for row, label in zip(metrics.probabilities(logits, own), labels, strict=True):
                best = int(row.argmax())
                texts = [f"{value:.6f}" for value in (row[best], *row)]
                answer = [self.class_names[int(label)], self.class_names[best], *texts]
                self.rows.append([os.path.normpath(next(names)), str(number), *answer])

    def to_csv(self) -> str:
        """file, fold, label, class, probability, then p(CLASS) of each class."""
        from mslab.inference.predicting import csv_line

        header = ["file", "fold", "label", "class", "probability", *(f"p({name})" for name in self.class_names)]
        return files.for_people("".join(map(csv_line, [header, *self.rows])))

    def summary(self) -> dict[str, Any]:
        """Accuracy of all images together, with Wilson's interval of independent images."""
        from mslab.evaluation import metrics

        correct = sum(row[2] == row[3] for row in self.rows)
        low, high = metrics.interval(correct, len(self.rows))
        accuracy = correct / len(self.rows) if self.rows else None
        return {"images": len(self.rows), "accuracy": accuracy, "low": low, "high": high}


def cross_validate(
    config: Settings,
    folds: Sequence[tuple[Path, Path]],
    reports: Sequence[DatasetReport],
    name: str,
    backbone: object = None,
    test: DatasetReport | None = None,
) -> dict[str, Any]:
    """Train on the folds' tables, with the config's seed; with a backbone, each is a transfer.

    Leaves what repeating.repeat leaves, and out-of-fold.csv. Returns the content of repeat.json.
    """
    repetitions = [
        Repetition("fold", number, config.replace(train_data=str(train), val_data=str(val)), report)
        for number, ((train, val), report) in enumerate(zip(folds, reports, strict=True), 1)
    ]
    predictions = OutOfFold()

    def after(run: RunFolder, repetition: Repetition, row: dict[str, Any]) -> None:
        predictions.add(run, repetition.report, repetition.number)
        row["last_acc"] = run.history[-1]["val_acc"]
        files.write_text(run.path.parent / PREDICTIONS, predictions.to_csv())

    result = run_all(config, repetitions, name, backbone, test, METRICS | LAST, after)
    folder = Path(result["folder"])
    result["folds"] = str(folds[0][0].parent.parent)
    result["out_of_fold"] = predictions.summary() | {"file": PREDICTIONS}
    files.write_text(folder / "repeat.json", files.json_text(result))
    log.info(f"{folder / PREDICTIONS}: what each network says of the images that it was not trained on")
    return result


def table(result: dict[str, Any]) -> str:
    """The figures of the folds, and that of all images together."""
    together = result["out_of_fold"]
    line = f"out of fold: accuracy {together['accuracy']:.4f} on {together['images']} images"
    line += f" ({together['low']:.4f} to {together['high']:.4f}), each by the network that was not trained on it"
    text = "the interval above takes the folds for independent, which share training images: it is too narrow"
    return f"{repeating.table(result, METRICS | LAST)}\n\n{fold(line)}\n{fold(text)}"
