"""Read settings from YAML 1.2 files, dicts and key=value texts; validate them; write them as YAML."""

import difflib
import io
import json
import logging
import os
import re
import secrets
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from easydict import EasyDict
from pydantic import ValidationError
from ruamel.yaml import YAML

from mslab import files
from mslab.config import paths, rules
from mslab.config.aliases import FOREIGN_NAMES
from mslab.config.rules import Problem
from mslab.config.schema import FIELDS, Settings
from mslab.errors import ConfigError

log = logging.getLogger("mslab")
PAGE = "python -m mslab.config.page"
HOME_PATHS = {"train_data", "val_data"}  # settings in which ~ is the home folder
KEY_VALUE = re.compile(r"\s*[^\s=]+\s*=.*\S.*", re.DOTALL)
# a name, what stands for "=" and a value: epochs = 3, epochs:3, epochs＝3, —epochs 3; else three empty groups
LOOSE = r"[-\u2010-\u2015\u2212\uff0d]*(\w+(?=[\s=:：＝﹦︰]|$)|)\s*([=:：＝﹦︰]?)\s*(.*)"
TYPESET = (  # a character that YAML does not know -> what it is
    (r"\s*[\"']?\w+[\"']?\s*([：︰﹕∶])", "({}) is a wide colon; type ':' and a space"),
    (r"\s*\w+ *:[ \t]*([\u00a0\u2000-\u200b\u202f\u205f\u3000])", "({}) looks like a space and is none; type a space"),
    (r"([\u00a0\u2000-\u200b\u202f\u205f\u3000])", "({}) looks like a space and is none; type a space"),
    (r"\s*\w+\s*:\s*([“”„‟‘’‚«»「」『』＂＇])", '({}) is no quotation mark of YAML; type " or leave it out'),
    (r"\s*\w+\s*:\s*\[.*([，、；])", "({}) is a wide comma; type ','"),
    (r"\w+ *:[ ]*(\t)", "({}) is a tab; type a space"),
    (r"[a-z_]+(:)(?=[^\s:/\\])", "needs a space after it"),
)
Source = str | Path | Mapping[str, Any] | Settings  # a YAML file, a dict or an EasyDict from users


def load_config(source: Source, overrides: Sequence[str] = ()) -> EasyDict:
    """Load settings as an EasyDict, which the lab's scripts use. mslab.train accepts it."""
    return EasyDict(load_settings(source, overrides).model_dump())


def load_settings(source: Source, overrides: Sequence[str] = ()) -> Settings:
    """Read a YAML file or a dict, apply `key=value` overrides, and validate every setting.

    A setting that does nothing is logged; among the overrides it is a problem. Raises ConfigError with every problem.
    """
    if isinstance(source, Settings):
        if not overrides:
            return source
        source = source.model_dump()
    if isinstance(source, os.PathLike) or not isinstance(source, Mapping):
        source = paths.path_of(source, ConfigError, "a YAML file of settings, or a dict", lambda: "give one of them")
    origin = str(source) if isinstance(source, Path) else "the config"
    values = read_yaml(source) if isinstance(source, Path) else dict(source)
    for name in HOME_PATHS & values.keys():
        values[name] = from_home(values[name])  # in overrides, the command line has done that, unless ~ is quoted
    overridden, problems = _override(values, overrides)
    if values.get("seed", 0) is None:
        values["seed"] = secrets.randbelow(2**31)
        log.info(f"seed: null drew {values['seed']}; seed={values['seed']} repeats this")
    settings, invalid = _validate({key: _plain(value) for key, value in values.items()})
    problems += invalid
    idle: dict[str, str] = {}
    for name, _, text in rules.idle(settings):
        idle.setdefault(name, text)  # the first reason counts
    for name, text in idle.items():
        if name in overridden:
            problems.append((name, f"does nothing here: {text}; leave it out"))
        elif name in values and values[name] != FIELDS[name].default:
            log.info(f"note: {name} in {origin} does nothing here: {text}")
    if problems:
        count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        typed = {name for name, _ in problems} <= overridden
        raise ConfigError(
            f"{'The key=value settings have' if typed else f'{origin} has'} {count}.",
            details=problems,
            expected=f"settings of docs/settings.md, with their ranges; {PAGE} prints it",
            fix="correct what follows the config" if typed else "correct the file, or override with key=value",
        )
    return settings


