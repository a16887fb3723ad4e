"""Refuse OpenVINO's functions: they have no channels, so a call is not a whole layer."""

from __future__ import annotations

from convspec.contract import ConvSpec, parse_call
from convspec.errors import CallError


def parse(text: str, in_channels: int | None = None) -> ConvSpec:  # noqa: ARG001 – the contract's
    """Refuse the text.

    Raises:
        CallError: always; for a readable text, with what to give instead.
    """
    call = parse_call(text)
    raise CallError(text, f"{call.function!r} of OpenVINO takes weights, not channels: write the layer as JSON")
