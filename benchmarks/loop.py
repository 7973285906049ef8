"""`mslab train` beside its own bare step: the same network, batch, optimizer and machine, in blocks of steps.

Two processes take turns, as in bench train. One runs training.loop.fit on the config's images; the other repeats the
step of such a run on its first batch. A stopwatch in place of the trainer, and callbacks, measure what a step of the
loop consists of; the loop itself is unchanged.
"""

import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders import answer, die_with_parent
from benchmarks.processes import Child
from benchmarks.results import SIDES
from mslab.check import check_dataset, cores
from mslab.config import Settings
from mslab.runtime.tables import empty_table, render

BLOCK = 10  # steps
WARM = 3  # steps before the first block; compilation comes before them
EPOCHS = 1000  # more than any bench needs: the bench ends the run
PARTS = {
    "epoch": "start of an epoch, per step",
    "data": "waiting for images",
    "copy": "copy to the device",
    "step": "the step",
    "accuracy": "loss and accuracy",
    "callbacks": "callbacks",
}
Progress = Callable[[str], Any]


def bench_loop(
    settings: Settings, batches: Sequence[int], optimizers: Sequence[str], repeats: int, progress: Progress
) -> list[dict[str, Any]]:
    """A row per optimizer and batch: size, batch, optimizer, ratio (loop to bare), bare_ms, parts_ms of a step of the
    loop, and for "loop" and "bare" images_per_s (median of `repeats` blocks), least, most.
    """
    rows = []
    for optimizer in optimizers:
        for batch in batches:
            changes = {"optimizer": optimizer, "batch_size": batch, "do_eval_along_train": False, "epochs": EPOCHS}
            changes |= {"checkpoint_frequency": EPOCHS, "device": "cpu"}
            changes |= {key: str(Path(getattr(settings, key)).resolve()) for key in ("train_data", "val_data")}
            rows.append(measured(settings.replace(**changes), repeats, progress))
    return rows


def measured(settings: Settings, repeats: int, progress: Progress) -> dict[str, Any]:
    """The row of one batch size and optimizer."""
    blocks: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    name, rng = f"batch {settings.batch_size}, {settings.optimizer}", random.Random(1)
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        children = []
        for side in SIDES:
            job = json.dumps({"side": side, "settings": settings.model_dump()})
            command = [sys.executable, "-m", "benchmarks.loop", scratch, job]
            expected, fix = "a training that works here", "a smaller --batch, or CONFIG in mslab train to see more"
            children.append(stack.enter_context(Child(f"{side}, {name}", command, expected, fix)))
            children[-1].run("train", WARM)
        for _ in range(repeats):
            for i in rng.sample(range(len(SIDES)), len(SIDES)):
                block = children[i].run("train", BLOCK)
                blocks[SIDES[i]].append(block)
                seconds = sum(block["seconds"])
                progress(f"{children[i].name}: {settings.batch_size * BLOCK / seconds:.1f} images/s")
    return summarise(settings, blocks, children[0].facts["steps"])


