"""Find submissions: one zip, tar or folder per student, as learning platforms name them.

None is unpacked here; where names alone could make one student of several, archives are listed.
"""

import hashlib
import logging
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, permutations
from pathlib import Path

from mslab.check.layout import plain_name
from mslab.check.records import printable
from mslab.data.archives import format_of, readable_name
from mslab.errors import MslabError
from mslab.files import FormatError, kind_of, read_text
from mslab.grade import platforms
from mslab.grade.packs import holdings
from mslab.grade.platforms import Download
from mslab.safe_yaml import parse_yaml

log = logging.getLogger("mslab")
METADATA = "submission_metadata.yml"  # of Gradescope's export
WRAPPERS = re.compile(r"submitted|submissions?|submitted files|assignment_\d+_export", re.I)
BESIDE = "a table or text beside the submissions"
MOST = 1000  # entries of a student's folder that are looked at for several packs
LEVELS = 5  # of folders around a class
DOCUMENTS = (".pdf", ".docx", ".doc", ".txt", ".md")
VERSIONS = re.compile(  # what students call versions and parts of their own work
    r"(the|my|lab|task|exercise|homework|hw|assignment|version|ver|v|attempt|try|draft|old|new|newer|newest|older|first|"
    r"second|third|last|latest|final|backup|copy|of|pack|packs|submission|submit|best|run|runs|result|results|report|"
    r"three|two|nine|model|network|test|最终|旧|新|实验|作业|提交|备份|版)*"
)
LOOK_ALIKES = str.maketrans(  # letters of other scripts that look like Latin ones (from Unicode's confusables)
    "аеорсухіјѕһԁԛԝвнкмтАВЕКМНОРСТХІЈЅαβεικνορτυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧıℓ0",
    "aeopcyxijshdqwbhkmtABEKMHOPCTXIJSaveikvoptuxABEZHIKMNOPTYXilo",
)


@dataclass
class Submission:
    """One student's submission. `problem`: reason why it cannot be graded, found before it is opened."""

    id: str
    path: Path  # the first of `parts`
    problem: str = ""
    flags: list[str] = field(default_factory=list)
    sha256: str = ""  # of the copy that is measured; "" until it is made, or if there is a problem
    name: str = ""  # the student's or group's, if the platform tells it
    source: str = ""  # the name on the disk without an archive's ending, as a course system gave it
    parts: dict[str, Path] = field(default_factory=dict)  # name as the student gave it -> file or folder, if several


@dataclass
class Found:
    """A class: its submissions, sorted by id, and (name, reason) of what is no submission."""

    submissions: list[Submission]
    left_out: list[tuple[str, str]]


def find_submissions(folder: str | Path) -> list[Submission]:
    """List the submissions in a folder, sorted by id. Raises MslabError if there is none."""
    return find_class(folder).submissions


def find_class(folder: str | Path, expected: Iterable[str] = (), fewest: int = 3) -> Found:
    """Find a class's submissions; `expected`: files that a submission has, by which it is told from a class.

    `fewest`: entries of a lone folder that make it a class, and not one student's. Raises MslabError if there is none.
    """
    given = Path(folder)
    expected = list(expected)
    folder = class_folder(given, {name.partition("/")[0] for name in expected}, fewest)
    left_out: list[tuple[str, str]] = []
    people = gradescope_people(folder, left_out)
    for around in folder.parents:
        if around.is_relative_to(given):
            found = [path for path in listed(around) if path != folder and path not in folder.parents]
            left_out += [(printable(path.name), no_submission(path)) for path in found]
    paths, groups = with_sections(listed(folder), expected)
    entries = {path.name: path for path in paths if not (people and path.name == METADATA)}
    reasons = {name: reason for name, path in entries.items() if (reason := no_submission(path))}
    readable = {name: readable_name(os.fsencode(name)) for name in entries}
    places = {readable[name]: path for name, path in entries.items() if name not in reasons}

    def holds(names: Mapping[str, str]) -> dict[str, frozenset[str]]:
        packs = [name for name in names if kind_of(places[name]) == "a folder" or is_archive(places[name])]
        return holdings({name: (names[name], places[name]) for name in packs}, expected)

    beside = [readable[name] for name, reason in reasons.items() if reason == BESIDE]
    read = platforms.read_names({name: path.is_dir() for name, path in places.items()}, beside, holds)
    downloads = {name: read.get(readable[name]) or people.get(name) for name in entries}
    for name, path in list(entries.items()):
        if (reason := reasons.get(name, "")) and not (reason == BESIDE and downloads[name]):
            left_out.append((printable(name), reason))
            del entries[name]
            continue
        if not downloads[name] and kind_of(path) == "a file" and not is_archive(path):
            left_out.append((printable(name), "it is no archive"))
            del entries[name]
    submissions = grouped(entries, downloads, readable, left_out)
    if not submissions:
        raise MslabError(
            f"{given} has no submission.",
            details=left_out[:10],
            expected="one zip, tar or folder per student, named after the student",
            fix="put the submissions there; mslab pack RUN makes one",
        )
    for submission in submissions:
        if len(parts := submission.parts) > 1 and submission.name == submission.id:  # nothing but words tells it
            submission.flags.append(f"handed in together: {', '.join(map(printable, list(parts)[:5]))}")
        submission.flags += flags_of_groups(submission.path, groups)
    separate(submissions)
    flag_lookalikes(submissions)
    return Found(sorted(submissions, key=lambda submission: (submission.id, submission.path.name)), sorted(left_out))


