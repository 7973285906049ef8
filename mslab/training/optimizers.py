"""Optimizers and their wrappers: gradient clipping, gradient accumulation, averaged weights.

All take one tuple of gradients in the order of the optimizer's parameters. Their state between updates is in
Parameters: last.ckpt contains them under `training.`, so that no reader takes them for weights.
"""

from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops
from mindspore.ops import signature

from mslab.check import cores
from mslab.config import Settings
from mslab.runtime import compiling
from mslab.training import freezing

TINY = 1e-30  # replaces a beta of 0, which MindSpore rejects; in float32 the result is the same


def build(trained: nn.Cell, rates: np.ndarray, config: Settings) -> nn.Optimizer:
    """The config's optimizer for `trained`, one learning rate per update; rates float32 (updates,).

    Only weights (more than one dimension) decay, not BatchNorm and biases. Decay is added to the gradient (L2), except
    in adamw and lamb, which subtract it from the weights.
    """
    name, rows, steps = config.optimizer, groups(trained, rates, config), rates.tolist()
    if name == "momentum" and config.nesterov and config.momentum:  # nn.Momentum ignores use_nesterov on a CPU
        return nn.SGD(rows, steps, momentum=config.momentum, nesterov=True)
    if name in ("momentum", "sgd"):  # nn.SGD stores two tensors per weight, this stores one
        momentum = config.momentum if name == "momentum" else 0.0
        library = one_pass(trained)
        return OnePassMomentum(rows, steps, momentum, library) if library else nn.Momentum(rows, steps, momentum)
    if name == "rmsprop":
        return rmsprop(rows, steps)
    if name == "adadelta":  # Zeiler 2012; PyTorch's defaults
        return nn.Adadelta(rows, steps, rho=0.9, epsilon=1e-6)
    betas = max(config.beta1, TINY), max(config.beta2, TINY)
    if name == "adam" and not config.amsgrad and (library := one_pass(trained)):
        return OnePassAdam(rows, steps, betas, library)
    if name in ("adam", "adamw"):
        return {"adam": nn.Adam, "adamw": AdamW}[name](rows, steps, *betas, use_amsgrad=config.amsgrad)
    return {"radam": RAdam, "lamb": Lamb}[name](rows, steps, *betas)


def groups(trained: nn.Cell, rates: np.ndarray, config: Settings) -> list[dict[str, Any]]:
    """The parameter groups for nn.Optimizer: one for each pair of weight decay and `lr_scale` factor."""
    trainable = trained.trainable_params()
    members: dict[tuple[float, bool], list[ms.Parameter]] = {}
    for parameter in trainable:
        members.setdefault((freezing.scale_of(parameter.name, config), parameter.ndim > 1), []).append(parameter)
    rows: list[dict[str, Any]] = [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if decayed else 0.0,
            **({"lr": (rates * scale).tolist()} if config.lr_scale else {}),
        }
        for (scale, decayed), parameters in members.items()
    ]
    return [*rows, {"order_params": trainable}]


def one_pass(trained: nn.Cell) -> Path | None:
    """The library with momentum and Adam in one pass, if it fits: on a CPU, in a graph, for float32."""
    graph = ms.get_context("mode") == ms.GRAPH_MODE and ms.get_context("device_target") == "CPU"
    floats = all(parameter.dtype == ms.float32 for parameter in trained.trainable_params())
    return compiling.library().file if graph and floats else None


class OnePass(ops.Custom):
    """An update of one weight in place by runtime/operators.c, weight decay included. -> float32 (1,).

    MindSpore's own operators read and write all weights for the decay, and again for the update. The bits are theirs,
    but for a few of Adam's in large weights whose size is no multiple of 8 for each thread.
    """

    def __init__(self, library: Path, function: str) -> None:
        super().__init__(f"{library}:{function}", lambda w, *others: (1,), lambda w, *others: w, "aot")
        self.add_prim_attr("side_effect_mem", True)


def written(*names: str) -> tuple[Any, ...]:
    return tuple(signature.make_sig(name, signature.sig_rw.RW_WRITE) for name in names)


class MomentumUpdate(OnePass):
    __mindspore_signature__ = (*written("w", "m"), *map(signature.make_sig, ("g", "rate", "settings")))


class AdamUpdate(OnePass):
    __mindspore_signature__ = (
        *written("w", "m", "v"),
        *map(signature.make_sig, ("g", "rate", "power1", "power2", "settings")),
    )


def settings_of_each(optimizer: nn.Optimizer, *others: float) -> tuple[ms.Tensor, ...]:
    """For each parameter what operators.c reads: decay, threads, and the others."""
    decays = zip(optimizer.weight_decay, optimizer.decay_flags, strict=True)
    return tuple(ms.Tensor([float(decay) if used else 0.0, cores(), *others], ms.float32) for decay, used in decays)


