"""The study in Optuna's storage, and its trials.

Optuna records heartbeats, marks the trial of a silent machine as failed and queues a copy of it
(RetryHeartbeatStaleTrialCallback). A copy has a number of its own; users see each trial once, under the number of its
first try among the first tries: that is its index in last_tries().
"""

import logging
import math
import os
import re
import socket
import time
import warnings
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from mslab.config import Settings
from mslab.errors import ConfigError
from mslab.experiments.sweep.sampling import LikeMedianPruner, SpacePoints, UntriedSampler
from mslab.experiments.sweep.space import Space, contains, decode, describe, encode, grid, suggest
from mslab.files import kind_of
from mslab.runs import ranking

log = logging.getLogger("mslab")
optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=ExperimentalWarning)  # heartbeats, retries and grouped TPE count as such
HEARTBEAT, GRACE = 30, 180  # seconds between two heartbeats; seconds without one after which a trial counts as lost
RETRIES = 3
EQUAL, BY_VALUES = "equal_to", "failed_by_values"  # attributes of trials: one not trained, one that fails again
WORST = 0.0  # accuracy that is told of a trial which failed by its values: the sampler avoids its neighbours
HOST = socket.gethostname()
LOCAL = {
    "train_data",
    "val_data",
    "device",
    "data_workers",
    "cache",
    "max_device_memory",
}  # may differ between machines


# --- storage and study -----------------------------------------------------------------------------------------------


def storage_url(option: str | None, folder: Path) -> str:
    """--storage as a database's URL, or the path of a journal (.log). Raises ConfigError."""
    file = {None: folder / "sweep.db", "journal": folder / "sweep.log"}.get(option, Path(option or ""))
    if "://" in str(option):
        return str(option)
    for path in (file, *(file.with_name(f"{file.name}{end}") for end in ("-journal", "-wal", "-shm"))):
        if kind_of(path) not in ("", "a file"):
            raise ConfigError(
                f"The storage {path} is {kind_of(path)}.",
                expected="a regular file, or none; through a link another file would be written",
                fix="--storage with the file itself",
            )
    if file.suffix == ".log":
        return str(file.resolve())
    if file.suffix in (".db", ".sqlite", ".sqlite3"):
        return f"sqlite:///{file.resolve()}"
    raise ConfigError(
        f"--storage {option} is not a storage.",
        expected="a database's URL, such as postgresql://user@host/name, a file .db (SQLite) or .log (a journal)",
        fix="leave it out: SQLite in the sweep's folder; or --storage journal, a journal there",
    )


def open_storage(url: str) -> BaseStorage:
    """The storage at a URL or path from storage_url. Raises ConfigError if it cannot be opened."""
    file = url.removeprefix("sqlite:///")
    try:
        if "://" not in file:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
        if "://" not in url:
            return JournalStorage(JournalFileBackend(url))
        options: dict[str, Any] = {"heartbeat_interval": HEARTBEAT, "grace_period": GRACE}
        options["heartbeat_stale_trial_callback"] = retry
        if url != file:
            options["engine_kwargs"] = {"connect_args": {"timeout": 60}}  # seconds: workers write in turn
        try:
            return RDBStorage(url, **options)
        except Exception as error:
            if not re.search("already exists|UNIQUE|[Dd]uplicate", str(error)):
                raise
            time.sleep(1)  # another machine has just made the tables
            return RDBStorage(url, **options)
    except Exception as error:  # from SQLAlchemy, a driver or the disk
        reason = [*str(error).replace(url, hide_password(url)).splitlines(), type(error).__name__][0][:200]
        raise ConfigError(
            f"The storage {hide_password(url)} cannot be opened: {reason}",
            expected="a database that accepts this user, and its driver (pip install psycopg2-binary, or pymysql)",
            fix="correct --storage, or leave it out: SQLite in the sweep's folder",
        ) from None


def hide_password(url: str) -> str:
    return re.sub(r"(://[^:/@]*:)[^@]*@", r"\1***@", url)


