"""Networks as people write them in Equinox, small: what traces of steps are tested on."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

nn = eqx.nn
KEY = jax.random.key(0)


class Block(eqx.Module):
    """A residual block with squeeze-and-excitation and running statistics."""

    first: nn.Conv2d
    second: nn.Conv2d
    norm1: nn.BatchNorm
    norm2: nn.GroupNorm
    gate: nn.MLP
    act: nn.Lambda

    def __init__(self, c, mode):
        self.first = nn.Conv2d(c, c, 3, padding=1, use_bias=False, key=KEY)
        self.second = nn.Conv2d(c, c, 3, padding=1, groups=c, key=KEY)
        self.norm1, self.norm2 = nn.BatchNorm(c, "batch", mode=mode), nn.GroupNorm(2, c)
        self.gate, self.act = nn.MLP(c, c, 2, 1, jax.nn.relu, jax.nn.sigmoid, key=KEY), nn.Lambda(jax.nn.silu)

    def __call__(self, x, state):
        y, state = self.norm1(self.first(x), state)
        y = self.norm2(self.second(self.act(y)))
        return jax.nn.relu6(x + y * self.gate(y.mean((1, 2)))[:, None, None]), state


class ResNet(eqx.Module):
    """Batch norms of both modes, a block that is called twice."""

    stem: nn.Conv2d
    blocks: list
    pool: nn.MaxPool2d
    head: nn.Linear
    drop: nn.Dropout

    def __init__(self, width=4, classes=5):
        self.stem = nn.Conv2d(3, width, 3, 2, 1, key=KEY)
        self.blocks, self.pool = [Block(width, "ema"), Block(width, "batch")], nn.MaxPool2d(3, 2, 1)
        self.head, self.drop = nn.Linear(width, classes, key=KEY), nn.Dropout(0.2)

    def __call__(self, x, state, *, key=None):
        x = self.pool(jax.nn.leaky_relu(self.stem(x), 0.2))
        for block in (*self.blocks, self.blocks[0]):
            x, state = block(x, state)
        return jax.nn.softmax(self.head(self.drop(jnp.mean(x, (1, 2)), key=key))), state


class Branches(eqx.Module):
    """Branches of other dilations, a resized one, shared heads, two results."""

    branches: list
    pooled: nn.Sequential
    head: nn.Conv2d
    up: nn.ConvTranspose2d

    def __init__(self):
        self.branches = [nn.Conv2d(3, 2, 3, padding=d, dilation=d, key=KEY) for d in (1, 2)]
        self.pooled = nn.Sequential([nn.AdaptiveAvgPool2d((3, 2)), nn.Conv2d(3, 2, 1, key=KEY), nn.Lambda(jax.nn.relu)])
        self.head, self.up = nn.Conv2d(6, 3, 3, padding="SAME", key=KEY), nn.ConvTranspose2d(3, 6, 2, 2, key=KEY)

    def __call__(self, x):
        found = [jax.nn.elu(branch(x)) for branch in self.branches]
        found.append(jax.image.resize(self.pooled(x), (2, *x.shape[1:]), "bilinear"))
        y = self.head(jnp.concatenate(found))
        a, b = jnp.split(self.up(y), 2)
        deep = self.head(jnp.pad(jnp.tanh(jnp.concatenate([a, b])), ((0, 0), (1, 2), (3, 0)), mode="reflect"))
        return {"low": y, "deep": [deep.max((1, 2)), jnp.stack([a, b]).sum(0)]}


class ConvNeXt(eqx.Module):
    """Norms over channels by vmap, a layer scale, a pool that rounds up."""

    depthwise: nn.Conv2d
    norm: nn.LayerNorm
    wide: nn.Linear
    narrow: nn.Linear
    rms: nn.RMSNorm
    gamma: jax.Array
    prelu: nn.PReLU
    pool: nn.AvgPool2d

    def __init__(self, c=4):
        self.depthwise, self.norm = nn.Conv2d(c, c, 7, padding=3, groups=c, key=KEY), nn.LayerNorm(c)
        self.wide, self.narrow = nn.Linear(c, 3 * c, key=KEY), nn.Linear(3 * c, c, key=KEY)
        self.rms, self.gamma, self.prelu = nn.RMSNorm(c), jnp.linspace(0.1, 0.9, c)[:, None, None], nn.PReLU()
        self.pool = nn.AvgPool2d(3, 2, 1, use_ceil=True)

    def __call__(self, x):
        y = jnp.moveaxis(self.depthwise(x), 0, -1)
        y = jax.vmap(jax.vmap(lambda v: self.narrow(jax.nn.gelu(self.wide(self.norm(v)), approximate=False))))(y)
        y = self.prelu(x + self.gamma * jnp.moveaxis(y, -1, 0))
        return self.pool(jax.vmap(jax.vmap(self.rms, 1, 1), 2, 2)(y))


class Attention(eqx.Module):
    """A transformer's block with patches, a class token and learnt positions."""

    patch: nn.Conv2d
    cls: jax.Array
    positions: jax.Array
    attention: nn.MultiheadAttention
    norm: nn.LayerNorm
    words: nn.Embedding

    def __init__(self, c=6):
        self.patch, self.cls, self.positions = nn.Conv2d(3, c, 4, 4, key=KEY), jnp.ones((1, c)), jnp.ones((7, c))
        self.attention = nn.MultiheadAttention(2, c, use_output_bias=True, key=KEY)
        self.norm, self.words = nn.LayerNorm(c), nn.Embedding(5, c, key=KEY)

    def __call__(self, x, ids, key=None):
        x = self.patch(x)
        x = x.reshape(x.shape[0], -1).T
        x = jnp.concatenate([self.cls, x]) + self.positions
        y = jax.vmap(self.norm)(x)
        return (x + self.attention(y, y, y, key=key) + self.words(ids))[0]


class Chain(eqx.Module):
    """A network for sequences with a flatten, and a kernel with weight norm."""

    start: nn.WeightNorm
    conv: nn.Conv1d
    out: nn.Linear

    def __init__(self):
        self.start = nn.WeightNorm(nn.Conv1d(2, 4, 1, key=KEY))
        self.conv, self.out = nn.Conv1d(4, 3, 3, padding=((2, 0),), key=KEY), nn.Linear(36, 4, key=KEY)

    def __call__(self, x):
        return jax.nn.log_softmax(self.out(jax.nn.hard_swish(self.conv(self.start(x))).ravel()))


NETWORKS = {  # name: (network, shapes of its inputs or integers, operations without a word)
    "resnet": (ResNet, [(2, 3, 16, 12)], ()),
    "branches": (Branches, [(2, 3, 8, 6)], ()),
    "convnext": (ConvNeXt, [(2, 4, 8, 7)], ()),
    "attention": (Attention, [(2, 3, 8, 12), jnp.array([3, 1])], ()),
    "chain": (Chain, [(2, 2, 12)], ()),
}
