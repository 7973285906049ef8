"""Turn files, dicts and key=value texts into validated settings; write settings as YAML."""

import logging
import os
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from easydict import EasyDict
from pydantic import ValidationError

from mslab.config import overrides as texts
from mslab.config import paths, rules, tasks
from mslab.config.correcting import example, flow, instead
from mslab.config.naming import KEYS, meant, similar, unknown_key, unknown_setting
from mslab.config.origins import COMMAND_LINE, SettingOrigin
from mslab.config.reading import from_home, read_yaml
from mslab.config.rules import Clash, Problem
from mslab.config.schema import FIELDS, Settings
from mslab.errors import ConfigError
from mslab.escaping import command

log = logging.getLogger("mslab")
HOME_PATHS = {"train_data", "val_data"}  # settings in which ~ is the home folder
DICT = "the dict of settings"
Source = str | Path | Mapping[str, Any] | Settings  # a YAML file, a dict or an EasyDict from users
# a config that a program has written from arguments of its own -> the argument behind each setting
WRITTEN_FROM: dict[Path, Mapping[str, str]] = {}


def load_config(source: Source, overrides: Sequence[str] = ()) -> EasyDict:
    """Load settings as an EasyDict, which the lab's scripts use. mslab.train accepts it."""
    return EasyDict(load_settings(source, overrides).model_dump())


def load_settings(source: Source, overrides: Sequence[str] = (), place: str = DICT, notes: bool = True) -> Settings:
    """Read a YAML file or a dict, apply `key=value` overrides, and validate every setting.

    A setting that does nothing is logged (not with `notes=False`: of a run's config.yaml it was said when the run
    began); among the overrides it is a problem. `place` names a dict in messages. Raises ConfigError.
    """
    overrides = texts.listed(overrides)
    if isinstance(source, Settings) and not overrides:
        return source
    if isinstance(source, os.PathLike) or not isinstance(source, Settings | Mapping):
        expected = "a YAML file of settings, or a dict"
        source = paths.path_of(source, ConfigError, expected, lambda: "a config's path, or a dict")
    values, origins = read(source, place)
    base = str(source) if isinstance(source, Path) else place
    overridden, problems = texts.apply(values, overrides)
    origins |= dict.fromkeys(overridden, SettingOrigin(COMMAND_LINE))
    if values.get("seed", 0) is None:
        values["seed"] = secrets.randbelow(2**31)
        log.info(f"seed: null drew {values['seed']}; seed={values['seed']} repeats this")
    settings, invalid, clashes = _validate({key: _plain(value) for key, value in values.items()})
    problems += invalid
    refused = {name for name, _ in problems}
    origins = {name: origin for name, origin in origins.items() if values.get(name) is not None or name in refused}
    idle: dict[str, str] = {}
    for name, other, text in rules.idle(settings):
        where = f" ({other}: {origins[other]})" if other in origins and origins[other].line else ""
        idle.setdefault(name, text + where)  # the first reason counts
    for name, text in idle.items():
        if name in overridden and name in values:  # key=null has taken it away
            problems.append((name, f"does nothing here: {text}; leave it out"))
        elif notes and not isinstance(source, Settings) and name in values and values[name] != FIELDS[name].default:
            log.info(f"note: {name} in {origins.get(name, base)} does nothing here: {text}")
    if problems or clashes:
        raise _error(problems, clashes, origins, base)
    settings._origins = {name: origin for name, origin in origins.items() if name in values}
    return settings


def read(source: Source, place: str) -> tuple[dict[str, Any], dict[str, SettingOrigin]]:
    """The values of a source, and where each was written."""
    if isinstance(source, Settings):
        return source.model_dump(), dict(source._origins)
    if not isinstance(source, str | Path):
        values = dict(source)
        origins = {str(name): SettingOrigin(place) for name in values}
    else:
        lines: dict[str, int] = {}
        values = read_yaml(Path(source), lines=lines)
        arguments = WRITTEN_FROM.get(Path(source).absolute(), {})
        origins = {name: SettingOrigin(str(source), line) for name, line in lines.items()}
        origins |= {name: SettingOrigin(argument) for name, argument in arguments.items()}
    for name in HOME_PATHS & values.keys():
        values[name] = from_home(values[name])  # in overrides, the command line has done that, unless ~ is quoted
    return values, origins


