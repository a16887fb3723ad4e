"""A model run by plain LiteRT, as text."""

from __future__ import annotations

import re

from convspec.contract import Adapter, LayerRequest, Plan
from convspec.errors import UnsupportedError
from convspec_litert.weights import ORDERS, axes_of

_RESOLVERS = {"xnnpack": "AUTO", "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}
_CONSTANT = re.compile(r'tensor\("(weight|bias)", np\.zeros\(.*?, np\.(\w+)\)\)')
_SIZE = re.compile(r'size = operator\("SHAPE".*?(np\.array.*?)\)\n.*?(np\.array.*?)\)\n.*?(?=weight)', re.DOTALL)
_RUN = """
import flatbuffers
from ai_edge_litert.interpreter import Interpreter, OpResolverType

builder = flatbuffers.Builder()
builder.Finish(layer.Pack(builder), file_identifier=b"TFL3")
interpreter = Interpreter(
    model_content=bytes(builder.Output()), experimental_op_resolver_type=OpResolverType.{resolver}
)
interpreter.resize_tensor_input(0, x.shape)
interpreter.allocate_tensors()
interpreter.set_tensor(0, np.ascontiguousarray(x))
interpreter.invoke()
actual = interpreter.get_tensor(graph.outputs[0])
"""


def script(plan: Plan, request: LayerRequest, adapter: Adapter) -> str:
    """Return code that builds the model with ``kernel`` and ``bias``, of a fixed size if it is known, and runs it.

    Raises:
        UnsupportedError: for gradients.
    """
    if request.direction != "forward":
        raise UnsupportedError("LiteRT has no gradients: an interpreter runs forward only")
    text, spec = plan.text, plan.spec
    if request.input_shape is not None:
        batch, _, *spatial = request.input_shape
        shape = [batch, *(1,) * (spec.ndim == 1), *spatial, 0]
        text = _SIZE.sub(rf'size = tensor("size", np.int32({shape}) * \1 + \2)\n', text)
    kernel = "kernel[:, :, None]" if spec.ndim == 1 else "kernel"
    order = axes_of(next(kind for kind in ORDERS if f'operator("{kind}"' in text), max(spec.ndim, 2))

    def constant(match: re.Match[str]) -> str:
        if match[1] == "bias" and not spec.bias:
            return match[0]
        array = f"{kernel}.transpose{order}" if match[1] == "weight" else "bias"
        return f'tensor("{match[1]}", {array}.astype(np.{match[2]}))'

    return _CONSTANT.sub(constant, text) + _RUN.format(resolver=_RESOLVERS[adapter.variant])
