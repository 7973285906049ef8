"""Find the largest batch that fits into memory: real training steps in a separate process, which may be killed.

PYTHON -m mslab.experiments.batch_tuner JOB
    one batch size: builds the network, trains three steps, prints {"seconds": …}
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mslab.check import available_memory, cores
from mslab.config import Settings, tasks
from mslab.config.resolve import Machine, resolve
from mslab.errors import MslabError
from mslab.runtime import devices
from mslab.runtime.tables import empty_table, render

if TYPE_CHECKING:
    from mindspore import nn

    from mslab.tasks.task import Task

STEPS = 3
MEMORY_FRACTION = 0.9  # of the free memory at the start: a process that uses more is killed, before the system fails


def tune_batch(config: Settings, most: int, progress: Callable[[str], Any] = lambda text: None) -> dict[str, Any]:
    """Try 8, 16, 32 … up to `most`, then halve the gap to the first failure twice.

    Returns tried, rows of {batch_size, fits, why, images_per_s, memory (bytes)}, and largest. On an accelerator the
    device's memory is the limit, on a CPU the machine's. Raises MslabError if not even the smallest fits.
    """
    settings = config.replace(device=devices.choose_device(config.device))
    tried: list[dict[str, Any]] = []

    def fits(batch: int) -> bool:
        tried.append({"batch_size": batch} | attempt(settings.replace(batch_size=batch)))
        row = tried[-1]
        progress(
            f"batch_size {batch}: {row['images_per_s']:.0f} images/s, {row['memory'] / 2**30:.1f} GiB"
            if row["fits"]
            else f"batch_size {batch}: {row['why']}"
        )
        return row["fits"]

    batch = min(8, most)
    largest, failing = 0, None
    while batch <= most and failing is None:
        if fits(batch):
            largest, batch = batch, batch * 2 if batch == most else min(batch * 2, most)
        else:
            failing = batch
    for _ in range(2 if failing and largest else 0):
        middle = (largest + failing) // 2  # type: ignore[operator]
        largest, failing = (middle, failing) if fits(middle) else (largest, middle)
    if not largest:
        raise MslabError(
            f"Not even batch_size {tried[0]['batch_size']} fits: {tried[0]['why']}.",
            expected="a batch that fits into memory",
            fix="a smaller image_size, or fewer stages; mslab doctor shows the memory",
        )
    return {"tried": sorted(tried, key=lambda row: row["batch_size"]), "largest": largest}


def attempt(settings: Settings) -> dict[str, Any]:
    """Train a few steps with this batch size in a separate process. Returns {fits, why, images_per_s, memory}."""
    import psutil

    limit = MEMORY_FRACTION * available_memory()
    command = [sys.executable, "-m", "mslab.experiments.batch_tuner", settings.model_dump_json()]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")
    memory, reason = 0, ""
    try:
        while child.poll() is None:
            try:
                memory = max(memory, psutil.Process(child.pid).memory_info().rss)
            except psutil.NoSuchProcess:
                break
            if memory > limit:
                reason = f"uses more than {limit / 2**30:.1f} GiB, {MEMORY_FRACTION:.0%} of the free memory"
                child.kill()
            time.sleep(0.05)
        out, err = child.communicate()
    finally:
        child.kill()
    lines = [line for line in out.splitlines() if line.startswith("tune ")]
    if not reason and not lines:
        errors = [line.strip() for line in err.splitlines() if "emory" in line or "Error" in line]
        reason = (
            f"killed by signal {-child.returncode}" if child.returncode < 0 else (errors or ["no message"])[-1][:200]
        )
    if reason:
        return {"fits": False, "why": reason, "images_per_s": 0.0, "memory": memory}
    seconds = json.loads(lines[-1][5:])["seconds"]
    return {"fits": True, "why": "", "images_per_s": settings.batch_size / min(seconds), "memory": memory}


def work(settings: Settings) -> list[float]:
    """Seconds of each of a few steps on random images, after a first one that compiles."""
    import mindspore as ms

    from mslab.data import augment
    from mslab.runtime import compiled_layers
    from mslab.training import build, freezing, losses, optimizers, train_step

    config = settings.replace(rescale_train_batch_size_factor=None)  # leaves the batch size unchanged
    config, _ = resolve(config, settings.batch_size, None, Machine(settings.device, cores()))
    devices.start_chosen(**devices.setup_of(config, config.device))
    task = None if config.task == tasks.CLASSIFY else task_for(config)
    network = build.new_network(config) if task is None else task_network(task, config)
    build.apply_cpu_layout(network, config, config.device)
    compiled_layers.replace_layers(network)
    freezing.apply(network, freezing.frozen([p.name for p in network.get_parameters()], config))
    rng, size = np.random.default_rng(0), augment.sizes(config)[0]
    images = ms.Tensor(rng.normal(size=(config.batch_size, 3, size, size)).astype(np.float32))
    if task is None:
        labels = ms.Tensor(rng.integers(0, config.class_num, config.batch_size).astype(np.int32))
        criterion = losses.build(config, np.ones(config.class_num, int))
    else:
        target = target_of_one(task, size, network)
        labels = ms.Tensor(np.stack([target] * config.batch_size))
        criterion = task.loss([target], config.weighted_loss)
    optimizer = optimizers.build(network, np.full(STEPS + 1, 1e-3, np.float32), config)
    update, _ = optimizers.build_update(optimizer, config, list(network.get_parameters()))
    kind = train_step.TrainStep if config.amp_level == "O0" else train_step.ScaledTrainStep
    step = kind(network, criterion, optimizer, None, update)
    seconds = []
    for _ in range(STEPS + 1):
        start = time.perf_counter()
        step(images, labels)[0].asnumpy()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def task_for(config: Settings) -> "Task":
    """The task with names that nobody sees: a step takes as long with any."""
    from mslab.tasks.registry import class_of

    kind = class_of(config.task)
    options = {name: getattr(config, name) for name in kind.options}
    return kind({"class_names": [str(i) for i in range(config.class_num)], "options": options, "skeleton": []})


def task_network(task: "Task", config: Settings) -> "nn.Cell":
    from mslab.checkpoint import networks
    from mslab.tasks.network import network_of

    return network_of(task, networks.of_settings(config).backbone(), (), config.head_hidden, config.dropout)


def target_of_one(task: "Task", size: int, network: "nn.Cell") -> np.ndarray:
    """The target of a square image with one object in its middle."""
    from mslab.tasks.network import stride_of
    from mslab.tasks.sample import Sample

    count, quarter = len(task.names), size // 4
    mask = np.zeros((size, size), np.uint8)
    mask[quarter:-quarter, quarter:-quarter] = 1
    box = np.array([[quarter, quarter, size - quarter, size - quarter]], np.float32)
    points = np.full((1, count, 3), (size / 2, size / 2, 2), np.float32)
    image, tags = np.zeros((size, size, 3), np.uint8), (np.arange(count) % 2).astype(np.uint8)
    one = Sample(image, box, np.zeros(1, np.int32), np.zeros(1, bool), points, mask, tags)
    return task.target(one, stride_of(network))


def table(result: Mapping[str, Any]) -> str:
    """One line per batch size."""
    grid = empty_table("a training step, images of random pixels", ("batch_size", "images/s", "memory", ""))
    for row in result["tried"]:
        figures = (f"{row['images_per_s']:.1f}", f"{row['memory'] / 2**30:.1f} GiB") if row["fits"] else ("", "")
        grid.add_row(str(row["batch_size"]), *figures, row["why"])
    return f"{render(grid)}\n\nlargest that fits: batch_size={result['largest']}{fastest(result['tried'])}"


def fastest(tried: Sequence[Mapping[str, Any]]) -> str:
    """The smallest batch within a twentieth of the best speed: larger ones only use more memory."""
    best = max(row["images_per_s"] for row in tried)
    enough = min(row["batch_size"] for row in tried if row["images_per_s"] >= 0.95 * best)
    return f"; from batch_size={enough} on it is hardly faster"


if __name__ == "__main__":
    print("tune " + json.dumps({"seconds": work(Settings.model_validate_json(sys.argv[1]))}))
