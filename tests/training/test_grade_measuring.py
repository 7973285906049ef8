"""grade: what a worker measures, and what the grader takes of its answer."""

import os

import numpy as np
import pytest
from submitted import bytes_of, hidden_images, look, network, zip_of

from mslab.evaluation.measuring import evaluate
from mslab.grade import answers, looking, measuring, sandbox
from mslab.grade.records import Measurement
from mslab.grade.sandbox import Limits


@pytest.fixture(scope="module")
def hidden(tmp_path_factory):
    return hidden_images(tmp_path_factory.mktemp("hidden"))


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
    assert told["bad"]["error"] == "its logits are not finite: it answers some images with NaN or infinity"
    assert told["unasked"]["error"] == "it was not measured: no hidden images for this network"
    assert told["unasked"]["tensors"] == told["nine"]["tensors"]  # compared with others all the same
    equal = found.facts["relations"]["two<nine"]
    backbone = len(tensors) - 2
    assert equal == {"tensors": backbone, "equal": backbone, "cosine": 1.0}
    assert abs(found.facts["relations"]["two<given"]["cosine"]) < 0.1
    # logits: those of mslab eval, in the order of the labels
    (tmp_path / "own.ckpt").write_bytes(content)
    result = evaluate(tmp_path / "own.ckpt", report.root, device="cpu")
    assert set(found.logits) == {"nine", "two"} and found.logits["nine"].shape == (21, 3)
    predicted = found.logits["nine"].argmax(1)
    assert (predicted == images.labels).mean() == pytest.approx(result["accuracy"])
    assert np.allclose(found.logits["two"], found.logits["nine"] + 1, atol=1e-4)
    assert np.isfinite(looking.sketch({"x": np.full((300, 300), 3e38, np.float32)})).all()
    # a sketch is linear, and tells distances
    a, b = found.sketches["nine"], found.sketches["two"]
    assert np.array_equal(a, found.sketches["unasked"]) and np.array_equal(a, b) and a.shape == (4096,)
    others = network(seed=1)[0]
    other = looking.sketch(others)
    apart = sum(((value - others[name]) ** 2).sum() for name, value in tensors.items() if value.ndim > 1)
    assert ((a - other) ** 2).sum() == pytest.approx(apart, rel=0.1)


