"""The formats that a layer computes in, and its gradients."""

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
    """The arithmetic of a layer, which its error bounds follow from.

    Attributes:
        accumulator: the format of the sums.
        output_roundings: m, how often a result is rounded to the layer's dtype: 1, or 2 with a separate bias add.
        flushes_subnormals: whether numbers below the smallest normal one become 0.
        inputs: the format that inputs and kernels are rounded to before the products, if it is coarser than the
            layer's dtype (``"tf32"`` on a GPU as shipped), else None.
        stored: the format that results are rounded to before the layer's dtype, if it is coarser (a runtime that keeps
            all tensors in bfloat16), else None.
    """

    accumulator: str
    output_roundings: int = 1
    flushes_subnormals: bool = False
    inputs: str | None = None
    stored: str | None = None