def open_study(
    storage: BaseStorage, name: str, data: Mapping[str, Any], settings: Settings, space: Space, options: Any
) -> optuna.Study:
    """Begin the study of this name with the config's own values as its first trial, or join it.

    `data` identifies images and backbone, and has the number of training images ("count"); `options` are SweepOptions.
    Raises ConfigError.
    """
    content = settings.model_dump(mode="json")
    points = SpacePoints(settings, space, data.get("count", 0))
    about = {"the space": [describe(*item) for item in space.items()], **data}
    about.pop("count", None)
    about |= {key: value for key, value in content.items() if key not in LOCAL}
    fresh, seed = True, options.seed
    try:
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    except DuplicatedStudyError:
        study = optuna.load_study(storage=storage, study_name=name)
        fresh, seed = False, zlib.crc32(f"{seed} {len(study.trials)} {HOST}".encode())  # draws other values than before
    if options.sampler == "tpe":  # in groups: the first trial has no parameters if it is outside of the space
        sampler: Any = optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
    else:
        sampler = optuna.samplers.RandomSampler(seed=seed)
    study.sampler = UntriedSampler(sampler, points, seed)
    study.pruner = LikeMedianPruner() if options.pruner == "median" else optuna.pruners.NopPruner()
    if not fresh:
        check_same(study, about)
        return study
    study.set_user_attr("mslab", about)
    own = {name: content[name] for name in space}
    inside = contains(space, own)
    params = {name: encode(value) for name, value in own.items()} if inside else {}
    study.enqueue_trial(params, user_attrs={"default": True, "outside": None if inside else own})
    if options.sampler == "grid":  # queued, since Optuna's GridSampler may give two machines the same point
        different = {points.key(own): params}
        for point in grid(space):
            different.setdefault(points.key({name: decode(value) for name, value in point.items()}), point)
        queue = list(different.values())[1:]
        for number in np.random.default_rng(seed).permutation(len(queue)):  # a sweep that ends early looks everywhere
            study.enqueue_trial(queue[number])
    return study


def check_same(study: optuna.Study, about: Mapping[str, Any]) -> None:
    """Raise ConfigError unless the study was begun with the same config, space, images and backbone."""
    for _ in range(15):  # another machine may just have created the study, and sets this a moment later
        before: dict[str, Any] = study.user_attrs.get("mslab", {})
        if before or study.get_trials(deepcopy=False):
            break
        time.sleep(0.2)
    if "the space" not in before:
        raise ConfigError(
            f"The study {study.study_name} exists already, and is not one of mslab sweep, or one of an older mslab.",
            expected="a name of its own for this sweep",
            fix="--name ANOTHER, or a new sweep",
        )
    pairs = [(key, before.get(key), about.get(key)) for key in sorted({*before, *about})]
    if rows := [(key, f"{shorten(old)} there, {shorten(new)} here") for key, old, new in pairs if old != new]:
        raise ConfigError(
            f"The study {study.study_name} was begun otherwise; its trials and these would not compare.",
            details=rows,
            expected="the same config, space, images and backbone on every machine and after every stop",
            fix="--name ANOTHER, or what it was begun with",
        )


def shorten(value: Any) -> str:
    text = "; ".join(value) if isinstance(value, list) else str(value)
    return text if len(text) < 100 else f"{text[:99]}…"


# --- trials ----------------------------------------------------------------------------------------------------------


def last_tries(study: optuna.Study) -> list[FrozenTrial]:
    """Each trial's last try; the index is the trial's number for users."""
    tries = {}
    for trial in study.get_trials(deepcopy=False):
        first = RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
        tries[trial.number if first is None else first] = trial
    return list(tries.values())


def number_of(study: optuna.Study, trial: optuna.Trial | FrozenTrial) -> int | None:
    """The number of a trial for users, or None if it has been tried again."""
    numbers = {other.number: index for index, other in enumerate(last_tries(study))}
    return numbers.get(trial.number)


def count(study: optuna.Study, waiting: bool) -> int:
    """The number of trials that wait for a worker, or else of those that are finished or running anywhere."""
    tries = [trial for trial in last_tries(study) if EQUAL not in trial.user_attrs]
    return sum((trial.state == TrialState.WAITING) == waiting for trial in tries)


def equal_to(study: optuna.Study, trial: optuna.Trial, points: SpacePoints) -> int | None:
    """The number of an earlier trial with the same point, which another machine drew at the same time; or None."""
    number, key = number_of(study, trial), points.key(trial.user_attrs["values"])
    for other, earlier in enumerate(last_tries(study)):
        if other == number:
            break
        if EQUAL not in earlier.user_attrs and key in points.taken([earlier]):
            return other
    return None


def is_failed(trial: FrozenTrial) -> bool:
    """Whether a trial failed; Optuna has it as complete, with WORST, if its values were the reason."""
    return trial.state == TrialState.FAIL or (trial.state == TrialState.COMPLETE and "failure" in trial.user_attrs)


def try_again(study: optuna.Study) -> None:
    """Queue the trials that failed for another reason than their values, such as a full disk."""
    for trial in last_tries(study):
        if is_failed(trial) and not {EQUAL, BY_VALUES} & set(trial.user_attrs):
            retry(study, study.trials[trial.number], stopped=True)


def begin(study: optuna.Study, space: Space, trial: optuna.Trial) -> dict[str, Any]:
    """The values of a trial that begins here."""
    values = trial.user_attrs.get("outside") or suggest(trial, space)
    trial.set_user_attr("values", values)
    trial.set_user_attr("owner", [HOST, os.getpid(), start_time(os.getpid())])
    return values


