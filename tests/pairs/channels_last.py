"""Operations of channels-last models that are written with functions of ``keras.ops`` or ``jax.numpy`` (``xp``)."""

from __future__ import annotations

from typing import Any

from tests.pairs.network import Op


def call(xp: Any, op: Op, *xs: Any) -> Any:
    """Return the result of an operation without weights."""
    x = xs[0]
    match op.kind:
        case "global_pool":
            return xp.max(x, (1, 2)) if op.get("max") else xp.mean(x, (1, 2))
        case "spread":
            return xp.reshape(x, (-1, 1, 1, x.shape[-1]))
        case "concat":
            return xp.concatenate(xs, axis=-1)
        case "add":
            return xs[0] + xs[1]
        case "multiply":
            return xs[0] * xs[1]
        case "pixel_shuffle":
            return pixel_shuffle(xp, x, op["order"])
        case "channel_shuffle":
            return channel_shuffle(xp, x, op["groups"])
        case "flatten":
            return xp.reshape(x, (-1, x.shape[1] * x.shape[2] * x.shape[3]))
        case "unflatten":
            c, h, w = op["shape"]
            return xp.reshape(x, (-1, h, w, c))
    raise ValueError(op.kind)


def pixel_shuffle(xp: Any, x: Any, order: str) -> Any:
    """Return an image of half the channels per axis: PyTorch's order is CRD."""
    _, h, w, c = x.shape
    if order == "CRD":
        blocks = xp.transpose(xp.reshape(x, (-1, h, w, c // 4, 2, 2)), (0, 1, 4, 2, 5, 3))
    else:
        blocks = xp.transpose(xp.reshape(x, (-1, h, w, 2, 2, c // 4)), (0, 1, 3, 2, 4, 5))
    return xp.reshape(blocks, (-1, 2 * h, 2 * w, c // 4))


def channel_shuffle(xp: Any, x: Any, groups: int) -> Any:
    """Return the channels of the groups in turn."""
    _, h, w, c = x.shape
    blocks = xp.transpose(xp.reshape(x, (-1, h, w, groups, c // groups)), (0, 1, 2, 4, 3))
    return xp.reshape(blocks, (-1, h, w, c))
