"""Write the nnx code of a layer from a spec; :mod:`convspec_flax.linen.plan` writes linen's.

Flax's layers are channels-last. ``Conv`` has everything that a regular layer needs but the padding modes and
channels-first tensors; ``ConvTranspose`` pads the dilated input where ConvSpec crops the output, and has no groups.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from convspec.contract import CHANNELS_FIRST, ComputePrecision, Plan, copies
from convspec_flax.source import NNX, Dialect, class_text, constructor, layer_text

if TYPE_CHECKING:
    from convspec.contract import ConvSpec, LayerRequest, Pads

_PAD_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
_FLAX_MODES = {"reflect": "REFLECT", "circular": "CIRCULAR"}


def plan(spec: ConvSpec, layout: str, dtype: str) -> Plan:
    """The layer in ``flax.nnx``."""
    return written(spec, layout, dtype, NNX)


def compute_precision(spec: ConvSpec, request: LayerRequest) -> ComputePrecision:
    """float32 sums, or float64 for float64; in half precision the bias is added to the rounded result.

    The gradient of the bias is a sum over dy in the layer's own dtype (measured: 2048 + 1 + 1 + … stays 2048), and
    gradients of elements that a pad has copied are summed in that dtype too. XLA flushes subnormals on the CPU. On a
    GPU float32 is multiplied as tf32 unless the precision is strict.
    """
    dtype, direction = request.dtype, request.direction
    half = dtype in {"float16", "bfloat16"}
    roundings = 1 + (half and direction == "forward" and spec.bias)
    if half and direction == "input" and request.input_shape:
        roundings += copies(spec, request.input_shape[2:]) - 1
    tf32 = (request.device, dtype, request.precision) == ("cuda", "float32", "shipped") and direction != "bias"
    return ComputePrecision(
        accumulator=dtype if dtype == "float64" or (half and direction == "bias") else "float32",
        output_roundings=roundings,
        flushes_subnormals=True,
        inputs="tf32" if tf32 else None,
    )


def written(spec: ConvSpec, layout: str, dtype: str, dialect: Dialect) -> Plan:
    """The layer in a dialect: one constructor, or a module around ``conv``."""
    padding, before, after, reasons = _transposed(spec) if spec.transposed else _regular(spec)
    conv = constructor(dialect, spec, padding, dtype)
    if layout == CHANNELS_FIRST:
        before = ["x = jnp.moveaxis(x, 1, -1)  # channels last, as Flax wants them", *before]
        after = [*after, "x = jnp.moveaxis(x, -1, 1)"]
        reasons = ["Flax's convolutions are channels-last", *reasons]
    if not reasons:
        return Plan(spec, layout, dtype, layer_text(dialect, spec, conv, dtype))
    text = class_text(dialect, spec, conv, dtype, before, after)
    return Plan(spec, layout, dtype, text, convs=("conv",), reasons=tuple(reasons))


def _regular(spec: ConvSpec) -> tuple[str, list[str], list[str], list[str]]:
    """The padding argument, the statements before and after the convolution, and the reasons for them."""
    if spec.padding_mode == "zeros":
        return _zero_padding(spec), [], [], []
    if not isinstance(spec.padding, str):
        if not any(map(any, spec.padding)):
            return '"VALID"', [], [], []
        if spec.padding == _halves(spec.effective_kernel) and spec.padding_mode in _FLAX_MODES:
            return f'"{_FLAX_MODES[spec.padding_mode]}"', [], [], []
        pads = ", ".join(map(str, ((0, 0), *spec.padding, (0, 0))))
        steps = [f'x = jnp.pad(x, ({pads}), mode="{_PAD_MODES[spec.padding_mode]}")']
        return '"VALID"', steps, [], [_mode_reason(spec)]
    return '"VALID"', _same_steps(spec), [], [_mode_reason(spec)]


def _mode_reason(spec: ConvSpec) -> str:
    if spec.padding_mode not in _FLAX_MODES:
        return f"Flax has no padding mode {spec.padding_mode!r}"
    return f"Flax's {_FLAX_MODES[spec.padding_mode]!r} padding has no pads but its own"


def _same_steps(spec: ConvSpec) -> list[str]:
    """Pads of ``"same"`` in another mode than zeros, from the input's size."""
    halves = "(p - p // 2, p // 2)" if spec.padding == "same_lower" else "(p // 2, p - p // 2)"
    return [
        f"sizes = zip(x.shape[1:-1], {spec.effective_kernel}, {spec.stride})  # size, kernel, stride",
        "pads = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in sizes]",
        f'x = jnp.pad(x, ((0, 0), *({halves} for p in pads), (0, 0)), mode="{_PAD_MODES[spec.padding_mode]}")',
    ]


