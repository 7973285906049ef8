"""Settings: one schema in which every field says unit and effect; YAML 1.2 in, a validated EasyDict out."""

import difflib
import io
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from easydict import EasyDict
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mslab.errors import ConfigError

say = logging.getLogger("mslab")
Stage = Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(min_length=3, max_length=3)]
Triple = Annotated[list[float], Field(min_length=3, max_length=3)]
Epoch = Annotated[str, BeforeValidator(lambda n: str(n) if type(n) is int else n), Field(pattern=r"^([2-9]|[1-9]\d+)$")]
Part = Annotated[str, Field(pattern=r"^(backbone|stem|layer[1-9]\d*|head)$")]


class Profile(BaseModel):
    """How a network is built beyond its table of stages; other projects' files bring their own."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
    block: Literal["bottleneck", "basic"] = "bottleneck"
    padding: Literal["symmetric", "same"] = "symmetric"
    pool: Literal["symmetric", "same"] = "symmetric"
    eps: float = Field(1e-5, gt=0, le=0.1)
    outer_eps: float = Field(1e-5, gt=0, le=0.1)


class Schema(BaseModel):
    """All settings. Types are strict: "9" in quotes is text, not a number."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    # data
    train_data: str = Field(description="folder with one folder of images a class, to train on")
    val_data: str = Field(
        description="folder laid out alike, to measure on after every epoch and to choose best.ckpt by"
    )
    class_num: int = Field(ge=2, le=100_000, description="number of classes; must equal the number of class folders")
    image_size: int = Field(
        64, ge=16, le=1024, description="pixels; side of the square that the network sees. Time grows with its square"
    )
    batch_size: int = Field(
        32, ge=2, le=65536, description="images per step on one device; halve it if memory runs out"
    )
    data_workers: int = Field(
        2, ge=1, le=256, description="threads that decode and augment; more than the cores are not used"
    )
    cache: Literal["none", "memory", "disk"] = Field(
        "none",
        description="where decoded images are kept after the first pass, so that later ones need no decoder; "
        "3 bytes a pixel of every image: memory = this process's, disk = ~/.cache/mslab/decoded (at most 64 GiB)",
    )
    # augmentation of the training images
    crop_scale: float = Field(
        0.5, gt=0, le=1, description="smallest share of an image's area that a random training crop keeps; 1 = no crop"
    )
    flip: bool = Field(True, description="mirror half of the training images left to right")
    color_jitter: float = Field(
        0.2, ge=0, le=1, description="largest relative change of brightness, contrast and saturation; 0 = none"
    )
    mean: Triple = Field(
        [0.485, 0.456, 0.406], description="per channel, on a scale of 0 to 1; subtracted from every image (ImageNet's)"
    )
    std: Triple = Field(
        [0.229, 0.224, 0.225],
        description="per channel, on a scale of 0 to 1; every image is divided by it (ImageNet's)",
    )
    # network
    stages: list[Stage] | None = Field(
        None,
        description="rows of blocks, width, stride, in place of model.STAGES; null = ResNet-50's (or the backbone's)",
    )
    profile: Profile | None = Field(
        None, description="block, padding, pool, eps, outer_eps of model.PROFILE; null = mslab's (or the backbone's)"
    )
    # transfer: what is kept
    freeze: Literal["none", "all"] = Field(
        "none", description="'all' keeps the backbone fixed (BatchNorm statistics too), 'none' trains everything"
    )
    layers_to_freeze: int = Field(
        0,
        ge=0,
        le=100,
        description="groups kept fixed from the image on: 1 = stem, 2 = stem and layer1, 5 = stem and all four",
    )
    freeze_layer_pattern: str | None = Field(
        None, description="parameters whose names this regular expression finds are kept fixed: ^(conv1|bn1|layer1)\\."
    )
    unfreeze: dict[Epoch, Part] = Field(
        {}, description="epoch, 2 or later: part trained from then on, such as {3: layer4, 6: backbone}"
    )
    lr_scale: dict[Part, Annotated[float, Field(gt=0, le=1000)]] = Field(
        {},
        description="part: factor on its learning rate, such as {backbone: 0.1}; 0 is refused: it would not freeze",
    )
    feature_views: int = Field(
        2,
        ge=0,
        le=1000,
        description="whole backbone frozen: augmented views of an image whose features are kept; 0 = anew every epoch",
    )
    # training
    epochs: int = Field(12, ge=1, le=100_000, description="passes over train_data")
    warmup_epochs: float = Field(
        2,
        ge=0,
        description="epochs in which the learning rate rises step by step from lr_init to lr_max; 0.5 is half an epoch",
    )
    lr_init: float = Field(0.01, ge=0, le=100, description="learning rate of the first warmup step")
    lr_max: float = Field(0.1, gt=0, le=100, description="learning rate after warmup; lower it if the loss explodes")
    lr_end: float = Field(0.0, ge=0, le=100, description="learning rate of the last step, reached along a cosine")
    optimizer: Literal["momentum", "adam"] = Field(
        "momentum", description="momentum = SGD with momentum; adam needs a lr_max of about 0.001"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="share of the last update that the next one keeps")
    weight_decay: float = Field(
        1e-4, ge=0, le=1, description="pull of the weights towards zero; BatchNorm and biases are left out"
    )
    seed: int = Field(
        1, ge=0, le=2**31 - 1, description="drives weights, data order and augmentation; equal seed, equal run"
    )
    # machine
    device: Literal["auto", "cpu", "gpu", "ascend"] = Field("auto", description="auto = the best that works here")
    sync_bn: bool = Field(
        False, description="with --workers: BatchNorm over the images of all workers, not of each by itself; slower"
    )
    lr_scaling: Literal["none", "linear", "sqrt"] = Field(
        "none", description="with --workers N: lr_max as it is, times N, or times the square root of N"
    )
    amp_level: Literal["O0", "O2", "O3"] = Field(
        "O0", description="O0 = float32; O2 = float16 but for BatchNorm, O3 = all float16, both with loss scaling"
    )
    jit_level: Literal["auto", "O0", "O1", "O2"] = Field(
        "auto", description="how far MindSpore's compiler goes in graph mode; auto = what it takes for the device"
    )
    max_device_memory: Annotated[str, Field(pattern=r"^\d+(\.\d+)?GB$")] | None = Field(
        None, description="most memory MindSpore takes on the device, such as 28GB; null = all that is free"
    )
    mode: Literal["graph", "pynative"] = Field(
        "graph", description="graph compiles one step (fast); pynative runs line by line (slow, for a debugger)"
    )
    max_to_keep: int = Field(
        0, ge=0, le=1000, description="checkpoints of this many best epochs, kept beside best.ckpt and last.ckpt"
    )


