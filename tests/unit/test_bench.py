"""Benchmarks: how ratios, fractions and tables are computed, and what stops a bench. No speed is asserted."""

import pytest

from benchmarks import speed, steptime
from benchmarks.processes import last_error
from mslab.check import check_dataset
from mslab.errors import MslabError


def test_ratios_are_medians_over_the_better_of_pytorchs_formats():
    speeds = {
        "mslab, GRAPH": [20.0, 40.0, 10.0],
        "PyTorch, channels_last": [8.0, 8.0, 8.0],
        "PyTorch, contiguous": [10.0, 40.0, 5.0],
        "PyTorch, optimized graph": [30.0, 30.0, 30.0],  # a row beside them; ratios are to what users write
    }
    rows = {row["contender"]: row for row in speed.summarise("infer", speeds)}
    assert {name: row["images_per_s"] for name, row in rows.items()} == dict(zip(speeds, (20, 8, 10, 30), strict=True))
    assert {name: row["ratio"] for name, row in rows.items()} == dict(zip(speeds, (2, 0.8, 1, 3), strict=True))
    assert (rows["mslab, GRAPH"]["least"], rows["mslab, GRAPH"]["most"]) == (10, 40)
    assert all(row["ratio"] is None for row in speed.summarise("train", {"mslab, GRAPH": [1.0]}))


def test_only_contenders_that_can_run_are_measured(monkeypatch):
    monkeypatch.setattr(speed, "bfloat16_unit", lambda: "")
    monkeypatch.setattr(speed, "version", lambda package: "1.0")
    everything = {kind: set(speed.select(kind, (), "python")) for kind in speed.KINDS}
    networks = {"mslab, GRAPH", "mslab, PYNATIVE", *speed.FORMATS, "mindcv, GRAPH"}
    assert everything["train"] == networks  # engines cannot train
    others = {"mslab, engine auto", "PyTorch, optimized graph", "onnxruntime", "OpenVINO, float32"}
    assert everything["infer"] == networks | others
    assert all("neither AMX nor AVX-512 BF16" in line for line in speed.left_out("python") if "bf" in line)
    monkeypatch.setattr(speed, "bfloat16_unit", lambda: "AMX")
    more = {"PyTorch, bfloat16", "OpenVINO, bfloat16", "mslab, engine openvino bf16"}
    assert set(speed.select("infer", (), "python")) == networks | others | more == set(speed.CONTENDERS)
    assert speed.left_out("python") == []
    monkeypatch.setattr(speed, "version", lambda package: "")
    assert speed.left_out("python") == ["mslab, engine openvino bf16 left out: openvino is not installed beside mslab"]
    assert set(speed.select("infer", (), None)) == {
        "mslab, GRAPH",
        "mslab, PYNATIVE",
        "mslab, engine auto",
        "mindcv, GRAPH",
    }
    assert speed.select("train", (), None, stages=[[1, 8, 1]]) == ["mslab, GRAPH", "mslab, PYNATIVE"]


def test_contenders_are_chosen_by_a_part_of_their_names():
    assert speed.select("infer", ["graph", "ONNX"], "python") == [
        "mslab, GRAPH",
        "PyTorch, optimized graph",
        "mindcv, GRAPH",
        "onnxruntime",
    ]
    with pytest.raises(
        MslabError, match=r"no contender 'tensorflow'(.|\n)*expected .*mindcv, GRAPH(.|\n)*fix  .*--contender"
    ):
        speed.select("infer", ["graph", "tensorflow"], "python")


def test_an_engine_that_computes_another_network_stops_the_bench():
    speed.check_same({"mslab, GRAPH": 6.5, "onnxruntime": 6.5001, "OpenVINO, bfloat16": 6.6, "mindcv, GRAPH": 1.0})
    with pytest.raises(
        MslabError, match=r"onnxruntime computes another network(.|\n)*mslab, GRAPH +6.5(.|\n)*expected(.|\n)*fix"
    ):
        speed.check_same({"mslab, GRAPH": 6.5, "onnxruntime": 6.4})


