"""What a report has of a task where classification has accuracy and confusion matrix: its figures in tables."""

from collections.abc import Mapping
from typing import Any

from mslab.config import tasks
from mslab.report.validation import Translate
from mslab.runs.folder import RunFolder

MEANINGS = {  # figure of eval.json -> what it says
    "voc_map": "mean over the classes of the average precision; a box is right if it overlaps the true one "
    "by {overlap}",
    "coco_map": "the same, mean over required overlaps from 0.50 to 0.95 (COCO)",
    "coco_map_50": "average precision at an overlap of 0.50 (COCO)",
    "coco_map_75": "average precision at an overlap of 0.75 (COCO)",
    "coco_ar": "share of the objects that are found, mean over overlaps (COCO)",
    "miou": "mean over the classes, and the ground, of the overlap of answer and truth: intersection over union",
    "pixel_accuracy": "share of the pixels whose class is right",
    "ground_iou": "overlap of answer and truth for the ground, which has no class",
    "pck": "share of the points that are at most 0.2 of the box's longer side from where they are",
    "nme": "mean distance of the points from where they are, as a share of the box's longer side: lower is better",
    "oks_ap": "average precision of the objects by the similarity of their points (COCO)",
    "oks_ap_50": "the same at a similarity of 0.50 (COCO)",
    "map": "mean over the tags of the average precision",
    "f1_micro": "F1 of all decisions about all tags together",
    "f1_macro": "mean over the tags of F1",
}
COLUMNS = {  # figure of by_name -> title
    "ap": "average precision",
    "iou": "overlap (IoU)",
    "share": "share of the pixels",
    "pck": "share within 0.2 of the box",
    "nme": "mean error",
    "f1": "F1",
    "threshold": "threshold",
    "objects": "objects",
    "missed": "missed",
    "invented": "invented",
    "points": "points",
    "images": "images",
}
NAMES = {"class": "Figures per class", "key point": "Figures per key point", "tag": "Figures per tag"}
SCORES = {  # of an image
    "detect": "F1 of its boxes",
    "segment": "mean overlap (IoU) of its classes",
    "keypoints": "mean error of its points, as a share of the box",
    "multilabel": "share of its tags that are right",
}
EXPLAINED = {
    "detect": "Missed and invented are counted among the boxes with a score of at least {score} (box_score_thresh). A "
    "box is right if it has the class and overlaps the true box by at least {overlap}.",
    "segment": "A class is missed if no pixel of it is right, and invented if it is not in the "
    "image. Behind a name: its overlap (IoU).",
    "keypoints": "A point is missed if it is more than 0.2 of the box's longer side from where it is. Behind "
    "a name: its mean error.",
    "multilabel": "A tag is given where its probability is at least its threshold, which was chosen on these images.",
}


def facts(run: RunFolder, result: Mapping[str, Any], results: Mapping[str, Any], t: Translate) -> dict[str, Any]:
    """What the page says of the task. `result`: the content of eval.json; `results`: of answers.inspect_run."""
    settings, task = run.settings, run.settings.task
    values = {"overlap": f"{settings.validation_iou_threshold:g}", "score": f"{settings.box_score_thresh:g}"}
    constant = run.manifest["metrics"].get("constant") or {}
    measure, noun = tasks.measure(settings), tasks.NOUNS[task]
    by_name = result.get("by_name") or results.get("measured", {}).get("by_name", {})
    columns = list(next(iter(by_name.values()), {}))
    names = [measure, *(name for name in MEANINGS if name in result and name != measure)] if result else []
    value, same = result.get(measure), constant.get(measure)
    return {
        "task": task,
        "noun": noun,
        "measure": measure,
        "value": value,
        "constant": same,
        "beaten": value is None or same is None or value > same,
        "figures": [(name, result.get(name), constant.get(name), t(MEANINGS[name]).format(**values)) for name in names],
        "names_title": NAMES[noun],
        "name_columns": [(key, COLUMNS[key]) for key in columns],
        "by_name": by_name,
        "score_text": SCORES[task],
        "explained": t(EXPLAINED[task]).format(**values),
    }


def labelled(manifest: Mapping[str, Any]) -> list[str]:
    """The names whose objects or images were counted: key points have none of their own, but their classes."""
    return list(dict.fromkeys(name for counts in manifest["data"]["counts"].values() for name in counts))
