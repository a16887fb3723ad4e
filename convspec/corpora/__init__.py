"""Corpora: named sets of cases, and files of them.

========================= ============================================================================
``tutorial``              three layers with well-known output shapes
``features``              every pair of features that can occur together, edge sizes, and coincidences
``pairwise``              every pair of values of thirteen factors, sizes, layouts and dtypes among them
``threewise``             every three of them
``regressions``           layers in which a public bug was found, each with its link
``architectures``         every distinct convolution of ten well-known networks, at its real size
``timm``                  5,432 distinct convolutions read off the models of timm, at their real sizes
a path, or ``-``          JSON Lines, plain or gzipped: ``{"spec": {…}, "input_shape": […], …}``
========================= ============================================================================

In goes a name or a path; out come :class:`Case` objects, and the arrays that a case's seed gives.
"""

from convspec.corpora import test_data
from convspec.corpora.cases import DATA_KINDS, Case, arrays, gradient_arrays, uncompared
from convspec.corpora.features import case_traits, traits
from convspec.corpora.library import dump, load, names, sample

__all__ = [
    "DATA_KINDS",
    "Case",
    "arrays",
    "case_traits",
    "dump",
    "gradient_arrays",
    "load",
    "names",
    "sample",
    "test_data",
    "traits",
    "uncompared",
]
