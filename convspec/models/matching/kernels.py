"""Match the convolutions of one model with those of another by their kernels. No framework: readings only."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from convspec.models.dataflow.array_keys import ArrayKey
from convspec.spec import Array, ConvParams, ConvSpec, Pads, add_pads

if TYPE_CHECKING:
    from convspec.models.matching.split_layers import LayerPart

T = TypeVar("T")
Key = Callable[[T], Hashable]
Pairs = list[tuple[T | None, T | None]]

_SAMPLE = 256  # weights of an output channel that are compared
ALIKE = 0.9  # mean |cosine| of output channels; of random kernels it is near sqrt(2 / (pi n)), n numbers a channel
_GENERIC = {"node", "model", "graph", "conv1d", "conv2d", "conv3d"}
_ENDINGS = {"weight", "kernel", "bias", "w"}


@dataclass(frozen=True, eq=False, slots=True)
class BatchNorm:
    """A batch normalisation after a convolution: y = (x - mean)·gain / √(variance + epsilon) + shift.

    Any other product and sum per channel is one with a variance of 1 and an epsilon of 0.
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
    """One convolution as read, with the operations right before and after it.

    Attributes:
        norm: the batch normalisation right after it.
        pads: zeros that a separate node adds to the input; None: an unknown number of them.
        epilogue: products and sums per channel after it that may or may not belong to the layer.
        alias: another name that may identify the layer: the name of its weights.
        linear: whether it is a linear layer, seen as a convolution of one pixel.
        part: which part of the layer at ``path`` it is; None for all of it.
    """

    path: str
    spec: ConvSpec
    params: ConvParams
    norm: BatchNorm | None = None
    pads: Pads | None = ()
    epilogue: tuple[BatchNorm, ...] = ()
    alias: str = ""
    linear: bool = False
    part: LayerPart | None = None

    @property
    def padded_spec(self) -> ConvSpec:
        """The spec with the pads before the layer included, where one spec can express both."""
        return add_zero_pads(self.spec, self.pads or ()) or self.spec

    def spec_after(self, pads: Pads | None) -> ConvSpec | None:
        """Return the spec for an input that has these pads already; None where no layer does that."""
        spec = self.padded_spec
        rest = add_zero_pads(replace(spec, padding_mode="zeros"), [(-lo, -hi) for lo, hi in pads or ()])
        return None if rest is None else replace(rest, padding_mode=spec.padding_mode)

    @property
    def pointwise(self) -> bool:
        """Whether it mixes only the channels of each pixel, as a matrix product does."""
        spec = self.spec
        if {*spec.kernel_size, *spec.stride, spec.groups} != {1} or spec.transposed or isinstance(spec.padding, str):
            return False
        return not any(map(any, spec.padding))

    def fold_norm(self, epsilon: float | None = None) -> tuple[Array, Array]:
        """Return kernel and bias with the normalisation folded in, in float64; a missing bias is 0."""
        kernel = self.params.kernel.astype(np.float64)
        bias = self.params.bias
        shift = np.zeros(self.spec.out_channels) if bias is None else bias.astype(np.float64)
        if self.norm is None:
            return kernel, shift
        return fold(self.spec, kernel, shift, self.norm, epsilon)


def add_zero_pads(spec: ConvSpec, pads: Sequence[tuple[int, int]]) -> ConvSpec | None:
    """Return the spec with more zeros, or fewer, around its input; None where no spec expresses that."""
    if not any(map(any, pads)):
        return spec
    return add_pads(spec, tuple(pads)) if spec.padding_mode == "zeros" else None


def fold(
    spec: ConvSpec, kernel: Array, bias: Array, norm: BatchNorm, epsilon: float | None = None
) -> tuple[Array, Array]:
    """Return the kernel and bias of the convolution and the normalisation after it in one."""
    scale = norm.scale(epsilon)
    shift = (bias - norm.mean.astype(np.float64)) * scale + norm.shift.astype(np.float64)
    return kernel * per_channel(spec, scale), shift


