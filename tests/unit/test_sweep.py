"""Sweeps: what may be searched, what is kept of each trial and taken up again, and the page."""

import sqlite3
import subprocess
import sys

import optuna
import pytest
from helpers import settings
from studies import SPACE, minimal, study_in

from mslab.config import load_settings
from mslab.errors import ConfigError, RunError
from mslab.experiments.sweep import ledger, page, pool
from mslab.experiments.sweep.space import Knob, grid, parse, read_space
from mslab.experiments.sweep.study import SweepOptions, resume_sweep, run_sweep, seconds_of


def problems(content: dict, sampler: str = "tpe", backbone: bool = False, **more) -> dict[str, str]:
    """{setting: what is said of its line}."""
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
    config = load_settings({"train_data": "a", "val_data": "b", "class_num": 3})
    space = {knob.name: knob for knob in read_space(tmp_path / "s.yaml", config)}
    assert space["lr_max"] == Knob("lr_max", low=0.001, high=0.1, log=True)
    assert space["label_smoothing"].points() == [0, 0.05, 0.1, 0.15, 0.2]
    assert space["epochs"].points() == [2, 4, 6, 8] and space["epochs"].whole
    assert space["optimizer"].choices == ("momentum", "adamw") and space["train_crop_size"].choices == (None, 48)
    assert space["label_smoothing"].holds(0.15) and not space["label_smoothing"].holds(0.12)
    assert space["lr_max"].holds(0.1) and not space["lr_max"].holds(0.2) and space["stages"].holds([[1, 16, 1]])
    assert str(space["lr_max"]) == "lr_max: 0.001 to 0.1, log"
    assert len(grid([space["epochs"], space["optimizer"]])) == 8
    study = optuna.create_study()
    values = [knob.suggest(study.ask()) for knob in space.values()]
    assert all(knob.holds(value) for knob, value in zip(space.values(), values, strict=True))
    assert isinstance(values[2], int)


def test_every_problem_of_a_space_is_said_at_once():
    told = problems(
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
        "did you mean 'lr_max'" in told["lr_mx"]
        and "SageMaker's name; here it is 'batch_size'" in told["mini_batch_size"]
    )
    assert (
        told["lr_max"] == "low: 0.1 is above high: 0.001" and told["weight_decay"] == "log needs a low above 0, it is 0"
    )
    assert "the list is empty" in told["optimizer"] and "is no number; list what to choose among" in told["flip"]
    assert "low: -1 must be greater than or equal to 0" in told["label_smoothing"]
    assert told["color_jitter"] == "steps of 0.3 from 0 do not meet high: 1; high: 0.9 is the last before it"
    assert told["dropout"] == "high is missing" and "low: 2.5 must be a valid integer" in told["batch_size"]
    assert "8 must be greater than or equal to 16" in told["image_size"] and "'big' must be" in told["image_size"]
    assert "5 is one value" in told["epochs"] and told["ema_decay"].startswith("hig: the words are low, high, step")
    assert "log and step do not go together" in told["mixup_alpha"] and "choices stand alone" in told["head_hidden"]
    assert told["crop_scale"] == "a choice is listed twice" and len(told) == 16


def test_what_makes_no_sense_to_search():
    told = problems(
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
        "mslab repeat CONFIG --seeds 5" in told["seed"]
        and "trials on other images do not compare" in told["train_data"]
    )
    assert "set up once" in told["device"] and "changes no figure" in told["data_workers"] and "class_num" in told
    assert (
        told["momentum"]
        == "does nothing here: with optimizer: adam it is unused (it belongs to momentum); leave it out"
    )
    assert parse({"momentum": [0.8], "optimizer": ["adam", "momentum"]}, load_settings(minimal()), "tpe", False, "s")
    assert "too many; give a step" in problems({"lr_max": {"low": 0.1, "high": 0.2}}, "grid")["lr_max"]
    assert "the backbone brings its own" in problems({"stages": [[[1, 8, 1]]]}, backbone=True)["stages"]
    assert problems({}) == {"space": "it names no setting"}


def test_how_others_write_a_range_is_answered_with_ours():
    told = problems(
        {
            "lr_max": "uniform(0.001, 0.1)",
            "optimizer": "choice(['sgd', 'adam'])",
            "weight_decay": "ContinuousParameter(0.001, 0.1)",
            "dropout": {"min": 0, "max": 0.5},
            "crop_scale": {"MinValue": 0.3, "MaxValue": 1},
        }
    )
    assert (
        told["lr_max"]
        == "uniform(…) is Azure's and Ray's way to write it; here it is {low: 0.001, high: 0.1, log: true}"
    )
    assert told["optimizer"].endswith("here it is [one, another]") and "SageMaker's way" in told["weight_decay"]
    assert told["dropout"].startswith("'min' is Weights & Biases' name; here it is low; 'max'")
    assert "'MinValue' is SageMaker's name; here it is low" in told["crop_scale"]


