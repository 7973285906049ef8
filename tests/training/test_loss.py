"""Losses and their gradients beside the formulas, written here in float64."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mslab import loss

OFF = {
    "label_smoothing": 0.0,
    "weighted_loss": 0,
    "focal_gamma": 0.0,
    "ohem_top_ratio": 1.0,
    "mixup_alpha": 0.0,
    "cutmix_alpha": 0.0,
}
COUNTS = np.array([40, 5, 15])
LOGITS = np.random.default_rng(1).standard_normal((7, 3)) * 2
LABELS = np.array([0, 1, 2, 2, 0, 1, 0], np.int32)
SHARES = np.random.default_rng(2).dirichlet(np.ones(3), 7).astype(np.float32)


@pytest.fixture(params=[ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
def mode(request):
    before = ms.get_context("mode")
    ms.set_context(mode=request.param)
    yield
    ms.set_context(mode=before)


def expected(logits, targets, asked):
    """The loss in float64, class by class and image by image."""
    balanced = COUNTS.sum() / (3 * COUNTS)
    weight = {0: np.ones(3), 1: np.sqrt(balanced), 2: balanced}[asked.get("weighted_loss", 0)]
    smoothing, gamma = asked.get("label_smoothing", 0.0), asked.get("focal_gamma", 0.0)
    rows = []
    for logit, target in zip(logits, targets, strict=True):
        share = np.eye(3)[target] if targets.ndim == 1 else target.astype(np.float64)
        shifted = logit - logit.max()
        p = np.exp(shifted) / np.exp(shifted).sum()
        logs = shifted - np.log(np.exp(shifted).sum())
        smoothed = (1 - smoothing) * share + smoothing / 3
        rows.append((-(weight * smoothed * (1 - p) ** gamma * logs).sum(), (weight * share).sum()))
    kept = max(1, round(asked.get("ohem_top_ratio", 1.0) * len(rows)))
    rows = sorted(rows, reverse=True)[:kept]
    return sum(row[0] for row in rows) / sum(row[1] for row in rows)


def slopes(logits, targets, asked, step=1e-6):
    """The gradient by central differences."""
    found = np.zeros_like(logits)
    for place in np.ndindex(*logits.shape):
        shift = np.zeros_like(logits)
        shift[place] = step
        found[place] = (expected(logits + shift, targets, asked) - expected(logits - shift, targets, asked)) / 2 / step
    return found


def measured(logits, targets, asked, kind=np.float32):
    """The cell's loss and gradient."""
    value, gradient = ms.value_and_grad(loss.build(OFF | asked, COUNTS))(
        ms.Tensor(logits.astype(kind)), ms.Tensor(targets)
    )
    assert value.dtype == ms.float32 and value.shape == ()
    return float(value.asnumpy()), gradient.asnumpy()


ASKED = [
    {"label_smoothing": 0.1},
    {"weighted_loss": 1},
    {"weighted_loss": 2},
    {"focal_gamma": 2.0},
    {"focal_gamma": 0.5},
    {"ohem_top_ratio": 0.5},
    {"ohem_top_ratio": 0.01},
    {"label_smoothing": 0.1, "weighted_loss": 2},
    {"focal_gamma": 2.0, "weighted_loss": 1, "ohem_top_ratio": 0.7},
    {"label_smoothing": 0.2, "focal_gamma": 1.5, "weighted_loss": 2, "ohem_top_ratio": 0.6},
]


@pytest.mark.parametrize("asked", ASKED, ids=str)
@pytest.mark.parametrize("targets", [LABELS, SHARES], ids=["classes", "shares"])
def test_loss_and_gradient_are_the_formulas(asked, targets, mode):
    value, gradient = measured(LOGITS, targets, asked | {"mixup_alpha": 0.2})
    assert value == pytest.approx(expected(LOGITS, targets, asked), rel=1e-5)
    np.testing.assert_allclose(gradient, slopes(LOGITS, targets, asked), rtol=1e-4, atol=1e-6)
    plain = expected(LOGITS, targets, {})
    assert abs(value - plain) > 1e-3 * plain  # the setting does something


@pytest.mark.parametrize("asked", [{"mixup_alpha": 0.2}, {"cutmix_alpha": 1.0}], ids=str)
def test_shares_of_mixed_images_alone(asked, mode):
    value, gradient = measured(LOGITS, SHARES, asked)
    assert value == pytest.approx(expected(LOGITS, SHARES, {}), rel=1e-5)
    np.testing.assert_allclose(gradient, slopes(LOGITS, SHARES, {}), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weight", [0, 2])
def test_without_focus_it_is_mindspores_loss(weight):
    theirs = nn.CrossEntropyLoss(ms.Tensor(loss.class_weights(COUNTS, weight)), label_smoothing=0.1)
    other = float(theirs(ms.Tensor(LOGITS.astype(np.float32)), ms.Tensor(LABELS)).asnumpy())
    assert measured(LOGITS, LABELS, {"label_smoothing": 0.1, "weighted_loss": weight})[0] == pytest.approx(other, 1e-5)


def test_images_that_are_easy_get_no_gradient_from_mining(mode):
    _, gradient = measured(LOGITS, LABELS, {"ohem_top_ratio": 0.3})
    shifted = LOGITS - np.log(np.exp(LOGITS).sum(1, keepdims=True))
    hardest = np.argsort(shifted[np.arange(7), LABELS])[:2]
    assert sorted(np.flatnonzero(np.abs(gradient).sum(1))) == sorted(hardest)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("asked", [*ASKED, {"focal_gamma": 0.1}, {"mixup_alpha": 0.2}], ids=str)
def test_extreme_logits_stay_finite(asked, kind):
    logits = np.array([[1000, -1000, 0], [-1000, 1000, 1000], [0, 0, 0], [1000, 1000, -1000]], np.float64)
    for labels in (np.array([0, 0, 1, 2], np.int32), np.array([0, 1, 1, 0], np.int32)):
        value, gradient = measured(logits, labels, asked, kind)
        assert np.isfinite(value) and np.isfinite(gradient).all() and gradient.dtype == kind
        assert value == pytest.approx(expected(logits, labels, asked), rel=1e-3)


@pytest.mark.parametrize("asked", [{"label_smoothing": 0.1}, {"focal_gamma": 2.0, "weighted_loss": 2}], ids=str)
def test_float16_logits_are_computed_in_float32(asked, mode):
    logits = LOGITS.astype(np.float16).astype(np.float64)
    value, gradient = measured(logits, LABELS, asked, np.float16)
    assert value == pytest.approx(expected(logits, LABELS, asked), rel=1e-5)  # float16 alone has 1e-3
    np.testing.assert_allclose(gradient, slopes(logits, LABELS, asked), rtol=2e-3, atol=1e-5)


def test_where_nothing_is_asked_it_is_mindspores_own():
    assert type(loss.build(OFF, COUNTS)) is nn.CrossEntropyLoss
    for name, value in OFF.items():
        asked = OFF | {name: 1 if name == "weighted_loss" else 0.5}
        assert isinstance(loss.build(asked, COUNTS), loss.CrossEntropy), (name, value)


def test_class_weights():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat([0, 1, 2], COUNTS)
    balanced = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(loss.class_weights(COUNTS, 2), balanced, rtol=1e-6)
    np.testing.assert_allclose(loss.class_weights(COUNTS, 1), np.sqrt(balanced), rtol=1e-6)
    assert loss.class_weights(COUNTS, 0).tolist() == [1, 1, 1] and loss.class_weights([30, 10], 2)[1] == 2
    assert all(loss.class_weights(COUNTS, kind).dtype == np.float32 for kind in (0, 1, 2))
