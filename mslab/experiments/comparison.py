"""What transfer gains: training from scratch, with a frozen backbone, and fine-tuning, on few and many images."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mslab import files
from mslab.check import DatasetReport
from mslab.check.training_data import check_or_raise
from mslab.config import Settings, read_yaml
from mslab.config.origins import COMMAND_LINE
from mslab.config.resolve import OF_THE_BACKBONE, backbone_settings, network_overrides, network_settings
from mslab.errors import ConfigError
from mslab.escaping import command
from mslab.experiments import repeating
from mslab.runs import ranking
from mslab.runs.folder import RunFolder, fresh_folder
from mslab.runtime import signals
from mslab.runtime.tables import empty_table, render

if TYPE_CHECKING:
    from mslab.training.start import TrainResult

log = logging.getLogger("mslab")
METHODS = {"scratch": "from scratch", "frozen": "frozen backbone, new head", "finetune": "fine-tuned"}
NOTHING_FROZEN: dict[str, Any] = {"freeze": "none", "layers_to_freeze": 0, "freeze_layer_pattern": None, "unfreeze": {}}
UNSCALED: dict[str, Any] = {"lr_scale": {}}  # the config's lr_scale is for fine-tuning


def parse(methods: str, fractions: str) -> tuple[list[str], list[float]]:
    """parse("scratch,frozen", "0.1,1.0") -> (["scratch", "frozen"], [0.1, 1.0]). Raises ConfigError."""
    names = [name.strip() for name in methods.split(",")]
    problems = [("--compare", f"{name!r} is none of {', '.join(METHODS)}") for name in names if name not in METHODS]
    numbers = []
    for text in fractions.split(","):
        try:
            numbers.append(float(text))
        except ValueError:
            problems.append(("--fractions", f"{text!r} is not a number"))
    problems += [("--fractions", f"{n:g} is out of range: above 0, at most 1") for n in numbers if not 0 < n <= 1]
    if problems:
        raise ConfigError(
            "These options do not make a comparison.",
            details=problems,
            expected="--compare scratch,frozen,finetune --fractions 0.1,0.3,1.0",
            fix="correct the options above",
        )
    return list(dict.fromkeys(names)), sorted(set(numbers))


def compare(
    config: Settings,
    backbone: object,
    methods: Sequence[str],
    fractions: Sequence[float],
    seeds: int,
    report: DatasetReport,
    name: str,
) -> dict[str, Any]:
    """Train with every method on every fraction of the training images, `seeds` times, all for equally many steps.

    A smaller fraction is a subset of the larger ones; its images are repeated within an epoch. Accuracy, or the measure
    that best_by names, is that of the last epoch, on all of val_data. Writes runs/NAME-compare-…/ with comparison.json,
    which grows run by run, comparison.png, and the runs without their checkpoints: they cannot be resumed. Returns the
    JSON's content.
    """
    from mslab.training import finetuning

    refuse_frozen(config)
    if config.max_training_time:
        raise repeating.in_the_middle("a comparison", config.max_training_time)
    weights = finetuning.read_backbone(backbone, finetuning.choice_for(config))
    notes: list[str] = []
    network = backbone_settings(config, weights, notes)  # the same one for training from scratch
    for note in notes:
        log.info(note)
    count = report.images_in("train")
    sizes = {sum(subset(report, part, config.seed).counts["train"].values()): part for part in reversed(fractions)}
    folder = fresh_folder(f"{name}-compare")
    rows: list[dict[str, Any]] = []
    result = {"schema": 1, "backbone": str(weights.path), "epochs": config.epochs, "rows": rows}
    result |= {"best_by": config.best_by} if config.best_by else {}
    total = len(methods) * len(sizes) * seeds
    files.write_text(folder / "comparison.json", json.dumps(result, indent=2) + "\n")
    for images, fraction in sorted(sizes.items()):
        for seed in range(config.seed, config.seed + seeds):
            data = subset(report, fraction, seed)
            for method in methods:
                log.info(f"{len(rows) + 1}/{total}  {METHODS[method]}, {images} images, seed {seed}")
                settings = config.replace(**NOTHING_FROZEN, seed=seed)
                label = f"{folder.name}/{method}-{images}-seed{seed}"  # a run inside this folder
                try:
                    done = train(settings, method, network, weights.path, data, name=label, epoch_images=count)
                    last = RunFolder.open(done.run).history[-1]
                    repeating.clear(Path(done.run))
                    rows.append({"way": method, "share": fraction, "images": images, "seed": seed})
                    names = ("val_acc", ranking.column(config.best_by))
                    rows[-1] |= {name: last[name] for name in names} | {
                        "linear_acc": done.linear_acc,
                        "seconds": done.seconds,
                    }
                    files.write_text(folder / "comparison.json", json.dumps(result, indent=2) + "\n")
                except KeyboardInterrupt:
                    kept = f"{folder / 'comparison.json'} has the {len(rows)} of {total} runs so far"
                    raise signals.Interrupted(f"the same command begins a new comparison; {kept}") from None
    draw(result, folder / "comparison.png")
    log.info(f"{folder / 'comparison.png'}: {measure(result)} against the number of training images")
    return result


def train(
    settings: Settings, method: str, network: Mapping[str, Any], backbone: Path, report: DatasetReport, **options: Any
) -> "TrainResult":
    """Train once with this method. `network`: settings of the backbone's network; `options`: of start.Job."""
    from mslab.training import start

    changes = {"scratch": {**network, **UNSCALED}, "frozen": {"freeze": "all"} | UNSCALED, "finetune": {}}[method]
    settings = settings.replace(**changes)
    choice = start.finetuning.choice_for(settings)
    parent = None if method == "scratch" else start.finetuning.backbone_of(backbone, choice=choice)
    return start.run(start.Job(settings, check_or_raise(settings, report), parent=parent, **options))