def per_channel(spec: ConvSpec, scale: Array) -> Array:
    """Reshape one number per output channel to multiply a kernel ``(O, I/g, …)`` or ``(I, O/g, …)``."""
    ones = (1,) * spec.ndim
    if not spec.transposed:
        return scale.reshape(-1, 1, *ones)
    inputs, outputs = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    repeated = np.broadcast_to(scale.reshape(spec.groups, 1, -1, *ones), (spec.groups, inputs, outputs, *ones))
    return repeated.reshape(spec.in_channels, -1, *ones)


# -- pairs -------------------------------------------------------------------------------------------------------------


def pair_layers(ours: Sequence[Layer], theirs: Sequence[Layer]) -> Pairs[Layer]:
    """Pair each of our layers with its source among theirs, in our order; theirs without a counterpart come last.

    By equal kernels, names among several of them; by kernels that are alike up to a factor per output channel; then by
    name; by the kernel's shape, its number of elements, and last by order alone. Linear layers are matched with
    convolutions by their numbers only, and never with one another.
    """
    matches = match(ours, theirs, _kernel_keys(ours, theirs), _not_both_linear)
    matches |= _match_alike(ours, theirs, matches)
    matches = match(ours, theirs, _NAME_KEYS, _not_both_linear, matches)
    paired = pairs_of(ours, theirs, matches)
    return [(a, b) for a, b in paired if (b or not (a and a.linear)) and (a or not (b and b.linear))]


def _not_both_linear(ours: Layer, theirs: Layer) -> bool:
    return not (ours.linear and theirs.linear)


def match(
    ours: Sequence[T], theirs: Sequence[T], keys: Iterable[Key[T]], allowed: Callable[[T, T], bool] | None = None,
    known: dict[int, int] | None = None,
) -> dict[int, int]:  # fmt: skip
    """Return the index of their counterpart by our index, for all that have one; ``known`` ones included.

    The first equal key decides, the order among several of one key. A key of None equals nothing.
    """
    matches = dict(known or {})
    for key in keys:
        taken = set(matches.values())
        by_key: defaultdict[Hashable, list[int]] = defaultdict(list)
        for place in reversed(range(len(theirs))):
            if place not in taken:
                by_key[key(theirs[place])].append(place)
        for place, one in enumerate(ours):
            if place in matches or (wanted := key(one)) is None or not by_key.get(wanted):
                continue
            other = by_key[wanted].pop()
            if allowed is None or allowed(one, theirs[other]):
                matches[place] = other
    return matches


def pairs_of(ours: Sequence[T], theirs: Sequence[T], matches: dict[int, int]) -> Pairs[T]:
    """Return each of ours with its counterpart or None, then theirs that have none."""
    taken = set(matches.values())
    mine = [(one, theirs[matches[place]] if place in matches else None) for place, one in enumerate(ours)]
    return [*mine, *((None, one) for place, one in enumerate(theirs) if place not in taken)]


def _kernel_keys(ours: Sequence[Layer], theirs: Sequence[Layer]) -> list[Key[Layer]]:
    """Return keys of equal kernels: first those of one name, then those of one stride, then any."""
    kernels = {id(layer): (_shape_key(layer), ArrayKey(layer.params.kernel.reshape(-1))) for layer in (*ours, *theirs)}
    counts = [Counter(kernels[id(layer)] for layer in side) for side in (ours, theirs)]

    def steps(layer: Layer) -> Hashable:
        """Tell layers of one kernel apart; where both models have as many, their order does that better."""
        kernel = kernels[id(layer)]
        return None if counts[0][kernel] == counts[1][kernel] else (kernel, layer.spec.stride, layer.spec.dilation)

    return [
        lambda layer: (_name(layer.path), kernels[id(layer)]),
        lambda layer: (_name(layer.alias or layer.path), kernels[id(layer)]),
        steps,
        lambda layer: kernels[id(layer)],
    ]


