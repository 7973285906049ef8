"""grade: what a submission can do to the grader, which is nothing. Every child here is a real one."""

import contextlib
import gzip
import io
import json
import os
import pickle
import re
import signal
import socket
import struct
import subprocess
import sys
import tarfile
import textwrap
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import STAGES, draw

from mslab import checkpoint, evaluation
from mslab.check import check_dataset
from mslab.checkpoint import dialects
from mslab.grade import contents, measuring, sandbox, worker
from mslab.grade.sandbox import Child, Limits

linux = pytest.mark.skipif(sys.platform != "linux", reason="the guards are Linux's")
MIB = 1 << 20


# --- what a child can do ---------------------------------------------------------------------------------------------


def script(code: str) -> list[str]:
    """A child's program: it can import mslab, and `held = confine(folder, readable)` is its to call."""
    head = (
        sandbox.ALONE
        + "import os, json, time\nfrom pathlib import Path\nfrom mslab.grade.sandbox import Limits, confine\n"
    )
    return [sys.executable, "-I", "-c", head + textwrap.dedent(code), *filter(None, sys.path)]


def ran(code: str, folder: Path, limits: Limits | None = None, confined: bool = True) -> tuple[list[str], str]:
    """(lines that the program says, why it ended)."""
    folder.mkdir(exist_ok=True)
    limits = limits or Limits(seconds=20)
    head = f"held = confine(Path({str(folder)!r}), READABLE, Limits(**{vars(limits)}))\n" if confined else ""
    with Child(script("READABLE = []\n" + head + textwrap.dedent(code)), folder, limits) as child:
        lines = list(child.lines())
        return lines, child.why()


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
    """For a test that needs every guard; a container may refuse some to whom runs in it."""
    lines, _ = ran("print(json.dumps(held))", tmp_path_factory.mktemp("guarded"))
    if lacking := sandbox.lacking(json.loads(lines[0])):
        pytest.skip(lacking)


PROMISED = {"own file", "read submission", "read images", "thread", "own limits"}


