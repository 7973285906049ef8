"""Shared by all commands: the app, exit codes, common options, and how a result is printed."""

import functools
import inspect
import logging
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, BadParameter, Exit, Option, Typer

from mslab import __version__
from mslab.cli import endings, outputs
from mslab.cli.hints import HintedCommand, HintedGroup
from mslab.cli.outputs import OutputOption
from mslab.errors import MslabError, explain
from mslab.escaping import command, escape_control
from mslab.files import json_text
from mslab.runs import lock
from mslab.runtime import console, devices, signals, streams, targets

if TYPE_CHECKING:
    from mslab.check import DatasetReport
    from mslab.config import Settings

log = logging.getLogger("mslab")
# metavars of paths
PATH = re.compile(r"\b(ARCHIVE|CKPT|CONFIG|FILE|FOLDER|IMAGE|OTHER_RUN|ROOT|RUN|SUBMISSIONS|TABLE)\b")
LANGUAGE = "MSLAB_LANG"  # language.CHOSEN, which takes a while to import: --lang is of one command only
PLAIN: dict[str, Any] = {"no_args_is_help": True, "add_completion": False, "pretty_exceptions_enable": False}
PLAIN["rich_markup_mode"] = None


class CommandLine(Typer):
    """The command line. Standard output and error may be anything, and ~/ is the home folder in every argument."""

    def __call__(self, args: Sequence[str] | None = None, **options: Any) -> Any:
        if args is None:  # a program that passes them, such as modelarts, has done other things before
            streams.use_utf8()
        streams.open_standard_streams()
        before, chosen = console.terminal.setStream(sys.stderr), os.environ.get(LANGUAGE)
        try:
            return super().__call__([with_home(word) for word in (sys.argv[1:] if args is None else args)], **options)
        finally:
            stopped = getattr(sys.exc_info()[1], "code", 0) == 130
            console.terminal.setStream(before or sys.stderr)
            os.environ.pop(LANGUAGE, None)
            os.environ.update({LANGUAGE: chosen} if chosen else {})
            problem = streams.output_problem()
            if (
                args is None and stopped
            ):  # CPython would end by SIGINT if it came in a dataclass's or namedtuple's exec()
                sys.stderr.flush()
                os._exit(130)
            if args is None:
                streams.end_as_unix_does()
            if problem:
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
Source = Annotated[str, Argument(metavar="RUN|CKPT", help="a run folder (its best.ckpt), latest, or a file of weights")]
AnySource = Annotated[str, Argument(metavar="RUN|FILE", help="a run folder, latest, or a .ckpt, .mindir or .onnx file")]
Root = Annotated[
    str, Argument(metavar="ROOT", help="a folder of class folders, or with train, val and test in it; or a table")
]
RootOrConfig = Annotated[
    str,
    Argument(
        metavar="ROOT|CONFIG",
        help="a folder of class folders, or with train, val and test in it; a table; or a YAML file with settings",
    ),
]

# data and weights
DataSets = Annotated[str, Option("--out", metavar="FOLDER", help="target folder of the data sets"), OutputOption()]
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
    str,
    Option(
        "--backbone",
        metavar="FILE|RUN",
        help="a .ckpt, .safetensors, .pth or .onnx file, a run, latest, or a name of mslab weights",
    ),
]
AnyHash = Annotated[
    bool, Option("--allow-hash-mismatch", help="take published weights whose file in the folder has another hash")
]
Name = Annotated[str | None, Option(metavar="NAME", help="call the run folder runs/NAME-DATE-TIME (default: CONFIG's)")]
Backbone = Annotated[
    str | None, Option(metavar="FILE|RUN", help="backbone to start from (transfer), also a name of mslab weights")
]
Dialect = Annotated[
    str, Option("--dialect", metavar="NAME", help="project whose parameter names the file has, if they do not show it")
]
Weights = Annotated[
    str, Option("--weights", metavar="KEY", help="of several sets of weights in the file, the one to take, such as ema")
]

