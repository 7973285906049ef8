"""grade, as a teacher calls it, on a class of one honest student and many who attack: nobody gains, nothing breaks."""

import csv
import io
import json
import os
import pickle
import re
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import psutil
import pytest
from helpers import STAGES, cli, without_roots_rights

from mslab import checkpoint, grade, predict
from mslab.checkpoint import dialects
from mslab.grade import handin, measuring, submissions
from mslab.grade.outputs import folder_of
from mslab.grade.rubric import load_rubric

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes, device nodes and the guards are Linux's")
MIB = 1 << 20
EVIL = "mslab-evil"  # in the name of whatever an attack would leave behind
MANIFEST = {"metrics": {"val_acc": 1.0}}
SECONDS, GIGABYTES = 15, 2.0
RUBRIC = """
title: A lab that is under attack
total: 40
networks: {one: {file: [best.ckpt, best.safetensors], data: test, class_num: 3}}
items:
  - {id: files, kind: files, points: 5,
     files: [best.ckpt, config.yaml, history.csv, manifest.json, predictions.csv]}
  - {id: settings, kind: config, points: 2, file: config.yaml,
     rules: {class_num: {equals: 3}, image_size: {at_most: 512}}}
  - {id: right, kind: accuracy, points: 10, network: one, linear: {from: 0.0, to: 1.0}}
  - {id: claimed, kind: reproduced, points: 5, network: one, file: manifest.json, key: metrics.val_acc, tolerance: 0.3}
  - {id: table, kind: predictions, points: 5, network: one, file: predictions.csv, agreement: 0.99,
     linear: {from: 0.0, to: 1.0}}
  - {id: small, kind: size, points: 3, network: one, at_most: 1_000_000}
  - {id: written, kind: manual, points: 10, title: The write-up}
"""
FILES_ALONE = "title: x\ntotal: 1\nitems: [{id: a, kind: files, points: 1, files: [a]}]\n"
ITEMS = ("files", "settings", "right", "claimed", "table", "small")
NETWORK = ("right", "claimed", "small")  # items that need a network


# --- how attacks are made --------------------------------------------------------------------------------------------


@dataclass
class Kit:
    """What an attacker has: an honest submission, and names of what is the teacher's."""

    folder: Path  # the class
    hidden: Path
    files: dict[str, bytes]  # of the honest submission
    tensors: dict[str, np.ndarray]
    info: dict

    @property
    def honest(self) -> bytes:
        return (self.folder / "honest.zip").read_bytes()

    def zip(self, id: str, members: dict, base: bool = False, kind: int = zipfile.ZIP_DEFLATED) -> Path:
        """A zip of these members; `base`: besides those of the honest submission, None takes one away."""
        path = self.folder / f"{id}.zip"
        with zipfile.ZipFile(path, "w", kind) as file:
            for name, content in ((self.files if base else {}) | members).items():
                if content is not None:
                    file.writestr(name, content)
        return path

    def tar(self, id: str, members: list[tuple[str, bytes, str]]) -> None:
        """A tar of (name, kind, content or what it leads to)."""
        with tarfile.open(self.folder / f"{id}.tar.gz", "w:gz") as file:
            for name, kind, content in members:
                member = tarfile.TarInfo(name)
                member.type, regular = kind, kind == tarfile.REGTYPE
                member.size, member.linkname = (len(content), "") if regular else (0, content)
                file.addfile(member, io.BytesIO(content.encode()) if regular else None)

    def tree(self, id: str, base: bool = True) -> Path:
        """A folder with the honest submission's files."""
        path = self.folder / id
        path.mkdir()
        for name, content in self.files.items() if base else ():
            (path / name).write_bytes(content)
        return path

    def ckpt(self, tensors: dict | None = None, **info) -> bytes:
        """The honest checkpoint with other tensors, or another `mslab` entry."""
        path = self.folder.parent / "made.ckpt"
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
    shapes = dialects.layout(stages, dialects.OWN)
    shapes |= {"classifier.weight": (3, 4 * stages[-1][1]), "classifier.bias": (3,)}
    return {name: np.full(shape, 0.01, np.float32) for name, shape in shapes.items()}


def alone(name: str, content: bytes) -> Callable[[Kit, str], None]:
    """A submission whose file of this name is other than the honest one's."""
    return lambda kit, id: kit.zip(id, {name: content}, base=True)


