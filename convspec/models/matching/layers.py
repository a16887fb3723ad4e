"""Which layer of one model is which of another, and in what the two differ before anything is run."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from convspec.models.matching import kernels
from convspec.models.matching import weight_differences as contrast
from convspec.models.matching.kernels import Layer, Normalised

if TYPE_CHECKING:
    from convspec.contract import Call, Part
    from convspec.models.run_model import Array, Model
    from convspec.spec import ConvSpec

FIELDS = ("transposed", "in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups",
          "padding_mode", "output_padding")  # fmt: skip
_SPEC_IDS = {f"{name.replace('_', '-')}-differs" for name in FIELDS}
_GENERIC = {"conv", "conv1d", "conv2d", "conv3d", "node", "model", "graph", "dense", "linear", "gemm", "module",
            "layers", "batch", "norm", "normalization", "batchnorm", "depthwise", "bn"}  # fmt: skip


@dataclass(frozen=True, eq=False, slots=True)
class Pair:
    """A layer of model a and the one of model b that it was matched with, either of them None.

    ``fold_a`` and ``fold_b`` are batch norms right behind a convolution that the other model has within its kernel.
    """

    a: Part | None
    b: Part | None
    fold_a: Part | None = None
    fold_b: Part | None = None


def aligned(a: Model, b: Model) -> list[Pair]:
    """All layers of both models in the order of a's execution, b's that are left last.

    Convolutions by their kernels' numbers, in whatever order these are, then by name, shape and order; batch norms by
    the convolutions that they stand behind.
    """
    convs = kernels.matched(a.ordered("conv"), b.ordered("conv"), _KEYS)
    found: list[Pair] = []
    behind: dict[int, int] = {}
    for place, (ours, theirs) in enumerate(convs):
        norms = norm_behind(a, ours), norm_behind(b, theirs)
        fold = ours is not None and theirs is not None and (norms[0] is None) != (norms[1] is None)
        found.append(Pair(ours, theirs, *(norms if fold else (None, None))))
        behind |= {id(norm): place for norm in norms if norm is not None}
    folded = {id(norm) for pair in found for norm in (pair.fold_a, pair.fold_b) if norm is not None}
    mine, others = ([n for n in model.ordered("norm") if id(n) not in folded] for model in (a, b))
    found += [Pair(*both) for both in kernels.matched(mine, others, (lambda norm: behind.get(id(norm)), *_KEYS))]
    found += [Pair(*both) for both in kernels.matched(a.ordered("linear"), b.ordered("linear"), _KEYS)]
    if not a.executed:
        return found
    order = {call.path: place for place, call in reversed(list(enumerate(a.calls)))}
    return sorted(found, key=lambda pair: order.get(pair.a.path, len(order)) if pair.a else len(order) + 1)


def norm_behind(model: Model, conv: Part | None) -> Part | None:
    """The batch norm that reads exactly what the convolution wrote, and nobody else did."""
    if conv is None:
        return None
    calls: dict[str, Call] = {}
    for call in model.calls:
        calls.setdefault(call.path, call)
    mine = calls.get(conv.path)
    for part in model.parts:
        if not part.batch_norm or part.path not in calls or mine is None:
            continue
        if np.array_equal(mine.y, calls[part.path].x):
            return part
    return None


# -- keys: equal ones belong together ----------------------------------------------------------------------------------


def weight(part: Part) -> Array | None:
    """The array that tells a layer from others: the kernel, or a norm's mean, else its gain."""
    arrays = part.weights
    return next((arrays[name] for name in ("kernel", "mean", "gain", "shift") if name in arrays), None)


def shape(part: Part) -> Hashable:
    """What two layers must have in common for their weights to be moved."""
    array = weight(part)
    spec = part.reading.spec if part.reading else None
    return None if array is None else (part.kind, spec and spec.transposed, spec and spec.groups, array.shape)


