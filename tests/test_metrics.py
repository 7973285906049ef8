"""Figures against values by hand and scikit-learn, and the linear model."""

import numpy as np
import pytest
from conftest import draw

from mslab import check, metrics


def test_confusion_rows_are_true_columns_predicted():
    assert metrics.confusion([0, 1, 1], [0, 0, 1], 2).tolist() == [[1, 0], [1, 1]]


def test_figures_by_hand():
    logits = np.array([[2, 0, 0], [2, 0, 0], [0, 2, 0], [0, 2, 0]], np.float32)
    result = metrics.figures(metrics.counts(logits, np.array([0, 1, 1, 1])), ["a", "b", "c"])
    assert result["accuracy"] == 0.75 and result["images"] == 4
    assert result["confusion"] == [[1, 0, 0], [1, 2, 0], [0, 0, 0]]
    assert result["per_class"]["a"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1}
    assert result["per_class"]["b"]["recall"] == pytest.approx(2 / 3)
    assert result["per_class"]["c"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def test_loss_against_scikit_learn_and_for_large_logits():
    from sklearn.metrics import log_loss

    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 4)), rng.integers(0, 4, 50)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert metrics.cross_entropy(logits, labels) == pytest.approx(log_loss(labels, shares, labels=range(4)))
    assert metrics.cross_entropy(np.array([[1e4, 0.0]]), np.array([1])) == pytest.approx(1e4)


def test_the_linear_model_learns_what_lies_in_thumbnails(tmp_path):
    draw(tmp_path / "train", ["a", "b", "c"], 10, 0)
    draw(tmp_path / "val", ["a", "b", "c"], 5, 1)
    report = check.check_dataset(tmp_path / "train", tmp_path / "val")
    assert metrics.thumbnails(report.samples("val")[0]).shape == (15, 192)
    assert metrics.linear_baseline(report.samples("train"), report.samples("val")) == [1.0]
    files, labels = report.samples("train")
    mixed = list(np.random.default_rng(0).permutation(labels))
    assert metrics.linear_baseline((files, mixed), report.samples("val"))[0] < 0.9


def test_figures_of_parts_add_up_to_those_of_the_whole_and_to_scikit_learns():
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 4)), rng.integers(0, 4, 50)
    parts = [metrics.counts(logits[rows], labels[rows]) for rows in (slice(0, 7), slice(7, 30), slice(30, 50))]
    result, whole = (metrics.figures(total, list("abcd")) for total in (sum(parts), metrics.counts(logits, labels)))
    assert result["loss"] == pytest.approx(whole.pop("loss")) and whole.items() <= result.items()
    assert result["accuracy"] == accuracy_score(labels, logits.argmax(1))
    expected = precision_recall_fscore_support(labels, logits.argmax(1))
    assert np.allclose([list(row.values()) for row in result["per_class"].values()], np.transpose(expected))


def test_top5_is_scikit_learns_and_ties_win_nothing():
    from sklearn.metrics import top_k_accuracy_score

    rng = np.random.default_rng(1)
    logits, labels, names = rng.normal(size=(200, 9)), rng.integers(0, 9, 200), list("abcdefghi")
    result = metrics.figures(metrics.counts(logits, labels), names)
    assert result["top5_accuracy"] == pytest.approx(top_k_accuracy_score(labels, logits, k=5, labels=range(9)))
    halves = metrics.counts(logits[:90], labels[:90]) + metrics.counts(logits[90:], labels[90:])
    assert metrics.figures(halves, names)["top5_accuracy"] == result["top5_accuracy"]
    equal = metrics.figures(metrics.counts(np.zeros((9, 9)), np.arange(9)), names)
    assert equal["top5_accuracy"] == pytest.approx(5 / 9)  # a network that says nothing knows nothing
    assert "top5_accuracy" not in metrics.figures(metrics.counts(logits[:, :5], labels % 5), names[:5])