class OnePassMomentum(nn.Momentum):
    """nn.Momentum with weight decay in one pass."""

    def __init__(self, rows: list[dict[str, Any]], rates: list[float], momentum: float, library: Path) -> None:
        super().__init__(rows, rates, momentum)
        self.update, self.settings = MomentumUpdate(library, "momentum"), settings_of_each(self, momentum)

    def construct(self, gradients: tuple[ms.Tensor, ...]) -> tuple[ms.Tensor, ...]:
        rates = rate_of_each(self)
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        return tuple(self.map_(self.update, self.parameters, self.moments, gradients, rates, self.settings))


class OnePassAdam(nn.Adam):
    """nn.Adam with weight decay (L2) in one pass."""

    def __init__(
        self, rows: list[dict[str, Any]], rates: list[float], betas: tuple[float, float], library: Path
    ) -> None:
        super().__init__(rows, rates, *betas)
        self.update, self.settings = AdamUpdate(library, "adam"), settings_of_each(self, *betas, self.eps.item())

    def construct(self, gradients: tuple[ms.Tensor, ...]) -> tuple[ms.Tensor, ...]:
        rates = rate_of_each(self)
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        power1, power2 = self.beta1_power * self.beta1, self.beta2_power * self.beta2  # type: ignore[has-type]
        self.beta1_power, self.beta2_power = power1, power2
        step = ops.partial(adam_step, self.update, power1, power2)
        return tuple(self.map_(step, self.parameters, self.moment1, self.moment2, gradients, rates, self.settings))


def adam_step(update, power1, power2, w, m, v, gradient, rate, settings):  # type: ignore[no-untyped-def]
    return update(w, m, v, gradient, rate, power1, power2, settings)


def rmsprop(rows: list[dict[str, Any]], rates: list[float]) -> nn.Optimizer:
    """RMSProp (Tieleman & Hinton 2012) as in SageMaker: w -= lr g / sqrt(s + 1e-8), s = 0.9 s + 0.1 g², from 0."""
    optimizer = nn.RMSProp(rows, rates, decay=0.9, epsilon=1e-8)
    for square in optimizer.ms:  # MindSpore starts at 1, as if all gradients before had been of that size
        square.set_data(ops.zeros_like(square))
    return optimizer


class AdamW(nn.Adam):
    """Adam with decoupled weight decay: w -= lr decay w, then Adam (Loshchilov & Hutter 2019).

    nn.AdamWeightDecay has no bias correction, which makes its first updates too large.
    """

    def decay_weight(self, gradients: tuple[ms.Tensor, ...]) -> tuple[ms.Tensor, ...]:
        """Shrink the weights; nn.Adam calls it before its update and continues with the gradients it returns."""
        self.map_(shrink, rate_of_each(self), self.weight_decay, self.decay_flags, self.parameters)
        return gradients

    def get_lr(self) -> Any:
        """nn.Adam's rate, or its rates: see rate_of_each."""
        return rate_of_each(self) if self.is_group_lr else self.learning_rate(self.global_step).reshape(())


def shrink(rate: ms.Tensor, decay: ms.Tensor, decayed: bool, weight: ms.Parameter) -> bool:
    if decayed:
        ops.assign(weight, weight * (1 - rate * decay))
    return True


class RAdam(nn.Optimizer):
    """RAdam: momentum at first, adaptive once the gradients' variance can be estimated (Liu et al. 2020).

    As in PyTorch, weight decay and eps included. Both kinds of update use MindSpore's fused Adam: while the variance
    is unknown, with an eps so large that the root beside it is negligible.
    """

    def __init__(self, rows: list[dict[str, Any]], rates: list[float], beta1: float, beta2: float) -> None:
        super().__init__(rates, rows)
        self.beta1, self.beta2, self.zero = ms.Tensor(beta1), ms.Tensor(beta2), ms.Tensor(0.0)
        self.moment1 = self.parameters.clone("moment1", "zeros")
        self.moment2 = self.parameters.clone("moment2", "zeros")
        self.updates = counter("updates")
        self.factors, self.floors = (ms.Tensor(part) for part in rectified(beta1, beta2, len(rates)))
        self.adam = ops.Adam()

    def construct(self, gradients: tuple[ms.Tensor, ...]) -> bool:
        gradients, rates = self.decay_weight(gradients), rate_of_each(self)
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        factor, eps = self.factors[self.updates], self.floors[self.updates]
        ops.assign_add(self.updates, 1)
        update = ops.partial(self.update, factor, eps)
        self.map_(update, rates, self.parameters, self.moment1, self.moment2, gradients)
        return True

    def update(self, factor, eps, rate, weight, mean, square, gradient):  # type: ignore[no-untyped-def]
        # powers of 0: `factor` contains the bias correction
        return self.adam(
            weight, mean, square, self.zero, self.zero, factor * rate, self.beta1, self.beta2, eps, gradient
        )


