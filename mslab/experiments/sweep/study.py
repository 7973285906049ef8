"""A sweep from its space to sweep.json and report.html: run_sweep begins one, resume_sweep continues one."""

import contextlib
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna

from mslab import files
from mslab.check import DatasetReport, check_dataset, training_data
from mslab.check.label_check import check_labels
from mslab.check.training_data import check_or_raise
from mslab.config import Settings, load_settings, paths, read_yaml, tasks
from mslab.config.overrides import listed
from mslab.config.tasks import CLASSIFY
from mslab.errors import ConfigError, MslabError, RunError, TrainingError
from mslab.escaping import command, quoted
from mslab.experiments import repeating
from mslab.experiments.sweep import page, trials
from mslab.experiments.sweep.pool import TrialPool, short
from mslab.experiments.sweep.sampling import points_of
from mslab.experiments.sweep.space import Space, contradictory, describe, parse, read_space
from mslab.runs import lock, ranking, weights
from mslab.runs.folder import fresh_folder
from mslab.runtime import signals
from mslab.runtime.tables import cell, empty_table, render

log = logging.getLogger("mslab")
SWEEP = "the folder of a sweep, as mslab sweep leaves it under runs/; or latest"
UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass
class SweepOptions:
    """How a sweep searches, beside its space."""

    trials: int = 20
    workers: int = 1
    budget: float | None = None  # seconds, after which no trial begins
    sampler: str = "tpe"
    pruner: str = "median"
    storage: str | None = None  # --storage; None: SQLite in the folder
    name: str | None = None  # of the study; None: the folder's
    backbone: str | None = None  # each trial is a transfer from it
    test: str | None = None  # folder of test images
    seed: int = 1  # of the sampler
    skip_check: bool = False


def seconds_of(text: str | None) -> float | None:
    """seconds_of("1.5h") -> 5400.0; also 30m and 90s. Raises ConfigError."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh])\s*", text)
    if not match or not float(match[1]):
        raise ConfigError(
            f"--budget {text} is not a time.", expected="a number with s, m or h", fix="--budget 90s, 30m, 2h or 1.5h"
        )
    return float(match[1]) * UNITS[match[2]]


def explicit(config: str | Path | Mapping[str, Any], overrides: Sequence[str], settings: Settings) -> dict[str, Any]:
    """The settings of config and overrides, without those that mslab fills in, which may depend on a trial's values."""
    names = set(read_yaml(Path(config)) if isinstance(config, str | Path) else config)
    for text in listed(overrides):
        name, _, value = map(str.strip, text.partition("="))
        removes = value in ("null", "~") and name != "seed"  # seed=null draws one, the same for all trials
        names = names - {name} if removes else names | {name}
    return settings.model_dump(mode="json", include=names)


def run_sweep(
    config: str | Path | Mapping[str, Any],
    space_file: str | Path,
    overrides: Sequence[str] = (),
    options: SweepOptions | None = None,
    look: Callable[[Settings], DatasetReport] | None = None,
) -> dict[str, Any]:
    """Search the space of a file; leaves runs/NAME-sweep-…/ with sweep.json and report.html. Returns sweep.json.

    `look` checks the images of the settings, after settings, space and storage were checked. Raises ConfigError,
    DatasetError, CheckpointError, and TrainingError if no trial could be trained.
    """
    options = options or SweepOptions()
    settings = load_settings(config, overrides)
    space = read_space(space_file, settings, options.sampler, options.backbone is not None)
    if settings.max_training_time:
        raise repeating.in_the_middle("trials", settings.max_training_time)
    trials.storage_url(options.storage, Path("runs"))
    if options.backbone is not None:  # latest is another run when the sweep goes on
        options = replace(options, backbone=str(weights.backbone_file(options.backbone)))
    source = str(config) if isinstance(config, str | Path) else None
    result: dict[str, Any] = {"schema": 1, "config_file": source, "overrides": listed(overrides)}
    result |= {"config": explicit(config, overrides, settings), "space": read_yaml(Path(space_file))}
    with continued(result):
        return carry_out(result, settings, space, options, report=look(settings) if look else None)