FIELDS = Schema.model_fields

# the neighbours' names: theirs -> (whose, ours); an unknown setting is answered with it, never translated in silence
NEIGHBOURS = {
    "checkpoint_url": ("ModelArts", "--backbone FILE"),
    "checkpoint_run_id": ("Azure AutoML", "--backbone FILE"),
    "checkpoint_filename": ("Azure AutoML", "--backbone FILE"),
    "use_pretrained_model": ("SageMaker", "--backbone FILE"),
    "train_url": ("ModelArts", "the run folder, always a fresh one under runs/"),
    "data_url": ("ModelArts", "train_data"),
    "num_readers": ("ModelArts", "data_workers"),
    "use_sync_bn": ("ModelArts", "sync_bn"),
    "gpu_memory_fraction": ("ModelArts", "max_device_memory, in GB"),
    "allow_growth": ("ModelArts", "max_device_memory: what is not needed is not taken"),
    "kv_store": ("SageMaker", "--workers N, always synchronous"),
    "number_of_epochs": ("Azure AutoML", "epochs"),
    "training_batch_size": ("Azure AutoML", "batch_size"),
    "mini_batch_size": ("SageMaker", "batch_size"),
    "learning_rate": ("Azure AutoML's and SageMaker", "lr_max"),
    "warmup_cosine_lr_warmup_epochs": ("Azure AutoML", "warmup_epochs"),
    "num_classes": ("SageMaker", "class_num"),
    "num_training_samples": ("SageMaker", "nothing: the images are counted"),
    "train_crop_size": ("Azure AutoML", "image_size"),
    "valid_crop_size": ("Azure AutoML", "image_size"),
    "image_shape": ("SageMaker", "image_size"),
    "save_dir": ("Paddle", "the run folder, always a fresh one under runs/"),
    "num_workers": ("Paddle", "data_workers"),
}


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return bool(pattern)


