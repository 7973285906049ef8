"""times.csv, as spreadsheets and platforms write it; extensions of single students; every mistake with its line."""

from datetime import datetime, timedelta, timezone

import pytest

from mslab.errors import MslabError
from mslab.grade import times
from mslab.grade.rubric import Late, Rubric
from mslab.grade.submissions import Submission

EAST = timezone(timedelta(hours=8))
RUBRIC = Rubric(title="x", total=100.0, items=[], late=Late(due="2026-12-01T23:59:00+08:00", per_day=5.0))


def read(path, text, zone=EAST, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return times.read_times(path, zone)


def test_an_extension_moves_the_due_date_of_one_student(tmp_path):
    rows = "anna,2026-12-03T12:00:00+08:00,1,2026-12-03T23:59:00+08:00\nben,2026-12-03T12:00:00+08:00,1,\n"
    rows += "chi,2026-12-05T00:00:00Z,1,\nchi,,,2026-12-04 23:59\n"  # a list of extensions below the times
    table = read(tmp_path / "times.csv", "id,submitted,attempt,due\n" + rows)
    assert times.deductions_of(RUBRIC, table["anna"]) == []
    assert times.deductions_of(RUBRIC, table["ben"]) == [("2 days late", 10.0)]
    assert times.deductions_of(RUBRIC, table["chi"]) == [("1 day late (own due date: 2026-12-04 23:59)", 5.0)]
    assert times.deductions_of(RUBRIC, table.get("dee")) == []


DUE = datetime(2026, 12, 8, 23, 59, tzinfo=EAST)


@pytest.mark.parametrize(
    "text, due",
    [
        ("2026-12-08T23:59:00+08:00", DUE),
        ("2026-12-08T15:59:00Z", DUE),
        ("2026-12-08 23:59 +0800", DUE),
        ("2026-12-08 23:59 Asia/Shanghai", DUE),
        ("2026-12-08 23:59", DUE),
        ("2026/12/8 23:59", DUE),
        ("8.12.2026 23:59", DUE),
        ("2026年12月8日 23:59", DUE),
        ("12/28/2026 11:59 PM", DUE.replace(day=28)),
        ("28/12/2026 23:59:00", DUE.replace(day=28)),
        ("46364.999305556", DUE),
        ("2026-12-08", DUE.replace(second=59)),
        ("46364,0", DUE.replace(second=59)),
        ("2026/12/8 0:00", DUE.replace(second=59)),  # a spreadsheet's date
        ("2026-12-08T00:00:00", DUE.replace(hour=0, minute=0)),
        ("2026-12-08 24:00", DUE.replace(day=9, hour=0, minute=0)),
        ("Tuesday, 8 December 2026, 11:59 PM", DUE),
        ("Dec 8, 2026 at 11:59\u202fPM", DUE),
        ("2026年12月8日 下午11:59", DUE),
        ("2026/12/8 下午 11:59", DUE),
        ("8.12.2026 23.59", DUE),
        ("8. 12. 2026 23:59", DUE),
        ("2026-12-08T17:59:00.365935+02:00", DUE),
    ],
)
def test_times_as_spreadsheets_write_them(tmp_path, text, due):
    (row,) = read(tmp_path / "t.csv", f"id;due\nanna;{text}\n").values()
    assert row.due == due and row.submitted is None


@pytest.mark.parametrize(
    "text, said",
    [
        ("tomorrow", "due 'tomorrow' is not a time such as 2026-12-01T23:59:00"),
        ("2026-13-08 23:59", "month must be in 1..12"),
        ("2026-12-32", "day"),
        ("12/8/2026 23:59", "unclear which part is the month; write 2026-12-08 or 2026-08-12"),
        ("2026-12-08 25:00", "hour"),
        ("8.12.26 23:59", "the year needs four digits"),
        ("2026-12-08 23:59 Asia/Nowhere", "no time zone 'Asia/Nowhere'"),
        ("2026-12-08 13:59 PM", "hour 13 with am or pm"),
        ("2026-12-08 23:59+08:99", "no time zone '+08:99'"),
        ("2026-12-08 23:59+25:00", "no time zone '+25:00'"),
    ],
)
def test_a_mistyped_date_is_one_message_with_its_line(tmp_path, text, said):
    with pytest.raises(MslabError) as caught:
        read(tmp_path / "t.csv", f"id,submitted,attempt,due\nben,2026-12-01 10:00,1,\nanna,2026-12-01 10:00,1,{text}\n")
    message = str(caught.value)
    assert "1 line that cannot be used" in message and "line 3" in message and "'anna'" in message and said in message


def test_tables_of_windows_programs_are_read(tmp_path):
    rows = {"张三": "2026-12-08 23:59", "李四": ""}
    for encoding, separator in (("utf-8-sig", ","), ("utf-16", "\t"), ("gbk", ";"), ("utf-8", "\t")):
        lines = [separator.join(("ID", "Submitted", "Due"))]
        lines += [separator.join((id, "2026-12-01 10:00", due)) for id, due in rows.items()]
        table = read(tmp_path / "t.csv", "\r\n".join([*lines, separator * 2, ""]), encoding=encoding)
        assert list(table) == list(rows) and table["张三"].due == DUE and table["李四"].due is None


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "it is empty"),
        ("name,time\n", "its first line is 'name,time'"),
        ("id,submitted,due\nanna,2026-12-01 10:00,2026-12-02\nanna,2026-12-01 10:00,2026-12-03\n", "two different due"),
        ("id,submitted\nanna,\n", "it has no time"),
        ("id,submitted\n,2026-12-01 10:00\n", "the id is empty"),
        ("id,submitted\nanna,2026-12-01\n", "has no time of day"),
    ],
)
def test_a_table_that_says_nothing_is_an_error(tmp_path, text, said):
    with pytest.raises(MslabError, match=said):
        read(tmp_path / "t.csv", text)


def test_a_time_without_a_zone_needs_the_rubrics(tmp_path):
    with pytest.raises(MslabError, match="has no zone, such as"):
        read(tmp_path / "t.csv", "id,submitted\nanna,2026-12-01 10:00\n", zone=None)


def test_a_row_by_a_name_of_two_students_is_refused(tmp_path):
    names = {"1": "张三", "2": "张三", "3": "李四"}
    class_of_three = [Submission(id, tmp_path / f"{id}.zip", name=name, source=id) for id, name in names.items()]
    late = times.SubmissionTime(DUE, due=DUE)
    found = times.times_of(class_of_three, {"李四": late, "1": late})
    assert [found[submission.path] for submission in class_of_three] == [late, None, late]
    with pytest.raises(MslabError, match=r"(?s)张三.*2 students have this name: give the id, one of 1, 2"):
        times.times_of(class_of_three, {"张三": late})
    with pytest.raises(MslabError, match="two different due times"):
        times.times_of(class_of_three, {"李四": late, "3": times.SubmissionTime(None, due=DUE + timedelta(days=1))})
