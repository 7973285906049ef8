"""Features of a frozen backbone, computed once: the same answers, found again, and never another's."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import settings

import mslab
from mslab import checkpoint, features, kept


@pytest.fixture
def frozen(squares, tmp_path, monkeypatch):
    """Settings of a frozen run, with a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return settings(squares / "two", 2, epochs=4, freeze="all", feature_views=4)


def history(result):
    rows = (Path(result.run) / "history.csv").read_text().splitlines()[1:]
    return [[float(value) for value in row.split(",")[:7]] for row in rows]


def test_with_a_view_an_epoch_nothing_differs_from_training_on_images(parent, frozen, inside):
    kept = mslab.transfer(frozen, backbone=parent)
    plain = mslab.transfer(frozen | {"feature_views": 0}, backbone=parent)
    assert np.allclose(history(kept), history(plain), atol=1e-4)
    for name in ("best.ckpt", "last.ckpt"):
        one, two = (checkpoint.read(Path(run.run) / "checkpoints" / name).tensors for run in (kept, plain))
        assert one.keys() == two.keys()
        assert all(np.allclose(one[key], two[key], atol=1e-4) for key in one)
    evaluated = mslab.evaluate(kept.run, Path(frozen["val_data"]))
    assert evaluated["accuracy"] == json.loads((Path(kept.run) / "eval.json").read_text())["accuracy"]


def test_they_are_found_again_and_said(parent, frozen, inside):
    first = mslab.transfer(frozen | {"feature_views": 2}, backbone=parent)
    log = (Path(first.run) / "train.log").read_text()
    assert "features computed: 2 views of 32 images" in log and str(inside / "cache" / "mslab" / "features") in log
    files = sorted((inside / "cache" / "mslab" / "features").iterdir())
    assert [path.name.split("-")[1] for path in files] == ["0.npy", "1.npy", "val.npy"]
    times = [path.read_bytes() for path in files]
    again = mslab.transfer(
        frozen | {"feature_views": 2, "lr_max": 0.02}, backbone=parent
    )  # another head, same features
    assert "features found" in (Path(again.run) / "train.log").read_text()
    assert [path.read_bytes() for path in files] == times
    assert len(np.load(files[0], mmap_mode="r")) == 32 and np.load(files[0]).shape[1] == 32


@pytest.mark.parametrize("change", [{"image_size": 48}, {"seed": 2}, {"crop_scale": 1.0}, {"std": [1.0, 1.0, 1.0]}])
def test_other_preprocessing_has_other_features(change, parent, frozen):
    from mslab import data, evaluation, model
    from mslab.check import check_dataset
    from mslab.config import load_config

    backbone = model.resnet50_backbone(frozen["stages"])
    network = model.ResNet50(backbone, model.resnet50_head(2, backbone.channels))
    report = check_dataset(frozen["train_data"], frozen["val_data"])
    images = [evaluation.images_of(report, name) for name in ("train", "val")]

    def key(config, fingerprint="same"):
        config = load_config(config | {"profile": model.PROFILE})
        return features.key_of(network, data.ImageFeed(*images, config), fingerprint)

    assert key(frozen) == key(frozen | {"lr_max": 0.01, "epochs": 9, "feature_views": 7})
    assert key(frozen) != key(frozen | change) and key(frozen) != key(frozen, "other images")
    before = key(frozen)
    weight = network.backbone.conv1.weight
    weight.set_data(weight + 1e-6)
    assert key(frozen) != before


def test_a_damaged_file_is_written_anew(parent, frozen, inside):
    first = mslab.transfer(frozen, backbone=parent)
    for number, path in enumerate(sorted((inside / "cache" / "mslab" / "features").iterdir())):
        path.write_bytes(path.read_bytes()[: 100 * number])
    again = mslab.transfer(frozen, backbone=parent)
    assert "features computed" in (Path(again.run) / "train.log").read_text()
    assert history(first) == history(again)


def test_a_resume_is_exact(parent, frozen, inside, monkeypatch):
    from mslab import runfolder, training

    whole = Path(mslab.transfer(frozen | {"feature_views": 2}, backbone=parent).run)
    end_epoch = runfolder.Run.end_epoch

    def stopping(run, row, *rest):
        end_epoch(run, row, *rest)
        raise KeyboardInterrupt

    monkeypatch.setattr(runfolder.Run, "end_epoch", stopping)
    with pytest.raises(KeyboardInterrupt):
        mslab.transfer(frozen | {"feature_views": 2}, backbone=parent, name="stopped")
    monkeypatch.setattr(runfolder.Run, "end_epoch", end_epoch)
    run = next((inside / "runs").glob("stopped-*"))
    training.resume(run)
    for name in ("best.ckpt", "last.ckpt"):
        assert (run / "checkpoints" / name).read_bytes() == (whole / "checkpoints" / name).read_bytes()


def test_where_there_is_no_room_images_are_used_and_it_is_said(parent, frozen, inside, monkeypatch):
    monkeypatch.setattr(features, "MOST", 1000)
    result = mslab.transfer(frozen | {"epochs": 1, "warmup_epochs": 0}, backbone=parent)
    assert "features are not kept" in (Path(result.run) / "train.log").read_text()
    assert list((inside / "cache" / "mslab" / "features").iterdir()) == []


@pytest.mark.slow
def test_a_resume_goes_the_way_that_the_run_began(parent, frozen, inside, monkeypatch):
    from mslab import runfolder, training
    from mslab.errors import RunError

    end_epoch = runfolder.Run.end_epoch

    def stopping(run, row, *rest):
        end_epoch(run, row, *rest)
        raise KeyboardInterrupt

    def stopped(name, most):
        with monkeypatch.context() as patch:
            patch.setattr(runfolder.Run, "end_epoch", stopping)
            patch.setattr(features, "MOST", most)
            with pytest.raises(KeyboardInterrupt):
                mslab.transfer(frozen | {"epochs": 2}, backbone=parent, name=name)
        return next((inside / "runs").glob(f"{name}-*"))

    without = stopped("without", 1000)
    training.resume(without)
    assert "features computed" not in (without / "train.log").read_text()
    run = stopped("with", features.MOST)
    with monkeypatch.context() as patch:
        patch.setattr(features, "MOST", 1000)
        with pytest.raises(RunError, match="This run began with kept features, and they cannot be kept now"):
            training.resume(run)
    training.resume(run)


def test_the_oldest_features_make_room(tmp_path):
    import os

    for number, name in enumerate(["old-0.npy", "old-val.npy", "mine-0.npy", "mine-val.npy"]):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (number, number))
    kept.make_room(tmp_path, "mine", 300)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine-0.npy", "mine-val.npy", "old-val.npy"]
    kept.make_room(tmp_path, "mine", 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine-0.npy", "mine-val.npy"]
