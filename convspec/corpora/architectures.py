"""The convolutions of ten networks at the input sizes of their papers, generated from the papers' tables.

Each function yields every convolution in order, with repeats, so that totals can be compared with published ones; the
corpus has each distinct convolution once. A layer before batch normalisation has no bias.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from convspec.corpora.cases import Case
from convspec.spec import ConvSpec


class _Network:
    """Follows a tensor's shape from layer to layer."""

    def __init__(self, name: str, *shape: int) -> None:
        self.name, self.shape = name, (1, *shape)

    def conv(self, label: str, out_channels: int, kernel_size: Any, *, keep: bool = False, **options: Any) -> Case:
        """Add a layer; with ``keep`` a side branch, which leaves the shape unchanged."""
        spec = ConvSpec(self.shape[1], out_channels, kernel_size, ndim=len(self.shape) - 2, **options)
        case = Case(spec, self.shape, name=f"{self.name} {label}")
        if not keep:
            self.shape = spec.output_shape(self.shape)
        return case

    def pool(self, size: int = 2, stride: int = 2, padding: int = 0) -> None:
        self.shape = (*self.shape[:2], *((n + 2 * padding - size) // stride + 1 for n in self.shape[2:]))


def lenet5() -> Iterator[Case]:
    """LeCun et al. 1998, figure 2; C3 fully connected between maps, as in common implementations."""
    net = _Network("LeNet-5", 1, 32, 32)
    yield net.conv("C1", 6, 5)
    net.pool()
    yield net.conv("C3", 16, 5)
    net.pool()
    yield net.conv("C5", 120, 5)


def alexnet() -> Iterator[Case]:
    """Krizhevsky et al. 2012, section 3.5: two groups where the paper uses two GPUs."""
    net = _Network("AlexNet", 3, 227, 227)
    yield net.conv("conv1", 96, 11, stride=4)
    net.pool(3)
    yield net.conv("conv2", 256, 5, padding=2, groups=2)
    net.pool(3)
    yield net.conv("conv3", 384, 3, padding=1)
    yield net.conv("conv4", 384, 3, padding=1, groups=2)
    yield net.conv("conv5", 256, 3, padding=1, groups=2)


def vgg16() -> Iterator[Case]:
    """Simonyan and Zisserman 2015, table 1, column D."""
    net = _Network("VGG-16", 3, 224, 224)
    for stage, (repeats, channels) in enumerate(((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)), 1):
        for i in range(1, repeats + 1):
            yield net.conv(f"conv{stage}_{i}", channels, 3, padding=1)
        net.pool()


def resnet50() -> Iterator[Case]:
    """He et al. 2016, table 1; the stride is in the 3×3 layer, as in current implementations."""
    net = _Network("ResNet-50", 3, 224, 224)
    yield net.conv("conv1", 64, 7, stride=2, padding=3, bias=False)
    net.pool(3, 2, 1)
    for stage, (repeats, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), 2):
        for i in range(1, repeats + 1):
            stride = 2 if i == 1 and stage > 2 else 1
            if i == 1:
                yield net.conv(f"conv{stage} shortcut", 4 * width, 1, stride=stride, bias=False, keep=True)
            yield net.conv(f"conv{stage}_{i} reduce", width, 1, bias=False)
            yield net.conv(f"conv{stage}_{i} 3x3", width, 3, stride=stride, padding=1, bias=False)
            yield net.conv(f"conv{stage}_{i} expand", 4 * width, 1, bias=False)


def mobilenet_v2() -> Iterator[Case]:
    """Sandler et al. 2018, table 2: expansion t, channels c, repeats n, stride s."""
    net = _Network("MobileNetV2", 3, 224, 224)
    yield net.conv("stem", 32, 3, stride=2, padding=1, bias=False)
    table = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for block, (t, c, n, s) in enumerate(table, 1):
        for i in range(1, n + 1):
            hidden = t * net.shape[1]
            if t > 1:
                yield net.conv(f"block{block}_{i} expand", hidden, 1, bias=False)
            stride = s if i == 1 else 1
            yield net.conv(
                f"block{block}_{i} depthwise", hidden, 3, stride=stride, padding=1, groups=hidden, bias=False
            )
            yield net.conv(f"block{block}_{i} project", c, 1, bias=False)
    yield net.conv("head", 1280, 1, bias=False)


def unet() -> Iterator[Case]:
    """Ronneberger et al. 2015, figure 1: unpadded, 572×572 to 388×388."""
    net = _Network("U-Net", 1, 572, 572)
    for level, channels in enumerate((64, 128, 256, 512, 1024)):
        if level:
            net.pool()
        for i in (1, 2):
            yield net.conv(f"down{level}_{i}", channels, 3)
    for level, channels in zip((3, 2, 1, 0), (512, 256, 128, 64), strict=True):
        yield net.conv(f"up{level}", channels, 2, stride=2, transposed=True)
        net.shape = (1, 2 * channels, *net.shape[2:])  # concatenated with the cropped maps of the encoder
        for i in (1, 2):
            yield net.conv(f"join{level}_{i}", channels, 3)
    yield net.conv("segment", 2, 1)


def dcgan_generator() -> Iterator[Case]:
    """Radford et al. 2016, figure 1: 100 numbers projected to 4×4×1024, then four layers of 5×5 and stride 2."""
    net = _Network("DCGAN", 100, 1, 1)
    yield net.conv("project", 1024, 4, transposed=True, bias=False)
    for channels in (512, 256, 128):
        yield net.conv(f"up{channels}", channels, 5, stride=2, padding="same", transposed=True, bias=False)
    yield net.conv("image", 3, 5, stride=2, padding="same", transposed=True)


def wavenet() -> Iterator[Case]:
    """Van den Oord et al. 2016, section 2: width 2, dilations 1 to 512, three times; 4,000 samples (1/4 s)."""
    net = _Network("WaveNet", 256, 4000)
    yield net.conv("input", 32, 2, padding="causal")
    for stack in (1, 2, 3):
        for dilation in (2**i for i in range(10)):
            yield net.conv(f"stack{stack} gate d{dilation}", 64, 2, padding="causal", dilation=dilation)
            net.shape = (1, 32, 4000)  # tanh of one half times sigmoid of the other
            yield net.conv(f"stack{stack} skip", 256, 1, keep=True)
            yield net.conv(f"stack{stack} residual", 32, 1)
    net.shape = (1, 256, 4000)
    yield net.conv("output1", 256, 1)
    yield net.conv("output2", 256, 1)


def deeplab_v3_head() -> Iterator[Case]:
    """Chen et al. 2017, figure 5: atrous pyramid on ResNet's maps at output stride 16 of a 513×513 image."""
    net = _Network("DeepLabv3", 2048, 33, 33)
    yield net.conv("aspp 1x1", 256, 1, bias=False, keep=True)
    for rate in (6, 12, 18):
        yield net.conv(f"aspp rate {rate}", 256, 3, padding=rate, dilation=rate, bias=False, keep=True)
    net.shape = (1, 2048, 1, 1)
    yield net.conv("aspp image", 256, 1, bias=False)
    net.shape = (1, 5 * 256, 33, 33)
    yield net.conv("project", 256, 1, bias=False)
    yield net.conv("classify", 21, 1)


def c3d() -> Iterator[Case]:
    """Tran et al. 2015, figure 3: 3×3×3 everywhere, clips of 16 frames of 112×112."""
    net = _Network("C3D", 3, 16, 112, 112)
    for stage, widths in enumerate(((64,), (128,), (256, 256), (512, 512), (512, 512)), 1):
        for label, channels in zip("ab", widths, strict=False):
            yield net.conv(f"conv{stage}{label if len(widths) > 1 else ''}", channels, 3, padding=1)
        frames = net.shape[2]
        net.pool()
        if stage == 1:  # the first pool does not reduce time
            net.shape = (*net.shape[:2], frames, *net.shape[3:])


NETWORKS: tuple[Callable[[], Iterator[Case]], ...] = (
    lenet5, alexnet, vgg16, resnet50, mobilenet_v2, unet, dcgan_generator, wavenet, deeplab_v3_head, c3d,
)  # fmt: skip


def cases() -> list[Case]:
    """Every distinct convolution of :data:`NETWORKS`, under the name of its first occurrence."""
    return list(dict.fromkeys(case for network in NETWORKS for case in network()))
