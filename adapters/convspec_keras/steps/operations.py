"""Operations of ``keras.ops`` as steps: the table of all that the vocabulary has words for."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from convspec.contract import layouts, tracing
from convspec.contract.network_words import repeated
from convspec.contract.tracing import Link, NoWord
from convspec.spec import steps
from convspec.spec.shapes import same_pads
from convspec.spec.steps import Step
from convspec_keras import weights
from convspec_keras.arguments import spec_of
from convspec_keras.steps.tensors import Builder, Call, Traced, axes_of

SAME = frozenset(("ConvertToTensor", "Cast", "StopGradient", "Copy", "Array"))
"""Operations that give the same values, if the dtype stays the same."""

SHAPES = frozenset(("OnesLike", "ZerosLike", "EmptyLike", "FullLike", "Ndim", "Size"))
"""Operations that take of a tensor its shape only."""

_BACKEND = keras.backend.backend()
_NUMBERS = (int, float, np.number)


def evaluate(op: Any, args: Any, kwargs: Any) -> Any:
    """Return the result of an operation; Keras's class ``ConvTranspose`` mixes up arguments, its function does not."""
    if type(op).__name__ != "ConvTranspose":
        return op.call(*args, **kwargs)
    settings = {n: getattr(op, n) for n in ("strides", "padding", "output_padding", "data_format", "dilation_rate")}
    return ops.conv_transpose(*args, **kwargs, **settings)


def _row(make: Callable[[Any], Step]) -> Builder:
    """Return the builder of a function of one tensor, of the settings of its operation."""
    return lambda call: call.link(make(call.op))


# -- functions of each element -----------------------------------------------------------------------------------------


def _relu(op: Any) -> Step:
    slope, maximum, threshold = float(op.negative_slope), op.max_value, float(op.threshold)
    if threshold == 0 and maximum is None:
        return steps.LeakyReLU(slope) if slope else steps.ReLU()
    if threshold == slope == 0:
        return steps.Clip(0, float(maximum))
    return steps.ThresholdedReLU(threshold, slope, maximum)


def _threshold(op: Any) -> Step:
    if op.default_value != 0:
        raise NoWord(f"values up to {op.threshold} become {op.default_value}")
    return steps.ThresholdedReLU(op.threshold)


def _softmax(op: Any, log: bool = False) -> Step:
    if not isinstance(op.axis, int):
        raise NoWord("of all elements")
    return steps.Softmax(op.axis, log)


def _round(op: Any) -> Step:
    if op.decimals:
        raise NoWord(f"to {op.decimals} decimals")
    return steps.Pointwise("round")


def _clip(op: Any) -> Step:
    if not all(n is None or isinstance(n, _NUMBERS) for n in (op.x_min, op.x_max)):
        raise NoWord("a bound is a tensor")
    return steps.Clip(op.x_min, op.x_max)


def _power(call: Call) -> Link:
    base, exponent = call.operands("x1", "x2")
    if not isinstance(base, Traced) or not isinstance(exponent, _NUMBERS):
        raise NoWord("the exponent is a tensor")
    return call.link(steps.Power(float(exponent)))


# -- arithmetic --------------------------------------------------------------------------------------------------------


def _elementwise(kind: Any, ordered: bool = False) -> Builder:
    """Return the builder of an operation on two tensors, or on a tensor and a number."""

    def build(call: Call) -> Link:
        pair = call.operands("x1", "x2")
        numbers = [float(n) for n in pair if isinstance(n, _NUMBERS)]
        words: dict[str, Any] = {"constant": numbers[0]} if numbers else {}
        if numbers and ordered:
            words["reflected"] = not isinstance(pair[0], Traced)
        return Link(kind(**words), [t for t in pair if not isinstance(t, _NUMBERS)], call.results)

    return build


def _reduce(reduction: str) -> Builder:
    def build(call: Call) -> Link:
        if getattr(call.op, "initial", None) is not None:
            raise NoWord("with an initial value")
        axes = () if call.op.axis is None else axes_of(call.op.axis)
        return call.link(steps.Reduce(reduction, axes, bool(call.op.keepdims)))

    return build


