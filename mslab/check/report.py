"""The result of a check, used by training, packing and the command line. It prints itself as text."""

import hashlib
import html
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mslab.check import zh_fixes
from mslab.check.records import SEVERITIES, Finding, Split, printable
from mslab.check.splits import Layout
from mslab.check.tabular import is_table
from mslab.config.language import translated
from mslab.errors import DatasetError
from mslab.escaping import command, escape_control, quoted

MAX_LISTED = 5  # findings listed per code in a message
MAX_CLASSES = 10  # counts of classes in the few lines before a training; the check lists all
MAX_FIXES = 10  # different ones listed per code
EXPECTED = "one folder per class, with only image files in it, and the same classes in every split"
MAX_TABLE_ROWS = 100  # findings listed in a notebook's table


def quarantine_folder(root: Path) -> Path:
    """ROOT.quarantine, beside ROOT; a ROOT such as . has its name from its absolute path."""
    return Path(f"{root if root.name not in ('', '..') else os.path.abspath(root)}.quarantine")  # noqa: PTH100


def behind_link(root: Path, path: Path) -> Path | None:
    """The link through which `path`, in `root`, is reached; `root` itself may be one, and `path` may be one."""
    above = [folder for folder in path.parents if folder == root or root in folder.parents]
    return next((folder for folder in reversed(above) if folder.is_symlink()), None)


def changeable(root: Path, path: Path) -> bool:
    """Whether --fix and --convert may change this path in `root`: they write beside `root`, and through no link."""
    root, path = Path(os.path.abspath(root)), Path(os.path.abspath(path))  # noqa: PTH100  (links are not resolved)
    changed = {root.parent, path.parent} | ({path} if path.is_dir() and not path.is_symlink() else set())  # its ..
    return behind_link(root, path) is None and all(os.access(folder, os.W_OK) for folder in changed)


def counted(count: int, noun: str) -> str:
    # counted(2, "class") -> "2 classes"
    return f"{count} {noun}" + ("" if count == 1 else "es" if noun.endswith("s") else "s")


def say(text: str) -> str:
    """A text around the findings, in the language of the person who reads it."""
    return translated(text, zh_fixes.FRAME)


def one_line(name: str) -> str:
    return escape_control(printable(name), safe="")


def some(names: list[str]) -> str:
    more = f" and {len(names) - MAX_CLASSES} more" * (len(names) > MAX_CLASSES)
    return ", ".join(map(one_line, names[:MAX_CLASSES])) + more


def by_code(findings: list[Finding]) -> Iterator[tuple[str, str, list[Finding]]]:
    """(severity, code, its findings as they are shown to a person), errors first."""
    for severity in SEVERITIES:
        for code in dict.fromkeys(finding.code for finding in findings if finding.severity == severity):
            yield severity, code, [f.shown() for f in findings if (f.code, f.severity) == (code, severity)]


