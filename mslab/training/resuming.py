"""Continue a run: whether its files are there, which settings may change, and whether its images are the same."""

import contextlib
import hashlib
import logging
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from mslab import files
from mslab.check import DatasetReport
from mslab.check.training_data import check_or_raise
from mslab.checkpoint import Checkpoint, read
from mslab.config import Settings, load_settings
from mslab.errors import CheckpointError, ConfigError, DatasetError, RunError
from mslab.escaping import command, quoted
from mslab.runs import finding, images, manifest
from mslab.runs.folder import RunFolder
from mslab.runs.history import digest_of, read_steps, step_numbers, steps_text
from mslab.runs.verifying import changed_settings, has_bytes_of
from mslab.training import learning_rates

log = logging.getLogger("mslab")
PATHS = ("train_data", "val_data")
PLACES = ("a folder", "a file")  # of the images; a file is a table of labels
# what a resume may change: where the images are, the machine, what is saved and said, and when the run ends
CHANGEABLE = (
    *(*PATHS, "epochs", "device", "data_workers", "cache", "validation_batch_size", "max_device_memory"),
    *("max_to_keep", "checkpoint_frequency", "log_to", "on_nan", "max_training_time", "target_accuracy", "target_loss"),
)
ENDINGS = ("max_training_time", "target_accuracy", "target_loss")
LAST, BEST = "checkpoints/last.ckpt", ("checkpoints/best.ckpt", "checkpoints/best_backbone.ckpt")
CHANGED = "has changed since the run wrote it"


# --- what the run has left -------------------------------------------------------------------------------------------


def reopen(
    given: str | os.PathLike[str], overrides: Sequence[str] = (), writes: bool = True
) -> tuple[RunFolder, Checkpoint | None]:
    """Open a run and its last.ckpt, None before its first one, with `overrides` of its settings (KEY=VALUE).

    `writes`: whether this process continues the run itself, and not only reads it. Raises RunError or CheckpointError
    unless everything that a resume needs is as the run left it, and ConfigError for settings that cannot change.
    """
    path = finding.find_run(given)
    refuse_what_has_no_state(path, given)
    with put_back(path, "history.csv"):
        run = RunFolder.open(path) if writes else RunFolder.read(path)
    last = last_checkpoint(run)
    completed = last.info["epoch"] if last else 0
    if len(run.history) < completed:
        there = f"has {len(run.history)} epochs" if files.kind_of(run.path / "history.csv") else "is gone"
        raise RunError(
            f"{run.path}/history.csv {there}; last.ckpt is of epoch {completed}.",
            expected="a row for every completed epoch",
            fix=manifest.lost(run.path, "history.csv"),
        )
    if rows := changed_files(run, completed):
        raise RunError(
            f"{run.path} cannot go on: it is not as the run left it.",
            details=list(rows.items()),
            expected="the files that the run wrote, with the contents that its manifest records",
            fix=manifest.lost(run.path, *rows),
        )
    change_settings(run, overrides)
    run.history = run.history[:completed]
    return run, last


def has_ended(run: Path) -> bool:
    """Whether a run says that it has trained to its end. reopen() says what is wrong with one that cannot be read."""
    with contextlib.suppress(RunError):
        return bool(manifest.load(run)["status"] == "done")
    return False


@contextlib.contextmanager
def put_back(run: Path, name: str) -> Iterator[None]:
    """Say of a table of the run that cannot be read how the run goes on. Raises RunError."""
    try:
        yield
    except RunError as error:
        if not error.what.startswith(f"{run / name} cannot be read"):
            raise
        closed = isinstance(error.__context__, PermissionError)
        fix = f"chmod u+r {quoted(run / name)}" if closed else manifest.lost(run, name)
        raise RunError(error.what, details=error.details, expected=error.expected, fix=fix) from None


def last_checkpoint(run: RunFolder) -> Checkpoint | None:
    """The last.ckpt of a run, None if it was killed before its first one. Raises RunError or CheckpointError."""
    file = run.path / LAST
    if not files.kind_of(file, links=True):
        if was_saved(run):
            raise RunError(
                f"{run.path} has no {LAST}, with which it goes on: it has trained {len(run.history) or 'some'} epochs.",
                expected="the last.ckpt that the run wrote; without it, the run would begin again over its own results",
                fix=manifest.lost(run.path, LAST),
            )
        files.make_folder(run.checkpoints)
        return None
    try:
        last = read(file)
    except CheckpointError as error:
        raise CheckpointError(
            error.what, details=error.details, expected=error.expected, fix=manifest.lost(run.path, LAST)
        ) from None
    if last.info.get("epoch") is None:
        raise RunError(
            f"{file} has no epoch number.", expected="the last.ckpt that mslab wrote", fix=manifest.lost(run.path, LAST)
        )
    return last