def _matmul(call: Call) -> Link:
    a, b = call.operands("x1", "x2")
    if isinstance(a, Traced) and not isinstance(b, Traced) and len(b.shape) == 2:
        return call.linear(call.learn(b).map(np.transpose))
    if min(len(a.shape), len(b.shape)) < 2:
        raise NoWord("of a vector")
    return Link(steps.MatMul(), (a, b), call.results)


def _einsum(call: Call) -> Link:
    found = tracing.einsum_product(call.op.subscripts, [not isinstance(t, Traced) for t in call.args])
    if found is None:
        return Link(steps.MatMul(), call.args, call.results)
    place, axis, transposed = found
    weight = call.learn(call.args[place]).map(np.transpose if transposed else np.asarray)
    return call.linear(weight, axis=axis, x=call.args[1 - place])


# -- convolutions, norms, pools, resizing ------------------------------------------------------------------------------


def _convolution(depthwise: bool = False, transposed: bool = False) -> Builder:
    def build(call: Call) -> Link:
        x, kernel = call.operands("inputs", "kernel")
        computed = isinstance(kernel, Traced)
        learnt = call.learn(kernel.value if computed else kernel)
        *size, i, o = learnt.values.shape
        channels = call.x.shape[1 if call.layout == layouts.CHANNELS_FIRST else -1]
        groups = 1 if transposed or depthwise else channels // i
        arguments = {**vars(call.op), "kernel_size": size, "filters": i if transposed else o, "groups": groups,
                     "depth_multiplier": o if depthwise else 1, "use_bias": False}  # fmt: skip
        spec = spec_of(arguments, len(size), channels, transposed=transposed, depthwise=depthwise)
        arrays = {"kernel": learnt.map(lambda k: weights.canonical([k], depthwise=depthwise))}
        reads, note = ((x, kernel), "its kernel is computed from the data") if computed else ((x,), "")
        return Link(spec, reads, call.results, arrays, call.layout, note)

    return build


def _normalize(op: Any) -> Step:
    epsilon = keras.backend.epsilon() if op.epsilon is None else op.epsilon
    return steps.LpNorm(axes_of(op.axis), float(op.order), epsilon**0.5 if op.order == 2 else epsilon)


def _pool(kind: Any) -> Builder:
    def build(call: Call) -> Link:
        ndim = len(call.spatial)
        size = repeated(call.op.pool_size, ndim)
        strides = size if call.op.strides is None else repeated(call.op.strides, ndim)
        note = ""
        if kind is steps.AveragePool and _BACKEND == "torch" and call.op.padding == "same":
            pads = [same_pads(n, k, s, 1) for n, k, s in zip(call.spatial, size, strides, strict=True)]
            note = "edges are repeated and counted" if any(sum(pair) % 2 for pair in pads) else ""
        return call.link(kind(size, strides, call.op.padding), layout=call.layout, note=note)

    return build


def _adaptive(reduction: str) -> Builder:
    def build(call: Call) -> Link:
        size = repeated(call.op.output_size, len(call.spatial))
        return call.link(steps.AdaptivePool(size, reduction), layout=call.layout)

    return build


def resize(call: Call) -> Link:
    """Return the link of ``ops.image.resize`` or a ``Resizing`` layer."""
    if call.op.crop_to_aspect_ratio or call.op.pad_to_aspect_ratio:
        raise NoWord("it keeps the aspect ratio")
    if len(call.x.shape) != 4:
        raise NoWord("without a batch axis")
    note = f"rounded to {call.y.dtype}" if "int" in call.y.dtype else ""
    size = call.y.shape[2:] if call.layout == layouts.CHANNELS_FIRST else call.y.shape[1:-1]
    step = interpolation(call.op.interpolation, call.op.antialias, size=size)
    return call.link(step, layout=call.layout, note=note)


def interpolation(mode: str, antialias: bool = False, **size: Any) -> Step:
    """Return the step of an interpolation of Keras, whose cubic kernel depends on the backend."""
    if mode not in ("nearest", "bilinear", "bicubic", "lanczos3", "lanczos5"):
        raise NoWord(f"interpolation {mode}")
    inside = antialias or "lanczos" in mode or _BACKEND != "torch"  # pixels outside have no weight
    table = 1024 if mode == "bicubic" and _BACKEND == "tensorflow" and not antialias else None
    word = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    return steps.Resize(**size, mode=word, antialias=antialias, exclude_outside=inside, table_steps=table,
                        cubic_coefficient=-0.5 if inside else -0.75)  # fmt: skip


