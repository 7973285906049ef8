"""Sweeps: no point is trained twice, trials that failed by their values teach, and pruning compares like with like."""

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState
from studies import FIGURES, begin, minimal
from studies import study_in as study_at

from mslab.config import load_settings
from mslab.experiments.sweep import trials
from mslab.experiments.sweep.pool import TrialPool
from mslab.experiments.sweep.sampling import LikeMedianPruner, SpacePoints, points_of
from mslab.experiments.sweep.space import suggest
from mslab.experiments.sweep.study import SweepOptions, too_many

FLIPS = {"flip": CategoricalDistribution([True, False]), "label_smoothing": FloatDistribution(0, 0.1, step=0.1)}


def points(space: dict, images: int = 0, **more) -> SpacePoints:
    return SpacePoints(
        load_settings(minimal() | {"lr_max": 0.1, "epochs": 4, "warmup_epochs": 1} | more), space, images
    )


def study_in(folder, **more) -> optuna.Study:
    """A study in a journal, which is faster than SQLite."""
    return study_at(folder, url=trials.storage_url("journal", folder), **more)


def tell(study: optuna.Study, trial: optuna.Trial, value: float = 0.5) -> None:
    trial.set_user_attr("figures", FIGURES | {"val_acc": value})
    study.tell(trial, value)


RANGES = {"lr_max": FloatDistribution(0.01, 0.5), "label_smoothing": FloatDistribution(0, 0.3, step=0.1)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"lr_max": 0.123412}, {"lr_max": 0.123408}),  # shown alike
        ({"label_smoothing": 0.3}, {"label_smoothing": 0.1 * 3}),
        ({"optimizer": "adamw", "momentum": 0.8}, {"optimizer": "adamw", "momentum": 0.9}),
        ({"warmup_epochs": 0, "lr_init": 0.001}, {"warmup_epochs": 0, "lr_init": 0.01}),
        ({"warmup_epochs": 0}, {"warmup_epochs": 0.01}),  # no whole step
        ({"train_crop_size": None}, {"train_crop_size": 64}),
        ({"stem": None}, {"stem": "imagenet"}),
        ({"batch_size": 32}, {"batch_size": 64}),  # more than a tenth of the images
        ({"learning_rate_strategy": "4:0.1->0.01"}, {"learning_rate_strategy": "4: 0.10->0.010"}),
        ({"lr_scale": {"head": 1.0, "stem": 0.5}}, {"lr_scale": {"stem": 0.5, "head": 1.0}}),
    ],
    ids=str,
)
def test_points_are_equal_if_training_with_them_is_the_same(one, other):
    space = {name: RANGES.get(name, CategoricalDistribution(["x"])) for name in one}
    found = points(space, images=300, rescale_train_batch_size_factor=10)
    assert found.key(one) == found.key(other)


def test_points_that_train_differently_are_not_equal():
    found = points(
        {"lr_max": FloatDistribution(0.01, 0.5), "optimizer": CategoricalDistribution(["momentum", "adamw"])}
    )
    keys = {found.key({"lr_max": lr, "optimizer": name}) for lr in (0.1, 0.1001) for name in ("momentum", "adamw")}
    assert len(keys) == 4
    narrow = points({"lr_max": FloatDistribution(1.00001, 1.00009)}, lr_max=1.00005)
    assert narrow.key({"lr_max": 1.00002}) != narrow.key({"lr_max": 1.00003})  # four digits would be outside
    plateau = points({"lr_max": FloatDistribution(0.01, 0.5)}, lr_scheduler="plateau", warmup_epochs=4)
    assert plateau.key({"lr_max": 0.1}) != plateau.key({"lr_max": 0.2})
    failing = points({"warmup_epochs": CategoricalDistribution([1, 5, 6])})
    assert failing.all is not None and len(failing.all) == 3  # two contradict `epochs`: each is tried, and fails


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
def test_four_possible_points_are_each_drawn_once_and_no_fifth_is_asked_for(tmp_path, sampler):
    study = study_in(tmp_path, space=FLIPS, sampler=sampler)
    drawn = []
    for _ in range(4):
        assert points_of(study).left(study.trials) or trials.count(study, waiting=True)
        trial, values = begin(study, FLIPS)
        drawn.append(tuple(values.items()))
        tell(study, trial)
    assert len(set(drawn)) == 4
    assert not points_of(study).left(study.trials) and not trials.count(study, waiting=True)
    assert points_of(study).possible(4) == 4
    resumed = study_in(tmp_path, space=FLIPS, sampler=sampler)  # in another process
    assert not points_of(resumed).left(resumed.trials)
    assert too_many(4, 4, 10) == "4 of 4 possible points done; --trials 10 asks for more than there are"
    assert too_many(4, 4, 4) == "" and too_many(4, None, 10) == ""


