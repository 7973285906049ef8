"""Networks of mindcv under mslab's head, each at a small size: trained, evaluated, resumed, exported, from its file."""

import json
import shutil
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from helpers import cli, history, settings
from submitted import hidden_images, inspect, zip_of

import mslab
from mslab import checkpoint, mindcv_backbone
from mslab.checkpoint import networks
from mslab.config import load_settings
from mslab.errors import CheckpointError, ConfigError, DeviceError
from mslab.evaluation import measuring, models
from mslab.grade.rubric import Rubric
from mslab.inference import export, graphs
from mslab.runtime import devices
from mslab.training import start

SIZES = {  # pixels: the smallest of 32, 96 and 224 that each takes
    "resnetv2_50": 32,
    "resnetv2_101": 32,
    "mobilenet_v2_100": 32,
    "mobilenet_v3_small_100": 32,
    "mobilenet_v3_large_100": 32,
    "inception_v3": 96,
    "inception_v4": 96,
    "googlenet": 32,
    "seresnet18": 32,
    "seresnext26_32x4d": 32,
    "resnest14": 32,
    "efficientnet_b0": 32,
    "convnext_tiny": 32,
    "vit_b_32_224": 224,
    "mlp_mixer_s_p32": 224,
}
NO_MAPS = ("vit_b_32_224", "mlp_mixer_s_p32")


def config(root: Path, network: str, **more) -> dict:
    size = {"image_size": SIZES[network], "epochs": 1, "warmup_epochs": 0, "lr_max": 0.001}
    return settings(root, 3, network=f"mindcv:{network}", **(size | more)) | {"stages": None}


@pytest.fixture(scope="module", params=SIZES)
def trained(request, squares, once):
    """(the name, a finished run of one epoch). Do not change it."""
    name = request.param
    folder = once(f"mindcv-{name}", lambda folder: mslab.train(config(squares / "three", name), name="run"))
    return name, next(folder.glob("runs/run-*"))


def test_a_network_trains_and_its_checkpoint_rebuilds_it(trained, squares):
    name, run = trained
    weights = checkpoint.read(run / "checkpoints/best.ckpt")
    assert weights.info["network"] == f"mindcv:{name}" and "stages" not in weights.info
    loaded = mslab.load_network(run)
    assert isinstance(loaded.network.backbone, mindcv_backbone.MindcvBackbone)
    x = np.random.default_rng(0).normal(size=(3, 3, SIZES[name], SIZES[name])).astype(np.float32)
    features = loaded.network.backbone(ms.Tensor(x))
    assert features.shape == (3, loaded.network.backbone.channels, 1, 1)
    assert loaded.network(ms.Tensor(x)).shape == (3, 3)
    result = mslab.evaluate(run, squares / "three" / "val")
    assert abs(result["accuracy"] - float(history(run)[-1]["val_acc"])) < 1e-4
    assert networks.of_settings(load_settings(run / "config.yaml")).title == f"mindcv:{name}"


def test_its_parameters_are_mindcvs(trained):
    from mindcv.models import create_model

    name, run = trained
    own = checkpoint.read(run / "checkpoints/best_backbone.ckpt").backbone
    theirs = {p.name: tuple(p.shape) for p in create_model(name, num_classes=7).get_parameters()}
    assert {n: v.shape for n, v in own.items()}.items() <= theirs.items()
    last = [n for n in theirs.keys() - own.keys() if not n.startswith("aux.")]
    assert len(last) == 2 and all(7 in theirs[n][:1] for n in last)


def test_the_published_file_is_a_backbone_and_gives_mindcvs_features(trained, tmp_path, squares):
    """A file as mindcv publishes it: its network's parameters with a head of 1000 classes, without an entry."""
    from mindcv.models import create_model

    name, _ = trained
    devices.start("cpu", "pynative", 1)
    theirs = create_model(name, num_classes=1000)
    theirs.set_train(False)
    path = tmp_path / f"{name}-0123abcd.ckpt"
    ms.save_checkpoint(theirs, str(path))
    weights = checkpoint.read(path)
    weights.check()
    assert weights.network.title == f"mindcv:{name}" and weights.outputs == 1000
    x = ms.Tensor(np.random.default_rng(0).normal(size=(2, 3, SIZES[name], SIZES[name])).astype(np.float32))
    expected, logits = theirs(x).asnumpy(), measuring.network_of(weights).network(x).asnumpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4 * np.abs(expected).max())
    run = mslab.transfer(config(squares / "three", name, freeze="all"), backbone=path).run
    assert "its head is left out" in (Path(run) / "train.log").read_text()


