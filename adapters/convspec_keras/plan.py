"""Write the text of a Keras layer from a spec; its compute precision, and the kernels that TensorFlow lacks."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from convspec.contract import ComputePrecision, ConvSpec, LayerRequest, Plan, call_text, known_gaps
from convspec.spec import copies, layouts, resolve_padding, same_pads
from convspec_keras import text

_CHANNELS_LAST_ONLY = ("float16", "float64")
_WITHOUT = {  # why oneDNN does not compute it
    "float32": ", which TF_ENABLE_ONEDNN_OPTS=0 turns off",
    "bfloat16": ", which computes it on processors with AVX-512 only",
}

_ORDER = (  # of the arguments in Keras's signatures
    *("filters", "kernel_size", "strides", "padding", "output_padding", "depth_multiplier"),
    *("data_format", "dilation_rate", "groups", "use_bias", "dtype"),
)
_NO_STRIDED_DILATION = "Keras refuses strides > 1 together with dilation_rate > 1"
_BIAS_APART = (
    "Keras on TensorFlow adds a channels_first bias along the width if it equals filters: the bias is added separately"
)


@dataclass(frozen=True)
class Steps:
    """What a layer is made of.

    Attributes:
        constructor: ``Conv2D`` and its kin.
        arguments: of the constructor, by name; only those that differ from its defaults.
        layout: the layout that the convolution runs in.
        helpers: functions that the steps call.
        before, after: statements around the convolution, from ``x`` to ``x``; ``after`` adds a bias that is apart.
        split: number of convolutions that the channels are split over.
        bias: whether the bias is the layer's own, added apart from the convolutions.
        pad: the layer of Keras that does all that is before.
        name: of the steps around the convolution, for the class name.
        reasons: why it is no plain layer.
    """

    constructor: str
    arguments: dict[str, object]
    layout: str
    helpers: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    split: int = 1
    bias: bool = False
    pad: str = ""
    name: str = ""
    reasons: tuple[str, ...] = ()

    def but(self, reason: str, **changes: object) -> Steps:
        """These steps with other attributes, and the reason for it."""
        return replace(self, reasons=(*self.reasons, reason), **changes)  # type: ignore[arg-type]


def plan(spec: ConvSpec, layout: str, dtype: str) -> Plan:
    """The program: one constructor, or a layer in which ``conv`` has pads, crops, slices, … around it."""
    moved = layout == layouts.CHANNELS_FIRST and dtype in _CHANNELS_LAST_ONLY and _needs_channels_last(spec)
    inside = layouts.CHANNELS_LAST if moved else layout
    steps = _transposed(spec, inside) if spec.transposed else _regular(spec, inside)
    if moved:
        steps = _channels_last(steps, spec, dtype)
    given = dict(steps.arguments)
    if not spec.bias or steps.bias:
        given["use_bias"] = False
    if dtype != "float32":
        given["dtype"] = dtype
    arguments = text.arguments({name: given[name] for name in _ORDER if name in given})
    function = f"keras.layers.{steps.constructor}"
    if not steps.reasons:
        call = call_text(function, arguments, "layer", indent=0)
        return Plan(spec, layout, dtype, f"import keras\n\nlayer = {call}\n")
    if steps.pad and not steps.after and dtype == "float32":
        call = call_text(function, [*arguments, 'name="conv"'], "", indent=4)
        return Plan(spec, layout, dtype, text.sequential(steps.pad, call), ("conv",), None, steps.reasons)
    convs = ("conv",) if steps.split == 1 else tuple(f"conv_{i}" for i in range(steps.split))
    call = call_text(function, arguments, f"self.{convs[-1]}", indent=8)
    bias = spec.out_channels if steps.bias else None
    statements = (*steps.before, text.convolve(convs, steps.layout), *steps.after)
    body = text.layer(steps.name + steps.constructor, dtype, call, convs, bias, steps.helpers, statements)
    return Plan(spec, layout, dtype, body, convs, "bias" if steps.bias else None, steps.reasons)


# -- regular -----------------------------------------------------------------------------------------------------------


def _regular(spec: ConvSpec, layout: str) -> Steps:
    word, depthwise = _padding_word(spec), depthwise_layer(spec)
    steps = Steps(f"{'Depthwise' if depthwise else ''}Conv{spec.ndim}D", {}, layout)
    clash = _strided_and_dilated(spec)
    arguments = _common(spec, layout, strides=(1,) * spec.ndim if clash else spec.stride)
    if depthwise:
        arguments |= {"depth_multiplier": spec.out_channels // spec.groups}
        del arguments["filters"]
    elif spec.groups > 1:
        arguments |= {"groups": spec.groups}
    if clash:
        reason = f"{_NO_STRIDED_DILATION}: it runs at stride 1, and every stride-th output is kept"
        steps = steps.but(reason, after=(text.subsample(spec.stride, layout),), name="Subsampled")
        steps = _bias_apart(spec, steps)
    if word is None:
        reason = f"Keras has no padding={spec.padding!r} of mode {spec.padding_mode!r}: an explicit pad is added first"
        helpers, before = _padding(spec, layout)
        pad = "" if helpers or isinstance(spec.padding, str) else text.zero_padding(spec.padding, layout)
        steps = steps.but(reason, helpers=helpers, before=before, pad=pad, name=steps.name or "Padded")
    elif word != "valid":
        arguments |= {"padding": word}
    return replace(steps, arguments=arguments)


def _padding(spec: ConvSpec, layout: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Functions and statements that pad x."""
    taken = spec.padding_mode in text.INDICES
    helpers = (text.indexed_pad(spec.padding_mode),) if taken else ()
    if not isinstance(spec.padding, str):
        if taken:
            return helpers, text.pad_axes(spec.padding, spec.padding_mode, layout)
        return helpers, text.pad(spec.padding, layout)
    helpers = (text.same_pads(lower=spec.padding == "same_lower"), *helpers)
    return helpers, text.pad_same(spec.effective_kernel, spec.stride, spec.padding_mode, layout)


