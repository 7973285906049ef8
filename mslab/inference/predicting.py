"""Predict the classes of images with a run, a checkpoint, a MINDIR or an ONNX file; all give the same results."""

import codecs
import csv
import glob
import io
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mslab import checkpoint
from mslab.check.formats import DECODED, HEIF
from mslab.check.images import too_small
from mslab.check.pool import ask
from mslab.check.records import printable
from mslab.check.scan import is_image_file
from mslab.checkpoint import NO_CHOICE, Checkpoint, Choice
from mslab.config import paths
from mslab.data import sources
from mslab.errors import DatasetError, RunError
from mslab.escaping import command, escape_control
from mslab.evaluation import engines, gradcam, metrics, models
from mslab.evaluation.models import Model
from mslab.files import FormatError, for_people, json_text, kind_of, write_text
from mslab.files import decode as decode_text
from mslab.inference import graphs
from mslab.runs import weights as weight_files
from mslab.runtime import devices, streams
from mslab.runtime.tables import cell, empty_table, fold, one_line, plural, render

log = logging.getLogger("mslab")
IMAGES = "an image, a folder of images or a pattern"
NO_ANSWER = {"class": None, "probability": None, "probabilities": None}
END_OF_NAME = "\r?\n|\0"  # in a list
CHUNK = 512  # files to check, then to predict, at a time


def open_model(
    source: str | Path | Checkpoint,
    device: str = "auto",
    batch: int | None = None,
    choice: Choice = NO_CHOICE,
    engine: str = "auto",
    precision: str = "fp32",
) -> Model:
    """The network of a run, a checkpoint or an exported file, ready for prediction. Starts the device.

    `batch`: images per step; default by image size. `choice`: about a checkpoint of others. `engine`, `precision`: as
    engines.choose takes them; an exported file has its own engine. Raises CheckpointError, RunError, ConfigError or
    DeviceError.
    """
    path = source.path if isinstance(source, Checkpoint) else weight_files.best_file(source)
    engines.refuse(engine, precision, device)
    exported = graphs.is_exported(path)
    if exported:
        graphs.refuse(choice, path)
        graphs.refuse_engine(engine, precision, path)
    chosen_device = devices.start(engines.device_for(engine, device), "graph", seed=0)
    if exported:
        forward, info = graphs.open_exported(path)
        graphs.refuse_task(info, path)
        batch = batch or engines.batch_of(info["image_size"])
        runner = engines.Runner(graphs.engine_of(path), batch, lambda x: {"logits": forward(x)})
        return Model(path, info["class_names"], info, runner)
    weights = source if isinstance(source, Checkpoint) else path
    return models.open_weights(weights, chosen_device, batch, choice, engine, precision)


def read_weights(source: str | Path, choice: Choice = NO_CHOICE) -> Checkpoint | None:
    """The weights of a run or a file, which have their task; None for an exported graph, which classifies."""
    path = weight_files.best_file(source)
    if graphs.is_exported(path):
        return None
    return checkpoint.read(path, choice)


def refuse_swapped(source: str, images: Sequence[str]) -> None:
    """Raise RunError if an image was named first, and a run or a file of weights after it."""
    if paths.look(Path(source)).kind not in ("image", "images", "data"):
        return
    kinds = ("run", "weights")
    if run := next(
        (text for text in images if paths.look(Path(text)).kind in kinds or text.startswith("latest")), None
    ):
        others = [Path(text) for text in images if text != run]
        raise RunError(
            f"{source} is {paths.look(Path(source)).text}: the network comes first, its images after it.",
            expected="mslab predict RUN IMAGE ...",
            fix=command("predict", Path(run), Path(source), *others),
        )


def refuse_missing(files: Sequence[Path], noun: str = "image") -> None:
    """Raise DatasetError if none of the files that were named is there: before the network is loaded."""
    if not any(kind_of(file, links=True) for file in files):
        wanted = paths.Wanted(noun, IMAGES, lambda path: paths.look(path).kind in ("image", "images", "data"))
        raise paths.missing(files[0], DatasetError, wanted, "correct it")


