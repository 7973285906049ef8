"""What may change when a run goes on: where it and its images are, the machine, and the end. The rest is refused."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
from helpers import cli, figures, history, log, manifest, newest, settings, stopped_after, weights
from trainings import same_training

import mslab
from mslab import files
from mslab.config import load_settings
from mslab.errors import DatasetError, RunError
from mslab.training import resuming, start

QUICK = {"image_size": 16, "stages": [[1, 4, 1]], "max_to_keep": 2}


@pytest.fixture(scope="module")
def begun(squares, tmp_path_factory):
    """A folder with images and a run of them that was stopped after its first epoch of two."""
    here, folder = Path.cwd(), tmp_path_factory.mktemp("begun")
    shutil.copytree(squares / "three", folder / "data")
    os.chdir(folder)
    try:
        with stopped_after(1):
            mslab.train(settings(Path("data"), 3, **QUICK))
    finally:
        os.chdir(here)
    return folder


@pytest.fixture
def stopped(begun, inside):
    """That run and its images, copied into the current folder."""
    shutil.copytree(begun, ".", dirs_exist_ok=True)
    return newest()


def test_a_run_and_its_images_may_move(stopped, inside, monkeypatch):
    """As after copying both to another machine: it ends like a run that was never moved."""
    uninterrupted = Path(mslab.train(settings(Path("data"), 3, **QUICK)).run).resolve()
    (inside / "other").mkdir()
    stopped.rename("other/my run")
    Path("data").rename("other/images")
    monkeypatch.chdir(inside / "other")
    with pytest.raises(DatasetError) as caught:
        start.resume("my run")
    text = str(caught.value)
    assert "my run was trained on images in data/train, which does not exist (looked up from" in text
    assert "mslab train --resume 'my run' train_data=FOLDER val_data=FOLDER" in text
    start.resume("my run", overrides=["train_data=images/train", "val_data=images/val", "max_to_keep=2"])
    assert load_settings(Path("my run/config.yaml")).train_data == "images/train"
    assert "train_data: images/train from now on, data/train before" in log("my run")
    assert figures("my run") == figures(uninterrupted)
    for name in ("best.ckpt", "last.ckpt", "epoch-0002.ckpt"):
        assert weights("my run", name) == weights(uninterrupted, name)


def test_other_images_are_refused_with_both_fingerprints_and_what_differs(stopped):
    shutil.copytree("data", "other")
    (Path("other/train/a/000.png")).unlink()
    before = (stopped / "config.yaml").read_bytes()
    with pytest.raises(DatasetError) as caught:
        start.resume(stopped, overrides=["train_data=other/train"])
    text = str(caught.value)
    assert "The images differ from those" in text and re.search(r"images .*train/a/.*000.png", text), text
    assert re.search(r"the fingerprint [0-9a-f]{12}…; here it is [0-9a-f]{12}…", text), text
    assert (stopped / "config.yaml").read_bytes() == before


def test_a_setting_of_the_epochs_so_far_is_refused_by_name_and_what_is_said_instead_works(stopped):
    done = cli("train", "--resume", stopped, "lr_max=0.2", "epochs=20", "batch_size=4", "data_workers=1")
    assert done.returncode == 1
    text = done.stderr
    assert f"ConfigError: {stopped} cannot go on with other values of batch_size, lr_max, epochs." in text, text
    assert re.search(r"lr_max +0.05 -> 0.2: the epochs so far were trained with 0.05\n", text)
    assert re.search(
        r"epochs +2 -> 20: in lr_scheduler: warmup_cosine the rates of the 1 epochs so far would have been others", text
    )
    assert f"mslab train {stopped}/config.yaml --from {stopped}    and KEY=VALUE" in text
    again = cli("train", stopped / "config.yaml", "--from", stopped, "lr_max=0.2", "epochs=1", "--no-report")
    assert again.returncode == 0 and manifest(newest("config-*"))["kind"] == "incremental", again.stderr


def test_more_epochs_where_the_schedule_allows_are_as_if_it_had_begun_with_them(squares, inside):
    constant = settings(squares / "three", 3, **QUICK, lr_scheduler="constant")
    long = mslab.train(constant | {"epochs": 3}, name="long").run
    run = Path(mslab.train(constant, name="short").run)
    done = cli("train", "--resume", run, "epochs=3", "--no-report")
    assert done.returncode == 0 and len(history(run)) == 3, done.stderr
    same_training(run, long)
    fewer = cli("train", "--resume", run, "epochs=1")
    assert fewer.returncode == 1 and "3 epochs are trained already" in fewer.stderr
    finished = cli("train", "--resume", run)
    assert finished.returncode == 0 and "3 of 3 epochs; nothing to do" in finished.stderr
    assert f"mslab train {run}/config.yaml --from {run}    and KEY=VALUE: a new run" in finished.stderr
    assert manifest(run)["status"] == "done"


def test_a_run_that_has_ended_by_itself_takes_no_other_end(squares, inside):
    run = Path(mslab.train(settings(squares / "three", 3, **QUICK, target_accuracy=0.01), name="early").run)
    done = cli("train", "--resume", run, "target_accuracy=0.99")
    assert done.returncode == 1
    assert re.search(r"target_accuracy +0.01 -> 0.99: the run has ended by itself: val_acc", done.stderr), done.stderr
    done = cli("train", "--resume", run, "max_to_keep=1")
    assert done.returncode == 0 and "note: max_to_keep changes nothing: the run is finished" in done.stderr


def edit(run, *changes, mark=b"", ends="\n"):
    """Edit config.yaml as an editor does: (pattern, new text) of lines."""
    text = (run / "config.yaml").read_text()
    for pattern, new in changes:
        text, count = re.subn(rf"(?m)^{pattern}", new, text)
        assert count, pattern
    (run / "config.yaml").write_bytes(mark + text.replace("\n", ends).encode())


def test_an_edited_config_is_compared_with_what_the_manifest_recorded(stopped, inside):
    original = (stopped / "config.yaml").read_text()
    recorded = manifest(stopped)
    assert recorded["settings"]["lr_max"] == 0.05
    assert recorded["artifacts"]["config.yaml"] == files.sha256(stopped / "config.yaml")
    edit(stopped, ("lr_max: .*", "lr_max: 0.2"), ("seed: .*", "seed: 7"), ("batch_size: .*", "batch_size: 4"))
    done = cli("train", "--resume", stopped, "data_workers=2")
    assert done.returncode == 1 and "cannot go on with other values of batch_size, lr_max, seed" in done.stderr
    for row in ("batch_size +8 -> 4: the epochs so far", "lr_max +0.05 -> 0.2: the epochs", "seed +1 -> 7: the epochs"):
        assert re.search(row, done.stderr), done.stderr
    assert f"write the old values of batch_size, lr_max, seed into {stopped}/config.yaml; or" in done.stderr
    assert "compil" not in done.stderr and manifest(stopped) == recorded
    text = cli("verify", stopped).stdout
    assert re.search(r"changed +config.yaml .*; batch_size: 8 -> 4, lr_max: 0.05 -> 0.2, seed: 1 -> 7\n", text), text
    (stopped / "config.yaml").write_text(original)
    edit(stopped, (r"stages: \[\[1, 4, 1\]\]", "stages: [[1, 8, 1]]"))
    done = cli("train", "--resume", stopped)
    assert re.search(r"stages +\[\[1, 4, 1\]\] -> \[\[1, 8, 1\]\]: the epochs so far", done.stderr), done.stderr
    half = original[: len(original) // 2].rpartition("\n")[0]  # the rest would have its defaults
    (stopped / "config.yaml").write_text(half)
    assert "settings of the run, whose defaults differ" in cli("train", "--resume", stopped).stderr


def test_a_harmless_edit_is_no_difference_and_an_allowed_one_is_recorded(squares, inside):
    """Comments, order, line ends and a byte-order mark say nothing; epochs, paths and workers may change."""
    shutil.copytree(squares / "three", "data")
    with stopped_after(1):
        mslab.train(settings(Path("data"), 3, **QUICK, lr_scheduler="constant"))
    run = newest()
    lines = (run / "config.yaml").read_text().splitlines(keepends=True)
    (run / "config.yaml").write_text("# mine\n" + "".join(reversed(lines)))
    edit(run, mark=b"\xef\xbb\xbf", ends="\r\n")
    assert resuming.reopen(run)[0].changed == {}
    assert "its settings are the same" in cli("verify", run).stdout
    Path("data").rename("moved")
    edit(
        run,
        ("epochs: .*", "epochs: 3"),
        ("train_data: data", "train_data: moved"),
        ("val_data: data", "val_data: moved"),
    )
    done = cli("train", "--resume", run, "max_to_keep=1", "--no-report")
    assert done.returncode == 0 and "epochs: 3 from now on, 2 before" in done.stderr, done.stderr
    (resumed,) = manifest(run)["resumed"]
    assert resumed["changed"] == {
        "train_data": ["data/train", "moved/train"],
        "val_data": ["data/val", "moved/val"],
        "epochs": [2, 3],
        "max_to_keep": [2, 1],
    }
    assert manifest(run)["settings"]["epochs"] == 3 and len(history(run)) == 3
    assert cli("verify", run).returncode == 0
    edit(run, ("seed: .*", "seed: 3"))
    assert re.search(r"seed +1 -> 3: the epochs so far", cli("train", "--resume", run).stderr)


def test_a_manifest_of_an_older_mslab_resumes_and_says_what_it_cannot_compare(stopped):
    """It has no settings, and the sha256 of config.yaml only once the run has ended."""
    older = manifest(stopped)
    for name in ("settings", "saved"):
        del older[name]
    (stopped / "manifest.json").write_text(json.dumps(older))
    original = (stopped / "config.yaml").read_bytes()
    edit(stopped, mark=b"\xef\xbb\xbf", ends="\r\n")
    assert resuming.reopen(stopped)[0].notes == []
    edit(stopped, ("lr_max: .*", "lr_max: 0.2"))
    with pytest.raises(RunError, match=r"config.yaml has changed since the run wrote it[^$]*an older mslab"):
        start.resume(stopped)
    (stopped / "config.yaml").write_bytes(original)
    (stopped / "manifest.json").write_text(json.dumps(older | {"status": "running", "artifacts": {}}))
    start.resume(stopped)
    assert "is of an older mslab and does not record its settings" in log(stopped)
    assert manifest(stopped)["settings"]["lr_max"] == 0.05 and cli("verify", stopped).returncode == 0


def test_a_chosen_epoch_is_no_run_to_resume(stopped):
    kept = stopped / "checkpoints" / "epoch-0001.ckpt"
    with pytest.raises(RunError) as caught:
        start.resume(kept)
    text = str(caught.value)
    assert f"mslab train --resume {stopped}\n" in text and f"mslab train {stopped}/config.yaml --from {kept}" in text
    again = cli("train", stopped / "config.yaml", "--from", kept, "epochs=1", "--no-report")
    assert again.returncode == 0 and manifest(newest("config-*"))["kind"] == "incremental", again.stderr


def test_a_config_beside_resume_is_refused(stopped):
    done = cli("train", "two.yaml", "--resume", stopped)
    assert done.returncode == 1 and "leave CONFIG out: a resumed run uses its own config" in done.stderr
