"""report.html of a sweep: how it went, which settings mattered, every trial. No script, no request."""

import json
import math
import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import optuna
from markupsafe import Markup, escape
from optuna.distributions import CategoricalDistribution
from optuna.trial import TrialState

from mslab.checkpoint import write_text
from mslab.config import Settings, read_yaml
from mslab.experiments.sweep.pool import short
from mslab.experiments.sweep.space import Distribution, Space, describe, encode, idle
from mslab.report import charts

ENOUGH = 10  # completed trials, below which importance would be chance
DRAWN = 12  # settings with an axis of their own


def write(sweep: Mapping[str, Any], study: optuna.Study, space: Space, folder: Path) -> Path:
    """Write the page of a sweep, the content of its sweep.json, into its folder."""
    from mslab.report.writing import render

    page = folder / "report.html"
    write_text(page, render("sweep.html", facts(sweep, study, space, folder), "en"))
    return page


def facts(sweep: Mapping[str, Any], study: optuna.Study, space: Space, folder: Path) -> dict[str, Any]:
    rows = [dict(row) for row in sweep["trials"]]
    weights, missing = importance(study, list(space))
    for row in rows:
        row["link"] = os.path.relpath(row["run"], folder.resolve()) if row["run"] and Path(row["run"]).is_dir() else ""
    drawn = [row for row in rows if row["val_acc"] is not None and row["state"] in ("complete", "pruned")]
    return {
        "title": f"{folder.name} · mslab",
        "name": folder.name,
        "sweep": sweep,
        "rows": [{**row, "values": {key: short(value) for key, value in row["values"].items()}} for row in rows],
        "names": list(space),
        "space": [describe(name, kind) for name, kind in space.items()],
        "best": sweep["best"],
        "default": sweep["default"],
        "command": command(sweep) if sweep["best"] else "",
        "counts": Counter(row["state"] for row in rows),
        "history": history(drawn),
        "parallel": parallel(drawn, space),
        "importance": bars(weights),
        "no_importance": missing,
        "config_text": json.dumps(sweep["config"], indent=2, ensure_ascii=False),
    }


def command(sweep: Mapping[str, Any]) -> str:
    """The command line that trains the best trial."""
    backbone, values = sweep["options"]["backbone"], sweep["best"]["values"]
    words = ["mslab", "transfer" if backbone else "train", sweep["config_file"] or "CONFIG"]
    words += [text for text in sweep["overrides"] if text.partition("=")[0].strip() not in values]
    settings = Settings.model_validate(sweep["settings"] | values)
    for key, value in values.items():
        if value is not None and not idle(key, settings):  # a command line refuses settings that do nothing
            words.append(f"{key}={value if isinstance(value, str) else json.dumps(value)}")
    run = sweep["best"].get("run")
    threads = read_yaml(Path(run) / "config.yaml")["data_workers"] if run else settings.data_workers
    if threads != settings.data_workers:  # a worker on few cores had fewer, with which training draws other images
        words.append(f"data_workers={threads}")
    words += ["--backbone", backbone] if backbone else []
    return shlex.join(words)


def importance(study: optuna.Study, names: list[str]) -> tuple[dict[str, float], str]:
    """({setting: fraction of 1}, "") or ({}, why there is no figure), from the completed trials."""
    done = [t for t in study.get_trials(states=(TrialState.COMPLETE,)) if set(names) <= set(t.params)]
    if len(done) < ENOUGH:
        return {}, f"it takes {ENOUGH} completed trials to tell which setting mattered; there are {len(done)}"
    if len({t.value for t in done}) == 1:
        return {}, "every trial has the same accuracy"
    try:
        return optuna.importance.get_param_importances(study, params=names), ""
    except (ValueError, RuntimeError) as error:  # for example if no setting has varied
        return {}, str(error)


# --- pictures --------------------------------------------------------------------------------------------------------


