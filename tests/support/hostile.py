"""Grades of a class with hostile names and texts, and their feedback pages."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mslab.grade import outputs, rubric
from mslab.grade.records import Graded, Outcome

HOSTILE = [
    "<script>alert(1)</script>",
    '=cmd|" /C calc"!A0',
    " =1+1",
    "＝1+1",
    "-2+3",
    "@SUM(A1)",
    "\t=1+1",
    "\r\n=1+1",
    'two\nlines, "quoted"; \'; DROP TABLE',
    "x" * 10_000,
    "\u202etxt.exe\u2066",
    "{{ 7 * 7 }}{% raw %}",
    "Anna",
    "anna",
    "ANNA",
    "аnna",  # its first letter is Cyrillic
    "CON",
    "nul",
    "lpt1.txt",
    "trailing.",
    "trailing ",
    "..",
    "../../etc/passwd",
    "a/b\\c:d*e?",
    "-rf",
    ".hidden",
    "张伟",
    "Zoë",
    "Zoe\u0308",  # the same to a reader and to macOS
    "not unicode \udcff",
    "''",
    "",
    "s1234567",
    "Full Name_1234567_assignsubmission_file_",
]


LINE = {"from": 0.125, "to": 0.875}
BANDS = [[0.5, 1.0], [0.75, 5.0]]
ITEMS = [
    rubric.FilesItem(id="files", kind="files", points=2.0, files=["nine/best.ckpt"], title="Files <b>are</b> there"),
    rubric.AccuracyItem(id="hidden", kind="accuracy", points=8.0, network="nine", linear=LINE),
    rubric.AccuracyItem(id="open", kind="accuracy", points=5.0, network="two", bands=BANDS, public=True),
    rubric.ManualItem(id="essay", kind="manual", points=5.0, title="What you make of it"),
]
RUBRIC = SimpleNamespace(title="Transfer & <i>learning</i>", total=20.0, items=ITEMS)


def graded(name: str, fraction: float = 0.5, **more) -> Graded:
    outcomes = {
        "files": Outcome(2.0, "full", "1 of 1 files are there"),
        "hidden": Outcome(8 * fraction, "part" if fraction else "none", "measured on the hidden images", "train longer",
                          {"accuracy": 0.6180339, "nan": float("nan"), "array": np.arange(3)}),
        "open": Outcome(5.0, "full", "accuracy 0.812 on the hidden images"),
        "essay": Outcome(0.0, "manual", "your teacher reads it"),
    }  # fmt: skip
    return Graded(name, "ab" * 32, outcomes, **more)


def everybody() -> list[Graded]:
    """A submission for each hostile name, with hostile texts in every text field."""
    students = [graded(name, i / len(HOSTILE)) for i, name in enumerate(HOSTILE)]
    for g, text in zip(students, HOSTILE[1:] + HOSTILE[:1], strict=True):
        g.outcomes["files"] = Outcome(1.0, "part", text, text, {"text": text})
        g.deductions = [(text, 1.5), ("late", 0.5)]
        g.flags = [text, "looks like another's name"]
        g.facts = {"problems": [text]}
    return students


PAIRS = [
    {"a": a, "b": b, "kind": "weights", "evidence": a, "likeness": 0.9 + i / 1000, "last_year": bool(i % 2)}
    for i, (a, b) in enumerate(pairwise(HOSTILE))
]
CONFUSION = {
    "nine": (["<b>bold</b>", "b" * 300, "鸡油菌"], np.array([[90, 5, 1], [4, 70, 0], [0, 0, 50]])),
    "many": ([f"class {i}" for i in range(60)], np.eye(60, dtype=int) + np.eye(60, k=1, dtype=int)),
}


def write(students, out, **more):
    options = {"moodle": True, "canvas": True, "confusion": CONFUSION} | more
    return outputs.write_all(students, RUBRIC, PAIRS, out, **options)


def written_once(once) -> Path:
    """The output folder for everybody(), written once for all tests. Read-only."""
    return once("hostile-grades", lambda folder: write(everybody(), folder))


def check_feedback_pages(written: Path, names: Sequence[str], new_page):
    """Open these students' feedback on a narrow screen: no script, markup or request results. Returns the page."""
    page = new_page(color_scheme="dark", viewport={"width": 360, "height": 780})
    page.on("dialog", lambda dialog: pytest.fail(f"a text ran: {dialog.message}"))
    for name in names:
        path = written / "students" / outputs.folder_of(name) / "feedback.html"
        page.goto(path.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, name[:40]
        assert page.locator("script, b, i, img").count() == 0, name[:40]
    assert page.complaints == [] and len(page.requested) == len(names)
    return page
