"""Learning rate per step: pure functions, no MindSpore.

Every curve is as long as its run, float32 (epochs * steps_per_epoch,), and exact at its boundaries: a phase up to
epoch 5 reaches its last value at the first step of epoch 6, where the next one starts; the last phase at the last step.

The second of four files to read, each on its own: model.py, schedule.py, training/loop.py, training/train_step.py.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


def warmup_cosine(
    epochs: int,
    steps_per_epoch: int,
    warmup_epochs: float,
    lr_init: float,
    lr_max: float,
    lr_end: float = 0.0,
    cycles: float = 0.5,
) -> np.ndarray:
    """Linear from lr_init at step 0 to lr_max at the first step after warmup, then cosine to lr_end at the last step.

    (Goyal et al. 2017; Loshchilov & Hutter 2017). It rises at every step; `nn.warmup_lr` stays at 0 for an epoch.
    `cycles`: waves of the cosine; 0.5 only falls, 1.5 falls, rises and falls (Azure's warmup_cosine_lr_cycles).
    """
    # warmup_cosine(3, 2, 1, 0.0, 1.0) -> [0, 0.5, 1, 0.75, 0.25, 0]
    total, warmup = epochs * steps_per_epoch, round(min(warmup_epochs, epochs) * steps_per_epoch)
    rise = lr_init + (lr_max - lr_init) * np.arange(warmup) / max(warmup, 1)
    progress = np.arange(total - warmup) / max(total - warmup - 1, 1)
    fall = lr_end + (lr_max - lr_end) * (1 + np.cos(2 * cycles * np.pi * progress)) / 2
    return np.concatenate([rise, fall]).astype(np.float32)


def step_decay(
    epochs: int,
    steps_per_epoch: int,
    warmup_epochs: float,
    lr_init: float,
    lr_max: float,
    after: Sequence[int],
    by: float,
) -> np.ndarray:
    """lr_max, multiplied by `by` after each epoch in `after`; a linear warmup first, as in warmup_cosine.

    If `after` is empty, the rate is constant (PyTorch's MultiStepLR and ConstantLR).
    """
    # step_decay(4, 1, 0, 0.0, 1.0, [1, 3], 0.1) -> [1, 0.1, 0.1, 0.01]
    epoch = np.arange(epochs * steps_per_epoch) // steps_per_epoch
    rates = lr_max * by ** np.searchsorted(np.asarray(after), epoch, side="right").astype(float)
    warmup = round(min(warmup_epochs, epochs) * steps_per_epoch)
    top = rates[min(warmup, len(rates) - 1)]
    rates[:warmup] = lr_init + (top - lr_init) * np.arange(warmup) / max(warmup, 1)
    return rates.astype(np.float32)


def one_cycle(
    epochs: int, steps_per_epoch: int, warmup_epochs: float, lr_init: float, lr_max: float, lr_end: float = 0.0
) -> np.ndarray:
    """Half a cosine up from lr_init to lr_max, half a cosine down to lr_end (Smith & Topin 2018; PyTorch)."""
    # one_cycle(3, 2, 1, 0.0, 1.0) -> [0, 0.5, 1, 0.75, 0.25, 0]
    total, warmup = epochs * steps_per_epoch, round(min(warmup_epochs, epochs) * steps_per_epoch)
    rise = _between(lr_init, lr_max, np.arange(warmup) / max(warmup, 1), "cosine")
    fall = _between(lr_max, lr_end, np.arange(total - warmup) / max(total - warmup - 1, 1), "cosine")
    return np.concatenate([rise, fall]).astype(np.float32)


def plateau_factor(accuracies: Sequence[float], patience: int, factor: float) -> float:
    """Product of the reductions after these evaluations: `factor` for every `patience` in a row without a new best.

    NaN is not counted as an evaluation (Keras's ReduceLROnPlateau, Paddle's ReduceOnPlateau).
    """
    # plateau_factor([0.5, 0.5, 0.4, 0.6], 2, 0.1) -> 0.1
    best, waited, total = -math.inf, 0, 1.0
    for accuracy in accuracies:
        if accuracy > best:
            best, waited = accuracy, 0
        elif not math.isnan(accuracy):
            waited += 1
        if waited == patience:
            total, waited = total * factor, 0
    return total


# --- ModelArts' strategy language ------------------------------------------------------------------------------------

SHAPES = {"->": "linear", "=>": "exponential", "~>": "cosine"}
SIGNS = {shape: sign for sign, shape in SHAPES.items()}
NUMBER = re.compile(r"\d+(\.\d*)?([eE][-+]?\d+)?|\.\d+([eE][-+]?\d+)?", re.ASCII)
HIGHEST, LATEST = 100.0, 100_000.0  # highest rate and last epoch, as for lr_max and epochs


@dataclass(frozen=True)
class Phase:
    """Part of a strategy, from the end of the previous phase to epoch `end`. A bare number has no end: 0."""

    end: int
    first: float
    last: float
    shape: str  # constant, linear, exponential, cosine


def parse(text: str) -> list[Phase]:
    """The phases of `5:0.1->0.4,10:0.4=>0.8,15:0.8~>0.001,20:0.001`, or of a bare number such as `0.002`.

    Raises ValueError that starts with the column (from 1) of the first unexpected character.
    """
    # parse("5:0.1->0.4,8:0.4") -> [Phase(5, 0.1, 0.4, "linear"), Phase(8, 0.4, 0.4, "constant")]
    if NUMBER.fullmatch(text.strip()):
        rate, _ = _number(text, 0, "a learning rate", HIGHEST)
        return [Phase(0, rate, rate, "constant")]
    phases: list[Phase] = []
    at = 0
    while True:
        begin = _skip(text, at)
        end, at = _number(text, at, "an epoch, as in 5:0.1->0.4", LATEST)
        if end != int(end) or end < 1:
            raise _wrong(text, begin, "an integer epoch, 1 or later")
        if phases and end <= phases[-1].end:
            raise _wrong(text, begin, f"an epoch after {phases[-1].end}")
        at = _sign(text, at, ":")
        start = _skip(text, at)
        first, at = _number(text, at, "a learning rate", HIGHEST)
        last, shape = first, "constant"
        if text[at : at + 2] in SHAPES:
            shape = SHAPES[text[at : at + 2]]
            goal = _skip(text, at + 2)
            last, at = _number(text, at + 2, "a learning rate", HIGHEST)
            for position, rate in ((start, first), (goal, last)):
                if shape == "exponential" and rate <= 0:
                    raise _wrong(text, position, "a rate above 0: => multiplies")
        phases.append(Phase(int(end), first, last, shape))
        if at == len(text):
            return phases
        at = _sign(text, at, ",", "->, =>, ~>, a comma or the end" if shape == "constant" else "a comma or the end")


def _skip(text: str, at: int) -> int:
    """The position of the next character that is not a space."""
    while at < len(text) and text[at] == " ":
        at += 1
    return at


def _number(text: str, at: int, expected: str, most: float) -> tuple[float, int]:
    """(the number at this position, the position after it and its spaces)."""
    at = _skip(text, at)
    match = NUMBER.match(text, at)
    if not match:
        raise _wrong(text, at, expected)
    if float(match[0]) > most:
        raise _wrong(text, at, f"{expected}, at most {most:g}")
    return float(match[0]), _skip(text, match.end())


def _sign(text: str, at: int, sign: str, expected: str = "") -> int:
    if text[at : at + 1] != sign:
        raise _wrong(text, at, expected or f"'{sign}'")
    return at + 1


def _wrong(text: str, at: int, expected: str) -> ValueError:
    actual = repr(text[at : at + 8]) if at < len(text) else "the end"
    return ValueError(f"column {at + 1}: expected {expected}, found {actual}")


def problem(text: str) -> str:
    """The error in a strategy, or ""."""
    try:
        parse(text)
    except ValueError as error:
        return f"{text}: {error}"
    return ""


def format_strategy(phases: Sequence[Phase]) -> str:
    """The strategy as text, which parse() turns into the same phases."""
    if not phases[0].end:
        return f"{phases[0].first!r}"
    return ",".join(
        f"{p.end}:{p.first!r}" + (f"{SIGNS[p.shape]}{p.last!r}" if p.shape != "constant" else "") for p in phases
    )


def strategy_rates(phases: Sequence[Phase], steps_per_epoch: int) -> np.ndarray:
    """Rate per step of a strategy with epochs, float64 (last end * steps_per_epoch,)."""
    parts, begin = [], 0
    for phase in phases:
        count = (phase.end - begin) * steps_per_epoch
        span = count if phase is not phases[-1] else max(count - 1, 1)  # the last phase ends at its last step
        progress = np.arange(count) / span if count > 1 or phase is not phases[-1] else np.ones(1)
        parts.append(_between(phase.first, phase.last, progress, phase.shape))
        begin = phase.end
    return np.concatenate(parts)


def _between(first: float, last: float, progress: np.ndarray, shape: str) -> np.ndarray:
    """A curve from `first` at progress 0 to `last` at progress 1."""
    curves: dict[str, Callable[[], np.ndarray]] = {
        "constant": lambda: np.full(len(progress), first),
        "linear": lambda: first + (last - first) * progress,
        "exponential": lambda: first * (last / first) ** progress,
        "cosine": lambda: last + (first - last) * (1 + np.cos(np.pi * progress)) / 2,
    }
    return curves[shape]()
