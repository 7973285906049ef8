"""Augmentation of images and batches: arithmetic by hand, seeds, and MindSpore's pitfalls."""

from collections import Counter

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from helpers import settings
from hypothesis import given
from hypothesis import strategies as st
from mindspore import nn
from mindspore.dataset import vision

from mslab import check
from mslab.config import load_settings
from mslab.data import augment, batching, seeding, sources
from mslab.errors import TrainingError
from mslab.evaluation import measuring
from mslab.report import show

NUMBERED = np.arange(1, 9, dtype=np.float32)[:, None, None, None] * np.ones((8, 3, 10, 14), np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1], np.int32)
SOFT_LABELS = np.eye(3, dtype=np.float32)[LABELS]


def loaded(three, **more):
    return load_settings(three | {"image_size": 32} | more)


# --- mixing ----------------------------------------------------------------------------------------------------------


def test_mixup_by_hand():
    images, soft_labels = augment.mixup(NUMBERED, SOFT_LABELS, np.random.default_rng(5), 0.4)
    rng = np.random.default_rng(5)
    weight, partner = rng.beta(0.4, 0.4), rng.permutation(8)
    for index in range(8):
        value = weight * (index + 1) + (1 - weight) * (partner[index] + 1)
        np.testing.assert_allclose(images[index], value, rtol=1e-6)
        expected = [weight * (LABELS[index] == c) + (1 - weight) * (LABELS[partner[index]] == c) for c in range(3)]
        np.testing.assert_allclose(soft_labels[index], expected, atol=1e-6)
    assert images.dtype == soft_labels.dtype == np.float32 and NUMBERED[3].max() == 4


@given(st.integers(0, 10_000), st.floats(0.05, 5))
def test_a_label_of_cutmix_is_the_fraction_of_the_pixels(seed, alpha):
    images, soft_labels = augment.cutmix(NUMBERED, SOFT_LABELS, np.random.default_rng(seed), alpha)
    assert NUMBERED[3].min() == NUMBERED[3].max() == 4  # the argument is unchanged
    for index in range(8):
        weight = np.mean(images[index] == index + 1)
        (partner,) = set(np.unique(images[index]) - 1) - {index} or {index}
        expected = weight * SOFT_LABELS[index] + (1 - weight) * SOFT_LABELS[int(partner)]
        np.testing.assert_allclose(soft_labels[index], expected, atol=1e-6)
        rows, columns = np.where(images[index, 0] != index + 1)  # the pixels of the other image are one rectangle
        assert len(rows) in (0, (np.ptp(rows) + 1) * (np.ptp(columns) + 1) if len(rows) else 0)


def test_with_both_each_batch_gets_one_of_them_at_random(three):
    config = loaded(three, mixup_alpha=0.4, cutmix_alpha=1.0)
    rng, kinds = np.random.default_rng(0), Counter()
    for _ in range(60):
        images, soft_labels = augment.mix((NUMBERED, LABELS), config, rng)
        assert soft_labels.shape == (8, 3) and np.allclose(soft_labels.sum(axis=1), 1, atol=1e-6)
        kinds["cutmix" if np.isin(images, NUMBERED).all() else "mixup"] += 1
    assert min(kinds.values()) > 15


def test_labels_are_checked_before_they_are_mixed(squares, three):
    config = loaded(three, mixup_alpha=0.4)
    images = train_images(squares)
    object.__setattr__(images, "labels", images.labels + 1)
    with pytest.raises(TrainingError, match=r"labels from .* to 3; the network has 3 outputs"):
        list(batching.train_batches(images, config, 0))


def test_mixing_and_erasing_depend_on_seed_epoch_and_worker(three):
    config = loaded(three)
    draws = {
        (epoch, rank, purpose): float(seeding.stream(purpose, config.seed, epoch, rank).random())
        for epoch in range(3)
        for rank in range(2)
        for purpose in seeding.PURPOSES
    }
    assert len(set(draws.values())) == len(draws)
    assert draws[1, 1, "erasing"] == float(seeding.stream("erasing", config.seed, 1, 1).random())


