"""Archives of others: whatever they claim, they cost little memory and time. Honest ones of every kind are read."""

import bz2
import gzip
import io
import lzma
import os
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile

import pytest
from helpers import PROJECT

from mslab.data import archives
from mslab.data.archives import Budget, open_archive
from mslab.errors import DatasetError

MIB = 1 << 20


def contents(path, max_bytes=archives.MAX_BYTES):
    """{name: content} of the archive's files."""
    with open_archive(path, Budget(path, path.stat().st_size, max_bytes)) as members:
        return {member.name: b"".join(member.chunks()) for member in members if member.kind == "file"}


def header(name="a/x.png", size=b"00000000000\0", kind=b"0", **fields):
    """A block of a tar. `fields`: offset as f123 -> bytes."""
    block = bytearray(512)
    block[: len(name)], block[124 : 124 + len(size)], block[156:157] = name.encode(), size, kind
    block[257:265] = b"ustar\x0000"
    for offset, value in fields.items():
        block[int(offset[1:]) : int(offset[1:]) + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def octal(size):
    return b"%011o\0" % size


def binary(size):
    """A size in GNU's binary form, which tarfile also reads below zero."""
    return size.to_bytes(12, "big", signed=True) if size < 0 else b"\x80" + size.to_bytes(11, "big")


def padded(content):
    return content + bytes(-len(content) % 512)


def extended(content, kind=b"x"):
    """An extended header, and a file after it."""
    return header("pax", octal(len(content)), kind) + padded(content) + header() + bytes(1024)


def record(key, value):
    """record(b"size", b"-1") -> b"11 size=-1\\n" """
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest) + len(str(len(rest)))
    return str(length + (len(str(length)) > len(str(len(rest))))).encode() + rest


