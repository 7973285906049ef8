"""Optimizers, and what stands before them: gradients are clipped, collected over batches, weights averaged.

All take one tuple of gradients in the order of the optimizer's parameters. What they keep between updates are
Parameters whose names checkpoint/dialects.py knows, so that last.ckpt holds them and no network is mistaken for them.
"""

from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mslab.config import Settings
from mslab.training import freezing

TINY = 1e-30  # in place of a beta of 0, which MindSpore refuses; in float32 the two are the same


def build(trained: nn.Cell, rates: np.ndarray, config: Settings) -> nn.Optimizer:
    """config's optimizer for `trained`, one learning rate an update; rates float32 (updates,).

    Weights alone (more than one dimension) decay, not BatchNorm and biases. Decay is added to the gradient (L2), but in
    adamw and lamb, which take it off the weights.
    """
    name, rows, steps = config.optimizer, groups(trained, rates, config), rates.tolist()
    if name == "momentum" and config.nesterov and config.momentum:  # nn.Momentum ignores use_nesterov on a CPU
        return nn.SGD(rows, steps, momentum=config.momentum, nesterov=True)
    if name in ("momentum", "sgd"):  # nn.SGD keeps two tensors a weight, this keeps one
        return nn.Momentum(rows, steps, momentum=config.momentum if name == "momentum" else 0.0)
    if name == "rmsprop":
        return rmsprop(rows, steps)
    if name == "adadelta":  # Zeiler 2012; PyTorch's defaults
        return nn.Adadelta(rows, steps, rho=0.9, epsilon=1e-6)
    betas = max(config.beta1, TINY), max(config.beta2, TINY)
    if name in ("adam", "adamw"):
        return {"adam": nn.Adam, "adamw": AdamW}[name](rows, steps, *betas, use_amsgrad=config.amsgrad)
    return {"radam": RAdam, "lamb": Lamb}[name](rows, steps, *betas)


def groups(trained: nn.Cell, rates: np.ndarray, config: Settings) -> list[dict[str, Any]]:
    """What nn.Optimizer takes for parameters: those of one decay and one factor of `lr_scale` together."""
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


def rmsprop(rows: list[dict[str, Any]], rates: list[float]) -> nn.Optimizer:
    """RMSProp (Tieleman & Hinton 2012) as SageMaker has it: w -= lr g / sqrt(s + 1e-8), s = 0.9 s + 0.1 g², from 0."""
    optimizer = nn.RMSProp(rows, rates, decay=0.9, epsilon=1e-8)
    for square in optimizer.ms:  # MindSpore begins at 1, as if all gradients before had been of that size
        square.set_data(ops.zeros_like(square))
    return optimizer


class AdamW(nn.Adam):
    """Adam whose decay does not go through the moments: w -= lr decay w, then Adam (Loshchilov & Hutter 2019).

    nn.AdamWeightDecay has no bias correction, which makes its first updates too large.
    """

    def decay_weight(self, gradients: tuple[ms.Tensor, ...]) -> tuple[ms.Tensor, ...]:
        """Shrink the weights; nn.Adam calls it before its update and goes on with the gradients it returns."""
        self.map_(shrink, rate_of_each(self), self.weight_decay, self.decay_flags, self.parameters)
        return gradients


def shrink(rate: ms.Tensor, decay: ms.Tensor, decayed: bool, weight: ms.Parameter) -> bool:
    if decayed:
        ops.assign(weight, weight * (1 - rate * decay))
    return True


