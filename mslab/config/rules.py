"""What settings have to do with each other: contradictions, and settings that do nothing beside another one."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mslab import schedule


def _compiles(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except re.error:
        return False
    return bool(pattern)


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


def _bare(strategy: str | None) -> bool:
    """Whether it is a number alone, which plateau lowers."""
    return strategy is not None and not schedule.problem(strategy) and not schedule.parse(strategy)[0].end


def _epochs(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _sizes(c: Mapping[str, Any]) -> tuple[int, int]:
    return c["valid_resize_size"] or c["image_size"], c["valid_crop_size"] or c["image_size"]


def _ends(c: Mapping[str, Any]) -> list[str]:
    """The settings that look at the evaluations of a run."""
    chosen = [name for name in ("early_stopping", "target_accuracy", "target_loss") if c[name]]
    return chosen + ["lr_scheduler: plateau"] * (c["lr_scheduler"] == "plateau")


# contradictions: (the setting that is named, {settings} -> what to say, or "")
CONTRADICTIONS: list[tuple[str, Callable[[Mapping[str, Any]], Any]]] = [
    (
        "warmup_epochs",
        lambda c: (
            c["lr_scheduler"] != "strategy"
            and not _bare(c["learning_rate_strategy"])
            and c["warmup_epochs"] > c["epochs"]
            and f"warmup_epochs: {c['warmup_epochs']} is above epochs: {c['epochs']}; lr_max would never come near"
        ),
    ),
    (
        "lr_init",
        lambda c: (
            c["lr_scheduler"] != "strategy"
            and c["warmup_epochs"] > 0
            and c["lr_init"] > c["lr_max"]
            and f"lr_init: {c['lr_init']} is above lr_max: {c['lr_max']}; warmup rises from the first to the second"
        ),
    ),
    (
        "lr_end",
        lambda c: (
            c["lr_scheduler"] in ("warmup_cosine", "one_cycle")
            and c["lr_end"] > c["lr_max"]
            and f"lr_end: {c['lr_end']} is above lr_max: {c['lr_max']}; the cosine falls"
        ),
    ),
    (
        "learning_rate_strategy",
        lambda c: c["learning_rate_strategy"] and schedule.problem(c["learning_rate_strategy"]),
    ),
    (
        "learning_rate_strategy",
        lambda c: (
            c["lr_scheduler"] == "strategy"
            and c["learning_rate_strategy"]
            and not schedule.problem(c["learning_rate_strategy"])
            and schedule.parse(c["learning_rate_strategy"])[-1].end != c["epochs"]
            and f"it ends with epoch {schedule.parse(c['learning_rate_strategy'])[-1].end}, the run has epochs: "
            f"{c['epochs']}; a schedule is as long as its run"
        ),
    ),
    (
        "lr_scheduler",
        lambda c: (
            c["learning_rate_strategy"]
            and c["lr_scheduler"] not in (None, "plateau" if _bare(c["learning_rate_strategy"]) else "strategy")
            and not schedule.problem(c["learning_rate_strategy"])
            and f"lr_scheduler: {c['lr_scheduler']} and learning_rate_strategy: {c['learning_rate_strategy']} are two "
            "schedules; give one"
        ),
    ),
    (
        "lr_scheduler",
        lambda c: (
            c["lr_scheduler"] == "strategy"
            and not c["learning_rate_strategy"]
            and "lr_scheduler: strategy needs learning_rate_strategy, such as 2:0.01->0.1,12:0.1~>0.001"
        ),
    ),
    (
        "lr_scheduler_step",
        lambda c: (
            c["lr_scheduler_step"]
            and c["lr_scheduler"] not in (None, "step")
            and f"lr_scheduler_step: {c['lr_scheduler_step']} belongs to lr_scheduler: step, here it is "
            f"{c['lr_scheduler']}"
        ),
    ),
    (
        "lr_scheduler_step",
        lambda c: (
            c["lr_scheduler_step"]
            and _epochs(c["lr_scheduler_step"]) != sorted(set(_epochs(c["lr_scheduler_step"])))
            and f"lr_scheduler_step: {c['lr_scheduler_step']} must rise from epoch to epoch"
        ),
    ),
    (
        "lr_scheduler_step",
        lambda c: (
            c["lr_scheduler_step"]
            and max(_epochs(c["lr_scheduler_step"])) >= c["epochs"]
            and f"lr_scheduler_step: {c['lr_scheduler_step']}: nothing is trained after epochs: {c['epochs']}"
        ),
    ),
    (
        "do_eval_along_train",
        lambda c: (
            not c["do_eval_along_train"]
            and _ends(c)
            and f"do_eval_along_train: False leaves {', '.join(_ends(c))} nothing to look at"
        ),
    ),
    (
        "valid_crop_size",
        lambda c: (
            _sizes(c)[1] > _sizes(c)[0]
            and f"valid_crop_size: {_sizes(c)[1]} is above valid_resize_size: {_sizes(c)[0]}; the border would be black"
        ),
    ),
    (
        "weighted_loss",
        lambda c: (
            c["weighted_loss"]
            and c["label_balance"]
            and f"weighted_loss: {c['weighted_loss']} and label_balance both let rare classes count more; give one"
        ),
    ),
    (
        "freeze",
        lambda c: (
            (c["freeze"] == "all") + bool(c["layers_to_freeze"]) + bool(c["freeze_layer_pattern"]) > 1
            and f"freeze: {c['freeze']}, layers_to_freeze: {c['layers_to_freeze']} and freeze_layer_pattern: "
            f"{c['freeze_layer_pattern']} are three ways to say one thing; give one"
        ),
    ),
    (
        "freeze_layer_pattern",
        lambda c: (
            c["freeze_layer_pattern"] is not None
            and not _compiles(c["freeze_layer_pattern"])
            and f"freeze_layer_pattern: {c['freeze_layer_pattern']!r} is no regular expression"
        ),
    ),
    (
        "stem",
        lambda c: (
            c["stem"]
            and c["profile"]
            and c["stem"] != c["profile"].get("stem")
            and f"stem: {c['stem']} and profile: {{stem: {c['profile'].get('stem')}}} are not the same network"
        ),
    ),
    (
        "std",
        lambda c: min(c["std"]) <= 0 and f"std: {c['std']} must be above 0 in every channel; images are divided by it",
    ),
    (
        "train_data",
        lambda c: (
            Path(c["train_data"]).resolve() == Path(c["val_data"]).resolve()
            and f"train_data and val_data are both {c['train_data']}; accuracy on images trained on says nothing"
        ),
    ),
]

ADAMS = ("adam", "adamw", "radam", "lamb")
SCHEDULES = "lr_init lr_max lr_end warmup_epochs"
# settings that do nothing beside another one: (settings, the other, {settings} -> True where they do nothing, why)
IDLE: list[tuple[str, str, Callable[[Mapping[str, Any]], bool], str]] = [
    (SCHEDULES, "learning_rate_strategy", lambda c: c["lr_scheduler"] == "strategy", "the strategy says it all"),
    (
        "lr_max warmup_epochs lr_init",
        "learning_rate_strategy",
        lambda c: _bare(c["learning_rate_strategy"]),
        "that is the rate from the first step on",
    ),
    ("lr_init", "warmup_epochs", lambda c: c["warmup_epochs"] == 0, "there is no warmup to start from it"),
    (
        "lr_end",
        "lr_scheduler",
        lambda c: c["lr_scheduler"] in ("step", "constant", "plateau"),
        "the rate falls along no cosine",
    ),
    ("cosine_cycles", "lr_scheduler", lambda c: c["lr_scheduler"] != "warmup_cosine", "there is no cosine of cycles"),
    (
        "step_lr_gamma step_lr_step_size",
        "lr_scheduler",
        lambda c: c["lr_scheduler"] != "step",
        "the rate does not fall in steps",
    ),
    (
        "step_lr_gamma step_lr_step_size",
        "lr_scheduler_step",
        lambda c: bool(c["lr_scheduler_step"]),
        "these are the steps, lr_scheduler_factor is the factor",
    ),
    (
        "lr_scheduler_factor",
        "lr_scheduler",
        lambda c: c["lr_scheduler"] != "plateau" and not c["lr_scheduler_step"],
        "it belongs to lr_scheduler_step and to plateau",
    ),
    ("plateau_patience lr_floor", "lr_scheduler", lambda c: c["lr_scheduler"] != "plateau", "it belongs to plateau"),
    ("momentum nesterov", "optimizer", lambda c: c["optimizer"] != "momentum", "it is SGD with momentum's"),
    ("beta1 beta2", "optimizer", lambda c: c["optimizer"] not in ADAMS, f"it belongs to {', '.join(ADAMS)}"),
    ("amsgrad", "optimizer", lambda c: c["optimizer"] not in ("adam", "adamw"), "it belongs to adam and adamw"),
    (
        "early_stopping_patience early_stopping_delay early_stopping_min_epochs early_stopping_tolerance",
        "early_stopping",
        lambda c: not c["early_stopping"],
        "nothing ends early",
    ),
    (
        "evaluation_frequency",
        "do_eval_along_train",
        lambda c: not c["do_eval_along_train"],
        "the last epoch alone is measured",
    ),
    ("std", "transform_normalize", lambda c: not c["transform_normalize"], "images are not divided"),
    ("deterministic", "device", lambda c: c["device"] == "cpu", "a run repeats bit for bit as it is"),
    (
        "image_size",
        "train_crop_size",
        lambda c: all(c[name] for name in ("train_crop_size", "valid_resize_size", "valid_crop_size")),
        "and valid_resize_size and valid_crop_size, all sizes are given",
    ),
]
