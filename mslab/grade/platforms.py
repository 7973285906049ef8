"""What learning platforms write into the names of the files that a teacher downloads. No file is opened here.

A platform writes its part in front of what the student chose, so the first match from the left is its own: a student
cannot hand in for somebody else by the name of a file.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from os.path import commonprefix
from typing import NamedTuple

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
SYSTEM_FOLDERS = ("__macosx", ".git", ".svn", ".hg", ".ipynb_checkpoints", "$recycle.bin", "@eadir", ".@__thumb")
SYSTEM_FILES = ("thumbs.db", "ehthumbs.db", "desktop.ini", ".ds_store", ".localized", "icon\r", ".directory")
# what platforms and teachers put beside submissions; archives are told by their content as well
NO_SUBMISSIONS = (".csv", ".xlsx", ".xls", ".ods", ".yml", ".yaml", ".html", ".htm", ".json", ".txt", ".md", ".log")

MOODLE = re.compile(r"(?P<name>.*?)_(?P<id>[0-9]{1,18})_assignsubmission_(?P<kind>[a-z]*)_?(?P<file>.*)", re.S)
CANVAS = re.compile(
    r"(?P<name>[^_].*?)_(?P<late>LATE_)?(?P<id>[0-9]{2,18}|(?<=anon_)\w{5}|(?<=anon_LATE_)\w{5})_(?P<number>[0-9]{2,18})_(?P<file>.+)",
    re.S,
)
CANVAS_TEXT = re.compile(r"(?P<name>.+?)_(?P<late>LATE_)?(?P<id>[0-9]{2,18})_(?:text|link|url|text_entry)\.html?", re.S)
BLACKBOARD = re.compile(
    r"(?P<task>.*?)_(?P<id>[^_]+)_attempt_(?P<time>\d{4}(?:-\d\d){5})(?:_(?P<file>.+)|(?P<own>\.txt))?", re.S
)
BRIGHTSPACE = re.compile(
    r"(?P<id>\d{1,18})-(?P<number>\d{1,18}) - (?P<name>.+?) - (?P<time>[^-]*\b\d{4}\b[^-]*?)(?: - (?P<file>.+))?", re.S
)
SAKAI = re.compile(r"(?P<name>[^(),]+, ?[^(),]+)\((?P<id>[^()]+)\)")  # folders
NUMBER, NAME = r"(?P<id>[A-Za-z]{0,3}\d{5,20})", r"(?P<name>[^\d\W][^\d_]*?)"
BETWEEN, TASK = "[-_+ －—]+", "(?:[-_+－—](?P<file>.*))?"
NUMBER_NAME, NAME_NUMBER = (re.compile(a + BETWEEN + b + TASK, re.S) for a, b in ((NUMBER, NAME), (NAME, NUMBER)))
CLASSROOM = re.compile(r"(?P<name>\S(?:.*?\S)?) - (?P<file>.+)", re.S)  # Google's
REPORTS = (".md", ".txt", ".html", ".htm")  # of NO_SUBMISSIONS what a student may hand in alone
AGAIN = re.compile(r"(?P<first>.*\S) ?\((?P<number>\d{1,3})\)", re.S)  # what browsers and file systems append
RESUBMITTED = re.compile(r"(?P<first>.*)-(?P<number>\d{1,3})", re.S)  # Canvas

Holdings = Callable[[Mapping[str, str]], Mapping[str, frozenset[str]]]


@dataclass(frozen=True)
class Download:
    """What a name says: whose it is, and which attempt."""

    id: str
    name: str = ""  # the student's, or the group's
    file: str = ""  # its name as the student gave it; "" for a folder of the student's files
    series: str = ""  # of one series only the highest attempt counts; files of several series are handed in together
    attempt: tuple[int | str, ...] = ()
    late: bool = False
    platform: str = ""
    own: bool = False  # the platform's text about the student, nothing that was handed in


def end_of(name: str) -> str:
    """The name's ending if it is that of an archive, else ""."""
    return next((name[-len(end) :] for end in ARCHIVES if name.lower().endswith(end) and len(name) > len(end)), "")


def is_system(name: str) -> bool:
    """Whether a file or folder inside a submission is an operating system's or a tool's."""
    lower = name.lower()
    return lower in SYSTEM_FOLDERS or lower in SYSTEM_FILES or lower.startswith(("._", "~$", ".~lock."))