# contradictions: (settings it looks at, True where they contradict, what to say)
CONTRADICTIONS: list[tuple[tuple[str, ...], Callable[..., bool], str]] = [
    (
        ("warmup_epochs", "epochs"),
        lambda warmup, epochs: warmup > epochs,
        "warmup_epochs: {} is above epochs: {}; lr_max would never come near",
    ),
    (
        ("lr_init", "lr_max", "warmup_epochs"),
        lambda low, high, warmup: warmup > 0 and low > high,
        "lr_init: {} is above lr_max: {}; warmup rises from the first to the second",
    ),
    (("lr_end", "lr_max"), lambda end, high: end > high, "lr_end: {} is above lr_max: {}; the cosine falls"),
    (
        ("freeze", "layers_to_freeze", "freeze_layer_pattern"),
        lambda freeze, layers, pattern: (freeze == "all") + bool(layers) + bool(pattern) > 1,
        "freeze: {}, layers_to_freeze: {} and freeze_layer_pattern: {} are three ways to say one thing; give one",
    ),
    (
        ("freeze_layer_pattern",),
        lambda pattern: pattern is not None and not _compiles(pattern),
        "freeze_layer_pattern: {!r} is no regular expression",
    ),
    (("std",), lambda std: min(std) <= 0, "std: {} must be above 0 in every channel; images are divided by it"),
    (
        ("train_data", "val_data"),
        lambda train, val: Path(train).resolve() == Path(val).resolve(),
        "train_data and val_data are both {}; accuracy on images trained on says nothing",
    ),
]
# settings that do nothing beside another one: (setting, the other, True where it does nothing, why)
IDLE: list[tuple[str, str, Callable[[Any], bool], str]] = [
    ("lr_init", "warmup_epochs", lambda warmup: warmup == 0, "there is no warmup to start from it"),
    ("momentum", "optimizer", lambda optimizer: optimizer == "adam", "it has moments of its own"),
]


