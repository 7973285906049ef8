"""Make hostile submissions from an honest one: forged archives, checkpoints, texts and folders."""

import csv
import io
import json
import os
import pickle
import shutil
import socket
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from helpers import STAGES

from mslab import checkpoint
from mslab.checkpoint import dialects

MIB = 1 << 20
EVIL = "mslab-evil"  # in the name of everything that a successful attack would create


@dataclass
class Kit:
    """Material for an attacker: an honest submission, and paths of the teacher's files."""

    folder: Path  # the class
    hidden: Path
    files: dict[str, bytes]  # of the honest submission
    tensors: dict[str, np.ndarray]
    info: dict

    @property
    def honest(self) -> bytes:
        return (self.folder / "honest.zip").read_bytes()

    def zip(self, id: str, members: dict, base: bool = False, kind: int = zipfile.ZIP_DEFLATED) -> Path:
        """Write a zip of these members. `base`: add them to those of the honest submission; None removes one."""
        path = self.folder / f"{id}.zip"
        with zipfile.ZipFile(path, "w", kind) as file:
            for name, content in ((self.files if base else {}) | members).items():
                if content is not None:
                    file.writestr(name, content)
        return path

    def tar(self, id: str, members: list[tuple[str, bytes, str]]) -> None:
        """Write a tar of (name, kind, content or link target)."""
        with tarfile.open(self.folder / f"{id}.tar.gz", "w:gz") as file:
            for name, kind, content in members:
                member = tarfile.TarInfo(name)
                member.type, regular = kind, kind == tarfile.REGTYPE
                member.size, member.linkname = (len(content), "") if regular else (0, content)
                file.addfile(member, io.BytesIO(content.encode()) if regular else None)

    def tree(self, id: str, base: bool = True) -> Path:
        """Make a folder with the honest submission's files."""
        path = self.folder / id
        path.mkdir()
        for name, content in self.files.items() if base else ():
            (path / name).write_bytes(content)
        return path

    def ckpt(self, tensors: dict | None = None, **info) -> bytes:
        """The honest checkpoint with other tensors, or another `mslab` entry."""
        path = self.folder.parent / "temporary.ckpt"
        checkpoint.save_arrays(self.tensors | (tensors or {}), path, self.info | info)
        content = path.read_bytes()
        path.unlink()
        return content

    def headed(self, class_names: list[str]) -> bytes:
        """The honest backbone with a head of these classes."""
        rows = np.resize(self.tensors["classifier.weight"], (len(class_names), 4 * STAGES[-1][1]))
        head = {"classifier.weight": rows, "classifier.bias": np.zeros(len(class_names), np.float32)}
        return self.ckpt(head, class_names=class_names)


def network(stages: list[list[int]]) -> dict[str, np.ndarray]:
    """Weights of a network of this table and three classes."""
    shapes = dialects.layout(stages, dialects.PROFILE)
    shapes |= {"classifier.weight": (3, 4 * stages[-1][1]), "classifier.bias": (3,)}
    return {name: np.full(shape, 0.01, np.float32) for name, shape in shapes.items()}


def alone(name: str, content: bytes) -> Callable[[Kit, str], None]:
    """The honest submission with another content of this file."""
    return lambda kit, id: kit.zip(id, {name: content}, base=True)


class Runs:
    """A pickle that would create a file."""

    def __reduce__(self):
        return os.system, (f"touch /tmp/{EVIL}-pickle",)


def torch_zip(kit: Kit, id: str) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        file.writestr("archive/data.pkl", pickle.dumps(Runs(), protocol=2))
        file.writestr("archive/version", "3\n")
    kit.zip(id, {"best.ckpt": content.getvalue()}, base=True)


