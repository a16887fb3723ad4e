"""Layers of Keras as words: the same meanings as in the trace of a live model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from convspec.contract import ConvSpec
from convspec.contract.network_words import Arguments, Meaning, Meanings, NotKnown, Placed, Word
from convspec.errors import ShapeError
from convspec.spec import steps
from convspec.spec.steps import Step
from convspec_keras.arguments import spec_of
from convspec_keras.network.activations import ACTIVATIONS, activation, leaky, relu
from convspec_keras.network.opaque import OPAQUE

_BASE = (
    "name=None, dtype=None, trainable=True, autocast=True, input_shape=None, batch_input_shape=None, batch_size=None, "
    "activity_regularizer=None, weights=None"
)
_KERNELS = ", ".join(f"{array}_{what}=None" for array in ("kernel", "bias", "depthwise", "pointwise")
                     for what in ("initializer", "regularizer", "constraint"))  # fmt: skip
_NORMS = ", ".join(f"{array}_{what}=None" for array in ("beta", "gamma")
                   for what in ("initializer", "regularizer", "constraint"))  # fmt: skip


def layer(signature: str, build: Any, *more: str) -> Word:
    """Return the word of a layer, with the arguments that all layers have."""
    named = ", ".join([_BASE, *more])
    return Word(f"{signature}{', ' if signature else ''}*, {named}", build)


def layout_of(a: Arguments) -> str:
    """Return the layout that ``data_format`` names; by default channels are last."""
    return "NCHW" if getattr(a, "data_format", None) == "channels_first" else "NHWC"


def spatial(a: Arguments) -> tuple[int, ...]:
    """Return the sizes of the spatial axes."""
    return a.shape[2:] if layout_of(a) == "NCHW" else a.shape[1:-1]


def channels(a: Arguments) -> int:
    """Return the number of channels."""
    return a.shape[1 if layout_of(a) == "NCHW" else -1]


def each(value: Any, ndim: int) -> tuple[Any, ...]:
    """Return one value for each spatial axis."""
    return tuple(value) if isinstance(value, list | tuple) else (value,) * ndim


def placed(a: Arguments, *made: ConvSpec | Step) -> list[Meaning]:
    """Return steps in the layout of the arguments."""
    return [Placed(step, layout_of(a)) for step in made]


# -- layers with weights -----------------------------------------------------------------------------------------------

_AFTER = "activation=None, use_bias=True"
_BETWEEN = "strides=1, padding='valid'"


def _convolution(signature: str, ndim: int, transposed: bool = False, depthwise: bool = False) -> Word:
    def build(a: Arguments) -> Meanings:
        spec = spec_of(vars(a), ndim, _input_channels(a, ndim), transposed=transposed, depthwise=depthwise)
        return [*placed(a, spec), *activation(a, a.activation)]

    return layer(signature, build, _KERNELS)


def _input_channels(a: Arguments, ndim: int) -> int:
    """Return the channels of the input, or of an ``input_shape``, as the first layer of older models has it."""
    given = a.input_shape if not a.tensors and isinstance(a.input_shape, tuple | list) else ()
    found = given[0 if layout_of(a) == "NCHW" else -1] if len(given) == ndim + 1 else None
    return found if isinstance(found, int) else channels(a)


def _separable(ndim: int) -> Word:
    def build(a: Arguments) -> Meanings:
        given = vars(a)
        one = spec_of({**given, "use_bias": False}, ndim, _input_channels(a, ndim), transposed=False, depthwise=True)
        pointwise = {"filters": a.filters, "kernel_size": 1, "use_bias": a.use_bias}
        two = spec_of(pointwise, ndim, one.out_channels, transposed=False, depthwise=False)
        return [*placed(a, one, two), *activation(a, a.activation)]

    signature = f"filters, kernel_size, {_BETWEEN}, data_format=None, dilation_rate=1, depth_multiplier=1, {_AFTER}"
    return layer(signature, build, _KERNELS)


def _dense(a: Arguments) -> Meanings:
    return [steps.Linear(a.shape[-1], a.units, a.use_bias), *activation(a, a.activation)]


def _axes(axis: Any) -> tuple[int, ...]:
    return tuple(axis) if isinstance(axis, list | tuple) else (axis,)


def _batch_norm(a: Arguments) -> Step:
    (axis,) = _axes(a.axis)
    return steps.BatchNorm(a.shape[axis], axis=axis, epsilon=a.epsilon, scale=a.scale, bias=a.center)


def _layer_norm(a: Arguments) -> Step:
    axes = _axes(a.axis)
    sizes = [a.shape[axis] for axis in axes]
    return steps.LayerNorm(sizes, axes, epsilon=a.epsilon, scale=a.scale, bias=a.center)


def _rms_norm(a: Arguments) -> Step:
    axes = _axes(a.axis)
    return steps.RMSNorm([a.shape[axis] for axis in axes], axes, epsilon=a.epsilon)


def _group_norm(a: Arguments) -> Step:
    words: dict[str, Any] = {"axis": a.axis, "epsilon": a.epsilon, "scale": a.scale, "bias": a.center}
    size = a.shape[a.axis]
    if a.groups in (-1, size):
        return steps.InstanceNorm(size, **words)
    return steps.GroupNorm(size, groups=a.groups, **words)


def _prelu(a: Arguments) -> Step:
    shared = _axes(a.shared_axes) if a.shared_axes is not None else ()
    return steps.PReLU([1 if i in shared else n for i, n in enumerate(a.shape[1:], 1)])


# -- pools, moves and merges -------------------------------------------------------------------------------------------


def _pool(kind: Any, ndim: int) -> Word:
    def build(a: Arguments) -> Meanings:
        size = each(a.pool_size, ndim)
        return placed(a, kind(size, size if a.strides is None else each(a.strides, ndim), a.padding.lower()))

    return layer("pool_size=2, strides=None, padding='valid', data_format=None", build)


def _global(reduction: str) -> Word:
    build = lambda a: placed(a, steps.GlobalPool(reduction, keepdims=a.keepdims))  # noqa: E731
    return layer("data_format=None, keepdims=False", build)


def _adaptive(reduction: str, ndim: int) -> Word:
    build = lambda a: placed(a, steps.AdaptivePool(each(a.output_size, ndim), reduction))  # noqa: E731
    return layer("output_size, data_format=None", build)


def _pad(name: str, default: int, sign: int, ndim: int) -> Word:
    def build(a: Arguments) -> Step:
        value = getattr(a, name)
        if ndim == 1 and isinstance(value, list | tuple):
            value = (value,)
        pairs = [(sign * lo, sign * hi) for lo, hi in (each(pair, 2) for pair in each(value, ndim))]
        if a.rank == ndim + 2 and any(n + lo + hi < 1 for n, (lo, hi) in zip(spatial(a), pairs, strict=True)):
            raise ShapeError(f"it crops all pixels of an axis of shape {a.shape}")
        return steps.Pad([*pairs, *([(0, 0)] if layout_of(a) == "NHWC" else [])])

    return layer(f"{name}={default}, data_format=None", build)


def _upsampling(ndim: int) -> Word:
    def build(a: Arguments) -> Meanings:
        return placed(a, resize(a.interpolation, scale=each(a.size, ndim)))

    return layer("size=2, data_format=None, interpolation='nearest'", build)


def resize(mode: str, antialias: bool = False, **size: Any) -> Step:
    """Return the step of an interpolation, as Keras on TensorFlow computes it.

    Raises:
        NotKnown: for an interpolation without a word.
    """
    word = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    if word not in ("nearest", "linear", "cubic", "lanczos3", "lanczos5"):
        raise NotKnown(f"its interpolation {mode!r} has no word")
    table = 1024 if word == "cubic" and not antialias else None
    return steps.Resize(**size, mode=word, antialias=antialias, exclude_outside=True, table_steps=table,
                        cubic_coefficient=-0.5)  # fmt: skip


def _resizing(a: Arguments) -> Meanings:
    if a.crop_to_aspect_ratio or a.pad_to_aspect_ratio:
        raise NotKnown("it keeps the aspect ratio")
    return placed(a, resize(a.interpolation, a.antialias, size=(a.height, a.width)))


def _crop_to(a: Arguments) -> Step:
    cuts = [n - m for n, m in zip(spatial(a), (a.height, a.width), strict=True)]
    if min(cuts) < 0:
        raise NotKnown("its input is smaller, and is resized")
    pairs = [(-(n // 2), n // 2 - n) for n in cuts]
    return steps.Pad([*pairs, *([(0, 0)] if layout_of(a) == "NHWC" else [])])


def _flatten(a: Arguments) -> Meanings:
    if a.rank == 1:
        return steps.Unsqueeze(1)
    return placed(a, steps.Flatten(order="NHWC")) if a.rank > 2 else steps.Flatten()


def _repeat(a: Arguments) -> Meanings:
    return [steps.Unsqueeze(1), steps.Expand((-1, a.n, -1))]


def _rescaling(a: Arguments) -> Meanings:
    if not all(isinstance(n, int | float) for n in (a.scale, a.offset)):
        raise NotKnown("it scales by several numbers")
    return [steps.Multiply(float(a.scale)), *([steps.Add(float(a.offset))] if a.offset else [])]


def merged(kind: Any) -> Callable[[Arguments], Meanings]:
    """Return what builds a step on several tensors of one rank, or on a tensor and a number."""

    def build(a: Arguments) -> Meanings:
        if len({len(t.sizes) for t in a.tensors}) > 1:
            raise NotKnown("its inputs have different numbers of axes")
        return kind()  # type: ignore[no-any-return]

    return build


def average(a: Arguments) -> Meanings:
    """Return the mean of several tensors."""
    return [steps.Add(), steps.Divide(float(len(a.tensors)))]


def _dropout(unit: str) -> Word:
    def build(a: Arguments) -> Meanings:
        step = steps.Dropout(a.rate, unit)
        return placed(a, step) if unit == "channel" else step

    return layer(f"rate, {'data_format' if unit == 'channel' else 'noise_shape'}=None, seed=None", build)


def _time_distributed(a: Arguments) -> Meanings:
    """Return a layer applied to every position of axis 1: the axis is joined with the batch before it."""
    inner = a.layer
    if not hasattr(inner, "word"):
        raise NotKnown("it applies a model to every step")
    batch, time, *rest = a.shape
    first = type(a.tensors[0])(a.tensors[0].number, (batch * time, *rest))
    made = inner.word.means(Arguments(inner.arguments, [first]))
    listed: Sequence[Any] = made if isinstance(made, list | tuple) else [made]
    sizes: tuple[int, ...] = first.sizes
    for one in listed:
        step, layout = (one.step, one.layout) if isinstance(one, Placed) else (one, "")
        sizes = step.output_shape(sizes, layout=layout or "NCHW")
    return [steps.Reshape((batch * time, *rest)), *listed, steps.Reshape((batch, time, *sizes[1:]))]


_SAME = {
    **dict.fromkeys(("Identity", "Masking", "ActivityRegularization", "RandomFlip", "RandomInvert", "AutoContrast"),
                    "value=None, seed=None, data_format=None, l1=0.0, l2=0.0, mask_value=0.0, mode=None"),
    **{f"Random{name}": "factor=None, second=None, seed=None, *, fill_mode=None, interpolation=None, fill_value=None, "
       "value_range=None, data_format=None, height_factor=None, width_factor=None, x_factor=None, y_factor=None"
       for name in ("Rotation", "Zoom", "Contrast", "Translation", "Brightness", "Shear", "Hue", "Saturation")},
    **dict.fromkeys(("GaussianNoise", "GaussianDropout"), "amount=None, seed=None, *, stddev=None, rate=None"),
}  # fmt: skip
"""Layers that give their input at inference, with arguments that do not matter."""


def _at_inference(signature: str) -> Word:
    star = "" if "*" in signature else "*, "
    return Word(f"{signature}, {star}{_BASE}", steps.Identity())


def _of_rank(n: int) -> dict[str, Word]:
    """Return the layers that have a number of spatial axes in their names."""
    regular = f"filters, kernel_size, {_BETWEEN}, data_format=None, dilation_rate=1, groups=1, {_AFTER}"
    middle = "data_format=None, output_padding=None" if n == 3 else "output_padding=None, data_format=None"
    transposed = f"filters, kernel_size, {_BETWEEN}, {middle}, dilation_rate=1, {_AFTER}"
    depthwise = f"kernel_size, {_BETWEEN}, depth_multiplier=1, data_format=None, dilation_rate=1, {_AFTER}"
    found = {
        "Conv": _convolution(regular, n),
        "ConvTranspose": _convolution(transposed, n, transposed=True),
        "DepthwiseConv": _convolution(depthwise, n, depthwise=True),
        "SeparableConv": _separable(n),
        "MaxPooling": _pool(steps.MaxPool, n),
        "AveragePooling": _pool(steps.AveragePool, n),
        "GlobalAveragePooling": _global("average"),
        "GlobalMaxPooling": _global("max"),
        "AdaptiveAveragePooling": _adaptive("average", n),
        "AdaptiveMaxPooling": _adaptive("max", n),
        "ZeroPadding": _pad("padding", 1, 1, n),
        "Cropping": _pad("cropping", 1 if n != 2 else 0, -1, n),
        "UpSampling": _upsampling(n),
        "SpatialDropout": _dropout("channel"),
    }
    return {f"{name.removesuffix('Transpose')}{n}D{'Transpose' * name.endswith('Transpose')}": w
            for name, w in found.items()}  # fmt: skip


ALIASES = {"Convolution": "Conv", "SeparableConvolution": "SeparableConv", "MaxPool": "MaxPooling",
           "AvgPool": "AveragePooling", "GlobalMaxPool": "GlobalMaxPooling",
           "GlobalAvgPool": "GlobalAveragePooling"}  # fmt: skip
"""Other names of classes, without the number of axes."""

_NORM = "center=True, scale=True"
_LAYERS: dict[str, Word] = {
    **{name: word for n in (1, 2, 3) for name, word in _of_rank(n).items()},
    "Dense": layer(f"units, {_AFTER}", _dense, _KERNELS, "input_dim=None"),
    "Embedding": layer("input_dim, output_dim, embeddings_initializer=None", lambda a: steps.Embedding(
        a.input_dim, a.output_dim), "embeddings_regularizer=None", "embeddings_constraint=None", "mask_zero=False",
        "input_length=None"),
    "BatchNormalization": layer(f"axis=-1, momentum=0.99, epsilon=1e-3, {_NORM}", _batch_norm, _NORMS, *(
        f"{n}=None" for n in ("moving_mean_initializer", "moving_variance_initializer", "synchronized", "renorm",
                              "renorm_clipping", "renorm_momentum", "fused", "virtual_batch_size"))),
    "LayerNormalization": layer(f"axis=-1, epsilon=1e-3, {_NORM}", _layer_norm, _NORMS, "rms_scaling=False"),
    "RMSNormalization": layer("axis=-1, epsilon=1e-6", _rms_norm),
    "GroupNormalization": layer(f"groups=32, axis=-1, epsilon=1e-3, {_NORM}", _group_norm, _NORMS),
    "UnitNormalization": layer("axis=-1", lambda a: steps.LpNorm(_axes(a.axis), 2.0, 1e-6)),
    "Activation": layer("activation", lambda a: activation(a, a.activation) or steps.Identity()),
    "ReLU": layer("max_value=None, negative_slope=0.0, threshold=0.0", relu),
    "LeakyReLU": layer("negative_slope=0.3", leaky, "alpha=None"),
    "ELU": layer("alpha=1.0", ACTIVATIONS["elu"].build),
    "ThresholdedReLU": layer("theta=1.0", lambda a: steps.ThresholdedReLU(float(a.theta))),
    "Softmax": layer("axis=-1", ACTIVATIONS["softmax"].build),
    "PReLU": layer("alpha_initializer=None, alpha_regularizer=None, alpha_constraint=None, shared_axes=None", _prelu),
    "Dropout": _dropout("element"),
    "AlphaDropout": _dropout("alpha"),
    "Flatten": layer("data_format=None", _flatten),
    "Reshape": layer("target_shape", lambda a: steps.Reshape((0, *each(a.target_shape, 1)))),
    "Permute": layer("dims", lambda a: steps.Permute((0, *a.dims))),
    "RepeatVector": layer("n", _repeat),
    "Resizing": layer("height, width, interpolation='bilinear', crop_to_aspect_ratio=False, pad_to_aspect_ratio=False, "
                      "fill_mode=None, fill_value=0.0, antialias=False, data_format=None", _resizing),
    "CenterCrop": layer("height, width, data_format=None", _crop_to),
    "RandomCrop": layer("height, width, seed=None, data_format=None", _crop_to),
    "Rescaling": layer("scale, offset=0.0", _rescaling),
    "Concatenate": layer("axis=-1", lambda a: steps.Concat(a.axis)),
    "Average": layer("", average),
    **{name: layer("", merged(getattr(steps, name))) for name in ("Add", "Subtract", "Multiply", "Maximum", "Minimum")},
    "TimeDistributed": layer("layer", _time_distributed),
    **{name: _at_inference(signature) for name, signature in _SAME.items()},
    **{name: layer(signature, build) for name, (signature, build) in OPAQUE.items()},
}  # fmt: skip
LAYERS = _LAYERS | {
    f"{alias}{tail}": word
    for alias, name in ALIASES.items()
    for tail in (f"{n}D{t}" for n in (1, 2, 3) for t in ("", "Transpose"))
    if (word := _LAYERS.get(f"{name}{tail}"))
}
