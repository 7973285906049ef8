"""What differs between a run as it was and as it would be now, and whether that matters: known before anything trains.

Levels: "stops" makes it another experiment; "matters" may change figures; "bits" may change their last digits; "no".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mslab import checkpoint
from mslab.check import DatasetReport
from mslab.config import Settings
from mslab.errors import MslabError, RunError
from mslab.reproduce import images
from mslab.runs import folder, manifest
from mslab.runs.folder import RunFolder
from mslab.runtime import versions

# settings that change no figure, or whose effect is told by a check of its own
PLACES = ("train_data", "val_data")
HARMLESS = {
    **dict.fromkeys(PLACES, "the images themselves are compared"),
    "cache": "where decoded images are kept",
    "log_to": "what is written besides",
    "max_to_keep": "which checkpoints are kept",
    "checkpoint_frequency": "how often last.ckpt is written",
    "validation_batch_size": "it changes no figure",
    "max_training_time": "when a call pauses",
    "max_device_memory": "how much memory is taken",
}
OWN = ("seed", "device", "data_workers")  # checks of their own
COMPUTES = {"mindspore": "MindSpore", "numpy": "NumPy", "pillow": "Pillow", "scikit-learn": "scikit-learn"}
WHY = {
    "mindspore": "it computes everything",
    "numpy": "it draws the order of the images",
    "pillow": "it decodes images for the linear model",
    "scikit-learn": "it fits the linear model",
}
UNKNOWN = "not recorded"


@dataclass(frozen=True)
class Check:
    """One thing, then and now. `level` is "no" where they are equal."""

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
        """ "MindSpore: 2.8.0 then, 2.10.0 now: it computes everything" """
        text = f"{self.what}: {self.then} then, {self.now} now" if self.differs else self.what
        return f"{text}: {self.why}" if self.why else text

    def to_dict(self) -> dict[str, Any]:
        names = ("what", "then", "now", "level", "why", "details")
        return {name: getattr(self, name) for name in names} | {"differs": self.differs, "details": list(self.details)}


@dataclass
class State:
    """A run's circumstances: as it noted them, or as they are here and now."""

    config: Settings
    seed: int
    device: str
    git: Mapping[str, Any] | None
    versions: Mapping[str, str]
    environment: Mapping[str, Any] | None  # None in a run that is older than it
    workers: int = 1
    code: str | None = None  # a digest of mslab's source files


def of_run(run: RunFolder) -> State:
    told = run.manifest
    versions = dict(told["versions"])
    if told["environment"]:
        versions |= {name: told["environment"]["packages"].get(name, versions.get(name, "")) for name in COMPUTES}
    own = (told["seed"], str(told["device"] or ""), told["git"], versions, told["environment"], told["workers"])
    return State(run.settings, *own, told["code"])


def here(config: Settings, device: str, workers: int) -> State:
    """What training this config on this machine would note."""
    around = manifest.environment(device)
    own = (folder.git_state(), versions.versions(), around, workers, manifest.code())
    return State(config, config.seed, device, *own)


def circumstances(then: State, now: State) -> list[Check]:
    """Everything but images, parent and files."""
    checks = [seed(then, now), *settings(then.config.model_dump(), now.config.model_dump()), code(then, now)]
    checks += [version(name, then, now) for name in COMPUTES]
    checks += [python(then, now), *packages(then, now), *machine(then, now), device(then, now), threads(then, now)]
    if then.workers != now.workers:
        why = "each worker has a share of the images"
        checks.append(Check("workers", str(then.workers), str(now.workers), "matters", why))
    return checks


def compared(what: str, then: str, now: str, level: str, why: str) -> Check:
    """The check, with its level and reason where the two differ."""
    return Check(what, then, now, level, why) if then != now else Check(what, then, now)


def seed(then: State, now: State) -> Check:
    why = "other weights, order and augmentation from the start"
    if then.config.seed != then.seed and then.config.seed == now.seed:
        why = f"config.yaml was changed after the run; {why}"
    return compared("seed", str(then.seed), str(now.seed), "matters", why)


def settings(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Check]:
    for name, value in then.items():
        if name not in OWN and value != now.get(name):
            level = "no" if name in HARMLESS else "bits" if name in ("deterministic", "jit_level") else "matters"
            yield Check(name, str(value), str(now.get(name)), level, HARMLESS.get(name, "another setting"))


def code(then: State, now: State) -> Check:
    before, after = (mslab(state.versions.get("mslab", ""), state.git) for state in (then, now))
    if then.code and now.code:
        if then.code == now.code:
            return Check("mslab", before, after, "no", "" if before == after else "the same source files")
        return Check("mslab", f"{before}, files {then.code}", f"{after}, files {now.code}", "matters", "other code")
    dirty = any(state.git and state.git["dirty"] for state in (then, now))
    if dirty or before == UNKNOWN or not (then.git and now.git):
        return Check("mslab", before, after, "matters", "whether it is the same code is not recorded")
    return compared("mslab", before, after, "matters", "other code")