def test_a_missing_space_names_those_beside_it(tmp_path):
    (tmp_path / "my-space.yaml").write_text("")
    with pytest.raises(ConfigError, match="There is no space file") as caught:
        read_space(tmp_path / "x.yaml", load_settings(minimal()))
    assert "my-space.yaml" in str(caught.value)


# --- options, and the ledger -----------------------------------------------------------------------------------------


def test_budgets_are_times():
    assert [seconds_of(text) for text in ("90s", "30m", "1.5h", None)] == [90, 1800, 5400, None]
    for text in ("2", "2d", "0m", "soon"):
        with pytest.raises(ConfigError, match=f"--budget {text} is no time") as caught:
            seconds_of(text)
        assert "1.5h" in str(caught.value)


def test_time_limits_and_folders_that_do_not_fit(squares, inside):
    (inside / "space.yaml").write_text("lr_max: {low: 0.01, high: 0.2, log: true}\n")
    with pytest.raises(ConfigError, match=r"max_training_time: 2\.0 would leave trials in the middle"):
        run_sweep(settings(squares / "three", 3, max_training_time=2.0), inside / "space.yaml")
    with pytest.raises(RunError, match=r"nowhere has no sweep\.json that can be read") as caught:
        resume_sweep("nowhere", {})
    assert "expected" in str(caught.value) and "mslab sweep" in str(caught.value)
    assert not (inside / "runs").exists()


def test_cores_are_shared_out():
    assert pool.shares([0, 1, 2, 3, 4], 2) == [[0, 1], [2, 3, 4]] and pool.shares([4, 7], 3) == [[4], [7], [4]]


def test_storages_and_what_is_none(tmp_path):
    assert ledger.storage_of(None, tmp_path) == f"sqlite:///{tmp_path}/sweep.db"
    assert ledger.storage_of("journal", tmp_path) == f"{tmp_path}/sweep.log"
    assert (
        ledger.storage_of("/x/y.log", tmp_path) == "/x/y.log"
        and ledger.storage_of("/x.db", tmp_path) == "sqlite:////x.db"
    )
    with pytest.raises(ConfigError, match="--storage things is no storage") as caught:
        ledger.storage_of("things", tmp_path)
    assert "--storage journal" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        ledger.open_storage("nothing://user:secret@host/name")
    text = str(caught.value)
    assert (
        "The storage nothing://user:***@host/name cannot be opened" in text and "secret" not in text and "fix" in text
    )


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_the_configs_own_values_come_first_also_where_they_are_outside_of_the_space(tmp_path, sampler):
    study = study_in(tmp_path, sampler=sampler)
    trial, values = ledger.begin(study, SPACE)
    assert values == {"lr_max": 0.1} and trial.user_attrs["default"] and trial.params == {"lr_max": 0.1}
    _, values = ledger.begin(study, SPACE)
    assert values["lr_max"] != 0.1 and SPACE[0].holds(values["lr_max"])
    trial, values = ledger.begin(study_in(tmp_path, name="outside", sampler=sampler, lr_max=3.0), SPACE)
    assert values == {"lr_max": 3.0} and trial.user_attrs["outside"] and trial.params == {}
    study.tell(0, 0.5)
    assert ledger.default(ledger.rows(study))["values"] == {"lr_max": 0.1}


def test_a_study_is_joined_only_by_its_like(tmp_path):
    study_in(tmp_path)
    assert len(study_in(tmp_path).trials) == 1  # the default is not enqueued twice
    with pytest.raises(ConfigError) as caught:
        study_in(tmp_path, space=[Knob("lr_max", low=0.02, high=0.5)], epochs=3)
    text = str(caught.value)
    assert "The study s was begun otherwise" in text and "lr_max: 0.01 to 0.5 there, lr_max: 0.02 to 0.5 here" in text
    assert "epochs" in text and "2 there, 3 here" in text and "--name ANOTHER" in text
    assert study_in(tmp_path, train_data="/elsewhere")  # each machine has its own places
    theirs = optuna.create_study(storage=ledger.open_storage(ledger.storage_of(None, tmp_path)), study_name="theirs")
    theirs.add_trial(optuna.trial.create_trial(value=0.5))  # of one just made, which has none, mslab waits to hear
    with pytest.raises(ConfigError, match="is there already, and not of mslab sweep"):
        study_in(tmp_path, name="theirs")


