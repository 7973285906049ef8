"""Networks of mindcv by name: the setting, near names, groups, and the tensors of a file. Without MindSpore."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from mslab.checkpoint import mindcv_files, reading, writing
from mslab.checkpoint import networks as values
from mslab.checkpoint.mindcv_files import name_of, network_of
from mslab.checkpoint.networks import MindcvNetwork
from mslab.checkpoint.reading import Choice
from mslab.config import load_settings, networks
from mslab.errors import CheckpointError, ConfigError

GIVEN = {"train_data": "a", "val_data": "b", "class_num": 3}


def refusal(**given) -> str:
    with pytest.raises(ConfigError) as refused:
        load_settings(GIVEN | given)
    return str(refused.value)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    {
        "mobilenetv2": "mobilenet_v2_100",  # Azure AutoML
        "vitb16r224": "vit_b_16_224",
        "seresnext": "seresnext50_32x4d",
        "mobilenet_v2": "mobilenet_v2_100",  # torchvision
        "efficientnet_b0": "efficientnet_b0",
        "timm/convnext_tiny": "convnext_tiny",
        "MobileNetV2": "mobilenet_v2_100",  # Keras
        "inceptionv3": "inception_v3",
        "resnet_18": "resnet18",
        "mindcv:googlnet": "googlenet",
        "weights/mobilenet_v2_100-d5532038.ckpt": "mobilenet_v2_100",  # a file that mindcv publishes
    }.items(),
)
def test_names_of_other_projects(theirs, ours):
    assert networks.near(theirs) == f"mindcv:{ours}"
    assert f"write mindcv:{ours} (" in refusal(network=theirs)
    other = refusal(model_name=theirs)
    assert f"'model_name' is Azure AutoML and ModelArts's name; here it is 'network': network: mindcv:{ours}" in other


def test_names_that_are_no_network():
    text = refusal(network="mindcv:xyzzy")
    assert "'mindcv:xyzzy' is no network; write mindcv:NAME with a name of mindcv.list_models()" in text
    assert "write null (" in refusal(network="resnet50") and "write null (" in refusal(network="ResNet-50")
    assert networks.near("") == networks.near("vit") == networks.near("???") == ""
    assert load_settings(GIVEN | {"network": "mindcv:vit_b_16_224"}).network == "mindcv:vit_b_16_224"
    assert "write mindcv:googlenet (" in refusal(network={"mindcv": "googlenet"})  # network="mindcv: googlenet"
    assert "write mindcv:NAME with a name" in refusal(network={"mindcv": None})


@pytest.mark.parametrize("name", ["torchvision:resnet50", "timm:resnet50.a1_in1k", "Timm:convnext_tiny"])
def test_published_weights_are_no_network(name):
    text = refusal(network=name)
    assert f"'{name}' names published weights, not a network: give them as --backbone to mslab transfer" in text
    assert "mindcv:" not in text


def test_a_network_and_tables_of_model_py_contradict_each_other():
    text = refusal(network="mindcv:googlenet", stages=[[1, 8, 1]], stem="small")
    assert "network: mindcv:googlenet has layers of its own, and stages, stem describes model.py's" in text
    assert "stages=null stem=null helps" in text


def test_without_mindcv(monkeypatch):
    monkeypatch.setattr(values, "registered", dict)
    with pytest.raises(ConfigError) as refused:
        MindcvNetwork("mindcv:googlenet").layout()
    assert refused.value.what == "network: mindcv:googlenet needs mindcv, which is not installed."
    assert refused.value.expected == "mindcv 0.3.0, an extra of mslab"
    assert "install 'mslab[mindcv]'" in refused.value.fix and "network=null, model.py's ResNet" in refused.value.fix
    monkeypatch.setattr(values, "registered", lambda: {"googlenet": "googlenet"})
    with pytest.raises(ConfigError) as refused:
        MindcvNetwork("mindcv:of_tomorrow").layout()
    assert refused.value.what == "network: the installed mindcv has no of_tomorrow."
    assert refused.value.expected == "a name of mindcv.list_models(), after mindcv:"
    assert refused.value.fix.startswith("network=mindcv:mobilenet_v2_100, or ")


def test_a_file_of_a_network_that_is_not_here(tmp_path, monkeypatch):
    """No setting helps: neither for a file of mslab, nor for one that has the name of a published one."""
    tensors = {"features.0.weight": np.ones((2, 2), np.float32)}
    own, published = tmp_path / "x.ckpt", tmp_path / "mobilenet_v2_100-d5532038.ckpt"
    writing.save_arrays(tensors, own, {"network": "mindcv:mobilenet_v2_100"})
    writing.save_arrays(tensors, published, {})
    for known, problem in (
        ({}, "mindcv:mobilenet_v2_100 needs mindcv, which is not installed"),
        ({"googlenet": "googlenet"}, "the installed mindcv has no mobilenet_v2_100"),
    ):
        monkeypatch.setattr(values, "registered", lambda known=known: known)
        monkeypatch.setattr(mindcv_files, "registered", lambda known=known: known)
        for file in (own, published):
            with pytest.raises(CheckpointError) as refused:
                reading.read(file).check()
            assert refused.value.what == f"{file} is of mindcv:mobilenet_v2_100: {problem}."
            assert "install" in refused.value.fix and "network" not in refused.value.fix


def test_options_for_other_files_are_refused(tmp_path):
    tensors = {"features.0.weight": np.ones((2, 2), np.float32)}
    writing.save_arrays(tensors, tmp_path / "x.ckpt", {"network": "mindcv:mobilenet_v2_100"})
    assert reading.read(tmp_path / "x.ckpt", Choice("mindcv")).backbone.keys() == tensors.keys()
    with pytest.raises(CheckpointError) as refused:
        reading.read(tmp_path / "x.ckpt", Choice("timm"))
    assert "'timm' is not a known project" in refused.value.what and refused.value.fix == "leave --dialect out"
    with pytest.raises(CheckpointError) as refused:
        reading.read(tmp_path / "x.ckpt", Choice("torchvision"))
    assert "records how its network is built, which is not torchvision's way" in refused.value.what
    with pytest.raises(CheckpointError) as refused:
        reading.read(tmp_path / "x.ckpt", Choice(weights="ema"))
    assert "has no weights 'ema'" in refused.value.what and refused.value.fix == "leave --weights out"


FACTS = {"tensors": {"a.weight": [4, 3], "a.bias": [4], "b.weight": [4, 4]}, "published_head": "head"}


@pytest.fixture
def four(monkeypatch):
    """mindcv:four with two layers and a head."""
    monkeypatch.setattr(MindcvNetwork, "facts", lambda self: FACTS)

    def split(**shapes):
        tensors = {name.replace("__", "."): np.zeros(shape, np.float32) for name, shape in shapes.items()}
        return mindcv_files.split(Path("x.ckpt"), tensors, "mindcv:four", own=False)

    return split


def test_what_is_left_out_of_a_file_of_mindcv(four):
    right = {"a__weight": (4, 3), "a__bias": (4,), "b__weight": (4, 4), "head__weight": (9, 4), "head__bias": (9,)}
    tables = {"a__relative_position_index": (7, 7), "moments__a__weight": (4, 3), "global_step": (1,)}
    others = {"aux__fc__weight": (9, 4), "head_dist__weight": (9, 4), "head_dist__bias": (9,)}
    backbone, head, notes = four(**right, **tables, **others)
    assert [*backbone] == ["a.weight", "a.bias", "b.weight"] and [*head] == ["classifier.weight", "classifier.bias"]
    assert sorted(notes) == [
        "1 tensors left out (a)",
        "1 tensors left out (aux)",
        "2 tensors left out (head_dist)",
        "2 tensors left out (the optimizer's)",
    ]


def test_a_layer_that_the_network_lacks_is_not_left_out(four):
    """A deeper kin's file has all tensors of the network, and more."""
    backbone, _, notes = four(a__weight=(4, 3), a__bias=(4,), b__weight=(4, 4), c__weight=(4, 4), head__weight=(9, 4))
    assert "c.weight" in backbone and not notes


