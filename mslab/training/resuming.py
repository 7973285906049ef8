"""Continue a run: which settings may change meanwhile, and whether its images are still the same."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mslab.check import DatasetReport
from mslab.check.training_data import check_or_raise
from mslab.config import Settings, load_settings
from mslab.errors import ConfigError, DatasetError, RunError
from mslab.escaping import command, quoted
from mslab.runs import images, manifest
from mslab.runs.folder import RunFolder
from mslab.training import learning_rates

log = logging.getLogger("mslab")
PATHS = ("train_data", "val_data")
# what a resume may change: where the images are, the machine, what is saved and said, and when the run ends
CHANGEABLE = (
    *(*PATHS, "epochs", "device", "data_workers", "cache", "validation_batch_size", "max_device_memory"),
    *("max_to_keep", "checkpoint_frequency", "log_to", "on_nan", "max_training_time", "target_accuracy", "target_loss"),
)
ENDINGS = ("max_training_time", "target_accuracy", "target_loss")


def change_settings(run: RunFolder, overrides: Sequence[str]) -> None:
    """Apply KEY=VALUE texts to the settings of a run that goes on. config.yaml stays as it is.

    Raises ConfigError that names every setting that cannot change, with the reason and what to do.
    """
    old, new = run.settings, load_settings(run.settings, overrides)
    before, after = old.model_dump(), new.model_dump()
    changed = [name for name in after if before[name] != after[name]]
    rows = [(name, f"the epochs so far were trained with {before[name]}") for name in changed if name not in CHANGEABLE]
    if "epochs" in changed and (problem := epochs_problem(run, old, new)):
        rows.append(("epochs", problem))
    if run.finished:
        ended = f"the run has ended by itself: {run.manifest['ended_by']}"
        rows += [(name, ended) for name in changed if name in ENDINGS and run.manifest["ended_by"]]
    if rows:
        raise ConfigError(
            f"{run.path} cannot go on with other values of {', '.join(name for name, _ in rows)}.",
            details=rows,
            expected=f"what does not change the epochs so far: {', '.join(CHANGEABLE)}",
            fix=further(run),
        )
    run.settings = new
    run.notes += [f"{name}: {after[name]} from now on, {before[name]} before" for name in changed]


def epochs_problem(run: RunFolder, old: Settings, new: Settings) -> str:
    """The reason why a run cannot end after another number of epochs, or "" if those it has trained stay the same."""
    done = run.epochs_done
    if new.epochs < done:
        return f"{done} epochs are trained already"
    if run.manifest["ended_by"] and new.epochs > done:
        return f"the run has ended by itself: {run.manifest['ended_by']}"
    steps = run.history[-1]["step"] // done if done else 1
    before, after = (learning_rates.rates_of(settings, steps)[: done * steps] for settings in (old, new))
    if np.array_equal(before, after):
        return ""
    return f"in lr_scheduler: {old.lr_scheduler} the rates of the {done} epochs so far would have been others"


def further(run: RunFolder) -> str:
    """The command that trains a run's network further as a new run."""
    again = command("train", run.path / "config.yaml", "--from", run.path)
    return f"{again}    and KEY=VALUE: a new run that begins with this network"


def same_images(run: RunFolder, report: DatasetReport | None = None) -> DatasetReport:
    """The report of the run's images. Raises DatasetError if they are not where they were, or not the same."""
    elsewhere = command("train", "--resume", run.path) + " train_data=FOLDER val_data=FOLDER"
    here, began = Path.cwd(), run.path.resolve().parent.parent  # the folder above runs/, unless the run was moved
    for name in PATHS:
        folder = getattr(run.settings, name)
        if report is None and not Path(folder).is_dir():
            back = f"cd {quoted(began)} && {command('train', '--resume', run.path.resolve().relative_to(began))}"
            there = began != here and all((began / getattr(run.settings, other)).is_dir() for other in PATHS)
            raise DatasetError(
                f"{run.path} was trained on images in {folder}, which does not exist (looked up from {here}).",
                expected="the images that it began with, here or in another folder",
                fix=f"{back}    where it began\nor {elsewhere}" if there else elsewhere,
            )
    original: dict[str, Any] = run.manifest["data"]
    report = check_or_raise(run.settings, report, original.get("skip_check", False))
    if report.fingerprint != original["fingerprint"]:
        then = images.recorded(run.path)
        lines = images.differences(then, images.present(report)) if then else []
        raise DatasetError(
            f"The images differ from those that {run.path} began with: other files, or other contents.",
            details=[("images", line) for line in lines],
            expected=f"the data set with the fingerprint {original['fingerprint'][:12]}…; here it is "
            f"{report.fingerprint[:12]}…",
            fix=f"restore the images, or {elsewhere}\nor {further(run)}",
        )
    return report


def refuse_what_has_no_state(path: Path, given: str | os.PathLike[str]) -> None:
    """Raise RunError for an unpacked pack, which has no state, and for a chosen checkpoint, which begins a new run."""
    if manifest.is_pack(path) and (path / "config.yaml").is_file():
        raise RunError(
            f"{path} cannot go on: mslab pack leaves out the state of the training.",
            expected="the run folder that was packed",
            fix="resume that run, or begin a new one with this network:\n"
            + command("train", path / "config.yaml", "--from", path / "best.ckpt"),
        )
    chosen = path / "checkpoints" / Path(given).name
    if chosen.suffix == ".ckpt" and chosen.name != "last.ckpt" and chosen.is_file():
        raise RunError(
            f"{given} is a checkpoint, not a run.",
            expected="a run folder: a run goes on after its last epoch",
            fix=command("train", "--resume", path)
            + "\nor a new run that begins with this checkpoint:\n"
            + command("train", path / "config.yaml", "--from", chosen),
        )
