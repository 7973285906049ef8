"""The parent's side: gives trials to worker processes, hears how they go, and lets none be lost with its worker."""

import contextlib
import logging
import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from mslab import errors
from mslab.check.pool import usable_cores
from mslab.errors import TrainingError
from mslab.experiments import repeating
from mslab.experiments.sweep import ledger
from mslab.experiments.sweep.space import Knob, label
from mslab.runtime import signals

log = logging.getLogger("mslab")
START = "from mslab.experiments.sweep.worker import main; main()"
TICK = 1.0  # seconds between two looks whether a worker has died without a word
FAILURES = 3  # of the first trials, after which nothing is likely to work
SILENT_DEATHS = 4  # of workers, one after the other, none of which has completed an epoch


class TrialQueue:
    """One worker's trials, one after the other: its cores, its process, and the trial that it trains now."""

    def __init__(self, number: int, cores: Sequence[int], setup: Mapping[str, Any], log: Path) -> None:
        self.number, self.cores, self.setup, self.log = number, cores, setup, log
        self.process: subprocess.Popen | None = None
        self.link: Connection
        self.trial: optuna.Trial | None = None
        self.values: dict[str, Any] = {}

    def start(self) -> None:
        """A fresh process. In a session of its own: Ctrl-C reaches the parent only, which then tells it."""
        self.link, theirs = Pipe()
        command = [sys.executable, "-c", START, str(theirs.fileno()), ",".join(map(str, self.cores))]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        theirs.close()
        self.send(("setup", self.setup))

    def send(self, message: Any) -> None:
        """A message to the worker; that it has just died is seen elsewhere."""
        with contextlib.suppress(OSError):
            self.link.send(message)

    def close(self) -> None:
        """Let the process end: a closed pipe ends it while it waits; otherwise it is killed."""
        if self.process is None:
            return
        self.link.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


