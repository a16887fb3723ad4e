"""Differences between two layers that need no run: specs and weights, with folded normalisations seen through."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from convspec.models.dataflow.array_keys import ArrayKey
from convspec.models.matching.kernels import ALIKE, BatchNorm, Layer, fold, mean_cosine, per_channel, unit_vectors
from convspec.reference import gamma
from convspec.spec import Array, ConvSpec, rounded

_FOLD_ROUNDINGS = 8  # of the scale, the shift and their products, when a normalisation is folded in float32
_COMPUTED_ROUNDINGS = 32  # of a kernel that the source computes from its weights, relative to a channel's largest
_SINGLE = 2.0**-24
_HALF, _HALF_STEP = 2.0**-11, 2.0**-25  # of float16: relative, and where numbers are too small for that
_BLOCK = 1 << 15  # numbers compared at a time: their intermediate results fit in the processor's cache
_EPSILONS = (1e-3, 1e-5, 1e-6, 1e-8, 1e-12, 0.0)
_FIELDS = ("transposed", "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
           "padding_mode", "output_padding")  # fmt: skip
_FATAL = ("in_channels", "out_channels", "groups", "transposed", "kernel_size")
_ATTRIBUTES = {"stride": "strides", "dilation": "dilations", "groups": "group", "output_padding": "output_padding"}
_WEIGHTS = "export the source's weights again and write nothing to them afterwards"


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference of a layer from its source; ``fatal`` where it must change the numbers.

    ``right``: the arrays that the layer should have, by what they are to it, if they are not the source's own.
    """

    id: str
    title: str
    fatal: bool = True
    fix: str = ""
    right: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    def __str__(self) -> str:
        return f"{self.id}: {self.title}"

    def to_dict(self) -> dict[str, str]:
        """Return ``id`` and ``title``, and ``fix`` where there is one."""
        return {"id": self.id, "title": self.title} | ({"fix": self.fix} if self.fix else {})


def layer_differences(ours: Layer, theirs: Layer, others: Sequence[Layer] = ()) -> list[Difference]:
    """Return the differences of our layer from theirs; ``others`` are layers that may have been mixed up with it."""
    return field_differences(ours.padded_spec, theirs.padded_spec) + weight_differences(ours, theirs, others)


# -- specs -------------------------------------------------------------------------------------------------------------


def field_differences(ours: ConvSpec, theirs: ConvSpec) -> list[Difference]:
    """Return a difference per field of two specs; all but those that shape the kernel may still mean the same."""
    return [
        Difference(f"{name.replace('_', '-')}-differs", f"{name} is {mine!r} where the source has {right!r}",
                   name in _FATAL, _node_fix(name, right))
        for name, mine, right in _differing(ours, theirs)
    ]  # fmt: skip


def spec_differences(a: ConvSpec, b: ConvSpec) -> list[str]:
    """Return the fields of two specs that differ, a's value first: ``stride (2, 2): pads (1, 1) against (0, 1)``."""
    differing = _differing(a, b)
    return [_pads(a, b) if n == "padding" else f"{n.replace('_', ' ')} {x} against {y}" for n, x, y in differing]


def _differing(a: ConvSpec, b: ConvSpec) -> list[tuple[str, Any, Any]]:
    values = [(name, getattr(a, name), getattr(b, name)) for name in _FIELDS]
    same = {"padding", "output_padding"} if _crop(a) == _crop(b) else ()
    return [(name, x, y) for name, x, y in values if x != y and name not in same]


def _crop(spec: ConvSpec) -> Any:
    """Return what a transposed convolution leaves out at both ends: the pad, less the output padding at the end."""
    if not spec.transposed or isinstance(spec.padding, str):
        return spec.padding, spec.output_padding
    return [(lo, hi - out) for (lo, hi), out in zip(spec.padding, spec.output_padding, strict=True)]


def _pads(a: ConvSpec, b: ConvSpec) -> str:
    stride = f"stride {a.stride}: " if a.stride == b.stride and max(a.stride) > 1 else ""
    words = [repr(p) if isinstance(p, str) else str(p[0] if len(set(p)) == 1 else p) for p in (a.padding, b.padding)]
    return f"{stride}pads {' against '.join(words)}"


