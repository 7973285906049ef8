"""Networks of mindcv beside model.py's ResNet-50 under the same head: weights, images/s of training and of inference.

Each network has its own process, and in every round each runs one block of steps, in an order that is drawn anew.
"""

import random
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

from benchmarks.speed import child_of
from mslab.check import cores
from mslab.checkpoint.networks import MindcvNetwork
from mslab.errors import MslabError
from mslab.runtime.tables import empty_table, render

RESNET50 = "ResNet-50 (model.py)"
NAMES = ["resnetv2_50", "resnetv2_101", "mobilenet_v2_100", "mobilenet_v3_large_100", "inception_v3", "inception_v4"]
NAMES += ["googlenet", "seresnext50_32x4d", "resnest50", "efficientnet_b0", "convnext_tiny", "vit_b_16_224"]
NAMES += ["mlp_mixer_b_p16"]
KINDS = ("train", "infer")


def bench_networks(
    size: int,
    batch: int,
    rounds: int = 3,
    wanted: Sequence[str] = (),
    progress: Callable[[str], Any] = lambda text: None,
) -> list[dict[str, Any]]:
    """Rows of {network, weights, train, infer}, in images/s, the median of the rounds. Weights are with 1000 classes.

    `wanted`: names of mindcv's networks, by default NAMES. A network that cannot run gets a `problem`.
    """
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        running: dict[str, Any] = {}
        for name in [RESNET50, *(wanted or NAMES)]:
            row: dict[str, Any] = {"network": name, "weights": None, "train": None, "infer": None, "problem": ""}
            rows.append(row)
            network = "" if name == RESNET50 else f"mindcv:{name}"
            try:
                if network:
                    MindcvNetwork(network).check_size(size)
                job = {"size": size, "batch": batch, "stages": None, "network": network}
                child = stack.enter_context(child_of("mslab, GRAPH", job))
                row["weights"] = child.facts["weights"]  # with a head of 1000 classes
                for kind in KINDS:  # compile
                    child.run(kind, 1)
            except MslabError as error:
                row["problem"] = error.what
                progress(f"{name}: {error.what}")
                continue
            running[name] = (child, {kind: [] for kind in KINDS})
        for number in range(rounds):
            for name in random.Random(number).sample(list(running), len(running)):
                child, speeds = running[name]
                for kind in KINDS:
                    speeds[kind].append(3 * batch / sum(child.run(kind, 3)["seconds"]))
                progress(f"round {number + 1} of {rounds}: {name}: {speeds['train'][-1]:.1f} images/s")
    for row in rows:
        if row["network"] in running:
            row |= {kind: statistics.median(running[row["network"]][1][kind]) for kind in KINDS}
    return rows


def table(rows: Sequence[dict[str, Any]], size: int, batch: int) -> str:
    title = f"{size}x{size} pixels, batches of {batch}, {cores()} cores, MindSpore in GRAPH mode"
    names = ("network", "weights", "training, images/s", "inference, images/s")
    shown = empty_table(title, names, ("network",))
    for row in rows:
        if row["problem"]:
            shown.add_row(row["network"], "does not run", "", "")
        else:
            shown.add_row(row["network"], f"{row['weights']:,}", f"{row['train']:.1f}", f"{row['infer']:.1f}")
    return "\n".join([render(shown), *(row["problem"] for row in rows if row["problem"])])
