"""Paths as people type them: what is there, why nothing is, and which one was meant. For messages; accepts nothing."""

import contextlib
import difflib
import errno
import mimetypes
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import unquote

from mslab.errors import ConfigError, MslabError
from mslab.escaping import command, quoted, typed_command, typed_with
from mslab.files import kind_of, read_text
from mslab.safe_yaml import MAX_YAML

WEIGHTS = (".ckpt", ".safetensors", ".pth", ".pt", ".bin", ".onnx", ".mindir")  # endings of files of weights
ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")
EXPERIMENTS = {"sweep.json": "a sweep", "comparison.json": "a comparison", "repeat.json": "a repetition"}
ENTRIES = 2000  # of a folder that are looked at
SHOWN = 5  # names in a message
PARENTS = 4  # levels above the current folder that are looked in
TOP = ("runs", "configs", ".git")  # what the folder of a lab holds; nothing above it is looked at
ADDRESS = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)  # a Path has one slash of two
REMOVED = re.compile(r"\.removed-[0-9a-f]{16}-.*", re.DOTALL)  # what was a run, while mslab runs rm deletes it
AROUND = " \t\r\n'\"`\u2018\u2019\u201c\u201d\u00ab\u00bb<>()[],;"  # what is copied along with a path
PUBLISHED = re.compile(r"(torchvision|timm|mindcv):", re.IGNORECASE)  # begins a name of `mslab weights`
Error = TypeVar("Error", bound=MslabError)
ESCAPE = "in double quotes \\ begins a special character: write / instead of \\, or single quotes"
DRIVE = re.compile(r"([A-Za-z]):[\\/]+(.*)", re.DOTALL)


class Content(NamedTuple):
    """What is at a path."""

    kind: (
        str  # "" for nothing, run, runs, config, configs, weights, files of weights, image, images, data, closed, other
    )
    text: str  # "a folder of runs"
    names: str = ""  # "a, b and 3 more": what is in the folder

    def rows(self) -> list[tuple[str, str]]:
        """The row of a message that says what is in the folder."""
        return [("in it", self.names)] * bool(self.names)


class Wanted(NamedTuple):
    """What should be at a path."""

    noun: str  # "archive"
    expected: str  # the row of a message
    fits: Callable[[Path], bool]  # whether a path that exists may have been meant


def path_of(value: object, error: type[MslabError], expected: str, fix: Callable[[], str]) -> Path:
    """A path that a caller gives: text, or what stands for a path, such as a Run. Raises `error` for anything else."""
    if isinstance(value, str | os.PathLike) and isinstance(text := os.fspath(value), str) and text:
        return Path(os.path.expanduser(text) if text.startswith("~") else text)  # noqa: PTH111
    if value is None or isinstance(value, str | bool | int | float):
        name = repr(value)
    else:
        name = f"{'an' if type(value).__name__[0] in 'aeiouAEIOU' else 'a'} {type(value).__name__}"
    text = fix()
    if value == "":
        text += "; a variable of the shell may be empty"
    elif isinstance(value, list | tuple | set):
        text = f"give its items one by one: {text}"
    elif isinstance(getattr(value, "path", None), Path):
        text = "give its .path"
    raise error(f"{name} is no path.", expected=expected, fix=text)


# --- what is there ---------------------------------------------------------------------------------------------------


def is_run(folder: Path) -> bool:
    """Whether a folder is, or was, that of a run: it has one of the two files that every run has."""
    return any(kind_of(folder / name) for name in ("manifest.json", "config.yaml"))


def is_whole_run(folder: Path) -> bool:
    """Whether a folder is certainly a run's, and not one beside whose files is a config.yaml."""
    return all(kind_of(folder / name) for name in ("manifest.json", "config.yaml"))


