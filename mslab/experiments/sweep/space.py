"""A space file: which settings a sweep tries, and between what.

lr_max: {low: 0.001, high: 0.1, log: true}                  a number between two; log: as many below 0.01 as above
label_smoothing: {low: 0, high: 0.2, step: 0.05}            0, 0.05, 0.1, 0.15 or 0.2
optimizer: [momentum, adamw]                                one of these; {choices: [momentum, adamw]} is the same
"""

import itertools
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mslab.config import FIELDS, Settings, read_yaml, rules
from mslab.config.loading import unknown_setting
from mslab.errors import ConfigError

# settings in which trials may not differ -> why
FIXED = {
    **dict.fromkeys(("train_data", "val_data", "class_num"), "trials on other images do not compare"),
    "seed": "the best seed says nothing about the next run; mslab repeat CONFIG --seeds 5 measures what seeds do",
    **dict.fromkeys(("device", "mode", "jit_level"), "a process has one device, set up once"),
    **dict.fromkeys(("max_device_memory", "deterministic"), "a process has one device, set up once"),
    **dict.fromkeys(("data_workers", "cache", "log_to", "validation_batch_size"), "it changes no figure"),
    **dict.fromkeys(("checkpoint_frequency", "max_to_keep"), "it changes no figure"),
    **dict.fromkeys(("sync_bn", "lr_scaling"), "a trial is trained by one worker"),
    **dict.fromkeys(("do_eval_along_train", "evaluation_frequency"), "every trial is measured alike"),
    **dict.fromkeys(("target_accuracy", "target_loss", "max_training_time"), "it ends a run; it makes none better"),
}
OF_THE_BACKBONE = ("stages", "profile", "stem", "mean", "std")
KEYS = ("low", "high", "step", "log", "choices")
LINE = "{low: 0.001, high: 0.1, log: true}, or [one, another]"

# how others write a range -> whose it is
CALLS = {
    **dict.fromkeys(("uniform", "loguniform", "quniform", "qloguniform", "choice", "randint"), "Azure's and Ray's"),
    **dict.fromkeys(("normal", "lognormal"), "Azure's"),
    **dict.fromkeys(("ContinuousParameter", "IntegerParameter", "CategoricalParameter"), "SageMaker's"),
}
THEIRS = {  # key -> (whose, ours)
    "MinValue": ("SageMaker's", "low"),
    "MaxValue": ("SageMaker's", "high"),
    "ScalingType": ("SageMaker's", "log: true"),
    "Values": ("SageMaker's", "choices"),
    "min_value": ("Azure's", "low"),
    "max_value": ("Azure's", "high"),
    "min": ("Weights & Biases'", "low"),
    "max": ("Weights & Biases'", "high"),
    "values": ("Weights & Biases'", "choices"),
    "distribution": ("Weights & Biases'", "log: true where it is a logarithmic one"),
    "type": ("Azure's", "low and high, or choices"),
    "_type": ("NNI's", "low and high, or choices"),
    "_value": ("NNI's", "low and high, or choices"),
}


@dataclass(frozen=True)
class Knob:
    """One setting of a space: `choices`, or the numbers from `low` to `high`."""

    name: str
    choices: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False
    whole: bool = False

    def suggest(self, trial: Any) -> Any:
        """Ask an Optuna trial for a value."""
        if self.choices:  # a database keeps plain values only: lists and tables go there as JSON
            labels = [label(choice) for choice in self.choices]
            return self.choices[labels.index(trial.suggest_categorical(self.name, labels))]
        if self.whole:
            return trial.suggest_int(self.name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.log)

    def holds(self, value: Any) -> bool:
        """Whether a sweep of this knob could come to the value."""
        if self.choices:
            return json.dumps(value) in [json.dumps(choice) for choice in self.choices]
        if not isinstance(value, int | float) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return abs(steps - round(steps)) < 1e-6

    def points(self) -> list[Any]:
        """Every value of a knob with choices or a step."""
        if self.choices:
            return list(self.choices)
        count = round((self.high - self.low) / (self.step or 1))
        values = [self.low + number * (self.step or 1) for number in range(count + 1)]
        return [int(value) if self.whole else float(f"{value:.12g}") for value in values]

    def __str__(self) -> str:
        if self.choices:
            return f"{self.name}: one of {', '.join(str(label(choice)) for choice in self.choices)}"
        ways = f", in steps of {self.step:g}" if self.step else ""
        return f"{self.name}: {self.low:g} to {self.high:g}{ways}{', log' if self.log else ''}"


