"""Logits -> metrics, and the linear baseline to compare them with. NumPy and scikit-learn, no MindSpore."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from mslab.runtime.packages import scikit_learn

log = logging.getLogger("mslab")


def confusion(labels: np.ndarray, predicted: np.ndarray, class_num: int) -> np.ndarray:
    """Confusion matrix, int (class_num, class_num)."""
    # confusion([0, 1, 1], [0, 0, 1], 2) -> [[1, 0], [1, 1]]  (row = true, column = predicted)
    matrix = np.zeros((class_num, class_num), int)
    np.add.at(matrix, (np.asarray(labels), np.asarray(predicted)), 1)
    return matrix


def probabilities(logits: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Softmax of logits / temperature (temperature.py). float (N, C) -> float64 (N, C), rows of sum 1."""
    e = np.exp((logits.astype(np.float64) - logits.max(axis=1, keepdims=True)) / temperature)
    return e / e.sum(axis=1, keepdims=True)


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log(softmax(logits)[label]); NaN if a logit is not finite. logits (n, class_num), labels (n,)."""
    if not np.isfinite(logits).all():
        return float("nan")
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-log_softmax[np.arange(len(labels)), labels].mean())


TOP = 5  # top5_accuracy counts a label among this many highest logits as correct


def hits(logits: np.ndarray, targets: np.ndarray) -> int:
    """Number of correct predictions: the highest logit's class is the label, or the largest soft label.

    logits (n, class_num), targets int (n,) or soft labels float (n, class_num)
    """
    labels = targets if targets.ndim == 1 else targets.argmax(axis=1)
    return int((logits.argmax(axis=1) == labels).sum())


def counts(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Confusion matrix, sum of losses and top-5 hits: the input of `figures`, additive over batches and workers.

    logits (n, class_num), labels (n,) -> float64 (class_num * class_num + 2,)
    """
    matrix = confusion(labels, logits.argmax(axis=1), logits.shape[1])
    top = np.argsort(-logits, axis=1, kind="stable")[:, :TOP]
    sums = [cross_entropy(logits, labels) * len(labels), (top == labels[:, None]).sum()]
    return np.concatenate([matrix.ravel(), sums]).astype(np.float64)


