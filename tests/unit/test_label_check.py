"""The check of boxes, masks, key points and tags: one thing wrong is one finding, and nothing hostile ends it."""

import json
import re
import shutil
from pathlib import Path

import labelled_sets
import numpy as np
import pytest
from helpers import PROJECT, cli, draw
from PIL import Image

from mslab.check import label_rules
from mslab.check.label_check import check_labels
from mslab.check.page import page
from mslab.errors import DatasetError
from mslab.tasks.reading import load_labels


@pytest.fixture
def root(tmp_path) -> Path:
    labelled_sets.data_set(tmp_path / "d")
    return tmp_path / "d"


def changed(root: Path, change, split: str = "train") -> None:
    file = root / split / "annotations.json"
    document = json.loads(file.read_text())
    change(document)
    file.write_text(json.dumps(document))


def entry(kind: str, number: int, **values):
    """Change an entry of train's JSON; None takes a key away."""

    def provoke(root: Path) -> None:
        def change(document):
            row = document[kind][number]
            row.update(values)
            for key in [key for key, value in row.items() if value is None]:
                del row[key]

        changed(root, change)

    return provoke


def crowded(root: Path) -> None:
    """5,000 more objects in the first image, each with a box of its own."""

    def change(document):
        first = document["annotations"][0]
        more = {key: first[key] for key in ("image_id", "category_id")}
        for i in range(5000):
            box = [i * 0.005, 3, 4, 4]
            document["annotations"].append(more | {"id": 100 + i, "bbox": box, "area": 16, "iscrowd": 0})

    changed(root, change)


def of_all(function):
    """Change the box of every object of train."""

    def provoke(root: Path) -> None:
        def change(document):
            for row in document["annotations"]:
                row["bbox"] = function(*row["bbox"])
                row.pop("segmentation", None)

        changed(root, change)

    return provoke


def text(name: str, content):
    return lambda root: (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def line(number: int, content: str):
    """Another line in train's tags.csv."""

    def provoke(root: Path) -> None:
        lines = (root / "train/tags.csv").read_text().splitlines()
        lines[number : number + 1] = content.splitlines()
        (root / "train/tags.csv").write_text("\n".join(lines) + "\n")

    return provoke


def drawn_mask(boxes, size=(40, 30), name="000.png"):
    return lambda root: labelled_sets.mask(root / "train/masks" / name, boxes, size)


def colour_mask(root: Path) -> None:
    Image.new("RGB", (40, 30), (255, 0, 0)).save(root / "train/masks/000.png")


def jpeg_mask(root: Path) -> None:
    (root / "train/masks/000.png").unlink()
    Image.new("L", (40, 30), 1).save(root / "train/masks/000.jpg")


def smooth_mask(root: Path) -> None:
    Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40).astype(np.uint8)).save(
        root / "train/masks/000.png"
    )


def swapped(root: Path) -> None:
    """22 dogs with the left eye on the left, and one with it on the right."""
    names = labelled_sets.images(root / "train/images", 23)
    document = labelled_sets.coco(names)
    for number, row in enumerate(document["annotations"]):
        row["bbox"] = [2, 3, 30, 20]
        row.pop("segmentation", None)
        if number == 45:
            row["keypoints"] = [28, 15, 2, 22, 14, 1]
    labelled_sets.write(root / "train", document)
    for name in ("tags.csv", "masks"):
        for split in ("train", "val"):
            path = root / split / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def turned(root: Path) -> None:
    image = Image.open(root / "train/images/000.png")
    exif = image.getexif()
    exif[274] = 6
    image.save(root / "train/images/000.png", exif=exif)


def both(*steps):
    def provoke(root: Path) -> None:
        for step in steps:
            step(root)

    return provoke


def other_list(change):
    """Change the document of val."""
    return lambda root: changed(root, change, "val")


def renamed(document):
    document["categories"][1]["name"] = "wolf"


