"""Read the table of a YAML file. What is no YAML is answered line by line: what is wrong there and how to write it."""

import os
import re
from pathlib import Path
from typing import Any

from mslab import files
from mslab.config import mending, paths
from mslab.config.rules import Problem
from mslab.errors import ConfigError
from mslab.safe_yaml import MAX_YAML, parse_yaml

SHOWN = 8  # wrong lines that a message lists
# the first bytes or characters of files that are no text of settings -> what they are
KINDS = (
    (rb"PK\x03\x04.{26}(\[Content_Types\]|_rels|word/|docProps)", "a document of Word"),
    (rb"PK\x03\x04.{26}(mimetype|content\.xml)", "a document of LibreOffice"),
    (rb"PK\x03\x04", "a zip archive"),
    (rb"\xd0\xcf\x11\xe0", "a document of Word"),
    (rb"%PDF", "a PDF"),
    (rb"\{\\rtf", "a document of rich text (RTF)"),
    (rb"\s*<(!DOCTYPE|html|\?xml|head)", "a web page"),
    (rb"\x1f\x8b", "a compressed file"),
    (rb'\s*\{\s*"(cells|nbformat|metadata)"', "a Jupyter notebook"),
)
# what ruamel.yaml says -> what is wrong with the line
JARGON = (
    ("mapping values are not allowed", "it has a second ': ', or begins further right than the line before it"),
    ("could not find expected ':'", "it is no setting: a name, a colon, a space and a value"),
    ("cannot start any token", "a value cannot begin with this character; put it in quotation marks"),
    ("found unexpected end of stream", "a quotation mark has no second one"),
    ("while scanning a quoted scalar", "a quotation mark has no second one"),
    ("expected ',' or ']'", "a list in brackets lacks a comma or its ]"),
    ("expected ',' or '}'", "a table in braces lacks a comma or its }"),
    ("but found another document", "--- begins a second document; a config is one: delete this line"),
    ("undefined alias", "a value that begins with * stands for another one; put it in quotation marks"),
    ("unhashable key", "{{ }} is a placeholder of a template; write the value itself"),
    ("determine a constructor", "a word that begins with ! is a type, which no value here has; leave that word out"),
    ("special characters are not allowed", "it has an invisible control character; type the line again"),
    ("expected '<document start>'", "it does not belong to the lines before it; every setting begins at the left"),
    ("expected <block end>", "it does not belong to the lines before it; every setting begins at the left"),
    ("unknown escape character", "in double quotes \\ begins a special character; write / or single quotes"),
    ("invalid escape", "in double quotes \\ begins a special character; write / or single quotes"),
    ("chomping or indentation", "a value that begins with > or | goes on in the next lines; leave the sign out"),
)


def read_yaml(
    path: Path, kind: str = "config", line: str = "epochs: 12", lines: dict[str, int] | None = None
) -> dict[str, Any]:
    """Read the table of a YAML 1.2 file. Raises ConfigError if it is missing, empty or not a flat table.

    `kind`: what it should be; `line`: one of its lines, as an example; `lines` receives the line of each name.
    """
    paths.refuse_other(path, kind)
    expected = f"lines like '{line}'"
    try:
        content = files.read_bytes(path, MAX_YAML)
        if found := next((what for start, what in KINDS if re.match(start, content, re.DOTALL)), ""):
            fix = "download the file itself: on GitHub, with `Raw`" if "web" in found else ""
            fix = (
                fix
                or "copy the settings into a plain text file (VS Code, Notepad, TextEdit's Format > Make Plain Text)"
            )
            raise ConfigError(f"{path} is {found}, and not a text of settings.", expected=expected, fix=fix)
        text = files.read_text(path, MAX_YAML)
    except (OSError, ValueError) as error:
        at = f", line {error.line}" if isinstance(error, files.FormatError) and error.line else ""
        problem = str(getattr(error, "strerror", None) or error)
        fix = "save it as UTF-8: a plain text editor asks for the encoding when it saves" if "UTF-8" in problem else ""
        raise ConfigError(f"{path}{at}: {problem}.", expected=expected, fix=fix or "correct the path") from None
    if rows := mending.typeset(text):
        if all(row.isascii() for _, row in rows):
            raise wrong_lines(path, rows, expected)
        raise ConfigError(
            f"{path} has characters that YAML takes for text.",
            details=rows[:SHOWN],
            expected=expected,
            fix="type them again, in a plain text editor: a word processor or a Chinese keyboard writes others",
        )
    try:
        table = parse_yaml(text, lines)
    except files.FormatError as error:
        raise not_yaml(path, text, error, expected) from None
    if not isinstance(table, dict):
        if rows := mending.wrong_lines(text):
            raise wrong_lines(path, rows, expected)
        fix = "copy one from configs/; mslab new FOLDER writes some"
        raise ConfigError(f"{path} contains no settings.", expected=expected, fix=fix)
    if rows := mending.escapes(text):
        raise wrong_lines(path, rows, expected)
    return table


def not_yaml(path: Path, text: str, error: files.FormatError, expected: str) -> ConfigError:
    """The error of a text that YAML does not read: the lines that are wrong, else the one where YAML gave up."""
    problem = str(error).removeprefix("it is not valid YAML: ")
    lines = text.split("\n")
    number = min(error.line or len(lines), len(lines))
    if twice := re.search('found duplicate key "(.*?)" with', problem):
        again = [n for n, line in enumerate(lines, 1) if re.match(rf"[\"']?{re.escape(twice[1])}[\"']?\s*:", line)]
        what = f"{path}, line {number}: '{twice[1]}' is set twice."
        rows = [(f"line {n}", lines[n - 1].strip()) for n in again or [number]]
        return ConfigError(what, details=rows[:SHOWN], expected="each setting once", fix="delete all but one of them")
    if rows := mending.wrong_lines(text):
        return wrong_lines(path, rows, expected)
    plain = next((ours for theirs, ours in JARGON if theirs in problem), problem)
    shown = [(f"line {number}", lines[number - 1].strip()[:200])] if error.line and lines[number - 1].strip() else []
    what = f"{path}{f', line {number}' if error.line else ''}: it is not valid YAML: {plain}."
    return ConfigError(what, details=shown, expected=expected, fix="correct that line")


def wrong_lines(path: Path, rows: list[Problem], expected: str) -> ConfigError:
    if len(rows) == 1:
        what, fix = f"{path}, {rows[0][0]}: it is not valid YAML.", "correct that line"
    else:
        what, fix = f"{path} has {len(rows)} lines that are not valid YAML.", "correct these lines"
    rest = [("…", f"and {len(rows) - SHOWN} more lines")] if len(rows) > SHOWN else []
    return ConfigError(what, details=rows[:SHOWN] + rest, expected=expected, fix=fix)


def from_home(value: Any) -> Any:
    """A path with the home folder for its ~; other values stay. Variables such as $HOME are not replaced."""
    return os.path.expanduser(value) if isinstance(value, str) and value.startswith("~") else value  # noqa: PTH111