# training
SEEDS = "number of runs: the config's seed and the seeds that follow it"
Seeds = Annotated[int, Option(help=SEEDS, min=1)]
Device = Annotated[str, Option(help="auto, cpu, gpu or ascend")]
Engine = Annotated[
    str, Option("--engine", help="auto (onnxruntime on a CPU), mindspore, onnxruntime or openvino", metavar="NAME")
]
Precision = Annotated[str, Option("--precision", help="fp32, or bf16 with --engine openvino", metavar="fp32|bf16")]
Workers = Annotated[int | None, Option(metavar="N", help="train with N processes, one per device", min=1)]
Nodes = Annotated[int, Option(metavar="N", help="number of machines; each runs the same number of workers", min=1)]
NodeRank = Annotated[int, Option(metavar="I", help="number of this machine, from 0", min=0)]
Master = Annotated[str, Option(metavar="HOST[:PORT]", help="address of the machine with --node-rank 0")]
DryRun = Annotated[bool, Option("--dry-run", help="print the setup calls and the launch command; needs no device")]

# output
Json = Annotated[
    str | None,
    Option("--json", metavar="FILE|-", help="write the result as JSON; - is standard output"),
    OutputOption("JSON", (".json",), stdout=True),
]
PAGE, PICTURE = (
    OutputOption("a page", (".html", ".htm"), strict=True),
    OutputOption("a picture", (".png",), strict=True),
)
ARCHIVE = OutputOption("a zip", (".zip",), strict=True, new=True)
NoReport = Annotated[bool, Option("--no-report", help="do not write report.html, which takes some seconds")]
Tolerance = Annotated[
    float, Option(help="allowed difference of accuracies; losses may differ by 5 times this fraction", min=0, max=1)
]


def choose_language(name: str | None) -> str | None:
    """Let this command, and the processes that it starts, speak a language. Raises BadParameter."""
    if name is not None:
        from mslab.config import language

        if not language.known(name):
            raise BadParameter(f"--lang {name}: expected {language.NAMES}")
        language.choose(language.known(name))
    return name


Lang = Annotated[  # of every command, and in front of it: mslab --lang zh check ROOT
    str | None,
    Option("--lang", metavar="en|zh", callback=choose_language, help="language of messages (default: the locale's)"),
]


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, Option("--version", help="print the version and exit")] = False, lang: Lang = None
) -> None:
    if version:
        print(f"mslab {__version__}")
        raise Exit


