"""A class of one honest student and many who attack, graded as a teacher does it; and what has to hold of it."""

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
class Seen:
    """What was seen while a class was graded, beyond the files that grading wrote."""

    handed_in: list[str]
    told: str  # what mslab said, both streams
    before: dict[str, list]  # what lay in places that could be hit
    after: dict[str, list]
    evil: list[str]  # names in OUT that no grading gives
    processes: list[str]  # left behind


@dataclass
class Graded:
    """A graded class."""

    count: int  # of submissions
    seen: Seen
    first: dict[str, bytes]  # files of OUT
    again: dict[str, bytes]  # after the cached run
    by_itself: dict[str, bytes]  # files of the honest student, graded without the others

    @property
    def table(self) -> dict:
        return json.loads(self.first["grades.json"])

    @property
    def students(self) -> dict[str, dict]:
        """grades.json's students by id."""
        return {row["id"]: row for row in self.table["students"]}


def besieged(once, name: str, attacks: Sequence[Attack], squares: Path, parent: Path) -> Graded:
    """The class of these attackers: graded, graded again, and its honest student alone; once for all processes."""
    folder = once(name, lambda folder: siege(folder / "room", attacks, squares / "three" / "test", parent))
    seen = Seen(**json.loads((folder / "room" / "seen.json").read_text()))
    first, again, alone = (files_of(folder / "room" / out) for out in ("first", "out", "alone"))
    # besides the attackers: the honest one, a copy, two more twins, two of one name
    return Graded(len(attacks) + 6, seen, first, again, own(alone))


def siege(room: Path, attacks: Sequence[Attack], images: Path, parent: Path) -> None:
    """Fills the room with a class and the teacher's things, and grades."""
    kit = handed_in(room, attacks, images, parent)
    before = seen(room, kit.hidden)
    more = ["--last-year", room / "last year", "--moodle", "--canvas"]

    told = called(kit, kit.folder, room / "out", *more)
    shutil.copytree(room / "out", room / "first")
    alone = cli("grade", room / "alone class", *words(kit, room / "alone"))  # in this process, which is root's
    assert alone.returncode == 0, alone.stderr
    told += called(kit, kit.folder, room / "out", *more)
    evil = [path.name for path in (room / "out").rglob("*") if EVIL in path.name or path.is_symlink()]
    found = Seen(
        [path.name for path in kit.folder.iterdir()], told, before, seen(room, kit.hidden), evil, left(room)
    )  # fmt: skip
    (room / "seen.json").write_text(json.dumps(asdict(found)))
    subprocess.run(["rm", "-rf", kit.folder], check=True)  # deeper than Python goes


def handed_in(room: Path, attacks: Sequence[Attack], images: Path, parent: Path) -> Kit:
    """The class, last year's, a rubric and hidden images; places that attacks could hit."""
    hidden = room / "hidden" / "test"
    for path in sorted(images.rglob("*.png")):
        (hidden / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, hidden / path.parent.name / f"{path.parent.name}{path.name}")  # names of their own
    for name in ("class", "alone class", "last year", "tmp", "desk", "home"):
        (room / name).mkdir()
    (room / "rubric.yaml").write_text(RUBRIC)
    model = predicting.open_model(parent, "cpu")
    rows = [
        row | {"file": Path(row["file"]).name} for row in predicting.predict(model, predicting.expand([str(hidden)]))
    ]
    (room / "predictions.csv").write_text("".join(predicting.csv_lines(rows, model.class_names)))
    handin.pack([str(parent)], room / "class" / "honest.zip", [str(room / "predictions.csv")])
    with zipfile.ZipFile(room / "class" / "honest.zip") as file:
        files = {name: file.read(name) for name in file.namelist()}
    weights = checkpoint.read(parent / "checkpoints" / "best.ckpt")
    kit = Kit(room / "class", room / "hidden", files, weights.backbone | weights.head, weights.info)
    shutil.copy(room / "class" / "honest.zip", room / "alone class")
    shutil.copy(room / "class" / "honest.zip", room / "class" / "copy.zip")
    shutil.copy(room / "class" / "honest.zip", room / "last year" / "s2020.zip")
    rng = np.random.default_rng(0)
    other = {name: value + rng.normal(0, 1, value.shape).astype(np.float32) for name, value in kit.tensors.items()}
    with zipfile.ZipFile(room / "last year" / "honest.zip", "w") as file:  # one of the same id, of other work
        file.writestr("best.ckpt", kit.ckpt(other))
    here = Path.cwd()
    try:
        for attack in attacks:
            attack.make(kit, attack.id)
        same_name(kit)
    finally:
        os.chdir(here)
    return kit


