"""Other projects' ResNets: recognised, built as they were built, equal logits; and converted back bit for bit."""

import mindspore as ms
import numpy as np
import pytest
from helpers import PROJECT, cli
from mindspore import nn, ops
from others import agree, images, mindcv_in_both_directions, randomised

from mslab import checkpoint, model
from mslab.checkpoint import dialects
from mslab.errors import CheckpointError
from mslab.evaluation import measuring

BASIC = [[2, 64, 1], [1, 16, 2]]
NARROW = [[2, 8, 1], [1, 16, 2]]


class Block(nn.Cell):
    """A block as other projects have it: `p` contains its names and how it is built."""

    def __init__(self, channels, width, stride, p):
        super().__init__()
        out = width * (1 if p.get("basic") else 4)
        kernels = [3, 3] if p.get("basic") else [1, 3, 1]
        strides = [stride, 1] if p.get("basic") else [1, stride, 1]
        widths = [width, width] if p.get("basic") else [width, width, out]
        self.units = []
        last = channels
        for number, (kernel, step, size) in enumerate(zip(kernels, strides, widths, strict=True), 1):
            unit = unit_of(last, size, kernel, step, p, p["eps"])
            if p["fused"]:
                setattr(self, f"conv{number}", Fused(*unit))
                self.units.append(getattr(self, f"conv{number}"))
            else:
                setattr(self, f"conv{number}", unit[0])
                setattr(self, p["bn"].format(number), unit[1])
                self.units.append(nn.SequentialCell(*unit))
            last = size
        self.units = tuple(self.units)
        self.short = None
        if stride != 1 or channels != out:
            unit = unit_of(channels, out, 1, stride, p, p["outer_eps"])
            self.short = Fused(*unit) if p["fused"] else nn.SequentialCell(*unit)
            setattr(self, p["down"], self.short)

    def construct(self, x):
        y = x
        for unit in self.units[:-1]:
            y = ops.relu(unit(y))
        return ops.relu(self.units[-1](y) + (x if self.short is None else self.short(x)))


class Fused(nn.Cell):
    def __init__(self, conv, norm):
        super().__init__()
        self.features = nn.SequentialCell(conv, norm)

    def construct(self, x):
        return self.features(x)


