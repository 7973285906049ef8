"""The loss: cross-entropy, with smoothed or mixed labels, class weights, and emphasis on hard images."""

import mindspore as ms
import numpy as np
from mindspore import nn, ops

from mslab.config import Settings


def build(config: Settings, class_counts: np.ndarray) -> nn.Cell:
    """The config's loss; class_counts int (class_num,): training images of each class.

    MindSpore's own unless a setting needs more. MindSpore's has no soft labels, which mixup and cutmix make.
    """
    names = ("label_smoothing", "weighted_loss", "focal_gamma", "mixup_alpha", "cutmix_alpha")
    if not any(getattr(config, name) for name in names) and config.ohem_top_ratio == 1:
        return nn.CrossEntropyLoss()
    weights = class_weights(class_counts, config.weighted_loss)
    return CrossEntropy(weights, config.label_smoothing, config.focal_gamma, config.ohem_top_ratio)


def class_weights(counts: np.ndarray, weighted_loss: int) -> np.ndarray:
    """The weight of an image of each class, float32 (class_num,); 1 on average over the images if weighted_loss is 2.

    2: images / (classes * images of the class) (King & Zeng 2001, scikit-learn's "balanced"); 1: its square root;
    0: ones. The counts are above 0: the checker rejects an empty class.
    """
    # class_weights([30, 10], 2) -> [0.667, 2.0]
    counts = np.asarray(counts, np.float64)
    balanced = counts.sum() / (len(counts) * counts)
    weights: np.ndarray = {0: np.ones_like(balanced), 1: np.sqrt(balanced), 2: balanced}[weighted_loss]
    return weights.astype(np.float32)


class CrossEntropy(nn.Cell):
    """Mean over the images of sum_c weight_c target_c (1 - p_c)^gamma (-log p_c), weighted by the images' classes.

    With gamma 0 that is PyTorch's CrossEntropyLoss(weight, label_smoothing); gamma: focal loss (Lin et al. 2017).
    top_ratio: only this fraction of the images counts, at least one: those with the largest such sum (Shrivastava et
    al. 2016, online hard example mining). They are selected in each batch, and the selection has no gradient.

    logits float16 or float32 (N, C), targets int32 (N,) classes or float32 (N, C) soft labels -> float32 ()
    """

    def __init__(self, weights: np.ndarray, smoothing: float, gamma: float, top_ratio: float) -> None:
        super().__init__()
        self.weights, self.smoothing = ms.Tensor(weights), smoothing
        self.gamma, self.top_ratio = gamma, top_ratio

    def construct(self, logits: ms.Tensor, targets: ms.Tensor) -> ms.Tensor:
        count, classes = logits.shape
        logs = ops.log_softmax(logits.astype(ms.float32), -1)  # (N, C)
        soft_labels = ops.one_hot(targets, classes) if targets.ndim == 1 else targets
        soft_labels = soft_labels.astype(ms.float32) * self.weights  # (N, C)
        parts = (1 - self.smoothing) * soft_labels + self.smoothing / classes * self.weights
        parts = -parts * logs
        if self.gamma:
            # above 0: at 0 a gamma below 1 has an infinite slope
            parts = parts * ops.maximum(1 - ops.exp(logs), 1e-30) ** self.gamma
        losses, weights = parts.sum(1), soft_labels.sum(1)  # (N,), (N,)
        if self.top_ratio < 1:
            _, hardest = ops.topk(losses, max(1, round(self.top_ratio * count)))
            losses, weights = losses[hardest], weights[hardest]
        return losses.sum() / weights.sum()
