"""Classes of single images: from a run, a checkpoint, a MINDIR or an ONNX file, the same answer."""

import csv
import glob
import io
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mslab.check.pool import ask
from mslab.check.records import printable
from mslab.check.worker import FORMATS
from mslab.checkpoint import write_text
from mslab.data import sources
from mslab.errors import DatasetError
from mslab.evaluation import gradcam, measuring
from mslab.inference import graphs
from mslab.runtime import devices
from mslab.runtime.tables import cell, empty_table, render, shown

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".gif", ".webp"}  # looked for in folders
NO_ANSWER = {"class": None, "probability": None, "probabilities": None}
CHUNK = 512  # files that are looked at, then predicted


@dataclass
class Model:
    """A network in any of its forms. `loaded` is the network itself, None where the file holds a graph only."""

    path: Path
    class_names: list[str]
    info: dict[str, Any]  # image_size, resize_size, mean, std
    forward: Callable[[np.ndarray], np.ndarray]  # normalised float32 (N, 3, S, S) -> logits float32 (N, C)
    batch: int  # images that forward gets at once, filled up
    loaded: measuring.Loaded | None

    def logits(self, x: np.ndarray) -> np.ndarray:
        """Normalised float32 (n, 3, S, S), n up to `batch` -> float32 (n, C)."""
        return self.forward(measuring.pad_batch(x, self.batch))[: len(x)]


def open_model(source: str | Path, device: str = "auto", batch: int | None = None) -> Model:
    """The network of a run, a checkpoint or an exported file, ready to be asked. Starts the device.

    `batch`: images a step; else what suits the image size. Raises CheckpointError, RunError or DeviceError.
    """
    path = measuring.best_file(source)
    taken = devices.start(device, "graph", seed=0)
    if graphs.is_exported(path):
        forward, info = graphs.open_exported(path)
        return Model(path, info["class_names"], info, forward, batch or gradcam.batch_of(info["image_size"]), None)
    return of_network(measuring.load_network(source), taken, batch)


def of_network(loaded: measuring.Loaded, device: str, batch: int | None = None) -> Model:
    """The model of a network that is loaded. `device`: what devices.start took."""
    batch = batch or gradcam.batch_of(loaded.info["image_size"])
    loaded.fold(batch, device)
    forward = graphs.forward_of(loaded.network)
    return Model(loaded.path, loaded.class_names, loaded.info, forward, batch, loaded)


