"""Grade a class and pack a submission by the command line, as a teacher and a student do."""

import csv
import json
import re
import shutil
import tarfile
import zipfile
from datetime import datetime, timezone
from pathlib import Path

import pytest
from grading import contents, graded, graded_class
from helpers import cli

from mslab.errors import MslabError
from mslab.grade import downloads, grading, handin, measuring, submissions
from mslab.grade.records import Measurement
from mslab.grade.rubric import Rubric
from mslab.grade.times import SubmissionTime


@pytest.fixture
def lab(once, squares, parent, finished, tmp_path):
    """A copy of a graded class."""
    return Path(shutil.copytree(graded_class(once, squares, parent, finished), tmp_path / "lab"))


def table(lab, name: str) -> list[dict[str, str]]:
    with (lab / "out" / name).open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_points_follow_the_rubric(lab, parent):
    rows = {row["id"]: row for row in table(lab, "grades.csv")}
    assert list(rows) == ["anna", "bob", "cem"]
    accuracy = json.loads((parent / "eval.json").read_text())["accuracy"]  # of the same images
    for name in ("anna", "cem"):
        row = rows[name]
        assert float(row["accuracy"]) == pytest.approx(30 * accuracy, abs=1e-3)
        assert float(row["backbone"]) == (20 if name == "anna" else 0)
        assert [float(row[item]) for item in ("files", "settings", "claimed", "size")] == [10, 10, 10, 10]
        assert row["writeup"] == "" and row["deductions"] in ("", "0")
    points = [float(rows["bob"][item]) for item in ("files", "settings", "accuracy", "backbone", "claimed", "size")]
    assert points == [3.33, 0, 0, 0, 0, 0]
    output = (lab / "output.txt").read_text()
    assert "3 submissions, mean" in output and "no points are deducted for lateness" in output
    assert (lab / "out" / "moodle.csv").is_file() and (lab / "out" / "canvas.csv").is_file()


def test_copies_are_pairs_with_their_evidence_and_cost_nothing(lab):
    rows = [(row["a"], row["b"], row["kind"]) for row in table(lab, "copies.csv")]
    assert ("anna", "cem", "weights") in rows and ("anna", "cem", "history") in rows
    text = (lab / "out" / "students" / "anna" / "feedback.html").read_text()
    assert "cem" not in text and "equal" in text  # equal: the backbone; nothing about another student


def test_a_second_run_gives_the_same_bytes_and_measures_nothing(lab, monkeypatch):
    before = contents(lab / "out")
    monkeypatch.setattr(measuring, "measure", lambda *a: pytest.fail("it was measured again"))
    again = graded(lab, "out", "--moodle", "--canvas")
    assert again.returncode == 0 and contents(lab / "out") == before


def test_lateness_is_deducted_by_the_table_of_times(lab):
    (lab / "times.csv").write_text(
        "id,submitted,attempt\nanna,2026-12-02T00:00:00+08:00,1\nbob,2026-11-30T00:00:00Z,1\n"
    )
    result = graded(lab, "out", "--times", "times.csv")
    rows = {row["id"]: row for row in table(lab, "grades.csv")}
    assert result.returncode == 0 and float(rows["anna"]["deductions"]) == 5 and rows["bob"]["flags"] == ""
    assert "not in the table of times" in rows["cem"]["flags"]
    assert "1 day late" in (lab / "out" / "students" / "anna" / "feedback.html").read_text()
    text = (lab / "times.csv").read_text().replace("2026-11-30T00:00:00Z", "late")
    (lab / "wrong.csv").write_text(text)
    result = graded(lab, "nowhere", "--times", "wrong.csv")
    assert result.returncode == 1 and "line 3" in result.stderr and not (lab / "nowhere").exists()


def test_a_platforms_download_of_a_class_is_graded_as_one_archive(lab):
    before = {row["id"]: row for row in table(lab, "grades.csv")}
    (lab / "lab.rar").write_bytes(b"Rar!\x1a\x07\x01\x00" + bytes(99))
    with tarfile.open(lab / "download.tar.gz", "w:gz") as archive:
        archive.add(lab / "class" / "anna.zip", "Lab 3/Anna Lee_12_assignsubmission_file_pack.zip")
        archive.add(lab / "lab.rar", "Lab 3/张三_13_assignsubmission_file_lab.rar")
        archive.add(lab / "rubric.yaml", "Lab 3/Grades-Lab 3.csv")
    (lab / "times.csv").write_text("id;submitted;due\n12;2026-12-05 10:00;2026-12-04\n14;;2026-12-09\n")
    options = ["--rubric", "rubric.yaml", "--data", "hidden", "--out", "out", "--moodle", "--times", "times.csv"]
    result = cli("grade", "download.tar.gz", *options, cwd=lab)
    assert result.returncode == 0, result.stderr
    anna, other = table(lab, "grades.csv")
    assert (anna["id"], anna["name"], anna["accuracy"]) == ("12", "Anna Lee", before["anna"]["accuracy"])
    assert float(anna["deductions"]) == 5 and (other["id"], other["name"], other["accuracy"]) == ("13", "张三", "0")
    assert "Grades-Lab 3.csv is not graded: a table or text beside the submissions" in result.stderr
    assert "times.csv has 1 id without a submission: 14" in result.stderr
    assert "is a RAR archive, and no zip or tar archive" in result.stderr
    assert "is a RAR archive" in (lab / "out" / "students" / "13" / "results.json").read_text()
    assert [row["Identifier"] for row in table(lab, "moodle.csv")] == ["Participant 12", "Participant 13"]
    content = json.loads((lab / "out" / "grades.json").read_text())
    assert [row["file"] for row in content["not_graded"]] == ["Grades-Lab 3.csv"]


