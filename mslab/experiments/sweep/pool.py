"""The trials of a sweep in worker processes of this machine.

A thread for each worker runs Optuna's study.optimize, which sends heartbeats; its objective, TrialPool.train, hands the
trial to the process. The heartbeats come from here since a process that compiles a network may be silent for minutes.
"""

import contextlib
import functools
import logging
import math
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from mslab import files
from mslab.check.limits import usable_cores
from mslab.errors import (
    OUT_OF_MEMORY,
    CheckpointError,
    ConfigError,
    DatasetError,
    DeviceError,
    DivergedError,
    MslabError,
    TrainingError,
)
from mslab.experiments import repeating
from mslab.experiments.sweep import trials
from mslab.experiments.sweep.sampling import points_of
from mslab.experiments.sweep.space import Space, encode
from mslab.experiments.sweep.worker import Stopped
from mslab.runs import ranking
from mslab.runtime import signals

log = logging.getLogger("mslab")
START = "from mslab.experiments.sweep.worker import main; main()"
TICK = 1.0  # seconds between two looks at processes, signals and the study
BY_VALUES = (ConfigError, DivergedError, DatasetError)  # the data was checked: a batch of more images than there are
FAILURES = 4  # trials in a row that fail unexpectedly, after which none is likely to work


class TrialFailed(Exception):
    """A trial that Optuna marks as failed; the sweep continues."""


class WorkerDied(Exception):
    """A worker process that ended without an answer."""


class WorkerProcess:
    """A process that trains trials on its own cores, and the pipe to it."""

    def __init__(self, number: int, cores: Sequence[int], setup: Mapping[str, Any], log: Path) -> None:
        self.number, self.cores, self.setup, self.log = number, cores, setup, log
        self.process: subprocess.Popen | None = None
        self.link: Connection

    def start(self) -> None:
        """Start the process unless it runs, in its own session: Ctrl-C reaches the pool only, which forwards it."""
        if self.process is not None:
            return
        self.link, theirs = Pipe()
        fd = theirs.fileno()
        command = [sys.executable, "-c", START, str(fd), ",".join(map(str, self.cores))]
        with files.open_regular(self.log, "ab") as log, theirs:
            streams: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log}
            self.process = subprocess.Popen(command, pass_fds=[fd], start_new_session=True, **streams)
        with contextlib.suppress(OSError):  # train() notices a death
            self.link.send(self.setup)

    def train(self, trial: optuna.Trial, job: Mapping[str, Any]) -> dict[str, Any]:
        """The figures of a trial. Raises the exception that ended it, and WorkerDied."""
        with contextlib.suppress(EOFError, OSError):
            self.link.send((trial, job))
            while not self.link.poll(TICK):
                if self.process and self.process.poll() is not None and not self.link.poll():
                    raise EOFError  # its children may hold the pipe open
            answer = self.link.recv()
            if isinstance(answer, Exception):
                raise answer
            return answer
        code = self.close()
        raise WorkerDied(f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}")

    def close(self) -> int:
        """End the process, which a closed pipe does while it waits. Returns its exit code."""
        process, self.process = self.process, None
        if process is None:
            return 0
        self.link.close()
        try:
            return process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()


