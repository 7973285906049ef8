"""manifest.json: inputs, environment and results of a run; its schema, and migration of older ones.

`python -m mslab.runs.manifest` writes manifest.schema.json, the JSON schema of version SCHEMA.
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
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mslab import files
from mslab.check import DatasetReport, cores
from mslab.check.records import printable
from mslab.errors import RunError
from mslab.escaping import command, quoted
from mslab.runtime import compiling
from mslab.runtime.versions import first_group, read_text

SCHEMA = 2
AT_START = {"config.yaml", "images.csv"}  # artifacts that the manifest lists from the start
FILE = Path(__file__).with_name("manifest.schema.json")
# environment variables that change MindSpore's results, or the libraries it uses
VARIABLES = (  # oneDNN 2.2, in MindSpore 2.8, reads DNNL_…, oneDNN 3 reads both
    *(f"{a}_{b}" for a in ("ONEDNN", "DNNL") for b in ("MAX_CPU_ISA", "CPU_ISA_HINTS", "DEFAULT_FPMATH_MODE")),
    *("OMP_NUM_THREADS", "MS_COMPILER_CACHE_ENABLE"),
    *("HCCL_DETERMINISTIC", "TE_PARALLEL_COMPILER", "CUDA_HOME", "ASCEND_HOME_PATH"),
)
INSTRUCTION_SETS = {"avx512f": "avx512", "avx2": "avx2", "avx": "avx", "asimd": "neon"}  # CPU flag: name, widest first
REMAINS = {
    "cpu": "nothing, on a CPU with the same instruction set, number of cores and BatchNorm, the same versions and "
    "data_workers; dropout draws other random numbers after a resume",
    "on": "deterministic mode is on: operators that MindSpore covers repeat on the same device and driver",
    "off": "operators that add in another order each time may change last bits; deterministic: true selects "
    "MindSpore's operators that do not",
}
Hash = Field(pattern=r"^[0-9a-f]{64}$")
Artifact = Annotated[
    str, Field(pattern=r"^[\w+-][\w.+-]*(/[\w+-][\w.+-]*)?$")
]  # a file of the run, never one elsewhere


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class Processor(Section):
    model: str
    instruction_set: str = Field(description="the widest of the CPU: avx512, avx2, neon …")
    cores: int = Field(description="number of cores that this process may use")
    batch_norm: Literal["compiled", "mindspore"] = Field("mindspore", description="of GRAPH mode on a CPU")


class Environment(Section):
    """Software and hardware of a run."""

    python: str
    platform: str
    packages: dict[str, str] = Field(description="every installed distribution and its version")
    cpu: Processor
    device: str = Field(description="cpu, gpu or ascend; empty until it is started")
    driver: str = Field(description="driver version of the device; empty for a CPU")
    guards: dict[str, str] = Field(description="environment variables that were set and change results")


class Git(Section):
    commit: str
    dirty: bool


class Data(Section):
    fingerprint: str = Hash
    counts: dict[str, dict[str, int]] = Field(description="images of each class of each split")
    skip_check: bool
    classes: dict[str, dict[str, str]] = Field(
        description="a digest of each class of each split; images.csv lists images"
    )
    ignored: list[str] = Field([], description="names of files and folders that were left out")
    follow_links: bool = Field(False, description="whether links out of the data set were followed")


class Origin(Section):
    """The run that wrote a parent checkpoint, according to its own manifest."""

    path: str
    kind: str
    command: str
    seed: int
    fingerprint: str
    class_names: list[str]
    parent: "Parent | None"


class Parent(Section):
    """The checkpoint that a run started from."""

    file: str
    sha256: str = Hash
    only: str | None = Field(description="regular expression of the option --only")
    dialect: str = Field("", description="the option --dialect, if it was given")
    weights: str = Field("", description="the option --weights, if it was given")
    network: str = Field("", description="the network of mindcv whose file it is, if the config set it")
    published: str = Field("", description="the name that mslab weights has for this file, if its hash is that one's")
    run: Origin | None = Field(description="null if no run's manifest lists the file")


class Determinism(Section):
    bit_identical: bool = Field(description="whether the same run gives the same bytes in the same environment")
    remains: str


class Resumed(Section):
    epoch: int = Field(description="number of epochs completed before the resume")
    start: str
    environment: Environment | None = Field(description="null if it is unchanged since the start of the run")
    changed: dict[str, list[Any]] = Field({}, description="settings with another value from here on: old and new")


class Saved(Section):
    """The first last.ckpt that the run, or its last resume, has written or begun with."""

    epoch: int
    history: str = Field(pattern=r"^[0-9a-f]{64}$", description="sha256 of history.csv up to that epoch")


class Reproduces(Section):
    run: str
    manifest_sha256: str = Hash


class Warned(Section):
    code: str
    epoch: int
    text: str


class Rollback(Section):
    epoch: int
    why: str


class Half(Section):
    """The float16 weights that mslab pack --half wrote instead of best.ckpt's."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the file in the pack; artifacts has the run's own")
    accuracy: float | None = Field(description="of these weights on val_data; null if the images were not there")
    difference: float | None = Field(description="that accuracy minus the one of the run's eval.json")
    float32: dict[str, str] = Field(description="tensors that stay float32, each with the reason")
    backbone: str | None = Field(description="the file of the pack with the backbone; null if this file has it")


