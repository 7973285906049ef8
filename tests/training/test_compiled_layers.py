"""The compiled layers: MindSpore's values, gradients and statistics; and training where they cannot be compiled."""

import itertools
import json
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
import task_networks
from helpers import PROJECT, log, manifest, newest, process
from mindspore import nn, ops
from trainings import compiled

from mslab import checkpoint, cpu_layout, model
from mslab.evaluation import measuring, models, task_models
from mslab.runtime import compiled_layers, compiling, devices
from mslab.training import freezing

REAL = shutil.which("cc")
GOOD = f'PATH={os.environ["PATH"]} exec {REAL} "$@"'  # a line of sh
with_compiler = pytest.mark.skipif(not REAL, reason="there is no C compiler")
SHAPES = [(4, 3, 5, 7), (2, 24, 4, 64), (9, 1, 1, 1), (1, 5, 3, 3), (3, 33, 17, 17), (2, 256, 2, 16), (8, 7, 64, 64)]


@pytest.fixture(autouse=True)
def start():
    devices.start("cpu", "graph", 1)


def norm_of(channels, rng, **settings):
    norm = nn.BatchNorm2d(channels, **settings)
    for parameter in norm.get_parameters():
        low = 0.5 if parameter.name.endswith(("gamma", "variance")) else -1
        parameter.set_data(ms.Tensor(rng.uniform(low, 2, channels), ms.float32))
    return norm


def expected_of(x, dy, norm, training):
    """In float64: y, dx, dgamma, dbeta, running mean and variance, (N, C, H, W) and (C,)."""
    x, dy = x.astype(np.float64), dy.astype(np.float64)
    over, count = (0, 2, 3), x.size // x.shape[1]
    gamma, beta, mean, variance = (
        parameter.asnumpy().astype(np.float64)
        for parameter in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
    )
    scale = gamma[:, None, None]
    if not training:
        deviation = np.sqrt(variance + norm.eps)[:, None, None]
        normal = (x - mean[:, None, None]) / deviation
        y, sums = normal * scale + beta[:, None, None], [(dy * normal).sum(over), dy.sum(over)]
        return [y, dy * scale / deviation, *sums, mean, variance]
    centred = x - x.mean(over, keepdims=True)
    deviation = np.sqrt(x.var(over, keepdims=True) + norm.eps)
    normal = centred / deviation
    dgamma, dbeta = (dy * normal).sum(over), dy.sum(over)
    dx = scale / deviation * (dy - dbeta[:, None, None] / count - normal * dgamma[:, None, None] / count)
    unbiased = x.var(over) * count / max(count - 1, 1)
    running = [old + norm.momentum * (new - old) for old, new in ((mean, x.mean(over)), (variance, unbiased))]
    return [normal * scale + beta[:, None, None], dx, dgamma, dbeta, *running]


class Inner(nn.Cell):
    """A layer's gradients for given gradients of its output."""

    def __init__(self, norm):
        super().__init__(auto_prefix=False)
        self.norm = norm

    def construct(self, x, dy):
        return (self.norm(x) * dy).sum()


@with_compiler
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_values_gradients_and_statistics_are_right(shape, training):
    rng = np.random.default_rng(0)
    x, dy = rng.normal(3, 2, shape).astype(np.float32), rng.normal(size=shape).astype(np.float32)
    plain = norm_of(shape[1], rng, eps=1e-3, momentum=0.7)
    expected = expected_of(x, dy, plain, training)
    compiled = compiled_layers.CompiledBatchNorm(plain, compiling.library().file)
    y = compiled.set_train(training)(ms.Tensor(x)).asnumpy()
    running = [plain.moving_mean.asnumpy().copy(), plain.moving_variance.asnumpy().copy()]  # before the next call
    weights = ms.ParameterTuple([plain.gamma, plain.beta])
    dx, (dgamma, dbeta) = ms.grad(Inner(compiled), 0, weights)(ms.Tensor(x), ms.Tensor(dy))
    found = [y, dx.asnumpy(), dgamma.asnumpy(), dbeta.asnumpy(), *running]
    for name, ours, right in zip(("y", "dx", "dgamma", "dbeta", "mean", "variance"), found, expected, strict=True):
        size = max(1, np.abs(right).max())
        np.testing.assert_allclose(ours / size, right / size, atol=3e-6, err_msg=name)