class Runs:
    """A pickle that would leave a file."""

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
    """A tar of one member that is 8 GiB of nothing (GNU's old sparse format)."""
    member = tarfile.TarInfo("best.ckpt")
    member.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(member.tobuf(tarfile.GNU_FORMAT))
    head[386:410], head[483:495] = b"0" * 11 + b"\0" + b"0" * 11 + b"\0", b"7" * 11 + b"\0"  # one piece of no bytes
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
    """A socket there."""
    os.chdir(path.parent)  # a socket's path has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as plain:
        plain.bind(path.name)


def device(path: Path) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        os.mkfifo(path)  # who is not root makes no devices


def deep(kit: Kit, id: str) -> None:
    place = os.open(kit.tree(id), os.O_PATH)
    for _ in range(1200):
        os.mkdir("a", dir_fd=place)
        inner = os.open("a", os.O_PATH, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)


def deep_zip(kit: Kit, id: str) -> None:
    """Each member leads as much further down as can be made at once."""
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
    """The classes' names in a circle."""
    other = {"a": "b", "b": "c", "c": "a"}
    return [[row[0], other[row[1]], *row[2:]] for row in rows]


def large_network(stages: list[list[int]], pixels: int) -> Callable[[Kit, str], None]:
    """Within the limits of what a network may be, and yet much to compute."""

    def make(kit: Kit, id: str) -> None:
        kit.tensors, own = network(stages), kit.tensors
        content = kit.ckpt(stages=stages, image_size=pixels, resize_size=pixels)
        kit.tensors = own
        kit.zip(id, {"best.ckpt": content}, base=True, kind=zipfile.ZIP_STORED)

    return make


def twins(kit: Kit, id: str) -> None:
    kit.tree("twins")
    kit.zip("twins", {}, base=True)
    kit.zip("twins.zip", {}, base=True)  # whose own id is what one of the two is renamed to


def same_name(kit: Kit) -> None:
    """Two names that are written alike, one of which is no UTF-8."""
    for name in (b"\xfe.zip", b"\\xfe.zip"):
        shutil.copy(kit.folder / "honest.zip", kit.folder / os.fsdecode(name))


def unreadable_file(kit: Kit, id: str) -> None:
    kit.zip(id, {}, base=True).chmod(0)


def unreadable_folder(kit: Kit, id: str) -> None:
    (kit.tree(id) / "inner").mkdir()
    (kit.folder / id / "inner").chmod(0)


HOSTILE_CLASSES = ["<img src=x onerror=alert(1)>", "=HYPERLINK(1)\x1b[2J\u202e\n", "+" + "x" * 2 * MIB]
ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
OUT = "which leads out of its folder"
SCRIPT = "<script>alert(1)<script>"


@dataclass
class Attack:
    """A submission and what has to come of it: said of the whole ("all") or of single items, which get no points."""

    id: str
    make: Callable[[Kit, str], object]
    said: dict[str, str]  # "all" or an item -> a regular expression
    flag: str = ""
    gains: tuple[str, ...] = field(default=())  # items that may have points


def whole(id: str, make: Callable[[Kit, str], object], said: str, **more) -> Attack:
    return Attack(id, make, {"all": said}, **more)


def network_refused(id: str, make: Callable[[Kit, str], object], said: str, **more) -> Attack:
    """Of the honest files, all but the network count."""
    texts = dict.fromkeys(NETWORK, said) | {"table": "cannot be compared"}
    return Attack(id, make, texts, gains=("files", "settings"), **more)


