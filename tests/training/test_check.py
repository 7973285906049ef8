"""Plain MindSpore with the files and folders that the data check refuses, and with those that it passes."""

import csv
import shutil

import numpy as np
import pytest
from checking import bad_checksum
from helpers import draw
from PIL import Image

from mslab.check import check_dataset
from mslab.errors import explain


@pytest.fixture
def root(tmp_path):
    return draw(tmp_path / "set", ["a", "b", "c"], 3)


@pytest.mark.parametrize(
    ("size", "mode", "options"),
    [
        ((1_000_001, 1), "L", {"format": "PNG"}),
        ((2**20 + 1, 1), "1", {"format": "BMP"}),
        ((2**20 + 1, 1), "1", {"format": "TIFF"}),
        ((9, 9), "F", {"format": "TIFF"}),
        ((9, 9), "RGB", {"format": "TIFF", "compression": "zstd"}),
        ((9, 9), "RGB", {"format": "TIFF", "compression": "lzma"}),
    ],
    ids=str,
)
def test_plain_mindspore_refuses_images_that_pillow_loads_and_the_check_reports(root, size, mode, options):
    import mindspore.dataset.vision as vision

    Image.new(mode, size).save(root / "a" / "x.img", **options)
    with Image.open(root / "a" / "x.img") as image:
        image.load()
    with pytest.raises(RuntimeError, match="Decode"):
        vision.Decode()(np.fromfile(root / "a" / "x.img", np.uint8))
    (root / "a" / "x.img").rename(root / "a" / "x.png")
    assert {(f.code, f.path) for f in check_dataset(root).errors} <= {("decoder", "a/x.png"), ("elongated", "a/x.png")}
    assert not check_dataset(root).ok


def test_plain_mindspore_enlarges_at_most_1000_times():
    import mindspore.dataset.vision as vision

    vision.Resize(1000)(np.zeros((1, 1, 3), np.uint8))
    for operation in (vision.Resize(1024), vision.RandomResizedCrop(1024)):
        with pytest.raises(RuntimeError) as caught:
            operation(np.zeros((1, 1, 3), np.uint8))
        assert "images of at least 8 pixels a side" in str(explain(caught.value))


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
