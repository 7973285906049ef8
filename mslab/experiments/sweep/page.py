"""report.html of a sweep: how it went, which settings mattered, every trial. No script, no request."""

import json
import math
import os
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import optuna
from markupsafe import Markup, escape
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState

from mslab import escaping
from mslab.config import Settings, override, read_yaml
from mslab.errors import MslabError
from mslab.experiments.sweep.pool import short
from mslab.experiments.sweep.space import Distribution, Space, describe, encode, idle
from mslab.files import write_text
from mslab.report import charts
from mslab.runs import ranking

ENOUGH = 10  # completed trials, below which importance would be chance
DRAWN = 12  # settings with an axis of their own


def write(sweep: Mapping[str, Any], study: optuna.Study, space: Space, folder: Path) -> Path:
    """Write the page of a sweep, the content of its sweep.json, into its folder."""
    from mslab.report.writing import render

    page = folder / "report.html"
    write_text(page, render("sweep.html", facts(sweep, study, space, folder), "en"))
    return page


def facts(sweep: Mapping[str, Any], study: optuna.Study, space: Space, folder: Path) -> dict[str, Any]:
    best_by = sweep.get("settings", {}).get("best_by")
    name, drop = ranking.column(best_by), best_by == "loss"
    rows = [scored(row, name) for row in sweep["trials"]]
    best, default = (sweep[which] and scored(sweep[which], name) for which in ("best", "default"))
    if name == "val_acc" and sweep.get("settings"):
        name = ranking.shown(Settings.model_validate(sweep["settings"]))
    weights, missing = importance(study, list(space))
    for row in rows:
        row["link"] = os.path.relpath(row["run"], folder.resolve()) if row["run"] and Path(row["run"]).is_dir() else ""
    drawn = [row for row in rows if row["score"] is not None and row["state"] in ("complete", "pruned")]
    return {
        "title": f"{folder.name} · mslab",
        "name": folder.name,
        "sweep": sweep,
        "rows": [{**row, "values": {key: short(value) for key, value in row["values"].items()}} for row in rows],
        "names": list(space),
        "space": [describe(name, kind) for name, kind in space.items()],
        "measure": "validation accuracy" if name == "val_acc" else name,
        "noun": "accuracy" if name == "val_acc" else name,
        "best": best,
        "default": default,
        "command": command(sweep) if sweep["best"] else "",
        "resume": escaping.command("sweep", "--resume", folder),
        "counts": Counter(row["state"] for row in rows),
        "history": history(drawn, name, drop),
        "parallel": parallel(drawn, space, name, drop),
        "importance": bars(weights),
        "no_importance": missing,
        "config_text": json.dumps(sweep["config"], indent=2, ensure_ascii=False),
    }