def was_saved(run: RunFolder) -> bool:
    """Whether the run has written a last.ckpt at some time."""
    recorded = run.manifest
    return bool(
        recorded["saved"]
        or LAST in recorded["artifacts"]
        or any(resumed["epoch"] for resumed in recorded["resumed"])
        or recorded["status"] in ("done", "paused")
        or len(run.history) > run.settings.checkpoint_frequency  # an older mslab did not record it
    )


def changed_files(run: RunFolder, completed: int) -> dict[str, str]:
    """{file: what is wrong with it} of those that a resume needs after so many epochs."""
    recorded = run.manifest["artifacts"]
    if run.manifest["status"] == "running":  # it was killed: the manifest lists none of them
        names = ["steps.csv"] if run.manifest["saved"] else []
        measured = any(not math.isnan(row["val_acc"]) for row in run.history[:completed])
        wanted: dict[str, str | None] = dict.fromkeys([*names, *(BEST if measured else ())])
    else:
        wanted = {name: recorded[name] for name in (LAST, *BEST, "history.csv", "steps.csv") if name in recorded}
    with put_back(run.path, "steps.csv"):
        steps = read_steps(run.path / "steps.csv")
        rows = {name: text for name, digest in wanted.items() if (text := problem_of(run.path / name, digest, run))}
    changed = [name for name, text in rows.items() if text == CHANGED]
    if len(changed) >= max(3, len(wanted) - 1):
        text = f"is another run's: {len(changed)} of the {len(wanted)} files that it lists have other contents"
        return {"manifest.json": text}
    saved = run.manifest["saved"]
    if saved and saved["epoch"] <= completed and digest_of(run.history[: saved["epoch"]]) != saved["history"]:
        rows["history.csv"] = f"its first {saved['epoch']} epochs are not those of this run"
    had = run.history[completed - 1]["step"] if completed else 0
    there = step_numbers(steps)[-1] if steps else 0
    if saved and there < had and rows.get("steps.csv", CHANGED) == CHANGED:
        end = f"ends with step {there}" if steps else "is empty"
        rows["steps.csv"] = f"{end}; the run had {had} steps"
    return rows


def problem_of(path: Path, digest: str | None, run: RunFolder) -> str:
    """What is wrong with a file of the run, "" if nothing is. A table may have been saved by a spreadsheet: its
    numbers count.
    """
    if (kind := files.kind_of(path, links=True)) != "a file":
        return f"is {kind or 'gone'}"
    if not digest:
        return ""
    same = False
    if path.name == "history.csv":
        same = digest_of(run.history) == digest
    elif path.name == "steps.csv":  # without those of an epoch that was not completed
        text = steps_text(read_steps(path), run.history[-1]["step"] if run.history else 0, [])
        same = hashlib.sha256(text.encode()).hexdigest() == digest
    try:
        return "" if same or files.sha256(path) == digest else CHANGED
    except OSError as error:
        return f"cannot be read: {error.strerror}"


# --- its settings ----------------------------------------------------------------------------------------------------


