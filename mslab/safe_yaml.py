"""Read YAML 1.2 that others have written: bounded in size, depth and aliases, without objects."""

import io
import re
from typing import Any

from mslab.files import FormatError

MAX_YAML, MAX_YAML_VALUES = 256 << 10, 20_000  # bytes; values, with every alias replaced by what it stands for
DEPTH = 20  # levels of nested tables in YAML
# what YAML 1.2 allows and ruamel.yaml refuses: its version, --- at the end, a tab behind a value; not in quotes
VALID_YAML = re.compile(
    r"""^%YAML[ ]1\.\d[ \t\r]*$|^---(?=\s|\Z)(?:\#[^\n]*(?:\n|\Z)|\s)*\Z
    |(?<![^\s,:\[{])(?:"(?:\\.|[^"\\\n])*"|'(?:''|[^'\n])*')
    |(?<![\t ])(?=[ ]*\t)[\t ]+(?=\#|$)""",
    re.MULTILINE | re.VERBOSE,
)


def parse_yaml(text: str, lines: dict[str, int] | None = None) -> Any:
    """Values of a YAML 1.2 text, in which 1e-4 is a number and `no` is text. Raises FormatError.

    Size, depth and the values behind aliases are counted before anything is built. `lines` receives the line of each
    name of a table.
    """
    if len(text) > MAX_YAML:
        raise FormatError(f"it has more than {MAX_YAML:,} characters")
    try:
        return _parse_yaml(text, lines)
    except FormatError:
        plain = VALID_YAML.sub(lambda found: found[0] if found[0][0] in "\"'" else " ", text)
        if plain == text:
            raise
    return _parse_yaml(plain, lines)


def _parse_yaml(text: str, lines: dict[str, int] | None) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        _check_yaml_events(text)
        constructor, _ = YAML(typ="safe", pure=True).get_constructor_parser(io.StringIO(text))
        node = constructor.composer.get_single_node()
        pairs = node.value if node is not None and node.id == "mapping" else []
        if lines is not None:
            lines |= {str(key.value): key.start_mark.line + 1 for key, _ in pairs}
        return None if node is None else constructor.construct_document(node)
    except FormatError:
        raise
    except YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise FormatError(f"it is not valid YAML: {problem or first}", mark.line + 1 if mark else None) from None
    except Exception as error:  # ruamel's constructors raise many types: 2001-99-99, 0x, ? [a] : b
        raise FormatError(f"it is not valid YAML: {error}") from None


def _check_yaml_events(text: str) -> None:
    """Raise FormatError for too many values, deep nesting, and aliases of what contains them."""
    from ruamel.yaml import YAML
    from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

    total = 0
    sizes: dict[str, int] = {}  # anchor: values of its node
    begun: list[tuple[str | None, int]] = []  # of each collection that has not ended: anchor, values before it
    for event in YAML(typ="safe", pure=True).parse(io.StringIO(text)):
        line = event.start_mark.line + 1 if event.start_mark else None
        if isinstance(event, AliasEvent):
            if event.anchor in (anchor for anchor, _ in begun):
                raise FormatError(f"its alias *{event.anchor} contains itself", line)
            total += sizes.get(event.anchor, 1)
        elif isinstance(event, CollectionStartEvent):
            begun.append((event.anchor, total))
            total += 1
        elif isinstance(event, CollectionEndEvent):
            anchor, before = begun.pop()
            sizes[anchor or ""] = total - before
        elif isinstance(event, ScalarEvent):
            total += 1
            sizes[event.anchor or ""] = 1
        if len(begun) > DEPTH:
            raise FormatError(f"it is nested deeper than {DEPTH} levels", line)
        if total > MAX_YAML_VALUES:
            raise FormatError(f"it contains more than {MAX_YAML_VALUES:,} values", line)