def test_a_published_head_that_is_a_convolution_is_left_out(tmp_path):
    from mindcv.models import create_model

    ms.save_checkpoint(create_model("squeezenet1_1", num_classes=1000), str(tmp_path / "squeezenet1_1-da256d3a.ckpt"))
    weights = checkpoint.read(tmp_path / "squeezenet1_1-da256d3a.ckpt")
    weights.check()
    assert not weights.head and weights.notes == ["2 tensors left out (classifier)"]


def test_the_report_of_a_transfer_has_every_section(squares, tmp_path, monkeypatch):
    """For the map of features before the transfer the parent is rebuilt, as mindcv's network."""
    monkeypatch.chdir(tmp_path)
    run = mslab.train(config(squares / "three", "googlenet"), name="parent").run
    child = mslab.transfer(config(squares / "three", "googlenet"), backbone=run).run
    done = cli("report", child)
    assert done.returncode == 0 and "Sections" not in done.stderr, done.stderr
    assert "before transfer" in (Path(child) / "report.html").read_text()


def test_heat_maps_where_there_is_a_feature_map(trained):
    name, run = trained
    model = models.open_weights(run, devices.start("cpu", "graph", seed=0))
    assert model.runner.engine.name == "mindspore" and (model.heat_map is None) == (name in NO_MAPS)
    if model.heat_map:
        x = np.random.default_rng(0).normal(size=(2, 3, SIZES[name], SIZES[name])).astype(np.float32)
        maps = model.heat_map(x, np.array([0, 1], np.int32))
        assert maps.shape[0] == 2 and maps.ndim == 3 and (maps >= 0).all()


@pytest.mark.parametrize("kind", ["mindir", "onnx"])
def test_it_is_exported_or_refused_with_the_reason(trained, kind, tmp_path):
    name, run = trained
    target = tmp_path / f"x.{kind}"
    try:
        export.export_run(run, kind, target)
    except CheckpointError as error:
        assert kind == "onnx" and "MindSpore cannot write" in error.what and error.fix == "--format mindir"
        assert not target.exists()
        return
    forward, info = graphs.open_exported(target)
    assert info["network"] == f"mindcv:{name}"
    x = np.random.default_rng(0).normal(size=(3, 3, SIZES[name], SIZES[name])).astype(np.float32)
    expected = mslab.load_network(run).network(ms.Tensor(x)).asnumpy()
    np.testing.assert_allclose(forward(x), expected, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["mobilenet_v2_100", "efficientnet_b0", "convnext_tiny"])  # dropout, drop path, none
