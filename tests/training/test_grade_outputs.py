"""Output of grading: it can be parsed, leaks nothing, runs nothing, and does not depend on other students."""

import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from gradescope_format import TEST, TOP, fits
from hostile import (
    CONFUSION,
    HOSTILE,
    LINE,
    PAIRS,
    RUBRIC,
    check_feedback_pages,
    everybody,
    graded,
    write,
    written_once,
)
from strict import hidden

from mslab.errors import MslabError
from mslab.grade import outputs, rubric
from mslab.grade.records import Graded
from mslab.grade.words import CHINESE


@pytest.fixture
def everyone() -> list[Graded]:
    """Fresh records of everybody(), which a test may change."""
    return everybody()


@pytest.fixture(scope="module")
def written(once) -> Path:
    """Folder with the output for everybody, written once for all tests. Do not change it."""
    return written_once(once)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.reader(file, strict=True))


# --- names and bytes -------------------------------------------------------------------------------------------------


def test_every_name_gets_its_own_folder_on_every_system():
    folders = [outputs.folder_of(name) for name in HOSTILE]
    assert len({name.casefold() for name in folders}) == len(HOSTILE)
    for folder in folders:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._~-]*", folder) and len(folder) <= 60 and folder[-1] not in ". "
        stem = folder.split(".")[0].lower()
        assert not re.fullmatch(r"con|prn|aux|nul|com\d|lpt\d", stem), folder
    assert outputs.folder_of("s1234567") == "s1234567" and outputs.folder_of("anna") == "anna"
    assert outputs.folder_of("Anna Ö.").startswith("Anna~")
    # the first 48 bits of their hashes are equal; finding them took a minute
    assert outputs.folder_of("Eve +{*[)) Adams") != outputs.folder_of("Eve ,{[#}+ Adams")


def test_equal_input_gives_equal_bytes_in_any_order(everyone, written, tmp_path):
    few = everyone[::3]
    write(few, tmp_path / "one")
    first = tree(tmp_path / "one")
    write(few, tmp_path / "one")  # over existing files
    assert tree(tmp_path / "one") == first
    write(few[::-1], tmp_path / "two")
    assert tree(tmp_path / "two") == first
    first = tree(written)
    assert set(first) >= {"grades.csv", "grades.json", "copies.csv", "summary.html", "moodle.csv", "canvas.csv"}
    assert sum(name.startswith("students/") for name in first) == 3 * len(HOSTILE)
    assert not any(name.endswith(".tmp") for name in first)
    assert not any(str(folder).encode() in content for content in first.values() for folder in (written, tmp_path))


def test_other_students_do_not_change_a_students_files(everyone, written, tmp_path):
    every = tree(written / "students")
    for g in everyone[::5]:
        write([g], tmp_path / "alone")
    alone = tree(tmp_path / "alone" / "students")
    assert len(alone) == 3 * len(everyone[::5]) and alone == {name: every[name] for name in alone}


def test_folders_of_an_earlier_run_are_reported_and_not_deleted(tmp_path):
    assert write([graded("anna"), graded("ben")], tmp_path) == []
    before = tree(tmp_path / "students" / "ben")
    assert write([graded("anna")], tmp_path) == ["ben"]
    assert tree(tmp_path / "students" / "ben") == before
    assert "ben" not in (tmp_path / "summary.html").read_text() and len(rows(tmp_path / "grades.csv")) == 2


def test_an_empty_class_and_a_rubric_without_points(tmp_path):
    assert outputs.write_all([], RUBRIC, [], tmp_path / "none", moodle=False, canvas=False, confusion={}) == []
    assert "Nothing was graded." in (tmp_path / "none" / "summary.html").read_text()
    assert not (tmp_path / "none" / "moodle.csv").exists() and not (tmp_path / "none" / "canvas.csv").exists()
    nothing = SimpleNamespace(title="t", total=0.0, items=[])
    outputs.write_all([Graded("anna", "", {})], nothing, [], tmp_path / "zero", confusion={})
    assert "Total: 0 of 0 points" in (tmp_path / "zero" / "students" / "anna" / "feedback.html").read_text()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MslabError, match="cannot be created") as caught:
        write([graded("anna")], tmp_path / "file" / "grades")
    assert "--out with another name" in str(caught.value)


# --- tables ----------------------------------------------------------------------------------------------------------

RUN = tuple("=+-@\t\r\n＝＋－＠")  # first characters of a formula in some spreadsheets (OWASP, "CSV Injection")


