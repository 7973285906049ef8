"""Files of weights near a path that is none, for messages: each one that is named exists."""

import contextlib
import os
from itertools import islice
from pathlib import Path

from mslab.escaping import quoted
from mslab.files import kind_of, open_regular

SUFFIXES = (".ckpt", ".safetensors", ".pth", ".pt", ".bin", ".onnx")
ZEROS = bytes(9)
NO_WEIGHTS = (ZEROS, b"<", b"{", b"version")  # beginnings of pages, of lists and of pointers of Git LFS
ABOVE = 3  # folders above a file in which its run may be: tensorboard/, workers/1/
FEW, MANY, MOST = 5, 8, 100  # runs and files that a message names; files that are looked at


def instead(path: Path) -> str:
    """What to give in the place of a path that is no file of weights; "" if nothing is near."""
    if run := run_around(path):
        titles = {"best_backbone.ckpt": "the backbone of that run", "best.ckpt": "its whole network"}
        titles |= {"last.ckpt": "its network after the last epoch"}
        files = {name: run / "checkpoints" / name for name in files_in(run / "checkpoints", path)}
        best = [f"{quoted(files[name])}, {title}" for name, title in titles.items() if name in files]
        return f"use {', or '.join(best[:2] or map(quoted, files.values()))}"
    folder = path if kind_of(path, links=True) == "a folder" else path.parent
    others = [quoted(folder / name) for name in files_in(folder, path)] or runs_in(folder)
    if not others and not path.is_absolute():
        others = runs_in(Path())
    return f"one of {', '.join(others)}" if others else ""


def run_around(path: Path) -> Path | None:
    """The run that the path is, or is in, if it has other files of weights."""
    around = [path, *path.parents][: ABOVE + 1]
    return next((folder for folder in around if files_in(folder / "checkpoints", path)), None)


def files_in(folder: Path, other_than: Path) -> list[str]:
    """Names of some files of weights in a folder."""
    with contextlib.suppress(OSError):  # it cannot be listed
        paths = sorted(path for path in folder.glob("*") if path.suffix in SUFFIXES and path != other_than)
        return [path.name for path in paths[:MOST] if not head(path).startswith(NO_WEIGHTS)][:MANY]
    return []


def head(path: Path) -> bytes:
    """The first bytes of a file; zeros if it has none."""
    try:
        with open_regular(path) as file:
            return file.read(9) or ZEROS
    except OSError:
        return ZEROS


def is_plausible(content: bytes) -> bool:
    """Whether a file that begins so may be of weights: MindSpore's, ONNX, PyTorch's, safetensors."""
    return content[:1] in (b"\n", b"\x08") or content[:2] == b"PK" or content[8:9] == b"{"


def runs_in(folder: Path) -> list[str]:
    """The backbones of the newest runs in a folder, or in the runs/ in it."""
    with contextlib.suppress(OSError):
        found = [file for depth in ("*/", "runs/*/") for file in folder.glob(f"{depth}checkpoints/best_backbone.ckpt")]
        return [quoted(file) for file in sorted(found, key=lambda file: file.stat().st_mtime)[-FEW:]]
    return []


def folder_contents(folder: Path) -> str:
    """Some names of what is in a folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        names = [entry.name + "/" * entry.is_dir() for entry in islice(entries, 10 * MOST)]
        more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
        return ", ".join(sorted(names)[:MANY]) + more or "nothing"
    return "what you may not see"
