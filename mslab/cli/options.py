"""What the commands share: the app, exit codes, options that stand more than once, and how a result is printed."""

import functools
import json
import logging
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, BadParameter, Exit, Option, Typer

from mslab import __version__
from mslab.errors import explain
from mslab.runtime import console, devices, signals

if TYPE_CHECKING:
    from mslab.check import DatasetReport
    from mslab.config import Settings

log = logging.getLogger("mslab")
PLAIN: dict[str, Any] = {"no_args_is_help": True, "add_completion": False, "pretty_exceptions_enable": False}
PLAIN["rich_markup_mode"] = None
app = Typer(help="mslab: a transfer-learning lab kit on MindSpore.", **PLAIN)

# arguments
Config = Annotated[str, Argument(metavar="CONFIG", help="a YAML file of settings; mslab new FOLDER writes some")]
MaybeConfig = Annotated[str | None, Argument(metavar="CONFIG", help="a YAML file of settings")]
Overrides = Annotated[list[str] | None, Argument(metavar="[KEY=VALUE]...", help="settings on top of CONFIG's")]
Source = Annotated[str, Argument(metavar="RUN|CKPT", help="a run folder (its best.ckpt) or a .ckpt file")]
AnySource = Annotated[str, Argument(metavar="RUN|FILE", help="a run, or a .ckpt, .mindir or .onnx file")]
Root = Annotated[str, Argument(metavar="ROOT", help="a folder of class folders, or of train, val, test")]

# data and weights
DataSets = Annotated[str, Option("--out", metavar="FOLDER", help="where the data sets go")]
SkipCheck = Annotated[
    bool,
    Option("--skip-check", help="do not compare images (duplicates, leaks, …); folders and files are checked always"),
]
Test = Annotated[
    str | None, Option(metavar="ROOT", help="test images, measured when training is over; nothing is chosen by them")
]
Parent = Annotated[str, Option("--backbone", metavar="FILE|RUN", help=".ckpt, .safetensors, .pth or .onnx, or a run")]
Backbone = Annotated[str | None, Option(metavar="FILE|RUN", help="for a transfer: the backbone to begin from")]

# how a run is made
Seeds = Annotated[int, Option(help="runs, with the config's seed and those after it", min=1)]
Device = Annotated[str, Option(help="auto, cpu, gpu or ascend")]
Workers = Annotated[int | None, Option(metavar="N", help="train with N processes, one a device", min=1)]
Nodes = Annotated[int, Option(metavar="N", help="machines that share the workers evenly", min=1)]
NodeRank = Annotated[int, Option(metavar="I", help="which of them this is, from 0", min=0)]
Master = Annotated[str, Option(metavar="HOST[:PORT]", help="the machine with --node-rank 0")]
DryRun = Annotated[bool, Option("--dry-run", help="print what would be called and launched; no device is needed")]

# what comes of it
Json = Annotated[str | None, Option("--json", metavar="FILE|-", help="write the result as JSON; - is standard output")]
NoReport = Annotated[bool, Option("--no-report", help="leave out report.html, which takes some seconds")]
Tolerance = Annotated[float, Option(help="of accuracies; of losses five times as much, relative", min=0, max=1)]


@app.callback(invoke_without_command=True)
def options(version: Annotated[bool, Option("--version", help="print the version and leave")] = False) -> None:
    if version:
        print(f"mslab {__version__}")
        raise Exit


def job(owner: Typer, name: str) -> Callable[[Callable[..., int | None]], Callable[..., None]]:
    """Register a command. Exit codes: 0 done, 1 not done (one message), 2 wrong command line, 130 after Ctrl-C."""

    def register(function: Callable[..., int | None]) -> Callable[..., None]:
        @functools.wraps(function)
        def wrapped(*arguments: Any, **options: Any) -> None:
            with console.capture_stderr() as noise, signals.on_stop(signals.stop_at_once):
                try:
                    code = function(*arguments, **options) or 0
                except KeyboardInterrupt:
                    log.info("stopped by Ctrl-C; mslab train --resume RUN continues a training run")
                    code = 130
                except BadParameter:  # a wrong command line: typer says so and exits with 2
                    raise
                except Exception as error:
                    known = explain(error, str(noise.file))
                    if known is None:
                        print(traceback.format_exc(), file=noise.screen)
                    else:
                        print(console.escape_control(f"{type(known).__name__}: {known}"), file=noise.screen)
                    code = 1
            raise Exit(code)

        return owner.command(name)(wrapped)

    return register


def emit(result: Any, json_file: str | None, table: Callable[[], object]) -> None:
    """Write the result as --json says, and print its table unless the JSON went to standard output."""
    write_json(result, json_file)
    text = table()  # after the JSON, and in any case: a table may leave a picture, too
    if json_file != "-":
        print_text(text)


def write_json(result: Any, json_file: str | None) -> None:
    """`--json`: to a file, or as the only thing on standard output."""
    text = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
    if json_file == "-":
        sys.stdout.write(text)
    elif json_file:
        from mslab.checkpoint import write_text

        write_text(Path(json_file), text)


def print_text(text: object) -> None:
    """Print a result. Names of files and classes in it do not steer the terminal."""
    print(console.escape_control(str(text)))


def checked(train: str, val: str | None = None, **options: Any) -> "DatasetReport":
    """The data's report, looked at with a progress bar, before MindSpore is imported. Options: check_dataset's."""
    from mslab.check import check_dataset

    with console.Meter(1) as meter:
        return check_dataset(train, val, progress=meter.counted("loading images"), **options)


def checked_config(config: str, overrides: list[str] | None, skip_check: bool) -> "tuple[Settings, DatasetReport]":
    """(settings, report of the data they name)."""
    from mslab.config import load_settings

    settings = load_settings(config, overrides or [])
    return settings, checked_data(config, settings, skip_check)


def checked_data(config: str, settings: "Settings", skip_check: bool) -> "DatasetReport":
    """The report of the data that the settings name."""
    from mslab.check import training_data

    devices.refuse(settings.device, devices.missing_driver(settings.device))  # before the data, which may take minutes
    with console.Meter(1) as meter:
        progress = meter.counted("loading images")
        report = training_data.checked(settings, None, skip_check, config, progress)
    log.info(report.brief())
    return report


def report_run(run: str | Path | None, no_report: bool) -> None:
    """Write a trained run's report. What goes wrong there is said, and the run stays done."""
    if not run or no_report:
        return
    from mslab.report.writing import write_report

    try:
        log.info("%s: what it learned and where it fails; open it in a browser", write_report([run]))
    except Exception as error:
        known = explain(error)
        log.info("note: no report: %s mslab report %s tries again", known.what if known else f"{error!r};", run)


def picture(config: str | None, what: str, out: str | None) -> Path:
    """Where a picture goes. Raises BadParameter where its name says another format."""
    path = Path(out or f"{Path(str(config)).stem}-{what}.png")
    if path.suffix != ".png":
        raise BadParameter(f"--out {path}: pictures are written as .png")
    return path
