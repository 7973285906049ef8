"""One training step: forward, loss, gradients, update. MindSpore compiles it into one graph.

The last of four files to read, each on its own: model.py, schedule.py, training/loop.py, training/train_step.py.
"""

from collections.abc import Callable
from typing import Any

import mindspore as ms
from mindspore import nn, ops


class TrainStep(nn.Cell):
    """Forward, loss, gradients, update.

    `mean` averages the gradients of several workers; `update` takes them, the optimizer or its wrappers. images float32
    (N, 3, H, W), labels int32 (N,) or soft labels float32 (N, class_num) -> mean loss float32 (), logits float32
    (N, class_num)
    """

    def __init__(
        self,
        network: nn.Cell,
        loss: nn.Cell,
        optimizer: nn.Optimizer,
        mean: Callable | None = None,
        update: nn.Cell | None = None,
    ) -> None:
        super().__init__(auto_prefix=False)
        self.network, self.loss, self.mean = network, loss, mean
        self.update = update or optimizer
        self.gradients = ms.value_and_grad(self.forward, None, optimizer.parameters, has_aux=True)

    def forward(self, images: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ms.Tensor]:
        logits = self.network(images)
        return self.loss(logits, labels), logits

    def construct(self, images: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ...]:
        (loss, logits), gradients = self.gradients(images, labels)
        if self.mean is not None:
            gradients = self.mean(gradients)
        self.update(gradients)
        return loss, logits


class ScaledTrainStep(TrainStep):
    """The same in float16, with loss scaling: small gradients do not vanish, and a step that overflows is skipped.

    The scale halves after an overflow, down to 1, and doubles after 1000 steps without (Micikevicius et al. 2018).
    Returns in addition whether the gradients were finite, bool (): otherwise nothing of the network has changed.
    """

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.scaler = ms.amp.DynamicLossScaler(2.0**16, 2, 1000)
        self.scale, self.good_steps = self.scaler.scale_value, self.scaler.counter  # so that last.ckpt contains them
        statistics = [p for p in self.network.get_parameters() if p.name.endswith(("moving_mean", "moving_variance"))]
        self.statistics, self.map = ms.ParameterTuple(statistics), ops.HyperMap()

    def forward(self, images: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ...]:
        logits = self.network(images)
        loss = self.loss(logits, labels)
        return self.scaler.scale(loss), loss, logits  # the scaled one may be infinite

    def construct(self, images: ms.Tensor, labels: ms.Tensor) -> tuple[ms.Tensor, ...]:
        before = self.map(copied, self.statistics)
        (_, loss, logits), gradients = self.gradients(images, labels)
        if self.mean is not None:
            gradients = self.mean(gradients)
        gradients = self.scaler.unscale(gradients)
        finite = ms.amp.all_finite(gradients)
        if finite:
            self.update(gradients)
        else:  # an activation of inf has made BatchNorm's running means NaN, which they would stay
            self.map(ops.assign, self.statistics, before)
        self.scaler.adjust(finite)
        return loss, logits, finite


def copied(statistic: ms.Parameter) -> ms.Tensor:
    return statistic + 0
