"""Find the pads before the convolutions of linen models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from convspec.contract.tracing import Pad
from convspec_flax.linen import read
from convspec_flax.pads import mark, trace_pads


def before(model: Any, input_shape: Sequence[int] | None) -> dict[str, list[Pad | str]]:
    """Return the pads before each convolution by its path, the nearest first, in a call on an input of that shape."""
    module, variables = read._parted(model)

    def marked(inner: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        x, *rest = args or (kwargs.pop("inputs"),)
        return mark("/".join(inner.path), lambda x: call(x, *rest, **kwargs))(x)

    def apply(x: Any) -> Any:
        with read.replaced(read._KINDS, marked):
            return module.apply(variables, x)

    return trace_pads(apply, input_shape, read._dtype(variables))
