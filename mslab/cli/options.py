"""Shared by all commands: the app, exit codes, common options, and how a result is printed."""

import functools
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, BadParameter, Exit, Option, Typer

from mslab import __version__
from mslab.cli.hints import HintedCommand, HintedGroup
from mslab.errors import MslabError, explain
from mslab.escaping import command, escape_control
from mslab.files import json_text
from mslab.runtime import console, devices, signals, streams

if TYPE_CHECKING:
    from mslab.check import DatasetReport
    from mslab.config import Settings

log = logging.getLogger("mslab")
PLAIN: dict[str, Any] = {"no_args_is_help": True, "add_completion": False, "pretty_exceptions_enable": False}
PLAIN["rich_markup_mode"] = None


class CommandLine(Typer):
    """The command line. Standard output and error may be anything, and ~/ is the home folder in every argument."""

    def __call__(self, args: Sequence[str] | None = None, **options: Any) -> Any:
        if args is None:  # a program that passes them, such as modelarts, has done other things before
            streams.use_utf8()
        streams.open_standard_streams()
        before = console.terminal.setStream(sys.stderr)
        try:
            return super().__call__([with_home(word) for word in (sys.argv[1:] if args is None else args)], **options)
        finally:
            console.terminal.setStream(before or sys.stderr)
            if problem := streams.output_problem():
                error = MslabError(
                    f"Standard output could not be written: {problem}.",
                    expected="a terminal, a pipe, or a file on a disk with free space",
                    fix="free some space, or redirect the output elsewhere",
                )
                print(f"{type(error).__name__}: {error}", file=sys.stderr)
                sys.exit(1)


def with_home(word: str) -> str:
    """An argument with the home folder for ~/, which not every shell replaces in --out=~/x, key=~/x and quotes."""
    # with_home("train_data=~/x") -> "train_data=/home/me/x"; "x=~" stays, which is null in YAML
    name, equals, path = word.partition("=")
    if not (equals and path.startswith("~")):
        name, equals, path = "", "", word
    return name + equals + (os.path.expanduser(path) if re.match(r"~\w*/", path) else path)  # noqa: PTH111


app = CommandLine(help="mslab: a transfer-learning lab kit on MindSpore.", cls=HintedGroup, **PLAIN)

# arguments
Config = Annotated[str, Argument(metavar="CONFIG", help="a YAML file with settings; mslab new FOLDER writes some")]
MaybeConfig = Annotated[str | None, Argument(metavar="CONFIG", help="a YAML file with settings")]
Overrides = Annotated[
    list[str] | None, Argument(metavar="[KEY=VALUE]...", help="settings that replace those of the config")
]
Source = Annotated[str, Argument(metavar="RUN|CKPT", help="a run folder (its best.ckpt) or a file of weights")]
AnySource = Annotated[str, Argument(metavar="RUN|FILE", help="a run folder, or a .ckpt, .mindir or .onnx file")]
Root = Annotated[str, Argument(metavar="ROOT", help="a folder of class folders, or with train, val and test in it")]

# data and weights
DataSets = Annotated[str, Option("--out", metavar="FOLDER", help="target folder of the data sets")]
SkipCheck = Annotated[
    bool,
    Option("--skip-check", help="do not compare images (duplicates, leaks); folders and files are still checked"),
]
FollowLinks = Annotated[
    bool, Option("--follow-links", help="read the files and folders elsewhere that symbolic links lead to")
]
Ignore = Annotated[
    list[str] | None,
    Option("--ignore", metavar="NAME", help="leave out files and folders of this name, such as .snapshot; repeatable"),
]
Test = Annotated[
    str | None, Option(metavar="ROOT", help="test images, measured after training and never used to choose a network")
]
Parent = Annotated[
    str, Option("--backbone", metavar="FILE|RUN", help="a .ckpt, .safetensors, .pth or .onnx file, or a run folder")
]
Backbone = Annotated[str | None, Option(metavar="FILE|RUN", help="backbone to start from (transfer)")]
Dialect = Annotated[
    str, Option("--dialect", metavar="NAME", help="project whose parameter names the file has, if they do not show it")
]
Weights = Annotated[
    str, Option("--weights", metavar="KEY", help="of several sets of weights in the file, the one to take, such as ema")
]

# training
Seeds = Annotated[int, Option(help="number of runs: the config's seed and the seeds that follow it", min=1)]
Device = Annotated[str, Option(help="auto, cpu, gpu or ascend")]
Workers = Annotated[int | None, Option(metavar="N", help="train with N processes, one per device", min=1)]
Nodes = Annotated[int, Option(metavar="N", help="number of machines; each runs the same number of workers", min=1)]
NodeRank = Annotated[int, Option(metavar="I", help="number of this machine, from 0", min=0)]
Master = Annotated[str, Option(metavar="HOST[:PORT]", help="address of the machine with --node-rank 0")]
DryRun = Annotated[bool, Option("--dry-run", help="print the setup calls and the launch command; needs no device")]

