"""Dataset sanity before any training: every folder is looked at, every file loaded once, in worker processes.

dataset (the whole check) -> scan (what lies there) -> pool and worker (what is in each file), cache -> layout, images,
content (the rules) -> report. A rule is a function that yields findings; adding one is adding it to the RULES of its
module. An error stops training, a warning and an info do not. No MindSpore here.
"""

from mslab.check.dataset import check_dataset
from mslab.check.pool import cores
from mslab.check.records import Finding, ImageRecord, Split
from mslab.check.report import DatasetReport

__all__ = ["DatasetReport", "Finding", "ImageRecord", "Split", "check_dataset", "cores"]
