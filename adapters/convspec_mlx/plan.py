"""Write the text of an MLX layer from a spec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from convspec.contract import (
    CHANNELS_FIRST,
    ComputePrecision,
    ConvSpec,
    LayerRequest,
    Plan,
    call_text,
    copies,
    resolve_padding,
)
from convspec.errors import UnsupportedError

_MODES = {"zeros": "", "replicate": ', mode="edge"'}
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
{members}

    def __call__(self, x):
{steps}


layer = {name}()
"""


def plan(spec: ConvSpec, layout: str, dtype: str) -> Plan:
    """The program: one constructor, or a module with a pad, a crop or moves of the channel axis around ``conv``.

    Raises:
        UnsupportedError: with the reason, where MLX has no such layer.
    """
    if spec.groups > 1 and spec.ndim == 3:
        raise UnsupportedError("MLX has groups in 1-D and 2-D convolutions only")
    if spec.padding_mode not in _MODES:
        raise UnsupportedError(f"MLX has no {spec.padding_mode} padding; its mx.pad has the modes constant and edge")
    function = f"Conv{'Transpose' if spec.transposed else ''}{spec.ndim}d"
    steps = _around(spec)
    grouped = spec.transposed and spec.groups > 1
    name, before, after, reasons = steps.name, list(steps.before), list(steps.after), list(steps.reasons)
    if grouped:
        name, why = f"Grouped{name}", "nn.ConvTranspose has no groups, but the function that it calls has"
        reasons.append(why)
    if layout == CHANNELS_FIRST:
        before, after = ["x = mx.moveaxis(x, 1, -1)", *before], [*after, "x = mx.moveaxis(x, -1, 1)"]
        name, why = f"ChannelsFirst{name}", "MLX's convolutions are channels-last: the channel axis is moved"
        reasons.append(why)
    cast = f"layer.set_dtype(mx.{dtype})\n" if dtype != "float32" else ""
    head = ("import mlx.core as mx\n" if cast or reasons else "") + "import mlx.nn as nn\n"
    if not reasons:
        call = call_text(f"nn.{function}", _arguments(spec, steps), "layer", indent=0)
        return Plan(spec, layout, dtype, f"{head}\nlayer = {call}\n{cast}")
    members = [f"self.conv = {call_text(f'nn.{function}', _arguments(spec, steps), 'self.conv', indent=8)}"]
    inside = ["x = self.conv(x)"]
    if grouped:
        members, inside = _function(spec, steps)
    statements = [*before, *inside, *after]
    statements[-1] = f"return {statements[-1].removeprefix('x = ')}"
    text = _MODULE.format(name=f"{name}{function}", members=_indented(members), steps=_indented(statements))
    text = f"{head}{_same_pads(spec) if steps.name == 'Same' else ''}{text}{cast}"
    return Plan(spec, layout, dtype, text, convs=() if grouped else ("conv",), reasons=tuple(reasons))


class _Around(NamedTuple):
    """The steps before and after the convolution, its own padding and output padding, and why there are steps."""

    padding: tuple[int, ...]
    extra: tuple[int, ...]
    name: str = ""
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()


def _around(spec: ConvSpec) -> _Around:
    none, mode = (0,) * spec.ndim, _MODES[spec.padding_mode]
    if isinstance(spec.padding, str) and not spec.transposed:
        why = f"MLX has no padding={spec.padding!r} with a stride: the pads are computed from the input's size"
        each = zip(range(1, 4), spec.effective_kernel, spec.stride, strict=False)
        lines = [f"    same_pads(x.shape[{i}], kernel={ke}, stride={s})," for i, ke, s in each]
        pad = f"x = mx.pad(x, pads{mode})"
        return _Around(none, none, "Same", ("pads = [", "    (0, 0),", *lines, "    (0, 0),", "]", pad), reasons=(why,))
    pads, extra = resolve_padding(spec, (1,) * spec.ndim)
    own = tuple(lo for lo, _ in pads)
    symmetric = all(lo == hi for lo, hi in pads)
    if spec.transposed:
        if symmetric and all(lo < ke for lo, ke in zip(own, spec.effective_kernel, strict=True)):
            return _Around(own, extra)
        both = [min(hi, op) for (_, hi), op in zip(pads, extra, strict=True)]
        slices = [f"{lo or ''}:{b - hi or ''}" for (lo, hi), b in zip(pads, both, strict=True)]
        why = "MLX crops on both sides alike, and wrongly if it is more than the kernel reaches: a slice follows"
        rest = tuple(op - b for op, b in zip(extra, both, strict=True))
        return _Around(none, rest, "Cropped", after=(f"x = x[:, {', '.join(slices)}]",), reasons=(why,))
    if symmetric and not (mode and any(own)):
        return _Around(own, none)
    why = "MLX's convolutions pad with zeros, on both sides alike: an explicit pad is added first"
    pad = f"x = mx.pad(x, {[(0, 0), *pads, (0, 0)]}{mode})"
    return _Around(none, none, "Padded", (pad,), reasons=(why,))


def _same_pads(spec: ConvSpec) -> str:
    halves = ["total // 2", "total - total // 2"]
    if spec.padding == "same_lower":
        halves.reverse()
    return _SAME_PADS.format(halves=", ".join(halves))


def _arguments(spec: ConvSpec, steps: _Around) -> list[str]:
    """Return the constructor's arguments that differ from its defaults."""
    positional = [str(spec.in_channels), str(spec.out_channels), _one(spec.kernel_size), *_settings(spec, steps)]
    if spec.groups > 1:
        positional.append(f"groups={spec.groups}")
    return positional if spec.bias else [*positional, "bias=False"]


def _settings(spec: ConvSpec, steps: _Around) -> list[str]:
    given = (
        ("stride", spec.stride, 1), ("padding", steps.padding, 0), ("dilation", spec.dilation, 1),
        ("output_padding", steps.extra, 0),
    )  # fmt: skip
    return [f"{name}={_one(values)}" for name, values, default in given if any(v != default for v in values)]


def _function(spec: ConvSpec, steps: _Around) -> tuple[list[str], list[str]]:
    """Return the members and the steps of a module that calls ``mx.conv_transpose*d`` with groups."""
    shape = (spec.out_channels, *spec.kernel_size, spec.in_channels // spec.groups)
    members = [f"self.groups = {spec.groups}", f"self.weight = mx.zeros({shape})"]
    given = ["x", "self.weight", *_settings(spec, steps), "groups=self.groups"]
    call = f"x = {call_text(f'mx.conv_transpose{spec.ndim}d', given, 'x', indent=8)}"
    if not spec.bias:
        return members, [call]
    return [*members, f"self.bias = mx.zeros(({spec.out_channels},))"], [call, "x = x + self.bias"]


def _one(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else str(tuple(values))


def _indented(lines: Sequence[str]) -> str:
    return "\n".join(f"        {line}" for line in lines)


def compute_precision(spec: ConvSpec, request: LayerRequest) -> ComputePrecision:
    """Return how MLX computes on the CPU: sums in float32; the bias is added to the rounded result.

    Gradients of elements that a pad has copied are summed in the layer's own dtype.
    """
    half = request.dtype != "float32"
    roundings = 1 + (spec.bias and request.direction == "forward")
    if half and request.direction == "input" and request.input_shape:
        roundings += copies(spec, request.input_shape[2:]) - 1
    return ComputePrecision("float32", roundings)
