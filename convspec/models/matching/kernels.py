"""Which convolution of one model is which of another. No framework: readings only."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from convspec.spec import add_pads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.models.matching.split_layers import Piece
    from convspec.spec import ConvParams, ConvSpec, Pads

    Array = NDArray[np.floating[Any]]

T = TypeVar("T")

_SOME = 256  # weights of an output channel
ALIKE = 0.9  # mean |cosine| of output channels; of random kernels it is near sqrt(2 / (pi n)), n numbers a channel
_SAID = {"node", "model", "graph", "conv1d", "conv2d", "conv3d"}
_ENDINGS = {"weight", "kernel", "bias", "w"}


@dataclass(frozen=True, eq=False, slots=True)
class Normalised:
    """A batch normalisation behind a convolution: y = (x - mean)·gain / √(variance + epsilon) + shift.

    Any other product and sum by channel is one with a variance of 1 and an epsilon of 0.
    """

    gain: Array
    shift: Array
    mean: Array
    variance: Array
    epsilon: float

    def scale(self, epsilon: float | None = None) -> Array:
        root = np.sqrt(self.variance.astype(np.float64) + (self.epsilon if epsilon is None else epsilon))
        return np.asarray(self.gain.astype(np.float64) / root)


@dataclass(frozen=True, eq=False, slots=True)
class Layer:
    """One convolution as read: its path, what it is, and what stands right before and behind it.

    Attributes:
        norm: a batch normalisation right behind it.
        pads: zeros that a node of their own adds to the input; None: some, but it is not known how many.
        behind: products and sums by channel that follow, of which it is open whether they belong to the layer.
        alias: another name that may say where the layer comes from: that of its weights.
        linear: whether it is a linear layer, seen as a convolution of one cell.
        piece: which part it is of the layer at its path, where it is not all of it.
    """

    path: str
    spec: ConvSpec
    params: ConvParams
    norm: Normalised | None = None
    pads: Pads | None = ()
    behind: tuple[Normalised, ...] = ()
    alias: str = ""
    linear: bool = False
    piece: Piece | None = None

    @property
    def whole(self) -> ConvSpec:
        """The spec with the pads before it, where they can be told from one another."""
        if not self.pads or self.spec.padding_mode != "zeros":
            return self.spec
        return add_pads(self.spec, self.pads) or self.spec

    def without(self, pads: Pads | None) -> ConvSpec | None:
        """The spec for an input that has got those pads already; None where there is no such layer."""
        spec = self.whole
        return add_pads(spec, pads, -1) if pads and any(map(any, pads)) else spec

    @property
    def pointwise(self) -> bool:
        """Whether it only mixes the channels of each cell, so that a product of matrices can stand for it."""
        spec = self.spec
        if {*spec.kernel_size, *spec.stride, spec.groups} != {1} or spec.transposed or isinstance(spec.padding, str):
            return False
        return not any(map(any, spec.padding))

    def folded(self, epsilon: float | None = None) -> tuple[Array, Array]:
        """Kernel and bias with the normalisation in them, in float64; the bias is 0 where there is none."""
        kernel = self.params.kernel.astype(np.float64)
        bias = self.params.bias
        shift = np.zeros(self.spec.out_channels) if bias is None else bias.astype(np.float64)
        if self.norm is None:
            return kernel, shift
        return fold(self.spec, kernel, shift, self.norm, epsilon)


def fold(
    spec: ConvSpec, kernel: Array, bias: Array, norm: Normalised, epsilon: float | None = None
) -> tuple[Array, Array]:
    """Kernel and bias that do what these and the normalisation behind them do."""
    scale = norm.scale(epsilon)
    shift = (bias - norm.mean.astype(np.float64)) * scale + norm.shift.astype(np.float64)
    return kernel * along(spec, scale), shift


def along(spec: ConvSpec, scale: Array) -> Array:
    """One number per output channel, shaped to multiply a kernel ``(O, I/g, …)`` or ``(I, O/g, …)``."""
    ones = (1,) * spec.ndim
    if not spec.transposed:
        return scale.reshape(-1, 1, *ones)
    parts = scale.reshape(spec.groups, 1, -1, *ones)
    repeated = np.broadcast_to(
        parts, (spec.groups, spec.in_channels // spec.groups, spec.out_channels // spec.groups, *ones)
    )
    return repeated.reshape(spec.in_channels, -1, *ones)


# -- pairs -------------------------------------------------------------------------------------------------------------


def pairs(ours: Sequence[Layer], theirs: Sequence[Layer]) -> list[tuple[Layer | None, Layer | None]]:
    """Each of our layers with the one of theirs that it was made from, in our order; then theirs that are left.

    By equal kernels, names among several of them; by kernels that are alike but for a factor of each output channel;
    then by name; by the kernel's shape, its number of elements, and last by the order alone. Linear layers are only
    taken for convolutions by their numbers, and never for one another.
    """
    found = dict(_exact(ours, theirs))
    for similar in (_alike, _by_words):
        left = [place for place in range(len(ours)) if place not in found]
        taken = set(found.values())
        others = [place for place in range(len(theirs)) if place not in taken]
        found |= similar(ours, theirs, left, others)
    taken = set(found.values())
    rest = [layer for place, layer in enumerate(theirs) if place not in taken and not layer.linear]
    mine = [(layer, theirs[found[place]] if place in found else None) for place, layer in enumerate(ours)]
    return [*((a, b) for a, b in mine if b is not None or not a.linear), *((None, layer) for layer in rest)]


class _Numbers:
    """A kernel as a key: hashed by some of its numbers, equal to one of which every bit is the same."""

    def __init__(self, kernel: Array) -> None:
        self.flat = np.ascontiguousarray(kernel).reshape(-1)
        self.hash = hash(self.flat[:: max(self.flat.size // _SOME, 1)].tobytes())

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Numbers) and np.array_equal(self.flat.view(np.uint8), other.flat.view(np.uint8))


def _exact(ours: Sequence[Layer], theirs: Sequence[Layer]) -> dict[int, int]:
    numbers = {id(layer): _Numbers(layer.params.kernel) for layer in (*ours, *theirs)}
    counts = [Counter((_form(layer), numbers[id(layer)]) for layer in side) for side in (ours, theirs)]

    def steps(layer: Layer) -> Hashable:
        """Tells layers of one kernel apart; where there are as many of them, their order does that better."""
        kernel = _form(layer), numbers[id(layer)]
        return None if counts[0][kernel] == counts[1][kernel] else (kernel, layer.spec.stride, layer.spec.dilation)

    keys: tuple[Callable[[Layer], Hashable], ...] = (
        lambda layer: (_name(layer.path), _form(layer), numbers[id(layer)]),
        lambda layer: (_name(layer.alias or layer.path), _form(layer), numbers[id(layer)]),
        steps,
        lambda layer: (_form(layer), numbers[id(layer)]),
    )
    return _places(ours, theirs, range(len(ours)), range(len(theirs)), keys)


def _by_words(ours: Sequence[Layer], theirs: Sequence[Layer], left: list[int], others: list[int]) -> dict[int, int]:
    keys: tuple[Callable[[Layer], Hashable], ...] = (
        lambda layer: None if layer.linear else _name(layer.path),
        lambda layer: None if layer.linear else _name(layer.alias or layer.path),
        lambda layer: None if layer.linear else (layer.spec.transposed, layer.params.kernel.shape),
        lambda layer: None if layer.linear else layer.params.kernel.size,
        lambda layer: None if layer.linear else layer.spec.ndim,
    )
    return _places(ours, theirs, left, others, keys)


def _places(
    ours: Sequence[Layer], theirs: Sequence[Layer], left: Iterable[int], others: Iterable[int],
    keys: Iterable[Callable[[Layer], Hashable]],
) -> dict[int, int]:  # fmt: skip
    """Which place of ours goes with which of theirs, by the first key that is equal; no linear one with another."""

    def of(layers: Sequence[Layer], key: Callable[[Layer], Hashable]) -> Callable[[int], Hashable]:
        return lambda place: key(layers[place])

    found: dict[int, int] = {}
    free = list(others)
    waiting = list(left)
    for key in keys:
        for a, b in _matched(waiting, free, of(ours, key), of(theirs, key)):
            if not (ours[a].linear and theirs[b].linear):
                found[a] = b
        waiting = [place for place in waiting if place not in found]
        taken = set(found.values())
        free = [place for place in free if place not in taken]
    return found


def matched(
    ours: Sequence[T], theirs: Sequence[T], keys: Iterable[Callable[[T], Hashable]]
) -> list[tuple[T | None, T | None]]:
    """Each of ours with one of theirs, by the first key that is equal, in their order where several have it.

    A key of None is equal to nothing. Theirs that are left come last.
    """
    left, waiting = list(range(len(theirs))), list(range(len(ours)))
    found: dict[int, int] = {}
    for key in keys:
        found |= dict(_matched(waiting, left, lambda a, k=key: k(ours[a]), lambda b, k=key: k(theirs[b])))  # type: ignore[misc]
        waiting = [place for place in waiting if place not in found]
        taken = set(found.values())
        left = [place for place in left if place not in taken]
    mine = [(layer, theirs[found[place]] if place in found else None) for place, layer in enumerate(ours)]
    return [*mine, *((None, theirs[place]) for place in left)]


def _matched(
    ours: Sequence[int], theirs: Sequence[int], our_key: Callable[[int], Hashable], key: Callable[[int], Hashable]
) -> list[tuple[int, int]]:
    by_key: defaultdict[Hashable, list[int]] = defaultdict(list)
    for place in reversed(theirs):
        by_key[key(place)].append(place)
    found = []
    for place in ours:
        wanted = our_key(place)
        if wanted is not None and by_key.get(wanted):
            found.append((place, by_key[wanted].pop()))
    return found


def _form(layer: Layer) -> Hashable:
    """What remains of a kernel's shape when axes of one tap are dropped: they may come and go in an export."""
    shape = layer.params.kernel.shape
    return layer.spec.transposed, layer.spec.groups, shape[:2], tuple(n for n in shape[2:] if n > 1)


