"""`mslab archive`: everything that a run needs to be looked at and repeated elsewhere, as one zip of stable bytes.

Its members lie as in the run folder, with the parent checkpoint in parent/, the images in data/train/ and data/val/,
the versions in environment.txt, and the sha256 of each in archive.json. opening.py unpacks it.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mslab import checkpoint
from mslab.check import packed
from mslab.data.zips import write_zip
from mslab.errors import RunError
from mslab.reproduce import differing, images
from mslab.reproduce.reproducing import refuse_unfinished
from mslab.runs import manifest
from mslab.runs.folder import RunFolder

SCHEMA = 1
LISTING = "archive.json"
ENVIRONMENT = "environment.txt"
TEXTS = ("config.yaml", "manifest.json", "history.csv", "steps.csv", "images.csv", "eval.json")
FILES = (*TEXTS, "train.log", "report.html")
WEIGHTS = ("checkpoints/best.ckpt", "checkpoints/best_backbone.ckpt")
SPLITS = ("train", "val")
# what deflating does not make smaller
AS_IS = (".ckpt", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".gif", ".pth", ".onnx", ".safetensors")
NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_-]*")


@dataclass
class Packed:
    """What an archive holds."""

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
    """Write RUN.zip (or `out`). Raises RunError where the run has not ended, or is not what it was when it did."""
    run = RunFolder.read(path)
    refuse_unfinished(run)
    target = Path(out) if out else Path(f"{run.path.resolve().name}.zip")
    if target.exists():
        raise RunError(f"There is {target} already.", expected="a new file", fix="--out with another name")
    names = [*FILES, *(WEIGHTS if weights else ())]
    members: dict[str, Path | bytes] = {name: run.path / name for name in names if (run.path / name).is_file()}
    told: dict[str, str] = {name: digest for name, digest in run.manifest["artifacts"].items() if name in names}
    refuse_changed(run, told)
    if run.manifest["parent"]:
        check, file = differing.parent(run, None)
        if check is None or file is None:
            raise lost_parent(run, check)
        name = f"parent/{re.sub('[^A-Za-z0-9._-]', '_', file.name)}"
        members[name], told[name] = file, run.manifest["parent"]["sha256"]
    pictures = images_of(run) if data else {}
    members |= {name: file for name, (file, _) in pictures.items()}
    told |= {name: digest for name, (_, digest) in pictures.items()}
    members[ENVIRONMENT] = requirements(run.manifest).encode()
    listed = {name: told.get(name) or digest_of(content) for name, content in sorted(members.items())}
    listing = {"schema": SCHEMA, "run": run.path.resolve().name, "data": data, "members": listed}
    listing["sizes"] = {name: size_of(members[name]) for name in listed}
    members[LISTING] = (json.dumps(listing, indent=1, ensure_ascii=False) + "\n").encode()
    write_zip(target, members, listed, AS_IS, progress)
    return Packed(target, len(members), len(pictures), target.stat().st_size)


def refuse_changed(run: RunFolder, told: Mapping[str, str]) -> None:
    """RunError that lists every file which is not as the run left it."""
    rows = []
    for name, digest in told.items():
        found = manifest.compare_file(run.path / name, name, digest)
        if found["status"] != "same":
            rows.append((name, found["text"]))
    if rows:
        raise RunError(
            f"{run.path} is not as it was when it ended.",
            details=rows,
            expected="the files that its manifest.json lists, with the sha256 there",
            fix="restore them; mslab reproduce of such a run would compare with what it did not measure",
        )


def lost_parent(run: RunFolder, check: differing.Check | None) -> RunError:
    """Without that file, nobody could repeat the run."""
    return RunError(
        f"{run.path} began from {run.manifest['parent']['file']}, which an archive of it needs.",
        details=[("parent", check.why if check else "")],
        expected=f"the file with sha256 {run.manifest['parent']['sha256'][:12]}…",
        fix=f"put it back there, or into {run.path}/parent/",
    )


def images_of(run: RunFolder) -> dict[str, tuple[Path, str]]:
    """{its name in the archive: (file, sha256)} of every image of images.csv. Raises RunError that lists those gone."""
    recorded = images.recorded(run.path)
    if recorded is None:
        raise RunError(
            f"{run.path} is older than images.csv: which images it was trained on is not recorded one by one.",
            expected="a run with images.csv",
            fix="leave --data out, and hand the images over beside the archive; or train it again",
        )
    found: dict[str, tuple[Path, str]] = {}
    missing: list[tuple[str, str]] = []
    for split in SPLITS:
        own = run.path / "data" / split
        root = own if own.is_dir() else Path(getattr(run.settings, f"{split}_data"))
        if packed.is_pack(root):
            raise RunError(
                f"{root} is a packed data set: its images lie in shards, which archives do not take.",
                expected="folders of images, with --data",
                fix="leave --data out, and hand the pack over beside the archive: "
                "mslab reproduce --from FILE.zip train_data=PACK/train val_data=PACK/val",
            )
        for class_name, files in recorded.get(split, {}).items():
            for name, digest in files.items():
                file = root / class_name / name
                found[f"data/{split}/{class_name}/{name}"] = (file, digest)
                plain = class_name not in ("", ".", "..") and "/" not in name and "\\" not in f"{class_name}{name}"
                if not plain or not file.is_file():
                    missing.append(("missing", str(file)))
    if missing:
        more = [("…", f"and {len(missing) - 5} more")] * (len(missing) > 5)
        raise RunError(
            f"{len(missing)} of {len(found)} images that {run.path} was trained on are not there.",
            details=missing[:5] + more,
            expected="every image of images.csv",
            fix="restore them, or leave --data out",
        )
    return found


def requirements(told: Mapping[str, Any]) -> str:
    """environment.txt, which pip takes: every package but mslab itself. Raises RunError for names that are none."""
    around = told["environment"]
    packages = around["packages"] if around else {k: v for k, v in told["versions"].items() if k != "python" and v}
    python = around["python"] if around else told["versions"].get("python", differing.UNKNOWN)
    wrong = [f"{k}=={v}" for k, v in packages.items() if not NAME.fullmatch(k) or not VERSION.fullmatch(v)]
    if wrong:
        raise RunError(
            "The manifest names packages that cannot be.",
            details=[("package", text[:80]) for text in wrong[:5]],
            expected="a name of letters, digits, '.', '_' and '-', and a version",
            fix="restore the manifest.json that mslab wrote",
        )
    lines = [f"# Python {python}", f"# {around['platform'] if around else 'an older run: only these are recorded'}"]
    lines = [" ".join(line.split()) for line in lines]  # one line each, whatever is in them
    lines += [f"{name}=={version}" for name, version in sorted(packages.items()) if name != "mslab"]
    return "\n".join(lines) + "\n"


def digest_of(content: Path | bytes) -> str:
    return checkpoint.sha256(content) if isinstance(content, Path) else hashlib.sha256(content).hexdigest()


def size_of(content: Path | bytes) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content)
