"""Disks without modes, links and fsync: FAT and exFAT sticks, shares of a network, WSL's /mnt/c."""

import os
import shutil
import subprocess

import pytest
from helpers import PROGRAM, draw

from mslab import files

# what such a disk answers to every program: below $FAT these calls of the C library fail
SHIM = """#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
static int below(const char *path) {
    char here[4096];
    if (path[0] != '/') path = getcwd(here, sizeof here);
    return path && !strncmp(path, getenv("FAT"), strlen(getenv("FAT")));
}
static int open_below(int file) {
    char name[64], path[4096];
    snprintf(name, sizeof name, "/proc/self/fd/%d", file);
    ssize_t size = readlink(name, path, sizeof path - 1);
    return size > 0 && (path[size] = 0, below(path));
}
static int no(int error) { errno = error; return -1; }
int chmod(const char *path, mode_t mode) { return below(path) ? no(EPERM) : syscall(SYS_fchmodat, -100, path, mode); }
int fchmod(int file, mode_t mode) { return open_below(file) ? no(EPERM) : syscall(SYS_fchmod, file, mode); }
int symlink(const char *to, const char *path) {
    return below(path) ? no(EPERM) : syscall(SYS_symlinkat, to, -100, path);
}
int link(const char *a, const char *b) { return below(b) ? no(EPERM) : syscall(SYS_linkat, -100, a, -100, b, 0); }
int fsync(int file) { return open_below(file) ? no(EINVAL) : syscall(SYS_fsync, file); }
"""


def test_what_cannot_be_synced_is_written_all_the_same():
    read, write = os.pipe()  # for a pipe, too, the system answers EINVAL
    with os.fdopen(write, "wb") as file:
        file.write(b"x")
        files.sync(file)
    assert os.read(read, 9) == b"x"
    os.close(read)


@pytest.mark.skipif(not shutil.which("cc"), reason="no C compiler")
def test_data_sets_are_split_and_mended_on_a_disk_without_modes_links_and_fsync(tmp_path):
    (tmp_path / "fat.c").write_text(SHIM)
    shim, disk = tmp_path / "fat.so", tmp_path / "disk"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, tmp_path / "fat.c"], check=True, capture_output=True)
    draw(disk / "set", ["a", "b"], 8)
    (disk / "set/a/broken.png").write_bytes(b"no image")

    def mslab(*words):
        environ = os.environ | {"FAT": str(disk), "LD_PRELOAD": str(shim)}
        return subprocess.run([*PROGRAM, *words], cwd=disk, env=environ, capture_output=True, text=True)

    mended = mslab("check", "set", "--fix", "--json", "found.json")
    assert (disk / "set.quarantine").is_dir() and (disk / "found.json").is_file(), mended.stderr
    split = mslab("data", "split", "set", "--out", "parts")
    assert split.returncode == 0 and len(list((disk / "parts").rglob("*.png"))) == 16, split.stderr
