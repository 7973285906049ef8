"""Find submissions: one zip, tar or folder per student. None is opened here."""

import hashlib
import logging
import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from pathlib import Path

from mslab.check.layout import plain_name
from mslab.check.records import printable
from mslab.check.scan import is_junk
from mslab.errors import MslabError
from mslab.runtime.tables import plural

log = logging.getLogger("mslab")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
DOWNLOADED = re.compile(r"(?P<name>.*?)_(?P<number>[0-9]{1,18})_assignsubmission_.*", re.S)  # Moodle's downloads
SYSTEM_FILES = ("thumbs.db", "desktop.ini")  # of Windows' Explorer; those of others are hidden
NUMBERS = re.compile("_[0-9]{1,18}_assignsubmission_")
LOOK_ALIKES = str.maketrans(  # letters of other scripts that look like Latin ones (from Unicode's confusables)
    "аеорсухіјѕһԁԛԝвнкмтАВЕКМНОРСТХІЈЅαβεικνορτυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧıℓ0",
    "aeopcyxijshdqwbhkmtABEKMHOPCTXIJSaveikvoptuxABEZHIKMNOPTYXilo",
)


@dataclass
class Submission:
    """One student's submission. `problem`: reason why it cannot be graded, found before it is opened."""

    id: str
    path: Path
    problem: str = ""
    flags: list[str] = field(default_factory=list)
    sha256: str = ""  # of the copy that is measured; "" until it is made, or if there is a problem


def find_submissions(folder: str | Path) -> list[Submission]:
    """List the submissions in a folder, sorted by id. Raises MslabError if there is none."""
    folder = Path(folder)
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise MslabError(
            f"{folder} cannot be read: {error.strerror}.",
            expected="a folder with one zip, tar or folder per student",
            fix="correct the path",
        ) from None
    paths = [path for path in entries if not path.name.startswith((".", "__MACOSX"))]
    for path in sorted(set(entries) - set(paths)):
        log.info(f"note: {printable(path.name)} is hidden and is not graded")
    if not paths:
        raise MslabError(
            f"{folder} has no submission.",
            expected="one zip, tar or folder per student, named after the student",
            fix="put the submissions there; mslab pack RUN makes one",
        )
    submissions = [Submission(id_of(path), path) for path in paths]
    by_id: dict[str, list[Submission]] = {}
    for submission in submissions:
        by_id.setdefault(submission.id, []).append(submission)
    for same in by_id.values():
        if len(same) > 1:
            names = ", ".join(printable(submission.path.name) for submission in same)
            for submission in same:
                submission.problem = f"two submissions have the id {submission.id}: {names}; hand in one"
                # so that each gets its own page with this problem
                submission.id = unique_id(submission, paths, set(by_id) - {submission.id})
    flag_lookalikes(submissions)
    return sorted(submissions, key=lambda submission: (submission.id, submission.path.name))


def id_of(path: Path) -> str:
    """The id: the file's name without the extension of an archive."""
    lower = path.name.lower()
    end = next((end for end in ARCHIVES if lower.endswith(end) and len(lower) > len(end)), "")
    return printable(path.name[: len(path.name) - len(end)])


def unique_id(submission: Submission, paths: list[Path], ids: set[str]) -> str:
    """A unique id for a submission whose id is not unique: its file name, if necessary with a hash."""
    name = printable(submission.path.name)
    # "anna.zip" is also the id of anna.zip.zip; escaping a name that is not UTF-8 may give another file's name
    if name in ids or sum(printable(path.name) == name for path in paths) > 1:
        return f"{name} ({hashlib.sha256(os.fsencode(submission.path.name)).hexdigest()[:32]})"
    return name


# --- rows of course systems ------------------------------------------------------------------------------------------


def moodle_row(id: str) -> tuple[str, str, str]:
    """(Identifier, full name, ID number) of a submission's row in Moodle.

    Moodle writes NAME_NUMBER_assignsubmission_ in front of what the student chose, so the first match from the left is
    its own: moodle_row("Bob_12_assignsubmission_file_x_999_assignsubmission_") -> ("Participant 12", "Bob", "")
    """
    download = DOWNLOADED.fullmatch(id)
    return (f"Participant {int(download['number'])}", download["name"], "") if download else ("", "", id)


def archive_alone(id: str, copy: Path) -> Path | None:
    """The archive in a folder of Moodle's "Download submissions in folders", if a student put nothing else there."""
    entries = list(copy.iterdir()) if moodle_row(id)[0] and copy.is_dir() else []
    inside = [path for path in entries if not is_junk(path.name) and path.name.lower() not in SYSTEM_FILES]
    alone = len(inside) == 1 and inside[0].is_file() and inside[0].name.lower().endswith(ARCHIVES)
    return inside[0] if alone else None


def same_rows(ids: Iterable[str]) -> dict[str, list[str]]:
    """Rows of a course system that several ids claim: the participant, or the id without what a system may ignore."""
    claims: dict[str, list[str]] = {}
    for id in ids:
        plain = plain_name(unicodedata.normalize("NFKC", id))  # capitals and Unicode forms
        plain = "".join(c for c in plain if unicodedata.category(c)[0] != "C").strip()  # invisible characters, spaces
        claims.setdefault(moodle_row(id)[0] or plain, []).append(id)
    return {row: same for row, same in claims.items() if len(same) > 1}


def check_rows(submissions: Sequence[Submission]) -> None:
    """Raise MslabError if two submissions are one participant's; flag ids that a course system may confuse."""
    claims = same_rows(submission.id for submission in submissions)
    if twice := [(row, " and ".join(map(ascii, ids))) for row, ids in claims.items() if moodle_row(ids[0])[0]]:
        raise MslabError(
            f"{plural(len(twice), 'participant')} would get the points of several submissions in the course system.",
            details=twice,
            expected="one submission per participant; nothing was measured",
            fix="remove the others; 'Download submissions in folders' gives one folder for each participant",
        )
    for submission in submissions:
        if len(NUMBERS.findall(submission.id)) > 1:
            submission.flags.append(f"its name has several numbers; {moodle_row(submission.id)[0]} counts")
        for ids in claims.values():
            if submission.id in ids:
                others = ", ".join(ascii(id) for id in ids[:5] if id != submission.id)
                submission.flags.append(f"left out of the course system's table, which may confuse it with {others}")


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
