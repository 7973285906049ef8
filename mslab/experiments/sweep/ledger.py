"""What is known of a sweep's trials, in Optuna's storage: who trains which, what came of it, what is to be done again.

A trial that a dead worker leaves is marked as failed, and a copy of it waits to be taken up (`again`). The copy knows
by `of` which one it stands for and by `retries` how often; both have the same `trial`, the number that people see and
the run's folder has.
"""

import os
import re
import socket
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from mslab.errors import ConfigError
from mslab.experiments.sweep.space import Knob, grid, label

optuna.logging.set_verbosity(optuna.logging.WARNING)
HEARTBEAT, GRACE = 30, 180  # seconds: between two signs of life, and after the last one, until a trial counts as lost
RETRIES = 3  # times that a trial is taken up again
HOST = socket.gethostname()
PLACES = ("train_data", "val_data", "device", "data_workers", "cache", "max_device_memory")  # each machine has its own


@contextmanager
def unwarned() -> Iterator[None]:
    """Without Optuna's warnings that heartbeats are experimental, and meant for another loop than ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


# --- opening ---------------------------------------------------------------------------------------------------------


def storage_of(wanted: str | None, folder: Path) -> str:
    """--storage as it is kept: a URL, or a file that ends in .log. Raises ConfigError."""
    if wanted is None:
        return f"sqlite:///{(folder / 'sweep.db').resolve()}"
    if wanted == "journal":
        return str((folder / "sweep.log").resolve())
    if "://" in wanted:
        return wanted
    if Path(wanted).suffix == ".log":
        return str(Path(wanted).resolve())
    if Path(wanted).suffix in (".db", ".sqlite", ".sqlite3"):
        return f"sqlite:///{Path(wanted).resolve()}"
    raise ConfigError(
        f"--storage {wanted} is no storage.",
        expected="a database's URL, such as postgresql://user@host/name, a file .db (SQLite) or .log (a journal)",
        fix="leave it out: SQLite in the sweep's folder; or --storage journal, a journal there",
    )


def open_storage(place: str) -> BaseStorage:
    """The storage at a place that storage_of gave. Raises ConfigError where it cannot be opened."""
    try:
        with unwarned():
            if "://" not in place:
                Path(place).parent.mkdir(parents=True, exist_ok=True)
                return JournalStorage(JournalFileBackend(place))
            if match := re.fullmatch(r"sqlite:///(.+)", place):
                Path(match[1]).parent.mkdir(parents=True, exist_ok=True)
            ways: dict[str, Any] = {"heartbeat_interval": HEARTBEAT, "grace_period": GRACE}
            ways["heartbeat_stale_trial_callback"] = after_silence
            try:
                return RDBStorage(place, **ways)
            except Exception as error:
                if not re.search("already exists|UNIQUE|[Dd]uplicate", str(error)):
                    raise
                time.sleep(1)  # another machine has just made the tables
                return RDBStorage(place, **ways)
    except Exception as error:  # SQLAlchemy's, a driver's, the disk's: all say that it cannot be opened
        told = str(error).replace(place, hidden(place)).splitlines()
        raise ConfigError(
            f"The storage {hidden(place)} cannot be opened: {told[0][:200] if told else type(error).__name__}",
            expected="a database that is there and lets you in, and its driver (pip install psycopg2-binary, pymysql)",
            fix="correct --storage, or leave it out: SQLite in the sweep's folder",
        ) from None


def hidden(place: str) -> str:
    """The same without the password, to be shown and kept."""
    return re.sub(r"(://[^:/@]*:)[^@]*@", r"\1***@", place)


def open_study(
    storage: BaseStorage,
    name: str,
    about: Mapping[str, Any],
    space: Sequence[Knob],
    sampler: str,
    pruner: str,
    seed: int,
) -> optuna.Study:
    """The study of this name, begun with the config's own values as its first trial, or joined as it is.

    `about` is what all its machines have to agree in. Raises ConfigError where they do not.
    """
    fresh = True
    try:
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize")
    except optuna.exceptions.DuplicatedStudyError:
        study, fresh = optuna.load_study(storage=storage, study_name=name), False
    with unwarned():
        study.sampler = sampler_of(sampler, seed if fresh else joined(seed, study))
        warmup = int(about["pruned_from"])
        study.pruner = (
            optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=warmup)
            if pruner == "median"
            else optuna.pruners.NopPruner()
        )
    if not fresh:
        agree(study, name, about)
        return study
    study.set_user_attr("mslab", dict(about))
    own = {knob.name: about["default"][knob.name] for knob in space}
    inside = all(knob.holds(own[knob.name]) for knob in space)
    params = {key: label(value) for key, value in own.items()} if inside else {}
    study.enqueue_trial(params, user_attrs={"default": True, "values": own, "outside": not inside})
    if sampler == "grid":
        points = [point for point in grid(list(space)) if point != own]
        # in an order of chance, so that a sweep that ends early has looked everywhere
        for number in np.random.default_rng(seed).permutation(len(points)):
            study.enqueue_trial({key: label(value) for key, value in points[number].items()})
    return study


def sampler_of(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name == "tpe":  # in groups: the default trial may have no parameters, where it is outside of the space
        return optuna.samplers.TPESampler(
            seed=seed, multivariate=True, group=True, constant_liar=True, warn_independent_sampling=False
        )
    return optuna.samplers.RandomSampler(seed=seed)


def joined(seed: int, study: optuna.Study) -> int:
    """A seed for a sweep that goes on: the old one would draw the old values again, and so would another machine."""
    return zlib.crc32(f"{seed} {len(study.trials)} {HOST}".encode())


def agree(study: optuna.Study, name: str, about: Mapping[str, Any]) -> None:
    for _ in range(15):  # whoever has just begun it needs a moment to say what it is
        before = study.user_attrs.get("mslab")
        if before is not None or study.get_trials(deepcopy=False):
            break
        time.sleep(0.2)
    if before is None:
        raise ConfigError(
            f"The study {name} is there already, and not of mslab sweep.",
            expected="a name of its own for this sweep",
            fix="--name ANOTHER",
        )
    rows = []
    for key, what in (("space", "the space"), ("fingerprint", "the images"), ("backbone", "the backbone")):
        if before[key] != about[key]:
            rows.append((what, f"{shorten(before[key])} there, {shorten(about[key])} here"))
    for key in sorted({*before["default"], *about["default"]} - {*PLACES}):
        if before["default"].get(key) != about["default"].get(key):
            rows.append((key, f"{before['default'].get(key)} there, {about['default'].get(key)} here"))
    if rows:
        raise ConfigError(
            f"The study {name} was begun otherwise; its trials and these would not compare.",
            details=rows,
            expected="the same config, space, images and backbone on every machine and after every stop",
            fix="--name ANOTHER, or what it was begun with",
        )


def shorten(value: Any) -> str:
    text = "; ".join(value) if isinstance(value, list) else str(value)
    return text if len(text) < 100 else f"{text[:99]}…"


# --- trials ----------------------------------------------------------------------------------------------------------


def after_silence(study: optuna.Study, trial: FrozenTrial) -> None:
    """What Optuna calls when a trial has given no sign of life for too long, and was marked as failed."""
    again(study, trial, counted=True)


def again(study: optuna.Study, trial: FrozenTrial, counted: bool) -> bool:
    """Let a copy of a failed trial wait to be taken up; False where that was done often enough.

    `counted`: its worker died; a stop on purpose does not count.
    """
    attrs = dict(trial.user_attrs)
    attrs |= {"of": trial.number, "retries": attrs.get("retries", 0) + counted}
    attrs.pop("owner", None)
    if attrs["retries"] > RETRIES:
        return False
    study.add_trial(
        optuna.create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs=attrs,
            system_attrs=trial.system_attrs,
        )
    )
    return True


def give_back(study: optuna.Study, number: int, why: str, counted: bool) -> bool:
    """Mark a running trial as failed and let it be taken up; False where it was too often, which ends it."""
    trial = frozen(study, number)
    if trial.user_attrs.get("retries", 0) + counted > RETRIES:
        trial_of(study, number).set_user_attr("message", why)
    study.tell(number, state=TrialState.FAIL, skip_if_finished=True)
    return again(study, trial, counted)


def frozen(study: optuna.Study, number: int) -> FrozenTrial:
    return study.get_trials(deepcopy=False)[number]


def trial_of(study: optuna.Study, number: int) -> optuna.Trial:
    return optuna.Trial(study, frozen(study, number)._trial_id)


def shown(trial: FrozenTrial) -> int:
    """The number that people see; of a trial that nobody has begun, one that sorts it right."""
    return int(trial.user_attrs.get("trial", trial.number))


def current(study: optuna.Study) -> list[FrozenTrial]:
    """The trials without those that a later one stands for, by number."""
    trials = study.get_trials(deepcopy=False)
    gone = {trial.user_attrs["of"] for trial in trials if "of" in trial.user_attrs}
    return sorted((t for t in trials if t.number not in gone), key=shown)


def taken(study: optuna.Study) -> int:
    """How many trials are finished or being trained, anywhere."""
    return sum(trial.state != TrialState.WAITING for trial in current(study))


def waiting(study: optuna.Study) -> int:
    return sum(trial.state == TrialState.WAITING for trial in current(study))


def begin(study: optuna.Study, space: Sequence[Knob]) -> tuple[optuna.Trial, dict[str, Any]]:
    """(the next trial, its values): one that waits, else a new one."""
    with unwarned():
        trial = study.ask()
        attrs = trial.user_attrs
        outside = attrs.get("outside", False)
        values = attrs["values"] if outside else {knob.name: knob.suggest(trial) for knob in space}
    if "trial" not in attrs:  # copies that stand for others are not counted
        before = study.get_trials(deepcopy=False)[: trial.number]
        trial.set_user_attr("trial", sum("of" not in other.user_attrs for other in before))
    trial.set_user_attr("values", values)
    trial.set_user_attr("owner", {"host": HOST, "pid": os.getpid(), "born": born(os.getpid())})
    beat(study, trial)
    return trial, values


def beat(study: optuna.Study, trial: optuna.Trial) -> None:
    """A sign of life, where the storage keeps them."""
    if watched(study):
        study._storage.record_heartbeat(trial._trial_id)  # type: ignore[attr-defined]


def watched(study: optuna.Study) -> bool:
    """Whether the storage keeps signs of life: a database does, a journal does not."""
    return hasattr(study._storage, "record_heartbeat")


def lost(study: optuna.Study) -> list[int]:
    """Give back what nobody trains any more. Returns those trials' numbers.

    On this machine: running trials of a process that is gone. On others: those without a sign of life.
    """
    before = {trial.number for trial in current(study) if trial.state == TrialState.RUNNING}
    for trial in current(study):
        owner = trial.user_attrs.get("owner")
        if owner is None:  # stopped in the moment between
            gone = trial.datetime_start and (datetime.now() - trial.datetime_start).total_seconds() > GRACE
        else:
            gone = owner["host"] == HOST and born(owner["pid"]) != owner["born"]
        if trial.state == TrialState.RUNNING and gone:
            give_back(study, trial.number, "the process that ran it is gone", counted=True)
    if watched(study):
        with unwarned():
            optuna.storages.fail_stale_trials(study)
    trials = study.get_trials(deepcopy=False)
    return [shown(trials[number]) for number in sorted(before) if trials[number].state == TrialState.FAIL]


def born(pid: int) -> str:
    """When a process began, in ticks since the machine did; "" where there is none. A number alone is used again."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def elsewhere(study: optuna.Study) -> int:
    """Trials that other processes train and that are noticed if they vanish."""
    owners = [t.user_attrs.get("owner") for t in current(study) if t.state == TrialState.RUNNING]
    return sum(1 for o in owners if o and o["pid"] != os.getpid() and (watched(study) or o["host"] == HOST))