def name(part: Part) -> str | None:
    """A path's words that say something, in lower case; None where there are none."""
    split = re.sub(r"([a-z])([A-Z])", r"\1.\2", part.path).lower()
    words = [word for word in re.split(r"[/._]+", split) if word and word not in _GENERIC]
    return ".".join(words) if any(re.search("[a-z]", word) for word in words) else None


def _numbers(part: Part) -> Hashable:
    array = weight(part)
    return None if array is None else (array.shape, array.tobytes())


def _sorted_numbers(part: Part) -> Hashable:
    array = weight(part)
    return None if array is None else np.sort(array, axis=None).tobytes()


def _size(part: Part) -> Hashable:
    array = weight(part)
    return None if array is None else (part.kind, array.size)


_KEYS: tuple[Callable[[Part], Hashable], ...] = (
    lambda part: name(part) and (name(part), _numbers(part)),
    _numbers,
    _sorted_numbers,
    lambda part: name(part) and (name(part), shape(part)),
    shape,
    _size,
    lambda part: part.kind,
)


# -- differences that need no run --------------------------------------------------------------------------------------


def layer(conv: Part, norm: Part | None = None) -> Layer | None:
    """A convolution, and a norm behind it, as the matching knows them; None where it could not be read."""
    if conv.reading is None:
        return None
    return Layer(conv.path, conv.reading.spec, conv.reading.params, None if norm is None else normalised(norm))


def normalised(norm: Part) -> Normalised:
    """A batch norm with all its arrays, those that it lacks as ones and zeros."""
    arrays = norm.arrays
    mean = arrays["mean"]
    gain, shift = arrays.get("gain", np.ones_like(mean)), arrays.get("shift", np.zeros_like(mean))
    return Normalised(gain, shift, mean, arrays["variance"], norm.epsilon)


def spec_differences(a: ConvSpec, b: ConvSpec) -> list[str]:
    """In what two specs differ, a's value before b's: ``stride (2, 2): pads (1, 1) against (0, 1)``."""
    found = []
    for field in FIELDS:
        ours, theirs = getattr(a, field), getattr(b, field)
        if ours == theirs:
            continue
        if field == "padding":
            strides = f"stride {a.stride}: " if a.stride == b.stride and max(a.stride) > 1 else ""
            found.append(f"{strides}pads {_pads(ours)} against {_pads(theirs)}")
        else:
            found.append(f"{field.replace('_', ' ')} {ours} against {theirs}")
    return found


def _pads(padding: str | Sequence[tuple[int, int]]) -> str:
    if isinstance(padding, str):
        return repr(padding)
    return str(tuple(padding[0])) if len(set(padding)) == 1 else str(tuple(padding))


def weight_differences(pair: Pair, others: Sequence[Part] = ()) -> list[contrast.Difference]:
    """In what the weights of b's convolution differ from a's, folded norms counted; ``others`` are a's layers."""
    assert pair.a is not None
    assert pair.b is not None
    ours, theirs = layer(pair.b, pair.fold_b), layer(pair.a, pair.fold_a)
    if ours is None or theirs is None:
        return []
    rest = [one for one in (layer(part) for part in others if part is not pair.a) if one is not None]
    return [d for d in contrast.differences(ours, theirs, rest) if d.id not in _SPEC_IDS]


def norm_differences(a: Part, b: Part) -> list[str]:
    """In what two norms differ, a's value before b's."""
    found = [] if a.epsilon == b.epsilon else [f"epsilon {a.epsilon:g} against {b.epsilon:g}"]
    apart = []
    for what, neutral in (("gain", 1.0), ("shift", 0.0), ("mean", 0.0), ("variance", 1.0)):
        ours, theirs = (part.arrays.get(what, np.asarray(neutral)) for part in (a, b))
        if ours.size != theirs.size and 1 not in (ours.size, theirs.size):
            found.append(f"{what} of {ours.size} numbers against {theirs.size}")
        elif not (ours == theirs).all():
            apart.append(what)
    if apart:
        found.append(f"{', '.join(apart)} {'differs' if len(apart) == 1 else 'differ'}")
    return found
