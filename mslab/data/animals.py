"""`mslab data animals`: the silhouettes of README's results, built from the PyPI package animal-mnist 0.4.

    datasets/animals9/{train,val}/{bear,bird,…,sheep}/bear_00001.png …     nine classes, 320 + 80 images each
    datasets/animals2/{train,val}/{hoofed,pawed}/cow_03135.png …           two classes, 20 + 200, other individuals

The number in a name is the image's place in the package. The package is opened as an archive: none of its code runs.
"""

import gzip
import hashlib
import io
import math
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image

from mslab.checkpoint.pth import load_pickle, restrict_opcodes
from mslab.errors import DatasetError
from mslab.runtime.console import Meter, log

PACKAGE = "animal-mnist==0.4"
SHA256 = "aeebf3d9de4552d6fd2d5701424e1a5b9020f8e5115d68df9db252f2f53ce2ce"  # of animal_mnist-0.4-py3-none-any.whl
IMAGES = "animal_mnist/data/Animal_MNIST/animal_data_version_3.gz"  # uint8 (10000, 28, 28), a class after the other
LABELS = "animal_mnist/data/Animal_MNIST/animal_label_version_3.gz"  # int64 (10000,), a place in ANIMALS
MOST = 16 * 2**20  # bytes: of the package, and of what one of its files unpacks to

ANIMALS = ["bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra"]
NINE = {"train": 320, "val": 80}  # images a class
TWO = {"train": 20, "val": 200}
GROUPS = {"hoofed": ["cow", "horse", "sheep", "zebra"], "pawed": ["bear", "cat", "dog"]}
SIZE = 64  # pixels, side of an image
COUNTS = {"animals9": 9 * sum(NINE.values()), "animals2": 2 * sum(TWO.values())}
PIXELS = {  # what NumPy's choice and Pillow's bicubic resize came to when README's figures were measured
    "animals9": "634c3b2993855602ff9d411eb1656f04c124d3ccc898b14810323915b38afec6",
    "animals2": "c8acab985dec64029aed9b2ab91068edafd83940732e50d7b589b26922a584e3",
}
FILES = {  # the same as files: Pillow 13.0.0's PNG, byte for byte
    "animals9": "a02459a8d08cbeb45cd4c2c46a7f31de50bd66858a011a87ec2f40febd4d3c0a",
    "animals2": "649cac58f3bdd2cd06010df0dcd25147785a38ae5cb220a609500c6e8ff36fa8",
}


def build_animals(root: Path, wheel: Path | None = None) -> None:
    """Build animals9 and animals2 under `root`; what is already there stays. `wheel`: the package, not from pip."""
    start = time.perf_counter()
    missing = [name for name in COUNTS if not os.path.lexists(root / name)]
    if other := [(name, why) for name in COUNTS if name not in missing and (why := difference(root / name, name))]:
        raise DatasetError(
            f"{root} holds folders of these names that are not these data sets.",
            details=other,
            expected=f"no {' and no '.join(name for name, _ in other)} in {root}, or as built from {PACKAGE}",
            fix="move or delete them, or build elsewhere with --out",
        )
    if missing:
        images, labels = read_wheel(*fetched(wheel))
        plans = plan(images, labels)
    for name in missing:
        write(root, name, plans[name], images)
    for name in COUNTS:
        numbers = ", ".join(f"{split} {sum(1 for _ in files_of(root / name / split))}" for split in NINE)
        log.info(f"{root / name}: {numbers} silhouettes")
        if digests(root / name)[1] != FILES[name]:
            log.info(
                f"note: the pixels of {name} are those of README's results; as files, from another Pillow than 13.0.0, "
                "they have other bytes, so that the data fingerprint is another"
            )
    log.info(f"built (or found as built before) in {time.perf_counter() - start:.0f} s")


# --- the package ----------------------------------------------------------------------------------------------------


def fetched(wheel: Path | None) -> tuple[bytes, str]:
    """(the package's bytes, what to call it in a message), from a file or by pip; the bytes are those of SHA256."""
    if wheel is not None:
        return verified(wheel, str(wheel)), str(wheel)
    log.info(f"fetching {PACKAGE} with pip (2.5 MiB)")
    with tempfile.TemporaryDirectory() as folder:
        # wheels only: of a source archive, pip would run setup.py
        options = ["--no-deps", "--only-binary=:all:", "--quiet", "--no-input", "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", "download", PACKAGE, *options, "--dest", folder]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        files = sorted(Path(folder).glob("*.whl"))
        if done.returncode or not files:
            said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
            raise DatasetError(
                f"pip could not fetch {PACKAGE}.",
                details=[("pip", "\n".join(said[-2:]) if said else f"said nothing and ended with {done.returncode}")],
                expected="pip, and an index with that package within its reach (PyPI has it)",
                fix=f"pip download {PACKAGE} --no-deps    elsewhere, then here: mslab data animals --wheel FILE",
            )
        return verified(files[0], files[0].name), files[0].name


