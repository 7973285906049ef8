"""Inspect one submission inside a worker: its files, its networks and their logits.

Everything here runs after the worker has confined itself (worker.py); NumPy and MindSpore are imported only then.
"""

import hashlib
import importlib.util
import io
import json
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mslab import checkpoint
from mslab.config import tasks
from mslab.errors import MslabError, explain
from mslab.grade import contents, parentage
from mslab.tasks.layout import levels

SKETCH = 4096  # numbers of a sketch
FACTS_BYTES = 4 << 20
LIMITS = {  # of a submission, at most
    "members": 2000,  # files and folders
    "bytes": 2 << 30,  # unpacked
    "ratio": 100,  # unpacked bytes per byte of the archive
    "classes": 1000,
    "weights": 200_000_000,
    "blocks": 200,  # of the stage table; ResNet-152 has 50
    "pixels": 512,  # image_size; resize_size may be twice that
    "map_bytes": 1 << 29,  # that a task's network returns for the hidden images
    "image_bytes": 4 << 30,  # of the hidden images in the sizes that its networks ask for
}
MODEL = "model.py"  # among the networks that a rubric allows: every one that it builds
MOMENTS = 4  # a file contains at most this many numbers per weight, including an optimizer's
Ask = Callable[[str, int, int], str]  # (network, size, resize) -> the parent's line


def inspect_submission(job: Mapping[str, Any], folder: Path, ask: Ask) -> dict[str, Any]:
    """The facts of a submission, except for the active guards."""
    limits = LIMITS | job.get("limits", {})
    submission = contents.gather(Path(job["source"]), folder / "submission", limits, expected_files(job))
    files = {contents.short(name, 300): size for name, size in submission.files.items()}
    facts: dict[str, Any] = {"schema": 1, "files": files}
    facts |= {"top": contents.short(submission.top, 300), "problems": submission.problems, "notes": submission.notes}
    facts["unused"] = [contents.short(name, 300) for name in submission.unused[: contents.PROBLEMS]]
    kinds: dict[str, tuple[Any, int, Any]] = {  # section: suffix of names, bytes that are read, reader
        "configs": ((".yaml", ".yml"), contents.YAML_BYTES, contents.config),
        "json": (".json", contents.JSON_BYTES, contents.json_values),
        "histories": ("/history.csv", contents.CSV_BYTES, contents.history),
    }
    for section, (suffix, most, read) in kinds.items():
        names = [name for name in submission.files if f"/{name}".endswith(suffix)]
        facts[section] = contents.entries(submission, names, most, read)
    requested = [name for name in job.get("predictions", []) if name in submission.files]
    facts["predictions"] = contents.entries(submission, requested, contents.CSV_BYTES, contents.predictions)
    networks = SubmittedNetworks(job, limits, submission, folder, ask)
    names = [] if submission.problems else list(job["networks"])
    facts["networks"] = {name: networks.describe(name) for name in names}
    facts["relations"] = networks.relations(facts["networks"]) if names else {}
    networks.weights.clear()  # from here on one network at a time: a container of Gradescope has 768 MB
    for name in names:
        facts["networks"][name] = networks.measure(name, facts["networks"][name])
    return facts


def expected_files(job: Mapping[str, Any]) -> list[str]:
    """Files by which gather() decides whether names start in a top-level folder."""
    names = [name for names in job["networks"].values() for name in names]
    return [*names, *job.get("predictions", []), *job.get("code", {}).values(), *job.get("expected", [])]


