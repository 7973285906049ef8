"""Find the network among a file's tensors: its prefix and its head; what an optimizer left; averages, other networks.

Wrappers (DataParallel, compile, Lightning, a student's class) put a prefix before all of a network's names, optimizers
before names of their own tensors, averages and second networks likewise. So a prefix is that of a network if a ResNet's
first block and BatchNorm's statistics follow it. Within the network every tensor has to belong to a ResNet: one that
nothing explains keeps its name, and the comparison with the layout refuses it.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mslab.checkpoint.dialects import DROPPED, HEAD, Dialect, is_average, rename

TRAINING = "training."  # before the names of mslab's own training state in last.ckpt
BLOCK = r"layer\d+\.\d+\.(?:conv\d|bn\d|down_sample\.\d)"
PART = re.compile(rf"(|.*?\.)((?:conv1|bn1|{BLOCK})\.(?:weight|gamma|beta|moving_mean|moving_variance))", re.S)
LIKE_A_PART = re.compile(r"(layer|conv|bn|norm|stem|down_sample)\w*$")  # first words of names that change the network
FIRST = "layer1.0.conv1.weight"  # every ResNet has it
STATISTICS = ("moving_mean", "moving_variance")
HEADS = re.compile(
    r"((cls_|lincls_|class_|dino_)?head|classifier|fc|linear|last_linear|end_point|output|logits|dense)$"
)  # the last layer
PRETEXT = re.compile(r"(proj\w*|predictor\w*|prototypes|queue\w*)$")  # of self-supervised training, after the backbone
WORDS = re.compile(r"[._]")  # after them a weight's name may begin
MAX_NETWORKS, MAX_LEVELS, MAX_SAID = 32, 8, 8
MAX_NAME = 500  # characters of a name whose parts are compared
OPTIMIZER = "the optimizer's"


@dataclass
class Selection:
    """The tensors of one network under mslab's names, and what was decided."""

    tensors: dict[str, np.ndarray] = field(default_factory=dict)  # also those that nothing explains
    notes: list[str] = field(default_factory=list)  # what was left out
    choices: list[str] = field(default_factory=list)  # where the file leaves a choice
    keys: list[str] = field(default_factory=list)  # what `wanted` can be


@dataclass
class Networks:
    """The tensors of a file under names of mslab with their prefixes, and the prefixes of its networks."""

    tensors: dict[str, np.ndarray]
    networks: list[str]  # prefixes, the one to take first
    numbers: bool  # whether single numbers at the top are a training's, as in MindSpore, and not parameters


def select(tensors: Mapping[str, np.ndarray], dialect: Dialect, wanted: str = "") -> Selection:
    """Select the network to read, or the one at the prefix `wanted`. Raises ValueError, KeyError if that is not there.

    Averages that cover a part of the network, as MindSpore's do, replace that part of the other weights.
    """
    found, left_out = look(tensors, dialect)
    means = averages(found)
    result = Selection(keys=[key_of(prefix) for prefix in [*found.networks, *means] if prefix])
    result.keys = list(dict.fromkeys(result.keys))
    prefix, least = found.networks[0] if found.networks else "", ""
    overlay = ""
    if wanted:
        prefix, least, overlay = at_key(wanted, found, means)
    elif len(found.networks) > 1 or means:
        taken = repr(key_of(prefix)) if prefix else "the names without a prefix"
        result.choices.append(said(taken, [key for key in result.keys if key != key_of(prefix)]))
    names, rest = sort_out(found, prefix, least, left_out)
    layer = names.get(f"{HEAD}weight", "").removesuffix(".weight")
    if layer and not HEADS.match(layer.rpartition(".")[2]) and not HEADS.match(layer.removeprefix(prefix)):
        result.choices.append(f"{layer[:60]} taken as the head: it is the only linear layer after the backbone")
    if overlay:
        names = {own: overlay + name if overlay + name in found.tensors else name for own, name in names.items()}
    if both := names.keys() & rest.keys():
        raise ValueError(f"two of its names mean {min(both)[:200]}")
    result.tensors = {own: single(found.tensors[name]) for own, name in (names | rest).items()}
    result.notes = [f"{count} tensors left out ({kind})" for kind, count in left_out.items() if count]
    if dialect.name == "official" and result.tensors.get(f"{HEAD}weight", np.empty(0)).shape[:1] == (1001,):
        rows = {name: result.tensors[name] for name in (f"{HEAD}weight", f"{HEAD}bias") if name in result.tensors}
        result.tensors |= {name: value[:1000] for name, value in rows.items() if value.ndim}
        result.notes.append("row 1001 of the head left out (no class of ImageNet)")
    return result


