"""data split: stratified, repeatable, near-duplicates in one split, nothing half-written."""

import csv
import shutil

import pytest
from checking import photo
from helpers import cli
from PIL import Image

from mslab.check import check_dataset
from mslab.check.content import near_pairs
from mslab.check.images import loaded_images
from mslab.data import splitting
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
        (lambda root: (root / "b" / "x.png").write_text("no image"), [], "cannot be used."),
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


# --- groups ----------------------------------------------------------------------------------------------------------


def split_of(out):
    """{file of class a: its split}"""
    return {path.name: path.parts[-3] for path in out.glob("*/a/*")}


def test_changed_copies_stay_with_their_original_by_their_names(root, tmp_path):
    names = [
        "00_aug_3",
        "00-hflip",
        "00_rotated_90",
        "00_png.rf.0123456789abcdef0123456789abcdef",
        "01 - Copy",
        "01 (1)",
    ]
    names += ["01 - 副本 (2)", "02_crop_bright", "03_png.rf.00112233445566778899aabbccddeeff"]
    for index, name in enumerate(names):
        photo(5000 + index, (80, 60)).save(root / "a" / f"{name}.png")  # none looks like its original
    (root / "a" / "00.png").rename(root / "a" / "00_png.rf.ffffffffffffffffffffffffffffffff.png")
    for number in range(9):
        photo(6000 + number, (80, 60)).save(
            root / "b" / f"download ({number}).png"
        )  # other images, as browsers name them
    photo(6100, (80, 60)).save(root / "b" / "download.png")
    groups = [[image.name for image in group] for group in splitting.group_images(check_dataset(root))]
    assert {len(group): sorted(group)[0] for group in groups if len(group) > 2} == {
        3: "a/00-hflip.png",
        4: "a/01 (1).png",
    }
    pairs = [sorted(group) for group in groups if len(group) == 2]
    assert [sorted(names)[1][:6] for names in pairs] == ["a/00_p", "a/02_c"]


def test_images_are_grouped_by_a_part_of_their_names(root, tmp_path):
    for number, path in enumerate(sorted((root / "a").iterdir())):
        path.rename(path.with_name(f"video{number // 4}_frame{number:03}.png"))
    for seed in range(3):
        out = tmp_path / f"out{seed}"
        done = cli("data", "split", root, "--seed", seed, "--out", out, "--group-by", "(.+)_frame")
        assert done.returncode == 0 and "20 of 60 images are in 5 groups that stay together" in done.stderr
        videos = {(name[:6], split) for name, split in split_of(out).items()}
        assert len(videos) == 5 and (out / "val" / "b").is_dir()
    done = cli("data", "split", root, "--group-by", "^nothing", "--out", tmp_path / "x")
    assert done.returncode == 1 and "--group '^nothing' matches none of the 60 names" in done.stderr
    done = cli("data", "split", root, "--group-by", "(", "--out", tmp_path / "x")
    assert done.returncode == 2 and "is not a regular expression" in done.stderr


def test_frames_of_one_burst_are_split_only_by_a_part_of_their_names(tmp_path):
    root = tmp_path / "burst"
    for number in range(24):  # neighbours look alike
        for name in "ab":
            (root / name).mkdir(parents=True, exist_ok=True)
            image = photo(ord(name), (80, 60)).point(lambda value, n=number: value * (1 - n / 100))
            image.save(root / name / f"scene{number // 6}_frame{number:02}.png")
    done = cli("data", "split", root)
    assert done.returncode == 1 and "no image would be left for a in" in done.stderr
    assert (
        "24 images stay together, such as a/scene0_frame00.png" in done.stderr and "--group '(.+)_frame'" in done.stderr
    )
    done = cli("data", "split", root, "--val", "0.25", "--group-by", "(.+)_frame")
    assert done.returncode == 0 and f"{root}-split/val: 12 images, a 6, b 6" in done.stderr
    assert "train has 75% of the images, val has 25% of the images" in done.stderr


