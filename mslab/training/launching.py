"""Training with several workers: msrun starts them, this process watches them, and speaks for them when one fails."""

import contextlib
import ctypes
import json
import logging
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mslab.config import Settings
from mslab.config.resolve import precision
from mslab.errors import ConfigError, MslabError, RunError
from mslab.runs.folder import RunFolder
from mslab.runtime import devices

log = logging.getLogger("mslab")
PORT = 8118  # msrun's own default; on one machine a free one is taken
PATIENCE = 5  # seconds that workers get to say why, after the first has failed
DIED = re.compile(r"Worker process (\d+) exit with exception\. Error code: (-?\d+)")
LOST = re.compile(r"AllReduce|Broadcast|ccsrc/cluster")  # MindSpore's errors where another worker is gone
BEGAN = re.compile(r"worker (\d+) of \d+: process (\d+)")


@dataclass(frozen=True)
class Cluster:
    """Who trains: `workers` in all, evenly on `nodes` machines, of which this is `node_rank`; `master` is number 0."""

    workers: int
    nodes: int = 1
    node_rank: int = 0
    master: str = ""  # HOST or HOST:PORT; not needed on one machine

    def check(self) -> None:
        """ConfigError that names everything that does not fit."""
        problems = []
        if self.workers < 1 or self.nodes < 1:
            problems.append(("--workers", f"{self.workers} workers on {self.nodes} machines"))
        elif self.workers % self.nodes:
            problems.append(("--workers", f"{self.workers} workers do not share {self.nodes} machines evenly"))
        if not 0 <= self.node_rank < self.nodes:
            problems.append(("--node-rank", f"{self.node_rank}: it is 0 to {self.nodes - 1} with --nodes {self.nodes}"))
        if self.nodes > 1 and not self.master:
            problems.append(("--master", "the machine with --node-rank 0 is not named"))
        _, _, port = self.master.partition(":")
        if port and not (port.isdigit() and 1024 <= int(port) <= 65534):
            problems.append(("--master", f"{port} is no port; HOST, or HOST:PORT with a port from 1024 to 65534"))
        if problems:
            raise ConfigError(
                "The workers cannot be placed.",
                details=problems,
                expected="the same command on every machine, but for --node-rank",
                fix="--workers 16 --nodes 2 --node-rank 0 --master HOST on the first, --node-rank 1 on the second",
            )

    @property
    def local(self) -> int:
        return self.workers // self.nodes

    @property
    def address(self) -> tuple[str, int]:
        """Of the first machine, where workers meet; the launchers use the next port."""
        host, _, port = (self.master or "127.0.0.1").partition(":")
        return host, int(port or PORT)

    def command(self, logs: Path, order: dict[str, Any]) -> list[str]:
        """The launch command of this machine; `order` is what its workers are to do."""
        host, port = self.address
        return [
            *(sys.executable, "-m", "mindspore.parallel.cluster.run", "--join=True", f"--log_dir={logs}"),
            *(f"--worker_num={self.workers}", f"--local_worker_num={self.local}", f"--node_rank={self.node_rank}"),
            *(f"--master_addr={host}", f"--master_port={port if self.nodes > 1 else free_port()}"),
            *("python", "-m", "mslab.training.worker", json.dumps(order)),
        ]

    def environment(self, logs: Path) -> dict[str, str]:
        """What the workers see besides: this Python first on the path, where their logs go, how many are here."""
        own = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "MSLAB_LOGS": str(logs),
        }
        own["MSLAB_LOCAL"] = str(self.local)
        # seconds after which a worker gives up waiting for another in an operation between them (MindSpore: 30); msrun
        # notices at once who has ended on its machine, and the launchers tell each other
        own["MS_NODE_TIMEOUT"] = "600"
        return own


