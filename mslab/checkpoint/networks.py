"""The kinds of networks that checkpoints describe and runs train, each a value. Importing it imports no MindSpore."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mslab.checkpoint import dialects
from mslab.config import Settings

if TYPE_CHECKING:
    from mslab import model

SETTINGS = ("stages", "profile", "stem")  # that describe a network


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
        return {"stages": self.stages, "profile": self.profile, "stem": self.profile["stem"]}

    def backbone(self) -> "model.Backbone":
        """A new backbone with random weights."""
        from mslab import model

        return model.resnet50_backbone(self.stages, self.profile)


Network = ResNet


def of_settings(settings: Settings) -> Network:
    """The network of these settings: model.py's tables where they say nothing."""
    from mslab import model

    return ResNet(settings.stages or [list(row) for row in model.STAGES], model.PROFILE | settings.network_profile())


def of_record(info: Mapping[str, Any]) -> Network:
    """The network of a complete `mslab` entry."""
    return ResNet(info["stages"], info["profile"])
