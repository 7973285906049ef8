"""CONTRIBUTING.md's "Adding a task": its code and its lines, put into a copy of mslab, make a task that trains."""

import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest
from helpers import PROJECT, STAGES
from worked_task import CODE, COMMAND, edits

from mslab.data.mushrooms.scenes import draw_scenes

SMALL = [f"stages={STAGES}", "image_size=32", "epochs=1", "batch_size=2", "mode=pynative", "device=cpu"]


@pytest.fixture
def copy(tmp_path):
    """A project with this task."""
    shutil.copytree(PROJECT / "mslab", tmp_path / "mslab", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(PROJECT / "configs", tmp_path / "configs", ignore=shutil.ignore_patterns("measured"))
    (tmp_path / "mslab" / "tasks" / "count.py").write_text(CODE, encoding="utf-8")
    for file, old, new in edits():
        text = (tmp_path / file).read_text(encoding="utf-8")
        (tmp_path / file).write_text(text.replace(old, new), encoding="utf-8")
    return tmp_path


def test_the_task_of_the_worked_example_trains_and_is_measured(copy):
    draw_scenes(copy / "datasets", counts={"train": 3, "val": 2, "test": 2}, workers=1)

    def run(arguments):
        command = [sys.executable, "-P", "-m", "mslab", *arguments]
        done = subprocess.run(
            command, cwd=copy, env=os.environ | {"PYTHONPATH": str(copy)}, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, (arguments, done.stderr[-3000:])
        return done

    said = run([*shlex.split(COMMAND), *SMALL, "--no-report"]).stderr
    assert "the same answer for every image has exact 0." in said
    (path,) = (copy / "runs").iterdir()
    evaluation = json.loads((path / "eval.json").read_text())
    assert evaluation["task"] == "count" and evaluation["measure"] == "exact" and 0 <= evaluation["exact"] <= 1
    table = run(["eval", path, "--data", "datasets/scenes"])
    assert "exact" in table.stdout
