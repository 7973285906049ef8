"""Images whose label is probably wrong: confident learning (Northcutt, Jiang & Chuang 2021) on a network's features.

features of the run's network -> heads, each fitted without the images that it judges -> suspects, in the order in
which a person should review them. cleanlab offers much more of this, under the AGPL; this code is independent of it.

A network has learned the labels of its training images, including wrong ones, so its features hide some of them. A
network that never saw the images finds more.
"""

import csv
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from mslab.check import DatasetReport, check_dataset
from mslab.check.records import printable
from mslab.data import sources
from mslab.errors import ConfigError, DatasetError, RunError
from mslab.evaluation import engines, gradcam, measuring, metrics, models
from mslab.files import decode, delimiter_of, for_people, make_folder, read_bytes, write_text
from mslab.inference.predicting import csv_line
from mslab.report.suspect_table import COLUMNS, Suspects
from mslab.runs import lock, weights
from mslab.runtime import devices
from mslab.runtime.console import log
from mslab.runtime.tables import one_line

SEED = 1  # of the folds


def find(
    source: str | Path,
    data_root: str | Path,
    report: DatasetReport | None = None,
    folds: int = 5,
    device: str = "auto",
    engine: str = "auto",
    precision: str = "fp32",
) -> Suspects:
    """Find the suspects in every split of a folder, with the features of a run's or checkpoint's network.

    `folds`: number of heads per split, each of which judges the images that it was not fitted to; reduced to the
    images of the smallest class. Raises DatasetError if the classes are not the network's, or a class has one image.
    """
    weights.refuse_task(source, "suspects compares the class of an image with others")
    report = report or check_dataset(data_root, **weights.reading_of(source))
    report.raise_errors()
    counts = possible_folds(report, folds)
    chosen_device = devices.start(engines.device_for(engine, device), "graph", seed=0)
    model = models.open_weights(source, chosen_device, engine=engine, precision=precision)
    names = measuring.same_classes(model, report)
    images = {name: sources.images_of(report, name) for name in report.splits}
    suspects: list[tuple[dict[str, Any], int]] = []
    for name, split in report.splits.items():
        labels = images[name].labels
        log.info(f"{one_line(name or report.root)}: {len(labels)} images, {len(names)} classes, {counts[name]} folds")
        features = gradcam.inspect(model, images[name]).features
        probabilities = out_of_sample(features, labels, counts[name])
        classes = confident(probabilities, labels)
        files = [split.show(picture.name) for c in names for picture in split.classes[c]]  # in the order of `images`
        for i in np.flatnonzero((classes >= 0) & (classes != labels)):
            label, suggested = labels[i], classes[i]
            texts = [files[i], name, printable(names[label]), printable(names[suggested])]
            values = [*texts, float(probabilities[i, label]), float(probabilities[i, suggested]), 0]
            suspects.append((dict(zip(COLUMNS, values, strict=True)), int(i)))
    # by the label's own probability, lowest first: a single figure that people understand. In tests with swapped
    # labels, sorting by the margin between both probabilities was not better
    suspects.sort(key=lambda row: (row[0]["p_label"], row[0]["file"]))
    rows = [row | {"rank": rank} for rank, (row, _) in enumerate(suspects, 1)]
    positions = [position for _, position in suspects]
    engine_record = model.runner.engine.record()
    return Suspects(
        rows, printable(str(report.root)), printable(str(model.path)), counts, images, positions, engine_record
    )


def possible_folds(report: DatasetReport, folds: int) -> dict[str, int]:
    """Number of folds per split, with every class in each fold. Logs a note if it is less than `folds`."""
    if folds < 2:
        raise ConfigError(f"folds: {folds} is too few.", expected="2 or more", fix="use 5, the default")
    possible, single = {}, []
    for name, classes in report.counts.items():
        smallest = min(classes, key=lambda c: (classes[c], c))
        possible[name] = min(folds, classes[smallest])
        title = one_line(name or report.root)
        single += [(one_line(c), f"{n} image in {title}") for c, n in classes.items() if n < 2]
        if 2 <= possible[name] < folds:
            reason = f"{one_line(smallest)} in {title} has {classes[smallest]} images"
            log.info(f"note: {possible[name]} folds instead of {folds}: {reason}")
    if single:
        raise DatasetError(
            f"{report.root} has classes with a single image, which cannot be compared with others of its class.",
            details=single[:10],
            expected="at least 2 images of each class in each split, better 5 or more",
            fix="add images, or check one split only, such as ROOT/train",
        )
    return possible


def out_of_sample(features: np.ndarray, labels: np.ndarray, folds: int) -> np.ndarray:
    """Probabilities float (n, class_num) of every image, from a logistic regression fitted without that image.

    features float32 (n, C), labels int (n,); every class has at least `folds` images. Deterministic.
    """
    with metrics.scikit_learn():
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import StratifiedKFold, cross_val_predict
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, C=0.1))
    cut = StratifiedKFold(folds, shuffle=True, random_state=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a nearly converged head ranks images well too
        probabilities = cross_val_predict(head, features.astype(np.float64), labels, cv=cut, method="predict_proba")
    return np.asarray(probabilities)


def confident(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The class of each image that is predicted with confidence, int (n,); -1 if there is none.

    A class must reach its threshold: its mean probability over the images with this label. Of several such classes the
    most probable is chosen. probabilities float (n, class_num), labels int (n,) in which every class occurs.
    """
    # probabilities [[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.1, 0.9]], labels [0, 0, 1, 1] -> [0, -1, 0, 1]
    thresholds = np.array([probabilities[labels == j, j].mean() for j in range(probabilities.shape[1])])
    above = probabilities >= thresholds
    return np.where(above.any(axis=1), np.where(above, probabilities, -1).argmax(axis=1), -1)


def write(suspects: Suspects, out: Path) -> tuple[Path, Path]:
    """Write out/suspects.csv and out/suspects.html. Returns their paths. Raises MslabError if that fails."""
    make_folder(out)
    cells = ([f"{v:.6f}" if isinstance(v, float) else str(v) for v in row.values()] for row in suspects)
    table, page_file = out / "suspects.csv", out / "suspects.html"
    with lock.held_around({"--out": out}):
        write_text(table, for_people("".join(map(csv_line, [COLUMNS, *cells]))))
        write_text(page_file, suspects.page())
    return table, page_file


def load(folder: str | Path) -> list[dict[str, Any]]:
    """Read the rows of a folder's suspects.csv; [] without it. Raises RunError if mslab did not write the file."""
    path = Path(folder) / "suspects.csv"
    if not path.is_file():
        return []
    try:
        text = decode(read_bytes(path))
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text), strict=True))
        if lines[:1] != [COLUMNS]:
            raise ValueError("it has other columns")
        rows: list[dict[str, Any]] = [dict(zip(COLUMNS, map(unescape, line), strict=True)) for line in lines[1:]]
        kinds = {"p_label": float, "p_suggested": float, "rank": int}
        return [row | {key: kind(row[key]) for key, kind in kinds.items()} for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(
            f"{path} cannot be read: {error}.",
            expected=f"the columns {', '.join(COLUMNS)}, as mslab suspects writes them",
            fix="run mslab suspects again, or delete the file",
        ) from None


def unescape(text: str) -> str:
    """A cell without the apostrophe that csv_line puts before a formula, so that no spreadsheet runs it."""
    return text[1:] if csv_line([text[1:]]) == csv_line([text]) and text[1:] else text
