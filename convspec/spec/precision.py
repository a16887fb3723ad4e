"""In which format a layer computes, and the gradients that it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]

DIRECTIONS = ("forward", "input", "kernel", "bias")


@dataclass(frozen=True, eq=False, slots=True)
class Gradients:
    """Gradients of ⟨y, dy⟩, in canonical order: ``input`` as x's layout, ``kernel``, ``bias`` (None without one)."""

    input: Array
    kernel: Array
    bias: Array | None


@dataclass(frozen=True, slots=True)
class ComputePrecision:
    """How a layer computes, for the bounds.

    Attributes:
        accumulator: the format in which products are summed.
        output_roundings: m, how often a result is rounded to the layer's dtype: 1, or 2 with a separate bias add.
        flushes_subnormals: whether numbers below the smallest normal one become 0.
        inputs: the format that inputs and kernels are rounded to before they are multiplied, where it is
            coarser than the layer's dtype (``"tf32"`` on a GPU as shipped); None where it is not.
        stored: the format that results are rounded to before they come out in the layer's dtype, where it is coarser
            (a runtime that keeps all tensors in bfloat16); None where it is not.
    """

    accumulator: str
    output_roundings: int = 1
    flushes_subnormals: bool = False
    inputs: str | None = None
    stored: str | None = None
