"""Float16 runs and files without an entry, used to the end: resume, eval, predict, convert, transfer, grade."""

import json
import shutil
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from helpers import cli, manifest, newest, overrides, settings, stopped_after, weights
from submitted import inspect, zip_of
from trainings import plain

import mslab
from mslab import checkpoint
from mslab.check import check_dataset
from mslab.checkpoint import Choice
from mslab.errors import ConfigError
from mslab.grade.loading import check_dialect
from mslab.grade.measuring import HiddenImages
from mslab.runtime import devices
from mslab.training import start


@pytest.fixture
def half(monkeypatch):
    """Let a CPU train in float16, which the kit refuses since it is slow there; MindSpore can."""
    calls = devices.setup_calls
    monkeypatch.setattr(devices, "setup_calls", lambda *a, **k: calls(*a, **(k | {"amp_level": "O0"})))


def test_a_float16_run_is_resumed_and_used(squares, inside, half):
    config = settings(squares / "two", 2, amp_level="O2", image_size=16, batch_size=16)
    complete = Path(mslab.train(config).run)
    with stopped_after(1):
        mslab.train(config, name="stopped")
    stopped = newest("stopped-*")
    last = checkpoint.read(stopped / "checkpoints" / "last.ckpt")
    state = {name.removeprefix("training.") for name in last.tensors if name.startswith("training.")}
    moments = {name for name in state if name.startswith("moments.")}
    assert moments and state - moments == {"scale_value", "counter", "global_step", "momentum"}
    last.check()
    before = {name.removeprefix("training."): value for name, value in last.tensors.items()}
    old = shutil.copytree(stopped, Path("runs/old"))  # as the kit named the state before
    checkpoint.save_arrays(before, old / "checkpoints" / "last.ckpt", last.info)
    for run in (stopped, old):
        assert mslab.evaluate(run / "checkpoints" / "last.ckpt", squares / "two")["images"] == 10
        start.resume(run)
        assert weights(run) == weights(complete) and weights(run, "last.ckpt") == weights(complete, "last.ckpt")
    done = cli("predict", old / "checkpoints" / "last.ckpt", squares / "two" / "val" / "left")
    assert done.returncode == 0 and done.stdout.endswith("7 images\n")
    done = cli("convert", old / "checkpoints" / "last.ckpt", "--to", "x.safetensors")
    assert done.returncode == 0 and "tensors left out (the optimizer's)" in done.stderr
    Path("c.yaml").write_text("freeze: all\n")
    more = overrides(settings(squares / "three", 3, epochs=1, image_size=16))
    done = cli("transfer", "c.yaml", *more, "--backbone", old / "checkpoints" / "last.ckpt", "--no-report")
    assert done.returncode == 0 and "tensors left out (the optimizer's)" in done.stderr


# --- mindcv's names are mslab's --------------------------------------------------------------------------------------


@pytest.fixture
def nameless(squares, finished, inside):
    """A file of a run of three classes as plain MindSpore, or mindcv, would write it: without an entry."""
    loaded = mslab.load_network(finished(plain(squares)).run)
    ms.save_checkpoint(loaded.network, "theirs.ckpt")
    return Path("theirs.ckpt")


def test_the_dialect_decides_how_a_network_is_measured(nameless, squares):
    note = f"note: {nameless}: its names do not tell mslab from mindcv, whose pooling differs: taken as mslab's"
    losses = []
    for options in ([], ["--dialect", "mslab"], ["--dialect", "mindcv"]):
        done = cli("eval", nameless, "--data", squares / "three", "--json", "eval.json", *options)
        assert done.returncode == 0 and (note in done.stderr) == (not options), done.stderr
        losses.append(json.loads(Path("eval.json").read_text())["loss"])
    assert losses[0] == losses[1] != losses[2]
    done = cli("predict", nameless, squares / "three" / "val", "--dialect", "torchvision")
    assert done.returncode == 1 and "for this file: mindcv, mslab" in done.stderr
    assert cli("export", nameless, "--format", "mindir", "--dialect", "mindcv").returncode == 0
    done = cli("predict", "theirs.mindir", squares / "three" / "val", "--dialect", "mindcv")
    assert done.returncode == 1 and "--dialect mindcv does nothing for theirs.mindir" in done.stderr


def test_a_transfer_and_its_repetition_use_the_dialect(nameless, squares):
    config = settings(squares / "two", 2, epochs=1, freeze="all")
    runs = [mslab.transfer(config, nameless, choice=Choice(dialect=name)).run for name in ("mindcv", "mslab")]
    assert [checkpoint.read(f"{run}/checkpoints/best.ckpt").profile["pool"] for run in runs] == ["same", "symmetric"]
    assert manifest(runs[0])["parent"]["dialect"] == "mindcv"
    again = cli("reproduce", runs[0], "--no-report")
    assert again.returncode == 0, again.stderr
    assert checkpoint.read(newest() / "checkpoints" / "best.ckpt").profile["pool"] == "same"


def test_a_submission_without_an_entry_is_measured_by_the_graders_dialect(nameless, squares, tmp_path):
    report = check_dataset(squares / "three" / "test")
    images = {"a": HiddenImages(report, next(iter(report.splits)), tmp_path / "images")}
    content = nameless.read_bytes()
    source = zip_of(tmp_path / "x.zip", {"best.ckpt": content})
    logits = []
    for more in ({}, {"dialect": "mindcv"}):
        measured = inspect(tmp_path, source, {"a": ["best.ckpt"]}, images, **more)
        logits.append(measured.logits["a"])
        notes = measured.facts["networks"]["a"]["notes"]
        assert len(notes) == 1 - len(more) and all("do not tell mslab from mindcv" in note for note in notes)
    assert np.abs(logits[0] - logits[1]).max() > 1e-3
    with pytest.raises(ConfigError, match="--dialect official decides nothing"):
        check_dialect("official")
