"""The grader's side of a worker: send it images, wait, check its answer. Labels are never sent."""

import errno
import hashlib
import io
import json
import os
import re
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

import mslab
from mslab.check import DatasetReport
from mslab.data import batching, sources
from mslab.escaping import escape_control
from mslab.evaluation import engines
from mslab.files import read_bytes, replace_atomically
from mslab.grade.answers import Unusable, check_array, checked_facts, read_array, read_facts
from mslab.grade.contents import short
from mslab.grade.looking import LIMITS, SKETCH
from mslab.grade.private import disk_error
from mslab.grade.records import Measurement
from mslab.grade.sandbox import PREAMBLE, STOPPED, Child, Limits, bubblewrap_command

START = f"{PREAMBLE}from mslab.grade.worker import main\nmain()\n"
IMAGE_REQUEST = re.compile(r"need (\{.{1,200}\})")
ANSWER = "the worker's answer cannot be used"
IMAGES_BYTES = 4 << 30  # of one hidden set, all sizes together, if no worker reads more
CACHED_BYTES = 1 << 30  # of a cached measurement, at most


# --- images ----------------------------------------------------------------------------------------------------------


class HiddenImages:
    """Images of one split of a checked data set: pixels without labels, in a random order."""

    def __init__(self, report: DatasetReport, split: str, folder: Path) -> None:
        self.images = sources.images_of(report, split)
        self.fingerprint = hashlib.sha256(f"{report.fingerprint} {split}".encode()).hexdigest()
        # the files are sorted by class: in that order the position would reveal the class
        self.order = np.random.default_rng(list(bytes.fromhex(self.fingerprint))).permutation(len(self.images))
        self.folder, self.lock = Path(folder).resolve(), threading.Lock()  # absolute: a worker runs in another folder
        self.readers: Counter[Path] = Counter()  # number of workers that may still read each file
        self.files: dict[Path, int] = {}  # that this object wrote, oldest first, and their bytes; it reads no others
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labels(self) -> np.ndarray:
        """int32 (n,), in the order of measure()'s logits."""
        return self.images.labels

    @property
    def class_names(self) -> list[str]:
        return self.images.class_names

    def bytes_at(self, size: int) -> int:
        return len(self) * size * size * 3

    def path(self, size: int, resize: int, mode: str = "crop", colour: Sequence[int] = (0, 0, 0)) -> Path:
        """Path of a .npy with uint8 (n, size, size, 3) in `order`, as evaluation loads images, before normalisation.

        `mode`: crop, pad or squash; `colour`: of the padding.
        The file exists at least until `release`. Raises MslabError if the disk is full.
        """
        name = "-".join(map(str, [resize, size, *([mode, *colour] if mode != "crop" else [])]))
        path = self.folder / f"{self.fingerprint[:16]}-{name}.npy"
        with self.lock:
            if path not in self.files:
                self.free_space(self.bytes_at(size))
                self.write(path, size, resize, mode, colour)
                self.files[path] = self.bytes_at(size)
            self.readers[path] += 1
        return path

    def write(self, path: Path, size: int, resize: int, mode: str, colour: Sequence[int]) -> None:
        """Write a file of pixels. Not through a mapping: on a full disk that would end the grader with a signal."""
        partial = path.with_name(f".{path.name}.tmp")
        try:
            with partial.open("wb") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": (len(self), size, size, 3)}
                np.lib.format.write_array_header_1_0(file, header)
                reserve(file, file.tell() + self.bytes_at(size))
                for pixels in self.pixels(size, resize, mode, colour):
                    file.write(np.ascontiguousarray(pixels, np.uint8).data)
            partial.replace(path)
        except OSError as error:
            raise disk_error(self.folder, error) from error
        finally:
            partial.unlink(missing_ok=True)

    def pixels(self, size: int, resize: int, mode: str, colour: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield the images in `order` as evaluation loads them, (up to a batch, size, size, 3)."""
        images = self.images.take(self.order)
        # a std of 1/255 leaves the pixels unchanged, apart from the mean, which is added again
        mean, unit = [value / 255 for value in colour], [1 / 255] * 3
        batch = engines.batch_of(size)
        for x, _ in batching.eval_batches(images, size, mean, unit, batch, resize=resize, mode=mode):
            yield (x.transpose(0, 2, 3, 1) + np.array(colour, np.float32)).round()

    def free_space(self, needed_bytes: int) -> None:
        """Delete files that no worker reads, oldest first: students choose the sizes, so the total is limited."""
        total = needed_bytes + sum(self.files.values())
        for path in list(self.files):
            if total > IMAGES_BYTES and not self.readers[path]:
                total -= self.files.pop(path)
                path.unlink(missing_ok=True)

    def release(self, path: Path) -> None:
        """Record that a worker no longer reads this file."""
        with self.lock:
            self.readers[path] -= 1

    def shape(self, network: Mapping[str, Any], classes: int) -> tuple[int, ...]:
        """Of what a network returns. `network`: the worker's facts."""
        return (len(self), classes)

    def in_order(self, logits: np.ndarray) -> np.ndarray:
        """Sort rows from `order` to the order of the labels."""
        sorted_rows = np.empty_like(logits)
        sorted_rows[self.order] = logits
        return sorted_rows


def reserve(file: IO[bytes], size: int) -> None:
    """Take the disk space of a file before its content is computed. Raises OSError if there is not enough."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:  # some file systems cannot; there the writing itself fails
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise


# --- running a worker ------------------------------------------------------------------------------------------------


def no_answer(reason: str, log: str = "") -> Measurement:
    """Measurement for a submission whose worker returned no answer."""
    sections = ("files", "configs", "json", "histories", "predictions", "networks", "relations")
    empty: dict[str, Any] = {"schema": 1, "top": "", "sandbox": []} | {name: {} for name in sections}
    return Measurement(empty | {"problems": [f"the submission could not be read: {reason}"]}, log=log, died=True)


def measure(
    job: Mapping[str, Any], images: Mapping[str, HiddenImages], limits: Limits | None = None, core: int | None = None
) -> Measurement:
    """Measure one submission in a sandboxed worker. Never raises because of the submission.

    `images`: hidden images by network. `core`: the only CPU core for the worker, since MindSpore's threads spin.
    """
    limits = limits or Limits()
    folder = Path(job["folder"]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    job = {**job, "folder": str(folder), "source": str(Path(job["source"]).resolve())}
    job |= {"given": str(Path(job["given"]).resolve())} if job.get("given") else {}
    image_folders = sorted({str(image_set.folder) for image_set in images.values()})
    request = job | {"images": image_folders, "core": core, "sandbox": vars(limits), "parent": os.getpid()}
    requests = ImageRequests(job, images)
    try:
        measurement = run_worker(job, request, requests, folder, limits)
        for name in job.get("code", {}):
            network = measurement.facts["networks"].get(name)
            if network and "error" not in network and name in requests.paths and not measurement.died:
                run_code(name, request, requests, measurement, limits)
    finally:
        for name, path in requests.paths.items():
            images[name].release(path)
    return measurement


def program() -> list[str]:
    """Command that starts a worker."""
    import_paths = [entry for entry in sys.path if entry and Path(entry).is_absolute()]
    return [sys.executable, "-I", "-c", START, *import_paths, str(Path(mslab.__file__).parents[1])]


def run_code(
    name: str, request: Mapping[str, Any], requests: "ImageRequests", result: Measurement, limits: Limits
) -> None:
    """Run a network that a student's code defines; add its logits, or its error, to the measurement.

    That process can only falsify these logits: the grader reads nothing but one array and one sentence from it.
    """
    folder, images, network = Path(f"{request['folder']}-{name}"), requests.images[name], result.facts["networks"][name]
    folder.mkdir(exist_ok=True)
    classes, pixels = len(images.class_names), str(requests.paths[name])
    code_request = {**request, "folder": str(folder), "images": [pixels], "given": None, "parent": 1, "code_of": name}
    code_request |= {"file": network["file"], "class_num": classes, "pixels": pixels}
    reason, guards = "", None
    with Child(bubblewrap_command(program(), folder, [Path(request["source"]), Path(pixels)]), folder, limits) as child:
        child.send(json.dumps(code_request))
        lines = child.lines()
        if first := next(lines, ""):
            guards = json.loads(first.removeprefix("guards "))  # trusted: the student's code has not run yet
        if not (last := next(lines, "")):
            reason = f"{request['code'][name]}: {child.no_answer_reason()}"
            result.chance = not child.reason
            result.died = child.reason == STOPPED
        elif last != "done":
            reason = last[7:] if last.startswith("failed ") else f"{ANSWER}: it sent {last[:80]!r}"
            result.chance = disk_may_be_full(folder, limits)
    result.log += escape_control(child.errors.decode("utf-8", "replace"))
    result.facts["sandbox"] = [guard for guard in result.facts["sandbox"] if guards is None or guard in guards]
    try:
        if reason:
            raise Unusable(reason)
        result.logits[name] = images.in_order(read_array(folder / "logits.npy", (len(images), classes)))
    except Unusable as error:
        network["error"] = short(error, 600)


def disk_may_be_full(folder: Path, limits: Limits) -> bool:
    """Whether a worker can have filled the disk. Its own word does not count: it could end the grading of a class."""
    return shutil.disk_usage(folder).free < limits.disk


def run_worker(
    job: Mapping[str, Any], request: Mapping[str, Any], requests: "ImageRequests", folder: Path, limits: Limits
) -> Measurement:
    """Run an ordinary worker, in which no student's code runs."""
    with Child(program(), folder, limits) as child:
        child.send(json.dumps(request))
        done = False
        for line in child.lines():
            if done := line == "done":
                break
            if line == "full" and disk_may_be_full(folder, limits):
                raise disk_error(folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
            start = time.monotonic()
            try:
                child.send(requests.reply(line))
            except Unusable as error:
                child.kill_tree(f"{ANSWER}: {error}")
                break
            child.deadline += time.monotonic() - start  # preparing the images does not count as its time
        reason = "" if done else child.no_answer_reason()
    log = escape_control(child.errors.decode("utf-8", "replace"))
    if reason:
        return no_answer(reason, log)
    try:
        facts = read_facts(folder / "facts.json")
        logits, sketches = arrays(folder, facts, requests, LIMITS | job.get("limits", {}))
    except Unusable as error:
        return no_answer(f"{ANSWER}: {error}", log)
    return Measurement(facts, logits, sketches, log)


class ImageRequests:
    """Answer a worker's requests for images: only for networks of its job, once for each."""

    def __init__(self, job: Mapping[str, Any], images: Mapping[str, HiddenImages]) -> None:
        self.job, self.images = job, images
        limits = LIMITS | job.get("limits", {})
        self.most, self.room = limits["pixels"], limits["image_bytes"]
        self.answered: set[str] = set()
        self.paths: dict[str, Path] = {}  # by network

    def reply(self, line: str) -> str:
        """Line that answers a request. Raises Unusable for an invalid request."""
        match = IMAGE_REQUEST.fullmatch(line)
        try:
            request = json.loads(match[1]) if match else None
        except ValueError:
            request = None
        if not isinstance(request, dict) or request.keys() - {"mode", "colour"} != {"network", "size", "resize"}:
            raise Unusable(f"it sent {line[:80]!r}")
        name, size, resize = request["network"], request["size"], request["resize"]
        mode, colour = request.get("mode", "crop"), request.get("colour", [0, 0, 0])
        if not isinstance(name, str) or name not in self.job["networks"] or name in self.answered:
            raise Unusable(f"it requested images of {str(name)[:80]!r}")
        integers = type(size) is int and type(resize) is int
        if not (integers and 0 < size <= self.most and size <= resize <= 2 * self.most):
            raise Unusable(f"it requested images of {str(size)[:20]} and {str(resize)[:20]} pixels")
        bytes_of_colour = isinstance(colour, list) and [type(v) is int and 0 <= v <= 255 for v in colour] == [True] * 3
        if mode not in ("crop", "pad", "squash") or not bytes_of_colour:
            raise Unusable(f"it requested images by {str(mode)[:20]} and {str(colour)[:20]}")
        self.answered.add(name)
        if name not in self.images:
            return "no hidden images for this network"
        self.room -= self.images[name].bytes_at(size)
        if self.room < 0:
            count, needed = len(self.images[name]), self.images[name].bytes_at(size)
            return f"no room for {count:,} hidden images of {size} pixels ({needed / 2**30:.1f} GiB)"
        self.paths[name] = self.images[name].path(size, resize, mode, colour)
        return str(self.paths[name])


def arrays(
    folder: Path, facts: Mapping[str, Any], requests: ImageRequests, limits: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Read (logits, sketches) by network, with the required shapes and types. Raises Unusable."""
    logits, sketches = {}, {}
    for name, network in facts["networks"].items():
        if name not in requests.job["networks"]:
            raise Unusable(f"it reports an unknown network {name[:80]!r}")
        if network.get("sketch") is not None:
            sketches[name] = read_array(folder / f"{name}.sketch.npy", (SKETCH,))
        if network.get("logits") is None or network.get("error") is not None:
            continue
        if name not in requests.answered or name not in requests.images:
            raise Unusable(f"it measured {name} without images")
        count, classes = len(requests.images[name]), len(network.get("class_names") or [])
        if not 0 < classes <= limits["classes"]:
            raise Unusable(f"{name} has {classes} classes")
        shape = requests.images[name].shape(network, classes)
        if 4 * int(np.prod(shape)) > max(limits["map_bytes"], 4 * count * classes):
            raise Unusable(f"{name} has maps of {shape}")
        rows = read_array(folder / f"{name}.logits.npy", shape)
        logits[name] = requests.images[name].in_order(rows)
    return logits, sketches


# --- cache, by hash --------------------------------------------------------------------------------------------------


def cache_key(
    sha256: str, job: Mapping[str, Any], images: Mapping[str, HiddenImages], limits: Limits | None = None
) -> str:
    """Hash of what facts depend on: submission's bytes, hidden images, given backbone, job, limits, version."""
    parts: dict[str, Any] = {name: value for name, value in job.items() if name not in ("source", "folder", "given")}
    parts |= {"submission": sha256, "version": mslab.__version__}
    parts |= {"sandbox": vars(limits or Limits())}
    parts |= {"hidden": {name: image_set.fingerprint for name, image_set in images.items()}}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def load_or_measure(
    folder: Path, key: str, make: Callable[[], Measurement], counts: Mapping[str, int] | None = None
) -> Measurement:
    """Load the measurement of this key, or measure and cache. A worker's death is not cached: it may be chance.

    `counts`: rows of each network's logits.
    """
    path = Path(folder) / f"{key}.npz"
    if (measurement := load(path, counts or {})) is not None:
        return measurement
    new = make()
    if new.died or new.chance:
        return new
    path.parent.mkdir(parents=True, exist_ok=True)
    members = {"facts": np.frombuffer(json.dumps(new.facts).encode(), np.uint8)}
    members |= {"key": np.frombuffer(key.encode(), np.uint8)}  # a file under another name is not this measurement
    members |= {f"logits {name}": value for name, value in new.logits.items()}
    members |= {f"sketch {name}": value for name, value in new.sketches.items()}
    replace_atomically(path, lambda file: np.savez(file, **members))  # type: ignore[arg-type]
    return new


def load(path: Path, counts: Mapping[str, int] | None = None) -> Measurement | None:
    """Load a cached measurement; None if there is none. It is checked like a worker's answer."""
    try:
        if path.stat().st_size > CACHED_BYTES:  # a file may have any size without content
            return None
        content = read_bytes(path, CACHED_BYTES)
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            if any(member.compress_type or member.file_size > len(content) for member in file.zip.infolist()):
                return None  # savez does not compress
            arrays = {name: file[name] for name in file.files}
        if arrays.pop("key").tobytes() != path.stem.encode():
            return None
        facts = checked_facts(arrays.pop("facts").tobytes())
        logits = {name.removeprefix("logits "): value for name, value in arrays.items() if name.startswith("logits ")}
        sketches = {name.removeprefix("sketch "): value for name, value in arrays.items() if name.startswith("sketch ")}
        for name, value in logits.items():
            check_array(value, ((counts or {}).get(name, len(value)), *value.shape[1:]), name)
        for name, value in sketches.items():
            check_array(value, (SKETCH,), name)
    except Exception:  # readers of damaged files raise many types; after any of them the submission is measured again
        return None
    return Measurement(facts, logits, sketches)
