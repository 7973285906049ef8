"""Which point is tried next, and which trial is pruned: Optuna's samplers, but no point twice; a median of like trials.

Two points are equal if training with them is the same: also if they differ only in settings that do nothing, in digits
that are not shown, or in the way to write the same learning rates.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from mslab.config import Profile, Settings, rules
from mslab.config.resolve import batch_within
from mslab.errors import MslabError
from mslab.experiments.sweep.space import Distribution, Space, decode, grid
from mslab.stages import stage_table
from mslab.training.learning_rates import rates_of

MOST_POINTS = 2000  # of a space that is counted: each takes about a millisecond
DRAWS = 100  # of the sampler, and then ten times as many at random, before a space counts as tried
FEW = 10  # of the sampler, if what is left can be listed
LIKE = 4  # trials that a median takes
RATES = (  # settings from which rates_of makes the rates
    "lr_init lr_max lr_end warmup_epochs cosine_cycles step_lr_gamma step_lr_step_size lr_scheduler_step "
    "learning_rate_strategy"
)


class SpacePoints:
    """The points of a space, for one config and number of training images (0: unknown)."""

    def __init__(self, settings: Settings, space: Space, images: int = 0) -> None:
        self.space, self.images = space, images
        filled = {"lr_scheduler", "epochs"} if {"learning_rate_strategy", "lr_scheduler_step"} & set(space) else set()
        self.base = settings.model_dump(exclude=filled - set(space))
        self.own = {name: self.base[name] for name in space}
        self.exhausted = False  # a sampler has drawn equal points only
        self.keys: dict[str, str] = {}
        self.all = self.counted()

    def counted(self) -> set[str] | None:
        """The key of every point and of the config's own values; None if there are too many."""
        if math.prod(map(size, self.space.values())) > MOST_POINTS:
            return None
        points = [{name: decode(value) for name, value in point.items()} for point in grid(self.space)]
        return {self.key(values) for values in [self.own, *points]}

    def key(self, values: Mapping[str, Any]) -> str:
        """What training with these values depends on: equal keys, equal runs."""
        text = json.dumps(values, sort_keys=True)
        if text not in self.keys:
            self.keys[text] = self._key(values) or text
        return self.keys[text]

    def _key(self, values: Mapping[str, Any]) -> str:
        shown = {name: self.shown(name, value) for name, value in values.items()}
        try:
            table = Settings(**(self.base | shown)).model_dump()
            rules.fill_schedule(table, self.base | shown)
            settings = Settings(**table)
            if rules.contradictions(settings):  # the trial fails, with a message of its own
                return ""
            effective, rates = self.effective(settings)
        except (ValidationError, MslabError, ArithmeticError, ValueError):
            return ""
        text = json.dumps(effective, sort_keys=True).encode()
        return hashlib.blake2b(text + rates.tobytes(), digest_size=16).hexdigest()

    def shown(self, name: str, value: Any) -> Any:
        """A number from a range without steps, with the digits that are shown."""
        kind = self.space.get(name)
        if not isinstance(kind, FloatDistribution) or kind.step is not None or not isinstance(value, float):
            return value
        rounded = float(f"{value:.4g}")
        return rounded if kind.low <= rounded <= kind.high else value

    def effective(self, settings: Settings) -> tuple[dict[str, Any], np.ndarray]:
        """(the settings that change anything, with what null stands for, but those of the rates; the rates)."""
        table = settings.model_dump()
        batch = batch_within(settings, self.images) if self.images else settings.batch_size
        updates = self.images // (batch * settings.grad_accumulation_step) if self.images else 100
        rates = rates_of(settings, max(1, updates * settings.grad_accumulation_step))
        for name in ("train_crop_size", "valid_resize_size", "valid_crop_size"):
            table[name] = table[name] or settings.image_size
        table |= {"batch_size": batch, "rescale_train_batch_size_factor": None, "stem": None}
        if "stages" in self.space and not table["stages"]:
            from mslab import model  # only here: it brings MindSpore

            table["stages"] = stage_table(model.STAGES, f"STAGES in {model.__file__}")
        table["profile"] = Profile.model_validate({}).model_dump() | settings.network_profile()
        table["profile"] |= {"stem": settings.stem} if settings.stem else {}
        plateau = settings.lr_scheduler == "plateau"
        dropped = {name for name, _, _ in rules.idle(settings)} | {"lr_scheduler"}
        dropped |= set() if plateau else {*RATES.split(), "lr_scheduler_factor"}
        rest = {name: round_floats(value) for name, value in table.items() if name not in dropped}
        return rest | {"plateau": plateau}, rates

    def left(self, trials: Iterable[FrozenTrial]) -> bool:
        """Whether there may be a point beside these."""
        return not self.exhausted and (self.all is None or bool(self.all - self.taken(trials)))

    def possible(self, tried: int) -> int | None:
        """The number of all points, of which so many were tried; None if there is no end of them."""
        return tried if self.exhausted else len(self.all) if self.all else None

    def taken(self, trials: Iterable[FrozenTrial]) -> set[str]:
        """The keys of these trials, whatever became of them, and of those that wait."""
        found = (values_of(trial) for trial in trials)
        return {self.key(values) for values in found if values and set(values) == set(self.space)}


