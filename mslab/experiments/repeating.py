"""The same training with several seeds or folds: mean, standard deviation and confidence interval of every figure."""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mslab import files
from mslab.check import DatasetReport
from mslab.config import Settings, tasks
from mslab.errors import ConfigError, DivergedError
from mslab.runs import ranking
from mslab.runs.folder import RunFolder, fresh_folder
from mslab.runtime import signals
from mslab.runtime.tables import decimals, empty_table, render

log = logging.getLogger("mslab")
METRICS = {
    "val_acc": "validation accuracy, best epoch",
    "val_loss": "validation loss, in that epoch",
    "macro_f1": "macro F1, in that epoch",
    "train_acc": "training accuracy, last epoch",
    "train_loss": "training loss, last epoch",
    "linear_acc": "linear model of 8x8 thumbnails",
    "test_acc": "test accuracy",
}
OF_TASK = {  # the same of a task: history.csv has its measure as val_acc
    "val_acc": "validation {}, best epoch",
    "val_loss": METRICS["val_loss"],
    "train_acc": "share of the training targets answered right, last epoch",
    "train_loss": METRICS["train_loss"],
    "constant": "validation {} of the same answer for every image",
    "test_acc": "test {}",
}
MEASURES = {  # only with a best_by; macro F1 is among METRICS
    "val_balanced_accuracy": "balanced accuracy, in that epoch",
    "val_recall": "recall of best_by's class, in that epoch",
}


@dataclass(frozen=True)
class Repetition:
    """One training of several: what tells it from the others, and its settings and images."""

    kind: str  # "seed"
    number: int
    config: Settings
    report: DatasetReport


After = Callable[[RunFolder, Repetition, dict[str, Any]], None]  # with a finished run, its checkpoints and its row


def repeat(
    config: Settings,
    seeds: int,
    report: DatasetReport,
    name: str,
    backbone: object = None,
    test: DatasetReport | None = None,
) -> dict[str, Any]:
    """Train with the seeds config.seed, config.seed + 1, …; with a backbone, each is a transfer. As run_all."""
    numbers = range(config.seed, config.seed + seeds)
    repetitions = [Repetition("seed", seed, config.replace(seed=seed), report) for seed in numbers]
    return run_all(config, repetitions, name, backbone, test, metrics_of(measure_of(config)))


def measure_of(config: Settings) -> str | None:
    """The measure of a task beside classification, whose figures have titles of their own."""
    return None if config.task == tasks.CLASSIFY else tasks.measure(config)


def metrics_of(measure: str | None) -> dict[str, str]:
    """{name of a figure: its title}. `measure`: of measure_of."""
    return {name: title.format(measure) for name, title in OF_TASK.items()} if measure else METRICS


def run_all(
    config: Settings,
    repetitions: Sequence[Repetition],
    name: str,
    backbone: object = None,
    test: DatasetReport | None = None,
    metrics: Mapping[str, str] = METRICS,
    after: After | None = None,
) -> dict[str, Any]:
    """Train each repetition.

    Writes runs/NAME-repeat-…/ with repeat.json, which grows run by run, and the runs without their checkpoints: they
    cannot be resumed. Returns the JSON's content. A run that diverges is recorded and left out of the figures; raises
    DivergedError if all do.
    """
    if config.max_training_time:
        raise in_the_middle("a repetition", config.max_training_time)
    folder = fresh_folder(f"{name}-repeat")
    runs: list[dict[str, Any]] = []
    result = {"schema": 1, "folder": str(folder), "config": config.model_dump(), "runs": runs, "metrics": {}}
    result |= {"backbone": str(backbone) if backbone else None, "test": str(test.root) if test else None}
    result |= {"measure": measure} if (measure := measure_of(config)) else {}
    diverged: list[DivergedError] = []
    files.write_text(folder / "repeat.json", files.json_text(result))
    names, count = [*metrics, *measures(config.best_by)], len(repetitions)
    for one in repetitions:
        log.info(f"{len(runs) + 1}/{count}  {one.kind} {one.number}")
        runs.append({one.kind: one.number})
        try:
            diverged += train(one, runs[-1], folder, backbone, test, after)
            result["metrics"] = {key: interval([r[key] for r in runs if r.get(key) is not None]) for key in names}
            files.write_text(folder / "repeat.json", files.json_text(result))
        except KeyboardInterrupt:
            kept = f"{folder / 'repeat.json'} has the {len(runs) - 1} of {count} runs so far"
            raise signals.Interrupted(f"the same command begins a new repetition; {kept}") from None
    if all("failed" in row for row in runs):
        raise diverged[-1]
    kind = repetitions[0].kind
    if failed := [row[kind] for row in runs if "failed" in row]:
        log.info(f"note: {len(failed)} of {count} {kind}s diverged ({', '.join(map(str, failed))}): left out below")
    log.info(f"{folder / 'repeat.json'}: every run's figures")
    return result


