"""The shipped rubric, whose reader needs MindSpore."""

from helpers import PROJECT

from mslab.grade.loading import load_rubric


def test_the_shipped_rubric_parses():
    assert load_rubric(PROJECT / "configs" / "rubric.yaml").items
