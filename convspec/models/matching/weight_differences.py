"""In what a layer differs from its source before anything is run, the folds of exporters seen through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.models.matching.kernels import Layer, Normalised, along, fold
from convspec.reference import gamma
from convspec.spec import rounded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from convspec.spec import ConvSpec

    Array = NDArray[np.floating[Any]]

_FOLD_ROUNDINGS = 8  # of the scale, the shift and their products, when somebody folds a normalisation in float32
_SINGLE = 2.0**-24
_BLOCK = 1 << 15  # numbers that are looked at together: what is made of them stays in the processor's cache
_EPSILONS = (1e-3, 1e-5, 1e-6, 1e-8, 1e-12, 0.0)
_FIELDS = ("transposed", "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
           "padding_mode", "output_padding")  # fmt: skip
_FATAL = ("in_channels", "out_channels", "groups", "transposed", "kernel_size")
_WEIGHTS = "export the weights of the source again; nothing may write to them on the way"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which a layer differs from its source; ``fatal`` where the numbers must differ, too."""

    id: str
    title: str
    fatal: bool = True
    fix: str = ""

    def to_dict(self) -> dict[str, str]:
        """``id`` and ``title``, and ``fix`` where there is one."""
        return {"id": self.id, "title": self.title} | ({"fix": self.fix} if self.fix else {})


