"""Read any file of weights into a Checkpoint: its tensors, the dialect of their names, and the network they fit."""

import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mslab.checkpoint import dialects, pth, readers, sharing
from mslab.checkpoint.dialects import HEAD, HEADS
from mslab.checkpoint.loading import compare
from mslab.checkpoint.writing import ENTRY
from mslab.config import Profile, Stage, Triple
from mslab.errors import CheckpointError
from mslab.escaping import quoted
from mslab.files import FormatError, parse_json, read_bytes

SUFFIXES = (".ckpt", ".safetensors", ".pth", ".onnx")
MAX_INFO = 200_000  # values of the `mslab` entry
# errors from damaged bytes: our readers raise ValueError, the standard library the others too; the rest are our bugs
DAMAGE: tuple[type[Exception], ...] = (ValueError, EOFError, MemoryError, OverflowError, RecursionError, struct.error)
DAMAGE += (zipfile.BadZipFile, NotImplementedError)  # the last: a zip of a newer version


class Info(BaseModel):
    """The `mslab` entry, with the types that mslab relies on."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)
    class_names: list[str] | None = None
    image_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    resize_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    mean: Triple | None = None
    std: Triple | None = None
    stages: Annotated[list[Stage], Field(min_length=1, max_length=16)] | None = None
    profile: Profile | None = None
    epoch: Annotated[int, Field(ge=0)] | None = None


def info_of(text: str) -> dict[str, Any]:
    """Parse the `mslab` entry. Raises ValueError if mslab cannot have written it."""
    info = parse_json(text, MAX_INFO)
    if not isinstance(info, dict):
        raise ValueError(f"its entry {ENTRY!r} is not a table")
    try:
        Info(**info)
    except ValidationError as error:
        key = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise ValueError(f"its entry {ENTRY!r} has an invalid value of {key}") from None
    return {key: value for key, value in info.items() if value is not None or key == "resize_size"}


@dataclass
class Checkpoint:
    """The content of a file of weights. `info` is its `mslab` entry, {} if another program wrote it."""

    path: Path
    tensors: dict[str, np.ndarray]  # under the file's own names
    info: dict[str, Any] = field(default_factory=dict)
    dialect: dialects.Dialect = dialects.DIALECTS[-1]
    backbone: dict[str, np.ndarray] = field(default_factory=dict)  # under mslab's names, like head
    head: dict[str, np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what was left out

    @property
    def class_names(self) -> list[str]:
        """Classes of the head, in index order; "0", "1", … if the file does not name them; [] without a head."""
        recorded = self.info.get("class_names")
        return list(recorded) if recorded and self.head else [str(index) for index in range(self.outputs)]

    @property
    def outputs(self) -> int:
        """Rows of the head; 0 without one."""
        return next(iter(self.head.get(f"{HEAD}weight", np.empty(0)).shape), 0)

    @property
    def hidden(self) -> int:
        """Width of the head's layer before the last; 0 without one."""
        return next(iter(self.head.get("hidden.weight", np.empty(0)).shape), 0)

    @cached_property
    def stages(self) -> list[list[int]]:
        """The network's stage table, recorded or derived from names and shapes. Raises CheckpointError."""
        table = self.info.get("stages") or dialects.stages_of(self.backbone)
        if not table:
            examples = ", ".join(name[:100] for name in list(self.tensors)[:4])
            raise CheckpointError(
                f"{self.path} does not contain a ResNet: it has {len(self.tensors)} tensors, such as {examples}.",
                expected=f"a ResNet with the names of {', '.join(dialects.NAMES)}",
                fix="use best_backbone.ckpt of a mslab run, or a ResNet-18, 34, 50, 101 or 152 of these projects",
            )
        return [list(row) for row in table]

    @cached_property
    def profile(self) -> dict[str, Any]:
        """How the network is built beyond what its names show."""
        recorded = self.info.get("profile")
        return dialects.PROFILE | recorded if recorded else dialects.profile_of(self.backbone, self.dialect)

    def check(self) -> None:
        """Raise CheckpointError unless the tensors are exactly those of its network, with or without a head."""
        title = dialects.title(self.stages, self.profile).removeprefix("a ")
        network = f"{title} ({self.dialect.name}'s names)"
        blocks = sum(row[0] for row in self.stages)
        shapes = dialects.layout(self.stages, self.profile) if blocks <= len(self.tensors) else {}
        if self.head:
            names = self.info.get("class_names")
            rows = len(names) if names else self.outputs
            channels = self.stages[-1][1] * (1 if self.profile["block"] == "basic" else 4)
            if self.hidden:
                shapes |= {"hidden.weight": (self.hidden, channels), "hidden.bias": (self.hidden,)}
            shapes |= {f"{HEAD}weight": (rows, self.hidden or channels), f"{HEAD}bias": (rows,)}
        compare(shapes, self.backbone | self.head, self.path, network)

    def describe(self) -> str:
        """Return a line such as "ResNet-50 of torchvision, 1000 classes; 53 tensors left out (num_batches_tracked)"."""
        classes = f"{self.outputs} classes" if self.head else "without a head"
        origin = "with mslab's names" if self.dialect.name == "mslab" else f"of {self.dialect.name}"
        differs = [f"{key} {value}" for key, value in self.profile.items() if value != dialects.PROFILE[key]]
        parts = [f"{dialects.title(self.stages, self.profile)} {origin}, {classes}"]
        return "; ".join([*parts, *([f"built with {', '.join(differs)}"] if differs else []), *self.notes])


