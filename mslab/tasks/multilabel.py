"""Tags: several may be true of one image. A sigmoid per tag on the backbone's pooled features.

The network is ResNet50 with resnet50_head(number of tags), as for classes; loss, thresholds and metrics differ.
Targets are the tags, float32 (N, T); outputs are logits (N, T).
"""

from collections.abc import Sequence

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from mslab.tasks.average_precision import average_precision
from mslab.tasks.sigmoid import negative_log_sigmoid, sigmoid


def positive_weights(tags: np.ndarray, weighted_loss: int) -> np.ndarray:
    """The weight of a tag where it is true, float32 (T,), from the training images' tags (N, T).

    2: images without it / images with it, so that both sides weigh the same; 1: its square root; 0: ones.
    """
    # positive_weights([[1], [0], [0], [0], [0]], 2) -> [4.0]
    tags = np.asarray(tags)
    with_it = tags.sum(0)
    balanced = np.where(with_it > 0, (len(tags) - with_it) / np.maximum(with_it, 1), 1.0)
    balanced = np.maximum(balanced, 1 / len(tags))  # a tag that is always true keeps a loss
    weights: np.ndarray = {0: np.ones(len(balanced)), 1: np.sqrt(balanced), 2: balanced}[weighted_loss]
    return weights.astype(np.float32)


class TagLoss(nn.Cell):
    """Mean binary cross-entropy, true tags times their weights. logits (N, T), tags float32 (N, T) -> float32 ()."""

    def __init__(self, weights: np.ndarray) -> None:
        super().__init__()
        self.weights = Tensor(weights, ms.float32)

    def construct(self, logits: Tensor, tags: Tensor) -> Tensor:
        logits = logits.astype(ms.float32)
        losses = self.weights * tags * negative_log_sigmoid(logits) + (1 - tags) * negative_log_sigmoid(-logits)
        return losses.mean()


def best_thresholds(probabilities: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """For each tag the threshold of highest F1: (N, T), (N, T) -> (T,). A tag is given where p >= threshold.

    Halfway to the next lower probability; of equally good ones the highest; 0.5 for a tag that no image has. F1 at
    thresholds is optimistic on the images that chose them.
    """
    found = np.full(tags.shape[1], 0.5)
    for t in np.flatnonzero(tags.any(0)):
        order = np.argsort(-probabilities[:, t], kind="stable")
        p, true = probabilities[order, t], np.cumsum(tags[order, t])
        ends = np.flatnonzero(np.append(p[1:] != p[:-1], True))  # a threshold cannot part equal probabilities
        f1 = 2 * true[ends] / (ends + 1 + true[-1])
        best = ends[f1.argmax()]
        found[t] = (p[best] + (p[best + 1] if best + 1 < len(p) else 0)) / 2
    return found


def measure(probabilities: np.ndarray, tags: np.ndarray, thresholds: np.ndarray) -> dict[str, float]:
    """mAP, the mean over tags of the average precision; F1 of all decisions (micro), and as the mean over tags (macro).

    (N, T), (N, T), (T,). Tags that no image has do not count in the means.
    """
    given, tags = probabilities >= thresholds, tags.astype(bool)
    hits, total = (given & tags).sum(0), given.sum(0) + tags.sum(0)
    there = tags.any(0)
    precisions = [
        average_precision(probabilities[:, t], tags[:, t], int(tags[:, t].sum())) for t in np.flatnonzero(there)
    ]
    return {
        "map": mean(precisions),
        "f1_micro": float(2 * hits.sum() / max(total.sum(), 1)),
        "f1_macro": mean((2 * hits / np.maximum(total, 1))[there]),
    }


def mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def decode(logits: np.ndarray, thresholds: np.ndarray, names: Sequence[str]) -> list[tuple[str, float]]:
    """The tags of one image and their probabilities, the likeliest first. logits (T,)."""
    p = sigmoid(logits)
    return [(names[t], float(p[t])) for t in np.argsort(-p, kind="stable") if p[t] >= thresholds[t]]
