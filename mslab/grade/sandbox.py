"""What a process that touches a submission may do, and how it is started and ended.

`confine` is called by the child itself, before it opens anything of a submission and while it has one thread. Each
guard stands alone: where a system lacks one, the others hold, and `lacking` says which is missing. Linux has all of
them; elsewhere the limits, the clean environment and the time limit remain.
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

GUARDS = {  # what confine returns -> what it means to a teacher where it is missing
    "no new rights": "programs could gain rights",
    "no network": "connections to other machines are not prevented",
    "own files only": "files of this account could be read and written",
    "no calls to others": "other programs could be started, and other processes of this account touched",
    "limits": "memory, computing time, files and their size are not limited from within",
    "ends with its parent": "a worker could outlive a grader that was killed",
}


@dataclass(frozen=True)
class Limits:
    """What one submission may take."""

    seconds: float = 300.0  # wall clock, and as much computing time
    memory: int = 4 << 30  # bytes
    disk: int = 4 << 30  # bytes of its own folder, and of one file
    files: int = 512  # open at once
    threads: int = 1024  # MindSpore starts several a core where it may use many


# --- in the child ----------------------------------------------------------------------------------------------------


def confine(folder: Path, readable: Iterable[Path], limits: Limits | None = None) -> list[str]:
    """Give up, for good, whatever the work on a submission does not need. Returns the guards that hold.

    Afterwards only `folder` can be written; besides `readable` there are Python, the package and system libraries.
    """
    os.umask(0o077)
    done = [limit(limits or Limits())]
    if sys.platform == "linux":
        if len(os.listdir("/proc/self/task")) > 1:  # noqa: PTH208, a thread that is there would keep its rights
            raise RuntimeError("confine() has to come first, before anything starts a thread")
        libc = ctypes.CDLL(None, use_errno=True)
        done.append(no_new_rights(libc))
        done.append(leave_namespaces(libc))
        done.append(own_files_only(libc, folder, readable))
        drop_capabilities(libc)
        # after the namespaces: a change of rights takes it back
        done.append("ends with its parent" if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0 else "")
        done += refuse_calls(libc)
    return [name for name in GUARDS if name in done]


PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38


def limit(limits: Limits) -> str:
    """Soft and hard limits of the process. Not of address space: MindSpore maps far more than it uses."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    seconds = int(limits.seconds) + 1
    wanted = {  # soft, hard; of computing time the hard limit comes later, since only the soft one says why
        "RLIMIT_CORE": (0, 0),
        "RLIMIT_DATA": (limits.memory, limits.memory),
        "RLIMIT_CPU": (seconds, seconds + 5),
        "RLIMIT_FSIZE": (limits.disk, limits.disk),
        "RLIMIT_NOFILE": (limits.files, limits.files),
        "RLIMIT_MEMLOCK": (0, 0),
        "RLIMIT_MSGQUEUE": (0, 0),
    }
    for name, pair in wanted.items():
        if (number := getattr(resource, name, None)) is not None:
            there = resource.getrlimit(number)[1]
            soft, hard = (most if there == resource.RLIM_INFINITY else min(most, there) for most in pair)
            with contextlib.suppress(ValueError, OSError):  # macOS has limits that it lets nobody set
                resource.setrlimit(number, (soft, hard))
    return "limits"


def no_new_rights(libc: Any) -> str:
    return "no new rights" if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 else ""


CLONE_NEWUSER, CLONE_NEWNET, CLONE_NEWIPC = 0x10000000, 0x40000000, 0x08000000


def leave_namespaces(libc: Any) -> str:
    """A network without any device, not even loopback, and no shared memory of others. Needs no rights of root."""
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWIPC) != 0:
        return ""
    with contextlib.suppress(OSError):  # only for names: file rights go by the numbers outside
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return "no network"