def said(taken: str, others: Sequence[str]) -> str:
    """What is said if the weights of one key are taken from a file that has others."""
    rows = ", ".join([repr(key[:60]) for key in others[:MAX_SAID]] + ["…"] * (len(others) > MAX_SAID))
    return f"weights of {taken} taken; the file also has {rows} (--weights KEY)"


def single(value: np.ndarray) -> np.ndarray:
    """Half and double precision as float32."""
    with np.errstate(over="ignore"):  # too large for float32 becomes infinity, which `compare` refuses
        return value.astype(np.float32) if value.dtype in (np.float16, np.float64) else value


def look(tensors: Mapping[str, np.ndarray], dialect: Dialect) -> tuple[Networks, Counter[str]]:
    """Translate the names, and find the prefixes of networks. Raises ValueError if two names become one."""
    left_out = Counter({OPTIMIZER: 0, DROPPED: 0})
    renamed: dict[str, np.ndarray] = {}
    first: dict[str, int] = {}
    with_statistics: set[str] = set()
    for name, value in tensors.items():
        if name.endswith(DROPPED):
            left_out[DROPPED] += 1
            continue
        own = rename(name, dialect)
        if own in renamed:
            raise ValueError(f"two of its names mean {own[:200]}")
        renamed[own] = value
        if part := PART.fullmatch(own):
            first |= {part[1]: len(first)} if part[2] == FIRST else {}
            with_statistics |= {part[1]} if own.endswith(STATISTICS) else set()
    networks = [prefix for prefix in first if prefix in with_statistics]
    networks.sort(key=lambda prefix: (prefix != "", is_average(prefix), first[prefix]))
    return Networks(renamed, networks[:MAX_NETWORKS], not dialect.is_torch), left_out


def averages(found: Networks) -> list[str]:
    """Prefixes of averages that are not complete networks: without statistics, or of the head alone."""
    prefixes: dict[str, None] = {}
    for name in found.tensors:
        words = name.split(".", 3)
        for count in range(1, len(words) - 1):
            prefix = ".".join(words[:count]) + "."
            if is_average(words[count - 1]) and name.removeprefix(prefix) in found.tensors:
                prefixes[prefix] = None
    return [prefix for prefix in prefixes if prefix not in found.networks]


def at_key(wanted: str, found: Networks, means: list[str]) -> tuple[str, str, str]:
    """(prefix of the network, prefix that its head has at least, prefix of an average to put over it) for a KEY."""
    for prefix in found.networks:
        at = f".{prefix}".find(f".{wanted}.")
        if at >= 0:
            return prefix, prefix[: at + len(wanted) + 1], ""
    for prefix in means:
        if f".{prefix}".endswith(f".{wanted}."):
            return (found.networks or [""])[0], "", prefix
    raise KeyError(wanted)


def key_of(prefix: str) -> str:
    return prefix.removesuffix(".")


def sort_out(found: Networks, prefix: str, least: str, left_out: Counter[str]) -> tuple[dict[str, str], dict[str, str]]:
    """({mslab's name: name} of the network, the same of what nothing explains). Counts the others in `left_out`."""
    parts = {name: name.removeprefix(prefix) for name in found.tensors if is_part(name, prefix)}
    head, outer = find_head(found, prefix, least)
    names = {own: name for name, own in [*parts.items(), *head.items()]}
    weights = {key: found.tensors[name] for own, name in names.items() for key in (own, name, name.replace(".", "_"))}
    groups: dict[str, list[str]] = {}  # names that only a comparison with the weights' explains, by what precedes them
    unknown: set[str] = set()  # beginnings of names that it does not explain
    for name, value in found.tensors.items():
        inner = name.removeprefix(outer)
        word = inner.partition(".")[0]
        if name in parts or name in head:
            continue
        before, same = copy_of(name, value, weights)
        if owner_of(name, found.networks, prefix) != prefix:
            left_out["other weights"] += 1
        elif name.startswith(TRAINING) or is_counter(inner, value, found.numbers):
            left_out[OPTIMIZER] += 1
        elif not name.startswith(outer):
            left_out[OPTIMIZER if same else f"beside {key_of(outer)[:50]}"] += 1
        elif PRETEXT.match(word) or (HEADS.match(word) and not head and not same):
            left_out[f"{word[:50]}, a head that mslab does not build"] += 1
        else:
            groups.setdefault(before, []).append(name)
            unknown |= {before} if LIKE_A_PART.match(word) or not same else set()
    rest: dict[str, str] = {}
    for before, rows in groups.items():
        if before in unknown or f"{before.partition('.')[0]}." in unknown:
            rest |= {name.removeprefix(outer): name for name in rows}
        else:
            left_out[OPTIMIZER] += len(rows)
    return names, rest


