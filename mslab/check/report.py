"""What a check found, in one object that training, packing and the command line ask."""

import hashlib
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mslab.check import text
from mslab.check.records import Finding, Split, printable
from mslab.errors import DatasetError


@dataclass
class DatasetReport:
    """What check_dataset found. `.ok` is False where an error would stop training; print it to read it."""

    root: Path
    splits: dict[str, Split]
    class_num: int | None = None  # what was asked for
    image_size: int | None = None  # pixels, the crop that training takes
    batch_size: int | None = None
    skip_content: bool = False  # the rules that compare images were left out
    complete: bool = True  # False after Ctrl-C
    findings: list[Finding] = field(default_factory=list)
    beside: list[str] = field(default_factory=list)  # folders beside train, val and test that are none of them

    summary, brief = text.summary, text.brief  # methods that text.py writes for it
    __str__, _repr_html_ = text.full, text.table

    @property
    def class_names(self) -> list[str]:
        """Index order, fixed here: sorted by name."""
        return sorted({name for split in self.splits.values() for name in split.classes})

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

    @property
    def fingerprint(self) -> str:
        """sha256 over every image's path in its split, size and content; "" while there are errors.

        Of a pack: over the fingerprint that its images had, and the rows that are used.
        """
        if not self.ok:
            return ""
        digest = hashlib.sha256()
        for name, split in self.splits.items():
            if split.pack:
                digest.update(f"{name}\0pack\0{split.pack.fingerprint}\n".encode())
            for picture in sorted(split.pictures, key=lambda picture: picture.name):
                row = f"{printable(f'{name}/{picture.name}')}\0{picture.size}\0{picture.sha256.hex()}\n"
                digest.update(row.encode())
        return digest.hexdigest()

    def samples(self, split: str) -> tuple[list[Path], list[int]]:
        """The files that passed and their class indices, sorted by class, then by name.

        A pack has no files; data.sources.images_of reads its rows.
        """
        folder, classes = self.splits[split].root, self.splits[split].classes
        rows = [(folder / picture.name, i) for i, name in enumerate(self.class_names) for picture in classes[name]]
        return [path for path, _ in rows], [label for _, label in rows]

    def home(self, split: Split) -> Path:
        """The folder to name in `mslab check`: the root where it holds this split under its own name."""
        usual = len(self.splits) == 1 or split.prefix == f"{split.name}/"
        return self.root if usual else split.root

    def move(self, split: Split) -> str:
        """The fix of what --fix moves."""
        home = self.home(split)
        return f"mslab check {shlex.quote(str(home))} --fix    moves it to {home}.quarantine/"

    def convert(self, split: Split) -> str:
        """The fix of what --convert rewrites."""
        home = shlex.quote(str(self.home(split)))
        return f"mslab check {home} --convert    puts an upright RGB copy in its place"

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `mslab check --json`."""
        return {
            "schema": 1,
            "root": printable(str(self.root)),
            "ok": self.ok,
            "class_num": len(self.class_names),
            "classes": [printable(name) for name in self.class_names],
            "counts": {split: {printable(c): n for c, n in row.items()} for split, row in self.counts.items()},
            "images": self.images,
            "findings": [finding.to_dict() for finding in self.findings],
            "fingerprint": self.fingerprint,
        }

    def raise_errors(self, says: str = "") -> None:
        """DatasetError that lists every error; nothing where there is none. `says`: "x.yaml says class_num: 9"."""
        if self.ok:
            return
        miscounted = {finding.path.rstrip("/") for finding in self.errors if finding.code == "class-count"}
        wrong = [s for s in self.splits.values() if s.strays or s.title in miscounted]
        what = "; ".join(f"{s.root} has {len(s.classes) + len(s.strays)} class folders" for s in wrong)
        what = f"{what}{', ' * bool(says)}{says}" if wrong else f"{self.root} cannot be trained on"
        fixes = dict.fromkeys(finding.fix for finding in self.errors)
        raise DatasetError(
            f"{what}.",
            details=text.rows(self.errors),
            expected="one folder a class, holding only image files, the same classes in every split",
            fix="\n".join(list(fixes)[:6]),
        )
