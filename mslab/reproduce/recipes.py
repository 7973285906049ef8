"""`mslab reproduce-all`: repeat every small recipe of configs/ and compare with the committed figures.

configs/measured/NAME/ contains the files of a run of configs/NAME.yaml without its checkpoints: settings, manifest,
epochs, steps, figures. --record writes it.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mslab import files
from mslab.data.animals import build_animals
from mslab.errors import MslabError
from mslab.experiments import lab
from mslab.experiments.demo import CONFIGS, draw
from mslab.reproduce.reproducing import ReproduceOptions, reproduce
from mslab.runs.folder import RunFolder
from mslab.runtime.tables import empty_table, render

log = logging.getLogger("mslab")
MEASURED = CONFIGS / "measured"
FILES = ("config.yaml", "manifest.json", "history.csv", "steps.csv", "eval.json")
TOLERANCE = 0.05  # another CPU rounds differently; small networks on few images then vary as much as between seeds


@dataclass(frozen=True)
class Recipe:
    """One config, its data set, and the recipe whose backbone it starts from."""

    data: str
    parent: str | None = None


RECIPES = {  # fastest first, a parent before its children
    "tiny_nine": Recipe("mushrooms"),
    "tiny_two": Recipe("mushrooms", "tiny_nine"),
    "knobs": Recipe("mushrooms"),
    "mushrooms9": Recipe("mushrooms"),
    "mushrooms2": Recipe("mushrooms", "mushrooms9"),
    "animals9": Recipe("animals"),
    "animals2": Recipe("animals", "animals9"),
}


def select_recipes(names: Sequence[str], fastest: bool) -> list[str]:
    """Return the recipes to run and the parents that they need, parents first. Raises MslabError."""
    unknown = [name for name in names if name not in RECIPES]
    if unknown or not MEASURED.is_dir():
        what = f"There is no recipe {', '.join(unknown)}." if unknown else f"There is no {MEASURED}."
        fix = "mslab reproduce-all --fastest" if unknown else "clone the project and call ./run.sh reproduce-all there"
        raise MslabError(what, expected=f"one or more of {', '.join(RECIPES)}", fix=fix)
    selected = set(names or RECIPES) if not fastest else {next(iter(RECIPES))}
    selected |= {parent for name in selected if (parent := RECIPES[name].parent)}
    return [name for name in RECIPES if name in selected]


def build(data: set[str], root: Path) -> None:
    """Make the data sets; existing ones are left unchanged."""
    if "mushrooms" in data:
        draw(root)
    if "animals" in data:
        build_animals(root)


def reproduce_all(
    names: Sequence[str], fastest: bool = False, tolerance: float = TOLERANCE, root: Path = Path("datasets")
) -> list[dict[str, Any]]:
    """Repeat recipes. Return rows {recipe, verdict, then, now, seconds_then, seconds, run}; then, now: best val_acc."""
    recipes = select_recipes(names, fastest)
    build({RECIPES[name].data for name in recipes}, root)
    rows: list[dict[str, Any]] = []
    runs: dict[str, str] = {}
    for name in recipes:
        measured, start = RunFolder.read(MEASURED / name), time.perf_counter()
        log.info("%d/%d  %s", len(rows) + 1, len(recipes), name)
        parent = RECIPES[name].parent
        options = ReproduceOptions(backbone=runs[parent] if parent else None, tolerance=tolerance, chained=True)
        result = reproduce(MEASURED / name, options, log.info)
        if result.error:
            raise result.error
        again = RunFolder.read(str(result.again))
        runs[name] = str(again.path)
        rows.append({"recipe": name, "verdict": result.comparison.verdict if result.comparison else None})
        rows[-1] |= {"then": best(measured), "now": best(again), "run": runs[name]}
        spent = sum(row["seconds"] for row in measured.history)
        rows[-1] |= {"seconds_then": spent, "seconds": time.perf_counter() - start}
    return rows


def best(run: RunFolder) -> float:
    return run.best["val_acc"] if run.best else float("nan")


def record(names: Sequence[str], root: Path = Path("datasets"), show: Callable[[str], None] = log.info) -> None:
    """Train the recipes and save their results in configs/measured/."""
    from mslab.training import start

    if lab.IN_WHEEL:
        raise MslabError(
            "This mslab is installed from a wheel, whose measured figures are fixed.",
            expected="a checkout of the project, where --record writes configs/measured/",
            fix="clone the project and call ./run.sh reproduce-all --record there",
        )
    MEASURED.mkdir(exist_ok=True)
    recipes = select_recipes(names, False)
    build({RECIPES[name].data for name in recipes}, root)
    runs: dict[str, str] = {}
    for name in recipes:
        config, parent = CONFIGS / f"{name}.yaml", RECIPES[name].parent
        done = start.transfer(config, runs[parent]) if parent else start.train(config)
        runs[name] = done.run
        save_results(Path(done.run), MEASURED / name)
        linear = "–" if done.linear_acc is None else f"{done.linear_acc:.3f}"
        show(f"{MEASURED / name}: val_acc {done.val_acc:.3f}, linear model {linear}, {done.seconds:.0f} s")


def save_results(run: Path, target: Path) -> None:
    """Copy a run's text files to `target`, and limit the artifacts in the manifest to these files and checkpoints."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in FILES:
        shutil.copyfile(run / name, target / name)
    manifest = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
    artifacts = {n: d for n, d in manifest["artifacts"].items() if n in FILES or n.startswith("checkpoints/")}
    text = files.json_text(manifest | {"artifacts": artifacts})
    (target / "manifest.json").write_text(text, encoding="utf-8")


def table(rows: Sequence[dict[str, Any]]) -> str:
    names = ("", "measured", "now", "", "seconds", "run")
    grid = empty_table("repeated recipes: best validation accuracy", names, left=("", "run"))
    for row in rows:
        now = f"{row['then']:.3f}", f"{row['now']:.3f}", str(row["verdict"]), f"{row['seconds']:.0f}"
        grid.add_row(row["recipe"], *now, row["run"])
    return render(grid)
