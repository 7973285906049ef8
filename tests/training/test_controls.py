"""What ends, pauses, lowers or repeats a real run, and what is kept of it."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import mslab
from mslab import checkpoint, data, training
from mslab.errors import DatasetError, DivergedError

SLOW = {"lr_init": 1e-7, "lr_max": 1e-7}  # nothing is learned: no evaluation is better than the first


def history(run):
    with (Path(run) / "history.csv").open() as file:
        return list(csv.DictReader(file))


def log(run):
    return (Path(run) / "train.log").read_text()


def manifest(run):
    return json.loads((Path(run) / "manifest.json").read_text())


def same_bytes(one, other):
    names = ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "checkpoints/best_backbone.ckpt")
    return all((Path(one) / name).read_bytes() == (Path(other) / name).read_bytes() for name in names)


def stopped_after(config, epochs, monkeypatch):
    """The folder of a run that was killed after so many epochs."""
    from mslab.runfolder import Run

    end = Run.end_epoch

    def ends(self, *rest):
        end(self, *rest)
        if self.epoch == epochs:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Run, "end_epoch", ends)
        before = set(Path("runs").glob("*"))
        with pytest.raises(KeyboardInterrupt):
            mslab.train(config)
    return next(iter(set(Path("runs").glob("*")) - before))


def test_early_stopping_ends_the_run_and_says_why(inside, three):
    run = mslab.train(three | SLOW | {"epochs": 9, "early_stopping": True, "early_stopping_patience": 2})
    assert len(history(run.run)) == 3 and run.best_epoch == 1
    why = manifest(run.run)["ended_by"]
    assert "early stopping: no better val_acc than" in why and "of epoch 1 in 2 evaluations" in why
    assert f"ended after epoch 3 of 9: {why}" in log(run.run)
    assert checkpoint.read(Path(run.run) / "checkpoints" / "best.ckpt").backbone
    again = training.resume(run.run)
    assert len(history(again.run)) == 3


@pytest.mark.slow
def test_a_run_killed_where_it_would_have_ended_ends_there(inside, three, monkeypatch):
    config = three | SLOW | {"epochs": 9, "early_stopping": True, "early_stopping_patience": 2}
    run = stopped_after(config, 3, monkeypatch)
    training.resume(run)
    assert len(history(run)) == 3 and "early stopping" in manifest(run)["ended_by"]


def test_a_target_ends_the_run(inside, three):
    run = mslab.train(three | {"epochs": 9, "target_accuracy": 0.5})
    rows = history(run.run)
    assert len(rows) < 9 and float(rows[-1]["val_acc"]) >= 0.5
    assert all(float(row["val_acc"]) < 0.5 for row in rows[:-1]) and "target_accuracy" in manifest(run.run)["ended_by"]


def test_epochs_that_are_not_measured(inside, three):
    rows = history(mslab.train(three | {"epochs": 3, "evaluation_frequency": 2}).run)
    assert [bool(row["val_acc"]) for row in rows] == [False, True, True]
    run = mslab.train(three | {"epochs": 2, "do_eval_along_train": False})
    assert [row["val_acc"] for row in history(run.run)][:1] == [""] and run.best_epoch == 2
    assert training.resume(run.run).best_epoch == 2


@pytest.mark.slow
def test_last_ckpt_every_so_many_epochs(inside, three, monkeypatch):
    config = three | {"epochs": 5, "checkpoint_frequency": 2}
    whole = mslab.train(config).run
    run = stopped_after(config, 3, monkeypatch)
    assert len(history(run)) == 3 and checkpoint.read(run / "checkpoints" / "last.ckpt").info["epoch"] == 2
    training.resume(run)
    assert same_bytes(run, whole)


@pytest.mark.slow
def test_time_that_is_up_leaves_a_run_to_go_on_with(inside, three):
    whole = mslab.train(three | {"epochs": 3}).run
    run = mslab.train(three | {"epochs": 3, "max_training_time": 1e-6}).run
    assert len(history(run)) == 1 and manifest(run)["status"] == "paused" and manifest(run)["exit_status"] == 0
    said = log(run)
    assert "max_training_time: 1e-06 h has no room for another epoch" in said and f"--resume {run}" in said
    for epochs in (2, 3):  # at least one more each time
        training.resume(run)
        assert len(history(run)) == epochs
    assert manifest(run)["status"] == "done"
    assert (Path(run) / "checkpoints" / "best.ckpt").read_bytes() == (
        Path(whole) / "checkpoints" / "best.ckpt"
    ).read_bytes()


@pytest.mark.slow
def test_plateau_lowers_the_rate_while_it_trains(inside, three, monkeypatch):
    config = three | SLOW | {"epochs": 5, "lr_scheduler": "plateau", "plateau_patience": 1, "warmup_epochs": 0}
    config["lr_scheduler_factor"] = 0.5
    whole = mslab.train(config).run
    rates = [float(row["lr"]) for row in history(whole)]
    assert rates == pytest.approx([1e-7, 1e-7, 5e-8, 2.5e-8, 1.25e-8])
    run = stopped_after(config, 3, monkeypatch)
    training.resume(run)
    assert same_bytes(run, whole) and [float(row["lr"]) for row in history(run)] == rates


@pytest.mark.slow
def test_plateau_changes_what_is_trained_and_not_only_what_is_written(inside, three):
    config = three | {"epochs": 3, "lr_scheduler": "plateau", "plateau_patience": 1, "warmup_epochs": 0}
    config |= {"optimizer": "sgd", "lr_max": 1e-7, "weight_decay": 0.0}
    runs = [mslab.train(config | {"lr_scheduler_factor": factor}).run for factor in (0.9, 1e-6)]
    one, other = (checkpoint.read(Path(run) / "checkpoints" / "last.ckpt").tensors for run in runs)
    assert not np.array_equal(one["conv1.weight"], other["conv1.weight"])


def test_a_rollback_goes_on_at_a_tenth_of_the_rate(inside, three, monkeypatch):
    import mindspore as ms

    from mslab.steps import TrainStep

    call, bad = TrainStep.__call__, {"step": 9}  # the third of the second epoch, once

    def once(self, images, labels):
        loss, logits = call(self, images, labels)
        bad["step"] -= 1
        return (ms.Tensor(np.float32("nan")) if bad["step"] == 0 else loss), logits

    monkeypatch.setattr(TrainStep, "__call__", once)
    run = mslab.train(three | {"epochs": 3, "warmup_epochs": 0, "on_nan": "rollback", "lr_scheduler": "constant"}).run
    assert [float(row["lr"]) for row in history(run)] == pytest.approx([0.05, 0.005, 0.005])
    (note,) = manifest(run)["rollbacks"]
    assert note["epoch"] == 2 and "The loss became nan in epoch 2, step 9 of 18" in note["why"]
    assert "Rolled back to the end of epoch 1; 1 of 3 times" in log(run)


@pytest.mark.slow
def test_a_rollback_begins_exactly_where_the_epoch_began(inside, three, monkeypatch):
    """Against a run whose rate is a tenth from that epoch on, by its schedule."""
    import mindspore as ms

    from mslab.steps import TrainStep

    common = three | {"epochs": 2, "on_nan": "rollback", "optimizer": "adam", "ema_decay": 0.5}
    expected = mslab.train(common | {"learning_rate_strategy": "1:0.01,2:0.001"}).run
    call, bad = TrainStep.__call__, {"step": 10}

    def once(self, images, labels):
        loss, logits = call(self, images, labels)
        bad["step"] -= 1
        return (ms.Tensor(np.float32("inf")) if bad["step"] == 0 else loss), logits

    monkeypatch.setattr(TrainStep, "__call__", once)
    run = mslab.train(common | {"learning_rate_strategy": "2:0.01"}).run
    one, other = (checkpoint.read(Path(r) / "checkpoints" / "last.ckpt").tensors for r in (run, expected))
    assert manifest(run)["rollbacks"] and set(one) == set(other)
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=1e-5, atol=1e-7, err_msg=name)


def test_a_rollback_is_done_three_times_at_most(inside, three, monkeypatch):
    import mindspore as ms

    from mslab.steps import TrainStep

    call = TrainStep.__call__
    monkeypatch.setattr(TrainStep, "__call__", lambda self, x, y: (ms.Tensor(np.float32("nan")), call(self, x, y)[1]))
    with pytest.raises(DivergedError, match=r"step 1 of 12 \(lr 1e-05\)"):
        mslab.train(three | {"on_nan": "rollback"})
    (run,) = Path("runs").iterdir()
    assert len(manifest(run)["rollbacks"]) == 3 and manifest(run)["status"] == "failed"


@pytest.mark.slow
def test_the_running_mean_is_measured_and_kept_and_resumes(inside, three, monkeypatch):
    config = three | {"epochs": 3, "ema_decay": 0.9}
    whole = mslab.train(config).run
    best, last = (checkpoint.read(Path(whole) / "checkpoints" / f"{name}.ckpt") for name in ("best", "last"))
    means = {name.removeprefix("ema."): value for name, value in last.tensors.items() if name.startswith("ema.")}
    rows = history(whole)
    if max(rows, key=lambda row: float(row["val_acc"])) is rows[-1]:
        assert np.array_equal(best.tensors["conv1.weight"], means["conv1.weight"])
    assert set(means) == set(best.tensors) and not np.array_equal(means["conv1.weight"], last.tensors["conv1.weight"])
    run = stopped_after(config, 1, monkeypatch)
    training.resume(run)
    assert same_bytes(run, whole)
    plain = mslab.train(three | {"epochs": 3}).run
    assert [row["train_loss"] for row in history(plain)] == [row["train_loss"] for row in rows]  # it is only watched
    assert [row["val_loss"] for row in history(plain)] != [row["val_loss"] for row in rows]


@pytest.mark.slow
def test_accumulated_batches_leave_nothing_over_and_resume(inside, three, monkeypatch):
    config = three | {"epochs": 2, "grad_accumulation_step": 4, "optimizer": "adam", "lr_init": 1e-3, "lr_max": 1e-2}
    whole = mslab.train(config).run
    assert [row["step"] for row in history(whole)] == ["4", "8"]  # 48 images are 6 batches of 8: two are left out
    last = checkpoint.read(Path(whole) / "checkpoints" / "last.ckpt").tensors
    assert int(np.ravel(last["global_step"])[0]) == 2
    run = stopped_after(config, 1, monkeypatch)
    training.resume(run)
    assert same_bytes(run, whole)
    with pytest.raises(DatasetError, match=r"fewer than one batch of 56 \(8 x 7 batches\)"):
        mslab.train(three | {"grad_accumulation_step": 7})


def test_a_batch_is_at_most_a_share_of_the_images(inside, three):
    run = mslab.train(three | {"epochs": 1, "rescale_train_batch_size_factor": 10}).run
    assert history(run)[0]["step"] == "12"  # 48 images, 4 a step
    said = log(run)
    assert "batch_size: 8 becomes 4: rescale_train_batch_size_factor: 10 allows 4 of 48 images a step" in said
    run = mslab.train(three | {"epochs": 1, "rescale_train_batch_size_factor": 2}).run
    assert history(run)[0]["step"] == "6" and "becomes" not in log(run)


@pytest.mark.slow
def test_a_smaller_batch_for_measuring_gives_the_same_figures(inside, three):
    one, other = (mslab.train(three | {"validation_batch_size": size}).run for size in (None, 3))
    first, second = (json.loads((Path(run) / "eval.json").read_text()) for run in (one, other))
    assert first["confusion"] == second["confusion"] and first["loss"] == pytest.approx(second["loss"], abs=1e-5)


def test_images_are_not_seen_by_a_step_of_another_length(squares, three):
    images = data.Images([Path("x")] * 10, np.zeros(10, np.int32), ["a"])
    assert data.steps_per_epoch(images, 2) == 5 and data.steps_per_epoch(images, 2, 1, 2) == 4
    assert data.steps_per_epoch(images, 2, 2, 2) == 2
