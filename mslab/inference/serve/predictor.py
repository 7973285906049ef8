"""Images as bytes -> classes, probabilities, heat maps: the requests take turns, image by image.

Uploads may contain any bytes. They are written to files with names chosen here and decoded in worker processes, in
limited time and memory. Only the pixels come back: no upload reaches MindSpore's decoder, which some files crash.
"""

import asyncio
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mslab.check.formats import name_of
from mslab.check.images import too_small
from mslab.check.pool import Worker, cores
from mslab.config.tasks import CLASSIFY
from mslab.data import augment
from mslab.evaluation import gradcam, measuring
from mslab.inference import predicting
from mslab.inference.serve.limits import DECODING_SECONDS, IMAGE_SECONDS, PIXELS, HTTPError
from mslab.inference.serve.together import MOST, Together

# formats, as formats.name_of calls them; Pillow supports others that start external programs (EPS)
ACCEPTED = {"JPEG": "JPEG", "PNG": "PNG", "GIF": "GIF", "BMP": "BMP", "TIFF": "TIFF", "WEBP": "WebP", "AVIF": "AVIF"}
ACCEPTED |= {"HEIC": "HEIC"}
EMPTY = predicting.NO_ANSWER | {"error": "", "heat": None}
DECODERS = max(2, min(4, cores()))  # images decoded at a time: a slow one must not stop the others


class NoAnswer(Exception):
    """An image without an answer; its text is the reason."""