def rectified(beta1: float, beta2: float, updates: int) -> tuple[np.ndarray, np.ndarray]:
    """RAdam's factor on the rate, and its eps, at each update: two arrays, float32 (updates,).

    Computed here, in float64: rho is the small difference of two large numbers.
    """
    t = np.arange(1, updates + 1)
    first, second = 1 - beta1**t, 1 - beta2**t  # Adam's bias corrections
    most = 2 / (1 - beta2) - 1
    rho = most - 2 * t * beta2**t / second
    adaptive = rho > 5
    eps = np.where(adaptive, 1e-8, 1e12)
    factor = eps / first  # (eps / first) m / (root + eps) = m / first
    rho, root = rho[adaptive], np.sqrt(second[adaptive])
    factor[adaptive] = root / first[adaptive] * np.sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
    return factor.astype(np.float32), eps.astype(np.float32)


class Lamb(nn.Optimizer):
    """LAMB: Adam's update of a weight tensor, scaled to the tensor's norm times the rate (You et al. 2020).

    w -= lr |w| / |u| u with u = m^ / (sqrt(v^) + 1e-6) + decay w. As in NVIDIA's apex and timm, biases and BatchNorm
    use Adam's update unchanged (one that begins at 0 would hardly move); the paper treats all alike. nn.Lamb also
    treats all alike, does not run on a CPU, and corrects the bias by the step of the schedule, which is wrong after
    something is unfrozen and the moments start again.
    """

    def __init__(self, rows: list[dict[str, Any]], rates: list[float], beta1: float, beta2: float) -> None:
        super().__init__(rates, rows)
        self.beta1, self.beta2 = beta1, beta2
        self.moment1 = self.parameters.clone("moment1", "zeros")
        self.moment2 = self.parameters.clone("moment2", "zeros")
        self.updates = counter("updates")
        t = np.arange(1, len(rates) + 1)
        self.firsts, self.seconds = (ms.Tensor((1 - beta**t).astype(np.float32)) for beta in (beta1, beta2))

    def construct(self, gradients: tuple[ms.Tensor, ...]) -> bool:
        rates = rate_of_each(self)
        self.assignadd(self.global_step, self.global_step_increase_tensor)
        first, second = self.firsts[self.updates], self.seconds[self.updates]
        ops.assign_add(self.updates, 1)
        update = ops.partial(self.update, first, second)
        self.map_(
            update, rates, self.weight_decay, self.decay_flags, self.parameters, self.moment1, self.moment2, gradients
        )
        return True

    def update(self, first, second, rate, decay, decayed, weight, mean, square, gradient):  # type: ignore
        ops.assign(mean, self.beta1 * mean + (1 - self.beta1) * gradient)
        ops.assign(square, self.beta2 * square + (1 - self.beta2) * (gradient * gradient))
        change = mean / (ops.sqrt(square) * (first / ops.sqrt(second)) + 1e-6 * first)
        if decayed:
            change = change + decay * weight
        if weight.ndim > 1:
            size, length = ops.sqrt(squares(weight)), ops.sqrt(squares(change))
            rate = rate * ops.select(ops.logical_and(size > 0, length > 0), size / length, ops.ones_like(size))
        return ops.assign(weight, weight - rate * change)


def squares(x: ms.Tensor) -> ms.Tensor:
    """The sum of all squares."""
    return (x * x).reshape(-1).sum()  # four times as fast on a CPU as over several dimensions


def rate_of_each(optimizer: nn.Optimizer) -> tuple[ms.Tensor, ...]:
    """This update's learning rate for each parameter; with lr_scale they differ.

    Neither (rate,) * n nor nn.Optimizer's own loop: MindSpore compiles both as n sums of tuples, which takes as long as
    compiling the rest of the step (2.8.0).
    """
    if optimizer.is_group_lr:
        rates = optimizer.map_(ops.partial(rate_at, optimizer.global_step), optimizer.learning_rate)
    else:
        rates = optimizer.map_(ops.partial(first, optimizer.get_lr()), optimizer.parameters)
    return tuple(rates)


def rate_at(step: ms.Tensor, rates: nn.Cell) -> ms.Tensor:
    return rates(step).reshape(())


def first(rate: ms.Tensor, parameter: ms.Parameter) -> ms.Tensor:
    return rate


