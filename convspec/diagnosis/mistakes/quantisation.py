"""Scales, zero points, types and rounding of quantised layers, whose input, weights and output are integers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from convspec.diagnosis.integers import Array, Integers, IntegerVariants
from convspec.diagnosis.mistakes.catalogue import mistake
from convspec.reference.quantized import QuantizedLayer, along_outputs
from convspec.spec import INTEGERS

_OTHER_SIGN = {"uint8": "int8", "int8": "uint8"}
_ROUNDINGS: dict[str, Callable[[Array], Array]] = {
    "rounded towards zero": np.trunc, "rounded down": np.floor, "rounded up": np.ceil,
}  # fmt: skip
_SHOWN = 4  # channels in a phrase


def _quant(layer: QuantizedLayer, **changes: Any) -> QuantizedLayer:
    return replace(layer, quant=replace(layer.quant, **changes))


def _clip(values: Array, low: float, high: float) -> Array:
    return np.clip(values, low, high)


# -- zero points ---


@mistake(
    "The zero point is not subtracted", frameworks=("onnx", "keras", "torch"),
    explanation="An integer q stands for scale · (q - zero): the products of the zero points belong to the sum.",
    fix="Subtract the zero points of input and weight before the products, and add that of the output at the end.",
    threads=("ROCm/AMDMIGraphX/pull/2888", "uxlfoundation/oneDNN/issues/665"),
)  # fmt: skip
def zero_point_left_out(layer: QuantizedLayer) -> IntegerVariants:
    quant = layer.quant
    if quant.input_zero:
        yield "the zero point of x is left out", Integers(_quant(layer, input_zero=0))
    if not quant.symmetric:
        yield "the zero point of w is left out", Integers(_quant(layer, weight_zero=0))
    if layer.zero:
        yield "the zero point of y is left out", Integers(_quant(layer, output_zero=0))


@mistake(
    "Asymmetric numbers are read as symmetric ones", frameworks=("onnx", "keras", "torch"),
    explanation="In symmetric quantisation every zero point is 0; a runtime or converter that knows no other ignores "
                "the zero points of a file.",
    fix="Use operators with zero points, or quantise symmetrically.",
    threads=("ROCm/AMDMIGraphX/issues/2628", "uxlfoundation/oneDNN/issues/665"),
)  # fmt: skip
def asymmetric_read_as_symmetric(layer: QuantizedLayer) -> IntegerVariants:
    zeros = {"input_zero": "x", "weight_zero": "w", "output_zero": "y"}
    own = [name for name in zeros if np.any(getattr(layer.quant, name))]
    for left in ([name for name in own if name != "output_zero"], own):
        if len(left) > 1:
            words = " and ".join(zeros[name] for name in left)
            yield f"the zero points of {words} are taken for 0", Integers(_quant(layer, **dict.fromkeys(left, 0)))


@mistake(
    "The zero point is added instead of subtracted", frameworks=("onnx", "keras"),
    explanation="TensorFlow Lite's kernels take an offset, which is the negative zero point.",
    fix="Pass the negative zero point where an offset is expected.",
    threads=("foss-xtensa/nnlib-hifi4/issues/16", "ROCm/AMDMIGraphX/pull/2888"),
)  # fmt: skip
def zero_point_added(layer: QuantizedLayer) -> IntegerVariants:
    quant, spec = layer.quant, layer.spec
    if quant.input_zero:
        yield "the zero point of x is added", Integers(replace(layer, x=layer.x.astype(int) + 2 * quant.input_zero))
    if not quant.symmetric:
        weight = layer.weight + 2 * along_outputs(quant.weight_zero, spec)
        yield "the zero point of w is added", Integers(replace(layer, weight=weight))
    low, high = INTEGERS[quant.output]
    if layer.zero and low <= -layer.zero <= high:
        yield "the zero point of y is subtracted", Integers(_quant(layer, output_zero=-layer.zero))


@mistake(
    "The zero point is subtracted in 8 bits", frameworks=("torch", "keras"),
    explanation="The difference of two 8-bit integers needs 9 bits; in the type of the input it wraps around.",
    fix="Convert the input to a wider type before the zero point is subtracted.",
    threads=("pytorch/executorch/pull/20655",),
)  # fmt: skip
def zero_point_subtracted_in_8_bits(layer: QuantizedLayer) -> IntegerVariants:
    zero, (low, high) = layer.quant.input_zero, INTEGERS[layer.quant.input]
    if zero:
        wrapped = (layer.x.astype(int) - zero - low) % (high - low + 1) + low
        yield "x less its zero point wraps around", Integers(replace(layer, x=wrapped + zero))


@mistake(
    "The pads do not hold the zero point", frameworks=("onnx", "keras", "torch"),
    explanation="A pad of 0 in real numbers is the zero point in integers; a pad of the integer 0 stands for another "
                "number, and the border of the output is wrong.",
    fix="Pad with the zero point of the input.",
    threads=("apache/tvm/pull/4807", "pytorch/executorch/pull/13576", "pytorch/pytorch/issues/53807"),
)  # fmt: skip
def pads_without_zero_point(layer: QuantizedLayer) -> IntegerVariants:
    zero = layer.quant.input_zero
    if zero and not layer.spec.transposed and layer.spec.padding_mode == "zeros":
        yield f"the pads hold 0, where the zero point {zero} belongs", Integers(layer, pad=-zero)


# -- bias ---


@mistake(
    "The quantised bias is left out", frameworks=("onnx", "keras", "torch"),
    explanation="The bias is an optional last input of quantised operators, of another type than the weight.",
    fix="Pass the bias, as 32-bit integers at the scale of the sums.",
    threads=("llvm/torch-mlir/pull/4645", "ROCm/AMDMIGraphX/pull/4969"),
)  # fmt: skip
def quantised_bias_left_out(layer: QuantizedLayer) -> IntegerVariants:
    if layer.bias is not None and layer.bias.any():
        yield "the bias is left out", Integers(replace(layer, bias=None))


@mistake(
    "The bias has another scale", frameworks=("onnx", "keras", "torch"),
    explanation="A bias is added to sums, whose scale is input_scale · weight_scale of its channel; a bias that was "
                "quantised by another scale, or is added to scaled sums, counts too much or too little.",
    fix="Quantise the bias by input_scale · weight_scale[channel] and zero point 0.",
    threads=("microsoft/onnxruntime/issues/24711", "llvm/torch-mlir/pull/4645", "pytorch/pytorch/pull/107810"),
)  # fmt: skip
def bias_at_another_scale(layer: QuantizedLayer) -> IntegerVariants:
    if layer.bias is None or not layer.bias.any():
        return
    quant, weight = layer.quant, np.atleast_1d(layer.quant.weight_scale)
    own = quant.input_scale * weight
    scales: dict[str, Array | float] = {
        "the scale of x": quant.input_scale, "the scale of w": weight, "the scale of y": quant.output_scale,
        "scale 1": 1.0,
        "the scales of x and w, that of channel 0 for every channel": own[0],
        "the scales of x and w, the largest for every channel": own.max(),
        "the scales of x and w, their mean for every channel": own.mean(),
    }  # fmt: skip
    for words, scale in scales.items():
        bias = layer.bias * (scale / own)
        for numbers, how in ((bias, ""), (np.rint(bias), ", rounded")):
            yield f"the bias has {words}{how}", Integers(replace(layer, bias=numbers))


# -- scales ---


@mistake(
    "The scales of the weight lie along another axis", frameworks=("onnx", "keras", "torch"),
    explanation="Scales belong to output channels. Those are the first axis of a kernel in PyTorch and ONNX, but the "
                "second of a transposed one (within each group), and the last of LiteRT's depthwise kernels.",
    fix="Give the axis of the output channels: 0, for ConvTranspose 1, for DEPTHWISE_CONV_2D 3.",
    threads=("microsoft/onnxruntime/issues/19694", "NVIDIA/TensorRT/issues/2380", "pytorch/executorch/pull/903",
             "OpenPPL/ppq/issues/339"),
)  # fmt: skip
def scales_along_another_axis(layer: QuantizedLayer) -> IntegerVariants:
    spec, scales = layer.spec, np.atleast_1d(layer.quant.weight_scale)
    if scales.size < 2:
        return
    inputs, multiplier = spec.in_channels, spec.out_channels // spec.groups
    if spec.groups == 1 and inputs == scales.size:
        axis = 0 if spec.transposed else 1
        kernel = layer.kernel * scales.reshape(*(1,) * axis, -1, *(1,) * (spec.ndim + 1 - axis))
        bias = None if layer.bias is None else layer.bias * scales
        turned = _quant(replace(layer, weight=kernel, bias=bias), weight_scale=1.0, weight_zero=0)
        yield "the weight's scales are applied along its input channels", Integers(turned)
    if spec.groups > 1 and multiplier > 1:
        groups = scales.reshape(spec.groups, multiplier)
        of_group, turned_order = np.tile(groups[0], spec.groups), groups.T.reshape(-1)
        yield "every group has the scales of the first group", Integers(_scaled(layer, of_group))
        yield "the scales are in the order of the multiplier, then the groups", Integers(_scaled(layer, turned_order))
        yield (
            "all channels of a group have the scale of its first",
            Integers(_scaled(layer, groups[:, 0].repeat(multiplier))),
        )


def _scaled(layer: QuantizedLayer, scales: Array) -> QuantizedLayer:
    """Return the layer with other scales of the weight; the sums of bias and products keep theirs."""
    return _quant(layer, weight_scale=tuple(scales.tolist()))


@mistake(
    "A scale is left out, or takes the place of another", frameworks=("onnx", "keras", "torch"),
    explanation="A sum is scaled by input_scale · weight_scale / output_scale: a factor that is missing, or a quotient "
                "that is a product, scales every output alike.",
    fix="Compute the factor of every channel from all three scales.",
    threads=("pytorch/pytorch/pull/41342", "tensorflow/tensorflow/issues/23800"),
)  # fmt: skip
def scale_left_out(layer: QuantizedLayer) -> IntegerVariants:
    quant = layer.quant
    for name, words in (("input_scale", "x"), ("weight_scale", "w"), ("output_scale", "y")):
        yield f"the scale of {words} is left out", Integers(_quant(layer, **{name: 1.0}))
    for name, words in (("input_scale", "x"), ("output_scale", "y")):
        inverse = Integers(_quant(layer, **{name: 1 / getattr(quant, name)}))
        yield f"the scale of {words} divides where it multiplies, or the reverse", inverse
    exchanged = _quant(layer, input_scale=quant.output_scale, output_scale=quant.input_scale)
    yield "the scales of x and y are exchanged", Integers(exchanged)
    yield "the scale of x takes the place of that of y", Integers(_quant(layer, output_scale=quant.input_scale))


@mistake(
    "A channel has another scale than its own", frameworks=("onnx", "keras", "torch"), fitted=True,
    explanation="With one scale for each output channel, an order or an index that is wrong scales whole channels.",
    fix="Compare the scales of the file with those of the kernel, channel by channel.",
    threads=("pytorch/pytorch/pull/37618", "Samsung/ONE/pull/2428"),
)  # fmt: skip
def scale_of_another_channel(layer: QuantizedLayer, sums: Array, y: Array) -> IntegerVariants:
    if layer.exact:
        return
    channels, right = sums.shape[1], layer.legal(y, sums)
    own = np.broadcast_to(layer.scale, (channels,))
    factors = {}
    for channel in np.flatnonzero(~np.moveaxis(right, 1, 0).reshape(channels, -1).all(1)).tolist():
        factor = _scale_of(layer, sums[:, [channel]], y[:, [channel]], own)
        if factor is None:
            return
        factors[channel] = factor
    if not factors:
        return
    scaled = own.copy()
    scaled[list(factors)] = list(factors.values())
    weights = scaled * layer.quant.output_scale / layer.quant.input_scale
    wrong = Integers(_quant(layer, weight_scale=tuple(weights.tolist())))
    sources = {c: np.flatnonzero(own == f).tolist() for c, f in factors.items()}
    shared = set.intersection(*map(set, sources.values()))
    if shared and len(factors) > 1:
        yield f"every wrong channel has the scale of channel {min(shared)}", wrong
        return
    parts = [f"channel {c} has the scale of channel {s[0]}" if (s := sources[c]) else
             f"channel {c} is scaled by {factors[c] / own[c]:.4g} times its scale" for c in factors]  # fmt: skip
    yield "; ".join(parts[:_SHOWN]) + (f"; and {len(parts) - _SHOWN} more" if parts[_SHOWN:] else ""), wrong


def _scale_of(layer: QuantizedLayer, sums: Array, y: Array, own: Array) -> float | None:
    """Return the scale that explains every output of one channel: that of another channel, or one fitted to them."""
    low, high = layer.ends
    inside = (y > low) & (y < high) & (sums != 0)
    fitted = []
    if inside.any():
        largest = np.argmax(np.where(inside, np.abs(sums), -1))
        fitted = [float((y.reshape(-1)[largest] - layer.zero) / sums.reshape(-1)[largest])]
        size = float(np.dot(sums[inside], sums[inside]))
        fitted.append(float(np.dot(y[inside] - layer.zero, sums[inside])) / size)
    ratio = layer.quant.output_scale / layer.quant.input_scale
    for scale in (*own.tolist(), *fitted):
        if scale > 0 and _quant(layer, weight_scale=scale * ratio).legal(y, sums).all():
            return float(scale)
    return None


# -- types ---


@mistake(
    "Integers are read with the other sign", frameworks=("onnx", "keras", "torch"),
    explanation="int8 and uint8 have the same bytes: numbers that are stored as one and read as the other differ by "
                "256 where the first bit is set.",
    fix="Declare the type that the numbers were stored in, and its zero point with it.",
    threads=("google/XNNPACK/pull/8647", "tensorflow/tensorflow/issues/50025"),
)  # fmt: skip
def read_with_the_other_sign(layer: QuantizedLayer) -> IntegerVariants:
    quant = layer.quant
    for data, what, zero in (("x", "input", "input_zero"), ("weight", "weight", "weight_zero")):
        array, own = getattr(layer, data), getattr(quant, what)
        if (other := _OTHER_SIGN.get(own)) is None:
            continue
        words = f"{data[0]} is read as {other}, but is {own}"
        changed = replace(layer, **{data: array.astype(own).view(other)})
        point = getattr(quant, zero)
        turned = np.asarray(point, own).view(other).tolist()
        yield words, Integers(changed)
        yield (
            words,
            Integers(_quant(changed, **{what: other, zero: tuple(turned) if isinstance(turned, list) else turned})),
        )
    if not layer.exact and (other := _OTHER_SIGN.get(quant.output)):
        low, high = INTEGERS[other]
        read = partial(_reinterpret, own=quant.output, other=other)
        yield (f"y is written as {other}, but is {quant.output}",
               Integers(replace(layer, clip=(float(low), float(high))), read=read))  # fmt: skip


def _reinterpret(values: Array, own: str, other: str) -> Array:
    return np.asarray(values.astype(own).view(other))


@mistake(
    "The numbers are shifted by 128, but not their zero point", frameworks=("onnx", "keras"),
    explanation="uint8 becomes int8 by a shift of 128 of the numbers and of their zero point; one without the other "
                "adds 128 to every number.",
    fix="Shift the zero point by 128 with the numbers: int8 = uint8 - 128.",
    threads=("tensorflow/tensorflow/issues/35072", "ROCm/AMDMIGraphX/issues/3050", "Samsung/ONE/issues/3779"),
)  # fmt: skip
def shifted_by_128(layer: QuantizedLayer) -> IntegerVariants:
    low, high = layer.ends
    for shift, words in ((128, "up"), (-128, "down")):
        yield f"x is shifted {words} by 128", Integers(replace(layer, x=layer.x.astype(int) + shift))
        yield f"w is shifted {words} by 128", Integers(replace(layer, weight=layer.weight.astype(int) + shift))
        if not layer.exact:
            moved = partial(_clip, low=low, high=high)
            yield (f"y is shifted {words} by 128",
                   Integers(layer, finish=lambda v, shift=shift, moved=moved: moved(np.rint(v) + shift)))  # type: ignore[misc]  # fmt: skip


# -- activation and range ---


@mistake(
    "The activation is left out, or clips elsewhere", frameworks=("onnx", "keras", "torch"),
    explanation="A fused activation is a range of the output's integers: ReLU begins at the zero point, not at 0.",
    fix="Clip quantised outputs at zero + end / scale, for each end of the activation.",
    threads=("microsoft/onnxruntime/issues/9425", "pytorch/executorch/pull/18462", "tensorflow/tensorflow/pull/53859"),
)  # fmt: skip
def activation_elsewhere(layer: QuantizedLayer) -> IntegerVariants:
    if layer.quant.activation == "none":
        return
    yield f"{layer.quant.activation} is left out", Integers(_quant(layer, activation="none"))
    low, high = layer.ends
    if layer.zero and high > 0:
        yield (
            f"the ReLU clips at 0, where the zero point {layer.zero} belongs",
            Integers(replace(layer, clip=(0.0, high))),
        )
    step, type_high = layer.quant.input_scale, INTEGERS[layer.quant.output][1]
    if layer.quant.activation == "relu6":
        for end, words in ((6 / step + layer.zero, "by the scale of x"), (6.0 + layer.zero, "without a scale"),
                           (high - layer.zero, "without the zero point")):  # fmt: skip
            clip = (low, float(np.clip(np.rint(end), low, type_high)))
            yield f"the 6 of the ReLU6 is quantised {words}", Integers(replace(layer, clip=clip))


@mistake(
    "The sums are clipped before they are scaled", frameworks=("onnx", "keras", "torch"),
    explanation="The range of an activation or of the output's type holds for scaled sums; the sums themselves are "
                "hundreds of times larger.",
    fix="Scale, round and add the zero point first, then clip.",
    threads=("pytorch/FBGEMM/issues/1150", "apache/tvm/issues/11867", "tensorflow/tensorflow/issues/24641"),
)  # fmt: skip
def clipped_before_scaling(layer: QuantizedLayer) -> IntegerVariants:
    low, high = layer.ends
    for first, last in dict.fromkeys([(low, high), (low - layer.zero, high - layer.zero)]):
        words = f"the sums are clipped to {first:.0f} … {last:.0f} before they are scaled"
        yield words, Integers(layer, change=partial(_clip, low=first, high=last))


@mistake(
    "Outputs beyond the range wrap around", frameworks=("onnx", "torch"),
    explanation="A conversion to 8 bits keeps the lowest bits; a large positive output becomes a negative one.",
    fix="Clip to the range of the type before the conversion.",
    threads=("nntrainer/nntrainer/pull/3047", "pytorch/executorch/pull/20655"),
)  # fmt: skip
def outputs_wrap_around(layer: QuantizedLayer) -> IntegerVariants:
    if not layer.exact:
        wrap = lambda values: np.rint(values).astype(np.int64).astype(layer.quant.output)  # noqa: E731
        yield "outputs beyond the range wrap around, where they must saturate", Integers(layer, finish=wrap)


@mistake(
    "The outputs have another range", frameworks=("onnx", "keras", "torch"), fitted=True,
    explanation="Outputs that end at -127, at 7 bits, or at the zero point come from a runtime with another range or a "
                "ReLU that the layer does not have.",
    fix="Compare the range, and the activations after the layer.",
    threads=("microsoft/onnxruntime/issues/3442", "pytorch/FBGEMM/issues/1150"),
)  # fmt: skip
def outputs_of_another_range(layer: QuantizedLayer, sums: Array, y: Array) -> IntegerVariants:  # noqa: ARG001
    if y.size and not layer.exact:
        low, high = float(y.min()), float(y.max())
        at_zero = " (the zero point: a ReLU)" if low == layer.zero else ""
        words = f"the outputs are clipped to {low:.0f}{at_zero} … {high:.0f}, where the range is that of "
        yield words + layer.quant.output, Integers(replace(layer, clip=(low, high)))


# -- arithmetic ---


@mistake(
    "The outputs are not rounded to the nearest integer", frameworks=("onnx", "torch", "keras"),
    explanation="A conversion to integers, or a shift to the right, cuts digits off.",
    fix="Round to nearest before the conversion; add half of the divisor before a shift.",
    threads=("tenstorrent/tt-metal/issues/51304", "sgl-project/sglang-jax/pull/1598"),
)  # fmt: skip
def outputs_cut_off(layer: QuantizedLayer) -> IntegerVariants:
    low, high = layer.ends
    if not layer.exact:
        for words, rule in _ROUNDINGS.items():
            yield (f"the outputs are {words}",
                   Integers(layer, finish=lambda v, rule=rule: np.clip(rule(v), low, high)))  # type: ignore[misc]  # fmt: skip
        for words, rule in _ROUNDINGS.items():
            finish = lambda v, rule=rule: np.clip(rule(v - layer.zero) + layer.zero, low, high)  # noqa: E731
            yield f"the scaled sums are {words}, then the zero point is added", Integers(layer, finish=finish)


@mistake(
    "Two products are added in 16 bits", frameworks=("onnx", "torch"),
    explanation="Processors without VNNI add two products of uint8 and int8 in 16 bits, and saturate.",
    fix="Quantise the weights to 7 bits (reduce_range), or run on a processor with VNNI.",
    threads=("microsoft/onnxruntime/issues/6004", "microsoft/onnxruntime/issues/16105", "pytorch/pytorch/issues/50720",
             "openvinotoolkit/nncf/pull/1027"),
)  # fmt: skip
def pairs_saturate(layer: QuantizedLayer) -> IntegerVariants:
    if (layer.quant.input, layer.quant.weight) == ("uint8", "int8"):
        words = ("sums of two products may saturate in 16 bits, as on processors without VNNI: quantise the weights to "
                 "7 bits (reduce_range)")  # fmt: skip
        yield words, Integers(layer, spread=layer.saturated())


@mistake(
    "The sums overflow", frameworks=("onnx", "torch", "keras"),
    explanation="A sum of many products of 8 bits may need more bits than the accumulator has.",
    fix="Sum in 32 bits, and split layers whose sums need more.",
    threads=("Tencent/ncnn/issues/717", "Tencent/ncnn/issues/783"),
)  # fmt: skip
def sums_overflow(layer: QuantizedLayer) -> IntegerVariants:
    for bits in (16, 24, 32):
        half = 2.0 ** (bits - 1)
        wrap = lambda sums, half=half: (sums + half) % (2 * half) - half  # noqa: E731
        yield f"the exact sum needs more than {bits} bits, and wraps around", Integers(layer, change=wrap)
        saturated = partial(_clip, low=-half, high=half - 1)
        yield f"the exact sum needs more than {bits} bits, and saturates", Integers(layer, change=saturated)
