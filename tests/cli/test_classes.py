"""Runs on some of the classes, and on several folders as one class: every command reads the data as the run did."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import cli, history, manifest, overrides, resolved, weights

import mslab
from mslab import checkpoint
from mslab.check import check_dataset
from mslab.data import decoded, sources
from mslab.errors import DatasetError
from mslab.runs import weights as weight_files
from mslab.runtime.console import Meter

MERGE = {"bad": ["a", "b"], "good": ["c"]}


@pytest.fixture
def merged(inside, three, trained):
    """A copied run on a and b as one class, c as another."""
    return trained(three | {"merge": MERGE, "class_num": 2, "epochs": 1, "label_balance": True}).run


@pytest.fixture
def some(inside, three, trained):
    """A copied run on b and c alone."""
    return trained(three | {"classes": ["c", "b"], "class_num": 2, "epochs": 1}).run


def test_class_num_counts_manifest_and_checkpoints_are_of_the_merged_classes(merged, inside):
    record = manifest(merged)
    assert record["class_names"] == ["bad", "good"] and record["data"]["counts"]["train"] == {"bad": 32, "good": 16}
    assert record["settings"]["merge"] == MERGE
    info = checkpoint.read(merged / "checkpoints" / "best.ckpt").info
    assert info["class_names"] == ["bad", "good"] and info["folders"] == MERGE
    assert not {"folders", "class_names"} & checkpoint.read(merged / "checkpoints" / "best_backbone.ckpt").info.keys()
    assert json.loads((merged / "eval.json").read_text())["per_class"]["bad"]["support"] == 14


def test_eval_reads_the_original_classes_as_the_run_did(merged, squares, inside):
    answer = cli("eval", merged, "--data", squares / "three" / "val", "--json", "-")
    result, own = json.loads(answer.stdout), json.loads((merged / "eval.json").read_text())
    assert result["class_names"] == ["bad", "good"] and "bad is a, b" in answer.stderr
    assert result["confusion"] == own["confusion"] and result["accuracy"] == own["accuracy"]


def test_evaluate_reads_some_of_the_classes_as_the_run_did(some, squares, inside):
    result, own = mslab.evaluate(some, squares / "three" / "val"), json.loads((some / "eval.json").read_text())
    assert result["class_names"] == ["b", "c"] and result["images"] == 14
    assert result["confusion"] == own["confusion"]
    report = check_dataset(squares / "three" / "val", **weight_files.reading_of(some))
    assert report.unused == ["a"] and "left out: a" in report.brief()


def test_a_folder_that_has_the_merged_classes_is_read_as_it_is(merged, squares, inside):
    val, read = squares / "three" / "val", weight_files.reading_of(merged)
    shutil.copytree(val / "a", "sorted/bad")
    shutil.copytree(val / "c", "sorted/good")
    assert check_dataset("sorted", **read).counts == {"": {"bad": 7, "good": 7}}
    Path("sorted/good").rename("sorted/c")
    assert check_dataset("sorted", **read).folders_of == {"bad": ["bad"], "good": ["c"]}
    Path("sorted/bad").rename("sorted/a")  # without b
    report = check_dataset("sorted", **read)
    assert report.counts == {"": {"bad": 7, "good": 7}} and [f.code for f in report.findings] == ["class-part"]


def test_eval_measures_a_merged_class_on_data_without_the_other(merged, squares, inside):
    shutil.copytree(squares / "three" / "val" / "a", "part/a")
    answer = cli("eval", merged, "--data", "part", "--threshold", "good=0.5", "--json", "-")
    assert answer.returncode == 0 and "part: 7 images, 1 class\n" in answer.stderr, answer.stderr
    per_class = json.loads(answer.stdout)["thresholds"]["per_class"]
    assert per_class["bad"]["support"] == 7 and per_class["good"]["recall"] is None
    shutil.copytree(squares / "three" / "val" / "c", "part/other")
    answer = cli("eval", merged, "--data", "part")
    assert answer.returncode == 1 and "part has the classes bad, other;" in answer.stderr
    assert "--ignore other\n            or rename the folder, if it is good" in answer.stderr
    assert cli("eval", merged, "--data", "part", "--ignore", "other").returncode == 0
    shutil.rmtree("part/other")
    assert {row.true_name for row in mslab.Run(merged).mistakes(99, data="part")} <= {"bad"}
    assert (
        mslab.Run(merged)
        .mistakes(99, data=squares / "three" / "val")
        .title.endswith("21 images, the most confident first")
    )


def test_test_images_of_a_repetition_may_have_a_folder_per_merged_class(three, squares, inside):
    for name, source in (("bad", "a"), ("good", "c")):
        shutil.copytree(squares / "three" / "val" / source, f"test/{name}")
    settings = three | {"merge": MERGE, "class_num": 2, "epochs": 1}
    Path("c.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items()))
    answer = cli("repeat", "c.yaml", "--seeds", 1, "--test", "test", "--skip-check", "--json", "-")
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["metrics"]["test_acc"]["n"] == 1


def test_predict_and_suspects_name_the_merged_classes(merged, squares, inside):
    answer = cli("predict", merged, squares / "three" / "val" / "a" / "000.png", "--json", "-")
    assert set(json.loads(answer.stdout)[0]["probabilities"]) == {"bad", "good"}
    answer = cli("suspects", merged, "--data", squares / "three" / "val", "--json", "-", "--skip-check")
    assert answer.returncode == 0 and "21 images, 2 classes" in answer.stderr
    assert {row["label"] for row in json.loads(answer.stdout)["suspects"]} <= {"bad", "good"}


def test_a_resume_keeps_the_classes(three, squares, inside, merged):
    refused = cli("train", "--resume", merged, 'merge={"bad": ["a"], "good": ["b", "c"]}')
    assert refused.returncode == 1 and "cannot go on with other values of merge" in refused.stderr
    more = cli("train", "--resume", merged, "epochs=2", "lr_scheduler=constant")
    assert more.returncode == 1  # another schedule
    same = cli("train", "--resume", merged)
    assert same.returncode == 0 and "is finished" in same.stderr


def test_transfer_from_three_classes_to_a_merged_head(parent, three, inside):
    words = [*overrides(three | {"epochs": 1, "class_num": 2}), f"merge={json.dumps(MERGE)}", "freeze=all"]
    Path("c.yaml").write_text("class_num: 3\n")
    answer = cli("transfer", "c.yaml", "--backbone", parent, *words, "--no-report")
    assert answer.returncode == 0, answer.stderr
    assert "head: new (2 classes)" in answer.stderr


def test_list_order_changes_no_bit(three, some, trained):
    other = trained(three | {"classes": ["b", "c"], "class_num": 2, "epochs": 1}).run
    assert weights(some) == weights(other) and history(some)[0]["val_acc"] == history(other)[0]["val_acc"]


def test_a_pack_is_read_in_the_same_way(squares, inside):
    """Also in the same order: a run on it has the same bits."""
    assert cli("data", "pack", squares / "three", "--out", "pack").returncode == 0
    plain, packed = (check_dataset(root / "train", merge=MERGE) for root in (squares / "three", Path("pack")))
    assert packed.counts == plain.counts and packed.class_names == ["bad", "good"]
    both = [sources.images_of(report, "") for report in (plain, packed)]
    assert np.array_equal(both[0].labels, both[1].labels)
    first, second = ([file.read_bytes() for file in opened(images)] for images in both)
    assert first == second


def opened(images):
    for file in images.open_images(np.arange(len(images))):
        yield Path(file) if isinstance(file, str | Path) else SimpleNamespace(read_bytes=file.getvalue)


def test_images_cached_on_disk_keep_their_labels(three, inside):
    """The file has the images in the order of the classes, which merging changes."""
    for groups in ({"z": ["a"], "y": ["b", "c"]}, {"y": ["a"], "z": ["b", "c"]}):
        report = check_dataset(three["train_data"], three["val_data"], merge=groups)
        plain = {"train": sources.images_of(report, "train")}
        cached = decoded.cache_decoded(plain, resolved(cache="disk"), report)["train"]
        with Meter(2) as meter:
            first, last = (next(decoded.decode(plain["train"].take([at]), 1, meter)) for at in (0, -1))
        assert np.array_equal(cached.pixels[0], first) and np.array_equal(cached.pixels[-1], last)


def test_a_report_on_other_classes_is_refused(three, squares, inside):
    report = check_dataset(three["train_data"], three["val_data"])
    with pytest.raises(DatasetError) as caught:
        mslab.train(three | {"merge": MERGE, "class_num": 2}, report=report)
    assert "was checked with other classes" in str(caught.value) and not Path("runs").exists()


def test_a_rubric_merges_its_hidden_images(merged, squares, inside):
    shutil.copytree(squares / "three" / "val", "hidden/three")
    Path("class/anna/two").mkdir(parents=True)
    shutil.copy(merged / "checkpoints" / "best.ckpt", "class/anna/two/best.ckpt")
    rubric = """
title: Two of three
total: 10
networks:
  two: {file: two/best.ckpt, data: three, class_num: 2, merge: {bad: [a, b], good: [c]}}
items:
  - {id: accuracy, kind: accuracy, points: 10, network: two, linear: {from: 0.0, to: 1.0}}
"""
    Path("rubric.yaml").write_text(rubric)
    words = ("grade", "class", "--rubric", "rubric.yaml", "--data", "hidden", "--out", "out")
    answer = cli(*words)
    assert answer.returncode == 0, answer.stderr
    measured = json.loads((merged / "eval.json").read_text())["accuracy"]
    assert f"{10 * measured:.2f}".rstrip("0").rstrip(".") in Path("out/grades.csv").read_text()
    Path("rubric.yaml").write_text(rubric.replace("[a, b]", "[a]"))
    answer = cli(*words)
    assert answer.returncode == 1 and "keeps each as a class of its own" in answer.stderr
