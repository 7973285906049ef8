"""The bytes that a run's checkpoints take, from its settings: before a network is built and anything is written."""

from pathlib import Path

from mslab import model
from mslab.config import Settings
from mslab.runtime import disks

MOMENTS = {"sgd": 0, "momentum": 1}  # of each weight in last.ckpt; the other optimizers have two


def require_space_for_run(settings: Settings) -> None:
    """Raise MslabError if the run's checkpoints do not fit on the disk of runs/; log a note if it is tight."""
    fewer = "; or a smaller max_to_keep" if settings.max_to_keep else ""
    fix = f"free some space, or cd to a folder on another disk; runs/ may be a link to one{fewer}"
    disks.require_space(Path("runs"), bytes_of_run(settings), "this run", fix)


def bytes_of_run(settings: Settings) -> int:
    """The bytes of best.ckpt, best_backbone.ckpt, last.ckpt (twice, while a new one replaces it) and max_to_keep."""
    backbone, head = weights_of(settings)
    moments = MOMENTS.get(settings.optimizer, 2) + bool(settings.ema_decay)
    trained = head if settings.freeze == "backbone" else backbone + head
    last = backbone + head + moments * trained
    kept = 1 + min(settings.max_to_keep, settings.epochs)
    return 4 * (backbone + kept * (backbone + head) + last * (2 if settings.epochs > 1 else 1))


def weights_of(settings: Settings) -> tuple[int, int]:
    """The numbers in the backbone (BatchNorm has four per channel) and in the head, float32."""
    profile = model.PROFILE | settings.network_profile()
    channels = model.STEM
    count = 3 * channels * (9 if profile["stem"] == "small" else 49) + 4 * channels
    expansion = model.BLOCKS[profile["block"]].EXPANSION
    for blocks, width, stride in settings.stages or model.STAGES:
        out = width * expansion
        for index in range(blocks):
            if profile["block"] == "bottleneck":
                count += channels * width + 9 * width**2 + width * out + 4 * (2 * width + out)
            else:
                count += 9 * (channels * width + width**2) + 8 * width
            if (index == 0 and stride != 1) or channels != out:  # the shortcut
                count += channels * out + 4 * out
            channels = out
    hidden = settings.head_hidden
    return count, (hidden * (channels + 1) if hidden else 0) + settings.class_num * ((hidden or channels) + 1)
