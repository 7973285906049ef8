"""The same labels in three forms are the same targets, and hostile ones end training at once."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from labelled_sets import coco, data_set, voc_xml, write
from task_runs import draw, task_settings

from mslab.check.training_data import check_or_raise
from mslab.config import load_settings
from mslab.data.annotated import import_annotations
from mslab.runtime.workers import ALONE
from mslab.tasks.reading import load_labels
from mslab.training import build

SIZE = 64


def feed_of(root, task, class_num):
    config = load_settings(task_settings(Path(root), task, class_num=class_num, image_size=SIZE))
    return build.label_feed(SimpleNamespace(manifest={}), config, check_or_raise(config), ALONE)


def as_voc(sets, root, out):
    for split, labels in sets.items():
        (out / split / "Annotations").mkdir(parents=True)
        shutil.copytree(root / split / "images", out / split / "JPEGImages")
        for image in labels.images:
            triples = zip(image.classes, image.boxes, image.ignored, strict=True)
            rows = [(labels.class_names[label], box.tolist(), bool(ignored)) for label, box, ignored in triples]
            file = (out / split / "Annotations" / image.file).with_suffix(".xml")
            file.write_text(voc_xml(image.file, (SIZE, SIZE), rows))


def as_yolo(sets, root, out):
    for split, labels in sets.items():
        shutil.copytree(root / split / "images", out / "images" / split)
        (out / "labels" / split).mkdir(parents=True)
        for image in labels.images:
            lines = []
            for label, (left, top, right, bottom) in zip(image.classes, image.boxes.tolist(), strict=True):
                numbers = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
                lines.append(f"{label} " + " ".join(f"{number / SIZE:.6f}" for number in numbers))
            (out / "labels" / split / image.file).with_suffix(".txt").write_text("\n".join(lines))
    document = {"path": ".", "train": "images/train", "val": "images/val"}
    names = dict(enumerate(next(iter(sets.values())).class_names))
    (out / "data.yaml").write_text(json.dumps(document | {"names": names}))


@pytest.mark.parametrize(("form", "write_as"), [("voc", as_voc), ("yolo", as_yolo)])
def test_three_forms_of_the_same_labels_are_the_same_targets(form, write_as, once, tmp_path):
    root = tmp_path / "scenes"
    shutil.copytree(once("few-scenes", draw) / "scenes", root)
    shutil.rmtree(root / "test")
    for split in ("train", "val"):  # YOLO has no ignored objects, VOC only classes with objects
        document = json.loads((root / split / "annotations.json").read_text())
        document["annotations"] = [row for row in document["annotations"] if not row["iscrowd"]]
        write(root / split, document)
    sets = load_labels(root, "detect")
    write_as(sets, root, tmp_path / form)
    import_annotations(tmp_path / form, tmp_path / "imported", form)
    found = load_labels(tmp_path / "imported", "detect")["train"]
    here = feed_of(root, "detect", 9)
    there = feed_of(tmp_path / "imported", "detect", len(found.class_names))
    order = [there.class_names.index(name) for name in here.class_names if name in there.class_names]
    kept = [here.class_names.index(name) for name in here.class_names if name in there.class_names]
    rows = list(zip(here.targets(), there.targets(), strict=True))
    assert len(rows) == 10
    for one, other in rows:
        if form == "voc":
            np.testing.assert_array_equal(one[kept], other[order])
            np.testing.assert_array_equal(one[9:], other[len(order) :])
        else:  # six digits of a share
            np.testing.assert_allclose(one[kept], other[order], atol=1e-3)
            np.testing.assert_allclose(one[9:], other[len(order) :], atol=1e-3)


def hostile(kind, document):
    row = document["annotations"][0]
    if kind == "a million boxes":
        document["annotations"] += [row | {"id": 10**6 + n} for n in range(10**6)]
    elif kind == "nan":
        row["bbox"] = [float("nan"), 0, 1, 1]
    elif kind == "huge numbers":
        row["bbox"] = [0, 0, 1e308, 1e308]
    elif kind == "absurd size":
        document["images"][0]["width"] = 10**9
    elif kind == "run-length bomb":
        row["segmentation"] = {"size": [10**6, 10**6], "counts": [10**12]}
    elif kind == "many points":
        document["categories"][0]["keypoints"] = [str(n) for n in range(10**6)]
    elif kind == "no list":
        document["annotations"] = {"a": 1}
    elif kind == "traversal":
        document["images"][0]["file_name"] = "../../../../etc/passwd"
    return json.dumps(document)


KINDS = ["a million boxes", "nan", "huge numbers", "absurd size", "run-length bomb", "many points", "no list"]
LIMITED = """import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_DATA, (6 << 30,) * 2)
sys.argv = ["mslab", *sys.argv[1:]]
runpy.run_module("mslab", run_name="__main__")
"""


@pytest.mark.parametrize("task", ["detect", "segment", "keypoints"])
@pytest.mark.parametrize("kind", [*KINDS, "traversal", "deep"])
def test_hostile_labels_end_training_with_one_message(kind, task, inside):
    data_set(Path("data"))
    names = [f"{number:03}.png" for number in range(4)]
    text = "[" * 10**6 if kind == "deep" else hostile(kind, coco(names))
    Path("data/train/annotations.json").write_text(text)
    if task == "segment":
        shutil.rmtree("data/train/masks")
    Path("x.yaml").write_text(json.dumps(task_settings(Path("data"), task, class_num=2)))
    command = [sys.executable, "-c", LIMITED, "train", "x.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert "Traceback" not in done.stderr and len(done.stderr) < 20_000, done.stderr[-3000:]
    if kind == "a million boxes" and done.returncode == 0:
        return
    assert done.returncode == 1, (done.returncode, done.stderr[-3000:])
    assert not Path("runs").exists() and "fix" in done.stderr
