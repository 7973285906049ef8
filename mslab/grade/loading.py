"""Check a rubric file, its hidden images and whether code may run, before any submission is opened."""

import difflib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from mslab import weights
from mslab.check import DatasetReport, check_dataset
from mslab.check.label_check import check_labels
from mslab.checkpoint import dialects
from mslab.config import FIELDS, paths
from mslab.errors import CheckpointError, ConfigError, MslabError
from mslab.escaping import quoted
from mslab.files import FormatError, kind_of, read_text
from mslab.grade import sandbox
from mslab.grade.rubric import GIVEN, KINDS, PredictionsItem, Rubric, ScaledItem, SettingsItem
from mslab.safe_yaml import MAX_YAML, parse_yaml


def load_rubric(path: str | Path) -> Rubric:
    """Load a rubric and validate its items. Raises ConfigError that lists every mistake."""
    path = paths.path_of(path, ConfigError, "a rubric", lambda: "a rubric's path, such as configs/rubric.yaml")
    paths.refuse_other(path, "rubric")
    try:
        content = parse_yaml(read_text(path, MAX_YAML))
    except FormatError as error:
        line = f", line {error.line}:" if error.line else ""
        raise ConfigError(f"The rubric {path}{line} {error}.", expected="YAML 1.2", fix="correct that line") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.",
            expected="a rubric, such as configs/rubric.yaml",
            fix="correct the path",
        ) from None
    if not isinstance(content, dict):
        raise rubric_error(path, [("rubric", "is not a table of title, total, networks and items")])
    problems: list[tuple[str, str]] = []
    rubric = _validate(Rubric, content, "", problems)
    rows = content.get("items")
    items = [_item(row, number, problems) for number, row in enumerate(rows, 1)] if isinstance(rows, list) else []
    if not problems:
        rubric.items = items
        problems += _contradictions(rubric, path)
    if problems:
        raise rubric_error(path, problems)
    return rubric


def rubric_error(path: str | Path, problems: list[tuple[str, str]]) -> ConfigError:
    count = f"{len(problems)} problem{'s' * (len(problems) != 1)}"
    return ConfigError(
        f"The rubric {path} has {count}.",
        details=problems,
        expected="a rubric as the project's docs/grading.md describes; nothing was opened or graded",
        fix="correct these lines and run mslab grade again",
    )


def _validate(kind: type[BaseModel], content: Any, prefix: str, problems: list[tuple[str, str]]) -> Any:
    """Validate one part of the rubric. On errors append (location, problem) to `problems` and return None."""
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        for item in error.errors():
            location = ".".join(str(part) for part in item["loc"])
            text = {"missing": "is missing", "extra_forbidden": _suggest(str(item["loc"][-1]), kind.model_fields)}.get(
                item["type"], f"{item['input']!r:.80}: {item['msg']}"
            )
            problems.append((f"{prefix}{location}", text))
    return None


def _suggest(name: str, valid_names: Iterable[str]) -> str:
    matches = difflib.get_close_matches(name, list(valid_names), n=1, cutoff=0.6)
    return f"is unknown{f'; did you mean {matches[0]}?' if matches else f'; choose one of {chr(44).join(valid_names)}'}"


def _item(row: Any, number: int, problems: list[tuple[str, str]]) -> Any:
    """Validate one row of `items`; errors are appended to `problems`."""
    name = row.get("id", "") if isinstance(row, dict) else ""
    location = f"items[{number}]{f' {name}' if isinstance(name, str) and name else ''}"
    if not isinstance(row, dict):
        problems.append((location, "is not a table of id, kind, points …"))
        return None
    kind = row.get("kind")
    if kind not in KINDS:
        text = "has no kind" if kind is None else f"kind {kind!r:.40} {_suggest(str(kind), KINDS)}"
        problems.append((location, text))
        return None
    return _validate(KINDS[kind], row, f"{location} ", problems)


def _contradictions(rubric: Rubric, path: Path) -> Iterable[tuple[str, str]]:
    """Yield contradictions between parts of a rubric that are each valid."""
    total = sum(item.points for item in rubric.items)
    if abs(total - rubric.total) > 1e-9:
        yield "total", f"is {rubric.total:g}, but the items' points add up to {total:g}"
    ids = [item.id for item in rubric.items]
    for name in dict.fromkeys(name for name in ids if ids.count(name) > 1):
        yield f"items {name}", f"is used {ids.count(name)} times"
    if GIVEN in rubric.networks:
        yield f"networks {GIVEN}", "is the name of the teacher's own backbone; rename the network"
    try:
        if rubric.given and not given_file(rubric, path):
            yield "given", f"there is no file {rubric.given} beside the rubric"
    except CheckpointError as error:  # published weights
        yield "given", "\n".join([error.what, *(f"{label} {text}" for label, text in error.details), error.fix])
    for name, network in rubric.networks.items():
        for key in ("classes", "merge", "code") if network.task else ():
            if getattr(network, key):
                yield f"networks {name}", f"{key} belongs to networks that classify; leave it out beside task"
    of_task = [name for name, network in rubric.networks.items() if network.task]
    for item in rubric.items:
        location = f"items {item.id}"
        if isinstance(item, PredictionsItem) and item.network in of_task:
            yield location, f"predictions are of classes, and network {item.network} is of a task; use kind: accuracy"
        for key in ("network", "parent"):
            name = getattr(item, key, None)
            valid_names = [*rubric.networks, *([GIVEN] if key == "parent" else [])]
            if name is not None and name not in valid_names:
                yield (
                    location,
                    f"{key} {name} {_suggest(name, valid_names) if valid_names else 'is unknown: networks is empty'}",
                )
        if getattr(item, "parent", None) == GIVEN and not rubric.given:
            yield location, "parent is given, but the rubric has no `given: FILE`"
        if isinstance(item, ScaledItem):
            yield from ((location, text) for text in _scale(item))
        if isinstance(item, SettingsItem):
            for key in item.rules:
                if key not in FIELDS:
                    yield location, f"rules {key} {_suggest(key, FIELDS)}"
                elif not str(item.rules[key]):
                    yield location, f"rules {key} is empty: set equals, at_least, at_most or one_of"