def change_settings(run: RunFolder, overrides: Sequence[str]) -> None:
    """Apply what was edited in config.yaml, and KEY=VALUE texts, to a run that goes on. The file stays as it is.

    Raises ConfigError that names every setting that cannot change, with the reason and what to do.
    """
    new = load_settings(run.settings, overrides)
    edited = [name for name, _, _ in changed_settings(recorded_settings(run), run.settings)]
    changed = changed_settings(recorded_settings(run), new)
    old = begun_with(run, {name: value for name, value, _ in changed})
    if new.cache == "auto":
        new, changed = new.replace(cache=old.cache), [row for row in changed if row[0] != "cache"]
        run.notes.append(f"note: cache: auto was decided when the run began: it goes on with {old.cache}")
    texts = {name: f"{before} -> {after}" for name, before, after in changed}
    then = "the epochs so far were trained with" if run.history else "the run began with"
    free = (*CHANGEABLE, *(() if run.manifest.get("features") else ("engine", "precision")))
    rows = [(name, f"{texts[name]}: {then} {before}") for name, before, _ in changed if name not in free]
    if "epochs" in texts and (problem := epochs_problem(run, old, new)):
        rows.append(("epochs", f"{texts['epochs']}: {problem}"))
    if run.manifest["ended_by"] and run.manifest["status"] == "done":
        ended = f"the run has ended by itself: {run.manifest['ended_by']}"
        rows += [(name, f"{texts[name]}: {ended}") for name in texts if name in ENDINGS]
    if rows:
        names = [name for name, _ in rows]
        back = (
            f"write the old values of {', '.join(set_back)} into {run.path}/config.yaml; or\n"
            if (set_back := [name for name in names if name in edited])
            else ""
        )
        raise ConfigError(
            f"{run.path} cannot go on with other values of {', '.join(names)}.",
            details=rows,
            expected=f"what does not change the epochs so far: {', '.join(free)}",
            fix=back + further(run),
        )
    run.settings = new
    run.changed = {name: [before, after] for name, before, after in changed}
    run.notes += [f"{name}: {after} from now on, {before} before" for name, before, after in changed]


def recorded_settings(run: RunFolder) -> dict[str, Any]:
    """The settings that the manifest records; of an older mslab those of config.yaml, which this says.

    Raises RunError if the manifest has another sha256 of config.yaml.
    """
    if run.manifest["settings"] is None:
        file, digest = run.path / "config.yaml", run.manifest["artifacts"].get("config.yaml")
        if digest and run.manifest["status"] != "running" and not has_bytes_of(file, digest, run.settings):
            raise RunError(
                f"{file} has changed since the run wrote it.",
                expected=f"the file with sha256 {digest[:12]}…; an older mslab wrote this run's manifest, which does "
                "not say what has changed",
                fix=manifest.lost(run.path, "config.yaml"),
            )
        if not digest or run.manifest["status"] == "running":
            run.notes.append(
                f"note: the manifest of {run.path} is of an older mslab and does not record its settings: those of "
                "config.yaml count as they are"
            )
        run.manifest["settings"] = run.settings.model_dump(mode="json")
    return dict(run.manifest["settings"])


def begun_with(run: RunFolder, values: dict[str, Any]) -> Settings:
    """The run's settings with these recorded values. Raises RunError if nobody can have begun a run with them."""
    try:
        return run.settings.replace(**values)
    except ValidationError:
        raise RunError(
            f"{run.path}/manifest.json records settings that do not exist.",
            details=[(name, repr(value)[:100]) for name, value in values.items()],
            expected="the file that mslab wrote",
            fix=manifest.lost(run.path, "manifest.json"),
        ) from None


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
    begin = command("train", run.path / "config.yaml", "--from", run.path)
    return f"{begin}    and KEY=VALUE: a new run that begins with this network"


# --- its images ------------------------------------------------------------------------------------------------------


def same_images(run: RunFolder, report: DatasetReport | None = None) -> DatasetReport:
    """The report of the run's images. Raises DatasetError if they are not where they were, or not the same."""
    elsewhere = command("train", "--resume", run.path) + " train_data=FOLDER val_data=FOLDER"
    here, began = Path.cwd(), run.path.resolve().parent.parent  # the folder above runs/, unless the run was moved
    for name in PATHS:
        folder = getattr(run.settings, name)
        if report is None and files.kind_of(Path(folder), links=True) not in PLACES:
            back = f"cd {quoted(began)} && {command('train', '--resume', run.path.resolve().relative_to(began))}"
            kinds = {files.kind_of(began / getattr(run.settings, other), links=True) for other in PATHS}
            there = began != here and kinds <= set(PLACES)
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


def restore_images_csv(run: RunFolder, report: DatasetReport) -> None:
    """Write an images.csv that is gone again: the images, which were compared, are those that it listed."""
    file, text = run.path / "images.csv", manifest.images_csv(report)
    recorded = run.manifest["artifacts"].get(file.name)
    if files.kind_of(file) or not recorded:  # an older mslab wrote none
        return
    if hashlib.sha256(text.encode()).hexdigest() == recorded:
        files.write_text(file, text)
        log.info(f"note: {file} was gone; it is written again, as the images are the same")
    else:  # they are packed now, or were
        log.info(f"note: {file} is gone; the run goes on, and mslab verify will miss it")


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
