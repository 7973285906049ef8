"""What a backbone brings to each task: from scratch, frozen and fine-tuned, with equal steps, measured on test images.

Beside them the figure of the same answer for every image, made from the training labels.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.results import markdown
from mslab.config import load_settings
from mslab.config.tasks import TASKS
from mslab.experiments import repeating

WAYS = {  # overrides of a config, whose lr_scale is for a backbone that knows something
    "scratch": ["lr_scale={}"],
    "frozen": ["lr_scale={}", "freeze=all"],
    "finetune": [],
}
Row = dict[str, Any]


def bench_tasks(
    configs: Sequence[str],
    backbone: str,
    seeds: int,
    ways: Sequence[str] = tuple(WAYS),
    progress: Callable[[str], Any] = lambda text: None,
) -> Iterator[list[Row]]:
    """Yield, after each training, all rows so far, as `trained` makes them."""
    rows: list[Row] = []
    for seed in range(1, seeds + 1):
        for config in configs:
            for way in ways:
                rows.append(own := trained(config, way, seed, backbone))
                test = f"test {own['measure']} {own['test']:.3f}"
                progress(f"{own['task']}, {way}, seed {seed}: {test}, {own['seconds']} s")
                yield rows


def trained(config: str, way: str, seed: int, backbone: str) -> Row:
    """{task, way, seed, epochs, measure, val, test, figures, constant, seconds} of one training."""
    from mslab.check.label_check import check_labels
    from mslab.evaluation import measuring
    from mslab.training import start

    settings = load_settings(config, [*WAYS[way], f"seed={seed}"])
    name = f"tasks-{settings.task}-{way}-{seed}"
    done = start.train(settings, name=name) if way == "scratch" else start.transfer(settings, backbone, name=name)
    data = str(Path(settings.train_data).parent)
    report = check_labels(data, settings.task)
    figures = measuring.evaluate(done.run, data, report)
    measure = figures["measure"]
    repeating.clear(Path(done.run))
    return {
        "task": settings.task,
        "way": way,
        "seed": seed,
        "epochs": settings.epochs,
        "measure": measure,
        "val": done.val_acc,
        "test": figures[measure],
        "figures": floats(figures),
        "constant": constant(settings, report)[measure],
        "seconds": round(done.seconds),
    }


def floats(figures: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if isinstance(value, float)}


def constant(settings: Any, report: Any) -> dict[str, Any]:
    """The figures of the same answer for every test image."""
    from mslab.data import labelled_feed
    from mslab.data.labelled_feed import LabelFeed
    from mslab.evaluation import task_measuring
    from mslab.tasks.registry import class_of, task_of

    task = task_of(class_of(settings.task).record(report.first, settings.model_dump()))
    train, test = (labelled_feed.images_of(report, split) for split in ("train", "test"))
    return task_measuring.witness(LabelFeed(task, train, test, settings, 4))


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table of means and standard deviations over the seeds: one row a task, one column a way."""
    lines = [["task (measure)", "same answer for every image", *WAYS, "seconds: " + ", ".join(WAYS)]]
    for task in (task for task in TASKS if any(row["task"] == task for row in rows)):
        own = [row for row in rows if row["task"] == task]
        cells, times = [], []
        for way in WAYS:
            values = [row["test"] for row in own if row["way"] == way]
            spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread}" if values else "–")
            times.append(f"{np.median([row['seconds'] for row in own if row['way'] == way]):.0f}" if values else "–")
        lines.append([f"{task} ({own[0]['measure']})", f"{own[0]['constant']:.3f}", *cells, ", ".join(times)])
    return markdown(lines[0], lines[1:])


def draw(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """A picture of the same: a group of bars for each task, a point for each seed."""
    names = [task for task in TASKS if any(row["task"] == task for row in rows)]
    figure = Figure(figsize=(8, 3.6))
    axes = figure.subplots()
    for number, way in enumerate(WAYS):
        for place, task in enumerate(names):
            values = [row["test"] for row in rows if (row["task"], row["way"]) == (task, way)]
            x = place + (number - 1) * 0.26
            axes.bar(x, np.mean(values), 0.24, color=f"C{number}", label=way if place == 0 else None)
            axes.plot([x] * len(values), values, "k.", markersize=4)
    for place, task in enumerate(names):
        level = next(row["constant"] for row in rows if row["task"] == task)
        label = "same answer for every image" if place == 0 else None
        axes.plot([place - 0.4, place + 0.4], [level, level], "k--", linewidth=1, label=label)
    titles = [f"{task}\n{next(row['measure'] for row in rows if row['task'] == task)}" for task in names]
    axes.set_xticks(range(len(names)), titles)
    axes.set_ylim(0, 1)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(file, dpi=120)
