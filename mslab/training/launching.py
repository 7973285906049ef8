"""Training with several workers: msrun starts them; this process watches them and reports the error if one fails."""

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

from mslab import files
from mslab.config import Settings
from mslab.config.resolve import precision
from mslab.errors import ConfigError, MslabError, RunError
from mslab.escaping import command
from mslab.runs import lock
from mslab.runs.folder import RunFolder
from mslab.runtime import console, devices, signals

log = logging.getLogger("mslab")
PORT = 8118  # msrun's default; on one machine a free port is used
PATIENCE = 5  # seconds that workers have to report their error, after the first has failed
DIED = re.compile(r"Worker process (\d+) exit with exception\. Error code: (-?\d+)")
LOST = re.compile(r"AllReduce|Broadcast|ccsrc/cluster")  # MindSpore's errors if another worker is gone
BEGAN = re.compile(r"worker (\d+) of \d+: process (\d+)")


@dataclass(frozen=True)
class Cluster:
    """The workers: `workers` in all, evenly on `nodes` machines; this machine is `node_rank`, `master` is number 0."""

    workers: int
    nodes: int = 1
    node_rank: int = 0
    master: str = ""  # HOST or HOST:PORT; not needed on one machine

    def check(self) -> None:
        """Raise ConfigError listing every problem."""
        problems = []
        if self.workers < 1 or self.nodes < 1:
            problems.append(("--workers", f"{self.workers} workers on {self.nodes} machines: both are at least 1"))
        elif self.workers % self.nodes:
            problems.append(("--workers", f"{self.workers} is not a multiple of --nodes {self.nodes}"))
        if not 0 <= self.node_rank < self.nodes:
            problems.append(
                ("--node-rank", f"{self.node_rank}: must be 0 to {self.nodes - 1} with --nodes {self.nodes}")
            )
        if self.nodes > 1 and not self.master:
            problems.append(("--master", "missing: the host name of the machine with --node-rank 0"))
        host, port = split_address(self.master)
        if ":" in host:  # 2.8.0: ipaddress.IPv4Address, else gethostbyname
            problems.append(("--master", f"{host} is an IPv6 address, and MindSpore's launcher takes IPv4 only"))
        if port and not (port.isdigit() and 1024 <= int(port) <= 65534):
            problems.append(("--master", f"{port} is no port; use HOST, or HOST:PORT with a port from 1024 to 65534"))
        if problems:
            raise ConfigError(
                "The workers cannot be distributed over the machines.",
                details=problems,
                expected="the same command on every machine, except for --node-rank",
                fix="--workers 16 --nodes 2 --node-rank 0 --master HOST on the first, --node-rank 1 on the second",
            )

    @property
    def local(self) -> int:
        return self.workers // self.nodes

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the first machine, where workers connect; the launchers use the next port."""
        host, port = split_address(self.master or "127.0.0.1")
        return host, int(port or PORT)

    def command(self, logs: Path, task: dict[str, Any]) -> list[str]:
        """The launch command of this machine; `task` is passed to its workers."""
        host, port = self.address
        return [
            *(sys.executable, "-m", "mindspore.parallel.cluster.run", "--join=True", f"--log_dir={logs}"),
            *(f"--worker_num={self.workers}", f"--local_worker_num={self.local}", f"--node_rank={self.node_rank}"),
            *(f"--master_addr={host}", f"--master_port={port if self.nodes > 1 else free_port()}"),
            *("python", "-m", "mslab.training.worker", json.dumps(task)),
        ]

    def environment(self, logs: Path) -> dict[str, str]:
        """Extra environment variables of the workers: this Python first in PATH, the log folder, how many are local."""
        variables = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "MSLAB_LOGS": str(logs),
        }
        variables["MSLAB_LOCAL"] = str(self.local)
        # seconds that a worker waits for another in an operation between them (MindSpore: 30); msrun notices at once
        # which worker has exited on its machine, and the launchers inform each other
        variables["MS_NODE_TIMEOUT"] = "600"
        return variables


def split_address(text: str) -> tuple[str, str]:
    """HOST and PORT, "" without one."""
    # split_address("[fe80::1]:8118") -> ("fe80::1", "8118"); split_address("fe80::1") -> ("fe80::1", "")
    if found := re.fullmatch(r"\[(.*)\](?::(.*))?", text):
        return found[1], found[2] or ""
    host, _, port = text.partition(":")
    return (host, port) if text.count(":") < 2 else (text, "")


class Channel:
    """Connects the launchers of several machines: each reports how it has ended. The first one listens.

    Raises RunError if its port is in use.
    """

    DONE = b"done"

    def __init__(self, cluster: Cluster) -> None:
        host, port = cluster.address
        self.target = (host, port + 1) if cluster.nodes > 1 and cluster.node_rank else None
        self.peers: list[socket.socket] = []
        self.server: socket.socket | None = None
        if cluster.nodes > 1 and not cluster.node_rank:
            try:
                self.server = socket.create_server(("", port + 1))
            except OSError as error:
                raise RunError(
                    f"Port {port + 1} of this machine cannot be used: {error.strerror}.",
                    expected="two free ports: this one for the launchers, the one before it for the workers",
                    fix="--master HOST:PORT with another port, on all machines",
                ) from None
            self.server.setblocking(False)

    def receive(self) -> str:
        """The reason why another machine has failed, or ""."""
        with contextlib.suppress(OSError):  # no peer has connected, or the first machine does not listen yet
            if self.server:
                self.peers.append(self.server.accept()[0])
            elif self.target:
                self.peers.append(socket.create_connection(self.target, timeout=1))
                self.target = None
        for peer in list(self.peers):
            peer.setblocking(False)
            try:
                received = peer.recv(2**16)
            except BlockingIOError:
                continue
            except OSError:
                received = b""
            self.peers.remove(peer)
            peer.close()
            if received != self.DONE:
                return received.decode(errors="replace") or "its launcher was killed"
        return ""

    def close(self, error: str = "") -> None:
        """Report to the other machines how this one has ended: with this error, or successfully."""
        self.receive()  # accepts peers that have connected meanwhile
        for peer in self.peers:
            with contextlib.suppress(OSError):
                peer.setblocking(True)
                peer.sendall(error.encode()[: 2**15] or self.DONE)
            peer.close()
        if self.server:
            self.server.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]  # type: ignore[no-any-return]


def begin(prepare: Callable[[], RunFolder], settings: Settings, cluster: Cluster) -> Path | None:
    """Train with all workers. `prepare` makes or opens the run folder, on the first machine.

    Returns the folder's path; None on the other machines.
    """
    setup, channel = setup_of(settings, cluster), Channel(cluster)
    run = prepare() if cluster.node_rank == 0 else None
    with lock.held(run.path) if run else contextlib.nullcontext():
        launch(run, setup, cluster, channel)
    return run.path if run else None


def setup_of(settings: Settings, cluster: Cluster) -> dict[str, Any]:
    """The device setup of the workers. Raises DeviceError or ConfigError if this machine does not support it."""
    setup = devices.setup_of(settings, devices.choose_device(settings.device))
    devices.setup_calls(**setup)
    check_devices(setup["device"], cluster.local, os.environ)
    return setup


def launch(run: RunFolder | None, setup: dict[str, Any], cluster: Cluster, channel: Channel) -> None:
    """Train with all workers until they end. Raises RunError with the message of the first worker that failed.

    `run` is None on every machine except the first, which sends its content to the others.
    """
    logs = run.path / "workers" if run else Path("runs") / f"workers-{cluster.node_rank}"
    if logs.is_symlink():
        raise RunError(f"{logs} is a link.", expected="a folder for the workers' logs", fix="remove the link")
    logs.mkdir(parents=True, exist_ok=True)
    for old in [*logs.glob("*.log"), *logs.glob("*.failed"), *logs.glob("*.done")]:
        old.unlink()
    log.info(f"{cluster.workers} workers, {cluster.local} on this machine ({setup['device']}); logs in {logs}/")
    task: dict[str, Any] = {"run": str(run.path) if run else None, "setup": setup}
    task |= {"notes": run.notes, "changed": run.changed} if run else {"notes": [], "changed": {}}
    shared = {lock.SHARED: str(run.path.resolve())} if run else {}
    with files.open_regular(logs / "msrun.log", "wb") as output:
        msrun = subprocess.Popen(
            cluster.command(logs, task),
            env=os.environ | cluster.environment(logs) | shared,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_stop_with_parent,
        )
    try:
        with console.working(f"{cluster.workers} workers train …"):
            failed = _watch(msrun, logs, cluster, channel)
        if failed:
            raise failure(logs, cluster, run)
        channel.close()
    except BaseException as error:
        stopped = isinstance(error, KeyboardInterrupt)
        with contextlib.suppress(KeyboardInterrupt), signals.held():  # a second Ctrl-C leaves no worker either
            channel.close(f"{type(error).__name__}: {error}")
            _stop(msrun)
            if run:
                run = RunFolder.open(run.path)
                if run.manifest["status"] == "running":  # a killed worker could not record it
                    run.finalize("interrupted" if stopped else "failed", 130 if stopped else 1)
        if stopped and run:
            raise signals.Interrupted(f"{resuming(run, cluster)}    continues it", run.path) from None
        if stopped:
            raise signals.Interrupted("the first machine says what continues it") from None
        raise


def check_devices(device: str, needed: int, environ: Mapping[str, str]) -> None:
    """Raise ConfigError if fewer devices are visible than the workers need."""
    name = {"ascend": "ASCEND_RT_VISIBLE_DEVICES", "gpu": "CUDA_VISIBLE_DEVICES"}.get(device, "")
    if name in environ and len(environ[name].split(",")) < needed:
        raise ConfigError(
            f"{name}={environ[name]} lists fewer devices than the {needed} workers of this machine need.",
            expected="one device a worker",
            fix=f"list {needed} devices in {name}, or use fewer --workers",
        )


def dry_run(config: Settings, cluster: Cluster | None, environ: Mapping[str, str] = os.environ) -> str:
    """The calls and the launch command of a run of this config, as text. A device named in the config is not tested."""
    device = config.device if config.device != "auto" else devices.choose_device("auto")
    setup = devices.setup_of(config, device)
    count = cluster.workers if cluster else 1
    rows = [("device", f"{device} (config: {config.device}); it was not tested")]
    for name, arguments in devices.setup_calls(**setup, workers=count):
        keywords = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        rows.append(("calls", f"mindspore.{name}({keywords})"))
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
    ctypes.CDLL(None).prctl(1, signal.SIGINT)  # PR_SET_PDEATHSIG: msrun stops its workers at SIGINT


def _watch(msrun: subprocess.Popen, logs: Path, cluster: Cluster, channel: Channel) -> int:
    """Log the output of the first worker here until all have ended. Returns 1 as soon as one has failed.

    Raises RunError if another machine reports a failure.
    """
    log_file = logs / f"worker_{cluster.node_rank * cluster.local}.log"
    position, deadline = 0, float("inf")
    while True:
        exit_code = msrun.poll()
        text = log_file.read_text(errors="replace") if cluster.node_rank == 0 and log_file.exists() else ""
        complete = text[: text.rfind("\n") + 1]
        for message in complete[position:].splitlines():
            if not BEGAN.match(message) and not message.startswith("["):  # MindSpore's own output
                log.info(message)
        position = len(complete)
        if exit_code is not None:
            return exit_code
        if deadline == float("inf") and (reason := channel.receive()):
            raise RunError(
                f"Another machine has failed: {reason}",
                expected="all machines run to the end",
                fix="follow that machine's message; then mslab train --resume RUN on all machines",
            )
        if deadline == float("inf") and (
            any(logs.glob("*.failed")) or DIED.search((logs / "msrun.log").read_text(errors="replace"))
        ):
            deadline = time.monotonic() + PATIENCE  # msrun itself waits half a minute for its scheduler
        if time.monotonic() > deadline:
            return 1
        time.sleep(0.1)


def _stop(msrun: subprocess.Popen) -> None:
    """Stop msrun, which stops its workers and its scheduler."""
    if msrun.poll() is None:
        msrun.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            msrun.wait(10)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(msrun.pid, signal.SIGKILL)


def resuming(run: RunFolder, cluster: Cluster) -> str:
    """The command that continues a run with the same workers."""
    words: list[str | Path] = ["train", "--resume", run.path, "--workers", str(cluster.workers)]
    if cluster.nodes > 1:
        words += ["--nodes", str(cluster.nodes), "--master", cluster.master, "--node-rank", "0"]
    return command(*words) + "    and with their rank on the others," * (cluster.nodes > 1)


def failure(logs: Path, cluster: Cluster, run: RunFolder | None) -> MslabError:
    """The error of the first worker that failed; if none wrote one, the worker that was killed."""
    fix = "see the first machine's message"
    if run:
        fix = resuming(run, cluster)
    records = sorted((json.loads(path.read_text()) for path in logs.glob("*.failed")), key=lambda note: note["time"])
    causes = [record for record in records if record["known"] or not LOST.search(record["text"])]
    died = DIED.search((logs / "msrun.log").read_text(errors="replace"))
    if causes:
        first = min(causes, key=lambda record: not record["known"])
        worker = f"worker {first['rank']} of {cluster.workers}"
        if first["known"]:  # the worker's own message
            message, expected, fix = f"{worker} stopped: {first['text']}", first["expected"], first["fix"]
            return RunError(message, details=first["details"], expected=expected, fix=fix)
        reason, _, more = first["text"].partition("\n")
        message, expected = f"{worker} ended with {reason}.", "all workers run to the end"
        rows = [("more", more)] * bool(more)
        rows += [("traceback", f"{logs}/mindspore_{first['rank']}.log" if first["rank"] else "train.log")]
    elif died and int(died[2]) < 0:
        began = [BEGAN.search(file.read_text(errors="replace")) for file in logs.glob("worker_*.log")]
        rank = {match[2]: match[1] for match in began if match}.get(died[1], "?")
        sig = signal.Signals(-int(died[2]))
        message = f"worker {rank} of {cluster.workers} (process {died[1]}) was killed by signal {sig} ({sig.name})."
        rows = [("logs", f"{logs}/")]
        expected = "all workers run to the end; the kernel kills with signal 9 if memory runs out"
    elif records:
        message = f"worker {records[0]['rank']} of {cluster.workers} lost its connection to the others."
        rows = [("logs", f"{logs}/")]
        expected = "all workers run to the end; the machine whose worker ended first reports the reason"
    else:
        message, rows = "msrun ended without a message from any worker.", [("log", f"{logs}/msrun.log")]
        expected = "the msrun of this MindSpore"
    return RunError(
        message,
        details=rows,
        expected=expected,
        fix=f"{fix}    continues after the last completed epoch" if run else fix,
    )
