"""The run folder: all files of a run, written so that a run can be resumed after a kill at any moment."""

import contextlib
import csv
import io
import itertools
import logging
import math
import shlex
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from mslab import checkpoint, files
from mslab.check import DatasetReport
from mslab.config import Settings, dump_config, load_settings
from mslab.errors import MslabError, RunError, explain
from mslab.escaping import command, escape_control
from mslab.runs import manifest
from mslab.runtime import console, signals, versions

log = logging.getLogger("mslab")
TEXTS = ("config.yaml", "manifest.json", "history.csv", "steps.csv", "images.csv", "eval.json", "train.log")
MAX_EPOCHS = 100_000  # of a history that is read
COLUMNS = ["epoch", "step", "lr", "train_loss", "train_acc", "val_loss", "val_acc", "images_per_s", "seconds"]


class RunFolder:
    """The folder of one run, with its settings, its manifest, and its history: the rows of history.csv.

    Of several workers only the first `writes`; the others read the folder and change nothing.
    """

    def __init__(self, path: Path, settings: Settings, manifest: dict[str, Any], writes: bool = True) -> None:
        self.path, self.settings, self.manifest, self.writes = path, settings, manifest, writes
        self.history: list[dict[str, Any]] = []
        self.notes: list[str] = []  # messages to log at the start of training
        self.paused = False  # stopped by max_training_time, to be resumed
        self.should_stop: Callable[[list[dict[str, Any]]], str] = lambda rows: (
            ""
        )  # after each epoch: reason to stop, or ""
        self.device = ""  # of the training, once it is chosen
        self.info: dict[str, Any] = {}  # the `mslab` entry of this run's checkpoints

    @classmethod
    def create(
        cls,
        name: str,
        settings: Settings,
        report: DatasetReport,
        kind: str = "train",
        parent: dict[str, Any] | None = None,
        epoch_images: int | None = None,
        workers: int = 1,
    ) -> "RunFolder":
        """Create a folder under runs/ with config.yaml and manifest.json. `kind`: train, transfer or incremental.

        The settings have to be resolved; they are written unchanged.
        """
        path = fresh_folder(name)
        (path / "checkpoints").mkdir()
        content = {
            "schema": manifest.SCHEMA,
            "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
            "kind": kind,
            "versions": versions.versions(),
            "git": git_state(),
            "code": manifest.code(),
            "environment": manifest.environment(),
            "determinism": None,
            "device": None,
            "seed": settings.seed,
            "data": {
                "fingerprint": report.fingerprint,
                "counts": report.counts,
                "skip_check": report.skip_content,  # true if images were not compared with each other
                "classes": manifest.class_digests(report),
                "ignored": list(report.ignored),
                "follow_links": report.follow_links,
            },
            "class_names": report.class_names,
            "parent": parent,
            "reproduces": None,  # the run that this one repeats
            "epoch_images": epoch_images,  # training images per epoch, if not exactly all of them
            "workers": workers,  # batch_size is per worker; a resume with another number preserves the product
            "start": _now(),
            "end": None,
            "resumed": [],
            "status": "running",
            "exit_status": None,
            "ended_by": None,  # reason why the run stopped before its last epoch
            "rollbacks": [],  # epochs that were repeated at a tenth of the rate (on_nan: rollback)
            "warnings": [],  # of the monitor during training, each once
            "metrics": {},
            "artifacts": {},
        }
        run = cls(path, settings, content)
        run.write_settings()
        files.write_text(path / "images.csv", manifest.images_csv(report))
        run.write_manifest()
        return run

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """Read a run folder to continue it, and delete temporary files that a kill has left. Raises RunError."""
        run = cls.read(path)
        for name in ("checkpoints", "tensorboard", "workers"):
            if (run.path / name).is_symlink():
                raise RunError(
                    f"{run.path / name} is a link: what the run writes would go to {(run.path / name).readlink()}.",
                    expected="a folder",
                    fix="put the folder itself there; to keep runs on another disk, make runs/ the link",
                )
        for leftover in [*run.path.glob(".*.tmp"), *run.path.glob("checkpoints/.*.tmp")]:
            if files.TEMPORARY.fullmatch(leftover.name) and files.kind_of(leftover) == "a file":
                leftover.unlink()
        return run

    @classmethod
    def read(cls, path: str | Path) -> "RunFolder":
        """Read a run folder without changing it, even while a run writes it. Raises RunError if it is not one."""
        path = Path(path)
        kinds = {name: files.kind_of(path / name, links=True) for name in TEXTS}
        if rows := [(name, f"is {kind}") for name, kind in kinds.items() if kind not in ("", "a file")]:
            raise RunError(f"{path} is not as a run leaves it.", details=rows, expected="files", fix="restore them")
        for name in ("config.yaml", "manifest.json"):
            if not kinds[name]:
                raise RunError(
                    f"{path} has no {name}." if path.is_dir() else f"There is no folder {path}.",
                    expected="a run folder, as mslab train creates it under runs/",
                    fix=manifest.one_of_the_runs(),
                )
        run = cls(path, load_settings(path / "config.yaml", notes=False), manifest.load(path))
        run.history = read_history(path / "history.csv")
        return run

    def own_files(self, names: Iterable[str]) -> dict[str, files.Below]:
        """Return name -> file for those of these files that the folder contains, to pack them.

        Raises RunError for links and the like, with which someone else could have any file of this machine packed.
        """
        kinds, rows = {}, []
        for name in names:
            places = accumulate(name.split("/"), "{}/{}".format)  # checkpoints, checkpoints/best.ckpt
            *above, kinds[name] = (files.kind_of(self.path / place) for place in places)
            rows += [(name, f"is {kinds[name]}")] * (kinds[name] not in ("", "a file"))
            rows += [(name, f"is in {kind}") for kind in above if kind not in ("", "a folder")]
        if rows:
            raise RunError(
                f"{self.path} contains what a run does not write.",
                details=rows,
                expected="files and folders; a link could stand for any file of this machine",
                fix="put the files themselves there; nothing was written",
            )
        return {name: files.Below(self.path, name) for name, kind in kinds.items() if kind}

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def epochs_done(self) -> int:
        return len(self.history)

    @property
    def finished(self) -> bool:
        ended = self.manifest["ended_by"] or self.epochs_done >= self.settings.epochs
        return bool(ended) and self.manifest["status"] == "done"

    @property
    def best(self) -> dict[str, Any] | None:
        """The row with the highest val_acc, the earliest on ties; None if no epoch was evaluated."""
        rows = [row for row in self.history if not math.isnan(row["val_acc"])]
        return max(rows, key=lambda row: (row["val_acc"], -row["epoch"]), default=None)

    def record_epoch(self, row: dict[str, Any], figures: Mapping[str, Any] | None, network: Any) -> None:
        """Add an epoch's row, with its figures if it was evaluated, and save the best epochs' checkpoints."""
        row |= {
            "val_loss": figures["loss"] if figures else math.nan,
            "val_acc": figures["accuracy"] if figures else math.nan,
        }
        row.update(
            {key: float(f"{value:.6g}") for key, value in row.items() if isinstance(value, float)}
        )  # as in the file
        self.history.append(row)
        if not self.writes or not figures:
            return
        if self.best is row:
            checkpoint.save(list(network.get_parameters()), self.checkpoints / "best.ckpt", self.info)
            backbone = {key: value for key, value in self.info.items() if key != "class_names"}
            checkpoint.save(list(network.backbone.get_parameters()), self.checkpoints / "best_backbone.ckpt", backbone)
            source = {"data": self.settings.val_data, "checkpoint": "checkpoints/best.ckpt"}
            self.write_json("eval.json", source | dict(figures))
        self._save_top(row, network)

    def record_device(self, device: str) -> None:
        """Record the device that was started and, for a resume, the environment if it changed."""
        initial = self.manifest["environment"]
        if self.epochs_done:
            present = manifest.environment(device)
            resume = {
                "epoch": self.epochs_done,
                "start": _now(),
                "environment": None if present == initial else present,
            }
            self.manifest["resumed"].append(resume)
        else:
            initial |= {"device": device, "driver": manifest.driver(device)}
        self.manifest["device"] = device
        self.manifest["determinism"] = manifest.determinism(device, self.settings.deterministic)
        self.write_manifest()

    def commit(self, state: Mapping[str, Any] | None, losses: Sequence[float] = ()) -> None:
        """Write the epoch's rows, then last.ckpt with `state`, which completes the epoch; None skips last.ckpt."""
        if not self.writes:
            return
        self.write_steps(losses)
        self.write_history()
        if state:
            tensors = {name: parameter.asnumpy() for name, parameter in state.items()}
            checkpoint.save_arrays(tensors, self.checkpoints / "last.ckpt", self.info | {"epoch": self.epochs_done})

    def warn(self, code: str, text: str) -> None:
        """Log a warning and record it in the manifest."""
        log.info(f"warning ({code}): {text}")  # docs/controls.md explains the code
        self.manifest["warnings"].append({"code": code, "epoch": self.epochs_done, "text": text})
        self.write_manifest()

    def _save_top(self, row: dict[str, Any], network: Any) -> None:
        """Save the epoch if it is among the max_to_keep best, and delete checkpoints that no longer are."""
        evaluated = [r for r in self.history if not math.isnan(r["val_acc"])]
        ranked = sorted(evaluated, key=lambda r: (-r["val_acc"], r["epoch"]))[: self.settings.max_to_keep]
        if row in ranked:
            checkpoint.save(
                list(network.get_parameters()), self.checkpoints / f"epoch-{row['epoch']:04}.ckpt", self.info
            )
        retained = {f"epoch-{r['epoch']:04}.ckpt" for r in ranked}
        for path in self.checkpoints.glob("epoch-*.ckpt"):
            if path.name not in retained:
                path.unlink()

    def write_settings(self) -> None:
        files.write_text(self.path / "config.yaml", dump_config(self.settings))

    def write_history(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {key: ("" if math.isnan(v) else f"{v:.6g}") if isinstance(v, float) else v for key, v in row.items()}
            for row in self.history
        )
        files.write_text(self.path / "history.csv", text.getvalue())

    def write_steps(self, losses: Sequence[float]) -> None:
        """Write steps.csv: the loss of each step so far, with all digits that a float32 has."""
        file, last = self.path / "steps.csv", self.history[-1]["step"]
        first = last - len(losses)
        rows = files.read_text(file).splitlines()[1:] if file.is_file() else []
        rows = [line for line in rows if int(line.partition(",")[0]) <= first]  # steps of a killed epoch are repeated
        new = [f"{first + number},{np.float32(loss)!s}" for number, loss in enumerate(losses, 1)]
        files.write_text(file, "\n".join(["step,loss", *rows, *new]) + "\n")

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        if self.writes:
            files.write_text(self.path / name, files.json_text(content))

    def write_manifest(self) -> None:
        self.write_json("manifest.json", self.manifest)

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """Write train.log during the block, and record in the manifest how the run ended, also after an error."""
        if not self.writes:
            yield
            return
        file = self.path / "train.log"
        stream = open_log(file)
        handler = logging.StreamHandler(stream)
        handler.setFormatter(console.EscapedFormatter("%(asctime)s %(message)s"))
        with contextlib.suppress(OSError, ImportError):  # some disks and systems have no locks
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_SH)  # until the process ends; mslab watch checks it
        console.redirect_stderr(file)
        log.addHandler(handler)
        self.manifest |= {"status": "running", "exit_status": None, "end": None}
        self.write_manifest()
        for note in self.notes:
            log.info(note, extra=console.ONCE)
        try:
            yield
        except KeyboardInterrupt:
            self.finalize("interrupted", 130)
            raise signals.Interrupted(f"--resume RUN continues it: {command('train', '--resume', self.path)}") from None
        except BaseException as error:
            with contextlib.suppress(OSError, MslabError):  # a full disk, of which `error` speaks, too
                stream.write(escape_control("".join(traceback.format_exception(error))))
                self.finalize("failed", 1)
            better = explain(error, str(file))
            if better is None or better is error:
                raise
            raise better from error
        else:
            self.finalize("paused" if self.paused else "done", 0)
        finally:
            log.removeHandler(handler)
            with contextlib.suppress(OSError):  # what a full disk does not take
                handler.close()
                stream.close()

    def finalize(self, status: str, code: int) -> None:
        """Record how the run ended, and the sha256 of its files."""
        names = ("config.yaml", "images.csv", "steps.csv", "history.csv", "eval.json")
        paths = [*sorted(self.checkpoints.glob("*.ckpt")), *(self.path / name for name in names)]
        artifacts = {p.relative_to(self.path).as_posix(): files.sha256(p) for p in paths if p.is_file()}
        best = self.best
        if best:
            figures = {"best_epoch": best["epoch"], "val_acc": best["val_acc"], "val_loss": best["val_loss"]}
            self.manifest["metrics"] = figures | {"linear_acc": self.manifest["metrics"].get("linear_acc")}
        self.manifest |= {"end": _now(), "status": status, "exit_status": code, "artifacts": artifacts}
        self.write_manifest()


