import torch
import torch.nn.functional as F
from torch import nn


def same_pads(size, kernel, stride):
    """Padding before and after an axis, for an output of ceil(size / stride)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total - total // 2, total // 2


class SameConv1d(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(2, 3, 4, stride=3, dtype=torch.float64)

    def forward(self, x):
        pads = same_pads(x.shape[-1], kernel=4, stride=3)
        x = F.pad(x, pads)
        return self.conv(x)


layer = SameConv1d()
