"""data split: stratified, repeatable, near-duplicates in one split, nothing half-written."""

import shutil

import pytest
from checking import photo
from helpers import cli
from PIL import Image

from mslab.check import check_dataset
from mslab.check.content import near_pairs
from mslab.check.images import loaded_images
from mslab.data.splitting import split_dataset
from mslab.errors import DatasetError


@pytest.fixture
def root(tmp_path, once):
    def make(folder):
        for number, name in enumerate(("a", "b", "c")):
            (folder / name).mkdir()
            for index in range(20):
                photo(1000 * number + index, (80, 60)).save(folder / name / f"{index:02}.png")

    return shutil.copytree(once("photos", make), tmp_path / "set")


def files(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


def test_each_class_is_split_by_the_fractions(root, tmp_path):
    counts = split_dataset(check_dataset(root), tmp_path / "out", 0.2, 0.1)
    assert counts == {
        "train": {"a": 14, "b": 14, "c": 14}, "val": {"a": 4, "b": 4, "c": 4}, "test": {"a": 2, "b": 2, "c": 2}
    }  # fmt: skip
    report = check_dataset(tmp_path / "out")
    assert report.ok and report.images == 60 and not report.findings


def test_the_seed_decides_and_the_source_is_unchanged(root, tmp_path):
    before = files(root)
    report = check_dataset(root)
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        split_dataset(report, tmp_path / name, 0.25, seed=seed)
    assert files(tmp_path / "one") == files(tmp_path / "again") != files(tmp_path / "other")
    assert files(root) == before


def test_look_alikes_never_cross(root, tmp_path):
    for name in "abc":
        for index in range(8):  # all have a smaller, recompressed copy, two have an exact copy
            image = Image.open(root / name / f"{index:02}.png")
            image.resize((60, 45)).save(root / name / f"small{index}.jpg", quality=80)
            if index < 2:
                shutil.copy(root / name / f"{index:02}.png", root / name / f"copy{index}.png")
    before = check_dataset(root)
    pairs = len(near_pairs(before))
    assert pairs >= 24
    for seed in range(3):
        out = tmp_path / f"out{seed}"
        counts = split_dataset(before, out, 0.3, seed=seed)
        assert counts["val"] == {"a": 9, "b": 9, "c": 9}
        report = check_dataset(out)
        rows = list(loaded_images(report))
        assert not report.errors and len(near_pairs(report)) == pairs
        assert all(rows[i][0] is rows[j][0] for i, j, _ in near_pairs(report))


@pytest.mark.parametrize(
    ("change", "arguments", "text"),
    [
        (lambda root: (root / ".checkpoint").mkdir(), [], "has 4 class folders"),
        (lambda root: (root / "b" / "x.png").write_text("no image"), [], "cannot be used for training"),
        (
            lambda root: [path.unlink() for path in list((root / "c").iterdir())[1:]],
            [],
            "no image would be left for c in train",
        ),
        (lambda root: None, ["--val", "0.7", "--test", "0.4"], "Impossible fractions: val 0.7, test 0.4."),
        (lambda root: None, ["--val", "0"], "Impossible fractions: val 0."),
        (lambda root: (root.parent / "set-split").mkdir(), [], "set-split already exists."),
    ],
)
def test_a_refused_split_has_a_message_and_writes_nothing(root, change, arguments, text):
    change(root)
    before = files(root.parent)
    done = cli("data", "split", root, *arguments)
    assert done.returncode == 1 and text in done.stderr and "expected" in done.stderr and "fix" in done.stderr
    assert files(root.parent) == before


def test_a_data_set_that_is_already_split(root, tmp_path):
    split_dataset(check_dataset(root), tmp_path / "out", 0.2)
    with pytest.raises(DatasetError, match="is already split: train, val"):
        split_dataset(check_dataset(tmp_path / "out"), tmp_path / "again", 0.2)


def test_the_command_reports_the_images_of_each_split(root):
    done = cli("data", "split", root, "--val", "0.2", "--seed", "3")
    assert done.returncode == 0 and f"{root}-split/val: 12 images, a 4, b 4, c 4" in done.stderr
