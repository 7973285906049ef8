"""The manifest of a run: complete, of one schema, with migration of older ones; and lineage."""

import csv
import json
import re
import shutil
import struct
from pathlib import Path

import jsonschema
import mindspore
import numpy as np
import pytest
from helpers import figures, newest, settings, stopped_after, weights
from helpers import manifest as raw

import mslab
from mslab import check, files
from mslab.errors import RunError
from mslab.runs import manifest
from mslab.runs.folder import RunFolder
from mslab.runtime import versions
from mslab.training import start

SCHEMA = json.loads(manifest.FILE.read_text())


@pytest.fixture
def copy(parent, inside):
    """A finished run that the test may change."""
    return Path(shutil.copytree(parent, "copy"))


def test_variables_that_choose_onednns_kernels_are_recorded(monkeypatch):
    library = Path(mindspore.__file__).parent / "lib" / "libdnnl.so.2"
    names = re.findall(rb"\0((?:ONE)?DNNL_\w*(?:ISA|FPMATH)\w*)\0", library.read_bytes())
    assert b"DNNL_MAX_CPU_ISA" in names
    for name in names:
        monkeypatch.setenv(name.decode(), "AVX2")
        assert manifest.environment()["guards"][name.decode()] == "AVX2"


def test_a_run_writes_a_manifest_of_the_schema(parent):
    content = raw(parent)
    jsonschema.validate(content, SCHEMA)
    assert content["schema"] == manifest.SCHEMA and content["status"] == "done" and content["exit_status"] == 0
    here = content["environment"]
    assert here["packages"]["mindspore"] == versions.version("mindspore") and len(here["packages"]) > 20
    assert here["device"] == "cpu" and here["driver"] == "" and here["cpu"]["cores"] >= 1 and here["cpu"]["model"]
    assert here["guards"]["MS_COMPILER_CACHE_ENABLE"] == "0"
    flags = Path("/proc/cpuinfo").read_text()
    assert (here["cpu"]["instruction_set"] == "avx512") == ("avx512f" in flags)
    assert content["determinism"] == {"bit_identical": True, "remains": manifest.REMAINS["cpu"]}
    assert set(content["artifacts"]) == {
        *("config.yaml", "images.csv", "steps.csv", "history.csv", "eval.json"),
        *(f"checkpoints/{name}.ckpt" for name in ("best", "last", "best_backbone")),
    }


def test_a_failed_run_writes_it_too(squares, inside):
    with pytest.raises(mslab.errors.DivergedError):
        mslab.train(settings(squares / "three", 3, epochs=2, lr_max=100.0, lr_init=50.0, weight_decay=1.0))
    (failed,) = Path("runs").iterdir()
    content = raw(failed)
    jsonschema.validate(content, SCHEMA)
    assert content["status"] == "failed" and content["environment"]["device"] == "cpu"


def test_every_image_is_listed_with_its_sha256(parent, squares):
    with (parent / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * (16 + 7)
    for row in rows[::11]:
        assert row["sha256"] == files.sha256(squares / "three" / row["split"] / row["image"])
    report = check.check_dataset(squares / "three" / "train", squares / "three" / "val")
    assert raw(parent)["data"]["classes"] == manifest.class_digests(report)


def test_steps_contain_each_loss_exactly(parent):
    with (parent / "steps.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    epoch = RunFolder.read(parent).history[-1]
    assert [int(row["step"]) for row in rows] == list(range(1, epoch["step"] + 1))
    losses = np.array([row["loss"] for row in rows], np.float32)
    assert [str(np.float32(loss)) for loss in losses] == [row["loss"] for row in rows]
    assert float(np.mean(losses)) == pytest.approx(epoch["train_loss"], rel=1e-5)
    assert struct.unpack("f", struct.pack("f", float(rows[0]["loss"])))[0] == losses[0]


def test_steps_of_a_resumed_run_equal_those_of_a_run_without_a_stop(squares, inside, finished):
    config = settings(squares / "three", 3)
    complete = finished(config).run
    with stopped_after(1):
        mslab.train(config)
    half = newest()
    with (half / "steps.csv").open("a") as file:
        file.write("7,9.5\n8,9.5\n")  # of an epoch during which the run was killed
    start.resume(half)
    assert (half / "steps.csv").read_text() == (complete / "steps.csv").read_text()
    assert figures(half) == figures(complete) and weights(half, "last.ckpt") == weights(complete, "last.ckpt")
    (resumed,) = raw(half)["resumed"]
    assert resumed["epoch"] == 1 and resumed["environment"] is None
    jsonschema.validate(raw(half), SCHEMA)


def test_lineage_goes_back_to_the_first_run(parent, squares, inside, finished):
    second = str(finished(settings(squares / "two", 2, epochs=1), parent).run)
    third = mslab.transfer(settings(squares / "three", 3, epochs=1), second).run
    content = raw(third)
    jsonschema.validate(content, SCHEMA)
    origin = content["parent"]["run"]
    assert origin["kind"] == "transfer" and origin["class_names"] == ["left", "right"] and origin["path"] == second
    first = origin["parent"]["run"]
    assert first["kind"] == "train" and first["class_names"] == ["a", "b", "c"] and first["parent"] is None
    assert first["fingerprint"] == raw(parent)["data"]["fingerprint"]


def test_a_file_that_no_run_lists_has_no_lineage(parent, copy):
    lone = shutil.copy(parent / "checkpoints" / "best.ckpt", "lone.ckpt")
    assert manifest.parent(Path(lone), None)["run"] is None
    other = copy / "checkpoints" / "best.ckpt"
    other.write_bytes(other.read_bytes()[:-1] + b"x")  # no longer the run's file
    assert manifest.parent(other, None)["run"] is None


# --- older and broken ones -------------------------------------------------------------------------------------------


def test_a_manifest_of_schema_1_is_migrated(copy):
    content = raw(copy)
    for name in ("code", "environment", "determinism", "reproduces", "resumed", "rollbacks", "warnings", "ended_by"):
        del content[name]
    del content["data"]["classes"]
    content |= {"schema": 1, "parent": {"file": "x.ckpt", "sha256": "0" * 64}}
    (copy / "manifest.json").write_text(json.dumps(content))
    read = RunFolder.read(copy).manifest
    jsonschema.validate(read, SCHEMA)
    assert read["environment"] is None and read["data"]["classes"] == {} and read["parent"]["run"] is None
    assert read["metrics"] == content["metrics"] and read["artifacts"] == content["artifacts"]


@pytest.mark.parametrize(
    "change,message",
    [
        ({"schema": 99}, "has schema 99, written by a newer mslab"),
        ({"seed": "one"}, "seed  Input should be a valid integer"),
        ({"status": "well"}, "status  Input should be"),
        ({"colour": 1}, "colour  Extra inputs are not permitted"),
        ({"data": {"fingerprint": "x"}}, "data.fingerprint  String should match"),
        ({"schema": "1"}, "schema  Input should be 2"),
        ({"artifacts": {"/proc/kcore": "0" * 64}}, "String should match"),
        ({"artifacts": {"checkpoints/../../x": "0" * 64}}, "String should match"),
    ],
)
def test_an_invalid_manifest_is_reported_with_its_problem(change, message, copy):
    (copy / "manifest.json").write_text(json.dumps(raw(copy) | change))
    with pytest.raises(RunError) as caught:
        RunFolder.read(copy)
    text = " ".join(str(caught.value).split(" "))
    assert message.replace("  ", " ") in " ".join(text.split()) and "expected" in text and "fix" in text
