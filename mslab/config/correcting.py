"""What to write instead of a value that a setting does not take: of several readings, the one that the schema takes."""

import datetime
import difflib
import functools
import io
import math
import re
import unicodedata
from collections.abc import Iterator
from typing import Annotated, Any, get_args

from pydantic import ConfigDict, TypeAdapter, ValidationError
from ruamel.yaml import YAML

from mslab.config import networks, tasks
from mslab.config.schema import FIELDS

TRUE, FALSE = ("true", "yes", "on", "y", "t", "1", "是", "开"), ("false", "no", "off", "n", "f", "0", "否", "关")
NULL = ("none", "null", "nil", "nan", "n/a", "na", "undefined", "~", "", "无")
HOURS = {"h": 1, "hour": 1, "hours": 1, "m": 60, "min": 60, "mins": 60, "minutes": 60, "s": 3600, "seconds": 3600}
OFF = {word for word in (*FALSE, *NULL) if not word.isdecimal()}
NUMBER = r"[-+]?(?:\d[\d_ ]*\.?\d*|\.\d+)(?:e[-+]?\d+)?"
EXAMPLES = {"class_num": 9, "epochs": 3, "train_data": "FOLDER", "val_data": "FOLDER"}  # of others, the default
EXAMPLES |= {"validation_metric_type": "none"}  # which an empty value means elsewhere


@functools.cache
def adapter(name: str) -> TypeAdapter[Any]:
    """The schema's check of one setting."""
    kind: Any = FIELDS[name].annotation
    for limit in FIELDS[name].metadata:
        kind = Annotated[kind, limit]
    try:
        return TypeAdapter(kind, config=ConfigDict(strict=True, allow_inf_nan=False))
    except Exception:  # a setting that is a table takes no config
        return TypeAdapter(kind)


def takes(name: str, value: Any) -> bool:
    try:
        adapter(name).validate_python(value)
    except ValidationError:
        return False
    return True


def instead(name: str, given: Any) -> str:
    """What to write instead of a value that this setting does not take, as YAML; "" if that is not certain."""
    # instead("epochs", "3 epochs") -> "3"; instead("flip", "Yes") -> "true"; instead("dropout", "50%") -> "0.5"
    for value in readings(name, given):
        if takes(name, value):
            return flow(value)
    return ""


def readings(name: str, given: Any) -> Iterator[Any]:
    """Values that someone may mean who writes `given`, the likely ones first."""
    if name == "stages":
        yield table_in(given)
    if name in ("classes", "merge"):
        yield from names_in(name, given)
    if name == "task":
        yield tasks.meant(str(given))
    if name == "validation_metric_type":
        yield metric_in(str(given).lower())
    if name == "tile_grid_size":
        yield grid_in(str(given).strip(" ()[]").lower())
    if name == "nms_iou_thresh" and (str(given).lower() in OFF or number(given) is not None):
        yield number(given)  # None of a word
    if name == "network" and isinstance(given, str) and tasks.meant(given) not in tasks.TASKS:
        yield None if re.fullmatch(r"resnet[-_ ]?50", given.strip().lower()) else networks.near(given)
    if name == "network" and isinstance(given, dict) and len(given) == 1:  # mindcv: NAME, with a space
        yield from (networks.near(value) for value in given.values() if isinstance(value, str))
    if isinstance(given, str):
        yield from of_text(name, given)
    elif isinstance(given, bool):
        yield from {"all" if given else "none"} & set(choices(name))
    elif isinstance(given, int | float | datetime.date):
        if isinstance(given, float) and math.isfinite(given) and given == int(given):
            yield int(given)
        if given in (0, 1):
            yield bool(given)
        yield f"{given:g}GB" if name == "max_device_memory" and isinstance(given, int | float) else str(given)
        yield [given]
        if name in ("mean", "std"):  # they have a number for each channel
            yield from [[given] * 3, *readings(name, [given, given, given])]
    elif isinstance(given, list) and len(given) in (1, 2) and given[0] == given[-1]:
        yield given[0]
        yield from readings(name, given[0])
    elif isinstance(given, list):
        values = [of for value in given for of in [number(value)] if of is not None]
        yield values
        yield [round(of / 255, 4) for of in values]  # pixels of 0 to 255, on the scale of mean and std


