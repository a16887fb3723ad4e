"""From a spec to the text of a layer of myframe. This module needs neither myframe nor NumPy."""

from __future__ import annotations

from collections.abc import Sequence

from convspec.contract import Arithmetic
from convspec.errors import UnsupportedError
from convspec.plan import Plan
from convspec.spec import ConvSpec

TEXT = """\
import myframe

layer = myframe.Conv{ndim}d(
    {in_channels},
    {out_channels},
    kernel_size={kernel_size},
    stride={stride},
    padding={padding},
    dilation={dilation},
    groups={groups},
    bias={bias},
)
"""


def plan(spec: ConvSpec, layout: str, dtype: str) -> Plan:
    """The program that defines ``layer``: idiomatic code that a user of myframe could have written.

    Raises:
        UnsupportedError: with the reason, where myframe has no such layer.
    """
    if spec.transposed or spec.padding_mode != "zeros":
        raise UnsupportedError("not written yet: transposed layers and modes of padding")
    if isinstance(spec.padding, str) or any(before != after for before, after in spec.padding):
        raise UnsupportedError("not written yet: pads that differ before and after an axis")
    text = TEXT.format(
        ndim=spec.ndim,
        in_channels=spec.in_channels,
        out_channels=spec.out_channels,
        kernel_size=spec.kernel_size,
        stride=spec.stride,
        padding=tuple(before for before, _ in spec.padding),
        dilation=spec.dilation,
        groups=spec.groups,
        bias=spec.bias,
    )
    return Plan(spec, layout, dtype, text)


def arithmetic(
    spec: ConvSpec,
    dtype: str,
    device: str,
    precision: str,
    direction: str = "forward",
    input_shape: Sequence[int] | None = None,
    layout: str = "NCHW",
) -> Arithmetic:
    """How myframe computes: the format of its sums, and how often a result is rounded."""
    return Arithmetic(accumulator="float32", output_roundings=1)