def load_config(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> EasyDict:
    """A YAML file or a dict, with `key=value` overrides on top, as an EasyDict with every setting filled in.

    Raises ConfigError that lists every problem. A setting that does nothing is said, and refused among the overrides.
    """
    where = str(source) if isinstance(source, str | Path) else "the config"
    given = read_yaml(Path(source)) if isinstance(source, str | Path) else dict(source)
    problems: list[tuple[str, str]] = []
    overridden: set[str] = set()
    for text in overrides:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            problems.append((text, "is no key=value; write for example lr_max=0.05"))
            continue
        overridden.add(key)
        try:
            given[key] = _yaml().load(value) if value.strip() else None
        except YAMLError:
            problems.append((key, f"{value!r} is no YAML value; put text with special characters in quotes"))
            given.pop(key, None)
            continue
        if given[key] is None:  # key=null takes a setting away
            if key not in FIELDS:
                problems.append((key, _unknown(key)))
            del given[key]
    config, more = _validate({key: _plain(value) for key, value in given.items()})
    problems += more
    for name, other, is_idle, why in IDLE:
        chosen = name in given and (name in overridden or given[name] != FIELDS[name].default)
        if chosen and other in config and is_idle(config[other]):
            text = f"does nothing here: with {other}: {config[other]} {why}"
            if name in overridden:
                problems.append((name, f"{text}; leave it out"))
            else:
                say.info(f"note: {name} in {where} {text}")
    if problems:
        count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        raise ConfigError(
            f"{where} has {count}.",
            details=problems,
            expected="the settings of mslab/config.py, each with its unit and effect there",
            fix="correct the file, or override with key=value",
        )
    return EasyDict(config)


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings of a YAML 1.2 file. Raises ConfigError where it is missing, empty or no flat table of settings."""
    if not path.is_file():
        near = sorted(str(file) for file in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        fix = f"one of {', '.join(near)}" if near else "give the path of a YAML file; configs/ has some"
        raise ConfigError(f"There is no config file {path}.", expected="a YAML file of settings", fix=fix)
    try:
        content = _yaml().load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(
            f"{path}{line} is no YAML: {problem}.", expected="lines like 'epochs: 12'", fix="correct that line"
        ) from None
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} holds no settings.", expected="lines like 'epochs: 12'", fix="copy one from configs/"
        )
    return content


def dump_config(config: Mapping[str, Any]) -> str:
    """The config as YAML, one setting a line, in the schema's order, each with its unit and effect as a comment."""
    lines = []
    for name, field in FIELDS.items():
        buffer = io.StringIO()
        writer = YAML(typ="safe", pure=True)
        writer.default_flow_style, writer.width = True, 10_000
        writer.dump({name: _plain(config[name])}, buffer)
        lines.append(f"{buffer.getvalue().strip()[1:-1]:<40}  # {field.description}")
    return "\n".join(lines) + "\n"


def _yaml() -> YAML:
    return YAML(typ="safe", pure=True)  # pure: YAML 1.2, where 1e-4 is a number and `no` is a word


def _plain(value: Any) -> Any:
    """NumPy scalars, tuples, paths and EasyDicts, as plain YAML values."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def _unknown(name: str) -> str:
    if name in NEIGHBOURS:
        whose, ours = NEIGHBOURS[name]
        return f"'{name}' is {whose}'s name; here it is {ours if ' ' in ours else repr(ours)}"
    close = difflib.get_close_matches(name, [*FIELDS, *NEIGHBOURS], n=1, cutoff=0.6)
    if not close:
        return f"'{name}' is not a setting"
    ours = NEIGHBOURS[close[0]][1] if close[0] in NEIGHBOURS else close[0]
    return f"'{name}' is not a setting; did you mean '{ours}'?"


def _validate(given: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """(the settings that are valid, with defaults; every problem)."""
    problems: dict[str, str] = {str(name): _unknown(str(name)) for name in given if name not in FIELDS}
    known = {name: value for name, value in given.items() if name in FIELDS}
    try:
        config = Schema(**known).model_dump()
    except ValidationError as error:
        for item in error.errors():
            name = str(item["loc"][0])
            place = "".join(f"[{index}]" for index in item["loc"][1:] if isinstance(index, int))
            field = FIELDS[name]
            if item["type"] == "missing":
                text = f"is missing ({field.description})"
            else:
                reason = re.sub(r"^Input should be ", "must be ", item["msg"])
                text = f"{item['input']!r}{' at ' + name + place if place else ''} {reason} ({field.description})"
            problems.setdefault(name, text)
        defaults = {name: field.get_default() for name, field in FIELDS.items() if not field.is_required()}
        config = {name: value for name, value in (defaults | known).items() if name not in problems}
    rows = list(problems.items())
    for names, contradicts, text in CONTRADICTIONS:
        if all(name in config for name in names):
            values = [config[name] for name in names]
            if contradicts(*values):
                rows.append((names[0], text.format(*values)))
    return config, rows
