"""Several workers, tested in one process: the division of images, shared state, and the launch command."""

import sys
import time
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from mslab import checkpoint, model
from mslab.config import load_settings
from mslab.data import batching, sources
from mslab.runtime import devices, workers
from mslab.training.launching import Cluster

# --- the division of images ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count,batch,size", [(48, 4, 2), (50, 4, 3), (9, 2, 2), (7, 2, 4)])
def test_every_sample_is_one_workers_once_an_epoch(count, batch, size):
    order = np.random.default_rng(0).permutation(count)
    parts = [workers.Group(rank, size).share(order, batch) for rank in range(size)]
    together = batch * size
    used = order[: count // together * together]
    assert sorted(np.concatenate(parts)) == sorted(used)
    for step in range(count // together):  # the same images in the same step as a single worker with the full batch
        numbers = np.concatenate([share[step * batch : (step + 1) * batch] for share in parts])
        assert numbers.tolist() == used[step * together : (step + 1) * together].tolist()


@pytest.mark.parametrize("count,size", [(21, 2), (3, 4), (8, 8)])
def test_what_is_measured_is_measured_once(count, size):
    parts = [workers.Group(rank, size).part(count) for rank in range(size)]
    assert sorted(np.concatenate(parts)) == list(range(count))


def test_a_worker_without_an_image_to_measure_measures_nothing(three):
    images = sources.FolderImages(np.array([0], np.int32), ["a", "b"], [Path("x.png")])
    assert list(batching.ImageFeed(images, images, load_settings(three), workers.Group(1, 2)).val()) == []


def test_alone_everything_is_unchanged():
    order = np.arange(7)
    assert workers.ALONE.share(order, 2) is order and workers.ALONE.broadcast({"a": 1}) == {"a": 1}
    assert workers.ALONE.sum([1, 2]).tolist() == [1, 2] and workers.ALONE.gradient_mean([]) is None


def test_synchronised_batchnorm_preserves_parameters_and_names():
    backbone = model.resnet50_backbone([[1, 8, 1], [1, 8, 2]])
    network = model.ResNet50(backbone, model.resnet50_head(3, backbone.channels))
    before = {p.name: id(p) for p in network.get_parameters()}
    norms = sum(type(cell) is nn.BatchNorm2d for _, cell in network.cells_and_names())
    workers.synchronise(network, workers.Group(0, 2))
    assert {p.name: id(p) for p in network.get_parameters()} == before
    kinds = [type(cell) for _, cell in network.cells_and_names()]
    assert kinds.count(workers.SyncBatchNorm2d) == norms == 9 and nn.BatchNorm2d not in kinds
    x = ms.Tensor(np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32))
    plain = model.resnet50_backbone([[1, 8, 1], [1, 8, 2]])
    checkpoint.load_exactly(
        plain.parameters_dict(), {p.name: p.asnumpy() for p in backbone.get_parameters()}, Path("x"), "backbone"
    )
    assert np.allclose(plain.set_train(False)(x).asnumpy(), backbone.set_train(False)(x).asnumpy(), atol=1e-5)


def test_frozen_statistics_are_unchanged_and_the_first_of_a_machine_goes_alone(tmp_path, monkeypatch):
    import threading

    backbone = model.resnet50_backbone([[1, 8, 1]])
    names = [p.name for p in backbone.get_parameters() if p.name.endswith("moving_mean")]
    workers.Group(0, 3).average_statistics(
        list(backbone.get_parameters()), [p.name for p in backbone.get_parameters()]
    )  # contacts no other worker
    assert len(names) == 5
    monkeypatch.setenv("MSLAB_LOGS", str(tmp_path))
    order = []

    def second():
        with workers.Group(3, 4, local=2).first_alone("x"):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    with workers.Group(2, 4, local=2).first_alone("x"):
        time.sleep(0.5)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_the_command_is_one_that_msrun_reads(monkeypatch):
    from mindspore.parallel.cluster.run import get_args

    command = Cluster(16, 2, 1, "node0:9000").command(Path("logs"), {"run": None})
    monkeypatch.setattr(sys, "argv", command[2:])
    read = get_args()
    assert (read.worker_num, read.local_worker_num, read.node_rank, read.master_port) == (16, 8, 1, 9000)
    assert (read.master_addr, read.join, read.log_dir, read.task_script) == ("node0", True, "logs", "python")
    assert read.task_script_args == ["-m", "mslab.training.worker", '{"run": null}']


def test_what_is_planned_is_what_is_called():
    calls = devices.setup_calls("cpu", "pynative", 7, jit_level="O0")
    devices.set_up(calls)
    assert ms.get_context("mode") == ms.PYNATIVE_MODE and ms.get_seed() == 7 and ms.dataset.config.get_seed() == 7
    devices.set_up(devices.setup_calls("cpu", "graph", 1))


def test_loss_scaling_learns_and_skips_an_overflow():
    from mslab.training.train_step import ScaledTrainStep

    devices.start("cpu", "graph", 1)
    backbone = model.resnet50_backbone([[1, 8, 1], [1, 8, 2]])
    network = model.ResNet50(backbone, model.resnet50_head(3, backbone.channels))
    halved = ms.amp.auto_mixed_precision(network, "O2")
    optimizer = nn.Momentum(network.trainable_params(), 0.05, 0.9)
    step = ScaledTrainStep(halved, nn.CrossEntropyLoss(), optimizer).set_train()
    rng = np.random.default_rng(0)
    images, labels = ms.Tensor(rng.normal(size=(8, 3, 32, 32)), ms.float32), ms.Tensor(np.arange(8) % 3, ms.int32)
    losses = [float(step(images, labels)[0].asnumpy()) for _ in range(10)]
    assert losses[0] == pytest.approx(np.log(3), abs=0.1) and losses[-1] < losses[0] / 1.5
    state = step.parameters_dict()
    assert {"scale_value", "counter"} <= {name.rpartition(".")[2] for name in state}, (
        "last.ckpt would not contain the scale"
    )
    before = network.head.classifier.weight.asnumpy().copy()
    step.scaler.scale_value.set_data(ms.Tensor(3e38, ms.float32))
    step(images, labels)
    assert (network.head.classifier.weight.asnumpy() == before).all()
    assert float(step.scaler.scale_value.asnumpy()) == pytest.approx(1.5e38)
