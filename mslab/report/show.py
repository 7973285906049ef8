"""Tables and pictures: the network stage by stage, the figures of an evaluation, sheets of images with captions."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from mslab.check import DatasetReport
from mslab.check.report import counted
from mslab.check.worker import open_image
from mslab.checkpoint import networks
from mslab.config import Settings, Source, load_settings, tasks
from mslab.config.networks import groups, part_of
from mslab.config.resolve import network_settings
from mslab.evaluation import temperature
from mslab.files import replace_atomically
from mslab.runtime import devices
from mslab.runtime.tables import HeaderName, cell, empty_table, fold, one_line, plural, render
from mslab.tasks import fonts

EXTRA = {"detect": ", width, height, x, y", "segment": ", ground", "keypoints": ""}  # outputs beside one a name
PUBLISHED = {"class_num": 1000, "image_size": 224, "train_data": "train", "val_data": "val"}  # ResNet-50 as published


def show_network(config: str | Mapping[str, Any] | None, overrides: Sequence[str] = ()) -> str:
    """Table of a config's network, with the shapes of a real forward pass of one image."""
    import mindspore as ms

    from mslab import model

    settings = load_settings(config or PUBLISHED, overrides)
    size, hidden, dropout = settings.image_size, settings.head_hidden, settings.dropout
    network = network_settings(settings)
    devices.start("cpu", "pynative", seed=1)
    networks.of_record(network).check_size(size)
    backbone = networks.of_record(network).backbone()
    if settings.task in tasks.MAPS:
        return show_maps(settings, network, backbone)
    head = model.resnet50_head(settings.class_num, backbone.channels, hidden, dropout)
    backbone.set_train(False)
    table, row = network_table(settings, [p.name for p in parameters(backbone, head)])
    x = ms.Tensor(np.zeros((1, 3, size, size), np.float32))
    x = groups_of(backbone, x, settings.network, row) if settings.network else stages_of(backbone, x, network, row)
    row("backbone", "all of the above", x, parameters(backbone))
    table.add_section()
    steps = ["mean", f"{hidden} wide" if hidden else "", f"dropout {dropout:g}" if dropout else "", "project"]
    row("head", ", ".join(filter(None, steps)), head(x), parameters(head))
    table.add_section()
    row("network", "backbone and head", head(x), parameters(backbone, head))
    return "\n".join([render(table), *plans(settings)])


def network_table(settings: Settings, names: Sequence[str]) -> tuple[Any, Callable[..., None]]:
    """An empty table of a network, and what adds a row to it. `names`: of all its tensors."""
    from mslab.training import freezing

    freezing.check(names, settings)
    frozen, size = freezing.frozen(names, settings), settings.image_size
    columns = ["part", "what", "output", "tensors", "weights", "frozen" if frozen else ""]
    least = ("tensors", "what", "frozen", "")  # what a narrow terminal can do without
    table = empty_table(f"input (1, 3, {size}, {size})", columns, ("part", "what", "frozen", ""), least)

    def row(part: str, what: str, x: Any, tensors: Sequence[Any]) -> None:
        weights = sum(parameter.size for parameter in tensors if parameter.requires_grad)
        count = sum(parameter.name in frozen for parameter in tensors)
        frozen_text = f"{count} of {len(tensors)} frozen" if count else ""
        table.add_row(part, what, str(tuple(x.shape)), str(len(tensors)), f"{weights:,}", frozen_text)

    return table, row


def plans(settings: Settings) -> list[str]:
    """What changes while the network is trained, and what learns at another rate, a line each."""
    unfreezing = [f"epoch {epoch}: {part} unfrozen" for epoch, part in settings.unfreeze.items()]
    return unfreezing + [f"learning rate of {part}: x {factor:g}" for part, factor in settings.lr_scale.items()]


def show_maps(settings: Settings, record: Mapping[str, Any], backbone: Any) -> str:
    """The same for a task whose head is on the feature pyramid: backbone, neck, head, and the maps between them."""
    import mindspore as ms

    from mslab.tasks.neck import MapHead, MapNetwork

    outputs = settings.class_num + tasks.EXTRA_OUTPUTS[settings.task]
    network = MapNetwork(backbone, MapHead(outputs))
    network.set_train(False)
    table, row = network_table(settings, [p.name for p in parameters(network)])
    maps: list[Any] = []

    def stage(part: str, what: str, x: Any, tensors: Sequence[Any]) -> None:
        maps.extend([x] * part.startswith("layer"))
        row(part, what, x, tensors)

    size = settings.image_size
    x = stages_of(backbone, ms.Tensor(np.zeros((1, 3, size, size), np.float32)), record, stage)
    row("backbone", "all of the above", x, parameters(backbone))
    table.add_section()
    merged = network.neck(tuple(maps[network.first :]))
    used = ", ".join(f"layer{i}" for i in range(network.first + 1, len(maps) + 1))
    row("neck", f"pyramid of {used}", merged, parameters(network.neck))
    found = network.head(merged)
    what = counted(settings.class_num, tasks.NOUNS[settings.task]) + EXTRA[settings.task]
    row("head", what, found, parameters(network.head))
    table.add_section()
    row("network", "backbone, neck and head", found, parameters(network))
    cells = f"a cell of the output is {network.stride}x{network.stride} pixels"
    return "\n".join([render(table), cells, *plans(settings)])


