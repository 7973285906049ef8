"""Which epoch best_by chooses, and what else follows it: pure functions of the rows of history.csv."""

import math

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, f1_score, recall_score

from mslab.config import load_settings
from mslab.errors import ConfigError
from mslab.evaluation import metrics
from mslab.experiments.sweep import trials
from mslab.runs import history, ranking
from mslab.training import stopping

BASE = {"train_data": "a", "val_data": "b", "class_num": 3, "epochs": 20}


def rows(name, *pairs):
    """Rows whose `name` and val_loss are these; val_acc is the same throughout."""
    return [
        {"epoch": n, "val_acc": 0.5} | {name: value, "val_loss": loss} for n, (value, loss) in enumerate(pairs, start=1)
    ]


def test_ties_go_to_the_lower_loss_where_best_by_is_set_else_to_the_earliest_epoch():
    tied = rows("val_acc", (0.8, 0.5), (0.9, 0.4), (0.9, 0.3), (0.9, 0.3))
    assert ranking.best(tied, None)["epoch"] == 2 and ranking.best(tied, "accuracy")["epoch"] == 3
    assert [row["epoch"] for row in ranking.ranked(tied, "accuracy")] == [3, 4, 2, 1]


def test_a_measure_that_is_undefined_never_wins():
    undefined = rows("val_recall", (math.nan, 0.1), (0.0, 0.9), (math.nan, 0.1))
    assert ranking.best(undefined, "recall:a")["epoch"] == 2
    assert ranking.best(undefined[:1], "recall:a") is None
    assert ranking.best(rows("val_acc", (0.9, math.nan), (0.9, 0.5)), "accuracy")["epoch"] == 2


def test_of_losses_the_lowest_is_the_best():
    assert ranking.best(rows("val_loss", (0.5, 0.5), (0.2, 0.2), (0.3, 0.3)), "loss")["epoch"] == 2


