"""A network as data: named operations on named values, in PyTorch's axes, from which every writer builds its model."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

INPUT, END = "x", "end"
LAYERS = ("conv", "deconv", "linear", "batch_norm", "group_norm", "instance_norm", "layer_norm")
Shape = tuple[int, ...]
Weights = dict[str, dict[str, np.ndarray]]


@dataclass(frozen=True, eq=False)  # JAX hashes it
class Op:
    """One operation; ``of``: the operation whose weights it shares."""

    name: str
    kind: str
    reads: tuple[str, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)
    of: str = ""

    def __getitem__(self, name: str) -> Any:
        return self.settings[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a setting."""
        return self.settings.get(name, default)


@dataclass(frozen=True, eq=False)  # JAX hashes it
class Net:
    """Operations in an order in which they can run; ``shape``: of the input, without the batch."""

    shape: Shape
    ops: tuple[Op, ...]
    results: tuple[str, ...]

    def __getitem__(self, name: str) -> Op:
        return next(op for op in self.ops if op.name == name)

    @property
    def is_chain(self) -> bool:
        """Whether every operation reads what the one before gives."""
        names = [INPUT, *(op.name for op in self.ops)]
        chained = all(op.reads == (before,) and not op.of for before, op in zip(names, self.ops, strict=False))
        return chained and self.results == (names[-1],)

    def change(self, name: str, *, kind: str = "", reads: Sequence[str] = (), **settings: Any) -> Net:
        """Return the network with one operation changed."""
        old = self[name]
        new = replace(
            old, kind=kind or old.kind, reads=tuple(reads) or old.reads, settings={**old.settings, **settings}
        )
        return replace(self, ops=tuple(new if op is old else op for op in self.ops))

    def remove(self, name: str, keep: int = 0) -> Net:
        """Return the network without an operation; who read it reads its operand number ``keep``."""
        by = self[name].reads[keep]
        ops = tuple(
            replace(op, reads=tuple(by if r == name else r for r in op.reads)) for op in self.ops if op.name != name
        )
        return replace(self, ops=ops, results=tuple(by if r == name else r for r in self.results))

    def insert(self, after: str, op: Op) -> Net:
        """Return the network with an operation after another one, for all that read that one."""
        ops: list[Op] = []
        for old in self.ops:
            ops.append(replace(old, reads=tuple(op.name if r == after else r for r in old.reads)))
            if old.name == after:
                ops.append(replace(op, reads=(after,)))
        return replace(self, ops=tuple(ops), results=tuple(op.name if r == after else r for r in self.results))

    def readers(self, name: str) -> list[Op]:
        """Return the operations that read a value."""
        return [op for op in self.ops if name in op.reads]

    def places(self, name: str) -> set[str]:
        """Return the layers that read a value, through operations without weights; ``end``: a result does."""
        found = {END} if name in self.results else set()
        for op in self.readers(name):
            found |= {op.of or op.name} if op.kind in LAYERS else self.places(op.name)
        return found

    def shapes(self) -> dict[str, Shape]:
        """Return the shape of every value; raises ValueError where an operation does not take its operands."""
        found = {INPUT: self.shape}
        for op in self.ops:
            found[op.name] = _shape(op, [found[r] for r in op.reads])
            if min(found[op.name]) < 1:
                raise ValueError(f"{op.name} gives nothing")
        return found

    def __str__(self) -> str:
        def words(op: Op) -> str:
            own = ",".join(f"{k}={v}" for k, v in op.settings.items())
            return f"{op.name}={op.of and op.of + ':'}{op.kind}[{own}]({','.join(op.reads)})"

        return f"x{list(self.shape)} " + " ".join(map(words, self.ops)) + f" -> {','.join(self.results)}"


