"""A table of labels as train_data and val_data: the same network as from class folders, in every command."""

import json
from pathlib import Path

import pytest
from helpers import cli, draw, manifest, overrides, settings
from labelling import flat, train_on_tables

from mslab.check import check_dataset


def test_a_table_trains_the_network_that_folders_of_the_same_classes_train(squares, inside):
    run = train_on_tables(squares, inside)
    done = cli("data", "import", "flat", "--labels", "train.csv", "--out", "sorted/train")
    assert done.returncode == 0, done.stderr
    assert cli("data", "import", "flat", "--labels", "val.csv", "--out", "sorted/val").returncode == 0
    done = cli("train", "x.yaml", "train_data=sorted/train", "val_data=sorted/val", "--no-report")
    assert done.returncode == 0, done.stderr
    folders = next(path for path in Path("runs").iterdir() if path != run)
    for key in ("best.ckpt", "last.ckpt"):
        assert (run / "checkpoints" / key).read_bytes() == (folders / "checkpoints" / key).read_bytes()
    assert manifest(run)["data"]["fingerprint"] == manifest(folders)["data"]["fingerprint"]


@pytest.fixture
def tables(tmp_path):
    draw(tmp_path / "set" / "train", ["cat", "dog"], 4)
    draw(tmp_path / "set" / "val", ["cat", "dog"], 2, seed=5)
    return flat(tmp_path / "set", "train", "val")


def test_what_is_wrong_with_a_table_is_said_of_the_table(tables):
    text = (tables / "val.csv").read_text()
    (tables / "val.csv").write_text(text.replace(",dog", ",Dog"))
    report = check_dataset(tables / "train.csv", tables / "val.csv")
    fixes = {finding.code: finding.fix for finding in report.errors}
    assert fixes["class-missing"] == "in val.csv, rename 'Dog' to 'dog'"
    (tables / "val.csv").write_text(text + text.splitlines()[1].replace("val-", "train-") + "\n")
    report = check_dataset(tables / "train.csv", tables / "val.csv")
    (leak,) = report.errors
    assert leak.code == "split-leak" and leak.path.startswith("images/train-")
    assert f"out of {tables}/train.csv" in leak.fix
    done = cli("check", tables / "train.csv", "--classes", "3")
    assert done.returncode == 1 and "train.csv  has 2 classes (cat, dog), class_num is 3" in done.stdout


def test_no_image_of_a_table_is_moved_or_changed_and_the_fix_works(tables, inside):
    (tables / "images/train-cat-000.png").write_bytes(b"")
    done = cli("check", tables / "train.csv")
    assert done.returncode == 1 and "images/train-cat-000.png  (" in done.stdout
    assert f"take {tables}/images/train-cat-000.png out of {tables}/train.csv" in done.stdout
    done = cli("check", tables / "train.csv", "--fix")
    assert done.returncode == 1 and "train.csv is a table of labels: its images are not moved" in done.stderr
    assert f"mslab data import {tables} --labels {tables}/train.csv" in done.stderr
    assert cli("data", "import", tables, "--labels", f"{tables}/train.csv").returncode == 1  # the empty one is there
    assert cli("check", "datasets/flat-sorted", "--fix", "--yes").returncode == 0


def test_images_behind_links_and_ignored_ones_are_as_in_folders(tables, tmp_path):
    (tables / "images/train-cat-000.png").rename(tmp_path / "away.png")
    (tables / "images/train-cat-000.png").symlink_to(tmp_path / "away.png")
    report = check_dataset(tables / "train.csv")
    assert [finding.code for finding in report.errors] == ["symlink"] and "follow_links: true" in report.errors[0].fix
    assert check_dataset(tables / "train.csv", follow_links=True).ok
    report = check_dataset(tables / "train.csv", ignore=["train-cat-000.png", "dog"])
    assert report.ok and report.counts == {"": {"cat": 3}}


def test_a_missing_table_is_answered_with_the_one_that_is_there(tables, inside):
    config = settings(tables, 2, train_data=str(tables / "trian.csv"), val_data=str(tables / "val.csv"))
    Path("x.yaml").write_text(json.dumps(config))
    done = cli("train", "x.yaml", *overrides({"epochs": 1}))
    assert done.returncode == 1 and f"{tables}/train.csv is there" in done.stderr
