"""Plain MindSpore with the files and folders that the data check refuses, and with those that it passes."""

import csv
import io
import shutil
import struct

import numpy as np
import pytest
from checking import bad_checksum, photo
from helpers import draw
from PIL import Image, ImageCms

from mslab.check import check_dataset, worker
from mslab.check.quarantine import fix
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


# --- the pixels of both decoders -------------------------------------------------------------------------------------


def tiff(array, colours, tile=0, samples=1):
    """A small uncompressed TIFF: colours is tag 262; `tile` pixels a side, or one strip."""
    height, width = array.shape[:2]
    depth = 8 * array.itemsize
    blocks = [array]
    if tile:
        padded = np.zeros((-(-height // tile) * tile, -(-width // tile) * tile, *array.shape[2:]), array.dtype)
        padded[:height, :width] = array
        corners = [(y, x) for y in range(0, len(padded), tile) for x in range(0, padded.shape[1], tile)]
        blocks = [padded[y : y + tile, x : x + tile] for y, x in corners]
    data, offsets = b"", []
    for block in blocks:
        offsets.append(8 + len(data))
        data += block.tobytes()
    at = 8 + len(data)
    lists = struct.pack(f"<{len(offsets)}I", *offsets)
    lists += struct.pack(f"<{len(offsets)}I", *[block.nbytes for block in blocks]) + struct.pack("<5H", *[depth] * 5)
    where, count = {}, len(offsets)
    where["offsets"], where["counts"], where["bits"] = at, at + 4 * count, at + 8 * count
    entries = [(256, 3, 1, width), (257, 3, 1, height), (259, 3, 1, 1), (262, 3, 1, colours), (277, 3, 1, samples)]
    entries += [(258, 3, samples, where["bits"] if samples > 2 else depth), (339, 3, 1, 1)][: 1 + (samples == 1)]
    entries += [(322, 3, 1, tile), (323, 3, 1, tile)] if tile else [(278, 3, 1, height)]
    for tag, key in zip((324, 325) if tile else (273, 279), ("offsets", "counts"), strict=True):
        single = offsets[0] if key == "offsets" else blocks[0].nbytes
        entries.append((tag, 4, count, where[key] if count > 1 else single))
    entries += [(338, 3, 2, 0)] if samples == 5 else []
    table = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return (
        b"II*\0"
        + struct.pack("<I", at + len(lists))
        + data
        + lists
        + struct.pack("<H", len(entries))
        + table
        + bytes(4)
    )


def without_adobes_mark(content):
    at = content.index(b"\xff\xee")
    return content[:at] + content[at + 2 + int.from_bytes(content[at + 2 : at + 4], "big") :]


def odd_images():
    """{name: bytes} of images that decoders could read differently."""

    def saved(picture, kind, **options):
        picture.save(buffer := io.BytesIO(), kind, **options)
        return buffer.getvalue()

    image = photo(size=(96, 72))
    grey, inks = image.convert("L"), image.convert("CMYK")
    pixels, wide = np.asarray(image), np.asarray(grey).astype(np.uint16) * 257
    clear = Image.merge("RGBA", (*image.split(), Image.linear_gradient("L").resize(image.size)))
    jpeg, inked, exif = saved(image, "JPEG"), saved(inks, "JPEG"), Image.Exif()
    exif[274] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    palette = image.quantize(17)
    files = {f"{mode}.png": saved(image.convert(mode), "PNG") for mode in ("RGB", "L", "P", "1", "LA")}
    files |= {f"{mode}.tif": saved(image.convert(mode), "TIFF") for mode in ("RGB", "L", "P", "1", "CMYK", "LAB")}
    files |= {f"{mode}.bmp": saved(image.convert(mode), "BMP") for mode in ("RGB", "L", "P", "1")}
    files |= {f"{kind}.jpg": saved(image, "JPEG", subsampling=kind, progressive=kind == 2) for kind in (0, 1, 2)}
    files |= {"clear.png": saved(clear, "PNG"), "clear.tif": saved(clear, "TIFF"), "clear.bmp": saved(clear, "BMP")}
    files |= {"palette.png": saved(palette, "PNG", transparency=3), "trns.png": saved(grey, "PNG", transparency=100)}
    files |= {
        "junk.jpg": jpeg[:-2] + bytes(36) + jpeg[-2:],
        "after.jpg": jpeg + bytes(999),
        "grey.jpg": saved(grey, "JPEG"),
    }
    files |= {"inks.jpg": inked, "ycck.jpg": inked.replace(b"Adobe\0d\0\0\0\0\0", b"Adobe\0d\0\0\0\0\2")}
    files |= {"inks-without-mark.jpg": without_adobes_mark(inked), "exif.jpg": saved(image, "JPEG", exif=exif)}
    files |= {"exif.tif": saved(image, "TIFF", exif=exif), "exif.png": saved(image, "PNG", exif=exif)}
    files |= {"icc.jpg": saved(image, "JPEG", icc_profile=profile), "rgb.jpg": saved(image, "JPEG", keep_rgb=True)}
    files |= {"wide.png": saved(Image.fromarray(wide), "PNG"), "wide.tif": saved(Image.fromarray(wide), "TIFF")}
    files |= {"tiles-32.tif": tiff(pixels, 2, 32, 3), "tiles-16.tif": tiff(pixels, 2, 16, 3)}
    files |= {"five.tif": tiff(np.dstack([pixels, pixels[..., :2]]), 2, samples=5)}
    return files | {"inks-wide.tif": tiff(np.dstack([wide] * 4), 5, samples=4)}


def test_both_decoders_see_the_same_pixels_or_the_check_says_so_with_a_way(root):
    """Measured with MindSpore 2.8.0: what it refuses or misreads is an error or a warning that --convert mends."""
    import mindspore.dataset.vision as vision

    files = odd_images()
    for name, content in files.items():
        (root / "a" / name).write_bytes(content)
    report = check_dataset(root, skip_content=True)
    codes = {
        name: {f.code for f in report.findings if f.path == f"a/{name}" and "--convert" in f.fix} for name in files
    }
    different = set()
    for name, content in files.items():
        with worker.load_image(content)[0] as image:
            expected = np.asarray(worker.plain(image).convert("RGB"))
        try:
            seen = vision.Decode()(np.frombuffer(content, np.uint8))
        except RuntimeError:
            assert "decoder" in codes[name], name
            different.add(name)
            continue
        if not np.array_equal(seen, expected):
            assert codes[name], name
            different.add(name)
    refused = {"five.tif", "inks-wide.tif", "tiles-16.tif"}
    assert different == {"LAB.tif", "clear.tif", "inks-without-mark.jpg"} | refused
    list(fix(report, convert=True))
    assert check_dataset(root, skip_content=True).ok
