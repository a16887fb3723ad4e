"""Matrix products that are 1×1 convolutions: MatMul, Gemm, and Einsum of a tensor and a matrix."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

import numpy as np
import onnx

from convspec.spec import ConvParams, ConvSpec
from convspec_onnx.graph.convolutions import Conv
from convspec_onnx.graph.scope import Scope, as_float, attributes_of
from convspec_onnx.loading import Array, DetachedModel

Product = tuple[tuple[str, int, int], Array, Array | None]  # Conv.rows, kernel (O, I), bias

OPERATORS = ("MatMul", "Gemm", "Einsum")


def find_products(model: DetachedModel, sizes: Collection[tuple[int, int]]) -> Iterator[Conv]:
    """Yield the products with a constant of ``(in, out)`` channels among ``sizes``, as 1×1 convolutions."""
    scope, wanted = Scope(model.graph, weights=model.weights), {frozenset(size) for size in sizes}
    for index, node in enumerate(model.graph.node):
        if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx") or len(node.input) < 2:
            continue
        for place in (1, 0):
            shape = scope.shape(node.input[place])
            if shape is None or len(shape) != 2 or frozenset(shape) not in wanted:
                continue
            weight = scope.constant(node.input[place])
            if weight is not None and (product := _read(node, place, weight, scope)) is not None:
                rows, kernel, bias = product
                spec = ConvSpec(kernel.shape[1], kernel.shape[0], 1, bias=bias is not None, ndim=1)
                params = ConvParams(as_float(kernel[:, :, None]), None if bias is None else as_float(bias))
                yield Conv(node.name or f"{node.op_type}_{index}", node, scope, (), spec, params, rows=rows)
                break


def _read(node: onnx.NodeProto, place: int, weight: Array, scope: Scope) -> Product | None:
    """Read a product whose input ``place`` is the constant ``weight``."""
    attributes, data = attributes_of(node), node.input[1 - place]
    if node.op_type == "MatMul":
        return ((data, -1, -1), weight.T, None) if place else ((data, -2, -2), weight, None)
    if node.op_type == "Einsum":
        return _read_einsum(attributes["equation"], place, weight, data) if len(node.input) == 2 else None
    if not place:
        return None
    kernel, bias = (weight if attributes.get("transB") else weight.T), None
    kernel = kernel * weight.dtype.type(attributes.get("alpha", 1.0))
    if len(node.input) > 2 and node.input[2]:
        bias = scope.constant(node.input[2])
        if bias is None or bias.size not in (1, len(kernel)):
            return None
        bias = np.broadcast_to(bias.reshape(-1) * bias.dtype.type(attributes.get("beta", 1.0)), (len(kernel),)).copy()
    return (data, 0 if attributes.get("transA") else -1, -1), kernel, bias


def _read_einsum(equation: str, place: int, weight: Array, data: str) -> Product | None:
    """Read ``"bhwc,co->bhwo"``: one letter is summed over, one is new, the others keep their order."""
    match = re.fullmatch(r"([A-Za-z]+),([A-Za-z]+)->([A-Za-z]+)", equation.replace(" ", ""))
    if match is None:
        return None
    operands, target = (match[1], match[2]), match[3]
    tensor, matrix = operands[1 - place], operands[place]
    summed, new = set(matrix) & set(tensor) - set(target), set(matrix) & set(target) - set(tensor)
    if len(matrix) != 2 or len(summed) != 1 or len(new) != 1:
        return None
    (c,), (o,) = summed, new
    if tensor.replace(c, "") != target.replace(o, "") or len(set(tensor)) != len(tensor):
        return None
    return (data, tensor.index(c), target.index(o)), weight if matrix == o + c else weight.T, None


def to_rows(x: Array, axis: int) -> Array:
    """Return ``(rows, C, 1)`` of a tensor with its channels on ``axis``."""
    return np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis], 1)
