"""One process at a time writes into a run folder: RUN/.lock says which one.

The file is made with O_EXCL, which works on disks without locks, too. A lock of a process that has died does not count;
of a process on another machine that cannot be known. Who only reads a run needs no lock.
"""

import contextlib
import json
import os
import re
import secrets
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from mslab import files
from mslab.errors import RunError
from mslab.escaping import command, escape_control, quoted

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NAME = ".lock"
SHARED = "MSLAB_LOCKED"  # environment variable: the run folder that the process which started this one has locked
MAX_BYTES = 64 << 10
HOST = socket.gethostname()
_held: dict[tuple[int, Path], int] = {}  # (process, folder): how often it is held here; a fork holds nothing


# --- holding ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def held(run: Path, option: str = "") -> Iterator[None]:
    """Hold the lock of a folder during the block, also if this process has it. Raises RunError if another one has it.

    A path that is no folder has no lock. The workers of a training share the one that has started them. `option`: the
    one that names what will be written there.
    """
    folder = run.resolve()
    key = (os.getpid(), folder)
    if not folder.is_dir() or os.environ.get(SHARED) == str(folder):
        yield
        return
    handle = take(run, folder / NAME, option) if key not in _held else None
    _held[key] = _held.get(key, 0) + 1
    try:
        yield
    finally:
        _held[key] -= 1
        if not _held[key]:
            del _held[key]
        if handle is not None and key[0] == os.getpid():
            release(handle, folder / NAME)


@contextlib.contextmanager
def held_around(targets: Mapping[str, str | Path]) -> Iterator[None]:
    """Hold the locks of the run folders into which these files would be written. Raises RunError.

    `targets`: option -> file; what an option names can be written elsewhere.
    """
    with contextlib.ExitStack() as stack:
        for option, target in targets.items():
            if str(target) != "-" and (run := run_around(Path(target))):
                stack.enter_context(held(run, option))
        yield


def run_around(target: Path) -> Path | None:
    """The run folder that a file to be written lies in, or is."""
    # run_around(Path("runs/nine/checkpoints/best.onnx")) -> runs/nine
    for folder in (target, *target.absolute().parents)[:4]:
        if all(files.kind_of(folder / name, links=True) == "a file" for name in ("manifest.json", "config.yaml")):
            return folder if target.is_absolute() else Path(os.path.relpath(folder))
    return None


# --- taking ----------------------------------------------------------------------------------------------------------


def take(run: Path, path: Path, option: str = "") -> int:
    """Make the lock file, instead of one that a dead process has left. Returns its descriptor. Raises RunError."""
    record = {
        "process": os.getpid(),
        "started": start_time(os.getpid()),
        "host": HOST,
        "boot": boot(),
        "space": space(),
    }
    record |= {"command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])[:1000], "since": time.time()}
    with one_at_a_time(path.parent):
        for _ in range(3):  # another process may be faster
            try:
                handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | files.NO_LINK | files.NO_WAIT, 0o666)
            except FileExistsError:
                holder = read(path)
                if is_alive(holder, path):
                    raise busy(run, path, holder, option) from None
                remove(path, holder)
            except OSError as error:
                raise unwritable(run, error, option) from None
            else:
                try:
                    os.write(handle, json.dumps(record).encode())
                except OSError as error:
                    os.close(handle)
                    path.unlink()
                    raise unwritable(run, error, option) from None
                lock_file(handle)
                return handle
    raise busy(run, path, read(path), option)


def release(handle: int, path: Path) -> None:
    """Remove the lock file, unless someone has put another one in its place."""
    with contextlib.suppress(OSError):
        ours = os.path.samestat(os.fstat(handle), path.lstat())
        if fcntl is None:  # Windows removes no open file
            os.close(handle)
        if ours:
            path.unlink()
    with contextlib.suppress(OSError):
        os.close(handle)


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Let one process after the other look at the lock, where the disk can; elsewhere remove() sorts it out."""
    try:
        handle = os.open(folder, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:  # Windows opens no folder
        yield
        return
    try:
        with contextlib.suppress(OSError, AttributeError):  # a disk, or a system, without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def lock_file(handle: int) -> bool:
    """Lock the lock file itself until it is closed, where the disk can. Whether nobody else had locked it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (OSError, AttributeError):
        return False
    return True


def read(path: Path) -> dict[str, Any]:
    """What a lock says of its holder; {} if it says nothing: its writer was killed, or someone else wrote it."""
    kinds = {"process": int, "started": str, "host": str, "boot": str, "space": str, "command": str, "since": float}
    for _ in range(4):
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            content = files.parse_json(files.Below(path.parent, path.name).open().read(MAX_BYTES))
            if all(type(content[key]) is kind for key, kind in kinds.items()):
                return dict(content)
        if files.kind_of(path) != "a file":
            break
        time.sleep(0.05)  # it may have been made just now
    return {}


