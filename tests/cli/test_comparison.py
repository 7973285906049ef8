"""transfer --compare: every method on every fraction, with the same steps, from nested subsets."""

import json
import shlex
import shutil
from pathlib import Path

import pytest
from helpers import cli, history, manifest, overrides, settings
from PIL import Image

from mslab.check import check_dataset
from mslab.config import FIELDS, load_settings
from mslab.config.resolve import network_settings
from mslab.errors import CheckpointError, ConfigError
from mslab.experiments import comparison


def test_subsets_are_stratified_and_nested(squares):
    report = check_dataset(squares / "two" / "train", squares / "two" / "val")
    small, large = comparison.subset(report, 0.25, 1), comparison.subset(report, 0.5, 1)
    assert small.counts["train"] == {"left": 4, "right": 4} and large.counts["train"] == {"left": 8, "right": 8}
    assert small.counts["val"] == report.counts["val"]
    assert set(small.samples("train")[0]) < set(large.samples("train")[0])
    assert comparison.subset(report, 0.001, 1).counts["train"] == {"left": 1, "right": 1}
    assert comparison.subset(report, 0.25, 2).samples("train") != small.samples("train")
    assert len({report.fingerprint, small.fingerprint, large.fingerprint}) == 3


def test_a_grid_on_the_command_line(parent, squares, inside):
    """The smallest grid; a slow test has all three methods."""
    (inside / "x.yaml").write_text("\n".join(overrides(settings(squares / "two", 2))).replace("=", ": "))
    arguments = ["--backbone", parent, "--compare", "frozen", "--fractions", "0.25", "--seeds", 1]
    done = cli("transfer", "x.yaml", *arguments, "--json", "result.json")
    assert done.returncode == 0, done.stderr
    assert "1/1  frozen backbone, new head, 8 images" in done.stderr
    (row,) = json.loads(Path("result.json").read_text())["rows"]
    assert (row["way"], row["images"]) == ("frozen", 8)
    (folder,) = Path("runs").iterdir()
    assert json.loads((folder / "comparison.json").read_text())["rows"] == [row]
    with Image.open(folder / "comparison.png") as picture:
        assert picture.width > 500
    (run,) = folder.glob("frozen-8-*")
    assert not list(run.glob("checkpoints/*"))
    last = history(run)[-1]
    assert last["step"] == "8"  # 2 epochs of 4 steps, however few the images
    assert row["val_acc"] == pytest.approx(float(last["val_acc"]), abs=1e-5)
    assert "linear model" in done.stdout and "±" in done.stdout


def test_figures_are_means_over_seeds():
    rows = [{"way": "frozen", "images": 8, "val_acc": a, "linear_acc": 0.5} for a in (0.6, 0.8)]
    (row,) = comparison.summary({"rows": rows})
    assert row == {"way": "frozen", "images": 8, "mean": 0.7, "std": pytest.approx(0.1414, abs=1e-4)} | {
        "linear": 0.5,
        "seeds": 2,
    }


def test_wrong_options_of_a_comparison_are_listed():
    assert comparison.parse("frozen, scratch", "1,0.1") == (["frozen", "scratch"], [0.1, 1.0])
    with pytest.raises(ConfigError) as caught:
        comparison.parse("scratch,thawed", "0.1,much,0,2")
    text = str(caught.value)
    assert "'thawed' is none of scratch, frozen, finetune" in text and "'much' is not a number" in text
    assert "0 is out of range" in text and "2 is out of range" in text
    both = cli("transfer", "x.yaml", "--backbone", "y", "--compare", "frozen", "--only", "z")
    assert both.returncode == 2 and "cannot be combined" in both.stderr
    alone = cli("transfer", "x.yaml", "--backbone", "y", "--seeds", 2)
    assert alone.returncode == 2 and "--seeds needs --compare" in alone.stderr


def test_a_transfer_ends_with_the_command_that_trains_its_network_from_scratch(parent, squares, inside):
    """Without stages= the same config trains ResNet-50, and the comparison of the two means nothing."""
    table = settings(squares / "two", 2, epochs=1, freeze="all") | {"stages": None, "beta1": 0.8}
    (inside / "x.yaml").write_text(json.dumps(table))
    done = cli("transfer", "x.yaml", "--backbone", parent, "lr_max=0.04", "--no-report")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("note: beta1 in ") == 1, done.stderr
    line, _, text = done.stderr.splitlines()[-1].partition("    ")
    assert text == "trains the same network from scratch, to compare"
    assert line == "mslab train x.yaml lr_max=0.04 freeze=none 'stages=[[1, 8, 1], [1, 8, 2]]' --name scratch"
    (transfer,) = Path("runs").iterdir()
    own, other = load_settings(transfer / "config.yaml"), load_settings("x.yaml", shlex.split(line)[3:-2])
    other = other.replace(**network_settings(other), cache=own.cache)  # as a run from scratch completes them
    assert [key for key in FIELDS if getattr(own, key) != getattr(other, key)] == ["freeze"]

    scratch = Path(shutil.copytree(transfer, "runs/scratch"))
    (scratch / "config.yaml").write_text(json.dumps(other.model_dump()))
    (scratch / "manifest.json").write_text(json.dumps(manifest(transfer) | {"kind": "train", "parent": None}))
    done = cli("report", transfer, scratch)  # nothing to say: they may be compared
    page = Path("report.html").read_text()
    notes = [line for line in done.stderr.splitlines() if "note:" in line]
    assert len(notes) == 1 and "config.yaml was changed after the run" in notes[0]  # by this test
    assert 'class="warning"' not in page
    assert f"{transfer.name} (transfer)" in page and f"{scratch.name} (from scratch)" in page
    assert "<td>transfer</td>" in page and "<td>from scratch</td>" in page

    shutil.copytree(scratch, "runs/other")
    changed = load_settings(scratch / "config.yaml").replace(stages=[[3, 64, 1]], image_size=48, epochs=4, seed=2)
    changed = changed.replace(profile=changed.network_profile() | {"padding": "same"}, merge={"x": ["a"], "y": ["b"]})
    Path("runs/other/config.yaml").write_text(json.dumps(changed.model_dump()))
    done = cli("report", "runs/other", transfer)
    notes = [line for line in done.stderr.splitlines() if "config.yaml was changed" not in line]
    assert notes[0].startswith("note: The runs have different networks (stages, profile)")
    assert notes[1] == "note: The runs also differ in image_size, epochs, seed, merge."
    assert notes[3].startswith(
        "mslab train runs/other/config.yaml 'stages=[[1, 8, 1], [1, 8, 2]]' 'profile={}' image_s"
    )
    again = load_settings("runs/other/config.yaml", shlex.split(notes[3])[3:-2])
    assert again == load_settings(scratch / "config.yaml")  # what the command trains
    assert "different networks" in Path("report.html").read_text()
    assert cli("report", "runs/other", transfer, "--lang", "zh").returncode == 0


def test_a_comparison_trains_no_method_if_the_config_asks_for_another_network(parent, squares, inside):
    config = load_settings(settings(squares / "two", 2) | {"stages": [[1, 16, 1]]})
    report = check_dataset(config.train_data, config.val_data)
    with pytest.raises(CheckpointError, match=r"was trained with stages .*the config sets \[\[1, 16, 1\]\]"):
        comparison.compare(config, parent, ["scratch"], [1.0], 1, report, "x")
    assert not Path("runs").exists()
