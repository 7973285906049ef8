"""The bytes of a file of weights and their format; for what is not read, what it is and how to save it anew."""

import contextlib
import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mslab.checkpoint import pth, readers
from mslab.config import paths
from mslab.errors import CheckpointError
from mslab.escaping import quoted
from mslab.files import FormatError, kind_of, open_zip, read_bytes

SUFFIXES = (".ckpt", ".safetensors", ".pth", ".pt", ".bin", ".onnx")
# errors from damaged bytes: our readers raise ValueError, the standard library the others too; the rest are our bugs
DAMAGE: tuple[type[Exception], ...] = (ValueError, EOFError, MemoryError, OverflowError, RecursionError, struct.error)
DAMAGE += (zipfile.BadZipFile, NotImplementedError)  # the last: a zip of a newer version
Sets = dict[str, Callable[[], dict[str, np.ndarray]]]  # of weights in a file: {key, "" for the file itself: reader}
Reader = Callable[[Any], tuple[Sets, dict[str, str]]]
ENDING = f"a file ending in {', '.join(SUFFIXES)}"
LEGACY = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the number with which torch.save began its files before 1.6
PADDLE = b"StructuredToParameterName@@"
SAVE_FILE = "safetensors.numpy.save_file"
FIXES = {
    "a TorchScript file": (
        "import torch",
        "torch.save(torch.jit.load({file}, map_location='cpu').state_dict(), {new})",
    ),
    "a file of PyTorch before 1.6": (
        "import torch",
        "torch.save(torch.load({file}, map_location='cpu', weights_only=True), {new})",
    ),
    "a file of PaddlePaddle": (
        "import paddle, safetensors.numpy",
        "new = lambda n: n.replace('._mean', '.running_mean').replace('._variance', '.running_var')",
        "state = {{new(n): v.numpy() for n, v in paddle.load({file}).items() if hasattr(v, 'numpy')}}",
        "state['fc.weight'] = state['fc.weight'].T.copy()",
        SAVE_FILE + "(state, {safe})",
    ),
    "a .npz file of NumPy": ("import numpy, safetensors.numpy", SAVE_FILE + "(dict(numpy.load({file})), {safe})"),
}
UNPACK = {"gzip": "gunzip -k", "xz": "unxz -k", "bzip2": "bunzip2 -k", "zstd": "unzstd", "7z": "7z x"}
COMPRESSED = {b"\x1f\x8b": "gzip", b"\xfd7zXZ": "xz", b"BZh": "bzip2", b"\x28\xb5\x2f\xfd": "zstd", b"7z\xbc\xaf": "7z"}


def read_content(path: Path) -> bytes:
    """The bytes of a file of weights. Raises CheckpointError."""
    kind, reason = kind_of(path, links=True), ""
    if kind == "a folder":
        near = files_in(path)
        none = "give a file; mslab train writes some, into the folder checkpoints of each run"
        fix = f"one of {', '.join(near)}" if near else none
        raise CheckpointError(f"{path} is a folder.", expected=ENDING, fix=fix)
    try:
        size = path.stat().st_size
        if kind != "a file":
            reason = f"it is {kind}"
        elif not 0 < size <= readers.MAX_BYTES:
            raise broken(path, "checkpoint", f"it has {size} bytes")
        else:
            return read_bytes(path, size)
    except (FileNotFoundError, NotADirectoryError):
        raise missing(path) from None
    except MemoryError:
        reason = f"{size / 2**30:.1f} GiB do not fit into memory"
    except (OSError, FormatError, ValueError) as error:  # the last: a name with a zero byte
        reason = getattr(error, "strerror", None) or str(error)
    fix = f"chmod u+r {quoted(path)}    or use a smaller file" if kind == "a file" else "correct the path"
    raise CheckpointError(f"{path} cannot be read: {reason}.", expected="a readable file", fix=fix)


def files_in(folder: Path) -> list[str]:
    """Some files of weights in a folder, for a message."""
    with contextlib.suppress(OSError):  # it cannot be listed
        return sorted(str(path) for path in folder.glob("*") if path.suffix in SUFFIXES)[:8]
    return []


def missing(path: Path) -> CheckpointError:
    near = files_in(path.parent)
    expected = "a .ckpt, .safetensors, .pth or .onnx file, such as runs/…/checkpoints/best_backbone.ckpt"
    fix = f"one of {', '.join(near)}" if near else "correct the path; mslab train writes such files"
    return paths.missing(path, CheckpointError, "file", expected, fix)


def reader_of(path: Path, content: bytes) -> tuple[str, Reader]:
    """(format, reader) of the content. Raises CheckpointError if it is of a format that is not read."""
    header = int.from_bytes(content[:8], "little")
    if content[8:9] == b"{" and header <= len(content):
        return "safetensors file", alone(readers.read_safetensors)
    what = foreign_format(path, content)
    if what in FIXES:
        raise not_read(path, what, in_python(path, FIXES[what]))
    if what:
        raise not_read(path, what[0], what[1])
    if content[:2] == b"PK":
        return "PyTorch file", lambda data: (pth.weight_sets(data), {})
    if content[:1] == b"\x08":
        return "ONNX file", alone(readers.read_onnx)
    return "MindSpore checkpoint", alone(readers.read_ckpt)