def _node_fix(name: str, right: Any) -> str:
    """Return which attribute of the node must have which value."""
    if name in _ATTRIBUTES:
        return f"set {_ATTRIBUTES[name]} of the node to {list(right) if isinstance(right, tuple) else right}"
    if name == "padding" and not isinstance(right, str):
        return f"set pads of the node to {[lo for lo, _ in right] + [hi for _, hi in right]}"
    return f"pad with mode {right!r} before the node" if name == "padding_mode" else ""


# -- weights -----------------------------------------------------------------------------------------------------------


def array_differences(
    a: Mapping[str, Array | None], b: Mapping[str, Array | None], names: tuple[str, str] = ("model a", "model b")
) -> list[str]:
    """Return the differences of two layers' kernels and biases, compared bit for bit, in words."""
    differences = []
    for name in ("kernel", "bias"):
        ours, theirs = a.get(name), b.get(name)
        if ours is None or theirs is None:
            differences += [f"{names[ours is not None]} has no {name}"] * ((ours is None) != (theirs is None))
        elif ours.shape != theirs.shape:
            differences.append(f"{name} of shape {ours.shape} against {theirs.shape}")
        elif not np.array_equal(ours, theirs, equal_nan=True):
            permuted = np.array_equal(np.sort(ours, None), np.sort(theirs, None), equal_nan=True)
            differences.append(f"the {name}'s numbers are in another order" if permuted else f"the {name} differs")
    return differences


