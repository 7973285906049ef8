"""`mslab data import --format`: Pascal VOC, YOLO and labelme become COCO, with equal labels or a message."""

import json
import re
from pathlib import Path

import labelled_sets
import numpy as np
import pytest
from helpers import cli
from labelled_sets import HEIGHT, WIDTH

from mslab.check.label_check import check_labels
from mslab.data.annotated import import_annotations
from mslab.data.mushrooms import scenes
from mslab.data.mushrooms.forest import POINTS
from mslab.errors import DatasetError
from mslab.tasks.labels import ImageLabels, LabelSet
from mslab.tasks.reading import load_labels
from mslab.tasks.rle import Region, decode, encode, fill, from_string, to_string

SIZE = 64


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    scenes.draw_scenes(root, size=SIZE, workers=1, counts={"train": 12, "val": 3, "test": 3})
    return root / "scenes"


def copied(drawn: Path, out: Path, split: str, folder: str) -> Path:
    """The images of a split in a folder of another layout."""
    target = out / folder
    target.mkdir(parents=True)
    for path in (drawn / split / "images").iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def as_voc(drawn: Path, labels: LabelSet, out: Path) -> None:
    copied(drawn, out, "train", "JPEGImages")
    (out / "Annotations").mkdir()
    for image in labels.images:
        rows = [
            (labels.class_names[label], box.tolist(), bool(ignored))
            for label, box, ignored in zip(image.classes, image.boxes, image.ignored, strict=True)
        ]
        text = labelled_sets.voc_xml(image.file, (SIZE, SIZE), rows)
        (out / "Annotations" / image.file).with_suffix(".xml").write_text(text)


def as_yolo(drawn: Path, labels: LabelSet, out: Path, what: str) -> None:
    """`what`: pose, or outlines of the masks."""
    copied(drawn, out, "train", "images/train")
    (out / "labels/train").mkdir(parents=True)
    document = {"path": "/nowhere", "train": "../images/train", "names": dict(enumerate(labels.class_names))}
    document |= {"kpt_shape": [len(POINTS), 3], "kpt_names": {0: list(POINTS)}} if what == "pose" else {}
    (out / "data.yaml").write_text(json.dumps(document))
    for image in labels.images:
        lines = []
        for i in range(len(image.boxes)):
            left, top, right, bottom = image.boxes[i] / SIZE
            values = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
            if what == "pose":
                values += (image.points[i] / [SIZE, SIZE, 1]).ravel().tolist()
            else:
                values = [value / SIZE for value in labelled_sets.outline(image.masks[i].array())[0]]
            lines.append(" ".join([str(image.classes[i]), *(f"{value:.6f}" for value in values)]))
        (out / "labels/train" / image.file).with_suffix(".txt").write_text("\n".join(lines))


def as_labelme(drawn: Path, labels: LabelSet, out: Path) -> None:
    folder = copied(drawn, out, "train", "train")
    for image in labels.images:
        shapes = []
        for i, label in enumerate(image.classes):
            left, top, right, bottom = image.boxes[i].tolist()
            shared = {"label": labels.class_names[label], "group_id": i, "flags": {}}
            shapes.append(shared | {"shape_type": "rectangle", "points": [[left, top], [right, bottom]]})
            for name, (x, y, seen) in zip(POINTS, image.points[i].tolist(), strict=True):
                point = {"label": name, "group_id": i, "shape_type": "point", "points": [[x, y]], "flags": {}}
                shapes += [point] if seen else []
        document = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": image.file, "imageData": None}
        document |= {"imageHeight": SIZE, "imageWidth": SIZE}
        (folder / image.file).with_suffix(".json").write_text(json.dumps(document))


def same(first: ImageLabels, other: ImageLabels, order: list[int], points: list[int] | None = None) -> None:
    """`order`: the other's class of each class of the first; `points`: likewise."""
    assert first.file == other.file and (first.width, first.height) == (other.width, other.height)
    assert np.array_equal(np.array(order, int)[first.classes], other.classes)
    assert np.abs(first.boxes - other.boxes).max(initial=0) < 1e-3
    if points is not None and len(first.boxes):
        assert np.abs(first.points[:, :, :2] - other.points[:, points, :2]).max() < 1e-3
        assert np.array_equal(first.points[:, :, 2] > 0, other.points[:, points, 2] > 0)


