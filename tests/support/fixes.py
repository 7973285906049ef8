"""Every text of mslab that may be shown, and the commands, options, settings and files that it names."""

import ast
import re
from collections.abc import Iterator
from functools import cache

from helpers import PROJECT
from typer.main import get_command

from mslab.cli import app
from mslab.cli.data import data_app
from mslab.cli.runs import runs_app
from mslab.cli.weights import weights_app

PACKAGE = PROJECT / "mslab"
COMMANDS = {str(job.name): job for job in app.registered_commands}
COMMANDS |= {f"data {job.name}": job for job in data_app.registered_commands}
for word, listed in (("runs", runs_app), ("weights", weights_app)):
    COMMANDS |= {f"{word} {job.name}": job for job in listed.registered_commands}
    COMMANDS[word] = next(job for job in listed.registered_commands if job.name == "list")  # that may be left out
NAMES = "|".join(sorted(COMMANDS, key=len, reverse=True))
# what follows a command: options, placeholders, paths, KEY=VALUE, numbers; no prose
WORD = r"(?:--?[\w-]+(?:=\S+)?|[A-Z][A-Z_|.…]*|\{[^{}]*\}\S*|\S*[/.=…]\S*|\d\S*|'[^']*')"
SHOWN = re.compile(rf"(?<![\w/.-])(?:mslab|\./run\.sh) ({NAMES})((?: {WORD})*)")
PROGRAMS = re.compile(r"(?:^|[ ;(])((?:chmod|mkdir|pip|uv|apt|curl|tensorboard)(?: [\w'{-][^ ;]*)+)")


@cache
def texts() -> list[tuple[str, int, str]]:
    """(module, line, text) of every text but docstrings; what is inserted is in braces, and commands are whole."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        if file.name.startswith("zh"):  # translations of the texts of the other modules
            continue
        nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
        docstrings = {
            node.body[0].value
            for node in nodes
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        module, inside = file.relative_to(PACKAGE).as_posix(), set(docstrings)
        for node in nodes:
            if node in inside or not isinstance(node, ast.Constant | ast.JoinedStr | ast.Call | ast.BinOp):
                continue
            if text := text_of(node):
                inside |= set(ast.walk(node))
                found.append((module, node.lineno, text))
    return found


def text_of(node: ast.AST) -> str:
    """The text that a node makes: a constant, an f-string, a sum of them, or a call of command()."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return text_of(node.value) if is_command(node.value) else f"{{{ast.unparse(node.value)}}}"
    if is_command(node):
        words = [text_of(word) or f"{{{ast.unparse(word)}}}" for word in node.args]  # type: ignore[attr-defined]
        return "mslab " + " ".join(words)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add) and (text_of(node.left) or text_of(node.right)):
        return text_of(node.left) + (text_of(node.right) or f"{{{ast.unparse(node.right)}}}")
    return ""


def is_command(node: ast.AST) -> bool:
    name = getattr(node, "func", None)
    return isinstance(node, ast.Call) and getattr(name, "id", getattr(name, "attr", "")) == "command"


def commands_in(text: str) -> Iterator[tuple[str, list[str]]]:
    """(name, words) of every command of mslab in a text."""
    for match in SHOWN.finditer(text):
        yield match[1], re.findall(WORD, match[2])


def options_of(name: str) -> set[str]:
    """The options of a command, as its parser knows them."""
    return {option for param in params_of(name) for option in (*param.opts, *param.secondary_opts)} | {"--help"}


@cache
def params_of(name: str) -> list:
    group = get_command(app)
    for part in name.split():
        group = group.commands[part]  # type: ignore[attr-defined]
    return group.params


def keys() -> dict[str, str]:
    """{"module: mslab NAME --option …": the text} of every command that a message shows to be copied as it is.

    One with a placeholder, such as RUN, is a form to fill in: the tests check that it is complete.
    """
    found = {}
    for module, line, text in texts():
        for name, words in commands_in(text):
            options = [word.partition("=")[0] for word in words if word.startswith("--")]
            forms = any(re.fullmatch(r"[A-Z][A-Z_|.]+|…|[A-Z]+/\S+|\w+=[A-Z]+\S*", word) for word in words)
            if (words or text.startswith("mslab ")) and not forms:
                found.setdefault(" ".join([f"{module}: mslab {name}", *options]), f"line {line}: {text}")
        for match in PROGRAMS.finditer(text):
            found.setdefault(f"{module}: {match[1].split()[0]}", f"line {line}: {text}")
    return found


def incomplete(name: str, words: list[str]) -> list[str]:
    """What a command that is shown lacks: its arguments, and options that it cannot do without."""
    params = params_of(name)
    flags = {option for param in params if getattr(param, "is_flag", False) for option in param.opts}
    given, positions, skip = set(), 0, False
    for word in words:
        if word.startswith("--"):
            given.add(word.partition("=")[0])
            skip = "=" not in word and word not in flags
        else:
            positions, skip = positions + (not skip), False
    needed = [param for param in params if param.required]
    arguments = [param.metavar for param in needed if not param.opts[0].startswith("--")]
    return arguments[positions:] + [p.opts[0] for p in needed if p.opts[0].startswith("--") and p.opts[0] not in given]


SETTING = re.compile(r"(?<![\w./{-])([a-z][a-z0-9]*_[a-z0-9_]*)(?:=|: )(?=[\w{\[-])")
