"""Grade a class of one honest student and many attackers as a teacher does, and check the results."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import psutil
import pytest
from attackers import EVIL, Kit, same_name
from attacks import GIGABYTES, ITEMS, SECONDS, Attack
from helpers import PROGRAM, cli, without_roots_rights

from mslab import checkpoint
from mslab.grade import handin
from mslab.grade.outputs import folder_of
from mslab.inference import predicting

RUBRIC = """
title: A lab that is under attack
total: 40
networks: {one: {file: [best.ckpt, best.safetensors], data: test, class_num: 3}}
items:
  - {id: files, kind: files, points: 5,
     files: [best.ckpt, config.yaml, history.csv, manifest.json, predictions.csv]}
  - {id: settings, kind: config, points: 2, file: config.yaml,
     rules: {class_num: {equals: 3}, image_size: {at_most: 512}}}
  - {id: right, kind: accuracy, points: 10, network: one, linear: {from: 0.0, to: 1.0}}
  - {id: claimed, kind: reproduced, points: 5, network: one, file: manifest.json, key: metrics.val_acc, tolerance: 0.3}
  - {id: table, kind: predictions, points: 5, network: one, file: predictions.csv, agreement: 0.99,
     linear: {from: 0.0, to: 1.0}}
  - {id: small, kind: size, points: 3, network: one, at_most: 1_000_000}
  - {id: written, kind: manual, points: 10, title: The write-up}
"""


# --- the class -------------------------------------------------------------------------------------------------------


@dataclass
class Observed:
    """Observations while a class was graded, besides the files that grading wrote."""

    handed_in: list[str]
    output: str  # of mslab, both streams
    before: dict[str, list]  # files in places that an attack could reach
    after: dict[str, list]
    evil: list[str]  # names in OUT that grading does not write
    processes: list[str]  # still running


@dataclass
class Graded:
    """A graded class."""

    count: int  # of submissions
    observed: Observed
    first: dict[str, bytes]  # files of OUT
    again: dict[str, bytes]  # after the cached run
    alone: dict[str, bytes]  # files of the honest student, graded without the others

    @property
    def table(self) -> dict:
        return json.loads(self.first["grades.json"])

    @property
    def students(self) -> dict[str, dict]:
        """grades.json's students by id."""
        return {row["id"]: row for row in self.table["students"]}


def attacked_class(once, name: str, attacks: Sequence[Attack], squares: Path, parent: Path) -> Graded:
    """A class with these attackers: graded, graded again, and the honest student alone; once for all processes."""
    folder = once(name, lambda folder: siege(folder / "siege", attacks, squares / "three" / "test", parent))
    observed = Observed(**json.loads((folder / "siege" / "observed.json").read_text()))
    first, again, alone = (files_of(folder / "siege" / out) for out in ("first", "out", "alone"))
    # besides the attackers: the honest student, a copy, two more twins, two with the same name
    return Graded(len(attacks) + 6, observed, first, again, own(alone))


def siege(base: Path, attacks: Sequence[Attack], images: Path, parent: Path) -> None:
    """Fill the folder with a class and the teacher's files, and grade."""
    kit = make_class(base, attacks, images, parent)
    before = files_in_reach(base, kit.hidden)
    options = ["--last-year", base / "last year", "--moodle", "--canvas"]

    output = run_grade(kit, kit.folder, base / "out", *options)
    shutil.copytree(base / "out", base / "first")
    alone = cli("grade", base / "alone class", *options_for(kit, base / "alone"))  # in this process, which runs as root
    assert alone.returncode == 0, alone.stderr
    output += run_grade(kit, kit.folder, base / "out", *options)
    evil = [path.name for path in (base / "out").rglob("*") if EVIL in path.name or path.is_symlink()]
    names, after = [path.name for path in kit.folder.iterdir()], files_in_reach(base, kit.hidden)
    observed = Observed(names, output, before, after, evil, running(base))
    (base / "observed.json").write_text(json.dumps(asdict(observed)))
    subprocess.run(["rm", "-rf", kit.folder], check=True)  # deeper than Python can recurse