def _alike(ours: Sequence[Layer], theirs: Sequence[Layer], left: list[int], others: list[int]) -> dict[int, int]:
    """The pairs whose output channels point the same way, as they do where a normalisation was folded in."""
    by_form: defaultdict[Hashable, list[int]] = defaultdict(list)
    for place in others:
        by_form[_form(theirs[place])].append(place)
    rays = {place: directions(theirs[place]) for place in others}
    scored = []
    for a in left:
        mine = directions(ours[a]) if by_form.get(_form(ours[a])) else None
        for b in by_form.get(_form(ours[a]), ()):
            if mine is None or mine.shape != rays[b].shape or (ours[a].linear and theirs[b].linear):
                continue
            near = float(np.mean(np.abs(np.einsum("oi,oi->o", mine, rays[b]))))
            if near >= ALIKE:
                names = {_name(ours[a].path), _name(ours[a].alias)} - {None}
                scored.append((-round(near, 3), _name(theirs[b].path) not in names, a, b))
    found: dict[int, int] = {}
    taken: set[int] = set()
    for _, _, a, b in sorted(scored):
        if a not in found and b not in taken:
            found[a] = b
            taken.add(b)
    return found


def directions(layer: Layer) -> Array:
    """One unit vector for each output channel, ``(O, …)``; a factor of the channel changes no more than its sign.

    Of many weights some, evenly spread, tell as well: all of a network's would be held twice over.
    """
    kernel, spec = layer.params.kernel, layer.spec
    if spec.transposed:
        kernel = kernel.reshape(spec.groups, spec.in_channels // spec.groups, *kernel.shape[1:]).swapaxes(1, 2)
    rows = kernel.reshape(spec.out_channels, -1)
    rows = rows[:, :: max(rows.shape[1] // _SOME, 1)].astype(np.float64)
    with np.errstate(invalid="ignore"):
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        found = rows / np.where(length > 0, length, 1.0)
    return found if np.isfinite(length).all() else np.nan_to_num(found)


def _name(path: str) -> str | None:
    """A path without what exporters put around it: prefixes, suffixes, separators; None where nothing is left."""
    words = [w for w in re.split(r"[/._:]+", path.lower()) if w]
    while len(words) > 1 and words[-1] in _ENDINGS:
        words.pop()
    return ".".join(w for w in words if w not in _SAID) or None