def summarise(settings: Settings, blocks: Mapping[str, Sequence[Mapping[str, Any]]], steps: int) -> dict[str, Any]:
    """The row of these blocks. `steps`: of an epoch, which share the time of its start."""
    row: dict[str, Any] = {"size": settings.image_size, "batch": settings.batch_size, "optimizer": settings.optimizer}
    row["settings"] = {key: getattr(settings, key) for key in ("clip_grad_norm", "cache", "data_workers")}
    start = statistics.median(block["epoch"] for block in blocks["loop"]) / steps
    means = {side: [statistics.mean(block["seconds"]) for block in blocks[side]] for side in SIDES}  # seconds a step
    means["loop"] = [mean + start for mean in means["loop"]]
    for side in SIDES:
        speeds = [settings.batch_size / mean for mean in means[side]]
        row[side] = {"images_per_s": statistics.median(speeds), "least": min(speeds), "most": max(speeds)}
    row["ratio"] = row["loop"]["images_per_s"] / row["bare"]["images_per_s"]
    row["bare_ms"] = 1000 * statistics.median(means["bare"])
    parts = {
        name: statistics.median(block["parts"][name] for block in blocks["loop"]) for name in PARTS if name != "epoch"
    }
    row["parts_ms"] = {PARTS[name]: 1000 * seconds for name, seconds in ({"epoch": start} | parts).items()}
    return row


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A line per row, then the parts of a step."""
    title = f"mslab train beside its own bare step, {rows[0]['size']} px, {cores()} cores"
    grid = empty_table(title, ("", "ratio", "loop, images/s", "bare, images/s", "loop, ms", "bare, ms"))
    for row in rows:
        speeds = [f"{row[side]['images_per_s']:.1f}" for side in SIDES]
        total = f"{sum(row['parts_ms'].values()):.1f}"
        grid.add_row(name_of(row), f"{row['ratio']:.2f}x", *speeds, total, f"{row['bare_ms']:.1f}")
    parts = empty_table("milliseconds of a step in the loop", ("", *(name_of(row) for row in rows)))
    for part in PARTS.values():
        parts.add_row(part, *(f"{row['parts_ms'][part]:.2f}" for row in rows))
    return f"{render(grid)}\n\n{render(parts)}"


def name_of(row: Mapping[str, Any]) -> str:
    return f"{row['optimizer']}, {row['batch']}"


# --- in the process of one side --------------------------------------------------------------------------------------


class Stopwatch:
    """Seconds by part since the last block; `turns` yields, on each request, the number of steps of the next block."""

    def __init__(self, turns: Iterator[int]) -> None:
        self.turns, self.left = turns, next(turns)
        self.first = 0.0  # seconds to the first batch of the last epoch
        self.steps: list[float] = []  # seconds of each step of this block
        self.spent, self.last = dict.fromkeys(PARTS, 0.0), time.perf_counter()

    def lap(self, part: str) -> None:
        """Add the time since the last call to this part."""
        now = time.perf_counter()
        self.spent[part] += now - self.last
        self.last = now

    def step_done(self) -> None:
        """Count a step; after the last one of a block, answer, and wait for the next request."""
        self.steps.append(sum(self.spent.values()) - sum(self.steps))
        self.left -= 1
        if not self.left:
            count = len(self.steps)
            answer(
                seconds=self.steps,
                parts={name: seconds / count for name, seconds in self.spent.items()},
                epoch=self.first,
            )
            self.left = next(self.turns)
            self.steps, self.spent = [], dict.fromkeys(PARTS, 0.0)
        self.last = time.perf_counter()


class TimedTrainer:
    """A run's trainer, with a stopwatch on what train_epoch asks of it: batches and steps."""

    def __init__(self, trainer: Any, watch: Stopwatch) -> None:
        self.trainer, self.watch = trainer, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.trainer, name)

    def batches(self, epoch: int) -> Iterator[Any]:
        start = time.perf_counter()
        for number, batch in enumerate(self.trainer.batches(epoch)):
            if number == 0:
                self.watch.first = time.perf_counter() - start
                self.watch.last = time.perf_counter()
            self.watch.lap("data")
            yield batch
            self.watch.step_done()

    def step(self, images: Any, labels: Any) -> Any:
        self.watch.lap("copy")
        result = self.trainer.step(images, labels)
        result[0].asnumpy()  # the loop reads the loss next: the step has ended then
        self.watch.lap("step")
        return result


def requests() -> Iterator[int]:
    """The number of steps in each line of standard input."""
    for line in sys.stdin:
        yield int(line.split()[1])
    os._exit(0)  # the parent has gone, or has seen enough


def work(side: str, settings: Settings) -> None:
    """Build a run as `mslab train` does, and train it in the loop, or repeat its step."""
    from mslab.runtime.workers import ALONE
    from mslab.training import build, start

    report = check_dataset(settings.train_data, settings.val_data, skip_content=True)
    run = start.prepare(start.Job(settings, report, side))
    settings = build.local_settings(run, report, ALONE)
    network = build.build_network(run, settings, None, ALONE)
    feed, trained = build.build_feed(run, settings, report, network, ALONE)
    run.info = build.network_info(settings, report)
    trainer = build.build_trainer(run, settings, network, trained, feed, None, ALONE)
    answer(steps=trainer.steps)
    (in_the_loop if side == "loop" else bare)(trainer, run)


def in_the_loop(trainer: Any, run: Any) -> None:
    from mslab.runtime.console import Meter
    from mslab.runtime.workers import ALONE
    from mslab.training import build, loop
    from mslab.training.callbacks import Callback, ProgressBar

    class Lap(Callback):
        def __init__(self, part: str) -> None:
            self.part = part

        def step_end(self, step: Any) -> None:
            watch.lap(self.part)

    watch = Stopwatch(requests())
    with Meter(len(trainer.rates), 0, trainer.steps) as meter:
        bar = ProgressBar(meter, trainer.epochs, trainer.steps, lambda: False)
        callbacks = [Lap("accuracy"), *build.make_callbacks(run, ALONE), bar, Lap("callbacks")]
        loop.fit(TimedTrainer(trainer, watch), run, callbacks)  # type: ignore[arg-type]


def bare(trainer: Any, run: Any) -> None:
    import mindspore as ms

    trainer.begin_epoch(0, run.history)
    images, labels = (np.array(part) for part in next(trainer.batches(0)))  # the pipeline ends here
    for steps in requests():
        seconds = []
        for _ in range(steps):
            start = time.perf_counter()
            trainer.step(ms.Tensor(images), ms.Tensor(labels))[0].asnumpy()
            seconds.append(time.perf_counter() - start)
        answer(seconds=seconds)


if __name__ == "__main__":
    die_with_parent()
    os.chdir(sys.argv[1])  # for its run
    job = json.loads(sys.argv[2])
    work(job["side"], Settings(**job["settings"]))