def safetensors(header: dict, body: bytes = b"", length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def with_safetensors(content: bytes) -> Callable[[Kit, str], None]:
    return lambda kit, id: kit.zip(id, {"best.ckpt": None, "best.safetensors": content}, base=True)


def linked(name: str, to: str) -> Callable[[Kit, str], None]:
    """A folder in which one name is a link."""

    def make(kit: Kit, id: str) -> None:
        (kit.tree(id) / name).unlink(missing_ok=True)
        (kit.folder / id / name).symlink_to(to.replace("HIDDEN", str(kit.hidden)))

    return make


def zip_link(name: str, to: str) -> Callable[[Kit, str], None]:
    def make(kit: Kit, id: str) -> None:
        member = zipfile.ZipInfo(name)
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        kit.zip(id, {member: to}, base=True)

    return make


def locked(kit: Kit, id: str) -> None:
    content = bytearray(kit.zip(id, {"a.txt": "x"}).read_bytes())
    content[6] |= 1
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    (kit.folder / f"{id}.zip").write_bytes(content)


def holes(kit: Kit, id: str) -> None:
    """A tar with a sparse member of 8 GiB (GNU's old sparse format)."""
    member = tarfile.TarInfo("best.ckpt")
    member.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    head[386:410], head[483:495] = b"0" * 11 + b"\0" + b"0" * 11 + b"\0", b"7" * 11 + b"\0"  # one piece without bytes
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    (kit.folder / f"{id}.tar").write_bytes(head.ljust(10240, b"\0"))


def bomb_xz(kit: Kit, id: str) -> None:
    with tarfile.open(kit.folder / f"{id}.tar.xz", "w:xz", preset=0) as file:
        member = tarfile.TarInfo("best.ckpt")
        member.size = 80 * MIB
        file.addfile(member, io.BytesIO(bytes(member.size)))


def damaged(kit: Kit, id: str) -> None:
    content = bytearray(kit.zip(id, {}, base=True).read_bytes())
    middle = len(content) // 3
    content[middle : middle + 50] = bytes(50)
    (kit.folder / f"{id}.zip").write_bytes(content)


def nested(kit: Kit, id: str) -> None:
    inner = kit.zip(id, {"zeros": bytes(80 * MIB)}).read_bytes()
    for _ in range(3):
        inner = kit.zip(id, {f"{n}.zip": inner for n in range(10)}).read_bytes()


def node(name: str, make: Callable[[Path], object]) -> Callable[[Kit, str], None]:
    return lambda kit, id: make(kit.tree(id) / name)


def bound(path: Path) -> None:
    """Make a socket at this path."""
    os.chdir(path.parent)  # a socket's path has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as plain:
        plain.bind(path.name)


def device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        os.mkfifo(path)  # only root can make devices


def deep(kit: Kit, id: str) -> None:
    folder = os.open(kit.tree(id), os.O_PATH)
    for _ in range(1200):
        os.mkdir("a", dir_fd=folder)
        inner = os.open("a", os.O_PATH, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(folder)


def deep_zip(kit: Kit, id: str) -> None:
    """Each member is as much deeper as can be created at once."""
    kit.zip(id, {f"{'a/' * depth}x": "x" for depth in (*range(0, 900, 90), *range(900, 1900, 300))}, base=True)


def sparse(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def million_rows(count: int) -> bytes:
    return b"epoch,lr,train_loss,train_acc,val_loss,val_acc\n" + b"1,0.1,0.1,1.0,0.1,1.0\n" * count


def alias_bomb() -> bytes:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{k}: &{k} [{', '.join([f'*{p}'] * 9)}]" for p, k in zip("abcdefghi", "bcdefghij", strict=True)]
    return ("class_num: 3\n" + "\n".join(lines)).encode()


def changed(rows: Callable[[list[list[str]]], list[list[str]]]) -> Callable[[Kit, str], None]:
    """The honest predictions, changed."""

    def make(kit: Kit, id: str) -> None:
        head, *lines = csv.reader(io.StringIO(kit.files["predictions.csv"].decode()))
        text = io.StringIO()
        csv.writer(text).writerows([head, *rows(lines)])
        kit.zip(id, {"predictions.csv": text.getvalue()}, base=True)

    return make


def shuffled(rows: list[list[str]]) -> list[list[str]]:
    """Exchange the classes' names cyclically."""
    next_class = {"a": "b", "b": "c", "c": "a"}
    return [[row[0], next_class[row[1]], *row[2:]] for row in rows]


def large_network(stages: list[list[int]], pixels: int) -> Callable[[Kit, str], None]:
    """A network within the limits that is expensive to compute."""

    def make(kit: Kit, id: str) -> None:
        kit.tensors, original = network(stages), kit.tensors
        content = kit.ckpt(stages=stages, image_size=pixels, resize_size=pixels)
        kit.tensors = original
        kit.zip(id, {"best.ckpt": content}, base=True, kind=zipfile.ZIP_STORED)

    return make


def twins(kit: Kit, id: str) -> None:
    kit.tree("twins")
    kit.zip("twins", {}, base=True)
    shutil.copy(kit.folder / "honest.zip", kit.folder / "twins.zip.zip")  # its id is the new name of one of the two


def same_name(kit: Kit) -> None:
    """Two names that are printed alike, one of which is not UTF-8."""
    for name in (b"\xfe.zip", b"\\xfe.zip"):
        shutil.copy(kit.folder / "honest.zip", kit.folder / os.fsdecode(name))


def unreadable_file(kit: Kit, id: str) -> None:
    kit.zip(id, {}, base=True).chmod(0)


def unreadable_folder(kit: Kit, id: str) -> None:
    (kit.tree(id) / "inner").mkdir()
    (kit.folder / id / "inner").chmod(0)
