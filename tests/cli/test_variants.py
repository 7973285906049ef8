"""The varied network on the command line."""

import json
from pathlib import Path

import pytest
from helpers import cli, settings

import mslab

WIDER = {"head_hidden": 12, "dropout": 0.25, "stem": "small"}


@pytest.fixture(scope="module")
def wider(squares, tmp_path_factory):
    """A finished run of that network. Not to be changed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("wider"))
        config = settings(squares / "three", 3, epochs=1, image_size=16, **WIDER)
        return Path(mslab.train(config).run).resolve()


def test_both_sides_of_an_image_from_the_command_line(wider, squares):
    done = [cli("eval", wider, "--data", squares / "three" / "val", "--json", "-", *more) for more in ([], ["--tta"])]
    one, both = (json.loads(d.stdout) for d in done)
    assert both["tta"] == "mirror" and "tta" not in one
    assert both["images"] == one["images"] and both["loss"] != one["loss"]


def test_show_draws_it(inside, squares):
    config = settings(squares / "three", 3, image_size=16, **WIDER)
    Path("x.yaml").write_text("".join(f"{key}: {value}\n" for key, value in config.items()))
    done = cli("show", "x.yaml")
    assert done.returncode == 0, done.stderr
    assert "3x3, 64" in done.stdout and "12 wide, dropout 0.25" in done.stdout