def make_class(base: Path, attacks: Sequence[Attack], images: Path, parent: Path) -> Kit:
    """Make the class, last year's, a rubric and hidden images, and folders that attacks could reach."""
    hidden = base / "hidden" / "test"
    for path in sorted(images.rglob("*.png")):
        (hidden / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, hidden / path.parent.name / f"{path.parent.name}{path.name}")  # unique names
    for name in ("class", "alone class", "last year", "tmp", "working folder", "home"):
        (base / name).mkdir()
    (base / "rubric.yaml").write_text(RUBRIC)
    model = predicting.open_model(parent, "cpu")
    rows = [
        row | {"file": Path(row["file"]).name} for row in predicting.predict(model, predicting.expand([str(hidden)]))
    ]
    (base / "predictions.csv").write_text("".join(predicting.csv_lines(rows, model.class_names)))
    handin.pack([str(parent)], base / "class" / "honest.zip", [str(base / "predictions.csv")])
    with zipfile.ZipFile(base / "class" / "honest.zip") as file:
        files = {name: file.read(name) for name in file.namelist()}
    weights = checkpoint.read(parent / "checkpoints" / "best.ckpt")
    kit = Kit(base / "class", base / "hidden", files, weights.backbone | weights.head, weights.info)
    shutil.copy(base / "class" / "honest.zip", base / "alone class")
    shutil.copy(base / "class" / "honest.zip", base / "class" / "copy.zip")
    shutil.copy(base / "class" / "honest.zip", base / "last year" / "s2020.zip")
    rng = np.random.default_rng(0)
    other_tensors = {
        name: value + rng.normal(0, 1, value.shape).astype(np.float32) for name, value in kit.tensors.items()
    }
    with zipfile.ZipFile(base / "last year" / "honest.zip", "w") as file:  # the same id with other work
        file.writestr("best.ckpt", kit.ckpt(other_tensors))
    previous = Path.cwd()
    try:
        for attack in attacks:
            attack.make(kit, attack.id)
        same_name(kit)
    finally:
        os.chdir(previous)
    return kit


def options_for(kit: Kit, out: Path) -> list:
    """Options of `mslab grade CLASS`."""
    base = kit.folder.parent
    limits = ["--seconds", SECONDS, "--gigabytes", GIGABYTES]
    return ["--rubric", base / "rubric.yaml", "--data", kit.hidden, "--out", out, *limits]


def run_grade(kit: Kit, folder: Path, out: Path, *options) -> str:
    """Run mslab grade as a teacher does, without root's rights. Returns its output."""
    base = kit.folder.parent
    result = subprocess.run(
        [*PROGRAM, "grade", *map(str, [folder, *options_for(kit, out), *options])],
        cwd=base / "working folder", capture_output=True, timeout=400, preexec_fn=without_roots_rights,
        env=os.environ | {"COLUMNS": "120", "TMPDIR": str(base / "tmp"), "HOME": str(base / "home")},
    )  # fmt: skip
    output = (result.stdout + result.stderr).decode()  # the output is UTF-8 even with hostile names
    assert result.returncode == 0, output
    return output