def reordered(document):
    document["categories"][0]["name"], document["categories"][1]["name"] = "dog", "cat"


def renumbered(document):
    document["categories"][1]["id"] = 7
    for row in document["annotations"]:
        row["category_id"] = {0: 0, 1: 7}[row["category_id"]]


def no_objects(document):
    document["annotations"] = []


def webp(root: Path) -> None:
    Image.open(root / "train/images/000.png").save(root / "train/images/000.tmp", "WEBP", lossless=True)
    (root / "train/images/000.tmp").rename(root / "train/images/000.png")


JSON, TAGS = "train/annotations.json", "train/tags.csv"
IMAGE, MASK = "train/images/000.png", "train/masks/000.png"
BOX = {"bbox": [2, 3, 10, 8]}
CASES = [  # code, severity, what provokes it, the path in the finding, a part of its message
    ("label-file", "error", text(JSON, "{"), JSON, "cannot be read, line 1: it is not valid JSON"),
    ("label-file", "error", text(JSON, ""), JSON, "it is empty"),
    ("label-file", "error", text(JSON, "[]"), JSON, "no list images"),
    ("label-file", "error", text(JSON, '{"images": [], "categories": {}}'), JSON, "no list categories and no list ann"),
    ("label-file", "error", text(JSON, "[" * 100_000), JSON, "nested too deeply"),
    ("label-file", "error", text(TAGS, ""), TAGS, "no column beside"),
    ("label-field", "error", entry("annotations", 0, id=None), JSON, "annotations[0] has no id: None"),
    ("label-field", "error", entry("annotations", 0, id=[1]), JSON, "annotations[0] has no id: [1]"),
    ("label-value", "error", entry("annotations", 0, bbox=[1, 2, float("nan"), 4]), IMAGE, "four numbers of pixels"),
    ("label-value", "error", entry("annotations", 0, bbox=[1, 2, float("inf"), 4]), IMAGE, "four numbers of pixels"),
    ("label-value", "error", entry("annotations", 0, bbox=[1e308, 2, 1e308, 4]), IMAGE, "four numbers of pixels"),
    ("label-value", "error", entry("annotations", 0, bbox=[1, 2, 10**400, 4]), IMAGE, "four numbers of pixels"),
    ("label-value", "error", entry("annotations", 0, bbox="1 2 3 4"), IMAGE, "four numbers of pixels: '1 2 3 4'"),
    ("label-value", "error", entry("annotations", 1, keypoints=[1, 2, "2", 4, 5, 2]), IMAGE, "key point"),
    ("duplicate-id", "error", entry("annotations", 0, id=1), IMAGE, "two objects have the id 1"),
    ("category-ids", "info", None, "", ""),
    ("category-unknown", "error", entry("annotations", 0, category_id=9), IMAGE, "not listed: 9"),
    ("image-unknown", "error", entry("annotations", 0, image_id="0"), JSON, "not listed: image_id '0'"),
    ("image-size", "error", entry("images", 0, width=None), IMAGE, "no width and height"),
    ("wrong-size", "error", entry("images", 0, width=41), IMAGE, "say 41x30 pixels, and it has 40x30"),
    ("file-name", "warning", entry("images", 0, file_name=".\\000.png"), IMAGE, "the \\ of Windows"),
    ("file-name", "warning", entry("images", 0, file_name="train2017/000.png"), IMAGE, "'train2017/000.png'"),
    ("box-empty", "error", entry("annotations", 0, bbox=[9, 9, -4, 3]), IMAGE, "-4 wide and 3 high"),
    ("box-empty", "error", entry("annotations", 0, bbox=[9, 9, 4, 0]), IMAGE, "4 wide and 0 high"),
    ("box-outside", "error", entry("annotations", 0, bbox=[40, 3, 4, 4]), IMAGE, "left 40, top 3, right 44, bottom 7"),
    ("box-border", "warning", entry("annotations", 1, bbox=[30, 3, 14, 8]), IMAGE, "right 44, bottom 11, of 40x30"),
    ("box-unit", "error", of_all(lambda x, y, w, h: [x / 40, y / 30, w / 40, h / 30]), JSON, "all 8 boxes"),
    ("box-corners", "error", of_all(lambda x, y, w, h: [x, y, x + w, y + h]), JSON, "of them leave it as"),
    ("box-mask", "warning", entry("annotations", 0, bbox=[25, 3, 10, 8]), IMAGE, "mask of the object 0 is not where"),
    ("duplicate-box", "warning", entry("annotations", 1, category_id=0, **BOX), IMAGE, "class and box of 1"),
    ("mask-region", "error", entry("annotations", 0, segmentation=[[1, 2, 3, 4]]), IMAGE, "a polygon of 4 numbers"),
    ("mask-region", "error", entry("annotations", 0, segmentation=[[1, 2, 3, 4, 5, 1e308]]), IMAGE, "than numbers"),
    ("keypoint-count", "error", entry("annotations", 1, keypoints=[22, 14, 2]), IMAGE, "3 values, and not 3 for each"),
    ("keypoint-count", "warning", entry("annotations", 1, num_keypoints=1), IMAGE, "its num_keypoints is 1"),
    ("keypoint-visibility", "error", entry("annotations", 1, keypoints=[1, 1, 3, 2, 2, 2]), IMAGE, "visibility 3"),
    ("keypoint-outside", "error", entry("annotations", 1, keypoints=[99, 1, 2, 2, 2, 2]), IMAGE, "left_eye"),
    ("keypoint-order", "warning", swapped, "train/images/022.png", "left_eye and right_eye of a dog"),
    ("keypoint-names", "error", other_list(lambda d: d["categories"][0].update(keypoints=["right_eye", "left_eye"])),
     "val/annotations.json", "key points of cat"),
    ("category-list", "error", other_list(renamed), "val/annotations.json", "it lacks dog and has wolf besides"),
    ("category-order", "warning", other_list(reordered), "val/annotations.json", "in another order than in train"),
    ("object-count", "error", crowded, IMAGE, "5,002 objects in one image, and mslab learns at most 5,000"),
    ("no-labels", "error", other_list(no_objects), "val/annotations.json", "no image has an object"),
    ("image-without-label", "warning", None, "", ""),
    ("turned-image", "error", turned, IMAGE, "EXIF orientation 6"),
    ("format", "error", webp, IMAGE, "WEBP"),
    ("truncated", "error", lambda root: (root / IMAGE).write_bytes((root / IMAGE).read_bytes()[:900]), IMAGE, "Pillow"),
    ("split-leak", "error", lambda root: shutil.copy(root / IMAGE, root / "val/images/001.png"), "val/images/001.png",
     "the same pixels as train/images/000.png"),
    ("duplicate", "warning", lambda root: shutil.copy(root / IMAGE, root / "train/images/001.png"),
     "train/images/001.png", "it counts twice"),
    ("mask-size", "error", drawn_mask({(2, 3, 9, 9): 1}, (20, 15)), MASK, "20x15 pixels, and its image has 40x30"),
    ("mask-value", "error", drawn_mask({(2, 3, 9, 9): 3}), MASK, "the value 3, and there are 2 classes"),
    ("mask-value", "error", drawn_mask({(2, 3, 9, 9): 255}), MASK, "only 0 and 255"),
    ("mask-value", "error", smooth_mask, MASK, "256 different values"),
    ("mask-mode", "error", colour_mask, MASK, "mode RGB"),
    ("mask-format", "error", jpeg_mask, "train/masks/000.jpg", "a JPEG"),
    ("mask-without-image", "warning", drawn_mask({(2, 3, 9, 9): 1}, name="zzz.png"), "train/masks/zzz.png", "no image"),
    ("image-without-mask", "error", lambda root: (root / MASK).unlink(), JSON, "1 of 4 images have no mask"),
    ("duplicate-row", "error", line(1, "000.png,0,1\n000.png,1,1"), IMAGE, "line 3 names it again"),
    ("tag-value", "error", line(1, "000.png,2,1"), IMAGE, "line 2: wet is '2', and not 0 or 1"),
    ("tag-value", "error", line(1, "000.png,1"), IMAGE, "line 2 has 1 values for 2 tags"),
    ("label-file", "error", line(0, "file_name,wet,wet"), TAGS, "two of its columns are called 'wet'"),
    ("tag-value", "error", line(1, "000.png,-1,1"), IMAGE, "wet is '-1'"),
    ("tag-value", "error", line(1, "000.png,,1"), IMAGE, "wet is ''"),
    ("tag-constant", "warning", both(line(2, "001.png,0,0"), line(4, "003.png,0,0")), TAGS, "wet is 0 in all 4 images"),
    ("category-list", "error", line(0, "file_name,wet,new"), "val/annotations.json", "its tags are not those of train"),
]  # fmt: skip
SEVERAL = {  # of which another finding follows: code -> what provokes it
    "category-name": entry("categories", 0, name=""),
    "image-missing": entry("images", 0, file_name="gone.png"),
    "unsafe-path": entry("images", 0, file_name="../../etc/passwd"),
    "empty-category": lambda root: changed(root, lambda d: d["categories"].append({"id": 2, "name": "cow"})),
    "image-without-label": line(1, ""),
    "no-object": lambda root: changed(root, lambda d: d["annotations"].__delitem__(slice(0, 2))),
    "category-ids": other_list(renumbered),
}
CASES = [case for case in CASES if case[2]]


