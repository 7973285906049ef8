"""Which folders are which classes: each is one, unless the settings `classes` and `merge` choose and merge them.

Other folders are then not looked at. Names are compared in Unicode's composed form, since nobody sees the difference;
capitals count.
"""

import difflib
import json
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence

from mslab.check.layout import alike
from mslab.check.levels import listed, wrong_shape
from mslab.check.records import Finding, Split, printable
from mslab.check.report import DatasetReport

Groups = dict[str, list[str]]  # class -> its folders


def choose(
    report: DatasetReport,
    classes: list[str] | None,
    merged: Groups,
    trained: Mapping[str, Iterable[str]] | None = None,
) -> list[Finding]:
    """Leave out the folders that were not chosen, put merged ones together, and say what does not fit the folders.

    `trained`: the classes of a network, with the folders of each. Data need not have every folder, nor every class;
    those that already have one folder per class stay as they are.
    """
    splits = [split for split in report.splits.values() if not wrong_shape(split)]
    there = sorted({folder for split in splits for folder in split.classes})
    if trained is not None:
        if set(there) <= set(trained):
            return []
        groups, problems = of_network(there, trained), []
    else:
        wanted = {name: merged.get(name, [name]) for name in (merged if classes is None else classes)}
        if not wanted:
            return []
        groups = {name: known(there, own) for name, own in sorted(wanted.items())}
        groups = {own[0] if name not in merged and own else name: own for name, own in groups.items()}
        problems = [*unknown(report, there, wanted), *taken(there, merged)]
        problems += ungrouped([name for name in there if name not in merged], groups) if classes is None else []
    used = {folder for own in groups.values() for folder in own}
    report.folders_of, report.unused = groups, [folder for folder in there if folder not in used]
    for split in splits:
        leave_out(split, set(report.unused))
        problems += parts(split, groups, trained or {})
        put_together(split, groups)
    return problems


def of_network(there: Sequence[str], trained: Mapping[str, Iterable[str]]) -> Groups:
    """The folders of each class of a network. If a class has none, unknown folders stay: one may be it, misnamed.

    They are compared with the network's classes later.
    """
    groups = {name: known(there, own) for name, own in trained.items()}
    if not all(groups.values()):
        used = {folder for own in groups.values() for folder in own}
        for folder in there:
            if folder not in used:
                groups.setdefault(folder, []).append(folder)
    return {name: own for name, own in sorted(groups.items()) if own}


def composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def known(there: Iterable[str], names: Iterable[str]) -> list[str]:
    """The folders that have these names."""
    wanted = set(map(composed, names))
    return [folder for folder in there if composed(folder) in wanted]


def leave_out(split: Split, unused: set[str]) -> None:
    """Forget these folders of a split, and all that is wrong in them."""
    split.chosen = {folder: pictures for folder, pictures in split.classes.items() if folder not in unused}
    split.nested = [name for name in split.nested if name.partition("/")[0] not in unused]
    for table in (split.left_out, split.links, split.unreadable):
        for name in [name for name in table if name.partition("/")[0] in unused]:
            del table[name]


def put_together(split: Split, groups: Groups) -> None:
    """Sort the images of the chosen folders by class; those of a merged class folder by folder."""
    split.classes = {}
    for name, own in groups.items():
        folders = [folder for folder in own if folder in split.folders]
        for folder in folders:
            for picture in split.folders[folder]:
                picture.label = name if name != folder else ""
        if folders:
            split.classes[name] = [picture for folder in folders for picture in split.folders[folder]]


# --- what does not fit -----------------------------------------------------------------------------------------------


def unknown(report: DatasetReport, there: list[str], wanted: Mapping[str, Iterable[str]]) -> Iterator[Finding]:
    for name, own in wanted.items():
        for folder in own:
            if not known(there, [folder]):
                setting = "classes" if own == [name] and folder == name else f"merge, in {printable(name)},"
                text = f"({setting} names it, and no folder is called so: {listed(there)})"
                yield Finding("class-unknown", "error", printable(folder), text, meant(report, there, folder))


def meant(report: DatasetReport, there: list[str], name: str) -> str:
    """The fix for a name that no folder has."""
    if name in report.ignored:
        return f"take {printable(name)} out of ignore, or out of the classes"
    number = int(name) if name.isascii() and name.isdigit() and len(name) < 10 else -1
    if same := [folder for folder in there if folder.isascii() and folder.isdigit() and int(folder) == number]:
        return f'write "{same[0]}" in quotes: without them YAML reads a number'
    if 0 <= number < len(there):
        return f"write names instead of numbers: {number} may mean {printable(there[number])}"
    near = list(alike([name], there).values()) or difflib.get_close_matches(name, there, 1)
    return f"did you mean {printable(near[0])}?" if near else "correct the name, or leave it out"


def taken(there: list[str], merged: Groups) -> Iterator[Finding]:
    for name, own in merged.items():
        if known(there, [name]) and not known(own, [name]):
            text = "(merge calls a group so, which does not contain the folder of this name)"
            fix = f"give the group another name, or write {printable(name)} into its list"
            yield Finding("class-name-taken", "error", f"{printable(name)}/", text, fix)


def ungrouped(there: list[str], groups: Groups) -> Iterator[Finding]:
    used = {folder for own in groups.values() for folder in own}
    if left := [folder for folder in there if folder not in used]:
        both = sorted([*groups, *left])
        one = json.dumps(sorted(groups), ensure_ascii=False), json.dumps(both, ensure_ascii=False)
        leaves = f"classes: {one[0]}    beside merge leaves {'it' if len(left) == 1 else 'them'} out\n"
        fix = f"{leaves * (len(groups) > 1)}classes: {one[1]} and class_num: {len(both)}    "
        fix += "keeps each as a class of its own\nor write each into a group of merge"
        yield Finding("class-ungrouped", "error", listed(left), "(in no group of merge)", fix)


def parts(split: Split, groups: Groups, trained: Mapping[str, Iterable[str]]) -> Iterator[Finding]:
    """The folders of a merged class that this split lacks, while it has others of the class."""
    for name, own in groups.items():
        wanted = list(trained.get(name, own))
        if known(own, wanted) == own and any(folder in split.folders for folder in own):
            for folder in wanted:
                if not known(split.folders, [folder]):
                    text = f"({printable(name)} is made of {listed(wanted)}, and this one is missing in {split.title})"
                    fix = "put images of it there, if there are any"
                    yield Finding("class-part", "warning", f"{split.show(folder)}/", text, fix)
