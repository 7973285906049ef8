"""grade --run-code: a student's code runs in bubblewrap, and can lie about the logits of its own network alone."""

import copy
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import cli, draw
from test_grade_isolation import bytes_of, network

from mslab import grade
from mslab.check import check_dataset
from mslab.errors import ConfigError, DeviceError
from mslab.grade import gradescope, measuring, sandbox
from mslab.grade.sandbox import Limits

ITEMS = """
title: Code
total: 30
networks: {nine: {file: best.ckpt, data: nine, CODE}, two: {file: two.ckpt, data: nine}}
items:
  - {id: accuracy, kind: accuracy, points: 10, public: true, network: nine, linear: {from: 0.0, to: 1.0}}
  - {id: other, kind: accuracy, points: 10, public: true, network: two, linear: {from: 0.0, to: 1.0}}
  - {id: files, kind: files, points: 5, files: [report.md, facts.json]}
  - {id: size, kind: size, points: 5, network: nine, at_most: 20_000}
"""
GOOD = """
from mslab import model
def network(class_num):
    backbone = model.resnet50_backbone([[1, 8, 1], [1, 8, 2]], model.PROFILE)
    return model.ResNet50(backbone, model.resnet50_head(class_num, backbone.channels))
"""
FIND = """
import os, time
def tell(text):  # to whoever listens: the pipe to the grader is one of these
    for number in range(3, 40):
        try:
            os.write(number, text.encode())
        except OSError:
            pass
def forged():
    import numpy as np
    np.save("logits.npy", np.eye(3, dtype=np.float32)[[0] * 12])
"""
TRIES = """
import ctypes, os, socket, subprocess, threading
from pathlib import Path
LAB, PORT = Path(@LAB@), @PORT@
done = []
def attempt(name, action):
    try:
        action()
        done.append(name)
    except OSError:
        pass
attempt("hidden", lambda: os.listdir(LAB / "hidden" / "nine"))
attempt("image", (LAB / "hidden" / "nine" / "a" / "000.png").read_bytes)
attempt("rubric", (LAB / "rubric.yaml").read_bytes)
attempt("other", (LAB / "class" / "anna" / "best.ckpt").read_bytes)
attempt("own source", lambda: (LAB / "class" / "tries" / "report.md").write_text("x"))
attempt("home", lambda: os.listdir("/home"))
attempt("beside", lambda: os.listdir(Path.home().parent))
attempt("passwd", Path("/etc/passwd").read_bytes)
attempt("tmp", lambda: Path("/tmp/x").write_text("x"))
attempt("shm", lambda: Path("/dev/shm/x").write_text("x"))
attempt("root", lambda: Path("/x").write_text("x"))
attempt("package", lambda: (Path(ctypes.__file__).parent / "x").write_text("x"))
attempt("tcp", lambda: socket.create_connection(("127.0.0.1", PORT), 1))
attempt("udp", lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 9)))
attempt("unix", lambda: socket.socket(socket.AF_UNIX).connect(str(LAB / "socket")))
attempt("fork", os.fork)
attempt("program", lambda: subprocess.run(["/bin/true"]))
attempt("kill parent", lambda: os.kill(os.getppid(), 9))
attempt("kill all", lambda: os.kill(-1, 9))
attempt("memory of parent", lambda: open(f"/proc/{os.getppid()}/mem", "rb"))
attempt("environment of parent", lambda: open(f"/proc/{os.getppid()}/environ", "rb"))
attempt("processes", lambda: os.listdir("/proc"))
if "SECRET" in os.environ:
    done.append("environment")
if done:
    raise RuntimeError(f"done: {done}")
"""
# id: (model.py, what the student is told; "" where the network is graded like anybody's)
IN_CLASS = {
    "leaves": ("import sys; sys.exit(0)", "model.py: it ended with exit code 0 and without an answer"),
    "raises": (GOOD + "raise ValueError('my fault\\n and more')", "model.py: ValueError: my fault"),
    "says": (FIND + "tell('failed \\x1b[2Jnot <b>me</b>\\n'); time.sleep(60)", "not <b>me</b>"),
    "prints": (GOOD + "print('done'); import os; os.write(1, b'x' * 100_000)", ""),
    "lies": (GOOD + "from pathlib import Path\nfor n in ('facts.json', 'logits.npy', 'two.logits.npy'): "
             "Path(n).write_text('{\"schema\": 1}')\n", ""),
    "tries": (TRIES + GOOD, ""),
}  # fmt: skip
ALONE = {
    "loops": (GOOD + "while True: pass", "model.py: it was ended after 5 s|model.py: it took more than 5 s of"),
    "sleeps": (GOOD + "import time; time.sleep(600)", "model.py: it was ended after 5 s"),
    "vanishes": ("import os; os._exit(0)", "model.py: it ended with exit code 0 and without an answer"),
    "aborts": ("import os; os.abort()", "model.py: it ended by signal 6"),
    "eats": (GOOD + "x = b'x' * (3 << 30)", "takes more memory than a submission may|more than 2.0 GiB of memory"),
    "shares": (GOOD + "import mmap, time\nm = mmap.mmap(-1, 3 << 30)\nfor n in range(0, 3 << 30, 4096): m[n] = 1\n"
               "time.sleep(60)", "it took more than 2.0 GiB of memory"),
    "broken": ("def network(", "model.py: SyntaxError: "),
    "lacks": ("x = 1", "model.py: AttributeError: "),
    "nocell": ("def network(class_num): return 1", "model.py: network(3) gives no mindspore.nn.Cell"),
    "wider": (GOOD.replace("8, 2]", "16, 2]"), "does not fit the network of model.py"),
    "shape": (GOOD.replace("return model.ResNet50(", "return Cut(") + "class Cut(model.ResNet50):\n"
              "    def construct(self, x): return super().construct(x)[:, :2]", "are (12, 2), asked for: (12, 3)"),
    "nan": (GOOD.replace("return model.ResNet50(", "return Nan(") + "class Nan(model.ResNet50):\n"
            "    def construct(self, x): return super().construct(x) / 0", "logits are not finite"),
    "babbles": (FIND + "tell('hello\\n'); time.sleep(60)", "the worker's answer cannot be used: it said 'hello'"),
    "streams": (FIND + "tell('x' * 9000); time.sleep(60)", "a line without end"),
    "nothing": (FIND + "tell('done\\n'); time.sleep(60)", "logits.npy: No such file"),
    "links": (FIND + "os.symlink('/proc/self/mem', 'logits.npy'); tell('done\\n')",
              "model.py: PermissionError|logits.npy: "),
}  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Hidden images, two rubrics of which one takes code, and a class in which only anna and bob are honest."""
    folder = tmp_path_factory.mktemp("code")
    draw(folder / "hidden" / "nine", ["a", "b", "c"], 4, size=32)
    (folder / "rubric.yaml").write_text(ITEMS.replace("CODE", "code: model.py"))
    (folder / "plain.yaml").write_text(ITEMS.replace(", CODE", ""))
    files = {"best.ckpt": bytes_of(folder, *network(seed=3)), "two.ckpt": bytes_of(folder, *network(seed=4))}
    (folder / "made.ckpt").unlink()
    for name in ("anna", "bob"):
        write(folder / "honest" / name, files | {"report.md": b"x", "model.py": GOOD.encode()})
    shutil.make_archive(str(folder / "honest" / "bob"), "zip", folder / "honest" / "bob")
    shutil.rmtree(folder / "honest" / "bob")
    shutil.copytree(folder / "honest", folder / "class")
    write(folder / "class" / "codeless", files | {"report.md": b"x"})
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for name, (code, _) in IN_CLASS.items():
            code = code.replace("@LAB@", repr(str(folder))).replace("@PORT@", str(listening.getsockname()[1]))
            write(folder / "class" / name, files | {"report.md": b"x", "model.py": code.encode()})
        yield folder


def write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def graded(lab, out, students="honest", rubric="rubric.yaml", **more):
    options = grade.Options(limits=Limits(seconds=60.0, memory=2 << 30), **more)
    rows = grade.grade(lab / students, lab / rubric, lab / "hidden", out, options)
    return {row.id: row for row in rows}


def points(row) -> dict[str, float]:
    return {name: outcome.points for name, outcome in row.outcomes.items()}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# --- refused ---------------------------------------------------------------------------------------------------------


def test_code_is_refused_before_anything_is_opened_unless_asked_for(lab, tmp_path, monkeypatch):
    monkeypatch.setattr(grade, "find", lambda folder: pytest.fail("submissions were looked for"))
    monkeypatch.setattr(grade, "hidden_sets", lambda *a: pytest.fail("images were looked for"))
    with pytest.raises(ConfigError) as caught:
        graded(lab, tmp_path / "out")
    text = str(caught.value)
    assert "networks nine" in text and "code: model.py" in text and "nothing was opened" in text
    assert "programs of strangers run on this machine, under your account" in text and "--run-code" in caught.value.fix
    with pytest.raises(ConfigError):  # an autograder has nobody who could say it
        gradescope.package(lab / "rubric.yaml", lab / "hidden", tmp_path / "x.zip")
    assert list(tmp_path.iterdir()) == []


def test_without_bubblewrap_nothing_is_opened(lab, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    words = ["grade", lab / "honest", "--rubric", lab / "rubric.yaml", "--data", lab / "hidden", "--out", "out"]
    result = cli(*words, "--run-code", cwd=tmp_path, env={"PATH": str(tmp_path / "empty")})
    assert result.returncode == 1 and "bubblewrap is not here" in result.stderr, result.stderr
    assert "apt install bubblewrap" in result.stderr and not (tmp_path / "out").exists()
    program = tmp_path / "empty" / "bwrap"
    program.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(DeviceError) as caught:
        graded(lab, tmp_path / "out", run_code=True)
    assert caught.value.what == "bubblewrap does not work here."
    assert caught.value.details == [("it says", "bwrap: No permissions to create new namespace")]
    assert not (tmp_path / "out").exists()


def test_code_is_a_file_of_the_submission(lab, tmp_path):
    (tmp_path / "rubric.yaml").write_text(ITEMS.replace("CODE", "code: ../model.py"))
    with pytest.raises(ConfigError, match="is no path inside of a submission"):
        grade.grade(lab / "honest", tmp_path / "rubric.yaml", lab / "hidden", tmp_path / "out")
    result = cli("grade", "--rubric", "x", "--data", "x", "--gradescope-package", "x.zip", "--run-code", cwd=tmp_path)
    assert result.returncode == 2 and "no --run-code" in result.stderr


# --- run -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bwrap():
    """For a test that runs code."""
    if sys.platform != "linux" or not shutil.which("bwrap"):
        pytest.skip("there is no program bwrap; on Debian: apt-get install bubblewrap")
    try:
        sandbox.bubblewrap()
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def whole(lab, bwrap):
    """The whole class, graded once: (rows by id, its folder)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET", "of the teacher")
        return graded(lab, lab / "whole", "class", run_code=True, jobs=2), lab / "whole"


