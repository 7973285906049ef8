"""Entry for jobs of ModelArts, OpenI (c2net) and the like: python -m mslab.modelarts --data_url D --train_url OUT …

The platform passes each hyper-parameter as --NAME=VALUE, with the names of mslab's settings, and arguments of its own:
those that name data, weights, devices or machines are translated, the others are left alone. The run folder is created
in OUT/runs; the same OUT with the same settings continues an unfinished run. Several machines are described by
environment variables, as ModelArts and Volcano set them, or by --init_method, --rank and --world_size.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mslab import files
from mslab.check import packed
from mslab.check.cache import default_path
from mslab.check.levels import misplaced
from mslab.check.scan import Folders, is_leftover, scan
from mslab.check.splits import Layout, find_splits, split_names, subfolders
from mslab.config import loading
from mslab.config.schema import FIELDS
from mslab.errors import ConfigError, DatasetError, MslabError
from mslab.escaping import command, escape_control
from mslab.files import FormatError
from mslab.safe_yaml import parse_yaml

log = logging.getLogger("mslab")
CONFIG = "modelarts.yaml"
# what mslab needs -> the platforms' names for it; the first one with a value that is on this machine counts
NAMES = {
    "data_url": ("data_url", "multi_data_url", "data_path", "data_dir", "dataset_path"),
    "train_url": ("train_url", "output_path", "output_url", "output_dir"),
    "checkpoint_url": ("checkpoint_url", "ckpt_url", "pretrain_url", "ckpt_path", "pretrained_url"),
    "devices": ("num_gpus", "num_npus", "device_num"),
    "device": ("device_target",),
    "machines": ("world_size",),
    "rank": ("rank",),
    "master": ("init_method",),
}
NEEDED = ("data_url", "train_url")
# names that only concern the platform itself; so do unknown ones that end in _url
PLATFORM = re.compile(
    r"(grampus|openi|c2net|ma|vc|modelarts)_.*|.*_url|code_name|boot_file|boot_file_url|ckpt_dir|train_dir|log_dir|"
    r"(enable|is|run|use)_(modelarts|qizhi|zhisuan|openi|c2net|cloud)|(run_|is_)?distributed?|context_mode|"
    r"device_id|rank_id|rank_size|rank_table_file|parallel_mode|job_(id|name)|local_rank|node_rank"
)
# where OpenI puts data sets and weights if its arguments name them by their address in a bucket
MOUNTED = {"data_url": ("/cache/dataset", "/cache/data", "/tmp/dataset", "/dataset")}
MOUNTED |= {"checkpoint_url": ("/cache/pretrain", "/cache/pretrainmodel", "/tmp/pretrainmodel", "/pretrainmodel")}
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
WEIGHTS = (".ckpt", ".safetensors", ".pth", ".pt", ".onnx")
Problem = tuple[str, str]


def translate(arguments: Sequence[str], environ: Mapping[str, str] = os.environ) -> tuple[Path, str, list[str]]:
    """(the folder to run in, the config's text, mslab's command line). Raises ConfigError that lists every problem."""
    # translate(["--data_url=/d", "--train_url", "/out", "--epochs=3"], {})
    #   -> ("/out", "train_data: /d/train\nval_data: /d/val\nclass_num: 9\nepochs: 3\n", ["train", "modelarts.yaml"])
    options, problems = _parse_options(arguments)
    own, settings = _sort(options)
    places = {name: _places(name, own, problems) for name in ("data_url", "train_url", "checkpoint_url")}
    named = {name.lstrip("-") for name, _ in problems}
    problems += [(f"--{name}", "is missing") for name in NEEDED if not places[name] and not named & set(NAMES[name])]
    hosts, rank, workers = _machines(own, environ, problems)
    if problems:
        raise ConfigError(
            "The command line is not a ModelArts command line.",
            details=problems,
            expected="--data_url FOLDER --train_url FOLDER [--checkpoint_url FILE] [--NAME=VALUE ...]",
            fix="name the inputs data_url and checkpoint_url and the output train_url in the training job"
            + "; on OpenI pass dataset_path and output_path of c2net.context.prepare()" * ("://" in str(problems)),
        )
    out = places["train_url"][0]
    if own.get("device") and "device" not in settings:
        settings["device"] = own["device"]["device_target"].lower()  # Ascend, GPU or CPU
    text = "".join(_line(*row) for row in (_data(places["data_url"], settings) | settings).items())
    job = ["train", CONFIG if rank == "0" else f"modelarts-{rank}.yaml"]  # each machine writes its own
    if places["checkpoint_url"]:
        job = ["transfer", job[1], "--backbone", str(_weights(places["checkpoint_url"][0]))]
    if rank == "0" and (run := unfinished(out, text)):
        log.info("continuing %s: unfinished, with the same settings; another --train_url starts a new run", run)
        job = ["train", "--resume", str(run)]
    if workers > 1:
        job += ["--workers", str(workers)]
    if len(hosts) > 1:
        job += ["--nodes", str(len(hosts)), "--node-rank", rank, "--master", hosts[0]]
    return out, text, job


def unfinished(out: Path, text: str) -> Path | None:
    """The newest run under `out` if it is unfinished and was started with this config, else None."""
    config, runs = out / CONFIG, sorted(out.glob("runs/modelarts-*/manifest.json"))
    if not runs or not config.is_file() or config.read_text(encoding="utf-8") != text:
        return None
    status = files.read_json(runs[-1])["status"]
    return None if status == "done" else runs[-1].parent.relative_to(out)


# --- arguments -------------------------------------------------------------------------------------------------------


def _parse_options(arguments: Sequence[str]) -> tuple[dict[str, str], list[Problem]]:
    """({name: value} of --name=value and --name value, problems with other arguments). Empty values are left out."""
    options: dict[str, str] = {}
    problems, rest = [], list(arguments)
    while rest:
        argument = rest.pop(0)
        name, equals, value = argument.partition("=")
        if not name.startswith("--") or (not equals and (not rest or rest[0].startswith("--"))):
            problems.append((argument, "is not --NAME=VALUE"))
            continue
        name, value = name.lstrip("-").replace("-", "_"), (value if equals else rest.pop(0)).strip()
        options.pop(name, None)
        if value:
            options[name] = value
    return options, problems


def _sort(options: Mapping[str, str]) -> tuple[dict[str, dict[str, str]], dict[str, str]]:
    """({key of NAMES: {the platform's name: value}}, settings). Logs which arguments are left alone."""
    own: dict[str, dict[str, str]] = {}
    for key, names in NAMES.items():
        values = {name: _unquoted(options[name]) for name in names if name in options}
        values = {name: value for name, value in values.items() if value.lower() not in ("", "none", "null")}
        if values:
            own[key] = values
    known = {name for names in NAMES.values() for name in names}
    rest = {name: value for name, value in options.items() if name not in known}
    left = [f"--{name}" for name in rest if name not in FIELDS and PLATFORM.fullmatch(name.lower())]
    if left:
        log.info("note: left alone, since they concern only the platform: %s", ", ".join(left))
    return own, {name: value for name, value in rest.items() if f"--{name}" not in left}


def _unquoted(value: str) -> str:
    """The value without quotation marks that no shell took away."""
    return value[1:-1].strip() if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value


def _line(name: str, value: str) -> str:
    """One line of YAML. A value keeps its own spelling if it means the same there, and becomes a quoted text if not."""
    # _line("epochs", "3") -> "epochs: 3\n"; _line("train_data", "/d #1") -> 'train_data: "/d #1"\n'
    try:
        alone = parse_yaml(value)
        wanted = value if isinstance(alone, str) and value[0] not in "'\"" else alone
        if parse_yaml(f"{name}: {value}\n") == {name: wanted}:
            return f"{name}: {value}\n"
    except FormatError:
        wanted = value
    return f"{json.dumps(name) if ':' in name else name}: {json.dumps(wanted, ensure_ascii=False)}\n"


def _machines(
    own: Mapping[str, Mapping[str, str]], environ: Mapping[str, str], problems: list[Problem]
) -> tuple[list[str], str, int]:
    """(the machines, the first is the master; the number of this one; workers on all of them together)."""

    def number(key: str, variables: Sequence[str], default: int) -> int:
        given = [(f"--{name}", value) for name, value in own.get(key, {}).items()]
        given += [(name, environ[name]) for name in variables if environ.get(name)]
        for name, value in given:
            if value.strip().isdigit():
                return int(value)
            problems.append((name, f"{value} is not a number"))
        return default

    hosts = [host.strip() for host in environ.get("VC_WORKER_HOSTS", "").split(",") if host.strip()]
    master = next(iter(own.get("master", {}).values()), "").rpartition("://")[2]
    count, rank = number("machines", [], 1), number("rank", ["VC_TASK_INDEX"], 0)
    if not hosts and count > 1 and not master:
        log.info("note: --world_size and --rank are left alone: no --init_method names the first machine")
        count = rank = 0
    hosts = hosts or [master] * max(count, 1)
    together = number("", ["RANK_SIZE"], len(hosts))
    devices = number("devices", ["MA_NUM_GPUS"], together // len(hosts))
    return hosts, str(rank), len(hosts) * max(devices, 1)


# --- data and weights ------------------------------------------------------------------------------------------------


def _places(key: str, own: Mapping[str, Mapping[str, str]], problems: list[Problem]) -> list[Path]:
    """The local paths of the first argument that has some; adds a problem if all are elsewhere."""
    elsewhere = []
    for name, value in own.get(key, {}).items():
        entries = _entries(value)
        paths = [path for entry in entries if (path := _local(key, entry))]
        if len(paths) == len(entries) and (paths or value.startswith("[")):
            return paths
        elsewhere.append((f"--{name}", f"{value} is not a local folder; let ModelArts copy it here"))
    problems += elsewhere
    return []


def _entries(value: str) -> list[dict[str, str]]:
    """OpenI's JSON list of {"dataset_url", "dataset_name", "containerPath"} or {"model_url", …}, or one plain path."""
    if value[0] in "[{":
        try:
            parsed = files.parse_json(value, 10_000)
        except FormatError:
            parsed = None
        rows = parsed if isinstance(parsed, list) else [parsed]
        rows = [row if isinstance(row, dict) else {"dataset_url": row} for row in rows]
        return [{key: text for key, text in row.items() if isinstance(text, str) and text} for row in rows]
    return [{"dataset_url": value}]


def _local(key: str, entry: Mapping[str, str]) -> Path | None:
    """Where this entry is on this machine, or None."""
    url = entry.get("dataset_url") or entry.get("model_url") or ""
    mounted = entry.get("containerPath", "")
    name = entry.get("dataset_name") or entry.get("model_name") or ""
    candidates = [Path(mounted), Path(mounted).with_suffix("")] if mounted else []
    candidates += [Path(place) / own for own in (name, _stem(name)) if name for place in MOUNTED.get(key, ())]
    found = next((path for path in candidates if path.exists()), None)
    if found is None and url and "://" not in url:
        found = Path(url.removeprefix("file:"))
    return found.resolve() if found else None


def _stem(name: str) -> str:
    """The name of an archive's folder: "a.b.tar.gz" -> "a.b"."""
    return next((name[: -len(end)] for end in ARCHIVES if name.lower().endswith(end)), name)


def _weights(path: Path) -> Path:
    """The only file of weights in a folder; other paths as they are."""
    inside = [file for file in path.glob("*") if file.suffix in WEIGHTS] if path.is_dir() else []
    return inside[0] if len(inside) == 1 else path


def _data(places: Sequence[Path], settings: Mapping[str, str]) -> dict[str, str]:
    """The settings train_data and val_data, and class_num if `settings` lack it. Raises DatasetError."""
    splits = dict(_splits(places))
    if "val" not in splits and {"train", "test"} <= splits.keys():
        log.info("note: there is no val: %s is used as val_data, so it chooses the best checkpoint", splits["test"])
        splits["val"] = splits["test"]
    if not {"train", "val"} <= splits.keys():
        raise _no_splits(places[0], splits)
    data = {"train_data": str(splits["train"]), "val_data": str(splits["val"])}
    if "class_num" not in settings:
        split = splits["train"]
        names = packed.read(split).class_names if packed.is_pack(split) else subfolders(split)
        data["class_num"] = str(_chosen(settings) or len(names))
    if "ignore" not in settings and (left := _leftovers([splits["train"], splits["val"]])):
        log.info("note: left out with the setting ignore, since tools leave them behind: %s", ", ".join(left))
        data["ignore"] = json.dumps(left, ensure_ascii=False)
    return data


def _chosen(settings: Mapping[str, str]) -> int:
    """The number of classes that `classes` or else `merge` makes; 0 without them."""
    for name in ("classes", "merge"):
        try:
            value = parse_yaml(settings.get(name, ""))
        except FormatError:  # load_settings says what is wrong with it
            return 0
        if isinstance(value, list | dict) and value:
            return len(value)
    return 0


def _no_splits(place: Path, splits: Mapping[str, Path]) -> DatasetError:
    """The error of a data set without training or validation images, with what the check finds in it."""
    whole = next(iter(splits.values())) if len(splits) == 1 else place
    problem, fix, instead = misplaced(scan("", whole, "", Folders(whole)))
    fix = f"name one of them: {', '.join(map(str, instead))}" if instead else fix
    if not subfolders(whole):
        fix = "put the data set into the folder that the training job passes as --data_url"
    elif len(splits) > 1:
        problem, fix = "", "add the folder of the training images, train/, before the upload"
    elif problem:
        fix = f"{fix}; do that before the upload"
    else:
        left = [word for name in _leftovers([whole]) for word in ("--ignore", name)]
        fix = f"{command('data', 'split', whole, *left)}    and pass the folder that it makes as --data_url"
    return DatasetError(
        f"{place} has no train/ and val/{f': {whole} {problem}' if problem else ''}.",
        details=[("found", ", ".join(sorted(path.name for path in place.glob("*"))[:8]) or "nothing")],
        expected="a data set with a folder of class folders for each split, or an archive of one",
        fix=fix,
    )


def _leftovers(splits: Sequence[Path]) -> list[str]:
    """Names of the folders in splits and classes that tools left behind: on a platform nobody can move them away."""
    classes = {split: subfolders(split) for split in splits if not packed.is_pack(split)}
    folders = [folder for split, names in classes.items() for folder in (split, *(split / name for name in names))]
    inside = [folder / name for folder in folders for name in next(os.walk(folder), ("", [], []))[1]]
    return sorted(
        {path.name for path in inside if is_leftover(path)} - {n for names in classes.values() for n in names}
    )


def _splits(places: Sequence[Path]) -> dict[str, Path]:
    """{split: folder of its classes} of one place, or of several that are splits by their names."""
    if len(places) > 1:
        named = split_names([_stem(place.name) for place in places])
        if len(set(named.values())) != len(places):
            raise DatasetError(
                f"The job has {len(places)} data sets: {', '.join(place.name for place in places)}.",
                expected="one data set, or one for each split, named train, val and test",
                fix="choose one data set in the training job",
            )
        layouts = {named[_stem(place.name)]: _layout(place) for place in places}
        return {split: next(iter(layout.splits.values())) for split, layout in layouts.items()}
    found = _layout(places[0])
    if found.again:
        both = ", ".join(f"{found.spelled[split]} and {name}" for name, split in found.again.items())
        raise DatasetError(
            f"{found.folder} has two folders for one split: {both}.",
            expected="one folder for each split",
            fix="merge them, or rename one, and pass the data set again",
        )
    return found.splits


def _layout(place: Path) -> Layout:
    """What a folder or an archive contains; a folder with nothing but archives in it stands for these."""
    if not place.exists():
        raise DatasetError(
            f"There is no folder {place}.",
            expected="the data set that the training job copies to this machine",
            fix="correct --data_url, or the data set in the training job",
        )
    if place.is_file():
        return find_splits(_unpacked(place))
    found = find_splits(place)
    inside = sorted(path for path in place.iterdir() if path.name.lower().endswith(ARCHIVES))
    if "" not in found.splits or subfolders(found.folder) or not inside:
        return found
    if len(inside) == 1:
        return find_splits(_unpacked(inside[0]))
    return Layout(place, _splits(inside))


def _unpacked(archive: Path) -> Path:
    """The folder of the archive's images, unpacked once: its name depends on the content alone."""
    from mslab.data.unpacking import import_archive

    out = default_path().parent / "unpacked" / f"{_stem(archive.name)}-{files.sha256(archive)[:16]}"
    if not out.is_dir():
        log.info(str(import_archive(archive, out)))
    return out


def arguments_of(arguments: Sequence[str]) -> dict[str, str]:
    """The argument behind each setting of the config that is written here, for messages about it."""
    # arguments_of(["--data_url=/d", "--epochs=3"]) -> {"train_data": "--data_url", …, "epochs": "--epochs"}
    options, _ = _parse_options(arguments)
    data = next((name for name in NAMES["data_url"] if name in options), "data_url")
    target = {"device": "--device_target"} if "device_target" in options else {}
    derived = dict.fromkeys(("train_data", "val_data", "class_num", "ignore"), f"--{data}")
    return derived | target | {name: f"--{name}" for name in options}


def main(arguments: Sequence[str]) -> None:
    """Write the config to the output folder, change to that folder and run mslab's command line there."""
    from mslab.cli import app
    from mslab.files import write_text

    rank, machine = (os.environ.get(name, "") for name in ("RANK_ID", "MA_NUM_GPUS"))
    if rank.isdigit() and int(rank) % (int(machine) if machine.isdigit() and int(machine) else 2**31):
        print(f"note: process {rank} of this job has nothing to do: the first one starts all workers", file=sys.stderr)
        sys.exit(0)
    if {"--help", "-h"} & {*arguments}:
        print(__doc__)
        return
    try:
        out, text, job = translate(arguments)
        out.mkdir(parents=True, exist_ok=True)
        if job[1] != "--resume":
            write_text(out / job[1], text)
            loading.WRITTEN_FROM[(out / job[1]).absolute()] = arguments_of(arguments)
    except MslabError as error:
        print(escape_control(f"{type(error).__name__}: {error}"), file=sys.stderr)
        sys.exit(1)
    os.chdir(out)
    app(job)


if __name__ == "__main__":
    main(sys.argv[1:])
