"""A scan of 108 million pixels: checked, decoded by MindSpore to the same pixels, and scaled by --convert."""

import mindspore.dataset.vision as vision
import numpy as np
from checking import photo
from helpers import draw
from PIL import Image

from mslab.check import check_dataset, worker
from mslab.check.quarantine import fix


def test_a_large_scan_trains_as_it_was_seen_and_convert_scales_it(tmp_path):
    root = draw(tmp_path / "set", ["a", "b"], 3)
    file, exif = root / "a" / "scan.jpg", Image.Exif()
    exif[274] = 6
    photo(size=(1200, 900)).resize((12000, 9000)).save(file, quality=90, exif=exif)
    report = check_dataset(root)
    assert report.ok and {f.code for f in report.findings if f.path == "a/scan.jpg" and f.severity == "warning"} == {
        "size",
        "exif-orientation",
    }
    with worker.load_image(file.read_bytes())[0] as image:
        assert np.array_equal(np.asarray(image)[::50], vision.Decode()(np.fromfile(file, np.uint8))[::50])
    list(fix(report, convert=True))
    with Image.open(file) as copy:
        assert copy.size == (3072, 4096)
    assert not [f for f in check_dataset(root).findings if f.path == "a/scan.jpg" and f.severity != "info"]
