import torch.nn.functional as F
from torch import nn


class ChannelsLastCroppedConvTranspose2d(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.ConvTranspose2d(
            3, 2, (4, 3), stride=(2, 1), output_padding=(1, 0)
        )

    def forward(self, x):
        x = x.movedim(-1, 1)  # NHWC to NCHW
        x = self.conv(x)
        x = F.pad(x, (0, -1, -2, 0))  # negative pads crop
        return x.movedim(1, -1)


layer = ChannelsLastCroppedConvTranspose2d()
