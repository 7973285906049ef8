"""Benches that take longer: the order of blocks, equal work, and the profile of a real step. No speed is asserted."""

import json
import os

import pytest
from helpers import STAGES, bench, settings

import mslab
from benchmarks import answer, loop, predictions, speed, spoofs, steptime
from mslab.config import load_settings
from mslab.evaluation.engines import Engine

TINY = {"size": 32, "batch": 4, "stages": STAGES}


def test_rounds_have_every_contender_once_and_both_modes_do_equal_work():
    messages = []
    rows = speed.bench_train(**TINY, repeats=3, progress=messages.append)
    assert [(row["job"], row["contender"]) for row in rows] == [
        ("train", "mslab, GRAPH"),
        ("train", "mslab, PYNATIVE"),
        ("infer", "mslab, GRAPH"),
        ("infer", "mslab, PYNATIVE"),
        ("infer", "mslab, engine auto"),
        *(
            [("infer", "mslab, engine openvino bf16")]
            if not speed.lacking("mslab, engine openvino bf16", "infer", None)
            else []
        ),
    ]
    for kind in speed.KINDS:
        turns = {row["contender"]: row["turns"] for row in rows if row["job"] == kind}
        rounds = [[turn // len(turns) for turn in places] for places in turns.values()]
        assert rounds == [[0, 1, 2]] * len(turns) and sorted(turn for places in turns.values() for turn in places) == [
            *range(3 * len(turns))
        ]
    assert speed.bench_train(**TINY, repeats=1, kinds=["train"], wanted=["graph"])[0]["turns"] == [0]
    for row in rows:
        assert row["size"] == 32 and row["batch"] == 4 and row["ratio"] is None and row["peak_mib"] > 100
        assert 0 < row["least"] <= row["images_per_s"] <= row["most"] and row["startup_s"] > 0 and row["version"]
    graph, pynative = rows[:2]
    assert graph["weights"] == pynative["weights"]
    assert graph["last"] < graph["first"] == pytest.approx(pynative["first"], rel=1e-4)  # the same seed and batch
    assert rows[4]["first"] == pytest.approx(rows[2]["first"], rel=1e-3)  # the same network on the engine
    text = speed.table(rows, speed.left_out(None))
    assert "onnxruntime left out: --peers names no Python for it" in text and "mslab, engine auto" in text


def test_bench_loop_trains_beside_its_bare_step(squares, inside):
    config = load_settings(settings(squares / "three", 3, mode="graph", clip_grad_norm=1.0))
    messages = []
    (row,) = loop.bench_loop(config, [8], ["adam"], 2, messages.append)
    assert (row["size"], row["batch"], row["optimizer"]) == (32, 8, "adam") and len(messages) == 4
    assert row["settings"]["clip_grad_norm"] == 1.0
    assert row["ratio"] == row["loop"]["images_per_s"] / row["bare"]["images_per_s"] > 0
    assert list(row["parts_ms"]) == list(loop.PARTS.values()) and min(row["parts_ms"].values()) > 0
    assert not list(inside.iterdir())


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
    assert {row["weights"] for row in rows} == {25_557_032}
    for kind in speed.KINDS:
        ratios = {row["contender"]: row["ratio"] for row in rows if row["job"] == kind}
        assert list(ratios) == speed.select(kind, (), peers)
        assert max(ratios[name] for name in speed.FORMATS) == 1 and all(ratios.values())
    assert "1.00x" in done.stdout and "mindcv, GRAPH" in done.stdout and "--peers names no" not in done.stdout


def test_bench_answer_beside_a_plain_pytorch_script(squares, inside):
    peers = os.environ.get("MSLAB_PEERS")
    if not peers:
        pytest.skip("MSLAB_PEERS does not name a Python with torch and torchvision")
    network = mslab.train(settings(squares / "three", 3, epochs=1, stages=None)).run
    recipe = settings(squares / "two", 2, optimizer="adam", lr_max=0.001, lr_init=0.0001, stages=None)
    (inside / "two.yaml").write_text(json.dumps(recipe))
    rows = answer.bench_answer("two.yaml", network, peers, ["epochs=2"], 0.5, 1, lambda text: None)
    assert [row["job"] for row in rows] == [*answer.JOBS]
    for row in rows:
        for side in answer.SIDES:
            assert row[side]["runs"] == 1 and row[side]["epochs"] in (1, 2) and row[side]["seconds"] > 0
        assert 0 < row["mslab"]["said"] < row["mslab"]["seconds"] and row["versions"]["PyTorch"]


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


def test_bench_serve_asks_a_real_server_and_no_answer_is_lost_or_mixed_up(tmp_path):
    done = bench("serve", "--size", 32, "--seconds", 2, "--clients", 3, "--json", tmp_path / "rows.json")
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert done.returncode == 0 and row["clients"] == 3 and row["answered"] > 3
    assert (row["refused"], row["lost"], row["mixed_up"]) == (0, 0, 0) and "onnxruntime" in done.stdout
    assert row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