def words(kit: Kit, out: Path) -> list:
    """What `mslab grade CLASS` is told besides."""
    room = kit.folder.parent
    limits = ["--seconds", SECONDS, "--gigabytes", GIGABYTES]
    return ["--rubric", room / "rubric.yaml", "--data", kit.hidden, "--out", out, *limits]


def called(kit: Kit, folder: Path, out: Path, *more) -> str:
    """mslab grade as a teacher calls it, without root's rights. Returns what it said."""
    room = kit.folder.parent
    done = subprocess.run(
        [*PROGRAM, "grade", *map(str, [folder, *words(kit, out), *more])],
        cwd=room / "desk", capture_output=True, timeout=400, preexec_fn=without_roots_rights,
        env=os.environ | {"COLUMNS": "120", "TMPDIR": str(room / "tmp"), "HOME": str(room / "home")},
    )  # fmt: skip
    told = (done.stdout + done.stderr).decode()  # what it says is UTF-8, whatever names there are
    assert done.returncode == 0, told
    return told


def files_of(folder: Path) -> dict[str, bytes]:
    """Contents of the files below, but for the cache."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(".cache/")}


def seen(room: Path, hidden: Path) -> dict[str, list]:
    """What lies where attacks could leave something."""
    found: dict[str, list] = {}
    for place in (Path("/tmp"), Path("/"), Path("/dev/shm"), Path.home(), Path("/etc"), Path.cwd()):
        found[f"evil in {place}"] = [str(path) for path in place.iterdir() if EVIL in path.name]
    for place in (room / "tmp", room / "desk", room / "home", room / "last year", hidden):
        paths = (path.relative_to(place).as_posix() for path in place.rglob("*"))
        found[place.name] = sorted(path for path in paths if path not in (".config", ".config/matplotlib"))
    found["class"] = []
    for at, folders, names in os.walk(room / "class"):  # as far as it is readable; links and pipes are left alone
        status = [(name, os.lstat(f"{at}/{name}")) for name in sorted([*folders, *names])]
        found["class"] += [(at, n, s.st_mode, s.st_size, s.st_mtime_ns) for n, s in status]
        if len(found["class"]) > 5000 or at.count("/a/a/a"):
            folders.clear()
    found["room"] = sorted(path.name for path in room.iterdir() if path.name not in ("out", "first", "alone"))
    return found


def left(room: Path) -> list[str]:
    """Processes that a grading started, by what they were given."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and str(room) in str([process.cwd(), process.cmdline()]):
                found.append(str(process))
        except psutil.Error:
            continue
    return found


# --- what has to hold ------------------------------------------------------------------------------------------------


def own(files: dict[str, bytes]) -> dict[str, bytes]:
    """The honest student's."""
    return {name: text for name, text in files.items() if name.startswith("students/honest/")}


def gains_nothing(graded: Graded, attack: Attack) -> None:
    """An attack has no points but for what it may have, and its student is told why."""
    row = graded.students[attack.id]
    outcomes = row["outcomes"]
    page = graded.first[f"students/{row['folder']}/feedback.html"].decode()
    result = json.loads(graded.first[f"students/{row['folder']}/results.json"])
    assert row["folder"] == folder_of(attack.id) and result["score"] == row["points"], (row, result)
    for item in ITEMS:
        points, said = outcomes[item]["points"], outcomes[item]["said"]
        wanted = attack.said.get(item, attack.said.get("all"))
        if wanted:
            assert re.search(wanted, said, re.S), (item, said)
            assert text_of(page).count(" ".join(said.split())[:60]), (item, said)
        if item not in attack.gains:
            assert points == 0 and outcomes[item]["status"] == "none", (item, points, said)
        assert not re.search(r"Traceback|Error:|Exception|pytest-of|/room", said), said
        assert ".zip" not in said.replace("twins.zip", ""), said  # equal bytes have equal facts, whoever's they are
    if "all" in attack.said:
        assert row["points"] == 0, row
    assert attack.flag in "; ".join(row["flags"]), row["flags"]


