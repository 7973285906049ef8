"""CONTRIBUTING.md's "Adding a task": the lines that it changes are there. tests/slow trains the task."""

from helpers import PROJECT
from worked_task import edits


def test_each_change_begins_with_what_stands_in_the_file_once():
    assert len(list(edits())) >= 8
    for file, old, new in edits():
        assert (PROJECT / file).read_text(encoding="utf-8").count(old) == 1, (file, old)
        assert new != old
