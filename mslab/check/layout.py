"""Rules about folders and names. Each is a function of the report that yields findings."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from mslab.check.records import Finding, Split, printable
from mslab.check.report import DatasetReport
from mslab.check.scan import has_images, is_image_file, is_leftover, is_systems
from mslab.check.splits import says_nothing, split_names
from mslab.escaping import quoted

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


def refused_links(split: Split) -> set[str]:
    """The folders of the split that are such links, or contain one."""
    return {link.split("/")[0] for link, reason in split.links.items() if reason != "broken"}


def empty_classes(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        refused = refused_links(split)
        for name, files in split.classes.items():
            if not files and not wrong_shape(split) and name not in split.unreadable and name not in refused:
                text = "(a folder without images; MindSpore would count it as a class without examples)"
                fix = "put its images there, or remove the folder"
                yield Finding("empty-class", "error", f"{split.show(name)}/", text, fix)


def class_count(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        count, expected = len(split.classes), report.class_num
        linked = refused_links(split) - split.classes.keys()  # reported as what they are
        if expected is not None and count != expected and not linked and not wrong_shape(split):
            names = ", ".join(printable(name) for name in list(split.classes)[:12]) + (", …" if count > 12 else "")
            text = f"has {count} class folders ({names}), class_num is {expected}"
            fix = f"class_num: {count}, or the folder with {expected} classes"
            yield Finding("class-count", "error", split.show(), text, fix)


def class_names_differ(report: DatasetReport) -> Iterator[Finding]:
    first, *others = report.splits.values()
    for split in [] if wrong_shape(first) else [split for split in others if not wrong_shape(split)]:
        missing = sorted(first.classes.keys() - split.classes.keys() - refused_links(split))
        extra = sorted(split.classes.keys() - first.classes.keys() - refused_links(first))
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
    return misplaced(split)[0]


def misplaced(split: Split) -> tuple[str, str]:
    """(what the split contains instead of class folders, the fix), or two empty strings."""
    root, names = split.root, list(split.classes)
    if "" in split.unreadable:
        return "cannot be read", ""
    if not names and not any(is_image_file(root / name) for name in split.loose):
        return "contains no class folder", "name a folder that contains one folder of images per class"
    if not names:
        above = f"name the folder above the classes: {quoted(root.parent)}?"
        problem, fix = labels_elsewhere(root) or (
            "it is one class, not a data set, or its images have no labels",
            above,
        )
        return f"contains images but no class folders: {problem}", fix
    called = split_names(names)
    empty = [name for name in names if not split.classes[name]]
    within: dict[str, list[str]] = {name: [] for name in empty}
    for class_name, _, name in (nested.partition("/") for nested in split.nested):
        if class_name in within and not is_leftover(root / class_name / name):
            within[class_name].append(name)
    folders = [name for name in called if within.get(name)]
    if folders and ("train" in map(called.get, folders) or called.keys() >= set(names) - set(empty)):
        wanted = [name for name in folders if called[name] == (split.name or "train")] or folders
        return f"contains the splits {listed(called)}, not classes", f"name one of them: {quoted(root / wanted[0])}"
    if folders and set(within[folders[0]]) & set(names):
        name = quoted(Path(folders[0]))
        text = f"contains {printable(folders[0])}, which has the same classes as what is around it: a split in another"
        away = f"mkdir .train && mv ./* .train/ && mv .train/{name} . && mv .train train"
        return text, f"(cd {quoted(root)} && {away})    puts the classes into train/, beside it"
    if called.keys() == set(names) and (len(set(called.values())) > 1 or len(names) == 1):
        problem, fix = labels_elsewhere(root, *names) or ("", SORT)
        text = f"contains the splits {listed(called)}, not classes, and they contain no class folders"
        return f"{text}{': ' * bool(problem)}{problem}", fix
    found = labels_elsewhere(root) if {"labels", "annotations"} & set(map(plain_name, empty)) else None
    if len(names) == 1 and says_nothing(names[0]) and split.classes[names[0]]:
        found = labels_elsewhere(root) or ("a name that says nothing of the images in it", SORT)
    if found:
        return f"contains {listed(names)}, not classes: {found[0]}", found[1]
    return folders_of_folders(split, within) if len(empty) == len(names) and all(within.values()) else ("", "")


def folders_of_folders(split: Split, within: dict[str, list[str]]) -> tuple[str, str]:
    """misplaced() of a split whose folders contain no images but folders."""
    names, folder = list(within), split.root
    inner = dict.fromkeys(name for inside in within.values() for name in inside)
    if all(split_names([name]) for name in inner):
        target = f"{os.path.abspath(folder)}-by-split"  # noqa: PTH100
        text = f"contains the classes {listed(names)}, with the splits {listed(inner)} in each: they are expected the "
        text += "other way round, with the classes in each split"
        loop = 'for i in ./*/*/; do c=${i#./}; mkdir -p "$OUT/${c#*/}" && cp -r "$i." "$OUT/${c#*/}${c%%/*}"; done'
        return text, f"(OUT={quoted(Path(target))}; cd {quoted(folder)} && {loop})    copies them into that order"
    if len(inner) == 1 and all(len(inside) == 1 for inside in within.values()) and len(names) > 1:
        name = quoted(Path(next(iter(inner))))
        text = f"contains {listed(names)}, each with its images one level deeper, in {listed(inner)}/"
        loop = f'for i in ./*/{name}; do mv "$i"/* "${{i%/*}}" && rmdir "$i"; done'
        return text, f"(cd {quoted(folder)} && {loop})    moves them into the folders of the classes"
    text = f"contains {listed(names)}, with the folders {listed(inner)} in them: neither classes of images nor splits "
    text += "under a name that mslab knows"
    fix = f"name one of them: {quoted(folder / names[0])}; or, if they are splits, rename them to train, val and test"
    return text, fix


def listed(names: Iterable[str]) -> str:
    shown = [printable(name) for name in names]
    return ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")


DETECTION = "which is made for finding objects in an image; here every image has one class, the name of its folder"
TABLES = (".csv", ".tsv", ".xlsx", ".jsonl", ".parquet")
SORT = "sort the images of each split into one folder per class"
EXPORT = "export it as folders of classes (Roboflow: Folder Structure), or sort the images into one folder per class"


def labels_elsewhere(folder: Path, *inside: str) -> tuple[str, str] | None:
    """(how the labels of images without class folders are stored, the fix), or None if nothing tells.

    `inside`: folders in it that have the images.
    """
    above = folder.parent if folder.name.lower() in ("images", "jpegimages") or split_names([folder.name]) else folder
    places = dict.fromkeys((folder, above, *(folder / name for name in inside)))
    entries = [(path.name, path) for place in places for path in listing(place)]
    names = {name.lower() for name, _ in entries}
    if "jpegimages" in names or any(path.suffix == ".xml" for _, path in entries):
        return f"Pascal VOC's layout (boxes in XML files), {DETECTION}", EXPORT
    if any(name.endswith(".coco.json") or name.startswith("instances_") for name in names):
        return f"COCO's layout (boxes in a JSON file), {DETECTION}", EXPORT
    if "annotations" in names:
        return f"a layout with boxes or outlines in annotations/, {DETECTION}", EXPORT
    if "labels" in names or "data.yaml" in names or "classes.txt" in names:
        return f"YOLO's layout (boxes in labels/*.txt), {DETECTION}", EXPORT
    tables = [name for name, path in entries if path.suffix.lower() in TABLES and "submission" not in name.lower()]
    if tables:
        text = f"the labels may be in {listed(tables)}; here the name of an image's folder is its label"
        return text, "sort the images into one folder per label; docs/checker.md shows a script for a table"
    return None


def listing(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in islice(entries, 10_000))
    except OSError:
        return []


def wrong_level(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        problem, fix = misplaced(split)
        if problem and "" not in split.unreadable and not (refused_links(split) and not split.classes):
            if report.layout and split.name and not split.classes and split.loose:
                folder = report.layout.folder / report.layout.spelled[split.name]
                away = f"mv {quoted(folder)} {quoted(folder.with_name(f'unlabelled-{folder.name}'))}"
                fix = f"sort its images into one folder per class; without labels, take it away: {away}"
            yield Finding("wrong-level", "error", split.show(), problem, fix)


def split_folders(report: DatasetReport) -> Iterator[Finding]:
    """How the folders of the splits are called, and which folders were passed through."""
    found = report.layout
    if found is None:
        return
    for name, folder in found.splits.items():
        spelled = found.spelled.get(name, "")
        if folder != found.folder / spelled or found.folder != report.root:
            text = "(the classes are in here; the folders above it hold no other images)"
            yield Finding("inner-folder", "info", report.splits[name].show(), text, "nothing; it is found by itself")
        if spelled != name:
            text = f"(read as {name}, which is what commands and reports call it)"
            yield Finding("split-name", "info", shown(report, spelled), text, "nothing; or rename it")
    for name, split in found.again.items():
        first = found.spelled[split]
        text = f"({printable(first)}/ is called like it: both would be {split}, and mslab does not merge them)"
        fix = f"merge them, or rename one: mv {quoted(found.folder / name)} {quoted(found.folder / f'unused {name}')}"
        yield Finding("split-name", "error", shown(report, name), text, fix)


def shown(report: DatasetReport, name: str) -> str:
    """The path of a folder beside the splits, as findings show it."""
    folder = report.layout.folder if report.layout else report.root
    return f"{printable((folder / name).relative_to(report.root).as_posix())}/".replace("\n", "\\n")


def same_folder(report: DatasetReport) -> Iterator[Finding]:
    splits = list(report.splits.values())
    for number, split in enumerate(splits):
        for earlier in splits[:number]:
            if os.path.realpath(split.root) == os.path.realpath(earlier.root):
                text = f"({split.name} is the same folder as {earlier.name}: every image is in both)"
                yield Finding("split-leak", "error", split.show(), text, f"another folder for {split.name}")


def beside_splits(report: DatasetReport) -> Iterator[Finding]:
    for name in report.layout.beside if report.layout else ():
        text = "(beside the splits, under a name that is none of train, val and test. Left out)"
        yield Finding("unused-folder", "warning", shown(report, name), text, "rename it, if it is a split")
    if report.layout and report.layout.spelled and has_images(report.layout.folder):
        text = "(images beside the splits, in none of them. Left out)"
        yield Finding("loose-file", "warning", shown(report, ""), text, LEFT_OUT)


def nested_folders(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        if wrong_shape(split):
            continue  # wrong-level reports this once, not once per class
        for name in split.nested:
            text = "(a folder inside a class; MindSpore stops at it in the middle of an epoch)"
            own = name.rpartition("/")[2]
            only = not split.classes[name.split("/", 1)[0]]  # --fix never takes all of a class
            fix = "put its images directly into the folder of the class" if only else report.move(split, name)
            fix = report.ignore(split, own) if is_systems(own) else fix
            yield Finding("nested-folder", "error", f"{split.show(name)}/", text, fix, split.root / name)


def links(report: DatasetReport) -> Iterator[Finding]:
    messages = {
        "leaves": "(a link out of the data set, not followed unless you say so: other machines lack its target)",
        "loop": "(a link to a folder that contains it)",
    }
    for split in report.splits.values():
        for name, reason in split.links.items():
            location = split.root / name if name else None  # what leads to a split is not moved away
            if location and reason == "broken":
                target = printable(str(location.readlink()))
                text = f"(a link to {target}, which does not exist. Left out)"
                fix = "git annex get" if "/annex/objects/" in target else "dvc pull" if "/files/md5/" in target else ""
                fix = f"{fix}    fetches it" if fix else "restore the target, or remove it"
                yield Finding("broken-symlink", "warning", split.show(name), text, fix)
            else:
                fixes = [report.follow(split)] if reason == "leaves" else []
                fixes += [] if wrong_shape(split) and fixes else [report.move(split, name)]
                fix = "; or ".join(fixes)
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


RULES = [stray_folders, links, closed_folders, empty_classes, wrong_level, class_count, class_names_differ, same_folder]
RULES += [nested_folders, collisions, split_folders, beside_splits, stray_files, numeric_order, awkward_names]