def figures(total: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Accuracy, per-class precision, recall, F1 and support, confusion matrix. `total`: a sum of `counts`.

    With more than 5 classes also top5_accuracy: the fraction of images whose class is among the 5 most probable.
    A class without images has no figures: None.
    """
    matrix = total[:-2].reshape(len(class_names), -1)  # row = true, column = predicted
    correct, support, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)

    def ratio(part: np.ndarray, total: np.ndarray) -> np.ndarray:
        return np.divide(part, total, out=np.zeros_like(part), where=total > 0)

    columns = ratio(correct, predicted), ratio(correct, support), ratio(2 * correct, predicted + support)
    top = {"top5_accuracy": float(total[-1] / support.sum())} if len(class_names) > TOP else {}
    return {
        "images": int(support.sum()),
        "accuracy": float(correct.sum() / support.sum()),
        **top,
        "loss": float(total[-2] / support.sum()),
        "class_names": list(class_names),
        "per_class": {
            name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
            if s
            else {"precision": None, "recall": None, "f1": None, "support": 0}
            for name, p, r, f, s in zip(class_names, *columns, support, strict=True)
        },
        "confusion": matrix.astype(int).tolist(),
    }


def interval(correct: float, total: float) -> tuple[float, float]:
    """95 % confidence interval of correct / total of independent images (Wilson 1927); (0, 1) if total is 0."""
    # interval(9, 10) -> (0.596, 0.982)
    if total <= 0:
        return 0.0, 1.0
    z2, fraction = 1.959964**2, correct / total
    middle = (fraction + z2 / (2 * total)) / (1 + z2 / total)
    half = np.sqrt(z2 * fraction * (1 - fraction) / total + z2**2 / (4 * total**2)) / (1 + z2 / total)
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def f1_intervals(matrix: np.ndarray, draws: int = 1000) -> np.ndarray:
    """95 % interval of each class's F1, float (C, 2), by the bootstrap (Efron 1979) with `draws` samples.

    Images drawn with replacement have multinomial counts in the confusion matrix. matrix int (C, C)
    """
    total, classes = matrix.sum(), len(matrix)
    rng, values = np.random.default_rng(0), np.empty((draws, classes))
    for start in range(0, draws, step := max(1, 4_000_000 // classes**2)):
        count = min(step, draws - start)
        samples = rng.multinomial(total, matrix.ravel() / total, size=count).reshape(count, classes, classes)
        sums = samples.sum(axis=1) + samples.sum(axis=2)
        values[start : start + count] = 2 * samples.diagonal(axis1=1, axis2=2) / np.maximum(sums, 1)
    return np.quantile(values, (0.025, 0.975), axis=0).T


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = 10) -> dict[str, Any]:
    """Calibration of the network's confidence: bins of equal width over the highest probability.

    probabilities (n, C), labels int (n,) -> ece, the mean over the images of |accuracy - certainty| of their bin (Guo
    et al. 2017), and bins: rows of low, high, accuracy, certainty, images.
    """
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bin_index = np.minimum((confidence * bins).astype(int), bins - 1)
    rows = []
    for index in range(bins):
        inside = bin_index == index
        images = int(inside.sum())
        accuracy, certainty = (float(v[inside].mean()) if images else 0.0 for v in (correct, confidence))
        row = {"low": index / bins, "high": (index + 1) / bins, "accuracy": accuracy}
        rows.append(row | {"certainty": certainty, "images": images})
    gaps = [abs(row["accuracy"] - row["certainty"]) * row["images"] for row in rows]
    return {"ece": float(sum(gaps) / len(labels)), "bins": rows}


def curves(probabilities: np.ndarray, labels: np.ndarray, label: int) -> dict[str, Any] | None:
    """ROC and precision-recall of one class against all others, by scikit-learn; None if either side has no image.

    -> fpr, tpr, auc; recall, precision, ap (average precision)
    """
    with scikit_learn():
        from sklearn.metrics import auc, average_precision_score, precision_recall_curve, roc_curve

    own, score = labels == label, probabilities[:, label]
    if own.all() or not own.any():
        return None
    fpr, tpr, _ = roc_curve(own, score, drop_intermediate=False)
    precision, recall, _ = precision_recall_curve(own, score)
    area, average = float(auc(fpr, tpr)), float(average_precision_score(own, score))
    return {"fpr": fpr, "tpr": tpr, "auc": area, "recall": recall, "precision": precision, "ap": average}


Samples = tuple[Iterable[Path | IO[bytes]], Sequence[int] | np.ndarray]  # files for Pillow to open, class indices


def linear_baseline(train: Samples, *others: Samples) -> list[float]:
    """Accuracy on each of `others` of a logistic regression on 8x8 RGB thumbnails, trained on `train`.

    A network that does not beat it has learned no more than the rough position of colours.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    files, labels = train
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, C=0.1))
    model.fit(thumbnails(files), np.asarray(labels))
    return [float(model.score(thumbnails(test_files), np.asarray(test_labels))) for test_files, test_labels in others]


def linear_or_note(train: Samples, test: Samples) -> float | None:
    """The accuracy of linear_baseline; None, and a note, if it fails: after a training it must not cost the run."""
    try:
        return linear_baseline(train, test)[0]
    except Exception as error:  # scikit-learn cannot be loaded, memory runs out, an image is gone …
        text = next(iter(str(error).strip().splitlines()), "")
        log.info(f"note: no linear model of 8x8 thumbnails to compare with: {type(error).__name__}: {text[:300]}")
        return None


def thumbnails(files: Iterable[Path | IO[bytes]], size: int = 8) -> np.ndarray:
    """Each image reduced to size x size. float32 (n, size * size * 3) with values 0..1."""
    from PIL import Image

    from mslab.check.worker import open_image

    rows = []
    for file in files:
        with open_image(file) as image:
            small = image.convert("RGB").resize((size, size), Image.Resampling.BOX)
        rows.append(np.asarray(small, np.float32).ravel() / 255)
    return np.stack(rows)
