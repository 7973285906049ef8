"""Freezing settings that fit no network."""

import re

import pytest
from helpers import settings

from mslab.config import load_settings
from mslab.errors import ConfigError


@pytest.fixture
def quick(squares):
    return settings(squares / "two", 2, stages=None, epochs=4, warmup_epochs=1)


@pytest.mark.parametrize(
    "options,text",
    [
        ({"lr_scale": {"backbone": 0.0}}, "0 is refused: it would not freeze"),
        ({"lr_scale": {"trunk": 0.1}}, "lr_scale"),
        ({"unfreeze": {1: "layer1"}}, "unfreeze"),
        ({"freeze_layer_pattern": "(("}, "'((' is not a regular expression"),
        ({"freeze": "all", "layers_to_freeze": 2}, "are three ways to freeze layers; set only one"),
    ],
)
def test_settings_that_never_fit(options, text, quick):
    with pytest.raises(ConfigError, match=re.escape(text)):
        load_settings(quick | options)
