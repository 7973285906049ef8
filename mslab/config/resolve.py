"""Complete the settings: fill in what a config leaves to data, backbone and machine. Nothing else changes settings.

config.yaml contains the result. Resolving resolved settings again changes nothing but the batch, which a resume divides
among its workers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from mslab.config.overrides import override
from mslab.config.schema import Profile, Settings
from mslab.config.tasks import CLASSIFY
from mslab.errors import CheckpointError, ConfigError
from mslab.stages import stage_table

OF_THE_BACKBONE = ("network", "stages", "profile", "stem", "mean", "std")  # settings that a backbone brings


class DescribedNetwork(Protocol):
    """What settings say of a network; implemented by mslab.checkpoint.networks."""

    @property
    def title(self) -> str: ...

    def settings(self) -> dict[str, Any]: ...


class SavedNetwork(Protocol):
    """The network that a checkpoint describes; implemented by mslab.checkpoint.Checkpoint."""

    path: Path
    info: dict[str, Any]  # its `mslab` entry

    @property
    def network(self) -> "DescribedNetwork": ...

    def size_note(self, image_size: int) -> str: ...


CACHED_BYTES = 1 << 30  # of decoded images that cache: auto stores, at most


@dataclass(frozen=True)
class Machine:
    """Where a run trains: device ("cpu", "gpu" or "ascend"), cores of its machine, workers that divide each step."""

    device: str
    cores: int
    workers: int = 1
    initial_workers: int = 1  # at the start of the run: batch_size in its config.yaml is per worker
    memory: int = 0  # bytes available; 0 = unknown


def resolve(
    settings: Settings, images: int, backbone: SavedNetwork | None, machine: Machine, decoded: int = 0
) -> tuple[Settings, list[str]]:
    """Return the completed settings, and a line for each value in the config that another one replaces.

    `images`: number of training images; `decoded`: bytes of all images decoded, 0 = unknown. A backbone brings its own
    stages, profile and normalisation. Raises ConfigError or CheckpointError if the arguments contradict each other.
    """
    notes: list[str] = []
    network = backbone_settings(settings, backbone, notes) if backbone else network_settings(settings)
    # recorded in config.yaml, since the number of threads decides which random numbers augmentation draws
    threads = min(settings.data_workers, machine.cores)
    if threads < settings.data_workers:
        notes.append(f"data_workers: {settings.data_workers} becomes {threads}, the number of cores of this machine")
    changes = network | {
        "batch_size": _batch(settings, images, machine, notes),
        "data_workers": threads,
        "amp_level": precision(settings.amp_level, machine.device),
        "cache": cache_place(settings.cache, decoded, machine),
    }
    return settings.replace(**changes), notes


def precision(amp_level: str, device: str) -> str:
    """Return the level; "auto" is O2, or O0 on a CPU, which float16 only slows down."""
    return amp_level if amp_level != "auto" else "O0" if device == "cpu" else "O2"


def cache_place(cache: str, decoded: int, machine: Machine) -> str:
    """Return the place; "auto" is memory if `decoded` bytes take at most 1 GiB in each worker and, in all of them, a
    quarter of what is available, else none.
    """
    if cache != "auto":
        return cache
    fits = 0 < decoded <= min(CACHED_BYTES, machine.memory // (4 * machine.workers))
    return "memory" if fits else "none"


def network_settings(settings: Settings) -> dict[str, Any]:
    """Return network, stages, profile and stem: model.py's, unless the settings contain others. Raises ConfigError."""
    if settings.network:
        return {"network": settings.network, "stages": None, "profile": None, "stem": None}
    from mslab import model  # only here: it brings MindSpore

    stages = settings.stages or stage_table(model.STAGES, f"STAGES in {model.__file__}")
    try:
        Profile.model_validate(model.PROFILE)
    except ValidationError as error:
        raise ConfigError(
            f"PROFILE in {model.__file__} describes no network that mslab builds.",
            details=[(".".join(map(str, row["loc"])), f"{row['input']!r}: {row['msg']}") for row in error.errors()],
            expected=", ".join(f"{name}: {value!r}" for name, value in Profile.model_validate({}).model_dump().items()),
            fix="correct it, or set `profile` in a config instead",
        ) from None
    profile = model.PROFILE | settings.network_profile() | ({"stem": settings.stem} if settings.stem else {})
    return {"network": None, "stages": stages, "profile": profile, "stem": profile["stem"]}


