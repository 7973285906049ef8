"""Settings: one schema in which every field says unit and effect; YAML 1.2 in, a validated EasyDict out."""

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

from mslab.config.aliases import NEIGHBOURS, SAME
from mslab.config.rules import CONTRADICTIONS, IDLE, fill
from mslab.config.schema import FIELDS, Profile, Schema, Stage, Triple
from mslab.errors import ConfigError

__all__ = ["FIELDS", "NEIGHBOURS", "SAME", "Profile", "Stage", "Triple", "dump_config", "load_config", "read_yaml"]

log = logging.getLogger("mslab")


def load_config(source: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> EasyDict:
    """A YAML file or a dict, with `key=value` overrides on top, as an EasyDict with every setting filled in.

    Raises ConfigError that lists every problem. A setting that does nothing is said, and refused among the overrides.
    """
    where = str(source) if isinstance(source, str | Path) else "the config"
    given = read_yaml(Path(source)) if isinstance(source, str | Path) else dict(source)
    problems: list[tuple[str, str]] = []
    overridden: set[str] = set()
    for text in overrides:
        key, equals, value = text.partition("=")
        key = key.strip()
        if not equals or not key:
            problems.append((text, "is no key=value; write for example lr_max=0.05"))
            continue
        overridden.add(key)
        try:
            given[key] = _yaml().load(value) if value.strip() else None
        except YAMLError:
            problems.append((key, f"{value!r} is no YAML value; put text with special characters in quotes"))
            given.pop(key, None)
            continue
        if given[key] is None and key != "seed":  # key=null takes a setting away; seed=null draws one
            if key not in FIELDS:
                problems.append((key, _unknown(key)))
            del given[key]
    config, more = _validate({key: _plain(value) for key, value in given.items()})
    problems += more
    if config.get("seed", 0) is None:
        config["seed"] = secrets.randbelow(2**31)
        log.info(f"seed: null drew {config['seed']}; seed={config['seed']} repeats this")
    for name, other, text in _idle(config):
        if name in overridden:
            problems.append((name, f"does nothing here: with {other} {text}; leave it out"))
        elif name in given and given[name] != FIELDS[name].default:
            log.info(f"note: {name} in {where} does nothing here: with {other} {text}")
    if problems:
        count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        raise ConfigError(
            f"{where} has {count}.",
            details=problems,
            expected="the settings of mslab/config/schema.py, each with its unit and effect there",
            fix="correct the file, or override with key=value",
        )
    return EasyDict(config)


def read_yaml(path: Path) -> dict[str, Any]:
    """The settings of a YAML 1.2 file. Raises ConfigError where it is missing, empty or no flat table of settings."""
    if not path.is_file():
        near = sorted(str(file) for file in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        fix = f"one of {', '.join(near)}" if near else "give the path of a YAML file; configs/ has some"
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
            f"{path} holds no settings.", expected="lines like 'epochs: 12'", fix="copy one from configs/"
        )
    return content


def dump_config(config: Mapping[str, Any]) -> str:
    """The config as YAML, one setting a line, in the schema's order, each with its unit and effect as a comment."""
    lines = []
    for name, field in FIELDS.items():
        buffer = io.StringIO()
        writer = YAML(typ="safe", pure=True)
        writer.default_flow_style, writer.width = True, 10_000
        writer.dump({name: _plain(config[name])}, buffer)
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


def _unknown(name: str) -> str:
    if name in NEIGHBOURS:
        whose, ours = NEIGHBOURS[name]
        return f"'{name}' is {whose}'s name; here it is {ours if ' ' in ours else repr(ours)}"
    close = difflib.get_close_matches(name, [*FIELDS, *NEIGHBOURS], n=1, cutoff=0.6)
    if not close:
        return f"'{name}' is not a setting"
    ours = NEIGHBOURS[close[0]][1] if close[0] in NEIGHBOURS else close[0]
    return f"'{name}' is not a setting; did you mean '{ours}'?"


def _validate(given: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """(the settings that are valid, with defaults; every problem)."""
    problems: dict[str, str] = {str(name): _unknown(str(name)) for name in given if name not in FIELDS}
    known = {name: value for name, value in given.items() if name in FIELDS}
    try:
        config = Schema(**known).model_dump()
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
    fill(config, given)
    rows = list(problems.items())
    for name, contradiction in CONTRADICTIONS:
        try:
            text = contradiction(config)
        except KeyError:  # a setting it looks at is missing or wrong, which is said already
            continue
        if text:
            rows.append((name, text))
    return config, rows


def _idle(config: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """(setting, "another: its value", why) of each that does nothing in this config; the first reason counts."""
    rows: dict[str, tuple[str, str, str]] = {}
    for names, other, does_nothing, why in IDLE:
        try:
            if does_nothing(config):
                for name in names.split():
                    rows.setdefault(name, (name, f"{other}: {config[other]}", why))
        except KeyError:  # as above
            continue
    return list(rows.values())
