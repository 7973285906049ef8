"""Networks as graphs, in MINDIR and ONNX files: what is written beside the graph, and how they are run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def is_exported(path: Path) -> bool:
    """Whether the file is a graph that mslab exported, by its name's end."""
    return path.suffix in (".mindir", ".onnx")


def open_exported(path: Path) -> tuple[Callable[[np.ndarray], np.ndarray], dict[str, Any]]:
    """(normalised float32 (N, 3, S, S) -> logits float32 (N, C), the entry: class_names, image_size, mean, std …)."""
    raise NotImplementedError
