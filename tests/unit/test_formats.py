"""What a file is: decided by its content, in one place, for the check, import, prediction and archives alike."""

import io
import zipfile
from importlib.util import find_spec

import numpy as np
import pytest
from checking import codes_and_paths, photo
from helpers import draw
from PIL import Image

from mslab.check import check_dataset, scan
from mslab.check.formats import is_format, is_image, name_of
from mslab.check.quarantine import fix
from mslab.data.unpacking import import_archive

JPEGS = ["photo.jfif", "PHOTO.JPE", "no-suffix", "x.pjpeg", "x.jpg_large", "x.jpg:large", "x.jpg.1", "image.php"]
JPEGS += ["photo.jpg ", "photo.", "photo.txt", "photo.jpg~", "照片"]

HEIC = find_spec("pillow_heif") is not None  # an extra


@pytest.fixture
def root(tmp_path):
    return draw(tmp_path / "set", ["a", "b", "c"], 3)


def encoded(picture, kind="JPEG", **options):
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def test_a_jpeg_is_an_image_under_any_name_for_check_and_import(root, tmp_path):
    folder = root / "d"
    folder.mkdir()
    for number, name in enumerate(JPEGS):
        (folder / name).write_bytes(encoded(photo(number)))
    report = check_dataset(root)
    assert report.ok and report.counts[""]["d"] == len(JPEGS)
    assert not {code for code, path in codes_and_paths(report) if path.startswith("d")} & {"stray-file", "empty-class"}
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for path in sorted(root.rglob("*.png")) + sorted(folder.iterdir()):
            archive.write(path, path.relative_to(root))
        archive.writestr("d/notes", "no image")
        archive.writestr("d/._photo.jpg", encoded(photo()))
    assert import_archive(tmp_path / "x.zip", tmp_path / "out").images == report.images
    assert check_dataset(tmp_path / "out").fingerprint == report.fingerprint


