"""data import: valid and hostile archives. The result is a clean data set, or nothing and one message."""

import io
import os
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from helpers import cli, draw

from mslab.check import check_dataset
from mslab.data import archives, placing, unpacking
from mslab.data.unpacking import import_archive
from mslab.errors import DatasetError


@pytest.fixture
def images(tmp_path):
    return draw(tmp_path / "images", ["a", "b"], 3)


def zipped(tmp_path, images, under="", extra=()):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as file:
        for image in sorted(images.rglob("*.png")):
            file.write(image, f"{under}{image.relative_to(images).as_posix()}")
        for name, content in extra:
            file.writestr(name, content)
    return path


def tarred(tmp_path, images, members=(), mode="w:gz"):
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, mode) as file:
        file.add(images, "data")
        for member, content in members:
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return path


def assert_refused(archive, out, text):
    """Assert that unpacking fails with this text: the function that import_archive calls in a process of its own."""
    out.mkdir()
    with pytest.raises(DatasetError, match=text) as caught:
        unpacking.unpack(str(archive), str(out), lambda done, total: None)
    assert caught.value.expected and caught.value.fix
    shutil.rmtree(out)


def assert_import_refused(archive, out, text):
    """Assert that the import fails with this text and leaves nothing behind."""
    before = sorted(out.parent.iterdir())
    with pytest.raises(DatasetError, match=text) as caught:
        import_archive(archive, out)
    assert caught.value.expected and caught.value.fix
    assert sorted(out.parent.iterdir()) == before


@pytest.mark.parametrize("under", ["", "Mushrooms/", "one/two/three/"])
def test_the_level_of_the_classes_is_found(tmp_path, images, under):
    done = import_archive(zipped(tmp_path, images, under), tmp_path / "out")
    assert done.images == 6 and done.level == (under.rstrip("/") or ".")
    report = check_dataset(tmp_path / "out")
    assert report.ok and report.counts == {"": {"a": 3, "b": 3}}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_tar_of_every_compression(tmp_path, images, mode):
    assert import_archive(tarred(tmp_path, images, mode=mode), tmp_path / "out").images == 6
    assert check_dataset(tmp_path / "out").ok


def test_junk_is_skipped_and_counted(tmp_path, images):
    junk = [("__MACOSX/a/._0.png", b"x"), ("a/.DS_Store", b"x"), ("a/Thumbs.db", b"x"), ("readme.txt", b"x")]
    junk += [(".ipynb_checkpoints/0.png", b"x"), ("a/.hidden.png", b"x")]
    done = import_archive(zipped(tmp_path, images, extra=junk), tmp_path / "out")
    left = {"files that are not images": 2, "files in folders that tools leave behind": 2, "hidden files": 2}
    assert done.skipped == left and "2 files that are not images" in str(done)
    assert check_dataset(tmp_path / "out").counts == {"": {"a": 3, "b": 3}}


def unpacked(tmp_path, folders, wrapper=""):
    """What becomes of an archive with two images in each of these folders: (images, errors of the check)."""
    for seed, folder in enumerate(folders):
        path = tmp_path / "images" / folder
        draw(path.parent, [path.name], 2, seed)
    archive, out = zipped(tmp_path, tmp_path / "images", wrapper), tmp_path / "out"
    out.mkdir()
    done = unpacking.unpack(str(archive), str(out), lambda done, total: None)
    return done["images"], check_dataset(out / done["level"], skip_content=True)


@pytest.mark.parametrize("wrapper", ["", "my set/"])
@pytest.mark.parametrize(
    ("folders", "text"),
    [
        ("a/train a/val b/train b/val c/train", "contains the classes a, b, c, with the splits train, val in each"),
        ("fold1/a fold1/b fold2/a fold2/b", "contains fold1, fold2, with the folders a, b in them"),
        ("a/images b/images c/images", "contains a, b, c, each with its images one level deeper, in images/"),
        ("main/a main/b main/c more/d more/e", "contains main, more, with the folders a, b, c, d, e in them"),
    ],
)
def test_a_layout_that_is_no_data_set_is_unpacked_as_it_is_and_named(tmp_path, folders, text, wrapper):
    images, report = unpacked(tmp_path, folders.split(), wrapper)
    assert images == 2 * len(folders.split()) and text in str(report)


