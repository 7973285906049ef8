"""The data check on real files: every code is provoked, and the case of the original lab is tested."""

import csv
import json
import os
import re
import shutil
import subprocess
import textwrap
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from checking import bad_checksum, codes_and_paths, many_scans, photo, slow_jpeg
from helpers import PROJECT, cli, draw
from PIL import Image, UnidentifiedImageError

from mslab.check import DatasetReport, Finding, cache, check_dataset, layout, pool, quarantine, worker
from mslab.errors import DatasetError, DeviceError
from mslab.evaluation import metrics


@pytest.fixture
def root(tmp_path):
    return draw(tmp_path / "set", ["a", "b", "c"], 3)


# --- one wrong file or folder, and the one finding that it must give -------------------------------------------------


def stray(root):
    (root / ".checkpoint").mkdir()


def empty(root):
    (root / "d").mkdir()


def nested(root):
    (root / "a" / "deep").mkdir()


def collision(root):
    shutil.copytree(root / "a", root / "A")
    for index, path in enumerate(sorted((root / "A").iterdir())):
        photo(index).save(path)


def link_out(root):
    photo().save(root.parent / "elsewhere.png")
    (root / "a" / "linked.png").symlink_to(root.parent / "elsewhere.png")


def broken_link(root):
    (root / "a" / "gone.png").symlink_to(root / "nowhere.png")


def zero(root):
    (root / "a" / "x.png").write_bytes(b"")


def text_image(root):
    (root / "a" / "x.png").write_text("no image")


def pipe(root):
    os.mkfifo(root / "a" / "x.png")


