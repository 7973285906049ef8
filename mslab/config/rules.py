"""Rules between settings: contradictions, and settings that do nothing beside another one.

A contradiction is a function in the list CONTRADICTIONS that yields (name of the setting, what is wrong with it, the
KEY=VALUE that ends it, or "" where none does). Its text names settings as "name: value", and begins with the first.
"""

import contextlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mslab import schedule
from mslab.config import tasks
from mslab.config.schema import FIELDS, Settings
from mslab.escaping import quoted

Problem = tuple[str, str]
Clash = tuple[str, str, str]
SHOWN = 3  # data sets in a message
ADAMS = ("adam", "adamw", "radam", "lamb")


def fill_schedule(config: dict[str, Any], values: Mapping[str, Any]) -> None:
    """Set lr_scheduler and epochs from a strategy or a list of steps, unless `values` contains them."""
    if not {"lr_scheduler", "learning_rate_strategy", "lr_scheduler_step", "epochs"} <= set(config):
        return
    strategy = config["learning_rate_strategy"]
    if strategy and not schedule.problem(strategy):
        phases = schedule.parse(strategy)
        if config["lr_scheduler"] is None:
            config["lr_scheduler"] = "strategy" if phases[0].end else "plateau"
        if phases[-1].end and "epochs" not in values:
            config["epochs"] = phases[-1].end
    elif config["lr_scheduler"] is None:
        config["lr_scheduler"] = "step" if config["lr_scheduler_step"] else "warmup_cosine"


# --- contradictions --------------------------------------------------------------------------------------------------


def warmup_fits_run(s: Settings) -> Iterator[Clash]:
    if s.lr_scheduler == "strategy" or _is_number(s.learning_rate_strategy):
        return
    if s.warmup_epochs > s.epochs:
        text = f"warmup_epochs: {s.warmup_epochs:g} is above epochs: {s.epochs}; the rate would never reach lr_max"
        yield "warmup_epochs", text, f"warmup_epochs={s.epochs / 2:g}"


def rates_in_order(s: Settings) -> Iterator[Clash]:
    if s.lr_scheduler != "strategy" and s.warmup_epochs > 0 and s.lr_init > s.lr_max:
        text = f"lr_init: {s.lr_init} is above lr_max: {s.lr_max}; warmup rises from the first to the second"
        yield "lr_init", text, f"lr_init={s.lr_max / 10:g}"
    if s.lr_scheduler in ("warmup_cosine", "one_cycle") and s.lr_end > s.lr_max:
        yield "lr_end", f"lr_end: {s.lr_end} is above lr_max: {s.lr_max}; the cosine falls", "lr_end=0"


def strategy_fits_run(s: Settings) -> Iterator[Clash]:
    requested, kind = s.learning_rate_strategy, s.lr_scheduler
    if not requested:
        if kind == "strategy":
            text = "lr_scheduler: strategy needs learning_rate_strategy, such as 2:0.01->0.1,12:0.1~>0.001"
            yield "lr_scheduler", text, "lr_scheduler=null"
        return
    if problem := schedule.problem(requested):
        yield "learning_rate_strategy", problem, ""
        return
    if kind not in (None, "plateau" if _is_number(requested) else "strategy"):
        text = f"lr_scheduler: {kind} and learning_rate_strategy: {requested} are two schedules; set only one"
        yield "lr_scheduler", text, "lr_scheduler=null"
    end = schedule.parse(requested)[-1].end
    if kind == "strategy" and end != s.epochs:
        text = f"the strategy ends with epoch {end}, but the run has epochs: {s.epochs}; both have to be equal"
        yield "learning_rate_strategy", text, f"epochs={end}"


def lr_steps_in_order(s: Settings) -> Iterator[Clash]:
    if not (steps := s.lr_scheduler_step):
        return
    epochs = [int(part) for part in steps.split(",")]
    better = ",".join(str(epoch) for epoch in sorted(set(epochs)) if epoch < s.epochs) or "null"
    if s.lr_scheduler not in (None, "step"):
        text = f"lr_scheduler_step: {steps} needs lr_scheduler: step, not {s.lr_scheduler}"
        yield "lr_scheduler_step", text, "lr_scheduler=step"
    if epochs != sorted(set(epochs)):
        text = f"lr_scheduler_step: {steps} must list epochs in increasing order"
        yield "lr_scheduler_step", text, f"lr_scheduler_step={better}"
    if max(epochs) >= s.epochs:
        text = f"lr_scheduler_step: {steps}: nothing is trained after epochs: {s.epochs}"
        yield "lr_scheduler_step", text, f"lr_scheduler_step={better}"


