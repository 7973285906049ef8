"""Runs side by side: what each is called, and what makes their comparison unfair, with commands that mend it."""

import json
from collections.abc import Callable, Sequence

from mslab.config.resolve import network_overrides
from mslab.escaping import command
from mslab.runs import finding
from mslab.runs.folder import RunFolder

KINDS = {"train": "from scratch", "transfer": "transfer", "incremental": "incremental"}
NETWORK = ("network", "stages", "profile", "stem", "head_hidden")  # all but the last come with a backbone
SIZES = ("image_size", "train_crop_size", "valid_resize_size", "valid_crop_size")
INPUT = (*SIZES, "resize_mode", "mean", "std", "transform_normalize")
LENGTH = ("epochs", "seed", "best_by")
CLASSES = ("class_num", "classes", "merge")  # of the same folders
MOST = 4  # commands in a message


def label(run: RunFolder, t: Callable[[str], str]) -> str:
    """The run's name and how it began: a config's runs from scratch and by transfer have the same names."""
    return f"{run.path.name} ({kind(run, t)})"


def kind(run: RunFolder, t: Callable[[str], str]) -> str:
    text = run.manifest["kind"]
    return t(KINDS[text]) if text in KINDS else text


def unfair(runs: Sequence[RunFolder], t: Callable[[str], str]) -> list[str]:
    """What differs between runs besides what a student compares, and the commands that train comparable ones."""
    settings = [run.settings.model_dump() for run in runs]
    notes = []
    if len({run.manifest["data"]["fingerprint"] for run in runs}) > 1:
        notes.append(t("The runs were not measured on the same images: their accuracies cannot be compared."))
    compared: tuple[str, ...] = (*NETWORK, *INPUT, *LENGTH)
    if runs[0].settings.task == "detect":
        compared += ("validation_iou_threshold",)
    if len({(table["train_data"], table["val_data"]) for table in settings}) == 1:
        compared += CLASSES
    different = [key for key in compared if len({json.dumps(table[key]) for table in settings}) > 1]
    if set(different) & set(NETWORK[:-1]):
        notes.append(t("The runs have different networks (stages, profile): this compares networks, not methods."))
    if rest := [key for key in different if key not in NETWORK[:-1]]:
        notes.append(t("The runs also differ in {names}.").format(names=", ".join(rest)))
    commands = [again(run, runs[reference(runs)], different) for run in runs]
    if commands := [line for line in dict.fromkeys(commands) if line]:
        notes.append("\n".join([t("These commands train runs that can be compared:"), *commands[:MOST]]))
    return notes


def reference(runs: Sequence[RunFolder]) -> int:
    """The run that others should equal: the first with a backbone, whose network cannot be another, else the first."""
    return next((at for at, run in enumerate(runs) if run.manifest["kind"] != "train"), 0)


def again(run: RunFolder, other: RunFolder, different: Sequence[str]) -> str:
    """The command that trains this run anew with the other run's settings of these names; "" if there is none."""
    own, wanted = run.settings.model_dump(), other.settings.model_dump()
    changes = {key: wanted[key] for key in different if own[key] != wanted[key]}
    if not changes.keys() - {"seed"} or run.manifest["kind"] != "train":
        return ""
    return command(
        "train", run.path / "config.yaml", *network_overrides(changes), "--name", finding.STAMP.sub("", run.path.name)
    )
