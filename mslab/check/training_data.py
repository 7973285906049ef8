"""Check of the data that a run's settings name, as training will read it."""

from mslab.check.dataset import Progress, check_dataset
from mslab.check.report import DatasetReport
from mslab.config import Settings
from mslab.config.origins import COMMAND_LINE
from mslab.errors import DatasetError


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
    written = settings.origin("class_num")
    source = written if written == COMMAND_LINE or written.startswith("--") else source
    report = report or report_of(settings, skip_content, progress)
    report.raise_errors(f"{source} says class_num: {settings.class_num}")
    count = len(report.class_names)
    if count != settings.class_num:  # a report made without class_num
        raise DatasetError(
            f"{report.root} has {count} class folders, {source} says class_num: {settings.class_num}.",
            expected="class_num equal to the number of class folders",
            fix=f"class_num: {count}, or other folders",
        )
    return report
