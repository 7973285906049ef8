"""Whether a file or folder can be written: asked before work that may take hours. Nothing of the question stays."""

import os
import tempfile
from pathlib import Path

from mslab.errors import MslabError
from mslab.escaping import quoted
from mslab.files import kind_of, obstacle

PROTECTED = 0o222  # a file that nobody may write is one that somebody protects, also from root


def refuse_file(path: Path, new: bool = False, option: str = "") -> None:
    """Raise MslabError unless this file can be written, in a folder that exists or can be made. `new`: nothing is
    overwritten; `option`: the one that can name another file.
    """
    kind = kind_of(path, links=True)
    if kind == "a folder":
        raise problem(path, "it is a folder", "the name of a file", "use another name, or add one to the folder's")
    if kind not in ("", "a file"):
        raise problem(path, f"it is {kind}", "a regular file", "use another name; standard output is -")
    if new and kind_of(path):
        raise MslabError(
            f"{path} already exists.",
            expected="a new file; nothing is overwritten",
            fix="use another name, or move the file away",
        )
    refuse_folder(path.parent, path, option=option)
    if kind and not (os.access(path, os.W_OK) and path.stat().st_mode & PROTECTED):
        raise problem(
            path, "it is protected", "a file that may be written", f"chmod u+w {quoted(path)}, or another name"
        )
    try:
        path.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:  # a name of 300 characters
        raise problem(path, error.strerror or str(error), "the name of a file", "use another name") from None


def refuse_folder(folder: Path, path: Path | None = None, new: bool = False, option: str = "") -> None:
    """Raise MslabError unless this folder, or the nearest one above that exists, takes files. `path`: the one to name.

    `new`: the folder must not exist yet; `option`: the one that can name another.
    """
    path = path or folder
    if new and kind_of(folder):
        raise MslabError(
            f"{path} already exists.",
            expected="a path that does not exist yet; nothing is overwritten",
            fix="use another name, or move what is there away",
        )
    for place in (folder, *folder.parents):
        try:
            place.stat()
        except (FileNotFoundError, NotADirectoryError):
            if not place.is_symlink():
                continue
            raise problem(path, f"{place} is a link to nothing", "a folder", "use another folder") from None
        except OSError as error:
            raise problem(path, error.strerror or str(error), "a folder", "use another name") from None
        break
    if not place.is_dir():
        raise problem(path, f"{place} is {kind_of(place, links=True)}", "a folder in its place", "use another name")
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b"mslab")
            file.flush()
    except OSError as error:
        expected, fix = obstacle(error, place)
        elsewhere = f"{option} with a path in another folder" if option else "write elsewhere"
        reason = f"{place} takes no file: {error.strerror or error}"
        raise problem(path, reason, expected, f"{elsewhere}; or {fix}") from None


def problem(path: Path, reason: str, expected: str, fix: str) -> MslabError:
    return MslabError(f"{path} cannot be written: {reason}.", expected=expected, fix=fix)
