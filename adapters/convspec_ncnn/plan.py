"""Write the text of an ncnn net from a spec: layers are lines of a .param file, with their arguments by number."""

from __future__ import annotations

from collections.abc import Sequence

from convspec.contract import CHANNELS_LAST, ComputePrecision, ConvSpec, LayerRequest, Plan, resolve_padding
from convspec.errors import ShapeError, UnsupportedError
from convspec.spec import layouts

_SAME = {"same": -233, "same_lower": -234}
_MODES = {"replicate": 1, "reflect": 2}
_TO_FIRST, _TO_LAST = {1: 1, 2: 4, 3: 18}, {1: 1, 2: 3, 3: 9}  # Permute's order_type, by spatial axes
_WINOGRAD = (
    "as shipped ncnn computes it by Winograd's algorithm, whose errors no bound of a sum covers; ncnn:direct does not"
)
_TEXT = '''\
import ncnn

PARAM = """\\
7767517
{layers} {layers}
{lines}
"""

layer = ncnn.Net()
layer.load_param_mem(PARAM)
'''


def plan(spec: ConvSpec, layout: str, dtype: str) -> Plan:
    """The program: a net of the convolution, with a pad and moves of the channel axis around it.

    Raises:
        UnsupportedError: with the reason, where ncnn has no such layer.
    """
    nodes: list[tuple[str, str, dict[int, int]]] = [("Input", "x", {})]
    reasons = []
    if layout == CHANNELS_LAST:
        nodes.append(("Permute", "first", {0: _TO_FIRST[spec.ndim]}))
        reasons.append("ncnn's convolutions are channels-first: the channel axis is moved")
    if spec.padding_mode != "zeros":
        nodes.append(("Padding", "padded", _padding(spec)))
        reasons.append(f"ncnn's convolutions pad with zeros: a Padding of mode {spec.padding_mode} is added first")
    kind = ("Deconvolution" if spec.transposed else "Convolution") + ("DepthWise" if spec.groups > 1 else "")
    nodes.append((kind + {1: "1D", 2: "", 3: "3D"}[spec.ndim], "conv", _arguments(spec)))
    if layout == CHANNELS_LAST:
        nodes.append(("Permute", "last", {0: _TO_LAST[spec.ndim]}))
    blobs = ["x", *(name for _, name, _ in nodes[1:-1]), "y"]
    lines = []
    for place, (what, name, given) in enumerate(nodes):
        ends = f"1 1 {blobs[place - 1]} {blobs[place]}" if place else "0 1 x"
        lines.append(" ".join([what, name, ends, *(f"{key}={value}" for key, value in given.items())]))
    text = _TEXT.format(layers=len(nodes), lines="\n".join(lines))
    return Plan(spec, layout, dtype, text, convs=("conv",) if reasons else (), reasons=tuple(reasons))


def _padding(spec: ConvSpec) -> dict[int, int]:
    if spec.padding_mode not in _MODES:
        raise UnsupportedError(f"ncnn has no {spec.padding_mode} padding")
    if isinstance(spec.padding, str):
        raise UnsupportedError(f"ncnn has no padding={spec.padding!r} with values other than zeros")
    places = [(2, 3), (0, 1), (7, 8)]  # of W, H and D: before, after
    pads = zip(places, reversed(spec.padding), strict=False)
    given = {key: size for keys, pair in pads for key, size in zip(keys, pair, strict=True)}
    return dict(sorted(given.items())) | {4: _MODES[spec.padding_mode]}


def _arguments(spec: ConvSpec) -> dict[int, int]:
    """Return the convolution's arguments by their numbers: in tens, those of W, H and D."""
    size = spec.out_channels * spec.in_channels // spec.groups
    for k in spec.kernel_size:
        size *= k
    given = {0: spec.out_channels, 5: int(spec.bias), 6: size}
    if spec.groups > 1:
        given[7] = spec.groups
    pads, extra = resolve_padding(spec, (1,) * spec.ndim)
    if spec.ndim == 3 and spec.padding == "same_lower":
        raise UnsupportedError("in 3-D, ncnn's SAME_LOWER pads the depth at its end")
    word = _SAME.get(spec.padding) if isinstance(spec.padding, str) and not spec.transposed else None
    for axis in range(spec.ndim):
        tens, place = 10 * axis, spec.ndim - 1 - axis
        given |= {1 + tens: spec.kernel_size[place], 2 + tens: spec.dilation[place], 3 + tens: spec.stride[place]}
        if word is not None:
            given[4 + tens] = word
        elif spec.padding_mode == "zeros":
            given |= {4 + tens: pads[place][0], 15 + axis: pads[place][1]}
        if any(extra) and spec.transposed:
            given[18 + axis] = extra[place]  # H and D default to W's
    return dict(sorted(given.items()))


def winograd(spec: ConvSpec) -> bool:
    """Return whether ncnn computes the layer by Winograd's algorithm as shipped."""
    channels = max(spec.in_channels, spec.out_channels) // spec.groups
    plain = spec.kernel_size == (3, 3) and max(spec.stride) == max(spec.dilation) == 1
    return plain and not spec.transposed and channels > 8


def refusal(spec: ConvSpec, input_shape: Sequence[int], layout: str, *, direct: bool) -> str:
    """Return why ncnn cannot be run or judged on this size; empty where it can."""
    spatial = layouts.canonical_shape(input_shape, layout, spec.ndim)[2:]
    pads = resolve_padding(spec, spatial)[0]
    fits = (n + lo + hi >= ke for n, (lo, hi), ke in zip(spatial, pads, spec.effective_kernel, strict=True))
    if not spec.transposed and not all(fits):
        return "ncnn does not check that the kernel fits into the padded input: it reads and writes beyond its memory"
    try:
        output = spec.output_shape(input_shape, layout)
    except ShapeError:
        output = ()
    if 0 in spatial or 0 in output[1:]:
        return "ncnn has no tensors without elements"
    if isinstance(spec.padding, str) and not spec.transposed:
        ends = zip(spatial, spec.stride, spec.effective_kernel, strict=True)
        totals = [(-(-n // s) - 1) * s + ke - n for n, s, ke in ends]
        if min(totals) < 0 < max(totals):
            return "ncnn pads one axis by a negative number if SAME pads another: it reads and writes beyond its memory"
    return "" if direct or not winograd(spec) else _WINOGRAD


def compute_precision(spec: ConvSpec, request: LayerRequest) -> ComputePrecision:  # noqa: ARG001 – all are the same
    """Return float32; sums that begin with the bias, or are added to it, round once."""
    return ComputePrecision("float32", 1)
