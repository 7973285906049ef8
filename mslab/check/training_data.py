"""Check of the data that a run's settings name, as training will read it."""

from mslab.check.dataset import Progress, check_dataset
from mslab.check.report import DatasetReport
from mslab.config import Settings
from mslab.errors import DatasetError


def report_of(settings: Settings, skip_content: bool = False, progress: Progress | None = None) -> DatasetReport:
    """The report of the data that the settings name, errors and all."""
    return check_dataset(
        settings.train_data,
        settings.val_data,
        class_num=settings.class_num,
        image_size=settings.image_size,
        batch_size=settings.batch_size,
        skip_content=skip_content,
        progress=progress,
    )


def check_or_raise(
    settings: Settings,
    report: DatasetReport | None = None,
    skip_content: bool = False,
    where: str = "the config",
    progress: Progress | None = None,
) -> DatasetReport:
    """The data's report, without errors. Checks where the caller has not. `where`: what to call the settings.

    Raises DatasetError.
    """
    report = report or report_of(settings, skip_content, progress)
    report.raise_errors(f"{where} says class_num: {settings.class_num}")
    found = len(report.class_names)
    if found != settings.class_num:  # a report made without class_num
        raise DatasetError(
            f"{report.root} has {found} class folders, {where} says class_num: {settings.class_num}.",
            expected="class_num equal to the number of class folders",
            fix=f"class_num: {found}, or other folders",
        )
    return report