def test_one_students_pack_is_not_taken_for_a_class(lab):
    expected = grading.expected_files(grading.load_rubric(lab / "rubric.yaml"))
    text = r"(?s)anna\.zip is one student's submission: it contains three/best\.ckpt.*move it to a new folder"
    with pytest.raises(MslabError, match=text), downloads.find_submissions(lab / "class" / "anna.zip", expected):
        pass
    (lab / "class" / "none.zip").write_bytes(b"x")
    with pytest.raises(MslabError, match=r"(?s)is not a zip or tar archive.*a platform's download"):
        downloads.find_submissions(lab / "class" / "none.zip", expected).__enter__()


def test_a_table_of_times_without_rows_is_named(tmp_path):
    rubric = Rubric(title="x", total=1.0, items=[], attempts={"at_most": 2, "cost": 1.0})
    found = submissions.Found([submissions.Submission("anna", tmp_path / "anna.zip")], [])
    options = grading.GradeOptions(times=tmp_path / "times.csv")
    (note,) = grading.notes(found, [], {}, rubric, options)
    assert note == f"{tmp_path}/times.csv has no rows: no points are deducted for lateness or attempts"
    (note,) = grading.notes(found, [], {}, rubric, grading.GradeOptions())
    assert note == "without --times no points are deducted for lateness or attempts"
    due = {"anna": SubmissionTime(None, due=datetime(2026, 12, 1, tzinfo=timezone.utc))}
    (note,) = grading.notes(found, [], due, rubric, options)
    assert note == f"the column due in {tmp_path}/times.csv has no effect: the rubric has no `late`"


def test_what_a_teacher_should_know_is_flagged_and_last_years_as_such(tmp_path):
    rubric = Rubric(title="x", total=1.0, items=[])
    facts = measuring.no_answer("").facts | {"problems": [], "unused": ["ben"], "top": "anna"}
    facts["networks"] = {"three": {"error": "it was not handed in: there is no a"}, "two": {"error": "it is damaged"}}
    one = submissions.Submission("1", tmp_path / "1.zip", flags=["a flag"], source="1")
    assert grading.graded_of(one, Measurement(facts), rubric, {}, {}).flags == ["a flag", "two: it is damaged"]
    assert list(grading.unused_packs([one], {one.path: Measurement(facts)})) == [("1/ben", "anna is graded as 1")]
    before = submissions.Submission("1", tmp_path / "last" / "1.zip", flags=["a flag"])
    found = grading.notes(submissions.Found([one], []), [before], {}, rubric, grading.GradeOptions())
    assert list(found) == ["1.zip: a flag", "last year's 1.zip: a flag"]


def test_last_years_copy_is_found(lab):
    shutil.copytree(lab / "class", lab / "last", ignore=lambda folder, names: [n for n in names if n != "anna.zip"])
    result = graded(lab, "out", "--last-year", "last")
    rows = [(row["a"], row["b"], row["last_year"]) for row in table(lab, "copies.csv")]
    assert result.returncode == 0 and ("cem", "anna", "yes") in rows, rows


def test_an_empty_folder_and_missing_options(lab, tmp_path):
    (tmp_path / "empty").mkdir()
    options = ["--rubric", lab / "rubric.yaml", "--data", lab / "hidden"]
    result = cli("grade", tmp_path / "empty", *options, "--out", tmp_path / "out")
    assert result.returncode == 1 and "has no submission" in result.stderr and "fix" in result.stderr
    assert cli("grade", *options).returncode == 2
    assert cli("grade", tmp_path, *options, "--out", "o", "--gradescope-package", "x.zip").returncode == 2


