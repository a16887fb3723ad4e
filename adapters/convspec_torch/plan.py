"""Write the text of a PyTorch layer from a spec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from convspec.contract import ComputePrecision, ConvSpec, LayerRequest, Pads, Plan, call_text
from convspec.errors import ShapeError
from convspec.spec import column_roundings, layouts, resolve_padding

_ORDER = {2: "  # width, then height", 3: "  # width, then height, then depth"}
_SAME_PADS = '''

def same_pads(size, kernel, stride):
    """Padding before and after an axis, for an output of ceil(size / stride)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return {halves}
'''
_MODULE = """

class {name}(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = {conv}

    def forward(self, x):
{forward}


layer = {name}()
"""


class _Steps(NamedTuple):
    """What surrounds a convolution in ``forward``, and why."""

    name: str = ""
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


def plan(spec: ConvSpec, layout: str, dtype: str) -> Plan:
    """The program: one constructor, or a module in which ``conv`` has pads, crops or moves of an axis around it."""
    pads = fixed_pads(spec)
    inside = pads is not None and all(lo == hi for lo, hi in pads)
    steps = _Steps() if inside else _padded(spec, pads)
    if layout == layouts.CHANNELS_LAST:
        steps = _channels_last(steps, spec)
    head = _head(spec, dtype, functional=not inside, same=pads is None)
    arguments = _arguments(spec, pads if inside else None, dtype)
    function = f"nn.Conv{'Transpose' if spec.transposed else ''}{spec.ndim}d"
    if not steps.reasons:
        return Plan(spec, layout, dtype, f"{head}\nlayer = {call_text(function, arguments, 'layer', indent=0)}\n")
    statements = [*steps.before, "x = self.conv(x)", *steps.after]
    statements[-1] = f"return {statements[-1].removeprefix('x = ')}"
    text = head + _MODULE.format(
        name=f"{steps.name}{function.removeprefix('nn.')}", conv=call_text(function, arguments, "self.conv", indent=8),
        forward="\n".join(f"        {line}" for line in statements),
    )  # fmt: skip
    return Plan(spec, layout, dtype, text, convs=("conv",), reasons=steps.reasons)


def _head(spec: ConvSpec, dtype: str, *, functional: bool, same: bool) -> str:
    """The imports, and the function that a padding of the input's size needs."""
    lines = ["from torch import nn"]
    if functional:
        lines.insert(0, "import torch.nn.functional as F")
    if dtype != "float32":
        lines.insert(0, "import torch")
    halves = ["total // 2", "total - total // 2"]
    if spec.padding == "same_lower":
        halves.reverse()
    return "\n".join(lines) + "\n" + (_SAME_PADS.format(halves=", ".join(halves)) if same else "")


def fixed_pads(spec: ConvSpec) -> Pads | None:
    """The pads (or crops) where they are the same for every input size, else None."""
    if not isinstance(spec.padding, str) or spec.transposed or all(k == 1 for k in spec.kernel_size):
        return resolve_padding(spec, (1,) * spec.ndim)[0]
    return None


def _padded(spec: ConvSpec, pads: Pads | None) -> _Steps:
    """The steps for pads that the constructor cannot take."""
    if pads is None:
        why = f"PyTorch has no padding={spec.padding!r} with a stride: the pads are computed from the input's size"
        return _Steps("Same", (*_same(spec), _pad("pads", spec.padding_mode)), reasons=(why,))
    last_first = [size for lo, hi in reversed(pads) for size in (lo, hi)]
    if spec.transposed:
        crops = _tuple([-size for size in last_first])
        why = "PyTorch crops a transposed convolution symmetrically only, so an explicit crop follows"
        crop = f"x = F.pad(x, {crops})  # negative pads crop"
        return _Steps("Cropped", after=(crop,), reasons=(why,))
    why = "PyTorch pads symmetrically only, so an explicit pad is added first"
    return _Steps("Padded", (_pad(_tuple(last_first), spec.padding_mode) + _ORDER.get(spec.ndim, ""),), reasons=(why,))


def _channels_last(steps: _Steps, spec: ConvSpec) -> _Steps:
    first, last = layouts.name("NCHW", spec.ndim), layouts.name("NHWC", spec.ndim)
    # On the strides that movedim leaves a single channel with, PyTorch 2.13 convolves wrongly to outputs of width 1.
    move = "x.squeeze(-1).unsqueeze(1)" if spec.in_channels == 1 else "x.movedim(-1, 1)"
    why = "PyTorch convolves channels-first tensors only: the channel axis is moved"
    return _Steps(
        f"ChannelsLast{steps.name}",
        (f"x = {move}  # {last} to {first}", *steps.before),
        (*steps.after, "x = x.movedim(1, -1)"),
        (*steps.reasons, why),
    )


def _same(spec: ConvSpec) -> tuple[str, ...]:
    """Statements that compute ``pads`` from x, the last axis first, as ``F.pad`` takes them."""
    last_first = zip(range(1, 4), reversed(spec.effective_kernel), reversed(spec.stride), strict=False)
    calls = [f"same_pads(x.shape[-{i}], kernel={kernel}, stride={stride})" for i, kernel, stride in last_first]
    if len(calls) == 1:
        return (f"pads = {calls[0]}",)
    return ("pads = (", *(f"    *{call}," for call in calls), ")")


def _pad(pads: str, mode: str) -> str:
    return f"x = F.pad(x, {pads})" if mode == "zeros" else f'x = F.pad(x, {pads}, mode="{mode}")'


def _arguments(spec: ConvSpec, pads: Pads | None, dtype: str) -> list[str]:
    """Return the constructor's arguments that differ from its defaults; ``pads`` None: padding is not among them."""
    output_padding = resolve_padding(spec, (1,) * spec.ndim)[1]
    given: list[tuple[str, str, str]] = [
        ("stride", _per_axis(spec.stride), "1"),
        ("padding", _per_axis([lo for lo, _ in pads or ()] or [0]), "0"),
        ("output_padding", _per_axis(output_padding), "0"),
        ("dilation", _per_axis(spec.dilation), "1"),
        ("groups", str(spec.groups), "1"),
        ("bias", str(spec.bias), "True"),
        ("padding_mode", f'"{spec.padding_mode if pads else "zeros"}"', '"zeros"'),
        ("dtype", f"torch.{dtype}", "torch.float32"),
    ]
    positional = [str(spec.in_channels), str(spec.out_channels), _per_axis(spec.kernel_size)]
    return positional + [f"{name}={value}" for name, value, default in given if value != default]


def _per_axis(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else _tuple(values)


def _tuple(values: Sequence[int]) -> str:
    return f"({', '.join(map(str, values))})"


def refusal(spec: ConvSpec, input_shape: Sequence[int], layout: str) -> str:
    """Return why PyTorch does not reliably compute the layer for this legal size; empty where it does."""
    try:
        output = spec.output_shape(input_shape, layout)
    except ShapeError:
        return ""
    pads = fixed_pads(spec)
    symmetric = pads is not None and all(lo == hi for lo, hi in pads)
    if spec.transposed and symmetric and 0 in output and 0 not in input_shape:
        return "PyTorch refuses a transposed convolution with an empty output, unless oneDNN computes it"
    return ""


def compute_precision(spec: ConvSpec, request: LayerRequest) -> ComputePrecision:
    """How PyTorch computes the layer and its gradients.

    Sums are kept in float32, or float64. Where oneDNN does not compute a layer in half precision – which depends on
    the processor – PyTorch sums over channels in float32, rounds, and sums the rest in the layer's own dtype: for the
    output of a transposed layer, and the input's gradient of any other, the taps of an element; for the kernel's
    gradient the samples. Gradients of elements that a pad has copied are summed in that dtype too. cuDNN leaves the
    bias to a second kernel, and is not used where output_padding is as large as the stride.
    """
    half = request.dtype in ("float16", "bfloat16")
    accumulator = "float64" if request.dtype == "float64" else "float32"
    if request.device == "cpu":
        roundings = column_roundings(spec, request.direction, request.input_shape) if half else 1
        return ComputePrecision(accumulator, roundings)
    columns = half and any(e >= s for e, s in zip(spec.output_padding, spec.stride, strict=True))
    tf32 = request.dtype == "float32" and request.precision == "shipped"
    return ComputePrecision(accumulator, 1 + spec.bias + columns, inputs="tf32" if tf32 else None)