@dataclass(frozen=True, eq=False, slots=True)
class _Stage:
    """A layer with some of what follows it in its weights.

    Attributes:
        stored: the kernel without what follows.
        factors: by which it is multiplied for that.
        size: what rounding errors of ``bias`` go by.
    """

    stored: Array
    factors: tuple[Array, ...]
    bias: Array
    size: Array
    rest: Sequence[Normalised] = ()

    @property
    def kernel(self) -> Array:
        return self._part(slice(None))

    def blocks(self) -> Iterator[Array]:
        """The kernel, some rows at a time."""
        rows = max(_BLOCK // max(self.stored[:1].size, 1), 1)
        return (self._part(slice(start, start + rows)) for start in range(0, len(self.stored), rows))

    def _part(self, rows: slice) -> Array:
        found = self.stored[rows].astype(np.float64)
        for factor in self.factors:
            found *= factor[rows]
        return found

    def then(self, spec: ConvSpec, norm: Normalised) -> _Stage:
        scale = norm.scale()
        size = (self.size + np.abs(norm.mean)) * np.abs(scale) + np.abs(norm.shift)
        _, bias = fold(spec, np.zeros(()), self.bias, norm)
        return _Stage(self.stored, (*self.factors, along(spec, scale)), bias, np.asarray(size), self.rest)


def differences(ours: Layer, theirs: Layer, others: Iterable[Layer] = ()) -> list[Difference]:
    """In what our layer differs from theirs, normalisations counted; ``others`` are layers that could be mixed up."""
    found = fields(ours.whole, theirs.whole)
    if ours.params.kernel.shape != theirs.params.kernel.shape:
        shapes = f"{ours.params.kernel.shape} where the source has {theirs.params.kernel.shape}"
        return [*found, Difference("kernel-shape-differs", f"the kernel's shape is {shapes}", fix=_WEIGHTS)]
    return found + weights(ours, theirs, list(others))


def fields(ours: ConvSpec, theirs: ConvSpec) -> list[Difference]:
    """The fields of two specs that differ; all but those that shape the kernel may still mean the same."""
    return [
        Difference(
            f"{name.replace('_', '-')}-differs",
            f"{name} is {getattr(ours, name)!r} where the source has {getattr(theirs, name)!r}",
            name in _FATAL,
            _attribute(name, theirs),
        )
        for name in _FIELDS
        if getattr(ours, name) != getattr(theirs, name)
    ]


def _attribute(name: str, right: ConvSpec) -> str:
    """Which attribute of the node must have which value."""
    value = getattr(right, name)
    names = {"stride": "strides", "dilation": "dilations", "groups": "group", "output_padding": "output_padding"}
    if name in names:
        return f"set {names[name]} of the node to {list(value) if isinstance(value, tuple) else value}"
    if name == "padding" and not isinstance(value, str):
        return f"set pads of the node to {[lo for lo, _ in value] + [hi for _, hi in value]}"
    return "" if name != "padding_mode" else f"pad with mode {value!r} before the node"


def weights(ours: Layer, theirs: Layer, others: Sequence[Layer] = ()) -> list[Difference]:
    """In what the weights differ, whatever of what follows was folded into them.

    Both kernels are ``(O, I/g, *spatial)``, transposed ``(I, O/g, *spatial)``, and of the same shape.
    """
    targets = list(_stages(theirs, bare=False))
    stages = list(_stages(ours, bare=theirs.norm is None))
    for target in targets:
        for stage in stages:
            if _same(stage, target):
                return _again(stage, theirs)
    stage, target = min(((s, t) for s in stages for t in targets), key=lambda both: _far(*both))
    if named := _normalisation(stage, ours, theirs):
        return [named]
    found = []
    if not _within(stage.kernel, target.kernel, np.abs(target.kernel)):
        found.append(_kernel(stage.kernel, target.kernel, others, ours.spec))
    if not _within(stage.bias, target.bias, np.maximum(stage.size, target.size)):
        found.append(_bias(stage.bias, target.bias, others))
    return found


def _stages(layer: Layer, *, bare: bool) -> Iterator[_Stage]:
    """The layer with none, one, … all of what is behind it; ``bare``: also without its normalisation."""
    bias = layer.params.bias
    bias = np.zeros(layer.spec.out_channels) if bias is None else bias.astype(np.float64)
    plain = _Stage(layer.params.kernel, (), bias, np.abs(bias), layer.behind)
    if layer.norm is None or bare:
        yield plain
    stage = plain if layer.norm is None else plain.then(layer.spec, layer.norm)
    if layer.norm is not None:
        yield stage
    for place, norm in enumerate(layer.behind):
        stage = replace(stage.then(layer.spec, norm), rest=layer.behind[place + 1 :])
        yield stage


def _same(a: _Stage, b: _Stage) -> bool:
    near = all(_within(mine, other, np.abs(other)) for mine, other in zip(a.blocks(), b.blocks(), strict=True))
    return near and _within(a.bias, b.bias, np.maximum(a.size, b.size))


def _within(a: Array, b: Array, size: Array) -> bool:
    """Whether the difference is what folding in float32 rounds."""
    with np.errstate(invalid="ignore"):
        near = np.abs(a - b) <= gamma(_FOLD_ROUNDINGS, _SINGLE) * size
    return bool(near.all()) or bool((near | (np.isnan(a) & np.isnan(b)) | (a == b)).all())


def _far(a: _Stage, b: _Stage) -> float:
    """How far apart two layers are, in units of theirs."""
    with np.errstate(invalid="ignore"):
        kernel = np.nan_to_num(np.abs(a.kernel - b.kernel), nan=np.inf)
        bias = np.nan_to_num(np.abs(a.bias - b.bias), nan=np.inf)
    scale = max(float(np.max(np.abs(b.kernel), initial=0.0)), 1e-30)
    other = max(float(np.max(np.abs(b.bias), initial=0.0)), 1e-30)
    return float(kernel.mean() / scale + bias.mean() / other)


def _again(stage: _Stage, theirs: Layer) -> list[Difference]:
    """Whether what follows the right weights applies the source's normalisation, or its bias, a second time."""
    scale, shift = np.ones(theirs.spec.out_channels), np.zeros(theirs.spec.out_channels)
    for norm in stage.rest:
        more = norm.scale()
        scale, shift = scale * more, (shift - norm.mean) * more + norm.shift
        if theirs.norm is not None and _equal(scale, shift, theirs.norm):
            return [_twice()]
    bias = theirs.params.bias
    if stage.rest and bias is not None and bias.any():
        first = stage.rest[0]
        if (first.scale() == 1).all() and np.array_equal(np.broadcast_to(first.shift, bias.shape), bias):
            return [Difference("bias-twice", "the bias is added twice", fix="remove the Add behind the node")]
    return []


def _equal(scale: Array, shift: Array, norm: Normalised) -> bool:
    right = norm.scale()
    size = np.abs(norm.mean) * np.abs(right) + np.abs(norm.shift)
    return _within(scale, right, np.abs(right)) and _within(shift, norm.shift - norm.mean * right, size)


def _twice() -> Difference:
    fix = "fold the normalisation into the weights, or leave it behind the node: not both"
    return Difference("batch-norm-twice", "the batch normalisation is applied twice", fix=fix)


def _normalisation(stage: _Stage, ours: Layer, theirs: Layer) -> Difference | None:
    """Which mistake of a fold, or of the normalisation itself, turns theirs into ours."""
    norm = theirs.norm or ours.norm
    if norm is None:
        return None
    plain = replace(theirs, norm=None)
    once = theirs.folded()
    lost = Difference("batch-norm-lost", "the batch normalisation is missing",
                      fix="put it behind the node, or fold it into the weights")  # fmt: skip
    tries = [(_twice(), fold(theirs.spec, *once, norm)), (lost, plain.folded())]
    for epsilon in _EPSILONS:
        if theirs.norm is not None and epsilon != theirs.norm.epsilon:
            right = theirs.norm.epsilon
            text = f"the batch normalisation has epsilon {epsilon:g} where the source has {right:g}"
            named = Difference("batch-norm-epsilon", text, fix=f"normalise with the source's epsilon, {right:g}")
            tries.append((named, theirs.folded(epsilon)))
    size = stage.size + max(_stages(theirs, bare=False), key=lambda s: s.size.sum()).size
    for named, (kernel, bias) in tries:
        if _within(stage.kernel, kernel, np.abs(kernel)) and _within(stage.bias, bias, np.abs(bias) + size):
            return named
    if ours.norm is not None and theirs.norm is not None and np.array_equal(ours.params.kernel, theirs.params.kernel):
        title = "the batch normalisation behind the node is another one"
        return Difference("batch-norm-differs", title, fix="give it the source's gain, shift, mean and variance")
    return None


def _kernel(kernel: Array, right: Array, others: Sequence[Layer], spec: ConvSpec) -> Difference:
    """What was done to the kernel, in words."""
    wrong = int(np.count_nonzero(~((kernel == right) | (np.isnan(kernel) & np.isnan(right)))))
    for words, name, candidate in _moved(right, spec):
        if candidate.shape == kernel.shape and _within(kernel, candidate, np.abs(candidate)):
            title = f"the kernel is that of the source with {words}"
            return Difference(name, title, fix="give the node the source's kernel in the order O, I/group, *spatial")
    if np.array_equal(np.abs(kernel), np.abs(right)):
        at = tuple(int(i) for i in np.argwhere(kernel != right)[0])
        title = f"{wrong} of the kernel's numbers have the other sign, first at {at}"
        return Difference("kernel-sign", title, fix=_WEIGHTS)
    for form in ("float16", "bfloat16"):
        if np.array_equal(kernel, rounded(right, form).astype(np.float64)):
            title = f"the kernel has been rounded to {form} on the way"
            return Difference(f"kernel-{form}", title, fix="export in the source's own type")
    for other in others:
        if other.params.kernel.shape == kernel.shape and _stored(kernel, other.params.kernel, other.folded()[0]):
            return Difference("kernel-of-another", f"the kernel is that of {other.path!r} in the source", fix=_WEIGHTS)
    if np.array_equal(np.sort(kernel, axis=None), np.sort(right, axis=None)):
        return Difference("kernel-permuted", "the kernel has the source's numbers in another order", fix=_WEIGHTS)
    apart = ~(np.abs(kernel - right) <= gamma(_FOLD_ROUNDINGS, _SINGLE) * np.abs(right))
    at = tuple(int(i) for i in np.argwhere(apart)[0])
    numbers = f"first at {at}: {kernel[at]:g} where the source has {right[at]:g}"
    title = f"{int(apart.sum())} of the kernel's {kernel.size} numbers differ, {numbers}"
    return Difference("kernel-differs", title, fix=_WEIGHTS)


def _moved(right: Array, spec: ConvSpec) -> Iterator[tuple[str, str, Array]]:
    spatial = tuple(range(2, right.ndim))
    yield (
        "its spatial axes reversed",
        "kernel-flipped",
        right[(slice(None),) * 2 + (slice(None, None, -1),) * spec.ndim],
    )
    if spec.ndim > 1:
        yield "its spatial axes swapped", "kernel-spatial-transposed", np.swapaxes(right, *spatial[-2:])
    yield "its channel axes swapped", "kernel-channels-transposed", np.swapaxes(right, 0, 1)
    yield "its output channels reversed", "kernel-channels-reversed", right[::-1]


def _stored(found: Array, *candidates: Array) -> bool:
    return any(_within(found, right.astype(np.float64), np.abs(right)) for right in candidates)


def _bias(bias: Array, right: Array, others: Sequence[Layer]) -> Difference:
    if not bias.any():
        return Difference("bias-lost", "the source has a bias, this node has none", fix="give the node its bias")
    if not right.any():
        return Difference("bias-added", "this node has a bias, the source has none", fix="remove the node's bias")
    for other in others:
        theirs = other.params.bias
        if bias.shape == (other.spec.out_channels,) and _stored(
            bias, *([] if theirs is None else [theirs]), other.folded()[1]
        ):
            return Difference("bias-of-another", f"the bias is that of {other.path!r} in the source", fix=_WEIGHTS)
    wrong = int(np.count_nonzero(~(np.abs(bias - right) <= gamma(_FOLD_ROUNDINGS, _SINGLE) * np.abs(right))))
    title = f"{wrong} of the bias's {bias.size} numbers differ from the source's"
    return Difference("bias-differs", title, fix=_WEIGHTS)
