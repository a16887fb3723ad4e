"""Small networks in the style of well-known ones, exported by PyTorch's own exporter, weights and statistics random."""

import functools
import tempfile
import warnings
from pathlib import Path

import torch
from torch import nn


def randomised(model, seed=0):
    """Trained networks have no statistics of 0 and 1: neither has this one."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


class Bottleneck(nn.Module):
    def __init__(self, channels, width, out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        return (self.bn3(self.conv3(y)) + self.shortcut(x)).relu()


def resnet():
    stem = nn.Sequential(nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
    blocks = [Bottleneck(8, 6, 16, 1), Bottleneck(16, 10, 24, 2), Bottleneck(24, 12, 40, 2)]
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(40, 7))
    return nn.Sequential(stem, *blocks, head), torch.randn(2, 3, 64, 64)


class Squeeze(nn.Module):
    def __init__(self, channels, width):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, width, 1), nn.Conv2d(width, channels, 1)

    def forward(self, x):
        return x * nn.functional.hardsigmoid(self.fc2(self.fc1(x.mean((2, 3), keepdim=True)).relu()))


def mobilenet():
    def block(i, wide, o, k, s):
        return nn.Sequential(
            nn.Conv2d(i, wide, 1, bias=False), nn.BatchNorm2d(wide, eps=1e-3), nn.Hardswish(),
            nn.Conv2d(wide, wide, k, s, k // 2, groups=wide, bias=False), nn.BatchNorm2d(wide, eps=1e-3),
            nn.Hardswish(),
            Squeeze(wide, 4), nn.Conv2d(wide, o, 1, bias=False), nn.BatchNorm2d(o, eps=1e-3),
        )  # fmt: skip

    stem = [nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8, eps=1e-3), nn.Hardswish()]
    return nn.Sequential(*stem, block(8, 12, 10, 3, 2), block(10, 20, 14, 5, 1)), torch.randn(1, 3, 48, 64)


class NextBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.dw = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.up, self.down = nn.Linear(channels, 3 * channels), nn.Linear(3 * channels, channels)
        self.gain = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x):
        y = self.norm(self.dw(x).permute(0, 2, 3, 1))
        return x + (self.gain * self.down(nn.functional.gelu(self.up(y)))).permute(0, 3, 1, 2)


def convnext():
    layers = [nn.Conv2d(3, 8, 4, 4), NextBlock(8), nn.Conv2d(8, 12, 2, 2), NextBlock(12)]
    return nn.Sequential(*layers), torch.randn(1, 3, 64, 48)


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU())
        self.down = nn.MaxPool2d(2)
        self.deep = nn.Sequential(nn.Conv2d(6, 10, 3, padding=2, dilation=2), nn.ReLU())
        self.up = nn.ConvTranspose2d(10, 6, 2, 2)
        self.last = nn.Sequential(nn.Conv2d(12, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 2, 1))

    def forward(self, x):
        left = self.first(x)
        return self.last(torch.cat([left, self.up(self.deep(self.down(left)))], 1))


def unet():
    return UNet(), torch.randn(1, 1, 32, 48)


class Gated(nn.Module):
    def __init__(self, channels, dilation):
        super().__init__()
        self.left = 2 * dilation
        self.tanh = nn.Conv1d(channels, channels, 3, dilation=dilation)
        self.gate = nn.Conv1d(channels, channels, 3, dilation=dilation)
        self.skip = nn.Conv1d(channels, channels, 1)

    def forward(self, x):
        padded = nn.functional.pad(x, (self.left, 0))
        return x + self.skip(self.tanh(padded).tanh() * self.gate(padded).sigmoid())


def wavenet():
    return nn.Sequential(nn.Conv1d(1, 5, 1), *(Gated(5, d) for d in (1, 2, 4)), nn.Conv1d(5, 3, 1)), torch.randn(
        2, 1, 60
    )


NETWORKS = {"resnet": resnet, "mobilenet": mobilenet, "convnext": convnext, "unet": unet, "wavenet": wavenet}


_FOLDER = tempfile.TemporaryDirectory(prefix="convspec-exported-")  # as long as the process


@functools.cache
def network(name: str) -> tuple[Path, nn.Module, int]:
    """The network as ONNX, the module, and how many convolutions it has; exported once; ``-raw``: as it is."""
    plain, _, raw = name.partition("-")
    path = Path(_FOLDER.name) / f"{name}.onnx"
    return path, *export(plain, path, optimize=not raw)


def export(name: str, path: Path, *, optimize: bool = True, dynamic: bool = False) -> tuple[nn.Module, int]:
    """Write the network as ONNX; returns it and how many convolutions it has."""
    torch.manual_seed(1)
    model, x = NETWORKS[name]()
    model = randomised(model)
    shapes = None
    if dynamic:
        Dim = torch.export.Dim
        shapes = ({0: Dim("batch", min=1, max=9), **{i + 2: Dim.DYNAMIC for i in range(x.ndim - 2)}},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTorch's exporter, about itself
        program = torch.onnx.export(model, (x,), dynamo=True, verbose=False, optimize=optimize, dynamic_shapes=shapes)
        program.save(path)
    kinds = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)
    return model, sum(isinstance(module, kinds) for module in model.modules())
