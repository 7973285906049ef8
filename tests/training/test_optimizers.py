"""Optimizers compared with their published formulas in float64; clipping, accumulation and averages as well."""

import mindspore as ms
import numpy as np
import pytest
from formulas import (
    CONFIG,
    NAMES,
    RATES,
    SCALED,
    SHAPES,
    UPDATES,
    WRAPPED,
    Call,
    Weights,
    after,
    check_copied,
    check_formula,
    check_still,
    go,
    gradients,
    prepared,
    published,
    values,
)
from helpers import STAGES, resolved
from mindspore import nn
from mindspore._extends.parse import parser

from mslab import model
from mslab.checkpoint import dialects, selecting
from mslab.runtime import compiling, devices
from mslab.training import optimizers
from mslab.training.train_step import TrainStep


@pytest.fixture(autouse=True)
def start():
    devices.start("cpu", "pynative", 1)


@pytest.fixture
def graph():
    devices.start("cpu", "graph", 1)


@pytest.fixture(params=["graph", "pynative"])
def mode(request):
    devices.start("cpu", request.param, 1)


# --- the formulas ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", UPDATES, ids=str)
def test_updates_are_the_published_formula_with_decay_on_weights_only(options):
    check_formula(options)


SIZES = [*range(1, 20), 64, 100, 1000, 70_000, 200_000, 524_288]  # one thread, several, several blocks


class Sizes(nn.Cell):
    """Tensors of SIZES; the even ones are matrices, so that they decay. Every third is of the head."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        rng = np.random.default_rng(1)
        self.all = ms.ParameterTuple(
            ms.Parameter(
                ms.Tensor(rng.normal(size=(size // 2, 2) if size % 2 == 0 else size), ms.float32),
                f"{'backbone' if number % 3 else 'head'}.{number}.weight",
            )
            for number, size in enumerate(SIZES)
        )


compiled = pytest.mark.skipif(not compiling.library().file, reason="there is no C compiler")


@compiled
@pytest.mark.parametrize(
    "options",
    [
        {"optimizer": "momentum", "weight_decay": 0.01},
        {"optimizer": "sgd", "weight_decay": 0.01},
        {"optimizer": "adam", "weight_decay": 0.01},
        {"optimizer": "adam", "beta1": 0.0, "weight_decay": 0.0},
        {"optimizer": "momentum"} | SCALED,
        {"optimizer": "adam"} | SCALED,
    ],
    ids=str,
)
def test_one_pass_over_the_weights_gives_the_bits_of_mindspores_operators(options, graph, monkeypatch):
    rng, states = np.random.default_rng(2), []
    batches = [
        [rng.normal(0, 10.0**n, (size // 2, 2) if size % 2 == 0 else size) for size in SIZES] for n in (-3, 0, 1)
    ]
    for one_pass in (optimizers.one_pass, lambda trained: None):
        monkeypatch.setattr(optimizers, "one_pass", one_pass)
        optimizer = optimizers.build(Sizes(), RATES, resolved(**CONFIG | options))
        assert type(optimizer).__name__.startswith("OnePass") == (not states)
        for batch in batches:
            optimizer(tuple(ms.Tensor(gradient, ms.float32) for gradient in batch))
        states.append({parameter.name: parameter.asnumpy().copy() for parameter in optimizer.get_parameters()})
    first, second = states
    assert first.keys() == second.keys() and any("moment" in name for name in first)
    assert [name for name in first if not np.array_equal(first[name], second[name])] == []


@compiled
def test_one_pass_is_for_graphs_on_a_cpu_and_float32(graph):
    assert optimizers.one_pass(Weights())
    half = nn.Cell()
    half.weight = ms.Parameter(ms.Tensor([1.0], ms.float16), "head.weight")
    assert not optimizers.one_pass(half)
    devices.start("cpu", "pynative", 1)
    assert not optimizers.one_pass(Weights())


@pytest.mark.parametrize("name", ["momentum", "adam", "adamw", "radam", "lamb"])  # two in one pass, and mslab's own
def test_updates_are_the_published_formula_in_a_graph_too(name, graph):
    check_formula({"optimizer": name} | SCALED)


@pytest.mark.parametrize("scale", [{}, {"backbone": 0.1}], ids=["alike", "scaled"])
@pytest.mark.parametrize("name", ["momentum", "adam", "adamw", "radam", "lamb"])
def test_a_graph_has_no_sums_of_tuples_for_the_rates(name, scale, graph, monkeypatch):
    parsed, parse = [], parser.Parser.parse

    def parse_and_list(self):
        parsed.append(getattr(self.fn, "__name__", ""))
        return parse(self)

    monkeypatch.setattr(parser.Parser, "parse", parse_and_list)
    optimizer = optimizers.build(Sizes(), RATES, resolved(**CONFIG | {"optimizer": name, "lr_scale": scale}))
    optimizer(tuple(ms.Tensor(np.zeros(parameter.shape), ms.float32) for parameter in optimizer.parameters))
    assert "construct" in parsed and parsed.count("_add_tuple") < 5  # a sum for each of 25 weights takes long


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_get_no_gradient_move_by_decay_alone(name):
    check_still(name)


@pytest.mark.parametrize("name", ["momentum", "adam"])
@pytest.mark.parametrize("scale", [{}, {"backbone": 0.1}], ids=["alike", "scaled"])
def test_momentum_and_adam_are_mindspores_to_the_last_bit(name, scale):
    options = {"optimizer": name, "weight_decay": 0.01, "lr_scale": scale}
    weights = Weights()
    rows = [
        {"params": [weights.all[0]], "weight_decay": 0.01},
        {"params": [weights.all[1]], "weight_decay": 0.0},
        {"params": [weights.all[2]], "weight_decay": 0.01},
        {"params": [weights.all[3]], "weight_decay": 0.0},
    ]
    if scale:
        for row, factor in zip(rows, (0.1, 0.1, 1.0, 1.0), strict=True):
            row["lr"] = (RATES * factor).tolist()
    rows.append({"order_params": list(weights.all)})
    theirs = nn.Adam(rows, RATES.tolist()) if name == "adam" else nn.Momentum(rows, RATES.tolist(), momentum=0.9)
    go(Call(theirs), gradients(8))
    for actual, expected in zip(after(gradients(8), **options), values(weights), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_plain_mindspore_ignores_nesterov_and_begins_rmsprop_at_one():
    """Why optimizers.py does not use MindSpore's own. If this fails, MindSpore has changed."""
    actual = []
    for nesterov in (False, True):
        weights = Weights()
        go(Call(nn.Momentum(list(weights.all), 0.1, 0.9, use_nesterov=nesterov)), gradients(3))
        actual.append(values(weights)[0])
    np.testing.assert_array_equal(*actual)
    assert nn.RMSProp(list(Weights().all)).ms[0].asnumpy().all()
    with pytest.raises((RuntimeError, TypeError, ValueError)):
        go(Call(nn.Lamb(list(Weights().all), 0.1)), gradients(1))