def call_apart(file, *words):
    """A hash of the results of a process that calls the library's own functions."""
    job = [sys.executable, PROJECT / "tests" / "support" / "compiled_calls.py", file, *words]
    done = subprocess.run(job, capture_output=True, text=True, timeout=120)
    assert not done.returncode, done.stderr
    return done.stdout


@with_compiler
def test_any_number_of_threads_gives_the_same_bits():
    assert len({call_apart(compiling.library().file, threads) for threads in ("1", "2", "5", "40")}) == 1


@with_compiler
def test_a_forked_process_computes_without_the_parents_threads():
    file = compiling.library().file
    assert call_apart(file, "3", "fork") == call_apart(file, "3")


@with_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="these are its instruction sets")
def test_every_instruction_set_gives_the_same_bits(tmp_path):
    hashes = {call_apart(compiling.library().file, "2")}
    for number, flags in enumerate(["-DONE_CPU", "-DONE_CPU -mavx2 -mfma", "-DONE_CPU -march=native"]):
        file = tmp_path / f"{number}.so"
        assert not compiling.compile_file([*compiling.compiler(), *flags.split()], compiling.SOURCE, file)
        hashes.add(call_apart(file, "2"))
    assert len(hashes) == 1


@with_compiler
def test_not_a_number_stays_in_its_channel():
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 4)).astype(np.float32)
    x[1, 1, 2, 2] = np.nan
    norm = nn.BatchNorm2d(3)
    y = compiled_layers.CompiledBatchNorm(norm, compiling.library().file).set_train()(ms.Tensor(x)).asnumpy()
    assert np.isnan(y).any((0, 2, 3)).tolist() == [False, True, False] and np.isnan(y[:, 1]).all()
    assert np.isnan(norm.moving_mean.asnumpy()).tolist() == [False, True, False]


class Reading(nn.Cell):
    """The running mean before and after a BatchNorm in one graph, as an average of the weights reads it."""

    def __init__(self, norm):
        super().__init__()
        self.norm = norm

    def construct(self, x):
        mean = self.norm.norm.moving_mean
        before = mean * 1.0
        y = self.norm(x)
        return before, mean * 1.0, y


@with_compiler
def test_operators_before_and_after_it_read_the_statistics_of_their_moment():
    norm = compiled_layers.CompiledBatchNorm(nn.BatchNorm2d(3), compiling.library().file)
    before, after, _ = Reading(norm).set_train()(ms.Tensor(np.ones((2, 3, 4, 4)), ms.float32))
    assert before.asnumpy().tolist() == [0, 0, 0] and np.allclose(after.asnumpy(), 0.1)