def read_name(name: str, is_folder: bool) -> Download | None:
    """What a platform's name says; None if it is of no platform whose names tell it alone."""
    if match := MOODLE.fullmatch(name):
        file = match["file"].strip("_") if is_folder else match["file"]
        own = match["kind"] not in ("", "file")
        return Download(match["id"], match["name"], file or match["kind"], platform="Moodle", own=own)
    if match := BLACKBOARD.fullmatch(name):
        own = match["own"] is not None
        return Download(match["id"], "", match["file"] or "", "", (match["time"],), False, "Blackboard", own)
    if match := BRIGHTSPACE.fullmatch(name):
        time = (*time_of(match["time"]), int(match["number"]))
        return Download(match["id"], match["name"], match["file"] or "", attempt=time, platform="Brightspace")
    if is_folder:
        match = SAKAI.fullmatch(name)
        return Download(match["id"], match["name"], platform="Sakai") if match else None
    if match := CANVAS.fullmatch(name):
        end = end_of(match["file"])
        stem = match["file"].removesuffix(end)
        again = RESUBMITTED.fullmatch(stem)
        first, count = (again["first"], int(again["number"])) if again else (stem, 0)
        attempt = (count, int(match["number"]))
        late = bool(match["late"])
        return Download(match["id"], match["name"], match["file"], first + end, attempt, late, "Canvas")
    if match := CANVAS_TEXT.fullmatch(name):
        return Download(match["id"], match["name"], late=bool(match["late"]), platform="Canvas", own=True)
    return None


def read_names(
    names: Mapping[str, bool], beside: Iterable[str] = (), holds: Holdings = lambda _: {}
) -> dict[str, Download]:
    """What each name says that says something; `names`: name -> whether it is a folder.

    A name such as 20260001-Li.zip or "Lee - pack.zip" tells a student only if the others of the class agree: each
    number has one name, and no student has several packs. `beside`: names of tables and texts, which are a student's
    if those of archives and folders tell one. `holds`: {name: its file's name as handed in} -> the weights in each
    that is an archive or a folder.
    """
    found = {name: read for name, is_folder in names.items() if (read := read_name(name, is_folder))}
    for platform in ("Moodle", "Canvas"):  # a "number" with several names is no student's
        drop(found, platform, keep=platform == "Moodle")
    blackboard = {name: BLACKBOARD.fullmatch(name) for name, read in found.items() if read.platform == "Blackboard"}
    heads = {name: f"{match['task']}_{match['id']}" for name, match in blackboard.items() if match}
    together = commonprefix(list(heads.values())) if len(set(heads.values())) > 1 else ""  # noqa: RUF071, no paths
    task = together.rpartition("_")[0]
    for name, head in heads.items():  # a user's name may contain "_": what differs in the class is the user's
        found[name] = replace(found[name], id=head[len(task) + 1 :] if task else found[name].id)
    rest = {name: name.removesuffix("" if is_folder else end_of(name)) for name, is_folder in names.items()}
    rest = {name: stem for name, stem in rest.items() if name not in found}
    texts = {name: name.rpartition(".")[0] for name in beside}
    for pattern in (NUMBER_NAME, NAME_NUMBER, CLASSROOM):
        rows = rows_of(pattern, rest)
        apart = several_students(rows, holds)
        students: dict[str, set[str]] = defaultdict(set)
        for row in rows.values():
            students[row.id].add(row.name)
        mine = {name: row for name, row in rows.items() if len(students[row.id]) == 1 and name not in apart}
        known = {(row.id, row.name) for row in mine.values()}
        for name, row in rows_of(pattern, texts | {name: rest[name] for name in mine}).items():
            if name in texts and known and ((row.id, row.name) in known or name.lower().endswith(REPORTS)):
                mine[name] = row
        for name, row in mine.items():
            stem = rest.pop(name, "") or texts.pop(name)
            end = name.removeprefix(stem)
            found[name] = Download(
                row.id, row.name, f"{row.file}{end}" if row.file else name, row.file, (count_of(stem),)
            )
    stems = set(rest.values())
    for name, stem in rest.items():
        again = AGAIN.fullmatch(stem)
        if again and again["first"] in stems:  # anna.zip and "anna (1).zip"
            found[name] = Download(again["first"], "", name, attempt=(int(again["number"]),))
    return found


class Row(NamedTuple):
    """What a name says by a pattern."""

    id: str
    name: str
    file: str  # "" if it says no more


def rows_of(pattern: re.Pattern[str], stems: Mapping[str, str]) -> dict[str, Row]:
    """What names say by a pattern. `stems`: name -> name without its ending."""
    rows = {}
    for name, stem in stems.items():
        if match := pattern.fullmatch(without_count(stem)):
            own = match["name"].strip()
            rows[name] = Row(match.groupdict().get("id") or own, own, match["file"] or "")
    names, ids = ({row[column] for row in rows.values()} for column in (1, 0))
    if pattern is NAME_NUMBER and len(names) == 1 < len(ids):
        after = {name: re.fullmatch(NAME + TASK, row.file, re.S) for name, row in rows.items()}
        if all(after.values()):  # Lab_20260001_Anna, Lab_20260002_Ben
            rows = {n: Row(rows[n].id, match["name"], match["file"] or "") for n, match in after.items() if match}
    return rows


