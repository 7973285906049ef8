"""Fuzz the data check with random trees: it never crashes, never hangs."""

from fuzzing import QUICK, ends_in_a_report, trees
from hypothesis import given, settings


@settings(max_examples=60, **QUICK)
@given(node=trees)
def test_no_tree_ends_the_check(node):
    ends_in_a_report(node)