def test_no_file_is_opened_whose_name_says_what_it_is(root, monkeypatch):
    monkeypatch.setattr(scan, "content_kind", lambda path: pytest.fail(f"{path} was opened"))
    (root / "a" / "x.jfif").write_bytes(encoded(photo()))
    assert check_dataset(root).counts[""]["a"] == 4


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("x.pdf", b"%PDF-1.7\n", "PDF"),
        ("live.MOV", b"\0\0\0\x14ftypqt  ", "a video"),
        ("x.webm", b"\x1aE\xdf\xa3", "a video"),
        ("x.zip", b"PK\3\4", "ZIP"),
        ("IMG_1.AAE", b"<?xml version='1.0'?><plist/>", "not an image"),
        ("labels.txt", b"0 0.5 0.5 1 1", "not an image"),
        ("BMW.txt", b"BM: the names of all cars in this folder", "not an image"),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0", "OLE"),
        ("._photo.jpg", b"\0\5\x16\7", "data that macOS keeps beside a file"),
        (".photo.jpg", b"\xff\xd8\xff", "a hidden file"),
        ("empty", b"", "not an image"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_no_image_is_named_and_left_out(root, name, content, kind):
    (root / "a" / name).write_bytes(content + bytes(64) * bool(content))
    report = check_dataset(root)
    (finding,) = report.findings
    assert report.ok and (finding.code, finding.path) == ("stray-file", f"a/{name}")
    assert finding.message == f"({kind}; MindSpore would try to decode it and fail. Left out)"


def raw_dng(path):
    """A preview with DNG's tag, as a camera's raw file starts."""
    photo().save(path, "TIFF", tiffinfo={50706: b"\1\4\0\0"})


def test_an_image_that_nothing_here_reads_is_an_error_that_names_it(root):
    """It is part of the class, so that leaving it out in silence would change the data."""
    files = {
        "x.CR2": b"II*\0\x10\0\0\0CR\2\0",
        "x.raf": b"FUJIFILMCCD-RAW 0201",
        "x.cr3": b"\0\0\0\x18ftypcrx ",
        "jxl": b"\xff\x0a\xfa\x7f",
        "photoshop": b"8BPS\0\1",
        "x.dcm": bytes(128) + b"DICM",
        "phone": b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic",
        "x.jpg": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
    }
    for name, content in files.items():
        (root / "a" / name).write_bytes(content + bytes(100))
    raw_dng(root / "a" / "x.dng")
    findings = {finding.path: finding for finding in check_dataset(root).errors}
    phone = findings.pop("a/phone")
    expected = ("unreadable", "(a HEIC of a kind") if HEIC else ("format", "(HEIC: MindSpore")
    assert phone.code == expected[0] and phone.message.startswith(expected[1])
    assert HEIC or phone.fix.startswith("pip install pillow-heif; then mslab check")
    names = {path: finding.message[1:].split(": Mind")[0] for path, finding in findings.items()}
    raw = "raw data of a camera"
    assert names == {
        **dict.fromkeys(("a/x.CR2", "a/x.raf", "a/x.cr3", "a/x.dng"), raw),
        "a/jxl": "JPEG XL",
        "a/photoshop": "PSD",
        "a/x.dcm": "DICOM",
        "a/x.jpg": "no image but a pointer of Git LFS: `git lfs pull` fetches the file)",
    }
    assert {finding.code for finding in findings.values()} == {"format"}


def test_a_name_that_promises_another_format_is_a_warning_and_the_image_is_used(root):
    (root / "a" / "IMG_1.HEIC").write_bytes(encoded(photo()))  # "Most Compatible" on a phone that keeps the name
    report = check_dataset(root)
    assert report.ok and report.counts[""]["a"] == 4
    assert [(f.code, f.message) for f in report.findings if f.severity != "info"] == [
        ("extension-mismatch", "(the content is JPEG, the name ends in .heic)")
    ]


def test_convert_makes_jpegs_of_avif_and_heic(root):
    (root / "a" / "x.avif").write_bytes(encoded(photo(1, (128, 96)), "AVIF", quality=95))
    expected = {"x.jpg": photo(1, (128, 96))}
    if HEIC:
        from pillow_heif import from_pillow

        from_pillow(photo(2, (128, 96))).save(root / "a" / "y.HEIC", quality=95)
        expected["y.jpg"] = photo(2, (128, 96))
    list(fix(check_dataset(root), convert=True))
    assert check_dataset(root).ok
    for name, picture in expected.items():
        with Image.open(root / "a" / name) as copy:
            assert copy.format == "JPEG"
            assert np.abs(np.asarray(copy, int) - np.asarray(picture, int)).mean() < 6


def test_every_format_that_pillow_opens_here_is_known_by_its_first_bytes():
    for kind, name in {"MPO": "JPEG", "DIB": "", "TGA": "", "ICO": ""}.items() | {(k, k) for k in ("JPEG", "PNG")}:
        if kind == "MPO":
            continue
        assert name_of(encoded(photo(), kind)) == name
    for kind in ("BMP", "GIF", "PPM", "TIFF", "WEBP", "AVIF", "JPEG2000"):
        assert name_of(encoded(photo(), kind)) == kind and is_format(kind)
    assert is_image("x.TIF") and not is_image("x.txt") and not is_image(".x.jpg")


# --- pictures with something wrong that both decoders accept ---------------------------------------------------------


def test_bytes_before_a_jpegs_end_are_named_and_harmless(root):
    content = encoded(photo(), quality=90)
    for number, junk in enumerate((bytes(36), b"\xff" * 20)):
        (root / "a" / f"{number}.jpg").write_bytes(encoded(photo(number), quality=90)[:-2] + junk + content[-2:])
    flat = encoded(Image.new("RGB", (64, 48), (9, 200, 90)), optimize=True)  # ends in data of equal bytes
    (root / "a" / "flat.jpg").write_bytes(flat)
    (root / "a" / "preview.jpg").write_bytes(encoded(photo(5)) + bytes(500))  # after the end, as phones' videos
    report = check_dataset(root)
    assert {f.path: f.message for f in report.findings if f.code == "decoder"} == {
        "a/0.jpg": "(36 bytes before its end are no picture; both decoders skip them)",
        "a/1.jpg": "(20 bytes before its end are no picture; both decoders skip them)",
    }
    assert report.ok


def test_a_jpeg_that_ends_early_in_front_of_its_end_marker_is_truncated(root):
    """Decoders paint what is missing grey and say nothing. A grey picture is one all the same."""
    content = encoded(photo(size=(200, 160)), quality=90)
    (root / "a" / "x.jpg").write_bytes(content[: len(content) * 2 // 3] + b"\xff\xd9")
    letterbox = Image.new("RGB", (200, 160), (128, 128, 128))
    letterbox.paste(photo(size=(200, 80)))
    (root / "a" / "grey.jpg").write_bytes(encoded(letterbox))
    (finding,) = check_dataset(root).errors
    assert (finding.code, finding.path) == ("truncated", "a/x.jpg") and "ends early" in finding.message


def test_a_large_photo_is_no_bomb_if_its_file_is_as_large_as_it_should_be(root):
    """Pillow's limit is 89 million pixels; phones have 108 and 200, and so have scans."""
    photo(size=(96, 96)).convert("1").resize((9600, 9600)).save(root / "a" / "plan.bmp")
    Image.new("1", (9600, 9600)).save(root / "a" / "bomb.png")
    report = check_dataset(root)
    assert [(f.code, f.path) for f in report.errors] == [("bomb", "a/bomb.png")]
    large = next(f for f in report.findings if f.code == "size" and f.path == "a/plan.bmp" and f.severity == "warning")
    assert "9600x9600: 92 million pixels" in large.message and "--convert" in large.fix


def test_a_dib_which_pillow_opens_and_mindspore_does_not_is_an_error(root):
    (root / "a" / "x.dib").write_bytes(encoded(photo(), "DIB"))
    assert [(f.code, f.path) for f in check_dataset(root).errors] == [("format", "a/x.dib")]


def test_the_projects_own_cases(cases, root):
    for path in (cases / "images").iterdir():
        (root / "a" / path.name).write_bytes(path.read_bytes())
    report = check_dataset(root)
    assert {f.path for f in report.errors} == {"a/cut.heic", "a/photo.avif"}
    assert {"a/photo.jfif", "a/PHOTO.JPE", "a/no-suffix", "a/two-pictures.mpo"} <= {
        picture.name for picture in report.splits[""].pictures
    }
    assert ("decoder", "a/junk-before-end.jpg") in codes_and_paths(report)
