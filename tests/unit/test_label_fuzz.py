"""Labels with anything in any place: reading them ends with values or with problems, never with a crash."""

import copy
import json
import random
import warnings
from pathlib import Path

import labelled_sets
import numpy as np
import pytest

from mslab.data.labelme import read_labelme
from mslab.data.voc import read_voc
from mslab.data.yolo import read_yolo
from mslab.tasks.coco import labels_of
from mslab.tasks.labels import Problems
from mslab.tasks.rle import RegionError, check_counts, decode, from_string
from mslab.tasks.tags import read_tags

NASTY = [None, True, False, -1, 0, 2**63, 10**400, 1e308, -1e308, float("nan"), float("inf"), 0.5, "", "a", "1", "\0"]
NASTY += ["../x", "\ud800", "蘑菇", [], [[]], [[[]]], {}, {"id": {}}, [None], [1, 2], [float("nan")] * 4, "9" * 5000]
NASTY += [{"size": [30, 40], "counts": "PoPo"}, {"size": None, "counts": None}, [[0] * 6], [["0"] * 6], [{}], -0.0]


def places(value, path=()):
    """The path of every value in a document."""
    yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def put(document, path, value):
    for key in path[:-1]:
        document = document[key]
    document[path[-1]] = value


@pytest.mark.parametrize("seed", range(4))
def test_coco_with_anything_in_any_place(seed):
    rng, sound = random.Random(seed), labelled_sets.coco(["a.png", "b.png"])
    paths = [path for path in places(sound) if len(path) > 1]
    for _ in range(250):
        document = copy.deepcopy(sound)
        for _ in range(rng.randint(1, 3)):
            try:
                put(document, rng.choice(paths), copy.deepcopy(rng.choice(NASTY)))
            except (TypeError, KeyError, IndexError):  # an earlier value took the place
                continue
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            problems = Problems()
            labels = labels_of(document["images"], document["categories"], document["annotations"], problems)
        for image in labels.images:
            count = len(image.boxes)
            assert image.boxes.shape == (count, 4) and np.isfinite(image.boxes).all()
            assert len(image.classes) == len(image.ignored) == len(image.masks) == len(image.points) == count
            assert count == 0 or (image.classes.min() >= 0 and image.classes.max() < len(labels.categories))
            assert np.isfinite(image.points).all()
            assert all(
                region is None or region.array().shape == (30, 40) for region in image.masks if image.width == 40
            )


def test_run_lengths_of_random_characters():
    rng, read = random.Random(1), 0
    for _ in range(3000):
        text = "".join(chr(rng.randint(40, 115)) for _ in range(rng.randint(0, 12)))
        try:
            counts = from_string(text)
            check_counts(counts, 6, 5)
            assert decode(counts, 6, 5).shape == (6, 5)
            read += 1
        except RegionError:
            pass
    assert read < 100


def noise(rng: random.Random, content: bytes) -> bytes:
    """The content with some bytes changed, cut, or repeated."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(changed) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            changed[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 1:
            del changed[at : at + rng.randint(1, 8)]
        elif kind == 2:
            changed[at:at] = changed[at : at + 20] * rng.randint(1, 3)
        else:
            changed[at:at] = rng.choice(
                [b"nan", b"1e999", b"-1", b"<", b"&a;", b'"', b"\0", b"\xff", b"\n", b"[", b"{"]
            )
    return bytes(changed)


XML = labelled_sets.voc_xml("000.png", (40, 30), [("cat", [1, 2, 30, 20], False), ("dog", [1.5, 2, 9, 9], True)])
SHAPES = [{"label": "cat", "shape_type": "polygon", "points": [[1, 1], [9, 1], [5, 8]], "group_id": 3}]
SHAPES += [{"label": "tail", "shape_type": "point", "points": [[4, 4]], "group_id": 3}]
FORMS = [
    (read_voc, "000.xml", XML.encode()),
    (read_yolo, "000.txt", b"0 0.5 0.5 0.5 0.2\n1 0.1 0.1 0.2 0.1 0.2 0.3\n"),
    (read_yolo, "data.yaml", b"names: [cat, dog]\nkpt_shape: [2, 3]\nkpt_names: {0: [a, b]}\n"),
    (read_labelme, "000.json", json.dumps({"shapes": SHAPES, "flags": {"wet": True}, "imageWidth": 40}).encode()),
]


@pytest.mark.parametrize(("read", "name", "content"), FORMS)
def test_other_forms_with_noise_in_them(tmp_path, read, name, content):
    labelled_sets.images(tmp_path, 1)
    (tmp_path / "data.yaml").write_text("names: [cat, dog]")
    rng = random.Random(2)
    for _ in range(150):
        (tmp_path / name).write_bytes(noise(rng, content))
        found = read(tmp_path)
        for image in found.images:
            assert all(np.isfinite(row.box).all() and row.category for row in image.objects)
            assert {row.category for row in image.objects} <= {category.name for category in found.categories}


def test_tables_of_tags_with_noise_in_them(tmp_path):
    rng, file = random.Random(3), Path(tmp_path / "tags.csv")
    for _ in range(200):
        file.write_bytes(noise(rng, b"file_name,wet,dry\na.png,0,1\nb.png,1,1\n"))
        labels, _ = read_tags(file)
        assert all(len(image.tags) == len(labels.tags) and set(image.tags) <= {0, 1} for image in labels.images)
