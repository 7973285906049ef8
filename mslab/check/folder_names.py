"""Labels of a table -> names of class folders that every system can have."""

import re
import unicodedata
from collections.abc import Iterable

from mslab.check.scan import is_hidden, is_junk

LONGEST = 100  # bytes; a disk allows 255, and copies add to a name
FORBIDDEN = re.compile(r'[\x00-\x1f\x7f/\\:*?"<>|]+')  # on Linux, macOS or Windows
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # Windows' devices


def folder_name(label: str) -> str:
    """The name of a label's class folder: the label itself, if a folder can have it."""
    # folder_name("cats/dogs ") -> "cats_dogs"; folder_name("CON") -> "CON_"
    name = FORBIDDEN.sub("_", unicodedata.normalize("NFC", label)).strip().rstrip(".")
    name = name.encode("utf-8", "replace")[:LONGEST].decode("utf-8", "ignore").strip()
    if not name or RESERVED.fullmatch(name) or (is_junk(name) and not is_hidden(name)):
        return f"{name}_"
    return f"_{name}" if is_hidden(name) or name[0] == "-" else name


def folder_names(labels: Iterable[str]) -> dict[str, str]:
    """{label: its folder}, a folder for each. Of two labels that would share one, the second gets a number."""
    names: dict[str, str] = {}
    for label in sorted(set(labels), key=lambda label: (folder_name(label) != label, label)):
        name, number = folder_name(label), 2
        taken = {other.casefold() for other in names.values()}
        while name.casefold() in taken:
            name, number = f"{folder_name(label)}_{number}", number + 1
        names[label] = name
    return names