def look(path: Path) -> Content:
    """What is at a path, by names and endings."""
    kind = kind_of(path, links=True)
    if kind != "a folder":
        return of_file(path) if kind == "a file" else Content("other" if kind else "", kind)
    try:
        with os.scandir(path) as entries:
            visible = sorted(entry.name for entry in islice(entries, ENTRIES) if not entry.name.startswith("."))
    except OSError as error:
        return Content("closed", f"a folder that cannot be read ({error.strerror})")
    if is_whole_run(path):
        return Content("run", "a run")
    if runs := names_of_runs(path):
        what = next((text for name, text in EXPERIMENTS.items() if name in visible), "a folder")
        return Content("runs", f"{what} of runs", listed(runs))
    if runs := names_of_runs(path / "runs"):
        return Content("runs", "the folder above runs/", listed(f"runs/{name}" for name in runs))
    folders = [name for name in visible if kind_of(path / name, links=True) == "a folder"]
    kinds = {name: of_file(path / name).kind for name in visible if name not in folders}
    for kind, several in (("image", "images"), ("config", "configs"), ("weights", "files of weights")):
        if found := [name for name in kinds if kinds[name] == kind]:
            return Content(several, f"a folder of {several}", listed(found))
    if any(has_image(path / name) for name in folders[:20]):
        return Content("data", "a folder of images", listed(f"{name}/" for name in folders))
    return Content("other", "a folder" if visible else "an empty folder", listed(visible))


def of_file(path: Path) -> Content:
    """What a file is, by the ending of its name."""
    suffix = path.suffix.lower()
    if (mimetypes.guess_type(path.name)[0] or "").startswith("image/"):
        return Content("image", "an image")
    if suffix in WEIGHTS:
        return Content("weights", "a file of weights")
    if suffix in (".yaml", ".yml"):
        return Content("config", "a config")
    return Content("other", "an archive" if suffix in ARCHIVES else f"a {suffix} file" if suffix else "a file")


def is_archive(path: Path) -> bool:
    """Whether a file is an archive, by the ending of its name."""
    return kind_of(path, links=True) == "a file" and path.suffix.lower() in ARCHIVES


def has_image(folder: Path, depth: int = 2) -> bool:
    """Whether there is an image in a folder or, two levels deep, in the first of those in it."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        some = list(islice(entries, 50))
        if any(of_file(Path(entry.name)).kind == "image" for entry in some):
            return True
        return depth > 0 and any(has_image(Path(entry.path), depth - 1) for entry in some[:5] if entry.is_dir())
    return False


def names_of_runs(folder: Path) -> list[str]:
    """The runs that are directly in a folder, by name."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        names = (entry.name for entry in islice(entries, ENTRIES) if is_whole_run(Path(entry.path)))
        return sorted(name for name in names if not REMOVED.fullmatch(name))
    return []


def listed(names: Iterable[object], most: int = SHOWN) -> str:
    """Names for a message: the first of them, and how many more there are."""
    # listed("abcdefg") -> "a, b, c, d, e and 2 more"
    texts = [str(name) for name in names]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


# --- why nothing is there --------------------------------------------------------------------------------------------


def missing(path: Path, error: type[Error], wanted: Wanted, fix: str, role: str = "") -> Error:
    """The error for a path at which nothing is: why, where it was looked for, and what may have been meant.

    `role`: added to the first line.
    """
    rows = [] if path.is_absolute() or ADDRESS.match(str(path)) else [("looked in", str(here()))]
    why, way = reason(path)
    near = nearest(path, wanted.fits)
    if near:
        way = f"{' or '.join(str(quoted(other)) for other in near)} is there: give that, if you mean it"
    shown = ADDRESS.sub(r"\1://\2", str(path))
    first = f"{shown}{role} {why}." if why else f"There is no {wanted.noun} {shown}{role}."
    return error(first, details=rows, expected=wanted.expected, fix=way or fix)


def reason(path: Path) -> tuple[str, str]:
    """Why nothing is at a path, if it is more than that, and what to do; else two empty strings."""
    if ADDRESS.match(str(path)):
        return "is an address, and not a path", "download it, and give the file or folder"
    if os.sep == "/" and ("\\" in str(path) or DRIVE.match(str(path))):
        return "is a path of Windows", "write it with / between the names, and from / on instead of a drive's letter"
    if found := re.search(r"[\x01-\x1f\x7f]", str(path)):
        return f"is nothing: it contains the invisible character {found[0]!r}", ESCAPE
    for part in [*reversed(path.parents), path]:
        try:
            part.stat()
        except PermissionError:
            return f"cannot be reached: {part.parent} may not be entered", f"chmod u+rx {quoted(part.parent)}"
        except NotADirectoryError:
            return f"is nothing: {part.parent} is a file, and not a folder", ""
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return "is no path: the name is too long", ""
            if part.is_symlink():
                target, loop = part.readlink(), error.errno == errno.ELOOP
                where = f"itself, by way of {target}" if loop else f"{target}, which does not exist"
                which = "it is a link" if part == path else f"{part} is a link"
                return f"leads nowhere: {which} to {where}", "correct the link, or give the file or folder itself"
            break
        except ValueError:
            return "is no path: it contains a null character", ""
    return "", ""


