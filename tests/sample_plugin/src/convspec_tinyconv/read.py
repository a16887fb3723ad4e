"""Read any layer of tinyconv as a spec and weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tinyconv

from convspec.contract import ConvParams, ConvSpec, FoundConv, Reading
from convspec.errors import UnsupportedError
from convspec_tinyconv.weights import to_canonical


def read(layer: Any, input_shape: Sequence[int] | None = None) -> Reading:
    """Return the spec and the weights of a layer, from its attributes."""
    if not isinstance(layer, tinyconv.Conv):
        raise UnsupportedError(f"{type(layer).__name__} is not a convolution of tinyconv")
    spec = ConvSpec(
        layer.in_channels,
        layer.filters,
        layer.kernel_size,
        stride=layer.stride,
        padding=[(p, p) for p in layer.padding],
        dilation=layer.dilation,
        groups=layer.groups,
        bias=layer.bias is not None,
    )
    return Reading(spec, ConvParams(to_canonical(layer.kernel), layer.bias), "NHWC")


def convs(model: Any, input_shape: Sequence[int] | None = None) -> list[FoundConv]:
    """Return every convolution of a layer or a Sequential, with its path."""
    layers = model.layers if isinstance(model, tinyconv.Sequential) else [model]
    found = [FoundConv(f"layers.{i}", read(x)) for i, x in enumerate(layers) if isinstance(x, tinyconv.Conv)]
    if not found:
        names = ", ".join(type(layer).__name__ for layer in layers) or "none"
        raise UnsupportedError(f"the model has no convolutions; its layers: {names}")
    return found