def verified(file: Path, name: str) -> bytes:
    """The file's bytes, if they are those of SHA256."""
    try:
        with file.open("rb") as stream:
            content = stream.read(MOST + 1)  # read once: what is hashed is what is opened
    except OSError as error:
        raise DatasetError(
            f"{name} cannot be read: {error.strerror or error}.",
            expected="the file animal_mnist-0.4-py3-none-any.whl",
            fix=f"correct the path; pip download {PACKAGE} --no-deps    fetches it",
        ) from None
    found = hashlib.sha256(content).hexdigest() if len(content) <= MOST else f"a file of more than {MOST} bytes"
    if found != SHA256:
        raise DatasetError(
            f"{name} is not the file that these data sets are made of; it was not opened.",
            details=[("found", found)],
            expected=f"{SHA256}  (sha256 of animal_mnist-0.4-py3-none-any.whl)",
            fix=f"pip download {PACKAGE} --no-deps    from PyPI itself, then --wheel FILE",
        )
    return content


def read_wheel(content: bytes, name: str = "the package") -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 28, 28) and labels int64 (N,) in a wheel's bytes. Raises DatasetError; nothing goes to disk."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            images, labels = (read_array(unpacked(archive, member)) for member in (IMAGES, LABELS))
        if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
            raise ValueError(f"it holds {images.dtype} {images.shape} and {labels.shape}, not images of 28x28 pixels")
        if labels.dtype != np.int64 or not np.isin(labels, range(len(ANIMALS))).all():
            raise ValueError(f"its labels are not numbers from 0 to {len(ANIMALS) - 1}")
        return images, labels
    except (ValueError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(
            f"{name} cannot be used: {error}.",
            expected="a zip with two gzipped pickles of NumPy arrays, and nothing else in these",
            fix="fetch it again from PyPI",
        ) from None


def unpacked(archive: zipfile.ZipFile, member: str) -> bytes:
    """The bytes of one gzipped file in the archive. However much they would become, MOST is where it ends."""
    if member not in archive.namelist():
        raise ValueError(f"there is no {member} in it")
    if archive.getinfo(member).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{member} is packed in another way than wheels are")  # bz2 and lzma would not stop at MOST
    with archive.open(member) as packed:
        zipped = packed.read(MOST + 1)
    content = gzip.GzipFile(fileobj=io.BytesIO(zipped)).read(MOST + 1) if len(zipped) <= MOST else b""
    if max(len(zipped), len(content)) > MOST:
        raise ValueError(f"{member} unpacks to more than {MOST // 2**20} MiB")
    return content


OPCODES = """
PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 SHORT_BINUNICODE SHORT_BINBYTES BINBYTES
TUPLE TUPLE1 TUPLE2 TUPLE3 BINGET MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD
"""  # what a NumPy array is pickled with (protocol 4); without lists and dicts, no attribute can be set either
KINDS = {"u1": "|", "i8": "<"}  # what numpy.dtype is called with -> byte order
NDARRAY = object()  # stands for numpy.ndarray, which a pickle only names


class Kind:
    """Stands for numpy.dtype. NumPy's own would let a pickle change the dtype that the whole process shares."""

    __slots__ = ("name", "order")

    def __init__(self, name: Any, align: Any, copy: Any) -> None:
        if name not in KINDS:  # "O8": objects, each with a pickle of its own
            raise ValueError(f"it holds an array of {name!r}, and only 'u1' and 'i8' are read")
        self.name, self.order = name, KINDS[name]

    def __setstate__(self, state: Any) -> None:
        if state != (3, self.order, None, None, None, -1, -1, 0):
            raise ValueError(f"its {self.name!r} has fields, or another order of bytes")


class Array:
    """Stands for numpy._reconstruct's empty array. NumPy's own would make one of any size."""

    __slots__ = ("values",)

    def __init__(self, kind: Any, shape: Any, code: Any) -> None:
        if kind is not NDARRAY:
            raise ValueError("it makes something else than an array")

    def __setstate__(self, state: Any) -> None:
        if type(state) is not tuple or len(state) != 5 or type(state[1]) is not tuple:
            raise ValueError("its array has an impossible shape")
        _, shape, kind, fortran, content = state
        if not isinstance(kind, Kind):
            raise ValueError("its array is of no kind of numbers")
        if not all(type(n) is int and 0 <= n <= MOST for n in shape) or len(shape) > 3 or fortran is not False:
            raise ValueError("its array has an impossible shape")
        dtype = np.dtype(KINDS[kind.name] + kind.name)
        claimed = math.prod(shape) * dtype.itemsize
        if type(content) is not bytes or claimed != len(content):
            raise ValueError(f"its array {shape} needs {claimed} bytes and has {len(content)}")
        self.values = np.frombuffer(content, dtype).reshape(shape)


# The three names that the file needs. It is of protocol 4: bytes need no helper such as _codecs.encode.
NAMES: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): Array,  # called for an empty array, to be filled
    ("numpy", "ndarray"): NDARRAY,  # the kind of array that it is
    ("numpy", "dtype"): Kind,  # the kind of numbers in it
}