def _blocks(kind: Any) -> Builder:
    def build(call: Call) -> Link:
        dcr = call.layout == layouts.CHANNELS_LAST or _BACKEND == "tensorflow"
        return call.link(kind(call.op.block_size, "DCR" if dcr else "CRD"), layout=call.layout)

    return build


# -- moves -------------------------------------------------------------------------------------------------------------


def _pad(call: Call) -> Link:
    pads = np.broadcast_to(np.asarray(call.op.pad_width), (len(call.x.shape), 2)).tolist()
    value = call.operands("x", "constant_values")[1] or 0
    mode = {"edge": "replicate", "wrap": "circular"}.get(call.op.mode, call.op.mode)
    if mode == "symmetric" and _BACKEND == "torch":
        mode = "replicate"
    return call.link(steps.Pad(pads, mode, float(value)))


def _reshape(op: Any) -> Step:
    shape = tuple(map(int, op.newshape))
    if 0 in shape:
        raise NoWord(f"to the shape {shape}")
    return steps.Reshape(shape)


def _permute(call: Call) -> Link:
    """Return the link of an operation that reorders axes: it is asked on a tensor whose sizes name its axes."""
    probe = keras.KerasTensor(tuple(range(2, len(call.x.shape) + 2)))
    return call.link(steps.Permute([n - 2 for n in call.op.compute_output_spec(probe).shape]))


def _unsqueeze(x: Traced, axis: int) -> Traced:
    return Traced(ops.expand_dims(x.value, axis))


def _repeat(call: Call) -> Iterable[Link]:
    count, axis = call.op.repeats, call.op.axis
    if not isinstance(count, int) or axis is None:
        raise NoWord
    if call.x.shape[axis] == 1:
        return (call.link(steps.Expand(call.y.shape)),)
    expand = lambda x, sizes: Traced(ops.broadcast_to(x.value, sizes))  # noqa: E731
    return tracing.repeat_links(call.x, call.y, count, axis, _unsqueeze, expand)


def _getitem(call: Call) -> Iterable[Link]:
    key = call.operands("x", "key")[1]
    parts = key if isinstance(key, tuple) else (key,)
    parts = tuple(operator.index(part) if isinstance(part, np.integer) else part for part in parts)
    return tracing.index_links(call.x, parts, call.y, len(call.x.shape), lambda x, index: Traced(x.value[index]))


def _slice(call: Call) -> Link:
    starts = call.operands("inputs", "start_indices")[1]
    parts = zip(map(int, starts), call.op.shape, call.x.shape, strict=True)
    return call.link(steps.Slice([(a, None if a + n >= size else a + n, 1) for a, n, size in parts]))


def _stack(call: Call) -> Iterable[Link]:
    joined = call.operands("x")[0]
    if not all(isinstance(t, Traced) for t in joined):
        raise NoWord("of arrays, too")
    return tracing.stack_links(joined, call.y, call.op.axis % len(call.y.shape), _unsqueeze)


def _split(call: Call) -> Link:
    return call.link(steps.Split([y.shape[call.op.axis] for y in call.results], call.op.axis))


def _flip(call: Call) -> Link:
    ndim = len(call.x.shape)
    turned = {a % ndim for a in (range(ndim) if call.op.axis is None else axes_of(call.op.axis))}
    return call.link(steps.Slice([(None, None, -1 if i in turned else 1) for i in range(ndim)]))


def _take(call: Call) -> Link:
    x, indices = call.operands("x", "indices")
    if isinstance(indices, Traced) and not isinstance(x, Traced) and call.op.axis == 0 and len(x.shape) == 2:
        return Link(steps.Embedding(*x.shape), (indices,), call.results, {"weight": call.learn(x)})
    if isinstance(x, Traced) and isinstance(indices, int) and call.op.axis is not None:
        return call.link(steps.Select(call.op.axis, indices))
    raise NoWord("by positions in a tensor or list")