def test_a_file_of_another_network(four):
    with pytest.raises(CheckpointError) as refused:
        four(z__weight=(4, 3))
    assert refused.value.what == "x.ckpt is not a file of mindcv:four: it has 0 of that network's 3 tensors."
    assert (refused.value.expected, refused.value.fix) == ("a file of mindcv:four", "network=null, or another file")
    with pytest.raises(CheckpointError) as refused:
        mindcv_files.split(Path("squeezenet1_1-da256d3a.ckpt"), {"a.bias": np.zeros(1)}, "mindcv:four", own=False)
    assert "it has 1 of that network's 3 tensors" in refused.value.what
    assert refused.value.fix == "network=mindcv:squeezenet1_1"


@pytest.mark.parametrize(
    ("network", "groups"),
    {
        "mobilenet_v2_100": {
            "features.0.weight": "stem",
            "features.1.gamma": "stem",
            "features.3.layers.0.weight": "layer1",
            "features.19.layers.6.weight": "layer17",
            "features.21.gamma": "layer18",
        },
        "mobilenet_v3_small_100": {"features.13.layers.0.weight": "layer11", "classifier.0.weight": "layer12"},
        "vit_b_16_224": {"cls_token": "stem", "blocks.11.norm1.gamma": "layer12", "norm.gamma": "layer12"},
        "seresnext26_32x4d": {"layer0.0.weight": "stem", "layer4.0.conv1.weight": "layer4"},
        "resnetv2_50": {"conv1.weight": "stem", "layer4.0.conv1.weight": "layer4"},
        "inception_v3": {"conv4a.conv.weight": "stem", "inception7c.branch0.conv.weight": "layer11"},
        "googlenet": {"conv3.conv.weight": "stem", "inception5b.b1.conv.weight": "layer9"},
        "convnext_tiny": {"feature.0.0.weight": "stem", "feature.7.0.gamma_": "layer4", "norm.gamma": "layer4"},
        "efficientnet_b0": {"features.9.0.weight": "layer7", "features.10.weight": "layer8"},
        "mlp_mixer_s_p32": {"0.token_mix.0.gamma": "backbone"},  # no table: all of it is one group
    }.items(),
)
def test_groups(network, groups):
    for name, group in ({"classifier.weight": "head", "hidden.bias": "head"} | groups).items():
        assert networks.part_of(name, f"mindcv:{network}") == group