# -- transposed --------------------------------------------------------------------------------------------------------


def _transposed(spec: ConvSpec, layout: str) -> Steps:
    """Crop at the start, and extend the end of the full result (crop it if negative)."""
    pads, output_padding = resolve_padding(spec, (1,) * spec.ndim)
    start = tuple(lo for lo, _ in pads)
    end = tuple(extra - hi for (_, hi), extra in zip(pads, output_padding, strict=True))
    steps = Steps(f"Conv{spec.ndim}DTranspose", _common(spec, layout, spec.stride), layout)
    plain = None if spec.groups > 1 or _strided_and_dilated(spec) else _transposed_word(spec, start, end)
    if plain is not None:
        return replace(steps, arguments=steps.arguments | plain)
    if spec.groups > 1:
        steps = steps.but(
            "Keras has no groups in a transposed convolution: the channels are split",
            split=spec.groups,
            arguments=steps.arguments | {"filters": spec.out_channels // spec.groups},
            name="Split",
        )
    if _strided_and_dilated(spec):
        steps = steps.but(
            f"{_NO_STRIDED_DILATION}: zeros are inserted between the input's elements instead",
            helpers=(text.SPREAD,),
            before=text.spread(spec.stride, layout),
            arguments={name: value for name, value in steps.arguments.items() if name != "strides"},
            name=f"{steps.name}Spread",
        )
        end = tuple(e - (s - 1) for e, s in zip(end, spec.stride, strict=True))  # elements that the last zeros add
    return _cropped(spec, steps, start, end)


def _cropped(spec: ConvSpec, steps: Steps, start: tuple[int, ...], end: tuple[int, ...]) -> Steps:
    """Return the crop and the extension that the layer's own arguments cannot express."""
    more = tuple(max(e, 0) for e in end)
    stride = (1,) * spec.ndim if _strided_and_dilated(spec) else spec.stride
    inside = all(m < s for m, s in zip(more, stride, strict=True))
    missing = tuple(max(s - ke, 0) for s, ke in zip(stride, spec.effective_kernel, strict=True))
    wanted = more if inside else (0,) * spec.ndim
    if wanted != missing:  # without output_padding Keras fills up to strides cells for every cell of the input
        steps = replace(steps, arguments=steps.arguments | {"output_padding": wanted})
    if not inside:
        reason = "Keras refuses output_padding >= strides: zeros are appended, then the bias is added"
        after = text.pad(tuple((0, m) for m in more), steps.layout)
        steps = steps.but(reason, after=after, name=f"{steps.name}Extended")
    if any(start) or any(e < 0 for e in end):
        reason = "Keras has no numbers for the padding of a transposed convolution: its result is cropped"
        crop = text.crop(start, tuple(max(-e, 0) for e in end), steps.layout)
        steps = steps.but(reason, after=(*steps.after, crop), name=steps.name or "Cropped")
    if not inside and spec.bias and steps.layout == layouts.CHANNELS_LAST:
        return replace(steps, bias=True, after=(*steps.after, text.add_bias(spec.ndim, steps.layout)))
    return _bias_apart(spec, steps)


def _transposed_word(spec: ConvSpec, start: tuple[int, ...], end: tuple[int, ...]) -> dict[str, object] | None:
    """Return the constructor's arguments that give exactly this crop; None where no arguments do.

    With h = ⌊ke / 2⌋, ``output_padding=None`` gives: valid, from 0 on max(s - ke, 0) more than the full result;
    same, from ⌊max(ke - s, 0) / 2⌋ on L·s elements; and ``output_padding=op``: valid, op elements more; same, from
    ⌊max(2h - op, 0) / 2⌋ on op - 2h elements more (measured on all three backends).
    """
    axes = list(zip(spec.effective_kernel, spec.stride, start, end, strict=True))
    if all(lo == 0 and e == max(s - ke, 0) for ke, s, lo, e in axes):
        return {}
    if all(lo == max(ke - s, 0) // 2 and e - lo == s - ke for ke, s, lo, e in axes):
        return {"padding": "same"}
    if all(lo == 0 and 0 <= e < s for _, s, lo, e in axes):
        return {"output_padding": end}
    extra = tuple(e - lo + ke // 2 * 2 for ke, _, lo, e in axes)
    fits = all(
        lo == max(ke // 2 * 2 - op, 0) // 2 and 0 <= op < s and (op > 0 or ke % 2)  # TensorFlow aborts on even, 0
        for (ke, s, lo, _), op in zip(axes, extra, strict=True)
    )
    return {"padding": "same", "output_padding": extra} if fits else None


# -- both --------------------------------------------------------------------------------------------------------------


def _common(spec: ConvSpec, layout: str, strides: tuple[int, ...]) -> dict[str, object]:
    arguments: dict[str, object] = {"filters": spec.out_channels, "kernel_size": spec.kernel_size}
    if max(strides) > 1:
        arguments["strides"] = strides
    if max(spec.dilation) > 1:
        arguments["dilation_rate"] = spec.dilation
    if layout == layouts.CHANNELS_FIRST:
        arguments["data_format"] = "channels_first"
    return arguments


def _bias_apart(spec: ConvSpec, steps: Steps) -> Steps:
    """In channels_first the bias is added to the final result, whose width is the one that a user sees."""
    if not spec.bias or steps.layout == layouts.CHANNELS_LAST:
        return steps
    return steps.but(_BIAS_APART, bias=True, after=(*steps.after, text.add_bias(spec.ndim, steps.layout)))


def _channels_last(steps: Steps, spec: ConvSpec, dtype: str) -> Steps:
    there, back = (layouts.permutation(*pair, spec.ndim) for pair in (("NC*", "N*C"), ("N*C", "NC*")))
    return steps.but(
        f"TensorFlow has no channels_first {dtype} convolution on the CPU: the channels are moved to the end",
        before=(f"x = ops.transpose(x, {there})", *steps.before),
        after=(*steps.after, f"x = ops.transpose(x, {back})"),
        name=f"ChannelsFirst{steps.name}",
    )


# -- the kind of layer, and how it computes ----------------------------------------------------------------------------


def compute_precision(spec: ConvSpec, request: LayerRequest) -> ComputePrecision:
    """How Keras computes the layer: sums in float32 at least, the bias added to a result that is rounded already.

    Gradients of elements that a pad has copied are summed in the layer's own dtype.
    """
    roundings = 1 + (request.direction == "forward" and spec.bias)
    if request.direction == "input" and request.input_shape:
        roundings += copies(spec, request.input_shape[2:]) - 1
    tf32 = request.device != "cpu" and (request.dtype, request.precision) == ("float32", "shipped")
    return ComputePrecision(
        accumulator="float64" if request.dtype == "float64" else "float32",
        output_roundings=roundings,
        flushes_subnormals=True,
        inputs="tf32" if tf32 else None,
    )


def runs_in_onednn(dtype: str) -> bool:
    """Whether oneDNN computes TensorFlow's convolutions of this dtype on this machine's processor."""
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS", "1").lower() in ("0", "false"):
        return False
    return dtype == "float32" or (dtype == "bfloat16" and "avx512f" in known_gaps.processor_features())


def missing_on_tensorflow_cpu(spec: ConvSpec, layout: str, dtype: str) -> str:
    """Why TensorFlow on the CPU cannot run the plan; empty where it can."""
    if runs_in_onednn(dtype):
        return ""
    moved = dtype in _CHANNELS_LAST_ONLY  # to channels_last, by the plan
    where = f"in {dtype} on the CPU" + ("" if moved else f" without oneDNN{_WITHOUT[dtype]}")
    if spec.transposed and max(spec.dilation) > 1:
        return (
            f"TensorFlow has no dilated transposed convolution {where} (Current CPU implementations do not yet support "
            f"dilation rates larger than 1)"
        )
    if layout == layouts.CHANNELS_FIRST and _needs_channels_last(spec) and not moved:
        return f"TensorFlow has no channels_first convolution {where}"
    return ""


def sums_halves_on_tensorflow_cpu(spec: ConvSpec, dtype: str, direction: str, layout: str) -> bool:
    """Whether TensorFlow on the CPU sums half-precision products in half precision.

    Measured: 2048 + 1 + 1 + … stays 2048 in float16, and 256 + 1 + 1 + … stays 256 in bfloat16 where oneDNN does not
    compute it. Layers that XLA compiles – grouped ones, and 3-D ones in channels_first – keep their sums in float32,
    except for the bias.
    """
    if direction == "bias":
        return dtype == "bfloat16" or (layout == layouts.CHANNELS_FIRST and not _needs_channels_last(spec))
    if dtype != "float16" and (dtype != "bfloat16" or runs_in_onednn(dtype)):
        return False
    own = depthwise_layer(spec) or (spec.groups == 1 and not (spec.ndim == 3 and layout == layouts.CHANNELS_FIRST))
    if spec.transposed:
        return direction != "input" or spec.ndim == 3
    return own and (direction != "forward" or depthwise_layer(spec) or spec.ndim == 3)


def depthwise_layer(spec: ConvSpec) -> bool:
    """Return whether it is a ``DepthwiseConv``: Keras has none in 3-D, for unequal strides, or with causal padding."""
    return spec.depthwise and spec.ndim < 3 and len(set(spec.stride)) == 1 and _padding_word(spec) != "causal"


def _needs_channels_last(spec: ConvSpec) -> bool:
    """Whether TensorFlow on the CPU has no float16 and float64 for this layer in channels_first."""
    return spec.transposed or (spec.ndim < 3 and spec.groups == 1)


def _padding_word(spec: ConvSpec) -> str | None:
    """The word that Keras has for this padding, None where it has none."""
    if isinstance(spec.padding, str):
        plain = spec.padding == "same" and spec.padding_mode == "zeros" and not _strided_and_dilated(spec)
        return spec.padding if plain else None
    if not any(map(any, spec.padding)):
        return "valid"
    if spec.padding_mode != "zeros":
        return None
    unit = all(s == 1 for s in spec.stride)
    axes = zip(spec.kernel_size, spec.dilation, strict=True)
    if unit and spec.padding == tuple(same_pads(k, k, 1, d) for k, d in axes):
        return "same"
    causal = spec.ndim == 1 and not _strided_and_dilated(spec) and spec.padding == ((spec.effective_kernel[0] - 1, 0),)
    return "causal" if causal else None


def _strided_and_dilated(spec: ConvSpec) -> bool:
    return max(spec.stride) > 1 and max(spec.dilation) > 1
