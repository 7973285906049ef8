"""grade that ends early leaves the grades so far, and the next one goes on: killed, interrupted, on a full disk."""

import csv
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from helpers import PROGRAM, cli, draw
from submitted import bytes_of, network, zip_of

from mslab.grade import contents, grading, looking, measuring, progress, submissions
from mslab.grade.records import Measurement

RUBRIC = "title: x\ntotal: 1\nitems: [{id: a, kind: files, points: 1, files: [a.txt]}]\n"
WITH_NETWORK = RUBRIC + "networks: {one: {file: best.ckpt, data: hidden}}\n"


@pytest.fixture
def lab(tmp_path):
    """A class of two, and a rubric that needs no images."""
    for name in ("anna", "bob"):
        (tmp_path / "class").mkdir(exist_ok=True)
        zip_of(tmp_path / "class" / f"{name}.zip", {"a.txt": name})
    (tmp_path / "rubric.yaml").write_text(RUBRIC)
    return tmp_path


def command(*more) -> list[str]:
    return ["grade", "class", "--rubric", "rubric.yaml", "--data", ".", "--out", "out", "--jobs", "1", *more]


def table(lab: Path) -> dict[str, tuple[str, str]]:
    """{id: (total, flags)} of grades.csv."""
    with (lab / "out" / "grades.csv").open(newline="", encoding="utf-8") as file:
        return {row["id"]: (row["total"], row["flags"]) for row in csv.DictReader(file)}


