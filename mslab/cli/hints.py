"""What to type instead: hints after a command line that does not parse."""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from typer import BadParameter
from typer.core import TyperCommand, TyperGroup

from mslab.escaping import command, quoted
from mslab.files import kind_of

UsageError: Any = BadParameter.__mro__[1]  # typer carries its own click, without a public name for it
SETTINGS_OF_LETTERS = {"-e": "epochs", "-b": "batch_size", "-l": "lr_max", "-s": "seed"}
DATA = "train_data and val_data"  # what names of both together stand for in aliases
OTHER_WORDS = {  # what people type for a command -> the command
    "test": "eval",
    "evaluate": "eval",
    "val": "eval",
    "validate": "eval",
    "resume": "train --resume RUN",
    "continue": "train --resume RUN",
    "finetune": "transfer",
    "fine-tune": "transfer",
    "fine_tune": "transfer",
    "infer": "predict",
    "inference": "predict",
    "classify": "predict",
    "init": "new",
    "create": "new",
    "start": "demo",
    "fit": "train",
    "plot": "report",
    "info": "show",
    "summary": "show",
    "split": "data split",
    "import": "data import",
    "make": "data make",
    "config": "settings",
    "search": "sweep",
    "tune": "sweep",
    "zip": "pack",
    "version": "--version",
}


