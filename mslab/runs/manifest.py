"""manifest.json: what a run was made from, with what, and what it left; its schema, older ones, and whether it holds.

`python -m mslab.runs.manifest` writes manifest.schema.json, which belongs to SCHEMA.
"""

import csv
import hashlib
import io
import json
import os
import platform
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mslab import checkpoint
from mslab.check import DatasetReport, cores
from mslab.check.records import printable
from mslab.errors import RunError
from mslab.runtime.versions import found, read

SCHEMA = 2
FILE = Path(__file__).with_name("manifest.schema.json")
# what changes what MindSpore computes, or with what
VARIABLES = (
    *("ONEDNN_MAX_CPU_ISA", "OMP_NUM_THREADS", "MS_COMPILER_CACHE_ENABLE"),
    *("HCCL_DETERMINISTIC", "TE_PARALLEL_COMPILER", "CUDA_HOME", "ASCEND_HOME_PATH"),
)
SETS = {"avx512f": "avx512", "avx2": "avx2", "avx": "avx", "asimd": "neon"}  # flag -> the widest set that it means
REMAINS = {
    "cpu": "nothing, on a CPU with the same instruction set and number of cores, the same versions and data_workers; "
    "dropout draws anew after a resume",
    "on": "deterministic mode is on: what MindSpore covers repeats on the same device and driver",
    "off": "operators that add in another order each time may change last bits; deterministic: true switches on what "
    "MindSpore has against it",
}
Hash = Field(pattern=r"^[0-9a-f]{64}$")


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Processor(Part):
    model: str
    instruction_set: str = Field(description="the widest that the CPU has: avx512, avx2, neon …")
    cores: int = Field(description="that this process may use")


class Environment(Part):
    """With what a run was made."""

    python: str
    platform: str
    packages: dict[str, str] = Field(description="every installed distribution and its version")
    cpu: Processor
    device: str = Field(description="cpu, gpu or ascend; empty until it was started")
    driver: str = Field(description="of the device; empty for a CPU")
    guards: dict[str, str] = Field(description="environment variables in force that change what is computed")


class Git(Part):
    commit: str
    dirty: bool


class Data(Part):
    fingerprint: str = Hash
    counts: dict[str, dict[str, int]] = Field(description="images of each class of each split")
    skip_check: bool
    classes: dict[str, dict[str, str]] = Field(description="a digest of each class of each split; images.csv has all")


class Origin(Part):
    """The run that left a parent checkpoint, as its own manifest tells."""

    path: str
    kind: str
    command: str
    seed: int
    fingerprint: str
    class_names: list[str]
    parent: "Parent | None"


class Parent(Part):
    """The checkpoint that a run began from."""

    file: str
    sha256: str = Hash
    only: str | None = Field(description="--only's regular expression")
    run: Origin | None = Field(description="null where the file is none that a run's manifest lists")


class Determinism(Part):
    bit_identical: bool = Field(description="whether the same run gives the same bytes in the same environment")
    remains: str


class Resumed(Part):
    epoch: int = Field(description="completed epochs, after which it went on")
    start: str
    environment: Environment | None = Field(description="null where it is the one that the run began in")


class Reproduces(Part):
    run: str
    manifest_sha256: str = Hash


class Warned(Part):
    code: str
    epoch: int
    text: str


class Rollback(Part):
    epoch: int
    why: str


class Manifest(Part):
    """manifest.json of a mslab run."""

    schema_: Literal[2] = Field(alias="schema")
    command: str
    kind: Literal["train", "transfer", "incremental"]
    versions: dict[str, str]
    git: Git | None = Field(description="commit of the mslab that ran; null where it was no checkout")
    code: str | None = Field(description="a digest of mslab's own source files; null in runs that are older than it")
    environment: Environment | None = Field(description="null in runs that are older than it")
    determinism: Determinism | None
    device: str | None
    seed: int
    data: Data
    class_names: list[str] = Field(description="in index order")
    parent: Parent | None
    reproduces: Reproduces | None
    epoch_images: int | None = Field(description="training images an epoch, where that is not all of them once")
    workers: int
    start: str
    end: str | None
    resumed: list[Resumed]
    status: Literal["running", "done", "paused", "interrupted", "failed"]
    exit_status: int | None
    ended_by: str | None = Field(description="why it ended before its last epoch")
    rollbacks: list[Rollback]
    warnings: list[Warned]
    metrics: dict[str, float | None]
    artifacts: dict[str, str] = Field(description="sha256 of each file that holds results")
    features: bool = Field(False, description="whether a frozen backbone's features were computed once")


def validated(content: Any, path: Path) -> dict[str, Any]:
    """A manifest of any version, as one of this version. Raises RunError that lists what is wrong with it."""
    version = content.get("schema") if isinstance(content, dict) else None
    if type(version) is int and version > SCHEMA:
        raise RunError(
            f"{path} has schema {version}, made by a newer mslab.",
            expected=f"schema {SCHEMA} or older",
            fix="update mslab",
        )
    try:
        content = migrated(content)
        Manifest.model_validate(content)
    except ValidationError as error:
        rows = [(".".join(map(str, item["loc"])), item["msg"]) for item in error.errors()[:5]]
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        rows = [("what", repr(error)[:200])]
    else:
        return content  # type: ignore[no-any-return]
    raise RunError(
        f"{path} is no manifest of a run.",
        details=rows,
        expected="the file that mslab wrote (mslab/runs/manifest.schema.json)",
        fix="restore it",
    )


