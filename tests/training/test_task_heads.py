"""The pyramid, and each task's targets, loss, decoding and metric beside NumPy and hand computations."""

import mindspore as ms
import numpy as np
import pytest
from drawn_samples import random_sample, rectangles

from mslab.config import FIELDS
from mslab.config.tasks import OF_DETECT
from mslab.cpu_layout import stack_small_maps
from mslab.model import resnet50_backbone
from mslab.tasks import detect, keypoints, multilabel, segment
from mslab.tasks.average_precision import Detections
from mslab.tasks.labels import IGNORED
from mslab.tasks.neck import MapHead, MapNetwork, enlarged, stage_shapes
from mslab.tasks.registry import task_of
from mslab.tasks.sigmoid import negative_log_sigmoid
from mslab.tasks.tiles import tile_boxes

STAGES = [[1, 8, 1], [1, 8, 2], [1, 16, 2]]
OPTIONS = {name: FIELDS[name].default for name in OF_DETECT}
MODES = pytest.mark.parametrize("mode", [ms.PYNATIVE_MODE, ms.GRAPH_MODE], ids=["pynative", "graph"])


@pytest.fixture(autouse=True)
def pynative():
    ms.set_context(mode=ms.PYNATIVE_MODE)
    yield
    ms.set_context(mode=ms.GRAPH_MODE)


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


# --- the pyramid -----------------------------------------------------------------------------------------------------


