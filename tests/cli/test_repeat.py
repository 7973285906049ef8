"""The same training over several seeds: figures, and files on disk."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import cli, history, manifest, overrides, settings

from mslab.check import check_dataset
from mslab.config import load_settings
from mslab.errors import ConfigError, DivergedError
from mslab.experiments import repeating

EXPLODES = {"lr_max": 100, "momentum": 0.99, "weight_decay": 1, "warmup_epochs": 2, "lr_init": 0.001, "epochs": 3}


def test_figures_are_mean_deviation_and_students_interval():
    result = repeating.interval([0.80, 0.84, 0.82])
    assert result["n"] == 3 and result["mean"] == pytest.approx(0.82) and result["std"] == pytest.approx(0.02)
    half = 4.302653 * 0.02 / 3**0.5  # t of 2 degrees of freedom, 97.5 %
    assert result["low"] == pytest.approx(0.82 - half, abs=1e-6) and result["high"] == pytest.approx(
        0.82 + half, abs=1e-6
    )


def test_one_value_has_no_deviation_and_no_value_has_no_mean():
    assert repeating.interval([0.9]) == {"n": 1, "mean": 0.9, "std": None, "low": None, "high": None}
    assert repeating.interval([]) == {"n": 0, "mean": None, "std": None, "low": None, "high": None}
    metrics = {key: repeating.interval([0.9] if key == "val_acc" else []) for key in repeating.METRICS}
    text = repeating.table({"runs": [{"seed": 1}], "metrics": metrics})
    assert "1 seed;" in text and "0.9000" in text and "–" in text and "test accuracy" not in text


def test_two_seeds_of_a_transfer_are_two_runs_and_their_mean(parent, squares, inside, capsys):
    config = load_settings(
        settings(squares / "two", 2, freeze="all", lr_init=1e-4, lr_max=1e-3) | {"stages": None, "seed": 3}
    )
    report = check_dataset(config.train_data, config.val_data)
    test = check_dataset(squares / "two" / "val")
    result = repeating.repeat(config, 2, report, "x", parent, test)
    (folder,) = (inside / "runs").iterdir()
    assert folder.name.startswith("x-repeat-") and json.loads((folder / "repeat.json").read_text()) == result
    assert sorted(path.name for path in folder.iterdir()) == ["repeat.json", "seed3", "seed4"]
    assert not list(folder.glob("*/checkpoints/*")) and len(list(folder.glob("*/history.csv"))) == 2
    rows = result["runs"]
    assert [row["seed"] for row in rows] == [3, 4]
    for row in rows:
        recorded = manifest(inside / row["run"])
        assert recorded["seed"] == row["seed"] and recorded["kind"] == "transfer" and recorded["status"] == "done"
        assert recorded["metrics"]["val_acc"] == row["val_acc"]
        last = history(inside / row["run"])[-1]
        assert (float(last["train_loss"]), float(last["train_acc"])) == (row["train_loss"], row["train_acc"])
        assert row["test_acc"] == pytest.approx(row["val_acc"], abs=1e-6)  # the same images
        measured = json.loads((inside / row["run"] / "eval.json").read_text())  # also of those images
        assert row["macro_f1"] == pytest.approx(
            np.mean([scores["f1"] for scores in measured["per_class"].values()]), abs=1e-6
        )
        assert row["linear_acc"] == recorded["metrics"]["linear_acc"]
    for key in repeating.METRICS:
        assert result["metrics"][key]["n"] == 2 and result["metrics"][key]["std"] is not None
        assert result["metrics"][key]["mean"] == pytest.approx(sum(row[key] for row in rows) / 2)
    assert "2 seeds; the interval is of the mean" in repeating.table(result)


def test_a_seed_that_diverges_is_reported_and_left_out(squares, inside):
    config = load_settings(settings(squares / "three", 3, **EXPLODES))
    report = check_dataset(config.train_data, config.val_data)
    with pytest.raises(DivergedError, match="The loss became"):
        repeating.repeat(config, 1, report, "x")
    (folder,) = (inside / "runs").iterdir()
    result = json.loads((folder / "repeat.json").read_text())
    assert "The loss became" in result["runs"][0]["failed"] and result["metrics"]["val_acc"]["n"] == 0


def test_a_run_may_not_stop_in_the_middle(squares, inside):
    config = load_settings(settings(squares / "three", 3, max_training_time=1.0))
    with pytest.raises(ConfigError) as caught:
        repeating.repeat(config, 2, check_dataset(config.train_data, config.val_data), "x")
    text = str(caught.value)
    assert "max_training_time: 1.0 would leave a repetition in the middle" in text
    assert "expected  runs that are trained to their end" in text and "max_training_time=null" in text
    assert not list(inside.iterdir())


def test_seeds_on_the_command_line(squares, inside):
    (inside / "x.yaml").write_text("\n".join(overrides(settings(squares / "three", 3))).replace("=", ": "))
    assert cli("repeat", "x.yaml", "--seeds", 0, cwd=inside).returncode == 2
    done = cli("repeat", "x.yaml", "epochs=1", "--seeds", 1, "--test", squares / "three", "--json", "-", cwd=inside)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["metrics"]["test_acc"]["n"] == 1 and result["metrics"]["val_acc"]["std"] is None
    assert "1/1  seed 1" in done.stderr and "repeat.json: every run's figures" in done.stderr


def test_the_fix_of_missing_folds_makes_them_and_they_are_trained(squares, inside):
    """Cross-validation: a run a fold, and one prediction for each image by the network that has not seen it."""
    shutil.copytree(squares / "three" / "train", "set")
    config = settings(inside, 3, epochs=2, train_data="none", val_data="nothing")
    (inside / "x.yaml").write_text("\n".join(overrides(config)).replace("=", ": "))
    done = cli("repeat", "x.yaml", "--folds", "f")
    assert done.returncode == 1 and "There is no folder of folds f." in done.stderr
    assert "mslab data split ROOT --folds 5 --out f    makes it" in done.stderr
    assert cli("data", "split", "set", "--folds", 2, "--out", "f", "--group", r"(\d\d)\.").returncode == 0
    done = cli("repeat", "x.yaml", "--folds", "f", "--json", "r.json")
    assert done.returncode == 0, done.stderr
    assert "1/2  fold 1" in done.stderr and "2 folds; the interval is of the mean" in done.stdout
    result = json.loads(Path("r.json").read_text())
    folder = Path(result["folder"])
    assert sorted(path.name for path in folder.iterdir()) == ["fold1", "fold2", "out-of-fold.csv", "repeat.json"]
    assert json.loads((folder / "repeat.json").read_text()) == result and result["folds"] == "f"
    rows = list(csv.DictReader((folder / "out-of-fold.csv").open()))
    assert sorted(row["file"] for row in rows) == sorted(map(str, Path("set").rglob("*.png")))
    for number, run in enumerate(result["runs"], 1):
        own = [row for row in rows if row["fold"] == str(number)]
        assert all(row["label"] == Path(row["file"]).parent.name for row in own)
        held_out = csv.DictReader(Path(f"f/fold{number}/val.csv").read_text().splitlines())
        assert {row["file"] for row in own} == {row["image"].removeprefix("../../") for row in held_out}
        assert run["fold"] == number and manifest(Path(run["run"]))["data"]["fingerprint"]
        assert run["val_acc"] == pytest.approx(sum(row["label"] == row["class"] for row in own) / len(own))
        assert run["last_acc"] == float(history(Path(run["run"]))[-1]["val_acc"])
    accuracy = sum(row["label"] == row["class"] for row in rows) / 48
    assert result["out_of_fold"]["accuracy"] == pytest.approx(accuracy) and result["out_of_fold"]["images"] == 48
    assert f"out of fold: accuracy {accuracy:.4f} on 48 images" in done.stdout


def test_folds_that_are_not_whole_are_refused_before_training(squares, inside):
    (inside / "x.yaml").write_text("\n".join(overrides(settings(squares / "three", 3))).replace("=", ": "))
    shutil.copytree(squares / "three" / "val", "set")
    assert cli("data", "split", "set", "--folds", 3, "--out", "f").returncode == 0
    done = cli("repeat", "x.yaml", "--folds", "set")
    assert done.returncode == 1 and "set has no folds." in done.stderr and "--out set-again" in done.stderr
    for words in (["--seeds", 2], ["train_data=set"]):
        done = cli("repeat", "x.yaml", *words, "--folds", "f")
        assert done.returncode == 2 and "leave out" in done.stderr
    Path("f/fold2/val.csv").write_text("image,label,x\nnone.png,a,1\n")
    done = cli("repeat", "x.yaml", "--folds", "f")
    assert done.returncode == 1 and "f/fold2/val.csv names no image that is there." in done.stderr
    Path("f/fold2/val.csv").unlink()
    done = cli("repeat", "x.yaml", "--folds", "f")
    assert done.returncode == 1 and "f lacks f/fold2/val.csv." in done.stderr and not Path("runs").exists()