def alone(reader: Callable[[memoryview], readers.TensorsAndTexts]) -> Reader:
    """A reader of a format that has one set of weights."""

    def read(content: bytes) -> tuple[Sets, dict[str, str]]:
        tensors, texts = reader(memoryview(content))
        return {"": lambda: tensors}, texts

    return read


def foreign_format(path: Path, content: bytes) -> Any:
    """A key of FIXES, (what it is, the fix), or "" if this may be a format that is read."""
    start = content[:64].lstrip().lower()
    for mark, name in COMPRESSED.items():
        if content.startswith(mark):
            return f"compressed with {name}", f"{UNPACK[name]} {quoted(path)}    and use the file in it"
    if content[257:262] == b"ustar":
        return "a tar archive", f"tar -xf {quoted(path)}    and use the file in it"
    names = zip_names(content) if content[:2] == b"PK" else []
    if any(name.endswith("/constants.pkl") for name in names):
        return "a TorchScript file"
    if names and all(name.endswith(".npy") for name in names):
        return "a .npz file of NumPy"
    if not any(name.endswith("data.pkl") for name in names) and any(name.endswith(SUFFIXES) for name in names):
        return "a zip archive of files", f"unzip {quoted(path)}    and use the file in it"
    if content.startswith(b"\x89HDF\r\n") or "model.weights.h5" in names:
        return "a file of Keras, whose names and order of axes are others", (
            "use the network of torchvision or timm; or save it in Python under their names, with convolutions as\n"
            f"(out, in, height, width):    {SAVE_FILE}(tensors, 'new.safetensors')"
        )
    if content.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file itself", "git lfs pull"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not the file that it offers", "download it again, by the link of the file itself"
    if is_text(content) and content[:1] not in b"{":
        return "a text file", "name the run's folder, or a file in its checkpoints/"
    if content[:1] == b"{":
        return "JSON: a description, or a list of the files that contain the weights", "use the file of weights itself"
    if content[:1] == b"\x80" and LEGACY in content[:32]:
        return "a file of PyTorch before 1.6"
    if content[:1] == b"\x80":
        return (
            "a file of PaddlePaddle"
            if PADDLE in content or path.suffix == ".pdparams"
            else (
                "a bare pickle: reading it could run code from the file",
                "save its tensors with the library that wrote it, for example:    torch.save(state_dict, 'new.pth')",
            )
        )
    return ""


def is_text(content: bytes) -> bool:
    """Whether the first lines of a file are printable text."""
    with contextlib.suppress(UnicodeDecodeError):
        text = content[:400].decode(errors="strict" if len(content) <= 400 else "ignore")
        return all(c.isprintable() or c in "\r\n\t" for c in text)
    return False


def zip_names(content: bytes) -> list[str]:
    """The names of a zip's members; [] if it is damaged, which its reader reports."""
    with contextlib.suppress(*DAMAGE), open_zip(io.BytesIO(content), pth.MAX_DIRECTORY) as archive:
        return archive.namelist()
    return []


def in_python(path: Path, lines: tuple[str, ...]) -> str:
    """Lines of Python that save a file anew, as the fix of a message."""
    stem = path.name.split(".")[0] or "weights"
    names = {"file": repr(str(path)), "new": repr(f"{stem}-weights.pth"), "safe": repr(f"{stem}-weights.safetensors")}
    return "in Python:\n" + "\n".join(line.format(**names) for line in lines)


def not_read(path: Path, what: str, fix: str) -> CheckpointError:
    return CheckpointError(f"{path} is {what}.", expected=f"tensors in {ENDING}", fix=fix)


def pickled_object(path: Path, error: pth.PickledObject) -> CheckpointError:
    """The message for a file that contains a network or arrays as objects, which only other programs can build."""
    keys = "".join(f"[{key!r}]" for key in error.key.split(".") if key).replace("{", "{{").replace("}", "}}")
    load = f"found = torch.load({{file}}, map_location='cpu', weights_only=False){keys}"
    save = "{{n: torch.as_tensor(v) for n, v in found.items()}}" if error.table else "found.state_dict()"
    return not_read(
        path,
        f"{'of PyTorch, without tensors' if error.table else 'a pickled network'}: {error}",
        "where its program is installed, and if you trust the file, which can run code when it is loaded, "
        + in_python(path, ("import torch", load, f"torch.save({save}, {{new}})")),
    )


def broken(path: Path, kind: str, reason: str) -> CheckpointError:
    if reason.startswith("it contains no"):  # complete, but of something else
        fix = "use the file that has the network's weights; training scripts keep them under state_dict or model"
        return not_read(path, f"a {kind} without weights of a network: {reason}", fix)
    return CheckpointError(
        f"{path} is not a complete {kind}: {reason if len(reason) < 400 else reason[:400] + '…'}.",
        expected=f"weights in {ENDING}, as mslab, MindSpore and others write them",
        fix="copy it again, or use another file; mslab writes such files under runs/…/checkpoints/",
    )
