"""Rules about single image files, from what the workers saw in them."""

import os
from collections import Counter
from collections.abc import Callable, Iterator

from mslab.check import worker
from mslab.check.records import Finding, ImageRecord, Split
from mslab.check.report import DatasetReport

GREY = ("1", "L", "P")  # nothing is lost when these become RGB
LOST = {"CMYK": "its inks", "LAB": "its colour space"} | dict.fromkeys(("RGBA", "LA", "PA"), "transparency")
SUFFIX_FORMATS = {".jpg": ("JPEG", "MPO"), ".jpeg": ("JPEG", "MPO"), ".png": ("PNG",), ".bmp": ("BMP", "DIB")}
SUFFIX_FORMATS |= {".tif": ("TIFF",), ".tiff": ("TIFF",), ".gif": ("GIF",), ".webp": ("WEBP",)}
Rule = Callable[[DatasetReport], Iterator[Finding]]
Fix = Callable[[DatasetReport, Split], str]
STRIDE = 32  # pixels: the network's last stage sees less than one position of a smaller image


def loaded_images(report: DatasetReport) -> Iterator[tuple[Split, ImageRecord]]:
    """Every image that was loaded."""
    for split in report.splits.values():
        for picture in split.pictures:
            if picture.sha256:
                yield split, picture


def per_image(code: str, severity: str, found: Callable[[ImageRecord], str], fix: Fix) -> Rule:
    """A rule that looks at one image at a time: `found` says what is wrong with it, or ""."""

    def rule(report: DatasetReport) -> Iterator[Finding]:
        for split, picture in loaded_images(report):
            if said := found(picture):
                place = split.root / picture.name
                yield Finding(code, severity, split.show(picture.name), f"({said})", fix(report, split), place)

    return rule


def broken(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        for picture in split.pictures:
            if picture.code:
                place = split.root / picture.name
                fix = report.convert(split) if picture.code == "decoder" else report.move(split)
                yield Finding(picture.code, "error", split.show(picture.name), f"({picture.problem})", fix, place)


def _format(picture: ImageRecord) -> str:
    known = picture.format in worker.FORMATS
    return "" if known else f"{picture.format}: MindSpore's decoder refuses it; save it as JPEG or PNG"


def _mismatch(picture: ImageRecord) -> str:
    suffix = os.path.splitext(picture.name)[1].lower()  # noqa: PTH122
    fits = picture.format in SUFFIX_FORMATS.get(suffix, (picture.format,))
    return "" if fits else f"a {picture.format} by its content, {suffix} by its name"


def _animated(picture: ImageRecord) -> str:
    return f"{picture.frames} frames; training sees the first" if picture.frames > 1 else ""


def _mode(picture: ImageRecord) -> str:
    if picture.mode in (*GREY, "RGB"):
        return ""
    lost = LOST.get(picture.mode, "depth beyond 8 bits")
    return f"mode {picture.mode}: MindSpore turns it into 8-bit RGB and drops {lost}"


def _turned(picture: ImageRecord) -> str:
    turned = 2 <= picture.orientation <= 8
    return f"EXIF orientation {picture.orientation}: MindSpore trains on it turned or mirrored" if turned else ""


def _blank(picture: ImageRecord) -> str:
    return "to MindSpore every pixel has the same colour: nothing to learn from it" if picture.blank else ""


def small(report: DatasetReport) -> Iterator[Finding]:
    least = report.image_size or STRIDE
    for split, picture in loaded_images(report):
        if min(picture.width, picture.height) < least:
            size = f"{picture.width}x{picture.height}"
            what = f"image_size: {least}" if report.image_size else f"{least}, the network's stride"
            text = f"({size} pixels, below {what}: it is drawn up and blurred)"
            fix = "a larger image, or a smaller image_size"
            yield Finding("small", "warning", split.show(picture.name), text, fix)


def grey(report: DatasetReport) -> Iterator[Finding]:
    """One line a class: nothing is lost, but a class that alone is grey can be told by that."""
    names = {"1": "black and white (1)", "L": "grey (L)", "P": "palette (P)"}
    for split in report.splits.values():
        for class_name, pictures in split.classes.items():
            modes = Counter(picture.mode for picture in pictures if picture.sha256 and picture.mode in GREY)
            if modes:
                told = ", ".join(f"{number} of {len(pictures)} are {names[mode]}" for mode, number in modes.items())
                text = f"({told}; they become RGB without loss)"
                fix = "nothing, if the other classes are alike"
                yield Finding("mode", "info", f"{split.show(class_name)}/", text, fix)


def aspect(report: DatasetReport) -> Iterator[Finding]:
    for split, picture in loaded_images(report):
        longer, shorter = max(picture.width, picture.height), min(picture.width, picture.height)
        if longer > 3 * shorter:
            shape = f"{picture.width}x{picture.height}"
            text = f"({shape}: the middle square, which is measured, shows {shorter / longer:.0%} of it)"
            yield Finding("aspect", "info", split.show(picture.name), text, "cut it to what matters")


def size(report: DatasetReport) -> Iterator[Finding]:
    areas = sorted(picture.width * picture.height for _, picture in loaded_images(report))
    middle = areas[len(areas) // 2] if areas else 0
    for split, picture in loaded_images(report):
        area = picture.width * picture.height
        if not middle / 16 <= area <= middle * 16:
            than = "smaller" if area < middle else "larger"
            text = f"({picture.width}x{picture.height}: more than 16 times {than} in area than the median image)"
            yield Finding("size", "info", split.show(picture.name), text, "see whether it belongs here")


RULES = [
    broken,
    per_image("format", "error", _format, DatasetReport.convert),
    per_image("extension-mismatch", "warning", _mismatch, lambda report, split: "rename it"),
    per_image("animated", "warning", _animated, DatasetReport.convert),
    per_image("mode", "warning", _mode, DatasetReport.convert),
    per_image("exif-orientation", "warning", _turned, DatasetReport.convert),
    per_image("blank", "warning", _blank, lambda report, split: "replace it, or remove it"),
    *(small, grey, aspect, size),
]
