"""Tags: several may be true of one image. A sigmoid per tag on the backbone's pooled features.

The network is ResNet50 with resnet50_head(number of tags), as for classes; loss, thresholds and metrics differ.
Targets are the tags, float32 (N, T); outputs are logits (N, T).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn
from PIL import Image

from mslab.tasks.average_precision import average_precision
from mslab.tasks.drawing import draw_tags
from mslab.tasks.sample import Sample
from mslab.tasks.sigmoid import negative_log_sigmoid, sigmoid
from mslab.tasks.task import Compared, Figures, Part, Task


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


class Multilabel(Task):
    """Tags. An answer is the probability of each, float64 (T,).

    The thresholds from which a tag is given are those of highest F1 on the validation images; best.ckpt records them.
    """

    name = "multilabel"

    def __init__(self, info: Mapping[str, Any]) -> None:
        super().__init__(info)
        recorded = info.get("thresholds")
        self.thresholds = None if recorded is None else np.array(recorded)

    def target(self, sample: Sample, stride: int) -> np.ndarray:
        assert sample.tags is not None
        return sample.tags.astype(np.float32)

    def head(self, targets: Iterable[np.ndarray]) -> nn.Cell:
        raise NotImplementedError  # resnet50_head, as for classes

    def loss(self, targets: Iterable[np.ndarray], weighted_loss: int) -> nn.Cell:
        return TagLoss(positive_weights(np.stack(list(targets)), weighted_loss))

    def hits(self, outputs: np.ndarray, targets: np.ndarray) -> float:
        """Of the tags, those on whose side of 0.5 the probability is."""
        return float(((outputs > 0) == (targets > 0)).mean(1).sum())

    def answer(
        self, outputs: Sequence[np.ndarray], parts: Sequence[Part], size: tuple[int, int], side: int, stride: int
    ) -> np.ndarray:
        return sigmoid(outputs[0])

    def truth(self, sample: Sample) -> np.ndarray:
        assert sample.tags is not None
        return sample.tags

    def figures(self, answers: Iterable[np.ndarray], truths: Iterable[np.ndarray]) -> Figures:
        """With the recorded thresholds; in training, with the best ones for these images, which they contain."""
        p, tags = np.stack(list(answers)), np.stack(list(truths))
        thresholds = best_thresholds(p, tags) if self.thresholds is None else self.thresholds
        return measure(p, tags, thresholds) | {
            "tag_thresholds": [float(value) for value in thresholds],
            "by_name": self.by_tag(p, tags, thresholds),
        }

    def by_name(self, answers: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> dict[str, Figures]:
        """ap; f1 at the threshold; the threshold; images that have the tag."""
        p, tags = np.stack(answers), np.stack(truths)
        return self.by_tag(p, tags, best_thresholds(p, tags) if self.thresholds is None else self.thresholds)

    def by_tag(self, p: np.ndarray, tags: np.ndarray, thresholds: np.ndarray) -> dict[str, Figures]:
        rows = {}
        for t, name in enumerate(self.names):
            own = slice(t, t + 1)
            figures = measure(p[:, own], tags[:, own], thresholds[own])
            rows[name] = {
                "ap": figures["map"],
                "f1": figures["f1_macro"],
                "threshold": float(thresholds[t]),
                "images": int(tags[:, t].sum()),
            }
        return rows

    def compare(self, answer: np.ndarray, truth: np.ndarray) -> Compared:
        """score: the share of the tags that are right."""
        given, there = set(self.given(answer)), set(np.flatnonzero(truth).tolist())
        missed, invented = ([self.names[t] for t in sorted(tags)] for tags in (there - given, given - there))
        return Compared(1 - len(missed + invented) / len(self.names), missed, invented, {})

    def constant(self, samples: Iterable[Sample]) -> Callable[[Sample], np.ndarray]:
        """How frequent each tag is."""
        shares = np.stack([self.truth(own) for own in samples]).mean(0)
        return lambda own: shares

    def given(self, answer: np.ndarray) -> list[int]:
        """The tags of an image, the likeliest first."""
        thresholds = np.full(len(self.names), 0.5) if self.thresholds is None else self.thresholds
        return [int(t) for t in np.argsort(-answer, kind="stable") if answer[t] >= thresholds[t]]

    def draw(self, image: np.ndarray, answer: np.ndarray) -> Image.Image:
        return draw_tags(image, [(self.names[t], float(answer[t])) for t in self.given(answer)])

    def rows(self, answer: np.ndarray) -> list[dict[str, Any]]:
        """tag, probability, of those that the image has."""
        return [{"tag": self.names[t], "probability": float(answer[t])} for t in self.given(answer)]
