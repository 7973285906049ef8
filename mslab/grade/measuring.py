"""The parent's side of a worker: images for it, waiting, and checking what comes back. Labels never leave here."""

import hashlib
import json
import os
import re
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import mslab
from mslab.check import DatasetReport
from mslab.data import batching, sources
from mslab.evaluation import gradcam
from mslab.grade.answers import Answer, Unusable, array, checked
from mslab.grade.contents import short
from mslab.grade.looking import LIMITS, SKETCH
from mslab.grade.records import Measurement
from mslab.grade.sandbox import PREAMBLE, STOPPED, Child, Limits, boxed
from mslab.runtime.console import escape_control

START = f"{PREAMBLE}from mslab.grade.worker import main\nmain()\n"
MEASURED = re.compile(r"need (\{.{1,200}\})")
ANSWER = "the worker's answer cannot be used"
IMAGES_BYTES = 8 << 30  # of one hidden set at all sizes


# --- images ----------------------------------------------------------------------------------------------------------


class HiddenImages:
    """The images of one split of a checked data set, as pixels without labels, in an order that tells nothing."""

    def __init__(self, report: DatasetReport, split: str, folder: Path) -> None:
        self.images = sources.images_of(report, split)
        self.fingerprint = hashlib.sha256(f"{report.fingerprint} {split}".encode()).hexdigest()
        # not by class, as the files are sorted: who guessed the classes by place would be right
        self.order = np.random.default_rng(list(bytes.fromhex(self.fingerprint))).permutation(len(self.images))
        self.folder, self.lock = Path(folder).resolve(), threading.Lock()  # a worker's current folder is its own
        self.used: Counter[Path] = Counter()  # files that workers have been told of and still read
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

    def path(self, size: int, resize: int) -> Path:
        """uint8 (n, size, size, 3) in `order`, in a .npy: just what evaluation sees, before it is normalised.

        It stays at least until `release`.
        """
        path = self.folder / f"{self.fingerprint[:16]}-{resize}-{size}.npy"
        with self.lock:
            self.used[path] += 1
            if path.exists():
                return path
            self.make_room(len(self) * size * size * 3)
            partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            pixels = np.lib.format.open_memmap(partial, "w+", np.uint8, (len(self), size, size, 3))
            done, images = 0, self.images.take(self.order)
            # a mean of 0 and a std of 1/255 leave the pixels as they are
            zero, one = [0.0] * 3, [1 / 255] * 3
            for x, _ in batching.eval_batches(images, size, zero, one, gradcam.batch_of(size), resize=resize):
                pixels[done : done + len(x)] = x.transpose(0, 2, 3, 1).round()
                done += len(x)
            pixels.flush()
            del pixels
            partial.replace(path)
        return path

    def make_room(self, wanted: int) -> None:
        """Delete files that nobody reads, the oldest first: sizes are the students' to choose, the disk is not."""
        files = sorted(self.folder.glob(f"{self.fingerprint[:16]}-*.npy"), key=lambda path: path.stat().st_mtime)
        total = wanted + sum(path.stat().st_size for path in files)
        for path in files:
            if total > IMAGES_BYTES and not self.used[path]:
                total -= path.stat().st_size
                path.unlink()

    def release(self, path: Path) -> None:
        """A worker has ended that was told of this file."""
        with self.lock:
            self.used[path] -= 1

    def in_order(self, logits: np.ndarray) -> np.ndarray:
        """Rows in `order` -> rows as the labels are."""
        sorted_rows = np.empty_like(logits)
        sorted_rows[self.order] = logits
        return sorted_rows


# --- a worker at work ------------------------------------------------------------------------------------------------


def dead(why: str, log: str = "") -> Measurement:
    """What is known of a submission whose worker gave no answer."""
    sections = ("files", "configs", "json", "histories", "predictions", "networks", "relations")
    empty: dict[str, Any] = {"schema": 1, "top": "", "sandbox": []} | {name: {} for name in sections}
    return Measurement(empty | {"problems": [f"the submission could not be read: {why}"]}, log=log, died=True)


