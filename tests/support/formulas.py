"""Losses and optimizers compared with their published formulas, in float64."""

import mindspore as ms
import numpy as np
from helpers import resolved
from mindspore import nn

from mslab.training import losses, optimizers

# --- losses ----------------------------------------------------------------------------------------------------------

OFF = {
    "label_smoothing": 0.0,
    "weighted_loss": 0,
    "focal_gamma": 0.0,
    "ohem_top_ratio": 1.0,
    "mixup_alpha": 0.0,
    "cutmix_alpha": 0.0,
}
COUNTS = np.array([40, 5, 15])
LOGITS = np.random.default_rng(1).standard_normal((7, 3)) * 2
LABELS = np.array([0, 1, 2, 2, 0, 1, 0], np.int32)
SOFT_LABELS = np.random.default_rng(2).dirichlet(np.ones(3), 7).astype(np.float32)


def expected(logits, targets, options):
    """The loss in float64, class by class and image by image."""
    balanced = COUNTS.sum() / (3 * COUNTS)
    weight = {0: np.ones(3), 1: np.sqrt(balanced), 2: balanced}[options.get("weighted_loss", 0)]
    smoothing, gamma = options.get("label_smoothing", 0.0), options.get("focal_gamma", 0.0)
    rows = []
    for logit, target in zip(logits, targets, strict=True):
        soft_label = np.eye(3)[target] if targets.ndim == 1 else target.astype(np.float64)
        shifted = logit - logit.max()
        p = np.exp(shifted) / np.exp(shifted).sum()
        logs = shifted - np.log(np.exp(shifted).sum())
        smoothed = (1 - smoothing) * soft_label + smoothing / 3
        rows.append((-(weight * smoothed * (1 - p) ** gamma * logs).sum(), (weight * soft_label).sum()))
    hardest = max(1, round(options.get("ohem_top_ratio", 1.0) * len(rows)))
    rows = sorted(rows, reverse=True)[:hardest]
    return sum(row[0] for row in rows) / sum(row[1] for row in rows)


def slopes(logits, targets, options, step=1e-6):
    """The gradient by central differences."""
    gradient = np.zeros_like(logits)
    for index in np.ndindex(*logits.shape):
        shift = np.zeros_like(logits)
        shift[index] = step
        above, below = (expected(logits + sign * shift, targets, options) for sign in (1, -1))
        gradient[index] = (above - below) / 2 / step
    return gradient


def measured(logits, targets, options, kind=np.float32):
    """The cell's loss and gradient."""
    value, gradient = ms.value_and_grad(losses.build(resolved(**OFF | options), COUNTS))(
        ms.Tensor(logits.astype(kind)), ms.Tensor(targets)
    )
    assert value.dtype == ms.float32 and value.shape == ()
    return float(value.asnumpy()), gradient.asnumpy()


def check_loss(options, targets):
    """Compare loss and gradient with the formula, and assert that the formula differs from plain cross-entropy."""
    value, gradient = measured(LOGITS, targets, options | {"mixup_alpha": 0.2})
    assert abs(value / expected(LOGITS, targets, options) - 1) < 1e-5
    np.testing.assert_allclose(gradient, slopes(LOGITS, targets, options), rtol=1e-4, atol=1e-6)
    plain = expected(LOGITS, targets, {})
    assert abs(value - plain) > 1e-3 * plain  # the setting does something


LOSSES = [
    {"label_smoothing": 0.1},
    {"weighted_loss": 1},
    {"weighted_loss": 2},
    {"focal_gamma": 2.0},
    {"focal_gamma": 0.5},
    {"ohem_top_ratio": 0.5},
    {"ohem_top_ratio": 0.01},
    {"label_smoothing": 0.1, "weighted_loss": 2},
    {"focal_gamma": 2.0, "weighted_loss": 1, "ohem_top_ratio": 0.7},
    {"label_smoothing": 0.2, "focal_gamma": 1.5, "weighted_loss": 2, "ohem_top_ratio": 0.6},
]


