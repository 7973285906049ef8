"""`mslab reproduce`: a run once more, from what it recorded, and whether its figures hold.

differing (what is other than it was, before anything trains) -> the same functions that made the run -> comparing
(figures, epochs, steps, weights) -> telling (all of it in words). archiving packs what a run needs to be repeated
elsewhere, opening unpacks it, installing makes the environment it was made in.
"""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mslab import checkpoint
from mslab.check import DatasetReport, cores
from mslab.check.training_data import checked, report_of
from mslab.config import Settings, load_settings
from mslab.errors import DatasetError, MslabError, RunError
from mslab.reproduce import comparing, differing, telling
from mslab.reproduce.comparing import Comparison
from mslab.reproduce.differing import Check
from mslab.runs.folder import RunFolder
from mslab.runtime import devices
from mslab.runtime.console import Meter

SCHEMA = 1
STAMP = re.compile(r"(-again)?-\d{8}-\d{6}(-\d+)?$")


@dataclass(frozen=True)
class Wish:
    """How a run is to be repeated: what `mslab reproduce` takes besides the run."""

    overrides: Sequence[str] = ()
    backbone: str | None = None  # a file, or a run, in the recorded parent's place
    other: str | None = None  # a run that exists, to compare with; trains nothing
    tolerance: float = 0.02
    dry_run: bool = False
    # a recipe: backbone and drawn images are its own repetition's, and may have other last digits
    chained: bool = False


