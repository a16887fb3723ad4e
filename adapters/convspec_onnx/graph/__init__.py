"""Find the convolutions of an ONNX graph and read them without running anything.

In goes a model from ``loading``; out come its convolutions as :class:`Conv`, each with its spec, parameters and
:class:`Scope` (its graph, with constants and shapes), matrix products that are 1×1 convolutions, and lint notes.
"""

from convspec_onnx.graph.convolutions import Conv, find_convolutions, find_products, resolve_layer, to_rows
from convspec_onnx.graph.lint import lint_graph
from convspec_onnx.graph.scope import (
    Scope,
    along_axis,
    as_float,
    attributes_of,
    dequantize,
    epsilon_of,
    pad_of,
    read_pad,
)

__all__ = [
    "Conv", "Scope", "along_axis", "as_float", "attributes_of", "dequantize", "epsilon_of", "find_convolutions",
    "find_products", "lint_graph", "pad_of", "read_pad", "resolve_layer", "to_rows",
]  # fmt: skip
