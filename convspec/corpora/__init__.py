"""Corpora: named sets of cases, and files of them.

========================= ============================================================================
``tutorial``              three layers with well-known output shapes
``features``              every pair of features that can occur together, edge sizes, and coincidences
``pairwise``              every pair of values of thirteen factors, sizes, layouts and dtypes among them
``threewise``             every triple of values of the same factors
``regressions``           layers with a public bug, each with its link
``architectures``         every distinct convolution of ten well-known networks, at its real size
``quantised``             quantised layers: types, groups, scales of tensors and channels
``timm``                  the 5,432 distinct convolutions of the models in timm, at their real sizes
a path, or ``-``          JSON Lines, plain or gzipped: ``{"spec": {…}, "input_shape": […], …}``
========================= ============================================================================

Input: a name or a path; output: :class:`Case` objects, and the arrays that the seed of a case determines.
"""

from convspec.corpora import test_data
from convspec.corpora.cases import DATA_KINDS, Case, arrays, gradient_arrays, quantized_arrays, uncompared
from convspec.corpora.features import case_traits, traits
from convspec.corpora.library import dump, load, names, sample
from convspec.corpora.quantized import QUANTIZED_KINDS

__all__ = [
    "DATA_KINDS", "QUANTIZED_KINDS", "Case", "arrays", "case_traits", "dump", "gradient_arrays", "load", "names",
    "quantized_arrays", "sample", "test_data", "traits", "uncompared",
]  # fmt: skip
