"""Images as bytes -> classes, probabilities, heat maps: one request after the other, in one thread.

What arrives may be anything. It is written to files under names of our own and loaded in worker processes first; only
what has passed there comes to MindSpore, whose decoder some files would kill.
"""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np

from mslab.check.pool import Pool
from mslab.check.worker import FORMATS
from mslab.data import sources
from mslab.evaluation import gradcam
from mslab.inference import predicting
from mslab.inference.serve.limits import PIXELS, HTTPError

STARTS = {  # how files begin that are opened at all: Pillow knows formats that start other programs (EPS)
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*"),
    "WebP": (b"RIFF",),
}
EMPTY = predicting.NO_ANSWER | {"error": "", "heat": None}


class Predictor:
    """The network and the one thread that asks it. `folder`: where images lie while they are looked at."""

    def __init__(self, model: predicting.Model, folder: Path) -> None:
        self.model, self.folder = model, folder
        # kept, since MindSpore compiles each new cell anew; a .mindir or .onnx file has no backbone to take a slope at
        self.heat_map = gradcam.HeatMap(model.loaded.network).set_train(False) if model.loaded else None
        self.thread = ThreadPoolExecutor(1, "images")
        self.pool: Pool | None = None
        self.stopping = False

    def __enter__(self) -> "Predictor":
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop()
        self.thread.shutdown()

    def stop(self) -> None:
        """Let the request at hand end soon, even where an image hangs, and no other begin."""
        self.stopping = True
        if self.pool:
            self.pool.results.put(self.goodbye())  # raised where its answers are waited for, which ends the workers

    def goodbye(self) -> HTTPError:
        return HTTPError(
            503, "The server is stopping.", expected="a server that goes on", fix="start mslab serve again"
        )

    def warm_up(self) -> None:
        """Compile what the first request would wait for."""
        self.look_at(np.zeros((1, 3, self.model.info["image_size"], self.model.info["image_size"]), np.float32), True)

    def answer(self, images: list[bytes], heat: bool) -> list[dict[str, Any]]:
        """For each image: class, probability, probabilities, error, heat (a JPEG in base64, where asked for).

        Raises HTTPError where one has too many pixels.
        """
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            files, errors = self.prepared(images, Path(folder))
            good = [file for file, error in zip(files, errors, strict=True) if not error]
            source = sources.FolderImages(np.zeros(len(good), np.int32), self.model.class_names, good)
            seen = gradcam.batches(self.model.info, source, 1)  # begins with the first next(): `good` may be empty
            return [EMPTY | ({"error": error} if error else self.look_at(next(seen)[0], heat)) for error in errors]

    def prepared(self, images: list[bytes], folder: Path) -> tuple[list[Path], list[str]]:
        """A file of each image that MindSpore decodes, upright, and why there is none, or ""."""
        files = [folder / str(index) for index in range(len(images))]
        errors = ["" if known(content) else f"unreadable: no {', '.join(STARTS)}" for content in images]
        good = [index for index, error in enumerate(errors) if not error]
        for index in good:
            files[index].write_bytes(images[index])
        converted = []
        for position, seen in self.ask("look", [files[index] for index in good]):
            index = good[position]
            if seen["code"] == "bomb" or seen.get("width", 0) * seen.get("height", 0) > PIXELS:
                raise HTTPError(
                    413,
                    f"Image {index + 1} of {len(images)} has more than {PIXELS:,} pixels.",
                    expected=f"images of at most {PIXELS:,} pixels",
                    fix=f"make it smaller; the network looks at {self.model.info['image_size']} x "
                    f"{self.model.info['image_size']}",
                )
            if seen["code"]:
                errors[index] = predicting.problem(seen)
            elif seen["format"] not in FORMATS or seen["orientation"] != 1:
                converted.append(index)
        for position, made in self.ask("convert", [files[index] for index in converted]):
            index = converted[position]
            if "copy" in made:
                files[index] = Path(made["copy"])
            else:
                errors[index] = predicting.problem(made)
        return files, errors

    def ask(self, request: str, files: list[Path]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Answers of worker processes: (position of the file, answer), in no order."""
        self.pool = Pool(request, [str(file) for file in files])
        if self.stopping:
            raise self.goodbye()
        return self.pool.answers()

    def look_at(self, x: np.ndarray, heat: bool) -> dict[str, Any]:
        """The answer for one image as the network takes it, normalised float32 (1, 3, S, S)."""
        logits = self.model.logits(x)[0]
        if not np.isfinite(logits).all():  # JSON has no word for it
            return {"error": "the network's answer is not finite: its weights are of no use"}
        row = predicting.answer(logits, self.model.class_names)
        if not heat or self.heat_map is None:
            return row
        chosen = ms.Tensor(np.array([logits.argmax()], np.int32))
        warm = self.heat_map(ms.Tensor(x), chosen).asnumpy()[0]  # (h, w)
        picture = gradcam.overlay(gradcam.as_pixels(self.model.info, x)[0], warm / max(warm.max(), 1e-12))
        return row | {"heat": gradcam.data_uri(picture).partition(",")[2]}


def known(content: bytes) -> bool:
    """Whether it begins like an image that may be opened."""
    if content.startswith(b"RIFF"):
        return content[8:12] == b"WEBP"
    return any(content.startswith(start) for starts in STARTS.values() for start in starts)
