"""Every error that mslab raises on purpose, and explain(), which turns a MindSpore error into a useful one.

MslabError              what happened and where; what was expected; how to fix it
  ConfigError           a setting is unknown, out of range or contradicts another
  DatasetError          the images or their folders are not usable for training
  CheckpointError       a weights file is missing, broken or from another network
  DeviceError           the device, MindSpore or NumPy on this machine cannot be used
  RunError              a run folder is missing, incomplete or finished
  TrainingError         training cannot continue: labels out of range, a schedule that differs from the run's
    DivergedError       the loss is no longer finite
"""

import re
import traceback
from collections.abc import Sequence
from pathlib import Path


class MslabError(Exception):
    """An error with a three-part message. `details`: (label, text) rows between the first line and `expected`."""

    def __init__(
        self, what: str, *, expected: str = "", fix: str = "", details: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.what, self.expected, self.fix, self.details = what, expected, fix, list(details)
        rows = self.details + [("expected", expected)] * bool(expected) + [("fix", fix)] * bool(fix)
        width = max((len(label) for label, _ in rows), default=0)
        indent = "\n" + " " * (width + 4)
        lines = [f"  {label:<{width}}  {text.replace(chr(10), indent)}" for label, text in rows]
        first = what.replace("\n", "\\n")  # in a name; it could look like the rows below it
        super().__init__("\n".join([first, *lines]))

    def __str__(self) -> str:
        return str(self.args[0])


class ConfigError(MslabError):
    """Settings that cannot be used. Lists every problem, one per row."""


class DatasetError(MslabError):
    """Image folders that cannot be used."""


class CheckpointError(MslabError):
    """A weights file that cannot be used."""


class DeviceError(MslabError):
    """A device or an installation that cannot be used."""


class RunError(MslabError):
    """A run folder that cannot be used."""


class TrainingError(MslabError):
    """Training that cannot continue."""


class DivergedError(TrainingError):
    """A loss that is no longer finite."""


MODEL = Path(__file__).with_name("model.py")  # which students edit
OUT_OF_MEMORY = "The device ran out of memory."

# (patterns that must all match "Type: text" of a MindSpore error, what happened, expected, fix). A single pattern would
# also match other errors (a failed AllGather is not a Gather); the tests try each row on a near miss.
EXPLANATIONS = [
    (
        (r"Unsupported device target \w+\. This process only supports",),
        "MindSpore could not use the device.",
        "a device that this machine has and this MindSpore supports",
        "device: cpu, or device: auto to choose one that works",
    ),
    (
        ("num_parallel_workers", "exceeds the boundary"),
        "MindSpore's data pipeline was set to more workers than this machine has cores.",
        "at most one worker per core",
        "lower data_workers",
    ),
    (
        (r"There is no valid data in dataset",),
        "The training pipeline produced no batch.",
        "at least batch_size training images, since training uses full batches only",
        "lower batch_size, or add images",
    ),
    (
        (r"For 'Gather', the 'input_indices' should be in the range \[0, (\d+)\), but got \1\b",),
        "A table was read one row past its end: most likely the learning-rate list ended before training did.",
        "one learning rate for every step of the run",
        "resume with the run's own config.yaml, without changes to epochs or batch_size",
    ),
    (
        (r"^\w*MemoryError:|std::bad_alloc|[Aa]llocate memory failed|Memory not enough|CUDA[^\n]*out of memory",),
        OUT_OF_MEMORY,
        "a batch that fits",
        "halve batch_size, lower image_size, or use fewer or narrower stages",
    ),
    (
        (
            r"\[\w*Decode\w*\] failed|\bDecode: ",
            "Unsupported image type|libjpeg|image decode failed|load image failed|image is broken",
        ),
        "MindSpore's decoder refused an image that Pillow could read.",
        "JPEG, PNG, BMP or TIFF files",
        "mslab check ROOT names the file; save it again as JPEG or PNG",
    ),
    (
        ("Resize: the resizing width or height",),
        "MindSpore does not enlarge an image, or the part that a random crop chose, to more than 1000 times its size.",
        "images of at least 8 pixels a side",
        "mslab check ROOT lists small images; use larger ones, or a smaller image_size",
    ),
    (
        (r"^ImportError: numpy\.core\.multiarray failed to import|^AttributeError: _ARRAY_API not found",),
        "This MindSpore cannot use the installed NumPy.",
        "NumPy 1.x",
        "pip install 'numpy<2', with the pip of the Python that runs mslab; mslab doctor shows the command",
    ),
    (
        (r"^ValueError: numpy\.\w+ size changed, may indicate binary incompatibility",),
        "A package is built for another NumPy than the installed one.",
        "packages for NumPy 1.x",
        "mslab doctor names the package and the command that installs it again",
    ),
]


def explain(error: BaseException, log: str = "train.log") -> MslabError | None:
    """The MslabError that explains a MindSpore error, or None if it is unknown. `log`: file with the traceback."""
    if isinstance(error, MslabError):
        return error
    if isinstance(error, ModuleNotFoundError) and error.name == "mindspore":
        fix = "pip install mindspore==2.8.0, with a Python 3.10 to 3.12: there are no wheels for others"
        return DeviceError("MindSpore is not installed.", expected="MindSpore 2.7 to 2.10", fix=fix)
    text = f"{type(error).__name__}: {error}"
    for patterns, what, expected, fix in EXPLANATIONS:
        if all(re.search(pattern, text, re.MULTILINE) for pattern in patterns):
            first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:160]
            rows = [("MindSpore", first), ("traceback", log)]
            return MslabError(what, expected=expected, fix=fix, details=rows)
    line = line_in_model(error)
    return None if line is None else broken_code(error, line, [("traceback", log)])


def syntax_message(error: SyntaxError) -> str:
    """Python's own message. For a wide comma after a digit older ones say "invalid decimal literal": as later ones."""
    after = re.match(r"\w*(\W)", (error.text or "")[max((error.offset or 1) - 1, 0) :])
    if error.msg.endswith("literal") and after and not after[1].isascii():
        return f"invalid character '{after[1]}' (U+{ord(after[1]):04X})"
    return error.msg


def line_in_model(error: BaseException) -> int | None:
    """The last line of model.py that an error passed, 0 if model.py lacks a name, None if it has no part in it."""
    if isinstance(error, SyntaxError) and error.filename == str(MODEL):
        return error.lineno or 1
    compiled = re.findall(rf"In file {re.escape(str(MODEL))}:(\d+)", str(error))  # in graph mode, outermost first
    if compiled:
        return int(compiled[-1])
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == str(MODEL)]
    lacks = getattr(getattr(error, "obj", None), "__file__", None) == str(MODEL)
    return lines[-1] if lines else 0 if lacks else None


def broken_code(
    error: BaseException, line: int, details: Sequence[tuple[str, str]] = (), file: Path = MODEL
) -> MslabError:
    """The message for model.py when Python or MindSpore cannot use it. `line`: where; 0 if it lacks something."""
    text = syntax_message(error) if isinstance(error, SyntaxError) else str(error)
    first = next((part.strip() for part in text.splitlines() if part.strip(" -")), "")[:160].rstrip(".")
    source = file.read_text(encoding="utf-8", errors="replace").splitlines()[line - 1 : line] if line else []
    return MslabError(
        f"{file}{f', line {line}' if line else ''}: {type(error).__name__}: {first}.",
        details=[*((f"line {line}", row.strip()[:160]) for row in source), *details],
        expected="the network as Python code that MindSpore builds and computes",
        fix=f"correct {'that line' if line else 'the file'}, or undo the last change; mslab show tries it in seconds",
    )
