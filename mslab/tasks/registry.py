"""The tasks by name. Importing it imports no MindSpore; a task's own module does."""

import importlib
from collections.abc import Mapping
from typing import Any

from mslab.tasks.task import Task

CLASSES = {"detect": "Detect", "segment": "Segment", "keypoints": "Keypoints", "multilabel": "Multilabel"}


def class_of(name: str) -> type[Task]:
    """The class of a task, by its name."""
    found: type[Task] = getattr(importlib.import_module(f"mslab.tasks.{name}"), CLASSES[name])
    return found


def task_of(info: Mapping[str, Any]) -> Task:
    """The task of a checkpoint's entry."""
    return class_of(info["task"])(info)
