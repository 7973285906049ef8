"""`mslab reproduce`: repeat a run from its records and compare the figures.

differing (differences found before training) -> the functions that made the run -> comparing (figures, epochs, steps,
weights) -> rendering (tables and verdict). archiving packs everything that is needed to repeat a run elsewhere,
opening unpacks it, installing builds the run's Python environment.
"""

import functools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mslab import files
from mslab.check import DatasetReport, cores
from mslab.check.training_data import check_or_raise, report_of
from mslab.config import Settings, load_settings
from mslab.errors import DatasetError, MslabError, RunError
from mslab.escaping import command, recorded_command
from mslab.reproduce import comparing, differing, rendering
from mslab.reproduce.comparing import Comparison
from mslab.reproduce.differing import Check
from mslab.runs import lock
from mslab.runs.folder import RunFolder
from mslab.runtime import devices, signals
from mslab.runtime.console import Meter

SCHEMA = 1
STAMP = re.compile(r"(-again)?-\d{8}-\d{6}(-\d+)?$")


@dataclass(frozen=True)
class ReproduceOptions:
    """How to repeat a run: the options of `mslab reproduce`."""

    overrides: Sequence[str] = ()
    backbone: str | None = None  # a file or run that replaces the recorded parent
    other_run: str | None = None  # an existing run to compare with, instead of training
    tolerance: float = 0.02
    dry_run: bool = False
    # for recipes: accept a backbone and drawn images from the recipe's own repetition, which may differ in last digits
    chained: bool = False


