"""Make submissions for tests, and measure them with a real worker."""

import io
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
from helpers import STAGES, draw

from mslab import checkpoint
from mslab.check import DatasetReport, check_dataset
from mslab.checkpoint import dialects
from mslab.evaluation import engines
from mslab.grade import measuring
from mslab.grade.records import Measurement
from mslab.grade.sandbox import Limits


def network(class_names=("a", "b", "c"), stages=STAGES, seed=0) -> tuple[dict, dict]:
    """(tensors, entry) of a small network."""
    rng = np.random.default_rng(seed)
    shapes = dialects.layout(stages, dialects.PROFILE)
    shapes |= {"classifier.weight": (len(class_names), 4 * stages[-1][1]), "classifier.bias": (len(class_names),)}
    tensors = {}
    for name, shape in shapes.items():
        ones = name.endswith(("gamma", "moving_variance"))
        tensors[name] = (np.ones(shape) if ones else rng.normal(0, 0.3, shape)).astype(np.float32)
    info = {"class_names": list(class_names), "image_size": 32, "mean": [0.5] * 3, "std": [0.25] * 3}
    return tensors, info | {"stages": [list(row) for row in stages], "profile": dialects.PROFILE}


def bytes_of(tmp_path: Path, tensors: dict, info: dict) -> bytes:
    checkpoint.save_arrays(tensors, tmp_path / "made.ckpt", info)
    return (tmp_path / "made.ckpt").read_bytes()


def inspect(tmp_path: Path, source: Path, networks=None, images=None, **more) -> Measurement:
    """Measure a submission with a real worker."""
    limits = more.pop("within", Limits(seconds=60))
    job = {"source": str(source), "folder": str(tmp_path / f"box-{time.monotonic_ns()}"), "networks": networks or {}}
    job |= {"relations": [], "given": None, "predictions": [], "engine": engines.choose("auto").record()} | more
    return measuring.measure(job, images or {}, limits)


def zip_of(path: Path, members: dict, **more) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def tar_of(path: Path, members: list, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as file:
        for name, kind, content in members:
            member = tarfile.TarInfo(name)
            member.type, member.size = kind, len(content) if kind == tarfile.REGTYPE else 0
            member.linkname = "/etc/passwd" if kind == tarfile.SYMTYPE else "a.txt"
            file.addfile(member, io.BytesIO(content))
    return path


def hidden_images(folder: Path) -> tuple[measuring.HiddenImages, DatasetReport]:
    """21 images of three classes in a new folder, and their report."""
    report = check_dataset(draw(folder / "images", ["a", "b", "c"], 7, size=50))
    return measuring.HiddenImages(report, "", folder / "pixels"), report
