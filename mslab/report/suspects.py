"""Images whose label is probably wrong: confident learning (Northcutt, Jiang & Chuang 2021) on a network's features.

features of the run's network -> heads, each fitted without the images that it is asked about -> suspects, in the order
in which a person looks at them. The library cleanlab has much more of this, under the AGPL; these lines are our own.

A network has learned the labels of the images that it was trained on, the wrong ones too, and its features hide some of
them: one that never saw the images finds more.
"""

import csv
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from mslab.check import DatasetReport, check_dataset
from mslab.check.records import printable
from mslab.checkpoint import make_folder, write_text
from mslab.data import sources
from mslab.errors import ConfigError, DatasetError, RunError
from mslab.evaluation import gradcam, measuring
from mslab.inference.predicting import csv_line
from mslab.report.suspect_table import COLUMNS, Suspects
from mslab.runtime import devices
from mslab.runtime.console import log
from mslab.runtime.tables import shown

SEED = 1  # of the folds


def find(
    source: str | Path,
    data_root: str | Path,
    report: DatasetReport | None = None,
    folds: int = 5,
    device: str = "auto",
) -> Suspects:
    """The suspects in every split of a folder, by the features of a run's or checkpoint's network.

    `folds`: so many heads a split, each asked about the images that it was not fitted to; fewer where a class has
    fewer images. Raises DatasetError where the folder's classes are not the network's, or a class has one image.
    """
    report = report or check_dataset(data_root)
    report.raise_errors()
    counts = possible_folds(report, folds)
    taken = devices.start(device, "graph", seed=0)
    loaded = measuring.load_network(source)
    names = measuring.same_classes(loaded, report)
    images = {name: sources.images_of(report, name) for name in report.splits}
    found: list[tuple[dict[str, Any], int]] = []
    for name, split in report.splits.items():
        labels = images[name].labels
        log.info(f"{shown(name or report.root)}: {len(labels)} images, {len(names)} classes, {counts[name]} folds")
        features = gradcam.inspect(loaded, images[name], taken).features
        shares = out_of_sample(features, labels, counts[name])
        classes = confident(shares, labels)
        files = [split.show(picture.name) for c in names for picture in split.classes[c]]  # in the order of `images`
        for i in np.flatnonzero((classes >= 0) & (classes != labels)):
            label, other = labels[i], classes[i]
            words = [files[i], name, printable(names[label]), printable(names[other])]
            values = [*words, float(shares[i, label]), float(shares[i, other]), 0]
            found.append((dict(zip(COLUMNS, values, strict=True)), int(i)))
    # by the label's own probability, lowest first: one figure that a person can read; where labels were swapped on
    # purpose, the margin between both probabilities was no better an order
    found.sort(key=lambda row: (row[0]["p_label"], row[0]["file"]))
    rows = [row | {"rank": rank} for rank, (row, _) in enumerate(found, 1)]
    places = [place for _, place in found]
    return Suspects(rows, printable(str(report.root)), printable(str(loaded.path)), counts, images, places)


def possible_folds(report: DatasetReport, folds: int) -> dict[str, int]:
    """How many folds each split allows: every class in each of them. Says where that is fewer than was asked for."""
    if folds < 2:
        raise ConfigError(f"folds: {folds} is too few.", expected="2 or more", fix="5, where nothing speaks against it")
    possible, alone = {}, []
    for name, classes in report.counts.items():
        smallest = min(classes, key=lambda c: (classes[c], c))
        possible[name] = min(folds, classes[smallest])
        title = shown(name or report.root)
        alone += [(shown(c), f"{n} image in {title}") for c, n in classes.items() if n < 2]
        if 2 <= possible[name] < folds:
            few = f"{shown(smallest)} in {title} has {classes[smallest]} images"
            log.info(f"note: {possible[name]} folds instead of {folds}: {few}")
    if alone:
        raise DatasetError(
            f"{report.root} has classes of a single image: nothing is left to compare it with.",
            details=alone[:10],
            expected="2 images or more of each class in each split, better 5 and more",
            fix="add images, or look at one split alone, such as ROOT/train",
        )
    return possible


def out_of_sample(features: np.ndarray, labels: np.ndarray, folds: int) -> np.ndarray:
    """Probabilities float (n, class_num) of every image by a logistic regression fitted without it.

    features float32 (n, C), labels int (n,); every class has at least `folds` images. The same input, the same output.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, C=0.1))
    cut = StratifiedKFold(folds, shuffle=True, random_state=SEED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a head that is nearly there orders images as well
        shares = cross_val_predict(head, features.astype(np.float64), labels, cv=cut, method="predict_proba")
    return np.asarray(shares)


def confident(shares: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The class that each image confidently is, int (n,); -1 where it is none.

    A class counts from its threshold on: the mean probability that images with this label have of it. Of several, the
    most probable counts. shares float (n, class_num), labels int (n,) in which every class occurs
    """
    # shares [[0.9, 0.1], [0.6, 0.4], [0.8, 0.2], [0.1, 0.9]], labels [0, 0, 1, 1] -> [0, -1, 0, 1]
    thresholds = np.array([shares[labels == j, j].mean() for j in range(shares.shape[1])])
    above = shares >= thresholds
    return np.where(above.any(axis=1), np.where(above, shares, -1).argmax(axis=1), -1)


def write(found: Suspects, out: Path) -> tuple[Path, Path]:
    """Write out/suspects.csv and out/suspects.html. Returns their paths. Raises MslabError where that cannot be."""
    make_folder(out)
    cells = ([f"{v:.6f}" if isinstance(v, float) else str(v) for v in row.values()] for row in found)
    table, page_file = out / "suspects.csv", out / "suspects.html"
    write_text(table, "".join(map(csv_line, [COLUMNS, *cells])))
    write_text(page_file, found.page())
    return table, page_file


def load(folder: str | Path) -> list[dict[str, Any]]:
    """The rows of a folder's suspects.csv, as `find` had them; [] where there is none. Raises RunError for others."""
    path = Path(folder) / "suspects.csv"
    if not path.is_file():
        return []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(csv.reader(file, strict=True))
        if lines[:1] != [COLUMNS]:
            raise ValueError("other columns")
        rows: list[dict[str, Any]] = [dict(zip(COLUMNS, map(plain, line), strict=True)) for line in lines[1:]]
        kinds = {"p_label": float, "p_suggested": float, "rank": int}
        return [row | {key: kind(row[key]) for key, kind in kinds.items()} for row in rows]
    except (ValueError, csv.Error) as error:
        raise RunError(
            f"{path} cannot be read: {error}.",
            expected=f"the columns {', '.join(COLUMNS)}, as mslab suspects writes them",
            fix="call mslab suspects again, or delete it",
        ) from None


def plain(text: str) -> str:
    """A cell as it was before csv_line kept spreadsheets from taking it for a formula."""
    return text[1:] if csv_line([text[1:]]) == csv_line([text]) and text[1:] else text
