"""The commands of README and of the guides in docs/, shrunk: on tiny images and with a small network."""

import re
import shlex
import shutil
from pathlib import Path

from helpers import PROJECT, STAGES, cli

from mslab.data.mushrooms import drawing

TEXT = (PROJECT / "README.md").read_text(encoding="utf-8")
# whose commands are run in their order, after README's: they name real files, or `runs/…`, and no RUN or FILE
GUIDES = ["after-training", "run-folder", "results", "controls", "report"]
SMALL = [f"stages={STAGES}", "image_size=32", "epochs=1", "batch_size=4", "device=cpu", "mode=pynative"]
COUNTS = {name: {"train": 6, "val": 3, "test": 2} for name in drawing.COUNTS}  # images a class
# are run by tests of their own
OWN = {"demo", "bench", "lr-find", "tune-batch", "serve", "pack", "grade", "sweep", "repeat", "reproduce-all", "doctor"}
OWN |= {"data make", "data animals"}
FEW = {"0.1,0.3,1.0": "1.0", "scratch,frozen,finetune": "frozen", "3": "1"}  # --compare's values


def commands_in(text: str) -> list[list[str]]:
    """Every ./run.sh command in a page's code blocks, as arguments of mslab, without the remark beside it."""
    lines = re.findall(r"^ +(?:[A-Z_]+=\S+ )?\./run\.sh (\S+(?: \S+)*)", text, re.MULTILINE)
    return [words for words in map(shlex.split, lines) if words[0] != "test"]


def page(name: str) -> str:
    return (PROJECT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def commands() -> list[list[str]]:
    """The commands that can be run word by word: README's, then those of the guides."""
    return [words for text in (TEXT, *map(page, GUIDES)) for words in commands_in(text)]


def all_commands() -> list[list[str]]:
    """Those of README and of every page, each once; `[--option]` as `--option`."""
    texts = [TEXT, *(path.read_text(encoding="utf-8") for path in sorted((PROJECT / "docs").glob("*.md")))]
    found = {" ".join(words): words for text in texts for words in commands_in(re.sub(r"[][]", "", text))}
    return [words for words in found.values() if "…" not in words]


def name_of(words: list[str]) -> str:
    return " ".join(words[:2] if words[0] == "data" else words[:1])


def form(words: list[str]) -> tuple[str, ...]:
    """The command and its options, without their values: two commands of one form go the same way."""
    return name_of(words), *(word for word in words if word.startswith("--"))


def run(chosen: list[list[str]], folder: Path, newest: Path) -> None:
    """Run the commands in the folder. `runs/…` is the run that was trained last, at first `newest`."""
    shutil.make_archive(str(folder / "mushrooms"), "zip", folder / "datasets" / "mushrooms9" / "train")
    written = False
    for words in chosen:
        words = [str(newest / word.partition("…/")[2]) if word.startswith("runs/…") else word for word in words]
        words = [str(PROJECT / word) if word.startswith("configs/") else word for word in words]
        trains = words[0] in ("train", "transfer") and "--resume" not in words
        if "--compare" in words:
            words = [FEW.get(word, word) for word in words]
        if trains:
            words += SMALL
        if written and (trains or words[0] == "reproduce"):  # one report is enough
            words.append("--no-report")
        done = cli(*words, cwd=folder)
        assert done.returncode == 0, (words, done.stderr[-2000:])
        if trains and "--compare" not in words:
            newest = max((folder / "runs").iterdir(), key=lambda path: path.stat().st_ctime_ns)
            assert written or (newest / "report.html").is_file()
            written = True
