"""Rules about folders and names. Each is a function of the report that yields findings."""

import itertools
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mslab.check.levels import LISTED, misplaced, wrong_shape
from mslab.check.records import Finding, Split, printable
from mslab.check.report import DatasetReport, counted
from mslab.check.scan import has_images, is_accounted, is_image_file, is_junk, is_systems
from mslab.check.splits import find_splits
from mslab.escaping import command, quoted, typed_with

LEFT_OUT = "nothing: mslab leaves it out"
AWKWARD = re.compile(r"[\x00-\x1f\x7f\\\"'`$&|;<>*?\[\]{}!#,\n]|^[-=+@~ ]|\s$")


def stray_folders(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        for name in split.strays if not wrong_shape(split) else ():
            index = sorted([*split.classes, *split.strays]).index(name)
            location = split.root / name
            inside = sum(1 for _ in location.iterdir()) if os.access(location, os.R_OK) else 0
            content = "empty" if inside == 0 else f"{inside} {'entry' if inside == 1 else 'entries'}"
            text = f"({content}; not a class of images. MindSpore would make it class {index} and shift every "
            text += "later label by one)"
            movable = is_accounted(location) and not is_systems(name)
            fix = report.move(split, name) if movable else report.ignore(split, name)
            yield Finding("stray-folder", "error", f"{split.show(name)}/", text, fix, location if movable else None)


def refused_links(split: Split) -> set[str]:
    """The folders of the split that are such links, or contain one."""
    return {link.split("/")[0] for link, reason in split.links.items() if reason != "broken"}


def empty_classes(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        if wrong_shape(split):
            continue
        refused, beside = refused_links(split), loose_images(split)
        for name, files in split.folders.items():
            if not files and name not in split.unreadable and name not in refused:
                text = "a folder without images; MindSpore would count it as a class without examples"
                if beside:
                    text += (
                        f", while {len(beside)} images lie beside the class folders, in no class, such as {beside[0]}"
                    )
                fix = "put its images there, or remove the folder"
                if any(inside.startswith(f"{name}/") for inside in (*split.nested, *split.left_out)):
                    fix = f"put its images there, or, if it is no class: {report.ignore(split, name)}"
                fix = beside_into(split, name, beside) or fix
                yield Finding("empty-class", "error", f"{split.show(name)}/", f"({text})", fix)


def loose_images(split: Split) -> list[str]:
    """The images beside the class folders."""
    return [printable(name) for name in split.loose if is_image_file(split.root / name)]


def beside_into(split: Split, name: str, images: list[str]) -> str:
    """The fix for a class without images if there are some beside its folder; "" if there are none."""
    begins = re.compile(re.escape(name) + "[^a-zA-Z]")  # cat.1.jpg, but not caterpillar.jpg
    if any(map(begins.match, images)) and not any(map(begins.match, split.folders)):
        place = split.root / name
        into = "moves those whose names begin with it into the class"
        return f"mv -n {quoted(place)}[!a-zA-Z]*.* {quoted(place)}/    {into}"
    return "move each of the images beside the class folders into the folder of its class" if images else ""


def class_count(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        asked = report.folders_of or split.classes  # what is missing in a split is reported as that
        count, expected = len(asked), report.class_num
        linked = refused_links(split) - split.folders.keys()  # reported as what they are
        if linked or wrong_shape(split) or any(finding.code == "class-ungrouped" for finding in report.findings):
            continue
        names = ", ".join(printable(name) for name in list(asked)[:12]) + (", …" if count > 12 else "")
        noun = "class" if report.folders_of else split.noun
        others = "other classes or merge" if report.folders_of else f"the folder with {expected} classes"
        fix = f"class_num: {count}, or {others}"
        if count == 1:
            fix = (
                f"add a folder beside {quoted(split.root / names)} with images of what is not {names}, and class_num: 2"
            )
            text = f"has one {noun} ({names}): a network that always says {names} is always right"
            fix = "name images of another class in it, and class_num: 2" if split.table else fix
        else:
            text = f"has {counted(count, noun)} ({names})"
        if expected is not None and count != expected:
            yield Finding("class-count", "error", split.show(), f"{text}, class_num is {expected}", fix)
        elif count == 1:
            yield Finding("class-count", "warning", split.show(), text, fix)


def class_names_differ(report: DatasetReport) -> Iterator[Finding]:
    first, *others = report.splits.values()

    for split in [] if wrong_shape(first) else [split for split in others if not wrong_shape(split)]:
        missing = sorted(first.classes.keys() - split.classes.keys() - refused_links(split))
        extra = sorted(split.classes.keys() - first.classes.keys() - refused_links(first))
        meant = alike(extra, missing)
        fixes = {name: renaming(split, name, meant[name]) for name in meant}
        fixes |= {meant[name]: fixes[name] for name in meant}  # one advice for both sides of a pair
        for name in missing:
            text = f"(in {first.title}, not in {split.title}; every later class would get another index there)"
            fix = f"put images of it into {target_of(split, folder_of(report, name))}, or take it out of "
            fix += "classes or merge" if report.folders_of else quoted(first.root)
            yield Finding("class-missing", "error", f"{split.show(name)}/", text, fixes.get(name, fix))
        for name in extra:
            text = f"(in {split.title}, not in {first.title}; the network has no output for it)"
            fix = f"put images of it into {target_of(first, folder_of(report, name))}, or take it out of "
            fix += "classes or merge" if report.folders_of else quoted(split.root)
            yield Finding("class-extra", "error", f"{split.show(name)}/", text, fixes.get(name, fix))


def folder_of(report: DatasetReport, name: str) -> str:
    """A folder of a class."""
    return report.folders_of.get(name, [name])[0]


def target_of(split: Split, name: str) -> str:
    """What images of a class are put into."""
    return quoted(split.root) if split.table else f"{quoted(split.root / name)}/"


def alike(names: list[str], others: list[str]) -> dict[str, str]:
    """{name: the other name that seems to mean the same class}, each at most once."""
    pairs: dict[str, str] = {}
    for same in (plain_name, letters):
        free = {same(other): other for other in reversed(others) if other not in pairs.values()}
        for name in names:
            if name not in pairs and (other := free.pop(same(name), None)):
                pairs[name] = other
    for name, other in itertools.product(names, others):  # cat and cats; no other letter: typical is not atypical
        one, two = sorted((letters(name), letters(other)), key=len)
        if name not in pairs and other not in pairs.values() and two in (f"{one}s", f"{one}es"):
            pairs[name] = other
    return pairs


def letters(name: str) -> str:
    """Letters and digits of a name, without capitals and accents: "Fly_Agaric" and "fly agaric" have the same."""
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKC", name).casefold())
    return "".join(c for c in decomposed if c.isalnum())


def renaming(split: Split, old: str, new: str) -> str:
    """The fix for a class that another split calls otherwise."""
    before, after = split.root / old, split.root / new
    place = split.title if split.name else printable(str(split.root))
    what = f"in {place}, rename {printable(old)!r} to {printable(new)!r}"
    if unicodedata.normalize("NFC", old) == unicodedata.normalize("NFC", new):
        what = f"in {place}, rename {old!a} to {new!a}, the same letters in another Unicode form"
    if split.table:
        return what
    if plain_name(old) == plain_name(new):  # macOS and Windows see one name: a move into the folder itself
        between = split.root / f"renamed-{letters(new)[:40]}"
        return f"{what}:    mv {quoted(before)} {quoted(between)} && mv {quoted(between)} {quoted(after)}"
    return f"{what}:    mv {quoted(before)} {quoted(after)}"


def wrong_level(report: DatasetReport) -> Iterator[Finding]:
    for split in report.splits.values():
        problem, fix, instead = misplaced(split)
        behind_links = bool(refused_links(split)) and not split.classes and not instead
        if not problem or "" in split.unreadable or behind_links:
            continue
        if report.layout and split.name and not split.classes and split.loose:
            folder = report.layout.folder / report.layout.spelled[split.name]
            away = f"mv {quoted(folder)} {quoted(folder.with_name(f'unlabelled-{folder.name}'))}"
            fix = f"sort its images into one folder per class; without labels, take it away: {away}"
        lines = [*(in_its_place(report, split, folder) for folder in instead[:LISTED]), *[fix] * bool(fix)]
        yield Finding("wrong-level", "error", split.show(), problem, "\n".join(lines))


def in_its_place(report: DatasetReport, split: Split, folder: Path) -> str:
    """What to type to use this folder in the place of the one that was given."""
    if report.layout:  # one ROOT was given
        return typed_with(report.root, folder, last=True) or command("check", folder)
    found = find_splits(folder)
    if split.name in found.spelled:
        folder = found.folder / found.spelled[split.name]
    return f"--test {quoted(folder)}" if split.name == "test" else f"{split.name}_data: {printable(str(folder))}"


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
        repeated, refused = repeated_names(split), refused_links(split)
        for name in split.nested:
            text = "(a folder inside a class; MindSpore stops at it in the middle of an epoch)"
            class_name, _, own = name.partition("/")
            place, left = split.root / name, is_junk(own)
            if not (left or split.folders[class_name] or class_name in refused or has_images(place)):
                continue  # empty-class says what to do with the folder around it
            movable = is_accounted(place) and not is_systems(own)
            fix = report.move(split, name) if movable else report.ignore(split, own if is_systems(own) else name)
            if left:
                text = "(tools leave such a folder; MindSpore stops at it in the middle of an epoch)"
            elif has_images(place):
                away = moving(place, place.parent, class_name in repeated)
                fix = f"put its images directly into the folder of the class:    {away}"
            code = "stray-folder" if left else "nested-folder"
            yield Finding(code, "error", f"{split.show(name)}/", text, fix, place if movable else None)


def repeated_names(split: Split) -> set[str]:
    """The classes in whose folder, or in two folders inside it, two entries have one name, in capitals or not."""
    folders = [name for name in split.nested if not is_junk(name.partition("/")[2])]
    nested = {name.partition("/")[0] for name in folders}
    names = Counter(p.name.lower() for class_name in nested for p in split.folders[class_name])
    names.update(name.lower() for name in split.left_out)
    for folder in folders:
        with suppress(OSError):
            inside = (split.root / folder).iterdir()
            names.update(f"{folder.partition('/')[0]}/{path.name}".lower() for path in inside)
    again = {name.partition("/")[0] for name, count in names.items() if count > 1}
    return {class_name for class_name in nested if class_name.lower() in again}


def moving(source: Path, target: Path, renamed: bool) -> str:
    """The command that moves what is in a folder into another one and removes it. `renamed`: with its name in front."""
    if not renamed:
        return f"mv -n {quoted(source)}/* {quoted(target)}/ && rmdir {quoted(source)}"
    new = f'{quoted(target / f"{source.name}-")}"${{i##*/}}"'
    return f'for i in {quoted(source)}/*; do mv -n "$i" {new}; done && rmdir {quoted(source)}'


def links(report: DatasetReport) -> Iterator[Finding]:
    messages = {
        "leaves": "(a link out of the data set, not followed unless you say so: other machines lack its target)",
        "loop": "(a link to a folder that contains it)",
    }
    for split in report.splits.values():
        for name, reason in split.links.items() if not misplaced(split).instead else ():
            location = split.path(name) if name else None  # what leads to a split is not moved away
            target = "something"
            if location and reason == "broken":
                with suppress(OSError):  # it is gone by now
                    target = printable(str(location.readlink()))
                text = f"(a link to {target}, which does not exist. Left out)"
                fix = "git annex get" if "/annex/objects/" in target else "dvc pull" if "/files/md5/" in target else ""
                fix = f"{fix}    fetches it" if fix else "restore the target, or remove it"
                yield Finding("broken-symlink", "warning", split.show(name), text, fix)
            else:
                fixes = [report.follow(split)] if reason == "leaves" else []
                # a class that is a link, or has nothing but links, is not moved away
                others = split.folders[name.partition("/")[0]] if "/" in name else not has_images(split.root / name)
                fixes += [report.move(split, name)] if not fixes or (others and not wrong_shape(split)) else []
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
        groups = [list(split.folders), *([p.name for p in pictures] for pictures in split.folders.values())]
        for names in groups:
            first: dict[str, str] = {}
            for name in names:
                other = first.setdefault(plain_name(name), name)
                if other != name:
                    form = unicodedata.normalize("NFC", name) == unicodedata.normalize("NFC", other)
                    difference = "Unicode form" if form else "capitals"
                    text = f"(differs from {split.show(other)} only in {difference}: macOS and Windows see one name)"
                    fix = "give one of them another name"
                    if names is groups[0]:
                        one, two = split.root / name, split.root / other
                        counts = Counter(picture.name.lower() for picture in split.pictures)
                        away = moving(one, two, any(counts[p.name.lower()] > 1 for p in split.classes[name]))
                        fix = f"{away}    merges them; if they are two classes, rename one"
                    yield Finding("case-collision", "error", split.show(name), text, fix)


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
        for class_name, pictures in split.folders.items():
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
