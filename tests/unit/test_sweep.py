"""Sweeps: what may be searched, what is stored of each trial, which trials are tried again, and the page."""

import json
import math
import os
import signal
import sqlite3
import subprocess
import sys
from types import SimpleNamespace

import optuna
import pytest
from helpers import settings
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from studies import SPACE, begin, minimal, study_in

from mslab.config import load_settings
from mslab.errors import ConfigError, RunError
from mslab.experiments import repeating
from mslab.experiments.sweep import page, pool, trials, worker
from mslab.experiments.sweep.space import contains, describe, grid, parse, read_space, suggest
from mslab.experiments.sweep.study import explicit, resume_sweep, run_sweep, seconds_of


def problems(content: dict, sampler: str = "tpe", backbone: bool = False, **more) -> dict[str, str]:
    """{setting: message about its line}."""
    config = load_settings({"train_data": "a", "val_data": "b", "class_num": 3} | more)
    with pytest.raises(ConfigError) as caught:
        parse(content, config, sampler, backbone, "space.yaml")
    text = str(caught.value)
    assert (
        text.startswith(f"space.yaml has {len(caught.value.details)} problem") and "expected" in text and "fix" in text
    )
    return dict(caught.value.details)


# --- the space -------------------------------------------------------------------------------------------------------


def test_a_space_is_ranges_steps_and_choices(tmp_path):
    (tmp_path / "s.yaml").write_text(
        "lr_max: {low: 1e-3, high: 0.1, log: true}\nlabel_smoothing: {low: 0, high: 0.2, step: 0.05}\n"
        "epochs: {low: 2, high: 8, step: 2}\noptimizer: [momentum, adamw]\ntrain_crop_size: {choices: [null, 48]}\n"
        "stages: [[[1, 8, 1]], [[1, 16, 1]]]\n"
    )
    space = read_space(tmp_path / "s.yaml", load_settings(minimal()))
    assert space == {
        "lr_max": FloatDistribution(0.001, 0.1, log=True),
        "label_smoothing": FloatDistribution(0, 0.2, step=0.05),
        "epochs": IntDistribution(2, 8, step=2),
        "optimizer": CategoricalDistribution(["momentum", "adamw"]),
        "train_crop_size": CategoricalDistribution([None, 48]),
        "stages": CategoricalDistribution(["[[1, 8, 1]]", "[[1, 16, 1]]"]),
    }
    assert [point["label_smoothing"] for point in grid({"label_smoothing": space["label_smoothing"]})] == [
        *(0, 0.05, 0.1, 0.15, 0.2)
    ]
    assert [point["epochs"] for point in grid({"epochs": space["epochs"]})] == [2, 4, 6, 8]
    assert len(grid({"epochs": space["epochs"], "optimizer": space["optimizer"]})) == 8
    for name, inside, outside in (
        ("label_smoothing", 0.15, 0.12),
        ("lr_max", 0.1, 0.2),
        ("stages", [[1, 16, 1]], [[1, 32, 1]]),
        ("epochs", 4, 5),
        ("train_crop_size", None, 32),
    ):
        part = {name: space[name]}
        assert contains(part, {name: inside}) and not contains(part, {name: outside}), name
    assert describe("lr_max", space["lr_max"]) == "lr_max: 0.001 to 0.1, log"
    assert describe("epochs", space["epochs"]) == "epochs: 2 to 8, in steps of 2"
    values = suggest(optuna.create_study().ask(), space)
    assert contains(space, values) and isinstance(values["epochs"], int) and isinstance(values["stages"], list)