def files_of(folder: Path) -> dict[str, bytes]:
    """Contents of the files below, except the cache."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(".cache/")}


def files_in_reach(base: Path, hidden: Path) -> dict[str, list]:
    """Names of files in places where attacks could create some."""
    found: dict[str, list] = {}
    for watched in (Path("/tmp"), Path("/"), Path("/dev/shm"), Path.home(), Path("/etc"), Path.cwd()):
        found[f"evil in {watched}"] = [str(path) for path in watched.iterdir() if EVIL in path.name]
    for watched in (base / "tmp", base / "working folder", base / "home", base / "last year", hidden):
        paths = (path.relative_to(watched).as_posix() for path in watched.rglob("*"))
        found[watched.name] = sorted(path for path in paths if path not in (".config", ".config/matplotlib"))
    found["class"] = []
    for directory, folders, names in os.walk(base / "class"):  # readable folders only; links and pipes are not opened
        status = [(name, os.lstat(f"{directory}/{name}")) for name in sorted([*folders, *names])]
        found["class"] += [(directory, n, s.st_mode, s.st_size, s.st_mtime_ns) for n, s in status]
        if len(found["class"]) > 5000 or directory.count("/a/a/a"):
            folders.clear()
    found["base"] = sorted(path.name for path in base.iterdir() if path.name not in ("out", "first", "alone"))
    return found


def running(base: Path) -> list[str]:
    """Running processes that a grading started, recognised by their arguments."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and str(base) in str([process.cwd(), process.cmdline()]):
                found.append(str(process))
        except psutil.Error:
            continue
    return found


# --- checks ----------------------------------------------------------------------------------------------------------


def own(files: dict[str, bytes]) -> dict[str, bytes]:
    """The honest student's files."""
    return {name: text for name, text in files.items() if name.startswith("students/honest/")}


def gains_nothing(graded: Graded, attack: Attack) -> None:
    """An attack has no points except for its `gains`, and its student gets the reason."""
    row = graded.students[attack.id]
    outcomes = row["outcomes"]
    page = graded.first[f"students/{row['folder']}/feedback.html"].decode()
    result = json.loads(graded.first[f"students/{row['folder']}/results.json"])
    assert row["folder"] == folder_of(attack.id) and result["score"] == row["points"], (row, result)
    for item in ITEMS:
        points, message = outcomes[item]["points"], outcomes[item]["said"]
        expected = attack.messages.get(item, attack.messages.get("all"))
        if expected:
            assert re.search(expected, message, re.S), (item, message)
            assert text_of(page).count(" ".join(message.split())[:60]), (item, message)
        if item not in attack.gains:
            assert points == 0 and outcomes[item]["status"] == "none", (item, points, message)
        assert not re.search(r"Traceback|Error:|Exception|pytest-of|/siege", message), message
        # equal bytes have equal facts, for every student
        assert ".zip" not in message.replace("twins.zip", ""), message
    if "all" in attack.messages:
        assert row["points"] == 0, row
    assert attack.flag in "; ".join(row["flags"]), row["flags"]


