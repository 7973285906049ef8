"""Controls that end, pause, slow or repeat a real run, and the files that it saves."""

import json
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from helpers import figures, history, log, manifest, newest, settings, stopped_after, weights
from steering import SLOW, SMALL, begins_exactly, last, loss_becomes, plateau_changes
from trainings import logged, plain, same_training

import mslab
from mslab import checkpoint
from mslab.data import batching, sources
from mslab.errors import DatasetError, DivergedError
from mslab.training import start
from mslab.training.train_step import TrainStep

# --- ends ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def patient(squares):
    """Settings of a run that early stopping ends after three epochs."""
    more = {"epochs": 9, "early_stopping": True, "early_stopping_patience": 2}
    return settings(squares / "three", 3, **SLOW, **more)


def test_early_stopping_ends_the_run_and_records_the_reason(inside, patient, trained):
    stopped = trained(patient)
    run = stopped.run
    assert len(history(run)) == 3 and stopped.best_epoch == 1
    reason = manifest(run)["ended_by"]
    assert "early stopping: no better val_acc than" in reason and "of epoch 1 in 2 evaluations" in reason
    assert f"ended after epoch 3 of 9: {reason}" in log(run)
    assert checkpoint.read(run / "checkpoints" / "best.ckpt").backbone
    start.resume(run)
    assert len(history(run)) == 3


def test_a_run_killed_as_it_ended_ends_there(inside, patient, trained):
    run = trained(patient).run
    uninterrupted = manifest(run)
    (run / "manifest.json").write_text(
        json.dumps(uninterrupted | {"status": "running", "exit_status": None, "end": None, "ended_by": None})
    )
    start.resume(run)
    assert len(history(run)) == 3 and manifest(run)["status"] == "done"
    assert manifest(run)["ended_by"] == uninterrupted["ended_by"]


def test_a_target_ends_the_run(inside, three):
    run = mslab.train(three | {"epochs": 9, "target_accuracy": 0.9}).run
    rows = history(run)
    assert 1 < len(rows) < 9 and float(rows[-1]["val_acc"]) >= 0.9
    assert all(float(row["val_acc"]) < 0.9 for row in rows[:-1]) and "target_accuracy" in manifest(run)["ended_by"]


def test_a_run_out_of_time_can_be_continued(inside, squares, finished):
    run = Path(mslab.train(plain(squares) | {"max_training_time": 1e-6}).run)
    assert len(history(run)) == 1 and manifest(run)["status"] == "paused" and manifest(run)["exit_status"] == 0
    assert "max_training_time: 1e-06 h leaves no time for another epoch" in log(run) and f"--resume {run}" in log(run)
    for epochs in (2, 3):  # at least one more each time
        start.resume(run)
        assert len(history(run)) == epochs
    assert manifest(run)["status"] == "done"
    uninterrupted = finished(plain(squares)).run
    assert figures(run) == figures(uninterrupted)
    for name in ("best.ckpt", "last.ckpt", "best_backbone.ckpt"):
        assert weights(run, name) == weights(uninterrupted, name), name


# --- is measured and saved -------------------------------------------------------------------------------------------


def test_epochs_that_are_not_measured(inside, squares, finished, three):
    rows = history(finished(logged(squares)).run)
    assert [bool(row["val_acc"]) for row in rows] == [False, True, True]  # every second one, and the last
    run = mslab.train(three | {"do_eval_along_train": False})
    assert [bool(row["val_acc"]) for row in history(run.run)] == [False, True] and run.best_epoch == 2
    assert start.resume(run.run).best_epoch == 2


def test_last_ckpt_every_so_many_epochs(inside, three):
    config = three | SMALL | {"epochs": 4, "checkpoint_frequency": 2}
    uninterrupted = mslab.train(config).run
    with stopped_after(3):
        mslab.train(config, name="stopped")
    run = newest("stopped-*")
    assert len(history(run)) == 3 and checkpoint.read(run / "checkpoints" / "last.ckpt").info["epoch"] == 2
    start.resume(run)
    same_training(run, uninterrupted)


def test_the_running_mean_is_measured_and_saved(squares, three, finished):
    averaged = finished(three | {"epochs": 3, "ema_decay": 0.9, "do_eval_along_train": False}).run
    best, state = checkpoint.read(averaged / "checkpoints" / "best.ckpt").tensors, last(averaged)
    ema = "training.ema."
    means = {name.removeprefix(ema): value for name, value in state.items() if name.startswith(ema)}
    assert set(means) == set(best) and not np.array_equal(means["conv1.weight"], state["conv1.weight"])
    assert all(np.array_equal(best[name], means[name]) for name in best)  # only the last epoch was measured
    rows, usual = history(averaged), history(finished(plain(squares)).run)
    assert [row["train_loss"] for row in rows] == [row["train_loss"] for row in usual]  # training is the same
    assert rows[2]["val_loss"] != usual[2]["val_loss"]


def test_a_smaller_batch_for_measuring_gives_the_same_figures(inside, squares, parent):
    smaller = Path(mslab.train(settings(squares / "three", 3, epochs=1, validation_batch_size=3)).run)
    first, second = (json.loads((run / "eval.json").read_text()) for run in (parent, smaller))
    assert first["confusion"] == second["confusion"] and first["loss"] == pytest.approx(second["loss"], abs=1e-5)


