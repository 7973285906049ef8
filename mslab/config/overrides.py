"""Settings on the command line: KEY=VALUE, and what to type instead of words that are not."""

import json
import re
from collections.abc import Sequence
from typing import Any

from mslab import files
from mslab.config.aliases import FOREIGN_NAMES
from mslab.config.correcting import example, flow
from mslab.config.mending import pairs
from mslab.config.naming import meant, plain, unknown_setting
from mslab.config.rules import Problem
from mslab.config.schema import FIELDS
from mslab.safe_yaml import parse_yaml

KEY_VALUE = re.compile(r"\s*[^\s=]+\s*=.*\S.*", re.DOTALL)
# a name, what stands for "=" and a value: epochs = 3, epochs:3, epochs＝3, —epochs 3; else three empty groups
LOOSE = r"[-\u2010-\u2015\u2212\uff0d]*([\w-]+(?=[\s=:：＝﹦︰]|$)|)\s*([=:：＝﹦︰]*>?)\s*(.*)"


def override(name: str, value: Any) -> str:
    """The text NAME=VALUE that sets this value."""
    # override("optimizer", "adam") -> "optimizer=adam"; override("train_data", "a: b") -> 'train_data="a: b"'
    return f"{name}={flow(value) if isinstance(value, str) else json.dumps(value)}"


def listed(overrides: Sequence[str] | None) -> list[str]:
    """The KEY=VALUE texts that a caller gives: one text is a list of one, and None is none."""
    # listed("epochs=1") -> ["epochs=1"]
    return [overrides] if isinstance(overrides, str) else list(overrides or [])


def apply(values: dict[str, Any], overrides: Sequence[str]) -> tuple[list[str], list[Problem]]:
    """Apply `key=value` texts to `values`. Returns (overridden keys, problems with texts that are not valid)."""
    problems = not_key_value(overrides)
    keys = [text for text, _ in problems]
    for text in filter(KEY_VALUE.fullmatch, overrides):
        if len(several := pairs(text)) > 1 and not re.search(r"[\[{\"']", text):
            words = " ".join(f"{name}={value.strip(' ,;')}" for name, value in several)
            problems.append((text, f"is several settings in one word; type {words}, without quotes and commas"))
            keys.append(text)
            continue
        key, _, value = text.partition("=")
        key = key.strip()
        keys.append(key)
        try:
            values[key] = parse_yaml(value)
        except files.FormatError:
            problems.append((key, f"{value!r} is not a YAML value; quote text with special characters"))
            values.pop(key, None)
            continue
        if values[key] is None and key != "seed":  # key=null removes a setting; seed=null draws one
            if key not in FIELDS:
                problems.append((key, unknown_setting(key)))
            del values[key]
    return keys, problems


def not_key_value(overrides: Sequence[str]) -> list[Problem]:
    """What to type instead of texts that are not key=value, and of the words beside them that belong to them."""
    # not_key_value(["epochs", "=", "3"]) -> [("epochs = 3", "type epochs=3, without spaces around =")]
    problems, words = [], list(overrides)
    while words:
        text = words.pop(0)
        if KEY_VALUE.fullmatch(text):
            continue
        while words and len(text.split()) < 3 and not KEY_VALUE.fullmatch(words[0]) and not meant(words[0].rstrip(":")):
            text += f" {words.pop(0)}"
        problems.append((text, to_type(text)))
    return problems


def to_type(text: str) -> str:
    """What to type instead of a text that is not key=value."""
    name, mark, value = re.fullmatch(LOOSE, text, re.DOTALL).groups()  # type: ignore[union-attr]  # it takes all
    ours = meant(name)
    project, foreign = FOREIGN_NAMES.get(plain(name), ("", ""))
    known = f" ('{name}' is {project}'s name)" if foreign else ""
    if text.endswith((".yaml", ".yml")):
        return "is no setting: one config is read, the words after it are settings such as lr_max=0.05"
    if foreign and not ours:
        return f"is not key=value; {unknown_setting(name)}"
    ours = ours or name
    if ours and value:
        return f"type {ours}={value}{', without spaces around =' if ' ' in text else ''}{known}"
    if ours and mark:
        if ours not in FIELDS:
            return f"has no value; {unknown_setting(ours)}"
        away = "" if FIELDS[ours].is_required() else f"{ours}=null takes the setting away, "
        return f"has no value; {away}{ours}={example(ours)} sets it{known}"
    return f"is not key=value; write for example {ours if ours in FIELDS else 'lr_max'}=VALUE"
