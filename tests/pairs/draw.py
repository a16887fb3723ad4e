"""Random networks, of the blocks that people write."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from tests.pairs.network import INPUT, Net, Op, Shape

SHAPES = ((3, 12, 10), (3, 9, 11), (4, 16, 12))
ACTIVATIONS = ("relu", "relu", "relu6", "leaky_relu", "silu", "gelu", "gelu_tanh", "hard_swish", "tanh", "elu")


class Builder:
    """A network that grows; every method adds operations and returns the name of their value."""

    def __init__(self, rng: random.Random, shape: Shape) -> None:
        self.rng, self.shape, self.ops = rng, shape, list[Op]()

    def net(self, *results: str) -> Net:
        return Net(self.shape, tuple(self.ops), results)

    def add(self, kind: str, *reads: str, of: str = "", **settings: Any) -> str:
        name = f"{kind}{sum(op.kind == kind for op in self.ops)}"
        self.ops.append(Op(name, kind, reads, settings, of))
        return name

    def size(self, x: str) -> Shape:
        return self.net().shapes()[x]

    def width(self) -> int:
        return self.rng.choice((4, 6, 8))

    # -- parts ---------------------------------------------------------------------------------------------------------

    def conv(self, x: str, out: int, kernel: int | tuple[int, int] = 3, **settings: Any) -> str:
        k = (kernel, kernel) if isinstance(kernel, int) else kernel
        d = settings.get("dilation", 1)
        pads = tuple((d * (n - 1) // 2, d * (n - 1) // 2) for n in k)
        own = {"out": out, "kernel": k, "pads": pads, "stride": 1, "dilation": 1, "groups": 1, "bias": True}
        return self.add("conv", x, **own | settings)

    def norm(self, x: str, kind: str = "") -> str:
        c = self.size(x)[0]
        kind = kind or self.rng.choice(("batch_norm", "batch_norm", "batch_norm", "group_norm", "instance_norm"))
        if kind == "group_norm" and c % 2:
            kind = "batch_norm"
        if kind == "group_norm":
            return self.add(kind, x, groups=2, epsilon=1e-5)
        if kind == "instance_norm":
            return self.add(kind, x, affine=self.rng.random() < 0.5, epsilon=1e-5)
        return self.add(kind, x, epsilon=1e-6 if kind == "layer_norm" else 1e-5)

    def act(self, x: str, name: str = "") -> str:
        if not name and self.rng.random() < 0.1:
            return self.add("prelu", x, shared=self.rng.random() < 0.5)
        return self.add("act", x, function=name or self.rng.choice(ACTIVATIONS), slope=0.1)

    def conv_norm_act(self, x: str, out: int, kernel: int = 3, act: str = "", **settings: Any) -> str:
        normed = self.rng.random() < 0.7
        y = self.conv(x, out, kernel, **settings, bias=not normed)
        return self.act(self.norm(y) if normed else y, act)

    def pool(self, x: str, *, odd: bool = True) -> str:
        _, h, w = self.size(x)
        kind = self.rng.choice(("max", "max_padded", "avg", "ceil", "avg_padded") if odd else ("max", "avg"))
        if kind == "max_padded":
            return self.add("max_pool", x, kernel=(3, 3), stride=2, pads=((1, 1), (1, 1)))
        if kind == "avg_padded":
            return self.add("avg_pool", x, kernel=(3, 3), stride=1, pads=((1, 1), (1, 1)),
                            counted=self.rng.random() < 0.5)  # fmt: skip
        ceil = kind == "ceil" and (h % 2 or w % 2)
        kind = "max_pool" if kind in ("max", "ceil") else "avg_pool"
        return self.add(kind, x, kernel=(2, 2), stride=2, pads=((0, 0), (0, 0)), **({"ceil": True} if ceil else {}))

    # -- blocks --------------------------------------------------------------------------------------------------------

    def plain(self, x: str) -> str:
        kernel = self.rng.choice(((3, 3), (1, 1), (3, 5), (5, 3), (2, 2)))
        stride, dilation = self.rng.choice(((1, 1), (2, 1), (1, 2)))
        if kernel == (2, 2):
            return self.conv_norm_act(x, self.width(), kernel, pads=((0, 1), (1, 0)), stride=stride)
        return self.conv_norm_act(x, self.width(), kernel, stride=stride, dilation=dilation)

    def depthwise(self, x: str) -> str:
        c = self.size(x)[0]
        y = self.conv_norm_act(x, c * self.rng.choice((1, 1, 2)), 3, groups=c, stride=self.rng.choice((1, 2)))
        return self.conv_norm_act(y, self.width(), 1)

    def grouped(self, x: str) -> str:
        x = self.conv_norm_act(x, 8, 1)
        y = self.add("channel_shuffle", self.conv(x, 8, groups=2), groups=self.rng.choice((2, 4)))
        return self.act(self.conv(y, self.width(), 3, groups=2))

    def residual(self, x: str) -> str:
        out, stride = self.width(), self.rng.choice((1, 1, 2))
        y = self.conv_norm_act(x, out, act="relu", stride=stride)
        y = self.norm(self.conv(y, out, bias=False), "batch_norm")
        if stride > 1 or self.size(x)[0] != out:
            x = self.norm(self.conv(x, out, 1, stride=stride, bias=False), "batch_norm")
        return self.act(self.add("add", y, x), "relu")

    def squeeze_excite(self, x: str) -> str:
        x = self.conv_norm_act(x, self.width())
        c = self.size(x)[0]
        y = self.add("linear", self.add("global_pool", x), out=c // 2)
        y = self.add("linear", self.act(y, "relu"), out=c)
        gate = self.act(y, self.rng.choice(("sigmoid", "hard_sigmoid")))
        return self.add("multiply", x, self.add("spread", gate))

    def branches(self, x: str) -> str:
        parts = [
            self.act(self.conv(x, 4, dilation=d), "relu") for d in self.rng.sample((1, 2, 3), self.rng.choice((2, 3)))
        ]
        return self.conv_norm_act(self.add("concat", *parts), self.width(), 1)

    def unet(self, x: str) -> str:
        x = self.conv_norm_act(x, self.width(), pads=self._even(x))
        y = self.conv_norm_act(self.pool(x, odd=False), self.width())
        if self.rng.random() < 0.5:
            y = self.add("resize", y, mode=self.rng.choice(("nearest", "bilinear")), align=False)
        else:
            y = self.deconv(y, self.width(), k=2, p=0, op=0)
        return self.conv_norm_act(self.add("concat", y, x), self.width())

    def _even(self, x: str) -> tuple[tuple[int, int], ...]:
        """Return pads of a 3×3 convolution after which sizes are even."""
        return tuple((1, 1 + n % 2) for n in self.size(x)[1:])

    def convnext(self, x: str) -> str:
        c = self.size(x)[0]
        y = self.norm(self.conv(x, c, 5, groups=c), "layer_norm")
        y = self.conv(self.act(self.conv(y, 2 * c, 1), "gelu"), c, 1)
        return self.add("add", x, self.add("scale", y))

    def deconv(self, x: str, out: int, k: int, p: int, op: int) -> str:
        return self.add("deconv", x, out=out, kernel=(k, k), pads=((p, p),) * 2, stride=2, output_padding=op, bias=True)

    def upscale(self, x: str) -> str:
        choice = self.rng.choice(("shuffle", "resize", "deconv"))
        if choice == "shuffle":
            return self.add("pixel_shuffle", self.conv(x, 16), order="CRD")
        if choice == "resize":
            return self.act(self.conv(self.add("resize", x, mode="bilinear", align=False), self.width()))
        return self.act(self.norm(self.deconv(x, self.width(), *self.rng.choice(((4, 1, 0), (3, 1, 1), (3, 0, 0))))))

    # -- ends ----------------------------------------------------------------------------------------------------------

    def head(self, x: str) -> str:
        pooled = self.rng.random() < 0.5
        x = self.add("global_pool", x) if pooled else self.add("flatten", self.pool(x, odd=False))
        if self.rng.random() < 0.3:
            x = self.add("dropout", x, rate=0.5)
        y = self.add("linear", x, out=5)
        return self.add("softmax", y) if self.rng.random() < 0.4 else y


BLOCKS: tuple[Callable[[Builder, str], str], ...] = (
    Builder.plain, Builder.depthwise, Builder.grouped, Builder.residual, Builder.squeeze_excite, Builder.branches,
    Builder.unet, Builder.convnext, Builder.upscale, lambda b, x: b.pool(x),
)  # fmt: skip


def classifier(b: Builder) -> Net:
    x = INPUT
    for _ in range(b.rng.choice((1, 2, 2))):
        x = _block(b, x)
    return b.net(b.head(x))


def dense(b: Builder) -> Net:
    """A network whose result is an image, or two."""
    x = first = _block(b, INPUT)
    x = _block(b, x)
    return b.net(b.conv(x, 3), b.conv(first, 2, 1)) if b.rng.random() < 0.5 else b.net(b.conv(x, 3, 1))


def shared_heads(b: Builder) -> Net:
    high = b.conv_norm_act(INPUT, 6)
    low = b.conv_norm_act(high, 6, stride=2)
    first = b.conv(high, 4)
    settings = b.ops[-1].settings
    return b.net(first, b.add("conv", low, of=first, **settings))


def generator(b: Builder) -> Net:
    b.shape = (6,)
    shape = (4, 3, 5)
    y = b.act(b.add("unflatten", b.add("linear", INPUT, out=60), shape=shape), "relu")
    y = b.act(b.norm(b.deconv(y, 6, 4, 1, 0)), "leaky_relu")
    return b.net(b.act(b.conv(y, 3), "tanh"))


def chain(b: Builder) -> Net:
    """A network without branches, as Sequential takes it."""
    x = INPUT
    for _ in range(2):
        x = b.rng.choice((b.plain, b.depthwise, b.upscale))(x)
    return b.net(b.head(x))


def _block(b: Builder, x: str) -> str:
    if x == INPUT:
        x = b.conv_norm_act(x, b.width())
    return b.rng.choice(BLOCKS)(b, x)


NETS = (classifier, classifier, classifier, dense, dense, shared_heads, generator, chain)


def draw(seed: int, only: Callable[[Builder], Net] | None = None) -> Net:
    """Return the network of a seed."""
    rng = random.Random(seed)
    build = only or rng.choice(NETS)
    return build(Builder(rng, rng.choice(SHAPES)))
