"""What is seen of single images: figures, heat maps by hand, pictures."""

import json

import mindspore as ms
import numpy as np
import pytest
from helpers import STAGES, draw
from PIL import Image

from mslab import check, cpu_layout, model
from mslab.data import sources
from mslab.evaluation import gradcam, measuring, metrics
from mslab.runtime import devices


@pytest.fixture(scope="module")
def loaded(parent):
    """Not to be changed; `inspect` would fold it."""
    return measuring.load_network(parent)


@pytest.fixture(autouse=True)
def start():
    devices.start("cpu", "pynative", seed=0)


@pytest.fixture(scope="module")
def images(squares):
    return sources.images_of(check.check_dataset(squares / "three" / "val"), "")


@pytest.mark.parametrize("mode", ["graph", "pynative"])
def test_figures_are_those_that_training_measured(images, parent, mode):
    devices.start("cpu", mode, seed=0)
    loaded = measuring.load_network(parent)
    seen = gradcam.inspect(loaded, images)
    kept = json.loads((parent / "eval.json").read_text())
    assert metrics.confusion(seen.labels, seen.predicted, 3).tolist() == kept["confusion"]
    assert seen.features.shape == (21, 32) and seen.logits.shape == (21, 3)
    assert np.allclose(seen.probabilities.sum(axis=1), 1)
    # the head of these features gives these logits: they are what it takes
    logits = seen.features @ loaded.network.head.classifier.weight.asnumpy().T
    assert np.allclose(logits + loaded.network.head.classifier.bias.asnumpy(), seen.logits, atol=1e-5)


def test_mistakes_and_doubts_are_in_order():
    logits = np.log(np.array([[0.9, 0.1], [0.4, 0.6], [0.45, 0.55], [0.2, 0.8], [0.7, 0.3]], np.float32))
    seen = gradcam.Inspection(type("Images", (), {"labels": np.array([0, 0, 1, 0, 0])})(), ["a", "b"], logits, None)
    assert seen.mistakes().tolist() == [3, 1]  # taken for b with 0.8, then 0.6
    assert seen.unsure().tolist() == [2, 4, 0]  # right with 0.55, 0.7, 0.9


def by_hand(network, images, classes, hidden):
    """Grad-CAM in NumPy from the backbone's maps: slopes of a mean, a Dense layer, perhaps a ReLU and another one."""
    maps = network.backbone(ms.Tensor(images)).asnumpy().astype(np.float64)
    head = {name: p.asnumpy().astype(np.float64) for name, p in network.head.parameters_dict().items()}
    found = []
    for image, wanted in zip(maps, classes, strict=True):
        slope = head["classifier.weight"][wanted]
        if hidden:
            before = head["hidden.weight"] @ image.mean(axis=(1, 2)) + head["hidden.bias"]
            slope = (slope * (before > 0)) @ head["hidden.weight"]
        weights = slope / image[0].size  # of each place; their mean over the map is the same number
        found.append(np.maximum((weights[:, None, None] * image).sum(axis=0), 0))
    return np.array(found)


@pytest.mark.parametrize("hidden,mode", [(0, "pynative"), (6, "pynative"), (6, "graph")])
def test_heat_maps_by_hand(hidden, mode):
    devices.start("cpu", mode, seed=3)
    backbone = model.resnet50_backbone(STAGES)
    network = model.ResNet50(backbone, model.resnet50_head(3, backbone.channels, hidden))
    for parameter in network.head.trainable_params():  # Normal(0.01) is too small to tell anything
        parameter.set_data(ms.Tensor(np.random.default_rng(1).normal(size=parameter.shape).astype(np.float32)))
    network.set_train(False)
    images = np.random.default_rng(0).normal(size=(4, 3, 64, 64)).astype(np.float32)
    expected = by_hand(network, images, [0, 1, 2, 0], hidden)
    raw = gradcam.HeatMap(network)(ms.Tensor(images), ms.Tensor(np.array([0, 1, 2, 0], np.int32))).asnumpy()
    assert expected.shape == (4, 8, 8) and expected.max() > 0 and (expected == 0).any()
    assert np.allclose(raw, expected, rtol=1e-4, atol=1e-6 * expected.max())
    heat = gradcam.heat_maps(network, images, [0, 1, 2, 0])
    assert np.allclose(heat.max(axis=(1, 2)), 1) and heat.min() >= 0
    assert np.allclose(heat, expected / expected.max(axis=(1, 2), keepdims=True), atol=1e-4)


def test_a_class_that_nothing_spoke_for_has_an_empty_map():
    backbone = model.resnet50_backbone(STAGES)
    network = model.ResNet50(backbone, model.resnet50_head(2, backbone.channels))
    network.head.classifier.weight.set_data(ms.Tensor(np.full((2, backbone.channels), -1, np.float32)))
    heat = gradcam.heat_maps(network, np.ones((1, 3, 32, 32), np.float32), [1])
    assert heat.max() == 0 and np.isfinite(heat).all()


def test_pictures(loaded, images, tmp_path):
    seen = gradcam.network_input(loaded.info, images, [3, 0])
    pixels = gradcam.as_pixels(loaded.info, seen)
    assert seen.shape == (2, 3, 32, 32) and pixels.dtype == np.uint8
    with Image.open(images.files[3]) as image:  # 40 x 40, seen at 32 x 32
        small = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR), int)
    assert abs(pixels[0].astype(int) - small).mean() < 8
    hot = np.zeros((2, 2))
    hot[0, 1] = 1
    drawn = np.asarray(gradcam.overlay(pixels[0], hot), int)
    red = drawn[:, :, 0] - drawn[:, :, 2]
    assert drawn.shape == (32, 32, 3) and red[:16, 16:].mean() > red[16:, :16].mean() + 20  # warm where it is hot
    draw(tmp_path / "set", ["a"], 1, size=40)
    Image.new("RGBA", (300, 100), (255, 0, 0, 0)).save(tmp_path / "set" / "a" / "clear.png")
    more = sources.images_of(check.check_dataset(tmp_path / "set"), "")
    (clear,) = (p for p in gradcam.thumbnails(more, [0, 1], 60) if p.size == (60, 20))
    assert clear.getpixel((5, 5)) == (255, 255, 255)  # transparent is white to a person


def test_a_step_has_about_as_many_pixels_at_any_size():
    assert [gradcam.batch_of(size) for size in (16, 32, 64, 128, 224, 1024)] == [64, 64, 32, 8, 4, 4]


def test_few_images_have_heat_maps_in_a_network_folded_for_many_cores(parent, images):
    plain, folded = measuring.load_network(parent), measuring.load_network(parent)
    assert cpu_layout.fold_small_maps(folded.network.backbone, gradcam.batch_of(32), 32, cores=16)  # in 16 groups
    x = gradcam.network_input(plain.info, images, [0, 8, 16])
    heat = gradcam.heat_maps(folded.network, x, [0, 1, 2])
    assert heat.shape == (3, 4, 4) and np.allclose(heat, gradcam.heat_maps(plain.network, x, [0, 1, 2]), atol=1e-4)
    kept = gradcam.HeatMap(folded.network)
    assert np.array_equal(gradcam.heat_maps(kept, x[:1], [0], batch=16), heat[:1])
