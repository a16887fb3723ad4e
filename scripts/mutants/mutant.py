"""What a mutant is, and how it is run as an adapter."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from convspec.contract import LayerRequest, Support
from convspec.errors import ShapeError
from convspec.spec import ComputePrecision, ConvParams, ConvSpec, layouts, rounded
from mutants.engine import Layer

Array: TypeAlias = NDArray[np.float64]
Fault: TypeAlias = Callable[[Layer], "Layer | Array | None"]


@dataclass(frozen=True)
class Mutant:
    """A faulty layer.

    Attributes:
        fault: changes a right layer, or returns its output; None leaves it right.
        proof: why its numbers are right after all; empty where they are not.
    """

    id: str
    title: str
    fault: Fault
    proof: str = ""

    def output(self, layer: Layer) -> Array:
        """``(N, O, *out)``, with the fault, in float64."""
        right, changed = layer.right, copy(layer)
        changed.reads, changed.weights = [cells.copy() for cells in layer.reads], layer.weights.copy()
        changed.bias = layer.bias.copy()
        made = self.fault(changed)
        if made is None:
            return right
        return made.output() if isinstance(made, Layer) else made


class Family:
    """Mutants of one kind, entered by a decorator whose text is the title."""

    def __init__(self) -> None:
        self.mutants: list[Mutant] = []

    def __call__(self, title: str, proof: str = "") -> Callable[[Fault], Fault]:
        def enter(fault: Fault) -> Fault:
            self.mutants.append(Mutant(fault.__name__.replace("_", "-"), title, fault, proof))
            return fault

        return enter


_layers: dict[tuple[Any, ...], Layer] = {}


def _layer(spec: ConvSpec, params: ConvParams, x: NDArray[Any], layout: str, dtype: str) -> Layer:
    """The right layer; the last few are kept, since every mutant is given the same."""
    key = (spec, layout, dtype, x.shape, x.tobytes(), params.kernel.tobytes())
    if key not in _layers:
        if len(_layers) >= 8:
            _layers.clear()
        _layers[key] = Layer.of(spec, params, x, layout, dtype)
    return _layers[key]


class MutantAdapter:
    """A mutant behind an adapter's door: as much of the contract as a check of the output uses."""

    layouts = layouts.LAYOUTS
    variant = ""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant, self.name = mutant, mutant.id

    def support(self, *_: Any) -> Support:
        return Support("native")

    def compute_precision(self, spec: ConvSpec, request: LayerRequest) -> ComputePrecision:
        return ComputePrecision("float64" if request.dtype == "float64" else "float32")

    def build(self, spec: ConvSpec, params: ConvParams, layout: str, dtype: str, _: str) -> Any:
        return spec, params, dtype

    def apply(self, built: Any, x: NDArray[Any], layout: str, _: str) -> NDArray[Any]:
        spec, params, dtype = built
        x = layouts.move_axes(x, layout, "NCHW")
        try:
            y = self.mutant.output(_layer(spec, params, x, layout, dtype))
        except ShapeError:
            if self.mutant.id != "never-refuses":
                raise
            y = np.zeros((len(x), spec.out_channels, *(1,) * spec.ndim))
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(layouts.move_axes(rounded(y, dtype), "NCHW", layout))
