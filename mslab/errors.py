"""Every error that mslab raises on purpose, and explain(), which turns a MindSpore error into a useful one.

MslabError              what happened and where; what was expected; how to fix it
  ConfigError           a setting is unknown, out of range or contradicts another
  DatasetError          the images or their folders are not what training needs
  CheckpointError       a file of weights is missing, broken or of another network
  DeviceError           the device, MindSpore or NumPy here cannot do the job
  RunError              a run folder is missing, incomplete or finished
  TrainingError         training cannot go on: labels out of range, another schedule than the run's
    DivergedError       a loss that is not finite any more
"""

import re
from collections.abc import Sequence


class MslabError(Exception):
    """An error with the three parts. `details` are (label, text) rows between the first line and `expected`."""

    def __init__(
        self, what: str, *, expected: str = "", fix: str = "", details: Sequence[tuple[str, str]] = ()
    ) -> None:
        self.what, self.expected, self.fix, self.details = what, expected, fix, list(details)
        rows = self.details + [("expected", expected)] * bool(expected) + [("fix", fix)] * bool(fix)
        width = max((len(label) for label, _ in rows), default=0)
        indent = "\n" + " " * (width + 4)
        lines = [f"  {label:<{width}}  {text.replace(chr(10), indent)}" for label, text in rows]
        super().__init__("\n".join([what, *lines]))

    def __str__(self) -> str:
        return str(self.args[0])


class ConfigError(MslabError):
    """Settings that cannot be used; every problem at once, one row each."""


class DatasetError(MslabError):
    """Image folders that cannot be used."""


class CheckpointError(MslabError):
    """A weights file that cannot be used."""


class DeviceError(MslabError):
    """A device or an installation that cannot be used."""


class RunError(MslabError):
    """A run folder that cannot be used."""


class TrainingError(MslabError):
    """Training that cannot go on."""


class DivergedError(TrainingError):
    """A loss that is not finite any more."""


# what MindSpore says, as expressions that must all be found in "Type: text" -> (what happened, expected, fix). One mark
# alone would explain another error wrongly (an AllGather that failed is no Gather), so each row is held to a near miss.
KNOWN = [
    (
        (r"Unsupported device target \w+\. This process only supports",),
        "MindSpore could not use the device.",
        "a device that this machine has and this MindSpore supports",
        "device: cpu, or device: auto to take what works",
    ),
    (
        ("num_parallel_workers", "exceeds the boundary"),
        "MindSpore's dataset was asked for more workers than this machine has cores.",
        "at most one worker a core",
        "lower data_workers",
    ),
    (
        (r"There is no valid data in dataset",),
        "The training pipeline gave no batch.",
        "at least batch_size training images, since training uses full batches only",
        "lower batch_size, or add images",
    ),
    (
        (r"For 'Gather', the 'input_indices' should be in the range \[0, (\d+)\), but got \1\b",),
        "A table was read one row past its end: most likely the learning-rate list ended before training did.",
        "one learning rate for every step of the run",
        "resume with the run's own config.yaml; do not change epochs or batch_size by hand",
    ),
    (
        (r"^\w*MemoryError:|std::bad_alloc|[Aa]llocate memory failed|Memory not enough|CUDA[^\n]*out of memory",),
        "The device ran out of memory.",
        "a batch that fits",
        "halve batch_size, or lower image_size",
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
        (r"^ImportError: numpy\.core\.multiarray failed to import|^AttributeError: _ARRAY_API not found",),
        "This MindSpore cannot work with the NumPy that is installed.",
        "NumPy 1.x",
        "pip install 'numpy<2'",
    ),
]


def explain(error: BaseException, log: str = "train.log") -> MslabError | None:
    """The mslab error that says what a MindSpore error meant, or None where we do not know. `log` has its traceback."""
    if isinstance(error, MslabError):
        return error
    text = f"{type(error).__name__}: {error}"
    for marks, what, expected, fix in KNOWN:
        if all(re.search(mark, text, re.MULTILINE) for mark in marks):
            first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:160]
            rows = [("MindSpore", first), ("traceback", log)]
            return MslabError(what, expected=expected, fix=fix, details=rows)
    return None
