"""Complete networks of mindcv, torchvision and timm, in both directions."""

import os
import subprocess

import mindspore as ms
import numpy as np
import pytest
from helpers import cli
from others import agree, images, mindcv_in_both_directions

from mslab import checkpoint, model
from mslab.evaluation import measuring


@pytest.fixture(autouse=True)
def eager():
    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.mark.parametrize("name", ["resnet34", "resnet50", "resnet101", "resnet152"])
def test_mindcv_in_both_directions(name, tmp_path):
    mindcv_in_both_directions(name, tmp_path)


SCRIPT = """
import sys, numpy as np, torch, torchvision, timm
from safetensors.torch import save_file
kind, name, folder = sys.argv[1:]
torch.manual_seed(0)
net = torchvision.models.get_model(name) if kind == "torchvision" else timm.create_model(name)
for module in net.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
        for tensor, low, high in ((module.weight, .2, 1.2), (module.bias, -.3, .3), (module.running_mean, -.3, .3),
                                  (module.running_var, .05, 1.5)):
            torch.nn.init.uniform_(tensor, low, high)
x = torch.from_numpy(np.load(f"{folder}/x.npy"))
np.save(f"{folder}/logits.npy", net.eval()(x).detach().numpy())
torch.save(net.state_dict(), f"{folder}/net.pth")
save_file(net.state_dict(), f"{folder}/net.safetensors")
"""
LOAD = """
import sys, numpy as np, torch, torchvision
from safetensors.torch import load_file
name, file, folder = sys.argv[1:]
net = torchvision.models.get_model(name)
net.load_state_dict(load_file(file))
np.save(f"{folder}/back.npy", net.eval()(torch.from_numpy(np.load(f"{folder}/x.npy"))).detach().numpy())
"""


@pytest.mark.parametrize(
    "kind,name", [("torchvision", f"resnet{depth}") for depth in (18, 34, 50, 101, 152)] + [("timm", "resnet50")]
)
def test_torchvision_and_timm_in_both_directions(kind, name, tmp_path):
    python = os.environ.get("MSLAB_PEERS")
    if not python:
        pytest.skip("MSLAB_PEERS names no Python with torch, torchvision, timm and safetensors")
    np.save(tmp_path / "x.npy", images(96))
    subprocess.run([python, "-c", SCRIPT, kind, name, str(tmp_path)], check=True)
    expected = np.load(tmp_path / "logits.npy")
    for file in ("net.pth", "net.safetensors"):
        loaded = measuring.load_network(tmp_path / file)
        agree(loaded.network(ms.Tensor(images(96))).asnumpy(), expected)
    assert cli("convert", tmp_path / "net.pth", "--to", tmp_path / "own.ckpt").returncode == 0
    done = cli("convert", tmp_path / "own.ckpt", "--to", tmp_path / "back.safetensors")
    assert done.returncode == 0, done.stderr
    subprocess.run([python, "-c", LOAD, name, str(tmp_path / "back.safetensors"), str(tmp_path)], check=True)
    assert np.array_equal(np.load(tmp_path / "back.npy"), expected)  # bit for bit through mslab and back
    info = checkpoint.read(tmp_path / "own.ckpt").info
    assert info["profile"] == model.PROFILE | ({"block": "basic"} if name in ("resnet18", "resnet34") else {})
