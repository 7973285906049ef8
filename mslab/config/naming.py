"""Names of settings as users type them: which one a misspelt or foreign name means. Nothing is translated."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from mslab.config import networks, tasks
from mslab.config.aliases import FOREIGN_NAMES
from mslab.config.schema import FIELDS, Profile

SHORT = 5  # letters: names of other projects that are shorter are like too many words
OPTIONS = {  # what is said after a command, and never in a config
    "backbone": "mslab transfer CONFIG --backbone FILE",
    "name": "mslab train CONFIG --name NAME",
    "resume": "mslab train --resume RUN",
}
BACKBONES = r"(?i)(resnet|vgg|mobilenet|darknet|efficientnet|seresnext|inception|hrnet|xception|swin|vit)[\w.-]*"
FILLERS = {"n", "nb", "no", "num", "number", "of", "the"}


def plain(name: str) -> str:
    """A name in the spelling of settings: small letters, words joined by _."""
    # plain("--batchSize") -> "batch_size"; plain("Ｅpochs ") -> "epochs"
    name = unicodedata.normalize("NFKC", name[:100]).strip().strip("-+•*'\"")
    return re.sub(r"[-\s.]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).strip()).lower()


def words_of(name: str) -> list[str]:
    """What a name is about, whatever the order: number_of_classes, n_class and class_num are about one thing."""
    words = (word for word in plain(name).split("_") if word not in FILLERS)
    return sorted(re.sub(r"(?<=s)es$|(?<=[^s])s$", "", word) for word in words)


def meant(name: str) -> str:
    """The setting that a name means, "" if it is not certain that it means one."""
    # meant("Epochs") == meant("num-epochs") == meant("epoch") == "epochs"; meant("lr") == "lr_max"
    if (own := plain(name)) in FIELDS:
        return own
    if (theirs := FOREIGN_NAMES.get(own, ("", ""))[1]) in FIELDS:
        return theirs
    squeezed, same = own.replace("_", ""), words_of(name)
    alike = (field for field in FIELDS if field.replace("_", "") == squeezed or (same and words_of(field) == same))
    return next(alike, "")


def similar(name: str, cutoff: float = 0.6) -> str:
    """The setting that a name means, or else the one that is spelt most like it; "" if none is."""
    own = plain(name)
    with_counterpart = [other for other, (_, ours) in FOREIGN_NAMES.items() if not ours.startswith("no setting")]
    names = [*FIELDS, *(other for other in with_counterpart if min(len(own), len(other)) > SHORT)]
    close = difflib.get_close_matches(own, names, n=1, cutoff=cutoff)
    return meant(name) or (FOREIGN_NAMES[close[0]][1] if close and close[0] in FOREIGN_NAMES else "".join(close))


def unknown_setting(name: str, value: Any = None) -> str:
    """Return the message about a name that is not a setting, with the likely name here."""
    inner = [meant(str(key)) for key in value] if isinstance(value, Mapping) else []
    if any(inner):
        names = ", ".join(filter(None, inner))
        return f"'{name}' is not a setting; leave this line out, and begin {names} at the start of their lines"
    own = plain(name)
    if own in OPTIONS:
        named = own == "backbone" and re.fullmatch(BACKBONES, str(value))
        text = f"'{name}' is an option of a command, not a setting: {OPTIONS[own]}"
        return text + "; the name of a network belongs to network, where null is ResNet-50" * bool(named)
    if own in FOREIGN_NAMES:
        project, ours = FOREIGN_NAMES[own]
        text = f"'{name}' is {project}'s name; here it is {ours if ' ' in ours else repr(ours)}"
        network = networks.near(str(value)[:100]) if ours == "network" and isinstance(value, str) else ""
        task = tasks.meant(str(value)) if ours == "task" else ""
        task = f"; write task: {task}" if task in (tasks.CLASSIFY, *tasks.TASKS) else task and f"; {task}"
        return text + (f": network: {network}" if network else "") + task
    ours = similar(name)
    return f"'{name}' is not a setting; did you mean '{ours}'?" if ours else f"'{name}' is not a setting"


def unknown_key(key: str, keys: Iterable[str]) -> str:
    """The message about a key that a small table of settings, such as `profile`, does not have."""
    close = difflib.get_close_matches(plain(key), keys, n=1)
    return f"'{key}' is not one of {', '.join(keys)}" + (f"; did you mean '{close[0]}'?" if close else "")


PARTS = ("backbone", "stem", "layer1", "layer2", "layer3", "layer4", "head")
KEYS = {"profile": tuple(Profile.model_fields), "lr_scale": PARTS}
