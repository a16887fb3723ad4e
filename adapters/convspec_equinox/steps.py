"""The layers of Equinox as steps, and the trace of a model, which takes the samples of a batch one by one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial, wraps
from math import prod
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from convspec_jax.steps import Layer, Meaning, call_layer, in_module, trace_function

from convspec.contract import Array, StepTrace, refuse_inputs
from convspec.contract.network_words import Arguments, Tensor
from convspec.contract.tracing import NoWord
from convspec.errors import UnsupportedError
from convspec.spec import steps
from convspec_equinox import read
from convspec_equinox.network import VOCABULARY

_NORM = {"scale": "weight", "bias": "bias"}
KINDS: dict[type, Mapping[str, str]] = {  # the layers that are one step, with Equinox's names of their arrays
    eqx.nn.Conv: {"kernel": "weight", "bias": "bias"},
    eqx.nn.ConvTranspose: {"kernel": "weight", "bias": "bias"},
    eqx.nn.Linear: {"weight": "weight", "bias": "bias"},
    eqx.nn.Embedding: {"weight": "weight"},
    eqx.nn.BatchNorm: _NORM,
    eqx.nn.LayerNorm: _NORM,
    eqx.nn.GroupNorm: _NORM,
    eqx.nn.RMSNorm: _NORM,
    eqx.nn.PReLU: {"slope": "negative_slope"},
    eqx.nn.Pool: {},
    eqx.nn.AdaptivePool: {},
    eqx.nn.Dropout: {},
}
_FIRST = "NCHW"


def split(model: Any) -> tuple[Any, Any]:
    """Return a model in inference mode, and its state: None if it has none.

    Raises:
        UnsupportedError: if it is no module of Equinox.
    """
    module, state = model if isinstance(model, tuple) and len(model) == 2 else (model, None)
    if not isinstance(module, eqx.Module):
        raise UnsupportedError(f"{type(module).__name__} is not a module of Equinox")
    return copied(module, _infer), state


def _infer(old: Any, new: Any, _: str) -> None:
    """Set a layer to inference; ``eqx.nn.inference_mode`` makes two layers of one that a model has twice."""
    if hasattr(old, "inference"):
        object.__setattr__(new, "inference", True)


def call_sample(module: Any, state: Any, given: Sequence[Any], names: Sequence[str] = ()) -> Any:
    """Return the result of a module for one sample, without the state; a key that it wants is a fixed one."""
    args, words = ((), dict(zip(names, given, strict=True))) if names else (given, {})
    wanted = inspect.signature(module).parameters
    if state is not None:
        words["state"] = state
    if "key" in wanted and wanted["key"].default is inspect.Parameter.empty:
        words["key"] = jax.random.key(0)
    y = module(*args, **words)
    if state is None:
        return y
    return y[0] if isinstance(y, tuple) and len(y) == 2 and isinstance(y[1], eqx.nn.State) else y


def tensors(module: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> tuple[list[Any], list[str]]:
    """Return inputs as arrays of JAX in the dtype of the weights, and their names if they have some."""
    dtype = next((a.dtype for a in jax.tree.leaves(eqx.filter(module, eqx.is_inexact_array))), np.float32)
    given = list(inputs.values()) if isinstance(inputs, Mapping) else inputs
    names = list(inputs) if isinstance(inputs, Mapping) else []
    return [jnp.asarray(x, dtype if x.dtype.kind == "f" else x.dtype) for x in given], names


def trace_steps(model: Any, inputs: Sequence[Array] | Mapping[str, Array]) -> StepTrace:
    """Run the model once in inference mode on a batch, and list its steps; a model with state is a pair."""
    module, state = split(model)
    seen = copied(module, lambda _, new, path: object.__setattr__(new, "convspec_path", path), _watched)
    given, names = tensors(module, inputs)
    arrays, rest = eqx.partition((seen, state), eqx.is_inexact_array)
    known = statistics(module, state)
    parameters = {known.get(id(leaf), path_of(path[1:])): leaf for path, leaf in
                  jax.tree_util.tree_leaves_with_path(arrays)}  # fmt: skip
    tree = jax.tree.structure(arrays)

    def call(leaves: Sequence[Any], samples: Sequence[Any]) -> list[Any]:
        own, stored = eqx.combine(jax.tree.unflatten(tree, leaves), rest)
        return list(filter(eqx.is_array, jax.tree.leaves(call_sample(own, stored, samples, names))))

    with refuse_inputs("Equinox model"):
        return trace_function(call, parameters, given, joint=".", layout=_FIRST, samples=True)


def statistics(module: Any, state: Any) -> dict[int, str]:
    """Return the paths of the arrays of a state that batch norms own, by identity."""
    norms = modules(module, eqx.nn.BatchNorm) if state is not None else {}
    kept = {path: state.get(norm.ema_state_index or norm.batch_state_index) for path, norm in norms.items()}
    names = ("mean", "variance")
    return {id(a): f"{path}.{name}" for path, own in kept.items() for a, name in zip(own, names, strict=True)}


def modules(model: Any, kinds: Any) -> dict[str, Any]:
    """Return the layers of these kinds by path, each once."""
    found: dict[int, tuple[str, Any]] = {}
    for path, node in jax.tree_util.tree_leaves_with_path(model, is_leaf=lambda node: isinstance(node, kinds)):
        if isinstance(node, kinds):
            found.setdefault(id(node), (path_of(path), node))
    return dict(found.values())


def path_of(keys: Any) -> str:
    """Return a path as Python writes it: ``blocks[0].conv``."""
    return str(jax.tree_util.keystr(keys)).lstrip(".")


def stored(norm: Any, state: Any) -> tuple[Any, Any]:
    """Return the mean and the variance that a batch norm has stored."""
    if norm.mode == "ema":
        mean, variance = state.get(norm.ema_state_index)
        return mean, variance
    counter, (mean, variance) = state.get(norm.batch_counter), state.get(norm.batch_state_index)
    scale = jnp.where(counter == 0, 1, 1 - norm.momentum**counter)
    return mean / scale, variance / scale


def copied(node: Any, change: Callable[[Any, Any, str], None], kind: Callable[[type], type] = lambda kind: kind) -> Any:
    """Return a copy of a model; ``change(old, new, path)`` sets fields of each new module, of class ``kind``."""
    known: dict[int, Any] = {}

    def copy(node: Any, path: str) -> Any:
        if isinstance(node, eqx.Module) and not isinstance(node, eqx.nn.State | eqx.nn.StateIndex):
            if id(node) not in known:
                new: Any = object.__new__(kind(type(node)))
                known[id(node)] = new
                for name, value in vars(node).items():
                    object.__setattr__(new, name, copy(value, f"{path}.{name}".lstrip(".")))
                change(node, new, path)
            return known[id(node)]
        if type(node) in (list, tuple):
            return type(node)(copy(value, f"{path}[{i}]") for i, value in enumerate(node))
        return {key: copy(value, f"{path}[{key!r}]") for key, value in node.items()} if type(node) is dict else node

    return copy(node, "")


# -- calls -------------------------------------------------------------------------------------------------------------


@lru_cache(1024)
def _watched(kind: Any) -> Any:
    """Return a subclass whose calls are seen; its path is a static field, which transforms keep."""
    if "__call__" not in dir(kind):
        return kind

    @wraps(kind.__call__)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return _called(self, kind, partial(kind.__call__, self), args, kwargs)

    body = {"__annotations__": {"convspec_path": str}, "convspec_path": eqx.field(static=True, default=""),
            "__call__": call, "__module__": kind.__module__}  # fmt: skip
    return type(kind)(kind.__name__, (kind,), body)


def _called(module: Any, kind: type, call: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    base = next((known for known in KINDS if issubclass(kind, known)), None)
    state = kwargs.get("state", args[1] if len(args) > 1 else None)
    known = base is not None and (kind.__call__ is base.__call__ or kind.__module__.startswith("equinox."))
    if base is None or not known or not args or _trains(module, base, kwargs):
        return in_module(module.convspec_path, kind.__name__, call)(*args, **kwargs)
    own = {ours: getattr(module, theirs, None) for ours, theirs in KINDS[base].items()}
    if base is eqx.nn.BatchNorm:
        own |= zip(("mean", "variance"), stored(module, state), strict=True)
    found = {name: array for name, array in own.items() if array is not None}
    layer = Layer(module.convspec_path, kind.__name__, tuple(found), partial(_meaning, module, base))
    y = call_layer(layer, tuple(found.values()), lambda x: _first(call(x, *args[1:], **kwargs)), args[0])
    return y if state is None else (y, state)


def _first(y: Any) -> Any:
    return y[0] if isinstance(y, tuple) else y


def _trains(module: Any, base: type, kwargs: Mapping[str, Any]) -> bool:
    inference = kwargs.get("inference")
    own = base in (eqx.nn.BatchNorm, eqx.nn.Dropout)
    return own and not (module.inference if inference is None else inference)


# -- layers ------------------------------------------------------------------------------------------------------------


def _meaning(module: Any, kind: type, arrays: Mapping[str, Array], shape: tuple[int, ...]) -> Meaning:
    """Return a layer of this kind as a step."""
    if kind in (eqx.nn.Conv, eqx.nn.ConvTranspose):
        found = read.reading(module, kind, arrays["kernel"], arrays.get("bias"))
        bias = {} if found.params.bias is None else {"bias": found.params.bias}
        return Meaning(found.spec, {"kernel": found.params.kernel, **bias}, _FIRST, found.spec.ndim + 2)
    if kind is eqx.nn.Linear:
        if "scalar" in (module.in_features, module.out_features):
            raise NoWord("from or to a scalar")
        return Meaning(steps.Linear(module.in_features, module.out_features, "bias" in arrays), arrays)
    if kind is eqx.nn.Embedding:
        return Meaning(steps.Embedding(*arrays["weight"].shape), arrays)
    if kind is eqx.nn.PReLU:
        slope = arrays["slope"]
        if slope.ndim and slope.ndim != len(shape) - 1:
            raise NoWord("its slopes belong to the last axes")
        return Meaning(
            steps.PReLU(slope.shape or (1,)), {"slope": slope.reshape(steps.PReLU(slope.shape or (1,)).shape)}, _FIRST
        )
    if kind is eqx.nn.Dropout:
        return Meaning(steps.Dropout(float(module.p)))
    return _pool(module, kind) if kind in (eqx.nn.Pool, eqx.nn.AdaptivePool) else _norm(module, kind, arrays, shape)


def _norm(module: Any, kind: type, arrays: Mapping[str, Array], shape: tuple[int, ...]) -> Meaning:
    """Return a norm as what its word in Equinox's vocabulary means for its fields and a sample of this shape."""
    word = VOCABULARY.layers[kind.__name__]
    step: Any = word.means(Arguments(vars(module), (Tensor(0, shape[1:]),)))
    return Meaning(step, arrays, word.layout)


def _pool(module: Any, kind: type) -> Meaning:
    if kind is eqx.nn.AdaptivePool:
        reductions = {jnp.mean: "average", jnp.max: "max"}
        if module.operation not in reductions:
            raise NoWord("of another operation than the mean or the maximum")
        step: Any = steps.AdaptivePool(module.target_shape, reductions[module.operation], "disjoint")
        return Meaning(step, layout=_FIRST, ndim=len(module.target_shape) + 2)
    own = (module.kernel_size, module.stride, module.padding)
    name = next((c.__name__ for c in type(module).__mro__ if c.__module__.startswith("equinox.")), "")
    if name.startswith("Max"):
        step = steps.MaxPool(*own, ceil_mode=module.use_ceil)
    elif name.startswith("Avg"):
        step = steps.AveragePool(*own, ceil_mode=module.use_ceil, divisor=prod(module.kernel_size))
    else:
        raise NoWord("of another operation than the mean or the maximum")
    return Meaning(step, layout=_FIRST, ndim=module.num_spatial_dims + 2)