def cut(root):
    photo(size=(200, 200)).save(root / "a" / "x.jpg")
    content = (root / "a" / "x.jpg").read_bytes()
    (root / "a" / "x.jpg").write_bytes(content[: len(content) // 2])


def bomb(root):
    Image.new("1", (10_000, 9_000)).save(root / "a" / "x.png")


def ribbon(root):
    Image.new("1", (1_100_000, 32)).save(root / "a" / "x.png")  # MindSpore's limit for a PNG is 1,000,000


def tape(root):
    Image.new("L", (20, 5121), 90).save(root / "a" / "x.jpg")


def scans(root):
    many_scans(root / "a" / "x.jpg", (64, 48), 95)


def scans_with_gaps(root):
    """libjpeg skips bytes between segments, and Pillow loads such a file."""
    many_scans(root / "a" / "x.jpg", (64, 48), 95)
    content = (root / "a" / "x.jpg").read_bytes()
    first = content.index(b"\xff\xda")
    (root / "a" / "x.jpg").write_bytes(content[:first] + content[first:].replace(b"\xff\xda", b"\0\0\xff\xff\xda"))


def unpadded(root):
    """Pillow does without the bytes that fill a BMP's last row up to a multiple of four."""
    photo(size=(41, 40)).save(root / "a" / "x.bmp")
    content = (root / "a" / "x.bmp").read_bytes()
    (root / "a" / "x.bmp").write_bytes(content[:-1])


def scans_of_one_component(root):
    """A JPEG with its three components one after the other, many times."""
    photo().save(root / "a" / "x.jpg")
    content = (root / "a" / "x.jpg").read_bytes()
    first = content.index(b"\xff\xda")
    parts = [b"\xff\xda\0\x08\1%c\0\0\x3f\0\xff\xd0" % number for number in (1, 2, 3)]
    (root / "a" / "x.jpg").write_bytes(content[:first] + b"".join(parts * 40) + b"\xff\xd9")


def eps(root):
    (root / "a" / "x.jpg").write_bytes(EPS)


def zstandard(root):
    photo().save(root / "a" / "x.tif", compression="zstd")


def lzma(root):
    photo().save(root / "a" / "x.tif", compression="lzma")


def gif(root):
    photo().save(root / "a" / "x.gif")


def webp(root):
    photo().save(root / "a" / "x.webp")


def two_labels(root):
    shutil.copy(root / "a" / "000.png", root / "b" / "x.png")


def thumbs(root):
    (root / "b" / "Thumbs.db").write_bytes(b"x")


def beside(root):
    (root / "readme.txt").write_text("x")


def numbers(root):
    for old, new in zip("abc", ("1", "2", "10"), strict=True):
        (root / old).rename(root / new)


def misnamed(root):
    photo().save(root / "a" / "x.jpg", format="PNG")


def animated(root):
    photo(1).save(root / "a" / "x.png", save_all=True, append_images=[photo(2)])


def inks(root):
    photo().convert("CMYK").save(root / "a" / "x.jpg")


def alpha(root):
    photo().convert("RGBA").save(root / "a" / "x.png")


def turned(root):
    exif = Image.Exif()
    exif[274] = 6
    photo().save(root / "a" / "x.jpg", exif=exif)


def tiny(root):
    photo(size=(31, 40)).save(root / "a" / "x.png")


def blank(root):
    Image.new("RGB", (40, 40), "navy").save(root / "a" / "x.png")


def twice(root):
    with Image.open(root / "a" / "000.png") as image:
        image.save(root / "a" / "x.bmp")  # other bytes, the same pixels


def uneven(root):
    for number in range(12):
        photo(number).save(root / "a" / f"x{number}.png")


def alone(root):
    (root / "d").mkdir()
    photo().save(root / "d" / "x.png")


def one_size(root):
    for name, size in (("a", (60, 40)), ("b", (40, 40)), ("c", (40, 40))):
        for number in range(12):
            photo(number + 100 * ord(name), size).save(root / name / f"x{number}.jpg")
        for old in root.glob(f"{name}/*.png"):
            old.unlink()


def one_light(root):
    for name, lift in (("a", 170), ("b", 0), ("c", 0)):
        for number in range(12):
            image = photo(number + 100 * ord(name)).point(lambda value, lift=lift: value // 3 + lift)
            image.save(root / name / f"x{number}.jpg")
        for old in root.glob(f"{name}/*.png"):
            old.unlink()


def grey(root):
    photo().convert("L").save(root / "a" / "x.png")


def palette(root):
    photo().convert("P").save(root / "a" / "x.png")


def strip(root):
    photo(size=(200, 50)).save(root / "a" / "x.png")


def huge(root):
    photo(size=(200, 190)).save(root / "a" / "x.png")


def formula(root):
    photo().save(root / "a" / '=x"y.png')


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"
CASES = [
    ("stray-folder", "error", stray, ".checkpoint/"),
    ("empty-class", "error", empty, "d/"),
    ("nested-folder", "error", nested, "a/deep/"),
    ("case-collision", "error", collision, "a"),
    ("symlink", "error", link_out, "a/linked.png"),
    ("broken-symlink", "warning", broken_link, "a/gone.png"),
    ("zero-byte", "error", zero, "a/x.png"),
    ("unreadable", "error", text_image, "a/x.png"),
    ("unreadable", "error", pipe, "a/x.png"),
    ("truncated", "error", cut, "a/x.jpg"),
    ("truncated", "error", unpadded, "a/x.bmp"),
    ("bomb", "error", bomb, "a/x.png"),
    ("format", "error", gif, "a/x.gif"),
    ("format", "error", webp, "a/x.webp"),
    ("format", "error", eps, "a/x.jpg"),
    ("elongated", "error", ribbon, "a/x.png"),
    ("elongated", "error", tape, "a/x.jpg"),
    ("slow", "error", scans, "a/x.jpg"),
    ("slow", "error", scans_with_gaps, "a/x.jpg"),
    ("slow", "error", scans_of_one_component, "a/x.jpg"),
    ("decoder", "error", bad_checksum, "a/x.png"),
    ("decoder", "error", zstandard, "a/x.tif"),
    ("decoder", "error", lzma, "a/x.tif"),
    ("label-conflict", "error", two_labels, "b/x.png"),
    ("stray-file", "warning", thumbs, "b/Thumbs.db"),
    ("loose-file", "warning", beside, "readme.txt"),
    ("numeric-order", "warning", numbers, "."),
    ("extension-mismatch", "warning", misnamed, "a/x.jpg"),
    ("animated", "warning", animated, "a/x.png"),
    ("mode", "warning", inks, "a/x.jpg"),
    ("mode", "warning", alpha, "a/x.png"),
    ("exif-orientation", "warning", turned, "a/x.jpg"),
    ("small", "warning", tiny, "a/x.png"),
    ("blank", "warning", blank, "a/x.png"),
    ("duplicate", "warning", twice, "a/x.bmp"),
    ("imbalance", "warning", uneven, "."),
    ("too-few", "warning", alone, "d/"),
    ("shortcut", "warning", one_size, "a/"),
    ("shortcut", "warning", one_light, "a/"),
    ("mode", "info", grey, "a/"),
    ("mode", "info", palette, "a/"),
    ("aspect", "info", strip, "a/x.png"),
    ("size", "info", huge, "a/x.png"),
    ("name", "info", formula, 'a/=x"y.png'),
]
ELSEWHERE = {  # codes with their own tests below
    "class-count", "class-missing", "class-extra", "wrong-level", "permission", "split-leak", "timeout", "crash",
    "unused-folder", "near-duplicate", "split-name", "inner-folder",
    "centre-crop",  # in test_shapes.py
    "class-unknown", "class-ungrouped", "class-name-taken", "class-part",  # in test_class_folders.py
    "row-without-image", "image-without-row",  # in test_labels.py
    "group-leak",  # in test_splitting.py
}  # fmt: skip


def is_chinese(text: str) -> bool:
    return re.search("[\u4e00-\u9fff]", text) is not None


@pytest.mark.parametrize(
    ("code", "severity", "provoke", "path"), CASES, ids=lambda case: getattr(case, "__name__", None)
)
def test_one_thing_wrong_is_one_finding(root, code, severity, provoke, path):
    provoke(root)  # the folder was clean: test_a_clean_folder_has_no_error_and_no_warning
    report = check_dataset(root)
    infos = {(f.code, f.path) for f in report.findings if f.severity == "info" != severity}
    assert codes_and_paths(report) - infos == {(code, path)}
    finding = next(finding for finding in report.findings if finding.code == code)
    assert finding.severity == severity and len(finding.message) > 10 and finding.fix
    assert is_chinese(finding.shown("zh").message) and all(map(is_chinese, finding.shown("zh").fix.split("\n")))
    assert report.ok == (severity != "error")


def test_every_code_is_documented_and_provoked():
    text = (PROJECT / "docs" / "checker.md").read_text()
    documented = set(re.findall(r"^\| \*\*([a-z-]+)\*\*", text, re.M))
    assert documented == {case[0] for case in CASES} | ELSEWHERE
    files = [
        path for path in Path(layout.__file__).parent.glob("*.py") if not path.stem.startswith(("label_", "mask_"))
    ]
    sources = "".join(path.read_text() for path in files)  # the others are in docs/labels.md: test_label_check.py
    in_code = set(re.findall(r'(?:Finding\(|UnusableImage\(|"code": )\s*"([a-z-]+)"', sources))
    assert len(in_code) > 20 and in_code <= documented


# --- the lab's own case ----------------------------------------------------------------------------------------------


def test_a_clean_folder_has_no_error_and_no_warning(root):
    report = check_dataset(root, class_num=3)
    assert report.ok and codes_and_paths(report) == set() and report.class_names == ["a", "b", "c"]
    assert report.counts == {"": {"a": 3, "b": 3, "c": 3}} and len(report.fingerprint) == 64
    files, labels = report.samples("")
    assert labels == [0, 0, 0, 1, 1, 1, 2, 2, 2] and files[3] == root / "b" / "000.png"


def test_every_file_with_an_error_is_moved_or_converted_by_the_command_that_its_fix_shows(root):
    for number, (code, severity, provoke, path) in enumerate(CASES):
        if severity == "error" and path.startswith("a/x.") and code not in ("symlink", "bomb"):
            provoke(root)
            (root / path).rename(root / "abc"[number % 3] / f"{number}{Path(path).suffix}")
    errors = check_dataset(root, skip_content=True).errors
    assert {"elongated", "slow", "decoder", "format", "truncated", "zero-byte"} <= {finding.code for finding in errors}
    assert all(re.search("mslab check .* (--fix|--convert)    ", finding.fix) for finding in errors)
    for convert in (True, False):
        list(quarantine.fix(check_dataset(root, skip_content=True), convert=convert))
    assert not check_dataset(root, skip_content=True).errors


def test_the_labs_own_case_one_error_that_names_the_folder(root):
    (root / ".checkpoint").mkdir()
    report = check_dataset(root, class_num=3)
    assert [finding.code for finding in report.errors] == ["stray-folder"]
    with pytest.raises(DatasetError) as caught:
        report.raise_errors("x.yaml says class_num: 3")
    text = str(caught.value)
    assert text.startswith(f"{root} has 4 class folders, x.yaml says class_num: 3.")
    assert (
        ".checkpoint/ (empty; not a class of images. MindSpore would make it class 0 and shift every later label"
        in text
    )
    assert f"mslab check {root} --fix    moves it to {root}.quarantine/" in text and "expected" in text


@pytest.mark.parametrize(
    "name", ["__MACOSX", ".ipynb_checkpoints", ".git", "@eaDir", "lost+found", "kernel_meta", "rank_0"]
)
def test_junk_folders_are_strays(root, name):
    (root / name).mkdir()
    (root / name / "x.txt").write_text("x")
    assert codes_and_paths(check_dataset(root)) == {("stray-folder", f"{name}/")}


def test_a_visible_folder_with_images_is_a_class_whatever_its_name(root):
    for old, new in zip("ab", ("rank_0", "rank_1"), strict=True):
        (root / old).rename(root / new)
    report = check_dataset(root)
    assert report.ok and report.counts == {"": {"c": 3, "rank_0": 3, "rank_1": 3}}


# --- classes, splits, levels -----------------------------------------------------------------------------------------


def test_a_class_num_that_disagrees_lists_the_folders(root):
    report = check_dataset(root, class_num=2)
    assert codes_and_paths(report) == {("class-count", ".")}
    assert "has 3 class folders (a, b, c), class_num is 2" in report.findings[0].message
    assert report.findings[0].fix == "class_num: 3, or the folder with 2 classes"


def test_train_and_val_that_disagree(tmp_path):
    draw(tmp_path / "train", ["a", "b"], 2)
    draw(tmp_path / "val", ["a", "c"], 2, seed=1)
    report = check_dataset(tmp_path / "train", tmp_path / "val")
    assert codes_and_paths(report) == {("class-missing", "val/b/"), ("class-extra", "val/c/")}


def test_classes_are_in_the_order_in_which_python_sorts_their_names(tmp_path):
    draw(tmp_path / "train", ["b", "Z", "ä", "A"], 2)
    draw(tmp_path / "val", ["b", "Z", "ä", "A"], 1, seed=1)
    assert check_dataset(tmp_path).class_names == ["A", "Z", "b", "ä"]  # as MindSpore's ImageFolderDataset has them


def test_a_class_with_another_spelling_in_val_is_reported(tmp_path):
    draw(tmp_path / "train", ["Amanita", "b"], 2)
    draw(tmp_path / "val", ["amanita", "b"], 2, seed=1)
    report = check_dataset(tmp_path)
    assert codes_and_paths(report) == {("class-missing", "val/Amanita/"), ("class-extra", "val/amanita/")}
    assert "rename 'amanita' to 'Amanita'" in str(report)


def test_names_that_differ_by_unicode_form_only(root):
    for form in ("NFC", "NFD"):
        folder = root / unicodedata.normalize(form, "Träuschling")
        folder.mkdir()
        for number in range(3):
            photo(number + len(form) * len(folder.name)).save(folder / f"{number}.png")
    report = check_dataset(root)
    assert [finding.code for finding in report.errors] == ["case-collision"] and "Unicode form" in str(report)


def test_file_names_that_differ_by_capitals_only(root):
    photo().save(root / "a" / "X.png")
    photo(1).save(root / "a" / "x.PNG")
    assert codes_and_paths(check_dataset(root)) == {("case-collision", "a/x.PNG")}


def test_a_parent_of_splits_is_recognised_and_a_folder_of_the_wrong_level_reported(tmp_path):
    for seed, split in enumerate(("train", "val")):
        draw(tmp_path / "p" / split, ["a", "b"], 2, seed)
    assert set(check_dataset(tmp_path / "p").splits) == {"train", "val"}
    report = check_dataset(tmp_path / "p", tmp_path / "p" / "val")
    assert ("wrong-level", ".") in codes_and_paths(report) and "contains the splits train, val" in str(report)
    report = check_dataset(tmp_path / "p" / "train" / "a")
    assert codes_and_paths(report) == {("wrong-level", ".")} and "it is one class" in str(report)
    (tmp_path / "nothing").mkdir()
    assert codes_and_paths(check_dataset(tmp_path / "nothing")) == {("wrong-level", ".")}


def test_a_folder_beside_the_splits_is_reported(tmp_path):
    for seed, split in enumerate(("train", "spare", "train.quarantine", ".git")):
        draw(tmp_path / split, ["a", "b"], 2, seed)
    assert codes_and_paths(check_dataset(tmp_path)) == {("unused-folder", "spare/")}


def test_links_that_loop_and_links_that_stay_inside(root):
    (root / "loop").symlink_to(root)
    (root / "a" / "self").symlink_to("self")
    report = check_dataset(root)
    assert {(f.code, f.path) for f in report.errors} == {("symlink", "loop"), ("symlink", "a/self")}
    (root / "loop").unlink()
    (root / "a" / "self").unlink()
    (root / "a" / "inside.png").symlink_to(root / "a" / "000.png")
    assert codes_and_paths(check_dataset(root)) == {("duplicate", "a/inside.png")}


def test_folders_and_files_that_do_not_belong(root):
    (root / "a" / "deep").mkdir()
    (root / "b" / "._000.png").write_bytes(b"x")
    (root / ".DS_Store").write_text("x")
    report = check_dataset(root)
    assert codes_and_paths(report) == {
        ("nested-folder", "a/deep/"),
        ("stray-file", "b/._000.png"),
        ("loose-file", ".DS_Store"),
    }


def test_suffixes_in_capitals_are_images(root):
    (root / "a" / "000.png").rename(root / "a" / "000.PNG")
    report = check_dataset(root)
    assert report.ok and report.counts[""]["a"] == 3


# --- equal images ----------------------------------------------------------------------------------------------------


@pytest.fixture
def splits(tmp_path):
    for seed, split in enumerate(("train", "val", "test")):
        draw(tmp_path / "set" / split, ["a", "b"], 3, seed)
    return tmp_path / "set"


def test_equal_pixels_in_two_splits_are_a_leak(splits):
    with Image.open(splits / "train" / "a" / "000.png") as image:
        image.save(splits / "test" / "a" / "x.bmp")
    report = check_dataset(splits)
    assert codes_and_paths(report) == {("split-leak", "test/a/x.bmp")} and not report.ok
    assert "the same pixels as train/a/000.png: training and evaluation share this image" in str(report)


def test_equal_pixels_under_two_labels_and_in_two_splits_are_two_findings(splits):
    shutil.copy(splits / "train" / "a" / "000.png", splits / "val" / "b" / "x.png")
    assert codes_and_paths(check_dataset(splits)) == {("label-conflict", "val/b/x.png"), ("split-leak", "val/b/x.png")}


def test_the_same_folder_twice_is_one_finding(splits):
    report = check_dataset(splits / "train", splits / "train")
    assert [finding.code for finding in report.errors] == ["split-leak"]
    assert "val is the same folder as train" in str(report)


def test_a_resized_and_recompressed_copy_is_a_near_duplicate(splits):
    photo(7, (320, 240)).save(splits / "train" / "a" / "x.png")
    photo(7, (320, 240)).resize((200, 150)).save(splits / "val" / "a" / "y.jpg", quality=70)
    findings = [f for f in check_dataset(splits).findings if f.code == "near-duplicate" and f.path.endswith("y.jpg")]
    assert [(f.severity, f.path) for f in findings] == [("info", "val/a/y.jpg")]
    assert "looks like train/a/x.png, which is in train" in findings[0].message


def test_skip_content_skips_the_content_rules_and_no_others(splits):
    shutil.copy(splits / "train" / "a" / "000.png", splits / "test" / "b" / "x.png")
    (splits / "train" / "a" / "bad.png").write_text("no image")
    (splits / "val" / ".checkpoint").mkdir()
    report = check_dataset(splits, skip_content=True)
    assert {finding.code for finding in report.errors} == {"unreadable", "stray-folder"}
    assert {finding.code for finding in check_dataset(splits).errors} > {"label-conflict", "split-leak"}


def test_a_batch_that_cannot_be_filled_and_a_crop_that_is_too_large(root):
    report = check_dataset(root, image_size=64, batch_size=16)
    assert ("too-few", ".") in codes_and_paths(report) and "9 images, fewer than one batch of 16" in str(report)
    assert sum(code == "small" for code, _ in codes_and_paths(report)) == 9 and "below image_size: 64" in str(report)


# --- files of other formats ------------------------------------------------------------------------------------------


def test_no_program_is_started_for_an_eps_file(root, monkeypatch):
    """Neither in a worker nor where checked images are opened again, under any name."""
    files = [root / "a" / f"x{suffix}" for suffix in (".jpg", ".png", ".eps", ".tif")]
    for number, file in enumerate(files):  # the second kind has a preview for DOS around it
        file.write_bytes(EPS if number % 2 == 0 else b"\xc5\xd0\xd3\xc6" + (30).to_bytes(4, "little") + bytes(22) + EPS)
    started = root.parent / "started"
    (root.parent / "bin").mkdir()
    (root.parent / "bin" / "gs").write_text(f"#!/bin/sh\necho $@ >> {started}\nexit 0\n")
    (root.parent / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{root.parent / 'bin'}:{os.environ['PATH']}")
    for request in worker.REQUESTS:
        answers = [answer for _, answer in pool.ask(request, files)]
        assert answers == [{"code": "format", "problem": f"EPS: {worker.UNSUPPORTED}"}] * len(files)
    for file in files:
        with pytest.raises(UnidentifiedImageError):
            metrics.thumbnails([file])
    assert not started.exists()


def test_a_pillow_without_avif_opens_the_other_formats(root, monkeypatch):
    Image.init()
    monkeypatch.delitem(Image.OPEN, "AVIF")  # as in Pillow 10
    photo().save(root / "a" / "x.tga")
    assert metrics.thumbnails([root / "a" / "x.tga"]).shape == (1, 192)
    (root / "a" / "x.tga").write_bytes(EPS)
    with pytest.raises(UnidentifiedImageError):
        metrics.thumbnails([root / "a" / "x.tga"])


STARTS = {
    "pdf": b"%PDF-1.7\n",
    "psd": b"8BPS\0\1",
    "svg": b'<?xml version="1.0"?>\n<!-- drawn -->\n<svg xmlns="http://www.w3.org/2000/svg"/>',
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "jpeg xl": b"\xff\x0a\xfa\x7f",
    "html": b"\n\n<!DOCTYPE HTML><html>not found</html>",
    "a video": b"\0\0\0\x20ftypisom\0\0\2\0",
    "ole": b"\xd0\xcf\x11\xe0",  # Thumbs.db
}
OPENED = {"gif": "GIF", "webp": "WEBP", "ppm": "PPM", "jp2": "JPEG2000", "avif": "AVIF", "ico": "ICO", "tga": "TGA"}


def test_the_format_of_a_file_that_is_no_jpeg_is_named(root):
    for name, content in STARTS.items():
        (root / "a" / f"{name}.jpg").write_bytes(content + bytes(100))
    for number, (suffix, name) in enumerate(OPENED.items()):
        photo(number).save(root / "b" / f"{suffix}.png", name)
    findings = {Path(f.path).stem: f.message for f in check_dataset(root).errors if f.code == "format"}
    others = {"pdf": "PDF", "html": "HTML", "a video": "a video", "ole": "OLE"}
    names = {name: name.upper() for name in STARTS.keys() - others} | OPENED
    expected = {stem: f"({name}: {worker.UNSUPPORTED})" for stem, name in names.items()}
    assert findings == expected | {stem: f"(no image but {name})" for stem, name in others.items()}


def test_a_tiff_of_floating_point_numbers_is_an_error(root):
    Image.fromarray(np.linspace(0, 255, 2400, dtype=np.float32).reshape(40, 60)).save(root / "a" / "x.tif")
    assert {(f.code, f.path) for f in check_dataset(root).errors} == {("decoder", "a/x.tif")}


def test_the_pages_of_a_tiff_are_counted_up_to_a_hundred(root):
    """Pillow needs 19 s to count 20,000 pages: it compares each with all others."""
    pages = [photo(number, (8, 6)) for number in range(3)]
    pages[0].save(root / "a" / "3.tif", save_all=True, append_images=pages[1:])
    pages[0].save(root / "b" / "many.tif", save_all=True, append_images=pages[1:] * 60)
    messages = {f.path: f.message for f in check_dataset(root).findings if f.code == "animated"}
    assert messages["a/3.tif"].startswith("(3 frames") and messages["b/many.tif"].startswith("(100 or more frames")


def test_a_preview_or_a_video_in_a_jpeg_is_no_scan(root):
    """A phone's camera appends a film of seconds, in which the bytes of a scan's marker occur by chance."""
    photo().save(root / "a" / "x.jpg", comment=b"\xff\xda\xff\xd9" * 120, progressive=True)
    with (root / "a" / "x.jpg").open("ab") as file:
        file.write(bytes(2) + b"\xff\xda\0\2" * 500)
    many_scans(root / "b" / "x.jpg", (64, 48), 94)
    assert not {"slow"} & {code for code, _ in codes_and_paths(check_dataset(root))}


def test_an_image_that_mindspore_cannot_enlarge_stops_training_before_it_starts(root):
    photo(size=(4, 4)).save(root / "a" / "x.png")
    (finding,) = [f for f in check_dataset(root, image_size=1024).errors if f.code == "small"]
    assert "4x4 pixels: MindSpore enlarges at most 1000 times, not to 1024 pixels" in finding.message
    assert check_dataset(root, image_size=1000).ok


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["pipe", "device"])
def test_a_pipe_or_a_device_is_not_read(tmp_path, make, monkeypatch):
    monkeypatch.setattr(pool, "SECONDS", 1)
    make(tmp_path / "x.jpg")
    ((_, answer),) = pool.ask("look", [tmp_path / "x.jpg"])
    assert answer == {"code": "unreadable", "problem": "not a regular file but a pipe or a device"}


# --- files that harm a worker -----------------------------------------------------------------------------------------


def test_a_file_that_takes_too_long_is_a_finding_and_the_check_continues(root, monkeypatch):
    slow_jpeg(root / "b" / "slow.jpg")
    monkeypatch.setattr(pool, "SECONDS", 0.5)
    report = check_dataset(root)
    assert codes_and_paths(report) == {("timeout", "b/slow.jpg")}
    assert "took more than 0.5 s" in str(report) and report.counts[""]["c"] == 3


def test_a_file_that_takes_too_much_memory_is_a_finding(root, monkeypatch):
    Image.new("RGB", (7000, 7000)).save(root / "b" / "large.png")  # below Pillow's threshold, 147 MB when loaded
    monkeypatch.setattr(pool, "MEMORY", 150 << 20)
    report = check_dataset(root)
    assert codes_and_paths(report) == {("crash", "b/large.png")} and "more memory than a worker has" in str(report)


def test_a_worker_that_dies_or_hangs_is_a_finding_and_the_check_continues(root, monkeypatch):
    monkeypatch.setattr(pool, "SECONDS", 0.5)
    for name in ("die", "hang"):
        photo(len(name)).save(root / "b" / f"{name}.png")
    patch = root.parent / "patch" / "sitecustomize.py"
    patch.parent.mkdir()
    patch.write_text(  # a real process that fails on two files
        "import os, pathlib, time\nold = pathlib.Path.read_bytes\ndef read(path):\n"
        "    if path.name == 'die.png': os.kill(os.getpid(), 11)\n"
        "    if path.name == 'hang.png': time.sleep(60)\n    return old(path)\npathlib.Path.read_bytes = read\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(patch.parent))
    report = check_dataset(root)
    assert codes_and_paths(report) == {("crash", "b/die.png"), ("timeout", "b/hang.png")}
    assert "died with exit code -11" in str(report) and report.counts[""]["c"] == 3


@pytest.fixture
def started(monkeypatch):
    """Every worker process that is started. The first `started.killed` of them are killed before they are ready."""
    processes, popen = Processes(), subprocess.Popen

    def start(*arguments, **options):
        processes.append(popen(*arguments, **options))
        if len(processes) <= processes.killed:
            processes[-1].kill()
        return processes[-1]

    monkeypatch.setattr(pool.subprocess, "Popen", start)
    return processes


class Processes(list):
    killed = 0  # how many of the first processes to kill


def test_workers_that_are_killed_from_outside_are_replaced(tmp_path, started, monkeypatch):
    monkeypatch.setattr(pool, "BATCH", 2)  # small batches, so that work is left after each kill
    draw(tmp_path / "set", ["a", "b"], 100)
    killed = []

    def kill(done, total):
        """Kill a worker in each of the first three quarters of the images."""
        if len(killed) < 3 and done > len(killed) * total // 4:
            killed.append(next(process for process in started if process.poll() is None))
            killed[-1].kill()

    report = check_dataset(tmp_path / "set", cache=False, progress=kill)
    assert len(killed) == 3 and report.images == 200
    assert len([p for p in report.splits[""].pictures if p.sha256]) >= 200 - len(killed)


def test_a_worker_that_is_killed_while_it_starts_is_started_again(root, started):
    started.killed = pool.STARTS - 1
    assert check_dataset(root, cache=False).ok and len(started) == pool.STARTS
    assert [process.returncode for process in started[:-1]] == [-9] * started.killed


@pytest.mark.parametrize("ending, code, starts", [("sys.exit(3)", 3, 1), ("os.kill(os.getpid(), 9)", -9, pool.STARTS)])
def test_a_worker_that_never_starts_is_an_error(ending, code, starts, root, started, tmp_path, monkeypatch):
    (tmp_path / "worker.py").write_text(f"import os, sys\n{ending}\n")
    monkeypatch.setattr(pool.worker, "__file__", str(tmp_path / "worker.py"))
    with pytest.raises(DeviceError, match=rf"does not start \(exit code {code}\)"):
        check_dataset(root, cache=False)
    assert len(started) == starts


def test_many_findings_stay_readable(root):
    for number in range(400):
        (root / "a" / f"x{number}.png").write_bytes(b"")
    text = str(check_dataset(root))
    assert "zero-byte  (400)" in text and "… and 395 more" in text and len(text.splitlines()) < 30


def test_a_missing_folder(tmp_path):
    with pytest.raises(DatasetError, match=r"There is no folder .*nowhere"):
        check_dataset(tmp_path / "nowhere")


# --- fingerprint, cache, output --------------------------------------------------------------------------------------


def test_the_fingerprint_follows_names_and_contents(root):
    first = check_dataset(root).fingerprint
    assert check_dataset(root).fingerprint == check_dataset(root, cache=False).fingerprint == first
    photo().save(root / "b" / "000.png")
    second = check_dataset(root).fingerprint
    (root / "b" / "000.png").rename(root / "b" / "new.png")
    assert len({first, second, check_dataset(root).fingerprint}) == 3


def test_unchanged_files_are_not_loaded_again_and_changed_ones_are(root, monkeypatch):
    monkeypatch.setattr(cache, "FRESH", -1)
    loaded = []

    def check(**options):
        loaded.clear()
        return check_dataset(root, progress=lambda done, total: loaded.append(done), **options)

    first, _ = check(), photo().save(root / "a" / "x.jpg")
    assert len(loaded) == 9
    assert check().images == 10 and len(loaded) == 1
    again = check()
    assert loaded == [] and again.fingerprint != first.fingerprint
    assert check(cache=False).to_dict() == again.to_dict() and len(loaded) == 10
    before = (root / "a" / "x.jpg").stat()
    content = bytearray((root / "a" / "x.jpg").read_bytes())
    content[-20] ^= 255
    (root / "a" / "x.jpg").write_bytes(content)
    os.utime(root / "a" / "x.jpg", ns=(before.st_atime_ns, before.st_mtime_ns))  # same size and modification time
    assert check().fingerprint != again.fingerprint and len(loaded) == 1


def test_findings_are_the_same_from_the_cache(root, monkeypatch):
    monkeypatch.setattr(cache, "FRESH", -1)
    for provoke in (twice, cut, palette, two_labels):
        provoke(root)
    first = check_dataset(root)
    assert {"duplicate", "truncated", "mode", "label-conflict"} <= {finding.code for finding in first.findings}
    assert check_dataset(root).to_dict() == first.to_dict()


def test_a_cache_that_cannot_be_used_only_costs_time(root, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "FRESH", -1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    report = check_dataset(root)
    file = cache.default_path()
    assert file.is_file()
    file.write_text("not a database, but long enough to be read as one" * 50)
    assert check_dataset(root).to_dict() == report.to_dict()
    file.unlink()
    file.parent.rmdir()
    (tmp_path / "cache" / "mslab").write_text("a file where the folder should be")
    assert check_dataset(root).to_dict() == report.to_dict()


def test_a_file_changed_a_moment_ago_is_not_cached(root):
    check_dataset(root)
    loaded = []
    check_dataset(root, progress=lambda done, total: loaded.append(done))
    assert len(loaded) == 9


def test_a_notebook_shows_a_table_in_which_names_are_escaped(root):
    photo().save(root / "a" / "<b>x.png")
    page = check_dataset(root)._repr_html_()
    assert "<table>" in page and "a/&lt;b&gt;x.png" in page and "<b>" not in page


def test_names_that_are_not_utf_8_are_printed_and_written(root):
    photo().save(root / "a" / os.fsdecode(b"caf\xe9.png"))
    done = cli("check", root, "--json", "-")
    assert done.returncode == 0, done.stderr
    assert [f["path"] for f in json.loads(done.stdout)["findings"] if f["code"] == "name"] == ["a/caf\\xe9.png"]


def test_a_name_with_a_line_break_is_shown_in_one_line(root):
    (root / "a" / "x.png\n\nnothing found.png").write_bytes(b"")
    report = check_dataset(root)
    assert ("zero-byte", "a/x.png\\n\\nnothing found.png") in codes_and_paths(report)
    assert "nothing found" not in str(report).replace("a/x.png\\n\\nnothing found.png", "")


def test_the_json_document(root):
    stray(root)
    done = cli("check", root, "--classes", 3, "--json", "-")
    content = json.loads(done.stdout)
    assert done.returncode == 1 and list(content) == [
        "schema", "root", "ok", "class_num", "classes", "counts", "images", "findings", "fingerprint"
    ]  # fmt: skip
    assert content["schema"] == 1 and content["ok"] is False and content["classes"] == ["a", "b", "c"]
    errors = [finding for finding in content["findings"] if finding["severity"] == "error"]
    assert [list(finding) for finding in errors] == [["code", "severity", "path", "message", "fix"]]
    assert content["images"] == 9 and content["counts"] == {"": {"a": 3, "b": 3, "c": 3}}


# --- real data -------------------------------------------------------------------------------------------------------

DECODE = {"unreadable", "truncated", "bomb", "animated", "exif-orientation", "extension-mismatch", "zero-byte"}
REFUSED = {"12bit.cropped.tif", "16_bit_binary_pgm.tiff", "hopper_rle8_row_overflow.bmp"}  # by MindSpore


@pytest.fixture
def corpus(tmp_path, test_data):
    shutil.copytree(test_data / "badimages", tmp_path / "set" / "x")
    with (test_data / "badimages" / "expected.csv").open(newline="") as file:
        return tmp_path / "set", {row["file"]: set(row["findings"].split(",")) for row in csv.DictReader(file)}


def test_the_decode_findings_are_exactly_those_of_the_corpus(corpus):
    folder, expected = corpus
    report = check_dataset(folder)
    modes = {picture.name.removeprefix("x/"): picture.mode for picture in report.splits[""].pictures}
    actual = {name: {f"mode-{modes[name]}"} if modes[name] in ("L", "P", "1") else set() for name in expected}
    for finding in report.findings:
        name = finding.path.removeprefix("x/")
        if finding.code in DECODE:
            actual[name].add(finding.code)
        elif finding.code == "format":
            actual[name].add(f"format-{finding.message[1:].split(':')[0]}")
        elif finding.code == "mode" and finding.severity == "warning":
            actual[name].add(re.sub(r"\(mode (\S+):.*", r"mode-\1", finding.message))
    assert len(expected) > 80
    assert actual == {name: codes - {"fine"} for name, codes in expected.items()}
    grey = next(finding for finding in report.findings if finding.code == "mode" and finding.severity == "info")
    for mode, text in (("1", "black and white"), ("L", "grey"), ("P", "palette")):
        assert f"{sum(m == mode for m in modes.values())} of 90 are {text}" in grey.message
    assert {f.path.removeprefix("x/") for f in report.findings if f.code == "decoder"} == REFUSED


def test_real_clean_data_has_no_error_and_no_warning(test_data):
    report = check_dataset(test_data / "animals" / "animals2")  # animals9: tests/cli/test_animals.py
    assert report.ok and {(f.code, f.severity) for f in report.findings} <= {
        ("mode", "info"),
        ("near-duplicate", "info"),
    }


def test_contributings_example_of_a_rule_works(root, monkeypatch):
    text = (PROJECT / "CONTRIBUTING.md").read_text()
    (example,) = re.findall(r"^      def .+?(?=^  with a row)", text, re.MULTILINE | re.DOTALL)
    namespace: dict = {"Finding": Finding, "DatasetReport": DatasetReport, "Iterator": Iterator}
    exec(textwrap.dedent(example), namespace)
    monkeypatch.setattr(layout, "RULES", [*layout.RULES, namespace["short_names"]])
    assert codes_and_paths(check_dataset(root)) == {("short-name", f"{name}/") for name in "abc"}


def test_a_worker_that_starts_while_the_check_stops_gets_no_request(root, monkeypatch):
    """Ctrl-C kills the workers that it knows; a later one would load its entire batch."""
    images = pool.Pool("look", [str(path) for path in sorted(root.rglob("*.png"))])
    start = pool.Pool._start
    workers = []

    def start_late(self):
        workers.append(start(self))
        self.stopped.set()
        return workers[0]

    monkeypatch.setattr(pool.Pool, "_start", start_late)
    monkeypatch.setattr(pool.Worker, "ask", lambda *arguments: pytest.fail("it got a request"))
    images._feed()
    assert images.results.empty() and workers[0].process.poll() is not None


def test_a_wrong_class_num_of_the_command_line_is_corrected_as_it_is_typed_there(tmp_path):
    draw(tmp_path / "set", ["a", "b"], 2)
    report = check_dataset(tmp_path / "set", class_num=9)
    for setting, fix in (
        ("the command line says class_num: 9", "class_num=2,"),
        ("x.yaml says class_num: 9", "class_num: 2,"),
    ):
        with pytest.raises(DatasetError, match=f"has 2 class folders, {setting}") as error:
            report.raise_errors(setting)
        assert error.value.fix.startswith(fix)