class Computed(Section):
    """What ran a network, if not MindSpore itself in training."""

    engine: str
    version: str
    precision: str


class Metrics(Section):
    model_config = ConfigDict(extra="allow", strict=True)
    __pydantic_extra__: dict[str, float | None] = Field(init=False)
    constant: dict[str, float | None] | None = Field(None, description="figures of the same answer for every image")


class Manifest(Section):
    """manifest.json of a mslab run."""

    schema_: Literal[2] = Field(alias="schema")
    command: str
    kind: Literal["train", "transfer", "incremental"]
    versions: dict[str, str]
    git: Git | None = Field(description="commit of the mslab that ran; null if it was not a git checkout")
    code: str | None = Field(description="a digest of mslab's source files; null in runs older than this field")
    environment: Environment | None = Field(description="null in runs older than this field")
    determinism: Determinism | None
    device: str | None
    seed: int
    settings: dict[str, Any] | None = Field(
        None, description="those of config.yaml as the run began or was resumed; null in runs older than this field"
    )
    data: Data
    class_names: list[str] = Field(description="in index order")
    parent: Parent | None
    reproduces: Reproduces | None
    epoch_images: int | None = Field(description="training images per epoch, if not exactly all of them")
    workers: int
    start: str
    end: str | None
    resumed: list[Resumed]
    saved: Saved | None = Field(None, description="null before the first last.ckpt, and in runs older than this field")
    status: Literal["running", "done", "paused", "interrupted", "failed"]
    exit_status: int | None
    ended_by: str | None = Field(description="reason why the run stopped before its last epoch")
    rollbacks: list[Rollback]
    warnings: list[Warned]
    metrics: Metrics
    artifacts: dict[Artifact, str] = Field(description="sha256 of each file with results")
    features: bool = Field(False, description="whether a frozen backbone's features were computed once")
    features_engine: Computed | None = Field(
        None, description="what computed them; null without them, and in runs older than this field"
    )
    half: Half | None = Field(None, description="only in packs of mslab pack --half")


def validated(content: Any, path: Path) -> dict[str, Any]:
    """Validate a manifest of any version and return it in the current one. Raises RunError that lists its problems."""
    version = content.get("schema") if isinstance(content, dict) else None
    if type(version) is int and version > SCHEMA:
        raise RunError(
            f"{path} has schema {version}, written by a newer mslab.",
            expected=f"schema {SCHEMA} or older",
            fix="update mslab",
        )
    try:
        content = migrated(content)
        Manifest.model_validate(content)
    except ValidationError as error:
        rows = [(".".join(map(str, item["loc"])), item["msg"]) for item in error.errors()[:5]]
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        rows = [("problem", repr(error)[:200])]
    else:
        return content  # type: ignore[no-any-return]
    raise RunError(
        f"{path} is not the manifest of a run.",
        details=rows,
        expected="the file that mslab wrote (mslab/runs/manifest.schema.json)",
        fix=lost(path.parent, path.name),
    )


def migrated(content: dict[str, Any]) -> dict[str, Any]:
    """Migrate schema 1 to 2, and an older 2: facts that they did not record are null or empty."""
    if content["schema"] != 1:
        return {"settings": None, "saved": None} | content
    new: dict[str, Any] = {"code": None, "environment": None, "determinism": None, "reproduces": None, "resumed": []}
    new |= {
        "settings": None,
        "saved": None,
        "ended_by": None,
        "rollbacks": [],
        "warnings": [],
        "epoch_images": None,
        "workers": 1,
    }
    content = new | content | {"schema": 2, "data": {"skip_check": False, "classes": {}} | content["data"]}
    if content["parent"]:
        content["parent"] = {"only": None, "run": None} | content["parent"]
    return content


# --- recording -------------------------------------------------------------------------------------------------------


