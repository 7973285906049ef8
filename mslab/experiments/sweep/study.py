"""A sweep from its space to sweep.json and report.html: run_sweep begins one, resume_sweep goes on with one."""

import json
import logging
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mslab import checkpoint
from mslab.check import DatasetReport, check_dataset
from mslab.check.training_data import check_or_raise
from mslab.config import Settings, load_settings, read_yaml
from mslab.errors import CheckpointError, ConfigError, RunError, TrainingError
from mslab.experiments import repeating
from mslab.experiments.sweep import ledger, page
from mslab.experiments.sweep.pool import TrialPool, short
from mslab.experiments.sweep.space import Knob, contradicting, parse, read_space
from mslab.runs.folder import fresh_folder
from mslab.runtime.tables import cell, empty_table, render

log = logging.getLogger("mslab")
UNITS = {"s": 1, "m": 60, "h": 3600}


@dataclass
class SweepOptions:
    """How a sweep goes, beyond what it tries."""

    trials: int = 20
    workers: int = 1
    budget: float | None = None  # seconds, after which no trial begins
    sampler: str = "tpe"
    pruner: str = "median"
    storage: str | None = None  # as --storage says it; None: SQLite in the folder
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
            f"--budget {text} is no time.", expected="a number with s, m or h", fix="--budget 90s, 30m, 2h or 1.5h"
        )
    return float(match[1]) * UNITS[match[2]]


def given_of(config: str | Path | Mapping[str, Any], overrides: Sequence[str], settings: Settings) -> dict:
    """The settings that were given, without the defaults: what a trial's values are put on top of."""
    content = settings.model_dump()
    given = dict(read_yaml(Path(config))) if isinstance(config, str | Path) else dict(config)
    for text in overrides:
        key, _, value = text.partition("=")
        if value.strip() in ("", "null", "~") and key.strip() != "seed":  # a seed was drawn, once for all trials
            given.pop(key.strip(), None)
        else:
            given[key.strip()] = content[key.strip()]
    return json.loads(json.dumps({key: content[key] for key in given}))


def run_sweep(
    config: str | Path | Mapping[str, Any],
    space_file: str | Path,
    overrides: Sequence[str] = (),
    options: SweepOptions | None = None,
    look: Callable[[Settings], DatasetReport] | None = None,
) -> dict[str, Any]:
    """Try what the space file names; leaves runs/NAME-sweep-…/ with sweep.json and report.html. Returns sweep.json.

    `look` checks the images that the settings name, once settings, space and storage are found to be right. Raises
    ConfigError, DatasetError, CheckpointError, and TrainingError where no trial could be trained.
    """
    options = options or SweepOptions()
    settings = load_settings(config, overrides)
    space = read_space(space_file, settings, options.sampler, options.backbone is not None)
    content = read_yaml(Path(space_file))
    name = Path(config).stem if isinstance(config, str | Path) else "run"
    source = str(config) if isinstance(config, str | Path) else None
    if settings.max_training_time:
        raise repeating.in_the_middle("trials", settings.max_training_time)
    given = given_of(config, overrides, settings)
    told = {"schema": 1, "config_file": source, "overrides": list(overrides), "config": given, "space": content}
    ledger.storage_of(options.storage, Path("runs"))
    backbone_file(options.backbone)
    return carry_out(told, settings, space, options, look(settings) if look else None, name)


def resume_sweep(folder: str | Path, more: Mapping[str, Any]) -> dict[str, Any]:
    """Go on with a stopped sweep, in its folder. `more`: options that are other ones now; None leaves one as it was."""
    folder = Path(folder)
    try:
        told = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
        options = SweepOptions(**told["options"])
    except (OSError, ValueError, TypeError, KeyError):
        raise RunError(
            f"{folder} has no sweep.json that can be read.",
            expected="the folder of a sweep, as mslab sweep leaves it under runs/",
            fix=f"one of {', '.join(map(str, sorted(Path('runs').glob('*-sweep-*'))[-5:])) or 'those of mslab sweep'}",
        ) from None
    options = replace(options, **({"budget": None} | {key: value for key, value in more.items() if value is not None}))
    if options.storage and "***@" in options.storage:
        raise ConfigError(
            f"The password of {options.storage} was not kept.",
            expected="the storage's URL with its password",
            fix=f"mslab sweep --resume {folder} --storage URL",
        )
    settings = load_settings(told["config"])
    space = parse(told["space"], settings, options.sampler, options.backbone is not None, str(folder / "sweep.json"))
    return carry_out(told, settings, space, options, None, folder.name, folder)