def here() -> Path:
    """The current folder, also if it was deleted meanwhile."""
    try:
        return Path.cwd()
    except OSError:
        return Path(os.environ.get("PWD", "."))


def nearest(path: Path, fits: Callable[[Path], bool], most: int = 3) -> list[Path]:
    """Paths that exist, fit, and may have been meant.

    Without what was copied along, with another ending, from a folder above, or misspelt.
    """
    for text in variants(str(path)):
        if text and Path(text).name and kind_of(Path(text), links=True) and fits(Path(text)):
            return [Path(text)]
    texts = dict.fromkeys([str(path), str(path).strip(AROUND).replace("\\", os.sep)])
    found = [other for text in texts if text for other in misspelt(Path(text), fits)]
    above = [] if path.is_absolute() or ADDRESS.match(str(path)) else folders_above()
    there = [folder / path for folder in above if kind_of(folder / path, links=True) and folder / path != here()]
    there = [Path(os.path.relpath(other, here())) for other in there if fits(other)]
    other_ending = [other for other in found if other.stem == path.stem]
    return other_ending[:most] or there[:1] or found[:most]


def folders_above() -> list[Path]:
    """The folders above the current one, up to that of the lab; none if the current one is that, or none is."""
    around = [here(), *here().parents][: PARENTS + 1]
    tops = [at for at, folder in enumerate(around) if any(kind_of(folder / name) for name in TOP)]
    return around[1 : tops[0] + 1] if tops else []


def variants(text: str) -> Iterator[str]:
    """A path as it is, without what was copied along with it, and in the notation of this system."""
    yield text
    plain = text.strip(AROUND).rstrip(".:")
    if found := ADDRESS.match(plain):
        plain = f"/{unquote(found[2])}" if found[1].lower() == "file" else ""
    yield plain
    yield os.path.expanduser(os.path.expandvars(plain))  # noqa: PTH111
    yield unquote(plain)
    yield re.sub(r"\\([ ()&'\[\]])", r"\1", plain)  # as a terminal shows a path that is dropped on it
    for form in ("NFC", "NFD", "NFKC"):
        yield unicodedata.normalize(form, plain)
    if os.sep == "/" and ("\\" in plain or DRIVE.match(plain)):
        yield plain.replace("\\", "/")
        if found := DRIVE.match(plain):
            yield f"/mnt/{found[1].lower()}/{found[2]}".replace("\\", "/")  # Windows' disks in its Linux
            yield found[2].replace("\\", "/")
        yield re.sub(r"^\\\\wsl[^\\]*\\[^\\]+", "", plain).replace("\\", "/")
    yield plain.lstrip("/\\") or text
    yield f"/{plain}"


def misspelt(path: Path, fits: Callable[[Path], bool]) -> list[Path]:
    """Paths that exist, fit, and differ from this one in the spelling of some names."""
    found = [Path(path.anchor)]
    for part in path.parts[bool(path.anchor) :]:
        found = [base / name for base in found[:3] for name in like(part, base)]
    return [other for other in found if other != path and fits(other)][:3]


def like(name: str, folder: Path) -> list[str]:
    """The name, if a folder has it; else those in it that are like it, also with another ending or in capitals."""
    with contextlib.suppress(OSError, ValueError):
        if kind_of(folder / name, links=True):
            return [name]
        with os.scandir(folder) as entries:
            names = {entry.name.lower(): entry.name for entry in islice(entries, ENTRIES)}
        plain, stem = name.lower(), Path(name.lower()).stem
        same = [other for other in names if Path(other).stem in (plain, stem) or other == stem]
        close = difflib.get_close_matches(plain, names, n=6, cutoff=0.7)
        # of short names an equal ending is most of the likeness: nope.yaml, space.yaml
        close = [other for other in close if difflib.SequenceMatcher(None, stem, Path(other).stem).ratio() >= 0.5]
        return [names[other] for other in dict.fromkeys([*same, *close])]
    return []


# --- configs ---------------------------------------------------------------------------------------------------------

YAML = {  # kind -> what a message expects
    "config": "a YAML file of settings",
    "space": "a YAML file of settings and the values to search, such as configs/space.yaml",
    "rubric": "a rubric, such as configs/rubric.yaml",
}


