"""The time of a training step on a CPU, by kind of operator and by size of feature map.

oneDNN prints each of its calls (ONEDNN_VERBOSE); the optimizer is timed alone; "elsewhere" is the rest of the step:
compiled layers, transposes, additions of gradients, loss, and what MindSpore does between operators. So the rows add up
to the step.
"""

import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.speed import WARM, child_of
from mslab.check import cores
from mslab.errors import MslabError
from mslab.runtime.tables import empty_table, render

STEPS = 7  # measured one by one; the table is of the median one
OURS = "mslab, GRAPH"
# dnnl_verbose,exec,cpu,convolution,gemm:jit,backward_data,…,mb32_ic64oc64_ih16oh16kh3…,6.34   ih, ow: rows, columns
CALL = re.compile(r"verbose,.*exec,cpu,(?P<primitive>\w+),[^,]*,(?P<direction>\w+),.*,(?P<shape>\w*),(?P<ms>[\d.]+)$")
DIRECTIONS = {
    "forward_training": "forward",
    "backward_data": "backward data",
    "backward_weights": "backward weights",
    "backward": "backward",
}
PRIMITIVES = {"batch_normalization": "BatchNorm"}


def bench_profile(
    size: int = 64,
    batch: int = 32,
    stages: Sequence[Sequence[int]] | None = None,
    progress: Callable[[str], Any] = lambda text: None,
) -> list[dict[str, Any]]:
    """Rows of {kind, map, ms, share}; map: the side of the output's maps in pixels, None if there is none.

    The last row is "elsewhere". All milliseconds add up to the median step of mslab's GRAPH mode, all fractions to 1.
    """
    job = {"size": size, "batch": batch, "stages": [list(row) for row in stages] if stages else None}
    # the second name is that of oneDNN 2.2, in MindSpore 2.8
    with child_of(OURS, job, ONEDNN_VERBOSE="1", DNNL_VERBOSE="1") as child:
        child.run("train", 1 + WARM)
        steps = [child.run("train", 1) for _ in range(STEPS)]
        seconds = sorted(step["seconds"][0] for step in steps)
        progress(f"{STEPS} steps of {batch} images took {seconds[0]:.3f} to {seconds[-1]:.3f} s")
        child.run("update", 1 + WARM)
        update = statistics.median(child.run("update", STEPS)["seconds"])
    median = next(step for step in steps if step["seconds"][0] == seconds[STEPS // 2])
    return split_step(seconds[STEPS // 2] * 1000, median["lines"], update * 1000)


def side_of(shape: str) -> int | None:
    """The side in pixels of the output's maps: those of stacked images are side by side or below each other."""
    # side_of("mb2_ic64oc64_ih4oh4kh3_iw64ow64kw3") -> 4
    sides = re.findall(r"o[hw](\d+)", shape) or re.findall(r"i[hw](\d+)", shape)
    return min(map(int, sides), default=None)


def split_step(total: float, lines: Iterable[str], optimizer: float) -> list[dict[str, Any]]:
    """Rows as above from a step's milliseconds, what oneDNN printed during it, and the optimizer's milliseconds."""
    spent: dict[tuple[str, int | None], float] = defaultdict(float)
    for call in filter(None, map(CALL.search, lines)):
        kind = PRIMITIVES.get(call["primitive"], call["primitive"])
        if direction := DIRECTIONS.get(call["direction"]):
            kind += f" {direction}"
        spent[kind, side_of(call["shape"])] += float(call["ms"])
    if not spent:
        raise MslabError(
            "oneDNN printed none of its calls.",
            expected="MindSpore on a CPU, with oneDNN behind its convolutions",
            fix="MindSpore 2.7 to 2.10 for Linux x86-64",
        )
    spent["optimizer", None] = optimizer
    spent["elsewhere", None] = total - sum(spent.values())
    return [
        {"kind": kind, "map": rows, "ms": milliseconds, "share": milliseconds / total}
        for (kind, rows), milliseconds in spent.items()
    ]


def table(rows: Sequence[Mapping[str, Any]], size: int, batch: int) -> str:
    """One line per kind, one column per size of feature map."""
    maps = sorted({row["map"] for row in rows if row["map"]}, reverse=True)
    total = sum(row["ms"] for row in rows)
    title = f"milliseconds of a training step of {total:.0f}: batch {batch} at {size}x{size}, {cores()} cores"
    grid = empty_table(title, ("", *(f"{rows}x{rows}" for rows in maps), "all", "share"))
    for kind in dict.fromkeys(row["kind"] for row in rows):
        mine = {row["map"]: row["ms"] for row in rows if row["kind"] == kind}
        figures = [f"{mine[rows]:.1f}" if rows in mine else "" for rows in maps]
        grid.add_row(kind, *figures, f"{sum(mine.values()):.1f}", f"{sum(mine.values()) / total:.1%}")
    note = "\nelsewhere is below zero: operators ran at the same time" if rows[-1]["ms"] < 0 else ""
    return render(grid) + note
