"""mslab predict with networks of tasks: every format read back by another program, every refusal provoked."""

import contextlib
import csv
import io
import json
import os
from pathlib import Path

import labelled_sets
import numpy as np
import pytest
import task_networks
from helpers import cli
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from mslab import checkpoint
from mslab.inference import coco_results, drawn, task_predicting
from mslab.report import task_notebook
from mslab.tasks.average_precision import Detections
from mslab.tasks.registry import task_of

TASKS = list(task_networks.NAMES)
HEIGHT, WIDTH = labelled_sets.HEIGHT, labelled_sets.WIDTH


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """FOLDER/TASK.ckpt of each task, and FOLDER/data with labels and images."""
    folder = tmp_path_factory.mktemp("tasks")
    for task in TASKS:
        task_networks.save(task, folder / f"{task}.ckpt")
    labelled_sets.data_set(folder / "data")
    return folder


@pytest.fixture(scope="module")
def images(place):
    return place / "data" / "val" / "images"


@pytest.fixture(scope="module")
def done(place, images):
    """The command of each task with all of its outputs, on four images and three that cannot be read."""
    (place / "broken.png").write_bytes((images / "000.png").read_bytes()[:300])
    with Image.open(images / "001.png") as image:
        image.save(place / "as.gif")
        image.save(place / "000.JPG", "JPEG")
    found = {}
    for task in TASKS:
        out = place / "out" / task
        options = [
            "--json",
            out / "x.json",
            "--jsonl",
            out / "x.jsonl",
            "--csv",
            out / "x.csv",
            "--draw",
            out / "drawn",
        ]
        options += ["--coco", out / "coco.json"] if task != "multilabel" else []
        options += ["--masks", out / "masks"] if task == "segment" else []
        files = [images, place / "broken.png", place / "gone.png", place / "as.gif", place / "000.JPG"]
        found[task] = cli("predict", place / f"{task}.ckpt", *files, *options, "--device", "cpu")
    return found


def rows_of(place, task):
    return json.loads((place / "out" / task / "x.json").read_text())


def results(place, task, document):
    """The --coco file as pycocotools reads it, beside labels whose image ids are 1, 2, …"""
    labels = place / "labels.json"
    labels.write_text(json.dumps(document))
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(labels).loadRes(str(place / "out" / task / "coco.json"))


def labels_from_one(count=8):
    names = task_networks.NAMES["detect"]
    return {
        "images": [{"id": n + 1, "file_name": f"{n}", "width": WIDTH, "height": HEIGHT} for n in range(count)],
        "categories": [{"id": n + 1, "name": name} for n, name in enumerate(names)],
        "annotations": [],
    }


