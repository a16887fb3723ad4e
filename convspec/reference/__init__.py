"""The oracle: the float64 convolution that every adapter is compared with, and the only tolerances of the project.

The input is a spec, its weights and an input in the canonical order; the result is the layer's output and gradients
(:func:`conv`, :func:`gradients`), the error bounds of rounding, and the verdict on an actual result. ``steps`` does the
same for what stands between convolutions, ``quantized`` for convolutions of integers. NumPy only, at any rank.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from convspec.reference import accuracy_probes, error_bounds, quick_check, verdict
from convspec.reference.accuracy_probes import LADDER, judge_class, measure, probes
from convspec.reference.convolution import conv, gradient_magnitudes, gradients, magnitude, source_indices
from convspec.reference.error_bounds import STATISTICAL_MINIMUM, Bounds, bounds, gamma, products
from convspec.reference.rounding_spread import SPREAD_FACTOR, Spread, move_numbers, spread_limits, units_for
from convspec.reference.verdict import EXACT_KINDS, VERDICTS, Verdict, judge

if TYPE_CHECKING:
    from convspec.reference import quantized as quantized
    from convspec.reference import steps as steps

__all__ = [
    "EXACT_KINDS", "LADDER", "SPREAD_FACTOR", "STATISTICAL_MINIMUM", "VERDICTS", "Bounds", "Spread", "Verdict",
    "accuracy_probes", "bounds", "conv", "error_bounds", "gamma", "gradient_magnitudes", "gradients", "judge",
    "judge_class", "magnitude", "measure", "move_numbers", "probes", "products", "quantized", "quick_check",
    "source_indices", "spread_limits", "steps", "units_for", "verdict",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import ``steps`` and ``quantized`` on first use: workers, which compute convolutions alone, do not need them."""
    if name in ("quantized", "steps"):
        return importlib.import_module(f"convspec.reference.{name}")
    raise AttributeError(f"module 'convspec.reference' has no attribute {name!r}")
