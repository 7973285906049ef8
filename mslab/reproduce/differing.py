"""What differs between a recorded run and its repetition here, and whether that matters. Needs no training.

Levels: "stops": a different experiment; "matters": may change figures; "bits": may change their last digits; "no".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mslab.check import DatasetReport
from mslab.checkpoint import networks
from mslab.config import Settings
from mslab.errors import CheckpointError, MslabError, RunError
from mslab.escaping import command, quoted, recorded_command
from mslab.evaluation import engines
from mslab.files import sha256
from mslab.runs import images, manifest, weights
from mslab.runs.finding import find_network
from mslab.runs.folder import RunFolder
from mslab.runtime import versions

# settings that change no figure, or that have a separate check
PATHS = ("train_data", "val_data")
NO_EFFECT = {
    **dict.fromkeys(PATHS, "only the path differs: the images themselves are compared"),
    "cache": "it sets where decoded images are cached",
    "log_to": "it sets which additional logs are written",
    "max_to_keep": "it sets which checkpoints are retained",
    "checkpoint_frequency": "it sets how often last.ckpt is written",
    "validation_batch_size": "it changes no figure",
    "max_training_time": "it sets when a call pauses",
    "max_device_memory": "it sets how much memory is used",
}
SEPARATE = ("seed", "device", "data_workers", "engine", "precision")  # settings with a separate check
COMPUTES = {"mindspore": "MindSpore", "numpy": "NumPy", "pillow": "Pillow", "scikit-learn": "scikit-learn"}
REASONS = {
    "mindspore": "it does all computation",
    "numpy": "it draws the order of the images",
    "pillow": "it decodes images for the linear model",
    "scikit-learn": "it fits the linear model",
}
UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Check:
    """One property of the run, then and now. `level` is "no" if they are equal."""

    what: str
    then: str
    now: str
    level: str = "no"
    why: str = ""
    fix: str = ""
    details: tuple[str, ...] = ()

    @property
    def differs(self) -> bool:
        return self.then != self.now

    def cause(self) -> str:
        """ "MindSpore: 2.8.0 then, 2.10.0 now: it does all computation" """
        text = f"{self.what}: {self.then} then, {self.now} now" if self.differs else self.what
        return f"{text}: {self.why}" if self.why else text

    def to_dict(self) -> dict[str, Any]:
        names = ("what", "then", "now", "level", "why", "details")
        return {name: getattr(self, name) for name in names} | {"differs": self.differs, "details": list(self.details)}


@dataclass
class State:
    """The conditions of a run: recorded in its folder, or those of this machine now."""

    config: Settings
    seed: int
    device: str
    git: Mapping[str, Any] | None
    versions: Mapping[str, str]
    environment: Mapping[str, Any] | None  # None in older runs
    workers: int = 1
    code: str | None = None  # a digest of mslab's source files
    features: Mapping[str, str] | None = None  # what computed a frozen backbone's features; None without


def recorded_state(run: RunFolder) -> State:
    record = run.manifest
    versions = dict(record["versions"])
    if record["environment"]:
        versions |= {name: record["environment"]["packages"].get(name, versions.get(name, "")) for name in COMPUTES}
    own = (
        record["seed"],
        str(record["device"] or ""),
        record["git"],
        versions,
        record["environment"],
        record["workers"],
    )
    features = record.get("features_engine")
    if record.get("features") and not features:  # of a run older than this field
        features = {"engine": "mindspore", "version": versions["mindspore"], "precision": "fp32"}
    return State(run.settings, *own, record["code"], features)


def current_state(config: Settings, device: str, workers: int) -> State:
    """What training this config on this machine would record."""
    environment = manifest.environment(device)
    own = (versions.git_state(), versions.versions(), environment, workers, manifest.code())
    return State(config, config.seed, device, *own)


def circumstances(then: State, now: State) -> list[Check]:
    """Compare everything but images, parent and files."""
    checks = [seed(then, now), *settings(then.config.model_dump(), now.config.model_dump()), code(then, now)]
    checks += [version(name, then, now) for name in COMPUTES]
    checks += [features_engine(then, now)] if then.features else []
    checks += [python(then, now), *packages(then, now), *machine(then, now), device(then, now), threads(then, now)]
    if then.workers != now.workers:
        why = "each worker trains on its part of the images"
        checks.append(Check("workers", str(then.workers), str(now.workers), "matters", why))
    return checks


def make_check(what: str, then: str, now: str, level: str, why: str) -> Check:
    """Return a check that has the level and the reason only if the two values differ."""
    return Check(what, then, now, level, why) if then != now else Check(what, then, now)


def seed(then: State, now: State) -> Check:
    why = "different weights, order and augmentation from the start"
    if then.config.seed != then.seed and then.config.seed == now.seed:
        why = f"config.yaml was changed after the run; {why}"
    return make_check("seed", str(then.seed), str(now.seed), "matters", why)


def settings(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Check]:
    for name, value in then.items():
        if name not in SEPARATE and value != now.get(name):
            level = "no" if name in NO_EFFECT else "bits" if name in ("deterministic", "jit_level") else "matters"
            yield Check(name, str(value), str(now.get(name)), level, NO_EFFECT.get(name, "a different setting"))


def code(then: State, now: State) -> Check:
    before, after = (mslab(state.versions.get("mslab", ""), state.git) for state in (then, now))
    if then.code and now.code:
        if then.code == now.code:
            return Check("mslab", before, after, "no", "" if before == after else "the same source files")
        return Check("mslab", f"{before}, files {then.code}", f"{after}, files {now.code}", "matters", "different code")
    dirty = any(state.git and state.git["dirty"] for state in (then, now))
    if dirty or before == UNKNOWN or not (then.git and now.git):
        return Check("mslab", before, after, "matters", "the records do not show whether the code is the same")
    return make_check("mslab", before, after, "matters", "different code")


def mslab(version: str, git: Mapping[str, Any] | None) -> str:
    """mslab("0.1.0", {"commit": "1b9ff6b…", "dirty": True}) -> "0.1.0, commit 1b9ff6b2c1, files changed" """
    parts = [version or UNKNOWN]
    if git:
        parts += [f"commit {git['commit'][:10]}", *["files changed"] * git["dirty"]]
    return ", ".join(parts)


def version(name: str, then: State, now: State) -> Check:
    before, after = (state.versions.get(name, "") or UNKNOWN for state in (then, now))
    return make_check(COMPUTES[name], before, after, "matters", REASONS[name])


def features_engine(then: State, now: State) -> Check:
    """What computes the features of a frozen backbone."""
    assert then.features
    before, what = " ".join(then.features.values()), "engine of the features"
    try:
        features = (
            now.features
            or engines.choose(
                now.config.engine, now.config.precision, now.device, networks.of_settings(now.config)
            ).record()
        )
    except MslabError as error:
        return Check(what, before, "none", "stops", error.what, error.fix)
    level = "bits" if features["precision"] == then.features["precision"] else "matters"
    return make_check(what, before, " ".join(features.values()), level, "each engine rounds differently")


def python(then: State, now: State) -> Check:
    before, after = (state.versions.get("python", "") or UNKNOWN for state in (then, now))
    minor = before.split(".")[:2] != after.split(".")[:2]
    return Check(
        "Python", before, after, *(("bits", "each Python has its own builds of the packages") if minor else ())
    )


def packages(then: State, now: State) -> Iterator[Check]:
    """All other packages, in one row."""
    if not then.environment or not now.environment:
        return
    before, after = ({**state.environment["packages"]} for state in (then, now) if state.environment)
    for name in (*COMPUTES, "mslab"):
        before.pop(name, None)
        after.pop(name, None)
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    level, why = "no", "training does not use them" if names else ""
    if then.config.network and "mindcv" in names:
        level, why = "matters", "mindcv's code is the network"
        names.sort(key=lambda name: name != "mindcv")
    details = tuple(f"{name}: {before.get(name, 'none')} then, {after.get(name, 'none')} now" for name in names[:8])
    details += (f"… and {len(names) - 8} more",) * (len(names) > 8)
    summary = f"{len(after)}, {len(names)} differ" if names else str(len(before))
    yield Check("other packages", str(len(before)), summary, level, why, details=details)


def machine(then: State, now: State) -> Iterator[Check]:
    """The processor, and the environment variables that change its results."""
    if not then.environment or not now.environment:
        texts = [state.environment["cpu"]["model"] if state.environment else UNKNOWN for state in (then, now)]
        why = "older runs do not record their machine"
        yield Check("CPU", texts[0], texts[1], "bits", why)
        return
    before, after = then.environment, now.environment
    rows = {
        "model": ("CPU", "it determines which kernels are used"),
        "instruction_set": ("instruction set", "sums are added in a different order"),
        "cores": ("cores", "sums are divided between them"),
        "batch_norm": ("BatchNorm", "MindSpore's adds up in another order than the one that a C compiler makes"),
    }
    for key, (what, why) in rows.items():
        old, new = str(before["cpu"].get(key, "mindspore")), str(after["cpu"][key])  # older runs had MindSpore's
        yield make_check(what, old, new, "bits", why)
    if before["driver"] != after["driver"]:
        old, new = (state["driver"] or "none" for state in (before, after))
        yield Check("driver", old, new, "bits", "it contains its own kernels")
    for name in sorted({*before["guards"], *after["guards"]}):
        old, new = (state["guards"].get(name, "not set") for state in (before, after))
        yield make_check(name, old, new, "bits", "it selects between kernels")


def device(then: State, now: State) -> Check:
    recorded = then.device or UNKNOWN
    return make_check("device", recorded, now.device, "matters", "it rounds differently, from the first step on")


def threads(then: State, now: State) -> Check:
    before, after = (str(state.config.data_workers) for state in (then, now))
    return make_check(
        "data_workers", before, after, "matters", "another number of workers draws different augmentation"
    )


# --- images, parent, files -------------------------------------------------------------------------------------------


def data(run: RunFolder, report: DatasetReport | MslabError, chained: bool = False) -> Check:
    """Check whether the images are the same, and list those that differ. `report`: an error for unreadable folders.

    `chained`: accept different images that a recipe has drawn again, if their number per class is the same.
    """
    then = run.manifest["data"]["fingerprint"]
    fix = (
        "restore the images, or give their new location: train_data=FOLDER val_data=FOLDER\n"
        f"for a new experiment: {command('train', run.path / 'config.yaml')}"
    )
    if isinstance(report, MslabError):
        return Check("images", short(then), "none", "stops", report.what.rstrip("."), fix)
    if report.fingerprint == then:
        return Check("images", short(then), short(then))
    if chained and report.counts == run.manifest["data"]["counts"] and not report.errors:
        why = "the same number per class; another kind of processor rounds some pixels differently when it draws"
        return Check("images", short(then), short(report.fingerprint), "matters", why)
    before, after = images.recorded(run.path), images.present(report)
    if before is None:
        lines = images.count_differences(run.manifest["data"]["counts"], report.counts)
    else:
        lines = images.differences(before, after) if before != after or not report.errors else []
    why = "different images" if lines else "the same images, but they do not pass the data check with these settings"
    lines += [f"{finding.path}  {finding.message}" for finding in report.errors[:3]]
    now = short(report.fingerprint) if report.fingerprint else "has errors"
    return Check("images", short(then), now, "stops", why, fix, tuple(lines))


def same_images(run: RunFolder, other: RunFolder) -> Check:
    """Check whether two runs used the same images."""
    then, now = (r.manifest["data"]["fingerprint"] for r in (run, other))
    if then == now:
        return Check("images", short(then), short(now))
    before, after = images.recorded(run.path), images.recorded(other.path)
    if before is None or after is None:
        lines = images.count_differences(*(r.manifest["data"]["counts"] for r in (run, other)))
    else:
        lines = images.differences(before, after)
    return Check(
        "images",
        short(then),
        short(now),
        "stops",
        "different images" if lines else "the same images in other classes",
        details=tuple(lines),
    )


def parent(run: RunFolder, backbone: str | None, chained: bool = False) -> tuple[Check | None, Path | None]:
    """(check, file to start from): `backbone`, else the recorded file, else a copy in RUN/parent/.

    Returns (None, None) for a run that started from random weights. `chained`: accept a different file too.
    """
    record = run.manifest["parent"]
    if not record:
        if backbone:
            raise RunError(
                f"{run.path} started from random weights: it cannot use --backbone {quoted(Path(backbone))}.",
                expected="--backbone with a run of mslab transfer or train --from",
                fix="leave --backbone out",
            )
        return None, None
    name = "best.ckpt" if run.manifest["kind"] == "incremental" else "best_backbone.ckpt"
    recorded = Path(record["file"])
    paths = [find_network(backbone)] if backbone else [recorded, *sorted((run.path / "parent").glob("*"))]
    paths = [path / "checkpoints" / name if path.is_dir() else path for path in paths]
    digests = {path: sha256(path) for path in paths if path.is_file()}
    for path, digest in digests.items():
        if digest == record["sha256"]:
            return Check("parent", short(digest), short(digest)), path
    fix = f"--backbone FILE with the sha256 {record['sha256']}"
    if record["run"]:
        fix += f"\nit came from {record['run']['path']}, made by: {recorded_command(record['run']['command'])}"
    if record.get("published") and not backbone:
        try:
            file = weights.parent_file(record)
            digests[file] = sha256(file)
            if digests[file] == record["sha256"]:
                return Check("parent", short(record["sha256"]), short(digests[file])), file
        except CheckpointError as error:
            rows = tuple(": ".join(row) for row in error.details)
            return Check("parent", short(record["sha256"]), "none", "stops", error.what, error.fix, rows), None
    if not digests:
        why = f"{paths[0]} does not exist (relative to {Path.cwd()})"
        return Check("parent", short(record["sha256"]), "none", "stops", why, fix), None
    path, digest = next(iter(digests.items()))
    if chained:
        why = f"{path} comes from the repetition of the parent"
        return Check("parent", short(record["sha256"]), short(digest), "matters", why), path
    return Check("parent", short(record["sha256"]), short(digest), "stops", f"{path} has different contents", fix), None


def same_parent(run: RunFolder, other: RunFolder) -> Check | None:
    then, now = (short(r.manifest["parent"]["sha256"]) if r.manifest["parent"] else "none" for r in (run, other))
    if then == now:
        return Check("parent", then, now) if then != "none" else None
    return Check("parent", then, now, "stops", "they started from different weights")


def files(run: RunFolder) -> Iterator[Check]:
    """The run's small files that settings and figures are read from, if they have changed since the run."""
    uses = {
        "config.yaml": "the repetition uses its settings",
        "history.csv": "its figures are compared",
        "steps.csv": "its losses are compared",
        "eval.json": "its figures are compared",
        "images.csv": "the images are compared with it",
    }
    for name, why in uses.items():
        recorded, file = run.manifest["artifacts"].get(name), run.path / name
        now = sha256(file) if file.is_file() else None
        if recorded and recorded != now:
            text = "it was changed after the run" if now else "it was removed after the run"
            yield Check(name, short(recorded), short(now) if now else "none", "matters", f"{text}; {why}")


