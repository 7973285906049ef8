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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

import mslab
from mslab.check import DatasetReport
from mslab.grade.contents import short
from mslab.grade.sandbox import ALONE, STOPPED, Child, Limits, boxed
from mslab.grade.worker import FACTS_BYTES, LIMITS, SKETCH
from mslab.runtime.console import escape_control

START = f"{ALONE}from mslab.grade.worker import main\nmain()\n"
MEASURED = re.compile(r"need (\{.{1,200}\})")
ANSWER = "the worker's answer cannot be used"
IMAGES_BYTES = 8 << 30  # of one hidden set at all sizes


# --- images ----------------------------------------------------------------------------------------------------------


class HiddenImages:
    """The images of one split of a checked data set, as pixels without labels, in an order that tells nothing."""

    def __init__(self, report: DatasetReport, split: str, folder: Path) -> None:
        from mslab.data import sources

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
        from mslab.data import batching
        from mslab.evaluation import gradcam

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


# --- facts -----------------------------------------------------------------------------------------------------------

Text = Annotated[str, Field(max_length=2000)]
Count = Annotated[int, Field(ge=0, le=2**62)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Entry(Strict):
    """What is told of one thing: all of `NEEDS`, or what is wrong with it."""

    NEEDS: ClassVar[tuple[str, ...]] = ()
    error: Text | None = None

    @model_validator(mode="after")
    def whole(self) -> "Entry":
        if "error" in self.model_fields_set and self.error is None:
            raise ValueError("an error that says nothing")
        if self.error is None and any(getattr(self, name) is None for name in self.NEEDS):
            raise ValueError("neither found nor wrong")
        return self


class Read(Entry):
    """A JSON file."""

    values: Any = None

    @model_validator(mode="after")
    def told(self) -> "Read":
        if self.error is None and "values" not in self.model_fields_set:
            raise ValueError("no values")
        return self


class Settings(Entry):
    NEEDS = ("values",)
    values: dict[str, Any] | None = None


class History(Entry):
    NEEDS = ("rows", "digest")
    rows: Count | None = None
    digest: Digest | None = None
    last: dict[str, float | None] | None = None


class Predictions(Entry):
    NEEDS = ("rows",)
    rows: dict[Text, Text] | None = None


class Network(Entry):
    NEEDS = ("class_names", "weights", "tensors", "sketch")
    file: Text
    class_names: Annotated[list[Text], Field(max_length=100_000)] | None = None
    image_size: Count | None = None
    weights: Count | None = None
    stages: list[list[Count]] | None = None
    tensors: dict[Text, Digest] | None = None
    logits: Text | None = None
    sketch: Text | None = None


class Relation(Entry):
    NEEDS = ("tensors", "equal", "cosine")
    tensors: Count | None = None
    equal: Count | None = None
    cosine: Annotated[float, Field(ge=-1, le=1)] | None = None


class Answer(Strict):
    """facts.json, as a worker may have written it."""

    schema_: Annotated[int, Field(alias="schema", ge=1, le=1)]
    top: Text = ""
    files: dict[Text, Count]
    problems: Annotated[list[Text], Field(max_length=100)]
    configs: dict[Text, Settings]
    json_: Annotated[dict[Text, Read], Field(alias="json")]
    histories: dict[Text, History]
    predictions: dict[Text, Predictions]
    networks: dict[Text, Network]
    relations: dict[Text, Relation]
    sandbox: Annotated[list[Text], Field(max_length=20)]


@dataclass
class Facts:
    """What came of one submission."""

    facts: dict[str, Any]
    logits: dict[str, np.ndarray] = field(default_factory=dict)  # float32 (n, class_num), rows as HiddenImages.labels
    sketches: dict[str, np.ndarray] = field(default_factory=dict)  # float32 (4096,)
    log: str = ""  # the end of what the worker said on standard error, for the teacher
    died: bool = False  # it gave no answer that can be used
    chance: bool = False  # a student's code gave none: it may be chance, and is not kept


class Unusable(Exception):
    """An answer that cannot be used: what is wrong with it."""


def dead(why: str, log: str = "") -> Facts:
    """The facts of a submission whose worker gave no answer."""
    sections = ("files", "configs", "json", "histories", "predictions", "networks", "relations")
    empty: dict[str, Any] = {"schema": 1, "top": "", "sandbox": []} | {name: {} for name in sections}
    return Facts(empty | {"problems": [f"the submission could not be read: {why}"]}, log=log, died=True)


def measure(
    job: Mapping[str, Any], images: Mapping[str, HiddenImages], limits: Limits | None = None, core: int | None = None
) -> Facts:
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
        for each, path in needs.told:
            each.release(path)
    return found


def program() -> list[str]:
    """The worker's command."""
    places = [entry for entry in sys.path if entry and Path(entry).is_absolute()]
    return [sys.executable, "-I", "-c", START, *places, str(Path(mslab.__file__).parents[1])]


def run_code(name: str, told: Mapping[str, Any], needs: "Needs", found: Facts, limits: Limits) -> None:
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
        child.tell(json.dumps(own))
        last = ""
        for line in child.lines():
            if held is None:
                held = json.loads(line.removeprefix("held "))  # the worker's own: no code of the student's has run
                continue
            last = line
            break
        if not last:
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


def asked(job: Mapping[str, Any], told: Mapping[str, Any], needs: "Needs", folder: Path, limits: Limits) -> Facts:
    """What an ordinary worker finds: no line of a student's code runs in it."""
    with Child(program(), folder, limits) as child:
        child.tell(json.dumps(told))
        done = False
        for line in child.lines():
            if done := line == "done":
                break
            start = time.monotonic()
            try:
                child.tell(needs.reply(line))
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
    return Facts(facts, logits, sketches, log)


class Needs:
    """The images that a worker asks for: of networks of its job only, each once."""

    def __init__(self, job: Mapping[str, Any], images: Mapping[str, HiddenImages]) -> None:
        self.job, self.images = job, images
        self.most = (LIMITS | job.get("limits", {}))["pixels"]
        self.given: set[str] = set()
        self.told: list[tuple[HiddenImages, Path]] = []
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
        if (
            type(size) is not int
            or type(resize) is not int
            or not (0 < size <= self.most and size <= resize <= 2 * self.most)
        ):
            raise Unusable(f"it asked for images of {str(size)[:20]} and {str(resize)[:20]} pixels")
        self.given.add(name)
        if name not in self.images:
            return "no images of its kind"
        self.paths[name] = self.images[name].path(size, resize)
        self.told.append((self.images[name], self.paths[name]))
        return str(self.paths[name])


def checked(path: Path) -> dict[str, Any]:
    """facts.json, of the right size and kinds. Raises Unusable."""
    content = bounded(path, FACTS_BYTES)
    try:
        facts = json.loads(content)
        # neither NaN nor half a character: either would stop whoever writes the grades later
        json.dumps(facts, allow_nan=False, ensure_ascii=False).encode()
        Answer.model_validate(facts)
    except ValidationError as error:
        place = ".".join(str(part)[:40] for part in error.errors(include_input=False)[0]["loc"])
        raise Unusable(f"facts.json has another {place[:200]} than a worker writes") from None
    except (ValueError, RecursionError):
        raise Unusable("facts.json is no JSON") from None
    return facts  # type: ignore[no-any-return]


def bounded(path: Path, most: int) -> bytes:
    """A file's bytes, if it is a file and not too long. Raises Unusable."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise Unusable(f"{path.name}: {error.strerror}") from None
    if len(content) > most:
        raise Unusable(f"{path.name} has more than {most:,} bytes")
    return content


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


def array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """A float32 array of this shape and of finite numbers, from a .npy that the worker wrote. Raises Unusable."""
    import io

    content = bounded(path, 4 * int(np.prod(shape)) + 4096)
    try:
        values = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, MemoryError, OverflowError):
        raise Unusable(f"{path.name} is no array") from None
    if not isinstance(values, np.ndarray) or values.shape != shape or values.dtype != np.float32:
        raise Unusable(f"{path.name} is no float32 array of {shape}")
    if not np.isfinite(values).all():
        raise Unusable(f"{path.name} has numbers that are none")
    return values


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


def cached(folder: Path, key: str, make: Callable[[], Facts]) -> Facts:
    """Facts that are kept under this key, or made now and kept. A worker's death is not kept: it may be chance."""
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


def load(path: Path) -> Facts | None:
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
    return Facts(facts, logits, sketches)
