"""Rules about single image files, applied to the workers' answers."""

from collections import Counter
from collections.abc import Callable, Iterator

from mslab.check import worker
from mslab.check.formats import DECODED, HEIF, SUFFIXES, suffix_of
from mslab.check.records import Finding, ImageRecord, Split
from mslab.check.report import DatasetReport

GREY = ("1", "L", "P")  # these become RGB without loss
LOST = {"CMYK": "its inks", "LAB": "its colour space"} | dict.fromkeys(("RGBA", "LA", "PA"), "transparency")
Rule = Callable[[DatasetReport], Iterator[Finding]]
Fix = Callable[[DatasetReport, Split], str]
CUT = 0.25  # of an image's area: what a photo of 4:3 loses is not reported, what one of 3:2 loses is
FEW = 0.1  # of the images; aspect names single strips
STRIDE = 32  # pixels; a smaller image gives the network's last stage less than one position
ENLARGED = 1000  # times, MindSpore's limit; a random crop of an image below 8 pixels can be 1 pixel wide


def too_small(width: int, height: int, size: int) -> str:
    """Reason why MindSpore cannot enlarge the image, or one of its crops, to `size` pixels, or ""."""
    if size <= ENLARGED or min(width, height) >= 8:
        return ""
    return f"{width}x{height} pixels: MindSpore enlarges at most {ENLARGED} times, not to {size} pixels"


def loaded_images(report: DatasetReport) -> Iterator[tuple[Split, ImageRecord]]:
    """(split, record) of every image that loaded."""
    for split in report.splits.values():
        for picture in split.pictures:
            if picture.sha256:
                yield split, picture


def per_image(code: str, severity: str, describe: Callable[[ImageRecord], str], fix: Fix) -> Rule:
    """Rule that checks one image at a time: `describe` returns what is wrong with it, or ""."""

    def rule(report: DatasetReport) -> Iterator[Finding]:
        for split, picture in loaded_images(report):
            if problem := describe(picture):
                location = split.path(picture.name)
                yield Finding(code, severity, split.show(picture.name), f"({problem})", fix(report, split), location)

    return rule