def test_a_setting_that_does_nothing_makes_no_new_points(tmp_path):
    space = {
        "optimizer": CategoricalDistribution(["momentum", "adam"]),
        "momentum": FloatDistribution(0.8, 0.9, step=0.1),
    }
    study = study_in(tmp_path, space=space, sampler="grid")
    drawn = [begin(study, space)[1] for _ in range(3)]
    assert trials.count(study, waiting=True) == 0 and points_of(study).possible(0) == 3
    assert [values["optimizer"] for values in drawn].count("adam") == 1


def test_a_space_without_end_whose_points_are_all_equal_ends_too(tmp_path):
    space = {
        "optimizer": CategoricalDistribution(["adam", "adamw"]),
        "momentum": FloatDistribution(0.8, 0.99),
    }
    study = study_in(tmp_path, space=space, optimizer="adam")
    drawn = [begin(study, space)[0] for _ in range(2)]
    assert {trial.params["optimizer"] for trial in drawn} == {"adam", "adamw"} and points_of(study).left(study.trials)
    third, _ = begin(study, space)
    assert not points_of(study).left(study.trials) and trials.equal_to(study, third, points_of(study)) in (0, 1)
    third.set_user_attr(trials.EQUAL, 0)
    study.tell(third, state=TrialState.FAIL)
    assert len(trials.rows(study)) == trials.count(study, waiting=False) == points_of(study).possible(2) == 2


def test_two_machines_that_draw_the_same_point_train_it_once(tmp_path):
    space = {"flip": CategoricalDistribution([True, False])}
    first, second = study_in(tmp_path, space=space), study_in(tmp_path, space=space)
    begin(first, space)
    one, other = first.ask(), second.ask()
    assert suggest(one, space) == suggest(other, space) == {"flip": False}
    for trial in (one, other):
        trial.set_user_attr("values", {"flip": False})
    assert trials.equal_to(first, one, points_of(first)) is None
    assert trials.equal_to(second, other, points_of(second)) == 1


def test_a_trial_that_failed_by_its_values_is_failed_for_users_and_the_worst_for_the_sampler(tmp_path):
    study = study_in(tmp_path, sampler="tpe")
    trial, _ = begin(study)
    trial.set_user_attr("failure", "The loss became nan.")
    trial.set_user_attr(trials.BY_VALUES, True)
    study.tell(trial, trials.WORST)
    (row,) = trials.rows(study)
    assert row["state"] == "failed" and row["message"] == "The loss became nan." and row["val_acc"] is None
    assert study.trials[0].state == TrialState.COMPLETE and study.trials[0].value == 0 and trials.best([row]) is None
    trials.try_again(study)
    assert trials.count(study, waiting=True) == 0


def test_the_sampler_avoids_values_that_diverge(tmp_path):
    space = {"lr_max": FloatDistribution(0.001, 100, log=True)}
    diverged = {}
    for name in ("told", "left out"):
        study = study_in(tmp_path, space=space, name=name, sampler="tpe")
        diverged[name] = 0
        for _ in range(30):
            trial, values = begin(study, space)
            if values["lr_max"] <= 1:
                tell(study, trial, 0.5 + values["lr_max"] / 10)
                continue
            diverged[name] += 1
            study.tell(trial, trials.WORST if name == "told" else None, None if name == "told" else TrialState.FAIL)
    assert diverged["told"] < diverged["left out"]


