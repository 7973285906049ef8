"""The commands of README and of the guides in docs/, shrunk: on tiny images and with a small network."""

import re
import shlex
import shutil
from pathlib import Path

from helpers import PROJECT, STAGES, cli

from mslab.data.mushrooms import drawing
from mslab.runs.finding import STAMP

TEXT = (PROJECT / "README.md").read_text(encoding="utf-8")
# pages whose commands are run, after README's: they name real files or `runs/…`, not RUN or FILE
GUIDES = ["after-training", "run-folder", "results", "controls", "report"]
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


def commands_in(text: str) -> list[list[str]]:
    """Every ./run.sh command in a page's code blocks, as arguments of mslab, without the comment beside it,
    and without the program that reads its output. A backslash at a line's end continues it."""
    text = re.sub(r" *\\\n *", " ", text)
    lines = re.findall(r"^ +(?:[A-Z_]+=\S+ )?\./run\.sh (\S+(?: \S+)*)", text, re.MULTILINE)
    commands = [shlex.split(line.partition(" | ")[0]) for line in lines]
    return [arguments for arguments in commands if arguments[0] != "test"]


def page(name: str) -> str:
    return (PROJECT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """The commands that can be run word for word: README's, then those of the guides."""
    return [arguments for text in (TEXT, *map(page, GUIDES)) for arguments in commands_in(text)]


def all_commands() -> list[list[str]]:
    """The commands of README and of every page, each once; `[--option]` as `--option`."""
    texts = [TEXT, *(path.read_text(encoding="utf-8") for path in sorted((PROJECT / "docs").glob("*.md")))]
    unique = {" ".join(command): command for text in texts for command in commands_in(re.sub(r"[][]", "", text))}
    return [command for command in unique.values() if "…" not in command]


def name_of(arguments: list[str]) -> str:
    return " ".join(arguments[:2] if arguments[0] == "data" else arguments[:1])


def form(arguments: list[str]) -> tuple[str, ...]:
    """The command and its options without their values: commands of one form run the same code."""
    return name_of(arguments), *(text for text in arguments if text.startswith("--"))


def run(commands: list[list[str]], folder: Path, newest: Path) -> None:
    """Run the commands in the folder. `runs/…` stands for the newest run of the lab, at first `newest`."""
    shutil.make_archive(str(folder / "mushrooms"), "zip", folder / "datasets" / "mushrooms9" / "train")
    written = False
    for command in commands:
        arguments = [str(newest / a.partition("…/")[2]) if a.startswith("runs/…") else a for a in command]
        names = {STAMP.sub("", run.name) for run in (folder / "runs").glob("*")}  # not every command of a page is run
        arguments = ["latest" if a.startswith("latest:") and a.partition(":")[2] not in names else a for a in arguments]
        arguments = [str(PROJECT / a) if a.startswith("configs/") else a for a in arguments]
        trains = arguments[0] in ("train", "transfer") and "--resume" not in arguments
        if "--compare" in arguments:
            arguments = [SHORTER.get(a, a) for a in arguments]
        if trains:
            arguments += SMALL
        if written and (trains or arguments[0] == "reproduce"):  # one report is enough
            arguments.append("--no-report")
        done = cli(*arguments, cwd=folder)
        assert done.returncode == 0, (arguments, done.stderr[-2000:])
        if trains and "--compare" not in arguments and "mushrooms-split" not in " ".join(arguments):
            newest = max((folder / "runs").iterdir(), key=lambda path: path.stat().st_ctime_ns)
            assert written or (newest / "report.html").is_file()
            written = True