def broken(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        for picture in split.pictures:
            if picture.code:
                location = split.path(picture.name)
                fix = report.convert(split) if picture.code == "decoder" else report.move(split, picture.name)
                if picture.problem.startswith("HEIC"):
                    fix = f"pip install pillow-heif; then {report.convert(split)}"
                yield Finding(picture.code, "error", split.show(picture.name), f"({picture.problem})", fix, location)


def _format(picture: ImageRecord) -> str:
    name = "HEIC" if picture.format == HEIF else picture.format
    return "" if picture.format in DECODED else f"{name}: {worker.UNSUPPORTED}"


def _mismatch(picture: ImageRecord) -> str:
    suffix = suffix_of(picture.name)
    fits = picture.format in SUFFIXES.get(suffix, (picture.format,))
    return "" if fits else f"the content is {picture.format}, the name ends in {suffix}"


def _animated(picture: ImageRecord) -> str:
    count = f"{picture.frames}{' or more' * (picture.frames == worker.FRAMES)}"
    return f"{count} frames; training uses the first" if picture.frames > 1 else ""


def _mode(picture: ImageRecord) -> str:
    if picture.mode in (*GREY, "RGB"):
        return ""
    lost = LOST.get(picture.mode, "depth beyond 8 bits")
    return f"mode {picture.mode}: MindSpore converts it to 8-bit RGB and loses {lost}"


def _junk(picture: ImageRecord) -> str:
    return f"{picture.junk} bytes before its end are no picture; both decoders skip them" if picture.junk else ""


def _large(picture: ImageRecord) -> str:
    pixels = picture.width * picture.height
    shape = f"{picture.width}x{picture.height}: {pixels / 1e6:.0f} million pixels"
    return f"{shape}, which every epoch decodes; training needs a thousandth" if pixels > worker.LARGE else ""


def _turned(picture: ImageRecord) -> str:
    effect = "MindSpore would train on it rotated or mirrored"
    if picture.format == "TIFF":
        effect = "MindSpore turns a TIFF as it says, but not every program does"
    return f"EXIF orientation {picture.orientation}: {effect}" if 2 <= picture.orientation <= 8 else ""


def _blank(picture: ImageRecord) -> str:
    return "in MindSpore every pixel has the same colour: there is nothing to learn from it" if picture.blank else ""


def small(report: DatasetReport) -> Iterator[Finding]:
    least, side = report.image_size or STRIDE, max if report.resize_mode == "pad" else min
    for split, picture in loaded_images(report):
        if side(picture.width, picture.height) < least:
            size = f"{picture.width}x{picture.height}"
            limit = f"image_size: {least}" if report.image_size else f"{least}, the network's stride"
            text = f"({size} pixels, below {limit}: it is enlarged and blurred)"
            fix = "use a larger image, or a smaller image_size"
            problem = too_small(picture.width, picture.height, least)
            severity, text = ("error", f"({problem})") if problem else ("warning", text)
            yield Finding("small", severity, split.show(picture.name), text, fix)


def grey(report: DatasetReport) -> Iterator[Finding]:
    """One finding per class: nothing is lost, but the network can recognise a class that alone is grey."""
    names = {"1": "black and white (1)", "L": "grey (L)", "P": "palette (P)"}
    for split in report.splits.values():
        for class_name, pictures in split.folders.items():
            modes = Counter(picture.mode for picture in pictures if picture.sha256 and picture.mode in GREY)
            if modes:
                counts = ", ".join(f"{number} of {len(pictures)} are {names[mode]}" for mode, number in modes.items())
                text = f"({counts}; they become RGB without loss)"
                fix = "nothing, if the other classes have the same modes"
                yield Finding("mode", "info", f"{split.show(class_name)}/", text, fix)


def aspect(report: DatasetReport) -> Iterator[Finding]:
    for split, picture in loaded_images(report):
        longer, shorter = max(picture.width, picture.height), min(picture.width, picture.height)
        if longer > 3 * shorter:
            shape = f"{picture.width}x{picture.height}"
            text = {
                "crop": f"evaluation uses the middle square, {shorter / longer:.0%} of the image",
                "pad": f"all but {shorter / longer:.0%} of the network's input is padding",
                "squash": f"it is stretched {longer / shorter:.1f} times",
            }[report.resize_mode]
            yield Finding("aspect", "info", split.show(picture.name), f"({shape}: {text})", "crop it to the subject")


def centre_crop(report: DatasetReport) -> Iterator[Finding]:
    """One finding per data set, if what the crop cuts away matters for more than a few images."""
    if report.resize_mode != "crop":
        return
    sides = [sorted((picture.width, picture.height)) for _, picture in loaded_images(report)]
    lost = sorted(1 - shorter / longer for shorter, longer in sides)
    cut = [fraction for fraction in lost if fraction > CUT]
    if len(cut) > FEW * len(lost):
        text = f"({len(cut):,} of {len(lost):,} images lose more than {CUT:.0%} of their area by the centre crop of "
        text += f"evaluation, half of these {cut[len(cut) // 2]:.0%} or more)"
        fix = "resize_mode: pad keeps all of it, with bars beside it; squash stretches it; nothing, "
        yield Finding("centre-crop", "info", ".", text, f"{fix}if the subject is in the middle")


def size(report: DatasetReport) -> Iterator[Finding]:
    areas = sorted(picture.width * picture.height for _, picture in loaded_images(report))
    middle = areas[len(areas) // 2] if areas else 0
    for split, picture in loaded_images(report):
        area = picture.width * picture.height
        if not middle / 16 <= area <= middle * 16:
            than = "smaller" if area < middle else "larger"
            text = f"({picture.width}x{picture.height}: more than 16 times {than} in area than the median image)"
            yield Finding("size", "info", split.show(picture.name), text, "check whether it belongs here")


RULES = [
    broken,
    per_image("format", "error", _format, DatasetReport.convert),
    per_image("extension-mismatch", "warning", _mismatch, lambda report, split: "rename it"),
    per_image("animated", "warning", _animated, DatasetReport.convert),
    per_image("mode", "warning", _mode, DatasetReport.convert),
    per_image("exif-orientation", "warning", _turned, DatasetReport.convert),
    per_image("size", "warning", _large, DatasetReport.convert),
    per_image("decoder", "info", _junk, lambda report, split: "nothing: the picture is whole"),
    per_image("blank", "warning", _blank, lambda report, split: "replace it, or remove it"),
    *(small, grey, aspect, centre_crop, size),
]
