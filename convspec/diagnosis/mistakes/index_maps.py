"""Rearrangements of an output, written for arrays of indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.diagnosis.faulty_layer import FILL
from convspec.errors import ShapeError

if TYPE_CHECKING:
    from convspec.diagnosis.faulty_layer import Move


def indexed(*index: Any) -> Move:
    """Those elements only, as ``y[index]``; a ShapeError where an output, of two mistakes, does not have them."""

    def taken(y: Any) -> Any:
        try:
            return y[index]
        except IndexError as error:
            raise ShapeError(f"an output of shape {y.shape} has no such elements") from error

    return taken


def turned(*axes: int) -> Move:
    """The axes in that order."""
    return lambda y: y.transpose(axes)


def padded(before: Sequence[int], after: Sequence[int]) -> Move:
    """So many elements more before and after each spatial axis, that nobody computed."""
    widths = [(0, 0), (0, 0), *zip(before, after, strict=True)]
    return lambda y: np.pad(y, widths, constant_values=FILL)
