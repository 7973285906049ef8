"""Logits -> figures, and the linear model that every figure is held against. NumPy and scikit-learn, no MindSpore."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def confusion(labels: np.ndarray, predicted: np.ndarray, class_num: int) -> np.ndarray:
    """Confusion matrix, int (class_num, class_num)."""
    # confusion([0, 1, 1], [0, 0, 1], 2) -> [[1, 0], [1, 1]]  (row = true, column = predicted)
    matrix = np.zeros((class_num, class_num), int)
    np.add.at(matrix, (np.asarray(labels), np.asarray(predicted)), 1)
    return matrix


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """Mean of -log(softmax(logits)[label]); NaN where a logit is not finite. logits (n, class_num), labels (n,)."""
    if not np.isfinite(logits).all():
        return float("nan")
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-log_softmax[np.arange(len(labels)), labels].mean())


def figures(logits: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """Accuracy, per-class precision, recall, F1 and support, confusion matrix. logits (n, class_num), labels (n,)."""
    from sklearn.metrics import precision_recall_fscore_support

    predicted, indices = logits.argmax(axis=1), np.arange(len(class_names))
    columns = precision_recall_fscore_support(labels, predicted, labels=indices, zero_division=0)
    return {
        "images": len(labels),
        "accuracy": float((predicted == labels).mean()),
        "loss": cross_entropy(logits, labels),
        "class_names": list(class_names),
        "per_class": {
            name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
            for name, p, r, f, s in zip(class_names, *columns, strict=True)
        },
        "confusion": confusion(labels, predicted, len(class_names)).tolist(),
    }


Samples = tuple[Sequence[Path], Sequence[int]]  # files and their class indices


def linear_baseline(train: Samples, *others: Samples, most: int = 5000) -> list[float]:
    """Accuracy, one for each of `others`, of a logistic regression on 8x8 RGB thumbnails, trained on `train`.

    A network that does not beat it has learned no more than where which colour lies. At most `most` training images
    are used, evenly spread.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    files, labels = train
    chosen = np.unique(np.linspace(0, len(files) - 1, min(len(files), most)).astype(int))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, C=0.1))
    model.fit(thumbnails([files[i] for i in chosen]), np.asarray(labels)[chosen])
    return [float(model.score(thumbnails(test_files), test_labels)) for test_files, test_labels in others]


def thumbnails(files: Sequence[Path], size: int = 8) -> np.ndarray:
    """Each image reduced to size x size. float32 (n, size * size * 3) with values 0..1."""
    from PIL import Image

    rows = []
    for path in files:
        with Image.open(path) as image:
            small = image.convert("RGB").resize((size, size), Image.Resampling.BOX)
        rows.append(np.asarray(small, np.float32).ravel() / 255)
    return np.stack(rows)
