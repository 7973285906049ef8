"""The CPU cores and the memory that this process may use: the machine's, or less by taskset, a container, a batch job.

Linux limits groups of processes (cgroups): a process has the smallest limit of its own group and of all above it.
/proc/self/cgroup names its group, /proc/self/mountinfo the folders where groups are visible. `root` is the parent of
proc and sys.
"""

import math
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def cores(root: Path = ROOT) -> int:
    """Number of CPU cores that this process may use, at least 1."""
    # a quota of 1.5 cores counts as 2: two threads use all of it, one would not
    quota = min((quota for folder in groups("cpu", root) if (quota := cpu_quota(folder))), default=math.inf)
    return max(1, math.ceil(min(quota, len(allowed_cores()))))


def allowed_cores() -> list[int]:
    """The numbers of the cores on which the system lets this process run; a quota may be less than all of them."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def usable_cores() -> list[int]:
    """The numbers of as many cores as this process may use, for processes that each stay on their own."""
    allowed, count = allowed_cores(), cores()
    # under a quota, containers see all cores of one machine: their host names differ, so they begin at different ones
    start = zlib.crc32(os.uname().nodename.encode()) % len(allowed) if count < len(allowed) else 0
    return sorted((allowed[start:] + allowed[:start])[:count])


def available_memory(root: Path = ROOT) -> int:
    """Bytes of memory that this process can still use without swapping; 0 if unknown."""
    found = re.search(r"MemAvailable:\s*(\d+)", read(root / "proc/meminfo"))
    sizes = [free for folder in groups("memory", root) if (free := free_memory(folder)) is not None]
    if found:
        sizes.append(int(found[1]) * 1024)
    elif root == ROOT:  # no Linux
        with suppress(ImportError):
            import psutil

            sizes.append(psutil.virtual_memory().available)
    return min(sizes, default=0)


def cpu_quota(folder: Path) -> float | None:
    """The cores that a group may use at a time, such as 0.5, or None if it has no limit of its own."""
    quota, period = numbers(folder, "cpu.cfs_quota_us", "cpu.cfs_period_us")  # version 1 of cgroups; -1: no limit
    if found := re.match(r"(\d+) (\d+)", read(folder / "cpu.max")):  # version 2; "max 100000": no limit
        quota, period = int(found[1]), int(found[2])
    return quota / period if quota and period else None


def free_memory(folder: Path) -> int | None:
    """Bytes that a group's limit leaves it, or None if it has no limit of its own."""
    limits = [n for n in numbers(folder, "memory.max", "memory.high", "memory.limit_in_bytes") if n is not None]
    used = max(n or 0 for n in numbers(folder, "memory.current", "memory.usage_in_bytes"))
    # pages of files that were read count as used, and are given back when memory is short; total_: of groups below too
    pages = re.findall(r"(?m)^(?:total_)?inactive_file (\d+)", read(folder / "memory.stat"))
    return max(0, min(limits) - max(0, used - max(map(int, pages), default=0))) if limits else None


def numbers(folder: Path, *names: str) -> list[int | None]:
    """The number in each of these files, or None without one."""
    texts = [read(folder / name).strip() for name in names]
    return [int(text) if text.isdecimal() else None for text in texts]


def groups(controller: str, root: Path = ROOT) -> Iterator[Path]:
    """Yield the folders of this process's group and of the groups above it that limit `controller`: cpu or memory."""
    for top, mount, own in mounts(controller, root):
        inside = own.relative_to(top) if own.is_relative_to(top) and ".." not in own.parts else PurePosixPath()
        folder = root / mount.relative_to("/") / inside
        while len(folder.parts) >= len(root.parts) + len(mount.parts) - 1:  # a container does not see all of them
            yield folder
            folder = folder.parent


def mounts(controller: str, root: Path) -> Iterator[tuple[PurePosixPath, PurePosixPath, PurePosixPath]]:
    """Yield (group that is visible there, folder, this process's group) for each hierarchy with this controller."""
    own: dict[str, PurePosixPath] = {}  # "" is that of version 2
    for line in read(root / "proc/self/cgroup").splitlines():
        _, names, path = [*line.split(":", 2), "", ""][:3]
        own |= {name: PurePosixPath(path or "/") for name in names.split(",")}
    found = False
    for line in read(root / "proc/self/mountinfo").splitlines():
        first, _, last = line.partition(" - ")
        fields, kind = first.split(), [*last.split(), ""][0]
        is_ours = kind == "cgroup2" or (kind == "cgroup" and controller in last.split()[-1].split(","))
        if is_ours and len(fields) > 4:
            found = True
            name = "" if kind == "cgroup2" else controller
            yield PurePosixPath(fields[3]), PurePosixPath(unescaped(fields[4])), own.get(name, PurePosixPath("/"))
    if not found:
        for name, folder in (("", "/sys/fs/cgroup"), (controller, f"/sys/fs/cgroup/{controller}")):
            yield PurePosixPath("/"), PurePosixPath(folder), own.get(name, PurePosixPath("/"))


def unescaped(path: str) -> str:
    # unescaped("/a\\040b") -> "/a b"
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def read(file: Path) -> str:
    try:
        return file.read_text(errors="replace")
    except OSError:
        return ""
