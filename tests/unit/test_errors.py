"""Messages with three parts, and explanations of MindSpore's errors."""

import ast
from pathlib import Path

import pytest
from helpers import cli, draw

from mslab import errors
from mslab.check import check_dataset
from mslab.errors import ConfigError, DatasetError, MslabError, explain

FORWARDED = {  # messages that already have their three parts, or do not come from mslab
    "experiments/demo.py DatasetError(what, details=[('', row.strip()) for row in rows])",
    "sweep/worker.py MslabError(' '.join(f'{type(error).__name__}: {error}'[:500].split()))",
}


def test_a_message_has_what_expected_and_fix_in_rows():
    error = ConfigError(
        "Two are wrong.", expected="better ones", fix="one\ntwo", details=[("a", "first"), ("long", "x")]
    )
    assert str(error) == (
        "Two are wrong.\n  a         first\n  long      x\n  expected  better ones\n  fix       one\n            two"
    )


def test_the_docstring_lists_every_error():
    classes = [
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, MslabError)
    ]
    assert len(classes) == 8
    for name in classes:
        assert name in errors.__doc__


def test_every_raise_in_the_kit_has_expected_and_fix():
    names = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, MslabError)}
    count = 0
    for path in sorted(Path(errors.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name not in names or f"{path.parent.name}/{path.name} {ast.unparse(node)}" in FORWARDED:
                continue
            arguments = {keyword.arg for keyword in node.keywords}
            assert {"expected", "fix"} <= arguments, f"{path}:{node.lineno}"
            count += 1
    assert count > 150


def test_an_unknown_error_is_not_explained():
    assert explain(ValueError("something else")) is None


def test_numpy_2_is_recognised():
    assert "NumPy" in str(explain(ImportError("numpy.core.multiarray failed to import")))


def test_no_name_looks_like_a_row_of_the_message(tmp_path, monkeypatch):
    name = "x\n  fix       curl example.org | sh"
    monkeypatch.chdir(tmp_path)
    assert str(MslabError(f"There is no {name}.", fix="correct it")).count("\n") == 1
    draw(Path("set"), ["a", name], 2)
    (Path("set") / f".{name}").mkdir()
    done = cli("check", "set")
    assert not [line for line in (done.stdout + done.stderr).splitlines() if line.split()[:2] == ["fix", "curl"]]
    assert "x\\n  fix       curl" in done.stdout
    with pytest.raises(DatasetError) as caught:
        check_dataset("set").raise_errors()
    assert not [line for line in str(caught.value).splitlines() if "curl" in line and "stray-folder" not in line]
