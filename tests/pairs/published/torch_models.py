"""The networks as users of PyTorch write them, weights and statistics random."""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

from tests.networks.published import convnext_tiny, randomised, resnet50, unet, wavenet

resnet_50, convnext_t, u_net = resnet50, convnext_tiny, unet

__all__ = [
    "convnext_t", "dcgan", "deeplab_aspp", "efficientnet_b0", "hifi_gan", "nnu_net", "resnet_50", "retinanet_head",
    "u_net", "wavenet",
]  # fmt: skip


class SameConv2d(nn.Conv2d):
    """Padded as TensorFlow's 'same' does: the odd row and column after."""

    def forward(self, x):
        pads = []
        for size, kernel, stride in zip(x.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return super().forward(functional.pad(x, pads))


def same(inputs, outputs, kernel, stride=1, groups=1):
    conv = SameConv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs, eps=1e-3))


class MBConv(nn.Module):
    def __init__(self, inputs, outputs, kernel, stride, expansion):
        super().__init__()
        hidden, squeezed = inputs * expansion, max(1, inputs // 4)
        self.expand = same(inputs, hidden, 1) if expansion > 1 else None
        self.depthwise = same(hidden, hidden, kernel, stride, hidden)
        self.reduce, self.restore = nn.Conv2d(hidden, squeezed, 1), nn.Conv2d(squeezed, hidden, 1)
        self.project = same(hidden, outputs, 1)
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x):
        y = x if self.expand is None else functional.silu(self.expand(x))
        y = functional.silu(self.depthwise(y))
        y = y * torch.sigmoid(self.restore(functional.silu(self.reduce(y.mean((2, 3), keepdim=True)))))
        y = self.project(y)
        return x + y if self.skips else y


EFFICIENTNET = (  # expansion, channels, repeats, stride, kernel
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)  # fmt: skip