def test_measures_are_scikit_learns_also_where_a_class_has_no_images_or_is_only_answered():
    rng = np.random.default_rng(0)
    for absent in ([], [3], [0, 3]):
        labels = rng.choice(np.setdiff1d(np.arange(5), [4, *absent]), 40)  # no image of class 4
        logits = rng.normal(size=(40, 5)) - 9 * np.isin(np.arange(5), absent)
        names = ["a", "b", "c", "d: 1", "e"]
        figures = metrics.figures(metrics.counts(logits, labels), names)
        predicted = logits.argmax(axis=1)
        found = ranking.measures(figures, "recall:c")
        with np.errstate(all="ignore"):
            assert found["val_balanced_accuracy"] == pytest.approx(
                np.mean(recall_score(labels, predicted, average=None, labels=np.unique(labels)))
            )
            if set(predicted) <= set(labels):
                assert found["val_balanced_accuracy"] == pytest.approx(balanced_accuracy_score(labels, predicted))
        assert found["val_macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
        assert found["val_recall"] == pytest.approx(np.mean(predicted[labels == 2] == 2))
        assert math.isnan(ranking.measures(figures, "recall:e")["val_recall"])
    assert ranking.measures(figures, None) == {} and all(map(math.isnan, ranking.measures(None, "loss").values()))


def test_early_stopping_and_plateau_follow_it():
    falling = rows("val_loss", *[(x, x) for x in (0.9, 0.5, 0.4, 0.41, 0.4)])
    config = load_settings(BASE | {"best_by": "loss", "early_stopping": True, "early_stopping_patience": 2})
    assert stopping.reason(falling[:4], config, 0.1) == ""
    told = "early stopping: no better val_loss than 0.4 of epoch 3 in 2 evaluations"
    assert stopping.reason(falling, config, 0.1) == told
    tolerant = config.replace(early_stopping_tolerance=0.25)  # 0.4 is not a quarter below 0.5
    assert "than 0.5 of epoch 2 in 2 evaluations" in stopping.reason(falling[:4], tolerant, 0.1)
    config = load_settings(
        BASE | {"best_by": "macro_f1", "lr_scheduler": "plateau", "plateau_patience": 1, "lr_floor": 0.05}
    )
    stalled = rows("val_macro_f1", (0.5, 1), (0.5, 1))
    assert stopping.rate_factor(stalled[:1], config) == 1 and stopping.rate_factor(stalled, config) == 0.1
    assert stopping.reason(stalled, config, 0.1).endswith("val_macro_f1 no longer rises")


def test_a_sweep_maximises_it_and_a_failed_trial_is_the_worst():
    better, worse = ({"val_acc": 0.5, "val_loss": loss} for loss in (0.2, 30.0))
    assert trials.objective(better, "loss") > trials.objective(worse, "loss") > trials.WORST
    assert trials.objective({"val_acc": 0.5, "val_macro_f1": 0.25}, "macro_f1") == 0.25
    done = [{"trial": n, "state": "complete", "val_acc": 0.5, "val_loss": x} for n, x in enumerate((0.3, 0.2, 0.2))]
    assert trials.best(done, "loss")["trial"] == 1 and trials.best(done)["trial"] == 0


@pytest.mark.parametrize(
    ("given", "better"),
    [
        ("val_acc", "write accuracy"),
        ("Accuracy", "write accuracy"),
        ("balanced accuracy", "write balanced_accuracy"),
        ("norm_macro_recall", "write balanced_accuracy"),  # Azure AutoML's
        ("eval_f1", "write macro_f1"),  # Hugging Face's
        ("macro-F1", "write macro_f1"),
        ("valid_loss", "write loss"),  # fastai's
        ("metrics/accuracy_top1", "write accuracy"),  # Ultralytics'
        ("macro_f", "write macro_f1"),
        ("recall", "write recall:CLASS"),
        ("recall:", "write recall:CLASS"),
        ("Recall: a", "write recall:a"),
        ({"recall": "a b"}, "write 'best_by: \"recall:a b\"'"),
        ("auc", "it names no measure"),
        ("f1:a", "it names no measure"),
        (True, "it names no measure"),
        (0.9, "it names no measure"),
        (["accuracy"], "write accuracy"),
    ],
)
def test_a_measure_under_another_name_is_told_ours(given, better):
    with pytest.raises(ConfigError) as error:
        load_settings(BASE | {"best_by": given})
    assert better in str(error.value) and "best_by" in str(error.value)


@pytest.mark.parametrize("name", ["primary_metric", "monitor", "metric_for_best_model", "eval_metric", "fitness"])
def test_other_projects_names_of_the_setting_are_known(name):
    with pytest.raises(ConfigError, match="here it is 'best_by'"):
        load_settings(BASE | {name: "accuracy"})


@pytest.mark.parametrize("name", ["a", "fly agaric", "3", "a: b", "no", " x", "recall:a", "accuracy"])
def test_a_class_may_have_any_name(name, tmp_path):
    file = tmp_path / "x.yaml"
    file.write_text("train_data: a\nval_data: b\nclass_num: 3\n" + f'best_by: "recall:{name}"\n')
    assert load_settings(file).best_by == f"recall:{name}"
    assert ranking.extra(load_settings(file).best_by)[-1] == "val_recall"


def test_history_csv_has_the_columns_only_where_they_are_asked_for(tmp_path):
    row = {"epoch": 1, "step": 2, "lr": 0.1, "train_loss": 1.0, "train_acc": 0.5, "val_loss": 1.0, "val_acc": 0.5}
    row |= {"images_per_s": 3.0, "seconds": 4.0}
    assert history.history_text([row]).startswith(",".join(history.COLUMNS) + "\n")
    extra = dict.fromkeys(ranking.extra("macro_f1"), 0.25)
    (tmp_path / "history.csv").write_text(history.history_text([row | extra]))
    assert history.read_history(tmp_path / "history.csv") == [row]
    assert history.read_history(tmp_path / "history.csv", list(extra)) == [row | extra]
    (tmp_path / "history.csv").write_text(history.history_text([row]))
    with pytest.raises(Exception, match=r"has no val_balanced_accuracy, val_macro_f1"):
        history.read_history(tmp_path / "history.csv", list(extra))