def read(path: str | Path, dialect: str | None = None) -> Checkpoint:
    """Read every tensor of a .ckpt, .safetensors, .pth or .onnx file, and check its type, shape and byte count.

    The content decides the format, not the file's name. `dialect` names the project if parameter names alone do not
    show it. Raises CheckpointError if the file is missing, of another format, truncated or inconsistent.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(
            f"{path} is a folder.",
            expected=f"a file ending in {', '.join(SUFFIXES)}",
            fix=f"is {path / 'checkpoints' / 'best_backbone.ckpt'} the file you mean?",
        )
    if not path.is_file():
        near = sorted(str(p) for p in path.parent.glob("*") if p.suffix in SUFFIXES) if path.parent.is_dir() else []
        raise CheckpointError(
            f"There is no file {path}.",
            expected="a .ckpt, .safetensors, .pth or .onnx file, such as runs/…/checkpoints/best_backbone.ckpt",
            fix=f"one of {', '.join(near[:8])}" if near else "correct the path; mslab train writes such files",
        )
    size = path.stat().st_size
    if not 0 < size <= readers.MAX_BYTES:
        raise _broken(path, "checkpoint", f"it has {size} bytes")
    try:
        content = read_bytes(path, size)
    except (OSError, MemoryError, FormatError) as error:
        memory = f"{size / 2**30:.1f} GiB do not fit into memory"
        reason = memory if isinstance(error, MemoryError) else getattr(error, "strerror", None) or str(error)
        raise CheckpointError(
            f"{path} cannot be read: {reason}.",
            expected="a readable file",
            fix=f"chmod u+r {quoted(path)}    or use a smaller file",
        ) from None
    kind, reader = _kind(path, content)
    try:
        tensors, texts = reader(content)
        info = info_of(texts.get(ENTRY, "{}"))
        if not tensors:
            raise ValueError("it contains no tensors")
        tensors = sharing.complete(path, tensors, info, read)
        if kind == "ONNX file" and not any(name.endswith("running_var") for name in tensors):
            raise ValueError("its BatchNorm was merged into the convolutions, which cannot be undone")
        source = next((d for d in dialects.DIALECTS if d.name == dialect), None) or dialects.detect(tensors, info)
        renamed, notes = dialects.translate(tensors, source)
    except DAMAGE as error:
        raise _broken(path, kind, str(error) or type(error).__name__) from None
    head = {name: value for name, value in renamed.items() if name.startswith(HEADS)}
    backbone = {name: value for name, value in renamed.items() if name not in head}
    return Checkpoint(path, tensors, info, source, backbone, head, notes)


def _kind(path: Path, content: bytes) -> tuple[str, Callable[[Any], readers.TensorsAndTexts]]:
    """Return the format of the content and its reader. Raises CheckpointError if no reader is safe for it."""
    header = int.from_bytes(content[:8], "little")
    if content[8:9] == b"{" and header <= len(content):
        return "safetensors file", lambda data: readers.read_safetensors(memoryview(data))
    if content[:2] == b"PK":
        return "PyTorch file", pth.read_pth
    if content[:1] == b"\x08":
        return "ONNX file", lambda data: readers.read_onnx(memoryview(data))
    if content[:1] == b"\x80":
        raise CheckpointError(
            f"{path} is a bare pickle, as PyTorch before 1.6 wrote them: reading it could run code from the file.",
            expected=f"tensors in a file ending in {', '.join(SUFFIXES)}",
            fix="in PyTorch: torch.save(torch.load(FILE, weights_only=True), NEW), or safetensors.torch.save_file",
        )
    return "MindSpore checkpoint", lambda data: readers.read_ckpt(memoryview(data))


def _broken(path: Path, kind: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is not a complete {kind}: {reason if len(reason) < 400 else reason[:400] + '…'}.",
        expected=f"weights in a file ending in {', '.join(SUFFIXES)}, as mslab, MindSpore and others write them",
        fix="copy it again, or use another file; mslab writes such files under runs/…/checkpoints/",
    )