def test_erasing_cuts_one_rectangle_to_the_mean():
    images = np.ones((200, 3, 40, 40), np.float32)
    erased = augment.erase(images, np.random.default_rng(1), 0.5)
    assert images.min() == 1 and 70 < sum(image.min() == 0 for image in erased) < 130
    for image in erased:
        rows, columns = np.where(image[0] == 0)
        if len(rows):
            assert len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1) and (image[0] == image[2]).all()
            assert 0.015 <= len(rows) / 1600 <= 0.34
    assert (augment.erase(images, np.random.default_rng(1), 0.0) == images).all()
    assert all(image.min() == 0 for image in augment.erase(images, np.random.default_rng(1), 1.0))


def test_with_nothing_asked_a_step_sees_what_plain_operations_give(squares, three):
    config = loaded(three)
    images = train_images(squares)
    order = batching.order_of(images, config, 1)
    ds.config.set_seed((config.seed * 100_003 + 1) % 2**31)
    steps = [
        vision.Decode(),
        vision.RandomResizedCrop(32, scale=(0.5, 1.0), ratio=(3 / 4, 4 / 3)),
        vision.RandomHorizontalFlip(0.5),
        vision.RandomColorAdjust(0.2, 0.2, 0.2),
        vision.Normalize([255 * m for m in config.mean], [255 * s for s in config.std]),
        vision.HWC2CHW(),
    ]
    plain = images.dataset(order).map(steps, ["image"], num_parallel_workers=1).batch(8, drop_remainder=True)
    expected = list(plain.create_tuple_iterator(num_epochs=1, output_numpy=True))
    batches = list(batching.train_batches(images, config, 1))
    assert len(batches) == len(expected) == 6
    for (x, y), (a, b) in zip(batches, expected, strict=True):
        assert x.dtype == np.float32 and y.dtype == np.int32 and np.array_equal(x, a) and np.array_equal(y, b)


# --- balanced batches ------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), min_size=5, max_size=60), st.integers(0, 1000))
def test_balanced_positions(labels, seed):
    labels = np.array([0, 1, 2, 3, 4, *labels])  # every class occurs
    order = batching.balanced(labels, 5, np.random.default_rng(seed))
    assert len(order) == len(labels)
    for start in range(0, len(order) - 4, 5):
        assert sorted(labels[order[start : start + 5]]) == [0, 1, 2, 3, 4]
    for label in range(5):
        uses = Counter(order[labels[order] == label].tolist())
        positions = np.flatnonzero(labels == label)
        counts = [uses[position] for position in positions]
        assert max(counts) - min(counts) <= 1  # every image is used before one repeats
    assert np.array_equal(order, batching.balanced(labels, 5, np.random.default_rng(seed)))


def test_balanced_batches_of_an_unbalanced_set(squares, three):
    config = loaded(three, label_balance=True, batch_size=6)
    images = train_images(squares)
    images = images.take(np.flatnonzero((images.labels != 2) | (np.arange(len(images)) % 16 == 0)))
    assert np.bincount(images.labels).tolist() == [16, 16, 1]
    for _, labels in batching.train_batches(images, config, 0):
        assert np.bincount(labels, minlength=3).tolist() == [2, 2, 2]


# --- operations of MindSpore -----------------------------------------------------------------------------------------


def augmented(steps, pixels, count=400, seed=3):
    """Apply these operations `count` times to the same image."""

    class Source:
        def __len__(self):
            return count

        def __getitem__(self, index):
            return (pixels,)

    ds.config.set_seed(seed)
    source = ds.GeneratorDataset(Source(), ["x"], shuffle=False, num_parallel_workers=1, python_multiprocessing=False)
    mapped = source.map(steps, ["x"], num_parallel_workers=1)
    return [x for (x,) in mapped.create_tuple_iterator(num_epochs=1, output_numpy=True)]


def picture(size=48):
    rng = np.random.default_rng(0)
    return rng.integers(40, 220, (size, size, 3)).astype(np.uint8)