def refuse_other(path: Path, kind: str) -> None:
    """Raise ConfigError if no file is at a path, or certainly none of YAML. `kind`: config, space, rubric."""
    if kind_of(path, links=True) in ("", "a folder") or of_file(path).kind in ("weights", "image"):
        raise no_config(path, kind)


def no_config(path: Path, kind: str) -> ConfigError:
    """The error for a path at which no YAML file of a kind is: what is there, and what to give."""
    wanted = Wanted(f"{kind} file", YAML[kind], lambda other: kind_of_yaml(other) in (kind, "unknown"))
    found, folder = look(path), path if kind_of(path, links=True) == "a folder" else path.parent
    there = (sorted(place.glob("*.yaml")) for place in (folder, Path(), Path("configs")))
    near = next((some for files in there if (some := [file for file in files if wanted.fits(file)])), [])
    fix = f"one of {', '.join(map(quoted, near))}" if near else "give a YAML file's path; mslab new FOLDER writes some"
    if not found.kind and re.match(r"\s*\w+\s*=", str(path)):
        fix = f"type the {kind} first, the settings after it: CONFIG {path}"
        return ConfigError(f"There is no {kind} file {path}.", expected=wanted.expected, fix=fix)
    if kind == "config":
        fix = with_config(path, found, near[0] if near else Path("CONFIG"), fix)
    if found.kind:
        what = "a folder" if found.kind == "configs" else found.text
        rows = [] if found.kind == "configs" else found.rows()
        first = f"{path} is {what}, and not a {kind} file."
        return ConfigError(first, details=rows, expected=wanted.expected, fix=fix)
    return missing(path, ConfigError, wanted, fix)


def with_config(path: Path, found: Content, one: Path, fix: str) -> str:
    """What to type in place of a path that is no config. `one`: a config; `fix`: if there is nothing better."""
    typed = typed_command() or "train"
    run = next((place for place in (path, path.parent) if place != Path() and is_whole_run(place)), None)
    latest = found.kind == "runs" or (not found.kind and re.match(r"(runs/)?latest\b", str(path)))
    if typed == "train" and run:
        fix = f"{command('train', '--resume', run)}    continues it\n"
        return fix + f"{command('train', run / 'config.yaml')}    begins another run with its settings"
    if typed == "train" and latest:
        text = "latest" if found.kind else str(path)
        return f"{command('train', '--resume', text)}    continues the newest run; or a config:\n" + fix
    if run or latest:
        runs = path if names_of_runs(path) else Path("runs")
        newest = max(names_of_runs(runs), key=lambda name: re.findall(r"\d{8}-\d{6}", name), default="")
        if run or newest:
            settings = (run or runs / newest) / "config.yaml"
            also = "" if run else f"; or {fix}"  # what is beside a run's config.yaml is no config
            return f"{typed_with(path, settings) or quoted(settings)}    takes the settings of that run{also}"
    instead = typed_with(path, one) or command("train", one)
    if not found.kind and PUBLISHED.match(str(path)):
        fix = f"{command('transfer', one, '--backbone', str(path))}    trains a new head on these weights"
    elif found.kind == "weights" and typed == "train":
        fix = f"{command('train', one, '--from', path)}    trains this network further\n"
        fix += f"{command('transfer', one, '--backbone', path)}    puts a new head on its backbone"
    elif found.kind == "weights" and typed in ("transfer", "lr-find", "repeat", "sweep"):
        fix = f"give a config first, and weights as --backbone: {command(typed, one, '--backbone', path)}"
    elif found.kind == "data" and {"train/", "val/"} <= {*found.names.split(", ")}:
        fix = " ".join([instead, *(quoted(f"{name}_data={path / name}") for name in ("train", "val"))])
    elif found.kind in ("images", "data", "image"):
        fix = f"give a config, and images as settings: {instead} train_data=FOLDER val_data=FOLDER"
    return fix


def kind_of_yaml(path: Path) -> str:
    """What a YAML file is, by some of its lines: config, rubric, space or unknown; "" for another file."""
    if of_file(path).kind != "config" or kind_of(path, links=True) != "a file":
        return ""
    with contextlib.suppress(OSError, ValueError):
        text = read_text(path, MAX_YAML)
        lines = {"config": r"train_data\s*:", "rubric": r"items\s*:", "space": r"\w+\s*:\s*[\[{]"}
        return next((kind for kind, line in lines.items() if re.search(f"^{line}", text, re.MULTILINE)), "unknown")
    return "unknown"
