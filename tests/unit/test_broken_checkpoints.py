"""Broken and hostile checkpoints: each gives one clear message, in this process, without much memory or MindSpore."""

import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import tracemalloc
import zipfile

import numpy as np
import pytest
from fuzzing import damage
from helpers import PROJECT, cli, without_roots_rights
from hypothesis import given, settings
from hypothesis import strategies as st

from mslab import checkpoint
from mslab.checkpoint import dialects, readers, writing
from mslab.checkpoint.writing import varint
from mslab.errors import CheckpointError

DATA = PROJECT / "tests" / "data"  # torch.pth is PyTorch's own file, mindspore.ckpt MindSpore's


def intact_files(folder):
    """Return a file in every format, the first three of one small network: {format: bytes}."""
    weights = checkpoint.read(DATA / "torch.pth")
    tensors = weights.backbone | weights.head
    checkpoint.save_arrays(tensors, folder / "x.ckpt", {"class_names": ["a", "b", "c"]})
    writing.save_safetensors(dialects.to_torch(tensors), folder / "x.safetensors", {})
    files = {"ckpt": folder / "x.ckpt", "safetensors": folder / "x.safetensors", "pth": DATA / "torch.pth"}
    files |= {"plain": DATA / "mindspore.ckpt"}
    return {kind: file.read_bytes() for kind, file in files.items()} | {"onnx": onnx(dialects.to_torch(tensors))}


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    return intact_files(tmp_path_factory.mktemp("intact"))


def refusal(path, content):
    """Return the message; assert that there is no other exception, and little memory beside the file's size."""
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError) as caught:
            checkpoint.read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(content) + 2**20, peak
    text = str(caught.value)
    assert text.startswith(str(path)) and "expected" in text and "fix" in text
    return text


def with_size(tag, data):
    return bytes([tag]) + varint(len(data)) + data


def ckpt(*entries):
    """Return a .ckpt of (name, dims, type, bytes)."""
    content = b""
    for name, dims, kind, payload in entries:
        tensor = (
            b"".join(b"\x08" + varint(dim) for dim in dims) + with_size(0x12, kind.encode()) + with_size(0x1A, payload)
        )
        content += with_size(0x0A, with_size(0x0A, name.encode()) + with_size(0x12, tensor))
    return content


def entry_of(text):
    """Return a .ckpt with this text in its `mslab` entry."""
    return ckpt(("w", [1], "Float32", b"1234"), ("mslab", [], "str", text.encode("utf-32-le")))


