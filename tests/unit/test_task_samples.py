"""Crops and mirror images: what the labels say stays true of the pixels."""

from dataclasses import replace

import numpy as np
import pytest
from drawn_samples import COLOURS, random_sample, rectangles

from mslab.tasks import sample as samples
from mslab.tasks.labels import IGNORED, ImageLabels
from mslab.tasks.rle import Region, encode


def agrees(sample):
    """Boxes enclose the pixels of their class, key points stand on them, mask and colours say the same."""
    width, height = sample.size
    counted = sample.mask != IGNORED
    far = np.abs(sample.image.astype(int) - COLOURS[np.where(counted, sample.mask, 0)]).max(-1)
    assert (far[counted] < 60).mean() > 0.8  # edges are blended when pixels are resized
    for box, label, points in zip(sample.boxes, sample.classes, sample.points, strict=True):
        left, top, right, bottom = box
        assert 0 <= left < right <= width and 0 <= top < bottom <= height
        inner = sample.mask[int(np.ceil(top)) : int(bottom), int(np.ceil(left)) : int(right)]
        assert (inner == label + 1).all()
        for x, y, seen in points:
            assert not seen or sample.mask[min(int(y), height - 1), min(int(x), width - 1)] == label + 1
    outside = sample.mask.copy()
    for left, top, right, bottom in sample.boxes:
        outside[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))] = 0
    assert set(np.unique(outside)) <= {0, IGNORED}


@pytest.mark.parametrize("size", [(64, 64), (61, 43), (40, 75)])
def test_after_augmentation_pixels_and_labels_agree(size):
    rng = np.random.default_rng(1)
    for _ in range(60):
        source = random_sample(rng, *size)
        agrees(source)
        found = samples.augmented(source, rng, 48, crop_scale=0.3, pairs=[(0, 1)])
        assert found.size == (48, 48)
        agrees(found)
        np.testing.assert_array_equal(found.tags, source.tags)


def test_a_whole_crop_of_the_same_size_changes_nothing():
    source = rectangles(20, 16, [(2, 3, 12, 15)], [1])
    found = samples.cropped(source, (0, 0, 20, 16), (20, 16))
    for name in ("image", "boxes", "classes", "ignored", "points", "mask"):
        np.testing.assert_array_equal(getattr(found, name), getattr(source, name))


def test_a_crop_beyond_the_image_is_filled_and_counts_for_nothing():
    found = samples.cropped(rectangles(10, 10, [(0, 0, 5, 5)], [0]), (-5, -5, 5, 5), (10, 10))
    assert found.image[0, 0].tolist() == list(samples.FILL) and found.mask[0, 0] == IGNORED
    assert found.boxes.tolist() == [[5, 5, 10, 10]] and found.mask[5, 5] == 1


def test_a_crop_cuts_boxes_ignores_remnants_and_drops_what_is_gone():
    boxes = [(0, 0, 20, 20), (0, 30, 20, 40), (30, 0, 40, 10)]
    found = samples.cropped(rectangles(40, 40, boxes, [0, 1, 2]), (18, 0, 40, 40), (22, 40))
    assert found.boxes.tolist() == [[0, 0, 2, 20], [0, 30, 2, 40], [12, 0, 22, 10]]
    assert found.ignored.tolist() == [True, True, False]  # a tenth is left of the first two
    gone = samples.cropped(rectangles(40, 40, boxes, [0, 1, 2]), (25, 0, 40, 40), (15, 40))
    assert gone.classes.tolist() == [2] and gone.points.shape == (1, 3, 3)


def test_points_outside_a_crop_are_not_labelled_and_stay_so_when_mirrored():
    found = samples.cropped(rectangles(40, 40, [(0, 0, 20, 20)], [0]), (5, 5, 25, 25), (20, 20))
    assert found.points[0].tolist() == [[0, 0, 0], [13.5, 13.5, 2], [5, 5, 2]]
    assert samples.mirrored(found).points[0].tolist() == [[0, 0, 0], [6.5, 13.5, 2], [15, 5, 2]]


def test_mirroring_swaps_left_and_right_points_and_twice_is_the_same():
    source = rectangles(21, 16, [(2, 3, 12, 15), (14, 0, 21, 8)], [1, 0])
    once = samples.mirrored(source, [(0, 1)])
    assert once.boxes[0].tolist() == [9, 3, 19, 15]
    assert once.points[0, 0].tolist() == [10.5, 13.5, 2]  # where the right lower one was
    for a, b in zip(vars(samples.mirrored(once, [(0, 1)])).values(), vars(source).values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_pairs_are_read_from_names():
    assert samples.mirror_pairs(["top", "left_edge", "right_edge", "foot"]) == [(1, 2)]
    assert samples.mirror_pairs(["Left eye", "nose", "right Eye"]) == [(0, 2)]
    assert samples.mirror_pairs(["leftmost", "nose"]) == []


@pytest.mark.parametrize("size", [(64, 64), (61, 43), (40, 75), (1, 9)])
def test_boxes_of_a_fitted_image_lead_back_to_the_image(size):
    source = rectangles(*size, [(0, 0, *size)], [0])
    found = samples.fitted(source, 32)
    np.testing.assert_allclose(samples.unfitted(found.boxes, 32, *size), source.boxes, atol=1e-4)
    assert found.size == (32, 32) and (found.mask == 1).sum() > 0


def test_an_image_without_objects_is_augmented_like_others():
    found = samples.augmented(rectangles(30, 20, [], []), np.random.default_rng(0), 16, 0.5)
    assert found.boxes.shape == (0, 4) and found.points.shape == (0, 3, 3) and found.image.shape == (16, 16, 3)


def test_equal_random_numbers_give_equal_crops_and_one_setting_moves_no_other():
    source = rectangles(30, 30, [(3, 3, 20, 20)], [1])
    a, b = (samples.augmented(source, np.random.default_rng(5), 16, 0.5) for _ in range(2))
    np.testing.assert_array_equal(a.image, b.image)
    rng = np.random.default_rng(5)
    samples.augmented(source, rng, 16, 1.0, flip=False)
    other = np.random.default_rng(5)
    samples.augmented(source, other, 16, 0.1)
    assert rng.random() == other.random()


def test_a_sample_without_mask_and_tags_needs_neither():
    source = replace(rectangles(30, 30, [(3, 3, 20, 20)], [1]), mask=None, tags=None)
    found = samples.augmented(source, np.random.default_rng(5), 16, 0.5)
    assert found.mask is None and found.tags is None


def test_masks_of_objects_become_one_mask_of_classes():
    large, small, crowd = np.zeros((3, 6, 8), bool)
    large[:, :], small[1:3, 1:3], crowd[5, 7] = True, True, True
    regions = tuple(Region(6, 8, encode(mask)) for mask in (small, large, crowd))
    boxes, classes = np.zeros((3, 4), np.float32), np.array([4, 0, 0], np.int32)
    labels = ImageLabels("a.png", 8, 6, boxes, classes, np.array([False, False, True]), regions)
    mask = samples.class_mask(labels)
    assert mask[0, 0] == 1 and mask[1, 1] == 5 and mask[5, 7] == IGNORED and (mask == 5).sum() == 4