def environment(device: str = "") -> dict[str, Any]:
    """Describe the present environment; `device` is the one that was started."""
    packages = dict(map(name_and_version, metadata.distributions()))
    info = read_text(Path("/proc/cpuinfo"))
    flags = first_group(r"(?m)^(?:flags|Features)\s*: (.*)", info).split()
    widest = next((name for flag, name in INSTRUCTION_SETS.items() if flag in flags), platform.machine())
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": dict(sorted(packages.items())),
        "cpu": {
            "model": first_group(r"model name\s*: (.*)", info) or platform.machine(),
            "instruction_set": widest,
            "cores": cores(),
            "batch_norm": "compiled" if compiling.library().file else "mindspore",
        },
        "device": device,
        "driver": driver(device),
        "guards": {name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def name_and_version(package: metadata.Distribution) -> tuple[str, str]:
    """Return a package's name in small letters and its version.

    Not by package.metadata, which reads and parses the whole file, a long description included, for each of them.
    """
    header = (package.read_text("METADATA") or package.read_text("PKG-INFO") or "").partition("\n\n")[0]
    return first_group(r"(?m)^Name: *(.*)", header).lower(), first_group(r"(?m)^Version: *(.*)", header)


def code() -> str:
    """Return 16 hex digits over mslab's source files: equal if the same code runs, independent of git."""
    digest = hashlib.sha256()
    package = Path(__file__).parents[1]
    for file in sorted([*package.rglob("*.py"), *package.rglob("*.c")]):
        digest.update(f"{file.relative_to(package).as_posix()}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def driver(device: str) -> str:
    if device == "gpu":
        return first_group(r"(\d+\.\d+[\d.]*)", read_text(Path("/proc/driver/nvidia/version")))
    text = read_text(Path("/usr/local/Ascend/driver/version.info")) if device == "ascend" else ""
    return first_group(r"(?m)^Version=(.*)", text)


def determinism(device: str, deterministic: bool) -> dict[str, Any]:
    remains = REMAINS["cpu" if device == "cpu" else "on" if deterministic else "off"]
    return {"bit_identical": device == "cpu", "remains": remains}


def image_rows(report: DatasetReport) -> Iterator[tuple[str, str, str]]:
    """Yield (split, CLASS/FILE, sha256 of the file) of every image, sorted; images of a pack have no sha256."""
    for name, split in report.splits.items():
        for image in sorted(split.pictures, key=lambda image: image.name):
            yield name, printable(image.name), image.sha256.hex()


def images_csv(report: DatasetReport) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([("split", "image", "sha256"), *image_rows(report)])
    return text.getvalue()


def class_digests(report: DatasetReport) -> dict[str, dict[str, str]]:
    """Return {split: {class: 16 hex digits over its images' names and contents}}."""
    digests: dict[str, dict[str, Any]] = {}
    for split, image, sha256 in image_rows(report):
        digest = digests.setdefault(split, {}).setdefault(image.split("/", 1)[0], hashlib.sha256())
        digest.update(f"{image}\0{sha256}\n".encode())
    return {split: {name: d.hexdigest()[:16] for name, d in classes.items()} for split, classes in digests.items()}


def parent(file: Path, include_pattern: str | None) -> dict[str, Any]:
    """Return the manifest entry of a run that starts from this checkpoint, with the runs before it."""
    digest = files.sha256(file)
    return {"file": str(file), "sha256": digest, "only": include_pattern, "run": origin(file, digest)}


def origin(file: Path, digest: str) -> dict[str, Any] | None:
    """Return the run whose manifest lists exactly this file, or None."""
    run = file.parent.parent
    try:
        content = load(run)
    except RunError:
        return None
    if content["artifacts"].get(f"{file.parent.name}/{file.name}") != digest:
        return None
    facts = {key: content[key] for key in ("kind", "command", "seed", "class_names", "parent")}
    return facts | {"path": str(run), "fingerprint": content["data"]["fingerprint"]}


def load(run: Path) -> dict[str, Any]:
    """Read a run folder's manifest. Raises RunError if it cannot be read."""
    path = run / "manifest.json"
    try:
        content = files.read_json(path)
    except OSError as error:
        fix = f"chmod u+r {quoted(path)}" if isinstance(error, PermissionError) else lost(run, path.name)
        raise RunError(f"{path} cannot be read: {error.strerror}.", expected="a run's manifest", fix=fix) from None
    except ValueError as error:
        rows, fix = [("problem", str(error))], lost(run, path.name)
        raise RunError(f"{path} is not JSON.", details=rows, expected="the file that mslab wrote", fix=fix) from None
    return validated(content, path)


def lost(run: Path, *names: str) -> str:
    """What to do about files of a run that are lost: put them back, or begin a new run with what is left."""
    # lost(Path("runs/x"), "history.csv") -> "put back history.csv, from a copy of the run; or begin a new run …"
    *others, last = names
    text = f"put back {', '.join(others)} and {last}" if others else f"put back {last}"
    config: str | Path = "CONFIG" if "config.yaml" in names else run / "config.yaml"
    networks = {name: run / "checkpoints" / f"{name}.ckpt" for name in ("best", "last")}
    left = [name for name, file in networks.items() if f"checkpoints/{file.name}" not in names and file.is_file()]
    begin = command("train", config, "--from", networks[left[0]]) if left else command("train", config)
    with_it = f" with its {left[0]} network" if left else ""
    return f"{text}, from a copy of the run; or begin a new run{with_it}:\n{begin}"


def is_pack(run: Path) -> bool:
    """Whether this is a run as mslab pack stores it: without folders inside."""
    return (run / "best.ckpt").is_file() and not (run / "checkpoints").exists()


def file_of(run: Path, name: str) -> Path:
    """A file of a run folder or of a pack."""
    return run / name.rpartition("/")[2] if is_pack(run) else run / name


def schema() -> str:
    """Return the text of manifest.schema.json."""
    head: Mapping[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps({**head, **Manifest.model_json_schema(by_alias=True)}, indent=1) + "\n"


if __name__ == "__main__":
    FILE.write_text(schema(), encoding="utf-8")
