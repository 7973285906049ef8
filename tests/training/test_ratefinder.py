"""The rate finder: its suggestions for known curves, a real trial, and a network that it leaves unchanged."""

from pathlib import Path

import numpy as np
import pytest
from helpers import settings

from mslab import check, model
from mslab.config import load_settings
from mslab.errors import TrainingError
from mslab.experiments import lr_find
from mslab.report import plots
from mslab.training import build

RATES = np.geomspace(1e-5, 1, 51)


def curve(bottom, low=0.5, high=2.0):
    """High and flat, a fall that is steepest in its middle, the bottom at this position, and a steep end."""
    at = np.arange(51)
    fall = high - (high - low) / (1 + np.exp(-(at - bottom / 2) / 2))
    return [float(value) for value in fall + np.where(at > bottom, (at - bottom) ** 2 * 0.05, 0)]


def test_suggestions_for_a_known_curve():
    result = lr_find.suggestions(RATES, curve(30))
    assert result["steepest"] == pytest.approx(RATES[15])
    assert result["valley"] == pytest.approx(RATES[23])  # a tenth is done at 10, all at 30
    flat = [2.0 - at * 1e-6 for at in range(20)]  # falls, if only just
    assert lr_find.suggestions(RATES, flat + curve(30)[:31])["valley"] == pytest.approx(RATES[43])


def test_a_fall_after_the_minimum_does_not_count():
    losses = [2.0, 1.9, 1.6, 1.5, 2.5, 5.0, 3.0, 2.9, 6.0]
    assert lr_find.suggestions(RATES[:9], losses)["steepest"] <= RATES[3]


@pytest.mark.parametrize("losses", [[1.0] * 20, [1.0, 1.1, 1.2, 1.3], [1.0, 0.999, 0.998, 1.5], [2.0]])
def test_a_loss_that_falls_nowhere_is_an_error(losses):
    with pytest.raises(TrainingError, match=r"(?s)The loss falls at no rate from 1e-05 to .*more --steps"):
        lr_find.suggestions(RATES[: len(losses)], losses)


def test_the_longest_fall():
    assert lr_find.longest_fall([3, 2.5, 2.6, 2, 1, 4]) == (0, 4)
    assert lr_find.longest_fall([1, 2, 3]) == (0, 0)
    assert lr_find.longest_fall([5, 1, 4, 3, 2]) == (0, 4)


def test_weights_are_put_back_even_after_an_error():
    network = model.ResNet50(model.resnet50_backbone([[1, 8, 1]]), model.resnet50_head(2, 32))
    before = {name: p.asnumpy().copy() for name, p in network.parameters_dict().items()}
    with pytest.raises(KeyboardInterrupt), lr_find.restored_weights(network):
        for parameter in network.get_parameters():
            parameter.set_data(parameter + 1)
        raise KeyboardInterrupt
    for name, parameter in network.parameters_dict().items():
        assert np.array_equal(parameter.asnumpy(), before[name]), name


def test_a_trial_finds_a_rate_with_which_it_learns(inside, squares, monkeypatch):
    config = settings(squares / "three", 3, warmup_epochs=0)
    networks, make = [], build.new_network

    def noted(*arguments):
        network = make(*arguments)
        networks.append((network, {name: p.asnumpy().copy() for name, p in network.parameters_dict().items()}))
        return network

    monkeypatch.setattr(build, "new_network", noted)
    report = check.check_dataset(config["train_data"], config["val_data"])
    result = lr_find.find_rate(load_settings(config), report, steps=60)
    assert len(result["rates"]) == len(result["losses"]) <= 60 and result["rates"][0] == pytest.approx(1e-6)
    assert 1e-4 < result["valley"] < 1 and 1e-4 < result["steepest"] < 1
    assert not Path("runs").exists()
    ((used, fresh),) = networks
    for name, parameter in used.parameters_dict().items():
        assert np.array_equal(parameter.asnumpy(), fresh[name]), name
    drawn = lr_find.draw(result, Path("found.png"))
    assert f"valley   {result['valley']:.2g}" in drawn and Path("found.png").stat().st_size > 5000


def test_the_terminals_curve_shows_ends_and_extremes():
    lines = plots.terminal([0, 1, 2, 3], [0.0, 1.0, 0.5, 0.25], width=20, height=5).split("\n")
    assert lines[0].startswith("1 ┤") and lines[4].startswith("0 ┤") and lines[6].split() == ["0", "3"]
    assert len(lines) == 7 and all(len(line) == 23 for line in lines[:5])
    dots = [[ord(c) - 0x2800 for c in line[3:]] for line in lines[:5]]
    assert dots[4][0] and dots[0][6] and not dots[0][0] and not dots[4][-1]
    flat = plots.terminal([0, 1], [2.0, 2.0], width=8, height=3).split("\n")
    assert sum(c not in "⠀" for c in flat[0][3:]) == 8  # a constant is one line
