import torch
from torch import nn

layer = nn.ConvTranspose3d(
    6,
    12,
    (3, 4, 5),
    stride=(3, 2, 1),
    padding=(1, 2, 0),
    output_padding=(1, 0, 1),
    dilation=(1, 2, 3),
    groups=3,
    bias=False,
    dtype=torch.bfloat16,
)