@pytest.mark.parametrize("form", ["voc", "yolo pose", "yolo outlines", "labelme"])
def test_equal_labels_come_out_of_all_forms(drawn, tmp_path, form):
    labels = load_labels(drawn, "detect")["train"]
    kind, what = (*form.split(), "")[:2]
    source = tmp_path / "source"
    if kind == "voc":
        as_voc(drawn, labels, source)
    elif kind == "yolo":
        as_yolo(drawn, labels, source, what)
    else:
        as_labelme(drawn, labels, source)
    import_annotations(source, tmp_path / "out", kind)
    found = next(iter(load_labels(tmp_path / "out", "detect").values()))
    used = {labels.class_names[label] for image in labels.images for label in image.classes}
    assert set(found.class_names) == (set(labels.class_names) if kind == "yolo" else used)
    order = [found.class_names.index(name) if name in found.class_names else -1 for name in labels.class_names]
    assert len(found.images) == len(labels.images) == 12
    shown = found.categories[0].points
    points = [shown.index(name) for name in POINTS] if what == "pose" or kind == "labelme" else None
    for first, other in zip(labels.images, found.images, strict=True):
        if what != "outlines":
            same(first, other, order, points)
        assert kind != "voc" or np.array_equal(first.ignored, other.ignored)
        for i, region in enumerate(first.masks):
            outlines = labelled_sets.outline(region.array())
            if what == "outlines" and len(outlines) == 1:  # a format of one polygon an object has no holes and parts
                assert np.array_equal(other.masks[i].array(), region.array())
                assert np.abs(first.boxes[i] - other.boxes[i]).max() < 1e-3
    assert check_labels(tmp_path / "out").ok


def test_run_lengths_and_polygons_give_the_same_mask(drawn):
    count = 0
    for image in load_labels(drawn, "segment")["train"].images:
        for region in image.masks:
            mask = region.array()
            flat = labelled_sets.outline(mask)
            drawn_again = np.zeros_like(mask)
            for polygon in flat:
                drawn_again ^= fill(np.array(polygon).reshape(-1, 2), *mask.shape)
            assert np.array_equal(drawn_again, mask)
            assert np.array_equal(decode(from_string(to_string(encode(mask))), *mask.shape), mask)
            ys, xs = np.nonzero(mask)
            assert region.bounds == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
            count += 1
    assert count > 20


def test_run_lengths_are_those_of_pycocotools():
    """Strings that pycocotools 2.0.11 wrote."""
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:4] = True
    assert encode(mask).tolist() == [5, 2, 2, 2, 2, 2, 5] and to_string(encode(mask)) == "5220003"
    large = np.zeros((300, 200), bool)
    large[10:250, 20:180] = True
    large[50:60, 40:90] = False
    text = to_string(encode(large))
    assert re.match("jk5`7l10+hI\\^Nf4b1ZK\\^Nf4b1", text) and text.endswith("0Vk5") and len(text) == 628
    assert np.array_equal(decode(from_string(text), 300, 200), large)
    assert Region(4, 5, encode(mask)).bounds == (1, 1, 4, 3)
    assert encode(np.ones((2, 2), bool)).tolist() == [0, 4] and encode(np.zeros((2, 2), bool)).tolist() == [4]


# --- dialects --------------------------------------------------------------------------------------------------------


def put(root: Path, name: str, content: str | bytes) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode() if isinstance(content, str) else content)


def imported(source: Path, kind: str) -> LabelSet:
    import_annotations(source, source.parent / "out", kind)
    return next(iter(load_labels(source.parent / "out", "detect").values()))


