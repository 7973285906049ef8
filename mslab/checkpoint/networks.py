"""The kinds of networks that checkpoints describe and runs train, each a value. Importing it imports no MindSpore."""

import contextlib
import functools
import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mslab.checkpoint import dialects
from mslab.config import Settings
from mslab.config.networks import MINDCV, near, registered
from mslab.errors import CheckpointError, ConfigError
from mslab.escaping import pip_install
from mslab.files import replace_atomically
from mslab.runtime.console import working
from mslab.runtime.cuda import cache_folder
from mslab.runtime.versions import version

if TYPE_CHECKING:
    from mslab import mindcv_backbone, model

PROBE = """
import json, sys
import mindspore as ms
ms.set_device("CPU")
from mslab import mindcv_backbone
print(json.dumps(mindcv_backbone.describe(sys.argv[1], int(sys.argv[2]))))
"""
may_start_processes = True  # a worker of `mslab grade` sets it to False


@dataclass(frozen=True)
class ResNet:
    """A network of model.py: its table of stages, and how it is built besides."""

    stages: list[list[int]]
    profile: dict[str, Any]

    @property
    def title(self) -> str:
        """A name such as "ResNet-50", or the table if it is none of the five."""
        return dialects.title(self.stages, self.profile)

    @property
    def differences(self) -> list[str]:
        """What of the profile is not mslab's."""
        return [f"{key} {value}" for key, value in self.profile.items() if value != dialects.PROFILE[key]]

    @property
    def channels(self) -> int:
        """Channels of the features."""
        return self.stages[-1][1] * (1 if self.profile["block"] == "basic" else 4)

    @property
    def blocks(self) -> int:
        return sum(row[0] for row in self.stages)

    def layout(self) -> dict[str, tuple[int, ...]]:
        """{name: shape} of the backbone's tensors."""
        return dialects.layout(self.stages, self.profile)

    def outline(self) -> list[str]:
        """One name of a tensor per group: enough to check settings before a network is built."""
        return ["conv1.weight", *(f"layer{number}.0.conv1.weight" for number in range(1, len(self.stages) + 1))]

    def record(self) -> dict[str, Any]:
        """The network's part of a checkpoint's entry."""
        return {"stages": self.stages, "profile": self.profile}

    def settings(self) -> dict[str, Any]:
        """The settings of a run with this network."""
        own = {"stages": self.stages, "profile": self.profile, "stem": self.profile["stem"]}
        return {"network": None} | own

    def check_size(self, side: int, setting: str = "image_size") -> None:
        """It takes images of any size."""

    def backbone(self) -> "model.Backbone":
        """A new backbone with random weights."""
        from mslab import model

        return model.resnet50_backbone(self.stages, self.profile)


@dataclass(frozen=True)
class MindcvNetwork:
    """A classifier of mindcv without its last layer, by its name, such as mindcv:mobilenet_v2_100.

    What it consists of only mindcv's code knows. A child process builds it: that may need MindSpore before this process
    has chosen its device, and draws random numbers.
    """

    name: str
    file: Path | None = field(default=None, compare=False)  # that it was read from, if it was
    differences: ClassVar[list[str]] = []
    blocks: ClassVar[int] = 0

    @property
    def title(self) -> str:
        return self.name

    @property
    def channels(self) -> int:
        return int(self.facts()["channels"])

    def layout(self) -> dict[str, tuple[int, ...]]:
        return {name: tuple(shape) for name, shape in self.facts()["tensors"].items()}

    def outline(self) -> list[str]:
        return list(self.layout())

    def record(self) -> dict[str, Any]:
        return {"network": self.name}

    def settings(self) -> dict[str, Any]:
        return {"network": self.name, "stages": None, "profile": None, "stem": None}

    def facts(self, side: int = 0) -> dict[str, Any]:
        """What mindcv_backbone.describe says of it. Raises ConfigError."""
        require(self.name, self.file)
        return described(self.name.removeprefix(MINDCV), side)

    def check_size(self, side: int, setting: str = "image_size") -> None:
        """Raise ConfigError unless it takes images of so many pixels, which this setting gives."""
        problem, works = (self.facts(side)[key] for key in ("problem", "works"))
        if problem and not works:
            raise ConfigError(
                f"network: MindSpore cannot run {self.name} here: {problem}.",
                expected="a network of mindcv that gives features of images",
                fix="use another network, such as network=mindcv:mobilenet_v2_100",
            )
        if problem:
            raise ConfigError(
                f"network: {self.name} cannot take images of {side} pixels: {problem}.",
                expected=f"another image size; {works} pixels work",
                fix=f"{setting}={works}",
            )

    def backbone(self) -> "mindcv_backbone.MindcvBackbone":
        require(self.name, self.file)
        from mslab import mindcv_backbone

        return mindcv_backbone.MindcvBackbone(self.name.removeprefix(MINDCV))


