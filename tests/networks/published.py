"""Five well-known networks with every block that was published, weights and statistics random, for PyTorch's exporter.

``width`` divides the number of channels and leaves the depth as it is. With 1, three of them have the published number
of parameters.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


def randomised(model):
    """Trained networks have no statistics of 0 and 1: neither have these; signals keep their size to the last layer."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                fan_in = module.weight[0].numel() if not isinstance(module, nn.ConvTranspose2d) else len(module.weight)
                module.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
                if module.bias is not None:
                    module.bias.normal_(0, 0.2, generator=generator)
            elif isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.3, 0.9, generator=generator)
                module.bias.normal_(0, 0.2, generator=generator)
                module.running_mean.normal_(0, 0.2, generator=generator)
                module.running_var.uniform_(0.5, 2, generator=generator)
    return model.eval()


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride, shortcut):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = nn.Identity()
        if shortcut:
            projection = nn.Conv2d(inputs, 4 * width, 1, stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(4 * width))

    def forward(self, x):
        y = self.bn1(self.conv1(x)).relu()
        y = self.bn2(self.conv2(y)).relu()
        return (self.bn3(self.conv3(y)) + self.downsample(x)).relu()


def resnet50(width=1):
    """He et al. 2016, table 1; the stride in the 3×3 layer, as in every current implementation."""
    inputs = 64 // width
    layers = [nn.Conv2d(3, inputs, 7, 2, 3, bias=False), nn.BatchNorm2d(inputs), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    for stage, (repeats, channels) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for i in range(repeats):
            layers.append(Bottleneck(inputs, channels // width, 2 if stage and not i else 1, shortcut=not i))
            inputs = 4 * channels // width
    return randomised(nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000)))


def eighths(channels):
    """The next multiple of 8 that is not below 0.9 of it, as the paper's code rounds."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def normalised(inputs, outputs, kernel, stride=1, groups=1, activation=None):
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs, eps=1e-3), *([activation()] if activation else [])]


class Excitation(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Conv2d(channels, eighths(channels // 4), 1)
        self.fc2 = nn.Conv2d(eighths(channels // 4), channels, 1)

    def forward(self, x):
        return x * functional.hardsigmoid(self.fc2(self.fc1(functional.adaptive_avg_pool2d(x, 1)).relu()))


class Inverted(nn.Module):
    def __init__(self, inputs, kernel, hidden, outputs, excited, activation, stride):
        super().__init__()
        self.residual = stride == 1 and inputs == outputs
        layers = normalised(inputs, hidden, 1, activation=activation) if hidden != inputs else []
        layers += normalised(hidden, hidden, kernel, stride, hidden, activation)
        layers += [Excitation(hidden)] if excited else []
        self.block = nn.Sequential(*layers, *normalised(hidden, outputs, 1))

    def forward(self, x):
        return x + self.block(x) if self.residual else self.block(x)


MOBILENET = (  # kernel, hidden, outputs, squeeze-and-excitation, activation, stride
    (3, 16, 16, False, nn.ReLU, 1), (3, 64, 24, False, nn.ReLU, 2), (3, 72, 24, False, nn.ReLU, 1),
    (5, 72, 40, True, nn.ReLU, 2), (5, 120, 40, True, nn.ReLU, 1), (5, 120, 40, True, nn.ReLU, 1),
    (3, 240, 80, False, nn.Hardswish, 2), (3, 200, 80, False, nn.Hardswish, 1), (3, 184, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1), (3, 480, 112, True, nn.Hardswish, 1), (3, 672, 112, True, nn.Hardswish, 1),
    (5, 672, 160, True, nn.Hardswish, 2), (5, 960, 160, True, nn.Hardswish, 1), (5, 960, 160, True, nn.Hardswish, 1),
)  # fmt: skip


def mobilenet_v3_large(width=1):
    """Howard et al. 2019, table 1."""
    inputs = 16 // width
    layers = normalised(3, inputs, 3, 2, activation=nn.Hardswish)
    for kernel, hidden, outputs, excited, activation, stride in MOBILENET:
        layers.append(Inverted(inputs, kernel, hidden // width, outputs // width, excited, activation, stride))
        inputs = outputs // width
    layers += normalised(inputs, 960 // width, 1, activation=nn.Hardswish)
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(960 // width, 1280), nn.Hardswish(), nn.Linear(1280, 1000)]
    return randomised(nn.Sequential(*layers, *head))


class ChannelNorm(nn.LayerNorm):
    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NextBlock(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.up, self.down = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 0.1))

    def forward(self, x):
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.down(functional.gelu(self.up(y)))).permute(0, 3, 1, 2)


def convnext_tiny(width=1):
    """Liu et al. 2022, section 3: widths 96 to 768, blocks 3, 3, 9, 3."""
    inputs = 96 // width
    layers = [nn.Conv2d(3, inputs, 4, 4), ChannelNorm(inputs, eps=1e-6)]
    for repeats, channels in ((3, 96), (3, 192), (9, 384), (3, 768)):
        if channels // width != inputs:
            layers += [ChannelNorm(inputs, eps=1e-6), nn.Conv2d(inputs, channels // width, 2, 2)]
            inputs = channels // width
        layers += [NextBlock(inputs) for _ in range(repeats)]
    head = [nn.AdaptiveAvgPool2d(1), ChannelNorm(inputs, eps=1e-6), nn.Flatten(), nn.Linear(inputs, 1000)]
    return randomised(nn.Sequential(*layers, *head))


class UNet(nn.Module):
    """Unpadded: the maps of the way down are cropped to those of the way up."""

    def __init__(self, width):
        super().__init__()
        widths = [c // width for c in (64, 128, 256, 512, 1024)]
        self.down = nn.ModuleList(self.twice(i, o) for i, o in zip([1, *widths], widths, strict=False))
        rising = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, 2) for i, o in rising)
        self.join = nn.ModuleList(self.twice(i, o) for i, o in rising)
        self.segment = nn.Conv2d(widths[0], 2, 1)

    @staticmethod
    def twice(inputs, outputs):
        return nn.Sequential(nn.Conv2d(inputs, outputs, 3), nn.ReLU(), nn.Conv2d(outputs, outputs, 3), nn.ReLU())

    def forward(self, x):
        left = []
        for level, down in enumerate(self.down):
            x = down(functional.max_pool2d(x, 2) if level else x)
            left.append(x)
        for up, join, beside in zip(self.up, self.join, left[-2::-1], strict=True):
            x = up(x)
            crop = (beside.shape[2] - x.shape[2]) // 2
            x = join(torch.cat([beside[:, :, crop : crop + x.shape[2], crop : crop + x.shape[3]], x], 1))
        return self.segment(x)


def unet(width=1):
    """Ronneberger et al. 2015, figure 1."""
    return randomised(UNet(width))


class Gated(nn.Module):
    def __init__(self, width, dilation):
        super().__init__()
        self.dilation = dilation
        self.gate = nn.Conv1d(32 // width, 64 // width, 2, dilation=dilation)
        self.skip = nn.Conv1d(32 // width, 256 // width, 1)
        self.residual = nn.Conv1d(32 // width, 32 // width, 1)

    def forward(self, x):
        left, right = self.gate(functional.pad(x, (self.dilation, 0))).chunk(2, 1)
        y = left.tanh() * right.sigmoid()
        return self.skip(y), x + self.residual(y)


class WaveNet(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.input = nn.Conv1d(256, 32 // width, 2)
        self.layers = nn.ModuleList(Gated(width, 2**i) for _ in range(3) for i in range(10))
        self.output1 = nn.Conv1d(256 // width, 256 // width, 1)
        self.output2 = nn.Conv1d(256 // width, 256, 1)

    def forward(self, x):
        x = self.input(functional.pad(x, (1, 0)))
        total = 0
        for layer in self.layers:
            skip, x = layer(x)
            total = total + skip
        return self.output2(self.output1(functional.relu(total)).relu())


def wavenet(width=1):
    """Van den Oord et al. 2016, section 2: width 2, dilations 1 to 512, three times."""
    return randomised(WaveNet(width))


NETWORKS = {  # the function, the input of its paper, the number of its convolutions
    "ResNet-50": (resnet50, (1, 3, 224, 224), 53),
    "MobileNetV3-Large": (mobilenet_v3_large, (1, 3, 224, 224), 62),
    "ConvNeXt-T": (convnext_tiny, (1, 3, 224, 224), 22),
    "U-Net": (unet, (1, 1, 572, 572), 23),
    "WaveNet": (wavenet, (1, 256, 4000), 93),
}


def export(model, shape, path):
    """Write the model as ONNX with PyTorch's exporter, as it is by default: it folds batch normalisations."""
    import warnings

    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter, about itself
        torch.onnx.export(model, (x,), dynamo=True, verbose=False).save(path)
