"""The network: number of weights, shapes, names, initial values."""

import re
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from helpers import STAGES

from mslab import model
from mslab.checkpoint import load_exactly
from mslab.config import load_settings
from mslab.errors import CheckpointError, ConfigError
from mslab.report.show import show_network
from mslab.runtime import devices
from mslab.training import build


@pytest.fixture(autouse=True)
def start():
    devices.start("cpu", "pynative", 1)


@pytest.fixture(scope="module")
def standard():
    """The standard ResNet-50 with nine classes. Do not change its weights."""
    return model.ResNet50(model.resnet50_backbone(), model.resnet50_head(9))


def weights(cell):
    return sum(parameter.size for parameter in cell.trainable_params())


def test_the_standard_table_is_resnet50(standard):
    # stem: conv + 4 of BatchNorm = 5; 16 blocks of 3 convolutions and 3 x 4 of BatchNorm = 240; 4 shortcuts of 5 = 20
    backbone = standard.backbone
    assert len(backbone.parameters_dict()) == 5 + 240 + 20 == 265
    assert weights(backbone) == 23_508_032
    for class_num, total in ((9, 23_526_473), (2, 23_512_130), (1000, 25_557_032)):
        assert weights(backbone) + weights(model.resnet50_head(class_num)) == total


def test_the_shapes_in_the_comments_are_those_of_a_forward_pass(standard):
    source = Path(model.__file__).read_text()
    table = re.findall(r"^    \((\d+), (\d+), (\d)\),  #\s+\(N,\s*(\d+),\s*(\d+),\s*(\d+)\)", source, re.MULTILINE)
    assert [tuple(map(int, row[:3])) for row in table] == model.STAGES
    backbone = standard.backbone.set_train(False)
    x = backbone.relu(backbone.bn1(backbone.conv1(ms.Tensor(np.zeros((1, 3, 224, 224), np.float32)))))
    assert x.shape == (1, 64, 112, 112)
    x = backbone.pool(x)
    assert x.shape == (1, 64, 56, 56)
    for row, layer in zip(table, backbone.layers, strict=True):
        x = layer(x)
        assert x.shape == (1, *map(int, row[3:]))


def test_names_are_mindcvs_without_a_prefix_also_in_the_complete_network(standard):
    names = set(standard.parameters_dict())
    assert {"conv1.weight", "layer1.0.bn1.gamma", "layer1.0.down_sample.0.weight", "classifier.weight"} <= names
    assert not any(name.startswith(("backbone", "head", "layers")) for name in names)
    assert set(standard.backbone.parameters_dict()) == names - {"classifier.weight", "classifier.bias"}


def test_without_auto_prefix_false_mindspore_adds_a_prefix():
    class Plain(ms.nn.Cell):
        def __init__(self, backbone):
            super().__init__()
            self.backbone = backbone

    assert all(name.startswith("backbone.") for name in Plain(model.resnet50_backbone(STAGES)).parameters_dict())


def test_last_gammas_start_at_zero_and_equal_shapes_get_different_values():
    backbone = model.resnet50_backbone([[2, 8, 1]])
    values = {name: parameter.asnumpy() for name, parameter in backbone.parameters_dict().items()}
    assert (values["layer1.0.bn3.gamma"] == 0).all() and (values["layer1.0.bn1.gamma"] == 1).all()
    assert not np.array_equal(values["layer1.0.conv2.weight"], values["layer1.1.conv2.weight"])
    assert values["conv1.weight"].std() == pytest.approx((2 / (64 * 49)) ** 0.5, rel=0.05)  # He, fan out


def test_padding_is_symmetric():
    layer = model.conv(1, 1, 3, 2)
    layer.weight.set_data(ms.Tensor(np.ones((1, 1, 3, 3), np.float32)))
    image = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    # padded by one on every side, the first window covers only rows 0..1 and columns 0..1
    assert layer(ms.Tensor(image)).asnumpy()[0, 0, 0, 0] == 0 + 1 + 4 + 5


def test_show_prints_a_real_pass_and_what_is_frozen(three, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    text = show_network(None)
    assert "(1, 2048, 7, 7)" in text and "23,508,032" in text and "25,557,032" in text and "frozen" not in text
    text = show_network(three | {"freeze": "all"})
    assert text.count("frozen") == 6 and "45 of 45 frozen" in text and "(1, 32, 4, 4)" in text
    text = show_network(three | {"layers_to_freeze": 2, "unfreeze": {2: "layer1"}, "lr_scale": {"backbone": 0.1}})
    assert "5 of 5 frozen" in text and "20 of 20 frozen" in text and "25 of 47 frozen" in text
    assert "epoch 2: layer1 unfrozen" in text and "learning rate of backbone: x 0.1" in text
    text = show_network(three | {"freeze_layer_pattern": r"bn1\."})
    assert "4 of 5 frozen" in text and "4 of 20 frozen" in text


@ms.jit
def always_raises(x):
    raise ValueError("boom")
    return x


def test_mindspores_compiler_drops_a_raise_that_always_happens():
    assert always_raises(ms.Tensor([1.0])).asnumpy() == 1


def test_a_wrong_table_from_python_names_its_row():
    for table, said in (([(3, 64)], "row 1 .*has 2 numbers"), ([], "it has 0 rows"), ([(1, 8, 1), (1, 0, 1)], "row 2")):
        with pytest.raises(ConfigError, match=said):
            model.resnet50_backbone(table)


def test_a_network_that_its_table_does_not_explain_is_named_and_its_file_says_what_has_changed(three, monkeypatch):
    """A student adds a layer: the run can be resumed, but eval rebuilds a network from its table alone."""
    settings = load_settings(three)
    for usual in (settings, settings.replace(head_hidden=4), settings.replace(profile={"block": "basic"})):
        assert build.unlike_the_table(build.new_network(usual), usual) == []
    before = model.resnet50_backbone(STAGES)
    block = model.Bottleneck.__init__

    def with_a_layer(self, channels, *rest):
        block(self, channels, *rest)
        self.extra = model.conv(channels, channels, 3)

    monkeypatch.setattr(model.Bottleneck, "__init__", with_a_layer)
    network = build.new_network(settings)
    assert build.unlike_the_table(network, settings) == ["layer1.0.extra.weight", "layer2.0.extra.weight"]
    tensors = {name: parameter.asnumpy() for name, parameter in before.parameters_dict().items()}
    with pytest.raises(CheckpointError, match=r"undo the changes of the network's code in .*model\.py"):
        load_exactly(network.backbone.parameters_dict(), tensors, Path("old.ckpt"), "backbone")
