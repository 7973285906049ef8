"""Check of the data that a run's settings name, as training will read it."""

import os
from pathlib import Path

from mslab.check.dataset import Progress, check_dataset, no_images
from mslab.check.report import DatasetReport, counted
from mslab.config import Settings, paths
from mslab.config.origins import COMMAND_LINE
from mslab.errors import DatasetError
from mslab.escaping import quoted
from mslab.files import kind_of


def report_of(settings: Settings, skip_content: bool = False, progress: Progress | None = None) -> DatasetReport:
    """The report on the data that the settings name; it may contain errors."""
    return check_dataset(
        settings.train_data,
        settings.val_data,
        class_num=settings.class_num,
        image_size=settings.image_size,
        batch_size=settings.batch_size,
        skip_content=skip_content,
        progress=progress,
        follow_links=settings.follow_links,
        ignore=settings.ignore,
    )


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

    `source` names the settings in messages, unless class_num was not written there. Raises DatasetError.
    """
    if report is None:
        refuse_missing(settings, source)
    written = settings.origin("class_num")
    source = written if written == COMMAND_LINE or written.startswith("--") else source
    report = report or report_of(settings, skip_content, progress)
    report.raise_errors(f"{source} says class_num: {settings.class_num}")
    count = len(report.class_names)
    noun = next(iter(report.splits.values())).noun
    if count != settings.class_num:  # a report made without class_num
        raise DatasetError(
            f"{report.root} has {counted(count, noun)}, {source} says class_num: {settings.class_num}.",
            expected=f"class_num equal to the number of {counted(2, noun)[2:]}",
            fix=f"class_num: {count}, or other folders" if count > 1 else "add a folder of images of another class",
        )
    return report