# --- wrappers of an optimizer ----------------------------------------------------------------------------------------


def build_update(
    optimizer: nn.Optimizer, config: Settings, averaged: list[ms.Parameter]
) -> tuple[nn.Cell, "EMA | None"]:
    """(the cell to call with a batch's gradients, the averages of `averaged` or None without ema_decay).

    Wrappers that no setting needs are left out; without any, the cell is the optimizer itself. Clipping and averaging
    happen once per update.
    """
    update: nn.Cell = optimizer
    averages, batches = None, None
    if config.clip_grad_norm:
        update = Clipped(update, config.clip_grad_norm)
    if config.grad_accumulation_step > 1:
        update = Accumulated(update, optimizer.parameters, config.grad_accumulation_step)
        batches = update.batches
    if config.ema_decay:
        update = averages = EMA(update, averaged, config.ema_decay, batches)
    return update, averages


class Clipped(nn.Cell):
    """Scales gradients down if their global norm is above `norm` (Pascanu et al. 2013)."""

    def __init__(self, update: nn.Cell, norm: float) -> None:
        super().__init__(auto_prefix=False)
        self.update, self.norm, self.map = update, norm, ops.HyperMap()

    def construct(self, gradients: tuple[ms.Tensor, ...]) -> bool:
        length = ops.sqrt(ops.addn(self.map(squares, gradients)))
        scale = ops.minimum(self.norm / length, 1.0)  # a length of 0 gives inf, and 1
        self.update(self.map(ops.partial(times, scale), gradients))
        return True


def times(factor: ms.Tensor, x: ms.Tensor) -> ms.Tensor:
    return factor * x


class EMA(nn.Cell):
    """After each update, average += (1 - decay) (parameter - average) (Polyak & Juditsky 1992).

    The decay rises as in TensorFlow, min(decay, (1 + t) / (10 + t)) at update t = 1, 2, ...: otherwise early averages
    would be mostly the initial weights. BatchNorm's statistics enter as the last batch left them. `batches`, of
    Accumulated, is 0 after an update; it is used as a factor, because inside an `if` the statistics of SyncBatchNorm2d
    are outdated (2.8.0).
    """

    def __init__(
        self, update: nn.Cell, parameters: list[ms.Parameter], decay: float, batches: ms.Parameter | None = None
    ) -> None:
        super().__init__(auto_prefix=False)
        self.update, self.decay, self.map = update, decay, ops.HyperMap()
        self.sources = ms.ParameterTuple(parameters)
        self.means = ms.ParameterTuple(
            ms.Parameter(ms.Tensor(source.asnumpy()), f"ema.{source.name}", requires_grad=False)
            for source in parameters
        )
        self.updates, self.batches = counter("ema_updates"), batches

    def averages(self) -> dict[str, ms.Parameter]:
        """{parameter name: its average}."""
        return {source.name: mean for source, mean in zip(self.sources, self.means, strict=True)}

    def construct(self, gradients: tuple[ms.Tensor, ...]) -> bool:
        self.update(gradients)
        updated = 1 if self.batches is None else (self.batches == 0).astype(ms.int32)
        ops.assign_add(self.updates, updated)
        t = self.updates.astype(ms.float32)
        weight = (1 - ops.minimum((1 + t) / (10 + t), self.decay)) * updated
        self.map(ops.partial(approach, weight), self.means, self.sources)
        return True


def approach(weight: ms.Tensor, mean: ms.Parameter, source: ms.Parameter) -> ms.Tensor:
    return ops.assign_add(mean, weight * (source - mean))


class Accumulated(nn.Cell):
    """Accumulates the gradients of `count` calls and makes one update with their mean."""

    def __init__(self, update: nn.Cell, parameters: ms.ParameterTuple, count: int) -> None:
        super().__init__(auto_prefix=False)
        self.update, self.count, self.map = update, count, ops.HyperMap()
        self.totals = parameters.clone("accumulated", "zeros")
        self.batches = counter("accumulated_batches")

    def construct(self, gradients: tuple[ms.Tensor, ...]) -> bool:
        self.map(ops.assign_add, self.totals, gradients)
        ops.assign_add(self.batches, 1)
        if self.batches == self.count:
            self.update(self.map(ops.partial(times, 1 / self.count), self.totals))
            self.map(clear, self.totals)
            ops.assign(self.batches, 0)
        return True


def clear(total: ms.Parameter) -> ms.Tensor:
    return ops.assign(total, ops.zeros_like(total))


def counter(name: str) -> ms.Parameter:
    return ms.Parameter(ms.Tensor(0, ms.int32), name, requires_grad=False)
