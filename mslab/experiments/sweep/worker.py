"""The worker's side: a process with its own cores, which trains one trial after the other as the parent tells it.

Messages are pairs (word, content) over a pipe. To the worker: setup, train, measure. From it: started, epoch (which is
answered with why to end now, or ""), then complete, pruned, cut, failed, stopped or measured.
"""

import contextlib
import ctypes
import math
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mslab.config import Settings, load_settings
from mslab.errors import CheckpointError, ConfigError, DeviceError, DivergedError, MslabError, explain
from mslab.experiments import repeating
from mslab.runs.folder import RunFolder
from mslab.runtime import console, signals


def main() -> None:
    """python -c '…main()' DESCRIPTOR CORES: the pipe's number, and the cores to stay on, such as 0,1."""
    if hasattr(os, "sched_setaffinity"):  # before MindSpore is imported, which starts a thread a core
        os.sched_setaffinity(0, {int(core) for core in sys.argv[2].split(",")})
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nobody is left to hear what it finds
    link = Connection(int(sys.argv[1]))
    with signals.on_stop(signals.stop_at_once), contextlib.suppress(KeyboardInterrupt, EOFError, OSError):
        _, setup = link.recv()
        sys.argv = setup["argv"]  # what the manifests of its runs call their command
        while True:
            word, job = link.recv()
            link.send(answer(word, job, setup, link))


def answer(word: str, job: Mapping[str, Any], setup: Mapping[str, Any], link: Connection) -> tuple[str, dict[str, Any]]:
    """Do a job. What goes wrong is an answer, too."""
    try:
        with console.capture_stderr():
            return measure(job) if word == "measure" else train(job, setup, link)
    except KeyboardInterrupt:
        return "stopped", {}
    except Exception as error:
        known = explain(error) or MslabError(f"{type(error).__name__}: {error}"[:500])
        own = isinstance(known, ConfigError | DivergedError)  # it is about these values, not about the machine
        fatal = isinstance(known, DeviceError | CheckpointError)  # every trial would meet it
        parts = {"expected": known.expected, "fix": known.fix, "details": known.details}
        return "failed", {"kind": type(known).__name__, "what": known.what, "parts": parts, "own": own, "fatal": fatal}


def train(job: Mapping[str, Any], setup: Mapping[str, Any], link: Connection) -> tuple[str, dict[str, Any]]:
    """Train a trial from its beginning, or on from its last epoch where it was taken up again."""
    settings = load_settings(setup["given"] | job["values"])
    from mslab.training import start

    run, last = taken_up(job, settings)
    path = Path(job["path"])
    if run is None:
        if path.exists():  # what was killed before it was a run
            shutil.rmtree(path)
        run = repeating.begin(settings, setup["report"], setup["backbone"], path)
    link.send(("started", {"run": str(run.path.resolve()), "from": run.epochs_done}))

    def should_stop(history: list[dict[str, Any]]) -> str:
        try:
            link.send(("epoch", {"epochs": settings.epochs, "rows": measured(history)}))
            return str(link.recv())
        except (EOFError, OSError):  # the parent is gone
            raise KeyboardInterrupt from None

    run.should_stop = should_stop
    done = start.continue_run(run, last, setup["report"])
    ended = run.manifest["ended_by"] or ""
    best = run.best
    seconds = round(sum(row["seconds"] for row in run.history), 1)
    content: dict[str, Any] = {"rows": measured(run.history), "epochs": run.epochs_done, "seconds": seconds}
    content |= {"val_acc": best["val_acc"] if best else None, "best_epoch": done.best_epoch, "message": ended}
    word = "pruned" if ended.startswith("pruned") else "cut" if ended.startswith("budget") else "complete"
    return word, content


def taken_up(job: Mapping[str, Any], settings: Settings) -> tuple[RunFolder | None, Any]:
    """The run of an earlier try, and its last.ckpt; None where there is none, or it is not of these values."""
    from mslab.training import start

    wanted = settings.model_dump(include=set(job["values"]))
    for path in job["earlier"]:
        try:
            run, last = start.reopen(path)
        except MslabError:
            continue
        if run.settings.model_dump(include=set(job["values"])) == wanted:
            if (run.manifest["ended_by"] or "").startswith("budget"):
                run.manifest["ended_by"] = None  # this time it may go on
            return run, last
    return None, None


def measured(rows: list[dict[str, Any]]) -> list[tuple[int, float]]:
    """(epoch, val_acc) of each epoch that was measured."""
    return [(row["epoch"], row["val_acc"]) for row in rows if not math.isnan(row["val_acc"])]


def measure(job: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The accuracy of a run's best.ckpt on the test images."""
    from mslab.evaluation import measuring

    report = job["report"]
    return "measured", {"accuracy": measuring.evaluate(job["run"], report.root, report, job["device"])["accuracy"]}
