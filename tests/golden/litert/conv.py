import numpy as np
from ai_edge_litert import schema_py_generated as tfl

graph = tfl.SubGraphT(tensors=[], inputs=[0], operators=[])
layer = tfl.ModelT(version=3, operatorCodes=[], subgraphs=[graph], buffers=[tfl.BufferT()])


def tensor(name, array, signature=None):
    """Add a constant, or a tensor of computed numbers with a signature of sizes; return its number."""
    if signature is None:
        layer.buffers.append(tfl.BufferT(data=np.frombuffer(array.tobytes(), np.uint8)))
    kind = getattr(tfl.TensorType, array.dtype.name.upper())
    buffer = len(layer.buffers) - 1 if signature is None else 0
    graph.tensors.append(tfl.TensorT(array.shape, kind, buffer, name, shapeSignature=signature))
    return len(graph.tensors) - 1


def operator(name, version, inputs, rank, dtype, options, **settings):
    """Add an operator; return the number of its result."""
    code = getattr(tfl.BuiltinOperator, name)
    layer.operatorCodes.append(tfl.OperatorCodeT(min(code, 127), version=version, builtinCode=code))
    result = tensor(name, np.empty((1,) * rank, dtype), (-1,) * rank)
    kind, values = getattr(tfl.BuiltinOptions, options), getattr(tfl, options + "T")(**settings)
    graph.operators.append(tfl.OperatorT(len(graph.operators), inputs, [result], kind, values))
    return result


y = tensor("x", np.empty((1, 1, 1, 3), np.float32), (-1, -1, -1, 3))
weight = tensor("weight", np.zeros((4, 3, 5, 3), np.float32))
bias = tensor("bias", np.zeros(4, np.float32))
y = operator("CONV_2D", 1, [y, weight, bias], 4, np.float32, "Conv2DOptions",
    padding=tfl.Padding.VALID, strideH=2, strideW=1, dilationWFactor=2)
graph.outputs = [y]