def test_the_standard_backbone_has_four_levels():
    shapes = [(256, 4), (512, 8), (1024, 16), (2048, 32)]
    assert stage_shapes(resnet50_backbone([[1, width // 4, 1 + (width > 256)] for width, _ in shapes])) == shapes


@pytest.mark.parametrize("profile", [{}, {"stem": "small"}, {"block": "basic"}], ids=str)
@pytest.mark.parametrize("size", [(32, 32), (33, 50)])
def test_the_map_has_a_cell_for_every_four_pixels_rounded_up(profile, size):
    stages = [[1, 8, 1], [1, 8, 2], [1, 8, 2], [1, 8, 2]] if profile.get("stem") == "small" else STAGES
    network = MapNetwork(resnet50_backbone(stages, profile), MapHead(5))
    outputs = network(ms.Tensor(random(2, 3, *size)))
    assert network.stride == 4 and outputs.shape == (2, 5, -(-size[0] // 4), -(-size[1] // 4))


def test_a_table_without_a_stride_of_four_has_its_own():
    network = MapNetwork(resnet50_backbone([[1, 8, 1], [1, 8, 2]], {"stem": "small"}), MapHead(5))
    assert network.stride == 2 and network(ms.Tensor(random(1, 3, 9, 9))).shape == (1, 5, 5, 5)


def test_the_backbone_keeps_its_names_and_its_checkpoint_loads(tmp_path):
    file = str(tmp_path / "best_backbone.ckpt")
    ms.save_checkpoint(resnet50_backbone(STAGES), file)
    backbone = resnet50_backbone(STAGES)
    before = {parameter.name for parameter in backbone.get_parameters()}
    network = MapNetwork(backbone, MapHead(5))
    assert {parameter.name for parameter in backbone.get_parameters()} == before
    assert ms.load_param_into_net(backbone, ms.load_checkpoint(file), strict_load=True) == ([], [])
    others = {parameter.name.split(".")[0] for parameter in network.get_parameters()} - {
        n.split(".")[0] for n in before
    }
    assert others == {"neck", "head"}


@pytest.mark.parametrize(("small", "large"), [((2, 3), (4, 6)), ((3, 2), (5, 3)), ((1, 1), (1, 2)), ((5, 3), (9, 6))])
def test_enlarging_repeats_cells(small, large):
    x = random(2, 3, *small)
    expected = x.repeat(2, 2).repeat(2, 3)
    if large == (5, 3):
        expected = x[:, :, [0, 0, 1, 1, 2]][:, :, :, [0, 0, 1]]
    found = enlarged(ms.Tensor(x), ms.Tensor(np.zeros((2, 1, *large), np.float32))).asnumpy()
    np.testing.assert_array_equal(found, expected[:, :, : large[0], : large[1]])


def test_stacking_the_last_stage_changes_nothing():
    backbone = resnet50_backbone(STAGES)
    network, images = MapNetwork(backbone, MapHead(3)).set_train(False), ms.Tensor(random(4, 3, 64, 64))
    before = network(images).asnumpy()
    assert stack_small_maps(backbone, 4, [64], 2) == 1
    np.testing.assert_allclose(network(images).asnumpy(), before, rtol=1e-4, atol=1e-6)


# --- losses ----------------------------------------------------------------------------------------------------------


def sigmoid(x):
    return 1 / (1 + np.exp(-x.astype(np.float64)))


@MODES
def test_detect_loss(mode):
    ms.set_context(mode=mode)
    samples = [rectangles(32, 32, [(1, 2, 20, 30), (20, 0, 32, 9)], [0, 1], [False, True]), rectangles(32, 32, [], [])]
    targets = np.stack([detect.target(sample, 2, 4) for sample in samples])
    outputs = random(2, 6, 8, 8)
    p, heat, kind = sigmoid(outputs[:, :2]), targets[:, :2], targets[:, 6:]
    found = -((1 - p) ** 2 * np.log(p))[heat == 1].sum()
    empty = -((1 - heat) ** 4 * p**2 * np.log(1 - p) * (kind >= 0))[heat < 1].sum()
    errors = (abs(outputs[:, 2:] - targets[:, 2:6]) * (kind == 1)).sum()
    assert (heat == 1).sum() == 1 and (kind < 0).sum() == 3 * 3
    value = float(detect.DetectLoss()(ms.Tensor(outputs), ms.Tensor(targets)))
    assert value == pytest.approx(found + empty + errors, rel=1e-5)


@MODES
def test_segment_loss(mode):
    ms.set_context(mode=mode)
    logits, targets = random(2, 3, 4, 5), np.random.default_rng(1).integers(0, 3, (2, 4, 5)).astype(np.int32)
    targets[:, 0] = IGNORED
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    chosen = np.take_along_axis(logs, np.where(targets == IGNORED, 0, targets)[:, None], 1)[:, 0]
    value = float(segment.SegmentLoss()(ms.Tensor(logits), ms.Tensor(targets)))
    assert value == pytest.approx(-chosen[targets != IGNORED].mean(), rel=1e-5)
    nothing = np.full_like(targets, IGNORED)
    assert float(segment.SegmentLoss()(ms.Tensor(logits), ms.Tensor(nothing))) == 0


@MODES
def test_point_loss(mode):
    ms.set_context(mode=mode)
    outputs, targets = random(2, 3, 4, 4), np.abs(random(2, 3, 4, 4))
    targets[0, 1] = targets[1] = -1
    expected = ((outputs - targets)[0, [0, 2]] ** 2).sum() / 2
    assert float(keypoints.PointLoss()(ms.Tensor(outputs), ms.Tensor(targets))) == pytest.approx(expected, rel=1e-5)
    assert float(keypoints.PointLoss()(ms.Tensor(outputs), ms.Tensor(np.full_like(targets, -1)))) == 0


@MODES
def test_tag_loss(mode):
    ms.set_context(mode=mode)
    logits, tags = random(4, 3), np.array([[1, 0, 1], [0, 0, 1], [1, 0, 1], [0, 0, 1]], np.float32)
    weights, p = np.array([1.0, 2.0, 0.5], np.float32), sigmoid(logits)
    expected = -(weights * tags * np.log(p) + (1 - tags) * np.log(1 - p)).mean()
    assert float(multilabel.TagLoss(weights)(ms.Tensor(logits), ms.Tensor(tags))) == pytest.approx(expected, rel=1e-5)
    large = ms.Tensor(np.array([[200.0, -200.0]], np.float32))  # no overflow: the loss is the distance
    loss = multilabel.TagLoss(np.ones(2, np.float32))
    assert float(loss(large, ms.Tensor([[0.0, 1.0]], ms.float32))) == pytest.approx(200)


@MODES
def test_a_logit_has_the_same_loss_wherever_it_is_in_the_tensor(mode):
    """ops.log rounds the last elements of each thread's part otherwise, and the parts change while a process runs."""
    ms.set_context(mode=mode)
    logits = ms.Tensor(random(3, 21) * 8)
    losses = negative_log_sigmoid(logits).asnumpy()
    one_by_one = [[negative_log_sigmoid(logit).asnumpy() for logit in row] for row in logits]
    assert np.array_equal(losses, one_by_one)
    np.testing.assert_allclose(losses, np.logaddexp(0, -logits.asnumpy().astype(np.float64)), atol=2e-6)


def test_weights_of_tags():
    tags = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0], [0, 1, 0]])
    np.testing.assert_allclose(multilabel.positive_weights(tags, 2), [4, 0.2, 1])
    np.testing.assert_allclose(multilabel.positive_weights(tags, 1), [2, 0.2**0.5, 1])
    np.testing.assert_allclose(multilabel.positive_weights(tags, 0), [1, 1, 1])


# --- targets and decoding --------------------------------------------------------------------------------------------


def as_outputs(maps):
    """What a perfect network says for a target: large logits where the heat is."""
    heat = np.clip(maps[:-5], 1e-4, 1 - 1e-4)
    return np.concatenate([np.log(heat / (1 - heat)), maps[-5:-1]])


@pytest.mark.parametrize("size", [(64, 64), (61, 43), (40, 75), (5, 5)])
def test_decoding_gives_back_the_boxes(size):
    rng = np.random.default_rng(2)
    for _ in range(40):
        count = int(rng.integers(0, 5))
        corners = np.sort(rng.uniform(0, 1, (count, 2, 2)), 1) * size
        corners[:, 1] = np.maximum(corners[:, 1], corners[:, 0] + 0.5)
        boxes = np.clip(corners.reshape(count, 4), 0, [*size, *size]).astype(np.float32)
        sample = rectangles(*size, boxes, rng.integers(0, 3, count))
        cells = {
            (label, *((box[:2] + box[2:]) / 8).astype(int)) for label, box in zip(sample.classes, boxes, strict=True)
        }
        if len({cell[1:] for cell in cells}) < count:
            continue  # the next test
        found = detect.decode(as_outputs(detect.target(sample, 3, 4)), 4, size, 0.9, None)
        order, expected = np.lexsort(found.boxes.T), np.lexsort(boxes.T)
        np.testing.assert_allclose(found.boxes[order], boxes[expected], atol=1e-3)
        np.testing.assert_array_equal(found.classes[order], sample.classes[expected])


def test_of_two_centres_in_a_cell_the_smaller_object_is_found():
    large, small = (0, 0, 20, 20), (9, 9, 12, 12)
    for boxes in ([large, small], [small, large]):
        found = detect.decode(as_outputs(detect.target(rectangles(24, 24, boxes, [1, 1]), 3, 4)), 4, (24, 24), 0.9)
        np.testing.assert_allclose(found.boxes, [small], atol=1e-4)
    both = detect.decode(as_outputs(detect.target(rectangles(24, 24, [large, small], [1, 2]), 3, 4)), 4, (24, 24), 0.9)
    assert both.classes.tolist() == [1, 2] and both.boxes[0].tolist() == both.boxes[1].tolist()  # one size a cell


def test_objects_at_the_border_and_of_the_whole_image():
    boxes = np.array([(0, 0, 3, 3), (61, 0, 64, 3), (60, 60, 64, 64), (0, 0, 64, 64)], np.float32)
    found = detect.decode(as_outputs(detect.target(rectangles(64, 64, boxes, [0, 0, 0, 1]), 2, 4)), 4, (64, 64), 0.9)
    np.testing.assert_allclose(found.boxes[np.lexsort(found.boxes.T)], boxes[np.lexsort(boxes.T)], atol=1e-3)


def test_the_radius_keeps_the_overlap():
    for width, height in ((4, 4), (10, 3), (30, 17)):
        r = detect.radius(width, height)
        shifted = (width - r) * (height - r)
        values = [
            shifted / (2 * width * height - shifted),
            (width - 2 * r) * (height - 2 * r) / (width * height),
            width * height / ((width + 2 * r) * (height + 2 * r)),
        ]
        assert min(values) == pytest.approx(0.7) and max(values) >= 0.7


def test_thresholds_of_boxes():
    boxes, scores = np.array([(0, 0, 10, 10), (0, 0, 10, 8), (0, 0, 10, 10)], float), np.array([0.6, 0.9, 0.5])
    same, other = np.array([0, 0, 0]), np.array([0, 0, 1])
    assert detect.suppress(boxes, scores, same, 0.5).tolist() == [1]
    assert detect.suppress(boxes, scores, same, 0.8).tolist() == [1, 0]  # an overlap of 0.8 is not above 0.8
    assert detect.suppress(boxes, scores, other, 0.5).tolist() == [1, 2]
    maps = np.concatenate([np.full((1, 8, 8), -9.0), np.zeros((4, 8, 8))])
    maps[0, 1, 1], maps[0, 5, 5] = 2.0, 1.0
    assert len(detect.decode(maps, 4, (32, 32)).boxes) == 2
    assert detect.decode(maps, 4, (32, 32), box_detections_per_img=1).scores == pytest.approx([sigmoid(np.array(2.0))])
    assert len(detect.decode(maps, 4, (32, 32), box_score_thresh=0.8).boxes) == 1
    assert detect.decode(maps - 9, 4, (32, 32)).boxes.shape == (0, 4)


@pytest.mark.parametrize("size", [(64, 64), (30, 18)])
def test_a_mask_of_whole_cells_comes_back_but_for_its_edges(size):
    sample = rectangles(*size, [(0, 0, 12, 12), (16, 4, 28, 16)], [0, 2])
    target = segment.target(sample, 4, 4)
    assert target.shape == (-(-size[1] // 4), -(-size[0] // 4)) and target[0, 0] == 1 and target[2, 5] == 3
    logits = (np.arange(4)[:, None, None] == target).astype(np.float32)
    mask = segment.decode(logits, size, 4)
    assert mask.shape == sample.mask.shape and (mask == sample.mask).mean() > 0.97


def test_logits_of_masks_start_at_the_shares_of_their_classes():
    targets = np.array([[[0, 0, 0], [0, 2, IGNORED]]], np.int32)
    counts = segment.class_counts(targets, 3)
    assert counts.tolist() == [4, 0, 1]
    np.testing.assert_allclose(np.exp(segment.head(counts).output.bias.asnumpy()), [5 / 8, 1 / 8, 2 / 8], rtol=1e-6)


def test_a_cell_has_the_class_of_most_of_its_pixels():
    sample = rectangles(6, 5, [(0, 0, 3, 3), (4, 0, 6, 5)], [0, 1])
    assert segment.target(sample, 3, 4).tolist() == [[1, 2], [0, 2]]  # 9 of 16; beyond the border its pixels repeat
    sample.mask[:4, :3] = IGNORED
    assert segment.target(sample, 3, 4)[0, 0] == IGNORED


@pytest.mark.parametrize("size", [(64, 64), (61, 43), (13, 9)])
def test_decoding_gives_back_the_points_wherever_they_are(size):
    rng = np.random.default_rng(4)
    sample = rectangles(*size, [(0, 0, *size)], [0])
    for corner in [(0, 0), size, (0, size[1]), *(rng.uniform(0, 1, (30, 2)) * size)]:
        sample.points[0, :, :2] = corner
        np.testing.assert_allclose(keypoints.decode(keypoints.target(sample, 4), 4)[:, :2], [corner] * 3, atol=1e-3)


def test_a_point_that_is_not_labelled_has_no_target_and_an_empty_map_no_accident():
    sample = rectangles(16, 16, [(0, 0, 16, 16)], [0])
    sample.points[0, 1] = 0
    assert (keypoints.target(sample, 4)[1] == -1).all() and keypoints.target(sample, 4)[0].max() > 0.7
    assert keypoints.decode(np.zeros((1, 4, 4)), 4).tolist() == [[2, 2, 0]]
    assert np.isfinite(keypoints.decode(-random(2, 1, 2), 4)).all()


def test_crops_lead_back_to_the_image():
    sample = rectangles(60, 50, [(2, 2, 20, 12), (30, 30, 60, 50), (5, 30, 15, 45)], [0, 1, 2], [False, False, True])
    task = task_of({"task": "keypoints", "class_names": ["near", "far", "middle"]})
    parts = task.parts(sample, sample.size)
    assert [part.number for part in parts] == [0, 1]  # the ignored one has none
    for i, part in enumerate(parts):
        crop, box = task.cut(sample, part), part.box
        width, height = crop.size
        assert width == height == int(np.ceil(max(sample.boxes[i, 2:] - sample.boxes[i, :2]) * 1.25))
        back = keypoints.uncropped(crop.points[0], box, width)
        np.testing.assert_allclose(back, sample.points[i], atol=1e-4)
        x, y = crop.points[0, 2, :2].astype(int)
        assert (
            crop.mask is None
            and crop.image[y, x].tolist() == sample.image[tuple(sample.points[i, 2, 1::-1].astype(int))].tolist()
        )
    assert task.parts(rectangles(60, 50, [], []), (60, 50)) == []


# --- metrics ---------------------------------------------------------------------------------------------------------


def test_measures_of_tags():
    p = np.array([[0.9, 0.2, 0.1], [0.8, 0.6, 0.2], [0.3, 0.7, 0.3]])
    tags = np.array([[1, 0, 0], [0, 1, 0], [1, 1, 0]])
    figures = multilabel.measure(p, tags, np.full(3, 0.5))
    # the first tag: hit, miss, hit; the second: two hits; the third has none
    assert figures["map"] == pytest.approx(((1 / 2 + 1 / 2 * 2 / 3) + 1) / 2)
    assert figures["f1_micro"] == pytest.approx(2 * 3 / (4 + 4)) and figures["f1_macro"] == pytest.approx((0.5 + 1) / 2)
    assert np.isnan(multilabel.measure(p, np.zeros((3, 3), int), np.full(3, 0.5))["map"])


def test_thresholds_have_the_highest_f1():
    p = np.array([[0.9], [0.8], [0.6], [0.6], [0.1]])
    assert multilabel.best_thresholds(p, np.array([[1], [0], [1], [1], [0]])) == pytest.approx([0.35])
    assert multilabel.best_thresholds(p, np.array([[1], [0], [0], [0], [0]])) == pytest.approx([0.85])
    assert multilabel.best_thresholds(p, np.zeros((5, 1), int)) == [0.5]
    rng = np.random.default_rng(0)
    for _ in range(20):
        p, tags = rng.integers(0, 5, (12, 2)) / 4, rng.integers(0, 2, (12, 2))
        tags[0] = 1
        best = multilabel.measure(p, tags, multilabel.best_thresholds(p, tags))["f1_macro"]
        tried = [
            [multilabel.measure(p[:, [t]], tags[:, [t]], np.array([s]))["f1_macro"] for s in np.arange(9) / 8]
            for t in (0, 1)
        ]
        assert best == pytest.approx(np.max(tried, 1).mean())


def test_measures_of_masks():
    mask = np.array([[0, 0, 1, 1], [0, 0, 1, IGNORED]], np.uint8)
    predicted = np.array([[0, 1, 1, 1], [0, 0, 1, 2]], np.uint8)
    figures = segment.measure([segment.confusion(mask, predicted, 4)])
    assert figures == {"miou": pytest.approx((3 / 4 + 3 / 4) / 2), "pixel_accuracy": pytest.approx(6 / 7)}
    nothing = segment.measure([segment.confusion(np.full((2, 2), IGNORED, np.uint8), predicted[:2, :2], 4)])
    assert np.isnan(nothing["miou"])


def test_measures_of_points():
    truth = [np.array([[10, 10, 2], [20, 20, 1], [0, 0, 0]], float)]
    found = [np.array([[13, 14, 0.9], [20, 20, 0.9], [50, 50, 0.1]], float)]
    boxes = np.array([[0, 0, 20, 10]], np.float32)
    figures = keypoints.measure(found, truth, boxes)  # 5 pixels off, of a longer side of 20: 0.25
    assert figures["pck"] == 0.5 and figures["nme"] == pytest.approx(0.125)
    assert np.isnan(keypoints.measure([], [], np.zeros((0, 4)))["pck"])


def test_measures_of_boxes_are_those_that_are_asked_for():
    sample = rectangles(32, 32, [(0, 0, 10, 10)], [1])
    there = [detect.truth(sample)]
    assert detect.measure(there, there, 3) == {"voc_map": 1.0}
    assert detect.measure(there, there, 3, "none") == {}
    both = detect.measure(there, there, 3, "coco_voc")
    assert both["voc_map"] == 1 and both["coco_map"] == pytest.approx(1)


# --- tiles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "grid", "ratio"), [((100, 80), (3, 2), 0.25), ((101, 37), (2, 3), 0.5), ((9, 9), (1, 1), 0)]
)
def test_tiles_cover_the_image_and_overlap_by_their_share(size, grid, ratio):
    boxes = np.array(tile_boxes(size, grid, ratio))
    assert len(boxes) == grid[0] * grid[1]
    assert boxes[:, :2].min() == 0 and boxes[:, 2].max() == size[0] and boxes[:, 3].max() == size[1]
    if grid[0] > 1:
        first, second = boxes[:2]
        assert (first[2] - second[0]) / (first[2] - first[0]) == pytest.approx(ratio, abs=3 / (first[2] - first[0]))


def test_boxes_of_tiles_are_joined_and_their_duplicates_dropped():
    rng = np.random.default_rng(6)
    for _ in range(10):
        sample = random_sample(rng, 100, 80)
        task = task_of({"task": "detect", "class_names": ["a"], "options": OPTIONS | {"tile_grid_size": [3, 2]}})
        parts, found = task.parts(sample, sample.size), []
        assert [part.box for part in parts[1:]] == tile_boxes(sample.size, (3, 2))
        for part in (task.cut(sample, part) for part in parts):
            whole = ~part.ignored
            scores = part.boxes[whole, 2] - part.boxes[whole, 0] + part.boxes[whole, 3] - part.boxes[whole, 1]
            found.append(Detections(part.boxes[whole], scores / 200, part.classes[whole]))
        both = detect.joined(found, [part.box for part in parts[1:]], 0.0)
        order, expected = np.lexsort(both.boxes.T), np.lexsort(sample.boxes.T)
        np.testing.assert_allclose(both.boxes[order], sample.boxes[expected])
        np.testing.assert_array_equal(both.classes[order], sample.classes[expected])
