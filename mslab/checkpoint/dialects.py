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
AVERAGE = re.compile(  # of a key of weights that follow others
    r"(^|[._])(ema|swa|avg|averaged?|shadow|target|teacher|encoder_k|momentum_(encoder|model|net\w*))([._]|$)", re.I
)
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
    mark: str  # regular expression of one of its names, and of none of the dialects below; "" if they are mslab's
    rules: tuple[tuple[str, str], ...] = ()  # its names -> mslab's: pattern, replacement
    profile: tuple[tuple[str, Any], ...] = ()  # what differs from PROFILE
    basic_profile: tuple[tuple[str, Any], ...] | None = None  # the same for ResNet-18 and 34, if different

    @property
    def is_torch(self) -> bool:
        return set(TORCH_RULES) <= set(self.rules)


TORCH_RULES = (
    (r"(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.", ""),  # of wrappers, also inside a network
    (r"downsample\.", "down_sample."),
    (r"(bn\d|down_sample\.1)\.weight$", r"\1.gamma"),
    (r"(bn\d|down_sample\.1)\.bias$", r"\1.beta"),
    (r"\.running_mean$", ".moving_mean"),
    (r"\.running_var$", ".moving_variance"),
)
HUGGINGFACE_RULES = (
    (r"embedder\.embedder\.convolution\.", "conv1."),
    (r"embedder\.embedder\.normalization\.", "bn1."),
    (r"\.shortcut\.convolution\.", ".down_sample.0."),
    (r"\.shortcut\.normalization\.", ".down_sample.1."),
    *((rf"\.layer\.{n}\.convolution\.", f".conv{n + 1}.") for n in range(3)),
    *((rf"\.layer\.{n}\.normalization\.", f".bn{n + 1}.") for n in range(3)),
    *((rf"encoder\.stages\.{n}\.layers\.", f"layer{n + 1}.") for n in range(MAX_STAGES)),
)
OUTSIDE = r"^((?:(?!layer|fc\.|classifier|head)\w+\.)*)"  # a prefix, not of a block or a head
SEQUENTIAL_RULES = (  # nn.Sequential(*resnet.children()): 0 conv1, 1 bn1, 4 to 7 layer1 to layer4, then the head
    *((rf"(^|\.){n}\.(\d+)\.(conv\d|bn\d|downsample)\.", rf"\1layer{n - 3}.\2.\3.") for n in range(4, 8)),
    (rf"{OUTSIDE}0\.weight$", r"\1conv1.weight"),
    (rf"{OUTSIDE}1\.(weight|bias|running_mean|running_var)$", r"\1bn1.\2"),
    (rf"{OUTSIDE}(9|10)\.(weight|bias)$", r"\1fc.\3"),
)
DIALECTS = [
    Dialect("sequential", r"(^|\.)4\.0\.conv1\.weight$", SEQUENTIAL_RULES + TORCH_RULES),
    Dialect("huggingface", r"encoder\.stages\.\d+\.layers\.", HUGGINGFACE_RULES + TORCH_RULES),
    Dialect("torchvision", r"\.running_(mean|var)$", TORCH_RULES),
    Dialect(
        "mindvision",
        r"\.features\.\d\.",
        (
            (r"conv(\d)\.features\.0\.", r"conv\1."),
            (r"conv(\d)\.features\.1\.", r"bn\1."),
            (r"down_sample\.features\.", "down_sample."),
        ),
    ),
    Dialect(
        "official",
        r"down_sample_layer\.|(^|\.)end_point\.|\.bn\dd\.",
        ((r"down_sample_layer\.", "down_sample."), (r"\.bn(\d)d\.", r".bn\1.")),
        (("padding", "same"), ("pool", "same"), ("eps", 1e-4), ("outer_eps", 1e-4)),
        (("eps", 1e-4),),
    ),
    Dialect(
        "tutorial",
        r"(^|\.)norm\d?\.gamma$",
        ((r"(^|\.)norm\.", r"\1bn1."), (r"\.norm(\d)\.", r".bn\1.")),
        (("padding", "same"), ("pool", "same")),
    ),
    Dialect("mindcv", "", (), (("pool", "same"),)),
    Dialect("mslab", ""),
]
NAMES = [dialect.name for dialect in DIALECTS]


def candidates(tensors: Mapping[str, np.ndarray]) -> list[Dialect]:
    """The dialects that these names can be of: the first whose mark matches one, else those without a mark."""
    for dialect in DIALECTS:
        if dialect.mark and any(re.search(dialect.mark, name) for name in tensors):
            return [dialect]
    return [dialect for dialect in DIALECTS if not dialect.mark]


def is_average(key: str) -> bool:
    """Whether a key or a prefix is of weights that follow others: running means, a teacher, MoCo's second encoder."""
    return bool(AVERAGE.search(key[:200]))


def rename(name: str, dialect: Dialect) -> str:
    """Translate a name to mslab's; the network's prefix and the head's name stay."""
    for pattern, replacement in dialect.rules:
        name = re.sub(pattern, replacement, name)
    return name


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
