"""grade: a process that opens a submission can do no harm. Every child here is a real process."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from mslab.grade import sandbox
from mslab.grade.sandbox import Child, Limits

linux = pytest.mark.skipif(sys.platform != "linux", reason="the guards are Linux's")
MIB = 1 << 20


# --- what a child can do ---------------------------------------------------------------------------------------------


def script(code: str) -> list[str]:
    """A child's program: it can import mslab and calls `guards = confine(folder, readable)` itself."""
    head = (
        sandbox.PREAMBLE
        + "import os, json, time\nfrom pathlib import Path\nfrom mslab.grade.sandbox import Limits, confine\n"
    )
    return [sys.executable, "-I", "-c", head + textwrap.dedent(code), *filter(None, sys.path)]


def run_child(code: str, folder: Path, limits: Limits | None = None, confined: bool = True) -> tuple[list[str], str]:
    """(lines that the program prints, reason why it ended)."""
    folder.mkdir(exist_ok=True)
    limits = limits or Limits(seconds=20)
    head = f"guards = confine(Path({str(folder)!r}), READABLE, Limits(**{vars(limits)}))\n" if confined else ""
    with Child(script("READABLE = []\n" + head + textwrap.dedent(code)), folder, limits) as child:
        lines = list(child.lines())
        return lines, child.no_answer_reason()


ATTEMPTS = """
import ctypes, shutil, socket, subprocess
def attempt(name, action):
    try:
        action()
        print(json.dumps([name, "done"]))
    except OSError as error:
        print(json.dumps([name, error.strerror]))
def call(number, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(number, *arguments) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def udp(address):
    socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", address)
parent = os.getppid()
attempts = {
    "tcp loopback": lambda: socket.create_connection(("127.0.0.1", PORT), 2),
    "tcp outside": lambda: socket.create_connection(("192.0.2.1", 80), 2),
    "tcp listen": lambda: socket.create_server(("127.0.0.1", 0)),
    "udp loopback": lambda: udp(("127.0.0.1", PORT)),
    "udp outside": lambda: udp(("192.0.2.1", 53)),
    "unix socket": lambda: socket.socket(socket.AF_UNIX).connect(str(ROOT / "socket")),
    "write tmp": lambda: Path("/tmp/mslab-escape").write_text("x"),
    "write shm": lambda: Path("/dev/shm/mslab-escape").write_text("x"),
    "write home": lambda: (HOME / "mslab-escape").write_text("x"),
    "write submission": lambda: (ROOT / "submission" / "x.txt").write_text("x"),
    "append submission": lambda: (ROOT / "submission" / "a.txt").open("a").write("x"),
    "delete submission": lambda: (ROOT / "submission" / "a.txt").unlink(),
    "cut submission": lambda: os.truncate(ROOT / "submission" / "a.txt", 0),
    "write images": lambda: (ROOT / "images" / "x.npy").write_text("x"),
    "mode of images": lambda: (ROOT / "images").chmod(0),
    "times of images": lambda: os.utime(ROOT / "images" / "a.npy", (0, 0)),
    "attribute": lambda: os.setxattr(ROOT / "images" / "a.npy", "user.x", b"x"),
    "read hidden": lambda: (ROOT / "hidden" / "a.png").read_bytes(),
    "list hidden": lambda: os.listdir(ROOT / "hidden"),
    "read other": lambda: (ROOT / "other" / "a.txt").read_bytes(),
    "list all": lambda: os.listdir(ROOT),
    "list home": lambda: os.listdir(HOME),
    "link to hidden": lambda: os.symlink(ROOT / "hidden", "hidden"),
    "hard link": lambda: os.link(ROOT / "hidden" / "a.png", "a.png"),
    "move out": lambda: (Path("mine.txt").write_text("x"), os.rename("mine.txt", ROOT / "mine.txt")),
    "parent's memory": lambda: Path(f"/proc/{parent}/mem").open("rb"),
    "parent's environment": lambda: Path(f"/proc/{parent}/environ").read_bytes(),
    "ptrace": lambda: call(101, 16, parent, 0, 0),
    "kill parent": lambda: os.kill(parent, 9),
    "kill all": lambda: os.kill(-1, 9),
    "limit parent": lambda: __import__("resource").prlimit(parent, 0, (1, 1)),
    "program": lambda: subprocess.run(["/bin/true"]),
    "fork": os.fork,
    "namespace": lambda: call(272, 0x10000000),
    "memory file": lambda: os.memfd_create("x"),
}
"""


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """For a test that needs every guard; a container may not allow some. Returns whether namespaces work.

    Attempts that a missing guard lets through would do harm: if confine() leaves out a guard that works here, nothing
    is attempted.
    """
    lines, _ = run_child("print(json.dumps(guards))", tmp_path_factory.mktemp("guarded"))
    guards = json.loads(lines[0])
    code = """
    import ctypes
    from mslab.grade import sandbox
    libc = ctypes.CDLL(None, use_errno=True)
    namespaces = sandbox.no_new_rights(libc) and sandbox.leave_namespaces(libc)
    works = [namespaces, sandbox.own_files_only(libc, Path("."), []), *sandbox.refuse_calls(libc)]
    print(json.dumps([namespaces, works]))
    """
    namespaces, works = json.loads(run_child(code, tmp_path_factory.mktemp("works"), confined=False)[0][0])
    works += ["limits", "no new rights", "ends with its parent"]  # in any Linux
    assert {guard for guard in works if guard} <= {*guards}, "confine() leaves out guards that work here"
    if missing := sandbox.missing_guards(guards):
        pytest.skip(missing)
    return bool(namespaces)