def is_chinese(message: str) -> bool:
    return re.search("[\u4e00-\u9fff]", message) is not None


def test_a_sound_data_set_has_no_finding(root):
    report = check_labels(root)
    assert [str(finding) for finding in report.findings] == [] and report.ok
    assert report.counts == {"train": {"cat": 4, "dog": 4}, "val": {"cat": 4, "dog": 4}}
    assert report.tasks == ("detect", "segment", "keypoints", "multilabel") and len(report.fingerprint) == 64
    assert str(report).startswith(f"{root}: 8 images with labels for detect, segment, keypoints, multilabel\n")


@pytest.mark.parametrize(("code", "severity", "provoke", "path", "part"), CASES)
def test_one_thing_wrong_is_one_finding(root, code, severity, provoke, path, part):
    provoke(root)
    report = check_labels(root)
    found = [finding for finding in report.findings if finding.code == code]
    assert [(f.severity, f.path) for f in found] == [(severity, path)], list(map(str, report.findings))
    assert part in found[0].message and found[0].fix
    beside = {"label-file": {"image-without-label", "no-labels", "category-list", "image-without-mask"}}
    follows = beside.get(code, {"image-without-label", "category-order", "tag-constant"})
    others = {f.code for f in report.findings if f.severity == "error"} - {code} - follows
    assert others == set(), list(map(str, report.findings))
    assert is_chinese(found[0].shown("zh").message) and all(map(is_chinese, found[0].shown("zh").fix.split("\n")))
    assert report.ok == (severity != "error")


