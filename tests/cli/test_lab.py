"""`mslab new` on the command line, and the lab's README: each command in it exists, in the lab's order."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import PROJECT, cli
from typer.main import get_command

from mslab.cli import app

README = (PROJECT / "mslab" / "experiments" / "lab.md").read_text(encoding="utf-8")
STEPS = [shlex.split(line) for line in re.findall(r"^ +(mslab .+)$", README, re.MULTILINE)]
INLINE = [shlex.split(line) for line in re.findall(r"`(mslab [a-z][^`]+)`", README)]


def test_new_says_what_to_type_next(inside):
    done = cli("new", "my lab")
    assert done.returncode == 0 and not done.stdout
    assert done.stderr.splitlines() == [
        "my lab: a lab; its README.md has the steps. Start with:",
        "  cd 'my lab'",
        "  mslab data make",
    ]
    (inside / "empty").mkdir()
    assert cli("new", ".", cwd=inside / "empty").stderr.count("\n") == 2  # one is there already


def test_a_folder_that_is_taken_ends_in_one_message_and_exit_code_1(inside):
    assert cli("new", "lab").returncode == 0
    done = cli("new", "lab")
    assert done.returncode == 1 and not done.stdout
    assert [line[:10] for line in done.stderr.splitlines()] == ["MslabError", "  expected", "  fix     "]
    assert "fix       mslab new lab-2" in done.stderr
    missing = cli("new")
    assert missing.returncode == 2 and "FOLDER" in missing.stderr


def test_a_missing_config_leads_to_mslab_new(inside):
    for arguments in (
        ["train", "configs/mushrooms9.yaml"],
        ["sweep", "configs/x.yaml", "--space", "configs/space.yaml"],
    ):
        done = cli(*arguments)
        assert done.returncode == 1 and "mslab new FOLDER writes some" in done.stderr


def test_the_readme_has_the_labs_six_steps_in_their_order():
    names = [" ".join(arguments[1:3] if arguments[1] == "data" else arguments[1:2]) for arguments in STEPS]
    assert names == ["data make", "check", "show", "train", "transfer", "eval", "train", "report"]
    assert re.findall(r"^(\d)\. ", README, re.MULTILINE) == list("123456") and "run.sh" not in README
    written = {"runs", "datasets", "compared.html"}
    for arguments in STEPS:  # nothing to fill in, and every file is in the lab or made by an earlier step
        for argument in arguments[2:]:
            if "/" in argument:
                assert (
                    (PROJECT / argument).is_file()
                    if argument.startswith("configs/")
                    else argument.split("/")[0] in written
                )
    assert not re.search(r"…|<|RUN", " ".join(map(shlex.join, STEPS)))


@pytest.mark.parametrize("arguments", STEPS + INLINE, ids=shlex.join)
def test_each_command_of_the_readme_exists(arguments):
    command = get_command(app)
    context = command.make_context("mslab", [], resilient_parsing=True)
    arguments = [argument for argument in arguments[1:] if argument != "COMMAND"]
    while hasattr(command, "commands") and arguments:
        if arguments == ["--help"]:
            return
        command = command.commands[arguments.pop(0)]
        context = command.make_context(command.name, list(arguments), parent=context, resilient_parsing=True)
    options = {name for parameter in command.params for name in parameter.opts if name.startswith("--")}
    assert {argument for argument in arguments if argument.startswith("--")} <= options


def test_notebooks_that_the_readme_names_are_in_the_lab(inside):
    assert cli("new", "lab").returncode == 0
    for name in re.findall(r"[\w-]+\.ipynb|configs/\w+\.yaml", README):
        assert (Path("lab") / name).is_file()


def test_new_needs_no_mindspore_and_none_of_the_large_packages(inside):
    script = (
        "import sys\nfrom mslab.cli import app\ntry: app(['new', 'lab'])\nexcept SystemExit as end: print(end.code)\n"
        "print([name for name in ('mindspore', 'numpy', 'scipy', 'PIL', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "0\n[]\n", done.stdout + done.stderr
