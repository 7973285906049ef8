"""Fuzz the data check with damaged images: it never crashes, never hangs, and passes no image that MindSpore refuses or
crashes on. The decoder runs in a separate process, which it may kill."""

import pytest
from fuzzing import QUICK, SEEDS, damaged, mindspores_decoder, nothing_bad_passes
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def decoder():
    with mindspores_decoder() as ask:
        yield ask


def test_undamaged_seeds_pass_and_mindspore_decodes_them(decoder):
    passed, total = nothing_bad_passes([(kind, []) for kind in range(len(SEEDS))], decoder)
    assert passed == total  # otherwise the fuzzing below would test nothing


@settings(max_examples=25, **QUICK)
@given(files=st.lists(damaged, min_size=30, max_size=60))
def test_no_damaged_image_passes_that_mindspore_refuses(files, decoder):
    nothing_bad_passes(files, decoder)
