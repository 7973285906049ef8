"""Settings from outside: YAML 1.2 files, dicts and key=value in, validated Settings out; and back into YAML."""

import difflib
import io
import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from easydict import EasyDict
from pydantic import ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mslab.config import rules
from mslab.config.aliases import NEIGHBOURS
from mslab.config.rules import Problem
from mslab.config.schema import FIELDS, Settings
from mslab.errors import ConfigError

log = logging.getLogger("mslab")
Source = str | Path | Mapping[str, Any] | Settings  # what users give: a YAML file, a dict, an EasyDict


def load_config(source: Source, overrides: Sequence[str] = ()) -> EasyDict:
    """The same as load_settings, as an EasyDict: what the lab's scripts work with. mslab.train takes it back."""
    return EasyDict(load_settings(source, overrides).model_dump())


def load_settings(source: Source, overrides: Sequence[str] = ()) -> Settings:
    """A YAML file or a dict, with `key=value` overrides on top: every setting, validated.

    Raises ConfigError that lists every problem. A setting that does nothing is said, and refused among the overrides.
    """
    if isinstance(source, Settings):
        if not overrides:
            return source
        source = source.model_dump()
    where = str(source) if isinstance(source, str | Path) else "the config"
    given = read_yaml(Path(source)) if isinstance(source, str | Path) else dict(source)
    overridden, problems = _override(given, overrides)
    if given.get("seed", 0) is None:
        given["seed"] = secrets.randbelow(2**31)
        log.info(f"seed: null drew {given['seed']}; seed={given['seed']} repeats this")
    settings, more = _validate({key: _plain(value) for key, value in given.items()})
    problems += more
    idle: dict[str, str] = {}
    for name, _, text in rules.idle(settings):
        idle.setdefault(name, text)  # the first reason counts
    for name, text in idle.items():
        if name in overridden:
            problems.append((name, f"does nothing here: {text}; leave it out"))
        elif name in given and given[name] != FIELDS[name].default:
            log.info(f"note: {name} in {where} does nothing here: {text}")
    if problems:
        count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        raise ConfigError(
            f"{where} has {count}.",
            details=problems,
            expected="the settings of mslab/config/schema.py, each with its unit and effect there",
            fix="correct the file, or override with key=value",
        )
    return settings


def _override(given: dict[str, Any], overrides: Sequence[str]) -> tuple[set[str], list[Problem]]:
    """Put `key=value` texts into the settings given. Returns the keys, and every text that is none."""
    keys: set[str] = set()
    problems: list[Problem] = []
    for text in overrides:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            problems.append((text, "is no key=value; write for example lr_max=0.05"))
            continue
        keys.add(key)
        try:
            given[key] = _yaml().load(value) if value.strip() else None
        except YAMLError:
            problems.append((key, f"{value!r} is no YAML value; put text with special characters in quotes"))
            given.pop(key, None)
            continue
        if given[key] is None and key != "seed":  # key=null takes a setting away; seed=null draws one
            if key not in FIELDS:
                problems.append((key, unknown(key)))
            del given[key]
    return keys, problems


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings of a YAML 1.2 file. Raises ConfigError where it is missing, empty or no flat table of settings."""
    if not path.is_file():
        near = sorted(str(file) for file in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        fix = f"one of {', '.join(near)}" if near else "give the path of a YAML file; mslab new FOLDER writes some"
        raise ConfigError(f"There is no config file {path}.", expected="a YAML file of settings", fix=fix)
    try:
        content = _yaml().load(path.read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(
            f"{path}{line} is no YAML: {problem}.", expected="lines like 'epochs: 12'", fix="correct that line"
        ) from None
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} holds no settings.",
            expected="lines like 'epochs: 12'",
            fix="copy one from configs/; mslab new FOLDER writes some",
        )
    return content


def dump_config(settings: Settings) -> str:
    """The settings as YAML, one setting a line, in the schema's order, each with its unit and effect as a comment."""
    lines, content = [], settings.model_dump()
    for name, field in FIELDS.items():
        buffer = io.StringIO()
        writer = YAML(typ="safe", pure=True)
        writer.default_flow_style, writer.width = True, 10_000
        writer.dump({name: _plain(content[name])}, buffer)
        lines.append(f"{buffer.getvalue().strip()[1:-1]:<40}  # {field.description}")
    return "\n".join(lines) + "\n"


def _yaml() -> YAML:
    return YAML(typ="safe", pure=True)  # pure: YAML 1.2, where 1e-4 is a number and `no` is a word


def _plain(value: Any) -> Any:
    """NumPy scalars, tuples, paths and EasyDicts, as plain YAML values."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def unknown(name: str) -> str:
    if name in NEIGHBOURS:
        whose, ours = NEIGHBOURS[name]
        return f"'{name}' is {whose}'s name; here it is {ours if ' ' in ours else repr(ours)}"
    close = difflib.get_close_matches(name, [*FIELDS, *NEIGHBOURS], n=1, cutoff=0.6)
    if not close:
        return f"'{name}' is not a setting"
    ours = NEIGHBOURS[close[0]][1] if close[0] in NEIGHBOURS else close[0]
    return f"'{name}' is not a setting; did you mean '{ours}'?"


def _validate(given: dict[str, Any]) -> tuple[Settings, list[Problem]]:
    """(the settings, without those that are missing or wrong; every problem)."""
    problems: dict[str, str] = {str(name): unknown(str(name)) for name in given if name not in FIELDS}
    known = {name: value for name, value in given.items() if name in FIELDS}
    try:
        config = Settings(**known).model_dump()
    except ValidationError as error:
        for item in error.errors():
            name = str(item["loc"][0])
            place = "".join(f"[{index}]" for index in item["loc"][1:] if isinstance(index, int))
            field = FIELDS[name]
            if item["type"] == "missing":
                text = f"is missing ({field.description})"
            else:
                reason = re.sub(r"^Input should be ", "must be ", item["msg"])
                text = f"{item['input']!r}{' at ' + name + place if place else ''} {reason} ({field.description})"
            problems.setdefault(name, text)
        defaults = {name: field.get_default() for name, field in FIELDS.items() if not field.is_required()}
        config = {name: value for name, value in (defaults | known).items() if name not in problems}
    rules.fill(config, given)
    if config.keys() >= FIELDS.keys():
        settings = Settings(**config)
    else:
        settings = Settings.model_construct(**config)
        for name in FIELDS.keys() - config.keys():  # where model_construct has put defaults
            vars(settings).pop(name, None)
    return settings, [*problems.items(), *rules.contradictions(settings)]
