"""A space file: which settings a sweep tries, and between which values.

lr_max: {low: 0.001, high: 0.1, log: true}                  a number from a range; log: as many below 0.01 as above
label_smoothing: {low: 0, high: 0.2, step: 0.05}            0, 0.05, 0.1, 0.15 or 0.2
optimizer: [momentum, adamw]                                one of these; {choices: [momentum, adamw]} is the same

In memory a space is a dict from setting to Optuna's distribution, which also checks most of a line.
"""

import itertools
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial, TrialState, create_trial
from pydantic import BaseModel, ValidationError

from mslab.config import FIELDS, Settings, read_yaml, rules
from mslab.config.correcting import adapter, instead
from mslab.config.naming import unknown_setting
from mslab.config.resolve import OF_THE_BACKBONE
from mslab.errors import ConfigError
from mslab.escaping import command

Distribution = FloatDistribution | IntDistribution | CategoricalDistribution
Space = dict[str, Distribution]

FIXED = {  # why trials may not differ in a setting -> these settings
    "trials on other images do not compare": "train_data val_data class_num classes merge follow_links ignore",
    "the best seed says nothing about the next run; mslab repeat CONFIG --seeds 5 measures what seeds do": "seed",
    "a process has one device, set up once": "device mode jit_level max_device_memory deterministic",
    "it changes no figure": "data_workers cache calibrate log_to validation_batch_size checkpoint_frequency "
    "max_to_keep",
    "a trial is trained by one worker": "sync_bn lr_scaling",
    "every trial is measured alike": "do_eval_along_train evaluation_frequency best_by",
    "it ends a run; it makes none better": "target_accuracy target_loss max_training_time",
}
KEYS = ("low", "high", "step", "log", "choices")
RANGE, CHOICES = "{low: 0.001, high: 0.1, log: true}", "[momentum, adamw]"
CALLS = {  # how other programs write a range
    "Azure's and Ray's": "uniform loguniform quniform qloguniform choice randint",
    "Azure's": "normal lognormal",
    "SageMaker's": "ContinuousParameter IntegerParameter CategoricalParameter",
}
THEIRS = {  # keys of other programs -> ours
    "SageMaker's": {"MinValue": "low", "MaxValue": "high", "ScalingType": "log: true", "Values": "choices"},
    "Azure's": {"min_value": "low", "max_value": "high", "type": "low and high, or choices"},
    "Weights & Biases'": {"min": "low", "max": "high", "values": "choices", "distribution": "log: true, or nothing"},
    "NNI's": {"_type": "low and high, or choices", "_value": "low and high, or choices"},
}


def encode(value: Any) -> Any:
    """A value as Optuna stores it: lists and tables as JSON."""
    return value if isinstance(value, str | int | float | None) else json.dumps(value)


def decode(stored: Any) -> Any:
    return json.loads(stored) if isinstance(stored, str) and stored[:1] in ("[", "{") else stored


def suggest(trial: Trial, space: Space) -> dict[str, Any]:
    """A value for each setting, as Optuna's sampler suggests it."""
    for name, kind in space.items():
        if isinstance(kind, CategoricalDistribution):
            trial.suggest_categorical(name, kind.choices)
        elif isinstance(kind, IntDistribution):
            trial.suggest_int(name, kind.low, kind.high, step=kind.step, log=kind.log)
        else:
            trial.suggest_float(name, kind.low, kind.high, step=kind.step, log=kind.log)
    return {name: decode(trial.params[name]) for name in space}


def contains(space: Space, values: Mapping[str, Any]) -> bool:
    """Whether every value is in the range or among the choices of its setting; Optuna checks it in a new trial."""
    try:
        params = {name: encode(values[name]) for name in space}
        create_trial(state=TrialState.WAITING, params=params, distributions=dict(space))
    except (TypeError, ValueError):
        return False
    return True