def backbone_settings(settings: Settings, backbone: SavedNetwork, notes: list[str]) -> dict[str, Any]:
    """Return normalisation, stage table and profile of the backbone's file."""
    changes: dict[str, Any] = {}
    values = settings.model_dump()
    for key in ("mean", "std"):
        own, requested = backbone.info.get(key), values[key]
        if own and own != requested:
            notes.append(f"note: {key}: the backbone was trained with {own}; this replaces {_of(settings, key)}")
            changes[key] = own
    own_network = backbone.network.settings()
    for key, own in own_network.items():
        if (requested := values[key]) and requested != own:
            raise CheckpointError(
                f"{backbone.path} was trained with {key} {own}, {settings.said_by(key)} sets {requested}."
                if own
                else f"{backbone.path} is {backbone.network.title}, {settings.said_by(key)} sets {key} {requested}.",
                expected="the same network in both",
                fix=f"{key}=null, or remove `{key}` where it is set: the backbone brings its own",
            )
    if note := backbone.size_note(settings.image_size):
        notes.append(f"note: {note}")
    mode, own = backbone.info.get("resize_mode", "crop"), settings.resize_mode
    if backbone.info.get("image_size") and mode != own and settings.task == CLASSIFY:  # other tasks always pad
        notes.append(f"note: the backbone was trained with resize_mode: {mode}, this run with {own}")
    return changes | own_network


def network_overrides(changes: Mapping[str, Any]) -> list[str]:
    """KEY=VALUE texts of these settings; of a profile what differs from the usual one."""
    usual = Profile.model_validate({}).model_dump()
    table = dict(changes)
    if table.get("profile"):
        table["profile"] = {key: value for key, value in table["profile"].items() if value != usual[key]}
    return [override(name, value) for name, value in table.items()]


def _of(settings: Settings, name: str) -> str:
    """A value that something else replaces, with the place where it was written."""
    value, place = getattr(settings, name), settings.said_by(name)
    return f"the config's {value}" if place == "the config" else f"{value} of {place}"


def batch_within(settings: Settings, images: int, workers: int = 1) -> int:
    """Return batch_size per worker, lowered to what rescale_train_batch_size_factor allows for so many images."""
    batch, factor = settings.batch_size, settings.rescale_train_batch_size_factor
    if factor and batch * workers * factor > images:
        return max(2, images // (factor * workers))
    return batch


def _batch(settings: Settings, images: int, machine: Machine, notes: list[str]) -> int:
    """Return batch_size per worker, such that all workers together take as many images a step as at the run's start."""
    if settings.on_nan == "rollback" and machine.workers > 1:
        raise ConfigError(
            f"on_nan: rollback does not work with {machine.workers} workers: the loss may become non-finite in one of "
            "them and not in the others.",
            expected="on_nan: stop with several workers",
            fix="set on_nan=stop, or use one worker",
        )
    batch, factor = batch_within(settings, images, machine.initial_workers), settings.rescale_train_batch_size_factor
    if batch != settings.batch_size:
        notes.append(
            f"batch_size: {settings.batch_size} becomes {batch}: rescale_train_batch_size_factor: {factor} allows "
            f"{images // (factor or 1)} of {images} images a step"
        )
    together = batch * machine.initial_workers
    if together % machine.workers or together == machine.workers:
        raise ConfigError(
            f"The run takes {together} images a step; {machine.workers} workers cannot divide them evenly.",
            expected="a number of workers that divides them, with 2 or more images for each worker",
            fix=f"--workers {', '.join(str(n) for n in range(1, together // 2 + 1) if together % n == 0)}",
        )
    return together // machine.workers