def label(choice: Any) -> Any:
    """The choice as a database keeps it."""
    return choice if isinstance(choice, str | int | float | None) else json.dumps(choice)


def grid(space: list[Knob]) -> list[dict[str, Any]]:
    """Every combination, as {setting: value}; a database keeps the choices as labels."""
    every = itertools.product(*(knob.points() for knob in space))
    return [dict(zip([knob.name for knob in space], values, strict=True)) for values in every]


def read_space(path: str | Path, settings: Settings, sampler: str = "tpe", backbone: bool = False) -> list[Knob]:
    """The knobs of a file, for a config with these settings. Raises ConfigError that lists every problem."""
    if not Path(path).is_file():
        near = sorted(str(file) for file in Path(path).parent.glob("*space*.yaml"))
        fix = f"one of {', '.join(near)}" if near else "give the path of a YAML file; mslab new FOLDER writes one"
        raise ConfigError(
            f"There is no space file {path}.", expected=f"a YAML file, a setting a line: lr_max: {LINE}", fix=fix
        )
    return parse(read_yaml(Path(path)), settings, sampler, backbone, str(path))


def parse(content: Mapping[str, Any], settings: Settings, sampler: str, backbone: bool, where: str) -> list[Knob]:
    """The same of a file's content."""
    knobs, problems = [], []
    for name, line in content.items():
        knob, found = read_line(str(name), line)
        if found is None and knob is not None:
            found = misplaced(knob, content, settings, sampler, backbone)
        if found is not None:
            problems.append((str(name), found))
        elif knob is not None:
            knobs.append(knob)
    if not content:
        problems.append(("space", "it names no setting"))
    if problems:
        count = f"{len(problems)} problems" if len(problems) > 1 else "1 problem"
        raise ConfigError(
            f"{where} has {count}.",
            details=problems,
            expected=f"a setting a line, such as lr_max: {LINE}",
            fix="correct the file; the project's docs/sweep.md has an example, docs/settings.md each range",
        )
    return knobs


def misplaced(knob: Knob, content: Mapping[str, Any], settings: Settings, sampler: str, backbone: bool) -> str | None:
    """Why a sweep of this setting makes no sense here; None where it does."""
    if backbone and knob.name in OF_THE_BACKBONE:
        return "with --backbone the backbone brings its own; leave it out"
    if sampler == "grid" and not knob.choices and knob.step is None:
        return f"--sampler grid tries every value, and between {knob.low:g} and {knob.high:g} are too many; give a step"
    reasons = [text for other, text in idle(knob.name, settings) if other not in content]
    return f"does nothing here: {reasons[0]}; leave it out" if reasons else None


def idle(name: str, settings: Settings) -> list[tuple[str, str]]:
    """(the other setting, why) of each reason for which a setting does nothing beside the others."""
    return [(other, text) for own, other, text in rules.idle(settings) if own == name]


def contradicting(space: list[Knob], settings: Settings) -> list[str]:
    """A line for each knob of which some values contradict the config's other settings: those trials will fail."""
    lines = []
    for knob in space:
        for value in knob.choices or (knob.low, knob.high):
            found = rules.contradictions(settings.model_copy(update={knob.name: value}))
            if found and not rules.contradictions(settings):
                lines.append(f"note: {found[0][1]}; trials with such values fail, the sweep goes on")
                break
    return lines


