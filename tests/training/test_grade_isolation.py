"""grade: forged archives, texts and checkpoints, read by a real worker: each is refused with a message or harmless."""

import gzip
import json
import os
import pickle
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
from submitted import bytes_of, hidden_images, inspect, network, tar_of, zip_of

from mslab.grade import contents, looking, measuring
from mslab.grade.sandbox import Limits

MIB = 1 << 20


def hostile(tmp_path: Path) -> dict[str, tuple[Path, list[str]]]:
    """Archives, and parts of the messages expected for each."""
    regular, archives = tarfile.REGTYPE, {}

    def add(name: str, path: Path, *texts: str) -> None:
        archives[name] = (path, list(texts))

    def zipped(name: str, members: dict, *texts: str) -> None:
        add(name, zip_of(tmp_path / f"{name}.zip", members), *texts)

    def tarred(name: str, members: list, *texts: str) -> None:
        add(name, tar_of(tmp_path / f"{name}.tar.gz", members), *texts)

    out = "which leads out of its folder"
    zipped("slip", {"a.txt": "x", "../../evil": "x"}, f"the archive contains the path '../../evil', {out}")
    zipped("several", {"../a": "x", "b/../../c": "x", "d.txt": "x"}, "'../a'", "'b/../../c'")
    zipped("absolute", {"/tmp/mslab-evil": "x"}, out)
    zipped("drive", {"C:\\evil": "x"}, out)
    tarred("tar-slip", [("a/../../evil", regular, b"x")], out)
    tarred("symlink", [("a", tarfile.SYMTYPE, b"")], "a is a link; only files are accepted")
    tarred("hardlink", [("a.txt", regular, b"x"), ("b", tarfile.LNKTYPE, b"")], "b is a link")
    tarred("device", [("null", tarfile.CHRTYPE, b""), ("pipe", tarfile.FIFOTYPE, b"")], "null is a device", "pipe is a")
    tarred("twice", [("a.txt", regular, b"x"), ("./a.txt", regular, b"y")], "it contains a.txt twice")
    zipped("case", {"Best.ckpt": "x", "best.ckpt": "y"}, "Best.ckpt and best.ckpt, one file on some systems")
    zipped("both", {"a": "x", "a/b": "y"}, "a/b both as a file and as a folder")
    zipped("bomb", {"zeros": bytes(80 * MIB)}, "unpacks to more than")
    zipped("many", {f"{n}.txt": "" for n in range(2100)}, "it contains more than 2,000 files and folders")
    zipped(
        "names", {f"{'/'.join(['x' * 200] * 5)}/{n}": "" for n in range(1200)}, "its file names take more than 1 MiB"
    )
    zipped("long", {"x" * 300: "x"}, "which is too long for a file name")
    zipped("empty", {}, "the submission contains no files")
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    zipped("zip-link", {link: "/etc/passwd"}, "link is a link")
    complete = zip_of(tmp_path / "whole.zip", {"a.txt": "x" * 1000}).read_bytes()
    locked = bytearray(complete)
    locked[6] |= 1
    locked[complete.rindex(b"PK\x01\x02") + 8] |= 1
    for name, content, text in (
        ("encrypted.zip", bytes(locked), "it has a password"),
        ("cut.zip", complete[: len(complete) // 2], "is not a zip or tar archive"),
        ("damaged.zip", complete.replace(b"x", b"y", 1)[:40] + b"\xff" * 4 + complete[44:], "damaged"),
        ("nameless.zip", complete.replace(b"a.txt", b"\0.txt"), "the submission contains no files"),
        ("text.zip", b"hello", "is not a zip or tar archive"),
        ("nothing.zip", b"", "is not a zip or tar archive"),
    ):
        (tmp_path / name).write_bytes(content)
        add(name, tmp_path / name, text)
    add("missing", tmp_path / "missing.zip", "the submission cannot be read: No such file or directory")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to("/etc/passwd"), (folder / "a.txt").write_text("x"), os.mkfifo(folder / "pipe")
    add("folder", folder, "link is a link", "pipe is a device")
    return archives


def test_harmful_archives_are_refused_with_a_reason(tmp_path):
    (tmp_path / "in").mkdir()
    before = None
    for number, (name, (path, texts)) in enumerate(hostile(tmp_path / "in").items()):
        box = tmp_path / f"box{number}"
        box.mkdir()
        # the function that the worker calls; in the worker the sandbox also limits what it may write
        submission = contents.gather(path, box / "submission", looking.LIMITS, [])
        assert submission.problems and submission.files == {}, name
        for text in texts:
            assert any(text in problem for problem in submission.problems), (name, submission.problems)
        assert not any(str(tmp_path) in problem for problem in submission.problems), (name, submission.problems)
        assert [path.name for path in box.iterdir()] in ([], ["submission"]), name
        before = before or sorted(path.name for path in (tmp_path / "in").iterdir())
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == before
    assert not Path("/tmp/mslab-evil").exists() and not (tmp_path / "evil").exists()


def test_an_archive_that_needs_too_much_memory_is_refused(tmp_path):
    path = tmp_path / "x.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:  # a name of 400 MiB
        member = tarfile.TarInfo("././@LongLink")
        member.type, member.size = tarfile.GNUTYPE_LONGNAME, 400 * MIB
        file.write(member.tobuf(tarfile.GNU_FORMAT) + bytes(400 * MIB))
    measurement = inspect(tmp_path, path, within=Limits(seconds=30, memory=300 * MIB))
    assert measurement.facts["problems"] == [
        "the archive is damaged or has a format that Python cannot unpack: its headers have more than 1 MiB."
    ], measurement.log


def test_a_refused_submission_is_an_answer_without_facts(tmp_path):
    measurement = inspect(
        tmp_path, zip_of(tmp_path / "x.zip", {"../x": "x", "nine/best.ckpt": "x"}), {"nine": ["nine/best.ckpt"]}
    )
    assert not measurement.died and measurement.facts["networks"] == {} and measurement.facts["files"] == {}
    assert measurement.facts["problems"] == ["the archive contains the path '../x', which leads out of its folder."]


def test_a_folder_at_the_top_is_the_submission(tmp_path):
    members = {"smith/nine/config.yaml": "epochs: 1", "smith/notes.txt": "x", "__MACOSX/smith/._notes.txt": "x"}
    members |= {"smith/inner.zip": zip_of(tmp_path / "inner.zip", {"../x": "x"}).read_bytes()}  # stays a file
    measurement = inspect(tmp_path, zip_of(tmp_path / "x.zip", members), {"nine": ["nine/best.ckpt"]})
    assert measurement.facts["top"] == "smith" and set(measurement.facts["files"]) == {
        "nine/config.yaml",
        "notes.txt",
        "inner.zip",
    }
    assert measurement.facts["configs"] == {"nine/config.yaml": {"values": {"epochs": 1}}}
    assert measurement.facts["networks"]["nine"]["error"] == "it was not handed in: there is no nine/best.ckpt"


HEADER = "epoch,step,lr,train_loss,train_acc,val_loss,val_acc,images_per_s,seconds"


def test_files_of_every_kind_are_read_or_refused(tmp_path):
    bomb = "a: &a [x, x]\n" + "".join(
        f"{k}: &{k} [*{p}, *{p}, *{p}, *{p}]\n" for p, k in zip("abcdefghi", "bcdefghij", strict=True)
    )
    members = {
        "good.yaml": "epochs: 12\nlr: 1e-4\nno: no\nnames: [a, b]\nrate: .nan\nday: 2026-01-02\n",
        "huge.yaml": "batch_size: 100000000000\nmax_device_memory: 100GB\n",
        "bomb.yaml": bomb,
        "deep.yaml": "[" * 500 + "]" * 500,
        "code.yaml": "a: !!python/object/apply:os.system ['true']",
        "digits.yml": "a: " + "9" * 5000,
        "broken.yaml": "a: [1\nb: 2",
        "list.yaml": "- 1",
        "long.yaml": "a: 1 # " + "x" * 70_000,
        "latin.yaml": "a: é".encode("latin-1"),
        "good.json": json.dumps({"accuracy": 0.5, "text": "x\x1b[2J" + "y" * 3000, "big": 10**30}),
        "deep.json": "[" * 100_000 + "]" * 100_000,
        "nested.json": "[" * 50 + "]" * 50,
        "many.json": json.dumps(list(range(30_000))),
        "nan.json": '{"a": NaN, "b": Infinity}',
        "broken.json": "{",
        "history.csv": f"{HEADER}\n1,10,0.1,1.5,0.2,1.0,0.50,99,3.5\n2,20,0.1,1.0,0.3,,,99,3.5\n",
        "b/history.csv": f"{HEADER}\n1,10,0.10,1.50,0.2,1.0,0.5,50,9.0\n2,20,0.1,1.0,0.3,,,1,1\n",
        "million/history.csv": f"{HEADER}\n" + "1,1,1,1,1,1,1,1,1\n" * 1_000_000,
        "rows/history.csv": f"{','.join(contents.DIGEST_COLUMNS)}\n" + ",,,,,\n" * 100_001,
        "columns/history.csv": "epoch,loss\n1,2\n",
        "ragged/history.csv": f"{HEADER}\n1,2\n",
        "predictions.csv": "file,class,probability,error,p(a)\na.png,a,0.9,,0.9\n'=b.png,'-b,0.8,,0.1\nc.png,,,x,\n",
        "twice.csv": "file,class\na,b\na,c\n",
        "other.csv": "name,label\na,b\n",
        "quoted.csv": 'file,class\n"' + "x" * 200_000 + '",b\n',
    }
    tables = [name for name in members if name.endswith(".csv") and "history" not in name]
    measurement = inspect(tmp_path, zip_of(tmp_path / "x.zip", members), predictions=[*tables, "missing.csv"])
    assert not measurement.died and not measurement.facts["problems"], (measurement.facts["problems"], measurement.log)
    facts, errors = measurement.facts, {}
    for section in ("configs", "json", "histories", "predictions"):
        errors |= {name: value["error"] for name, value in facts[section].items() if "error" in value}
    good = {"epochs": 12, "lr": 1e-4, "no": "no", "names": ["a", "b"], "rate": "nan", "day": "2026-01-02"}
    assert facts["configs"]["good.yaml"] == {"values": good}
    assert facts["configs"]["huge.yaml"] == {"values": {"batch_size": 10**11, "max_device_memory": "100GB"}}
    values = facts["json"]["good.json"]["values"]
    assert values["big"] == "a number too large" and "\x1b" not in values["text"] and len(values["text"]) == 2000
    assert facts["json"]["nan.json"] == {"values": {"a": "nan", "b": "inf"}}
    assert facts["histories"]["history.csv"]["rows"] == 2
    assert facts["histories"]["history.csv"]["digest"] == facts["histories"]["b/history.csv"]["digest"]
    assert (
        facts["histories"]["history.csv"]["last"] | {"val_acc": None, "epoch": 2.0}
        == facts["histories"]["history.csv"]["last"]
    )
    assert facts["predictions"]["predictions.csv"] == {"rows": {"a.png": "a", "=b.png": "-b", "c.png": ""}}
    assert "missing.csv" not in facts["predictions"]
    expected = {
        "bomb.yaml": "more than 20,000 values",
        "deep.yaml": "nested deeper than 20 levels",
        "code.yaml": "line 1: it is not valid YAML",
        "digits.yml": "is not valid YAML: Exceeds the limit",
        "broken.yaml": ": it is not valid YAML",
        "list.yaml": "contains no settings; expected lines like 'epochs: 12'",
        "long.yaml": "at most 65,536 are read",
        "latin.yaml": "not UTF-8 text",
        "deep.json": "nested too deeply",
        "nested.json": "nested deeper than 20 levels",
        "many.json": "more than 20,000 values",
        "broken.json": "is not valid JSON",
        "million/history.csv": "at most 4,194,304 are read",
        "rows/history.csv": "more than 100,000 rows",
        "columns/history.csv": "has no column lr, train_loss",
        "ragged/history.csv": "row 1 has 2 cells; the first line has 9",
        "twice.csv": "lists a twice",
        "other.csv": "has no column file, class; its first line is 'name,label'",
        "quoted.csv": "is not valid CSV: field larger",
    }
    assert errors.keys() == expected.keys()
    assert not {name: errors[name] for name in expected if expected[name] not in errors[name]}
    assert str(tmp_path) not in json.dumps(facts)


def test_facts_that_would_be_too_long_lose_their_longest_entries(tmp_path):
    rows = "file,class\n" + "".join(f"{n:06}{'x' * 100},{'y' * 100}\n" for n in range(15_000))
    members = {"a.csv": rows, "b.csv": rows.replace("y", "z"), "c.csv": "file,class\na,b\n"}
    measurement = inspect(tmp_path, zip_of(tmp_path / "x.zip", members), predictions=list(members))
    predictions = measurement.facts["predictions"]
    assert "contains more than is read" in json.dumps([predictions["a.csv"], predictions["b.csv"]])
    assert predictions["c.csv"] == {"rows": {"a": "b"}}


def safetensors(header: dict | bytes, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def test_forged_checkpoints_are_refused_before_anything_is_built(tmp_path):
    tensors, info = network()
    good = bytes_of(tmp_path, tensors, info)
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    many = [f"class {n}" for n in range(100_000)]
    wide, wide_info = network(many)
    deep = [[250, 1, 1]]
    deep_tensors, deep_info = network(stages=deep)
    infinite = {"layer1.0.conv1.weight": np.full_like(tensors["layer1.0.conv1.weight"], np.nan)}
    cases = {
        "forged": (good[:5000], "is not a complete MindSpore checkpoint"),
        "sizes": (good.replace(b"Float32", b"Float64"), "needs"),
        "nan": (bytes_of(tmp_path, tensors | infinite, info), "weights that are not finite: layer1.0.conv1.weight"),
        "pickle": (pickle.dumps({"a": 1}), "is a bare pickle"),
        "overlap": (safetensors({"a": entry, "b": entry}, bytes(4)), "begins at byte 0 instead of 4"),
        "header": (safetensors(b"{" + b" " * 100, length=2**40), "is not a complete"),
        "blocks": (bytes_of(tmp_path, tensors, info | {"stages": [[10**9, 8, 1]]}), "invalid value of stages: row 1"),
        "table": (bytes_of(tmp_path, tensors, info | {"stages": [[1, 8, 1], [1, 16, 2]]}), "Expected"),
        "deep": (bytes_of(tmp_path, deep_tensors, deep_info), "250 blocks, at most 200 are allowed"),
        "classes": (bytes_of(tmp_path, wide, wide_info), "100,000 classes, at most 1,000 are allowed"),
        "names": (bytes_of(tmp_path, tensors, info | {"class_names": many}), "100,000 classes, at most 1,000"),
        "pixels": (bytes_of(tmp_path, tensors, info | {"image_size": 4096}), "4,096 pixels, at most 512 are allowed"),
        "std": (bytes_of(tmp_path, tensors, info | {"std": [0.5, 0.0, 0.5]}), "invalid value of std.1"),
        "headless": (
            bytes_of(tmp_path, {k: v for k, v in tensors.items() if "class" not in k}, info),
            "without a head",
        ),
        "empty": (b"", "it has 0 bytes"),
        "text": (b"hello", "is a text file"),
    }
    source = zip_of(tmp_path / "x.zip", {f"{name}.ckpt": content for name, (content, _) in cases.items()})
    measurement = inspect(
        tmp_path, source, {name: ["no.ckpt", f"{name}.ckpt"] for name in cases}, relations=[["nan", "std"]]
    )
    assert not measurement.died and measurement.logits == {}, measurement.log
    for name, (_, text) in cases.items():
        facts = measurement.facts["networks"][name]
        assert facts["file"] == f"{name}.ckpt" and text in facts.get("error", ""), (name, facts)
        assert str(tmp_path) not in facts["error"]
    error = measurement.facts["relations"]["nan<std"]["error"]
    assert error.startswith("nan: it has weights that are not finite") and "invalid value of std.1" in error
    limited = inspect(tmp_path, source, {"pixels": ["pixels.ckpt"]}, limits={"weights": 100})
    assert "a network may have 100 weights" in limited.facts["networks"]["pixels"]["error"]


def test_hidden_images_are_pixels_in_an_order_that_reveals_nothing(tmp_path, monkeypatch):
    images, _ = hidden_images(tmp_path)
    path = images.path(32, 36)
    pixels = np.load(path, allow_pickle=False)
    assert pixels.shape == (21, 32, 32, 3) and pixels.dtype == np.uint8 and images.path(32, 36) == path
    shuffled = images.labels[images.order]
    assert len(set(shuffled[:7])) > 1 and list(images.labels) == sorted(images.labels)
    from mslab.data import augment

    steps = augment.eval_transforms(32, [0.0] * 3, [1 / 255] * 3, 36)
    for position in (0, 20):
        x = np.fromfile(images.images.files[images.order[position]], np.uint8)
        for step in steps:
            x = step(x)
        assert np.array_equal(pixels[position], x.transpose(1, 2, 0).round())
    # students choose sizes; files that no worker reads are deleted
    paths = [images.path(size, size) for size in (16, 17, 18)]
    images.release(paths[0])
    monkeypatch.setattr(measuring, "IMAGES_BYTES", 1)
    last = images.path(19, 19)
    assert [path.exists() for path in (*paths, last)] == [False, True, True, True]
    assert np.array_equal(images.in_order(shuffled[:, None])[:, 0], images.labels)