def parameters(*cells: Any) -> list[Any]:
    return [parameter for cell in cells for parameter in cell.get_parameters()]


def stages_of(backbone: Any, x: Any, network: Mapping[str, Any], row: Callable[..., None]) -> Any:
    """A row for each stage of model.py's backbone. Returns the features of the image `x`."""
    from mslab import model

    x = backbone.relu(backbone.bn1(backbone.conv1(x)))
    stem = f"7x7, {model.STEM}, stride 2" if backbone.pool else f"3x3, {model.STEM}"
    row("stem", stem, x, parameters(backbone.conv1, backbone.bn1))
    if backbone.pool:
        x = backbone.pool(x)
        row("pool", "3x3, stride 2", x, [])
    expansion = model.BLOCKS[network["profile"]["block"]].EXPANSION
    stages = zip(network["stages"], backbone.layers, strict=True)
    for number, ((blocks, width, stride), layer) in enumerate(stages, start=1):
        x = layer(x)
        what = f"{plural(blocks, 'block')}, {width} -> {width * expansion}, stride {stride}"
        row(f"layer{number}", what, x, parameters(layer))
    return x


def groups_of(backbone: Any, x: Any, name: str, row: Callable[..., None]) -> Any:
    """A row for each group of a mindcv network, with the output of its last layer. Returns the features of `x`."""
    outputs: dict[str, Any] = {}  # by group; layers call this in the order in which they compute

    def seen(part: str) -> Callable[..., None]:
        return lambda layer, inputs, output: outputs.update({part: output})

    for _, layer in backbone.cells_and_names():
        if own := list(layer.get_parameters(expand=False)):
            layer.register_forward_hook(seen(part_of(own[0].name, name)))
    maps = backbone.maps(x)
    features = backbone.pooled(maps)
    members: dict[str, list[Any]] = {}
    for parameter in backbone.get_parameters():
        members.setdefault(part_of(parameter.name, name), []).append(parameter)
    for part, tensors in members.items() if groups(name) else ():
        names = list(dict.fromkeys(re.sub(r"^(\w+\.\d+|\w+)\..*", r"\1", tensor.name) for tensor in tensors))
        what = ", ".join(names[:1] + (["…"] if len(names) > 2 else []) + names[1:][-1:])
        row(part, what, outputs.get(part, features), tensors)
    if backbone.has_maps:
        row("maps", "the last feature map", maps, [])
    return features


def figures_table(result: Mapping[str, Any], measured: str = "") -> str:
    """Accuracy, figures per class and confusion matrix as text, with thresholds also those under their rule.

    `measured`: which of several splits they are of.
    """
    title = f"{one_line(result['checkpoint'], 400)} on {one_line(result['data'], 400)}"
    title += f": {measured}" * bool(measured)
    if "task" in result:
        return task_table(result, title)
    top = f", top-5 accuracy {result['top5_accuracy']:.3f}" if "top5_accuracy" in result else ""
    lines = [f"accuracy {result['accuracy']:.3f}{top} on {plural(result['images'], 'image')}"]
    lines += [temperature.text(found)] if (found := result.get("calibration")) else []
    parts = [tables_of(result, result["class_names"], title)]
    if ruled := result.get("thresholds"):
        said = ", ".join(f"{one_line(name, 60)}={value:g}" for name, value in ruled["values"].items())
        parts.append(tables_of(ruled, result["class_names"], f"with --threshold {said}"))
        lines.append(
            f"with the threshold: accuracy {ruled['accuracy']:.3f}; {plural(ruled['changed'], 'answer')} changed"
        )
        lines.append(f"the rule: {ruled['rule']}")
    return "\n".join([*parts, "", *map(fold, lines)])


def task_table(result: Mapping[str, Any], title: str) -> str:
    """The figures of another task than classification, and those of each class, point or tag."""
    table = empty_table(title, ("figure", result["task"]), ("figure",), complete="--json FILE")
    for name, value in result.items():
        if isinstance(value, float) or value is None:
            table.add_row(cell(name), amount(value))
    names = result.get("by_name", {})
    columns = list(next(iter(names.values()), {}))
    noun = tasks.NOUNS[result["task"]]
    each = empty_table(None, (noun, *columns), (noun,), complete="--json FILE")
    for name, row in names.items():
        each.add_row(cell(name), *(amount(row[key]) for key in columns))
    tables = [render(table), *[render(each)] * bool(names)]
    return "\n".join([*tables, fold(plural(result["images"], "image"))])


