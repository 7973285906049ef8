"""What grading's provenance reports of networks whose origin is known: trained from the parent, from scratch, altered.

Everything is trained on drawn mushrooms of 32 pixels: nine classes for parents, two or nine afterwards.
"""

import hashlib
import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import spoofs
from mslab.grade import parentage
from mslab.runtime.tables import empty_table, render

SMALL = [[1, 16, 1], [1, 32, 2], [1, 64, 2], [1, 128, 2]]  # configs/tiny_nine.yaml's
IMAGES = 100  # of each class
NEARNESS = 0.5  # the default of a rubric

MOMENTUM = {"optimizer": "momentum", "lr_init": 0.01, "lr_max": 0.1}
NINE = {"data": "mushrooms9", "class_num": 9, "batch_size": 16, "epochs": 8, "lr_init": 5e-4, "lr_max": 4e-3}
TWO = {"data": "mushrooms2", "class_num": 2, "batch_size": 10, "epochs": 6, "lr_init": 2e-4, "lr_max": 2e-3}
PARENTS: dict[str, dict[str, Any]] = {
    "adam": NINE,
    "momentum": NINE | MOMENTUM,
    "adam, one epoch at a rate of 1e-5": NINE | {"epochs": 1, "lr_init": 1e-6, "lr_max": 1e-5},
}
TRANSFERS: dict[str, dict[str, Any]] = {
    "as the recipe": TWO,
    "1 epoch": TWO | {"epochs": 1},
    "20 epochs, four times the rate": TWO | {"epochs": 20, "lr_max": 8e-3},
    "with momentum": TWO | MOMENTUM,
    "with momentum, weight decay 0.01": TWO | MOMENTUM | {"weight_decay": 0.01},
    "only layer4 trained": TWO | {"layers_to_freeze": 4},
    "the nine classes again, 1 epoch": NINE | {"seed": 3, "epochs": 1},
}
SCRATCH: dict[str, dict[str, Any]] = {
    "two classes": TWO,
    "two classes, 1 epoch": TWO | {"epochs": 1},
    "two classes, 20 epochs, four times the rate": TWO | {"epochs": 20, "lr_max": 8e-3},
    "two classes, momentum": TWO | MOMENTUM,
    "the nine classes, half the rate": NINE | {"lr_max": 2e-3},
    "the nine classes, batches of 32": NINE | {"batch_size": 32},
    "the nine classes, momentum": NINE | MOMENTUM | {"lr_max": 0.05},
}
LARGE = {"adam", "as the recipe", "with momentum", "two classes"}  # for ResNet-50
SHORTER = {"epochs": 3, "lr_max": 1e-3, "lr_init": 2e-4}  # ResNet-50's recipes
Row = dict[str, Any]


def bench_provenance(large: bool, folder: Path | None, progress: Callable[[str], Any] = lambda text: None) -> list[Row]:
    """Rows of {network, parent, origin, group, batchnorm, expected, convolutions, verdict, seconds}.

    `large`: ResNet-50 too. `folder`: networks are kept there for the next time. Writes runs/provenance-…/.
    """
    from mslab.data.mushrooms import drawing

    rows: list[Row] = []
    with nullcontext(str(folder)) if folder else tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        counts = {name: {"train": IMAGES, "val": 10, "test": 1} for name in ("mushrooms9", "mushrooms2")}
        drawing.draw_datasets(root / "drawn", size=48, counts=counts)
        for stages in (SMALL, None) if large else (SMALL,):
            lab = Lab(root, stages, progress)
            for name, settings in lab.some(PARENTS).items():
                rows += lab.rows(name, lab.train(settings))
    return rows