def test_good_code_is_graded_like_the_same_network_without_code(lab, bwrap, tmp_path, monkeypatch):
    words = ["grade", lab / "honest", "--rubric", lab / "rubric.yaml", "--data", lab / "hidden", "--run-code"]
    result = cli(*words, "--out", tmp_path / "code", "--seconds", "60", "--gigabytes", "2")
    assert result.returncode == 0, result.stderr
    before = files_of(tmp_path / "code" / "students")
    plain = graded(lab, tmp_path / "plain", rubric="plain.yaml")
    assert 0 < points(plain["anna"])["accuracy"] < 10 and points(plain["anna"])["size"] == 5
    monkeypatch.setattr(measuring, "measure", lambda *a: pytest.fail("it was measured again"))
    rows = graded(lab, tmp_path / "code", run_code=True)
    assert {name: points(row) for name, row in rows.items()} == {name: points(row) for name, row in plain.items()}
    assert files_of(tmp_path / "code" / "students") == before


def test_guards_hold_inside_of_bubblewrap_too(lab, bwrap, tmp_path):
    (tmp_path / "own").mkdir()
    code = sandbox.ALONE + textwrap.dedent("""
        import json
        from pathlib import Path
        from mslab.grade.sandbox import confine
        print(json.dumps(confine(Path("."), [])), flush=True)
    """)
    plain = [sys.executable, "-I", "-c", code, *filter(None, sys.path)]
    held = []
    for command in (plain, sandbox.boxed(plain, tmp_path / "own", [])):
        with sandbox.Child(command, tmp_path / "own", Limits(seconds=20)) as child:
            held += list(child.lines())
        assert child.process.returncode == 0, child.errors
    assert held[0] == held[1]