class TrialPool:
    """Workers on this machine, until the study has as many finished trials as `options` (SweepOptions) ask for."""

    def __init__(
        self, study: optuna.Study, space: Space, folder: Path, setup: Mapping[str, Any], options: Any, save: Callable
    ) -> None:
        self.study, self.space, self.folder, self.options, self.save = study, space, folder, options, save
        cores = usable_cores()
        if options.workers > len(cores):
            log.info(f"note: {options.workers} workers share {len(cores)} cores: each trial takes longer")
        parts = enumerate(split_cores(cores, options.workers))
        self.workers = [WorkerProcess(n, part, setup, folder / f"worker-{n}.log") for n, part in parts]
        self.deadline = time.time() + options.budget if options.budget else math.inf
        self.lock = threading.RLock()  # one trial begins at a time: the sampler draws in the order of the trials
        self.stopping = self.waited = False
        self.interrupted: Callable[[], bool] = bool  # whether Ctrl-C came, which run() acts on a moment later
        self.journal = "://" not in trials.storage_url(options.storage, folder)
        self.called = setup.get("called", "val_acc")  # for people
        self.points, self.best_by = points_of(study), trials.best_by_of(study)
        self.failures: set[int | None] = set()  # trials in a row

    @property
    def over(self) -> bool:
        return time.time() >= self.deadline

    def run(self) -> str:
        """Train. Returns done, budget or stopped (Ctrl-C). Raises MslabError if no trial can work."""
        announced = False
        with signals.interruptible() as self.interrupted, ThreadPoolExecutor(len(self.workers)) as threads:
            jobs = [threads.submit(self.work, worker) for worker in self.workers]
            try:
                while wait(jobs, TICK, FIRST_EXCEPTION).not_done and not any(j.done() and j.exception() for j in jobs):
                    if self.interrupted() and not self.stopping:
                        self.stop(signal.SIGINT)
                    if self.over and not announced:
                        announced = True
                        log.info("the budget is over: no new trial begins, running ones end after their epoch")
            except KeyboardInterrupt:  # a second Ctrl-C
                self.stop(signal.SIGKILL)
            if any(job.done() and job.exception() for job in jobs):
                self.stop(signal.SIGKILL)
        for job in jobs:
            job.result()
        if self.stopping:
            return "stopped"
        return "budget" if self.over and self.more() else "done"

    def stop(self, number: signal.Signals) -> None:
        self.stopping = True
        for worker in self.workers:
            if process := worker.process:
                process.send_signal(number)

    def work(self, worker: WorkerProcess) -> None:
        """Give a worker one trial after the other."""
        others = 0
        try:
            while not self.stopping and not self.interrupted() and not self.over:
                with contextlib.ExitStack() as turn:
                    turn.enter_context(self.lock)  # until train() has begun its trial
                    trials.take_back(self.study)
                    if self.more():
                        self.optimize(functools.partial(self.train, worker, turn.close))
                        continue
                    others = trials.elsewhere(self.study, self.journal)
                    if others and not self.waited:
                        self.waited = True
                        log.info(f"waiting for {others} trials of other processes, in case they leave one")
                if not others:
                    return
                time.sleep(TICK)
        finally:
            worker.close()

    def more(self) -> bool:
        """Whether there is a trial to begin: one that is queued, as those of a grid, or a point that was not tried."""
        if trials.count(self.study, waiting=False) >= self.options.trials:
            return False
        if trials.count(self.study, waiting=True):
            return True
        return self.options.sampler != "grid" and self.points.left(self.study.get_trials(deepcopy=False))

    def optimize(self, objective: Callable[[optuna.Trial], float]) -> None:
        try:
            self.study.optimize(objective, n_trials=1, catch=TrialFailed, callbacks=[self.finished])
        except ValueError as error:
            if "Cannot tell" not in str(error):  # Optuna's: the trial has another state since this machine was silent
                raise
            log.info("note: a trial of this machine counted as lost meanwhile; another machine continues it")

    def train(self, worker: WorkerProcess, begun: Callable[[], None], trial: optuna.Trial) -> float:
        """Optuna's objective: have the worker train a trial. Returns what trials.objective makes of its best epoch."""
        values = trials.begin(self.study, self.space, trial)
        number = trials.number_of(self.study, trial)
        equal = trials.equal_to(self.study, trial, self.points)
        if equal is not None:
            trial.set_user_attr(trials.EQUAL, equal)
            raise TrialFailed
        begun()
        path = str(self.folder / f"trial-{number:03}")
        earlier = [path, trial.user_attrs["run"]] if "run" in trial.user_attrs else []  # the second: another machine's
        job = {"values": values, "path": path, "earlier": earlier, "deadline": self.deadline}
        worker.start()
        given_up = False
        try:
            # looked at after the start, since stop() reaches only processes that run
            if self.stopping or self.interrupted():
                raise Stopped
            figures = worker.train(trial, job)
        except (Stopped, WorkerDied) as error:
            stopped, cause = self.stopping or isinstance(error, Stopped), f"worker {worker.number} {error}"
            last = self.study.trials[trial.number]
            given_up = not stopped and trials.retries(last) >= trials.RETRIES
            if not stopped and "figures" not in last.user_attrs:
                self.failures.add(number)
            trials.retry(self.study, last, cause, stopped)
            if given_up:
                trial.set_user_attr("failure", f"its worker died {trials.RETRIES + 1} times; the last {cause}")
        except MslabError as error:
            rows = error.details if isinstance(error, ConfigError) else []
            cause = " ".join([error.what, "; ".join(f"{name} {text}" for name, text in rows)]).strip()
            trial.set_user_attr("failure", cause)
            if isinstance(error, DeviceError | CheckpointError):  # every trial would meet it
                raise
            if isinstance(error, BY_VALUES) or error.what == OUT_OF_MEMORY:
                trial.set_user_attr(trials.BY_VALUES, True)
                return trials.WORST
            self.failures.add(number)
        else:
            return trials.objective(figures, self.best_by)
        if len(self.failures) >= FAILURES and not self.stopping:
            count = len(self.failures)
            raise TrainingError(
                f"{count} trials in a row have failed, none after an epoch or by its values. Last: {cause}",
                expected="trials that can be trained; SIGKILL often means that memory ran out",
                fix=f"fewer --workers, or a smaller batch_size; {self.folder}/worker-*.log and */train.log say more",
            )
        if "failure" in trial.user_attrs and given_up:  # its values are the likely reason: a batch that is too large
            return trials.WORST
        raise TrialFailed

    def finished(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Report a trial, save sweep.json, and delete checkpoints but for the best trial's and the default's."""
        with self.lock:
            number = trials.number_of(study, trial)
            if number is None or trials.EQUAL in trial.user_attrs:  # it is tried again, or was not trained
                return
            rows = trials.rows(study)
            row = trials.row(number, trial)
            if row["state"] != "failed":
                self.failures.clear()
            log.info(self.line(row, rows, trial.user_attrs.get("from", 0)))
            own = [row for row in rows if row["run"] and Path(row["run"]).parent == self.folder.resolve()]
            best = trials.best(own, self.best_by)
            for row in own:
                best_here = best is not None and row["trial"] == best["trial"]
                if row["state"] in trials.ENDED and not row["default"] and not best_here:
                    repeating.clear(Path(row["run"]))
            self.save()

    def line(self, row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], start: int) -> str:
        asked = min(self.options.trials, self.points.possible(0) or self.options.trials)
        done, name = sum(other["state"] in trials.ENDED for other in rows), ranking.column(self.best_by)
        best, shown = trials.best(rows, self.best_by), self.called if name == "val_acc" else name
        values = "  ".join(f"{key}={short(value)}" for key, value in row["values"].items())
        text = f"{done}/{asked}  trial {row['trial']}{' (default)' * row['default']}: {values}: "
        text += f"failed: {row['message']}" if row["state"] == "failed" else f"{shown} {row[name]:.3f}"
        text += f", pruned after epoch {row['epochs']}" if row["state"] == "pruned" else ""
        text += f", continued after epoch {start}" if start else ""
        return text + (f"; best {best[name]:.3f} of trial {best['trial']}" if best else "")


def split_cores(cores: Sequence[int], workers: int) -> list[list[int]]:
    """The cores of each worker; one each, in turn, if there are more workers than cores."""
    # split_cores([0, 1, 2, 3, 4], 2) -> [[0, 1], [2, 3, 4]]
    if workers > len(cores):
        return [[cores[n % len(cores)]] for n in range(workers)]
    return [list(cores[n * len(cores) // workers : (n + 1) * len(cores) // workers]) for n in range(workers)]


def short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(encode(value))