# --- optimizers ------------------------------------------------------------------------------------------------------

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


class Weights(nn.Cell):
    """Four tensors with names from a network; the bias starts at 0."""

    def __init__(self):
        super().__init__(auto_prefix=False)
        rng = np.random.default_rng(1)
        values = {name: rng.standard_normal(shape) * (name != "classifier.bias") for name, shape in SHAPES.items()}
        self.all = ms.ParameterTuple(
            ms.Parameter(ms.Tensor(value.astype(np.float32)), name) for name, value in values.items()
        )


class Call(nn.Cell):
    """The cell that MindSpore compiles: an update, called with gradients."""

    def __init__(self, update):
        super().__init__(auto_prefix=False)
        self.update = update

    def construct(self, *gradients):
        self.update(gradients)
        return True


def prepared(rates=RATES, averaged=(), **options):
    """(new weights, their compiled update, their averages)."""
    config, weights = resolved(**CONFIG | options), Weights()
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


def after(batches, **options):
    """The weights after these batches."""
    weights, call, _ = prepared(**options)
    go(call, batches)
    return values(weights)


def published(batches, rates=RATES, **options):
    """The weights by PyTorch's documented algorithms (lamb: apex's, rmsprop: SageMaker's), in float64."""
    c, results = CONFIG | options, []
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
        results.append(w)
    return results


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
UPDATES = [
    *({"optimizer": name} | SCALED for name in NAMES),
    {"optimizer": "momentum", "nesterov": True} | SCALED,
    {"optimizer": "momentum", "nesterov": True, "momentum": 0.0},
    {"optimizer": "adam", "amsgrad": True, "beta2": 0.3},
    {"optimizer": "adam", "beta1": 0.0} | DECAY,
    {"optimizer": "adamw", "amsgrad": True, "beta2": 0.3} | DECAY,
    {"optimizer": "radam", "beta1": 0.0, "beta2": 0.0},
    *({"optimizer": name} | BETAS | DECAY for name in ("adam", "radam", "lamb")),
]


def check_formula(options):
    """Compare the weights after three updates, and after all of them, with the formula."""
    weights, call, _ = prepared(**options)
    batches = gradients(len(RATES))
    for start, end in [(0, 3), (3, len(RATES))]:
        go(call, batches[start:end])
        for actual, expected in zip(values(weights), published(batches[:end], **options), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=2e-5, atol=2e-6)


def check_still(name):
    """Without a gradient, only weight decay changes the weights; parameters without decay stay equal."""
    zeros = [[np.zeros(shape, np.float32) for shape in SHAPES.values()]] * 2
    for actual, start in zip(after(zeros, optimizer=name, weight_decay=0.1), values(Weights()), strict=True):
        assert np.isfinite(actual).all() and np.array_equal(actual, start) == (start.ndim == 1)


WRAPPED = {"clip_grad_norm": 3.0, "grad_accumulation_step": 2, "ema_decay": 0.9}


def check_copied(options):
    """An optimizer whose state was copied into a new one continues as if there had been no stop."""
    options = options | {"amsgrad": options.get("optimizer") in ("adam", "adamw"), "weight_decay": 0.1}
    batches = gradients(8)
    weights, call, averages = prepared(**options)
    resumed, again, its_averages = prepared(**options)
    go(call, batches[:5])  # in the middle of two accumulated batches
    state = again.parameters_dict()
    for key, parameter in call.parameters_dict().items():
        state[key].set_data(ms.Tensor(parameter.asnumpy()))
    go(call, batches[5:])
    go(again, batches[5:])
    for one, other in zip(values(weights), values(resumed), strict=True):
        np.testing.assert_array_equal(one, other)
    for key, mean in (averages.averages() if averages else {}).items():
        np.testing.assert_array_equal(mean.asnumpy(), its_averages.averages()[key].asnumpy())
