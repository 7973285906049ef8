"""Recognise which project named a file's parameters, and translate its names to mslab's and back.

Names do not show padding, pooling and epsilon, so a dialect brings them as a profile; without it, accuracy would drop
silently. mslab's own names are mindcv's.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

PROFILE = {  # of mslab's network
    "block": "bottleneck",
    "padding": "symmetric",
    "pool": "symmetric",
    "stem": "imagenet",
    "eps": 1e-5,
    "outer_eps": 1e-5,
}
HEAD = "classifier."  # the last layer
HEADS = (HEAD, "hidden.")  # the complete head: also the layer before the last, if there is one
MAX_STAGES = 16
STEM = 64  # channels after the first convolution
SLOTS = (  # optimizers' tensors
    *("moments.", "adam_", "accum.", "ema.", "moment1.", "moment2.", "stat.", "state.", "vhat.", "mean_square."),
    *("moment.", "accum_update.", "lamb_", "accumulated."),
)
COUNTERS = {"beta1_power", "beta2_power", "global_step", "learning_rate", "momentum", "epoch_num", "step_num"}
COUNTERS |= {"loss_scale", "current_iterator_step", "last_overflow_iterator_step"}
COUNTERS |= {"updates", "ema_updates", "accumulated_batches"}
DROPPED = "num_batches_tracked"  # PyTorch's count of batches, which nothing here uses
BASIC_STAGES: dict[tuple[int, ...], str] = {(2, 2, 2, 2): "ResNet-18", (3, 4, 6, 3): "ResNet-34"}
BOTTLENECK_STAGES: dict[tuple[int, ...], str] = {
    (3, 4, 6, 3): "ResNet-50",
    (3, 4, 23, 3): "ResNet-101",
    (3, 8, 36, 3): "ResNet-152",
}


@dataclass(frozen=True)
class Dialect:
    """How one project names and builds a ResNet."""

    name: str
    mark: str  # a regular expression that matches one of its names, and no name of the dialects below
    rules: tuple[tuple[str, str], ...] = ()  # its names -> mslab's: pattern, replacement
    profile: tuple[tuple[str, Any], ...] = ()  # what differs from PROFILE
    basic_profile: tuple[tuple[str, Any], ...] | None = None  # the same for ResNet-18 and 34, if different


TORCH_RULES = (
    (r"^(module|model|_orig_mod)\.", ""),
    (r"downsample\.", "down_sample."),
    (r"(bn\d|down_sample\.1)\.weight$", r"\1.gamma"),
    (r"(bn\d|down_sample\.1)\.bias$", r"\1.beta"),
    (r"\.running_mean$", ".moving_mean"),
    (r"\.running_var$", ".moving_variance"),
    (r"^fc\.", HEAD),
)
PREFIX = (r"^(backbone|network|net)\.", "")  # MindSpore puts the attribute's name before every name inside
DIALECTS = [
    Dialect("torchvision", r"\.running_(mean|var)$", TORCH_RULES),
    Dialect(
        "mindvision",
        r"\.features\.\d\.",
        (
            PREFIX,
            (r"conv(\d)\.features\.0\.", r"conv\1."),
            (r"conv(\d)\.features\.1\.", r"bn\1."),
            (r"down_sample\.features\.", "down_sample."),
            (r"^head\.dense\.", HEAD),
        ),
    ),
    Dialect(
        "official",
        r"down_sample_layer\.|^(backbone\.)?end_point\.|\.bn\dd\.",
        (PREFIX, (r"down_sample_layer\.", "down_sample."), (r"\.bn(\d)d\.", r".bn\1."), (r"^end_point\.", HEAD)),
        (("padding", "same"), ("pool", "same"), ("eps", 1e-4), ("outer_eps", 1e-4)),
        (("eps", 1e-4),),
    ),
    Dialect(
        "tutorial",
        r"(^|\.)norm\d?\.gamma$",
        (PREFIX, (r"^norm\.", "bn1."), (r"\.norm(\d)\.", r".bn\1."), (r"^fc\.", HEAD)),
        (("padding", "same"), ("pool", "same")),
    ),
    Dialect("mindcv", r"^classifier\.", (PREFIX,), (("pool", "same"),)),
    Dialect("mslab", "", (PREFIX, (r"^head\.classifier\.", HEAD))),
]
NAMES = [dialect.name for dialect in DIALECTS]


def detect(tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> Dialect:
    """Recognise the dialect by names; mindcv's equal mslab's, so its sign is 1,000 outputs without a `mslab` entry."""
    for dialect in DIALECTS:
        if dialect.name == "mindcv":
            if not info and tensors.get(f"{HEAD}weight", np.empty(0)).shape[:1] == (1000,):
                return dialect
        elif any(re.search(dialect.mark, name) for name in tensors):
            return dialect
    raise AssertionError("the last mark matches every name")


def translate(tensors: Mapping[str, np.ndarray], dialect: Dialect) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return (tensors under mslab's names, notes on dropped tensors). Raises ValueError if two names become one."""
    renamed: dict[str, np.ndarray] = {}
    dropped = {"the optimizer's": 0, f"{DROPPED}": 0}
    for name, value in tensors.items():
        if name in COUNTERS or name.startswith(SLOTS):
            dropped["the optimizer's"] += 1
            continue
        if name.endswith(DROPPED):
            dropped[DROPPED] += 1
            continue
        own = name
        for pattern, replacement in dialect.rules:
            own = re.sub(pattern, replacement, own)
        if own in renamed:
            raise ValueError(f"two of its names mean {own}")
        with np.errstate(over="ignore"):  # too large for float32 becomes infinity, which `compare` refuses
            renamed[own] = value.astype(np.float32) if value.dtype in (np.float16, np.float64) else value
    notes = [f"{count} tensors left out ({kind})" for kind, count in dropped.items() if count]
    if dialect.name == "official" and renamed.get(f"{HEAD}weight", np.empty(0)).shape[:1] == (1001,):
        for name in (f"{HEAD}weight", f"{HEAD}bias"):
            if name in renamed and renamed[name].ndim:
                renamed[name] = renamed[name][:1000]
        notes.append("row 1001 of the head left out (no class of ImageNet)")
    return renamed, notes