@dataclass
class Result:
    """Checks, new run and comparison of one repetition."""

    run: str
    checks: list[Check]
    error: MslabError | None = None  # the reason why it was not repeated
    again: str | None = None  # the new run
    comparison: Comparison | None = None
    trained: bool = False
    dry_run: bool = field(default=False, repr=False)

    @property
    def ok(self) -> bool:
        """Whether the command exits with 0: the run can be repeated, and its figures do not differ."""
        if self.error or any(check.level == "stops" for check in self.checks):
            return False
        return self.dry_run if self.comparison is None else self.comparison.verdict != "different"

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `mslab reproduce --json`."""
        comparison = self.comparison
        return {
            "schema": SCHEMA,
            "run": self.run,
            "again": self.again,
            "verdict": comparison.verdict if comparison else None,
            "checks": [check.to_dict() for check in self.checks],
            "metrics": [metric.to_dict() for metric in comparison.metrics] if comparison else [],
            "parts": comparison.first_difference if comparison else None,
        }


def reproduce(path: str | Path, options: ReproduceOptions, show: Callable[[str], None] = print) -> Result:
    """Check, train again, compare. Calls `show` with each table and with the verdict as soon as it exists.

    Raises RunError for a run that cannot be repeated on its own, and everything that training raises. If other images
    or another parent prevent the repetition, the error is in Result.error instead.
    """
    run = RunFolder.read(path)
    refuse_unfinished(run)
    if options.other_run is not None:
        return compare_existing(run, RunFolder.read(options.other_run), options, show)
    refuse_partial(run)
    config = settings(run, options)
    report = check_images(run, config)
    origin, parent = differing.parent(run, options.backbone, options.chained)
    checks = [differing.data(run, report, options.chained), *([origin] if origin else []), *differing.files(run)]
    checks += [*differing.limits(run), *environment_checks(run, config)]
    result = Result(str(run.path), checks, differing.error_of(run, checks), dry_run=options.dry_run)
    show(rendering.checks_table(checks))
    if result.error or options.dry_run or isinstance(report, MslabError):
        return result
    try:
        again = rerun(run, config, report, parent)
    except signals.Interrupted as stop:
        if stop.run is None:  # another machine has it
            raise
        compare = command("reproduce", run.path, "--with", stop.run)
        raise signals.Interrupted(f"{stop.continues}, then\n{compare}    compares", stop.run) from None
    result.trained = True
    return add_comparison(result, run, RunFolder.read(again), options, show)


def compare_existing(
    run: RunFolder, other: RunFolder, options: ReproduceOptions, show: Callable[[str], None]
) -> Result:
    """Compare two finished runs without training (--with)."""
    if options.overrides or options.backbone or options.dry_run:
        raise RunError(
            "--with compares two finished runs and trains nothing: KEY=VALUE, --backbone and --dry-run have no effect.",
            expected="mslab reproduce RUN --with OTHER_RUN",
            fix="leave KEY=VALUE, --backbone and --dry-run out",
        )
    refuse_unfinished(other)
    parents = differing.same_parent(run, other)
    checks = [differing.same_images(run, other), *([parents] if parents else []), *differing.files(run)]
    checks += [*differing.files(other), *differing.limits(run)]
    checks += differing.circumstances(differing.recorded_state(run), differing.recorded_state(other))
    show(rendering.checks_table(checks))
    return add_comparison(Result(str(run.path), checks), run, other, options, show)


def add_comparison(
    result: Result, run: RunFolder, again: RunFolder, options: ReproduceOptions, show: Callable[[str], None]
) -> Result:
    result.again = str(again.path)
    result.comparison = comparing.compare(run, again, options.tolerance)
    show(rendering.comparison_table(result.comparison))
    show(rendering.conclusion(result.comparison, result.checks))
    return result


# --- the run to repeat -----------------------------------------------------------------------------------------------


def refuse_unfinished(run: RunFolder) -> None:
    if run.finished:
        return
    status, epochs = run.manifest["status"], f"{run.epochs_done} of {run.settings.epochs} epochs"
    if status == "done":
        raise RunError(
            f"{run.path} has ended, but its history.csv contains {epochs}.",
            expected="a row for every epoch, as mslab wrote them",
            fix="restore history.csv",
        )
    raise RunError(
        f"{run.path} is not finished: {epochs}, its status is {status}.",
        expected="a finished run, whose figures can be compared",
        fix=lock.go_on(run.path),
    )


def refuse_partial(run: RunFolder) -> None:
    """Raise RunError for a run that another command trained on part of the images."""
    if run.manifest["epoch_images"] is not None:
        raise RunError(
            f"{run.path} is one of several runs of one command, trained on part of the training images: it cannot be "
            "repeated on its own.",
            expected="a run of mslab train or mslab transfer",
            fix=f"repeat the command that made it: {recorded_command(run.manifest['command'])}",
        )


def settings(run: RunFolder, options: ReproduceOptions) -> Settings:
    """The run's settings with the overrides, on the run's device if it works here, and with an archive's own images.

    Raises ConfigError if an override is not a setting.
    """
    config = load_settings(run.settings, options.overrides)
    overridden = {text.partition("=")[0].strip() for text in options.overrides}
    changes: dict[str, Any] = {}
    for split, name in (("train", "train_data"), ("val", "val_data")):
        archived = run.path / "data" / split
        if archived.is_dir() and name not in overridden:
            changes[name] = str(archived)
    device = run.manifest["device"]
    if (
        config.device == "auto"
        and "device" not in overridden
        and device in devices.NAMES
        and not device_problem(device)
    ):
        changes["device"] = device
    return config.replace(**changes)


@functools.cache
def device_problem(device: str) -> str:
    """The reason why a device cannot be used, or "". A CPU always works."""
    return "" if device == "cpu" else devices.device_problem(device)


def check_images(run: RunFolder, config: Settings) -> DatasetReport | MslabError:
    """Check the images as they are now. Returns the report, or the error if the folders cannot be read."""
    try:
        with Meter(1) as meter:
            return report_of(config, run.manifest["data"]["skip_check"], meter.callback("loading images"))
    except DatasetError as error:
        return error


def environment_checks(run: RunFolder, config: Settings) -> list[Check]:
    """Compare settings, versions and machine of the run with those of today."""
    device: str = config.device
    reason = device_problem(device) if device != "auto" else ""
    if device == "auto":
        device = devices.choose_device("auto")
    threads = devices.workers(config.data_workers)
    now = differing.current_state(config.replace(data_workers=threads), device, run.manifest["workers"])
    checks = differing.circumstances(differing.recorded_state(run), now)
    if (workers := run.manifest["workers"]) > cores():
        again = command("train", run.path / "config.yaml", "--workers", str(cores()))
        fix = f"a machine with more cores; for a new experiment: {again}"
        why = "each worker is a process that needs a core"
        checks.append(Check("workers", str(workers), f"{cores()} cores", "stops", why, fix))
    if reason:
        fix = "device=cpu, or device=auto to use a device that works here"
        recorded = str(run.manifest["device"] or differing.UNKNOWN)
        missing = Check("device", recorded, f"no {device}", "stops", reason, fix)
        checks = [missing if check.what == "device" else check for check in checks]
    return checks


def rerun(run: RunFolder, config: Settings, report: DatasetReport, parent: Path | None) -> Path:
    """Repeat the run through the functions that made it. Returns the new run's folder."""
    from mslab.training import finetuning, launching, start  # here, because they import MindSpore

    manifest = run.manifest
    name = STAMP.sub("", run.path.resolve().name) + "-again"
    origin = {"run": str(run.path), "manifest_sha256": files.sha256(run.path / "manifest.json")}
    source: finetuning.Pretrained | None = None
    if manifest["kind"] == "transfer":
        source = finetuning.backbone_of(
            str(parent), manifest["parent"]["only"], finetuning.choice_of(manifest["parent"])
        )
    elif manifest["kind"] == "incremental":
        source = finetuning.network_of(str(parent))
    job = start.Job(config, check_or_raise(config, report), name, source, reproduces=origin)
    cluster = launching.Cluster(manifest["workers"]) if manifest["workers"] > 1 else None
    reason = manifest["ended_by"]  # stop at the same epoch, even if it was not the settings that ended the run
    result = start.run(job, cluster, (lambda rows: reason if len(rows) >= run.epochs_done else "") if reason else None)
    return Path(result.run)
