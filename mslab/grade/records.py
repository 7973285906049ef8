"""Records of grading: the measurement of a submission, the outcome of an item, a graded submission."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A part of a rubric or of an answer: exactly these fields, of these types."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass
class Measurement:
    """The worker's facts about one submission, and the arrays that it returned by network."""

    facts: dict[str, Any]
    logits: dict[str, np.ndarray] = field(default_factory=dict)  # float32 (n, class_num), rows as HiddenImages.labels
    sketches: dict[str, np.ndarray] = field(default_factory=dict)  # float32 (4096,)
    log: str = ""  # the end of the worker's standard error, for the teacher
    died: bool = False  # the worker returned no usable answer
    chance: bool = False  # a student's code returned none: possibly by chance, so it is not cached

    @property
    def problem(self) -> str:
        """Reason why the submission could not be used, or ""."""
        return "; ".join(self.facts.get("problems", []))


@dataclass(frozen=True)
class Outcome:
    """Result of one item. `said` (the finding) and `fix` are for the student, `figures` only for the teacher."""

    points: float
    status: str  # full, part, none, or manual: the teacher fills it in
    said: str
    fix: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class Graded:
    """One graded submission. `flags` are notes for the teacher; they cost no points."""

    id: str
    sha256: str
    outcomes: dict[str, Outcome]  # by the item's id, in the rubric's order
    deductions: list[tuple[str, float]] = field(default_factory=list)  # (reason, points >= 0), such as lateness
    flags: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)  # from the worker; empty if it died
    name: str = ""  # the student's or group's, if a learning platform tells it
    source: str = ""  # what a learning platform called the submission

    @property
    def given_name(self) -> str:
        """What a course system calls the submission."""
        return self.source or self.id

    @property
    def points(self) -> float:
        """Sum of items minus deductions, never below 0; items that the teacher fills in do not count yet."""
        return max(0.0, sum(o.points for o in self.outcomes.values()) - sum(cost for _, cost in self.deductions))
