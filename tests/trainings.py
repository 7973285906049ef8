"""Settings that several test files train, so that they share the finished runs."""

from pathlib import Path

from helpers import settings

RANDOM = {  # whatever draws random numbers but dropout, which no resume repeats
    "mixup_alpha": 0.2,
    "random_erasing": 0.3,
    "color_jitter": 0.3,
    "crop_scale": 0.5,
    "auto_augment": "randaugment",
}


def plain(squares: Path) -> dict:
    """Three epochs, line by line."""
    return settings(squares / "three", 3, epochs=3, max_to_keep=2)


def compiled(squares: Path) -> dict:
    """Three epochs as users train, in graph mode, with all that is random."""
    return plain(squares) | {"mode": "graph"} | RANDOM


def wider_head(squares: Path) -> dict:
    """A network as a student varies it: a small stem, a head of two layers, dropout."""
    return settings(squares / "three", 3, epochs=1, image_size=16, head_hidden=12, dropout=0.25, stem="small")