PROMISED = {"own file", "read submission", "read images", "thread", "own limits"}


@linux
def test_a_confined_child_reaches_nothing_but_its_folder(tmp_path, guarded):
    for name, file in (("submission", "a.txt"), ("images", "a.npy"), ("hidden", "a.png"), ("other", "a.txt")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("unchanged")
    listening, plain = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    with listening, plain:
        os.chdir(tmp_path), plain.bind("socket"), plain.listen()
        code = f"""
        from pathlib import Path
        ROOT, HOME, PORT = Path({str(tmp_path)!r}), Path({str(Path.home())!r}), {listening.getsockname()[1]}
        {textwrap.indent(ATTEMPTS, " " * 8).strip()}
        for name, action in attempts.items():
            attempt(name, action)
        import threading
        attempt("own file", lambda: (Path("own.txt").write_text("x"), Path("own.txt").unlink()))
        attempt("read submission", (ROOT / "submission" / "a.txt").read_text)
        attempt("read images", (ROOT / "images" / "a.npy").read_text)
        attempt("thread", threading.Thread(target=print).start)
        attempt("own limits", lambda: __import__("resource").setrlimit(4, (0, 0)))
        print(json.dumps([os.readlink(f"/proc/self/ns/{{name}}") for name in ("net", "ipc", "user")]))
        print(json.dumps(dict(line.split(":\\t") for line in Path("/proc/self/status").read_text().splitlines())))
        print(json.dumps(guards))
        """
        head = f"READABLE = [Path({str(tmp_path)!r}) / name for name in ('submission', 'images')]\n"
        head += f"guards = confine(Path({str(tmp_path / 'own')!r}), READABLE)\n"
        (tmp_path / "own").mkdir()
        with Child(script(head + textwrap.dedent(code)), tmp_path / "own", Limits(seconds=30)) as child:
            lines = [json.loads(line) for line in child.lines() if line]
        assert child.no_answer_reason() == "it ended with exit code 0 and without an answer", child.errors
    *answers, namespaces, status, guards = lines
    assert guards == list(sandbox.GUARDS) and sandbox.missing_guards(guards) == ""
    own = [str(Path(f"/proc/self/ns/{name}").readlink()) for name in ("net", "ipc", "user")]
    assert [ours != its for ours, its in zip(own, namespaces, strict=True)] == [guarded] * 3
    rights = {name: int(status[name], 16) for name in ("CapEff", "CapPrm", "NoNewPrivs", "Seccomp")}
    assert rights == {"CapEff": 0, "CapPrm": 0, "NoNewPrivs": 1, "Seccomp": 2}
    done = {name for name, result in answers if result == "done"}
    assert done == PROMISED, dict(answers)
    refusals = {"Permission denied", "Operation not permitted", "Invalid cross-device link"}
    assert {result for _, result in answers} - {"done"} <= refusals, dict(answers)
    for name, file in (("submission", "a.txt"), ("images", "a.npy"), ("hidden", "a.png"), ("other", "a.txt")):
        assert [path.name for path in (tmp_path / name).iterdir()] == [file]
        assert (tmp_path / name / file).read_text() == "unchanged"
    assert not Path("/tmp/mslab-escape").exists() and not (Path.home() / "mslab-escape").exists()


@linux
def test_each_guard_works_without_the_others(tmp_path):
    (tmp_path / "secret").write_text("x")
    head = "import ctypes, socket\nfrom mslab.grade import sandbox\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    attempts = f"""
    def report(action):
        try:
            print(action() or "done", flush=True)
        except OSError as error:
            print(error.strerror, flush=True)
    report(lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)) and None)
    report(lambda: socket.socket().bind(("127.0.0.1", 0)))
    report(lambda: Path({str(tmp_path / "secret")!r}).read_text() and None)
    report(lambda: os.kill(os.getppid(), 0))
    report(lambda: os.execv("/bin/echo", ["echo", "done"]))
    """
    results = {}
    for name, call in {
        "none": "None",
        "namespaces": "sandbox.leave_namespaces(libc)",
        "landlock": "sandbox.no_new_rights(libc) and sandbox.own_files_only(libc, Path('.'), [])",
        "seccomp": "sandbox.no_new_rights(libc) and sandbox.refuse_calls(libc)",
    }.items():
        first = f"{head}print(bool({call}), flush=True)\n"
        lines, _ = run_child(first + textwrap.dedent(attempts), tmp_path / "own", confined=False)
        works, *results[name] = lines
        if name != "none" and works == "False":
            pytest.skip(f"this machine does not let a process of this account use {name}")
    refused = "Operation not permitted"
    assert results["none"] == ["done"] * 5
    assert results["namespaces"][0] == "Network is unreachable" and results["namespaces"][2:] == ["done"] * 3
    assert results["landlock"] == ["done", "Permission denied", "Permission denied", refused, "Permission denied"]
    assert results["seccomp"] == [refused, refused, "done", refused, refused]


COMMANDS = """
import ctypes, fcntl, os, platform
from mslab.grade import sandbox
libc = ctypes.CDLL(None, use_errno=True)
works = sandbox.no_new_rights(libc) and sandbox.refuse_calls(libc)
print(bool(works), flush=True)
numbers = {"x86_64": (72, 16, 157, 244, 448, 31), "aarch64": (25, 29, 167, 184, 448, 195)}[platform.machine()]
FCNTL, IOCTL, PRCTL, MQ_NOTIFY, MRELEASE, SHMCTL = numbers
ends, high = os.pipe(), 1 << 40  # the kernel reads the lower half of a command
owner = (ctypes.c_int * 2)(1, OTHER)  # F_OWNER_PID
calls = {
    "F_SETOWN": (FCNTL, ends[0], 8, OTHER), "F_SETOWN, high": (FCNTL, ends[0], high | 8, OTHER),
    "F_SETOWN, group": (FCNTL, ends[0], 8, -OTHER), "F_SETOWN_EX": (FCNTL, ends[0], 15, owner),
    "F_SETSIG": (FCNTL, ends[0], 10, 0), "F_SETLEASE": (FCNTL, ends[0], 1024, 2), "F_NOTIFY": (FCNTL, ends[0], 1026, 0),
    "O_ASYNC": (FCNTL, ends[0], 4, 0x2000), "FIOASYNC": (IOCTL, ends[0], 0x5452, owner),
    "FIOSETOWN": (IOCTL, ends[0], 0x8901, owner), "SIOCSPGRP": (IOCTL, ends[0], 0x8902, owner),
    "SIOCSPGRP, high": (IOCTL, ends[0], high | 0x8902, owner), "TIOCSTI": (IOCTL, 0, 0x5412, b"x"),
    "FS_IOC_SETFLAGS": (IOCTL, ends[0], 0x40086602, owner), "mq_notify": (MQ_NOTIFY, -1, None),
    "process_mrelease": (MRELEASE, -1, 0), "shmctl": (SHMCTL, -1, 0, None),
    "PR_SET_PDEATHSIG": (PRCTL, 1, 0, 0, 0, 0), "PR_SCHED_CORE": (PRCTL, 62, 1, OTHER, 0, 0),
}
for name, call in calls.items():
    arguments = [ctypes.c_long(value) if isinstance(value, int) else value for value in call]
    print(name, os.strerror(ctypes.get_errno()) if libc.syscall(*arguments) < 0 else "done", flush=True)