def test_unequal_work_stops_the_bench():
    speed.check_weights({"a": 7, "b": 7})
    with pytest.raises(MslabError, match=r"networks differ(.|\n)*b +8 trainable weights(.|\n)*25,557,032"):
        speed.check_weights({"a": 7, "b": 8})
    speed.check_values("a", "train", [6.9, 7.1, 6.5])
    speed.check_values("a", "infer", [0.1, 0.1])
    for kind, values in (("train", [6.9, 6.9]), ("train", [6.9, float("nan")]), ("infer", [float("inf")])):
        with pytest.raises(MslabError, match=r"a did no real work: the .+ were"):
            speed.check_values("a", kind, values)


def test_the_reason_is_the_last_line_that_names_an_error():
    assert last_error("Traceback\nValueError: no\n\n- C++ Call Stack\nx.cc:1\n") == "ValueError: no"
    assert last_error("one\ntwo\n") == "two" and last_error("") == "no message"


CONV = (
    "exec,cpu,convolution,gemm:jit,{},src_f32::blocked:abcd:f0 dst_f32::blocked:abcd:f0,,alg:convolution_direct,{},{}"
)
NORM = "exec,cpu,batch_normalization,ncsp_bnorm:any,backward,data_f32::blocked:abcd:f0,,flags:S,mb32ic64ih8iw8,4.5"


@pytest.mark.parametrize("prefix", ["dnnl_verbose,", "onednn_verbose,", "onednn_verbose,v1,primitive,"])
def test_a_steps_rows_add_up_to_the_step(prefix):
    shape = "mb32_ic3oc64_ih16oh8kh7sh2dh0ph3_iw16ow8kw7sw2dw0pw3"
    wide, tall = "mb2_ic4oc4_ih8oh8kh3_iw128ow128kw3", "mb2_ic4oc4_ih288oh144kh3_iw16ow8kw3"  # 16 images in each
    lines = [prefix + CONV.format("forward_training", *call) for call in ((shape, 10.5), (wide, 4), (tall, 5.5))]
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


def test_the_table_of_knobs_is_of_differences_at_equal_seeds():
    from benchmarks import knobs

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
    from benchmarks import knobs

    report = check_dataset(squares / "three" / "train", squares / "three" / "val")
    thin = knobs.imbalanced(report, 1)
    assert list(thin.counts["train"].values()) == [16, 5, 2]  # 1, 0.316, 0.1 of 16
    assert thin.counts["val"] == report.counts["val"] and report.counts["train"]["c"] == 16
    assert thin.class_names == report.class_names


def test_measures_of_best_by_are_compared_on_thinned_validation_images_too(squares):
    from benchmarks import measures

    report = check_dataset(squares / "three" / "train", squares / "three" / "val")
    thin = measures.thin(report, 1)
    assert list(thin.counts["train"].values()) == [16, 5, 2] and list(thin.counts["val"].values()) == [7, 2, 1]
    for name, split in thin.splits.items():
        assert all(image in report.splits[name].classes[of] for of, images in split.classes.items() for image in images)
    figures = {"val_acc": 0.9, "val_balanced_accuracy": 0.7, "test_acc": 0.6}
    rows = [{"measure": "macro_f1", "seed": n, "epoch": n} | figures for n in (3, 5)]
    (line,) = [line for line in measures.table(rows).splitlines() if "macro_f1" in line]
    assert line.split() == ["macro_f1", "3,", "5", "0.900", "±", "0.000", "0.700", "±", "0.000", "0.600", "±", "0.000"]


def test_the_table_of_provenance_has_a_line_for_a_group_and_for_each_alteration(monkeypatch):
    from benchmarks import provenance

    monkeypatch.setenv("COLUMNS", "120")

    common = {"network": "small", "parent": "8 epochs, adam", "expected": 1.0, "convolutions": 0.5, "seconds": 0.02}
    rows = [
        common | {"group": group, "origin": origin, "batchnorm": correlation, "verdict": verdict}
        for group, origin, correlation, verdict in (
            ("trained from it", "1 epoch", 0.9, "near"),
            ("trained from it", "momentum", 0.4, "unclear"),
            ("another seed, altered", "all copied", 0.1, "far"),
            ("another seed, altered", "one copied", 0.1, "far"),
        )
    ]
    lines = [line.split("  ") for line in provenance.table(rows).splitlines() if "0.50" in line]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert cells[0] == ["trained from it", "2", "0.40 to 0.90", "1.00", "0.50", "1", "1"]
    assert [row[:3] for row in cells[1:]] == [["all copied", "1", "0.10"], ["one copied", "1", "0.10"]]
    assert "20 ms a pair" in provenance.table(rows)
