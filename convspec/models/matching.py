"""Which convolution of one model is which of another, and in what the two differ. No framework: readings only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from convspec.dtypes import rounded
from convspec.numerics import gamma

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.fields import Pads
    from convspec.parameters import ConvParams
    from convspec.spec import ConvSpec

    Array = NDArray[np.floating[Any]]

T = TypeVar("T")

_FOLD_ROUNDINGS = 8  # of the scale, the shift and their products, when somebody folds a normalisation in float32
_SINGLE = 2.0**-24


@dataclass(frozen=True, eq=False, slots=True)
class Normalised:
    """A batch normalisation behind a convolution: y = (x - mean)·gain / √(variance + epsilon) + shift."""

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

    ``pads`` are zeros that a node of their own adds to the input; None: some, but it is not known how many.
    """

    path: str
    spec: ConvSpec
    params: ConvParams
    norm: Normalised | None = None
    pads: Pads | None = ()

    @property
    def whole(self) -> ConvSpec:
        """The spec with the pads before it, where they can be told from one another."""
        if not self.pads or isinstance(self.spec.padding, str) or self.spec.padding_mode != "zeros":
            return self.spec
        total = tuple((a + c, b + d) for (a, b), (c, d) in zip(self.pads, self.spec.padding, strict=True))
        return replace(self.spec, padding=total)

    def without(self, pads: Pads | None) -> ConvSpec | None:
        """The spec for an input that has got those pads already; None where there is no such layer."""
        spec = self.whole
        if not pads or not any(map(any, pads)):
            return spec
        if isinstance(spec.padding, str):
            return None
        rest = tuple((c - a, d - b) for (a, b), (c, d) in zip(pads, spec.padding, strict=True))
        return None if any(n < 0 for pair in rest for n in pair) else replace(spec, padding=rest)

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
    return kernel * _along(spec, scale), shift


