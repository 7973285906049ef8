"""The contents of images in the data check: the fingerprint of a data set and near-duplicates."""

import numpy as np
import pytest
from helpers import draw
from PIL import Image

from mslab.check import check_dataset, content
from mslab.check.records import ImageRecord, Split
from mslab.check.report import DatasetReport


@pytest.fixture
def root(tmp_path):
    return draw(tmp_path / "set", ["a", "b", "c"], 3)


def test_the_fingerprint_changes_if_only_pixels_differ(root):
    """Uncompressed images have equal sizes: the names and sizes of all files are unchanged."""
    image, sizes, prints = root / "a" / "x.bmp", set(), []
    for level in (10, 200, 10):
        pixels = np.full((24, 24, 3), level, np.uint8)
        pixels[:8, :16] = level // 2
        Image.fromarray(pixels).save(image)
        sizes.add(image.stat().st_size)
        report = check_dataset(root, cache=False)
        assert report.ok and report.images == 10
        prints.append(report.fingerprint)
    assert len(sizes) == 1 and [len(text) for text in prints] == [64] * 3
    assert prints[0] != prints[1] and prints[0] == prints[2]


def test_images_that_were_saved_again_look_like_the_originals(tmp_path):
    """A strong JPEG changes some bits of some hashes."""
    (tmp_path / "set" / "a").mkdir(parents=True)
    for seed in range(6):
        coarse = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC)
        image.save(tmp_path / "set" / "a" / f"{seed}.png")
        image.save(tmp_path / "set" / "a" / f"{seed}-again.jpg", quality=50)
    report = check_dataset(tmp_path / "set")
    messages = {finding.path: finding.message for finding in report.findings if finding.code == "near-duplicate"}
    assert set(messages) == {f"a/{seed}.png" for seed in range(6)}  # the later one in the order of names
    assert all(f"looks like a/{path[2:-4]}-again.jpg: " in message for path, message in messages.items())
    assert any(": 2 of 64 bits" in message for message in messages.values())


def hashed(*hashes: int) -> DatasetReport:
    """A report on images with these perceptual hashes."""
    pictures = [
        ImageRecord(f"a/{n}.png", 1, "", sha256=bytes([n]), phash=h.to_bytes(8, "big")) for n, h in enumerate(hashes)
    ]
    return DatasetReport(root=None, splits={"": Split("", None, classes={"a": pictures})})


@pytest.mark.parametrize("bits", [[], [5], [0, 63], [16, 17, 18], [3, 30, 60], [15, 16, 47]], ids=str)
def test_hashes_that_differ_in_up_to_three_bits_are_a_pair(bits):
    base = 0x0123456789ABCDEF
    other = base
    for bit in bits:
        other ^= 1 << bit
    assert content.near_pairs(hashed(base, other)) == [(0, 1, len(bits))]


@pytest.mark.parametrize("bits", [[0, 1, 2, 3], [0, 20, 40, 63], [1, 16, 17, 18]], ids=str)
def test_hashes_that_differ_in_four_bits_are_not_a_pair(bits):
    base = 0x0123456789ABCDEF
    assert content.near_pairs(hashed(base, base ^ sum(1 << bit for bit in bits))) == []


def test_all_pairs_among_many_images_are_returned():
    """Each image is compared with every image that shares a part of its hash, not only with its neighbour."""
    rng = np.random.default_rng(0)
    hashes = [int(h) for h in rng.integers(0, 2**63, 60, dtype=np.int64)]
    hashes += [hashes[n] ^ (1 << 2 * n) ^ (1 << 63 - n) for n in range(20)]
    expected = [
        (i, j, (hashes[i] ^ hashes[j]).bit_count())
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (hashes[i] ^ hashes[j]).bit_count() <= 3
    ]
    assert len(expected) == 20 and content.near_pairs(hashed(*hashes)) == expected
