"""Scripts that run a model by ONNX Runtime or onnx's evaluator."""

from __future__ import annotations

from convspec.contract import Adapter, LayerRequest, Plan
from convspec.errors import UnsupportedError

_LOAD = """
values = {"weight": kernel%s}
for tensor in layer.graph.initializer:
    if tensor.name in values:
        native = values[tensor.name].astype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        tensor.CopyFrom(numpy_helper.from_array(native, tensor.name))
inputs = x.astype(helper.tensor_dtype_to_np_dtype(layer.graph.input[0].type.tensor_type.elem_type))
"""
_RUNTIME = """import onnxruntime as ort

options = ort.SessionOptions()
options.graph_optimization_level = ort.GraphOptimizationLevel.%s
session = ort.InferenceSession(layer.SerializeToString(), options, providers=["%sExecutionProvider"])
actual = session.run(None, {"x": inputs})[0]
"""
_EVALUATOR = """from onnx.reference import ReferenceEvaluator

actual = ReferenceEvaluator(layer).run(None, {"x": inputs})[0]
"""


def script(plan: Plan, request: LayerRequest, adapter: Adapter) -> str:
    """Return code that makes the model, loads its weights, and computes ``actual``; UnsupportedError for gradients."""
    if request.direction != "forward":
        raise UnsupportedError("ONNX Runtime has no gradients: an inference session runs forward only")
    if adapter.name == "onnx-reference":
        run = _EVALUATOR
    else:
        level = "ORT_DISABLE_ALL" if adapter.variant == "off" else "ORT_ENABLE_ALL"
        run = _RUNTIME % (level, "CUDA" if request.device.startswith("cuda") else "CPU")
    convert = "actual = actual.astype(np.float32)\n" if plan.dtype == "bfloat16" else ""
    return plan.text + _LOAD % (', "bias": bias' if plan.spec.bias else "") + run + convert
