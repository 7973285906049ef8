"""What settings have to do with each other: contradictions, and settings that do nothing beside another one.

A contradiction is a function that yields (the setting that is named, what is wrong); adding one is adding it to
CONTRADICTIONS.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mslab import schedule
from mslab.config.schema import FIELDS, Settings

Problem = tuple[str, str]
ADAMS = ("adam", "adamw", "radam", "lamb")


def fill(config: dict[str, Any], given: Mapping[str, Any]) -> None:
    """What one setting says about others that were not given: the kind of schedule, and its epochs."""
    if not {"lr_scheduler", "learning_rate_strategy", "lr_scheduler_step", "epochs"} <= set(config):
        return
    strategy = config["learning_rate_strategy"]
    if strategy and not schedule.problem(strategy):
        phases = schedule.parse(strategy)
        if config["lr_scheduler"] is None:
            config["lr_scheduler"] = "strategy" if phases[0].end else "plateau"
        if phases[-1].end and "epochs" not in given:
            config["epochs"] = phases[-1].end
    elif config["lr_scheduler"] is None:
        config["lr_scheduler"] = "step" if config["lr_scheduler_step"] else "warmup_cosine"


# --- contradictions --------------------------------------------------------------------------------------------------


def warmup(s: Settings) -> Iterator[Problem]:
    if s.lr_scheduler == "strategy" or _is_number(s.learning_rate_strategy):
        return
    if s.warmup_epochs > s.epochs:
        text = f"warmup_epochs: {s.warmup_epochs} is above epochs: {s.epochs}; lr_max would never come near"
        yield "warmup_epochs", text


def rates_in_order(s: Settings) -> Iterator[Problem]:
    if s.lr_scheduler != "strategy" and s.warmup_epochs > 0 and s.lr_init > s.lr_max:
        text = f"lr_init: {s.lr_init} is above lr_max: {s.lr_max}; warmup rises from the first to the second"
        yield "lr_init", text
    if s.lr_scheduler in ("warmup_cosine", "one_cycle") and s.lr_end > s.lr_max:
        yield "lr_end", f"lr_end: {s.lr_end} is above lr_max: {s.lr_max}; the cosine falls"


def strategy(s: Settings) -> Iterator[Problem]:
    asked, kind = s.learning_rate_strategy, s.lr_scheduler
    if not asked:
        if kind == "strategy":
            text = "lr_scheduler: strategy needs learning_rate_strategy, such as 2:0.01->0.1,12:0.1~>0.001"
            yield "lr_scheduler", text
        return
    if problem := schedule.problem(asked):
        yield "learning_rate_strategy", problem
        return
    if kind not in (None, "plateau" if _is_number(asked) else "strategy"):
        text = f"lr_scheduler: {kind} and learning_rate_strategy: {asked} are two schedules; give one"
        yield "lr_scheduler", text
    end = schedule.parse(asked)[-1].end
    if kind == "strategy" and end != s.epochs:
        text = f"it ends with epoch {end}, the run has epochs: {s.epochs}; a schedule is as long as its run"
        yield "learning_rate_strategy", text


def steps_of_the_rate(s: Settings) -> Iterator[Problem]:
    if not (asked := s.lr_scheduler_step):
        return
    epochs = [int(part) for part in asked.split(",")]
    if s.lr_scheduler not in (None, "step"):
        text = f"lr_scheduler_step: {asked} belongs to lr_scheduler: step, here it is {s.lr_scheduler}"
        yield "lr_scheduler_step", text
    if epochs != sorted(set(epochs)):
        yield "lr_scheduler_step", f"lr_scheduler_step: {asked} must rise from epoch to epoch"
    if max(epochs) >= s.epochs:
        yield "lr_scheduler_step", f"lr_scheduler_step: {asked}: nothing is trained after epochs: {s.epochs}"


def nothing_to_look_at(s: Settings) -> Iterator[Problem]:
    watching = [name for name in ("early_stopping", "target_accuracy", "target_loss") if getattr(s, name)]
    watching += ["lr_scheduler: plateau"] * (s.lr_scheduler == "plateau")
    if watching and not s.do_eval_along_train:
        text = f"do_eval_along_train: False leaves {', '.join(watching)} nothing to look at"
        yield "do_eval_along_train", text


def crop_in_the_image(s: Settings) -> Iterator[Problem]:
    resize, crop = s.valid_resize_size or s.image_size, s.valid_crop_size or s.image_size
    if crop > resize:
        text = f"valid_crop_size: {crop} is above valid_resize_size: {resize}; the border would be black"
        yield "valid_crop_size", text


def one_way_to_weigh(s: Settings) -> Iterator[Problem]:
    if s.weighted_loss and s.label_balance:
        text = f"weighted_loss: {s.weighted_loss} and label_balance both let rare classes count more; give one"
        yield "weighted_loss", text


def one_way_to_freeze(s: Settings) -> Iterator[Problem]:
    if (s.freeze == "all") + bool(s.layers_to_freeze) + bool(s.freeze_layer_pattern) > 1:
        yield (
            "freeze",
            f"freeze: {s.freeze}, layers_to_freeze: {s.layers_to_freeze} and freeze_layer_pattern: "
            f"{s.freeze_layer_pattern} are three ways to say one thing; give one",
        )


def pattern_compiles(s: Settings) -> Iterator[Problem]:
    pattern = s.freeze_layer_pattern
    if pattern is None:
        return
    try:
        re.compile(pattern or "(")  # an empty one would find everything
    except re.error:
        yield "freeze_layer_pattern", f"freeze_layer_pattern: {pattern!r} is no regular expression"


def one_stem(s: Settings) -> Iterator[Problem]:
    if s.stem and s.profile and s.stem != s.profile.stem:
        yield "stem", f"stem: {s.stem} and profile: {{stem: {s.profile.stem}}} are not the same network"


def something_to_divide_by(s: Settings) -> Iterator[Problem]:
    if min(s.std) <= 0:
        yield "std", f"std: {s.std} must be above 0 in every channel; images are divided by it"


def two_data_sets(s: Settings) -> Iterator[Problem]:
    if Path(s.train_data).resolve() == Path(s.val_data).resolve():
        text = f"train_data and val_data are both {s.train_data}; accuracy on images trained on says nothing"
        yield "train_data", text


CONTRADICTIONS: list[Callable[[Settings], Iterable[Problem]]] = [
    warmup,
    rates_in_order,
    strategy,
    steps_of_the_rate,
    nothing_to_look_at,
    crop_in_the_image,
    one_way_to_weigh,
    one_way_to_freeze,
    pattern_compiles,
    one_stem,
    something_to_divide_by,
    two_data_sets,
]


def contradictions(settings: Settings) -> list[Problem]:
    """All that is wrong with settings that are each right by itself."""
    found: list[Problem] = []
    for rule in CONTRADICTIONS:
        try:
            found += rule(settings)
        except AttributeError:
            if is_whole(settings):
                raise
    return found


def is_whole(settings: Settings) -> bool:
    """Whether every setting is there. Of those that are not, something is said already, and rules stay silent."""
    return vars(settings).keys() >= FIELDS.keys()


# --- settings that do nothing ----------------------------------------------------------------------------------------


def _is_number(strategy: str | None) -> bool:
    """Whether a strategy is a number alone, which plateau lowers."""
    return strategy is not None and not schedule.problem(strategy) and not schedule.parse(strategy)[0].end


# (settings, the other, {settings} -> True where they do nothing, why)
IDLE: list[tuple[str, str, Callable[[Settings], bool], str]] = [
    (
        "lr_init lr_max lr_end warmup_epochs",
        "learning_rate_strategy",
        lambda s: s.lr_scheduler == "strategy",
        "the strategy says it all",
    ),
    (
        "lr_max warmup_epochs lr_init",
        "learning_rate_strategy",
        lambda s: _is_number(s.learning_rate_strategy),
        "that is the rate from the first step on",
    ),
    ("lr_init", "warmup_epochs", lambda s: s.warmup_epochs == 0, "there is no warmup to start from it"),
    (
        "lr_end",
        "lr_scheduler",
        lambda s: s.lr_scheduler in ("step", "constant", "plateau"),
        "the rate falls along no cosine",
    ),
    ("cosine_cycles", "lr_scheduler", lambda s: s.lr_scheduler != "warmup_cosine", "there is no cosine of cycles"),
    (
        "step_lr_gamma step_lr_step_size",
        "lr_scheduler",
        lambda s: s.lr_scheduler != "step",
        "the rate does not fall in steps",
    ),
    (
        "step_lr_gamma step_lr_step_size",
        "lr_scheduler_step",
        lambda s: bool(s.lr_scheduler_step),
        "these are the steps, lr_scheduler_factor is the factor",
    ),
    (
        "lr_scheduler_factor",
        "lr_scheduler",
        lambda s: s.lr_scheduler != "plateau" and not s.lr_scheduler_step,
        "it belongs to lr_scheduler_step and to plateau",
    ),
    ("plateau_patience lr_floor", "lr_scheduler", lambda s: s.lr_scheduler != "plateau", "it belongs to plateau"),
    ("momentum nesterov", "optimizer", lambda s: s.optimizer != "momentum", "it is SGD with momentum's"),
    ("beta1 beta2", "optimizer", lambda s: s.optimizer not in ADAMS, f"it belongs to {', '.join(ADAMS)}"),
    ("amsgrad", "optimizer", lambda s: s.optimizer not in ("adam", "adamw"), "it belongs to adam and adamw"),
    (
        "early_stopping_patience early_stopping_delay early_stopping_min_epochs early_stopping_tolerance",
        "early_stopping",
        lambda s: not s.early_stopping,
        "nothing ends early",
    ),
    (
        "evaluation_frequency",
        "do_eval_along_train",
        lambda s: not s.do_eval_along_train,
        "the last epoch alone is measured",
    ),
    ("std", "transform_normalize", lambda s: not s.transform_normalize, "images are not divided"),
    ("deterministic", "device", lambda s: s.device == "cpu", "a run repeats bit for bit as it is"),
    (
        "image_size",
        "train_crop_size",
        lambda s: bool(s.train_crop_size and s.valid_resize_size and s.valid_crop_size),
        "and valid_resize_size and valid_crop_size, all sizes are given",
    ),
]


def idle(settings: Settings) -> list[tuple[str, str, str]]:
    """(setting, the other, why) of each that does nothing in these settings, as often as there are reasons."""
    rows = []
    for names, other, does_nothing, why in IDLE:
        try:
            if does_nothing(settings):
                rows += [(name, other, f"with {other}: {getattr(settings, other)} {why}") for name in names.split()]
        except AttributeError:
            if is_whole(settings):
                raise
    return rows