@dataclass
class Result:
    """What came of it."""

    run: str
    checks: list[Check]
    error: MslabError | None = None  # why it was not run again
    again: str | None = None
    comparison: Comparison | None = None
    trained: bool = False
    dry_run: bool = field(default=False, repr=False)

    @property
    def held(self) -> bool:
        """What the exit code says."""
        if self.error or any(check.level == "stops" for check in self.checks):
            return False
        return self.dry_run if self.comparison is None else self.comparison.verdict != "different"

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `mslab reproduce --json`."""
        found = self.comparison
        return {
            "schema": SCHEMA,
            "run": self.run,
            "again": self.again,
            "verdict": found.verdict if found else None,
            "checks": [check.to_dict() for check in self.checks],
            "metrics": [metric.to_dict() for metric in found.metrics] if found else [],
            "parts": found.parts if found else None,
        }


def reproduce(path: str | Path, wish: Wish, tell: Callable[[str], None] = print) -> Result:
    """Check, run again, compare. `tell` gets the tables and the verdict, each when it is known.

    Raises RunError for a run that cannot be repeated by itself, and all that training raises; what stops it because
    images or parent are others is Result.error.
    """
    run = RunFolder.read(path)
    refuse_unfinished(run)
    if wish.other is not None:
        return beside(run, RunFolder.read(wish.other), wish, tell)
    refuse_parts(run)
    config = settings(run, wish)
    report = look(run, config)
    origin, parent = differing.parent(run, wish.backbone, wish.chained)
    checks = [differing.data(run, report, wish.chained), *([origin] if origin else []), *differing.files(run)]
    checks += [*differing.noted(run), *surroundings(run, config)]
    result = Result(str(run.path), checks, differing.stopped(run, checks), dry_run=wish.dry_run)
    tell(telling.checks_table(checks))
    if result.error or wish.dry_run or isinstance(report, MslabError):
        return result
    again = rerun(run, config, report, parent)
    result.trained = True
    return compared(result, run, RunFolder.read(again), wish, tell)


def beside(run: RunFolder, other: RunFolder, wish: Wish, tell: Callable[[str], None]) -> Result:
    """Two runs that exist."""
    if wish.overrides or wish.backbone or wish.dry_run:
        raise RunError(
            "--with compares two runs that exist: there is nothing to set and nothing to try.",
            expected="mslab reproduce RUN --with OTHER_RUN",
            fix="leave KEY=VALUE, --backbone and --dry-run out",
        )
    refuse_unfinished(other)
    parents = differing.same_parent(run, other)
    checks = [differing.same_images(run, other), *([parents] if parents else []), *differing.files(run)]
    checks += [*differing.files(other), *differing.noted(run)]
    checks += differing.circumstances(differing.of_run(run), differing.of_run(other))
    tell(telling.checks_table(checks))
    return compared(Result(str(run.path), checks), run, other, wish, tell)


def compared(result: Result, run: RunFolder, again: RunFolder, wish: Wish, tell: Callable[[str], None]) -> Result:
    result.again = str(again.path)
    result.comparison = comparing.compare(run, again, wish.tolerance)
    tell(telling.comparison_table(result.comparison))
    tell(telling.conclusion(result.comparison, result.checks))
    return result


# --- what is repeated ------------------------------------------------------------------------------------------------


def refuse_unfinished(run: RunFolder) -> None:
    if run.finished:
        return
    status, epochs = run.manifest["status"], f"{run.epochs_done} of {run.settings.epochs} epochs"
    if status == "done":
        raise RunError(
            f"{run.path} has ended, but its history.csv tells of {epochs}.",
            expected="a row for every epoch, as mslab wrote them",
            fix="restore history.csv",
        )
    raise RunError(
        f"{run.path} is not finished: {epochs}, its status is {status}.",
        expected="a run that has ended, whose figures can be held against others",
        fix=f"mslab train --resume {run.path}" + "; or wait until it has ended" * (status == "running"),
    )


def refuse_parts(run: RunFolder) -> None:
    """RunError for a run that another command trained on a part of the images."""
    if run.manifest["epoch_images"] is not None:
        raise RunError(
            f"{run.path} is one of several runs of one command, on a part of the training images: it is not repeated "
            "by itself.",
            expected="a run of mslab train or mslab transfer",
            fix=f"run the command again that made it: {run.manifest['command']}",
        )


def settings(run: RunFolder, wish: Wish) -> Settings:
    """The run's own, with the overrides, on its own device and with the images that came with it.

    Raises ConfigError where an override is none.
    """
    config = load_settings(run.path / "config.yaml", wish.overrides) if wish.overrides else run.settings
    given = {text.partition("=")[0].strip() for text in wish.overrides}
    changes: dict[str, Any] = {}
    for split, name in (("train", "train_data"), ("val", "val_data")):
        own = run.path / "data" / split  # an archive's
        if own.is_dir() and name not in given:
            changes[name] = str(own)
    was = run.manifest["device"]
    if config.device == "auto" and "device" not in given and was in devices.NAMES and not available(was):
        changes["device"] = was
    return config.replace(**changes)


@functools.cache
def available(device: str) -> str:
    """Why a device cannot be used, or "". A CPU always can."""
    return "" if device == "cpu" else devices.device_problem(device)


def look(run: RunFolder, config: Settings) -> DatasetReport | MslabError:
    """The report of the images as they are now; the error where the folders cannot be read at all."""
    try:
        with Meter(1) as meter:
            return report_of(config, run.manifest["data"]["skip_check"], meter.callback("loading images"))
    except DatasetError as error:
        return error


def surroundings(run: RunFolder, config: Settings) -> list[Check]:
    """Settings, versions, machine: then and now."""
    device: str = config.device
    reason = available(device) if device != "auto" else ""
    if device == "auto":
        device = devices.choose_device("auto")
    threads = devices.workers(config.data_workers)
    now = differing.here(config.replace(data_workers=threads), device, run.manifest["workers"])
    checks = differing.circumstances(differing.of_run(run), now)
    if (wanted := run.manifest["workers"]) > cores():
        fix = f"a machine with more cores; for a new experiment: mslab train {run.path}/config.yaml --workers {cores()}"
        why = "each worker is a process that needs a core"
        checks.append(Check("workers", str(wanted), f"{cores()} cores", "stops", why, fix))
    if reason:
        fix = "device=cpu, or device=auto to take what works here"
        was = str(run.manifest["device"] or differing.UNKNOWN)
        lacks = Check("device", was, f"no {device}", "stops", reason, fix)
        checks = [lacks if check.what == "device" else check for check in checks]
    return checks


def rerun(run: RunFolder, config: Settings, report: DatasetReport, parent: Path | None) -> Path:
    """The run once more, through the functions that made it. Returns the new run's folder."""
    from mslab.training import finetuning, launching, start  # only here: they bring MindSpore

    told = run.manifest
    name = STAMP.sub("", run.path.resolve().name) + "-again"
    origin = {"run": str(run.path), "manifest_sha256": checkpoint.sha256(run.path / "manifest.json")}
    source: finetuning.Pretrained | None = None
    if told["kind"] == "transfer":
        source = finetuning.backbone_of(str(parent), told["parent"]["only"])
    elif told["kind"] == "incremental":
        source = finetuning.network_of(str(parent))
    job = start.Job(config, checked(config, report), name, source, reproduces=origin)
    cluster = launching.Cluster(told["workers"]) if told["workers"] > 1 else None
    ended = told["ended_by"]  # also where somebody else than its settings ended it
    result = start.run(job, cluster, (lambda rows: ended if len(rows) >= run.epochs_done else "") if ended else None)
    return Path(result.run)
