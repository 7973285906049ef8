"""Settings that several test files train, so that they share the finished runs; two runs held against each other."""

from pathlib import Path

from helpers import figures, settings, weights

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


def logged(squares: Path) -> dict:
    """Three epochs that TensorBoard can read, the second and third of them measured."""
    return settings(squares / "three", 3, epochs=3, evaluation_frequency=2, log_to="tensorboard")


def same_training(one: str | Path, other: str | Path) -> None:
    """AssertionError that names the first difference between what two runs have left, the clock's share left out."""
    names = sorted(path.name for path in (Path(one) / "checkpoints").iterdir())
    assert names == sorted(path.name for path in (Path(other) / "checkpoints").iterdir()), names
    for name in names:
        assert weights(one, name) == weights(other, name), name
    for name in ("config.yaml", "images.csv", "steps.csv", "eval.json"):
        assert (Path(one) / name).read_bytes() == (Path(other) / name).read_bytes(), name
    for first, second in zip(figures(one), figures(other), strict=True):
        assert first == second, (first, second)
