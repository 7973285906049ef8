"""The engines beside MindSpore: the same logits and features for every network, the same bits again, clear messages."""

import functools
import json
import logging
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from helpers import PROJECT, cli, log, manifest, newest, settings, stopped_after
from plans import SIZE, write_checkpoint

import mslab
from mslab import checkpoint
from mslab.errors import MODEL, CheckpointError, ConfigError, DeviceError
from mslab.evaluation import engines, measuring, models
from mslab.evaluation.engines import Engine
from mslab.inference import export, predicting
from mslab.inference.serve import server
from mslab.inference.serve.addresses import Addresses
from mslab.inference.serve.predictor import Predictor
from mslab.report import single
from mslab.report.translation import translator
from mslab.report.writing import write_report
from mslab.reproduce import differing
from mslab.runs.folder import RunFolder
from mslab.runtime import devices, packages
from mslab.training import start

ENGINES = ["onnxruntime", "openvino"]
PROFILES = [
    {},
    {"padding": "same"},
    {"pool": "same"},
    {"stem": "small", "padding": "same"},
    {"block": "basic"},
    {"block": "basic", "padding": "same", "pool": "same"},
    {"eps": 1e-2, "outer_eps": 1e-1},
]
TABLES = [  # strides of 1 and 3, maps of odd sides, a single block, five stages
    [[1, 4, 1]],
    [[1, 4, 2], [2, 8, 3]],
    [[1, 4, 1], [1, 8, 2], [1, 8, 2], [1, 16, 2], [1, 16, 2]],
]
RESNETS = {18: ("basic", (2, 2, 2, 2)), 34: ("basic", (3, 4, 6, 3)), 101: ("bottleneck", (3, 4, 23, 3))}
RESNETS |= {152: ("bottleneck", (3, 8, 36, 3))}


def images(count: int, side: int = SIZE) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(count, 3, side, side)).astype(np.float32)


def compare(source: Path, engine: str, side: int) -> None:
    """Logits and features of five images, in batches of two, beside MindSpore's."""
    devices.start("cpu", "pynative", seed=1)
    weights, x = checkpoint.read(source), images(5, side)
    own = models.of_weights(weights, "cpu", engines.choose(engine), 2).runner
    network = measuring.load_network(source).network
    maps = network.backbone(ms.Tensor(x))
    expected = {"logits": network.head(maps).asnumpy(), "features": ms.ops.mean(maps, (2, 3)).asnumpy()}
    found = [own(x[start : start + 2]) for start in (0, 2, 4)]
    for name, values in expected.items():
        rows = np.concatenate([outputs[name] for outputs in found])
        assert rows.shape == values.shape and rows.dtype == np.float32
        assert np.abs(rows - values).max() <= 1e-5 * np.abs(values).max(), name


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("profile", PROFILES, ids=str)
def test_every_profile_has_the_logits_of_mindspore(profile, engine, inside):
    compare(write_checkpoint(inside / "x.ckpt", hidden=6 if "pool" in profile else 0, **profile), engine, SIZE)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("side", [33, 40])
@pytest.mark.parametrize("table", TABLES, ids=str)
def test_every_table_of_stages_has_the_logits_of_mindspore(table, side, engine, inside):
    compare(write_checkpoint(inside / "x.ckpt", table, side, padding="same"), engine, side)


def small(layers: int) -> list[list[int]]:
    """The table of a ResNet of so many layers with an eighth of the channels."""
    return [[blocks, 8 * 2**stage, 1 if stage == 0 else 2] for stage, blocks in enumerate(RESNETS[layers][1])]


@pytest.mark.parametrize("layers", RESNETS)
def test_resnets_of_18_to_152_layers(layers, inside):
    compare(write_checkpoint(inside / "x.ckpt", small(layers), 32, block=RESNETS[layers][0]), "onnxruntime", 32)


# --- the same bits ---------------------------------------------------------------------------------------------------