def window(op: Op, sizes: Sequence[int]) -> Iterator[int]:
    """Yield the output's sizes of a convolution or pool."""
    for n, k, (lo, hi) in zip(sizes, op["kernel"], op["pads"], strict=True):
        s, d = op.get("stride", 1), op.get("dilation", 1)
        span = n + lo + hi - d * (k - 1) - 1
        size = -(-span // s) + 1 if op.get("ceil") else span // s + 1
        yield size - (op.get("ceil", False) and (size - 1) * s >= n + lo)


def _shape(op: Op, reads: list[Shape]) -> Shape:
    (c, *sizes) = first = reads[0]
    match op.kind:
        case "conv":
            if c % op["groups"] or op["out"] % op["groups"]:
                raise ValueError("groups")
            return op["out"], *window(op, sizes)
        case "deconv":
            return op["out"], *((n - 1) * op["stride"] - lo - hi + k + op["output_padding"]
                                for n, k, (lo, hi) in zip(sizes, op["kernel"], op["pads"], strict=True))  # fmt: skip
        case "linear":
            return (op["out"],)
        case "max_pool" | "avg_pool":
            return c, *window(op, sizes)
        case "global_pool":
            return (c,)
        case "spread":  # features as images of one pixel
            return c, 1, 1
        case "resize":
            return c, *(2 * n for n in sizes)
        case "pixel_shuffle":
            return c // 4, *(2 * n for n in sizes)
        case "pad":
            return c, *(n + lo + hi for n, (lo, hi) in zip(sizes, op["pads"], strict=True))
        case "concat":
            if len({r[1:] for r in reads}) > 1:
                raise ValueError("concat")
            return sum(r[0] for r in reads), *sizes
        case "add" | "multiply":
            return tuple(np.broadcast_shapes(*reads))
        case "flatten":
            return (int(np.prod(first)),)
        case "unflatten":
            if np.prod(op["shape"]) != np.prod(first):
                raise ValueError("unflatten")
            return tuple(op["shape"])
    return first


def arrays(op: Op, reads: Shape, seed: int) -> dict[str, np.ndarray]:
    """Return an operation's weights, canonical; random, by its name, so that others keep theirs when it changes."""
    rng = np.random.default_rng([seed, zlib.crc32(op.name.encode())])
    c = reads[0]

    def normal(shape: Shape, size: float) -> np.ndarray:
        return (rng.standard_normal(shape) * size).astype(np.float32)

    def around_one() -> np.ndarray:
        return rng.uniform(0.5, 1.5, c).astype(np.float32)

    found: dict[str, np.ndarray] = {}
    if op.kind in ("conv", "deconv", "linear"):
        kernel = op.get("kernel", ())
        inputs = c // op.get("groups", 1)
        shape = (op["out"], inputs, *kernel)
        found["kernel"] = normal(shape, (2 / (inputs * int(np.prod(kernel) or 1))) ** 0.5)
        if op.get("bias", True):
            found["bias"] = normal((op["out"],), 0.2)
    elif op.kind in LAYERS and op.get("affine", True):
        found |= {"gain": around_one(), "shift": normal((c,), 0.2)}
    if op.kind == "batch_norm":
        found |= {"mean": normal((c,), 0.2), "variance": around_one()}
    if op.kind == "prelu":
        found["slope"] = rng.uniform(0.1, 0.4, 1 if op["shared"] else c).astype(np.float32)
    if op.kind == "scale":
        found["gamma"] = around_one()
    return found


def weights(net: Net, seed: int) -> Weights:
    """Return the weights of all operations that have some of their own."""
    shapes = net.shapes()
    found = {op.name: arrays(op, shapes[op.reads[0]], seed) for op in net.ops if not op.of}
    return {name: own for name, own in found.items() if own}


def channels_last(net: Net, own: Weights) -> Weights:
    """Return weights whose linear layers read and give features in channels-last order."""
    shapes, found = net.shapes(), {name: dict(each) for name, each in own.items()}
    for op in net.ops:
        if op.kind == "flatten":
            order = np.arange(np.prod(shapes[op.reads[0]])).reshape(shapes[op.reads[0]])
            order = np.moveaxis(order, 0, -1).reshape(-1)
            for reader in linear_after(net, op.name):
                found[reader]["kernel"] = own[reader]["kernel"][:, order]
        if op.kind == "unflatten":
            order = np.moveaxis(np.arange(np.prod(op["shape"])).reshape(op["shape"]), 0, -1).reshape(-1)
            before = op.reads[0]
            while net[before].kind != "linear":
                before = net[before].reads[0]
            found[before] = {key: array[order] for key, array in own[before].items()}
    return found


def linear_after(net: Net, name: str) -> list[str]:
    """Return the linear layers that read a value, directly or through operations on elements."""
    found: list[str] = []
    for op in net.readers(name):
        found += [op.of or op.name] if op.kind == "linear" else linear_after(net, op.name)
    return found