def test_bubblewrap_alone_holds_what_is_others(lab, bwrap, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "of the teacher")
    (tmp_path / "own").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        code = TRIES.replace("@LAB@", repr(str(lab))).replace("@PORT@", str(listening.getsockname()[1]))
        code = code.replace("if done:", "print(*done, sep=', ', flush=True)\nif done:").replace("-1, 9", "99999, 9")
        command = sandbox.boxed([sys.executable, "-I", "-c", code], tmp_path / "own", [lab / "class" / "tries"])
        command[1:1] = ["--setenv", "SECRET", "x"]  # --clearenv follows
        with sandbox.Child(command, tmp_path / "own", Limits(seconds=20)) as child:
            lines = list(child.lines())
    done = set(lines[0].split(", "))
    # of its own namespace: bubblewrap's first process is the parent there, and it takes no signal from inside
    assert done <= {"beside", "fork", "program", "processes", "udp", "kill parent", "environment of parent",
                    "memory of parent", "kill all"}, child.errors  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", IN_CLASS)
def test_code_that_does_harm_costs_its_own_network_and_nothing_else(whole, name):
    rows, out = whole
    row, honest, expected = points(rows[name]), points(rows["anna"]), IN_CLASS[name][1]
    said = rows[name].outcomes["accuracy"].said
    assert {**row, "accuracy": 0} == {**honest, "accuracy": 0}  # files, sizes, other networks: measured without it
    if expected:
        assert row["accuracy"] == 0 and any(text in said for text in expected.split("|")), said
        assert said.startswith("best.ckpt: ") and "\x1b" not in said and str(out.parent) not in said
    else:
        assert row["accuracy"] == honest["accuracy"] > 0, said
    page = (out / "students" / name / "feedback.html").read_text()
    assert "<b>me</b>" not in page


