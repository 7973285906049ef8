"""`resize_mode`: what training and evaluation see of an image that is no square, and that all commands see the same."""

import asyncio
import io
import json
import re
import shutil
import textwrap
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from helpers import PROJECT, cli, overrides, resolved, settings
from PIL import Image

import mslab
from mslab import checkpoint
from mslab.check import check_dataset
from mslab.data import augment, batching, sources
from mslab.evaluation import gradcam, measuring, metrics
from mslab.grade.answers import Unusable
from mslab.grade.measuring import HiddenImages, ImageRequests
from mslab.inference import predicting
from mslab.inference.serve.predictor import Predictor

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.25]


@pytest.fixture(scope="module")
def wide(once):
    """wide/{train,val}: images of 60x30, whose class is the colour of both ends."""

    def make(folder):
        rng = np.random.default_rng(2)
        for split, count in (("train", 16), ("val", 8)):
            for channel, name in enumerate("ab"):
                (folder / split / name).mkdir(parents=True)
                for number in range(count):
                    pixels = rng.integers(0, 90, (30, 60, 3))
                    pixels[:, [*range(15), *range(45, 60)], channel] += 160
                    Image.fromarray(pixels.astype(np.uint8)).save(folder / split / name / f"{number:03}.png")

    return once("wide", make)


@pytest.fixture(scope="module")
def run(wide, finished):
    """A run with resize_mode: pad. Do not change it."""
    return finished(settings(wide, 2, epochs=1, resize_mode="pad")).run


def evaluated(image: np.ndarray, mode: str, size: int = 32) -> np.ndarray:
    """The network's input, in grey levels: uint8 (size, size, 3)."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    x = np.frombuffer(file.getvalue(), np.uint8)
    for step in augment.eval_transforms(size, MEAN, STD, None, mode):
        x = step(x)
    x = (x * np.float32(STD).reshape(3, 1, 1) + np.float32(MEAN).reshape(3, 1, 1)) * 255
    return x.transpose(1, 2, 0).round().astype(np.uint8)


# --- what the network sees -------------------------------------------------------------------------------------------


def test_pad_keeps_the_shape_squash_the_whole_square_and_crop_the_middle():
    image = np.zeros((40, 160, 3), np.uint8)
    image[:, :40], image[:, 120:] = (200, 0, 0), (0, 0, 200)  # red and blue ends, black between
    cropped, padded, squashed = (evaluated(image, mode) for mode in ("crop", "pad", "squash"))
    assert not cropped.any()
    mean = np.array([102, 128, 153])
    assert (padded[:12] == mean).all() and (padded[20:] == mean).all() and not (padded[12:20] == mean).any()
    assert (padded[12:20, :7] == (200, 0, 0)).all() and (padded[12:20, -7:] == (0, 0, 200)).all()
    assert (squashed[:, :7] == (200, 0, 0)).all() and (squashed[:, -7:] == (0, 0, 200)).all()
    tall = evaluated(image.transpose(1, 0, 2), "pad")
    assert (tall == padded.transpose(1, 0, 2)).all()


def test_the_bars_are_zero_to_half_a_grey_level():
    x = np.full((10, 40, 3), 255, np.uint8)
    for step in augment.eval_transforms(32, MEAN, STD, None, "pad")[1:]:
        x = step(x)
    assert np.abs(x[:, :12]).max() <= 0.5 / 255 / min(STD) and np.abs(x[:, 20:]).max() <= 0.5 / 255 / min(STD)


@pytest.mark.parametrize("mode", ["pad", "squash"])
def test_training_without_augmentation_sees_what_evaluation_sees(mode, wide):
    images = sources.images_of(check_dataset(wide / "train"), "")
    config = resolved(resize_mode=mode, image_size=32, batch_size=8, crop_scale=1.0, flip=False, color_jitter=0.0)
    order = batching.order_of(images, config, 0)
    train = np.concatenate([x for x, _ in batching.train_batches(images, config, 0)])
    same = batching.eval_batches(images.take(order), 32, config.mean, config.std, 8, mode=mode)
    assert np.array_equal(train, np.concatenate([x for x, _ in same]))


def test_a_random_crop_is_taken_from_the_padded_square_and_repeats(wide):
    images = sources.images_of(check_dataset(wide / "train"), "")
    config = resolved(resize_mode="pad", image_size=32, batch_size=8, color_jitter=0.0)
    first, again = ([x for x, _ in batching.train_batches(images, config, 0)] for _ in range(2))
    assert np.array_equal(first, again)
    bars = (np.abs(np.concatenate(first)) < 0.01).all(axis=1).mean(axis=(1, 2))  # of each image: a half is padding
    assert bars.min() > 0.05 and bars.max() < 0.75 and bars.std() > 0.02


def test_both_flips_are_drawn_independently_beside_a_function_in_python(wide):
    """MindSpore gives two flips in a row the same random numbers, unless they are kept apart."""
    left_top = np.zeros((32, 32, 3), np.uint8)
    left_top[:16, :16] = 255
    pixels = sources.DecodedImages(np.zeros(400, np.int32), ["a", "b", "c"], [left_top] * 400, None)
    config = resolved(
        resize_mode="pad", image_size=32, batch_size=400, crop_scale=1.0, color_jitter=0.0, vertical_flip=True
    )
    ((x, _),) = batching.train_batches(pixels, config, 0)
    corners = [(x[:, 0, row, column] > 0).sum() for row in (0, -1) for column in (0, -1)]
    assert sum(corners) == 400 and min(corners) > 60


# --- the same in every command ---------------------------------------------------------------------------------------


def probabilities(run: Path, folder: Path, mode: str) -> np.ndarray:
    """What the run's network says of the images if they become square in this way."""
    model = predicting.open_model(run, "cpu")  # on onnxruntime, which compiles nothing
    loaded = SimpleNamespace(info=model.info | {"resize_mode": mode})
    x = np.concatenate([measuring.Loaded.preprocess(loaded, file) for file in sorted(folder.iterdir())])
    return metrics.probabilities(model.logits(x))


