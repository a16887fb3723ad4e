"""Functions of JAX that are one step: activations, softmax, resizing, pads.

A traced function shows what they compute, not what was called. Some keep their name, others are operations in a row;
the function is called on a tensor of the same shape, and the step is its own if the operations are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import nn
from jax.extend.core import Literal, jaxpr_as_fun

from convspec.contract.network_words import Arguments
from convspec.errors import ConvspecError
from convspec.spec import steps
from convspec.spec.steps import Step
from convspec_jax.network import ACTIVATIONS

Shape: TypeAlias = tuple[int, ...]
Candidates: TypeAlias = Iterator[tuple[Callable[[Any], Any], "Step"]]
_PADS = {"reflect": "reflect", "symmetric": "symmetric", "edge": "replicate", "wrap": "circular"}
_METHODS: dict[str, Mapping[str, Any]] = {"nearest": {}, "linear": {}, "cubic": {"cubic_coefficient": -0.5},
                                          "lanczos3": {}, "lanczos5": {}}  # fmt: skip

_WORDS = ("relu", "relu6", "silu", "mish", "log_sigmoid", "hard_sigmoid", "hard_silu", "hard_tanh", "soft_sign",
          "softplus", "selu", "elu", "celu", "leaky_relu", "squareplus")  # fmt: skip
"""Functions of ``jax.nn`` that keep their name in a trace, and mean what the vocabulary of JAX says."""


def _candidates(name: str, shape: Shape, numbers: tuple[float, ...], out: Shape) -> Candidates:
    """Yield functions of this name, with the step that each is."""
    if name in _WORDS:
        word = ACTIVATIONS[name]
        step: Any = word.means(Arguments(word.bind(name, (None, *numbers), {})))
        yield lambda x: getattr(nn, name)(x, *numbers), step
    elif name == "clip":
        yield lambda x: jnp.clip(x, *numbers), steps.Clip(*numbers)
        if len(numbers) == 1:
            yield lambda x: jnp.clip(x, max=numbers[0]), steps.Clip(None, numbers[0])
    elif name in ("glu", "log_softmax"):
        for axis, size in enumerate(shape):
            if name == "log_softmax":
                yield partial(nn.log_softmax, axis=axis), steps.Softmax(axis, log=True)
            elif size % 2 == 0:
                yield partial(nn.glu, axis=axis), steps.GLU(axis)
    elif name == "_resize":
        for method, own in _METHODS.items():
            for antialias in (True, False):
                words = {"antialias": antialias, "exclude_outside": True, **own}
                yield (partial(jax.image.resize, shape=out, method=method, antialias=antialias),
                       steps.Resize(out, mode=method, **words))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """A function in a trace: its step on one sample, the number of its operations, and the variable that it reads."""

    name: str
    step: Step
    length: int
    operand: Any


def find(eqns: Sequence[Any], place: int, uses: Mapping[Any, int], samples: bool) -> Found | None:
    """Return the function whose operations begin at this one."""
    eqn = eqns[place]
    if eqn.primitive.name in ("jit", "pjit"):
        return _named(eqn, samples)
    for name, x in _begins(eqn):
        for row, kinds, step in _rows(name, x.aval.shape, str(x.aval.dtype)):
            window = eqns[place : place + len(kinds)]
            if tuple(e.primitive.name for e in window) != kinds:
                continue
            inner = [v for e in window[:-1] for v in e.outvars]
            inside = [v for e in window for v in e.invars if not isinstance(v, Literal)]
            whole = row.replace(invars=[x], outvars=window[-1].outvars, eqns=window)
            if all(uses[v] == inside.count(v) for v in inner) and str(whole) == str(row):
                return Found(name.split()[0], step, len(kinds), x)
    return None


def _begins(eqn: Any) -> Iterator[tuple[str, Any]]:
    """Yield the functions whose operations begin with this one, and their operand."""
    first = [v for v in eqn.invars if not isinstance(v, Literal)]
    if eqn.primitive.name in ("integer_pow", "mul") and len(first) == 1:
        yield "gelu", first[0]
    elif eqn.primitive.name == "reduce_max" and len(eqn.params["axes"]) == 1:
        yield f"softmax {eqn.params['axes'][0]}", first[0]


@lru_cache(1024)
def _rows(name: str, shape: Shape, dtype: str) -> list[tuple[Any, tuple[str, ...], Step]]:
    """Return the trace, the operations and the step of functions without a name in a trace."""
    if name == "gelu":
        made: Any = [
            (partial(nn.gelu, approximate=True), steps.GELU("tanh")),
            (partial(nn.gelu, approximate=False), steps.GELU()),
        ]
    else:
        axis = int(name.split()[1])
        made = [(partial(nn.softmax, axis=axis), steps.Softmax(axis))]
    rows = []
    for function, step in made:
        jaxpr = jax.make_jaxpr(function)(jax.ShapeDtypeStruct(shape, dtype)).jaxpr
        rows.append((jaxpr, tuple(eqn.primitive.name for eqn in jaxpr.eqns), step))
    return rows


def _named(eqn: Any, samples: bool) -> Found | None:
    name, body = eqn.params["name"], eqn.params["jaxpr"]
    given = [v for v in eqn.invars if not isinstance(v, Literal)]
    if len(given) != 1 or len(eqn.outvars) != 1 or eqn.invars[0] is not given[0]:
        return None
    x, out = given[0], eqn.outvars[0].aval.shape
    if name == "_pad":
        step = _pad(body, x.aval.shape, out)
        return None if step is None else Found("pad", step, 1, x)
    if name == "_resize":
        moved = _moved(x.aval.shape, out)
        if not moved or moved[0] == 0 or (not samples and moved[0] == 1 and moved[-1] == len(out) - 1):
            return None  # it resizes the batch or the channels
    elif name not in (*_WORDS, "clip", "glu", "log_softmax"):
        return None
    numbers = tuple(v.val.item() if hasattr(v.val, "item") else v.val for v in eqn.invars[1:])
    text = str(body)
    for own, found in _texts(name, x.aval.shape, str(x.aval.dtype), numbers, out):
        if own == text:
            return Found(name.strip("_"), found, 1, x)
    return None


@lru_cache(4096)
def _texts(name: str, shape: Shape, dtype: str, numbers: tuple[float, ...], out: Shape) -> list[tuple[str, Step]]:
    found = []
    for function, step in _candidates(name, shape, numbers, out):
        try:
            jaxpr = jax.make_jaxpr(function)(jax.ShapeDtypeStruct(shape, dtype)).jaxpr
        except (TypeError, ValueError, ConvspecError):  # such a function does not take this tensor
            continue
        found += [(str(body), step) for body in _bodies(jaxpr, name)]
    return found


def _bodies(jaxpr: Any, name: str) -> Iterator[Any]:
    for eqn in jaxpr.eqns:
        if eqn.params.get("name") == name and "jaxpr" in eqn.params:
            yield eqn.params["jaxpr"]
        elif "call_jaxpr" in eqn.params:
            yield from _bodies(eqn.params["call_jaxpr"].jaxpr, name)


def _pad(body: Any, shape: Shape, out: Shape) -> Step | None:
    """Return a pad that copies elements, by the positions that it copies; None if it is another."""
    if any(eqn.primitive.name == "pad" for eqn in body.eqns):
        return None
    pads, modes = [], set(_PADS)
    for axis, (n, size) in enumerate(zip(shape, out, strict=True)):
        line = np.arange(n).reshape([-1 if i == axis else 1 for i in range(len(shape))])
        x = np.broadcast_to(line, shape).astype(body.in_avals[0].dtype)
        (y,) = jaxpr_as_fun(body)(x, *(np.zeros(a.shape, a.dtype) for a in body.in_avals[1:]))
        found = np.moveaxis(np.asarray(y), axis, -1).reshape(-1, size)[0]
        fits = {
            (lo, mode) for lo in range(size - n + 1) for mode in modes if _padded(n, lo, size - n - lo, mode, found)
        }
        modes &= {mode for _, mode in fits}
        pads.append({mode: (lo, size - n - lo) for lo, mode in fits})
    fitting = next((mode for mode in _PADS if mode in modes), None)
    return None if fitting is None else steps.Pad([pad[fitting] for pad in pads], _PADS[fitting])


def _padded(n: int, lo: int, hi: int, mode: Any, found: Any) -> bool:
    return n > 0 and np.array_equal(np.pad(np.arange(n), (lo, hi), mode), found)


def of_batch(step: Any, samples: bool, x: Shape, y: Shape, layout: str) -> tuple[Step, str]:
    """Return the step on the whole tensor, and the layout of a resize, whose size is that of all axes of a sample."""
    if isinstance(step, steps.Resize):
        moved = _moved(x, y)
        layout = "NCHW" if moved[-1] == len(y) - 1 else "NHWC" if moved[0] == 1 else layout
        return replace(step, size=y[2:] if layout == "NCHW" else y[1:-1]), layout
    axis = getattr(step, "axis", -1)
    return (replace(step, axis=axis + 1) if samples and axis >= 0 else step), ""


def _moved(x: Shape, y: Shape) -> list[int]:
    return [i for i, (a, b) in enumerate(zip(x, y, strict=True)) if a != b]