def test_every_problem_of_a_space_is_reported_at_once():
    found = problems(
        {
            "lr_mx": [0.1],
            "mini_batch_size": [8],
            "lr_max": {"low": 0.1, "high": 0.001},
            "weight_decay": {"low": 0, "high": 0.1, "log": True},
            "optimizer": [],
            "flip": {"low": 0, "high": 1},
            "label_smoothing": {"low": -1, "high": 0.5},
            "color_jitter": {"low": 0, "high": 1, "step": 0.3},
            "dropout": {"low": 0.1},
            "batch_size": {"low": 2.5, "high": 8},
            "image_size": [8, "big"],
            "epochs": 5,
            "ema_decay": {"low": 0, "hig": 1},
            "mixup_alpha": {"low": 0.1, "high": 1, "log": True, "step": 0.1},
            "head_hidden": {"choices": [8], "low": 1},
            "crop_scale": [0.5, 0.5],
        }
    )
    assert (
        "did you mean 'lr_max'" in found["lr_mx"]
        and "SageMaker's name; here it is 'batch_size'" in found["mini_batch_size"]
    )
    assert (
        found["lr_max"].startswith("low: 0.1 is above high: 0.001; write low: 0.001")
        and "`low > 0` must hold" in found["weight_decay"]
    )
    assert "one or more elements" in found["optimizer"] and "is not a number; list choices instead" in found["flip"]
    assert "low: -1 must be greater than or equal to 0" in found["label_smoothing"]
    assert found["color_jitter"] == "steps of 0.3 from 0 do not meet high: 1; high: 0.9 is the last before it"
    assert found["dropout"] == "high: Field required" and "low: 2.5 must be a valid integer" in found["batch_size"]
    assert "8 must be greater than or equal to 16" in found["image_size"] and "'big' must be" in found["image_size"]
    assert "5 is one value" in found["epochs"] and found["ema_decay"].startswith("hig: the keys are low, high, step")
    assert "`step` is not supported when `log`" in found["mixup_alpha"] and "choices exclude" in found["head_hidden"]
    assert found["crop_scale"] == "a choice is listed twice" and len(found) == 16


def test_what_makes_no_sense_to_search():
    found = problems(
        {
            "seed": [1, 2],
            "train_data": ["a"],
            "class_num": [2],
            "device": ["cpu"],
            "data_workers": [1, 2],
            "momentum": [0.8],
        },
        optimizer="adam",
    )
    assert (
        "mslab repeat CONFIG --seeds 5" in found["seed"]
        and "trials on other images do not compare" in found["train_data"]
    )
    assert "set up once" in found["device"] and "changes no figure" in found["data_workers"] and "class_num" in found
    assert (
        found["momentum"]
        == "does nothing here: with optimizer: adam it is unused (it belongs to momentum); leave it out"
    )
    assert parse({"momentum": [0.8], "optimizer": ["adam", "momentum"]}, load_settings(minimal()), "tpe", False, "s")
    assert "too many; give a step" in problems({"lr_max": {"low": 0.1, "high": 0.2}}, "grid")["lr_max"]
    assert "the backbone brings its own" in problems({"stages": [[[1, 8, 1]]]}, backbone=True)["stages"]
    assert problems({}) == {"space": "it names no setting"}


def test_ranges_as_other_programs_write_them_are_answered_with_ours():
    found = problems(
        {
            "lr_max": "uniform(0.001, 0.1)",
            "optimizer": "choice(['sgd', 'adam'])",
            "weight_decay": "ContinuousParameter(0.001, 0.1)",
            "dropout": {"min": 0, "max": 0.5},
            "crop_scale": {"MinValue": 0.3, "MaxValue": 1},
        }
    )
    assert (
        found["lr_max"]
        == "uniform(…) is Azure's and Ray's way to write it; here it is {low: 0.001, high: 0.1, log: true}"
    )
    assert found["optimizer"].endswith("here it is [momentum, adamw]") and "SageMaker's way" in found["weight_decay"]
    assert found["dropout"].startswith("'min' is Weights & Biases' name; here it is low; 'max'")
    assert "'MinValue' is SageMaker's name; here it is low" in found["crop_scale"]


def test_a_missing_space_names_those_beside_it(tmp_path):
    (tmp_path / "my-space.yaml").write_text("")
    with pytest.raises(ConfigError, match="There is no space file") as caught:
        read_space(tmp_path / "x.yaml", load_settings(minimal()))
    assert "my-space.yaml" in str(caught.value)


# --- options, and the study ------------------------------------------------------------------------------------------


def test_budgets_are_times():
    assert [seconds_of(text) for text in ("90s", "30m", "1.5h", None)] == [90, 1800, 5400, None]
    for text in ("2", "2d", "0m", "soon"):
        with pytest.raises(ConfigError, match=f"--budget {text} is not a time") as caught:
            seconds_of(text)
        assert "1.5h" in str(caught.value)


def test_time_limits_and_folders_that_do_not_fit(squares, inside):
    (inside / "space.yaml").write_text("lr_max: {low: 0.01, high: 0.2, log: true}\n")
    with pytest.raises(ConfigError, match=r"max_training_time: 2\.0 would leave trials in the middle"):
        run_sweep(settings(squares / "three", 3, max_training_time=2.0), inside / "space.yaml")
    with pytest.raises(RunError, match=r"There is no folder nowhere\.") as caught:
        resume_sweep("nowhere", {})
    assert "expected" in str(caught.value) and "mslab sweep" in str(caught.value)
    assert not (inside / "runs").exists()


