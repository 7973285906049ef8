"""The cost of a run's manifest, hashes, tables and log: the same run with and without them, interleaved.

The difference of two runs is smaller than a machine's noise, so the time inside the bookkeeping is measured as well.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mslab.check import DatasetReport, available_memory, cores
from mslab.config import Settings
from mslab.config.resolve import Machine, resolve
from mslab.data import decoded
from mslab.runs.folder import RunFolder
from mslab.runtime import devices
from mslab.runtime.tables import empty_table, render

# RunFolder.create is measured in bench_bookkeeping
MEASURED = ("record_device", "write_manifest", "write_tables", "write_json", "finalize")


class Bare(RunFolder):
    """A run that writes its checkpoints, and nothing else."""

    @classmethod
    def begin(cls, path: Path, config: Settings, report: DatasetReport) -> "Bare":
        (path / "checkpoints").mkdir(parents=True)
        content: dict[str, Any] = {"kind": "train", "parent": None, "class_names": report.class_names, "metrics": {}}
        content |= {"data": {"counts": report.counts}, "rollbacks": [], "warnings": [], "workers": 1, "artifacts": {}}
        return cls(path, config, content)

    def record_device(self, device: str) -> None:
        self.manifest["device"] = device

    def write_tables(self, losses: Sequence[float]) -> None: ...

    def write_json(self, name: str, content: Mapping[str, Any]) -> None: ...  # the manifest and eval.json

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        yield


class Timed(RunFolder):
    """A normal run that counts the seconds of its bookkeeping."""

    spent = 0.0
    depth = 0  # nested calls count once


def timed(name: str) -> Callable:
    """The method of RunFolder, with its time added to `spent`."""
    method = getattr(RunFolder, name)

    def wrapped(self: Timed, *arguments: Any) -> Any:
        start, self.depth = time.perf_counter(), self.depth + 1
        try:
            return method(self, *arguments)
        finally:
            self.depth -= 1
            self.spent += (time.perf_counter() - start) * (self.depth == 0)

    return wrapped


for _name in MEASURED:
    setattr(Timed, _name, timed(_name))


def bench_bookkeeping(
    config: Settings, report: DatasetReport, repeats: int, folder: Path, progress: Callable[[str], Any]
) -> list[dict[str, Any]]:
    """Rows of {kept (with bookkeeping), seconds, inside (seconds spent on it, or None)}. Leaves runs in `folder`."""
    from mslab.training import start

    machine = Machine(devices.choose_device(config.device), cores(), memory=available_memory())
    settings, _ = resolve(config, sum(report.counts["train"].values()), None, machine, decoded.size_of(report))
    rows: list[dict[str, Any]] = []
    for turn in range(repeats):
        for recorded in (True, False) if turn % 2 == 0 else (False, True):
            began = time.perf_counter()
            run: RunFolder
            if recorded:
                run = Timed.create(f"bookkeeping-{turn}", settings, report)
                begun = time.perf_counter() - began
            else:
                run = Bare.begin(folder / f"bare-{turn}", settings, report)
            start.carry_out(run, report)
            rows.append({"kept": recorded, "seconds": time.perf_counter() - began})
            rows[-1]["inside"] = begun + run.spent if isinstance(run, Timed) else None
            for file in run.checkpoints.iterdir():
                file.unlink()
            progress(f"{len(rows)}/{2 * repeats}  {'with' if recorded else 'without'}: {rows[-1]['seconds']:.1f} s")
    return rows


def summary(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Medians: seconds with and without, their ratio, seconds inside and their fraction of a run."""
    with_it, without = ([row["seconds"] for row in rows if row["kept"] is recorded] for recorded in (True, False))
    inside = statistics.median(row["inside"] for row in rows if row["kept"])
    medians = {"with": statistics.median(with_it), "without": statistics.median(without), "inside": inside}
    fraction = inside / medians["with"]
    return medians | {"ratio": medians["with"] / medians["without"], "share": fraction}


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    figures = summary(rows)
    grid = empty_table("manifest, hashes, tables and log of a run", ("", "seconds", "ratio"))
    grid.add_row("without them", f"{figures['without']:.1f}", "1.000")
    grid.add_row("with them", f"{figures['with']:.1f}", f"{figures['ratio']:.3f}")
    grid.add_row("inside them", f"{figures['inside']:.2f}", f"{figures['share']:.4f}")
    return render(grid)
