"""mslab reproduce-all, with two small recipes that the tests define."""

import json
import re
import shutil
from pathlib import Path

import pytest
from helpers import cli, settings
from PIL import Image

from mslab.config import dump_config, load_settings
from mslab.errors import MslabError
from mslab.reproduce import recipes
from mslab.runs.folder import RunFolder


@pytest.fixture
def kit(squares, inside, monkeypatch):
    """Two small recipes and their recorded results."""
    (inside / "configs").mkdir()
    for name, data, classes in (("one", "three", 3), ("child", "two", 2)):
        shutil.copytree(squares / data, inside / data)
        config = load_settings(settings(inside / data, classes, epochs=1))
        (inside / "configs" / f"{name}.yaml").write_text(dump_config(config))
    monkeypatch.setattr(recipes, "CONFIGS", inside / "configs")
    monkeypatch.setattr(recipes, "MEASURED", inside / "configs" / "measured")
    monkeypatch.setattr(recipes, "RECIPES", {"one": recipes.Recipe(""), "child": recipes.Recipe("", "one")})
    (inside / "configs" / "measured").mkdir()
    recipes.record([])
    return inside


def test_recipes_are_repeated_and_compared_with_the_recorded_figures(kit):
    rows = recipes.reproduce_all([])
    assert [(row["recipe"], row["verdict"], row["then"]) for row in rows] == [
        (row["recipe"], "identical", row["now"]) for row in rows
    ]
    assert len(rows) == 2 and all(Path(row["run"]).is_dir() for row in rows)
    assert "identical" in recipes.table(rows)
    file = recipes.MEASURED / "one" / "history.csv"
    text = file.read_text()
    measured = RunFolder.read(recipes.MEASURED / "one").history[-1]
    file.write_text(text.replace(f"{measured['val_acc']:.6g}", "0.123"))
    done = cli("reproduce-all", "--fastest", "--json", "-")
    (row,) = json.loads(done.stdout)["recipes"]
    assert done.returncode == 1 and row["recipe"] == "one" and row["verdict"] == "different" and row["then"] == 0.123


def test_drawn_images_that_differ_slightly_do_not_stop_a_recipe_but_missing_ones_do(kit, caplog):
    """On another kind of processor a few of the drawn images differ in single pixels."""
    file = kit / "three" / "train" / "a" / "000.png"
    image = Image.open(file).convert("RGB")
    image.paste((90, 90, 90), (18, 18, 22, 22))
    image.save(file)
    (row,) = recipes.reproduce_all(["one"])
    assert row["verdict"] in ("within tolerance", "different") and Path(row["run"]).is_dir()
    assert re.search(r"images +.*yes: +figures may|the same number per class", " ".join(caplog.text.split()))
    file.unlink()
    with pytest.raises(MslabError, match=r"its images differ from the record"):
        recipes.reproduce_all(["one"])


def test_the_command_refuses_unknown_recipes_and_contradictory_options(inside):
    done = cli("reproduce-all", "tiny_ten")
    assert done.returncode == 1 and "There is no recipe tiny_ten." in done.stderr
    done = cli("reproduce-all", "tiny_two", "--fastest")
    assert done.returncode == 2 and "--fastest selects one recipe" in done.stderr
    for option in (["--fastest"], ["--json", "-"]):
        done = cli("reproduce-all", "--record", *option)
        assert done.returncode == 2 and "--record trains and saves" in done.stderr
