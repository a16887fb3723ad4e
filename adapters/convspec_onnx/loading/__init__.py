"""Read models and inputs of unknown origin without trusting them.

In goes a path; out comes an ``onnx.ModelProto`` with its external data inside it, or a :class:`DetachedModel`, whose
large weights are arrays outside the message and whose functions are inlined. Anything else raises RequestError.
"""

from convspec_onnx.loading import inputs
from convspec_onnx.loading.inline_functions import inline, subgraphs, tensors_read
from convspec_onnx.loading.large_weights import DetachedModel, load_model
from convspec_onnx.loading.untrusted import Array, Arrays, all_tensors, infer_shapes, load_proto, to_array, to_proto

__all__ = [
    "Array", "Arrays", "DetachedModel", "all_tensors", "infer_shapes", "inline", "inputs", "load_model", "load_proto",
    "subgraphs", "tensors_read", "to_array", "to_proto",
]  # fmt: skip
