"""A quantised layer with a mistake in it, and the search for the mistake that explains wrong integers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec import reference
from convspec.diagnosis.evidence import Distance
from convspec.diagnosis.faulty_layer import IMPOSSIBLE, right_layer
from convspec.diagnosis.findings import Diagnosis, Finding
from convspec.diagnosis.mistakes.catalogue import Mistake, catalogue
from convspec.reference import Verdict
from convspec.reference.quantized import QuantizedLayer
from convspec.spec import ConvParams

Array: TypeAlias = NDArray[Any]
_MACS = 2_000_000  # of a layer in which all mistakes of float layers are tried, some hundred convolutions
IntegerVariants: TypeAlias = (
    "Iterator[tuple[str, Integers]]"  # wrong layers, each with a phrase that says what is wrong
)


@dataclass(frozen=True, eq=False, slots=True)
class Integers:
    """A quantised layer with a mistake in it.

    Attributes:
        pad: what the pads hold beyond the zero point of the input.
        change: applied to the sums before they are scaled.
        finish: makes outputs of the scaled sums; None: any legal rounding, clipped to the ends of the layer.
        read: turns the actual outputs into those of ``layer``, where the mistake stores them in another way.
        spread: how much less, and how much more than the sums may be scaled.
    """

    layer: QuantizedLayer
    pad: float = 0.0
    change: Callable[[Array], Array] | None = None
    finish: Callable[[Array], Array] | None = None
    read: Callable[[Array], Array] | None = None
    spread: tuple[Array, Array] | None = None

    def explains(self, y: Array, sums: Array) -> bool:
        """Return whether the layer gives these outputs; ``sums`` are its sums, unchanged."""
        y = y if self.read is None else self.read(y)
        sums = sums if self.change is None else self.change(sums)
        if self.finish is not None:
            return np.array_equal(self.finish(self.layer.values(sums)), y)
        if self.spread is not None:
            return bool(self.layer.fits(y, sums, *self.spread).all())
        return bool(self.layer.legal(y, sums).all())


class _Sums:
    """The sums of wrong layers: those that differ in bias and scales only share one convolution."""

    def __init__(self) -> None:
        self.known: dict[tuple[Any, ...], tuple[QuantizedLayer, Array]] = {}

    def of(self, wrong: Integers) -> Array:
        layer, quant = wrong.layer, wrong.layer.quant
        key = (layer.spec, id(layer.x), id(layer.weight), quant.input_zero, quant.weight_zero, wrong.pad)
        if key not in self.known:
            self.known[key] = layer, replace(layer, bias=None).sums(wrong.pad)  # the layer too: its ids stay its own
        sums = self.known[key][1]
        return sums if layer.bias is None else sums + layer.bias.reshape(-1, *(1,) * layer.spec.ndim)


def find_mistakes(layer: QuantizedLayer, y: Array) -> Iterator[Finding]:
    """Yield the mistakes of which each explains every output, in canonical order, as in the catalogue.

    The mistakes of quantisation come first; where none fits, those of float layers are made of the sums.
    """
    sums, found, y = _Sums(), False, np.asarray(y, np.float64)
    if y.shape == layer.spec.output_shape(layer.x.shape):
        right = sums.of(Integers(layer))
        for kind in catalogue(integers=True):
            with suppress(*IMPOSSIBLE):
                for phrase, wrong in kind.function(*((layer, right, y) if kind.fitted else (layer,))):
                    if wrong.explains(y, sums.of(wrong)):
                        found = True
                        yield _finding(kind, phrase, wrong)
                        break
    if not found:
        yield from _float_mistakes(layer, y)


def _float_mistakes(layer: QuantizedLayer, y: Array) -> Iterator[Finding]:
    if layer.spec.macs(layer.x.shape) > _MACS:
        return
    bias = None if layer.bias is None else layer.bias.astype(float)
    params, x = ConvParams(layer.kernel, bias), layer.x.astype(float) - layer.quant.input_zero
    for kind in catalogue():
        for phrase, wrong in kind.apply(right_layer(layer.spec, params, x)):
            with suppress(*IMPOSSIBLE):
                sums = wrong.output()
                fits = sums.shape == y.shape and sums.shape[1] == layer.spec.out_channels and np.isfinite(sums).all()
                if fits and layer.legal(y, sums).all():
                    yield _finding(kind, phrase, Integers(layer))
                    break


def _finding(kind: Mistake, phrase: str, wrong: Integers) -> Finding:
    return Finding((kind,), phrase, Distance(0.0, 0.0, exact=True), wrong)


def diagnose_integers(layer: QuantizedLayer, y: Array) -> Diagnosis:
    """Find the known mistakes that turn a quantised layer into the integers ``y``, in canonical order."""
    shapes = layer.spec.output_shape(layer.x.shape), y.shape
    if shapes[0] == y.shape and layer.legal(y, layer.sums()).all():
        return Diagnosis(agrees=True)
    tried = len(catalogue(integers=True)) + len(catalogue())
    return Diagnosis(agrees=False, findings=tuple(find_mistakes(layer, y)), tried=tried, shapes=shapes)


def judge_integers(layer: QuantizedLayer, y: Array) -> Verdict:
    """Return the verdict on the outputs of a quantised layer; where they are wrong, it names the first mistake."""
    judged = reference.quantized.judge_quantized(layer, y)
    if judged.verdict == "agree" or "index" not in judged.evidence:
        return judged
    finding = next(find_mistakes(layer, y), None)
    return judged if finding is None else replace(judged, reason=f"{judged.reason}: {finding.what}")