GONE = "was not handed in"
ATTACKS = [
    # archives
    whole("slip", lambda kit, id: kit.zip(id, {f"../../{EVIL}": "x"}, True), f"'../../{EVIL}', {OUT}"),
    whole("slip-tar", lambda kit, id: kit.tar(id, [(f"a/../../../{EVIL}", tarfile.REGTYPE, "x")]), OUT),
    whole("absolute", lambda kit, id: kit.zip(id, {f"/tmp/{EVIL}": "x"}, True), OUT),
    whole("absolute-tar", lambda kit, id: kit.tar(id, [(f"/tmp/{EVIL}", tarfile.REGTYPE, "x")]), OUT),
    whole("backslash", lambda kit, id: kit.zip(id, {f"..\\..\\{EVIL}": "x"}, True), OUT),
    whole("drive", lambda kit, id: kit.zip(id, {f"C:\\{EVIL}": "x"}, True), OUT),
    whole("zip-link", zip_link("link", "/etc/passwd"), "link is a link, where only files are taken"),
    whole("zip-link-name", zip_link("<svg onload=alert(1)>\x1b[2J\n", "/"), r"<svg onload=alert\(1\)>.* is a link"),
    whole("tar-link", lambda kit, id: kit.tar(id, [
        ("d", tarfile.SYMTYPE, "/tmp"), (f"d/{EVIL}", tarfile.REGTYPE, "x")]), "d is a link"),
    whole("tar-hardlink", lambda kit, id: kit.tar(id, [("best.ckpt", tarfile.LNKTYPE, "/etc/passwd")]), "is a link"),
    whole("tar-device", lambda kit, id: kit.tar(id, [
        ("zero", tarfile.CHRTYPE, ""), ("pipe", tarfile.FIFOTYPE, "")]), "zero is a device.*pipe is a device"),
    whole("bomb", lambda kit, id: kit.zip(id, {"zeros": bytes(80 * MIB)}), "unpacks to more than"),
    whole("bomb-xz", bomb_xz, "unpacks to more than"),
    whole("bomb-holes", holes, "unpacks to more than"),
    Attack("nested-bomb", nested, {"files": "0 of 5", "right": GONE}),
    whole("many", lambda kit, id: kit.zip(id, {f"{n}.txt": "" for n in range(20_000)}), "more than 2,000 files"),
    whole("case", lambda kit, id: kit.zip(id, {"Best.ckpt": "x"}, True), "one file on some machines"),
    Attack("wrong-case", lambda kit, id: kit.zip(id, {"Best.CKPT": kit.files["best.ckpt"], "Config.yaml": "x"}),
           {"files": "missing or empty: best.ckpt, config.yaml", "right": GONE, "settings": "is not there"}),
    Attack("folder-for-file", lambda kit, id: kit.zip(id, {"best.ckpt/a": "x", "b": "x"}), {"right": GONE}),
    whole("empty", lambda kit, id: kit.zip(id, {}), "holds no files"),
    whole("nothing", lambda kit, id: (kit.folder / f"{id}.zip").write_bytes(b""), "is no zip or tar archive"),
    whole("no-archive", lambda kit, id: (kit.folder / f"{id}.zip").write_bytes(b"hello"), "is no zip or tar archive"),
    whole("locked", locked, "it has a password"),
    whole("damaged", damaged, "damaged"),
    whole("cut", lambda kit, id: (kit.folder / f"{id}.zip").write_bytes(kit.honest[:9000]), "is no zip or tar"),
    whole("name-long", lambda kit, id: kit.zip(id, {"x" * 10_000: "x"}, True), "too long a name"),
    Attack("names", lambda kit, id: kit.zip(id, {
        "a\r\nb=1.txt": "x", "con": "x", "aux.txt": "x", "best.ckpt.": "x", "best.ckpt ": "x", "\u202etxt": "x"}),
        {"files": "0 of 5", "right": GONE}),
    # networks
    network_refused("ckpt-sizes", lambda kit, id: kit.zip(id, {
        "best.ckpt": kit.files["best.ckpt"].replace(b"Float32", b"Float64")}, True), "is not a whole.*needs"),
    network_refused("ckpt-cut", lambda kit, id: kit.zip(id, {
        "best.ckpt": kit.files["best.ckpt"][:-999]}, True), "cut off"),
    network_refused("nan", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt({
        "classifier.bias": np.full(3, np.nan, np.float32)})}, True), "weights that are not finite: classifier.bias"),
    network_refused("inf", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt({
        "classifier.bias": np.full(3, np.inf, np.float32)})}, True), "weights that are not finite: classifier.bias"),
    network_refused("pickle", alone("best.ckpt", pickle.dumps(Runs())), "is a bare pickle"),
    network_refused("torch", torch_zip, "only tensors are read"),
    network_refused("ckpt-text", alone("best.ckpt", b"hello"), "is not a whole"),
    network_refused("ckpt-names", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt({
        "<script>alert(2)</script>\x1b[2J": np.zeros(1, np.float32)})}, True), r"<script>alert\(2\)</script>"),
    network_refused("blocks", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt(
        stages=[[1_000_000, 8, 1]])}, True), "another stages"),
    network_refused("stages", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt(
        stages=[[4096, 4096, 1]] * 16)}, True), "65,536 blocks, at most 200 are taken"),
    network_refused("pixels", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt(
        image_size=4096)}, True), "4,096 pixels, at most 512 are taken"),
    network_refused("pixels-huge", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt(
        image_size=10**11)}, True), "another image_size"),
    Attack("overlap", with_safetensors(safetensors({"a": ONE, "b": ONE}, bytes(4))),
           {"right": "begins at byte 0 instead of 4"}, gains=("files", "settings")),
    Attack("header", with_safetensors(safetensors({"a": ONE}, bytes(4), 2**40)),
           {"right": "is not a whole"}, gains=("files", "settings")),
    Attack("classes-other", lambda kit, id: kit.zip(id, {"best.ckpt": kit.headed(["x", "y", "z"])}, True),
           {"right": "was trained on other classes"}, gains=("files", "settings", "table", "small")),
    Attack("classes-two", lambda kit, id: kit.zip(id, {"best.ckpt": kit.headed(["a", "b"])}, True),
           {"right": "has 2 classes, the task has 3", "table": "cannot be compared"},
           gains=("files", "settings", "small")),
    Attack("classes-hostile", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt(class_names=HOSTILE_CLASSES)}, True),
           {"right": "was trained on other classes"}, gains=("files", "settings", "table", "small")),
    Attack("huge-weights", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt({
        name: np.full_like(value, 1e30) for name, value in kit.tensors.items() if value.ndim == 4})}, True),
        {"right": "logits are not finite", "claimed": "logits are not finite", "table": "cannot be compared"},
        gains=("files", "settings", "small")),
    network_refused("resize-small", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt(
        image_size=64, resize_size=8)}, True), "image_size 64 is above its resize_size 8"),
    Attack("pixel-one", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt(
        image_size=1, resize_size=1)}, True), {"files": "5 of 5"}, gains=("files", "settings", *NETWORK, "table")),
    whole("a-slow-one", large_network([[190, 64, 1]], 256), f"it was ended after {SECONDS} s", flag="gave no answer"),
    Attack("large", large_network([[1, 1024, 1]], 512), {"right": "memory"}, gains=("files", "settings")),
    # texts
    Attack("config-huge", alone("config.yaml", b"class_num: 3\nimage_size: 100000000000\nstages: [[1e9, 1e9, 1]]\n"),
           {"settings": "1 of 2.*image_size is 100000000000, asked for: at most 512"},
           gains=("files", "settings", *NETWORK, "table")),
    Attack("config-bomb", lambda kit, id: kit.zip(id, {"config.yaml": alias_bomb()}),
           {"settings": "repeats a part of itself"}, gains=("files",)),
    Attack("config-code", lambda kit, id: kit.zip(id, {
        "config.yaml": f"class_num: !!python/object/apply:os.system ['touch /tmp/{EVIL}']"}),
        {"settings": "is no YAML"}, gains=("files",)),
    Attack("config-html", lambda kit, id: kit.zip(id, {"config.yaml": "class_num: <script>alert(3)</script>\n"}),
           {"settings": r"class_num is <script>alert\(3\)</script>"}, gains=("files",)),
    Attack("json-deep", lambda kit, id: kit.zip(id, {"manifest.json": "[" * 100_000}),
           {"claimed": "nested without end"}, gains=("files",)),
    Attack("json-numbers", lambda kit, id: kit.zip(id, {"manifest.json": '{"metrics": {"val_acc": 1e999}}'}),
           {"claimed": "has no number metrics.val_acc"}, gains=("files",)),
    Attack("history", lambda kit, id: kit.zip(id, {"history.csv": million_rows(1_000_000)}, kind=zipfile.ZIP_STORED),
           {"right": GONE}, gains=("files",)),
    Attack("claims", alone("manifest.json", json.dumps(MANIFEST).encode()),
           {"claimed": r"claims 1.000, which was measured again; not within"},
           gains=("files", "settings", "right", "table", "small")),
    Attack("predictions-shuffled", changed(shuffled), {"table": "0% of predictions.csv is what the network"},
           gains=("files", "settings", *NETWORK)),
    Attack("predictions-more", changed(lambda rows: [*rows, ["none.png", *rows[0][1:]]]),
           {"table": "1 rows too many and lacks 0 of 15"}, gains=("files", "settings", *NETWORK)),
    Attack("predictions-twice", changed(lambda rows: [*rows, rows[0]]), {"table": "twice"},
           gains=("files", "settings", *NETWORK)),
    Attack("predictions-formula", changed(lambda rows: [[r[0], "=HYPERLINK(1)<b>", *r[2:]] for r in rows]),
           {"table": r"classes that the task has not: =HYPERLINK\(1\)<b>"}, gains=("files", "settings", *NETWORK)),
    # folders
    whole("pipe", node("pipe", os.mkfifo), "pipe is a device"),
    whole("socket", node("socket", bound), "socket is a device"),
    whole("device", node("zero", device), "zero is a device"),
    whole("link-device", linked("best.ckpt", "/dev/zero"), "best.ckpt is a link"),
    whole("link-hidden", linked("predictions.csv", "HIDDEN"), "predictions.csv is a link"),
    whole("link-hidden-folder", linked("more", "HIDDEN"), "more is a link"),
    whole("link-passwd", linked("config.yaml", "/etc/passwd"), "config.yaml is a link"),
    whole("deep", deep, "folders are nested deeper than 100 levels"),
    whole("deep-zip", deep_zip, "folders are nested deeper than 100 levels"),
    whole("sparse-file", lambda kit, id: sparse(kit.folder / f"{id}.zip", 1 << 40), "more than 8 GiB"),
    whole("sparse", lambda kit, id: sparse(kit.tree(id) / "best.ckpt", 1 << 40), "more than 8 GiB"),
    Attack("no-utf-8", lambda kit, id: (os.fsencode(kit.tree(id, False)) + b"/\xff\xfe.txt",
                                        Path(os.fsdecode(bytes(kit.folder / id) + b"/\xff\xfe.txt")).write_text("x")),
           {"files": "0 of 5", "right": GONE}),
    whole("unreadable", unreadable_file, "cannot be read: Permission denied"),
    whole("unreadable-folder", unreadable_folder, "cannot be read: Permission denied"),
    # what a submission is, and its name
    whole("link-honest", lambda kit, id: (kit.folder / f"{id}.zip").symlink_to("honest.zip"), "is a link"),
    whole("link-to-hidden", lambda kit, id: (kit.folder / id).symlink_to(kit.hidden), "is a link"),
    whole("link-loop", lambda kit, id: (kit.folder / id).symlink_to(id), "is a link"),
    whole("only-a-pipe", lambda kit, id: os.mkfifo(kit.folder / id), "is no file and no folder"),
    whole("only-a-socket", lambda kit, id: bound(kit.folder / id), "is no file and no folder"),
    whole("twins", twins, "two submissions have the id twins: twins, twins.zip; hand in one"),
    whole("h\u043enest", lambda kit, id: kit.zip(id, {}), "holds no files", flag="looks like that of 'honest'"),
    whole("hon\u200best", lambda kit, id: kit.zip(id, {}), "holds no files", flag="looks like that of 'honest'"),
    whole("HONEST", lambda kit, id: kit.zip(id, {}), "holds no files", flag="looks like that of 'honest'"),
    whole(SCRIPT, lambda kit, id: kit.zip(id, {}), "holds no files"),
    whole('"><img src=x onerror=alert(1)>', lambda kit, id: kit.zip(id, {}), "holds no files"),
    whole("=HYPERLINK(1)", lambda kit, id: kit.zip(id, {}), "holds no files"),
    whole("@SUM(1+1)", lambda kit, id: kit.zip(id, {}), "holds no files"),
    whole("\t=1+1", lambda kit, id: kit.zip(id, {}), "holds no files"),
    whole(" \uff1d1+1", lambda kit, id: kit.zip(id, {}), "holds no files"),
    whole("two\nlines\x1b[2J: full points", lambda kit, id: kit.zip(id, {}), "holds no files"),
    whole("right\u202eleft", lambda kit, id: kit.zip(id, {}), "holds no files"),
    whole("con", lambda kit, id: kit.zip(id, {}), "holds no files"),
    whole("dots..", lambda kit, id: kit.zip(id, {}), "holds no files"),
    whole(folder_of(SCRIPT), lambda kit, id: kit.zip(id, {}), "holds no files"),
    whole("l" * 251, lambda kit, id: kit.zip(id, {}), "holds no files"),
    whole("\\xff", lambda kit, id: (kit.folder / os.fsdecode(b"\xff.zip")).write_bytes(b""), "is no zip or tar"),
]  # fmt: skip