def expand(arguments: Iterable[str], stdin: Iterable[str] = ()) -> list[Path]:
    """Files, of folders all images in order of their names, of patterns what matches; "-" is the lines of `stdin`.

    A file that is not there stays in the list: it is answered with an error of its own. Raises DatasetError where a
    folder or a pattern has no image, or there is nothing at all.
    """
    found: list[Path] = []
    for argument in arguments:
        if argument == "-":
            found += [Path(line.rstrip("\r\n")) for line in stdin if line.strip()]
            continue
        path = Path(argument)
        if path.is_dir():
            more = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in SUFFIXES and p.is_file()]
            more = [p for p in more if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        elif path.exists() or not glob.has_magic(argument):
            more = [path]
        else:
            names = glob.glob(argument, recursive=True)  # noqa: PTH207, Path.glob takes no absolute pattern
            more = [Path(name) for name in sorted(names) if Path(name).is_file()]
        if not more:
            raise DatasetError(
                f"{argument} has no image.",
                expected=f"files that end in {', '.join(sorted(SUFFIXES))}",
                fix="name files, folders of images, or patterns such as 'photos/*.jpg'",
            )
        found += more
    if not found:
        raise DatasetError(
            "No image was named.", expected="files, folders, patterns, or - with one file a line", fix="name some"
        )
    return found


def predict(model: Model, files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """For each file in order: file, class, probability, probabilities {class: share}, error.

    An image that cannot be read has an error and no class, and the rest goes on: each is loaded in a process of its
    own first, since some files kill MindSpore's decoder.
    """
    for start in range(0, len(files), CHUNK):
        chunk = files[start : start + CHUNK]
        errors = {index: problem(seen) for index, seen in ask("look", chunk)}
        good = [index for index in range(len(chunk)) if not errors[index]]
        rows = answers(model, decoded(model, [chunk[index] for index in good]))
        for index, path in enumerate(chunk):
            row = {"file": printable(str(path))} | NO_ANSWER | {"error": errors[index]}
            yield row if errors[index] else row | next(rows)


def problem(seen: Mapping[str, Any]) -> str:
    """Why an image that a worker looked at cannot be used, or ""."""
    if seen["code"]:
        return f"{seen['code']}: {seen['said']}"
    if seen["format"] not in FORMATS:
        return f"wrong-format: {seen['format']}, which MindSpore does not decode; save it as PNG or JPEG"
    return ""


def decoded(model: Model, files: list[Path]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of files that can be decoded, in order."""
    images = sources.FolderImages(np.zeros(len(files), np.int32), model.class_names, files)
    return gradcam.batches(model.info, images, model.batch) if files else iter(())


def answers(model: Model, batches: Iterable[tuple[np.ndarray, Any]]) -> Iterator[dict[str, Any]]:
    """What the model says of each image of these batches, as predict puts it. batches: float32 (n, 3, S, S), any."""
    for x, _ in batches:
        for logits in model.logits(x):
            yield answer(logits, model.class_names)


def answer(logits: np.ndarray, class_names: Sequence[str]) -> dict[str, Any]:
    """class, its probability, and every class's. logits (C,)"""
    shares = gradcam.probabilities(logits[None])[0]
    first = int(shares.argmax())
    every = {name: float(share) for name, share in zip(class_names, shares, strict=True)}
    return {"class": class_names[first], "probability": float(shares[first]), "probabilities": every}


def json_lines(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """One JSON object a line."""
    for row in rows:
        yield json.dumps(row, ensure_ascii=False) + "\n"


def csv_lines(rows: Iterable[Mapping[str, Any]], class_names: Sequence[str]) -> Iterator[str]:
    """file, class, probability, error, then a column a class, named p(CLASS): its probability."""
    yield csv_line(["file", "class", "probability", "error", *(f"p({name})" for name in class_names)])
    for row in rows:
        shares = [f"{share:.6f}" for share in (row["probabilities"] or {}).values()] or [""] * len(class_names)
        probability = "" if row["probability"] is None else f"{row['probability']:.6f}"
        yield csv_line([row["file"], row["class"] or "", probability, row["error"], *shares])


def csv_line(cells: Sequence[str]) -> str:
    """A line of CSV in which no cell is a formula to a spreadsheet: those that would be begin with an apostrophe."""
    safe = [f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell for cell in cells]
    text = io.StringIO()
    csv.writer(text).writerow([cell.encode("utf-8", "backslashreplace").decode() for cell in safe])  # quotes \r and \n
    return text.getvalue().removesuffix("\r\n") + "\n"


def table(rows: Sequence[Mapping[str, Any]], most: int = 200) -> str:
    """File, class, probability, second guess; errors below."""
    words = ("file", "class", "second guess")
    grid = empty_table(None, ("file", "class", "probability", "second guess"), left=words, overflow="fold")
    good, bad = [row for row in rows if not row["error"]], [row for row in rows if row["error"]]
    for row in good[:most]:
        second = sorted(row["probabilities"].items(), key=lambda item: -item[1])[1]
        grid.add_row(
            cell(row["file"]), cell(row["class"]), f"{row['probability']:.3f}", cell(f"{second[0]} {second[1]:.3f}")
        )
    lines = [render(grid)] if good else []
    lines += [f"… and {len(good) - most} more; --csv FILE or --jsonl FILE has all"] if len(good) > most else []
    lines += [f"cannot be read  {shown(row['file'])}  ({shown(row['error'], 200)})" for row in bad[:most]]
    counts = f"{len(good)} images" + (f", {len(bad)} that cannot be read" if bad else "")
    return "\n".join([*lines, counts])


def write(rows: Sequence[Mapping[str, Any]], class_names: Sequence[str], targets: Mapping[str, str | None]) -> None:
    """Write rows. `targets`: json, jsonl, csv -> a file, "-" for standard output, or None."""
    texts: dict[str, Callable[[], Iterable[str]]] = {
        "json": lambda: [json.dumps(list(rows), indent=2, ensure_ascii=False), "\n"],
        "jsonl": lambda: json_lines(rows),
        "csv": lambda: csv_lines(rows, class_names),
    }
    for kind, target in targets.items():
        if target == "-":
            sys.stdout.writelines(texts[kind]())
        elif target:
            write_text(Path(target), "".join(texts[kind]()))
