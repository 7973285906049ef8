"""A run in a notebook: it only reads files; its HTML needs no other files and escapes all names."""

import io
import json
import math
import shutil

import mindspore as ms
import numpy as np
import pytest
from helpers import draw
from PIL import Image
from strict import Strict

import mslab
from mslab.errors import DatasetError, RunError
from mslab.evaluation import measuring
from mslab.report import notebook


@pytest.fixture(scope="module")
def run(parent):
    return mslab.Run(parent)


def test_figures_are_those_of_the_folder(run, parent):
    saved = json.loads((parent / "eval.json").read_text())
    assert run.path == parent and run.class_names == ["a", "b", "c"] and run.config.class_num == 3
    assert run.manifest["status"] == "done"
    assert isinstance(run.history, list) and run.history[0]["epoch"] == 1
    assert run.metrics["val_acc"] == pytest.approx(saved["accuracy"], abs=1e-5)
    assert run.metrics["per_class"] == saved["per_class"] and run.metrics["best_epoch"] == 1
    matrix = run.confusion
    assert matrix.dtype.kind == "i" and matrix.tolist() == saved["confusion"] and matrix.sum() == 21
    assert matrix[:2]._repr_html_() is None  # a slice has other names


def test_curves_and_tables_have_html_views(run):
    page = Strict(run.history._repr_html_())
    assert "val_loss" in page.text and f"{run.history[0]['val_loss']:.4g}" in page.text
    assert "train_loss" in repr(run.history) and "epoch" in repr(run.history)
    assert Strict(run.confusion._repr_html_()).text.startswith("true \\ predictedabc")
    assert "best val_acc" in Strict(run._repr_html_()).text
    rows = [dict(run.history[0], epoch=e, val_loss=math.nan, val_acc=math.nan) for e in range(1, 31)]
    long = notebook.History(rows)
    assert "… 18 epochs before" in repr(long) and "… 18 epochs before" in Strict(long._repr_html_()).text
    assert Strict(notebook.History()._repr_html_()).text == repr(notebook.History()) == "no epoch was completed"


def test_mistakes_are_shown_with_heat_maps(run, parent):
    inspection = run._inspect(None)
    wrong = int((inspection.predicted != inspection.labels).sum())
    mistakes = run.mistakes(3)
    assert len(mistakes) == min(3, wrong)
    assert mistakes.title == f"{len(mistakes)} of {wrong} mistakes on 21 images, the most confident first"
    assert wrong == 21 - run.confusion.trace()
    for mistake in mistakes:
        assert mistake.true_name != mistake.class_name and mistake.true_name == mistake.file.split("/")[-2]
        assert mistake.probability == max(mistake.probabilities.values())
        assert mistake.picture.size == (40, 40) and mistake.heat_map.size == (32, 32)
    assert [m.probability for m in mistakes] == sorted((m.probability for m in mistakes), reverse=True)
    page = Strict(mistakes._repr_html_())
    assert mistakes.title in page.text and all(mistake.true_name in page.text for mistake in mistakes)
    assert repr(mistakes).count("\n") == len(mistakes)


def test_predictions_of_a_path_bytes_and_a_picture_are_equal(run, squares):
    file = squares / "three" / "test" / "b" / "000.png"
    one = run.predict(str(file))
    with Image.open(file) as picture:
        three = run.predict([file, file.read_bytes(), picture])
    loaded = measuring.load_network(run.path)
    ms.set_context(mode=ms.PYNATIVE_MODE)
    logits = loaded.network(ms.Tensor(loaded.preprocess(file))).asnumpy()[0]
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    for prediction in (one, *three):
        assert list(prediction.probabilities) == ["a", "b", "c"]
        assert list(prediction.probabilities.values()) == pytest.approx(expected.tolist(), abs=1e-4)
        assert prediction.class_name == "abc"[int(expected.argmax())]
        assert prediction.probability == prediction.probabilities[prediction.class_name]
    assert [p.file for p in three] == [str(file), "image 1", "image 2"] and one.true_name is None
    assert repr(one).endswith(f"000.png: {one.class_name} {one.probability:.3f}")
    page = one._repr_html_()
    assert page.count("data:image/jpeg;base64,") == 2 and f"{one.probability:.3f}" in Strict(page).text
    assert Strict(three._repr_html_()).text.count("image 1") == 1
    assert run.predict([]) == []


