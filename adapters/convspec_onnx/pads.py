"""The Pad nodes directly before the convolutions of ONNX models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx

from convspec.contract.tracing import Pad, described
from convspec_onnx import read
from convspec_onnx.graph import Scope, read_pad


def before(model: read.Model, input_shape: Sequence[int] | None) -> dict[str, list[Pad | str]]:  # noqa: ARG001 – contract
    """Return the Pads before each convolution by its path, the nearest first."""
    return {path: list(_pads_before(scope, node)) for path, scope, node in read.nodes(Scope(read.expand(model).graph))}


def _pads_before(scope: Scope, conv: onnx.NodeProto) -> Iterator[Pad | str]:
    name, weight = conv.input[0], scope.constant(conv.input[1])
    while (node := scope.producer(name)) is not None and node.op_type in ("Pad", "Identity"):
        if node.op_type == "Pad":
            pad = None if weight is None else read_pad(scope, node, weight.ndim)
            yield "it is computed" if pad is None else described(pad.mode, pad.pairs, pad.value)
        name = node.input[0]
