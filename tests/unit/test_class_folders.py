"""`classes` and `merge`: which folders are which classes, and what is said about names that do not fit them."""

import json
import shutil
import unicodedata
from pathlib import Path

import pytest
from helpers import cli, draw, settings

from mslab.check import check_dataset
from mslab.config import load_settings

FOLDERS = ["Agaricus", "Amanita", "Boletus", "Entoloma"]
GROUPS = {"edible": ["Agaricus", "Boletus"], "poisonous": ["Amanita", "Entoloma"]}


@pytest.fixture
def four(once, inside):
    """four/{train,val} with FOLDERS, and c.yaml, which says nothing of classes."""

    def make(folder):
        for seed, (split, count) in enumerate([("train", 4), ("val", 3)]):
            draw(folder / split, FOLDERS, count, seed)

    shutil.copytree(once("four", make), "four")
    Path("c.yaml").write_text("\n".join(f"{k}: {json.dumps(v)}" for k, v in settings(Path("four"), 2).items()))
    return Path("four")


def merge(groups: dict) -> str:
    return f"merge={json.dumps(groups)}"


def test_check_config_counts_the_classes_that_training_would_have(four):
    chosen = cli("check", "c.yaml", "classes=[Boletus, Amanita]")
    assert chosen.returncode == 0 and "14 images, 2 classes" in chosen.stdout
    assert "train       8  Amanita 4, Boletus 4" in chosen.stdout and "left out: Agaricus, Entoloma" in chosen.stdout
    merged = cli("check", "c.yaml", merge(GROUPS), "--json", "-")
    document = json.loads(merged.stdout)
    assert document["ok"] and document["classes"] == ["edible", "poisonous"] and document["folders"] == GROUPS
    assert document["counts"] == {"train": {"edible": 8, "poisonous": 8}, "val": {"edible": 6, "poisonous": 6}}


def test_the_order_of_names_changes_nothing_and_the_grouping_changes_the_fingerprint(four):
    def read(**options):
        return check_dataset(four / "train", four / "val", **options)

    assert read(merge=GROUPS).fingerprint == read(merge={k: GROUPS[k][::-1] for k in reversed(GROUPS)}).fingerprint
    other = {"edible": ["Agaricus", "Amanita"], "poisonous": ["Boletus", "Entoloma"]}
    prints = [read(**o).fingerprint for o in ({}, {"merge": GROUPS}, {"merge": other}, {"classes": FOLDERS[:2]})]
    assert len(set(prints)) == 4 and read(classes=FOLDERS).fingerprint == prints[0]
    written = load_settings("c.yaml", ["classes=[b, a]", "merge={b: [d, c], a: [e]}"])
    assert written == load_settings("c.yaml", ["classes=[a, b]", "merge={a: [e], b: [c, d]}"])  # also for a resume
    paths, labels = read(merge=GROUPS).samples("train")
    assert [path.parent.name for path in paths[::4]] == ["Agaricus", "Boletus", "Amanita", "Entoloma"]
    assert labels == [0] * 8 + [1] * 8


def test_what_is_wrong_in_a_folder_that_is_left_out_does_not_matter(four):
    (four / "train" / "Entoloma" / "deep").mkdir()
    (four / "train" / "Entoloma" / "text.jpg").write_text("no image")
    assert not check_dataset(four / "train", four / "val").ok
    assert check_dataset(four / "train", four / "val", classes=FOLDERS[:3]).ok


def test_a_folder_in_no_group_is_an_error_until_classes_says_what_becomes_of_it(four):
    group = {"poisonous": ["Amanita", "Entoloma"]}
    refused = cli("check", "c.yaml", merge(group))
    assert refused.returncode == 1 and "Agaricus, Boletus  (in no group of merge)" in refused.stdout
    fix = 'classes: ["Agaricus", "Boletus", "poisonous"] and class_num: 3    keeps each as a class of its own'
    assert fix in refused.stdout
    kept = cli("check", "c.yaml", merge(group), 'classes=["Agaricus", "Boletus", "poisonous"]', "class_num=3")
    assert kept.returncode == 0 and "Agaricus 4, Boletus 4, poisonous 8" in kept.stdout
    refused = cli("check", "c.yaml", merge(group | {"edible": ["Boletus"]}))
    assert 'classes: ["edible", "poisonous"]    beside merge leaves it out' in refused.stdout
    left = cli("check", "c.yaml", merge(group | {"edible": ["Boletus"]}), 'classes=["edible", "poisonous"]')
    assert left.returncode == 0 and "left out: Agaricus" in left.stdout