def predicted(source: Path, folder: Path) -> np.ndarray:
    answer = cli("predict", source, folder, "--json", "-")
    assert answer.returncode == 0, answer.stderr
    return np.array([list(row["probabilities"].values()) for row in json.loads(answer.stdout)])


def test_the_checkpoint_carries_it_to_predict_and_eval(run, wide, inside):
    folder = wide / "val" / "a"
    assert checkpoint.read(run / "checkpoints" / "best.ckpt").info["resize_mode"] == "pad"
    assert checkpoint.read(run / "checkpoints" / "best_backbone.ckpt").info["resize_mode"] == "pad"
    np.testing.assert_allclose(predicted(run, folder), probabilities(run, folder, "pad"), atol=1e-5)
    answer = cli("eval", run, "--data", wide / "val", "--json", "-")
    measured, recorded = json.loads(answer.stdout), json.loads((run / "eval.json").read_text())
    assert measured["confusion"] == recorded["confusion"] and measured["loss"] == pytest.approx(recorded["loss"])
    assert "centre-crop" not in answer.stderr


def test_a_checkpoint_without_the_entry_is_cropped(run, wide, inside):
    weights, folder = checkpoint.read(run / "checkpoints" / "best.ckpt"), wide / "val" / "a"
    info = {key: value for key, value in weights.info.items() if key != "resize_mode"}
    expected = {mode: probabilities(run, folder, mode) for mode in ("crop", "squash", "pad")}
    for mode, entry in (("crop", {}), ("squash", {"resize_mode": "squash"})):
        checkpoint.save_arrays(weights.tensors, inside / f"{mode}.ckpt", info | entry)
        np.testing.assert_allclose(predicted(Path(f"{mode}.ckpt"), folder), expected[mode], atol=1e-5)
        assert np.abs(expected[mode] - expected["pad"]).max() > 1e-3  # the modes can be told apart
    checkpoint.save_arrays(weights.tensors, inside / "new.ckpt", info | {"resize_mode": "fill"})
    answer = cli("predict", "new.ckpt", folder)
    assert answer.returncode == 1 and "its entry 'mslab' has an invalid value of resize_mode" in answer.stderr


