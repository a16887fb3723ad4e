"""Networks as people write them, small: what traces of steps are tested on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Residual(nn.Module):
    """A residual block with changes in place and squeeze-and-excitation."""

    def __init__(self, c=4):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        self.conv2, self.bn2 = nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)
        self.relu = nn.ReLU(inplace=True)
        self.pool, self.fc = (
            nn.AdaptiveAvgPool2d(1),
            nn.Sequential(nn.Linear(c, 2), nn.ReLU(), nn.Linear(2, c), nn.Sigmoid()),
        )

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        b, c, _, _ = out.size()
        out = out * self.fc(self.pool(out).view(b, c)).view(b, c, 1, 1).expand_as(out)
        out += x
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(True), nn.MaxPool2d(3, 2, 1))
        self.block, self.drop, self.fc = Residual(), nn.Dropout(0.2), nn.Linear(4, 5)

    def forward(self, x):
        x = self.block(self.block(self.stem(x)))
        return self.fc(self.drop(torch.flatten(F.adaptive_avg_pool2d(x, (1, 1)), 1)))


class UNet(nn.Module):
    """Skips that are cropped, padded and joined."""

    def __init__(self):
        super().__init__()
        self.down, self.mid = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 6, 3, padding=1)
        self.up, self.out = nn.ConvTranspose2d(6, 4, 2, stride=2), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        skip = F.leaky_relu(self.down(x), 0.2)
        y = F.gelu(self.mid(F.max_pool2d(skip, 2)))
        y = self.up(y)
        dy, dx = skip.shape[2] - y.shape[2], skip.shape[3] - y.shape[3]
        y = F.pad(y, [dx // 2, dx - dx // 2, dy // 2, dy - dy // 2])
        y = self.out(torch.cat([skip, y], dim=1))
        return F.interpolate(y[:, :, 1:-1, 1:-1], size=x.shape[2:], mode="bilinear", align_corners=False)


class ASPP(nn.Module):
    """Branches of other dilations and a pooled one, resized to the others."""

    def __init__(self):
        super().__init__()
        self.branches = nn.ModuleList(nn.Conv2d(3, 2, 3, padding=d, dilation=d) for d in (1, 2, 3))
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 2, 1), nn.ReLU())
        self.project = nn.Sequential(nn.Conv2d(8, 3, 1), nn.Hardswish())

    def forward(self, x):
        found = [F.relu(branch(x)) for branch in self.branches]
        found.append(F.interpolate(self.pooled(x), size=x.shape[-2:], mode="bilinear", align_corners=False))
        return self.project(torch.cat(found, 1))


class Heads(nn.Module):
    """Heads that two levels share, with results in a dictionary of lists."""

    def __init__(self):
        super().__init__()
        self.low, self.high = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, 2, 1)
        self.classes, self.boxes = nn.Conv2d(4, 2, 1), nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU6())

    def forward(self, x):
        low = self.low(x)
        levels = [low, self.high(low)]
        scores = [self.classes(f).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 2) for f in levels]
        return {"scores": torch.cat(scores, dim=1).softmax(-1), "boxes": [self.boxes(f) for f in levels]}


class ConvNeXt(nn.Module):
    """A block on channels-last data, with a layer scale."""

    def __init__(self, c=4):
        super().__init__()
        self.dwconv, self.norm = nn.Conv2d(c, c, 7, padding=3, groups=c), nn.LayerNorm(c, eps=1e-6)
        self.pwconv1, self.act, self.pwconv2 = nn.Linear(c, 4 * c), nn.GELU(), nn.Linear(4 * c, c)
        self.gamma = nn.Parameter(torch.linspace(0.1, 0.9, c))

    def forward(self, x):
        y = self.dwconv(x).permute(0, 2, 3, 1)
        y = self.gamma * self.pwconv2(self.act(self.pwconv1(self.norm(y))))
        return x + y.permute(0, 3, 1, 2)


class WaveNet(nn.Module):
    """Causal convolutions with gates, cut after padding; the last residual layer has no effect."""

    def __init__(self):
        super().__init__()
        self.start = nn.utils.parametrizations.weight_norm(nn.Conv1d(2, 4, 1))
        self.dilated = nn.ModuleList(nn.Conv1d(4, 8, 2, padding=d, dilation=d) for d in (1, 2))
        self.residual = nn.ModuleList(nn.Conv1d(4, 4, 1) for _ in range(2))
        self.skip = nn.ModuleList(nn.Conv1d(4, 3, 1) for _ in range(2))

    def forward(self, x):
        x, total = self.start(x), 0
        for conv, residual, skip in zip(self.dilated, self.residual, self.skip, strict=True):
            y = conv(x)[:, :, : -conv.padding[0]]
            a, b = y.chunk(2, dim=1)
            z = torch.tanh(a) * torch.sigmoid(b)
            total = skip(z) + total
            x = (residual(z) + x) * 0.5**0.5
        return F.elu(total, 0.5)


class SuperResolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(3, 12, 3), nn.PReLU(12), nn.PixelShuffle(2))
        self.tail = nn.Conv2d(3, 3, 3, padding=1, padding_mode="replicate")

    def forward(self, x):
        mean = x.new_tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1)
        y = self.tail(self.body(x - mean)).clamp(-1, 1)
        return y + F.interpolate(x, scale_factor=2, mode="bicubic") + mean


class DCGAN(nn.Module):
    """A generator from a latent vector."""

    def __init__(self):
        super().__init__()
        self.fc, self.bn = nn.Linear(5, 4 * 2 * 3), nn.BatchNorm1d(24)
        self.up = nn.Sequential(
            nn.ConvTranspose2d(4, 3, 4, 2, 1),
            nn.InstanceNorm2d(3, affine=True),
            nn.LeakyReLU(0.2, True),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(3, 2, 3, padding="same"),
            nn.Tanh(),
        )

    def forward(self, z):
        return self.up(F.relu(self.bn(self.fc(z))).view(-1, 4, 2, 3))


class Attention(nn.Module):
    """A transformer's block written out, with a class token and learnt positions."""

    def __init__(self, c=6):
        super().__init__()
        self.patch, self.cls = nn.Conv2d(3, c, 4, 4), nn.Parameter(torch.randn(1, 1, c))
        self.pos = nn.Parameter(torch.randn(1, 7, c))
        self.qkv, self.norm = nn.Linear(c, 3 * c), nn.LayerNorm(c)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.cls.expand(x.shape[0], -1, -1), x), 1) + self.pos
        b, n, c = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(b, n, 3, 2, c // 2).permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) / (c // 2) ** 0.5).softmax(dim=-1)
        return (x + (weights @ v).transpose(1, 2).reshape(b, n, c))[:, 0]


class Shuffle(nn.Module):
    """ShuffleNet's unit, its shuffle written as reshapes."""

    def __init__(self):
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(2, 2, 3, 1, 1, groups=2), nn.BatchNorm2d(2), nn.SiLU(True))

    def forward(self, x):
        a, b = torch.split(x, 2, dim=1)
        y = torch.cat((a, self.branch(b)), dim=1)
        n, c, h, w = y.shape
        y = y.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)
        return torch.stack((y, y.cumsum(1) * 2), dim=1).amax(1)


NETWORKS = {
    "resnet": (ResNet, [(2, 3, 12, 10)], ()),
    "unet": (UNet, [(1, 3, 13, 12)], ()),
    "aspp": (ASPP, [(1, 3, 8, 7)], ()),
    "heads": (Heads, [(2, 3, 6, 7)], ()),
    "convnext": (ConvNeXt, [(1, 4, 8, 7)], ()),
    "wavenet": (WaveNet, [(1, 2, 12)], ()),
    "super-resolution": (SuperResolution, [(1, 3, 5, 6)], ()),
    "dcgan": (DCGAN, [(2, 5)], ()),
    "attention": (Attention, [(2, 3, 8, 12)], ()),
    "shuffle": (Shuffle, [(1, 4, 5, 6)], ("cumsum",)),
}
