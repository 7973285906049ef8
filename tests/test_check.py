"""The checker, on real files: each finding is provoked, and the lab's own case is shown beside plain MindSpore."""

import os
import shutil
import stat
import subprocess
import sys

import pytest
from conftest import PROJECT, cli, draw
from PIL import Image

from mslab import check
from mslab.check import check_dataset, move_aside
from mslab.errors import DatasetError


@pytest.fixture
def root(tmp_path):
    return draw(tmp_path / "set", ["a", "b", "c"], 3)


def codes(report):
    return {(finding.code, finding.path) for finding in report.findings}


def test_a_clean_folder_has_no_finding(root):
    report = check_dataset(root, class_num=3)
    assert report.ok and report.findings == [] and report.class_names == ["a", "b", "c"]
    assert report.counts == {"": {"a": 3, "b": 3, "c": 3}} and len(report.fingerprint) == 64
    files, labels = report.samples("")
    assert labels == [0, 0, 0, 1, 1, 1, 2, 2, 2] and files[3] == root / "b" / "000.png"


def test_the_labs_own_case_one_error_that_names_the_folder(root):
    (root / ".checkpoint").mkdir()
    report = check_dataset(root, class_num=3)
    assert [finding.code for finding in report.errors] == ["stray-folder"]
    with pytest.raises(DatasetError) as caught:
        report.raise_errors("x.yaml says class_num: 3")
    text = str(caught.value)
    assert text.startswith(f"{root} has 4 class folders, x.yaml says class_num: 3.")
    assert ".checkpoint/ (empty; no class of images. MindSpore would make it class 0 and shift every label" in text
    assert f"mslab check {root} --fix    moves it to {root}.quarantine/" in text and "expected" in text


def test_plain_mindspore_shifts_every_label_by_the_same_folder(root):
    import mindspore.dataset as ds

    def labels():
        return sorted({int(y) for _, y in ds.ImageFolderDataset(str(root), shuffle=False).create_tuple_iterator()})

    assert labels() == [0, 1, 2]
    (root / ".checkpoint").mkdir()
    assert labels() == [1, 2, 3]  # what the check is for: no error, every label moved


@pytest.mark.parametrize(
    "name", ["__MACOSX", ".ipynb_checkpoints", ".git", "@eaDir", "lost+found", "kernel_meta", "rank_0"]
)
def test_junk_folders_are_strays(root, name):
    (root / name).mkdir()
    (root / name / "x.txt").write_text("x")
    assert codes(check_dataset(root)) == {("stray-folder", f"{name}/")}


def test_an_empty_class(root):
    (root / "d").mkdir()
    assert codes(check_dataset(root)) == {("empty-class", "d/")}


def test_class_num_that_disagrees_names_the_folders(root):
    report = check_dataset(root, class_num=2)
    assert codes(report) == {("class-count", ".")}
    assert "has 3 class folders (a, b, c), class_num says 2" in report.findings[0].message
    assert report.findings[0].fix == "class_num: 3, or the folder with 2 classes"


def test_train_and_val_that_disagree(tmp_path):
    draw(tmp_path / "train", ["a", "b"], 2)
    draw(tmp_path / "val", ["a", "c"], 2)
    report = check_dataset(tmp_path / "train", tmp_path / "val")
    assert codes(report) == {("class-missing", "val/b/"), ("class-extra", "val/c/")}


def test_a_parent_of_splits_is_recognised_and_a_split_given_for_another_level(tmp_path):
    for split in ("train", "val"):
        draw(tmp_path / "p" / split, ["a", "b"], 2)
    assert set(check_dataset(tmp_path / "p").splits) == {"train", "val"}
    report = check_dataset(tmp_path / "p", tmp_path / "p" / "val")
    assert ("wrong-level", "train") in codes(report) and "holds the splits train, val" in str(report)
    report = check_dataset(tmp_path / "p" / "train" / "a")
    assert codes(report) >= {("wrong-level", ".")} and "it is one class" in str(report)


def test_folders_and_files_that_do_not_belong(root):
    (root / "a" / "deep").mkdir()
    (root / "b" / "Thumbs.db").write_bytes(b"x")
    (root / "readme.txt").write_text("x")
    report = check_dataset(root)
    assert codes(report) == {("nested-folder", "a/deep/"), ("stray-file", "b/Thumbs.db"), ("loose-file", "readme.txt")}
    assert [finding.severity for finding in report.findings] == ["error", "warning", "warning"]


def test_plain_mindspore_stops_at_a_nested_folder_in_the_middle_of_an_epoch(root):
    import mindspore.dataset as ds

    (root / "a" / "deep").mkdir()
    with pytest.raises(RuntimeError, match="directory"):
        list(ds.ImageFolderDataset(str(root), shuffle=False).create_tuple_iterator())


def test_suffixes_in_capitals_are_images(root):
    (root / "a" / "000.png").rename(root / "a" / "000.PNG")
    report = check_dataset(root)
    assert report.ok and report.counts[""]["a"] == 3


