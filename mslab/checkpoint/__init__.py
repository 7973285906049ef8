"""Files of weights: bounded readers, other projects' dialects, exact loading, atomic writing.

reading (any file) -> formats -> readers and pth (one format each) -> selecting (the network among the tensors) with
dialects (parameter names) -> loading (into a network);
writing; converting (mslab convert). A .ckpt of mslab is MindSpore's protobuf: one entry per tensor, plus one text entry
named `mslab`: JSON with class names, image size, normalisation, stage table and profile, so that a single file can be
evaluated. Reading needs no MindSpore, and MindSpore receives only checked data.
"""

from mslab.checkpoint.dialects import HEAD
from mslab.checkpoint.loading import load_exactly, select_names
from mslab.checkpoint.reading import NO_CHOICE, STANDARD, Checkpoint, Choice, complete_info, read
from mslab.checkpoint.selecting import TRAINING
from mslab.checkpoint.writing import save, save_arrays

__all__ = [
    "HEAD",
    "NO_CHOICE",
    "STANDARD",
    "TRAINING",
    "Checkpoint",
    "Choice",
    "complete_info",
    "load_exactly",
    "read",
    "save",
    "save_arrays",
    "select_names",
]
