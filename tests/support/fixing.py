"""Messages provoked with real input, and what each of them says to do instead."""

import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from helpers import cli, draw, overrides, settings

# {run}, {best}, {backbone}: a trained run and its files; x.yaml trains three classes, y.yaml has two and no stages.
# (command, what its fix says, the command with it)
QUICK = [
    ("convert {best} --to x.pt", "--to x.safetensors", "convert {best} --to x.safetensors"),
    ("convert {best} --to a.ckpt --dialect no", "leave --dialect out", "convert {best} --to a.ckpt"),
    ("convert {best} --to a.ckpt", "use another name", "convert {best} --to b.ckpt"),
    ("new three", "mslab new three-2", "new lab"),
    ("new lab", "mslab new lab-2", "new lab-2"),
    ("data split images --val 0.6 --test 0.6", "use --val 0.2, or --val", "data split images --val 0.2"),
    ("show x.yaml freeze_layer_pattern=no", "mslab show CONFIG marks", "show x.yaml"),
    ("show no.yaml", "one of x.yaml, y.yaml", "show x.yaml"),
    ("pack {run} {run} --out me.zip", "nine=RUN two=RUN", "pack nine={run} two={run} --out me.zip"),
    ("archive {run} --out me.zip", "use another name", "archive {run} --out other.zip"),
    ("verify no", "one of {run}", "verify {run}"),
    ("reproduce {run} --with {run} lr_max=1", "leave KEY=VALUE", "reproduce {run} --with {run}"),
    ("transfer y.yaml --backbone {run} --compare scratch freeze=all", "leave freeze out, or --compare", ""),
    ("transfer y.yaml --backbone {run} --compare scratch max_training_time=1", "max_training_time=null", ""),
    ("repeat x.yaml max_training_time=1", "max_training_time=null", ""),
    ("sweep x.yaml --space space.yaml --budget 5", "--budget 90s, 30m, 2h or 1.5h", ""),
    ("sweep x.yaml --space no.yaml", "one of space.yaml", ""),
    ("sweep x.yaml --space space.yaml --storage no", "leave it out: SQLite", ""),
]
ONLY = r"transfer y.yaml --backbone {best} --only '^(conv1|bn1|layer1)\.'"
# these train, export or evaluate
SLOW = [
    ("export {run} --format onnx --out x.mindir", "--out x.onnx", "export {run} --format onnx --out x.onnx"),
    ("predict {run}/no.mindir images", "mslab export", "export {run} --format mindir --out {run}/no.mindir"),
    ("predict no.onnx images", "use one of x.onnx", "predict x.onnx images"),
    ("train x.yaml batch_size=64", "batch_size=12", "train x.yaml batch_size=12"),
    ("train x.yaml class_num=4", "class_num=3", "train x.yaml class_num=3"),
    ("train x.yaml amp_level=O2", "amp_level=O0", "train x.yaml amp_level=O0"),
    ("train x.yaml sync_bn=true", "or leave sync_bn out", "train x.yaml"),
    ("train y.yaml freeze=all", "mslab transfer CONFIG --backbone", "transfer y.yaml freeze=all --backbone {backbone}"),
    ("train y.yaml --from {backbone}", "mslab transfer CONFIG --backbone", "transfer y.yaml --backbone {backbone}"),
    ("train y.yaml --from {best} head_hidden=8", "head_hidden=0", "train y.yaml --from {best} head_hidden=0"),
    ("transfer y.yaml --backbone {best} stages=[[1,9,1]]", "stages=null", "transfer y.yaml --backbone {best}"),
    ("transfer y.yaml --backbone {best} --only no", "'^(conv1|bn1|layer1)\\.'", ONLY),
    ("eval {backbone} --data three/val", "use the best.ckpt beside it", "eval {best} --data three/val"),
    ("predict images {run}", "mslab predict {run} images", "predict {run} images"),
    ("train {run}", "mslab train --resume {run}    continues it", "train --resume {run}"),
    ("train {run}", "mslab train {run}/config.yaml    begins another", "train {run}/config.yaml"),
    ("train {best}", "mslab train x.yaml --from {best}", "train x.yaml --from {best}"),
    ("train {backbone}", "mslab transfer x.yaml --backbone {backbone}", "transfer y.yaml --backbone {backbone}"),
    ("verify x.yaml", "mslab train x.yaml    begins a run", "train x.yaml"),
    ("train --resume no", "one of runs/", "train --resume {run}"),
    ("reproduce-all no", "mslab reproduce-all --fastest", ""),
    ("train x.yaml device=gpu", "mslab doctor shows more", ""),
    ("serve {run} --port 1 --host 203.0.113.1", "leave out --host and --port", ""),
]  # fmt: skip


def prepare(run: Path) -> dict[str, str]:
    """Make the files that the cases name in the current folder. Returns the placeholders."""
    for name, classes in (("three", ["a", "b", "c"]), ("two", ["a", "b"])):
        for seed, split in enumerate(("train", "val")):
            draw(Path(name) / split, classes, 8, seed)
        config = settings(Path(name), len(classes), epochs=1, warmup_epochs=0)
        config.pop("lr_init")
        if name == "two":
            config.pop("stages")
        text = "\n".join(overrides(config)).replace("=", ": ")
        Path({"three": "x.yaml", "two": "y.yaml"}[name]).write_text(text, encoding="utf-8")
    Path("space.yaml").write_text("flip: [true, false]\n", encoding="utf-8")
    draw(Path("images"), ["a", "b"], 8)
    checkpoints = run / "checkpoints"
    places = {"run": run, "best": checkpoints / "best.ckpt", "backbone": checkpoints / "best_backbone.ckpt"}
    return {name: str(place) for name, place in places.items()}


def check(cases: Sequence[tuple[str, str, str]], places: dict[str, str]) -> None:
    """Provoke every message; run the command that it shows, if it is one, in bash; then the corrected command works."""
    for wrong, fix, right in cases:
        fix = fix.format(**places) if "{" in fix else fix
        done = cli(*shlex.split(wrong.format(**places)), env={"COLUMNS": "250"})
        shown = [line for line in done.stderr.splitlines() if fix in line]
        assert done.returncode == 1 and shown and "  fix  " in done.stderr, (wrong, done.stderr)
        if fix.startswith(("mkdir", "chmod")):
            subprocess.run(["bash", "-c", fix], check=True)
        if fix.startswith("mslab convert"):
            assert cli(*shlex.split(fix)[1:]).returncode == 0, fix
        if right:
            words = shlex.split(right.format(**places))
            words += ["--no-report"] * (words[0] in ("train", "transfer"))
            done = cli(*words, env={"COLUMNS": "250"})
            assert done.returncode == 0, (right, done.stdout, done.stderr)