def override(name: str, value: Any) -> str:
    """The text NAME=VALUE that sets this value."""
    # override("optimizer", "adam") -> "optimizer=adam"; override("train_data", "a: b") -> "train_data='a: b'"
    return f"{name}={_flow(value) if isinstance(value, str) else json.dumps(value)}"


def _override(values: dict[str, Any], overrides: Sequence[str]) -> tuple[set[str], list[Problem]]:
    """Apply `key=value` texts to `values`. Returns (overridden keys, problems with texts that are not valid)."""
    problems = not_key_value(overrides)
    keys = {text for text, _ in problems}
    for text in filter(KEY_VALUE.fullmatch, overrides):
        key, _, value = text.partition("=")
        key = key.strip()
        keys.add(key)
        try:
            values[key] = files.parse_yaml(value)
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
        while words and len(text.split()) < 3 and not KEY_VALUE.fullmatch(words[0]) and words[0] not in FIELDS:
            text += f" {words.pop(0)}"
        name, mark, value = re.fullmatch(LOOSE, text, re.DOTALL).groups()  # type: ignore[union-attr]  # it takes all
        if text.endswith((".yaml", ".yml")):
            problem = "is no setting: one config is read, the words after it are settings such as lr_max=0.05"
        elif name and value:
            problem = f"type {name}={value}{', without spaces around =' if ' ' in text else ''}"
        elif name and mark:
            problem = f"has no value; {name}=null takes the setting away"
        else:
            problem = f"is not key=value; write for example {name if name in FIELDS else 'lr_max'}=VALUE"
        problems.append((text, problem))
    return problems


def read_yaml(path: Path, kind: str = "config", line: str = "epochs: 12") -> dict[str, Any]:
    """Read the table of a YAML 1.2 file. Raises ConfigError if it is missing, empty or not a flat table.

    `kind`: what it should be; `line`: one of its lines, as an example.
    """
    here = files.kind_of(path, links=True)
    if here in ("", "a folder") or paths.of_file(path).kind in ("weights", "image"):
        raise paths.no_config(path, kind)
    expected = f"lines like '{line}'"
    try:
        text = files.read_text(path, files.MAX_YAML)
        if lines := typeset(text):
            raise ConfigError(
                f"{path} has characters that YAML takes for text.",
                details=lines,
                expected=expected,
                fix="type them again, in a plain text editor: a word processor or a Chinese keyboard writes others",
            )
        table = files.parse_yaml(text)
    except (OSError, ValueError) as error:
        at = f", line {error.line}" if isinstance(error, files.FormatError) and error.line else ""
        problem = str(getattr(error, "strerror", None) or error)
        fix = "correct that line"
        if "escape" in problem:  # "D:\data"
            fix = "write / instead of \\, or single quotes: in double quotes \\ begins a special character"
        raise ConfigError(f"{path}{at}: {problem}.", expected=expected, fix=fix) from None
    if not isinstance(table, dict):
        fix = "copy one from configs/; mslab new FOLDER writes some"
        raise ConfigError(f"{path} contains no settings.", expected=expected, fix=fix)
    return table


def from_home(value: Any) -> Any:
    """A path with the home folder for its ~; other values stay. Variables such as $HOME are not replaced."""
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~") else value  # noqa: PTH111


def typeset(text: str) -> list[Problem]:
    """The lines in which colons, spaces or quotation marks are none for YAML, which would read them as text."""
    problems = []
    for number, line in enumerate(text.split("\n"), 1):
        for pattern, problem in TYPESET:
            if found := re.match(pattern, line):
                problems.append((f"line {number}", f"{found[1]!r} {problem.format(ascii(found[1])[1:-1])}"))
    return problems


