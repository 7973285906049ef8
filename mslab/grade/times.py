"""times.csv: when each submission was handed in, which attempt it is, and until when this student had time.

Spreadsheets and platforms write such tables: with semicolons or tabs, a byte-order mark, GBK, and times without a zone.
"""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo

from mslab.errors import MslabError
from mslab.files import read_text
from mslab.grade.rubric import Rubric

TIME = re.compile(
    r"(?P<date>\d{1,4}[-/.年]\d{1,2}[-/.月]\d{1,4}日?)"
    r"(?:(?:T|,? +)(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,]\d{1,9})?)?"
    r"(?: ?(?P<half>[AaPp])\.?[Mm]\.?)?)?"
    r" ?(?P<zone>Z|UTC|GMT|(?:UTC|GMT)?[+-]\d\d?:?(?:\d\d)?|[A-Z][A-Za-z]+/[A-Za-z_/]+)?"
)
SERIAL = re.compile(r"\d{5}(?:[.,]\d+)?")  # a spreadsheet's number of days since 1899-12-30
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

    A due date without a time of day ends with that day. `zone`: of a time without one.
    """
    if SERIAL.fullmatch(text):
        time = datetime(1899, 12, 30) + timedelta(seconds=round(float(text.replace(",", ".")) * 86_400))
        whole_day, own = len(text) == 5, None
    else:
        match = TIME.fullmatch(text)
        if not match:
            raise ValueError(f"{column} {text[:60]!r} is not a time such as {EXAMPLE}")
        hour = int(match["hour"] or 0)
        if match["half"]:
            if not 1 <= hour <= 12:
                raise ValueError(f"{column} {text[:60]!r} has the hour {hour} with am or pm")
            hour = hour % 12 + 12 * (match["half"].lower() == "p")
        clock = (hour, int(match["minute"] or 0), int(match["second"] or 0))
        try:
            time = datetime(*date_of(match["date"], column), *clock)
        except ValueError as error:
            raise ValueError(f"{column} {text[:60]!r}: {error}") from None
        whole_day, own = match["hour"] is None, zone_of(match["zone"] or "", column)
    if whole_day and column != "due":
        raise ValueError(f"{column} {text[:60]!r} has no time of day")
    time += timedelta(days=1, seconds=-1) * whole_day
    if own is None and zone is None:
        raise ValueError(f"{column} {text[:60]!r}: the time has no zone, such as +08:00")
    return time.replace(tzinfo=own or zone)


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
    return timezone(sign * timedelta(hours=hours, minutes=minutes))


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