@dataclass(frozen=True, eq=False, slots=True)
class _Stage:
    """A layer with some of the operations after it folded into its weights.

    Attributes:
        stored: the kernel without those operations.
        factors: the factors by which those operations multiply it.
        bias: the bias with those operations applied.
        size: the magnitude that rounding errors of ``bias`` are relative to.
        rest: the operations that are not folded in.
    """

    stored: Array
    factors: tuple[Array, ...]
    bias: Array
    size: Array
    rest: Sequence[BatchNorm] = ()

    @property
    def kernel(self) -> Array:
        return self._rows(slice(None))

    def blocks(self) -> Iterator[Array]:
        """Return the kernel, some rows at a time."""
        rows = max(_BLOCK // max(self.stored[:1].size, 1), 1)
        return (self._rows(slice(start, start + rows)) for start in range(0, len(self.stored), rows))

    def _rows(self, rows: slice) -> Array:
        kernel = self.stored[rows].astype(np.float64)
        for factor in self.factors:
            kernel *= factor[rows]
        return kernel

    def fold(self, spec: ConvSpec, norm: BatchNorm, rest: Sequence[BatchNorm]) -> _Stage:
        scale = norm.scale()
        size = (self.size + np.abs(norm.mean)) * np.abs(scale) + np.abs(norm.shift)
        _, bias = fold(spec, np.zeros(()), self.bias, norm)
        return _Stage(self.stored, (*self.factors, per_channel(spec, scale)), bias, np.asarray(size), rest)


def weight_differences(ours: Layer, theirs: Layer, others: Sequence[Layer] = ()) -> list[Difference]:
    """Return the differences of the weights, whichever of the operations after a layer were folded into them.

    Kernels are ``(O, I/g, *spatial)``, transposed ``(I, O/g, *spatial)``.
    """
    if ours.params.kernel.shape != theirs.params.kernel.shape:
        shapes = f"{ours.params.kernel.shape} where the source has {theirs.params.kernel.shape}"
        return [Difference("kernel-shape-differs", f"the kernel's shape is {shapes}", fix=_WEIGHTS)]
    if ours.norm is theirs.norm is None and not ours.epilogue:
        mine, right = ours.params, theirs.params
        if _are_equal(mine.kernel, right.kernel) and _are_equal(mine.bias, right.bias):
            return []
    targets = list(_stages(theirs, bare=False))
    stages = list(_stages(ours, bare=theirs.norm is None))
    for target in targets:
        for stage in stages:
            if _same(stage, target):
                return _applied_twice(stage, theirs)
    stage, target = _nearest(stages, targets)
    if mistake := _name_norm_mistake(stage, ours, theirs):
        return [mistake]
    differences = []
    if not _within(stage.kernel, target.kernel, np.abs(target.kernel), _rounded_to(stage, target)):
        named = _name_rounding(stage.kernel, target.kernel, 1 if ours.spec.transposed else 0)
        differences.append(named or _name_kernel_difference(stage.kernel, target.kernel, others, ours.spec))
    if not _within(stage.bias, target.bias, np.maximum(stage.size, target.size), _rounded_to(stage, target)):
        differences.append(_name_bias_difference(stage.bias, target.bias, others))
    return differences


def nearest_stages(ours: Layer, theirs: Layer, *, norm_later: bool = False) -> tuple[_Stage, _Stage]:
    """Return both layers with as many of the operations after each folded in as make them most alike.

    ``norm_later``: whether ours is followed by the normalisation, but not directly.
    """
    return _nearest(list(_stages(ours, bare=theirs.norm is None)), list(_stages(theirs, bare=norm_later)))


def _nearest(stages: Sequence[_Stage], targets: Sequence[_Stage]) -> tuple[_Stage, _Stage]:
    return min(((s, t) for s in stages for t in targets), key=lambda both: _distance(*both))


def _are_equal(x: Array | None, y: Array | None) -> bool:
    return x is y or (x is not None and y is not None and ArrayKey(x) == ArrayKey(y))


def is_folded(with_norm: Layer, alone: Layer) -> bool:
    """Whether the other kernel is this one times a factor per output channel, and not this one itself.

    Factors of the norm make it folded, whatever its size; others only where a channel has several weights to show them.
    """
    kernel, other = with_norm.params.kernel, alone.params.kernel
    if kernel.shape != other.shape:
        return False
    if any(_same(stage, _bare(alone)) for stage in _stages(with_norm, bare=False)):
        return True
    if _within(other, kernel, np.abs(kernel.astype(np.float64))):
        return False
    mine, others = unit_vectors(with_norm), unit_vectors(alone)
    return mine.shape[1] > 1 and mean_cosine(mine, others) >= ALIKE


def _bare(layer: Layer) -> _Stage:
    return next(_stages(replace(layer, norm=None, epilogue=()), bare=True))


def _stages(layer: Layer, *, bare: bool) -> Iterator[_Stage]:
    """Return the layer with none, one, … all of its epilogue folded in; ``bare``: also without its normalisation."""
    bias = layer.params.bias
    bias = np.zeros(layer.spec.out_channels) if bias is None else bias.astype(np.float64)
    stage = _Stage(layer.params.kernel, (), bias, np.abs(bias), layer.epilogue)
    if layer.norm is None or bare:
        yield stage
    if layer.norm is not None:
        stage = stage.fold(layer.spec, layer.norm, layer.epilogue)
        yield stage
    for place, norm in enumerate(layer.epilogue):
        stage = stage.fold(layer.spec, norm, layer.epilogue[place + 1 :])
        yield stage


def _same(a: _Stage, b: _Stage) -> bool:
    blocks = zip(a.blocks(), b.blocks(), strict=True)
    near = all(_within(mine, other, np.abs(other), _rounded_to(a, b)) for mine, other in blocks)
    return near and _within(a.bias, b.bias, np.maximum(a.size, b.size), _rounded_to(a, b))


def _rounded_to(a: _Stage, b: _Stage) -> Any:
    """Return the type that the first one's numbers were rounded to where they are stored in another one."""
    return np.float32 if a.stored.dtype == b.stored.dtype else a.stored.dtype


def _within(a: Array, b: Array, size: Array, stored: Any = np.float32) -> bool:
    """Whether folding in float32 explains the difference, and rounding to the type that ``a`` is stored in."""
    rounding = gamma(_FOLD_ROUNDINGS, _SINGLE) * size
    if stored == np.float16:
        rounding = rounding + np.maximum(_HALF * np.abs(b), _HALF_STEP)
    with np.errstate(invalid="ignore"):
        near = np.abs(a - b) <= rounding
    return bool(near.all()) or bool((near | (np.isnan(a) & np.isnan(b)) | (a == b)).all())


def _distance(a: _Stage, b: _Stage) -> float:
    """Return the mean difference of two layers, relative to the largest numbers of ``b``."""

    def relative(ours: Array, theirs: Array) -> float:
        with np.errstate(invalid="ignore"):
            difference = np.nan_to_num(np.abs(ours - theirs), nan=np.inf)
        return float(difference.mean() / max(float(np.max(np.abs(theirs), initial=0.0)), 1e-30))

    return relative(a.kernel, b.kernel) + relative(a.bias, b.bias)


def _applied_twice(stage: _Stage, theirs: Layer) -> list[Difference]:
    """Return a difference where the source's normalisation, or its bias, is applied again after the right weights."""
    scale, shift = np.ones(theirs.spec.out_channels), np.zeros(theirs.spec.out_channels)
    for norm in stage.rest:
        more = norm.scale()
        scale, shift = scale * more, (shift - norm.mean) * more + norm.shift
        if theirs.norm is not None and _equal(scale, shift, theirs.norm):
            return [_NORM_TWICE]
    bias = theirs.params.bias
    if stage.rest and bias is not None and bias.any():
        first = stage.rest[0]
        if (first.scale() == 1).all() and np.array_equal(np.broadcast_to(first.shift, bias.shape), bias):
            return [Difference("bias-twice", "the bias is added twice", fix="remove the Add after the node")]
    return []


def _equal(scale: Array, shift: Array, norm: BatchNorm) -> bool:
    right = norm.scale()
    size = np.abs(norm.mean) * np.abs(right) + np.abs(norm.shift)
    return _within(scale, right, np.abs(right)) and _within(shift, norm.shift - norm.mean * right, size)


_NORM_TWICE = Difference(
    "batch-norm-twice", "the batch normalisation is applied twice",
    fix="fold the normalisation into the weights, or leave it after the node, not both",
)  # fmt: skip
_NORM_LOST = Difference("batch-norm-lost", "the batch normalisation is missing",
                        fix="put it after the node, or fold it into the weights")  # fmt: skip


def _name_norm_mistake(stage: _Stage, ours: Layer, theirs: Layer) -> Difference | None:
    """Return the mistake in folding, or in the normalisation itself, that turns theirs into ours."""
    norm = theirs.norm or ours.norm
    if norm is None:
        return None
    tries = [(_NORM_TWICE, fold(theirs.spec, *theirs.fold_norm(), norm)),
             (_NORM_LOST, replace(theirs, norm=None).fold_norm())]  # fmt: skip
    if theirs.norm is not None:
        right = theirs.norm.epsilon
        text = f"the batch normalisation has epsilon {{:g}} where the source has {right:g}"
        fix = f"normalise with the source's epsilon, {right:g}"
        tries += [(Difference("batch-norm-epsilon", text.format(epsilon), fix=fix), theirs.fold_norm(epsilon))
                  for epsilon in _EPSILONS if epsilon != right]  # fmt: skip
    size = stage.size + max(_stages(theirs, bare=False), key=lambda s: s.size.sum()).size
    for named, (kernel, bias) in tries:
        if _within(stage.kernel, kernel, np.abs(kernel)) and _within(stage.bias, bias, np.abs(bias) + size):
            return named
    if ours.norm is not None and theirs.norm is not None and np.array_equal(ours.params.kernel, theirs.params.kernel):
        title = "the batch normalisation after the node is not the source's"
        return Difference("batch-norm-differs", title, fix="give it the source's gain, shift, mean and variance")
    return None


def _name_rounding(kernel: Array, right: Array, axis: int) -> Difference | None:
    """Return a remark on a kernel that was computed in another order, as a standardised or normalised one is."""
    difference = np.abs(kernel - right)
    largest = np.abs(right).max(tuple(n for n in range(right.ndim) if n != axis), keepdims=True)
    if not (difference <= gamma(_COMPUTED_ROUNDINGS, _SINGLE) * largest).all():
        return None
    relative = float(np.max(difference / np.where(largest > 0, largest, 1)))
    title = f"the kernel differs by rounding, up to {relative:.1e} of the largest weight of its channel"
    return Difference("kernel-rounding", title, fatal=False)


def _name_kernel_difference(kernel: Array, right: Array, others: Sequence[Layer], spec: ConvSpec) -> Difference:
    """Return what was done to the kernel."""
    for words, name, candidate in permuted_kernels(right, spec):
        if candidate.shape == kernel.shape and _within(kernel, candidate, np.abs(candidate)):
            title = f"the kernel is that of the source with {words}"
            return Difference(name, title, fix="give the node the source's kernel in the order O, I/group, *spatial")
    if np.array_equal(np.abs(kernel), np.abs(right)):
        wrong = np.argwhere(kernel != right)
        title = f"{len(wrong)} of the kernel's numbers have the other sign, first at {tuple(map(int, wrong[0]))}"
        return Difference("kernel-sign", title, fix=_WEIGHTS)
    for form in ("float16", "bfloat16"):
        if np.array_equal(kernel, rounded(right, form).astype(np.float64)):
            fix = "export in the source's own dtype"
            return Difference(f"kernel-{form}", f"the kernel was rounded to {form}", fix=fix)
    for other in others:
        if other.params.kernel.shape == kernel.shape and _equals_any(kernel, other.params.kernel, other.fold_norm()[0]):
            return Difference("kernel-of-another", f"the kernel is that of {other.path!r} in the source", fix=_WEIGHTS)
    if np.array_equal(np.sort(kernel, axis=None), np.sort(right, axis=None)):
        return Difference("kernel-permuted", "the kernel has the source's numbers in another order", fix=_WEIGHTS)
    return Difference("kernel-differs", _worst_words("kernel", kernel, right), fix=_WEIGHTS)


def _worst_words(name: str, array: Array, right: Array) -> str:
    """Return how many numbers differ by more than rounding, and the one that differs most, in digits that show it."""
    error = np.abs(array - right)
    wrong = ~(error <= gamma(_FOLD_ROUNDINGS, _SINGLE) * np.abs(right))
    at = np.unravel_index(int(np.argmax(np.where(wrong, np.nan_to_num(error, nan=np.inf), -1))), error.shape)
    pairs = ((f"{array[at]:.{digits}g}", f"{right[at]:.{digits}g}") for digits in range(6, 18))
    got, expected = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
    where = f"most at {tuple(map(int, at))}: {got} where the source has {expected}"
    return f"{int(wrong.sum())} of the {name}'s {array.size} numbers differ, {where}"


def permuted_kernels(right: Array, spec: ConvSpec) -> Iterator[tuple[str, str, Array]]:
    """Yield, for each way to move the axes of a kernel wrongly, words, an id, and the kernel so moved."""
    spatial = tuple(range(2, right.ndim))
    yield "its spatial axes reversed", "kernel-flipped", np.flip(right, spatial)
    if spec.ndim > 1:
        yield "its spatial axes swapped", "kernel-spatial-transposed", np.swapaxes(right, *spatial[-2:])
    yield "its channel axes swapped", "kernel-channels-transposed", np.swapaxes(right, 0, 1)
    yield "its output channels reversed", "kernel-channels-reversed", right[::-1]


def _equals_any(array: Array, *candidates: Array) -> bool:
    return any(_within(array, right.astype(np.float64), np.abs(right)) for right in candidates)


def _name_bias_difference(bias: Array, right: Array, others: Sequence[Layer]) -> Difference:
    if not bias.any():
        return Difference("bias-lost", "the source has a bias, this node has none", fix="give the node its bias")
    if not right.any():
        return Difference("bias-added", "this node has a bias, the source has none", fix="remove the node's bias")
    for other in others:
        candidates = [other.fold_norm()[1]] + ([] if other.params.bias is None else [other.params.bias])
        if bias.shape == (other.spec.out_channels,) and _equals_any(bias, *candidates):
            return Difference("bias-of-another", f"the bias is that of {other.path!r} in the source", fix=_WEIGHTS)
    return Difference("bias-differs", _worst_words("bias", bias, right), fix=_WEIGHTS)