def evaluation_for_stopping(s: Settings) -> Iterator[Clash]:
    watching = [name for name in ("early_stopping", "target_accuracy", "target_loss") if getattr(s, name)]
    watching += ["lr_scheduler: plateau"] * (s.lr_scheduler == "plateau")
    if watching and not s.do_eval_along_train:
        text = f"do_eval_along_train: False gives {', '.join(watching)} no evaluations to act on"
        yield "do_eval_along_train", text, "do_eval_along_train=true"


def engine_fits(s: Settings) -> Iterator[Clash]:
    if s.precision == "bf16" and s.engine != "openvino":
        text = f"precision: bf16 needs engine: openvino, not {s.engine}; the precision of training is amp_level"
        yield "precision", text, "engine=openvino"
    if s.engine in ("onnxruntime", "openvino") and s.device in ("gpu", "ascend"):
        text = f"engine: {s.engine} runs on the CPU only, not on device: {s.device}"
        yield "engine", text, "engine=mindspore"


def crop_fits_image(s: Settings) -> Iterator[Clash]:
    resize, crop = s.valid_resize_size or s.image_size, s.valid_crop_size or s.image_size
    if crop > resize:
        text = f"valid_crop_size: {crop} is above valid_resize_size: {resize}; the border would be black"
        yield "valid_crop_size", text, f"valid_crop_size={resize}"
    elif crop < resize and s.resize_mode != "crop":
        text = f"resize_mode: {s.resize_mode} evaluates all of an image, and valid_resize_size: {resize} beside "
        yield "resize_mode", f"{text}valid_crop_size: {crop} cuts its border away", f"valid_resize_size={crop}"


def one_class_weighting(s: Settings) -> Iterator[Clash]:
    if s.weighted_loss and s.label_balance:
        text = f"weighted_loss: {s.weighted_loss} and label_balance both give rare classes more weight; set only one"
        yield "weighted_loss", text, "weighted_loss=0"


def one_freezing_method(s: Settings) -> Iterator[Clash]:
    if (s.freeze == "all") + bool(s.layers_to_freeze) + bool(s.freeze_layer_pattern) > 1:
        text = (
            f"freeze: {s.freeze}, layers_to_freeze: {s.layers_to_freeze} and freeze_layer_pattern: "
            f"{s.freeze_layer_pattern} are three ways to freeze layers; set only one"
        )
        first = "layers_to_freeze=0 freeze_layer_pattern=null" if s.freeze == "all" else "freeze_layer_pattern=null"
        yield "freeze", text, first


def pattern_compiles(s: Settings) -> Iterator[Clash]:
    pattern = s.freeze_layer_pattern
    if pattern is None:
        return
    try:
        re.compile(pattern or "(")  # an empty one would match everything
    except re.error:
        text = f"freeze_layer_pattern: {pattern!r} is not a regular expression"
        yield "freeze_layer_pattern", text, ""


def one_stem(s: Settings) -> Iterator[Clash]:
    if s.stem and s.profile and s.stem != s.profile.stem:
        text = f"stem: {s.stem} and profile: {{stem: {s.profile.stem}}} describe different networks"
        yield "stem", text, f"stem={s.profile.stem}"


def one_network(s: Settings) -> Iterator[Clash]:
    if s.network and (others := [name for name in ("stages", "profile", "stem") if getattr(s, name)]):
        text = f"network: {s.network} has layers of its own, and {', '.join(others)} describes model.py's"
        yield "network", text, " ".join(f"{name}=null" for name in others)


