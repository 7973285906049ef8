"""The bytes of a file of weights and their format, and the messages about those that cannot be read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mslab.checkpoint import foreign, legacy, pth, readers
from mslab.checkpoint.near import SUFFIXES, folder_contents, instead, is_network
from mslab.checkpoint.pth import Sets
from mslab.config import paths
from mslab.errors import CheckpointError
from mslab.escaping import quoted
from mslab.files import FormatError, kind_of, read_bytes

Reader = Callable[[Any], tuple[Sets, dict[str, str]]]
NO_FIX = "name a file of weights; mslab train writes some, into the folder checkpoints of each run"
ENDING = f"a file ending in {', '.join(SUFFIXES)}"


def read_content(path: Path) -> bytes:
    """The bytes of a file of weights. Raises CheckpointError."""
    kind, reason = kind_of(path, links=True), ""
    if kind == "a folder":
        none = "give a file; mslab train writes some, into the folder checkpoints of each run"
        rows = [("contains", folder_contents(path))]
        raise CheckpointError(f"{path} is a folder.", details=rows, expected=ENDING, fix=instead(path) or none)
    try:
        size = path.stat().st_size
        if kind != "a file":
            reason = f"it is {kind}"
        elif not 0 < size <= readers.MAX_BYTES:
            raise broken(
                path, "file of weights", f"it has {size} bytes{', as an interrupted copy leaves it' * (not size)}"
            )
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


def missing(path: Path) -> CheckpointError:
    expected = "a .ckpt, .safetensors, .pth or .onnx file, such as runs/…/checkpoints/best.ckpt"
    fix = instead(path) or "correct the path; mslab train writes such files"
    return paths.missing(path, CheckpointError, paths.Wanted("file", expected, is_network), fix)


def reader_of(path: Path, content: bytes) -> tuple[str, Reader]:
    """(format, reader) of the content. Raises CheckpointError if it is of a format that is not read."""
    header = int.from_bytes(content[:8], "little")
    if content[8:9] == b"{" and header <= max(len(content), readers.MAX_HEADER):
        return "safetensors file", alone(readers.read_safetensors)
    if legacy.is_legacy(content):
        return "PyTorch file", lambda data: (legacy.weight_sets(data), {})
    if found := foreign.identify(path, content):
        what, fix = found
        raise not_read(path, what, fix)
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


def not_read(path: Path, what: str, fix: str) -> CheckpointError:
    return CheckpointError(f"{path} is {what}.", expected=f"tensors in {ENDING}", fix=or_near(path, fix) or NO_FIX)


def or_near(path: Path, fix: str) -> str:
    """A fix, and the files of weights near the path."""
    return "; or ".join(text for text in (fix, instead(path)) if text)


def pickled_object(path: Path, error: pth.PickledObject) -> CheckpointError:
    """The message for a file that contains a network or arrays as objects, which only other programs can build."""
    keys = "".join(f"[{key!r}]" for key in error.key.split(".") if key).replace("{", "{{").replace("}", "}}")
    load = f"found = torch.load({{file}}, map_location='cpu', weights_only=False){keys}"
    save = "{{n: torch.as_tensor(v) for n, v in found.items()}}" if error.table else "found.state_dict()"
    return not_read(
        path,
        f"{'of PyTorch, without tensors' if error.table else 'a pickled network'}: {error}",
        "where its program is installed, and if you trust the file, which can run code when it is loaded, "
        + foreign.in_python(path, ("import torch", load, f"torch.save({save}, {{new}})")),
    )


def broken(path: Path, kind: str, reason: str) -> CheckpointError:
    if reason.startswith("it contains no"):  # complete, but of something else
        fix = "use the file that has the network's weights; training scripts keep them under state_dict or model"
        return not_read(path, f"{'an' if kind[0] == 'O' else 'a'} {kind} without weights of a network: {reason}", fix)
    return CheckpointError(
        f"{path} is not a complete {kind}: {reason if len(reason) < 400 else reason[:400] + '…'}.",
        expected=f"weights in {ENDING}, as mslab, MindSpore and others write them",
        fix=or_near(path, "copy it again") if instead(path) else f"copy it again, or {NO_FIX}",
    )
