"""The packages of mslab/: imports go down one list, and no module or function grows beyond its limit."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from helpers import PROJECT

import mslab
from mslab.check import worker

PACKAGE = PROJECT / "mslab"
# fmt: off
ROOMS = [
    "errors", "escaping", "files", "safe_yaml", "stages", "model", "schedule", "cpu_layout", "mindcv_backbone",
    "config", "tasks", "check", "runtime", "weights", "checkpoint", "data", "runs", "evaluation", "training",
    "inference", "report", "experiments", "reproduce", "grade", "doctor", "cli", "modelarts",
]
# fmt: on
MOST = {"__init__": 60, "module": 400, "function": 60}  # lines
FILES = sorted(PACKAGE.rglob("*.py"))


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def room_of(file: Path) -> str:
    """room_of(mslab/data/mushrooms/shape.py) -> "data" """
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(file: Path) -> Iterator[list[str]]:
    """Yield a file's imports, at its top or later: ["mslab", "data", "batching", "Images"]."""
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} has a relative import; write mslab in full"
            for alias in node.names:
                yield f"{node.module}.{alias.name}".split(".")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name.split(".")


def test_mslab_is_some_twenty_rooms():
    rooms = {room_of(file) for file in FILES} - {"__init__", "__main__"}
    assert rooms == set(ROOMS) and len(rooms) <= 27


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_down_the_list_of_rooms(room):
    below = ROOMS[: ROOMS.index(room)]
    for file in FILES:
        if room_of(file) != room:
            continue
        for first, *rest in imports_of(file):
            assert first != "benchmarks", f"{file} imports a tool of the project"
            if first == "mslab" and rest and rest[0] in ROOMS and rest[0] != room:
                assert rest[0] in below, f"{file} imports {rest[0]}, which is above it"
                alone = f"{file} has to stand alone: it imports nothing of mslab but the check of its table"
                assert room not in ("model", "schedule") or rest[0] == "stages", alone


def test_no_module_and_no_function_is_too_long():
    too_long = []
    for file in FILES:
        text, name = file.read_text(encoding="utf-8"), file.relative_to(PACKAGE).as_posix()
        if text.count("\n") > MOST["__init__" if file.stem == "__init__" else "module"]:
            too_long.append(name)
        for node in ast.walk(tree(file)):
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            if function and (node.end_lineno or 0) - node.lineno >= MOST["function"]:
                too_long.append(f"{name} {node.name}")
    assert too_long == []


def test_pillow_identifies_files_in_one_place_only():
    """Pillow starts a program for EPS, and other plugins read other files: open_image names the formats."""
    found = []
    for file in FILES:
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Attribute | ast.Name):
                name = node.attr if isinstance(node, ast.Attribute) else node.id
                if name == "imread" or (name == "open" and ast.unparse(node).endswith("Image.open")):
                    found.append(f"{file.stem}: {ast.unparse(node)}")
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("PIL"):
                found += [f"{file.stem}: {a.name} as {a.asname}" for a in node.names if a.asname or a.name == "open"]
                found += [f"{file.stem}: {a.name}" for a in node.names if "Plugin" in a.name or a.name == "ImageFile"]
    assert sorted(found) == ["worker: Image.open", "worker: Image.open", "worker: TiffImagePlugin"]
    assert not {"EPS", "WMF", "FPX", "MIC", "IPTC", "PDF", "PSD", "ICNS"} & set(worker.READ)


def test_no_two_public_classes_share_a_name():
    files: dict[str, list[str]] = {}
    for file in FILES:
        for node in tree(file).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                files.setdefault(node.name, []).append(file.relative_to(PACKAGE).as_posix())
    assert {name: paths for name, paths in files.items() if len(paths) > 1} == {}


def test_no_room_hides_a_public_function():
    assert not set(mslab.PUBLIC) & set(ROOMS)


def test_within_a_room_no_two_modules_import_each_other():
    for room in ROOMS:
        modules = {".".join(f.relative_to(PROJECT).with_suffix("").parts): f for f in FILES if room_of(f) == room}
        graph = {}
        for name, file in modules.items():
            graph[name] = {other for names in imports_of(file) for other in matching(names, modules)}
        for name in graph:
            assert name not in reachable(graph, name), f"{name} imports itself through {sorted(graph[name])}"


def matching(names: list[str], modules: dict[str, Path]) -> list[str]:
    return [name for count in range(2, len(names) + 1) if (name := ".".join(names[:count])) in modules]


def reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    names: set[str] = set()
    todo = list(graph[start])
    while todo:
        name = todo.pop()
        if name not in names:
            names.add(name)
            todo += graph[name]
    return names