def grid(space: Space) -> list[dict[str, Any]]:
    """Every combination of the values, as Optuna stores them."""
    axes: list[Any] = []
    for kind in space.values():
        if isinstance(kind, CategoricalDistribution):
            axes.append(kind.choices)
        else:
            step = kind.step or 1
            count = round((kind.high - kind.low) / step) + 1
            axes.append([type(kind.low)(f"{kind.low + number * step:.12g}") for number in range(count)])
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*axes)]


def describe(name: str, kind: Distribution) -> str:
    if isinstance(kind, CategoricalDistribution):
        return f"{name}: one of {', '.join(map(str, kind.choices))}"
    steps = "" if kind.step is None or (isinstance(kind, IntDistribution) and kind.step == 1) else kind.step
    return f"{name}: {kind.low:g} to {kind.high:g}{steps and f', in steps of {steps:g}'}{', log' if kind.log else ''}"


class Range(BaseModel, extra="forbid", strict=True, allow_inf_nan=False):
    low: float
    high: float
    step: float | None = None
    log: bool = False


def read_space(path: str | Path, settings: Settings, sampler: str = "tpe", backbone: bool = False) -> Space:
    """The space of a file, for a config with these settings. Raises ConfigError that lists every problem."""
    path = Path(path)
    lines: dict[str, int] = {}
    content = read_yaml(path, "space", f"lr_max: {RANGE}", lines)
    try:
        return parse(content, settings, sampler, backbone, str(path))
    except ConfigError as error:
        rows = [(name, f"line {lines[name]}: {text}" if name in lines else text) for name, text in error.details]
        raise ConfigError(error.what, details=rows, expected=error.expected, fix=error.fix) from None


def parse(content: Mapping[str, Any], settings: Settings, sampler: str, backbone: bool, source: str) -> Space:
    """The same from the content of a file."""
    space: Space = {}
    problems = [] if content else [("space", "it names no setting")]
    for name, line in content.items():
        try:
            space[str(name)] = read_line(str(name), line)
            check_use(str(name), space[str(name)], content, settings, sampler, backbone)
        except ValidationError as error:
            found = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
            problems.append((str(name), "; ".join(found)))
        except ValueError as error:
            problems.append((str(name), str(error)))
    if problems:
        count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        named = [name for name, _ in problems if name in FIELDS][:3]
        raise ConfigError(
            f"{source} has {count}.",
            details=problems,
            expected=f"one setting per line, such as lr_max: {RANGE}",
            fix=f"correct the file; {command('settings', *named)} prints the ranges" if named else "correct the file",
        )
    return space


def read_line(name: str, line: Any) -> Distribution:
    """The distribution of a line. Raises ValueError that names what is wrong with it."""
    if name not in FIELDS:
        raise ValueError(unknown_setting(name))
    for reason, names in FIXED.items():
        if name in names.split():
            raise ValueError(f"is not searched: {reason}; leave it out")
    call = re.match(r"\s*(?:\w+\.)*(\w+)\s*\(", str(line))
    for program, names in CALLS.items():
        if call and call[1] in names.split():
            ours = CHOICES if "hoice" in call[1] or "Categ" in call[1] else RANGE
            raise ValueError(f"{call[1]}(…) is {program} way to write it; here it is {ours}")
    if isinstance(line, list):
        line = {"choices": line}
    if not isinstance(line, dict):
        raise ValueError(f"{line!r} is one value; search {RANGE} or {CHOICES}, or put the value into the config")
    if strange := [str(key) for key in line if key not in KEYS]:
        theirs = [(key, program, ours[key]) for key in strange for program, ours in THEIRS.items() if key in ours]
        hints = [f"'{key}' is {program} name; here it is {ours}" for key, program, ours in theirs]
        raise ValueError("; ".join(hints) or f"{', '.join(strange)}: the keys are {', '.join(KEYS)}")
    return read_choices(name, line) if "choices" in line else read_range(name, line)


