"""A process of a sweep: trains trials on its own cores, one after the other, as the pool asks it over a pipe.

A trial arrives as Optuna's own Trial object, which reports epochs and asks the pruner here. The answer is the figures
of the run, or the exception that ended it.
"""

import contextlib
import ctypes
import itertools
import math
import os
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError

from mslab.config import Settings, load_settings
from mslab.errors import MslabError, TrainingError, explain
from mslab.experiments import repeating
from mslab.experiments.sweep.trials import objective
from mslab.runs import ranking
from mslab.runs.folder import RunFolder
from mslab.runtime import console, signals

STOPPED = "stopped: the budget is over"


class Stopped(Exception):
    """A trial that was stopped on purpose (Ctrl-C, budget), to be continued later."""


def main() -> None:
    """python -c '…main()' DESCRIPTOR CORES: the number of the pipe, and the cores to stay on, such as 0,1."""
    if hasattr(os, "sched_setaffinity"):  # before MindSpore is imported, which starts a thread on each core
        os.sched_setaffinity(0, {int(core) for core in sys.argv[2].split(",")})
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a worker ends with the pool
    link = Connection(int(sys.argv[1]))
    with signals.on_stop(signals.stop_at_once), contextlib.suppress(KeyboardInterrupt, EOFError, OSError):
        setup = link.recv()
        sys.argv = setup["argv"]  # the command that the manifests of its runs name
        while True:
            trial, job = link.recv()
            try:
                with console.capture_stderr():
                    answer: Any = train(trial, setup | job)
            except KeyboardInterrupt:
                answer = Stopped()
            except (MslabError, Stopped, optuna.TrialPruned) as error:
                answer = error
            except Exception as error:
                answer = explain(error) or MslabError(" ".join(f"{type(error).__name__}: {error}"[:500].split()))
            link.send(answer)


def train(trial: optuna.Trial, job: Mapping[str, Any]) -> dict[str, Any]:
    """Train a trial from its beginning, or after the last epoch of an earlier try. Returns its figures."""
    settings = load_settings(job["config"] | job["values"], place="this trial", notes=False)
    from mslab.training import start

    run, last = earlier_run(job, settings)
    if run is None:
        run = repeating.begin(settings, job["report"], job["backbone"], free_path(Path(job["path"])))
    trial.set_user_attr("run", str(run.path.resolve()))
    trial.set_user_attr("from", run.epochs_done)
    trial.set_user_attr("planned", settings.epochs)
    reported: set[int] = set()
    run.should_stop = lambda rows: report(trial, run, reported, settings.epochs, job["deadline"])
    start.continue_run(run, last, job["report"])
    report(trial, run, reported, settings.epochs, math.inf)  # also a run that was killed after its last epoch
    message = run.manifest["ended_by"] or ""
    with contextlib.suppress(UpdateFinishedTrialError):
        trial.set_user_attr("figures", figures(run) | {"message": message})
    if message == STOPPED:
        raise Stopped
    if message.startswith("pruned: "):
        raise optuna.TrialPruned
    if run.best is None:
        raise TrainingError(
            f"{run.path} measured no epoch.",
            expected="validation images, and an evaluation in at least one epoch",
            fix="do_eval_along_train: true, and an evaluation_frequency of at most epochs",
        )
    return figures(run)


def free_path(path: Path) -> Path:
    """The path of a new run: this one, or with a number if an earlier run lies there, which is kept."""
    if path.is_dir() and not (path / "manifest.json").exists():  # killed before it was a run
        shutil.rmtree(path)
    names = (path if number == 1 else path.with_name(f"{path.name}-{number}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())


def report(trial: optuna.Trial, run: RunFolder, reported: set[int], epochs: int, deadline: float) -> str:
    """Report the epochs so far to Optuna, of which `reported` has the numbers. Returns why the run ends now, or ""."""
    try:
        for row in run.history:
            if row["epoch"] not in reported and not math.isnan(row["val_acc"]):
                trial.report(objective(row, run.best_by), row["epoch"])
                reported.add(row["epoch"])
        trial.set_user_attr("figures", figures(run))
    except UpdateFinishedTrialError:  # this machine was silent for so long that it counted as lost
        return "pruned: another machine continues it"
    if run.best is None or run.epochs_done >= epochs:
        return ""
    if time.time() >= deadline:
        return STOPPED
    if not trial.user_attrs.get("default") and trial.should_prune():
        name = ranking.column(run.best_by)
        called = ranking.shown(run.settings) if name == "val_acc" else name
        reached = f"{called} {run.best[name]:.3f} by epoch {max(reported)}"
        return f"pruned: {reached} is {'above' if run.best_by == 'loss' else 'below'} the median of the trials before"
    return ""


def figures(run: RunFolder) -> dict[str, Any]:
    names = {"val_acc": None, ranking.column(run.best_by): None}
    values = {name: run.best[name] for name in names} if run.best else names
    seconds = round(sum(row["seconds"] for row in run.history), 1)
    ends = {"best_epoch": run.best and run.best["epoch"], "epochs": run.epochs_done, "seconds": seconds}
    return values | ends


def earlier_run(job: Mapping[str, Any], settings: Settings) -> tuple[RunFolder | None, Any]:
    """The run of an earlier try and its last.ckpt, or None. Optuna starts a trial again; only mslab can continue it."""
    from mslab.training import start

    names = set(job["values"])
    for path in job["earlier"]:
        with contextlib.suppress(MslabError):
            run, last = start.reopen(path)
            if run.settings.model_dump(include=names) == settings.model_dump(include=names):
                if run.manifest["ended_by"] == STOPPED:
                    run.manifest["ended_by"] = None
                return run, last
    return None, None
