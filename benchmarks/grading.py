"""A generated class graded twice: time, memory, and the cost of a second grading.

Every submission is a real zip: its own network in an mslab checkpoint, config, history and manifest.
"""

import json
import logging
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mslab.runtime.tables import empty_table, render

SMALL = [[1, 32, 1], [1, 64, 2], [1, 128, 2]]  # configs/knobs.yaml's: half a million weights
IMAGES = 20  # hidden images of each of nine classes
SIZE = 64  # pixels
RUBRIC = """
title: A generated class
total: 100
networks: {nine: {file: best.ckpt, data: nine, class_num: 9}}
items:
  - {id: files, kind: files, points: 10, files: [config.yaml, history.csv, manifest.json, best.ckpt]}
  - {id: settings, kind: config, points: 10, rules: {class_num: {equals: 9}, epochs: {at_most: 30}}}
  - {id: accuracy, kind: accuracy, points: 50, network: nine, linear: {from: 0.1, to: 0.9}}
  - {id: claimed, kind: reproduced, points: 20, network: nine, tolerance: 0.05}
  - {id: size, kind: size, points: 10, network: nine, at_most: 26_000_000}
"""


def bench_grade(
    students: int, large: int, jobs: int | None, progress: Callable[[str], Any] = lambda text: None
) -> dict[str, Any]:
    """Grade `students` generated submissions, `large` of them ResNet-50, in a separate process; then again.

    Returns students, large, seconds and again (of the second grading), peak and worker (MiB: the grader's own, and the
    largest worker's).
    """
    from benchmarks.processes import read_result
    from mslab.data.mushrooms import drawing

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        counts = {"mushrooms9": {"train": 1, "val": 1, "test": IMAGES}}
        drawing.draw_datasets(folder / "drawn", size=96, names=("mushrooms9",), counts=counts)
        (folder / "hidden").mkdir()
        (folder / "drawn" / "mushrooms9" / "test").rename(folder / "hidden" / "nine")
        (folder / "rubric.yaml").write_text(RUBRIC)
        (folder / "class").mkdir()
        progress(f"making {students} submissions, {large} of them ResNet-50")
        for number in range(students):
            make_submission(folder / "class" / f"student{number:03}.zip", number, number < large)
        result: dict[str, Any] = {"students": students, "large": large}
        for key in ("seconds", "again"):
            progress("grading" if key == "seconds" else "grading again, with everything cached")
            command = [sys.executable, "-m", __name__, str(folder), json.dumps(jobs)]
            answer = read_result(command, dict(os.environ), "the grader", "a graded class", "report this as a bug")
            result[key] = answer["seconds"]
            result |= {"peak": answer["peak"], "worker": answer["worker"]} if key == "seconds" else {}
    return result


def make_submission(path: Path, seed: int, large: bool) -> None:
    """Write a submission with its own network; its weights are random, since no figure here depends on them."""
    import mindspore as ms

    from mslab import checkpoint, model
    from mslab.config import IMAGENET, dump_config, load_settings
    from mslab.data.mushrooms.species import CLASSES

    ms.set_seed(seed + 1)
    stages = [list(row) for row in (model.STAGES if large else SMALL)]
    backbone = model.resnet50_backbone(stages)
    network = model.ResNet50(backbone, model.resnet50_head(9, backbone.channels))
    names = sorted(CLASSES["mushrooms9"])
    info = {"schema": 1, "class_names": names, "image_size": SIZE, "resize_size": SIZE, "stages": stages}
    info |= IMAGENET
    config = load_settings({"train_data": "train", "val_data": "val", "class_num": 9, "stages": stages, "seed": seed})
    history = "epoch,step,lr,train_loss,train_acc,val_loss,val_acc,images_per_s,seconds\n"
    history += "".join(f"{n},{9 * n},0.1,{2 / n},0.{seed:03},{2 / n},0.{seed:03},50,1\n" for n in range(1, 6))
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path, "w") as archive:
        file = Path(folder) / "best.ckpt"
        checkpoint.save(list(network.get_parameters()), file, info)
        archive.write(file, "best.ckpt")
        archive.writestr("config.yaml", dump_config(config))
        archive.writestr("history.csv", history)
        archive.writestr("manifest.json", json.dumps({"metrics": {"val_acc": 0.11}}))


def table(result: Mapping[str, Any]) -> str:
    """One line per figure."""
    grid = empty_table(f"{result['students']} submissions, {result['large']} of them ResNet-50", ("", " "))
    grid.add_row("graded", f"{result['seconds']:.0f} s")
    grid.add_row("a submission", f"{result['seconds'] / result['students']:.2f} s")
    grid.add_row("graded again, everything cached", f"{result['again']:.1f} s")
    grid.add_row("times as fast", f"{result['seconds'] / result['again']:.0f}x")
    grid.add_row("peak memory of the grader", f"{result['peak']:.0f} MiB")
    grid.add_row("of the largest worker", f"{result['worker']:.0f} MiB")
    return render(grid)


if __name__ == "__main__":
    import resource

    from mslab.grade import grading

    logging.getLogger("mslab").setLevel(logging.WARNING)
    root, jobs = Path(sys.argv[1]), json.loads(sys.argv[2])
    begun = time.perf_counter()
    grading.grade(root / "class", root / "rubric.yaml", root / "hidden", root / "out", grading.GradeOptions(jobs=jobs))
    own, workers = (
        resource.getrusage(scope).ru_maxrss / 1024 for scope in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    print("bench " + json.dumps({"seconds": time.perf_counter() - begun, "peak": own, "worker": workers}))