def mslab(version: str, git: Mapping[str, Any] | None) -> str:
    """mslab("0.1.0", {"commit": "1b9ff6b…", "dirty": True}) -> "0.1.0, commit 1b9ff6b2c1, files changed" """
    parts = [version or UNKNOWN]
    if git:
        parts += [f"commit {git['commit'][:10]}", *["files changed"] * git["dirty"]]
    return ", ".join(parts)


def version(name: str, then: State, now: State) -> Check:
    before, after = (state.versions.get(name, "") or UNKNOWN for state in (then, now))
    return compared(COMPUTES[name], before, after, "matters", WHY[name])


def python(then: State, now: State) -> Check:
    before, after = (state.versions.get("python", "") or UNKNOWN for state in (then, now))
    minor = before.split(".")[:2] != after.split(".")[:2]
    return Check("Python", before, after, *(("bits", "packages are built for each Python") if minor else ()))


def packages(then: State, now: State) -> Iterator[Check]:
    """The other ones, in one row."""
    if not then.environment or not now.environment:
        return
    before, after = ({**state.environment["packages"]} for state in (then, now) if state.environment)
    for name in (*COMPUTES, "mslab"):
        before.pop(name, None)
        after.pop(name, None)
    names = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
    details = tuple(f"{name}: {before.get(name, 'none')} then, {after.get(name, 'none')} now" for name in names[:8])
    details += (f"… and {len(names) - 8} more",) * (len(names) > 8)
    unlike = f"{len(after)}, {len(names)} differ" if names else str(len(before))
    why = "they have no part in training" if names else ""
    yield Check("other packages", str(len(before)), unlike, "no", why, details=details)


def machine(then: State, now: State) -> Iterator[Check]:
    """The processor, and the environment variables that change what it computes."""
    if not then.environment or not now.environment:
        texts = [state.environment["cpu"]["model"] if state.environment else UNKNOWN for state in (then, now)]
        why = "a run that is older than this record does not tell its machine"
        yield Check("CPU", texts[0], texts[1], "bits", why)
        return
    before, after = then.environment, now.environment
    rows = {
        "model": ("CPU", "kernels are chosen by it"),
        "instruction_set": ("instruction set", "sums are added in another order"),
        "cores": ("cores", "sums are shared between them"),
    }
    for key, (what, why) in rows.items():
        one, two = str(before["cpu"][key]), str(after["cpu"][key])
        yield compared(what, one, two, "bits", why)
    if before["driver"] != after["driver"]:
        one, two = (state["driver"] or "none" for state in (before, after))
        yield Check("driver", one, two, "bits", "it brings its own kernels")
    for name in sorted({*before["guards"], *after["guards"]}):
        one, two = (state["guards"].get(name, "not set") for state in (before, after))
        yield compared(name, one, two, "bits", "it chooses between kernels")


def device(then: State, now: State) -> Check:
    was = then.device or UNKNOWN
    return compared("device", was, now.device, "matters", "it rounds otherwise, from the first step on")


def threads(then: State, now: State) -> Check:
    before, after = (str(state.config.data_workers) for state in (then, now))
    return compared("data_workers", before, after, "matters", "another number draws other augmentation")


# --- images, parent, files -------------------------------------------------------------------------------------------


def data(run: RunFolder, report: DatasetReport | MslabError, chained: bool = False) -> Check:
    """Whether the images are the same, and which are not. `report`: an error where the folders cannot be read.

    `chained`: images that a recipe has drawn anew may be others, as long as there are as many of each class.
    """
    then = run.manifest["data"]["fingerprint"]
    fix = (
        "restore the images, or train_data=FOLDER val_data=FOLDER where they lie elsewhere\n"
        f"for a new experiment: mslab train {run.path}/config.yaml"
    )
    if isinstance(report, MslabError):
        return Check("images", short(then), "none", "stops", report.what.rstrip("."), fix)
    if report.fingerprint == then:
        return Check("images", short(then), short(then))
    if chained and report.counts == run.manifest["data"]["counts"] and not report.errors:
        why = "as many of each class; another kind of processor rounds single pixels otherwise when it draws"
        return Check("images", short(then), short(report.fingerprint), "matters", why)
    before, after = images.recorded(run.path), images.present(report)
    if before is None:
        lines = images.counted_differences(run.manifest["data"]["counts"], report.counts)
    else:
        lines = images.differences(before, after) if before != after or not report.errors else []
    why = "other images" if lines else "the same images, which cannot be trained on like this"
    lines += [f"{finding.path}  {finding.message}" for finding in report.errors[:3]]
    now = short(report.fingerprint) if report.fingerprint else "has errors"
    return Check("images", short(then), now, "stops", why, fix, tuple(lines))