def fits_task(s: Settings) -> Iterator[Clash]:
    if s.task == tasks.CLASSIFY and s.class_num < 2:
        yield "class_num", f"class_num: {s.class_num} leaves nothing to decide: there are 2 or more classes", ""
    if s.task in tasks.MAPS and s.network:
        text = f"network: {s.network} gives no maps of several sizes, which task: {s.task} needs"
        yield "network", text, "network=null"
    if s.task != tasks.CLASSIFY and s.best_by not in (None, "loss"):
        text = f"best_by: {s.best_by} is a measure of classes; task: {s.task} has {tasks.measure(s)}, and loss"
        yield "best_by", text, "best_by=null"
    if s.task != tasks.CLASSIFY and s.cache == "disk":
        yield "cache", f"cache: disk holds images of classes only, and this is task: {s.task}", "cache=memory"
    if s.task == "detect" and s.validation_metric_type == "none" and s.best_by != "loss":
        text = "validation_metric_type: none measures nothing that could choose the best epoch but the loss"
        yield "validation_metric_type", text, "best_by=loss"
    if s.task != tasks.CLASSIFY and s.target_accuracy and s.validation_metric_type == "none":
        text = f"target_accuracy: {s.target_accuracy} is never reached with validation_metric_type: none"
        yield "target_accuracy", text, "target_accuracy=null"


def two_data_sets(s: Settings) -> Iterator[Clash]:
    if s.task == tasks.CLASSIFY and Path(s.train_data).resolve() == Path(s.val_data).resolve():
        text, words = f"train_data and val_data are both {s.train_data}", ""
        if pairs := splits_below(Path(s.train_data)):
            names = ", ".join(f"{train} and {val}" for train, val in pairs[:SHOWN])
            text += f", the folder above the splits; name them: {names}{' …' * (len(pairs) > SHOWN)}"
            words = " ".join(map(quoted, (f"train_data={pairs[0][0]}", f"val_data={pairs[0][1]}")))
        else:
            text += "; accuracy on training images proves nothing"
        yield "train_data", text, words


def splits_below(folder: Path) -> list[tuple[Path, Path]]:
    """(training images, validation images) in a folder, or in the data sets in it, by the usual names."""
    found = []
    with contextlib.suppress(OSError):  # a folder that cannot be listed, or a name that is too long
        for place in (folder, *sorted(folder.glob("*/"))):
            names = ("[Tt]rain*", "[Vv]al*")
            train, val = (next(filter(Path.is_dir, sorted(place.glob(name))), None) for name in names)
            found += [(train, val)] if train and val else []
    return found


def classes_once(s: Settings) -> Iterator[Clash]:
    names = list(map(composed, s.classes or []))
    if twice := sorted({name for name in names if names.count(name) > 1}):
        once = json_words("classes", sorted(set(names))) if len(set(names)) > 1 else ""
        yield "classes", f"classes: {', '.join(twice)} is named twice", once
    groups: dict[str, list[str]] = {}
    for name, folders in s.merge.items():
        for folder in map(composed, folders):
            groups.setdefault(folder, []).append(name)
    for folder, own in groups.items():
        if len(own) > 1:
            where = f"in {' and in '.join(own)}" if len(set(own)) > 1 else f"twice in {own[0]}"
            yield "merge", f"merge: {folder} is {where}; a folder belongs to one class", ""
        other = [name for name in s.merge if composed(name) == folder and name not in own]
        if other:
            yield "merge", f"merge: {folder} is the name of a group and a folder in {own[0]}; rename the group", ""
        if folder in names and folder not in map(composed, s.merge):
            text = f"classes: {folder} is no class of its own beside merge: {own[0]} contains it; classes names groups"
            better = sorted({*(name for name in names if name not in groups), *own})
            yield "classes", text, json_words("classes", better)


def composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def json_words(name: str, value: Any) -> str:
    """NAME=VALUE, quoted for a shell."""
    return quoted(f"{name}={json.dumps(value, ensure_ascii=False)}")


def class_num_of_classes(s: Settings) -> Iterator[Clash]:
    if s.classes and len(s.classes) != s.class_num:
        text = f"class_num: {s.class_num} is not the number of classes: {', '.join(s.classes)}"
        yield "class_num", text, f"class_num={len(s.classes)}"


CONTRADICTIONS: list[Callable[[Settings], Iterable[Clash]]] = [
    warmup_fits_run,
    rates_in_order,
    strategy_fits_run,
    lr_steps_in_order,
    evaluation_for_stopping,
    engine_fits,
    crop_fits_image,
    one_class_weighting,
    one_freezing_method,
    pattern_compiles,
    one_stem,
    one_network,
    classes_once,
    class_num_of_classes,
    fits_task,
    two_data_sets,
]


