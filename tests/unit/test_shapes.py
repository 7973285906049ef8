"""Images that are not square: what the check says of a centre crop, and which sizes fit `resize_mode`."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import cli, draw, settings
from PIL import Image

from mslab.check import check_dataset
from mslab.config import load_settings
from mslab.errors import ConfigError


def shaped(folder: Path, sizes: list[tuple[int, int]]) -> Path:
    rng = np.random.default_rng(1)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number, (width, height) in enumerate(sizes):
            pixels = rng.integers(0, 255, (height, width, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def crops(*arguments, **options) -> list[str]:
    return [f.message for f in check_dataset(*arguments, **options).findings if f.code == "centre-crop"]


def test_check_says_how_much_of_how_many_images_a_centre_crop_would_cut_away(inside):
    shaped(Path("x"), [(60, 40), (40, 80), (48, 40), (40, 40)])
    answer = cli("check", "x")
    assert answer.returncode == 0 and "info  centre-crop  (1)" in answer.stdout
    text = (
        "(4 of 8 images lose more than 25% of their area by the centre crop of evaluation, half of these 50% or more)"
    )
    assert text in answer.stdout and "fix  resize_mode: pad keeps all of it" in answer.stdout


def test_a_config_with_pad_or_squash_is_not_told_of_the_crop(inside):
    for split, seed in (("train", 0), ("val", 1)):
        shaped(Path("x") / split, [(60 + seed, 40)] * 4)
    Path("c.yaml").write_text("\n".join(f"{k}: {json.dumps(v)}" for k, v in settings(Path("x"), 2).items()))
    assert "centre-crop" in cli("check", "c.yaml").stdout
    for mode in ("pad", "squash"):
        assert "centre-crop" not in cli("check", "c.yaml", f"resize_mode={mode}").stdout


def test_square_images_and_photos_of_4_to_3_are_no_news(inside):
    assert not crops(draw(Path("square"), ["a", "b"], 4))
    assert not crops(shaped(Path("photos"), [(64, 48), (48, 64), (40, 40)]))
    assert not crops(shaped(Path("few"), [(40, 40)] * 19 + [(80, 40)]))


def test_a_strip_is_described_for_the_mode_that_is_used(inside):
    shaped(Path("x"), [(40, 40), (160, 40)])
    texts = {"crop": "uses the middle square, 25% of", "pad": "all but 25% of", "squash": "stretched 4.0 times"}
    for mode, text in texts.items():
        (first, _) = [f for f in check_dataset("x", resize_mode=mode).findings if f.code == "aspect"]
        assert text in first.message


@pytest.mark.parametrize("mode", ["pad", "squash"])
def test_a_resize_above_the_crop_would_cut_away_what_pad_keeps(mode):
    values = settings(Path("x"), 2, image_size=224, valid_resize_size=256)
    with pytest.raises(ConfigError) as caught:
        load_settings(values | {"resize_mode": mode})
    assert f"resize_mode: {mode} evaluates all of an image, and valid_resize_size: 256" in str(caught.value)
    assert "valid_resize_size=224 helps" in str(caught.value)
    assert load_settings(values | {"resize_mode": mode}, ["valid_resize_size=224"]).resize_mode == mode
    assert load_settings(values).resize_mode == "crop"


def test_names_of_other_projects_lead_to_resize_mode():
    for name, value, project in (
        ("crop_mode", "border", "timm"),
        ("letterbox", True, "Ultralytics"),
        ("pad_to_aspect_ratio", True, "Keras"),
        ("crop_to_aspect_ratio", True, "Keras"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_settings(settings(Path("x"), 2) | {name: value})
        assert f"'{name}' is {project}'s name; here it is resize_mode: " in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        load_settings(settings(Path("x"), 2, resize_mode="sqash"))
    assert "write squash" in str(caught.value)
