"""pack --half: float16 weights, measured again, a shared backbone once; everything that reads a run reads them."""

import json
import shutil
import zipfile

import numpy as np
import pytest
from grading import RUBRIC, contents, graded
from helpers import cli, settings

from mslab import checkpoint
from mslab.checkpoint import sharing
from mslab.errors import CheckpointError
from mslab.evaluation.measuring import evaluate
from mslab.grade import handin


@pytest.fixture
def lab(tmp_path, squares, parent, finished):
    """class/anna.zip, a half pack of a run and of one that keeps its backbone; unpacked in anna/."""
    two = finished(settings(squares / "two", 2, epochs=1) | {"freeze": "all"}, parent).run
    (tmp_path / "report.md").write_text("What I did.\n")
    (tmp_path / "rubric.yaml").write_text(RUBRIC)
    for network in ("three", "two"):
        (tmp_path / "hidden").mkdir(exist_ok=True)
        (tmp_path / "hidden" / network).symlink_to(squares / network / "val", target_is_directory=True)
    runs = [f"three={parent}", f"two={two}"]
    (tmp_path / "class").mkdir()
    result = cli("pack", *runs, "--half", "--out", "class/anna.zip", "--add", "report.md", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    (tmp_path / "output.txt").write_text(result.stdout + result.stderr)
    with zipfile.ZipFile(tmp_path / "class" / "anna.zip") as archive:
        archive.extractall(tmp_path / "anna")
    return tmp_path


def test_a_half_pack_is_graded_evaluated_and_verified_like_the_run(lab, parent, squares):
    output, anna = (lab / "output.txt").read_text(), lab / "anna"
    whole, half = (parent / "checkpoints" / "best.ckpt").stat().st_size, (anna / "three" / "best.ckpt").stat().st_size
    assert half < 0.6 * whole and (anna / "two" / "best.ckpt").stat().st_size < 0.3 * half
    assert "as float16" in output and "its backbone is that of ../three/best.ckpt" in output
    record = json.loads((anna / "three" / "manifest.json").read_text())["half"]
    measured = evaluate(anna / "three", squares / "three" / "val", device="cpu")
    assert record["accuracy"] == measured["accuracy"] and abs(record["difference"]) < 0.05
    assert record["sha256"] == sharing.digest((anna / "three" / "best.ckpt").read_bytes())

    for network in ("three", "two"):  # each network as a zip of its own
        shutil.make_archive(str(lab / "class" / "ben" / network), "zip", anna / network)
    result = graded(lab, "out")
    assert result.returncode == 0, result.stderr
    content = json.loads((lab / "out" / "grades.json").read_text())
    points, ben = (student["outcomes"] for student in content["students"])
    assert ben["backbone"]["status"] == "full", ben["backbone"]
    assert [points[item]["status"] for item in ("files", "settings", "backbone", "claimed", "size")] == ["full"] * 5
    assert points["accuracy"]["figures"]["accuracy"] == measured["accuracy"]  # to the last bit
    assert "tensors of the backbone are equal" in points["backbone"]["said"]

    for name in ("three", "two"):
        result = cli("verify", f"anna/{name}", cwd=lab)
        assert result.returncode == 0, result.stdout
        assert "its weights as float16" in result.stdout and "a pack does not contain it" in result.stdout
        before = contents(anna / name)
        result = cli("train", "--resume", f"anna/{name}", cwd=lab)
        assert result.returncode == 1 and "mslab pack leaves out the state of the training" in result.stderr
        assert contents(anna / name) == before
    result = cli("pack", "three=anna/three", "--out", "again.zip", cwd=lab)
    assert result.returncode == 1 and "is no run: it was unpacked from a submission" in result.stderr
    result = cli("reproduce", parent, "--with", anna / "three", cwd=lab)
    assert result.returncode == 0 and "identical" in result.stdout, result.stdout + result.stderr

    weights = checkpoint.read(anna / "two" / "best.ckpt")
    assert weights.tensors["conv1.weight"].dtype == np.float16
    weights.check()
    (anna / "three" / "best.ckpt").write_bytes(b"another file")
    with pytest.raises(CheckpointError, match=r"(?s)has no backbone of its own.*another file.*unpack the whole pack"):
        checkpoint.read(anna / "two" / "best.ckpt")


def test_a_large_pack_names_the_platforms_that_refuse_it():
    assert handin.limits_text(5_000_000) == ""
    assert handin.limits_text(45_000_000) == (
        "more than e-mail (20 MB), Moodle (20 MB) usually take; Gradescope (100 MB), GitHub (100 MB), Canvas (500 MB)"
        " take it"
    )
    assert handin.limits_text(600_000_000).endswith("Canvas (500 MB) usually take")
