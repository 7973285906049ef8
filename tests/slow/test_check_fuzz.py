"""Fuzz the data check with random trees and damaged images, for long and with new ones each time."""

import pytest
from fuzzing import damaged, ends_in_a_report, mindspores_decoder, nothing_bad_passes, trees
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def decoder():
    with mindspores_decoder() as ask:
        yield ask


@settings(max_examples=600, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(files=st.lists(damaged, min_size=40, max_size=80))
def test_no_damaged_image_passes_that_mindspore_refuses_at_length(files, decoder):
    nothing_bad_passes(files, decoder)


@settings(max_examples=600, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(node=trees)
def test_no_tree_ends_the_check_at_length(node):
    ends_in_a_report(node)
