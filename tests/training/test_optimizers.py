"""Optimizers beside their published formulas, written here in float64; clipping, accumulation and averages as well."""

import mindspore as ms
import numpy as np
import pytest
from helpers import STAGES
from mindspore import nn

from mslab import model, optimizers
from mslab.checkpoint.dialects import COUNTERS, SLOTS
from mslab.steps import TrainStep

CONFIG = {
    "optimizer": "momentum",
    "momentum": 0.9,
    "nesterov": False,
    "beta1": 0.9,
    "beta2": 0.999,
    "amsgrad": False,
    "weight_decay": 0.0,
    "lr_scale": {},
    "clip_grad_norm": 0.0,
    "grad_accumulation_step": 1,
    "ema_decay": 0.0,
}
NAMES = ["sgd", "momentum", "adam", "adamw", "radam", "rmsprop", "adadelta", "lamb"]
RATES = np.array([0.1, 0.05, 0.08, 0.02, 0.01, 0.03, 0.1, 0.06], np.float32)  # RAdam turns adaptive at the sixth
SHAPES = {"conv1.weight": (2, 3), "bn1.gamma": (3,), "classifier.weight": (3, 2), "classifier.bias": (2,)}


def in_mode(mode):
    before = ms.get_context("mode")
    ms.set_context(mode=mode)
    yield
    ms.set_context(mode=before)


@pytest.fixture
def graph():
    yield from in_mode(ms.GRAPH_MODE)


@pytest.fixture
def pynative():
    yield from in_mode(ms.PYNATIVE_MODE)


@pytest.fixture(params=[ms.GRAPH_MODE, ms.PYNATIVE_MODE], ids=["graph", "pynative"])
def mode(request):
    yield from in_mode(request.param)


class Weights(nn.Cell):
    """Four tensors with names of a network's; the bias begins at 0."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        rng = np.random.default_rng(1)
        values = {name: rng.standard_normal(shape) * (name != "classifier.bias") for name, shape in SHAPES.items()}
        self.all = ms.ParameterTuple(
            ms.Parameter(ms.Tensor(value.astype(np.float32)), name) for name, value in values.items()
        )


class Call(nn.Cell):
    """What MindSpore compiles: an update, called with gradients."""

    def __init__(self, update):
        super().__init__(auto_prefix=False)
        self.update = update

    def construct(self, *gradients):
        self.update(gradients)
        return True


def prepared(rates=RATES, averaged=(), **asked):
    """Fresh weights, and the compiled update of them."""
    config, weights = CONFIG | asked, Weights()
    update, averages = optimizers.build_update(
        optimizers.build(weights, rates, config), config, list(averaged) or list(weights.all)
    )
    return weights, Call(update), averages


def gradients(count, seed=2):
    rng = np.random.default_rng(seed)
    return [[rng.standard_normal(shape).astype(np.float32) for shape in SHAPES.values()] for _ in range(count)]


def values(weights):
    return [parameter.asnumpy().copy() for parameter in weights.all]


def go(call, batches):
    for batch in batches:
        call(*map(ms.Tensor, batch))


def after(batches, **asked):
    """The weights after these batches."""
    weights, call, _ = prepared(**asked)
    go(call, batches)
    return values(weights)


# --- the formulas ----------------------------------------------------------------------------------------------------


def published(batches, rates=RATES, **asked):
    """The weights by PyTorch's documented algorithms (lamb: apex's, rmsprop: SageMaker's), in float64."""
    c, found = CONFIG | asked, []
    for index, (name, start) in enumerate(zip(SHAPES, values(Weights()), strict=True)):
        part = "head" if name.startswith("classifier") else "backbone"
        decay = c["weight_decay"] if start.ndim > 1 else 0.0
        w, m, v, top = start.astype(np.float64), 0.0, 0.0, 0.0
        for t, (batch, rate) in enumerate(zip(batches, rates, strict=False), start=1):
            g, rate = batch[index].astype(np.float64), float(rate) * c["lr_scale"].get(part, 1.0)
            if c["optimizer"] == "adamw":
                w = w - rate * decay * w
            elif c["optimizer"] != "lamb":
                g = g + decay * w
            w, m, v, top = STEPS[c["optimizer"]](w, g, m, v, top, t, rate, decay, c)
        found.append(w)
    return found


def sgd(w, g, m, v, top, t, rate, decay, c):
    return w - rate * g, m, v, top


def momentum(w, g, m, v, top, t, rate, decay, c):
    m = c["momentum"] * m + g
    return w - rate * (g + c["momentum"] * m if c["nesterov"] else m), m, v, top