class Line:
    """What the launchers of several machines tell each other: how each has ended. The first one listens.

    Raises RunError where its port is taken.
    """

    DONE = b"done"

    def __init__(self, cluster: Cluster) -> None:
        host, port = cluster.address
        self.called = (host, port + 1) if cluster.nodes > 1 and cluster.node_rank else None
        self.peers: list[socket.socket] = []
        self.server: socket.socket | None = None
        if cluster.nodes > 1 and not cluster.node_rank:
            try:
                self.server = socket.create_server(("", port + 1))
            except OSError as error:
                raise RunError(
                    f"port {port + 1} of this machine cannot be used: {error.strerror}.",
                    expected="two free ports, here and the one before: for the workers and for their launchers",
                    fix="--master HOST:PORT with another port, on all machines",
                ) from None
            self.server.setblocking(False)

    def heard(self) -> str:
        """Why another machine has failed, or ""."""
        with contextlib.suppress(OSError):  # nobody has called, or nobody listens yet
            if self.server:
                self.peers.append(self.server.accept()[0])
            elif self.called:
                self.peers.append(socket.create_connection(self.called, timeout=1))
                self.called = None
        for peer in list(self.peers):
            peer.setblocking(False)
            try:
                told = peer.recv(2**16)
            except BlockingIOError:
                continue
            except OSError:
                told = b""
            self.peers.remove(peer)
            peer.close()
            if told != self.DONE:
                return told.decode(errors="replace") or "its launcher was killed"
        return ""

    def end(self, text: str = "") -> None:
        """Tell the others how this machine has ended: with this text, or well."""
        self.heard()  # who has called meanwhile
        for peer in self.peers:
            with contextlib.suppress(OSError):
                peer.setblocking(True)
                peer.sendall(text.encode()[: 2**15] or self.DONE)
            peer.close()
        if self.server:
            self.server.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]  # type: ignore[no-any-return]


def begin(prepare: Callable[[], RunFolder], settings: Settings, cluster: Cluster) -> Path | None:
    """Train with all workers. `prepare` makes the run folder, or opens it, on the first machine.

    Returns its path, None on the other machines.
    """
    setup, line = setup_of(settings, cluster), Line(cluster)
    run = prepare() if cluster.node_rank == 0 else None
    launch(run, setup, cluster, line)
    return run.path if run else None


def setup_of(settings: Settings, cluster: Cluster) -> dict[str, Any]:
    """What sets a worker's MindSpore up. Raises DeviceError or ConfigError where this machine cannot do it."""
    setup = devices.setup_of(settings, devices.choose_device(settings.device))
    devices.setup_calls(**setup)
    check_devices(setup["device"], cluster.local, os.environ)
    return setup


def launch(run: RunFolder | None, setup: dict[str, Any], cluster: Cluster, line: Line) -> None:
    """Train with all workers, and return when they have. Raises RunError with what the first that failed has said.

    `run` is None on every machine but the first, which tells the others what is in it.
    """
    logs = run.path / "workers" if run else Path("runs") / f"workers-{cluster.node_rank}"
    logs.mkdir(parents=True, exist_ok=True)
    for old in [*logs.glob("*.log"), *logs.glob("*.failed"), *logs.glob("*.done")]:
        old.unlink()
    log.info(f"{cluster.workers} workers, {cluster.local} on this machine ({setup['device']}); logs in {logs}/")
    order = {"run": str(run.path) if run else None, "notes": run.notes if run else [], "setup": setup}
    with (logs / "msrun.log").open("w") as output:
        msrun = subprocess.Popen(
            cluster.command(logs, order),
            env=os.environ | cluster.environment(logs),
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_stop_with_parent,
        )
    try:
        if _watch(msrun, logs, cluster, line):
            raise failure(logs, cluster, run)
        line.end()
    except BaseException as error:
        line.end(f"{type(error).__name__}: {error}")
        _end(msrun)
        if run:
            run = RunFolder.open(run.path)
            if run.manifest["status"] == "running":  # a killed worker could not note it
                stopped = isinstance(error, KeyboardInterrupt)
                run.finalize("interrupted" if stopped else "failed", 130 if stopped else 1)
        raise


def check_devices(device: str, needed: int, environ: Mapping[str, str]) -> None:
    """ConfigError where fewer devices are visible than workers need."""
    name = {"ascend": "ASCEND_RT_VISIBLE_DEVICES", "gpu": "CUDA_VISIBLE_DEVICES"}.get(device, "")
    if name in environ and len(environ[name].split(",")) < needed:
        raise ConfigError(
            f"{name}={environ[name]} shows fewer devices than the {needed} workers of this machine need.",
            expected="one device a worker",
            fix=f"name {needed} devices in {name}, or fewer --workers",
        )


