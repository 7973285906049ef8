"""Features of a frozen backbone, computed once: the same results, loaded again, and never those of other settings."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from helpers import figures, log, newest, settings, stopped_after
from trainings import same_training

import mslab
from mslab import checkpoint, model
from mslab.check import check_dataset
from mslab.config import load_settings
from mslab.data import batching, cache, sources
from mslab.errors import RunError
from mslab.evaluation.engines import Engine
from mslab.training import features, start

MINDSPORE = Engine("mindspore")


@pytest.fixture
def frozen(squares, tmp_path, monkeypatch):
    """Settings of a frozen run, with its own cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return settings(squares / "two", 2, epochs=4, freeze="all", feature_views=4)


def numbers(run):
    return np.array([[float(value) for value in row.values()] for row in figures(run)])


def test_with_a_view_an_epoch_nothing_differs_from_training_on_images(parent, frozen, inside):
    views, plain = (mslab.transfer(frozen | {"feature_views": n}, backbone=parent).run for n in (4, 0))
    assert np.allclose(numbers(views), numbers(plain), atol=1e-4)
    for name in ("best.ckpt", "last.ckpt"):
        first, second = (checkpoint.read(Path(run) / "checkpoints" / name).tensors for run in (views, plain))
        assert first.keys() == second.keys()
        assert all(np.allclose(first[key], second[key], atol=1e-4) for key in first)
    evaluated = mslab.evaluate(views, frozen["val_data"])
    assert evaluated["accuracy"] == json.loads((Path(views) / "eval.json").read_text())["accuracy"]


def test_they_are_loaded_again_and_reported(parent, frozen, inside):
    config = frozen | {"feature_views": 2, "epochs": 2}
    first = mslab.transfer(config, backbone=parent).run
    folder = inside / "cache" / "mslab" / "features"
    assert "features computed: 2 views of 32 images by onnxruntime" in log(first) and str(folder) in log(first)
    files = sorted(folder.iterdir())
    assert [path.name.split("-")[1] for path in files] == ["0.npy", "1.npy", "val.npy"]
    for path in files:
        os.utime(path, (1, 1))
    inodes = [path.stat().st_ino for path in files]
    again = mslab.transfer(config | {"lr_max": 0.02}, backbone=parent).run  # another head, same features
    assert "features loaded" in log(again) and sorted(folder.iterdir()) == files
    assert [path.stat().st_ino for path in files] == inodes and files[0].stat().st_mtime > 1
    assert np.load(files[0], mmap_mode="r").shape == (32, 32)


CHANGES = [{"image_size": 48}, {"seed": 2}, {"crop_scale": 1.0}, {"std": [1.0, 1.0, 1.0]}, {"resize_mode": "pad"}]


@pytest.mark.parametrize("change", CHANGES)
def test_other_preprocessing_has_other_features(change, parent, frozen):
    backbone = model.resnet50_backbone(frozen["stages"])
    network = model.ResNet50(backbone, model.resnet50_head(2, backbone.channels))
    report = check_dataset(frozen["train_data"], frozen["val_data"])
    images = [sources.images_of(report, name) for name in ("train", "val")]

    def key(config, fingerprint="same", engine=MINDSPORE):
        config = load_settings(config | {"profile": model.PROFILE})
        return features.key_of(network, batching.ImageFeed(*images, config), fingerprint, engine)

    assert key(frozen) == key(frozen | {"lr_max": 0.01, "epochs": 9, "feature_views": 7})
    assert key(frozen) != key(frozen | change) and key(frozen) != key(frozen, "other images")
    others = [Engine("onnxruntime"), Engine("openvino"), Engine("openvino", "bf16")]
    assert len({key(frozen), *(key(frozen, engine=engine) for engine in others)}) == 4
    before = key(frozen)
    weight = network.backbone.conv1.weight
    weight.set_data(weight + 1e-6)
    assert key(frozen) != before


def test_a_damaged_file_is_written_again(parent, frozen, inside):
    first = mslab.transfer(frozen | {"feature_views": 2}, backbone=parent).run
    for number, path in enumerate(sorted((inside / "cache" / "mslab" / "features").iterdir())):
        path.write_bytes(path.read_bytes()[: 100 * number])
    again = mslab.transfer(frozen | {"feature_views": 2}, backbone=parent).run
    assert "features computed" in log(again)
    same_training(first, again)


@pytest.mark.parametrize(("views", "written"), [(2, 1), (0, 3)])
def test_a_backbone_with_features_is_written_once(views, written, parent, frozen, inside):
    config = frozen | {"feature_views": views, "epochs": 3, "best_by": "loss", "lr_max": 0.01}
    report, names = check_dataset(frozen["train_data"], frozen["val_data"]), ("best_backbone.ckpt", "best.ckpt")
    files = []

    def look(rows):
        files.append([(newest("frozen-*") / "checkpoints" / name).stat().st_ino for name in names])
        return ""

    parts = start.finetuning.backbone_of(parent)
    start.run(start.Job(load_settings(config), report, "frozen", parts), should_stop=look)
    backbones, networks = map(set, zip(*files, strict=True))
    assert (len(backbones), len(networks)) == (written, 3)  # each epoch was better


def test_a_resume_is_exact(parent, frozen, inside):
    config = frozen | {"feature_views": 2}
    uninterrupted = mslab.transfer(config, backbone=parent).run
    with stopped_after(1):
        mslab.transfer(config, backbone=parent, name="stopped")
    start.resume(newest("stopped-*"))
    same_training(newest("stopped-*"), uninterrupted)


def test_without_space_images_are_used_and_it_is_reported(parent, frozen, inside, monkeypatch):
    monkeypatch.setattr(features, "MAX_BYTES", 1000)
    run = mslab.transfer(frozen | {"epochs": 1, "warmup_epochs": 0}, backbone=parent).run
    assert "features are not cached" in log(run)
    assert list((inside / "cache" / "mslab" / "features").iterdir()) == []


def test_a_resume_uses_features_only_if_the_run_began_with_them(parent, frozen, inside, monkeypatch):
    def stopped(name, most):
        with monkeypatch.context() as patch, stopped_after(1):
            patch.setattr(features, "MAX_BYTES", most)
            mslab.transfer(frozen | {"epochs": 2}, backbone=parent, name=name)
        return newest(f"{name}-*")

    without = stopped("without", 1000)
    start.resume(without)
    assert "features computed" not in log(without)
    run = stopped("with", features.MAX_BYTES)
    with monkeypatch.context() as patch:
        patch.setattr(features, "MAX_BYTES", 1000)
        with pytest.raises(RunError, match="This run began with cached features, and they cannot be cached now"):
            start.resume(run)
    start.resume(run)


def test_the_oldest_features_make_room(tmp_path):
    for number, name in enumerate(["old-0.npy", "old-val.npy", "mine-0.npy", "mine-val.npy"]):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (number, number))
    cache.delete_oldest(tmp_path, "mine", 300)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine-0.npy", "mine-val.npy", "old-val.npy"]
    cache.delete_oldest(tmp_path, "mine", 0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine-0.npy", "mine-val.npy"]
