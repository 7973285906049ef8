"""Score each kind of item: (item, measurement, hidden labels) -> Outcome.

Pure functions. `said` is for the student: it contains figures of the hidden set only if the item is public.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mslab.grade import parentage
from mslab.grade import rubric as rubrics
from mslab.grade.records import Measurement, Outcome
from mslab.grade.sandbox import KILLED_BY

MAKE = "hand in a file that mslab pack makes"
KILLED = "hand in again; if it happens again, tell your teacher: the grader's machine may have too little memory"


@dataclass(frozen=True)
class Hidden:
    """Facts about a network's hidden images that the grader has and no worker gets."""

    labels: np.ndarray  # int (n,)
    class_names: list[str]
    files: list[str]  # each image's file name
    figure: Callable[[np.ndarray, Mapping[str, Any]], float] | None = None  # a task's measure: (outputs, facts) -> it


def score(rubric: rubrics.Rubric, measurement: Measurement, hidden: Mapping[str, Hidden]) -> dict[str, Outcome]:
    """The outcome of every item, in the rubric's order."""
    outcomes = {}
    for item in rubric.items:
        if item.kind == "manual":
            outcomes[item.id] = Outcome(0.0, "manual", item.title or "The teacher grades this item.")
        elif measurement.problem:
            outcomes[item.id] = no_points(measurement.problem, KILLED if KILLED_BY in measurement.problem else MAKE)
        else:
            outcomes[item.id] = KINDS[item.kind](item, measurement, hidden)
    return outcomes


def no_points(text: str, fix: str = "", **figures: Any) -> Outcome:
    return Outcome(0.0, "none", text, fix, figures)


def award(item: Any, points: float, text: str, fix: str = "", **figures: Any) -> Outcome:
    """Outcome with these points; the status is full, part or none of the item's points."""
    points = round(float(points), 4)
    status = "full" if points >= item.points else "part" if points > 0 else "none"
    return Outcome(points, status, text, fix if status != "full" else "", figures)


def files(item: rubrics.FilesItem, measurement: Measurement, hidden: Mapping[str, Hidden]) -> Outcome:
    missing = [name for name in item.files if not measurement.facts["files"].get(name)]
    share = 1 - len(missing) / len(item.files)
    text = f"{len(item.files) - len(missing)} of {len(item.files)} files are there"
    fix = f"add {', '.join(missing)}; names must match exactly, including upper and lower case"
    return award(item, item.points * share, text + (f"; missing or empty: {', '.join(missing)}" * bool(missing)), fix)


def settings(item: rubrics.SettingsItem, measurement: Measurement, hidden: Mapping[str, Hidden]) -> Outcome:
    config = measurement.facts["configs"].get(item.file, {"error": "was not handed in"})
    if "error" in config:
        return no_points(f"{item.file}: {config['error']}", "hand in the run's config.yaml")
    values = config["values"]
    broken = [
        f"{key} is {values.get(key, 'not set')}; required: {rule}"
        for key, rule in item.rules.items()
        if key not in values or not rule.accepts(values[key])
    ]
    share = 1 - len(broken) / len(item.rules)
    text = f"{len(item.rules) - len(broken)} of {len(item.rules)} settings are as required"
    return award(item, item.points * share, "; ".join([text, *broken]), "train again with the required settings")


def hidden_accuracy(item: Any, measurement: Measurement, hidden: Mapping[str, Hidden]) -> tuple[float, str]:
    """(accuracy on the hidden images, reason why it could not be measured or "")."""
    network = measurement.facts["networks"].get(item.network, {"error": "no such file was handed in"})
    if "error" in network:
        return 0.0, f"{network.get('file') or item.network}: {network['error']}"
    if item.network not in measurement.logits:
        return 0.0, f"{network['file']} was not measured"
    truth, logits = hidden[item.network], measurement.logits[item.network]
    names = network.get("class_names") or []
    if truth.figure:
        if names != truth.class_names:
            return 0.0, f"{network['file']} was trained on other names or on a different order of them"
        return truth.figure(logits, network), ""
    if logits.shape[1] != len(truth.class_names):
        return 0.0, f"{network['file']} has {logits.shape[1]} classes; the task has {len(truth.class_names)}"
    if names and names != truth.class_names and not all(name.isdigit() for name in names):
        return 0.0, f"{network['file']} was trained on other classes or on a different order of the classes"
    return float((logits.argmax(axis=1) == truth.labels).mean()), ""


def accuracy(item: rubrics.AccuracyItem, measurement: Measurement, hidden: Mapping[str, Hidden]) -> Outcome:
    figure, reason = hidden_accuracy(item, measurement, hidden)
    if reason:
        return no_points(reason, "hand in best.ckpt of a run on the task's classes")
    text = f"measured on the hidden images{f': {figure:.3f}' if item.public else ''}"
    return award(item, item.worth(figure), text, "train longer or with other settings", accuracy=figure)


def gain(item: rubrics.GainItem, measurement: Measurement, hidden: Mapping[str, Hidden]) -> Outcome:
    figure, reason = hidden_accuracy(item, measurement, hidden)
    if reason:
        return no_points(reason, "hand in best.ckpt of a run on the task's classes")
    gained = figure - item.baseline
    text = f"transfer gains {gained:+.3f} over {item.baseline:g} from scratch"
    text = text if item.public else "the gain of transfer over training from scratch was measured"
    fix = "start from the backbone of the larger task and train long enough"
    return award(item, item.worth(gained), text, fix, accuracy=figure, gain=gained)


