"""ResNet-50 beside PyTorch, mindcv, onnxruntime and OpenVINO: images/s of training and of inference, start, memory.

Each contender has its own process for each kind of step. In every round each runs one block of steps, in an order that
is drawn anew: a slow minute of the machine affects all, and no one always runs after the same other. Processes that
wait are stopped (SIGSTOP) and use no CPU.
"""

import json
import math
import os
import random
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import contenders
from benchmarks.processes import Child, read_result
from benchmarks.results import bfloat16_unit
from mslab.check import cores
from mslab.errors import MslabError
from mslab.runtime.tables import empty_table, render
from mslab.runtime.versions import version

Progress = Callable[[str], Any]
KINDS = ("train", "infer")
CONTENDERS: dict[str, dict[str, Any]] = {  # without "only": all kinds
    "mslab, GRAPH": {"maker": "mslab", "mode": "graph"},
    "mslab, PYNATIVE": {"maker": "mslab", "mode": "pynative"},
    "mslab, engine auto": {"maker": "predict", "engine": "auto", "precision": "fp32", "only": "infer"},
    "mslab, engine openvino bf16": {"maker": "predict", "engine": "openvino", "precision": "bf16", "only": "infer"},
    "PyTorch, channels_last": {"maker": "pytorch", "format": "channels_last"},
    "PyTorch, contiguous": {"maker": "pytorch", "format": "contiguous_format"},
    "PyTorch, optimized graph": {
        "maker": "pytorch",
        "format": "contiguous_format",
        "optimized": True,
        "only": "infer",
    },
    "PyTorch, bfloat16": {"maker": "pytorch", "format": "channels_last", "precision": "bfloat16", "only": "infer"},
    "mindcv, GRAPH": {"maker": "mindcv"},
    "onnxruntime": {"maker": "onnxruntime", "only": "infer"},
    "OpenVINO, float32": {"maker": "openvino", "precision": "float32", "only": "infer"},
    "OpenVINO, bfloat16": {"maker": "openvino", "precision": "bfloat16", "only": "infer"},
}
FORMATS = ("PyTorch, channels_last", "PyTorch, contiguous")  # ratios are to the better of these
PEERS = (
    "a Python with torch, torchvision, onnxruntime and openvino, for --peers",
    "python -m venv peers && peers/bin/pip install torch torchvision onnxruntime openvino, then --peers "
    "peers/bin/python; or choose others with --contender",
)
FIXES = {  # maker -> expected, fix
    "mslab": ("a step that works here", "a smaller --batch or --size, if memory ran out"),
    "predict": ("an engine that works here", "mslab doctor; or choose others with --contender"),
    "mindcv": ("mindcv beside mslab", "pip install mindcv==0.3.0; or choose others with --contender"),
} | dict.fromkeys(("pytorch", "onnxruntime", "openvino"), PEERS)
BLOCK, SHORTEST = 5, 1.0  # steps in a block, or as many as take this many seconds
WARM = 2  # steps before the first block, after the one that compiles
ROUGH = {
    "float32": 1e-3,
    "bfloat16": 0.1,
    "fp32": 1e-3,
    "bf16": 0.1,
}  # relative difference of equal networks' spread() of logits


def child_of(name: str, job: Mapping[str, Any], peers: str | None = None, **environ: str) -> Child:
    """The process of a contender. `job`: what it needs besides its own entry in CONTENDERS."""
    work = CONTENDERS[name] | dict(job) | {"threads": cores()}
    command = [sys.executable, "-m", contenders.__name__]
    if FIXES[work["maker"]] == PEERS:
        command = [str(peers), "-I", contenders.__file__]  # -I: this folder's modules are not for that Python
    return Child(name, [*command, json.dumps(work)], *FIXES[work["maker"]], **environ)


def select(kind: str, wanted: Sequence[str], peers: str | None, stages: Any = None) -> list[str]:
    """Names of the contenders for a kind of step: all that can run here, or those whose name contains a wanted text.

    Raises MslabError for a text that is in no name, and where it names contenders that cannot run.
    """
    names = [name for name in CONTENDERS if not wanted or any(text.lower() in name.lower() for text in wanted)]
    if strange := [text for text in wanted if not any(text.lower() in name.lower() for name in CONTENDERS)]:
        raise MslabError(
            f"There is no contender {', '.join(map(repr, strange))}.",
            expected=f"a part of one of these names: {'; '.join(CONTENDERS)}",
            fix="--contender mslab --contender PyTorch, for example; without it all run",
        )
    return [name for name in names if not lacking(name, kind, peers, stages)]


