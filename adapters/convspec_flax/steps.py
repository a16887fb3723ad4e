"""The layers of ``flax.nnx`` and ``flax.linen`` as steps, and the trace of a model of nnx."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import numpy as np
from convspec_jax.steps import Layer, Meaning, call_layer, in_module, trace_function
from flax import nnx

from convspec.contract import Array, ConvParams, StepTrace, refuse_inputs
from convspec.contract.tracing import NoWord
from convspec.spec import steps
from convspec_flax import read

KINDS = (nnx.Conv, nnx.ConvTranspose, nnx.Linear, nnx.BatchNorm, nnx.LayerNorm, nnx.GroupNorm, nnx.InstanceNorm,
         nnx.RMSNorm, nnx.Dropout, nnx.Embed, nnx.PReLU)  # fmt: skip
_NORM = {"scale": "scale", "bias": "bias", "mean": "mean", "variance": "var"}
_NAMES: dict[str, Mapping[str, str]] = {  # Flax's names of the arrays of a layer, by the step's
    "Linear": {"weight": "kernel", "bias": "bias"},
    "Dense": {"weight": "kernel", "bias": "bias"},
    "Conv": {"kernel": "kernel", "bias": "bias", "mask": "mask"},
    "ConvTranspose": {"kernel": "kernel", "bias": "bias", "mask": "mask"},
    "Embed": {"weight": "embedding"},
    "PReLU": {"slope": "negative_slope"},
}
_SWITCHES = {"BatchNorm": "use_running_average", "Dropout": "deterministic"}
_LAST = "NHWC"


def called(
    module: Any, kinds: tuple[type, ...], kind: type, path: str, arrays: Mapping[str, Any],
    call: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any],
) -> Any:  # fmt: skip
    """Call a module of nnx or linen: one of the known kinds as a layer, others with their operations marked.

    Args:
        kind: its class; ``path``: its position.
        arrays: its own arrays by Flax's names.
        call: the module's method.
    """
    base = next((known for known in kinds if issubclass(kind, known)), None)
    words = {name: value for name, value in kwargs.items() if value is not None}
    own_convolution = getattr(module, "conv_general_dilated", None) not in (None, jax.lax.conv_general_dilated)
    if base is None or kind.__call__ is not base.__call__ or own_convolution:
        return in_module(path, kind.__name__, call)(*args, **kwargs)
    switch = _SWITCHES.get(base.__name__, "")
    x = args[0] if args else words.pop("inputs", words.pop("x", None))
    if len(args) == 2:
        words[switch] = args[1]
    if len(args) > 2 or set(words) - {switch} or not isinstance(x, jax.Array):
        return in_module(path, kind.__name__, call)(*args, **kwargs)
    own = _NAMES.get(base.__name__, _NORM)
    mask = getattr(module, "mask", None)
    known = {**arrays, "mask": getattr(mask, "value", mask)}
    found = {ours: known[theirs] for ours, theirs in own.items() if known.get(theirs) is not None}
    setting = words.get(switch, getattr(module, switch, None)) if switch else None
    layer = Layer(path, kind.__name__, tuple(found), partial(_meaning, module, base.__name__, setting))
    return call_layer(layer, tuple(found.values()), lambda x: call(x, **words), x)


def _meaning(module: Any, kind: str, setting: Any, arrays: Mapping[str, Array], shape: tuple[int, ...]) -> Meaning:
    """Return a layer of this kind as a step."""
    if kind in ("Conv", "ConvTranspose"):
        found = read.reading(module, arrays["kernel"], arrays.get("bias"), arrays.get("mask"))
        return Meaning(found.spec, _weights(found.params), _LAST, found.spec.ndim + 2)
    if kind in ("Linear", "Dense"):
        weight = np.ascontiguousarray(arrays["weight"].T)
        return Meaning(steps.Linear(weight.shape[1], weight.shape[0], "bias" in arrays), {**arrays, "weight": weight})
    if kind == "Embed":
        return Meaning(steps.Embedding(*arrays["weight"].shape), arrays)
    if kind == "PReLU":
        return Meaning(steps.PReLU(), {"slope": arrays["slope"].reshape(1)})
    if kind == "Dropout":
        note = "zeros shared along axes" if module.broadcast_dims else ""
        return Meaning(steps.Dropout(float(module.rate), training=not setting and module.rate > 0), note=note)
    return _norm(module, kind, bool(setting), arrays, shape)


def _weights(params: ConvParams) -> dict[str, Array]:
    return {"kernel": params.kernel} | ({} if params.bias is None else {"bias": params.bias})


def _norm(module: Any, kind: str, stored: bool, arrays: Mapping[str, Array], shape: tuple[int, ...]) -> Meaning:
    words: dict[str, Any] = {"epsilon": float(module.epsilon), "fast_variance": bool(module.use_fast_variance),
                             "scale": "scale" in arrays, "bias": "bias" in arrays}  # fmt: skip
    if kind in ("LayerNorm", "RMSNorm"):
        axes, own = (_axes(a) for a in (module.reduction_axes, module.feature_axes))
        step = steps.LayerNorm if kind == "LayerNorm" else steps.RMSNorm
        return Meaning(step([shape[axis] for axis in own], axes, own, **words), arrays)
    if kind == "GroupNorm":
        if module.reduction_axes is not None:
            raise NoWord(f"over axes {module.reduction_axes}")
        groups = module.num_groups or shape[-1] // module.group_size
        return Meaning(steps.GroupNorm(shape[-1], groups, axis=-1, **words), arrays)
    (axis,) = _axes(module.axis if kind == "BatchNorm" else module.feature_axes)
    if kind == "InstanceNorm":
        return Meaning(steps.InstanceNorm(shape[axis], axis=axis, **words), arrays)
    if not stored:
        arrays = {name: array for name, array in arrays.items() if name in ("scale", "bias")}
    return Meaning(steps.BatchNorm(shape[axis], axis=axis, batch_statistics=not stored, **words), arrays)


def _axes(axes: Any) -> tuple[int, ...]:
    return tuple(axes) if isinstance(axes, Sequence) else (int(axes),)


# -- nnx ---------------------------------------------------------------------------------------------------------------


def trace_steps(model: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> StepTrace:
    """Run a copy of the model once in evaluation mode, and list its steps."""
    read._check(model)
    copy = nnx.merge(*nnx.split(model))
    copy.eval()
    for path, module in list(nnx.iter_modules(copy)):
        module._convspec_path = "/".join(map(str, path))
        kind: Any = type(module)
        module.__class__ = _watched(kind)
    graph, state, rest = nnx.split(copy, nnx.Any(nnx.Param, nnx.BatchStat), ...)
    variables = nnx.to_flat_state(state)
    parameters = {"/".join(map(str, path)): variable.get_value() for path, variable in variables}
    names = list(inputs) if isinstance(inputs, Mapping) else []
    tree = jax.tree.structure(state)

    def call(leaves: Sequence[Any], given: Sequence[Any]) -> Any:
        whole = nnx.merge(graph, jax.tree.unflatten(tree, leaves), rest)
        args, words = ((), dict(zip(names, given, strict=True))) if names else (given, {})
        return jax.tree.leaves(whole(*args, **words))

    dtype = next((a.dtype for a in parameters.values() if np.issubdtype(a.dtype, np.inexact)), "float32")
    return traced(call, parameters, inputs, str(dtype))


def traced(call: Any, parameters: Mapping[str, Any], inputs: Any, dtype: str) -> StepTrace:
    """Return the trace of a function of arrays and inputs; floating-point inputs get this dtype."""
    given = list(inputs.values()) if isinstance(inputs, Mapping) else inputs
    tensors = [read.tensor(x, dtype if x.dtype.kind == "f" else str(x.dtype)) for x in given]
    with refuse_inputs("Flax model"):
        return trace_function(call, parameters, tensors, joint="/", layout=_LAST)


@lru_cache(1024)
def _watched(kind: Any) -> Any:
    """Return a subclass whose calls are seen; it computes the same."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        arrays = {name: v.get_value() for name, v in vars(self).items() if isinstance(v, nnx.Variable)}
        return called(self, KINDS, kind, self._convspec_path, arrays, partial(run, self), args, kwargs)

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        switch = next((name for known, name in _SWITCHES.items() if issubclass(kind, getattr(nnx, known))), "")
        if switch and not kwargs.get(switch, getattr(self, switch)):
            graph, state = nnx.split(self)  # what changes – statistics, random streams – changes within the call alone
            self = nnx.merge(graph, jax.tree.map(lambda leaf: leaf, state))
        return kind.__call__(self, *args, **kwargs)

    return type(kind.__name__, (kind,), {"__call__": call})
