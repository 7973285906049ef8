"""Training images of a task as the network sees them, with boxes, masks, points or tags drawn on them."""

from pathlib import Path

import numpy as np
from PIL import Image

from mslab.check import DatasetReport
from mslab.config import Settings
from mslab.data import batching, labelled_feed, seeding
from mslab.data.labelled_feed import LabelFeed
from mslab.files import replace_atomically
from mslab.report import answers
from mslab.report.show import tiles
from mslab.tasks.registry import class_of, task_of
from mslab.tasks.sample import Sample, cropped

LEAST = 192  # pixels of a drawn image's side: on smaller ones lines and words cover what is there


def augment_sheet(config: Settings, out: Path, report: DatasetReport, count: int = 36) -> str:
    """Write the first training images of epoch 1 with their labels. Returns a description."""
    task = task_of(class_of(config.task).record(report.first, config.model_dump()))  # type: ignore[attr-defined]
    train, val = (labelled_feed.images_of(report, name) for name in ("train", "val"))  # type: ignore[arg-type]
    feed = LabelFeed(task, train, val, config, stride=1)
    batching.steps_per_epoch(feed.train_parts, config.batch_size)  # raises if there are too few for a batch
    order = seeding.stream("order", config.seed, 0).permutation(len(feed.train_parts))[:count]
    drawn = task_of({**task.info, "class_names": answers.drawn_names(task)})
    pictures, captions = [], []
    for position in order.tolist():
        index, part = feed.train_parts[position]
        own = feed.seen(task.cut(train.sample(index), part), 0, position)
        larger = enlarged(own)
        pictures.append(drawn.draw(larger.image, drawn.truth(larger)))
        captions.append(Path(train.labels[index].file).name)
    sheet = tiles(pictures, captions, [True] * len(pictures), columns=6, side=max(LEAST, config.image_size))
    replace_atomically(out, lambda file: sheet.save(file, "PNG"))
    steps = [f"crop of {config.crop_scale:g} to 1 of the area"] * (config.crop_scale < 1)
    steps += ["mirrored half of the time"] * config.flip + [f"color jitter {config.color_jitter:g}"] * bool(
        config.color_jitter
    )
    what = "objects" if config.task == "keypoints" else "training images"
    size = config.image_size
    title = f"{out}: {len(pictures)} {what} of epoch 1 as the network sees them, {size}x{size} pixels"
    renamed = [f"{short} = {name}" for short, name in zip(drawn.names, task.names, strict=True) if short != name]
    notes = [f"note: drawn as {', '.join(renamed)}"] * bool(renamed)
    return "\n".join([title, f"operations  {', '.join(steps) or 'none'}", *notes])


def enlarged(own: Sample) -> Sample:
    """The sample at a size at which its labels can be drawn, each pixel as large as the others."""
    factor = max(1, -(-LEAST // max(own.size)))
    size = (own.size[0] * factor, own.size[1] * factor)
    larger = cropped(own, (0, 0, *own.size), size)
    pixels = np.asarray(Image.fromarray(own.image).resize(size, Image.Resampling.NEAREST))
    return Sample(pixels, larger.boxes, larger.classes, larger.ignored, larger.points, larger.mask, larger.tags)
