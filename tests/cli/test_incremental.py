"""Incremental training on the command line."""

import json

from helpers import cli, draw, settings


def test_on_the_command_line(parent, inside):
    for seed, split in enumerate(("train", "val")):
        draw(inside / "four" / split, ["aa", "b", "c", "d"], 8, seed)
    (inside / "x.yaml").write_text(json.dumps(settings(inside / "four", 4, epochs=1, warmup_epochs=0)))
    done = cli("train", "x.yaml", "--from", parent, "--no-report")
    assert done.returncode == 0 and "2 of 4 classes reused by name" in done.stderr, done.stderr
    both = cli("train", "--resume", parent, "--from", parent)
    assert both.returncode == 1 and "--from RUN" in both.stderr
