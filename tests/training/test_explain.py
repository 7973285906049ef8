"""errors.explain recognises the errors that the installed MindSpore really raises."""

import io

import mindspore as ms
import numpy as np
import pytest
from mindspore import dataset, nn, ops
from mindspore.dataset import vision
from PIL import Image

from mslab.errors import explain


def rates_that_end():
    weight = ms.Parameter(ms.Tensor(np.ones(2, np.float32)), name="w")
    optimizer = nn.Momentum([weight], learning_rate=[0.1, 0.1], momentum=0.9)
    for _ in range(3):
        optimizer((ops.ones_like(weight),))
        weight.asnumpy()


def a_picture_in_webp(step):
    content = io.BytesIO()
    Image.new("RGB", (8, 8)).save(content, "WEBP")
    column = {"image": [np.frombuffer(content.getvalue(), np.uint8)]}
    list(dataset.NumpySlicesDataset(column, shuffle=False).map([step], ["image"]).create_tuple_iterator())


def fewer_than_a_batch():
    rows = {"x": np.ones((3, 2), np.float32), "y": np.ones(3, np.int32)}
    network = nn.Dense(2, 2)
    model = ms.Model(network, nn.CrossEntropyLoss(), nn.SGD(network.trainable_params()))
    model.train(1, dataset.NumpySlicesDataset(rows).batch(4, drop_remainder=True))


@pytest.mark.parametrize(
    "provoke,start",
    [
        (lambda: ms.set_device("Ascend"), "MindSpore could not use the device"),
        (
            lambda: dataset.GeneratorDataset([1], ["a"], num_parallel_workers=10**6),
            "MindSpore's data pipeline was set to",
        ),
        (lambda: dataset.config.set_num_parallel_workers(10**6), "MindSpore's data pipeline was set to more workers"),
        (fewer_than_a_batch, "The training pipeline produced no batch"),
        (rates_that_end, "A table was read one row past its end: most likely the learning-rate list ended"),
        (lambda: ops.ones((10**6, 10**6), ms.float32).asnumpy(), "The device ran out of memory"),
        (lambda: a_picture_in_webp(vision.Decode()), "MindSpore's decoder refused an image"),
        (lambda: a_picture_in_webp(vision.RandomCropDecodeResize(8)), "MindSpore's decoder refused an image"),
    ],
)
def test_mindspores_errors_are_explained(provoke, start, inside):
    with pytest.raises(Exception) as caught:
        provoke()
    assert str(explain(caught.value)).startswith(start), caught.value


def test_a_lookup_far_outside_a_table_is_not_explained_as_a_learning_rate():
    with pytest.raises(RuntimeError, match="input_indices") as caught:
        ops.gather(ms.Tensor(np.ones((3, 2), np.float32)), ms.Tensor([5], ms.int32), 0).asnumpy()
    assert explain(caught.value) is None
