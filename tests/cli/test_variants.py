"""Variants of the network on the command line."""

import json
from pathlib import Path

from helpers import cli
from trainings import wider_head


def test_eval_with_mirrored_images_from_the_command_line(squares, finished):
    run = finished(wider_head(squares)).run
    done = [cli("eval", run, "--data", squares / "three" / "val", "--json", "-", *more) for more in ([], ["--tta"])]
    plain, both = (json.loads(d.stdout) for d in done)
    assert both["tta"] == "mirror" and "tta" not in plain
    assert both["images"] == plain["images"] == 21 and both["loss"] != plain["loss"]


def test_show_prints_a_wider_head_and_dropout(inside, squares):
    Path("x.yaml").write_text(json.dumps(wider_head(squares)))
    done = cli("show", "x.yaml")
    assert done.returncode == 0, done.stderr
    assert "3x3, 64" in done.stdout and "12 wide, dropout 0.25" in done.stdout