DIGEST = """
import hashlib, sys
import numpy as np
from mslab import checkpoint
from mslab.evaluation import engines, models

x = np.random.default_rng(7).normal(size=(3, 3, 40, 40)).astype(np.float32)
weights = checkpoint.read(sys.argv[1])
for name, precision in (pair.split(":") for pair in sys.argv[2:]):
    runner = models.of_weights(weights, "cpu", engines.Engine(name, precision), 4).runner
    outputs = runner(x)
    print(hashlib.sha256(outputs["logits"].tobytes() + outputs["features"].tobytes()).hexdigest())
"""


def has_bf16() -> bool:
    return "BF16" in packages.package("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def test_two_processes_compute_the_same_bits(inside):
    source = write_checkpoint(inside / "x.ckpt", [[2, 32, 1], [2, 64, 2]])
    wanted = ["onnxruntime:fp32", "openvino:fp32", *["openvino:bf16"] * has_bf16()]
    command = [sys.executable, "-c", DIGEST, str(source), *wanted]
    first, second = (
        subprocess.run(command, capture_output=True, text=True, check=True, env=environment(PROJECT)).stdout.split()
        for _ in range(2)
    )
    assert first == second and len(set(first)) == len(wanted)


def environment(*folders: Path) -> dict[str, str]:
    import os

    return os.environ | {"PYTHONPATH": os.pathsep.join([*map(str, folders), *filter(None, sys.path)])}


@pytest.mark.parametrize("engine", ENGINES)
def test_an_answer_does_not_depend_on_the_other_images_of_its_batch(engine, inside):
    weights = checkpoint.read(write_checkpoint(inside / "x.ckpt", [[2, 32, 1], [2, 64, 2]]))
    runner, x = models.of_weights(weights, "cpu", Engine(engine), 4).runner, images(4)
    together, alone = runner(x), runner(x[:1])
    for name, rows in together.items():
        assert np.array_equal(rows[:1], alone[name])
        assert np.array_equal(rows[:2], runner(np.concatenate([x[:2], 100 * x[2:]]))[name][:2])


# --- choosing --------------------------------------------------------------------------------------------------------


def test_auto_is_onnxruntime_on_a_cpu_and_mindspore_elsewhere():
    assert engines.choose("auto") == Engine("onnxruntime") and engines.choose("mindspore") == Engine("mindspore")
    assert engines.choose("auto", device="gpu") == engines.choose("auto", device="ascend") == Engine("mindspore")
    assert engines.choose("openvino") == Engine("openvino")
    record = Engine("onnxruntime").record()
    assert list(record) == ["engine", "version", "precision"] and record["version"].count(".") == 2


def test_the_code_of_model_py_is_the_one_whose_graph_is_written(tmp_path, monkeypatch):
    """After a change of model.py: change onnx_graph.py as well, see this file's comparisons pass, store the digest."""
    text = MODEL.read_text()
    assert engines.code_digest(text) == engines.NETWORK_CODE and not engines.edited()
    monkeypatch.setattr(engines, "MODEL", tmp_path / "model.py")
    (tmp_path / "model.py").write_text(text.replace("(3, 512, 2)", "(2, 256, 2)", 1).replace("STEM = 64", "STEM = 32"))
    assert engines.choose("auto") == Engine("onnxruntime")  # tables may be edited
    (tmp_path / "model.py").write_text(text.replace("self.relu(x + short)", "x + short", 1))
    assert engines.choose("auto") == Engine("mindspore")
    with pytest.raises(DeviceError) as caught:
        engines.choose("onnxruntime")
    assert str(caught.value) == (
        f"engine: onnxruntime cannot run this network: the code in {tmp_path / 'model.py'} was edited.\n"
        "  expected  mslab's own code below its tables; STAGES, STEM and PROFILE may be edited\n"
        "  fix       engine: mindspore, which runs any code; or restore the file"
    )


def test_classes_that_a_notebook_has_changed_are_other_code(monkeypatch):
    from mslab import model

    monkeypatch.setattr(model.Bottleneck, "construct", lambda self, x: self.conv1(x))
    assert engines.edited() and engines.choose("auto") == Engine("mindspore")


def test_blocks_and_functions_that_a_notebook_has_replaced_are_other_code(monkeypatch):
    from mslab import model

    class Block(model.Bottleneck):
        """With another activation."""

    assert engines.replaced(model) == []
    changes = [
        (lambda patch: patch.setitem(model.BLOCKS, "bottleneck", Block), "BLOCKS['bottleneck']"),
        (lambda patch: patch.setattr(model, "Head", Block), "Head"),
        (lambda patch: patch.setattr(model, "conv", lambda *a: None), "conv"),
        (lambda patch: patch.setattr(model.Head, "construct", functools.partial(print)), "Head.construct"),
    ]
    for change, name in changes:
        with monkeypatch.context() as patch:
            change(patch)
            assert engines.replaced(model) == [name] and engines.choose("auto") == Engine("mindspore")


WRONG = [
    ("tensorrt", "fp32", "auto", "engine: tensorrt does not exist.", "one of auto, mindspore, onnxruntime, openvino"),
    ("auto", "int8", "auto", "precision: int8 does not exist.", "one of fp32, bf16"),
    ("auto", "bf16", "auto", "precision: bf16 cannot be used with engine: auto.", "engine: openvino, the only one"),
    ("onnxruntime", "bf16", "cpu", "precision: bf16 cannot be used with engine: onnxruntime.", "engine: openvino"),
    ("onnxruntime", "fp32", "gpu", "engine: onnxruntime cannot be used with device: gpu.", "device: cpu or auto"),
    ("openvino", "bf16", "ascend", "engine: openvino cannot be used with device: ascend.", "device: cpu or auto"),
]


@pytest.mark.parametrize(("name", "precision", "device", "what", "expected"), WRONG)
def test_wrong_words_have_one_message(name, precision, device, what, expected):
    for call in (engines.refuse, engines.choose):
        with pytest.raises(ConfigError) as caught:
            call(name, precision, device)
        assert caught.value.what == what and caught.value.expected.startswith(expected) and caught.value.fix


@pytest.mark.parametrize("command", ["predict", "serve", "suspects", "report", "grade"])
def test_each_command_refuses_an_unknown_engine_before_it_reads_anything(command, inside):
    more = {"predict": ["x.png"], "suspects": ["--data", "d"], "grade": ["--rubric", "r", "--data", "d", "--out", "o"]}
    done = cli(command, "nothing.ckpt", *more.get(command, []), "--engine", "tensorrt")
    assert done.returncode == 1 and "engine: tensorrt does not exist" in done.stderr, done.stderr


def test_settings_that_contradict_each_other_are_refused(squares):
    config = settings(squares / "two", 2)
    with pytest.raises(ConfigError, match="precision: bf16 needs engine: openvino, not auto"):
        mslab.load_config(config | {"precision": "bf16"})
    with pytest.raises(ConfigError, match="engine: onnxruntime runs on the CPU only, not on device: gpu"):
        mslab.load_config(config | {"engine": "onnxruntime", "device": "gpu"})
    mslab.load_config(config | {"engine": "openvino", "precision": "bf16"})


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "has no Core"),  # an empty folder, as a removed package leaves it
        ("raise RuntimeError('libopenvino.so: file too short')", "libopenvino.so: file too short"),
        ("raise ImportError('libtbb.so.12: cannot open shared object file')", "libtbb.so.12: cannot open"),
    ],
)
def test_a_broken_installation_has_a_message_with_the_command_that_repairs_it(content, reason, inside, monkeypatch):
    (inside / "site" / "openvino").mkdir(parents=True)
    if content:
        (inside / "site" / "openvino" / "__init__.py").write_text(content)
    packages.package("openvino")  # so that the end of the test puts it back in place of the broken one
    others = [folder for folder in sys.path if not (Path(folder) / "openvino").exists()]
    monkeypatch.setattr(sys, "path", [str(inside / "site"), *others])
    for name in [name for name in sys.modules if name.split(".")[0] == "openvino"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(DeviceError) as caught:
        engines.choose("openvino")
    assert str(caught.value).startswith("The package openvino cannot be imported: ") and reason in caught.value.what
    assert re.search(r"pip install .*'mslab\[openvino\]'", caught.value.fix)


def test_an_engine_that_is_not_installed_is_an_error_only_if_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DeviceError, match="The package onnxruntime cannot be imported"):
        engines.choose("onnxruntime")
    monkeypatch.setattr(engines, "version", lambda name: "")
    assert engines.choose("auto") == Engine("mindspore")


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_auto_goes_on_without_a_package_that_is_broken_and_says_so(package, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, package, None)
    assert engines.choose("auto") == Engine("mindspore")
    (line,) = caplog.messages
    assert line.startswith(f"note: MindSpore computes, slower than onnxruntime: The package {package} cannot be")
    assert "pip install" in line


