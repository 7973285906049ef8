"""mslab serve with networks of tasks: the JSON is that of mslab predict and openapi.json, the page shows it."""

import asyncio
import base64
import io
import json
from pathlib import Path

import jsonschema
import labelled_sets
import numpy as np
import pytest
import task_networks
from PIL import Image
from serving import FORM, assert_no_complaints, form, serving

from mslab import checkpoint
from mslab.inference import task_predicting
from mslab.inference.serve import server
from mslab.inference.serve.task_predictor import TaskPredictor

API = json.loads(Path(server.__file__).with_name("openapi.json").read_text())
HOSTILE = ["<img src=x onerror=\"document.title='taken'\">", "half \ud800", "long" * 2_500]


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    (name,) = labelled_sets.images(folder := tmp_path_factory.mktemp("photo"), 1)
    return folder / name


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    file = task_networks.save("detect", folder / "net.ckpt", HOSTILE)
    with serving(file, folder) as running:
        yield running


def validate(answers):
    schema = {"$ref": "#/components/schemas/Answers", "components": API["components"]}
    jsonschema.Draft202012Validator(schema).validate({"images": answers})


@pytest.mark.parametrize("task", list(task_networks.NAMES))
def test_an_answer_is_the_row_of_mslab_predict_and_as_openapi_json_says(task, photo, tmp_path):
    weights = checkpoint.read(task_networks.save(task, tmp_path / "net.ckpt"))
    model = task_predicting.open_model(weights, "cpu", 1)
    expected = next(task_predicting.predict(model, [photo])).row
    with TaskPredictor(model, tmp_path) as predictor:
        predictor.warm_up()
        rows = asyncio.run(predictor.answers([photo.read_bytes(), b"no image"], False))
        drawn = asyncio.run(predictor.answers([photo.read_bytes()], True))
    validate(rows + drawn)
    assert rows[0] == {key: value for key, value in expected.items() if key != "file"} | {"picture": None}
    assert rows[1]["error"].startswith("unreadable: ") and rows[1][task_predicting.KEYS[task]] is None
    picture = Image.open(io.BytesIO(base64.b64decode(drawn[0].pop("picture"))))
    assert picture.format == "JPEG" and picture.size == (640, 480)
    assert drawn[0] == {key: value for key, value in rows[0].items() if key != "picture"}


def test_a_network_that_overflows_has_an_error_for_each_image(photo, tmp_path):
    weights = checkpoint.read(task_networks.save("segment", tmp_path / "net.ckpt", change=task_networks.huge))
    with TaskPredictor(task_predicting.open_model(weights, "cpu", 1), tmp_path) as predictor:
        (row,) = asyncio.run(predictor.answers([photo.read_bytes()], True))
    validate([row])
    assert row["error"] == "the network's answer is not finite: its weights are unusable" and row["classes"] is None


def test_what_waits_for_the_network_is_small(tmp_path):
    """A photo of 12 million pixels waits as its input and a picture of 640 pixels."""
    weights = checkpoint.read(task_networks.save("detect", tmp_path / "net.ckpt"))
    with TaskPredictor(task_predicting.open_model(weights, "cpu", 1), tmp_path) as predictor:
        waiting = predictor.prepared(np.full((3000, 4000, 3), 90, np.uint8))
    assert waiting.size == (4000, 3000) and waiting.small.shape == (480, 640, 3) and waiting.small.base is None
    assert sum(x.nbytes for x in waiting.inputs) == 4 * 3 * 32 * 32


def test_about_says_the_task_and_turned_photos_and_broken_images_are_as_with_classes(served, photo, tmp_path):
    about = json.loads(served.ask(path="/about")[2])
    schema = {"$ref": "#/components/schemas/About", "components": API["components"]}
    jsonschema.Draft202012Validator(schema).validate(about)
    assert (about["task"], about["class_names"], about["heat_maps"]) == ("detect", HOSTILE, False)
    exif = Image.Exif()
    exif[274] = 6  # displayed rotated by 90 degrees
    turned, gif = io.BytesIO(), io.BytesIO()
    with Image.open(photo) as image:
        image.save(turned, "JPEG", exif=exif)
        image.save(gif, "GIF")
    rows = served.predict(photo.read_bytes(), turned.getvalue(), gif.getvalue(), b"GIF89a")
    validate(rows)
    sizes = [(row["width"], row["height"]) for row in rows]
    assert sizes == [(40, 30), (30, 40), (40, 30), (None, None)]
    assert rows[3]["error"]
    status, _, body = served.ask("POST", "/predict", form(b""), **FORM)
    assert status == 200 and json.loads(body)["images"][0]["objects"] is None


def test_the_page_shows_what_was_found(served, photo, new_page):
    page = new_page()
    page.goto(served.url)
    page.set_input_files("#files", photo)
    card = page.locator("article")
    card.wait_for()
    body = served.ask("POST", "/predict", photo.read_bytes())[2]
    objects = json.loads(body)["images"][0]["objects"]
    assert page.locator("#status").inner_text() == f"{photo.name}: {len(objects)} objects" and len(objects) > 1
    assert page.locator("tr").count() == len(objects)
    shown = page.locator("td.number").all_inner_texts()
    assert shown[0] == f"{100 * objects[0]['score']:.1f} %"
    picture = page.locator("img.drawn")
    assert picture.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [640, 480]
    assert page.locator("#no-heat").is_hidden()
    assert "3 classes" in page.locator("#about").inner_text()
    assert_no_complaints(page, served)