@dataclass
class DatasetReport:
    """Result of check_dataset. `.ok` is False if an error would stop training; print the report to read it."""

    root: Path
    splits: dict[str, Split]
    class_num: int | None = None  # the expected number of classes
    image_size: int | None = None  # pixels, the crop in training
    batch_size: int | None = None
    skip_content: bool = False  # the rules that compare images were skipped
    complete: bool = True  # False after Ctrl-C
    findings: list[Finding] = field(default_factory=list)
    layout: Layout | None = None  # what the root contains; None if the splits were given one by one
    follow_links: bool = False  # links out of the data set were followed
    ignored: tuple[str, ...] = ()  # names that were left out
    asked: tuple[list[str] | None, dict[str, list[str]]] = (None, {})  # `classes` and `merge`
    folders_of: dict[str, list[str]] = field(default_factory=dict)  # {class: folders}, if chosen or merged
    unused: list[str] = field(default_factory=list)  # folders that were then left out
    resize_mode: str = "crop"  # how images become square
    grouping: Any = None  # of check.groups: which images --group keeps together

    expected = EXPECTED
    caption = "Images of each class, in the order of the class indices"

    @property
    def base(self) -> Path:
        """The folder at which the paths of findings begin: the root, or that of a table of labels."""
        return self.root.parent if is_table(self.root) else self.root

    @property
    def class_names(self) -> list[str]:
        """In index order, which is defined here: sorted by name."""
        return sorted({name for split in self.splits.values() for name in split.classes})

    @property
    def measured_split(self) -> str:
        """The split that mslab eval measures."""
        return next((name for name in ("test", "val", "", "train") if name in self.splits), "")

    def measured(self, option: str = "--data ") -> str:
        """Which split that is, and what measures another (`option` and a folder); "" for a folder without splits."""
        name = self.measured_split
        others = [f"{option}{quoted(split.root)}" for other, split in self.splits.items() if other != name]
        return f"the {name} images; {' or '.join(others)} measures another split" if others else ""

    @property
    def errors(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def ok(self) -> bool:
        return self.complete and not self.errors

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """{split: {class: images}}"""
        return {name: {c: len(files) for c, files in split.classes.items()} for name, split in self.splits.items()}

    @property
    def images(self) -> int:
        return sum(sum(split.values()) for split in self.counts.values())

    def images_in(self, split: str) -> int:
        """Images of a split that a training can use."""
        return sum(self.counts[split].values())

    @property
    def fingerprint(self) -> str:
        """sha256 over every image's path in its split, size and content; "" while there are errors.

        For a pack: over the stored fingerprint of its images and the rows in use.
        """
        if not self.ok:
            return ""
        digest = hashlib.sha256()
        for name, split in self.splits.items():
            if split.pack:
                digest.update(f"{name}\0pack\0{split.pack.fingerprint}\n".encode())
            for picture in sorted(split.pictures, key=lambda picture: picture.name):
                row = f"{printable(f'{name}/{picture.name}')}\0{picture.size}\0{picture.sha256.hex()}\n"
                row += f"{printable(picture.label)}\0" * bool(picture.label)
                digest.update(row.encode())
        return digest.hexdigest()

    def samples(self, split: str) -> tuple[list[Path], list[int]]:
        """The files that passed the check and their class indices, sorted by class, then by name.

        A pack has no files; data.sources.images_of reads its rows.
        """
        place, classes = self.splits[split].path, self.splits[split].classes
        rows = [(place(picture.name), i) for i, name in enumerate(self.class_names) for picture in classes[name]]
        return [path for path, _ in rows], [label for _, label in rows]

    def home(self, split: Split) -> Path:
        """The folder to pass to `mslab check`: the root if it contains this split under its own name."""
        return self.root if self.layout or split.prefix == f"{split.name}/" else split.root

    def move(self, split: Split, name: str = "") -> str:
        """The fix for findings that --fix moves. `name`: of the file or folder in the split."""
        home = self.home(split)
        if split.table:
            return f"take {quoted(split.path(name))} out of {quoted(split.root)}"
        if name and not changeable(home, split.root / name):
            return self.ignore(split, name)
        return f"{self.command(home, '--fix')}    moves it to {quoted(quarantine_folder(home))}/"

    def convert(self, split: Split) -> str:
        """The fix for findings that --convert rewrites."""
        home = self.home(split)
        if split.table:
            copy = command("data", "import", split.table.folder, "--labels", split.root)
            return f"{copy}    makes a copy in class folders; there mslab check COPY --convert makes upright RGB copies"
        if not changeable(home, split.root / "x"):
            convert = command("check", "COPY", "--convert")
            return f"copy {quoted(home)} to a folder that you may change; there {convert}    makes upright RGB copies"
        return f"{self.command(home, '--convert')}    puts an upright RGB copy in its place"

    def ignore(self, split: Split, name: str) -> str:
        """The fix for what cannot be moved. `name`: of the file or folder in the split."""
        setting = f"ignore: {json.dumps([*self.ignored, name], ensure_ascii=False)}"
        return f"{setting}    in the config leaves it out, as does {self.command(self.home(split), '--ignore', name)}"

    def follow(self, split: Split) -> str:
        """The fix for links that are not followed."""
        return (
            f"follow_links: true    in the config reads what it leads to, as does "
            f"{self.command(self.home(split), '--follow-links')}"
        )

    def command(self, home: Path, *options: str) -> str:
        """`mslab check` with the options that this check had."""
        own = [option for name in self.ignored for option in ("--ignore", name)]
        own += ["--follow-links"] * (self.follow_links and "--follow-links" not in options)
        return command("check", home, *own, *options)

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `mslab check --json`."""
        return {
            "schema": 1,
            "root": printable(str(self.root)),
            "ok": self.ok,
            "class_num": len(self.class_names),
            "classes": [printable(name) for name in self.class_names],
            **(
                {"folders": {c: list(map(printable, own)) for c, own in self.folders_of.items()}}
                if self.folders_of
                else {}
            ),
            "counts": {split: {printable(c): n for c, n in row.items()} for split, row in self.counts.items()},
            "images": self.images,
            "findings": [finding.to_dict() for finding in self.findings],
            "fingerprint": self.fingerprint,
        }

    def raise_errors(self, setting: str = "") -> None:
        """Raise DatasetError that lists every error, if there is any. `setting`: "x.yaml says class_num: 9"."""
        if self.ok:
            return
        miscounted = {finding.path.rstrip("/") for finding in self.errors if finding.code == "class-count"}
        misread = {finding.path.rstrip("/") for finding in self.errors if finding.code == "wrong-level"}
        wrong = [s for s in self.splits.values() if (s.strays or s.title in miscounted) and s.title not in misread]
        noun = "class" if self.folders_of else ""
        counts = [(s.root, counted(len(s.classes) + len(s.strays), noun or s.noun)) for s in wrong]
        what = "; ".join(say(f"{root} has {count}") for root, count in counts)
        use = "used for training" if setting else "used"
        said = f"{what}{', ' * bool(setting)}{say(setting)}"
        what = said if wrong else say(f"{self.root} cannot be {use}")
        fixes = dict.fromkeys(finding.shown().fix for finding in self.errors)
        if setting.startswith("the command line"):  # as it is typed there
            fixes = {fix.replace("class_num: ", "class_num="): None for fix in fixes}
        rows = []
        for _, code, same in by_code(self.errors):
            rows += [(code, one_line(f"{finding.path} {finding.message}")) for finding in same[:MAX_LISTED]]
            rows += [(code, say(f"… and {len(same) - MAX_LISTED} more"))] * (len(same) > MAX_LISTED)
        raise DatasetError(
            f"{what}.",
            details=rows,
            expected=say(self.expected),
            fix="\n".join([*list(fixes)[:MAX_FIXES], *["…"] * (len(fixes) > MAX_FIXES)]),
        )

    # --- as text ------------------------------------------------------------------------------------------------------

    def summary(self) -> str:
        """ "2 errors (stray-folder, format), 1 warning", or "nothing found"."""
        parts = []
        for severity in SEVERITIES:
            codes = [finding.code for finding in self.findings if finding.severity == severity]
            if codes:
                label = severity if severity == "info" or len(codes) == 1 else severity + "s"
                parts.append(say(f"{len(codes)} {label} ({', '.join(dict.fromkeys(codes))})"))
        text = ", ".join(parts) or say("nothing found")
        return text if self.complete else say(f"stopped before all images were loaded; so far: {text}")

    def brief(self) -> str:
        """The data and the findings, in a few lines."""
        tables = [split.root for split in self.splits.values() if split.table]
        hint = f"; {command('check', tables[0] if tables else self.root)}    lists them" if self.findings else ""
        return "\n".join([*self._contents(MAX_CLASSES), say(f"data check: {self.summary()}{hint}")])

    def _contents(self, most: int | None = None) -> list[str]:
        if not self.images and any(finding.code == "wrong-level" for finding in self.errors):
            return [say(f"{one_line(str(self.root))}: no data set")]
        images = f"{self.images} image{'s' * (self.images != 1)}"
        count = counted(len(self.class_names), "class")
        lines = [say(f"{one_line(str(self.root))}: {images}, {count}")]
        for name, split in self.counts.items():
            shown = [f"{one_line(c)} {n}" for c, n in split.items()][: most and most + (len(split) == most + 1)]
            numbers = ", ".join(shown) + f" and {len(split) - len(shown)} more classes" * (len(split) > len(shown))
            lines.append(f"  {name or 'images':<6} {sum(split.values()):>6}  {numbers}")
        for name, folders in self.folders_of.items():
            if folders and folders != [name]:
                lines.append(say(f"  {one_line(name)} is {some(folders)}"))
        lines += [say(f"  left out: {some(self.unused)}")] * bool(self.unused)
        return lines

    def __str__(self) -> str:
        """The data and the first findings of each code, with their fixes."""
        lines = self._contents()
        for severity, code, same in by_code(self.findings):
            lines += ["", f"{say(severity)}  {code}  ({len(same)})"]
            lines += [f"    {one_line(f'{finding.path}  {finding.message}')}" for finding in same[:MAX_LISTED]]
            lines += [f"    {say(f'… and {len(same) - MAX_LISTED} more')}"] * (len(same) > MAX_LISTED)
            fixes = list(dict.fromkeys(finding.fix for finding in same))
            shown = [fix.replace("\n", "\n         ") for fix in fixes[:MAX_FIXES]]
            lines += [f"    fix  {fix}" for fix in shown] + ["    fix  …"] * (len(fixes) > MAX_FIXES)
        return "\n".join([*lines, "", self.summary()])

    def _repr_html_(self) -> str:
        """A notebook's table of the findings."""
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in finding.shown().to_dict().values()) + "</tr>"
            for finding in self.findings[:MAX_TABLE_ROWS]
        )
        more = f"<p>… and {len(self.findings) - MAX_TABLE_ROWS} more</p>" if len(self.findings) > MAX_TABLE_ROWS else ""
        head = "".join(f"<th>{name}</th>" for name in ("code", "severity", "path", "message", "fix"))
        sizes = ", ".join(f"{name or 'images'} {sum(row.values())}" for name, row in self.counts.items())
        title = f"{printable(str(self.root))}: {len(self.class_names)} classes, {sizes}; {self.summary()}"
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}" if rows else ""
        return escape_control(f"<p>{html.escape(title)}</p>{table}")
