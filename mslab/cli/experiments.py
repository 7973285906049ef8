"""Many runs, or trials that keep no weights: the demo, sweeps, repetitions, the learning rate, the batch size."""

import functools
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, BadParameter, Option

from mslab.cli import options
from mslab.cli.options import app, checked, checked_config, checked_data, emit, job, log, picture


@job(app, "demo")
def demo(overrides: options.Overrides = None, json_file: options.Json = None) -> None:
    """Draw the demo data, check it, train nine classes, transfer to two, and say what transfer bought."""
    from mslab.experiments import demo

    result = demo.run_demo(overrides=overrides or [])
    emit(result, json_file, lambda: demo.table(result))


@job(app, "lr-find")
def lr_find(
    config: options.Config,
    overrides: options.Overrides = None,
    backbone: options.Backbone = None,
    steps: Annotated[int, Option(help="of the trial", min=10)] = 100,
    lowest: Annotated[float, Option(help="learning rate of the first step", min=1e-12)] = 1e-6,
    highest: Annotated[float, Option(help="of the last, if the loss has not exploded before", max=1000)] = 10.0,
    out: Annotated[str | None, Option(metavar="FILE.png", help="CONFIG-lr-find.png")] = None,
    json_file: options.Json = None,
) -> None:
    """Suggest lr_max: a short trial in which the learning rate grows until the loss explodes. Keeps no weights."""
    if not lowest < highest:
        raise BadParameter("--lowest must be below --highest")
    target = picture(config, "lr-find", out)
    settings, report = checked_config(config, overrides, skip_check=True)
    from mslab.experiments import lr_find

    result = lr_find.find_rate(settings, report, backbone, steps, lowest, highest)
    emit(result, json_file, lambda: lr_find.draw(result, target))


@job(app, "tune-batch")
def tune_batch(
    config: options.Config,
    overrides: options.Overrides = None,
    most: Annotated[int, Option(help="the largest batch to try", min=2, max=65536)] = 1024,
    json_file: options.Json = None,
) -> None:
    """Find the largest batch_size that fits into memory, by real training steps, and from which on none is faster."""
    from mslab.config import load_settings
    from mslab.experiments import batch_tuner

    result = batch_tuner.tune_batch(load_settings(config, overrides or []), most, log.info)
    emit(result, json_file, lambda: batch_tuner.table(result))


@job(app, "sweep")
def sweep(
    config: options.MaybeConfig = None,
    overrides: options.Overrides = None,
    space: Annotated[str | None, Option(metavar="FILE", help="settings to search, and their values")] = None,
    trials: Annotated[int | None, Option(help="finished trials in all (default: 20)", min=1)] = None,
    workers: Annotated[
        int | None, Option(metavar="N", help="processes on this machine, each on its own cores", min=1)
    ] = None,
    budget: Annotated[
        str | None, Option(metavar="TIME", help="time after which no trial begins: 90s, 30m or 2h")
    ] = None,
    sampler: Annotated[str | None, Option(help="tpe, random or grid (default: tpe)")] = None,
    pruner: Annotated[str | None, Option(help="median or none (default: median)")] = None,
    storage: Annotated[
        str | None,
        Option(
            metavar="URL|FILE", help="a database's URL, a .db or .log file, or journal (default: SQLite in the folder)"
        ),
    ] = None,
    name: Annotated[
        str | None, Option(metavar="STUDY", help="study to begin or join, in a storage that machines share")
    ] = None,
    backbone: options.Backbone = None,
    test: options.Test = None,
    seed: Annotated[int | None, Option(help="seed of the sampler (default: 1)", min=0, max=2**31 - 1)] = None,
    resume: Annotated[str | None, Option(metavar="FOLDER", help="continue a sweep that was stopped")] = None,
    json_file: options.Json = None,
    skip_check: options.SkipCheck = False,
) -> int:
    """Search settings with Optuna in several processes, each trial a run; leaves runs/NAME-sweep-…/."""
    for option, value, names in (("--sampler", sampler, "tpe random grid"), ("--pruner", pruner, "median none")):
        if value is not None and value not in names.split():
            raise BadParameter(f"{option} {value} is none of {', '.join(names.split())}")
    if (config is None) == (resume is None) or (config is not None and space is None):
        raise BadParameter("CONFIG and --space FILE, or --resume FOLDER")
    if resume is not None and any((overrides, space, sampler, pruner, name, backbone, seed is not None, skip_check)):
        raise BadParameter("--resume takes --trials, --workers, --budget, --test, --storage; the rest is in its folder")
    if name is not None and storage is None:
        raise BadParameter("--name needs a --storage outside of the sweep's folder")
    from mslab.experiments.sweep import study

    chosen: dict[str, Any] = {"trials": trials, "workers": workers, "budget": study.seconds_of(budget)}
    chosen |= {"test": test, "storage": storage}
    if resume is not None:
        result = study.resume_sweep(resume, chosen)
    else:
        chosen |= {"sampler": sampler, "pruner": pruner, "name": name, "backbone": backbone, "seed": seed}
        chosen = {key: value for key, value in chosen.items() if value is not None}
        look = functools.partial(checked_data, str(config), skip_check=skip_check)
        arguments = study.SweepOptions(**chosen, skip_check=skip_check)
        result = study.run_sweep(str(config), str(space), overrides or [], arguments, look)
    emit(result, json_file, lambda: study.table(result))
    return 130 if result["status"] == "stopped" else 0


@job(app, "repeat")
def repeat(
    config: options.Config,
    overrides: options.Overrides = None,
    seeds: options.Seeds = 5,
    backbone: options.Backbone = None,
    test: options.Test = None,
    json_file: options.Json = None,
    skip_check: options.SkipCheck = False,
) -> None:
    """Train with several seeds: mean, standard deviation and 95 % interval of every figure."""
    settings, report = checked_config(config, overrides, skip_check)
    images = None
    if test is not None:
        images = checked(test, skip_content=skip_check)
        images.raise_errors()
    from mslab.experiments import repeating

    result = repeating.repeat(settings, seeds, report, Path(config).stem, backbone, images)
    emit(result, json_file, lambda: repeating.table(result))


@job(app, "reproduce-all")
def reproduce_all(
    names: Annotated[list[str] | None, Argument(metavar="[RECIPE]...", help="all small ones if none")] = None,
    fastest: Annotated[bool, Option("--fastest", help="only the fastest one")] = False,
    record: Annotated[
        bool, Option("--record", help="train them and keep what they leave as what was measured")
    ] = False,
    tolerance: options.Tolerance = 0.05,
    json_file: options.Json = None,
) -> int:
    """Run the small recipes of configs/ again and compare with what was measured; exit 1 where one does not hold."""
    if names and fastest:
        raise BadParameter("--fastest is one recipe; name recipes, or ask for the fastest")
    if record and (fastest or json_file):
        raise BadParameter("--record trains and keeps; --fastest and --json are of a comparison")
    from mslab.reproduce import recipes

    if record:
        recipes.record(names or [])
        return 0
    rows = recipes.reproduce_all(names or [], fastest, tolerance)
    emit({"schema": 1, "recipes": rows}, json_file, lambda: recipes.table(rows))
    return 1 if any(row["verdict"] == "different" for row in rows) else 0