@pytest.mark.parametrize(
    ("words", "path", "fix"),
    [
        ("classes=[amanita, Boletus]", "amanita", "did you mean Amanita?"),
        ("classes=[Bolet, Amanita]", "Bolet", "did you mean Boletus?"),
        ("classes=[0, Amanita]", "0", "write names instead of numbers: 0 may mean Agaricus"),
        ("classes=[Quercus, Amanita]", "Quercus", "correct the name, or leave it out"),
        ('merge={"a": ["Agaricus", "Boletus", "Xyz"], "b": ["Amanita", "Entoloma"]}', "Xyz", "correct the name"),
    ],
)
def test_a_name_that_no_folder_has_is_an_error_with_what_may_be_meant(four, words, path, fix):
    answer = cli("check", "c.yaml", words)
    assert answer.returncode == 1
    assert f"    {path}  (" in answer.stdout and "no folder is called so: Agaricus, Amanita" in answer.stdout
    assert fix in answer.stdout


def test_a_name_that_is_ignored_or_has_lost_its_zeros_is_explained(inside):
    draw(Path("n"), ["01", "02", "x"], 2)
    report = check_dataset("n", classes=["1", "02"])
    assert report.findings[0].fix == 'write "01" in quotes: without them YAML reads a number'
    report = check_dataset("n", classes=["x", "02"], ignore=["x"])
    assert report.findings[0].fix == "take x out of ignore, or out of the classes"
    assert check_dataset("n", classes=["01", "x"]).ok


def test_a_group_may_have_the_name_of_its_own_folder_only(four):
    own = {"Amanita": ["Amanita", "Entoloma"], "edible": ["Agaricus", "Boletus"]}
    assert cli("check", "c.yaml", merge(own)).returncode == 0
    other = {"Amanita": ["Entoloma", "Boletus"], "edible": ["Agaricus"]}
    answer = cli("check", "c.yaml", merge(other))
    assert answer.returncode == 1 and "Amanita/  (merge calls a group so, which does not contain" in answer.stdout
    assert "fix  give the group another name, or write Amanita into its list" in answer.stdout


def test_a_split_that_lacks_a_class_or_a_part_of_one_is_told(four):
    shutil.rmtree(four / "val" / "Entoloma")
    part = check_dataset(four / "train", four / "val", merge=GROUPS)
    assert part.ok and [(f.code, f.path) for f in part.findings if f.severity != "info"] == [
        ("class-part", "val/Entoloma/")
    ]
    assert "poisonous is made of Amanita, Entoloma, and this one is missing in val" in part.findings[0].message
    missing = check_dataset(four / "train", four / "val", classes=["Amanita", "Entoloma"])
    assert [(f.code, f.path) for f in missing.errors] == [("class-missing", "val/Entoloma/")]
    assert missing.errors[0].fix.endswith("or take it out of classes or merge")


def test_accents_are_found_in_both_unicode_forms(inside):
    name = "Fliegenpilz-ä"
    for split, form in (("train", "NFC"), ("val", "NFD")):
        draw(Path(split), [unicodedata.normalize(form, name), "b"], 2, seed=len(split))
    assert not check_dataset("train", "val").ok
    for form in ("NFC", "NFD"):
        report = check_dataset("train", "val", classes=[unicodedata.normalize(form, name), "b"])
        assert report.ok and len(report.class_names) == 2
        assert check_dataset("train", "val", merge={"x": [unicodedata.normalize(form, name)], "y": ["b"]}).ok


def test_class_num_is_compared_with_the_merged_classes(four):
    answer = cli("train", "c.yaml", merge(GROUPS), "class_num=4")
    assert (
        answer.returncode == 1 and "four/train has 2 classes; four/val has 2 classes, the command line" in answer.stderr
    )
    assert "train/ has 2 classes (edible, poisonous), class_num is 4" in answer.stderr
    assert "fix          class_num=2, or other classes or merge" in answer.stderr


