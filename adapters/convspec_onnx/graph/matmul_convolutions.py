"""Products of matrices that stand for convolutions of one cell: MatMul, Gemm, and Einsum of two letters."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper

from convspec import ConvParams, ConvSpec
from convspec_onnx.graph.convolutions import Conv, Scope, as_float

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

    Array = NDArray[Any]

OPERATORS = ("MatMul", "Gemm", "Einsum")


def products(scope: Scope, sizes: Collection[tuple[int, int]]) -> Iterator[Conv]:
    """The products with a constant of ``(in, out)`` channels among ``sizes``, each as a convolution of one cell."""
    wanted = {frozenset(size) for size in sizes}
    for index, node in enumerate(scope.proto.node):
        if node.op_type not in OPERATORS or node.domain not in ("", "ai.onnx") or len(node.input) < 2:
            continue
        for place in (1, 0):
            shape = scope.shape(node.input[place])
            if shape is None or len(shape) != 2 or frozenset(shape) not in wanted:
                continue
            weight = scope.constant(node.input[place])
            if weight is not None and (found := _read(node, place, weight, scope)) is not None:
                rows, kernel, bias = found
                spec = ConvSpec(kernel.shape[1], kernel.shape[0], 1, bias=bias is not None, ndim=1)
                params = ConvParams(as_float(kernel[:, :, None]), None if bias is None else as_float(bias))
                yield Conv(node.name or f"{node.op_type}_{index}", node, scope, (), spec, params, rows=rows)
                break


def _read(
    node: onnx.NodeProto, place: int, weight: Array, scope: Scope
) -> tuple[tuple[str, int, int], Array, Array | None] | None:
    """Where the channels stand, and the kernel ``(O, I)`` with its bias."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    data = node.input[1 - place]
    if node.op_type == "MatMul":
        return ((data, -1, -1), weight.T, None) if place else ((data, -2, -2), weight, None)
    if node.op_type == "Einsum":
        return _einsum(attributes, place, weight, data) if len(node.input) == 2 else None
    if not place:
        return None
    kernel = (weight if attributes.get("transB") else weight.T) * weight.dtype.type(attributes.get("alpha", 1.0))
    bias = scope.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if len(node.input) > 2 and node.input[2] and (bias is None or bias.size not in (1, len(kernel))):
        return None
    if bias is not None:
        bias = np.broadcast_to(bias.reshape(-1) * bias.dtype.type(attributes.get("beta", 1.0)), (len(kernel),)).copy()
    return (data, 0 if attributes.get("transA") else -1, -1), kernel, bias


def _einsum(
    attributes: dict[str, Any], place: int, weight: Array, data: str
) -> tuple[tuple[str, int, int], Array, None] | None:
    """``"bhwc,co->bhwo"``: one letter is summed over, one is new, and the others stay in their order."""
    equation = attributes["equation"].decode(errors="replace").replace(" ", "")
    found = re.fullmatch(r"([A-Za-z]+),([A-Za-z]+)->([A-Za-z]+)", equation)
    if found is None:
        return None
    letters, target = (found[1], found[2]), found[3]
    mine, matrix = letters[1 - place], letters[place]
    summed, new = set(matrix) & set(mine) - set(target), set(matrix) & set(target) - set(mine)
    if len(matrix) != 2 or len(summed) != 1 or len(new) != 1:
        return None
    (c,), (o,) = summed, new
    if mine.replace(c, "") != target.replace(o, "") or len(set(mine)) != len(mine):
        return None
    kernel = weight if matrix == o + c else weight.T
    return (data, mine.index(c), target.index(o)), kernel, None


def rows(x: Array, axis: int) -> Array:
    """``(rows, C, 1)`` of a tensor whose channels stand at ``axis``."""
    return np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis], 1)