def test_images_in_folders_that_are_called_like_those_of_mindspore_are_classes(tmp_path):
    images, report = unpacked(tmp_path, ["rank_0", "rank_1", "__pycache__"])
    assert images == 6 and report.counts == {"": {"__pycache__": 2, "rank_0": 2, "rank_1": 2}} and report.ok


def test_splits_with_other_names_are_renamed_and_reported(tmp_path):
    for seed, name in enumerate(("Training", "validation")):
        draw(tmp_path / "images" / name, ["a", "b"], 3, seed)
    done = import_archive(zipped(tmp_path, tmp_path / "images", "set/"), tmp_path / "out")
    assert done.renamed == {"Training": "train", "validation": "val"} and "Training/ is renamed to train/" in str(done)
    assert set(check_dataset(tmp_path / "out").splits) == {"train", "val"}


@pytest.mark.parametrize(
    ("folders", "splits"),
    [
        (
            ["set/training_set/training_set", "set/test_set/test_set"],
            {"train": "train/training_set", "test": "test/test_set"},
        ),
        (["x/train/images", "x/val/images"], {"train": "train/images", "val": "val/images"}),
        (["数据/训练集", "数据/测试集"], {"train": "train", "test": "test"}),
        (["seg_train/seg_train", "seg_test/seg_test"], {"train": "train/seg_train", "test": "test/seg_test"}),
    ],
)
def test_splits_are_found_in_an_archive_as_in_a_folder(tmp_path, folders, splits):
    for seed, folder in enumerate(folders):
        draw(tmp_path / "images" / folder, ["a", "b"], 2, seed)
    root = import_archive(zipped(tmp_path, tmp_path / "images"), tmp_path / "out").root
    report = check_dataset(root)
    assert {name: split.root.relative_to(root).as_posix() for name, split in report.splits.items()} == splits
    assert report.ok and report.images == 8


def test_a_few_images_elsewhere_do_not_hide_the_classes(tmp_path, images):
    example = (images / "a" / "000.png").read_bytes()
    archive = zipped(tmp_path, images, "set/", [("samples/example.png", example)])
    done = import_archive(archive, tmp_path / "out")
    assert done.level == "set" and done.skipped == {"images outside that folder": 1}


def test_names_from_a_chinese_windows(tmp_path, images):
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in ("AAAA", "BBBB"):  # as long as two characters in GBK
            file.write(images / "a" / "000.png", f"{name}/0.png")
    content = archive.read_bytes().replace(b"AAAA", "香菇".encode("gbk")).replace(b"BBBB", "木耳".encode("gbk"))
    archive.write_bytes(content)
    import_archive(archive, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(["香菇", "木耳"])


@pytest.mark.parametrize("name", ["../evil.png", "/tmp/evil.png", "a/../../evil.png", "..\\evil.png", "C:\\evil.png"])
def test_paths_that_lead_out_stop_the_import(tmp_path, images, name):
    assert_refused(zipped(tmp_path, images, extra=[(name, b"x")]), tmp_path / "out", "leads out of its folder")
    member = tarfile.TarInfo(name)
    assert_refused(tarred(tmp_path, images, [(member, b"x")]), tmp_path / "out", "leads out of its folder")
    assert not list(tmp_path.rglob("*evil*"))


def test_links_and_devices_are_skipped(tmp_path, images):
    members = []
    for name, kind, target in (
        ("data/a/link.png", tarfile.SYMTYPE, "/etc/passwd"),
        ("data/b/hard.png", tarfile.LNKTYPE, "data/a/000.png"),
        ("data/b/pipe.png", tarfile.FIFOTYPE, ""),
        ("data/b/device.png", tarfile.CHRTYPE, ""),
    ):
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        members.append((member, b""))
    done = import_archive(tarred(tmp_path, images, members), tmp_path / "out")
    assert done.skipped == {"links": 2, "devices": 2} and done.images == 6
    link = zipfile.ZipInfo("a/link.png")
    link.external_attr = 0o120777 << 16
    done = import_archive(zipped(tmp_path, images, extra=[(link, "/etc/passwd")]), tmp_path / "out2")
    assert done.skipped == {"links": 1} and check_dataset(tmp_path / "out2").ok


def test_a_folder_that_is_a_link_is_not_written_through(tmp_path, images):
    (tmp_path / "target").mkdir()
    link = tarfile.TarInfo("data/c")
    link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "target")
    archive = tarred(tmp_path, images, [(link, b""), (tarfile.TarInfo("data/c/x.png"), b"x")])
    import_archive(archive, tmp_path / "out")
    assert not list((tmp_path / "target").iterdir()) and (tmp_path / "out" / "c" / "x.png").read_bytes() == b"x"


