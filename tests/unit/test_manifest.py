"""The manifest's schema in the package matches the code; digests of classes."""

import json
import shutil

import jsonschema

from mslab import check
from mslab.runs import manifest


def test_the_schema_in_the_package_matches_the_code():
    assert manifest.FILE.read_text() == manifest.schema(), "python -m mslab.runs.manifest writes it"
    jsonschema.Draft202012Validator.check_schema(json.loads(manifest.FILE.read_text()))


def test_a_class_digest_changes_with_its_class_alone(squares, inside):
    shutil.copytree(squares / "three", "data")
    before = manifest.class_digests(check.check_dataset("data/train"))
    shutil.copy("data/val/b/000.png", "data/train/b/000.png")
    after = manifest.class_digests(check.check_dataset("data/train"))
    assert {name for name in "abc" if before[""][name] != after[""][name]} == {"b"}
