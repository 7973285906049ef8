"""Names and levels of splits as others have them: found, or named as what they are; --fix moves no data set away."""

import shutil
import subprocess
from pathlib import Path

import pytest
from checking import photo
from helpers import cli, draw

from mslab.check import check_dataset, quarantine
from mslab.check.splits import classes_folder, find_splits, split_name, subfolders
from mslab.errors import DatasetError

SPELLED = {
    "train": "Train TRAIN training Training train_images images_train train_set trainset TrainingSet training_data "
    "trainval train2017 01-train train(1) 训练集 訓練 训练数据 학습",
    "val": "Val2017 valid Valid validation Validation_Set dev devset eval evaluation val_split 验证集 Validación",
    "test": "Test tests testing test_set TestSet testImages holdout hold-out held_out 测试集 測試集 テスト",
}
CLASSES = "cat dog trains trainer testament contest valley untrained untested data images set1"


def state(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() if p.is_file() else b"" for p in folder.rglob("*")}


def make(root, *folders, classes=("cat", "dog")):
    """Class folders with two images each in these folders; a folder that ends in * has images and no classes."""
    for number, folder in enumerate(folders):
        path = root / folder.rstrip("*")
        draw(path.parent, [path.name], 2, number) if folder.endswith("*") else draw(path, list(classes), 2, number)
    return root


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")


def found(root):
    """{split: its folder in root} and the codes of errors and warnings."""
    report = check_dataset(root, skip_content=True)
    folders = {name: split.root.relative_to(root).as_posix() for name, split in report.splits.items()}
    return folders, {finding.code for finding in report.findings if finding.severity != "info"}


def test_every_usual_name_of_a_split_is_read_as_that_split():
    for split, names in SPELLED.items():
        assert {name: split_name(name) for name in names.split()} == dict.fromkeys(names.split(), (split, ""))
    assert split_name("Training Set") == ("train", "") and split_name("seg_test") == ("test", "seg")
    assert not [name for name in CLASSES.split() if split_name(name)[0]]


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (["Training", "Testing"], {"train": "Training", "test": "Testing"}),  # brain tumours on Kaggle
        (["train", "valid", "test"], {"train": "train", "val": "valid", "test": "test"}),  # Roboflow
        (["seg_train/seg_train", "seg_test/seg_test"], {"train": "seg_train/seg_train", "test": "seg_test/seg_test"}),
        (["archive/Train", "archive/Val"], {"train": "archive/Train", "val": "archive/Val"}),
        (["train/images", "val/images"], {"train": "train/images", "val": "val/images"}),
        (["images/训练集", "images/验证集"], {"train": "images/训练集", "val": "images/验证集"}),
        (["ILSVRC/Data/CLS-LOC/train", "ILSVRC/Data/CLS-LOC/val"], None),
        (["food-101/images"], {"": "food-101/images"}),
        (["."], {"": "."}),
        (["cat*", "dog*", "test*", "training*"], {"": "."}),  # four classes
    ],
)
def test_splits_and_classes_are_found_where_others_put_them(tmp_path, folders, splits):
    root = make(tmp_path / "set", *folders)
    touch(root, "README.md", "ILSVRC/Annotations/a/b.xml") if splits is None else None
    wanted = splits or {"train": "ILSVRC/Data/CLS-LOC/train", "val": "ILSVRC/Data/CLS-LOC/val"}
    assert found(root) == (wanted, set())
    before = state(tmp_path)
    done = cli("check", root, "--fix")
    assert done.returncode == 0 and state(tmp_path) == before, done.stdout


def test_other_spellings_and_folders_in_between_are_mentioned(tmp_path):
    report = check_dataset(make(tmp_path / "set", "images/Training", "images/valid"))
    notes = {(f.code, f.path): f.message for f in report.findings if f.code in ("split-name", "inner-folder")}
    assert notes.keys() == {
        (code, f"images/{name}/") for code in ("split-name", "inner-folder") for name in ("Training", "valid")
    }
    assert notes["split-name", "images/valid/"].startswith("(read as val,")


def test_images_beside_the_splits_are_reported(tmp_path):
    root = make(tmp_path / "set", "train", "val")
    photo().save(root / "logo.png")
    assert found(root) == ({"train": "train", "val": "val"}, {"loose-file"})


