"""Sweeps with real worker processes: their space, their folder, their messages, and a worker that is killed."""

import os
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from mslab.experiments.sweep import study


def space_file(folder: Path, text: str = "lr_max: {low: 0.01, high: 0.2, log: true}\n") -> Path:
    (folder / "space.yaml").write_text(text)
    return folder / "space.yaml"


def the_folder(inside: Path) -> Path:
    (folder,) = (inside / "runs").glob("*-sweep-*")
    return folder


def workers_of(pid: int) -> list[int]:
    """The workers of a sweep in process `pid`, found by their command line."""
    workers = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            try:
                if b"mslab.experiments.sweep.worker" in Path(f"/proc/{child}/cmdline").read_bytes():
                    workers.append(int(child))
            except OSError:
                continue
    return workers


class Killer(threading.Thread):
    """Kills (signal 9) the worker that trains trial-000, after that has completed an epoch."""

    def __init__(self, inside: Path, pid: int) -> None:
        super().__init__(daemon=True)
        self.inside, self.pid, self.killed, self.cores = inside, pid, 0, []

    def run(self) -> None:
        end = time.monotonic() + 200
        while time.monotonic() < end and not self.killed:
            for last in self.inside.glob("runs/*-sweep-*/trial-000/checkpoints/last.ckpt"):
                log = last.parent.parent / "train.log"
                self.cores = [os.sched_getaffinity(worker) for worker in workers_of(self.pid)]
                for worker in workers_of(self.pid):
                    if any(f.samefile(log) for f in Path(f"/proc/{worker}/fd").iterdir() if f.exists()):
                        self.killed = worker
                        os.kill(worker, signal.SIGKILL)
                        return
            time.sleep(0.02)


@contextmanager
def logged(caplog):
    """mslab's messages in caplog: its logger does not propagate."""
    study.log.addHandler(caplog.handler)
    yield
    study.log.removeHandler(caplog.handler)
