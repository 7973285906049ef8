"""Names of images as label files write them."""

import re

from mslab.tasks.labels import Problems

DRIVE = re.compile(r"[A-Za-z]:/|/|~/")  # begins a path that is not below the folder of the images
LONGEST = 1000  # characters


def file_name(name: str, problems: Problems) -> str:
    """The name relative to the folder of the images, with "/"; "" for one that leads out of it."""
    # file_name("a\\b.jpg", problems) -> "a/b.jpg", and a warning
    path = name.strip().replace("\\", "/")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or "\0" in name or len(name) > LONGEST:
        problems.add("label-field", "error", "", f"(a file_name is no name of a file: {name[:60]!r})")
        return ""
    if DRIVE.match(path) or ".." in parts:
        problems.add("unsafe-path", "error", "", f"(a file_name leads out of the folder of the images: {name[:200]!r})")
        return ""
    file = "/".join(parts)
    if "\\" in name:
        problems.add("file-name", "warning", file, f"(its file_name has the \\ of Windows: {name!r}; read as /)")
    return file
