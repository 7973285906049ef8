"""Files to batches: order and augmentation from seed and epoch; labels within the network's outputs."""

import numpy as np
import pytest

from mslab import check
from mslab.config import load_settings
from mslab.data import batching, sources
from mslab.errors import DatasetError, TrainingError
from mslab.runtime import devices


@pytest.fixture
def images(squares):
    devices.start("cpu", "pynative", 1)
    return sources.images_of(check.check_dataset(squares / "three"), "train")


def epoch(images, config, number):
    batches = list(batching.train_batches(images, config, number))
    return np.concatenate([x for x, _ in batches]), np.concatenate([y for _, y in batches])


def test_batches_have_the_shapes_and_types_of_the_network(images, three):
    x, y = next(batching.train_batches(images, load_settings(three), 0))
    assert x.shape == (8, 3, 32, 32) and x.dtype == np.float32 and y.shape == (8,) and y.dtype == np.int32
    assert abs(x.mean()) < 3


def test_an_epoch_repeats_and_the_next_differs(images, three):
    config = load_settings(three)
    (x0, y0), (again, y_again), (x1, y1) = epoch(images, config, 0), epoch(images, config, 0), epoch(images, config, 1)
    assert np.array_equal(x0, again) and np.array_equal(y0, y_again)
    assert not np.array_equal(x0, x1) and not np.array_equal(y0, y1)
    x2, _ = epoch(images, load_settings(three | {"seed": 2}), 0)
    assert not np.array_equal(x0, x2)


def test_labels_follow_the_checks_order_not_the_folders(squares):
    devices.start("cpu", "pynative", 1)
    images = sources.images_of(check.check_dataset(squares / "three"), "val")
    labels = np.concatenate([y for _, y in batching.eval_batches(images, 32, [0.5] * 3, [0.5] * 3, 8)])
    assert [images.files[i].parent.name for i in range(len(images))] == [images.class_names[label] for label in labels]


def test_evaluation_sees_every_image_once_and_in_order(images):
    sizes = [len(y) for _, y in batching.eval_batches(images, 32, [0.5] * 3, [0.5] * 3, 10)]
    assert sizes == [10, 10, 10, 10, 8] and sum(sizes) == len(images)


def test_augmentation_settings_act_and_can_be_switched_off(images, three):
    off = three | {"crop_scale": 1, "flip": False, "color_jitter": 0}
    config = load_settings(off)
    order = np.random.default_rng([config.seed, 0]).permutation(len(images))[:8]
    plain = next(batching.train_batches(images, config, 0))[0]
    eval_x = np.concatenate([x for x, _ in batching.eval_batches(images, 32, config.mean, config.std, 8)])[order]
    assert np.array_equal(plain, eval_x)  # nothing random: the same as in evaluation
    for change in ({"flip": True}, {"color_jitter": 0.5}, {"crop_scale": 0.3}):
        assert not np.array_equal(next(batching.train_batches(images, load_settings(off | change), 0))[0], plain), (
            change
        )


def test_fewer_images_than_a_batch(images):
    with pytest.raises(DatasetError) as caught:
        batching.steps_per_epoch(images, 64)
    assert "48 training images, fewer than one batch of 64" in str(caught.value) and "batch_size=24" in str(
        caught.value
    )
    assert batching.steps_per_epoch(images, 10) == 4


def test_a_label_without_an_output_raises_before_the_loss(images):
    wrong = sources.FolderImages(images.labels, ["a", "b"], images.files)
    with pytest.raises(TrainingError, match="labels from 0 to 2; the network has 2 outputs"):
        list(batching.eval_batches(wrong, 32, [0.5] * 3, [0.5] * 3, 48))


def test_plain_mindspores_loss_silently_accepts_a_label_out_of_range():
    import mindspore as ms
    from mindspore import nn

    logits = ms.Tensor(np.zeros((1, 2), np.float32))
    loss = nn.SoftmaxCrossEntropyWithLogits(sparse=True)(logits, ms.Tensor(np.array([2], np.int32)))
    assert loss.shape == (1,)  # no exception, so labels are checked here
