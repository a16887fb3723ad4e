"""What the settings of PyTorch's layers and functions mean, as steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from convspec.contract import ConvSpec
from convspec.contract.matrix_products import attention_macs, projected_attention_macs
from convspec.contract.network_words import Arguments, Meanings, NotKnown, Placed, Shape, Tensor, repeated
from convspec.errors import ShapeError
from convspec.spec import steps
from convspec.spec.steps import Step
from convspec_torch.arguments import spec_of

LINEAR = ("linear", "bilinear", "trilinear")


def with_axes(count: int, build: Callable[[Arguments], Step]) -> Callable[[Arguments], Step]:
    """Return the builder for inputs with so many axes; of fewer the step would take another one for the channels."""

    def built(a: Arguments) -> Step:
        if a.tensors and a.tensors[0].shape is not None and a.rank != count:
            raise ShapeError(f"its input has {count} axes here, batch axis included, got shape {a.shape}")
        return build(a)

    return built


def other(name: str, *shapes: Shape | None, parameters: int = 0, macs: int | None = None) -> Placed:
    """Return an operation outside the vocabulary of steps that has results of these shapes."""
    return Placed(steps.Other(name), parameters=parameters, shapes=shapes, macs=macs)


def axis_of(a: Arguments) -> Any:
    """The argument ``dim``, which PyTorch also takes by NumPy's name."""
    return a.dim if a.axis is None else a.axis


# -- convolutions and linear layers ----------------------------------------------------------------------------------


