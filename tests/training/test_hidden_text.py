"""No page and no notebook shows a character that hides, reverses or colours what stands beside it."""

import ast
import json
import logging

import numpy as np
import pytest
from helpers import PROJECT, cli, draw
from PIL import Image
from strict import HOSTILE, hidden

from mslab.check import check_dataset
from mslab.config import load_settings
from mslab.report import charts, notebook, several, show
from mslab.report.markup import embedded
from mslab.report.suspect_table import Suspects
from mslab.report.writing import render
from mslab.runs.folder import RunFolder
from mslab.runtime.console import EscapedFormatter

NAME = f"a{HOSTILE}b"
ON_DISK = NAME.replace("\0", "")
HONEST = ["蘑菇", "فطر", "می‌خواهم", "क्‍ष", "👩‍🚀"]


def test_the_check_s_page_and_its_table_in_a_notebook(tmp_path):
    root = draw(tmp_path / ON_DISK, [ON_DISK, *HONEST], 2)
    (root / f".{ON_DISK}").mkdir()
    (root / ON_DISK / f"{ON_DISK}.gif.png").write_bytes(b"")
    done = cli("check", root, "--html", tmp_path / "page.html")
    assert done.returncode == 1, done.stderr
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    table = check_dataset(root)._repr_html_()
    for text in (page, table):
        assert "\\u202egnp.exe" in text
        assert hidden(text) - set("\u200c\u200d") == set() and hidden(table) == set()
    assert all(name in page for name in HONEST)


def test_the_suspects_on_a_page_and_in_a_notebook():
    row = {"file": f"{NAME}.png", "split": "val", "label": NAME, "suggested": HONEST[-1], "p_label": 0.1}
    found = Suspects([row | {"p_suggested": 0.9, "rank": 1}], NAME, NAME, {"val": 5}, {}, [0])
    for text in (found.page(), found._repr_html_()):
        assert "\\u202egnp.exe" in text and HONEST[-1] in text and hidden(text) == {"\u200d"}


def test_charts_and_tables_of_several_runs(tmp_path):
    settings = load_settings({"train_data": ON_DISK, "val_data": "b", "class_num": 2})
    manifest = {"kind": NAME, "status": NAME, "class_names": [NAME, HONEST[-1]], "data": {"fingerprint": NAME}}
    manifest |= {"metrics": {}, "warnings": [{"code": NAME}]}
    runs = [RunFolder(tmp_path / name, settings, manifest) for name in (NAME, "plain")]
    for run in runs:
        run.history = [{"epoch": 1, "val_acc": 0.5, "val_loss": 1.0, "train_loss": 1.0, "lr": 0.1, "seconds": 1.0}]
    facts = several.facts(runs, str)
    page = render("several.html", facts, "en")
    assert "\\u202egnp.exe" in page and HONEST[-1] in page and hidden(page) == {"\u200d"}
    assert NAME in str(charts.scatter(np.zeros((1, 2)), [0], [NAME], "x"))  # the whole page is cleaned, not each part
    text = str(embedded({"runs": [NAME, *HONEST]}))
    assert json.loads(text) == {"runs": [NAME, *HONEST]} and hidden(text) == set() and HONEST[0] in text


def test_captions_of_drawn_images_of_any_name():
    sheet = show.tiles([Image.new("RGB", (8, 8))] * 3, ["two\nlines", NAME, "x" * 3000], [True, False, True], 3)
    assert sheet.width == 3 * 116


def test_log_lines():
    record = logging.LogRecord("mslab", logging.INFO, "", 0, "class %s", (NAME,), None)
    text = EscapedFormatter("%(message)s").format(record)
    assert hidden(text) == set() and text.encode() and "\\u202egnp" in text


def test_the_traceback_in_a_run_s_log(tmp_path):
    settings = load_settings({"train_data": "a", "val_data": "b", "class_num": 2})
    run = RunFolder(tmp_path, settings, {"metrics": {}, "artifacts": {}})
    with pytest.raises(LookupError), run.recording():
        raise LookupError(NAME)
    text = (tmp_path / "train.log").read_text(encoding="utf-8")
    assert hidden(text) == set() and "LookupError: a\\u202egnp" in text


def test_every_page_and_every_view_of_a_notebook_is_cleaned_as_a_whole():
    """Whoever renders a template, or writes a _repr_html_, passes the result through escape_control()."""
    views = 0
    for file in sorted((PROJECT / "mslab").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef):
                continue
            calls = [ast.unparse(part.func) for part in ast.walk(node) if isinstance(part, ast.Call)]
            renders = any(call.endswith(".render") for call in calls)
            if renders:
                assert "escape_control" in calls, f"{file}: {node.name}"
            if node.name == "_repr_html_":
                results = [part.value for part in ast.walk(node) if isinstance(part, ast.Return)]
                results = [result for result in results if not isinstance(result, ast.Constant)]
                assert results and all(ast.unparse(result).startswith("escape_control(") for result in results), file
            views += renders or node.name == "_repr_html_"
    assert views >= 11


def test_a_prediction_in_a_notebook():
    picture = Image.new("RGB", (8, 8))
    prediction = notebook.Prediction(NAME, NAME, 0.5, {NAME: 0.5, HONEST[-1]: 0.5}, picture, picture, NAME)
    assert hidden(repr(prediction)) == set()