Network = ResNet | MindcvNetwork


def require(name: str, file: Path | None = None) -> None:
    """Raise ConfigError unless mindcv is installed and has this network; of a `file` CheckpointError."""
    known, own = registered(), name.removeprefix(MINDCV)
    if own in known:
        return
    if known:
        problem, expected = f"the installed mindcv has no {own}", "a name of mindcv.list_models(), after mindcv:"
        install = pip_install("mindcv==0.3.0")
        fix = f"network={near(name) or 'mindcv:mobilenet_v2_100'}, or {install}"
    else:
        problem, expected = f"{name} needs mindcv, which is not installed", "mindcv 0.3.0, an extra of mslab"
        install = pip_install("mslab[mindcv]")
        fix = f"{install}; without it: network=null, model.py's ResNet"
    if file:  # which no setting makes another network's
        raise CheckpointError(f"{file} is of {name}: {problem}.", expected=expected, fix=install)
    raise ConfigError(f"network: {problem}.", expected=expected, fix=fix)


@functools.cache
def described(name: str, side: int) -> dict[str, Any]:
    """mindcv_backbone.describe in a child process; what it said is stored in ~/.cache/mslab/networks."""
    if not may_start_processes:
        from mslab import mindcv_backbone

        try:
            return dict(mindcv_backbone.describe(name, side))
        except Exception as error:
            raise unbuildable(name, f"{type(error).__name__}: {error}".splitlines()[0]) from error
    code = Path(__file__).parent.parent.joinpath("mindcv_backbone.py").read_bytes()
    key = f"{code!r} {version('mindcv')} {version('mindspore')}"
    folder, digest = cache_folder() / "networks", hashlib.sha256(key.encode()).hexdigest()[:16]
    stored = folder / f"{name}-{side}-{digest}.json"
    for file in [stored] if side else sorted(folder.glob(f"{name}-*-{digest}.json")):
        with contextlib.suppress(OSError, ValueError):
            return dict(json.loads(file.read_text(encoding="utf-8")))
    command = [sys.executable, "-c", PROBE, name, str(side)]
    with working(f"looking at {name} …"):
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    try:
        found = dict(json.loads(done.stdout.strip().splitlines()[-1]))
    except (IndexError, ValueError):
        lines = [line for line in done.stderr.splitlines() if "Error" in line] or [f"exit code {done.returncode}"]
        raise unbuildable(name, lines[-1].strip()) from None
    with contextlib.suppress(OSError):
        stored.parent.mkdir(parents=True, exist_ok=True)
        replace_atomically(stored, lambda file: file.write(json.dumps(found).encode()))
    return found


def unbuildable(name: str, reason: str) -> ConfigError:
    return ConfigError(
        f"network: mindcv:{name} cannot be built: {reason[:300]}.",
        expected="a network of mindcv that has one last layer",
        fix="use another network, such as network=mindcv:mobilenet_v2_100",
    )


def of_settings(settings: Settings) -> Network:
    """The network of these settings: model.py's tables where they say nothing."""
    if settings.network:
        return MindcvNetwork(settings.network)
    from mslab import model

    return ResNet(settings.stages or [list(row) for row in model.STAGES], model.PROFILE | settings.network_profile())


def of_record(info: Mapping[str, Any]) -> Network:
    """The network of a complete `mslab` entry, or of complete settings."""
    return MindcvNetwork(info["network"]) if info.get("network") else ResNet(info["stages"], info["profile"])
