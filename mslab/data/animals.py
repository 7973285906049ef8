"""`mslab data animals`: the silhouettes of the published results, built from the PyPI package animal-mnist 0.4.

    datasets/animals9/{train,val}/{bear,bird,…,sheep}/bear_00001.png …     nine classes, 320 + 80 images each
    datasets/animals2/{train,val}/{hoofed,pawed}/cow_03135.png …           two classes, 20 + 200, different images

The number in a name is the image's index in the package. The package is read as an archive: none of its code runs.
"""

import gzip
import hashlib
import io
import math
import os
import pickle
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

from mslab.check.worker import open_image
from mslab.checkpoint.pth import load_pickle, restrict_opcodes
from mslab.data.placing import staging_folder
from mslab.errors import DatasetError
from mslab.runtime.console import Meter, log

PACKAGE = "animal-mnist==0.4"
SHA256 = "aeebf3d9de4552d6fd2d5701424e1a5b9020f8e5115d68df9db252f2f53ce2ce"  # of animal_mnist-0.4-py3-none-any.whl
IMAGES = "animal_mnist/data/Animal_MNIST/animal_data_version_3.gz"  # uint8 (10000, 28, 28), sorted by class
LABELS = "animal_mnist/data/Animal_MNIST/animal_label_version_3.gz"  # int64 (10000,), an index into ANIMALS
MAX_BYTES = 16 * 2**20  # of the package, and of each file in it, packed or unpacked

ANIMALS = ["bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra"]
NINE = {"train": 320, "val": 80}  # images per class
TWO = {"train": 20, "val": 200}
GROUPS = {"hoofed": ["cow", "horse", "sheep", "zebra"], "pawed": ["bear", "cat", "dog"]}
SIZE = 64  # pixels, side of an image
COUNTS = {"animals9": 9 * sum(NINE.values()), "animals2": 2 * sum(TWO.values())}
PIXELS = {  # sha256 of the pixels, after NumPy's selection and Pillow's bicubic resize, for README's figures
    "animals9": "634c3b2993855602ff9d411eb1656f04c124d3ccc898b14810323915b38afec6",
    "animals2": "c8acab985dec64029aed9b2ab91068edafd83940732e50d7b589b26922a584e3",
}
FILES = {  # sha256 of the same images as PNG files, written by Pillow 13.0.0
    "animals9": "a02459a8d08cbeb45cd4c2c46a7f31de50bd66858a011a87ec2f40febd4d3c0a",
    "animals2": "649cac58f3bdd2cd06010df0dcd25147785a38ae5cb220a609500c6e8ff36fa8",
}


def build_animals(root: Path, wheel: Path | None = None) -> None:
    """Build animals9 and animals2 under `root`, unless they exist. `wheel`: the package file; default: from pip."""
    start = time.perf_counter()
    missing = [name for name in COUNTS if not os.path.lexists(root / name)]
    if others := [(n, reason) for n in COUNTS if n not in missing and (reason := difference(root / n, n))]:
        raise DatasetError(
            f"{root} contains folders with the names of these data sets but other content.",
            details=others,
            expected=f"no {' and no '.join(name for name, _ in others)} in {root}, or those built from {PACKAGE}",
            fix="move or delete them, or build elsewhere with --out",
        )
    if missing:
        images, labels = read_wheel(*fetch_package(wheel))
        selection = select_images(images, labels)
    for name in missing:
        write(root, name, selection[name], images)
    for name in COUNTS:
        numbers = ", ".join(f"{split} {sum(1 for _ in files_of(root / name / split))}" for split in NINE)
        log.info(f"{root / name}: {numbers} silhouettes")
        if digests(root / name)[1] != FILES[name]:
            log.info(
                f"note: the pixels of {name} are those of the published results, but the files were not written by "
                "Pillow 13.0.0: their bytes, and therefore the data fingerprint, differ"
            )
    log.info(f"built (or already present) in {time.perf_counter() - start:.0f} s")


# --- the package ----------------------------------------------------------------------------------------------------


def fetch_package(wheel: Path | None) -> tuple[bytes, str]:
    """(the package's bytes, its name for messages), from a file or by pip. The bytes match SHA256."""
    if wheel is not None:
        return read_verified(wheel, str(wheel)), str(wheel)
    log.info(f"fetching {PACKAGE} with pip (2.5 MiB)")
    with tempfile.TemporaryDirectory() as folder:
        # wheels only: for a source archive, pip would run setup.py
        options = ["--no-deps", "--only-binary=:all:", "--quiet", "--no-input", "--disable-pip-version-check"]
        command = [sys.executable, "-m", "pip", "download", PACKAGE, *options, "--dest", folder]
        process = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        files = sorted(Path(folder).glob("*.whl"))
        if process.returncode or not files:
            output = [line.strip() for line in (process.stdout + process.stderr).splitlines() if line.strip()]
            raise DatasetError(
                f"pip could not fetch {PACKAGE}.",
                details=[("pip", "\n".join(output[-2:]) if output else f"no output, exit code {process.returncode}")],
                expected="pip, and access to an index that has this package (PyPI does)",
                fix=f"pip download {PACKAGE} --no-deps    on another machine; here: mslab data animals --wheel FILE",
            )
        return read_verified(files[0], files[0].name), files[0].name