def adam(w, g, m, v, top, t, rate, decay, c):
    m = c["beta1"] * m + (1 - c["beta1"]) * g
    v = c["beta2"] * v + (1 - c["beta2"]) * g**2
    top = np.maximum(top, v)
    root = np.sqrt((top if c["amsgrad"] else v) / (1 - c["beta2"] ** t))
    return w - rate * m / (1 - c["beta1"] ** t) / (root + 1e-8), m, v, top


def radam(w, g, m, v, top, t, rate, decay, c):
    m = c["beta1"] * m + (1 - c["beta1"]) * g
    v = c["beta2"] * v + (1 - c["beta2"]) * g**2
    mean, correction = m / (1 - c["beta1"] ** t), 1 - c["beta2"] ** t
    most = 2 / (1 - c["beta2"]) - 1
    rho = most - 2 * t * c["beta2"] ** t / correction
    if rho > 5:
        r = np.sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
        return w - rate * mean * r * np.sqrt(correction) / (np.sqrt(v) + 1e-8), m, v, top
    return w - rate * mean, m, v, top


def rmsprop(w, g, m, v, top, t, rate, decay, c):
    v = 0.9 * v + 0.1 * g**2
    return w - rate * g / np.sqrt(v + 1e-8), m, v, top


def adadelta(w, g, m, v, top, t, rate, decay, c):
    v = 0.9 * v + 0.1 * g**2
    change = np.sqrt(m + 1e-6) / np.sqrt(v + 1e-6) * g
    return w - rate * change, 0.9 * m + 0.1 * change**2, v, top


def lamb(w, g, m, v, top, t, rate, decay, c):
    m = c["beta1"] * m + (1 - c["beta1"]) * g
    v = c["beta2"] * v + (1 - c["beta2"]) * g**2
    change = m / (1 - c["beta1"] ** t) / (np.sqrt(v / (1 - c["beta2"] ** t)) + 1e-6) + decay * w
    size, length = np.linalg.norm(w), np.linalg.norm(change)
    ratio = size / length if w.ndim > 1 and size > 0 and length > 0 else 1.0
    return w - rate * ratio * change, m, v, top


STEPS = {
    "sgd": sgd,
    "momentum": momentum,
    "adam": adam,
    "adamw": adam,
    "radam": radam,
    "rmsprop": rmsprop,
    "adadelta": adadelta,
    "lamb": lamb,
}
DECAY, BETAS = {"weight_decay": 0.1}, {"beta1": 0.5, "beta2": 0.9}
SCALED = {"lr_scale": {"backbone": 0.1, "head": 2.0}} | DECAY
ASKED = [
    *({"optimizer": name} | SCALED for name in NAMES),
    {"optimizer": "momentum", "nesterov": True} | SCALED,
    {"optimizer": "momentum", "nesterov": True, "momentum": 0.0},
    {"optimizer": "adam", "amsgrad": True, "beta2": 0.3},
    {"optimizer": "adam", "beta1": 0.0} | DECAY,
    {"optimizer": "adamw", "amsgrad": True, "beta2": 0.3} | DECAY,
    {"optimizer": "radam", "beta1": 0.0, "beta2": 0.0},
    *({"optimizer": name} | BETAS | DECAY for name in ("adam", "radam", "lamb")),
]


def check_formula(asked):
    weights, call, _ = prepared(**asked)
    batches = gradients(len(RATES))
    for start, end in [(0, 3), (3, len(RATES))]:
        go(call, batches[start:end])
        for found, expected in zip(values(weights), published(batches[:end], **asked), strict=True):
            np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_updates_are_the_published_formula_with_decay_on_weights_only(asked, graph):
    check_formula(asked)


@pytest.mark.parametrize("asked", [{"optimizer": name} | SCALED for name in ("adamw", "radam", "lamb")], ids=str)
def test_the_kits_own_optimizers_are_the_formula_line_by_line_too(asked, pynative):
    check_formula(asked)


@pytest.mark.parametrize("name", NAMES)
def test_weights_that_get_no_gradient_move_by_decay_alone(name, graph):
    still = [[np.zeros(shape, np.float32) for shape in SHAPES.values()]] * 2
    for found, start in zip(after(still, optimizer=name, weight_decay=0.1), values(Weights()), strict=True):
        assert np.isfinite(found).all() and np.array_equal(found, start) == (start.ndim == 1)