def listed(folder: Path) -> list[Path]:
    """The entries of a folder. Raises MslabError if it cannot be read."""
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise MslabError(
            f"{folder} cannot be read: {error.strerror}.",
            expected="a folder with one zip, tar or folder per student, or a platform's download: one zip or tar",
            fix="correct the path",
        ) from None


def class_folder(folder: Path, tops: set[str], fewest: int) -> Path:
    """The folder itself, or the one in it that contains the class: downloads often have folders around everything.

    `tops`: first parts of files that a submission has. `fewest`: entries of a lone folder that make it a class.
    """
    inside, found = folder, folder
    for _ in range(LEVELS):
        entries = [path for path in listed(inside) if not no_submission(path)]
        only = entries[0] if len(entries) == 1 and kind_of(entries[0]) == "a folder" else None
        if only is None or platforms.read_name(only.name, True):
            break
        children = [path for path in listed(only) if not no_submission(path)]
        students = [path for path in children if kind_of(path) == "a folder" or is_archive(path)]
        if tops & {path.name for path in children}:  # it is a student's
            break
        named = any(platforms.read_name(path.name, kind_of(path) == "a folder") for path in students)
        inside = only
        if named or len(students) >= fewest or WRAPPERS.fullmatch(only.name):
            found = only
    return found


def no_submission(path: Path) -> str:
    """Why this entry cannot be a student's, by its name and kind; "" if it can."""
    if path.name.startswith("."):
        return "it is hidden"
    if platforms.is_system(path.name):
        return "an operating system or a tool made it"
    if path.suffix.lower() in platforms.NO_SUBMISSIONS and kind_of(path) == "a file":
        download = platforms.read_name(path.name, False)
        return "" if download else BESIDE
    if path.name.lower() == "working files" and (path.parent / "Submitted files").is_dir():
        return "drafts in Teams; what was handed in is in Submitted files"
    return ""


def is_archive(path: Path) -> bool:
    """Whether the name or the first bytes are an archive's, also one of a kind that is not opened."""
    return bool(platforms.end_of(path.name)) or bool(format_of(path))


def gradescope_people(folder: Path, left_out: list[tuple[str, str]]) -> dict[str, Download]:
    """What Gradescope's submission_metadata.yml says about the folders beside it."""
    try:
        text = read_text(folder / METADATA)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        left_out.append((METADATA, f"it cannot be read: {error}"))
        return {}
    people: dict[str, Download] = {}
    for part in re.split(r"(?m)^(?=\S)", text):  # one submission at a time; its history of results can be long
        try:
            content = parse_yaml(re.split(r"(?m)^  :?history:", part)[0])
        except FormatError as error:
            left_out.append((METADATA, f"part of it cannot be read: {error}"))
            continue
        for name, entry in content.items() if isinstance(content, dict) else ():
            ids, names = platforms.submitters(entry)
            if ids:
                people[str(name)] = Download("+".join(map(printable, ids)), ", ".join(names), platform="Gradescope")
    absent = [name for name in people if not (folder / printable(name)).exists()]
    for name in absent:
        who = ", ".join(filter(None, (people[name].name, people[name].id)))
        left_out.append((printable(name), f"{METADATA} names it, for {printable(who)}, but it is not here"))
    return people


