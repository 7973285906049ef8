"""Files of weights: bounded readers, other projects' dialects, exact loading, atomic writing.

reading (any file) -> readers and pth (one format each) -> dialects (parameter names) -> loading (into a network);
writing; converting (mslab convert). A .ckpt of mslab is MindSpore's protobuf: one entry per tensor, plus one text entry
named `mslab`: JSON with class names, image size, normalisation, stage table and profile, so that a single file can be
evaluated. Reading needs no MindSpore, and MindSpore receives only checked data.
"""

from mslab.checkpoint.dialects import HEAD
from mslab.checkpoint.loading import load_exactly, select_names
from mslab.checkpoint.reading import Checkpoint, read
from mslab.checkpoint.writing import make_folder, replace_atomically, save, save_arrays, sha256, write_text

__all__ = ["HEAD", "Checkpoint", "load_exactly", "make_folder", "read", "replace_atomically", "save", "select_names"]
__all__ += ["save_arrays", "sha256", "write_text"]
