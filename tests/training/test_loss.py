"""Losses and their gradients compared with the formulas, written here in float64."""

import mindspore as ms
import numpy as np
import pytest
from formulas import COUNTS, LABELS, LOGITS, LOSSES, OFF, SOFT_LABELS, check_loss, expected, measured, slopes
from helpers import resolved
from mindspore import nn

from mslab.runtime import devices
from mslab.training import losses


@pytest.fixture(autouse=True)
def start():
    devices.start("cpu", "pynative", 1)


@pytest.mark.parametrize("options", LOSSES, ids=str)
@pytest.mark.parametrize("targets", [LABELS, SOFT_LABELS], ids=["classes", "soft labels"])
def test_loss_and_gradient_are_the_formulas(options, targets):
    check_loss(options, targets)


@pytest.mark.parametrize("options", [LOSSES[0], LOSSES[-1]], ids=["one", "all"])
@pytest.mark.parametrize("targets", [LABELS, SOFT_LABELS], ids=["classes", "soft labels"])
def test_loss_and_gradient_are_the_formulas_in_a_graph_too(options, targets):
    devices.start("cpu", "graph", 1)
    check_loss(options, targets)


@pytest.mark.parametrize("options", [{"mixup_alpha": 0.2}, {"cutmix_alpha": 1.0}], ids=str)
def test_soft_labels_of_mixed_images_alone(options):
    value, gradient = measured(LOGITS, SOFT_LABELS, options)
    assert value == pytest.approx(expected(LOGITS, SOFT_LABELS, {}), rel=1e-5)
    np.testing.assert_allclose(gradient, slopes(LOGITS, SOFT_LABELS, {}), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("weight", [0, 2])
def test_without_focus_it_is_mindspores_loss(weight):
    theirs = nn.CrossEntropyLoss(ms.Tensor(losses.class_weights(COUNTS, weight)), label_smoothing=0.1)
    reference = float(theirs(ms.Tensor(LOGITS.astype(np.float32)), ms.Tensor(LABELS)).asnumpy())
    assert measured(LOGITS, LABELS, {"label_smoothing": 0.1, "weighted_loss": weight})[0] == pytest.approx(
        reference, 1e-5
    )


def test_images_that_are_easy_get_no_gradient_from_mining():
    _, gradient = measured(LOGITS, LABELS, {"ohem_top_ratio": 0.3})
    shifted = LOGITS - np.log(np.exp(LOGITS).sum(1, keepdims=True))
    hardest = np.argsort(shifted[np.arange(7), LABELS])[:2]
    assert sorted(np.flatnonzero(np.abs(gradient).sum(1))) == sorted(hardest)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
@pytest.mark.parametrize("options", [*LOSSES, {"focal_gamma": 0.1}, {"mixup_alpha": 0.2}], ids=str)
def test_extreme_logits_stay_finite(options, kind):
    logits = np.array([[1000, -1000, 0], [-1000, 1000, 1000], [0, 0, 0], [1000, 1000, -1000]], np.float64)
    for labels in (np.array([0, 0, 1, 2], np.int32), np.array([0, 1, 1, 0], np.int32)):
        value, gradient = measured(logits, labels, options, kind)
        assert np.isfinite(value) and np.isfinite(gradient).all() and gradient.dtype == kind
        assert value == pytest.approx(expected(logits, labels, options), rel=1e-3)


@pytest.mark.parametrize("options", [{"label_smoothing": 0.1}, {"focal_gamma": 2.0, "weighted_loss": 2}], ids=str)
def test_float16_logits_are_computed_in_float32(options):
    logits = LOGITS.astype(np.float16).astype(np.float64)
    value, gradient = measured(logits, LABELS, options, np.float16)
    assert value == pytest.approx(expected(logits, LABELS, options), rel=1e-5)  # float16 alone has 1e-3
    np.testing.assert_allclose(gradient, slopes(logits, LABELS, options), rtol=2e-3, atol=1e-5)


def test_without_such_settings_it_is_mindspores_own():
    assert type(losses.build(resolved(**OFF), COUNTS)) is nn.CrossEntropyLoss
    for name, value in OFF.items():
        options = OFF | {name: 1 if name == "weighted_loss" else 0.5}
        assert isinstance(losses.build(resolved(**options), COUNTS), losses.CrossEntropy), (name, value)


def test_class_weights():
    from sklearn.utils.class_weight import compute_class_weight

    labels = np.repeat([0, 1, 2], COUNTS)
    balanced = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(losses.class_weights(COUNTS, 2), balanced, rtol=1e-6)
    np.testing.assert_allclose(losses.class_weights(COUNTS, 1), np.sqrt(balanced), rtol=1e-6)
    assert losses.class_weights(COUNTS, 0).tolist() == [1, 1, 1] and losses.class_weights([30, 10], 2)[1] == 2
    assert all(losses.class_weights(COUNTS, kind).dtype == np.float32 for kind in (0, 1, 2))