def test_two_submissions_of_one_participant_are_an_error_before_anything_is_measured(lab):
    one, two = "Bob_12_assignsubmission_file_a.zip", "Bob_012_assignsubmission_file_b.zip"
    (lab / "class" / "anna.zip").rename(lab / "class" / one)
    shutil.copy(lab / "class" / one, lab / "class" / two)
    result = graded(lab, "new", "--moodle")
    assert result.returncode == 1 and "Participant 12" in result.stderr and not (lab / "new").exists()
    assert one.removesuffix(".zip") in result.stderr and two.removesuffix(".zip") in result.stderr
    assert "in folders" in result.stderr


def test_the_last_attempt_counts_and_two_times_for_one_are_an_error(lab):
    (lab / "times.csv").write_text(TIMES)
    assert grading.read_times(lab / "times.csv")["anna"].submitted.day == 3
    (lab / "times.csv").write_text(TIMES + "anna,2026-11-30T00:00:00+08:00,2\n")
    result = graded(lab, "new", "--times", "times.csv")
    assert result.returncode == 1 and "line 5" in result.stderr and "attempt 2 is there twice" in result.stderr


TIMES = "id,submitted,attempt\n" + "".join(f"anna,2026-12-0{n}T00:00:00+08:00,{n - 1}\n" for n in (2, 3, 2))


# --- pack ------------------------------------------------------------------------------------------------------------


def test_pack_reports_what_is_missing(lab, parent, tmp_path):
    arguments = ["pack", f"three={parent}", "--out", tmp_path / "me.zip", "--rubric", lab / "rubric.yaml"]
    result = cli(*arguments)
    assert result.returncode == 1, result
    assert "✗ backbone (0 of 20): two: it was not handed in: there is no two/best.ckpt" in result.stdout
    assert "1 of 3 files are there; missing or empty: two/config.yaml, report.md" in result.stdout
    assert "… accuracy: measured on images that only the teacher has (30 points)" in result.stdout
    assert "✓ size (10 of 10)" in result.stdout
    again = cli(*arguments)
    assert again.returncode == 1 and "already exists" in again.stderr
    arguments[3] = tmp_path / "public.zip"
    result = cli(*arguments, "--public")
    assert "accuracy" not in result.stdout and "✓ settings (10 of 10)" in result.stdout
    assert cli("pack", parent, "--out", tmp_path / "x.zip", "--public").returncode == 2


def test_equal_runs_give_equal_submissions_with_the_required_files(parent, tmp_path):
    for name in ("a.zip", "b.zip"):
        handin.pack([str(parent)], tmp_path / name)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["best.ckpt", "config.yaml", "eval.json", "history.csv", "manifest.json"]
        assert archive.read("best.ckpt") == (parent / "checkpoints" / "best.ckpt").read_bytes()


def test_pack_refuses_what_cannot_be_packed(parent, tmp_path):
    copy = Path(shutil.copytree(parent, tmp_path / "run"))
    result = cli("pack", parent, copy, "--out", tmp_path / "x.zip")
    assert (
        result.returncode == 1 and "would be in the zip twice" in result.stderr and "nine=RUN two=RUN" in result.stderr
    )
    result = cli("pack", parent, "--out", tmp_path / "x.zip", "--add", tmp_path / "none.md")
    assert result.returncode == 1 and "There is no file" in result.stderr
    (copy / "checkpoints" / "best.ckpt").unlink()
    result = cli("pack", copy, "--out", tmp_path / "x.zip")
    assert result.returncode == 1 and "has no checkpoints/best.ckpt" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run"]  # nothing half-written


# --- ids -------------------------------------------------------------------------------------------------------------


def test_ids_that_are_equal_or_look_equal(tmp_path):
    for name in ("anna.zip", "Anna.tar.gz", "\u0430nna.zip", "bob.zip", "bob.tar"):  # the third is Cyrillic
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / ".hidden").touch()
    by_name = {submission.path.name: submission for submission in submissions.find_submissions(tmp_path)}
    assert len(by_name) == 5 and all(by_name[name].flags for name in ("anna.zip", "Anna.tar.gz", "\u0430nna.zip"))
    assert "hand in one" in by_name["bob.zip"].problem and by_name["bob.zip"].id == "bob.zip"
    assert not by_name["anna.zip"].problem and "\\u0430nna" in by_name["anna.zip"].flags[-1]


def test_pages_are_chinese_where_the_teacher_asks_and_what_scripts_parse_is_not(lab):
    before = contents(lab / "out")
    assert graded(lab, "out", "--moodle", "--canvas", "--lang", "zh").returncode == 0
    after = contents(lab / "out")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {name for name in before if name.endswith(".html")}
    for name in ("anna", "bob", "cem"):
        text = after[f"students/{name}/feedback.html"].decode()
        found = re.findall(r'<p class="(?:lines|lines fix|soft)">(?:<bdi>)?(?:检查内容: )?([^<]+)', text)
        said = [line for line in found if not line.startswith(("mslab ·", "What I did"))]
        assert len(said) > 5 and [line for line in said if not re.search("[\u4e00-\u9fff]", line)] == []