class ArrayReader(pickle._Unpickler):  # type: ignore[name-defined]  # the Python one: its opcodes can be taken away
    dispatch = restrict_opcodes(OPCODES)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NAMES:
            raise ValueError(f"its pickle asks for {module}.{name}, and only plain NumPy arrays are read")
        return NAMES[module, name]


def read_array(content: bytes) -> np.ndarray:
    """The one array of numbers in a pickle. Nothing of NumPy is called by it, nor anything else. Raises ValueError."""
    held = load_pickle(ArrayReader, content, "hold an array of numbers")
    if not isinstance(held, Array):
        raise ValueError("its pickle holds something else than an array")
    if not hasattr(held, "values"):
        raise ValueError("its array was never filled")
    return held.values


# --- the data sets --------------------------------------------------------------------------------------------------


def plan(images: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, int]]:
    """{data set: {"train/bear/bear_00001.png": place in images}}.

    Of equal images the first one stays; the rest is shuffled once. animals9 takes each animal's images from the front,
    animals2 from the back: they share none.
    """
    _, first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    order = np.random.default_rng(0).permutation(np.sort(first))
    of = {animal: order[labels[order] == label].tolist() for label, animal in enumerate(ANIMALS)}
    plans: dict[str, dict[str, int]] = {"animals9": {}, "animals2": {}}

    def take(name: str, split: str, class_name: str, animal: str, places: list[int]) -> None:
        plans[name] |= {f"{split}/{class_name}/{animal}_{place:05d}.png": place for place in places}

    for animal in ANIMALS[:9]:  # zebras stay for animals2
        take("animals9", "train", animal, animal, of[animal][: NINE["train"]])
        take("animals9", "val", animal, animal, of[animal][NINE["train"] : sum(NINE.values())])
    for group, animals in GROUPS.items():
        for animal, train, val in zip(animals, *(shares(TWO[split], len(animals)) for split in TWO), strict=True):
            take("animals2", "train", group, animal, of[animal][-train:])
            take("animals2", "val", group, animal, of[animal][-train - val : -train])
    return plans


def shares(total: int, parts: int) -> list[int]:
    """`total` in parts as even as can be.  shares(20, 3) -> [7, 7, 6]"""
    return [(total + parts - 1 - part) // parts for part in range(parts)]


def write(root: Path, name: str, files: dict[str, int], images: np.ndarray) -> None:
    """Write one data set beside its place, look whether it is the right one, move it there: whole or not at all."""
    part = root / f".{name}-{os.getpid()}.part"
    try:
        with Meter(len(files)) as meter:
            show = meter.callback(f"writing {name}")
            for done, (file, place) in enumerate(files.items(), 1):
                target = part / file
                target.parent.mkdir(parents=True, exist_ok=True)
                small = Image.fromarray(images[place])  # (28, 28)
                small.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(target)
                show(done, len(files))
        if digests(part)[0] != PIXELS[name]:
            raise DatasetError(
                f"{name} came out with other images than those of README's results; it was not kept.",
                expected="NumPy and Pillow that choose and enlarge as those of constraints.txt do",
                fix=f"install those versions (here: NumPy {np.__version__}, Pillow {PIL.__version__})",
            )
        part.rename(root / name)
    except OSError as error:
        raise DatasetError(
            f"{root / name} cannot be written: {error.strerror or error}.",
            expected=f"a folder {root} to write to, and 20 MiB of room",
            fix="free some space, or --out with another folder",
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def difference(folder: Path, name: str) -> str:
    """Why the folder is not the data set of that name; "" where it is, pixel for pixel."""
    found = sum(1 for _ in islice(files_of(folder), COUNTS[name] + 1)) if folder.is_dir() else 0
    if found != COUNTS[name]:
        there = "more" if found > COUNTS[name] else found
        return f"files: {there}, where it has {COUNTS[name]}" if folder.is_dir() else "no folder"
    return "" if digests(folder)[0] == PIXELS[name] else "other images, or other names of images"


def files_of(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if not path.is_dir())


def digests(folder: Path) -> tuple[str, str]:
    """sha256 over every file's path and (pixels, bytes). ("", …) where one is no grey PNG of SIZE x SIZE."""
    pixels, contents = hashlib.sha256(), hashlib.sha256()
    whole = True
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in files_of(folder)):
        try:
            with path.open("rb") as stream:
                content = stream.read(1 << 16)
            with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
                whole = whole and (image.mode, image.size) == ("L", (SIZE, SIZE))
                pixels.update(f"{name}\0".encode() + (image.tobytes() if whole else b""))
        except (OSError, SyntaxError, ValueError):  # Pillow's words for damage
            content, whole = b"", False
        contents.update(f"{name}\0{len(content)}\0".encode() + content)
    return (pixels.hexdigest() if whole else ""), contents.hexdigest()