def resume_sweep(folder: str | Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Continue a stopped sweep in its folder. `changes`: new values of options; None leaves one unchanged."""
    folder = sweep_at(folder)
    try:
        result = files.read_json(folder / "sweep.json")
        options = SweepOptions(**result["options"])
        kinds = {"config": dict, "space": dict, "overrides": list, "config_file": str | None, "study": str}
        texts = [options.storage, options.backbone, options.test]
        if not all(isinstance(result[key], kind) for key, kind in kinds.items()) or type(options.trials) is not int:
            raise ValueError
        if not all(isinstance(text, str | None) for text in texts):
            raise ValueError
    except (OSError, ValueError, TypeError, KeyError):
        raise RunError(
            f"{folder} has no sweep.json that can be read.",
            expected=SWEEP,
            fix=one_of_the_sweeps(),
        ) from None
    options = replace(options, **({"budget": None} | {key: v for key, v in changes.items() if v is not None}))
    if options.storage and "***@" in options.storage:
        raise ConfigError(
            f"The password of {options.storage} was not saved.",
            expected="the storage's URL with its password",
            fix=command("sweep", "--resume", folder, "--storage", "URL"),
        )
    if changes.get("storage") is None and not is_own(options.storage, folder):
        raise ConfigError(
            f"{folder}/sweep.json names the storage {options.storage}, which is not in {folder}.",
            expected="a storage in the sweep's own folder, or one that the command line names: somebody else may have "
            "written sweep.json",
            fix=again(folder, options.storage),
        )
    settings = load_settings(result["config"], place=str(folder / "sweep.json"), notes=False)
    backbone = options.backbone is not None
    space = parse(result["space"], settings, options.sampler, backbone, str(folder / "sweep.json"))
    result["folder"] = str(folder)
    with continued(result):
        return carry_out(result, settings, space, options, folder=folder)


def sweeps() -> list[Path]:
    """The folders of sweeps under runs/, the last one at the end."""
    return sorted((file.parent for file in Path("runs").glob("*/sweep.json")), key=lambda place: place.name[-15:])


def one_of_the_sweeps() -> str:
    return f"one of {', '.join(map(quoted, sweeps()[-5:])) or 'those of mslab sweep'}"


def sweep_at(given: str | Path) -> Path:
    """The folder that is meant; `latest` is the newest sweep. Raises RunError if there is none."""
    folder = paths.path_of(given, RunError, SWEEP, one_of_the_sweeps)
    if files.kind_of(folder, links=True):
        return folder
    if str(given) == "latest" and (there := sweeps()):
        log.info(f"latest is {there[-1]}")
        return there[-1]
    wanted = paths.Wanted("folder", SWEEP, lambda path: files.kind_of(path / "sweep.json") == "a file")
    raise paths.missing(folder, RunError, wanted, one_of_the_sweeps())


@contextlib.contextmanager
def continued(result: Mapping[str, Any]) -> Iterator[None]:
    """Say after Ctrl-C how the sweep goes on, if it has begun."""
    try:
        yield
    except KeyboardInterrupt:
        if "folder" not in result:
            raise
        resume = again(Path(result["folder"]), result["options"]["storage"])
        raise signals.Interrupted(f"{resume}    continues it") from None


def is_own(storage: str | None, folder: Path) -> bool:
    """Whether a storage that sweep.json names is a file in the sweep's folder."""
    return storage in (None, "journal") or (
        "://" not in str(storage) and Path(str(storage)).resolve().is_relative_to(folder.resolve())
    )


def again(folder: Path, storage: str | None) -> str:
    """The command that continues a sweep."""
    if is_own(storage, folder):
        return command("sweep", "--resume", folder)
    return command("sweep", "--resume", folder, "--storage", str(storage))


def carry_out(
    result: dict[str, Any],
    settings: Settings,
    space: Space,
    options: SweepOptions,
    *,
    report: DatasetReport | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Train, measure, write, in a new folder if there is none. `result` is the content of sweep.json so far."""
    report = check_or_raise(settings, report, options.skip_check)
    test = test_images(settings, options, report)
    backbone = weights.backbone_file(options.backbone).resolve() if options.backbone else None
    resumed = folder is not None
    if not resumed and options.storage not in (None, "journal"):  # a wrong one leaves no folder
        trials.open_storage(trials.storage_url(options.storage, Path("runs")))
    with contextlib.ExitStack() as locked:
        with signals.held():  # Ctrl-C finds no sweep yet, or one that can be continued
            folder = folder or fresh_folder(f"{Path(result['config_file'] or 'run').stem}-sweep")
            locked.enter_context(lock.held(folder))
            storage = trials.open_storage(trials.storage_url(options.storage, folder))
            study_name = options.name or result.get("study") or folder.name
            study = trials.open_study(storage, study_name, identity(report, backbone), settings, space, options)
            points = points_of(study)
            public = replace(options, storage=options.storage and trials.hide_password(options.storage))
            result |= {"study": study_name, "folder": str(folder), "options": asdict(public), "status": "running"}
            result |= {"test_acc": {"best": None, "default": None}, "settings": settings.model_dump(mode="json")}

            def save() -> None:
                rows = trials.rows(study)
                ended = sum(row["state"] in trials.ENDED for row in rows)
                result.update(best=trials.best(rows, settings.best_by), default=trials.default(rows), trials=rows)
                result["possible"] = points.possible(ended)
                result["note"] = too_many(ended, result["possible"], options.trials)
                files.write_text(folder / "sweep.json", files.json_text(result))

            setup = {"config": result["config"], "report": report, "argv": sys.argv}
            setup |= {"backbone": backbone and str(backbone), "called": ranking.shown(settings)}
            log.info(introduction(study, folder, space, options, settings))
            save()
        if resumed:
            trials.try_again(study)
        try:
            result["status"] = TrialPool(study, space, folder, setup, options, save).run()
            save()
            if test and result["status"] != "stopped":
                measure(result, test, settings.device)
            if result["note"]:
                log.info(result["note"])
        except KeyboardInterrupt:
            result["status"] = "stopped"
            raise
        except BaseException:
            result["status"] = "failed"
            raise
        finally:
            save()
    finish(result, study, space, folder)
    return result


def identity(report: DatasetReport, backbone: Path | None) -> dict[str, Any]:
    """What every part of a sweep has in common: its images and its backbone."""
    count = report.images_in("train")
    return {"the images": report.fingerprint, "count": count, "the backbone": backbone and files.sha256(backbone)}


def test_images(settings: Settings, options: SweepOptions, report: DatasetReport) -> DatasetReport | None:
    """The images of --test, read as eval does with the networks; None without it. Raises DatasetError."""
    if not options.test:
        return None
    if settings.task == CLASSIFY:
        read = training_data.reading_of_test(settings, report)
        test = check_dataset(options.test, skip_content=options.skip_check, **read)
    else:
        test = check_labels(options.test, settings.task)
    test.raise_errors()
    return test


def finish(result: Mapping[str, Any], study: optuna.Study, space: Space, folder: Path) -> None:
    """Write the page and say what can follow. Raises TrainingError if no trial was completed."""
    try:
        log.info("%s: history, importance, every trial; open it in a browser", page.write(result, study, space, folder))
    except Exception as error:  # the trials are worth more than their page
        log.info("note: no report: %r", error)
    if result["status"] != "done":
        log.info(f"{command('sweep', '--resume', folder)}    continues it")
    if result["best"] is None and result["status"] != "stopped":
        longer = f"{command('sweep', '--resume', folder)}    with a larger --budget; report.html shows each trial"
        others = f"other values in the space, in a new sweep; {folder / 'report.html'} shows why each trial failed"
        raise TrainingError(
            f"No trial of {folder} was completed.",
            expected="at least one that is trained to its end",
            fix=longer if result["status"] == "budget" else others,
        )


def too_many(done: int, possible: int | None, trials: int) -> str:
    """What to say if there are fewer points than --trials asks for; else ""."""
    # too_many(4, 4, 10) -> "4 of 4 possible points done; --trials 10 asks for more than there are"
    if possible is None or trials <= possible:
        return ""
    points = "point" if possible == 1 else "points"
    return f"{min(done, possible)} of {possible} possible {points} done; --trials {trials} asks for more than there are"


def introduction(study: optuna.Study, folder: Path, space: Space, options: SweepOptions, settings: Settings) -> str:
    """The first lines: what is searched, and what the study has already."""
    workers = f"{options.workers} worker{'s' * (options.workers > 1)}"
    lines = [f"{folder}: {options.trials} trials, {workers}, sampler {options.sampler}, pruner {options.pruner}"]
    lines += [f"  {describe(name, kind)}" for name, kind in space.items()]
    lines += contradictory(space, settings)
    if begun := trials.count(study, waiting=False):
        lines.append(f"study {study.study_name} has {begun} trials already")
    every = trials.last_tries(study)
    if any(trial.user_attrs.get("outside") for trial in every):
        lines.append("note: the config's own values are outside of the space; they are tried once, unchanged")
    if options.sampler == "grid":
        lines.append(f"the grid has {len(every)} points with the config's own; --trials {options.trials}")
    elif (possible := points_of(study).possible(0)) and possible < options.trials:
        points = "is 1 possible point" if possible == 1 else f"are {possible} possible points"
        lines.append(f"note: there {points}; --trials {options.trials} asks for more")
    return "\n".join(lines)


def measure(result: dict[str, Any], test: DatasetReport, device: str) -> None:
    """Measure the best trial and the default on the test images, once, at the end."""
    from mslab.evaluation import measuring

    for which in ("best", "default"):
        row = result[which]
        if which == "default" and result["best"] == row:
            result["test_acc"]["default"] = result["test_acc"]["best"]
        elif row and row["run"] and row["val_acc"] is not None:
            try:
                found = measuring.evaluate(row["run"], test.root, test, device)
                result["test_acc"][which] = found[found.get("measure", "accuracy")]
            except MslabError as error:
                log.info(f"note: {row['run']} could not be measured on the test images: {error.what}")


def table(result: Mapping[str, Any]) -> str:
    """The best trial beside the config's own values, and the command that trains it."""
    if result["best"] is None:
        return "no trial was completed"
    columns = {which: result[which] for which in ("best", "default") if result[which]}
    grid = empty_table(None, ("", *columns))
    grid.add_row("trial", *(str(row["trial"]) for row in columns.values()))
    for key in result["best"]["values"]:
        grid.add_row(key, *(cell(short(row["values"][key])) for row in columns.values()))
    settings = Settings.model_validate(result["settings"])
    own = "accuracy" if settings.task == CLASSIFY else tasks.measure(settings)
    figures = {ranking.title(settings): [row.get(ranking.column(settings.best_by)) for row in columns.values()]}
    figures |= {ranking.title(settings.replace(best_by=None)): [row["val_acc"] for row in columns.values()]}
    figures[f"test {own}"] = [result["test_acc"][which] for which in columns]
    for title, values in figures.items():
        if any(value is not None for value in values):
            grid.add_row(title, *("–" if value is None else f"{value:.3f}" for value in values))
    return f"{render(grid)}\n{page.command(result)}"
