"""grade --run-code on a class with attackers, and every way in which code can end."""

import copy
import shutil
import socket
import time

import numpy as np
import pytest
from coding import FIND, GOOD, TRIES, files_of, graded, lab_in, need_bubblewrap, points, processes, socket_at, write
from submitted import bytes_of

from mslab.check import check_dataset
from mslab.grade import answers, measuring, sandbox
from mslab.grade.records import Measurement
from mslab.grade.sandbox import Limits

# id: (model.py, message for the student; "" if the network is graded like any other)
IN_CLASS = {
    "leaves": ("import sys; sys.exit(0)", "model.py: it ended with exit code 0 and without an answer"),
    "raises": (GOOD + "raise ValueError('my fault\\n and more')", "model.py: ValueError: my fault"),
    "says": (FIND + "shout('failed \\x1b[2Jnot <b>me</b>\\n'); time.sleep(60)", "not <b>me</b>"),
    "prints": (GOOD + "print('done'); import os; os.write(1, b'x' * 100_000)", ""),
    "lies": (GOOD + "from pathlib import Path\nfor n in ('facts.json', 'logits.npy', 'two.logits.npy'): "
             "Path(n).write_text('{\"schema\": 1}')\n", ""),
    "tries": (TRIES + GOOD, ""),
}  # fmt: skip
SINGLE = {
    "loops": (GOOD + "while True: pass", "model.py: it was stopped after 5 s|model.py: it used more than 5 s of"),
    "sleeps": (GOOD + "import time; time.sleep(600)", "model.py: it was stopped after 5 s"),
    "vanishes": ("import os; os._exit(0)", "model.py: it ended with exit code 0 and without an answer"),
    "aborts": ("import os; os.abort()", "model.py: it ended with signal 6"),
    "eats": (GOOD + "x = b'x' * (3 << 30)", "takes more memory than a submission may use|more than 2.0 GiB of memory"),
    "shares": (GOOD + "import mmap, time\nm = mmap.mmap(-1, 3 << 30)\nfor n in range(0, 3 << 30, 4096): m[n] = 1\n"
               "time.sleep(60)", "it used more than 2.0 GiB of memory"),
    "broken": ("def network(", "model.py: SyntaxError: "),
    "lacks": ("x = 1", "model.py: AttributeError: "),
    "nocell": ("def network(class_num): return 1", "model.py: network(3) returns no mindspore.nn.Cell"),
    "wider": (GOOD.replace("8, 2]", "16, 2]"), "does not fit the network of model.py"),
    "shape": (GOOD.replace("return model.ResNet50(", "return Cut(") + "class Cut(model.ResNet50):\n"
              "    def construct(self, x): return super().construct(x)[:, :2]", "are (12, 2), expected: (12, 3)"),
    "nan": (GOOD.replace("return model.ResNet50(", "return Nan(") + "class Nan(model.ResNet50):\n"
            "    def construct(self, x): return super().construct(x) / 0", "logits are not finite"),
    "babbles": (FIND + "shout('hello\\n'); time.sleep(60)", "the worker's answer cannot be used: it sent 'hello'"),
    "streams": (FIND + "shout('x' * 9000); time.sleep(60)", "a line is unterminated or too long"),
    "nothing": (FIND + "shout('done\\n'); time.sleep(60)", "logits.npy: No such file"),
    "links": (FIND + "os.symlink('/proc/self/mem', 'logits.npy'); shout('done\\n')",
              "model.py: PermissionError|logits.npy: "),
}  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """Hidden images, two rubrics, of which one accepts code, and a class in which only anna and bob are honest."""
    folder = tmp_path_factory.mktemp("code")
    files = lab_in(folder)
    shutil.make_archive(str(folder / "honest" / "bob"), "zip", folder / "honest" / "anna")
    shutil.copytree(folder / "honest", folder / "class")
    write(folder / "class" / "codeless", {name: content for name, content in files.items() if name != "model.py"})
    with socket.create_server(("127.0.0.1", 0)) as listening, socket_at(folder / "socket"):
        for name, (code, _) in IN_CLASS.items():
            code = code.replace("@LAB@", repr(str(folder))).replace("@PORT@", str(listening.getsockname()[1]))
            write(folder / "class" / name, files | {"model.py": code.encode()})
        yield folder


@pytest.fixture(scope="module")
def bwrap():
    """Fixture for a test that runs code."""
    need_bubblewrap()


