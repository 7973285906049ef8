"""Each head learns eight small images by heart, trains alike in both modes, and again bit for bit."""

import mindspore as ms
import numpy as np
import pytest
from drawn_samples import random_sample, rectangles

from mslab.model import ResNet50, resnet50_backbone, resnet50_head
from mslab.tasks import detect, keypoints, multilabel, segment
from mslab.tasks.neck import MapHead, MapNetwork
from mslab.tasks.registry import task_of
from mslab.tasks.sample import fitted
from mslab.training.train_step import TrainStep

STAGES = [[1, 8, 1], [1, 16, 2]]
SIZE, STEPS = 64, 40


def learnt(network, loss, samples, target, rate=0.01, steps=STEPS):
    """Outputs of the network for the samples after `steps` steps on all of them."""
    images = np.stack([sample.image for sample in samples]).transpose(0, 3, 1, 2) / np.float32(128) - 1
    images, targets = ms.Tensor(images), ms.Tensor(np.stack([target(sample) for sample in samples]))
    network.set_train()
    step = TrainStep(network, loss, ms.nn.Adam(network.trainable_params(), rate))
    losses = [float(step(images, targets)[0]) for _ in range(steps)]
    assert losses[-1] < losses[0] / 4
    network.set_train(False)
    return network(images).asnumpy()


@pytest.fixture
def samples():
    rng = np.random.default_rng(3)
    return [random_sample(rng, SIZE, SIZE) for _ in range(8)]


@pytest.fixture
def backbone():
    ms.set_context(mode=ms.PYNATIVE_MODE)
    ms.set_seed(1)
    return resnet50_backbone(STAGES)


def test_detect_finds_all_boxes(samples, backbone):
    network = MapNetwork(backbone, detect.head(3))
    outputs = learnt(network, detect.DetectLoss(), samples, lambda sample: detect.target(sample, 3, network.stride))
    found = [detect.decode(row, network.stride, (SIZE, SIZE)) for row in outputs]
    assert detect.measure(found, [detect.truth(sample) for sample in samples], 3)["voc_map"] > 0.95


def test_segment_finds_all_pixels(samples, backbone):
    counts = segment.class_counts((segment.target(sample, 4, 4) for sample in samples), 4)
    network = MapNetwork(backbone, segment.head(counts))
    outputs = learnt(network, segment.SegmentLoss(), samples, lambda sample: segment.target(sample, 4, network.stride))
    masks = [segment.decode(row, (SIZE, SIZE), network.stride) for row in outputs]
    pairs = zip(samples, masks, strict=True)
    figures = segment.measure(segment.confusion(sample.mask, mask, 4) for sample, mask in pairs)
    assert figures["miou"] > 0.8 and figures["pixel_accuracy"] > 0.95  # edges are between cells


def test_keypoints_finds_all_points(samples, backbone):
    network = MapNetwork(backbone, keypoints.head(3))
    task = task_of({"task": "keypoints", "class_names": ["near", "far", "middle"]})
    crops = [task.cut(sample, part) for sample in samples for part in task.parts(sample, sample.size)]
    crops = [fitted(crop, SIZE) for crop in crops[:8]]
    outputs = learnt(network, keypoints.PointLoss(), crops, lambda sample: keypoints.target(sample, network.stride))
    found = [keypoints.decode(row, network.stride) for row in outputs]
    truth, boxes = [crop.points[0] for crop in crops], np.concatenate([crop.boxes for crop in crops])
    figures = keypoints.measure(found, truth, boxes)
    assert figures["pck"] > 0.95 and figures["nme"] < 0.05


def test_multilabel_finds_all_tags(samples, backbone):
    tags = np.stack([sample.tags for sample in samples])
    network = ResNet50(backbone, resnet50_head(3, backbone.channels))
    loss = multilabel.TagLoss(multilabel.positive_weights(tags, 1))
    logits = learnt(network, loss, samples, lambda sample: sample.tags.astype(np.float32))
    p = multilabel.sigmoid(logits)
    figures = multilabel.measure(p, tags, multilabel.best_thresholds(p, tags))
    assert figures["map"] > 0.95 and figures["f1_micro"] > 0.95


def trained(mode, loss, targets, outputs):
    """Losses of three steps, and all weights afterwards."""
    ms.set_context(mode=mode)
    ms.set_seed(1)
    network = MapNetwork(resnet50_backbone([[1, 8, 1], [1, 8, 2]]), MapHead(outputs))
    network.set_train()
    step = TrainStep(network, loss, ms.nn.Momentum(network.trainable_params(), 0.01, 0.9))
    images = ms.Tensor(np.random.default_rng(0).normal(size=(2, 3, 33, 33)).astype(np.float32))
    losses = [float(step(images, ms.Tensor(targets))[0]) for _ in range(3)]
    return np.array(losses), np.concatenate([p.asnumpy().ravel() for p in network.get_parameters()])


def cases():
    samples = [rectangles(33, 33, [(1, 2, 20, 30), (16, 0, 33, 9)], [0, 2]), rectangles(33, 33, [(3, 3, 14, 14)], [1])]
    yield "detect", detect.DetectLoss(), np.stack([detect.target(s, 3, 4) for s in samples]), 7
    yield "segment", segment.SegmentLoss(), np.stack([segment.target(s, 4, 4) for s in samples]), 4
    crops = [rectangles(33, 33, [(3, 3, 30, 30)], [0])] * 2
    yield "keypoints", keypoints.PointLoss(), np.stack([keypoints.target(s, 4) for s in crops]), 3


@pytest.mark.parametrize(("loss", "targets", "outputs"), [row[1:] for row in cases()], ids=[row[0] for row in cases()])
def test_both_modes_agree_and_a_rerun_gives_equal_bits(loss, targets, outputs):
    rows = [trained(mode, loss, targets, outputs) for mode in (ms.GRAPH_MODE, ms.GRAPH_MODE, ms.PYNATIVE_MODE)]
    for first, again, other in zip(*rows, strict=True):
        np.testing.assert_array_equal(first, again)
        np.testing.assert_allclose(first, other, rtol=1e-4, atol=1e-5)