# --- the class -------------------------------------------------------------------------------------------------------


@dataclass
class Class:
    """A graded class and what was seen of it."""

    kit: Kit
    out: Path
    told: str  # what mslab said, both streams
    graded: dict[str, dict]  # grades.json's students by id
    before: dict[str, list]  # what lay in places that could be hit
    after: dict[str, list]
    first: dict[str, bytes]  # files of OUT
    again: dict[str, bytes]  # after the cached run
    by_itself: dict[str, bytes]  # files of the honest student, graded without the others
    processes: list[str]  # left behind


def called(kit: Kit, folder: Path, out: Path, *more) -> str:
    """mslab grade as a teacher calls it, without root's rights. Returns what it said."""
    room = kit.folder.parent
    done = subprocess.run(
        [Path(sys.executable).with_name("mslab"), "grade", folder, "--rubric", room / "rubric.yaml", "--data",
         kit.hidden, "--out", out, "--seconds", str(SECONDS), "--gigabytes", str(GIGABYTES), *more],
        cwd=room / "desk", capture_output=True, timeout=400, preexec_fn=without_roots_rights,
        env=os.environ | {"COLUMNS": "120", "TMPDIR": str(room / "tmp"), "HOME": str(room / "home")},
    )  # fmt: skip
    told = (done.stdout + done.stderr).decode()  # what it says is UTF-8, whatever names there are
    assert done.returncode == 0, told
    return told


