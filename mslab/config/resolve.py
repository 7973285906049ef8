"""The one place where settings are completed: what a file leaves to data, backbone and machine is filled in.

config.yaml is what comes out, and nothing is changed afterwards. Resolved settings stay as they are when they are
resolved again, but for the batch, which the workers of a resume share anew.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mslab.config.schema import Settings
from mslab.errors import CheckpointError, ConfigError


class SavedNetwork(Protocol):
    """What a checkpoint says of the network that it holds; mslab.checkpoint.Checkpoint is one."""

    path: Path
    info: dict[str, Any]  # its `mslab` entry

    @property
    def stages(self) -> list[list[int]]: ...

    @property
    def profile(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Machine:
    """What trains: a device ("cpu", "gpu" or "ascend"), its machine's cores, and the workers that share a step."""

    device: str
    cores: int
    workers: int = 1
    began: int = 1  # workers that the run began with: batch_size of its config.yaml is each one's


def resolve(
    settings: Settings, images: int, backbone: SavedNetwork | None, machine: Machine
) -> tuple[Settings, list[str]]:
    """Settings with nothing left open, and a line for each that became another one than was given.

    `images`: for training. Stages, profile and normalisation are the backbone's own where there is one. Raises
    ConfigError or CheckpointError where they do not go together.
    """
    notes: list[str] = []
    network = _of_the_backbone(settings, backbone, notes) if backbone else _of_the_network(settings)
    threads = min(settings.data_workers, machine.cores)  # another number draws other random numbers: it is kept
    if threads < settings.data_workers:
        notes.append(f"data_workers: {settings.data_workers} becomes {threads}, as many as this machine has cores")
    changes = network | {
        "batch_size": _batch(settings, images, machine, notes),
        "data_workers": threads,
        "amp_level": precision(settings.amp_level, machine.device),
    }
    return settings.replace(**changes), notes


def precision(amp_level: str, device: str) -> str:
    """The level itself; for "auto" O2, but O0 on a CPU, where float16 only costs time."""
    return amp_level if amp_level != "auto" else "O0" if device == "cpu" else "O2"


def _of_the_network(settings: Settings) -> dict[str, Any]:
    """model.py's own table and profile, where the settings do not say others."""
    from mslab import model  # only here: it brings MindSpore

    profile = model.PROFILE | settings.network_profile() | ({"stem": settings.stem} if settings.stem else {})
    stages = settings.stages or [list(row) for row in model.STAGES]
    return {"stages": stages, "profile": profile, "stem": profile["stem"]}


def _of_the_backbone(settings: Settings, backbone: SavedNetwork, notes: list[str]) -> dict[str, Any]:
    """The file's own normalisation, stage table and profile."""
    changes: dict[str, Any] = {}
    given = settings.model_dump()
    for key in ("mean", "std"):
        own, asked = backbone.info.get(key), given[key]
        if own and own != asked:
            notes.append(f"note: {key}: the backbone was trained with {own}; used instead of the config's {asked}")
            changes[key] = own
    own_network = {"stages": backbone.stages, "profile": backbone.profile, "stem": backbone.profile["stem"]}
    for key, own in own_network.items():
        if (asked := given[key]) and asked != own:
            raise CheckpointError(
                f"{backbone.path} was trained with {key} {own}, the config has {asked}.",
                expected="one and the same network",
                fix=f"take `{key}` out of the config ({key}=null): the backbone brings its own",
            )
    size = backbone.info.get("image_size")
    if size and size != settings.image_size:
        notes.append(f"note: the backbone was trained on {size} pixels, this run on {settings.image_size}")
    return changes | own_network


def _batch(settings: Settings, images: int, machine: Machine, notes: list[str]) -> int:
    """batch_size of each worker, so that all together take as many images a step as the run began with."""
    if settings.on_nan == "rollback" and machine.workers > 1:
        raise ConfigError(
            f"on_nan: rollback with {machine.workers} workers: one may see a loss that is not finite, and the others "
            "not.",
            expected="on_nan: stop with several workers",
            fix="on_nan=stop, or one worker",
        )
    batch, factor = settings.batch_size, settings.rescale_train_batch_size_factor
    if factor and batch * machine.began * factor > images:
        batch = max(2, images // (factor * machine.began))
    if batch != settings.batch_size:
        notes.append(
            f"batch_size: {settings.batch_size} becomes {batch}: rescale_train_batch_size_factor: {factor} allows "
            f"{images // (factor or 1)} of {images} images a step"
        )
    together = batch * machine.began
    if together % machine.workers or together == machine.workers:
        raise ConfigError(
            f"The run takes {together} images a step; {machine.workers} workers cannot share them evenly.",
            expected="a number of workers that divides them, with 2 or more images each",
            fix=f"--workers {', '.join(str(n) for n in range(1, together // 2 + 1) if together % n == 0)}",
        )
    return together // machine.workers
