"""Load on mslab serve: several clients, each with an image of its own, ask one after the other for a while.

Every answer is compared with what `mslab predict` says about this client's image, and with nothing but that: an answer
that another client should have had is counted as mixed up. Clients share the cores with the server.
"""

import http.client
import io
import json
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.processes import last_error
from mslab.errors import MslabError
from mslab.runtime.tables import empty_table, render

PHOTO = (500, 375)  # pixels of each client's JPEG, as of a data set of photos
CLOSE = 1e-4  # of probabilities; those of two images are further apart
COUNTS = ("refused", "lost", "mixed_up")


def bench_serve(
    source: str | None, size: int, clients: Sequence[int], seconds: float, progress: Callable[[str], Any]
) -> list[dict[str, Any]]:
    """A row per number of clients: size, clients, engine, seconds, images_per_s, p50_ms, p95_ms, p99_ms, and how many
    requests were answered, refused (status 503), lost, mixed_up. `source`: a run or a checkpoint; else a ResNet-50 with
    random weights for images of `size`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        images = [photo(number) for number in range(max(clients))]
        network = Path(source) if source else random_network(folder, size, images)
        progress("asking mslab predict about each client's image")
        expected, facts = predicted(network, images, folder)
        rows = []
        for count in clients:
            with serving(network) as port:
                progress(f"{count} clients, {seconds:g} s")
                rows.append(facts | {"clients": count} | load(port, images[:count], expected, seconds))
    return rows


def random_network(folder: Path, size: int, images: Sequence[bytes]) -> Path:
    """A ResNet-50 with random weights, whose head tells the images apart: no speed depends on them."""
    import mindspore as ms

    from mslab import checkpoint, model
    from mslab.config import IMAGENET
    from mslab.inference import predicting

    ms.set_seed(1)
    network = model.ResNet50(model.resnet50_backbone(), model.resnet50_head(9))
    info: dict[str, Any] = {"schema": 1, "class_names": list("abcdefghi"), "image_size": size, "resize_size": size}
    info |= {"stages": [list(row) for row in model.STAGES]} | IMAGENET
    file = folder / "random.ckpt"
    checkpoint.save(list(network.get_parameters()), file, info)
    opened = predicting.open_model(file, "cpu", 1)
    files = save(images, folder)
    features = np.stack([opened.runner(x)["features"][0] for x, _ in predicting.decode(opened, files)])
    centred = features - features.mean(axis=0)
    weight = np.random.default_rng(0).normal(size=(9, features.shape[1])) / np.linalg.norm(centred, axis=1).mean()
    weights = checkpoint.read(file)
    head = zip(sorted(weights.head), (-weight @ features.mean(axis=0), weight), strict=True)  # bias, weight
    arrays = {name: value.astype(np.float32) for name, value in head}
    checkpoint.save_arrays(weights.backbone | arrays, file, weights.info)
    return file


def save(images: Sequence[bytes], folder: Path) -> list[Path]:
    files = [folder / f"{number}.jpg" for number in range(len(images))]
    for file, image in zip(files, images, strict=True):
        file.write_bytes(image)
    return files


def photo(number: int) -> bytes:
    """A JPEG of coarse colours that differs from every other number's."""
    from PIL import Image

    coarse = np.random.default_rng(number).integers(0, 255, (6, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(coarse).resize(PHOTO, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def predicted(
    network: Path, images: Sequence[bytes], folder: Path
) -> tuple[list[dict[str, float]], dict[str, int | str]]:
    """Probabilities of each image by `mslab predict`, and facts: size, engine. Raises MslabError if two are alike."""
    from mslab.inference import predicting

    model = predicting.open_model(network, "cpu")
    expected = [row["probabilities"] for row in predicting.predict(model, save(images, folder))]
    for first in range(len(expected)):
        for second in range(first):
            if same(expected[first], expected[second], 10 * CLOSE):
                raise MslabError(
                    f"{network} gives the same probabilities for the images of two clients.",
                    expected="a network that tells images apart, so that mixed answers are noticed",
                    fix="measure another run, or leave RUN out",
                )
    return expected, {"size": model.info["image_size"], "engine": str(model.runner.engine)}


def same(answer: Mapping[str, float], other: Mapping[str, float], close: float = CLOSE) -> bool:
    return answer.keys() == other.keys() and all(abs(answer[name] - other[name]) <= close for name in answer)


@contextmanager
def serving(network: Path) -> Iterator[int]:
    """`mslab serve` in a process of its own, until the end of the block. Yields its port once it is ready."""
    command = [sys.executable, "-m", "mslab", "serve", str(network), "--port", "0", "--device", "cpu"]
    lines: list[str] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            for line in process.stderr:
                lines.append(line)
                if ready := re.match(r"ready: http://\S+:(\d+)/", line):
                    break
            else:
                raise MslabError(
                    f"mslab serve did not start: {last_error(''.join(lines))}",
                    expected="a server that starts outside this benchmark",
                    fix=" ".join(command[2:]),
                )
            drain = threading.Thread(target=process.stderr.read, daemon=True)  # else its log would fill the pipe
            drain.start()
            yield int(ready[1])
        finally:
            process.terminate()


def load(port: int, images: Sequence[bytes], expected: Sequence[Mapping[str, float]], seconds: float) -> dict[str, Any]:
    """The figures of a row: a client for each image, which sends it again and again for `seconds`."""
    times: list[float] = []
    counts = dict.fromkeys(COUNTS, 0)
    start = time.perf_counter()

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while time.perf_counter() - start < seconds:
            asked = time.perf_counter()
            try:
                connection.request("POST", "/predict", images[number])
                answer = connection.getresponse()
                content = json.loads(answer.read())
            except (OSError, http.client.HTTPException, ValueError):
                counts["lost"] += 1
                connection.close()
                continue
            if answer.status == 503:
                counts["refused"] += 1
                time.sleep(float(answer.headers["Retry-After"]))
            elif answer.status != 200 or content["images"][0]["error"]:
                counts["lost"] += 1
            else:
                times.append(time.perf_counter() - asked)
                counts["mixed_up"] += not same(content["images"][0]["probabilities"], expected[number])
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(len(images))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - start
    quantiles = np.percentile(times, (50, 95, 99)) * 1000 if times else [float("nan")] * 3
    row = {"seconds": seconds, "answered": len(times), "images_per_s": len(times) / took}
    return row | dict(zip(("p50_ms", "p95_ms", "p99_ms"), map(float, quantiles), strict=True)) | counts


def versions(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Of the engines that answered."""
    return dict(row["engine"].split()[:2] for row in rows)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line per number of clients."""
    title = f"mslab serve, images of {rows[0]['size']} pixels, {rows[0]['engine']}, {rows[0]['seconds']:g} s each"
    grid = empty_table(title, ("clients", "images/s", "p50, ms", "p95, ms", "p99, ms", "answered", *COUNTS))
    for row in rows:
        figures = [f"{row[key]:.0f}" for key in ("p50_ms", "p95_ms", "p99_ms")]
        counts = [str(row[key]) for key in ("answered", *COUNTS)]
        grid.add_row(str(row["clients"]), f"{row['images_per_s']:.1f}", *figures, *counts)
    return render(grid)
