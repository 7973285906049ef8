"""What grading hands on: what was measured of a submission, an item's outcome, a submission with all of them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """A part of a rubric or of an answer: of exactly these names and kinds."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass
class Measurement:
    """What came of one submission: the worker's facts, and the arrays that it returned, by network."""

    facts: dict[str, Any]
    logits: dict[str, np.ndarray] = field(default_factory=dict)  # float32 (n, class_num), rows as HiddenImages.labels
    sketches: dict[str, np.ndarray] = field(default_factory=dict)  # float32 (4096,)
    log: str = ""  # the end of what the worker said on standard error, for the teacher
    died: bool = False  # it gave no answer that can be used
    chance: bool = False  # a student's code gave none: it may be chance, and is not kept

    @property
    def problem(self) -> str:
        """Why nothing of the submission could be used, or ""."""
        return "; ".join(self.facts.get("problems", []))


@dataclass(frozen=True)
class Outcome:
    """What came of one item. `said` and `fix` are for the student; `figures` for the teacher alone."""

    points: float
    status: str  # full, part, none, or manual: the teacher's to fill in
    said: str
    fix: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


@dataclass
class Graded:
    """One submission, graded. `flags`: what the teacher should look at; they cost nothing."""

    id: str
    sha256: str
    outcomes: dict[str, Outcome]  # by the item's id, in the rubric's order
    deductions: list[tuple[str, float]] = field(default_factory=list)  # (why, points, 0 or more), such as lateness
    flags: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)  # the worker's; {} where it died

    @property
    def points(self) -> float:
        """All items and deductions, never below 0; items that the teacher fills in count nothing yet."""
        return max(0.0, sum(o.points for o in self.outcomes.values()) - sum(cost for _, cost in self.deductions))
