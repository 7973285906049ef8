"""The attacks in a class, and the result expected for each: for the entire submission or for single items."""

import json
import os
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from attackers import (
    EVIL,
    MIB,
    Kit,
    Runs,
    alias_bomb,
    alone,
    bomb_xz,
    bound,
    changed,
    damaged,
    deep,
    deep_zip,
    device,
    holes,
    large_network,
    linked,
    locked,
    million_rows,
    nested,
    node,
    safetensors,
    shuffled,
    sparse,
    torch_zip,
    twins,
    unreadable_file,
    unreadable_folder,
    with_safetensors,
    zip_link,
)

from mslab.grade.outputs import folder_of

SECONDS, GIGABYTES = 15, 2.0  # limits of a worker
MANIFEST = {"metrics": {"val_acc": 1.0}}
ITEMS = ("files", "settings", "right", "claimed", "table", "small")
NETWORK = ("right", "claimed", "small")  # items that need a network
HOSTILE_CLASSES = ["<img src=x onerror=alert(1)>", "=HYPERLINK(1)\x1b[2J\u202e\n", "+" + "x" * 2 * MIB]
ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
OUT = "which leads out of its folder"
SCRIPT = "<script>alert(1)<script>"


@dataclass
class Attack:
    """A submission and its expected messages, for "all" or for single items, which then get no points."""

    id: str
    make: Callable[[Kit, str], object]
    messages: dict[str, str]  # "all" or an item -> a regular expression
    flag: str = ""
    gains: tuple[str, ...] = field(default=())  # items that may have points


def refused(id: str, make: Callable[[Kit, str], object], message: str, **more) -> Attack:
    return Attack(id, make, {"all": message}, **more)


def network_refused(id: str, make: Callable[[Kit, str], object], message: str, **more) -> Attack:
    """All honest files count except the network."""
    texts = dict.fromkeys(NETWORK, message) | {"table": "cannot be compared"}
    return Attack(id, make, texts, gains=("files", "settings"), **more)


