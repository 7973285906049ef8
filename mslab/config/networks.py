"""What is known of mindcv's networks without importing it: their names, and the groups of their layers."""

import difflib
import functools
import importlib.util
import re
from pathlib import Path

MINDCV = "mindcv:"
HEAD = ("classifier.weight", "classifier.bias", "hidden.weight", "hidden.bias")  # of mslab's head, whatever the network
BLOCKS = [rf"layer{number}\." for number in range(1, 5)]
# (pattern of networks' names, patterns of tensors' names for each group from the input on: stem, layer1, layer2, ...);
# what none matches belongs to the last group
FAMILIES: list[tuple[str, list[str]]] = [
    (r"(se|sk)?resne(t|xt|st)\d|resnetv2|res2net|senet", [r"conv1\.|bn1\.|layer0\.", *BLOCKS]),
    (r"mobilenet_v2", [r"features\.[01]\.", *(rf"features\.{index}\." for index in range(3, 20)), "."]),
    (r"mobilenet_v3_small", [r"features\.[01]\.", *(rf"features\.{index}\." for index in range(3, 14)), "."]),
    (r"mobilenet_v3_large", [r"features\.[01]\.", *(rf"features\.{index}\." for index in range(3, 18)), "."]),
    (r"efficientnet_b", [r"features\.[01]\.", *(rf"features\.{index}\." for index in range(3, 10)), "."]),
    (
        r"inception_v3",
        [
            r"conv\d",
            *(rf"inception{part}\." for part in ["5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"]),
        ],
    ),
    (r"inception_v4", [rf"features\.{index}\." for index in range(17)]),
    (
        r"googlenet",
        [r"conv\d", *(rf"inception{part}\." for part in ["3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"])],
    ),
    (r"convnext", [r"feature\.0\.", r"feature\.1\.", r"feature\.[23]\.", r"feature\.[45]\.", "."]),
    (r"vit_b", ["cls_token|pos_embed|patch_embed", *(rf"blocks\.{index}\." for index in range(12))]),
    (r"vit_l", ["cls_token|pos_embed|patch_embed", *(rf"blocks\.{index}\." for index in range(24))]),
]


@functools.cache
def registered() -> dict[str, str]:
    """{name: module} of the networks of the installed mindcv, from its source; {} without mindcv."""
    try:
        spec = importlib.util.find_spec("mindcv")
    except (ImportError, ValueError):
        spec = None
    found: dict[str, str] = {}
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).glob("models/*.py")):
            text = file.read_text(encoding="utf-8", errors="replace")
            found |= dict.fromkeys(re.findall(r"(?m)^@register_model\s+def (\w+)", text), file.stem)
    return found


def is_weights(name: str) -> bool:
    """Whether this is a name of published weights that can be no network's: mindcv: begins both."""
    return name.strip().lower().startswith(("torchvision:", "timm:"))


def near(name: str) -> str:
    """The network that a name of another project, or a misspelt one, means: with its prefix; "" if none is near."""
    # near("mobilenetv2") -> "mindcv:mobilenet_v2_100"; near("vitb16r224") -> "mindcv:vit_b_16_224"

    def plain(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower())

    if is_weights(name):
        return ""
    names = {plain(own): own for own in sorted(registered())}
    last = re.sub(r"-[0-9a-f]{8}\.\w+$", "", name.rpartition(":")[2].rpartition("/")[2])  # a file of mindcv's
    own = re.sub(r"(?<=16|32)r(?=\d{3}$)", "", plain(last))
    begin = [key for key in names if key.startswith(own) and len(own) > 3]
    begin.sort(key=lambda key: (not key.endswith("100"), "50" not in key, len(key), key))  # the usual sizes
    close = [own] if own in names else begin
    close = close or difflib.get_close_matches(own, names, 1, 0.7)
    return MINDCV + names[close[0]] if close else ""


def groups(network: str) -> list[str]:
    """The patterns of a network's groups; [] if mslab has no table of them."""
    name = network.removeprefix(MINDCV)
    return next((patterns for family, patterns in FAMILIES if re.match(family, name)), [])


def part_of(name: str, network: str | None = None) -> str:
    """The group of a tensor: stem, layer1, ..., head; "backbone" in a network without a table of groups."""
    # part_of("layer1.0.bn1.gamma") -> "layer1"; part_of("features.3.0.weight", "mindcv:mobilenet_v2_100") -> "layer1"
    if network is None:
        first = name.split(".", 1)[0]
        return {"conv1": "stem", "bn1": "stem", "hidden": "head", "classifier": "head"}.get(first, first)
    if name in HEAD:
        return "head"
    patterns = groups(network)
    number = next((at for at, pattern in enumerate(patterns) if re.match(pattern, name)), len(patterns) - 1)
    return "backbone" if not patterns else f"layer{number}" if number else "stem"
