"""``flax.linen`` models, which make their layers when they are called: (module, variables)."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import serialization

from convspec.contract import Array, Call, ModelTrace, Part, refuse_inputs
from convspec.errors import UnsupportedError
from convspec_flax import model as shared
from convspec_flax import read as readers
from convspec_flax.linen import read
from convspec_flax.linen.steps import trace_steps

__all__ = ["open", "parameters", "parts", "parts_need_inputs", "save", "trace_model", "trace_steps", "write"]

parts_need_inputs = True  # linen makes its layers when it is called
_NORMS = (nn.BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.InstanceNorm)
_KINDS = (*read._KINDS, *_NORMS, nn.Dense)


class _Pair(tuple[Any, Any]):
    """A module and its variables, with the convolutions that a call has shown, by their paths."""

    def __init__(self, _: Any) -> None:
        self.convs: dict[str, nn.Module] = {}


def open(model: Any) -> Any:  # noqa: A001 – the name that adapters have for it
    """The module and its variables, to which :func:`parts` adds how each convolution stores its kernel."""
    return _Pair(read._parted(model))


def parts(model: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> list[Part]:
    """Return all convolutions, norms and linear layers in the order of a call."""
    module, variables = read._parted(model)
    dtype = str(read._dtype(variables))
    arrays = dict(inputs) if isinstance(inputs, Mapping) else dict(enumerate(inputs))
    shapes = {
        key: jax.ShapeDtypeStruct(x.shape, dtype if x.dtype.kind == "f" else x.dtype) for key, x in arrays.items()
    }
    found: dict[str, Part] = {}

    def apply(given: dict[Any, Any]) -> Any:
        if isinstance(inputs, Mapping):
            return module.apply(variables, **given)
        return module.apply(variables, *given.values())

    def listen(inner: Any, numbers: read.Numbers) -> None:
        if isinstance(inner, _KINDS):
            _note(found, variables, inner, numbers)
        if isinstance(inner, read._KINDS) and isinstance(model, _Pair):
            model.convs["/".join(inner.path)] = inner.clone(parent=None)

    with refuse_inputs("Flax model"):
        read.visit(apply, shapes, listen)
    return list(found.values())


def _note(found: dict[str, Part], variables: Any, module: Any, numbers: read.Numbers) -> None:
    path, name = "/".join(module.path), type(module).__name__
    if path in found:
        return
    if isinstance(module, read._KINDS):
        conv = read.found(variables, module, numbers)
        found[path] = Part(path, "conv", name, conv.reading, problem=conv.problem)
        return
    try:
        own = read.seen(variables, module, numbers)
    except read.Traced:
        raise
    except UnsupportedError:
        return  # one of several under scan or vmap
    params, stats = ({key: readers.array(value) for key, value in own[which].items()} for which in own)
    if isinstance(module, _NORMS):
        arrays = {ours: (params | stats)[theirs] for ours, theirs in shared.NORMS.items() if theirs in params | stats}
        found[path] = Part(path, "norm", name, arrays=arrays, **_norm(module, arrays))
    else:
        found[path] = Part(path, "linear", name, arrays=shared.linear(params["kernel"], params.get("bias")))


def _norm(module: Any, arrays: Mapping[str, Array]) -> dict[str, Any]:
    """The settings of a norm: an instance norm, and groups of a size, show their number in the arrays only."""
    own = shared.norm(module, _NORMS)
    size = next((array.size for array in arrays.values()), 0)
    if size and not own.get("norm") and type(module) in (nn.InstanceNorm, nn.GroupNorm):
        own |= {"norm": "group", "groups": size // (getattr(module, "group_size", None) or 1)}
    return own


def parameters(model: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of all parameters, by the path of their module and a part's name for them."""
    _, variables = read._parted(model)
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(nn.meta.unbox(variables.get("params", {}))):
        words = [str(getattr(key, "key", key)) for key in path]
        found["/".join(words)] = tuple(np.shape(leaf))
    norms = {where.rpartition("/")[0] for where in found if where.endswith("/scale")}
    names = {"scale": "gain", "bias": "shift"}
    split = [(*path.rpartition("/")[::2], shape) for path, shape in found.items()]
    return {f"{where}/{names.get(name, name) if where in norms else name}": shape for where, name, shape in split}


def trace_model(model: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> ModelTrace:
    """Run the module once; its own settings say whether in training."""
    module, variables = read._parted(model)
    calls: list[Call] = []

    def listen(module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        y = call(*args, **kwargs)
        x = args[0] if args else next(iter(kwargs.values()))
        calls.append(Call("/".join(module.path), readers.array(x), readers.array(y)))
        return y

    def call(*args: Any, **kwargs: Any) -> Any:
        with read.replaced(_KINDS, listen):
            return module.apply(variables, *args, **kwargs)

    return ModelTrace(calls, shared.ran(call, inputs, str(read._dtype(variables)), calls))


def write(model: Any, arrays: Mapping[str, Mapping[str, Array]]) -> Any:
    """A new pair of the module and variables with these arrays; the old variables are as they were."""
    module, variables = read._parted(model)
    convs = model.convs if isinstance(model, _Pair) else {}
    new: dict[str, Any] = copy.deepcopy(jax.tree.map(lambda leaf: leaf, dict(variables)))
    for path, own in arrays.items():
        for name, numbers in own.items():
            norm = name in shared.NORMS
            collection = "batch_stats" if name in ("mean", "variance") else "params"
            leaves = new[collection]
            for word in path.split("/") if path else ():
                leaves = leaves.get(word, {})
            key = shared.NORMS[name] if norm else name
            if key not in leaves:
                raise UnsupportedError(f"{path} has no variable {key}")
            own_order = numbers if norm else shared.native(convs.get(path), name, numbers)
            leaves[key] = readers.tensor(own_order, str(leaves[key].dtype)).reshape(leaves[key].shape)
    written = _Pair((module, new))
    written.convs |= convs
    return written


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """The variables as Flax's own msgpack."""
    _, variables = read._parted(model)
    with Path(path).open("wb") as file:
        file.write(serialization.to_bytes(variables))
