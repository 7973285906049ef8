"""Options that name what a command writes: all of them are looked at in one place, before the command's work.

An option is one by `OutputOption` in its annotation. A folder that does not exist yet is made.
"""

import inspect
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer import BadParameter

from mslab.files import kind_of, make_folder
from mslab.runtime import targets

FORMATS = re.compile(  # suffixes that say what a file contains
    r"\.(bmp|ckpt|csv|docx|gif|gz|html?|jpe?g|jsonl?|md|mindir|ndjson|np[yz]|onnx|parquet|pdf|png|pth?|safetensors|svg|"
    r"tar|tgz|tsv|xlsx?|ya?ml|zip)"
)
OF_A_RUN = ("manifest.json", "eval.json", "history.csv", "steps.csv", "images.csv")  # that an option could replace


@dataclass(frozen=True)
class OutputOption:
    """What an option's file contains, and the suffixes that fit; without `content`, the option names a folder."""

    content: str = ""
    suffixes: tuple[str, ...] = ()
    strict: bool = False  # one of the suffixes is needed: programs recognise the file by it
    stdout: bool = False  # - is standard output
    new: bool = False  # nothing is overwritten


@dataclass(frozen=True)
class Target:
    """An option of this command line and its value."""

    name: str  # of the function's parameter
    option: str  # --json
    text: str
    output: OutputOption

    @property
    def path(self) -> Path:
        return Path(self.text)

    def refuse_words(self) -> None:
        """Raise BadParameter for a value that no disk could make right."""
        if not self.text.strip():
            text = "give it the name of a file or folder; a variable of the shell may be empty"
            raise BadParameter(f"{self.option} is empty: {text}")
        if self.text == "-" and not self.output.stdout:
            raise BadParameter(f"{self.option} - : {self.output.content or 'a folder'} cannot go to standard output")
        suffix, fitting = self.path.suffix.lower(), self.output.suffixes
        wrong = suffix not in fitting and (self.output.strict or bool(FORMATS.fullmatch(suffix)))
        if fitting and self.text != "-" and not self.text.endswith(os.sep) and wrong:
            name = " or ".join(str(self.path.with_suffix(fit)) for fit in fitting[:2])
            raise BadParameter(f"{self.option} {self.text}: it will be {self.output.content}; name it {name}")

    def refuse_place(self, inputs: list[str]) -> None:
        """Raise MslabError if it cannot be written, or is a file that this command reads or a run has written."""
        if not self.output.content:
            targets.refuse_folder(self.path, new=self.output.new, option=self.option)
            return
        if self.text.endswith(os.sep):
            raise targets.problem(
                self.path,
                "its name ends as a folder's",
                "the name of a file",
                f"{self.text}NAME{next(iter(self.output.suffixes), '')}",
            )
        targets.refuse_file(self.path, self.output.new, self.option)
        for text in inputs:
            with suppress(OSError, ValueError):
                if self.path.samefile(text):
                    reason = f"this command reads it ({text})"
                    raise targets.problem(self.path, reason, "a file of its own", f"{self.option} with another name")
        if self.path.name in OF_A_RUN and kind_of(self.path.parent / "manifest.json"):
            reason = f"{self.path.parent} is a run, of which it is a part"
            raise targets.problem(self.path, reason, "a file of its own", f"{self.option} with another name")


@contextmanager
def prepared(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    """Around a command: refuse outputs that could not be written, and make their folders; empty ones go afterwards.

    Yields option -> what will be written. Raises BadParameter for a command line that contradicts itself, MslabError
    for what the disk shows.
    """
    found = list(outputs_of(function, arguments))
    for target in found:
        target.refuse_words()
    written = [target for target in found if target.text != "-"]
    if len(found) - len(written) > 1:
        names = " and ".join(target.option for target in found if target.text == "-")
        raise BadParameter(f"{names}: only one of them can go to standard output")
    places: dict[str, str] = {}
    for target in written:
        place = os.path.realpath(target.text)
        if place in places:
            raise BadParameter(f"{places[place]} and {target.option} are both {target.text}: give each its own file")
        places[place] = target.option
    others = [value for name, value in arguments.items() if name not in {target.name for target in found}]
    words = [word for value in others for word in (value if isinstance(value, list) else [value])]
    words = [word for word in words if isinstance(word, str)]
    inputs = [*words, *(word.partition("=")[2] for word in words if "=" in word)]
    for target in written:
        target.refuse_place(inputs)
    folders = [target.path.parent for target in written]
    missing = [place for folder in folders for place in (folder, *folder.parents) if not kind_of(place, links=True)]
    try:
        for folder in folders:
            make_folder(folder)
        yield {target.option: target.text for target in written}
    finally:
        for folder in missing:
            with suppress(OSError):  # not empty: something was written
                folder.rmdir()


def outputs_of(function: Callable[..., Any], arguments: Mapping[str, Any]) -> Iterator[Target]:
    """The outputs that a command line names. Defaults that a command computes are its own concern."""
    for name, parameter in inspect.signature(function).parameters.items():
        marks = getattr(parameter.annotation, "__metadata__", ())
        output = next((mark for mark in marks if isinstance(mark, OutputOption)), None)
        value = arguments.get(name)
        if output is None or value is None:
            continue
        words = [getattr(mark, "default", "") for mark in marks]  # typer has the option's name there
        option = next((word for word in words if str(word).startswith("--")), f"--{name.replace('_', '-')}")
        yield Target(name, option, str(value), output)
