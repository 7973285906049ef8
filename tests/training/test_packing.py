"""Packed data sets: the same batches as from folders, bit for bit, and one clear message for each kind of damage."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from helpers import cli, draw, settings
from packs import draw_mixed, pack
from PIL import Image

import mslab
from mslab import check
from mslab.check import packed
from mslab.config import load_settings
from mslab.data import batching, packing, sources
from mslab.errors import DatasetError, MslabError
from mslab.evaluation import measuring, metrics
from mslab.runtime import devices


@pytest.fixture(scope="module")
def mixed(once):
    return once("mixed", draw_mixed)


@pytest.fixture(scope="module")
def packs(mixed, once):
    """The same images, packed in three shards per split. Do not modify."""
    return once("packs", lambda folder: pack(mixed, folder)) / "mixed"


@pytest.fixture
def copy(packs, tmp_path):
    return Path(shutil.copytree(packs, tmp_path / "copy"))


def both(mixed, packs, split="train"):
    devices.start("cpu", "pynative", 1)
    return [sources.images_of(check.check_dataset(root), split) for root in (mixed, packs)]


def equal(one, two):
    one, two = list(one), list(two)
    assert len(one) == len(two)
    return all(
        np.array_equal(x, v)
        and x.dtype == v.dtype
        and np.array_equal(y, w)
        and y.dtype == w.dtype
        and y.shape == w.shape
        for (x, y), (v, w) in zip(one, two, strict=True)
    )


def everything(images, config, epoch):
    return batching.augmented(images, config, epoch, batching.order_of(images, config, epoch), drop_last=False)


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_of_a_pack_are_those_of_the_folders(mixed, packs, workers):
    files, rows = both(mixed, packs)
    config = load_settings(settings(mixed, 3, data_workers=workers))
    for epoch in (0, 3):
        assert equal(batching.train_batches(files, config, epoch), batching.train_batches(rows, config, epoch))
        resampled = [images.resample(50) for images in (files, rows)]  # images appear twice
        assert equal(*(everything(images, config, epoch) for images in resampled))
    evaluation = [batching.eval_batches(images, 32, [0.5] * 3, [0.5] * 3, 8, workers) for images in (files, rows)]
    assert equal(*evaluation)


def test_a_packs_report_has_the_classes_counts_and_labels_of_the_folders(mixed, packs):
    of_folders, of_pack = check.check_dataset(mixed), check.check_dataset(packs)
    assert of_pack.ok and of_pack.class_names == of_folders.class_names and of_pack.counts == of_folders.counts
    assert of_pack.splits["train"].pixels == of_folders.splits["train"].pixels
    assert np.array_equal(*(images.labels for images in both(mixed, packs, "val")))
    assert of_pack.fingerprint and of_pack.fingerprint != of_folders.fingerprint
    assert "27 images" in (text := str(of_pack)) or "train      27" in text
    alone = check.check_dataset(packs / "val")
    assert list(alone.counts) == [""] and sum(alone.counts[""].values()) == 15


def test_the_fingerprint_depends_on_the_images_not_on_the_shards(mixed, packs, tmp_path):
    packing.pack_dataset(check.check_dataset(mixed), tmp_path / "other", shards=1)
    assert check.check_dataset(tmp_path / "other").fingerprint == check.check_dataset(packs).fingerprint
    shutil.copytree(mixed, tmp_path / "changed")
    next((tmp_path / "changed" / "train" / "a").iterdir()).unlink()
    packing.pack_dataset(check.check_dataset(tmp_path / "changed"), tmp_path / "less")
    assert check.check_dataset(tmp_path / "less").fingerprint != check.check_dataset(packs).fingerprint


def test_the_linear_model_of_a_pack_is_that_of_the_folders(mixed, packs):
    reports = [check.check_dataset(root) for root in (mixed, packs)]
    for most in (None, 7):
        one, two = (measuring.samples(report, "train", most) for report in reports)
        assert np.array_equal(metrics.thumbnails(one[0]), metrics.thumbnails(two[0])) and np.array_equal(one[1], two[1])


def test_a_pack_with_other_classes_gives_the_same_findings_as_folders(packs, tmp_path):
    draw(tmp_path / "val", ["a", "b", "x"], 3)
    report = check.check_dataset(packs / "train", tmp_path / "val", class_num=4)
    codes = {finding.code for finding in report.errors}
    assert codes == {"class-missing", "class-extra", "class-count"}
    with pytest.raises(DatasetError, match="class_num: 3"):
        report.raise_errors("x.yaml sets class_num: 4")


@pytest.mark.parametrize(
    "damage,expected",
    [
        (lambda path: os.truncate(path, path.stat().st_size - 100), "shard-0001.mindrecord  has "),
        (lambda path: path.unlink(), "shard-0001.mindrecord  is missing"),
        (lambda path: Path(f"{path}.db").unlink(), "shard-0001.mindrecord.db  is missing (the index of a shard)"),
    ],
)
def test_a_damaged_shard_is_reported_before_mindspore_opens_it(copy, damage, expected):
    damage(copy / "train" / "shard-0001.mindrecord")
    with pytest.raises(DatasetError) as caught:
        check.check_dataset(copy / "train", copy / "val")
    text = str(caught.value)
    assert f"The pack {copy}/train is damaged: 1 file of 6." in text and expected in text
    assert "sha256 in" in text and f"mslab data pack ROOT --out {copy}-again" in text


def test_every_damage_is_listed_at_once_and_check_finds_changed_bytes(copy):
    path = copy / "train" / "shard-0002.mindrecord"
    content = bytearray(path.read_bytes())
    content[-200] ^= 1
    path.write_bytes(content)
    assert check.check_dataset(copy).ok  # training compares sizes only
    (copy / "train" / "shard-0000.mindrecord").unlink()
    with pytest.raises(DatasetError) as caught:
        check.check_dataset(copy, verify_packs=True)
    text = str(caught.value)
    assert "2 files of 6" in text and "shard-0002.mindrecord  has other content than when it was written" in text
    done = cli("check", copy)
    assert done.returncode == 1 and "other content" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "text,expected",
    [
        ("{", "is not a file that mslab data pack wrote"),
        ("[1]", "is not a file that mslab data pack wrote"),
        ('{"schema": 1}', "class_names"),
        ('{"schema": 9}', "a newer mslab wrote it"),
        ('{"schema": "x"}', "has schema 'x'"),
    ],
)
def test_a_pack_json_that_cannot_be_used(copy, text, expected):
    (copy / "val" / "pack.json").write_text(text)
    with pytest.raises(DatasetError) as caught:
        check.check_dataset(copy)
    assert expected in str(caught.value) and f"{copy}/val/pack.json" in str(caught.value)
    assert f"mslab data pack ROOT --out {copy}-again" in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        {"class_names": ["b", "a", "c"]},
        {"class_names": ["a", "b", "../c"]},
        {"counts": [1, 2]},
        {"counts": [1, 2, 0]},
        {"counts": [10**9, 10**9, 10**9]},
        {"counts": [1, 2, "3"]},
        {"pixels": None},
        {"parts": [{"name": "/etc/passwd", "size": 1, "sha256": ""}]},
        {"parts": [{"name": "x"}]},
    ],
)
def test_a_pack_json_with_other_content_gives_no_traceback(copy, change):
    file = copy / "val" / "pack.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(DatasetError, match="is not a file that mslab data pack wrote"):
        packed.read(copy / "val")


def test_data_sets_that_cannot_be_packed(mixed, packs, tmp_path):
    report = check.check_dataset(mixed)
    (tmp_path / "existing").mkdir()
    (tmp_path / "file").touch()
    for pack_it, message in (
        (lambda: packing.pack_dataset(report, tmp_path / "existing"), "existing already exists"),
        (lambda: packing.pack_dataset(report, tmp_path / "x", shards=16), "16 shards .* the smallest split has 15"),
        (lambda: packing.pack_dataset(check.check_dataset(packs), tmp_path / "x"), "is already packed"),
        (lambda: packing.pack_dataset(report, Path("/proc/x")), r"^x needs .* in /proc, and the disk has 0 kB free"),
        (lambda: packing.pack_dataset(report, tmp_path / "file" / "x"), "file/x cannot be (written|created)"),
    ):
        with pytest.raises(MslabError, match=message):
            pack_it()
    draw(tmp_path / "bad", ["a", "b"], 3)
    (tmp_path / "bad" / "c").mkdir()
    done = cli("data", "pack", tmp_path / "bad", "--out", tmp_path / "x")
    assert done.returncode == 1 and "empty-class" in done.stderr and not (tmp_path / "x").exists()


def test_an_image_that_changes_while_it_is_packed(tmp_path):
    report = check.check_dataset(draw(tmp_path / "some", ["a", "b"], 3))
    (tmp_path / "some" / "b" / "001.png").write_bytes(b"other")
    with pytest.raises(DatasetError, match=r"b/001.png has changed since it was checked"):
        packing.pack_dataset(report, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["some"]


def test_large_and_small_images_in_one_shard(tmp_path):
    draw(tmp_path / "some", ["a", "b"], 3)
    noise = np.random.default_rng(0).integers(0, 255, (900, 900, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "some" / "a" / "large.png")  # 2.4 MB, more than the smallest page
    packing.pack_dataset(check.check_dataset(tmp_path / "some"), tmp_path / "out")
    files, rows = both(tmp_path / "some", tmp_path / "out", "")
    assert equal(files.dataset(np.arange(7)).create_tuple_iterator(num_epochs=1, output_numpy=True), read(rows))


def read(images):
    """Rows with their bytes as uint8, as from files; MindRecord returns one string of bytes."""
    for image, label in images.dataset(np.arange(len(images))).create_tuple_iterator(num_epochs=1, output_numpy=True):
        yield np.frombuffer(image.tobytes(), np.uint8), label


def test_plain_mindrecord_distributes_rows_over_its_shards(tmp_path):
    import mindspore.dataset as ds
    from mindspore.mindrecord import FileWriter

    writer = FileWriter(str(tmp_path / "x"), shard_num=2)
    writer.set_header_size(2**16)
    writer.set_page_size(2**15)
    writer.add_schema(packing.SCHEMA, "x")
    for start in (0, 3):
        writer.write_raw_data([{"image": b"x", "label": start + i, "file": "x"} for i in range(3)])
    writer.commit()
    files = [str(tmp_path / "x0"), str(tmp_path / "x1")]
    rows = ds.MindDataset(files, columns_list=["label"], shuffle=False).create_tuple_iterator(output_numpy=True)
    assert [int(label) for (label,) in rows] != list(range(6))  # the reason why every shard has its own writer


def test_training_and_evaluating_on_a_pack(mixed, packs, inside):
    run = mslab.train(settings(packs, 3, epochs=1, warmup_epochs=0)).run
    one, two = (mslab.evaluate(run, root / "val") for root in (mixed, packs))
    assert one["confusion"] == two["confusion"] and one["loss"] == two["loss"] and one["images"] == 15
    assert one["accuracy"] == json.loads((Path(run) / "eval.json").read_text())["accuracy"]