def test_unreadable_images_are_all_listed(run, tmp_path):
    (tmp_path / "cut.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF")
    animated = io.BytesIO()
    Image.new("RGB", (40, 40)).save(animated, "GIF")
    with pytest.raises(DatasetError) as caught:
        run.predict([tmp_path / "cut.jpg", animated.getvalue(), tmp_path / "none.png"])
    text = str(caught.value)
    assert text.startswith("3 of 3 images cannot be read.") and "cut.jpg" in text and "none.png" in text
    assert "image 1" in text and "GIF" in text and "fix " in text
    with pytest.raises(DatasetError, match="An object of type int is not an image"):
        run.predict(3)


def test_names_are_escaped_everywhere(parent, tmp_path):
    """Predictions for real images with such names: a slow test."""
    names, picture = ["<b>x", "a&b", "c"], Image.new("RGB", (8, 8))
    copy = shutil.copytree(parent, tmp_path / "<i>&")
    for file in ("manifest.json", "eval.json"):
        text = (copy / file).read_text()
        for before, after in zip("abc", names, strict=True):
            text = text.replace(f'"{before}"', json.dumps(after))
        (copy / file).write_text(text)
    run = mslab.Run(copy)
    assert run.class_names == run.confusion.class_names == names
    probabilities = dict(zip(names, (0.5, 0.3, 0.2), strict=True))
    prediction = notebook.Prediction("<i>&.png", "<b>x", 0.5, probabilities, picture, picture, "a&b")
    mistakes = notebook.Predictions([prediction])
    mistakes.title = "1 of 1 mistakes"
    pages = [part._repr_html_() for part in (run.confusion, prediction, mistakes, run.history, run)]
    for text in pages:
        assert "<b>" not in text and "<i>" not in text and "&b<" not in text
        Strict(text)
    assert "&lt;b&gt;x" in pages[0] and "&lt;i&gt;&amp;.png" in pages[1] and "a&amp;b" in pages[2]


def test_a_run_is_read_from_another_folder(parent, squares, tmp_path, monkeypatch):
    """Paths in a config are relative to the folder in which the run started."""
    path = tmp_path / "lab" / "runs" / "one"
    shutil.copytree(parent, path)
    shutil.copytree(squares / "three", tmp_path / "lab" / "three")
    text = (path / "config.yaml").read_text()
    (path / "config.yaml").write_text(text.replace(str(squares / "three"), "three"))
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    run = mslab.Run(path)
    assert run.config.val_data == "three/val" and "mistakes on 21 images" in run.mistakes(1).title
    (tmp_path / "lab" / "three" / "val" / "a" / "000.png").unlink()
    with pytest.raises(DatasetError, match="are not those that the run was trained on"):
        mslab.Run(path).mistakes()


def test_suspects_and_report_are_written_into_the_run(parent, tmp_path):
    shutil.copytree(parent, tmp_path / "run")
    run = mslab.Run(tmp_path / "run")
    draw(tmp_path / "set", ["a", "b", "c"], 20, seed=3)
    shutil.move(tmp_path / "set" / "a" / "000.png", tmp_path / "set" / "b" / "<odd>.png")
    result = run.suspects(tmp_path / "set")
    assert result[0]["file"] == "b/<odd>.png" and result[0]["suggested"] == "a"
    assert (run.path / "suspects.csv").is_file()
    page = result._repr_html_()
    assert "<odd>" not in page and "b/<odd>.png" in Strict(page).text and "nothing was changed" in repr(result)
    shutil.rmtree(run.path / "checkpoints")  # with its network the report takes longer; test_report tests that
    path = run.report(lang="zh")
    assert path == run.path / "report.html" and '<html lang="zh-Hans">' in path.read_text()


def test_a_folder_that_is_not_a_run_and_a_run_without_an_epoch(parent, tmp_path):
    with pytest.raises(RunError, match=r"has no config.yaml\.\n  expected .*\n  fix "):
        mslab.Run(tmp_path)
    shutil.copytree(parent, tmp_path / "run")
    (tmp_path / "run" / "eval.json").unlink()
    (tmp_path / "run" / "history.csv").unlink()
    run = mslab.Run(tmp_path / "run")
    assert repr(run.history) == "no epoch was completed" and "0 of 1 epochs" in repr(run)
    with pytest.raises(RunError, match=r"has no eval.json\.\n  expected"):
        _ = run.confusion
