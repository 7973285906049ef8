"""Dataset sanity before any training: every file is loaded once, by Pillow, in a worker process. No MindSpore here.

A rule is a function that yields findings; adding one is adding it to RULES. An error stops training, a warning not.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mslab.errors import DatasetError

SPLITS = ("train", "val", "test")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff"}  # what MindSpore's decoder takes
OTHER_SUFFIXES = {".gif", ".webp", ".avif", ".heic", ".jp2", ".ppm", ".pgm", ".tga", ".ico", ".psd", ".svg"}
FORMATS = {"JPEG", "MPO", "PNG", "BMP", "DIB", "TIFF"}  # Pillow's names for the same; MPO is a JPEG with more behind it
JUNK = {"__macosx", "@eadir", "lost+found", "kernel_meta", "__pycache__", "$recycle.bin", "system volume information"}
SECONDS = 30  # longest that one file may take to load
SHOWN = 5  # findings of one code that a message lists


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `path` is relative to the root, with "/"; `message` says what it would have done."""

    code: str
    severity: str  # "error" stops training, "warning" does not
    path: str
    message: str
    fix: str


@dataclass
class Split:
    """One folder of class folders, as it lies on disk."""

    name: str  # train, val, test, or "" where the data set is one split
    root: Path
    classes: dict[str, list[Path]] = field(default_factory=dict)  # visible folder -> its image files, sorted by name
    strays: list[Path] = field(default_factory=list)  # hidden or junk folders beside the classes
    nested: list[Path] = field(default_factory=list)  # folders inside class folders
    loose: list[Path] = field(default_factory=list)  # files beside the class folders
    left_out: list[Path] = field(default_factory=list)  # files in class folders that are no images
    digests: dict[Path, str] = field(default_factory=dict)  # image -> sha256 of its bytes
    broken: dict[Path, tuple[str, str]] = field(default_factory=dict)  # image -> (code, what Pillow said)

    def show(self, path: Path) -> str:
        """The path as findings write it."""
        inside = path.relative_to(self.root).as_posix()
        return "/".join(part for part in (self.name, inside if inside != "." else "") if part) or "."