def files_of(folder: Path) -> dict[str, bytes]:
    """Contents of the files below, but for the cache."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if not name.startswith(".cache/")}


def seen(room: Path, hidden: Path) -> dict[str, list]:
    """What lies where attacks could leave something."""
    found: dict[str, list] = {}
    for place in (Path("/tmp"), Path("/"), Path("/dev/shm"), Path.home(), Path("/etc"), Path.cwd()):
        found[f"evil in {place}"] = [path for path in place.iterdir() if EVIL in path.name]
    for place in (room / "tmp", room / "desk", room / "home", room / "last year", hidden):
        paths = (path.relative_to(place).as_posix() for path in place.rglob("*"))
        found[place.name] = sorted(path for path in paths if path not in (".config", ".config/matplotlib"))
    found["class"] = []
    for at, folders, names in os.walk(room / "class"):  # as far as it is readable; links and pipes are left alone
        status = [(name, os.lstat(f"{at}/{name}")) for name in sorted([*folders, *names])]
        found["class"] += [(at, n, s.st_mode, s.st_size, s.st_mtime_ns) for n, s in status]
        if len(found["class"]) > 5000 or at.count("/a/a/a"):
            folders.clear()
    found["room"] = sorted(path.name for path in room.iterdir() if path.name not in ("out", "alone"))
    return found


def left(room: Path) -> list[str]:
    """Processes that a grading started, by what they were given."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and str(room) in str([process.cwd(), process.cmdline()]):
                found.append(str(process))
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def graded(squares, parent, tmp_path_factory) -> Class:
    """The class: graded, graded again, and its honest student alone."""
    room = tmp_path_factory.mktemp("room")
    hidden = room / "hidden" / "test"
    for path in sorted((squares / "three" / "test").rglob("*.png")):
        (hidden / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, hidden / path.parent.name / f"{path.parent.name}{path.name}")  # names of their own
    for name in ("class", "alone class", "last year", "tmp", "desk", "home"):
        (room / name).mkdir()
    (room / "rubric.yaml").write_text(RUBRIC)
    model = predict.open_model(parent, "cpu")
    rows = [row | {"file": Path(row["file"]).name} for row in predict.predict(model, predict.expand([str(hidden)]))]
    (room / "predictions.csv").write_text("".join(predict.csv_lines(rows, model.class_names)))
    handin.pack([str(parent)], room / "class" / "honest.zip", [str(room / "predictions.csv")])
    with zipfile.ZipFile(room / "class" / "honest.zip") as file:
        files = {name: file.read(name) for name in file.namelist()}
    weights = checkpoint.read(parent / "checkpoints" / "best.ckpt")
    kit = Kit(room / "class", room / "hidden", files, weights.backbone | weights.head, weights.info)
    shutil.copy(room / "class" / "honest.zip", room / "alone class")
    shutil.copy(room / "class" / "honest.zip", room / "class" / "copy.zip")
    shutil.copy(room / "class" / "honest.zip", room / "last year" / "s2020.zip")
    rng = np.random.default_rng(0)
    other = {name: value + rng.normal(0, 1, value.shape).astype(np.float32) for name, value in kit.tensors.items()}
    with zipfile.ZipFile(room / "last year" / "honest.zip", "w") as file:  # one of the same id, of other work
        file.writestr("best.ckpt", kit.ckpt(other))
    here = Path.cwd()
    try:
        for attack in ATTACKS:
            attack.make(kit, attack.id)
        same_name(kit)
    finally:
        os.chdir(here)
    before = seen(room, kit.hidden)

    told = called(kit, kit.folder, room / "out", "--last-year", room / "last year", "--moodle", "--canvas")
    first = files_of(room / "out")
    told += called(kit, room / "alone class", room / "alone")
    told += called(kit, kit.folder, room / "out", "--last-year", room / "last year", "--moodle", "--canvas")
    table = json.loads(first["grades.json"])
    honest = {name: text for name, text in files_of(room / "alone").items() if name.startswith("students/honest/")}
    yield Class(
        kit, room / "out", told, {row["id"]: row for row in table["students"]}, before, seen(room, kit.hidden),
        first, files_of(room / "out"), honest, left(room),
    )  # fmt: skip
    subprocess.run(["rm", "-rf", kit.folder], check=True)  # deeper than Python goes


