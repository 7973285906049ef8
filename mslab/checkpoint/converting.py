"""`mslab convert`: convert a ResNet's weights from one project's format to another's."""

from pathlib import Path

from mslab.checkpoint import dialects, reading, writing
from mslab.checkpoint.reading import NO_CHOICE, Choice
from mslab.config import IMAGENET
from mslab.errors import CheckpointError
from mslab.escaping import quoted
from mslab.files import kind_of


def convert(source: str | Path, target: str | Path, choice: Choice = NO_CHOICE) -> list[str]:
    """Write `source` as `target`: .ckpt with mslab's names, .safetensors with torchvision's and timm's.

    Returns lines that report what was done. Values are unchanged, except that half and double precision become single.
    Raises CheckpointError if the conversion is impossible or `target` exists.
    """
    target = Path(target)
    weights = reading.read(source, choice)
    if target.suffix not in (".ckpt", ".safetensors"):
        raise CheckpointError(
            f"mslab cannot write {target}: {target.suffix or 'a name without suffix'} is not one of its formats.",
            expected=".ckpt (mslab's names) or .safetensors (torchvision's and timm's)",
            fix=f"--to {quoted(target.with_suffix('.safetensors'))}",
        )
    exists = bool(kind_of(target))
    if exists or kind_of(target.absolute().parent, links=True) != "a folder":
        raise CheckpointError(
            f"{target} already exists." if exists else f"There is no folder {target.parent}.",
            expected="a new file in an existing folder; nothing is overwritten",
            fix="choose another name, or move the file away",
        )
    weights.check()
    if weights.mindcv and target.suffix == ".safetensors":
        raise CheckpointError(
            f"{weights.path} is of {weights.mindcv}: torchvision's names are known of ResNets only.",
            expected=".ckpt, with mindcv's names",
            fix=f"--to {quoted(target.with_suffix('.ckpt'))}",
        )
    info = IMAGENET | weights.info | weights.network.record()
    tensors = weights.backbone | weights.head
    lines = [f"{weights.path}: {weights.describe()}"]
    if target.suffix == ".ckpt":
        writing.save_arrays(tensors, target, info)
        names = "mindcv" if weights.mindcv else "mslab"
        lines.append(f"{target}: {len(tensors)} tensors with {names}'s names")
        return lines
    renamed = dialects.to_torch(tensors)
    writing.save_safetensors(renamed, target, info)
    lines.append(f"{target}: {len(renamed)} tensors with torchvision's names")
    differs = {
        key: value for key, value in weights.profile.items() if key != "block" and value != dialects.PROFILE[key]
    }
    differs |= {"head_hidden": weights.hidden} if weights.hidden else {}
    if differs:
        lines.append(
            f"note: this network is built with {', '.join(f'{k}: {v}' for k, v in differs.items())}; torchvision's is "
            "not, and would give other results with these weights. The file's metadata records this"
        )
    return lines