def test_tables_can_be_read_and_no_cell_runs(written):
    for name in ("grades.csv", "copies.csv", "moodle.csv", "canvas.csv"):
        lines = rows(written / name)
        assert len({len(line) for line in lines}) == 1 and len(lines) > 20
        for cell in (cell for line in lines for cell in line):
            assert not cell.lstrip().startswith(RUN) and len(cell) < 32_768
            assert all(character.isprintable() for character in cell)


def test_names_of_any_script_open_in_excel_and_course_systems_get_plain_utf8(tmp_path):
    write([graded("王芳")], tmp_path, moodle=True, canvas=True)
    assert (tmp_path / "grades.csv").read_bytes().startswith(b"\xef\xbb\xbfid,total")
    for name in ("moodle.csv", "canvas.csv"):
        assert not (tmp_path / name).read_bytes().startswith(b"\xef") and "王芳" in (tmp_path / name).read_text("utf-8")


def test_grades_csv(tmp_path):
    late = graded("anna", deductions=[("2 days late", 3.0), ("a third attempt", 0.5)], flags=["look", "here"])
    write([graded("ben", 1 / 3), late, graded("cem", 0, deductions=[("30 days late", 100.0)])], tmp_path)
    assert rows(tmp_path / "grades.csv") == [
        ["id", "total", "files", "hidden", "open", "essay", "deductions", "flags"],
        ["anna", "7.5", "2", "4", "5", "", "3.5", "look; here"],
        ["ben", "9.67", "2", "2.67", "5", "", "0", ""],
        ["cem", "0", "2", "0", "5", "", "100", ""],
    ]
    lines = rows(tmp_path / "copies.csv")
    assert lines[0] == ["a", "b", "kind", "likeness", "last_year", "evidence"]
    assert [float(line[3]) for line in lines[1:]] == sorted((p["likeness"] for p in PAIRS), reverse=True)


def test_moodles_columns(tmp_path):
    # docs.moodle.org, "Grade import": "ID number" is mapped to useridnumber; the worksheet of "Assignment, offline
    # grading" is accepted if Identifier, Grade and Last modified (grade) are there (importgradeslib.php)
    write([graded("s1234567"), graded("Full Name_1234567_assignsubmission_file_")], tmp_path)
    with (tmp_path / "moodle.csv").open(newline="", encoding="utf-8") as file:
        full, plain = csv.DictReader(file)
    assert {"Identifier", "ID number", "Grade", "Last modified (grade)", "Feedback comments"} < set(plain)
    assert (full["Identifier"], full["Full name"], full["ID number"]) == ("Participant 1234567", "Full Name", "")
    assert (plain["Identifier"], plain["ID number"], plain["Grade"]) == ("", "s1234567", "11")
    assert plain["Maximum Grade"] == "20" and "<b>" not in plain["Feedback comments"]  # Moodle parses it as HTML
    assert "hidden: 4 of 8" in plain["Feedback comments"] and "open, of 5" in plain["Feedback comments"]


@pytest.mark.parametrize(("name", "row"), [
    ("Bob_12_assignsubmission_file_x_999_assignsubmission_file_y", ("Participant 12", "Bob", "")),  # his file's name
    ("Bob_12_assignsubmission_file", ("Participant 12", "Bob", "")),  # a folder
    ("Participant_12_assignsubmission_file_a.pdf", ("Participant 12", "Participant", "")),  # blind marking
    ("Anna_Lee_0012_assignsubmission_onlinetext_", ("Participant 12", "Anna_Lee", "")),
    ("An\nna_7_assignsubmission_file_\n_8_assignsubmission_", ("Participant 7", "An\\nna", "")),
    ("Bob_\u0661\u0662_assignsubmission_file_", ("", "", "Bob_\u0661\u0662_assignsubmission_file_")),  # other digits
    ("Bob__assignsubmission_file_", ("", "", "Bob__assignsubmission_file_")),
    (f"Bob_{'1' * 5000}_assignsubmission_file_", ("", "", f"Bob_{'1' * 5000}_assignsubmission_file_")),
])  # fmt: skip
def test_the_number_that_moodle_wrote_decides_the_row(tmp_path, name, row):
    write([graded(name)], tmp_path)
    assert tuple(rows(tmp_path / "moodle.csv")[1][:3]) == row


def test_ids_that_a_course_system_may_confuse_are_in_neither_table(tmp_path):
    ids = ["anna", "Anna", "a\u200bnna", "anna ", "caf\u00e9", "cafe\u0301", "ben"]
    write([graded(name) for name in ids], tmp_path)
    assert [row[2] for row in rows(tmp_path / "moodle.csv")[1:]] == ["ben"]
    assert [row[3] for row in rows(tmp_path / "canvas.csv")[2:]] == ["ben"]
    assert len(rows(tmp_path / "grades.csv")) == 8


