"""`mslab new FOLDER`: a lab for someone who has the installed package and not the repository.

The files are the repository's own: a wheel carries configs/ and docs/labs/ as mslab/lab/configs and mslab/lab/notebooks
(setup.py); an editable installation reads them in place.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path

from mslab.data.placing import temporary_folder
from mslab.errors import MslabError
from mslab.escaping import command, quoted

PACKAGE = Path(__file__).resolve().parents[1]
IN_WHEEL = (PACKAGE / "lab").is_dir()  # else a checkout of the project
CONFIGS = PACKAGE / "lab" / "configs" if IN_WHEEL else PACKAGE.parent / "configs"
NOTEBOOKS = PACKAGE / "lab" / "notebooks" if IN_WHEEL else PACKAGE.parent / "docs" / "labs"
# what a student needs: both steps of the lab, small versions of them, the rubric, and a space to search
CHOSEN = (
    *("mushrooms9", "mushrooms2", "tiny_nine", "tiny_two", "rubric", "space"),
    *("scenes_detect", "scenes_segment", "scenes_keypoints", "scenes_tags"),  # the other heads
)
SHOWN = 3  # entries of a folder that a message names


def lab_texts() -> dict[str, str]:
    """Path in the lab -> text. Raises MslabError if the installation lacks a file."""
    sources = {"README.md": Path(__file__).with_name("lab.md")}
    sources |= {f"configs/{name}.yaml": CONFIGS / f"{name}.yaml" for name in CHOSEN}
    sources |= {file.name: file for file in sorted(NOTEBOOKS.glob("*.ipynb"))}
    missing = [str(file) for file in sources.values() if not file.is_file()]
    if missing or not NOTEBOOKS.is_dir():
        raise MslabError(
            f"This installation of mslab lacks {', '.join(missing or [str(NOTEBOOKS)])}.",
            expected="an mslab installed from its wheel, or a complete checkout of the project",
            fix="install mslab again from its wheel",
        )
    # a lab has no run.sh: the repository's `./run.sh COMMAND` is `mslab COMMAND` there
    return {path: file.read_text(encoding="utf-8").replace("./run.sh ", "mslab ") for path, file in sources.items()}


def write_lab(folder: str) -> Path:
    """Write a lab to a folder that is new or empty. Nothing is overwritten, and after an error nothing is left.

    Raises MslabError if the folder is not empty, its name is a Windows path, or it cannot be written.
    """
    target = Path(folder).expanduser()
    try:
        refuse_name(folder)
        refuse_taken(target)
        texts = lab_texts()
        if target.is_dir():
            fill(target, texts)
        else:
            make(target, texts)
    except OSError as error:
        own = target.name or "lab"
        raise MslabError(
            f"{target} cannot be written: {error.strerror or error}.",
            expected="a folder that you may write to, and some free space",
            fix=f"mslab new ~/{quoted(own)}    or another folder of your own",
        ) from None
    return target


def refuse_name(folder: str) -> None:
    """Raise MslabError for an empty name, and for a Windows path on another system."""
    if not folder.strip():
        raise MslabError("The name of the lab's folder is empty.", expected="mslab new FOLDER", fix="mslab new lab")
    if os.name != "nt" and ("\\" in folder or re.match(r"[A-Za-z]:", folder)):
        own = re.sub(r"^[A-Za-z]:", "", folder).replace("\\", "/").strip("/") or "lab"
        raise MslabError(
            f"{folder} is a Windows path; here it would be a single folder with that name.",
            expected="folders separated by /",
            fix=command("new", Path(own)),
        )


def refuse_taken(target: Path) -> None:
    """Raise MslabError if the target exists and is not an empty folder."""
    if not os.path.lexists(target):
        parent = next((parent for parent in target.parents if os.path.lexists(parent)), target)
        if parent.is_dir() or parent == target:
            return
        raise MslabError(
            f"{target} cannot be created: {parent} is not a folder but a file.",
            expected="a new or empty folder",
            fix=command("new", free(parent)),
        )
    if target.is_dir():
        names = sorted(entry.name + "/" * entry.is_dir() for entry in target.iterdir())
        if not names:
            return
        rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        what = f"{target} is not empty: it contains {', '.join(names[:SHOWN])}{rest}. Nothing was changed."
    else:
        what = f"{target} is not a folder but a {'broken link' if target.is_symlink() else 'file'}."
    raise MslabError(what, expected="a new or empty folder", fix=command("new", free(target)))


def free(target: Path) -> Path:
    """A free name nearby: lab-2 beside lab, lab in the current folder."""
    if target.name in ("", ".."):
        first, names = target / "lab", (target / f"lab-{n}" for n in count(2))
        return next(path for path in chain([first], names) if not os.path.lexists(path))
    return next(path for n in count(2) if not os.path.lexists(path := target.with_name(f"{target.name}-{n}")))


def make(target: Path, texts: dict[str, str]) -> None:
    """Write the lab under a temporary name and rename it. Creates missing parent folders."""
    above = [parent for parent in target.parents if not parent.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with written(target.parent, texts) as lab:
            lab.rename(target)
    except BaseException:
        with contextlib.suppress(OSError):  # another program may have written to them
            for parent in above:
                parent.rmdir()
        raise


def fill(target: Path, texts: dict[str, str]) -> None:
    """Write the lab into an empty folder without replacing it: it may be the shell's current folder."""
    moved: list[Path] = []
    with written(target, texts) as lab:
        try:
            for entry in sorted(lab.iterdir()):
                place = target / entry.name
                if os.path.lexists(place):
                    raise FileExistsError(None, f"{entry.name} has appeared in it")
                entry.rename(place)
                moved.append(place)
        except BaseException:
            for place in moved:
                shutil.rmtree(place) if place.is_dir() else place.unlink()
            raise


@contextlib.contextmanager
def written(parent: Path, texts: dict[str, str]) -> Iterator[Path]:
    """Yield a temporary folder in `parent` with the lab's files; what is not moved out of it is deleted."""
    with temporary_folder(parent) as folder:
        lab = folder / "lab"  # inside, since the umask shall decide who can read it
        for path, text in texts.items():
            (lab / path).parent.mkdir(parents=True, exist_ok=True)
            (lab / path).write_text(text, encoding="utf-8")
        yield lab
