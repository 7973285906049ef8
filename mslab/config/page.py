"""The page of settings, from the schema: every setting's default, range and effect, and its names elsewhere.

`mslab settings` prints it, `mslab settings NAME` a part of it; docs/settings.md is

python -m mslab.config.page > docs/settings.md
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from mslab.config import data_schema
from mslab.config import schema as source
from mslab.config.aliases import FOREIGN_NAMES, SHARED_NAMES
from mslab.config.correcting import choices
from mslab.config.naming import meant, similar, unknown_setting
from mslab.config.schema import FIELDS
from mslab.errors import ConfigError
from mslab.escaping import command

INTRO = """# Settings

A config is a flat YAML file, or a dict, of these settings. `key=value` on the command line sets one, `key=null` removes
one; `key=` is an error. Unknown names, values out of range and contradictions are reported together, before anything
starts, each with the place where it was written: the file and its line, the command line, a job's argument. A setting
that does nothing beside another one (momentum under adam) is logged once; on the command line it is an error.
`mslab show CONFIG --schedule` draws the learning rate, `--augment` the images that the network sees.

`mslab settings` prints this page, `mslab settings NAME ...` what belongs to a name, another project's too.
"""
ALIASES = """## Names in other projects

mslab recognises these names and answers with its own; it never translates them silently. A name that is the same has
the same meaning. Defaults differ if the other project's default would change what is trained (ohem_top_ratio is 1
here, 0.9 in ModelArts; rescale_train_batch_size_factor, label_balance, mixup and cutmix are off).
"""


def page() -> str:
    parts = [INTRO]
    for title, names in groups():
        parts.append(f"## {title.capitalize()}\n\n| setting | default | values | effect |\n|---|---|---|---|")
        parts += [f"| `{name}` | {default(name)} | {values(name)} | {escaped(effect(name))} |" for name in names]
        parts.append("")
    parts.append(f"{ALIASES}\n| name | project | mslab |\n|---|---|---|")
    parts += [
        f"| `{name}` | {project} | {ours if ' ' in ours else f'`{ours}`'} |"
        for name, (project, ours) in FOREIGN_NAMES.items()
    ]
    parts += ["", "Same name, same meaning:", ""]
    parts += [
        f"- **{project}**: {', '.join(f'`{name}`' for name in sorted(names.split()))}"
        for project, names in SHARED_NAMES.items()
    ]
    return "\n".join(parts) + "\n"


def entries(names: Sequence[str]) -> str:
    """Default, values and effect of these settings, and their names elsewhere. Raises ConfigError."""
    lines = []
    for name in names:
        ours = meant(name)
        of = [field for field in FIELDS if name in choices(field)]
        if not ours and (of or name.endswith((".yaml", ".yml"))):
            what = f"a value of {', '.join(of)}" if of else "a file"
            raise ConfigError(f"'{name}' is {what}.", expected="names of settings", fix=command("settings", *of))
        if not ours:
            raise ConfigError(
                unknown_setting(name),
                expected="names of settings",
                fix=f"{command('settings', similar(name))}    or without a name: all of them"
                if similar(name) in FIELDS
                else f"{command('settings')}    prints all of them",
            )
        lines += [] if ours == name else [unknown_setting(name)]
        theirs = [f"{foreign} ({project})" for foreign, (project, own) in FOREIGN_NAMES.items() if own == ours]
        lines += [ours, f"  default  {default(ours).strip('`')}", f"  effect   {effect(ours)}"]
        lines += [f"  values   {values(ours)}"] if values(ours) else []
        lines += [f"  others   {', '.join(theirs)}"] if theirs else []
    return "\n".join(lines)


def groups() -> list[tuple[str, list[str]]]:
    """Return (title, settings) of each section of the schema; its comments are the titles."""
    text = "".join(Path(str(module.__file__)).read_text(encoding="utf-8") for module in (data_schema, source))
    sections: list[tuple[str, list[str]]] = []
    for comment, name in re.findall(r"^    # (.*)$|^    (\w+): ", text, re.MULTILINE):
        if comment:
            sections.append((comment, []))
        elif name in FIELDS:
            sections[-1][1].append(name)
    return sections


def default(name: str) -> str:
    field = FIELDS[name]
    if field.is_required():
        return "required"
    value = field.default
    return f"`{value if isinstance(value, list) else json.dumps(value).strip(chr(34))}`"


def effect(name: str) -> str:
    return str(FIELDS[name].description)


def values(name: str) -> str:
    """Return the choices or the range that a setting accepts."""
    words = [
        choice for kind in kinds(FIELDS[name].annotation) if get_origin(kind) is Literal for choice in get_args(kind)
    ]
    if words:
        return ", ".join(map(str, words))
    if FIELDS[name].annotation is bool:
        return "true, false"
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
    limits = [
        (sign, getattr(item, key)) for item in constraints(name) for key, sign in signs.items() if hasattr(item, key)
    ]
    return ", ".join(f"{sign} {limit:,}" if isinstance(limit, int) else f"{sign} {limit:g}" for sign, limit in limits)


def constraints(name: str) -> list[Any]:
    """Return the constraints of the field, or of the type that is its alternative to null."""
    inner = [item for kind in kinds(FIELDS[name].annotation) for item in getattr(kind, "__metadata__", ())]
    return [*FIELDS[name].metadata, *(limit for item in inner for limit in getattr(item, "metadata", [item]))]


def kinds(annotation: Any) -> list[Any]:
    return [annotation, *get_args(annotation)]


def escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
