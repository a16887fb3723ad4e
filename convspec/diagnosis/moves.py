"""Rearrangements of an output, written for arrays of indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from convspec.diagnosis.layer import FILL

if TYPE_CHECKING:
    from convspec.diagnosis.layer import Move


def indexed(*index: Any) -> Move:
    """Those elements only, as ``y[index]``."""
    return lambda y: y[index]


def turned(*axes: int) -> Move:
    """The axes in that order."""
    return lambda y: y.transpose(axes)


def padded(before: Sequence[int], after: Sequence[int]) -> Move:
    """So many elements more before and after each spatial axis, that nobody computed."""
    widths = [(0, 0), (0, 0), *zip(before, after, strict=True)]
    return lambda y: np.pad(y, widths, constant_values=FILL)
