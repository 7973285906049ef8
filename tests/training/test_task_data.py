"""What stands in labelled images is what a task is trained on: layouts, orders of names, modes and sizes of images."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import figures, history, within
from labelled_sets import coco, data_set, images, mask, write
from PIL import Image
from task_runs import draw, task_settings

import mslab
from mslab.check.label_check import check_labels
from mslab.check.training_data import check_or_raise
from mslab.config import load_settings
from mslab.data import labelled_feed
from mslab.errors import DatasetError
from mslab.evaluation import measuring
from mslab.runtime.workers import ALONE
from mslab.tasks import keypoints
from mslab.tasks import sample as samples
from mslab.tasks.labels import ImageLabels
from mslab.tasks.registry import task_of
from mslab.training import build


def feed_of(root, task, class_num=2, **more):
    config = load_settings(task_settings(Path(root), task, class_num=class_num, image_size=64, **more))
    report = check_or_raise(config)
    return build.label_feed(SimpleNamespace(manifest={}), config, report, ALONE)


def refusal(root, task, class_num=2, **more):
    with pytest.raises(DatasetError) as caught:
        feed_of(root, task, class_num, **more)
    return str(caught.value)


def equal_targets(first, second, atol=0.0):
    pairs = list(zip(first.targets(), second.targets(), strict=True))
    assert pairs
    for one, other in pairs:
        np.testing.assert_allclose(one, other, atol=atol)


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_classes_in_another_order_in_val_are_the_same_classes(task, tmp_path):
    data_set(tmp_path)
    shutil.copytree(tmp_path / "train", tmp_path / "same")
    shutil.rmtree(tmp_path / "val")
    shutil.copytree(tmp_path / "train", tmp_path / "val")
    for number, name in enumerate(images(tmp_path / "val" / "images", 4, 9)):
        mask(tmp_path / "val" / "masks" / name, {(2 + number, 3, 12 + number, 11): 2, (20, 10, 32, 19): 1})
    document = coco([f"{number:03}.png" for number in range(4)])
    for row in document["categories"]:
        row["id"] = 1 - row["id"]
    for row in document["annotations"]:
        row["category_id"] = 1 - row["category_id"]
    write(tmp_path / "val", document)
    feed = feed_of(tmp_path, task)
    assert feed.class_names == ["cat", "dog"]
    for index in range(4):
        here, there = feed.images.sample(index), feed.val_images.sample(index)
        np.testing.assert_array_equal(np.sort(here.classes), np.sort(there.classes))
        for label in range(2):
            np.testing.assert_array_equal(here.boxes[here.classes == label], there.boxes[there.classes == label])
        if task == "segment":
            np.testing.assert_array_equal(here.mask, there.mask)


def test_tags_in_another_order_in_val_are_refused(tmp_path):
    data_set(tmp_path)
    file = tmp_path / "val" / "tags.csv"
    file.write_text(file.read_text().replace("wet,dry", "dry,wet"))
    assert "tags are in another order" in refusal(tmp_path, "multilabel")


@pytest.mark.parametrize(
    ("task", "noun"),
    [("detect", "classes"), ("segment", "classes"), ("keypoints", "key points"), ("multilabel", "tags")],
)
def test_a_wrong_class_num_is_said_with_the_word_of_the_task(task, noun, tmp_path):
    data_set(tmp_path)
    text = refusal(tmp_path, task, class_num=3)
    assert f"has 2 {noun}, the config says class_num: 3" in text and "class_num: 2" in text


def test_masks_without_names_of_classes_are_refused_and_with_them_trained(tmp_path):
    data_set(tmp_path)
    for split in ("train", "val"):
        (tmp_path / split / "annotations.json").unlink()
    text = refusal(tmp_path, "segment")
    assert "no names of their classes" in text and "classes.txt" in text
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert feed_of(tmp_path, "segment").class_names == ["cat", "dog"]


def test_labels_of_another_task_are_refused(tmp_path):
    data_set(tmp_path)
    for split in ("train", "val"):
        (tmp_path / split / "tags.csv").unlink()
    text = refusal(tmp_path, "multilabel")
    assert "has no labels for multilabel; it has some for: detect" in text
    images(tmp_path / "none" / "images", 2)
    text = refusal(tmp_path, "detect", train_data=str(tmp_path / "none"))
    assert "none has no labels of boxes" in text


def test_a_split_in_which_the_task_finds_nothing_is_refused(tmp_path):
    documents = data_set(tmp_path)
    for row in documents["val"]["annotations"]:
        row.pop("keypoints", None)
    write(tmp_path / "val", documents["val"])
    assert "no object has a key point" in refusal(tmp_path, "keypoints")
    for row in documents["val"]["annotations"]:
        row["iscrowd"] = 1
    write(tmp_path / "val", documents["val"])
    assert "every object is to be ignored" in refusal(tmp_path, "detect")
    file = tmp_path / "train" / "tags.csv"
    file.write_text(file.read_text().replace(",1", ",0"))
    assert "no image has a tag" in refusal(tmp_path, "multilabel")


def test_a_report_of_another_task_is_refused(tmp_path, inside):
    data_set(tmp_path)
    report = check_labels(tmp_path / "train", "detect", val=tmp_path / "val")
    with pytest.raises(DatasetError) as caught:
        mslab.train(task_settings(tmp_path, "segment", class_num=2), report=report)
    assert "was checked for detect, the config says task: segment" in str(caught.value)


@pytest.mark.parametrize("absolute", [("train",), ("val",), ("train", "val"), ()], ids=str)
def test_paths_may_be_relative_or_not(absolute, tmp_path, inside):
    data_set(inside / "here" / "data")
    paths = {
        f"{name}_data": str(inside / "here" / "data" / name) if name in absolute else f"data/{name}"
        for name in ("train", "val")
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(inside / "here")
        assert len(feed_of(tmp_path, "segment", **paths).train_parts) == 4
        patch.chdir(inside / "here" / "data" / "train")
        paths = {
            key: value.replace("data/", "../") if value.startswith("data/") else value for key, value in paths.items()
        }
        assert len(feed_of(tmp_path, "segment", **paths).train_parts) == 4


def test_one_folder_cannot_be_trained_and_validated_on(tmp_path):
    data_set(tmp_path)
    text = refusal(tmp_path, "detect", val_data=str(tmp_path / "train"))
    assert "have the same labels" in text and "val_data=FOLDER/val" in text


def test_cocos_own_layout_is_one_folder_for_both(tmp_path, inside):
    data_set(tmp_path / "mine", 8)
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        shutil.copytree(tmp_path / "mine" / split / "images", tmp_path / "coco" / f"{split}2017")
        file = tmp_path / "coco" / "annotations" / f"instances_{split}2017.json"
        shutil.copy(tmp_path / "mine" / split / "annotations.json", file)
    root = str(tmp_path / "coco")
    equal_targets(feed_of(tmp_path / "mine", "detect"), feed_of(root, "detect", train_data=root, val_data=root))
    config = task_settings(tmp_path, "detect", class_num=2, train_data=root, val_data=root, epochs=1)
    assert len(history(mslab.train(config).run)) == 1


# --- objects ---------------------------------------------------------------------------------------------------------


def test_key_points_of_ignored_objects_and_unlabelled_ones_are_no_parts(tmp_path):
    documents = data_set(tmp_path)
    dogs = [row for row in documents["train"]["annotations"] if row["category_id"] == 1]
    dogs[0]["iscrowd"] = 1
    dogs[1]["keypoints"], dogs[1]["num_keypoints"] = [0] * 6, 0
    write(tmp_path / "train", documents["train"])
    feed = feed_of(tmp_path, "keypoints")
    assert [index for index, _ in feed.train_parts] == [2, 3] and len(feed.val_parts) == 4


def test_different_key_points_of_two_classes_are_refused(tmp_path):
    documents = data_set(tmp_path)
    for split, document in documents.items():
        document["categories"][0]["keypoints"] = ["tail", "nose"]
        write(tmp_path / split, document)
    assert "one head learns the same ones for all classes" in refusal(tmp_path, "keypoints")


def test_images_without_objects_and_of_one_class_are_trained_on(tmp_path, inside):
    documents = data_set(tmp_path, 8)
    for split, document in documents.items():
        document["categories"] = document["categories"][:1]
        rows = [row for row in document["annotations"] if row["category_id"] == 0]
        document["annotations"] = rows[:5]  # three images without an object
        write(tmp_path / split, document)
        shutil.rmtree(tmp_path / split / "masks")
    run = mslab.train(task_settings(tmp_path, "detect", class_num=1, epochs=1)).run
    assert len(history(run)) == 1


def test_fewer_images_than_a_batch_are_refused(tmp_path, inside):
    data_set(tmp_path, 2)
    with pytest.raises(DatasetError, match="batch"):
        mslab.train(task_settings(tmp_path, "detect", class_num=2, batch_size=64))


# --- pixels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "I;16", "1", "LA", "CMYK"])
def test_images_of_every_mode_are_read_as_classification_reads_them(mode, tmp_path):
    grey = np.arange(40 * 30, dtype=np.uint32).reshape(30, 40) % 256
    image = (
        Image.fromarray((grey * 257).astype(np.uint16)) if mode == "I;16" else Image.fromarray(grey.astype(np.uint8))
    )
    file = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    (image if mode == "I;16" else image.convert(mode)).save(file)
    found = labelled_feed.pixels_of(file.read_bytes())
    assert found.shape == (30, 40, 3) and found.dtype == np.uint8
    if mode in ("L", "P", "RGBA", "I;16", "LA"):
        np.testing.assert_array_equal(found, np.repeat(grey[..., None], 3, 2))


@pytest.mark.parametrize("mode", ["1", "P", "I;16"])
def test_masks_of_every_mode_give_equal_targets(mode, tmp_path):
    data_set(tmp_path)
    plain = tmp_path / "plain"
    for split in ("train", "val"):
        for file in (tmp_path / split / "masks").iterdir():
            values = np.asarray(Image.open(file)).copy()
            values[values == 2] = 1
            Image.fromarray(values).save(file)
    shutil.copytree(tmp_path / "train", plain / "train")
    shutil.copytree(tmp_path / "val", plain / "val")
    for file in (tmp_path / "train" / "masks").iterdir():
        values = np.asarray(Image.open(file))
        picture = Image.fromarray(values.astype(np.uint16) if mode == "I;16" else values)
        if mode == "P":
            picture = Image.fromarray(values, "P")
            picture.putpalette([0, 0, 0, 9, 9, 9])
        if mode == "1":
            picture = Image.fromarray(values.astype(bool))
        picture.save(file)
    equal_targets(feed_of(plain, "segment"), feed_of(tmp_path, "segment"))


def test_masks_of_objects_give_the_targets_of_a_picture_of_classes(tmp_path):
    data_set(tmp_path)
    documents = {split: json.loads((tmp_path / split / "annotations.json").read_text()) for split in ("train", "val")}
    for split, document in documents.items():
        for row in document["annotations"]:
            x, y, w, h = row["bbox"]
            row["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
        shutil.copytree(tmp_path / split / "images", tmp_path / "regions" / split / "images")
        write(tmp_path / "regions" / split, document)
        for number, file in enumerate(sorted((tmp_path / split / "masks").iterdir())):
            mask(file, {(2 + number, 3, 12 + number, 11): 1, (20, 10 + number, 32, 19 + number): 2})
    equal_targets(feed_of(tmp_path, "segment"), feed_of(tmp_path / "regions", "segment"))


@pytest.mark.parametrize("change", ["gone", "smaller", "no picture"])
def test_a_mask_that_changes_during_training_is_named(change, tmp_path):
    data_set(tmp_path)
    feed = feed_of(tmp_path, "segment")
    file = tmp_path / "train" / "masks" / "001.png"
    if change == "gone":
        file.unlink()
    elif change == "smaller":
        Image.new("L", (3, 3)).save(file)
    else:
        file.write_bytes(b"nothing")
    with pytest.raises(DatasetError) as caught:
        list(feed.train(0))
    assert "001.png" in str(caught.value)


def test_sizes_of_images_do_not_matter(tmp_path, inside):
    """From one pixel to a panorama: each is a part with the same target's shape."""
    sizes = [(1, 1), (2, 300), (300, 2), (1200, 900), (40, 30), (33, 47), (64, 64), (7, 5)]
    for seed, split in enumerate(("train", "val")):
        (tmp_path / split / "images").mkdir(parents=True)
        document = {"images": [], "categories": [{"id": 1, "name": "cat"}], "annotations": []}
        for number, size in enumerate(sizes):
            pixels = np.random.default_rng([seed, number]).integers(0, 255, (size[1], size[0], 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / split / "images" / f"{number}.png")
            document["images"].append({"id": number, "file_name": f"{number}.png", "width": size[0], "height": size[1]})
            box = [0, 0, *size]
            document["annotations"].append({"id": number, "image_id": number, "category_id": 1, "bbox": box})
        write(tmp_path / split, document)
    run = mslab.train(task_settings(tmp_path, "detect", class_num=1, epochs=1, tile_grid_size=[2, 2])).run
    assert len(history(run)) == 1
    assert 0 <= measuring.evaluate(run, tmp_path)["voc_map"] <= 1


def test_a_panorama_is_fitted_without_the_memory_of_its_square():
    script = """
import numpy as np
from mslab.tasks.labels import ImageLabels
from mslab.tasks.sample import fitted, sample
found = fitted(sample(np.full((20, 60000, 3), 9, np.uint8), ImageLabels("x"), np.ones((20, 60000), np.uint8)), 64)
assert found.image.shape == (64, 64, 3) and found.mask.shape == (64, 64)
assert (found.image == 9).any() and (found.mask == 1).any() and (found.mask == 255).any()
"""
    done = within(1500, script)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (7, 5), (33, 47)])
