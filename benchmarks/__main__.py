"""`./run.sh bench NAME …`: the command line of the benchmarks. Figures are printed, and written with --json."""

import logging
import sys
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, BadParameter, Option

from mslab.cli.options import (
    PLAIN,
    CommandLine,
    Config,
    Json,
    Overrides,
    Parent,
    Seeds,
    checked,
    checked_config,
    emit,
    job,
)
from mslab.runtime import streams

log = logging.getLogger("mslab")
app = CommandLine(help="Speed beside other projects, as ratios.", **PLAIN)
Size = Annotated[int, Option(help="pixels of an image's side", min=8)]
Batch = Annotated[int | None, Option(help="images in a step; 32, from 224 pixels on 8", min=1)]
Repeats = Annotated[int, Option(help="turns of each; the median is reported", min=1)]
Peers = Annotated[
    str | None, Option(metavar="PYTHON", help="a Python with torch, torchvision and, for inference, both engines")
]
Record = Annotated[
    bool, Option("--record", help="write the result to benchmarks/results/, from which the pages' tables are made")
]
Folder = Annotated[str | None, Option(metavar="FOLDER", help="store images, or networks, here for reuse")]


@job(app, "transfer")
def transfer(config: Config, backbone: Parent, overrides: Overrides = None, json_file: Json = None) -> None:
    """Head-only transfer with cached features beside the same job without; each in a separate process."""
    from benchmarks import transfer

    rows = transfer.bench_transfer(config, backbone, overrides or [], log.info)
    emit(rows, json_file, lambda: transfer.table(rows))


@job(app, "bookkeeping")
def bookkeeping(config: Config, overrides: Overrides = None, repeats: Repeats = 3, json_file: Json = None) -> None:
    """A training run with and without its manifest, hashes, tables and log, interleaved."""
    from benchmarks import bookkeeping

    settings, report = checked_config(config, overrides, skip_check=True)
    rows = bookkeeping.bench_bookkeeping(settings, report, repeats, Path("runs") / "bookkeeping", log.info)
    emit({"rows": rows} | bookkeeping.summary(rows), json_file, lambda: bookkeeping.table(rows))


@job(app, "data")
def data(
    images: Annotated[list[int], Option(metavar="N", help="number of images, from 100; repeatable", min=100)] = [1000],  # noqa: B006
    size: Size = 64,
    folder: Folder = None,
    json_file: Json = None,
) -> None:
    """The data pipeline without a network: folders, packs and caches, start-up and memory, over numbers of images."""
    from benchmarks import pipeline

    rows = pipeline.bench_data(images, size, Path(folder) if folder else None, log.info)
    training = pipeline.training_speed(size)
    result = {"rows": rows, "training_images_per_s": training}
    emit(result, json_file, lambda: pipeline.table(rows, size, training))


@job(app, "check")
def check(
    images: Annotated[list[int], Option(metavar="N", help="number of images; repeatable")] = [1000],  # noqa: B006
    peers: Annotated[str | None, Option(metavar="PYTHON", help="a Python with cleanvision and imagededup")] = None,
    repeats: Repeats = 3,
    folder: Folder = None,
    json_file: Json = None,
) -> None:
    """The dataset checker beside a bare parallel Pillow decode, and beside CleanVision and imagededup."""
    from benchmarks import check

    rows = check.bench_check(images, peers, repeats, Path(folder) if folder else None, log.info)
    emit(rows, json_file, lambda: check.table(rows))


@job(app, "train")
def train(
    size: Size = 64,
    batch: Batch = None,
    repeats: Repeats = 7,
    peers: Peers = None,
    only: Annotated[str | None, Option(metavar="train|infer", help="one kind of step")] = None,
    contender: Annotated[
        list[str] | None, Option(metavar="NAME", help="those with this in their name, such as pytorch; repeatable")
    ] = None,
    record: Record = False,
    json_file: Json = None,
) -> None:
    """ResNet-50 beside PyTorch, mindcv, onnxruntime and OpenVINO: training and inference, in rounds of random order."""
    from benchmarks import results, speed

    if only not in (None, *speed.KINDS):
        raise BadParameter(f"--only {only}: it is train or infer")
    kinds = (only,) if only else speed.KINDS
    batch = batch or (8 if size >= 224 else 32)
    rows = speed.bench_train(size, batch, repeats, peers, None, log.info, kinds, contender or ())
    if record:
        log.info(results.record(f"train-{size}", rows, speed.versions_of(rows)))
    emit(rows, json_file, lambda: speed.table(rows, speed.left_out(peers)))


