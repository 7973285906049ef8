"""Random trees and damaged images for the data check, and MindSpore's own decoder, which must decode every image that
passes."""

import io
import json
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck
from hypothesis import strategies as st
from PIL import Image

from mslab.check import check_dataset

DECODER = """
import sys
import numpy as np
import mindspore.dataset.vision as vision
for line in sys.stdin:
    try:
        vision.Decode()(np.fromfile(line.rstrip("\\n"), np.uint8))
        print("fine", flush=True)
    except Exception as error:
        print("refused", flush=True)
"""


QUICK = {"derandomize": True, "deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


def seeds():
    """(suffix, bytes) of real encoders' output: kinds of JPEG, PNG, BMP and TIFF that cameras and programs write."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (5, 6, 3), dtype=np.uint8))
    image = coarse.resize((48, 40), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[274] = 6
    wide = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    kinds = [
        ("jpg", image, {}),
        ("jpg", image, {"progressive": True}),
        ("jpg", image, {"exif": exif}),
        ("jpg", image, {"restart_marker_rows": 1}),
        ("jpg", image.convert("L"), {}),
        ("jpg", image.convert("CMYK"), {}),
        ("png", image, {}),
        ("png", wide, {}),
        *[("png", image.convert(mode), {}) for mode in ("L", "P", "1", "LA", "RGBA")],
        *[("bmp", image.convert(mode), {}) for mode in ("RGB", "P", "1")],
        *[("tif", image, {"compression": name}) for name in (None, "tiff_lzw", "tiff_adobe_deflate", "jpeg")],
        *[("tif", image.convert(mode), {}) for mode in ("L", "P", "1")],
    ]
    files = []
    for suffix, picture, options in kinds:
        buffer = io.BytesIO()
        picture.save(buffer, {"jpg": "JPEG", "png": "PNG", "bmp": "BMP", "tif": "TIFF"}[suffix], **options)
        files.append((suffix, buffer.getvalue()))
    return files


SEEDS = seeds()


position = st.one_of(st.floats(0, 1), st.floats(0, 0.3))  # headers more often than pixels


change = st.one_of(
    st.tuples(st.just("flip"), position, st.integers(0, 7)),
    st.tuples(st.just("set"), position, st.integers(0, 255)),
    st.tuples(st.just("drop"), position, st.integers(1, 40)),
    st.tuples(st.just("cut"), position, st.just(0)),
)


damaged = st.tuples(st.integers(0, len(SEEDS) - 1), st.lists(change, min_size=0, max_size=4))


def damage(content, changes):
    """The bytes after these changes: (kind, position from 0 to 1, value)."""
    data = bytearray(content)
    for kind, position, value in changes:
        at = min(int(position * len(data)), len(data) - 1)
        if kind == "cut":
            del data[max(at, 1) :]
        elif kind == "drop":
            del data[at : at + value]
        elif kind == "flip":
            data[at] ^= 1 << value
        else:
            data[at] = value
        if not data:
            break
    return bytes(data)


@contextmanager
def mindspores_decoder():
    """MindSpore's own decoder in a process: ask("path") -> "fine", "refused", or "died"."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    running = []

    def ask(path):
        if not running:
            running.append(subprocess.Popen([sys.executable, "-c", DECODER], text=True, **pipes))
        process = running[0]
        process.stdin.write(f"{path}\n")
        process.stdin.flush()
        answer = process.stdout.readline().strip()
        if not answer:
            running.clear()
        return answer or "died"

    try:
        yield ask
    finally:
        for process in running:
            process.communicate()


def nothing_bad_passes(files, decoder):
    """Assert that MindSpore decodes every image that passes the check. Returns (passed, all)."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        for name in ("a", "b"):
            (root / name).mkdir(parents=True)
        for number, (kind, changes) in enumerate(files):
            suffix, content = SEEDS[kind]
            (root / "ab"[number % 2] / f"{number}.{suffix}").write_bytes(damage(content, changes))
        report = check_dataset(root, cache=False, skip_content=True)  # equal pixels are not tested here
        json.dumps(report.to_dict())
        bad = {finding.path for finding in report.errors}
        passed = [path for path in root.rglob("*.*") if path.relative_to(root).as_posix() not in bad]
        verdicts = {path.name: decoder(path) for path in passed}
        assert set(verdicts.values()) <= {"fine"}, verdicts
        return len(passed), len(files)


# --- trees -----------------------------------------------------------------------------------------------------------

NAMES = [
    "a",
    "A",
    "b",
    "1",
    "10",
    "2",
    "train",
    "val",
    "test",
    ".checkpoint",
    "rank_0",
    "Thumbs.db",
    "x.png",
    "X.PNG",
    "x.jpg",
]
NAMES += ["é", "é", "-rf", "=1+1", "a b", "<b>", "\udcff.png", "con", "..."]
CONTENTS = [b"", b"text", *[content for _, content in SEEDS[:8]]]
leaf = st.one_of(
    st.tuples(st.just("file"), st.integers(0, len(CONTENTS) - 1)),
    st.tuples(st.just("link"), st.sampled_from([".", "..", "../..", "a", "x.png", "/etc", "/nowhere", "../a/x.png"])),
    st.tuples(st.just("pipe"), st.none()),
)
tree = st.recursive(leaf, lambda inner: st.dictionaries(st.sampled_from(NAMES), inner, max_size=6), max_leaves=25)
trees = tree.filter(lambda node: isinstance(node, dict))


def grow(folder, node):
    folder.mkdir()
    for name, entry in node.items():
        path = folder / name
        try:
            if isinstance(entry, dict):
                grow(path, entry)
            elif entry[0] == "file":
                path.write_bytes(CONTENTS[entry[1]])
            elif entry[0] == "link":
                path.symlink_to(entry[1])
            else:
                os.mkfifo(path)
        except FileExistsError:
            pass


def ends_in_a_report(node):
    """Check a tree of files, links and pipes, and assert that the report can be printed and written."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "set"
        grow(root, node)
        report = check_dataset(root, class_num=2, cache=False)
        document = json.dumps(report.to_dict(), ensure_ascii=False).encode("utf-8")
        assert json.loads(document)["ok"] == report.ok
        assert str(report).encode("utf-8") and report._repr_html_().encode("utf-8")
        for split in report.splits if report.ok else ():
            files, labels = report.samples(split)
            assert all(path.is_file() for path in files) and len(files) == len(labels)
            assert set(labels) == set(range(len(report.class_names)))
