"""The manifest's schema in the package matches the code; digests of classes."""

import json
import shutil
from importlib import metadata

import jsonschema
import pytest
from helpers import PROJECT
from pydantic import ValidationError

from mslab import check
from mslab.runs import manifest
from mslab.runs.manifest import Metrics


def test_the_schema_in_the_package_matches_the_code():
    assert manifest.FILE.read_text() == manifest.schema(), "python -m mslab.runs.manifest writes it"
    jsonschema.Draft202012Validator.check_schema(json.loads(manifest.FILE.read_text()))


def test_a_class_digest_changes_with_its_class_alone(squares, inside):
    shutil.copytree(squares / "three", "data")
    before = manifest.class_digests(check.check_dataset("data/train"))
    shutil.copy("data/val/b/000.png", "data/train/b/000.png")
    after = manifest.class_digests(check.check_dataset("data/train"))
    assert {name for name in "abc" if before[""][name] != after[""][name]} == {"b"}


def test_every_package_is_recorded_with_the_version_that_python_finds(tmp_path, monkeypatch):
    (tmp_path / "Old_Kind.egg-info").mkdir()
    text = "Metadata-Version: 1.0\nName: Old-Kind\nVersion: 0.3\n\nName: of the description\n"
    (tmp_path / "Old_Kind.egg-info" / "PKG-INFO").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    recorded = manifest.environment()["packages"]
    assert recorded == {package.metadata["Name"].lower(): package.version for package in metadata.distributions()}
    assert recorded["old-kind"] == "0.3" and recorded["pydantic"] == metadata.version("pydantic")


def test_the_figures_of_the_same_answer_for_every_image_are_read(tmp_path):
    content = json.loads((PROJECT / "configs" / "measured" / "tiny_nine" / "manifest.json").read_text())
    content["metrics"]["constant"] = {"voc_map": 0.001, "coco_map": 0.0}
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    assert manifest.load(tmp_path)["metrics"]["constant"]["voc_map"] == 0.001
    jsonschema.validate(content, json.loads(manifest.FILE.read_text()))


@pytest.mark.parametrize(
    ("metrics", "problem"),
    [
        ({"constant": {"miou": 0.1, "pixel_accuracy": None}, "val_acc": 0.5, "linear_acc": None}, ""),
        ({"constant": 0.1}, "metrics.constant"),
        ({"constant": {"miou": "high"}}, "metrics.constant.miou"),
        ({"linear_acc": {"miou": 0.1}}, "metrics.linear_acc"),
    ],
)
def test_the_figures_of_an_answer_without_looking_are_a_table_and_others_are_numbers(metrics, problem):
    if not problem:
        assert Metrics.model_validate(metrics)
        return
    with pytest.raises(ValidationError) as caught:
        Metrics.model_validate(metrics)
    assert [".".join(map(str, ("metrics", *row["loc"]))) for row in caught.value.errors()] == [problem]
