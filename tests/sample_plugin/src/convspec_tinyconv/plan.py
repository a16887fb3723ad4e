"""Write the text of a layer of tinyconv. This module needs neither tinyconv nor NumPy."""

from __future__ import annotations

from convspec.contract import ComputePrecision, ConvSpec, LayerRequest, Plan, resolve_padding
from convspec.errors import UnsupportedError

TEXT = """\
import tinyconv

layer = tinyconv.Conv(
    {spec.in_channels},
    {spec.out_channels},
    kernel_size={spec.kernel_size},
    stride={spec.stride},
    padding={padding},
    dilation={spec.dilation},
    groups={spec.groups},
    use_bias={spec.bias},
)
"""


def plan(spec: ConvSpec, layout: str, dtype: str) -> Plan:
    """Return the program that defines ``layer``.

    Raises:
        UnsupportedError: with the reason, where tinyconv has no such layer.
    """
    if layout != "NHWC":
        raise UnsupportedError("tinyconv is channels-last")
    if spec.transposed:
        raise UnsupportedError("tinyconv has no transposed convolutions")
    if spec.padding_mode != "zeros":
        raise UnsupportedError(f"tinyconv pads with zeros only, not {spec.padding_mode}")
    if isinstance(spec.padding, str):
        raise UnsupportedError(f"tinyconv has no padding={spec.padding!r} with a stride")
    pads, _ = resolve_padding(spec, (1,) * spec.ndim)
    if any(before != after for before, after in pads):
        raise UnsupportedError("tinyconv pads both sides of an axis equally")
    return Plan(spec, layout, dtype, TEXT.format(spec=spec, padding=tuple(before for before, _ in pads)))


def compute_precision(spec: ConvSpec, request: LayerRequest) -> ComputePrecision:
    """Return float32: products are summed in it, in any order."""
    return ComputePrecision(accumulator="float32")
