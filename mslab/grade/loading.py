"""A rubric's file, checked whole before anything is opened: its parts, the hidden images, whether code may run."""

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mslab.check import DatasetReport, check_dataset
from mslab.config import FIELDS
from mslab.errors import ConfigError, MslabError
from mslab.grade import sandbox
from mslab.grade.rubric import GIVEN, KINDS, PredictionsItem, Rubric, ScaledItem, SettingsItem


def load_rubric(path: str | Path) -> Rubric:
    """The rubric, its items validated. Raises ConfigError that lists every mistake at once."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.",
            expected="a rubric, such as configs/rubric.yaml",
            fix="correct the path",
        ) from None
    try:
        content = YAML(typ="safe", pure=True).load(text)
    except YAMLError as error:
        first = str(error).strip().splitlines()
        raise ConfigError(f"{path} is no YAML: {' '.join(first)[:300]}", expected="YAML 1.2", fix="see there") from None
    if not isinstance(content, dict):
        raise mistaken(path, [("rubric", "is no table of title, total, networks and items")])
    problems: list[tuple[str, str]] = []
    rubric = _valid(Rubric, content, "", problems)
    rows = content.get("items")
    items = [_item(row, number, problems) for number, row in enumerate(rows, 1)] if isinstance(rows, list) else []
    if not problems:
        rubric.items = items
        problems += _mistakes(rubric, path)
    if problems:
        raise mistaken(path, problems)
    return rubric


def mistaken(path: str | Path, problems: list[tuple[str, str]]) -> ConfigError:
    count = f"{len(problems)} mistake{'s' * (len(problems) != 1)}"
    return ConfigError(
        f"The rubric {path} has {count}.",
        details=problems,
        expected="a rubric as the project's docs/grading.md describes; nothing was opened or graded",
        fix="mend these lines; mslab grade reads it anew",
    )


def _valid(kind: type[BaseModel], content: Any, where: str, problems: list[tuple[str, str]]) -> Any:
    """This part as a model; None where it is none, with (place, what is wrong) in `problems`."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        for item in error.errors():
            place = ".".join(str(part) for part in item["loc"])
            text = {"missing": "is missing", "extra_forbidden": _near(str(item["loc"][-1]), kind.model_fields)}.get(
                item["type"], f"{item['input']!r:.80}: {item['msg']}"
            )
            problems.append((f"{where}{place}", text))
    return None