def table_in(given: Any) -> list[list[int]] | str:
    """The table of stages in what is one for Python, or lacks commas; "" if its rows are told apart already."""
    # table_in(["(1", 8, "1)", "(1", 8, "2)"]) == table_in([["1 8 1"], ["1 8 2"]]) == [[1, 8, 1], [1, 8, 2]]
    told = isinstance(given, list) and any(isinstance(row, list) and len(row) == 3 for row in given)
    if told or not re.fullmatch(r"[\d\s()\[\],'\"]+", str(given)):
        return ""
    rows = re.findall(r"[\[(]([^\[\]()]+)[\])]", re.sub("['\"]", "", str(given)))
    if isinstance(given, list) and all(isinstance(row, str) for row in given):
        rows = given
    return [[int(digits) for digits in re.findall(r"\d{1,9}", row)] for row in rows]


def metric_in(text: str) -> str:
    """The average precision that another project's word stands for; "" if it is not certain."""
    # metric_in("mAP@0.5") -> "voc"; metric_in("map50-95") -> "coco"; metric_in("coco+voc") -> "coco_voc"
    coco, voc = "coco" in text or "95" in text, bool(re.search(r"voc|11_?point|integral|map.*50|0?\.5(?!\d)", text))
    if text == "both" or ("coco" in text and "voc" in text):
        return "coco_voc"
    return "coco" if coco else "voc" * voc


def grid_in(text: str) -> list[int] | None:
    """Tiles across and down, from a number for both or from two with other signs between; None for no tiles."""
    # grid_in("3") -> [3, 3]; grid_in("3*2") -> [3, 2]; grid_in("off") -> None
    found = re.fullmatch(r"(\d{1,9})(?:[^\d.-]+(\d{1,9}))?", text)
    if text in OFF or text == "0":
        return None
    return [int(found[1]), int(found[2] or found[1])] if found else []


def names_in(name: str, given: Any) -> Iterator[Any]:
    """Lists of folders' names, or groups of them, that someone may mean who writes another table or list."""
    # names_in("merge", {"Amanita": "bad", "Entoloma": "bad", "Boletus": "good"}) -> {"bad": ["Amanita", …], "good": …}
    if name == "classes" and isinstance(given, dict):
        yield [names(value) for value in (given if all(isinstance(key, str) for key in given) else given.values())]
    if name == "classes" and isinstance(given, list):
        yield [names(value) for value in given]
    if name == "merge" and isinstance(given, list) and all(isinstance(group, dict) for group in given):
        yield from names_in(name, {key: value for group in given for key, value in group.items()})
    if name == "merge" and isinstance(given, dict):
        values = list(given.values())
        if all(isinstance(value, str) for value in values) and len(set(values)) < len(values):
            yield {group: [names(key) for key in given if given[key] == group] for group in values}
        lists = {
            key: re.split(r"\s*[,;]\s*", value) if isinstance(value, str) else value for key, value in given.items()
        }
        yield {
            names(key): list(map(names, own)) if isinstance(own, list) else [names(own)] for key, own in lists.items()
        }


def names(value: Any) -> str:
    """The name of a folder, of what YAML reads as something else, and of its path."""
    # names(True) -> "true"; names(1.5) -> "1.5"; names("train/Amanita/") -> "Amanita"
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    return str(value).rstrip("/").rpartition("/")[2]


