"""A run once more: what differs is named before it trains, and figures are held against figures."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
from helpers import cli, draw, settings

import mslab
from mslab import checkpoint
from mslab.check import check_dataset
from mslab.config import load_settings
from mslab.errors import DeviceError, MslabError, RunError
from mslab.reproduce import comparing, differing, images, installing, reproducing
from mslab.reproduce.reproducing import Wish
from mslab.runs.folder import RunFolder
from mslab.training import start


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Tables break no text that is looked for."""
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture(scope="module")
def made(squares, finished):
    """A finished run. Not to be changed."""
    return finished(settings(squares / "three", 3)).run


@pytest.fixture
def run(made, inside):
    """A copy of it, of a clean checkout."""
    shutil.copytree(made, inside / "runs" / made.name)
    path = Path("runs") / made.name
    edit(path, lambda told: told.update(git=None))
    return path


@pytest.fixture
def moved(squares, inside):
    """A copy of its images, and the overrides that name it."""
    shutil.copytree(squares / "three", inside / "three")
    return ["train_data=three/train", "val_data=three/val"]


def edit(path, change):
    file = path / "manifest.json"
    told = json.loads(file.read_text())
    change(told)
    file.write_text(json.dumps(told))


def change_row(path, number, **values):
    """Change one row of a CSV file."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[number].update(values)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def once_more(path, **wish):
    told = []
    result = reproducing.reproduce(path, Wish(**wish), told.append)
    return result, "\n".join(told)


def check(result, what):
    return next(check for check in result.checks if check.what == what)


# --- the same again --------------------------------------------------------------------------------------------------


def test_the_same_run_again_is_identical_and_says_of_what_it_is_one(run):
    result, text = once_more(run)
    again = Path(result.again)
    assert result.held and result.comparison.verdict == "identical" and result.comparison.parts is None
    assert again.name.startswith("run-again-20") and again.parent.name == "runs"
    told = json.loads((again / "manifest.json").read_text())
    assert told["reproduces"] == {"run": str(run), "manifest_sha256": checkpoint.sha256(run / "manifest.json")}
    for name in ("best.ckpt", "last.ckpt"):
        assert (again / "checkpoints" / name).read_bytes() == (run / "checkpoints" / name).read_bytes()
    for name in ("config.yaml", "images.csv", "steps.csv"):
        assert (again / name).read_bytes() == (run / name).read_bytes()
    digest = told["artifacts"]["checkpoints/best.ckpt"]
    assert f"identical: every epoch's figures, every step's loss and best.ckpt ({digest[:12]}…) are the same" in text
    assert "every epoch's figures" in text and "before it runs again" in text
    document = result.to_dict()
    assert set(document) == {"schema", "run", "again", "verdict", "checks", "metrics", "parts"}
    assert json.loads(json.dumps(document, allow_nan=False))["verdict"] == "identical"
    assert {metric["verdict"] for metric in document["metrics"]} == {"same"}
    assert [metric["name"] for metric in document["metrics"]] == list(comparing.KINDS)


def test_another_seed_is_named_and_gives_another_run(run, moved):
    result, text = once_more(run, overrides=["seed=2", *moved], tolerance=0.0)
    seed = check(result, "seed")
    assert (seed.then, seed.now, seed.level) == ("1", "2", "matters")
    cause = "what differed: seed: 1 then, 2 now: other weights, order and augmentation from the start"
    assert cause in text and result.comparison.verdict == "different" and not result.held
    assert result.comparison.parts == {"epoch": 1, "step": 1}
    assert "the losses part in step 1: " in text and "the figures part in epoch 1" in text
    # the images lie elsewhere, and are the same ones: that is no cause
    assert check(result, "train_data").level == "no" and check(result, "images").level == "no"
    assert "what differed: train_data" not in text and "what differed: images" not in text


def test_a_run_that_somebody_else_ended_ends_there_again(run):
    for name, lines in (("history.csv", 2), ("steps.csv", 7)):  # as a sweep ends one after its first epoch
        (run / name).write_text("\n".join((run / name).read_text().splitlines()[:lines]) + "\n")
    edit(run, lambda told: told.update(ended_by="pruned: others are better"))
    rehash(run)
    result, _ = once_more(run)
    again = RunFolder.read(result.again)
    assert again.epochs_done == 1 and again.manifest["ended_by"] == "pruned: others are better"
    assert result.comparison.parts is None and again.finished


def test_a_transfer_run_with_its_parent_elsewhere(squares, parent, inside):
    file = inside / "backbone.ckpt"
    shutil.copy(parent / "checkpoints" / "best_backbone.ckpt", file)
    config = settings(squares / "two", 2, epochs=1, freeze="all") | {"stages": None}
    path = Path(start.transfer(config, file).run)
    file.rename(inside / "elsewhere.ckpt")
    result, _ = once_more(path, dry_run=True)
    assert not result.held and check(result, "parent").level == "stops"
    message = str(result.error)
    assert message.startswith(f"{path} cannot be repeated: its parent is not what it was made from.")
    assert f"{file} is not there (seen from {inside})" in message
    digest = checkpoint.sha256(inside / "elsewhere.ckpt")
    assert f"expected  parent {digest[:12]}…" in message and f"--backbone FILE with the sha256 {digest}" in message
    other = inside / "other.ckpt"
    shutil.copy(parent / "checkpoints" / "best.ckpt", other)
    result, _ = once_more(path, dry_run=True, backbone=str(other))
    assert f"{other} is another file now" in str(result.error)
    result, _ = once_more(path, dry_run=True, backbone=str(other), chained=True)  # of the parent's own repetition
    assert result.held and check(result, "parent").level == "matters"
    for given in (str(inside / "elsewhere.ckpt"), str(parent)):  # a file, and the run that left it
        assert once_more(path, dry_run=True, backbone=given)[0].held


def test_an_incremental_run(squares, parent, inside):
    path = Path(start.incremental(settings(squares / "three", 3, epochs=1), parent).run)
    result, text = once_more(path)
    assert result.comparison.verdict == "identical", text
    assert RunFolder.read(result.again).manifest["kind"] == "incremental"


# --- other images ----------------------------------------------------------------------------------------------------


def test_a_changed_image_a_missing_and_a_new_one_are_named(run, moved, inside):
    draw(inside / "other", ["a", "b", "c"], 1, seed=99)
    shutil.copy("other/a/000.png", "three/train/a/003.png")
    Path("three/train/b/004.png").unlink()
    shutil.copy("other/c/000.png", "three/train/c/new.png")
    Path("three/val/a/002.png").rename("three/val/a/renamed.png")
    result, text = once_more(run, overrides=moved)
    assert not result.held and result.again is None
    message = str(result.error)
    assert message.startswith(f"{run} cannot be repeated: its images are not what it was made from.")
    lines = [
        "train/a/003.png has another content",
        "train/b/004.png is missing",
        "train/c/new.png is new",
        "val/a/002.png is val/a/renamed.png now",
    ]
    for line in lines:
        assert line in message and line in text
    assert check(result, "images").details == tuple(lines) and check(result, "images").level == "stops"
    fingerprint = RunFolder.read(run).manifest["data"]["fingerprint"]
    assert f"expected  images {fingerprint[:12]}…" in message
    assert f"for a new experiment: mslab train {run}/config.yaml" in message


def test_class_folders_that_changed_as_a_whole_are_named_as_such(run, moved, inside):
    for split in ("train", "val"):
        Path(f"three/{split}/a").rename(f"three/{split}/agaricus")
    draw(inside / "other", ["b"], 16, seed=99)
    shutil.rmtree("three/train/b")
    shutil.copytree("other/b", "three/train/b")
    shutil.rmtree("three/val/c")
    result, _ = once_more(run, overrides=moved, dry_run=True)
    assert check(result, "images").details[:4] == (
        "train/a/ is called train/agaricus/ now: the same 16 images",
        "train/b/ is another: none of its 16 images is there, 16 others",
        "val/a/ is called val/agaricus/ now: the same 7 images",
        "val/c/ is missing: a class folder of 7 images",
    )
    assert check(result, "images").now == "has errors"  # the checker's own are told, too
    assert any("c" in line for line in check(result, "images").details[4:])


def test_many_differences_are_counted():
    then = {"train": {name: {f"{n}.png": f"{name}{n}" for n in range(9)} for name in "abcdefgh"}}
    now = {"train": {name: files | {f"{n}.png": "x" for n in range(8)} for name, files in then["train"].items()}}
    lines = images.differences(then, now)
    assert len(lines) == images.MOST and lines[3] == "train/a/ … and 5 more"
    assert lines[-1] == "… and 21 lines more"
    assert images.differences(then, {"train": then["train"] | {"i": {"0.png": "y"}}}) == [
        "train/i/ is new: a class folder of 1 image"
    ]
    swapped = {"train": {"a": {"0.png": "a0", "1.png": "a1"}, "b": {"0.png": "b0"}}}
    after = {"train": {"a": {"0.png": "a0"}, "b": {"0.png": "b0", "1.png": "a1"}}}
    assert images.differences(swapped, after) == ["train/a/1.png is train/b/1.png now"]


def test_a_run_older_than_images_csv_tells_numbers(run, moved):
    (run / "images.csv").unlink()
    Path("three/train/b/004.png").unlink()
    result, _ = once_more(run, overrides=moved, dry_run=True)
    assert check(result, "images").details == (
        "there is no images.csv, so single images cannot be compared: the run is older, or it was taken away",
        "train/b/ has 15 images now, 16 then",
    )


def test_folders_that_are_not_there_and_a_damaged_images_csv(run, moved):
    result, _ = once_more(run, overrides=["train_data=nowhere"], dry_run=True)
    assert "There is no folder nowhere (train images)" in str(result.error)
    assert "train_data=FOLDER val_data=FOLDER where they lie elsewhere" in str(result.error)
    Path("three/train/b/004.png").unlink()
    (run / "images.csv").write_text("split,picture\ntrain,a/1.png\n")
    with pytest.raises(RunError, match=r"images\.csv cannot be read: KeyError") as caught:
        once_more(run, overrides=moved, dry_run=True)
    assert "expected  the columns split, image, sha256" in str(caught.value)


def test_the_same_images_that_cannot_be_trained_on_like_this(run):
    result, _ = once_more(run, overrides=["class_num=4"], dry_run=True)
    assert check(result, "images").why == "the same images, which cannot be trained on like this"


# --- other circumstances ---------------------------------------------------------------------------------------------


def test_versions_machine_and_variables_that_differ_are_named_with_what_they_change(run):
    def other(told):
        around = told["environment"]
        around["packages"] |= {"mindspore": "2.7.0", "rich": "1.0", "extinct": "3"}
        around["cpu"] = {"model": "another CPU", "instruction_set": "avx2", "cores": 64}
        around["guards"]["OMP_NUM_THREADS"] = "7"
        around["python"] = told["versions"]["python"] = "3.9.1"
        told["device"] = "gpu"
        told["code"] = "0" * 16
        told["determinism"] = {"bit_identical": False, "remains": "operators that add in another order"}

    edit(run, other)
    result, text = once_more(run, overrides=["device=cpu"], dry_run=True)
    assert result.held  # a dry run: nothing of this stops
    levels = {check.what: check.level for check in result.checks}
    assert levels["MindSpore"] == levels["device"] == levels["mslab"] == "matters"
    assert levels["CPU"] == levels["instruction set"] == levels["cores"] == levels["OMP_NUM_THREADS"] == "bits"
    assert levels["Python"] == "bits" and levels["other packages"] == levels["NumPy"] == "no"
    now = RunFolder.read(run).manifest["versions"]["mindspore"]
    assert check(result, "MindSpore").cause() == f"MindSpore: 2.7.0 then, {now} now: it computes everything"
    assert check(result, "other packages").details[0] == "extinct: 3 then, none now"
    assert check(result, "OMP_NUM_THREADS").now == os.environ.get("OMP_NUM_THREADS", "not set")
    assert "the device does not repeat its last bits: operators that add in another order" in text
    assert "device: it rounds otherwise, from the first step on" in text


def test_a_run_that_is_older_than_its_environment(run):
    def older(told):
        told["schema"] = 1
        for key in ("code", "environment", "determinism", "reproduces", "resumed"):
            del told[key]
        del told["data"]["classes"]

    edit(run, older)
    result, _ = once_more(run, dry_run=True)
    cpu = check(result, "CPU")
    assert result.held and (cpu.then, cpu.level) == ("not recorded", "bits")
    assert cpu.why == "a run that is older than this record does not tell its machine"


def test_the_code_that_ran(run):
    now = differing.here(load_settings(run / "config.yaml"), "cpu", 1)
    then = differing.of_run(RunFolder.read(run))

    def level(one, two):
        then.git, now.git = one, two
        return differing.code(then, now)

    clean, dirty, other = {"commit": "a" * 40, "dirty": False}, {"commit": "a" * 40, "dirty": True}, "b" * 40
    assert level(clean, {"commit": other, "dirty": False}).why == "the same source files"
    assert level(clean, dirty).level == level(None, None).level == "no"
    now.code = "1" * 16
    assert level(clean, clean).cause().endswith(f"files {now.code} now: other code")
    then.code = None  # a run that is older than this record
    assert level(clean, clean).level == "no"
    assert level(clean, {"commit": other, "dirty": False}).why == "other code"
    for one in (dirty, None):
        assert level(clean, one).why == "whether it is the same code is not recorded"
    assert level(clean, dirty).now == f"{mslab.__version__}, commit aaaaaaaaaa, files changed"


def test_files_that_changed_after_the_run_are_named(run):
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("seed: 1 ", "seed: 5 "))
    change_row(run / "history.csv", 0, val_acc="0.1")
    (run / "steps.csv").unlink()
    result, _ = once_more(run, dry_run=True)
    assert check(result, "config.yaml").why == ("it was changed after the run; its settings are what would be trained")
    assert check(result, "history.csv").why == "it was changed after the run; its figures are what is compared"
    assert check(result, "steps.csv").why == "it was taken away after the run; its losses are what is compared"
    assert check(result, "seed").why.startswith("config.yaml was changed after the run; other weights")
    assert {check(result, name).level for name in ("config.yaml", "history.csv", "steps.csv", "seed")} == {"matters"}


def test_settings_workers_and_threads(run, all_cores):
    result, _ = once_more(run, overrides=["lr_max=0.01", "max_to_keep=3", "data_workers=2"], dry_run=True)
    assert check(result, "lr_max").level == "matters" and check(result, "max_to_keep").level == "no"
    if os.cpu_count() > 1:
        threads = check(result, "data_workers")
        assert (threads.then, threads.now, threads.level) == ("1", "2", "matters")
        assert threads.why == "another number draws other augmentation"
    resumed = {"epoch": 1, "start": "2026-01-01T00:00:00+00:00", "environment": None}
    edit(run, lambda told: told.update(resumed=[resumed]))
    assert not [c for c in differing.noted(RunFolder.read(run)) if c.what == "resume"]
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("dropout: 0.0 ", "dropout: 0.5 "))
    assert [c.why for c in differing.noted(RunFolder.read(run))] == ["dropout leaves out other features after a resume"]


def test_a_device_that_is_not_here_stops(run):
    result, _ = once_more(run, overrides=["device=ascend"], dry_run=True)
    message = str(result.error)
    assert (
        not result.held and "no driver" in message and "device=cpu, or device=auto to take what works here" in message
    )


def test_more_workers_than_cores_stop(run):
    edit(run, lambda told: told.update(workers=4096))
    result, _ = once_more(run, dry_run=True)
    assert check(result, "workers").level == "stops" and "each worker is a process that needs a core" in str(
        result.error
    )


# --- two runs that exist ---------------------------------------------------------------------------------------------


@pytest.fixture
def copy(run):
    """A second copy, which ended the same."""
    path = run.with_name("copy-20260101-000000")
    shutil.copytree(run, path)
    return path


def rehash(path):
    """As if the run had left its files as they are now."""
    edit(path, lambda told: told["artifacts"].update({n: checkpoint.sha256(path / n) for n in told["artifacts"]}))


def test_equal_runs_are_identical_without_training(run, copy):
    result, text = once_more(run, other=str(copy))
    assert result.held and not result.trained and "identical: every epoch's figures" in text


def test_the_epoch_and_the_step_where_runs_part_are_named(run, copy):
    change_row(copy / "steps.csv", 8, loss="0.5")
    change_row(copy / "history.csv", 1, train_loss="0.9", images_per_s="1", seconds="1")
    rehash(copy)
    result, text = once_more(run, other=str(copy), tolerance=0.9)
    assert result.comparison.parts == {"epoch": 2, "step": 9} and result.comparison.verdict == "within tolerance"
    with (run / "steps.csv").open() as file:
        loss = list(csv.DictReader(file))[8]["loss"]
    assert f"the losses part in step 9: {loss} then, 0.5 now" in text and "the figures part in epoch 2" in text
    assert "nothing that was recorded differs" in text
    assert "train_loss, every epoch" in text and "parts in epoch 2" in text and "val_loss, every epoch" not in text


def test_tolerance_is_of_accuracies_and_five_times_that_of_losses(run, copy):
    rows = RunFolder.read(run).history
    change_row(copy / "history.csv", 1, train_loss=f"{rows[1]['train_loss'] * 1.08:.6g}")
    rehash(copy)
    result, text = once_more(run, other=str(copy))
    assert result.held and "within tolerance: accuracies differ by at most 0, losses by 8 %" in text
    assert "(accuracies may differ by 0.02, losses by 10 %)" in text
    result, text = once_more(run, other=str(copy), tolerance=0.01)
    assert not result.held
    assert "different: train_loss of the last epoch (accuracies may differ by 0.01, losses by 5 %)" in text
    assert comparing.judged("accuracy", 0.90, 0.88, 0.02) == "within"
    assert comparing.judged("accuracy", 0.90, 0.8799, 0.02) == "outside"
    assert comparing.judged("loss", 1.0, None, 0.02) == "missing"


def test_other_weights_with_equal_figures_are_not_identical(run, copy):
    edit(copy, lambda told: told["artifacts"].update({"checkpoints/best.ckpt": "0" * 64}))
    result, text = once_more(run, other=str(copy))
    assert result.comparison.verdict == "within tolerance" and result.comparison.parts is None
    assert "other weights" in text


def test_fewer_epochs_and_no_steps(run, copy):
    lines = (copy / "history.csv").read_text().splitlines()
    (copy / "history.csv").write_text("\n".join(lines[:2]) + "\n")
    (copy / "steps.csv").unlink()
    edit(copy, lambda told: (told.update(ended_by="enough"), told["artifacts"].pop("steps.csv")))
    result, text = once_more(run, other=str(copy))
    assert result.comparison.parts == {"epoch": 2, "step": None} and "every step's loss" not in text
    if RunFolder.read(run).best["epoch"] == 2:
        assert "note: the best epoch was 2 then, 1 now" in text
    assert "note: 2 epochs then, 1 now" in text
    assert f"note: {copy} is older: it has no steps.csv, so single steps cannot be compared" in text


def test_runs_of_other_images_are_other_experiments_however_alike(run, copy):
    edit(copy, lambda told: told["data"].update(fingerprint="0" * 64))
    change_row(copy / "images.csv", 4, sha256="0" * 64)
    rehash(copy)
    result, text = once_more(run, other=str(copy))
    assert result.comparison.verdict == "identical" and not result.held
    assert check(result, "images").level == "stops" and "has another content" in text


def test_a_damaged_file_is_named(run, copy):
    (copy / "eval.json").write_text('{"accuracy": "much"}')
    with pytest.raises(RunError, match=r"eval\.json cannot be read"):
        once_more(run, other=str(copy))
    shutil.copy(run / "eval.json", copy)
    (copy / "steps.csv").write_text("step,loss\nfirst,0.1\n")
    with pytest.raises(RunError, match=r"steps\.csv cannot be read") as caught:
        once_more(run, other=str(copy))
    assert "expected  the columns step and loss" in str(caught.value)


# --- refused ---------------------------------------------------------------------------------------------------------


def test_what_cannot_be_repeated_says_why(run, copy):
    edit(run, lambda told: told.update(status="interrupted", ended_by=None))
    with pytest.raises(RunError) as caught:
        once_more(run)
    assert str(caught.value).startswith(f"{run} is not finished: 2 of 2 epochs, its status is interrupted.")
    assert f"fix       mslab train --resume {run}" in str(caught.value)
    with pytest.raises(RunError, match="is not finished"):
        once_more(copy, other=str(run))
    (copy / "history.csv").rename("history.csv")
    with pytest.raises(RunError, match=r"has ended, but its history\.csv tells of 0 of 2 epochs"):
        once_more(copy)
    Path("history.csv").rename(copy / "history.csv")
    edit(copy, lambda told: told.update(epoch_images=30, command="mslab transfer x.yaml --compare frozen"))
    with pytest.raises(RunError) as caught:
        once_more(copy)
    assert "is one of several runs of one command, on a part of the training images" in str(caught.value)
    assert "run the command again that made it: mslab transfer x.yaml --compare frozen" in str(caught.value)


def test_options_that_do_not_fit(run, copy):
    with pytest.raises(RunError, match=r"began from random weights: --backbone x\.ckpt has no place in it"):
        once_more(run, backbone="x.ckpt", dry_run=True)
    with pytest.raises(RunError, match="--with compares two runs that exist"):
        once_more(run, other=str(copy), overrides=["seed=2"])
    with pytest.raises(MslabError, match="'sead' is not a setting; did you mean 'seed'"):
        once_more(run, overrides=["sead=2"])
    with pytest.raises(RunError, match=r"nowhere has no config.yaml"):
        once_more("nowhere")


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_one_json_document_and_exits_by_what_held(run, copy, inside):
    done = cli("reproduce", run, "--with", copy, "--json", "-", cwd=inside)
    document = json.loads(done.stdout)
    assert done.returncode == 0 and document["schema"] == 1 and document["verdict"] == "identical"
    assert (document["run"], document["again"], document["parts"]) == (str(run), str(copy), None)
    assert {"what", "then", "now", "level", "why", "differs", "details"} == set(document["checks"][0])
    assert "identical: every epoch's figures" in done.stderr and "│" not in done.stdout
    shutil.rmtree(inside / "three", ignore_errors=True)
    done = cli("reproduce", run, "train_data=three", "--dry-run", "--json", "out.json", cwd=inside)
    assert done.returncode == 1 and "RunError: runs/" in done.stderr and "cannot be repeated" in done.stderr
    document = json.loads((inside / "out.json").read_text())
    assert document["verdict"] is None and document["checks"][0]["level"] == "stops"
    done = cli("reproduce", cwd=inside)
    assert done.returncode == 2 and "name a RUN, or --from ARCHIVE" in done.stderr


# --- the environment it was made in ----------------------------------------------------------------------------------


def test_the_command_inside_asks_for_all_that_was_asked_for_but_install():
    wish = reproducing.Wish(["seed=2"], backbone="best.ckpt", tolerance=0.1, dry_run=True)
    words = installing.command_line("runs/x", wish, json_file="-", no_report=True)
    assert words[:4] == ["reproduce", "runs/x", "seed=2", "--backbone"] and "--install" not in words
    assert " ".join(words[3:]) == "--backbone best.ckpt --tolerance 0.1 --json - --dry-run --no-report"


def test_install_refuses_what_is_not_recorded_or_not_here(run, monkeypatch):
    assert installing.find_python(".".join(map(str, (3, 11, 1)))) if shutil.which("python3.11") else True
    with pytest.raises(DeviceError) as caught:
        installing.find_python("3.2.1")
    assert str(caught.value).startswith("The run was made with Python 3.2.1; there is no python3.2 on PATH.")
    assert "fix       install python3.2, or leave --install out" in str(caught.value)
    edit(run, lambda told: told.update(environment=None))
    with pytest.raises(RunError, match="is older: it did not note its packages"):
        installing.run_in_own(run, reproducing.Wish())


def test_names_that_are_no_packages_do_not_reach_pip(run):
    for name, version in (("--index-url", "http://somewhere"), ("a", "1\n-e ."), ("a b", "1"), ("a", "")):
        edit(run, lambda told, name=name, version=version: told["environment"].update(packages={name: version}))
        with pytest.raises(RunError, match="The manifest names packages that cannot be"):
            installing.run_in_own(run, reproducing.Wish())


def test_the_report_of_other_folders_is_the_same_as_the_runs(run, moved):
    config = load_settings(run / "config.yaml", moved)
    report = check_dataset(config.train_data, config.val_data)
    assert images.present(report) == images.recorded(run)
