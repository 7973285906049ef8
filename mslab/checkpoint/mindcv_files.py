"""Files of mindcv's networks, also as mindcv publishes them: which network it is, and which tensors are its."""

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mslab import weights
from mslab.checkpoint.networks import MindcvNetwork
from mslab.checkpoint.selecting import OPTIMIZER, TRAINING, single
from mslab.config.networks import HEAD, MINDCV, registered
from mslab.errors import CheckpointError

OWN = re.compile(r"resnet(18|34|50|101|152)$")  # networks that model.py builds
SLOTS = re.compile(r"(moments?|moment[12]|accum|ema|adam_[mv]|learning_rate|global_step|momentum|beta[12]_power)\b")


def network_of(path: Path, wanted: str, tensors: Mapping[str, np.ndarray]) -> str:
    """The network of mindcv that a file without an entry of mslab is of: the wanted one, else by the file's name; "".

    A name is a hint only: "" for a file with none of that network's tensors.
    """
    named = "" if wanted else name_of(path)
    return wanted or (named if named and MindcvNetwork(named, path).layout().keys() & tensors.keys() else "")


def name_of(path: Path) -> str:
    """The network of mindcv that a file's name says; "" if none.

    mindcv names its files mobilenet_v2_100-d5532038.ckpt. A ResNet that model.py builds is left to the dialects.
    """
    if published := weights.of_name(path.name):  # known without mindcv, too
        name = published.network if published.project == "mindcv" else ""
    else:
        name = path.name.partition("-")[0].removesuffix(path.suffix)
        name = name if name in registered() else ""
    return MINDCV + name if name and not OWN.match(name) else ""


def split(
    path: Path, tensors: Mapping[str, np.ndarray], network: str, own: bool
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], list[str]]:
    """(the backbone's tensors, the head's under mslab's names, notes on what was left out). `own`: mslab wrote them.

    A tensor that nothing explains stays in the backbone, where the comparison with the network names it.
    """
    if own:
        state = {name: value for name, value in tensors.items() if not name.startswith(TRAINING)}
        head = {name: single(state.pop(name)) for name in HEAD if name in state}
        count = len(tensors) - len(state) - len(head)
        return {n: single(v) for n, v in state.items()}, head, [f"{count} tensors left out ({OPTIMIZER})"] * bool(count)
    facts = MindcvNetwork(network, path).facts()
    known, last = facts["tensors"], facts["published_head"]
    found, own_name = known.keys() & tensors.keys(), name_of(path)
    if not found or (found < known.keys() and own_name not in ("", network)):
        raise CheckpointError(
            f"{path} is not a file of {network}: it has {len(found)} of that network's {len(known)} tensors.",
            expected=f"a file of {network}",
            fix=f"network={own_name}" if own_name not in ("", network) else "network=null, or another file",
        )
    # in some published files the last layer has another name than in today's code
    layers = [last, "head.classifier", "classifier", "head", "fc"]
    names = [layer for layer in layers if f"{layer}.weight" in tensors and f"{layer}.weight" not in known][:1]
    pairs = {f"classifier.{part}": f"{layer}.{part}" for layer in names for part in ("weight", "bias")}
    pairs = {ours: name for ours, name in pairs.items() if name in tensors}
    rows = tensors[pairs["classifier.weight"]].shape[0] if pairs else 0
    if pairs and tensors[pairs["classifier.weight"]].ndim != 2:  # squeezenet's is a convolution
        pairs = {}
    leaves = {name.rpartition(".")[2] for name in known}  # weight, gamma, ...: what is trained

    def is_explained(name: str) -> bool:
        """Whether it is of an optimizer, of another head, or a table such as relative_position_index."""
        is_table = name.rpartition(".")[2] not in leaves
        return bool(SLOTS.match(name)) or name.startswith("aux") or tensors[name].shape[:1] == (rows,) or is_table

    rest = [name for name in tensors if name not in known and name not in pairs.values() and is_explained(name)]
    parts = Counter(OPTIMIZER if SLOTS.match(name) else name.partition(".")[0][:50] for name in rest)
    notes = [f"{count} tensors left out ({part})" for part, count in parts.items()]
    left = {*rest, *pairs.values()}
    backbone = {name: single(value) for name, value in tensors.items() if name not in left}
    return backbone, {ours: single(tensors[name]) for ours, name in pairs.items()}, notes
