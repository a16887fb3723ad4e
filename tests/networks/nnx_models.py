"""The two models as Flax nnx's users write them: modules with explicit channels, channels last, pads as numbers."""

from __future__ import annotations

from flax import nnx

from tests.networks.jax_weights import nnx_model

WIDTHS = (4, 6, 8, 10)
BLOCKS = ((1, 4, 1, 1), (3, 6, 2, 2), (3, 8, 2, 2))


def conv(inputs, outputs, kernel, stride, rngs, groups=1):
    return nnx.Conv(
        inputs, outputs, (kernel, kernel), (stride, stride), padding=kernel // 2, feature_group_count=groups,
        use_bias=False, rngs=rngs,
    )  # fmt: skip


def norm(features, rngs):
    return nnx.BatchNorm(features, epsilon=1e-5, rngs=rngs)


class Block(nnx.Module):
    def __init__(self, inputs, width, stride, rngs):
        self.first = conv(inputs, width, 3, stride, rngs)
        self.norm1 = norm(width, rngs)
        self.second = conv(width, width, 3, 1, rngs)
        self.norm2 = norm(width, rngs)
        skips = stride != 1 or inputs != width
        self.skip = nnx.Sequential(conv(inputs, width, 1, stride, rngs), norm(width, rngs)) if skips else None

    def __call__(self, x):
        y = nnx.relu(self.norm1(self.first(x)))
        y = self.norm2(self.second(y))
        return nnx.relu(y + (x if self.skip is None else self.skip(x)))


class ResNet(nnx.Module):
    def __init__(self, rngs, classes=7):
        self.stem = conv(3, WIDTHS[0], 7, 2, rngs)
        self.stem_norm = norm(WIDTHS[0], rngs)
        blocks, inputs = [], WIDTHS[0]
        for i, width in enumerate(WIDTHS):
            blocks += [Block(inputs, width, 1 if i == 0 else 2, rngs), Block(width, width, 1, rngs)]
            inputs = width
        self.blocks = nnx.List(blocks)
        self.head = nnx.Linear(inputs, classes, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.stem_norm(self.stem(x)))
        x = nnx.max_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((1, 2)))


class Inverted(nnx.Module):
    def __init__(self, inputs, outputs, stride, expansion, rngs):
        hidden = inputs * expansion
        self.expand = conv(inputs, hidden, 1, 1, rngs) if expansion > 1 else None
        self.expand_norm = norm(hidden, rngs) if expansion > 1 else None
        self.depthwise = conv(hidden, hidden, 3, stride, rngs, groups=hidden)
        self.depthwise_norm = norm(hidden, rngs)
        self.project = conv(hidden, outputs, 1, 1, rngs)
        self.project_norm = norm(outputs, rngs)
        self.residual = stride == 1 and inputs == outputs

    def __call__(self, x):
        y = x if self.expand is None else nnx.relu6(self.expand_norm(self.expand(x)))
        y = nnx.relu6(self.depthwise_norm(self.depthwise(y)))
        y = self.project_norm(self.project(y))
        return x + y if self.residual else y


class MobileNet(nnx.Module):
    def __init__(self, rngs, classes=7, cells=6 * 4):
        self.stem, self.stem_norm = conv(3, 5, 3, 2, rngs), norm(5, rngs)
        blocks, inputs = [], 5
        for expansion, outputs, repeats, stride in BLOCKS:
            for i in range(repeats):
                blocks.append(Inverted(inputs, outputs, stride if i == 0 else 1, expansion, rngs))
                inputs = outputs
        self.blocks = nnx.List(blocks)
        self.top, self.top_norm = conv(inputs, 10, 1, 1, rngs), norm(10, rngs)
        self.head = nnx.Linear(10 * cells, classes, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu6(self.stem_norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        x = nnx.relu6(self.top_norm(self.top(x)))
        return self.head(x.reshape(len(x), -1))


def resnet():
    return nnx_model(ResNet)


def mobilenet():
    return nnx_model(MobileNet)