@pytest.mark.parametrize("code", SEVERAL)
def test_what_has_consequences_is_found_with_them(root, code):
    SEVERAL[code](root)
    found = [finding for finding in check_labels(root).findings if finding.code == code]
    assert found and all(is_chinese(finding.shown("zh").message) for finding in found)


def test_every_code_is_documented_and_provoked():
    documented = set(re.findall(r"^\| \*\*([a-z-]+)\*\*", (PROJECT / "docs" / "labels.md").read_text(), re.M))
    folder = Path(label_rules.__file__).parent
    sources = "".join(path.read_text() for path in (*folder.glob("label_*.py"), *folder.glob("mask_*.py")))
    in_code = set(re.findall(r'Finding\("([a-z-]+)"', sources)) | label_rules.FIXES.keys()
    provoked = {case[0] for case in CASES} | SEVERAL.keys()
    assert in_code <= provoked and provoked - {"truncated"} == documented


def test_a_load_for_training_raises_with_the_same_errors(root):
    assert list(load_labels(root, "detect")) == ["train", "val"]
    entry("annotations", 0, bbox=[9, 9, -4, 3])(root)
    with pytest.raises(DatasetError) as caught:
        load_labels(root, "detect")
    message = str(caught.value)
    assert "1 error in its labels" in message and "-4 wide and 3 high" in message and "mslab check" in message