def test_bombs_stop_the_import_while_unpacking(tmp_path, images):
    zeros = b"\0" * (120 << 20)
    archive = tmp_path / "bomb.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file:
        file.writestr("a/x.png", zeros)
    assert_refused(archive, tmp_path / "out", r"unpacks to more than \d+ MiB, \d+ times its size")
    content = bytearray(archive.read_bytes())  # an archive that claims wrong sizes
    at = content.rindex(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 10)
    content[22:26] = struct.pack("<I", 10)
    archive.write_bytes(content)
    assert_refused(archive, tmp_path / "out", "unpacks to more than|damaged")
    assert_refused(
        tarred(tmp_path, images, [(tarfile.TarInfo("data/a/no-image.bin"), zeros)]), tmp_path / "out", "unpacks to more"
    )


def test_damaged_and_foreign_files_stop_the_import(tmp_path, images):
    archive = zipped(tmp_path, images)
    content = archive.read_bytes()
    damaged = bytearray(content)
    damaged[200] ^= 255
    archive.write_bytes(damaged)
    assert_refused(archive, tmp_path / "out", "damaged")
    archive.write_bytes(content[: len(content) // 2])
    assert_refused(archive, tmp_path / "out", "is not a zip or tar archive")
    tar = tarred(tmp_path, images)
    tar.write_bytes(tar.read_bytes()[:-2000])
    assert_import_refused(tar, tmp_path / "out", "damaged")
    assert_refused(images / "a" / "000.png", tmp_path / "out", "is not a zip or tar archive")
    assert_import_refused(tmp_path / "nowhere.zip", tmp_path / "out", "There is no archive .*nowhere.zip")
    assert_refused(images, tmp_path / "out", "is not a zip or tar archive")


def test_an_archive_with_a_password(tmp_path, images):
    archive = zipped(tmp_path, images)
    content = bytearray(archive.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # set the flag "encrypted" of every entry
        at = content.find(mark)
        while at >= 0:
            content[at + offset] |= 1
            at = content.find(mark, at + 4)
    archive.write_bytes(content)
    assert_refused(archive, tmp_path / "out", "password")


def test_two_names_for_one_file_stop_the_import(tmp_path, images):
    assert_refused(
        zipped(tmp_path, images, extra=[("a/000.PNG", b"x")]),
        tmp_path / "out",
        "which are the same file on some systems",
    )


def test_an_archive_without_images(tmp_path):
    archive = tmp_path / "x.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("readme.txt", "x")
        file.writestr("loose.png", "x")
    assert_refused(archive, tmp_path / "out", "contains no folders of images")


def test_the_command_imports_checks_and_refuses_to_overwrite(tmp_path, images):
    archive = zipped(tmp_path, images, "Mushrooms/")
    done = cli("data", "import", archive, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "datasets/x: 6 images from the archive's folder Mushrooms/" in done.stderr
    assert "images      6  a 3, b 3" in done.stdout
    again = cli("data", "import", archive, cwd=tmp_path)
    assert again.returncode == 1 and "datasets/x already exists." in again.stderr


def test_a_wrong_checksum_stops_the_import(tmp_path, images):
    archive = zipped(tmp_path, images)
    content = bytearray(archive.read_bytes())
    name = content.index(b"a/000.png")
    content[name + 40] ^= 1  # not compressed, so this changes one pixel of the image
    archive.write_bytes(content)
    assert_refused(archive, tmp_path / "out", "damaged")


def test_nothing_that_existed_is_deleted_or_followed(tmp_path, images):
    """Neither a folder of that name, nor a link at the final path."""
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "mine.txt").write_text("mine")
    import_archive(zipped(tmp_path, images), tmp_path / "out")
    assert (tmp_path / "out.partial" / "mine.txt").read_text() == "mine"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    assert_import_refused(tmp_path / "x.zip", tmp_path / "link", "already exists")


def test_a_new_folder_is_private_until_it_is_complete_and_then_follows_the_umask(tmp_path, images):
    archive, seen = zipped(tmp_path, images), []

    def look(done, total):
        seen.extend(path for path in tmp_path.iterdir() if path.name.startswith(".partial-"))

    before = os.umask(0o027)
    try:
        import_archive(archive, tmp_path / "out", look)
    finally:
        os.umask(before)
    assert len(set(seen)) == 1 and not seen[0].exists()
    modes = [
        oct(path.stat().st_mode & 0o777) for path in (tmp_path / "out", tmp_path / "out/a", tmp_path / "out/a/000.png")
    ]
    assert modes == ["0o750", "0o750", "0o640"]
    with placing.staging_folder(tmp_path / "next") as partial:
        assert partial.parent.stat().st_mode & 0o777 == 0o700 and not partial.exists()


def test_a_refused_import_leaves_no_folders_above(tmp_path, images):
    with pytest.raises(DatasetError, match="is not a zip or tar archive"):
        import_archive(images / "a" / "000.png", tmp_path / "one" / "two" / "out")
    assert not (tmp_path / "one").exists()


def test_a_folder_that_is_replaced_while_it_is_filled_receives_nothing(tmp_path, images):
    """Who may write to the folder above can put another in its place."""
    archive, target = zipped(tmp_path, images), tmp_path / "target"
    target.mkdir(), (tmp_path / "elsewhere").mkdir()

    def replace(done, total):
        if done == 1:
            target.rename(tmp_path / "moved")
            target.symlink_to(tmp_path / "elsewhere")

    unpacking.unpack(str(archive), str(target), replace)
    assert not list((tmp_path / "elsewhere").iterdir()) and len(list((tmp_path / "moved").rglob("*.png"))) == 6


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([f"a/{n}.png" for n in range(6)], "contains more than 4 images"),
        ([f"{n}/{n}/x.png" for n in range(4)], "contains more than 5 folders, or more than 9 inside each other"),
        (["/".join("abcdefghij") + "/x.png"], "contains more than 5 folders, or more than 9 inside each other"),
        (["a/" + "x" * 252 + ".png"], "which is too long for a file name"),
        (["a/" * 2100 + "x.png"], "which is too long for a file name"),
        (["a/" + "\u0316\u0301" * 10_000 + ".png"], "which is too long for a file name"),  # sorting them is quadratic
        (["a/x.png", "a/x.png/y.png"], "contains a/x.png/y.png both as a file and as a folder"),
        (["a/x.png/y.png", "a/x.png"], "contains a/x.png both as a file and as a folder"),
    ],
    ids=str,
)
def test_numbers_and_sizes_of_names_have_limits(tmp_path, monkeypatch, names, text):
    monkeypatch.setattr(unpacking, "MAX_FILES", 4)
    monkeypatch.setattr(archives, "MAX_FOLDERS", 5), monkeypatch.setattr(archives, "MAX_DEPTH", 9)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        for name in names:
            file.writestr(name, b"x")
    assert_refused(tmp_path / "x.zip", tmp_path / "out", text)


def test_the_level_is_found_among_very_many_folders():
    counts = {f"deep/{n}/x{n % 7}": 1 for n in range(50_000)}
    assert unpacking.find_level(Path("x"), counts | {f"set/{n}": 3 for n in range(100_000)}) == ("set", False)
    assert unpacking.find_level(Path("x"), counts | {f"set/train/{n}": 3 for n in range(100_000)}) == ("set", True)
