"""Steps that overflow in float16, in real float16 on this CPU. mslab refuses it there only because it is slow."""

import numpy as np
import pytest
from helpers import history, log, manifest, settings

from mslab.check.training_data import check_or_raise
from mslab.checkpoint import TRAINING
from mslab.config import load_settings
from mslab.config.resolve import Machine, resolve
from mslab.data.batching import ImageFeed
from mslab.errors import DivergedError
from mslab.runs.folder import RunFolder
from mslab.runtime import devices
from mslab.runtime.workers import ALONE
from mslab.training import build, loop

TINY = {"image_size": 16, "stages": [[1, 4, 1]], "amp_level": "O2", "lr_scheduler": "constant", "warmup_epochs": 0}


class Bright(ImageFeed):
    """Batches of which some have values that float16 cannot hold: one layer later they are infinite."""

    steps = ()

    def train(self, epoch):
        for number, (images, labels) in enumerate(super().train(epoch)):
            yield images * np.float32(1e5 if (epoch, number) in self.steps else 1), labels


@pytest.fixture
def begin(squares, inside):
    """begin(bright steps, settings …) -> a run and its trainer, in float16."""

    def begin(bright, **more):
        config = load_settings(settings(squares / "three", 3, **(TINY | more)))
        report = check_or_raise(config)
        config, _ = resolve(config, 48, None, Machine("cpu", 1))
        devices.start("cpu", config.mode, 1)
        run = RunFolder.create("half", config, report)
        network = build.build_network(run, config, None, ALONE)
        feed, trained = build.build_feed(run, config, report, network, ALONE)
        feed = Bright(feed.images, feed.val_images, config)
        object.__setattr__(feed, "steps", bright)
        run.info = build.network_info(config, report)
        return run, build.build_trainer(run, config, network, trained, feed, None, ALONE)

    return begin


def values(trainer):
    return {name.removeprefix(TRAINING): p.asnumpy().copy() for name, p in trainer.state().items()}


def fit(run, trainer):
    with run.recording():
        return loop.fit(trainer, run, build.make_callbacks(run, ALONE))


def test_a_step_that_overflows_leaves_all_but_the_counters_as_they_were(begin):
    """BatchNorm's running means too, which an infinite activation has made NaN, and the running mean of the weights."""
    trainer = begin({(0, 0)}, ema_decay=0.5)[1]
    trainer.begin_epoch(0, [])
    before, batches = values(trainer), trainer.batches(0)
    for number in range(2):
        updated = trainer.step(*map(build.ms.Tensor, next(batches)))[2]
        after = values(trainer)
        changed = {name for name in after if not np.array_equal(before[name], after[name], equal_nan=True)}
        assert all(np.isfinite(value).all() for value in after.values())
        assert int(np.ravel(after["global_step"])[0]) == number + 1  # the schedule counts an overflowed step, too
        if number == 0:
            assert not updated and changed == {"global_step", "scale_value"} and after["scale_value"] == 2**15
        else:
            assert updated and {"conv1.weight", "bn1.moving_mean", "ema.conv1.weight", "ema_updates"} <= changed


def test_one_overflow_is_counted_and_said_and_the_run_goes_on(begin):
    run, trainer = begin({(0, 2)})
    assert fit(run, trainer) == ""
    assert [row["step"] for row in history(run.path)] == ["6", "12"] and manifest(run.path)["status"] == "done"
    assert "epoch 1: float16 overflowed in 1 of 6 steps, which left the weights as they were; the last of" in log(
        run.path
    )
    assert "loss scale to 32768" in log(run.path) and "epoch 2: float16" not in log(run.path)
    assert all(np.isfinite(float(row["val_loss"])) for row in history(run.path))


def test_an_infinite_scaled_loss_is_an_overflow_and_no_divergence(begin):
    run, trainer = begin(())
    trainer.compiled.step.scale.set_data(build.ms.Tensor(3e38, build.ms.float32))
    assert fit(run, trainer) == ""
    assert "epoch 1: float16 overflowed in" in log(run.path)
    steps = (run.path / "steps.csv").read_text().splitlines()
    assert len(steps) == 13 and 0.5 < float(steps[1].split(",")[1]) < 2  # the loss before it was scaled


def test_several_overflows_in_a_row_at_the_smallest_scale_are_a_divergence(begin):
    run, trainer = begin({(0, number) for number in range(6)})
    trainer.compiled.step.scale.set_data(build.ms.Tensor(2.0, build.ms.float32))
    with pytest.raises(DivergedError) as caught:
        fit(run, trainer)
    text = str(caught.value)
    assert (
        "Float16 overflowed 4 times in a row, the last 3 times with a loss scale of 1, in epoch 1, step 4 of 12" in text
    )
    assert "lower lr_max" in text and "amp_level=O0" in text and "on_nan=rollback" in text


def test_a_batch_that_overflows_is_left_out_of_the_accumulated_ones(begin):
    run, trainer = begin({(0, 0), (1, 1)}, grad_accumulation_step=2)
    assert fit(run, trainer) == ""
    assert int(np.ravel(values(trainer)["global_step"])[0]) == 6  # 12 batches, as the schedule has it