def test_an_exported_graph_carries_it_to_predict_and_to_the_example_of_the_docs(run, wide, inside):
    assert cli("export", run, "--format", "onnx", "--out", "best.onnx").returncode == 0
    folder = wide / "val" / "a"
    np.testing.assert_allclose(predicted(Path("best.onnx"), folder), probabilities(run, folder, "pad"), atol=1e-5)
    code = re.search(r"^    import json.+?(?=^\S)", (PROJECT / "docs" / "export.md").read_text(), re.M | re.S)[0]
    shutil.copy(folder / "000.png", "photo.jpg")
    loaded = mslab.load_network(run)
    grey = 1 / 255 / np.float32(loaded.info["std"]).reshape(3, 1, 1)
    for mode in ("pad", "squash"):
        example, loaded.info["resize_mode"] = {}, mode
        exec(textwrap.dedent(code).replace('entry.get("resize_mode", "crop")', repr(mode)), example)
        assert example["entry"]["resize_mode"] == "pad"
        assert np.abs((example["x"] - loaded.preprocess("photo.jpg")) / grey).max() < 1.01


def test_a_cropping_run_writes_no_entry(parent):
    assert not {"resize_mode", "folders"} & checkpoint.read(parent / "checkpoints" / "best.ckpt").info.keys()


def test_serve_suspects_and_report_see_the_same(run, wide, inside):
    folder, model = wide / "val" / "b", predicting.open_model(run, "cpu", 1)
    files = sorted(folder.iterdir())
    with Predictor(model, inside) as predictor:
        rows = asyncio.run(predictor.answers([files[0].read_bytes()], False))
    served = list(rows[0]["probabilities"].values())
    np.testing.assert_allclose(served, probabilities(run, folder, "pad")[0], atol=1e-5)
    images = sources.images_of(check_dataset(wide / "val"), "")
    seen = gradcam.network_input(model.info, images, [8])  # as suspects and report do
    assert np.array_equal(seen, mslab.load_network(run).preprocess(files[0]))


@pytest.mark.parametrize("mode", ["pad", "squash"])
def test_the_grader_measures_a_network_in_its_own_shape(mode, wide, inside):
    report = check_dataset(wide / "val")
    hidden = HiddenImages(report, "", inside / "images")
    requests = ImageRequests({"networks": ["x", "y"]}, {"x": hidden, "y": hidden})
    request = {"network": "x", "size": 32, "resize": 32, "mode": mode, "colour": [102, 128, 153]}
    pixels = np.load(requests.reply("need " + json.dumps(request)))[np.argsort(hidden.order)]
    expected = [evaluated(np.asarray(Image.open(file)), mode) for file in report.samples("")[0]]
    assert np.array_equal(pixels, np.stack(expected))
    for bad in ({"mode": "fill"}, {"colour": [0, 0, 256]}, {"colour": "red"}, {"mode": ["pad"]}):
        with pytest.raises(Unusable):
            requests.reply("need " + json.dumps({"network": "y", "size": 32, "resize": 32} | bad))


def test_a_submission_is_graded_as_it_was_evaluated(run, wide, inside):
    shutil.copytree(wide / "val", "hidden/wide")
    Path("class/anna").mkdir(parents=True)
    shutil.copy(run / "checkpoints" / "best.ckpt", "class/anna/best.ckpt")
    Path("rubric.yaml").write_text("""
title: Wide
total: 10
networks:
  wide: {file: best.ckpt, data: wide, class_num: 2}
items:
  - {id: accuracy, kind: accuracy, points: 10, network: wide, public: true, linear: {from: 0.0, to: 1.0}}
""")
    answer = cli("grade", "class", "--rubric", "rubric.yaml", "--data", "hidden", "--out", "out")
    assert answer.returncode == 0, answer.stderr
    accuracy = json.loads((run / "eval.json").read_text())["accuracy"]
    assert f"measured on the hidden images: {accuracy:.3f}" in "".join(
        p.read_text() for p in Path("out").rglob("*.json")
    )


def test_show_augment_names_and_draws_it(wide, inside):
    Path("c.yaml").write_text("class_num: 2\n")
    words = overrides(settings(wide, 2, crop_scale=1.0, flip=False, color_jitter=0.0))
    answer = cli("show", "c.yaml", *words, "--augment", "resize_mode=pad")
    assert answer.returncode == 0 and "operations  Decode, Letterbox, Normalize" in answer.stdout
    sheet = np.asarray(Image.open("c-augment.png"))
    tile = sheet[2:114, 2:114]
    assert (tile[:27] == [124, 116, 104]).all() and (tile[57] != [124, 116, 104]).any()
