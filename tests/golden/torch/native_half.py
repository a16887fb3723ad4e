import torch
from torch import nn

layer = nn.Conv2d(
    3, 16, 3, padding=1, bias=False, padding_mode="reflect", dtype=torch.float16
)
