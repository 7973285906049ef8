"""ModelArts' way to start a job: python -m mslab.modelarts --data_url D --train_url OUT [--checkpoint_url FILE] ...

ModelArts hands every hyper-parameter over as --NAME=VALUE; those are mslab's settings, under its names. The run folder
comes to be under OUT/runs; the same OUT with the same settings again goes on with a run that did not end. Several
machines are told by the environment, as ModelArts and Volcano set it.
"""

import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mslab.check import packed
from mslab.errors import ConfigError, DatasetError, MslabError

log = logging.getLogger("mslab")
CONFIG = "modelarts.yaml"
OWN = ("data_url", "train_url", "checkpoint_url")


def translate(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> tuple[Path, str, list[str]]:
    """(the folder to run in, the config's text, mslab's command line). Raises ConfigError that lists every problem."""
    # translate(["--data_url=/d", "--train_url", "/out", "--epochs=3"], {})
    #   -> ("/out", "train_data: /d/train\nval_data: /d/val\nclass_num: 9\nepochs: 3\n", ["train", "modelarts.yaml"])
    given, problems = _pairs(arguments)
    problems += [(f"--{name}", "is missing") for name in OWN[:2] if name not in given]
    for name in OWN:
        if "://" in given.get(name, ""):
            problems.append((f"--{name}", f"{given[name]} is no folder of this machine; let ModelArts copy it here"))
    if problems:
        raise ConfigError(
            "The command line is not one of ModelArts.",
            details=problems,
            expected="--data_url FOLDER --train_url FOLDER [--checkpoint_url FILE] [--NAME=VALUE ...]",
            fix="name the inputs data_url and checkpoint_url and the output train_url in the training job",
        )
    out = Path(given["train_url"]).resolve()
    settings = _data(Path(given["data_url"]).resolve(), given) | {k: v for k, v in given.items() if k not in OWN}
    text = "".join(f"{key}: {value}\n" for key, value in settings.items())
    hosts = [host for host in environ.get("VC_WORKER_HOSTS", "").split(",") if host] or [""]
    rank, workers = environ.get("VC_TASK_INDEX", "0"), len(hosts) * int(environ.get("MA_NUM_GPUS", "1"))
    words = ["train", CONFIG if rank == "0" else f"modelarts-{rank}.yaml"]  # each machine writes one of its own
    if "checkpoint_url" in given:
        words = ["transfer", words[1], "--backbone", str(Path(given["checkpoint_url"]).resolve())]
    if rank == "0" and (begun := unfinished(out, text)):
        log.info("%s has not ended and had the same settings: it goes on; another --train_url begins anew", begun)
        words = ["train", "--resume", str(begun)]
    if workers > 1:
        words += ["--workers", str(workers)]
    if len(hosts) > 1:
        words += ["--nodes", str(len(hosts)), "--node-rank", rank, "--master", hosts[0]]
    return out, text, words


def unfinished(out: Path, text: str) -> Path | None:
    """The newest run under `out` that has not ended, if it began with this config."""
    config, runs = out / CONFIG, sorted(out.glob("runs/modelarts-*/manifest.json"))
    if not runs or not config.is_file() or config.read_text(encoding="utf-8") != text:
        return None
    status = json.loads(runs[-1].read_text(encoding="utf-8"))["status"]
    return None if status == "done" else runs[-1].parent.relative_to(out)


def _pairs(arguments: Sequence[str]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """--name=value and --name value, as a table; and what is neither."""
    given: dict[str, str] = {}
    problems, rest = [], list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.partition("=")
        if not name.startswith("--") or (not equals and (not rest or rest[0].startswith("--"))):
            problems.append((word, "is no --NAME=VALUE"))
        else:
            given[name[2:]] = value if equals else rest.pop(0)
    return given, problems


def _data(root: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """Where the splits are, and how many classes, where that is not said."""
    if not (root / "train").is_dir() or not (root / "val").is_dir():
        raise DatasetError(
            f"{root} has no train/ and val/.",
            expected="a data set with a folder of class folders for each split",
            fix=f"mslab data split {root}, and give the folder that it makes as --data_url",
        )
    found = {"train_data": str(root / "train"), "val_data": str(root / "val")}
    if "class_num" not in settings:
        split = root / "train"
        classes = (
            packed.read(split).class_names if packed.is_pack(split) else [p for p in split.iterdir() if p.is_dir()]
        )
        found["class_num"] = str(len(classes))
    return found


def main(arguments: Sequence[str]) -> None:
    """Write the config to the output folder, go there, and do what mslab's command line does."""
    from mslab.checkpoint import write_text
    from mslab.cli import app

    try:
        out, text, words = translate(arguments)
        out.mkdir(parents=True, exist_ok=True)
        if words[1] != "--resume":
            write_text(out / words[1], text)
    except MslabError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    os.chdir(out)
    app(words)


if __name__ == "__main__":
    main(sys.argv[1:])
