"""What the fix lines say is done, and works: those that train, export or evaluate."""

import shlex
import shutil
from pathlib import Path

import fixing
import pytest
from helpers import cli, draw


def test_what_a_fix_line_says_works_after_longer_commands(parent, inside):
    run = Path(shutil.copytree(parent, Path("runs") / "it"))
    places = fixing.prepare(run)
    fixing.check(fixing.SLOW, places)


def test_an_onnx_file_of_another_program_is_converted_and_predicts(parent, inside):
    onnx = pytest.importorskip("onnx")
    draw(Path("images"), ["a", "b"], 2)
    assert cli("export", parent, "--format", "onnx", "--out", "x.onnx").returncode == 0
    model = onnx.load("x.onnx")
    del model.metadata_props[:]
    onnx.save(model, "theirs.onnx")
    done = cli("predict", "theirs.onnx", "images")
    fix = next(line for line in done.stderr.splitlines() if "mslab convert" in line)
    words = shlex.split(fix[fix.index("mslab convert") :].split("    ")[0])
    assert done.returncode == 1 and words == ["mslab", "convert", "theirs.onnx", "--to", "theirs.ckpt"]
    assert cli(*words[1:]).returncode == 0 and cli("predict", "theirs.ckpt", "images").returncode == 0


def test_a_finished_run_without_its_networks_is_trained_again_by_the_command_that_is_shown(parent, inside):
    fixing.prepare(parent)
    assert cli("train", "x.yaml", "--no-report").returncode == 0
    (run,) = Path("runs").iterdir()
    (run / "checkpoints" / "best.ckpt").unlink()
    for shown in ("mslab predict", "mslab reproduce"):
        done = cli("predict", run, "images")
        fix = next(line for line in done.stderr.splitlines() if shown in line)
        words = shlex.split(fix[fix.index("mslab ") :].split("    ")[0])
        assert done.returncode == 1 and cli(*words[1:]).returncode == 0
        shutil.rmtree(run / "checkpoints")
        (run / "checkpoints").mkdir()
