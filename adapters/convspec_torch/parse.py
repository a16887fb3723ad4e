"""PyTorch's constructors → ConvSpec. The meaning of the arguments is shared with ``read``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from convspec.contract import ConvSpec, parse_call
from convspec.errors import CallError, SpecError

_REGULAR = (
    "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode",
)  # fmt: skip
_TRANSPOSED = (*_REGULAR[:5], "output_padding", "groups", "bias", "dilation", "padding_mode")
REGULAR_CALL = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")  # of F.conv2d and its kin
TRANSPOSED_CALL = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")
_IGNORED = ("device", "dtype")
_NAME = re.compile(r"(Lazy)?Conv(Transpose)?([123])d")


def parse(text: str, in_channels: int | None = None) -> ConvSpec:
    """The spec of ``nn.Conv2d(3, 16, 3, stride=2)`` and its kin, lazy ones with ``in_channels`` given apart.

    Raises:
        CallError: where the text is no such constructor, with the position.
        SpecError: where the layer that it describes breaks a rule.
    """
    call = parse_call(text)
    match = _NAME.fullmatch(call.function)
    if match is None:
        kinds = "Conv1d … Conv3d, ConvTranspose1d … 3d"
        raise CallError(text, f"PyTorch has no convolution {call.function!r}; it has {kinds}")
    lazy, transposed, ndim = bool(match[1]), bool(match[2]), int(match[3])
    names = _TRANSPOSED if transposed else _REGULAR
    if lazy and call.args[:1] == (0,):  # PyTorch prints it for the input channels that it does not know yet
        call = replace(call, args=call.args[1:])
    arguments = call.bind((*names[lazy:], *_IGNORED), required=3 - lazy, ignored=_IGNORED)
    if lazy:
        if in_channels is None:
            raise CallError(text, f"{call.function} has no in_channels: give it as well (--in-channels N)")
        arguments["in_channels"] = in_channels
    return spec_of(arguments, ndim, transposed=transposed)


def spec_of(arguments: Mapping[str, Any], ndim: int, *, transposed: bool) -> ConvSpec:
    """The spec of a layer with these constructor arguments or attributes.

    ``padding='same'`` puts the extra pad of an even kernel after the input, as ConvSpec does; PyTorch refuses it
    at stride > 1.
    """
    fields = dict(arguments)
    spec = ConvSpec(**{**fields, "padding": _padding(fields.get("padding", 0))}, transposed=transposed, ndim=ndim)
    if isinstance(spec.padding, str):
        rule = f"padding={spec.padding!r} must not be used with stride={spec.stride}: PyTorch refuses it"
        raise SpecError([f"{rule}; give the pads as numbers, or ask for the PyTorch source of that ConvSpec"])
    return spec


def _padding(padding: Any) -> Any:
    """PyTorch takes one int per axis, never pairs, and the words 'valid' and 'same'."""
    if isinstance(padding, str):
        if padding not in ("valid", "same"):
            raise SpecError([f"padding={padding!r} must be 'valid', 'same' or numbers in PyTorch"])
        return padding
    if isinstance(padding, tuple | list) and any(isinstance(p, tuple | list) for p in padding):
        raise SpecError([f"padding={padding!r} must be an int, or one int per axis, in PyTorch"])
    return padding
