"""The effect of training settings (knobs): each alone against the baseline, over several seeds, on test images.

The imbalanced copy has all images of the first class, a tenth of the last class, and fractions in between; its test
images are the same, equally many of every class.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from mslab.check import DatasetReport
from mslab.config import Settings
from mslab.experiments import comparison, repeating
from mslab.runtime.tables import empty_table, render

RAREST = 0.1  # fraction of the last class's images in the imbalanced copy
KNOBS: dict[str, dict[str, Any]] = {
    "baseline": {},
    "label_smoothing=0.1": {"label_smoothing": 0.1},
    "mixup_alpha=0.2": {"mixup_alpha": 0.2},
    "cutmix_alpha=1.0": {"cutmix_alpha": 1.0},
    "ema_decay=0.99": {"ema_decay": 0.99},
    "auto_augment=randaugment": {"auto_augment": "randaugment"},
    "clip_grad_norm=1": {"clip_grad_norm": 1.0},
}
FOR_RARE: dict[str, dict[str, Any]] = {
    "imbalanced copy": {},
    "label_balance=true": {"label_balance": True},
    "weighted_loss=1": {"weighted_loss": 1},
    "weighted_loss=2": {"weighted_loss": 2},
    "focal_gamma=2": {"focal_gamma": 2.0},
}


def bench_knobs(
    config: Settings,
    seeds: int,
    report: DatasetReport,
    test: DatasetReport,
    progress: Callable[[str], Any] = lambda text: None,
) -> list[dict[str, Any]]:
    """Rows of {knob, imbalanced, seed, test_acc, seconds}; all runs have equally many steps. Writes runs/knobs-…."""
    from mslab.evaluation import measuring
    from mslab.training import start

    count = sum(report.counts["train"].values())
    folder = f"knobs-{datetime.now():%Y%m%d-%H%M%S}"
    rows: list[dict[str, Any]] = []
    total = seeds * (len(KNOBS) + len(FOR_RARE))
    for seed in range(config.seed, config.seed + seeds):
        for data, knobs in ((report, KNOBS), (imbalanced(report, seed), FOR_RARE)):
            for knob, settings in knobs.items():
                name = f"{folder}-{len(rows) + 1:02}"
                done = start.train(config.replace(**settings, seed=seed), report=data, name=name, epoch_images=count)
                accuracy = measuring.evaluate(done.run, test.root, report=test, device=config.device)["accuracy"]
                repeating.clear(Path(done.run))
                rows.append({"knob": knob, "imbalanced": knobs is FOR_RARE, "seed": seed, "test_acc": accuracy})
                rows[-1]["seconds"] = done.seconds
                progress(
                    f"{len(rows)}/{total}  {knob}, seed {seed}: test accuracy {accuracy:.3f}, {done.seconds:.0f} s"
                )
    return rows


def imbalanced(report: DatasetReport, seed: int) -> DatasetReport:
    """The report with all training images of the first class, RAREST of the last one's, geometric steps between."""
    return comparison.subset(report, RAREST ** np.linspace(0, 1, len(report.splits["train"].classes)), seed)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Mean and standard deviation over the seeds, and the mean difference to the same seed without the knob."""
    names = ("", "accuracy", "gain over the baseline", "seeds", "seconds")
    grid = empty_table("test accuracy: mean ± standard deviation over the seeds", names)
    for imbalance in (False, True):
        plain: list[float] = []
        for knob in dict.fromkeys(row["knob"] for row in rows if row["imbalanced"] == imbalance):
            mine = [row for row in rows if row["knob"] == knob]
            accuracies = [row["test_acc"] for row in mine]
            plain = plain or accuracies
            gains = np.subtract(accuracies, plain[: len(accuracies)])
            deviation = np.std(accuracies, ddof=1) if len(mine) > 1 else 0.0
            gain = f"{gains.mean():+.3f}" if knob not in ("baseline", "imbalanced copy") else ""
            seconds = f"{np.mean([row['seconds'] for row in mine]):.0f}"
            grid.add_row(knob, f"{np.mean(accuracies):.3f} ± {deviation:.3f}", gain, str(len(mine)), seconds)
        grid.add_section()
    return render(grid)