def _scale(item: ScaledItem) -> Iterable[str]:
    if bool(item.bands) == bool(item.linear):
        yield "needs either bands: [[figure, points], …] or linear: {from: …, to: …}"
    elif item.linear and item.linear.low >= item.linear.high:
        yield f"linear: from {item.linear.low:g} is not less than to {item.linear.high:g}"
    elif item.bands:
        most = max(points for _, points in item.bands)
        if most != item.points:
            yield f"the highest band gives {most:g} points; the item has {item.points:g}"
        if item.bands != sorted(item.bands) or len({least for least, _ in item.bands}) < len(item.bands):
            yield "bands must rise in both figure and points"


def given_file(rubric: Rubric, path: str | Path) -> Path | None:
    """The teacher's backbone: a file in the rubric's folder, or published weights. None if there is none.

    Raises CheckpointError if published weights are not here and cannot be fetched.
    """
    file = Path(path).parent / rubric.given if rubric.given else None
    if file and weights.is_named(rubric.given) and not kind_of(file, links=True):
        return weights.obtain(str(rubric.given))
    return file if file and kind_of(file, links=True) == "a file" else None


def hidden_sets(rubric: Rubric, path: str | Path, data: str | Path) -> dict[str, DatasetReport]:
    """Check the hidden images of each network. Raises ConfigError that lists every mistake."""
    checked_sets: dict[str, DatasetReport] = {}
    problems: list[tuple[str, str]] = []
    reports: dict[str, DatasetReport] = {}  # equal images are read once
    for name, network in rubric.networks.items():
        location, folder = f"networks {name}", Path(data) / network.data
        if kind_of(folder, links=True) != "a folder":
            layout = "it must contain a folder of images per class, like datasets/mushrooms2/test"
            if network.task:
                layout = "it must contain images with labels, like datasets/scenes/test"
            problems.append((location, f"There is no folder {folder} of hidden images; {layout}"))
            continue
        try:
            read = json.dumps([network.data, network.classes, network.merge, network.task])
            report = reports.get(read)
            if report is None and network.task:
                report = check_labels(folder, network.task)
            report = report or check_dataset(folder, classes=network.classes, merge=network.merge)
            reports[read] = report
            report.raise_errors()
        except MslabError as error:
            problems.append((location, f"{error.what} {error.fix}"))
            continue
        checked_sets[name], count = report, len(report.class_names)
        if network.class_num not in (None, count):
            names = ", ".join(report.class_names[:12])
            problems.append((location, f"class_num is {network.class_num}, but {report.root} has {count}: {names}"))
        if len(report.splits) > 1:
            problems.append((location, f"{report.root} has {', '.join(report.splits)}: choose one of them in `data`"))
    for item in rubric.items:
        if isinstance(item, PredictionsItem) and item.network in checked_sets:
            report = checked_sets[item.network]
            files = [Path(file).name for split in report.splits for file in report.samples(split)[0]]
            if len(set(files)) < len(files):
                problems.append((f"items {item.id}", f"{report.root} has the same file name in several classes"))
    if problems:
        raise rubric_error(path, problems)
    return checked_sets


def check_dialect(name: str) -> None:
    """Raise ConfigError unless a dialect is given that a file's names can leave open, or none."""
    possible = [dialect.name for dialect in dialects.DIALECTS if not dialect.mark]
    if name and name not in possible:
        raise ConfigError(
            f"--dialect {quoted(name)} decides nothing: the names in a file show it, or it is not a known project.",
            expected=f"one of {', '.join(possible)}, whose names are the same",
            fix="leave --dialect out",
        )


def allow_code(rubric: Rubric, path: str | Path, run_code: bool) -> None:
    """Raise ConfigError if code would run without --run-code, DeviceError if bubblewrap does not work."""
    rows = [(f"networks {name}", f"code: {network.code}") for name, network in rubric.networks.items() if network.code]
    if rows and not run_code:
        raise ConfigError(
            f"The rubric {path} has networks that are defined by students' code, which would run here.",
            details=rows,
            expected="--run-code: strangers' programs then run on this machine, under your account, confined only by"
            " bubblewrap and the grader's own guards; nothing was opened",
            fix="mslab grade … --run-code, preferably on a machine without other data; or a rubric without `code`",
        )
    if rows:
        sandbox.require_bubblewrap()
