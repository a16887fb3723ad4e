"""Read ``tinyconv.Conv(3, 16, kernel_size=(3, 3), …)``, given as text: parsed, never evaluated."""

from __future__ import annotations

from convspec.contract import ConvSpec, parse_call
from convspec.errors import CallError

SIGNATURE = "in_channels, filters, kernel_size, stride, padding, dilation, groups=1, use_bias=True"


def parse(text: str, in_channels: int | None = None) -> ConvSpec:
    """Return the spec that a constructor describes.

    Raises:
        CallError: where the text is no such constructor, with the position.
        SpecError: where the layer that it describes breaks a rule.
    """
    call = parse_call(text)
    if call.function != "Conv":
        raise CallError(text, f"tinyconv has no layer {call.function!r}; it has Conv")
    given = call.bind(SIGNATURE)
    return ConvSpec(
        given["in_channels"],
        given["filters"],
        given["kernel_size"],
        stride=given["stride"],
        padding=given["padding"],
        dilation=given["dilation"],
        groups=given["groups"],
        bias=given["use_bias"],
        ndim=len(given["kernel_size"]),
    )