def test_broken_images(root):
    whole = root / "whole.jpg"
    Image.effect_noise((64, 64), 90).convert("RGB").save(whole)
    content = whole.read_bytes()
    whole.unlink()
    (root / "a" / "cut.jpg").write_bytes(content[: len(content) // 2])
    (root / "a" / "header.jpg").write_bytes(content[:200])
    (root / "a" / "empty.png").write_bytes(b"")
    (root / "a" / "text.png").write_text("no image")
    Image.new("RGB", (8, 8)).save(root / "a" / "anim.gif")
    Image.new("RGB", (8, 8)).save(root / "a" / "web.webp")
    Image.new("RGB", (8, 8)).save(root / "a" / "named.png", format="GIF")
    found = {path: code for code, path in codes(check_dataset(root))}
    assert found.pop("a/header.jpg") in ("truncated", "unreadable")
    assert found == {
        "a/cut.jpg": "truncated",
        "a/empty.png": "zero-byte",
        "a/text.png": "unreadable",
        "a/anim.gif": "format",
        "a/web.webp": "format",
        "a/named.png": "format",
    }


def test_a_jpeg_cut_in_its_header_kills_plain_mindspore_and_is_one_finding_here(root):
    noise = root / "a" / "x.jpg"
    Image.effect_noise((64, 64), 90).convert("RGB").save(noise)
    whole = noise.read_bytes()
    header = whole.index(b"\xff\xda")  # start of scan: everything before it is header
    script = "import sys, numpy as np, mindspore.dataset.vision as v; v.Decode()(np.fromfile(sys.argv[1], np.uint8))"
    deadly = None
    for end in (header, header - 4, header + 2, header // 2, header - 200):
        noise.write_bytes(whole[:end])
        died = subprocess.run([sys.executable, "-c", script, noise], capture_output=True, cwd=root.parent)
        if died.returncode < 0:
            deadly = end
            break
    assert deadly, "MindSpore no longer dies on any of these files: FACTS and the reason for the worker have changed"
    assert {path for _, path in codes(check_dataset(root))} == {"a/x.jpg"}


def test_a_worker_that_dies_or_hangs_is_a_finding_and_the_check_goes_on(root, monkeypatch):
    monkeypatch.setattr(check, "SECONDS", 3)
    for name in ("die", "hang"):
        (root / "b" / f"{name}.png").write_bytes((root / "b" / "000.png").read_bytes())
    patch = root.parent / "patch" / "sitecustomize.py"
    patch.parent.mkdir()
    patch.write_text(  # a real process, made to fail on two files
        "import sys, os, PIL.Image as I\nold = I.open\ndef open(p, *a):\n"
        "    p = str(p)\n    if p.endswith('die.png'): os.kill(os.getpid(), 11)\n"
        "    if p.endswith('hang.png'): __import__('time').sleep(60)\n    return old(p, *a)\nI.open = open\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(patch.parent))
    report = check_dataset(root)
    assert codes(report) == {("crash", "b/die.png"), ("timeout", "b/hang.png")}
    assert "died with exit code -11" in str(report) and report.counts[""]["c"] == 3


def test_fix_moves_to_quarantine_and_deletes_nothing(root):
    (root / ".checkpoint").mkdir()
    (root / ".checkpoint" / "x").write_text("x")
    (root / "a" / "deep").mkdir()
    (root / "b" / "text.png").write_text("no image")
    done = cli("check", root, "--fix", "--classes", 3)
    assert done.returncode == 0, done.stderr
    assert check_dataset(root, class_num=3).findings == []
    quarantine = root.with_name("set.quarantine")
    left = {path.relative_to(quarantine).as_posix() for path in quarantine.rglob("*")}
    assert left == {".checkpoint", ".checkpoint/x", "a", "a/deep", "b", "b/text.png"}


def test_fix_refuses_to_leave_a_class_empty(root):
    for path in (root / "a").iterdir():
        path.write_text("no image")
    (root / ".checkpoint").mkdir()
    with pytest.raises(DatasetError, match="would be left without images"):
        move_aside(check_dataset(root))
    assert (root / ".checkpoint").is_dir()


def test_many_findings_stay_readable(root):
    for number in range(60):
        (root / "a" / f"x{number}.png").write_text("no image")
    text = str(check_dataset(root))
    assert "… and 55 more" in text and len(text.splitlines()) < 20


def test_a_missing_folder(tmp_path):
    with pytest.raises(DatasetError, match=r"There is no folder .*nowhere"):
        check_dataset(tmp_path / "nowhere")


def test_the_fingerprint_follows_names_and_contents(root):
    first = check_dataset(root).fingerprint
    assert check_dataset(root).fingerprint == first
    shutil.copy(root / "a" / "000.png", root / "b" / "000.png")
    second = check_dataset(root).fingerprint
    (root / "b" / "000.png").rename(root / "b" / "new.png")
    assert len({first, second, check_dataset(root).fingerprint}) == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(root):
    (root / "a" / "000.png").chmod(0)
    assert codes(check_dataset(root)) == {("permission", "a/000.png")}
    (root / "a" / "000.png").chmod(stat.S_IRUSR)


def test_a_script_without_a_main_guard_can_check(root):
    script = f"import mslab\nprint(mslab.check_dataset({str(root)!r}).ok)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=PROJECT, timeout=60)
    assert done.stdout == "True\n", done.stderr


def test_bad_images_never_pass_and_never_end_the_check(tmp_path, test_data):
    """Every file of the corpus: what Pillow cannot load, or what MindSpore refuses, is an error here."""
    import csv

    folder = tmp_path / "set" / "x"
    shutil.copytree(test_data / "badimages", folder)
    draw(tmp_path / "set", ["y"], 2)
    report = check_dataset(tmp_path / "set")
    found = {finding.path.removeprefix("x/"): finding.code for finding in report.errors}
    with (test_data / "badimages" / "expected.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 50
    for row in rows:
        expected = {part.strip() for part in row["findings"].split(",")}
        must = any(part.startswith(("format-", "bomb", "unreadable", "truncated", "zero")) for part in expected)
        assert (row["file"] in found) == must, (row, found.get(row["file"]))
