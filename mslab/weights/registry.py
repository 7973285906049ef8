"""Names of published weights, such as torchvision:resnet50.IMAGENET1K_V2, and what their projects say of them.

A name without what follows the dot is what the project itself takes: torchvision its DEFAULT, timm its first.
"""

import difflib
import functools
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mslab.config import IMAGENET
from mslab.config.paths import PUBLISHED
from mslab.errors import CheckpointError
from mslab.weights import mindcv, timm, torchvision

PROJECTS = ("torchvision", "timm", "mindcv")
DIGITS = re.compile(r"-([0-9a-f]{8})\.\w+$")  # of the sha256, at the end of a file's name
UNLIKE = re.compile(r"[^a-z0-9.:]")  # what people add to a name: ResNet-50, resnet50_weights
FAR = 4 / 3  # image sizes further apart than this are worth a note
NEAREST = 5  # names that a message proposes


@dataclass(frozen=True)
class Published:
    """What a project says of one file of weights; None where it says nothing."""

    name: str  # torchvision:resnet50.IMAGENET1K_V2
    address: str
    licence: str
    top1: float | None  # percent of ImageNet-1K's validation images, at this crop
    crop: int | None  # pixels; side of the centre crop that was evaluated
    resize: int | None  # pixels; shorter side of the image before that crop
    trained: int | None  # pixels; side of the crops in training
    interpolation: str | None
    megabytes: float | None = None

    @property
    def project(self) -> str:
        return self.name.partition(":")[0]

    @property
    def network(self) -> str:
        return self.name.partition(":")[2].partition(".")[0]

    @property
    def file(self) -> str:
        return self.address.rpartition("/")[2]

    @property
    def digits(self) -> str:
        """The first digits of the file's sha256."""
        return DIGITS.search(self.file)[1]  # type: ignore[index]

    @property
    def info(self) -> dict[str, Any]:
        """How images are prepared for it, in the terms of a checkpoint's `mslab` entry."""
        sizes = {"image_size": self.crop, "resize_size": self.resize or self.crop} if self.crop else {}
        return sizes | {key: list(values) for key, values in IMAGENET.items()}

    @property
    def summary(self) -> str:
        """A line such as "torchvision:resnet18.IMAGENET1K_V1: top-1 69.758 % at 224 of 256 pixels, bilinear"."""
        figure = f"top-1 {self.top1:.3f} %" if self.top1 else "top-1 unknown"
        sizes = f" at {self.crop} of {self.resize or 'unknown'} pixels" if self.crop else ""
        other = f", {self.interpolation} (mslab's resizing is bilinear)" if self.interpolation == "bicubic" else ""
        return f"{self.name}: {figure}{sizes}{other}"

    def far_from(self, image_size: int) -> str:
        """A note about images much smaller or larger than those of this network; "" if they are near, or unknown."""
        known = [size for size in (self.trained, self.crop) if size]
        if not known or min(known) / FAR <= image_size <= max(known) * FAR:
            return ""
        seen = f"trained on {self.trained} pixels and " if self.trained and self.trained != self.crop else ""
        return f"{self.name} was {seen}measured on {self.crop} pixels; this run has image_size: {image_size}"


@functools.cache
def table() -> dict[str, Published]:
    """{name: what is published}, in the order of the projects' own lists."""
    return {entry.name: entry for entry in entries()}


def entries() -> Iterator[Published]:
    for name, file, top1, sizes, megabytes in rows(torchvision.ROWS):
        address = torchvision.ADDRESS + file
        figures = (number(top1), *pair(sizes), None, "bilinear", number(megabytes))
        yield Published(f"torchvision:{name}", address, torchvision.LICENCE, *figures)
    for name, file, top1, sizes, trained in rows(timm.ROWS):
        address = timm.ADDRESS + file
        yield Published(f"timm:{name}", address, timm.LICENCE, number(top1), *pair(sizes), int(trained), "bicubic")
    for name, file, top1, sizes, way in rows(mindcv.ROWS):
        address, how = mindcv.ADDRESS + file, None if way == "-" else way
        yield Published(f"mindcv:{name}", address, mindcv.LICENCE, number(top1), *pair(sizes), None, how)


