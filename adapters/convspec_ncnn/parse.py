"""Refuse calls: ncnn's layers are lines of a .param file."""

from __future__ import annotations

from convspec.contract import ConvSpec, parse_call
from convspec.errors import CallError


def parse(text: str, in_channels: int | None = None) -> ConvSpec:  # noqa: ARG001 – the contract's
    """Refuse the text.

    Raises:
        CallError: always; for a readable text, with what to give instead.
    """
    call = parse_call(text)
    raise CallError(text, f"ncnn has no constructors such as {call.function!r}: write the layer as JSON")
