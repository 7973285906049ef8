"""Shared by the tests of the data check: photo-like images, damaged files, the findings of a report."""

import numpy as np
from PIL import Image


def photo(seed=0, size=(64, 48)):
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8))
    return coarse.resize(size, Image.Resampling.BICUBIC)


def slow_jpeg(path):
    """200 kB that take some 5 s to decode."""
    many_scans(path, (7000, 7000), 90)


def many_scans(path, size, more):
    """A JPEG with `more` scans than an encoder writes, which is six."""
    Image.new("L", size, 90).save(path, progressive=True)
    content = path.read_bytes()
    scan = content[content.rindex(b"\xff\xda") : -2]
    path.write_bytes(content[:-2] + more * scan + content[-2:])


def codes_and_paths(report):
    """{(code, path)} of the findings, without the near-duplicates that the small drawings always give."""
    return {(finding.code, finding.path) for finding in report.findings if finding.code != "near-duplicate"}


def bad_checksum(root):
    photo().save(root / "a" / "x.png")
    content = bytearray((root / "a" / "x.png").read_bytes())
    content[-5] ^= 1  # in IEND, which Pillow does not read
    (root / "a" / "x.png").write_bytes(content)
