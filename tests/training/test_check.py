"""Plain MindSpore with the files and folders that the data check refuses, and with those that it passes."""

import csv
import shutil

import numpy as np
import pytest
from checking import bad_checksum
from helpers import draw
from PIL import Image

from mslab.check import check_dataset


@pytest.fixture
def root(tmp_path):
    return draw(tmp_path / "set", ["a", "b", "c"], 3)


def test_plain_mindspore_shifts_every_label_by_the_same_folder(root):
    import mindspore.dataset as ds

    def labels():
        return sorted({int(y) for _, y in ds.ImageFolderDataset(str(root), shuffle=False).create_tuple_iterator()})

    assert labels() == [0, 1, 2]
    (root / ".checkpoint").mkdir()
    assert labels() == [1, 2, 3]  # without the check: no error, every label shifted


def test_plain_mindspore_stops_at_a_nested_folder_in_the_middle_of_an_epoch(root):
    import mindspore.dataset as ds

    (root / "a" / "deep").mkdir()
    with pytest.raises(RuntimeError, match="directory"):
        list(ds.ImageFolderDataset(str(root), shuffle=False).create_tuple_iterator())


def test_mindspore_refuses_a_png_with_a_checksum_that_pillow_ignores(root):
    import mindspore.dataset.vision as vision

    bad_checksum(root)
    with Image.open(root / "a" / "x.png") as image:
        image.load()
    with pytest.raises(RuntimeError):
        vision.Decode()(np.fromfile(root / "a" / "x.png", np.uint8))


REFUSED = {"12bit.cropped.tif", "16_bit_binary_pgm.tiff", "hopper_rle8_row_overflow.bmp"}  # by MindSpore


@pytest.fixture
def corpus(tmp_path, test_data):
    shutil.copytree(test_data / "badimages", tmp_path / "set" / "x")
    with (test_data / "badimages" / "expected.csv").open(newline="") as file:
        return tmp_path / "set", {row["file"]: set(row["findings"].split(",")) for row in csv.DictReader(file)}


def test_mindspore_decodes_the_images_of_the_corpus_that_pass(corpus):
    import mindspore.dataset.vision as vision

    folder, expected = corpus
    bad = {finding.path.removeprefix("x/") for finding in check_dataset(folder).errors}
    for name in sorted(expected.keys() - bad):
        assert vision.Decode()(np.fromfile(folder / "x" / name, np.uint8)).ndim == 3
    for name in REFUSED:
        with pytest.raises(RuntimeError):
            vision.Decode()(np.fromfile(folder / "x" / name, np.uint8))
