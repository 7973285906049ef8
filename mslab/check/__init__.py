"""Dataset sanity checks before training: every folder is listed, every image is loaded once in a worker process.

dataset (the complete check) -> scan (list the files) or labelled (those of a table: tabular, columns, named_images,
labels) -> pool and worker (load each file), cache -> layout, groups, images, content (the rules) -> report. A rule is a
function that yields findings; to add one, add it to the RULES of its module. An error stops training; a warning or an
info does not. Nothing here imports MindSpore.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mslab.check.records import Finding, ImageRecord, Split
from mslab.check.report import DatasetReport

if TYPE_CHECKING:
    from mslab.check.dataset import check_dataset
    from mslab.check.limits import available_memory, cores

__all__ = ["DatasetReport", "Finding", "ImageRecord", "Split", "available_memory", "check_dataset", "cores"]


LATER = {"check_dataset": "dataset", "cores": "limits", "available_memory": "limits"}  # name -> module


def __getattr__(name: str) -> Any:
    """Import NumPy and Pillow when they are needed: a process that only asks which names are images starts faster."""
    if name not in LATER:
        raise AttributeError(f"module 'mslab.check' has no attribute '{name}'")
    return getattr(importlib.import_module(f"mslab.check.{LATER[name]}"), name)
