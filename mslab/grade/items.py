"""What each kind of item looks at: (item, what the worker found, the hidden labels) -> Outcome.

Pure functions. `said` is for the student: figures of the hidden set are in it only where the item is public.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mslab.grade import rubric as rubrics
from mslab.grade.records import Measurement, Outcome


@dataclass(frozen=True)
class Hidden:
    """What the grader knows of a network's hidden images, and no worker does."""

    labels: np.ndarray  # int (n,)
    class_names: list[str]
    files: list[str]  # each image's file name


def score(rubric: rubrics.Rubric, found: Measurement, hidden: Mapping[str, Hidden]) -> dict[str, Outcome]:
    """The outcome of every item, in the rubric's order."""
    outcomes = {}
    for item in rubric.items:
        if item.kind == "manual":
            outcomes[item.id] = Outcome(0.0, "manual", item.title or "The teacher looks at this.")
        elif found.problem:
            outcomes[item.id] = nothing(found.problem, "hand in again what mslab pack makes")
        else:
            outcomes[item.id] = KINDS[item.kind](item, found, hidden)
    return outcomes


def nothing(said: str, fix: str = "", **figures: Any) -> Outcome:
    return Outcome(0.0, "none", said, fix, figures)


def given(item: Any, points: float, said: str, fix: str = "", **figures: Any) -> Outcome:
    """So many of the item's points, with the status that says how much that is."""
    points = round(float(points), 4)
    status = "full" if points >= item.points else "part" if points > 0 else "none"
    return Outcome(points, status, said, fix if status != "full" else "", figures)


def files(item: rubrics.FilesItem, found: Measurement, hidden: Mapping[str, Hidden]) -> Outcome:
    lacking = [name for name in item.files if not found.facts["files"].get(name)]
    share = 1 - len(lacking) / len(item.files)
    said = f"{len(item.files) - len(lacking)} of {len(item.files)} files are there"
    fix = f"add {', '.join(lacking)}; names are exact, upper and lower case too"
    return given(item, item.points * share, said + (f"; missing or empty: {', '.join(lacking)}" * bool(lacking)), fix)


def settings(item: rubrics.SettingsItem, found: Measurement, hidden: Mapping[str, Hidden]) -> Outcome:
    config = found.facts["configs"].get(item.file, {"error": "is not there"})
    if "error" in config:
        return nothing(f"{item.file}: {config['error']}", "hand in the run's config.yaml")
    values = config["values"]
    broken = [
        f"{key} is {values.get(key, 'not there')}, asked for: {rule}"
        for key, rule in item.rules.items()
        if key not in values or not rule.holds(values[key])
    ]
    share = 1 - len(broken) / len(item.rules)
    said = f"{len(item.rules) - len(broken)} of {len(item.rules)} settings are as asked for"
    return given(item, item.points * share, "; ".join([said, *broken]), "train again with these settings")


def measured(item: Any, found: Measurement, hidden: Mapping[str, Hidden]) -> tuple[float, str]:
    """(accuracy on the hidden images, why it could not be measured or "")."""
    network = found.facts["networks"].get(item.network, {"error": "no such file was handed in"})
    if "error" in network:
        return 0.0, f"{network.get('file') or item.network}: {network['error']}"
    if item.network not in found.logits:
        return 0.0, f"{network['file']} was not measured"
    known, logits = hidden[item.network], found.logits[item.network]
    names = network.get("class_names") or []
    if logits.shape[1] != len(known.class_names):
        return 0.0, f"{network['file']} has {logits.shape[1]} classes, the task has {len(known.class_names)}"
    if names and names != known.class_names and not all(name.isdigit() for name in names):
        return 0.0, f"{network['file']} was trained on other classes, or on the same in another order"
    return float((logits.argmax(axis=1) == known.labels).mean()), ""


def accuracy(item: rubrics.AccuracyItem, found: Measurement, hidden: Mapping[str, Hidden]) -> Outcome:
    figure, why = measured(item, found, hidden)
    if why:
        return nothing(why, "hand in best.ckpt of a run on the task's classes")
    said = f"measured on images that nobody has seen{f': {figure:.3f}' if item.public else ''}"
    return given(item, item.worth(figure), said, "train longer or with other settings", accuracy=figure)


def gain(item: rubrics.GainItem, found: Measurement, hidden: Mapping[str, Hidden]) -> Outcome:
    figure, why = measured(item, found, hidden)
    if why:
        return nothing(why, "hand in best.ckpt of a run on the task's classes")
    buys = figure - item.baseline
    text = f"transfer buys {buys:+.3f} over {item.baseline:g} from scratch"
    said = text if item.public else "what transfer buys over training from scratch was measured"
    fix = "begin from the backbone of the larger task, and train long enough"
    return given(item, item.worth(buys), said, fix, accuracy=figure, gain=buys)


