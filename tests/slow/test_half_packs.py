"""Provenance if only one of two networks has float16 weights."""

import json

import pytest
from grading import RUBRIC, graded
from helpers import settings

from mslab.grade import handin


@pytest.mark.parametrize("half, full", [("two", "three"), ("three", "two")])
def test_a_backbone_frozen_from_a_full_file_still_counts_as_its(tmp_path, parent, squares, finished, half, full):
    runs = {"three": parent, "two": finished(settings(squares / "two", 2, epochs=1) | {"freeze": "all"}, parent).run}
    handin.pack([f"{full}={runs[full]}"], tmp_path / "class" / "anna" / "a.zip")
    handin.pack([f"{half}={runs[half]}"], tmp_path / "class" / "anna" / "b.zip", half=True)
    (tmp_path / "rubric.yaml").write_text(RUBRIC)
    (tmp_path / "hidden").mkdir()
    for network in ("three", "two"):
        (tmp_path / "hidden" / network).symlink_to(squares / network / "val", target_is_directory=True)
    result = graded(tmp_path, "out")
    content = json.loads((tmp_path / "out" / "grades.json").read_text())
    assert content["students"][0]["outcomes"]["backbone"]["status"] == "full", result.stdout + result.stderr
