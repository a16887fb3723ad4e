"""The arguments of Equinox's convolutions as a spec: of constructors and layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convspec.contract import ConvSpec
from convspec.errors import SpecError


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