def test_a_resume_tries_again_what_failed_for_another_reason(tmp_path):
    study = study_in(tmp_path)
    trial, values = begin(study)
    trial.set_user_attr("failure", "No space left on device")
    study.tell(trial, state=TrialState.FAIL)
    trials.try_again(study)
    again, same = begin(study)
    assert same == values and trials.number_of(study, again) == 0 and "failure" not in again.user_attrs
    tell(study, again)
    assert [row["state"] for row in trials.rows(study)] == ["complete"]
    trials.try_again(study)
    assert trials.count(study, waiting=True) == 0


# --- pruning ---------------------------------------------------------------------------------------------------------


def study_of_epochs(folder, lengths: list[tuple[int, list[float]]], space=None, **more) -> optuna.Study:
    """A study with complete trials of so many epochs, and these accuracies after each."""
    space = space or {"epochs": IntDistribution(2, 20), "seed": IntDistribution(0, 10**6)}
    study = study_in(folder, space=space, pruner="median", **more)
    begin(study, space)
    for epochs, accuracies in lengths:
        trial, _ = begin(study, space)
        trial.set_user_attr("values", {"epochs": epochs})
        for epoch, accuracy in enumerate(accuracies, 1):
            trial.report(accuracy, epoch)
        tell(study, trial, max(accuracies))
    return study


def pruned(study: optuna.Study, epochs: int, accuracies: list[float], space=None, **values) -> bool:
    space = space or {"epochs": IntDistribution(2, 20), "seed": IntDistribution(0, 10**6)}
    trial, _ = begin(study, space)
    trial.set_user_attr("values", {"epochs": epochs} | values)
    for epoch, accuracy in enumerate(accuracies, 1):
        trial.report(accuracy, epoch)
    return trial.should_prune()


def test_trials_of_other_lengths_are_compared_at_the_same_fraction_of_their_epochs(tmp_path):
    short = [(4, [0.5, 0.7, 0.8, 0.9])] * 4
    study = study_of_epochs(tmp_path, short)
    slow = [0.1, 0.2, 0.3, 0.4, 0.52, 0.6, 0.71]
    assert isinstance(study.pruner, LikeMedianPruner)
    assert not pruned(study, 12, slow[:4])  # a third: 0.4 beside 0.5 of epoch 1, in which those were still warming up
    assert not pruned(study, 12, [*slow[:5], 0.71])  # half: epoch 2 of 4, not epoch 6
    assert pruned(study, 12, slow[:6])
    assert not pruned(study, 12, [*slow[:5], 0.6, 0.75])


def test_a_median_of_fewer_than_four_prunes_nothing(tmp_path):
    study = study_of_epochs(tmp_path, [(4, [0.9, 0.9, 0.9, 0.9])] * 3)
    assert not pruned(study, 4, [0.1, 0.1, 0.1])


def test_a_trial_that_stopped_early_counts_with_its_best(tmp_path):
    study = study_of_epochs(tmp_path, [(10, [0.3, 0.6, 0.9, 0.8])] * 4)
    assert pruned(study, 10, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])


def test_a_trial_that_failed_and_a_trial_in_its_own_warmup_are_not_compared(tmp_path):
    study = study_of_epochs(tmp_path, [(4, [0.9, 0.9, 0.9, 0.9])] * 4)
    assert not pruned(study, 4, [0.1, 0.1, 0.1], warmup_epochs=2.5)
    failing = study_of_epochs(tmp_path / "other", [(4, [0.9, 0.9, 0.9, 0.9])] * 3)
    trial, _ = begin(failing, {"epochs": IntDistribution(2, 20), "seed": IntDistribution(0, 10**6)})
    for epoch in (1, 2):
        trial.report(0.9, epoch)
    trial.set_user_attr("failure", "The loss became nan.")
    failing.tell(trial, trials.WORST)
    assert not pruned(failing, 4, [0.1, 0.1, 0.1])


def test_after_ctrl_c_no_trial_begins_before_the_running_ones_are_told(tmp_path):
    study = study_in(tmp_path)
    pool = TrialPool(study, FLIPS, tmp_path, {}, SweepOptions(storage="journal"), lambda: None)
    pool.interrupted = lambda: True  # the signal came, and run() has not called stop() yet
    pool.work(pool.workers[0])
    assert not pool.stopping and not [t for t in study.trials if t.state != TrialState.WAITING]
