"""transfer --compare with all three methods."""

import json

import pytest
from helpers import cli, overrides, settings
from PIL import Image


def test_the_grid_on_the_command_line(parent, squares, inside):
    config = settings(squares / "two", 2, epochs=2)
    (inside / "x.yaml").write_text("\n".join(overrides(config)).replace("=", ": "))
    arguments = ["--backbone", parent, "--compare", "scratch,frozen,finetune", "--fractions", "0.25", "--seeds", 1]
    done = cli("transfer", "x.yaml", *arguments, "--json", "result.json", cwd=inside)
    assert done.returncode == 0, done.stderr
    rows = json.loads((inside / "result.json").read_text())["rows"]
    assert [(row["way"], row["images"]) for row in rows] == [("scratch", 8), ("frozen", 8), ("finetune", 8)]
    folder = next((inside / "runs").iterdir())
    assert json.loads((folder / "comparison.json").read_text())["rows"] == rows
    with Image.open(folder / "comparison.png") as picture:
        assert picture.width > 500
    histories = sorted(folder.glob("*/history.csv"))
    assert len(histories) == 3 and not list(folder.glob("*/checkpoints/*"))
    steps = {path.read_text().splitlines()[-1].split(",")[1] for path in histories}
    assert steps == {"8"}  # 2 epochs of 4 steps, however few the images
    assert "from scratch" in done.stdout and "±" in done.stdout and "linear model" in done.stdout
    for row in rows:
        last = next(folder.glob(f"{row['way']}-{row['images']}-*/history.csv")).read_text().splitlines()[-1]
        assert row["val_acc"] == pytest.approx(float(last.split(",")[6]), abs=1e-5)


def test_it_compares_by_best_by(parent, squares, inside):
    config = settings(squares / "two", 2, epochs=1)
    (inside / "x.yaml").write_text("\n".join(overrides(config)).replace("=", ": "))
    arguments = ["--backbone", parent, "--compare", "frozen", "--fractions", "0.5", "--seeds", 1]
    done = cli("transfer", "x.yaml", *arguments, "best_by=recall:left", "--json", "x.json", cwd=inside)
    assert done.returncode == 0, done.stderr
    result = json.loads((inside / "x.json").read_text())
    (row,) = result["rows"]
    (table,) = (inside / "runs").glob("*/frozen-*/history.csv")
    assert result["best_by"] == "recall:left" and row["val_recall"] == float(table.read_text().split(",")[-1])
    assert "val_recall in the last epoch" in done.stdout and f"{row['val_recall']:.3f} ±" in done.stdout
