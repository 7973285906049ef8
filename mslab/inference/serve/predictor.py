"""Images as bytes -> classes, probabilities, heat maps: one request after the other, in one thread.

Uploads may contain any bytes. They are written to files with names chosen here and first loaded in worker processes;
only images that load there reach MindSpore, since some files crash its decoder.
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

STARTS = {  # first bytes of accepted formats; Pillow supports others that start external programs (EPS)
    "JPEG": (b"\xff\xd8\xff",),
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "GIF": (b"GIF87a", b"GIF89a"),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*"),
    "WebP": (b"RIFF",),
}
EMPTY = predicting.NO_ANSWER | {"error": "", "heat": None}


class Predictor:
    """The network and the only thread that uses it. `folder`: for temporary image files."""

    def __init__(self, model: predicting.Model, folder: Path) -> None:
        self.model, self.folder = model, folder
        # reused, since MindSpore compiles each new cell; a .mindir or .onnx file has no backbone for gradients
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
        """Let the running request end soon, even if an image hangs, and refuse further ones."""
        self.stopping = True
        if self.pool:
            # raised in the thread that waits for answers, which then stops the workers
            self.pool.results.put(self.stopping_error())

    def stopping_error(self) -> HTTPError:
        return HTTPError(503, "The server is stopping.", expected="a running server", fix="start mslab serve again")

    def warm_up(self) -> None:
        """Compile everything that the first request would wait for."""
        self.classify(np.zeros((1, 3, self.model.info["image_size"], self.model.info["image_size"]), np.float32), True)

    def answer(self, images: list[bytes], heat: bool) -> list[dict[str, Any]]:
        """For each image: class, probability, probabilities, error, heat (a JPEG in base64, if requested).

        Raises HTTPError if an image has too many pixels.
        """
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            files, errors = self.prepare(images, Path(folder))
            usable = [file for file, error in zip(files, errors, strict=True) if not error]
            source = sources.FolderImages(np.zeros(len(usable), np.int32), self.model.class_names, usable)
            inputs = gradcam.batches(self.model.info, source, 1)  # starts at the first next(): `usable` may be empty
            return [EMPTY | ({"error": error} if error else self.classify(next(inputs)[0], heat)) for error in errors]

    def prepare(self, images: list[bytes], folder: Path) -> tuple[list[Path], list[str]]:
        """For each image: an upright file that MindSpore decodes, and the reason if there is none, or ""."""
        files = [folder / str(index) for index in range(len(images))]
        errors = ["" if is_accepted(content) else f"unreadable: not one of {', '.join(STARTS)}" for content in images]
        accepted = [index for index, error in enumerate(errors) if not error]
        for index in accepted:
            files[index].write_bytes(images[index])
        converted = []
        for position, facts in self.ask("look", [files[index] for index in accepted]):
            index = accepted[position]
            if facts["code"] == "bomb" or facts.get("width", 0) * facts.get("height", 0) > PIXELS:
                raise HTTPError(
                    413,
                    f"Image {index + 1} of {len(images)} has more than {PIXELS:,} pixels.",
                    expected=f"images of at most {PIXELS:,} pixels",
                    fix=f"make it smaller; the network uses {self.model.info['image_size']} x "
                    f"{self.model.info['image_size']} pixels",
                )
            if facts["code"]:
                errors[index] = predicting.problem(facts)
            elif facts["format"] not in FORMATS or facts["orientation"] != 1:
                converted.append(index)
        for position, reply in self.ask("convert", [files[index] for index in converted]):
            index = converted[position]
            if "copy" in reply:
                files[index] = Path(reply["copy"])
            else:
                errors[index] = predicting.problem(reply)
        return files, errors

    def ask(self, request: str, files: list[Path]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Answers of worker processes: (position of the file, answer), in any order."""
        self.pool = Pool(request, [str(file) for file in files])
        if self.stopping:
            raise self.stopping_error()
        return self.pool.answers()

    def classify(self, x: np.ndarray, heat: bool) -> dict[str, Any]:
        """The answer for one preprocessed image, normalised float32 (1, 3, S, S)."""
        logits = self.model.logits(x)[0]
        if not np.isfinite(logits).all():  # JSON cannot represent it
            return {"error": "the network's answer is not finite: its weights are unusable"}
        row = predicting.answer(logits, self.model.class_names)
        if not heat or self.heat_map is None:
            return row
        best_class = ms.Tensor(np.array([logits.argmax()], np.int32))
        values = self.heat_map(ms.Tensor(x), best_class).asnumpy()[0]  # (h, w)
        picture = gradcam.overlay(gradcam.as_pixels(self.model.info, x)[0], values / max(values.max(), 1e-12))
        return row | {"heat": gradcam.data_uri(picture).partition(",")[2]}


def is_accepted(content: bytes) -> bool:
    """Whether the first bytes are those of an accepted format."""
    if content.startswith(b"RIFF"):
        return content[8:12] == b"WEBP"
    return any(content.startswith(start) for starts in STARTS.values() for start in starts)
