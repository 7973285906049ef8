"""Read any file of weights into a Checkpoint: its tensors, the dialect of their names, and the network they fit."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mslab import weights
from mslab.checkpoint import dialects, formats, mindcv_files, pth, selecting, sharing
from mslab.checkpoint.dialects import HEAD, HEADS
from mslab.checkpoint.loading import compare
from mslab.checkpoint.networks import MindcvNetwork, Network, ResNet
from mslab.checkpoint.readers import DAMAGE
from mslab.checkpoint.selecting import TRAINING
from mslab.checkpoint.writing import ENTRY
from mslab.config import IMAGENET, Mean, Profile, Stages, Std, tasks
from mslab.errors import CheckpointError
from mslab.files import parse_json
from mslab.stages import EXPECTED, read_table
from mslab.tasks import layout

MAX_KEYS = 20  # of weights, in a message
STANDARD: dict[str, Any] = {"image_size": 224, "resize_mode": "crop"} | IMAGENET  # for entries that a file lacks
MAX_INFO = 200_000  # values of the `mslab` entry


Pair = Annotated[list[Annotated[int, Field(ge=0, le=1000)]], Field(min_length=2, max_length=2)]


class Options(BaseModel):
    """How boxes are made of a detector's maps: the settings of these names."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)
    box_score_thresh: Annotated[float, Field(ge=0, le=1)] = 0.3
    nms_iou_thresh: Annotated[float, Field(ge=0, le=1)] | None = 0.5
    box_detections_per_img: Annotated[int, Field(ge=1, le=1000)] = 100
    tile_grid_size: Annotated[list[Annotated[int, Field(ge=1, le=20)]], Field(min_length=2, max_length=2)] | None = None
    tile_overlap_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.25
    tile_predictions_nms_thresh: Annotated[float, Field(ge=0, le=1)] = 0.25
    validation_metric_type: Literal["voc", "coco", "coco_voc", "none"] = "voc"
    validation_iou_threshold: Annotated[float, Field(ge=0.1, le=1)] = 0.5