# --- the rate, and wrappers of an optimizer --------------------------------------------------------------------------


def test_plateau_lowers_the_rate_while_it_trains(inside, three):
    config = three | SLOW | SMALL | {"epochs": 4, "lr_scheduler": "plateau", "plateau_patience": 1, "warmup_epochs": 0}
    config["lr_scheduler_factor"] = 0.5
    uninterrupted = mslab.train(config).run
    assert [float(row["lr"]) for row in history(uninterrupted)] == pytest.approx([1e-7, 1e-7, 5e-8, 2.5e-8])
    with stopped_after(3):
        mslab.train(config, name="stopped")
    start.resume(newest("stopped-*"))
    same_training(newest("stopped-*"), uninterrupted)


def test_plateau_changes_what_is_trained_and_not_only_what_is_written(inside, three):
    plateau_changes(three | SMALL)


def test_a_rollback_continues_at_a_tenth_of_the_rate(inside, three, monkeypatch):
    """In graph mode too, where a compiled graph may contain a rate as a constant."""
    more = {"epochs": 3, "warmup_epochs": 0, "on_nan": "rollback", "lr_scheduler": "constant"}
    losses = []
    for mode in ("graph", "pynative"):
        loss_becomes("nan", 9, monkeypatch)  # the third of the second epoch
        run = mslab.train(three | more | {"mode": mode}).run
        assert [float(row["lr"]) for row in history(run)] == pytest.approx([0.05, 0.005, 0.005])
        (note,) = manifest(run)["rollbacks"]
        assert note["epoch"] == 2 and "The loss became nan in epoch 2, step 9 of 18" in note["why"]
        assert "Rolled back to the end of epoch 1; rollback 1 of 3" in log(run)
        losses.append([float(row["train_loss"]) for row in history(run)])
    assert losses[0] == pytest.approx(losses[1], rel=0.01)


def test_a_rollback_restores_exactly_the_beginning_of_the_epoch(inside, three, monkeypatch):
    begins_exactly(three, monkeypatch)


def test_a_rollback_is_done_three_times_at_most(inside, three, monkeypatch):
    call = TrainStep.__call__
    monkeypatch.setattr(TrainStep, "__call__", lambda self, x, y: (ms.Tensor(np.float32("nan")), call(self, x, y)[1]))
    with pytest.raises(DivergedError, match=r"step 1 of 12 \(lr 1e-05\)"):
        mslab.train(three | {"on_nan": "rollback"})
    (run,) = Path("runs").iterdir()
    assert len(manifest(run)["rollbacks"]) == 3 and manifest(run)["status"] == "failed"


@pytest.fixture
def wrapped(three):
    """Settings with all wrappers of an optimizer."""
    more = {"clip_grad_norm": 0.5, "grad_accumulation_step": 4, "ema_decay": 0.5}
    return three | SMALL | more


def test_accumulated_batches_leave_nothing_over(inside, wrapped, finished, three):
    run = finished(wrapped).run
    assert [row["step"] for row in history(run)] == ["4", "8"]  # 48 images are 6 batches of 8: two are left out
    assert int(np.ravel(last(run)["training.global_step"])[0]) == 2
    with pytest.raises(DatasetError, match=r"fewer than one batch of 56 \(8 x 7 batches\)"):
        mslab.train(three | {"grad_accumulation_step": 7})


def test_wrappers_of_an_optimizer_do_the_same_in_a_graph(wrapped, finished):
    graph, lines = (last(finished(wrapped | {"mode": mode}).run) for mode in ("graph", "pynative"))
    slots = {f"training.{name}.conv1.weight" for name in ("ema", "accumulated", "moments")}
    assert set(graph) == set(lines) >= slots
    for name in graph:
        np.testing.assert_allclose(graph[name], lines[name], rtol=1e-2, atol=2e-3, err_msg=name)


def test_wrappers_of_an_optimizer_are_exact_on_resume(inside, wrapped, finished):
    with stopped_after(1):
        mslab.train(wrapped)
    start.resume(newest())
    same_training(newest(), finished(wrapped).run)


def test_a_batch_is_at_most_a_fraction_of_the_images(inside, three):
    for factor, steps in ((10, "12"), (2, "6")):  # 48 images: at most 4 a step; at most 24
        run = mslab.train(three | SMALL | {"epochs": 1, "rescale_train_batch_size_factor": factor}).run
        assert history(run)[0]["step"] == steps
        message = "batch_size: 8 becomes 4: rescale_train_batch_size_factor: 10 allows 4 of 48 images a step"
        assert (message in log(run)) == (factor == 10) == ("becomes" in log(run))


def test_images_are_not_seen_by_a_step_of_another_length(squares, three):
    images = sources.FolderImages(np.zeros(10, np.int32), ["a"], [Path("x")] * 10)
    assert batching.steps_per_epoch(images, 2) == 5 and batching.steps_per_epoch(images, 2, 1, 2) == 4
    assert batching.steps_per_epoch(images, 2, 2, 2) == 2