def retries(trial: FrozenTrial) -> int:
    """How often a trial was tried again after its worker died; stops on purpose (Ctrl-C, budget) do not count."""
    return len(RetryHeartbeatStaleTrialCallback.retry_history(trial)) - trial.user_attrs.get("stops", 0)


def retry(
    study: optuna.Study, trial: FrozenTrial, reason: str = "its machine gives no sign of life", stopped: bool = False
) -> None:
    """Queue a copy of a trial that nobody trains any more, RETRIES times at most; Optuna calls it for stale trials."""
    number, tries = number_of(study, trial), retries(trial) + 1
    if number is None:  # it has a copy: its process was killed after it had queued one
        return
    if not stopped:
        then = f"is tried again ({tries} of {RETRIES})" if tries <= RETRIES else f"failed {tries} times and is given up"
        log.info(f"trial {number}: {reason}; it {then}")
    for attribute in ("owner", "failure"):  # `trial` becomes the copy, which has neither yet
        trial.user_attrs.pop(attribute, None)
    stops = trial.user_attrs["stops"] = trial.user_attrs.get("stops", 0) + stopped
    RetryHeartbeatStaleTrialCallback(max_retry=RETRIES + stops)(study, trial)


def take_back(study: optuna.Study) -> None:
    """Queue the running trials whose process is gone: of this machine at once, of others after GRACE seconds.

    Optuna does the second, in databases; it knows no processes, and a journal has no heartbeats.
    """
    for trial in last_tries(study):
        if trial.state == TrialState.RUNNING and is_orphan(trial):
            with suppress(ValueError, UpdateFinishedTrialError):  # another process was faster
                study.tell(trial.number, state=TrialState.FAIL)
                retry(study, study.trials[trial.number], "its process is gone")
    optuna.storages.fail_stale_trials(study)


def is_orphan(trial: FrozenTrial) -> bool:
    if "owner" not in trial.user_attrs:  # killed before it set one
        return (datetime.now() - (trial.datetime_start or datetime.now())).total_seconds() > GRACE
    host, pid, start = trial.user_attrs["owner"]
    return host == HOST and start_time(pid) != start


def start_time(pid: int) -> str:
    """When a process began, in ticks since the machine did; "" if there is none. Process numbers are used again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def elsewhere(study: optuna.Study, journal: bool) -> int:
    """The number of trials that other processes train, if take_back would notice that they are gone."""
    owners = [
        t.user_attrs.get("owner", [HOST, os.getpid()]) for t in last_tries(study) if t.state == TrialState.RUNNING
    ]
    return sum(owner[1] != os.getpid() if owner[0] == HOST else not journal for owner in owners)


# --- results ---------------------------------------------------------------------------------------------------------

ENDED = ("complete", "pruned", "failed")


def rows(study: optuna.Study) -> list[dict[str, Any]]:
    """A row for each trial that was begun, by number: values, state, figures and run, as in sweep.json."""
    begun = [(n, trial) for n, trial in enumerate(last_tries(study)) if "values" in trial.user_attrs]
    return [row(number, trial) for number, trial in begun if EQUAL not in trial.user_attrs]


def row(number: int, trial: FrozenTrial) -> dict[str, Any]:
    attrs = trial.user_attrs
    figures = {"val_acc": None, "best_epoch": None, "epochs": 0, "seconds": None, "message": ""}
    figures |= attrs.get("figures", {})  # after each epoch
    failed = is_failed(trial)
    if failed:
        figures["message"] = attrs.get("failure") or f"its worker died {retries(trial) + 1} times"
    return {
        "trial": number,
        "state": "failed" if failed else trial.state.name.lower(),
        "default": bool(attrs.get("default")),
        "values": attrs["values"],
        **figures,
        "run": attrs.get("run"),
        "host": attrs.get("owner", [None])[0],
        "retries": retries(trial),
    }


def best(rows: Sequence[Mapping[str, Any]], best_by: str | None = None) -> dict[str, Any] | None:
    """The best completed trial, the earliest on ties (Optuna's best_trial may take any of them)."""
    done = [dict(row) for row in rows if row["state"] == "complete"]
    return max(done, key=lambda row: (ranking.score(row, best_by), -row["trial"]), default=None)


def objective(row: Mapping[str, Any], best_by: str | None) -> float:
    """What Optuna maximises: the measure that best_by names; of a loss e^-loss, so that WORST is below all others."""
    return math.exp(ranking.score(row, best_by)) if best_by == "loss" else ranking.score(row, best_by)


def best_by_of(study: optuna.Study) -> str | None:
    """The config's best_by, the same for all trials."""
    return study.user_attrs.get("mslab", {}).get("best_by")


def default(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The trial of the config's own values."""
    return next((dict(row) for row in rows if row["default"]), None)