def history(shown: Sequence[Mapping[str, Any]]) -> Markup:
    """val_acc of each trial, and the best so far as a line; pruned trials are squares."""
    if not shown:
        return Markup("")
    values = [row["val_acc"] for row in shown]
    steps = charts.ticks(min(values), max(values) if max(values) > min(values) else min(values) + 0.1)
    last = max(row["trial"] for row in shown)
    axes = charts.Axes((-0.5, min(steps[0], *values)), (last + 0.5, max(steps[-1], *values)))
    whole = [t for t in charts.ticks(0, max(last, 1), 8, whole=True) if 0 <= t <= last]
    parts = charts.frame(axes, whole, steps, "trial")
    completed = (row["val_acc"] if row["state"] == "complete" else -math.inf for row in shown)
    points = axes.path([row["trial"] for row in shown], list(accumulate(completed, max)))
    parts.append(f'<g class="line c0"><title>best so far</title><polyline points="{points}"/></g>')
    for row in shown:
        style = 0 if row["state"] == "complete" else 1
        parts.append(
            f'<path class="dot c{style}" d="{charts.SHAPES[style]}" transform="translate({axes.x(row["trial"])},'
            f'{axes.y(row["val_acc"])})"><title>{escape(tip(row))}</title></path>'
        )
    return charts.svg(axes.size, "validation accuracy of each trial", parts)


def tip(row: Mapping[str, Any]) -> str:
    values = "\n".join(f"{key}: {short(value)}" for key, value in row["values"].items())
    return f"trial {row['trial']}, {row['state']}\nval_acc {row['val_acc']:.4f}\n{values}"


def parallel(rows: Sequence[Mapping[str, Any]], space: Space) -> Markup:
    """A line for each trial through an axis for each setting, the accuracy last; the best fifth is strong."""
    shown = sorted(rows, key=lambda row: row["val_acc"])
    if len(shown) < 2:
        return Markup("")
    axes_of = list(space.items())[:DRAWN]
    scales = [(name, *scale(kind, [row["values"][name] for row in shown])) for name, kind in axes_of]
    low, high = shown[0]["val_acc"], shown[-1]["val_acc"]
    places = [(row["val_acc"] - low) / (high - low) if high > low else 0.5 for row in shown]
    scales.append(("val_acc", places, f"{low:.3f}", f"{high:.3f}"))
    width, height, side, top, bottom = max(charts.WIDTH, 110 * len(scales)), 300, 60, 42, 26
    axes = charts.Axes((0, 0), (len(scales) - 1, 1), (width, height), (side, side, top, bottom))
    parts = []
    for index, row in enumerate(shown):
        style = 0 if index >= len(shown) * 0.8 else 5
        points = axes.path(range(len(scales)), [places[index] for _, places, _, _ in scales])
        parts.append(
            f'<g class="line c{style}"><title>{escape(tip(row))}</title><polyline points="{points}" '
            f'stroke-opacity="{0.95 if style == 0 else 0.45}"/></g>'
        )
    for place, (name, _, least, most) in enumerate(scales):
        x = axes.x(place)
        anchor = "middle" if 0 < place < len(scales) - 1 else "start" if place == 0 else "end"
        edge = x if anchor == "middle" else x - 50 if anchor == "start" else x + 50
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{top}" y2="{height - bottom}"/>')
        for text, y in ((name, 14), (most, 32), (least, height - 8)):
            parts.append(f'<text x="{edge}" y="{y}" text-anchor="{anchor}">{escape(str(text)[:22])}</text>')
    return charts.svg((width, height), "every trial: its settings and its accuracy", parts)


def scale(kind: Distribution, values: Sequence[Any]) -> tuple[list[float], str, str]:
    """(where each value lies between 0 and 1, the text at 0, the text at 1)."""
    if isinstance(kind, CategoricalDistribution):
        labels = list(dict.fromkeys([*map(str, kind.choices), *(str(encode(value)) for value in values)]))
        span = max(1, len(labels) - 1)
        return [labels.index(str(encode(value))) / span for value in values], labels[0], labels[-1]
    low, high = min(kind.low, *values), max(kind.high, *values)  # the default may be outside
    transform = math.log if kind.log and low > 0 else float
    start, end = transform(low), transform(high)
    return [(transform(v) - start) / ((end - start) or 1.0) for v in values], f"{low:.4g}", f"{high:.4g}"


def bars(weights: Mapping[str, float]) -> Markup:
    """A bar a setting: how much of the variation of val_acc goes with it."""
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