class Info(BaseModel):
    """The `mslab` entry, with the types that mslab relies on."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)
    class_names: list[str] | None = None
    image_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    resize_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    mean: Mean | None = None
    std: Std | None = None
    stages: Stages = None
    profile: Profile | None = None
    network: Annotated[str, Field(pattern=r"^mindcv:\w+$", max_length=100)] | None = None
    folders: dict[str, list[str]] | None = None
    resize_mode: Literal["crop", "pad", "squash"] | None = None
    temperature: Annotated[float, Field(ge=0.01, le=100)] | None = None
    task: Literal["multilabel", "segment", "keypoints", "detect"] | None = None
    options: Options | None = None
    skeleton: list[Pair] | None = None
    thresholds: list[Annotated[float, Field(ge=0, le=1)]] | None = None
    epoch: Annotated[int, Field(ge=0)] | None = None

    @model_validator(mode="after")
    def fits_its_names(self) -> "Info":
        """Raise ValueError if what is said of the task does not fit its names."""
        count = len(self.class_names or ())
        if self.task and not count:
            raise ValueError(f"task: {self.task} has no class_names")
        if self.task == "detect" and self.options is None:
            raise ValueError("task: detect has no options")
        if any(point >= count for pair in self.skeleton or () for point in pair):
            raise ValueError(f"skeleton: a point beyond the {count} of class_names")
        if self.thresholds is not None and len(self.thresholds) != count:
            raise ValueError(f"thresholds: {len(self.thresholds)} for {count} class_names")
        return self


def info_of(text: str) -> dict[str, Any]:
    """Parse the `mslab` entry. Raises ValueError if mslab cannot have written it."""
    info = parse_json(text, MAX_INFO)
    if not isinstance(info, dict):
        raise ValueError(f"its entry {ENTRY!r} is not a table")
    try:
        Info(**info)
    except ValidationError as error:
        first = error.errors()[0]
        key, reason = ".".join(str(part) for part in first["loc"]), first.get("ctx", {}).get("error", "")
        key += f": {reason}" if reason else ""
        raise ValueError(f"its entry {ENTRY!r} has an invalid value of {key}") from None
    if info.get("task") == "detect":  # with those that a file of an older version lacks
        info["options"] = Options(**info["options"]).model_dump()
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
    choices: list[str] = field(default_factory=list)  # where the content leaves a choice: what was taken
    assumed: str = ""  # the same about the dialect, if the names do not show it
    published: weights.Published | None = None  # what the file's project says of it, if it is one of `mslab weights`
    mindcv: str = ""  # the network of mindcv that the file is of, such as mindcv:vit_b_16_224

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
    def task(self) -> str:
        """What the network says of an image; "classify" in all files of others."""
        return str(self.info.get("task", tasks.CLASSIFY)) if self.head else tasks.CLASSIFY

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
        rows, problems = read_table(table)
        if problems:  # names and shapes of another project's file; those of the entry were checked when it was read
            raise CheckpointError(
                f"{self.path} is a ResNet that mslab does not build.",
                details=problems,
                expected=EXPECTED,
                fix="use a smaller network",
            )
        return rows

    @cached_property
    def profile(self) -> dict[str, Any]:
        """How the network is built beyond what its names show."""
        recorded = self.info.get("profile")
        return dialects.PROFILE | recorded if recorded else dialects.profile_of(self.backbone, self.dialect)

    @cached_property
    def network(self) -> Network:
        """The network that the file is of. Raises CheckpointError."""
        return MindcvNetwork(self.mindcv, self.path) if self.mindcv else ResNet(self.stages, self.profile)

    @property
    def map_shapes(self) -> list[tuple[int, int]]:
        """(channels, stride) of the map after each stage."""
        return layout.stage_shapes(self.stages, self.profile)

    @property
    def state(self) -> dict[str, np.ndarray]:
        """The tensors of a last.ckpt under today's names: in older files the training's have no prefix of their own."""
        if any(name.startswith(TRAINING) for name in self.tensors):
            return self.tensors
        weights = self.backbone | self.head
        return {name if name in weights else TRAINING + name: value for name, value in self.tensors.items()}

    def check(self) -> None:
        """Raise CheckpointError unless the tensors are exactly those of its network, with or without a head."""
        network = f"{self.network.title.removeprefix('a ')} ({self.dialect.name}'s names)"
        shapes = self.network.layout() if self.network.blocks <= len(self.tensors) else {}
        if self.task in tasks.MAPS:
            shapes |= layout.tensors(self.map_shapes, len(self.class_names) + tasks.EXTRA_OUTPUTS[self.task])
        elif self.head:
            names = self.info.get("class_names")
            rows = len(names) if names else self.outputs
            channels = self.network.channels
            if self.hidden:
                shapes |= {"hidden.weight": (self.hidden, channels), "hidden.bias": (self.hidden,)}
            shapes |= {f"{HEAD}weight": (rows, self.hidden or channels), f"{HEAD}bias": (rows,)}
        compare(shapes, self.backbone | self.head, self.path, network)

    def size_note(self, image_size: int) -> str:
        """What to say where a run's images have another size than those of this network; "" if nothing."""
        size = self.info.get("image_size")
        if self.published:
            return self.published.far_from(image_size)
        differs = size and size != image_size
        return f"the backbone was trained on {size} pixels, this run on {image_size}" if differs else ""

    def describe(self) -> str:
        """Return a line such as "ResNet-50 of torchvision, 1000 classes; 53 tensors left out (num_batches_tracked)"."""
        classes = f"{self.outputs} classes" if self.head else "without a head"
        if self.task != tasks.CLASSIFY:
            noun = tasks.NOUNS[self.task]
            classes = f"{self.task}, {len(self.class_names)} {noun}{'es' if noun == 'class' else 's'}"
        origin = " with mslab's names" if self.dialect.name == "mslab" else f" of {self.dialect.name}"
        differs = self.network.differences
        parts = [f"{self.network.title}{'' if self.mindcv else origin}, {classes}"]
        parts += [f"published as {self.published.summary}"] if self.published else []
        return "; ".join(
            [*parts, *([f"built with {', '.join(differs)}"] if differs else []), *self.notes, *self.choices]
        )


