"""mslab reproduce: differences are reported before training, and the figures of both runs are compared."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest
from helpers import cli, draw, resolved, settings

import mslab
from mslab import files
from mslab.check import check_dataset
from mslab.config import load_settings
from mslab.errors import DeviceError, MslabError, RunError
from mslab.reproduce import comparing, differing, installing, reproducing
from mslab.reproduce.reproducing import ReproduceOptions
from mslab.runs import images
from mslab.runs.folder import RunFolder
from mslab.training import start


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    """Make tables so wide that they break no text that a test searches for."""
    monkeypatch.setenv("COLUMNS", "120")


@pytest.fixture(scope="module")
def finished_run(squares, finished):
    """A finished run. Do not change it."""
    return finished(settings(squares / "three", 3)).run


@pytest.fixture
def run(finished_run, inside):
    """A copy of it, as if mslab had been a clean checkout."""
    shutil.copytree(finished_run, inside / "runs" / finished_run.name)
    path = Path("runs") / finished_run.name
    edit(path, lambda content: content.update(git=None))
    return path


@pytest.fixture
def moved(squares, inside):
    """Copy the run's images. Returns the overrides with their paths."""
    shutil.copytree(squares / "three", inside / "three")
    return ["train_data=three/train", "val_data=three/val"]


def edit(path, change):
    file = path / "manifest.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def change_row(path, number, **values):
    """Change one row of a CSV file."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rows[number].update(values)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def reproduce(path, **options):
    """(result, printed text)."""
    output = []
    result = reproducing.reproduce(path, ReproduceOptions(**options), output.append)
    return result, "\n".join(output)


def check(result, what):
    return next(check for check in result.checks if check.what == what)


# --- the same run again ----------------------------------------------------------------------------------------------


def test_an_unchanged_run_is_reproduced_identically_and_records_its_origin(run):
    result, text = reproduce(run)
    again = Path(result.again)
    assert result.ok and result.comparison.verdict == "identical" and result.comparison.first_difference is None
    assert again.name.startswith("run-again-20") and again.parent.name == "runs"
    recorded = json.loads((again / "manifest.json").read_text())
    assert recorded["reproduces"] == {"run": str(run), "manifest_sha256": files.sha256(run / "manifest.json")}
    for name in ("best.ckpt", "last.ckpt"):
        assert (again / "checkpoints" / name).read_bytes() == (run / "checkpoints" / name).read_bytes()
    for name in ("config.yaml", "images.csv", "steps.csv"):
        assert (again / name).read_bytes() == (run / name).read_bytes()
    digest = recorded["artifacts"]["checkpoints/best.ckpt"]
    assert f"identical: every epoch's figures, every step's loss and best.ckpt ({digest[:12]}…) are the same" in text
    assert "every epoch's figures" in text and "checks before the repetition" in text
    document = result.to_dict()
    assert set(document) == {"schema", "run", "again", "verdict", "checks", "metrics", "parts"}
    assert json.loads(json.dumps(document, allow_nan=False))["verdict"] == "identical"
    assert {metric["verdict"] for metric in document["metrics"]} == {"same"}
    assert [metric["name"] for metric in document["metrics"]] == list(comparing.KINDS)


def test_another_seed_is_reported_and_gives_different_figures(run, moved):
    result, text = reproduce(run, overrides=["seed=2", *moved], tolerance=0.0)
    seed = check(result, "seed")
    assert (seed.then, seed.now, seed.level) == ("1", "2", "matters")
    cause = "what differed: seed: 1 then, 2 now: different weights, order and augmentation from the start"
    assert cause in text and result.comparison.verdict == "different" and not result.ok
    assert result.comparison.first_difference == {"epoch": 1, "step": 1}
    assert "the losses differ from step 1 on: " in text and "the figures differ from epoch 1 on" in text
    # the images have moved but are the same: that is no cause
    assert check(result, "train_data").level == "no" and check(result, "images").level == "no"
    assert "what differed: train_data" not in text and "what differed: images" not in text


def test_a_run_that_was_ended_from_outside_ends_at_the_same_epoch_again(run):
    for name, lines in (("history.csv", 2), ("steps.csv", 7)):  # as when a sweep ends a run after its first epoch
        (run / name).write_text("\n".join((run / name).read_text().splitlines()[:lines]) + "\n")
    edit(run, lambda content: content.update(ended_by="pruned: others are better"))
    rehash(run)
    result, _ = reproduce(run)
    again = RunFolder.read(result.again)
    assert again.epochs_done == 1 and again.manifest["ended_by"] == "pruned: others are better"
    assert result.comparison.first_difference is None and again.finished


def test_a_transfer_run_whose_parent_has_moved(squares, parent, inside):
    file = inside / "backbone.ckpt"
    shutil.copy(parent / "checkpoints" / "best_backbone.ckpt", file)
    config = settings(squares / "two", 2, epochs=1, freeze="all") | {"stages": None}
    path = Path(start.transfer(config, file).run)
    file.rename(inside / "elsewhere.ckpt")
    result, _ = reproduce(path, dry_run=True)
    assert not result.ok and check(result, "parent").level == "stops"
    message = str(result.error)
    assert message.startswith(f"{path} cannot be repeated: its parent differs from the record.")
    assert f"{file} does not exist (relative to {inside})" in message
    digest = files.sha256(inside / "elsewhere.ckpt")
    assert f"expected  parent {digest[:12]}…" in message and f"--backbone FILE with the sha256 {digest}" in message
    other = inside / "other.ckpt"
    shutil.copy(parent / "checkpoints" / "best.ckpt", other)
    result, _ = reproduce(path, dry_run=True, backbone=str(other))
    assert f"{other} has different contents" in str(result.error)
    result, _ = reproduce(path, dry_run=True, backbone=str(other), chained=True)  # from the repetition of the parent
    assert result.ok and check(result, "parent").level == "matters"
    for backbone in (str(inside / "elsewhere.ckpt"), str(parent)):  # a file, and the run that wrote it
        assert reproduce(path, dry_run=True, backbone=backbone)[0].ok


def test_an_incremental_run(squares, parent, inside):
    path = Path(start.incremental(settings(squares / "three", 3, epochs=1), parent).run)
    result, text = reproduce(path)
    assert result.comparison.verdict == "identical", text
    assert RunFolder.read(result.again).manifest["kind"] == "incremental"


# --- different images ------------------------------------------------------------------------------------------------


def test_changed_missing_new_and_renamed_images_are_listed(run, moved, inside):
    draw(inside / "other", ["a", "b", "c"], 1, seed=99)
    shutil.copy("other/a/000.png", "three/train/a/003.png")
    Path("three/train/b/004.png").unlink()
    shutil.copy("other/c/000.png", "three/train/c/new.png")
    Path("three/val/a/002.png").rename("three/val/a/renamed.png")
    result, text = reproduce(run, overrides=moved)
    assert not result.ok and result.again is None
    message = str(result.error)
    assert message.startswith(f"{run} cannot be repeated: its images differ from the record.")
    lines = [
        "train/a/003.png has different contents",
        "train/b/004.png is missing",
        "train/c/new.png is new",
        "val/a/002.png is now val/a/renamed.png",
    ]
    for line in lines:
        assert line in message and line in text
    assert check(result, "images").details == tuple(lines) and check(result, "images").level == "stops"
    fingerprint = RunFolder.read(run).manifest["data"]["fingerprint"]
    assert f"expected  images {fingerprint[:12]}…" in message
    assert f"for a new experiment: mslab train {run}/config.yaml" in message


def test_complete_class_folders_that_changed_are_listed_as_folders(run, moved, inside):
    for split in ("train", "val"):
        Path(f"three/{split}/a").rename(f"three/{split}/agaricus")
    draw(inside / "other", ["b"], 16, seed=99)
    shutil.rmtree("three/train/b")
    shutil.copytree("other/b", "three/train/b")
    shutil.rmtree("three/val/c")
    result, _ = reproduce(run, overrides=moved, dry_run=True)
    assert check(result, "images").details[:4] == (
        "train/a/ is now called train/agaricus/: the same 16 images",
        "train/b/ was replaced: none of its 16 images is there, but 16 other images",
        "val/a/ is now called val/agaricus/: the same 7 images",
        "val/c/ is missing: a class folder of 7 images",
    )
    assert check(result, "images").now == "has errors"  # errors of the data check are listed too
    assert any("c" in line for line in check(result, "images").details[4:])


def test_a_long_list_of_differences_is_shortened():
    then = {"train": {name: {f"{n}.png": f"{name}{n}" for n in range(9)} for name in "abcdefgh"}}
    now = {"train": {name: files | {f"{n}.png": "x" for n in range(8)} for name, files in then["train"].items()}}
    lines = images.differences(then, now)
    assert len(lines) == images.MAX_LINES and lines[3] == "train/a/ … and 5 more"
    assert lines[-1] == "… and 21 more lines"
    assert images.differences(then, {"train": then["train"] | {"i": {"0.png": "y"}}}) == [
        "train/i/ is new: a class folder of 1 image"
    ]
    swapped = {"train": {"a": {"0.png": "a0", "1.png": "a1"}, "b": {"0.png": "b0"}}}
    after = {"train": {"a": {"0.png": "a0"}, "b": {"0.png": "b0", "1.png": "a1"}}}
    assert images.differences(swapped, after) == ["train/a/1.png is now train/b/1.png"]


def test_an_older_run_without_images_csv_compares_numbers_of_images(run, moved):
    (run / "images.csv").unlink()
    Path("three/train/b/004.png").unlink()
    result, _ = reproduce(run, overrides=moved, dry_run=True)
    assert check(result, "images").details == (
        "single images cannot be compared: images.csv is missing, because the run is older or it was removed",
        "train/b/ has 15 images now, 16 then",
    )


def test_missing_folders_and_a_damaged_images_csv(run, moved):
    result, _ = reproduce(run, overrides=["train_data=nowhere"], dry_run=True)
    assert "There is no folder nowhere (train images)" in str(result.error)
    assert "or give their new location: train_data=FOLDER val_data=FOLDER" in str(result.error)
    Path("three/train/b/004.png").unlink()
    (run / "images.csv").write_text("split,picture\ntrain,a/1.png\n")
    with pytest.raises(RunError, match=r"images\.csv cannot be read: KeyError") as caught:
        reproduce(run, overrides=moved, dry_run=True)
    assert "expected  the columns split, image, sha256" in str(caught.value)


def test_the_same_images_that_do_not_pass_the_data_check(run):
    result, _ = reproduce(run, overrides=["class_num=4"], dry_run=True)
    why = check(result, "images").why
    assert why == "the same images, but they do not pass the data check with these settings"


# --- different machine, versions or settings -------------------------------------------------------------------------


def test_versions_machine_and_variables_that_differ_are_listed_with_their_effect(run):
    def change(content):
        environment = content["environment"]
        environment["packages"] |= {"mindspore": "2.7.0", "rich": "1.0", "extinct": "3"}
        environment["cpu"] = {"model": "another CPU", "instruction_set": "none of them", "cores": 64}
        environment["guards"]["OMP_NUM_THREADS"] = "7"
        environment["python"] = content["versions"]["python"] = "3.9.1"
        content["device"] = "gpu"
        content["code"] = "0" * 16
        content["determinism"] = {"bit_identical": False, "remains": "operators that add in another order"}

    edit(run, change)
    result, text = reproduce(run, overrides=["device=cpu"], dry_run=True)
    assert result.ok  # a dry run: none of this stops the repetition
    levels = {check.what: check.level for check in result.checks}
    assert levels["MindSpore"] == levels["device"] == levels["mslab"] == "matters"
    assert levels["CPU"] == levels["instruction set"] == levels["cores"] == levels["OMP_NUM_THREADS"] == "bits"
    assert levels["Python"] == "bits" and levels["other packages"] == levels["NumPy"] == "no"
    now = RunFolder.read(run).manifest["versions"]["mindspore"]
    assert check(result, "MindSpore").cause() == f"MindSpore: 2.7.0 then, {now} now: it does all computation"
    assert check(result, "other packages").details[0] == "extinct: 3 then, none now"
    assert check(result, "OMP_NUM_THREADS").now == os.environ.get("OMP_NUM_THREADS", "not set")
    assert "the device does not repeat its last bits: operators that add in another order" in text
    assert "device: it rounds differently, from the first step on" in text


def test_another_mindcv_matters_where_the_network_is_its(run):
    def state(network, **packages):
        config = resolved(network=network)
        return differing.State(config, 1, "cpu", None, {}, {"packages": packages})

    def others(network):
        then = state(network, abc="1", mindcv="0.3.0")
        return next(differing.packages(then, state(network, abc="2", mindcv="0.4.0")))

    assert (others(None).level, others(None).why) == ("no", "training does not use them")
    row = others("mindcv:mobilenet_v2_100")
    assert (row.level, row.why) == ("matters", "mindcv's code is the network")
    assert row.details == ("mindcv: 0.3.0 then, 0.4.0 now", "abc: 1 then, 2 now")


def test_an_older_run_without_a_recorded_environment(run):
    def make_older(content):
        content["schema"] = 1
        for key in ("code", "environment", "determinism", "reproduces", "resumed"):
            del content[key]
        del content["data"]["classes"]

    edit(run, make_older)
    result, _ = reproduce(run, dry_run=True)
    cpu = check(result, "CPU")
    assert result.ok and (cpu.then, cpu.level) == ("not recorded", "bits")
    assert cpu.why == "older runs do not record their machine"


def test_the_version_of_mslab_itself(run):
    now = differing.current_state(load_settings(run / "config.yaml"), "cpu", 1)
    then = differing.recorded_state(RunFolder.read(run))

    def level(git_then, git_now):
        then.git, now.git = git_then, git_now
        return differing.code(then, now)

    clean, dirty, other = {"commit": "a" * 40, "dirty": False}, {"commit": "a" * 40, "dirty": True}, "b" * 40
    assert level(clean, {"commit": other, "dirty": False}).why == "the same source files"
    assert level(clean, dirty).level == level(None, None).level == "no"
    now.code = "1" * 16
    assert level(clean, clean).cause().endswith(f"files {now.code} now: different code")
    then.code = None  # an older run
    assert level(clean, clean).level == "no"
    assert level(clean, {"commit": other, "dirty": False}).why == "different code"
    for git in (dirty, None):
        assert level(clean, git).why == "the records do not show whether the code is the same"
    assert level(clean, dirty).now == f"{mslab.__version__}, commit aaaaaaaaaa, files changed"


def test_files_that_changed_after_the_run_are_reported(run):
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("seed: 1 ", "seed: 5 "))
    change_row(run / "history.csv", 0, val_acc="0.1")
    (run / "steps.csv").unlink()
    result, _ = reproduce(run, dry_run=True)
    assert check(result, "config.yaml").why == "it was changed after the run; the repetition uses its settings"
    assert check(result, "history.csv").why == "it was changed after the run; its figures are compared"
    assert check(result, "steps.csv").why == "it was removed after the run; its losses are compared"
    assert check(result, "seed").why.startswith("config.yaml was changed after the run; different weights")
    assert {check(result, name).level for name in ("config.yaml", "history.csv", "steps.csv", "seed")} == {"matters"}


def test_settings_workers_and_threads(run, all_cores):
    result, _ = reproduce(run, overrides=["lr_max=0.01", "max_to_keep=3", "data_workers=2"], dry_run=True)
    assert check(result, "lr_max").level == "matters" and check(result, "max_to_keep").level == "no"
    if os.cpu_count() > 1:
        threads = check(result, "data_workers")
        assert (threads.then, threads.now, threads.level) == ("1", "2", "matters")
        assert threads.why == "another number of workers draws different augmentation"
    resumed = {"epoch": 1, "start": "2026-01-01T00:00:00+00:00", "environment": None}
    edit(run, lambda content: content.update(resumed=[resumed]))
    assert not [c for c in differing.limits(RunFolder.read(run)) if c.what == "resume"]
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("dropout: 0.0 ", "dropout: 0.5 "))
    reasons = [c.why for c in differing.limits(RunFolder.read(run))]
    assert reasons == ["dropout leaves out different features after a resume"]


def test_a_missing_device_stops_the_repetition(run):
    result, _ = reproduce(run, overrides=["device=ascend"], dry_run=True)
    message = str(result.error)
    assert not result.ok and "no driver" in message
    assert "device=cpu, or device=auto to use a device that works here" in message


def test_more_workers_than_cores_stop_the_repetition(run):
    edit(run, lambda content: content.update(workers=4096))
    result, _ = reproduce(run, dry_run=True)
    assert check(result, "workers").level == "stops" and "each worker is a process that needs a core" in str(
        result.error
    )


# --- two existing runs -----------------------------------------------------------------------------------------------


@pytest.fixture
def copy(run):
    """A second copy with the same result."""
    path = run.with_name("copy-20260101-000000")
    shutil.copytree(run, path)
    return path


def rehash(path):
    """Record the present sha256 of each file in the manifest."""
    edit(
        path,
        lambda content: content["artifacts"].update({n: files.sha256(path / n) for n in content["artifacts"]}),
    )


def test_equal_runs_are_identical_without_training(run, copy):
    result, text = reproduce(run, other_run=str(copy))
    assert result.ok and not result.trained and "identical: every epoch's figures" in text


def test_the_first_different_epoch_and_step_are_reported(run, copy):
    change_row(copy / "steps.csv", 8, loss="0.5")
    change_row(copy / "history.csv", 1, train_loss="0.9", images_per_s="1", seconds="1")
    rehash(copy)
    result, text = reproduce(run, other_run=str(copy), tolerance=0.9)
    assert result.comparison.first_difference == {"epoch": 2, "step": 9}
    assert result.comparison.verdict == "within tolerance"
    with (run / "steps.csv").open() as file:
        loss = list(csv.DictReader(file))[8]["loss"]
    assert f"the losses differ from step 9 on: {loss} then, 0.5 now" in text
    assert "the figures differ from epoch 2 on" in text and "nothing that was recorded differs" in text
    assert "train_loss, every epoch" in text and "  differs from epoch 2 on" in text
    assert "val_loss, every epoch" not in text


def test_the_tolerance_of_losses_is_five_times_that_of_accuracies(run, copy):
    rows = RunFolder.read(run).history
    change_row(copy / "history.csv", 1, train_loss=f"{rows[1]['train_loss'] * 1.08:.6g}")
    rehash(copy)
    result, text = reproduce(run, other_run=str(copy))
    assert result.ok and "within tolerance: accuracies differ by at most 0, losses by 8 %" in text
    assert "(accuracies may differ by 0.02, losses by 10 %)" in text
    result, text = reproduce(run, other_run=str(copy), tolerance=0.01)
    assert not result.ok
    assert "different: train_loss of the last epoch (accuracies may differ by 0.01, losses by 5 %)" in text
    assert comparing.verdict_of("accuracy", 0.90, 0.88, 0.02) == "within"
    assert comparing.verdict_of("accuracy", 0.90, 0.8799, 0.02) == "outside"
    assert comparing.verdict_of("loss", 1.0, None, 0.02) == "missing"


def test_different_weights_with_equal_figures_are_not_identical(run, copy):
    edit(copy, lambda content: content["artifacts"].update({"checkpoints/best.ckpt": "0" * 64}))
    result, text = reproduce(run, other_run=str(copy))
    assert result.comparison.verdict == "within tolerance" and result.comparison.first_difference is None
    assert "different weights" in text


def test_fewer_epochs_and_no_steps(run, copy):
    lines = (copy / "history.csv").read_text().splitlines()
    (copy / "history.csv").write_text("\n".join(lines[:2]) + "\n")
    (copy / "steps.csv").unlink()
    edit(copy, lambda content: (content.update(ended_by="enough"), content["artifacts"].pop("steps.csv")))
    result, text = reproduce(run, other_run=str(copy))
    assert result.comparison.first_difference == {"epoch": 2, "step": None} and "every step's loss" not in text
    if RunFolder.read(run).best["epoch"] == 2:
        assert "note: the best epoch was 2 then, 1 now" in text
    assert "note: 2 epochs then, 1 now" in text
    assert f"note: {copy} is older and has no steps.csv, so single steps cannot be compared" in text


def test_runs_with_different_images_are_different_experiments_even_if_equal(run, copy):
    edit(copy, lambda content: content["data"].update(fingerprint="0" * 64))
    change_row(copy / "images.csv", 4, sha256="0" * 64)
    rehash(copy)
    result, text = reproduce(run, other_run=str(copy))
    assert result.comparison.verdict == "identical" and not result.ok
    assert check(result, "images").level == "stops" and "has different contents" in text


def test_a_damaged_file_is_reported(run, copy):
    (copy / "eval.json").write_text('{"accuracy": "much"}')
    with pytest.raises(RunError, match=r"eval\.json cannot be read"):
        reproduce(run, other_run=str(copy))
    shutil.copy(run / "eval.json", copy)
    (copy / "steps.csv").write_text("step,loss\nfirst,0.1\n")
    with pytest.raises(RunError, match=r"steps\.csv cannot be read") as caught:
        reproduce(run, other_run=str(copy))
    assert "expected  the columns step and loss" in str(caught.value)


# --- refused ---------------------------------------------------------------------------------------------------------


def test_a_run_that_cannot_be_repeated_is_refused_with_the_reason(run, copy):
    edit(run, lambda content: content.update(status="interrupted", ended_by=None))
    with pytest.raises(RunError) as caught:
        reproduce(run)
    assert str(caught.value).startswith(f"{run} is not finished: 2 of 2 epochs, its status is interrupted.")
    assert f"fix       mslab train --resume {run}" in str(caught.value)
    with pytest.raises(RunError, match="is not finished"):
        reproduce(copy, other_run=str(run))
    (copy / "history.csv").rename("history.csv")
    with pytest.raises(RunError, match=r"has ended, but its history\.csv contains 0 of 2 epochs"):
        reproduce(copy)
    Path("history.csv").rename(copy / "history.csv")
    edit(copy, lambda content: content.update(epoch_images=30, command="mslab transfer x.yaml --compare frozen"))
    with pytest.raises(RunError) as caught:
        reproduce(copy)
    assert "is one of several runs of one command, trained on part of the training images" in str(caught.value)
    assert "repeat the command that made it: mslab transfer x.yaml --compare frozen" in str(caught.value)


def test_options_that_do_not_fit(run, copy):
    with pytest.raises(RunError, match=r"started from random weights: it cannot use --backbone x\.ckpt"):
        reproduce(run, backbone="x.ckpt", dry_run=True)
    with pytest.raises(RunError, match="--with compares two finished runs and trains nothing"):
        reproduce(run, other_run=str(copy), overrides=["seed=2"])
    with pytest.raises(MslabError, match="'sead' is not a setting; did you mean 'seed'"):
        reproduce(run, overrides=["sead=2"])
    with pytest.raises(RunError, match="There is no folder nowhere"):
        reproduce("nowhere")


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_one_json_document_and_sets_the_exit_code(run, copy, inside):
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


# --- the run's environment -------------------------------------------------------------------------------------------


def test_the_command_in_the_environment_has_all_options_except_install():
    options = ReproduceOptions(["seed=2"], backbone="best.ckpt", tolerance=0.1, dry_run=True)
    arguments = installing.command_line("runs/x", options, json_file="-", no_report=True)
    assert arguments[:4] == ["reproduce", "runs/x", "seed=2", "--backbone"] and "--install" not in arguments
    assert " ".join(arguments[3:]) == "--backbone best.ckpt --tolerance 0.1 --json - --dry-run --no-report"


def test_install_refuses_a_missing_python_and_unrecorded_packages(run, monkeypatch):
    assert installing.find_python(".".join(map(str, (3, 11, 1)))) if shutil.which("python3.11") else True
    with pytest.raises(DeviceError) as caught:
        installing.find_python("3.2.1")
    assert str(caught.value).startswith("The run was made with Python 3.2.1; there is no python3.2 on PATH.")
    assert "fix       install python3.2, or leave --install out" in str(caught.value)
    edit(run, lambda content: content.update(environment=None))
    with pytest.raises(RunError, match="is older and does not record its packages"):
        installing.run_in_environment(run, ReproduceOptions())


def test_invalid_package_names_do_not_reach_pip(run):
    for name, version in (("--index-url", "http://somewhere"), ("a", "1\n-e ."), ("a b", "1"), ("a", "")):
        edit(run, lambda content, name=name, version=version: content["environment"].update(packages={name: version}))
        with pytest.raises(RunError, match="The manifest contains invalid package names or versions"):
            installing.run_in_environment(run, ReproduceOptions())


def test_images_that_have_moved_are_equal_to_the_recorded_ones(run, moved):
    config = load_settings(run / "config.yaml", moved)
    report = check_dataset(config.train_data, config.val_data)
    assert images.present(report) == images.recorded(run)