def test_a_share_that_large_groups_miss_is_reported(root):
    for index, path in enumerate(sorted((root / "a").iterdir())[:18]):
        path.rename(path.with_name(f"dog{index // 9}_{index}.png"))
    done = cli("data", "split", root, "--group-by", "(dog.)_")
    assert (
        done.returncode == 0 and "note: val has 2 of 20 images of a, not 20%: large groups stay together" in done.stderr
    )


def test_the_smallest_group_is_taken_where_all_are_larger_than_the_share(root, tmp_path):
    for number, path in enumerate(sorted((root / "a").iterdir())):
        path.rename(path.with_name(f"clip{min(number // 7, 2)}_frame{number:02}.png"))  # 7, 7 and 6 images
    done = cli("data", "split", root, "--group-by", "(.+)_frame", "--val", "0.2")
    assert done.returncode == 0 and f"{root}-split/val: 14 images, a 6, b 4, c 4" in done.stderr
    assert "note: val has 6 of 20 images of a, not 20%" in done.stderr and "--group" not in done.stderr
    done = cli("data", "split", root, "--group-by", "(.+)_frame", "--test", "0.1", "--out", tmp_path / "three")
    assert done.returncode == 0 and "three/val: 14 images, a 6" in done.stderr and "test: 11 images" in done.stderr
    for path in (root / "a").glob("clip2*"):
        path.rename(path.with_name(path.name.replace("clip2", "clip1")))
    done = cli("data", "split", root, "--group-by", "(.+)_frame", "--test", "0.1", "--out", tmp_path / "none")
    assert done.returncode == 1 and "no image would be left for a in test" in done.stderr
    assert "at least 3 such groups in each class" in done.stderr
    assert "name smaller groups with --group" in done.stderr and "(.+)_frame" not in done.stderr


# --- groups ----------------------------------------------------------------------------------------------------------


def leaks(report):
    return [finding for finding in report.findings if finding.code == "group-leak"]


def test_a_recorded_group_in_two_splits_is_reported_by_the_check(root, tmp_path):
    for number, path in enumerate(sorted((root / "a").iterdir())):
        path.rename(path.with_name(f"video{number // 4}_frame{number:03}.png"))
    done = cli("data", "split", root, "--out", tmp_path / "out", "--group", "(.+)_frame")
    assert done.returncode == 0 and not leaks(check_dataset(tmp_path / "out"))
    assert (tmp_path / "out/groups.csv").read_text().splitlines()[:2] == ["image,group", "a/video0_frame000.png,video0"]
    moved = next((tmp_path / "out/val/a").iterdir())
    shutil.move(moved, tmp_path / "out/train/a")
    for report in (check_dataset(tmp_path / "out"), check_dataset(tmp_path / "out/train", tmp_path / "out/val")):
        (leak,) = leaks(report)
        assert leak.severity == "warning" and leak.path.startswith("val/a/video") and "is in train, too" in leak.message
        assert "mslab data split ROOT --group" in leak.fix
    (tmp_path / "out/groups.csv").write_text("x;y\n1;2\n")
    (leak,) = leaks(check_dataset(tmp_path / "out"))
    assert "cannot be read: it lacks the columns image and group" in leak.message and "restore it" in leak.fix


def test_the_check_guesses_no_group_and_takes_one_that_is_named(tmp_path):
    for split, numbers in (("train", range(6)), ("val", range(6, 9))):
        for name in "ab":
            (tmp_path / split / name).mkdir(parents=True)
            for number in numbers:
                place = tmp_path / split / name / f"IMG_{number % 4:04}_{number}.png"
                photo(ord(name) * 100 + number, (40, 40)).save(place)
    assert not leaks(check_dataset(tmp_path))  # cameras count from 0001 again
    done = cli("check", tmp_path, "--group", r"(IMG_\d+)")
    assert done.returncode == 0 and "warning  group-leak  (3)" in done.stdout
    assert "(the group 'IMG_0000' is in train, too, such as train/a/IMG_0000_0.png" in done.stdout
    done = cli("check", tmp_path, "--group", "(IMG)")
    assert "most images are in this group: --group may name a part that most names have" in done.stdout
    done = cli("check", tmp_path, "--group", "(patient)")
    assert done.returncode == 1 and "--group '(patient)' matches none of the 18 names" in done.stderr
    done = cli("check", tmp_path, "--group", "(")
    assert done.returncode == 2 and "--group (: it is not a regular expression" in done.stderr


