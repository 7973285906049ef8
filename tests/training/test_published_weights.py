"""Training from published weights by their name: fetched, recorded, resumed and reproduced from, with their profile."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import PROJECT, cli, log, manifest
from mirrors import Mirror, mirror, rows, status, use_table
from ruamel.yaml import YAML
from torch_files import saved, stand_ins, torch_file

import mslab
from mslab import checkpoint, weights
from mslab.config import load_settings
from mslab.errors import CheckpointError, ConfigError
from mslab.runs import finding
from mslab.runs.folder import RunFolder
from mslab.training import finetuning, start
from mslab.weights import mindcv

NAME = "torchvision:resnet18"
FULL = f"{NAME}.IMAGENET1K_V1"
CONTENT = (PROJECT / "tests" / "data" / "torch.pth").read_bytes()  # a small network with torchvision's names
DIGITS = hashlib.sha256(CONTENT).hexdigest()[:8]
FILE = f"resnet18-{DIGITS}.pth"
assert mirror  # a fixture


@pytest.fixture
def served(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """A server whose torchvision:resnet18 is the small network."""
    use_table(monkeypatch, rows(CONTENT))
    mirror.content = CONTENT
    return mirror


def config_file(config: dict) -> Path:
    path = Path("two.yaml")
    with path.open("w") as file:
        YAML().dump(dict(config), file)
    return path


def test_a_transfer_from_a_name_records_its_source_and_hash(served, inside, two):
    run = mslab.transfer(two | {"epochs": 1}, backbone=NAME).run
    parent = manifest(run)["parent"]
    assert (parent["published"], parent["sha256"]) == (FULL, hashlib.sha256(CONTENT).hexdigest())
    assert parent["file"] == str(weights.folder() / FILE)
    text = log(run)
    assert f"published as {FULL}: top-1 69.758 % at 224 of 256 pixels" in text
    note = f"note: {FULL} was measured on 224 pixels; this run has image_size: 32"
    assert text.count(note) == 1 and "the backbone was trained on" not in text
    assert len(served.requests) == 1
    assert RunFolder.read(run).settings.mean == [0.485, 0.456, 0.406]


def test_a_backbone_brings_its_normalisation(served, inside, two):
    run = mslab.transfer(two | {"epochs": 1, "mean": [0.5, 0.5, 0.5]}, backbone=NAME).run
    assert load_settings(Path(run) / "config.yaml").mean == [0.485, 0.456, 0.406]


def test_the_command_the_report_and_the_list_of_runs_name_the_source(served, inside, two):
    done = cli("transfer", config_file(two), "--backbone", NAME, "epochs=1", "--name", "from-torchvision")
    assert done.returncode == 0, done.stderr
    assert f"fetching {served.address}/{FILE}" in done.stderr
    run = next(Path("runs").glob("from-torchvision-*"))
    assert (
        f"Started from {FULL} (sha256 {hashlib.sha256(CONTENT).hexdigest()[:12]}…)" in (run / "report.html").read_text()
    )
    assert json.loads(cli("runs", "--json", "-").stdout)["runs"][0]["parent"] == FULL


def test_a_mistake_in_the_config_is_said_before_anything_is_fetched(served, inside, two):
    done = cli("transfer", config_file(two), "--backbone", NAME, "epoch=1")
    assert done.returncode == 1 and "'epoch' is not a setting" in done.stderr and not served.requests


def test_a_file_of_another_hash_is_refused_and_taken_with_the_option_or_by_its_path(served, inside, two, caplog):
    weights.folder().mkdir()
    tensors = checkpoint.read(PROJECT / "tests" / "data" / "torch.pth").tensors
    with stand_ins():
        other = torch_file(saved({name: np.array(value * 2) for name, value in tensors.items()}))
    file = weights.folder() / FILE
    file.write_bytes(other)
    config = config_file(two)
    command = ["transfer", config, "--backbone", NAME, "epochs=1", "--no-report"]
    done = cli(*command)
    assert done.returncode == 1 and f"{file} is not the published file of {FULL}: it has another hash" in done.stderr
    assert f"mslab transfer {config} --backbone {file} epochs=1" in done.stderr.replace("\n", " ")
    assert not served.requests and file.read_bytes() == other
    assert cli(*command, "--allow-hash-mismatch").returncode == 0
    assert cli("transfer", config, "--backbone", file, "epochs=1", "--no-report").returncode == 0
    for run in Path("runs").iterdir():
        parent = manifest(run)["parent"]
        assert "published" not in parent and parent["sha256"] == hashlib.sha256(other).hexdigest()


def test_published_weights_are_recognised_wherever_their_file_lies(served, inside):
    Path(FILE).write_bytes(CONTENT)
    read = checkpoint.read(FILE)
    assert read.published.name == FULL and read.info["resize_size"] == 256
    Path("renamed.pth").write_bytes(CONTENT)
    assert checkpoint.read("renamed.pth").published is None


def test_mindcvs_published_file_is_mindcvs_without_a_note(served, inside, monkeypatch):
    """Its names are mslab's; only who published it shows which pooling it was trained with."""
    own = checkpoint.read(PROJECT / "tests" / "data" / "torch.pth")
    checkpoint.save_arrays(own.backbone | own.head, Path("x.ckpt"), {})
    content = Path("x.ckpt").read_bytes()
    content = content[: content.rindex(b"\x0a\x05mslab") - 2]  # as MindSpore writes it, without the entry
    file = f"resnet18-{hashlib.sha256(content).hexdigest()[:8]}.ckpt"
    monkeypatch.setattr(mindcv, "ROWS", f"\nresnet18 resnet/{file} 70.21 224/256 bilinear\n")
    use_table(monkeypatch, rows(CONTENT))
    served.content = content
    read = checkpoint.read(finding.find_network("mindcv:resnet18"))
    assert (read.dialect.name, read.profile["pool"], read.assumed) == ("mindcv", "same", "")
    assert "published as mindcv:resnet18" in read.describe()
    assert checkpoint.read(shutil.copy(weights.folder() / file, "other.ckpt")).dialect.name == "mslab"