def test_no_report_is_written_by_a_named_engine_that_cannot_run(parent, inside, monkeypatch):
    shutil.copytree(parent, "run")
    Path("run/report.html").unlink(missing_ok=True)
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(DeviceError, match="The package openvino cannot be imported"):
        write_report(["run"], engine="openvino")
    with pytest.raises(ConfigError, match="precision: bf16 cannot be used with engine: auto"):
        write_report(["run"], precision="bf16")
    config = Path("run/config.yaml").read_text()
    assert "engine: auto" in config
    Path("run/config.yaml").write_text(config.replace("engine: auto", "engine: openvino"))
    with pytest.raises(DeviceError, match="openvino"):  # the run's engine takes bf16, if it were there
        write_report(["run"], precision="bf16")
    assert not Path("run/report.html").exists()


def test_an_exported_file_runs_on_its_own_engine(inside):
    source = write_checkpoint(inside / "x.ckpt")
    for kind, own, other in (("onnx", "onnxruntime", "mindspore"), ("mindir", "mindspore", "onnxruntime")):
        export.export_run(source, kind)
        assert predicting.open_model(f"x.{kind}", "cpu", engine=own).runner.engine == Engine(own)
        for engine, precision in ((other, "fp32"), ("openvino", "bf16")):
            with pytest.raises(CheckpointError) as caught:
                predicting.open_model(f"x.{kind}", "cpu", engine=engine, precision=precision)
            assert caught.value.what == f"engine: {engine} with precision: {precision} cannot run x.{kind}."
            assert f"engine: {own} in fp32" in caught.value.expected and "the checkpoint" in caught.value.fix


