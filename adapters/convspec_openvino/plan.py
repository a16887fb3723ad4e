"""Write the text of an OpenVINO model from a spec."""

from __future__ import annotations

from collections.abc import Sequence

from convspec.contract import CHANNELS_LAST, ComputePrecision, ConvSpec, LayerRequest, Plan, resolve_padding
from convspec.errors import UnsupportedError

_MODES = {"reflect": "reflect", "replicate": "edge"}
_TEXT = """\
import numpy as np
import openvino as ov
from openvino import opset13 as ops

x = ops.parameter({input}, np.float32, name="x")
{statements}
layer = ov.Model([y], [x], "layer")
"""


def plan(spec: ConvSpec, layout: str, dtype: str) -> Plan:
    """The program: a parameter, the convolution of it with its weights, and a bias.

    Raises:
        UnsupportedError: with the reason, where OpenVINO has no such layer.
    """
    source = "first" if layout == CHANNELS_LAST else "x"
    before, conv, reasons = (_transposed if spec.transposed else _regular)(spec, source)
    axes, channels = ["-1"] * spec.ndim, [str(spec.in_channels)]
    shape = ["-1", *(axes + channels if layout == CHANNELS_LAST else channels + axes)]
    bias = [
        f'bias = ops.constant(np.zeros((1, {spec.out_channels}{", 1" * spec.ndim}), np.float32), name="bias")',
        "y = ops.add(y, bias)",
    ]
    statements = [*before, *conv, *(bias if spec.bias else [])]
    if layout == CHANNELS_LAST:
        last = spec.ndim + 1
        to_first = _moved("x", spec.in_channels, last, 1, [0, last, *range(1, last)])
        to_last = _moved("y", spec.out_channels, 1, last, [0, *range(2, last + 1), 1])
        statements = [f"first = {to_first}", *statements, f"y = {to_last}"]
        reasons = [*reasons, "OpenVINO's convolutions are channels-first: the channel axis is moved"]
    text = _TEXT.format(input=f"[{', '.join(shape)}]", statements="\n".join(statements))
    return Plan(spec, layout, dtype, text, convs=("weight",) if reasons else (), reasons=tuple(reasons))


def _moved(tensor: str, channels: int, axis: int, to: int, order: Sequence[int]) -> str:
    """Return the tensor with its channel axis moved; OpenVINO transposes one channel of an empty tensor wrongly."""
    if channels == 1:
        return f"ops.unsqueeze(ops.squeeze({tensor}, [{axis}]), [{to}])"
    return f"ops.transpose({tensor}, {list(order)})"


def _regular(spec: ConvSpec, source: str) -> tuple[list[str], list[str], list[str]]:
    """Return the statements before the convolution, its own, and the reasons why it is composed."""
    before: list[str] = []
    reasons: list[str] = []
    if isinstance(spec.padding, str):
        if spec.padding_mode != "zeros":
            raise UnsupportedError(f"OpenVINO has no padding={spec.padding!r} with values other than zeros")
        word = {"same": "same_upper", "same_lower": "same_lower"}[spec.padding]
        lo = hi = (0,) * spec.ndim
        auto = f', auto_pad="{word}"'
    else:
        lo, hi = (tuple(pair[end] for pair in spec.padding) for end in (0, 1))
        auto = ""
    if spec.padding_mode != "zeros":
        if spec.padding_mode not in _MODES:
            raise UnsupportedError(f"OpenVINO has no {spec.padding_mode} padding")
        before = [f'padded = ops.pad({source}, {[0, 0, *lo]}, {[0, 0, *hi]}, "{_MODES[spec.padding_mode]}")']
        reasons = [f"OpenVINO's convolutions pad with zeros: a pad of mode {_MODES[spec.padding_mode]} is added first"]
        source, lo, hi = "padded", (0,) * spec.ndim, (0,) * spec.ndim
    return before, _conv("convolution", source, spec, lo, hi, auto), reasons


def _transposed(spec: ConvSpec, source: str) -> tuple[list[str], list[str], list[str]]:
    pads, extra = resolve_padding(spec, (1,) * spec.ndim)
    more = f", output_padding={list(extra)}" if any(extra) else ""
    lo, hi = (tuple(pair[end] for pair in pads) for end in (0, 1))
    return [], _conv("convolution_backprop_data", source, spec, lo, hi, more), []


def _conv(function: str, source: str, spec: ConvSpec, lo: Sequence[int], hi: Sequence[int], more: str) -> list[str]:
    shape: tuple[int, ...] = spec.kernel_shape
    if spec.groups > 1:
        function, shape = f"group_{function}", (spec.groups, shape[0] // spec.groups, *shape[1:])
    arguments = [f"strides={list(spec.stride)}", f"pads_begin={list(lo)}", f"pads_end={list(hi)}"]
    arguments.append(f"dilations={list(spec.dilation)}{more}")
    lines = "".join(f"    {argument},\n" for argument in arguments)
    weight = f'weight = ops.constant(np.zeros({tuple(shape)}, np.float32), name="weight")'
    return [weight, f"y = ops.{function}(\n    {source}, weight,\n{lines})"]


def compute_precision(spec: ConvSpec, request: LayerRequest) -> ComputePrecision:  # noqa: ARG001 – all are the same
    """Return float32, for which the model is compiled; the bias may be a second rounding.

    By default OpenVINO computes float32 models in bfloat16 on processors that have it.
    """
    return ComputePrecision("float32", 1 + spec.bias, flushes_subnormals=True)
