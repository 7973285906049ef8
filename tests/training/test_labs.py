"""The labs' notebooks: stored without outputs, of calls that exist, one run small; tests/slow runs both as they are."""

import ast
import importlib
import inspect
import os
import typing
from dataclasses import dataclass
from unittest import mock

import nbformat
import pytest
from helpers import PROJECT

from mslab.config import FIELDS

LABS = sorted((PROJECT / "docs" / "labs").glob("*.ipynb"))
NAMES = [path.stem for path in LABS]


def code_of(name):
    """The code cells, in their order."""
    notebook = nbformat.read(PROJECT / "docs" / "labs" / f"{name}.ipynb", as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", LABS, ids=NAMES)
def test_labs_are_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}  # nothing of the machine that it ran on


@dataclass
class Of:
    """Something of mslab's class `kind`, whatever its value."""

    kind: type


class Reader(ast.NodeVisitor):
    """Reads code without running it: what it takes from mslab has to be there, and to take what it is called with."""

    def __init__(self):
        self.known, self.calls = {}, set()

    def visit_Import(self, node):
        for item in node.names:
            self.known[(item.asname or item.name).partition(".")[0]] = importlib.import_module(item.name)

    def visit_ImportFrom(self, node):
        for item in node.names:
            module = importlib.import_module(node.module)
            found = getattr(module, item.name, None) or importlib.import_module(f"{node.module}.{item.name}")
            self.known[item.asname or item.name] = found

    def visit_Assign(self, node):
        self.generic_visit(node)
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.known[target.id] = self.value(node.value)

    def visit_Attribute(self, node):
        self.generic_visit(node)
        self.value(node)

    def visit_Call(self, node):
        self.generic_visit(node)
        self.value(node)

    def visit_Dict(self, node):
        """Settings have names that are settings."""
        self.generic_visit(node)
        keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
        assert keys <= set(FIELDS) or not keys & set(FIELDS), keys - set(FIELDS)

    def value(self, node):
        """What the expression is, as far as it is of a module that was imported; else None."""
        if isinstance(node, ast.Name):
            return self.known.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.value(node.value)
            if isinstance(owner, Of):
                there = hasattr(owner.kind, node.attr) or node.attr in typing.get_type_hints(owner.kind)
                assert there, f"{owner.kind.__name__} has no {node.attr}"
                return getattr(owner.kind, node.attr, None)
            return getattr(owner, node.attr) if inspect.ismodule(owner) else None
        if isinstance(node, ast.Call):
            called = self.value(node.func)
            if not (inspect.isfunction(called) or inspect.isclass(called)) or not called.__module__.startswith("mslab"):
                return None
            self.calls.add(called.__qualname__)
            own = isinstance(node.func, ast.Attribute) and isinstance(self.value(node.func.value), Of)  # a method
            given = {key.arg: None for key in node.keywords}
            inspect.signature(called).bind(*[None] * (len(node.args) + own), **given)
            gives = called if inspect.isclass(called) else typing.get_type_hints(called).get("return")
            return Of(gives) if inspect.isclass(gives) and gives.__module__.startswith("mslab") else None
        return None


CALLS = {
    "nine-to-two": {
        "train",
        "transfer",
        "evaluate",
        "Run",
        "Run.mistakes",
        "Run.predict",
        "Run.report",
        "show_network",
    },
    "find-what-is-wrong": {"train", "check_dataset", "fix", "find_rate", "Run", "Run.suspects", "DatasetReport.brief"},
}


@pytest.mark.parametrize("name", NAMES)
def test_labs_call_what_is_there_with_settings_that_exist(name):
    reader = Reader()
    for cell in code_of(name):
        reader.visit(ast.parse(cell))
    assert reader.calls >= CALLS[name]


SMALLER = {  # of find-what-is-wrong: what makes it take seconds
    "IMAGES = 100": "IMAGES = 40",
    "[[1, 16, 1], [1, 32, 2], [1, 64, 2]]": "[[1, 16, 1], [1, 32, 2]]",
    '("val", 25)': '("val", 10)',
    "steps=60": "steps=40",
    '"optimizer": "adam",': '"optimizer": "adam", "mode": "pynative",',
}


def test_find_what_is_wrong_comes_out_small(inside, capsys):
    """Every cell, and what each shows as HTML; the last one holds what was found against what is wrong."""
    values, shown = {}, {}
    whole = "\n".join(code_of("find-what-is-wrong"))
    assert all(text in whole for text in SMALLER)
    with mock.patch.dict(os.environ):
        for cell in code_of("find-what-is-wrong"):
            capsys.readouterr()
            for text, smaller in SMALLER.items():
                cell = cell.replace(text, smaller)
            *rest, last = ast.parse(cell).body
            exec(compile(ast.Module(rest, []), "cell", "exec"), values)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), "cell", "eval"), values)
            else:
                value = exec(compile(ast.Module([last], []), "cell", "exec"), values)
            page = value._repr_html_() if hasattr(value, "_repr_html_") else None
            shown[cell.splitlines()[0]] = capsys.readouterr().out, page
    *_, (said, _) = shown.values()
    assert said == "the lab worked\n"
    refused, _ = shown["settings = {"]
    assert all(code in refused for code in ("stray-folder", "truncated", "split-leak"))
    warned, _ = shown['for warning in bad.manifest["warnings"]:']
    assert "the loss does not move" in warned
    assert "suspects are for a person to look at" in shown["suspects = good.suspects()"][1]
    assert (inside / "shapes.quarantine" / "train" / ".ipynb_checkpoints").is_dir()