# --- results ---------------------------------------------------------------------------------------------------------

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


def rows(study: optuna.Study) -> list[dict[str, Any]]:
    """A row a trial, by number: values, what came of it, where its run is. Of a grid, only what was begun."""
    return [row_of(trial) for trial in current(study) if "trial" in trial.user_attrs]


def row_of(trial: FrozenTrial) -> dict[str, Any]:
    attrs = trial.user_attrs
    message = attrs.get("message", "")
    if trial.state == TrialState.FAIL and not message:
        message = f"its worker died {attrs.get('retries', 0) + 1} times"
    return {
        "trial": attrs["trial"],
        "state": STATES[trial.state],
        "default": bool(attrs.get("default")),
        "values": attrs["values"],
        "val_acc": attrs.get("val_acc"),
        "best_epoch": attrs.get("best_epoch"),
        "epochs": attrs.get("epochs", 0),
        "seconds": attrs.get("seconds"),
        "run": attrs.get("run"),
        "host": attrs.get("owner", {}).get("host"),
        "retries": attrs.get("retries", 0),
        "message": message,
    }


def best(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The completed trial with the highest val_acc, the earliest on ties."""
    done = [row for row in rows if row["state"] == "complete"]
    return dict(max(done, key=lambda row: (row["val_acc"], -row["trial"]))) if done else None


def default(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The trial of the config's own values."""
    return next((dict(row) for row in rows if row["default"]), None)
