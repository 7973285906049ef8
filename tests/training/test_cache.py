"""Cached decoded images: the same batches, reused, never those of other images, and one log line without space."""

import os
from pathlib import Path

import numpy as np
import psutil
import pytest
from helpers import figures, log, newest, settings, stopped_after, weights
from PIL import Image
from trainings import same_training

import mslab
from mslab import check
from mslab.config import load_settings
from mslab.data import batching, cache, decoded, packing, sources
from mslab.runs import manifest
from mslab.runtime import devices
from mslab.training import start

LOCATIONS = ["memory", "disk"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A separate cache folder for the test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    devices.start("cpu", "pynative", 1)
    return tmp_path / "cache" / "mslab" / "decoded"


@pytest.fixture(scope="session")
def kinds(once):
    """{kind: root with train and val}: the same smooth images of many sizes, as PNG and as two kinds of JPEG."""

    def make(folder):
        rng = np.random.default_rng(0)
        for split, count in (("train", 12), ("val", 5)):
            for number in range(2 * count):
                rough = Image.fromarray(rng.integers(0, 255, (9, 9, 3), np.uint8))
                image = rough.resize(tuple(rng.integers(40, 160, 2).tolist()), Image.Resampling.BICUBIC)
                for kind in ("png", "full", "reduced"):
                    target = folder / kind / split / "ab"[number % 2]
                    target.mkdir(parents=True, exist_ok=True)
                    if kind == "png":
                        image.save(target / f"{number}.png")
                    else:
                        image.save(target / f"{number}.jpg", quality=90, subsampling=0 if kind == "full" else 2)

    folder = once("kinds", make)
    return {kind: folder / kind for kind in ("png", "full", "reduced")}


def parts(root, **more):
    """(images of both splits, the same cached as `cache` sets, config)."""
    config = load_settings(settings(root, 2, **more))
    report = check.check_dataset(root / "train", root / "val")
    plain = {name: sources.images_of(report, name) for name in ("train", "val")}
    return plain, decoded.cache_decoded(plain, config, report), config


def epoch(images, config, number=1, drop_last=False):
    order = batching.order_of(images, config, number)
    return np.concatenate([x for x, _ in batching.augmented(images, config, number, order, drop_last=drop_last)])


@pytest.mark.parametrize("location", LOCATIONS)
@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_the_same_with_and_without(kinds, home, all_cores, location, workers):
    for kind, root in kinds.items():
        plain, cached, config = parts(root, cache=location, data_workers=workers)
        assert cached["train"].decoded and not plain["train"].decoded
        for number in (0, 1):
            assert np.array_equal(epoch(plain["train"], config, number), epoch(cached["train"], config, number))
        resampled = [images["train"].resample(60) for images in (plain, cached)]  # images appear several times
        assert np.array_equal(*(epoch(images, config) for images in resampled))
        evaluation = [
            list(batching.eval_batches(p["val"], 32, [0.5] * 3, [0.5] * 3, 4, workers)) for p in (plain, cached)
        ]
        assert all(np.array_equal(x, v) and np.array_equal(y, w) for (x, y), (v, w) in zip(*evaluation, strict=True))
        none = load_settings(settings(root, 2, data_workers=workers, cache="none"))
        assert np.array_equal(epoch(plain["train"], none), epoch(cached["train"], config)), kind


@pytest.mark.parametrize("location", LOCATIONS)
def test_without_a_crop_nothing_differs(kinds, home, location):
    plain, cached, config = parts(kinds["reduced"], cache=location, crop_scale=1.0)
    none = load_settings(dict(config) | {"cache": "none"})
    assert np.array_equal(epoch(plain["train"], none), epoch(cached["train"], config))


@pytest.mark.parametrize("skip_content", [False, True])
def test_the_size_of_decoded_images_is_known_before_they_are_decoded(kinds, home, skip_content, tmp_path):
    packing.pack_dataset(check.check_dataset(kinds["reduced"]), tmp_path / "pack")
    for root in (*kinds.values(), tmp_path / "pack"):
        _, cached, _ = parts(root, cache="memory")
        size = sum(image.nbytes + 8 for part in cached.values() for image in part.pixels)
        report = check.check_dataset(root / "train", root / "val", skip_content=skip_content)
        assert decoded.size_of(report) == size


def test_a_run_decides_once_and_a_resume_keeps_it(kinds, inside, monkeypatch):
    with stopped_after(1):
        mslab.train(settings(kinds["png"], 2) | {"cache": "auto"}, name="fits")
    run = newest("fits-*")
    monkeypatch.setattr(start, "available_memory", lambda: 1 << 19)
    full = Path(mslab.train(settings(kinds["png"], 2) | {"cache": "auto"}, name="full").run)
    start.resume(run)
    for folder, cache_became in ((run, "memory"), (full, "none")):
        assert load_settings(folder / "config.yaml").cache == cache_became
        assert manifest.load(folder)["settings"]["cache"] == cache_became
        assert ("decoded images cached" in log(folder)) == (cache_became == "memory")
    assert weights(run) == weights(full)


@pytest.mark.parametrize("edited", [False, True])
def test_a_resume_with_auto_keeps_what_the_run_began_with(kinds, inside, edited):
    with stopped_after(1):
        mslab.train(settings(kinds["png"], 2, cache="none"), name="stopped")
    run, overrides = newest("stopped-*"), ["cache=auto"]
    if edited:
        config, overrides = run / "config.yaml", []
        config.write_text(config.read_text().replace("cache: none", "cache: auto"))
    start.resume(run, overrides=overrides)
    assert "cache: auto was decided when the run began: it goes on with none" in log(run)
    assert "decoded images cached" not in log(run) and load_settings(run / "config.yaml").cache == "none"
    assert manifest.load(run)["settings"]["cache"] == "none"


def test_a_run_that_feeds_features_decodes_nothing_in_advance(kinds, inside):
    parent = Path(mslab.train(settings(kinds["png"], 2, epochs=1), name="parent").run)
    frozen = settings(kinds["png"], 2, epochs=1, freeze="all", feature_views=1)
    results = [Path(mslab.transfer(frozen | {"cache": place}, parent).run) for place in ("none", "memory")]
    assert weights(results[0]) == weights(results[1])
    assert "features loaded" in log(results[1])  # one key: the cache changes speed only
    assert not any("decoded images cached" in log(run) for run in results)


def test_a_pack_is_cached_like_folders(kinds, home, tmp_path):
    packing.pack_dataset(check.check_dataset(kinds["reduced"]), tmp_path / "pack")
    folders, packs = (parts(root, cache="disk") for root in (kinds["reduced"], tmp_path / "pack"))
    assert np.array_equal(epoch(folders[1]["train"], folders[2]), epoch(packs[1]["train"], packs[2]))
    assert packs[1]["train"].names() == packs[0]["train"].names()


def test_files_on_disk_are_reused_and_other_images_have_their_own(kinds, home, caplog):
    caplog.set_level("INFO", "mslab")
    parts(kinds["png"], cache="disk")
    files = sorted(home.iterdir())
    assert [path.name.split("-")[1] for path in files] == ["train.rgb", "val.rgb"]
    assert "decoded images cached: 34 images" in caplog.text and str(home) in caplog.text
    for path in files:
        os.utime(path, (1, 1))
    inodes = [path.stat().st_ino for path in files]
    parts(kinds["png"], cache="disk", batch_size=4, seed=5)
    assert [path.stat().st_ino for path in files] == inodes and files[0].stat().st_mtime > 1
    parts(kinds["full"], cache="disk")
    assert len(list(home.iterdir())) == 4


def test_a_damaged_file_is_written_again(kinds, home):
    _, first, config = parts(kinds["png"], cache="disk")
    expected = epoch(first["train"], config)
    (path,) = home.glob("*train.rgb")
    content = path.read_bytes()
    for damaged in (b"", content[:100], content[:-8], content + b"12345678", content[:-4] + b"\xff" * 4):
        path.unlink()  # the earlier file is still mapped
        path.write_bytes(damaged)
        _, again, config = parts(kinds["png"], cache="disk")
        assert np.array_equal(epoch(again["train"], config), expected) and path.read_bytes() == content


@pytest.mark.parametrize("location", LOCATIONS)
def test_without_space_a_line_is_logged_and_training_continues(kinds, home, location, caplog, monkeypatch):
    caplog.set_level("INFO", "mslab")
    _, cached, config = parts(kinds["png"], cache=location)
    expected = epoch(cached["train"], config)
    monkeypatch.setattr(decoded, "available", lambda: 1000)
    monkeypatch.setattr(decoded, "MAX_BYTES", 1000)
    caplog.clear()
    _, images, config = parts(kinds["png"], cache=location)
    (line,) = caplog.text.splitlines()
    assert f"cache: {location}: decoded images are not cached: 0.0 GiB are too much (at most" in line
    assert "every epoch decodes them again" in line and not images["train"].decoded
    assert np.array_equal(epoch(images["train"], config), expected)


def test_available_memory_is_plausible():
    assert 2**20 < decoded.available() <= psutil.virtual_memory().total


def test_the_oldest_and_half_written_files_are_deleted(tmp_path):
    for number, name in enumerate(["old-train.rgb", "mine-train.rgb", ".x.tmp"]):
        (tmp_path / name).write_bytes(bytes(100))
        os.utime(tmp_path / name, (number, number))
    cache.delete_oldest(tmp_path, "mine", 150)
    assert [path.name for path in tmp_path.iterdir()] == ["mine-train.rgb"]


def test_a_run_that_is_killed_while_it_decodes_leaves_no_file(kinds, home, monkeypatch):
    def stop(*_):
        yield np.zeros((40, 40, 3), np.uint8)
        raise KeyboardInterrupt

    monkeypatch.setattr(decoded, "decode", stop)
    with pytest.raises(KeyboardInterrupt):
        parts(kinds["png"], cache="disk")
    assert list(home.iterdir()) == []


def test_a_run_with_a_cache_equals_one_without_and_resumes(kinds, home, inside):
    runs = [
        Path(mslab.train(settings(kinds["png"], 2, cache=location), name=location).run)
        for location in ("none", *LOCATIONS)
    ]
    assert weights(runs[0]) == weights(runs[1]) == weights(runs[2])
    assert figures(runs[0]) == figures(runs[1]) == figures(runs[2])
    assert "decoded images cached" in log(runs[1])
    with stopped_after(1):
        mslab.train(settings(kinds["png"], 2, cache="memory"), name="stopped")
    start.resume(newest("stopped-*"))
    same_training(newest("stopped-*"), runs[1])
