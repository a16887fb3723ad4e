"""Write the Python of plans: statements on a tensor ``x``, the functions they call, the layer around them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from convspec.contract import Pads, layouts

T = TypeVar("T")
INDICES = {
    "reflect": "[size - 1 - abs(size - 1 - abs(i)) for i in range(-before, size + after)]",
    "replicate": "[min(max(i, 0), size - 1) for i in range(-before, size + after)]",
    "circular": "[i % size for i in range(-before, size + after)]",
}
_CONDITION = {
    "reflect": "max(before, after) >= max(size, 1)",
    "replicate": "max(before, after) > 0 and size == 0",
    "circular": "max(before, after) > size",
}
_INDEXED_PAD = '''
def {mode}_pad(x, axis, before, after):
    """Pad one axis with mode "{mode}"; ops.pad cannot for every axis and backend."""
    size = x.shape[axis]
    if {condition}:
        raise ValueError(f"{mode} padding ({{before}}, {{after}}) of {{size}} elements")
    indices = {indices}
    return ops.take(x, indices, axis=axis)
'''
_SAME_PADS = '''
def same_pads(size, kernel, stride):
    """Padding before and after an axis, for an output of ceil(size / stride)."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return {halves}
'''
SPREAD = '''
def spread(x, axis, stride):
    """Insert stride - 1 zeros after every element along an axis."""
    shape = list(x.shape)
    shape[axis] *= stride
    zeros = [ops.zeros_like(x)] * (stride - 1)
    return ops.reshape(ops.stack([x, *zeros], axis=axis + 1), shape)
