import mlx.core as mx
import mlx.nn as nn


def same_pads(size, kernel, stride):
    """Padding before and after an axis, for an output of ceil(size / stride)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total - total // 2, total // 2


class SameConv1d(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(4, 6, 3, stride=2, groups=2, bias=False)

    def __call__(self, x):
        pads = [
            (0, 0),
            same_pads(x.shape[1], kernel=3, stride=2),
            (0, 0),
        ]
        x = mx.pad(x, pads)
        return self.conv(x)


layer = SameConv1d()