def remove(path: Path, holder: dict[str, Any]) -> None:
    """Remove a lock that does not count. Moved first: of two processes that do this at once one moves the other's."""
    aside = path.with_name(f".lock.{secrets.token_hex(8)}.tmp")
    with contextlib.suppress(OSError):
        path.rename(aside)
        if read(aside) != holder:
            os.link(aside, path)
        aside.unlink()


# --- who has it ------------------------------------------------------------------------------------------------------


def holder_of(run: Path) -> str:
    """The process that writes into a folder, as a message names it; "" if there is none."""
    path = run.resolve() / NAME
    with one_at_a_time(path.parent):
        holder = read(path)
        return named(holder) if holder and is_alive(holder, path) else ""


def go_on(run: Path) -> str:
    """What to do about a run that has not ended: wait for the process that writes into it, or resume it."""
    if holder := holder_of(run):
        return f"wait until process {holder} has ended: it writes into {run}; mslab watch shows a training meanwhile"
    return command("train", "--resume", run)


def is_alive(holder: dict[str, Any], path: Path) -> bool:
    """Whether the process that a lock names still runs, or might."""
    if not holder:  # a folder, a link or a FIFO of this name is not ours to remove
        return files.kind_of(path) not in ("", "a file")
    if holder["boot"] != boot():  # another machine, or this one before it was started again
        return not (holder["host"] == HOST and holder["since"] < booted())
    if holder["space"] == space() and start_time(holder["process"]) != holder["started"]:
        return False
    return not is_free(path)  # of another container, or copied together with its folder


def is_free(path: Path) -> bool:
    """Whether the lock file itself is not locked, which a process does where the disk can."""
    with contextlib.suppress(OSError), files.Below(path.parent, path.name).open() as file:
        return lock_file(file.fileno())
    return False


def start_time(process: int) -> str:
    """When a process began, in ticks since the machine did; "" if there is none. Process numbers are used again."""
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
        except OSError:
            return ""
    import psutil

    try:
        return f"{psutil.Process(process).create_time():.0f}"
    except (psutil.Error, ValueError, OverflowError):
        return ""


def boot() -> str:
    """Which start of which machine this is; its name where the system does not say it."""
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return HOST


def space() -> str:
    """Where process numbers mean the same: each container has its own."""
    with contextlib.suppress(OSError):
        return str(Path("/proc/self/ns/pid").readlink())
    return ""


def booted() -> float:
    """When this machine was started, in seconds since 1970."""
    import psutil

    return float(psutil.boot_time())


# --- messages --------------------------------------------------------------------------------------------------------


def named(holder: dict[str, Any]) -> str:
    return f"{holder['process']} on {escape_control(holder['host'], '')[:100]}"


def busy(run: Path, path: Path, holder: dict[str, Any], option: str) -> RunError:
    """The error about a lock that another process has, or may have."""
    removal = f"rm -r {quoted(run / NAME)}"
    if not holder:
        kind = files.kind_of(path)
        return RunError(f"{run / NAME} is {kind or 'no file'}.", expected="a lock of mslab, or nothing", fix=removal)
    here = (holder["host"], holder["boot"]) == (HOST, boot())
    since = "an unknown time"
    with contextlib.suppress(OverflowError, ValueError, OSError):
        since = datetime.fromtimestamp(holder["since"]).astimezone().isoformat(" ", "seconds")
    rows = [("process", named(holder)), ("command", escape_control(holder["command"], "")[:300]), ("since", since)]
    wait = "wait until it has ended, or stop it; mslab watch shows a training meanwhile"
    if re.match(r"mslab\b|__main__", holder["command"]) is None:
        wait = "wait until it has ended, or stop it (a notebook: restart its kernel)"
    wait = f"{option} with a path outside of {run}; or {wait}" if option else wait
    remote = f"\nif that process no longer runs (this machine cannot see it): {removal.replace('-r ', '')}"
    return RunError(
        f"Another process is writing into {run}.",
        details=rows,
        expected="one process at a time that writes into a run folder",
        fix=wait if here else wait + remote,
    )


def unwritable(run: Path, error: OSError, option: str) -> RunError:
    expected, fix = files.obstacle(error, run)
    other = f"{option} with a path outside of {run}" if option else "copy the run elsewhere and use the copy"
    return RunError(
        f"{run / NAME} cannot be written: {error.strerror or error}.", expected=expected, fix=f"{fix}, or {other}"
    )