_NAME_KEYS: tuple[Key[Layer], ...] = (
    lambda layer: None if layer.linear else _name(layer.path),
    lambda layer: None if layer.linear else _name(layer.alias or layer.path),
    lambda layer: None if layer.linear else (layer.spec.transposed, layer.params.kernel.shape),
    lambda layer: None if layer.linear else layer.params.kernel.size,
    lambda layer: None if layer.linear else layer.spec.ndim,
)


def _shape_key(layer: Layer) -> Hashable:
    """Return the kernel's shape without axes of one tap: an export may add or drop those."""
    shape = layer.params.kernel.shape
    return layer.spec.transposed, layer.spec.groups, shape[:2], tuple(n for n in shape[2:] if n > 1)


def _match_alike(ours: Sequence[Layer], theirs: Sequence[Layer], known: dict[int, int]) -> dict[int, int]:
    """Match the remaining layers whose output channels point the same way, as after folding a normalisation."""
    taken = set(known.values())
    others = [place for place in range(len(theirs)) if place not in taken]
    by_shape: defaultdict[Hashable, list[int]] = defaultdict(list)
    for place in others:
        by_shape[_shape_key(theirs[place])].append(place)
    vectors = {place: unit_vectors(theirs[place]) for place in others}
    scored = []
    for a in (place for place in range(len(ours)) if place not in known):
        candidates = by_shape.get(_shape_key(ours[a]), [])
        mine = unit_vectors(ours[a]) if candidates else None
        for b in candidates:
            if mine is None or mine.shape != vectors[b].shape or not _not_both_linear(ours[a], theirs[b]):
                continue
            if (cosine := mean_cosine(mine, vectors[b])) >= ALIKE:
                names = {_name(ours[a].path), _name(ours[a].alias)} - {None}
                scored.append((-round(cosine, 3), _name(theirs[b].path) not in names, a, b))
    matches: dict[int, int] = {}
    for _, _, a, b in sorted(scored):
        if a not in matches and b not in taken:
            matches[a] = b
            taken.add(b)
    return matches


def unit_vectors(layer: Layer) -> Array:
    """Return one unit vector per output channel, ``(O, …)``; a factor of the channel changes its sign at most.

    Large kernels are sampled evenly: copies of all of a network's weights would double its memory.
    """
    rows = grouped_kernel(layer.spec, layer.params.kernel).reshape(layer.spec.out_channels, -1)
    rows = rows[:, :: max(rows.shape[1] // _SAMPLE, 1)].astype(np.float64)
    with np.errstate(invalid="ignore"):
        length = np.linalg.norm(rows, axis=1, keepdims=True)
        units = rows / np.where(length > 0, length, 1.0)
    return units if np.isfinite(length).all() else np.nan_to_num(units)


def grouped_kernel(spec: ConvSpec, kernel: Array) -> Array:
    """Return a kernel as ``(groups, O/g, I/g, taps)``."""
    inputs, outputs = spec.in_channels // spec.groups, spec.out_channels // spec.groups
    if spec.transposed:
        return kernel.reshape(spec.groups, inputs, outputs, -1).swapaxes(1, 2)
    return kernel.reshape(spec.groups, outputs, inputs, -1)


def mean_cosine(a: Array, b: Array) -> float:
    """Return the mean |cosine| of corresponding unit vectors, both ``(O, …)``."""
    return float(np.mean(np.abs(np.einsum("oi,oi->o", a, b))))


def _name(path: str) -> str | None:
    """Return a path without the prefixes, suffixes and separators of exporters; None where nothing remains."""
    words = [w for w in re.split(r"[/._:]+", path.lower()) if w]
    while len(words) > 1 and words[-1] in _ENDINGS:
        words.pop()
    return ".".join(w for w in words if w not in _GENERIC) or None
