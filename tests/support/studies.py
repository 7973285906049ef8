"""Studies of a sweep, with trials in them that nobody has trained."""

from pathlib import Path

import optuna
from optuna.trial import TrialState

from mslab.config import load_settings
from mslab.experiments.sweep import ledger
from mslab.experiments.sweep.space import Knob
from mslab.experiments.sweep.study import Options

SPACE = [Knob("lr_max", low=0.01, high=0.5)]


def minimal() -> dict:
    return {"train_data": "a", "val_data": "b", "class_num": 3}


def study_in(folder: Path, space=None, name="s", place=None, sampler="random", pruner="none", **more) -> optuna.Study:
    """A study as a sweep opens it, without training."""
    space = space or [Knob("lr_max", low=0.01, high=0.5)]
    storage = ledger.open_storage(place or ledger.storage_of(None, folder))
    default = {"lr_max": 0.1, "epochs": 2} | more
    about = {"space": [str(knob) for knob in space], "fingerprint": "f", "backbone": None, "default": default}
    return ledger.open_study(storage, name, about | {"pruned_from": 2}, space, sampler, pruner, 1)


def told_of(study: optuna.Study, folder: Path, **more) -> dict:
    rows = ledger.rows(study)
    told = {"trials": rows, "best": ledger.best(rows), "default": ledger.default(rows), "status": "done"}
    told |= {"folder": str(folder), "config": {}, "config_file": "x.yaml", "overrides": ["lr_max=0.1", "epochs=3"]}
    told["settings"] = load_settings(minimal())
    return told | {"options": vars(Options()), "test_acc": {"best": 0.9, "default": 0.8}} | more


def filled(folder: Path, count: int) -> optuna.Study:
    study = study_in(folder)
    for number in range(count):
        trial, values = ledger.begin(study, SPACE)
        for key, value in {"val_acc": values["lr_max"], "epochs": 2, "seconds": 1.0, "message": ""}.items():
            trial.set_user_attr(key, value)
        pruned = number % 5 == 4
        study.tell(trial, None if pruned else values["lr_max"], TrialState.PRUNED if pruned else TrialState.COMPLETE)
    return study
