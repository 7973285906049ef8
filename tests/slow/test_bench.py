"""Benches that take longer: the order of blocks, equal work, and the profile of a real step. No speed is asserted."""

import json
import os

import pytest
from helpers import STAGES, bench

from benchmarks import predictions, speed, spoofs, steptime
from mslab.evaluation.engines import Engine

TINY = {"size": 32, "batch": 4, "stages": STAGES}


def test_blocks_are_interleaved_and_both_modes_do_equal_work():
    messages = []
    rows = speed.bench_train(**TINY, repeats=2, progress=messages.append)
    assert [(row["job"], row["contender"], row["turns"]) for row in rows] == [
        ("train", "mslab, GRAPH", [0, 2]),
        ("train", "mslab, PYNATIVE", [1, 3]),
        ("infer", "mslab, GRAPH", [0, 2]),
        ("infer", "mslab, PYNATIVE", [1, 3]),
    ]
    assert [line.split(": ")[1].split(" ")[1] for line in messages if "turn" in line] == ["GRAPH", "PYNATIVE"] * 4
    for row in rows:
        assert row["size"] == 32 and row["batch"] == 4 and row["ratio"] is None
        assert 0 < row["least"] <= row["images_per_s"] <= row["most"] and row["startup_s"] > 0
    graph, pynative = rows[:2]
    assert graph["weights"] == pynative["weights"] and graph["peak_mib"] > 100
    assert graph["last"] < graph["first"] == pytest.approx(pynative["first"], rel=1e-4)  # the same seed and batch
    text = speed.table(rows)
    assert "PyTorch left out: --peers" in text and "mslab, PYNATIVE" in text


def test_the_profile_of_a_real_step_has_every_convolution():
    rows = steptime.bench_profile(**TINY)
    kinds = {row["kind"] for row in rows}
    assert {f"convolution {direction}" for direction in ("forward", "backward data", "backward weights")} <= kinds
    assert {"BatchNorm forward", "BatchNorm backward", "optimizer"} <= kinds and rows[-1]["kind"] == "elsewhere"
    assert {row["map"] for row in rows if row["kind"] == "convolution forward"} == {16, 8, 4}


def test_bench_train_beside_pytorch_and_mindcv(tmp_path):
    peers = os.environ.get("MSLAB_PEERS")
    if not peers:
        pytest.skip("MSLAB_PEERS does not name a Python with torch and torchvision")
    file = tmp_path / "rows.json"
    arguments = ["--size", 32, "--batch", 2, "--repeats", 1, "--peers", peers, "--json", file]
    done = bench("train", *arguments)
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())
    assert [row["contender"] for row in rows] == [*speed.CONTENDERS] * 2
    assert {row["weights"] for row in rows} == {25_557_032}
    for job in (rows[:5], rows[5:]):
        assert max(row["ratio"] for row in job if row["contender"].startswith("PyTorch")) == 1
        assert all(row["ratio"] for row in job)
    assert "1.00x" in done.stdout and "mindcv, GRAPH" in done.stdout and "left out" not in done.stdout


def test_bench_data_reports_which_is_the_limit(tmp_path):
    from benchmarks import pipeline

    rows = pipeline.bench_data([100], 32, tmp_path)
    assert [row["variant"] for row in rows] == list(pipeline.VARIANTS)
    assert rows[0]["ratio"] == 1 and rows[0]["first_check_s"] > 0 and rows[1]["first_check_s"] is None
    assert all(row["images_per_s"] > 0 and row["startup_s"] > 0 and row["mib"] > 50 for row in rows)
    assert "the network is the limit" in pipeline.table(rows, 32, 0.001)
    assert "the pipeline is the limit" in pipeline.table(rows, 32, 1e9)


def test_bench_predict_answers_the_same_images_beside_the_bare_pass(parent, tmp_path):
    done = bench("predict", parent, "--images", 20, "--repeats", 1, "--json", tmp_path / "rows.json")
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert done.returncode == 0 and [row["batch_size"] for row in rows] == [1, 4, 8, 16, 32, 64]
    names = [predictions.BARE, *(str(Engine(name)) for name in ("mindspore", "onnxruntime", "openvino"))]
    assert all(row["size"] == 32 and list(row["images_per_s"])[:4] == names for row in rows)
    assert [row["batch_size"] for row in rows if row["chosen"]] == [64] and "* 64" in done.stdout


def test_bench_provenance_compares_what_it_trains(inside, monkeypatch):
    from benchmarks import provenance

    nine = provenance.NINE | {"epochs": 1}
    monkeypatch.setattr(provenance, "IMAGES", 6)
    monkeypatch.setattr(provenance, "PARENTS", {"one epoch": nine})
    monkeypatch.setattr(provenance, "TRANSFERS", {"as the recipe": provenance.TWO | {"epochs": 1}})
    monkeypatch.setattr(provenance, "SCRATCH", {"two classes": provenance.TWO | {"epochs": 1}})
    for _ in range(2):  # the second time nothing is trained
        rows = provenance.bench_provenance(False, inside / "kept")
        files = {path: path.stat().st_mtime_ns for path in (inside / "kept").glob("*.ckpt")}
        assert len(files) == 4 and len(rows) == 3 + 2 * len(spoofs.SCRATCH) + len(spoofs.HONEST)
        verdicts = {row["origin"]: row["verdict"] for row in rows[:3]}
        assert verdicts["as the recipe"] == "near" and verdicts["two classes, seed 7"] == "far"
    assert len(list((inside / "runs").iterdir())) == 1
