"""README's commands, shrunk: on tiny images and with a small network."""

import re
import shlex
import shutil
from pathlib import Path

from helpers import PROJECT, STAGES, cli

from mslab.data.mushrooms import drawing

TEXT = (PROJECT / "README.md").read_text(encoding="utf-8")
SMALL = [f"stages={STAGES}", "image_size=32", "epochs=1", "batch_size=4", "device=cpu", "mode=pynative"]
COUNTS = {name: {"train": 6, "val": 3, "test": 2} for name in drawing.COUNTS}  # images a class
# commands with separate tests
SEPARATE = {
    "demo",
    "bench",
    "lr-find",
    "tune-batch",
    "serve",
    "pack",
    "grade",
    "sweep",
    "repeat",
    "reproduce-all",
    "doctor",
}
SEPARATE |= {"data make", "data animals"}
SHORTER = {"0.1,0.3,1.0": "1.0", "scratch,frozen,finetune": "frozen", "3": "1"}  # values of --compare


def commands() -> list[list[str]]:
    """Every ./run.sh command in README's code blocks, as arguments of mslab, in order."""
    lines = re.findall(r"^ +(?:[A-Z_]+=\S+ )?\./run\.sh (.+)$", TEXT, re.MULTILINE)
    return [arguments for arguments in map(shlex.split, lines) if arguments != ["test"]]


def name_of(arguments: list[str]) -> str:
    return " ".join(arguments[:2] if arguments[0] == "data" else arguments[:1])


def form(arguments: list[str]) -> tuple[str, ...]:
    """The command and its options without their values: commands of one form run the same code."""
    return name_of(arguments), *(text for text in arguments if text.startswith("--"))


def run(commands: list[list[str]], folder: Path, newest: Path) -> None:
    """Run the commands in the folder. `runs/…` stands for the newest run, at first `newest`."""
    shutil.make_archive(str(folder / "mushrooms"), "zip", folder / "datasets" / "mushrooms9" / "train")
    written = False
    for command in commands:
        arguments = [str(newest / a.partition("…/")[2]) if a.startswith("runs/…") else a for a in command]
        arguments = [str(PROJECT / a) if a.startswith("configs/") else a for a in arguments]
        trains = arguments[0] in ("train", "transfer")
        if "--compare" in arguments:
            arguments = [SHORTER.get(a, a) for a in arguments]
        if trains:
            arguments += SMALL
        if written and arguments[0] in ("train", "transfer", "reproduce"):  # one report is enough
            arguments.append("--no-report")
        done = cli(*arguments, cwd=folder)
        assert done.returncode == 0, (arguments, done.stderr[-2000:])
        if trains and "--compare" not in arguments:
            newest = max((folder / "runs").iterdir(), key=lambda path: path.stat().st_ctime_ns)
            assert written or (newest / "report.html").is_file()
            written = True
