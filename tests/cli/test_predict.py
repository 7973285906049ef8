"""mslab predict: the network's own answers, one row per file, robust against hostile names and damaged files."""

import csv
import io
import json
import os
import sys
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from helpers import cli
from PIL import Image

from mslab.errors import DatasetError
from mslab.evaluation import measuring, metrics
from mslab.inference import predicting


@pytest.fixture(scope="module")
def model(parent):
    return predicting.open_model(parent, "cpu")


def truncated(path: Path, source: Path, size: int) -> Path:
    path.write_bytes(source.read_bytes()[:size])
    return path


@pytest.fixture
def photos(squares, tmp_path):
    """Valid and invalid images in one folder, as on a student's memory stick."""
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    with Image.open(squares / "three" / "val" / "b" / "000.png") as image:
        image.save(folder / "a good one.JPG", "JPEG")
        image.save(folder / "more" / "b.png")
        image.save(folder / ".hidden" / "c.png")
        image.save(folder / "d.gif")
        image.save(folder / "e.webp")
    truncated(folder / "header.jpg", folder / "a good one.JPG", 170)  # crashes MindSpore's decoder
    truncated(folder / "half.png", folder / "more" / "b.png", 400)
    (folder / "empty.png").touch()
    (folder / "text.bmp").write_text("no image")
    (folder / "notes.txt").write_text("ignored")
    return folder


def test_it_agrees_with_evaluation(model, parent, squares):
    files = predicting.expand([str(squares / "three" / "val")])
    rows = list(predicting.predict(model, files))
    assert [row["file"] for row in rows] == [str(path) for path in files] and len(rows) == 21
    loaded = measuring.load_network(parent)
    ms.set_context(mode=ms.PYNATIVE_MODE)
    logits = loaded.network(ms.Tensor(loaded.preprocess(files))).asnumpy()
    for row, expected in zip(rows, metrics.probabilities(logits), strict=True):
        assert list(row["probabilities"]) == ["a", "b", "c"] and row["error"] == ""
        assert np.allclose(list(row["probabilities"].values()), expected, atol=1e-5)
        assert row["class"] == "abc"[expected.argmax()] and row["probability"] == max(row["probabilities"].values())
    recorded = json.loads((parent / "eval.json").read_text())
    correct = [row["class"] == Path(row["file"]).parent.name for row in rows]
    assert np.mean(correct) == pytest.approx(recorded["accuracy"])


def test_results_do_not_depend_on_batch_size_or_number_of_images(model, parent, squares):
    files = predicting.expand([str(squares / "three" / "test")])
    all_at_once = [row["probability"] for row in predicting.predict(model, files)]
    small_batches = predicting.open_model(parent, "cpu", batch=3)
    assert np.allclose([row["probability"] for row in predicting.predict(small_batches, files)], all_at_once, atol=1e-5)
    assert [row["probability"] for row in predicting.predict(model, files[4:5])] == pytest.approx(
        all_at_once[4:5], abs=1e-5
    )


def test_files_that_cannot_be_read_have_an_error_and_the_rest_is_predicted(parent, photos):
    """The table, JSON lines and CSV agree; a name that is not UTF-8 breaks none of them."""
    odd = os.fsencode(photos) + b"/bad\xff.png"
    Path(os.fsdecode(odd)).write_bytes((photos / "more" / "b.png").read_bytes())
    out, gone = photos.parent, photos / "gone.png"
    options = ["--device", "cpu", "--jsonl", out / "x.jsonl", "--csv", out / "x.csv"]
    done = cli("predict", parent, photos, gone, *options)
    lines = [json.loads(line) for line in (out / "x.jsonl").read_text().splitlines()]
    rows = {Path(row["file"]).name: row for row in lines}
    assert done.returncode == 1 and list(rows)[-1] == "gone.png"
    assert "cannot be read  " in done.stdout and "3 images, 7 unreadable" in done.stdout
    readable = {name for name, row in rows.items() if not row["error"]}
    assert readable - {"a good one.JPG", "b.png"} == {name for name in readable if name.startswith("bad")}
    assert len(readable) == 3
    assert not {"c.png", "notes.txt"} & set(rows)
    errors = {
        "header.jpg": "truncated: ",
        "half.png": "truncated: ",
        "empty.png": "zero-byte: the file is empty",
        "text.bmp": "unreadable: not an image in a format that mslab opens",
        "d.gif": "wrong-format: GIF, which MindSpore does not decode; save it as PNG or JPEG",
        "e.webp": "wrong-format: WEBP",
        "gone.png": "missing: there is no such file",
    }
    for name, text in errors.items():
        assert rows[name]["error"].startswith(text), rows[name]["error"]
        assert rows[name]["class"] is None and rows[name]["probabilities"] is None
    with (out / "x.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(lines) == len(table) == 10 and list(table[0])[4:] == ["p(a)", "p(b)", "p(c)"]
    for line, row in zip(lines, table, strict=True):
        assert (line["file"], line["class"] or "", line["error"]) == (row["file"], row["class"], row["error"])
        if line["class"]:
            assert float(row[f"p({line['class']})"]) == pytest.approx(line["probability"], abs=1e-6)
            assert sum(float(row[f"p({name})"]) for name in "abc") == pytest.approx(1, abs=1e-5)


def test_an_image_that_cannot_be_enlarged_that_much_has_an_error():
    facts = {"code": "", "format": "PNG", "width": 400, "height": 4}
    assert predicting.problem(facts, 1000) == ""
    assert predicting.problem(facts, 1024).startswith("small: 400x4 pixels: MindSpore enlarges at most 1000 times")


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv"])
def test_standard_output_is_the_document_and_nothing_else(kind, model, squares, monkeypatch):
    """File names come from standard input here; the network is opened once for all formats."""
    names = sorted(map(str, (squares / "three" / "val" / "a").glob("*.png")))[:3]
    monkeypatch.setattr(predicting, "open_model", lambda *arguments, **options: model)
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(names) + "\n\n"))
    done = cli("predict", model.path, "-", f"--{kind}", "-", "--device", "cpu")
    assert done.returncode == 0 and done.stderr == ""
    if kind == "csv":
        files = [row["file"] for row in csv.DictReader(io.StringIO(done.stdout))]
    elif kind == "json":
        files = [row["file"] for row in json.loads(done.stdout)]
    else:
        files = [json.loads(line)["file"] for line in done.stdout.splitlines()]
    assert files == names


