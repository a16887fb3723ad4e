"""Check whether a norm's output is what the other model's norm computes from the same input.

The norm and its bound are those of :mod:`convspec.reference.steps`.
"""

from __future__ import annotations

import numpy as np

from convspec import reference
from convspec.contract import Part
from convspec.errors import ConvspecError
from convspec.models.comparison.layer_check import LayerCheck, check_elements
from convspec.models.dataflow.calls import step_of_norm
from convspec.spec import Array, format_of


def is_computed(norm: Part) -> bool:
    """Whether the form of a norm is known, so that it can be computed."""
    return bool(norm.norm) or norm.batch_norm


def check_norm(norm: Part, x: Array, y: Array, *, fast_variance: bool) -> LayerCheck:
    """Check that ``y`` is the norm of ``x``, both in the axis order of the norm's own framework.

    ``fast_variance``: whether the layer that computed ``y`` takes the variance as E[x²] - E[x]².
    """
    try:
        step, arrays = step_of_norm(norm, x.shape, fast_variance=fast_variance)
        if reference.steps.is_within(step, [x], [y], arrays, "float32"):
            return LayerCheck(True)
        ((expected, bound),) = reference.steps.evaluate_bounded(step, [x], arrays)
    except (ConvspecError, ValueError, IndexError):
        return LayerCheck(False, f"the norm of model a does not take an input of shape {x.shape}")
    if y.dtype == np.float16:
        bound = bound + format_of("float16").unit_roundoff * np.abs(expected)
    if not np.isfinite(bound).all() and np.isfinite(x).all():
        return LayerCheck(None, "its variance cancels: the bound on its rounding says nothing")
    return check_elements(y, expected, bound)