class Lab:
    """The networks of one stage table; None is ResNet-50's."""

    def __init__(self, root: Path, stages: Any, progress: Callable[[str], Any]) -> None:
        self.root, self.stages, self.progress = root, stages, progress
        self.runs = f"provenance-{datetime.now():%Y%m%d-%H%M%S}"

    def some(self, settings: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        return settings if self.stages else {name: value for name, value in settings.items() if name in LARGE}

    def train(self, settings: Mapping[str, Any], parent: Path | None = None) -> Path:
        """The backbone's file, trained unless it is there."""
        from mslab.training import start

        config = {"seed": 1, "image_size": 32, "optimizer": "adam", "warmup_epochs": 0.3, "crop_scale": 1}
        config |= {"color_jitter": 0, "data_workers": 1, "device": "cpu"} | dict(settings)  # type: ignore[operator]
        if not self.stages:
            config |= {key: value for key, value in SHORTER.items() if config["optimizer"] == "adam" or key == "epochs"}
        config |= {"stages": self.stages} if self.stages and not parent else {}
        text = json.dumps([config, IMAGES, parent.stem if parent else ""], sort_keys=True)
        file = self.root / f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.ckpt"
        if not file.exists():
            data = self.root / "drawn" / str(config.pop("data"))
            config |= {"train_data": str(data / "train"), "val_data": str(data / "val")}
            name = f"{self.runs}/{file.stem}"
            done = start.transfer(config, parent, name=name) if parent else start.train(config, name=name)
            checkpoints = Path(done.run) / "checkpoints"
            (checkpoints / "best_backbone.ckpt").replace(file)
            for other in checkpoints.iterdir():
                other.unlink()
            self.progress(f"{text}: val_acc {done.val_acc:.3f} in {done.seconds:.0f} s")
        return file

    def networks(self, parent: Path) -> Iterator[tuple[str, str, Path]]:
        """(group, origin, file) of networks trained from the parent and from scratch."""
        for origin, settings in self.some(TRANSFERS).items():
            yield "trained from it", origin, self.train(settings, parent)
        for seed, group in ((1, "from scratch, the same seed"), (7, "from scratch, another seed")):
            for origin, settings in self.some(SCRATCH).items():
                images = ", the same images" if settings["class_num"] == 9 else ""
                yield f"{group}{images}", f"{origin}, seed {seed}", self.train(settings | {"seed": seed})

    def rows(self, name: str, file: Path) -> list[Row]:
        """One row for each network compared with this parent, and for each alteration of three of them."""
        from mslab import checkpoint

        network, parent = "small" if self.stages else "ResNet-50", dict(checkpoint.read(file).backbone)
        pairs = [
            (group, origin, dict(checkpoint.read(child).backbone), parent)
            for group, origin, child in self.networks(file)
        ]
        by_origin = {origin: tensors for _, origin, tensors, _ in pairs}
        if name == next(iter(PARENTS)):
            for origin, alter in spoofs.SCRATCH.items():
                for seed, group in ((1, "the same seed, altered"), (7, "another seed, altered")):
                    pairs.append((group, origin, *alter(by_origin[f"two classes, seed {seed}"], parent)))
            for origin, alter in spoofs.HONEST.items():
                pairs.append(("trained from it, altered", origin, *alter(by_origin["as the recipe"], parent)))
        return [{"network": network, "parent": name} | compared(*pair) for pair in pairs]


def compared(group: str, origin: str, child: Any, parent: Any) -> Row:
    digests = hashlib.sha256()  # the weights that are compared depend on all weights, as in a worker
    for tensors in (child, parent):
        for value in tensors.values():
            digests.update(value.tobytes())
    start = time.process_time()
    figures = parentage.relation(child, parent, digests.digest())
    seconds = time.process_time() - start
    return (
        {"group": group, "origin": origin, "verdict": parentage.verdict(figures, NEARNESS)}
        | figures
        | {"seconds": seconds}
    )


def table(rows: Sequence[Row]) -> str:
    """A line per group of networks that were trained, and one per alteration."""
    columns = ("", "networks", "batchnorm", "expected", "convolutions", "near", "unclear", "far")
    parts = []
    for network in dict.fromkeys(row["network"] for row in rows):
        own = [row for row in rows if row["network"] == network]
        cost = 1000 * float(np.median([row["seconds"] for row in own]))
        grid = empty_table(f"{network}: correlation with a parent, {cost:.0f} ms a pair", columns)
        for parent in dict.fromkeys(row["parent"] for row in own):
            grid.add_row(f"parent: {parent}")
            for group in dict.fromkeys(row["group"] for row in own if row["parent"] == parent):
                members = [row for row in own if (row["parent"], row["group"]) == (parent, group)]
                if group.endswith("altered"):
                    grid.add_row(f"  {group}")
                    for row in members:
                        grid.add_row(f"    {row['origin']}", *cells([row]))
                else:
                    grid.add_row(f"  {group}", *cells(members))
        parts.append(render(grid))
    return "\n".join(parts)


def cells(rows: Sequence[Row]) -> list[str]:
    counts = Counter(row["verdict"] for row in rows)
    figures = [spread([row[key] for row in rows]) for key in ("batchnorm", "expected", "convolutions")]
    return [str(len(rows)), *figures, *(str(counts[verdict] or "") for verdict in ("near", "unclear", "far"))]


def spread(values: Sequence[float]) -> str:
    # spread([0.3, 0.1]) -> "0.10 to 0.30"
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"