def test_canvas_columns(tmp_path):
    # Canvas, "How do I import grades in the Gradebook?": these five, then one column per assignment
    write([graded("anna")], tmp_path)
    assert rows(tmp_path / "canvas.csv") == [
        ["Student", "ID", "SIS User ID", "SIS Login ID", "Section", RUBRIC.title],
        ["    Points Possible", "", "", "", "", "20"],
        ["anna", "", "", "anna", "", "11"],
    ]


# --- JSON ------------------------------------------------------------------------------------------------------------


def test_the_teachers_json_is_complete(written):
    content = json.loads((written / "grades.json").read_text())
    assert (content["mslab"], content["schema"]) == ("grades", 1)
    assert content["rubric"]["items"][1] == {
        "id": "hidden", "title": "", "kind": "accuracy", "points": 8.0, "public": False
    }  # fmt: skip
    assert [row["id"] for row in content["students"]] == sorted(HOSTILE)  # unchanged, valid Unicode or not
    for row in content["students"]:
        assert (written / "students" / row["folder"] / "feedback.html").is_file()
        assert row["outcomes"]["hidden"]["figures"] == {"accuracy": 0.6180339, "nan": None, "array": [0, 1, 2]}
        assert row["points"] == pytest.approx(max(0, sum(o["points"] for o in row["outcomes"].values()) - 2))
    assert content["confusion"]["nine"]["matrix"] == CONFUSION["nine"][1].tolist()
    assert {pair["evidence"] for pair in content["pairs"]} == {pair["evidence"] for pair in PAIRS}


def test_gradescopes_results(written):
    for path in (written / "students").glob("*/results.json"):
        content = json.loads(path.read_text())
        fits(content, TOP)
        assert set(content) == set(TOP) and len(content["tests"]) == 4
        for test in content["tests"]:
            fits(test, TEST)
            assert len(test["output"]) < 5000 and ("score" in test) == ("max_score" in test)
    anna = outputs.gradescope(graded("anna", deductions=[("late", 3.0)]), RUBRIC)
    assert anna["score"] == 8.0 and "Deduction: late: -3" in anna["output"]
    files, hidden, _, essay = anna["tests"]
    assert (files["status"], files["visibility"]) == ("passed", "visible") and "score" not in essay
    assert (hidden["status"], hidden["score"], hidden["max_score"]) == ("failed", 4.0, 8.0)
    assert "How to fix: train longer" in hidden["output"]


def test_gradescope_shows_the_points_of_a_hidden_set_only_when_grades_are_published():
    # its documentation: "If test cases are hidden, students will not be able to see their total score"; otherwise a
    # student could upload until the points are high
    content = outputs.gradescope(graded("anna"), RUBRIC)
    assert [test["visibility"] for test in content["tests"]] == ["visible", "after_published", "visible", "visible"]
    assert "11" not in content["output"]


def test_otters_results(written):
    # otter-grader.readthedocs.io, "Non-containerized Grading", GradingResults.to_dict(): by name a TestFile.to_dict()
    for path in (written / "students").glob("*/otter.json"):
        for name, test in json.loads(path.read_text()).items():
            fits(test, {"name": {name}, "score": float | int, "possible": float | int, "path": str, "test_cases": list,
                        "all_or_nothing": bool, "test_case_results": list})  # fmt: skip
            case = {"name": str, "body": str, "hidden": bool, "points": float | int, "success_message": str | None}
            case |= {"failure_message": str | None}
            (test_case,) = test["test_cases"]
            fits(test_case, case)
            (result,) = test["test_case_results"]
            fits(result, {"test_case": dict, "message": str, "passed": bool})
            assert set(test_case) == set(case) and result["test_case"] == test_case
    for cost in (3.0, 100.0):
        g = graded("anna", deductions=[("late", cost)])
        content = outputs.otter(g, RUBRIC)
        assert list(content) == ["files", "hidden", "open", "deductions"]  # the teacher's item is not a test
        assert sum(test["score"] for test in content.values()) == pytest.approx(g.points)
        assert [test["test_cases"][0]["hidden"] for test in content.values()] == [False, True, False, False]


# --- pages -----------------------------------------------------------------------------------------------------------