def test_two_folders_that_would_be_one_split_are_an_error_whose_fix_works(tmp_path):
    root = make(tmp_path / "my set", "train", "Training", "test")
    (finding,) = check_dataset(root).errors
    assert finding.code == "split-name" and "train/ is called like it: both would be train" in finding.message
    subprocess.run(finding.fix[finding.fix.index("mv ") :], shell=True, check=True)
    assert found(root) == ({"train": "train", "test": "test"}, {"unused-folder"})


@pytest.mark.parametrize(
    ("folders", "files", "text"),
    [
        (["images/train*", "images/val*"], ["labels/train/1.txt"], "YOLO's layout"),
        (["train/images*", "valid/images*"], ["train/labels/1.txt", "valid/labels/1.txt"], "YOLO's layout"),
        (["images*"], ["labels/1.txt", "classes.txt", "notes.json"], "YOLO's layout"),  # Label Studio
        (["train2017*", "val2017*"], ["annotations/instances_val2017.json"], "in annotations/"),
        (["train*", "valid*"], ["train/_annotations.coco.json"], "COCO's layout"),
        (["VOC2012/JPEGImages*"], ["VOC2012/Annotations/1.xml"], "Pascal VOC's layout"),
        (["train*", "test*"], ["train.csv"], "the splits test, train, not classes, and they contain no class folders: "
         "the labels may be in train.csv"),
        (["images*"], ["labels.csv"], "the labels may be in labels.csv"),
        (["cat/train*", "cat/val*", "dog/train*", "dog/val*"], [], "with the splits train, val in each"),
        (["train/images*", "valid/images*"], [], "contains images, not classes: a name that says nothing"),
        (["foo", "bar"], [], "contains bar, foo, with the folders cat, dog in them: neither classes of images nor"),
        (["cat*", "dog*", "test"], [], "contains test, which has the same classes as what is around it"),
        (["train", "test*"], ["sample_submission.csv"], "or its images have no labels"),
    ],
    ids=lambda value: None if isinstance(value, str) else value[0] if value else "none",
)  # fmt: skip
def test_a_layout_that_is_no_data_set_is_named_and_nothing_is_moved(tmp_path, folders, files, text):
    root = make(tmp_path / "set", *folders)
    touch(root, *files)
    before = state(tmp_path)
    done = cli("check", root, "--fix")
    assert done.returncode == 1 and text in done.stdout and state(tmp_path) == before
    errors = check_dataset(root, skip_content=True).errors
    assert {finding.code for finding in errors} == {"wrong-level"} and all(finding.fix for finding in errors)


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (["cat/train*", "cat/val*", "dog x/train*", "dog x/val*"], {"train": "train", "val": "val"}),
        (["-cat/train*", "-cat/val*", "dog/train*", "dog/val*"], {"train": "train", "val": "val"}),
        (["cat*", "dog*", "test"], {"train": "train", "test": "test"}),
        (["cat*", "-dog*", "test/cat*", "test/-dog*"], {"train": "train", "test": "test"}),
        (["train", "test*"], {"train": "train"}),
        (["train*", "test*"], {"": "."}),
        (["cat/the images*", "dog x/the images*"], {"": "."}),
        (["-cat/images*", "dog/images*"], {"": "."}),
    ],
)
def test_the_commands_in_a_fix_give_a_data_set(tmp_path, folders, splits):
    root = make(tmp_path / "my set", *folders)
    (finding,) = check_dataset(root, skip_content=True).errors
    images = len(list(root.rglob("*.png")))
    command = finding.fix.partition("    ")[0]
    command = command[max(0, command.find("mv ")) if command.startswith("sort") else 0 :]
    subprocess.run(["bash", "-c", command], check=True)
    result = root.with_name("my set-by-split")
    result = result if result.exists() else root
    folders, codes = found(result)
    assert folders == splits and len(list(result.rglob("*.png"))) == images and not codes - {"unused-folder"}