# --- what has to hold ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: ascii(attack.id)[1:30])
def test_an_attack_gains_nothing_and_its_student_is_told_why(graded, attack):
    row = graded.graded[attack.id]
    outcomes = row["outcomes"]
    page = graded.first[f"students/{row['folder']}/feedback.html"].decode()
    result = json.loads(graded.first[f"students/{row['folder']}/results.json"])
    assert row["folder"] == folder_of(attack.id) and result["score"] == row["points"]
    for item in ITEMS:
        points, said = outcomes[item]["points"], outcomes[item]["said"]
        wanted = attack.said.get(item, attack.said.get("all"))
        if wanted:
            assert re.search(wanted, said, re.S), (item, said)
            assert text_of(page).count(" ".join(said.split())[:60]), item
        if item not in attack.gains:
            assert points == 0 and outcomes[item]["status"] == "none", (item, points, said)
        assert not re.search(r"Traceback|Error:|Exception|pytest-of|/room", said), said
        assert ".zip" not in said.replace("twins.zip", ""), said  # equal bytes have equal facts, whoever's they are
    if "all" in attack.said:
        assert row["points"] == 0
    assert attack.flag in "; ".join(row["flags"])


def test_each_of_two_with_one_id_has_a_page_of_its_own(graded):
    rows = [row for name, row in graded.graded.items() if name.startswith("\\xfe")]
    assert len(rows) == 2 and len({row["folder"] for row in rows}) == 2
    said = [(row["outcomes"]["files"]["said"], row["points"]) for row in rows]
    assert all("two submissions have the id \\xfe: " in text and points == 0 for text, points in said)
    names = [name for name in graded.graded if name.startswith("twins")]
    assert len(names) == 3 and len({graded.graded[name]["folder"] for name in names}) == 3
    told = [graded.graded[name] for name in names if "two submissions" in str(graded.graded[name]["problems"])]
    assert len(told) == 2
    right = [graded.graded[name] for name in names if graded.graded[name] not in told]
    assert right[0]["points"] == graded.graded["honest"]["points"]