def _zero_padding(spec: ConvSpec) -> str:
    """The ``padding`` argument of a regular layer that pads with zeros."""
    if isinstance(spec.padding, str):
        return f'"{spec.padding.upper()}"'
    if not any(map(any, spec.padding)):
        return '"VALID"'
    kernel = spec.effective_kernel
    if spec.padding == _halves(kernel) and set(spec.stride) == {1}:
        return '"SAME"'
    if spec.ndim == 1 and spec.padding == ((kernel[0] - 1, 0),):
        return '"CAUSAL"'
    return _pads_text(spec.padding)


def _halves(kernel: Iterable[int]) -> Pads:
    """The pads of ``"same"`` at stride 1, which are also those of Flax's ``"CIRCULAR"`` and ``"REFLECT"``."""
    return tuple(((k - 1) // 2, k // 2) for k in kernel)


def _pads_text(pads: Pads) -> str:
    """Pads as an expert writes them: one int, one per axis, or pairs."""
    if len(set(pads)) == 1 and pads[0][0] == pads[0][1]:
        return str(pads[0][0])
    if len(pads) > 1 and all(lo == hi for lo, hi in pads):
        return str(tuple(lo for lo, _ in pads))
    return str(pads)


def _transposed(spec: ConvSpec) -> tuple[str, list[str], list[str], list[str]]:
    """As :func:`_regular`. Crops (lo, hi) of the output are pads (ke-1-lo, ke-1-hi+op) of the dilated input."""
    kernel = spec.effective_kernel
    if isinstance(spec.padding, str):
        if spec.groups == 1:
            return '"SAME"', [], [], []
        totals = [k - s for k, s in zip(kernel, spec.stride, strict=True)]
        crops: Pads = tuple((max(t, 0) // 2, t - max(t, 0) // 2) for t in totals)
    else:
        crops = tuple((lo, hi - op) for (lo, hi), op in zip(spec.padding, spec.output_padding, strict=True))
    if spec.groups == 1 and (word := _transposed_word(spec, crops)):
        return word, [], [], []
    pads = tuple((k - 1 - lo, k - 1 - hi) for k, (lo, hi) in zip(kernel, crops, strict=True))
    if min(map(min, pads)) >= 0:
        return _pads_text(pads), [], [], []
    cuts = [f"{-min(a, 0) or ''}:{min(b, 0) or ''}" for a, b in pads]
    positive: Pads = tuple((max(a, 0), max(b, 0)) for a, b in pads)
    reason = "padding crops more than the kernel's reach, which would be a negative padding in Flax"
    return _pads_text(positive), [], [f"x = x[:, {', '.join(cuts)}]"], [reason]


def _transposed_word(spec: ConvSpec, crops: Pads) -> str | None:
    """Return Flax's word for these crops, if any: ``"VALID"`` gives at least ``stride`` outputs per input element."""
    kernel = spec.effective_kernel
    if crops == tuple((0, min(k - s, 0)) for k, s in zip(kernel, spec.stride, strict=True)):
        return '"VALID"'
    if set(spec.stride) == {1} and crops == _halves(kernel):
        return '"SAME"'
    return None
