"""grade: whether a backbone was trained from another. Networks here are drawn; benchmarks/provenance.py trains some."""

import numpy as np
import pytest

from benchmarks import spoofs
from mslab.checkpoint import dialects
from mslab.grade import parentage
from mslab.grade.contents import BadSubmission

STAGES = [[2, 16, 1], [2, 32, 2]]
SEED = b"any"


def trained(seed: int, start: dict | None = None, amount: float = 0.1) -> dict:
    """A backbone, or one whose values differ from `start` by a normally distributed change."""
    rng = np.random.default_rng(seed)
    layout = dialects.layout(STAGES, dialects.PROFILE)
    if start is None:
        start = {name: rng.normal(0, 0.2 * (len(shape) > 1), shape) for name, shape in layout.items()}
        start |= {name: value + 1 for name, value in start.items() if name.endswith(("gamma", "moving_variance"))}
    return {name: (value + rng.normal(0, amount, value.shape)).astype(np.float32) for name, value in start.items()}


@pytest.fixture(scope="module")
def parent():
    return trained(1)


def verdict(child, parent, given=None):
    return parentage.verdict(parentage.relation(child, parent, SEED, given), 0.5)


def test_a_network_that_was_trained_on_is_near_and_a_separate_one_is_far(parent):
    assert verdict(parent, parent) == "near"
    assert verdict(trained(2, parent, 0.05), parent) == "near"
    assert verdict(trained(2), parent) == "far"
    frozen = trained(2, parent, 0.3) | {name: value for name, value in parent.items() if "layer2.1" not in name}
    assert verdict(frozen, parent) == "near"


@pytest.mark.parametrize("alter", [*spoofs.SCRATCH.values()][:-1], ids=lambda x: x.__name__)
def test_no_few_values_and_no_copied_batchnorm_make_a_separate_network_near(parent, alter):
    separate = trained(2)
    assert verdict(*alter(separate, parent)) == "far"
    same_seed = separate | {name: value for name, value in parent.items() if value.ndim > 1}
    if alter not in (spoofs.all_copied, spoofs.pruned):  # what remains of the parent then is all that is compared
        assert verdict(*alter(same_seed, parent)) == "far"


def test_the_order_of_equal_values_is_no_evidence(parent):
    flat = spoofs.constant(parent, parent)[0]
    figures = parentage.relation(flat, flat, SEED)
    assert figures["batchnorm"] == figures["expected"] == 0 and parentage.verdict(figures, 0.5) == "unclear"
    assert parentage.ranks(np.array([5, 9, 5])).tolist() == [1.5, 3, 1.5]


def test_a_parent_that_was_hardly_trained_decides_nothing():
    drawn = spoofs.constant(trained(1), trained(1))[0]
    parent = trained(2, drawn, 1e-4)
    assert verdict(trained(3, parent), parent) == "unclear"  # from it
    assert verdict(trained(3, drawn), parent) == "unclear"  # from the same initial weights
    assert verdict(trained(3), parent) == "far"  # convolutions tell
    assert verdict(trained(3, parent, 1e-5), parent) == "near"


def test_training_for_much_longer_than_the_parent_decides_nothing(parent):
    figures = parentage.relation(trained(2, parent, 0.25), parent, SEED)
    assert figures["batchnorm"] == pytest.approx(figures["expected"], abs=0.15)
    assert figures["batchnorm"] < 0.5 and parentage.verdict(figures, 0.5) == "unclear"
    assert parentage.verdict(figures, 0.15) == "near"


def test_changes_that_keep_the_function(parent):
    child = trained(2, parent, 0.05)
    verdicts = {alter.__name__: verdict(*alter(child, parent)) for alter in spoofs.HONEST.values()}
    assert verdicts.pop("scaled_by_layer") == verdicts.pop("scaled_by_channel") == "near"
    assert set(verdicts.values()) == {"far"}  # channels shuffled, gammas negated, layers exchanged


def test_what_the_comparison_does_not_see(parent):
    """docs/grading.md says so."""
    same_seed = trained(2) | {name: value for name, value in parent.items() if value.ndim > 1}
    assert verdict(*spoofs.all_copied(same_seed, parent)) == "near"
    assert verdict(*spoofs.quarter_unused(trained(2), parent)) == "near"


def test_layers_that_cannot_be_compared_are_an_error_that_names_one(parent):
    short = {name: value for name, value in parent.items() if name != "layer1.0.bn2.beta"}
    wide = parent | {"conv1.weight": np.ones((64, 3, 3, 3), np.float32)}
    for other, name in ((short, "layer1.0.bn2.beta"), (wide, "conv1.weight"), ({}, "bn1.beta")):
        for pair in ((parent, other), (other, parent)):
            with pytest.raises(BadSubmission, match=f"have different layers: .* {name}"):
                parentage.relation(*pair, SEED)
    for value in (np.nan, np.inf, -np.inf):
        for name in ("bn1.gamma", "layer2.0.conv2.weight"):
            bad = parent | {
                name: np.where(np.arange(parent[name].size).reshape(parent[name].shape), parent[name], value)
            }
            with pytest.raises(BadSubmission, match=f"{name} has values that are not finite"):
                parentage.relation(parent, bad, SEED)
    huge = parent | {"bn1.beta": np.full(64, 3e38, np.float32) * np.where(np.arange(64) % 2, 1, -1).astype(np.float32)}
    assert verdict(huge, parent) == "near"  # one layer of many
    assert parentage.relation({}, {}, SEED)["batchnorm"] == 0


def test_weights_prepared_for_one_seed_are_not_the_ones_compared(parent):
    name, rng = "layer2.1.conv2.weight", np.random.default_rng(list(SEED))
    known = rng.integers(0, parent[name].size, parentage.SAMPLE)
    prepared = np.random.default_rng(5).normal(0, 0.2, parent[name].size)
    prepared[known] = parent[name].ravel()[known]
    only = {name: prepared.reshape(parent[name].shape).astype(np.float32)}
    assert parentage.relation(only, {name: parent[name]}, SEED)["convolutions"] == 1
    assert parentage.relation(only, {name: parent[name]}, b"other")["convolutions"] < 0.4


def test_networks_trained_separately_from_the_given_backbone_are_not_each_others():
    given = trained(1)
    nine, sibling = trained(2, given, 0.03), trained(3, given, 0.03)
    assert verdict(sibling, nine) == "near"  # nothing shows that both began from a third
    assert verdict(sibling, nine, given) == "far"
    assert verdict(trained(4, nine, 0.02), nine, given) == "near"
    assert verdict(trained(4, given, 0.02), given, given) == "near"  # nine, with the given backbone frozen
    frozen = given | {name: value for name, value in nine.items() if "layer2" in name}
    assert verdict(trained(4, frozen, 0.02), frozen, given) == "near" and verdict(sibling, frozen, given) == "far"
    for unrelated in (trained(9), {"bn1.gamma": np.ones(3, np.float32)}):
        assert verdict(trained(4, nine, 0.02), nine, unrelated) == "near"
        assert verdict(trained(5), nine, unrelated) == "far"