def test_classes_are_matched_by_name_between_splits(root):
    other_list(reordered)(root)
    sets = load_labels(root, "detect")
    assert sets["val"].class_names == sets["train"].class_names == ["cat", "dog"]
    assert sets["train"].images[0].classes.tolist() == [0, 1] and sets["val"].images[0].classes.tolist() == [1, 0]


def test_key_points_in_another_order_stop_training_too(root):
    other_list(lambda d: d["categories"][0].update(keypoints=["right_eye", "left_eye"]))(root)
    with pytest.raises(DatasetError, match="keypoint-names"):
        load_labels(root, "keypoints")


def test_class_folders_beside_some_json_are_checked_as_classes(inside):
    draw(inside / "d/train", ["cat", "dog"], 3)
    draw(inside / "d/val", ["cat", "dog"], 3, seed=5)
    (inside / "d/train/labels.json").write_text('{"0": "cat", "1": "dog"}')
    done = cli("check", "d")
    assert done.returncode == 0 and "12 images, 2 classes" in done.stdout
    done = cli("check", "d", "--task", "detect")
    assert done.returncode == 1 and "it has no list images" in done.stdout


def test_a_task_reads_its_own_labels_only(root):
    drawn_mask({(2, 3, 9, 9): 3})(root)
    line(1, "000.png,2,1")(root)
    codes = {task: {f.code for f in check_labels(root, task).errors} for task in ("detect", "segment", "multilabel")}
    assert codes == {"detect": set(), "segment": {"mask-value"}, "multilabel": {"tag-value"}}