@pytest.fixture(scope="module")
def graded_class(lab, bwrap):
    """The complete class, graded once: (rows by id, its folder)."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET", "of the teacher")
        return graded(lab, lab / "graded", "class", run_code=True, jobs=2), lab / "graded"


@pytest.mark.parametrize("name", IN_CLASS)
def test_harmful_code_costs_its_own_network_and_nothing_else(graded_class, name):
    rows, out = graded_class
    row, honest, expected = points(rows[name]), points(rows["anna"]), IN_CLASS[name][1]
    message = rows[name].outcomes["accuracy"].said
    assert {**row, "accuracy": 0} == {**honest, "accuracy": 0}  # files, sizes, other networks: measured without it
    if expected:
        assert row["accuracy"] == 0 and any(text in message for text in expected.split("|")), message
        assert message.startswith("best.ckpt: ") and "\x1b" not in message and str(out.parent) not in message
    else:
        assert row["accuracy"] == honest["accuracy"] > 0, message
    page = (out / "students" / name / "feedback.html").read_text()
    assert "<b>me</b>" not in page


def test_other_students_get_the_same_bytes_and_no_process_is_left(lab, graded_class, tmp_path):
    graded(lab, tmp_path / "alone", run_code=True)
    for name in ("anna", "bob"):
        assert files_of(tmp_path / "alone" / "students" / name) == files_of(graded_class[1] / "students" / name)
    assert "there is no model.py, which defines it" in graded_class[0]["codeless"].outcomes["accuracy"].said
    assert points(graded_class[0]["codeless"])["other"] > 0
    deadline = time.monotonic() + 10
    while (left := processes(str(lab))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left and not sandbox.RUNNING


@pytest.fixture(scope="module")
def measured(lab, bwrap):
    """(job, hidden images, an ordinary worker's measurement of anna)."""
    report = check_dataset(lab / "hidden" / "nine")
    images = measuring.HiddenImages(report, next(iter(report.splits)), lab / "images")
    job = {"source": str(lab / "honest" / "anna"), "folder": str(lab / "boxes" / "anna"), "relations": []}
    job |= {"networks": {"nine": ["best.ckpt"]}, "code": {"nine": "model.py"}}
    measurement = measuring.measure(job, {"nine": images})
    assert "error" not in measurement.facts["networks"]["nine"] and measurement.facts["sandbox"]
    return job, images, measurement


def run(lab, measured, name, code, limits) -> Measurement:
    """Measure anna's submission with this model.py instead."""
    job, images, measurement = measured
    write(lab / "alone" / name, {"model.py": code.encode()})
    shutil.copy(lab / "honest" / "anna" / "best.ckpt", lab / "alone" / name)
    (lab / "boxes" / name).mkdir(exist_ok=True)
    request = job | {"source": str(lab / "alone" / name), "folder": str(lab / "boxes" / name), "core": None}
    needs = measuring.ImageRequests(job, {"nine": images})
    needs.reply('need {"network": "nine", "size": 32, "resize": 32}')
    result = copy.deepcopy(measurement)
    result.logits.clear()
    measuring.run_code("nine", request | {"sandbox": vars(limits)}, needs, result, limits)
    return result


@pytest.mark.parametrize("name", SINGLE)
def test_every_end_of_code_has_a_plain_reason(lab, measured, name):
    code, expected = SINGLE[name]
    seconds = 5 if name in ("loops", "sleeps") else 60
    start = time.monotonic()
    result = run(lab, measured, name, code, Limits(seconds=seconds, memory=2 << 30))
    error = result.facts["networks"]["nine"].pop("error")
    assert any(text in error for text in expected.split("|")) and str(lab) not in error, (error, result.log)
    facts = copy.deepcopy(measured[2].facts)
    assert result.facts == facts and result.logits == {} and not result.died  # nothing else changed
    assert result.chance == (
        "it ended" in error or "computing" in error
    )  # not cached then: the system may have killed it
    assert time.monotonic() - start < 50 and not sandbox.RUNNING
    answers.Answer.model_validate(result.facts)


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
        if float(x.asnumpy().max()) > 100:  # Python that graph mode cannot compile
            return x
        return self.fc(ops.relu(self.first(x)).mean((2, 3)))
def network(class_num):
    return Own(class_num)
"""


@pytest.mark.parametrize("info", [{}, {"image_size": 32, "class_names": ["a", "b", "c"], "std": [0.5] * 3}])
def test_a_network_that_mslab_does_not_have(lab, measured, tmp_path, info):
    rng = np.random.default_rng(0)
    shapes = {"first.weight": (4, 3, 3, 3), "fc.weight": (3, 4), "fc.bias": (3,)}
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    files = {"lab/best.ckpt": bytes_of(tmp_path, tensors, info), "lab/net/model.py": OWN.encode()}
    (tmp_path / "own" / "lab" / "net").mkdir(parents=True)
    for name, content in (files | {"lab/net/parts.py": b"WIDTH = 4"}).items():
        (tmp_path / "own" / name).write_bytes(content)
    job, images, _ = measured
    job = job | {"source": str(tmp_path / "own"), "folder": str(tmp_path / "box"), "code": {"nine": "net/model.py"}}
    result = measuring.measure(job, {"nine": images})
    facts = result.facts["networks"]["nine"]
    assert "error" not in facts, facts
    assert (
        result.facts["top"] == "lab" and facts["class_names"] == info.get("class_names", []) and facts["weights"] == 123
    )
    assert result.logits["nine"].shape == (12, 3) and np.ptp(result.logits["nine"], axis=0).min() > 0
    assert list(facts["tensors"]) == list(shapes)


def test_code_can_forge_only_the_logits_of_its_own_network(lab, measured):
    result = run(lab, measured, "forger", FIND + "forged(); shout('done\\n'); time.sleep(60)", Limits(seconds=60))
    assert result.facts == measured[2].facts and list(result.logits) == ["nine"]
    assert (result.logits["nine"] == np.eye(3)[0]).all()
