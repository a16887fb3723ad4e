"""Mistakes of ports, planted into a network's operations or weights; each returns the places where it may be seen."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.judge.networks import Net, Op

Plant = Callable[[Net, random.Random], Op | None]


def _ops(net: Net, kind: str, rule: Callable[[Op], bool] = lambda op: True) -> list[Op]:
    return [op for op in net.ops if op.kind == kind and rule(op)]


def _setting(kind: str, name: str, value: Callable[[Any], Any], rule: Callable[[Op], bool] = lambda op: True) -> Plant:
    """A mistake in one setting of an operation."""

    def plant(net: Net, rng: random.Random) -> Op | None:
        found = [op for op in _ops(net, kind, rule) if value(op.set[name]) != op.set[name]]
        if not found:
            return None
        op = rng.choice(found)
        op.set[name] = value(op.set[name])
        return op

    return plant


def _array(kind: str, name: str, change: Callable[[np.ndarray], np.ndarray]) -> Plant:
    """A mistake in one array."""

    def plant(net: Net, rng: random.Random) -> Op | None:
        found = [op for op in _ops(net, kind) if name in net.weights[op.name]
                 and not np.array_equal(change(net.weights[op.name][name]), net.weights[op.name][name])]  # fmt: skip
        if not found:
            return None
        op = rng.choice(found)
        net.weights[op.name][name] = change(net.weights[op.name][name]).astype(np.float32)
        return op

    return plant


def _word(kind: str, before: str, after: str) -> Plant:
    return _setting(kind, "word", lambda word: after if word == before else word)


def _without(kind: str) -> Plant:
    def plant(net: Net, rng: random.Random) -> Op | None:
        found = _ops(net, kind)
        if not found:
            return None
        op = rng.choice(found)
        place = net.ops.index(op)
        net.ops.remove(op)
        net.weights.pop(op.name, None)
        return net.ops[place]

    return plant


def _swapped_norm(net: Net, rng: random.Random) -> Op | None:
    for place, op in enumerate(net.ops[:-1]):
        if op.kind == "norm" and net.ops[place + 1].kind == "act":
            net.ops[place : place + 2] = [net.ops[place + 1], op]
            return op
    return None


def _swapped_arrays(net: Net, rng: random.Random) -> Op | None:
    op = next((op for op in net.ops if op.kind == "norm"), None)
    if op is not None:
        own = net.weights[op.name]
        own["weight"], own["bias"] = own["bias"], own["weight"]
    return op


def _no_bias(net: Net, rng: random.Random) -> Op | None:
    found = _ops(net, "conv", lambda op: op.set["bias"])
    if not found:
        return None
    op = rng.choice(found)
    op.set["bias"] = False
    del net.weights[op.name]["bias"]
    return op


def _code(torch: str, flax: str) -> Plant:
    def plant(net: Net, rng: random.Random) -> Op | None:
        place = rng.choice([i for i, op in enumerate(net.ops) if op.kind in ("act", "pool")])
        net.ops.insert(place, Op("code", "", {"torch": torch, "flax": flax}))
        return net.ops[place]

    return plant


def _moved(step: int) -> Callable[[Any], Any]:
    return lambda pads: tuple((a + step, b + step) for a, b in pads)


def _outside(op: Op) -> bool:
    """Whether the convolution may change the size of its result."""
    return not op.set["skip"]


def _plain(op: Op) -> bool:
    return op.set["dilation"] == op.set["stride"] == (1, 1)


def _zeroed(weight: np.ndarray) -> np.ndarray:
    changed = weight.copy()
    changed[0, 0].reshape(-1)[0] = 0
    return changed


def _brain(weight: np.ndarray) -> np.ndarray:
    return (weight.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


MISTAKES: dict[str, Plant] = {
    "stride": _setting("conv", "stride", lambda s: tuple(3 - n if n < 3 else n for n in s), _outside),
    "padding larger": _setting("conv", "pads", _moved(1), _outside),
    "padding left out": _setting("conv", "pads", lambda pads: ((0, 0), (0, 0)), _outside),
    "padding after only": _setting("conv", "pads", lambda pads: tuple((0, a + b) for a, b in pads)),
    "dilation": _setting("conv", "dilation", lambda d: (1, 1) if d != (1, 1) else (2, 2), _outside),
    "reflected border": _setting("conv", "mode", lambda _: "reflect", _plain),
    "kernel flipped": _array("conv", "weight", lambda w: w[:, :, ::-1, ::-1]),
    "kernel transposed": _array("conv", "weight", lambda w: w.swapaxes(2, 3) if w.shape[2] == w.shape[3] else w),
    "kernel scaled": _array("conv", "weight", lambda w: w * np.float32(1.01)),
    "kernel in bfloat16": _array("conv", "weight", _brain),
    "kernel in float16": _array("conv", "weight", lambda w: w.astype(np.float16)),
    "one weight lost": _array("conv", "weight", _zeroed),
    "output channels reversed": _array("conv", "weight", lambda w: w[::-1]),
    "input channels reversed": _array("conv", "weight", lambda w: w[:, ::-1]),
    "bias left out": _no_bias,
    "bias negated": _array("conv", "bias", lambda b: -b),
    "epsilon": _setting("norm", "epsilon", lambda _: 1e-3),
    "mean not moved": _array("norm", "running_mean", np.zeros_like),
    "variance as deviation": _array("norm", "running_var", np.sqrt),
    "scale and shift swapped": _swapped_arrays,
    "norm left out": _without("norm"),
    "norm after the activation": _swapped_norm,
    "slope of leaky ReLU": _word("act", "leaky", "leaky 0.01"),
    "GELU by tanh": _word("act", "gelu", "gelu tanh"),
    "SiLU as hard swish": _word("act", "silu", "hardswish"),
    "ReLU6": _word("act", "relu", "relu6"),
    "activation left out": _without("act"),
    "mean pool for max": _word("pool", "max", "mean"),
    "max pool for mean": _word("pool", "mean", "max"),
    "pool of stride 1": _setting("pool", "word", lambda _: "stride 1"),
    "maximum over the image": _word("head", "mean", "max"),
    "softmax left out": _word("end", "softmax", "plain"),
    "softmax over the batch": _word("end", "softmax", "softmax of the batch"),
    "skip left out": _setting("conv", "skip", lambda s: 0.0),
    "skip halved": _setting("conv", "skip", lambda s: s / 2),
    "rows of the dense layer reversed": _array("linear", "weight", lambda w: w[::-1]),
    "columns of the dense layer reversed": _array("linear", "weight", lambda w: w[:, ::-1]),
    "image turned": _code("x = x.flip(3)", "x = x[:, :, ::-1]"),
    "values cut": _code("x = x.clamp(-2, 2)", "x = jnp.clip(x, -2, 2)"),
}


def places(net: Net, op: Op) -> set[str]:
    """Return the names of the layers where a mistake in an operation may be seen: itself, and the next with weights."""
    if op not in net.ops:
        return set()
    after = net.ops[net.ops.index(op) :]
    names = [one.name for one in after if one.name]
    before = [one.name for one in net.ops[: net.ops.index(op)] if one.name]
    return {*names[: 1 + bool(op.name)], *before[-1:], *([""] if not names or op.kind in ("linear", "end") else [])}