def limits(run: RunFolder) -> Iterator[Check]:
    """Recorded facts that limit how exactly the run can be repeated."""
    determinism = run.manifest["determinism"]
    if determinism and not determinism["bit_identical"]:
        yield Check("the device does not repeat its last bits", "", "", "bits", determinism["remains"])
    for resumed in run.manifest["resumed"]:
        then = f"resumed after epoch {resumed['epoch']}"
        if run.settings.dropout:
            yield Check("resume", then, "in one go", "matters", "dropout leaves out different features after a resume")
        elif resumed["environment"]:
            why = "it continued in another environment, which is not compared"
            yield Check("resume", then, "in one go", "matters", why)


def error_of(run: RunFolder, checks: Sequence[Check]) -> RunError | None:
    """The error for all checks that stop the repetition, None if none does."""
    stops = [check for check in checks if check.level == "stops"]
    if not stops:
        return None
    rows = [(check.what, "\n".join([check.why, *check.details])) for check in stops]
    names = " and ".join(dict.fromkeys(check.what for check in stops))
    verb = "differ" if len(stops) > 1 or names.endswith("s") else "differs"
    return RunError(
        f"{run.path} cannot be repeated: its {names} {verb} from the record.",
        details=rows,
        expected="; ".join(f"{check.what} {check.then}" for check in stops),
        fix="\n".join(dict.fromkeys(check.fix for check in stops if check.fix)),
    )


def short(digest: str) -> str:
    return f"{digest[:12]}…"