_SETTINGS = ("negative_slope", "alpha", "b", "threshold", "axis")
_KINDS = {name.lower(): kind for name, kind in steps.KINDS.items()}
_SAME_NAME = ("Relu", "LeakyRelu", "Elu", "Celu", "Selu", "Silu", "Mish", "Sigmoid", "HardSigmoid", "Tanh",
              "TanhShrink", "Softsign", "Squareplus", "HardShrink", "SoftShrink", "Glu")  # fmt: skip


def _named(kind: Any, op: Any) -> Step:
    """Return the step of an operation that has its name and its only setting."""
    step: Step = kind(*(getattr(op, name) for name in _SETTINGS if hasattr(op, name)))
    return step


TABLE: dict[str, Builder] = {
    **{name: _row(partial(_named, _KINDS[name.lower()])) for name in _SAME_NAME},
    **{name.capitalize(): _row(lambda _, name=name: steps.Pointwise(name)) for name in steps.FUNCTIONS},  # type: ignore[misc]
    "Absolute": _row(lambda _: steps.Pointwise("abs")),
    "ReLU": _row(_relu),
    "Relu6": _row(lambda _: steps.Clip(0, 6)),
    "HardTanh": _row(lambda _: steps.Clip(-1, 1)),
    "HardSilu": _row(lambda _: steps.HardSwish()),
    "LogSigmoid": _row(lambda _: steps.Sigmoid(log=True)),
    "Gelu": _row(lambda op: steps.GELU("tanh" if op.approximate else "none")),
    "Softplus": _row(lambda _: steps.Softplus(threshold=20 if _BACKEND == "torch" else None)),
    "Threshold": _row(_threshold),
    "Softmax": _row(_softmax),
    "LogSoftmax": _row(partial(_softmax, log=True)),
    "Round": _row(_round),
    "Clip": _row(_clip),
    "Power": _power,
    **{name: _elementwise(getattr(steps, name)) for name in ("Add", "Multiply", "Maximum", "Minimum")},
    "Subtract": _elementwise(steps.Subtract, ordered=True),
    **dict.fromkeys(("Divide", "TrueDivide"), _elementwise(steps.Divide, ordered=True)),
    **{name: _reduce(name.lower().lstrip("a")) for name in ("Mean", "Sum", "Max", "Amax", "Min", "Amin")},
    "Matmul": _matmul,
    "Einsum": _einsum,
    "Conv": _convolution(),
    "DepthwiseConv": _convolution(depthwise=True),
    "ConvTranspose": _convolution(transposed=True),
    "Normalize": _row(_normalize),
    "MaxPool": _pool(steps.MaxPool),
    "AveragePool": _pool(steps.AveragePool),
    "AdaptiveAveragePool": _adaptive("average"),
    "AdaptiveMaxPool": _adaptive("max"),
    "Resize": resize,
    "DepthToSpace": _blocks(steps.PixelShuffle),
    "SpaceToDepth": _blocks(steps.PixelUnshuffle),
    "Pad": _pad,
    "Reshape": _row(_reshape),
    "Ravel": _row(lambda _: steps.Flatten(0)),
    **dict.fromkeys(("Transpose", "Swapaxes", "Moveaxis"), _permute),
    "Squeeze": _row(lambda op: steps.Squeeze(() if op.axis is None else axes_of(op.axis))),
    "ExpandDims": _row(lambda op: steps.Unsqueeze(axes_of(op.axis))),
    "BroadcastTo": _row(lambda op: steps.Expand(tuple(map(int, op.shape)))),
    "Tile": lambda call: tracing.tile_links(call.x, call.y, axes_of(call.op.repeats)),
    "Repeat": _repeat,
    "GetItem": _getitem,
    "Slice": _slice,
    "Concatenate": lambda call: Link(steps.Concat(call.op.axis), call.operands("xs")[0], call.results),
    "Stack": _stack,
    **dict.fromkeys(("Split", "ArraySplit"), _split),
    "Unstack": lambda call: tracing.unstack_links(call.x, call.results, call.op.axis % len(call.x.shape), _unsqueeze),
    "Flip": _flip,
    "Take": _take,
}
