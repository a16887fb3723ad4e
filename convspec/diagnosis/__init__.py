"""Find the known mistake that gives exactly these wrong numbers.

The input is a spec, its weights, an input array and the actual output; the result is a :class:`Diagnosis`, whose
findings name the mistake, the evidence and the fix. The mistakes are in ``mistakes``, one module per theme.
"""

from convspec.diagnosis.faulty_layer import IMPOSSIBLE, Layer, right_layer
from convspec.diagnosis.findings import Diagnosis, Finding, lines
from convspec.diagnosis.integers import judge_integers
from convspec.diagnosis.mistakes.catalogue import INTEGER_THEMES, THEMES, Mistake, catalogue
from convspec.diagnosis.search import diagnose

__all__ = [
    "IMPOSSIBLE", "INTEGER_THEMES", "THEMES", "Diagnosis", "Finding", "Layer", "Mistake", "catalogue", "diagnose",
    "judge_integers", "lines", "right_layer",
]  # fmt: skip
