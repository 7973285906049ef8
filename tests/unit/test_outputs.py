"""What a command writes, each --json, --csv, --out, --html and --to: looked at before the work, by one function."""

import os
import shutil
from pathlib import Path

import pytest
from helpers import cli, draw

from mslab.cli import app, data, options, outputs, runs
from mslab.errors import MslabError

NEW = ("export", "convert", "pack", "archive")  # they overwrite nothing
READ_ONLY = Path("/sys")  # as root, too
COMMANDS = {  # option -> a command line up to its value; the work would fail at once, since nothing of it is there
    "report --out x.html": "report no-run --out",
    "predict --csv x.csv": "predict no-run no.png --csv",
    "predict --json x.json": "predict no-run no.png --json",
    "predict --jsonl x.jsonl": "predict no-run no.png --jsonl",
    "eval --json x.json": "eval no-run --data no --json",
    "export --out x.onnx": "export no-run --format onnx --out",
    "convert --to x.ckpt": "convert no.ckpt --to",
    "check --json x.json": "check no --json",
    "check --html x.html": "check no --html",
    "pack --out x.zip": "pack no-run --out",
    "archive --out x.zip": "archive no-run --out",
    "lr-find --out x.png": "lr-find no.yaml --out",
    "grade --gradescope-package x.zip": "grade --rubric no --data no --gradescope-package",
}
FOLDERS = {
    "grade": "grade no --rubric no --data no --out",
    "suspects": "suspects no-run --data no --out",
    "data split": "data split no --out",
    "data import": "data import no.zip --out",
    "data pack": "data pack no --out",
    "data make": "data make --out",
}


def names():
    return {path.name for path in Path().iterdir()}


def refused(*words):
    done = cli(*words)
    assert done.returncode == 1 and "\n  expected  " in done.stderr and "\n  fix       " in done.stderr, done.stderr
    return done.stderr


@pytest.mark.parametrize("line", COMMANDS)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(line, inside):
    words, suffix = COMMANDS[line].split(), Path(line.split()[-1]).suffix
    (inside / f"folder{suffix}").mkdir()
    (inside / f"kept{suffix}").write_text("kept")
    (inside / f"kept{suffix}").chmod(0o444)
    assert f"folder{suffix} " in refused(*words, f"folder{suffix}")
    reason = "already exists" if words[0] in NEW else "it is protected"
    assert f"kept{suffix} " in (text := refused(*words, f"kept{suffix}")) and reason in text
    assert f"{READ_ONLY}/x{suffix} cannot be written: /sys takes no file: " in refused(*words, f"{READ_ONLY}/x{suffix}")
    assert (inside / f"kept{suffix}").read_text() == "kept"
    assert names() == {f"folder{suffix}", f"kept{suffix}"}  # nothing is left of the question


def test_each_reason_is_named(inside):
    (inside / "file").touch()
    (inside / "loop").symlink_to("loop")
    (inside / "nowhere").symlink_to("gone")
    os.mkfifo("fifo")
    for target, reason in (
        ("new/csv/", "its name ends as a folder's"),
        ("file/x.csv", "file is a file"),
        ("loop/x.csv", "symbolic links"),
        ("nowhere/x.csv", "nowhere is a link to nothing"),
        ("fifo", "it is a FIFO"),
        ("/dev/null", "it is a device"),
        (f"{'x' * 300}.csv", "File name too long"),
    ):
        assert reason in refused("predict", "no-run", "no.png", "--csv", target)
    assert names() == {"file", "loop", "nowhere", "fifo"}


@pytest.mark.parametrize("line", FOLDERS)
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(line, inside):
    (inside / "file").touch()
    for target in ("file", "file/x", READ_ONLY / "x", "x" * 300):
        assert str(target) in (text := refused(*FOLDERS[line].split(), target))
        option = FOLDERS[line].split()[-1]
        assert target != READ_ONLY / "x" or f"{option} with a path in another folder" in text, text
    done = cli(*FOLDERS[line].split(), "-")
    assert done.returncode == 2 and "a folder cannot go to standard output" in done.stderr
    assert names() == {"file"}


def test_a_missing_folder_is_made_if_the_work_succeeds(inside):
    draw(inside / "set", ["a", "b"], 2)
    for words in ("--json new/deep/found.json", "--html new/page/found.html"):
        done = cli("check", "set", *words.split())
        assert done.returncode in (0, 1) and Path(words.split()[1]).is_file(), done.stderr
    assert cli("check", "nothing", "--json", "other/deep/x.json").returncode == 1 and not Path("other").exists()


