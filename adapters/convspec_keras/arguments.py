"""The arguments of Keras' convolutions as a spec: of constructors, layers and operations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from convspec.contract import ConvSpec
from convspec.errors import SpecError


def spec_of(
    arguments: Mapping[str, Any], ndim: int, in_channels: int, *, transposed: bool, depthwise: bool
) -> ConvSpec:
    """The spec of a layer with these constructor arguments or attributes, on ``in_channels`` channels."""
    padding = str(arguments.get("padding", "valid")).lower()
    if padding not in ("valid", "same", "causal"):
        rule = "must be 'valid', 'same' or, in one dimension, 'causal' in Keras"
        raise SpecError([f"padding={arguments['padding']!r} {rule}"])
    spec = ConvSpec(
        in_channels, in_channels * arguments.get("depth_multiplier", 1) if depthwise else arguments["filters"],
        arguments["kernel_size"], arguments.get("strides", 1), padding, arguments.get("dilation_rate", 1),
        in_channels if depthwise else arguments.get("groups", 1), arguments.get("use_bias", True),
        transposed=transposed, ndim=ndim,
    )  # fmt: skip
    return _transposed_padding(spec, padding, arguments.get("output_padding")) if transposed else spec


def _transposed_padding(spec: ConvSpec, padding: str, output_padding: Any) -> ConvSpec:
    """Keras' sizes of transposed layers as crops and output padding.

    With ke the span of the kernel and s the stride: 'valid' gives L·s + max(ke - s, 0), with an
    ``output_padding`` p given full + p; 'same' gives L·s, with p given full - 2·⌊ke/2⌋ + p, of which
    ⌊max(2·⌊ke/2⌋ - p, 0) / 2⌋ are cropped in front.
    """
    if output_padding is None:
        if padding == "same":
            return spec
        pads: Any = 0
        extra = tuple(max(s - ke, 0) for ke, s in zip(spec.effective_kernel, spec.stride, strict=True))
    else:
        given = tuple(output_padding) if isinstance(output_padding, tuple | list) else (output_padding,) * spec.ndim
        axes = zip(spec.effective_kernel, given, strict=True)
        crops = [2 * (ke // 2) - p if padding == "same" else -p for ke, p in axes]
        pads = tuple((max(c, 0) // 2, max(c, 0) - max(c, 0) // 2) for c in crops)
        extra = tuple(max(-c, 0) for c in crops)
    return replace(spec, padding=pads, output_padding=extra)
