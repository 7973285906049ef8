"""What a folder is that was given as a data set and is none: a level too high or too low, or another layout."""

import os
import re
from collections.abc import Iterable
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from mslab.check import packed
from mslab.check.records import Split, printable
from mslab.check.scan import has_images, is_image_file, is_leftover
from mslab.check.splits import DEPTH, find_splits, says_nothing, split_names, splits_in, subfolders
from mslab.check.tabular import SUFFIXES
from mslab.escaping import command, quoted
from mslab.files import kind_of, read_text
from mslab.safe_yaml import parse_yaml

LISTED = 8  # data sets that a message lists
LOOKED_AT = 2_000  # folders, at most, in the search for them
SYSTEM = {"/proc", "/sys", "/dev", "/run"}  # no disk is there
ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz")
DETECTION = "which is made for finding objects in an image; here every image has one class, the name of its folder"
TABLES = (".csv", ".tsv", ".xlsx", ".jsonl", ".parquet")
LISTS = re.compile(r"(?i).*(train|val|test|label|list|class|annot|target|gt).*\.(txt|lst)")  # "path label" in each line
SORT = "sort the images of each split into one folder per class"
EXPORT = "export it as folders of classes (Roboflow: Folder Structure), or sort the images into one folder per class"
NAME = "give a folder that contains one folder of images per class"


class Shape(NamedTuple):
    """What a folder contains instead of class folders, and the fix; "" if it does contain them."""

    problem: str = ""
    fix: str = ""
    instead: tuple[Path, ...] = ()  # folders that can be given in its place


def wrong_shape(split: Split) -> str:
    """What the split contains instead of class folders, or ""."""
    return misplaced(split).problem


def misplaced(split: Split) -> Shape:
    """What the split contains instead of class folders."""
    if split.shape is None:  # several rules ask for it, and it may take a look at thousands of folders
        split.shape = look(split)
    return split.shape


def look(split: Split) -> Shape:
    root, names = split.root, list(split.classes)
    if "" in split.unreadable:
        return Shape("cannot be read")
    if shape := runs(root, names):
        return shape
    if not names and not split.links:
        return without_folders(split)
    called = split_names(names)
    empty = [name for name in names if not split.classes[name]]
    within: dict[str, list[str]] = {name: [] for name in empty}
    for class_name, _, name in (nested.partition("/") for nested in split.nested):
        if class_name in within and not is_leftover(root / class_name / name):
            within[class_name].append(name)
    folders = [name for name in called if within.get(name)]
    if folders and ("train" in map(called.get, folders) or called.keys() >= set(names) - set(empty)):
        wanted = [name for name in folders if called[name] == (split.name or "train")] or folders
        return Shape(
            f"contains the splits {listed(called)}, not classes", f"name one of them: {quoted(root / wanted[0])}"
        )
    if folders and set(within[folders[0]]) & set(names):
        name = quoted(Path(folders[0]))
        text = f"contains {printable(folders[0])}, which has the same classes as what is around it: a split in another"
        away = f"mkdir .train && mv ./* .train/ && mv .train/{name} . && mv .train train"
        return Shape(text, f"(cd {quoted(root)} && {away})    puts the classes into train/, beside it")
    foreign = [name for name in empty if within[name] or any(n.startswith(f"{name}/") for n in split.left_out)]
    if shape := several(split, foreign):
        return shape
    if not names:
        return without_folders(split)
    if called.keys() == set(names) and (len(set(called.values())) > 1 or len(names) == 1):
        problem, fix = labels_elsewhere(root, *names) or ("", SORT)
        text = f"contains the splits {listed(called)}, not classes, and they contain no class folders"
        if len(names) > 1 and not empty:  # one without such a name is enough
            rename = f"mv {quoted(root / names[0])} {quoted(root / f'a-{names[0]}')}"
            fix += f"\nor, if they are classes, rename one of them: {rename}"
        return Shape(f"{text}{': ' * bool(problem)}{problem}", fix)
    found = labels_elsewhere(root) if {"labels", "annotations"} & {name.casefold() for name in empty} else None
    if len(names) == 1 and says_nothing(names[0]) and split.classes[names[0]]:
        found = labels_elsewhere(root) or ("a name that says nothing of the images in it", SORT)
    if found:
        return Shape(f"contains {listed(names)}, not classes: {found[0]}", found[1])
    if len(empty) == len(names) and all(within.values()):
        return folders_of_folders(split, within)
    if len(foreign) > len(names) - len(empty):
        some = f"; only {listed(n for n in names if split.classes[n])} has images" * (len(empty) < len(names))
        return Shape(f"contains {listed(foreign)}, with other things than images in them{some}", NAME)
    return Shape()


