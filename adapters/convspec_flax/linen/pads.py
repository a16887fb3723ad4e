"""Find the pads before the convolutions of linen models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
from flax import linen as nn

from convspec.contract.tracing import Pad
from convspec.errors import UnsupportedError
from convspec_flax.linen import read
from convspec_flax.pads import mark, trace_pads


def before(model: Any, input_shape: Sequence[int] | None) -> dict[str, list[Pad | str]]:
    """Return the pads before each convolution by its path, the nearest first, in a call on an input of that shape.

    Raises:
        UnsupportedError: without a shape: Flax's pads are calls, not layers.
    """
    module, variables = read._parted(model)
    if input_shape is None:
        raise UnsupportedError("pads are calls in Flax, which only a run shows: pass input_shape, the input's shape")

    def intercept(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        inner = context.module
        if context.method_name != "__call__" or not isinstance(inner, read._KINDS):
            return call(*args, **kwargs)
        x, *rest = args or (kwargs.pop("inputs"),)
        return mark("/".join(inner.path), lambda x: call(x, *rest, **kwargs))(x)

    def apply(x: Any) -> Any:
        with nn.intercept_methods(intercept):
            return module.apply(variables, x)

    return trace_pads(apply, jax.ShapeDtypeStruct(tuple(input_shape), read._dtype(variables)))
