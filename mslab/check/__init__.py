"""Dataset sanity checks before training: every folder is listed, every image is loaded once in a worker process.

dataset (the complete check) -> scan (list the files) -> pool and worker (load each file), cache -> layout, images,
content (the rules) -> report. A rule is a function that yields findings; to add one, add it to the RULES of its module.
An error stops training; a warning or an info does not. Nothing here imports MindSpore.
"""

from mslab.check.dataset import check_dataset
from mslab.check.pool import cores
from mslab.check.records import Finding, ImageRecord, Split
from mslab.check.report import DatasetReport

__all__ = ["DatasetReport", "Finding", "ImageRecord", "Split", "check_dataset", "cores"]