@linux
def test_a_confined_child_reaches_nothing_but_its_folder(tmp_path, guarded):
    for name, file in (("submission", "a.txt"), ("images", "a.npy"), ("hidden", "a.png"), ("other", "a.txt")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).write_text("as it was")
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
        print(json.dumps(held))
        """
        head = f"READABLE = [Path({str(tmp_path)!r}) / name for name in ('submission', 'images')]\n"
        head += f"held = confine(Path({str(tmp_path / 'own')!r}), READABLE)\n"
        (tmp_path / "own").mkdir()
        with Child(script(head + textwrap.dedent(code)), tmp_path / "own", Limits(seconds=30)) as child:
            lines = [json.loads(line) for line in child.lines() if line]
        assert child.why() == "it ended with exit code 0 and without an answer", child.errors
    *answers, held = lines
    assert held == list(sandbox.GUARDS) and sandbox.lacking(held) == ""
    done = {name for name, what in answers if what == "done"}
    assert done == PROMISED, dict(answers)
    refusals = {"Permission denied", "Operation not permitted", "Invalid cross-device link"}
    assert {what for _, what in answers} - {"done"} <= refusals, dict(answers)
    for name, file in (("submission", "a.txt"), ("images", "a.npy"), ("hidden", "a.png"), ("other", "a.txt")):
        assert [path.name for path in (tmp_path / name).iterdir()] == [file]
        assert (tmp_path / name / file).read_text() == "as it was"
    assert not Path("/tmp/mslab-escape").exists() and not (Path.home() / "mslab-escape").exists()


@linux
def test_each_guard_holds_without_the_others(tmp_path):
    (tmp_path / "secret").write_text("x")
    head = "import ctypes, socket\nfrom mslab.grade import sandbox\nlibc = ctypes.CDLL(None, use_errno=True)\n"
    tries = f"""
    def tell(action):
        try:
            print(action() or "done")
        except OSError as error:
            print(error.strerror)
    tell(lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)) and None)
    tell(lambda: socket.socket().bind(("127.0.0.1", 0)))
    tell(lambda: Path({str(tmp_path / "secret")!r}).read_text() and None)
    tell(lambda: os.kill(os.getppid(), 0))
    """
    seen = {}
    for name, call in {
        "none": "None",
        "namespaces": "sandbox.leave_namespaces(libc)",
        "landlock": "sandbox.no_new_rights(libc) and sandbox.own_files_only(libc, Path('.'), [])",
        "seccomp": "sandbox.no_new_rights(libc) and sandbox.refuse_calls(libc)",
    }.items():
        lines, _ = ran(f"{head}print(bool({call}))\n{textwrap.dedent(tries)}", tmp_path / "own", confined=False)
        held, *seen[name] = lines
        if name != "none" and held == "False":
            pytest.skip(f"this machine does not let a process of this account use {name}")
    refused = "Operation not permitted"
    assert seen["none"] == ["done"] * 4
    assert seen["namespaces"][0] == "Network is unreachable" and seen["namespaces"][2:] == ["done", "done"]
    assert seen["landlock"] == ["done", "Permission denied", "Permission denied", refused]
    assert seen["seccomp"] == [refused, refused, "done", refused]


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
    assert ran(code, tmp_path / "own", confined=False)[0] == [
        "confine() has to come first, before anything starts a thread"
    ]


def test_missing_guards_are_said_with_what_that_means():
    text = sandbox.lacking(["limits", "no network"])
    assert "no guard 'own files only': files of this account could be read and written; " in text
    assert "no network" not in text and sandbox.lacking(list(sandbox.GUARDS)) == ""


@linux
@pytest.mark.parametrize(
    ("code", "limits", "reason"),
    [
        ("time.sleep(60)", Limits(seconds=0.5), "it was ended after 0.5 s"),
        ("while True: pass", Limits(seconds=1), "it took more than 1 s of computing time|it was ended after 1 s"),
        ("x = b'x' * (300 << 20); time.sleep(60)", Limits(20, 200 * MIB), "it took more than 0.2 GiB of memory"),
        ("for n in range(9): Path(f'{n}').write_bytes(bytes(1 << 20))\ntime.sleep(60)",
         Limits(20, disk=8 * MIB), "it took more than 0.0 GiB of disk"),
        ("import threading\nfor n in range(40): threading.Thread(target=time.sleep, args=(60,)).start()",
         Limits(20, threads=30), "it started more than 30 threads"),
        ("os.abort()", Limits(), "it ended by signal 6"),
        ("import ctypes; ctypes.string_at(0)", Limits(), "it ended by signal 11"),
        ("os.kill(os.getpid(), 9)", Limits(), r"it was ended from outside \(signal 9\)"),
        ("sys.exit(3)", Limits(), "it ended with exit code 3 and without an answer"),
        ("print('x' * 10_000); time.sleep(60)", Limits(20), "a line without end"),
        ("print('x' * 10_000, end='', flush=True); time.sleep(60)", Limits(20), "a line without end"),
    ],
)  # fmt: skip
def test_an_end_has_a_plain_reason(tmp_path, code, limits, reason):
    start = time.monotonic()
    # the parent's own watch: the program has not limited itself
    _, why = ran(code, tmp_path / "own", limits, confined=False)
    assert re.search(reason, why), why
    assert time.monotonic() - start < 15


@linux
def test_limits_hold_from_within(tmp_path):
    code = """
    def tell(action):
        try:
            print(action() or "done", flush=True)
        except (OSError, MemoryError) as error:
            print(getattr(error, "strerror", "") or type(error).__name__, flush=True)
    tell(lambda: bytearray(600 << 20) and None)
    tell(lambda: Path("large").write_bytes(bytes(9 << 20)) and None)
    tell(lambda: [open("/dev/null") for n in range(80)] and None)
    while True:
        pass
    """
    limits = Limits(seconds=1, memory=500 * MIB, disk=8 * MIB, files=64)
    folder = tmp_path / "own"
    folder.mkdir()
    head = f"held = confine(Path({str(folder)!r}), [], Limits(**{vars(limits)}))\n"
    with Child(script(head + textwrap.dedent(code)), folder, Limits(seconds=20)) as child:
        lines = list(child.lines())
    assert lines == ["MemoryError", "File too large", "Too many open files"], child.errors
    assert child.process.returncode == -signal.SIGXCPU  # the hard limit of computing time
    assert child.why() == "it took more than 20 s of computing time"


PARENT = """
import os
from pathlib import Path
from mslab.grade.sandbox import ALONE, Child, Limits
code = ALONE + "from pathlib import Path; from mslab.grade.sandbox import confine; import time; "
code += "held = confine(Path('.'), []); print('here', flush=True); time.sleep(60)"
with Child([sys.executable, "-I", "-c", code, *sys.path], Path(os.getcwd()), Limits()) as child:
    for line in child.lines():
        print(child.process.pid, flush=True)
"""


@linux
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_parent_that_is_ended_leaves_no_child(tmp_path, how):
    command = [sys.executable, "-c", sandbox.ALONE + PARENT, *filter(None, sys.path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, cwd=tmp_path, **pipes) as parent:
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.send_signal(how)
        parent.wait(20)
    deadline = time.monotonic() + 10
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(child)


def alive(process: int) -> bool:
    """Whether it runs: one that nobody has fetched yet does not."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    return False


