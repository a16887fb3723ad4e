"""The words of JAX that users of Flax and Equinox share: functions of jax.nn, jax.numpy and jax.image, and methods.

Standard library only: the framework is not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from math import prod
from typing import Any

from convspec.contract import einops_words
from convspec.contract.matrix_products import attention_macs, einsum
from convspec.contract.network_words import (
    Arguments,
    Meanings,
    NotKnown,
    Placed,
    Symbol,
    Tensor,
    Value,
    Word,
)  # fmt: skip
from convspec.spec import steps

MODULES: Mapping[str, tuple[str, ...]] = {
    "jax": ("jax",), "jax.nn": ("jnn",), "jax.numpy": ("jnp",), "jax.image": ("image",), "jax.lax": ("lax",),
    "jax.random": ("jr", "random", "jrandom"), **einops_words.MODULES,
}  # fmt: skip
SPECIAL = {**dict.fromkeys(("jit", "checkpoint", "remat"), "wrapper"), "vmap": "map"}
LEFT_OUT = {
    **{name: Symbol(name) for name in ("rngs", "rng", "z_rng", "key", "keys", "state")},
    **dict.fromkeys(("train", "training", "is_training", "enable_dropout"), False),
    **dict.fromkeys(("deterministic", "inference", "eval", "use_running_average"), True),
}
"""Values of parameters that the text of a network need not give: it is read as it runs at inference."""

_PADS = {
    "constant": "constant", "reflect": "reflect", "symmetric": "symmetric", "edge": "replicate", "wrap": "circular",
}  # fmt: skip
_METHODS: dict[str, dict[str, Any]] = {
    "nearest": {"mode": "nearest"}, "lanczos3": {"mode": "lanczos3"}, "lanczos5": {"mode": "lanczos5"},
    **{name: {"mode": "linear"} for name in ("linear", "bilinear", "trilinear", "triangle")},
    **{name: {"mode": "cubic", "cubic_coefficient": -0.5} for name in ("cubic", "bicubic", "tricubic")},
}  # fmt: skip
_AXIS = "axis=None, dtype=None, out=None, keepdims=False"

ACTIVATIONS: dict[str, Word] = {
    **{name: Word("x", step) for name, step in {
        "relu": steps.ReLU(), "relu6": steps.Clip(0, 6), "silu": steps.SiLU(), "swish": steps.SiLU(),
        "mish": steps.Mish(), "sigmoid": steps.Sigmoid(), "log_sigmoid": steps.Sigmoid(log=True),
        "hard_sigmoid": steps.HardSigmoid(), "hard_silu": steps.HardSwish(), "hard_swish": steps.HardSwish(),
        "hard_tanh": steps.Clip(-1, 1), "soft_sign": steps.Softsign(), "softplus": steps.Softplus(),
        "selu": steps.SELU(), "tanh": steps.Tanh(),
    }.items()},
    "gelu": Word("x, approximate=True", lambda a: steps.GELU("tanh" if a.approximate else "none")),
    "leaky_relu": Word("x, negative_slope=0.01", lambda a: steps.LeakyReLU(a.negative_slope)),
    "elu": Word("x, alpha=1.0", lambda a: steps.ELU(a.alpha)),
    "celu": Word("x, alpha=1.0", lambda a: steps.CELU(a.alpha)),
    "squareplus": Word("x, b=4", lambda a: steps.Squareplus(a.b)),
    "identity": Word("x", lambda a: Value(a.tensors[0])),
}  # fmt: skip


def activation(value: object) -> list[steps.Step]:
    """Return the step of a function that is an argument, such as ``jax.nn.relu``; raises NotKnown."""
    text = value.text if isinstance(value, Symbol) else value
    word = ACTIVATIONS.get(text.rpartition(".")[2]) if isinstance(text, str) else None
    if word is None:
        raise NotKnown("its activation is not known")
    tensor = Tensor(0, None)
    step = word.means(Arguments(word.bind("", [tensor], {}), [tensor]))
    return [step] if isinstance(step, steps.Step) else []


def other(name: str, shape: tuple[int, ...], parameters: int = 0, macs: int | None = None) -> Placed:
    """Return an operation outside the vocabulary of steps that has a result of this shape."""
    return Placed(steps.Other(name), parameters=parameters, shapes=[shape], macs=macs)


def dot_product_attention(a: Arguments) -> Placed:
    """Return attention of ``(…, length, heads, features)``."""
    (*batch, queries, heads, _), (keys, _, width) = a.query.sizes, a.key.sizes[-3:]
    values = a.value.sizes[-1]
    return other("attention", (*batch, queries, heads, values), 0,
                 attention_macs(queries, keys, width + values, prod(batch) * heads))  # fmt: skip


def _binary(kind: Any, *, ordered: bool = False) -> Word:
    """Return the word for an operation on two tensors, or on a tensor and a number."""

    def build(a: Arguments) -> Meanings:
        numbers = [v for v in (a.x1, a.x2) if not isinstance(v, Tensor)]
        fields: dict[str, Any] = {"constant": float(numbers[0])} if numbers else {}
        if numbers and ordered:
            fields["reflected"] = numbers[0] is a.x1
        step: steps.Step = kind(**fields)
        return step

    return Word("x1, x2", build)


def _array(signature: str) -> Word:
    """Return the word for a function that makes an array of a ``shape``, or of the shape of a tensor."""

    def build(a: Arguments) -> Meanings:
        given = vars(a).get("shape")
        shape = a.shape if given is None else given
        return Value(Tensor(-1, tuple(shape) if isinstance(shape, tuple | list) else (int(shape),)))

    return Word(signature, build)


def _range(a: Arguments) -> Meanings:
    sizes = [n for n in (a.start, a.stop, a.step) if n is not None]
    return Value(Tensor(-1, (len(range(*sizes)),)))


def _same(signature: str) -> Word:
    return Word(signature, lambda a: Value(a.tensors[0]))


class _Functions:
    """Functions of axes and shapes; those of single samples become steps on a batch.

    Args:
        samples: whether tensors are single samples.
    """

    def __init__(self, samples: bool) -> None:
        self.batch = int(samples)
        self.layout = "NCHW" if samples else "NHWC"

    def axis(self, axis: int) -> int:
        return axis + self.batch if axis >= 0 else axis

    def axes(self, axes: Any) -> tuple[int, ...]:
        return tuple(map(self.axis, axes if isinstance(axes, tuple | list) else (axes,)))

    def reduce(self, reduction: str) -> Callable[[Arguments], Meanings]:
        def build(a: Arguments) -> Meanings:
            every = range(a.rank) if self.batch and a.axis is None else ()
            return steps.Reduce(reduction, self.axes(every if a.axis is None else a.axis), a.keepdims)

        return build

    def reshape(self, a: Arguments) -> Meanings:
        """Return a flatten where neighbouring axes become one, else a reshape."""
        given = a.sizes[0] if isinstance(a.sizes, tuple) and len(a.sizes) == 1 else a.sizes
        sizes = tuple(given) if isinstance(given, tuple | list) else (given,)
        try:
            before = (1,) * self.batch + a.shape
        except NotKnown:
            before = ()
        rest = prod(n for n in sizes if n != -1)
        after = (1,) * self.batch + tuple(prod(before) // max(rest, 1) if n == -1 else n for n in sizes)
        merged = len(before) - len(after) + 1
        for start in (*range(1, len(after)), *(() if self.batch else (0,))):
            if merged > 1 and after == (
                *before[:start],
                prod(before[start : start + merged]),
                *before[start + merged :],
            ):
                return steps.Flatten(start, -1 if start + merged == len(before) else start + merged - 1)
        return steps.Reshape((0,) * self.batch + sizes)

    def ravel(self, a: Arguments) -> Meanings:
        return steps.Flatten(1) if self.batch else steps.Reshape(-1)

    def permute(self, order: Any) -> Meanings:
        return steps.Permute((*range(self.batch), *self.axes(order)))

    def transpose(self, a: Arguments) -> Meanings:
        axes = a.axes[0] if isinstance(a.axes, tuple) and len(a.axes) == 1 else a.axes
        return self.permute(axes if axes and axes != (None,) else range(a.rank)[::-1])

    def swapaxes(self, a: Arguments) -> Meanings:
        order = list(range(a.rank))
        order[a.axis1], order[a.axis2] = order[a.axis2], order[a.axis1]
        return self.permute(order)

    def moveaxis(self, a: Arguments) -> Meanings:
        pairs = [(v if isinstance(v, tuple | list) else (v,)) for v in (a.source, a.destination)]
        source, destination = ([axis % a.rank for axis in axes] for axes in pairs)
        order = [axis for axis in range(a.rank) if axis not in source]
        for to, axis in sorted(zip(destination, source, strict=True)):
            order.insert(to, axis)
        return self.permute(order)

    def squeeze(self, a: Arguments) -> Meanings:
        every = [i for i, n in enumerate(a.shape) if n == 1] if self.batch and a.axis is None else ()
        if self.batch and a.axis is None and not every:
            return Value(a.tensors[0])
        return steps.Squeeze(self.axes(every if a.axis is None else a.axis))

    def stack(self, a: Arguments) -> Meanings:
        """Return a concat and a reshape: the parts follow one another along the axis that was there."""
        count, shape, axis = len(a.tensors), a.shape, a.axis % (a.rank + 1)
        if not shape:
            raise NotKnown("it stacks numbers")
        new = (*shape[:axis], count, *shape[axis:])
        if axis < len(shape):
            return [steps.Concat(self.axis(axis)), steps.Reshape((0,) * self.batch + new)]
        first = [steps.Concat(self.axis(0)), steps.Reshape((0,) * self.batch + (count, *shape))]
        return [*first, steps.Permute((*range(self.batch), *self.axes((*range(1, len(new)), 0))))]

    def split(self, a: Arguments) -> Meanings:
        size, parts = a.shape[a.axis], a.indices_or_sections
        if isinstance(parts, int) and size % parts:
            raise NotKnown(f"axis {a.axis} of shape {a.shape} is not divisible by {parts}")
        ends = [0, *(range(size // parts, size, size // parts) if isinstance(parts, int) else parts), size]
        return steps.Split([b - a for a, b in pairwise(ends)], self.axis(a.axis))

    def flip(self, a: Arguments) -> Meanings:
        axes = range(a.rank) if a.axis is None else [axis % a.rank for axis in self.axes_given(a.axis)]
        whole = (None, None, 1)
        return steps.Slice([whole] * self.batch + [(None, None, -1) if i in axes else whole for i in range(a.rank)])

    def axes_given(self, axes: Any) -> tuple[int, ...]:
        return tuple(axes) if isinstance(axes, tuple | list) else (axes,)

    def pad(self, a: Arguments) -> Meanings:
        if a.mode not in _PADS:
            raise NotKnown(f"pads of mode {a.mode!r} are not known")
        width = a.pad_width
        pairs = [(width, width)] * a.rank if isinstance(width, int) else width
        if isinstance(pairs[0], int) or len(pairs) == 1:
            pairs = [tuple(pairs[0]) if len(pairs) == 1 else tuple(pairs)] * a.rank
        return steps.Pad([tuple(pair) for pair in pairs], _PADS[a.mode], float(a.constant_values))

    def repeat(self, a: Arguments) -> Meanings:
        """Return each element of an axis several times, one after another."""
        shape, axis, count = a.shape, a.axis, a.repeats
        if axis is None or not isinstance(count, int):
            raise NotKnown("it repeats without an axis, or by several numbers")
        axis %= len(shape)
        wide = (*shape[: axis + 1], count, *shape[axis + 1 :])
        after = (*shape[:axis], shape[axis] * count, *shape[axis + 1 :])
        lead = (0,) * self.batch
        return [
            steps.Unsqueeze(axis + 1 + self.batch),
            steps.Expand((-1,) * self.batch + wide),
            steps.Reshape(lead + after),
        ]

    def tile(self, a: Arguments) -> Meanings:
        """Return the whole repeated along axes: each axis gets one before it, which is repeated and joined to it."""
        reps = a.reps if isinstance(a.reps, tuple | list) else (a.reps,)
        shape = (1,) * (len(reps) - a.rank) + a.shape
        reps = (1,) * (len(shape) - len(reps)) + tuple(reps)
        lead, pairs = (0,) * self.batch, list(zip(reps, shape, strict=True))
        single, wide = ([n for r, m in pairs for n in (first(r), m)] for first in (lambda _: 1, lambda r: r))
        return [steps.Reshape([*lead, *single]), steps.Expand([*(-1,) * self.batch, *wide]),
                steps.Reshape([*lead, *(r * m for r, m in pairs)])]  # fmt: skip

    def resize(self, a: Arguments) -> Meanings:
        """Return an interpolation of the axes whose size changes, which are no batch and no channels."""
        old, new = ((1,) * self.batch + tuple(s) for s in (a.shape, vars(a)["shape"]))
        moved = [i for i, (m, n) in enumerate(zip(old, new, strict=True)) if m != n]
        if 0 in moved or len(old) < 3 or (1 in moved and len(old) - 1 in moved) or a.method not in _METHODS:
            raise NotKnown("it resizes a batch or channels, or by another method")
        layout = "NHWC" if 1 in moved else "NCHW" if len(old) - 1 in moved else self.layout
        size = new[1:-1] if layout == "NHWC" else new[2:]
        return Placed(steps.Resize(size, **_METHODS[a.method], antialias=a.antialias, exclude_outside=True), layout)


def functions(samples: bool) -> dict[str, Word]:
    """Return the functions of JAX by name; those of ``jax.numpy`` as ``jnp.max``.

    Args:
        samples: whether tensors are single samples, without a batch axis.
    """
    of = _Functions(samples)
    plain = {**dict.fromkeys(("abs", "absolute"), "abs"), **{name: name for name in steps.FUNCTIONS}}
    pointwise = {name: Word("x", steps.Pointwise(function)) for name, function in plain.items()}
    numpy = {
        **pointwise,
        **{name: _binary(kind) for name, kind in {"add": steps.Add, "multiply": steps.Multiply,
                                                  "maximum": steps.Maximum, "minimum": steps.Minimum}.items()},
        **{name: _binary(kind, ordered=True) for name, kind in
           {"subtract": steps.Subtract, "divide": steps.Divide, "true_divide": steps.Divide}.items()},
        "power": Word("x1, x2", lambda a: steps.Power(a.x2)),
        "tanh": Word("x", steps.Tanh()),
        "einsum": Word("subscripts, *operands, precision=None, optimize=None",
                       lambda a: einsum(a.subscripts, a.tensors)),
        "matmul": Word("a, b", steps.MatMul()),
        "mean": Word(f"a, {_AXIS}", of.reduce("mean")),
        "sum": Word(f"a, {_AXIS}", of.reduce("sum")),
        **{name: Word("a, axis=None, out=None, keepdims=False", of.reduce(name[-3:])) for name in
           ("max", "min", "amax", "amin")},
        "reshape": Word("a, sizes=None, order='C', shape=None", lambda a: of.reshape(_shape_named(a))),
        "ravel": Word("a, order='C'", of.ravel),
        "transpose": Word("a, axes=None", of.transpose),
        "permute_dims": Word("a, axes=None", of.transpose),
        "swapaxes": Word("a, axis1, axis2", of.swapaxes),
        "moveaxis": Word("a, source, destination", of.moveaxis),
        "squeeze": Word("a, axis=None", of.squeeze),
        "tile": Word("A, reps", of.tile),
        "expand_dims": Word("a, axis", lambda a: steps.Unsqueeze(of.axes(a.axis))),
        **dict.fromkeys(("concatenate", "concat"), Word(
            "arrays, axis=0, dtype=None", lambda a: steps.Concat(of.axis(a.axis)))),
        "stack": Word("arrays, axis=0, out=None, dtype=None", of.stack),
        "split": Word("ary, indices_or_sections, axis=0", of.split),
        "flip": Word("m, axis=None", of.flip),
        "pad": Word("array, pad_width, mode='constant', constant_values=0", of.pad),
        "repeat": Word("a, repeats, axis=None, total_repeat_length=None", of.repeat),
        "clip": Word("arr, min=None, max=None, a_min=None, a_max=None", lambda a: steps.Clip(
            a.a_min if a.min is None else a.min, a.a_max if a.max is None else a.max)),
        "broadcast_to": Word("array, sizes", lambda a: steps.Expand((-1,) * of.batch + tuple(a.sizes))),
        **dict.fromkeys(("asarray", "array", "copy"), _same("a, dtype=None, copy=None")),
        **dict.fromkeys(("zeros", "ones", "empty"), _array("shape, dtype=None")),
        **dict.fromkeys(("zeros_like", "ones_like", "full_like"), _array("a, value=None, dtype=None")),
        "full": _array("shape, fill_value, dtype=None"),
        "arange": Word("start, stop=None, step=None, dtype=None", _range),
    }  # fmt: skip
    return {
        **ACTIVATIONS,
        **einops_words.words(samples),
        "softmax": Word("x, axis=-1, where=None", lambda a: steps.Softmax(of.axis(a.axis))),
        "log_softmax": Word("x, axis=-1, where=None", lambda a: steps.Softmax(of.axis(a.axis), log=True)),
        **dict.fromkeys(("dot_product_attention", "nn.dot_product_attention", "nnx.dot_product_attention"), Word(
            "query, key, value, *rest, **kwargs", dot_product_attention)),
        "glu": Word("x, axis=-1", lambda a: steps.GLU(of.axis(a.axis))),
        **{f"jnp.{name}": word for name, word in numpy.items()},
        **{f"lax.{name}": word for name, word in pointwise.items()},
        "lax.stop_gradient": _same("x"),
        "image.resize": Word("image, shape, method, antialias=True, precision=None", of.resize),
        **dict.fromkeys(("jr.normal", "jr.uniform"), _array("key, shape=(), dtype=None, minval=0, maxval=1")),
        "jr.split": Word("key, num=2", lambda a: Value([Symbol("key")] * a.num)),
    }  # fmt: skip


def methods(samples: bool) -> dict[str, Word]:
    """Return the methods and attributes of arrays."""
    of, known = _Functions(samples), functions(samples)
    names = ("mean", "sum", "max", "min", "ravel", "swapaxes", "squeeze", "repeat", "clip", "round")
    return {
        **{name: known[f"jnp.{name}"] for name in names},
        "flatten": known["jnp.ravel"],
        "reshape": Word("a, *sizes, order='C'", of.reshape),
        "transpose": Word("a, *axes", of.transpose),
        "T": Word("x", lambda a: of.permute(range(a.rank)[::-1])),
        "astype": _same("a, dtype"),
        **dict.fromkeys(("value", "get_value"), _same("x")),
        "copy": _same("a"),
    }


def _shape_named(a: Arguments) -> Arguments:
    """Return the arguments of a reshape whose sizes may be called ``shape``, as in JAX."""
    values = vars(a)
    sizes = values["sizes"] if values["shape"] is None else values["shape"]
    return Arguments({"sizes": sizes}, a.tensors)
