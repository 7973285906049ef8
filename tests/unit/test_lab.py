"""`mslab new`: a lab is written to a new or empty folder, completely or not at all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PROJECT, without_roots_rights

from mslab.config import load_settings
from mslab.errors import MslabError
from mslab.experiments import lab

FILES = {
    "README.md",
    *(f"configs/{name}.yaml" for name in ("mushrooms9", "mushrooms2", "tiny_nine", "tiny_two", "rubric", "space")),
    *(f"configs/scenes_{name}.yaml" for name in ("detect", "segment", "keypoints", "tags")),
    "find-what-is-wrong.ipynb",
    "five-heads.ipynb",
    "nine-to-two.ipynb",
}


def tree(folder: Path) -> set[str]:
    return {file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir()}


def parts(error: MslabError) -> tuple[str, str, str]:
    """The message's three parts."""
    assert error.what and error.expected and error.fix
    return error.what, error.expected, error.fix


def test_a_lab_is_the_repositorys_own_configs_and_notebooks(inside):
    assert lab.write_lab("lab") == Path("lab") and tree(inside) == {f"lab/{name}" for name in FILES}
    for name in FILES - {"README.md"}:
        source = PROJECT / name if name.startswith("configs/") else PROJECT / "docs" / "labs" / name
        ours, theirs = (file.read_text(encoding="utf-8") for file in (source, inside / "lab" / name))
        assert theirs == ours.replace("./run.sh ", "mslab ") and "run.sh" not in theirs
        if name.endswith(".ipynb"):
            assert json.loads(theirs)["nbformat"] == 4
    for name in ("mushrooms9", "mushrooms2", "tiny_nine", "tiny_two"):
        assert load_settings(inside / "lab" / "configs" / f"{name}.yaml")
        assert (inside / "lab" / "configs" / f"{name}.yaml").read_text().startswith("# mslab t")
    assert all(file.stat().st_mode & 0o200 for file in (inside / "lab").rglob("*"))  # a student changes them


def test_the_readme_is_one_screen():
    text = (PROJECT / "mslab" / "experiments" / "lab.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 60 and max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("name", ["my lab", "course/week 3/lab", "лаборатория", "lab/", "./lab", "C.lab"])
def test_names_and_folders_above_that_are_not_there_yet(inside, name):
    assert tree(lab.write_lab(name)) == FILES and len(tree(inside)) == len(FILES)


def test_an_empty_folder_is_filled_and_stays_the_same_folder(inside):
    (inside / "lab").mkdir(mode=0o750)
    (inside / "link").symlink_to("lab")
    before = (inside / "lab").stat()
    lab.write_lab("link")
    after = (inside / "lab").stat()
    assert (before.st_ino, before.st_mode) == (after.st_ino, after.st_mode)
    assert tree(inside / "lab") == FILES and (inside / "link").is_symlink()


def test_the_current_folder(inside):
    assert lab.write_lab(".") == Path() and tree(inside) == FILES


def test_a_tilde_is_the_home_folder(inside, monkeypatch):
    monkeypatch.setenv("HOME", str(inside))
    lab.write_lab("~/lab")
    assert [file.name for file in inside.iterdir()] == ["lab"]


def test_a_second_time_nothing_is_overwritten_and_a_free_name_is_named(inside):
    lab.write_lab("my lab")
    (inside / "my lab" / "configs" / "mushrooms9.yaml").write_text("epochs: 1\n")
    (inside / "my lab-2").mkdir()
    with pytest.raises(MslabError) as caught:
        lab.write_lab("my lab")
    what, expected, fix = parts(caught.value)
    assert what.startswith("my lab is not empty: it contains README.md, configs/, find-what-is-wrong.ipynb and 2 more.")
    assert expected == "a new or empty folder" and fix == "mslab new 'my lab-3'"
    assert (inside / "my lab" / "configs" / "mushrooms9.yaml").read_text() == "epochs: 1\n"
    assert tree(inside) == {f"my lab/{name}" for name in FILES}


@pytest.mark.parametrize(
    ("folder", "fix"), [(".", "lab-2"), ("..", "../lab"), ("sub", "sub-2"), ("sub/..", "sub/../lab")]
)
def test_a_folder_with_one_hidden_file_is_not_empty(inside, folder, fix):
    (inside / "here" / "sub").mkdir(parents=True)
    if folder == ".":
        (inside / "here" / "lab").mkdir()
    for place in (inside, inside / "here", inside / "here" / "sub"):
        (place / ".hidden").touch()
    os.chdir(inside / "here")
    with pytest.raises(MslabError, match=r"is not empty: it contains \.hidden") as caught:
        lab.write_lab(folder)
    assert parts(caught.value)[2] == f"mslab new {fix}"
    assert not list(inside.rglob("*.ipynb"))


def test_something_else_is_in_the_place(inside):
    (inside / "notes").write_text("mine")
    (inside / "gone").symlink_to("nowhere")
    for name, text in (
        ("notes", "notes is not a folder but a file."),
        ("gone", "gone is not a folder but a broken link."),
        ("notes/lab", "notes/lab cannot be created: notes is not a folder but a file."),
    ):
        with pytest.raises(MslabError) as caught:
            lab.write_lab(name)
        what, _, fix = parts(caught.value)
        assert what == text and fix == f"mslab new {name.partition('/')[0]}-2"
    assert sorted(file.name for file in inside.iterdir()) == ["gone", "notes"] and not (inside / "gone").exists()


@pytest.mark.skipif(os.name == "nt", reason="there it is a path")
@pytest.mark.parametrize(
    ("name", "fix"),
    [(r"C:\labs\one", "labs/one"), ("C:", "lab"), (r"labs\one two", "'labs/one two'"), ("d:/labs", "labs")],
)
def test_a_path_as_on_windows_makes_no_folder_of_that_name(inside, name, fix):
    with pytest.raises(MslabError) as caught:
        lab.write_lab(name)
    assert parts(caught.value)[2] == f"mslab new {fix}" and not list(inside.iterdir())


def test_an_empty_name(inside):
    for name in ("", " "):
        with pytest.raises(MslabError, match="is empty"):
            lab.write_lab(name)
    assert not list(inside.iterdir())


NEW = """import sys
from mslab.errors import MslabError
from mslab.experiments import lab
try:
    lab.write_lab(sys.argv[1])
except MslabError as error:
    print(error)
"""


@pytest.mark.parametrize("name", ["locked/lab", "locked/deep/er/lab", "locked"])
def test_where_writing_is_not_allowed_it_is_said_and_nothing_is_left(inside, name):
    (inside / "locked").mkdir(mode=0o555)
    command = [sys.executable, "-c", NEW, name]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=without_roots_rights)
    first, expected, fix = done.stdout.splitlines()
    assert first == f"{name} cannot be written: Permission denied."
    assert "a folder that you may write to" in expected and f"mslab new ~/{Path(name).name}" in fix
    assert not list((inside / "locked").iterdir()) and not done.stderr


