"""mslab reproduce with two workers, and in a virtual environment."""

import json
import platform
import shutil

import pytest
from helpers import manifest, process, settings

from mslab.errors import DeviceError
from mslab.reproduce import installing
from mslab.runs.folder import RunFolder


@pytest.fixture
def finished_run(squares, finished):
    return finished(settings(squares / "three", 3)).run


def test_a_run_of_two_workers(finished_run, inside, all_cores):
    config = inside / "two.yaml"
    shutil.copy(finished_run / "config.yaml", config)
    done = process("train", config, "--workers", 2, "batch_size=4", "--no-report", cwd=inside)
    assert done.returncode == 0, done.stderr
    path = next((inside / "runs").iterdir())
    done = process("reproduce", path, "--no-report", cwd=inside)
    assert done.returncode == 0, done.stderr + done.stdout
    again = next(folder for folder in (inside / "runs").iterdir() if "-again-" in folder.name)
    assert RunFolder.read(again).manifest["workers"] == 2


def test_an_error_of_pip_is_reported(tmp_path):
    with pytest.raises(DeviceError) as caught:
        installing.install(
            installing.find_python(platform.python_version()),
            "# Python\nmslab-has-no-such-package==1.0\n",
            tmp_path,
        )
    assert "pip could not install the run's packages." in str(caught.value)
    assert "mslab-has-no-such-package==1.0" in str(caught.value)


def test_a_run_is_reproduced_with_its_recorded_packages(finished_run, inside):
    shutil.copytree(finished_run, inside / "run")
    content = manifest("run")
    (inside / "run" / "manifest.json").write_text(json.dumps(content | {"git": None}))  # as in a clean checkout
    (inside / "tmp").mkdir()
    env = {"TMPDIR": str(inside / "tmp")}
    done = process("reproduce", "run", "--install", "--no-report", cwd=inside, env=env, timeout=1800)
    assert done.returncode == 0, done.stderr + done.stdout
    assert "identical: every epoch's figures" in done.stdout and "installing " in done.stderr
    assert not list((inside / "tmp").glob("mslab-install-*"))