def test_a_mask_of_every_shape_comes_back(size):
    task = task_of({"task": "segment", "class_names": ["a", "b"]})
    found = task.answer([np.zeros((3, 8, 8))], task.parts(ImageLabels(""), size), size, 32, 4)
    assert found.shape == size[::-1] and found.dtype == np.uint8


def test_an_object_across_a_panorama_is_cut_out_without_the_memory_of_its_square():
    task = task_of({"task": "keypoints", "class_names": ["a"]})
    labels = ImageLabels("x", 30000, 20, np.array([[0, 0, 30000, 20]], np.float32), np.zeros(1, np.int32))
    labels = replace(labels, ignored=np.zeros(1, bool), points=np.array([[[15000, 10, 2]]], np.float32))
    part = task.parts(labels, (30000, 20))[0]
    crop = task.cut(samples.sample(np.zeros((20, 30000, 3), np.uint8), labels), part)
    assert crop.size == (4096, 4096)
    small = samples.fitted(crop, 64)
    back = keypoints.uncropped(small.points[0], part.box, 64)
    np.testing.assert_allclose(back[0, :2], [15000, 10], atol=1)


def test_large_squares_are_filled_as_small_ones(monkeypatch):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (120, 480, 3), np.uint8)
    whole = samples.sample(pixels, ImageLabels("x"))
    expected = samples.fitted(whole, 64).image.astype(int)
    monkeypatch.setattr(samples, "LARGE", 1)
    found = samples.fitted(whole, 64).image.astype(int)
    assert abs(found - expected)[26:38].max() <= 1 and (found[:20] == expected[:20]).all()


def test_scenes_train_with_equal_bits_from_a_relative_path(once, inside):
    root = once("few-scenes", draw) / "scenes"
    shutil.copytree(root, "scenes")
    here, there = (mslab.train(task_settings(place, "segment", epochs=1)).run for place in (Path("scenes"), root))
    assert figures(here) == figures(there)
