"""Entry for ModelArts jobs: python -m mslab.modelarts --data_url D --train_url OUT [--checkpoint_url FILE] ...

ModelArts passes each hyper-parameter as --NAME=VALUE, with the names of mslab's settings. The run folder is created in
OUT/runs; the same OUT with the same settings continues an unfinished run. Several machines are described by environment
variables, as ModelArts and Volcano set them.
"""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mslab import files
from mslab.check import packed
from mslab.errors import ConfigError, DatasetError, MslabError
from mslab.escaping import command, escape_control

log = logging.getLogger("mslab")
CONFIG = "modelarts.yaml"
OWN = ("data_url", "train_url", "checkpoint_url")


def translate(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> tuple[Path, str, list[str]]:
    """(the folder to run in, the config's text, mslab's command line). Raises ConfigError that lists every problem."""
    # translate(["--data_url=/d", "--train_url", "/out", "--epochs=3"], {})
    #   -> ("/out", "train_data: /d/train\nval_data: /d/val\nclass_num: 9\nepochs: 3\n", ["train", "modelarts.yaml"])
    options, problems = _parse_options(arguments)
    problems += [(f"--{name}", "is missing") for name in OWN[:2] if name not in options]
    for name in OWN:
        if "://" in options.get(name, ""):
            problems.append((f"--{name}", f"{options[name]} is not a local folder; let ModelArts copy it here"))
    if problems:
        raise ConfigError(
            "The command line is not a ModelArts command line.",
            details=problems,
            expected="--data_url FOLDER --train_url FOLDER [--checkpoint_url FILE] [--NAME=VALUE ...]",
            fix="name the inputs data_url and checkpoint_url and the output train_url in the training job",
        )
    out = Path(options["train_url"]).resolve()
    settings = _data(Path(options["data_url"]).resolve(), options) | {k: v for k, v in options.items() if k not in OWN}
    text = "".join(f"{key}: {value}\n" for key, value in settings.items())
    hosts = [host for host in environ.get("VC_WORKER_HOSTS", "").split(",") if host] or [""]
    rank, workers = environ.get("VC_TASK_INDEX", "0"), len(hosts) * int(environ.get("MA_NUM_GPUS", "1"))
    command = ["train", CONFIG if rank == "0" else f"modelarts-{rank}.yaml"]  # each machine writes its own
    if "checkpoint_url" in options:
        command = ["transfer", command[1], "--backbone", str(Path(options["checkpoint_url"]).resolve())]
    if rank == "0" and (run := unfinished(out, text)):
        log.info("continuing %s: unfinished, with the same settings; another --train_url starts a new run", run)
        command = ["train", "--resume", str(run)]
    if workers > 1:
        command += ["--workers", str(workers)]
    if len(hosts) > 1:
        command += ["--nodes", str(len(hosts)), "--node-rank", rank, "--master", hosts[0]]
    return out, text, command


def unfinished(out: Path, text: str) -> Path | None:
    """The newest run under `out` if it is unfinished and was started with this config, else None."""
    config, runs = out / CONFIG, sorted(out.glob("runs/modelarts-*/manifest.json"))
    if not runs or not config.is_file() or config.read_text(encoding="utf-8") != text:
        return None
    status = files.read_json(runs[-1])["status"]
    return None if status == "done" else runs[-1].parent.relative_to(out)


def _parse_options(arguments: Sequence[str]) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """({name: value} of --name=value and --name value, problems with other arguments)."""
    options: dict[str, str] = {}
    problems, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        if not name.startswith("--") or (not equals and (not rest or rest[0].startswith("--"))):
            problems.append((argument, "is not --NAME=VALUE"))
        else:
            options[name[2:]] = value if equals else rest.pop(0)
    return options, problems


def _data(root: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """The settings train_data and val_data, and class_num if `settings` lack it. Raises DatasetError."""
    if not (root / "train").is_dir() or not (root / "val").is_dir():
        raise DatasetError(
            f"{root} has no train/ and val/.",
            expected="a data set with a folder of class folders for each split",
            fix=f"{command('data', 'split', root)}    and pass the folder that it makes as --data_url",
        )
    data = {"train_data": str(root / "train"), "val_data": str(root / "val")}
    if "class_num" not in settings:
        split = root / "train"
        classes = (
            packed.read(split).class_names if packed.is_pack(split) else [p for p in split.iterdir() if p.is_dir()]
        )
        data["class_num"] = str(len(classes))
    return data


def main(arguments: Sequence[str]) -> None:
    """Write the config to the output folder, change to that folder and run mslab's command line there."""
    from mslab.cli import app
    from mslab.files import write_text

    try:
        out, text, command = translate(arguments)
        out.mkdir(parents=True, exist_ok=True)
        if command[1] != "--resume":
            write_text(out / command[1], text)
    except MslabError as error:
        print(escape_control(f"{type(error).__name__}: {error}"), file=sys.stderr)
        sys.exit(1)
    os.chdir(out)
    app(command)


if __name__ == "__main__":
    main(sys.argv[1:])
