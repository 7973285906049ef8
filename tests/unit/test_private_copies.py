"""grade measures a private copy, hashed while it is copied: nothing that happens to the original changes either."""

import os
import resource
import socket
import stat
from contextlib import contextmanager
from pathlib import Path

import pytest

from mslab.errors import MslabError
from mslab.grade import private
from mslab.grade.contents import BadSubmission


@pytest.fixture
def folder(tmp_path) -> Path:
    """A submission."""
    made = tmp_path / "anna"
    (made / "nine" / "empty").mkdir(parents=True)
    (made / "nine" / "best.ckpt").write_bytes(b"weights" * 1000)
    (made / "nine" / "\u00e9 \n.txt").write_text("x")
    (made / "config.yaml").write_bytes(b"")
    return made


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


def refusal(source: Path, target: Path) -> str:
    with pytest.raises(BadSubmission) as caught:
        private.copy(source, target)
    return str(caught.value)


def test_the_copy_is_equal_and_only_its_owner_can_read_it(folder, tmp_path):
    private.copy(folder, tmp_path / "copy")
    assert tree(tmp_path / "copy") == tree(folder)
    for path in (tmp_path / "copy").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o400)
    private.copy(folder / "nine" / "best.ckpt", tmp_path / "copy.ckpt")
    assert (tmp_path / "copy.ckpt").read_bytes() == b"weights" * 1000


def test_the_hash_is_that_of_names_and_contents(folder, tmp_path):
    hashes = [private.copy(folder, tmp_path / "0")]
    assert private.copy(tmp_path / "0", tmp_path / "again") == hashes[0]  # equal bytes, equal hash
    changes = [
        lambda: (folder / "config.yaml").write_text("x"),
        lambda: (folder / "config.yaml").rename(folder / "config.yml"),
        lambda: (folder / "nine" / "empty").rmdir(),
        lambda: (folder / "config.yml").rename(folder / "nine" / "config.yml"),
    ]
    for number, change in enumerate(changes, 1):
        change()
        hashes.append(private.copy(folder, tmp_path / str(number)))
    assert len(set(hashes)) == 5


def test_no_file_has_the_hash_of_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.txt").write_text("x")
    (tmp_path / "file.zip").write_bytes(b"a.txt\x001\x00x")  # what is hashed of the folder, after its first word
    assert private.copy(tmp_path / "folder", tmp_path / "1") != private.copy(tmp_path / "file.zip", tmp_path / "2")


def test_what_is_no_file_is_named_and_not_opened(folder, tmp_path, monkeypatch):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (folder / "link").symlink_to(secret)
    (folder / "nine" / "folder").symlink_to(tmp_path, target_is_directory=True)
    (folder / "lost").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")  # opening it would wait for ever
    monkeypatch.chdir(folder)  # a socket's path has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as plain:
        plain.bind("socket")
    text = refusal(folder, tmp_path / "copy")
    for name in ("link is a link", "lost is a link", "nine/folder is a link", "pipe is a device", "socket is a device"):
        assert f"{name}; only files are accepted" in text
    assert b"secret" not in tree(tmp_path / "copy").values()
    assert refusal(folder / "pipe", tmp_path / "p") == "it is neither a file nor a folder"
    assert refusal(folder / "link", tmp_path / "p") == "it is a link: replace it with its target"
    assert refusal(folder / "none", tmp_path / "p") == "it cannot be read: No such file or directory"


def swap(monkeypatch, name: str, change) -> None:
    """Call `change` once, when `name` has been looked at and is about to be opened."""
    really_open, done = os.open, []

    def open_after_change(path, *arguments, **more):
        if str(path).endswith(name) and not done:
            done.append(change())
        return really_open(path, *arguments, **more)

    monkeypatch.setattr(os, "open", open_after_change)


def replaced(path: Path, make) -> None:
    path.rename(path.with_name("old")), make(path)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("best.ckpt", lambda path: path.symlink_to(path.parents[2] / "secret")),
        ("best.ckpt", os.mkfifo),
        ("best.ckpt", lambda path: path.write_text("longer" * 3000)),
        ("best.ckpt", Path.mkdir),
        ("nine", lambda path: path.symlink_to(path.parents[1] / "hidden", target_is_directory=True)),
        ("anna", lambda path: path.symlink_to(path.parent / "hidden", target_is_directory=True)),
    ],
)
def test_a_name_that_is_replaced_meanwhile_is_refused(folder, tmp_path, monkeypatch, name, make):
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "hidden" / "nine").mkdir(parents=True)
    (tmp_path / "hidden" / "best.ckpt").write_text("secret")
    path = {"best.ckpt": folder / "nine" / name, "nine": folder / name, "anna": folder}[name]
    swap(monkeypatch, name, lambda: replaced(path, make))
    assert refusal(folder, tmp_path / "copy")
    assert b"secret" not in tree(tmp_path / "copy").values()


def test_a_file_that_grows_while_it_is_read_is_refused(folder, tmp_path, monkeypatch):
    file, really_stat = folder / "nine" / "best.ckpt", os.fstat
    sizes = []

    def grow(handle):
        status = really_stat(handle)
        if not sizes:
            sizes.append(status.st_size)
            with file.open("ab") as more:
                more.write(b"more")
        return status

    monkeypatch.setattr(private.os, "fstat", grow)
    assert (
        refusal(file, tmp_path / "copy") == "it changed while it was copied; grade it again when nothing writes to it"
    )


def open_files() -> int:
    """Number of files that this process has open, 0 if the system does not say."""
    return len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0  # noqa: PTH208


def test_sizes_numbers_and_depth_have_bounds(folder, tmp_path):
    opened = open_files()
    os.truncate(folder / "nine" / "best.ckpt", 1 << 40)  # takes no space
    assert refusal(folder, tmp_path / "a") == "it has more than 2 GiB"
    assert refusal(folder / "nine" / "best.ckpt", tmp_path / "b") == "it has more than 2 GiB"
    many = tmp_path / "many"
    many.mkdir()
    for number in range(2001):
        (many / str(number)).touch()
    assert refusal(many, tmp_path / "c") == "it contains more than 2,000 files and folders"
    deep = tmp_path / "deep" / "/".join("a" * 103)
    deep.mkdir(parents=True)
    assert refusal(tmp_path / "deep", tmp_path / "d") == "its folders are nested deeper than 100 levels"
    assert open_files() <= opened + 3


def test_names_that_are_equal_on_some_systems_are_refused(folder, tmp_path):
    (folder / "Config.yaml").touch()
    assert "Config.yaml and config.yaml, one file on some systems" in refusal(folder, tmp_path / "copy")


@contextmanager
def full_disk(most: int):
    """No file can have more than this number of bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_not_the_students_fault(folder, tmp_path):
    with full_disk(1000), pytest.raises(MslabError, match="The grader cannot go on: File too large") as caught:
        private.copy(folder, tmp_path / "copy")
    assert "free some space" in str(caught.value) and "continues" in str(caught.value)
