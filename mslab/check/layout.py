"""Rules about folders and names. Each is a function of the report that yields findings."""

import os
import re
import unicodedata
from collections.abc import Iterator

from mslab.check.records import Finding, Split, printable
from mslab.check.report import DatasetReport
from mslab.check.scan import is_image_file, is_systems
from mslab.escaping import quoted

SPLITS = ("train", "val", "test")
LEFT_OUT = "nothing: mslab leaves it out"
AWKWARD = re.compile(r"[\x00-\x1f\x7f\\\"'`$&|;<>*?\[\]{}!#,\n]|^[-=+@~ ]|\s$")


def stray_folders(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        for name in split.strays:
            index = sorted([*split.classes, *split.strays]).index(name)
            location = split.root / name
            inside = sum(1 for _ in location.iterdir()) if os.access(location, os.R_OK) else 0
            content = "empty" if inside == 0 else f"{inside} {'entry' if inside == 1 else 'entries'}"
            text = f"({content}; not a class of images. MindSpore would make it class {index} and shift every "
            text += "later label by one)"
            fix = report.ignore(split, name) if is_systems(name) else report.move(split, name)
            yield Finding("stray-folder", "error", f"{split.show(name)}/", text, fix, location)


def empty_classes(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        refused = {link.split("/")[0] for link, reason in split.links.items() if reason != "broken"}
        for name, files in split.classes.items():
            if not files and not wrong_shape(split) and name not in split.unreadable and name not in refused:
                text = "(a folder without images; MindSpore would count it as a class without examples)"
                fix = "put its images there, or remove the folder"
                yield Finding("empty-class", "error", f"{split.show(name)}/", text, fix)


def class_count(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        count, expected = len(split.classes), report.class_num
        if expected is not None and count != expected and not wrong_shape(split):
            names = ", ".join(printable(name) for name in list(split.classes)[:12]) + (", …" if count > 12 else "")
            text = f"has {count} class folders ({names}), class_num is {expected}"
            fix = f"class_num: {count}, or the folder with {expected} classes"
            yield Finding("class-count", "error", split.show(), text, fix)


def class_names_differ(report: DatasetReport) -> Iterator[Finding]:
    first, *others = report.splits.values()
    for split in others:
        missing = sorted(first.classes.keys() - split.classes.keys())
        extra = sorted(split.classes.keys() - first.classes.keys())
        for code, names, candidates, has, lacks, effect in (
            ("class-missing", missing, extra, first, split, "every later class would get another index there"),
            ("class-extra", extra, missing, split, first, "the network has no output for it"),
        ):
            for name in names:
                like = next((n for n in candidates if plain_name(n) == plain_name(name)), None)
                fix = f"rename {like!r} to {name!r}" if like else "give every split the same class folders"
                text = f"(in {has.title}, not in {lacks.title}; {effect})"
                yield Finding(code, "error", f"{split.show(name)}/", text, fix)


def wrong_shape(split: Split) -> str:
    """What the split contains instead of class folders, or ""."""
    if "" in split.unreadable:
        return "cannot be read"
    if not split.classes and any(is_image_file(split.root / name) for name in split.loose):
        return "contains images but no class folders: it is one class, not a data set"
    inside = [name for name in split.classes if name in SPLITS]
    if len(inside) > 1 or (inside and len(split.classes) == 1):
        return f"contains the splits {', '.join(inside)}, not classes"
    return "" if split.classes else "contains no class folder"


def wrong_level(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        problem = wrong_shape(split)
        if problem and "" not in split.unreadable:
            up = split.root.parent if problem.startswith("contains images") else split.root / "train"
            fix = "name a folder that contains one folder of images per class"
            if problem != "contains no class folder":
                fix = f"name the folder above the classes: {up}?"
            yield Finding("wrong-level", "error", split.show(), problem, fix)


def same_folder(report: DatasetReport) -> Iterator[Finding]:
    splits = list(report.splits.values())
    for number, split in enumerate(splits):
        for earlier in splits[:number]:
            if os.path.realpath(split.root) == os.path.realpath(earlier.root):
                text = f"({split.name} is the same folder as {earlier.name}: every image is in both)"
                yield Finding("split-leak", "error", split.show(), text, f"another folder for {split.name}")


def beside_splits(report: DatasetReport) -> Iterator[Finding]:
    for name in report.beside:
        text = "(beside the splits, but named neither train nor val nor test. Left out)"
        yield Finding("unused-folder", "warning", f"{printable(name)}/", text, "rename it, if it is a split")


def nested_folders(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        if wrong_shape(split):
            continue  # wrong-level reports this once, not once per class
        for name in split.nested:
            text = "(a folder inside a class; MindSpore stops at it in the middle of an epoch)"
            own = name.rpartition("/")[2]
            fix = report.ignore(split, own) if is_systems(own) else report.move(split, name)
            yield Finding("nested-folder", "error", f"{split.show(name)}/", text, fix, split.root / name)


def links(report: DatasetReport) -> Iterator[Finding]:
    messages = {
        "leaves": "(a link out of the data set, not followed unless you say so: other machines lack its target)",
        "loop": "(a link to a folder that contains it)",
    }
    for split in report.splits.values():
        for name, reason in split.links.items():
            location = split.root / name
            if reason == "broken":
                target = printable(str(location.readlink()))
                text = f"(a link to {target}, which does not exist. Left out)"
                fix = "git annex get" if "/annex/objects/" in target else "dvc pull" if "/files/md5/" in target else ""
                fix = f"{fix}    fetches it" if fix else "restore the target, or remove it"
                yield Finding("broken-symlink", "warning", split.show(name), text, fix)
            else:
                follow = f"{report.follow(split)}; or " if reason == "leaves" else ""
                fix = follow + report.move(split, name)
                yield Finding("symlink", "error", split.show(name), messages[reason], fix, location)


def closed_folders(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        for name, reason in split.unreadable.items():
            text = f"(the folder cannot be read: {reason})"
            yield Finding("permission", "error", split.show(name), text, f"chmod u+rx {quoted(split.root / name)}")


def stray_files(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        for name, kind in split.left_out.items():
            text = f"({kind}; MindSpore would try to decode it and fail. Left out)"
            yield Finding("stray-file", "warning", split.show(name), text, LEFT_OUT)
        for name in split.loose if not wrong_shape(split) else []:
            text = "(beside the class folders, in no class. Left out)"
            yield Finding("loose-file", "warning", split.show(name), text, LEFT_OUT)


def plain_name(name: str) -> str:
    """Comparison key, equal for names that macOS or Windows treats as one name."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def collisions(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        groups = [list(split.classes), *([p.name for p in pictures] for pictures in split.classes.values())]
        for names in groups:
            first: dict[str, str] = {}
            for name in names:
                other = first.setdefault(plain_name(name), name)
                if other != name:
                    form = unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", other)
                    difference = "Unicode form" if form else "capitals"
                    text = f"(differs from {split.show(other)} only in {difference}: macOS and Windows see one name)"
                    yield Finding("case-collision", "error", split.show(name), text, "rename or merge them")


def numeric_order(report: DatasetReport) -> Iterator[Finding]:
    names = report.class_names
    natural = sorted(names, key=_numbers_apart)
    if names != natural:
        order = ", ".join(names[:4])
        text = f"(classes are sorted by name, which gives {order} …, not by number: indices and names differ)"
        fix = f"use class names instead of indices, or rename the classes 01, 02 …, with {natural[0]} first"
        yield Finding("numeric-order", "warning", ".", text, fix)


def _numbers_apart(name: str) -> list[str | int]:
    """ "class10" -> ["class", 10, ""]"""
    return [int(part) if index % 2 else part for index, part in enumerate(re.split(r"(\d+)", name))]


def awkward_names(report: DatasetReport) -> Iterator[Finding]:
    text = "that shells, CSV or HTML may misread"
    for split in report.splits.values():
        for class_name, pictures in split.classes.items():
            fix = "letters, digits, . _ and - are safe everywhere"
            if AWKWARD.search(class_name) or printable(class_name) != class_name:
                yield Finding("name", "info", f"{split.show(class_name)}/", f"(a class name {text})", fix)
            names = [picture.name for picture in pictures]
            bad = [n for n in names if AWKWARD.search(n.split("/", 1)[1]) or printable(n) != n]
            if bad:
                message = f"({len(bad)} file name{'s' * (len(bad) > 1)} {text})"
                yield Finding("name", "info", split.show(bad[0]), message, fix)


RULES = [stray_folders, empty_classes, wrong_level, class_count, class_names_differ, same_folder, nested_folders]
RULES += [links, closed_folders, collisions, beside_splits, stray_files, numeric_order, awkward_names]