class Two(nn.Cell):
    def __init__(self):
        super().__init__()
        self.backbone = nn.SequentialCell(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.SequentialCell(nn.BatchNorm2d(4), nn.BatchNorm2d(4, use_batch_statistics=False))

    def construct(self, x):
        return self.head(self.backbone(x))


@with_compiler
def test_names_evaluation_and_frozen_layers_are_as_before():
    plain, network = Two(), Two()  # a network that was called keeps its graph
    for old, new in zip(plain.get_parameters(), network.get_parameters(), strict=True):
        new.set_data(ms.Tensor(old.asnumpy()))
    names = [parameter.name for parameter in network.get_parameters()]
    x = ms.Tensor(np.random.default_rng(0).normal(2, 3, (4, 3, 8, 8)), ms.float32)
    before = plain.set_train(False)(x).asnumpy()
    assert compiled_layers.replace_layers(network).file
    assert [parameter.name for parameter in network.get_parameters()] == names
    np.testing.assert_allclose(network.set_train(False)(x).asnumpy(), before, atol=1e-5)
    kinds = [type(cell).__name__ for cell in (network.backbone[1], network.head[0], network.head[1])]
    assert kinds == ["CompiledBatchNorm", "CompiledBatchNorm", "BatchNorm2d"]  # the last never takes the batch's
    freezing.apply(network, frozenset(name for name in names if name.startswith("backbone")))
    network(x)
    means = {name: parameter.asnumpy() for name, parameter in network.parameters_dict().items() if "mean" in name}
    moved = {name: bool(np.abs(mean).max() > 0) for name, mean in means.items()}
    assert moved == {"backbone.1.moving_mean": False, "head.0.moving_mean": True, "head.1.moving_mean": False}


# --- blocks ---


class Edited(model.Bottleneck):
    def construct(self, x):
        short = x if self.down_sample is None else self.down_sample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = ops.gelu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + short)


class Before(model.Bottleneck):
    """ReLU before the sum."""

    def construct(self, x):
        short = x if self.down_sample is None else self.down_sample(x)
        x = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        return self.relu(self.bn3(self.conv3(x))) + short


class Dropping(model.Bottleneck):
    """Other values in training."""

    def construct(self, x):
        short = x if self.down_sample is None else self.down_sample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        if self.training:
            x = ops.dropout(x)
        return self.relu(self.bn3(self.conv3(x)) + short)


class Extended(model.Bottleneck):
    """One more layer, if there is one."""

    def __init__(self, channels, width, stride, profile):
        super().__init__(channels, width, stride, profile)
        self.more = nn.Conv2d(4 * width, 4 * width, 1)

    def construct(self, x):
        short = x if self.down_sample is None else self.down_sample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(x)))))
        return self.relu((self.more(x) if hasattr(self, "more") else x) + short)


class Scaled(model.Bottleneck):
    """With a default where an attribute is missing."""

    def __init__(self, channels, width, stride, profile):
        super().__init__(channels, width, stride, profile)
        self.scale = 2.0

    def construct(self, x):
        short = x if self.down_sample is None else self.down_sample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.bn3(self.conv3(self.relu(self.bn2(self.conv2(x)))))
        return self.relu((x * self.scale if getattr(self, "scale", None) else x) + short)


class Unused(model.Bottleneck):
    """With a layer that a checkpoint has and nothing uses."""

    def __init__(self, channels, width, stride, profile):
        super().__init__(channels, width, stride, profile)
        self.extra = nn.Dense(3, 3)


class Turned(model.Bottleneck):
    """With its parameters in another order."""

    def __init__(self, channels, width, stride, profile):
        nn.Cell.__init__(self)
        self.down_sample = model.shortcut(channels, 4 * width, stride, profile)
        other = model.Bottleneck(channels, width, stride, profile)
        for name, cell in other.name_cells().items():
            if name != "down_sample":
                setattr(self, name, cell)


class Stopping(model.Bottleneck):
    """With a gradient of its own."""

    def bprop(self, x, out, dout):
        return (dout * 0,)


class Rewritten(model.Bottleneck):
    """The same in other words."""

    def construct(self, x):
        y = x
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2)):
            y = self.relu(norm(conv(y)))
        return self.relu(self.bn3(self.conv3(y)) + (self.down_sample(x) if self.down_sample else x))


def compiled_blocks(network):
    """How many blocks of the network, whose layers are compiled now, are compiled as a whole."""
    assert compiled_layers.replace_layers(network).file
    return sum(type(cell) is compiled_layers.CompiledBlock for _, cell in network.cells_and_names())


def small(block="bottleneck"):
    return model.resnet50_backbone([(2, 4, 1), (1, 8, 2)], {"block": block})


