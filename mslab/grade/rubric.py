"""A rubric: what is looked at in each submission, and what it is worth. YAML, checked whole before anything is opened.

configs/rubric.yaml is a worked example, docs/grading.md has every kind of item.
"""

import difflib
from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mslab.check import DatasetReport, check_dataset
from mslab.config import FIELDS
from mslab.errors import ConfigError, MslabError
from mslab.grade import sandbox

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
File = Annotated[str, AfterValidator(lambda name: _inside(name))]  # in a submission, with "/"
Points = Annotated[float, Field(ge=0, le=10_000)]
GIVEN = "given"  # the name of the teacher's own backbone among networks


def _inside(name: str) -> str:
    if not 0 < len(name) <= 200 or name.startswith("/") or ".." in name.split("/") or "\\" in name:
        raise ValueError("is no path inside of a submission, such as nine/best.ckpt")
    return name


def _moment(due: Any) -> Any:
    """ISO 8601 with its zone, as text or as YAML reads it."""
    moment = datetime.fromisoformat(due.replace("Z", "+00:00")) if isinstance(due, str) else due
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ValueError("is no moment with a zone, such as 2026-12-01T23:59:00+08:00")
    return moment


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class Linear(Strict):
    low: float = Field(alias="from")
    high: float = Field(alias="to")


class Network(Strict):
    """A network of a submission: where its file is, and the hidden images that it is asked about."""

    file: File | list[File]  # the first that is there counts
    data: str = "."  # folder below --data
    class_num: Annotated[int, Field(ge=2)] | None = None  # of the hidden set; said here, it is compared
    code: File | None = None  # defines network(class_num): a student's code, which runs with --run-code alone

    @property
    def files(self) -> list[str]:
        return [self.file] if isinstance(self.file, str) else self.file


class Rule(Strict):
    """What a setting has to be."""

    equals: Any = None
    at_least: float | None = None
    at_most: float | None = None
    one_of: list[Any] | None = None

    def __str__(self) -> str:
        return ", ".join(
            f"{key.replace('_', ' ')} {f'{value:g}' if isinstance(value, float) else value}"
            for key, value in self.model_dump(exclude_none=True).items()
        )

    def holds(self, value: Any) -> bool:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return all(
            (
                self.equals is None or value == self.equals,
                self.one_of is None or value in self.one_of,
                self.at_least is None or (number and value >= self.at_least),
                self.at_most is None or (number and value <= self.at_most),
            )
        )


class Item(Strict):
    """What all items have. `public`: the student sees the figure, and `mslab pack --public` runs it."""

    id: Name
    points: Points
    title: str = ""
    public: bool = False


class Files(Item):
    kind: Literal["files"]
    files: Annotated[list[File], Field(min_length=1)]  # each is worth the same


class Settings(Item):
    kind: Literal["config"]
    file: File = "config.yaml"
    rules: Annotated[dict[str, Rule], Field(min_length=1)]  # by setting; each is worth the same


class Scaled(Item):
    """A figure that becomes points: in bands of (figure, points), or in a line between two figures."""

    bands: Annotated[list[Annotated[list[float], Field(min_length=2, max_length=2)]], Field(min_length=1)] | None = None
    linear: Linear | None = None

    def worth(self, figure: float) -> float:
        # bands [[0.6, 5], [0.8, 10]]: 0.7 -> 5; linear {from: 0.5, to: 0.9} of 10 points: 0.7 -> 5
        if self.bands:
            return max([points for least, points in self.bands if figure >= least], default=0.0)
        assert self.linear
        share = (figure - self.linear.low) / (self.linear.high - self.linear.low)
        return self.points * min(1.0, max(0.0, share))


class Accuracy(Scaled):
    kind: Literal["accuracy"]
    network: Name


class Gain(Scaled):
    kind: Literal["gain"]
    network: Name
    baseline: Annotated[float, Field(ge=0, le=1)]  # accuracy from scratch, as the teacher measured it


class Provenance(Item):
    kind: Literal["provenance"]
    network: Name
    parent: Name  # another network of the rubric, or "given"
    how: Literal["frozen", "finetuned", "either"] = "either"
    nearness: Annotated[float, Field(gt=0, lt=1)] = 0.5  # least cosine of what training made of gamma and beta


class Reproduced(Item):
    kind: Literal["reproduced"]
    network: Name  # is measured on its own `data`
    file: File = "manifest.json"
    key: str = "metrics.val_acc"
    tolerance: Annotated[float, Field(ge=0, le=1)] = 0.02


class Predictions(Scaled):
    kind: Literal["predictions"]
    file: File = "predictions.csv"
    network: Name  # whose hidden images it is about; told by file name
    agreement: Annotated[float, Field(ge=0, le=1)] = 0.0  # least share that equals what that network really answers


class Size(Item):
    kind: Literal["size"]
    network: Name
    at_most: Annotated[int, Field(ge=1)]  # trainable weights


class Manual(Item):
    kind: Literal["manual"]


KINDS: dict[str, type[Item]] = {
    "files": Files,
    "config": Settings,
    "accuracy": Accuracy,
    "gain": Gain,
    "provenance": Provenance,
    "reproduced": Reproduced,
    "predictions": Predictions,
    "size": Size,
    "manual": Manual,
}