@dataclass
class DatasetReport:
    """What check_dataset found. `.ok` is False where an error would stop training; print it to read it."""

    root: Path
    splits: dict[str, Split]
    class_names: list[str]  # index order, fixed here once: sorted by name
    findings: list[Finding]
    fingerprint: str  # sha256 over every image's relative path, size and content

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def ok(self) -> bool:
        return not self.errors

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """{split: {class: images}}"""
        return {name: {c: len(files) for c, files in split.classes.items()} for name, split in self.splits.items()}

    def samples(self, split: str) -> tuple[list[Path], list[int]]:
        """The files that passed and their class indices, sorted by class, then by name."""
        rows = [(path, i) for i, name in enumerate(self.class_names) for path in self.splits[split].classes[name]]
        return [path for path, _ in rows], [label for _, label in rows]

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `mslab check --json`."""
        return {
            "schema": 1,
            "root": str(self.root),
            "ok": self.ok,
            "class_num": len(self.class_names),
            "classes": self.class_names,
            "counts": self.counts,
            "images": sum(sum(split.values()) for split in self.counts.values()),
            "findings": [asdict(finding) for finding in self.findings],
            "fingerprint": self.fingerprint,
        }

    def raise_errors(self, says: str = "") -> None:
        """DatasetError that lists every error; nothing where there is none. `says`: "x.yaml says class_num: 9"."""
        if self.ok:
            return
        miscounted = {finding.path.split("/")[0] for finding in self.errors if finding.code == "class-count"}
        wrong = [s for s in self.splits.values() if s.strays or (s.name or ".") in miscounted]
        what = "; ".join(f"{s.root} has {len(s.classes) + len(s.strays)} class folders" for s in wrong)
        what = f"{what}{', ' * bool(says)}{says}" if wrong else f"{self.root} cannot be trained on"
        fixes = dict.fromkeys(finding.fix for finding in self.errors)
        raise DatasetError(
            f"{what}.",
            details=_rows(self.errors),
            expected="one folder a class, holding only image files, the same classes in every split",
            fix="\n".join(list(fixes)[:6]),
        )

    def __str__(self) -> str:
        images = sum(sum(split.values()) for split in self.counts.values())
        lines = [f"{self.root}: {images} images, {len(self.class_names)} classes"]
        for name, split in self.counts.items():
            numbers = ", ".join(f"{c} {n}" for c, n in split.items())
            lines.append(f"  {name or 'images':<6} {sum(split.values()):>6}  {numbers}")
        rows = _rows(self.findings)
        width = max((len(code) for code, _ in rows), default=0)
        lines += [f"  {code:<{width}}  {text}" for code, text in rows]
        for fix in list(dict.fromkeys(finding.fix for finding in self.findings))[:6]:
            lines.append(f"  fix: {fix}")
        errors = len(self.errors)
        lines.append(f"{errors} errors, {len(self.findings) - errors} warnings" if self.findings else "nothing found")
        return "\n".join(lines)


def check_dataset(
    train: str | Path,
    val: str | Path | None = None,
    test: str | Path | None = None,
    class_num: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DatasetReport:
    """Look at every folder and load every image of the splits. `progress` is called with (done, total).

    A `train` alone may be one split or a parent of train, val, test. Raises DatasetError only where there is no folder.
    """
    given = {"train": train, "val": val, "test": test}
    folders = {name: Path(folder) for name, folder in given.items() if folder is not None}
    for name, folder in folders.items():
        if not folder.is_dir():
            raise DatasetError(
                f"There is no folder {folder} ({name} images).",
                expected="a folder with one folder of images a class",
                fix="correct the path; `mslab data make` draws the demo data, datasets/README.md tells of others",
            )
    root = Path(train)
    if len(folders) == 1:
        inside = {name: root / name for name in SPLITS if (root / name).is_dir()}
        folders = inside if inside and not _holds_images(root) else {"": root}
    else:
        root = Path(os.path.commonpath([folder.absolute() for folder in folders.values()]))
        root = Path(os.path.relpath(root)) if root.is_relative_to(Path.cwd()) else root
    splits = {name: _scan(name, folder) for name, folder in folders.items()}
    _load_all(list(splits.values()), progress)
    report = DatasetReport(root, splits, sorted({c for s in splits.values() for c in s.classes}), [], "")
    for rule in RULES:
        report.findings.extend(rule(report, class_num))
    if report.ok:
        report.fingerprint = _fingerprint(report)
    return report


# --- rules: each yields the findings of one kind ---------------------------------------------------------------------


def stray_folders(report: DatasetReport, class_num: int | None) -> Iterator[Finding]:
    for split in report.splits.values():
        for path in split.strays:
            index = sorted([*split.classes, *(stray.name for stray in split.strays)]).index(path.name)
            inside = sum(1 for _ in path.iterdir()) if os.access(path, os.R_OK) else 0
            left = "empty" if inside == 0 else f"{inside} entries"
            yield Finding(
                "stray-folder",
                "error",
                split.show(path) + "/",
                f"({left}; no class of images. MindSpore would make it class {index} and shift every label from there "
                "on by one)",
                _move(report, split),
            )


def empty_classes(report: DatasetReport, class_num: int | None) -> Iterator[Finding]:
    for split in report.splits.values():
        for name, files in split.classes.items():
            if not files:
                text = "(a folder without images; MindSpore would count it as a class and never see it)"
                yield Finding(
                    "empty-class", "error", split.show(split.root / name) + "/", text, "add images or remove it"
                )


def class_count(report: DatasetReport, class_num: int | None) -> Iterator[Finding]:
    for split in report.splits.values():
        if class_num is not None and len(split.classes) != class_num and not wrong_shape(split):
            names = ", ".join(list(split.classes)[:12]) + (", …" if len(split.classes) > 12 else "")
            text = f"has {len(split.classes)} class folders ({names}), class_num says {class_num}"
            fix = f"class_num: {len(split.classes)}, or the folder with {class_num} classes"
            yield Finding("class-count", "error", split.show(split.root), text, fix)


def class_names_differ(report: DatasetReport, class_num: int | None) -> Iterator[Finding]:
    first = next(iter(report.splits.values()))
    for split in list(report.splits.values())[1:]:
        for name in sorted(first.classes.keys() - split.classes.keys()):
            text = f"(in {first.name}, not in {split.name}; every later class would get another index there)"
            yield Finding(
                "class-missing", "error", f"{split.name}/{name}/", text, "give every split the same class folders"
            )
        for name in sorted(split.classes.keys() - first.classes.keys()):
            text = f"(in {split.name}, not in {first.name}; the network has no output for it)"
            yield Finding(
                "class-extra", "error", f"{split.name}/{name}/", text, "give every split the same class folders"
            )


def wrong_shape(split: Split) -> str:
    """What `split.root` is instead of a folder of class folders, or ""."""
    if not split.classes and any(path.suffix.lower() in SUFFIXES for path in split.loose):
        return "holds images, no class folders: it is one class, not a data set"
    inside = [name for name in split.classes if name in SPLITS]
    if len(inside) > 1 or (inside and len(split.classes) == 1):
        return f"holds the splits {', '.join(inside)}, not classes"
    return "" if split.classes else "holds no class folder"


def wrong_level(report: DatasetReport, class_num: int | None) -> Iterator[Finding]:
    for split in report.splits.values():
        if problem := wrong_shape(split):
            up = split.root.parent if problem.startswith("holds images") else split.root / "train"
            yield Finding(
                "wrong-level", "error", split.show(split.root), problem, f"give the folder above the classes: {up}?"
            )


def nested_folders(report: DatasetReport, class_num: int | None) -> Iterator[Finding]:
    for split in report.splits.values():
        for path in split.nested:
            if wrong_shape(split):
                continue  # every class would be listed; wrong-level says it once
            text = "(a folder inside a class; MindSpore stops at it in the middle of an epoch)"
            yield Finding("nested-folder", "error", split.show(path) + "/", text, _move(report, split))


def broken_images(report: DatasetReport, class_num: int | None) -> Iterator[Finding]:
    for split in report.splits.values():
        for path, (code, said) in split.broken.items():
            yield Finding(code, "error", split.show(path), f"({said})", _move(report, split))


def stray_files(report: DatasetReport, class_num: int | None) -> Iterator[Finding]:
    for split in report.splits.values():
        for path in split.left_out:
            text = "(no image; MindSpore would take it for one and fail there. Left out)"
            yield Finding("stray-file", "warning", split.show(path), text, "nothing: the kit leaves it out")
        for path in split.loose:
            text = "(beside the class folders; belongs to no class. Left out)"
            yield Finding("loose-file", "warning", split.show(path), text, "nothing: the kit leaves it out")


RULES = [
    stray_folders,
    empty_classes,
    wrong_level,
    class_count,
    class_names_differ,
    nested_folders,
    broken_images,
    stray_files,
]


# --- moving what is wrong aside --------------------------------------------------------------------------------------


def move_aside(report: DatasetReport) -> list[tuple[Path, Path]]:
    """Move stray and nested folders and broken images to SPLIT.quarantine/, never delete. Returns (from, to) pairs.

    Raises DatasetError, with nothing moved, where a class would be left without images.
    """
    moves = []
    for split in report.splits.values():
        for name, files in split.classes.items():
            if files and all(path in split.broken for path in files):
                raise DatasetError(
                    f"{split.root / name} would be left without images: none of its {len(files)} can be loaded.",
                    expected="at least one good image a class",
                    fix="replace these images, or remove the class",
                )
        home = split.root.with_name(split.root.name + ".quarantine")
        for path in [*split.strays, *split.nested, *split.broken]:
            target = home / path.relative_to(split.root)
            while target.exists():
                target = target.with_name(target.name + "_")
            moves.append((path, target))
    for source, target in moves:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, target)
    return moves


def _move(report: DatasetReport, split: Split) -> str:
    return f"mslab check {report.root} --fix    moves it to {split.root}.quarantine/"


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# --- looking ---------------------------------------------------------------------------------------------------------


def _holds_images(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in folder.iterdir() if path.is_file())


def _scan(name: str, root: Path) -> Split:
    split = Split(name, root)
    for entry in sorted(root.iterdir()):
        junk = entry.name.startswith((".", "_")) or entry.name.lower() in JUNK or _is_rank(entry.name)
        if not entry.is_dir():
            split.loose.append(entry)
        elif junk:
            split.strays.append(entry)
        else:
            images = split.classes[entry.name] = []
            for path in sorted(entry.iterdir()):
                if path.is_dir():
                    split.nested.append(path)
                elif path.suffix.lower() in SUFFIXES | OTHER_SUFFIXES and not path.name.startswith("."):
                    images.append(path)
                else:
                    split.left_out.append(path)
    return split


def _is_rank(name: str) -> bool:
    return name.startswith("rank_") and name[5:].isdigit()  # MindSpore writes graphs and summaries there


def _fingerprint(report: DatasetReport) -> str:
    digest = hashlib.sha256()
    for split in report.splits.values():
        for path in sorted(split.digests):
            digest.update(f"{split.show(path)}\0{path.stat().st_size}\0{split.digests[path]}\n".encode())
    return digest.hexdigest()


def _rows(findings: list[Finding]) -> list[tuple[str, str]]:
    """(code, path and message) rows, the first few of each code and a count of the rest."""
    rows = []
    for code in dict.fromkeys(finding.code for finding in findings):
        same = [finding for finding in findings if finding.code == code]
        rows += [(code, f"{finding.path} {finding.message}") for finding in same[:SHOWN]]
        if len(same) > SHOWN:
            rows.append((code, f"… and {len(same) - SHOWN} more"))
    return rows


# --- loading, in worker processes: a file that kills or hangs its worker is one finding, and the check goes on -------


def _load_all(splits: list[Split], progress: Callable[[int, int], None] | None) -> None:
    jobs = [(split, path) for split in splits for files in split.classes.values() for path in files]
    waiting, lock, done, stopped = iter(jobs), threading.Lock(), [0], threading.Event()

    def work() -> None:
        worker = None
        while not stopped.is_set():
            with lock:
                job = next(waiting, None)
            if job is None:
                break
            split, path = job
            worker = worker or _Worker()
            answer = worker.load(path)
            if answer is None:
                code, said = worker.why()
                worker = None
                split.broken[path] = code, said
            elif answer["code"]:
                split.broken[path] = answer["code"], answer["said"]
            else:
                split.digests[path] = answer["sha256"]
            with lock:
                done[0] += 1
                if progress:
                    progress(done[0], len(jobs))
        if worker:
            worker.close()

    count = max(1, min(cores(), len(jobs) // 8))
    with ThreadPoolExecutor(count) as pool:
        try:
            for result in [pool.submit(work) for _ in range(count)]:
                result.result()
        except BaseException:  # Ctrl-C: the threads end after the image they are at
            stopped.set()
            raise
    for split in splits:  # in the order of names, whichever worker was first
        split.broken = {path: split.broken[path] for path in sorted(split.broken)}


class _Worker:
    """A process that loads one image a line. Not multiprocessing: a student's script needs no main guard for it."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "mslab.check"]
        package = str(Path(__file__).resolve().parent.parent)
        env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env
        )
        self.timed_out = False

    def load(self, path: Path) -> dict[str, str] | None:
        """The worker's answer, or None where it died or took too long."""
        assert self.process.stdin and self.process.stdout

        def stop() -> None:
            self.timed_out = True
            self.process.kill()

        timer = threading.Timer(SECONDS, stop)
        timer.start()
        try:
            self.process.stdin.write(json.dumps(str(path)) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        return json.loads(line) if line else None

    def why(self) -> tuple[str, str]:
        code = self.process.wait()
        if self.timed_out:
            return "timeout", f"loading it took more than {SECONDS} s"
        return "crash", f"the process that loaded it died with exit code {code}"

    def close(self) -> None:
        self.process.communicate()


def _load(path: Path) -> dict[str, str]:
    """Load one image in full: {"code": "", "sha256"} or {"code", "said"}."""
    from PIL import Image, UnidentifiedImageError

    try:
        content = path.read_bytes()
    except OSError as error:
        return {"code": "permission", "said": f"cannot be read: {error.strerror}"}
    if not content:
        return {"code": "zero-byte", "said": "the file is empty"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                kind = image.format
                image.load()
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return {"code": "bomb", "said": "more pixels than Pillow takes for safe"}
    except UnidentifiedImageError:
        return {"code": "unreadable", "said": "no image that Pillow knows"}
    except Exception as error:  # Pillow's plugins raise many kinds on damaged files
        truncated = "truncated" in str(error).lower()
        return {"code": "truncated" if truncated else "unreadable", "said": f"Pillow: {error}"[:200]}
    if kind not in FORMATS:
        return {"code": "format", "said": f"{kind}: MindSpore's decoder refuses it; save it as JPEG or PNG"}
    return {"code": "", "sha256": hashlib.sha256(content).hexdigest()}


if __name__ == "__main__":  # the worker
    for request in sys.stdin:
        print(json.dumps(_load(Path(json.loads(request)))), flush=True)
