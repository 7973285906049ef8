"""Find a learning rate: a short trial in which it grows step by step, and suggestions from its losses (Smith 2017).

The trial saves nothing: the network's weights are restored, and no run folder is made.
"""

import itertools
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import nn

from mslab import cpu_layout
from mslab.check import DatasetReport, cores
from mslab.check.training_data import check_or_raise
from mslab.checkpoint import load_exactly
from mslab.config import Settings, Source, load_settings
from mslab.config.resolve import Machine, resolve
from mslab.data import batching, sources
from mslab.errors import TrainingError
from mslab.report import plots
from mslab.runtime import devices, turns
from mslab.runtime.console import Meter
from mslab.runtime.tables import decimals
from mslab.training import build, finetuning, freezing, optimizers
from mslab.training.examining import Feed
from mslab.training.losses import build as build_loss
from mslab.training.train_step import TrainStep

log = logging.getLogger("mslab")
SMOOTHING = 0.9  # weight of the running mean of losses so far in the next one
DIVERGED = 4.0  # times the lowest running mean: the trial ends


@turns.alone("lr-find")
def find_rate(
    config: Source,
    report: DatasetReport,
    backbone: object = None,
    steps: int = 100,
    lowest: float = 1e-6,
    highest: float = 10.0,
) -> dict[str, Any]:
    """Train for `steps` steps, the rate rising evenly in its logarithm from lowest to highest.

    Returns rates, losses (running means), and two suggestions for lr_max: steepest and valley. Raises TrainingError
    if the loss falls at no rate. fastai calls it lr_find.
    """
    settings = load_settings(config)
    report = check_or_raise(settings, report)
    weights = finetuning.read_backbone(backbone, finetuning.choice_for(settings)) if backbone else None
    device = devices.choose_device(settings.device)
    settings, notes = resolve(settings, report.images_in("train"), weights, Machine(device, cores()))
    for note in notes:
        log.info(note)
    devices.start_chosen(**devices.setup_of(settings, device))
    labels = build.feed_of(settings, report)
    network = build.new_network(settings, labels)
    if weights:
        load_exactly(network.backbone.parameters_dict(), weights.backbone, weights.path, "backbone")
    feed: Feed
    if labels is not None:
        batching.steps_per_epoch(labels.train_parts, settings.batch_size)
        feed, criterion = labels, labels.task.loss(labels.targets(), settings.weighted_loss)
    else:
        images = sources.images_of(report, "train")
        batching.steps_per_epoch(images, settings.batch_size)  # raises if there are too few images for one step
        feed = batching.ImageFeed(images, sources.images_of(report, "val"), settings)
        criterion = build_loss(settings, np.bincount(images.labels, minlength=settings.class_num))
    rates = np.geomspace(lowest, highest, steps).astype(np.float32)
    with restored_weights(network):
        losses = trial(network, criterion, feed, rates, settings)
    rates = rates[: len(losses)]
    return {"rates": rates.tolist(), "losses": losses} | suggestions(rates, losses)


@contextmanager
def restored_weights(network: nn.Cell) -> Iterator[None]:
    """Restore all parameters of the network, BatchNorm's statistics included, after the block."""
    before = {name: parameter.asnumpy().copy() for name, parameter in network.parameters_dict().items()}
    try:
        yield
    finally:
        for name, parameter in network.parameters_dict().items():
            cpu_layout.overwrite(parameter, before[name])


def trial(network: nn.Cell, criterion: nn.Cell, feed: Feed, rates: np.ndarray, config: Settings) -> list[float]:
    """Train one step at each rate. Returns the running means of the losses, until one is above DIVERGED * min."""
    freezing.apply(network, freezing.frozen([p.name for p in network.get_parameters()], config))
    optimizer = optimizers.build(network, rates, config)
    update, _ = optimizers.build_update(optimizer, config.replace(grad_accumulation_step=1, ema_decay=0.0), [])
    step = TrainStep(network, criterion, optimizer, update=update)
    batches = itertools.chain.from_iterable(feed.train(epoch) for epoch in itertools.count())
    means: list[float] = []
    running = 0.0
    with Meter(len(rates)) as meter:
        for number, (images, labels) in zip(range(len(rates)), batches, strict=False):
            value = float(step(ms.Tensor(images), ms.Tensor(labels))[0].asnumpy())
            running = SMOOTHING * running + (1 - SMOOTHING) * value
            mean = running / (1 - SMOOTHING ** (number + 1))  # as Adam corrects its moments
            if not np.isfinite(mean) or mean > DIVERGED * min([*means, mean]):
                break
            means.append(mean)
            meter.update(f"rate {rates[number]:.2g}  loss {decimals(mean)}")
    return means


def suggestions(rates: np.ndarray, losses: Sequence[float]) -> dict[str, float]:
    """steepest: where the loss falls fastest over log rate, before its minimum. valley: two thirds along its longest
    fall, as in fastai, but counted from where a tenth of the fall is done: the flat part before does not belong to it.

    Raises TrainingError if the loss falls nowhere.
    """
    first, last = longest_fall(losses)
    if len(losses) < 3 or losses[first] - losses[last] < 0.01 * losses[first]:
        raise TrainingError(
            f"The loss falls at no rate from {rates[0]:.2g} to {rates[-1]:.2g} ({len(losses)} steps).",
            expected="a loss that falls by at least a hundredth somewhere in this range",
            fix="more --steps, or look at the data: mslab check ROOT, mslab show --augment CONFIG",
        )
    slopes = np.gradient(losses, np.log(rates))[: max(int(np.argmin(losses)), last) + 1]
    tenth = losses[first] - 0.1 * (losses[first] - losses[last])
    begin = max(index for index in range(first, last) if losses[index] >= tenth)
    return {"steepest": float(rates[slopes.argmin()]), "valley": float(rates[begin + 2 * (last - begin) // 3])}


def longest_fall(losses: Sequence[float]) -> tuple[int, int]:
    """First and last position of the longest run of falling values, not necessarily next to each other (fastai)."""
    # longest_fall([3, 2.5, 2.6, 2, 1, 4]) -> (0, 4)
    length, before = [1] * len(losses), list(range(len(losses)))
    for here in range(1, len(losses)):
        for earlier in range(here):
            if losses[here] < losses[earlier] and length[here] < length[earlier] + 1:
                length[here], before[here] = length[earlier] + 1, earlier
    last = first = int(np.argmax(length))
    while before[first] != first:
        first = before[first]
    return first, last


def draw(result: Mapping[str, Any], out: Path) -> str:
    """Write the plot; returns the same for the terminal, with the suggestions."""
    losses = np.array(result["losses"])
    high = (np.arange(len(losses)) > losses.argmin()) & (losses > 1.25 * losses[0])  # useless rates, not plotted
    losses = losses[: high.argmax() + 1] if high.any() else losses
    rates = result["rates"][: len(losses)]
    marks = [(result[name], f"{name} {result[name]:.2g}") for name in ("steepest", "valley")]
    plots.curve(rates, losses, "learning rate", "loss (running mean)", out, log_x=True, marks=marks)
    return "\n".join(
        [
            plots.terminal(np.log10(rates), losses),
            "loss over log10 of the learning rate",
            f"steepest {result['steepest']:.2g}    where the loss falls fastest",
            f"valley   {result['valley']:.2g}    two thirds along its longest fall",
            f"{out}: the plot; lr_max={result['valley']:.2g} is a good first try",
        ]
    )