@pytest.mark.parametrize("before", ["nothing", "an empty folder"])
@pytest.mark.parametrize("stop", [OSError(28, "No space left on device"), KeyboardInterrupt()], ids=["full", "Ctrl-C"])
def test_what_stops_on_the_way_leaves_nothing(inside, monkeypatch, before, stop):
    if before == "an empty folder":
        (inside / "labs" / "lab").mkdir(parents=True)
    write, written = Path.write_text, []

    def stopping(self, *rest, **options):
        if len(written) == 5:
            raise stop
        written.append(self)
        return write(self, *rest, **options)

    monkeypatch.setattr(Path, "write_text", stopping)
    with pytest.raises((MslabError, KeyboardInterrupt)) as caught:
        lab.write_lab("labs/lab")
    assert len(written) == 5 and (isinstance(stop, KeyboardInterrupt) or "No space left" in str(caught.value))
    left = [path.relative_to(inside).as_posix() for path in inside.rglob("*")]
    assert left == ([] if before == "nothing" else ["labs", "labs/lab"])


@pytest.mark.parametrize("before", ["nothing", "an empty folder"])
def test_what_appears_meanwhile_stays(inside, monkeypatch, before):
    if before == "an empty folder":
        (inside / "lab").mkdir()
    rename = Path.rename

    def late(self, target):
        monkeypatch.setattr(Path, "rename", rename)
        done = rename(self, target) if before == "an empty folder" else None
        (inside / "lab").mkdir(exist_ok=True)
        (inside / "lab" / "configs").mkdir(exist_ok=True)
        (inside / "lab" / "configs" / "mine.yaml").write_text("mine")
        return done if before == "an empty folder" else rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    with pytest.raises(MslabError, match="lab cannot be written"):
        lab.write_lab("lab")
    assert tree(inside) == {"lab/configs/mine.yaml"}


def test_an_installation_without_the_files_is_said(inside, monkeypatch):
    monkeypatch.setattr(lab, "CONFIGS", inside / "nowhere")
    with pytest.raises(MslabError, match=r"lacks .*nowhere/mushrooms9\.yaml") as caught:
        lab.write_lab("lab")
    assert all(parts(caught.value)) and not list(inside.iterdir())
