"""Commands that train several times: demo, lr-find, tune-batch, sweep, repeat and reproduce-all."""

import functools
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, BadParameter, Option

from mslab.cli import options
from mslab.cli.options import app, checked, checked_config, checked_data, emit, found, job, log, picture


@job(app, "demo")
def demo(overrides: options.Overrides = None, json_file: options.Json = None) -> None:
    """Draw the demo data, check it, train nine classes, transfer to two classes and report the gain from transfer."""
    from mslab.experiments import demo

    result = demo.run_demo(overrides=overrides or [])
    emit(result, json_file, lambda: demo.table(result))


@job(app, "lr-find")
def lr_find(
    config: options.Config,
    overrides: options.Overrides = None,
    backbone: options.Backbone = None,
    steps: Annotated[int, Option(help="number of training steps", min=10)] = 100,
    lowest: Annotated[float, Option(help="learning rate of the first step", min=1e-12)] = 1e-6,
    highest: Annotated[
        float, Option(help="learning rate of the last step, unless the loss diverges earlier", max=1000)
    ] = 10.0,
    out: Annotated[
        str | None,
        Option(metavar="FILE.png", help="picture of the curve (default: CONFIG-lr-find.png)"),
        options.PICTURE,
    ] = None,
    json_file: options.Json = None,
) -> None:
    """Suggest lr_max from a short trial that raises the learning rate until the loss diverges. Saves no weights."""
    if not lowest < highest:
        raise BadParameter("--lowest must be below --highest")
    target = picture(config, "lr-find", out)
    network = found(backbone, config, overrides) if backbone is not None else None
    settings, report = checked_config(config, overrides, skip_check=True, backbone=network)
    from mslab.experiments import lr_find

    result = lr_find.find_rate(settings, report, network, steps, lowest, highest)
    emit(result, json_file, lambda: lr_find.draw(result, target))


@job(app, "tune-batch")
def tune_batch(
    config: options.Config,
    overrides: options.Overrides = None,
    most: Annotated[int, Option(help="largest batch size to try", min=2, max=65536)] = 1024,
    json_file: options.Json = None,
) -> None:
    """Find the largest batch_size that fits into memory, and the size above which training gets no faster."""
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
    resume: Annotated[
        str | None, Option(metavar="FOLDER", help="continue a sweep that was stopped; latest is the newest")
    ] = None,
    json_file: options.Json = None,
    skip_check: options.SkipCheck = False,
) -> int:
    """Search settings with Optuna in several processes, each trial a run; leaves runs/NAME-sweep-DATE/."""
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
        look = functools.partial(checked_data, str(config), skip_check=skip_check, own_table=backbone is not None)
        arguments = study.SweepOptions(**chosen, skip_check=skip_check)
        result = study.run_sweep(str(config), str(space), overrides or [], arguments, look)
    emit(result, json_file, lambda: study.table(result))
    return 130 if result["status"] == "stopped" else 0


@job(app, "repeat")
def repeat(
    config: options.Config,
    overrides: options.Overrides = None,
    seeds: Annotated[int | None, Option(help=f"{options.SEEDS} (default: 5)", min=1)] = None,
    folds: Annotated[
        str | None, Option(metavar="FOLDER", help="cross-validation on the folds of mslab data split --folds")
    ] = None,
    backbone: options.Backbone = None,
    test: options.Test = None,
    json_file: options.Json = None,
    skip_check: options.SkipCheck = False,
) -> None:
    """Train with several seeds, or on several folds, and report mean, deviation and 95 % interval of every figure."""
    if folds is not None and seeds is not None:
        raise BadParameter("--folds trains with the config's seed, one run a fold: leave out --seeds")
    network = found(backbone) if backbone is not None else None
    if folds is not None:
        from mslab.config import load_settings
        from mslab.experiments import cross_validation

        cross_validation.refuse_task(load_settings(config, overrides or [], notes=False))
    pairs = fold_tables(Path(folds), overrides or []) if folds is not None else []
    chosen = [*(overrides or []), *data_of(pairs)]
    settings, report = checked_config(config, chosen, skip_check, backbone=network)
    reports = [report] + [checked_fold(config, settings, pair, skip_check) for pair in pairs[1:]]
    images = None
    if test is not None:
        images = checked_test(test, settings, report, skip_check)
    from mslab.experiments import cross_validation, repeating

    name = Path(config).stem
    if pairs:
        result = cross_validation.cross_validate(settings, pairs, reports, name, network, images)
        emit(result, json_file, lambda: cross_validation.table(result))
        return
    result = repeating.repeat(settings, 5 if seeds is None else seeds, report, name, network, images)
    emit(result, json_file, lambda: repeating.table(result))


def checked_test(root: str, settings: Any, report: Any, skip_check: bool) -> Any:
    """The report on the images of --test, read as training reads its own. Raises DatasetError."""
    if settings.task != "classify":
        images = options.checked_labels(root, settings.task)
    else:
        from mslab.check.training_data import reading_of_test

        images = checked(root, skip_content=skip_check, **reading_of_test(settings, report))
    images.raise_errors()
    return images


def fold_tables(folder: Path, overrides: list[str]) -> list[tuple[Path, Path]]:
    """The tables of the folds. Raises BadParameter if the command line names other images, too."""
    from mslab.experiments.cross_validation import find_folds

    if named := [text for text in overrides if text.partition("=")[0].strip() in ("train_data", "val_data")]:
        raise BadParameter(f"--folds names the images: leave out {' '.join(named)}")
    return find_folds(folder)


def data_of(pairs: list[tuple[Path, Path]]) -> list[str]:
    """The settings of the first fold's images, as overrides."""
    from mslab.config.overrides import override

    names = ("train_data", "val_data")
    return [override(name, str(path)) for pair in pairs[:1] for name, path in zip(names, pair, strict=True)]


def checked_fold(config: str, settings: Any, pair: tuple[Path, Path], skip_check: bool) -> Any:
    """The report on a fold's images."""
    train, val = map(str, pair)
    return checked_data(config, settings.replace(train_data=train, val_data=val), skip_check)


@job(app, "reproduce-all")
def reproduce_all(
    names: Annotated[
        list[str] | None, Argument(metavar="[RECIPE]...", help="recipes to run (default: all small ones)")
    ] = None,
    fastest: Annotated[bool, Option("--fastest", help="run the fastest recipe only")] = False,
    record: Annotated[
        bool, Option("--record", help="train the recipes and save the results in configs/measured/")
    ] = False,
    tolerance: options.Tolerance = 0.05,
    json_file: options.Json = None,
) -> int:
    """Repeat the small recipes of configs/ and compare with the recorded figures; exit 1 if one differs."""
    if names and fastest:
        raise BadParameter("--fastest selects one recipe: give recipe names or --fastest, not both")
    if record and (fastest or json_file):
        raise BadParameter("--record trains and saves without comparing: leave out --fastest and --json")
    from mslab.reproduce import recipes

    if record:
        recipes.record(names or [])
        return 0
    rows = recipes.reproduce_all(names or [], fastest, tolerance)
    emit({"schema": 1, "recipes": rows}, json_file, lambda: recipes.table(rows))
    return 1 if any(row["verdict"] == "different" for row in rows) else 0
