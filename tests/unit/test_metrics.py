"""Metrics compared with values by hand and with scikit-learn; the linear baseline."""

import numpy as np
import pytest
from helpers import draw

from mslab import check
from mslab.evaluation import metrics


def test_confusion_rows_are_true_columns_predicted():
    assert metrics.confusion([0, 1, 1], [0, 0, 1], 2).tolist() == [[1, 0], [1, 1]]


def test_figures_by_hand():
    logits = np.array([[2, 0, 0], [2, 0, 0], [0, 2, 0], [0, 2, 0]], np.float32)
    result = metrics.figures(metrics.counts(logits, np.array([0, 1, 1, 1])), ["a", "b", "c"])
    assert result["accuracy"] == 0.75 and result["images"] == 4
    assert result["confusion"] == [[1, 0, 0], [1, 2, 0], [0, 0, 0]]
    assert result["per_class"]["a"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 1}
    assert result["per_class"]["b"]["recall"] == pytest.approx(2 / 3)
    assert result["per_class"]["c"] == {"precision": None, "recall": None, "f1": None, "support": 0}


def test_loss_against_scikit_learn_and_for_large_logits():
    from sklearn.metrics import log_loss

    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 4)), rng.integers(0, 4, 50)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert metrics.cross_entropy(logits, labels) == pytest.approx(log_loss(labels, probabilities, labels=range(4)))
    assert metrics.cross_entropy(np.array([[1e4, 0.0]]), np.array([1])) == pytest.approx(1e4)


def test_the_linear_model_learns_from_thumbnails(tmp_path):
    draw(tmp_path / "train", ["a", "b", "c"], 10, 0)
    draw(tmp_path / "val", ["a", "b", "c"], 5, 1)
    report = check.check_dataset(tmp_path / "train", tmp_path / "val")
    assert metrics.thumbnails(report.samples("val")[0]).shape == (15, 192)
    assert metrics.linear_baseline(report.samples("train"), report.samples("val")) == [1.0]
    files, labels = report.samples("train")
    mixed = list(np.random.default_rng(0).permutation(labels))
    assert metrics.linear_baseline((files, mixed), report.samples("val"))[0] < 0.9


def test_figures_of_parts_add_up_to_those_of_all_images_and_to_scikit_learns():
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(50, 4)), rng.integers(0, 4, 50)
    parts = [metrics.counts(logits[rows], labels[rows]) for rows in (slice(0, 7), slice(7, 30), slice(30, 50))]
    result, direct = (metrics.figures(total, list("abcd")) for total in (sum(parts), metrics.counts(logits, labels)))
    assert result["loss"] == pytest.approx(direct.pop("loss")) and direct.items() <= result.items()
    assert result["accuracy"] == accuracy_score(labels, logits.argmax(1))
    expected = precision_recall_fscore_support(labels, logits.argmax(1))
    assert np.allclose([list(row.values()) for row in result["per_class"].values()], np.transpose(expected))


def test_top5_is_scikit_learns_and_ties_have_no_advantage():
    from sklearn.metrics import top_k_accuracy_score

    rng = np.random.default_rng(1)
    logits, labels, names = rng.normal(size=(200, 9)), rng.integers(0, 9, 200), list("abcdefghi")
    result = metrics.figures(metrics.counts(logits, labels), names)
    assert result["top5_accuracy"] == pytest.approx(top_k_accuracy_score(labels, logits, k=5, labels=range(9)))
    halves = metrics.counts(logits[:90], labels[:90]) + metrics.counts(logits[90:], labels[90:])
    assert metrics.figures(halves, names)["top5_accuracy"] == result["top5_accuracy"]
    equal = metrics.figures(metrics.counts(np.zeros((9, 9)), np.arange(9)), names)
    assert equal["top5_accuracy"] == pytest.approx(5 / 9)  # equal logits are no better than chance
    assert "top5_accuracy" not in metrics.figures(metrics.counts(logits[:, :5], labels % 5), names[:5])