def carry_out(
    told: dict[str, Any],
    settings: Settings,
    space: Sequence[Knob],
    options: SweepOptions,
    report: DatasetReport | None,
    name: str,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Train, measure, write. `told` is what sweep.json begins with."""
    report = check_or_raise(settings, report, options.skip_check)
    test = check_dataset(options.test, skip_content=options.skip_check) if options.test else None
    if test:
        test.raise_errors()
    backbone = backbone_file(options.backbone)
    place = ledger.storage_of(options.storage, folder or Path("runs"))  # a wrong one leaves no folder
    if folder is None:
        if options.storage not in (None, "journal"):
            ledger.open_storage(place)
        folder = fresh_folder(f"{name}-sweep")
        place = ledger.storage_of(options.storage, folder)
    storage = ledger.open_storage(place)
    about = identity(settings, space, report, backbone)
    study_name = options.name or told.get("study") or folder.name
    study = ledger.open_study(storage, study_name, about, space, options.sampler, options.pruner, options.seed)
    kept = replace(options, storage=None if options.storage is None else ledger.hidden(options.storage))
    told |= {"study": study_name, "folder": str(folder), "options": asdict(kept), "status": "running"}
    told |= {"test_acc": {"best": None, "default": None}, "settings": about["default"]}

    def save() -> None:
        rows = ledger.rows(study)
        told.update(best=ledger.best(rows), default=ledger.default(rows), trials=rows)
        checkpoint.write_text(folder / "sweep.json", json.dumps(told, indent=2, ensure_ascii=False) + "\n")

    setup = {"given": told["config"], "report": report, "backbone": backbone and str(backbone), "argv": sys.argv}
    log.info(beginning(study, folder, space, options, settings))
    pool = TrialPool(study, space, folder, setup, options, save)
    save()
    try:
        told["status"] = pool.work()
        save()
        if test and told["status"] != "stopped":
            confirm(told, pool, test, settings.device)
    except BaseException:
        told["status"] = "failed"
        raise
    finally:
        pool.close()
        save()
    write_report(told, study, space, folder)
    if told["status"] != "done":
        log.info(f"mslab sweep --resume {folder}    goes on")
    if told["best"] is None and told["status"] != "stopped":
        raise TrainingError(
            f"No trial of {folder} was completed.",
            expected="at least one that is trained to its end",
            fix=f"mslab sweep --resume {folder}, with a larger --budget; report.html says what became of each",
        )
    return told


def identity(settings: Settings, space: Sequence[Knob], report: DatasetReport, backbone: Path | None) -> dict[str, Any]:
    """What a study is about: all machines that work on it have to agree in this."""
    return {
        "space": [str(knob) for knob in space],
        "fingerprint": report.fingerprint,
        "backbone": checkpoint.sha256(backbone) if backbone else None,
        "default": json.loads(json.dumps(settings.model_dump())),
        "pruned_from": max(math.ceil(settings.warmup_epochs) + 1, math.ceil(settings.epochs / 3)),  # epochs
    }


def write_report(told: dict[str, Any], study: Any, space: Sequence[Knob], folder: Path) -> None:
    """report.html; where it cannot be made, a note: what was trained stays."""
    try:
        log.info("%s: history, importance, every trial; open it in a browser", page.write(told, study, space, folder))
    except Exception as error:
        log.info("note: no report: %r", error)


def backbone_file(path: str | Path | None) -> Path | None:
    """The file of --backbone; of a run, its best_backbone.ckpt."""
    if path is None:
        return None
    file = Path(path) / "checkpoints" / "best_backbone.ckpt" if (Path(path) / "checkpoints").is_dir() else Path(path)
    if not file.is_file():
        raise CheckpointError(
            f"There is no file {file}.",
            expected="the best_backbone.ckpt of a run, or its folder",
            fix="correct --backbone",
        )
    return file.resolve()


def beginning(study: Any, folder: Path, space: Sequence[Knob], options: SweepOptions, settings: Settings) -> str:
    """The first lines: what is tried, and from where on."""
    how = f"{options.workers} worker{'s' * (options.workers > 1)}, sampler {options.sampler}, pruner {options.pruner}"
    lines = [f"{folder}: {options.trials} trials, {how}"]
    lines += [f"  {knob}" for knob in space]
    lines += contradicting(list(space), settings)
    done = ledger.taken(study)
    if done:
        lines.append(f"study {study.study_name} has {done} trials already")
    outside = [t for t in study.get_trials(deepcopy=False) if t.user_attrs.get("outside")]
    if outside:
        lines.append("note: the config's own values are outside of the space; they are tried once, as they are")
    if options.sampler == "grid":
        points = len({json.dumps(t.system_attrs.get("fixed_params")) for t in study.get_trials(deepcopy=False)})
        lines.append(f"the grid has {points} points with the config's own; --trials {options.trials}")
    return "\n".join(lines)


def confirm(told: dict[str, Any], pool: TrialPool, test: DatasetReport, device: str) -> None:
    """Measure the best trial and the default on the test images, once, at the end."""
    for which in ("best", "default"):
        row = told[which]
        if row and row["run"] and row["val_acc"] is not None and not (which == "default" and same(told)):
            told["test_acc"][which] = pool.measure(row["run"], test, device)
    if same(told):
        told["test_acc"]["default"] = told["test_acc"]["best"]


def same(told: Mapping[str, Any]) -> bool:
    return bool(told["best"] and told["default"] and told["best"]["trial"] == told["default"]["trial"])


def table(told: Mapping[str, Any]) -> str:
    """The best trial beside the config's own values, and the command that trains it."""
    if told["best"] is None:
        return "no trial was completed"
    shown = [("best", told["best"])] + [("default", told["default"])] * bool(told["default"])
    grid = empty_table(None, ("", *(which for which, _ in shown)))
    grid.add_row("trial", *(str(row["trial"]) for _, row in shown))
    for key in told["best"]["values"]:
        grid.add_row(key, *(cell(short(row["values"][key])) for _, row in shown))
    for key, title in (("val_acc", "validation accuracy"), ("test_acc", "test accuracy")):
        found = [row["val_acc"] if key == "val_acc" else told["test_acc"][which] for which, row in shown]
        if any(value is not None for value in found):
            grid.add_row(title, *("–" if value is None else f"{value:.3f}" for value in found))
    return f"{render(grid)}\n{page.command(told)}"
