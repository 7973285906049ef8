"""`mslab verify`: whether the files of a run are as it left them."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mslab import files
from mslab.config import Settings, dump_config, load_settings
from mslab.config.correcting import flow
from mslab.config.schema import FIELDS
from mslab.errors import ConfigError, MslabError, RunError
from mslab.runs import lock, manifest
from mslab.runtime.tables import plural


def verify(run: Path) -> list[dict[str, str]]:
    """Compare each file that the manifest lists, and the parent, with its sha256: {"file", "status", "text"}.

    `status`: same, changed, missing, or left out: a checkpoint that mslab archive omits. Raises RunError if the
    run has not ended, unless what it wrote at its start is changed already.
    """
    content = manifest.load(run)
    rows = [compare_file(manifest.file_of(run, name), name, digest) for name, digest in content["artifacts"].items()]
    for row in rows:
        if (row["file"], row["status"]) == ("config.yaml", "changed"):
            row["text"] += f"; {what_is_changed(content, manifest.file_of(run, 'config.yaml'))}"
    begun_only = set(content["artifacts"]) <= manifest.AT_START
    if begun_only and all(row["status"] == "same" for row in rows):
        raise RunError(
            f"The manifest of {run} lists no files yet: its status is {content['status']}.",
            expected="a run that has ended: its manifest lists the sha256 of each file",
            fix=lock.go_on(run),
        )
    packed = manifest.is_pack(run)
    for row in rows if packed else ():
        if row["status"] == "missing":
            row |= {"status": "left out", "text": "a pack does not contain it"}
        if row["file"] == "checkpoints/best.ckpt" and content.get("half"):
            row |= compare_file(run / "best.ckpt", row["file"], content["half"]["sha256"], "its weights as float16; ")
    parent, unpacked = content["parent"], (run / "environment.txt").is_file()  # a file that only archives contain
    for row in rows if unpacked else ():
        if row["status"] == "missing" and row["file"].startswith("checkpoints/"):
            row |= {"status": "left out", "text": "the archive does not contain this checkpoint"}
    if parent:
        paths = [*sorted((run / "parent").glob("*")), Path(parent["file"])]  # an archive contains it
        file = next((path for path in paths if path.is_file()), Path(parent["file"]))
        rows.append(compare_file(file, str(file), parent["sha256"], "the checkpoint it started from; "))
    return rows


def compare_file(path: Path, name: str, digest: str, prefix: str = "") -> dict[str, str]:
    """Compare one file with its recorded sha256; `prefix` begins the text."""
    if not path.is_file():
        return {"file": name, "status": "missing", "text": f"{prefix}not there"}
    try:
        now = files.sha256(path)
    except OSError as error:
        return {"file": name, "status": "changed", "text": f"{prefix}it cannot be read: {error.strerror}"}
    if now == digest:
        return {"file": name, "status": "same", "text": f"{prefix}sha256 {digest[:12]}…"}
    return {"file": name, "status": "changed", "text": f"{prefix}sha256 {now[:12]}…, the manifest has {digest[:12]}…"}


# --- the settings ----------------------------------------------------------------------------------------------------


def what_is_changed(content: Mapping[str, Any], config: Path) -> str:
    """What a config.yaml that has other bytes than the run wrote says otherwise."""
    if content["settings"] is None:
        return "its settings are not recorded one by one"
    try:
        rows = changed_settings(content["settings"], load_settings(config))
    except MslabError as error:
        return f"it cannot be read: {error.what}"
    return ", ".join(f"{name}: {old} -> {new}" for name, old, new in rows) or "its settings are the same"


def changed_settings(recorded: Mapping[str, Any], now: Settings) -> list[tuple[str, Any, Any]]:
    """(name, recorded value, value now) of each setting that differs; one that is not recorded had its default."""
    table = now.model_dump(mode="json")
    before = {name: recorded.get(name, FIELDS[name].get_default()) for name in table}
    return [(name, before[name], value) for name, value in table.items() if before[name] != value]


def refuse_half(run: Path, content: Mapping[str, Any], settings: Settings) -> None:
    """Raise ConfigError if config.yaml lacks settings of the run that are not the defaults: it was cut."""
    recorded = content["settings"] or {}  # older runs have none
    changed = changed_settings(recorded, settings)
    lost = {name: old for name, old, _ in changed if name in recorded and not settings.origin(name)}
    if lost:
        raise ConfigError(
            f"{run}/config.yaml lacks {plural(len(lost), 'setting')} of the run, whose defaults differ.",
            details=[("lacks", flow({name: value})[1:-1]) for name, value in lost.items()],
            expected="the file that mslab wrote, which has every setting",
            fix="put back config.yaml, from a copy of the run; or write these lines at its end",
        )


def has_bytes_of(path: Path, digest: str, settings: Settings) -> bool:
    """Whether a config.yaml is the one with this sha256, but for what an editor adds: line ends, a mark, comments."""
    texts = [dump_config(settings).encode()]
    try:
        texts += [files.read_bytes(path), files.read_text(path).encode()]
    except (OSError, ValueError):
        return False
    return digest in [hashlib.sha256(text).hexdigest() for text in texts]
