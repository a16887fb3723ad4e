"""The two models as Equinox' users write them: modules of one sample, channels first, running statistics in a state."""

from __future__ import annotations

import equinox as eqx
import jax

from tests.networks.jax_weights import draw_weights
from tests.networks.nnx_models import WIDTHS

nn, KEY = eqx.nn, jax.random.key(0)


class ConvNorm(eqx.Module):
    conv: nn.Conv2d
    norm: nn.BatchNorm

    def __init__(self, inputs, outputs, kernel, stride=1):
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, use_bias=False, key=KEY)
        self.norm = nn.BatchNorm(outputs, "batch", mode="batch")

    def __call__(self, x, state):
        return self.norm(self.conv(x), state)


class Block(eqx.Module):
    first: ConvNorm
    second: ConvNorm
    skip: ConvNorm | None

    def __init__(self, inputs, width, stride):
        self.first, self.second = ConvNorm(inputs, width, 3, stride), ConvNorm(width, width, 3)
        self.skip = ConvNorm(inputs, width, 1, stride) if stride != 1 or inputs != width else None

    def __call__(self, x, state):
        y, state = self.first(x, state)
        y, state = self.second(jax.nn.relu(y), state)
        if self.skip is not None:
            x, state = self.skip(x, state)
        return jax.nn.relu(y + x), state


class ResNet(eqx.Module):
    stem: ConvNorm
    pool: nn.MaxPool2d
    blocks: list
    head: nn.Linear

    def __init__(self, classes=7):
        self.stem, self.pool, self.blocks, inputs = ConvNorm(3, WIDTHS[0], 7, 2), nn.MaxPool2d(3, 2, 1), [], WIDTHS[0]
        for i, width in enumerate(WIDTHS):
            self.blocks += [Block(inputs, width, 1 if i == 0 else 2), Block(width, width, 1)]
            inputs = width
        self.head = nn.Linear(inputs, classes, key=KEY)

    def __call__(self, x, state):
        x, state = self.stem(x, state)
        x = self.pool(jax.nn.relu(x))
        for block in self.blocks:
            x, state = block(x, state)
        return self.head(x.mean((1, 2))), state


def drawn(make):
    """Return the module of Equinox that ``make()`` returns, and its state."""
    made = eqx.filter_eval_shape(nn.make_with_state(make))
    shapes, rest = eqx.partition(made, lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct))
    return eqx.combine((draw_weights(shapes[0]), draw_weights(shapes[1], low=0.1)), rest)


def resnet():
    return drawn(ResNet)


def resnet_same():
    """Return the model with a padding mistake: 'same' where PyTorch pads both sides."""
    model, state = resnet()
    wrong = nn.Conv2d(WIDTHS[0], WIDTHS[1], 3, 2, "SAME", use_bias=False, key=KEY)
    return eqx.tree_at(lambda model: model.blocks[2].first.conv, model, wrong), state