def test_a_student_gets_nothing_that_is_only_for_the_teacher(tmp_path):
    flags = ["is the same as ben's"]
    write([graded("anna", flags=flags, facts={"problems": ["secret"]}), graded("ben")], tmp_path)
    for path in (tmp_path / "students" / "anna").iterdir():
        text = path.read_text()
        for secret in ("0.618", "ben", "secret", "0.125", "0.875", "last year"):  # figure, flag, facts, scale, pairs
            assert secret not in text, (path.name, secret)
    text = (tmp_path / "students" / "anna" / "feedback.html").read_text()
    assert "1 points from 0.5, 5 points from 0.75" in text and "accuracy 0.812" in text  # this item is public
    assert "is the same as ben" in (tmp_path / "summary.html").read_text()


@pytest.mark.parametrize("item", [
    rubric.GainItem(id="i", kind="gain", points=1.0, network="two", baseline=0.625, linear=LINE),
    rubric.PredictionsItem(id="i", kind="predictions", points=1.0, network="two", bands=[[0.625, 1.0]]),
    rubric.ReproducedItem(id="i", kind="reproduced", points=1.0, network="two"),
])  # fmt: skip
def test_a_requirement_hides_the_scale_of_an_item_that_is_not_public(item):
    assert outputs.secret(item) and not re.search("0.625|0.125|0.875", outputs.requirement(item))
    public = item.model_copy(update={"public": True})
    assert not outputs.secret(public) and outputs.requirement(public) == rubric.described(item)


def test_feedback_in_a_browser(written, new_page):
    # each text once, as a name or as another text; script and the longest as both; all combinations in tests/slow
    page = check_feedback_pages(written, [*HOSTILE[::2], HOSTILE[9], HOSTILE[-1]], new_page)
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", dark))) < 60
    page.goto((written / "students" / outputs.folder_of(HOSTILE[0]) / "feedback.html").as_uri())
    assert page.locator("h1").inner_text() == HOSTILE[0]
    table = page.locator("table").inner_text()
    assert "✓ full points" in table and "◐ part of the points" in table and "open: your teacher" in table
    assert "−1.5" in table and "Files <b>are</b> there" in table and "Total" in table
    assert page.locator("section h2").all_inner_texts()[1:] == ["hidden", "open", "What you make of it"]
    page.locator("table a").nth(1).click()
    assert page.url.endswith("#hidden") and "train longer" in page.locator("#hidden").inner_text()


def test_no_text_reverses_the_page_and_a_long_text_is_cut(written):
    for path in written.rglob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", text) and "x" * 2001 not in text and not hidden(text)
        assert "default-src 'none'" in text and "<script" not in text
    assert "{{ 7 * 7 }}{% raw %}" in (written / "summary.html").read_text()


def test_summary_in_a_browser(written, new_page):
    page = new_page(viewport={"width": 390, "height": 800})
    page.on("dialog", lambda dialog: pytest.fail(f"a text ran: {dialog.message}"))
    page.goto((written / "summary.html").as_uri())
    assert page.complaints == [] and page.requested == [page.url]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    anchors = page.eval_on_selector_all("nav a", "links => links.map(a => a.getAttribute('href').slice(1))")
    assert anchors == page.eval_on_selector_all("section", "parts => parts.map(p => p.id)")
    bars = page.eval_on_selector_all("#totals rect.bar title", "all => all.map(t => t.textContent)")
    assert sum(int(text.split(": ")[1]) for text in bars) == len(HOSTILE)
    assert page.locator("#confusion h3").all_inner_texts() == ["many", "nine"]
    assert "210 of 220 answers are correct (95.5 %)" in page.locator("#confusion").inner_text()
    assert page.locator("#pairs tbody tr").count() == len(PAIRS)
    assert "never cost points" in page.locator("#pairs").inner_text()
    links = page.eval_on_selector_all("#submissions tbody a", "links => links.map(a => a.href)")
    pages = {(written / "students" / outputs.folder_of(name) / "feedback.html").as_uri() for name in HOSTILE}
    assert len(links) == len(HOSTILE) and set(links) == pages
    for name in ("Anna", "anna", "a/b\\c:d*e?", HOSTILE[0]):
        page.goto((written / "summary.html").as_uri())
        page.locator(f'#submissions tbody a[href*="/{outputs.folder_of(name)}/"]').click()
        assert page.locator("h1").inner_text() == name and page.url.endswith("feedback.html")
    assert page.complaints == []


def test_both_languages(tmp_path):
    assert all(set(re.findall(r"{\w+}", a)) == set(re.findall(r"{\w+}", b)) for a, b in CHINESE.items())
    write([graded("anna", deductions=[("late", 1.0)])], tmp_path, lang="zh")
    text = (tmp_path / "students" / "anna" / "feedback.html").read_text()
    assert '<html lang="zh-Hans">' in text and "总分：10 / 20 分" in text and "如何改进" in text
    assert "全班混淆矩阵" in (tmp_path / "summary.html").read_text()