def expand(arguments: Iterable[str], stdin: Iterable[str] = ()) -> list[Path]:
    """Expand arguments to files: a folder to its images by name, a pattern to its matches, "-" to the lines of `stdin`.

    A missing file stays in the list: predict reports an error for it. Raises DatasetError if a folder or a pattern has
    no image, or if the list is empty.
    """
    files: list[Path] = []
    for argument in arguments:
        if argument == "-":
            files += [unquoted(line.rstrip("\r\n")) for line in stdin if line.strip()]
            continue
        path = paths.path_of(argument, DatasetError, IMAGES, lambda: "the path of an image or of a folder")
        kind = kind_of(path, links=True)
        if kind == "a folder":
            matches = images_in(path)
        elif kind or not glob.has_magic(argument):
            matches = [path]
        else:
            names = glob.glob(argument, recursive=True)  # noqa: PTH207, Path.glob takes no absolute pattern
            matches = [Path(name) for name in sorted(names) if kind_of(Path(name), links=True) == "a file"]
        if not matches:
            refuse_missing([folder for folder in path.parents if not glob.has_magic(str(folder))][:1], "folder")
            raise DatasetError(
                f"{argument} has no images.",
                expected="JPEG, PNG, BMP or TIFF files, under any name",
                fix="pass files, folders of images, or patterns such as 'photos/*.jpg'",
            )
        files += matches
    if not files:
        raise DatasetError(
            "The list of images is empty.",
            expected="files, folders, patterns, or - with one file per line",
            fix="pass at least one",
        )
    return files


def unquoted(name: str) -> Path:
    """The path of a line, without the quotation marks that Explorer's "Copy as path" and others put around it."""
    path, inner = Path(name), Path(name.strip()[1:-1])
    is_quoted = re.fullmatch(r"\s*([\"']).+\1\s*", name)
    return inner if is_quoted and kind_of(inner, links=True) and not kind_of(path, links=True) else path


def images_in(folder: Path) -> list[Path]:
    """The images in a folder at any level, by name, of formats that nothing here reads, too; the rest is mentioned."""
    present = [p for p in sorted(folder.rglob("*")) if kind_of(p) == "a link" or kind_of(p, links=True) == "a file"]
    visible = [p for p in present if not any(part.startswith(".") for part in p.relative_to(folder).parts)]
    matches = [p for p in visible if is_image_file(p)]
    if others := sorted(set(visible) - set(matches)):
        names = ", ".join(printable(path.name) for path in others[:5]) + ", …" * (len(others) > 5)
        count = "1 file is no image" if len(others) == 1 else f"{len(others)} files are no images"
        log.info(escape_control(f"{printable(str(folder))}: {count}: {names}", safe=""))
    return matches


def listed(stream: Any) -> list[str]:
    """The names in a list of files, one a line or, from `find -print0`, before a zero. Raises DatasetError."""
    content = stream.buffer.read() if hasattr(stream, "buffer") else os.fsencode(stream.read())
    names = re.split(END_OF_NAME, os.fsdecode(content))
    strange = [name for name in names if any("\udc80" <= c <= "\udcff" for c in name)]  # its bytes are not UTF-8
    lost = not all(kind_of(Path(name), links=True) for name in strange)
    if lost or content.startswith(codecs.BOM_UTF8) or b"\0" in content[:2]:
        try:
            return re.split(END_OF_NAME, decode_text(content))  # as an editor has saved it
        except FormatError as error:
            raise DatasetError(
                f"The list of images cannot be read: {error}.",
                expected="one name a line",
                fix="save the list as UTF-8; in Windows' Notepad, choose that below the file's name",
            ) from None
    return names