def lacking(name: str, kind: str, peers: str | None, stages: Any = None) -> str:
    """Why a contender does not run for a kind of step, or ""."""
    entry = CONTENDERS[name]
    if entry.get("only", kind) != kind:
        return "it cannot train"
    if stages and entry["maker"] in ("pytorch", "mindcv"):
        return "its network has stages of its own"
    if FIXES[entry["maker"]] == PEERS and not peers:
        return "--peers names no Python for it"
    if entry.get("engine") == "openvino" and not version("openvino"):
        return "openvino is not installed beside mslab"
    if entry.get("precision") in ("bfloat16", "bf16") and not bfloat16_unit():
        return "this CPU has neither AMX nor AVX-512 BF16"
    return ""


def bench_train(
    size: int = 64,
    batch: int = 32,
    repeats: int = 7,
    peers: str | None = None,
    stages: Sequence[Sequence[int]] | None = None,
    progress: Progress = lambda text: None,
    kinds: Sequence[str] = KINDS,
    wanted: Sequence[str] = (),
    seed: int = 1,
) -> list[dict[str, Any]]:
    """Rows of summarise(), first of training, then of inference, on images of `size` pixels.

    `repeats`: rounds. `peers`: a Python with torch and the engines; without it they are left out. `stages`: another
    table than ResNet-50's; then contenders with a network of their own are left out. `wanted`: parts of names.
    """
    job: dict[str, Any] = {"size": size, "batch": batch, "stages": [list(row) for row in stages] if stages else None}
    rows: list[dict[str, Any]] = []
    chosen = {kind: select(kind, wanted, peers, stages) for kind in kinds}
    with tempfile.TemporaryDirectory() as scratch:
        if any(CONTENDERS[name]["maker"] in ("onnxruntime", "openvino") for name in chosen.get("infer", [])):
            job |= write_graph(job, Path(scratch) / "network.onnx")
        for kind, names in chosen.items():
            with ExitStack() as stack:
                children: list[Child] = []
                for name in names:
                    children.append(stack.enter_context(child_of(name, job, peers)))
                    progress(
                        f"{name}: {children[-1].facts['weights']:,} weights, {children[-1].startup:.1f} s to start"
                    )
                check_weights({child.name: child.facts["weights"] for child in children})
                rows += measure(kind, children, batch, repeats, random.Random(seed), progress)
    return [{"size": size, "batch": batch} | row for row in rows]