# --- submissions -----------------------------------------------------------------------------------------------------


def network(class_names=("a", "b", "c"), stages=STAGES, seed=0) -> tuple[dict, dict]:
    """(tensors, entry) of a small network."""
    rng = np.random.default_rng(seed)
    shapes = dialects.layout(stages, dialects.OWN)
    shapes |= {"classifier.weight": (len(class_names), 4 * stages[-1][1]), "classifier.bias": (len(class_names),)}
    tensors = {}
    for name, shape in shapes.items():
        ones = name.endswith(("gamma", "moving_variance"))
        tensors[name] = (np.ones(shape) if ones else rng.normal(0, 0.3, shape)).astype(np.float32)
    info = {"class_names": list(class_names), "image_size": 32, "mean": [0.5] * 3, "std": [0.25] * 3}
    return tensors, info | {"stages": [list(row) for row in stages], "profile": dialects.OWN}


def bytes_of(tmp_path: Path, tensors: dict, info: dict) -> bytes:
    checkpoint.save_arrays(tensors, tmp_path / "made.ckpt", info)
    return (tmp_path / "made.ckpt").read_bytes()


def look(tmp_path: Path, source: Path, networks=None, images=None, **more) -> measuring.Facts:
    """What a real worker finds."""
    limits = more.pop("within", Limits(seconds=60))
    job = {"source": str(source), "folder": str(tmp_path / f"box-{time.monotonic_ns()}"), "networks": networks or {}}
    job |= {"relations": [], "given": None, "predictions": []} | more
    return measuring.measure(job, images or {}, limits)


