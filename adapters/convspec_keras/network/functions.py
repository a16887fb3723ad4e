"""Functions of ``keras.ops``, ``keras.backend``, TensorFlow and Keras' lower-case layers, as words."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from convspec.contract.matrix_products import einsum
from convspec.contract.network_words import Arguments, Meanings, NotKnown, Placed, Symbol, Tensor, Value, Word
from convspec.spec import steps
from convspec_keras.network.activations import ACTIVATIONS
from convspec_keras.network.layers import average, each, layout_of, merged, placed, resize
from convspec_keras.network.opaque import stated


def _elementwise(kind: Any, ordered: bool = False) -> Word:
    """Return the word of an operation on two tensors, on a tensor and a number, or on a list of tensors."""

    def build(a: Arguments) -> Meanings:
        pair = [a.x1, a.x2]
        if isinstance(a.x1, list | tuple):
            return merged(kind)(a)
        numbers = [n for n in pair if isinstance(n, int | float)]
        if any(isinstance(n, Symbol) for n in pair):
            raise NotKnown("an operand is not known")
        words = {"reflected": True} if ordered and numbers and not isinstance(a.x1, Tensor) else {}
        return kind(**({"constant": float(numbers[0])} if numbers else {}), **words)  # type: ignore[no-any-return]

    return Word("x1, x2=None, name=None", build)


def _reduce(reduction: str) -> Word:
    def build(a: Arguments) -> Meanings:
        axes = () if a.axis is None else each(a.axis, 1)
        return steps.Reduce(reduction, axes, bool(a.keepdims))

    return Word("x, axis=None, keepdims=False, name=None", build)


def _numbers(value: Any) -> tuple[int, ...]:
    """Return sizes; raises NotKnown where one is not known."""
    sizes = each(value, 1)
    if not all(isinstance(n, int) for n in sizes):
        raise NotKnown("a size is not known")
    return sizes


def _squeeze(a: Arguments) -> Meanings:
    return steps.Squeeze(() if a.axis is None else each(a.axis, 1))


def _permute(a: Arguments) -> Meanings:
    return steps.Permute(tuple(reversed(range(a.rank))) if a.axes is None else a.axes)


def _swap(a: Arguments) -> Meanings:
    axes = list(range(a.rank))
    axes[a.axis1], axes[a.axis2] = axes[a.axis2], axes[a.axis1]
    return steps.Permute(axes)


def _concat(axis: int | None) -> Word:
    default = "" if axis is None else f"={axis}"
    return Word(f"xs, axis{default}, name=None", lambda a: steps.Concat(a.axis))


def _split(counts: bool) -> Word:
    """Return the word of a split; where a list has the sizes, not the places, of the parts it ``counts``."""

    def build(a: Arguments) -> Meanings:
        size, parts = a.shape[a.axis], a.parts
        if isinstance(parts, int):
            sizes = [size // parts] * parts
        else:
            places = [0, *parts, size]
            sizes = list(parts) if counts else [end - start for start, end in pairwise(places)]
        return steps.Split(sizes, a.axis)

    name = "num_or_size_splits" if counts else "indices_or_sections"
    return Word(f"x, {name}, axis=0, name=None", lambda a: build(_also(a, "parts", name)))


def _also(a: Arguments, name: str, other: str) -> Arguments:
    """Return arguments with one of them under another name, too."""
    return Arguments({**vars(a), name: vars(a)[other]}, a.tensors)


def _pad(a: Arguments) -> Meanings:
    pads = each(a.pad_width, 1)
    pairs = [each(p, 2) for p in (pads if len(pads) == a.rank else [pads] * a.rank)]
    return steps.Pad(pairs, {"edge": "replicate"}.get(a.mode.lower(), a.mode.lower()), float(a.constant_values or 0))


def _pool(kind: Any, size: str = "pool_size") -> Word:
    def build(a: Arguments) -> Meanings:
        window, ndim = vars(a)[size], a.rank - 2
        sizes, strides = (_window(n, ndim) for n in (window, window if a.strides is None else a.strides))
        return placed(a, kind(sizes, strides, a.padding.lower()))

    return Word(f"inputs, {size}, strides=None, padding='valid', data_format=None, name=None", build)


def _window(value: Any, ndim: int) -> tuple[int, ...]:
    sizes = each(value, ndim)
    return sizes[1:-1] if len(sizes) == ndim + 2 else sizes


def _resize(a: Arguments) -> Meanings:
    mode = str(a.interpolation if a.method is None else getattr(a.method, "text", a.method)).rpartition(".")[2].lower()
    mode = {"nearest_neighbor": "nearest"}.get(mode, mode)
    return placed(a, resize(mode, a.antialias, size=_numbers(a.size)))


def _blocks(kind: Any) -> Word:
    build = lambda a: Placed(kind(a.block_size, "DCR"), layout_of(a))  # noqa: E731
    return Word("x, block_size, data_format=None, name=None", build)


def _normalize(a: Arguments) -> Meanings:
    axes = tuple(range(a.rank)) if a.axis is None else each(a.axis, 1)
    return steps.LpNorm(axes, float(a.order), (a.epsilon or 1e-12) ** 0.5 if a.order == 2 else a.epsilon or 1e-7)


def _matmul(a: Arguments) -> Meanings:
    if len(a.tensors) < 2:
        raise NotKnown("an operand is not known")
    turned = [t for t, flag in zip(a.tensors, (a.transpose_a, a.transpose_b), strict=False) if flag]
    if turned:
        raise NotKnown("an operand is transposed in it")
    return steps.MatMul()


def _stack(a: Arguments) -> Meanings:
    shape, axis = list(a.shape), a.axis % (a.rank + 1)
    shape.insert(axis, len(a.tensors))
    return stated([tuple(shape)], 0, "stack of tensors")


def _shape(a: Arguments) -> Value:
    sizes = a.tensors[0].shape if a.tensors else None
    return Value(Symbol("shape") if sizes is None else sizes)


def _random(a: Arguments) -> Value:
    """Return a new tensor, which depends on no input."""
    sizes = each(vars(a)["shape"], 1)
    return Value(Tensor(-1, sizes if all(isinstance(n, int) for n in sizes) else None))


def _arange(a: Arguments) -> Value:
    start, stop = (0, a.start) if a.stop is None else (a.start, a.stop)
    known = all(isinstance(n, int) for n in (start, stop, a.step))
    return Value(Tensor(-1, (len(range(start, stop, a.step)),) if known else None))


def _patches(a: Arguments) -> Meanings:
    high, wide = each(a.size, 2)
    batch, height, width, features = a.shape
    return stated([(batch, height // high, width // wide, high * wide * features)], 0, "patches of an image")


def _same(a: Arguments) -> Value:
    return Value(a.tensors[0] if a.tensors else Symbol("a value"))


def _power(a: Arguments) -> Meanings:
    if not isinstance(a.x2, int | float):
        raise NotKnown("its exponent is not known")
    return steps.Power(float(a.x2))


def _input_shape(a: Arguments) -> Value:
    """Return the input's shape of a model of ``keras.applications``."""
    default = (a.default_size,) * 2 if a.require_flatten else (None, None)
    return Value((*default, 3) if vars(a)["input_shape"] is None else tuple(vars(a)["input_shape"]))


