"""Recipes: each small one has its figures beside it, which its config's comment repeats; the lab's own are marked."""

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
def test_a_small_recipe_has_what_was_measured_beside_it(name):
    measured, config = RunFolder.read(recipes.MEASURED / name), load_settings(PROJECT / "configs" / f"{name}.yaml")
    same = {key for key in config if config[key] == measured.config[key]}
    assert set(config) - same <= {"stages", "profile", "stem", "amp_level", "mean", "std"}, (
        "the recipe has changed since"
    )
    assert measured.finished and measured.manifest["git"]["dirty"] is False
    kinds = {False: "train", True: "transfer"}
    assert measured.manifest["kind"] == kinds[recipes.RECIPES[name].parent is not None]
    assert {file.name for file in (recipes.MEASURED / name).iterdir()} == set(recipes.FILES)
    figure, linear = recipes.best(measured), measured.manifest["metrics"]["linear_acc"]
    assert f"val_acc {figure:.3f}" in comment(name)[1] and f"{linear:.3f}" in comment(name)[1]
    assert figure > linear


def test_a_child_began_from_what_its_parent_left():
    for name, recipe in recipes.RECIPES.items():
        if recipe.parent:
            parent = RunFolder.read(recipes.MEASURED / recipe.parent).manifest["artifacts"]
            digest = RunFolder.read(recipes.MEASURED / name).manifest["parent"]["sha256"]
            assert digest == parent["checkpoints/best_backbone.ckpt"]


@pytest.mark.parametrize("name", ["paper_nine", "paper_two"])
def test_the_labs_own_settings_are_kept_and_not_said_to_be_measured(name):
    config = load_settings(PROJECT / "configs" / f"{name}.yaml")
    assert {key: config[key] for key in PAPER} == PAPER and config.weight_decay == 1e-4
    assert comment(name)[1].startswith("# not measured here") and "94 %" in comment(name)[1]


def test_parents_come_before_children_and_are_brought_along():
    assert recipes.chosen([], True) == ["tiny_nine"]
    assert recipes.chosen(["tiny_two"], False) == ["tiny_nine", "tiny_two"]
    assert recipes.chosen([], False) == list(recipes.RECIPES)
    with pytest.raises(MslabError, match=r"no recipe: tiny_ten\.") as caught:
        recipes.chosen(["tiny_ten"], False)
    assert "of tiny_nine, tiny_two" in str(caught.value) and "fix" in str(caught.value)


def test_where_there_are_no_recipes_it_is_said(inside, monkeypatch):
    monkeypatch.setattr(recipes, "MEASURED", inside / "measured")
    with pytest.raises(MslabError, match=r"There is no .*measured\.") as caught:
        recipes.chosen([], False)
    assert "clone the project" in str(caught.value)