def stages_of(tensors: Mapping[str, np.ndarray]) -> list[list[int]]:
    """Derive rows of blocks, width, stride from names and shapes; strides are ResNet's. [] if it is not a ResNet."""
    blocks: dict[str, set[str]] = {}
    for name in tensors:
        layer, _, rest = name.partition(".")
        blocks.setdefault(layer, set()).add(rest.partition(".")[0])
    stages: list[list[int]] = []
    while (first := tensors.get(f"layer{len(stages) + 1}.0.conv1.weight")) is not None and first.size and first.ndim:
        number = len(stages) + 1
        stages.append([len(blocks[f"layer{number}"]), len(first), 1 if number == 1 else 2])
    return stages if len(stages) <= MAX_STAGES else []


def profile_of(tensors: Mapping[str, np.ndarray], dialect: Dialect) -> dict[str, Any]:
    """Return how a network of this dialect is built."""
    basic = "layer1.0.conv1.weight" in tensors and "layer1.0.conv3.weight" not in tensors
    differs = dialect.basic_profile if basic and dialect.basic_profile is not None else dialect.profile
    stem = "small" if tensors.get("conv1.weight", np.empty(0)).shape[2:] == (3, 3) else "imagenet"
    return PROFILE | {"block": "basic" if basic else "bottleneck", "stem": stem} | dict(differs)


def layout(stages: list[list[int]], profile: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return {name: shape} of a backbone with this table and profile, as model.py builds it."""
    shapes: dict[str, tuple[int, ...]] = {}

    def unit(conv: str, norm: str, channels: int, out: int, kernel: int) -> None:
        shapes[f"{conv}.weight"] = (out, channels, kernel, kernel)
        shapes.update({f"{norm}.{part}": (out,) for part in ("moving_mean", "moving_variance", "gamma", "beta")})

    unit("conv1", "bn1", 3, STEM, 3 if profile["stem"] == "small" else 7)
    channels, basic = STEM, profile["block"] == "basic"
    for number, (blocks, width, stride) in enumerate(stages, start=1):
        out = width if basic else 4 * width
        for index in range(blocks):
            name, last = f"layer{number}.{index}", channels
            for position, kernel in enumerate((3, 3) if basic else (1, 3, 1), start=1):
                size = out if position == 3 else width
                unit(f"{name}.conv{position}", f"{name}.bn{position}", last, size, kernel)
                last = size
            if channels != out or (index == 0 and stride != 1):
                unit(f"{name}.down_sample.0", f"{name}.down_sample.1", channels, out, 1)
            channels = out
    return shapes


def title(stages: list[list[int]], profile: Mapping[str, Any]) -> str:
    """Return a name such as "ResNet-50", or the table if it is none of the five."""
    table: dict[tuple[int, ...], str] = BASIC_STAGES if profile["block"] == "basic" else BOTTLENECK_STAGES
    if [row[1] for row in stages] == [64, 128, 256, 512]:
        return table.get(tuple(row[0] for row in stages), f"a ResNet with stages {stages}")
    return f"a ResNet with stages {stages}"


def to_torch(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Translate mslab's names to those of torchvision and timm, and add the batch counters that PyTorch expects."""
    renamed = {}
    for name, value in tensors.items():
        own = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))
        own = own.replace("moving_mean", "running_mean").replace("moving_variance", "running_var")
        own = re.sub(rf"^{HEAD}", "fc.", own.replace("down_sample.", "downsample."))
        renamed[own] = value
        if own.endswith("running_var"):
            renamed[own.replace("running_var", DROPPED)] = np.array(0, np.int64)
    return renamed