def write_graph(job: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Write mslab's ONNX graph, in a process that imports MindSpore. Returns what the engines' jobs need of it."""
    work = {"maker": "graph", "graph": str(file)} | dict(job)
    expected, fix = "a network that mslab export --format onnx writes", "pip install 'mslab[onnx]'"
    command = [sys.executable, "-m", contenders.__name__, json.dumps(work)]
    return {"graph": str(file), "weights": read_result(command, os.environ, "The ONNX graph", expected, fix)["weights"]}


def measure(
    kind: str, children: Sequence[Child], batch: int, repeats: int, rng: random.Random, progress: Progress
) -> list[dict[str, Any]]:
    """Rows of one kind of step: a first step and warm ones, then the rounds."""
    values: dict[str, list[float]] = {}
    more: dict[str, dict[str, Any]] = {}
    speeds: dict[str, list[float]] = {child.name: [] for child in children}
    steps: dict[str, int] = {}
    for child in children:
        first = child.run(kind, 1 + WARM)
        values[child.name] = first["values"]
        step = statistics.median(first["seconds"][1:])
        steps[child.name] = max(BLOCK, math.ceil(SHORTEST / step))
        more[child.name] = {"startup_s": child.startup, "compile_s": first["seconds"][0] - step, "turns": []}
        progress(f"{kind}, first step: {child.name} {first['seconds'][0]:.1f} s")
    turn = 0
    for _ in range(repeats):
        for child in rng.sample(children, len(children)):
            block = child.run(kind, steps[child.name])
            values[child.name] += block["values"]
            speeds[child.name].append(batch * len(block["seconds"]) / sum(block["seconds"]))
            more[child.name]["turns"].append(turn)
            turn += 1
            progress(f"{kind}, turn {turn}: {child.name} {speeds[child.name][-1]:.1f} images/s")
    for child in children:
        check_values(child.name, kind, values[child.name])
        more[child.name] |= {"first": values[child.name][0], "last": values[child.name][-1]}
        more[child.name] |= {"peak_mib": child.peak()} | {key: child.facts[key] for key in ("weights", "version")}
    if kind == "infer":
        check_same({name: row["first"] for name, row in more.items()})
    return [row | more[row["contender"]] for row in summarise(kind, speeds)]


def summarise(kind: str, speeds: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Rows of {job, contender, ratio, images_per_s, least, most} from the images/s of a contender's blocks.

    images_per_s is the median, ratio is to the better of PyTorch's memory formats: None without one.
    """
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    best = max((speed for name, speed in medians.items() if name in FORMATS), default=None)
    return [
        {
            "job": kind,
            "contender": name,
            "ratio": medians[name] / best if best else None,
            "images_per_s": medians[name],
            "least": min(values),
            "most": max(values),
        }
        for name, values in speeds.items()
    ]


def check_weights(weights: Mapping[str, int]) -> None:
    """Raise MslabError if the networks differ in their number of trainable weights."""
    if len(set(weights.values())) > 1:
        raise MslabError(
            "The contenders' networks differ: their speeds cannot be compared.",
            details=[(name, f"{number:,} trainable weights") for name, number in weights.items()],
            expected="the same number of trainable weights in each, 25,557,032 in ResNet-50",
            fix="versions of torchvision and mindcv whose resnet50 is the standard one",
        )


def check_values(name: str, kind: str, values: Sequence[float]) -> None:
    """Raise MslabError if a step gave no finite number, or if training on one batch never lowered its loss."""
    text = ", ".join(f"{value:.4g}" for value in values[:8])
    if not all(map(math.isfinite, values)) or (kind == "train" and min(values) >= values[0]):
        raise MslabError(
            f"{name} did no real work: the {'losses' if kind == 'train' else 'mean logits'} were {text} …",
            expected="finite numbers" + (", and a loss that falls on one repeated batch" if kind == "train" else ""),
            fix="another --size or --batch; if that does not help, this installation computes wrong results",
        )


def check_same(values: Mapping[str, float]) -> None:
    """Raise MslabError if contenders with mslab's weights give other logits. `values`: their spread() by name."""
    own = {name: value for name, value in values.items() if CONTENDERS[name]["maker"] not in ("pytorch", "mindcv")}
    for name, value in own.items():
        expected = next(iter(own.values()))
        if abs(value - expected) > ROUGH[CONTENDERS[name].get("precision", "float32")] * expected:
            raise MslabError(
                f"{name} computes another network: its mean absolute logit is {value:.5g}.",
                details=[(other, f"{own[other]:.5g}") for other in own if other != name],
                expected="equal logits: all of these have the same weights and images",
                fix=f"leave it out with --contender; {CONTENDERS[name]['maker']} computes wrong results here",
            )


def versions_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What the rows were computed with, besides MindSpore."""
    # {"PyTorch": "2.14.1", "engine auto": "(onnxruntime 1.32.0)"}
    found = {}
    for row in rows:
        project, _, variant = row["contender"].partition(", ")
        if variant.startswith("engine"):
            found[variant] = f"({row['version']})"
        elif project != "mslab":
            found[project] = row["version"]
    return found


def left_out(peers: str | None) -> list[str]:
    """A line for each contender that cannot run here."""
    reasons = {name: lacking(name, CONTENDERS[name].get("only", "train"), peers) for name in CONTENDERS}
    return [f"{name} left out: {reason}" for name, reason in reasons.items() if reason]


def table(rows: Sequence[Mapping[str, Any]], notes: Sequence[str] = ()) -> str:
    """Training above inference; ratios first."""
    size, batch = rows[0]["size"], rows[0]["batch"]
    title = f"{rows[0]['weights']:,} weights, batch {batch} at {size}x{size}, {cores()} cores"
    grid = empty_table(title, ("", "ratio", "images/s", "min–max", "start", "compile", "MiB"))
    for kind, heading in (("train", "training"), ("infer", "inference")):
        chosen = [row for row in rows if row["job"] == kind]
        if chosen:
            grid.add_section()
            grid.add_row(heading)
        for row in chosen:
            grid.add_row(
                row["contender"],
                f"{row['ratio']:.2f}x" if row["ratio"] else "",
                f"{row['images_per_s']:.1f}",
                f"{row['least']:.1f}–{row['most']:.1f}",
                f"{row['startup_s']:.1f}",
                f"{row['compile_s']:.1f}",
                f"{row['peak_mib']:.0f}",
            )
    note = "ratio: to PyTorch's better memory format; start and compile: seconds; MiB: peak of the process"
    return "\n".join([render(grid), note, *notes])
