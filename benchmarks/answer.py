"""Time to an answer: transfer until the validation accuracy reaches a target, by mslab and by a plain PyTorch script.

Both sides are measured as whole processes, from start to end, with the same images, backbone, settings and target.
Every round has its own seed, and its runs an order that is drawn anew. mslab checks the data, writes a run folder and
a report in this time; the script writes the weights.
"""

import csv
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.processes import last_error, read_result
from mslab.check import cores
from mslab.config import FIELDS, Settings, load_settings
from mslab.errors import ConfigError, MslabError
from mslab.runtime.tables import empty_table, render

SCRIPT = Path(__file__).with_name("answer_torch.py")
HEAD = ["freeze=all", "epochs=40", "lr_max=0.01"]  # a head alone takes, and stands, a higher rate than all layers
JOBS = {  # name -> what it changes in the config; those of a row share a folder of features, and run in this order
    "fine-tuned": ["freeze=none", "epochs=12"],
    "head only, features in every epoch": [*HEAD, "feature_views=0"],
    "head only, features computed once": HEAD,
    "head only, features of an earlier run": HEAD,
}
UNITS = (["fine-tuned"], ["head only, features in every epoch"], list(JOBS)[2:])
SIDES = ("mslab", "PyTorch")
USED = """
    class_num image_size batch_size epochs crop_scale flip color_jitter weight_decay optimizer momentum beta1 beta2
    freeze seed mean std
""".split()  # noqa: SIM905  # settings that the script has, too
FREE = """
    train_data val_data follow_links ignore data_workers cache stages profile stem feature_views lr_scheduler
    warmup_epochs lr_init lr_max lr_end cosine_cycles step_lr_gamma step_lr_step_size lr_scheduler_step
    lr_scheduler_factor learning_rate_strategy target_accuracy validation_batch_size device mode amp_level
""".split()  # noqa: SIM905  # those that change nothing of a recipe, and those of which the rates are made


def bench_answer(
    config: str,
    backbone: str,
    peers: str,
    overrides: Sequence[str],
    target: float,
    repeats: int,
    progress: Callable[[str], Any],
) -> list[dict[str, Any]]:
    """A row per job: ratio (PyTorch's seconds to mslab's; None unless all runs reach the target), versions, and for
    each side seconds (median of `repeats` runs), least, most, said (until the accuracy is logged), epochs, val_acc
    (medians), reached (runs that did), runs.
    """
    runs: dict[tuple[str, str], list[dict[str, Any]]] = {(job, side): [] for job in JOBS for side in SIDES}
    rng = random.Random(1)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "backbone.safetensors"
        for seed in range(1, repeats + 1):
            units = [(unit, side) for unit in UNITS for side in SIDES]
            for unit, side in rng.sample(units, len(units)):
                with tempfile.TemporaryDirectory(dir=scratch) as folder:
                    for job in unit:
                        words = [*JOBS[job], *overrides, f"seed={seed}", f"target_accuracy={target}"]
                        if side == "mslab":
                            done = run_mslab(config, backbone, words, Path(folder))
                        else:
                            done = run_pytorch(recipe(config, backbone, words, file), peers, Path(folder))
                        runs[job, side].append(done)
                        progress(
                            f"seed {seed}, {job}: {side} {done['seconds']:.1f} s, {done['epochs']} epochs, "
                            f"val_acc {done['val_acc']:.3f}"
                        )
    return [summarise(job, {side: runs[job, side] for side in SIDES}, target) for job in JOBS]


def summarise(job: str, runs: Mapping[str, Sequence[Mapping[str, Any]]], target: float) -> dict[str, Any]:
    """The row of a job from the runs of both sides."""
    row: dict[str, Any] = {"job": job, "target": target}
    for side in SIDES:
        columns = {key: [run[key] for run in runs[side]] for key in ("seconds", "said", "epochs", "val_acc")}
        seconds = columns["seconds"]
        row[side] = {key: statistics.median(values) for key, values in columns.items()}
        row[side] |= {"least": min(seconds), "most": max(seconds), "runs": len(seconds)}
        row[side]["reached"] = sum(accuracy >= target for accuracy in columns["val_acc"])
    complete = all(row[side]["reached"] == row[side]["runs"] for side in SIDES)
    row["ratio"] = row["PyTorch"]["seconds"] / row["mslab"]["seconds"] if complete else None
    row["versions"] = runs["PyTorch"][0]["versions"]
    return row


