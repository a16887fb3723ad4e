"""Fuzz adapters with random layers: minimise each failure, group failures by cause, write a reproducer for each.

Input: adapters and limits; output: a :class:`FuzzReport` with one finding for each cause. Needs Hypothesis.
"""

from convspec.conformance.fuzzing.failures import Limits
from convspec.conformance.fuzzing.session import FuzzReport, fuzz

__all__ = ["FuzzReport", "Limits", "fuzz"]