class HintedGroup(TyperGroup):
    """The commands: what stands in front of a command, or instead of it, is answered with what to type."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return list(super().parse_args(ctx, args))
        except Exception as error:
            name = getattr(error, "option_name", "")
            known = {"-h": "Type mslab --help", "-V": "Type mslab --version", "-v": "Type mslab --version"}
            if type(error).__name__ == "NoSuchOption" and name:
                error.message = (  # type: ignore[attr-defined]
                    f"No such option: {name}. {known.get(name, 'Options follow the command: mslab train …')}"  # type: ignore[attr-defined]
                )
                error.possibilities = None  # type: ignore[attr-defined]
            raise

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:
            if hint := self.hint(args, str(getattr(error, "message", ""))):
                error.message = f"No such command '{args[0]}'. {hint}"  # type: ignore[attr-defined]
            raise

    def hint(self, args: Sequence[str], said: str) -> str:
        """What to type instead of a word that is no command; "" if the error says it already."""
        word = args[0]
        if word == "help":
            named = [name for name in args[1:2] if name in self.commands]
            return f"Type {command(*named, '--help')}"
        if word.lower() in OTHER_WORDS:
            return f"Type {command(*OTHER_WORDS[word.lower()].split())}"
        if word.endswith((".yaml", ".yml")):
            return f"Type the command first: {command('train', Path(word))}"
        return "" if "Did you mean" in said else "mslab --help lists the commands"


def in_pieces(args: Sequence[str], most: int = 6) -> str:
    """A path with spaces that the shell has taken apart, or ""."""
    # in_pieces(["eval", "my", "run", "--data", "x"]) -> "my run", if there is such a folder and none called my
    for start, word in enumerate(args):
        if word.startswith("-") or "=" in word or not word or kind_of(Path(word), links=True):
            continue
        for end in range(start + 2, min(len(args), start + most) + 1):
            if args[end - 1].startswith("-"):
                break
            if kind_of(Path(" ".join(args[start:end])), links=True):
                return " ".join(args[start:end])
    return ""


class HintedCommand(TyperCommand):
    """A command whose errors say what to type: a setting given as an option, an option without its value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        if path := in_pieces(args):
            ctx.fail(f"{quoted(path)} is one path with spaces: type it in quotation marks.")
        try:
            rest = super().parse_args(ctx, self.with_values(args))
        except Exception as error:
            if hint := self.hint(error, given):
                error.message = hint  # type: ignore[attr-defined]
                error.ctx = ctx  # type: ignore[attr-defined]  # for the lines about usage
                error.possibilities = None  # type: ignore[attr-defined]
            raise
        self.refuse_words(ctx)
        return rest

    def refuse_words(self, ctx: Any) -> None:
        """Raise an error of usage about words that should be KEY=VALUE, such as `epochs 3`."""
        if not any(param.name == "overrides" for param in self.params):
            return
        words = list(ctx.params.get("overrides") or [])
        first = ctx.params.get("config") or ""
        if all("=" in word[1:-1] for word in words) and not (ctx.params.get("resume") and first):
            return
        from mslab.config.naming import meant
        from mslab.config.overrides import not_key_value

        if "space" in ctx.params and not ctx.params["space"] and (files := [w for w in words if w.endswith(".yaml")]):
            raise UsageError(f"Type --space {quoted(files[0])}: the settings to search, and their values", ctx)

        if ctx.params.get("resume") and meant(re.split("[=:]", first)[0]):  # --resume RUN epochs 3: it is no config
            words.insert(0, first)

        if problems := not_key_value(words):
            raise UsageError("; ".join(f"{text}: {problem}" for text, problem in problems), ctx)

    def with_values(self, args: list[str]) -> list[str]:
        """The arguments up to an option whose value is missing: what follows it is another option of this command."""
        options: Any = [param for param in self.params if hasattr(param, "is_flag")]
        takes_value = {name: not option.is_flag for option in options for name in option.opts}
        for at, (word, following) in enumerate(pairwise(args)):
            if word == "--":
                break
            if takes_value.get(word) and following.partition("=")[0] in takes_value:
                return args[: at + 1]
        return args

    def hint(self, error: Exception, args: Sequence[str]) -> str:
        """The message of an error with what to type; "" if there is nothing to add."""
        kind, name = type(error).__name__, getattr(error, "option_name", None)
        if kind == "NoSuchOption" and name == "-h":
            return "No such option: -h. Type --help"
        if kind == "NoSuchOption":
            # of -epochs=3 the error names the first letter only
            word = next((w for w in args if not str(name).startswith("--") and w.startswith(str(name))), str(name))
            option = word.partition("=")[0]
            hint = self.argument(option, args) or self.setting(option, args)
            return f"No such option: {option}. {hint}" if hint else ""
        if kind == "BadOptionUsage":
            param: Any = next((param for param in self.params if name in param.opts), None)
            return f"{name} needs a value: {name} {param.metavar or 'VALUE'}    {param.help}" if param else ""
        if kind == "MissingParameter":
            param = getattr(error, "param", None)
            option = f"{param.opts[0]} " if param and param.opts[0].startswith("--") else ""
            return f"Type {option}{param.metavar}: {param.help}" if param and param.metavar and param.help else ""
        return ""

    def argument(self, option: str, args: Sequence[str]) -> str:
        """What to type instead of an option that is an argument or another option here, such as --config or --jobs."""
        from mslab.config import FOREIGN_NAMES
        from mslab.config.naming import OPTIONS, plain

        takes = {name for param in self.params for name in param.opts}
        known = FOREIGN_NAMES.get(plain(option), ("", ""))[1].startswith("--backbone")
        name = "backbone" if known else plain(option)
        if name in OPTIONS and f"--{name}" not in takes and "overrides" in takes:
            return f"Type {OPTIONS[name]}"
        if option in ("--config", "--cfg", "-c", "--yaml", "-f") and "config" in takes:
            return "CONFIG has no option: type it first, as in mslab " + f"{self.name} CONFIG KEY=VALUE"
        if option in ("--out", "--output", "-o"):
            named = {param.opts[0]: (param.metavar or "").partition("|")[0] for param in self.params}
            own = [f"{name} {named.get(name, '')}" for name in ("--out", "--to", "--name", "--csv", "--json")]
            own = [text for text in own if re.search(r" (FILE|FOLDER|NAME)", text)]
            return f"Type {' or '.join(own)}" if own else ""
        if option in ("--jobs", "-j", "--n-jobs", "--processes") and "--workers" in takes:
            return "Type --workers"
        return ""

    def setting(self, option: str, args: Sequence[str]) -> str:
        """What to type instead of an option that is, or looks like, a setting."""
        from mslab.config import FIELDS, FOREIGN_NAMES
        from mslab.config.naming import plain, similar

        name = plain(option)
        theirs = FOREIGN_NAMES.get(name, ("", ""))
        ours = SETTINGS_OF_LETTERS.get(option, "" if len(name) < 2 else similar(name, 0.7))
        if ours not in FIELDS:
            ours = ""
        if theirs[1] == DATA and any(param.name == "overrides" for param in self.params):
            folder = self.value_of(option, args)
            return f"train_data and val_data are settings: type train_data={folder}/train val_data={folder}/val"
        if not ours:
            return f"'{name}' is {theirs[0]}'s name; here it is {theirs[1]}." if theirs[1] else ""
        if not any(param.name == "overrides" for param in self.params):
            return f"{ours} is a setting, which this command does not take."
        value = self.value_of(option, args)
        if value == "VALUE" and FIELDS[ours].annotation is bool:  # --flip, --no-flip
            value = "false" if name.startswith("no_") else "true"
        return f"{ours} is a setting: type {ours}={value}"

    def value_of(self, option: str, args: Sequence[str]) -> str:
        """The value that was given to an option."""
        value = "VALUE"
        for word, following in zip(args, [*args[1:], "--"], strict=True):
            if word == option and not following.startswith("--"):
                value = following
            elif word.startswith(f"{option}="):
                value = word.partition("=")[2]
        return value