def convolution(ndim: int, transposed: bool) -> Callable[[Arguments], ConvSpec]:
    """Return the builder of a convolution layer; a lazy one has the input channels of its input."""
    names = ["out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "bias", "padding_mode"]

    def build(a: Arguments) -> ConvSpec:
        given = {name: getattr(a, name) for name in [*names, *(["output_padding"] * transposed)]}
        given["in_channels"] = vars(a).get("in_channels") or a.shape[1]
        if not transposed or a.output_size is None:
            return spec_of(given, ndim, transposed=transposed)
        least = spec_of({**given, "output_padding": 0}, ndim, transposed=True).output_shape(a.shape)[2:]
        wanted = repeated(a.output_size, ndim)[-ndim:]
        given["output_padding"] = tuple(n - m for n, m in zip(wanted, least, strict=True))
        return spec_of(given, ndim, transposed=True)

    return build


def convolution_of(ndim: int, transposed: bool) -> Callable[[Arguments], Placed]:
    """Return the builder of a convolution function, whose weight is a tensor."""

    def build(a: Arguments) -> Placed:
        first, second, *kernel = _sizes(a.weight)
        channels = (first, second * a.groups) if transposed else (second * a.groups, first)
        fields = {name: getattr(a, name) for name in ("stride", "padding", "dilation", "groups")}
        fields |= {"output_padding": a.output_padding} if transposed else {}
        fields |= dict(zip(("in_channels", "out_channels"), channels, strict=True))
        spec = spec_of(
            {**fields, "kernel_size": tuple(kernel), "bias": a.bias is not None}, ndim, transposed=transposed
        )
        return Placed(spec, "NCHW", 0)

    return build


def linear_of(a: Arguments) -> Placed:
    """Return the step of ``F.linear``."""
    features, inputs = _sizes(a.weight)
    return Placed(steps.Linear(inputs, features, a.bias is not None), parameters=0)


def _sizes(tensor: Any) -> Shape:
    if not isinstance(tensor, Tensor):
        raise NotKnown("the shape of its weight is not known")
    return tensor.sizes


# -- pools and resizing ----------------------------------------------------------------------------------------------


def window(a: Arguments, ndim: int) -> dict[str, Any]:
    """Return the fields that all pools with a window have."""
    padding = repeated(vars(a).get("padding", 0), ndim)
    return {
        "kernel_size": repeated(a.kernel_size, ndim),
        "stride": None if a.stride in (None, ()) else repeated(a.stride, ndim),
        "padding": tuple((n, n) for n in padding),
        "dilation": repeated(vars(a).get("dilation", 1), ndim),
        "ceil_mode": a.ceil_mode,
    }


def with_positions(a: Arguments, step: Step) -> Step | Placed:
    """Return the step, with a second result for the positions where these are asked for."""
    if not vars(a).get("return_indices"):
        return step
    shape = a.tensors[0].shape if a.tensors else None
    result = None if shape is None else step.output_shape(shape)
    return Placed(step, "NCHW", shapes=(result, result))


def average(a: Arguments, ndim: int) -> Step:
    """Return the step of an average pool."""
    divisor = vars(a).get("divisor_override")
    return steps.AveragePool(**window(a, ndim), count_include_pad=a.count_include_pad, divisor=divisor)


def resize(
    mode: str, where: Mapping[str, Any], *, align: bool = False, antialias: bool = False, recompute: bool = False
) -> Step:
    """Return the step of an interpolation mode to a ``size`` or by a ``scale``.

    PyTorch's nearest mode takes the pixel at ⌊i·r⌋; its cubic kernel and the treatment of the edge depend on
    ``antialias``.

    Raises:
        NotKnown: for a mode without a word.
    """
    if mode == "nearest":
        return steps.Resize(**where, coordinates="asymmetric", rounding="floor", recompute_scale=recompute)
    if mode == "nearest-exact":
        return steps.Resize(**where, recompute_scale=recompute)
    if mode not in (*LINEAR, "bicubic"):
        raise NotKnown(f"mode {mode}")
    return steps.Resize(
        **where,
        mode="cubic" if mode == "bicubic" else "linear",
        coordinates="align_corners" if align else "half_pixel",
        cubic_coefficient=-0.5 if antialias else -0.75,
        exclude_outside=antialias,
        antialias=antialias,
        recompute_scale=recompute,
    )


def interpolate(a: Arguments) -> Step:
    """Return the step of ``F.interpolate`` and of ``nn.Upsample``."""
    ndim = a.rank - 2
    size = None if a.size is None else tuple(repeated(a.size, ndim))
    scale = None if a.scale_factor is None else tuple(repeated(a.scale_factor, ndim))
    if a.mode == "area":
        return steps.AdaptivePool(size or tuple(int(n * s) for n, s in zip(a.shape[2:], scale or (), strict=True)))
    given = vars(a)
    return resize(a.mode, {"size": size, "scale": scale}, align=bool(a.align_corners),
                  antialias=bool(given.get("antialias")), recompute=bool(a.recompute_scale_factor))  # fmt: skip


def pad(numbers: Sequence[int], mode: str = "constant", value: float | None = 0) -> Step:
    """Return the step of pads that begin at the last axis, as PyTorch writes them."""
    pairs = tuple((numbers[i], numbers[i + 1]) for i in range(0, len(numbers), 2))[::-1]
    return steps.Pad(pairs, mode, float(value or 0))


def pad_layer(ndim: int, mode: str = "constant") -> Callable[[Arguments], Step]:
    """Return the builder of a pad layer."""

    def build(a: Arguments) -> Step:
        numbers = (a.padding,) * 2 * ndim if isinstance(a.padding, int) else a.padding
        return pad(numbers, mode, vars(a).get("value"))

    return build


# -- norms -----------------------------------------------------------------------------------------------------------


def batch_norm(ranks: Sequence[int]) -> Callable[[Arguments], Step]:
    """Return the builder of a batch norm layer for inputs with so many axes."""

    def build(a: Arguments) -> Step:
        if a.tensors and a.tensors[0].shape is not None and a.rank not in ranks:
            either = " or ".join(map(str, ranks))
            raise ShapeError(f"a batch norm for inputs with {either} axes got an input of shape {a.shape}")
        features = vars(a).get("num_features") or a.shape[1]
        learnt = {"scale": a.affine, "bias": a.affine and a.bias}
        return steps.BatchNorm(features, epsilon=a.eps, batch_statistics=not a.track_running_stats, **learnt)

    return build


def instance_norm(a: Arguments) -> Step:
    """Return the step of an instance norm layer."""
    kind = steps.BatchNorm if a.track_running_stats else steps.InstanceNorm
    features = vars(a).get("num_features") or a.shape[1]
    if a.tensors and a.tensors[0].shape is not None and prod(a.shape[2:]) == 1 and not a.track_running_stats:
        raise ShapeError(f"an instance norm of one pixel has no variance: its input has the shape {a.shape}")
    return kind(features, epsilon=a.eps, scale=a.affine, bias=a.affine and a.bias)


def last_axes(a: Arguments, kind: type[steps.LayerNorm], **learnt: bool) -> Step:
    """Return a norm over the axes of ``normalized_shape``."""
    shape = tuple(repeated(a.normalized_shape, 1))
    epsilon = 2.0**-23 if a.eps is None else a.eps
    return kind(shape=shape, axes=tuple(range(-len(shape), 0)), epsilon=epsilon, **learnt)


def learnt_of(a: Arguments) -> dict[str, bool]:
    """Say of a norm function which arrays it is given."""
    return {"scale": a.weight is not None, "bias": vars(a).get("bias") is not None}


# -- shapes ----------------------------------------------------------------------------------------------------------


def listed(values: Sequence[Any]) -> tuple[Any, ...]:
    """Return numbers that are given one by one or as one list."""
    return tuple(values[0]) if len(values) == 1 and isinstance(values[0], tuple | list) else tuple(values)


def reshape(sizes: Sequence[Any]) -> Step:
    """Return the step of a reshape.

    Raises:
        NotKnown: for an empty tensor, where 0 is a size.
    """
    if 0 in sizes:
        raise NotKnown(f"to the shape {tuple(sizes)}")
    return steps.Reshape(tuple(sizes))


def unflatten(dim: int, sizes: Sequence[int], shape: Shape) -> Step:
    """Return the step that makes several axes of one."""
    axis = steps.positive_axis(dim, len(shape), "unflatten")
    rest = prod(n for n in sizes if n != -1)
    full = tuple(shape[axis] // max(rest, 1) if n == -1 else n for n in sizes)
    return steps.Reshape((*shape[:axis], *full, *shape[axis + 1 :]))


def squeeze(a: Arguments) -> Step:
    """Return the step of a squeeze: PyTorch leaves axes that are larger than 1, the step refuses them."""
    if a.dim is None:
        return steps.Squeeze()
    axes = steps.positive_axes(repeated(a.dim, 1), a.rank, "squeeze")
    kept = tuple(axis for axis in axes if a.shape[axis] == 1)
    return steps.Squeeze(kept) if kept else steps.Identity()


def transpose(first: int, second: int, rank: int) -> Step:
    """Return the step that swaps two axes."""
    axes = list(range(rank))
    axes[first], axes[second] = axes[second], axes[first]
    return steps.Permute(tuple(axes))


def tile(a: Arguments) -> Meanings:
    """Return the steps of ``x.repeat(2, 1, 3)``: all elements of an axis again and again."""
    counts = listed(a.sizes)
    shape = (1,) * (len(counts) - a.rank) + a.shape
    pairs = list(zip(counts, shape, strict=True))
    return [
        steps.Reshape(tuple(n for _, size in pairs for n in (1, size))),
        steps.Expand(tuple(n for pair in pairs for n in pair)),
        steps.Reshape(tuple(count * size for count, size in pairs)),
    ]


def repeat_interleave(a: Arguments) -> Meanings:
    """Return the steps that repeat each element of an axis."""
    if a.dim is None:
        raise NotKnown("of all elements as one axis")
    axis, shape = steps.positive_axis(a.dim, a.rank, "repeat_interleave"), list(a.shape)
    wide = [*shape[: axis + 1], a.repeats, *shape[axis + 1 :]]
    shape[axis] *= a.repeats
    return [steps.Unsqueeze((axis + 1,)), steps.Expand(wide), steps.Reshape(shape)]


def stack(a: Arguments) -> Meanings:
    """Return the steps of a stack: joined along the new axis' place, which then is divided."""
    dim, count = axis_of(a), len(a.tensors)
    axis, shape = steps.positive_axis(dim, a.rank + 1, "stack"), a.shape
    if axis == len(shape):
        made = steps.Reshape((*shape[:-1], count, shape[-1]))
        return [steps.Concat(axis - 1), made, transpose(-1, -2, len(shape) + 1)]
    return [steps.Concat(axis), steps.Reshape((*shape[:axis], count, *shape[axis:]))]


def split(a: Arguments, sizes: Callable[[int], Sequence[int]]) -> Step:
    """Return the step that divides an axis of some size into parts."""
    return steps.Split(tuple(sizes(a.shape[steps.positive_axis(a.dim, a.rank, "split")])), a.dim)


def parts(length: int, size: int) -> list[int]:
    """Return sizes of parts of ``size`` elements, the last one smaller."""
    return [min(size, length - i) for i in range(0, length, max(size, 1))] or [0]


# -- arithmetic ------------------------------------------------------------------------------------------------------


def elementwise(kind: Any, *, ordered: bool = False) -> Callable[[Arguments], Step]:
    """Return the builder of an operation on two tensors, or on a tensor and a number."""

    def build(a: Arguments) -> Step:
        if vars(a).get("alpha", 1) != 1:
            raise NotKnown(f"alpha {a.alpha}")
        numbers = [float(v) for v in (a.input, a.other) if isinstance(v, int | float)]
        fields: dict[str, Any] = {"constant": numbers[0]} if numbers else {}
        if numbers and ordered:
            fields["reflected"] = not isinstance(a.input, Tensor)
        step: Step = kind(**fields)
        return step

    return build


def reduce(reduction: str, *, positions: bool = False) -> Callable[[Arguments], Meanings]:
    """Return the builder of a reduction; with ``positions`` one along an axis has two results."""

    def build(a: Arguments) -> Meanings:
        if len(a.tensors) == 2:
            return steps.Maximum() if reduction == "max" else steps.Minimum()
        dim = axis_of(a)
        step = steps.Reduce(reduction, () if dim is None else tuple(repeated(dim, 1)), a.keepdim)
        if dim is None or not positions:
            return step
        shape = None if a.tensors[0].shape is None else step.output_shape(a.shape)
        return Placed(step, shapes=(shape, shape))

    return build


def power(a: Arguments) -> Step:
    """Return the step of a tensor to a fixed power."""
    if not isinstance(a.exponent, int | float) or not isinstance(a.input, Tensor):
        raise NotKnown("the exponent is a tensor")
    return steps.Power(float(a.exponent))


def same_shape(name: str) -> Callable[[Arguments], Placed]:
    """Return the builder of an operation without a step whose result has the shape of its input."""
    return lambda a: other(name, a.tensors[0].shape)


def spread(name: str) -> Callable[[Arguments], Placed]:
    """Return the builder of a standard deviation or variance."""

    def build(a: Arguments) -> Placed:
        axes = () if a.dim is None else tuple(repeated(a.dim, 1))
        return other(name, steps.Reduce("mean", axes, a.keepdim).output_shape(a.shape))

    return build


def product(a: Arguments) -> Step:
    """Return the step of a matrix product."""
    if any(len(t.sizes) < 2 for t in a.tensors):
        raise NotKnown("of a vector")
    return steps.MatMul()


def dot_product_attention(a: Arguments) -> Placed:
    """Return attention of ``(…, heads, L, E)``."""
    (*heads, queries, _), (keys, width) = a.query.sizes, a.key.sizes[-2:]
    values = a.value.sizes[-1]
    macs = attention_macs(queries, keys, width + values, prod(heads))
    return other("attention", (*heads, queries, values), macs=macs)


# -- layers whose values have no words -------------------------------------------------------------------------------


def recurrent(gates: int) -> Callable[[Arguments], Placed]:
    """Return the builder of a recurrent layer with so many gates: what it gives for each time, and its state."""

    def build(a: Arguments) -> Placed:
        hidden, ways = a.hidden_size, 1 + a.bidirectional
        if vars(a).get("proj_size"):
            raise NotKnown("it has a projection")
        inputs = [a.input_size] + [hidden * ways] * (a.num_layers - 1)
        numbers = sum(ways * gates * hidden * (n + hidden + 2 * a.bias) for n in inputs)
        shape = a.tensors[0].shape if a.tensors else None
        if shape is not None and shape[-1] != a.input_size:
            raise ShapeError(f"the last axis of shape {shape} must be input_size={a.input_size}")
        products = numbers - sum(2 * ways * gates * hidden * a.bias for _ in inputs)
        macs = None if shape is None else prod(shape[:-1]) * products
        return other("recurrent", shape and (*shape[:-1], hidden * ways), None, parameters=numbers, macs=macs)

    return build


def attention(a: Arguments) -> Placed:
    """Return the step of ``nn.MultiheadAttention``: its result has the shape of the query."""
    width = a.embed_dim
    inner = width + (a.kdim or width) + (a.vdim or width) + width
    extra = (4 * width if a.bias else 0) + (2 * width if a.add_bias_kv else 0)
    shape = a.tensors[0].shape if a.tensors else None
    macs = projected_attention_macs(
        [t.shape for t in a.tensors[:3]], (width, width, width), [_length(a)], a.add_bias_kv + a.add_zero_attn
    )
    return other("attention", shape, None, parameters=width * inner + extra, macs=macs)


def _length(a: Arguments) -> int:
    """Return the axis of a sequence's positions."""
    rank = len(a.tensors[0].shape or ()) if a.tensors else 0
    return -2 if a.batch_first or rank < 3 else 0


def encoder(a: Arguments) -> Placed:
    """Return the step of ``nn.TransformerEncoderLayer``."""
    width, wide, bias = a.d_model, a.dim_feedforward, int(a.bias)
    numbers = 4 * width * (width + bias) + 2 * width * wide + bias * (width + wide) + 2 * width * (1 + bias)
    shape = a.tensors[0].shape if a.tensors else None
    macs = projected_attention_macs([shape], (width, width, width), [_length(a)])
    macs = None if macs is None or shape is None else macs + 2 * prod(shape) * wide
    return other("transformer encoder", shape, parameters=numbers, macs=macs)
