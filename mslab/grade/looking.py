"""What a worker finds in the submission that it was started for: its files, its networks and how they answer.

All of it runs after the worker has confined itself (worker.py); NumPy and MindSpore are imported then, not before.
"""

import hashlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from mslab import checkpoint
from mslab.errors import MslabError, explain
from mslab.grade import contents

SKETCH = 4096  # numbers of a sketch
FACTS_BYTES = 4 << 20
LIMITS = {  # what a submission may be
    "members": 2000,  # files and folders
    "bytes": 2 << 30,  # unpacked
    "ratio": 100,  # bytes unpacked for one of the archive
    "classes": 1000,
    "weights": 200_000_000,
    "blocks": 200,  # of the stage table; ResNet-152 has 50
    "pixels": 512,  # image_size
}
MOMENTS = 4  # a file holds at most so many times the weights: an optimizer's, too
Ask = Callable[[str, int, int], str]  # (network, size, resize) -> the parent's line


def look(job: Mapping[str, Any], folder: Path, ask: Ask) -> dict[str, Any]:
    """The facts of a submission, without what held."""
    limits = LIMITS | job.get("limits", {})
    found = contents.gather(Path(job["source"]), folder / "submission", limits, wanted(job))
    files = {contents.short(name, 300): size for name, size in found.files.items()}
    facts: dict[str, Any] = {"schema": 1, "files": files}
    facts |= {"top": contents.short(found.top, 300), "problems": found.problems}
    kinds: dict[str, tuple[Any, int, Any]] = {  # section: how names end, bytes that are read, what reads them
        "configs": ((".yaml", ".yml"), contents.YAML_BYTES, contents.config),
        "json": (".json", contents.JSON_BYTES, contents.table),
        "histories": ("/history.csv", contents.CSV_BYTES, contents.history),
    }
    for section, (suffix, most, read) in kinds.items():
        own = [name for name in found.files if f"/{name}".endswith(suffix) and not name.startswith(contents.JUNK)]
        facts[section] = contents.entries(found, own, most, read)
    asked = [name for name in job.get("predictions", []) if name in found.files]
    facts["predictions"] = contents.entries(found, asked, contents.CSV_BYTES, contents.predictions)
    handed = SubmittedNetworks(job, limits, found, folder, ask)
    facts["networks"] = {name: handed.network(name) for name in job["networks"]} if not found.problems else {}
    facts["relations"] = {} if found.problems else handed.relations()
    return facts


def wanted(job: Mapping[str, Any]) -> list[str]:
    """The files that tell where a submission's names begin."""
    names = [name for names in job["networks"].values() for name in names]
    return [*names, *job.get("predictions", []), *job.get("code", {}).values()]