def deep_zip(change):
    """A zip of two files, after `change(content, position of the second file's entry in the directory)`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a/x.png", b"x" * 100), file.writestr("a/y.png", b"y" * 100)
    content = bytearray(buffer.getvalue())
    change(content, content.rindex(b"PK\x01\x02"))
    return bytes(content)


def put(at, layout, *values):
    return lambda content, entry: struct.pack_into(layout, content, entry + at, *values)


PNG = b"x" * 600
TARS = {
    "a link of -2^60 bytes": header(size=binary(-(2**60)), kind=b"2") + header(size=octal(600)) + padded(PNG),
    "a folder of -512 bytes": header("a", binary(-512), b"5"),
    "an unknown type of -512 bytes": header("a", binary(-512), b"Z"),
    "a file of -1 bytes": header(size=binary(-1)),
    "a device of -512 bytes": header("a", binary(-512), b"3"),
    "a file with a minus": header(size=b"-0000000777\0"),
    "a link beyond the file": header(size=octal(2**30), kind=b"1"),
    "a folder beyond the file": header(size=octal(2**30), kind=b"5"),
    "a file beyond the file": header(size=binary(2**60)),
    "a long name of -512 bytes": header("long", binary(-512), b"L") + header(),
    "a long link of -512 bytes": header("long", binary(-512), b"K") + header(),
    "an extended header of -512 bytes": header("pax", binary(-512), b"x") + header(),
    "a global header of -512 bytes": header("pax", binary(-512), b"g") + header(),
    "an extended size below zero": extended(record(b"size", b"-512")),
    "an extended size of a link": header("p", octal(24), b"x") + padded(record(b"size", b"9" * 15)) + header(kind=b"2"),
    "an extended size for all files": extended(record(b"size", b"-512"), b"g"),
    "a record of no bytes": extended(b"0 size=1\n"),
    "a record beyond its header": extended(b"99 size=1\n"),
    "a record that goes backwards": extended(b"3 path=x\n"),
    "a sparse file of -512 bytes": header(kind=b"S", f483=binary(-512)),
    "a sparse file with a hole below zero": header(kind=b"S", f386=binary(-512) + octal(0), f483=octal(9)),
    "a sparse file of more bytes than the disk": header(kind=b"S", f483=binary(2**60)),
    "a sparse file with overlapping parts": (
        header(size=octal(600), kind=b"S", f386=octal(0) + octal(300) + octal(200) + octal(300), f483=octal(600))
        + padded(PNG)
    ),
    "a sparse file with parts that are not stored": header(kind=b"S", f386=octal(0) + octal(600), f483=octal(600)),
    "a sparse map without an end": header(kind=b"S", f482=b"\1") + (bytes(504) + b"\1" + bytes(7)) * 3000,
    "a sparse map in a record": extended(record(b"GNU.sparse.map", b"0,-9") + record(b"GNU.sparse.size", b"9")),
    "an odd sparse map": extended(record(b"GNU.sparse.map", b"0,0,9") + record(b"GNU.sparse.size", b"9")),
    "a sparse map before nothing": extended(
        record(b"GNU.sparse.major", b"1") + record(b"GNU.sparse.minor", b"0") + record(b"GNU.sparse.realsize", b"9")
    ),
    "a wrong checksum later": header() + header().replace(b"a/x", b"a/y") + bytes(1024),
    "half a header": header() + header()[:100],
    # what takes tarfile quadratic time, or all memory
    "an extended header of digits": extended(b"1" * MIB),
    "a name of digits": extended(record(b"path", b"1" * (MIB - 100) + b" hdrcharset=")),
    "records inside each other": extended(b"2 " * (MIB // 2 - 10)),
    "sizes of spaces": extended(record(b"size", b" " * (MIB - 100) + b"x")),
    "a thousand headers before one file": header("long", octal(9), b"L") * 3000,
    "headers of 300 MiB": (header("pax", octal(300 * MIB), b"x") + bytes(300 * MIB) + header()),
    "a name of 300 MiB": (header("long", octal(300 * MIB), b"L") + bytes(300 * MIB) + header()),
}
ZIPS = {
    "a negative place": put(42, "<I", 2**32 - 1),
    "two entries of one file": put(42, "<I", 0),
    "a file larger than the archive": put(20, "<I", 2**31),
    "a file that begins in the directory": put(42, "<I", 250),
    "bzip2 that is none": put(10, "<H", 12),
    "lzma that is none": put(10, "<H", 14),
    "an unknown compression": put(10, "<H", 97),
    "another name in the file": put(46, "<B", 66),
}

PROGRAM = """
import json, resource, sys
from pathlib import Path
from mslab.data.archives import Budget, open_archive, safe_parts
resource.setrlimit(resource.RLIMIT_AS, (700 << 20, 700 << 20))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
for line in sys.stdin:
    path, count = Path(line.rstrip()), 0
    try:
        with open_archive(path, Budget(path, path.stat().st_size)) as members:
            for member in members:
                safe_parts(path, member.name)
                for chunk in member.chunks() if member.kind == "file" else ():
                    count += len(chunk)
        print(f"accepted {count}", flush=True)
    except Exception as error:
        print(type(error).__name__, str(error).splitlines()[0][-200:], flush=True)
