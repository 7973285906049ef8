"""`resize_mode`, `classes` and `merge` in longer ways through the commands."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import cli, manifest, overrides, settings
from PIL import Image


@pytest.mark.parametrize("mode", ["pad", "squash"])
def test_features_of_a_frozen_backbone_are_of_this_mode(mode, finished, inside):
    rng = np.random.default_rng(2)
    for split, count in (("train", 16), ("val", 8)):
        for channel, name in enumerate("ab"):
            (inside / "wide" / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 90, (30, 60, 3))
                pixels[:, :15, channel] += 160
                Image.fromarray(pixels.astype(np.uint8)).save(inside / "wide" / split / name / f"{number:03}.png")
    config = settings(Path("wide"), 2, epochs=1, resize_mode=mode)
    Path("c.yaml").write_text("class_num: 2\n")
    assert cli("train", "c.yaml", *overrides(config), "--no-report").returncode == 0
    (run,) = Path("runs").iterdir()
    words = overrides(config | {"freeze": "all"})
    answer = cli("transfer", "c.yaml", "--backbone", run, *words, "--no-report", "--name", "new")
    assert answer.returncode == 0 and "features computed" in answer.stderr
    assert "the backbone was trained with resize_mode" not in answer.stderr
    (new,) = Path("runs").glob("new-*")
    measured = json.loads(cli("eval", new, "--data", "wide/val", "--json", "-").stdout)
    assert measured["confusion"] == json.loads((new / "eval.json").read_text())["confusion"]
    assert cli("report", new).returncode == 0
    other = cli("transfer", "c.yaml", "--backbone", run, *words, "--no-report", "resize_mode=crop")
    assert f"note: the backbone was trained with resize_mode: {mode}, this run with crop" in other.stderr
    assert "features computed" in other.stderr  # not those of the other mode


def test_a_merged_run_is_archived_reproduced_and_swept(three, trained, inside):
    merge = {"bad": ["a", "b"], "good": ["c"]}
    run = trained(three | {"merge": merge, "class_num": 2, "epochs": 1}).run
    assert cli("report", run).returncode == 0 and "good" in (run / "report.html").read_text()
    answer = cli("export", run, "--format", "onnx")
    assert answer.returncode == 0 and "on 8 images of" in answer.stdout
    answer = cli("archive", run, "--data", "--out", "run.zip")
    assert answer.returncode == 0, answer.stderr
    again = cli("reproduce", "--from", "run.zip", "--no-report")
    assert again.returncode == 0, again.stdout + again.stderr
    Path("space.yaml").write_text("lr_max: {low: 0.01, high: 0.1, log: true}\n")
    config = run / "config.yaml"
    swept = cli("sweep", config, "--space", "space.yaml", "--trials", "1", "--test", Path(three["val_data"]))
    assert swept.returncode == 0, swept.stderr
    repeated = cli("repeat", config, "--seeds", "1", "--test", Path(three["val_data"]))
    assert repeated.returncode == 0, repeated.stderr
    refused = Path("space.yaml")
    refused.write_text("merge: {choices: [{}]}\n")
    answer = cli("sweep", config, "--space", "space.yaml", "--trials", "1")
    assert answer.returncode == 1 and "trials on other images do not compare" in answer.stderr
    assert manifest(run)["class_names"] == ["bad", "good"]
