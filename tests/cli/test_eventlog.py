"""What needs a process of its own: what is imported, and in which order."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import overrides


def history(run):
    with (Path(run) / "history.csv").open() as file:
        return list(csv.DictReader(file))


def test_nothing_else_changes_and_without_it_nothing_is_imported(inside, three):
    (inside / "x.yaml").write_text("\n".join(overrides(three)).replace("=", ": "))
    script = (
        "import sys, mslab; mslab.train('x.yaml', sys.argv[1:]); "
        "print([m for m in ('tensorboardX', 'mslab.eventlog') if m in sys.modules])"
    )
    said = []
    for words in ([], ["log_to=tensorboard"]):
        done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said == ["[]\n", "['tensorboardX', 'mslab.eventlog']\n"]
    plain, logged = sorted((inside / "runs").iterdir())
    names = {path.relative_to(plain) for path in plain.rglob("*") if path.is_file()}
    more = {path.relative_to(logged) for path in logged.rglob("*") if path.is_file()} - names
    assert {path.parent.name for path in more} == {"tensorboard"} and len(more) == 2
    for name in names:
        one, other = (plain / name).read_bytes(), (logged / name).read_bytes()
        if name.suffix == ".ckpt" or name.name == "eval.json":
            assert one == other, name
    rows = [[row | {"images_per_s": "", "seconds": ""} for row in history(run)] for run in (plain, logged)]
    assert rows[0] == rows[1]
    keys = [json.loads((run / "manifest.json").read_text()).keys() for run in (plain, logged)]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("first,text", [("sys", "Descriptors cannot be created directly"), ("mslab", "")])
def test_tensorboardx_before_mindspore_ends_mindspores_import_but_for_mslab(first, text):
    script = f"import {first}, tensorboardX, mindspore"
    environment = {k: v for k, v in os.environ.items() if k != "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert (text in done.stderr) if text else done.returncode == 0