def test_a_killed_grader_leaves_the_grades_so_far_and_the_next_one_goes_on(lab):
    with subprocess.Popen([*PROGRAM, *command()], cwd=lab, stderr=subprocess.DEVNULL) as grader:
        deadline = time.monotonic() + 120
        while not (lab / "out" / "grades.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        grader.kill()
    assert table(lab) == {"anna": ("1", ""), "bob": ("", "not graded yet")}
    content = json.loads((lab / "out" / "grades.json").read_text())
    assert content["missing"] == ["bob"] and content["unfinished"] and content["students"][0]["points"] == 1
    (cached,) = (lab / "out" / ".cache").glob("*.npz")
    before = cached.stat().st_mtime_ns
    (lab / "out" / ".cache" / ".x.npz.0123456789abcdef.tmp").write_text("left by the killed one")
    result = cli(*command(), cwd=lab)
    assert result.returncode == 0 and set(table(lab).values()) == {("1", "")}
    assert not list((lab / "out").glob("earlier-*"))
    assert cached.stat().st_mtime_ns == before and "missing" not in json.loads((lab / "out/grades.json").read_text())
    left = {path.name for path in (lab / "out" / ".cache").iterdir()}
    assert "images" not in left and not any(name.endswith(".tmp") for name in left) and len(left) == 3


@pytest.mark.parametrize("end", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_grader_says_what_is_there(lab, monkeypatch, end):
    really_measure = grading.measure_one

    def measure(submission, *rest):
        if submission.id != "anna":
            raise end
        return really_measure(submission, *rest)

    (lab / "out").mkdir()
    (lab / "out" / "grades.csv").write_text("of an earlier grading")
    monkeypatch.setattr(measuring, "measure", list_files)
    monkeypatch.setattr(grading, "measure_one", measure)
    result = cli(*command(), cwd=lab)
    assert result.returncode == (130 if end is KeyboardInterrupt else 1)
    assert "1 of 2 submissions are graded; their points are in out/grades.csv" in result.stderr
    assert (lab / "out" / "earlier-grades.csv").read_text() == "of an earlier grading"
    assert cli(*command(), cwd=lab).returncode == result.returncode  # twice: the earlier grades are still there
    assert (lab / "out" / "earlier-grades.csv").read_text() == "of an earlier grading"
    assert table(lab) == {"anna": ("1", ""), "bob": ("", "not graded yet")}


@pytest.mark.parametrize("name", [".cache", ".cache/images", "students", "students/anna", "grades.csv"])
def test_nothing_is_written_or_deleted_through_a_link_in_the_folder_of_results(lab, name):
    private, link = lab / "private", lab / "out" / name
    (private / "images").mkdir(parents=True)
    (private / "images" / "keep.png").write_text("mine")
    (private / ".note.tmp").write_text("mine")
    link.parent.mkdir(parents=True)
    link.symlink_to(private)
    before = sorted(private.rglob("*"))
    result = cli(*command(), cwd=lab)
    assert result.returncode == 1 and f"out/{name} is a link" in result.stderr
    assert sorted(private.rglob("*")) == before


def test_a_file_that_a_file_manager_left_among_the_results_does_not_matter(lab):
    (lab / "out" / "students").mkdir(parents=True)
    (lab / "out" / "students" / ".DS_Store").touch()
    result = cli(*command(), cwd=lab)
    assert result.returncode == 0 and table(lab) == {"anna": ("1", ""), "bob": ("1", "")}, result.stderr


def test_folders_in_the_place_of_tables_and_results_among_submissions_are_refused(lab):
    (lab / "out" / "earlier-grades.csv").mkdir(parents=True)
    result = cli(*command(), cwd=lab)
    assert result.returncode == 1 and "out/earlier-grades.csv is a folder" in result.stderr
    inside = [word if word != "out" else "class/out" for word in command()]
    result = cli(*inside, cwd=lab)
    assert result.returncode == 1 and "is inside the folder of submissions" in result.stderr
    assert not (lab / "class" / "out").exists()


@pytest.mark.parametrize(
    "text,message",
    [
        ("anna,2026-12-01T00:00:00Z," + "9" * 400, "the attempt must be 1 to 10,000"),
        ("anna,2026-12-01T00:00:00Z,-5", "the attempt must be 1 to 10,000"),
        ("anna,2026-12-01T00:00:00Z,0", "the attempt must be 1 to 10,000"),
    ],
)
def test_a_table_of_times_with_an_impossible_attempt_is_refused(lab, text, message):
    (lab / "times.csv").write_text(f"id,submitted,attempt\n{text}\n")
    result = cli(*command("--times", "times.csv"), cwd=lab)
    assert result.returncode == 1 and message in result.stderr and "line 2" in result.stderr


def test_a_fifo_as_the_table_of_times_is_refused_at_once(lab):
    os.mkfifo(lab / "times.csv")
    result = cli(*command("--times", "times.csv"), cwd=lab)
    assert result.returncode == 1 and "it is not a regular file" in result.stderr


def test_two_graders_do_not_write_to_one_folder(lab):
    with progress.own_cache(lab / "out" / ".cache"):
        result = cli(*command(), cwd=lab)
    assert result.returncode == 1 and "Another mslab grade is writing to" in result.stderr
    assert not (lab / "out" / "grades.csv").exists()


def test_folders_of_killed_graders_are_deleted_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    names = {kind: tmp_path / "tmp" / f"{progress.PREFIX}{kind}" for kind in ("old", "new", "link", "file")}
    for path in (tmp_path / "elsewhere", names["old"], names["new"]):
        (path / "work").mkdir(parents=True)
        os.utime(path, (0, 0) if path != names["new"] else None)
    names["link"].symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    names["file"].touch()
    with progress.temporary_folder() as used:  # locked by a grader that runs
        os.utime(used, (0, 0))
        progress.remove_abandoned_folders()
        assert used.exists() and [kind for kind, path in names.items() if not path.exists()] == ["old"]
    assert (tmp_path / "elsewhere" / "work").exists() and not used.exists()


# --- a full disk -----------------------------------------------------------------------------------------------------


def on_small_disk(folder: Path, size: str, program: list[str], **more) -> subprocess.CompletedProcess:
    """Run a program for which `folder` is a disk of this size."""
    folder.mkdir(exist_ok=True)
    head = (
        'mount -t tmpfs -o size="$1" tmpfs "$2" || exit 77; shift 2; "$@"; code=$?; rm -rf "$COPY"; cp -r "$0" "$COPY"'
    )
    arguments = ["unshare", "-rm", "sh", "-c", f"{head}; exit $code", str(folder), size, str(folder), *program]
    environment = os.environ | {"COLUMNS": "120", "COPY": f"{folder} afterwards"} | more.pop("env", {})
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=200, env=environment, **more)
    if result.returncode == 77 or "unshare" in result.stderr:
        pytest.skip("this account may not mount a disk of memory here")
    return result


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare of util-linux")
def test_a_full_disk_ends_with_a_message_and_the_grades_so_far(lab):
    draw(lab / "hidden", ["a", "b", "c"], 7)
    (lab / "rubric.yaml").write_text(WITH_NETWORK)
    tensors, info = network()
    wide = {"a.txt": "x", "best.ckpt": bytes_of(lab, tensors, info | {"image_size": 512})}  # 16 MiB of pixels
    zip_of(lab / "class" / "bob.zip", wide)
    result = on_small_disk(lab / "out", "2m", [*PROGRAM, *command()], cwd=lab)
    assert result.returncode == 1, (result.returncode, result.stderr)
    assert "The grader cannot go on: No space left on device" in result.stderr and "free some space" in result.stderr
    assert "1 of 2 submissions are graded" in result.stderr and "Traceback" not in result.stderr
    (lab / "out").rmdir(), (lab / "out afterwards").rename(lab / "out")
    assert table(lab) == {"anna": ("1", ""), "bob": ("", "not graded yet")}
    assert len(list((lab / "out").rglob("*.np[yz]"))) == 1  # anna's measurement, and no pixels


UNPACK = """
from pathlib import Path
from mslab.errors import MslabError
from mslab.grade import measuring
job = {"source": SOURCE, "folder": FOLDER, "networks": {}, "relations": [], "predictions": []}
try:
    print(measuring.measure(job, {}).facts["problems"])
except MslabError as error:
    print(error)
"""


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare of util-linux")
def test_a_disk_that_is_full_while_a_worker_unpacks_costs_no_student_points(lab):
    zip_of(lab / "bob.zip", {"a.txt": os.urandom(4 << 20)})
    code = f"SOURCE, FOLDER = {str(lab / 'bob.zip')!r}, {str(lab / 'small' / 'work')!r}\n{UNPACK}"
    result = on_small_disk(lab / "small", "2m", [sys.executable, "-c", code], cwd=lab)
    assert "The grader cannot go on: No space left on device" in result.stdout, result


# --- private copies --------------------------------------------------------------------------------------------------


def list_files(job, *rest) -> Measurement:
    """What a worker does first."""
    found = contents.gather(Path(job["source"]), Path(job["folder"]), looking.LIMITS, [])
    return Measurement(measuring.no_answer("").facts | {"problems": found.problems, "files": found.files})


def test_folders_are_submissions_and_an_archive_alone_in_one_is_unpacked(lab, monkeypatch):
    systems = ["a.zip", ".DS_Store", "Thumbs.db", "desktop.ini", "._a.zip"]  # a teacher has looked into the folder
    for number, files in enumerate((["a.zip"], ["a.zip", "b.txt"], ["a.txt"], systems)):
        folder = lab / "class" / f"Bob_{number}_assignsubmission_file"
        folder.mkdir()
        for name in files:
            shutil.copy(lab / "class" / "anna.zip", folder / name)
    (lab / "class" / "ben").mkdir()
    shutil.copy(lab / "class" / "anna.zip", lab / "class" / "ben" / "a.zip")
    monkeypatch.setattr(measuring, "measure", list_files)
    rubric, options = grading.load_rubric(lab / "rubric.yaml"), grading.GradeOptions(jobs=1)
    found = [s for s in submissions.find_submissions(lab / "class") if s.path.is_dir()]
    facts = grading.measure_all(found, [], rubric, None, {}, lab / "cache", options)
    names = {submission.id: sorted(facts[submission.path].facts["files"]) for submission in found}
    assert names == {"0": ["a.txt"], "1": ["a.zip", "b.txt"], "2": ["a.txt"], "3": ["a.txt"], "ben": ["a.txt"]}


def test_a_submission_that_changes_while_it_is_measured_is_measured_as_it_was_hashed(lab, monkeypatch):
    shutil.copy(lab / "class" / "anna.zip", lab / "class" / "cem.zip")  # the same bytes: one measurement for both
    (lab / "class" / "bob.zip").unlink()
    (lab / "class" / "bob").mkdir()
    (lab / "class" / "bob" / "a.txt").write_text("")
    really_measure, calls = measuring.measure, []

    def change_and_measure(job, *rest):
        if Path(job["source"]).is_dir():
            (lab / "class" / "bob" / "a.txt").write_text("written after it was hashed")
        else:
            zip_of(lab / "class" / "anna.zip", {"other.txt": "written after it was hashed"})
        calls.append(job["source"])
        return really_measure(job, *rest)

    monkeypatch.setattr(measuring, "measure", change_and_measure)
    found = submissions.find_submissions(lab / "class")
    options = grading.GradeOptions(jobs=1)
    rubric = grading.load_rubric(lab / "rubric.yaml")
    facts = grading.measure_all(found, [], rubric, None, {}, lab / "cache", options)
    anna, bob, cem = (facts[submission.path].facts["files"] for submission in found)
    assert anna == cem == {"a.txt": 4} and bob == {"a.txt": 0} and len(calls) == 2
    assert found[0].sha256 == found[2].sha256 != found[1].sha256
    assert not any(Path(source).parent.exists() for source in calls)  # no copy is left
