"""The networks as users of Flax' nnx write them: channels last."""

from __future__ import annotations

import jax
from flax import nnx


class NextBlock(nnx.Module):
    def __init__(self, channels, rngs):
        self.depthwise = nnx.Conv(channels, channels, (7, 7), feature_group_count=channels, rngs=rngs)
        self.norm = nnx.LayerNorm(channels, rngs=rngs)
        self.up = nnx.Linear(channels, 4 * channels, rngs=rngs)
        self.down = nnx.Linear(4 * channels, channels, rngs=rngs)
        self.gamma = nnx.Param(jax.numpy.full((channels,), 1e-6))

    def __call__(self, x):
        y = self.down(jax.nn.gelu(self.up(self.norm(self.depthwise(x))), approximate=False))
        return x + self.gamma * y


class ConvNeXt(nnx.Module):
    def __init__(self, width, rngs):
        channels = 96 // width
        found = [nnx.Conv(3, channels, (4, 4), (4, 4), padding="VALID", rngs=rngs), nnx.LayerNorm(channels, rngs=rngs)]
        for repeats, wanted in ((3, 96), (3, 192), (9, 384), (3, 768)):
            if wanted // width != channels:
                found.append(nnx.LayerNorm(channels, rngs=rngs))
                found.append(nnx.Conv(channels, wanted // width, (2, 2), (2, 2), padding="VALID", rngs=rngs))
                channels = wanted // width
            found += [NextBlock(channels, rngs) for _ in range(repeats)]
        self.body = nnx.List(found)
        self.norm = nnx.LayerNorm(channels, rngs=rngs)
        self.head = nnx.Linear(channels, 1000, rngs=rngs)

    def __call__(self, x):
        for layer in self.body:
            x = layer(x)
        return self.head(self.norm(x.mean((1, 2))))


def convnext_t(width=1):
    return ConvNeXt(width, nnx.Rngs(1))


class RetinaNetHead(nnx.Module):
    def __init__(self, width, rngs, anchors=9, classes=80):
        channels = 256 // width
        for name, outputs in (("cls", anchors * classes), ("box", anchors * 4)):
            tower = [nnx.Conv(channels, channels, (3, 3), rngs=rngs) for _ in range(4)]
            setattr(self, name, nnx.List([*tower, nnx.Conv(channels, outputs, (3, 3), rngs=rngs)]))

    def __call__(self, *levels):
        results = []
        for tower in (self.cls, self.box):
            for level in levels:
                x = level
                for layer in tower[:-1]:
                    x = nnx.relu(layer(x))
                results.append(tower[-1](x))
        return results


def retinanet_head(width=1):
    return RetinaNetHead(width, nnx.Rngs(1))