'''
_LAYER = """
class {name}(keras.layers.Layer):
    def __init__(self, {dtype}**kwargs):
        super().__init__({given}**kwargs)
{weights}

    def call(self, x):
{steps}


layer = {name}()
"""


# -- layers ------------------------------------------------------------------------------------------------------------


def layer(
    name: str, dtype: str, call: str, convs: Sequence[str], bias: int | None, funcs: Sequence[str], steps: Sequence[str]
) -> str:
    """The program that defines a subclass of ``Layer`` and one ``layer`` of it; ``bias``: filters of one of its own."""
    weights = [f"self.{conv} = {call}" for conv in convs]
    dtype = "" if dtype == "float32" else f'dtype="{dtype}", '
    if bias is not None:
        weights.append(f'self.bias = self.add_weight(shape=({bias},), initializer="zeros", name="bias")')
    *steps, last = steps
    steps = [*steps, last.replace("x = ", "return ", 1)]
    given = "dtype=dtype, " if dtype else ""
    body = _LAYER.format(name=name, dtype=dtype, given=given, weights=_indented(weights), steps=_indented(steps))
    uses_ops = "ops." in body or any("ops." in function for function in funcs)
    imports = "import keras\nfrom keras import ops\n" if uses_ops else "import keras\n"
    return "\n".join([imports, *funcs, body])


def sequential(*layers: str) -> str:
    """The program of layers one after the other."""
    lines = "".join(f"    {line},\n" for line in layers)
    return f"import keras\n\nlayer = keras.Sequential([\n{lines}])\n"


def arguments(given: Mapping[str, object]) -> list[str]:
    """Return the arguments of a call; sizes go by position."""
    sizes = ("filters", "kernel_size")
    return [text(value) if name in sizes else f"{name}={text(value)}" for name, value in given.items()]


def text(value: object) -> str:
    """A value as Keras's users write it: a size that is the same for all axes once."""
    if isinstance(value, tuple) and len(set(value)) == 1:
        return repr(value[0])
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _indented(statements: Sequence[str]) -> str:
    """Return the statements as a method's; continuation lines of constructors are indented already."""
    lines = (line.removeprefix("        ") for statement in statements for line in statement.split("\n"))
    return "\n".join(f"        {line}" for line in lines)


# -- steps -------------------------------------------------------------------------------------------------------------


def convolve(convs: Sequence[str], layout: str) -> str:
    """The convolution, or the convolutions of as many parts of the channels."""
    if len(convs) == 1:
        return f"x = self.{convs[0]}(x)"
    axis = 1 if layout == layouts.CHANNELS_FIRST else -1
    members = "".join(f"\n    self.{conv}," for conv in convs)
    return (
        f"convs = [{members}\n]\nparts = ops.split(x, {len(convs)}, axis={axis})\n"
        f"x = ops.concatenate(\n    [conv(part) for conv, part in zip(convs, parts)], axis={axis}\n)"
    )


def sides(pads: Sequence[tuple[int, int]]) -> str:
    """Return pads or crops of spatial axes as Keras' layers take them; in one dimension they are no list of lists."""
    if len(pads) == 1:
        return str(pads[0][0]) if pads[0][0] == pads[0][1] else str(pads[0])
    return str(pads[0][0]) if {n for pair in pads for n in pair} == {pads[0][0]} else str(tuple(pads))


def zero_padding(pads: Sequence[tuple[int, int]], layout: str) -> str:
    """Return the layer that pads by zeros."""
    order = ', data_format="channels_first"' if layout == layouts.CHANNELS_FIRST else ""
    return f"keras.layers.ZeroPadding{len(pads)}D({sides(pads)}{order})"


def pad(pads: Pads, layout: str) -> tuple[str, ...]:
    """``ops.pad`` by zeros with these numbers."""
    pairs = ", ".join(map(str, _with_others(pads, layout, (0, 0))))
    return (f"x = ops.pad(x, ({pairs}))",)


def pad_axes(pads: Pads, mode: str, layout: str) -> tuple[str, ...]:
    """One statement for each padded axis, for the modes of :data:`INDICES`."""
    return tuple(
        f"x = {mode}_pad(x, axis={axis}, before={lo}, after={hi})"
        for axis, (lo, hi) in enumerate(pads, start=_first(layout))
        if lo or hi
    )


def pad_same(kernel: Sequence[int], stride: Sequence[int], mode: str, layout: str) -> tuple[str, ...]:
    """Pads that depend on the sizes of x, computed by :func:`same_pads`."""
    first = _first(layout)
    sizes = f"x.shape[{first}:{first + len(kernel)}]"
    pads = f"pads = [same_pads(*axis) for axis in zip({sizes}, {tuple(kernel)}, {tuple(stride)})]"
    if mode in INDICES:
        loop = f"for axis, (before, after) in enumerate(pads, start={first}):"
        return (pads, f"{loop}\n    x = {mode}_pad(x, axis, before, after)")
    others = "(0, 0), (0, 0), *pads" if first == 2 else "(0, 0), *pads, (0, 0)"
    return (pads, f"x = ops.pad(x, [{others}])")


def subsample(stride: Sequence[int], layout: str) -> str:
    """Return the statement that keeps every stride-th element."""
    return _slice([f"::{s}" if s > 1 else ":" for s in stride], layout)


def crop(start: Sequence[int], end: Sequence[int], layout: str) -> str:
    """Return the statement that drops the first and the last elements; no -0, which would drop all."""
    return _slice([f"{lo or ''}:{-hi if hi else ''}" for lo, hi in zip(start, end, strict=True)], layout)


def spread(stride: Sequence[int], layout: str) -> tuple[str, ...]:
    """Zeros between neighbours along the axes that have a stride."""
    return tuple(
        f"x = spread(x, axis={axis}, stride={s})" for axis, s in enumerate(stride, start=_first(layout)) if s > 1
    )


def add_bias(ndim: int, layout: str) -> str:
    """The layer's own bias, along the channel axis."""
    if layout == layouts.CHANNELS_LAST:
        return "x = x + self.bias"
    return f"x = x + ops.reshape(self.bias, {(-1, *(1,) * ndim)})"


# -- functions that steps call -----------------------------------------------------------------------------------------


def indexed_pad(mode: str) -> str:
    """Return the function that pads an axis with elements of x."""
    return _INDEXED_PAD.format(mode=mode, condition=_CONDITION[mode], indices=INDICES[mode])


def same_pads(*, lower: bool) -> str:
    """Return the function that computes the pads of ``"same"``; the extra one after, with ``lower`` before."""
    halves = "total - total // 2, total // 2" if lower else "total // 2, total - total // 2"
    return _SAME_PADS.format(halves=halves)


# -- axes --------------------------------------------------------------------------------------------------------------


def _first(layout: str) -> int:
    return 2 if layout == layouts.CHANNELS_FIRST else 1


def _with_others(spatial: Sequence[T], layout: str, other: T) -> list[T]:
    return [other, other, *spatial] if layout == layouts.CHANNELS_FIRST else [other, *spatial, other]


def _slice(parts: Sequence[str], layout: str) -> str:
    """Subscripts after the last that selects are left out."""
    axes = _with_others(parts, layout, ":")
    while axes[-1] == ":":
        axes.pop()
    return f"x = x[{', '.join(axes)}]"