def test_a_trial_whose_machine_is_silent_is_taken_up_again(tmp_path):
    study = study_in(tmp_path)
    trial, values = ledger.begin(study, SPACE)
    trial.set_user_attr("owner", {"host": "another-machine", "pid": 1, "born": "1"})
    trial.set_user_attr("run", "/its/run")
    assert ledger.lost(study) == [] and ledger.elsewhere(study) == 1
    with sqlite3.connect(tmp_path / "sweep.db") as base:
        base.execute("UPDATE trial_heartbeats SET heartbeat = '2020-01-01 00:00:00'")
    assert ledger.lost(study) == [0] and ledger.taken(study) == 0
    later, same = ledger.begin(study, SPACE)
    assert same == values and later.number == 1 and later.user_attrs["default"]
    assert later.user_attrs["retries"] == 1 and later.user_attrs["run"] == "/its/run"
    (row,) = ledger.rows(study)
    assert (row["trial"], row["state"], row["retries"]) == (0, "running", 1)


@pytest.mark.parametrize("storage", [None, "journal"])
def test_a_trial_whose_process_is_gone_is_taken_up_three_times(tmp_path, storage):
    place = ledger.storage_of(storage, tmp_path)
    study = study_in(tmp_path, place=place)
    script = (
        "import sys; from mslab.experiments.sweep import ledger; from mslab.experiments.sweep.space import Knob\n"
        "import optuna; s = optuna.load_study(storage=ledger.open_storage(sys.argv[1]), study_name='s')\n"
        "ledger.begin(s, [Knob('lr_max', low=0.01, high=0.5)])\n"
    )
    subprocess.run([sys.executable, "-c", script, place], check=True)
    gone = study.trials[0].user_attrs["owner"]
    assert ledger.lost(study) == [0]
    for number in range(3):
        again, _ = ledger.begin(study, SPACE)
        assert ledger.lost(study) == [], number  # this process is there
        again.set_user_attr("owner", gone)
        assert ledger.lost(study) == [0], number
    (row,) = ledger.rows(study)
    assert row["state"] == "failed" and row["retries"] == 3 and row["message"] == "the process that ran it is gone"
    assert ledger.taken(study) == 1 and ledger.waiting(study) == 0


def test_a_grid_is_every_point_once_and_the_default(tmp_path):
    space = [Knob("lr_max", choices=(0.1, 0.2)), Knob("epochs", low=2, high=4, step=1, whole=True)]
    study = study_in(tmp_path, space=space, sampler="grid")
    values = [ledger.begin(study, space)[1] for _ in range(6)]
    assert values[0] == {"lr_max": 0.1, "epochs": 2} and ledger.waiting(study) == 0
    assert sorted(map(str, values)) == sorted(map(str, grid(space)))


def test_a_trial_below_the_median_is_pruned_and_one_over_the_budget_is_ended(tmp_path):
    study = study_in(tmp_path, pruner="median")
    at_work = pool.TrialPool(study, SPACE, tmp_path, {}, SweepOptions(budget=60.0), save=lambda: None)

    def trial(*values: float) -> tuple[optuna.Trial, list[str]]:
        """A trial that measures this epoch after epoch, of five; and what it is told after each."""
        begun = ledger.begin(study, SPACE)[0]
        return begun, verdicts(begun, *values)

    def verdicts(begun: optuna.Trial, *values: float) -> list[str]:
        rows = list(enumerate(values, 1))
        return [at_work.verdict(begun, {"rows": rows[:n], "epochs": 5}) for n in range(1, len(rows) + 1)]

    default = ledger.begin(study, SPACE)[0]
    for _ in range(4):
        other, told = trial(0.7, 0.8, 0.9, 0.9)
        study.tell(other, 0.9)
        assert told == [""] * 4
    _, told = trial(0.2, 0.3, 0.1)
    assert told[0] == ""  # too early to tell
    assert told[1:] == [f"pruned: val_acc 0.300 by epoch {n} is below the median of the trials before" for n in (2, 3)]
    assert verdicts(default, 0.1, 0.1, 0.1, 0.1) == [""] * 4  # the config's own values are always trained to their end
    _, told = trial(0.8, 0.9, 0.9, 0.9, 0.1)
    assert told == [""] * 5  # as good as others; and the last epoch ends by itself
    at_work.deadline = 0.0
    assert trial(0.8)[1] == ["budget: 60 s are over"]


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_command_leaves_out_what_would_do_nothing(tmp_path):
    best = {"values": {"optimizer": "adamw", "momentum": 0.8, "lr_scale": {"backbone": 0.1}, "train_crop_size": None}}
    told = {
        "best": best,
        "settings": load_settings(minimal()).model_dump(),
        "overrides": ["epochs=3"],
        "config_file": "a b.yaml",
    }
    text = page.command(told | {"options": {"backbone": "runs/x"}})
    assert text == (
        "mslab transfer 'a b.yaml' epochs=3 optimizer=adamw 'lr_scale={\"backbone\": 0.1}' --backbone runs/x"
    )
