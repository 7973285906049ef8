"""The bytes that a run's checkpoints take, from its settings: before a network is built and anything is written."""

import math
from pathlib import Path

from mslab.checkpoint import networks
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
    network = networks.of_settings(settings)
    count, channels = sum(map(math.prod, network.layout().values())), network.channels
    hidden = settings.head_hidden
    return count, (hidden * (channels + 1) if hidden else 0) + settings.class_num * ((hidden or channels) + 1)