@job(app, "loop")
def loop(
    config: Config,
    overrides: Overrides = None,
    batch: Annotated[list[int], Option(metavar="N", help="images in a step; repeatable", min=2)] = [16, 32],  # noqa: B006
    optimizer: Annotated[list[str], Option(metavar="NAME", help="repeatable")] = ["adam", "momentum"],  # noqa: B006
    repeats: Repeats = 5,
    record: Record = False,
    json_file: Json = None,
) -> None:
    """mslab train beside its own bare step, and what a step of the loop consists of."""
    settings, _ = checked_config(config, overrides, skip_check=True)
    from benchmarks import loop, results

    rows = loop.bench_loop(settings, batch, optimizer, repeats, log.info)
    if record:
        log.info(results.record(f"loop-{settings.image_size}", rows, {}))
    emit(rows, json_file, lambda: loop.table(rows))


@job(app, "answer")
def answer(
    config: Config,
    backbone: Parent,
    peers: Annotated[str, Option(metavar="PYTHON", help="a Python with torch, torchvision and pillow")],
    overrides: Overrides = None,
    target: Annotated[float, Option(help="validation accuracy at which both stop", min=0, max=1)] = 0.95,
    repeats: Annotated[int, Option(help="runs of each, with seeds from 1; the median is reported", min=1)] = 5,
    record: Record = False,
    json_file: Json = None,
) -> None:
    """Time to an answer: transfer until the validation accuracy reaches a target, beside a plain PyTorch script."""
    from benchmarks import answer, results

    rows = answer.bench_answer(config, backbone, peers, overrides or [], target, repeats, log.info)
    if record:
        log.info(results.record("answer", rows, rows[0]["versions"]))
    emit(rows, json_file, lambda: answer.table(rows))


@job(app, "serve")
def serve(
    source: Annotated[
        str | None, Argument(metavar="[RUN|CKPT]", help="without it, ResNet-50 with random weights")
    ] = None,
    size: Annotated[int, Option(help="pixels of an image's side, without RUN", min=32)] = 64,
    clients: Annotated[list[int], Option(metavar="N", help="at a time; repeatable", min=1, max=8)] = [1, 8],  # noqa: B006
    seconds: Annotated[float, Option(help="of each number of clients", min=0.1)] = 60,
    record: Record = False,
    json_file: Json = None,
) -> None:
    """mslab serve under load: images a second, latencies, and whether every client gets the answer to its own image."""
    from benchmarks import results, serve

    rows = serve.bench_serve(source, size, clients, seconds, log.info)
    if record:
        log.info(results.record(f"serve-{rows[0]['size']}", rows, serve.versions(rows)))
    emit(rows, json_file, lambda: serve.table(rows))


@job(app, "table")
def table(
    write: Annotated[bool, Option("--write", help="write them into docs/speed.md and docs/serve.md")] = False,
) -> None:
    """The tables of docs/speed.md and docs/serve.md, from benchmarks/results/."""
    from benchmarks import results
    from mslab.files import write_text

    recorded = results.read_all()
    if write:
        for page in results.PAGES:
            write_text(page, results.fill(page.read_text(encoding="utf-8"), recorded))
    print("\n\n".join(results.tables(recorded).values()))


@job(app, "knobs")
def knobs(config: Config, overrides: Overrides = None, seeds: Seeds = 3, json_file: Json = None) -> None:
    """The effect of label smoothing, mixup, cutmix, averaged weights, balance …: each alone, on test images."""
    settings, report = checked_config(config, overrides, skip_check=False)
    test = checked(str(Path(settings.train_data).with_name("test")))
    test.raise_errors()
    from benchmarks import knobs

    rows = knobs.bench_knobs(settings, seeds, report, test, log.info)
    emit(rows, json_file, lambda: knobs.table(rows))


