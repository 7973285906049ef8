"""Where a setting was written, which messages name."""

from typing import NamedTuple

COMMAND_LINE = "the command line"


class SettingOrigin(NamedTuple):
    """Where a setting was written: "the command line", or a file and its line."""

    place: str
    line: int | None = None

    def __str__(self) -> str:
        return f"{self.place}, line {self.line}" if self.line else self.place
