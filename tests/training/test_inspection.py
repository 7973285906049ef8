"""Per-image results: figures, heat maps compared with NumPy, pictures."""

import json

import mindspore as ms
import numpy as np
import pytest
from helpers import draw
from PIL import Image
from plans import write_checkpoint

from mslab import check, checkpoint
from mslab.data import sources
from mslab.evaluation import engines, gradcam, measuring, metrics, models
from mslab.runtime import devices


@pytest.fixture(scope="module")
def loaded(parent):
    """Do not modify; `inspect` would change its CPU layout."""
    return measuring.load_network(parent)


@pytest.fixture(autouse=True)
def start():
    devices.start("cpu", "pynative", seed=0)


@pytest.fixture(scope="module")
def images(squares):
    return sources.images_of(check.check_dataset(squares / "three" / "val"), "")


@pytest.mark.parametrize("engine", ["mindspore graph", "mindspore pynative", "onnxruntime", "openvino"])
def test_figures_equal_those_of_training(images, parent, engine):
    name, _, mode = engine.partition(" ")
    devices.start("cpu", mode or "graph", seed=0)
    loaded = measuring.load_network(parent)
    inspection = gradcam.inspect(models.open_weights(parent, "cpu", engine=name), images)
    recorded = json.loads((parent / "eval.json").read_text())
    assert metrics.confusion(inspection.labels, inspection.predicted, 3).tolist() == recorded["confusion"]
    assert inspection.features.shape == (21, 32) and inspection.logits.shape == (21, 3)
    assert np.allclose(inspection.probabilities.sum(axis=1), 1)
    # the head computes these logits from these features
    logits = inspection.features @ loaded.network.head.classifier.weight.asnumpy().T
    assert np.allclose(logits + loaded.network.head.classifier.bias.asnumpy(), inspection.logits, atol=1e-5)


def test_mistakes_and_unsure_images_are_in_order():
    logits = np.log(np.array([[0.9, 0.1], [0.4, 0.6], [0.45, 0.55], [0.2, 0.8], [0.7, 0.3]], np.float32))
    images = type("Images", (), {"labels": np.array([0, 0, 1, 0, 0])})()
    inspection = gradcam.Inspection(images, ["a", "b"], logits, None)
    assert inspection.mistakes().tolist() == [3, 1]  # classified as b with 0.8, then 0.6
    assert inspection.unsure().tolist() == [2, 4, 0]  # correct with 0.55, 0.7, 0.9


def by_hand(network, images, classes, hidden):
    """Grad-CAM in NumPy from the backbone's maps: gradients of a mean and a Dense layer, perhaps a ReLU and another."""
    maps = network.backbone(ms.Tensor(images)).asnumpy().astype(np.float64)
    head = {name: p.asnumpy().astype(np.float64) for name, p in network.head.parameters_dict().items()}
    result = []
    for image, label in zip(maps, classes, strict=True):
        gradient = head["classifier.weight"][label]
        if hidden:
            before = head["hidden.weight"] @ image.mean(axis=(1, 2)) + head["hidden.bias"]
            gradient = (gradient * (before > 0)) @ head["hidden.weight"]
        weights = gradient / image[0].size  # at each position; the mean over the map is the same number
        result.append(np.maximum((weights[:, None, None] * image).sum(axis=0), 0))
    return np.array(result)


@pytest.mark.parametrize(
    "hidden,engine", [(0, "mindspore pynative"), (6, "mindspore"), (0, "onnxruntime"), (6, "openvino")]
)
def test_heat_maps_by_hand(hidden, engine, tmp_path):
    name, _, mode = engine.partition(" ")
    devices.start("cpu", mode or "graph", seed=3)
    source = write_checkpoint(tmp_path / "x.ckpt", hidden=hidden)
    network, found = measuring.load_network(source).network, models.open_weights(source, "cpu", 3, engine=name)
    images = np.random.default_rng(0).normal(size=(4, 3, 64, 64)).astype(np.float32)
    expected = by_hand(network, images, [0, 1, 2, 0], hidden)
    raw = found.heat_map(images[:3], np.array([0, 1, 2], np.int32))
    assert expected.shape == (4, 8, 8) and expected.max() > 0 and (expected == 0).any()
    assert np.allclose(raw, expected[:3], rtol=1e-4, atol=1e-6 * expected.max())
    heat = gradcam.heat_maps(found, images, [0, 1, 2, 0])  # in batches of three
    assert np.allclose(heat.max(axis=(1, 2)), 1) and heat.min() >= 0
    assert np.allclose(heat, expected / expected.max(axis=(1, 2), keepdims=True), atol=1e-4)


@pytest.mark.parametrize("engine", ["mindspore", "onnxruntime"])
def test_a_class_without_evidence_has_an_empty_map(engine, tmp_path):
    source = write_checkpoint(tmp_path / "x.ckpt")
    weights = checkpoint.read(source)
    weights.head["classifier.weight"] = np.full_like(weights.head["classifier.weight"], -1)
    heat = gradcam.heat_maps(
        models.of_weights(weights, "cpu", engines.Engine(engine)), np.ones((1, 3, 32, 32), np.float32), [1]
    )
    assert heat.max() == 0 and np.isfinite(heat).all()


def test_pictures(loaded, images, tmp_path):
    x = gradcam.network_input(loaded.info, images, [3, 0])
    pixels = gradcam.as_pixels(loaded.info, x)
    assert x.shape == (2, 3, 32, 32) and pixels.dtype == np.uint8
    with Image.open(images.files[3]) as image:  # 40 x 40, resized to 32 x 32
        small = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR), int)
    assert abs(pixels[0].astype(int) - small).mean() < 8
    heat = np.zeros((2, 2))
    heat[0, 1] = 1
    overlay = np.asarray(gradcam.overlay(pixels[0], heat), int)
    red = overlay[:, :, 0] - overlay[:, :, 2]
    assert overlay.shape == (32, 32, 3) and red[:16, 16:].mean() > red[16:, :16].mean() + 20  # coloured at the maximum
    draw(tmp_path / "set", ["a"], 1, size=40)
    Image.new("RGBA", (300, 100), (255, 0, 0, 0)).save(tmp_path / "set" / "a" / "clear.png")
    pair = sources.images_of(check.check_dataset(tmp_path / "set"), "")
    (clear,) = (p for p in gradcam.thumbnails(pair, [0, 1], 60) if p.size == (60, 20))
    assert clear.getpixel((5, 5)) == (255, 255, 255)  # transparent pixels become white


def test_a_step_has_about_the_same_number_of_pixels_at_any_size():
    assert [engines.batch_of(size) for size in (16, 32, 64, 128, 224, 1024)] == [64, 64, 32, 16, 8, 4]


def test_few_images_have_heat_maps_in_a_network_folded_for_many_cores(parent, images, monkeypatch):
    plain = models.open_weights(parent, "cpu", engine="onnxruntime")
    monkeypatch.setattr(measuring, "cores", lambda: 16)
    folded = models.open_weights(parent, "cpu", engine="mindspore")  # in 16 groups
    x = gradcam.network_input(plain.info, images, [0, 8, 16])
    heat = gradcam.heat_maps(folded, x, [0, 1, 2])
    assert heat.shape == (3, 4, 4) and np.allclose(heat, gradcam.heat_maps(plain, x, [0, 1, 2]), atol=1e-4)
    assert np.array_equal(gradcam.heat_maps(folded, x[:1], [0]), heat[:1])