# --- problems --------------------------------------------------------------------------------------------------------


def _error(
    problems: list[Problem], clashes: list[Clash], origins: Mapping[str, SettingOrigin], base: str
) -> ConfigError:
    """The error that lists every problem, each with the place where its settings were written."""
    named = [name for name, _ in problems] + [name for clash in clashes for name in _named_in(clash)]
    places = list(dict.fromkeys(str(origins[name].place) for name in named if name in origins))
    places += [base] * any(name not in origins for name, _ in problems)  # what is missing there
    places = list(dict.fromkeys(places)) or [base]
    rows = [(name, _located(name, text, origins, places)) for name, text in problems]
    rows += [(clash[0], _explained(clash, origins, places)) for clash in clashes]
    count = f"{len(rows)} problems" if len(rows) > 1 else "1 problem"
    arguments = all(place.startswith("--") for place in places)
    if places == [COMMAND_LINE]:
        what, fix = f"The key=value settings have {count}.", "correct what follows the config"
    elif arguments:
        what, fix = f"The job's arguments have {count}.", "correct the arguments in the training job"
    elif len(places) > 1:
        others = " and ".join(place for place in places if place != COMMAND_LINE)
        what = f"{others} has {count}{' together with the command line' * (COMMAND_LINE in places)}."
        fix = "correct them where they are written"
    else:
        what = f"{places[0][0].upper() + places[0][1:] if places[0] == DICT else places[0]} has {count}."
        fix = "correct it" if places[0] == DICT else "correct the file, or override with key=value"
    if helps := " ".join(dict.fromkeys(clash[2] for clash in clashes if clash[2])):
        fix = f"add {helps}, or {fix}" if COMMAND_LINE in places else f"{helps} helps, or {fix}"
    known = list(dict.fromkeys(ours for name in named if (ours := similar(name)) in FIELDS))[:3]
    return ConfigError(
        what,
        details=rows,
        expected=f"settings with values in their ranges; {command('settings', *known)} prints them",
        fix=fix,
    )


def _located(name: str, text: str, origins: Mapping[str, SettingOrigin], places: list[str]) -> str:
    """A problem's text with the place of its setting, unless the message's first line names it completely."""
    origin = origins.get(name)
    if origin is None or origin.place == DICT or (origin.place == COMMAND_LINE and len(places) == 1):
        return text
    return f"{'on ' * (origin.place == COMMAND_LINE)}{origin}: {text}"


def _explained(clash: Clash, origins: Mapping[str, SettingOrigin], places: list[str]) -> str:
    """A contradiction's text that tells defaults from what was written, and where."""
    name, text, _ = clash
    if name in FIELDS and name not in origins:
        text = re.sub(rf"^{name}: (.*?) (is|must|needs|gives|and)\b", rf"{name} is \1 by default, which \2", text)
    said = []
    for other in _named_in(clash):
        origin = origins.get(other)
        if origin and (origin.line or len(places) > 1 or origin.place.startswith("--")):
            said.append(f"{other}: {origin}")
        elif origin is None and other not in text.partition(" ")[0]:
            said.append(f"{other} is {_default(other)} by default")
    return f"{text} ({', '.join(said)})" if said else text


def _default(name: str) -> str:
    """A setting's default in words: "2", "image_size"."""
    if FIELDS[name].default is None:
        described = re.search(r"null = ([\w ]+)", FIELDS[name].description or "")
        return described[1] if described else "null"
    return flow(FIELDS[name].default)


def _named_in(clash: Clash) -> Iterable[str]:
    """The settings that a contradiction is between."""
    found = re.findall(r"\b([a-z_]\w*): ", clash[1])
    return list(dict.fromkeys([clash[0], *(name for name in found if name in FIELDS)]))