class RAdam(nn.Optimizer):
    """Adam that begins as momentum and turns adaptive as it learns the gradients' variance (Liu et al. 2020).

    As PyTorch has it, weight decay and eps included. Both kinds of update are MindSpore's one fused Adam: while the
    variance is unknown, with an eps so large that the root beside it does not count.
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
        one = ops.partial(self.update, factor, eps)
        self.map_(one, rates, self.parameters, self.moment1, self.moment2, gradients)
        return True

    def update(self, factor, eps, rate, weight, mean, square, gradient):  # type: ignore[no-untyped-def]
        # powers of 0: the bias correction is in the factor
        return self.adam(
            weight, mean, square, self.zero, self.zero, factor * rate, self.beta1, self.beta2, eps, gradient
        )


def rectified(beta1: float, beta2: float, updates: int) -> tuple[np.ndarray, np.ndarray]:
    """RAdam's factor on the rate, and its eps, at each update: float32 (updates,) twice.

    Computed here, in float64: rho is the small difference of two large numbers.
    """
    t = np.arange(1, updates + 1)
    first, second = 1 - beta1**t, 1 - beta2**t  # Adam's bias corrections
    most = 2 / (1 - beta2) - 1
    rho = most - 2 * t * beta2**t / second
    known = rho > 5
    eps = np.where(known, 1e-8, 1e12)
    factor = eps / first  # (eps / first) m / (root + eps) = m / first
    rho, root = rho[known], np.sqrt(second[known])
    factor[known] = root / first[known] * np.sqrt((rho - 4) * (rho - 2) * most / ((most - 4) * (most - 2) * rho))
    return factor.astype(np.float32), eps.astype(np.float32)


class Lamb(nn.Optimizer):
    """Adam whose update of a weight tensor is made as long as the tensor, times the rate (You et al. 2020).

    w -= lr |w| / |u| u with u = m^ / (sqrt(v^) + 1e-6) + decay w. As NVIDIA's apex and timm have it, biases and
    BatchNorm take Adam's update as it is (one that begins at 0 would hardly move), where the paper treats all alike.
    nn.Lamb also treats all alike, runs on no CPU, and corrects the bias by the step of the schedule: after something is
    unfrozen, and the moments begin anew, that is wrong.
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
        one = ops.partial(self.update, first, second)
        self.map_(
            one, rates, self.weight_decay, self.decay_flags, self.parameters, self.moment1, self.moment2, gradients
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
    """This update's learning rate for each parameter; with lr_scale they differ."""
    rates = optimizer.get_lr()
    return rates if optimizer.is_group_lr else (rates,) * len(optimizer.parameters)


# --- what stands before an optimizer ---------------------------------------------------------------------------------


def build_update(
    optimizer: nn.Optimizer, config: Settings, averaged: list[ms.Parameter]
) -> tuple[nn.Cell, "EMA | None"]:
    """(what to call with a batch's gradients, the averages of `averaged` where ema_decay asks for them).

    What is not asked for is left out; where nothing is, the optimizer itself is called. Clipping and averaging happen
    once an update.
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
    """Gradients that are longer than `norm`, all together, are shortened to it (Pascanu et al. 2013)."""

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

    The decay rises as TensorFlow's does, min(decay, (1 + t) / (10 + t)) at update t = 1, 2, ...: early averages would
    else be those of the first weights. BatchNorm's statistics enter as the last batch left them. `batches`, of
    Accumulated, is 0 where an update was made; a factor and no `if`, inside which the statistics of SyncBatchNorm2d
    are old ones (2.8.0).
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
        """{parameter's name: its average}."""
        return {source.name: mean for source, mean in zip(self.sources, self.means, strict=True)}

    def construct(self, gradients: tuple[ms.Tensor, ...]) -> bool:
        self.update(gradients)
        made = 1 if self.batches is None else (self.batches == 0).astype(ms.int32)
        ops.assign_add(self.updates, made)
        t = self.updates.astype(ms.float32)
        share = (1 - ops.minimum((1 + t) / (10 + t), self.decay)) * made
        self.map(ops.partial(approach, share), self.means, self.sources)
        return True


def approach(share: ms.Tensor, mean: ms.Parameter, source: ms.Parameter) -> ms.Tensor:
    return ops.assign_add(mean, share * (source - mean))


class Accumulated(nn.Cell):
    """Gradients of `count` calls become one update with their mean."""

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
