"""All attacks on grade in one class; and an archive of a million members."""

import json
import re
import sys
import zipfile

import pytest
from attacks import ATTACKS, name_of
from helpers import cli
from siege import Guarantees, attacked_class, gains_nothing

linux = pytest.mark.skipif(sys.platform != "linux", reason="pipes, device nodes and the guards are Linux's")
FILES_ALONE = "title: x\ntotal: 1\nitems: [{id: a, kind: files, points: 1, files: [a]}]\n"


@linux
class TestAllAttackers(Guarantees):
    @pytest.fixture(scope="class")
    def graded(self, once, squares, parent):
        return attacked_class(once, "all-attackers", ATTACKS, squares, parent)

    @pytest.mark.parametrize("attack", ATTACKS, ids=name_of)
    def test_an_attack_gains_nothing_and_its_student_gets_the_reason(self, graded, attack):
        gains_nothing(graded, attack)


def test_a_million_members_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "class.zip", "w") as file:
        for number in range(1_000_000):
            file.writestr(f"{number}", "")
    (tmp_path / "class").mkdir()
    (tmp_path / "class.zip").rename(tmp_path / "class" / "anna.zip")
    (tmp_path / "rubric.yaml").write_text(FILES_ALONE)
    (tmp_path / "hidden").mkdir()
    done = cli("grade", tmp_path / "class", "--rubric", tmp_path / "rubric.yaml", "--data", tmp_path / "hidden",
               "--out", tmp_path / "out")  # fmt: skip
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "out" / "grades.json").read_text())["students"][0]
    assert row["points"] == 0 and re.search("more than 2,000 files|more memory", row["problems"][0]), row