def dump_config(settings: Settings) -> str:
    """Return the settings as YAML, one a line, in the schema's order, with unit and effect as a comment."""
    lines, table = [], settings.model_dump()
    for name, field in FIELDS.items():
        lines.append(f"{flow({name: _plain(table[name])})[1:-1]:<40}  # {field.description}")
    return "\n".join(lines) + "\n"


def _plain(value: Any) -> Any:
    """Convert NumPy scalars, tuples, paths and EasyDicts to plain YAML values."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value


def _validate(values: dict[str, Any]) -> tuple[Settings, list[Problem], list[Clash]]:
    """Return (the settings without missing and invalid ones, every problem, every contradiction)."""
    problems = {str(name): unknown_setting(str(name), value) for name, value in values.items() if name not in FIELDS}
    recognised = {name: value for name, value in values.items() if name in FIELDS}
    misspelt = {meant(str(word)) for name in problems for word in (name, *_keys(values.get(name)))}
    for name, value in recognised.items():
        if isinstance(value, str) and "\0" in value:
            problems[name] = f"{value!r} contains a null character, which no file's name has"
    recognised = {name: value for name, value in recognised.items() if name not in problems}
    try:
        config = Settings(**recognised).model_dump()
    except ValidationError as error:
        for item in error.errors():
            name = str(item["loc"][0])
            problems.setdefault(name, refusal(name, item, recognised.get(name)))
        defaults = {name: field.get_default() for name, field in FIELDS.items() if not field.is_required()}
        config = {name: value for name, value in (defaults | recognised).items() if name not in problems}
    rules.fill_schedule(config, values)
    if config.keys() >= FIELDS.keys():
        settings = Settings(**config)
    else:
        settings = Settings.model_construct(**config)
        for name in FIELDS.keys() - config.keys():  # model_construct has filled in defaults
            vars(settings).pop(name, None)
    rows = [row for row in problems.items() if row[0] in values or row[0] not in misspelt]  # it is there, misspelt
    return settings, rows, rules.contradictions(settings)


def _keys(value: Any) -> list[Any]:
    return list(value) if isinstance(value, Mapping) else []


def refusal(name: str, item: Mapping[str, Any], given: Any) -> str:
    """Why the schema refuses a setting, and what to write instead. `item`: an error of pydantic."""
    # refusal("optimizer", …, "Adam") -> "'Adam' must be 'sgd', …; write adam (…)"
    description, loc = FIELDS[name].description, item["loc"]
    if item["type"] == "missing":
        return f"is missing ({description})"
    if item["type"] == "value_error" and not instead(name, given):  # of stages
        return str(item["ctx"]["error"])
    if given is None:
        return f"has no value; write for example {name}: {example(name)} ({description})"
    if name in KEYS and len(loc) > 1 and (item["type"] == "extra_forbidden" or loc[-1] == "[key]"):
        return f"{unknown_key(str(loc[1]), KEYS[name])} ({description})"
    position = "".join(f"[{index}]" for index in loc[1:] if isinstance(index, int))
    reason = re.sub(r"^Input should be ", "must be ", item["msg"])
    if item["type"] in ("string_pattern_mismatch", "value_error"):  # a regular expression, and a table's first row
        reason = "is not written as it has to be"
    text = f"{repr(item['input'])[:200]}{' at ' + name + position if position else ''} {reason}"
    if better := instead(name, given):
        wide = isinstance(given, str) and not given.isascii() and re.search(r"[０-９]", given)
        text += f"; {given!r} ({ascii(given)[1:-1]}) are wide digits" if wide else ""
        number = isinstance(given, str) and re.fullmatch(r"[-+.\de]+", better) is not None
        text += f"; write {better}{', without quotes' if number and given.strip().isdecimal() else ''}"
    elif name == "task" and (reason := tasks.meant(str(given))):
        text += f"; {reason}"
    return f"{text} ({description})"
