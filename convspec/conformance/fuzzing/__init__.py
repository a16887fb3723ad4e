"""Fuzz adapters with random layers: minimise each failure, group failures by cause, write a reproducer for each.

In go adapters and limits; out comes :class:`Fuzzed`, the causes that were found. Needs Hypothesis.
"""

from convspec.conformance.fuzzing.failures import Limits
from convspec.conformance.fuzzing.session import Fuzzed, fuzz

__all__ = ["Fuzzed", "Limits", "fuzz"]