def test_only_one_format_may_use_standard_output(parent, squares):
    assert cli("predict", parent, squares, "--csv", "-", "--json", "-").returncode == 2


def test_patterns(squares, tmp_path):
    pattern = str(squares / "three" / "val" / "*" / "00[12].png")
    assert len(predicting.expand([pattern])) == 6
    odd = tmp_path / "what[1].png"
    odd.touch()
    assert predicting.expand([str(odd)]) == [odd]  # an existing file is not a pattern


def test_nothing_to_predict(tmp_path):
    (tmp_path / "notes.txt").touch()
    for arguments, text in (
        ([str(tmp_path)], "has no images"),
        ([str(tmp_path / "*.jpg")], "has no images"),
        (["-"], "The list of images is empty"),
    ):
        with pytest.raises(DatasetError, match=text) as error:
            predicting.expand(arguments, stdin=["\n"])
        assert error.value.expected and error.value.fix


def test_a_listed_name_may_be_in_quotation_marks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a b.png", '"c.png"'):
        (tmp_path / name).touch()
    lines = ['"a b.png"\r\n', "'a b.png'\n", '"c.png"\n', '"none.png"\n']
    found = [str(path) for path in predicting.expand(["-"], lines)]
    assert found == ["a b.png", "a b.png", '"c.png"', '"none.png"']


def test_a_missing_run_and_a_missing_file(tmp_path, squares):
    images = squares / "three" / "val"
    done = cli("predict", tmp_path, images, "--device", "cpu")
    assert done.returncode == 1 and "has no checkpoints/best.ckpt" in done.stderr
    done = cli("predict", tmp_path / "none.ckpt", images, "--device", "cpu")
    assert done.returncode == 1 and "CheckpointError" in done.stderr and "Traceback" not in done.stderr


HOSTILE = ["=cmd|' /C calc'!A0", "@SUM(1)", '<script>"', "a\nb", "x" * 10_000, "\u202egnp", "[/red]", "+1", "\x1b[31m"]


def test_names_are_neither_formulas_nor_markup():
    probabilities = {name: 1 / len(HOSTILE) for name in HOSTILE}
    rows = [
        {"file": name, "class": name, "probability": 0.5, "probabilities": probabilities, "error": ""}
        for name in HOSTILE
    ] + [{"file": "=1", "class": None, "probability": None, "probabilities": None, "error": "\x1b[2J"}]
    table = list(csv.reader(io.StringIO("".join(predicting.csv_lines(rows, HOSTILE)))))
    assert len(table) == 11 and {len(row) for row in table} == {13}
    assert not any(cell[:1] in "=+-@\t\r" for row in table for cell in row if cell)
    assert [row[1].removeprefix("'") for row in table[1:-1]] == HOSTILE
    assert len([json.loads(line) for line in predicting.json_lines(rows)]) == 10
    text = predicting.table(rows)
    assert "[/red]" in text and all(c.isprintable() or c == "\n" for c in text) and "x" * 100 not in text


def test_lists_of_files_are_read_as_other_systems_write_them(tmp_path, monkeypatch):
    def listed(content: bytes) -> list[str]:
        return predicting.listed(io.TextIOWrapper(io.BytesIO(content), "ascii"))

    monkeypatch.chdir(tmp_path)
    names = ["photo.jpg", "香菇 1.jpg"]
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "gbk"):
        assert listed("\r\n".join(names).encode(encoding)) == names
    assert listed("\0".join(names).encode()) == names  # find -print0
    raw = "香菇.jpg".encode("gbk")  # a file whose own name is in GBK stays what it is
    Path(os.fsdecode(raw)).touch()
    assert listed(raw) == [os.fsdecode(raw)]
    with pytest.raises(DatasetError, match="not UTF-8 text, and neither UTF-16 nor GBK") as caught:
        listed("élan.png\nÄrger.png".encode("cp1252"))
    assert "  expected  one name a line\n  fix       save the list as UTF-8" in str(caught.value)


@pytest.mark.parametrize("name", ["windows.txt", "gbk.txt"])
def test_a_list_that_a_windows_program_wrote_is_read(name, cases):
    with (cases / "lists" / name).open(encoding="ascii", errors="surrogateescape", newline="") as stream:
        assert [line for line in predicting.listed(stream) if line] == ["photo.jfif", "香菇.jpg"]