class TrialPool:
    """Workers on this machine, until the study has as many finished trials as asked for."""

    def __init__(
        self,
        study: optuna.Study,
        space: Sequence[Knob],
        folder: Path,
        setup: Mapping[str, Any],
        options: Any,
        save: Callable[[], Any],
    ) -> None:
        self.study, self.space, self.folder, self.options, self.save = study, space, folder, options, save
        cores = usable_cores()
        if options.workers > len(cores):
            log.info(f"note: {options.workers} workers share {len(cores)} cores: each trial takes longer")
        parts = enumerate(shares(cores, options.workers))
        self.workers = [TrialQueue(n, own, setup, folder / f"worker-{n}.log") for n, own in parts]
        self.deadline = time.monotonic() + options.budget if options.budget else math.inf
        self.stopping = self.told_budget = self.told_elsewhere = False
        self.silent_deaths = 0
        self.next_beat = 0.0

    @property
    def busy(self) -> list[TrialQueue]:
        return [worker for worker in self.workers if worker.trial is not None]

    @property
    def over(self) -> bool:
        return time.monotonic() >= self.deadline

    def work(self) -> str:
        """Train. Returns how it ended: done, budget or stopped (Ctrl-C). Raises MslabError where no trial can work."""
        try:
            with signals.interruptible() as interrupted:  # a message half dealt with would leave its worker waiting
                self.loop(interrupted)
        except KeyboardInterrupt:  # a second one
            self.stopping = True
            self.kill()
        except BaseException:
            self.kill()
            raise
        finally:
            for worker in self.busy:
                self.hand_back(worker, "it was stopped", counted=False)
        if self.stopping:
            return "stopped"
        return "budget" if self.over and self.more() else "done"

    def loop(self, interrupted: Callable[[], bool]) -> None:
        while True:
            if interrupted() and not self.stopping:
                self.stop()
            if time.monotonic() >= self.next_beat:
                self.beat()
            for worker in self.workers:
                if worker.trial is None and not self.over and not self.stopping and self.more():
                    self.give(worker)
            if self.over and not self.told_budget:
                self.told_budget = True
                log.info("the budget is over: no new trial begins, running ones end after their epoch")
            if self.busy:
                self.hear()
            elif not self.over and not self.stopping and (others := ledger.elsewhere(self.study)):
                if not self.told_elsewhere:
                    self.told_elsewhere = True
                    log.info(f"waiting for {others} trials of other processes, to take up what they may leave")
                time.sleep(TICK)
            else:
                return

    def more(self) -> bool:
        """Whether a trial is left to begin. A grid's wait in the study; there are no others."""
        left = ledger.taken(self.study) < self.options.trials
        return left and (self.options.sampler != "grid" or ledger.waiting(self.study) > 0)

    def beat(self) -> None:
        """A sign of life for the trials here; those that have lost theirs are given back."""
        self.next_beat = time.monotonic() + ledger.HEARTBEAT
        for worker in self.busy:
            if worker.trial:
                ledger.beat(self.study, worker.trial)
        for number in ledger.lost(self.study):
            log.info(f"trial {number}: whoever trained it is gone; it is taken up again")

    def give(self, worker: TrialQueue) -> None:
        """The next trial to a worker, which is started where there is none."""
        if worker.process is None:
            worker.start()
        worker.trial, worker.values = ledger.begin(self.study, self.space)
        attrs = worker.trial.user_attrs
        path = self.folder / f"trial-{attrs['trial']:03}"
        earlier = [str(path), attrs["run"]] if "run" in attrs else []  # the second may be another machine's
        worker.send(("train", {"values": worker.values, "path": str(path), "earlier": earlier}))

    def hear(self) -> None:
        """Wait for what workers say, and see whether one has died."""
        ready = wait([worker.link for worker in self.busy], timeout=TICK)
        for worker in self.busy:
            try:
                while worker.link in ready and worker.trial and worker.link.poll():
                    self.act(worker, *worker.link.recv())
            except (EOFError, OSError):
                self.died(worker)
                continue
            if worker.trial and worker.process and worker.process.poll() is not None and not worker.link.poll():
                self.died(worker)

    # --- what workers say ---------------------------------------------------------------------------------------------

    def act(self, worker: TrialQueue, word: str, content: Mapping[str, Any]) -> None:
        trial = worker.trial
        if trial is None:
            return
        if word == "started":
            trial.set_user_attr("run", content["run"])
            if content["from"]:
                log.info(f"trial {trial.user_attrs['trial']} goes on after epoch {content['from']}")
        elif word == "epoch":
            self.silent_deaths = 0
            worker.send(self.verdict(trial, content))
        elif word == "stopped":
            self.hand_back(worker, "it was stopped", counted=False)
        elif word == "cut":
            self.note(trial, content)
            self.hand_back(worker, content["message"], counted=False)
        else:
            self.finish(worker, word, content)

    def verdict(self, trial: optuna.Trial, content: Mapping[str, Any]) -> str:
        """Why a trial is to end after this epoch, or ""."""
        rows = content["rows"]
        if not rows or rows[-1][0] >= content["epochs"] or self.stopping:
            return ""
        try:
            self.report(trial, rows)
        except optuna.exceptions.UpdateFinishedTrialError:  # this machine was away for so long that it counted as lost
            return "pruned: another machine has taken it up"
        if self.over:
            return f"budget: {self.options.budget:g} s are over"
        if not trial.user_attrs.get("default") and trial.should_prune():
            best = max(value for _, value in rows)
            return f"pruned: val_acc {best:.3f} by epoch {rows[-1][0]} is below the median of the trials before"
        return ""

    def report(self, trial: optuna.Trial, rows: Sequence[tuple[int, float]]) -> None:
        known = self.known(trial).intermediate_values
        for epoch, value in rows:
            if epoch not in known:
                trial.report(value, epoch)

    def finish(self, worker: TrialQueue, word: str, content: Mapping[str, Any]) -> None:
        """Note what came of a trial, say it, and keep the checkpoints of the best and of the default only."""
        trial, worker.trial = worker.trial, None
        assert trial is not None
        self.silent_deaths = 0
        if word == "complete" and content["val_acc"] is None:
            word, content = "failed", {"what": "no epoch was measured", "own": False, "fatal": False}
        try:
            if word == "failed":
                trial.set_user_attr("message", reason(content))
                self.study.tell(trial, state=TrialState.FAIL)
            else:
                self.report(trial, content["rows"])
                self.note(trial, content)
                value = content["val_acc"] if word == "complete" else None
                self.study.tell(trial, value, TrialState.COMPLETE if word == "complete" else TrialState.PRUNED)
        except (optuna.exceptions.UpdateFinishedTrialError, ValueError):
            log.info(f"note: trial {trial.user_attrs['trial']} counted as lost meanwhile; another one stands for it")
            return
        rows = ledger.rows(self.study)
        log.info(self.line(ledger.row_of(self.known(trial)), rows))
        self.tidy(rows)
        self.save()
        if word == "failed":
            self.hopeless(content, rows)

    def note(self, trial: optuna.Trial, content: Mapping[str, Any]) -> None:
        for key in ("val_acc", "best_epoch", "epochs", "seconds", "message"):
            trial.set_user_attr(key, content[key])

    def known(self, trial: optuna.Trial) -> optuna.trial.FrozenTrial:
        return ledger.frozen(self.study, trial.number)

    def line(self, row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> str:
        done = sum(other["state"] in ("complete", "pruned", "failed") for other in rows)
        values = "  ".join(f"{key}={short(value)}" for key, value in row["values"].items())
        best = ledger.best(rows)
        figure = f"val_acc {row['val_acc']:.3f}" if row["val_acc"] is not None else "no val_acc"
        came = {"complete": figure, "pruned": f"{figure}, pruned after epoch {row['epochs']}"}
        led = f"; best {best['val_acc']:.3f} of trial {best['trial']}" if best else ""
        trial = f"trial {row['trial']}{' (default)' * row['default']}"
        end = came.get(row["state"], f"failed: {row['message']}")
        return f"{done}/{self.options.trials}  {trial}: {values}: {end}{led}"

    def tidy(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Delete the checkpoints of this folder's finished trials, but for the best's and the default's."""
        mine = [row for row in rows if row["run"] and Path(row["run"]).parent == self.folder.resolve()]
        best = ledger.best(mine)
        for row in mine:
            ended = row["state"] in ("complete", "pruned", "failed")
            if ended and not row["default"] and not (best and row["trial"] == best["trial"]):
                repeating.clear(Path(row["run"]))

    def hopeless(self, content: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
        """Raise what every trial would meet, or where the first ones have all failed."""
        if content["fatal"]:
            raise getattr(errors, content["kind"])(content["what"], **content["parts"])
        failed = [row for row in rows if row["state"] == "failed"]
        if not content["own"] and len(failed) >= FAILURES and not any(row["val_acc"] is not None for row in rows):
            raise TrainingError(
                f"The first {len(failed)} trials have all failed, the last one so: {content['what']}",
                expected="trials that can be trained",
                fix=f"mslab train with the same settings shows the cause; {self.folder}/trial-*/train.log",
            )

    # --- workers that end ---------------------------------------------------------------------------------------------

    def died(self, worker: TrialQueue) -> None:
        """Give a dead worker's trial back; a fresh one starts when there is work."""
        assert worker.process is not None and worker.trial is not None
        try:
            code = worker.process.wait(5)
        except subprocess.TimeoutExpired:  # it has closed its pipe, and does not end
            worker.process.kill()
            code = worker.process.wait()
        worker.link.close()
        worker.process = None
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        number, tries = worker.trial.user_attrs["trial"], worker.trial.user_attrs.get("retries", 0) + 1
        taken = self.hand_back(worker, f"its worker {how}", counted=not self.stopping)
        then = f"it is taken up again ({tries} of {ledger.RETRIES})" if taken else "it was so too often; given up"
        log.info(f"worker {worker.number} {how} in trial {number}: {then}")
        self.silent_deaths += 1
        if self.silent_deaths >= SILENT_DEATHS and not self.stopping:
            raise TrainingError(
                f"{self.silent_deaths} workers have died one after the other, none after an epoch; the last {how}.",
                expected="workers that train; SIGKILL often means that memory ran out",
                fix=f"mslab train with the same settings; fewer --workers; {worker.log} has what they said",
            )

    def hand_back(self, worker: TrialQueue, why: str, counted: bool) -> bool:
        """Let a trial be taken up by whoever is free next. False where that was too often."""
        trial, worker.trial = worker.trial, None
        assert trial is not None
        return ledger.give_back(self.study, trial.number, why, counted)

    def stop(self) -> None:
        """After Ctrl-C: trials end after their step, and can go on."""
        self.stopping = True
        for worker in self.busy:
            if worker.process:
                worker.process.send_signal(signal.SIGINT)

    def measure(self, run: str, report: Any, device: str) -> float | None:
        """A run's accuracy on the test images; None where it cannot be had, which is said."""
        worker = self.workers[0]
        if worker.process is None:
            worker.start()
        worker.send(("measure", {"run": run, "report": report, "device": device}))
        try:
            word, content = worker.link.recv()
        except (EOFError, OSError):
            word, content = "failed", {"what": "its worker died"}
        if word == "measured":
            return float(content["accuracy"])
        log.info(f"note: {run} could not be measured on the test images: {content.get('what', word)}")
        return None

    def kill(self) -> None:
        for worker in self.workers:
            if worker.process:
                worker.process.kill()

    def close(self) -> None:
        for worker in self.workers:
            worker.close()


def shares(cores: Sequence[int], workers: int) -> list[list[int]]:
    """Each worker's own cores; one each, going round, where there are more workers."""
    # shares([0, 1, 2, 3, 4], 2) -> [[0, 1], [2, 3, 4]]
    if workers > len(cores):
        return [[cores[n % len(cores)]] for n in range(workers)]
    return [list(cores[n * len(cores) // workers : (n + 1) * len(cores) // workers]) for n in range(workers)]


def reason(content: Mapping[str, Any]) -> str:
    """Why a trial failed, in one line; of settings that contradict each other, which."""
    rows = content.get("parts", {}).get("details", []) if content.get("kind") == "ConfigError" else []
    return " ".join([content["what"], "; ".join(f"{name} {text}" for name, text in rows)]).strip()


def short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(label(value))
