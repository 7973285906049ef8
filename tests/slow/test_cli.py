"""All of README's commands, on real images too; the checker's benchmark with several sizes."""

import json

import pytest
import readme
from helpers import PROJECT, bench, cli

from mslab.data.mushrooms import drawing


def test_readmes_commands_run_shrunk_on_real_images_too(test_data, inside, parent):
    """The commands of README and of the guides in their order, all of them."""
    drawing.draw_datasets(inside / "datasets", size=48, counts=readme.COUNTS)
    for name in ("animals9", "animals2"):  # as `data animals` builds them
        (inside / "datasets" / name).symlink_to(test_data / "animals" / name)
    commands = [arguments for arguments in readme.commands() if readme.name_of(arguments) not in readme.SEPARATE]
    assert any("animals" in argument for arguments in commands for argument in arguments)
    names = {readme.name_of(arguments) for arguments in commands}
    assert names >= {"check", "show", "train", "transfer", "eval", "report", "predict", "suspects", "export", "watch"}
    assert names >= {"data import", "data split", "reproduce", "verify", "archive"}
    readme.run(commands, inside, parent)


def test_bench_check_measures_all_sizes(tmp_path):
    done = bench("check", "--images", 20, "--images", 40, "--repeats", 1, "--json", tmp_path / "rows.json")
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert done.returncode == 0 and [row["images"] for row in rows] == [20] * 4 + [40] * 4
    assert [row["contender"] for row in rows] == ["decode", "images", "first", "again"] * 2
    for row in rows:
        assert row["seconds"] > 0 and row["images_per_s"] == pytest.approx(row["images"] / row["seconds"])


def test_animals_beat_chance_and_their_backbone_is_transferred(test_data, inside):
    """README's commands on real images, cut to one epoch of nine classes; the full figures are in README."""
    animals = test_data / "animals"

    def places(name):
        return [f"train_data={animals / name / 'train'}", f"val_data={animals / name / 'val'}"]

    done = cli("train", PROJECT / "configs/animals9.yaml", *places("animals9"), "epochs=1")
    assert done.returncode == 0, done.stderr
    run = next((inside / "runs").iterdir())
    assert json.loads((run / "eval.json").read_text())["accuracy"] > 2 / 9
    done = cli("transfer", PROJECT / "configs/animals2.yaml", "--backbone", run, *places("animals2"), "epochs=2")
    assert done.returncode == 0 and "backbone: 265 of 265 tensors" in done.stderr, done.stderr
