"""grade finds the students in what platforms let teachers download, and the pack in what a student handed in."""

import io
import os
import zipfile
from pathlib import Path

import pytest

from mslab.data.archives import readable_name
from mslab.errors import MslabError
from mslab.grade import courses, looking, private, submissions
from mslab.grade.contents import gather

PACK = {"nine/best.ckpt": "weights", "nine/config.yaml": "epochs: 1", "report.md": "text"}
EXPECTED = list(PACK)
METADATA = """---
submission_101:
  :submitters:
  - :name: Anna Lee
    :sid: '20260001'
    :email: anna@example.org
  :created_at: 2026-11-01 04:14:37.391519000 Z
  :history:
  - :id: 7
submission_102:
  :submitters:
  - :name: Ben
    :sid:
    :email: ben@example.org
  - :name: Chi
    :sid: '20260003'
"""


def zipped(members: dict[str, str | bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return content.getvalue()


def put(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def found_files(submission: submissions.Submission, work: Path) -> tuple[list[str], list[str]]:
    """(names of the files that are graded, notes and problems)."""
    private.copy(submission.path, work / "copy", submission.parts)
    contents = gather(work / "copy", work / "box" / "submission", looking.LIMITS, EXPECTED)
    assert all(path.stat().st_size == contents.files[name] for name, path in contents.paths.items() if contents.files)
    return sorted(contents.files), contents.problems + contents.notes


ZIP = zipped(PACK)
OLD = zipped({"old": ""})
MOODLE = "Full Name_123456_assignsubmission_"
DOWNLOADS = {  # files of the class, and the ids with names; every student has the pack
    "moodle folders": (
        {f"{MOODLE}file_/pack.zip": ZIP, f"{MOODLE}file_/Thumbs.db": "x", f"{MOODLE}onlinetext_/onlinetext.html": "x"},
        {"123456": "Full Name"},
    ),
    "moodle files": (
        {f"{MOODLE}file_pack.zip": ZIP, f"{MOODLE}file_photo.pdf": "x", f"{MOODLE}onlinetext_onlinetext.html": "x"},
        {"123456": "Full Name"},
    ),
    "moodle worksheet": ({f"{MOODLE}file/pack.zip": ZIP, "Grades-Lab-3.csv": "x"}, {"123456": "Full Name"}),
    "canvas": (
        {
            "leeanna_LATE_1234_5678_pack.zip": ZIP,
            "itoben_1235_5679_pack-1.zip": OLD,
            "itoben_1235_5690_pack-2.zip": ZIP,
            "itoben_1235_5691_photo.pdf": "x",
            "group-blue_77_5700_pack.zip": ZIP,
            "doechi_99_text.html": "x",
        },
        {"1234": "leeanna", "1235": "itoben", "77": "group-blue", "99": "doechi"},
    ),
    "gradescope": (
        {
            "assignment_12_export/submission_metadata.yml": METADATA,
            "assignment_12_export/submission_101/pack.zip": ZIP,
            **{f"assignment_12_export/submission_102/{name}": text for name, text in PACK.items()},
        },
        {"20260001": "Anna Lee", "ben@example.org+20260003": "Ben, Chi"},
    ),
    "blackboard": (
        {
            "Lab 3_alee_attempt_2026-11-01-12-00-00_pack.zip": OLD,
            "Lab 3_alee_attempt_2026-11-02-09-00-00_pack.zip": ZIP,
            "Lab 3_alee_attempt_2026-11-02-09-00-00.txt": "Name: Anna Lee (alee)\nAssignment: Lab 3",
            "Lab 3_b_lee_attempt_2026-11-02-09-00-00_pack.zip": ZIP,
        },
        {"alee": "Anna Lee", "b_lee": ""},
    ),
    "brightspace": (
        {
            "12345-67890 - Anna Lee - Nov 1, 2026 1200 PM/pack.zip": OLD,
            "12345-67890 - Anna Lee - Nov 1, 2026 115 PM/pack.zip": ZIP,
            "12346-67890 - Ben-Jo Ito - Oct 31, 2026 1159 AM/pack.zip": ZIP,
            "index.html": "x",
        },
        {"12345": "Anna Lee", "12346": "Ben-Jo Ito"},
    ),
    "google": ({"Anna Lee - pack.zip": ZIP, "Ben - my lab.zip": ZIP}, {"Anna Lee": "Anna Lee", "Ben": "Ben"}),
    "google, one file name": (
        {"Lab 3 - Anna.zip": ZIP, "Lab 3 - Ben.zip": ZIP},
        {"Lab 3 - Anna": "", "Lab 3 - Ben": ""},
    ),
    "google, a task spelled in two ways": (
        {"Lab 3 - Anna.zip": ZIP, "Lab 3 - Ben.zip": ZIP, "Lab3 - Chi.zip": ZIP, "Lab 3 - Dee.zip": ZIP},
        {"Lab 3 - Anna": "", "Lab 3 - Ben": "", "Lab3 - Chi": "", "Lab 3 - Dee": ""},
    ),
    "google, one with a hyphen, alone, with parts and a report": (
        {
            "Anna Lee-Smith - nine.zip": zipped({"best.ckpt": "weights", "config.yaml": "x"}),
            "Anna Lee-Smith - photo.pdf": "x",
            "Anna Lee-Smith - report.md": "x",
        },
        {"Anna Lee-Smith": "Anna Lee-Smith"},
    ),
    "chinese, the task first": (
        {"实验三_20260001_张三.zip": ZIP, "实验三_20260002_李四.zip": ZIP},
        {"20260001": "张三", "20260002": "李四"},
    ),
    "sections": (
        {f"class/{name}.zip": ZIP for name in ("Group1/anna", "Group1/ben", "Group2/chi", "Group2/dee")},
        {"anna": "", "ben": "", "chi": "", "dee": ""},
    ),
    "a folder around two": ({"class/anna.zip": ZIP, "class/ben.zip": ZIP}, {"anna": "", "ben": ""}),
    "teams with drafts": (
        {"Submitted files/Anna Lee/Lab/Version 1/pack.zip": ZIP, "Working files/Anna Lee/Lab/pack.zip": OLD},
        {"Anna Lee": ""},
    ),
    "teams": (
        {
            "Submitted files/Anna Lee/Lab 3/Version 9/pack.zip": zipped(PACK | {"nine/best.ckpt": "of version 9"}),
            "Submitted files/Anna Lee/Lab 3/Version 10/pack.zip": ZIP,
        },
        {"Anna Lee": ""},
    ),
    "chinese": (
        {"2021001-张三.zip": ZIP, "2021002-李四-实验3.zip": ZIP, "王五_2021003.tar": "", "2021003-王五.zip": ZIP}
        | {
            "2021004-赵六.zip": zipped({n: t for n, t in PACK.items() if n != "report.md"}),
            "2021004-赵六-report.md": "x",
        },
        {"2021001": "张三", "2021002": "李四", "2021003": "王五", "2021004": "赵六"},
    ),
    "course numbers": ({"20261-anna.zip": ZIP, "20261-ben.zip": ZIP}, {"20261-anna": "", "20261-ben": ""}),
    "github classroom": (
        {"lab-3-anna/.git/config": "x"} | {f"lab-3-anna/{name}": text for name, text in PACK.items()},
        {"lab-3-anna": ""},
    ),
    "unzipped twice": (
        {f"download/Lab 3/{name}.zip": ZIP for name in ("anna", "ben", "chi")},
        {"anna": "", "ben": "", "chi": ""},
    ),
    "nbgrader": (
        {
            "submitted/anna/lab3/pack.zip": ZIP,
            "submitted/anna/lab3/timestamp.txt": "2026-11-01",
            "submitted/ben/lab3/pack.zip": ZIP,
        },
        {"anna": "", "ben": ""},
    ),
    "sakai": ({"Lee, Anna(alee)/Submission attachment(s)/pack.zip": ZIP, "grades.csv": "x"}, {"alee": "Lee, Anna"}),
    "wrapped twice": ({"anna.zip": zipped({"out/pack.zip": ZIP, "__MACOSX/out/._pack.zip": "x"})}, {"anna": ""}),
    "folders around the files": ({f"anna/my lab/final/{name}": text for name, text in PACK.items()}, {"anna": ""}),
    "two zips": (
        {"anna/nine.zip": zipped({"best.ckpt": "weights", "config.yaml": "x"}), "anna/report.md": "x"},
        {"anna": ""},
    ),
    "again": (
        {"anna.zip": OLD, "anna (1).zip": OLD, "anna (2).zip": ZIP},
        {"anna": ""},
    ),
    "an archive by content": (
        {"anna": ZIP, "notes.docx": b"not a zip", "grades.xlsx": zipped({"a": ""})},
        {"anna": ""},
    ),
}
EMPTY = {"99", "2021003"}


@pytest.mark.parametrize("files, students", DOWNLOADS.values(), ids=list(DOWNLOADS))
def test_every_student_of_a_platforms_download_is_found_with_the_pack(tmp_path, files, students):
    found = submissions.find_class(put(tmp_path / "class", files), EXPECTED)
    assert {submission.id: submission.name for submission in found.submissions} == students
    for number, submission in enumerate(found.submissions):
        if submission.id == "99":
            assert "no file was handed in" in submission.problem
        elif submission.id not in EMPTY:
            (tmp_path / str(number)).mkdir()
            assert not submission.problem
            names, notes = found_files(submission, tmp_path / str(number))
            assert set(EXPECTED) <= set(names), (names, notes)


def test_what_is_no_submission_is_listed_with_the_reason(tmp_path):
    files = {"anna.zip": ZIP, "anna.rar.crdownload": "x", "grades.xlsx": "x", ".DS_Store": "x", "Thumbs.db": "x"}
    files |= {"ben_1_20_a.zip": ZIP, "itoben_1235_5679_pack-1.zip": ZIP, "itoben_1235_5690_pack-2.zip": ZIP}
    found = submissions.find_class(put(tmp_path, files))
    assert dict(found.left_out) == {
        "anna.rar.crdownload": "it is no archive",
        "grades.xlsx": "a table or text beside the submissions",
        ".DS_Store": "it is hidden",
        "Thumbs.db": "an operating system or a tool made it",
        "itoben_1235_5679_pack-1.zip": "an earlier attempt of 1235",
    }
    ben = next(submission for submission in found.submissions if submission.id == "1235")
    assert ben.flags == ["2 attempts: itoben_1235_5690_pack-2.zip is graded, not itoben_1235_5679_pack-1.zip"]


def test_several_packs_that_may_be_several_students_are_flagged_and_nothing_vanishes(tmp_path):
    files = {"Group1/anna.zip": ZIP, "Group1/ben.zip": ZIP, "chi/pack.zip": ZIP, "chi/final.zip": ZIP, "dee.zip": ZIP}
    students = submissions.find_class(put(tmp_path / "a", files), EXPECTED).submissions
    found = {submission.id: submission for submission in students}
    assert found["Group1"].flags == ["it looks like several students: anna, ben; if it is, grade this folder by itself"]
    assert list(found) == ["Group1", "chi", "dee"] and not found["chi"].flags  # two versions of one student's own
    files = {"Lab 3 - Anna.zip": ZIP, "Lab 3 - Ben.pdf": "x"}
    (alone,) = submissions.find_class(put(tmp_path / "c", files), EXPECTED).submissions
    assert alone.flags == ["handed in together: Anna.zip, Ben.pdf"]
    files = {"submission_101/pack.zip": ZIP, "submission_metadata.yml": METADATA, "Working files/x.zip": ZIP}
    assert submissions.find_class(put(tmp_path / "b", files | {"Submitted files/x.zip": ZIP})).left_out == [
        ("Working files", "drafts in Teams; what was handed in is in Submitted files"),
        (
            "submission_102",
            "submission_metadata.yml names it, for Ben, Chi, ben@example.org+20260003, but it is not here",
        ),
    ]


def test_a_pack_in_a_submission_that_is_not_graded_is_listed(tmp_path):
    other = zipped({"nine/best.ckpt": "of ben"})
    for name, files, unused in (
        ("two archives", {"anna.zip": ZIP, "ben.zip": other}, ["ben"]),
        ("versions", {"Version 1/p.zip": ZIP, "Version 2/p.zip": ZIP}, ["Version 1/p"]),
        ("a folder", PACK | {"old/nine/best.ckpt": "x"}, ["old"]),
        ("a part", {"nine.zip": zipped({"best.ckpt": "x"}), "report.md": "x"}, []),
    ):
        found = gather(put(tmp_path / name / "a", files), tmp_path / name / "box", looking.LIMITS, EXPECTED)
        assert found.unused == unused, name


def test_a_course_system_gets_the_id_that_it_knows():
    assert courses.moodle_row("20260001", "20260001-张三") == ("", "", "20260001")
    assert courses.moodle_row("12", "Bob_12_assignsubmission_file_x") == ("Participant 12", "Bob", "")
    assert courses.same_rows([("A1", "A1-x"), ("a1", "a1_y"), ("b", "c")]) == {"a1": ["A1-x", "a1_y"]}


def test_nobody_hands_in_for_another_participant(tmp_path):
    """A student's own name or file name comes behind the number that Moodle wrote, or belongs to another name."""
    files = {f"{MOODLE}file_a.zip": ZIP, "Bob_9_assignsubmission_file_x_123456_assignsubmission_file_y.zip": ZIP}
    files["Bob_123456_assignsubmission_file__9_assignsubmission_file_y.zip"] = ZIP  # what he calls himself
    found = {submission.source: submission for submission in submissions.find_submissions(put(tmp_path, files))}
    assert found["Bob_9_assignsubmission_file_x_123456_assignsubmission_file_y"].id == "9"
    assert all("two submissions have the id 123456" in s.problem for name, s in found.items() if "Bob_9_" not in name)


def test_a_class_without_submissions_says_what_is_there(tmp_path):
    with pytest.raises(MslabError, match=r"(?s)has no submission.*grades.xlsx.*a table or text.*mslab pack"):
        submissions.find_submissions(put(tmp_path, {"grades.xlsx": "x"}))


RAR = b"Rar!\x1a\x07\x01\x00" + bytes(100)
BOMB = zipped({"a.zip": zipped({"nine/best.ckpt": bytes(10)})})
HANDED_IN = {  # files in a student's folder, and what is graded or why not
    "rar": ({"lab.rar": RAR}, "lab.rar was not opened: the archive is a RAR archive"),
    "rar beside the pack": ({"data.rar": RAR} | PACK, "nine/best.ckpt"),
    "7z": ({"lab.7z": b"7z\xbc\xaf\x27\x1c" + bytes(50)}, "is a 7z archive"),
    "a damaged zip": ({"pack.zip": ZIP[:200]}, "pack.zip was not opened: the archive is"),
    "a path outside": ({"pack.zip": zipped({"../best.ckpt": "x"})}, "leads out of its folder"),
    "four archives deep": ({"4.zip": zipped({"3.zip": zipped({"2.zip": zipped({"1.zip": ZIP})})})}, "more than 3 deep"),
    "a pack and a bad archive": ({"pack.zip": ZIP, "x.zip": zipped({"../a": "x"})}, "nine/best.ckpt"),
    "twice": ({"pack.zip": ZIP, "pack-2.zip": ZIP}, "pack-2 is graded; there are as many of the files in pack"),
    "a report beside it": (
        {"lab/pack.zip": zipped({"nine/best.ckpt": "w"}), "report.md": "x"},
        "report.md is taken from",
    ),
}


@pytest.mark.parametrize("files, said", HANDED_IN.values(), ids=list(HANDED_IN))
def test_the_pack_is_found_or_the_student_is_told_why_not(tmp_path, files, said):
    names, notes = found_files(submissions.Submission("anna", put(tmp_path / "anna", files)), tmp_path)
    assert any(said in text for text in names + notes), (names, notes)
    assert not any(str(tmp_path) in text for text in notes)


def test_archives_inside_share_the_limits_of_the_submission(tmp_path):
    zeros = io.BytesIO()
    with zipfile.ZipFile(zeros, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("nine/best.ckpt", bytes(60 << 20))
    many = zipped({f"{n}.txt": "" for n in range(1500)})
    for name, files, said in (
        ("bomb", {"pack.zip": zeros.getvalue()}, "unpacks to more than"),
        ("names", {"a.zip": many, "b.zip": many}, "more than 2,000 files"),
        ("number", {f"{n}.zip": zipped({f"{n}.txt": ""}) for n in range(30)}, "more than 20 archives"),
        ("inner", {"a.zip": ZIP, "b.zip": zeros.getvalue()}, "b.zip was not opened: the submission unpacks to"),
        ("quine", {"q.zip": zipped({"q.zip": zipped({"q.zip": BOMB})})}, ""),
    ):
        (tmp_path / name).mkdir()
        folder = put(tmp_path / name / "anna", files)
        names, notes = found_files(submissions.Submission("anna", folder), tmp_path / name)
        assert not any(str(tmp_path) in note for note in notes)  # equal bytes give equal facts
        assert any(said in note for note in notes) or name == "quine", (name, names, notes)


def test_links_are_not_followed_in_any_part_of_a_submission(tmp_path):
    put(tmp_path / "class", {"leeanna_1234_5678_pack.zip": ZIP, "secret": "x"})
    (tmp_path / "class" / "leeanna_1234_5679_report.pdf").symlink_to(tmp_path / "class" / "secret")
    anna = next(s for s in submissions.find_submissions(tmp_path / "class") if s.id == "1234")
    with pytest.raises(private.BadSubmission, match=r"report\.pdf is a link: replace it with its target"):
        private.copy(anna.path, tmp_path / "copy", anna.parts)


@pytest.mark.parametrize("name", ["张三", "朱镕基", "喆", "Müller", "Łukasz", "Zoë", "実験"])
def test_names_of_other_windows_are_readable(name):
    encodings = {"Müller": "cp437", "Zoë": "cp437", "Łukasz": "utf-8", "実験": "utf-8"}
    raw = name.encode(encodings.get(name, "gbk"))
    assert readable_name(raw, raw.decode("cp437")) == name  # in a zip
    assert readable_name(name.encode()) == name  # on a disk


def test_a_folder_name_in_gbk_is_read(tmp_path):
    (tmp_path / os.fsdecode(b"2021001-" + "张三".encode("gbk"))).mkdir()
    (found,) = submissions.find_submissions(tmp_path)
    assert (found.id, found.name) == ("2021001", "张三") and not found.source.startswith(str(tmp_path))