def test_a_file_that_has_such_a_name_is_taken(served, inside, caplog):
    caplog.set_level("INFO", "mslab")
    Path(NAME).write_bytes(CONTENT)
    assert finding.find_network(NAME) == Path(NAME) and not served.requests
    assert f"{NAME} is a file here, and is taken" in caplog.text


@pytest.mark.parametrize(
    "given,names",
    [
        ("resnet18", "torchvision:resnet18"),
        ("ResNet18_Weights.IMAGENET1K_V1", FULL),
        (f"https://download.pytorch.org/models/{FILE}", FULL),
        (FILE, FULL),
    ],
)
def test_what_is_no_file_is_answered_with_the_names(served, inside, two, given, names):
    with pytest.raises(CheckpointError) as caught:
        mslab.transfer(two, backbone=given)
    assert caught.value.fix.startswith("published weights: ") and names in caught.value.fix and not served.requests


def test_train_from_a_network_without_class_names_says_what_to_do(served, inside, two):
    done = cli("train", config_file(two), "--from", NAME)
    assert done.returncode == 1 and "mslab transfer CONFIG --backbone FILE" in done.stderr


def test_convert_takes_a_name(served, inside):
    done = cli("convert", NAME, "--to", "new.ckpt")
    assert done.returncode == 0 and f"published as {FULL}" in done.stderr
    assert checkpoint.read("new.ckpt").info["mean"] == [0.485, 0.456, 0.406]


def test_a_run_that_was_stopped_in_its_first_epoch_finds_its_weights_again(served, inside, two):
    job = start.Job(
        load_settings(two), start.check_or_raise(load_settings(two), None), "two", finetuning.backbone_of(NAME)
    )
    run = start.prepare(job)
    run.write_manifest()
    (weights.folder() / FILE).unlink()
    assert finetuning.parent_of(RunFolder.read(run.path)).published.name == FULL and len(served.requests) == 2


def test_a_run_is_reproduced_from_the_name_on_a_machine_without_the_file(served, inside, two, monkeypatch):
    run = Path(mslab.transfer(two | {"epochs": 1}, backbone=NAME).run)
    monkeypatch.setenv("MSLAB_WEIGHTS", str(inside / "elsewhere"))
    shutil.rmtree(inside / "weights")
    served.answers = [status(404)]
    done = cli("reproduce", run, "--dry-run")
    assert done.returncode == 1 and "it answered 404 Not Found" in done.stderr and FILE in done.stderr
    done = cli("reproduce", run)
    assert done.returncode == 0, done.stdout + done.stderr
    again = next(path for path in Path("runs").iterdir() if "-again-" in path.name)
    assert manifest(again)["parent"]["published"] == FULL


def test_repeat_and_sweep_take_a_name(served, inside, two):
    config = config_file(two)
    done = cli("repeat", config, "--backbone", NAME, "--seeds", 2, "epochs=1")
    assert done.returncode == 0, done.stderr
    Path("space.yaml").write_text("lr_max: [0.01, 0.02]\n")
    done = cli("sweep", config, "--space", "space.yaml", "--backbone", NAME, "--trials", 1, "--workers", 1, "epochs=1")
    assert done.returncode == 0, done.stderr
    parents = [json.loads(path.read_text())["parent"] for path in sorted(Path("runs").rglob("manifest.json"))]
    assert {parent["sha256"] for parent in parents} == {hashlib.sha256(CONTENT).hexdigest()} and len(parents) == 3
    assert [parent.get("published") for parent in parents[:2]] == [FULL] * 2  # a sweep's workers have the usual table
    assert len(served.requests) == 1


def test_a_rubric_may_give_published_weights(served, inside):
    from mslab.grade.loading import given_file, load_rubric

    rubric = {"title": "t", "total": 1, "networks": {}, "given": NAME}
    rubric["items"] = [{"id": "files", "kind": "files", "points": 1, "files": ["report.html"]}]
    Path("rubric.yaml").write_text(json.dumps(rubric))
    assert given_file(load_rubric("rubric.yaml"), "rubric.yaml") == weights.folder() / FILE
    Path("rubric.yaml").write_text(json.dumps(rubric | {"given": "torchvision:resnet19"}))
    with pytest.raises(ConfigError, match="No weights are known as torchvision:resnet19"):
        load_rubric("rubric.yaml")