def test_voc_of_pascal_counts_from_1_and_its_lists_say_the_splits(tmp_path):
    root = tmp_path / "VOC2007"
    names = labelled_sets.images(root / "JPEGImages", 2)
    for name in names:
        text = labelled_sets.voc_xml(name, (WIDTH, HEIGHT), [("dog", [1, 1, 20, 30], False)])
        text = text.replace("<size>", "<source><annotation>PASCAL VOC2007</annotation></source><size>")
        put(root, f"Annotations/{Path(name).stem}.xml", text)
    put(root, "ImageSets/Main/train.txt", "000\n")
    put(root, "ImageSets/Main/val.txt", "001\n")
    import_annotations(root, tmp_path / "out", "voc")
    sets = load_labels(tmp_path / "out", "detect")
    assert list(sets) == ["train", "val"] and sets["val"].images[0].boxes.tolist() == [[0, 0, 20, 30]]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030"])
def test_voc_in_other_encodings_beside_the_images(tmp_path, encoding):
    labelled_sets.images(tmp_path / "d", 1)
    text = labelled_sets.voc_xml("000.png", (WIDTH, HEIGHT), [("蘑菇红菇", [1.5, 2, 9, 9], False)])
    put(tmp_path / "d", "000.xml", f'<?xml version="1.0" encoding="GBK"?>\r\n{text}'.encode(encoding))
    found = imported(tmp_path / "d", "voc")
    assert found.class_names == ["蘑菇红菇"] and found.images[0].boxes.tolist() == [[1.5, 2, 9, 9]]


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("images/train labels/train", ("data.yaml", "names: [cat, dog]\ntrain: ../../x\n")),
        ("train/images train/labels", ("data.yaml", "names:\n  0: cat\n  1: dog\n")),
        ("images labels", ("classes.txt", "cat\r\ndog\r\n")),
        ("obj_train_data obj_train_data", ("obj.names", "cat\ndog\n")),
    ],
)
def test_yolo_in_its_layouts(tmp_path, layout, names):
    images, labels = layout.split()
    labelled_sets.images(tmp_path / "d" / images, 2)
    put(tmp_path / "d", *names)
    put(tmp_path / "d", f"{labels}/000.txt", "1 0.5 0.5 0.5 0.2\n\n0 0.1 0.1 0.2 0.1 0.2 0.3\n")
    found = imported(tmp_path / "d", "yolo")
    assert found.class_names == ["cat", "dog"] and [len(image.boxes) for image in found.images] == [2, 0]
    assert np.allclose(found.images[0].boxes, [[10, 12, 30, 18], [4, 3, 8, 9]])


def test_labelme_with_polygons_circles_groups_and_flags(tmp_path):
    labelled_sets.images(tmp_path / "d", 1)
    shapes = [
        {"label": "cat", "shape_type": "polygon", "points": [[1, 1], [9, 1], [5, 8]], "group_id": 3},
        {"label": "cat", "shape_type": "polygon", "points": [[11, 1], [19, 1], [15, 8]], "group_id": 3},
        {"label": "tail", "shape_type": "point", "points": [[4, 4]], "group_id": 3},
        {"label": "dog", "shape_type": "circle", "points": [[30, 15], [35, 15]], "group_id": None},
        {"label": "__ignore__", "shape_type": "rectangle", "points": [[1, 1], [9, 9]], "group_id": None},
        {"label": "road", "shape_type": "line", "points": [[30, 15], [35, 15]], "group_id": None},
    ]
    document = {
        "shapes": shapes,
        "flags": {"wet": True, "__ignore__": False},
        "imagePath": "..\\x\\000.png",
        "imageData": "QUJD",
    }
    put(tmp_path / "d", "000.json", json.dumps(document))
    done = import_annotations(tmp_path / "d", tmp_path / "out", "labelme")
    assert done.notes == {"shapes of the kind line left out": 1, "shapes called __ignore__ left out": 1}
    image = load_labels(tmp_path / "out", "detect")[""].images[0]
    assert np.allclose(image.boxes, [[1, 1, 19, 8], [25, 10, 35, 20]]) and len(image.masks[0].polygons) == 2
    assert image.points[0].tolist() == [[4, 4, 2]] and not image.points[1].any()
    assert load_labels(tmp_path / "out", "multilabel")[""].images[0].tags.tolist() == [1]


# --- what cannot be read ---------------------------------------------------------------------------------------------

BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(9)
)
BAD = [  # format, file, content, a part of the message
    ("voc", "000.xml", BOMB + "]><annotation>&j;</annotation>", "document type or entities"),
    ("voc", "000.xml", '<!DOCTYPE x SYSTEM "file:///etc/passwd"><annotation/>', "document type or entities"),
    ("voc", "000.xml", "<a>" * 60, "nested more than 50 levels"),
    ("voc", "000.xml", "<annotation>", "it is not XML: line 1: no element found"),
    ("voc", "000.xml", "", "it is not XML"),
    ("voc", "000.xml", labelled_sets.voc_xml("x", (40, 30), [("", [1, 2, 3, 4], False)]), "<object> has no <name>"),
    ("voc", "000.xml", labelled_sets.voc_xml("x", (40, 30), [("a", [9, 2, 3, 4], False)]), "of a is empty: xmin 9"),
    ("voc", "000.xml", labelled_sets.voc_xml("x", (40, 30), [("a", ["nan", 2, 3, 4], False)]), "<xmin> is 'nan'"),
    ("voc", "000.xml", labelled_sets.voc_xml("x", (40, 30), [("a", [1, 2, "1e308", 4], False)]), "<xmax> is '1e308'"),
    ("voc", "000.xml", labelled_sets.voc_xml("x", (80, 60), [("a", [1, 2, 3, 4], False)]), "say 80x60 pixels"),
    ("voc", "zzz.xml", labelled_sets.voc_xml("../../etc/passwd", (40, 30), []), "there is no image zzz in"),
    ("yolo", "000.txt", "0 0.5 0.5 0.5", "000.txt, line 1: 3 numbers after the class, and not 4"),
    ("yolo", "000.txt", "0 0.5 0.5 0.5 0.5 0.9", "5 numbers after the class"),
    ("yolo", "000.txt", "7 0.5 0.5 0.5 0.5", "the class 7, and there are names for 0 to 1"),
    ("yolo", "000.txt", "cat 0.5 0.5 0.5 0.5", "'cat 0.5 0.5 0.5 0.5' is not a class number and numbers"),
    ("yolo", "000.txt", "0 20 15 8 9", "no fraction of the image, from 0 to 1; pixels?"),
    ("yolo", "000.txt", "0 nan 0.5 0.5 0.5", "no fraction of the image"),
    ("yolo", "000.txt", "0 0.5 0.5 0 0.5", "a box that is 0 wide and 0.5 high"),
    ("yolo", "labels/zzz.txt", "0 0.5 0.5 0.5 0.5", "there is no image zzz"),
    ("yolo", "data.yaml", "names: [cat, cat]", "two classes have one name"),
    ("yolo", "data.yaml", "names: [cat", "data.yaml: it is not valid YAML"),
    ("yolo", "data.yaml", "a: &a [x, x]\nb: &b [*a, *a]\nnames: [*b, *b]", "names is neither a list nor"),
    ("voc", "more/000.xml", labelled_sets.voc_xml("x", (40, 30), []), "two folders of a split have an image"),
    ("yolo", "data.yaml", "names: 7", "names is neither a list nor a table"),
    ("yolo", "data.yaml", "names: [cat]\nkpt_shape: [100000000, 3]", "kpt_shape is [100000000, 3]"),
    ("labelme", "000.json", '{"shapes": [{"label": "", "points": []}]}', "shapes[0] has no label"),
    ("labelme", "000.json", '{"shapes": [{"label": "a", "points": [[1, 2], [3, 4]]}]}', "fewer than 3 points"),
    ("labelme", "000.json", '{"shapes": [{"label": "a", "points": [[1, NaN], [3, 4], [5, 6]]}]}', "not two numbers"),
    ("labelme", "000.json", "[" * 100_000, "nested too deeply"),
    ("labelme", "zzz.json", '{"shapes": [], "imagePath": "/etc/passwd"}', "its image is not beside it"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "content", "part"), BAD)
def test_what_cannot_be_read_is_named_and_nothing_is_written(tmp_path, kind, name, content, part):
    labelled_sets.images(tmp_path / "d", 1)
    if kind == "yolo":
        put(tmp_path / "d", "data.yaml", "names: [cat, dog]")
    if name.startswith("more"):
        labelled_sets.images(tmp_path / "d" / "more", 1)
        put(tmp_path / "d", "000.xml", content)
    put(tmp_path / "d", name, content)
    with pytest.raises(DatasetError) as caught:
        import_annotations(tmp_path / "d", tmp_path / "out", kind)
    message = str(caught.value)
    assert part in message and "nothing was written" in message and sorted(p.name for p in tmp_path.iterdir()) == ["d"]