def test_a_rerun_and_a_resume_are_equal_bit_for_bit(name, squares, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = config(squares / "three", name, epochs=2)
    first, again = (Path(mslab.train(given, name=part).run) for part in ("first", "again"))
    stopped = Path(mslab.train(given | {"max_training_time": 1e-6}, name="stopped").run)
    resumed = Path(start.resume(stopped, overrides=["max_training_time=null"]).run)
    for file in ("best.ckpt", "best_backbone.ckpt"):
        content = (first / "checkpoints" / file).read_bytes()
        assert (again / "checkpoints" / file).read_bytes() == content
        assert (resumed / "checkpoints" / file).read_bytes() == content


def test_freezing_by_groups(squares, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Path(mslab.train(config(squares / "three", "mobilenet_v2_100"), name="parent").run)
    frozen = config(squares / "three", "mobilenet_v2_100", layers_to_freeze=4, epochs=2, unfreeze={"2": "layer3"})
    child = Path(mslab.transfer(frozen | {"network": None}, backbone=run).run)
    assert load_settings(child / "config.yaml").network == "mindcv:mobilenet_v2_100"
    before, after = (checkpoint.read(r / "checkpoints/last.ckpt").backbone for r in (run, child))
    before = checkpoint.read(run / "checkpoints/best_backbone.ckpt").backbone
    same = {n for n in before if before[n].tobytes() == after[n].tobytes()}
    assert {n for n in before if n.startswith(("features.0.", "features.1.", "features.3.", "features.4."))} <= same
    assert not any(n.startswith(("features.5.", "features.6.")) and n.endswith("weight") for n in same)
    cached = mslab.transfer(frozen | {"layers_to_freeze": 0, "unfreeze": {}, "freeze": "all"}, backbone=run)
    manifest = json.loads((Path(cached.run) / "manifest.json").read_text())
    assert manifest["features"] and manifest["features_engine"]["engine"] == "mindspore"
    with pytest.raises(ConfigError) as refused:
        mslab.transfer(frozen | {"layers_to_freeze": 20, "unfreeze": {}}, backbone=run)
    assert "20: at most 19 are possible: stem, layer1, layer2" in str(refused.value)


def test_image_sizes_that_it_cannot_take(squares, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, size, works in (("inception_v3", 32, 96), ("mlp_mixer_s_p32", 64, 224)):
        with pytest.raises(ConfigError) as refused:
            mslab.train(config(squares / "three", name, image_size=size))
        assert f"network: mindcv:{name} cannot take images of {size} pixels: For '" in refused.value.what
        assert refused.value.expected == f"another image size; {works} pixels work"
        assert refused.value.fix == f"image_size={works}" and not Path("runs").exists()
    with pytest.raises(ConfigError) as refused:
        mslab.train(config(squares / "three", "inception_v3", valid_crop_size=32, valid_resize_size=110))
    assert refused.value.fix == "valid_crop_size=96"


def test_a_network_that_mindspore_cannot_run(squares, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = config(squares / "three", "googlenet")
    with pytest.raises(ConfigError) as refused:
        mslab.train(given | {"network": "mindcv:rexnet_09"})
    assert "mindcv:rexnet_09 cannot be built: RuntimeError" in refused.value.what
    assert refused.value.fix == "use another network, such as network=mindcv:mobilenet_v2_100"
    with pytest.raises(ConfigError) as refused:
        mslab.train(given | {"network": "mindcv:volo_d1", "image_size": 64})
    assert "MindSpore cannot run mindcv:volo_d1 here: For 'pad'" in refused.value.what
    assert refused.value.expected == "a network of mindcv that gives features of images"


def test_engines_that_run_model_py_only(squares, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = mslab.train(config(squares / "three", "googlenet"), name="run").run
    with pytest.raises(DeviceError) as refused:
        models.open_weights(run, "cpu", engine="onnxruntime")
    assert "engine: onnxruntime cannot run mindcv:googlenet" in refused.value.what
    assert refused.value.expected == "engine: auto or mindspore for a network of mindcv"
    assert refused.value.fix == "engine: mindspore"
    with pytest.raises(CheckpointError) as refused:
        mslab.transfer(config(squares / "three", "mobilenet_v2_100"), backbone=run)
    assert "was trained with network mindcv:googlenet, the config sets mindcv:mobilenet_v2_100" in refused.value.what
    done = cli("convert", f"{run}/checkpoints/best.ckpt", "--to", "x.safetensors")
    assert "torchvision's names are known of ResNets only" in done.stderr and "--to x.ckpt" in done.stderr
    assert "with mindcv's names" in done.stderr
    shutil.rmtree("runs")


def test_show_lists_groups_shapes_and_weights(tmp_path):
    done = cli("show", "network=mindcv:mobilenet_v2_100", "image_size=64", "layers_to_freeze=2")
    assert "stem" in done.stdout and "layer18" in done.stdout and "(1, 1280, 2, 2)" in done.stdout
    assert "2,223,872" in done.stdout and "15 of 260 frozen" in done.stdout


def test_a_rubric_names_the_networks_that_it_allows(squares, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = Path(mslab.train(config(squares / "three", "mobilenet_v2_100"), name="run").run)
    members = {"a/best.ckpt": (run / "checkpoints/best.ckpt").read_bytes()}
    source, files = zip_of(tmp_path / "x.zip", members), {"a": ["a/best.ckpt"]}
    images = {"a": hidden_images(tmp_path / "hidden")[0]}
    (facts,) = inspect(tmp_path, source, files, images).facts["networks"].values()  # without a word in the rubric
    assert facts["error"] == "it is mindcv:mobilenet_v2_100, and the task allows model.py"
    measurement = inspect(tmp_path, source, files, images, allowed={"a": ["mindcv:mobilenet_v2_100"]})
    facts = measurement.facts["networks"]["a"]
    assert facts["network"] == "mindcv:mobilenet_v2_100" and "mindspore" in facts["engine"]
    assert measurement.logits["a"].shape[1] == 3
    rubric = Rubric.model_validate({"title": "x", "total": 1, "networks": {"a": {"file": "a/best.ckpt"}}, "items": []})
    assert rubric.networks["a"].allowed == ["model.py"]
