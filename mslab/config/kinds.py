"""The kinds of values that settings have besides numbers, words and yes or no."""

import difflib
import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from mslab.config import networks, tasks
from mslab.stages import EXPECTED, read_table

Mean = Annotated[list[Annotated[float, Field(ge=0, le=1)]], Field(min_length=3, max_length=3)]
Std = Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=3, max_length=3)]
Epoch = Annotated[str, BeforeValidator(lambda n: str(n) if type(n) is int else n), Field(pattern=r"^([2-9]|[1-9]\d+)$")]
Part = Annotated[str, Field(pattern=r"^(backbone|stem|layer[1-9]\d*|neck|head)$")]
Epochs = Annotated[
    str,
    BeforeValidator(lambda e: ",".join(map(str, e)) if isinstance(e, list) else str(e) if type(e) is int else e),
    Field(pattern=r"^\s*[1-9]\d*(\s*,\s*[1-9]\d*)*\s*$"),
]


def _grid(value: Any) -> Any:
    """Tiles across and down, also as Azure's text. Raises ValueError."""
    # _grid("(3, 2)") -> [3, 2]; _grid("3x2") -> [3, 2]
    if isinstance(value, str):
        numbers = re.findall(r"\d+", value)
        value = [int(number) for number in numbers] if re.fullmatch(r"[\s\d,x×()\[\]]*", value) else value
    if isinstance(value, tuple):
        value = list(value)
    if not (isinstance(value, list) and len(value) == 2 and all(type(n) is int and 1 <= n <= 20 for n in value)):
        raise ValueError("must be two whole numbers from 1 to 20, tiles across and down, such as 3,2")
    if value == [1, 1]:
        raise ValueError("1,1 is the whole image, which the network sees anyway; write null")
    return value


Grid = Annotated[list[int], BeforeValidator(_grid)]


def _stages(table: Any) -> list[list[int]] | None:
    """The table of stages. Raises ValueError that names every row that is wrong."""
    rows, problems = ([], []) if table is None else read_table(table)
    if problems:
        raise ValueError("\n".join(f"{row}: {text}" for row, text in problems) + f"\n({EXPECTED})")
    return None if table is None else rows


Stages = Annotated[list[list[int]] | None, BeforeValidator(_stages)]


def _network(value: Any) -> Any:
    """A network of mindcv. Raises ValueError for a name that the installed mindcv does not have."""
    name, known = str(value).removeprefix(networks.MINDCV), networks.registered()
    if value is None or (str(value).startswith(networks.MINDCV) and name in (known or [name])):
        return value
    if networks.is_weights(str(value)):
        raise ValueError(f"{value!r} names published weights, not a network: give them as --backbone to mslab transfer")
    if (task := tasks.meant(name)) in tasks.TASKS:
        raise ValueError(
            f"{value!r} is a network with a head; write task: {task}, which puts a head on model.py's ResNet-50, and "
            "leave network out"
        )
    raise ValueError(
        f"{value!r} is no network; write {networks.MINDCV}NAME with a name of mindcv.list_models(), "
        "such as mindcv:mobilenet_v2_100; null = model.py's"
    )


NetworkName = Annotated[str, BeforeValidator(_network), Field(pattern=r"^mindcv:\w+$", max_length=100)]
MEASURES = ("accuracy", "balanced_accuracy", "macro_f1", "loss")  # of best_by, besides recall:CLASS
SAME = {  # how other projects call them, without val_, eval_ and the like
    "accuracy": "acc top1 top_1 accuracy_top1 accuracy_top_1 error_rate sparse_categorical_accuracy",
    "balanced_accuracy": "bal_acc balanced_acc recall_macro macro_recall norm_macro_recall uar mean_class_accuracy",
    "macro_f1": "f1 f1_macro f1_score f1_score_macro macro_f1_score f_score",
    "loss": "nll log_loss logloss neg_log_loss cross_entropy crossentropy",
}
KNOWN = {other: measure for measure, names in SAME.items() for other in (measure, *names.split())}


def _best_by(value: Any) -> Any:
    """A measure of the validation images. Raises ValueError that says which one is meant."""
    # _best_by("recall:poisonous") -> "recall:poisonous"; _best_by("val_acc") raises: write accuracy
    if value is None or value in MEASURES:
        return value
    if isinstance(value, dict) and len(value) == 1:  # recall: poisonous, with a blank, is a table of its own in YAML
        value = ":".join("CLASS" if part is None else str(part) for part in next(iter(value.items())))
        raise ValueError(f"is a table; write 'best_by: \"{value}\"' in a file, best_by='{value}' on a command line")
    text = str(value)[:200]
    name, colon, class_name = text.partition(":")
    if name == "recall" and class_name.strip():
        return text
    short = re.sub(r"[-\s/]+", "_", re.sub(r"^\s*(val|valid|validation|eval|metrics?)[_/\s]", "", name.lower())).strip(
        "_"
    )
    if short in ("recall", "sensitivity", "tpr"):
        better = f"write recall:{class_name.strip() or 'CLASS'}, with the name of a class"
    elif re.search(r"(^|_)m?ap(?![a-z])|average_precision|iou(?![a-z])|pck|oks|dice", short):
        better = "leave best_by out: of tasks beside classify, their own measure (voc_map, miou, pck, map) chooses"
    elif colon or not (close := difflib.get_close_matches(short, KNOWN, 1, 0.75)):
        better = "it names no measure"
    else:
        better = f"write {KNOWN[close[0]]}"
    raise ValueError(f"{value!r} must be one of {', '.join(MEASURES)}, recall:CLASS; {better}")


BestBy = Annotated[str, BeforeValidator(_best_by)]
Strategy = Annotated[str, BeforeValidator(lambda rate: str(rate) if type(rate) in (int, float) else rate)]
# a folder may be called 1, and YAML reads that as a number; the order of names changes nothing
FOLDER = r"^[^/\x00]*[^/\x00.][^/\x00]*$"  # no path, and neither . nor ..
Name = Annotated[str, BeforeValidator(lambda n: str(n) if type(n) is int else n), Field(pattern=FOLDER)]
Names = Annotated[list[Name], Field(min_length=1), AfterValidator(sorted)]
Groups = Annotated[dict[Name, Names], AfterValidator(lambda groups: dict(sorted(groups.items())))]
Pixels = Annotated[int, Field(ge=16, le=1024)]


class Profile(BaseModel):
    """How a network is built besides its table of stages; files of other projects differ in it."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)
    block: Literal["bottleneck", "basic"] = "bottleneck"
    padding: Literal["symmetric", "same"] = "symmetric"
    pool: Literal["symmetric", "same"] = "symmetric"
    stem: Literal["imagenet", "small"] = "imagenet"
    eps: float = Field(1e-5, gt=0, le=0.1)
    outer_eps: float = Field(1e-5, gt=0, le=0.1)