def predict(model: Model, files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Yield for each file in order: file, class, probability, probabilities {class: probability}, error.

    An unreadable image has an error and no class, and prediction continues with the rest. Each image is first loaded in
    a worker process, since some files crash MindSpore's decoder.
    """
    for start in range(0, len(files), CHUNK):
        chunk = files[start : start + CHUNK]
        errors = problems(chunk, model.info["resize_size"])
        readable = [index for index in range(len(chunk)) if not errors[index]]
        rows = answers(model, decode(model, [chunk[index] for index in readable]))
        for index, path in enumerate(chunk):
            row = {"file": printable(str(path))} | NO_ANSWER | {"error": errors[index]}
            yield row if errors[index] else row | next(rows)


def problems(files: Sequence[Path], resize: int = 0) -> dict[int, str]:
    """Why each file cannot be used, or "", by its index; a worker process has loaded it."""
    errors = {index: problem(facts, resize) for index, facts in ask("look", files)}
    lost = [index for index in errors if errors[index] and not kind_of(files[index], links=True)]
    return errors | {index: f"missing: {paths.reason(files[index])[0] or 'there is no such file'}" for index in lost}


def problem(facts: Mapping[str, Any], resize: int = 0) -> str:
    """Reason why an image cannot be used, from a worker's facts about it, or "".

    `resize`: pixels, to which its shorter side will be resized.
    """
    if facts["code"]:
        return f"{facts['code']}: {facts['problem']}"
    if facts["format"] not in DECODED:
        name = "HEIC" if facts["format"] == HEIF else facts["format"]
        return f"wrong-format: {name}, which MindSpore does not decode; save it as PNG or JPEG"
    reason = too_small(facts["width"], facts["height"], resize)
    return f"small: {reason}" if reason else ""


def decode(model: Model, files: list[Path]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of the files, in order. All of them must be decodable."""
    images = sources.FolderImages(np.zeros(len(files), np.int32), model.class_names, files)
    return gradcam.batches(model.info, images, model.runner.batch) if files else iter(())


def answers(model: Model, batches: Iterable[tuple[np.ndarray, Any]]) -> Iterator[dict[str, Any]]:
    """Yield class, probability and probabilities of each image. batches: (float32 (n, 3, S, S), ignored)."""
    for x, _ in batches:
        for logits in model.logits(x):
            yield answer(logits, model.class_names, model.temperature)


def answer(logits: np.ndarray, class_names: Sequence[str], temperature: float = 1.0) -> dict[str, Any]:
    """The most probable class, its probability, and those of all classes. logits (C,)"""
    values = metrics.probabilities(logits[None], temperature)[0]
    best = int(values.argmax())
    by_class = dict(zip(class_names, values.tolist(), strict=True))
    return {"class": class_names[best], "probability": float(values[best]), "probabilities": by_class}


def json_lines(rows: Iterable[Mapping[str, Any]], ascii: bool = False) -> Iterator[str]:
    """One JSON object per line."""
    for row in rows:
        yield json.dumps(row, ensure_ascii=ascii) + "\n"


def csv_lines(rows: Iterable[Mapping[str, Any]], class_names: Sequence[str]) -> Iterator[str]:
    """file, class, probability, error, then one column per class, p(CLASS): its probability."""
    yield csv_line(["file", "class", "probability", "error", *(f"p({name})" for name in class_names)])
    for row in rows:
        values = [f"{value:.6f}" for value in (row["probabilities"] or {}).values()] or [""] * len(class_names)
        probability = "" if row["probability"] is None else f"{row['probability']:.6f}"
        yield csv_line([row["file"], row["class"] or "", probability, row["error"], *values])


def csv_line(values: Sequence[str | float]) -> str:
    """A line of CSV without formulas: a text that a spreadsheet would execute gets an apostrophe in front."""
    texts = [f"{value:.6g}" if isinstance(value, float) else str(value) for value in values]
    starts = [value[:1] if isinstance(value, str) else "" for value in values]  # a number may be below zero
    safe = [f"'{x}" if a in ("=", "+", "-", "@", "\t", "\r") else x for x, a in zip(texts, starts, strict=True)]
    text = io.StringIO()
    csv.writer(text).writerow([v.encode("utf-8", "backslashreplace").decode() for v in safe])  # quotes \r and \n
    return text.getvalue().removesuffix("\r\n") + "\n"


def table(rows: Sequence[Mapping[str, Any]], most: int = 200) -> str:
    """A table of file, class, probability and second guess, with the errors below it."""
    text_columns = ("file", "class", "second guess")
    columns = ("file", "class", "probability", "second guess")
    grid = empty_table(None, columns, text_columns, complete="--csv FILE")
    readable, unreadable = [row for row in rows if not row["error"]], [row for row in rows if row["error"]]
    for row in readable[:most]:
        second = sorted(row["probabilities"].items(), key=lambda item: -item[1])[1]
        grid.add_row(
            cell(row["file"]), cell(row["class"]), f"{row['probability']:.3f}", cell(f"{second[0]} {second[1]:.3f}")
        )
    lines = [render(grid)] if readable else []
    lines += (
        [f"… and {len(readable) - most} more; --csv FILE or --jsonl FILE writes all"] if len(readable) > most else []
    )
    errors = (f"cannot be read  {one_line(row['file'])}  ({one_line(row['error'], 200)})" for row in unreadable[:most])
    lines += map(fold, errors)
    counts = plural(len(readable), "image") + (f", {len(unreadable)} unreadable" if unreadable else "")
    return "\n".join([*lines, fold(counts)])


def write(rows: Sequence[Mapping[str, Any]], class_names: Sequence[str], targets: Mapping[str, str | None]) -> None:
    """Write rows to each target. `targets`: json, jsonl, csv -> a file, "-" for standard output, or None."""
    write_texts(rows, lambda: csv_lines(rows, class_names), targets)


def write_texts(
    rows: Sequence[Mapping[str, Any]], lines: Callable[[], Iterable[str]], targets: Mapping[str, str | None]
) -> None:
    """The same for rows of any kind. `lines`: of the CSV."""
    texts: dict[str, Callable[[bool], Iterable[str]]] = {
        "json": lambda ascii: [json_text(list(rows), ascii)],
        "jsonl": lambda ascii: json_lines(rows, ascii),
        "csv": lambda ascii: lines(),
    }
    for kind, target in targets.items():
        if target == "-":
            sys.stdout.writelines(texts[kind](not streams.takes_unicode(sys.stdout)))
        elif target:
            text = "".join(texts[kind](False))
            write_text(Path(target), for_people(text) if kind == "csv" else text)
