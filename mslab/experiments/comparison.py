"""What transfer buys: training from scratch, a frozen backbone and fine-tuning, on few and many images."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mslab import checkpoint
from mslab.check import DatasetReport
from mslab.config import Settings
from mslab.errors import ConfigError
from mslab.experiments import repeating
from mslab.runs.folder import RunFolder, fresh_folder
from mslab.runtime.tables import empty_table, render

log = logging.getLogger("mslab")
WAYS = {"scratch": "from scratch", "frozen": "frozen backbone, new head", "finetune": "fine-tuned"}
NOTHING_FROZEN: dict[str, Any] = {"freeze": "none", "layers_to_freeze": 0, "freeze_layer_pattern": None, "unfreeze": {}}
PLAIN: dict[str, Any] = {"lr_scale": {}}  # the config's is for fine-tuning


def parse(ways: str, shares: str) -> tuple[list[str], list[float]]:
    """parse("scratch,frozen", "0.1,1.0") -> (["scratch", "frozen"], [0.1, 1.0]). Raises ConfigError."""
    names = [name.strip() for name in ways.split(",")]
    problems = [("--compare", f"{name!r} is none of {', '.join(WAYS)}") for name in names if name not in WAYS]
    numbers = []
    for text in shares.split(","):
        try:
            numbers.append(float(text))
        except ValueError:
            problems.append(("--fractions", f"{text!r} is no number"))
    problems += [("--fractions", f"{n:g} is no share: above 0, at most 1") for n in numbers if not 0 < n <= 1]
    if problems:
        raise ConfigError(
            "The comparison cannot be made as asked.",
            details=problems,
            expected="--compare scratch,frozen,finetune --fractions 0.1,0.3,1.0",
            fix="correct what is listed",
        )
    return list(dict.fromkeys(names)), sorted(set(numbers))


def compare(
    config: Settings,
    backbone: str | Path,
    ways: Sequence[str],
    shares: Sequence[float],
    seeds: int,
    report: DatasetReport,
    name: str,
) -> dict[str, Any]:
    """Train every way on every share of the training images, `seeds` times, all for the same number of steps.

    A smaller share lies inside the larger ones; its images come more often in an epoch. Accuracy is that of the last
    epoch, on the whole of val_data. Leaves runs/NAME-compare-…/ with comparison.json, which grows run by run, and
    comparison.png, and the runs without their checkpoints: they cannot be resumed. Returns the JSON's content.
    """
    from mslab.training import finetuning, start

    weights = finetuning.read_backbone(backbone)
    network = {"stages": weights.stages, "profile": weights.profile}  # from scratch, too: the same network
    network |= {key: weights.info[key] for key in ("mean", "std") if weights.info.get(key)}
    every = sum(report.counts["train"].values())
    sizes = {sum(subset(report, share, config.seed).counts["train"].values()): share for share in reversed(shares)}
    folder = fresh_folder(f"{name}-compare")
    rows: list[dict[str, Any]] = []
    result = {"schema": 1, "backbone": str(weights.path), "epochs": config.epochs, "rows": rows}
    total = len(ways) * len(sizes) * seeds
    for images, share in sorted(sizes.items()):
        for seed in range(config.seed, config.seed + seeds):
            few = subset(report, share, seed)
            for way in ways:
                log.info(f"{len(rows) + 1}/{total}  {WAYS[way]}, {images} images, seed {seed}")
                settings = config.replace(**NOTHING_FROZEN, seed=seed)
                label = f"{folder.name}/{way}-{images}-seed{seed}"  # a run inside of this folder
                if way == "scratch":
                    done = start.train(settings.replace(**network | PLAIN), report=few, name=label, epoch_images=every)
                else:
                    settings = settings.replace(**{"freeze": "all"} | PLAIN) if way == "frozen" else settings
                    done = start.transfer(settings, backbone, report=few, name=label, epoch_images=every)
                last = RunFolder.open(done.run).history[-1]
                repeating.clear(Path(done.run))
                rows.append({"way": way, "share": share, "images": images, "seed": seed})
                rows[-1] |= {"val_acc": last["val_acc"], "linear_acc": done.linear_acc, "seconds": done.seconds}
                checkpoint.write_text(folder / "comparison.json", json.dumps(result, indent=2) + "\n")
    draw(result, folder / "comparison.png")
    log.info(f"{folder / 'comparison.png'}: accuracy against the number of training images")
    return result


def subset(report: DatasetReport, share: float | np.ndarray, seed: int) -> DatasetReport:
    """The report with this share of each class's training images, at least one; a larger share holds a smaller.

    `share`: of all classes, or of each its own.
    """
    classes, train = {}, report.splits["train"].classes
    shares = np.broadcast_to(share, len(train))
    for number, (class_name, pictures) in enumerate(train.items()):
        order = np.random.default_rng([seed, number]).permutation(len(pictures))
        chosen = sorted(order[: max(1, round(shares[number] * len(pictures)))])
        classes[class_name] = [pictures[index] for index in chosen]
    return replace(report, splits=report.splits | {"train": replace(report.splits["train"], classes=classes)})


def summary(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row a way and number of images: mean and standard deviation over the seeds, with the linear model's mean."""
    groups: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in result["rows"]:
        groups.setdefault((row["way"], row["images"]), []).append(row)
    found = []
    for (way, images), rows in groups.items():
        accuracies = [row["val_acc"] for row in rows]
        spread = float(np.std(accuracies, ddof=1)) if len(rows) > 1 else 0.0
        found.append({"way": way, "images": images, "mean": float(np.mean(accuracies)), "std": spread})
        found[-1] |= {"linear": float(np.mean([row["linear_acc"] for row in rows])), "seeds": len(rows)}
    return found


def table(result: Mapping[str, Any]) -> str:
    title = "accuracy in the last epoch, mean and standard deviation over the seeds"
    grid = empty_table(title, ("way", "images", "accuracy", "linear model", "seeds"), left=("way",))
    for row in summary(result):
        accuracy = f"{row['mean']:.3f} ± {row['std']:.3f}"
        grid.add_row(WAYS[row["way"]], str(row["images"]), accuracy, f"{row['linear']:.3f}", str(row["seeds"]))
    return render(grid)


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Accuracy against the number of labelled images, a line a way, with bars of one standard deviation."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    rows = summary(result)
    for (way, title), marker in zip(WAYS.items(), "os^", strict=True):
        line = sorted((row["images"], row["mean"], row["std"]) for row in rows if row["way"] == way)
        if line:
            images, means, spreads = (list(column) for column in zip(*line, strict=True))
            axes.errorbar(images, means, spreads, marker=marker, capsize=4, label=title)
    linear = sorted({(row["images"], row["linear"]) for row in rows if row["way"] == rows[0]["way"]})
    axes.plot(*zip(*linear, strict=True), color="grey", linestyle=":", label="linear model of 8x8 thumbnails")
    axes.set_xscale("log")
    ticks = sorted({row["images"] for row in rows})
    axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("labelled training images")
    axes.set_ylabel("validation accuracy, last epoch")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside upper center", ncols=2)
    figure.savefig(path, dpi=120)