# --- bfloat16 --------------------------------------------------------------------------------------------------------


def test_bf16_tells_once_how_much_it_changes(inside, caplog):
    if not has_bf16():
        with pytest.raises(DeviceError, match="this CPU has no arithmetic in bfloat16"):
            engines.choose("openvino", "bf16")
        return
    source = write_checkpoint(inside / "x.ckpt", [[2, 32, 1], [2, 64, 2]])
    model = models.open_weights(source, "cpu", 4, engine="openvino", precision="bf16")
    model.runner.warm_up(np.zeros((1, 3, SIZE, SIZE), np.float32))
    assert not [row for row in caplog.messages if "bf16" in row]  # not on zeros
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            model.logits(images(3))
    (line,) = [row for row in caplog.messages if row.startswith("bf16: probabilities differ by at most ")]
    assert line.endswith("on the first 3 images, 0 classes change")
    exact = models.open_weights(source, "cpu", 4, engine="openvino").logits(images(3))
    assert 0 < np.abs(model.logits(images(3)) - exact).max() < 0.05 * np.abs(exact).max()


def test_the_difference_in_words():
    exact = {"logits": np.array([[0.0, 1.0], [1.0, 0.0]]), "features": np.array([[1.0, 4.0]])}
    rough = {"logits": np.array([[0.0, 1.0], [1.0, 1.1]]), "features": np.array([[1.0, 4.2]])}
    text = "bf16: probabilities differ by at most 0.256 on the first 2 images, 1 class changes"
    assert engines.difference("bf16", exact, rough) == text
    features = ({"features": values["features"]} for values in (exact, rough))
    text = "bf16: features differ by at most 5.0e-02 of the largest on the first 1 images"
    assert engines.difference("bf16", *features) == text


