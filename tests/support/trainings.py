"""Settings that several test files train, so that they share the finished runs; the comparison of two runs."""

from pathlib import Path

from helpers import figures, settings, weights

RANDOM = {  # all that draws random numbers except dropout, which no resume repeats
    "mixup_alpha": 0.2,
    "random_erasing": 0.3,
    "color_jitter": 0.3,
    "crop_scale": 0.5,
    "auto_augment": "randaugment",
}


def plain(squares: Path) -> dict:
    """Three epochs in PYNATIVE mode."""
    return settings(squares / "three", 3, epochs=3, max_to_keep=2)


def compiled(squares: Path) -> dict:
    """Three epochs as users train: in graph mode, with all random augmentations."""
    return plain(squares) | {"mode": "graph"} | RANDOM


def wider_head(squares: Path) -> dict:
    """A network that a student has changed: a small stem, a head of two layers, dropout."""
    return settings(squares / "three", 3, epochs=1, image_size=16, head_hidden=12, dropout=0.25, stem="small")


def logged(squares: Path) -> dict:
    """Return settings of three epochs with event files for TensorBoard; the second and third are evaluated."""
    return settings(squares / "three", 3, epochs=3, evaluation_frequency=2, log_to="tensorboard")


def same_training(run_a: str | Path, run_b: str | Path) -> None:
    """Assert that two runs have written the same files and figures, except for times."""
    names = sorted(path.name for path in (Path(run_a) / "checkpoints").iterdir())
    assert names == sorted(path.name for path in (Path(run_b) / "checkpoints").iterdir()), names
    for name in names:
        assert weights(run_a, name) == weights(run_b, name), name
    for name in ("config.yaml", "images.csv", "steps.csv", "eval.json"):
        assert (Path(run_a) / name).read_bytes() == (Path(run_b) / name).read_bytes(), name
    for first, second in zip(figures(run_a), figures(run_b), strict=True):
        assert first == second, (first, second)
