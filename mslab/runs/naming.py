"""The names of run folders: runs/NAME-YYYYMMDD-HHMMSS/."""

import re
from pathlib import Path

from mslab.errors import ConfigError
from mslab.escaping import is_hidden

MOST = 100  # bytes of a name; file systems take 255 of a folder's, and the date follows
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # devices of Windows
SPECIAL = '/\\:*?"<>|[]=…'  # of paths, of Windows, of patterns, of [NAME=]RUN


def name_of(config: object, name: str | None = None) -> str:
    """The name of a run's folder: the one that was chosen, or the config file's. Raises ConfigError."""
    if name is not None:
        return check_name(name)
    return Path(config).stem if isinstance(config, str | Path) else "run"


def check_name(name: str) -> str:
    """The name for a run's folder. Raises ConfigError, with every reason, if no folder should be called that."""
    problems = []
    if not name:
        problems.append("it is empty")
    if found := "".join(dict.fromkeys(c for c in name if c in SPECIAL)):
        problems.append(f"it contains {' '.join(found)}")
    if any(is_hidden(c) for c in name):
        problems.append("it contains a character that is not drawn")
    if name[:1] in (".", "-", "~"):
        problems.append(f"it begins with {name[0]}")
    if name.strip() != name or name.endswith("."):
        problems.append("it begins or ends with a space, or ends with a dot")
    if len(name.encode(errors="surrogatepass")) > MOST:
        problems.append(f"it has {len(name.encode(errors='surrogatepass'))} bytes, more than {MOST}")
    if RESERVED.fullmatch(name):
        problems.append("it is a device of Windows")
    if name.lower() in ("latest", "runs"):
        problems.append("it has a meaning of its own here")
    if problems:
        near = re.sub(r"[^\w+-]+", "-", name).strip("-_")[:30]
        taken = not near or RESERVED.fullmatch(near) or near.lower() in ("latest", "runs")
        raise ConfigError(
            f"{name!r} cannot name a run: {'; '.join(problems)}.",
            expected=f"letters, digits, - and _, at most {MOST} bytes: the folder is runs/NAME-DATE-TIME",
            fix=f"--name {'run-1' if taken else near}",
        )
    return name