os.write(ends[1], b"x")  # if the calls worked, the kernel now sends SIGIO, which ends a process
"""


@linux
def test_no_command_makes_the_kernel_signal_another_process(tmp_path):
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as other:
        lines, reason = run_child(f"OTHER = {other.pid}\n{COMMANDS}", tmp_path / "own", confined=False)
        survived = other.poll() is None
        other.kill()
    if lines[0] == "False":
        pytest.skip("this machine does not let a process of this account use seccomp")
    assert survived and "exit code 0" in reason and len(lines) == 20, lines
    assert [line for line in lines[1:] if not line.endswith(" Operation not permitted")] == []


@linux
def test_what_programs_need_of_fcntl_and_ioctl_still_works(tmp_path):
    code = """
    import ctypes, fcntl, struct
    from mslab.grade import sandbox
    libc = ctypes.CDLL(None, use_errno=True)
    sandbox.no_new_rights(libc) and sandbox.refuse_calls(libc)
    with open("own", "w+") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.fcntl(file, 37, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 8, 1, 0))  # F_OFD_SETLK
        os.close(fcntl.fcntl(file, fcntl.F_DUPFD, 50)), os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 50))
        fcntl.fcntl(file, fcntl.F_SETFD, fcntl.fcntl(file, fcntl.F_GETFD) | fcntl.FD_CLOEXEC)
        fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
        os.set_inheritable(file.fileno(), True), os.set_inheritable(file.fileno(), False)
        print(file.isatty())
    ends = os.pipe()
    os.write(ends[1], b"abc"), os.set_blocking(ends[0], False)
    print(struct.unpack("i", fcntl.ioctl(ends[0], 0x541B, bytes(4)))[0])  # FIONREAD
    libc.prctl(15, b"named", 0, 0, 0)
    print(Path("/proc/self/comm").read_text().strip())
    """
    lines, reason = run_child(code, tmp_path / "own", confined=False)
    assert lines == ["False", "3", "named"], reason


@linux
def test_confining_comes_before_any_thread(tmp_path):
    code = """
    import threading
    threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
    try:
        confine(Path("."), [])
    except RuntimeError as error:
        print(error)
    """
    assert run_child(code, tmp_path / "own", confined=False)[0] == [
        "confine() must be called before any thread is started"
    ]


def test_missing_guards_are_reported_with_their_consequences():
    text = sandbox.missing_guards(["limits", "no network"])
    assert "no guard 'own files only': files of this account could be read and written; " in text
    assert "no network" not in text and sandbox.missing_guards(list(sandbox.GUARDS)) == ""


@linux
@pytest.mark.parametrize(
    ("code", "limits", "reason"),
    [
        ("time.sleep(60)", Limits(seconds=0.5), "it was stopped after 0.5 s"),
        ("while True: pass", Limits(seconds=1), "it used more than 1 s of computing time|it was stopped after 1 s"),
        ("x = b'x' * (300 << 20); time.sleep(60)", Limits(20, 200 * MIB), "it used more than 0.2 GiB of memory"),
        ("for n in range(9): Path(f'{n}').write_bytes(bytes(1 << 20))\ntime.sleep(60)",
         Limits(20, disk=8 * MIB), "it used more than 0.0 GiB of disk"),
        ("import threading\nfor n in range(40): threading.Thread(target=time.sleep, args=(60,)).start()",
         Limits(20, threads=30), "it started more than 30 threads"),
        ("os.abort()", Limits(), "it ended with signal 6"),
        ("import ctypes; ctypes.string_at(0)", Limits(), "it ended with signal 11"),
        ("os.kill(os.getpid(), 9)", Limits(), r"it was killed from outside \(signal 9\)"),
        ("sys.exit(3)", Limits(), "it ended with exit code 3 and without an answer"),
        ("print('x' * 10_000); time.sleep(60)", Limits(20), "a line is unterminated or too long"),
        ("print('x' * 10_000, end='', flush=True); time.sleep(60)", Limits(20), "a line is unterminated or too long"),
    ],
)  # fmt: skip
def test_every_exit_has_a_plain_reason(tmp_path, code, limits, reason):
    start = time.monotonic()
    # limits enforced by the parent: the program has not limited itself
    _, reported = run_child(code, tmp_path / "own", limits, confined=False)
    assert re.search(reason, reported), reported
    assert time.monotonic() - start < 15


@linux
def test_limits_work_from_within(tmp_path):
    code = """
    def report(action):
        try:
            print(action() or "done", flush=True)
        except (OSError, MemoryError) as error:
            print(getattr(error, "strerror", "") or type(error).__name__, flush=True)
    report(lambda: bytearray(600 << 20) and None)
    report(lambda: Path("large").write_bytes(bytes(9 << 20)) and None)
    report(lambda: [open("/dev/null") for n in range(80)] and None)
    while True:
        pass
    """
    limits = Limits(seconds=1, memory=500 * MIB, disk=8 * MIB, files=64)
    folder = tmp_path / "own"
    folder.mkdir()
    head = f"guards = confine(Path({str(folder)!r}), [], Limits(**{vars(limits)}))\n"
    with Child(script(head + textwrap.dedent(code)), folder, Limits(seconds=20)) as child:
        lines = list(child.lines())
    assert lines == ["MemoryError", "File too large", "Too many open files"], child.errors
    assert child.process.returncode == -signal.SIGXCPU  # the hard limit of computing time
    assert child.no_answer_reason() == "it used more than 20 s of computing time"


PARENT = """
import os
from pathlib import Path
from mslab.grade.sandbox import PREAMBLE, Child, Limits
code = PREAMBLE + "from pathlib import Path; from mslab.grade.sandbox import confine; import time; "
code += "guards = confine(Path('.'), []); print('here', flush=True); time.sleep(60)"
with Child([sys.executable, "-I", "-c", code, *sys.path], Path(os.getcwd()), Limits()) as child:
    for line in child.lines():
        print(child.process.pid, flush=True)
"""


@linux
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_parent_that_is_killed_leaves_no_child(tmp_path, kind):
    command = [sys.executable, "-c", sandbox.PREAMBLE + PARENT, *filter(None, sys.path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as parent:
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.send_signal(kind)
        parent.wait(20)
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(child)


def alive(process: int) -> bool:
    """Whether the process is running; a zombie is not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    return False