"""


def test_harmful_archives_are_refused_with_little_memory_and_time(tmp_path):
    """One process with 700 MiB and a minute reads them all."""
    paths = []
    for number, (name, content) in enumerate(TARS.items()):
        paths.append(tmp_path / f"{number}.tar")
        with gzip.open(paths[-1], "wb", 1) if "MiB" in name else paths[-1].open("wb") as file:
            file.write(content)
    for number, change in enumerate(ZIPS.values()):
        paths.append(tmp_path / f"{number}.zip")
        paths[-1].write_bytes(deep_zip(change))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input="".join(f"{path}\n" for path in paths),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
    )
    answers = dict(zip([*TARS, *ZIPS], done.stdout.splitlines(), strict=False))
    assert len(answers) == len(paths), (done.returncode, done.stderr, done.stdout.splitlines()[-1:])
    expected = ("damaged", "which is too long")
    wrong = {name: line for name, line in answers.items() if not any(text in line for text in expected)}
    assert wrong == {}


def bomb(method):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        file.writestr("a/x.png", bytes(32 * MIB))
    return buffer.getvalue()


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED], ids=str)
def test_a_zip_inflates_no_more_at_once_than_is_read(tmp_path, method):
    path = tmp_path / "x.zip"
    path.write_bytes(bomb(method))
    tracemalloc.start()
    try:
        with open_archive(path, Budget(path, path.stat().st_size)) as members:
            assert sum(len(chunk) for member in members for chunk in member.chunks()) == 32 * MIB
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB  # lzma's dictionary takes 8
    finally:
        tracemalloc.stop()


def test_an_lzma_stream_may_not_ask_for_all_memory(tmp_path):
    path = tmp_path / "x.tar.xz"
    small = lzma.compress(header() + bytes(1024), lzma.FORMAT_ALONE)
    path.write_bytes(small[:1] + struct.pack("<I", 2**31) + small[5:])  # a dictionary of 2 GiB
    with pytest.raises(DatasetError, match="Memory usage limit"):
        contents(path)
    content = bytearray(bomb(zipfile.ZIP_LZMA))
    at = 30 + len("a/x.png") + 5
    content[at : at + 4] = struct.pack("<I", 2**31)
    path.write_bytes(content)
    with pytest.raises(DatasetError, match="need 2048 MiB of memory"):
        contents(path)


def test_headers_count_like_files(tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(header("a", kind=b"5") * 201)
    assert contents(path, 201 * 512) == {}
    with pytest.raises(DatasetError, match="unpacks to more than"):
        contents(path, 200 * 512)


def test_a_directory_of_a_zip_has_a_limit(tmp_path, monkeypatch):
    path = tmp_path / "x.zip"
    path.write_bytes(deep_zip(lambda *_: None))
    assert set(contents(path)) == {"a/x.png", "a/y.png"}
    monkeypatch.setattr("mslab.files.open_zip.__defaults__", (50,))
    with pytest.raises(DatasetError, match="its directory has more than 50 bytes"):
        contents(path)


FILES = {"a/x.png": b"x" * 600, "b/" + "long" * 35 + "/ü.png": os.urandom(70_000), "b/empty.png": b""}


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tars_of_every_format_are_read(tmp_path, format):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=format) as file:
        for name, content in FILES.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.pax_headers = len(content), 1.5, {"comment": "ü" * 300}
            if format == tarfile.USTAR_FORMAT:
                info.mtime, info.pax_headers = 1, {}
            file.addfile(info, io.BytesIO(content))
    assert contents(path) == FILES


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress], ids=lambda pack: pack.__module__)
def test_a_tar_in_several_compressed_streams_is_read(tmp_path, pack):
    """As parallel compressors write it, and padded as tapes were."""
    content = header(size=octal(600)) + padded(PNG) + header("b/y.png", octal(600)) + padded(PNG) + bytes(1024)
    path = tmp_path / "x.tar.packed"
    path.write_bytes(pack(content[:700]) + pack(b"") + pack(content[700:]) + bytes(512))
    assert contents(path) == {"a/x.png": PNG, "b/y.png": PNG}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zips_of_every_compression_are_read(tmp_path, method):
    path = tmp_path / "x.zip"
    path.write_bytes(b"#!/bin/sh\n")  # such as an archive that unpacks itself
    with zipfile.ZipFile(path, "a", method) as file:
        for name, content in FILES.items():
            file.writestr(name, content)
    assert contents(path) == FILES
    damaged = bytearray(path.read_bytes())
    damaged[damaged.rindex(b"PK\x01\x02", 0, damaged.rindex(b"PK\x01\x02")) + 16] ^= 1  # a checksum
    path.write_bytes(damaged)
    with pytest.raises(DatasetError, match="is damaged"):
        contents(path)


@pytest.mark.parametrize("options", ["gnu", "pax --sparse-version=0.0", "pax --sparse-version=0.1", "pax"])
def test_sparse_files_are_read(tmp_path, options):
    """GNU tar stores files with holes in four ways."""
    with (tmp_path / "x.png").open("wb") as file:
        for number in range(60):
            file.seek(number * 9000)
            file.write(b"%d" % number)
        file.truncate(MIB)
    before = (tmp_path / "x.png").read_bytes()
    (tmp_path / "y.png").write_bytes(PNG)
    command = ["tar", "--sparse", *f"--format={options}".split(), "-C", tmp_path, "-cf", tmp_path / "x.tar"]
    subprocess.run([*command, "x.png", "y.png"], check=True)
    assert (tmp_path / "x.tar").stat().st_size < MIB
    assert contents(tmp_path / "x.tar") == {"x.png": before, "y.png": PNG}
