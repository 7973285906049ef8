"""The run folder: all files of a run, written so that a run can be resumed after a kill at any moment."""

import contextlib
import hashlib
import io
import logging
import math
import shlex
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any, TextIO

from mslab import checkpoint, files
from mslab.check import DatasetReport
from mslab.config import Settings, dump_config, load_settings
from mslab.errors import ConfigError, MslabError, RunError, explain
from mslab.escaping import command, escape_control
from mslab.runs import finding, lock, manifest, ranking, verifying
from mslab.runs.history import COLUMNS as COLUMNS
from mslab.runs.history import digest_of, history_text, read_steps, steps_text
from mslab.runs.history import read_history as read_history
from mslab.runtime import console, signals, versions

log = logging.getLogger("mslab")
OF_HEAD = {"class_names", "folders", "task", "options", "skeleton"}  # keys of a checkpoint's entry
TEXTS = ("config.yaml", "manifest.json", "history.csv", "steps.csv", "images.csv", "eval.json", "train.log")


class RunFolder:
    """The folder of one run, with its settings, its manifest, and its history: the rows of history.csv.

    Of several workers only the first `writes`; the others read the folder and change nothing.
    """

    def __init__(self, path: Path, settings: Settings, manifest: dict[str, Any], writes: bool = True) -> None:
        self.path, self.settings, self.manifest, self.writes = path, settings, manifest, writes
        self.best_by = settings.best_by
        self.history: list[dict[str, Any]] = []
        self.notes: list[str] = []  # messages to log at the start of training
        self.changed: dict[str, list[Any]] = {}  # settings that a resume changes: old and new value
        self.paused = False  # stopped by max_training_time, to be resumed
        self.should_stop: Callable[[list[dict[str, Any]]], str] = lambda rows: ""  # after each epoch: why stop, or ""
        self.saved = 0  # epochs that last.ckpt has
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
            "git": versions.git_state(),
            "code": manifest.code(),
            "environment": manifest.environment(),
            "determinism": None,
            "device": None,
            "seed": settings.seed,
            "settings": None,  # written with config.yaml
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
            "saved": None,  # the first last.ckpt
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
        images = manifest.images_csv(report)
        files.write_text(path / "images.csv", images)
        run.manifest["artifacts"]["images.csv"] = hashlib.sha256(images.encode()).hexdigest()
        run.write_manifest()
        return run

    @classmethod
    def open(cls, given: object) -> "RunFolder":
        """Read a run folder to continue it, and delete temporary files that a kill has left. Raises RunError."""
        run = cls.read(given)
        for name in ("checkpoints", "tensorboard", "workers"):
            if (run.path / name).is_symlink():
                raise RunError(
                    f"{run.path / name} is a link: what the run writes would go to {(run.path / name).readlink()}.",
                    expected="a folder",
                    fix="put the folder itself there; to keep runs on another disk, make runs/ the link",
                )
        with lock.held(run.path):  # those of another process are in use
            for leftover in [*run.path.glob(".*.tmp"), *run.path.glob("checkpoints/.*.tmp")]:
                if files.TEMPORARY.fullmatch(leftover.name) and files.kind_of(leftover) == "a file":
                    leftover.unlink()
        return run

    @classmethod
    def read(cls, given: object) -> "RunFolder":
        """Read a run (what find_run takes) without changing it, even while it is written. Raises RunError."""
        path = finding.find_run(given)
        kinds = {name: files.kind_of(path / name, links=True) for name in TEXTS}
        if rows := [(name, f"is {kind}") for name, kind in kinds.items() if kind not in ("", "a file")]:
            fix = manifest.lost(path, *(name for name, _ in rows))
            raise RunError(f"{path} is not as a run leaves it.", details=rows, expected="files", fix=fix)
        for name in ("config.yaml", "manifest.json"):
            if not kinds[name]:
                fix = f"restore it, or {finding.one_of_the_runs()}"
                fix = manifest.lost(path, name) if any(kinds.values()) else fix
                raise RunError(f"{path} has no {name}.", expected="a run folder, as mslab train creates it", fix=fix)
        run = cls(path, settings_of(path), manifest.load(path))
        verifying.refuse_half(path, run.manifest, run.settings)
        run.best_by = ranking.of_manifest(run.manifest, run.settings, path)
        run.history = read_history(path / "history.csv", ranking.extra(run.best_by))
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

    def __fspath__(self) -> str:
        return str(self.path)

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
        """The row of the best epoch, by ranking.py; None if no epoch was evaluated."""
        return ranking.best(self.history, self.best_by)

    def record_epoch(self, row: dict[str, Any], figures: Mapping[str, Any] | None, network: Any) -> None:
        """Add an epoch's row, with its figures if it was evaluated, and save the best epochs' checkpoints."""
        row["val_loss"] = figures["loss"] if figures else math.nan
        row["val_acc"] = figures[figures.get("measure", "accuracy")] if figures else math.nan
        row |= ranking.measures(figures, self.best_by)
        row.update({key: float(f"{value:.6g}") for key, value in row.items() if isinstance(value, float)})  # as written
        self.history.append(row)
        if not self.writes or not figures:
            return
        info = self.info | ({"temperature": fitted["temperature"]} if (fitted := figures.get("calibration")) else {})
        info |= {"thresholds": figures["tag_thresholds"]} if "tag_thresholds" in figures else {}
        if self.best is row:
            checkpoint.save(list(network.get_parameters()), self.checkpoints / "best.ckpt", info)
            file, own = self.checkpoints / "best_backbone.ckpt", self.info.keys() - OF_HEAD
            if not (self.manifest.get("features") and file.is_file()):  # with features it is frozen to the end
                checkpoint.save(list(network.backbone.get_parameters()), file, {key: self.info[key] for key in own})
            self.write_json("eval.json", self.evaluation(figures))
        self._save_top(row, network, info)

    def evaluation(self, figures: Mapping[str, Any]) -> dict[str, Any]:
        """The content of eval.json. `figures`: of best.ckpt on the validation images."""
        return dict(files.finite({"data": self.settings.val_data, "checkpoint": "checkpoints/best.ckpt", **figures}))

    def record_device(self, device: str) -> None:
        """Record the device that was started and, for a resume, the environment if it changed."""
        initial = self.manifest["environment"]
        if self.epochs_done or self.changed:
            present = manifest.environment(device)
            resume = {"epoch": self.epochs_done, "start": _now(), "changed": self.changed}
            resume["environment"] = None if present == initial or not self.epochs_done else present
            self.manifest["resumed"].append(resume)
        if not self.epochs_done and initial:
            initial |= {"device": device, "driver": manifest.driver(device)}
        self.manifest["device"] = device
        self.manifest["determinism"] = manifest.determinism(device, self.settings.deterministic)
        self.write_manifest()

    def commit(self, state: Mapping[str, Any] | None, losses: Sequence[float] = ()) -> None:
        """Write the epoch's rows, then last.ckpt with `state`, which completes the epoch; None skips last.ckpt."""
        if not self.writes:
            return
        self.write_tables(losses)
        if state:
            tensors = {name: parameter.asnumpy() for name, parameter in state.items()}
            checkpoint.save_arrays(tensors, self.checkpoints / "last.ckpt", self.info | {"epoch": self.epochs_done})
            if not self.manifest.get("saved"):  # from now on, a folder without last.ckpt has lost it
                self.manifest["saved"] = {"epoch": self.epochs_done, "history": digest_of(self.history)}
                self.write_manifest()
        self.saved = self.epochs_done if state else self.saved

    def write_tables(self, losses: Sequence[float]) -> None:
        """Write steps.csv, with the losses of the last epoch's steps, and history.csv."""
        steps = self.path / "steps.csv"
        files.write_text(steps, steps_text(read_steps(steps), self.history[-1]["step"], losses))
        files.write_text(self.path / "history.csv", history_text(self.history))

    def warn(self, code: str, text: str, shown: str = "") -> None:
        """Log a warning and record it in the manifest. `shown`: the line of the log, in the user's language."""
        log.info(shown or f"warning ({code}): {text}")  # docs/controls.md explains the code
        self.manifest["warnings"].append({"code": code, "epoch": self.epochs_done, "text": text})
        self.write_manifest()

    def _save_top(self, row: dict[str, Any], network: Any, info: Mapping[str, Any]) -> None:
        """Save the epoch if it is among the max_to_keep best, and delete checkpoints that no longer are."""
        ranked = ranking.ranked(self.history, self.best_by)[: self.settings.max_to_keep]
        if row in ranked:
            file = self.checkpoints / f"epoch-{row['epoch']:04}.ckpt"
            checkpoint.save(list(network.get_parameters()), file, info)
        retained = {f"epoch-{r['epoch']:04}.ckpt" for r in ranked}
        for path in self.checkpoints.glob("epoch-*.ckpt"):
            if path.name not in retained:
                path.unlink()

    def write_settings(self) -> None:
        """Write config.yaml, and record in the manifest, which is not written yet, what it says."""
        text = dump_config(self.settings)
        files.write_text(self.path / "config.yaml", text)
        self.manifest["settings"] = self.settings.model_dump(mode="json")
        self.manifest["artifacts"]["config.yaml"] = hashlib.sha256(text.encode()).hexdigest()

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
        handler = logging.StreamHandler(stream := open_log(file))
        handler.setFormatter(console.EscapedFormatter("%(asctime)s %(message)s"))
        with contextlib.suppress(OSError, ImportError):  # some disks and systems have no locks
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_SH)  # until the process ends; mslab watch checks it
        try:
            console.redirect_stderr(file)
            log.addHandler(handler)
            self.saved = self.epochs_done
            self.manifest |= {"status": "running", "exit_status": None, "end": None, "artifacts": self.at_start()}
            if self.epochs_done:
                self.manifest["saved"] = {"epoch": self.epochs_done, "history": digest_of(self.history)}
            self.write_manifest()
            for note in self.notes:
                log.info(note, extra=console.ONCE)
            with signals.on_stop(signals.stop_at_once):  # in a script, which SIGTERM and SIGHUP would kill
                yield
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) or signals.stopping():
                raise self.stopped() from None
            with contextlib.suppress(OSError, MslabError):  # a full disk, of which `error` speaks, too
                stream.write(escape_control("".join(traceback.format_exception(error))))
                self.finalize("failed", 1)
            better = explain(error, str(file))
            if better is None or better is error:
                raise
            raise better from error
        else:
            try:
                self.finalize("paused" if self.paused else "done", 0)
            except KeyboardInterrupt:
                raise (self.stopped() if self.manifest["end"] is None else without_report(self.path)) from None
        finally:
            log.removeHandler(handler)
            with contextlib.suppress(OSError):  # what a full disk does not take
                handler.close()
                stream.close()

    @signals.held()
    def finalize(self, status: str, code: int) -> None:
        """Record how the run ended, and the sha256 of its files; Ctrl-C waits until that is done."""
        names = ("steps.csv", "history.csv", "eval.json")
        paths = [*sorted(self.checkpoints.glob("*.ckpt")), *(self.path / name for name in names)]
        artifacts = {p.relative_to(self.path).as_posix(): files.sha256(p) for p in paths if p.is_file()}
        artifacts |= self.at_start()  # as they were then: whoever edits config.yaml meanwhile changes nothing
        best = self.best
        if best:
            others = {"linear_acc": None} | self.manifest["metrics"]
            self.manifest["metrics"] = others | ranking.metrics(best, self.best_by)
        self.manifest |= {"end": _now(), "status": status, "exit_status": code, "artifacts": artifacts}
        self.write_manifest()

    def at_start(self) -> dict[str, str]:
        """The sha256 of the files that stay as they are from the start; those of older runs had none until the end."""
        recorded = {name: self.manifest["artifacts"].get(name) for name in sorted(manifest.AT_START)}
        paths = {name: self.path / name for name in recorded}
        return {n: digest or files.sha256(paths[n]) for n, digest in recorded.items() if digest or paths[n].is_file()}

    def stopped(self) -> signals.Interrupted:
        """Record that Ctrl-C has stopped the run. Returns what to raise, which says how the run goes on."""
        while self.manifest["end"] is None:
            with contextlib.suppress(KeyboardInterrupt):  # a further one
                self.finalize("interrupted", 130)
        ends = {0: "continues it from its beginning", self.settings.epochs: "ends it: all epochs are trained"}
        after = ends.get(self.saved, f"continues it after epoch {self.saved} of {self.settings.epochs}")
        return signals.Interrupted(command("train", "--resume", self.path) + f"    {after}", self.path)


def without_report(run: str | Path) -> signals.Interrupted:
    """What to raise after Ctrl-C when a run has ended, but its report is not written."""
    return signals.Interrupted(
        f"{run} is complete but for its report: {command('report', Path(run))}    writes it", Path(run)
    )


def settings_of(run: Path) -> Settings:
    """The settings in a run's config.yaml. Raises ConfigError, which says that the file is a run's."""
    try:
        return load_settings(run / "config.yaml", notes=False)
    except ConfigError as error:
        expected, fix = "the settings with which the run began, as mslab wrote them", manifest.lost(run, "config.yaml")
        raise ConfigError(error.what, details=error.details, expected=expected, fix=fix) from None


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
                expected="a writable folder, and a name that is not too long for it",
                fix="cd to a writable folder, or choose a shorter --name",
            ) from None


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
