"""Predictions in their image: what is drawn stands where it was found, and the image itself stays as it was."""

import numpy as np
from drawn_samples import rectangles

from mslab.tasks import drawing
from mslab.tasks.average_precision import Detections

IMAGE = np.full((40, 60, 3), 90, np.uint8)


def changed(picture):
    return (np.asarray(picture) != IMAGE).any(-1)


def test_boxes_are_drawn_on_their_edges():
    found = Detections(np.array([[30.0, 20, 50, 35]]), np.array([0.5]), np.array([1]))
    pixels = changed(drawing.draw_boxes(IMAGE, found, ["a", "b"]))
    assert pixels[20:35, 30].all() and pixels[20:35, 49].all() and pixels[34, 30:50].all()
    assert not pixels[:20].any() and not pixels[:, :30].any() and (IMAGE == 90).all()


def test_masks_colour_their_pixels_and_neither_ground_nor_ignored_ones():
    mask = rectangles(60, 40, [(0, 0, 10, 10)], [0]).mask.copy()
    mask[20:, 20:] = 255
    assert (changed(drawing.draw_mask(IMAGE, mask)) == (mask == 1)).all()


def test_points_below_the_least_height_are_left_out():
    points = np.array([[10, 10, 0.9], [50, 30, 0.1]])
    pixels = changed(drawing.draw_points(IMAGE, [points], [(0, 1)], least=0.5))
    assert pixels[10, 10] and not pixels[30, 50] and not pixels[20, 30]
    assert changed(drawing.draw_points(IMAGE, [points], [(0, 1)]))[20, 30]  # the line between them


def test_tags_are_written_and_nothing_if_there_are_none():
    assert changed(drawing.draw_tags(IMAGE, [("ring", 0.9)])).any()
    assert not changed(drawing.draw_tags(IMAGE, [])).any()
    none = Detections(np.zeros((0, 4)), np.zeros(0), np.zeros(0, int))
    assert not changed(drawing.draw_boxes(IMAGE, none, [])).any()


def test_neighbouring_classes_have_colours_far_apart():
    colours = np.array([drawing.colour(i) for i in range(9)], int)
    pairs = np.abs(colours[:, None] - colours[None]).sum(-1)[~np.eye(9, dtype=bool)]
    assert pairs.min() > 60
