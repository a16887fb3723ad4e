"""A node and the layer that it was made from, brought to one rank and one input: only then can they be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from convspec.errors import ConvspecError
from convspec.models.comparison import layer_check
from convspec.spec import ConvParams, add_pads, format_of

if TYPE_CHECKING:
    from convspec.models.matching.kernels import Array, Layer
    from convspec.spec import ConvSpec

    Pads = tuple[tuple[int, int], ...]

T = TypeVar("T")

_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
_FORMATS = ("float16", "float32", "float64")
_BLOCK = 1 << 15  # numbers that are looked at together


@dataclass(frozen=True, eq=False, slots=True)
class Form:
    """Both layers in one rank, and how their tensors get there."""

    ours: Layer
    theirs: Layer
    mine: Callable[[Array], Array]
    other: Callable[[Array], Array]


def shared(ours: Layer, theirs: Layer) -> Form | None:
    """The two layers in one rank: as they are, without an axis of one tap, or as products of matrices.

    None where there is no such form.
    """
    if ours.spec.ndim == theirs.spec.ndim and not ours.linear and not theirs.linear:
        return Form(ours, theirs, _same, _same)
    if ours.pointwise and theirs.pointwise:
        return Form(_row_layer(ours), _row_layer(theirs), rows, rows)
    if ours.spec.ndim == theirs.spec.ndim + 1:
        for axis in range(ours.spec.ndim):
            if (found := _without(ours, axis)) and found.spec.kernel_size == theirs.spec.kernel_size:
                return Form(found, theirs, _squeezed(axis), _same)
    if theirs.spec.ndim == ours.spec.ndim + 1:
        for axis in range(theirs.spec.ndim):
            if (found := _without(theirs, axis)) and found.spec.kernel_size == ours.spec.kernel_size:
                return Form(ours, found, _same, _squeezed(axis))
    return None


def _same(x: Array) -> Array:
    return x


def rows(x: Array) -> Array:
    """``(N, C, *spatial)`` as ``(rows, C, 1)``, the rows in the order of N and the cells."""
    return np.moveaxis(x, 1, -1).reshape(-1, x.shape[1], 1)


def _squeezed(axis: int) -> Callable[[Array], Array]:
    return lambda x: x.reshape(*x.shape[: 2 + axis], *x.shape[3 + axis :]) if x.shape[2 + axis] == 1 else x


def _row_layer(layer: Layer) -> Layer:
    kernel = layer.params.kernel
    spec = replace(layer.spec, kernel_size=(1,), stride=(1,), padding=((0, 0),), dilation=(1,), output_padding=(0,),
                   ndim=1)  # fmt: skip
    return replace(
        layer, spec=spec, params=ConvParams(kernel.reshape(*kernel.shape[:2], 1), layer.params.bias), pads=()
    )


def _without(layer: Layer, axis: int) -> Layer | None:
    """The layer without a spatial axis of one tap and no pads; the words of a padding leave no pads there."""
    spec = layer.spec
    if spec.kernel_size[axis] != 1 or spec.output_padding[axis]:
        return None
    if not isinstance(spec.padding, str) and any(spec.padding[axis]):
        return None
    padding = spec.padding if isinstance(spec.padding, str) else _cut(spec.padding, axis)
    small = replace(
        spec, kernel_size=_cut(spec.kernel_size, axis), stride=_cut(spec.stride, axis), padding=padding,
        dilation=_cut(spec.dilation, axis), output_padding=_cut(spec.output_padding, axis), ndim=spec.ndim - 1,
    )  # fmt: skip
    params = ConvParams(np.squeeze(layer.params.kernel, 2 + axis), layer.params.bias)
    pads = layer.pads and _cut(layer.pads, axis)
    return replace(layer, spec=small, params=params, pads=pads)


def _cut(values: tuple[T, ...], axis: int) -> tuple[T, ...]:
    return values[:axis] + values[axis + 1 :]


@dataclass(frozen=True, eq=False, slots=True)
class Settled:
    """Both specs for one and the same input, the node's.

    Attributes:
        ours: the node's.
        theirs: the source's, pads that stand before one of them moved into it; None where it cannot be said.
        apart: in what the two inputs differ; empty where they do not, or where the source's is not known.
    """

    ours: ConvSpec
    theirs: ConvSpec | None
    apart: str = ""


def settled(form: Form, x: Array, source: Array | None) -> Settled:
    """What the source's layer is for the input that the node reads, ``(N, C, *spatial)``.

    A pad may stand in a node of its own in the graph, in the source, or in both.
    """
    ours = _explicit(form.ours.spec, x)
    if source is None:
        theirs = form.theirs.without(form.ours.pads)
        return Settled(ours, theirs and _explicit(theirs, x))
    theirs = form.theirs.spec
    if x.shape == source.shape:
        return Settled(ours, _explicit(theirs, x), differs(x, source))
    if not theirs.transposed and x.ndim == source.ndim:
        if (
            theirs.padding_mode in _MODES
            and (padded := _padded(theirs, source)) is not None
            and padded.shape == x.shape
        ):
            none = replace(theirs, padding=((0, 0),) * theirs.ndim, padding_mode="zeros")
            return Settled(ours, none, differs(x, padded))
        if pads := layer_check.margins(source, x):
            return Settled(ours, _more(_explicit(theirs, source), pads), differs(x, layer_check.cropped(source, pads)))
        if pads := layer_check.margins(x, source):
            fewer = _more(_explicit(theirs, source), tuple((-lo, -hi) for lo, hi in pads))
            whole = ours if fewer else _more(ours, pads) or ours
            return Settled(whole, fewer or _explicit(theirs, source), differs(layer_check.cropped(x, pads), source))
    return Settled(ours, _explicit(theirs, x), f"the data have shape {x.shape} where the source has {source.shape}")


def _explicit(spec: ConvSpec, x: Array) -> ConvSpec:
    try:
        return spec.explicit(x.shape)
    except ConvspecError:
        return spec


def _padded(spec: ConvSpec, x: Array) -> Array | None:
    explicit = _explicit(spec, x)
    if isinstance(explicit.padding, str):
        return None
    try:
        return np.pad(x, [(0, 0), (0, 0), *explicit.padding], mode=_MODES[spec.padding_mode])  # type: ignore[call-overload,no-any-return]
    except ValueError:
        return None


def _more(spec: ConvSpec, pads: Pads) -> ConvSpec | None:
    """The spec with so many pads more, or fewer; None where that leaves less than none."""
    return add_pads(spec, pads) if spec.padding_mode == "zeros" else None


def differs(x: Array, source: Array) -> str:
    """In what a tensor differs from the source's, or nothing: more than half of the format's digits are lost.

    Rounding errors of whole networks have no useful bound; that half of the digits stay is a convention.
    """
    if x.shape != source.shape:
        return f"the data have shape {x.shape} where the source has {source.shape}"
    name = str(x.dtype)
    if name not in _FORMATS:
        return ""
    worst, scale = 0.0, 0.0
    for mine, other in _pieces(x, source):
        with np.errstate(invalid="ignore"):
            far = np.abs(mine - other)
        if not np.isfinite(far).all() and not np.array_equal(np.isfinite(mine), np.isfinite(other)):
            return "the data are NaN or infinite where the source's are not, or the other way round"
        worst = max(worst, _largest(far))
        scale = max(scale, *(_largest(np.abs(a)) for a in (mine, other)))
    if worst <= format_of(name).unit_roundoff ** 0.5 * scale:
        return ""
    return f"the data differ from the source's by {worst:.3g}, where their largest number is {scale:.3g}"


def _pieces(x: Array, source: Array) -> Iterator[tuple[Array, Array]]:
    """Both tensors a little at a time: the source's may be on disk, and what is made of them stays in the cache."""
    step = max(_BLOCK // max(x[:1].size, 1), 1)
    for start in range(0, len(x), step):
        mine, other = (a[start : start + step].reshape(-1) for a in (x, source))
        for at in range(0, mine.size, _BLOCK):
            piece = slice(at, at + _BLOCK)
            yield mine[piece].astype(np.float64), np.asarray(other[piece], np.float64)


def _largest(sizes: Array) -> float:
    """The largest of them that is finite."""
    found = float(np.max(sizes, initial=0.0))
    return found if np.isfinite(found) else float(np.max(sizes, initial=0.0, where=np.isfinite(sizes)))


def window(spec: ConvSpec, x: Array) -> tuple[tuple[int, int], ...]:
    """Of a transposed layer: for each axis where its output begins in the full scatter, and how long it is."""
    explicit = spec.explicit(x.shape)
    sizes = explicit.output_shape(x.shape)[2:]
    assert not isinstance(explicit.padding, str)
    return tuple((lo, size) for (lo, _), size in zip(explicit.padding, sizes, strict=True))
