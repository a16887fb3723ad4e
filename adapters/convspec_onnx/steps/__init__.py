"""The nodes of an ONNX graph as steps of the common vocabulary.

In goes a node with what it read in one run; out comes an ``OperatorStep``: the step that it is, with its arrays.
"""

from convspec_onnx.steps.operation import FIRST, Operation, fixed_tensors, holds_tensors, opset_of, opsets_of
from convspec_onnx.steps.vocabulary import word_of

__all__ = ["FIRST", "Operation", "fixed_tensors", "holds_tensors", "opset_of", "opsets_of", "word_of"]
