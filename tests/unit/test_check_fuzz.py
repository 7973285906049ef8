"""The checker against random trees: it never crashes, never hangs."""

import json
import os
import tempfile
from pathlib import Path

from fuzzing import QUICK, SEEDS
from hypothesis import given, settings
from hypothesis import strategies as st

from mslab.check import check_dataset

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


def grow(folder, node):
    folder.mkdir()
    for name, what in node.items():
        path = folder / name
        try:
            if isinstance(what, dict):
                grow(path, what)
            elif what[0] == "file":
                path.write_bytes(CONTENTS[what[1]])
            elif what[0] == "link":
                path.symlink_to(what[1])
            else:
                os.mkfifo(path)
        except FileExistsError:
            pass


@settings(max_examples=120, **QUICK)
@given(node=tree.filter(lambda node: isinstance(node, dict)))
def test_no_tree_ends_the_check(node):
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
