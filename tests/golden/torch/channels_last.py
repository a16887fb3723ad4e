from torch import nn


class ChannelsLastConv2d(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, (3, 2), stride=(1, 2), padding=(2, 0), groups=3)

    def forward(self, x):
        x = x.movedim(-1, 1)  # NHWC to NCHW
        x = self.conv(x)
        return x.movedim(1, -1)


layer = ChannelsLastConv2d()