class Holds:
    """What holds of any class, whoever attacks it. Whoever inherits this defines a fixture `graded`.

    Its attackers are at least "twins" and "=HYPERLINK(1)".
    """

    def test_each_of_two_with_one_id_has_a_page_of_its_own(self, graded):
        students = graded.students
        rows = [row for name, row in students.items() if name.startswith("\\xfe")]
        assert len(rows) == 2 and len({row["folder"] for row in rows}) == 2, rows
        said = [(row["outcomes"]["files"]["said"], row["points"]) for row in rows]
        assert all("two submissions have the id \\xfe: " in text and points == 0 for text, points in said), said
        names = [name for name in students if name.startswith("twins")]
        assert len(names) == 3 and len({students[name]["folder"] for name in names}) == 3, names
        told = [students[name] for name in names if "two submissions" in str(students[name]["problems"])]
        assert len(told) == 2, told
        right = [students[name] for name in names if students[name] not in told]
        assert right[0]["points"] == students["honest"]["points"], right

    def test_the_honest_student_has_the_same_files_with_and_without_the_others(self, graded):
        assert len(graded.by_itself) == 3, graded.by_itself.keys()
        assert own(graded.first) == graded.by_itself == own(graded.again)
        outcomes = graded.students["honest"]["outcomes"]
        status = {name: outcomes[name]["status"] for name in ITEMS}
        assert set(status.values()) <= {"full", "part"}, status
        assert all(status[name] == "full" for name in ("files", "settings", "claimed", "small")), status

    def test_every_submission_is_there_once(self, graded):
        assert len(graded.students) == len(graded.seen.handed_in) == graded.count
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
        # last year's student of the same name handed in other work
        assert [p for p in pairs if p["last_year"] and p["b"] == "honest"] == []

    def test_nothing_was_written_but_the_results(self, graded):
        before, after = graded.seen.before, graded.seen.after
        assert {name: after[name] for name, what in before.items() if after[name] != what} == {}
        assert [path for name, paths in after.items() if name.startswith("evil") for path in paths] == []
        assert before["tmp"] == before["desk"] == []
        assert graded.seen.evil == graded.seen.processes == []

    def test_what_is_said_is_plain(self, graded):
        told = graded.seen.told
        assert not re.search(r"Traceback|\w(Error|Exception|Warning)\b", told), told
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", told), told
        assert "\nlines" not in told, told  # a name is no line of its own

    def test_no_cell_is_a_formula(self, graded):
        for name in ("grades.csv", "copies.csv", "moodle.csv", "canvas.csv"):
            rows = list(csv.reader(io.StringIO(graded.first[name].decode(), newline="")))
            assert len({len(row) for row in rows}) == 1, name
            assert [cell for row in rows for cell in row if FORMULA.match(cell)] == [], name
            assert [cell for row in rows for cell in row if not cell.isprintable()] == [], name
        rows = list(csv.DictReader(io.StringIO(graded.first["grades.csv"].decode())))
        assert len(rows) == len(graded.students)
        points = {row["id"]: float(row["total"]) for row in rows}
        assert points["honest"] == pytest.approx(graded.students["honest"]["points"], abs=0.01)
        assert points["'=HYPERLINK(1)"] == 0

    def test_pages_hold_no_markup_of_a_student(self, graded):
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
    """Elements, and whatever of a page would run or be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.runs: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.names.add(tag)
        for name, value in attributes:
            text = re.sub(r"[\s\x00-\x20]", "", value or "").lower()
            far = name in ("src", "href", "action", "data", "srcset") and not text.startswith(("#", "students/"))
            if name.startswith("on") or "javascript:" in text or far:
                self.runs.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def text_of(page: str) -> str:
    return " ".join(" ".join(Page(page).words).split())