def complete_info(weights: Checkpoint) -> dict[str, Any]:
    """A file's `mslab` entry with everything that using its network needs."""
    info = STANDARD | weights.info
    info |= {"resize_size": info.get("resize_size") or info["image_size"]}  # older files have no resize_size
    return info | weights.network.record()


@dataclass(frozen=True)
class Choice:
    """What a user decides about a file that leaves it open; "" where the file decides."""

    dialect: str = ""  # the project whose names the file has
    weights: str = ""  # of several sets of weights: a key or a prefix, such as state_dict_ema or ema
    network: str = ""  # the network of mindcv whose file it is, as in a config


NO_CHOICE = Choice()


def read(path: str | Path, choice: Choice = NO_CHOICE, pack: Mapping[str, Path] = MappingProxyType({})) -> Checkpoint:
    """Read a network's tensors from a .ckpt, .safetensors, .pth or .onnx file; check each type, shape and byte count.

    The content decides the format, not the file's name. `pack`: files by name among which one is found that has a
    shared backbone, if not beside it on the disk. Raises CheckpointError if the file is missing, of another
    format, truncated or inconsistent, or if the choice is impossible.
    """
    path = Path(path)
    content = formats.read_content(path)
    kind, reader = formats.reader_of(path, content)
    try:
        sets, texts = reader(content)
        known = weights.of_file(path.name, content)
        recorded = info_of(texts.get(ENTRY, "{}"))
        info = recorded or (known.info if known else {})
        named = [key for key in sets if key and f"{choice.weights}.".startswith(f"{key}.")]
        key = max(named, key=len, default=next(iter(sets)))
        tensors = sets[key]()
        if not tensors:
            raise ValueError("it contains no tensors")
        tensors = sharing.complete(path, tensors, info, read, pack)
        mindcv = recorded.get("network") or ("" if recorded else mindcv_files.network_of(path, choice.network, tensors))
        if mindcv:
            dialect = next(dialect for dialect in dialects.DIALECTS if dialect.name == "mindcv")
            if choice.dialect not in ("", dialect.name):
                raise wrong_dialect(path, choice.dialect, [dialect], bool(recorded))
            if choice.weights and not named:
                raise wrong_weights(path, choice.weights, [*sets])
            backbone, head, notes = mindcv_files.split(path, tensors, mindcv, own=bool(recorded))
            return Checkpoint(path, tensors, info, dialect, backbone, head, notes, published=known, mindcv=mindcv)
        if recorded.get("task") in tasks.MAPS:
            if kind == "ONNX file":  # whose names are torchvision's, and which no other project continues
                raise exported_map(path, recorded["task"])
            return own_map(path, tensors, info)
        if kind == "ONNX file" and not any(name.endswith("running_var") for name in tensors):
            raise ValueError("its BatchNorm was merged into the convolutions, which cannot be undone")
        source, assumed = _dialect(path, tensors, info, choice.dialect, known.project if known else "")
        wanted = f"{choice.weights}.".removeprefix(f"{key}." if key else "").removesuffix(".")
        try:
            selected = selecting.select(tensors, source, wanted)
        except KeyError:
            keys = [*sets, *selecting.select(tensors, source).keys]
            raise wrong_weights(path, choice.weights, keys) from None
    except pth.PickledObject as error:
        raise formats.pickled_object(path, error) from None
    except DAMAGE as error:
        raise formats.broken(path, kind, str(error) or type(error).__name__) from None
    head = {name: value for name, value in selected.tensors.items() if name.startswith(HEADS)}
    backbone = {name: value for name, value in selected.tensors.items() if name not in head}
    taken = selecting.said(repr(key), [other for other in sets if other != key]) if len(sets) > 1 else ""
    taken = f"weights of {choice.weights!r} taken, as --weights says" if choice.weights else taken
    choices = [text for text in (taken, *selected.choices, assumed) if text]
    return Checkpoint(path, tensors, info, source, backbone, head, selected.notes, choices, assumed, known)


