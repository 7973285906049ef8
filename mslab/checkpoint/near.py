"""Files of weights near a path that is none, for messages: each one that is named exists."""

import contextlib
import mmap
import os
from itertools import islice
from pathlib import Path

from mslab.checkpoint import legacy, readers
from mslab.config.paths import is_run
from mslab.escaping import quoted
from mslab.files import kind_of, open_regular, open_zip

SUFFIXES = (".ckpt", ".safetensors", ".pth", ".pt", ".bin", ".onnx")
ABOVE = 3  # folders above a file in which its run may be: tensorboard/, workers/1/
FEW, MANY, MOST = 5, 8, 100  # runs and files that a message names; files that are looked at
# of a run, the best one first: the first two are networks with their backbone, and fit wherever weights are given
OF_A_RUN = {"best.ckpt": "the whole network of that run", "last.ckpt": "its network after the last epoch"}


def instead(path: Path) -> str:
    """What to give in the place of a path that is no file of weights; "" if nothing is near."""
    if run := run_around(path):
        names = files_in(run / "checkpoints", path)
        best = [f"{quoted(run / 'checkpoints' / name)}, {title}" for name, title in OF_A_RUN.items() if name in names]
        others = [quoted(run / "checkpoints" / name) for name in names if name != "best_backbone.ckpt"] or [
            f"{quoted(run / 'checkpoints' / name)}, a backbone without a head" for name in names
        ]
        return f"use {', or '.join(best or others)}"
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
        paths = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES and p != other_than)
        return [path.name for path in islice(filter(is_weights, paths[:MOST]), MANY)]
    return []


def is_network(path: Path) -> bool:
    """Whether a path can be given in the place of a network: a run's folder, or a file of weights."""
    return is_run(path) or (path / "checkpoints").is_dir() or is_weights(path)


def is_weights(path: Path) -> bool:
    """Whether a file is complete and has tensors, by what it contains: numbers are described, and not read."""
    with contextlib.suppress(OSError, *readers.DAMAGE), open_regular(path) as file:
        if file.read(2) == b"PK":  # of torch.save
            names = open_zip(file).namelist()
            return any(n.endswith("data.pkl") for n in names) and not any(n.endswith("constants.pkl") for n in names)
        file.seek(0)
        if legacy.is_legacy(file.read(legacy.BEGINNING)):
            return True
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        if not is_plausible(bytes(content[:9])):
            return False
        safe, onnx = content[8:9] == b"{", content[:1] == b"\x08"
        read = readers.read_safetensors if safe else readers.read_onnx if onnx else readers.read_ckpt
        return bool(read(content)[0])
    return False


def is_plausible(content: bytes) -> bool:
    """Whether a file that begins so may be of weights: MindSpore's, ONNX, PyTorch's, safetensors."""
    return content[:1] in (b"\n", b"\x08") or content[:2] == b"PK" or content[8:9] == b"{"


def runs_in(folder: Path) -> list[str]:
    """The best networks of the newest runs in a folder, or in the runs/ in it."""
    with contextlib.suppress(OSError):
        found = [file for depth in ("*/", "runs/*/") for file in folder.glob(f"{depth}checkpoints/best.ckpt")]
        newest = sorted(found, key=lambda file: file.stat().st_mtime)[-MOST:]
        return [quoted(file) for file in newest if is_weights(file)][-FEW:]
    return []


def folder_contents(folder: Path) -> str:
    """Some names of what is in a folder."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        names = [entry.name + "/" * entry.is_dir() for entry in islice(entries, 10 * MOST)]
        more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
        return ", ".join(sorted(names)[:MANY]) + more or "nothing"
    return "what you may not see"