def efficientnet_b0(width=1):
    inputs = 32 // width
    layers = [same(3, inputs, 3, 2), nn.SiLU()]
    for expansion, channels, repeats, stride, kernel in EFFICIENTNET:
        for i in range(repeats):
            layers.append(MBConv(inputs, channels // width, kernel, 1 if i else stride, expansion))
            inputs = channels // width
    head = [same(inputs, 1280 // width, 1), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2)]
    return randomised(nn.Sequential(*layers, *head, nn.Linear(1280 // width, 1000)))


class DCGAN(nn.Module):
    def __init__(self, width):
        super().__init__()
        widths = [n // width for n in (1024, 512, 256, 128)]
        layers = [nn.ConvTranspose2d(100, widths[0], 4, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
        for i, o in itertools.pairwise(widths):
            layers += [nn.ConvTranspose2d(i, o, 4, 2, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1), nn.Tanh())

    def forward(self, z):
        return self.net(z[:, :, None, None])


def dcgan(width=1):
    return randomised(DCGAN(width))


class ResBlock(nn.Module):
    def __init__(self, channels, kernel):
        super().__init__()
        pads = [(kernel - 1) // 2 * d for d in (1, 3, 5)]
        self.first = nn.ModuleList(
            weight_norm(nn.Conv1d(channels, channels, kernel, padding=pad, dilation=d))
            for pad, d in zip(pads, (1, 3, 5), strict=True)
        )
        self.second = nn.ModuleList(
            weight_norm(nn.Conv1d(channels, channels, kernel, padding=kernel // 2)) for _ in pads
        )

    def forward(self, x):
        for first, second in zip(self.first, self.second, strict=True):
            x = x + second(functional.leaky_relu(first(functional.leaky_relu(x, 0.1)), 0.1))
        return x


class HiFiGAN(nn.Module):
    def __init__(self, width):
        super().__init__()
        channels = 512 // width
        self.conv_pre = weight_norm(nn.Conv1d(80, channels, 7, padding=3))
        self.ups, self.blocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in ((8, 16), (8, 16), (2, 4), (2, 4)):
            up = nn.ConvTranspose1d(channels, channels // 2, kernel, rate, (kernel - rate) // 2)
            self.ups.append(weight_norm(up))
            channels //= 2
            self.blocks.append(nn.ModuleList(ResBlock(channels, k) for k in (3, 7, 11)))
        self.conv_post = weight_norm(nn.Conv1d(channels, 1, 7, padding=3))

    def forward(self, x):
        x = self.conv_pre(x)
        for up, blocks in zip(self.ups, self.blocks, strict=True):
            x = up(functional.leaky_relu(x, 0.1))
            x = sum(block(x) for block in blocks) / 3
        return torch.tanh(self.conv_post(functional.leaky_relu(x)))


def hifi_gan(width=1):
    model = HiFiGAN(width)
    for module in model.modules():
        if hasattr(module, "parametrizations"):
            nn.init.normal_(module.bias, 0, 0.1)
    return model.eval()


def projected(inputs, outputs, kernel=1, dilation=1):
    conv = nn.Conv2d(inputs, outputs, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU())


class ASPP(nn.Module):
    def __init__(self, width):
        super().__init__()
        inputs, channels = 2048 // width, 256 // width
        self.branches = nn.ModuleList([projected(inputs, channels)])
        self.branches.extend(projected(inputs, channels, 3, rate) for rate in (6, 12, 18))
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), *projected(inputs, channels))
        self.project = projected(5 * channels, channels)
        self.classify = nn.Sequential(*projected(channels, channels, 3), nn.Conv2d(channels, 21, 1))

    def forward(self, x):
        pooled = functional.interpolate(self.pool(x), x.shape[2:], mode="bilinear")
        y = self.project(torch.cat([*(branch(x) for branch in self.branches), pooled], 1))
        return functional.interpolate(self.classify(y), scale_factor=8, mode="bilinear")


def deeplab_aspp(width=1):
    return randomised(ASPP(width))


class RetinaNetHead(nn.Module):
    """Two towers that all levels of the pyramid share."""

    def __init__(self, width, anchors=9, classes=80):
        super().__init__()
        channels = 256 // width

        def tower(outputs):
            layers = [layer for _ in range(4) for layer in (nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU())]
            return nn.Sequential(*layers, nn.Conv2d(channels, outputs, 3, padding=1))

        self.classify, self.locate = tower(anchors * classes), tower(anchors * 4)

    def forward(self, *levels):
        return [self.classify(x) for x in levels] + [self.locate(x) for x in levels]


def retinanet_head(width=1):
    return randomised(RetinaNetHead(width))


class Stage(nn.Sequential):
    def __init__(self, inputs, outputs, stride):
        layers = []
        for i, step in ((inputs, stride), (outputs, 1)):
            layers += [nn.Conv3d(i, outputs, 3, step, 1), nn.InstanceNorm3d(outputs, affine=True), nn.LeakyReLU(0.01)]
        super().__init__(*layers)


class NNUNet(nn.Module):
    def __init__(self, width, classes=3):
        super().__init__()
        widths = [n // width for n in (32, 64, 128, 256, 320, 320)]
        pairs = list(zip([1, *widths], widths, strict=False))
        self.down = nn.ModuleList(Stage(i, o, 2 if level else 1) for level, (i, o) in enumerate(pairs))
        rising = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose3d(i, o, 2, 2) for i, o in rising)
        self.join = nn.ModuleList(Stage(2 * o, o, 1) for _, o in rising)
        self.segment = nn.Conv3d(widths[0], classes, 1)

    def forward(self, x):
        left = []
        for stage in self.down:
            x = stage(x)
            left.append(x)
        for up, join, beside in zip(self.up, self.join, left[-2::-1], strict=True):
            x = join(torch.cat([up(x), beside], 1))
        return self.segment(x)


def nnu_net(width=1):
    model = NNUNet(width)
    for module in model.modules():
        if isinstance(module, nn.InstanceNorm3d):
            nn.init.uniform_(module.weight, 0.3, 0.9)
            nn.init.normal_(module.bias, 0, 0.2)
    return model.eval()