def dump_config(settings: Settings) -> str:
    """Return the settings as YAML, one a line, in the schema's order, with unit and effect as a comment."""
    lines, table = [], settings.model_dump()
    for name, field in FIELDS.items():
        lines.append(f"{_flow({name: _plain(table[name])})[1:-1]:<40}  # {field.description}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    """Return a value as YAML in one line."""
    buffer = io.StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.default_flow_style, writer.width = True, 10_000
    writer.dump(value, buffer)
    return buffer.getvalue().removesuffix("\n...\n").strip()


def _plain(value: Any) -> Any:
    """Convert NumPy scalars, tuples, paths and EasyDicts to plain YAML values."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def unknown_setting(name: str) -> str:
    """Return the message about a name that is not a setting, with the likely name here."""
    plain = name.lower().replace("-", "_")
    if plain in FOREIGN_NAMES:
        project, ours = FOREIGN_NAMES[plain]
        return f"'{name}' is {project}'s name; here it is {ours if ' ' in ours else repr(ours)}"
    close = difflib.get_close_matches(plain, [*FIELDS, *FOREIGN_NAMES], n=1, cutoff=0.6)
    if not close:
        return f"'{name}' is not a setting"
    ours = FOREIGN_NAMES[close[0]][1] if close[0] in FOREIGN_NAMES else close[0]
    return f"'{name}' is not a setting; did you mean '{ours}'?"


def instead(item: Mapping[str, Any]) -> str:
    """What to write instead of a text that pydantic refuses ("; write adam"), or ""."""
    # {"input": "Adam", "ctx": {"expected": "'sgd' or 'adam'"}} -> "; write adam"
    given = item["input"]
    if not isinstance(given, str):
        return ""
    plain = unicodedata.normalize("NFKC", given).strip().lower()
    near = difflib.get_close_matches(plain, re.findall(r"'(\w+)'", item.get("ctx", {}).get("expected", "")), 1, 0.7)
    if near:
        return f"; write {near[0]}"
    if item["type"].startswith("bool"):
        word = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false", "off": "false"}.get(plain)
        return f"; write {word}" if word else ""
    if re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?", plain, re.ASCII):
        wide = "" if given.isascii() else f"{given!r} ({ascii(given)[1:-1]}) are wide digits; "
        return f"; {wide}write {plain}, without quotes"
    return ""


def _validate(values: dict[str, Any]) -> tuple[Settings, list[Problem]]:
    """Return (the settings without missing and invalid ones, every problem)."""
    problems: dict[str, str] = {str(name): unknown_setting(str(name)) for name in values if name not in FIELDS}
    recognised = {name: value for name, value in values.items() if name in FIELDS}
    for name, value in recognised.items():
        if isinstance(value, str) and "\0" in value:
            problems[name] = f"{value!r} contains a null character, which no file's name has"
    recognised = {name: value for name, value in recognised.items() if name not in problems}
    try:
        config = Settings(**recognised).model_dump()
    except ValidationError as error:
        for item in error.errors():
            name = str(item["loc"][0])
            position = "".join(f"[{index}]" for index in item["loc"][1:] if isinstance(index, int))
            field = FIELDS[name]
            if item["type"] == "missing":
                text = f"is missing ({field.description})"
            elif item["type"] == "value_error":  # of stages
                text = str(item["ctx"]["error"])
            else:
                reason = re.sub(r"^Input should be ", "must be ", item["msg"])
                text = f"{item['input']!r}{' at ' + name + position if position else ''} {reason}"
                text += f"{instead(item)} ({field.description})"
            problems.setdefault(name, text)
        defaults = {name: field.get_default() for name, field in FIELDS.items() if not field.is_required()}
        config = {name: value for name, value in (defaults | recognised).items() if name not in problems}
    rules.fill_schedule(config, values)
    if config.keys() >= FIELDS.keys():
        settings = Settings(**config)
    else:
        settings = Settings.model_construct(**config)
        for name in FIELDS.keys() - config.keys():  # model_construct has filled in defaults
            vars(settings).pop(name, None)
    return settings, [*problems.items(), *rules.contradictions(settings)]