def exported_map(path: Path, task: str) -> CheckpointError:
    return CheckpointError(
        f"{path} is an exported network of task {task}, whose weights are not read back.",
        expected="the checkpoint that it was exported from",
        fix="use that run, or its best.ckpt",
    )


def own_map(path: Path, tensors: dict[str, np.ndarray], info: dict[str, Any]) -> Checkpoint:
    """A network of mslab's with a neck: no other project has its names."""
    rest = {name for name in tensors if name.startswith(TRAINING)}
    head = {name: value for name, value in tensors.items() if name.startswith(layout.HEADS)}
    backbone = {name: value for name, value in tensors.items() if name not in head and name not in rest}
    notes = [f"{len(rest)} tensors left out ({selecting.OPTIMIZER})"] if rest else []
    return Checkpoint(path, tensors, info, dialects.DIALECTS[-1], backbone, head, notes)


def _dialect(
    path: Path, tensors: dict[str, np.ndarray], info: dict[str, Any], wanted: str, publisher: str = ""
) -> tuple[dialects.Dialect, str]:
    """(the project that named these tensors, a note if their names leave that open). Raises CheckpointError.

    `publisher`: the project whose published file this is, which decides where the names do not.
    """
    possible = dialects.candidates(tensors)
    recorded = bool(info.get("profile"))
    own = next((d for d in possible if d.name == (publisher or "mslab")), possible[0])
    if wanted:
        selected = next((d for d in ([own] if recorded else possible) if d.name == wanted), None)
        if selected is None:
            raise wrong_dialect(path, wanted, [own] if recorded else possible, recorded)
        return selected, ""
    if recorded or len(possible) == 1 or info:
        return own, ""
    imagenet = any(name.endswith(f"{HEAD}weight") and value.shape[:1] == (1000,) for name, value in tensors.items())
    assumed = next(d for d in possible if d.name == ("mindcv" if imagenet else "mslab"))
    other = next(d for d in possible if d is not assumed)
    return assumed, (
        f"its names do not tell {assumed.name} from {other.name}, whose pooling differs: taken as {assumed.name}'s; "
        f"if {other.name} trained it, use --dialect {other.name}"
    )


def wrong_dialect(path: Path, wanted: str, possible: list[dialects.Dialect], recorded: bool) -> CheckpointError:
    """The message for a --dialect that is unknown or that this file cannot have."""
    names = ", ".join(dialect.name for dialect in possible)
    if wanted not in dialects.NAMES:
        what = f"{wanted!r} is not a known project."
    elif recorded:
        what = f"{path} records how its network is built, which is not {wanted}'s way."
    else:
        what = f"{path} does not have {wanted}'s names."
    return CheckpointError(
        what, expected=f"one of {', '.join(dialects.NAMES)}; for this file: {names}", fix="leave --dialect out"
    )


def wrong_weights(path: Path, wanted: str, keys: list[str]) -> CheckpointError:
    """The message for --weights KEY if the file has no such weights."""
    rows = ", ".join([key[:60] for key in dict.fromkeys(keys) if key][:MAX_KEYS])
    return CheckpointError(
        f"{path} has no weights {wanted!r}.",
        expected=f"one of {rows}" if rows else "no --weights: the file has one set of weights",
        fix="leave --weights out" + (", or use one of these" if rows else ""),
    )
