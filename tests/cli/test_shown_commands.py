"""The commands that messages show, copied into a shell: harmless, and right, whatever the files are called."""

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers import PROGRAM, cli, draw

HOSTILE = "-x $(touch EVIL)`touch EVIL`'\"; touch EVIL\n\u202e\udcff蘑菇 ~ *"
ALONE = "-plain"  # nothing in it but that it looks like an option


@pytest.fixture(params=[HOSTILE, ALONE], ids=["hostile", "option"])
def name(request, inside) -> str:
    return request.param


@pytest.fixture
def broken(name, parent) -> Path:
    """A run without best.ckpt that has not ended, in a folder of this name."""
    run = Path(shutil.copytree(parent, name))
    (run / "checkpoints" / "best.ckpt").unlink()
    content = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps(content | {"status": "interrupted", "artifacts": {}}))
    return run


def paste(message: str, program: str = "printf '%s\\0'") -> list[str]:
    """Copy the line's command into a shell, in which `mslab` is this program. Returns the words that it prints."""
    (line,) = [line for line in message.splitlines() if "mslab " in line]
    text = line[line.index("mslab ") :].split("    ")[0]
    script = f'mslab() {{ {program} "$@"; }}\n'.encode() + os.fsencode(text)
    done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert not list(Path().glob("**/EVIL")), text
    return [os.fsdecode(word) for word in done.stdout.split(b"\0")[:-1]]


def same(word: str, path: str | Path) -> bool:
    return not word.startswith("-") and Path(word) == Path(path)


@pytest.mark.parametrize(
    "words", ["verify RUN", "reproduce RUN", "archive RUN", "pack RUN --out x.zip", "eval RUN --data ROOT"]
)
def test_a_run_that_was_stopped_is_resumed(broken, squares, words):
    names = {"RUN": f"./{broken}", "ROOT": squares / "three"}
    done = cli(*(names.get(word, word) for word in words.split()))
    fix = [line for line in done.stderr.splitlines() if line.strip().startswith("fix ")]
    first, option, path = paste("\n".join(fix))
    assert done.returncode == 1 and (first, option) == ("train", "--resume") and same(path, broken)


def test_an_archive_is_reproduced(name, parent):
    done = cli("archive", parent, "--out", f"./{name}.zip")
    first, option, path = paste(done.stderr.split("repeat the run: ")[1])
    assert (first, option) == ("reproduce", "--from") and same(path, f"{name}.zip")


def test_a_data_set_is_fixed_and_put_back(name):
    """With the program itself: the command does what the message says."""
    draw(Path(name), ["a", "b"], 3)
    (Path(name) / ".ipynb_checkpoints").mkdir()
    report = cli("check", f"./{name}").stdout
    fix = next(line for line in report.splitlines() if line.strip().startswith("fix "))
    paste(fix, shlex.join(PROGRAM))
    assert not (Path(name) / ".ipynb_checkpoints").exists() and Path(f"{name}.quarantine").is_dir()
    (Path(name) / ".ipynb_checkpoints").mkdir()
    moved = cli("check", f"./{name}", "--fix").stderr
    words = paste(moved.splitlines()[-1])
    assert words[0] == "check" and same(words[1], name) and words[2] == "--undo"


def test_one_part_of_a_split_data_set_is_split(name):
    for part in ("train", "val"):
        draw(Path(name) / part, ["a", "b"], 3, seed=len(part))
    words = paste(cli("data", "split", f"./{name}").stderr)
    assert words[:2] == ["data", "split"] and same(words[2], Path(name) / "train")


def test_an_archive_in_place_of_a_data_set_is_imported(name):
    draw(Path("set"), ["a", "b"], 2)
    shutil.make_archive("set", "zip", "set")
    Path(name).mkdir()
    shutil.move("set.zip", Path(name) / f"{name.strip()[:3]}.zip")
    fix = next(line for line in cli("check", f"./{name}").stdout.splitlines() if "data import" in line)
    paste(fix, shlex.join(PROGRAM))
    assert [len(list(folder.rglob("*.png"))) for folder in Path("datasets").iterdir()] == [4]
    shutil.rmtree("datasets")
    (archive,) = Path(name).iterdir()
    fix = next(line for line in cli("check", f"./{archive}").stderr.splitlines() if "data import" in line)
    paste(fix, shlex.join(PROGRAM))
    assert len(list(Path("datasets").iterdir())) == 1


def test_other_commands(name):
    Path(name).mkdir()
    (Path(name) / "file").touch()
    first, path = paste(cli("new", f"./{name}").stderr)
    assert first == "new" and same(path, f"{name}-2")
    done = cli("new", f"./{name}-2")
    cd = re.search(r"^  cd (.*)$", done.stderr, re.M)
    script = os.fsencode(f"cd {cd[1]} && pwd")
    entered = subprocess.run(["bash", "-c", script], capture_output=True, check=True).stdout
    assert os.fsdecode(entered).removesuffix("\n") == str(Path(f"{name}-2").absolute())
    assert not list(Path().glob("**/EVIL"))
