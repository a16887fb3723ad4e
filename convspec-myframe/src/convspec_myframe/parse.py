"""Constructors of myframe, given as text, to specs. Text is parsed as literals, never evaluated."""

from __future__ import annotations

from convspec.calls import parse_call
from convspec.errors import CallError
from convspec.spec import ConvSpec


def parse(text: str, in_channels: int | None = None) -> ConvSpec:
    """The spec that a constructor describes.

    Raises:
        CallError: where the text is no such constructor, with the position.
    """
    call = parse_call(text)
    raise CallError(text, f"not written yet: {call.function!r}")