def test_every_command_reads_the_same_root(tmp_path):
    root = make(tmp_path / "set", "Training/images", "Testing/images")
    report = check_dataset(root / "Training", root / "Testing")  # as train_data and val_data
    assert [split.root.name for split in report.splits.values()] == ["images", "images"] and report.ok
    assert classes_folder(root / "Training") == root / "Training" / "images"
    assert list(find_splits(root).splits.values()) == [root / "Training" / "images", root / "Testing" / "images"]
    report = check_dataset(root, root / "Testing")  # the level above the splits as train_data
    assert "contains the splits Testing, Training, not classes" in str(report)
    assert f"name one of them: {root / 'Training'}" in str(report)
    assert f"name one of them: {root / 'Testing'}" in str(check_dataset(root / "Training", test=root))
    with pytest.raises(DatasetError, match="is already split: train, test"):
        from mslab.data.splitting import split_dataset

        split_dataset(check_dataset(root), tmp_path / "out", 0.2)


# --- --fix ------------------------------------------------------------------------------------------------------------


def test_a_fix_that_moves_many_images_asks_first(tmp_path):
    root = draw(tmp_path / "set", ["a", "b"], 20)
    for number in range(8):
        shutil.copy(root / "a" / f"{number:03}.png", root / "a" / f"copy{number}.png")
    before = state(tmp_path)
    done = cli("check", root, "--fix")
    assert done.returncode == 1 and state(tmp_path) == before
    assert "Nothing was moved: --fix would move more than a tenth of the images" in done.stderr
    assert f"8 of 28 images of {root}/a" in done.stderr and "duplicate (8)" in done.stderr
    assert f"mslab check {root} --fix --yes    makes them" in done.stderr
    done = cli("check", root, "--fix", "--yes")
    assert done.returncode == 0 and done.stderr.count("moved ") == 8
    cli("check", root, "--undo")
    assert state(tmp_path) == before


def test_a_folder_of_images_inside_a_class_counts_as_its_images(tmp_path):
    root = draw(tmp_path / "set", ["a", "b"], 20)
    draw(root / "a", ["more"], 12, seed=9)
    done = cli("check", root, "--fix")
    assert done.returncode == 1 and f"12 of 32 images of {root}/a" in done.stderr and (root / "a" / "more").is_dir()


@pytest.mark.parametrize("yes", [[], ["--yes"]])
def test_no_option_lets_a_fix_empty_a_class(tmp_path, yes, monkeypatch):
    root = draw(tmp_path / "set", ["a", "b"], 3)
    draw(root / "c", ["deep"], 9, seed=5)
    before = state(tmp_path)
    monkeypatch.chdir(tmp_path)
    done = cli("check", "set", "--fix", *yes)
    assert done.returncode == 1 and state(tmp_path) == before
    assert "set/c would be left without images: --fix would move all 9" in done.stderr
    assert "put its images directly into the folder of the class" in done.stderr and "--convert" not in done.stderr


def test_the_quarantine_of_the_current_folder_has_its_name(tmp_path, monkeypatch):
    root = draw(tmp_path / "set", ["a", "b"], 3)
    (root / ".checkpoint").mkdir()
    monkeypatch.chdir(root)
    report = check_dataset(".")
    assert f"moves it to {root}.quarantine/" in str(report) and "..quarantine" not in str(report)
    assert quarantine.quarantine_folder(Path("a/..")) == Path(f"{root}.quarantine")
    assert cli("check", ".", "--fix").returncode == 0 and root.with_name("set.quarantine").is_dir()


def test_the_current_folder_can_be_split(tmp_path, monkeypatch):
    for number, name in enumerate("ab"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for index in range(4):
            photo(10 * number + index).save(tmp_path / "set" / name / f"{index}.png")
    monkeypatch.chdir(tmp_path / "set")
    assert cli("data", "split", ".").returncode == 0 and (tmp_path / "set-split" / "val" / "a").is_dir()


def test_the_pictures_of_installed_programs_are_no_data(tmp_path):
    for name in ("dataset/cat", "dataset/dog", "env/lib/x/icons", "my/lib/icons", "build/x/images"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.png").touch()
    (tmp_path / "my/pyvenv.cfg").touch()
    assert find_splits(tmp_path).folder == tmp_path / "dataset"
    assert "env" in subfolders(draw(tmp_path / "classes", ["env", "build"], 1))  # with images in them