def test_the_honest_student_has_the_same_files_with_and_without_the_others(graded):
    def own(files):
        return {name: text for name, text in files.items() if name.startswith("students/honest/")}

    assert len(graded.by_itself) == 3
    assert own(graded.first) == graded.by_itself == own(graded.again)
    outcomes = graded.graded["honest"]["outcomes"]
    assert {name for name in ITEMS if outcomes[name]["status"] in ("full", "part")} == set(ITEMS)
    assert all(outcomes[name]["status"] == "full" for name in ("files", "settings", "claimed", "small"))


def test_every_submission_is_there_once(graded):
    names = [path.name for path in graded.kit.folder.iterdir()]
    assert len(graded.graded) == len(names) == len(ATTACKS) + 6  # honest, copy, two more twins, two of one name
    folders = [row["folder"] for row in graded.graded.values()]
    assert len({name.casefold() for name in folders}) == len(folders)
    assert {name.split("/")[1] for name in graded.first if name.startswith("students/")} == set(folders)


def test_a_second_grading_gives_the_same_bytes(graded):
    assert graded.first.keys() == graded.again.keys()
    assert [name for name in graded.first if graded.first[name] != graded.again[name]] == []


def test_copies_are_pairs_and_cost_nothing(graded):
    pairs = json.loads(graded.first["grades.json"])["pairs"]
    rows = {(p["a"], p["b"], p["kind"]): p for p in pairs}
    for kind in ("weights", "answers", "history"):
        assert rows["copy", "honest", kind]["likeness"] == 1 and not rows["copy", "honest", kind]["last_year"]
    assert graded.graded["copy"]["points"] == graded.graded["honest"]["points"] > 20
    assert rows["honest", "s2020", "weights"]["last_year"]
    # last year's student of the same name handed in other work
    assert not [p for p in pairs if p["last_year"] and p["b"] == "honest"]