def test_a_command_line_that_contradicts_itself_is_refused(inside):
    predict = ["predict", "no-run", "no.png"]
    for words, text in (
        ([*predict, "--json", "-", "--csv", "-"], "--json and --csv: only one of them can go to standard output"),
        ([*predict, "--json", "x", "--jsonl", "./x"], "--json and --jsonl are both ./x: give each its own file"),
        (
            [*predict, "--csv", ""],
            "--csv is empty: give it the name of a file or folder; a variable of the shell may be empty",
        ),
        ([*predict, "--csv", "x.xlsx"], "--csv x.xlsx: it will be CSV; name it x.csv"),
        ([*predict, "--json", "x.csv"], "it will be JSON; name it x.json"),
        (["report", "no-run", "--out", "x.pdf"], "it will be a page; name it x.html or x.htm"),
        (["report", "no-run", "--out", "-"], "--out - : a page cannot go to standard output"),
        (["lr-find", "no.yaml", "--out", "x.svg"], "it will be a picture; name it x.png"),
    ):
        done = cli(*words, env={"COLUMNS": "200"})
        assert done.returncode == 2 and text in " ".join(done.stderr.split()), done.stderr
    assert names() == set()


def test_what_a_command_reads_and_what_a_run_has_written_is_not_overwritten(inside):
    for name in ("list.json", "run/manifest.json", "run/history.csv"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("kept")
    shutil.copy("list.json", "copy.json")
    Path("link.json").symlink_to("list.json")
    for words, text in (
        (["predict", "no-run", "list.json", "--json", "./list.json"], "this command reads it (list.json)"),
        (["predict", "no-run", "link.json", "--json", "list.json"], "this command reads it (link.json)"),
        (["lr-find", "no.yaml", "train_data=list.json", "--json", "list.json"], "this command reads it (list.json)"),
        (["predict", "run", "x.png", "--csv", "run/history.csv"], "run is a run, of which it is a part"),
        (["eval", "run", "--data", "x", "--json", "run/eval.json"], "run is a run, of which it is a part"),
    ):
        done = cli(*words)
        assert done.returncode == 1 and text in done.stderr and "fix  " in done.stderr, done.stderr
    assert {Path(name).read_text() for name in ("list.json", "run/history.csv", "copy.json")} == {"kept"}


def commands():
    return [job for owner in (app, data.data_app, runs.runs_app) for job in owner.registered_commands]


def test_every_option_that_names_a_file_to_write_is_marked():
    """A new one is looked at, too: by its name, or by what its help calls a target."""
    unmarked = []
    for command in commands():
        function = command.callback
        marked = {target.name for target in outputs.outputs_of(function, dict.fromkeys(function.__annotations__, "x"))}
        for name, kind in function.__annotations__.items():
            helps = [str(getattr(mark, "help", "")) for mark in getattr(kind, "__metadata__", ())]
            writes = any("target f" in text or "write " in text.split(";")[0] for text in helps)
            if name not in marked and (name in ("out", "json_file", "csv", "jsonl", "html", "to") or writes):
                unmarked.append(f"{command.name} {name}")
    assert {name.split()[1] for name in unmarked} <= {"no_report", "moodle", "canvas"}  # files with names of their own


NO_PATHS = {
    "overrides",
    "name",
    "names",
    "master",
    "dialect",
    "weights",
    "only",
    "compare",
    "fractions",
    "device",
    "engine",
    "precision",
    "kind",
}
NO_PATHS |= {
    "lang",
    "sort",
    "threshold",
    "allow_origin",
    "root_path",
    "host",
    "group",
    "image_column",
    "label_column",
    "ignore",
    "budget",
    "sampler",
    "pruner",
    "task",
    "form",
}


def test_no_argument_that_is_a_path_may_be_empty(inside):
    """As a Path, "" is the current folder: `mslab predict RUN "$PHOTOS"` would predict what lies there."""
    accepted = set()
    for command in commands():
        function, kinds = command.callback, command.callback.__annotations__
        outs = {target.name for target in outputs.outputs_of(function, dict.fromkeys(kinds, "x"))}
        for name, kind in kinds.items():
            try:
                options.refuse_empty(function, {name: ["x", ""] if "list[" in str(kind) else ""})
            except MslabError as error:
                assert str(error).startswith("'' is no path.\n  expected  ") and "shell may be empty" in error.fix
            else:
                accepted |= {name} if "str" in str(getattr(kind, "__origin__", "")) and name not in outs else set()
    assert accepted == NO_PATHS
    done = cli("predict", "no-run", "x.png", "")
    assert done.returncode == 1 and "'' is no path." in done.stderr and "IMAGE|FOLDER" in done.stderr