def test_the_command_finds_the_task_writes_json_and_a_page(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    done = cli("check", "d", "--json", "r.json", "--html", "r.html")
    assert done.returncode == 0 and "8 images with labels for detect" in done.stdout, done.stderr
    document = json.loads(Path("r.json").read_text())
    assert document["tasks"] == ["detect", "segment", "keypoints", "multilabel"] and document["images"] == 8
    entry("annotations", 0, bbox=[40, 3, 4, 4])(root)
    done = cli("check", "d", "--task", "detect", "--lang", "zh")
    assert done.returncode == 1 and "错误  box-outside" in done.stdout and "标注用于 detect" in done.stdout
    assert "标注用于" not in page(check_labels("d")) and "Objects of each class" in page(check_labels("d"))
    done = cli("check", "d", "--task", "boxes")
    assert done.returncode == 2 and "expected one of detect, segment, keypoints, multilabel" in done.stderr
    done = cli("check", "d", "--classes", "3")
    assert done.returncode == 2 and "--html are for them" in re.sub(r"[\s│]+", " ", done.stderr)
    shutil.rmtree("d/train/images")
    assert cli("check", "d", "--task", "multilabel").returncode == 1


def test_a_folder_without_such_labels_is_answered_with_what_is_expected(tmp_path):
    done = cli("check", tmp_path, "--task", "detect")
    assert done.returncode == 1 and "has no labels of boxes, masks, key points or tags" in done.stderr
    with pytest.raises(DatasetError, match="mslab data make --scenes draws some"):
        load_labels(tmp_path, "detect")
    assert "annotations.json (COCO)" in done.stderr and "mslab data import FOLDER --format" in done.stderr
    (tmp_path / "images").mkdir()
    labelled_sets.write(tmp_path, labelled_sets.coco(labelled_sets.images(tmp_path / "images", 2)))
    done = cli("check", tmp_path, "--task", "multilabel")
    assert "has no labels for multilabel; it has some for: detect, segment, keypoints" in done.stderr


def test_fix_moves_masks_without_an_image_and_nothing_else(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    both(SEVERAL["image-missing"], drawn_mask({(2, 3, 9, 9): 1}, name="zzz.png"))(root)
    before = {p for p in root.rglob("*") if p.is_file()}
    done = cli("check", "d", "--fix")
    assert done.returncode == 1 and "moved" in done.stderr + done.stdout
    assert before - {p for p in root.rglob("*") if p.is_file()} == {root / "train/masks/zzz.png"}
    assert Path("d.quarantine/train/masks/zzz.png").is_file()
    assert cli("check", "d", "--undo").returncode == 1 and (root / "train/masks/zzz.png").is_file()


# --- layouts ---------------------------------------------------------------------------------------------------------


def test_the_layouts_of_coco_and_roboflow_are_found(tmp_path):
    for split in ("train", "val"):
        names = labelled_sets.images(tmp_path / "coco" / f"{split}2017", 3, len(split))
        labelled_sets.write(tmp_path / "coco/annotations", labelled_sets.coco(names), f"instances_{split}2017.json")
    for split in ("train", "valid"):
        names = labelled_sets.images(tmp_path / "roboflow" / split, 3, ord(split[0]))
        labelled_sets.write(tmp_path / "roboflow" / split, labelled_sets.coco(names), "_annotations.coco.json")
    for folder in ("coco", "roboflow"):
        report = check_labels(tmp_path / folder)
        assert report.ok and list(report.splits) == ["train", "val"], report
        assert {finding.code for finding in report.findings} <= {"mode"} and report.images == 6


def test_a_single_folder_with_images_beside_the_json_is_a_data_set(tmp_path):
    labelled_sets.write(tmp_path / "d", labelled_sets.coco(labelled_sets.images(tmp_path / "d", 3)))
    report = check_labels(tmp_path / "d")
    assert report.ok and report.images == 3 and report.findings == []


def test_a_name_relative_to_the_json_and_a_json_of_another_name_are_read(root):
    for split in ("train", "val"):

        def change(document):
            for row in document["images"]:
                row["file_name"] = f"images/{row['file_name']}"

        changed(root, change, split)
        (root / split / "annotations.json").rename(root / split / "terrain_coco.json")
    assert check_labels(root).findings == []


def test_the_classes_of_masks_alone_are_named_by_a_list(root):
    for split in ("train", "val"):
        (root / split / "annotations.json").unlink()
        (root / split / "tags.csv").unlink()
    assert check_labels(root).counts["train"] == {"0": 4, "1": 4, "2": 4}
    (root / "classes.txt").write_text("__ignore__\n_background_\ncat\n")
    report = check_labels(root)
    assert report.class_names == ["cat"] and {f.code for f in report.errors} == {"mask-value"}
    assert "the value 2, and there are 1 classes" in report.errors[0].message
    (root / "classes.txt").write_text("cat\ndog\n")
    report = check_labels(root)
    assert report.findings == [] and report.counts["train"] == {"cat": 4, "dog": 4}, report.findings
    assert load_labels(root, "segment")["train"].class_names == ["cat", "dog"]


# --- hostile files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("segmentation", "part"),
    [
        ({"size": [30, 40], "counts": [1201]}, "run lengths are neither"),
        ({"size": [30, 40], "counts": [600, 601]}, "1,201 pixels in all, for 40x30 = 1,200"),
        ({"size": [30, 40], "counts": [600, 500]}, "1,100 pixels in all"),
        ({"size": [100_000, 100_000], "counts": [10**10]}, "its size is [100000, 100000], and not [30, 40]"),
        ({"size": [40, 30], "counts": [1200]}, "its size is [40, 30], and not [30, 40]"),
        ({"size": [30, 40], "counts": "oooooooooooooooooooooooo"}, "characters that COCO does not use"),
        ({"size": [30, 40], "counts": "`"}, "in the middle of a number"),
        ({"size": [30, 40], "counts": "PoPoP"}, "run lengths"),
        ({"size": [30, 40], "counts": "蘑菇"}, "characters that COCO does not use"),
        ({"size": [30, 40], "counts": [-5, 1205]}, "neither a string nor whole numbers"),
        ({"size": [30, 40], "counts": [True, 1199]}, "neither a string nor whole numbers"),
        ({"size": [30, 40], "counts": [1200]}, "is empty"),
        ({"size": [30, 40]}, "neither a string nor whole numbers"),
        ([[1, 2, 3, 4, 5, float("nan")]], "something else than numbers"),
        ([[0, 1, 2, 3, 4]], "a polygon of 5 numbers"),
        ([[True] * 6], "something else than numbers"),
        ([["a"] * 6], "something else than numbers"),
        ("x", "its size is None"),
        (7, "its size is None"),
    ],
)
def test_a_mask_that_is_a_bomb_or_nonsense_is_one_finding(root, segmentation, part):
    entry("annotations", 0, segmentation=segmentation)(root)
    found = [f for f in check_labels(root).findings if f.code == "mask-region"]
    assert len(found) == 1 and part in found[0].message, found


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "C:\\x.png", "a/../../b.png", "\\\\host\\x", "~/x", "..", "", "a\0b"]
)
def test_a_name_that_leads_out_of_the_folder_is_read_nowhere(root, name):
    entry("images", 0, file_name=name)(root)
    codes = {finding.code for finding in check_labels(root).errors}
    assert codes & {"unsafe-path", "label-field"} and not codes - {"unsafe-path", "label-field", "image-unknown"}