def read_verified(file: Path, name: str) -> bytes:
    """The file's bytes. Raises DatasetError unless they match SHA256."""
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)  # read once, so that the hashed bytes are the ones used
    except OSError as error:
        raise DatasetError(
            f"{name} cannot be read: {error.strerror or error}.",
            expected="the file animal_mnist-0.4-py3-none-any.whl",
            fix=f"correct the path, or fetch the file: pip download {PACKAGE} --no-deps",
        ) from None
    digest = (
        hashlib.sha256(content).hexdigest() if len(content) <= MAX_BYTES else f"a file of more than {MAX_BYTES} bytes"
    )
    if digest != SHA256:
        raise DatasetError(
            f"{name} is not the file that these data sets are built from; it was not opened.",
            details=[("found", digest)],
            expected=f"{SHA256}  (sha256 of animal_mnist-0.4-py3-none-any.whl)",
            fix=f"pip download {PACKAGE} --no-deps    with PyPI as the index, then use --wheel FILE",
        )
    return content


def read_wheel(content: bytes, name: str = "the package") -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 28, 28) and labels int64 (N,) from a wheel's bytes. Raises DatasetError; writes no file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            images, labels = (read_array(unpack(archive, member)) for member in (IMAGES, LABELS))
        if images.dtype != np.uint8 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
            raise ValueError(
                f"it contains {images.dtype} {images.shape} and {labels.shape}, not images of 28x28 pixels"
            )
        if labels.dtype != np.int64 or not np.isin(labels, range(len(ANIMALS))).all():
            raise ValueError(f"its labels are not numbers from 0 to {len(ANIMALS) - 1}")
        return images, labels
    except (ValueError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(
            f"{name} cannot be used: {error}.",
            expected="a zip with two gzipped pickles that contain nothing but a NumPy array",
            fix="fetch it again from PyPI",
        ) from None


def unpack(archive: zipfile.ZipFile, member: str) -> bytes:
    """The unpacked bytes of one gzipped file in the archive. Reads at most MAX_BYTES. Raises ValueError beyond."""
    if member not in archive.namelist():
        raise ValueError(f"it does not contain {member}")
    if archive.getinfo(member).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        # bz2 and lzma would not stop at MAX_BYTES
        raise ValueError(f"{member} uses a compression that wheels do not use")
    with archive.open(member) as packed:
        zipped = packed.read(MAX_BYTES + 1)
    content = gzip.GzipFile(fileobj=io.BytesIO(zipped)).read(MAX_BYTES + 1) if len(zipped) <= MAX_BYTES else b""
    if max(len(zipped), len(content)) > MAX_BYTES:
        raise ValueError(f"{member} unpacks to more than {MAX_BYTES // 2**20} MiB")
    return content


OPCODES = """
PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 SHORT_BINUNICODE SHORT_BINBYTES BINBYTES
TUPLE TUPLE1 TUPLE2 TUPLE3 BINGET MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD
"""  # opcodes of a pickled NumPy array (protocol 4); without lists and dicts, no attribute can be set
BYTE_ORDERS = {"u1": "|", "i8": "<"}  # argument of numpy.dtype -> byte order
NDARRAY = object()  # replaces numpy.ndarray, which a pickle only names


class SafeDtype:
    """Replaces numpy.dtype, which would let a pickle change the dtype object that all of the process uses."""

    __slots__ = ("name", "order")

    def __init__(self, name: Any, align: Any, copy: Any) -> None:
        if name not in BYTE_ORDERS:  # "O8": objects, each with its own pickle
            raise ValueError(f"it contains an array of {name!r}; only 'u1' and 'i8' are supported")
        self.name, self.order = name, BYTE_ORDERS[name]

    def __setstate__(self, state: Any) -> None:
        if state != (3, self.order, None, None, None, -1, -1, 0):
            raise ValueError(f"its {self.name!r} has fields or a different byte order")


class SafeArray:
    """Replaces the empty array of numpy._reconstruct, which could have any size."""

    __slots__ = ("values",)

    def __init__(self, array_type: Any, shape: Any, code: Any) -> None:
        if array_type is not NDARRAY:
            raise ValueError("it creates something other than an array")

    def __setstate__(self, state: Any) -> None:
        if type(state) is not tuple or len(state) != 5 or type(state[1]) is not tuple:
            raise ValueError("its array has an impossible shape")
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, SafeDtype):
            raise ValueError("its array has no numeric type")
        if not all(type(n) is int and 0 <= n <= MAX_BYTES for n in shape) or len(shape) > 3 or fortran is not False:
            raise ValueError("its array has an impossible shape")
        dtype = np.dtype(BYTE_ORDERS[dtype.name] + dtype.name)
        claimed = math.prod(shape) * dtype.itemsize
        if type(content) is not bytes or claimed != len(content):
            raise ValueError(f"its array {shape} needs {claimed} bytes and has {len(content)}")
        self.values = np.frombuffer(content, dtype).reshape(shape)


