"""Networks as people write them in nnx and linen, small: what traces of steps are tested on."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen, nnx


class Sequential(nnx.Module):
    """A chain with pools of all kinds, flattened."""

    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), padding=((0, 1), (2, 1)), rngs=rngs)
        self.norm, self.drop = nnx.BatchNorm(4, rngs=rngs), nnx.Dropout(0.3, rngs=rngs)
        self.hidden, self.out = nnx.Linear(24, 8, rngs=rngs), nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x / 2 - 0.5)))
        x = nnx.max_pool(x, (3, 3), (2, 2), padding="SAME")
        x = nnx.avg_pool(x, (2, 2), padding="SAME", count_include_pad=False)
        x = nnx.avg_pool(x, (3, 3), (2, 2), padding=((1, 1), (1, 1)))
        x = self.drop(x.reshape(x.shape[0], -1))
        return nnx.softmax(self.out(nnx.gelu(self.hidden(x))))


class Squeezed(nnx.Module):
    """A residual block with squeeze-and-excitation, whose activation is a module."""

    def __init__(self, c, rngs):
        self.first = nnx.Conv(c, c, (3, 3), use_bias=False, rngs=rngs)
        self.second = nnx.Conv(c, c, (3, 3), feature_group_count=c, rngs=rngs)
        self.norm1, self.norm2 = nnx.BatchNorm(c, epsilon=1e-3, rngs=rngs), nnx.GroupNorm(c, 2, rngs=rngs)
        self.gate, self.act = (
            nnx.Sequential(nnx.Linear(c, 2, rngs=rngs), nnx.relu, nnx.Linear(2, c, rngs=rngs)),
            Swish(),
        )

    def __call__(self, x):
        y = self.norm2(self.second(self.act(self.norm1(self.first(x)))))
        return nnx.relu6(x + y * nnx.sigmoid(self.gate(y.mean((1, 2)))).reshape(x.shape[0], 1, 1, -1))


class Swish(nnx.Module):
    def __call__(self, x):
        return nnx.silu(x)


class ResNet(nnx.Module):
    """Blocks, of which one is called twice, the second time compiled."""

    def __init__(self, rngs, width=4, classes=5):
        self.stem = nnx.Conv(3, width, (3, 3), strides=2, padding=1, rngs=rngs)
        self.blocks = nnx.List([Squeezed(width, rngs) for _ in range(2)])
        self.head = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, x):
        x = nnx.leaky_relu(self.stem(x), 0.2)
        for block in self.blocks:
            x = block(x)
        x = nnx.jit(lambda block, x: block(x))(self.blocks[0], x)
        return self.head(jnp.mean(x, axis=(1, 2)))


class Branches(nnx.Module):
    """Branches of other dilations, a resized one, heads that are shared, two results."""

    def __init__(self, rngs):
        self.branches = nnx.List([nnx.Conv(3, 2, (3, 3), kernel_dilation=d, rngs=rngs) for d in (1, 2)])
        self.pooled, self.head = (
            nnx.Conv(3, 2, (1, 1), rngs=rngs),
            nnx.Conv(6, 3, (3, 3), padding="CIRCULAR", rngs=rngs),
        )
        self.up = nnx.ConvTranspose(3, 6, (2, 2), strides=2, rngs=rngs)

    def __call__(self, x):
        found = [nnx.elu(branch(x)) for branch in self.branches]
        found.append(jax.image.resize(self.pooled(x[:, ::2, 1:-1]), (*x.shape[:3], 2), "bilinear"))
        y = self.head(jnp.concatenate(found, axis=-1))
        a, b = jnp.split(self.up(y), 2, axis=-1)
        deep = self.head(
            jnp.pad(nnx.tanh(jnp.concatenate([a, b], -1)), ((0, 0), (1, 2), (3, 0), (0, 0)), mode="reflect")
        )
        return {"low": y, "deep": [deep.max((1, 2)), jnp.stack([a, b], 1).sum(1)]}


class ConvNeXt(nnx.Module):
    """A block with a layer scale, and the norms of other kinds."""

    def __init__(self, rngs, c=4):
        self.depthwise, self.norm = (
            nnx.Conv(c, c, (7, 7), feature_group_count=c, rngs=rngs),
            nnx.LayerNorm(c, rngs=rngs),
        )
        self.wide, self.narrow = nnx.Linear(c, 3 * c, rngs=rngs), nnx.Linear(3 * c, c, rngs=rngs)
        self.gamma, self.prelu = nnx.Param(jnp.linspace(0.1, 0.9, c)), nnx.PReLU()
        self.instance, self.rms = nnx.InstanceNorm(c, rngs=rngs), nnx.RMSNorm(c, rngs=rngs)

    def __call__(self, x):
        y = self.gamma * self.narrow(nnx.gelu(self.wide(self.norm(self.depthwise(x))), approximate=False))
        return self.rms(self.instance(self.prelu(x + y)))


class Attention(nnx.Module):
    """A transformer's block with patches, a class token and learnt positions."""

    def __init__(self, rngs, c=6):
        self.patch = nnx.Conv(3, c, (4, 4), strides=4, padding="VALID", rngs=rngs)
        self.cls, self.positions = nnx.Param(jnp.ones((1, 1, c))), nnx.Param(jnp.ones((1, 7, c)))
        self.attention = nnx.MultiHeadAttention(2, c, decode=False, rngs=rngs)
        self.norm, self.words = nnx.LayerNorm(c, rngs=rngs), nnx.Embed(5, c, rngs=rngs)

    def __call__(self, x, ids):
        x = self.patch(x)
        x = x.reshape(x.shape[0], -1, x.shape[-1])
        x = jnp.concatenate([jnp.broadcast_to(self.cls, (x.shape[0], 1, x.shape[-1])), x], 1) + self.positions
        x = x + self.attention(self.norm(x)) + self.words(ids)[:, None]
        return x[:, 0]


