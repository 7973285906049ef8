"""A worker's answer, facts.json and arrays: validated before the grader uses any of it."""

import io
import json
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field, ValidationError, model_validator

from mslab.grade.looking import FACTS_BYTES
from mslab.grade.records import Strict

Text = Annotated[str, Field(max_length=2000)]
Count = Annotated[int, Field(ge=0, le=2**62)]
Correlation = Annotated[float, Field(ge=-1, le=1)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Entry(Strict):
    """Facts about one file or network: all fields in `NEEDS`, or an error."""

    NEEDS: ClassVar[tuple[str, ...]] = ()
    error: Text | None = None

    @model_validator(mode="after")
    def check_complete(self) -> "Entry":
        if "error" in self.model_fields_set and self.error is None:
            raise ValueError("an error without a text")
        if self.error is None and any(getattr(self, name) is None for name in self.NEEDS):
            raise ValueError("neither complete nor an error")
        return self


class JsonAnswer(Entry):
    """A JSON file."""

    values: Any = None

    @model_validator(mode="after")
    def check_values(self) -> "JsonAnswer":
        if self.error is None and "values" not in self.model_fields_set:
            raise ValueError("no values")
        return self


class SettingsAnswer(Entry):
    NEEDS = ("values",)
    values: dict[str, Any] | None = None


class HistoryAnswer(Entry):
    NEEDS = ("rows", "digest")
    rows: Count | None = None
    digest: Digest | None = None
    last: dict[str, float | None] | None = None


class PredictionsAnswer(Entry):
    NEEDS = ("rows",)
    rows: dict[Text, Text] | None = None


class NetworkAnswer(Entry):
    NEEDS = ("class_names", "weights", "tensors", "sketch")
    file: Text
    class_names: Annotated[list[Text], Field(max_length=100_000)] | None = None
    image_size: Count | None = None
    weights: Count | None = None
    stages: list[list[Count]] | None = None
    network: Text | None = None  # of mindcv
    tensors: dict[Text, Digest] | None = None
    logits: Text | None = None
    sketch: Text | None = None
    stride: Annotated[int, Field(ge=1, le=1024)] | None = None  # pixels per cell of a task's maps
    engine: Text | None = None  # what computed the logits
    notes: Annotated[list[Text], Field(max_length=20)] | None = None  # what was taken where the file leaves a choice

    @model_validator(mode="after")
    def check_compared(self) -> "NetworkAnswer":
        if self.sketch is not None and self.tensors is None:  # both are compared with other submissions'
            raise ValueError("a sketch without its tensors")
        return self


class RelationAnswer(Entry):
    NEEDS = ("tensors", "equal", "batchnorm", "expected", "convolutions")
    tensors: Count | None = None
    equal: Count | None = None
    batchnorm: Correlation | None = None
    expected: Correlation | None = None
    convolutions: Correlation | None = None


class Answer(Strict):
    """Schema of facts.json; validation rejects everything else."""

    schema_: Annotated[int, Field(alias="schema", ge=1, le=1)]
    top: Text = ""
    files: dict[Text, Count]
    problems: Annotated[list[Text], Field(max_length=100)]
    notes: Annotated[list[Text], Field(max_length=100, default_factory=list)]  # for the teacher
    unused: Annotated[list[Text], Field(max_length=100, default_factory=list)]  # packs in it that are not graded
    configs: dict[Text, SettingsAnswer]
    json_: Annotated[dict[Text, JsonAnswer], Field(alias="json")]
    histories: dict[Text, HistoryAnswer]
    predictions: dict[Text, PredictionsAnswer]
    networks: dict[Text, NetworkAnswer]
    relations: dict[Text, RelationAnswer]
    sandbox: Annotated[list[Text], Field(max_length=20)]


class Unusable(Exception):
    """The worker's answer cannot be used; the message is the reason."""


def read_facts(path: Path) -> dict[str, Any]:
    """Read facts.json; its size and types are checked. Raises Unusable."""
    return checked_facts(read_bounded(path, FACTS_BYTES))


def checked_facts(content: bytes) -> dict[str, Any]:
    """Facts from JSON; their types are checked. Raises Unusable."""
    try:
        facts = json.loads(content)
        # no NaN and no lone surrogate: either would make writing the grades fail later
        json.dumps(facts, allow_nan=False, ensure_ascii=False).encode()
        Answer.model_validate(facts)
    except ValidationError as error:
        location = ".".join(str(part)[:40] for part in error.errors(include_input=False)[0]["loc"])
        raise Unusable(f"facts.json has an unexpected value at {location[:200]}") from None
    except (ValueError, RecursionError):
        raise Unusable("facts.json is not valid JSON") from None
    return facts  # type: ignore[no-any-return]


def read_bounded(path: Path, max_bytes: int) -> bytes:
    """Read a regular file of at most `max_bytes`. Raises Unusable."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        with os.fdopen(handle, "rb") as file:
            content = file.read(max_bytes + 1)
    except OSError as error:
        raise Unusable(f"{path.name}: {error.strerror}") from None
    if len(content) > max_bytes:
        raise Unusable(f"{path.name} has more than {max_bytes:,} bytes")
    return content


def read_array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read a finite float32 array of this shape from a .npy that the worker wrote. Raises Unusable."""
    content = read_bounded(path, 4 * int(np.prod(shape)) + 4096)
    try:
        values = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError, SyntaxError, MemoryError, OverflowError):
        raise Unusable(f"{path.name} is not an array") from None
    return check_array(values, shape, path.name)


def check_array(values: Any, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Return a finite float32 array of this shape. Raises Unusable for anything else."""
    if not isinstance(values, np.ndarray) or values.shape != shape or values.dtype != np.float32:
        raise Unusable(f"{name} is not a float32 array of shape {shape}")
    if not np.isfinite(values).all():
        raise Unusable(f"{name} has values that are not finite")
    return values