def test_a_column_of_a_table_says_the_groups(root, tmp_path):
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    patients = {name: f"p{int(name[2:4]) % 6}" for name in names}
    rows = "".join(f"{name};{patient}\n" for name, patient in patients.items())
    (tmp_path / "patients.csv").write_text(f"file;Patient\n{rows}")
    split = ["data", "split", root, "--group", "patient", "--labels", tmp_path / "patients.csv"]
    done = cli(*split, "--val", "0.3", "--out", tmp_path / "out")
    assert done.returncode == 0 and "60 of 60 images are in 6 groups" in done.stderr, done.stderr
    assert len({(patients[f"a/{name}"], part) for name, part in split_of(tmp_path / "out").items()}) == 6
    done = cli("data", "split", root, "--labels", tmp_path / "patients.csv")
    assert done.returncode == 2 and "--group COLUMN" in done.stderr
    done = cli("data", "split", tmp_path / "out", *split[3:])
    assert done.returncode == 1 and "out is already split: train, val." in done.stderr
    (tmp_path / "patients.csv").write_text(f"file;Patient\n{rows}a/00.png;p5\n")
    done = cli(*split, "--out", tmp_path / "x")
    assert done.returncode == 1 and "two labels  a/00.png: p0 in line 2, p5 in line 62" in done.stderr


# --- folds -----------------------------------------------------------------------------------------------------------


def rows_of(table):
    return list(csv.DictReader(table.open()))


def test_each_image_is_in_the_validation_images_of_one_fold(root, tmp_path):
    for number, path in enumerate(sorted((root / "a").iterdir())):
        path.rename(path.with_name(f"video{number // 2}_frame{number:03}.png"))
    done = cli("data", "split", root, "--folds", "4", "--group", "(.+)_frame")
    assert done.returncode == 0 and "fold1: 1" in done.stderr and "mslab repeat CONFIG --folds" in done.stderr
    out = tmp_path / "set-folds"
    held = [row["image"] for fold in sorted(out.iterdir()) for row in rows_of(fold / "val.csv")]
    assert len(held) == len(set(held)) == 60 and not list(out.rglob("*.png"))
    for fold in out.iterdir():
        report = check_dataset(fold / "train.csv", fold / "val.csv")
        assert report.ok and report.images == 60 and not leaks(report)
        assert all(3 <= count <= 7 for count in report.counts["val"].values())
    groups = {(row["group"], fold.name) for fold in out.iterdir() for row in rows_of(fold / "val.csv") if row["group"]}
    assert len(groups) == 10
    table = out / "fold1/train.csv"
    held_row = (out / "fold1/val.csv").read_text().splitlines()[1]
    table.write_text(f"{table.read_text()}{held_row}\n")
    report = check_dataset(table, out / "fold1/val.csv")
    assert {finding.code for finding in report.errors} == {"split-leak"}


def test_folds_that_cannot_be_are_refused_with_nothing_written(root, tmp_path):
    done = cli("data", "split", root, "--folds", "21")
    assert done.returncode == 1 and "cannot be divided into 21 folds: fewer than 21 images or groups" in done.stderr
    assert "a has 20, b has 20, c has 20" in done.stderr and "use fewer --folds" in done.stderr
    done = cli("data", "split", root, "--folds", "3", "--group", "(..)")
    assert done.returncode == 0, done.stderr
    for words in (["--folds", "1"], ["--folds", "3", "--val", "0.2"], ["--folds", "3", "--test", "0.2"]):
        assert cli("data", "split", root, *words, "--out", tmp_path / "x").returncode == 2
    assert not (tmp_path / "x").exists()