# The three names that the file needs. In protocol 4, bytes need no helper such as _codecs.encode.
NAMES: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): SafeArray,  # creates an empty array, to be filled
    ("numpy", "ndarray"): NDARRAY,  # the type of the array
    ("numpy", "dtype"): SafeDtype,  # the type of its numbers
}


class ArrayReader(pickle._Unpickler):  # type: ignore[name-defined]  # the Python class: its opcodes can be removed
    dispatch = restrict_opcodes(OPCODES)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in NAMES:
            raise ValueError(f"its pickle requests {module}.{name}; only plain NumPy arrays are supported")
        return NAMES[module, name]


def read_array(content: bytes) -> np.ndarray:
    """The numeric array in a pickle. The pickle can call neither NumPy nor anything else. Raises ValueError."""
    array = load_pickle(ArrayReader, io.BytesIO(content), "contain an array of numbers")
    if not isinstance(array, SafeArray):
        raise ValueError("its pickle contains something other than an array")
    if not hasattr(array, "values"):
        raise ValueError("its array was never filled")
    return array.values


# --- the data sets --------------------------------------------------------------------------------------------------


def select_images(images: np.ndarray, labels: np.ndarray) -> dict[str, dict[str, int]]:
    """{data set: {"train/bear/bear_00001.png": index into images}}.

    The first of equal images is used; the order is then shuffled once. animals9 takes each animal's images from the
    front, animals2 from the back: they have no image in common.
    """
    _, first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    order = np.random.default_rng(0).permutation(np.sort(first))
    by_animal = {animal: order[labels[order] == label].tolist() for label, animal in enumerate(ANIMALS)}
    selection: dict[str, dict[str, int]] = {"animals9": {}, "animals2": {}}

    def take(name: str, split: str, class_name: str, animal: str, indices: list[int]) -> None:
        selection[name] |= {f"{split}/{class_name}/{animal}_{index:05d}.png": index for index in indices}

    for animal in ANIMALS[:9]:  # zebras are used in animals2 only
        take("animals9", "train", animal, animal, by_animal[animal][: NINE["train"]])
        take("animals9", "val", animal, animal, by_animal[animal][NINE["train"] : sum(NINE.values())])
    for group, animals in GROUPS.items():
        for animal, train, val in zip(animals, *(even_parts(TWO[split], len(animals)) for split in TWO), strict=True):
            take("animals2", "train", group, animal, by_animal[animal][-train:])
            take("animals2", "val", group, animal, by_animal[animal][-train - val : -train])
    return selection


def even_parts(total: int, parts: int) -> list[int]:
    """Split `total` into parts that differ by at most 1.  even_parts(20, 3) -> [7, 7, 6]"""
    return [(total + parts - 1 - part) // parts for part in range(parts)]


def write(root: Path, name: str, files: dict[str, int], images: np.ndarray) -> None:
    """Write one data set to a temporary folder, verify its pixels, then rename the folder to root/NAME."""
    with staging_folder(root / name) as part, Meter(len(files)) as meter:
        show = meter.callback(f"writing {name}")
        for done, (file, index) in enumerate(files.items(), 1):
            target = part / file
            target.parent.mkdir(parents=True, exist_ok=True)
            small = Image.fromarray(images[index])  # (28, 28)
            small.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(target)
            show(done, len(files))
        if digests(part)[0] != PIXELS[name]:
            raise DatasetError(
                f"The images of {name} differ from those of the published results; the data set was discarded.",
                expected="versions of NumPy and Pillow that select and resize as those of constraints.txt do",
                fix=f"install those versions (here: NumPy {np.__version__}, Pillow {PIL.__version__})",
            )
        part.rename(root / name)


def difference(folder: Path, name: str) -> str:
    """Reason why the folder is not the data set of that name; "" if all pixels match."""
    files = sum(1 for _ in islice(files_of(folder), COUNTS[name] + 1)) if folder.is_dir() else 0
    if files != COUNTS[name]:
        number = "more" if files > COUNTS[name] else files
        return f"files: {number}, expected {COUNTS[name]}" if folder.is_dir() else "not a folder"
    return "" if digests(folder)[0] == PIXELS[name] else "different images, or different file names"


def files_of(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if not path.is_dir())


def digests(folder: Path) -> tuple[str, str]:
    """sha256 over every file's path and (pixels, bytes). ("", …) if a file is not a grey PNG of SIZE x SIZE."""
    pixels, contents = hashlib.sha256(), hashlib.sha256()
    valid = True
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in files_of(folder)):
        try:
            with path.open("rb") as stream:
                content = stream.read(1 << 16)
            with open_image(io.BytesIO(content)) as image:
                valid = valid and (image.format, image.mode, image.size) == ("PNG", "L", (SIZE, SIZE))
                pixels.update(f"{name}\0".encode() + (image.tobytes() if valid else b""))
        except (OSError, SyntaxError, ValueError):  # what Pillow raises for damaged files
            content, valid = b"", False
        contents.update(f"{name}\0{len(content)}\0".encode() + content)
    return (pixels.hexdigest() if valid else ""), contents.hexdigest()