class WaveNet(nnx.Module):
    """Causal convolutions with gates; the last residual has no effect. A kernel with weight norm."""

    def __init__(self, rngs):
        self.start = nnx.WeightNorm(nnx.Conv(2, 4, (1,), rngs=rngs), rngs=rngs)
        self.dilated = nnx.List([nnx.Conv(4, 8, (2,), padding="CAUSAL", kernel_dilation=d, rngs=rngs) for d in (1, 2)])
        self.residual = nnx.List([nnx.Conv(4, 4, (1,), rngs=rngs) for _ in range(2)])
        self.skip = nnx.List([nnx.Conv(4, 3, (1,), rngs=rngs) for _ in range(2)])

    def __call__(self, x):
        x, total = self.start(x), 0
        for dilated, residual, skip in zip(self.dilated, self.residual, self.skip, strict=True):
            a, b = jnp.split(dilated(x), 2, axis=-1)
            z = jnp.tanh(a) * nnx.sigmoid(b)
            total = skip(z) + total
            x = (residual(z) + x) * 0.5**0.5
        return nnx.celu(total, 0.5)


NNX = {  # name: (network, shapes of its inputs or integers, operations without a word)
    "sequential": (Sequential, [(2, 9, 8, 3)], ()),
    "resnet": (ResNet, [(2, 12, 10, 3)], ()),
    "branches": (Branches, [(2, 8, 6, 3)], ()),
    "convnext": (ConvNeXt, [(1, 8, 7, 4)], ()),
    "attention": (Attention, [(2, 8, 12, 3), jnp.array([3, 1])], ()),
    "wavenet": (WaveNet, [(1, 12, 2)], ()),
}


class LinenBlock(linen.Module):
    @linen.compact
    def __call__(self, x):
        c = x.shape[-1]
        y = linen.relu(linen.BatchNorm(use_running_average=True)(linen.Conv(c, (3, 3), use_bias=False)(x)))
        y = linen.GroupNorm(2)(linen.Conv(c, (3, 3), feature_group_count=c)(y))
        return x + y * linen.sigmoid(linen.Dense(c)(y.mean((1, 2))))[:, None, None, :]


class LinenNet(linen.Module):
    """Layers of all kinds, some under transforms."""

    @linen.compact
    def __call__(self, x, ids):
        x = linen.avg_pool(linen.gelu(linen.Conv(8, (3, 3), strides=2)(x)), (3, 3), (2, 2), padding="SAME")
        x = linen.ConvTranspose(4, (2, 2), strides=(2, 2))(linen.remat(LinenBlock)()(LinenBlock()(x)))
        x = linen.InstanceNorm()(linen.PReLU()(linen.RMSNorm()(linen.LayerNorm()(x))))
        x = linen.jit(linen.Conv)(4, (1, 1))(linen.WeightNorm(linen.Conv(4, (1, 1)))(x))
        x = linen.Dropout(0.1, deterministic=True)(x.reshape(x.shape[0], -1))
        return linen.log_softmax(linen.Dense(5)(x) + linen.Embed(7, 5)(ids))


class LinenShared(linen.Module):
    """A layer that is called twice, two results, a learnt scale."""

    def setup(self):
        self.conv = linen.Conv(3, (3, 3))
        self.scale = self.param("scale", linen.initializers.ones, (3,))

    def __call__(self, x):
        y = self.conv(x)
        return self.conv(linen.hard_swish(y) * self.scale), linen.max_pool(y, (2, 2))


LINEN = {
    "net": (LinenNet, [(2, 16, 16, 3), jnp.array([3, 1])], ()),
    "shared": (LinenShared, [(2, 6, 5, 3)], ()),
}
