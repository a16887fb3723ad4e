"""``flax.nnx`` models: their layers with weights, the inputs and outputs of these in a run, and new weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx, serialization

from convspec.contract import Array, Call, ModelTrace, Part, refuse_inputs
from convspec.errors import UnsupportedError
from convspec_flax import read
from convspec_flax.arguments import dilates_input
from convspec_flax.steps import trace_steps
from convspec_flax.weights import to_flax

__all__ = ["parameters", "parts", "save", "trace_model", "trace_steps", "write"]

NORMS = {"gain": "scale", "shift": "bias", "mean": "mean", "variance": "var"}
_NORMS = (nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm, nnx.RMSNorm, nnx.InstanceNorm)
_KINDS = (nnx.Conv, nnx.ConvTranspose, *_NORMS, nnx.Linear)


def parts(model: Any) -> list[Part]:
    """All convolutions, norms and linear layers, in the order of nnx's walk."""
    read._check(model)
    return [part for path, module in nnx.iter_modules(model) if (part := _part(path, module))]


def _part(path: tuple[Any, ...], module: Any) -> Part | None:
    where, name = "/".join(map(str, path)), type(module).__name__
    if read._is_convolution(module):
        conv = read._found(path, module)
        return Part(where, "conv", name, conv.reading, problem=conv.problem)
    if isinstance(module, _NORMS):
        arrays = {ours: values(module, theirs) for ours, theirs in NORMS.items() if has(module, theirs)}
        return Part(where, "norm", name, arrays=arrays, **norm(module, _NORMS))
    if isinstance(module, nnx.Linear):
        bias = values(module, "bias") if has(module, "bias") else None
        return Part(where, "linear", name, arrays=linear(values(module, "kernel"), bias))
    return None


def norm(module: Any, kinds: tuple[type, ...]) -> dict[str, Any]:
    """The settings of a norm of nnx or linen, as a part has them; one with a call of its own has no known form."""
    base = next(kind for kind in kinds if isinstance(module, kind))
    kind = base.__name__
    axis = module.axis if isinstance(getattr(module, "axis", None), int) else -1
    own = {"epsilon": float(module.epsilon), "axis": axis, "fast_variance": bool(module.use_fast_variance)}
    if type(module).__call__ is not base.__call__:
        return own
    if kind == "BatchNorm":
        return own | {"norm": "batch"}
    if kind in ("LayerNorm", "RMSNorm"):
        axes = getattr(module, "reduction_axes", -1)
        axes = tuple(axes) if isinstance(axes, list | tuple) else (axes,)
        return own | {"norm": "layer" if kind == "LayerNorm" else "rms", "axes": axes}
    if kind == "InstanceNorm":
        size = next((int(np.size(a)) for a in (getattr(module, "scale", None), getattr(module, "bias", None))
                     if a is not None and np.ndim(a)), getattr(module, "num_features", 0))  # fmt: skip
        return own | ({"norm": "group", "groups": size} if size else {})
    groups = module.num_groups
    if not groups and module.group_size:
        groups = getattr(module, "num_features", 0) // module.group_size
    return own | ({"norm": "group", "groups": int(groups)} if groups else {})


def parameters(model: Any) -> dict[str, tuple[int, ...]]:
    """The shapes of all parameters, by the path of their module and a part's name for them."""
    found: dict[str, tuple[int, ...]] = {}
    for path, module in nnx.iter_modules(model):
        names = {theirs: ours for ours, theirs in NORMS.items()} if isinstance(module, _NORMS) else {}
        where = "/".join(map(str, path))
        own = {name: value for name, value in vars(module).items() if isinstance(value, nnx.Param)}
        found |= {f"{where}/{names.get(name, name)}": tuple(np.shape(value.get_value()))
                  for name, value in own.items() if value.get_value() is not None}  # fmt: skip
    return found


def linear(kernel: Array, bias: Array | None) -> dict[str, Array]:
    """The arrays of a linear layer, from Flax's."""
    return {"kernel": np.ascontiguousarray(kernel.T)} | ({} if bias is None else {"bias": bias})


