"""Explain a kernel that is its source's times a factor per channel: an optimiser moved the factor.

A product between two layers may be folded into the kernel before it or after it, through a ReLU if it is positive; a
normalisation as well. The results decide: the node's output must be the source layer's, times one factor per channel
at most, and a layer whose output has such a factor is right only if the results of both models agree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from convspec import reference
from convspec.errors import ConvspecError
from convspec.models import Difference, Layer, common_rank, grouped_kernel
from convspec.models.comparison.common_rank import CommonRank
from convspec.spec import ConvParams
from convspec_onnx.graph import as_float
from convspec_onnx.loading import Array

_ROUNDINGS = 64 * 2.0**-24  # of a product of factors, relative to the largest weight of a channel
_ONE = 2.0**-12  # half of float32's digits: an output has no other factor than 1 if it is nearer


@dataclass(frozen=True, eq=False)
class Factors:
    """The factors that turn the source's kernel into the node's: one per output channel, and one per input channel."""

    outputs: Array
    inputs: Array

    @property
    def settled(self) -> bool:
        """Whether the node's own output is the source's; otherwise the nodes after it must make up for the factor."""
        return bool((self.outputs == 1).all())

    def note(self) -> Difference:
        """Return the explanation as a remark."""
        if not self.settled:
            words = f"factor {_words(self.outputs)} of the output moved into the kernel; the results agree"
        elif (np.abs(self.inputs - 1) <= _ONE).all():
            words = "another input and another bias give the source's output"
        else:
            words = f"factor {_words(self.inputs)} moved into the kernel"
        return Difference("factor-moved", words, fatal=False)

    def finding(self) -> Difference:
        """Return the factor of the output as a fault, where nothing makes up for it."""
        title = f"the kernel is that of the source times {_words(self.outputs)}"
        return Difference("kernel-scaled", title, fix="remove the factor, or divide by it after the node")


def find_factors(form: CommonRank, source: Array, y: Array, activation: str = "") -> Factors | None:
    """Return the factors of a node that computed ``y`` where its source's layer read ``source``, or None.

    ``activation``: the one that the node applies itself.
    """
    if form.ours.params.kernel.shape != form.theirs.params.kernel.shape or activation not in ("", "Relu"):
        return None
    found = None
    for mine, kernel, own, own_kernel in output_stages(form, as_float(source), as_float(y)):
        other = np.maximum(own, 0) if activation else own
        outputs = _ratio(mine, other)
        scaled = (other * outputs.reshape(-1, *(1,) * (other.ndim - 2))).astype(y.dtype)
        if common_rank.compare_tensors(mine.astype(y.dtype), scaled):
            continue
        factors = _of_kernels(kernel, own_kernel, outputs)
        if factors is not None and (found is None or factors.settled):
            found = factors
    return found


def output_stages(form: CommonRank, source: Array, y: Array) -> Iterator[tuple[Array, Array, Array, Array]]:
    """Yield both layers' outputs of one shape with their kernels, after each of the operations that may be folded.

    The node computed ``y``; the source's layer computes its output from what it read, ``source``.
    """
    theirs = form.theirs
    try:
        right = reference.conv(theirs.spec, ConvParams(as_float(theirs.params.kernel), theirs.params.bias), source)
    except ConvspecError:
        return
    others = list(_stages(theirs, right))[theirs.norm is not None :]
    for mine, kernel in _stages(form.ours, y):
        yield from ((mine, kernel, own, own_kernel) for own, own_kernel in others if own.shape == mine.shape)


def _stages(layer: Layer, y: Array) -> Iterator[tuple[Array, Array]]:
    """Yield the output, and what each normalisation, product or sum after it makes of it; and the kernel of this."""
    kernel = grouped_kernel(layer.spec, as_float(layer.params.kernel).astype(np.float64))
    yield y, kernel
    for norm in (*((layer.norm,) if layer.norm else ()), *layer.epilogue):
        scale, mean, shift = (
            np.broadcast_to(np.asarray(v, np.float64), y.shape[1:2]).reshape(-1, *(1,) * (y.ndim - 2))
            for v in (norm.scale(), norm.mean, norm.shift)
        )
        y, kernel = (y - mean) * scale + shift, kernel * scale.reshape(*kernel.shape[:2], 1, 1)
        yield y, kernel


def _ratio(mine: Array, other: Array) -> Array:
    """Return the factor of each channel by least squares; exactly 1 where it is near or unknown."""
    a, b = (np.moveaxis(v, 1, 0).reshape(v.shape[1], -1).astype(np.float64) for v in (mine, other))
    ratio = _fit(a, b, (1,))[:, 0]
    return np.where(np.isfinite(ratio) & (np.abs(ratio - 1) > _ONE), ratio, 1.0)


def _of_kernels(mine: Array, right: Array, outputs: Array) -> Factors | None:
    """Return the factors of the kernels, those of the outputs being known roughly; None for any other difference."""
    groups, rows = mine.shape[:2]
    out = outputs.reshape(groups, rows, 1, 1)
    unit = out == 1
    for _ in range(3):
        inputs = _fit(mine, right * out, (1, 3))
        out = np.where(unit, 1.0, _fit(mine, right * inputs, (2, 3)))
    candidate = right * inputs * out
    largest = np.abs(candidate).max(axis=3, keepdims=True, initial=0.0)
    if not (out.all() and inputs.all()):  # what a factor of 0 hides is not explained
        return None
    if not (np.abs(mine - candidate) <= _ROUNDINGS * largest).all():
        return None
    return Factors(out.reshape(-1), inputs.reshape(-1))


def _fit(a: Array, b: Array, axes: tuple[int, ...]) -> Array:
    """Return the factors of ``b`` that make it ``a``; 1 for zeros."""
    size = (b * b).sum(axes, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(size > 0, (a * b).sum(axes, keepdims=True) / size, 1.0))


def _words(factors: Array) -> str:
    low, high = float(factors.min()), float(factors.max())
    return f"{low:.6g}" if high - low <= _ONE * abs(high) else f"{low:.3g} to {high:.3g}, by channel,"