def several_students(rows: Mapping[str, Row], holds: Holdings) -> set[str]:
    """Names by which several students would become one: each is kept by itself.

    "Lab 3 - Anna.zip" and "Lab 3 - Ben.zip" have a pack each; "Anna - three.zip" and "Anna - two.zip" are one's parts.
    """
    files: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name, row in rows.items():
        files[row.id][row.file].append(name)  # of one file there may be several attempts
    if max(map(len, files.values()), default=0) < 2:
        return set()
    held = holds({name: f"{row.file}{end_of(name)}" for name, row in rows.items() if len(files[row.id]) > 1})
    packs = {row.file for name, row in rows.items() if name in held or len(files[row.id]) == 1}
    one_task = len(files) == 1 or len(packs) > len(files)  # what comes first is the same for many
    if len(files) == 1 and not held:  # the same word before all
        return set(rows)
    apart = set()
    for by_file in files.values():
        parts = {file: [held[name] for name in names if name in held] for file, names in by_file.items()}
        contents = [frozenset[str]().union(*part) for part in parts.values() if part]
        if clash(contents) or (one_task and len(contents) > 1 and not all(contents)):
            apart |= {name for names in by_file.values() for name in names}
    return set(rows) if apart and one_task else apart


def clash(held: Iterable[frozenset[str]]) -> bool:
    """Whether two contain the same weights: they are no parts of one pack."""
    all_held = list(held)
    return sum(map(len, all_held)) > len(frozenset[str]().union(*all_held))


def drop(found: dict[str, Download], platform: str, keep: bool) -> None:
    """Forget what names of a platform say where a number belongs to several names; `keep`: the teacher decides."""
    names = defaultdict(set)
    for download in found.values():
        if download.platform == platform:
            names[download.id].add(download.name)
    for name, download in list(found.items()):
        if download.platform == platform and len(names[download.id]) > 1 and not keep:
            del found[name]


def without_count(stem: str) -> str:
    again = AGAIN.fullmatch(stem)
    return again["first"] if again else stem


def count_of(stem: str) -> int:
    again = AGAIN.fullmatch(stem)
    return int(again["number"]) if again else 0


def time_of(text: str) -> tuple[int, ...]:
    """A time of Brightspace as numbers that can be compared. "Nov 1, 2026 1200 PM" -> (2026, 11, 1, 12, 0)."""
    year, month, day, hour, minute = 0, 0, 0, 0, 0
    for word in re.findall(r"[^\W\d_]+|\d+", text):
        low = word.lower()
        if low[:3] in MONTHS:
            month = MONTHS.index(low[:3]) + 1
        elif low in ("am", "pm"):
            hour = hour % 12 + 12 * (low == "pm")
        elif word.isdigit() and len(word) <= 2 and not day:
            day = int(word)
        elif word.isdigit() and len(word) == 4 and not year:
            year = int(word)
        elif word.isdigit() and len(word) <= 4:
            hour, minute = divmod(int(word), 100) if len(word) > 2 else (int(word), 0)
    return year, month, day, hour, minute


def newest(downloads: Mapping[str, Download]) -> tuple[list[str], list[str]]:
    """(names of one student's files that count, those of earlier attempts)."""
    latest: dict[str, tuple[int | str, ...]] = {}
    handed_in = {name: download for name, download in downloads.items() if not download.own}
    for download in handed_in.values():
        latest[download.series] = max(latest.get(download.series, ()), download.attempt)
    counts = [name for name, download in handed_in.items() if download.attempt == latest[download.series]]
    return counts, [name for name in handed_in if name not in counts]


def natural(text: str) -> list[tuple[int, str]]:
    """Key that sorts numbers in names by their value: "Version 10" after "Version 9"."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d{1,18})", text.casefold())]


def submitters(entry: object) -> tuple[list[str], list[str]]:
    """(ids, names) of a submission in Gradescope's submission_metadata.yml, whose keys may begin with a colon."""

    def plain(table: object) -> dict[str, object]:
        return {str(key).lstrip(":"): value for key, value in table.items()} if isinstance(table, Mapping) else {}

    people = plain(entry).get("submitters")
    ids, names = [], []
    for person in map(plain, people if isinstance(people, list) else []):
        texts: Iterable[str] = (str(person.get(key) or "").strip() for key in ("sid", "email", "name"))
        if known := next(filter(None, texts), ""):
            ids.append(known)
            names.append(str(person.get("name") or "").strip())
    return ids, [name for name in names if name]