@pytest.mark.parametrize("task", TASKS)
def test_unreadable_images_have_a_row_with_the_reason_and_the_rest_is_answered(place, done, task):
    rows = rows_of(place, task)
    key = task_predicting.KEYS[task]
    assert done[task].returncode == 1 and "5 images, 3 unreadable" in done[task].stdout, done[task].stderr
    assert [Path(row["file"]).name for row in rows][4:] == ["broken.png", "gone.png", "as.gif", "000.JPG"]
    assert rows[4]["error"].startswith("truncated: ") and rows[5]["error"] == "missing: there is no such file"
    assert rows[6]["error"].startswith("wrong-format: GIF")
    assert all(row[key] is None and row["width"] is None for row in rows[4:7])
    assert all(row[key] is not None and (row["width"], row["height"]) == (WIDTH, HEIGHT) for row in rows[:4])
    assert "cannot be read  " in done[task].stdout
    lines = (place / "out" / task / "x.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == rows


@pytest.mark.parametrize("task", TASKS)
def test_csv_has_the_same_rows_as_json_and_no_formulas(place, done, task):
    with (place / "out" / task / "x.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    count, name = 0, {"multilabel": "tag", "keypoints": "object"}.get(task, "class")
    for row in rows_of(place, task):
        items = row[task_predicting.KEYS[task]] or []
        items = list((row.get("probabilities") or {}).items()) if task == "multilabel" else items
        own = table[count : count + max(1, len(items))]
        count += len(own)
        assert {line["file"] for line in own} == {row["file"]} and {line["error"] for line in own} == {row["error"]}
        if not items:
            assert own[0][name] == ""
        for number, (line, item) in enumerate(zip(own, items, strict=False), 1):
            if task == "multilabel":
                given = item[0] in {tag["tag"] for tag in row["tags"]}
                assert (line["tag"].lstrip("'"), line["given"]) == (item[0], str(int(given)))
                assert float(line["probability"]) == pytest.approx(item[1], abs=1e-5)
            elif task == "keypoints":
                assert line["object"] == str(number)
                assert float(line["x(right_eye)"]) == pytest.approx(item["points"]["right_eye"][0], abs=1e-2)
            else:
                assert line["class"].lstrip("'") == item["class"]
                value = item["score"] if task == "detect" else item["share"]
                assert float(line["score" if task == "detect" else "share"]) == pytest.approx(value, abs=1e-5)
            assert not line[name].startswith("=")
    assert count == len(table)


def test_pycocotools_reads_boxes_at_their_places(place, done):
    found = results(place, "detect", labels_from_one())
    rows = rows_of(place, "detect")
    items = [(n, item) for n, row in enumerate(rows, 1) for item in row["objects"] or []]
    assert len(found.anns) == len(items) > 4
    for one, (image, item) in zip(found.dataset["annotations"], items, strict=True):
        left, top, right, bottom = item["box"]
        assert 0 <= left < right <= WIDTH and 0 <= top < bottom <= HEIGHT
        assert one["image_id"] == image and one["bbox"] == pytest.approx(
            [left, top, right - left, bottom - top], abs=0.02
        )
        assert one["category_id"] == task_networks.NAMES["detect"].index(item["class"]) + 1
    assert {one["image_id"] for one in found.dataset["annotations"]} <= {1, 2, 3, 4, 8}  # of the numbers in the command


def test_masks_are_the_same_in_png_run_lengths_and_shares(place, done):
    found = results(place, "segment", labels_from_one())
    masks = sorted((place / "out" / "segment" / "masks").iterdir())
    assert [mask.name for mask in masks] == ["000-2.png", "000.png", "001.png", "002.png", "003.png"]
    some = 0
    for number, row in enumerate(rows_of(place, "segment")[:4], 1):
        with Image.open(place / "out" / "segment" / "masks" / f"{number - 1:03}.png") as picture:
            assert picture.mode == "P" and picture.size == (WIDTH, HEIGHT)
            pixels = np.asarray(picture)
        for item in row["classes"]:
            label = task_networks.NAMES["segment"].index(item["class"]) + 1
            (one,) = found.loadAnns(found.getAnnIds(imgIds=[number], catIds=[label]))
            assert (coco_mask.decode(one["segmentation"]) == (pixels == label)).all()
            assert item["share"] == pytest.approx((pixels == label).mean())
            some += 1
    assert some


def test_masks_are_labels_that_the_check_reads(place, done):
    """The folder of --masks beside the images is a data set of pictures of classes."""
    root = place / "as_labels"
    labelled_sets.images(root / "images", 4, seed=1)
    (root / "masks").mkdir()
    for name in ("000.png", "001.png", "002.png", "003.png"):
        (root / "masks" / name).write_bytes((place / "out" / "segment" / "masks" / name).read_bytes())
    (root / "masks" / "classes.txt").write_text("")
    checked = cli("check", root, "--task", "segment", "--json", place / "check.json")
    assert not {"mask-mode", "mask-size", "mask-format"} & set(checked.stdout.split())


def test_key_points_without_boxes_are_of_one_object_that_fills_the_image(place, done):
    found = results(place, "keypoints", labels_from_one())
    for number, row in enumerate(rows_of(place, "keypoints")[:4], 1):
        (item,) = row["objects"]
        (one,) = found.loadAnns(found.getAnnIds(imgIds=[number]))
        assert item["box"] == [0, 0, WIDTH, HEIGHT]
        assert one["keypoints"] == [value for point in item["points"].values() for value in point]
        assert one["category_id"] == 1
        assert one["score"] == pytest.approx(np.mean([point[2] for point in item["points"].values()]))


def test_numbers_below_zero_are_numbers_in_csv():
    """A key point may be left of its image; a class may be called so."""
    task = task_of({"task": "keypoints", "class_names": ["nose"], "options": {}})
    objects = [{"box": [-3.5, 0.0, 9.0, 9.0], "points": {"nose": [-1.25, -7e-07, 0.5]}}]
    row = {"file": "-1.png", "objects": objects, "error": ""}
    line = list(task_predicting.csv_lines(task, [row]))[1]
    assert line == "'-1.png,1,-3.5,0,9,9,-1.25,-7e-07,0.5,\n"


@pytest.mark.parametrize("task", TASKS)
def test_each_picture_has_a_name_of_its_own_and_shows_what_was_found(place, done, images, task):
    folder = place / "out" / task / "drawn"
    assert sorted(path.name for path in folder.iterdir()) == ["000.jpg", *(f"00{n}.png" for n in range(4))]
    with Image.open(folder / "001.png") as picture, Image.open(images / "001.png") as image:
        assert picture.size == (WIDTH * 16, HEIGHT * 16)  # enlarged
        larger = image.convert("RGB").resize(picture.size, Image.Resampling.NEAREST)
        changed = (np.asarray(picture) != np.asarray(larger)).any(-1)
    row = rows_of(place, task)[1]
    points = [point for one in row["objects"] for point in one["points"].values()] if task == "keypoints" else []
    visible = [point for point in points if point[2] > 0]
    assert changed.any() == bool(visible if task == "keypoints" else row[task_predicting.KEYS[task]])
    if task == "detect":
        left, top, *_ = (round(16 * value) for value in row["objects"][0]["box"])
        assert changed[max(0, top - 2) : top + 3, left + 40].any()
    for x, y, _ in visible:
        assert changed[min(round(16 * y), HEIGHT * 16 - 1), min(round(16 * x), WIDTH * 16 - 1)]


def test_names_of_pictures_differ_whatever_the_folders_and_letters(tmp_path):
    taken: set[str] = set()
    paths = ["a/x.png", "b/X.jpg", "c/x.bmp", f"{'é' * 125}.png", f"{'é' * 125}.bmp", "a/x-2.png"]
    names = [drawn.free_name(Path(path), ".png", taken) for path in paths]
    assert names[:3] == ["x.png", "X-2.png", "x-3.png"] and names[5] == "x-2-2.png"
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        (tmp_path / name).touch()
        assert len(os.fsencode(name)) < 255


def test_nothing_is_overwritten(place, images):
    before = (images / "000.png").read_bytes()
    refused = cli("predict", place / "detect.ckpt", images, "--draw", images)
    assert (
        refused.returncode == 1 and "already exists." in refused.stderr and "nothing is overwritten" in refused.stderr
    )
    assert (images / "000.png").read_bytes() == before


# --- boxes and ids ----------------------------------------------------------------------------------------------------


def predicted(place, task, *arguments):
    done = cli("predict", place / f"{task}.ckpt", *arguments, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    return done


def test_key_points_are_looked_for_in_the_boxes_of_annotations(place, images):
    predicted(place, "keypoints", images, "--boxes", images.parent / "annotations.json", "--json", place / "k.json")
    rows = json.loads((place / "k.json").read_text())
    for number, row in enumerate(rows):
        assert [item["box"] for item in row["objects"]] == [
            [2 + number, 3, 12 + number, 11],
            [20, 10 + number, 32, 19 + number],
        ]
        for item in row["objects"]:  # the crop is larger than the box by a quarter
            left, top, right, bottom = item["box"]
            side = 1.25 * max(right - left, bottom - top)
            for x, y, _ in item["points"].values():
                assert abs(x - (left + right) / 2) <= side / 2 + 2 and abs(y - (top + bottom) / 2) <= side / 2 + 2


def test_detect_coco_goes_into_keypoints_boxes_and_its_results_keep_category_and_ids(place, images):
    labels = images.parent / "annotations.json"
    names = task_networks.NAMES["detect"]
    document = json.loads(labels.read_text())
    for number, image in enumerate(document["images"]):
        image["id"] = 1000 + number
    document["categories"] = [{"id": 70 + n, "name": name} for n, name in enumerate(names)]
    own = place / "ids.json"
    own.write_text(json.dumps(document | {"annotations": []}))
    predicted(place, "detect", images, "--coco", place / "d.json", "--ids", own, "--box-detections-per-img", "2")
    boxes = json.loads((place / "d.json").read_text())
    assert {box["image_id"] for box in boxes} <= {1000, 1001, 1002, 1003} and len(boxes) == 8
    assert {box["category_id"] for box in boxes} <= {70, 71}
    with contextlib.redirect_stdout(io.StringIO()):
        COCO(own).loadRes(str(place / "d.json"))
    arguments = ["--boxes", place / "d.json", "--ids", own, "--coco", place / "k.json"]
    predicted(place, "keypoints", images, *arguments)
    with contextlib.redirect_stdout(io.StringIO()):
        points = COCO(own).loadRes(str(place / "k.json")).dataset["annotations"]
    assert [(p["image_id"], p["category_id"]) for p in points] == [(b["image_id"], b["category_id"]) for b in boxes]
    for point, box in zip(points, boxes, strict=True):
        assert point["score"] == pytest.approx(box["score"] * np.mean(point["keypoints"][2::3]))


def test_an_image_without_a_box_has_no_object_and_a_box_outside_is_its_error(place, images):
    rows = [{"file_name": "images/000.png", "bbox": [1, 2, 10, 10]}, {"file_name": "001.png", "bbox": [500, 2, 9, 9]}]
    (place / "b.json").write_text(json.dumps(rows))
    done = cli(
        "predict", place / "keypoints.ckpt", images, "--boxes", place / "b.json", "--json", "-", "--device", "cpu"
    )
    found = json.loads(done.stdout)
    assert [len(row["objects"] or []) for row in found] == [1, 0, 0, 0] and done.returncode == 1
    assert "its box 500, 2, 509, 11 in " in found[1]["error"] and "is not in its 40x30 pixels" in found[1]["error"]
    assert found[2]["error"] == ""


def test_names_of_a_file_match_by_whole_folders(tmp_path, monkeypatch):
    names = coco_results.ByName()
    for name in ("images/1.png", "train/images/1.png", r"val\images\1.png", "2.png", "far/away/data/3.png"):
        names.add(name, name)
    assert names.all_of(Path("/x/train/images/1.png")) == ["train/images/1.png"]
    assert names.all_of(Path("/x/val/images/1.png")) == [r"val\images\1.png"]
    assert names.all_of(Path("/x/test/images/1.png")) == ["images/1.png"]
    assert names.all_of(Path("/x/masks/1.png")) == [] and names.all_of(Path("/x/masks/2.png")) == ["2.png"]
    assert names.all_of(Path("data/3.png")) == ["far/away/data/3.png"]


BAD_BOXES = {
    "no JSON": ("{", "it cannot be read: it is not valid JSON"),
    "a number": ("3", "it has no list images, as COCO's files do"),
    "no images": ("{}", "it has no list images, as COCO's files do"),
    "no annotations": ('{"images": []}', "it has no list annotations, as COCO's files do"),
    "no name": ('[{"image_id": 1, "bbox": [0, 0, 1, 1]}]', "entry 0 does not say of which image it is: {'image_id': 1"),
    "corners": ('[{"file_name": "000.png", "bbox": [9, 9, 0, 5]}]', "the bbox of entry 0 is [9, 9, 0, 5]"),
    "texts": ('[{"file_name": "000.png", "bbox": ["a", 1, 2, 3]}]', "the bbox of entry 0 is ['a', 1, 2, 3]"),
    "NaN": ('[{"file_name": "000.png", "bbox": [NaN, 1, 2, 3]}]', "the bbox of entry 0 is [nan, 1, 2, 3]"),
    "others": ('[{"file_name": "9.png", "bbox": [0, 0, 1, 1]}]', "it names none of the images, such as"),
    "no entry": ("[3]", "entry 0 does not say of which image it is: {}"),
}


@pytest.mark.parametrize("name", BAD_BOXES)
def test_a_file_of_boxes_that_cannot_be_used_is_refused_before_the_network_starts(place, images, name):
    content, reason = BAD_BOXES[name]
    file = place / "bad.json"
    file.write_text(content)
    done = cli("predict", place / "keypoints.ckpt", images, "--boxes", file)
    assert done.returncode == 1 and f"--boxes {file}: {reason}" in done.stderr
    assert "expected  " in done.stderr and "name another file for --boxes, or correct it" in done.stderr


def test_ids_that_lack_an_image_or_a_class_are_refused(place, images):
    file = place / "few.json"
    rows = [{"id": n, "file_name": f"{n:03}.png"} for n in range(4)]
    for document, reason in (
        ({"images": rows[:3]}, "1 of the 4 images are not in it, or twice, such as"),
        ({"images": rows}, "it has no category 'cat'"),
        ({"images": [*rows, {"id": 9, "file_name": "000.png"}]}, "1 of the 4 images are not in it, or twice"),
        ([], "it has no list images"),
    ):
        file.write_text(json.dumps(document))
        done = cli("predict", place / "detect.ckpt", images, "--coco", place / "x.json", "--ids", file)
        assert done.returncode == 1 and f"--ids {file}: {reason}" in done.stderr


# --- options ----------------------------------------------------------------------------------------------------------


def test_box_options_replace_those_of_training(place, images):
    count = {}
    for options in ((), ("--box-score-thresh", "0.999"), ("--box-detections-per-img", "1"), ("--nms-iou-thresh", "0")):
        done = predicted(place, "detect", images / "000.png", "--json", "-", *options)
        count[options] = len(json.loads(done.stdout)[0]["objects"])
    few, one, apart = list(count.values())[1:]
    assert count[()] > 2 and few == 0 and one == 1 and 0 < apart <= count[()]
    shown = predicted(place, "detect", images / "000.png", "--box-score-thresh", "0.999")
    assert "1 image; 0 objects with a score of at least 0.999; --box-score-thresh 0.25 shows those less" in shown.stdout


UNFITTING = {
    ("multilabel", "--coco", "x.json"): "--coco is for networks of task detect or segment or keypoints",
    ("detect", "--masks", "m"): "--masks is for networks of task segment; this one is of task detect: leave it out",
    ("segment", "--boxes", "b.json"): "--boxes is for networks of task keypoints; this one is of task segment",
    ("keypoints", "--box-score-thresh", "0"): "--box-score-thresh is for networks of task detect",
    ("segment", "--nms-iou-thresh", "0.5"): "--nms-iou-thresh is for networks of task detect",
    ("segment", "--box-detections-per-img", "5"): "--box-detections-per-img is for networks of task detect",
    ("detect", "--ids", "i.json"): "--ids is for --coco FILE, which is missing",
}


@pytest.mark.parametrize(("task", "option", "value"), UNFITTING)
def test_an_option_of_another_task_is_refused(place, images, task, option, value):
    done = cli("predict", place / f"{task}.ckpt", images, option, value, cwd=place)
    assert done.returncode == 2 and UNFITTING[task, option, value] in " ".join(done.stderr.split())


def test_a_network_of_classes_has_none_of_these_options(parent, images, tmp_path):
    for option, value in (("--draw", "d"), ("--coco", "x.json"), ("--box-score-thresh", "0.5")):
        done = cli("predict", parent, images, option, value, cwd=tmp_path)
        assert done.returncode == 2 and "this one answers classes: leave it out" in " ".join(done.stderr.split())


@pytest.mark.parametrize("command", ["predict", "serve"])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_only_mindspore_runs_them(place, images, command, engine):
    arguments = [images] if command == "predict" else ["--port", "0"]
    done = cli(command, place / "detect.ckpt", *arguments, "--engine", engine)
    assert done.returncode == 1 and f"engine: {engine} cannot run a network of task detect." in done.stderr
    assert "engine: auto or mindspore" in done.stderr


def test_weights_that_are_not_finite_are_an_error_and_not_an_empty_answer(place, images):
    file = task_networks.save("detect", place / "nan.ckpt", change=task_networks.huge)
    done = cli("predict", file, images, "--device", "cpu")
    assert done.returncode == 1 and "the network's answer is not finite: its weights are unusable" in done.stderr
    assert "finite outputs for an image" in done.stderr


def test_answers_do_not_depend_on_batch_or_neighbours(place, images):
    files = sorted(images.iterdir())
    weights = checkpoint.read(place / "detect.ckpt")
    answers = []
    for batch in (1, 3):
        model = task_predicting.open_model(weights, "cpu", batch)
        answers.append([one.row for one in task_predicting.predict(model, files)])
    alone = next(task_predicting.predict(model, files[2:3])).row
    for first, second in [*zip(*answers, strict=True), (answers[0][2], alone)]:
        assert len(first["objects"]) == len(second["objects"])
        for one, other in zip(first["objects"], second["objects"], strict=True):
            assert one["box"] == pytest.approx(other["box"], abs=0.05)


def test_a_long_table_is_cut_and_says_so():
    task = task_of({"task": "detect", "class_names": ["a"], "options": task_networks.OPTIONS})
    found = Detections(np.tile([[1.0, 2, 3, 4]], (150, 1)), np.full(150, 0.5), np.zeros(150, int))
    rows = [{"file": "x", "error": ""} | task_predicting.row_of(task, (9, 9), found)] * 2
    text = task_predicting.table(task, rows)
    assert "… and 100 more lines; --csv FILE or --jsonl FILE writes all" in text and text.endswith(
        "2 images; 300 objects"
    )


def test_drawn_answers_scale_with_the_picture():
    """A photo is drawn in its size; one that was reduced for the page gets what was found in the large one."""
    pixels = np.full((1500, 3000, 3), 90, np.uint8)
    task = task_of({"task": "detect", "class_names": ["蘑菇"], "options": task_networks.OPTIONS})
    found = Detections(np.array([[600.0, 300, 2400, 1200]]), np.array([0.9]), np.array([0]))
    whole, small = drawn.draw(task, pixels, found), drawn.draw(task, drawn.reduced(pixels), found, (3000, 1500))
    assert whole.size == (3000, 1500) and small.size == (640, 320)
    for picture, share in ((whole, 1), (small, 640 / 3000)):
        changed = (np.asarray(picture) != 90).any(-1)
        assert changed[round(700 * share), round(602 * share)] and not changed[round(700 * share), round(1500 * share)]


def test_a_panorama_needs_little_memory():
    """The square around it would have 144 million pixels."""
    from mslab.tasks.labels import ImageLabels
    from mslab.tasks.sample import fitted, sample

    pixels = np.full((1000, 12_000, 3), 200, np.uint8)
    pixels[:, 6000:] = 50
    small = fitted(sample(pixels, ImageLabels("")), 64).image
    assert small.shape == (64, 64, 3) and (small[32, :31] > 150).all() and (small[32, 33:] < 90).all()


# --- notebooks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_a_notebook_gets_the_row_and_a_picture(place, images, done, task):
    """Run.predict of a run of the task."""
    model = task_predicting.open_model(checkpoint.read(place / f"{task}.ckpt"), "cpu", 1)
    files = [images / "000.png", place / "broken.png"]
    found, problems = task_notebook.answers(model, files, ["<b>", "other"])
    (one,) = found
    expected = rows_of(place, task)[0]
    assert problems[0] == "" and problems[1].startswith("truncated: ") and one.picture.size == (640, 480)
    assert one.row.keys() == expected.keys() and one.row["file"] == one.file == "<b>"
    count, key = len(expected[task_predicting.KEYS[task]]), task_predicting.KEYS[task]
    assert (
        repr(one).startswith(f"<b>: {count} {key if count != 1 else task_notebook.ONE[key]}")
        and found._repr_html_().count("data:image/jpeg;base64,") == 1
    )
    assert "<b>" not in found._repr_html_() and "&lt;b&gt;" in one._repr_html_()
