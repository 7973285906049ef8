"""data.mushrooms.scenes: the drawn scenes, and labels that are exact to the pixel."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mslab.data.mushrooms import forest, scenes
from mslab.data.mushrooms.drawing import COUNTS, SPLITS
from mslab.data.mushrooms.species import CLASSES, GENERA
from mslab.tasks.rle import decode, from_string

TINY = {"train": 5, "val": 2, "test": 2}


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    scenes.draw_scenes(root, size=64, workers=1, counts=TINY)
    return root


def document(drawn: Path, split: str = "train") -> dict:
    return json.loads((drawn / "scenes" / split / "annotations.json").read_text())


def test_equal_seeds_give_equal_bytes_for_any_number_of_workers(drawn, tmp_path):
    scenes.draw_scenes(tmp_path, size=64, workers=2, counts=TINY)
    assert contents(tmp_path) == contents(drawn)


def test_what_is_drawn_is_reused_and_another_seed_is_refused(drawn):
    before = {path: path.stat().st_mtime_ns for path in drawn.rglob("*")}
    assert scenes.draw_scenes(drawn, size=64, counts=TINY) == TINY
    assert {path: path.stat().st_mtime_ns for path in drawn.rglob("*")} == before
    with pytest.raises(FileExistsError, match=r"drawn with other settings: seed 1, now 2(.|\n)*--out"):
        scenes.draw_scenes(drawn, seed=2, size=64, counts=TINY)


def test_every_split_has_its_images_masks_boxes_and_tags(drawn):
    for split, count in TINY.items():
        folder = drawn / "scenes" / split
        names = [f"{i + 1:04d}.png" for i in range(count)]
        assert sorted(path.name for path in (folder / "images").iterdir()) == names
        assert sorted(path.name for path in (folder / "masks").iterdir()) == names
        assert [row["file_name"] for row in csv.DictReader((folder / "tags.csv").open())] == names
        assert [row["file_name"] for row in document(drawn, split)["images"]] == names


def test_boxes_masks_and_areas_agree_to_the_pixel(drawn):
    """Every box is the tight one of its mask, and the masks together are the picture of classes."""
    count = 0
    for split in SPLITS:
        found = document(drawn, split)
        for image in found["images"]:
            classes = np.zeros((64, 64), int)
            for row in (row for row in found["annotations"] if row["image_id"] == image["id"]):
                mask = decode(from_string(row["segmentation"]["counts"]), *row["segmentation"]["size"])
                ys, xs = np.nonzero(mask)
                assert row["bbox"] == [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
                assert row["area"] == mask.sum() and not (classes[mask]).any()
                classes[mask] = 255 if row["iscrowd"] else row["category_id"]
                count += 1
            picture = Image.open(drawn / "scenes" / split / "masks" / image["file_name"])
            assert picture.mode == "P" and (np.asarray(picture) == classes).all()
    assert count > 10


def test_categories_are_the_nine_genera_and_ids_count_from_1(drawn):
    found = document(drawn)
    assert [row["name"] for row in found["categories"]] == list(GENERA) == sorted(GENERA)
    for kind in ("categories", "images", "annotations"):
        assert [row["id"] for row in found[kind]] == list(range(1, len(found[kind]) + 1))
    assert found["categories"][0]["keypoints"] == ["top", "left_edge", "right_edge", "ring", "foot"]


def test_key_points_lie_where_the_mushroom_says():
    left_of_right, rings = [], {}
    for number in range(24):
        _, seen = forest.draw_scene(np.random.default_rng([7, number]), 64)
        for mushroom in seen:
            points = mushroom.points
            assert set(points[:, 2]) <= {0, 1, 2} and ((points >= 0) & (points < 64)).all()
            assert not points[points[:, 2] == 0].any()
            left_of_right += [points[1, 0] < points[2, 0]] * points[1:3, 2].all()
            for x, y, visible in points[points[:, 2] == 2]:
                assert mushroom.mask[max(int(y) - 2, 0) : int(y) + 4, max(int(x) - 2, 0) : int(x) + 4].any(), visible
            rings.setdefault(list(GENERA)[mushroom.label], set()).add(points[3, 2])
    assert len(left_of_right) > 20 and all(left_of_right)
    assert 2 in rings["Amanita"] and all(rings[name] == {0} for name in rings if name not in ("Amanita", "Agaricus"))


def test_tags_are_of_marks_that_the_genus_has_and_that_are_seen():
    for number in range(24):
        for mushroom in forest.draw_scene(np.random.default_rng([8, number]), 64)[1]:
            marks = list(GENERA.values())[mushroom.label].marks.split()
            assert mushroom.tags <= {forest.TAG_OF.get(mark) for mark in marks}


def test_what_is_hidden_by_more_than_four_fifths_is_to_be_ignored():
    mask = np.zeros((64, 64), bool)
    mask[:9, :9] = True
    points = np.full((5, 3), 2.0)
    mushroom = forest.SeenMushroom(3, mask, 0.79, points, frozenset({"gills"}))
    row = scenes.annotation(mushroom)
    assert row["iscrowd"] == 0 and row["keypoints"] == [2] * 15 and row["num_keypoints"] == 5
    row = scenes.annotation(mushroom._replace(hidden=0.81))
    assert row["iscrowd"] == 1 and row["keypoints"] == [0] * 15 and row["num_keypoints"] == 0


def test_no_drawing_is_shared_between_splits_or_with_the_other_data_sets(drawn):
    images = [value for name, value in contents(drawn / "scenes").items() if "/images/" in name]
    assert len(images) == len(set(images)) == sum(TINY.values())
    first = []  # the first random numbers of every drawing
    for number, split in enumerate(SPLITS):
        streams = [[1, scenes.STREAM, number, i] for i in range(scenes.COUNTS[split])]
        for data_set, name in enumerate(CLASSES):
            labels = range(len(CLASSES[name]))
            streams += [[1, data_set, number, label, i] for label in labels for i in range(COUNTS[name][split])]
        first += [tuple(np.random.default_rng(stream).integers(1 << 60, size=2).tolist()) for stream in streams]
    assert len(first) > 4000 and len(set(first)) == len(first)


def test_scenes_are_drawn_by_the_command(inside):
    from helpers import cli

    from mslab.experiments import demo

    demo.draw_scenes(Path("datasets"), size=64, workers=1, counts=TINY)
    done = cli("data", "make", "--scenes", "--size", "64")
    assert done.returncode == 1 and "was drawn with other settings: counts" in done.stderr