@pytest.mark.parametrize("seed", range(5))
def test_figures_are_scikit_learns_on_random_cases(seed):
    from sklearn import metrics as theirs

    rng = np.random.default_rng(seed)
    classes, images = int(rng.integers(2, 9)), int(rng.integers(30, 300))
    names = [f"c{n}" for n in range(classes)]
    labels = np.concatenate([np.arange(classes), rng.integers(0, classes, images - classes)])
    logits = rng.normal(size=(images, classes)).astype(np.float32) + 1.5 * np.eye(classes)[labels]
    result = metrics.figures(metrics.counts(logits, labels), names)
    predicted = logits.argmax(axis=1)
    assert result["confusion"] == theirs.confusion_matrix(labels, predicted).tolist()
    assert result["accuracy"] == pytest.approx(theirs.accuracy_score(labels, predicted))
    columns = theirs.precision_recall_fscore_support(labels, predicted, zero_division=0)
    for name, values in zip(("precision", "recall", "f1", "support"), columns, strict=True):
        assert [row[name] for row in result["per_class"].values()] == pytest.approx(list(values))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert result["loss"] == pytest.approx(theirs.log_loss(labels, probabilities), rel=1e-5)
    if classes > 5:
        assert result["top5_accuracy"] == pytest.approx(theirs.top_k_accuracy_score(labels, probabilities, k=5))
    for label in range(classes):
        curve = metrics.curves(probabilities, labels, label)
        assert curve["auc"] == pytest.approx(theirs.roc_auc_score(labels == label, probabilities[:, label]))
        assert curve["ap"] == pytest.approx(theirs.average_precision_score(labels == label, probabilities[:, label]))


def test_a_class_without_images_has_no_curve():
    probabilities = np.full((4, 2), 0.5)
    assert (
        metrics.curves(probabilities, np.zeros(4, int), 1) is None
        and metrics.curves(probabilities, np.zeros(4, int), 0) is None
    )


def test_the_interval_is_wilsons():
    assert metrics.interval(9, 10) == pytest.approx((0.59585, 0.98212), abs=1e-5)
    assert metrics.interval(0, 10) == pytest.approx((0, 0.27753), abs=1e-5)
    assert metrics.interval(0, 0) == (0.0, 1.0) and metrics.interval(10, 10)[1] == pytest.approx(1)
    for right, total in ((3, 7), (60, 100), (950, 1000)):  # its ends are the fractions that are 1.96 deviations away
        for end in metrics.interval(right, total):
            assert abs(right / total - end) / np.sqrt(end * (1 - end) / total) == pytest.approx(1.959964, rel=1e-6)


def test_f1_intervals_contain_the_figure_and_shrink_with_more_images():
    matrix = np.array([[18, 2], [5, 15]])
    few, many = metrics.f1_intervals(matrix), metrics.f1_intervals(100 * matrix)
    f1 = [36 / 43, 30 / 37]
    for (low, high), value in zip(few, f1, strict=True):
        assert low < value < high
    assert ((many[:, 1] - many[:, 0]) * 6 < few[:, 1] - few[:, 0]).all()
    # the same from images drawn one by one, with replacement
    rng, pairs = np.random.default_rng(1), np.repeat([[0, 0], [0, 1], [1, 0], [1, 1]], [18, 2, 5, 15], axis=0)
    values = []
    for _ in range(2000):
        sample = pairs[rng.integers(0, 40, 40)]
        right = ((sample[:, 0] == 0) & (sample[:, 1] == 0)).sum()
        values.append(2 * right / ((sample[:, 0] == 0).sum() + (sample[:, 1] == 0).sum()))
    assert few[0] == pytest.approx(np.quantile(values, (0.025, 0.975)), abs=0.02)


def test_calibration_by_hand():
    probabilities = np.array([[0.9, 0.1], [0.95, 0.05], [0.35, 0.65], [1.0, 0.0]])
    result = metrics.calibration(probabilities, np.array([0, 1, 1, 0]))
    full = {round(row["low"], 1): row for row in result["bins"] if row["images"]}
    assert list(full) == [0.6, 0.9] and full[0.9]["images"] == 3  # a certainty of 1 is in the last bin
    assert full[0.9]["accuracy"] == pytest.approx(2 / 3) and full[0.9]["certainty"] == pytest.approx(0.95)
    assert result["ece"] == pytest.approx((3 * abs(2 / 3 - 0.95) + abs(1 - 0.65)) / 4)