def test_equal_images_of_one_merged_class_are_copies_and_no_conflict(four):
    shutil.copy(four / "train" / "Amanita" / "000.png", four / "train" / "Entoloma" / "copy.png")
    codes = [f.code for f in check_dataset(four / "train", four / "val").errors]
    assert codes == ["label-conflict"]
    merged = check_dataset(four / "train", four / "val", merge=GROUPS)
    assert merged.ok and "duplicate" in {f.code for f in merged.findings}


CONTRADICTORY = [
    ("classes=[a, a, b]", "classes: a is named twice", 'classes=["a", "b"]\''),
    ("classes=[a, b, c]", "class_num: 2 is not the number of classes: a, b, c", "class_num=3"),
    ("merge={x: [a, b], y: [b]}", "merge: b is in x and in y; a folder belongs to one class", "correct"),
    ("merge={x: [a, a], y: [b]}", "merge: a is twice in x; a folder belongs to one class", "correct"),
    ("merge={x: [a], a: [b]}", "merge: a is the name of a group and a folder in x; rename the group", "correct"),
    ("classes=[a, y] merge={x: [a, b], y: [c]}", "classes: a is no class of its own beside merge", '["x", "y"]'),
]


@pytest.mark.parametrize(("words", "text", "fix"), CONTRADICTORY)
def test_contradictory_classes_are_refused_before_an_image_is_read(four, words, text, fix):
    parts = [part.strip() for part in words.replace(" merge=", "|merge=").split("|")]
    answer = cli("train", "c.yaml", *parts)
    assert answer.returncode == 1 and text in " ".join(answer.stderr.split())
    assert fix in answer.stderr and "loading" not in answer.stderr and not Path("runs").exists()


WRITTEN_OTHERWISE = [
    ("classes=Amanita, Boletus", "write [Amanita, Boletus]"),
    ("classes=[Amanita, true]", "write [Amanita, 'true']"),
    ("classes=[train/Amanita/, Boletus/]", "write [Amanita, Boletus]"),
    ("classes={0: Amanita, 1: Boletus}", "write [Amanita, Boletus]"),
    ("merge={Amanita: bad, Entoloma: bad, Boletus: good}", "write {bad: [Amanita, Entoloma], good: [Boletus]}"),
    ("merge={bad: Amanita, good: Boletus}", "write {bad: [Amanita], good: [Boletus]}"),
    ('merge={bad: "Amanita, Entoloma", good: Boletus}', "write {bad: [Amanita, Entoloma], good: [Boletus]}"),
    ("merge=[bad: [Amanita], good: [Boletus]]", "write {bad: [Amanita], good: [Boletus]}"),
    ("class_names=[Amanita, Boletus]", "'class_names' is Keras's name; here it is 'classes'"),
]


@pytest.mark.parametrize(("words", "better"), WRITTEN_OTHERWISE)
def test_names_in_another_form_are_answered_with_the_right_one(four, words, better):
    answer = cli("train", "c.yaml", words)
    assert answer.returncode == 1 and better in " ".join(answer.stderr.split())


def test_check_says_where_settings_and_options_do_not_belong(four):
    assert "settings are for a CONFIG, and four is none" in cli("check", "four", "classes=[a]").stderr
    answer = cli("check", "c.yaml", "--fix")
    assert answer.returncode == 2 and "--fix, --convert and --undo change a ROOT" in " ".join(answer.stderr.split())


def test_check_config_compares_groups_of_images_as_training_splits_them(four):
    answer = cli("check", "c.yaml", merge(GROUPS), "--group", r"(\d+)\.png", "--json", "-")
    assert answer.returncode == 0, answer.stderr
    document = json.loads(answer.stdout)
    assert document["folders"] == GROUPS and "group-leak" in {finding["code"] for finding in document["findings"]}
    answer = cli("check", "c.yaml", merge(GROUPS), "--group", "nix")
    assert answer.returncode == 1 and "--group 'nix' matches none of the 28 names" in answer.stderr
