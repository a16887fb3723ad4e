"""Equinox's constructors → ConvSpec. The meaning of the arguments is shared with ``read``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from convspec.contract import ConvSpec, parse_call
from convspec.errors import CallError, SpecError

_NAME = re.compile(r"Conv(Transpose)?([123]d)?")
_FIRST = ("in_channels", "out_channels", "kernel_size", "stride")
_LAST = ("dilation", "groups", "use_bias", "padding_mode", "dtype", "key")
# ConvTranspose1d … 3d take output_padding before padding, ConvTranspose itself after it
_PADS = {
    (False, False): ("padding",), (False, True): ("padding",),
    (True, False): ("padding", "output_padding"), (True, True): ("output_padding", "padding"),
}  # fmt: skip
_IGNORED = ("dtype", "key")


def parse(text: str, in_channels: int | None = None) -> ConvSpec:  # noqa: ARG001 – Equinox always has it
    """The spec of ``eqx.nn.Conv2d(3, 16, 3, stride=2)`` and its kin.

    Raises:
        CallError: where the text is no such constructor, with the position.
        SpecError: where the layer that it describes breaks a rule.
    """
    call = parse_call(text)
    match = _NAME.fullmatch(call.function)
    if match is None:
        raise CallError(text, f"Equinox has no convolution {call.function!r}; it has Conv1d … ConvTranspose3d and Conv")
    transposed, named = bool(match[1]), bool(match[2])
    names = (*(() if named else ("num_spatial_dims",)), *_FIRST, *_PADS[transposed, named], *_LAST)
    arguments = call.bind(names, required=3 if named else 4, ignored=_IGNORED)
    ndim = int(match[2][0]) if named else arguments.pop("num_spatial_dims")
    return spec_of(arguments, ndim, transposed=transposed)


def spec_of(arguments: Mapping[str, Any], ndim: int, *, transposed: bool) -> ConvSpec:
    """The spec of a layer with these constructor arguments or attributes."""
    fields = {{"use_bias": "bias"}.get(name, name): value for name, value in arguments.items()}
    padding = fields.get("padding", 0)
    if isinstance(padding, str):
        fields["padding"] = padding.lower()
        if transposed and fields["padding"] == "same" and any(_all(fields.pop("output_padding", 0))):
            raise SpecError(["output_padding must be 0 with padding='SAME' for a spec to describe the layer"])
    fields["padding_mode"] = str(fields.get("padding_mode", "zeros")).lower()
    if transposed and not isinstance(padding, str):
        fields |= _crop(fields, ndim)
    return ConvSpec(**fields, transposed=transposed, ndim=ndim)


def _crop(fields: Mapping[str, Any], ndim: int) -> dict[str, Any]:
    """Crop and output padding; an end that is padded, not cropped, is output padding."""
    padding = fields.get("padding", 0)
    one_each = [padding] * ndim if isinstance(padding, int) else list(padding)
    pairs = [(p, p) if isinstance(p, int) else tuple(p) for p in one_each]
    extra = _all(fields.get("output_padding", 0), ndim)
    if len(pairs) != ndim:
        return {}  # what the spec itself refuses in better words
    more = [max(-hi, 0) for _, hi in pairs]
    return {
        "padding": tuple((lo, max(hi, 0)) for lo, hi in pairs),
        "output_padding": tuple(e + m for e, m in zip(extra, more, strict=True)),
    }


def _all(value: Any, ndim: int = 1) -> tuple[int, ...]:
    return (value,) * ndim if isinstance(value, int) else tuple(value)
