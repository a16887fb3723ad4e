"""The arguments of PyTorch's convolutions as a spec: of constructors, layers and function calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convspec.contract import ConvSpec
from convspec.errors import SpecError

REGULAR_CALL = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")  # of F.conv2d and its kin
TRANSPOSED_CALL = ("input", "weight", "bias", "stride", "padding", "output_padding", "groups", "dilation")


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
