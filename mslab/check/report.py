"""What a check found, in one object that training, packing and the command line ask; it says itself in words."""

import hashlib
import html
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mslab.check.records import SEVERITIES, Finding, Split, printable
from mslab.errors import DatasetError

SHOWN = 5  # findings of one code that a message lists
TABLED = 100  # findings that a notebook's table lists


def by_code(findings: list[Finding]) -> Iterator[tuple[str, str, list[Finding]]]:
    """(severity, code, its findings), errors first."""
    for severity in SEVERITIES:
        for code in dict.fromkeys(finding.code for finding in findings if finding.severity == severity):
            yield severity, code, [f for f in findings if (f.code, f.severity) == (code, severity)]


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
        rows = []
        for _, code, same in by_code(self.errors):
            rows += [(code, f"{finding.path} {finding.message}") for finding in same[:SHOWN]]
            rows += [(code, f"… and {len(same) - SHOWN} more")] * (len(same) > SHOWN)
        raise DatasetError(
            f"{what}.",
            details=rows,
            expected="one folder a class, holding only image files, the same classes in every split",
            fix="\n".join(list(fixes)[:6]),
        )

    # --- in words -----------------------------------------------------------------------------------------------------

    def summary(self) -> str:
        """ "2 errors (stray-folder, format), 1 warning", or "nothing found"."""
        parts = []
        for severity in SEVERITIES:
            codes = [finding.code for finding in self.findings if finding.severity == severity]
            if codes:
                word = severity if severity == "info" or len(codes) == 1 else severity + "s"
                parts.append(f"{len(codes)} {word} ({', '.join(dict.fromkeys(codes))})")
        text = ", ".join(parts) or "nothing found"
        return text if self.complete else f"stopped before all images were seen; so far: {text}"

    def brief(self) -> str:
        """What is there and what was found, in a few lines."""
        where = f"; mslab check {shlex.quote(str(self.root))} lists them" if self.findings else ""
        return "\n".join([*self._contents(), f"data check: {self.summary()}{where}"])

    def _contents(self) -> list[str]:
        lines = [f"{printable(str(self.root))}: {self.images} images, {len(self.class_names)} classes"]
        for name, split in self.counts.items():
            numbers = ", ".join(f"{printable(c)} {n}" for c, n in split.items())
            lines.append(f"  {name or 'images':<6} {sum(split.values()):>6}  {numbers}")
        return lines

    def __str__(self) -> str:
        """What is there and the first findings of each code, with their fixes."""
        lines = self._contents()
        for severity, code, same in by_code(self.findings):
            lines += ["", f"{severity}  {code}  ({len(same)})"]
            lines += [f"    {finding.path}  {finding.message}" for finding in same[:SHOWN]]
            lines += [f"    … and {len(same) - SHOWN} more"] * (len(same) > SHOWN)
            fixes = list(dict.fromkeys(finding.fix for finding in same))
            lines += [f"    fix  {fix}" for fix in fixes[:2]] + ["    fix  …"] * (len(fixes) > 2)
        return "\n".join([*lines, "", self.summary()])

    def _repr_html_(self) -> str:
        """A notebook's table of the findings."""
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(text)}</td>" for text in finding.to_dict().values()) + "</tr>"
            for finding in self.findings[:TABLED]
        )
        more = f"<p>… and {len(self.findings) - TABLED} more</p>" if len(self.findings) > TABLED else ""
        head = "".join(f"<th>{name}</th>" for name in ("code", "severity", "path", "message", "fix"))
        sizes = ", ".join(f"{name or 'images'} {sum(row.values())}" for name, row in self.counts.items())
        title = f"{printable(str(self.root))}: {len(self.class_names)} classes, {sizes}; {self.summary()}"
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>{more}" if rows else ""
        return f"<p>{html.escape(title)}</p>{table}"