def train(
    one: Repetition,
    row: dict[str, Any],
    folder: Path,
    backbone: object,
    test: DatasetReport | None,
    after: After | None,
) -> list[DivergedError]:
    """Train one repetition in `folder`, and fill in its row. Returns the error if it diverges."""
    from mslab.evaluation import measuring
    from mslab.training import start

    run = begin(one.config, one.report, backbone, folder / f"{one.kind}{one.number}")
    row["run"] = str(run.path)
    diverged: list[DivergedError] = []
    try:
        row |= figures(run, start.carry_out(run, one.report))
        if test:
            found = measuring.evaluate(run.path, test.root, test, one.config.device)
            row["test_acc"] = found[found.get("measure", "accuracy")]
        if after:
            after(run, one, row)
    except DivergedError as error:
        row["failed"] = error.what
        diverged.append(error)
        log.info(f"{one.kind} {one.number}: {error.what}")
    clear(run.path)
    return diverged


def measures(best_by: str | None) -> list[str]:
    """The names in MEASURES that runs with this best_by have."""
    return [name for name in MEASURES if name in ranking.extra(best_by)]


def begin(config: Settings, report: DatasetReport, backbone: object, path: Path) -> RunFolder:
    """Make a run folder at exactly this path; for a transfer, if there is a backbone."""
    from mslab.training import finetuning, start

    parent = finetuning.backbone_of(backbone, choice=finetuning.choice_for(config)) if backbone else None
    run = None
    try:
        with signals.held():
            run = start.prepare(start.Job(config, report, f"{path.parent.name}/{path.name}", parent))
            path.parent.mkdir(parents=True, exist_ok=True)
            run.path = run.path.rename(path)  # its parent has the time in its name
    except KeyboardInterrupt:
        raise run.stopped() if run else KeyboardInterrupt from None
    return run


def in_the_middle(experiment: str, hours: float) -> ConfigError:
    return ConfigError(
        f"max_training_time: {hours} would leave {experiment} in the middle.",
        expected="runs that are trained to their end",
        fix="max_training_time=null",
    )


def clear(run: Path) -> None:
    """Delete a run's checkpoints, 280 MB for a ResNet-50; not those of another folder, to which a link leads."""
    for file in (run / "checkpoints").glob("*.ckpt"):
        if not run.is_symlink() and not (run / "checkpoints").is_symlink():
            file.unlink()


def figures(run: RunFolder, done: Mapping[str, Any]) -> dict[str, Any]:
    """A finished run's figures, by the names in METRICS and MEASURES."""
    best, last = run.best, run.history[-1]
    names = ["val_acc", "val_loss", *measures(run.best_by)]
    row: dict[str, Any] = {name: best[name] for name in names} if best else {}
    if own := measure_of(run.settings):
        row["constant"] = run.manifest["metrics"]["constant"][own]
    elif (run.path / "eval.json").is_file():
        classes = files.read_json(run.path / "eval.json")["per_class"].values()
        row["macro_f1"] = float(np.mean([scores["f1"] for scores in classes]))
    row |= {"train_acc": last["train_acc"], "train_loss": last["train_loss"]}
    row |= {} if own else {"linear_acc": done["linear_acc"]}
    return row | {"epochs": run.epochs_done, "seconds": done["seconds"]}


def interval(values: Sequence[float], confidence: float = 0.95) -> dict[str, Any]:
    """Mean, standard deviation and Student's interval of the mean; null if there are too few values for one of them."""
    # interval([0.8, 0.9]) -> {"n": 2, "mean": 0.85, "std": 0.0707, "low": 0.215, "high": 1.485}
    from scipy import stats

    n = len(values)
    mean = float(np.mean(values)) if n else None
    if mean is None or n == 1:
        return {"n": n, "mean": mean, "std": None, "low": None, "high": None}
    deviation = float(np.std(values, ddof=1))
    half = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * deviation / math.sqrt(n)
    return {"n": n, "mean": mean, "std": deviation, "low": mean - half, "high": mean + half}


def table(result: Mapping[str, Any], titles: Mapping[str, str] | None = None) -> str:
    count = sum("failed" not in row for row in result["runs"])
    kind, titles = "fold" if "folds" in result else "seed", titles or metrics_of(result.get("measure"))
    title = f"{count} {kind}{'s' * (count != 1)}; the interval is of the mean (Student's t)"
    grid = empty_table(title, ("", "mean", "standard deviation", "95 % interval"))
    for key, metric in result["metrics"].items():
        title = (MEASURES | dict(titles))[key]
        if metric["n"]:
            texts = {name: decimals(value, 4) for name, value in metric.items() if value is not None}
            limits = f"{texts['low']} to {texts['high']}" if "std" in texts else "–"
            grid.add_row(title, texts["mean"], texts.get("std", "–"), limits)
    return render(grid)
