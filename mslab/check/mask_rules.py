"""Rules about masks: pictures whose values are the class of every pixel; 0 is the ground, 255 is ignored."""

from collections.abc import Callable, Iterator
from typing import Any

from mslab.check.label_report import LabelReport
from mslab.check.label_rules import image_path, labels_file, path_of
from mslab.check.records import Finding
from mslab.check.report import changeable
from mslab.tasks.folders import image_of, pictures_in
from mslab.tasks.labels import IGNORED

LOSSLESS = ("PNG", "BMP", "TIFF")
SMEARED = 64  # different values; a mask with more is a photo, a colour mask, or was resized with smoothing
Rule = Callable[[LabelReport], Iterator[Finding]]


def masks(report: LabelReport) -> Iterator[Finding]:
    for name, answers in report.masks.items():
        folder, split = report.places[name].masks, report.splits[name]
        assert folder
        sizes = {split.show(picture.name): (picture.width, picture.height) for picture in split.pictures}
        for row in (row for row in report.sets[name].images if row.mask):
            path, answer = path_of(split, folder, row.mask), answers.get(row.mask, {})
            if answer.get("code"):
                fix = "export the mask again, or remove it and its image"
                yield Finding(answer["code"], "error", path, f"({answer['problem']})", fix)
                continue
            yield from about_mask(report, path, answer)
            size = sizes.get(image_path(report, name, row.file))
            if size and size[0] and size != (answer["width"], answer["height"]):
                text = f"({answer['width']}x{answer['height']} pixels, and its image has {size[0]}x{size[1]})"
                fix = "export it in the size of the image; if it is resized, without smoothing (nearest neighbour)"
                yield Finding("mask-size", "error", path, text, fix)


def about_mask(report: LabelReport, path: str, answer: dict[str, Any]) -> Iterator[Finding]:
    """Its format and its values."""
    values = sorted(map(int, answer.get("values", ())))
    if answer["format"] not in LOSSLESS:
        text = f"(a {answer['format']}: it smears the values of classes at every edge)"
        fix = "export the masks as PNG; a JPEG that is saved as PNG stays smeared"
        yield Finding("mask-format", "error", path, text, fix)
    elif not values:
        text = f"(mode {answer['mode']}: colours, and not the numbers of classes)"
        fix = "export it with a palette, or with the number of the class as its grey value"
        yield Finding("mask-mode", "error", path, text, fix)
    elif len(values) > SMEARED:
        text = f"({len(values)} different values: a photo, or a mask that was resized with smoothing)"
        yield Finding("mask-value", "error", path, text, "export the masks again, without smoothing")
    elif values == [0, IGNORED] and answer["mode"] in ("L", "P"):
        text = "(only 0 and 255: 255 is what is ignored, so that nothing but ground is learned)"
        yield Finding("mask-value", "error", path, text, "write 1 for the object")
    else:
        count = len(report.first.categories)
        beyond = [value for value in values if value != IGNORED and (value > count if count else value > IGNORED)]
        if beyond:
            named = ", ".join(map(str, beyond[:6]))
            text = f"(the value {named}, and there are {count} classes: 0 is the ground, 255 is ignored)"
            yield Finding("mask-value", "error", path, text, "correct the values, or list the class")


def strays(report: LabelReport) -> Iterator[Finding]:
    """Masks without an image, and images without a mask."""
    for name, place in report.places.items():
        if not place.masks or name not in report.masks:
            continue
        split = report.splits[name]
        used = {row.mask for row in report.sets[name].images}
        stems = {image_of(mask) for mask in used}
        for mask in (mask for mask in pictures_in(place.masks) if mask not in used):
            path, file = path_of(split, place.masks, mask), place.masks / mask
            twice = image_of(mask) in stems
            text = "(its image has another mask, too)" if twice else "(there is no image of this name)"
            fix = report.move(split, file.relative_to(split.root).as_posix())
            location = file if changeable(report.root, file) else None
            yield Finding("mask-without-image", "warning", path, text, fix, location)
        lacking = [row.file for row in report.sets[name].images if not row.mask]
        if lacking:
            text = f"({len(lacking)} of {len(report.sets[name].images)} images have no mask, such as "
            text += f"{image_path(report, name, lacking[0])})"
            fix = "add the masks, also of images with nothing but ground"
            yield Finding("image-without-mask", "error", labels_file(report, name), text, fix)


RULES: list[Rule] = [masks, strays]