def owner_of(name: str, networks: list[str], selected: str) -> str:
    """The longest prefix of a network that the name begins with; the selected one if there is none."""
    return max((prefix for prefix in networks if name.startswith(prefix)), key=len, default=selected)


def is_part(name: str, prefix: str) -> bool:
    part = PART.fullmatch(name)
    return bool(part) and part[1] == prefix  # type: ignore[index]


def is_counter(name: str, value: np.ndarray, numbers: bool) -> bool:
    """Whether a tensor is a count, a rate or a scale of a training: no ResNet has integers, nor single numbers."""
    word, dot, _ = name.partition(".")
    if word.startswith("learning_rate"):  # perhaps one for each step
        return True
    if value.size > 1 or LIKE_A_PART.match(word) or not word.isidentifier():
        return False
    return value.dtype.kind in "iub" or (numbers and not dot)


def copy_of(name: str, value: np.ndarray, weights: Mapping[str, np.ndarray]) -> tuple[str, bool]:
    """(what precedes a weight's name in a name, else its first word; whether it can be an optimizer's for that weight).

    Then it has the weight's shape; Adafactor stores a matrix by its rows and columns. No optimizer has BatchNorm's
    statistics. moments.conv1.weight -> moments., as MindSpore's AdaFactor has exp_avg_sq_conv1.weight -> exp_avg_sq_
    """
    for mark in WORDS.finditer(name if len(name) <= MAX_NAME else ""):
        weight = weights.get(name[mark.end() :])
        if weight is not None:
            shape, before = weight.shape, name[: mark.end()]
            shapes = {shape, shape[:-1], shape[:-2] + shape[-1:], (1,), ()}
            return before, value.shape in shapes and (not name.endswith(STATISTICS) or is_average(before))
    return f"{name.partition('.')[0]}.", False


def find_head(found: Networks, prefix: str, least: str) -> tuple[dict[str, str], str]:
    """({name: mslab's name} of the head, the prefix that it shares with the backbone).

    It is beside the blocks or, as in mmpretrain (backbone., head.fc.), a level above. A head is one linear layer, or
    mslab's two.
    """
    outer = prefix
    for _ in range(MAX_LEVELS):
        layers: dict[str, dict[str, str]] = {}  # linear layers: {name of the layer: {name: weight or bias}}
        for name in found.tensors:
            inner = name.removeprefix(outer)
            word = inner.partition(".")[0]
            if not name.startswith(outer) or (outer != prefix and name.startswith(prefix)):
                continue
            if inner.partition(".")[2] in found.tensors:  # an optimizer's: FTRL has linear.conv1.weight
                continue
            if HEADS.match(word) or word == "hidden":
                layer, _, kind = inner.rpartition(".")
                layers.setdefault(layer, {})[name] = kind
        hidden = layers.pop("hidden", {})
        if len(layers) == 1 and set((rows := next(iter(layers.values()))).values()) <= {"weight", "bias"}:
            head = {name: f"{HEAD}{kind}" for name, kind in rows.items()}
            return head | {name: f"hidden.{kind}" for name, kind in hidden.items()}, outer
        if layers:
            return {}, outer
        if len(outer) <= len(least):
            break
        outer = outer.removesuffix(".").rpartition(".")[0]
        outer = f"{outer}." if outer else ""
        if len(outer) < len(least):
            break
    return head_by_shape(found.tensors, prefix), prefix


def head_by_shape(tensors: Mapping[str, np.ndarray], prefix: str) -> dict[str, str]:
    """{name: mslab's name} of the only linear layer that takes what the backbone gives, under whatever name; or {}."""
    blocks = {name: int(name[len(prefix) + 5 :].partition(".")[0]) for name in tensors if is_block(name, prefix)}
    highest = max(blocks.values(), default=0)
    last = [tensors[name] for name, number in blocks.items() if number == highest]
    channels = max((value.shape[0] for value in last if value.ndim == 4), default=0)
    layers = []
    for name, value in tensors.items():
        word, _, kind = name.removeprefix(prefix).partition(".")
        if kind != "weight" or not name.startswith(prefix) or PRETEXT.match(word) or LIKE_A_PART.match(word):
            continue
        bias = tensors.get(f"{prefix}{word}.bias")
        if value.ndim < 2 or bias is None or bias.shape != value.shape[:1]:
            continue
        if value.shape[1:] == (channels,) != bias.shape:  # an attention's layers are square
            layers.append({name: f"{HEAD}weight", f"{prefix}{word}.bias": f"{HEAD}bias"})
    return layers[0] if len(layers) == 1 else {}


def is_block(name: str, prefix: str) -> bool:
    return is_part(name, prefix) and name.startswith(f"{prefix}layer")