def several_packs(paths: Iterable[Path], expected: list[str]) -> dict[str, dict[str, Path]]:
    """Folders that contain several archives or folders with a pack each, named like people: {name: {stem: path}}."""
    units = {}
    for path in paths:
        if kind_of(path) == "a folder" and not no_submission(path) and not platforms.read_name(path.name, True):
            inside = {id_of(unit): unit for unit in packs_in(path)}
            if len({word_of(stem) for stem in inside} - {""}) > 1:
                units[path.name] = inside
    packs = {(name, stem): (path.name, path) for name, inside in units.items() for stem, path in inside.items()}
    held = holdings(packs, expected)
    groups = {name: {s: path for s, path in inside.items() if held[name, s]} for name, inside in units.items()}
    return {
        name: inside
        for name, inside in groups.items()
        if platforms.clash(held[name, stem] for stem in inside) and len({*map(word_of, inside)} - {""}) > 1
    }


def packs_in(folder: Path) -> list[Path]:
    """The archives and folders in a folder, or in the only folder in it."""
    try:
        for _ in range(LEVELS):
            inside = [path for path in sorted(islice(folder.iterdir(), MOST)) if not no_submission(path)]
            if len(inside) != 1 or kind_of(inside[0]) != "a folder":
                return [path for path in inside if kind_of(path) == "a folder" or is_archive(path)]
            folder = inside[0]
    except OSError:  # whoever reads it later says so
        pass
    return []


def word_of(stem: str) -> str:
    """A stem without numbers and signs; "" if it tells a version, and no student."""
    word = "".join(filter(str.isalpha, stem.casefold()))
    return "" if VERSIONS.fullmatch(word) else word


def with_sections(paths: list[Path], expected: list[str]) -> tuple[list[Path], dict[str, dict[str, Path]]]:
    """(entries of a class, folders in it with several packs); if all are such folders, they are sections.

    Then the entries are those of the sections, unless a name is in two of them.
    """

    def students(paths: Iterable[Path]) -> list[Path]:
        return [path for path in paths if not no_submission(path) and path.suffix.lower() not in DOCUMENTS]

    found, groups = students(paths), several_packs(paths, expected)
    if len(found) == 1 and not groups and kind_of(found[0]) == "a folder":  # a folder around the sections
        inside = [path for path in paths if path != found[0]] + listed(found[0])
        if inner := several_packs(inside, expected):
            paths, found, groups = inside, students(inside), inner
    if not groups or {path.name for path in found} != set(groups):
        return paths, groups
    inside = [path for path in paths if path not in found]
    inside += [path for packs in groups.values() for path in listed(next(iter(packs.values())).parent)]
    names = [id_of(path) for path in students(inside)]
    return (paths if len(set(names)) < len(names) else inside), groups


def flags_of_groups(path: Path, groups: Mapping[str, Mapping[str, Path]]) -> list[str]:
    """What the teacher should know about a student in a section, or about several packs in a student's folder."""
    for name, inside in groups.items():
        if path in inside.values():
            return [f"found in {printable(name)}, which has several packs: it is taken for a section of the class"]
        if path.name == name:
            names = ", ".join(list(inside)[:5])
            return [f"it looks like several students: {names}; if it is, grade this folder by itself"]
    return []