def scored(row: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The row of a trial with its `score`: the value in the column that best_by decides by; None without one."""
    return {**row, "score": row.get(name)}


def command(sweep: Mapping[str, Any]) -> str:
    """The command line that trains the best trial."""
    backbone, values = sweep["options"]["backbone"], sweep["best"]["values"]
    words = ["transfer" if backbone else "train", Path(sweep["config_file"] or "CONFIG")]
    words += [text for text in sweep["overrides"] if text.partition("=")[0].strip() not in values]
    settings = Settings.model_validate(sweep["settings"] | values)
    for key, value in values.items():
        if value is not None and not idle(key, settings):  # a command line refuses settings that do nothing
            words.append(override(key, value))
    threads = threads_of(sweep["best"].get("run")) or settings.data_workers
    if threads != settings.data_workers:  # a worker on few cores had fewer, with which training draws other images
        words.append(f"data_workers={threads}")
    words += ["--backbone", Path(backbone)] if backbone else []
    return escaping.command(*words)


def threads_of(run: str | None) -> int:
    """data_workers of a trial's run; 0 if its folder is gone or ruined, which costs the page nothing else."""
    try:
        content = read_yaml(Path(run) / "config.yaml") if run else {}
    except (MslabError, OSError):
        return 0
    threads = content.get("data_workers") if isinstance(content, dict) else 0
    return threads if isinstance(threads, int) else 0


def importance(study: optuna.Study, names: list[str]) -> tuple[dict[str, float], str]:
    """({setting: fraction of 1}, "") or ({}, why there is no figure), from the completed trials."""
    done = [t for t in study.get_trials(states=(TrialState.COMPLETE,)) if set(names) <= set(t.params)]
    if len(done) < ENOUGH:
        return {}, f"it takes {ENOUGH} completed trials to measure which setting mattered; there are {len(done)}"
    if len({t.value for t in done}) == 1:
        return {}, "every trial has the same accuracy"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return optuna.importance.get_param_importances(study, params=names), ""
    except (ValueError, RuntimeError) as error:  # for example if no setting has varied
        return {}, str(error)


# --- pictures --------------------------------------------------------------------------------------------------------


def history(rows: Sequence[Mapping[str, Any]], name: str = "val_acc", drop: bool = False) -> Markup:
    """The score of each trial, and the best so far as a line; pruned trials are squares. `drop`: lower is better."""
    if not rows:
        return Markup("")
    numbers, values = [row["trial"] for row in rows], [row["score"] for row in rows]
    low, high, last = min(values), max(values), max(numbers)
    steps = charts.ticks(low, high if high > low else low + 0.1)
    axes = charts.Axes((-0.5, min(steps[0], low)), (last + 0.5, max(steps[-1], high)))
    labels = [tick for tick in charts.ticks(0, max(last, 1), 8, integers=True) if 0 <= tick <= last]
    parts = charts.frame(axes, labels, steps, "trial")
    worst, better = (math.inf, min) if drop else (-math.inf, max)
    completed = (row["score"] if row["state"] == "complete" else worst for row in rows)
    points = axes.path(numbers, list(accumulate(completed, better)))
    parts.append(f'<g class="line c0"><title>best so far</title><polyline points="{points}"/></g>')
    for row in rows:
        style, at = int(row["state"] != "complete"), f"{axes.x(row['trial'])},{axes.y(row['score'])}"
        mark = f'<path class="dot c{style}" d="{charts.SHAPES[style]}" transform="translate({at})">'
        parts.append(f"{mark}<title>{escape(tip(row, name))}</title></path>")
    title = "validation accuracy" if name == "val_acc" else name
    return charts.svg(axes.size, f"{title} of each trial", parts)


def tip(row: Mapping[str, Any], name: str) -> str:
    values = "\n".join(f"{key}: {short(value)}" for key, value in row["values"].items())
    return f"trial {row['trial']}, {row['state']}\n{name} {row['score']:.4f}\n{values}"


def parallel(rows: Sequence[Mapping[str, Any]], space: Space, name: str = "val_acc", drop: bool = False) -> Markup:
    """A line for each trial through an axis for each setting, the score last; the best fifth is strong."""
    if len(rows) < 2:
        return Markup("")
    rows = sorted(rows, key=lambda row: row["score"], reverse=drop)
    scales = [(key, *scale(kind, [row["values"][key] for row in rows])) for key, kind in space.items()][:DRAWN]
    scores = [row["score"] for row in rows]
    scales.append((name, *scale(FloatDistribution(min(scores), max(scores)), scores)))
    width, height, side, top, bottom = max(charts.WIDTH, 110 * len(scales)), 300, 60, 42, 26
    axes = charts.Axes((0, 0), (len(scales) - 1, 1), (width, height), (side, side, top, bottom))
    parts = []
    for index, row in enumerate(rows):
        style, opacity = (0, 0.95) if index >= len(rows) * 0.8 else (5, 0.45)
        points = axes.path(range(len(scales)), [places[index] for _, places, _, _ in scales])
        line = f'<polyline points="{points}" stroke-opacity="{opacity}"/>'
        parts.append(f'<g class="line c{style}"><title>{escape(tip(row, name))}</title>{line}</g>')
    for place, (title, _, least, most) in enumerate(scales):
        x = axes.x(place)
        anchor, shift = {0: ("start", -50), len(scales) - 1: ("end", 50)}.get(place, ("middle", 0))
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{top}" y2="{height - bottom}"/>')
        for text, y in ((title, 14), (most, 32), (least, height - 8)):
            parts.append(f'<text x="{x + shift}" y="{y}" text-anchor="{anchor}">{escape(str(text)[:22])}</text>')
    return charts.svg((width, height), "every trial: its settings and its score", parts)


def scale(kind: Distribution, values: Sequence[Any]) -> tuple[list[float], str, str]:
    """(position of each value between 0 and 1, text at 0, text at 1)."""
    if isinstance(kind, CategoricalDistribution):
        labels = list(dict.fromkeys([*map(str, kind.choices), *(str(encode(value)) for value in values)]))
        span = max(1, len(labels) - 1)
        return [labels.index(str(encode(value))) / span for value in values], labels[0], labels[-1]
    low, high = min(kind.low, *values), max(kind.high, *values)  # the default may be outside
    transform = math.log if kind.log and low > 0 else float
    start, end = transform(low), transform(high)
    return [(transform(v) - start) / ((end - start) or 1.0) for v in values], f"{low:.4g}", f"{high:.4g}"


def bars(weights: Mapping[str, float]) -> Markup:
    """A bar for each setting: its importance, a fraction of 1."""
    if not weights:
        return Markup("")
    left, line = 200, 26
    height = line * len(weights) + 10
    parts = []
    for number, (name, weight) in enumerate(sorted(weights.items(), key=lambda item: -item[1])):
        y = 5 + number * line
        length = round(weight * (charts.WIDTH - left - 60), 1)
        parts.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<rect class="bar" x="{left}" y="{y}" width="{length}" height="{line - 6}"/>')
        parts.append(f'<text x="{left + length + 6}" y="{y + 15}">{weight:.2f}</text>')
    return charts.svg((charts.WIDTH, height), "importance of each setting", parts)