def _correct_pad(a: Arguments) -> Value:
    """Return the pads that ``keras.applications`` puts before a convolution with stride 2."""
    size = each(a.kernel_size, 2)
    return Value(tuple((k // 2 - 1 + n % 2, k // 2) for n, k in zip(a.shape[1:3], size, strict=True)))


def _pairs(names: str, word: Word) -> dict[str, Word]:
    return dict.fromkeys(names.split(), word)


_REDUCTIONS = {"mean": "mean", "sum": "sum", "max": "max", "amax": "max", "min": "min", "amin": "min"}
_SHAPED = "shape, mean=0.0, stddev=1.0, dtype=None, seed=None, *, minval=0.0, maxval=1.0, name=None"
_RESIZE = (
    "images, size, interpolation='bilinear', antialias=False, *, method=None, preserve_aspect_ratio=False, "
    "crop_to_aspect_ratio=False, pad_to_aspect_ratio=False, fill_mode=None, fill_value=0.0, data_format=None, name=None"
)
_POINTWISE: Callable[[str], Word] = lambda name: Word("x, name=None", steps.Pointwise(name))  # noqa: E731
FUNCTIONS: dict[str, Word] = {
    **ACTIVATIONS,
    "ops.gelu": Word("x, approximate=True, name=None", ACTIVATIONS["gelu"].build),
    **{name: _POINTWISE(name) for name in steps.FUNCTIONS},
    "absolute": _POINTWISE("abs"),
    **{name: _elementwise(getattr(steps, name.capitalize())) for name in ("add", "multiply", "maximum", "minimum")},
    "subtract": _elementwise(steps.Subtract, ordered=True),
    **_pairs("divide true_divide", _elementwise(steps.Divide, ordered=True)),
    "add_n": Word("xs, name=None", merged(steps.Add)),
    "average": Word("xs, name=None", average),
    **_pairs("power pow", Word("x1, x2, name=None", _power)),
    **{f"{prefix}{name}": _reduce(r) for prefix in ("", "reduce_") for name, r in _REDUCTIONS.items()},
    "einsum": Word("subscripts, *operands", lambda a: einsum(a.subscripts, a.tensors)),
    "matmul": Word("x1, x2, transpose_a=False, transpose_b=False, name=None", _matmul),
    "concatenate": _concat(-1), "ops.concatenate": _concat(0), "concat": _concat(None),
    "stack": Word("x, axis=0, name=None", _stack),
    "split": _split(counts=False), "tf.split": _split(counts=True),
    **_pairs("reshape", Word("x, newshape=None, *, shape=None, target_shape=None, name=None", lambda a: steps.Reshape(
        _numbers(vars(a)["newshape"] or vars(a)["shape"])))),
    **_pairs("flatten batch_flatten", Word("x, data_format=None", steps.Flatten())),
    "transpose": Word("x, axes=None, *, perm=None, name=None", lambda a: _permute(
        a if a.perm is None else _also(a, "axes", "perm"))),
    "permute_dimensions": Word("x, pattern", lambda a: steps.Permute(a.pattern)),
    "swapaxes": Word("x, axis1, axis2", _swap),
    "expand_dims": Word("x, axis=-1, name=None", lambda a: steps.Unsqueeze(each(a.axis, 1))),
    "squeeze": Word("x, axis=None, name=None", _squeeze),
    "broadcast_to": Word("x, newshape, name=None", lambda a: steps.Expand(_numbers(a.newshape))),
    "pad": Word("x, pad_width, mode='constant', constant_values=0, name=None", _pad),
    "tf.pad": Word("tensor, paddings, mode='CONSTANT', constant_values=0, name=None", lambda a: _pad(
        _also(a, "pad_width", "paddings"))),
    "clip": Word("x, x_min, x_max", lambda a: steps.Clip(a.x_min, a.x_max)),
    "clip_by_value": Word("x, x_min, x_max, name=None", lambda a: steps.Clip(a.x_min, a.x_max)),
    "max_pool": _pool(steps.MaxPool), "average_pool": _pool(steps.AveragePool),
    **{f"{name}_pool{n}d": _pool(kind, "ksize") for n in (1, 2, 3)
       for name, kind in (("max", steps.MaxPool), ("avg", steps.AveragePool))},
    "nn.max_pool": _pool(steps.MaxPool, "ksize"), "nn.avg_pool": _pool(steps.AveragePool, "ksize"),
    "image.extract_patches": Word("images, size", _patches),
    **_pairs("arange range", Word("start, stop=None, step=1, dtype=None", _arange)),
    "image.resize": Word(_RESIZE, _resize),
    "depth_to_space": _blocks(steps.PixelShuffle), "space_to_depth": _blocks(steps.PixelUnshuffle),
    "normalize": Word("x, axis=-1, order=2, epsilon=None", _normalize),
    "l2_normalize": Word("x, axis=None, epsilon=1e-12, name=None, order=2", _normalize),
    "dropout": Word("x, rate, *, noise_shape=None, seed=None, name=None", lambda a: steps.Dropout(a.rate)),
    **_pairs("cast identity convert_to_tensor stop_gradient", Word("x, dtype=None, *, name=None", _same)),
    **_pairs("shape int_shape", Word("x, *, name=None", _shape)),
    "ndim": Word("x", lambda a: Value(Symbol("ndim") if a.tensors[0].shape is None else a.rank)),
    "image_data_format": Word("", Value("channels_last")),
    "epsilon": Word("", Value(1e-7)),
    "backend": Word("", Value("tensorflow")),
    "obtain_input_shape": Word("input_shape, default_size, min_size, data_format, require_flatten, weights=None",
                               _input_shape),
    "correct_pad": Word("inputs, kernel_size", _correct_pad),
    **_pairs("random.normal random.uniform random_normal random_uniform", Word(_SHAPED, _random)),
}  # fmt: skip