def run_mslab(config: str, backbone: str, words: Sequence[str], folder: Path) -> dict[str, Any]:
    """`mslab transfer` as a process: seconds, said (seconds until it logs its val_acc), epochs, val_acc."""
    settings = load_settings(config, words)
    data = [f"{key}={Path(getattr(settings, key)).resolve()}" for key in ("train_data", "val_data")]
    arguments = [str(Path(config).resolve()), "--backbone", str(Path(backbone).resolve()), *words, *data]
    before = set(folder.glob("runs/*"))
    start, said, lines = time.perf_counter(), 0.0, []
    with subprocess.Popen(
        [sys.executable, "-m", "mslab", "transfer", *arguments],
        cwd=folder,
        env=os.environ | {"XDG_CACHE_HOME": str(folder / "cache")},  # not ./mslab: -m would import it
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stderr or ():
            lines.append(line)
            if line.startswith("best val_acc"):
                said = time.perf_counter() - start
    seconds = time.perf_counter() - start
    if process.returncode:
        raise MslabError(
            f"mslab transfer did not finish: {last_error(''.join(lines))}",
            expected="a transfer that works outside this benchmark",
            fix=f"mslab transfer {' '.join(arguments)}",
        )
    (run,) = set(folder.glob("runs/*")) - before
    with (run / "history.csv").open(encoding="utf-8") as file:
        accuracies = [float(row["val_acc"]) for row in csv.DictReader(file)]
    return {"seconds": seconds, "said": said, "epochs": len(accuracies), "val_acc": max(accuracies)}


def run_pytorch(job: Mapping[str, Any], peers: str, folder: Path) -> dict[str, Any]:
    """The script as a process: seconds, epochs, val_acc, versions."""
    work = json.dumps(dict(job) | {"features": str(folder / "features.pth"), "weights": str(folder / "best.pth")})
    start = time.perf_counter()
    done = read_result(
        [peers, "-I", str(SCRIPT), work],
        os.environ | {"OMP_NUM_THREADS": str(cores())},
        "The PyTorch script",
        "a Python with torch, torchvision and pillow, for --peers",
        "python -m venv peers && peers/bin/pip install torch torchvision, then --peers peers/bin/python",
    )
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "said": seconds} | done


def recipe(config: str, backbone: str, words: Sequence[str], file: Path) -> dict[str, Any]:
    """What the script does, from mslab's settings. Writes the backbone to `file` if it is not there.

    Raises ConfigError for settings that the script does not have, and for a backbone that is not ResNet-50's.
    """
    from mslab import model
    from mslab.checkpoint import converting
    from mslab.config.resolve import Machine, resolve
    from mslab.data import augment
    from mslab.training import finetuning, learning_rates

    settings = load_settings(config, words, notes=False)
    refuse_unknown(settings)
    parent = finetuning.read_backbone(backbone)
    images = [path for path in Path(settings.train_data).glob("*/*") if path.is_file()]
    resolved, _ = resolve(settings, len(images), parent, Machine("cpu", cores()))
    if resolved.stages != [list(row) for row in model.STAGES] or resolved.network_profile() != model.PROFILE:
        raise ConfigError(
            f"{parent.path} is not torchvision's ResNet-50: stages {resolved.stages}, {resolved.network_profile()}.",
            expected=f"stages {model.STAGES}, {model.PROFILE}",
            fix="train one with stages: null, or use the file of one with --backbone",
        )
    if not file.exists():
        converting.convert(parent.path, file)
    job = {key: getattr(resolved, key) for key in USED}
    job["mean"], job["std"] = augment.scale(resolved)
    rates = learning_rates.rates_of(resolved, len(images) // resolved.batch_size).tolist()
    job |= {key: str(Path(getattr(resolved, key)).resolve()) for key in ("train_data", "val_data")}
    job |= {"rates": rates, "views": resolved.feature_views, "target": resolved.target_accuracy}
    return job | {"backbone": str(file), "threads": cores()}


def refuse_unknown(settings: Settings) -> None:
    """Raise ConfigError for settings that change the recipe and that the PyTorch script does not have."""
    others = [key for key in FIELDS if key not in (*USED, *FREE)]
    set_ones = {
        key: getattr(settings, key)
        for key in others
        if getattr(settings, key) != FIELDS[key].get_default(call_default_factory=True)
    }
    if settings.optimizer not in ("adam", "momentum", "sgd"):
        set_ones["optimizer"] = settings.optimizer
    if set_ones:
        raise ConfigError(
            "The PyTorch script has not all of these settings: the two sides would differ.",
            details=[(key, str(value)) for key, value in set_ones.items()],
            expected="adam, momentum or sgd, and otherwise the defaults of these settings",
            fix=" ".join(f"{key}=null" for key in set_ones if key != "optimizer") or "optimizer=adam",
        )


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line per job."""
    title = f"seconds until val_acc {rows[0]['target']:g}, entire processes, {cores()} cores"
    names = ("", "mslab", "PyTorch", "ratio", "mslab's accuracy after", "epochs", "val_acc", "reached")
    grid = empty_table(title, names)
    for row in rows:
        sides = [row[side] for side in SIDES]
        grid.add_row(
            row["job"],
            *(f"{side['seconds']:.1f}" for side in sides),
            f"{row['ratio']:.2f}x" if row["ratio"] else "–",
            f"{row['mslab']['said']:.1f}",
            " / ".join(f"{side['epochs']:g}" for side in sides),
            " / ".join(f"{side['val_acc']:.3f}" for side in sides),
            " / ".join(f"{side['reached']} of {side['runs']}" for side in sides),
        )
    note = "ratio: PyTorch's seconds to mslab's; – where a run did not reach it; medians of the runs"
    return f"{render(grid)}\n{note}\nmslab's accuracy after: seconds until it is logged; then the report is written"