ADAMS = ("adam", "adamw", "radam", "lamb")


@pytest.mark.parametrize(
    "name,setting",
    [
        *((name, {"beta1": 0.8}) for name in ADAMS),
        *((name, {"beta2": 0.9}) for name in ADAMS),
        ("adam", {"amsgrad": True}),
        ("adamw", {"amsgrad": True}),
        ("momentum", {"momentum": 0.8}),
        ("momentum", {"nesterov": True}),
        ("momentum", {"clip_grad_norm": 0.1}),
        ("momentum", {"grad_accumulation_step": 2}),
    ],
    ids=str,
)
def test_no_setting_is_ignored(name, setting):
    batches = [[g / number for g in batch] for number, batch in enumerate(gradients(8), start=1)]
    options = {"optimizer": name, "beta2": 0.5}  # so that the mean square falls with the gradients: amsgrad shows
    assert np.abs(after(batches, **options | setting)[0] - published(batches, **options)[0]).max() > 1e-3


# --- wrappers of an optimizer ----------------------------------------------------------------------------------------


def test_without_settings_it_is_the_optimizer_itself():
    weights = Weights()
    optimizer = optimizers.build(weights, RATES, resolved(**CONFIG))
    assert optimizers.build_update(optimizer, resolved(**CONFIG), list(weights.all)) == (optimizer, None)


def test_gradients_are_clipped_together(mode):
    batch = gradients(1)[0]
    length = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in batch))
    for norm, scale in [(0.5, 0.5 / length), (2 * length, 1.0)]:
        actual = after([batch], optimizer="sgd", clip_grad_norm=float(norm))
        for new, start, g in zip(actual, values(Weights()), batch, strict=True):
            np.testing.assert_allclose(new, start - RATES[0] * scale * g, rtol=1e-5, atol=1e-6)


def test_clipping_leaves_gradients_of_zero_at_zero():
    still = [[np.zeros(shape, np.float32) for shape in SHAPES.values()]]
    for new, start in zip(after(still, clip_grad_norm=1.0), values(Weights()), strict=True):
        np.testing.assert_array_equal(new, start)


def test_a_gradient_that_is_not_finite_is_not_hidden_by_clipping():
    batch = gradients(1)[0]
    batch[1][0] = np.inf
    assert not np.isfinite(after([batch], clip_grad_norm=1.0)[1]).all()


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_batches_collected_are_one_update_with_their_mean(name, mode):
    batches = gradients(6)
    means = [[np.mean(parts, axis=0) for parts in zip(*batches[i : i + 3], strict=True)] for i in (0, 3)]
    weights, call, _ = prepared(optimizer=name, grad_accumulation_step=3)
    go(call, batches[:2])
    for new, start in zip(values(weights), values(Weights()), strict=True):
        np.testing.assert_array_equal(new, start)  # nothing happens before the third
    go(call, batches[2:])
    for new, expected in zip(values(weights), after(means, optimizer=name), strict=True):
        np.testing.assert_allclose(new, expected, rtol=1e-5, atol=1e-6)
    state = call.parameters_dict()
    assert state["global_step"].asnumpy().item() == 2 and state["accumulated_batches"].asnumpy().item() == 0
    assert not state["accumulated.conv1.weight"].asnumpy().any()


