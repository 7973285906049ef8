"""Steps whose float16 gradients overflowed: counted, said once an epoch, an error only where no scale helps."""

from dataclasses import dataclass

from mslab.runtime.tables import plural

SEVERAL = 3  # in a row at a loss scale of 1: smaller gradients are not the remedy, the network diverges


@dataclass
class Overflows:
    """The overflowed steps so far. Each has left the weights as they were, and halved the loss scale, down to 1."""

    in_a_row: int = 0
    at_one: int = 0  # those of them with a scale of 1
    epoch: int = 0  # in this epoch
    total: int = 0
    scale: float = 0.0  # since the last one

    def finite(self) -> None:
        """Count a step that did not overflow."""
        self.in_a_row = self.at_one = 0

    def add(self, scale: float) -> None:
        """Count an overflowed step; `scale`: the loss scale after it."""
        self.at_one += self.scale == 1 == scale  # it was 1 already
        self.in_a_row, self.epoch, self.total, self.scale = self.in_a_row + 1, self.epoch + 1, self.total + 1, scale

    def problem(self) -> str:
        """What has happened if there is no use in going on, or ""."""
        if self.at_one < SEVERAL:
            return ""
        return (
            f"Float16 overflowed {self.in_a_row} times in a row, the last {self.at_one} times with a loss scale of 1,"
        )

    def of_epoch(self, steps: int) -> str:
        """The overflows of an epoch that ends, in words, or ""."""
        count, self.epoch = self.epoch, 0
        if not count:
            return ""
        return (
            f"float16 overflowed in {count} of {plural(steps, 'step')}, which left the weights as they were; "
            f"the last of them lowered the loss scale to {self.scale:g}"
        )