def test_nothing_was_written_but_the_results(graded):
    assert {k: v for k, v in graded.before.items() if graded.after[k] != v} == {}
    assert not [path for name, paths in graded.after.items() if name.startswith("evil") for path in paths]
    assert graded.before["tmp"] == graded.before["desk"] == []
    assert not [path for path in graded.out.rglob("*") if EVIL in path.name or path.is_symlink()]
    assert graded.processes == []


def test_what_is_said_is_plain(graded):
    assert not re.search(r"Traceback|\w(Error|Exception|Warning)\b", graded.told), graded.told
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]", graded.told)
    assert "\nlines" not in graded.told  # a name is no line of its own


FORMULA = re.compile(r"[\s\x00]*[=+\-@\uff1d\uff0b\uff0d\uff20]")


def test_no_cell_is_a_formula(graded):
    for name in ("grades.csv", "copies.csv", "moodle.csv", "canvas.csv"):
        rows = list(csv.reader(io.StringIO(graded.first[name].decode(), newline="")))
        assert len({len(row) for row in rows}) == 1, name
        assert not [cell for row in rows for cell in row if FORMULA.match(cell)], name
        assert not [cell for row in rows for cell in row if not cell.isprintable()], name
    rows = list(csv.DictReader(io.StringIO(graded.first["grades.csv"].decode())))
    assert len(rows) == len(graded.graded)
    points = {row["id"]: float(row["total"]) for row in rows}
    assert points["honest"] == pytest.approx(graded.graded["honest"]["points"], abs=0.01)
    assert points["'=HYPERLINK(1)"] == 0


class Page(HTMLParser):
    """Elements, and whatever of a page would run or be fetched."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.runs: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list) -> None:
        self.names.add(tag)
        for name, value in attributes:
            text = re.sub(r"[\s\x00-\x20]", "", value or "").lower()
            far = name in ("src", "href", "action", "data", "srcset") and not text.startswith(("#", "students/"))
            if name.startswith("on") or "javascript:" in text or far:
                self.runs.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def text_of(page: str) -> str:
    return " ".join(" ".join(Page(page).words).split())


def test_pages_hold_no_markup_of_a_student(graded):
    pages = {name: text.decode() for name, text in graded.first.items() if name.endswith(".html")}
    honest = Page(pages["students/honest/feedback.html"])
    assert len(pages) == len(graded.graded) + 1
    for name, text in pages.items():
        page = Page(text)
        assert page.runs == [], name
        allowed = honest.names if name != "summary.html" else honest.names | SUMMARY
        assert page.names <= allowed and not page.names & {"script", "iframe", "object", "embed", "img"}, name


SUMMARY = set("nav ul li div figure svg g title rect text line details summary a path desc polyline".split())  # noqa: SIM905


def test_a_submission_on_which_measuring_fails_does_not_stop_the_class(tmp_path, monkeypatch):
    (tmp_path / "class").mkdir()
    for name in ("anna", "bob"):
        (tmp_path / "class" / f"{name}.zip").write_bytes(name.encode())
    (tmp_path / "rubric.yaml").write_text(FILES_ALONE)
    rubric, found = load_rubric(tmp_path / "rubric.yaml"), submissions.find(tmp_path / "class")

    def failing(job, *more):
        if "anna" in job["source"]:
            raise RuntimeError("of MindSpore")
        return measuring.Facts(measuring.dead("").facts | {"problems": [], "files": {"a": 1}})

    monkeypatch.setattr(measuring, "measure", failing)
    facts = grade.measure_all(found, [], rubric, None, {}, tmp_path / "cache", grade.Options())
    anna, bob = (grade.graded_of(each, facts[each.path], rubric, {}, {}) for each in found)
    assert bob.points == 1 and anna.points == 0 and "gave no answer" in anna.flags[0]
    assert anna.outcomes["a"].said == "the submission could not be read: measuring it failed (RuntimeError)"


# --- too slow for every day ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_million_members_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "class.zip", "w") as file:
        for number in range(1_000_000):
            file.writestr(f"{number}", "")
    (tmp_path / "class").mkdir()
    (tmp_path / "class.zip").rename(tmp_path / "class" / "anna.zip")
    (tmp_path / "rubric.yaml").write_text(FILES_ALONE)
    (tmp_path / "hidden").mkdir()
    done = cli("grade", tmp_path / "class", "--rubric", tmp_path / "rubric.yaml", "--data", tmp_path / "hidden",
               "--out", tmp_path / "out", timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    row = json.loads((tmp_path / "out" / "grades.json").read_text())["students"][0]
    assert row["points"] == 0 and re.search("more than 2,000 files|more memory", row["problems"][0]), row