def contradictions(settings: Settings) -> list[Clash]:
    """Return the problems of settings that are valid individually but not together."""
    problems: list[Clash] = []
    for rule in CONTRADICTIONS:
        try:
            problems += rule(settings)
        except AttributeError:
            if is_complete(settings):
                raise
    return problems


def is_complete(settings: Settings) -> bool:
    """Return whether every setting is present. Missing ones are reported elsewhere, and rules ignore them."""
    return vars(settings).keys() >= FIELDS.keys()


# --- settings that do nothing ----------------------------------------------------------------------------------------


def _is_number(strategy: str | None) -> bool:
    """Return whether a strategy is just a number, which plateau lowers."""
    return strategy is not None and not schedule.problem(strategy) and not schedule.parse(strategy)[0].end


# (names, the other setting, settings -> whether the names do nothing, reason)
IDLE: list[tuple[str, str, Callable[[Settings], bool], str]] = [
    (" ".join(tasks.OF_DETECT), "task", lambda s: s.task != "detect", "it is unused (it belongs to detect)"),
    (" ".join(tasks.OF_CLASSIFY), "task", lambda s: s.task != "classify", "it is unused (it belongs to classify)"),
    (" ".join(tasks.OF_VECTORS), "task", lambda s: s.task in tasks.MAPS, "the head is on a map, and has none"),
    (
        "lr_init lr_max lr_end warmup_epochs",
        "learning_rate_strategy",
        lambda s: s.lr_scheduler == "strategy",
        "the strategy sets every rate",
    ),
    (
        "lr_max warmup_epochs lr_init",
        "learning_rate_strategy",
        lambda s: _is_number(s.learning_rate_strategy),
        "that number is the rate from the first step on",
    ),
    ("lr_init", "warmup_epochs", lambda s: s.warmup_epochs == 0, "there is no warmup"),
    (
        "lr_end",
        "lr_scheduler",
        lambda s: s.lr_scheduler in ("step", "constant", "plateau"),
        "the rate follows no cosine",
    ),
    ("cosine_cycles", "lr_scheduler", lambda s: s.lr_scheduler != "warmup_cosine", "there is no cosine with cycles"),
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
        "that list sets the steps, and lr_scheduler_factor the factor",
    ),
    (
        "lr_scheduler_factor",
        "lr_scheduler",
        lambda s: s.lr_scheduler != "plateau" and not s.lr_scheduler_step,
        "it is unused (it belongs to lr_scheduler_step and plateau)",
    ),
    (
        "plateau_patience lr_floor",
        "lr_scheduler",
        lambda s: s.lr_scheduler != "plateau",
        "it is unused (it belongs to plateau)",
    ),
    ("momentum nesterov", "optimizer", lambda s: s.optimizer != "momentum", "it is unused (it belongs to momentum)"),
    (
        "beta1 beta2",
        "optimizer",
        lambda s: s.optimizer not in ADAMS,
        f"it is unused (it belongs to {', '.join(ADAMS)})",
    ),
    (
        "amsgrad",
        "optimizer",
        lambda s: s.optimizer not in ("adam", "adamw"),
        "it is unused (it belongs to adam and adamw)",
    ),
    (
        "early_stopping_patience early_stopping_delay early_stopping_min_epochs early_stopping_tolerance",
        "early_stopping",
        lambda s: not s.early_stopping,
        "the run does not stop early",
    ),
    (
        "evaluation_frequency",
        "do_eval_along_train",
        lambda s: not s.do_eval_along_train,
        "only the last epoch is evaluated",
    ),
    ("std", "transform_normalize", lambda s: not s.transform_normalize, "images are not divided by it"),
    ("deterministic", "device", lambda s: s.device == "cpu", "a run repeats bit for bit anyway"),
    (
        "image_size",
        "train_crop_size",
        lambda s: bool(s.train_crop_size and s.valid_resize_size and s.valid_crop_size),
        "and valid_resize_size and valid_crop_size, every size is set",
    ),
]


def idle(settings: Settings) -> list[tuple[str, str, str]]:
    """Return (setting, the other setting, reason) for each that does nothing here, a row per reason."""
    rows = []
    for names, other, does_nothing, reason in IDLE:
        try:
            if does_nothing(settings):
                rows += [(name, other, f"with {other}: {getattr(settings, other)} {reason}") for name in names.split()]
        except AttributeError:
            if is_complete(settings):
                raise
    return rows