def read_line(name: str, line: Any) -> tuple[Knob | None, str | None]:
    """(the knob, None) or (None, what is wrong with its line)."""
    if name not in FIELDS:
        return None, unknown_setting(name)
    if name in FIXED:
        return None, f"is not searched: {FIXED[name]}; leave it out"
    if isinstance(line, str) and (call := re.match(r"\s*(?:\w+\.)*(\w+)\s*\(", line)) and call[1] in CALLS:
        ours = "[one, another]" if "hoice" in call[1] or "Categ" in call[1] else "{low: 0.001, high: 0.1, log: true}"
        return None, f"{call[1]}(…) is {CALLS[call[1]]} way to write it; here it is {ours}"
    if isinstance(line, list):
        line = {"choices": line}
    if not isinstance(line, dict):
        return None, f"{line!r} is one value; {LINE} is what can be searched, and a fixed value goes into the config"
    if strange := [str(key) for key in line if key not in KEYS]:
        hints = [f"'{k}' is {THEIRS[k][0]} name; here it is {THEIRS[k][1]}" for k in strange if k in THEIRS]
        return None, "; ".join(hints) or f"{', '.join(strange)}: the words are {', '.join(KEYS)}"
    if "choices" in line:
        return read_choices(name, line)
    return read_range(name, line)


def read_choices(name: str, line: Mapping[str, Any]) -> tuple[Knob | None, str | None]:
    choices = line["choices"]
    if len(line) > 1:
        return None, "choices stand alone, without low, high, step and log"
    if not isinstance(choices, list) or not choices:
        return None, "the list is empty; name what to choose among" if choices == [] else f"{choices!r} is no list"
    values, wrong = [], []
    for choice in choices:
        value, problem = valid(name, choice)
        values.append(value)
        wrong += [problem] if problem else []
    if wrong:
        return None, "; ".join(wrong)
    if len({json.dumps(value) for value in values}) < len(values):
        return None, "a choice is listed twice"
    return Knob(name, choices=tuple(values)), None


def read_range(name: str, line: Mapping[str, Any]) -> tuple[Knob | None, str | None]:
    kinds = {kind for kind in (FIELDS[name].annotation, *get_args(FIELDS[name].annotation)) if isinstance(kind, type)}
    low, high, step, log = line.get("low"), line.get("high"), line.get("step"), line.get("log", False)
    if name == "learning_rate_strategy" or not {int, float} & kinds:
        return None, "is no number; list what to choose among: [one, another]"
    numbers = {"low": low, "high": high} | ({"step": step} if step is not None else {})
    wrong = [f"{key} is missing" for key in ("low", "high") if line.get(key) is None]
    wrong += [
        f"{key}: {value!r} is no number"
        for key, value in numbers.items()
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float))
    ]
    if not isinstance(log, bool):
        wrong.append(f"log: {log!r} is neither true nor false")
    if wrong:
        return None, "; ".join(wrong)
    wrong = [f"{key}: {problem}" for key in ("low", "high") if (problem := valid(name, line[key])[1])]
    whole = float not in kinds
    low, high = float(low), float(high)  # type: ignore[arg-type]
    if low > high:
        wrong.append(f"low: {low:g} is above high: {high:g}")
    if log and low <= 0:
        wrong.append(f"log needs a low above 0, it is {low:g}")
    if log and step is not None:
        wrong.append("log and step do not go together; list the values: [0.001, 0.01, 0.1]")
    if step is not None and (step <= 0 or (whole and step != int(step))):
        wrong.append(f"step: {step:g} must be {'a whole number ' if whole else ''}above 0")
    elif step is not None and low < high and abs((high - low) / step - round((high - low) / step)) > 1e-6:
        last = low + math.floor((high - low) / step) * step
        wrong.append(f"steps of {step:g} from {low:g} do not meet high: {high:g}; high: {last:g} is the last before it")
    if wrong:
        return None, "; ".join(wrong)
    return Knob(name, low=low, high=high, step=step and float(step), log=log, whole=whole), None


def valid(name: str, value: Any) -> tuple[Any, str]:
    """(the value as the schema takes it, "") or (the value, what is wrong with it)."""
    field = FIELDS[name]
    kind: Any = field.annotation
    for limit in field.metadata:
        kind = Annotated[kind, limit]
    try:
        adapter = TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False))
    except Exception:  # a setting that is a table of its own takes no config
        adapter = TypeAdapter(kind)
    try:
        taken = adapter.validate_python(value)
    except ValidationError as error:
        reason = re.sub(r"^Input should be ", "must be ", error.errors()[0]["msg"])
        return value, f"{value!r} {reason} ({field.description})"
    return taken.model_dump() if hasattr(taken, "model_dump") else taken, ""