def provenance(item: rubrics.ProvenanceItem, found: Measurement, hidden: Mapping[str, Hidden]) -> Outcome:
    absent = {"error": f"{item.network} and {item.parent} are not both there"}
    relation = found.facts["relations"].get(f"{item.network}<{item.parent}", absent)
    if "error" in relation:
        return nothing(
            relation["error"], "hand in both networks, the second one trained by mslab transfer from the first"
        )
    equal, tensors, cosine = relation["equal"], relation["tensors"], relation["cosine"]
    frozen, near = equal == tensors, cosine >= item.nearness
    text = f"{equal} of {tensors} tensors of the backbone are equal; what training made of BatchNorm's gamma and beta"
    text += f" points the same way by {cosine:.3f}"
    right = {"frozen": frozen, "finetuned": near and not frozen, "either": near}[item.how]
    asked = {"frozen": "all equal", "finetuned": "near, and trained", "either": "near or equal"}[item.how]
    said = f"{text} (1 = the same, of a network trained afresh about 0; asked for: {asked}, from {item.nearness:g} on)"
    fix = f"mslab transfer CONFIG --backbone {item.parent}'s best_backbone.ckpt"
    fix += ", with freeze=all" if item.how == "frozen" else ", without freeze" if item.how == "finetuned" else ""
    return given(item, item.points if right else 0.0, said, fix, **relation)


def reproduced(item: rubrics.ReproducedItem, found: Measurement, hidden: Mapping[str, Hidden]) -> Outcome:
    content = found.facts["json"].get(item.file, {"error": "is not there"})
    if "error" in content:
        return nothing(f"{item.file}: {content['error']}", "hand in the run's own file")
    claimed: Any = content["values"]
    for part in item.key.split("."):
        claimed = claimed.get(part) if isinstance(claimed, dict) else None
    if isinstance(claimed, bool) or not isinstance(claimed, int | float):
        return nothing(f"{item.file} has no number {item.key}", "hand in the run's own file, unchanged")
    figure, why = measured(item, found, hidden)
    if why:
        return nothing(why, "hand in best.ckpt of the same run")
    away = abs(figure - claimed)
    said = f"{item.key} claims {claimed:.3f}"
    said += f", measured {figure:.3f}" if item.public else ", which was measured again"
    right = away <= item.tolerance
    said += f"; {'within' if right else 'not within'} {item.tolerance:g}"
    fix = "hand in the files of one run together: best.ckpt and its own manifest"
    return given(item, item.points if right else 0.0, said, fix, claimed=float(claimed), accuracy=figure)


def predictions(item: rubrics.PredictionsItem, found: Measurement, hidden: Mapping[str, Hidden]) -> Outcome:
    table = found.facts["predictions"].get(item.file, {"error": "is not there"})
    fix = "mslab predict RUN FOLDER --csv predictions.csv, over exactly the images of the task"
    if "error" in table:
        return nothing(f"{item.file}: {table['error']}", fix)
    known, rows = hidden[item.network], {}
    for file, class_name in table["rows"].items():
        name = file.replace("\\", "/").rpartition("/")[2]
        if name in rows:
            return nothing(f"{item.file} has {name} more than once", fix)
        rows[name] = class_name
    more = sorted(set(rows) - set(known.files))
    lacking = len(set(known.files) - set(rows))
    if more or lacking:
        said = f"{item.file} has {len(more)} rows too many and lacks {lacking} of {len(known.files)} images"
        return nothing(said, fix)
    if strange := sorted({name for name in rows.values() if name not in known.class_names})[:3]:
        return nothing(f"{item.file} has classes that the task has not: {', '.join(strange)}", fix)
    answers = np.array([known.class_names.index(rows[file]) for file in known.files])
    figure, own = float((answers == known.labels).mean()), found.logits.get(item.network)
    if item.agreement:
        if own is None or own.shape[1] != len(known.class_names):
            return nothing(f"{item.file} cannot be compared: the network was not measured", "hand in its best.ckpt")
        agreed = float((answers == own.argmax(axis=1)).mean())
        if agreed < item.agreement:
            said = f"{agreed:.0%} of {item.file} is what the network that was handed in answers"
            return nothing(f"{said}; asked for: {item.agreement:.0%}", fix, accuracy=figure, agreement=agreed)
    said = f"{len(rows)} predictions{f', {figure:.3f} of them right' if item.public else ' were looked at'}"
    return given(item, item.worth(figure), said, "train longer or with other settings", accuracy=figure)


def size(item: rubrics.SizeItem, found: Measurement, hidden: Mapping[str, Hidden]) -> Outcome:
    network = found.facts["networks"].get(item.network, {"error": "no such file was handed in"})
    if network.get("weights") is None:  # one that was not measured has been counted all the same
        return nothing(f"{network.get('file') or item.network}: {network['error']}", "hand in the network")
    right = network["weights"] <= item.at_most
    said = f"{network['weights']:,} weights, at most {item.at_most:,} are asked for"
    return given(item, item.points if right else 0.0, said, "fewer or narrower stages")


KINDS: dict[str, Callable[[Any, Measurement, Mapping[str, Hidden]], Outcome]] = {
    "files": files,
    "config": settings,
    "accuracy": accuracy,
    "gain": gain,
    "provenance": provenance,
    "reproduced": reproduced,
    "predictions": predictions,
    "size": size,
}
