"""A frozen pack of test vectors: convolutions with inputs, weights and outputs as files for any language.

:func:`write` makes the same folder, byte for byte, on every machine and with every version of Python and NumPy. The
inputs come from an own generator of integers (``drawing``); every output is a sum of products that float64 holds
exactly, so that no order of summation and no library changes a bit (``vectors``).
"""

from convspec.corpora.pack.drawing import draw_integers
from convspec.corpora.pack.folder import VERSION, Pack, write
from convspec.corpora.pack.vectors import Vector, draw_vectors

__all__ = ["VERSION", "Pack", "Vector", "draw_integers", "draw_vectors", "write"]