def job(owner: Typer, name: str) -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """Register a command. Exit codes: 0 done, 1 failed (one message), 2 wrong command line, 130 after Ctrl-C."""

    def register(function: Callable[..., int | None]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapped(*arguments: Any, lang: str | None = None, **options: Any) -> None:
            goodbye, began = functools.partial(endings.message, name, None), time.time()
            with signals.command(goodbye):
                try:
                    with console.capture_stderr() as captured, console.each_note_once():
                        code = carry_out(functools.partial(prepared, function, options, *arguments), captured)
                except KeyboardInterrupt as stop:
                    signals.ignore()
                    endings.remove_dump(began)
                    log.info(endings.message(name, stop))
                    code = 130
                signals.ignore()
            raise Exit(code)

        own = inspect.signature(function)
        last = inspect.Parameter("lang", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Lang)
        wrapped.__signature__ = own.replace(parameters=[*own.parameters.values(), last])  # type: ignore[attr-defined]
        wrapped.__annotations__ = {**function.__annotations__, "lang": Lang}
        summary = re.split(r"[.:;](?: |$)", function.__doc__ or "")[0]  # in the list of commands, which cuts long ones
        return owner.command(name, cls=HintedCommand, short_help=summary)(wrapped)

    return register


def refuse_empty(function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    """Raise MslabError for an argument that should be a path and is "": as a Path, it would be the current folder."""
    for name, parameter in inspect.signature(function).parameters.items():
        value = arguments.get(name)
        marks = getattr(parameter.annotation, "__metadata__", ())
        for mark in marks if not any(isinstance(mark, OutputOption) for mark in marks) else ():
            metavar = str(getattr(mark, "metavar", ""))
            if PATH.search(metavar) and "" in (value if isinstance(value, list) else [value]):
                fix = "type the path itself; a variable of the shell may be empty"
                raise MslabError("'' is no path.", expected=f"{metavar}: {mark.help}", fix=fix)


def prepared(function: Callable[..., int | None], options: Mapping[str, Any], *arguments: Any) -> int:
    """Call a command's function after a look at its outputs, while the run folders that these lie in are locked."""
    refuse_empty(function, options)
    with outputs.prepared(function, options) as files, lock.held_around(files):
        return function(*arguments, **options) or 0


def carry_out(function: Callable[[], int | None], captured: console.StderrCapture) -> int:
    """Call a command's function. Returns its exit code; prints the error that it raises. Raises KeyboardInterrupt."""
    try:
        return function() or 0
    except BadParameter:  # a wrong command line: typer prints it and exits with 2
        raise
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt) or signals.stopping():
            captured.stopped = True
            raise error if isinstance(error, KeyboardInterrupt) else KeyboardInterrupt from None
        problem = explain(error, str(captured.file))
        if problem not in (None, error):  # it names the file
            captured.saved = True
            traceback.print_exc()
        text = f"{type(problem).__name__}: {problem}" if problem else traceback.format_exc()
        print(escape_control(text), file=captured.screen)
        return 1


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


def found(source: str, config: str = "", overrides: list[str] | None = None, any_hash: bool = False) -> "Path":
    """The run folder or the file that a RUN|FILE means, said in one line of the log where its text does not.

    Of a `config`, what is wrong is said first: published weights are fetched, which may take minutes.
    """
    from mslab.config import load_settings
    from mslab.runs.finding import find_network

    if config:
        load_settings(config, overrides or [], notes=False)
    return find_network(source, any_hash)


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
    return settings, checked_data(config, settings, skip_check, own_table=any(files.values()))


def checked_data(config: str, settings: "Settings", skip_check: bool, own_table: bool = False) -> "DatasetReport":
    """Check model.py, then the data that the settings name. `own_table`: weights bring their own table of stages."""
    from mslab.check import training_data
    from mslab.stages import check_model_file

    check_model_file(with_table=settings.stages is None and not own_table)
    devices.refuse(settings.device, devices.missing_driver(settings.device))  # before the data, which may take minutes
    with console.Meter(1) as meter:
        progress = meter.callback("loading images")
        report = training_data.check_or_raise(settings, None, skip_check, config, progress)
    log.info(report.brief(), extra=console.PROSE)
    return report


def checked_labels(root: str, task: str | None, cache: bool = True) -> Any:
    """Check labels of boxes, masks, key points or tags with a progress bar."""
    from mslab.check.label_check import check_labels

    with console.Meter(1) as meter:
        return check_labels(root, task, cache, meter.callback("loading images"))


def report_run(run: str | Path | None, no_report: bool) -> None:
    """Write a trained run's report. An error in it is only printed: the run itself is finished."""
    if not run or no_report:
        return
    again = command("report", Path(run))
    from mslab.runs.folder import without_report

    try:
        page, seconds = timed_report([run])
        text = f"{page}: what the network learned, and its mistakes; open it in a browser ({seconds:.0f} s)"
        log.info(text, extra=console.PROSE)
    except KeyboardInterrupt:
        raise without_report(run) from None
    except Exception as error:
        problem = explain(error)
        log.info(
            "note: no report was written: %s Try again: %s",
            problem.what if problem else f"{error!r}.",
            again,
        )


def timed_report(runs: Sequence[str | Path], *arguments: Any) -> tuple[Path, float]:
    """Write a report. Returns its path and the seconds it took; a terminal shows them while they pass."""
    began = time.perf_counter()
    with console.working("writing the report …"):
        from mslab.report.writing import write_report

        page = write_report(runs, *arguments)
    return page, time.perf_counter() - began


def picture(config: str | None, subject: str, out: str | None) -> Path:
    """The path of a picture: `out`, or CONFIG-subject.png. Raises MslabError if the latter cannot be written."""
    path = Path(out or f"{Path(str(config)).stem}-{subject}.png")
    targets.refuse_file(path, option="--out")
    return path
