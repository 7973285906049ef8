"""The list of mutants: the code of every entry still exists in the source, and so do its tests."""

import ast
from collections import Counter

import pytest
from helpers import PROJECT
from mutants import MUTANTS, broken, is_selected, judge, modules


def test_there_are_enough_and_each_promise_is_there_once():
    assert len(MUTANTS) >= 40
    assert [promise for promise, count in Counter(m.promise for m in MUTANTS).items() if count > 1] == []


@pytest.mark.parametrize("number", range(1, len(MUTANTS) + 1))
def test_an_entry_breaks_one_line_and_compiles_and_its_tests_exist(number):
    mutant = MUTANTS[number - 1]
    text = (PROJECT / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.code) == 1, mutant.promise
    changed = broken(mutant, text)
    if mutant.file.endswith(".py"):
        assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text)), mutant.promise
    assert modules(mutant, PROJECT)


def test_mutants_are_selected_by_number_and_by_text():
    assert [n for n, m in enumerate(MUTANTS, 1) if is_selected(n, m, ["3", "5"])] == [3, 5]
    selected = [m for n, m in enumerate(MUTANTS, 1) if is_selected(n, m, ["UNPACKING"])]
    assert all("unpacking" in f"{mutant.file} {mutant.tests}" for mutant in selected)
    assert all(is_selected(n, m, []) for n, m in enumerate(MUTANTS, 1))


@pytest.mark.parametrize(
    ("code", "output", "verdict", "reason"),
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
def test_only_a_failed_test_has_noticed_a_mutant(code, output, verdict, reason):
    result = judge(code, output)
    assert result[0] == verdict and result[1].startswith(reason)
