"""A class of three, graded by the command line: hidden images, a rubric, submissions and results."""

import shutil
import zipfile
from pathlib import Path

from helpers import cli, settings

from mslab.grade import handin

RUBRIC = """
title: From three to two
total: 100
networks:
  three: {file: three/best.ckpt, data: three, class_num: 3}
  two: {file: two/best.ckpt, data: two, class_num: 2}
items:
  - {id: files, kind: files, points: 10, public: true, files: [three/config.yaml, two/config.yaml, report.md]}
  - {id: settings, kind: config, points: 10, public: true, file: three/config.yaml, rules: {class_num: {equals: 3}}}
  - {id: accuracy, kind: accuracy, points: 30, network: three, linear: {from: 0.0, to: 1.0}}
  - {id: backbone, kind: provenance, points: 20, public: true, network: two, parent: three, how: frozen}
  - {id: claimed, kind: reproduced, points: 10, network: three, file: three/manifest.json, tolerance: 0.4}
  - {id: size, kind: size, points: 10, public: true, network: three, at_most: 100_000}
  - {id: writeup, kind: manual, points: 10}
late: {due: 2026-12-01T23:59:00+08:00, per_day: 5}
"""


def graded_class(once, squares: Path, parent: Path, finished) -> Path:
    """hidden/, rubric.yaml and class/, graded into out/ once for all tests. Do not change it.

    anna transferred with a frozen backbone; bob handed in only a report; cem has another backbone and copied anna's
    first network. `output.txt` is the command's output.
    """

    def make(folder):
        (folder / "rubric.yaml").write_text(RUBRIC)
        (folder / "report.md").write_text("What I did.\n")
        for network, split in (("three", "val"), ("two", "val")):
            shutil.copytree(squares / network / split, folder / "hidden" / network)
        two = settings(squares / "two", 2, epochs=1)
        frozen, separate = finished(two | {"freeze": "all"}, parent).run, finished(two | {"seed": 5}).run
        for name, runs in (("anna", [f"three={parent}", f"two={frozen}"]), ("bob", [])):
            handin.pack(runs, folder / "class" / f"{name}.zip", [str(folder / "report.md")])
        handin.pack([f"three={parent}", f"two={separate}"], folder / "cem.zip", [str(folder / "report.md")])
        with zipfile.ZipFile(folder / "cem.zip") as archive:
            archive.extractall(folder / "class" / "cem" / "my files")
        result = graded(folder, "out", "--moodle", "--canvas")
        assert result.returncode == 0, result.stderr
        (folder / "output.txt").write_text(result.stdout + result.stderr)

    return once("graded-class", make)


def graded(lab, out, *more):
    return cli("grade", "class", "--rubric", "rubric.yaml", "--data", "hidden", "--out", out, *more, cwd=lab)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".cache" not in path.parts
    }
