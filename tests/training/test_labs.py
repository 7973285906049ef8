"""The labs' notebooks: stored without outputs, every call exists; tests/slow runs them."""

import ast
import importlib
import inspect
import typing
from dataclasses import dataclass

import nbformat
import pytest
from helpers import PROJECT

from mslab.config import FIELDS
from mslab.report import task_notebook

LABS = sorted((PROJECT / "docs" / "labs").glob("*.ipynb"))
NAMES = [path.stem for path in LABS]


def code_of(name):
    """The code cells in order."""
    notebook = nbformat.read(PROJECT / "docs" / "labs" / f"{name}.ipynb", as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", LABS, ids=NAMES)
def test_labs_are_stored_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells)
    assert notebook.metadata.keys() == {"kernelspec", "language_info"}  # nothing about the machine it ran on


@dataclass
class Instance:
    """Any value of mslab's class `kind`."""

    kind: type


class Reader(ast.NodeVisitor):
    """Reads code without running it: names of mslab have to exist and to accept the arguments of each call."""

    def __init__(self):
        self.values, self.calls = {}, set()

    def visit_Import(self, node):
        for item in node.names:
            self.values[(item.asname or item.name).partition(".")[0]] = importlib.import_module(item.name)

    def visit_ImportFrom(self, node):
        for item in node.names:
            module = importlib.import_module(node.module)
            value = getattr(module, item.name, None) or importlib.import_module(f"{node.module}.{item.name}")
            self.values[item.asname or item.name] = value

    def visit_Assign(self, node):
        self.generic_visit(node)
        for target in node.targets:
            if isinstance(target, ast.Name):
                self.values[target.id] = self.value(node.value)

    def visit_Attribute(self, node):
        self.generic_visit(node)
        self.value(node)

    def visit_Call(self, node):
        self.generic_visit(node)
        self.value(node)

    def visit_Dict(self, node):
        """Keys of a dictionary of settings have to be settings."""
        self.generic_visit(node)
        keys = {key.value for key in node.keys if isinstance(key, ast.Constant)}
        assert keys <= set(FIELDS) or not keys & set(FIELDS), keys - set(FIELDS)

    def value(self, node):
        """The value of an expression from an imported module; None for others."""
        if isinstance(node, ast.Name):
            return self.values.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self.value(node.value)
            if isinstance(owner, Instance):
                exists = hasattr(owner.kind, node.attr) or node.attr in typing.get_type_hints(owner.kind)
                assert exists, f"{owner.kind.__name__} has no {node.attr}"
                return getattr(owner.kind, node.attr, None)
            return getattr(owner, node.attr) if inspect.ismodule(owner) else None
        if isinstance(node, ast.Call):
            called = self.value(node.func)
            if not (inspect.isfunction(called) or inspect.isclass(called)) or not called.__module__.startswith("mslab"):
                return None
            self.calls.add(called.__qualname__)
            own = isinstance(node.func, ast.Attribute) and isinstance(self.value(node.func.value), Instance)  # a method
            keywords = {key.arg: None for key in node.keywords}
            inspect.signature(called).bind(*[None] * (len(node.args) + own), **keywords)
            returned = (
                called
                if inspect.isclass(called)
                else typing.get_type_hints(called, localns=vars(task_notebook)).get("return")
            )
            return Instance(returned) if inspect.isclass(returned) and returned.__module__.startswith("mslab") else None
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
    "five-heads": {"train", "transfer", "evaluate", "Run", "check_labels", "images_of", "open_task", "TaskModel.seen"},
    "find-what-is-wrong": {"train", "check_dataset", "fix", "find_rate", "Run", "Run.suspects", "DatasetReport.brief"},
}


@pytest.mark.parametrize("name", NAMES)
def test_labs_use_existing_functions_and_settings(name):
    reader = Reader()
    for cell in code_of(name):
        reader.visit(ast.parse(cell))
    assert reader.calls >= CALLS[name]
