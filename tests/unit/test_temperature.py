"""Temperature scaling: one number that makes probabilities as reliable as they look, and where there is none."""

import math

import numpy as np
import pytest

from mslab.evaluation import metrics, temperature


def sample(images=200, classes=4, sharper=3.0, seed=0):
    """Labels drawn from softmax(z), and logits z * sharper, whose best temperature is about `sharper`."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(images, classes)) * 2
    labels = np.array([rng.choice(classes, p=p) for p in metrics.probabilities(z)])
    return (z * sharper).astype(np.float32), labels


def test_it_is_the_temperature_of_the_least_cross_entropy():
    for seed, sharper in ((0, 3.0), (1, 0.4)):
        logits, labels = sample(sharper=sharper, seed=seed)
        scaled = [(math.exp(x), metrics.cross_entropy(logits / math.exp(x), labels)) for x in np.arange(-3, 3, 1e-3)]
        best = min(scaled, key=lambda pair: pair[1])[0]
        found, note = temperature.fit(logits, labels)
        assert found == pytest.approx(best, rel=2e-3) and not note
    logits = np.array([[2.0, 0.0]] * 100)
    assert temperature.fit(logits, np.array([0] * 75 + [1] * 25)) == (pytest.approx(2 / math.log(3), rel=1e-5), "")


def test_it_lowers_the_calibration_error_and_changes_no_answer():
    logits, labels = sample(2000)
    calibration = temperature.Calibration()
    for start in range(0, 2000, 300):  # batch by batch
        calibration.add(logits[start : start + 300], labels[start : start + 300])
    found = calibration.figures()
    assert found["ece_calibrated"] < 0.03 < 0.1 < found["ece"] and found == temperature.of_logits(logits, labels)
    for key, value in (("ece", 1.0), ("ece_calibrated", found["temperature"])):
        probabilities = metrics.probabilities(logits, value)
        assert found[key] == pytest.approx(metrics.calibration(probabilities, labels)["ece"], abs=1e-9)
        assert (probabilities.argmax(axis=1) == logits.argmax(axis=1)).all()
    assert "expected calibration error" in temperature.text(found) and "before" in temperature.text(found)


def test_several_workers_find_the_one_of_all_images():
    logits, labels = sample(61)
    parts = [(logits[r::3], labels[r::3]) for r in range(3)] + [(logits[:0], labels[:0])]  # one has none

    def slopes(value):
        return sum(temperature.slope(*part, value) for part in parts)

    assert slopes(2.0) == pytest.approx(temperature.slope(logits, labels, 2.0))
    empty = temperature.Calibration().figures(None, lambda own: np.asarray(own) + 1e-9 if len(own) > 9 else [0, 0, 0])
    assert empty["temperature"] == 1 and "too few" in empty["note"]


@pytest.mark.parametrize(
    ("logits", "labels", "reason"),
    [
        ([[5, 0]] * 20, [0] * 20, "every validation image is classified correctly"),
        ([[0, 5]], [0], "1 validation images are too few"),
        ([[0, 5]] * 20, [0] * 20, "above 100: the outputs say nothing"),  # every answer is wrong
        ([[0, 0]] * 20, [0, 1] * 10, "above 100"),  # and where there is none
        ([[math.nan, 0]] * 20, [0, 1] * 10, "not finite"),
        ([[math.inf, 0]] * 20, [0, 1] * 10, "not finite"),
        ([[0.001, 0]] * 999 + [[0, 0.001]], [0] * 1000, "below 0.01"),
    ],
)
def test_without_a_sensible_one_probabilities_stay_as_they_are_with_the_reason(logits, labels, reason):
    value, note = temperature.fit(np.array(logits, np.float32), np.array(labels))
    assert value == 1 and reason in note
    if np.isfinite(logits).all():
        found = temperature.of_logits(np.array(logits, np.float32), np.array(labels))
        assert found["ece"] == found["ece_calibrated"]
        assert "no temperature was fitted" in temperature.text(found) and reason in temperature.text(found)
