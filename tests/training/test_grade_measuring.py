"""grade: what a worker measures, and which answers the grader accepts."""

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers import settings
from submitted import bytes_of, hidden_images, inspect, network, zip_of

from mslab import checkpoint
from mslab.evaluation import engines
from mslab.evaluation.measuring import evaluate
from mslab.grade import answers, grading, looking, measuring, parentage, sandbox
from mslab.grade.records import Measurement
from mslab.grade.sandbox import Limits


@pytest.fixture(scope="module")
def hidden(tmp_path_factory):
    return hidden_images(tmp_path_factory.mktemp("hidden"))


def test_a_network_is_measured_like_mslab_eval(tmp_path, hidden):
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
    hidden_by_name = dict.fromkeys(names[:3], images)
    extra = {"relations": [["two", "nine"], ["two", "given"]], "given": str(tmp_path / "given.ckpt")}
    core = sorted(os.sched_getaffinity(0))[0] if hasattr(os, "sched_getaffinity") else None
    job = {"source": str(source), "folder": str(tmp_path / "box"), "networks": networks} | extra
    job |= {"engine": engines.choose("auto").record()}
    measurement = measuring.measure(job, hidden_by_name, core=core)
    assert not measurement.died, (measurement.facts["problems"], measurement.log)
    networks_found = measurement.facts["networks"]
    assert networks_found["nine"]["class_names"] == ["a", "b", "c"] and networks_found["nine"]["image_size"] == 32
    assert networks_found["nine"]["weights"] == sum(value.size for value in tensors.values())
    assert networks_found["bad"]["error"] == "its logits are not finite: it answers some images with NaN or infinity"
    assert networks_found["unasked"]["error"] == "it was not measured: no hidden images for this network"
    # it was not measured, but it is compared with others
    assert networks_found["unasked"]["tensors"] == networks_found["nine"]["tensors"]
    equal = measurement.facts["relations"]["two<nine"]
    backbone = len(tensors) - 2
    assert equal == {"tensors": backbone, "equal": backbone, "batchnorm": 1.0, "expected": 1.0, "convolutions": 1.0}
    given = measurement.facts["relations"]["two<given"]
    assert given["equal"] < backbone / 2 and given["batchnorm"] < 0.1 and given["convolutions"] < 0.1
    # logits: those of mslab eval, in the order of the labels
    (tmp_path / "own.ckpt").write_bytes(content)
    result = evaluate(tmp_path / "own.ckpt", report.root, device="cpu")
    assert networks_found["nine"]["engine"] == str(engines.choose("auto")) and "onnxruntime" in str(networks_found)
    assert set(measurement.logits) == {"nine", "two"} and measurement.logits["nine"].shape == (21, 3)
    predicted = measurement.logits["nine"].argmax(1)
    assert (predicted == images.labels).mean() == pytest.approx(result["accuracy"])
    assert np.allclose(measurement.logits["two"], measurement.logits["nine"] + 1, atol=1e-4)
    assert np.isfinite(looking.sketch({"x": np.full((300, 300), 3e38, np.float32)})).all()
    # a sketch is linear and preserves distances
    a, b = measurement.sketches["nine"], measurement.sketches["two"]
    assert np.array_equal(a, measurement.sketches["unasked"]) and np.array_equal(a, b) and a.shape == (4096,)
    other_tensors = network(seed=1)[0]
    other_sketch = looking.sketch(other_tensors)
    apart = sum(((value - other_tensors[name]) ** 2).sum() for name, value in tensors.items() if value.ndim > 1)
    assert ((a - other_sketch) ** 2).sum() == pytest.approx(apart, rel=0.1)


def test_a_transferred_backbone_is_the_parents_and_a_separate_one_is_not(squares, finished, parent):
    two = settings(squares / "two", 2, epochs=1)
    runs = {"nine": parent, "two": finished(two, parent).run, "separate": finished(two | {"seed": 5}).run}
    backbones = {name: checkpoint.read(run / "checkpoints" / "best.ckpt").backbone for name, run in runs.items()}
    verdicts = {}
    for name in ("two", "separate"):
        figures = parentage.relation(backbones[name], backbones["nine"], b"any")
        verdicts[name] = parentage.verdict(figures, 0.5)
    assert verdicts == {"two": "near", "separate": "far"}


