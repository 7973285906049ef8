"""A sweep over a task searches for its measure."""

import json
from pathlib import Path

import scenes
from helpers import cli


def test_a_sweep_searches_for_the_measure(once, inside):
    drawn = once("scenes", scenes.draw)
    config = inside / "segment.yaml"
    config.write_text(json.dumps(scenes.settings(drawn, "segment")))
    Path("space.yaml").write_text("lr_max: [0.004, 0.002]\n")
    options = ["--space", "space.yaml", "--trials", 2, "--sampler", "grid", "--test", drawn / "scenes" / "test"]
    done = cli("sweep", config, *options, "--json", "x.json")
    assert done.returncode == 0, done.stderr
    result = json.loads(Path("x.json").read_text())
    values = [row["val_acc"] for row in result["trials"]]
    assert result["best"]["val_acc"] == max(values) and result["test_acc"]["best"] is not None
    assert "val_miou 0." in done.stderr and "val_acc" not in done.stderr
    assert "val_miou" in done.stdout and "test miou" in done.stdout and "ccuracy" not in done.stdout
    page = (Path(result["folder"]) / "report.html").read_text()
    assert "val_miou" in page and "validation accuracy" not in page
