"""The list of mutants: every entry still has its place in the source, and tests that could notice it."""

import ast
from collections import Counter

import pytest
from helpers import PROJECT
from mutants import MUTANTS, broken, judged, modules, wanted


def test_there_are_enough_and_each_promise_is_there_once():
    assert len(MUTANTS) >= 40
    assert [promise for promise, count in Counter(m.promise for m in MUTANTS).items() if count > 1] == []


@pytest.mark.parametrize("number", range(1, len(MUTANTS) + 1))
def test_an_entry_breaks_one_place_and_compiles_and_its_tests_are_there(number):
    mutant = MUTANTS[number - 1]
    whole = (PROJECT / mutant.file).read_text(encoding="utf-8")
    assert whole.count(mutant.code) == 1, mutant.promise
    made = broken(mutant, whole)
    assert ast.dump(ast.parse(made)) != ast.dump(ast.parse(whole)), mutant.promise
    assert modules(mutant, PROJECT)


def test_mutants_are_chosen_by_number_and_by_word():
    assert [n for n, m in enumerate(MUTANTS, 1) if wanted(n, m, ["3", "5"])] == [3, 5]
    assert all("unpacking" in f"{m.file} {m.tests}" for n, m in enumerate(MUTANTS, 1) if wanted(n, m, ["UNPACKING"]))
    assert all(wanted(n, m, []) for n, m in enumerate(MUTANTS, 1))


@pytest.mark.parametrize(
    ("code", "said", "verdict", "why"),
    [
        (0, "5 passed", "lived", ""),
        (0, "2 passed, 3 skipped in 1.2s", "lived", "3 skipped"),
        (1, "FAILED tests/test_a.py::test_b[1] - assert 1 == 2", "killed", "tests/test_a.py::test_b[1]"),
        (1, "ERROR tests/test_a.py::test_b - a fixture", "killed", "tests/test_a.py::test_b"),
        (1, "E   ImportError: no\nERROR tests/test_a.py - ImportError", "broken", "pytest ended with 1: E   ImportErr"),
        (2, "E   SyntaxError: no\n1 error", "broken", "pytest ended with 2: E   SyntaxError: no"),
        (5, "3 deselected", "broken", "pytest ended with 5: 3 deselected"),
        (-11, "", "killed", "signal 11 ended its tests"),
        (None, "", "killed", "its tests had not ended after 300 s"),
    ],
)
def test_only_a_test_that_failed_has_noticed_a_mutant(code, said, verdict, why):
    found = judged(code, said)
    assert found[0] == verdict and found[1].startswith(why)
