import mlx.core as mx
import mlx.nn as nn


class ChannelsFirstConv2d(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(
            3, 4, (3, 5), stride=(2, 1), padding=(1, 2), dilation=(1, 2)
        )

    def __call__(self, x):
        x = mx.moveaxis(x, 1, -1)
        x = self.conv(x)
        return mx.moveaxis(x, -1, 1)


layer = ChannelsFirstConv2d()