class Late(Strict):
    due: Annotated[datetime, BeforeValidator(lambda due: _moment(due))]  # with its zone
    per_day: Points  # points off for each day begun
    at_most: Points | None = None


class Attempts(Strict):
    at_most: Annotated[int, Field(ge=1)]
    cost: Points  # points off for each further one


class Rubric(Strict):
    title: str
    total: Points
    networks: dict[Name, Network] = {}
    given: str | None = None  # file of the backbone that everybody was given, beside the rubric
    items: list[Any]
    late: Late | None = None
    attempts: Attempts | None = None


AnyItem = Files | Settings | Accuracy | Gain | Provenance | Reproduced | Predictions | Size | Manual


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
    problems: list[tuple[str, str]] = []
    rubric = None
    if not isinstance(content, dict):
        problems.append(("rubric", "is no table of title, total, networks and items"))
    else:
        problems += _wrong(Rubric, content, "")
        rows = content.get("items")
        items = [_item(row, number, problems) for number, row in enumerate(rows, 1)] if isinstance(rows, list) else []
        if not problems:
            rubric = Rubric.model_validate(content)
            rubric.items = items
            problems += list(_mistakes(rubric, path))
    if problems:
        raise mistaken(path, problems)
    assert rubric
    return rubric


def mistaken(path: str | Path, problems: list[tuple[str, str]]) -> ConfigError:
    count = f"{len(problems)} mistake{'s' * (len(problems) != 1)}"
    return ConfigError(
        f"The rubric {path} has {count}.",
        details=problems,
        expected="a rubric as docs/grading.md describes; nothing was opened or graded",
        fix="mend these lines; mslab grade reads it anew",
    )


def _wrong(kind: type[BaseModel], content: Any, where: str) -> list[tuple[str, str]]:
    """(place, what is wrong) rows of this part."""
    try:
        kind.model_validate(content)
    except ValidationError as error:
        rows = []
        for item in error.errors():
            place = ".".join(str(part) for part in item["loc"])
            text = {"missing": "is missing", "extra_forbidden": _near(str(item["loc"][-1]), kind.model_fields)}.get(
                item["type"], f"{item['input']!r:.80}: {item['msg']}"
            )
            rows.append((f"{where}{place}", text))
        return rows
    return []


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
    found = _wrong(KINDS[kind], row, f"{where} ")
    problems += found
    return None if found else TypeAdapter(KINDS[kind]).validate_python(row)


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
        if isinstance(item, Scaled):
            yield from ((where, text) for text in _scale(item))
        if isinstance(item, Settings):
            for key in item.rules:
                if key not in FIELDS:
                    yield where, f"rules {key} {_near(key, FIELDS)}"
                elif not str(item.rules[key]):
                    yield where, f"rules {key} says nothing: equals, at_least, at_most or one_of"


def _scale(item: Scaled) -> Iterable[str]:
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
    reports: dict[str, DatasetReport | MslabError] = {}
    for name, network in rubric.networks.items():
        if network.data not in reports:
            try:
                report = check_dataset(Path(data) / network.data)
                report.raise_errors()
                reports[network.data] = report
            except MslabError as error:
                reports[network.data] = error
        report_or_error = reports[network.data]
        if isinstance(report_or_error, MslabError):
            problems.append((f"networks {name}", f"{report_or_error.what} {report_or_error.fix}"))
            continue
        found[name] = report_or_error
        count = len(report_or_error.class_names)
        if network.class_num not in (None, count):
            names = ", ".join(report_or_error.class_names[:12])
            problems.append(
                (f"networks {name}", f"class_num is {network.class_num}, {report_or_error.root} has {count}: {names}")
            )
        if len(report_or_error.splits) > 1:
            where = f"{report_or_error.root} has {', '.join(report_or_error.splits)}: name one of them in `data`"
            problems.append((f"networks {name}", where))
    for item in rubric.items:
        if isinstance(item, Predictions) and item.network in found:
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


def described(item: Any) -> str:
    """What the item asks for, in a line for people."""
    texts: Mapping[str, Any] = {
        "files": lambda: f"there: {', '.join(item.files)}",
        "config": lambda: f"{item.file}: {'; '.join(f'{key} {rule}' for key, rule in item.rules.items())}",
        "accuracy": lambda: f"accuracy of {item.network} on the hidden images, {_worth(item)}",
        "gain": lambda: f"accuracy of {item.network} above {item.baseline:g}, {_worth(item)}",
        "provenance": lambda: f"backbone of {item.network} from {item.parent}, {item.how}",
        "reproduced": lambda: f"{item.key} of {item.file} within {item.tolerance:g} of what is measured",
        "predictions": lambda: f"{item.file}: right answers, {_worth(item)}",
        "size": lambda: f"{item.network} has at most {item.at_most:,} weights",
        "manual": lambda: "by hand",
    }
    return str(texts[item.kind]())


def _worth(item: Scaled) -> str:
    if item.bands:
        return ", ".join(f"{points:g} points from {least:g}" for least, points in item.bands)
    assert item.linear
    return f"in a line from 0 points at {item.linear.low:g} to {item.points:g} at {item.linear.high:g}"
