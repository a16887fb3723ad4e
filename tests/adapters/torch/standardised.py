"""A layer of PyTorch that computes its weights from its weights, and pads by itself."""

import torch.nn.functional as F
from torch import nn


class Standardised(nn.Conv2d):
    """A convolution that is not what its attributes say."""

    def forward(self, x):
        w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(F.pad(x, (0, 1, 1, 0)), w, self.bias, self.stride)
