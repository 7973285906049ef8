"""Writes torch.pth and torch.npz, a small ResNet of PyTorch's and its logits: python tests/data/make.py."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

HERE = Path(__file__).parent


class Block(nn.Module):
    def __init__(self, channels, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride != 1 or channels != 4 * width:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, 4 * width, 1, stride, bias=False), nn.BatchNorm2d(4 * width)
            )

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        return (self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x))).relu()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1, self.layer2 = nn.Sequential(Block(64, 8, 1)), nn.Sequential(Block(32, 8, 2))
        self.fc = nn.Linear(32, 5)

    def forward(self, x):
        x = self.maxpool(self.bn1(self.conv1(x)).relu())
        return self.fc(self.layer2(self.layer1(x)).mean((2, 3)))


torch.manual_seed(0)
net = Net()
for module in net.modules():
    if isinstance(module, nn.BatchNorm2d):
        for tensor, low, high in (
            (module.weight, 0.2, 1.2),
            (module.bias, -0.3, 0.3),
            (module.running_mean, -0.3, 0.3),
            (module.running_var, 0.01, 1.5),
        ):
            nn.init.uniform_(tensor, low, high)
images = torch.randn(2, 3, 37, 50)
np.savez_compressed(HERE / "torch.npz", images=images.numpy(), logits=net.eval()(images).detach().numpy())
torch.save(net.state_dict(), HERE / "torch.pth")
