"""Keras' constructors → ConvSpec. The meaning of the arguments is shared with ``read``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from convspec.contract import ConstructorCall, ConvSpec, parse_call
from convspec.errors import CallError, SpecError

_REGULAR = (
    "filters", "kernel_size", "strides", "padding", "data_format", "dilation_rate", "groups", "activation", "use_bias",
)  # fmt: skip
_TRANSPOSED = {
    n: (*_REGULAR[:4], *middle, "dilation_rate", "activation", "use_bias")
    for n, middle in {
        1: ("output_padding", "data_format"),
        2: ("output_padding", "data_format"),
        3: ("data_format", "output_padding"),  # Conv3DTranspose alone has them the other way round
    }.items()
}
_DEPTHWISE = (*_REGULAR[1:4], "depth_multiplier", "data_format", "dilation_rate", "activation", "use_bias")
_IGNORED = (
    "data_format", "activation", "name", "dtype", "input_shape", "trainable", "activity_regularizer",
    *(f"{part}_{what}" for part in ("kernel", "bias", "depthwise")
      for what in ("initializer", "regularizer", "constraint")),
)  # fmt: skip
_NAME = re.compile(r"(Depthwise|Separable)?Conv(?:olution)?([123])D(Transpose)?")


def parse(text: str, in_channels: int | None = None) -> ConvSpec:
    """The spec of ``keras.layers.Conv2D(16, 3, strides=2, padding="same")`` and its kin on ``in_channels`` channels.

    Raises:
        CallError: where the text is no such constructor, with the position; where ``in_channels`` is not given.
        SpecError: where the layer that it describes breaks a rule.
    """
    call = parse_call(text)
    match = _NAME.fullmatch(call.function)
    if match is None:
        kinds = "Conv, ConvTranspose and DepthwiseConv, 1D to 3D"
        raise CallError(text, f"Keras has no convolution {call.function!r}; it has {kinds}")
    if match[1] == "Separable":
        raise CallError(text, "SeparableConv is two layers: write the DepthwiseConv and the 1×1 Conv apart")
    ndim, depthwise, transposed = int(match[2]), match[1] is not None, match[3] is not None
    in_channels = _channels(call, ndim) if in_channels is None else in_channels
    if in_channels is None:
        raise CallError(text, "Keras layers infer their input channels: give in_channels as well (--in-channels N)")
    names: Sequence[str] = _TRANSPOSED[ndim] if transposed else _DEPTHWISE if depthwise else _REGULAR
    names = (*names, *(n for n in _IGNORED if n not in names))
    arguments = call.bind(names, required=1 if depthwise else 2, ignored=_IGNORED)
    return spec_of(arguments, ndim, in_channels, transposed=transposed, depthwise=depthwise)


def _channels(call: ConstructorCall, ndim: int) -> int | None:
    """The channels of an ``input_shape``, as the first layer of older models has it; None without one."""
    shape = call.kwargs.get("input_shape")
    if not isinstance(shape, tuple) or len(shape) != ndim + 1:
        return None
    first = "channels_first" in (*call.args, call.kwargs.get("data_format"))
    channels = shape[0 if first else -1]
    return channels if isinstance(channels, int) else None


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
