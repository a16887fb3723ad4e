"""Name the known mistake that gives exactly these wrong numbers.

In go a spec, weights, an input and an actual output; out comes a :class:`Diagnosis` whose findings name the mistake,
the evidence and the fix. The mistakes themselves are in ``mistakes``, one module for each theme.
"""

from convspec.diagnosis.evidence import IMPOSSIBLE
from convspec.diagnosis.faulty_layer import Layer, right
from convspec.diagnosis.findings import Diagnosis, Finding, lines
from convspec.diagnosis.mistakes.catalogue import THEMES, Mistake, catalogue
from convspec.diagnosis.search import diagnose

__all__ = [
    "IMPOSSIBLE",
    "THEMES",
    "Diagnosis",
    "Finding",
    "Layer",
    "Mistake",
    "catalogue",
    "diagnose",
    "lines",
    "right",
]