def drop_capabilities(libc: Any) -> None:
    """Root's rights too, and those over the namespace of its own."""
    header = ctypes.create_string_buffer(struct.pack("<Ii", 0x20080522, 0))
    libc.capset(header, ctypes.create_string_buffer(24))


# Landlock, https://docs.kernel.org/userspace-api/landlock.html: rights on files, by number of bit
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE, MAKE_CHAR, MAKE_DIR, MAKE_REG = range(9)
MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM, REFER, TRUNCATE, IOCTL_DEV = range(9, 16)
KNOWN = {1: MAKE_SYM, 2: REFER, 3: TRUNCATE, 4: TRUNCATE, 5: IOCTL_DEV}  # version -> highest bit that it knows
READING = 1 << READ_FILE | 1 << READ_DIR
WRITING = READING | 1 << WRITE_FILE | 1 << TRUNCATE | 1 << REMOVE_DIR | 1 << REMOVE_FILE | 1 << MAKE_DIR | 1 << MAKE_REG
OF_FILES = 1 << EXECUTE | 1 << WRITE_FILE | 1 << READ_FILE | 1 << TRUNCATE | 1 << IOCTL_DEV
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # one number on every architecture


def own_files_only(libc: Any, folder: Path, readable: Iterable[Path]) -> str:
    """Landlock: what is not named here can be neither opened nor created, whoever owns it."""
    version = libc.syscall(CREATE_RULESET, None, 0, 1)
    if version < 1:
        return ""
    handled = (2 << KNOWN.get(version, IOCTL_DEV)) - 1
    net, scoped = 3 * (version >= 4), 3 * (version >= 6)  # bind, connect by TCP; abstract sockets, signals
    attributes = struct.pack("<QQQ", handled, net, scoped)
    rules = libc.syscall(CREATE_RULESET, attributes, 24 if version >= 6 else 16 if version >= 4 else 8, 0)
    if rules < 0:
        return ""
    rights = dict.fromkeys([*python_paths(), *SYSTEM_PATHS, *map(Path, readable)], READING)
    for path, right in (rights | {Path("/dev/null"): 1 << WRITE_FILE | READING, Path(folder): WRITING}).items():
        try:
            # never closed: what belongs to /proc/self is the same only as long as somebody holds it
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        allowed = right & handled & (-1 if path.is_dir() else OF_FILES)
        if libc.syscall(ADD_RULE, rules, 1, struct.pack("<Qi", allowed, opened), 0) != 0:
            return ""
    return "own files only" if libc.syscall(RESTRICT_SELF, rules, 0) == 0 else ""


