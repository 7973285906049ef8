"""Rows of course systems, Moodle and Canvas: whose points a row sets, and names that a system may confuse."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

from mslab.check.layout import plain_name
from mslab.errors import MslabError
from mslab.grade import platforms
from mslab.grade.submissions import Submission
from mslab.runtime.tables import plural

NUMBERS = re.compile("_[0-9]{1,18}_assignsubmission_")


def moodle_row(id: str, source: str) -> tuple[str, str, str]:
    """(Identifier, full name, ID number) of a submission's row in Moodle: its own number, else the id as ID number.

    Moodle writes NAME_NUMBER_assignsubmission_ in front of what the student chose, so the first match from the left is
    its own: moodle_row("12", "Bob_12_assignsubmission_file_x_999_assignsubmission_") -> ("Participant 12", "Bob", "")
    """
    download = platforms.MOODLE.fullmatch(source)
    return (f"Participant {int(download['id'])}", download["name"], "") if download else ("", "", id)


def canvas_row(id: str, source: str) -> tuple[str, str, str]:
    """(Student, ID, SIS Login ID) of a submission's row in Canvas: the user's number, else the name as the login."""
    download = platforms.CANVAS.fullmatch(source)
    known = download and download["id"] == id
    return (download["name"], id, "") if download and known else (id, "", id)


def same_rows(named: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Rows of a course system that several (id, source) claim -> the sources."""
    claims: dict[str, list[str]] = {}
    for id, source in named:
        for row in {moodle_row(id, source)[0]} - {""} or {plain(id), plain(source)}:
            claims.setdefault(row, []).append(source)
    return {row: same for row, same in claims.items() if len(same) > 1}


def plain(name: str) -> str:
    """A name without what a system may ignore: capitals, Unicode forms, invisible characters, spaces around it."""
    folded = plain_name(unicodedata.normalize("NFKC", name))
    return "".join(c for c in folded if unicodedata.category(c)[0] != "C").strip()


def check_rows(submissions: Sequence[Submission]) -> None:
    """Raise MslabError if two submissions are one participant's; flag ids that a course system may confuse."""
    claims = same_rows((submission.id, submission.source) for submission in submissions)
    if twice := [
        (row, " and ".join(map(ascii, ids))) for row, ids in claims.items() if platforms.MOODLE.fullmatch(ids[0])
    ]:
        raise MslabError(
            f"{plural(len(twice), 'participant')} would get the points of several submissions in the course system.",
            details=twice,
            expected="one submission per participant; nothing was measured",
            fix="remove the others; 'Download submissions in folders' gives one folder for each participant",
        )
    for submission in submissions:
        if len(NUMBERS.findall(submission.source)) > 1:
            submission.flags.append(
                f"its name has several numbers; {moodle_row(submission.id, submission.source)[0]} counts"
            )
        for ids in claims.values():
            if submission.source in ids:
                others = ", ".join(ascii(id) for id in ids[:5] if id != submission.source)
                submission.flags.append(f"left out of the course system's table, which may confuse it with {others}")
