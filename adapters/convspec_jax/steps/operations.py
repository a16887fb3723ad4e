"""From operations of JAX to steps: the table of all that the vocabulary has words for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from convspec.contract import ConvSpec
from convspec.contract.tracing import Link, NoWord
from convspec.spec import steps
from convspec_jax.steps.values import Chain, Operation, Value

Builder: TypeAlias = Callable[[Operation], "Sequence[Link]"]

SAME = frozenset(
    ("convert_element_type", "copy", "copy_p", "stop_gradient", "optimization_barrier", "reduce_precision")
)
"""Operations that give the same values, if the dtype stays the same."""

_POSITIVE = {"ge": True, "gt": True, "le": False, "lt": False}
WAITING = frozenset(("broadcast_in_dim", "reduce_sum", "reduce_window_sum", *_POSITIVE))
"""Operations that may be a part of the one that reads their result; so may a product that is chosen from."""

WHOLE = (None, None, 1)


def _plain(step: steps.Step) -> Builder:
    return lambda op: [op.link(step)]


# -- arithmetic --------------------------------------------------------------------------------------------------------


def _elementwise(kind: Any, *, ordered: bool = False) -> Builder:
    """Return the builder of an operation on two tensors, or on a tensor and a number."""

    def build(op: Operation) -> list[Link]:
        numbers = [v.constant for v in op.values]
        constant = next((n for n in numbers if n is not None), None)
        words: dict[str, Any] = {} if constant is None else {"constant": constant}
        if words and ordered:
            words["reflected"] = numbers[0] is not None
        links, ends = [], []
        for v in _operands(op, [v for v in op.values if v.constant is None]):
            chain, new = Chain(v), tuple(range(1, op.y.array.ndim - v.array.ndim + 1))
            if op.samples and v.data and new:  # one number of each sample
                chain.move(steps.Unsqueeze(new), jnp.expand_dims, new)
            links += chain.links
            ends.append(chain.end)
        return [*links, op.link(kind(**words), *ends)]

    return build


def _operands(op: Operation, values: list[Value]) -> list[Value]:
    """Return the operands as they were before they were repeated to one shape, which a step does by itself."""
    found = list(map(_unrepeated, values))
    try:
        fits = np.broadcast_shapes(*(v.array.shape for v in found)) == op.y.array.shape
    except ValueError:
        fits = False
    return found if fits else values


def _unrepeated(v: Value) -> Value:
    while (op := v.origin) is not None and op.name == "broadcast_in_dim":
        dims, ndim = op.params["broadcast_dimensions"], len(op.params["shape"])
        if op.x.constant is not None or dims != tuple(range(ndim - len(dims), ndim)):
            break
        if op.samples and op.x.data and len(dims) != ndim:
            break
        v = op.x
    return v


def _divide(op: Operation) -> Sequence[Link]:
    """Return a mean for a sum that is divided by the number of its terms, and an average pool for one over windows."""
    a, b = op.values
    kept = a.origin is not None and a.origin.name == "broadcast_in_dim"
    total = a.origin.x.origin if kept and a.origin is not None else a.origin
    if total is not None and not b.data and a.data:
        if total.name == "reduce_window_sum" and not kept:
            return _pool(total, op.y, b)
        axes = total.axes(total.params.get("axes", ()))
        sizes = [total.x.array.shape[axis] for axis in axes]
        shape = tuple(1 if i in axes else n for i, n in enumerate(total.x.array.shape))
        if total.name == "reduce_sum" and b.constant == prod(sizes) and (not kept or a.array.shape == shape):
            return [op.link(steps.Reduce("mean", axes, kept), total.x)]
    return _elementwise(steps.Divide, ordered=True)(op)


def _power(op: Operation) -> list[Link]:
    exponent = op.params["y"] if "y" in op.params else op.values[1].constant
    if exponent is None or not op.x.data:
        raise NoWord("the exponent is a tensor")
    return [op.link(steps.Power(float(exponent)))]


def _select(op: Operation) -> list[Link]:
    """Return the leaky ReLU or PReLU that a choice is between a tensor, where it is positive, and its multiple."""
    test = op.x.origin
    if test is None or test.name not in _POSITIVE or len(op.values) != 3:
        raise NoWord("a choice by a tensor")
    x, zero = test.values
    positive = _POSITIVE[test.name]
    if x.constant is not None:
        x, zero, positive = zero, x, not positive
    same, multiple = op.values[:0:-1] if positive else op.values[1:]
    product = multiple.origin
    if zero.constant != 0 or same is not x or product is None or product.name != "mul" or x not in product.values:
        raise NoWord("a choice by a tensor")
    slope = next((v for v in product.values if v is not x), x)
    shape = (1,) * (x.array.ndim - slope.array.ndim) + slope.array.shape
    if slope.data or (shape and shape[0] != 1):
        raise NoWord("a choice between tensors")
    if slope.constant is not None:
        return [op.link(steps.LeakyReLU(slope.constant), x)]
    slope = _unrepeated(slope)
    step = steps.PReLU(((1,) * (x.array.ndim - slope.array.ndim) + slope.array.shape)[1:] or (1,))
    return [op.link(step, x, slope=Value(slope.array.reshape(step.shape), sources=slope.sources))]


def _reduce(reduction: str) -> Builder:
    return lambda op: [op.link(steps.Reduce(reduction, op.axes(op.params["axes"])))]


def _round(op: Operation) -> list[Link]:
    if int(op.params["rounding_method"]) != 1:
        raise NoWord("halves away from zero")
    return [op.link(steps.Pointwise("round"))]


# -- products ----------------------------------------------------------------------------------------------------------


def _dot(op: Operation) -> list[Link]:
    ((ca, cb), (ba, bb)), (a, b) = op.params["dimension_numbers"], op.values
    if a.data and b.data:
        return _product(op, (a, ca, ba), (b, cb, bb))
    if ba:
        raise NoWord("a weight for each of several")
    x, w, cx, cw = (a, b, ca, cb) if a.data else (b, a, cb, ca)
    if not cx:
        raise NoWord("an outer product")
    return _linear(op, x, w, tuple(map(int, cx)), tuple(map(int, cw)))


def _linear(op: Operation, x: Value, w: Value, cx: tuple[int, ...], cw: tuple[int, ...]) -> list[Link]:
    """Return a product with a learnt array as a linear layer, between moves of axes where it needs them."""
    free = [i for i in range(w.array.ndim) if i not in cw]
    sizes = [w.array.shape[i] for i in free]
    weight = Value(jnp.transpose(w.array, (*free, *cw)).reshape(prod(sizes), -1), sources=w.sources)
    features = weight.array.shape
    ndim, first = x.array.ndim, w is op.x
    axes = op.axes(cx)
    if len(cx) == len(free) == 1 and (axes == (ndim - 1,) if not first else cx == (0,)):
        axis = -1 if axes == (ndim - 1,) else axes[0]
        return [op.link(steps.Linear(features[1], features[0], bias=False, axis=axis), x, weight=weight)]
    rest = [i for i in range(ndim) if i not in axes]
    lead = tuple(x.array.shape[i] for i in rest)
    chain = Chain(x)
    if (*rest, *axes) != tuple(range(ndim)):
        chain.move(steps.Permute((*rest, *axes)), jnp.transpose, (*rest, *axes))
    if len(cx) != 1:
        chain.move(steps.Reshape((*lead, features[1])), jnp.reshape, (*lead, features[1]))
    batch, inner = int(op.samples), len(lead)
    order = (*range(batch), *range(inner, inner + len(free)), *range(batch, inner))
    turned = first and free and inner > batch
    outer = jnp.transpose(op.y.array, tuple(map(order.index, range(len(order))))) if turned else op.y.array
    chain.add(steps.Linear(features[1], features[0], bias=False), outer.reshape(*lead, features[0]), weight=weight)
    if len(free) != 1:
        chain.add(steps.Reshape((*lead, *sizes)), outer)
    if turned:
        chain.add(steps.Permute(order), op.y.array)
    return chain.to(op.y)


def _product(op: Operation, *sides: tuple[Value, Sequence[int], Sequence[int]]) -> list[Link]:
    """Return the matrix product of two tensors, after moves of their axes to the last two."""
    links: list[Link] = []
    ends: list[Value] = []
    sizes: tuple[int, ...] = ()
    result = op.y.array.shape
    for side, (x, contracted, shared) in enumerate(sides):
        batch, inner, chain = (*range(op.samples), *op.axes(shared)), op.axes(contracted), Chain(x)
        free = tuple(i for i in range(x.array.ndim) if i not in (*batch, *inner))
        order = (*batch, *((*inner, *free) if side else (*free, *inner)))
        if order != tuple(range(x.array.ndim)):
            chain.move(steps.Permute(order), jnp.transpose, order)
        rows, columns = (prod(x.array.shape[i] for i in axes) for axes in (free, inner))
        if len(free) != 1 or len(inner) != 1:
            shape = (*result[: len(batch)], *((columns, rows) if side else (rows, columns)))
            chain.move(steps.Reshape(shape), jnp.reshape, shape)
        sizes = (*(sizes or result[: len(batch)]), rows)
        links += chain.links
        ends.append(chain.end)
    if sizes == result:
        return [*links, op.link(steps.MatMul(), *ends)]
    product = Value(op.y.array.reshape(sizes), data=True)
    return [*links, Link(steps.MatMul(), ends, (product,)), op.link(steps.Reshape(result), product)]


def _convolution(op: Operation) -> list[Link]:
    """Return a convolution that was called as a function."""
    p, (x, w) = op.params, op.values
    dims, n = p["dimension_numbers"], len(p["window_strides"])
    layout = {(0, 1, *range(2, n + 2)): "NCHW", (0, n + 1, *range(1, n + 1)): "NHWC"}.get(tuple(dims.lhs_spec), "")
    if not layout or dims.out_spec != dims.lhs_spec or p["batch_group_count"] != 1 or (op.samples and w.data):
        raise NoWord("its axes are in another order")
    kernel, groups, dilation = jnp.transpose(w.array, dims.rhs_spec), p["feature_group_count"], p["rhs_dilation"]
    words: dict[str, Any] = {"stride": p["window_strides"], "padding": p["padding"]}
    transposed = set(p["lhs_dilation"]) != {1}
    if transposed:
        if groups != 1 or set(p["window_strides"]) != {1}:
            raise NoWord("of a dilated input, with groups or strides")
        kernel = jnp.flip(kernel, range(2, n + 2)).swapaxes(0, 1)
        reach = [(k - 1) * d for k, d in zip(kernel.shape[2:], dilation, strict=True)]
        pads = [(r - lo, r - hi) for r, (lo, hi) in zip(reach, p["padding"], strict=True)]
        words = {"stride": p["lhs_dilation"], "padding": [(lo, max(hi, 0)) for lo, hi in pads],
                 "output_padding": [max(-hi, 0) for _, hi in pads]}  # fmt: skip
    first, second = kernel.shape[0], kernel.shape[1] * groups
    channels = (first, second) if transposed else (second, first)
    spec = ConvSpec(*channels, kernel.shape[2:], dilation=dilation, groups=groups, bias=False,
                    transposed=transposed, **words)  # fmt: skip
    note = "its kernel is computed from the data" if w.data else ""
    whole = op.link(
        spec, x, *([w] if w.data else []), layout=layout, note=note, kernel=Value(kernel, sources=w.sources)
    )
    return _with_one_batch_axis(whole, n + 2)


# -- pools -------------------------------------------------------------------------------------------------------------


def _pool(op: Operation, y: Value, divisor: Value | None = None) -> list[Link]:
    """Return the pool of windows that are reduced; a sum over windows is an average that is divided by 1."""
    p = op.params
    one = ((0, 0),) if op.samples else ()
    window, strides, dilation = (
        (1,) * op.samples + tuple(map(int, p[f"window_{name}"])) for name in ("dimensions", "strides", "dilation")
    )
    pads = (*one, *((int(lo), int(hi)) for lo, hi in p["padding"]))
    new = _has_new_axis(op)  # Equinox gives each sample a batch axis of its own, and the channels the last one
    window, strides, dilation, pads = (own[:1] + own[1 + new :] for own in (window, strides, dilation, pads))
    ndim = len(window)
    spatial = {"NHWC": slice(1, ndim - 1), "NCHW": slice(2, ndim)}
    outer = list(zip(window, strides, pads, strict=True))
    still = (1, 1, (0, 0))
    fits = [layout for layout, part in spatial.items() if outer[part] and outer.count(still) >= 2
            and all(each == still for each in (outer[0], outer[1 if layout == "NCHW" else -1]))]  # fmt: skip
    if not fits or set(p["base_dilation"]) != {1}:
        raise NoWord("not over the spatial axes of images")
    layout = op.layout if op.layout in fits else fits[0]
    own = [each[spatial[layout]] for each in (window, strides, pads, dilation)]
    words: dict[str, Any] = {}
    if divisor is not None:
        if divisor.constant == prod(window):
            words["count_include_pad"] = True
        elif divisor.constant is not None and divisor.constant % 1 == 0:
            words["divisor"] = int(divisor.constant)
        elif not np.array_equal(
            np.broadcast_to(divisor.array, y.array.shape), _counts(window, strides, pads, dilation, op)
        ):
            raise NoWord("its divisors are not the numbers of elements")
    elif op.name == "reduce_window_sum":
        words["divisor"] = 1
    kind: Any = steps.MaxPool if op.name == "reduce_window_max" else steps.AveragePool
    return _with_one_batch_axis(Link(kind(*own, **words), (op.x,), (y,), layout=layout), ndim)


def _has_new_axis(op: Operation) -> bool:
    """Return whether samples were given a first axis of size 1 right before."""
    shape, before = op.x.array.shape, op.x.origin
    return op.samples and before is not None and before.x.array.shape == shape[:1] + shape[2:] != shape[1:]


def _counts(window: Any, strides: Any, pads: Any, dilation: Any, op: Operation) -> Any:
    ones = jnp.ones(op.x.array.shape[-len(window) :], jnp.float32)
    return jax.lax.reduce_window(ones, 0.0, jax.lax.add, window, strides, pads, window_dilation=dilation)


# -- moves -------------------------------------------------------------------------------------------------------------


def _reshape(op: Operation) -> list[Link]:
    if op.params.get("dimensions") is not None:
        raise NoWord("of moved axes")
    before, after = op.x.array.shape, op.y.array.shape
    merged = len(before) - len(after) + 1
    for start in (*range(1, len(after)), 0):
        if merged > 1 and after == (*before[:start], prod(before[start : start + merged]), *before[start + merged :]):
            end = start + merged - 1
            return [op.link(steps.Flatten(start, -1 if end == len(before) - 1 else end))]
    return [op.link(steps.Reshape(after))]


def _broadcast(op: Operation) -> list[Link]:
    dims, shape, x = op.axes(op.params["broadcast_dimensions"]), op.y.array.shape, op.x.array.shape
    places = (*range(op.samples), *dims)
    new, chain = tuple(i for i in range(len(shape)) if i not in places), Chain(op.x)
    sizes = tuple(x[places.index(i)] if i in places else 1 for i in range(len(shape)))
    if new:
        chain.move(steps.Unsqueeze(new), jnp.reshape, sizes)
    if sizes != shape or not new:
        chain.move(steps.Expand(shape), jnp.broadcast_to, shape)
    return chain.to(op.y)


def _slice(op: Operation) -> list[Link]:
    starts, stops = op.params["start_indices"], op.params["limit_indices"]
    return _ranges(op, starts, stops, op.params["strides"] or (1,) * len(starts))


def _ranges(op: Operation, starts: Sequence[int], stops: Sequence[int], strides: Sequence[int]) -> list[Link]:
    sizes = op.x.array.shape[op.samples :]
    own = [(int(a) or None, None if b >= n else int(b), int(s)) for a, b, s, n in
           zip(starts, stops, strides, sizes, strict=True)]  # fmt: skip
    return [op.link(steps.Slice([*[WHOLE] * op.samples, *own]), op.x)]


def _dynamic_slice(op: Operation) -> list[Link]:
    if any(v.data for v in op.values[1:]):
        raise NoWord("its place is computed from the data")
    sizes, shape = op.params["slice_sizes"], op.x.array.shape[op.samples :]
    starts = [min(max(int(v.array), 0), n - s) for v, n, s in zip(op.values[1:], shape, sizes, strict=True)]
    return _ranges(op, starts, [a + s for a, s in zip(starts, sizes, strict=True)], [1] * len(sizes))


def _reverse(op: Operation) -> list[Link]:
    axes = op.axes(op.params["dimensions"])
    return [op.link(steps.Slice([(None, None, -1) if i in axes else WHOLE for i in range(op.x.array.ndim)]))]


def _pad(op: Operation) -> list[Link]:
    config, value = op.params["padding_config"], op.values[1].constant
    if value is None or any(inner for *_, inner in config):
        raise NoWord("zeros between elements" if value is not None else "its value is a tensor")
    return [op.link(steps.Pad([(int(lo), int(hi)) for lo, hi, _ in config], value=value))]


def _joined(op: Operation, axis: int, parts: Sequence[Value], before: Sequence[Link] = ()) -> list[Link]:
    """Return a concat; in a function of samples, a part that is not data is repeated for each of them."""
    links, batch = list(before), op.y.array.shape[:1]
    given = []
    for v in parts:
        chain = Chain(v)
        if op.samples and not v.data:
            chain.move(steps.Expand((*batch, *v.array.shape)), jnp.broadcast_to, (*batch, *v.array.shape))
        links += chain.links
        given.append(chain.end)
    return [*links, op.link(steps.Concat(axis), *given)]


def _stack(op: Operation) -> list[Link]:
    (axis,) = op.axes((op.params["axis"],))
    links, ends = [], []
    for v in op.values:
        own = axis if v.data else axis - op.samples
        chain = Chain(v)
        chain.move(steps.Unsqueeze(own), jnp.expand_dims, (own,))
        chain.end.data = v.data
        links += chain.links
        ends.append(chain.end)
    return _joined(op, axis, ends, links)


def _tile(op: Operation) -> list[Link]:
    chain = Chain(op.x)
    for (axis,), count in zip((op.axes((i,)) for i in range(len(op.params["reps"]))), op.params["reps"], strict=True):
        if count != 1:
            x = chain.end
            chain.add(steps.Concat(axis), jnp.concatenate([x.array] * count, axis), *[x] * (count - 1))
    return chain.to(op.y) if chain.links else [op.link(steps.Identity())]


# -- layers ------------------------------------------------------------------------------------------------------------


def layer_links(op: Operation) -> list[Link]:
    """Return the step of a layer's call.

    Raises:
        NoWord: if it is several layers at once.
    """
    layer, count = op.params["layer"], len(op.params["layer"].arrays)
    if any(axis for axes in op.params["mapped"] for axis in axes[:count]):
        raise NoWord("several layers at once")
    given, x = dict(zip(layer.arrays, op.values[:count], strict=True)), op.values[-1]
    meaning = layer.meaning({name: v.host for name, v in given.items()}, x.array.shape)
    mask = given["mask"].sources if "mask" in given else ()
    arrays = {name: Value(a, sources=given[name].sources + (mask if name == "kernel" else ()))
              for name, a in meaning.arrays.items()}  # fmt: skip
    computed = [v for v in given.values() if v.data]
    note = meaning.note or ("its weights are computed from the data" if computed else "")
    whole = op.link(meaning.step, x, *computed, layout=meaning.layout, note=note, **arrays)
    return _with_one_batch_axis(whole, meaning.ndim or x.array.ndim)


def _with_one_batch_axis(whole: Link, ndim: int) -> list[Link]:
    """Return the links of a step whose tensor has ``ndim`` axes; other batch axes are merged before it, and back."""
    x, y = whole.reads[0], whole.writes[0]
    extra = x.array.ndim - ndim
    if not extra:
        return [whole]
    merged = [(prod(v.array.shape[: extra + 1]), *v.array.shape[extra + 1 :]) for v in (x, y)]
    inner, outer = (Value(jnp.reshape(v.array, s), data=True) for v, s in zip((x, y), merged, strict=True))
    return [
        Link(steps.Reshape(merged[0]), (x,), (inner,)),
        Link(whole.step, (inner, *whole.reads[1:]), (outer,), whole.arrays, whole.layout, whole.note),
        Link(steps.Reshape(y.array.shape), (outer,), (y,)),
    ]


_POINTWISE = {"neg": "negative", **{name: name for name in steps.FUNCTIONS if name not in ("round", "negative")}}

TABLE: dict[str, Builder] = {
    **dict.fromkeys(("add", "add_any"), _elementwise(steps.Add)),
    "mul": _elementwise(steps.Multiply),
    "sub": _elementwise(steps.Subtract, ordered=True),
    "div": _divide,
    "max": _elementwise(steps.Maximum),
    "min": _elementwise(steps.Minimum),
    **dict.fromkeys(("pow", "integer_pow"), _power),
    **{name: _plain(steps.Pointwise(function)) for name, function in _POINTWISE.items()},
    "round": _round,
    "logistic": _plain(steps.Sigmoid()),
    "tanh": _plain(steps.Tanh()),
    "select_n": _select,
    **{f"reduce_{name}": _reduce(name) for name in ("sum", "max", "min")},
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
    **dict.fromkeys(("reduce_window_max", "reduce_window_sum"), lambda op: _pool(op, op.y)),
    "reshape": _reshape,
    "broadcast_in_dim": _broadcast,
    "transpose": lambda op: [op.link(steps.Permute((*range(op.samples), *op.axes(op.params["permutation"]))))],
    "squeeze": lambda op: [op.link(steps.Squeeze(op.axes(op.params["dimensions"])))],
    "expand_dims": lambda op: [op.link(steps.Unsqueeze(op.axes(op.params["dimensions"])))],
    "slice": _slice,
    "dynamic_slice": _dynamic_slice,
    "rev": _reverse,
    "pad": _pad,
    "concatenate": lambda op: _joined(op, op.axes((op.params["dimension"],))[0], op.values),
    "stack": _stack,
    "tile": _tile,
    "split": lambda op: [op.link(steps.Split([int(n) for n in op.params["sizes"]], *op.axes((op.params["axis"],))))],
}
