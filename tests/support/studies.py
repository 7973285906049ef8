"""Studies of a sweep whose trials were not trained."""

import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from mslab.config import Settings, load_settings
from mslab.experiments.sweep import trials
from mslab.experiments.sweep.space import Space
from mslab.experiments.sweep.study import SweepOptions

SPACE: Space = {"lr_max": FloatDistribution(0.01, 0.5)}
FIGURES = {"val_acc": 0.5, "best_epoch": 1, "epochs": 2, "seconds": 1.0}


def minimal() -> dict:
    return {"train_data": "a", "val_data": "b", "class_num": 3}


def study_in(folder: Path, space=SPACE, name="s", url=None, sampler="random", pruner="none", **more) -> optuna.Study:
    """A study as a sweep opens it, without training."""
    storage = trials.open_storage(url or trials.storage_url(None, folder))
    settings: Settings = load_settings(minimal() | {"lr_max": 0.1, "epochs": 2, "warmup_epochs": 0.5} | more)
    options = SweepOptions(sampler=sampler, pruner=pruner)
    return trials.open_study(storage, name, {"the images": "f"}, settings, space, options)


def begin(study: optuna.Study, space=SPACE) -> tuple[optuna.Trial, dict[str, Any]]:
    """A trial of this process, as an objective begins it, and its values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a database's heartbeats are for study.optimize
        trial = study.ask()
    return trial, trials.begin(study, space, trial)


def sweep_of(study: optuna.Study, folder: Path, **more) -> dict:
    """The content of sweep.json."""
    rows = trials.rows(study)
    sweep = {"trials": rows, "best": trials.best(rows), "default": trials.default(rows), "status": "done"}
    sweep |= {"folder": str(folder), "config": {}, "config_file": "x.yaml", "overrides": ["lr_max=0.1", "epochs=3"]}
    sweep["settings"] = load_settings(minimal()).model_dump()
    return sweep | {"options": vars(SweepOptions()), "test_acc": {"best": 0.9, "default": 0.8}} | more


def filled(folder: Path, count: int) -> optuna.Study:
    study = study_in(folder)
    for number in range(count):
        trial, values = begin(study)
        trial.set_user_attr("figures", FIGURES | {"val_acc": values["lr_max"]})
        pruned = number % 5 == 4
        study.tell(trial, None if pruned else values["lr_max"], TrialState.PRUNED if pruned else TrialState.COMPLETE)
    return study