def has(module: Any, name: str) -> bool:
    variable = getattr(module, name, None)
    return variable is not None and variable.get_value() is not None


def values(module: Any, name: str) -> Array:
    return read.array(getattr(module, name).get_value())


def trace_model(model: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> ModelTrace:
    """Run a copy of the model once in evaluation mode; compiled functions in it are run uncompiled."""
    calls: list[Call] = []
    copy = nnx.merge(*nnx.split(model))
    copy.eval()
    for path, module in nnx.iter_modules(copy):
        if isinstance(module, _KINDS):
            module.__class__ = _watched(type(module), "/".join(map(str, path)), calls)
    dtype = str(next((leaf.dtype for leaf in jax.tree.leaves(nnx.state(copy, nnx.Param))), "float32"))
    return ModelTrace(calls, ran(copy, inputs, dtype, calls))


def ran(call: Any, inputs: Sequence[Array] | Mapping[str, Array], dtype: str, calls: list[Call]) -> list[Array]:
    """Return the results of a call on these inputs, uncompiled where compilation hides the values for ``calls``."""

    def tensor(x: Array) -> Any:
        return read.tensor(x, dtype if x.dtype.kind == "f" else str(x.dtype))

    def run() -> Any:
        if isinstance(inputs, Mapping):
            return call(**{name: tensor(x) for name, x in inputs.items()})
        return call(*map(tensor, inputs))

    with refuse_inputs("Flax model"):
        try:
            y = run()
        except jax.errors.TracerArrayConversionError:  # a function in it is compiled
            calls.clear()
            with jax.disable_jit():
                y = run()
    return [read.array(leaf) for leaf in jax.tree.leaves(y)]


def _watched(kind: type, path: str, calls: list[Call]) -> type:
    """Return a subclass for one layer that records its calls."""

    def listen(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        y = kind.__call__(self, x, *args, **kwargs)
        calls.append(Call(path, read.array(x), read.array(y)))
        return y

    return type(kind.__name__, (kind,), {"__call__": listen})


def write(model: Any, arrays: Mapping[str, Mapping[str, Array]]) -> Any:
    """Set the model's own variables; returns the model."""
    modules = {"/".join(map(str, path)): module for path, module in nnx.iter_modules(model)}
    for path, own in arrays.items():
        module = modules.get(path)
        for name, new in own.items():
            variable = getattr(module, NORMS.get(name, name) if isinstance(module, _NORMS) else name, None)
            if not isinstance(variable, nnx.Variable):
                raise UnsupportedError(f"{path} has no variable {name}")
            old = variable.get_value()
            new = new if isinstance(module, _NORMS) else native(module, name, new)  # noqa: PLW2901
            variable.set_value(read.tensor(new, str(old.dtype)).reshape(old.shape))
    return model


def native(module: Any, name: str, new: Array) -> Array:
    """An array in Flax's order: of a convolution of nnx or linen, or of a linear layer."""
    if name != "kernel":
        return new
    if new.ndim == 2:
        return np.ascontiguousarray(new.T)
    if not hasattr(module, "kernel_dilation"):
        raise UnsupportedError(f"a kernel of shape {new.shape} of {type(module).__name__} is in no known order")
    if hasattr(module, "transpose_kernel"):
        kernel = to_flax(new, transposed=True, groups=1)
        return kernel if module.transpose_kernel else read._turned(kernel)
    transposed, groups = dilates_input(vars(module)), module.feature_group_count
    kernel = to_flax(new, transposed=transposed, groups=groups)
    # A Conv of a dilated input is a transposed layer whose kernel is flipped; with groups, to_flax does that.
    return read._turned(kernel) if transposed and groups == 1 else kernel


def save(model: Any, path: str | os.PathLike[str]) -> None:
    """The model's state as Flax's own msgpack."""
    state = nnx.to_pure_dict(nnx.state(model))
    with open(path, "wb") as file:  # noqa: PTH123 – any kind of path
        file.write(serialization.to_bytes(jax.tree.map(np.asarray, state)))
