"""`mslab archive`: pack everything needed to inspect and repeat a run elsewhere into one zip with reproducible bytes.

Members have the same paths as in the run folder. The parent checkpoint is in parent/, images are in data/train/ and
data/val/, package versions in environment.txt, and the sha256 of each member in archive.json. opening.py unpacks it.
"""

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mslab.check import packed
from mslab.check.label_check import check_labels
from mslab.check.labels import read_labels
from mslab.check.splits import classes_folder
from mslab.check.tabular import is_table
from mslab.config.tasks import CLASSIFY
from mslab.data.zips import CHUNK, Member, open_member, write_zip
from mslab.errors import RunError
from mslab.files import json_text, sha256
from mslab.reproduce import differing
from mslab.reproduce.reproducing import refuse_unfinished
from mslab.runs import images, verifying
from mslab.runs.folder import RunFolder
from mslab.runtime import disks
from mslab.tasks.folders import names_file

SCHEMA = 1
LISTING = "archive.json"
ENVIRONMENT = "environment.txt"
TEXTS = ("config.yaml", "manifest.json", "history.csv", "steps.csv", "images.csv", "eval.json")
FILES = (*TEXTS, "train.log", "report.html")
WEIGHTS = ("checkpoints/best.ckpt", "checkpoints/best_backbone.ckpt")
SPLITS = ("train", "val")
# stored without compression, which would not make them smaller
UNCOMPRESSED = (".ckpt", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".gif", ".pth", ".onnx", ".safetensors")
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
DIGEST = re.compile(r"[0-9a-f]{64}")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_-]*")


@dataclass
class Packed:
    """Size and contents of an archive."""

    file: Path
    members: int
    images: int
    size: int  # bytes of the archive

    def __str__(self) -> str:
        with_images = f", {self.images} of them images" if self.images else ", no images"
        return f"{self.file}: {self.members} files{with_images}, {self.size / 2**20:.1f} MiB"