def test_groups_of_model_py():
    names = ("conv1.weight", "bn1.gamma", "layer2.0.bn1.gamma", "classifier.bias", "hidden.weight")
    assert [networks.part_of(name) for name in names] == ["stem", "stem", "layer2", "head", "head"]


def test_the_network_of_a_published_file():
    assert name_of(Path("x/mobilenet_v2_100-d5532038.ckpt")) == "mindcv:mobilenet_v2_100"
    assert name_of(Path("densenet121-120_5004_Ascend.ckpt")) == "mindcv:densenet121"
    assert name_of(Path("sknet18-868228e5.ckpt")) == "mindcv:skresnet18"
    assert name_of(Path("resnet50-e0733ab8.ckpt")) == ""  # model.py builds it
    assert network_of(Path("resnet50-e0733ab8.ckpt"), "mindcv:resnet50", {}) == "mindcv:resnet50"
    assert name_of(Path("best.ckpt")) == name_of(Path("mobilenet_v2.ckpt")) == ""


def test_a_name_is_a_hint_only(tmp_path, monkeypatch):
    """A ResNet of model.py in a file that has the name of a network of mindcv."""
    monkeypatch.setattr(MindcvNetwork, "facts", lambda self: FACTS)
    other = shutil.copy(Path(__file__).parents[1] / "data" / "torch.pth", tmp_path / "densenet121.pth")
    assert reading.read(other).network.title.startswith("a ResNet")


def test_an_own_file_is_read_without_mindcv(tmp_path, monkeypatch):
    monkeypatch.setattr(values, "registered", dict)
    names = ("features.0.weight", "classifier.0.weight", "classifier.weight", "classifier.bias", "training.accum.x")
    tensors = {name: np.ones((2, 2) if "weight" in name else 2, np.float32) for name in names}
    info = {"network": "mindcv:mobilenet_v3_small_100", "class_names": ["a", "b"], "image_size": 32}
    writing.save_arrays(tensors, tmp_path / "x.ckpt", info)
    weights = reading.read(tmp_path / "x.ckpt")
    assert [*weights.backbone] == ["features.0.weight", "classifier.0.weight"]
    assert [*weights.head] == ["classifier.weight", "classifier.bias"] and weights.outputs == 2
    assert weights.describe() == ("mindcv:mobilenet_v3_small_100, 2 classes; 1 tensors left out (the optimizer's)")
    assert reading.complete_info(weights)["network"] == "mindcv:mobilenet_v3_small_100"
    writing.save_arrays(tensors, tmp_path / "bad.ckpt", info | {"network": "mindcv:../x"})
    with pytest.raises(CheckpointError) as refused:
        reading.read(tmp_path / "bad.ckpt")
    assert "its entry 'mslab' has an invalid value of network" in refused.value.what