def migrated(content: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 -> 2: what was not recorded then is null or empty."""
    if content["schema"] != 1:
        return content
    new: dict[str, Any] = {"code": None, "environment": None, "determinism": None, "reproduces": None, "resumed": []}
    new |= {"ended_by": None, "rollbacks": [], "warnings": [], "epoch_images": None, "workers": 1}
    content = new | content | {"schema": 2, "data": {"skip_check": False, "classes": {}} | content["data"]}
    if content["parent"]:
        content["parent"] = {"only": None, "run": None} | content["parent"]
    return content


# --- what is recorded ------------------------------------------------------------------------------------------------


def environment(device: str = "") -> dict[str, Any]:
    """The present one; `device` as it was started."""
    packages = {str(found.metadata["Name"]).lower(): found.version for found in metadata.distributions()}
    info = read(Path("/proc/cpuinfo"))
    flags = set((found(r"(?m)^(?:flags|Features)\s*: (.*)", info)).split())
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": dict(sorted(packages.items())),
        "cpu": {
            "model": found(r"model name\s*: (.*)", info) or platform.machine(),
            "instruction_set": next((name for flag, name in SETS.items() if flag in flags), platform.machine()),
            "cores": cores(),
        },
        "device": device,
        "driver": driver(device),
        "guards": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def code() -> str:
    """16 hex digits over mslab's own source files: equal where the same code runs, whatever git says."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for file in sorted(package.rglob("*.py")):
        digest.update(f"{file.relative_to(package).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def driver(device: str) -> str:
    if device == "gpu":
        return found(r"(\d+\.\d+[\d.]*)", read(Path("/proc/driver/nvidia/version")))
    return (
        found(r"(?m)^Version=(.*)", read(Path("/usr/local/Ascend/driver/version.info"))) if device == "ascend" else ""
    )


def determinism(device: str, deterministic: bool) -> dict[str, Any]:
    remains = REMAINS["cpu" if device == "cpu" else "on" if deterministic else "off"]
    return {"bit_identical": device == "cpu", "remains": remains}


def image_rows(report: DatasetReport) -> Iterator[tuple[str, str, str]]:
    """(split, CLASS/FILE, sha256 of the file) of every image, sorted; of a pack's rows there is no sha256."""
    for name, split in report.splits.items():
        for picture in sorted(split.pictures, key=lambda picture: picture.name):
            yield name, printable(picture.name), picture.sha256.hex()


def images_csv(report: DatasetReport) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("split", "image", "sha256"), *image_rows(report)])
    return text.getvalue()


def class_digests(report: DatasetReport) -> dict[str, dict[str, str]]:
    """{split: {class: 16 hex digits over its images' names and contents}}."""
    digests: dict[str, dict[str, Any]] = {}
    for split, image, sha256 in image_rows(report):
        digest = digests.setdefault(split, {}).setdefault(image.split("/", 1)[0], hashlib.sha256())
        digest.update(f"{image}\0{sha256}\n".encode())
    return {split: {name: d.hexdigest()[:16] for name, d in classes.items()} for split, classes in digests.items()}


def parent(file: Path, only: str | None) -> dict[str, Any]:
    """What a run that begins from this checkpoint records of it, and of the runs before."""
    digest = checkpoint.sha256(file)
    return {"file": str(file), "sha256": digest, "only": only, "run": origin(file, digest)}


def origin(file: Path, digest: str) -> dict[str, Any] | None:
    """The run whose manifest lists this very file, or None."""
    run = file.parent.parent
    try:
        of_run = load(run)
    except RunError:
        return None
    if of_run["artifacts"].get(f"{file.parent.name}/{file.name}") != digest:
        return None
    told = {key: of_run[key] for key in ("kind", "command", "seed", "class_names", "parent")}
    return told | {"path": str(run), "fingerprint": of_run["data"]["fingerprint"]}


def load(run: Path) -> dict[str, Any]:
    """A run folder's manifest. Raises RunError where it cannot be read."""
    path = run / "manifest.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        raise RunError(f"{path} is no JSON.", expected="the file that mslab wrote", fix="restore it") from None
    return validated(content, path)


# --- whether it holds ------------------------------------------------------------------------------------------------


def verify(run: Path) -> list[dict[str, str]]:
    """Each file that the manifest lists, and the parent: {"file", "status", "text"}.

    `status`: same, changed, missing, or left out: a checkpoint that mslab archive does not take. Raises RunError where
    the manifest lists none yet.
    """
    content = load(run)
    if not content["artifacts"]:
        raise RunError(
            f"{run} lists no files yet: its status is {content['status']}.",
            expected="a run that has ended, which notes a sha256 of each file it leaves",
            fix=f"mslab train --resume {run}, or wait until it has ended",
        )
    rows = [held(run / name, name, digest) for name, digest in content["artifacts"].items()]
    above, unpacked = content["parent"], (run / "environment.txt").is_file()  # which archives hold
    for row in rows if unpacked else ():
        if row["status"] == "missing" and row["file"].startswith("checkpoints/"):
            row |= {"status": "left out", "text": "the archive holds no such checkpoint"}
    if above:
        places = [*sorted((run / "parent").glob("*")), Path(above["file"])]  # an archive brings it
        file = next((place for place in places if place.is_file()), Path(above["file"]))
        rows.append(held(file, str(file), above["sha256"], "the checkpoint it began from; "))
    return rows


def held(path: Path, name: str, digest: str, what: str = "") -> dict[str, str]:
    if not path.is_file():
        return {"file": name, "status": "missing", "text": f"{what}not there"}
    now = checkpoint.sha256(path)
    if now == digest:
        return {"file": name, "status": "same", "text": f"{what}sha256 {digest[:12]}…"}
    return {"file": name, "status": "changed", "text": f"{what}sha256 {now[:12]}…, the manifest says {digest[:12]}…"}


def schema() -> str:
    """manifest.schema.json."""
    head: Mapping[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps({**head, **Manifest.model_json_schema(by_alias=True)}, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(schema(), encoding="utf-8")
