"""data.animals: the published silhouettes, byte for byte, from a package that is not trusted."""

import contextlib
import gzip
import hashlib
import io
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import OFFLINE, cli

from mslab.data import animals
from mslab.data.animals import (
    ANIMALS,
    IMAGES,
    LABELS,
    MAX_BYTES,
    PACKAGE,
    SHA256,
    even_parts,
    read_array,
    read_wheel,
    select_images,
    write,
)
from mslab.errors import DatasetError

SMALL = np.arange(10 * 28 * 28, dtype=np.uint8).reshape(10, 28, 28)


def pickled(value, protocol=4) -> bytes:
    return pickle.dumps(value, protocol)


def wheel_of(images: bytes, labels: bytes, compression=zipfile.ZIP_DEFLATED) -> bytes:
    """A wheel with these gzipped bytes instead of the two pickles."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as archive:
        archive.writestr(IMAGES, images)
        archive.writestr(LABELS, labels)
    return content.getvalue()


def zipped(value) -> bytes:
    return gzip.compress(pickled(value), 1)


LABELLED = zipped(np.arange(10))


class Calls:
    """An object that pickles as a function call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


# --- the pickles ----------------------------------------------------------------------------------------------------


def test_numeric_arrays_are_read_unchanged():
    for array in (SMALL, np.arange(10), np.zeros((3, 0, 28), np.uint8)):
        read = read_array(pickled(array))
        assert read.dtype == array.dtype and np.array_equal(read, array)
    images, labels = read_wheel(wheel_of(zipped(SMALL), LABELLED))
    assert np.array_equal(images, SMALL) and labels.tolist() == list(range(10))


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
@pytest.mark.parametrize("inside", [False, True], ids=["alone", "after an array"])
def test_a_pickle_that_calls_anything_is_refused_by_name(tmp_path, protocol, inside):
    touched = tmp_path / "touched"
    for function, name, argument in [
        (os.system, "posix.system", f"touch {touched}"),
        (eval, "builtins.eval", f"open({str(touched)!r}, 'w')"),
        (np.load, "numpy.load", str(touched)),
        (np.frombuffer, "numpy.frombuffer", b"x"),
        (np.core.multiarray.scalar, "numpy.core.multiarray.scalar", np.dtype("u1")),
    ]:
        bad = Calls(function, argument)
        value = pickled((SMALL, bad) if inside else bad, protocol)
        with pytest.raises(ValueError) as caught:
            read_array(value)
        name_in_pickle = "__builtin__.eval" if name == "builtins.eval" and protocol < 3 else name
        if protocol == 4 or not inside:  # before 4, arrays themselves contain names that are refused
            assert f"requests {name_in_pickle}; only plain NumPy arrays" in str(caught.value)
    assert not touched.exists()