@with_compiler
@pytest.mark.parametrize("block", model.BLOCKS)
def test_a_compiled_block_has_the_bits_of_its_parts(block, monkeypatch):
    rng = np.random.default_rng(0)
    x = ms.Tensor(rng.normal(size=(4, 3, 32, 32)), ms.float32)
    backbones = [small(block), small(block)]
    for parameters in zip(*(backbone.get_parameters() for backbone in backbones), strict=True):
        low = 0.5 if parameters[0].name.endswith("variance") else -1
        value = rng.uniform(low, 1, parameters[0].shape)
        for parameter in parameters:  # each with memory of its own
            parameter.set_data(ms.Tensor(value, ms.float32))
    names = [parameter.name for parameter in backbones[0].get_parameters()]
    assert compiled_blocks(backbones[0]) == 3
    monkeypatch.setattr(compiled_layers, "is_block", lambda cell: False)
    assert compiled_blocks(backbones[1]) == 0
    results = []
    for backbone in backbones:
        assert [parameter.name for parameter in backbone.get_parameters()] == names
        found = [backbone.set_train()(x).asnumpy()]  # each call ends before the next one reads the statistics
        slopes = ms.Tensor(np.random.default_rng(1).normal(size=found[0].shape), ms.float32)
        dx, gradients = ms.grad(Inner(backbone), 0, backbone.trainable_params())(x, slopes)
        found += [gradient.asnumpy() for gradient in (dx, *gradients)]
        found += [parameter.asnumpy() for parameter in backbone.get_parameters() if "moving" in parameter.name]
        results.append([*found, backbone.set_train(False)(x).asnumpy()])
    for fused, apart in zip(*results, strict=True):
        assert np.abs(apart).max() > 0 and np.array_equal(fused, apart)


@with_compiler
def test_a_block_that_somebody_changed_computes_what_they_wrote(monkeypatch):
    for block in (Edited, Before, Dropping, Extended, Scaled, Unused, Turned, Stopping, Rewritten):
        monkeypatch.setitem(model.BLOCKS, "bottleneck", block)
        backbone = small()
        names = [parameter.name for parameter in backbone.get_parameters()]
        assert compiled_blocks(backbone) == (3 if block is Rewritten else 1 if block is Turned else 0), block
        assert [parameter.name for parameter in backbone.get_parameters()] == names
    monkeypatch.undo()
    backbone = small()
    backbone.layer1[0].relu, backbone.layer1[1].bn2 = nn.ReLU6(), nn.BatchNorm2d(4, use_batch_statistics=False)
    assert compiled_blocks(backbone) == 1


@with_compiler
def test_frozen_statistics_in_a_compiled_block_stay():
    network = model.ResNet50(small(), model.resnet50_head(2, 32))
    assert compiled_blocks(network) == 3
    freezing.apply(network, frozenset(name for name in network.parameters_dict() if name.startswith("layer1")))
    network(ms.Tensor(np.random.default_rng(0).normal(2, 3, (4, 3, 32, 32)), ms.float32))
    means = {name: parameter.asnumpy() for name, parameter in network.parameters_dict().items() if "mean" in name}
    moved = {name.split(".")[0] for name, mean in means.items() if np.abs(mean).max() > 0}
    assert moved == {"bn1", "layer2"}


# --- the max-pool ---

POOLED = [*itertools.product((1, 2, 3, 7, 12), repeat=2), (64, 33)]
PADDINGS = {"symmetric": cpu_layout.PaddedPool, "same": lambda: nn.MaxPool2d(3, 2, "same")}


def pooled(pool, x, dy=None):
    """A pool's outputs, and with dy its gradients."""
    x = ms.Tensor(x, ms.float32)
    return (pool(x) if dy is None else ms.grad(Inner(pool))(x, ms.Tensor(dy, ms.float32))).asnumpy()