def test_trials_begin_from_the_settings_of_the_config_not_from_those_that_mslab_fills_in(tmp_path):
    (tmp_path / "x.yaml").write_text("train_data: a\nval_data: b\nclass_num: 3\nepochs: 5\nmomentum: 0.5\n")
    overrides = ["seed=null", "momentum=null", "lr_max=0.2"]
    config = load_settings(tmp_path / "x.yaml", overrides)
    start = explicit(tmp_path / "x.yaml", overrides, config)
    assert start == minimal() | {"epochs": 5, "lr_max": 0.2, "seed": config.seed}
    assert explicit(tmp_path / "x.yaml", "lr_max=0.2", config).keys() == start.keys() - {"seed"} | {"momentum"}
    assert config.lr_scheduler == "warmup_cosine"  # which a trial with steps would contradict
    assert load_settings(start | {"lr_scheduler_step": [2, 3]}).lr_scheduler == "step"


def test_cores_are_split_between_workers():
    assert pool.split_cores([0, 1, 2, 3, 4], 2) == [[0, 1], [2, 3, 4]]
    assert pool.split_cores([4, 7], 3) == [[4], [7], [4]]


@pytest.mark.parametrize("name,option", [("sweep.db", None), ("sweep.db-wal", None), ("sweep.log", "journal")])
def test_a_storage_that_is_a_link_or_a_fifo_is_not_opened(tmp_path, name, option):
    (tmp_path / name).symlink_to(tmp_path / "notes")
    with pytest.raises(ConfigError, match=f"{name} is a link"):
        trials.storage_url(option, tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(ConfigError, match=f"{name} is a FIFO"):
        trials.storage_url(option, tmp_path)
    assert not (tmp_path / "notes").exists()


@pytest.mark.parametrize(
    "storage", ["../mine.db", "/x/mine.log", "sqlite:////x/mine.db", "postgresql://host/name", "inside/../../a.db"]
)
def test_a_resume_opens_no_storage_that_only_sweep_json_names(tmp_path, monkeypatch, storage):
    """Somebody else may have written it. On the command line, the same storage is one that the user wants."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "x-sweep"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    content = {"options": {"storage": storage}, "config": {}, "space": {}, "overrides": [], "config_file": None}
    (folder / "sweep.json").write_text(json.dumps(content | {"study": "x"}))
    with pytest.raises(ConfigError) as caught:
        resume_sweep(folder, {})
    text = str(caught.value)
    assert f"names the storage {storage}, which is not in {folder}." in text
    assert text.endswith(f"mslab sweep --resume {folder} --storage {storage}"), text
    with pytest.raises(ConfigError, match=r"train_data +is missing"):  # it goes on to the config
        resume_sweep(folder, {"storage": storage})
    (folder / "sweep.json").write_text(json.dumps(content | {"study": "x", "options": {"storage": "mine.db"}}))
    with pytest.raises(ConfigError, match=r"train_data +is missing"):
        resume_sweep(folder, {})
    assert [path.name for path in folder.iterdir()] == ["sweep.json"]


def test_checkpoints_behind_a_link_are_not_deleted(tmp_path):
    (tmp_path / "mine" / "checkpoints").mkdir(parents=True)
    (tmp_path / "mine" / "checkpoints" / "best.ckpt").touch()
    (tmp_path / "trial-001").symlink_to(tmp_path / "mine")
    (tmp_path / "trial-002").mkdir()
    (tmp_path / "trial-002" / "checkpoints").symlink_to(tmp_path / "mine" / "checkpoints")
    for name in ("trial-001", "trial-002"):
        repeating.clear(tmp_path / name)
    assert (tmp_path / "mine" / "checkpoints" / "best.ckpt").exists()


def test_storages_and_what_is_none(tmp_path):
    assert trials.storage_url(None, tmp_path) == f"sqlite:///{tmp_path}/sweep.db"
    assert trials.storage_url("journal", tmp_path) == f"{tmp_path}/sweep.log"
    assert trials.storage_url("/x/y.log", tmp_path) == "/x/y.log"
    assert trials.storage_url("/x.db", tmp_path) == "sqlite:////x.db"
    with pytest.raises(ConfigError, match="--storage things is not a storage") as caught:
        trials.storage_url("things", tmp_path)
    assert "--storage journal" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        trials.open_storage("nothing://user:secret@host/name")
    text = str(caught.value)
    assert "The storage nothing://user:***@host/name cannot be opened" in text
    assert "secret" not in text and "expected" in text and "fix" in text


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_configs_own_values_come_first_also_if_they_are_outside_of_the_space(tmp_path, sampler):
    study = study_in(tmp_path, sampler=sampler)
    trial, values = begin(study)
    assert values == {"lr_max": 0.1} and trial.user_attrs["default"] and trial.params == {"lr_max": 0.1}
    _, values = begin(study)
    assert values["lr_max"] != 0.1 and contains(SPACE, values)
    trial, values = begin(study_in(tmp_path, name="outside", sampler=sampler, lr_max=3.0))
    assert values == {"lr_max": 3.0} and trial.user_attrs["outside"] and trial.params == {}
    study.tell(0, 0.5)
    assert trials.default(trials.rows(study))["values"] == {"lr_max": 0.1}


def test_the_same_seed_draws_the_same_values(tmp_path):
    drawn = []
    for name in ("a", "b"):
        study = study_in(tmp_path, name=name)
        drawn.append([begin(study)[1] for _ in range(4)])
    assert drawn[0] == drawn[1] and len({values["lr_max"] for values in drawn[0]}) == 4
    joined = study_in(tmp_path, name="a")  # a sweep that continues, or another machine
    assert begin(joined)[1] not in drawn[0]


def test_a_study_is_joined_only_with_the_same_settings(tmp_path):
    study_in(tmp_path)
    assert len(study_in(tmp_path).trials) == 1  # the default is not enqueued twice
    with pytest.raises(ConfigError) as caught:
        study_in(tmp_path, space={"lr_max": FloatDistribution(0.02, 0.5)}, epochs=3)
    text = str(caught.value)
    assert "The study s was begun otherwise" in text and "lr_max: 0.01 to 0.5 there, lr_max: 0.02 to 0.5 here" in text
    assert "epochs" in text and "2 there, 3 here" in text and "--name ANOTHER" in text
    assert study_in(tmp_path, train_data="/elsewhere", data_workers=4)  # these differ between machines
    theirs = optuna.create_study(storage=trials.open_storage(trials.storage_url(None, tmp_path)), study_name="theirs")
    theirs.add_trial(optuna.trial.create_trial(value=0.5))  # mslab waits for a study without trials to be set up
    with pytest.raises(ConfigError, match="exists already, and is not one of mslab sweep"):
        study_in(tmp_path, name="theirs")


# --- trials that lose their worker -----------------------------------------------------------------------------------

SCRIPT = """
import os, signal, sqlite3, sys, time, optuna
from mslab.experiments.sweep import trials
from optuna.distributions import FloatDistribution

def objective(trial):
    trials.begin(study, {'lr_max': FloatDistribution(0.01, 0.5)}, trial)
    trial.set_user_attr('run', '/its/run')
    if len(sys.argv) > 2:
        trial.set_user_attr('owner', [sys.argv[2], 1, '1'])
        with sqlite3.connect(sys.argv[1].removeprefix('sqlite:///')) as base:
            while not base.execute('SELECT * FROM trial_heartbeats').fetchall():
                time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGKILL)