@pytest.mark.parametrize("name", ["momentum", "adam"])
@pytest.mark.parametrize("scale", [{}, {"backbone": 0.1}], ids=["alike", "scaled"])
def test_momentum_and_adam_are_mindspores_to_the_last_bit(name, scale, graph):
    asked = {"optimizer": name, "weight_decay": 0.01, "lr_scale": scale}
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
    for found, expected in zip(after(gradients(8), **asked), values(weights), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_plain_mindspore_ignores_nesterov_and_begins_rmsprop_at_one(graph):
    """Why optimizers.py does not take what has the name. Where this fails, MindSpore has changed."""
    found = []
    for nesterov in (False, True):
        weights = Weights()
        go(Call(nn.Momentum(list(weights.all), 0.1, 0.9, use_nesterov=nesterov)), gradients(3))
        found.append(values(weights)[0])
    np.testing.assert_array_equal(*found)
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
def test_no_setting_is_ignored(name, setting, graph):
    batches = [[g / number for g in batch] for number, batch in enumerate(gradients(8), start=1)]
    asked = {"optimizer": name, "beta2": 0.5}  # so that the mean square falls with the gradients: amsgrad shows
    assert np.abs(after(batches, **asked | setting)[0] - published(batches, **asked)[0]).max() > 1e-3


# --- what stands before an optimizer ---------------------------------------------------------------------------------


def test_nothing_asked_is_the_optimizer_itself():
    weights = Weights()
    optimizer = optimizers.build(weights, RATES, CONFIG)
    assert optimizers.build_update(optimizer, CONFIG, list(weights.all)) == (optimizer, None)


def test_gradients_are_clipped_together(mode):
    batch = gradients(1)[0]
    length = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in batch))
    for norm, scale in [(0.5, 0.5 / length), (2 * length, 1.0)]:
        found = after([batch], optimizer="sgd", clip_grad_norm=float(norm))
        for new, start, g in zip(found, values(Weights()), batch, strict=True):
            np.testing.assert_allclose(new, start - RATES[0] * scale * g, rtol=1e-5, atol=1e-6)


def test_clipping_leaves_gradients_of_zero_at_zero(graph):
    still = [[np.zeros(shape, np.float32) for shape in SHAPES.values()]]
    for new, start in zip(after(still, clip_grad_norm=1.0), values(Weights()), strict=True):
        np.testing.assert_array_equal(new, start)


def test_a_gradient_that_is_not_finite_is_not_hidden_by_clipping(graph):
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


def test_what_is_clipped_is_the_mean_of_the_batches(graph):
    batches = gradients(2)
    mean = [(one + two) / 2 for one, two in zip(*batches, strict=True)]
    found = after(batches, clip_grad_norm=0.3, grad_accumulation_step=2)
    for new, expected in zip(found, after([mean], clip_grad_norm=0.3), strict=True):
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
    config, parameters = CONFIG | {"ema_decay": 0.9}, list(network.get_parameters())
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


# --- what is kept between updates ------------------------------------------------------------------------------------


WRAPPED = {"clip_grad_norm": 3.0, "grad_accumulation_step": 2, "ema_decay": 0.9}


@pytest.mark.parametrize("asked", [*({"optimizer": name} for name in NAMES), WRAPPED], ids=str)
def test_state_copied_into_a_fresh_optimizer_goes_on_as_if_never_stopped(asked, graph):
    asked = asked | {"amsgrad": asked.get("optimizer") in ("adam", "adamw"), "weight_decay": 0.1}
    batches = gradients(8)
    weights, call, averages = prepared(**asked)
    resumed, again, its_averages = prepared(**asked)
    go(call, batches[:5])  # in the middle of two that are collected
    state = again.parameters_dict()
    for key, parameter in call.parameters_dict().items():
        state[key].set_data(ms.Tensor(parameter.asnumpy()))
    go(call, batches[5:])
    go(again, batches[5:])
    for one, other in zip(values(weights), values(resumed), strict=True):
        np.testing.assert_array_equal(one, other)
    for key, mean in (averages.averages() if averages else {}).items():
        np.testing.assert_array_equal(mean.asnumpy(), its_averages.averages()[key].asnumpy())


def is_known(name):
    return name in COUNTERS or name.startswith((*SLOTS, "learning_rate"))


@pytest.mark.parametrize("name", NAMES)
def test_what_an_optimizer_keeps_is_told_from_a_network_by_name(name):
    network = model.ResNet50(model.resnet50_backbone(STAGES), model.resnet50_head(3, 32))
    own = {parameter.name for parameter in network.get_parameters()}
    config = CONFIG | WRAPPED | {"optimizer": name, "amsgrad": True, "lr_scale": {"backbone": 0.1}}
    optimizer = optimizers.build(network, RATES, config)
    update, _ = optimizers.build_update(optimizer, config, list(network.get_parameters()))
    kept = {parameter.name for parameter in update.get_parameters()} - own
    assert {"ema_updates", "accumulated_batches", "ema.conv1.weight", "accumulated.conv1.weight"} <= kept
    assert {parameter for parameter in kept if not is_known(parameter)} == set()
    assert not any(is_known(parameter) for parameter in own)
    assert own == {parameter.name for parameter in network.get_parameters()}  # none was renamed
