"""Confine the processes that open a submission; start, limit and kill them.

The child itself calls `confine`, before it opens any part of a submission and while it has one thread. The guards are
independent: if a system lacks one, the others still work, and `missing_guards` names it. Linux has all of them; other
systems have the limits, the clean environment and the time limit.
"""

import contextlib
import ctypes
import os
import queue
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mslab.errors import DeviceError
from mslab.grade.seccomp import refuse_calls

GUARDS = {  # name that confine returns -> consequence, for the teacher, if the guard is missing
    "no new rights": "programs could gain rights",
    "no network": "connections to other machines are not prevented",
    "own files only": "files of this account could be read and written",
    "no calls to others": "other programs could be started, and other processes of this account touched",
    "limits": "the process does not limit its memory, computing time, files and their size",
    "ends with its parent": "a worker could outlive a killed grader",
}


@dataclass(frozen=True)
class Limits:
    """Resource limits for one submission."""

    seconds: float = 300.0  # wall-clock time, and the same amount of computing time
    memory: int = 4 << 30  # bytes
    disk: int = 4 << 30  # bytes of its folder, and of one file
    files: int = 512  # open at the same time
    threads: int = 1024  # MindSpore starts several per core if it may use many


# --- in the child ----------------------------------------------------------------------------------------------------


def confine(folder: Path, readable: Iterable[Path], limits: Limits | None = None) -> list[str]:
    """Irrevocably give up every right that measuring does not need. Returns the names of the active guards.

    Afterwards only `folder` can be written; readable are `readable`, Python, this package and system libraries.
    """
    os.umask(0o077)
    active = [limit(limits or Limits())]
    if sys.platform == "linux":
        if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208, an existing thread would keep its rights
            raise RuntimeError("confine() must be called before any thread is started")
        libc = ctypes.CDLL(None, use_errno=True)
        active.append(no_new_rights(libc))
        active.append(leave_namespaces(libc))
        active.append(own_files_only(libc, folder, readable))
        drop_capabilities(libc)
        # after the namespaces: a change of rights resets it
        active.append("ends with its parent" if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0 else "")
        active += refuse_calls(libc)
    return [name for name in GUARDS if name in active]


PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38


