"""The entire lab in one command: draw, check, train nine classes, transfer to two, compare with scratch."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mslab.check import check_dataset
from mslab.config.overrides import listed
from mslab.data.mushrooms import drawing, scenes
from mslab.errors import DatasetError, MslabError
from mslab.experiments.lab import CONFIGS
from mslab.files import replace_atomically
from mslab.runtime.console import Meter
from mslab.runtime.tables import empty_table, render

log = logging.getLogger("mslab")


def draw(root: Path, **settings: Any) -> None:
    """Draw mushrooms9 and mushrooms2 under `root`; images that exist from the same settings are reused."""
    for name, splits in drawn(drawing.draw_datasets, root, settings).items():
        numbers = ", ".join(f"{split} {sum(classes.values())}" for split, classes in splits.items())
        log.info(f"{root / name}: {numbers} drawn images")


def draw_scenes(root: Path, **settings: Any) -> None:
    """Draw the scenes under `root`; images that exist from the same settings are reused."""
    numbers = ", ".join(f"{split} {count}" for split, count in drawn(scenes.draw_scenes, root, settings).items())
    log.info(f"{root / scenes.NAME}: {numbers} drawn images with boxes, masks, key points and tags")


def drawn(function: Callable[..., Any], root: Path, settings: Mapping[str, Any]) -> Any:
    """Call a function that draws, with a progress bar. Returns its result; raises DatasetError."""
    start = time.perf_counter()
    try:
        with Meter(1) as meter:
            result = function(
                root, progress=lambda name, done, total: meter.callback(f"drawing {name}")(done, total), **settings
            )
    except FileExistsError as error:
        what, *rows = str(error).splitlines()
        raise DatasetError(what, details=[("", row.strip()) for row in rows]) from None
    log.info(f"drawn or reused in {time.perf_counter() - start:.0f} s; not a guide to real mushrooms")
    return result


def run_demo(root: Path = Path("datasets"), overrides: Sequence[str] = (), **drawing: Any) -> dict[str, Any]:
    """Run the lab. Returns seconds and, for nine, transfer and scratch: test_acc, val_acc, linear_acc, seconds, run."""
    began = time.perf_counter()
    for name in ("mushrooms9.yaml", "mushrooms2.yaml"):
        if not (CONFIGS / name).is_file():
            raise MslabError(
                f"There is no {CONFIGS / name}: the demo runs from a checkout of the project.",
                expected="mslab installed with pip install -e, as run.sh does",
                fix="clone the project and run ./run.sh demo there",
            )
    log.info("1/4  the images")
    draw(root, **drawing)
    from mslab.evaluation import measuring, metrics
    from mslab.report.writing import write_report
    from mslab.training import start

    def job(kind: str, name: str, text: str, **options: Any) -> dict[str, Any]:
        log.info(text)
        begun = time.perf_counter()
        data = root / name
        report, test = check_dataset(data / "train", data / "val"), check_dataset(data / "test")
        paths = [f"train_data={data / 'train'}", f"val_data={data / 'val'}", *listed(overrides)]
        train = start.transfer if options else start.train
        result = train(CONFIGS / f"{name}.yaml", overrides=paths, report=report, name=f"demo-{kind}", **options)
        accuracy = measuring.evaluate(result.run, data / "test", report=test)["accuracy"]
        linear = metrics.linear_or_note(report.samples("train"), test.samples(""))
        figures = {"test_acc": accuracy, "val_acc": result.val_acc, "linear_acc": linear}
        return figures | {"seconds": time.perf_counter() - begun, "run": result.run}

    nine = job("nine", "mushrooms9", "2/4  nine classes, from scratch")
    log.info("test images with the network's predictions: %s", picture(nine["run"], root / "mushrooms9" / "test"))
    transfer = job("transfer", "mushrooms2", "3/4  two classes, by transfer from the nine", backbone=nine["run"])
    scratch = job("scratch", "mushrooms2", "4/4  two classes, from scratch with the same images and steps")
    log.info("writing the reports …")
    pages = [write_report([run["run"]]) for run in (nine, transfer, scratch)]
    log.info("open them in a browser: %s", ", ".join(map(str, pages)))
    return {"nine": nine, "transfer": transfer, "scratch": scratch, "seconds": time.perf_counter() - began}


def picture(run: str, data: Path, per_class: int = 4) -> Path:
    """Write RUN/examples.png: `per_class` test images of every class, with the predictions of the run's network."""
    from mslab.inference import predicting
    from mslab.report.show import contact_sheet

    report = check_dataset(data)
    files, labels = report.samples("")
    by_class = [[path for path, y in zip(files, labels, strict=True) if y == label] for label in sorted(set(labels))]
    rows = list(zip(*by_class, strict=False))[:per_class]  # an image of each class
    paths = [path for row in rows for path in row]
    predicted = [row["class"] for row in predicting.predict(predicting.open_model(run), paths)]
    correct = [name == path.parent.name for name, path in zip(predicted, paths, strict=True)]
    file = Path(run) / "examples.png"
    sheet = contact_sheet(paths, predicted, correct, columns=len(by_class))
    replace_atomically(file, lambda opened: sheet.save(opened, "PNG"))
    return file


def table(result: Mapping[str, Any]) -> str:
    """The summary as text."""
    titles = {
        "nine": "nine classes, from scratch",
        "transfer": "two classes, by transfer",
        "scratch": "two classes, from scratch",
    }
    grid = empty_table("test accuracy on drawn mushrooms", ("", "network", "linear model of 8x8 thumbnails", "seconds"))
    for key, title in titles.items():
        row = result[key]
        grid.add_row(
            title,
            f"{row['test_acc']:.3f}",
            "–" if row["linear_acc"] is None else f"{row['linear_acc']:.3f}",
            f"{row['seconds']:.0f}",
        )
    gain = result["transfer"]["test_acc"] - result["scratch"]["test_acc"]
    lines = [render(grid), "", f"transfer buys {gain:+.3f} over training from scratch with the same images and steps;"]
    lines.append(f"{result['seconds']:.0f} s in all. Runs: " + ", ".join(result[key]["run"] for key in titles))
    return "\n".join(lines)