SYSTEM_PATHS = [  # besides Python: libraries, and what MindSpore asks of the machine when it starts
    *map(Path, ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d")),
    *map(Path, ("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/dev/urandom", "/dev/zero")),
    *map(Path, ("/sys/devices/system/cpu", "/sys/devices/system/node", "/sys/fs/cgroup")),
]


def python_paths() -> list[Path]:
    """Python, its packages and this one. Not every entry of sys.path: one may be a project with its data."""
    own = [*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, str(Path(__file__).parents[1])]
    own += [entry for entry in sys.path if entry.rstrip("/").endswith("-packages")]
    return [Path(entry) for entry in dict.fromkeys(own + os.environ.get("LD_LIBRARY_PATH", "").split(":")) if entry]


# --- in the parent ---------------------------------------------------------------------------------------------------


BWRAP = "bwrap"
BOX = "--unshare-all --die-with-parent --new-session --cap-drop ALL --clearenv --tmpfs /tmp --proc /proc --dev /dev"


def boxed(command: Sequence[str], folder: Path, readable: Iterable[Path]) -> list[str]:
    """The command inside bubblewrap: Python, its packages, system libraries and `readable` are all there is to read."""
    words = [shutil.which(BWRAP) or BWRAP, *BOX.split()]
    for name, value in clean_environment(folder).items():
        words += ["--setenv", name, value]
    system = [path for path in SYSTEM_PATHS if path.parts[1] not in ("proc", "dev")]
    for path in dict.fromkeys(str(path) for path in [*system, *python_paths(), *readable]):
        words += ["--ro-bind-try", path, path]
    words += ["--bind", str(folder), str(folder), "--chdir", str(folder)]
    for path in ("/tmp", "/dev", "/"):  # what bubblewrap made is memory that no limit counts
        words += ["--remount-ro", path]
    return [*words, "--", *command]


def bubblewrap() -> None:
    """Raises DeviceError where it is not here, or cannot lock anything in."""
    if not shutil.which(BWRAP):
        raise DeviceError(
            f"bubblewrap is not here: there is no program {BWRAP}.",
            expected="a machine that can lock a student's code in; nothing was opened",
            fix="apt install bubblewrap, or a rubric without `code`",
        )
    with tempfile.TemporaryDirectory(prefix="mslab-grade-") as place:
        command = boxed([sys.executable, "-I", "-c", "import ctypes, sysconfig"], Path(place).resolve(), [])
        tried = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if tried.returncode:
        raise DeviceError(
            "bubblewrap does not work here.",
            details=[("it says", (tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"])[-1][:300])],
            expected="a system that lets this account have namespaces of its own; nothing was opened",
            fix="another machine, or a rubric without `code`; a container often forbids it to those inside",
        )


# What a child's program begins with; its arguments are the paths to import from. mslab.grade's __init__ imports
# nothing: NumPy's threads would be there before confine(), and keep their rights.
PREAMBLE = "import sys\nsys.path[:] = sys.argv[1:]\n"


def lacking(held: Sequence[str]) -> str:
    """What the guards that are missing would prevent, or ""."""
    return "; ".join(f"no guard '{name}': {meaning}" for name, meaning in GUARDS.items() if name not in held)


LINE = 4096  # most bytes of a line that a child says
KEPT = 64 << 10  # bytes kept of what it says on standard error
RUNNING: set["Child"] = set()
STOPPED = "the grader was stopped"


@dataclass(eq=False)
class Child:
    """A process that works on one submission: its lines, and its end for whatever reason.

    `with Child(command, folder, limits) as child`: afterwards neither it nor a process that it started is there.
    """

    command: Sequence[str]
    folder: Path  # its own; it is its home and current folder
    limits: Limits = field(default_factory=Limits)
    reason: str = ""  # why it was ended, in words; "" where it ended by itself
    errors: bytes = b""  # the end of what it said on standard error

    def __enter__(self) -> "Child":
        pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        environment = clean_environment(self.folder)
        # a session of its own: Ctrl-C reaches the parent only, and the whole group can be ended at once
        self.process = subprocess.Popen(
            self.command, cwd=self.folder, env=environment, start_new_session=True, bufsize=0, **pipes
        )
        self.deadline = time.monotonic() + self.limits.seconds
        self.said: queue.Queue[bytes] = queue.Queue(maxsize=64)
        self.threads = [threading.Thread(target=f, daemon=True) for f in (self._read_lines, self._read_errors)]
        for thread in self.threads:
            thread.start()
        RUNNING.add(self)
        return self

    def __exit__(self, *error: object) -> None:
        self.end("")
        self.process.wait()
        for thread in self.threads:
            while thread.is_alive():
                with contextlib.suppress(queue.Empty):  # it may wait for room
                    self.said.get_nowait()
                thread.join(0.05)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe
            with contextlib.suppress(OSError):
                pipe.close()
        RUNNING.discard(self)

    def lines(self) -> Iterator[str]:
        """What it says on standard output, until it ends or is ended: see `reason`."""
        due = 0.0  # when its folder is looked at again
        while True:
            try:
                line = self.said.get(timeout=0.1)
            except queue.Empty:
                line = None
            if line == b"":  # the end
                return
            if line is not None:
                if len(line) > LINE or not line.endswith(b"\n"):
                    self.end("the worker's answer cannot be used: a line without end")
                    return
                yield line.decode("utf-8", "replace").rstrip("\n")
            now = time.monotonic()
            if reason := self.too_much(disk=now >= due):
                self.end(reason)
                return
            due = now + 1 if now >= due else due

    def send(self, line: str) -> None:
        """A line for its standard input. Nothing happens where it has ended."""
        assert self.process.stdin
        with contextlib.suppress(OSError):
            self.process.stdin.write(line.encode() + b"\n")

    def too_much(self, disk: bool) -> str:
        """What it takes too much of, in words, or ""."""
        if time.monotonic() > self.deadline:
            return f"it was ended after {self.limits.seconds:g} s"
        memory, threads = taken(self.process.pid)
        if memory > self.limits.memory:
            return f"it took more than {self.limits.memory / 2**30:.1f} GiB of memory"
        if threads > self.limits.threads:
            return f"it started more than {self.limits.threads} threads"
        if disk and size_of(self.folder) > self.limits.disk:
            return f"it took more than {self.limits.disk / 2**30:.1f} GiB of disk"
        return ""

    def end(self, reason: str) -> None:
        """Kill it and what it started; the first reason counts."""
        self.reason = self.reason or reason
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(self.process.pid, signal.SIGKILL)
            else:
                self.process.kill()

    def why(self) -> str:
        """Why there is no answer, in words: after lines() have ended."""
        if self.reason:
            return self.reason
        code = self.process.wait()
        if Path(self.command[0]).name == BWRAP and code > 128:  # how it tells of a signal
            code = 128 - code
        if code == -getattr(signal, "SIGXCPU", 0):
            return f"it took more than {self.limits.seconds:g} s of computing time"
        if code == -getattr(signal, "SIGKILL", 0):
            return "it was ended from outside (signal 9), as systems do that run out of memory"
        return f"it ended by signal {-code}" if code < 0 else f"it ended with exit code {code} and without an answer"

    def _read_lines(self) -> None:
        assert self.process.stdout
        rest = b""
        while chunk := self.process.stdout.read(LINE):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self.said.put(line + b"\n")
            if len(rest) > LINE:
                break
        if rest:
            self.said.put(rest)
        self.said.put(b"")

    def _read_errors(self) -> None:
        assert self.process.stderr
        while chunk := self.process.stderr.read(KEPT):
            self.errors = (self.errors + chunk)[-KEPT:]


def end_all() -> None:
    """End every child at once, from any thread: on Ctrl-C."""
    for child in list(RUNNING):
        child.end(STOPPED)


def clean_environment(folder: Path) -> dict[str, str]:
    """Nothing of the teacher's: no keys, no paths of a home. What MindSpore needs to find its libraries stays."""
    kept = ("LD_LIBRARY_PATH", "SYSTEMROOT", "ASCEND_HOME_PATH", "ASCEND_OPP_PATH", "PATH")
    own = {"HOME": str(folder), "TMPDIR": str(folder), "XDG_CACHE_HOME": str(folder), "LC_ALL": "C.UTF-8"}
    return {name: os.environ[name] for name in kept if name in os.environ} | own | {"GLOG_v": "3"}


def taken(process: int) -> tuple[int, int]:
    """(bytes of memory of its own, threads), with those that bubblewrap started; 0 where the system does not tell."""
    memory, threads, waiting = 0, 0, [process]
    while waiting:
        own = waiting.pop()
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{own}/status").read_text()
            rows = dict(line.split(":", 1) for line in text.splitlines())
            memory += sum(int(rows.get(name, "0").split()[0]) for name in ("RssAnon", "RssShmem")) * 1024
            threads += int(rows.get("Threads", "0"))
            waiting += map(int, Path(f"/proc/{own}/task/{own}/children").read_text().split())
    return memory, threads


def size_of(folder: Path) -> int:
    """Bytes of all files below."""
    total = 0
    for at, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += (Path(at) / name).lstat().st_size
    return total