study = optuna.load_study(storage=trials.open_storage(sys.argv[1]), study_name='s')
study.optimize(objective, n_trials=1)
"""


def killed_in_a_trial(url: str, *host: str) -> None:
    """Begin a trial in another process, which is killed in it."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, url, *host], stderr=subprocess.PIPE, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


def test_a_trial_whose_machine_is_silent_is_tried_again(tmp_path):
    study = study_in(tmp_path)
    killed_in_a_trial(trials.storage_url(None, tmp_path), "another-machine")
    trials.take_back(study)
    assert trials.count(study, waiting=False) == 1 and trials.elsewhere(study, journal=False) == 1
    assert trials.elsewhere(study, journal=True) == 0  # nobody would notice that it is gone
    with sqlite3.connect(tmp_path / "sweep.db") as base:
        base.execute("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
    trials.take_back(study)
    assert trials.count(study, waiting=False) == 0 and trials.count(study, waiting=True) == 1
    later, values = begin(study)
    assert values == {"lr_max": 0.1} and later.number == 1 and later.user_attrs["default"]
    assert later.user_attrs["run"] == "/its/run" and trials.number_of(study, later) == 0
    (row,) = trials.rows(study)
    assert (row["trial"], row["state"], row["retries"]) == (0, "running", 1)


@pytest.mark.parametrize("storage", [None, "journal"])
def test_a_trial_whose_process_is_gone_is_tried_again_three_times(tmp_path, storage):
    url = trials.storage_url(storage, tmp_path)
    study = study_in(tmp_path, url=url)
    killed_in_a_trial(url)
    gone = study.trials[0].user_attrs["owner"]
    for number in range(3):
        trials.take_back(study)
        again, _ = begin(study)
        trials.take_back(study)
        assert trials.number_of(study, again) == 0  # this process lives
        assert trials.count(study, waiting=False) == 1, number
        again.set_user_attr("owner", gone)
    trials.take_back(study)
    (row,) = trials.rows(study)
    assert row["state"] == "failed" and row["retries"] == 3 and row["message"] == "its worker died 4 times"
    assert trials.count(study, waiting=False) == 1 and trials.count(study, waiting=True) == 0


def test_a_stop_on_purpose_is_no_retry(tmp_path):
    study = study_in(tmp_path)
    for _ in range(5):
        trial, _ = begin(study)
        trials.retry(study, study.trials[trial.number], stopped=True)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    (row,) = trials.rows(study)
    assert (row["trial"], row["state"], row["retries"], row["host"]) == (0, "waiting", 0, None)


def test_a_grid_is_every_point_once_and_the_default(tmp_path):
    space = {"lr_max": CategoricalDistribution([0.1, 0.2]), "epochs": IntDistribution(2, 4)}
    study = study_in(tmp_path, space=space, sampler="grid")
    values = [begin(study, space)[1] for _ in range(6)]
    assert values[0] == {"lr_max": 0.1, "epochs": 2} and trials.count(study, waiting=True) == 0
    assert sorted(map(str, values)) == sorted(map(str, grid(space)))


PLAIN = load_settings(minimal())


def test_a_trial_below_the_median_is_pruned_and_one_over_the_budget_is_stopped(tmp_path):
    study = study_in(tmp_path, pruner="median")

    def after_each_epoch(trial: optuna.Trial, *values: float, deadline: float = math.inf) -> list[str]:
        """The answer to a run after each of its five epochs, which measure these values."""
        rows = [{"epoch": n, "val_acc": value, "seconds": 1.0} for n, value in enumerate(values, 1)]
        runs = [
            SimpleNamespace(epochs_done=n, history=rows[:n], best_by=None, settings=PLAIN, best=best_of(rows[:n]))
            for n in range(1, len(rows) + 1)
        ]
        reported: set[int] = set()
        return [worker.report(trial, run, reported, 5, deadline) for run in runs]

    default = begin(study)[0]
    for _ in range(4):
        trial = begin(study)[0]
        assert after_each_epoch(trial, 0.7, 0.8, 0.9, 0.9) == [""] * 4
        study.tell(trial, 0.9)
    reasons = after_each_epoch(begin(study)[0], 0.2, 0.3, 0.1)
    assert reasons[0] == ""  # too early
    assert reasons[1:] == [
        f"pruned: val_acc 0.300 by epoch {n} is below the median of the trials before" for n in (2, 3)
    ]
    assert after_each_epoch(default, 0.1, 0.1, 0.1, 0.1) == [""] * 4  # the config's own values are always trained
    assert after_each_epoch(begin(study)[0], 0.8, 0.9, 0.9, 0.9, 0.1) == [""] * 5  # the last epoch ends by itself
    assert after_each_epoch(begin(study)[0], 0.8, deadline=0.0) == ["stopped: the budget is over"]
    assert trials.rows(study)[-1]["val_acc"] == 0.8 and trials.rows(study)[-1]["epochs"] == 1


def best_of(rows: list[dict]) -> dict:
    return max(rows, key=lambda row: row["val_acc"])


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_command_leaves_out_what_would_do_nothing(tmp_path):
    best = {"values": {"optimizer": "adamw", "momentum": 0.8, "lr_scale": {"backbone": 0.1}, "train_crop_size": None}}
    sweep = {
        "best": best,
        "settings": load_settings(minimal()).model_dump(),
        "overrides": ["epochs=3"],
        "config_file": "a b.yaml",
    }
    text = page.command(sweep | {"options": {"backbone": "runs/x"}})
    assert text == (
        "mslab transfer 'a b.yaml' epochs=3 optimizer=adamw 'lr_scale={\"backbone\": 0.1}' --backbone runs/x"
    )
