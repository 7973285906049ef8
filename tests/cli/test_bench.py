"""Speed beside others: who ran when, on equal work, and how ratios and shares come about. No speed is asserted."""

import importlib.util
import json
import os
import sys

import psutil
import pytest
from helpers import STAGES, cli, settings

from mslab.bench import last_word, speed, steptime
from mslab.check import check_dataset
from mslab.config import load_config
from mslab.errors import MslabError

TINY = {"size": 32, "batch": 4, "stages": STAGES}


@pytest.mark.slow
def test_blocks_go_round_and_both_modes_do_equal_work():
    said = []
    rows = speed.bench_train(**TINY, repeats=2, progress=said.append)
    assert [(row["job"], row["contender"], row["turns"]) for row in rows] == [
        ("train", "mslab, GRAPH", [0, 2]),
        ("train", "mslab, PYNATIVE", [1, 3]),
        ("infer", "mslab, GRAPH", [0, 2]),
        ("infer", "mslab, PYNATIVE", [1, 3]),
    ]
    assert [line.split(": ")[1].split(" ")[1] for line in said if "turn" in line] == ["GRAPH", "PYNATIVE"] * 4
    for row in rows:
        assert row["size"] == 32 and row["batch"] == 4 and row["ratio"] is None
        assert 0 < row["least"] <= row["images_per_s"] <= row["most"] and row["startup_s"] > 0
    graph, pynative = rows[:2]
    assert graph["weights"] == pynative["weights"] and graph["peak_mib"] > 100
    assert graph["last"] < graph["first"] == pytest.approx(pynative["first"], rel=1e-4)  # the same seed and batch
    text = speed.table(rows)
    assert "PyTorch left out: --peers" in text and "mslab, PYNATIVE" in text


def test_a_contender_that_waits_is_stopped_and_one_that_ends_is_named():
    child = speed.Child("mslab, GRAPH", {"maker": "mslab", "mode": "pynative"} | TINY)
    try:
        process = psutil.Process(child.process.pid)
        assert process.status() == psutil.STATUS_STOPPED
        assert len(child.run("infer", 2)["seconds"]) == 2
        assert process.status() == psutil.STATUS_STOPPED
        process.kill()
        with pytest.raises(MslabError, match=r"mslab, GRAPH did not finish: .*\(signal 9\)\n  expected .*\n  fix "):
            child.run("train", 1)
    finally:
        child.end()


@pytest.mark.parametrize(
    "peers,said", [(sys.executable, "No module named 'torch'"), ("/nowhere/python", "No such file or directory")]
)
def test_peers_without_pytorch_are_one_message(peers, said):
    if peers == sys.executable and importlib.util.find_spec("torch"):
        pytest.skip("this Python has torch")
    with pytest.raises(MslabError) as caught:
        speed.Child("PyTorch, contiguous", speed.CONTENDERS["PyTorch, contiguous"] | TINY, peers)
    text = str(caught.value)
    assert text.startswith("PyTorch, contiguous did not finish: ") and said in text.splitlines()[0]
    assert "--peers" in text and "pip install torch torchvision" in text


def test_ratios_are_medians_over_the_better_of_pytorchs():
    blocks = {"mslab, GRAPH": [2.0, 1.0, 4.0], "PyTorch, a": [5.0, 5.0, 5.0], "PyTorch, b": [4.0, 1.0, 8.0]}
    rows = {row["contender"]: row for row in speed.summarise("train", blocks, images=40)}
    assert {name: row["images_per_s"] for name, row in rows.items()} == {
        "mslab, GRAPH": 20,
        "PyTorch, a": 8,
        "PyTorch, b": 10,
    }
    assert {name: row["ratio"] for name, row in rows.items()} == {
        "mslab, GRAPH": 2,
        "PyTorch, a": 0.8,
        "PyTorch, b": 1,
    }
    assert (rows["mslab, GRAPH"]["least"], rows["mslab, GRAPH"]["most"]) == (10, 40)
    assert all(row["ratio"] is None for row in speed.summarise("train", {"mslab, GRAPH": [1.0]}, images=1))


