"""What grading hands on: an item's outcome, and a submission with all of them."""

from dataclasses import dataclass, field
from typing import Any


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
