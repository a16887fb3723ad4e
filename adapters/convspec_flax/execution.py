"""Shared by nnx and linen at run time: weights on a device, compiled calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from convspec_jax import execution
from convspec_jax.execution import feed, fetch

from convspec.contract import CHANNELS_LAST, Array, ConvParams, Gradients, Plan, check_layout, family
from convspec.errors import ShapeError
from convspec_flax.weights import from_flax, to_flax


def place(plan: Plan, params: ConvParams, device: str) -> dict[str, Any]:
    """Return kernel, and bias where there is one, in Flax's order and dtype on the device."""
    arrays = {"kernel": to_flax(params.kernel, transposed=plan.spec.transposed, groups=plan.spec.groups)}
    if params.bias is not None:
        arrays["bias"] = params.bias
    return execution.place(arrays, plan.dtype, device)


class Calls:
    """Forward and backward pass, compiled once per structure of layer and shape of input.

    ``call(structure, state, x)`` is the output of a layer whose structure and state are ``split(layer)``. The structure
    is hashable, and equal for layers that differ in their weights only, so that new weights cost no compilation.
    ``inner(layer)`` returns the convolution that the layer is, or has, with its kernel; ``leaves(of_state)`` the
    gradients with respect to a state by name.

    Compiled as a whole, since that is cheapest even for a single call: for 24 small 2-D layers on one core 43 ms
    cold (86 ms with the transposes of a channels-first layer) against 104 ms (238 ms) for one operation at a time;
    0.4 ms against 1.1–1.8 ms warm. Building costs 10 ms the first time, 1 ms with other weights.
    """

    def __init__(
        self,
        call: Callable[[Any, Any, Any], Any],
        split: Callable[[Any], tuple[Any, Any]],
        inner: Callable[[Any], tuple[Any, Any]],
        leaves: Callable[[Any], Mapping[str, Any]],
    ) -> None:
        def pullback(structure: Any, state: Any, x: Any, dy: Any) -> Any:
            return jax.vjp(lambda s, v: call(structure, s, v), state, x)[1](dy)

        self._forward = jax.jit(call, static_argnums=0)
        self._pullback = jax.jit(pullback, static_argnums=0)
        self._split, self._inner, self._leaves = split, inner, leaves

    def apply(self, layer: Any, x: Array, layout: str, device: str) -> Array:
        """The layer's output, in the layout of ``x``."""
        conv = self._conv(layer, x, layout)
        y = self._forward(*self._split(layer), feed(x, conv.kernel, device))
        return fetch(y, conv.kernel, device)

    def gradients(self, layer: Any, x: Array, dy: Array, layout: str, device: str) -> Gradients:
        """Gradients of ⟨layer(x), dy⟩, in canonical order."""
        conv = self._conv(layer, x, layout)
        inputs, cotangent = (feed(array, conv.kernel, device) for array in (x, dy))
        of_state, of_input = self._pullback(*self._split(layer), inputs, cotangent)
        leaves = self._leaves(of_state)
        kernel = np.ascontiguousarray(conv.canonical(fetch(leaves["kernel"], conv.kernel, device)))
        bias = None if leaves.get("bias") is None else fetch(leaves["bias"], conv.kernel, device)
        return Gradients(fetch(of_input, conv.kernel, device), kernel, bias)

    def _conv(self, layer: Any, x: Array, layout: str) -> Conv:
        """The layer's convolution; raises ShapeError for another input, a plain one takes channels-last ones only."""
        module, kernel = self._inner(layer)
        if module is layer and family(layout, kernel.ndim - 2) != CHANNELS_LAST:
            raise ShapeError(
                f"layout {layout!r}: a plain Flax convolution takes channels-last tensors only; "
                f"transpose the input, or build the layer with layout={layout!r}"
            )
        conv = Conv(module, kernel)
        check_layout(x, conv.in_channels, layout, conv.ndim)
        return conv


class Conv:
    """A Flax convolution: its module with the kernel's value, of nnx or linen alike.

    A ``Conv`` whose ``input_dilation`` is given is a transposed layer with groups.
    """

    def __init__(self, module: Any, kernel: Any) -> None:
        self.kernel = kernel
        self.groups = getattr(module, "feature_group_count", 1)
        self.plain = not hasattr(module, "feature_group_count")
        self.transposed = self.plain or module.input_dilation not in (None, 1)
        self.swapped = self.plain and module.transpose_kernel
        self.ndim = kernel.ndim - 2

    @property
    def in_channels(self) -> int:
        """Channels of the input."""
        return int(self.kernel.shape[-1 if self.swapped else -2]) * int(self.groups)

    def canonical(self, kernel: Array) -> Array:
        """A kernel, or its gradient, in the canonical order."""
        if self.plain and not self.swapped:  # Flax's own default: as stored, a flipped kernel of (*kernel, I, O)
            kernel = np.flip(kernel, tuple(range(self.ndim))).swapaxes(-1, -2)
        return from_flax(kernel, transposed=self.transposed, groups=self.groups)
