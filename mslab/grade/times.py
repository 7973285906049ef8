"""times.csv: when each submission was handed in, which attempt it is, and until when this student had time.

Spreadsheets and platforms write such tables: with semicolons or tabs, a byte-order mark, GBK, and times without a zone.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from mslab.errors import MslabError
from mslab.files import read_text
from mslab.grade.platforms import MONTHS
from mslab.grade.rubric import Rubric
from mslab.grade.submissions import Submission

TIME = re.compile(
    r"(?P<date>\d{1,4}[-/.年]\d{1,2}[-/.月]\d{1,4}日?)"
    r"(?:(?:T|,? +)(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,]\d{1,9})?)?"
    r"(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?)?"
    r" ?(?P<zone>Z|UTC|GMT|(?:UTC|GMT)?[+-]\d\d?:?(?:\d\d)?|[A-Z][A-Za-z]+/[A-Za-z_/]+)?"
)
SERIAL = re.compile(r"\d{5}(?:[.,]\d+)?")  # a spreadsheet's number of days since 1899-12-30
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EXAMPLE = "2026-12-01T23:59:00+08:00"


@dataclass(frozen=True)
class SubmissionTime:
    """When a submission was handed in, the number of the attempt, and when it was due for this student."""

    submitted: datetime | None
    attempt: int = 1
    due: datetime | None = None  # None: as the rubric says


def read_times(path: Path, zone: tzinfo | None = None) -> dict[str, SubmissionTime]:
    """Read a CSV with the columns id, submitted, attempt, due; of a student's attempts the last counts.

    `zone`: that of times without one, the rubric's. Raises MslabError with every mistake.
    """
    times: dict[str, SubmissionTime] = {}
    problems: list[tuple[str, str]] = []
    for line, row in rows_of(path):
        try:
            new, id = time_of(row, zone), row["id"].strip()
            if not id:
                raise ValueError("the id is empty")
            times[id] = merged(times[id], new) if id in times else new
        except ValueError as error:
            problems.append((f"line {line}", f"{row.get('id', '')!r:.60}: {error!s:.200}"))
    if problems:
        count = f"{len(problems)} line{'s' * (len(problems) > 1)}"
        raise MslabError(
            f"{path} has {count} that cannot be used.",
            details=problems[:20],
            expected=f"id, submitted as {EXAMPLE}, attempt as an integer, due like submitted or empty",
            fix="correct these lines",
        )
    return times


def rows_of(path: Path) -> list[tuple[int, dict[str, str]]]:
    """(line, row) of each row that is not empty. Raises MslabError if it is no table with an id and times."""
    try:
        text = read_text(path)
        first = text.lstrip("\r\n").partition("\n")[0]
        if first.lower().startswith("sep="):  # a hint for Excel
            text, first = text.partition("\n")[2], ""
        first = first or text.partition("\n")[0]
        separator = max(",;\t", key=first.count)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, restkey="more", restval="")
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or []]
        names = reader.fieldnames
        if "id" not in names or not {"submitted", "due"} & set(names) or len(set(names)) < len(names):
            raise ValueError(f"its first line is {first.strip()[:200]!r}" if first.strip() else "it is empty")
        rows = [(reader.line_num, {key: str(value) for key, value in row.items() if key}) for row in reader]
    except (OSError, ValueError, csv.Error) as error:
        raise MslabError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.",
            expected="a CSV file with the columns id, submitted, attempt and, for extensions, due",
            fix="correct the path or the first line, or leave --times out",
        ) from None
    return [(line, row) for line, row in rows if any(value.strip() for value in row.values())]


def time_of(row: Mapping[str, str], zone: tzinfo | None) -> SubmissionTime:
    """A row's time. Raises ValueError."""
    given, due = row.get("submitted", "").strip(), row.get("due", "").strip()
    if not given and not due:
        raise ValueError("it has no time")
    attempt = row.get("attempt", "").strip() or "1"
    if not re.fullmatch(r"\d{1,5}(\.0+)?", attempt) or not 1 <= float(attempt) <= 10_000:
        raise ValueError(f"the attempt must be 1 to 10,000, not {attempt[:20]!r}")
    submitted = parse(given, "submitted", zone) if given else None
    return SubmissionTime(submitted, int(float(attempt)), parse(due, "due", zone) if due else None)


