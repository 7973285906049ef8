"""Which epoch each measure of best_by chooses where classes are rare, and how good that epoch is on test images.

Training and validation images are thinned out as in knobs.py; the test images are equally many of every class, so that
their accuracy is the balanced accuracy. One training for each seed, which keeps every epoch's checkpoint until the end.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import knobs
from mslab.check import DatasetReport
from mslab.config import Settings
from mslab.experiments import repeating
from mslab.runs import ranking
from mslab.runs.folder import RunFolder
from mslab.runtime.tables import empty_table, render

MEASURES = ("accuracy", "balanced_accuracy", "macro_f1", "loss")


def bench_measures(
    config: Settings,
    seeds: int,
    report: DatasetReport,
    test: DatasetReport,
    progress: Callable[[str], Any] = lambda text: None,
) -> list[dict[str, Any]]:
    """Rows of {measure, seed, epoch, val_acc, val_balanced_accuracy, test_acc}. Writes runs/measures-…-SEED-…/."""
    from mslab.evaluation import measuring
    from mslab.training import start

    folder, rows = f"measures-{datetime.now():%Y%m%d-%H%M%S}", []
    for seed in range(config.seed, config.seed + seeds):
        settings = config.replace(best_by="balanced_accuracy", max_to_keep=config.epochs, seed=seed)
        done = start.train(settings, report=thin(report, seed), name=f"{folder}-{seed}")
        history = RunFolder.read(done.run).history
        chosen = {measure: ranking.best(history, measure) or {} for measure in MEASURES}
        found = {}
        for epoch in {row["epoch"] for row in chosen.values()}:
            file = Path(done.run) / "checkpoints" / f"epoch-{epoch:04}.ckpt"
            found[epoch] = measuring.evaluate(file, test.root, report=test, device=config.device)["accuracy"]
        repeating.clear(Path(done.run))
        for measure, row in chosen.items():
            names = ("epoch", "val_acc", "val_balanced_accuracy")
            rows.append({"measure": measure, "seed": seed} | {name: row[name] for name in names})
            rows[-1]["test_acc"] = found[row["epoch"]]
            progress(f"seed {seed}: {measure} chooses epoch {row['epoch']}, test accuracy {rows[-1]['test_acc']:.3f}")
    return rows


def thin(report: DatasetReport, seed: int) -> DatasetReport:
    """The report with training and validation images thinned out alike, class after class."""
    val = knobs.imbalanced(replace(report, splits={"train": report.splits["val"]}), seed).splits["train"]
    thinned = knobs.imbalanced(report, seed)
    return replace(thinned, splits=thinned.splits | {"val": val})


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Epochs by seed, and means and standard deviations over the seeds."""
    columns = {"val_acc": "validation accuracy", "val_balanced_accuracy": "balanced", "test_acc": "test accuracy"}
    grid = empty_table(
        "mean ± standard deviation over the seeds", ("best_by", "epochs", *columns.values()), ("best_by",)
    )
    for measure in dict.fromkeys(row["measure"] for row in rows):
        own = [row for row in rows if row["measure"] == measure]
        values = {name: [row[name] for row in own] for name in columns}
        texts = [f"{np.mean(v):.3f} ± {np.std(v, ddof=1) if len(v) > 1 else 0:.3f}" for v in values.values()]
        grid.add_row(measure, ", ".join(str(row["epoch"]) for row in own), *texts)
    return render(grid)