def without_folders(split: Split) -> Shape:
    """The shape of a folder without class folders: of a class, of images without labels, or of anything else."""
    root = split.root
    if not any(is_image_file(root / name) for name in split.loose):
        archives = [name for name in split.loose if name.lower().endswith(ARCHIVES)]
        unpack = "\n".join(command("data", "import", root / name) for name in archives[:LISTED])
        return Shape("contains no class folder", unpack or NAME)
    above = Path(os.path.abspath(root)).parent if root.name in ("", "..") else root.parent  # noqa: PTH100
    problem, fix = labels_elsewhere(root) or ("", "")
    if problem:
        return Shape(f"contains images but no class folders: {problem}", fix)
    text = "contains images but no class folders: it is one class, not a data set, or its images have no labels"
    if sum(has_images(above / name) for name in subfolders(above)[:1000]) > 1:
        return Shape(text, "", (above,))
    return Shape(text, "sort its images into one folder per class, and give the folder around these")


def above_everything(root: Path) -> Shape | None:
    """The shape of a folder that holds everything of a machine or of a user."""
    path = Path(os.path.abspath(root))  # noqa: PTH100
    if path != path.parent and str(path) != os.path.expanduser("~"):  # noqa: PTH111, Path.home() may raise
        return None
    if path == path.parent:
        return Shape("is the top of the file system, not a data set", NAME)
    return holding("is your home folder, not a data set", data_sets(root))


def holding(text: str, sets: list[Path]) -> Shape:
    """The shape of a folder that is no data set, with the data sets that it holds."""
    return Shape(f"{text}; it holds {described(sets)}", "", tuple(sets)) if sets else Shape(text, NAME)


def runs(root: Path, names: list[str]) -> Shape | None:
    """The shape of a run's folder, or of a folder of runs."""
    run = root.parent if root.name == "checkpoints" else root
    if is_run(run):
        images = data_of(run)
        fix = "give the data set; the run's config.yaml names it as train_data and val_data"
        return Shape("is of a run of mslab train, and contains no images", "" if images else fix, images)
    if inside := [name for name in names if is_run(root / name)]:
        return holding(f"contains runs of mslab train ({listed(inside)}), not classes of images", data_sets(root))
    return None


def data_of(run: Path) -> tuple[Path, ...]:
    """The folders of images that a run's settings name, if they are there."""
    with suppress(OSError, ValueError, AttributeError):
        settings = parse_yaml(read_text(run / "config.yaml"))
        folders = [Path(str(settings.get(name))) for name in ("train_data", "val_data")]
        return tuple(folder for folder in folders if kind_of(folder, links=True) == "a folder")
    return ()


def is_run(folder: Path) -> bool:
    return all(kind_of(folder / name, links=True) == "a file" for name in ("manifest.json", "config.yaml"))


def several(split: Split, foreign: list[str]) -> Shape | None:
    """The shape of a folder of data sets, at any level. `foreign`: folders that hold something, but no images."""
    if not (split.nested or split.links):
        return None
    sets, images = data_sets(split.root), [name for name in split.classes if split.classes[name]]
    certain = [f for f in sets if is_split(f) or (says_nothing(f.name) and len(images) < 2)]  # data/, beside docs/
    if not certain and (len(sets) < 2 or len(foreign) <= len(images)):
        return None
    if len(sets) > 1:
        return many("", sets) if certain or images or not all_nested(split) else None
    return Shape(f"is no data set; it holds one: {described(sets)}", "", tuple(sets))


def all_nested(split: Split) -> bool:
    return {nested.partition("/")[0] for nested in split.nested} >= split.classes.keys()


def many(text: str, sets: list[Path]) -> Shape:
    """The shape of a folder of data sets. Folders of folders may also be classes with an inner order."""
    flat = not any(map(is_split, sets))
    other = f"or, if {listed(folder.name for folder in sets)} are classes, put their images directly into them" * flat
    return Shape(f"{text}holds several data sets; give one: {described(sets)}", other, tuple(sets))


def described(sets: list[Path]) -> str:
    """The data sets, each with its splits, or with the number of its classes."""
    texts = []
    for folder in sets[:LISTED]:
        spelled = splits_in(folder, subfolders(folder))
        inside = ", ".join(spelled) or f"{sum(has_images(folder / name) for name in subfolders(folder))} classes"
        texts.append(f"{printable(folder.name)} ({inside})")
    return ", ".join(texts) + (f" and {len(sets) - LISTED} more" if len(sets) > LISTED else "")


def data_sets(root: Path) -> list[Path]:
    """The data sets in a folder, the highest ones first. A large tree is not searched to its end."""
    found: list[Path] = []
    level, seen, left = [root], {os.path.realpath(root)}, LOOKED_AT
    for _ in range(DEPTH):
        below = []
        for path in (folder / name for folder in level for name in subfolders(folder)):
            real = os.path.realpath(path)
            if real not in seen and real not in SYSTEM:
                seen.add(real)
                below.append(path)
        below, left = below[:left], left - len(below)
        level = []
        for path in below:
            (found if is_data_set(path) else level).append(path)
    return found


def is_data_set(folder: Path) -> bool:
    """Whether the folder has splits with classes in them, or several classes."""
    if is_split(folder):
        return True
    classes = [name for name in subfolders(folder) if has_images(folder / name)]
    return len(classes) > 1 and len(split_names(classes)) < len(classes)  # cat/train and cat/val are of one class


