"""The layers of a model that have weights, and what they read and wrote: what an adapter's ``model`` module returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from convspec.contract.protocol import Reading
    from convspec.spec import Pads

    Array = NDArray[np.floating[Any]]

KINDS = ("conv", "norm", "linear")


@dataclass(frozen=True, eq=False, slots=True)
class Part:
    """One layer with weights.

    Attributes:
        path: where it stands in the model.
        kind: one of :data:`KINDS`.
        name: of its class.
        reading: of a convolution.
        arrays: of a norm ``gain``, ``shift``, ``mean``, ``variance``, those that it has; of a linear layer ``kernel``
            of shape ``(O, I)`` and ``bias``.
        epsilon: of a norm.
        axis: of a norm: where its channels stand, 1 or -1.
        problem: why a convolution could not be read; of one that was called as a function, why a layer could not.
        pads: of a convolution: the cells of pads before it that its spec contains, though its input has them already.
        note: why a pad before it was not folded into its spec.
    """

    path: str
    kind: str
    name: str
    reading: Reading | None = None
    arrays: Mapping[str, Array] = field(default_factory=dict)
    epsilon: float = 0.0
    axis: int = -1
    problem: str = ""
    pads: Pads = ()
    note: str = ""

    @property
    def function(self) -> bool:
        """Whether it was read from the call of a function: there is no layer, or none that says what it does."""
        return self.reading is not None and bool(self.problem)

    @property
    def batch_norm(self) -> bool:
        return self.kind == "norm" and "variance" in self.arrays

    @property
    def weights(self) -> dict[str, Array]:
        """All its arrays in canonical order, by name."""
        if self.reading is None:
            return dict(self.arrays)
        params = self.reading.params
        return {"kernel": params.kernel} | ({} if params.bias is None else {"bias": params.bias})


@dataclass(frozen=True, eq=False, slots=True)
class Call:
    """What a part read and wrote, in the axis order of its framework."""

    path: str
    x: Array
    y: Array
