"""Images that vanish, change or cannot be read while a run trains or is evaluated are named; the run can go on."""

import os
import re
import shutil
from pathlib import Path

import pytest
from helpers import draw, full_after, history, log, manifest, newest, settings, stopped_after
from packs import pack

import mslab
from mslab.check import check_dataset
from mslab.check.training_data import check_or_raise
from mslab.config import load_settings
from mslab.errors import DatasetError, MslabError
from mslab.experiments import lr_find
from mslab.training import start

QUICK = {"epochs": 2, "image_size": 16, "stages": [[1, 4, 1]], "batch_size": 4}
LOST = {
    "deleted": ("train/a/001.png", lambda path: path.unlink(), "is gone since it was checked."),
    "renamed": ("val/a/001.png", lambda path: path.rename(path.with_name("x.png")), "is gone since it was checked."),
    "cut": ("train/b/000.png", lambda path: os.truncate(path, 30), "has changed since it was checked: 30 bytes,"),
    "replaced": ("val/b/000.png", lambda path: shutil.copy(path.with_name("002.png"), path), "other content|bytes"),
    "a folder": (
        "train/a/003.png",
        lambda path: (path.unlink(), path.mkdir()),
        "can no longer be read: it is not a regu",
    ),
    "all gone": ("train", lambda path: path.rename(path.with_name("away")), r"is gone, and so is the folder .*train\."),
}


@pytest.fixture
def data(inside):
    for seed, split in enumerate(("train", "val")):
        draw(inside / "data" / split, ["a", "b"], 8, seed, 20)
    return inside / "data"


def job(data, damage=lambda: None, **more) -> start.Job:
    config = load_settings(settings(data, 2, **(QUICK | more)))
    return start.Job(config, check_or_raise(config), "run")


def spoil(path, change):
    """For should_stop: change the file after the first epoch."""

    def after(rows):
        if len(rows) == 1:
            change(path)
        return ""

    return after


def test_each_lost_image_is_named_and_the_epochs_before_it_are_kept(data):
    shutil.copytree(data, "saved")
    with stopped_after(1):
        mslab.train(job(data).settings)
    folder = newest()
    for name, change, words in LOST.values():
        (run, last), report = start.reopen(folder), job(data).report
        change(data / name)  # after the check
        with pytest.raises(DatasetError) as caught:
            start.continue_run(run, last, report)
        text = str(caught.value)
        assert re.search(re.escape(f"{data / name}") + ".*" + f"({words})", text), text
        assert re.search(rf", then\n +mslab train --resume {folder}    continues after epoch 1 of 2", text), text
        assert f"mslab train {folder}/config.yaml --from {folder}/checkpoints/last.ckpt" in text
        assert manifest(folder)["status"] == "failed" and len(history(folder)) == 1 and "Traceback" in log(folder)
        shutil.rmtree(data)
        shutil.copytree("saved", data)
    (run, last), report = start.reopen(folder), job(data).report
    (data / "train/a/001.png").touch()  # only its times change: it is still the image
    start.continue_run(run, last, report)
    assert len(history(folder)) == 2 and manifest(folder)["status"] == "done"


def test_a_shard_that_is_lost_while_it_trains_is_named(data):
    pack(data, Path())
    shard = sorted(Path("mixed/train").glob("*.mindrecord*"))[0]
    with pytest.raises(DatasetError, match=r"The pack mixed/train is damaged") as caught:
        start.run(job(Path("mixed"), cache="none"), should_stop=spoil(shard, lambda path: path.unlink()))
    assert f"{shard.name}  is missing" in str(caught.value)
    assert f"mslab train --resume {newest()}    continues" in str(caught.value)


def test_a_full_disk_says_how_the_run_goes_on(data):
    with (
        full_after(30_000),
        pytest.raises(MslabError, match=r"best.ckpt could not be written: File too large") as caught,
    ):
        start.run(job(data))
    assert re.search(rf", then\n +mslab train --resume {newest()}    continues from its beginning", str(caught.value))
    assert manifest(newest())["status"] == "failed"


def test_images_lost_before_the_first_epoch_and_in_other_commands_are_named(data):
    ready = job(data, cache="memory")
    run = mslab.train(ready.settings.replace(epochs=1, cache="none")).run
    report = check_dataset(data / "val")
    gone = [data / "train/a/002.png", data / "val/b/004.png"]
    for path in gone:
        path.unlink()
    with pytest.raises(DatasetError, match=r"train/a/002.png is gone") as caught:
        start.run(ready)  # decodes all images before the first epoch
    assert f"mslab train --resume {newest()}    continues from its beginning" in str(caught.value)
    with pytest.raises(DatasetError, match=r"val/b/004.png is gone"):
        mslab.evaluate(run, data / "val", report)
    with pytest.raises(DatasetError, match=r"train/a/002.png is gone"):
        lr_find.find_rate(ready.settings.replace(cache="none"), ready.report, steps=20)