def is_split(folder: Path) -> bool:
    """Whether the folder has splits with classes in them."""
    spelled = splits_in(folder, subfolders(folder))
    places = find_splits(folder).splits.values() if spelled else ()
    return any(packed.is_pack(place) or any(has_images(place / name) for name in subfolders(place)) for place in places)


def folders_of_folders(split: Split, within: dict[str, list[str]]) -> Shape:
    """The shape of a split whose folders contain no images but folders."""
    names, folder = list(within), split.root
    inner = dict.fromkeys(name for inside in within.values() for name in inside)
    with_images = any(has_images(folder / name / inside[0]) for name, inside in within.items())
    if with_images and all(split_names([name]) for name in inner):
        target = f"{os.path.abspath(folder)}-by-split"  # noqa: PTH100
        text = f"contains the classes {listed(names)}, with the splits {listed(inner)} in each: they are expected the "
        text += "other way round, with the classes in each split"
        loop = 'for i in ./*/*/; do c=${i#./}; mkdir -p "$OUT/${c#*/}" && cp -r "$i." "$OUT/${c#*/}${c%%/*}"; done'
        return Shape(
            text, f"(OUT={quoted(Path(target))}; cd {quoted(folder)} && {loop})    copies them into that order"
        )
    if with_images and len(inner) == 1 and all(len(inside) == 1 for inside in within.values()) and len(names) > 1:
        name = quoted(Path(next(iter(inner))))
        text = f"contains {listed(names)}, each with its images one level deeper, in {listed(inner)}/"
        loop = f'for i in ./*/{name}; do mv "$i"/* "${{i%/*}}" && rmdir "$i"; done'
        return Shape(text, f"(cd {quoted(folder)} && {loop})    moves them into the folders of the classes")
    text = f"contains {listed(names)}, with the folders {listed(inner)} in them: neither classes of images nor splits "
    text += "under a name that mslab knows"
    if len(sets := data_sets(folder)) > 1:
        return many(f"{text}; it ", sets)
    fix = f"name one of them: {quoted(folder / names[0])}; or, if they are splits, rename them to train, val and test; "
    fix += "or, if they are classes, put the images of their folders directly into them"
    return Shape(text, fix if with_images else NAME)


def listed(names: Iterable[str]) -> str:
    shown = [printable(name) for name in names]
    return ", ".join(shown[:6]) + (f" and {len(shown) - 6} more" if len(shown) > 6 else "")


def keep_boxes(folder: Path, form: str) -> str:
    return f"{command('data', 'import', folder, '--format', form)}    keeps its boxes, as COCO's JSON"


def labels_elsewhere(folder: Path, *inside: str) -> tuple[str, str] | None:
    """(how the labels of images without class folders are stored, the fix), or None if nothing tells.

    `inside`: folders in it that have the images.
    """
    above = folder.parent if says_nothing(folder.name) or split_names([folder.name]) else folder
    places = dict.fromkeys((folder, above, *(folder / name for name in inside)))
    entries = [(path.name, path) for place in places for path in listing(place)]
    names = {name.lower() for name, _ in entries}
    if "jpegimages" in names or any(path.suffix == ".xml" for _, path in entries):
        return f"Pascal VOC's layout (boxes in XML files), {DETECTION}", f"{EXPORT}\n{keep_boxes(above, 'voc')}"
    if any(name.endswith(".coco.json") or name.startswith("instances_") for name in names):
        fix = f"{EXPORT}\n{command('check', above, '--task', 'detect')}    checks its boxes"
        return f"COCO's layout (boxes in a JSON file), {DETECTION}", fix
    if "annotations" in names:
        return f"a layout with boxes or outlines in annotations/, {DETECTION}", EXPORT
    if "labels" in names or "data.yaml" in names or "classes.txt" in names:
        return f"YOLO's layout (boxes in labels/*.txt), {DETECTION}", f"{EXPORT}\n{keep_boxes(above, 'yolo')}"
    tables = [path for name, path in entries if may_have_labels(name)]
    if tables:
        text = f"the labels may be in {listed(path.name for path in tables)}"
        readable = [path for path in tables if path.suffix.lower() in SUFFIXES]
        fix = "\n".join(
            f"{command('data', 'import', path.parent, '--labels', path)}    sorts them into folders, as a copy"
            for path in readable[:3]
        )
        return (
            f"{text}; here the name of an image's folder is its label",
            fix or f"save {quoted(tables[0])} as CSV; then mslab data import FOLDER --labels FILE.csv",
        )
    return None


def may_have_labels(name: str) -> bool:
    """Whether a file is, by its name, a table in which labels may be; not one that is to be handed in."""
    base = name.rpartition("/")[2]
    return (base.lower().endswith(TABLES) or LISTS.fullmatch(base) is not None) and "submission" not in base.lower()


def listing(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            return sorted(Path(entry.path) for entry in islice(entries, 10_000))
    except OSError:
        return []