def zip_of(path: Path, members: dict, **more) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def tar_of(path: Path, members: list, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as file:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, len(content) if kind == tarfile.REGTYPE else 0
            member.linkname = "/etc/passwd" if kind == tarfile.SYMTYPE else "a.txt"
            file.addfile(member, io.BytesIO(content))
    return path


def hostile(tmp_path: Path) -> dict[str, tuple[Path, list[str]]]:
    """Archives, and what is said of each."""
    regular, made = tarfile.REGTYPE, {}

    def add(name: str, path: Path, *texts: str) -> None:
        made[name] = (path, list(texts))

    def zipped(name: str, members: dict, *texts: str) -> None:
        add(name, zip_of(tmp_path / f"{name}.zip", members), *texts)

    def tarred(name: str, members: list, *texts: str) -> None:
        add(name, tar_of(tmp_path / f"{name}.tar.gz", members), *texts)

    out = "which leads out of its folder"
    zipped("slip", {"a.txt": "x", "../../evil": "x"}, f"the archive holds the name '../../evil', {out}")
    zipped("several", {"../a": "x", "b/../../c": "x", "d.txt": "x"}, "'../a'", "'b/../../c'")
    zipped("absolute", {"/tmp/mslab-evil": "x"}, out)
    zipped("drive", {"C:\\evil": "x"}, out)
    tarred("tar-slip", [("a/../../evil", regular, b"x")], out)
    tarred("symlink", [("a", tarfile.SYMTYPE, b"")], "a is a link, where only files are taken")
    tarred("hardlink", [("a.txt", regular, b"x"), ("b", tarfile.LNKTYPE, b"")], "b is a link")
    tarred("device", [("null", tarfile.CHRTYPE, b""), ("pipe", tarfile.FIFOTYPE, b"")], "null is a device", "pipe is a")
    tarred("twice", [("a.txt", regular, b"x"), ("./a.txt", regular, b"y")], "it holds a.txt twice")
    zipped("case", {"Best.ckpt": "x", "best.ckpt": "y"}, "Best.ckpt and best.ckpt, one file on some machines")
    zipped("both", {"a": "x", "a/b": "y"}, "a/b both as a file and as a folder")
    zipped("bomb", {"zeros": bytes(80 * MIB)}, "unpacks to more than")
    zipped("many", {f"{n}.txt": "" for n in range(2100)}, "it holds more than 2,000 files and folders")
    zipped(
        "names", {f"{'/'.join(['x' * 200] * 5)}/{n}": "" for n in range(1200)}, "its file names take more than 1 MiB"
    )
    zipped("long", {"x" * 300: "x"}, "x… is too long a name")
    zipped("empty", {}, "the submission holds no files")
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    zipped("zip-link", {link: "/etc/passwd"}, "link is a link")
    whole = zip_of(tmp_path / "whole.zip", {"a.txt": "x" * 1000}).read_bytes()
    locked = bytearray(whole)
    locked[6] |= 1
    locked[whole.rindex(b"PK\x01\x02") + 8] |= 1
    for name, content, text in (
        ("encrypted.zip", bytes(locked), "it has a password"),
        ("cut.zip", whole[: len(whole) // 2], "is no zip or tar archive"),
        ("damaged.zip", whole.replace(b"x", b"y", 1)[:40] + b"\xff" * 4 + whole[44:], "damaged"),
        ("nameless.zip", whole.replace(b"a.txt", b"\0.txt"), "the submission holds no files"),
        ("text.zip", b"hello", "is no zip or tar archive"),
        ("nothing.zip", b"", "is no zip or tar archive"),
    ):
        (tmp_path / name).write_bytes(content)
        add(name, tmp_path / name, text)
    add("missing", tmp_path / "missing.zip", "the submission cannot be read: No such file or directory")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to("/etc/passwd"), (folder / "a.txt").write_text("x"), os.mkfifo(folder / "pipe")
    add("folder", folder, "link is a link", "pipe is a device")
    return made


def test_archives_that_do_harm_are_refused_with_a_reason(tmp_path):
    (tmp_path / "in").mkdir()
    before = None
    for number, (name, (path, texts)) in enumerate(hostile(tmp_path / "in").items()):
        box = tmp_path / f"box{number}"
        box.mkdir()
        # the same function that the worker calls; what it may write is held by the sandbox besides
        found = contents.gather(path, box / "submission", worker.LIMITS, [])
        assert found.problems and found.files == {}, name
        for text in texts:
            assert any(text in problem for problem in found.problems), (name, found.problems)
        assert not any(str(tmp_path) in problem for problem in found.problems), (name, found.problems)
        assert [path.name for path in box.iterdir()] in ([], ["submission"]), name
        before = before or sorted(path.name for path in (tmp_path / "in").iterdir())
    assert sorted(path.name for path in (tmp_path / "in").iterdir()) == before
    assert not Path("/tmp/mslab-evil").exists() and not (tmp_path / "evil").exists()


def test_an_archive_that_eats_memory_is_refused(tmp_path):
    path = tmp_path / "x.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as file:  # a name of 400 MiB
        member = tarfile.TarInfo("././@LongLink")
        member.type, member.size = tarfile.GNUTYPE_LONGNAME, 400 * MIB
        file.write(member.tobuf(tarfile.GNU_FORMAT) + bytes(400 * MIB))
    found = look(tmp_path, path, within=Limits(seconds=30, memory=300 * MIB))
    assert found.facts["problems"] == ["reading the archive takes more memory than a submission may"], found.log


def test_a_refused_submission_is_an_answer_without_facts(tmp_path):
    found = look(
        tmp_path, zip_of(tmp_path / "x.zip", {"../x": "x", "nine/best.ckpt": "x"}), {"nine": ["nine/best.ckpt"]}
    )
    assert not found.died and found.facts["networks"] == {} and found.facts["files"] == {}
    assert found.facts["problems"] == ["the archive holds the name '../x', which leads out of its folder."]


def test_a_folder_at_the_top_is_the_submission(tmp_path):
    members = {"smith/nine/config.yaml": "epochs: 1", "smith/notes.txt": "x", "__MACOSX/smith/._notes.txt": "x"}
    members |= {"smith/inner.zip": zip_of(tmp_path / "inner.zip", {"../x": "x"}).read_bytes()}  # stays a file
    found = look(tmp_path, zip_of(tmp_path / "x.zip", members), {"nine": ["nine/best.ckpt"]})
    assert found.facts["top"] == "smith" and set(found.facts["files"]) == {"nine/config.yaml", "notes.txt", "inner.zip"}
    assert found.facts["configs"] == {"nine/config.yaml": {"values": {"epochs": 1}}}
    assert found.facts["networks"]["nine"]["error"] == "it was not handed in: there is no nine/best.ckpt"


HEADER = "epoch,step,lr,train_loss,train_acc,val_loss,val_acc,images_per_s,seconds"


def test_texts_of_every_kind(tmp_path):
    bomb = "a: &a [x, x]\n" + "".join(
        f"{k}: &{k} [*{p}, *{p}]\n" for p, k in zip("abcdefghi", "bcdefghij", strict=True)
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
        "rows/history.csv": f"{','.join(contents.TOLD)}\n" + ",,,,,\n" * 100_001,
        "columns/history.csv": "epoch,loss\n1,2\n",
        "ragged/history.csv": f"{HEADER}\n1,2\n",
        "predictions.csv": "file,class,probability,error,p(a)\na.png,a,0.9,,0.9\n'=b.png,'-b,0.8,,0.1\nc.png,,,x,\n",
        "twice.csv": "file,class\na,b\na,c\n",
        "other.csv": "name,label\na,b\n",
        "quoted.csv": 'file,class\n"' + "x" * 200_000 + '",b\n',
    }
    asked = [name for name in members if name.endswith(".csv") and "history" not in name]
    found = look(tmp_path, zip_of(tmp_path / "x.zip", members), predictions=[*asked, "missing.csv"])
    assert not found.died and not found.facts["problems"], (found.facts["problems"], found.log)
    facts, errors = found.facts, {}
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
        "bomb.yaml": "repeats a part of itself",
        "deep.yaml": "nested deeper than 20 levels",
        "code.yaml": "is no YAML, line 1",
        "digits.yml": "cannot be read",
        "broken.yaml": "is no YAML, line",
        "list.yaml": "holds no settings; expected lines like 'epochs: 12'",
        "long.yaml": "more than the 65,536 that are read",
        "latin.yaml": "no text in UTF-8",
        "deep.json": "nested without end",
        "nested.json": "nested deeper than 20 levels",
        "many.json": "more than 20,000 values",
        "broken.json": "is no JSON",
        "million/history.csv": "more than the 4,194,304 that are read",
        "rows/history.csv": "more than 100,000 rows",
        "columns/history.csv": "has no column lr, train_loss",
        "ragged/history.csv": "row 1 has 2 cells, the first line 9",
        "twice.csv": "names a twice",
        "other.csv": "has no column file, class; its first line is 'name,label'",
        "quoted.csv": "is no CSV: field larger",
    }
    assert errors.keys() == expected.keys()
    assert not {name: errors[name] for name in expected if expected[name] not in errors[name]}
    assert str(tmp_path) not in json.dumps(facts)


def test_facts_that_would_be_too_long_lose_their_longest_entries(tmp_path):
    rows = "file,class\n" + "".join(f"{n:06}{'x' * 100},{'y' * 100}\n" for n in range(15_000))
    members = {"a.csv": rows, "b.csv": rows.replace("y", "z"), "c.csv": "file,class\na,b\n"}
    found = look(tmp_path, zip_of(tmp_path / "x.zip", members), predictions=list(members))
    predictions = found.facts["predictions"]
    assert "says more than is read" in json.dumps([predictions["a.csv"], predictions["b.csv"]])
    assert predictions["c.csv"] == {"rows": {"a": "b"}}


def safetensors(header: dict | bytes, body: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def test_checkpoints_that_lie_are_refused_before_anything_is_built(tmp_path):
    tensors, info = network()
    good = bytes_of(tmp_path, tensors, info)
    one = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    many = [f"class {n}" for n in range(100_000)]
    wide, wide_info = network(many)
    deep = [[1000, 1, 1]]
    deep_tensors, deep_info = network(stages=deep)
    infinite = {"layer1.0.conv1.weight": np.full_like(tensors["layer1.0.conv1.weight"], np.nan)}
    cases = {
        "lying": (good[:5000], "is not a whole MindSpore checkpoint"),
        "sizes": (good.replace(b"Float32", b"Float64"), "needs"),
        "nan": (bytes_of(tmp_path, tensors | infinite, info), "weights that are not finite: layer1.0.conv1.weight"),
        "pickle": (pickle.dumps({"a": 1}), "is a bare pickle"),
        "overlap": (safetensors({"a": one, "b": one}, bytes(4)), "begins at byte 0 instead of 4"),
        "header": (safetensors(b"{" + b" " * 100, length=2**40), "is not a whole"),
        "blocks": (bytes_of(tmp_path, tensors, info | {"stages": [[10**9, 8, 1]]}), "has another stages.0.0"),
        "table": (bytes_of(tmp_path, tensors, info | {"stages": [[1, 8, 1], [1, 16, 2]]}), "Expected"),
        "deep": (bytes_of(tmp_path, deep_tensors, deep_info), "1,000 blocks, at most 200 are taken"),
        "classes": (bytes_of(tmp_path, wide, wide_info), "100,000 classes, at most 1,000 are taken"),
        "names": (bytes_of(tmp_path, tensors, info | {"class_names": many}), "100,000 classes, at most 1,000"),
        "pixels": (bytes_of(tmp_path, tensors, info | {"image_size": 4096}), "4,096 pixels, at most 512 are taken"),
        "std": (bytes_of(tmp_path, tensors, info | {"std": [0.5, 0.0, 0.5]}), "would divide by 0"),
        "headless": (
            bytes_of(tmp_path, {k: v for k, v in tensors.items() if "class" not in k}, info),
            "without a head",
        ),
        "empty": (b"", "it has 0 bytes"),
        "text": (b"hello", "is not a whole"),
    }
    source = zip_of(tmp_path / "x.zip", {f"{name}.ckpt": content for name, (content, _) in cases.items()})
    found = look(tmp_path, source, {name: ["no.ckpt", f"{name}.ckpt"] for name in cases}, relations=[["nan", "std"]])
    assert not found.died and found.logits == {}, found.log
    for name, (_, text) in cases.items():
        told = found.facts["networks"][name]
        assert told["file"] == f"{name}.ckpt" and text in told.get("error", ""), (name, told)
        assert str(tmp_path) not in told["error"]
    assert found.facts["relations"] == {"nan<std": {"error": "nan and std cannot be read or is not there"}}
    limited = look(tmp_path, source, {"pixels": ["pixels.ckpt"]}, limits={"weights": 100})
    assert "a network may have 100 weights" in limited.facts["networks"]["pixels"]["error"]


# --- networks that run -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hidden(tmp_path_factory):
    root = tmp_path_factory.mktemp("hidden")
    report = check_dataset(draw(root / "images", ["a", "b", "c"], 7, size=50))
    return measuring.HiddenImages(report, "", root / "pixels"), report


def test_a_network_is_measured_as_evaluation_would(tmp_path, hidden):
    images, report = hidden
    tensors, info = network()
    tuned = tensors | {"classifier.bias": tensors["classifier.bias"] + 1}
    exploding = tensors | {"classifier.weight": np.full_like(tensors["classifier.weight"], 3e38)}
    content = bytes_of(tmp_path, tensors, info)
    source = zip_of(
        tmp_path / "x.zip",
        {
            "nine/best.ckpt": content,
            "two/best.ckpt": bytes_of(tmp_path, tuned, info),
            "bad/best.ckpt": bytes_of(tmp_path, exploding, info),
        },
    )
    (tmp_path / "given.ckpt").write_bytes(bytes_of(tmp_path, *network(seed=1)))
    names = ("nine", "two", "bad", "unasked")
    networks = {name: [f"{name}/best.ckpt"] for name in names} | {"unasked": ["nine/best.ckpt"]}
    asked = dict.fromkeys(names[:3], images)
    more = {"relations": [["two", "nine"], ["two", "given"]], "given": str(tmp_path / "given.ckpt")}
    core = sorted(os.sched_getaffinity(0))[0] if hasattr(os, "sched_getaffinity") else None
    job = {"source": str(source), "folder": str(tmp_path / "box"), "networks": networks} | more
    found = measuring.measure(job, asked, core=core)
    assert not found.died, (found.facts["problems"], found.log)
    told = found.facts["networks"]
    assert told["nine"]["class_names"] == ["a", "b", "c"] and told["nine"]["image_size"] == 32
    assert told["nine"]["weights"] == sum(value.size for value in tensors.values())
    assert told["bad"]["error"] == "its logits are not finite: it answers images with numbers that are none"
    assert told["unasked"]["error"] == "it was not measured: no images of its kind"
    assert told["unasked"]["tensors"] == told["nine"]["tensors"]  # compared with others all the same
    equal = found.facts["relations"]["two<nine"]
    backbone = len(tensors) - 2
    assert equal == {"tensors": backbone, "equal": backbone, "cosine": 1.0}
    assert abs(found.facts["relations"]["two<given"]["cosine"]) < 0.1
    # logits: those of mslab eval, in the order of the labels
    (tmp_path / "own.ckpt").write_bytes(content)
    result = evaluation.evaluate(tmp_path / "own.ckpt", report.root, device="cpu")
    assert set(found.logits) == {"nine", "two"} and found.logits["nine"].shape == (21, 3)
    predicted = found.logits["nine"].argmax(1)
    assert (predicted == images.labels).mean() == pytest.approx(result["accuracy"])
    assert np.allclose(found.logits["two"], found.logits["nine"] + 1, atol=1e-4)
    assert np.isfinite(worker.sketch({"x": np.full((300, 300), 3e38, np.float32)})).all()
    # a sketch is linear, and tells distances
    a, b = found.sketches["nine"], found.sketches["two"]
    assert np.array_equal(a, found.sketches["unasked"]) and np.array_equal(a, b) and a.shape == (4096,)
    others = network(seed=1)[0]
    other = worker.sketch(others)
    apart = sum(((value - others[name]) ** 2).sum() for name, value in tensors.items() if value.ndim > 1)
    assert ((a - other) ** 2).sum() == pytest.approx(apart, rel=0.1)


def test_hidden_images_are_pixels_in_an_order_that_tells_nothing(hidden, monkeypatch):
    images = hidden[0]
    path = images.path(32, 36)
    pixels = np.load(path, allow_pickle=False)
    assert pixels.shape == (21, 32, 32, 3) and pixels.dtype == np.uint8 and images.path(32, 36) == path
    shuffled = images.labels[images.order]
    assert len(set(shuffled[:7])) > 1 and list(images.labels) == sorted(images.labels)
    from mslab import augment

    steps = augment.eval_transforms(32, [0.0] * 3, [1 / 255] * 3, 36)
    for place in (0, 20):
        x = np.fromfile(images.images.files[images.order[place]], np.uint8)
        for step in steps:
            x = step(x)
        assert np.array_equal(pixels[place], x.transpose(1, 2, 0).round())
    # students choose sizes; files that nobody reads make room
    measured = [images.path(size, size) for size in (16, 17, 18)]
    images.release(measured[0])
    monkeypatch.setattr(measuring, "IMAGES_BYTES", 1)
    last = images.path(19, 19)
    assert [path.exists() for path in (*measured, last)] == [False, True, True, True]
    assert np.array_equal(images.in_order(shuffled[:, None])[:, 0], images.labels)


def test_facts_are_kept_by_hash_and_damage_is_made_anew(tmp_path, hidden):
    images, _ = hidden
    calls = []

    def make():
        calls.append(1)
        made = measuring.dead("x")
        return measuring.Facts(made.facts, {"nine": np.ones((2, 3), np.float32)}, {"nine": np.ones(4096, np.float32)})

    job = {"source": "a.zip", "folder": "b", "networks": {"nine": ["x"]}, "given": None}
    key = measuring.key_of("00", job, {"nine": images})
    assert key == measuring.key_of("00", job | {"source": "c", "folder": "d"}, {"nine": images})
    assert measuring.key_of("00", job, {"nine": images}, Limits(memory=1)) != key
    for other in (
        ("01", job, {"nine": images}),
        ("00", job | {"limits": {"classes": 3}}, {"nine": images}),
        ("00", job, {}),
    ):
        assert measuring.key_of(*other) != key
    for _ in range(2):
        found = measuring.cached(tmp_path / "kept", key, make)
        assert np.array_equal(found.logits["nine"], np.ones((2, 3))) and found.facts["schema"] == 1
    assert len(calls) == 1
    path = tmp_path / "kept" / f"{key}.npz"
    content = path.read_bytes()
    for damaged in (
        content[: len(content) // 2],
        b"",
        content.replace(b"schema", b"SCHEMA"),
        content[:-300] + b"x" * 300,
    ):
        path.write_bytes(damaged)
        before = len(calls)
        assert measuring.cached(tmp_path / "kept", key, make).logits.keys() == {"nine"}
        assert len(calls) == before + 1 and measuring.load(path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    died = measuring.cached(tmp_path / "kept", "other", lambda: measuring.dead("it was ended after 300 s"))
    assert died.died and not (tmp_path / "kept" / "other.npz").exists()


# --- workers that answer badly ---------------------------------------------------------------------------------------

ANSWER = """
import sys, json, os, time
job = json.loads(sys.stdin.readline())
folder = job["folder"]
sections = ("files", "configs", "json", "histories", "predictions", "networks", "relations")
facts = {"schema": 1, "problems": [], "sandbox": []} | {name: {} for name in sections}
told = {"file": "x", "class_names": ["a", "b", "c"], "logits": "a", "sketch": "b", "weights": 9, "tensors": {}}
def write(facts):
    npy("nine.sketch.npy", (4096,), body=bytes(16384))
    with open(folder + "/facts.json", "w") as file:
        file.write(facts if isinstance(facts, str) else json.dumps(facts))
def npy(name, shape, dtype="<f4", body=b"", version=b"\\x01\\x00"):
    header = str({"descr": dtype, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\\n"
    with open(folder + "/" + name, "wb") as file:
        file.write(b"\\x93NUMPY" + version + len(header).to_bytes(2, "little") + header + body)
def say(line):
    print(line, flush=True)
def need(network="nine", size=32, resize=32):
    say("need " + json.dumps({"network": network, "size": size, "resize": resize}))
    return sys.stdin.readline()
def answer(logits=lambda: npy("nine.logits.npy", (21, 3), body=bytes(252)), told=told):
    need()
    logits()
    write(facts | {"networks": {"nine": told}})
    say("done")
"""


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("answer()", ""),
        ("say('hello')", "it said 'hello'"),
        ("say('need ' + 'x' * 1000)", "it said 'need xxx"),
        ("say('need [1]'); say('need {')", "it said 'need [1]'"),
        ("need('ten')", "it asked for images of 'ten'"),
        ("need(); need()", "it asked for images of 'nine'"),
        ("need(size=10**9)", "it asked for images of 1000000000 and 32 pixels"),
        ("need(size='32')", "it asked for images of 32 and 32 pixels"),
        ("need(size=True)", "it asked for images of True"),
        ("need(['nine'])", "it asked for images of \"['nine']\""),
        ("say('x' * 100_000)", "a line without end"),
        ("say('done')", "facts.json: No such file"),
        ("write('x' * (5 << 20)); say('done')", "facts.json has more than 4,194,304 bytes"),
        ("write('{'); say('done')", "facts.json is no JSON"),
        ("write('[' * 200_000); say('done')", "facts.json is no JSON"),
        ("write('{\"schema\": NaN}'); say('done')", "facts.json is no JSON"),
        ("write('{\"json\": 1e999}'); say('done')", "facts.json is no JSON"),
        (r"write(json.dumps(facts | {'problems': ['\ud800']})); say('done')", "facts.json is no JSON"),
        ("write(facts | {'schema': 2}); say('done')", "facts.json has another schema"),
        ("write(facts | {'files': {'a': 'b'}}); say('done')", "facts.json has another files.a"),
        ("write(facts | {'more': 1}); say('done')", "facts.json has another more"),
        ("write(facts | {'problems': ['x' * 3000]}); say('done')", "facts.json has another problems.0"),
        ("os.symlink('/etc/passwd', folder + '/facts.json'); say('done')", "facts.json: "),
        ("os.mkfifo(folder + '/facts.json'); say('done')", "facts.json is no JSON"),
        ("write(facts | {'networks': {'ten': told}}); say('done')", "tells of a network 'ten'"),
        ("write(facts | {'networks': {'nine': told}}); say('done')", "it measured nine without images"),
        ("answer(lambda: None)", "nine.logits.npy: No such file"),
        ("answer(lambda: npy('nine.logits.npy', (21, 4), body=bytes(336)))", "no float32 array of (21, 3)"),
        ("answer(lambda: npy('nine.logits.npy', (21, 3), '<f8', bytes(504)))", "no float32 array of (21, 3)"),
        ("answer(lambda: npy('nine.logits.npy', (10**9, 10**9)))", "nine.logits.npy is no array"),
        ("answer(lambda: npy('nine.logits.npy', (21, 3), '|O', b'cos\\nsystem\\n(S\"true\"\\ntR.'))", "is no array"),
        ("answer(lambda: npy('nine.logits.npy', (21, 3), body=b'\\xff' * 252))", "has numbers that are none"),
        ("answer(lambda: npy('nine.logits.npy', (21, 3), body=bytes(1 << 20)))", "has more than 4,348 bytes"),
        ("answer(told=told | {'class_names': []})", "nine would have 0 classes"),
        ("write(facts | {'networks': {'nine': {'file': 'x', 'sketch': 'b'}}}); say('done')", "another networks.nine"),
        ("write(facts | {'histories': {'h': {}}}); say('done')", "has another histories.h"),
        ("write(facts | {'configs': {'c': {'error': None}}}); say('done')", "has another configs.c"),
        ("write(facts | {'json': {'j': {}}}); say('done')", "has another json.j"),
        ("os.abort()", "it ended by signal 6"),
    ],
)  # fmt: skip
def test_an_answer_that_cannot_be_used_is_said_and_nothing_else_happens(tmp_path, hidden, monkeypatch, code, text):
    monkeypatch.setattr(measuring, "START", ANSWER + code)
    images = hidden[0]
    found = look(tmp_path, tmp_path / "x.zip", {"nine": ["x"]}, {"nine": images}, within=Limits(seconds=20))
    assert not sandbox.RUNNING
    if not text:
        assert not found.died and found.logits["nine"].shape == (21, 3), found.facts
        return
    assert found.died and found.logits == {} and found.facts["networks"] == {}
    assert len(found.facts["problems"]) == 1 and text in found.facts["problems"][0], found.facts["problems"]
    measuring.Answer.model_validate(found.facts)


def test_a_worker_that_takes_too_long_is_a_reason_and_the_next_one_works(tmp_path, hidden, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(measuring, "START", ANSWER + "time.sleep(60)")
        found = look(tmp_path, tmp_path / "x.zip", {"nine": ["x"]}, within=Limits(seconds=0.5))
    assert found.facts["problems"] == ["the submission could not be read: it was ended after 0.5 s"]
    source = zip_of(tmp_path / "x.zip", {"a.txt": "x"})
    assert look(tmp_path, source).facts["files"] == {"a.txt": 1}