def run_student_code(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Run a student's code and write the logits of its network. Returns {"error": text} if that fails."""
    import mindspore as ms

    from mslab.evaluation import engines
    from mslab.runtime import devices

    submission = contents.gather(
        Path(job["source"]), folder / "submission", LIMITS | job.get("limits", {}), expected_files(job)
    )
    path, name = submission.paths[job["file"]], job["code"][job["code_of"]]
    code = submission.paths[name]
    devices.set_up(devices.setup_calls("cpu", "pynative", seed=0))

    def write_logits() -> dict[str, Any]:
        weights, classes = checkpoint.read(path, pack=submission.paths), job["class_num"]
        info = checkpoint.STANDARD | weights.info
        pixels, batch = np.load(job["pixels"], "r", allow_pickle=False), engines.batch_of(info["image_size"])
        sys.path.append(str(code.parent))  # it may import files in its folder
        spec = importlib.util.spec_from_file_location("submitted", code)
        assert spec and spec.loader
        module = sys.modules["submitted"] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            network = module.network(classes)
            if not isinstance(network, ms.nn.Cell):
                raise contents.BadSubmission(f"{name}: network({classes}) returns no mindspore.nn.Cell")
            checkpoint.load_exactly(network.parameters_dict(), weights.tensors, path, f"network of {name}")
            network.set_train(False)
            batches = [network(ms.Tensor(x)).asnumpy() for x in normalised_batches(pixels, info, batch)]
        except (contents.BadSubmission, MslabError, MemoryError):
            raise
        except Exception as error:
            explained, first = explain(error), (str(error).strip().splitlines() or [""])[0]
            text = explained.what if explained else f"{type(error).__name__}: {first}"
            raise contents.BadSubmission(submission.relative(f"{name}: {text}")) from None
        logits = np.concatenate(batches).astype(np.float32)
        if logits.shape != (len(pixels), classes) or not np.isfinite(logits).all():
            text = (
                f"{logits.shape}, expected: ({len(pixels)}, {classes})" if np.isfinite(logits).all() else "not finite"
            )
            raise contents.BadSubmission(f"{name}: the network's logits are {text}")
        save(folder / "logits.npy", logits)
        return {}

    return contents.entry(write_logits, submission)


def save(path: Path, values: Any) -> None:
    """Write a .npy. Raises OSError with the reason; np.save itself does not give it if the disk is full."""
    content = io.BytesIO()
    np.save(content, values, allow_pickle=False)
    path.write_bytes(content.getvalue())


def normalised_batches(pixels: np.ndarray, info: Mapping[str, Any], batch: int) -> Iterator[np.ndarray]:
    """Yield normalised batches: uint8 (n, S, S, 3) -> float32 (up to `batch`, 3, S, S)."""
    mean, std = (255 * np.array(info[key], np.float32) for key in ("mean", "std"))
    for start in range(0, len(pixels), batch):
        x = ((pixels[start : start + batch] - mean) / std).transpose(0, 3, 1, 2)
        yield np.ascontiguousarray(x, np.float32)


def squared(info: Mapping[str, Any]) -> tuple[Any, ...]:
    """How a network's images become square, for the grader: the mode and the colour of the padding; () for a crop."""
    mode, mean = info.get("resize_mode") or "crop", info.get("mean") or checkpoint.STANDARD["mean"]
    return () if mode == "crop" else (mode, [round(255 * value) for value in mean])


class SubmittedNetworks:
    """The networks of a submission."""

    def __init__(
        self, job: Mapping[str, Any], limits: Mapping[str, Any], submission: Any, folder: Path, ask: Ask
    ) -> None:
        self.job, self.limits, self.submission, self.folder, self.ask = job, limits, submission, folder, ask
        self.weights: dict[str, dict[str, Any]] = {}  # backbone tensors by name of the network
        self.digests: dict[str, dict[str, str]] = {}  # sha256 of tensors by name of the network
        self.halves: dict[str, set[str]] = {}  # tensors that the file has as float16, by name of the network
        self.compiled: dict[str, Any] = {}  # backbones by table, profile and image size

    def describe(self, name: str) -> dict[str, Any]:
        """Facts about one network without running it; its sketch is written to a file."""
        files = self.job["networks"][name]
        file = next((file for file in files if file in self.submission.files), "")
        if not file:
            return {"file": files[0], "error": f"it was not handed in: there is no {' and no '.join(files)}"}
        path = self.submission.paths[file]
        return {"file": file} | contents.entry(lambda: self.facts_of(name, path), self.submission)

    def measure(self, name: str, facts: dict[str, Any]) -> dict[str, Any]:
        """The facts, and what running the network adds; its logits are written to a file."""
        if "error" in facts:
            return facts
        path, sizes = self.submission.paths[facts["file"]], facts.pop("images")
        return facts | contents.entry(lambda: self.answer(name, path, *sizes), self.submission)

    def facts_of(self, name: str, path: Path) -> dict[str, Any]:
        """Facts from the network's file."""
        code = self.job.get("code", {}).get(name, "")
        if code and code not in self.submission.files:
            raise contents.BadSubmission(f"there is no {code}, which defines it")
        weights = self.read_weights(path, bool(code), self.job.get("allowed", {}).get(name, [MODEL]))
        if weights.task != (task := self.job.get("tasks", {}).get(name, tasks.CLASSIFY)):
            raise contents.BadSubmission(f"it is of task {weights.task}, and the rubric measures task {task}")
        tensors = weights.tensors if code else weights.backbone | weights.head
        self.weights[name] = weights.backbone
        self.halves[name] = {key for key, value in weights.tensors.items() if value.dtype == np.float16}
        self.digests[name] = {key: hashlib.sha256(value.tobytes()).hexdigest() for key, value in tensors.items()}
        save(self.folder / f"{name}.sketch.npy", sketch(tensors))
        size = weights.info.get("image_size") or 224
        # for a network that code defines, only if its file has them
        names = weights.info.get("class_names") or [] if code else weights.class_names
        return {
            "class_names": [contents.short(class_name, 200) for class_name in names],
            "image_size": size,
            "weights": sum(value.size for value in tensors.values()),
            "stride": levels(weights.map_shapes)[0][1] if weights.task in tasks.MAPS else None,
            "stages": None if code or weights.mindcv else weights.stages,
            "network": weights.mindcv or None,
            "tensors": self.digests[name],
            "sketch": f"{name}.sketch.npy",
            "notes": [] if code else [contents.short(text, 300) for text in weights.choices],
            "images": (size, weights.info.get("resize_size") or size, *squared(weights.info)),
        }

    def answer(self, name: str, path: Path, *images: Any) -> dict[str, Any]:
        """Compute logits of the images that the grader sends. `images`: as the request names them."""
        line = self.ask(name, *images)
        if line.startswith("no ") or not line:
            raise contents.BadSubmission(f"it was not measured: {line or 'no answer'}")
        if name in self.job.get("code", {}):
            return {}  # the process that runs the code uses those images
        logits, engine = self.compute_logits(path, Path(line))
        if not np.isfinite(logits).all():
            raise contents.BadSubmission("its logits are not finite: it answers some images with NaN or infinity")
        save(self.folder / f"{name}.logits.npy", logits)
        return {"logits": f"{name}.logits.npy", "engine": str(engine)}

    def read_weights(self, path: Path, code: bool = False, allowed: Sequence[str] | None = None) -> Any:
        """Read a file's weights and check the limits before anything is built. Raises what `entry` turns into text.

        `code`: a student's code defines the network, so names and stage table are free. `allowed`: kinds of networks.
        """
        limits, file_bytes = self.limits, path.stat().st_size
        if file_bytes > 4 * MOMENTS * limits["weights"]:
            raise contents.BadSubmission(
                f"it has {file_bytes >> 20} MiB; a network may have {limits['weights']:,} weights"
            )
        weights = self.read_file(path)
        if not code and allowed is not None and (weights.mindcv or MODEL) not in allowed:
            own = weights.mindcv or weights.network.title
            raise contents.BadSubmission(f"it is {own}, and the task allows {', '.join(allowed)}")
        if not code and f"{checkpoint.HEAD}weight" not in weights.head and weights.task not in tasks.MAPS:
            raise contents.BadSubmission(
                "it is a backbone without a head, so it predicts no classes; hand in best.ckpt"
            )
        tensors = weights.tensors if code else weights.backbone | weights.head
        size, resize = weights.info.get("image_size") or 224, weights.info.get("resize_size") or 0
        sizes = {
            "classes": max(weights.outputs, len(weights.class_names)),
            "weights": sum(value.size for value in tensors.values()),
            "blocks": 0 if code else weights.network.blocks,
            "pixels": max(size, resize),
        }
        # the shorter side may be resized to more than the cropped middle
        exceeded = [key for key, value in sizes.items() if value > limits[key] * (2 if key == "pixels" else 1)]
        exceeded += ["pixels"] * (size > limits["pixels"])
        if exceeded:
            rows = (f"{sizes[key]:,} {key}, at most {limits[key]:,} are allowed" for key in dict.fromkeys(exceeded))
            raise contents.BadSubmission(f"it is too large: {'; '.join(rows)}")
        if 0 < resize < size:
            raise contents.BadSubmission(f"its image_size {size} is larger than its resize_size {resize}")
        if code and (len(tensors) > 2000 or not all(len(name) <= 200 and name.isascii() for name in tensors)):
            raise contents.BadSubmission(
                "it has more than 2,000 tensors, or names of more than 200 or non-ASCII characters"
            )
        bad = [name for name, value in tensors.items() if value.dtype.kind == "f" and not np.isfinite(value).all()]
        if bad:
            more = f" and {len(bad) - 3} more" * (len(bad) > 3)
            raise contents.BadSubmission(f"it has weights that are not finite: {', '.join(bad[:3])}{more}")
        if not code:
            weights.check()
        return weights

    def read_file(self, path: Path) -> checkpoint.Checkpoint:
        """Read a file of weights; the grader's dialect decides where its names leave that open."""
        pack, dialect = self.submission.paths, self.job.get("dialect", "")
        weights = checkpoint.read(path, pack=pack)
        return checkpoint.read(path, checkpoint.Choice(dialect), pack) if dialect and weights.assumed else weights

    def compute_logits(self, path: Path, images: Path) -> tuple[Any, Any]:
        """(logits float32 (n, class_num) of uint8 images (n, S, S, 3), the engine that computed them).

        They are those of the job's engine, unless an image has two best classes so close that MindSpore, the reference,
        may find the other one: then they are MindSpore's, and no grade depends on the engine.
        """
        from mslab.evaluation import engines

        weights = self.read_file(path)
        info = checkpoint.complete_info(weights)
        pixels, batch = np.load(images, mmap_mode="r", allow_pickle=False), engines.batch_of(info["image_size"])
        engine = engines.Engine(self.job["engine"]["engine"])
        if weights.task in tasks.MAPS:
            refuse_maps(weights, len(pixels), self.limits["map_bytes"])
        if engine.name != "mindspore" and not weights.mindcv:
            runner = engines.runner(engine, batch, weights.backbone | weights.head, weights.network)
            logits = np.concatenate([runner(x)["logits"] for x in normalised_batches(pixels, info, batch)])
            if weights.task != tasks.CLASSIFY or not engines.is_close_call(logits):
                return logits, engine
            del runner
        logits = self.reference_logits(path, weights, normalised_batches(pixels, info, batch))
        return logits, engines.Engine("mindspore")

    def reference_logits(self, path: Path, weights: checkpoint.Checkpoint, batches: Iterable[np.ndarray]) -> Any:
        """MindSpore's logits of these batches.

        Backbone and head run separately: a second network with the same stage table, as after transfer, is loaded into
        the compiled backbone of the first, and only its head is compiled.
        """
        import mindspore as ms

        from mslab import model
        from mslab.evaluation import engines, measuring, task_models
        from mslab.runtime import devices

        devices.set_up(devices.setup_calls("cpu", "graph", seed=0))
        info = checkpoint.complete_info(weights)
        batch = engines.batch_of(info["image_size"])
        if weights.task != tasks.CLASSIFY:
            network = task_models.load(weights)[2]
            rows = [network(ms.Tensor(engines.pad_batch(x, batch))).asnumpy()[: len(x)] for x in batches]
            return np.concatenate(rows).astype(np.float32)
        key = json.dumps([weights.network.record(), info["image_size"]])
        if backbone := self.compiled.get(key):  # no second one beside it: memory may be short
            head = model.resnet50_head(len(weights.class_names), backbone.channels, weights.hidden)
            checkpoint.load_exactly(backbone.parameters_dict(), weights.backbone, path, "backbone")
            checkpoint.load_exactly(head.parameters_dict(), weights.head, path, "head")
            head.set_train(False)
        else:
            loaded = measuring.network_of(weights)
            loaded.fold(batch, "cpu")
            backbone, head = loaded.network.backbone, loaded.network.head
            self.compiled[key] = backbone
        del weights
        rows = [head(backbone(ms.Tensor(engines.pad_batch(x, batch)))).asnumpy()[: len(x)] for x in batches]
        return np.concatenate(rows).astype(np.float32)

    def relations(self, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Compare each pair of backbones that the job lists. `facts`: of each network."""
        relations = {}
        for child, parent in self.job.get("relations", []):
            known = {*self.weights, "given"} if self.job.get("given") else {*self.weights}
            missing = [name for name in (child, parent) if name not in known]
            if missing:
                errors = (f"{name}: {facts.get(name, {}).get('error', 'there is none')}" for name in missing)
                relations[f"{child}<{parent}"] = {"error": contents.short("; ".join(errors))}
                continue
            pair = partial(self.relation, child, parent)
            relations[f"{child}<{parent}"] = contents.entry(pair, self.submission)
        return relations

    def relation(self, child: str, parent: str) -> dict[str, Any]:
        if "given" not in self.weights and self.job.get("given"):
            self.weights["given"] = self.read_file(Path(self.job["given"])).backbone
        # what one of them stores as float16 is compared as float16: a frozen backbone stays equal to the last bit
        half = self.halves.get(child, set()) ^ self.halves.get(parent, set())
        mine, theirs = (rounded(self.weights[name], half) for name in (child, parent))
        given = None if parent == "given" else self.weights.get("given")
        seed = hashlib.sha256(json.dumps([self.digests.get(name) for name in (child, parent)]).encode()).digest()
        return parentage.relation(mine, theirs, seed, given)


def refuse_maps(weights: checkpoint.Checkpoint, count: int, most: int) -> None:
    """Raise BadSubmission if a task's maps of so many images take more bytes than this."""
    size, stride = weights.info["image_size"], levels(weights.map_shapes)[0][1]
    outputs = len(weights.class_names) + tasks.EXTRA_OUTPUTS[weights.task]
    if (needed := 4 * count * outputs * (-(-size // stride)) ** 2) > most:
        raise contents.BadSubmission(
            f"its maps of {count} hidden images take {needed >> 20} MiB, at most {most >> 20} are allowed: "
            "train it with a smaller image_size, or with stages of which one has a stride of 4"
        )


def rounded(tensors: Mapping[str, np.ndarray], names: Container[str]) -> dict[str, np.ndarray]:
    """float32 tensors, these of them rounded as float16 stores them."""
    with np.errstate(over="ignore"):
        return {
            name: value.astype(np.float16).astype(np.float32) if name in names else value
            for name, value in tensors.items()
        }


def sketch(tensors: Mapping[str, Any]) -> Any:
    """float32 (4096,): every weight is added to or subtracted from an entry chosen by name and shape.

    Linear: the distance of two sketches is about that of the networks (count sketch, Charikar et al. 2002).
    """
    sums = np.zeros(2 * SKETCH)
    for name, value in tensors.items():
        if value.ndim < 2:
            continue
        seed = hashlib.sha256(f"mslab sketch {name} {value.shape}".encode()).digest()
        entries = np.random.default_rng(list(seed)).integers(0, 2 * SKETCH, value.size, dtype=np.uint16)
        sums += np.bincount(entries, value.ravel(), 2 * SKETCH)
    largest = float(np.finfo(np.float32).max)
    return np.clip(sums[:SKETCH] - sums[SKETCH:], -largest, largest).astype(np.float32)


def bounded_json(facts: dict[str, Any]) -> str:
    """The facts as JSON of at most FACTS_BYTES; if necessary the longest entries are replaced by errors."""
    while True:
        text = json.dumps(facts, ensure_ascii=False, allow_nan=False)
        if len(text.encode()) <= FACTS_BYTES:
            return text
        sections = ("configs", "json", "histories", "predictions")
        _, section, name = max(
            (len(str(content)), part, name) for part in sections for name, content in facts[part].items()
        )
        facts[section][name] = {"error": "it contains more than is read of one submission"}