def grouped(
    entries: Mapping[str, Path],
    downloads: Mapping[str, Download | None],
    readable: Mapping[str, str],
    left_out: list[tuple[str, str]],
) -> list[Submission]:
    """One submission for each student; of several attempts the newest."""
    students: dict[tuple[str, str], dict[str, Download]] = defaultdict(dict)
    submissions = []
    for name, path in entries.items():
        if download := downloads[name]:
            students[download.id, download.name if download.platform == "Moodle" else ""][name] = download
        else:
            submissions.append(Submission(id_of(Path(readable[name])), path, source=id_of(path)))
    attempts_of_plain = {submission.source: submission for submission in submissions}
    for (id, _), mine in students.items():
        if (first := attempts_of_plain.get(id)) and not any(download.platform for download in mine.values()):
            mine = {first.path.name: Download(id, file=first.path.name)} | mine  # anna.zip, then "anna (1).zip"
            submissions.remove(first)
        counts, earlier = platforms.newest(mine)
        left_out += [(printable(name), f"an earlier attempt of {printable(id)}") for name in earlier]
        left_out += [(printable(name), "the platform's own text") for name, download in mine.items() if download.own]
        first_name = (counts or list(mine))[0]
        submission = Submission(printable(id), entries[first_name], source=id_of(entries[first_name]))
        names_known = [d.name or blackboard_name(entries[name]) * d.own for name, d in mine.items()]
        submission.name = printable(next(filter(None, names_known), ""))
        if not counts:
            submission.problem = "no file was handed in, only a text in the platform"
        alone = len(counts) == 1 and kind_of(entries[counts[0]]) == "a file" and not is_archive(entries[counts[0]])
        if len(counts) > 1 or alone:  # a report alone is a folder with this file
            given = [file if (file := mine[name].file).strip(".") else name for name in counts]
            names = [name if given.count(file) > 1 else file for name, file in zip(counts, given, strict=True)]
            submission.parts = {name: entries[count] for name, count in zip(names, counts, strict=True)}
        if earlier:
            graded, others = (", ".join(map(printable, names[:5])) for names in (counts, earlier))
            submission.flags.append(f"{len(earlier) + 1} attempts: {graded} is graded, not {others}")
        if any(mine[name].late for name in counts):
            submission.flags.append(f"{mine[first_name].platform} marks it as late")
        submissions.append(submission)
    return submissions


def blackboard_name(text: Path) -> str:
    """The student's name in the text that Blackboard adds: "Name: Anna Lee (alee)"; "" if it is not there."""
    try:
        first = read_text(text, 1 << 20).lstrip("\ufeff").partition("\n")[0]
    except (OSError, ValueError):
        return ""
    match = re.fullmatch(r"[^:]{1,40}: *(.{1,200}?) *\([^()]*\) *", first)
    return match[1] if match else ""


def separate(submissions: Sequence[Submission]) -> None:
    """Give submissions with one id a problem, and an id each."""
    by_id: dict[str, list[Submission]] = {}
    paths = [submission.path for submission in submissions]
    for submission in submissions:
        by_id.setdefault(submission.id, []).append(submission)
    for same in by_id.values():
        if len(same) > 1:
            names = ", ".join(printable(submission.path.name) for submission in same)
            for submission in same:
                submission.problem = f"two submissions have the id {submission.id}: {names}; hand in one"
                # so that each gets its own page with this problem
                submission.id = unique_id(submission, paths, set(by_id) - {submission.id})


def id_of(path: Path) -> str:
    """The id: the file's name without the extension of an archive."""
    return printable(path.name.removesuffix(platforms.end_of(path.name)))


def unique_id(submission: Submission, paths: list[Path], ids: set[str]) -> str:
    """A unique id for a submission whose id is not unique: its file name, if necessary with a hash."""
    name = printable(submission.path.name)
    # "anna.zip" is also the id of anna.zip.zip; escaping a name that is not UTF-8 may give another file's name
    if name in ids or sum(printable(path.name) == name for path in paths) > 1:
        return f"{name} ({hashlib.sha256(os.fsencode(submission.path.name)).hexdigest()[:32]})"
    return name


def flag_lookalikes(submissions: list[Submission]) -> None:
    """Flag ids that are equal on some systems or look equal."""
    by_look: dict[str, list[Submission]] = {}
    for submission in submissions:
        latin = unicodedata.normalize("NFKC", submission.id).translate(LOOK_ALIKES)
        bare = "".join(c for c in unicodedata.normalize("NFKD", latin) if unicodedata.category(c)[0] not in "CM")
        by_look.setdefault(plain_name(bare).replace(" ", ""), []).append(submission)
    for same in by_look.values():
        for submission, similar in permutations(same, 2):
            submission.flags.append(f"the id looks like that of {similar.id!a}")