def archive(
    path: str | Path,
    out: str | Path | None = None,
    data: bool = False,
    weights: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Packed:
    """Write RUN.zip (or `out`). Raises RunError if the run has not ended, or if its files have changed since."""
    run = RunFolder.read(path)
    refuse_unfinished(run)
    target = Path(out) if out else Path(f"{run.path.resolve().name}.zip")
    if target.exists():
        raise RunError(f"{target} exists already.", expected="a new file", fix="--out with another name")
    names = [*FILES, *(WEIGHTS if weights else ())]
    members: dict[str, Member] = dict(run.own_files(names))
    recorded: dict[str, str] = {name: digest for name, digest in run.manifest["artifacts"].items() if name in names}
    refuse_changed(run, recorded)
    if run.manifest["parent"]:
        check, file = differing.parent(run, None)
        if check is None or file is None:
            raise missing_parent(run, check)
        name = f"parent/{re.sub('[^A-Za-z0-9._-]', '_', file.name)}"
        members[name], recorded[name] = file.resolve(), run.manifest["parent"]["sha256"]
    image_files = images_of(run) if data else {}
    members |= {name: file for name, (file, _) in image_files.items()}
    recorded |= {name: digest for name, (_, digest) in image_files.items()}
    members[ENVIRONMENT] = requirements(run.manifest).encode()
    listed = {name: recorded.get(name) or digest_of(content) for name, content in sorted(members.items())}
    listing = {"schema": SCHEMA, "run": run.path.resolve().name, "data": data, "members": listed}
    sizes = listing["sizes"] = {name: size_of(members[name]) for name in listed}
    members[LISTING] = json_text(listing).encode()
    elsewhere = "free some space, or --out FILE.zip on another disk" + "; or leave --data out" * data
    disks.require_space(target.parent, sum(sizes.values()), target.name, elsewhere)
    write_zip(target, members, listed, UNCOMPRESSED, progress)
    return Packed(target, len(members), len(image_files), target.stat().st_size)


def refuse_changed(run: RunFolder, recorded: Mapping[str, str]) -> None:
    """Raise RunError with every file that is missing or has changed since the run."""
    rows = []
    for name, digest in recorded.items():
        check = verifying.compare_file(run.path / name, name, digest)
        if check["status"] != "same":
            rows.append((name, check["text"]))
    if rows:
        raise RunError(
            f"Files of {run.path} have changed since the run ended.",
            details=rows,
            expected="the files that its manifest.json lists, with the sha256 in it",
            fix="restore them; otherwise mslab reproduce would compare with figures that the run did not measure",
        )


def missing_parent(run: RunFolder, check: differing.Check | None) -> RunError:
    """The error for a missing parent checkpoint, without which the run cannot be repeated."""
    return RunError(
        f"{run.path} started from {run.manifest['parent']['file']}, which its archive needs.",
        details=[("parent", check.why if check else "")],
        expected=f"the file with sha256 {run.manifest['parent']['sha256'][:12]}…",
        fix=f"put it back there, or into {run.path}/parent/",
    )


def images_of(run: RunFolder) -> dict[str, tuple[Path, str]]:
    """Return {name in the archive: (file, sha256)} for every image of images.csv. Raises RunError with missing ones."""
    if run.settings.task != CLASSIFY:
        return labelled_files(run)
    recorded = images.recorded(run.path)
    if recorded is None:
        raise RunError(
            f"{run.path} is an older run without images.csv: its images are not recorded one by one.",
            expected="a run with images.csv",
            fix="leave --data out and pass the images on separately; or train the run again",
        )
    files_of: dict[str, tuple[Path, str]] = {}
    missing: list[tuple[str, str]] = []
    for split in SPLITS:
        archived = run.path / "data" / split
        root = archived if archived.is_dir() else classes_folder(Path(getattr(run.settings, f"{split}_data")))
        if packed.is_pack(root):
            raise RunError(
                f"{root} is a packed data set: archives cannot contain the shards that store its images.",
                expected="folders of images, for --data",
                fix="leave --data out and pass the pack on separately: "
                "mslab reproduce --from FILE.zip train_data=PACK/train val_data=PACK/val",
            )
        table = read_labels(root).files if is_table(root) else {}
        for class_name, digests in recorded.get(split, {}).items():
            for name, digest in digests.items():
                file = table.get(f"{class_name}/{name}", root / class_name / name)
                files_of[f"data/{split}/{class_name}/{name}"] = (file.resolve(), digest)  # data sets may contain links
                plain = class_name not in ("", ".", "..") and "/" not in name and "\\" not in f"{class_name}{name}"
                if not plain or not file.is_file():
                    missing.append(("missing", str(file)))
                elif not DIGEST.fullmatch(digest):  # without it, the run's author could have any file packed
                    raise RunError(
                        f"{run.path}/images.csv has no sha256 of {file}.",
                        expected="the file that mslab wrote",
                        fix="restore it, or leave --data out",
                    )
    if missing:
        more = [("…", f"and {len(missing) - 5} more")] * (len(missing) > 5)
        raise RunError(
            f"{len(missing)} of {len(files_of)} images of {run.path} are missing.",
            details=missing[:5] + more,
            expected="every image of images.csv",
            fix="restore them, or leave --data out",
        )
    return files_of


def labelled_files(run: RunFolder) -> dict[str, tuple[Path, str]]:
    """The same for a task with labels of its own: its images, masks and files of labels, in the folders as they are.

    Raises RunError if they are not those of the run, or do not lie in the folder that the settings name.
    """
    roots = {split: Path(getattr(run.settings, f"{split}_data")) for split in SPLITS}
    roots |= {split: own for split in SPLITS if (own := run.path / "data" / split).is_dir()}
    report = check_labels(roots["train"], run.settings.task, val=roots["val"])
    if report.fingerprint != run.manifest["data"]["fingerprint"]:
        raise RunError(
            f"The images or labels of {run.path} have changed since the run.",
            expected=f"those of {roots['train']} and {roots['val']} that it was trained on",
            fix="restore them, or leave --data out",
        )
    found: dict[str, tuple[Path, str]] = {}
    outside: list[tuple[str, str]] = []
    for split, root in roots.items():
        place, labels = report.places[split], report.sets[split].images
        others = [place.boxes, place.tags, *((place.masks or root) / row.mask for row in labels if row.mask)]
        others += [names_file((place.masks or root).parent)] if run.settings.task == "segment" else []
        digests = {file: sha256(file) for file in others if file}
        home = report.splits[split].root
        digests |= {home / picture.name: picture.sha256.hex() for picture in report.splits[split].pictures}
        for file, digest in digests.items():
            if not file.is_relative_to(root) or (place.images == root and root.name != split):
                outside.append((split, str(file)))
            else:
                found[f"data/{split}/{file.relative_to(root).as_posix()}"] = (file.resolve(), digest)
    if outside:
        raise RunError(
            f"{len(outside)} files of labels or images do not lie as an archive keeps them.",
            details=outside[:5],
            expected="all of them inside the folders of train_data and val_data, and images in a folder images/",
            fix="leave --data out and pass the data set on separately",
        )
    return found


def requirements(record: Mapping[str, Any]) -> str:
    """Content of environment.txt for pip: every package except mslab. Raises RunError for invalid names or versions."""
    full = record["environment"]
    packages = full["packages"] if full else {k: v for k, v in record["versions"].items() if k != "python" and v}
    python = full["python"] if full else record["versions"].get("python", differing.UNKNOWN)
    invalid = [f"{k}=={v}" for k, v in packages.items() if not NAME.fullmatch(k) or not VERSION.fullmatch(v)]
    if invalid:
        raise RunError(
            "The manifest contains invalid package names or versions.",
            details=[("package", text[:80]) for text in invalid[:5]],
            expected="a name of letters, digits, '.', '_' and '-', and a version",
            fix="restore the manifest.json that mslab wrote",
        )
    lines = [f"# Python {python}", f"# {full['platform'] if full else 'an older run: only these are recorded'}"]
    lines = [" ".join(line.split()) for line in lines]  # no line breaks inside
    lines += [f"{name}=={version}" for name, version in sorted(packages.items()) if name != "mslab"]
    return "\n".join(lines) + "\n"


def digest_of(content: Member) -> str:
    digest = hashlib.sha256()
    with open_member(content) as source:
        while block := source.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def size_of(content: Member) -> int:
    with open_member(content) as source:
        return source.seek(0, os.SEEK_END)
