"""Names and shapes of what neck.py builds, by the table of stages: to check a file before MindSpore is started."""

from collections.abc import Mapping, Sequence
from typing import Any

CHANNELS = 64  # of every level of the pyramid; Lin et al. have 256, for 800 pixels and 80 classes
STRIDE = 4  # pixels of the image per cell of the map; stages with a smaller stride do not enter the pyramid
HEADS = ("neck.", "head.")  # beginnings of the names


def stage_shapes(stages: Sequence[Sequence[int]], profile: Mapping[str, Any]) -> list[tuple[int, int]]:
    """(channels, stride) of the map after each stage."""
    # stage_shapes(STAGES of ResNet-50, ...) -> [(256, 4), (512, 8), (1024, 16), (2048, 32)]
    shapes, stride = [], 1 if profile["stem"] == "small" else 4
    for _, width, factor in stages:
        stride *= factor
        shapes.append((width * (1 if profile["block"] == "basic" else 4), stride))
    return shapes


def levels(shapes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Those of the stages that enter the pyramid, the finest first: its stride is that of the map."""
    first = min((i for i, (_, stride) in enumerate(shapes) if stride >= STRIDE), default=len(shapes) - 1)
    return list(shapes[first:])


def tensors(shapes: Sequence[tuple[int, int]], outputs: int) -> dict[str, tuple[int, ...]]:
    """{name: shape} of the neck and the head."""
    found: dict[str, tuple[int, ...]] = {}

    def unit(name: str, channels: int, kernel: int) -> None:
        found[f"{name}.0.weight"] = (CHANNELS, channels, kernel, kernel)
        found.update({f"{name}.1.{part}": (CHANNELS,) for part in ("moving_mean", "moving_variance", "gamma", "beta")})

    for index, (channels, _) in enumerate(levels(shapes)):
        unit(f"neck.lateral.{index}", channels, 1)
        unit(f"neck.smooth.{index}", CHANNELS, 3)
    unit("head.hidden", CHANNELS, 3)
    return found | {"head.output.weight": (outputs, CHANNELS, 1, 1), "head.output.bias": (outputs,)}