def of_text(name: str, given: str) -> Iterator[Any]:
    if len(given) > 200:  # no value, and slow to search
        return
    text = unicodedata.normalize("NFKC", given).strip(" \t\r\n,;=:“”‘’„«»'\"`\u200b\ufeff")
    text = re.sub(r"\s*(#|//|--).*", "", text.replace("\u2212", "-"), flags=re.DOTALL) or text
    word = text.lower()
    same = [choice for choice in choices(name) if choice.lower() == word]  # O2, which is no small letter
    theirs = {"cuda": "gpu", "npu": "ascend"}.get(word.split(":")[0], word)
    same = same or [choice for choice in choices(name) if theirs in choice.split("_")]  # cosine, of warmup_cosine
    near = same or difflib.get_close_matches(word, choices(name), 1, 0.7)
    if word in NULL and not near:
        yield None
        yield False
    if word in TRUE or word in FALSE:
        yield from [word in TRUE, *readings(name, word in TRUE)]
    yield from near
    if (value := number(text)) is not None:
        yield value
        yield float(value)
    if found := re.fullmatch(rf"({NUMBER}) *%", word):
        yield float(found[1]) / 100
    if found := re.fullmatch(rf"({NUMBER})\s*([a-z]+)", word):
        if name == "max_training_time" and found[2] in HOURS:
            yield round(float(found[1]) / HOURS[found[2]], 4)
        if name == "max_device_memory":
            yield f"{found[1].strip()}GB"
        elif found[2] not in ("k", "m", "g"):
            yield number(found[1])
    if found := re.fullmatch(r"(\d+) *[x×*] *\1", word):  # 64x64 pixels
        yield int(found[1])
    listed = re.sub(r"^[\[({]|[\])}]$", "", text).replace("、", ",")
    if len(parts := [part.strip() for part in listed.split(",") if part.strip()]) > 1:
        numbers = [number(part) for part in parts]
        yield parts if None in numbers else numbers
    elif len(numbers := [number(part) for part in listed.split()]) > 1 and None not in numbers:
        yield from [numbers, *readings(name, numbers)]
    yield [text]
    yield text


def number(text: Any) -> int | float | None:
    """The number that a text stands for: 1_000, 0,1 and 1,000, .5, 1e-04, 10^-4, 1/256, 3. and 2e3 too."""
    # number("0,1") -> 0.1; number("1,000") -> 1000; number("10^-4") -> 0.0001; number("1/4") -> 0.25
    word = str(text)[:41].strip().lower()
    if len(word) > 40:
        return None
    if found := re.fullmatch(r"(?:(\d+\.?\d*) *[*x×·] *)?10 *(?:\^|\*\*) *([-+]?\d{1,3})", word):
        return float(f"{found[1] or 1}e{found[2]}")
    if found := re.fullmatch(r"(\d+) */ *([1-9]\d*)", word):
        return int(found[1]) / int(found[2])
    if re.fullmatch(r"[-+]?[1-9]\d{0,2}([, ]\d{3})+", word):
        word = re.sub(r"[, ]", "", word)
    elif re.fullmatch(r"[-+]?\d+,\d+(e[-+]?\d+)?", word):
        word = word.replace(",", ".")
    if not re.fullmatch(NUMBER, word):
        return None
    value = float(word.replace("_", "").replace(" ", ""))
    return int(value) if math.isfinite(value) and value == int(value) else value


def choices(name: str) -> list[str]:
    """The words that a setting takes."""
    kinds = [FIELDS[name].annotation, *get_args(FIELDS[name].annotation)]
    return [word for kind in kinds for word in get_args(kind) if isinstance(word, str)]


def example(name: str) -> str:
    """A value that a setting takes, for a line that shows how to write it."""
    value = EXAMPLES.get(name, FIELDS[name].default)
    return "VALUE" if value is None else flow(value)


def flow(value: Any) -> str:
    """A value as YAML in one line, as the command line takes it, too."""
    # flow("adam") -> "adam"; flow("2024") -> "'2024'"; flow([1, 2]) -> "[1, 2]"; flow(True) -> "true"
    buffer = io.StringIO()
    writer = YAML(typ="safe", pure=True, plug_ins=[])  # otherwise it searches the disk for plug-ins each time
    writer.default_flow_style, writer.width = True, 10_000
    writer.dump(value, buffer)
    return buffer.getvalue().removesuffix("\n...\n").strip()