def unit_of(channels, out, kernel, stride, p, eps):
    where = {"pad_mode": "same"} if p["same"] else {"pad_mode": "pad", "padding": kernel // 2}
    return nn.Conv2d(channels, out, kernel, stride, **where), nn.BatchNorm2d(out, eps=eps)


class Theirs(nn.Cell):
    def __init__(self, p, stages, classes):
        super().__init__()
        stem = unit_of(3, 64, 7, 2, p, p["outer_eps"])
        if p["fused"]:
            self.conv1 = self.stem = Fused(*stem)
        else:
            self.conv1, self.stem = stem[0], nn.SequentialCell(*stem)
            setattr(self, p["stem_bn"], stem[1])
        self.pool = nn.MaxPool2d(3, 2, pad_mode="same") if p["pool"] == "same" else nn.MaxPool2d(3, 2)
        self.pad = p["pool"] != "same"
        layers, channels = [], 64
        for number, (blocks, width, stride) in enumerate(stages, 1):
            rows = []
            for index in range(blocks):
                rows.append(Block(channels, width, stride if index == 0 else 1, p))
                channels = width * (1 if p.get("basic") else 4)
            setattr(self, f"layer{number}", nn.SequentialCell(rows))
            layers.append(getattr(self, f"layer{number}"))
        self.layers = tuple(layers)
        self.head = nn.Dense(channels, classes)
        if p["head"] != "head":
            setattr(self, p["head"], self.head)

    def construct(self, x):
        x = ops.relu(self.stem(x))
        if self.pad:
            x = ops.pad(x, (1, 1, 1, 1))  # zeros: equal to any smaller value after a ReLU
        x = self.pool(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(ops.mean(x, (2, 3)))


PLAIN = {"same": True, "pool": "same", "eps": 1e-5, "outer_eps": 1e-5, "fused": False, "bn": "bn{}", "stem_bn": "bn1"}
OFFICIAL = PLAIN | {"eps": 1e-4, "outer_eps": 1e-4, "down": "down_sample_layer", "head": "end_point"}
OFFICIAL_BASIC = OFFICIAL | {"basic": True, "same": False, "pool": "pad", "outer_eps": 1e-5, "bn": "bn{}d"}
TUTORIAL = PLAIN | {"bn": "norm{}", "stem_bn": "norm", "down": "down_sample", "head": "fc"}
MINDVISION = PLAIN | {"same": False, "pool": "pad", "fused": True, "down": "down_sample", "head": "dense"}


def saved(network, path, rename=lambda name: name):
    """Save as ms.save_checkpoint does: one entry per parameter, under the name in the program."""
    seen, entries = set(), []
    for name, parameter in network.parameters_and_names():
        if id(parameter) not in seen:
            seen.add(id(parameter))
            entries.append({"name": rename(parameter.name or name), "data": parameter})
    ms.save_checkpoint(entries, str(path))
    return path


def original_name(name, p):
    """Return the name in the original project; the head is called head."""
    pairs = [("stem.0.", "conv1."), ("stem.1.", f"{p['stem_bn']}."), ("stem.features", "conv1.features")]
    pairs += [("short.", f"{p['down']}."), ("end_point.", "head."), ("fc.", "head."), ("dense.", "head.")]
    for part, right in pairs:
        name = name.replace(part, right)
    return name


@pytest.fixture(autouse=True)
def eager():
    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.mark.parametrize(
    "name,p,stages,rename",
    [
        ("official", OFFICIAL, NARROW, lambda n: n.replace("head.", "end_point.")),
        ("official", OFFICIAL_BASIC, BASIC, lambda n: n.replace("head.", "end_point.")),
        ("tutorial", TUTORIAL, NARROW, lambda n: n.replace("head.", "fc.")),
        (
            "mindvision",
            MINDVISION,
            NARROW,
            lambda n: n.replace("head.", "head.dense.") if "head" in n else f"backbone.{n}",
        ),
    ],
)
def test_a_network_of_another_project_gives_the_same_logits_here(name, p, stages, rename, tmp_path):
    classes = 1001 if name == "official" else 7
    theirs = randomised(Theirs(p, stages, classes))

    path = saved(theirs, tmp_path / "theirs.ckpt", lambda n: rename(original_name(n, p)))
    weights = checkpoint.read(path)
    assert weights.dialect.name == name and weights.stages == stages
    assert name in weights.describe()
    loaded = measuring.load_network(path)
    expected = theirs(ms.Tensor(images())).asnumpy()
    if classes == 1001:
        assert "row 1001 of the head left out" in weights.describe() and len(loaded.class_names) == 1000
        expected = expected[:, :1000]
    agree(loaded.network(ms.Tensor(images())).asnumpy(), expected)


def test_the_profile_matters_and_is_carried(tmp_path):
    """Without it the same weights give other logits: translating only the names would silently lose it."""
    theirs = randomised(Theirs(TUTORIAL, NARROW, 7))
    path = saved(theirs, tmp_path / "t.ckpt", lambda n: original_name(n, TUTORIAL).replace("head.", "fc."))
    tensors = checkpoint.read(path)
    plain = model.ResNet50(model.resnet50_backbone(NARROW), model.resnet50_head(7, 64)).set_train(False)
    checkpoint.load_exactly(plain.parameters_dict(), tensors.backbone | tensors.head, path, "network")
    expected = theirs(ms.Tensor(images())).asnumpy()
    assert np.abs(plain(ms.Tensor(images())).asnumpy() - expected).max() > 0.01 * np.abs(expected).max()
    assert cli("convert", path, "--to", tmp_path / "own.ckpt").returncode == 0
    own = measuring.load_network(tmp_path / "own.ckpt")
    assert own.info["profile"]["padding"] == "same" and own.info["stages"] == NARROW
    agree(own.network(ms.Tensor(images())).asnumpy(), expected)


def test_mindcv_in_both_directions(tmp_path):
    mindcv_in_both_directions("resnet18", tmp_path)


def test_the_five_tables_are_named():
    for table, block in ((dialects.BASIC_STAGES, "basic"), (dialects.BOTTLENECK_STAGES, "bottleneck")):
        for blocks, name in table.items():
            stages = [[n, 64 * 2**i, 1 if i == 0 else 2] for i, n in enumerate(blocks)]
            assert dialects.title(stages, {"block": block}) == name
    assert dialects.title([[1, 8, 1]], {"block": "basic"}) == "a ResNet with stages [[1, 8, 1]]"


@pytest.mark.parametrize("profile", [{}, {"block": "basic"}])
@pytest.mark.parametrize("stages", [model.STAGES, NARROW, [[1, 64, 1]], [[1, 64, 2], [3, 16, 1]]])
def test_the_layout_matches_the_network(stages, profile):
    backbone = model.resnet50_backbone(stages, profile)
    real = {name: tuple(parameter.shape) for name, parameter in backbone.parameters_dict().items()}
    assert dialects.layout([list(row) for row in stages], model.PROFILE | profile) == real
    assert list(dialects.layout([list(row) for row in stages], model.PROFILE | profile)) == list(real)
    assert dialects.PROFILE == model.PROFILE and dialects.STEM == model.STEM


def test_a_part_of_a_network_is_not_converted(tmp_path):
    own_file(tmp_path / "own.ckpt")
    tensors = dict(checkpoint.read(tmp_path / "own.ckpt").tensors)
    del tensors["layer2.0.bn3.beta"]
    checkpoint.save_arrays(tensors, tmp_path / "part.ckpt", {"stages": NARROW})
    done = cli("convert", tmp_path / "part.ckpt", "--to", tmp_path / "new.ckpt")
    assert done.returncode == 1 and "missing   layer2.0.bn3.beta (64,)" in done.stderr
    assert not (tmp_path / "new.ckpt").exists()


def own_file(path, stages=NARROW, profile=None, classes=3):
    backbone = model.resnet50_backbone(stages, profile or {})
    network = randomised(model.ResNet50(backbone, model.resnet50_head(classes, backbone.channels)))
    info = {"class_names": ["a", "b", "c"][:classes], "stages": stages, "profile": model.PROFILE | (profile or {})}
    checkpoint.save(
        list(network.get_parameters()), path, info | {"image_size": 64, "mean": [0.5] * 3, "std": [1.0] * 3}
    )
    return network


def test_to_safetensors_and_back_is_bit_exact(tmp_path):
    network = own_file(tmp_path / "own.ckpt")
    done = cli("convert", tmp_path / "own.ckpt", "--to", tmp_path / "torch.safetensors")
    assert done.returncode == 0 and "with torchvision's names" in done.stderr
    from safetensors.numpy import load_file

    theirs = load_file(tmp_path / "torch.safetensors")
    assert {"conv1.weight", "bn1.running_var", "layer1.0.downsample.1.bias", "fc.weight"} <= theirs.keys()
    assert theirs["bn1.num_batches_tracked"].shape == () and theirs["bn1.num_batches_tracked"].dtype == np.int64
    assert cli("convert", tmp_path / "torch.safetensors", "--to", tmp_path / "back.ckpt").returncode == 0
    first, last = checkpoint.read(tmp_path / "own.ckpt"), checkpoint.read(tmp_path / "back.ckpt")
    assert first.tensors.keys() == last.tensors.keys() and first.info == last.info
    assert all(first.tensors[name].tobytes() == last.tensors[name].tobytes() for name in first.tensors)
    assert (tmp_path / "own.ckpt").read_bytes() == (tmp_path / "back.ckpt").read_bytes()
    loaded = measuring.load_network(tmp_path / "torch.safetensors")
    assert loaded.class_names == ["a", "b", "c"]
    x = ms.Tensor(images())
    assert np.array_equal(loaded.network(x).asnumpy(), network(x).asnumpy())


def test_a_profile_that_torchvision_does_not_have_is_reported(tmp_path):
    own_file(tmp_path / "own.ckpt", profile={"pool": "same", "eps": 1e-4})
    done = cli("convert", tmp_path / "own.ckpt", "--to", tmp_path / "torch.safetensors")
    assert "note: this network is built with pool: same, eps: 0.0001; torchvision's is not" in done.stderr
    assert checkpoint.read(tmp_path / "torch.safetensors").profile["pool"] == "same"


def test_onnx_initialisers(tmp_path):
    onnx = pytest.importorskip("onnx", reason="the test extra onnx is not installed")
    own_file(tmp_path / "own.ckpt")
    weights = checkpoint.read(tmp_path / "own.ckpt")
    theirs = dialects.to_torch(weights.backbone | weights.head)
    for packed in (True, False):
        rows = [
            onnx.numpy_helper.from_array(v, n)
            if packed or v.dtype != np.float32
            else onnx.helper.make_tensor(n, onnx.TensorProto.FLOAT, v.shape, v.ravel().tolist())
            for n, v in theirs.items()
        ]
        graph = onnx.helper.make_graph([], "g", [], [], rows)
        onnx.save(onnx.helper.make_model(graph), str(tmp_path / "x.onnx"))
        read = checkpoint.read(tmp_path / "x.onnx")
        assert read.dialect.name == "torchvision" and read.stages == NARROW
        own = weights.backbone | weights.head
        assert all(np.array_equal(own[name], value) for name, value in (read.backbone | read.head).items())
    fused = {n: v for n, v in theirs.items() if "bn" not in n and "downsample.1" not in n}
    rows = [onnx.numpy_helper.from_array(v, n) for n, v in fused.items()]
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [], rows)), str(tmp_path / "fused.onnx"))
    with pytest.raises(CheckpointError, match="BatchNorm was merged into the convolutions"):
        checkpoint.read(tmp_path / "fused.onnx")