def _along(spec: ConvSpec, scale: Array) -> Array:
    """One number per output channel, shaped to multiply a kernel ``(O, I/g, …)`` or ``(I, O/g, …)``."""
    ones = (1,) * spec.ndim
    if not spec.transposed:
        return scale.reshape(-1, 1, *ones)
    parts = scale.reshape(spec.groups, 1, -1, *ones)
    repeated = np.broadcast_to(
        parts, (spec.groups, spec.in_channels // spec.groups, spec.out_channels // spec.groups, *ones)
    )
    return repeated.reshape(spec.in_channels, -1, *ones)


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which a layer differs from its source; ``fatal`` where the numbers must differ, too."""

    id: str
    title: str
    fatal: bool = True

    def to_dict(self) -> dict[str, str]:
        return {"id": self.id, "title": self.title}


def pairs(ours: Sequence[Layer], theirs: Sequence[Layer]) -> list[tuple[Layer | None, Layer | None]]:
    """Each of our layers with the one of theirs that it was made from, in our order; then theirs that are left.

    By equal kernels, names among several of them; then by name; then by the kernel's shape, its number of elements, and
    last by the order alone.
    """
    keys: tuple[Callable[[Layer], Hashable], ...] = (
        lambda layer: (_name(layer.path), layer.params.kernel.shape, layer.params.kernel.tobytes()),
        lambda layer: (layer.params.kernel.shape, layer.params.kernel.tobytes()),
        lambda layer: _name(layer.path),
        lambda layer: (layer.spec.transposed, layer.params.kernel.shape),
        lambda layer: layer.params.kernel.size,
        lambda layer: layer.spec.ndim,
    )
    return matched(ours, theirs, keys)


def matched(
    ours: Sequence[T], theirs: Sequence[T], keys: Iterable[Callable[[T], Hashable]]
) -> list[tuple[T | None, T | None]]:
    """Each of ours with one of theirs, by the first key that is equal, in their order where several have it.

    A key of None is equal to nothing. Theirs that are left come last.
    """
    left, found = list(theirs), dict[int, T]()
    for key in keys:
        by_key: defaultdict[Hashable, list[T]] = defaultdict(list)
        for layer in left:
            by_key[key(layer)].append(layer)
        for place, layer in enumerate(ours):
            wanted = key(layer) if place not in found else None
            if wanted is not None and by_key.get(wanted):
                found[place] = by_key[wanted].pop(0)
                left.remove(found[place])
    return [*((layer, found.get(place)) for place, layer in enumerate(ours)), *((None, layer) for layer in left)]


def _name(path: str) -> str:
    """A path without what exporters put around it: prefixes, suffixes, separators."""
    words = [w for w in path.replace("/", ".").replace("_", ".").lower().split(".") if w]
    return ".".join(w for w in words if w not in ("node", "conv2d", "conv1d", "conv3d", "model", "graph"))


def differences(ours: Layer, theirs: Layer, others: Iterable[Layer] = ()) -> list[Difference]:
    """In what our layer differs from theirs, normalisations counted; ``others`` are layers that could be mixed up."""
    found = [
        Difference(
            f"{name.replace('_', '-')}-differs",
            f"{name} is {getattr(ours.whole, name)!r} where the source has {getattr(theirs.whole, name)!r}",
            fatal=name in ("in_channels", "out_channels", "groups", "transposed", "kernel_size"),
        )
        for name in ("transposed", "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation",
                     "groups", "padding_mode", "output_padding")
        if getattr(ours.whole, name) != getattr(theirs.whole, name)
    ]  # fmt: skip
    if ours.params.kernel.shape != theirs.params.kernel.shape:
        shapes = f"{ours.params.kernel.shape} where the source has {theirs.params.kernel.shape}"
        return [*found, Difference("kernel-shape-differs", f"the kernel's shape is {shapes}")]
    return found + _weights(ours, theirs, list(others))


def _weights(ours: Layer, theirs: Layer, others: list[Layer]) -> list[Difference]:
    plain = np.array_equal(ours.params.kernel, theirs.params.kernel, equal_nan=True) and _equal_bias(ours, theirs)
    if plain and ours.norm is None and theirs.norm is None:
        return []
    (kernel, bias), (right, right_bias) = ours.folded(), theirs.folded()
    size = np.maximum(_bias_size(ours), _bias_size(theirs))
    if _within(kernel, right, np.abs(right)) and _within(bias, right_bias, size):
        return []
    if (ours.norm is not None or theirs.norm is not None) and (named := _normalisation(ours, theirs)):
        return [named]
    found = []
    if not _within(kernel, right, np.abs(right)):
        found.append(_kernel(kernel, right, others, ours.spec))
    if not _within(bias, right_bias, size):
        found.append(_bias(ours, theirs, bias, right_bias, others))
    return found


def _equal_bias(ours: Layer, theirs: Layer) -> bool:
    """Whether the biases are equal, none being as good as zeros."""
    mine, right = (layer.params.bias for layer in (ours, theirs))
    if mine is None or right is None:
        return not any(bias is not None and bias.any() for bias in (mine, right))
    return np.array_equal(mine, right, equal_nan=True)


def _bias_size(layer: Layer) -> Array:
    """What the rounding errors of a folded bias are measured by."""
    bias = (
        np.zeros(layer.spec.out_channels) if layer.params.bias is None else np.abs(layer.params.bias.astype(np.float64))
    )
    if layer.norm is None:
        return bias
    scale = np.abs(layer.norm.scale())
    return np.asarray((bias + np.abs(layer.norm.mean)) * scale + np.abs(layer.norm.shift))


def _within(a: Array, b: Array, size: Array) -> bool:
    """Whether the difference is what folding in float32 rounds."""
    with np.errstate(invalid="ignore"):
        near = np.abs(a - b) <= gamma(_FOLD_ROUNDINGS, _SINGLE) * size
    return bool((near | (np.isnan(a) & np.isnan(b)) | (a == b)).all())


def _normalisation(ours: Layer, theirs: Layer) -> Difference | None:
    """Which mistake of a fold, or of the normalisation itself, turns theirs into ours."""
    norm = theirs.norm or ours.norm
    assert norm is not None
    kernel, bias = ours.folded()
    plain = Layer(theirs.path, theirs.spec, theirs.params)
    once = theirs.folded()
    tries: list[tuple[str, str, tuple[Array, Array]]] = [
        ("batch-norm-twice", "the batch normalisation is applied twice", fold(theirs.spec, *once, norm)),
        ("batch-norm-lost", "the batch normalisation is missing", plain.folded()),
    ]
    for epsilon in (1e-3, 1e-5, 1e-6, 1e-8, 1e-12, 0.0):
        if theirs.norm is not None and epsilon != theirs.norm.epsilon:
            text = f"the batch normalisation has epsilon {epsilon:g} where the source has {theirs.norm.epsilon:g}"
            tries.append(("batch-norm-epsilon", text, theirs.folded(epsilon)))
    for name, title, (k, b) in tries:
        if _within(kernel, k, np.abs(k)) and _within(bias, b, np.abs(b) + _bias_size(ours) + _bias_size(theirs)):
            return Difference(name, title)
    if ours.norm is not None and theirs.norm is not None and np.array_equal(ours.params.kernel, theirs.params.kernel):
        return Difference("batch-norm-differs", "the batch normalisation behind the node is another one")
    return None


def _kernel(kernel: Array, right: Array, others: list[Layer], spec: ConvSpec) -> Difference:
    """What was done to the kernel, in words."""
    wrong = int(np.count_nonzero(~((kernel == right) | (np.isnan(kernel) & np.isnan(right)))))
    spatial = tuple(range(2, kernel.ndim))
    moved = [
        (
            "its spatial axes reversed",
            "kernel-flipped",
            right[(slice(None),) * 2 + (slice(None, None, -1),) * spec.ndim],
        )
    ]
    if spec.ndim > 1:
        moved.append(("its spatial axes swapped", "kernel-spatial-transposed", np.swapaxes(right, *spatial[-2:])))
    moved.append(("its channel axes swapped", "kernel-channels-transposed", np.swapaxes(right, 0, 1)))
    moved.append(("its output channels reversed", "kernel-channels-reversed", right[::-1]))
    for words, name, candidate in moved:
        if candidate.shape == kernel.shape and np.array_equal(candidate, kernel):
            return Difference(name, f"the kernel is that of the source with {words}")
    if np.array_equal(np.abs(kernel), np.abs(right)):
        at = tuple(int(i) for i in np.argwhere(kernel != right)[0])
        return Difference("kernel-sign", f"{wrong} of the kernel's numbers have the other sign, first at {at}")
    for form in ("float16", "bfloat16"):
        if np.array_equal(kernel, rounded(right, form).astype(np.float64)):
            return Difference(f"kernel-{form}", f"the kernel has been rounded to {form} on the way")
    for other in others:
        if other.params.kernel.shape == kernel.shape and np.array_equal(other.params.kernel, kernel):
            return Difference("kernel-of-another", f"the kernel is that of {other.path!r} in the source")
    if np.array_equal(np.sort(kernel, axis=None), np.sort(right, axis=None)):
        return Difference("kernel-permuted", "the kernel has the source's numbers in another order")
    at = tuple(int(i) for i in np.argwhere(kernel != right)[0])
    numbers = f"first at {at}: {kernel[at]:g} where the source has {right[at]:g}"
    return Difference("kernel-differs", f"{wrong} of the kernel's {kernel.size} numbers differ, {numbers}")


def _bias(ours: Layer, theirs: Layer, bias: Array, right: Array, others: list[Layer]) -> Difference:
    if ours.params.bias is None and ours.norm is None:
        return Difference("bias-lost", "the source has a bias, this node has none")
    if theirs.params.bias is None and theirs.norm is None:
        return Difference("bias-added", "this node has a bias, the source has none")
    for other in others:
        if other.params.bias is not None and np.array_equal(other.params.bias, bias):
            return Difference("bias-of-another", f"the bias is that of {other.path!r} in the source")
    wrong = int(np.count_nonzero(bias != right))
    return Difference("bias-differs", f"{wrong} of the bias's {bias.size} numbers differ from the source's")
