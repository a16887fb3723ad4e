"""MLX's constructors → ConvSpec. The meaning of the arguments is shared with ``read``."""

from __future__ import annotations

import re

from convspec.contract import ConvSpec, parse_call
from convspec.errors import CallError

_NAME = re.compile(r"Conv(Transpose)?([123])d")
_FIRST = "in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, "


def parse(text: str, in_channels: int | None = None) -> ConvSpec:  # noqa: ARG001 – MLX always has it
    """The spec of ``mlx.nn.Conv2d(3, 16, 3, stride=2)`` and its kin.

    Raises:
        CallError: where the text is no such constructor, with the position.
        SpecError: where the layer that it describes breaks a rule.
    """
    call = parse_call(text)
    match = _NAME.fullmatch(call.function)
    if match is None:
        raise CallError(text, f"MLX has no convolution {call.function!r}; it has nn.Conv1d … nn.ConvTranspose3d")
    transposed, ndim = bool(match[1]), int(match[2])
    own = "output_padding=0, " if transposed else "groups=1, " if ndim < 3 else ""
    arguments = call.bind(f"{_FIRST}{own}bias=True")
    if isinstance(arguments["padding"], str):
        raise CallError(text, "padding must be numbers: MLX has no words for it")
    return ConvSpec(**arguments, transposed=transposed, ndim=ndim)
