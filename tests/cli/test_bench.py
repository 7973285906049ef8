"""A contender in a separate process, and bench predict beside the bare pass. No speed is asserted."""

import importlib.util
import json
import sys

import psutil
import pytest
from helpers import STAGES, bench

from benchmarks import predictions, speed
from mslab.errors import MslabError
from mslab.evaluation.engines import Engine

TINY = {"size": 32, "batch": 4, "stages": STAGES}


def test_a_contender_that_waits_is_stopped_and_one_that_ends_is_named():
    with speed.child_of("mslab, PYNATIVE", TINY) as child:
        process = psutil.Process(child.process.pid)
        assert process.status() == psutil.STATUS_STOPPED
        assert len(child.run("infer", 2)["seconds"]) == 2
        assert process.status() == psutil.STATUS_STOPPED
        process.kill()
        with pytest.raises(MslabError, match=r"mslab, PYNATIVE did not finish: .*\(signal 9\)\n  expected .*\n  fix "):
            child.run("train", 1)


@pytest.mark.parametrize(
    "peers,reason", [(sys.executable, "No module named 'torch'"), ("/nowhere/python", "No such file or directory")]
)
def test_peers_without_pytorch_are_one_message(peers, reason):
    if peers == sys.executable and importlib.util.find_spec("torch"):
        pytest.skip("this Python has torch")
    with pytest.raises(MslabError) as caught:
        speed.child_of("PyTorch, contiguous", TINY, peers)
    text = str(caught.value)
    assert text.startswith("PyTorch, contiguous did not finish: ") and reason in text.splitlines()[0]
    assert "--peers" in text and "pip install torch torchvision" in text and "--contender" in text


def test_bench_predict_answers_the_same_images_beside_the_bare_pass(parent, tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "BATCHES", (16, 64))  # each is compiled; all six in tests/slow
    done = bench("predict", parent, "--images", 20, "--repeats", 1, "--json", tmp_path / "rows.json")
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert done.returncode == 0 and [row["batch_size"] for row in rows] == [16, 64]
    names = [predictions.BARE, *(str(Engine(name)) for name in ("mindspore", "onnxruntime", "openvino"))]
    assert all(row["size"] == 32 and list(row["images_per_s"])[:4] == names for row in rows)
    assert [row["batch_size"] for row in rows if row["chosen"]] == [64] and "* 64" in done.stdout