@with_compiler
@pytest.mark.parametrize("padding", PADDINGS)
def test_the_pools_bits_are_those_of_mindspore(padding):
    plain = PADDINGS[padding]()
    compiled = compiled_layers.CompiledMaxPool(plain, compiling.library().file)
    rng = np.random.default_rng(0)
    for height, width in POOLED:
        x = rng.integers(-9, 0, (2, 3, height, width))  # many are equal, and a border of zeros would be larger
        dy = rng.normal(size=(2, 3, (height + 1) // 2, (width + 1) // 2))
        assert np.array_equal(pooled(compiled, x), pooled(plain, x)), (height, width)
        assert np.array_equal(pooled(compiled, x, dy), pooled(plain, x, dy)), (height, width)


@with_compiler
def test_not_a_number_stays_in_the_pools_windows():
    x = np.zeros((1, 1, 6, 6), np.float32)
    x[0, 0, 2, 2], x[0, 0, 2, 4] = np.nan, 5
    compiled = compiled_layers.CompiledMaxPool(cpu_layout.PaddedPool(), compiling.library().file)
    assert np.isnan(pooled(compiled, x)[0, 0]).tolist() == [[False] * 3, [False, True, False], [False] * 3]
    assert pooled(compiled, x)[0, 0, 1].tolist()[2] == 5


@with_compiler
def test_only_the_pools_with_these_windows_are_compiled():
    kept = [nn.MaxPool2d(2, 2), nn.MaxPool2d(3, 2), nn.MaxPool2d(3, 2, "pad", 1), nn.MaxPool2d(3, 2, "pad", 1, 2)]
    for pool in [*kept, *(make() for make in PADDINGS.values())]:
        network = nn.SequentialCell(pool)
        compiled_layers.replace_layers(network)
        assert (network[0] is pool) == (pool in kept)


# --- 1x1 convolutions ---

POINTWISE = [(2, 1024, 33, 4, 6), (1, 2048, 70, 1, 1), (3, 3072, 5, 2, 9)]  # images, channels, outputs, height, width


@with_compiler
@pytest.mark.parametrize("sizes", POINTWISE, ids=str)
def test_the_convolutions_values_and_gradients_are_those_of_mindspore(sizes):
    images, channels, outputs, height, width = sizes
    rng = np.random.default_rng(0)
    x = ms.Tensor(rng.normal(size=(images, channels, height, width)), ms.float32)
    dy = ms.Tensor(rng.normal(size=(images, outputs, height, width)), ms.float32)
    plain = nn.Conv2d(channels, outputs, 1, weight_init=ms.common.initializer.Normal(1))
    compiled = compiled_layers.CompiledPointwise(plain, compiling.library().file)
    results = []
    for layer in (plain, compiled):
        dx, (dw,) = ms.grad(Inner(layer), 0, layer.trainable_params())(x, dy)
        results.append([array.asnumpy() for array in (layer(x), dx, dw)])
    for ours, right in zip(results[1], results[0], strict=True):
        assert np.abs(right).max() > 3
        np.testing.assert_allclose(ours, right, rtol=1e-5, atol=1e-3)


@with_compiler
def test_only_convolutions_of_these_sizes_are_compiled():
    kept = [
        nn.Conv2d(1023, 8, 1),
        nn.Conv2d(1024, 8, 3),
        nn.Conv2d(1024, 8, 1, 2),
        nn.Conv2d(1024, 8, 1, has_bias=True),
        nn.Conv2d(1024, 8, 1, group=2),
        nn.Conv2d(1024, 8, 1, pad_mode="pad", padding=1),
        nn.Conv2d(1024, 8, 1, dtype=ms.float16),
    ]
    network = nn.SequentialCell(*kept, nn.Conv2d(1024, 8, 1))
    names = [parameter.name for parameter in network.get_parameters()]
    compiled_layers.replace_layers(network)
    assert list(network)[:-1] == kept and type(network[-1]) is compiled_layers.CompiledPointwise
    assert [parameter.name for parameter in network.get_parameters()] == names


class Centred(nn.Cell):
    """It reads the weights of its layers."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1024, 2, 1), nn.BatchNorm2d(2)

    def construct(self, x):
        x = self.norm(ops.conv2d(x, self.conv.weight - self.conv.weight.mean()))
        return x - self.norm.beta + self.norm.moving_mean.reshape(1, 2, 1, 1).abs() + self.norm.gamma.mean()


@with_compiler
def test_a_network_finds_the_weights_of_compiled_layers():
    network = Centred()
    compiled_layers.replace_layers(network)
    assert network.set_train()(ms.Tensor(np.ones((1, 1024, 2, 2)), ms.float32)).shape == (1, 2, 2, 2)


def test_layers_with_names_are_replaced():
    network = nn.SequentialCell(OrderedDict(norm0=nn.BatchNorm2d(3), relu0=nn.ReLU()))
    names = [parameter.name for parameter in network.get_parameters()]
    compiled_layers.replace_layers(network)
    assert [parameter.name for parameter in network.get_parameters()] == names
    assert type(network[0]) is compiled_layers.CompiledBatchNorm or not REAL


# --- where they cannot be compiled ---


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """An empty cache, and no compiled library known; returns the folder of commands on PATH."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("CC", raising=False)
    compiling.library.cache_clear()
    yield tmp_path / "bin"
    compiling.library.cache_clear()


def command(folder, name, text):
    """A program of this name, by a line of sh."""
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


@with_compiler
def test_without_a_compiler_the_message_says_what_to_install(machine):
    assert compiling.library() == (None, "there is no C compiler (cc, gcc, clang)", compiling.INSTALL)
    command(machine, "gcc", GOOD)  # what the fix says
    compiling.library.cache_clear()
    assert compiling.library().file.is_file()


@with_compiler
def test_a_compiler_that_fails_is_quoted_and_another_one_helps(machine, monkeypatch):
    command(machine, "cc", "echo 'fatal error: math.h: No such file or directory' >&2; exit 1")
    library = compiling.library()
    assert library == (None, "cc failed: fatal error: math.h: No such file or directory", "CC=COMPILER, another one")
    command(machine, "cc", "exit 0")  # makes nothing
    compiling.library.cache_clear()
    assert compiling.library().problem == "cc failed: exit code 0"
    assert not list((machine.parent / "cache" / "mslab" / "compiled").iterdir())
    command(machine, "other", GOOD)
    monkeypatch.setenv("CC", "other -O2")
    compiling.library.cache_clear()
    assert compiling.library().file.is_file()


def test_a_library_that_cannot_be_loaded_is_not_used(machine):
    command(machine, "cc", 'for last; do [ "$before" = -o ] && echo nonsense >"$last"; before=$last; done')
    folder = machine.parent / "cache" / "mslab" / "compiled"
    problem, fix = compiling.library()[1:]
    assert problem == f"a library in {folder} cannot be loaded"
    assert fix == "XDG_CACHE_HOME=FOLDER, one on a disk from which programs may run"


@with_compiler
def test_a_damaged_library_in_the_cache_is_made_anew(machine, monkeypatch):
    command(machine, "cc", GOOD)
    content = compiling.library().file.read_bytes()
    other = machine.parent / "other" / "mslab" / "compiled" / compiling.library().file.name
    other.parent.mkdir(parents=True)
    other.write_bytes(content[:1000])  # as after a crash
    monkeypatch.setenv("XDG_CACHE_HOME", str(machine.parent / "other"))
    compiling.library.cache_clear()
    assert compiling.library().file == other and len(other.read_bytes()) == len(content)


@with_compiler
def test_a_cache_that_cannot_be_written_to_is_named(machine, monkeypatch):
    command(machine, "cc", GOOD)
    (machine.parent / "cache").write_text("a file")
    problem, fix = compiling.library()[1:]
    assert problem == f"{machine.parent / 'cache' / 'mslab' / 'compiled'}: Not a directory"
    assert fix == "XDG_CACHE_HOME=FOLDER, one you can write to"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can run a program as another user")
def test_a_user_without_a_home_is_told_what_to_set(machine):
    with tempfile.TemporaryDirectory() as folder:  # which others may read, unlike pytest's
        Path(folder).chmod(0o755)
        source = shutil.copy(compiling.SOURCE, folder)
        code = "import os, sys; from pathlib import Path; from mslab.runtime import compiling; os.setuid(54321); "
        code += "print(*compiling.library(Path(sys.argv[1])), sep='|')"  # no line of /etc/passwd has this number
        environ = {name: text for name, text in os.environ.items() if name not in ("HOME", "XDG_CACHE_HOME")}
        job = [sys.executable, "-c", code, source]
        done = subprocess.run(job, capture_output=True, text=True, env=environ | {"PYTHONPATH": str(PROJECT)})
    assert done.stdout == f"None|this user has no home folder|{compiling.WRITABLE}\n", done.stderr


@pytest.mark.parametrize("variable,value", [("XDG_CACHE_HOME", "a:b"), ("MS_CUSTOM_AOT_WHITE_LIST", "/opt/operators")])
def test_a_place_that_mindspore_refuses_is_not_used(machine, monkeypatch, variable, value):
    monkeypatch.setenv(variable, value if value.startswith("/") else str(machine.parent / value))
    problem, fix = compiling.library()[1:]
    assert problem.startswith("MindSpore does not accept a library in ") and problem.endswith("/mslab/compiled")
    assert fix == "XDG_CACHE_HOME=FOLDER, one without a colon that MS_CUSTOM_AOT_WHITE_LIST allows"


def test_training_works_without_and_says_so(squares, inside):
    (inside / "run.yaml").write_text(json.dumps(compiled(squares)))
    environ = {"XDG_CACHE_HOME": "/dev/null/cache", "PATH": "/nowhere", "CC": ""}
    done = process("train", "run.yaml", "--no-report", env=environ)
    assert done.returncode == 0, done.stderr
    text = "note: training takes some 20 % longer with MindSpore's operators: there is no C compiler (cc, gcc, clang); "
    assert text + compiling.INSTALL in log(newest())
    assert manifest(newest())["environment"]["cpu"]["batch_norm"] == "mindspore"


@with_compiler
def test_training_takes_the_compiled_one_and_the_manifest_says_so(finished, squares):
    run = finished(compiled(squares)).run
    assert manifest(run)["environment"]["cpu"]["batch_norm"] == "compiled" and "BatchNorm" not in log(run)


@with_compiler
def test_evaluation_takes_the_compiled_one_too(finished, squares, monkeypatch, tmp_path):
    run, replaced, replace = finished(compiled(squares)).run, [], compiled_layers.replace_layers

    def replace_and_list(network):
        library = replace(network)
        cells = [cell for _, cell in network.cells_and_names()]
        norms = sum(isinstance(cell, nn.BatchNorm2d) for cell in cells)
        replaced.append(sum(isinstance(cell, compiled_layers.CompiledBatchNorm) for cell in cells) == norms > 0)
        return library

    monkeypatch.setattr(compiled_layers, "replace_layers", replace_and_list)
    models.open_weights(run, "cpu", engine="mindspore")
    task_models.open_task(checkpoint.read(task_networks.save("detect", tmp_path / "net.ckpt")))
    assert replaced == [True, True]
    again = measuring.evaluate(run, squares / "three" / "val", device="cpu")["loss"]
    assert again == pytest.approx(json.loads((Path(run) / "eval.json").read_text())["loss"], rel=1e-5)
    assert replaced == [True, True, True]