def amount(value: float | None) -> str:
    # amount(0.25) -> "0.250", amount(3) -> "3", amount(None) -> "–"
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def tables_of(result: Mapping[str, Any], names: Sequence[str], title: str) -> str:
    """Figures per class and confusion matrix."""
    columns = ("class", "precision", "recall", "F1", "images")
    table = empty_table(title, columns, ("class",), ("images", "precision"), "--json FILE")
    for name, row in result["per_class"].items():
        scores = (f"{row[key]:.3f}" if row["support"] else "–" for key in ("precision", "recall", "f1"))
        table.add_row(cell(name), *scores, str(row["support"]))
    headers = ["", *(HeaderName(cell(name)) for name in names)]
    matrix = empty_table("confusion matrix: row = true class, column = predicted", headers, complete="--json FILE")
    for name, row in zip(names, result["confusion"], strict=True):
        matrix.add_row(cell(name), *(str(number) if number else "·" for number in row))
    return f"{render(table)}\n{render(matrix)}"


def augment_sheet(source: Source, out: Path, report: DatasetReport, count: int = 36) -> str:
    """Write the first training images of epoch 1 as the network sees them, with labels. Returns a description."""
    from mslab.data import augment, batching, sources

    config = load_settings(source)
    devices.set_up([("dataset.config.set_seed", {"seed": config.seed})])
    images = sources.images_of(report, "train")
    batching.steps_per_epoch(images, config.batch_size)  # raises if there are too few images for a batch
    inputs, labels = [], []
    class_names, note = fonts.drawn_names(report.class_names)
    for x, y in batching.train_batches(images, config, 0):
        inputs.append(x)
        labels += [caption(label, class_names) for label in y]
        if len(labels) >= count:
            break
    batch = np.concatenate(inputs)[:count]
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in augment.scale(config))
    pixels = np.clip((batch * std + mean) * 255, 0, 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
    pictures = [Image.fromarray(image) for image in pixels]
    sheet = tiles(pictures, labels[:count], [True] * len(pictures), columns=6, side=max(112, batch.shape[2]))
    replace_atomically(out, lambda file: sheet.save(file, "PNG"))
    names = {"RandomChoice": config.auto_augment, "RandomSelectSubpolicy": "RandomVerticalFlip"}
    steps = [names.get(type(step).__name__, type(step).__name__) for step in augment.train_transforms(config)]
    steps += ["mixup"] * bool(config.mixup_alpha) + ["cutmix"] * bool(config.cutmix_alpha)
    steps += ["random erasing"] * bool(config.random_erasing)
    size = batch.shape[2]
    title = f"{out}: {len(pictures)} training images of epoch 1 as the network sees them, {size}x{size} pixels"
    values = f"values      from {batch.min():.2f} to {batch.max():.2f}, mean {batch.mean():.2f}"
    return "\n".join([title, f"operations  {', '.join(steps)}", values, *[note] * bool(note)])


def caption(label: Any, names: Sequence[str]) -> str:
    """The class name; for a soft label the names with their weights: "a 0.7 + b 0.3"."""
    if np.ndim(label) == 0:
        return names[int(label)]
    order = [index for index in np.argsort(-label) if label[index] > 0.005]
    return " + ".join(f"{names[index]} {label[index]:.2g}" for index in order) if len(order) > 1 else names[order[0]]


def contact_sheet(files: Sequence[Path], captions: Sequence[str], right: Sequence[bool], columns: int = 9) -> Any:
    """A Pillow image of all `files` with captions below: dark if `right`, else red, with a red frame and an x."""
    pictures = []
    for path in files:
        with open_image(path) as image:
            pictures.append(image.convert("RGB").resize((112, 112)))
    return tiles(pictures, captions, right, columns)


def tiles(
    pictures: Sequence[Any], captions: Sequence[str], right: Sequence[bool], columns: int, side: int = 112
) -> Any:
    """Pillow images side by side, each enlarged to `side` pixels without smoothing, with its caption below."""
    text_height = 18
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (side + 4), rows * (side + text_height + 4)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, (picture, caption, is_right) in enumerate(zip(pictures, captions, right, strict=True)):
        text = one_line(caption, 40)  # Pillow measures one line only
        x, y = number % columns * (side + 4) + 2, number // columns * (side + text_height + 4) + 2
        sheet.paste(picture.resize((side, side), Image.Resampling.NEAREST), (x, y))
        if not is_right:
            draw.rectangle((x, y, x + side - 1, y + side - 1), outline="red", width=3)
        text = text if is_right else f"x {text}"
        size = max(1, int(13 * side / max(side, fonts.width(text, 13))))  # long captions in smaller type
        fonts.write(draw, (x, y + side + 1), text, size, "black" if is_right else "red")
    return sheet