def test_what_is_clipped_is_the_mean_of_the_batches():
    batches = gradients(2)
    mean = [(first + second) / 2 for first, second in zip(*batches, strict=True)]
    actual = after(batches, clip_grad_norm=0.3, grad_accumulation_step=2)
    for new, expected in zip(actual, after([mean], clip_grad_norm=0.3), strict=True):
        np.testing.assert_allclose(new, expected, rtol=1e-5, atol=1e-6)


def test_averages_follow_the_weights_once_an_update(mode):
    weights, call, averages = prepared(ema_decay=0.3, grad_accumulation_step=2)
    expected = dict(zip(SHAPES, values(weights), strict=True))
    for t, start in enumerate(range(0, 8, 2), start=1):
        go(call, gradients(8)[start : start + 2])
        decay = min(0.3, (1 + t) / (10 + t))  # 2/11, 3/12, 4/13, 0.3
        for name, value in zip(SHAPES, values(weights), strict=True):
            expected[name] = decay * expected[name] + (1 - decay) * value
    assert list(averages.averages()) == list(SHAPES)
    for name, mean in averages.averages().items():
        assert mean.name == f"ema.{name}"
        np.testing.assert_allclose(mean.asnumpy(), expected[name], rtol=1e-5, atol=1e-6)


def test_averages_of_batchnorms_statistics_are_of_the_step_just_done(mode):
    network = nn.SequentialCell(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dense(64, 2))
    rng = np.random.default_rng(3)
    for parameter in network.trainable_params():
        parameter.set_data(ms.Tensor(rng.standard_normal(parameter.shape).astype(np.float32)))
    network.set_train()
    config, parameters = resolved(**CONFIG | {"ema_decay": 0.9}), list(network.get_parameters())
    optimizer = optimizers.build(network, RATES, config)
    update, averages = optimizers.build_update(optimizer, config, parameters)
    step = TrainStep(network, nn.CrossEntropyLoss(), optimizer, update=update)
    expected = {parameter.name: parameter.asnumpy().copy() for parameter in parameters}
    for t in range(1, 4):
        images, labels = rng.standard_normal((8, 3, 4, 4)).astype(np.float32), rng.integers(0, 2, 8).astype(np.int32)
        before = {parameter.name: parameter.asnumpy().copy() for parameter in parameters}
        step(ms.Tensor(images), ms.Tensor(labels))
        decay = (1 + t) / (10 + t)
        for parameter in parameters:
            assert not np.allclose(parameter.asnumpy(), before[parameter.name], rtol=1e-4, atol=1e-5), parameter.name
            expected[parameter.name] = decay * expected[parameter.name] + (1 - decay) * parameter.asnumpy()
    for name, mean in averages.averages().items():
        np.testing.assert_allclose(mean.asnumpy(), expected[name], rtol=1e-5, atol=1e-6)


# --- state between updates -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [*({"optimizer": name} for name in NAMES), WRAPPED], ids=str)
def test_state_copied_into_a_fresh_optimizer_continues_as_if_never_stopped(options):
    check_copied(options)


def test_state_copied_continues_in_a_graph_too(graph):
    check_copied(WRAPPED)


@pytest.mark.parametrize("name", NAMES)
def test_an_optimizers_tensors_are_distinguished_from_a_networks(name):
    """In files of older versions and of MindSpore itself, they have no prefix of their own."""
    network = model.ResNet50(model.resnet50_backbone(STAGES), model.resnet50_head(3, 32))
    own = {parameter.name for parameter in network.get_parameters()}
    options = {"optimizer": name, "amsgrad": True, "lr_scale": {"backbone": 0.1}}
    config = resolved(**CONFIG | WRAPPED | options)
    optimizer = optimizers.build(network, RATES, config)
    update, _ = optimizers.build_update(optimizer, config, list(network.get_parameters()))
    state_names = {parameter.name for parameter in update.get_parameters()} - own
    assert {"ema_updates", "accumulated_batches", "ema.conv1.weight", "accumulated.conv1.weight"} <= state_names
    tensors = {p.name: p.asnumpy() for p in [*network.get_parameters(), *update.get_parameters()]}
    selected = selecting.select(tensors, dialects.DIALECTS[-1])
    assert set(selected.tensors) == own and set(tensors) == own | state_names
    assert own == {parameter.name for parameter in network.get_parameters()}  # none was renamed
