"""Models of Equinox: their layers with weights, one run on a batch, and new weights for them.

A model takes one sample and is run on a batch by ``jax.vmap``, in inference mode. One with state, such as running
statistics, is a pair of the module and its ``eqx.nn.State``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from convspec.contract import Array, Call, FoundConv, ModelTrace, Part, format_of
from convspec.errors import UnsupportedError
from convspec_equinox import read, steps
from convspec_equinox.steps import trace_steps
from convspec_equinox.weights import to_equinox

__all__ = ["parameters", "parts", "save", "trace_model", "trace_steps", "write"]

_CONVOLUTIONS = (eqx.nn.Conv, eqx.nn.ConvTranspose)
_NORMS = {eqx.nn.BatchNorm: "batch", eqx.nn.LayerNorm: "layer", eqx.nn.GroupNorm: "group", eqx.nn.RMSNorm: "rms"}
_KINDS = (*_CONVOLUTIONS, *_NORMS, eqx.nn.Linear)


def parts(model: Any) -> list[Part]:
    """All convolutions, norms and linear layers, in the order of the module's fields."""
    module, state = steps.split(model)
    return [_part(path, layer, state) for path, layer in steps.modules(module, _KINDS).items()]


def _part(path: str, layer: Any, state: Any) -> Part:
    name = type(layer).__name__
    if isinstance(layer, _CONVOLUTIONS):
        found = FoundConv.of(path, lambda: read._plain(layer))
        return Part(path, "conv", name, found.reading, problem=found.problem)
    own = {ours: getattr(layer, theirs) for ours, theirs in _names(layer).items()}
    if isinstance(layer, eqx.nn.BatchNorm) and state is not None:
        own |= zip(("mean", "variance"), steps.stored(layer, state), strict=True)
    arrays = {ours: _array(values) for ours, values in own.items() if values is not None}
    if isinstance(layer, eqx.nn.Linear):
        return Part(path, "linear", name, arrays=arrays)
    base = next(kind for kind in _NORMS if isinstance(layer, kind))
    norm: dict[str, Any] = {"norm": _NORMS[base]} if type(layer).__call__ is base.__call__ else {}
    if base in (eqx.nn.LayerNorm, eqx.nn.RMSNorm):
        norm |= {"axis": -1, "axes": tuple(range(-len(layer.shape), 0))}
    elif base is eqx.nn.GroupNorm:
        norm |= {"groups": layer.groups}
    return Part(path, "norm", name, arrays=arrays, epsilon=float(layer.eps), **{"axis": 1} | norm)


def _names(layer: Any) -> dict[str, str]:
    """Return Equinox's names of a layer's arrays by a part's."""
    if isinstance(layer, tuple(_NORMS)):
        return {"gain": "weight", "shift": "bias"}
    return {"kernel": "weight", "bias": "bias"} if isinstance(layer, _KINDS) else {}


def _array(x: Any) -> Array:
    return np.array(x, format_of(str(x.dtype)).carrier)


def parameters(model: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of all parameters, by the path of their module and a part's name for them."""
    module, _ = steps.split(model)
    known = {path: {theirs: ours for ours, theirs in _names(layer).items()}
             for path, layer in steps.modules(module, _KINDS).items()}  # fmt: skip
    found = {}
    for keys, leaf in jax.tree_util.tree_leaves_with_path(eqx.filter(module, eqx.is_inexact_array)):
        owner, _, name = steps.path_of(keys).rpartition(".")
        found[f"{owner}/{known.get(owner, {}).get(name, name)}"] = tuple(leaf.shape)
    return found


def trace_model(model: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> ModelTrace:
    """Run the model once on a batch; the calls of its layers and its results are those of the trace of its steps."""
    paths, trace = set(steps.modules(steps.split(model)[0], _KINDS)), trace_steps(model, inputs)
    calls = [Call(step.path, trace.tensors[step.reads[0]], trace.tensors[step.writes[0]])
             for step in trace.steps if step.path in paths and step.reads]  # fmt: skip
    return ModelTrace(calls, [trace.tensors[i] for i in trace.outputs])


def write(model: Any, arrays: Mapping[str, Mapping[str, Array]]) -> Any:
    """A new module – of a pair a new pair – with these arrays; the old one is as it was."""
    module, state = model if isinstance(model, tuple) else (model, None)
    layers = steps.modules(module, _KINDS)
    plain = {path: dict(new) for path, new in arrays.items() if path not in layers}  # by the names of attributes
    own = {id(layers[path]): new for path, new in arrays.items() if path in layers}

    def change(old: Any, new: Any, path: str) -> None:
        for ours, theirs in _names(old).items():
            if ours in own.get(id(old), {}):
                values, like = _native(old, ours, own[id(old)][ours]), getattr(old, theirs)
                object.__setattr__(new, theirs, jnp.asarray(values, like.dtype).reshape(like.shape))

        for name in [name for name in plain.get(path, ()) if eqx.is_inexact_array(getattr(old, name, None))]:
            like = getattr(old, name)
            object.__setattr__(new, name, jnp.asarray(plain[path].pop(name), like.dtype).reshape(like.shape))

    written = steps.copied(module, change)
    if missing := [path for path, left in plain.items() if left]:
        raise UnsupportedError(f"{missing[0]} is no layer whose arrays are known by name")
    if state is None:
        return written
    state = jax.tree.unflatten(jax.tree.structure(state), jax.tree.leaves(state))  # setting makes the old one invalid
    for path, new in arrays.items():
        if path in layers and {"mean", "variance"} <= set(new):
            state = _stored(layers[path], state, new["mean"], new["variance"])
    return written, state


def _native(layer: Any, name: str, new: Array) -> Array:
    if name != "kernel" or not isinstance(layer, _CONVOLUTIONS):
        return new
    return to_equinox(new, transposed=isinstance(layer, eqx.nn.ConvTranspose), groups=layer.groups)


def _stored(norm: Any, state: Any, mean: Array, variance: Array) -> Any:
    """Return a state with these statistics of a batch norm, as after many batches: no correction for few remains."""
    index = norm.ema_state_index or norm.batch_state_index
    old = state.get(index)
    state = state.set(index, tuple(jnp.asarray(a, b.dtype) for a, b in zip((mean, variance), old, strict=True)))
    if norm.mode == "ema":
        return state.set(norm.ema_first_time_index, jnp.array(False))
    counter = state.get(norm.batch_counter)
    enough = math.ceil(60 / -math.log2(norm.momentum)) if 0 < norm.momentum < 1 else 1
    return state.set(norm.batch_counter, counter + max(enough - int(counter), 0))


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """The model's arrays in Equinox's own format."""
    with open(path, "wb") as file:  # noqa: PTH123 – any kind of path
        eqx.tree_serialise_leaves(file, model)