def measure(
    job: Mapping[str, Any], images: Mapping[str, HiddenImages], limits: Limits | None = None, core: int | None = None
) -> Measurement:
    """What a worker finds in one submission. `images`: of each network that is measured. Never raises for its sake.

    `core`: the one CPU core that the worker may use, since MindSpore's threads spin.
    """
    limits = limits or Limits()
    folder = Path(job["folder"]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    job = {**job, "folder": str(folder), "source": str(Path(job["source"]).resolve())}
    job |= {"given": str(Path(job["given"]).resolve())} if job.get("given") else {}
    shown = sorted({str(each.folder) for each in images.values()})
    told = job | {"images": shown, "core": core, "sandbox": vars(limits), "parent": os.getpid()}
    needs = Needs(job, images)
    try:
        found = asked(job, told, needs, folder, limits)
        for name in job.get("code", {}):
            network = found.facts["networks"].get(name)
            if network and "error" not in network and name in needs.paths and not found.died:
                run_code(name, told, needs, found, limits)
    finally:
        for name, path in needs.paths.items():
            images[name].release(path)
    return found


def program() -> list[str]:
    """The worker's command."""
    places = [entry for entry in sys.path if entry and Path(entry).is_absolute()]
    return [sys.executable, "-I", "-c", START, *places, str(Path(mslab.__file__).parents[1])]


def run_code(name: str, told: Mapping[str, Any], needs: "Needs", found: Measurement, limits: Limits) -> None:
    """Adds the logits of a network that a student's code defines, or what is wrong with it, to what was found.

    That process can lie, about these logits alone: it is believed an array and a sentence.
    """
    folder, images, network = Path(f"{told['folder']}-{name}"), needs.images[name], found.facts["networks"][name]
    folder.mkdir(exist_ok=True)
    classes, pixels = len(images.class_names), str(needs.paths[name])
    own = {**told, "folder": str(folder), "images": [pixels], "given": None, "parent": 1, "code_of": name}
    own |= {"file": network["file"], "class_num": classes, "pixels": pixels}
    why, held = "", None
    with Child(boxed(program(), folder, [Path(told["source"]), Path(pixels)]), folder, limits) as child:
        child.send(json.dumps(own))
        lines = child.lines()
        if first := next(lines, ""):
            held = json.loads(first.removeprefix("held "))  # the worker's own: no code of the student's has run
        if not (last := next(lines, "")):
            why = f"{told['code'][name]}: {child.why()}"
            found.chance = not child.reason
            found.died = child.reason == STOPPED
        elif last != "done":
            why = last[7:] if last.startswith("failed ") else f"{ANSWER}: it said {last[:80]!r}"
    found.log += escape_control(child.errors.decode("utf-8", "replace"))
    found.facts["sandbox"] = [guard for guard in found.facts["sandbox"] if held is None or guard in held]
    try:
        if why:
            raise Unusable(why)
        found.logits[name] = images.in_order(array(folder / "logits.npy", (len(images), classes)))
    except Unusable as error:
        network["error"] = short(error, 600)


def asked(job: Mapping[str, Any], told: Mapping[str, Any], needs: "Needs", folder: Path, limits: Limits) -> Measurement:
    """What an ordinary worker finds: no line of a student's code runs in it."""
    with Child(program(), folder, limits) as child:
        child.send(json.dumps(told))
        done = False
        for line in child.lines():
            if done := line == "done":
                break
            start = time.monotonic()
            try:
                child.send(needs.reply(line))
            except Unusable as error:
                child.end(f"{ANSWER}: {error}")
                break
            child.deadline += time.monotonic() - start  # making the images is not its time
        why = "" if done else child.why()
    log = escape_control(child.errors.decode("utf-8", "replace"))
    if why:
        return dead(why, log)
    try:
        facts = checked(folder / "facts.json")
        logits, sketches = arrays(folder, facts, needs, LIMITS | job.get("limits", {}))
    except Unusable as error:
        return dead(f"{ANSWER}: {error}", log)
    return Measurement(facts, logits, sketches, log)


class Needs:
    """The images that a worker asks for: of networks of its job only, each once."""

    def __init__(self, job: Mapping[str, Any], images: Mapping[str, HiddenImages]) -> None:
        self.job, self.images = job, images
        self.most = (LIMITS | job.get("limits", {}))["pixels"]
        self.given: set[str] = set()
        self.paths: dict[str, Path] = {}  # by network

    def reply(self, line: str) -> str:
        """The line to answer with. Raises Unusable for a question that a worker does not ask."""
        match = MEASURED.fullmatch(line)
        try:
            asked = json.loads(match[1]) if match else None
        except ValueError:
            asked = None
        if not isinstance(asked, dict) or asked.keys() != {"network", "size", "resize"}:
            raise Unusable(f"it said {line[:80]!r}")
        name, size, resize = asked["network"], asked["size"], asked["resize"]
        if not isinstance(name, str) or name not in self.job["networks"] or name in self.given:
            raise Unusable(f"it asked for images of {str(name)[:80]!r}")
        whole = type(size) is int and type(resize) is int
        if not (whole and 0 < size <= self.most and size <= resize <= 2 * self.most):
            raise Unusable(f"it asked for images of {str(size)[:20]} and {str(resize)[:20]} pixels")
        self.given.add(name)
        if name not in self.images:
            return "no images of its kind"
        self.paths[name] = self.images[name].path(size, resize)
        return str(self.paths[name])


def arrays(
    folder: Path, facts: Mapping[str, Any], needs: Needs, limits: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(logits, sketches) by network, each of the shape and type that it must have. Raises Unusable."""
    logits, sketches = {}, {}
    for name, network in facts["networks"].items():
        if name not in needs.job["networks"]:
            raise Unusable(f"it tells of a network {name[:80]!r}")
        if network.get("sketch") is not None:
            sketches[name] = array(folder / f"{name}.sketch.npy", (SKETCH,))
        if network.get("logits") is None or network.get("error") is not None:
            continue
        if name not in needs.given or name not in needs.images:
            raise Unusable(f"it measured {name} without images")
        count, classes = len(needs.images[name]), len(network.get("class_names") or [])
        if not 0 < classes <= limits["classes"]:
            raise Unusable(f"{name} would have {classes} classes")
        rows = array(folder / f"{name}.logits.npy", (count, classes))
        logits[name] = needs.images[name].in_order(rows)
    return logits, sketches


# --- kept by hash ----------------------------------------------------------------------------------------------------


def key_of(
    sha256: str, job: Mapping[str, Any], images: Mapping[str, HiddenImages], limits: Limits | None = None
) -> str:
    """What facts depend on: the submission's bytes, the hidden images, the teacher's backbone, the job, the kit."""
    parts: dict[str, Any] = {name: value for name, value in job.items() if name not in ("source", "folder", "given")}
    given = hashlib.sha256(Path(job["given"]).read_bytes()).hexdigest() if job.get("given") else ""
    parts |= {"submission": sha256, "given": given, "version": mslab.__version__}
    parts |= {"sandbox": vars(limits or Limits())}
    parts |= {"hidden": {name: each.fingerprint for name, each in images.items()}}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def cached(folder: Path, key: str, make: Callable[[], Measurement]) -> Measurement:
    """What is kept under this key, or measured now and kept. A worker's death is not kept: it may be chance."""
    path = Path(folder) / f"{key}.npz"
    if (kept := load(path)) is not None:
        return kept
    made = make()
    if made.died or made.chance:
        return made
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{key}.{os.getpid()}.{threading.get_ident()}.tmp.npz")
    members = {"facts": np.frombuffer(json.dumps(made.facts).encode(), np.uint8)}
    members |= {f"logits {name}": value for name, value in made.logits.items()}
    members |= {f"sketch {name}": value for name, value in made.sketches.items()}
    try:
        np.savez(partial, **members)  # type: ignore[arg-type]
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return made


def load(path: Path) -> Measurement | None:
    """Kept facts, or None where there are none, or the file is damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            held = {name: file[name] for name in file.files}
        facts = json.loads(held.pop("facts").tobytes())
        Answer.model_validate(facts)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    logits = {name.removeprefix("logits "): value for name, value in held.items() if name.startswith("logits ")}
    sketches = {name.removeprefix("sketch "): value for name, value in held.items() if name.startswith("sketch ")}
    return Measurement(facts, logits, sketches)