def test_a_close_call_is_left_to_the_reference():
    assert not engines.is_close_call(np.array([[1.0, 2.0, 3.0], [5.0, 1.0, 4.0]]))
    assert engines.is_close_call(np.array([[1.0, 2.0, 3.0], [3.0, 3.00001, 1.0]]))
    assert engines.is_close_call(np.array([[1.0, np.nan]])) and not engines.is_close_call(np.array([[7.0], [7.0]]))


# --- what is not used costs nothing ----------------------------------------------------------------------------------


def test_predictions_and_heat_maps_build_no_network_of_mindspore(parent, squares, tmp_path, monkeypatch):
    monkeypatch.setattr(measuring, "build_network", lambda weights: pytest.fail("built"))
    model = predicting.open_model(parent, "cpu", 1)
    files = sorted((squares / "three" / "val" / "a").iterdir())[:3]
    assert len(list(predicting.predict(model, files))) == 3
    with Predictor(model, tmp_path) as predictor:
        assert server.App(predictor, Addresses("127.0.0.1"), "three").about()["heat_maps"]  # before any
        predictor.warm_up()
        assert predictor.classify(images(1, 32), False)["class"] in "abc"
        assert predictor.classify(images(1, 32), True)["heat"]


def test_an_engine_opens_no_connection(inside):
    """openvino brings openvino-telemetry, and onnxruntime sends usage data unless it is told not to."""
    source = write_checkpoint(inside / "x.ckpt")
    watch = "import sys\nsys.addaudithook(lambda event, args: event == 'socket.connect' and print('connects', args))\n"
    command = [sys.executable, "-c", watch + DIGEST, str(source), "onnxruntime:fp32", "openvino:fp32"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment(PROJECT))
    assert len(done.stdout.split()) == 2


# --- features of a frozen backbone -----------------------------------------------------------------------------------