def test_which_weights_are_compared_depends_on_both_networks(tmp_path):
    networks = looking.SubmittedNetworks({}, {}, None, tmp_path, lambda *request: "")
    stem = "conv1.weight"
    networks.weights = {"two": {stem: network(seed=1)[0][stem]}, "nine": {stem: network()[0][stem]}}
    figures = set()
    for digests in ({"two": "a", "nine": "b"}, {"two": "c", "nine": "b"}, {"two": "a", "nine": "c"}):
        networks.digests = {name: {stem: digest} for name, digest in digests.items()}
        figures.add(networks.relation("two", "nine")["convolutions"])
    assert len(figures) == 3


def test_facts_are_cached_by_hash_and_a_damaged_cache_is_replaced(tmp_path, hidden):
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
    for changed in (
        ("01", job, {"nine": images}),
        ("00", job | {"limits": {"classes": 3}}, {"nine": images}),
        ("00", job, {}),
    ):
        assert measuring.cache_key(*changed) != key
    for _ in range(2):
        measurement = measuring.load_or_measure(tmp_path / "cached", key, make)
        assert np.array_equal(measurement.logits["nine"], np.ones((2, 3))) and measurement.facts["schema"] == 1
    assert len(calls) == 1
    path = tmp_path / "cached" / f"{key}.npz"
    content = path.read_bytes()
    for damaged in (
        content[: len(content) // 2],
        b"",
        content.replace(b"schema", b"SCHEMA"),
        content[:-300] + b"x" * 300,
    ):
        path.write_bytes(damaged)
        before = len(calls)
        assert measuring.load_or_measure(tmp_path / "cached", key, make).logits.keys() == {"nine"}
        assert len(calls) == before + 1 and measuring.load(path)
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    timeout = measuring.no_answer("it was stopped after 300 s")
    died = measuring.load_or_measure(tmp_path / "cached", "other", lambda: timeout)
    assert died.died and not (tmp_path / "cached" / "other.npz").exists()


def npz(path: Path, compression: int = zipfile.ZIP_STORED, **arrays) -> None:
    """A file like a cached measurement, of no use as one."""
    facts = {"facts": np.frombuffer(json.dumps(measuring.no_answer("x").facts).encode(), np.uint8)}
    facts["key"] = np.frombuffer(path.stem.encode(), np.uint8)
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, value in (facts | arrays).items():
            content = io.BytesIO()
            np.save(content, value)
            file.writestr(f"{name}.npy", content.getvalue())


LOGITS = np.ones((21, 3), np.float32)


@pytest.mark.parametrize("make", [
    lambda path: npz(path, zipfile.ZIP_DEFLATED, **{"logits nine": np.zeros((21, 1 << 18), np.float32)}),
    lambda path: npz(path, facts=np.frombuffer(b"[" * 100_000, np.uint8)),
    lambda path: npz(path, facts=np.frombuffer(b'{"schema": 1}', np.uint8)),
    lambda path: npz(path, facts=np.array(["a"])),
    lambda path: npz(path, key=np.frombuffer(b"another", np.uint8)),  # a file of another submission, renamed
    lambda path: npz(path, facts=np.array({"a": 1}, object)),
    lambda path: npz(path, **{"logits nine": LOGITS[0]}),
    lambda path: npz(path, **{"logits nine": np.float32(1)}),
    lambda path: npz(path, **{"logits nine": LOGITS[:20]}),
    lambda path: npz(path, **{"logits nine": LOGITS.astype(float)}),
    lambda path: npz(path, **{"logits nine": LOGITS * np.nan}),
    lambda path: npz(path, **{"sketch nine": np.ones(3, np.float32)}),
    lambda path: np.save(path.open("wb"), LOGITS),
    lambda path: zipfile.ZipFile(path, "w").close(),
    lambda path: path.write_bytes(b"PK\x05\x06" + bytes(18)),
    lambda path: path.symlink_to("/dev/zero"),
    lambda path: (path.touch(), os.truncate(path, 1 << 40)),
    os.mkfifo,  # opening it would wait for ever
    Path.mkdir,
])  # fmt: skip
def test_a_file_in_the_cache_that_is_no_measurement_is_ignored(tmp_path, make):
    make(tmp_path / "key.npz")
    assert measuring.load(tmp_path / "key.npz", {"nine": 21}) is None
    npz(tmp_path / "right.npz", **{"logits nine": LOGITS, "sketch nine": np.ones(4096, np.float32)})
    assert np.array_equal(measuring.load(tmp_path / "right.npz", {"nine": 21}).logits["nine"], LOGITS)


def test_a_submission_gets_no_more_pixels_than_the_rubric_allows(tmp_path, hidden):
    tensors, info = network()
    sizes = {"wide": 65, "much": 64}
    members = {f"{name}.ckpt": bytes_of(tmp_path, tensors, info | {"image_size": size}) for name, size in sizes.items()}
    source, networks = zip_of(tmp_path / "x.zip", members), {name: [f"{name}.ckpt"] for name in sizes}
    limits = {"pixels": 64, "image_bytes": 21 * 3 * (32 * 32 + 48 * 48)}
    measurement = inspect(tmp_path, source, networks, dict.fromkeys(sizes, hidden[0]), limits=limits)
    errors = {name: facts["error"] for name, facts in measurement.facts["networks"].items()}
    assert errors["wide"] == "it is too large: 65 pixels, at most 64 are allowed"
    assert errors["much"] == "it was not measured: no room for 21 hidden images of 64 pixels (0.0 GiB)"
    # all networks of a submission together
    names = ("one", "two", "more")
    requests = measuring.ImageRequests({"networks": names, "limits": limits}, dict.fromkeys(names, hidden[0]))
    lines = [f'need {{"network": "{n}", "size": {s}, "resize": {s}}}' for n, s in zip(names, (32, 48, 16), strict=True)]
    first, second, last = map(requests.reply, lines)
    assert first.endswith("-32-32.npy") and second.endswith("-48-48.npy") and last.startswith("no room for 21 hidden")


def test_networks_with_the_same_images_share_them(hidden, tmp_path):
    report = hidden[1]
    sets = grading.image_sets({"one": report, "two": report}, tmp_path / "images")
    assert sets["one"] is sets["two"]  # otherwise one would delete files that the other's workers read


def test_pixels_of_another_grader_are_not_used(hidden, tmp_path):
    images = measuring.HiddenImages(hidden[1], "", tmp_path / "images")
    path = images.path(32, 32)
    right = path.read_bytes()
    path.write_bytes(right[:1000])  # a worker would end with a signal, or measure noise
    again = measuring.HiddenImages(hidden[1], "", tmp_path / "images")
    assert again.path(32, 32).read_bytes() == right


# --- workers with invalid answers ------------------------------------------------------------------------------------

ANSWER = """
import sys, json, os, time
job = json.loads(sys.stdin.readline())
folder = job["folder"]
sections = ("files", "configs", "json", "histories", "predictions", "networks", "relations")
facts = {"schema": 1, "problems": [], "sandbox": []} | {name: {} for name in sections}
network = {"file": "x", "class_names": ["a", "b", "c"], "logits": "a", "sketch": "b", "weights": 9, "tensors": {}}
def write(facts):
    npy("nine.sketch.npy", (4096,), body=bytes(16384))
    with open(folder + "/facts.json", "w") as file:
        file.write(facts if isinstance(facts, str) else json.dumps(facts))
def npy(name, shape, dtype="<f4", body=b"", version=b"\\x01\\x00"):
    header = str({"descr": dtype, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\\n"
    with open(folder + "/" + name, "wb") as file:
        file.write(b"\\x93NUMPY" + version + len(header).to_bytes(2, "little") + header + body)
def send(line):
    print(line, flush=True)
def need(network="nine", size=32, resize=32):
    send("need " + json.dumps({"network": network, "size": size, "resize": resize}))
    return sys.stdin.readline()
def answer(logits=lambda: npy("nine.logits.npy", (21, 3), body=bytes(252)), network=network):
    need()
    logits()
    write(facts | {"networks": {"nine": network}})
    send("done")
"""


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("answer()", ""),
        ("send('hello')", "it sent 'hello'"),
        ("send('need ' + 'x' * 1000)", "it sent 'need xxx"),
        ("send('need [1]'); send('need {')", "it sent 'need [1]'"),
        ("need('ten')", "it requested images of 'ten'"),
        ("need(); need()", "it requested images of 'nine'"),
        ("need(size=10**9)", "it requested images of 1000000000 and 32 pixels"),
        ("need(size='32')", "it requested images of 32 and 32 pixels"),
        ("need(size=True)", "it requested images of True"),
        ("need(['nine'])", "it requested images of \"['nine']\""),
        ("send('x' * 100_000)", "a line is unterminated or too long"),
        ("send('done')", "facts.json: No such file"),
        ("send('full')", "it sent 'full'"),  # as a worker does on a full disk, which this one is not
        ("write('x' * (5 << 20)); send('done')", "facts.json has more than 4,194,304 bytes"),
        ("write('{'); send('done')", "facts.json is not valid JSON"),
        ("write('[' * 200_000); send('done')", "facts.json is not valid JSON"),
        ("write('{\"schema\": NaN}'); send('done')", "facts.json is not valid JSON"),
        ("write('{\"json\": 1e999}'); send('done')", "facts.json is not valid JSON"),
        (r"write(json.dumps(facts | {'problems': ['\ud800']})); send('done')", "facts.json is not valid JSON"),
        ("write(facts | {'schema': 2}); send('done')", "facts.json has an unexpected value at schema"),
        ("write(facts | {'files': {'a': 'b'}}); send('done')", "facts.json has an unexpected value at files.a"),
        ("write(facts | {'more': 1}); send('done')", "facts.json has an unexpected value at more"),
        ("write(facts | {'problems': ['x' * 3000]}); send('done')", "facts.json has an unexpected value at problems.0"),
        ("os.symlink('/etc/passwd', folder + '/facts.json'); send('done')", "facts.json: "),
        ("os.mkfifo(folder + '/facts.json'); send('done')", "facts.json is not valid JSON"),
        ("write(facts | {'networks': {'ten': network}}); send('done')", "reports an unknown network 'ten'"),
        ("write(facts | {'networks': {'nine': network}}); send('done')", "it measured nine without images"),
        ("answer(lambda: None)", "nine.logits.npy: No such file"),
        ("answer(lambda: npy('nine.logits.npy', (21, 4), body=bytes(336)))", "not a float32 array of shape (21, 3)"),
        ("answer(lambda: npy('nine.logits.npy', (21, 3), '<f8', bytes(504)))", "not a float32 array of shape (21, 3)"),
        ("answer(lambda: npy('nine.logits.npy', (10**9, 10**9)))", "nine.logits.npy is not an array"),
        ("answer(lambda: npy('nine.logits.npy', (21, 3), '|O', b'cos\\nsystem\\n(S\"true\"\\ntR.'))", "not an array"),
        ("answer(lambda: npy('nine.logits.npy', (21, 3), body=b'\\xff' * 252))", "has values that are not finite"),
        ("answer(lambda: npy('nine.logits.npy', (21, 3), body=bytes(1 << 20)))", "has more than 4,348 bytes"),
        ("answer(network=network | {'class_names': []})", "nine has 0 classes"),
        ("write(facts | {'networks': {'nine': {'file': 'x', 'sketch': 'b'}}}); send('done')", "value at networks.nine"),
        ("write(facts | {'networks': {'nine': {'file': 'x', 'sketch': 'b', 'error': 'e'}}}); send('done')", "value at"),
        ("write(facts | {'histories': {'h': {}}}); send('done')", "has an unexpected value at histories.h"),
        ("write(facts | {'configs': {'c': {'error': None}}}); send('done')", "has an unexpected value at configs.c"),
        ("write(facts | {'json': {'j': {}}}); send('done')", "has an unexpected value at json.j"),
        ("os.abort()", "it ended with signal 6"),
    ],
)  # fmt: skip
def test_an_invalid_answer_is_reported_and_has_no_other_effect(tmp_path, hidden, monkeypatch, code, text):
    monkeypatch.setattr(measuring, "START", ANSWER + code)
    images = hidden[0]
    measurement = inspect(tmp_path, tmp_path / "x.zip", {"nine": ["x"]}, {"nine": images}, within=Limits(seconds=20))
    assert not sandbox.RUNNING
    if not text:
        assert not measurement.died and measurement.logits["nine"].shape == (21, 3), measurement.facts
        return
    assert measurement.died and measurement.logits == {} and measurement.facts["networks"] == {}
    problems = measurement.facts["problems"]
    assert len(problems) == 1 and text in problems[0], problems
    answers.Answer.model_validate(measurement.facts)


def test_a_worker_that_takes_too_long_is_stopped_and_the_next_one_works(tmp_path, hidden, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(measuring, "START", ANSWER + "time.sleep(60)")
        measurement = inspect(tmp_path, tmp_path / "x.zip", {"nine": ["x"]}, within=Limits(seconds=0.5))
    assert measurement.facts["problems"] == ["the submission could not be read: it was stopped after 0.5 s"]
    source = zip_of(tmp_path / "x.zip", {"a.txt": "x"})
    assert inspect(tmp_path, source).facts["files"] == {"a.txt": 1}