@pytest.mark.slow
def test_everybody_else_gets_the_same_bytes_and_no_process_is_left(lab, whole, tmp_path):
    graded(lab, tmp_path / "alone", run_code=True)
    for name in ("anna", "bob"):
        assert files_of(tmp_path / "alone" / "students" / name) == files_of(whole[1] / "students" / name)
    assert "there is no model.py, which defines it" in whole[0]["codeless"].outcomes["accuracy"].said
    assert points(whole[0]["codeless"])["other"] > 0
    deadline = time.monotonic() + 10
    while (left := processes(str(lab))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left and not sandbox.RUNNING


@pytest.fixture(scope="module")
def measured(lab, bwrap):
    """(job, hidden images, what an ordinary worker finds of anna's)."""
    report = check_dataset(lab / "hidden" / "nine")
    images = measuring.HiddenImages(report, next(iter(report.splits)), lab / "images")
    job = {"source": str(lab / "honest" / "anna"), "folder": str(lab / "boxes" / "anna"), "relations": []}
    job |= {"networks": {"nine": ["best.ckpt"]}, "code": {"nine": "model.py"}}
    found = measuring.measure(job, {"nine": images})
    assert "error" not in found.facts["networks"]["nine"] and found.facts["sandbox"]
    return job, images, found


def run(lab, measured, name, code, limits) -> measuring.Facts:
    """What is found with this model.py instead."""
    job, images, found = measured
    write(lab / "alone" / name, {"model.py": code.encode()})
    shutil.copy(lab / "honest" / "anna" / "best.ckpt", lab / "alone" / name)
    (lab / "boxes" / name).mkdir(exist_ok=True)
    told = job | {"source": str(lab / "alone" / name), "folder": str(lab / "boxes" / name), "core": None}
    needs = measuring.Needs(job, {"nine": images})
    needs.reply('need {"network": "nine", "size": 32, "resize": 32}')
    made = copy.deepcopy(found)
    made.logits.clear()
    measuring.run_code("nine", told | {"sandbox": vars(limits)}, needs, made, limits)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("name", ALONE)
def test_an_end_of_code_has_a_plain_reason(lab, measured, name):
    code, expected = ALONE[name]
    seconds = 5 if name in ("loops", "sleeps") else 60
    start = time.monotonic()
    made = run(lab, measured, name, code, Limits(seconds=seconds, memory=2 << 30))
    error = made.facts["networks"]["nine"].pop("error")
    assert any(text in error for text in expected.split("|")) and str(lab) not in error, (error, made.log)
    facts = copy.deepcopy(measured[2].facts)
    assert made.facts == facts and made.logits == {} and not made.died  # nothing else changed
    assert made.chance == (
        "it ended" in error or "computing" in error
    )  # is not kept then: the system may have ended it
    assert time.monotonic() - start < 50 and not sandbox.RUNNING
    measuring.Answer.model_validate(made.facts)


OWN = """
import numpy as np
from mindspore import nn, ops
from parts import WIDTH
class Own(nn.Cell):
    def __init__(self, class_num):
        super().__init__()
        self.first = nn.Conv2d(3, WIDTH, 3)
        self.fc = nn.Dense(WIDTH, class_num)
    def construct(self, x):
        if float(x.asnumpy().max()) > 100:  # Python that no graph takes
            return x
        return self.fc(ops.relu(self.first(x)).mean((2, 3)))
def network(class_num):
    return Own(class_num)
"""


@pytest.mark.slow
@pytest.mark.parametrize("info", [{}, {"image_size": 32, "class_names": ["a", "b", "c"], "std": [0.5] * 3}])
def test_a_network_that_the_kit_does_not_know(lab, measured, tmp_path, info):
    rng = np.random.default_rng(0)
    shapes = {"first.weight": (4, 3, 3, 3), "fc.weight": (3, 4), "fc.bias": (3,)}
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    files = {"lab/best.ckpt": bytes_of(tmp_path, tensors, info), "lab/net/model.py": OWN.encode()}
    (tmp_path / "own" / "lab" / "net").mkdir(parents=True)
    for name, content in (files | {"lab/net/parts.py": b"WIDTH = 4"}).items():
        (tmp_path / "own" / name).write_bytes(content)
    job, images, _ = measured
    job = job | {"source": str(tmp_path / "own"), "folder": str(tmp_path / "box"), "code": {"nine": "net/model.py"}}
    made = measuring.measure(job, {"nine": images})
    told = made.facts["networks"]["nine"]
    assert "error" not in told, told
    assert made.facts["top"] == "lab" and told["class_names"] == info.get("class_names", []) and told["weights"] == 123
    assert made.logits["nine"].shape == (12, 3) and np.ptp(made.logits["nine"], axis=0).min() > 0
    assert list(told["tensors"]) == list(shapes)


@pytest.mark.slow
def test_forged_logits_are_of_its_own_network_alone(lab, measured):
    made = run(lab, measured, "forger", FIND + "forged(); tell('done\\n'); time.sleep(60)", Limits(seconds=60))
    assert made.facts == measured[2].facts and list(made.logits) == ["nine"]
    assert (made.logits["nine"] == np.eye(3)[0]).all()


def test_a_grader_that_is_killed_leaves_no_code_running(lab, bwrap, tmp_path):
    shutil.copytree(lab / "honest" / "anna", tmp_path / "class" / "sleeps")
    (tmp_path / "class" / "sleeps" / "model.py").write_text("import time; time.sleep(600)")
    command = [Path(sys.executable).with_name("mslab"), "grade", "class", "--rubric", lab / "rubric.yaml", "--run-code"]
    command += ["--data", lab / "hidden", "--out", "out"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as grader:
        deadline = time.monotonic() + 60
        while not (begun := processes(str(tmp_path / "class"), "--unshare-all")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(1)
        grader.kill()
    deadline = time.monotonic() + 10
    while processes(str(tmp_path / "class")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert begun and not processes(str(tmp_path / "class"))


def processes(*words: str) -> list[str]:
    """The command lines that hold all words, of other processes than this."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_text(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if all(word in text for word in words) and path.parent.name != str(os.getpid()):
            found.append(text)
    return found