def test_facts_are_kept_by_hash_and_damage_is_made_anew(tmp_path, hidden):
    images, _ = hidden
    calls = []

    def make():
        calls.append(1)
        made = measuring.no_answer("x")
        return Measurement(made.facts, {"nine": np.ones((2, 3), np.float32)}, {"nine": np.ones(4096, np.float32)})

    job = {"source": "a.zip", "folder": "b", "networks": {"nine": ["x"]}, "given": None}
    key = measuring.cache_key("00", job, {"nine": images})
    assert key == measuring.cache_key("00", job | {"source": "c", "folder": "d"}, {"nine": images})
    assert measuring.cache_key("00", job, {"nine": images}, Limits(memory=1)) != key
    for other in (
        ("01", job, {"nine": images}),
        ("00", job | {"limits": {"classes": 3}}, {"nine": images}),
        ("00", job, {}),
    ):
        assert measuring.cache_key(*other) != key
    for _ in range(2):
        found = measuring.load_or_measure(tmp_path / "kept", key, make)
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
        assert measuring.load_or_measure(tmp_path / "kept", key, make).logits.keys() == {"nine"}
        assert len(calls) == before + 1 and measuring.load(path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    died = measuring.load_or_measure(
        tmp_path / "kept", "other", lambda: measuring.no_answer("it was stopped after 300 s")
    )
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
        ("say('hello')", "it sent 'hello'"),
        ("say('need ' + 'x' * 1000)", "it sent 'need xxx"),
        ("say('need [1]'); say('need {')", "it sent 'need [1]'"),
        ("need('ten')", "it requested images of 'ten'"),
        ("need(); need()", "it requested images of 'nine'"),
        ("need(size=10**9)", "it requested images of 1000000000 and 32 pixels"),
        ("need(size='32')", "it requested images of 32 and 32 pixels"),
        ("need(size=True)", "it requested images of True"),
        ("need(['nine'])", "it requested images of \"['nine']\""),
        ("say('x' * 100_000)", "a line is unterminated or too long"),
        ("say('done')", "facts.json: No such file"),
        ("write('x' * (5 << 20)); say('done')", "facts.json has more than 4,194,304 bytes"),
        ("write('{'); say('done')", "facts.json is not valid JSON"),
        ("write('[' * 200_000); say('done')", "facts.json is not valid JSON"),
        ("write('{\"schema\": NaN}'); say('done')", "facts.json is not valid JSON"),
        ("write('{\"json\": 1e999}'); say('done')", "facts.json is not valid JSON"),
        (r"write(json.dumps(facts | {'problems': ['\ud800']})); say('done')", "facts.json is not valid JSON"),
        ("write(facts | {'schema': 2}); say('done')", "facts.json has an unexpected value at schema"),
        ("write(facts | {'files': {'a': 'b'}}); say('done')", "facts.json has an unexpected value at files.a"),
        ("write(facts | {'more': 1}); say('done')", "facts.json has an unexpected value at more"),
        ("write(facts | {'problems': ['x' * 3000]}); say('done')", "facts.json has an unexpected value at problems.0"),
        ("os.symlink('/etc/passwd', folder + '/facts.json'); say('done')", "facts.json: "),
        ("os.mkfifo(folder + '/facts.json'); say('done')", "facts.json is not valid JSON"),
        ("write(facts | {'networks': {'ten': told}}); say('done')", "reports an unknown network 'ten'"),
        ("write(facts | {'networks': {'nine': told}}); say('done')", "it measured nine without images"),
        ("answer(lambda: None)", "nine.logits.npy: No such file"),
        ("answer(lambda: npy('nine.logits.npy', (21, 4), body=bytes(336)))", "not a float32 array of shape (21, 3)"),
        ("answer(lambda: npy('nine.logits.npy', (21, 3), '<f8', bytes(504)))", "not a float32 array of shape (21, 3)"),
        ("answer(lambda: npy('nine.logits.npy', (10**9, 10**9)))", "nine.logits.npy is not an array"),
        ("answer(lambda: npy('nine.logits.npy', (21, 3), '|O', b'cos\\nsystem\\n(S\"true\"\\ntR.'))", "is not an array"),
        ("answer(lambda: npy('nine.logits.npy', (21, 3), body=b'\\xff' * 252))", "has values that are not finite"),
        ("answer(lambda: npy('nine.logits.npy', (21, 3), body=bytes(1 << 20)))", "has more than 4,348 bytes"),
        ("answer(told=told | {'class_names': []})", "nine has 0 classes"),
        ("write(facts | {'networks': {'nine': {'file': 'x', 'sketch': 'b'}}}); say('done')", "unexpected value at networks.nine"),
        ("write(facts | {'histories': {'h': {}}}); say('done')", "has an unexpected value at histories.h"),
        ("write(facts | {'configs': {'c': {'error': None}}}); say('done')", "has an unexpected value at configs.c"),
        ("write(facts | {'json': {'j': {}}}); say('done')", "has an unexpected value at json.j"),
        ("os.abort()", "it ended with signal 6"),
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
    answers.Answer.model_validate(found.facts)


def test_a_worker_that_takes_too_long_is_a_reason_and_the_next_one_works(tmp_path, hidden, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(measuring, "START", ANSWER + "time.sleep(60)")
        found = look(tmp_path, tmp_path / "x.zip", {"nine": ["x"]}, within=Limits(seconds=0.5))
    assert found.facts["problems"] == ["the submission could not be read: it was stopped after 0.5 s"]
    source = zip_of(tmp_path / "x.zip", {"a.txt": "x"})
    assert look(tmp_path, source).facts["files"] == {"a.txt": 1}
