"""What a file is that is no file of weights, or of a format that is not read, and what to do instead."""

import contextlib
import io
from pathlib import Path

from mslab.check.formats import HEAD, is_format, name_of
from mslab.checkpoint import pth
from mslab.checkpoint.near import SUFFIXES, is_plausible
from mslab.checkpoint.readers import DAMAGE
from mslab.escaping import quoted
from mslab.files import FormatError, decode, open_zip

PADDLE = b"StructuredToParameterName@@"
SAVE_FILE = "safetensors.numpy.save_file"
FIXES = {
    "a TorchScript file": (
        "import torch",
        "torch.save(torch.jit.load({file}, map_location='cpu').state_dict(), {new})",
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
TEXTS = {".csv": "a table", ".tsv": "a table", ".yaml": "YAML, as configs are", ".yml": "YAML, as configs are"}
TEXTS |= {
    ".log": "a log",
    ".py": "a program in Python",
    ".md": "Markdown",
    ".dvc": "DVC's pointer to a file",
    ".txt": "",
}
OTHERS = {b"\x7fELF": "a program", b"MZ": "a program of Windows", b"SQLite format 3": "a database", b"PAR1": "a table"}
OTHERS |= {b"\x93NUMPY": "an array of NumPy, without a name", b"GGUF": "a language model"}
UNFINISHED = (".crdownload", ".part", ".partial", ".download", ".opdownload")


def identify(path: Path, content: bytes) -> tuple[str, str] | None:
    """(what the file is, the fix, "" if only another file helps), or None if it may be of a format that is read."""
    if path.suffix.lower() in UNFINISHED:
        return "a download that has not ended", "wait for its end, or begin it again"
    if content[:4096].count(0) == len(content[:4096]):
        return (
            "empty: it begins with zeros only, as a copy or a download leaves it that was interrupted",
            "copy it again",
        )
    if found := archive(path, content) or text(path, content):
        return found
    if (kind := of_program(path, content)) in FIXES:
        return kind, in_python(path, FIXES[kind])
    if content[:1] == b"\x80":
        save = "save its tensors with the library that wrote it, for example:    torch.save(state_dict, 'new.pth')"
        return "a bare pickle: reading it could run code from the file", save
    if content.startswith(b"\x89HDF\r\n"):
        return KERAS
    if path.suffix.lower() == ".mindir":
        return (
            "a MINDIR graph, which is made to predict and not to be trained on",
            "use the checkpoint that was exported",
        )
    if is_plausible(content):
        return None
    name = name_of(content[:HEAD]) or next((n for start, n in OTHERS.items() if content.startswith(start)), "")
    if name:
        return f"a picture ({name})" if is_format(name) else name if name[:2] in (
            "a ",
            "an",
        ) else f"a file of {name}", ""
    again = "copy it again" * (path.suffix.lower() in SUFFIXES)
    return f"of no format that mslab reads: it begins with the bytes {content[:4].hex(' ')}", again


KERAS = (
    "a file of Keras, whose names and order of axes are others",
    "use the network of torchvision or timm; or save it in Python under their names, with convolutions as\n"
    f"(out, in, height, width):    {SAVE_FILE}(tensors, 'new.safetensors')",
)


def archive(path: Path, content: bytes) -> tuple[str, str] | None:
    """What a compressed file or an archive is, other than one of torch.save."""
    for mark, name in COMPRESSED.items():
        if content.startswith(mark):
            return f"compressed with {name}", f"{UNPACK[name]} {quoted(path)}    and use the file in it"
    if content.startswith(b"Rar!"):
        return "a RAR archive", f"unrar x {quoted(path)}    and use the file in it"
    if content[257:262] == b"ustar":
        return "a tar archive", f"tar -xf {quoted(path)}    and use the file in it"
    names = zip_names(content) if content[:2] == b"PK" else []
    if not names or any(name.endswith(("constants.pkl", "data.pkl", ".npy")) for name in names):
        return None
    if "model.weights.h5" in names:
        return KERAS
    if any(name.endswith(SUFFIXES) for name in names):
        return "a zip archive of files", f"unzip {quoted(path)}    and use the file in it"
    what = "a document of Office" if "[Content_Types].xml" in names else "a zip file that torch.save did not write"
    return f"{what}, with {', '.join(names[:3])[:200]} in it", ""


def of_program(path: Path, content: bytes) -> str:
    """A key of FIXES, or ""."""
    names = zip_names(content) if content[:2] == b"PK" else []
    if any(name.endswith("/constants.pkl") for name in names):
        return "a TorchScript file"
    if names and all(name.endswith(".npy") for name in names):
        return "a .npz file of NumPy"
    if content[:1] == b"\x80" and (PADDLE in content or path.suffix == ".pdparams"):
        return "a file of PaddlePaddle"
    return ""


def text(path: Path, content: bytes) -> tuple[str, str] | None:
    """What a text is, a pointer to the file, a web page, or anything else."""
    start = content[:64].lstrip().lower()
    if content.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the file itself", "git lfs pull"
    if start.startswith((b"/annex/objects/", b"../.git/annex", b".git/annex")):
        return "a pointer of git-annex, not the file itself", "git annex get"
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "a web page, not the file that it offers", "download it again, by the link of the file itself"
    if content[:1] == b"{":
        if path.suffix == ".ipynb":
            return "a notebook (JSON)", ""
        if b'"weight_map"' in content:
            return "JSON: a list of the files that contain the weights", "use the file of weights itself"
        return "JSON, and contains no weights", ""
    kind = TEXTS.get(path.suffix.lower(), "")
    if is_text(content) or (path.suffix.lower() in TEXTS and not is_plausible(content)):
        return f"a text file{f' ({kind})' if kind else ''}", "dvc pull" if path.suffix == ".dvc" else ""
    return None


def is_text(content: bytes) -> bool:
    """Whether the first lines of a file are printable text."""
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        with contextlib.suppress(FormatError):
            return all(c.isprintable() or c in "\r\n\t" for c in decode(content[:400]))
    with contextlib.suppress(UnicodeDecodeError):
        shown = content[:400].decode(errors="strict" if len(content) <= 400 else "ignore")
        return all(c.isprintable() or c in "\r\n\t" for c in shown)
    return False


def zip_names(content: bytes) -> list[str]:
    """The names of a zip's members; [] if it is damaged, which its reader reports."""
    with (
        contextlib.suppress(*DAMAGE),
        open_zip(io.BytesIO(content), pth.MAX_DIRECTORY) as archive,
    ):
        return archive.namelist()
    return []


def in_python(path: Path, lines: tuple[str, ...]) -> str:
    """Lines of Python that save a file anew, as the fix of a message."""
    stem = path.name.split(".")[0] or "weights"
    names = {"file": repr(str(path)), "new": repr(f"{stem}-weights.pth"), "safe": repr(f"{stem}-weights.safetensors")}
    return "in Python:\n" + "\n".join(line.format(**names) for line in lines)
