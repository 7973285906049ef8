"""What to type instead: hints after a command line that does not parse."""

import difflib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from typer.core import TyperCommand

from mslab.escaping import quoted
from mslab.files import kind_of


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
            return super().parse_args(ctx, self.with_values(args))
        except Exception as error:
            if hint := self.hint(error, given):
                error.message = hint  # type: ignore[attr-defined]
                error.ctx = ctx  # type: ignore[attr-defined]  # for the lines about usage
            raise

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
        takes = {name for param in self.params for name in param.opts}
        if option in ("--config", "--cfg", "-c", "--yaml", "-f") and "config" in takes:
            return "CONFIG has no option: type it first, as in mslab " + f"{self.name} CONFIG KEY=VALUE"
        if option in ("--jobs", "-j", "--n-jobs", "--processes") and "--workers" in takes:
            return "Type --workers"
        return ""

    def setting(self, option: str, args: Sequence[str]) -> str:
        """What to type instead of an option that is, or looks like, a setting."""
        from mslab.config import FIELDS, FOREIGN_NAMES

        name = option.lstrip("-").replace("-", "_").lower()
        theirs = FOREIGN_NAMES.get(name, ("", ""))
        near = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.7)
        ours = name if name in FIELDS else theirs[1] if theirs[1] in FIELDS else near[0] if near else ""
        if not ours:
            return f"'{name}' is {theirs[0]}'s name; here it is {theirs[1]}." if theirs[1] else ""
        if not any(param.name == "overrides" for param in self.params):
            return f"{ours} is a setting, which this command does not take."
        value = "VALUE"
        for word, following in zip(args, [*args[1:], "--"], strict=True):
            if word == option and not following.startswith("--"):
                value = following
            elif word.startswith(f"{option}="):
                value = word.partition("=")[2]
        return f"{ours} is a setting: type {ours}={value}"
