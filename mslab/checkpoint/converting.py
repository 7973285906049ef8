"""`mslab convert`: weights of one project's ResNet -> a file of another's."""

from pathlib import Path

from mslab.checkpoint import dialects, reading, writing
from mslab.config import IMAGENET
from mslab.errors import CheckpointError


def convert(source: str | Path, target: str | Path, dialect: str | None = None) -> list[str]:
    """Write `source` as `target`: .ckpt in the kit's names, .safetensors in torchvision's and timm's.

    Returns lines that say what was done. The numbers are not touched, but for half and double precision, which become
    single. Raises CheckpointError where that cannot be done, or `target` exists.
    """
    target = Path(target)
    if dialect is not None and dialect not in dialects.NAMES:
        raise CheckpointError(
            f"{dialect!r} is no known project.", expected=", ".join(dialects.NAMES), fix="leave --dialect out"
        )
    weights = reading.read(source, dialect)
    if target.suffix not in (".ckpt", ".safetensors"):
        raise CheckpointError(
            f"{target} would be a {target.suffix or 'nameless'} file.",
            expected=".ckpt (the kit's names) or .safetensors (torchvision's and timm's)",
            fix=f"--to {target.with_suffix('.safetensors')}",
        )
    if target.exists() or not target.absolute().parent.is_dir():
        raise CheckpointError(
            f"{target} is there already." if target.exists() else f"There is no folder {target.parent}.",
            expected="a new file in a folder that exists; nothing is overwritten",
            fix="give another name, or move the file away",
        )
    weights.check()
    info = IMAGENET | weights.info | {"stages": weights.stages, "profile": weights.profile}
    tensors = weights.backbone | weights.head
    lines = [f"{weights.path}: {weights.describe()}"]
    if target.suffix == ".ckpt":
        writing.save_arrays(tensors, target, info)
        lines.append(f"{target}: {len(tensors)} tensors in the kit's names")
        return lines
    renamed = dialects.to_torch(tensors)
    writing.save_safetensors(renamed, target, info)
    lines.append(f"{target}: {len(renamed)} tensors in torchvision's names")
    differs = {key: value for key, value in weights.profile.items() if key != "block" and value != dialects.OWN[key]}
    differs |= {"head_hidden": weights.hidden} if weights.hidden else {}
    if differs:
        lines.append(
            f"note: this network is built with {', '.join(f'{k}: {v}' for k, v in differs.items())}; torchvision's is "
            "not, and would give other answers with these weights. The file's metadata tell it"
        )
    return lines
