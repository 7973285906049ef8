"""The worked example of CONTRIBUTING.md's "Adding a task": its code, its changed lines, its command."""

import re
from collections.abc import Iterator

from helpers import PROJECT

SECTION = (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## Adding a task\n")[2]
SECTION = SECTION.partition("\n## ")[0]
(CODE,), (DIFF,) = (re.findall(rf"```{kind}\n(.*?)```", SECTION, re.DOTALL) for kind in ("python", "diff"))
(COMMAND,) = re.findall(r"^    \./run\.sh (.+)$", SECTION, re.MULTILINE)


def edits() -> Iterator[tuple[str, str, str]]:
    """(file, lines that go, lines that come) of each change."""
    for part in DIFF.split("--- ")[1:]:
        file, _, changes = part.partition("\n")
        for old, new in re.findall(r"((?:^-.*\n)+)((?:^\+.*\n)+)", changes, re.MULTILINE):
            yield file, *(re.sub(r"^[-+]", "", text, flags=re.MULTILINE).rstrip("\n") for text in (old, new))
