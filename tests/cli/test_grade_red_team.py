"""grade, as a teacher runs it, on a class of one honest student and many attackers: no one gains, nothing breaks.

Here one attack of every kind; tests/slow has all of them.
"""

import sys
from pathlib import Path

import pytest
from attacks import SAMPLE, name_of
from siege import Guarantees, attacked_class, gains_nothing

from mslab.grade import grading, measuring, submissions
from mslab.grade.loading import load_rubric
from mslab.grade.records import Measurement

linux = pytest.mark.skipif(sys.platform != "linux", reason="pipes, device nodes and the guards are Linux's")
FILES_ALONE = "title: x\ntotal: 1\nitems: [{id: a, kind: files, points: 1, files: [a]}]\n"


@linux
class TestASampleOfAttackers(Guarantees):
    @pytest.fixture(scope="class")
    def graded(self, once, squares, parent):
        return attacked_class(once, "sampled-attackers", SAMPLE, squares, parent)

    @pytest.mark.parametrize("attack", SAMPLE, ids=name_of)
    def test_an_attack_gains_nothing_and_its_student_gets_the_reason(self, graded, attack):
        gains_nothing(graded, attack)


def test_a_submission_that_makes_measuring_fail_does_not_stop_the_class(tmp_path, monkeypatch):
    (tmp_path / "class").mkdir()
    for name in ("anna", "bob"):
        (tmp_path / "class" / f"{name}.zip").write_bytes(name.encode())
    (tmp_path / "rubric.yaml").write_text(FILES_ALONE)
    rubric, found_submissions = load_rubric(tmp_path / "rubric.yaml"), submissions.find_submissions(tmp_path / "class")

    def failing(job, *rest):
        if Path(job["source"]).read_bytes() == b"anna":
            raise RuntimeError("of MindSpore")
        return Measurement(measuring.no_answer("").facts | {"problems": [], "files": {"a": 1}})

    monkeypatch.setattr(measuring, "measure", failing)
    facts = grading.measure_all(found_submissions, [], rubric, None, {}, tmp_path / "cache", grading.GradeOptions())
    anna, bob = (
        grading.graded_of(submission, facts[submission.path], rubric, {}, {}) for submission in found_submissions
    )
    assert bob.points == 1 and anna.points == 0 and "returned no answer" in anna.flags[0]
    assert anna.outcomes["a"].said == "the submission could not be read: measuring it failed (RuntimeError)"