@pytest.fixture
def frozen(squares, tmp_path, monkeypatch):
    """Settings of a frozen run, with its own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return settings(squares / "two", 2, epochs=2, freeze="all", feature_views=1)


def features_of(folder: Path) -> np.ndarray:
    return np.concatenate([np.load(path) for path in sorted(folder.glob("cache/mslab/features/*-0.npy"))])


@pytest.mark.parametrize("engine", ENGINES)
def test_features_are_mindspores_and_the_run_records_who_computed_them(engine, parent, frozen, inside):
    runs, arrays = {}, {}
    for name in ("mindspore", engine):
        shutil.rmtree(inside / "cache", ignore_errors=True)
        runs[name] = mslab.transfer(frozen | {"engine": name}, backbone=parent).run
        arrays[name] = features_of(inside)
        assert manifest(runs[name])["features_engine"] == Engine(name).record()
        assert f"images by {Engine(name)}," in log(runs[name])
    difference = np.abs(arrays[engine] - arrays["mindspore"]).max() / np.abs(arrays["mindspore"]).max()
    assert difference < 1e-6 and not np.array_equal(*arrays.values())


def test_a_resume_continues_with_the_engine_of_its_start(parent, frozen, inside, monkeypatch):
    with monkeypatch.context() as patch, stopped_after(1):
        patch.setattr(engines, "version", lambda name: "")  # as before onnxruntime was installed
        mslab.transfer(frozen, backbone=parent, name="old")
    run = newest("old-*")
    record = json.loads((run / "manifest.json").read_text())
    assert record.pop("features_engine")["engine"] == "mindspore"  # an older mslab has not written it
    (run / "manifest.json").write_text(json.dumps(record))
    start.resume(run)
    assert f"images by {Engine('mindspore')}," in log(run) and "onnxruntime" not in log(run)
    assert manifest(run)["features_engine"] == Engine("mindspore").record()


def test_the_engine_of_cached_features_cannot_change_in_a_resume_and_that_of_the_report_can(parent, frozen, inside):
    for freeze in ("all", "none"):
        with stopped_after(1):
            mslab.transfer(frozen | {"freeze": freeze}, backbone=parent, name=freeze)
    with pytest.raises(ConfigError, match=r"engine +auto -> openvino: the epochs so far were trained with auto"):
        start.resume(newest("all-*"), overrides=["engine=openvino"])
    start.resume(newest("none-*"), overrides=["engine=openvino"])


def test_a_larger_batch_of_validation_is_no_larger_batch_of_features(parent, frozen, inside):
    plain = mslab.transfer(frozen, backbone=parent).run
    shutil.rmtree(inside / "cache")
    wide = mslab.transfer(frozen | {"validation_batch_size": 14, "engine": "mindspore"}, backbone=parent).run
    assert [row["val_acc"] for row in mslab.Run(wide).history] == [row["val_acc"] for row in mslab.Run(plain).history]


def test_a_report_uses_the_engine_of_its_run_and_names_it(parent, inside):
    shutil.copytree(parent, "run")
    for options, name in (((), "onnxruntime"), (("--engine", "mindspore"), "mindspore")):
        done = cli("report", "run", "--out", f"{name}.html", "--device", "cpu", *options)
        assert done.returncode == 0, done.stderr
        page = Path(f"{name}.html").read_text()
        assert f"predictions on this page by</th><td>{name} " in page


def test_a_report_by_another_engine_than_its_runs_does_not_take_the_precision_of_that(parent, inside):
    shutil.copytree(parent, "run")
    run = RunFolder.read("run")
    run.settings = run.settings.replace(engine="openvino", precision="bf16")
    _, results, notes = single.measured(run, translator("en"), "cpu", "mindspore", "")
    assert results["engine"] == Engine("mindspore").record() and not notes


def test_reproduce_compares_what_computed_the_features(parent, frozen, inside, monkeypatch):
    runs = [
        Path(mslab.transfer(frozen | {"engine": name}, backbone=parent).run) for name in ("mindspore", "onnxruntime")
    ]
    then, other = (differing.recorded_state(RunFolder.read(run)) for run in runs)
    checks = {check.what: check for check in differing.circumstances(then, other)}
    assert checks["engine of the features"].level == "bits"
    assert (
        checks["engine of the features"]
        .cause()
        .endswith(
            f"mindspore {ms.__version__} fp32 then, {' '.join(Engine('onnxruntime').record().values())} now: "
            "each engine rounds differently"
        )
    )
    now = differing.current_state(RunFolder.read(runs[1]).settings, "cpu", 1)
    assert not differing.features_engine(other, now).differs
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    check = differing.features_engine(other, now)
    assert check.level == "stops" and "onnxruntime cannot be imported" in check.why and "pip install" in check.fix
    assert "engine of the features" not in {c.what for c in differing.circumstances(replace(then, features=None), now)}


def test_suspects_and_a_notebook_name_and_use_the_engine(parent, squares, inside):
    done = cli(
        "suspects", parent, "--data", squares / "three" / "val", "--out", ".", "--json", "-", "--engine", "openvino"
    )
    assert done.returncode == 0 and json.loads(done.stdout)["engine"] == Engine("openvino").record()
    shutil.copytree(parent, "run")
    text = Path("run/config.yaml").read_text()
    Path("run/config.yaml").write_text(text.replace("engine: auto", "engine: openvino"))
    assert mslab.Run("run", "cpu")._model.runner.engine == Engine("openvino")
