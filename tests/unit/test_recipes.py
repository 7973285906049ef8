"""Recipes: each small one has recorded figures, which its config's comment repeats; the lab's own are marked."""

import pytest
from helpers import PROJECT

from mslab.config import load_settings
from mslab.errors import MslabError
from mslab.reproduce import recipes
from mslab.runs.folder import RunFolder

PAPER = {"batch_size": 128, "epochs": 300, "lr_init": 0.01, "lr_max": 0.1, "warmup_epochs": 10, "momentum": 0.75}


def comment(name):
    return (PROJECT / "configs" / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[:2]


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_small_recipe_has_recorded_figures(name):
    measured = RunFolder.read(recipes.MEASURED / name)
    config, recorded = load_settings(PROJECT / "configs" / f"{name}.yaml").model_dump(), measured.settings.model_dump()
    changed = {key for key in config if config[key] != recorded[key]}
    assert changed <= {"stages", "profile", "stem", "amp_level", "cache", "mean", "std"}, "the recipe has changed since"
    assert measured.finished and measured.manifest["git"]["dirty"] is False
    kinds = {False: "train", True: "transfer"}
    assert measured.manifest["kind"] == kinds[recipes.RECIPES[name].parent is not None]
    assert {file.name for file in (recipes.MEASURED / name).iterdir()} == set(recipes.FILES)
    figure, linear = recipes.best(measured), measured.manifest["metrics"]["linear_acc"]
    assert f"val_acc {figure:.3f}" in comment(name)[1] and f"{linear:.3f}" in comment(name)[1]
    assert figure > linear


def test_a_child_started_from_the_backbone_of_its_parent():
    for name, recipe in recipes.RECIPES.items():
        if recipe.parent:
            parent = RunFolder.read(recipes.MEASURED / recipe.parent).manifest["artifacts"]
            digest = RunFolder.read(recipes.MEASURED / name).manifest["parent"]["sha256"]
            assert digest == parent["checkpoints/best_backbone.ckpt"]


@pytest.mark.parametrize("name", ["paper_nine", "paper_two"])
def test_the_labs_own_settings_are_unchanged_and_marked_as_not_measured(name):
    config = load_settings(PROJECT / "configs" / f"{name}.yaml")
    assert config.model_dump(include=set(PAPER)) == PAPER and config.weight_decay == 1e-4
    assert comment(name)[1].startswith("# not measured here") and "94 %" in comment(name)[1]


def test_parents_are_selected_too_and_come_before_children():
    assert recipes.select_recipes([], True) == ["tiny_nine"]
    assert recipes.select_recipes(["tiny_two"], False) == ["tiny_nine", "tiny_two"]
    assert recipes.select_recipes([], False) == list(recipes.RECIPES)
    with pytest.raises(MslabError, match=r"There is no recipe tiny_ten\.") as caught:
        recipes.select_recipes(["tiny_ten"], False)
    assert "one or more of tiny_nine, tiny_two" in str(caught.value) and "fix" in str(caught.value)


def test_missing_recipes_are_reported(inside, monkeypatch):
    monkeypatch.setattr(recipes, "MEASURED", inside / "measured")
    with pytest.raises(MslabError, match=r"There is no .*measured\.") as caught:
        recipes.select_recipes([], False)
    assert "clone the project" in str(caught.value)
