"""Networks of other projects, with weights like those of a trained network."""

from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from helpers import cli
from mindspore import nn

from mslab import checkpoint
from mslab.evaluation import measuring


def randomised(network: nn.Cell, seed: int = 1) -> nn.Cell:
    """Set weights as after training: gammas, betas and statistics of BatchNorm differ from 1 and 0, some are small."""
    rng = np.random.default_rng(seed)
    for parameter in network.get_parameters():
        shape = parameter.shape
        if parameter.name.endswith(("gamma", "moving_variance")):
            value = rng.uniform(0.002, 1.5, shape)
        elif parameter.name.endswith(("beta", "moving_mean", "bias")):
            value = rng.normal(0, 0.3, shape)
        else:
            value = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape)
        parameter.set_data(ms.Tensor(value.astype(np.float32)))
    return network.set_train(False)


def images(size: int = 64) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (2, 3, size, size)).astype(np.float32)


def agree(ours: np.ndarray, theirs: np.ndarray, tolerance: float = 1e-3) -> None:
    assert ours.shape == theirs.shape and np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max()


def mindcv_in_both_directions(name: str, folder: Path) -> None:
    """mindcv's network gives the same logits in mslab, and mslab's file of it loads into mindcv's, bit for bit."""
    pytest.importorskip("mindcv", reason="the test extra mindcv is not installed")
    from mindcv.models import create_model

    theirs = randomised(create_model(name))
    ms.save_checkpoint(theirs, str(folder / "mindcv.ckpt"))
    weights = checkpoint.read(folder / "mindcv.ckpt")
    assert weights.dialect.name == "mindcv" and weights.describe().startswith(f"ResNet-{name[6:]} of mindcv, 1000 ")
    loaded = measuring.load_network(folder / "mindcv.ckpt")
    expected = theirs(ms.Tensor(images())).asnumpy()
    agree(loaded.network(ms.Tensor(images())).asnumpy(), expected, 1e-5)
    assert cli("convert", folder / "mindcv.ckpt", "--to", folder / "own.ckpt").returncode == 0
    back = randomised(create_model(name), seed=2)
    param_dict = ms.load_checkpoint(str(folder / "own.ckpt"))
    param_dict.pop("mslab", None)
    assert ms.load_param_into_net(back, param_dict, strict_load=True) == ([], [])
    assert np.array_equal(back(ms.Tensor(images())).asnumpy(), expected)