def provenance(item: rubrics.ProvenanceItem, measurement: Measurement, hidden: Mapping[str, Hidden]) -> Outcome:
    absent = {"error": f"{item.network} and {item.parent} were not both handed in"}
    relation = measurement.facts["relations"].get(f"{item.network}<{item.parent}", absent)
    if "error" in relation:
        return no_points(
            relation["error"],
            "hand in both networks, readable, the second trained from the first by mslab transfer",
        )
    equal, tensors = relation["equal"], relation["tensors"]
    frozen, verdict = equal == tensors > 0, parentage.verdict(relation, item.nearness)
    text = f"{equal} of {tensors} tensors of the backbone are equal"
    required = {"frozen": "all equal", "finetuned": "near, and trained", "either": "near or equal"}[item.how]
    if frozen:  # BatchNorm that never changed has no correlation
        text += f" to those of {item.parent} (required: {required})"
    else:
        text += f"; correlation with those of {item.parent}:"
        text += f" BatchNorm {relation['batchnorm']:.2f}, convolutions {relation['convolutions']:.2f}"
        text += f" (1: equal, about 0: trained separately; required: {required}, at least {item.nearness:g})"
    right = {"frozen": frozen, "finetuned": verdict == "near" and not frozen, "either": frozen or verdict == "near"}
    if verdict == "unclear" and not frozen and item.how != "frozen":
        text += f". That decides nothing: BatchNorm of a network trained from {item.parent} would show about"
        return Outcome(0.0, "manual", f"{text} {relation['expected']:.2f}. The teacher decides.", figures=relation)
    fix = f"mslab transfer CONFIG --backbone FILE    FILE: {item.parent}'s best_backbone.ckpt"
    fix += ", with freeze=all" if item.how == "frozen" else ", without freeze" if item.how == "finetuned" else ""
    return award(item, item.points if right[item.how] else 0.0, text, fix, **relation)


def reproduced(item: rubrics.ReproducedItem, measurement: Measurement, hidden: Mapping[str, Hidden]) -> Outcome:
    content = measurement.facts["json"].get(item.file, {"error": "was not handed in"})
    if "error" in content:
        return no_points(f"{item.file}: {content['error']}", "hand in the file that the run wrote")
    claimed: Any = content["values"]
    for part in item.key.split("."):
        claimed = claimed.get(part) if isinstance(claimed, dict) else None
    if isinstance(claimed, bool) or not isinstance(claimed, int | float):
        return no_points(f"{item.file} has no number {item.key}", "hand in the file that the run wrote, unchanged")
    figure, reason = hidden_accuracy(item, measurement, hidden)
    if reason:
        return no_points(reason, "hand in best.ckpt of the same run")
    difference = abs(figure - claimed)
    text = f"{item.key}: {claimed:.3f} claimed"
    text += f", {figure:.3f} measured" if item.public else ", measured again"
    right = difference <= item.tolerance
    text += f"; the difference is {'within' if right else 'above'} {item.tolerance:g}"
    fix = "hand in the files of one run together: best.ckpt and its own manifest"
    return award(item, item.points if right else 0.0, text, fix, claimed=float(claimed), accuracy=figure)


def predictions(item: rubrics.PredictionsItem, measurement: Measurement, hidden: Mapping[str, Hidden]) -> Outcome:
    table = measurement.facts["predictions"].get(item.file, {"error": "was not handed in"})
    fix = "mslab predict RUN FOLDER --csv predictions.csv, on exactly the images of the task"
    if "error" in table:
        return no_points(f"{item.file}: {table['error']}", fix)
    truth, rows = hidden[item.network], {}
    for file, class_name in table["rows"].items():
        name = file.replace("\\", "/").rpartition("/")[2]
        if name in rows:
            return no_points(f"{item.file} has {name} more than once", fix)
        rows[name] = class_name
    more = sorted(set(rows) - set(truth.files))
    missing = len(set(truth.files) - set(rows))
    if more or missing:
        text = f"{item.file} has {len(more)} rows too many and lacks {missing} of {len(truth.files)} images"
        return no_points(text, fix)
    if unknown := sorted({name for name in rows.values() if name not in truth.class_names})[:3]:
        return no_points(f"{item.file} has classes that the task does not have: {', '.join(unknown)}", fix)
    answers = np.array([truth.class_names.index(rows[file]) for file in truth.files])
    figure, network_logits = float((answers == truth.labels).mean()), measurement.logits.get(item.network)
    if item.agreement:
        if network_logits is None or network_logits.shape[1] != len(truth.class_names):
            return no_points(f"{item.file} cannot be compared: the network was not measured", "hand in its best.ckpt")
        agreed = float((answers == network_logits.argmax(axis=1)).mean())
        if agreed < item.agreement:
            text = f"{agreed:.0%} of {item.file} agrees with the answers of the submitted network"
            return no_points(f"{text}; required: {item.agreement:.0%}", fix, accuracy=figure, agreement=agreed)
    text = f"{len(rows)} predictions{f', {figure:.3f} of them correct' if item.public else ' were checked'}"
    return award(item, item.worth(figure), text, "train longer or with other settings", accuracy=figure)


def size(item: rubrics.SizeItem, measurement: Measurement, hidden: Mapping[str, Hidden]) -> Outcome:
    network = measurement.facts["networks"].get(item.network, {"error": "no such file was handed in"})
    if network.get("weights") is None:  # the weights are counted even if the network was not measured
        return no_points(f"{network.get('file') or item.network}: {network['error']}", "hand in the network")
    right = network["weights"] <= item.at_most
    text = f"{network['weights']:,} weights; at most {item.at_most:,} are allowed"
    return award(item, item.points if right else 0.0, text, "use fewer or narrower stages")


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