def test_the_refusal_reaches_the_user_in_three_parts(tmp_path):
    bad = gzip.compress(pickled(Calls(os.system, f"touch {tmp_path / 'touched'}")))
    for content in (wheel_of(bad, LABELLED), wheel_of(zipped(SMALL), bad)):
        with pytest.raises(DatasetError, match=r"^x\.whl cannot be used: its pickle requests posix\.system") as caught:
            read_wheel(content, "x.whl")
        assert "expected" in str(caught.value) and "fix" in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "array,text",
    [
        (np.array([{}, print], dtype=object), "an array of 'O8'"),
        (np.zeros(3, np.float32), "an array of 'f4'"),
        (np.zeros(3, "V20"), "an array of 'V20'"),
        (np.zeros(3, [("a", "u1")]), "an array of 'V1'"),
        (np.arange(3).astype(">i8"), "a different byte order"),
        (np.asfortranarray(SMALL), "impossible shape"),
        (np.zeros((1, 1, 1, 1), np.uint8), "impossible shape"),
        (np.ma.zeros(3), "numpy.ma.core._mareconstruct"),
        (np.zeros(3).view(np.recarray), "numpy.recarray"),
        ([SMALL], "opcode EMPTY_LIST"),
        ({"a": SMALL}, "opcode EMPTY_DICT"),
        ((SMALL, SMALL), "something other than an array"),
        (b"bytes", "something other than an array"),
        (np.uint8, "numpy.uint8"),
        (np.dtype, "something other than an array"),
        (np.ndarray, "something other than an array"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_arrays_and_other_objects_are_refused(array, text):
    with pytest.raises(ValueError) as caught:
        read_array(pickled(array))
    assert text in str(caught.value)


@pytest.mark.parametrize(
    "before,after,text",
    [
        # sizes that do not match the bytes: NumPy would check them too, but is not called
        (b"K\x0aK\x1cK\x1c", b"K\x0bK\x1cK\x1c", "needs 8624 bytes and has 7840"),
        (b"K\x0aK\x1cK\x1c", b"K\x09K\x1cK\x1c", "needs 7056 bytes and has 7840"),
        (b"K\x0aK\x1cK\x1c", b"J\xff\xff\xff\xffK\x1cK\x1c", "impossible shape"),
        (b"K\x0aK\x1cK\x1c", b"J\xff\xff\xff\x7fK\x1cK\x1c", "impossible shape"),
        (b"K\x0aK\x1cK\x1c", b"NK\x1cK\x1c", "impossible shape"),
        (b"K\x0aK\x1cK\x1c\x87", b"\x89K\x0a", ""),
        (b"\x8c\x02u1", b"\x8c\x02O8", "an array of 'O8'"),
        (b"\x8c\x01|", b"\x8c\x01>", "a different byte order"),
        (b"J\xff\xff\xff\xffJ\xff\xff\xff\xff", b"J\x00\x00\x01\x00J\xff\xff\xff\xff", "fields"),
        (b"K\x00\x85", b"J\xff\xff\xff\x7f\x85", None),  # the size of the empty array, which is ignored
    ],
)
def test_crafted_sizes_and_types_are_refused(before, after, text):
    valid = pickled(SMALL)
    assert valid.count(before) == 1
    start = valid.index(b"\x95")  # a FRAME: its length would no longer match, so remove it
    bad = (valid[:start] + valid[start + 9 :]).replace(before, after)
    last = bad.rindex(b"\x95")
    bad = bad[:last] + bad[last + 9 :] if struct.unpack("<Q", bad[last + 1 : last + 9])[0] < 100 else bad
    if text is None:
        assert np.array_equal(read_array(bad), SMALL)
        return
    with pytest.raises(ValueError) as caught:
        read_array(bad)
    assert text in str(caught.value)


def test_a_file_cut_anywhere_is_refused():
    complete = pickled(SMALL)
    for end in [*range(200), *range(200, len(complete), 997), len(complete) - 1]:
        with pytest.raises(ValueError):
            read_array(complete[:end])
    images = zipped(SMALL)
    wheel = wheel_of(images, LABELLED)
    cuts = [wheel_of(images[:end], LABELLED) for end in (0, 1, 5, 100, len(images) - 9, len(images) - 1)]
    cuts += [wheel[:end] for end in range(0, len(wheel), len(wheel) // 30)]
    for content in cuts:
        with pytest.raises(DatasetError, match="cannot be used"):
            read_wheel(content)


def test_damage_anywhere_is_a_dataset_error():
    rng = np.random.default_rng(0)
    wheel = wheel_of(zipped(SMALL), LABELLED, zipfile.ZIP_STORED)
    valid = pickled(SMALL)
    for _ in range(300):
        content = bytearray(wheel)
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        try:
            read_wheel(bytes(content))
        except DatasetError as error:
            assert "cannot be used" in str(error)
        head = bytearray(valid)
        head[rng.integers(200)] = int(rng.integers(256))
        with contextlib.suppress(ValueError):
            read_array(bytes(head))


# --- the archive ----------------------------------------------------------------------------------------------------


def test_a_bomb_stops_at_the_limit(monkeypatch):
    zeros = bytes(MAX_BYTES + 1)
    packed = gzip.compress(zeros)
    assert len(packed) < MAX_BYTES // 500
    with pytest.raises(DatasetError, match="unpacks to more than 16 MiB"):
        read_wheel(wheel_of(packed, LABELLED))  # gzip
    with pytest.raises(DatasetError, match="uses a compression that wheels do not use"):
        read_wheel(wheel_of(packed, LABELLED, zipfile.ZIP_BZIP2))
    monkeypatch.setattr(animals, "MAX_BYTES", 2**20)
    with pytest.raises(DatasetError, match="unpacks to more than 1 MiB"):
        read_wheel(wheel_of(zipped(SMALL) + zeros, LABELLED))  # the zip around it


def test_a_wheel_with_other_content_is_refused():
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("../../" + IMAGES, zipped(SMALL))
    for wheel, text in [
        (content.getvalue(), f"it does not contain {IMAGES}"),
        (b"", "not a zip file"),
        (wheel_of(b"plain", LABELLED), "Not a gzipped file"),
        (wheel_of(zipped(SMALL[:9]), LABELLED), r"uint8 \(9, 28, 28\) and \(10,\)"),
        (wheel_of(zipped(SMALL[:, :27]), LABELLED), "not images of 28x28"),
        (wheel_of(LABELLED, LABELLED), "not images of 28x28"),
        (wheel_of(zipped(SMALL), zipped(np.arange(10) + 1)), "its labels are not numbers from 0 to 9"),
        (wheel_of(zipped(SMALL), zipped(np.arange(10, dtype=np.uint8))), "its labels are not numbers"),
    ]:
        with pytest.raises(DatasetError, match=text):
            read_wheel(wheel)


# --- the selection of images ----------------------------------------------------------------------------------------


def test_the_two_data_sets_have_no_image_in_common_and_none_twice():
    rng = np.random.default_rng(1)
    images = rng.integers(0, 255, (10 * 520, 28, 28), np.uint8)
    labels = np.repeat(np.arange(10), 520)
    images[1::520] = images[::520]  # each animal's second image is its first
    selection = select_images(images, labels)
    indices = {name: list(files.values()) for name, files in selection.items()}
    assert [len(indices[name]) for name in ("animals9", "animals2")] == [3600, 440]
    assert len({*indices["animals9"], *indices["animals2"]}) == 4040
    assert not {*indices["animals9"], *indices["animals2"]} & set(range(1, len(images), 520))
    for files in selection.values():
        assert all(Path(file).stem == f"{ANIMALS[labels[index]]}_{index:05d}" for file, index in files.items())
    assert not any("zebra" in file for file in selection["animals9"])
    assert sum("zebra" in file for file in selection["animals2"]) == 55
    assert even_parts(20, 3) == [7, 7, 6] and even_parts(200, 4) == [50] * 4


def test_other_images_than_the_published_ones_are_discarded(tmp_path):
    with pytest.raises(
        DatasetError, match="The images of animals9 differ from those of the published results"
    ) as caught:
        write(tmp_path, "animals9", {"train/bear/bear_00001.png": 1}, SMALL)
    assert f"NumPy {np.__version__}" in str(caught.value) and not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="animals9 cannot be written: Not a directory"):
        write(tmp_path / "file", "animals9", {"train/bear/bear_00001.png": 1}, SMALL)


# --- the command ----------------------------------------------------------------------------------------------------


def test_another_file_than_the_published_one_is_not_opened(tmp_path):
    (tmp_path / "other.whl").write_bytes(wheel_of(zipped(SMALL), LABELLED))
    done = cli("data", "animals", "--wheel", "other.whl", cwd=tmp_path)
    assert done.returncode == 1 and "other.whl is not the file that these data sets are built from" in done.stderr
    assert f"found     {hashlib.sha256((tmp_path / 'other.whl').read_bytes()).hexdigest()}" in done.stderr
    assert f"expected  {SHA256}" in done.stderr and "fix" in done.stderr
    with (tmp_path / "large.whl").open("wb") as stream:
        stream.truncate(MAX_BYTES + 1)
    with pytest.raises(DatasetError, match=f"a file of more than {MAX_BYTES} bytes"):
        animals.build_animals(tmp_path, tmp_path / "large.whl")
    with pytest.raises(DatasetError, match=r"nowhere\.whl cannot be read: No such file"):
        animals.build_animals(tmp_path, tmp_path / "nowhere.whl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.whl", "other.whl"]


def test_other_folders_of_these_names_are_all_reported_and_unchanged(tmp_path):
    (tmp_path / "animals9").mkdir()
    (tmp_path / "animals9" / "mine.txt").write_text("mine")
    (tmp_path / "animals2").write_text("a file")
    done = cli("data", "animals", "--out", ".", cwd=tmp_path, env=OFFLINE)
    assert done.returncode == 1 and "pip" not in done.stderr.partition("fix")[0].replace(PACKAGE, "")
    assert "animals9  files: 1, expected 3600" in done.stderr and "animals2  not a folder" in done.stderr
    assert "move or delete them, or build elsewhere with --out" in done.stderr
    assert (tmp_path / "animals9" / "mine.txt").read_text() == "mine"
    assert (tmp_path / "animals2").read_text() == "a file" and len(list(tmp_path.iterdir())) == 2