def _near(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"is not known{f'; did you mean {close[0]}?' if close else f'; known: {chr(44).join(known)}'}"


def _item(row: Any, number: int, problems: list[tuple[str, str]]) -> Any:
    """The item of a row of the rubric; what is wrong goes to `problems`."""
    name = row.get("id", "") if isinstance(row, dict) else ""
    where = f"items[{number}]{f' {name}' if isinstance(name, str) and name else ''}"
    if not isinstance(row, dict):
        problems.append((where, "is no table of id, kind, points …"))
        return None
    kind = row.get("kind")
    if kind not in KINDS:
        text = "has no kind" if kind is None else f"kind {kind!r:.40} {_near(str(kind), KINDS)}"
        problems.append((where, text))
        return None
    return _valid(KINDS[kind], row, f"{where} ", problems)


def _mistakes(rubric: Rubric, path: Path) -> Iterable[tuple[str, str]]:
    """What is wrong between the parts of a rubric whose parts are right by themselves."""
    total = sum(item.points for item in rubric.items)
    if abs(total - rubric.total) > 1e-9:
        yield "total", f"is {rubric.total:g}, the items' points add up to {total:g}"
    ids = [item.id for item in rubric.items]
    for name in dict.fromkeys(name for name in ids if ids.count(name) > 1):
        yield f"items {name}", f"is there {ids.count(name)} times"
    if GIVEN in rubric.networks:
        yield f"networks {GIVEN}", "is the name of the teacher's own backbone; call the network otherwise"
    if rubric.given and not given_file(rubric, path):
        yield "given", f"there is no file {rubric.given} beside the rubric"
    for item in rubric.items:
        where = f"items {item.id}"
        for key in ("network", "parent"):
            name = getattr(item, key, None)
            known = [*rubric.networks, *([GIVEN] if key == "parent" else [])]
            if name is not None and name not in known:
                yield where, f"{key} {name} {_near(name, known) if known else 'is not known: networks is empty'}"
        if getattr(item, "parent", None) == GIVEN and not rubric.given:
            yield where, "parent is given, and the rubric has no `given: FILE`"
        if isinstance(item, ScaledItem):
            yield from ((where, text) for text in _scale(item))
        if isinstance(item, SettingsItem):
            for key in item.rules:
                if key not in FIELDS:
                    yield where, f"rules {key} {_near(key, FIELDS)}"
                elif not str(item.rules[key]):
                    yield where, f"rules {key} says nothing: equals, at_least, at_most or one_of"


def _scale(item: ScaledItem) -> Iterable[str]:
    if bool(item.bands) == bool(item.linear):
        yield "takes either bands: [[figure, points], …] or linear: {from: …, to: …}"
    elif item.linear and item.linear.low >= item.linear.high:
        yield f"linear: from {item.linear.low:g} is not below to {item.linear.high:g}"
    elif item.bands:
        most = max(points for _, points in item.bands)
        if most != item.points:
            yield f"the highest of its bands gives {most:g} points, the item has {item.points:g}"
        if item.bands != sorted(item.bands) or len({least for least, _ in item.bands}) < len(item.bands):
            yield "bands are not in rising order of figure and points"


def given_file(rubric: Rubric, path: str | Path) -> Path | None:
    """The teacher's own backbone, beside the rubric; None where there is none."""
    file = Path(path).parent / rubric.given if rubric.given else None
    return file if file and file.is_file() else None


def hidden_sets(rubric: Rubric, path: str | Path, data: str | Path) -> dict[str, DatasetReport]:
    """The checked hidden images of each network. Raises ConfigError that lists every mistake at once."""
    found: dict[str, DatasetReport] = {}
    problems: list[tuple[str, str]] = []
    reports: dict[str, DatasetReport] = {}
    for name, network in rubric.networks.items():
        where = f"networks {name}"
        try:
            report = reports[network.data] = reports.get(network.data) or check_dataset(Path(data) / network.data)
            report.raise_errors()
        except MslabError as error:
            problems.append((where, f"{error.what} {error.fix}"))
            continue
        found[name], count = report, len(report.class_names)
        if network.class_num not in (None, count):
            names = ", ".join(report.class_names[:12])
            problems.append((where, f"class_num is {network.class_num}, {report.root} has {count}: {names}"))
        if len(report.splits) > 1:
            problems.append((where, f"{report.root} has {', '.join(report.splits)}: name one of them in `data`"))
    for item in rubric.items:
        if isinstance(item, PredictionsItem) and item.network in found:
            report = found[item.network]
            files = [Path(file).name for split in report.splits for file in report.samples(split)[0]]
            if len(set(files)) < len(files):
                problems.append((f"items {item.id}", f"{report.root} has equal file names in several classes"))
    if problems:
        raise mistaken(path, problems)
    return found


def allow_code(rubric: Rubric, path: str | Path, run_code: bool) -> None:
    """Before anything is opened: ConfigError where code would run unasked, DeviceError without bubblewrap."""
    rows = [(f"networks {name}", f"code: {network.code}") for name, network in rubric.networks.items() if network.code]
    if rows and not run_code:
        raise ConfigError(
            f"The rubric {path} asks for networks that students' code defines, and that code would run here.",
            details=rows,
            expected="--run-code: programs of strangers run on this machine, under your account, held by bubblewrap and"
            " the grader's own guards, and by nothing else; nothing was opened",
            fix="mslab grade … --run-code, best on a machine that holds nothing else; or a rubric without `code`",
        )
    if rows:
        sandbox.bubblewrap()