# output
Json = Annotated[str | None, Option("--json", metavar="FILE|-", help="write the result as JSON; - is standard output")]
NoReport = Annotated[bool, Option("--no-report", help="do not write report.html, which takes some seconds")]
Tolerance = Annotated[
    float, Option(help="allowed difference of accuracies; losses may differ by 5 times this fraction", min=0, max=1)
]


@app.callback(invoke_without_command=True)
def options(version: Annotated[bool, Option("--version", help="print the version and exit")] = False) -> None:
    if version:
        print(f"mslab {__version__}")
        raise Exit


def job(owner: Typer, name: str) -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """Register a command. Exit codes: 0 done, 1 failed (one message), 2 wrong command line, 130 after Ctrl-C."""

    def register(function: Callable[..., int | None]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapped(*arguments: Any, **options: Any) -> None:
            with (
                console.capture_stderr() as captured,
                console.each_note_once(),
                signals.on_stop(signals.stop_at_once),
            ):
                try:
                    code = function(*arguments, **options) or 0
                except KeyboardInterrupt as stop:
                    log.info("stopped by %s; %s", signals.cause(), continuation(name, stop))
                    code = 130
                except BadParameter:  # a wrong command line: typer prints it and exits with 2
                    raise
                except Exception as error:
                    problem = explain(error, str(captured.file))
                    if problem is None:
                        print(escape_control(traceback.format_exc()), file=captured.screen)
                    else:
                        print(escape_control(f"{type(problem).__name__}: {problem}"), file=captured.screen)
                    code = 1
            raise Exit(code)

        summary = re.split(r"[.:;](?: |$)", function.__doc__ or "")[0]  # in the list of commands, which cuts long ones
        return owner.command(name, cls=HintedCommand, short_help=summary)(wrapped)

    return register


def continuation(name: str, stop: KeyboardInterrupt) -> str:
    """What continues a command after Ctrl-C."""
    if name in ("train", "transfer", "sweep") and isinstance(stop, signals.Interrupted):
        return stop.continues  # others train runs inside, of which none continues the whole
    if name == "grade":
        return "the same command continues with the submissions that are left"
    return "the same command begins again"


def emit(result: Any, json_file: str | None, table: Callable[[], object]) -> None:
    """Write the result to the --json target, and print its table unless the JSON went to standard output."""
    write_json(result, json_file)
    text = table()  # after the JSON, and always: table() may also write a picture
    if json_file != "-":
        print_text(text)


def write_json(result: Any, json_file: str | None) -> None:
    """Write the result to the --json file, or for "-" to standard output, where nothing else is printed then."""
    if json_file == "-":
        sys.stdout.write(json_text(result, ascii=not streams.takes_unicode(sys.stdout)))
    elif json_file:
        from mslab.files import write_text

        write_text(Path(json_file), json_text(result))


def print_text(text: object) -> None:
    """Print a result with control characters escaped, so that names of files and classes cannot steer the terminal."""
    print(escape_control(str(text)))


def checked(train: str, val: str | None = None, **options: Any) -> "DatasetReport":
    """Check the data with a progress bar, before MindSpore is imported. Takes the options of check_dataset."""
    from mslab.check import check_dataset

    with console.Meter(1) as meter:
        return check_dataset(train, val, progress=meter.callback("loading images"), **options)


def checked_config(
    config: str, overrides: list[str] | None, skip_check: bool, **files: Any
) -> "tuple[Settings, DatasetReport]":
    """Load the settings and check their data. Returns (settings, report). `files`: of weights, for weights.refuse."""
    from mslab.config import load_settings

    settings = load_settings(config, overrides or [])
    if files:
        from mslab.runs import weights

        weights.refuse(**files)
    return settings, checked_data(config, settings, skip_check)


def checked_data(config: str, settings: "Settings", skip_check: bool) -> "DatasetReport":
    """Check the data that the settings name. Returns the report."""
    from mslab.check import training_data

    devices.refuse(settings.device, devices.missing_driver(settings.device))  # before the data, which may take minutes
    with console.Meter(1) as meter:
        progress = meter.callback("loading images")
        report = training_data.check_or_raise(settings, None, skip_check, config, progress)
    log.info(report.brief())
    return report


def report_run(run: str | Path | None, no_report: bool) -> None:
    """Write a trained run's report. An error in it is only printed: the run itself is finished."""
    if not run or no_report:
        return
    again = command("report", Path(run))
    try:
        from mslab.report.writing import write_report

        log.info("%s: what the network learned, and its mistakes; open it in a browser", write_report([run]))
    except KeyboardInterrupt:
        raise signals.Interrupted(f"the run is finished; {again}    writes its report") from None
    except Exception as error:
        problem = explain(error)
        log.info(
            "note: no report was written: %s Try again: %s",
            problem.what if problem else f"{error!r}.",
            again,
        )


def picture(config: str | None, subject: str, out: str | None) -> Path:
    """The path of a picture: `out`, or CONFIG-subject.png. Raises BadParameter unless it ends in .png."""
    path = Path(out or f"{Path(str(config)).stem}-{subject}.png")
    if path.suffix != ".png":
        raise BadParameter(f"--out {path}: pictures are written as .png files")
    return path