def size(kind: Distribution) -> float:
    """The number of values of a setting."""
    # size(IntDistribution(2, 8, step=2)) -> 4; size(FloatDistribution(0.1, 0.2)) -> inf
    if isinstance(kind, CategoricalDistribution):
        return len(kind.choices)
    if kind.single():
        return 1
    return math.inf if kind.step is None else round((kind.high - kind.low) / kind.step) + 1


def round_floats(value: Any) -> Any:
    """A value with float32's digits, in lists and tables too."""
    if isinstance(value, float):
        return float(f"{value:.7g}")
    if isinstance(value, list):
        return [round_floats(item) for item in value]
    return {key: round_floats(item) for key, item in value.items()} if isinstance(value, dict) else value


def values_of(trial: FrozenTrial) -> dict[str, Any]:
    """The values of a trial that has begun or waits; empty if it has none yet."""
    attrs = trial.user_attrs
    params = trial.system_attrs.get("fixed_params", {})
    return attrs.get("values") or attrs.get("outside") or {name: decode(value) for name, value in params.items()}


class UntriedSampler(BaseSampler):
    """Draws as another sampler does, again if the point was tried; what is left of a small space is drawn from it."""

    def __init__(self, inner: BaseSampler, points: SpacePoints, seed: int) -> None:
        self.inner, self.points = inner, points
        self.random = RandomSampler(seed=seed)
        self.rng = np.random.default_rng(seed)

    def reseed_rng(self) -> None:
        self.inner.reseed_rng()

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.inner.before_trial(study, trial)

    def after_trial(self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        self.inner.after_trial(study, trial, state, values)

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self.points.space)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        others = study.get_trials(deepcopy=False)
        taken = self.points.taken(other for other in others if other.number != trial.number)
        untried = None if self.points.all is None else self.points.all - taken
        drawn: dict[str, Any] = {}
        for number in range(11 * DRAWS if untried is None else FEW):
            drawn = self.draw(self.inner if number < DRAWS else self.random, study, trial, search_space)
            if untried == set() or self.key(drawn) not in taken:
                return drawn
        if untried is None:
            self.points.exhausted = True
            return drawn
        left = [point for point in grid(self.points.space) if self.key(point) in untried]
        return left[self.rng.integers(len(left))] if left else drawn

    def draw(self, sampler: BaseSampler, study: optuna.Study, trial: FrozenTrial, space: Mapping) -> dict[str, Any]:
        """A point as Optuna draws it: together what the sampler knows, one by one what it does not."""
        relative = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))
        drawn = {}
        for name, kind in space.items():
            if kind.single():
                drawn[name] = kind.choices[0] if isinstance(kind, CategoricalDistribution) else kind.low
            elif name in relative:
                drawn[name] = relative[name]
            else:
                drawn[name] = sampler.sample_independent(study, trial, name, kind)
        return drawn

    def key(self, point: Mapping[str, Any]) -> str:
        return self.points.key({name: decode(value) for name, value in point.items()})

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, name: str, kind: BaseDistribution) -> Any:
        return self.inner.sample_independent(study, trial, name, kind)


def points_of(study: optuna.Study) -> SpacePoints:
    """The points of a study that open_study has opened."""
    assert isinstance(study.sampler, UntriedSampler)
    return study.sampler.points


class LikeMedianPruner(optuna.pruners.BasePruner):
    """Prunes a trial whose best is below the median best of the others at the same fraction of their epochs.

    Optuna's MedianPruner compares epochs by number, of which each may be the last of one trial and the warmup of
    another, and takes a median of a single trial if no other had that epoch.
    """

    def prune(self, study: optuna.Study, trial: FrozenTrial) -> bool:
        if not trial.intermediate_values:
            return False
        epochs, first = length(study, trial)
        epoch = max(trial.intermediate_values)
        if epoch < first:
            return False
        others = []
        for other in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            if "failure" in other.user_attrs or other.number == trial.number:
                continue
            total, begin = length(study, other)
            reached = epoch / epochs * total + 1e-6
            values = [value for at, value in other.intermediate_values.items() if at <= reached]
            if values and reached >= begin:  # not while its own rate still rises
                others.append(max(values))
        return len(others) >= LIKE and max(trial.intermediate_values.values()) < float(np.median(others))


def length(study: optuna.Study, trial: FrozenTrial) -> tuple[int, int]:
    """The epochs of a trial, and the one after which it may be compared: past its warmup, and a third of all."""
    settings = study.user_attrs.get("mslab", {}) | trial.user_attrs.get("values", {})
    epochs = trial.user_attrs.get("planned") or settings.get("epochs", 1)
    return epochs, max(math.ceil(settings.get("warmup_epochs", 0)) + 1, math.ceil(epochs / 3))