GONE = "was not handed in"
ATTACKS = [
    # archives
    refused("slip", lambda kit, id: kit.zip(id, {f"../../{EVIL}": "x"}, True), f"'../../{EVIL}', {OUT}"),
    refused("slip-tar", lambda kit, id: kit.tar(id, [(f"a/../../../{EVIL}", tarfile.REGTYPE, "x")]), OUT),
    refused("absolute", lambda kit, id: kit.zip(id, {f"/tmp/{EVIL}": "x"}, True), OUT),
    refused("absolute-tar", lambda kit, id: kit.tar(id, [(f"/tmp/{EVIL}", tarfile.REGTYPE, "x")]), OUT),
    refused("backslash", lambda kit, id: kit.zip(id, {f"..\\..\\{EVIL}": "x"}, True), OUT),
    refused("drive", lambda kit, id: kit.zip(id, {f"C:\\{EVIL}": "x"}, True), OUT),
    refused("zip-link", zip_link("link", "/etc/passwd"), "link is a link; only files are accepted"),
    refused("zip-link-name", zip_link("<svg onload=alert(1)>\x1b[2J\n", "/"), r"<svg onload=alert\(1\)>.* is a link"),
    refused("tar-link", lambda kit, id: kit.tar(id, [
        ("d", tarfile.SYMTYPE, "/tmp"), (f"d/{EVIL}", tarfile.REGTYPE, "x")]), "d is a link"),
    refused("tar-hardlink", lambda kit, id: kit.tar(id, [("best.ckpt", tarfile.LNKTYPE, "/etc/passwd")]), "is a link"),
    refused("tar-device", lambda kit, id: kit.tar(id, [
        ("zero", tarfile.CHRTYPE, ""), ("pipe", tarfile.FIFOTYPE, "")]), "zero is a device.*pipe is a device"),
    refused("bomb", lambda kit, id: kit.zip(id, {"zeros": bytes(80 * MIB)}), "unpacks to more than"),
    refused("bomb-xz", bomb_xz, "unpacks to more than"),
    refused("bomb-holes", holes, "a header claims 8589934591 bytes"),
    Attack("nested-bomb", nested, {"files": "0 of 5", "right": GONE}),
    refused("many", lambda kit, id: kit.zip(id, {f"{n}.txt": "" for n in range(20_000)}), "more than 2,000 files"),
    refused("case", lambda kit, id: kit.zip(id, {"Best.ckpt": "x"}, True), "one file on some systems"),
    Attack("wrong-case", lambda kit, id: kit.zip(id, {"Best.CKPT": kit.files["best.ckpt"], "Config.yaml": "x"}),
           {"files": "missing or empty: best.ckpt, config.yaml", "right": GONE, "settings": "was not handed in"}),
    Attack("folder-for-file", lambda kit, id: kit.zip(id, {"best.ckpt/a": "x", "b": "x"}), {"right": GONE}),
    refused("empty", lambda kit, id: kit.zip(id, {}), "contains no files"),
    refused("nothing", lambda kit, id: (kit.folder / f"{id}.zip").write_bytes(b""), "is not a zip or tar archive"),
    refused("no-archive", lambda kit, id: (kit.folder / f"{id}.zip").write_bytes(b"hello"), "is not a zip or tar"),
    refused("locked", locked, "it has a password"),
    refused("damaged", damaged, "damaged"),
    refused("cut", lambda kit, id: (kit.folder / f"{id}.zip").write_bytes(kit.honest[:9000]), "is not a zip or tar"),
    refused("name-long", lambda kit, id: kit.zip(id, {"x" * 10_000: "x"}, True), "too long for a file name"),
    Attack("names", lambda kit, id: kit.zip(id, {
        "a\r\nb=1.txt": "x", "con": "x", "aux.txt": "x", "best.ckpt.": "x", "best.ckpt ": "x", "\u202etxt": "x"}),
        {"files": "0 of 5", "right": GONE}),
    # networks
    network_refused("ckpt-sizes", lambda kit, id: kit.zip(id, {
        "best.ckpt": kit.files["best.ckpt"].replace(b"Float32", b"Float64")}, True), "is not a complete.*needs"),
    network_refused("ckpt-cut", lambda kit, id: kit.zip(id, {
        "best.ckpt": kit.files["best.ckpt"][:-999]}, True), "cut off"),
    network_refused("nan", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt({
        "classifier.bias": np.full(3, np.nan, np.float32)})}, True), "weights that are not finite: classifier.bias"),
    network_refused("inf", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt({
        "classifier.bias": np.full(3, np.inf, np.float32)})}, True), "weights that are not finite: classifier.bias"),
    network_refused("pickle", alone("best.ckpt", pickle.dumps(Runs())), "is a bare pickle"),
    network_refused("torch", torch_zip, r"class posix\.system, not tensors"),
    network_refused("ckpt-text", alone("best.ckpt", b"hello"), "is a text file"),
    network_refused("ckpt-names", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt({
        "<script>alert(2)</script>\x1b[2J": np.zeros(1, np.float32)})}, True), r"<script>alert\(2\)</script>"),
    network_refused("blocks", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt(
        stages=[[1_000_000, 8, 1]])}, True), "invalid value of stages"),
    network_refused("stages", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt(
        stages=[[200, 4096, 1]] * 16)}, True), "3,200 blocks, at most 200 are allowed"),
    network_refused("pixels", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt(
        image_size=4096)}, True), "4,096 pixels, at most 512 are allowed"),
    network_refused("pixels-huge", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt(
        image_size=10**11)}, True), "invalid value of image_size"),
    Attack("overlap", with_safetensors(safetensors({"a": ONE, "b": ONE}, bytes(4))),
           {"right": "begins at byte 0 instead of 4"}, gains=("files", "settings")),
    Attack("header", with_safetensors(safetensors({"a": ONE}, bytes(4), 2**40)),
           {"right": "is not a complete"}, gains=("files", "settings")),
    Attack("classes-other", lambda kit, id: kit.zip(id, {"best.ckpt": kit.headed(["x", "y", "z"])}, True),
           {"right": "was trained on other classes"}, gains=("files", "settings", "table", "small")),
    Attack("classes-two", lambda kit, id: kit.zip(id, {"best.ckpt": kit.headed(["a", "b"])}, True),
           {"right": "has 2 classes; the task has 3", "table": "cannot be compared"},
           gains=("files", "settings", "small")),
    Attack("classes-hostile", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt(class_names=HOSTILE_CLASSES)}, True),
           {"right": "was trained on other classes"}, gains=("files", "settings", "table", "small")),
    Attack("huge-weights", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt({
        name: np.full_like(value, 1e30) for name, value in kit.tensors.items() if value.ndim == 4})}, True),
        {"right": "logits are not finite", "claimed": "logits are not finite", "table": "cannot be compared"},
        gains=("files", "settings", "small")),
    network_refused("resize-small", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt(
        image_size=64, resize_size=8)}, True), "image_size 64 is larger than its resize_size 8"),
    Attack("pixel-one", lambda kit, id: kit.zip(id, {"best.ckpt": kit.ckpt(
        image_size=1, resize_size=1)}, True), {"files": "5 of 5"}, gains=("files", "settings", *NETWORK, "table")),
    refused("a-slow-one", large_network([[190, 64, 1]], 256), f"stopped after {SECONDS} s", flag="returned no answer"),
    Attack("large", large_network([[1, 1024, 1]], 512), {"right": "memory"}, gains=("files", "settings")),
    # texts
    Attack("config-huge", alone("config.yaml", b"class_num: 3\nimage_size: 100000000000\nstages: [[1e9, 1e9, 1]]\n"),
           {"settings": "1 of 2.*image_size is 100000000000; required: at most 512"},
           gains=("files", "settings", *NETWORK, "table")),
    Attack("config-bomb", lambda kit, id: kit.zip(id, {"config.yaml": alias_bomb()}),
           {"settings": "more than 20,000 values"}, gains=("files",)),
    Attack("config-code", lambda kit, id: kit.zip(id, {
        "config.yaml": f"class_num: !!python/object/apply:os.system ['touch /tmp/{EVIL}']"}),
        {"settings": "is not valid YAML"}, gains=("files",)),
    Attack("config-html", lambda kit, id: kit.zip(id, {"config.yaml": "class_num: <script>alert(3)</script>\n"}),
           {"settings": r"class_num is <script>alert\(3\)</script>"}, gains=("files",)),
    Attack("json-deep", lambda kit, id: kit.zip(id, {"manifest.json": "[" * 100_000}),
           {"claimed": "nested too deeply"}, gains=("files",)),
    Attack("json-numbers", lambda kit, id: kit.zip(id, {"manifest.json": '{"metrics": {"val_acc": 1e999}}'}),
           {"claimed": "has no number metrics.val_acc"}, gains=("files",)),
    Attack("history", lambda kit, id: kit.zip(id, {"history.csv": million_rows(1_000_000)}, kind=zipfile.ZIP_STORED),
           {"right": GONE}, gains=("files",)),
    Attack("claims", alone("manifest.json", json.dumps(MANIFEST).encode()),
           {"claimed": r"1.000 claimed, measured again; the difference is above"},
           gains=("files", "settings", "right", "table", "small")),
    Attack("predictions-shuffled", changed(shuffled), {"table": "0% of predictions.csv agrees with the answers of the"},
           gains=("files", "settings", *NETWORK)),
    Attack("predictions-more", changed(lambda rows: [*rows, ["none.png", *rows[0][1:]]]),
           {"table": "1 rows too many and lacks 0 of 15"}, gains=("files", "settings", *NETWORK)),
    Attack("predictions-twice", changed(lambda rows: [*rows, rows[0]]), {"table": "twice"},
           gains=("files", "settings", *NETWORK)),
    Attack("predictions-formula", changed(lambda rows: [[r[0], "=HYPERLINK(1)<b>", *r[2:]] for r in rows]),
           {"table": r"that the task does not have: =HYPERLINK\(1\)<b>"}, gains=("files", "settings", *NETWORK)),
    # folders
    refused("pipe", node("pipe", os.mkfifo), "pipe is a device"),
    refused("socket", node("socket", bound), "socket is a device"),
    refused("device", node("zero", device), "zero is a device"),
    refused("link-device", linked("best.ckpt", "/dev/zero"), "best.ckpt is a link"),
    refused("link-hidden", linked("predictions.csv", "HIDDEN"), "predictions.csv is a link"),
    refused("link-hidden-folder", linked("more", "HIDDEN"), "more is a link"),
    refused("link-passwd", linked("config.yaml", "/etc/passwd"), "config.yaml is a link"),
    refused("deep", deep, "folders are nested deeper than 100 levels"),
    refused("deep-zip", deep_zip, "folders are nested deeper than 100 levels"),
    refused("sparse-file", lambda kit, id: sparse(kit.folder / f"{id}.zip", 1 << 40), "more than 2 GiB"),
    refused("sparse", lambda kit, id: sparse(kit.tree(id) / "best.ckpt", 1 << 40), "more than 2 GiB"),
    Attack("no-utf-8", lambda kit, id: (os.fsencode(kit.tree(id, False)) + b"/\xff\xfe.txt",
                                        Path(os.fsdecode(bytes(kit.folder / id) + b"/\xff\xfe.txt")).write_text("x")),
           {"files": "0 of 5", "right": GONE}),
    refused("unreadable", unreadable_file, "cannot be read: Permission denied"),
    refused("unreadable-folder", unreadable_folder, "cannot be read: Permission denied"),
    # types and names of submissions
    refused("link-honest", lambda kit, id: (kit.folder / f"{id}.zip").symlink_to("honest.zip"), "is a link"),
    refused("link-to-hidden", lambda kit, id: (kit.folder / id).symlink_to(kit.hidden), "is a link"),
    refused("link-loop", lambda kit, id: (kit.folder / id).symlink_to(id), "is a link"),
    refused("only-a-pipe", lambda kit, id: os.mkfifo(kit.folder / id), "is neither a file nor a folder"),
    refused("only-a-socket", lambda kit, id: bound(kit.folder / id), "is neither a file nor a folder"),
    refused("twins", twins, "two submissions have the id twins: twins, twins.zip; hand in one"),
    refused("h\u043enest", lambda kit, id: kit.zip(id, {}), "contains no files", flag="looks like that of 'honest'"),
    refused("hon\u200best", lambda kit, id: kit.zip(id, {}), "contains no files", flag="looks like that of 'honest'"),
    refused("HONEST", lambda kit, id: kit.zip(id, {}), "contains no files", flag="looks like that of 'honest'"),
    refused(SCRIPT, lambda kit, id: kit.zip(id, {}), "contains no files"),
    refused('"><img src=x onerror=alert(1)>', lambda kit, id: kit.zip(id, {}), "contains no files"),
    refused("=HYPERLINK(1)", lambda kit, id: kit.zip(id, {}), "contains no files"),
    refused("@SUM(1+1)", lambda kit, id: kit.zip(id, {}), "contains no files"),
    refused("\t=1+1", lambda kit, id: kit.zip(id, {}), "contains no files"),
    refused(" \uff1d1+1", lambda kit, id: kit.zip(id, {}), "contains no files"),
    refused("two\nlines\x1b[2J: full points", lambda kit, id: kit.zip(id, {}), "contains no files"),
    refused("right\u202eleft", lambda kit, id: kit.zip(id, {}), "contains no files"),
    refused("con", lambda kit, id: kit.zip(id, {}), "contains no files"),
    refused("dots..", lambda kit, id: kit.zip(id, {}), "contains no files"),
    refused(folder_of(SCRIPT), lambda kit, id: kit.zip(id, {}), "contains no files"),
    refused("l" * 251, lambda kit, id: kit.zip(id, {}), "contains no files"),
    refused("\\xff", lambda kit, id: (kit.folder / os.fsdecode(b"\xff.zip")).write_bytes(b""), "is not a zip or tar"),
]  # fmt: skip

# one attack of every kind; the others run in tests/slow
SAMPLED = {
    *("slip", "bomb"),  # archives
    *("pickle", "stages", "nan", "classes-hostile"),  # networks
    *("config-bomb", "predictions-shuffled"),  # texts
    *("pipe", "link-hidden"),  # folders
    *("link-honest", "only-a-pipe", "twins", "h\u043enest", SCRIPT, folder_of(SCRIPT)),  # types and names
    *("=HYPERLINK(1)", "two\nlines\x1b[2J: full points", "\\xff"),
}
SAMPLE = [attack for attack in ATTACKS if attack.id in SAMPLED]
assert len(SAMPLE) == len(SAMPLED), SAMPLED - {attack.id for attack in SAMPLE}


def name_of(attack: Attack) -> str:
    """For a test's id."""
    return ascii(attack.id)[1:30]
