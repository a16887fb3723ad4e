"""Pads right before the convolutions of Flax models: found in the program that JAX traces of a call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.extend import core

from convspec.contract import layouts, refuse_shape
from convspec.contract.tracing import VARIES, Pad, described, pads_of
from convspec.errors import UnsupportedError
from convspec_flax import read

MARK = "convspec:"
_MOVES = {"pad", "slice", "rev", "concatenate", "convert_element_type", "broadcast_in_dim", "jit", "pjit", "copy",
          "reshape"}  # fmt: skip
_WORDS: dict[str, Any] = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}  # NumPy's


def before(model: Any, input_shape: Sequence[int] | None) -> dict[str, list[Pad | str]]:
    """By the path of each convolution, the pads before it, the nearest first, in a call on an input of that shape."""
    copy = nnx.merge(*nnx.split(model))
    copy.eval()
    for path, module in nnx.iter_modules(copy):
        if read._is_convolution(module):
            module.__class__ = _marked(type(module), "/".join(map(str, path)))
    dtype = next((leaf.dtype for leaf in jax.tree.leaves(nnx.state(copy, nnx.Param))), jnp.float32)
    return trace_pads(copy, input_shape, dtype)


def _marked(kind: type, path: str) -> type:
    def call(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        return mark(path, lambda x: kind.__call__(self, x, *args, **kwargs))(x)

    return type(kind.__name__, (kind,), {"__call__": call})


def mark(path: str, call: Any) -> Any:
    """The call of a convolution as one equation of that name in a traced program."""
    call.__name__ = f"{MARK}{path}"
    return jax.jit(call)


def trace_pads(call: Any, input_shape: Sequence[int] | None, dtype: Any) -> dict[str, list[Pad | str]]:
    """The pads before each marked call that the traced program has.

    Raises:
        UnsupportedError: without a shape, as Flax's pads are calls, not layers; where the input is not accepted.
    """
    if input_shape is None:
        raise UnsupportedError("pads are calls in Flax, which only a run shows: pass input_shape, the input's shape")
    with refuse_shape(input_shape):
        program = jax.make_jaxpr(call)(jax.ShapeDtypeStruct(tuple(input_shape), dtype))
    found: dict[str, list[Pad | str]] = {}
    for path, pads in _calls(program.jaxpr):
        if found.setdefault(path, pads) != pads:
            found[path] = [VARIES]
    return found


def _calls(program: Any) -> Iterator[tuple[str, list[Pad | str]]]:
    makers = {id(variable): equation for equation in program.eqns for variable in equation.outvars}
    for equation in program.eqns:
        name = str(equation.params.get("name", ""))
        if name.startswith(MARK):
            yield name.removeprefix(MARK), list(_chain(equation.invars, makers))
            continue
        for inner in core.jaxprs_in_params(equation.params):
            yield from _calls(inner)


def _chain(given: Sequence[Any], makers: dict[int, Any]) -> Iterator[Pad | str]:
    """The pads that made the last of these variables: the convolution's input, which its weights come before."""
    while (maker := makers.get(id(given[-1]))) is not None and _pads(maker):
        arrays = [v for v in maker.invars if not isinstance(v, core.Literal) and v.aval.ndim]
        if len({id(v) for v in arrays}) != 1:
            return
        pad = _of(maker, arrays[0])
        if pad is None:
            return
        yield pad
        given = arrays


def _pads(equation: Any) -> bool:
    """Return whether the function only moves and joins elements."""
    names = set(_primitives(equation))
    whole = equation.primitive.name == "pad" or "jaxpr" in equation.params
    return whole and names <= _MOVES and not names.isdisjoint({"pad", "concatenate"})


def _primitives(equation: Any) -> Iterator[str]:
    yield equation.primitive.name
    for inner in core.jaxprs_in_params(equation.params):
        for one in inner.eqns:
            yield from _primitives(one)


def _of(equation: Any, x: Any) -> Pad | str | None:
    """Return the pad of an equation that only moves elements, from their origins; None where it pads nothing."""
    shape, made = x.aval.shape, equation.outvars[0].aval.shape
    if len(shape) != len(made) or len(shape) < 3 or shape == made:
        return None
    if any(new < old for old, new in zip(shape, made, strict=True)):
        return "it crops"
    if not all(isinstance(v, core.Literal) or v is x for v in equation.invars):
        return "what it puts around the cells is computed"
    wide = np.arange(1.0, np.prod(shape) + 1, dtype=np.float32).reshape(shape)
    padded = _ran(equation, x, wide)
    readings = [_readings(equation, x, axis) for axis in range(len(shape))]
    for mode, word in _WORDS.items():
        pairs = [next(((lo, hi) for name, lo, hi in axis if name == mode or not lo + hi), None) for axis in readings]
        found = [pair for pair in pairs if pair is not None]
        if len(found) < len(pairs):
            continue
        if np.array_equal(np.pad(wide, found, word), padded) and np.array_equal(_ran(equation, x, -wide), -padded):
            return described(mode, found, layout=layouts.CHANNELS_LAST)
    return "it is no padding of a spec"


def _readings(equation: Any, x: Any, axis: int) -> list[tuple[str, int, int]]:
    """Every (mode, before, after) that an axis may have been padded by."""
    shape = x.aval.shape
    codes = np.arange(1, shape[axis] + 1).reshape([-1 if a == axis else 1 for a in range(len(shape))])
    places = _ran(equation, x, np.broadcast_to(codes, shape)).astype(np.intp)
    somewhere = np.unravel_index(int(np.argmax(places)), places.shape)
    line: Any = tuple(slice(None) if a == axis else place for a, place in enumerate(somewhere))
    return list(pads_of(places[line] - 1, shape[axis]))


def _ran(equation: Any, x: Any, values: Any) -> Any:
    """The equation's result where ``x`` has these values."""
    given = [v.val if isinstance(v, core.Literal) else jnp.asarray(values, x.aval.dtype) for v in equation.invars]
    if equation.primitive.name == "pad":
        result = jax.lax.pad(*given, equation.params["padding_config"])
    else:
        (result,) = core.jaxpr_as_fun(equation.params["jaxpr"])(*given)
    return np.asarray(result, np.float32)
