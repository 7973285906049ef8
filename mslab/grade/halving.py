"""`mslab pack --half`: weights as float16, measured again, and a backbone that several runs share stored once."""

import logging
import posixpath
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mslab import checkpoint
from mslab.checkpoint import sharing
from mslab.config import tasks
from mslab.config.tasks import CLASSIFY
from mslab.data.zips import Member
from mslab.errors import MslabError
from mslab.evaluation import measuring
from mslab.files import json_text
from mslab.runs.folder import RunFolder
from mslab.runs.results import read_evaluation

log = logging.getLogger("mslab")
BEST, MANIFEST = "best.ckpt", "manifest.json"


@dataclass
class HalfWeights:
    """The float16 weights of one run."""

    tensors: dict[str, np.ndarray]
    info: dict[str, Any]
    float32: dict[str, str]  # tensors that stay float32, each with the reason
    accuracy: float | None
    difference: float | None


def members(runs: Mapping[str, RunFolder]) -> dict[str, Member]:
    """best.ckpt and manifest.json of each run, by their names in the pack. `runs`: by the folder in the pack, or ""."""
    written: dict[str, Member] = {}
    stored: dict[str, tuple[HalfWeights, bytes]] = {}  # files with a backbone of their own
    for folder, run in runs.items():
        half = halve(run)
        name = posixpath.join(folder, BEST)
        tensors, entry, source = half.tensors, {}, None
        for other, (parent, content) in stored.items():
            own = sharing.own_tensors(half.tensors, parent.tensors)
            if len(own) < len(tensors):
                source = posixpath.relpath(other, folder or ".")
                tensors, entry = own, sharing.entry_of(source, content)
        content = ckpt_bytes(tensors, half.info | entry)
        if source is None:
            stored[name] = half, content
        written[name] = content
        record: dict[str, Any] = {"sha256": sharing.digest(content), "float32": half.float32, "backbone": source}
        record |= {"accuracy": half.accuracy, "difference": half.difference}
        manifest_name = posixpath.join(folder, MANIFEST)
        written[manifest_name] = json_text(run.manifest | {"half": record}).encode()
        report(run, name, half, source, len(content))
    return written


def halve(run: RunFolder) -> HalfWeights:
    """The float16 weights of a run's best.ckpt, measured on its validation images if they are there."""
    weights = checkpoint.read(run.checkpoints / BEST)
    tensors, reasons = sharing.halved(weights.tensors)
    half = HalfWeights(tensors, weights.info, reasons, None, None)
    with tempfile.TemporaryDirectory(prefix="mslab-pack-") as temporary:
        file = Path(temporary) / BEST
        checkpoint.save_arrays(tensors, file, weights.info)
        try:
            found = measuring.evaluate(file, run.settings.val_data, device="cpu")
            half.accuracy = found[found.get("measure", "accuracy")]
        except MslabError as error:
            log.info(f"note: {run.path}: its float16 weights were not measured again: {error.what}")
            return half
    before = read_evaluation(run.path, run.manifest["class_names"], run.settings.task)
    earlier = before[before.get("measure", "accuracy")] if before else None
    if half.accuracy is not None and earlier is not None:  # validation_metric_type: none measures nothing
        half.difference = half.accuracy - earlier
    return half


def report(run: RunFolder, name: str, half: HalfWeights, source: str | None, size: int) -> None:
    """Say what the float16 weights cost."""
    before = (run.checkpoints / BEST).stat().st_size
    text = f"{name}: {before / 2**20:.3g} -> {size / 2**20:.3g} MiB as float16"
    if source:
        text += f", its backbone is that of {source}"
    if half.accuracy is not None:
        change = "as before" if not half.difference else f"{half.difference:+.4f}"
        measure = "accuracy" if run.settings.task == CLASSIFY else tasks.measure(run.settings)
        text += f"; {measure} on {run.settings.val_data}: {half.accuracy:.4f}" + (
            f" ({change})" if half.difference is not None else ""
        )
    log.info(text)
    for tensor, reason in list(half.float32.items())[:5]:
        log.info(f"note: {tensor} stays float32: {reason}")
    if len(half.float32) > 5:
        log.info(f"note: and {len(half.float32) - 5} more tensors; half.float32 in manifest.json lists all")


def ckpt_bytes(tensors: Mapping[str, np.ndarray], info: Mapping[str, Any]) -> bytes:
    with tempfile.TemporaryDirectory(prefix="mslab-pack-") as temporary:
        checkpoint.save_arrays(tensors, Path(temporary) / BEST, info)
        return (Path(temporary) / BEST).read_bytes()
