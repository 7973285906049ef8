"""Check of the data that a run's settings name, as training will read it."""

import difflib
import os
from pathlib import Path
from typing import Any

from mslab.check.dataset import Progress, check_dataset, no_images
from mslab.check.report import DatasetReport, counted
from mslab.config import Settings, override, paths, tasks
from mslab.config.origins import COMMAND_LINE
from mslab.errors import ConfigError, DatasetError
from mslab.escaping import quoted
from mslab.files import kind_of


def report_of(
    settings: Settings,
    skip_content: bool = False,
    progress: Progress | None = None,
    cache: bool = True,
    group: str | None = None,
) -> DatasetReport:
    """The report on the data that the settings name; it may contain errors."""
    if settings.task != "classify":
        from mslab.check.label_check import check_labels  # only here: most trainings have no such labels

        return check_labels(settings.train_data, settings.task, cache, progress, val=settings.val_data)
    return check_dataset(
        settings.train_data,
        settings.val_data,
        class_num=settings.class_num,
        image_size=settings.image_size,
        batch_size=settings.batch_size,
        skip_content=skip_content,
        cache=cache,
        progress=progress,
        follow_links=settings.follow_links,
        ignore=settings.ignore,
        group=group,
        **chosen_by(settings),
    )


def chosen_by(settings: Settings) -> dict[str, Any]:
    """Which folders are which classes, and how images become square, as check_dataset takes it."""
    return {"classes": settings.classes, "merge": settings.merge, "resize_mode": settings.resize_mode}


def reading_of_test(settings: Settings, report: DatasetReport) -> dict[str, Any]:
    """What check_dataset takes to read other images as `mslab eval` does with a network trained on this report's."""
    read = {"follow_links": settings.follow_links, "ignore": settings.ignore, "resize_mode": settings.resize_mode}
    return read | {"trained": report.folders_of or None}


def refuse_missing(settings: Settings, source: str) -> None:
    """Raise DatasetError for folders that are not there: their paths may begin in another folder than this one."""
    folders = {"train_data": Path(settings.train_data), "val_data": Path(settings.val_data)}
    config = Path(source)
    there = all(kind_of(folder, links=True) for folder in folders.values())
    if there or any(folder.is_absolute() for folder in folders.values()):
        return  # check_dataset says the rest
    above = [*(Path(os.path.abspath(config)).parents if kind_of(config, links=True) else ()), *paths.here().parents]  # noqa: PTH100
    for base in above:
        if all(kind_of(base / folder, links=True) in ("a folder", "a file") for folder in folders.values()):
            words = (quoted(f"{name}={os.path.relpath(base / folder)}") for name, folder in folders.items())
            error = no_images(folders["train_data"], " (train images)")
            fix = f"add {' '.join(words)} to the command\nor cd {quoted(base)}, where the paths in {source} begin"
            raise DatasetError(error.what, details=error.details, expected=error.expected, fix=fix)


def check_or_raise(
    settings: Settings,
    report: DatasetReport | None = None,
    skip_content: bool = False,
    source: str = "the config",
    progress: Progress | None = None,
) -> DatasetReport:
    """The report on the data, guaranteed to be without errors. Checks the data if `report` is None.

    `source` names the settings in messages, unless class_num was not written there. Raises DatasetError, and
    ConfigError if best_by names a class without validation images.
    """
    if report is None:
        refuse_missing(settings, source)
    elif report.asked != (settings.classes, settings.merge):
        raise DatasetError(
            f"{report.root} was checked with other classes than {source} says.",
            details=[
                ("checked", "classes: {}, merge: {}".format(*report.asked)),
                (source, f"classes: {settings.classes}, merge: {settings.merge}"),
            ],
            expected="a report with the same classes and merge",
            fix="leave the report out, or give check_dataset these classes and merge",
        )
    own = getattr(report, "tasks", ()) or (tasks.CLASSIFY,)
    if report and own != (settings.task,):
        raise DatasetError(
            f"{report.root} was checked for {', '.join(own)}, {source} says task: {settings.task}.",
            expected="a report on the labels of this task",
            fix="leave the report out, or make it with check_labels(ROOT, TASK, val=...)",
        )
    written = settings.origin("class_num")
    source = written if written == COMMAND_LINE or written.startswith("--") else source
    report = report or report_of(settings, skip_content, progress)
    report.raise_errors(f"{source} says class_num: {settings.class_num}")
    count = len(report.class_names)
    noun = tasks.NOUNS.get(settings.task) or next(iter(report.splits.values())).noun
    others = "other labels" if settings.task in tasks.TASKS else "other folders"
    if count != settings.class_num:  # a report made without class_num
        raise DatasetError(
            f"{report.root} has {counted(count, noun)}, {source} says class_num: {settings.class_num}.",
            expected=f"class_num equal to the number of {counted(2, noun)[2:]}",
            fix=f"class_num: {count}, or {others}"
            if count > (settings.task == tasks.CLASSIFY)
            else "add a folder of images of another class",
        )
    refuse_unmeasured(settings, report)
    return report


def refuse_unmeasured(settings: Settings, report: DatasetReport) -> None:
    """Raise ConfigError if best_by: recall:CLASS names a class without validation images: it would have no recall."""
    best_by, counts = settings.best_by or "", report.counts.get("val", {})
    name = best_by.removeprefix("recall:")
    if name == best_by or counts.get(name):
        return
    names = {known.strip().casefold(): known for known, count in counts.items() if count}
    close = difflib.get_close_matches(name.strip().casefold(), names, 1, 0.6)
    where = settings.origin("best_by")
    raise ConfigError(
        f"best_by: {best_by}{f' ({where})' * bool(where)} names a class without validation images.",
        details=[(name, f"is empty in {settings.val_data}" if name in counts else f"is no class of {report.root}")],
        expected=f"recall: and one of {', '.join(list(names.values())[:20])}{', …' * (len(names) > 20)}",
        fix=quoted(override("best_by", f"recall:{names[close[0]] if close else next(iter(names.values()), 'CLASS')}")),
    )