def read_choices(name: str, line: Mapping[str, Any]) -> CategoricalDistribution:
    choices = line["choices"]
    if len(line) > 1:
        raise ValueError("choices exclude low, high, step and log")
    if not isinstance(choices, list):
        raise ValueError(f"{choices!r} is not a list; choices look like {CHOICES}")
    checked = [valid(name, choice) for choice in choices]
    if problems := [problem for _, problem in checked if problem]:
        raise ValueError("; ".join(problems))
    if len({json.dumps(value) for value, _ in checked}) < len(checked):
        raise ValueError("a choice is listed twice")
    return CategoricalDistribution([encode(value) for value, _ in checked])


def read_range(name: str, line: Mapping[str, Any]) -> FloatDistribution | IntDistribution:
    field = FIELDS[name]
    kinds = {kind for kind in (field.annotation, *get_args(field.annotation)) if isinstance(kind, type)}
    if name == "learning_rate_strategy" or not {int, float} & kinds:
        raise ValueError(f"is not a number; list choices instead, such as {CHOICES}")
    limits = Range.model_validate(line)
    if wrong := [f"{key}: {problem}" for key in ("low", "high") if (problem := valid(name, line[key])[1])]:
        raise ValueError("; ".join(wrong))
    low, high, step, log = limits.low, limits.high, limits.step, limits.log
    if low > high:
        raise ValueError(f"low: {low:g} is above high: {high:g}; write low: {high:g}, high: {low:g}")
    kind: FloatDistribution | IntDistribution
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna warns that it lowers `high`; here that is an error, below
        if float in kinds:
            kind = FloatDistribution(low, high, log=log, step=step)
        elif step is None or step == int(step):
            kind = IntDistribution(int(low), int(high), log=log, step=1 if step is None else int(step))
        else:
            raise ValueError(f"step: {step:g} must be an integer above 0")
    if abs(kind.high - high) > 1e-6:
        raise ValueError(
            f"steps of {step:g} from {low:g} do not meet high: {high:g}; high: {kind.high:g} is the last before it"
        )
    return kind


def valid(name: str, value: Any) -> tuple[Any, str]:
    """(the value as the schema takes it, "") or (the value, what is wrong with it)."""
    try:
        content = adapter(name).validate_python(value)
    except ValidationError as error:
        reason = re.sub(r"^Input should be ", "must be ", error.errors()[0]["msg"])
        better = instead(name, value)
        return value, f"{value!r} {reason}{f'; write {better}' if better else ''} ({FIELDS[name].description})"
    return content.model_dump() if hasattr(content, "model_dump") else content, ""


def check_use(
    name: str, kind: Distribution, content: Mapping[str, Any], settings: Settings, sampler: str, backbone: bool
) -> None:
    """Raise ValueError if it makes no sense to search this setting here."""
    if backbone and name in OF_THE_BACKBONE:
        raise ValueError("with --backbone the backbone brings its own; leave it out")
    if sampler == "grid" and isinstance(kind, FloatDistribution) and kind.step is None:
        few = f"between {kind.low:g} and {kind.high:g} are too many"
        raise ValueError(f"--sampler grid tries every value, and {few}; give a step")
    if reasons := [reason for other, reason in idle(name, settings) if other not in content]:
        raise ValueError(f"does nothing here: {reasons[0]}; leave it out")


def idle(name: str, settings: Settings) -> list[tuple[str, str]]:
    """(other setting, reason) for each setting beside which this one does nothing."""
    return [(other, reason) for setting, other, reason in rules.idle(settings) if setting == name]


def contradictory(space: Space, settings: Settings) -> list[str]:
    """A note for each setting of which some values contradict the config: trials with these values will fail."""
    notes = []
    for name, kind in space.items():
        values = kind.choices if isinstance(kind, CategoricalDistribution) else (kind.low, kind.high)
        for value in map(decode, values):
            found = rules.contradictions(settings.model_copy(update={name: value}))
            if found and not rules.contradictions(settings):
                notes.append(f"note: {found[0][1]}; trials with such values fail, the sweep continues")
                break
    return notes