class Guarantees:
    """Guarantees for any class with any attackers. A subclass defines a fixture `graded`.

    Its attackers are at least "twins" and "=HYPERLINK(1)".
    """

    def test_two_with_the_same_id_have_their_own_pages(self, graded):
        students = graded.students
        rows = [row for name, row in students.items() if name.startswith("\\xfe")]
        assert len(rows) == 2 and len({row["folder"] for row in rows}) == 2, rows
        messages = [(row["outcomes"]["files"]["said"], row["points"]) for row in rows]
        assert all("two submissions have the id \\xfe: " in text and points == 0 for text, points in messages), messages
        names = [name for name in students if name.startswith("twins")]
        assert len(names) == 3 and len({students[name]["folder"] for name in names}) == 3, names
        refused = [students[name] for name in names if "two submissions" in str(students[name]["problems"])]
        assert len(refused) == 2, refused
        right = [students[name] for name in names if students[name] not in refused]
        assert right[0]["points"] == students["honest"]["points"], right

    def test_the_honest_student_has_the_same_files_with_and_without_the_others(self, graded):
        assert len(graded.alone) == 3, graded.alone.keys()
        assert own(graded.first) == graded.alone == own(graded.again)
        outcomes = graded.students["honest"]["outcomes"]
        status = {name: outcomes[name]["status"] for name in ITEMS}
        assert set(status.values()) <= {"full", "part"}, status
        assert all(status[name] == "full" for name in ("files", "settings", "claimed", "small")), status

    def test_every_submission_is_there_once(self, graded):
        assert len(graded.students) == len(graded.observed.handed_in) == graded.count
        folders = [row["folder"] for row in graded.students.values()]
        assert len({name.casefold() for name in folders}) == len(folders), folders
        assert {name.split("/")[1] for name in graded.first if name.startswith("students/")} == set(folders)

    def test_a_second_grading_gives_the_same_bytes(self, graded):
        assert graded.first.keys() == graded.again.keys(), graded.first.keys() ^ graded.again.keys()
        assert [name for name in graded.first if graded.first[name] != graded.again[name]] == []

    def test_copies_are_pairs_and_cost_nothing(self, graded):
        pairs = graded.table["pairs"]
        rows = {(p["a"], p["b"], p["kind"]): p for p in pairs}
        for kind in ("weights", "answers", "history"):
            row = rows["copy", "honest", kind]
            assert row["likeness"] == 1 and not row["last_year"], row
        students = graded.students
        assert students["copy"]["points"] == students["honest"]["points"] > 20, (students["copy"], students["honest"])
        assert rows["honest", "s2020", "weights"]["last_year"]
        # last year's student with the same name handed in other work
        assert [p for p in pairs if p["last_year"] and p["b"] == "honest"] == []

    def test_only_the_results_were_written(self, graded):
        before, after = graded.observed.before, graded.observed.after
        assert {name: after[name] for name, what in before.items() if after[name] != what} == {}
        assert [path for name, paths in after.items() if name.startswith("evil") for path in paths] == []
        assert before["tmp"] == before["working folder"] == []
        assert graded.observed.evil == graded.observed.processes == []

    def test_the_output_is_plain(self, graded):
        output = graded.observed.output
        assert not re.search(r"Traceback|\w(Error|Exception|Warning)\b", output), output
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", output), output
        assert "\nlines" not in output, output  # a name cannot start a line

    def test_no_cell_is_a_formula(self, graded):
        for name in ("grades.csv", "copies.csv", "moodle.csv", "canvas.csv"):
            rows = list(csv.reader(io.StringIO(graded.first[name].decode("utf-8-sig"), newline="")))
            assert len({len(row) for row in rows}) == 1, name
            assert [cell for row in rows for cell in row if FORMULA.match(cell)] == [], name
            assert [cell for row in rows for cell in row if not cell.isprintable()] == [], name
        rows = list(csv.DictReader(io.StringIO(graded.first["grades.csv"].decode("utf-8-sig"))))
        assert len(rows) == len(graded.students)
        points = {row["id"]: float(row["total"]) for row in rows}
        assert points["honest"] == pytest.approx(graded.students["honest"]["points"], abs=0.01)
        assert points["'=HYPERLINK(1)"] == 0

    def test_pages_contain_no_markup_of_a_student(self, graded):
        pages = {name: text.decode() for name, text in graded.first.items() if name.endswith(".html")}
        honest = Page(pages["students/honest/feedback.html"])
        assert len(pages) == len(graded.students) + 1
        for name, text in pages.items():
            page = Page(text)
            assert page.runs == [], name
            allowed = honest.names if name != "summary.html" else honest.names | SUMMARY
            assert page.names <= allowed, (name, page.names - allowed)
            assert not page.names & {"script", "iframe", "object", "embed", "img"}, name


FORMULA = re.compile(r"[\s\x00]*[=+\-@\uff1d\uff0b\uff0d\uff20]")
SUMMARY = set("nav ul li div figure svg g title rect text line details summary a path desc polyline".split())  # noqa: SIM905


class Page(HTMLParser):
    """Elements of a page, and everything that would run or be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.runs: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.names.add(tag)
        for name, value in attributes:
            text = re.sub(r"[\s\x00-\x20]", "", value or "").lower()
            far = name in ("src", "href", "action", "data", "srcset") and not text.startswith(("#", "students/"))
            if name.startswith("on") or "javascript:" in text or far:
                self.runs.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def text_of(page: str) -> str:
    return " ".join(" ".join(Page(page).texts).split())