def refuse_frozen(config: Settings) -> None:
    """Log that settings of what is frozen do nothing in a comparison. Raises ConfigError if one is an override."""
    for name, unset in NOTHING_FROZEN.items():
        if (value := getattr(config, name)) == unset:
            continue
        if config.origin(name) == COMMAND_LINE:
            raise ConfigError(
                f"{name}={value} does nothing here: each method of --compare freezes what it is named for.",
                expected="settings that all methods share",
                fix=f"leave {name} out, or --compare",
            )
        log.info(f"note: {name}: {value} does nothing here: each method freezes what it is named for")


def from_scratch(config: str, overrides: Sequence[str], settings: Settings, used: Settings) -> str:
    """The command that trains a transfer's network from scratch. `used`: the settings, completed by the backbone."""
    values, unset = read_yaml(Path(config)), NOTHING_FROZEN | UNSCALED
    given = [text for text in overrides if text.partition("=")[0].strip() not in unset]
    changes = {name: value for name, value in unset.items() if values.get(name, value) != value}
    own = settings.model_dump() | network_settings(settings)
    brought = {name: value for name in OF_THE_BACKBONE if (value := used.model_dump()[name]) != own[name]}
    changes |= {name: value for name, value in brought.items() if value is not None or values.get(name) is not None}
    if values.get("seed", settings.seed) != settings.seed:  # null drew it
        given, changes["seed"] = [text for text in given if not text.startswith("seed=")], settings.seed
    return command("train", Path(config), *given, *network_overrides(changes), "--name", "scratch")


def subset(report: DatasetReport, fraction: float | np.ndarray, seed: int) -> DatasetReport:
    """The report with this fraction of each class's training images, at least one; smaller ones are subsets of larger.

    `fraction`: one for all classes, or one for each class.
    """
    classes, train = {}, report.splits["train"].classes
    fractions = np.broadcast_to(fraction, len(train))
    for number, (class_name, images) in enumerate(train.items()):
        order = np.random.default_rng([seed, number]).permutation(len(images))
        chosen = sorted(order[: max(1, round(fractions[number] * len(images)))])
        classes[class_name] = [images[index] for index in chosen]
    return replace(report, splits=report.splits | {"train": replace(report.splits["train"], classes=classes)})


def summary(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each method and number of images: mean and deviation over the seeds, and the linear model's mean."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in result["rows"]:
        groups.setdefault((row["way"], row["images"]), []).append(row)
    summaries = []
    for (method, images), rows in groups.items():
        accuracies = [row[ranking.column(result.get("best_by"))] for row in rows]
        deviation = float(np.std(accuracies, ddof=1)) if len(rows) > 1 else 0.0
        summaries.append({"way": method, "images": images, "mean": float(np.mean(accuracies)), "std": deviation})
        linear = [row["linear_acc"] for row in rows if row["linear_acc"] is not None]
        summaries[-1] |= {"linear": float(np.mean(linear)) if linear else float("nan"), "seeds": len(rows)}
    return summaries


def table(result: Mapping[str, Any]) -> str:
    title = f"{measure(result)} in the last epoch, mean and standard deviation over the seeds"
    grid = empty_table(title, ("method", "images", measure(result), "linear model", "seeds"), left=("method",))
    for row in summary(result):
        accuracy = f"{row['mean']:.3f} ± {row['std']:.3f}"
        grid.add_row(METHODS[row["way"]], str(row["images"]), accuracy, f"{row['linear']:.3f}", str(row["seeds"]))
    return render(grid)


def measure(result: Mapping[str, Any]) -> str:
    """What was compared: accuracy, or the column that best_by decides by. The linear model's is always its accuracy."""
    name = ranking.column(result.get("best_by"))
    return "accuracy" if name == "val_acc" else name


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Plot accuracy against the number of labelled images, a line per method, error bars of one standard deviation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    rows = summary(result)
    for (method, title), marker in zip(METHODS.items(), "os^", strict=True):
        line = sorted((row["images"], row["mean"], row["std"]) for row in rows if row["way"] == method)
        if line:
            images, means, deviations = (list(column) for column in zip(*line, strict=True))
            axes.errorbar(images, means, deviations, marker=marker, capsize=4, label=title)
    if measure(result) == "accuracy":
        linear = sorted({(row["images"], row["linear"]) for row in rows if row["way"] == rows[0]["way"]})
        axes.plot(*zip(*linear, strict=True), color="grey", linestyle=":", label="linear model of 8x8 thumbnails")
    axes.set_xscale("log")
    ticks = sorted({row["images"] for row in rows})
    axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("labelled training images")
    axes.set_ylabel(f"validation {measure(result)}, last epoch")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2)
    files.replace_atomically(path, lambda file: figure.savefig(file, dpi=120, format="png"))
