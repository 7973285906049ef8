"""Deductions never make a total negative."""

import pytest

from mslab.grade.records import Graded, Outcome


@pytest.mark.parametrize(
    ("earned", "deductions", "points"),
    [
        ([4.0, 1.5], [("3 days late", 2.0)], 3.5),
        ([4.0], [("3 days late", 3.0), ("attempt 4; 2 are free", 1.0)], 0.0),
        ([1.0, 0.5], [("8 days late", 5.0)], 0.0),
        ([], [("8 days late", 5.0)], 0.0),
        ([], [], 0.0),
    ],
)
def test_a_total_is_never_negative(earned, deductions, points):
    outcomes = {f"item{n}": Outcome(value, "part", "") for n, value in enumerate(earned)}
    assert Graded("anna", "", outcomes, deductions).points == points
