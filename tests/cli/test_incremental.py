"""Incremental training on the command line."""

import pytest
from helpers import cli, draw, overrides, settings


@pytest.fixture
def four(tmp_path):
    """Four classes, of which b and c were known: they have moved to other indices."""
    for seed, split in enumerate(("train", "val")):
        draw(tmp_path / "four" / split, ["aa", "b", "c", "d"], 8, seed + 40)
    return settings(tmp_path / "four", 4, epochs=1, warmup_epochs=0, lr_max=1e-12, lr_init=0)


def test_on_the_command_line(parent, four, inside):
    (inside / "x.yaml").write_text("\n".join(overrides(four)).replace("=", ": "))
    done = cli("train", "x.yaml", "--from", parent, cwd=inside)
    assert done.returncode == 0 and "2 of 4 classes kept by name" in done.stderr, done.stderr
    both = cli("train", "--resume", parent, "--from", parent, cwd=inside)
    assert both.returncode == 1 and "--from RUN" in both.stderr