@pytest.mark.parametrize("name", augment.POLICIES)
def test_policies_repeat_and_lose_no_image(name):
    first, again = (augmented([augment.POLICIES[name]()], picture()) for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert len({image.tobytes() for image in first}) > 15
    assert np.mean([image.mean() < 3 for image in first]) < 0.01
    assert not all(
        np.array_equal(a, b)
        for a, b in zip(first, augmented([augment.POLICIES[name]()], picture(), seed=4), strict=True)
    )


def test_mindspores_own_policies_turn_images_black():
    """If this fails, MindSpore has fixed them, and those of augment.py can be removed."""
    assert np.mean([image.mean() < 3 for image in augmented([vision.TrivialAugmentWide()], picture())]) > 0.05
    assert np.mean([image.mean() < 3 for image in augmented([vision.RandAugment()], picture())]) > 0.1


def test_randaugment_applies_two_independent_operations():
    kinds = Counter(image.tobytes() for image in augmented([augment.randaugment()], picture(), count=3000))
    # 14 operations, 9 with two directions, one identity: 23 by 23 pairs, some of them equal
    assert len(kinds) > 200
    assert kinds[picture().tobytes()] / 3000 < 0.03  # twice the identity: 1 of 14 squared


def test_horizontal_and_vertical_flips_are_independent(three):
    corners = np.zeros((8, 8, 3), np.uint8)
    corners[:4, :4], corners[:4, 4:], corners[4:, :4], corners[4:, 4:] = 40, 80, 120, 160
    config = loaded(three, vertical_flip=True, color_jitter=0.0, crop_scale=1.0)
    flips = augment.train_transforms(config)[2:4]
    corner_counts = Counter(int(image[0, 0, 0]) for image in augmented(flips, corners, count=1000))
    assert sorted(corner_counts) == [40, 80, 120, 160] and min(corner_counts.values()) > 200
    trap = [vision.RandomHorizontalFlip(0.5), vision.RandomVerticalFlip(0.5)]
    # the reason why RandomVerticalFlip is not used
    assert len({int(image[0, 0, 0]) for image in augmented(trap, corners)}) == 2


def test_evaluation_resizes_then_crops_the_centre(squares):
    images = sources.FolderImages(np.zeros(4, np.int32), ["a"], [*train_images(squares).files[:4]])
    mean, std = [0.0] * 3, [1 / 255] * 3
    ((full, _),) = batching.eval_batches(images, 40, mean, std, 4, 1)
    ((middle, _),) = batching.eval_batches(images, 32, mean, std, 4, 1, resize=40)
    assert np.array_equal(middle, full[:, :, 4:36, 4:36])


class HalfMeans(nn.Cell):
    """Logits that differ after mirroring: the means of the left half and of the right half."""

    def construct(self, x):
        return ms.ops.stack((x[:, 0, :, :4].mean((1, 2)), x[:, 0, :, 4:].mean((1, 2))), 1)


def test_tta_is_the_mean_of_the_probabilities_of_image_and_mirror_image():
    x = np.random.default_rng(0).normal(size=(5, 3, 8, 8)).astype(np.float32)
    both = measuring.Mirrored(HalfMeans())(ms.Tensor(x)).asnumpy()

    def softmax(v):
        e = np.exp(v - v.max(axis=1, keepdims=True))
        return e / e.sum(axis=1, keepdims=True)

    halves = np.stack([x[:, 0, :, :4].mean((1, 2)), x[:, 0, :, 4:].mean((1, 2))], axis=1)
    expected = (softmax(halves) + softmax(halves[:, ::-1])) / 2
    np.testing.assert_allclose(softmax(both), expected, atol=1e-6)


class BothSigns(nn.Cell):
    """The mean of the image and its negative, as logits: the same for the mirror image."""

    def construct(self, x):
        return ms.ops.stack((x.mean((1, 2, 3)), -x.mean((1, 2, 3))), 1)


def test_tta_is_finite_where_a_probability_is_too_small_for_float32():
    both = measuring.Mirrored(BothSigns())(ms.Tensor(np.full((1, 3, 8, 8), 100, np.float32))).asnumpy()
    np.testing.assert_allclose(both, [[0, -200]], atol=1e-4)


def test_the_sheet_shows_the_augmented_images(squares, three, tmp_path):
    from PIL import Image

    config = loaded(three, mixup_alpha=0.4)
    report = check.check_dataset(config.train_data, config.val_data)
    show.augment_sheet(config, tmp_path / "sheet.png", report)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 3 * 32 and sheet.height > 3 * 32 and len(sheet.getcolors(10**6)) > 500


def train_images(squares):
    config = settings(squares / "three", 3)
    return sources.images_of(check.check_dataset(config["train_data"], config["val_data"]), "train")