def dry_run(config: Settings, cluster: Cluster | None, environ: Mapping[str, str] = os.environ) -> str:
    """What a run of this config would call and launch, as text. A device that is named is not tried."""
    device = config.device if config.device != "auto" else devices.choose_device("auto")
    setup = devices.setup_of(config, device)
    count = cluster.workers if cluster else 1
    rows = [("device", f"{device} (config: {config.device}); nothing was tried on it")]
    for name, arguments in devices.setup_calls(**setup, workers=count):
        given = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        rows.append(("calls", f"mindspore.{name}({given})"))
    level = precision(config.amp_level, device)
    if level != "O0":
        rows.append(("calls", f"mindspore.amp.auto_mixed_precision(network, {level!r})"))
        rows.append(("calls", "mindspore.amp.DynamicLossScaler(65536.0, 2, 1000)"))
    if cluster:
        check_devices(device, cluster.local, environ)
        logs = Path("runs") / "RUN" / "workers"
        rows.append(("step", f"{count} workers x {config.batch_size} = {count * config.batch_size} images"))
        rows += [("sets", f"{name}={value}") for name, value in cluster.environment(logs).items()]
        rows.append(("launches", shlex.join(cluster.command(logs, {"run": "runs/RUN", "notes": [], "setup": setup}))))
    return "\n".join(f"{label:<10}{text}" for label, text in rows)


def _stop_with_parent() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG: msrun ends its workers at SIGINT


def _watch(msrun: subprocess.Popen, logs: Path, cluster: Cluster, line: Line) -> int:
    """Show what the first worker here says until all have ended; 1 as soon as one has failed.

    Raises RunError where another machine tells of a failure.
    """
    spoken = logs / f"worker_{cluster.node_rank * cluster.local}.log"
    told, deadline = 0, float("inf")
    while True:
        ended = msrun.poll()
        text = spoken.read_text(errors="replace") if cluster.node_rank == 0 and spoken.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        for words in whole[told:].splitlines():
            if not BEGAN.match(words) and not words.startswith("["):  # MindSpore's own, after the kit has let go of it
                log.info(words)
        told = len(whole)
        if ended is not None:
            return ended
        if deadline == float("inf") and (why := line.heard()):
            raise RunError(
                f"another machine has failed: {why}",
                expected="all machines until the end",
                fix="what that machine's message says; then mslab train --resume RUN on all of them",
            )
        if deadline == float("inf") and (
            any(logs.glob("*.failed")) or DIED.search((logs / "msrun.log").read_text(errors="replace"))
        ):
            deadline = time.monotonic() + PATIENCE  # msrun itself waits half a minute for its scheduler
        if time.monotonic() > deadline:
            return 1
        time.sleep(0.1)


def _end(msrun: subprocess.Popen) -> None:
    """End msrun, which ends its workers, and its scheduler."""
    if msrun.poll() is None:
        msrun.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            msrun.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(msrun.pid, signal.SIGKILL)


def failure(logs: Path, cluster: Cluster, run: RunFolder | None) -> MslabError:
    """What the first worker that failed said; where none said anything, which one was killed."""
    again = f"mslab train --resume {run.path} --workers {cluster.workers}" if run else "see the first machine's message"
    if run and cluster.nodes > 1:
        again += f" --nodes {cluster.nodes} --master {cluster.master} --node-rank 0, likewise on the other machines,"
    told = sorted((json.loads(path.read_text()) for path in logs.glob("*.failed")), key=lambda one: one["time"])
    causes = [one for one in told if one["known"] or not LOST.search(one["text"])]
    died = DIED.search((logs / "msrun.log").read_text(errors="replace"))
    if causes:
        first = min(causes, key=lambda one: not one["known"])
        who = f"worker {first['rank']} of {cluster.workers}"
        if first["known"]:  # as the worker would have said it
            what, expected, again = f"{who} stopped: {first['text']}", first["expected"], first["fix"]
            return RunError(what, details=first["details"], expected=expected, fix=again)
        what, expected = f"{who} ended with {first['text']}.", "all workers until the end"
        rows = [("traceback", f"{logs}/mindspore_{first['rank']}.log" if first["rank"] else "train.log")]
    elif died and int(died[2]) < 0:
        began = [BEGAN.search(file.read_text(errors="replace")) for file in logs.glob("worker_*.log")]
        rank = {match[2]: match[1] for match in began if match}.get(died[1], "?")
        killer = signal.Signals(-int(died[2]))
        what = f"worker {rank} of {cluster.workers} (process {died[1]}) was killed by signal {killer} ({killer.name})."
        rows = [("logs", f"{logs}/")]
        expected = "all workers until the end; the kernel kills with 9 where memory runs out"
    elif told:
        what = f"worker {told[0]['rank']} of {cluster.workers} lost the others."
        rows = [("logs", f"{logs}/")]
        expected = "all workers until the end; the machine whose worker ended first says why"
    else:
        what, rows = "msrun ended without a word of any worker.", [("log", f"{logs}/msrun.log")]
        expected = "msrun of this MindSpore"
    return RunError(
        what,
        details=rows,
        expected=expected,
        fix=f"{again}    goes on after the last completed epoch" if run else again,
    )
