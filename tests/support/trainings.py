"""Settings that several test files train, so that they share the finished runs; a comparison of two runs."""

from pathlib import Path

from helpers import figures, settings, weights

RANDOM = {  # everything that draws random numbers except dropout, which no resume repeats
    "mixup_alpha": 0.2,
    "random_erasing": 0.3,
    "color_jitter": 0.3,
    "crop_scale": 0.5,
    "auto_augment": "randaugment",
}


def plain(squares: Path) -> dict:
    """Return settings of three epochs in PYNATIVE."""
    return settings(squares / "three", 3, epochs=3, max_to_keep=2)


def compiled(squares: Path) -> dict:
    """Return settings of three epochs in graph mode, as users train, with all random augmentation."""
    return plain(squares) | {"mode": "graph"} | RANDOM


def wider_head(squares: Path) -> dict:
    """Return settings of a network as a student may vary it: a small stem, a head of two layers, dropout."""
    return settings(squares / "three", 3, epochs=1, image_size=16, head_hidden=12, dropout=0.25, stem="small")


def logged(squares: Path) -> dict:
    """Return settings of three epochs with event files for TensorBoard; the second and third are evaluated."""
    return settings(squares / "three", 3, epochs=3, evaluation_frequency=2, log_to="tensorboard")


def same_training(first: str | Path, second: str | Path) -> None:
    """Assert that the files of two runs are equal except for times; the AssertionError names the first difference."""
    names = sorted(path.name for path in (Path(first) / "checkpoints").iterdir())
    assert names == sorted(path.name for path in (Path(second) / "checkpoints").iterdir()), names
    for name in names:
        assert weights(first, name) == weights(second, name), name
    for name in ("config.yaml", "images.csv", "steps.csv", "eval.json"):
        assert (Path(first) / name).read_bytes() == (Path(second) / name).read_bytes(), name
    for row, expected in zip(figures(first), figures(second), strict=True):
        assert row == expected, (row, expected)