def merged(old: SubmissionTime, new: SubmissionTime) -> SubmissionTime:
    """One student's two rows: the last attempt, and the due time of either. Raises ValueError if they disagree."""
    if None not in (old.due, new.due) and old.due != new.due:
        raise ValueError("it has two different due times")
    due = old.due or new.due
    if old.submitted is None or new.submitted is None:  # a row for an extension alone
        known = old if old.submitted else new
        return SubmissionTime(known.submitted, known.attempt, due)
    if old.attempt == new.attempt and old.submitted != new.submitted:
        raise ValueError(f"attempt {new.attempt} is there twice, with different times")
    last = max(old, new, key=lambda row: row.attempt)  # a row for every attempt is fine
    return SubmissionTime(last.submitted, last.attempt, due)


def parse(text: str, column: str, zone: tzinfo | None) -> datetime:
    """A time as ISO 8601, a spreadsheet or a platform writes it. Raises ValueError with what is wrong.

    A due date without a time of day, or with 0:00 as spreadsheets add it, ends with that day.
    `zone`: of a time without one.
    """
    if SERIAL.fullmatch(text):
        days = float(text.replace(",", "."))
        time = datetime(1899, 12, 30) + timedelta(seconds=round(days * 86_400))
        whole_day, own = days.is_integer(), None
    else:
        match = TIME.fullmatch(plain_form(text))
        if not match:
            raise ValueError(f"{column} {text[:60]!r} is not a time such as {EXAMPLE}")
        hour = int(match["hour"] or 0)
        if match["half"]:
            if not 1 <= hour <= 12:
                raise ValueError(f"{column} {text[:60]!r} has the hour {hour} with am or pm")
            hour = hour % 12 + 12 * (match["half"].lower() == "p")
        clock = (hour, int(match["minute"] or 0), int(match["second"] or 0))
        end = clock == (24, 0, 0)  # of the day
        try:
            time = datetime(*date_of(match["date"], column), *((0, 0, 0) if end else clock)) + timedelta(days=end)
        except ValueError as error:
            raise ValueError(f"{column} {text[:60]!r}: {error}") from None
        own = zone_of(match["zone"] or "", column)
        cell = column == "due" and clock == (0, 0, 0) and own is None and "T" not in text  # a spreadsheet's date
        whole_day = match["hour"] is None or cell
    if whole_day and column != "due":
        raise ValueError(f"{column} {text[:60]!r} has no time of day")
    time += timedelta(days=1, seconds=-1) * whole_day
    if own is None and zone is None:
        raise ValueError(f"{column} {text[:60]!r}: the time has no zone, such as +08:00")
    return time.replace(tzinfo=own or zone)


def plain_form(text: str) -> str:
    """A time as platforms and spreadsheets of other languages show it, as TIME reads it; other texts as they are."""
    # "Tuesday, 1 December 2026, 11:59 PM" -> "2026-12-1, 11:59 PM"
    text = re.sub(r"\s+", " ", text)  # also narrow ones before AM
    text = re.sub(rf"(?i)^(?:{'|'.join(DAYS)})[a-z]*\.?,? ", "", text).replace(" at ", " ")
    day, name = r"(?P<day>\d{1,2})", r"(?P<month>[A-Za-z]{3,9})\.?"
    for order in (rf"{day}[ -]{name},?[ -]", rf"{name} {day},? "):
        match = re.match(order + r"(?P<year>\d{4})(?!\d)", text)
        if match and (month := match["month"].lower()[:3]) in MONTHS:
            text = f"{match['year']}-{MONTHS.index(month) + 1}-{match['day']}{text[match.end() :]}"
    text = re.sub(r"^(\d{1,2})\. (\d{1,2})\. (?=\d{4})", r"\1.\2.", text)
    text = re.sub(r"^(\d{1,2}\.\d{1,2}\.\d{4}) (\d{1,2})\.(\d\d)$", r"\1 \2:\3", text)
    half = {"上午": "AM", "下午": "PM"}
    return re.sub(r"(上午|下午) ?(\d{1,2}:\d\d(?::\d\d)?)$", lambda match: f" {match[2]} {half[match[1]]}", text)