def test_a_link_to_an_image_elsewhere_is_not_followed(root, tmp_path):
    shutil.move(root / IMAGE, tmp_path / "elsewhere.png")
    (root / IMAGE).symlink_to(tmp_path / "elsewhere.png")
    assert "image-missing" in {finding.code for finding in check_labels(root).errors}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "gb18030"])
def test_other_encodings_line_ends_and_chinese_names_are_read(root, encoding):
    for split in ("train", "val"):
        file = root / split / "annotations.json"
        document = json.loads(file.read_text())
        document["categories"][0]["name"] = "蘑菇 大"
        (root / split / "images/000.png").rename(root / split / "images/红菇.png")
        (root / split / "masks/000.png").rename(root / split / "masks/红菇.png")
        document["images"][0]["file_name"] = "红菇.png"
        file.write_bytes(json.dumps(document, ensure_ascii=False, indent=1).replace("\n", "\r\n").encode(encoding))
        tags = (root / split / "tags.csv").read_text().replace("000", "红菇").replace("\n", "\r\n")
        (root / split / "tags.csv").write_bytes(tags.encode(encoding))
    report = check_labels(root)
    assert report.findings == [] and report.class_names == ["蘑菇 大", "dog"]


def test_control_characters_in_names_reach_no_terminal(root):
    entry("categories", 0, name="\x1b[2Jcat\n")(root)
    entry("images", 0, file_name="\x1b[2J.png")(root)
    done = cli("check", root)
    assert done.returncode == 1 and "\x1b" not in done.stdout + done.stderr and "\\x1b[2J" in done.stdout