def test_unequal_work_stops_the_bench():
    speed.check_weights({"a": 7, "b": 7})
    with pytest.raises(MslabError, match=r"networks differ(.|\n)*b +8 trainable weights(.|\n)*25,557,032"):
        speed.check_weights({"a": 7, "b": 8})
    speed.check_values("a", "train", [6.9, 7.1, 6.5])
    speed.check_values("a", "infer", [0.1, 0.1])
    for what, values in (("train", [6.9, 6.9]), ("train", [6.9, float("nan")]), ("infer", [float("inf")])):
        with pytest.raises(MslabError, match=r"a did no real work: the .+ were"):
            speed.check_values("a", what, values)


def test_the_reason_is_the_last_line_that_names_an_error():
    assert last_word("Traceback\nValueError: no\n\n- C++ Call Stack\nx.cc:1\n") == "ValueError: no"
    assert last_word("one\ntwo\n") == "two" and last_word("") == "no message"


CONV = (
    "exec,cpu,convolution,gemm:jit,{},src_f32::blocked:abcd:f0 dst_f32::blocked:abcd:f0,,alg:convolution_direct,{},{}"
)
NORM = "exec,cpu,batch_normalization,ncsp_bnorm:any,backward,data_f32::blocked:abcd:f0,,flags:S,mb32ic64ih8iw8,4.5"


@pytest.mark.parametrize("prefix", ["dnnl_verbose,", "onednn_verbose,", "onednn_verbose,v1,primitive,"])
def test_a_steps_rows_add_up_to_the_step(prefix):
    shape = "mb32_ic3oc64_ih16oh8kh7sh2dh0ph3_iw16ow8kw7sw2dw0pw3"
    lines = [prefix + CONV.format("forward_training", shape, ms) for ms in (10.5, 9.5)]
    lines += [prefix + CONV.format("backward_weights", shape, 30), prefix + NORM, "dnnl_verbose,info,cpu,isa:AVX2"]
    rows = steptime.split_step(100.0, lines, optimizer=5.0)
    assert [(row["kind"], row["map"], row["ms"]) for row in rows] == [
        ("convolution forward", 8, 20.0),
        ("convolution backward weights", 8, 30.0),
        ("BatchNorm backward", 8, 4.5),
        ("optimizer", None, 5.0),
        ("elsewhere", None, 40.5),
    ]
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    text = steptime.table(rows, 16, 32)
    assert "8x8" in text and "40.5%" in text and "below zero" not in text
    assert "below zero" in steptime.table(steptime.split_step(50.0, lines, 5.0), 16, 32)
    with pytest.raises(MslabError, match="oneDNN printed none of its calls"):
        steptime.split_step(100.0, [], 5.0)


def test_the_profile_of_a_real_step_knows_every_convolution():
    rows = steptime.bench_profile(**TINY)
    kinds = {row["kind"] for row in rows}
    assert {f"convolution {way}" for way in ("forward", "backward data", "backward weights")} <= kinds
    assert {"BatchNorm forward", "BatchNorm backward", "optimizer"} <= kinds and rows[-1]["kind"] == "elsewhere"
    assert {row["map"] for row in rows if row["kind"] == "convolution forward"} == {16, 8, 4}


@pytest.mark.slow
def test_bench_train_beside_pytorch_and_mindcv(tmp_path):
    peers = os.environ.get("MSLAB_PEERS")
    if not peers:
        pytest.skip("MSLAB_PEERS does not name a Python with torch and torchvision")
    file = tmp_path / "rows.json"
    words = ["--size", 32, "--batch", 2, "--repeats", 1, "--peers", peers, "--json", file]
    done = cli("bench", "train", *words, timeout=600)
    assert done.returncode == 0, done.stderr
    rows = json.loads(file.read_text())
    assert [row["contender"] for row in rows] == [*speed.CONTENDERS] * 2
    assert {row["weights"] for row in rows} == {25_557_032}
    for job in (rows[:5], rows[5:]):
        assert max(row["ratio"] for row in job if row["contender"].startswith("PyTorch")) == 1
        assert all(row["ratio"] for row in job)
    assert "1.00x" in done.stdout and "mindcv, GRAPH" in done.stdout and "left out" not in done.stdout


