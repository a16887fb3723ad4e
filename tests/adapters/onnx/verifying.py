"""Audits within the test's own process, and small graphs to audit."""

from __future__ import annotations

import importlib
import pkgutil
import tempfile
from pathlib import Path

import numpy as np
import onnx
from convspec_onnx import audit
from onnx import TensorProto, helper, numpy_helper

from convspec.models.verification.report import VerifyReport, collect
from convspec.models.verification.verifier import SourceModel


def audited(path, **request):
    """The report on a model, without the process that a user's audit runs in; ``source`` is one of any framework."""
    messages = []
    source, own = request.pop("source", None), request.pop("source_inputs", None)
    with tempfile.TemporaryDirectory() as folder:
        request = {"path": str(path), "levels": ["off"], "folder": folder, "source": source is not None, **request}
        audit.audit(request, messages.append, None if source is None else SourceModel(source, Path(folder), own).answer)
    return collect(VerifyReport(str(path), request.get("against"), []), messages)


def model(nodes, tensors, shape=("N", 3, "H", "W"), output="y", **more):
    """A model with input ``x`` and one output, both float32."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [f"{output}{axis}" for axis in range(len(shape))])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in tensors.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9, **more)


def weights(*shape, seed=0, dtype=np.float32):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def conv(name, source, target, weight, bias="", **attributes):
    inputs = [source, weight, bias] if bias else [source, weight]
    return helper.make_node(attributes.pop("op", "Conv"), inputs, [target], name, **attributes)


def saved(proto, path):
    onnx.save(proto, path)
    return path


def node_cases():
    """The tests of single nodes that onnx makes when asked, as far as they hold a convolution."""
    from onnx.backend.test.case import node

    for module in pkgutil.iter_modules(node.__path__):  # its own function imports all, which takes long
        if "conv" in module.name:
            importlib.import_module(f"{node.__name__}.{module.name}")
    wanted = ("Conv", "ConvTranspose", "ConvInteger", "QLinearConv")
    return [case for case in node._NodeTestCases if any(n.op_type in wanted for n in case.model.graph.node)]