def rows(text: str) -> Iterator[list[str]]:
    return map(str.split, text.strip().splitlines())


def number(text: str) -> float | None:
    return None if text == "-" else float(text)


def pair(text: str) -> tuple[int | None, int | None]:
    # pair("224/256") -> (224, 256); pair("224/-") -> (224, None); pair("-") -> (None, None)
    crop, _, resize = text.partition("/")
    return (None if crop == "-" else int(crop)), (None if resize in ("", "-") else int(resize))


@functools.cache
def defaults() -> dict[str, Published]:
    """{torchvision:resnet50: what it stands for}: of torchvision the last of a network, of the others the first."""
    found: dict[str, Published] = {}
    for entry in table().values():
        short = f"{entry.project}:{entry.network}"
        if entry.project == "torchvision" or short not in found:
            found[short] = entry
    return found


def is_named(text: object) -> bool:
    """Whether a text begins like a name of published weights."""
    return isinstance(text, str) and bool(PUBLISHED.match(text))


def published(name: str) -> Published:
    """What is published under exactly this name. Raises CheckpointError, with the names that are near."""
    entry = table().get(name) or defaults().get(name)
    if entry is None:
        similar = near(name)
        fix = f"one of {', '.join(similar)}" if similar else "mslab weights    lists the names"
        raise CheckpointError(
            f"No weights are known as {name}.",
            expected="a name of `mslab weights`, such as torchvision:resnet50 or timm:resnet50.a1_in1k",
            fix=fix,
        )
    return entry


def near(text: str) -> list[str]:
    """Names of published weights that a text may mean: ResNet50, ResNet50_Weights.IMAGENET1K_V2, an address, a file.

    Of a text without a project only what is clearly one: a run's name must not be taken for weights.
    """
    files = {entry.file: name for name, entry in table().items()}
    if (last := text.rpartition("/")[2]) in files:
        return [files[last]]
    names = {plain(name): name for name in (*table(), *defaults())}
    wanted = plain(text)
    each = [names[key] for project in PROJECTS if (key := f"{project}:{wanted}") in names]
    if wanted in names or each:
        return [names[wanted]] if wanted in names else each
    if not is_named(text.replace("/", ":", 1)):
        return []
    begun = [key for key in names if "." in wanted and key.startswith(wanted)]
    project, _, rest = wanted.partition(":")
    own = [key.partition(":")[2] for key in names if key.startswith(f"{project}:")]
    close = [f"{project}:{key}" for key in difflib.get_close_matches(rest, own, NEAREST, 0.6)]
    return [names[key] for key in dict.fromkeys([*begun, *close])][:NEAREST]


def plain(text: str) -> str:
    """A name as it is compared: plain("torchvision/ResNet-50_Weights.IMAGENET1K_V2") -> torchvision:resnet50.v2"""
    text = re.sub(r"^(.*/)?(pytorch|torchvision\.models|torchvision)[/:.]", "torchvision:", text.lower())
    text = re.sub(r"^(timm|mindcv)/", r"\1:", text)
    return UNLIKE.sub("", text.replace("_weights", "")).replace("imagenet1k", "").replace(".default", "")


def of_file(file: str, content: bytes) -> Published | None:
    """What is published as a file of this name with this content, by the digits of the hash in the name."""
    entry = of_name(file)
    return entry if entry and hashlib.sha256(content).hexdigest().startswith(entry.digits) else None


def of_name(file: str) -> Published | None:
    """What is published under this name of a file, whatever is in the file."""
    return by_file().get(file)


@functools.cache
def by_file() -> dict[str, Published]:
    return {entry.file: entry for entry in table().values()}