@pytest.mark.slow
def test_bench_data_says_which_is_the_limit(tmp_path):
    from mslab.bench import pipeline

    rows = pipeline.bench_data([100], 32, tmp_path)
    assert [row["variant"] for row in rows] == list(pipeline.VARIANTS)
    assert rows[0]["ratio"] == 1 and rows[0]["first_check_s"] > 0 and rows[1]["first_check_s"] is None
    assert all(row["images_per_s"] > 0 and row["startup_s"] > 0 and row["mib"] > 50 for row in rows)
    assert "the network is the limit" in pipeline.table(rows, 32, 0.001)
    assert "the pipeline is the limit" in pipeline.table(rows, 32, 1e9)


def test_the_table_of_knobs_is_of_differences_at_equal_seeds():
    from mslab.bench import knobs

    rows = [
        {"knob": knob, "imbalanced": rare, "seed": seed, "test_acc": accuracy, "seconds": 5.0}
        for knob, rare, accuracies in (
            ("baseline", False, (0.5, 0.7)),
            ("ema_decay=0.99", False, (0.6, 0.9)),
            ("imbalanced copy", True, (0.3, 0.3)),
            ("label_balance=true", True, (0.2, 0.2)),
        )
        for seed, accuracy in enumerate(accuracies)
    ]
    lines = {
        line.split("  ")[1].strip(): line for line in knobs.table(rows).splitlines() if "±" in line and "." in line
    }
    assert lines["ema_decay=0.99"].split()[1:] == ["0.750", "±", "0.212", "+0.150", "2", "5"]
    assert lines["label_balance=true"].split()[1:] == ["0.200", "±", "0.000", "-0.100", "2", "5"]
    assert "+" not in lines["baseline"]


def test_the_imbalanced_copy_thins_out_class_after_class(squares):
    from mslab.bench import knobs

    report = check_dataset(squares / "three" / "train", squares / "three" / "val")
    thin = knobs.imbalanced(report, 1)
    assert list(thin.counts["train"].values()) == [16, 5, 2]  # 1, 0.316, 0.1 of 16
    assert thin.counts["val"] == report.counts["val"] and report.counts["train"]["c"] == 16
    assert thin.class_names == report.class_names


def test_bench_predict_answers_the_same_images_beside_the_bare_pass(parent, tmp_path):
    done = cli("bench", "predict", parent, "--images", 20, "--repeats", 1, "--json", tmp_path / "rows.json")
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert done.returncode == 0 and [row["batch_size"] for row in rows] == [1, 4, 8, 16, 32, 64]
    assert all(row["size"] == 32 and row["ratio"] == pytest.approx(row["predict"] / row["bare"]) for row in rows)
    assert [row["batch_size"] for row in rows if row["chosen"]] == [64] and "* 64" in done.stdout


def test_bench_bookkeeping_trains_the_same_with_and_without(squares, inside):
    from mslab.bench import bookkeeping

    config = load_config(settings(squares / "three", 3, epochs=2))
    report = check_dataset(squares / "three" / "train", squares / "three" / "val", skip_content=True)
    said = []
    rows = bookkeeping.bench_bookkeeping(config, report, 1, inside / "bare", said.append)
    assert [row["kept"] for row in rows] == [True, False] and len(said) == 2
    assert 0 < rows[0]["inside"] < rows[0]["seconds"] and rows[1]["inside"] is None
    (kept,) = (inside / "runs").iterdir()
    assert (kept / "manifest.json").is_file() and (kept / "steps.csv").is_file()
    (bare,) = (inside / "bare").iterdir()
    assert [path.name for path in bare.iterdir()] == ["checkpoints"]
    found = bookkeeping.summary(rows)
    assert found["share"] == rows[0]["inside"] / rows[0]["seconds"]
    assert found["ratio"] == rows[0]["seconds"] / rows[1]["seconds"]
    assert "inside of them" in bookkeeping.table(rows)
