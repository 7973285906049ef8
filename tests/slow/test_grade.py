"""A class graded afresh, which takes as long as the first time."""

from grading import contents, graded, graded_class


def test_a_fresh_grading_by_one_worker_gives_the_same_bytes(once, squares, parent, finished, tmp_path):
    lab = graded_class(once, squares, parent, finished)
    fresh = graded(lab, tmp_path / "elsewhere", "--moodle", "--canvas", "--jobs", "1")
    assert fresh.returncode == 0 and contents(tmp_path / "elsewhere") == contents(lab / "out")