def test_a_hundred_thousand_broken_boxes_are_counted_and_not_all_kept(root):
    def change(document):
        row = document["annotations"][0]
        document["annotations"] = [row | {"id": number, "bbox": [0, 0, 0, 0]} for number in range(100_000)]

    changed(root, change)
    report = check_labels(root)
    found = [finding for finding in report.findings if finding.code == "box-empty"]
    assert len(found) == 1001 and found[-1].message == "and more of this kind, which are not listed"
    assert is_chinese(found[-1].shown("zh").message)


@pytest.mark.parametrize("images", ["images", "images/default"])
def test_cvats_export_of_one_subset_is_a_data_set_of_one_split(images, tmp_path):
    names = labelled_sets.images(tmp_path / images, 4)
    labelled_sets.write(tmp_path / "annotations", labelled_sets.coco(names), "instances_default.json")
    report = check_labels(tmp_path, "detect")
    assert list(report.sets) == [""] and len(report.sets[""].images) == 4
    assert not report.errors and not any(finding.code == "image-missing" for finding in report.findings)
    assert report.places[""].images == tmp_path / images


@pytest.mark.parametrize("train, val", [("Train", "Validation"), ("Training", "Valid"), ("train", "val")])
def test_cvats_subsets_are_splits_with_images_of_their_own(train, val, tmp_path):
    for seed, split in enumerate((train, val)):
        names = labelled_sets.images(tmp_path / "images" / split, 4, seed)
        labelled_sets.write(tmp_path / "annotations", labelled_sets.coco(names), f"instances_{split}.json")
    report = check_labels(tmp_path, "detect")
    assert {name: place.images.name for name, place in report.places.items()} == {"train": train, "val": val}
    assert not report.errors


@pytest.mark.parametrize("group", ["fungi", "cat"])  # a class may be called as its group is
def test_roboflows_category_of_the_group_is_no_class(group, tmp_path):
    for seed, split in enumerate(("train", "valid")):
        document = labelled_sets.coco(labelled_sets.images(tmp_path / split, 4, seed))
        for row in document["categories"]:
            row["id"] += 1
        for row in document["annotations"]:
            row["category_id"] += 1
        classes = [row | {"supercategory": group} for row in document["categories"]]
        document["categories"] = [{"id": 0, "name": group, "supercategory": "none"}, *classes]
        labelled_sets.write(tmp_path / split, document, "_annotations.coco.json")
    report = check_labels(tmp_path, "detect")
    assert report.first.class_names == ["cat", "dog"] and report.first.ids == (1, 2)
    assert {finding.code for finding in report.findings} == {"category-ids"}


def test_the_message_about_ids_speaks_of_one_category_or_of_several(tmp_path):
    document = labelled_sets.coco(labelled_sets.images(tmp_path, 4))
    document["categories"] = [row | {"id": row["id"] + 5} for row in document["categories"]]
    document["annotations"] = [row | {"category_id": row["category_id"] + 5} for row in document["annotations"]]
    for message in [
        "the ids of its 2 categories are 5 to 6; as classes: from 0",
        "the id of its category is 5; as a class: 0",
    ]:
        labelled_sets.write(tmp_path, document)
        (finding,) = [own for own in check_labels(tmp_path, "detect").findings if own.code == "category-ids"]
        assert finding.message == f"({message})"
        document["categories"].pop()
        document["annotations"] = [row for row in document["annotations"] if row["category_id"] == 5]


def test_a_category_0_with_objects_or_without_members_is_a_class(tmp_path):
    names = labelled_sets.images(tmp_path, 4)
    document = labelled_sets.coco(names)
    document["categories"][0]["supercategory"] = "none"
    document["categories"][1]["supercategory"] = "cat"
    labelled_sets.write(tmp_path, document)
    assert check_labels(tmp_path, "detect").first.class_names == ["cat", "dog"]
    document["annotations"] = [row for row in document["annotations"] if row["category_id"] == 1]
    document["categories"][1]["supercategory"] = "none"
    labelled_sets.write(tmp_path, document)
    assert check_labels(tmp_path, "detect").first.class_names == ["cat", "dog"]