class Predictor:
    """The network, the threads that use it, and the processes that decode. `folder`: for temporary files.

    onnxruntime has several threads, whose images it computes together; other engines have one.
    """

    empty: dict[str, Any] = EMPTY  # the answer about an image without one
    picture = "heat"  # what a request has to ask for

    def __init__(self, model: predicting.Model, folder: Path) -> None:
        together = model.runner.engine.name == "onnxruntime"
        if together:
            model = replace(model, runner=replace(model.runner, forward=Together(model.runner.forward)))
        self.model, self.folder = model, folder
        size, mean, std, self.resize, mode = (model.info[key] for key in measuring.PREPROCESSING)
        self.resize = self.resize or size
        transforms = augment.eval_transforms(size, mean, std, self.resize, mode)
        self.transforms = transforms[1:]  # without the first, which decodes
        self.prepare(MOST if together else 1)

    def prepare(self, threads: int) -> None:
        """Make what requests share: threads for the network, and those and the processes that decode."""
        self.threads = ThreadPoolExecutor(threads, "images")
        self.decoders = ThreadPoolExecutor(DECODERS, "decoding")
        self.transforming, self.changing = threading.Lock(), threading.Lock()
        self.idle: list[Worker] = []
        self.busy: dict[Worker, Any] = {}  # and the images of the request that each decodes
        self.stopping = False

    def __enter__(self) -> "Predictor":
        self.idle.append(Worker())  # before the first request, which would wait for it
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop()
        self.threads.shutdown()
        self.decoders.shutdown()
        for worker in self.idle:
            worker.stop()

    def stop(self) -> None:
        """Let the running requests end soon, even if an image hangs, and refuse further ones."""
        self.stopping = True
        self.kill()

    def kill(self, images: list[bytes] | None = None) -> None:
        """End the processes that decode, those of one request or all."""
        with self.changing:
            for worker, own in self.busy.items():
                if images is None or own is images:
                    worker.process.kill()

    def about(self) -> dict[str, Any]:
        """Facts about the network, for the page and for scripts."""
        return {
            "task": CLASSIFY,
            "class_names": self.model.class_names,
            "image_size": self.model.info["image_size"],
            "heat_maps": self.model.heat_map is not None,
        }

    def warm_up(self) -> None:
        """Compile what the first request would wait for; heat maps wait for a request that asks for one."""
        size = self.model.info["image_size"]
        self.model.runner.warm_up(np.zeros((1, 3, size, size), np.float32))

    async def answers(self, images: list[bytes], heat: bool) -> list[dict[str, Any]]:
        """For each image: class, probability, probabilities, error, heat (a JPEG in base64, if requested).

        `heat`: of a network of a task, whether the picture with what was found is requested. Raises HTTPError if an
        image has too many pixels. One image of a request at a time waits for being decoded, so
        that a request with many does not stop one with few.
        """
        loop, turn, left = asyncio.get_running_loop(), asyncio.Lock(), DECODING_SECONDS

        def decode(position: int) -> Any:
            nonlocal left
            start = time.monotonic()
            try:
                return self.network_input(images, position, left)
            except OSError as error:
                raise HTTPError(
                    503,
                    f"The server cannot decode images now: {error.strerror}.",
                    expected="space for temporary files, and the right to start a process",
                    fix="free space, or stop other programs; then try again",
                ) from None
            finally:
                left -= time.monotonic() - start

        async def one(position: int) -> dict[str, Any]:
            async with turn:
                try:
                    x = await loop.run_in_executor(self.decoders, decode, position)
                except NoAnswer as reason:
                    return self.empty | {"error": str(reason)}
            return self.empty | await loop.run_in_executor(self.threads, self.classify, x, heat)

        tasks = [asyncio.ensure_future(one(position)) for position in range(len(images))]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            self.kill(images)

    def network_input(self, images: list[bytes], position: int, left: float) -> Any:
        """One of the images, decoded and preprocessed as in evaluation: normalised float32 (1, 3, S, S).

        Raises NoAnswer, and HTTPError if it has too many pixels. `left`: seconds for decoding.
        """
        if (kind := name_of(images[position])) not in ACCEPTED:
            found = f", but {kind}" if kind else ""
            raise NoAnswer(f"unreadable: not one of {', '.join(ACCEPTED.values())}{found}")
        if left <= 0:
            raise NoAnswer(f"timeout: loading the images of this request took more than {DECODING_SECONDS:g} s")
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            file = Path(folder, "image")
            file.write_bytes(images[position])
            facts = self.ask(images, file, min(left, IMAGE_SECONDS))
            width, height = facts.get("width", 1), facts.get("height", 1)
            if facts["code"] == "bomb" or width * height > PIXELS:
                raise HTTPError(
                    413,
                    f"Image {position + 1} of {len(images)} has more than {PIXELS:,} pixels.",
                    expected=f"images of at most {PIXELS:,} pixels",
                    fix=f"make it smaller; the network uses {self.model.info['image_size']} x "
                    f"{self.model.info['image_size']} pixels",
                )
            if facts["code"]:
                raise NoAnswer(f"{facts['code']}: {facts['problem']}")
            if problem := too_small(width, height, self.resize):
                raise NoAnswer(f"small: {problem}")
            with self.transforming:  # one at a time bounds the memory
                pixels = np.fromfile(facts["copy"], np.uint8)[-3 * width * height :].reshape(height, width, 3)
                return self.prepared(pixels)

    def prepared(self, pixels: np.ndarray) -> Any:
        """What classify() takes of an image, uint8 (H, W, 3): here normalised float32 (1, 3, S, S)."""
        for transform in self.transforms:
            pixels = transform(pixels)
        return pixels[None]

    def ask(self, images: list[bytes], file: Path, seconds: float) -> dict[str, Any]:
        """A worker's facts about the image, which it has decoded, or the reason why not. `images`: of the request."""
        worker = self.take()
        with self.changing:
            self.busy[worker] = images
            if self.stopping:
                worker.process.kill()
        answers = worker.ask("decode", [str(file)], seconds)
        with self.changing:
            del self.busy[worker]
        if answers is None:
            facts = worker.failure()
            worker.stop()
        else:
            (facts,) = answers
            self.idle.append(worker)
        if self.stopping:
            raise HTTPError(503, "The server is stopping.", expected="a running server", fix="start mslab serve again")
        return facts

    def take(self) -> Worker:
        """An idle worker that is alive, or a new one."""
        with self.changing:
            while self.idle:
                worker = self.idle.pop()
                if worker.process.poll() is None:
                    return worker
                worker.stop()
        return Worker()

    def classify(self, x: Any, heat: bool) -> dict[str, Any]:
        """The answer for one preprocessed image, normalised float32 (1, 3, S, S)."""
        logits = self.model.logits(x)[0]
        if not np.isfinite(logits).all():  # JSON cannot represent it
            return {"error": "the network's answer is not finite: its weights are unusable"}
        row = predicting.answer(logits, self.model.class_names, self.model.temperature)
        if not heat or not self.model.heat_map:  # a .mindir or .onnx file has no backbone of its own
            return row
        values = gradcam.heat_maps(self.model, x, [logits.argmax()])[0]  # (h, w)
        picture = gradcam.overlay(gradcam.as_pixels(self.model.info, x)[0], values)
        return row | {"heat": gradcam.data_uri(picture).partition(",")[2]}