def date_of(text: str, column: str) -> tuple[int, int, int]:
    """(year, month, day). Raises ValueError if the order is not clear."""
    a, b, c = (int(part) for part in re.findall(r"\d+", text))
    if a > 31:
        return a, b, c
    if c < 1000:
        raise ValueError("the year needs four digits")
    if "." in text or a > 12:  # 1.12.2026
        return c, b, a
    if b > 12:
        return c, a, b
    if (a != b and "/" in text) or "-" in text:
        raise ValueError(f"it is unclear which part is the month; write {c}-{a:02}-{b:02} or {c}-{b:02}-{a:02}")
    return c, a, b


def zone_of(text: str, column: str) -> tzinfo | None:
    """A zone by its offset or name. Raises ValueError."""
    if not text:
        return None
    if "/" in text:
        try:
            return ZoneInfo(text)
        except (OSError, ValueError, LookupError):
            raise ValueError(f"{column}: there is no time zone {text[:40]!r}") from None
    sign, digits = -1 if "-" in text else 1, re.sub(r"\D", "", text)
    hours, minutes = (int(digits[:-2]), int(digits[-2:])) if len(digits) > 2 else (int(digits or 0), 0)
    if hours > 14 or minutes > 59:
        raise ValueError(f"{column}: there is no time zone {text[:40]!r}")
    return timezone(sign * timedelta(hours=hours, minutes=minutes))


def times_of(
    submissions: Sequence[Submission], times: Mapping[str, SubmissionTime]
) -> dict[Path, SubmissionTime | None]:
    """The time of each submission by its path, None if it has no row: by id, name on the disk, or student's name.

    Raises MslabError if a row is for several students of one name, or two rows for a student disagree.
    """
    found: dict[Path, SubmissionTime | None] = {submission.path: None for submission in submissions if times}
    problems: list[tuple[str, str]] = []
    for key, time in times.items():
        mine: list[Submission] = []
        for column in range(4):
            mine = mine or [submission for submission in submissions if keys_of(submission)[column] == key]
        if len(mine) > 1 and any(key == submission.name != submission.id for submission in mine):
            ids = ", ".join(submission.id for submission in mine[:5])
            problems.append((repr(key)[:60], f"{len(mine)} students have this name: give the id, one of {ids}"))
            continue
        for submission in mine:
            try:
                old = found.get(submission.path)
                found[submission.path] = merged(old, time) if old else time
            except ValueError as error:
                problems.append((repr(key)[:60], f"another row is {submission.id}'s, too, and {error}"))
    if problems:
        raise MslabError(
            "The table of times does not tell which submissions it is about.",
            details=problems[:20],
            expected="one student for each row, by the id in grades.csv",
            fix="give ids in these rows",
        )
    return found


def keys_of(submission: Submission) -> tuple[str, ...]:
    """What a row may call a submission, the clearest first."""
    return submission.id, submission.source, submission.path.name, submission.name


def deductions_of(rubric: Rubric, time: SubmissionTime | None) -> list[tuple[str, float]]:
    """(reason, points off) for lateness and for attempts beyond the free ones."""
    if time is None:
        return []
    deductions = []
    due = time.due or (rubric.late.due if rubric.late else None)
    late = (time.submitted - due).total_seconds() if rubric.late and due and time.submitted else 0.0
    if rubric.late and late > 0:
        days = int(-(-late // 86_400))
        cost = min(days * rubric.late.per_day, rubric.late.at_most if rubric.late.at_most is not None else rubric.total)
        own = f" (own due date: {time.due:%Y-%m-%d %H:%M})" if time.due else ""
        deductions.append((f"{days} day{'s' * (days > 1)} late{own}", cost))
    if rubric.attempts and time.attempt > rubric.attempts.at_most:
        extra = time.attempt - rubric.attempts.at_most
        deductions.append((f"attempt {time.attempt}; {rubric.attempts.at_most} are free", extra * rubric.attempts.cost))
    return deductions