def test_null_in_the_entry_is_what_the_file_does_not_say(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(
        entry_of('{"image_size": null, "mean": null, "stages": null, "class_names": null}')
    )
    assert checkpoint.read(tmp_path / "x.ckpt").info == {}


def onnx(tensors):
    """Return an .onnx file of float32 tensors."""
    graph = b""
    for name, value in tensors.items():
        dims = b"".join(b"\x08" + varint(dim) for dim in value.shape)
        row = dims + b"\x10\x01" + with_size(0x42, name.encode()) + with_size(0x4A, value.astype("<f4").tobytes())
        graph += with_size(0x2A, row)
    return b"\x08\x08" + with_size(0x3A, graph)


def safetensors(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def pth(content, **members):
    """Return a zip as torch.save writes it, with this object or these bytes of a pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("x/data.pkl", content if isinstance(content, bytes) else pickle.dumps(content, 2))
        for name, data in members.items():
            archive.writestr(f"x/data/{name}", data)
    return buffer.getvalue()


def onnx_of(fields):
    """Return an .onnx file of one tensor with these fields."""
    return b"\x08\x08" + with_size(0x3A, with_size(0x2A, fields))


def zip_of_nothing(count):
    """Return a .pth whose directory lists many files that are not there."""
    content = pth({"a": 1})
    entry = b"PK\x01\x02" + bytes(24) + struct.pack("<H", 1) + bytes(16) + b"x"
    return (
        content[: content.rindex(b"PK\x01\x02")]
        + entry * count
        + b"PK\x05\x06"
        + struct.pack("<4H2IH", 0, 0, 65535, 65535, len(entry) * count, content.rindex(b"PK\x01\x02"), 0)
    )


def colliding(count):
    """Return a pickle's dict of integers with one hash, which takes time quadratic in their number."""
    keys = b"".join(b"\x8a\x0c" + ((n + 1) * (2**61 - 1)).to_bytes(12, "little") + b"N" for n in range(count))
    return pth(b"\x80\x02}(" + keys + b"u.")


def stored_under_tuples(depth):
    """Return a pickle's tensor whose storage is named by (x, x) of (x, x) …: as text it has 2^depth parts."""
    start, end = TENSOR.split(b"X\x01\x00\x00\x000")
    name = b"K\x01\x94" + b"".join(b"h" + bytes([n]) + b"\x86\x94" for n in range(depth))
    return pth(b"\x80\x04}X\x01\x00\x00\x00w" + start + name + end + b"K\x00K\x01\x85K\x01\x85\x89NtRs.")


class RunsCode:
    """An object whose pickle, when loaded, creates this file."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


ENTRY = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
TENSOR += b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
BROKEN = {
    "empty": (b"", "it has 0 bytes"),
    "text": (b"these are no weights at all", "is a text file"),
    "a bare pickle": (pickle.dumps({"a": 1}), "is a bare pickle"),
    "a zip of something else": (
        pth({"a": 1}).replace(b"data.pkl", b"data.txt"),
        "a zip file that torch.save did not write",
    ),
    "size above the bytes": (ckpt(("w", [127, 127], "Float32", b"12345678")), "needs 64516 bytes and has 8"),
    "size below the bytes": (ckpt(("w", [1], "Float32", b"12345678")), "needs 4 bytes and has 8"),
    "a name twice": (ckpt(("w", [1], "Float32", b"1234"), ("w", [2], "Float32", b"12345678")), "it contains w twice"),
    "a huge dimension": (ckpt(("w", [2**62, 4], "Float32", b"1234")), "w has a dimension of 4611686018427387904"),
    "a huge product": (ckpt(("w", [2**33, 2**33], "Float32", b"1234")), "needs .* bytes and has 4"),
    "a negative dimension": (ckpt(("w", [2**64 - 1], "Float32", b"1234")), "w has a dimension of 18446744073709551615"),
    "an unknown type": (ckpt(("w", [1], "Complex64", b"12345678")), "unknown type 'Complex64'"),
    "no name": (ckpt(("", [1], "Float32", b"1234")), "no name or no tensor"),
    "no tensors": (ckpt(("mslab", [], "str", "{}".encode("utf-32-le"))), "it contains no tensors"),
    "info that is not a table": (
        entry_of("[1]"),
        "its entry 'mslab' is not a table",
    ),
    **{
        f"info with another {key}": (
            entry_of(json.dumps({key: v})),
            f"its entry 'mslab' has an invalid value of {key}",
        )
        for key, v in [
            ("stages", 5),
            ("stages", [[10**9, 64, 1]]),
            ("profile", {"block": "x"}),
            ("class_names", 5),
            ("mean", [1, 2]),
        ]
    },
    "too many dimensions": (
        ckpt(("w", [2**34] * 20_000, "Float32", b"1234")),
        "one of its tensors has more than 32 sizes",
    ),
    "info that is not JSON": (
        entry_of("{"),
        "is not a complete MindSpore checkpoint",
    ),
    "safetensors: a gap": (safetensors({"w": ENTRY | {"data_offsets": [4, 8]}}, bytes(8)), "begins at byte 4 instead"),
    "safetensors: overlap": (safetensors({"a": ENTRY, "b": ENTRY}, bytes(4)), "begins at byte 0 instead of 4"),
    "safetensors: left over": (safetensors({"w": ENTRY}, bytes(9)), "5 bytes belong to no tensor"),
    "safetensors: outside": (safetensors({"w": ENTRY}, b""), "w claims bytes outside"),
    "safetensors: a name twice": (
        safetensors(b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":1}', bytes(4)),
        "it contains w twice",
    ),
    "safetensors: no shape": (safetensors({"w": {"dtype": "F32"}}), "does not describe w"),
    "safetensors: a shape of text": (safetensors({"w": ENTRY | {"shape": ["1"]}}, bytes(4)), "does not describe w"),
    "safetensors: unknown type": (safetensors({"w": ENTRY | {"dtype": "F8_E4M3"}}, bytes(4)), "unknown type 'F8_E4M3'"),
    "safetensors: nested too deeply": (safetensors(b"{" + b'"a":{' * 50_000), "is not a complete safetensors file"),
    "pth: a number of NumPy": (pth({"w": np.float32(1)}), "it contains no state_dict"),
    "pth: no tensors": (pth({"epoch": 3}), "it contains no state_dict"),
    "pth: a missing storage": (
        pth(b"\x80\x02}X\x01\x00\x00\x00w" + TENSOR + b"K\x00K\x01\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs."),
        "the storage 0 is missing",
    ),
    "pth: a tensor larger than its storage": (
        pth(
            b"\x80\x02}X\x01\x00\x00\x00w" + TENSOR + b"K\x00K\x09\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs.",
            **{"0": bytes(16)},
        ),
        r"w \(9,\) needs more than its storage has",
    ),
    "pth: strides beyond the storage": (
        pth(
            b"\x80\x02}X\x01\x00\x00\x00w" + TENSOR + b"K\x00K\x02\x85K\x09\x85\x89ccollections\nOrderedDict\n)RtRs.",
            **{"0": bytes(16)},
        ),
        r"w \(2,\) needs more than its storage has",
    ),
    "pth: a tensor that begins after its storage": (
        pth(
            b"\x80\x02}X\x01\x00\x00\x00w" + TENSOR + b"K\x07K\x01\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs.",
            **{"0": bytes(16)},
        ),
        r"w \(1,\) needs more than its storage has",
    ),
    "pth: tuples in tuples for a name": (
        pth(b"\x80\x02})" + b"\x85" * 1000 + b"K\x01s."),  # hashing three million crashes Python
        "it contains no state_dict",
    ),
    "pth: tuples in tuples for a name, in a call": (
        pth(b"\x80\x02ccollections\nOrderedDict\n](]()" + b"\x85" * 1000 + b"K\x01e\x85e\x85R."),
        "it calls OrderedDict",
    ),
    "pth: a tensor without a storage": (
        pth(b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(NK\x00))tRs."),
        "w has no storage",
    ),
    "pth: a tensor without sizes": (
        pth(b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n(NNNNtRs."),
        "w has impossible sizes",
    ),
    "pth: a call without a tensor": (
        pth(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)R."),
        "it calls _rebuild_tensor_v2 differently from",
    ),
    # what costs much more memory than the file has bytes
    "many values": (safetensors(b'{"a":[' + b"[]," * 1_600_000 + b"[]]}"), "contains more than 3,000,000 values"),
    "many values in the entry": (entry_of('{"a":[' + "[]," * 200_000 + "[]]}"), "contains more than 200,000 values"),
    "many packed dimensions": (onnx_of(with_size(0x0A, b"\x01" * 100_000)), "more than 32 sizes or integers"),
    "many fields": (onnx_of(b"".join(varint(n << 3) + b"\0" for n in range(20, 9000))), "too many fields"),
    "a very long name": (safetensors(b'{"' + b"x" * 10_000 + b'":1}'), r"does not describe x{300,400}…\.\n"),
    "pth: a pickle of nothing but lists": (pth(b"\x80\x02" + b"]" * 9_000_000 + b"."), "list of tensors is too long"),
    "pth: a directory of files that are not there": (zip_of_nothing(400_000), "its directory has more than"),
    "pth: a pickle cut off": (pth(b"\x80\x02J\x01"), "is not a complete PyTorch file"),
    "pth: a memo as large as all memory": (pth(b"\x80\x02}r\xff\xff\xff\x7f."), "it contains no state_dict"),
    "pth: objects of an unknown class": (
        pth(b"\x80\x02cscript\nNet\nq\x01}q\x02(" + b"X\x01\x00\x00\x00ah\x01)\x81" * 50_000 + b"u."),
        "it contains no state_dict",
    ),
    "pth: bytes as large as all memory": (
        pth(b"\x80\x05\x96" + b"\xff" * 7 + b"\x00."),
        "its pickle is damaged",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_gives_one_message(case, tmp_path):
    content, pattern = BROKEN[case]
    message = refusal(tmp_path / "x.ckpt", content)
    assert re.search(pattern, message), message


@pytest.mark.parametrize(
    "tensors",
    [
        {"conv1.weight": np.zeros((64, 3, 7, 7)), "layer1.0.conv1.weight": np.zeros((2**20, 0))},
        {"conv1.weight": np.zeros(()), "layer1.0.conv1.weight": np.zeros(()), "classifier.weight": np.zeros(())},
        {"layer1.0.conv1.weight": np.zeros((64, 64, 1, 1)), "classifier.weight": np.zeros((2**20, 0))},
        {"conv1.weight": np.zeros((64, 3, 7, 7)), "layer1.0.conv1.weight": np.zeros((64, 64, 1, 1))},
    ],
)
def test_sizes_of_no_network_are_refused_before_one_is_built(tensors, tmp_path):
    path = tmp_path / "x.safetensors"
    writing.save_safetensors({name: value.astype(np.float32) for name, value in tensors.items()}, path, {})
    with pytest.raises(CheckpointError, match=r"does not contain a ResNet|does not fit the"):
        checkpoint.read(path).check()
    done = cli("convert", path, "--to", tmp_path / "y.ckpt")
    assert done.returncode == 1 and "Traceback" not in done.stderr and not (tmp_path / "y.ckpt").exists()


def test_a_pickle_runs_nothing(tmp_path):
    content = pickle.dumps(RunsCode(tmp_path / "was-here"), 2)
    pickle.loads(content)
    (tmp_path / "was-here").unlink()  # plain pickle does execute the call
    text = refusal(tmp_path / "x.pth", pth(content))
    assert "is a pickled network: it is an object of the class posix.system, not tensors" in text
    assert "if you trust the file, which can run code when it is loaded" in text
    assert not (tmp_path / "was-here").exists()


def test_a_dict_whose_methods_a_pickle_hides_is_read(tmp_path):
    hidden = b"}X\x05\x00\x00\x00itemsK\x01sb"  # an attribute of the dict
    tensor = b"X\x01\x00\x00\x00w" + TENSOR + b"K\x00K\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs."
    content = pth(b"\x80\x02ccollections\nOrderedDict\n)R" + hidden + tensor, **{"0": np.float32([1, 2]).tobytes()})
    (tmp_path / "x.pth").write_bytes(content)
    assert checkpoint.read(tmp_path / "x.pth").tensors["w"].tolist() == [1, 2]


def test_a_compressed_or_overlapping_zip(tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(10**6))
    assert "it is compressed" in refusal(tmp_path / "x.pth", buffer.getvalue())
    content = pth({"a": 1}, **{"0": bytes(2000), "1": bytes(2000)})
    second = content.rindex(b"PK\x01\x02")  # the directory entry of data/1 shall point to data/0
    first = content.index(b"x/data/0") - 30
    content = content[: second + 42] + struct.pack("<I", first) + content[second + 46 :]
    content = content[: second + 20] + struct.pack("<II", 4000, 4000) + content[second + 28 :]
    assert "its parts overlap" in refusal(tmp_path / "x.pth", content)


def test_a_folder_a_missing_file_and_a_file_without_read_permission(tmp_path):
    with pytest.raises(CheckpointError, match="is a folder"):
        checkpoint.read(tmp_path)
    header = {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    (tmp_path / "near.safetensors").write_bytes(safetensors(header, bytes(4)))
    with pytest.raises(CheckpointError, match=r"There is no file .*y\.ckpt") as caught:
        checkpoint.read(tmp_path / "y.ckpt")
    assert "near.safetensors" in str(caught.value)
    script = f"from mslab import checkpoint; checkpoint.read({str(tmp_path / 'near.safetensors')!r})"
    (tmp_path / "near.safetensors").chmod(0)
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, preexec_fn=without_roots_rights)
    assert "near.safetensors cannot be read: Permission denied" in done.stderr and "chmod u+r" in done.stderr


def test_a_file_larger_than_allowed_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MAX_BYTES", 1000)
    assert "it has 1001 bytes" in refusal(tmp_path / "x.ckpt", bytes(1001))


@pytest.mark.parametrize("kind", ["ckpt", "plain", "safetensors", "pth"])
def test_a_file_truncated_anywhere(kind, tmp_path, intact):
    content, path = intact[kind], tmp_path / "cut"
    path.write_bytes(content)
    complete = set(checkpoint.read(path).tensors)
    for end in range(1, len(content), len(content) // 80):
        path.write_bytes(content[:end])
        try:
            names = set(checkpoint.read(path).tensors)
        except CheckpointError as error:
            assert "expected" in str(error)
            continue
        assert kind in ("ckpt", "plain") and names < complete  # truncated exactly between two entries


def parts_of(intact):
    """Return {name: (bytes to damage, function that makes a file of them)}: files, and parts that a checksum covers."""
    parts = {kind: (content, bytes) for kind, content in intact.items()}
    with zipfile.ZipFile(io.BytesIO(intact["pth"])) as archive:
        files = {name.rpartition("/")[2]: archive.read(name) for name in archive.namelist()}
    pickled = files.pop("data.pkl")
    text = b'{"class_names": ["a", "b"], "mean": [0.5, 0.5, 0.5], "stages": [[1, 64, 1]]}'
    end = 8 + int.from_bytes(intact["safetensors"][:8], "little")
    head, body = intact["safetensors"][8:end], intact["safetensors"][end:]
    return parts | {
        "pickle": (pickled, lambda content: pth(content, **files)),
        "header": (head, lambda content: safetensors(content, body)),
        "entry": (text, lambda content: entry_of(content.decode("latin-1"))),
    }


def damaged(content, changes):
    """Return the bytes after these changes; a splice inserts bytes from another position."""
    for kind, position, value in changes:
        if kind == "splice":
            at = int(position * len(content))
            content = content[:at] + content[at // 2 :][:value] + content[at:]
        elif content:
            content = damage(content, [(kind, position, value % 8 if kind == "flip" else value)])
    return content


def test_damage_gives_nothing_but_a_message(tmp_path, intact):
    path, parts = tmp_path / "damaged", parts_of(intact)
    position = st.one_of(st.floats(0, 1), st.floats(0, 0.02))
    change = st.tuples(st.sampled_from(["set", "flip", "drop", "cut", "splice"]), position, st.integers(0, 255))

    @settings(max_examples=400, deadline=None, database=None, derandomize=True)
    @given(st.sampled_from(sorted(parts)), st.lists(change, min_size=1, max_size=4))
    def read_or_refused(kind, changes):
        content, file_of = parts[kind]
        path.write_bytes(file_of(damaged(content, changes)))
        try:
            weights = checkpoint.read(path)
        except CheckpointError:
            return
        assert sum(value.nbytes for value in weights.tensors.values()) <= 4 * path.stat().st_size

    read_or_refused()


@pytest.mark.parametrize("bug", [AttributeError, TypeError, KeyError, IndexError])
@pytest.mark.parametrize(
    "kind, function",
    [
        ("ckpt", "readers.array"),
        ("safetensors", "readers._shape_and_range"),
        ("onnx", "readers.integers"),
        ("pth", "pth.tensor"),
        ("pth", "pth.Stored"),
        ("pth", "pth.Reader.find_class"),
        ("plain", "selecting.select"),
        ("ckpt", "reading.info_of"),
    ],
)
def test_a_bug_of_ours_is_not_reported_as_damage(kind, function, bug, intact, tmp_path, monkeypatch):
    def broken(*_):
        raise bug("of ours")

    (tmp_path / "x").write_bytes(intact[kind])
    checkpoint.read(tmp_path / "x")
    monkeypatch.setattr(f"mslab.checkpoint.{function}", broken)
    with pytest.raises(bug, match="of ours"):
        checkpoint.read(tmp_path / "x")


def test_more_tensors_than_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MAX_TENSORS", 2)
    rows = [(f"w{n}", [1], "Float32", b"1234") for n in range(3)]
    assert "more than 2 tensors" in refusal(tmp_path / "x.ckpt", ckpt(*rows))
    slices = [("w", [1], "Float32", b"")] * 3  # of one tensor
    assert "more than 2 tensors" in refusal(tmp_path / "x.ckpt", ckpt(*slices))
    texts = b"".join(with_size(0x72, with_size(0x0A, b"%d" % n)) for n in range(3))
    assert "more than 2 texts" in refusal(tmp_path / "x.onnx", onnx({}) + texts)


def test_more_integers_than_allowed(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "MAX_INTEGERS", 2)
    for fields in (with_size(0x3A, b"\1\1\1"), b"\x38\1" * 3):  # packed, and one by one
        assert re.search("more than 2 sizes or integers|too many fields", refusal(tmp_path / "x.onnx", onnx_of(fields)))


def test_the_command_line_prints_one_message(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(b"no weights")
    done = cli("convert", tmp_path / "x.ckpt", "--to", tmp_path / "y.ckpt")
    assert done.returncode == 1 and done.stderr.startswith("CheckpointError: ") and "Traceback" not in done.stderr
    assert not (tmp_path / "y.ckpt").exists()


def test_no_file_takes_time_that_is_quadratic_in_its_size(tmp_path):
    """One process with ten seconds reads them all."""
    files = {
        "a name twice": (safetensors(b"{" + b'"a":1,' * 100_000 + b'"b":1,"b":1}'), "it contains a twice"),
        "a later name twice": (
            safetensors(b"{" + b",".join(b'"%d":1' % n for n in range(100_000)) + b',"99999":1}'),
            "it contains 99999 twice",
        ),
        "a long number": (safetensors(b'{"a":' + b"1" * 2_000_000 + b"}"), "it is not valid JSON"),
        "names with one hash": (colliding(40_000), "it contains no state_dict"),
        "a storage named by tuples": (stored_under_tuples(32), "one of its storages has no name"),
    }
    call = b"h\x01h\x00R0"  # of an unknown class, with a list that is long
    files["a long list passed often"] = (
        pth(b"\x80\x02(" + b"N" * 200_000 + b"tq\x00cscript\nNet\nq\x01" + call * 200_000 + b"N."),
        "it contains no state_dict",
    )
    tables = b"\x80\x02" + b"}X\x01\x00\x00\x00a" * 100_000 + b"N" + b"s" * 100_000 + b"."
    files["tables in tables"] = (pth(tables), "it contains no state_dict")
    dots = {f"x{'.' * n}conv1.weight": ENTRY | {"data_offsets": [4 * n - 4, 4 * n]} for n in range(1, 1_001)}
    files["names of dots"] = (safetensors(dots, bytes(4_000)), "does not contain a ResNet")
    layers = {f"layer{n}.0.conv1.weight": ENTRY | {"data_offsets": [4 * n - 4, 4 * n]} for n in range(1, 20_001)}
    files["thousands of layers"] = (safetensors(layers, bytes(80_000)), "does not contain a ResNet")
    for name, (content, _) in files.items():
        (tmp_path / name).write_bytes(content)
    program = (
        "import resource, sys\nfrom mslab import checkpoint\nresource.setrlimit(resource.RLIMIT_CPU, (10, 10))\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n        checkpoint.read(name).check()\n"
        "    except Exception as error:\n        print(error, flush=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, *files], cwd=tmp_path, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert len(lines) == len(files), (done.returncode, lines, done.stderr)
    for line, (name, (_, text)) in zip(lines, files.items(), strict=True):
        assert line.startswith(name) and text in line