@job(app, "measures")
def measures(config: Config, overrides: Overrides = None, seeds: Seeds = 3, json_file: Json = None) -> None:
    """Which epoch each measure of best_by chooses on imbalanced images, and how good it is on test images."""
    settings, report = checked_config(config, overrides, skip_check=False)
    test = checked(str(Path(settings.train_data).with_name("test")))
    test.raise_errors()
    from benchmarks import measures

    rows = measures.bench_measures(settings, seeds, report, test, log.info)
    emit(rows, json_file, lambda: measures.table(rows))


@job(app, "tasks")
def tasks(
    configs: Annotated[list[str], Argument(metavar="CONFIG...", help="a config of each task")],
    backbone: Annotated[str, Option(metavar="RUN|FILE", help="the backbone that is frozen and fine-tuned")],
    seeds: Seeds = 3,
    out: Annotated[str | None, Option(metavar="FILE.png", help="also draw a picture")] = None,
    record: Record = False,
    json_file: Json = None,
) -> None:
    """What a backbone brings to each task: from scratch, frozen and fine-tuned, measured on test images."""
    from benchmarks import results, tasks

    rows: list[Any] = []
    for rows in tasks.bench_tasks(configs, backbone, seeds, progress=log.info):
        if record:
            results.record("tasks", rows, {})
    if out:
        tasks.draw(rows, Path(out))
    emit(rows, json_file, lambda: tasks.table(rows))


@job(app, "predict")
def predict(
    source: Annotated[str | None, Argument(metavar="[RUN|CKPT]", help="without it, ResNet-50")] = None,
    size: Annotated[int, Option(help="pixels of an image's side, without RUN", min=8)] = 64,
    images: Annotated[int, Option(help="in a turn", min=1)] = 250,
    repeats: Repeats = 7,
    json_file: Json = None,
) -> None:
    """mslab predict on each engine beside the bare forward pass, over batch sizes."""
    from benchmarks import predictions

    rows = predictions.bench_predict(source, size, images, repeats, progress=log.info)
    emit(rows, json_file, lambda: predictions.table(rows))


@job(app, "grade")
def grade(
    students: Annotated[int, Option(help="submissions", min=1)] = 200,
    large: Annotated[int, Option(help="of these, with a ResNet-50; the rest are small", min=0)] = 20,
    jobs: Annotated[int | None, Option(help="submissions at a time; one per core", min=1)] = None,
    json_file: Json = None,
) -> None:
    """A generated class, graded twice: time, memory, and the cost of a second grading."""
    from benchmarks import grading

    result = grading.bench_grade(students, large, jobs, log.info)
    emit(result, json_file, lambda: grading.table(result))


@job(app, "provenance")
def provenance(
    large: Annotated[bool, Option("--large", help="ResNet-50 too")] = False,
    folder: Folder = None,
    json_file: Json = None,
) -> None:
    """What grading reports of networks trained from a parent, from scratch, and altered to look like it."""
    from benchmarks import provenance

    rows = provenance.bench_provenance(large, Path(folder) if folder else None, log.info)
    emit(rows, json_file, lambda: provenance.table(rows))


@job(app, "profile")
def profile(size: Size = 64, batch: Batch = None, json_file: Json = None) -> None:
    """The time of a training step on a CPU, by kind of operator and by size of feature map."""
    from benchmarks import steptime

    batch = batch or (8 if size >= 224 else 32)
    rows = steptime.bench_profile(size, batch, progress=log.info)
    emit(rows, json_file, lambda: steptime.table(rows, size, batch))


@job(app, "networks")
def networks(
    size: Size = 224,
    batch: Batch = None,
    name: Annotated[list[str] | None, Option("--name", help="a network of mindcv; several are possible")] = None,
    json_file: Json = None,
) -> None:
    """Networks of mindcv beside ResNet-50: weights, images/s of training and inference on this CPU."""
    from benchmarks import networks

    batch = batch or (8 if size >= 224 else 32)
    rows = networks.bench_networks(size, batch, wanted=name or [], progress=log.info)
    emit(rows, json_file, lambda: networks.table(rows, size, batch))


if __name__ == "__main__":
    arguments, sys.argv[:1] = sys.argv[1:], ["run.sh", "bench"]  # the command that the manifests of its runs record
    try:
        app(arguments, prog_name="./run.sh bench")
    finally:
        sys.stdout.flush()
        streams.end_as_unix_does()