def test_what_convert_refuses(tmp_path):
    own_file(tmp_path / "own.ckpt")
    for arguments, text in (
        ([tmp_path / "own.ckpt", "--to", tmp_path / "own.ckpt"], "already exists"),
        ([tmp_path / "own.ckpt", "--to", tmp_path / "x.pth"], ".pth is not one of its formats"),
        ([tmp_path / "own.ckpt", "--to", tmp_path / "own.ckpt" / "x.ckpt"], "own.ckpt is a file"),
        ([tmp_path / "own.ckpt", "--to", tmp_path / "x.ckpt", "--dialect", "keras"], "'keras' is not a known project"),
    ):
        done = cli("convert", *arguments)
        assert done.returncode == 1 and text in done.stderr and "fix" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own.ckpt"]


# --- PyTorch's own files ---------------------------------------------------------------------------------------------

TINY = PROJECT / "tests" / "data"  # written by tests/data/make.py with PyTorch


def test_a_file_of_pytorch_gives_pytorchs_logits():
    recorded = np.load(TINY / "torch.npz")
    weights = checkpoint.read(TINY / "torch.pth")
    assert weights.dialect.name == "torchvision" and weights.stages == [[1, 8, 1], [1, 8, 2]]
    assert "tensors left out (num_batches_tracked)" in weights.describe()
    loaded = measuring.load_network(TINY / "torch.pth")
    agree(loaded.network(ms.Tensor(recorded["images"])).asnumpy(), recorded["logits"])