def coded(job: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Writes the logits of a network that a student's code defines; {"error"} where that fails. The code runs here."""
    import mindspore as ms

    from mslab.evaluation import gradcam, measuring
    from mslab.runtime import devices

    found = contents.gather(Path(job["source"]), folder / "submission", LIMITS | job.get("limits", {}), wanted(job))
    path, name = found.root / job["file"], job["code"][job["code_of"]]
    devices.set_up(devices.setup_calls("cpu", "pynative", seed=0))

    def logits() -> dict[str, Any]:
        weights, classes = checkpoint.read(path), job["class_num"]
        info = measuring.STANDARD | weights.info
        pixels, batch = np.load(job["pixels"], "r", allow_pickle=False), gradcam.batch_of(info["image_size"])
        sys.path.append(str((found.root / name).parent))  # it may import files beside it
        spec = importlib.util.spec_from_file_location("submitted", found.root / name)
        assert spec and spec.loader
        module = sys.modules["submitted"] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
            network = module.network(classes)
            if not isinstance(network, ms.nn.Cell):
                raise contents.BadSubmission(f"{name}: network({classes}) gives no mindspore.nn.Cell")
            checkpoint.load_exactly(network.parameters_dict(), weights.tensors, path, f"network of {name}")
            network.set_train(False)
            rows = [network(ms.Tensor(x)).asnumpy() for x in normalised(pixels, info, batch)]
        except (contents.BadSubmission, MslabError, MemoryError):
            raise
        except Exception as error:
            known, first = explain(error), (str(error).strip().splitlines() or [""])[0]
            text = known.what if known else f"{type(error).__name__}: {first}"
            raise contents.BadSubmission(f"{name}: {text}".replace(f"{found.root}/", "")) from None
        made = np.concatenate(rows).astype(np.float32)
        if made.shape != (len(pixels), classes) or not np.isfinite(made).all():
            what = f"{made.shape}, asked for: ({len(pixels)}, {classes})" if np.isfinite(made).all() else "not finite"
            raise contents.BadSubmission(f"{name}: the network's logits are {what}")
        np.save(folder / "logits.npy", made, allow_pickle=False)
        return {}

    return contents.entry(logits, found.root)


def normalised(pixels: np.ndarray, info: Mapping[str, Any], batch: int) -> Iterator[np.ndarray]:
    """Images as a network sees them, batch after batch: uint8 (n, S, S, 3) -> float32 (up to `batch`, 3, S, S)."""
    mean, std = (255 * np.array(info[key], np.float32) for key in ("mean", "std"))
    for start in range(0, len(pixels), batch):
        x = ((pixels[start : start + batch] - mean) / std).transpose(0, 3, 1, 2)
        yield np.ascontiguousarray(x, np.float32)


class SubmittedNetworks:
    """The networks of a submission."""

    def __init__(self, job: Mapping[str, Any], limits: Mapping[str, Any], found: Any, folder: Path, ask: Ask) -> None:
        self.job, self.limits, self.found, self.folder, self.ask = job, limits, found, folder, ask
        self.weights: dict[str, dict[str, Any]] = {}  # backbone tensors by name of the network
        self.compiled: dict[str, Any] = {}  # backbones by table, profile and image size

    def network(self, name: str) -> dict[str, Any]:
        """What is said of one network; its logits and sketch are written beside it."""
        files = self.job["networks"][name]
        file = next((file for file in files if file in self.found.files), "")
        if not file:
            return {"file": files[0], "error": f"it was not handed in: there is no {' and no '.join(files)}"}
        path, root = self.found.root / file, self.found.root
        told = contents.entry(lambda: self.described(name, path), root)
        if "error" not in told:
            told |= contents.entry(lambda: self.measured(name, path, *told.pop("images")), root)
        return {"file": file} | told

    def described(self, name: str, path: Path) -> dict[str, Any]:
        """What a file tells without being run."""
        code = self.job.get("code", {}).get(name, "")
        if code and code not in self.found.files:
            raise contents.BadSubmission(f"there is no {code}, which defines it")
        weights = self.read(path, bool(code))
        tensors = weights.tensors if code else weights.backbone | weights.head
        self.weights[name] = weights.backbone
        np.save(self.folder / f"{name}.sketch.npy", sketch(tensors), allow_pickle=False)
        size = weights.info.get("image_size") or 224
        # of a network that code defines, only where its file tells
        names = weights.info.get("class_names") or [] if code else weights.class_names
        return {
            "class_names": [contents.short(each, 200) for each in names],
            "image_size": size,
            "weights": sum(value.size for value in tensors.values()),
            "stages": None if code else weights.stages,
            "tensors": {key: hashlib.sha256(value.tobytes()).hexdigest() for key, value in tensors.items()},
            "sketch": f"{name}.sketch.npy",
            "images": (size, weights.info.get("resize_size") or size),
        }

    def measured(self, name: str, path: Path, size: int, resize: int) -> dict[str, Any]:
        """Logits of the images that the parent gives."""
        line = self.ask(name, size, resize)
        if line.startswith("no ") or not line:
            raise contents.BadSubmission(f"it was not measured: {line or 'no answer'}")
        if name in self.job.get("code", {}):
            return {}  # those images are for the process that runs the code
        logits = self.run(path, Path(line))
        if not np.isfinite(logits).all():
            raise contents.BadSubmission("its logits are not finite: it answers images with numbers that are none")
        np.save(self.folder / f"{name}.logits.npy", logits, allow_pickle=False)
        return {"logits": f"{name}.logits.npy"}

    def read(self, path: Path, code: bool = False) -> Any:
        """The weights of a file, within the limits, before anything is built from them. Raises what `entry` words.

        `code`: of a network that a student's code defines; names and table are the student's own.
        """
        limits, taken = self.limits, path.stat().st_size
        if taken > 4 * MOMENTS * limits["weights"]:
            raise contents.BadSubmission(f"it has {taken >> 20} MiB; a network may have {limits['weights']:,} weights")
        weights = checkpoint.read(path)
        if not code and f"{checkpoint.HEAD}weight" not in weights.head:
            raise contents.BadSubmission("it is a backbone without a head, which answers no classes; hand in best.ckpt")
        tensors = weights.tensors if code else weights.backbone | weights.head
        size, resize = weights.info.get("image_size") or 224, weights.info.get("resize_size") or 0
        large = {
            "classes": max(weights.outputs, len(weights.class_names)),
            "weights": sum(value.size for value in tensors.values()),
            "blocks": 0 if code else sum(row[0] for row in weights.stages),
            "pixels": max(size, resize),
        }
        # the shorter side may be resized to more than the middle that is taken
        over = [key for key, value in large.items() if value > limits[key] * (2 if key == "pixels" else 1)]
        over += ["pixels"] * (size > limits["pixels"])
        if over:
            rows = (f"{large[key]:,} {key}, at most {limits[key]:,} are taken" for key in dict.fromkeys(over))
            raise contents.BadSubmission(f"it is too large: {'; '.join(rows)}")
        if 0 in (weights.info.get("std") or []):
            raise contents.BadSubmission(f"its std {weights.info['std']} would divide by 0")
        if 0 < resize < size:
            raise contents.BadSubmission(f"its image_size {size} is above its resize_size {resize}")
        if code and (len(tensors) > 2000 or not all(len(name) <= 200 and name.isascii() for name in tensors)):
            raise contents.BadSubmission("it has more than 2,000 tensors, or names beyond 200 ASCII characters")
        bad = [name for name, value in tensors.items() if value.dtype.kind == "f" and not np.isfinite(value).all()]
        if bad:
            more = f" and {len(bad) - 3} more" * (len(bad) > 3)
            raise contents.BadSubmission(f"it has weights that are not finite: {', '.join(bad[:3])}{more}")
        if not code:
            weights.check()
        return weights

    def run(self, path: Path, images: Path) -> Any:
        """Logits float32 (n, class_num) of uint8 images (n, S, S, 3), from a network that the kit's own code builds.

        Backbone and head run one after the other: a second network of the same table, as after transfer, takes the
        place of the first one's weights, and only its head is compiled.
        """
        import mindspore as ms
        from mindspore.nn.utils import no_init_parameters

        from mslab.evaluation import gradcam, measuring
        from mslab.runtime import devices

        devices.set_up(devices.setup_calls("cpu", "graph", seed=0))
        with no_init_parameters():  # drawing 23 million numbers that the file replaces takes most of the loading
            loaded = measuring.load_network(path)
        own, size = loaded.network.backbone, loaded.info["image_size"]
        batch = gradcam.batch_of(size)
        key = json.dumps([loaded.info["stages"], loaded.info["profile"], size])
        if key not in self.compiled:
            loaded.fold(batch, "cpu")
            self.compiled[key] = own
        elif self.compiled[key] is not own:
            tensors = {name: value.asnumpy() for name, value in own.parameters_dict().items()}
            checkpoint.load_exactly(self.compiled[key].parameters_dict(), tensors, path, "backbone")
        backbone, head = self.compiled[key], loaded.network.head
        pixels = np.load(images, mmap_mode="r", allow_pickle=False)
        rows = [
            head(backbone(ms.Tensor(measuring.pad_batch(x, batch)))).asnumpy()[: len(x)]
            for x in normalised(pixels, loaded.info, batch)
        ]
        return np.concatenate(rows).astype(np.float32)

    def relations(self) -> dict[str, Any]:
        """How near each pair of backbones is that the job names."""
        made = {}
        for own, other in self.job.get("relations", []):
            if other == "given" and "given" not in self.weights and self.job.get("given"):
                self.weights["given"] = checkpoint.read(self.job["given"]).backbone
            lacking = [name for name in (own, other) if name not in self.weights]
            if lacking:
                made[f"{own}<{other}"] = {"error": f"{' and '.join(lacking)} cannot be read or is not there"}
                continue
            pair = partial(relation, self.weights[own], self.weights[other])
            made[f"{own}<{other}"] = contents.entry(pair, self.found.root)
        return made


def relation(own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Backbone tensors equal to the last bit, and how far training moved both the same way.

    That is the cosine over BatchNorm's gammas and betas, less what they began with (0, or 1 for most gammas), which is
    the same for every seed. Not over convolutions: two networks of one seed begin with equal ones, and stay near.
    """
    shared = [name for name in own if name in other and own[name].shape == other[name].shape]
    equal = sum(own[name].tobytes() == other[name].tobytes() for name in shared)
    dots = np.zeros(3)
    for name in shared:
        if name.endswith((".gamma", ".beta")):
            fresh = float(other[name].mean() > 0.5) if name.endswith(".gamma") else 0.0
            a, b = (weights[name].astype(np.float64).ravel() - fresh for weights in (own, other))
            dots += np.dot(a, b), np.dot(a, a), np.dot(b, b)
    cosine = dots[0] / np.sqrt(dots[1] * dots[2]) if dots[1] > 0 and dots[2] > 0 else 0.0
    return {"tensors": max(len(own), len(other)), "equal": equal, "cosine": round(float(np.clip(cosine, -1, 1)), 6)}


def sketch(tensors: Mapping[str, Any]) -> Any:
    """float32 (4096,): every weight added, or taken away, at a place that follows from name and shape.

    Linear: the distance of two sketches is about that of the networks (count sketch, Charikar et al. 2002).
    """
    sums = np.zeros(2 * SKETCH)
    for name, value in tensors.items():
        if value.ndim < 2:
            continue
        seed = hashlib.sha256(f"mslab sketch {name} {value.shape}".encode()).digest()
        places = np.random.default_rng(list(seed)).integers(0, 2 * SKETCH, value.size, dtype=np.uint16)
        sums += np.bincount(places, value.ravel(), 2 * SKETCH)
    largest = float(np.finfo(np.float32).max)
    return np.clip(sums[:SKETCH] - sums[SKETCH:], -largest, largest).astype(np.float32)


def fitting(facts: dict[str, Any]) -> str:
    """The facts as JSON that the parent reads; where it would be too long, the longest entries are errors instead."""
    while True:
        text = json.dumps(facts, ensure_ascii=False, allow_nan=False)
        if len(text.encode()) <= FACTS_BYTES:
            return text
        sections = ("configs", "json", "histories", "predictions")
        _, section, name = max((len(str(told)), part, name) for part in sections for name, told in facts[part].items())
        facts[section][name] = {"error": "it says more than is read of one submission"}