def limit(limits: Limits) -> str:
    """Set soft and hard limits of the process; none of address space, of which MindSpore maps far more than it uses."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    seconds = int(limits.seconds) + 1
    new_limits = {  # (soft, hard); the soft limit of computing time is lower, since only its signal gives the reason
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_DATA": (limits.memory, limits.memory),
        "RLIMIT_CPU": (seconds, seconds + 5),
        "RLIMIT_FSIZE": (limits.disk, limits.disk),
        "RLIMIT_NOFILE": (limits.files, limits.files),
        "RLIMIT_MEMLOCK": (0, 0),
        "RLIMIT_MSGQUEUE": (0, 0),
    }
    for name, pair in new_limits.items():
        if (number := getattr(resource, name, None)) is not None:
            hard_now = resource.getrlimit(number)[1]
            soft, hard = (value if hard_now == resource.RLIM_INFINITY else min(value, hard_now) for value in pair)
            with contextlib.suppress(ValueError, OSError):  # macOS has limits that cannot be set
                resource.setrlimit(number, (soft, hard))
    return "limits"


def no_new_rights(libc: Any) -> str:
    return "no new rights" if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 else ""


CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWIPC = 0x10000000, 0x40000000, 0x08000000


def leave_namespaces(libc: Any) -> str:
    """Enter a network without any device, even loopback, and drop shared memory. Needs no root rights."""
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC) != 0:
        return ""
    with contextlib.suppress(OSError):  # maps only names: file permissions use the ids outside
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return "no network"


def drop_capabilities(libc: Any) -> None:
    """Drop all capabilities: those of root, and those over the new namespace."""
    header = ctypes.create_string_buffer(struct.pack("<Ii", 0x20080522, 0))
    libc.capset(header, ctypes.create_string_buffer(24))


# Landlock, https://docs.kernel.org/userspace-api/landlock.html: rights on files, by bit number
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR, MAKE_REG = range(9)
MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM, REFER, TRUNCATE, IOCTL_DEV = range(9, 16)
KNOWN = {1: MAKE_SYM, 2: REFER, 3: TRUNCATE, 4: TRUNCATE, 5: IOCTL_DEV}  # version -> its highest bit
READING = 1 << READ_FILE | 1 << READ_DIR
WRITING = READING | 1 << WRITE_FILE | 1 << TRUNCATE | 1 << REMOVE_DIR | 1 << REMOVE_FILE | 1 << MAKE_DIR | 1 << MAKE_REG
OF_FILES = 1 << EXECUTE | 1 << WRITE_FILE | 1 << READ_FILE | 1 << TRUNCATE | 1 << IOCTL_DEV
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every architecture


def own_files_only(libc: Any, folder: Path, readable: Iterable[Path]) -> str:
    """Apply Landlock: paths that are not listed here can be neither opened nor created, even by their owner."""
    version = libc.syscall(CREATE_RULESET, None, 0, 1)
    if version < 1:
        return ""
    handled = (2 << KNOWN.get(version, IOCTL_DEV)) - 1
    net, scoped = 3 * (version >= 4), 3 * (version >= 6)  # TCP bind and connect; abstract sockets and signals
    attributes = struct.pack("<QQQ", handled, net, scoped)
    rules = libc.syscall(CREATE_RULESET, attributes, 24 if version >= 6 else 16 if version >= 4 else 8, 0)
    if rules < 0:
        return ""
    rights = dict.fromkeys([*python_paths(), *SYSTEM_PATHS, *map(Path, readable)], READING)
    for path, right in (rights | {Path("/dev/null"): 1 << WRITE_FILE | READING, Path(folder): WRITING}).items():
        try:
            # never closed: the rule for /proc/self is valid only while a descriptor is open
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        allowed = right & handled & (-1 if path.is_dir() else OF_FILES)
        if libc.syscall(ADD_RULE, rules, 1, struct.pack("<Qi", allowed, descriptor), 0) != 0:
            return ""
    return "own files only" if libc.syscall(RESTRICT_SELF, rules, 0) == 0 else ""


SYSTEM_PATHS = [  # besides Python: libraries, and files that MindSpore reads when it starts
    *map(Path, ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d")),
    *map(Path, ("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/dev/urandom", "/dev/zero")),
    *map(Path, ("/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/fs/cgroup")),
]


def python_paths() -> list[Path]:
    """Paths of Python, its packages and this one. Other entries of sys.path are left out: they may contain data."""
    paths = [*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, str(Path(__file__).parents[1])]
    paths += [entry for entry in sys.path if entry.rstrip("/").endswith("-packages")]
    return [Path(entry) for entry in dict.fromkeys(paths + os.environ.get("LD_LIBRARY_PATH", "").split(":")) if entry]


# --- in the parent ---------------------------------------------------------------------------------------------------


BWRAP = "bwrap"
BWRAP_OPTIONS = (
    "--unshare-all --die-with-parent --new-session --cap-drop ALL --clearenv --tmpfs /tmp --proc /proc --dev /dev"
)


def bubblewrap_command(command: Sequence[str], folder: Path, readable: Iterable[Path]) -> list[str]:
    """The command inside bubblewrap, where only Python, its packages, system libraries and `readable` can be read."""
    arguments = [shutil.which(BWRAP) or BWRAP, *BWRAP_OPTIONS.split()]
    for name, value in clean_environment(folder).items():
        arguments += ["--setenv", name, value]
    system = [path for path in SYSTEM_PATHS if path.parts[1] not in ("proc", "dev")]
    for path in dict.fromkeys(str(path) for path in [*system, *python_paths(), *readable]):
        arguments += ["--ro-bind-try", path, path]
    arguments += ["--bind", str(folder), str(folder), "--chdir", str(folder)]
    for path in ("/tmp", "/dev", "/"):  # bubblewrap's tmpfs is memory that no limit counts
        arguments += ["--remount-ro", path]
    return [*arguments, "--", *command]


def require_bubblewrap() -> None:
    """Raise DeviceError if bubblewrap is not installed or cannot confine a process."""
    if not shutil.which(BWRAP):
        raise DeviceError(
            f"bubblewrap is not installed: there is no program {BWRAP}.",
            expected="a machine that can confine a student's code; nothing was opened",
            fix="apt install bubblewrap, or a rubric without `code`",
        )
    with tempfile.TemporaryDirectory(prefix="mslab-grade-") as folder:
        command = bubblewrap_command(
            [sys.executable, "-I", "-c", "import ctypes, sysconfig"], Path(folder).resolve(), []
        )
        result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if result.returncode:
        raise DeviceError(
            "bubblewrap does not work here.",
            details=[
                ("it reports", (result.stderr.strip().splitlines() or [f"exit code {result.returncode}"])[-1][:300])
            ],
            expected="a system on which this account may create namespaces; nothing was opened",
            fix="another machine, or a rubric without `code`; containers often forbid namespaces",
        )


# First lines of a child's program; its arguments are the paths to import from. mslab.grade's __init__ imports nothing:
# NumPy would start threads before confine(), and they would keep their rights.
PREAMBLE = "import sys\nsys.path[:] = sys.argv[1:]\n"


def missing_guards(active: Sequence[str]) -> str:
    """Names of the missing guards with the consequences, or ""."""
    return "; ".join(f"no guard '{name}': {meaning}" for name, meaning in GUARDS.items() if name not in active)


LINE_BYTES = 4096  # of one line of output, at most
STDERR_BYTES = 64 << 10  # stored from the end of standard error
RUNNING: set["Child"] = set()
STOPPED = "the grader was stopped"
KILLED_BY = "it was killed from outside"


@dataclass(eq=False)
class Child:
    """A process that works on one submission: its lines of output, and the reason why it ended.

    After `with Child(command, folder, limits) as child` neither it nor any process that it started is running.
    """

    command: Sequence[str]
    folder: Path  # its home and working folder
    limits: Limits = field(default_factory=Limits)
    reason: str = ""  # why the grader killed it; "" if it exited on its own
    errors: bytes = b""  # the end of its standard error

    def __enter__(self) -> "Child":
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        environment = clean_environment(self.folder)
        # a new session: Ctrl-C reaches only the parent, and the entire group can be killed at once
        self.process = subprocess.Popen(
            self.command, cwd=self.folder, env=environment, start_new_session=True, bufsize=0, **pipes
        )
        self.deadline = time.monotonic() + self.limits.seconds
        self.output: queue.Queue[bytes] = queue.Queue(maxsize=64)
        self.threads = [threading.Thread(target=f, daemon=True) for f in (self._read_lines, self._read_errors)]
        for thread in self.threads:
            thread.start()
        RUNNING.add(self)
        return self

    def __exit__(self, *error: object) -> None:
        self.kill_tree("")
        self.process.wait()
        for thread in self.threads:
            while thread.is_alive():
                with contextlib.suppress(queue.Empty):  # it may be waiting for space in the queue
                    self.output.get_nowait()
                thread.join(0.05)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe
            with contextlib.suppress(OSError):
                pipe.close()
        RUNNING.discard(self)

    def lines(self) -> Iterator[str]:
        """Yield its lines of standard output until it exits or is killed (see `reason`)."""
        due = 0.0  # time of the next check of its folder
        while True:
            try:
                line = self.output.get(timeout=0.1)
            except queue.Empty:
                line = None
            if line == b"":  # end of output
                return
            if line is not None:
                if len(line) > LINE_BYTES or not line.endswith(b"\n"):
                    self.kill_tree("the worker's answer cannot be used: a line is unterminated or too long")
                    return
                yield line.decode("utf-8", "replace").rstrip("\n")
            now = time.monotonic()
            if reason := self.exceeded_limit(disk=now >= due):
                self.kill_tree(reason)
                return
            due = now + 1 if now >= due else due

    def send(self, line: str) -> None:
        """Write a line to its standard input. Does nothing if the process has ended."""
        assert self.process.stdin
        with contextlib.suppress(OSError):
            self.process.stdin.write(line.encode() + b"\n")

    def exceeded_limit(self, disk: bool) -> str:
        """Return a message about an exceeded limit, or ""."""
        if time.monotonic() > self.deadline:
            return f"it was stopped after {self.limits.seconds:g} s"
        memory, threads = memory_and_threads(self.process.pid)
        if memory > self.limits.memory:
            return f"it used more than {self.limits.memory / 2**30:.1f} GiB of memory"
        if threads > self.limits.threads:
            return f"it started more than {self.limits.threads} threads"
        if disk and size_of(self.folder) > self.limits.disk:
            return f"it used more than {self.limits.disk / 2**30:.1f} GiB of disk"
        return ""

    def kill_tree(self, reason: str) -> None:
        """Kill the process and everything that it started; the first reason is recorded."""
        self.reason = self.reason or reason
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()

    def no_answer_reason(self) -> str:
        """Reason why there is no answer. Call it after lines() is exhausted."""
        if self.reason:
            return self.reason
        code = self.process.wait()
        if Path(self.command[0]).name == BWRAP and code > 128:  # bubblewrap exits with 128 + signal
            code = 128 - code
        if code == -getattr(signal, "SIGXCPU", 0):
            return f"it used more than {self.limits.seconds:g} s of computing time"
        if code == -getattr(signal, "SIGKILL", 0):
            return f"{KILLED_BY} (signal 9), as happens when memory runs out"
        return f"it ended with signal {-code}" if code < 0 else f"it ended with exit code {code} and without an answer"

    def _read_lines(self) -> None:
        assert self.process.stdout
        rest = b""
        while chunk := self.process.stdout.read(LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self.output.put(line + b"\n")
            if len(rest) > LINE_BYTES:
                break
        if rest:
            self.output.put(rest)
        self.output.put(b"")

    def _read_errors(self) -> None:
        assert self.process.stderr
        while chunk := self.process.stderr.read(STDERR_BYTES):
            self.errors = (self.errors + chunk)[-STDERR_BYTES:]


def kill_all() -> None:
    """Kill every child at once; callable from any thread, for Ctrl-C."""
    for child in list(RUNNING):
        child.kill_tree(STOPPED)


def clean_environment(folder: Path) -> dict[str, str]:
    """An environment without the teacher's keys and home paths; MindSpore's library paths are included."""
    inherited = ("LD_LIBRARY_PATH", "SYSTEMROOT", "ASCEND_HOME_PATH", "ASCEND_OPP_PATH", "PATH")
    changed = {"HOME": str(folder), "TMPDIR": str(folder), "XDG_CACHE_HOME": str(folder), "LC_ALL": "C.UTF-8"}
    return {name: os.environ[name] for name in inherited if name in os.environ} | changed | {"GLOG_v": "3"}


def memory_and_threads(process: int) -> tuple[int, int]:
    """(bytes of unshared memory, threads) of a process and its descendants; 0 if the system does not report them."""
    memory, threads, pending = 0, 0, [process]
    while pending:
        pid = pending.pop()
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{pid}/status").read_text()
            rows = dict(line.split(":", 1) for line in text.splitlines())
            memory += sum(int(rows.get(name, "0").split()[0]) for name in ("RssAnon", "RssShmem")) * 1024
            threads += int(rows.get("Threads", "0"))
            pending += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return memory, threads


def size_of(folder: Path) -> int:
    """Total size in bytes of all files below the folder."""
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(path) / name).lstat().st_size
    return total
