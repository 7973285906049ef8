"""mslab predict: the answers of a network for images."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, BadParameter, Option

from mslab.cli import options
from mslab.cli.options import app, found, job, print_text
from mslab.cli.outputs import OutputOption
from mslab.runtime import console, devices

if TYPE_CHECKING:
    from mslab.checkpoint import Checkpoint

FITTING = {  # option -> the tasks that have it
    "coco": ("detect", "segment", "keypoints"),
    "ids": ("detect", "segment", "keypoints"),
    "draw": ("detect", "segment", "keypoints", "multilabel"),
    "masks": ("segment",),
    "boxes": ("keypoints",),
    "box_score_thresh": ("detect",),
    "nms_iou_thresh": ("detect",),
    "box_detections_per_img": ("detect",),
}
Images = Annotated[
    list[str],
    Argument(metavar="IMAGE|FOLDER|PATTERN|-...", help="images; - reads file names from standard input, one a line"),
]
Jsonl = Annotated[
    str | None,
    Option(metavar="FILE|-", help="write one JSON object per line and image"),
    OutputOption("lines of JSON", (".jsonl", ".ndjson", ".json"), stdout=True),
]
Csv = Annotated[
    str | None,
    Option(
        metavar="FILE|-", help="write one row per image, one column per class; of a task, one row per object or tag"
    ),
    OutputOption("CSV", (".csv",), stdout=True),
]
Coco = Annotated[
    str | None,
    Option(metavar="FILE|-", help="detect, segment, keypoints: write COCO's list of results"),
    OutputOption("COCO's results", (".json",), stdout=True),
]
Ids = Annotated[str | None, Option(metavar="FILE", help="COCO's JSON from which --coco takes the ids")]
Draw = Annotated[
    str | None,
    Option(metavar="FOLDER", help="tasks: write each image with what was found drawn in, into a new folder"),
    OutputOption(new=True),
]
Masks = Annotated[
    str | None,
    Option(metavar="FOLDER", help="segment: write the class of every pixel as PNG, into a new folder"),
    OutputOption(new=True),
]
Boxes = Annotated[
    str | None, Option(metavar="FILE", help="keypoints: COCO's JSON with the objects' boxes, such as detect's --coco")
]
Score = Annotated[float | None, Option(help="detect: the least score of a box", min=0, max=1, show_default=False)]
Overlap = Annotated[
    float | None, Option(help="detect: overlap (IoU) beyond which the less sure box goes", min=0, max=1)
]
MostBoxes = Annotated[int | None, Option(metavar="N", help="detect: boxes of an image, at most", min=1, max=1000)]
BatchSize = Annotated[
    int | None, Option(metavar="N", help="images per step (default: depends on the image size)", min=1, max=4096)
]


@job(app, "predict")
def predict(
    source: options.AnySource,
    images: Images,
    json_file: options.Json = None,
    jsonl: Jsonl = None,
    csv: Csv = None,
    coco: Coco = None,
    ids: Ids = None,
    draw: Draw = None,
    masks: Masks = None,
    boxes: Boxes = None,
    box_score_thresh: Score = None,
    nms_iou_thresh: Overlap = None,
    box_detections_per_img: MostBoxes = None,
    device: options.Device = "auto",
    batch_size: BatchSize = None,
    dialect: options.Dialect = "",
    weights: options.Weights = "",
    engine: options.Engine = "auto",
    precision: options.Precision = "fp32",
) -> int:
    """Predict the class of images, or their objects, masks, key points or tags; exit 1 if an image cannot be read."""
    targets = {"json": json_file, "jsonl": jsonl, "csv": csv}
    outputs = {"coco": coco, "ids": ids, "draw": draw, "masks": masks, "boxes": boxes}
    changed: dict[str, Any] = {"box_score_thresh": box_score_thresh, "nms_iou_thresh": nms_iou_thresh}
    changed |= {"box_detections_per_img": box_detections_per_img}
    devices.refuse(device, devices.missing_driver(device))
    if ids and not coco:
        raise BadParameter("--ids is for --coco FILE, which is missing")
    from mslab.checkpoint import Choice
    from mslab.config.tasks import CLASSIFY
    from mslab.evaluation import engines
    from mslab.inference import predicting

    engines.refuse(engine, precision, device)
    predicting.refuse_swapped(source, images)
    network, choice = found(source), Choice(dialect, weights)
    files = predicting.expand(images, predicting.listed(sys.stdin) if "-" in images and sys.stdin else ())
    if "-" not in images:
        predicting.refuse_missing(files)
    own = predicting.read_weights(network, choice)
    task = own.task if own else CLASSIFY
    refuse_unfitting(task, outputs | changed)
    opening: dict[str, Any] = {"device": device, "batch": batch_size, "engine": engine, "precision": precision}
    if own and task != CLASSIFY:
        opening["options"] = {name: value for name, value in changed.items() if value is not None}
        return predict_task(own, files, targets, outputs, opening)
    model = predicting.open_model(own or network, choice=choice, **opening)
    rows = []
    with console.Meter(len(files)) as meter:
        for row in predicting.predict(model, files):
            rows.append(row)
            meter.update("predicting")
    predicting.write(rows, model.class_names, targets)
    if "-" not in targets.values():
        print_text(predicting.table(rows))
    return 1 if any(row["error"] for row in rows) else 0


def refuse_unfitting(task: str, given: Mapping[str, object]) -> None:
    """Raise BadParameter for an option of other tasks."""
    for name, value in given.items():
        if value is not None and task not in FITTING[name]:
            own = "this one answers classes" if task == "classify" else f"this one is of task {task}"
            option = f"--{name.replace('_', '-')}"
            raise BadParameter(f"{option} is for networks of task {' or '.join(FITTING[name])}; {own}: leave it out")


def predict_task(
    weights: "Checkpoint",
    files: list[Path],
    targets: Mapping[str, str | None],
    outputs: Mapping[str, str | None],
    opening: Mapping[str, Any],
) -> int:
    """The same for a network of a task. `outputs`: what --coco, --draw and others name; `opening`: of open_model."""
    from mslab.inference import coco_results, drawn, predicting, task_predicting
    from mslab.tasks.registry import task_of

    task_predicting.refuse_engine(weights.task, opening["engine"])
    task = task_of(weights.info)
    boxes = coco_results.Boxes(Path(outputs["boxes"])) if outputs["boxes"] else None
    if boxes:
        boxes.refuse_others(files)
    ids = coco_results.Ids(task, files, Path(outputs["ids"]) if outputs["ids"] else None)
    model = task_predicting.open_model(weights, **opening, most=len(files))
    pictures = {"draw": drawn.write, "masks": drawn.write_mask}
    taken: dict[str, set[str]] = {name: set() for name in pictures}
    rows = []
    with console.Meter(len(files)) as meter:
        for one in task_predicting.predict(model, files, boxes):
            rows.append(one.row)
            for name, write in pictures.items():
                if outputs[name] and not one.row["error"]:
                    write(task, one, Path(str(outputs[name])), taken[name])
            meter.update("predicting")
    predicting.write_texts(rows, lambda: task_predicting.csv_lines(task, rows), targets)
    if outputs["coco"]:
        options.write_json(coco_results.results(task, rows, ids, files, boxes), outputs["coco"])
    if "-" not in (*targets.values(), outputs["coco"]):
        print_text(task_predicting.table(model.task, rows))
    return 1 if any(row["error"] for row in rows) else 0