def same_images(run: RunFolder, other: RunFolder) -> Check:
    """The same between two runs."""
    then, now = (one.manifest["data"]["fingerprint"] for one in (run, other))
    if then == now:
        return Check("images", short(then), short(now))
    before, after = images.recorded(run.path), images.recorded(other.path)
    if before is None or after is None:
        lines = images.counted_differences(*(one.manifest["data"]["counts"] for one in (run, other)))
    else:
        lines = images.differences(before, after)
    return Check("images", short(then), short(now), "stops", "other images", details=tuple(lines))


def parent(run: RunFolder, given: str | None, chained: bool = False) -> tuple[Check | None, Path | None]:
    """(the check, the file to begin from): `given`, the one that was recorded, or a copy in RUN/parent/.

    None, None for a run that began from nothing. `chained`: another file is taken, too.
    """
    told = run.manifest["parent"]
    if not told:
        if given:
            raise RunError(
                f"{run.path} began from random weights: --backbone {given} has no place in it.",
                expected="--backbone with a run of mslab transfer or train --from",
                fix="leave --backbone out",
            )
        return None, None
    name = "best.ckpt" if run.manifest["kind"] == "incremental" else "best_backbone.ckpt"
    recorded = Path(told["file"])
    places = [Path(given)] if given else [recorded, *sorted((run.path / "parent").glob("*"))]
    places = [place / "checkpoints" / name if place.is_dir() else place for place in places]
    digests = {place: checkpoint.sha256(place) for place in places if place.is_file()}
    for place, digest in digests.items():
        if digest == told["sha256"]:
            return Check("parent", short(digest), short(digest)), place
    fix = f"--backbone FILE with the sha256 {told['sha256']}"
    if told["run"]:
        fix += f"\nit came from {told['run']['path']}, made by: {told['run']['command']}"
    if not digests:
        why = f"{places[0]} is not there (seen from {Path.cwd()})"
        return Check("parent", short(told["sha256"]), "none", "stops", why, fix), None
    place, digest = next(iter(digests.items()))
    if chained:
        why = f"{place} is of the parent's own repetition"
        return Check("parent", short(told["sha256"]), short(digest), "matters", why), place
    return Check("parent", short(told["sha256"]), short(digest), "stops", f"{place} is another file now", fix), None


def same_parent(run: RunFolder, other: RunFolder) -> Check | None:
    then, now = (short(one.manifest["parent"]["sha256"]) if one.manifest["parent"] else "none" for one in (run, other))
    if then == now:
        return Check("parent", then, now) if then != "none" else None
    return Check("parent", then, now, "stops", "they began from other weights")


def files(run: RunFolder) -> Iterator[Check]:
    """The run's own small files, which settings and figures are read from: those that are not as it left them."""
    reads = {
        "config.yaml": "its settings are what would be trained",
        "history.csv": "its figures are what is compared",
        "steps.csv": "its losses are what is compared",
        "eval.json": "its figures are what is compared",
        "images.csv": "it is what images are held against",
    }
    for name, why in reads.items():
        told, file = run.manifest["artifacts"].get(name), run.path / name
        now = checkpoint.sha256(file) if file.is_file() else None
        if told and told != now:
            text = "it was changed after the run" if now else "it was taken away after the run"
            yield Check(name, short(told), short(now) if now else "none", "matters", f"{text}; {why}")


def noted(run: RunFolder) -> Iterator[Check]:
    """What the run says about itself that limits how far it can be repeated."""
    told = run.manifest["determinism"]
    if told and not told["bit_identical"]:
        yield Check("the device does not repeat its last bits", "", "", "bits", told["remains"])
    for resumed in run.manifest["resumed"]:
        where = f"resumed after epoch {resumed['epoch']}"
        if run.settings.dropout:
            yield Check("resume", where, "in one go", "matters", "dropout leaves out other features after a resume")
        elif resumed["environment"]:
            why = "it went on in another environment, which is not compared"
            yield Check("resume", where, "in one go", "matters", why)


def stopped(run: RunFolder, checks: Sequence[Check]) -> RunError | None:
    """The error of those that stop, all of them."""
    stops = [check for check in checks if check.level == "stops"]
    if not stops:
        return None
    rows = [(check.what, "\n".join([check.why, *check.details])) for check in stops]
    names = " and ".join(dict.fromkeys(check.what for check in stops))
    is_are = "are" if len(stops) > 1 or names.endswith("s") else "is"
    return RunError(
        f"{run.path} cannot be repeated: its {names} {is_are} not what it was made from.",
        details=rows,
        expected="; ".join(f"{check.what} {check.then}" for check in stops),
        fix="\n".join(dict.fromkeys(check.fix for check in stops if check.fix)),
    )


def short(digest: str) -> str:
    return f"{digest[:12]}…"