def test_every_bad_line_is_counted_and_the_first_are_shown(tmp_path):
    labelled_sets.images(tmp_path / "d", 1)
    put(tmp_path / "d", "classes.txt", "cat")
    put(tmp_path / "d", "000.txt", "0 1\n" * 40)
    with pytest.raises(DatasetError) as caught:
        import_annotations(tmp_path / "d", tmp_path / "out", "yolo")
    message = str(caught.value)
    assert "40 labels cannot be read" in message and "line 8: 1 numbers" in message and "… and 32 more" in message


def test_an_image_that_is_a_link_is_not_copied(tmp_path):
    labelled_sets.images(tmp_path / "elsewhere", 1)
    (tmp_path / "d").mkdir()
    (tmp_path / "d/000.png").symlink_to(tmp_path / "elsewhere/000.png")
    put(tmp_path / "d", "000.xml", labelled_sets.voc_xml("000.png", (WIDTH, HEIGHT), [("a", [1, 2, 3, 4], False)]))
    with pytest.raises(DatasetError, match="there is no image 000"):
        import_annotations(tmp_path / "d", tmp_path / "out", "voc")


def test_the_command_imports_and_checks(inside):
    labelled_sets.images(Path("d"), 2)
    put(Path("d"), "classes.txt", "cat")
    put(Path("d"), "000.txt", "0 0.5 0.5 0.5 0.5")
    done = cli("data", "import", "d", "--format", "yolo")
    assert done.returncode == 0, done.stderr
    assert "datasets/d-coco: images 2 (1 objects)" in done.stderr + done.stdout
    assert "2 images with labels for detect" in done.stdout
    assert cli("data", "import", "d", "--format", "yolo").returncode == 1  # it is there
    done = cli("data", "import", "d", "--format", "coco", "--out", "x")
    assert done.returncode == 2 and "expected one of voc, yolo, labelme" in done.stderr
    done = cli("data", "import", "d", "--format", "labelme", "--out", "x")
    assert done.returncode == 1 and "d has no images with such labels" in done.stderr and "--format with" in done.stderr
    done = cli("data", "import", "d/classes.txt", "--format", "voc", "--out", "x")
    assert done.returncode == 1 and "is not a folder" in done.stderr


def shown(done, start: str) -> list[str]:
    """The words of the command that a fix line shows."""
    line = next(line for line in (done.stdout + done.stderr).splitlines() if f"mslab {start}" in line)
    return line[line.index("mslab ") :].split("    ")[0].split()[1:]


def test_the_check_of_classes_says_how_boxes_are_kept_and_the_commands_work(inside):
    labelled_sets.images(Path("y/images"), 2)
    put(Path("y"), "classes.txt", "cat")
    put(Path("y"), "labels/000.txt", "0 0.5 0.5 0.5 0.5")
    done = cli("check", "y")
    assert done.returncode == 1 and "YOLO's layout" in done.stdout
    assert cli(*shown(done, "data import y --format yolo")).returncode == 0 and Path("datasets/y-coco").is_dir()
    names = labelled_sets.images(Path("v/JPEGImages"), 2)
    for name in names:
        text = labelled_sets.voc_xml(name, (WIDTH, HEIGHT), [("cat", [1, 2, 9, 9], False)])
        put(Path("v"), f"Annotations/{Path(name).stem}.xml", text)
    done = cli("check", "v", "--lang", "zh")
    assert "保留它的框" in done.stdout and cli(*shown(done, "data import v --format voc")).returncode == 0
    labelled_sets.write(Path("c"), labelled_sets.coco(labelled_sets.images(Path("c/images"), 2)))
    Path("c/annotations.json").rename("c/_annotations.coco.json")
    done = cli("data", "split", "c")
    assert done.returncode == 1 and "COCO's layout" in done.stderr
    assert cli(*shown(done, "check c --task detect")).returncode == 0
