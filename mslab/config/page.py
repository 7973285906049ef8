"""docs/settings.md: every setting with default, range and effect, and what others call it, from the schema itself.

python -m mslab.config.page > docs/settings.md
"""

import json
import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from mslab.config import schema as source
from mslab.config.aliases import NEIGHBOURS, SAME
from mslab.config.schema import FIELDS

INTRO = """# Settings

A config is a flat YAML file, or a dict, of these settings; any can be given on the command line as `key=value`, and
`key=null` takes one away. Unknown names, values out of range and contradictions are refused before anything starts, all
at once. A setting that does nothing beside another one (momentum under adam) is said, and refused where it was given on
the command line. `mslab show CONFIG --schedule` draws the learning rate, `--augment` what the network sees.

This page is made by `python -m mslab.config.page` from mslab/config/schema.py.
"""
NAMES = """## What others call it

Their names are recognised and answered with ours, never translated in silence. Where the name is the same, so is the
meaning; defaults differ where theirs would change what is trained (ohem_top_ratio is 1 here, 0.9 at ModelArts;
rescale_train_batch_size_factor, label_balance, mixup and cutmix are off).
"""


def page() -> str:
    parts = [INTRO]
    for title, names in groups():
        parts.append(f"## {title.capitalize()}\n\n| setting | default | values | effect |\n|---|---|---|---|")
        parts += [f"| `{name}` | {default(name)} | {values(name)} | {escaped(effect(name))} |" for name in names]
        parts.append("")
    parts.append(f"{NAMES}\n| theirs | whose | mslab |\n|---|---|---|")
    parts += [
        f"| `{theirs}` | {whose} | {ours if ' ' in ours else f'`{ours}`'} |"
        for theirs, (whose, ours) in NEIGHBOURS.items()
    ]
    parts += ["", "The same name, the same meaning:", ""]
    parts += [
        f"- **{whose}**: {', '.join(f'`{name}`' for name in sorted(names.split()))}" for whose, names in SAME.items()
    ]
    return "\n".join(parts) + "\n"


def groups() -> list[tuple[str, list[str]]]:
    """(title, settings) of each part of the schema: what its comments say."""
    text = Path(source.__file__).read_text(encoding="utf-8")
    text = text[text.index("class Settings") : text.index("FIELDS =")]
    found: list[tuple[str, list[str]]] = []
    for comment, name in re.findall(r"^    # (.*)$|^    (\w+): ", text, re.MULTILINE):
        if comment:
            found.append((comment, []))
        elif name in FIELDS:
            found[-1][1].append(name)
    return found


def default(name: str) -> str:
    field = FIELDS[name]
    if field.is_required():
        return "required"
    value = field.default
    return f"`{value if isinstance(value, list) else json.dumps(value).strip(chr(34))}`"


def effect(name: str) -> str:
    return str(FIELDS[name].description)


def values(name: str) -> str:
    """The words or the range of numbers that a setting takes."""
    words = [word for kind in kinds(FIELDS[name].annotation) if get_origin(kind) is Literal for word in get_args(kind)]
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
    """Of the field itself, or of the type that it may be null beside."""
    inner = [item for kind in kinds(FIELDS[name].annotation) for item in getattr(kind, "__metadata__", ())]
    return [*FIELDS[name].metadata, *(limit for item in inner for limit in getattr(item, "metadata", [item]))]


def kinds(annotation: Any) -> list[Any]:
    return [annotation, *get_args(annotation)]


def escaped(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