def open_log(file: Path) -> TextIO:
    """Open train.log to append lines. Raises RunError."""
    try:
        return io.TextIOWrapper(files.open_regular(file, "ab"), "utf-8", "backslashreplace", line_buffering=True)
    except OSError as error:
        raise RunError(
            f"{file} cannot be written: {'it is a link' if file.is_symlink() else error.strerror or error}.",
            expected="a regular file, or none",
            fix="move it away, and copy its content back if it is needed",
        ) from None


def fresh_folder(name: str) -> Path:
    """Create runs/NAME-YYYYMMDD-HHMMSS/; a second one in the same second gets -2. Raises RunError if that fails."""
    stem, number = f"{name}-{datetime.now():%Y%m%d-%H%M%S}", 1
    while True:
        path = Path("runs") / (stem if number == 1 else f"{stem}-{number}")
        try:
            path.mkdir(parents=True)
            return path
        except FileExistsError:
            number += 1
        except OSError as error:
            raise RunError(
                f"{path} cannot be created: {error.strerror}.",
                expected="a writable folder",
                fix="cd to a writable folder",
            ) from None


def read_history(path: Path) -> list[dict[str, Any]]:
    """Read history.csv; an epoch without evaluation has NaN. [] without a file. Raises RunError."""
    if not path.is_file():
        return []
    try:
        rows = itertools.islice(csv.DictReader(files.read_lines(path)), MAX_EPOCHS + 1)
        history = [
            {key: int(row[key][:20]) if key in ("epoch", "step") else float(row[key] or "nan") for key in COLUMNS}
            for row in rows
        ]
        if len(history) > MAX_EPOCHS or any(not 0 <= row["epoch"] <= MAX_EPOCHS for row in history):
            raise ValueError(f"more than {MAX_EPOCHS:,} epochs")
        return history
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:
        raise RunError(
            f"{path} cannot be read: {repr(error)[:200]}.",
            expected=f"the columns {', '.join(COLUMNS)}, with a number in each",
            fix="restore the file that mslab wrote",
        ) from None


def git_state() -> dict[str, Any] | None:
    """Return commit and uncommitted changes of the running mslab; None if it is not a git checkout."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parents[1]), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # an installed mslab may lie inside some other repository
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--", "."))}
    except (OSError, subprocess.SubprocessError):
        return None


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
